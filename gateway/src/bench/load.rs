//! The cases that move messages: handshakes, then one loop over one epoll.
//!
//! Each turn reads what came to all links, then tops up every publisher that has room, with one write each.

use super::flow::{Flow, Tally, filter, parties};
use super::histogram::Timetable;
use super::link::Link;
use super::process::Usage;
use super::report::{Latency, Messages, Report};
use super::{BenchError, Case, Plan, Until};
use headgate_mqtt_codec::Qos;
use mio::{Events, Interest, Poll, Token};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Without a delivery for so long, nothing comes any more.
const STALL: Duration = Duration::from_secs(5);

/// How long what is outstanding may take at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// The loop looks at the clock at least this often.
const TURN: Duration = Duration::from_millis(20);

/// epoll wakes by the millisecond; a timetable that is closer is polled for.
const COARSE: Duration = Duration::from_millis(2);

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);

/// Carries out the plan.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    let mut load = Load::connect(plan)?;
    let total = match plan.until {
        Until::Elapsed(_) => u64::MAX,
        Until::Count(count) => count,
    };
    let start = load.nanos();
    load.flow
        .start(plan.rate.map(|rate| Timetable::new(start, rate)), total);
    let mut stalled = false;
    if let Until::Elapsed(_) = plan.until {
        let end = Instant::now() + plan.warm_up;
        stalled |= load.turn_until(|load| load.at >= end, progress)?;
        load.flow.latency.clear();
    }
    let before = load.mark(plan)?;
    stalled |= match plan.until {
        Until::Elapsed(time) => {
            let end = before.at + time;
            load.turn_until(|load| load.at >= end, progress)?
        }
        Until::Count(_) => load.turn_until(
            |load| load.flow.all_sent() && load.flow.outstanding() == 0,
            progress,
        )?,
    };
    let after = load.mark(plan)?;
    load.flow.stop();
    let end = Instant::now() + DRAIN;
    let done = |load: &Load| load.flow.all_sent() && load.flow.outstanding() == 0;
    load.turn_until(|load| done(load) || load.at >= end, progress)?;
    let now = load.nanos();
    load.flow.give_up(now);
    Ok(load.report(plan, &before, &after, stalled))
}

/// What there was at a moment.
struct Mark {
    at: Instant,
    delivered: u64,
    broker: Option<Usage>,
    own: Usage,
}

struct Load {
    flow: Flow,
    links: Vec<Link>,
    publishers: usize,
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    epoch: Instant,
    at: Instant,
    told: (Instant, u64),
    moved: (Instant, u64),
    plan: Plan,
}

