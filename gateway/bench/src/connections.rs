//! Connections as such: many that do nothing, and many that come and go.

use super::client::{Client, Scratch};
use super::frame::Frame;
use super::histogram::Histogram;
use super::load::run_name;
use super::network::Ticker;
use super::process::Mark;
use super::report::{Connections, Latency, Report};
use super::server::DISCONNECT;
use super::{BenchError, Plan, Until};
use mio::{Events, Interest, Poll, Token};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const TURN: Duration = Duration::from_millis(20);

/// A client that has not come in, or not gone, after this time is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nobody is sent more than a handshake.
const ROOM: usize = 32 * 1024;

/// Opens all, waits, and counts who is still there.
pub(super) fn idle(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    let run = run_name();
    let before = Mark::now(plan)?;
    let mut ticker = Ticker::new();
    let mut clients = Vec::with_capacity(plan.clients);
    for number in 0..plan.clients {
        let guest = plan.server.enter(&format!("idle-{run}-{number}"), true, number)?;
        clients.push(guest.into_client()?);
        ticker.tell(progress, || {
            format!("idle: {} of {} connected", number + 1, plan.clients)
        });
    }
    let opening = before.at.elapsed().as_secs_f64();
    let hold = match plan.until {
        Until::Elapsed(hold) => hold,
        Until::Count(_) => Duration::from_secs(1),
    };
    std::thread::sleep(hold);
    let after = Mark::now(plan)?;
    let mut scratch = Scratch::new(ROOM);
    let mut is_open =
        |client: &mut Client| client.read(&mut scratch, &plan.server.version, |_, _| {}).is_ok();
    let open = clients
        .iter_mut()
        .filter_map(|client| is_open(client).then_some(()))
        .count();
    let grown = after.broker.zip(before.broker);
    let grown = grown.map(|(after, before)| after.rss_bytes.saturating_sub(before.rss_bytes));
    Ok(Report {
        connections: Some(Connections {
            made: plan.clients as u64,
            per_second: plan.clients as f64 / opening,
            failed: (plan.clients - open) as u64,
            rss_bytes_each: grown.map(|bytes| bytes as f64 / plan.clients as f64),
        }),
        ..Report::new(plan, after.since(&before), plan.clients as u64, (&before, &after))
    })
}

/// One client on its way in and out.
struct Visit {
    client: Client,
    since: Instant,
    leaving: bool,
}

enum Step {
    Waits,
    Gone,
    Failed,
}

/// CONNECT, CONNACK, DISCONNECT, closed by the broker; `window` clients at a time.
pub(super) fn connect(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    let run = run_name();
    let before = Mark::now(plan)?;
    let start = before.at;
    let (end, total) = match plan.until {
        Until::Elapsed(time) => (start + time, u64::MAX),
        Until::Count(count) => (start + Duration::from_secs(600), count),
    };
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut visits: Vec<Option<Visit>> = (0..plan.window).map(|_| None).collect();
    let (mut begun, mut made, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut latency = Histogram::new();
    let mut scratch = Scratch::new(ROOM);
    let mut ticker = Ticker::new();
    loop {
        let now = Instant::now();
        for (slot, place) in visits.iter_mut().enumerate() {
            if let Some(visit) = place
                && now.duration_since(visit.since) > PATIENCE
            {
                *place = None;
                failed += 1;
            }
            if place.is_none() && begun < total && now < end {
                let visit = Visit::begin(plan, &run, begun, now)?;
                let visit = place.insert(visit);
                poll.registry().register(
                    &mut visit.client.socket,
                    Token(slot),
                    Interest::READABLE | Interest::WRITABLE,
                )?;
                begun += 1;
            }
        }
        if visits.iter().all(Option::is_none) {
            break;
        }
        match poll.poll(&mut events, Some(TURN)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let place = &mut visits[event.token().0];
            let Some(visit) = place else { continue };
            match visit.step(plan, &mut scratch, &mut latency) {
                Step::Waits => {}
                Step::Gone => {
                    made += 1;
                    *place = None;
                }
                Step::Failed => {
                    failed += 1;
                    *place = None;
                }
            }
        }
        ticker.tell(progress, || format!("connect: {made} came and went"));
    }
    let after = Mark::now(plan)?;
    let seconds = after.since(&before);
    Ok(Report {
        connections: Some(Connections {
            made,
            per_second: made as f64 / seconds,
            failed,
            rss_bytes_each: None,
        }),
        latency_us: Latency::of(&latency),
        ..Report::new(plan, seconds, made, (&before, &after))
    })
}

impl Visit {
    fn begin(plan: &Plan, run: &str, number: u64, now: Instant) -> Result<Self, BenchError> {
        let mut client = plan.server.begin((number % 1_000) as usize)?;
        client.output = plan.server.connect_packet(&format!("visit-{run}-{number}"), true);
        Ok(Self {
            client,
            since: now,
            leaving: false,
        })
    }

    fn step(&mut self, plan: &Plan, scratch: &mut Scratch, latency: &mut Histogram) -> Step {
        let Self {
            client,
            since,
            leaving,
        } = self;
        let mut refused = false;
        let mut turn = || {
            client.flush()?;
            client.read(scratch, &plan.server.version, |frame, out| match frame {
                Frame::ConnAck(true, _) => {
                    latency.record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
                    *leaving = true;
                    out.extend_from_slice(&DISCONNECT);
                }
                _ => refused |= !*leaving,
            })?;
            client.flush()
        };
        let result: Result<(), BenchError> = turn();
        match result {
            Ok(()) if !refused => Step::Waits,
            // Reset instead of closed: gone all the same.
            Err(_) if self.leaving => Step::Gone,
            _ => Step::Failed,
        }
    }
}
