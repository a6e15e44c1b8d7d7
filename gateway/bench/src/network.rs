//! All clients on one epoll. Each turn reads what came to all of them, then tops up whoever has room, with one
//! write each.

use super::client::{Client, Scratch};
use super::wire::Wire;
use super::{BenchError, Plan};
use headgate_mqtt_codec::Version;
use mio::{Events, Interest, Poll, Token};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Without anything that was waited for in so long, nothing comes any more.
const STALL: Duration = Duration::from_secs(5);

/// The loop looks at the clock at least this often.
const TURN: Duration = Duration::from_millis(20);

/// epoll wakes by the millisecond; a timetable that is closer is polled for.
const COARSE: Duration = Duration::from_millis(2);

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);

/// Who sends how much when, and what becomes of it. No socket, no clock. Clients are known by their numbers.
pub(super) trait Traffic {
    /// The protocol.
    type Wire: Wire;

    /// A frame that came.
    fn frame(&mut self, client: usize, frame: <Self::Wire as Wire>::Frame, now: u64, out: &mut Vec<u8>);

    /// Marks whoever has a message due at `now`.
    fn release(&mut self, _now: u64) {}

    /// When the next message is due; `None` if none waits for its time.
    fn next_due(&self) -> Option<u64> {
        None
    }

    /// A client that may have room; [`Traffic::fill`] is next.
    fn next_dirty(&mut self) -> Option<usize>;

    /// Appends all that this client may and should send now.
    fn fill(&mut self, client: usize, now: u64, out: &mut Vec<u8>);

    /// What was sent and is still waited for.
    fn outstanding(&self) -> u64;

    /// Grows with everything that was waited for and came.
    fn moved(&self) -> u64;
}

/// The clients of a run.
pub(super) struct Network<W = Version> {
    clients: Vec<Client>,
    wire: W,
    poll: Poll,
    events: Events,
    scratch: Scratch,
    epoch: Instant,
    /// When the last turn ended.
    pub at: Instant,
    told: (Instant, u64),
}

impl Network {
    /// Of MQTT, without clients.
    pub(super) fn new(plan: &Plan) -> Result<Self, BenchError> {
        Self::of(plan.server.version, plan)
    }
}

impl<W: Wire> Network<W> {
    /// Of this protocol, without clients.
    pub(super) fn of(wire: W, plan: &Plan) -> Result<Self, BenchError> {
        let now = Instant::now();
        Ok(Self {
            clients: Vec::new(),
            wire,
            poll: Poll::new()?,
            events: Events::with_capacity(4_096),
            scratch: Scratch::new((256 * 1_024).max(2 * plan.payload)),
            epoch: now,
            at: now,
            told: (now, 0),
        })
    }

    /// The next number is this client's.
    pub(super) fn add(&mut self, mut client: Client) -> Result<(), BenchError> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(self.clients.len());
        self.poll
            .registry()
            .register(&mut client.socket, token, interest)?;
        self.clients.push(client);
        Ok(())
    }

    /// Nanoseconds since the beginning.
    pub(super) fn nanos(&mut self) -> u64 {
        self.at = Instant::now();
        u64::try_from(self.at.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Until it is `done`, or stalls: then it answers true.
    pub(super) fn turn_until<T: Traffic<Wire = W>>(
        &mut self,
        traffic: &mut T,
        done: impl Fn(&T, Instant) -> bool,
        what: &str,
        progress: &mut dyn FnMut(String),
    ) -> Result<bool, BenchError> {
        let mut moved = (Instant::now(), traffic.moved());
        loop {
            self.turn(traffic)?;
            if done(traffic, self.at) {
                return Ok(false);
            }
            let count = traffic.moved();
            if count != moved.1 || traffic.outstanding() == 0 {
                moved = (self.at, count);
            } else if self.at.duration_since(moved.0) > STALL {
                return Ok(true);
            }
            let since = self.at.duration_since(self.told.0);
            if since >= TELL {
                let rate = count.saturating_sub(self.told.1) as f64 / since.as_secs_f64();
                progress(format!("{what}: {count}, {rate:.0} a second"));
                self.told = (self.at, count);
            }
        }
    }

    /// For so long, to see what comes although nothing should.
    pub(super) fn linger(
        &mut self,
        traffic: &mut impl Traffic<Wire = W>,
        time: Duration,
    ) -> Result<(), BenchError> {
        let end = Instant::now() + time;
        while self.at < end {
            self.turn(traffic)?;
        }
        Ok(())
    }

    fn turn(&mut self, traffic: &mut impl Traffic<Wire = W>) -> Result<(), BenchError> {
        let patience = self.patience(traffic);
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        if self.events.is_empty() && patience.is_zero() {
            std::thread::yield_now();
        }
        for event in &self.events {
            let number = event.token().0;
            let client = &mut self.clients[number];
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let now = self.epoch.elapsed().as_nanos() as u64;
                let mut take = |frame, out: &mut Vec<u8>| traffic.frame(number, frame, now, out);
                client.read(&mut self.scratch, &self.wire, &mut take)?;
                if event.is_read_closed() {
                    // Nothing wakes us for the end, which may be behind the last bytes.
                    client.read(&mut self.scratch, &self.wire, &mut take)?;
                }
            }
            client.flush()?;
        }
        let now = self.nanos();
        traffic.release(now);
        while let Some(number) = traffic.next_dirty() {
            let client = &mut self.clients[number];
            traffic.fill(number, now, &mut client.output);
            client.flush()?;
        }
        Ok(())
    }

    fn patience(&mut self, traffic: &impl Traffic) -> Duration {
        let Some(due) = traffic.next_due() else {
            return TURN;
        };
        let wait = Duration::from_nanos(due.saturating_sub(self.nanos()));
        if wait < COARSE {
            Duration::ZERO
        } else {
            TURN.min(wait - COARSE)
        }
    }
}

/// Tells how far something is that takes long, now and then.
pub(super) struct Ticker(Instant);

impl Ticker {
    /// The first time is a while from now.
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Tells it, if it is time.
    pub(super) fn tell(&mut self, progress: &mut dyn FnMut(String), line: impl FnOnce() -> String) {
        if self.0.elapsed() >= TELL {
            self.0 = Instant::now();
            progress(line());
        }
    }
}