impl Load {
    fn connect(plan: &Plan) -> Result<Self, BenchError> {
        let run = format!("{:x}-{:x}", std::process::id(), nonce());
        let (publishers, receivers) = parties(plan);
        let poll = Poll::new()?;
        let mut links = Vec::with_capacity(publishers + receivers);
        let mut window = plan.window;
        for number in 0..publishers + receivers {
            let mut guest = plan.server.enter(&format!("bench-{run}-{number}"), 0)?;
            if let Some(receiver) = number.checked_sub(publishers) {
                guest.subscribe(filter(plan.case, &run, receiver), plan.qos)?;
            } else {
                window = window.min(guest.receive_maximum.into());
            }
            let mut link = Link::new(mio::net::TcpStream::from_std(guest.into_stream()?));
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut link.stream, Token(number), interest)?;
            links.push(link);
        }
        let now = Instant::now();
        Ok(Self {
            flow: Flow::new(plan, &run, window),
            publishers,
            events: Events::with_capacity(links.len().clamp(64, 4_096)),
            links,
            poll,
            scratch: vec![0; (256 * 1_024).max(2 * plan.payload)],
            epoch: now,
            at: now,
            told: (now, 0),
            moved: (now, 0),
            plan: plan.clone(),
        })
    }

    fn nanos(&mut self) -> u64 {
        self.at = Instant::now();
        u64::try_from(self.at.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Until it is `done`, or stalls: then it answers true.
    fn turn_until(
        &mut self,
        done: impl Fn(&Self) -> bool,
        progress: &mut dyn FnMut(String),
    ) -> Result<bool, BenchError> {
        self.moved = (Instant::now(), self.flow.tally.delivered);
        loop {
            self.turn()?;
            if done(self) {
                return Ok(false);
            }
            let delivered = self.flow.tally.delivered;
            if delivered != self.moved.1 || self.flow.outstanding() == 0 {
                self.moved = (self.at, delivered);
            } else if self.at.duration_since(self.moved.0) > STALL {
                return Ok(true);
            }
            let since = self.at.duration_since(self.told.0);
            if since >= TELL {
                let rate = (delivered - self.told.1) as f64 / since.as_secs_f64();
                let case = self.plan.case.name();
                progress(format!("{case}: {delivered} delivered, {rate:.0} a second"));
                self.told = (self.at, delivered);
            }
        }
    }

    fn turn(&mut self) -> Result<(), BenchError> {
        let patience = self.patience();
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        if self.events.is_empty() && patience.is_zero() {
            std::thread::yield_now();
        }
        for event in &self.events {
            let number = event.token().0;
            let link = &mut self.links[number];
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let flow = &mut self.flow;
                let version = self.plan.server.version;
                match number.checked_sub(self.publishers) {
                    Some(receiver) => {
                        let now = self.epoch.elapsed().as_nanos() as u64;
                        link.read(&mut self.scratch, version, |frame, out| {
                            flow.received(receiver, frame, now, out);
                        })?;
                    }
                    None => link.read(&mut self.scratch, version, |frame, out| {
                        flow.acknowledged(number, frame, out);
                    })?,
                }
            }
            link.flush()?;
        }
        let now = self.nanos();
        self.flow.release(now);
        while let Some(publisher) = self.flow.next_dirty() {
            let link = &mut self.links[publisher];
            self.flow.fill(publisher, now, &mut link.output);
            link.flush()?;
        }
        Ok(())
    }

    fn patience(&mut self) -> Duration {
        let Some(due) = self.flow.next_due() else {
            return TURN;
        };
        let wait = Duration::from_nanos(due.saturating_sub(self.nanos()));
        if wait < COARSE {
            Duration::ZERO
        } else {
            TURN.min(wait - COARSE)
        }
    }

    fn mark(&self, plan: &Plan) -> Result<Mark, BenchError> {
        Ok(Mark {
            broker: plan.pid.map(|pid| Usage::of(Some(pid))).transpose()?,
            own: Usage::of(None)?,
            delivered: self.flow.tally.delivered,
            at: Instant::now(),
        })
    }

    fn report(&self, plan: &Plan, before: &Mark, after: &Mark, stalled: bool) -> Report {
        let delivered = after.delivered - before.delivered;
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let Tally {
            duplicates,
            reordered,
            foreign,
            refused,
            ..
        } = self.flow.tally;
        Report {
            messages: Some(Messages {
                delivered,
                per_second: delivered as f64 / seconds,
                lost: self.flow.lost(),
                duplicates,
                reordered,
                foreign,
                refused,
                stalled,
            }),
            latency_us: Latency::of(&self.flow.latency),
            ..Report::new(
                plan,
                seconds,
                delivered,
                (before.broker, after.broker),
                after.own.cpu - before.own.cpu,
            )
        }
    }
}

/// So that two runs do not hear each other.
pub fn nonce() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the process id still tells them apart.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

/// Windows and backlogs that fit a case, for whoever gives none.
pub fn usual(case: Case, qos: Qos) -> (usize, u64) {
    match (case, qos) {
        (Case::FanIn, _) => (10, 10),
        (Case::Connect, _) => (8, 0),
        (_, Qos::AtMostOnce) => (20, 200),
        _ => (20, 20),
    }
}
