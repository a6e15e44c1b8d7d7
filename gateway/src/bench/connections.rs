//! Connections as such: many that do nothing, and many that come and go.

use super::frame::fixed_header;
use super::histogram::Histogram;
use super::load::nonce;
use super::process::Usage;
use super::report::{Connections, Latency, Report};
use super::{BenchError, Plan, Until};
use headgate_mqtt_codec::ReasonCode;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

const TURN: Duration = Duration::from_millis(20);
const TELL: Duration = Duration::from_secs(5);

/// A client that has not come in, or not gone, after this time is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens all, waits, and counts who is still there.
pub fn idle(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    let run = format!("{:x}-{:x}", std::process::id(), nonce());
    let usage = || plan.pid.map(|pid| Usage::of(Some(pid))).transpose();
    let (before, own, start) = (usage()?, Usage::of(None)?, Instant::now());
    let mut told = start;
    let mut streams = Vec::with_capacity(plan.clients);
    for number in 0..plan.clients {
        let guest = plan.server.enter(&format!("idle-{run}-{number}"), number)?;
        streams.push(guest.into_stream()?);
        if told.elapsed() >= TELL {
            told = Instant::now();
            progress(format!("idle: {} of {} connected", number + 1, plan.clients));
        }
    }
    let opening = start.elapsed().as_secs_f64();
    let hold = match plan.until {
        Until::Elapsed(hold) => hold,
        Until::Count(_) => Duration::from_secs(1),
    };
    std::thread::sleep(hold);
    let after = usage()?;
    let open = streams
        .iter_mut()
        .filter_map(|stream| stream.read(&mut [0; 16]).err());
    let open = open.filter(|error| error.kind() == ErrorKind::WouldBlock).count();
    let rss = after
        .zip(before)
        .map(|(after, before)| after.rss_bytes.saturating_sub(before.rss_bytes));
    Ok(Report {
        connections: Some(Connections {
            made: plan.clients as u64,
            per_second: plan.clients as f64 / opening,
            failed: (plan.clients - open) as u64,
            rss_bytes_each: rss.map(|bytes| bytes as f64 / plan.clients as f64),
        }),
        ..Report::new(
            plan,
            start.elapsed().as_secs_f64(),
            plan.clients as u64,
            (before, after),
            Usage::of(None)?.cpu - own.cpu,
        )
    })
}

/// One client on its way in and out.
struct Visit {
    number: u64,
    stream: TcpStream,
    since: Instant,
    input: Vec<u8>,
    asked: bool,
    leaving: bool,
}

enum Step {
    Waits,
    Gone,
    Failed,
}

/// CONNECT, CONNACK, DISCONNECT, closed by the broker; `window` clients at a time.
pub fn connect(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    let run = format!("{:x}-{:x}", std::process::id(), nonce());
    let usage = || plan.pid.map(|pid| Usage::of(Some(pid))).transpose();
    let (before, own, start) = (usage()?, Usage::of(None)?, Instant::now());
    let (end, total) = match plan.until {
        Until::Elapsed(time) => (start + time, u64::MAX),
        Until::Count(count) => (start + Duration::from_secs(600), count),
    };
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut visits: Vec<Option<Visit>> = (0..plan.window).map(|_| None).collect();
    let (mut begun, mut made, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut latency = Histogram::new();
    let mut told = start;
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
                let visit = Visit::begin(plan, begun, now)?;
                let visit = place.insert(visit);
                poll.registry().register(
                    &mut visit.stream,
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
            match visit.step(plan, &run, &mut latency)? {
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
        if told.elapsed() >= TELL {
            told = Instant::now();
            progress(format!("connect: {made} came and went"));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Report {
        connections: Some(Connections {
            made,
            per_second: made as f64 / seconds,
            failed,
            rss_bytes_each: None,
        }),
        latency_us: Latency::of(&latency),
        ..Report::new(
            plan,
            seconds,
            made,
            (before, usage()?),
            Usage::of(None)?.cpu - own.cpu,
        )
    })
}

impl Visit {
    fn begin(plan: &Plan, number: u64, now: Instant) -> Result<Self, BenchError> {
        let socket = plan.server.socket((number % 1_000) as usize)?;
        socket.set_nonblocking(true)?;
        // Whether it succeeds is told when the socket is writable.
        match socket.connect(&plan.server.address.into()) {
            Err(error)
                if error.raw_os_error() != Some(IN_PROGRESS) && error.kind() != ErrorKind::WouldBlock =>
            {
                return Err(error.into());
            }
            _ => {}
        }
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            number,
            since: now,
            input: Vec::new(),
            asked: false,
            leaving: false,
        })
    }

    fn step(&mut self, plan: &Plan, run: &str, latency: &mut Histogram) -> Result<Step, BenchError> {
        if !self.asked {
            match self.stream.peer_addr() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    return Ok(self.stream.take_error()?.map_or(Step::Waits, |_| Step::Failed));
                }
                Err(_) => return Ok(Step::Failed),
            }
            let packet = plan
                .server
                .connect_packet(&format!("visit-{run}-{}", self.number));
            // A new socket has room for so little.
            match self.stream.write(&packet) {
                Ok(written) if written == packet.len() => self.asked = true,
                _ => return Ok(Step::Failed),
            }
        }
        loop {
            let mut bytes = [0; 512];
            match self.stream.read(&mut bytes) {
                Ok(0) if self.leaving => return Ok(Step::Gone),
                Ok(0) => return Ok(Step::Failed),
                Ok(_) if self.leaving => {}
                Ok(read) => self.input.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Waits),
                // Reset instead of closed: gone all the same.
                Err(_) if self.leaving => return Ok(Step::Gone),
                Err(_) => return Ok(Step::Failed),
            }
            if let Some((header, remaining)) = fixed_header(&self.input)?
                && !self.leaving
                && self.input.len() >= header + remaining
            {
                let code = self.input.get(header + 1).copied();
                if self.input[0] != 0x20 || code != Some(ReasonCode::Success as u8) {
                    return Ok(Step::Failed);
                }
                latency.record(u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX));
                self.leaving = true;
                if self.stream.write(&[0xe0, 0]).is_err() {
                    return Ok(Step::Failed);
                }
            }
        }
    }
}

/// EINPROGRESS
const IN_PROGRESS: i32 = 115;
