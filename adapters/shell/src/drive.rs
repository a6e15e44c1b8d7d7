//! The loop that drives an endpoint: bytes in, bytes out, and everything that waits on the world in between.
//!
//! One task for a connection. A wake-up hands over all whole frames that are there, submits what follows to the bus in one turn, takes the
//! events that are there, and writes all that follows with one call. A protocol rule that creeps in here has lost its test.

use crate::access::{AccessSession, Answering};
use crate::connection::{Connection, ConnectionPermit};
use crate::metrics::Metrics;
use crate::transport::Transport;
use bytes::BytesMut;
use headgate_bus::handle::{Hub, Port};
use headgate_model::{Answer, BusEvent, Endpoint, Input, Instant, Metric, Outputs, Wire};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Unsent bytes from which on nothing more is taken from the peer or the bus.
const HIGH_WATER: usize = 64 << 10;
/// Commands that go to the bus in one turn at most: the lock is short.
const MAX_COMMANDS: usize = 256;
/// How long a peer may take to read our last words, and then to close.
const LINGER: Duration = Duration::from_secs(2);
/// How long a link is read for what its client had sent before the session was taken over.
const LAST_WORDS: Duration = Duration::from_millis(2);
/// Read buffers larger than this are not kept.
const KEEP_BUFFER: usize = 4 << 10;

/// Runs one connection until it ends. Cancelling `shutdown` lets the endpoint say goodbye.
///
/// Not an `async fn`, nor are those it calls with `self`: each of them would keep a copy of what it was given for the whole life of the connection.
pub fn drive<E, W>(
    endpoint: E,
    wire: W,
    connection: Connection,
    hub: &Hub,
    access: Box<dyn AccessSession>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + use<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    let (transport, _info, permit) = connection.into_parts();
    let link = Link {
        endpoint,
        wire,
        transport,
        port: hub.attach(),
        access: Access::Idle(access),
        metrics,
        out: Outputs::default(),
        events: VecDeque::new(),
        reading: BytesMut::new(),
        writing: BytesMut::new(),
        last_words: LastWords::NotAsked,
        _permit: permit,
    };
    link.run(shutdown)
}

struct Link<E: Endpoint, W> {
    endpoint: E,
    wire: W,
    transport: Transport,
    port: Port,
    access: Access,
    metrics: Arc<Metrics>,
    out: Outputs<E::Out>,
    events: VecDeque<BusEvent>,
    reading: BytesMut,
    writing: BytesMut,
    last_words: LastWords,
    /// Counts the connection until it ends.
    _permit: ConnectionPermit,
}

/// The conversation with the access service: ours to go on with, or away with a question.
enum Access {
    Idle(Box<dyn AccessSession>),
    Asked(Answering),
    /// Never between two steps.
    Moving,
}

/// See [`Link::takes_last_words`].
enum LastWords {
    NotAsked,
    Until(std::time::Instant),
    Taken,
}

/// What a wait ended with.
enum Woken {
    Link(io::Result<crate::transport::Progress>),
    Events,
    Answer(Answer),
    Deadline,
    CaughtUp,
    Shutdown,
}

impl<E, W> Link<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    async fn run(mut self, shutdown: CancellationToken) {
        let mut told = false;
        loop {
            self.work();
            if self.out.close {
                break;
            }
            match self.wait(&shutdown, told).await {
                Woken::Link(Ok(progress)) => {
                    let counts = &mut self.out.counts;
                    counts.add_n(
                        Metric::BytesSent,
                        u32::try_from(progress.written).unwrap_or(u32::MAX),
                    );
                    match progress.read {
                        Some(0) => self.step(Input::Closed),
                        Some(n) => counts.add_n(Metric::BytesReceived, u32::try_from(n).unwrap_or(u32::MAX)),
                        None => {}
                    }
                }
                Woken::Link(Err(error)) => {
                    tracing::debug!(%error, "link broke");
                    self.step(Input::Closed);
                }
                Woken::Answer(answer) => self.step(Input::Answer(answer)),
                Woken::Deadline => {
                    if matches!(self.last_words, LastWords::Until(at) if at <= std::time::Instant::now()) {
                        self.last_words = LastWords::Taken;
                    }
                    self.step(Input::Timeout);
                }
                Woken::Shutdown => {
                    told = true;
                    self.step(Input::Shutdown);
                }
                Woken::Events | Woken::CaughtUp => {}
            }
        }
        self.port.submit(&mut self.out.bus);
        self.metrics.add(&mut self.out.counts);
        // The endpoint is done: its last words, then the end of the link.
        let Self {
            mut transport,
            port,
            mut writing,
            _permit,
            ..
        } = self;
        drop(port);
        let _ = tokio::time::timeout(LINGER, transport.write(&mut writing)).await;
        transport.close(LINGER).await;
    }

    fn now(&self) -> Instant {
        self.port.hub().clock().now()
    }

    fn step(&mut self, input: Input<E::In>) {
        let now = self.now();
        self.endpoint.handle(input, now, &mut self.out);
        self.encode();
    }

    fn encode(&mut self) {
        let frames = u32::try_from(self.out.frames.len()).unwrap_or(u32::MAX);
        self.out.counts.add_n(Metric::PacketsSent, frames);
        for frame in self.out.frames.drain(..) {
            self.wire.encode(frame, &mut self.writing);
        }
    }

    /// Does all that can be done without waiting.
    fn work(&mut self) {
        let now = self.now();
        loop {
            let mut idle = true;
            while self.takes_frames() && self.out.bus.len() < MAX_COMMANDS {
                let Some(frame) = self.wire.decode(&mut self.reading) else {
                    break;
                };
                idle = false;
                self.endpoint.handle(Input::Frame(frame), now, &mut self.out);
                self.encode();
                self.ask();
            }
            self.ask();
            self.port.submit(&mut self.out.bus);
            if self.events.is_empty() {
                self.port.take_events(&mut self.events);
            }
            while self.writing.len() < HIGH_WATER && !self.out.close {
                if self.takes_last_words() {
                    break;
                }
                let Some(event) = self.events.pop_front() else {
                    break;
                };
                idle = false;
                self.endpoint.handle(Input::Bus(event), now, &mut self.out);
                self.encode();
            }
            if idle || self.out.close {
                break;
            }
        }
        self.ask();
        self.port.submit(&mut self.out.bus);
        self.metrics.add(&mut self.out.counts);
        if self.reading.is_empty() {
            self.reading = BytesMut::new(); // an idle link holds no buffer
        }
        if self.writing.is_empty() && self.writing.capacity() > KEEP_BUFFER {
            self.writing = BytesMut::new();
        }
    }

    /// What the client sent before another connection took its session over belongs to the session, its goodbye above all. Before the endpoint hears
    /// of the take-over, the link is read until nothing more is there: a timer that fires shows that the system was asked since.
    fn takes_last_words(&mut self) -> bool {
        if self.events.front() != Some(&BusEvent::TakenOver) {
            return false;
        }
        if matches!(self.last_words, LastWords::NotAsked) {
            self.last_words = LastWords::Until(std::time::Instant::now() + LAST_WORDS);
        }
        !matches!(self.last_words, LastWords::Taken)
    }

    fn takes_frames(&self) -> bool {
        self.endpoint.ready() && self.writing.len() < HIGH_WATER && !self.out.close
    }

    fn ask(&mut self) {
        let Some(question) = self.out.questions.pop() else {
            return;
        };
        self.access = match std::mem::replace(&mut self.access, Access::Moving) {
            Access::Idle(session) => Access::Asked(session.answer(question)),
            Access::Asked(_) | Access::Moving => unreachable!("an endpoint asks one question at a time"),
        };
    }

    async fn wait(&mut self, shutdown: &CancellationToken, told: bool) -> Woken {
        let takes_frames = self.takes_frames();
        let last_words_by = match self.last_words {
            LastWords::Until(at) => Some(at),
            LastWords::NotAsked | LastWords::Taken => None,
        };
        let takes_events = self.writing.len() < HIGH_WATER && last_words_by.is_none();
        let hub = self.port.hub();
        // While the store is behind, publishers are left unread; their silence is then ours.
        let caught_up = hub.is_caught_up();
        let deadline = self.endpoint.deadline().filter(|_| caught_up || !takes_frames);
        let deadline = deadline.map(|at| hub.clock().to_system(at));
        let deadline = deadline.into_iter().chain(last_words_by).min();
        let Self {
            transport,
            port,
            access,
            events,
            reading,
            writing,
            ..
        } = self;
        let hub = port.hub();
        let reads = (takes_frames && caught_up).then_some(reading);
        let writes = (!writing.is_empty()).then_some(writing);
        tokio::select! {
            biased;
            progress = transport.ready(writes, reads) => Woken::Link(progress),
            () = poll_fn(|cx| port.poll_events(cx, events)), if takes_events => Woken::Events,
            answer = answered(access) => Woken::Answer(answer),
            () = sleep_until(deadline) => Woken::Deadline,
            () = poll_fn(|cx| hub.poll_caught_up(cx)), if takes_frames && !caught_up => Woken::CaughtUp,
            () = shutdown.cancelled(), if !told => Woken::Shutdown,
        }
    }
}

async fn answered(access: &mut Access) -> Answer {
    let Access::Asked(answering) = access else {
        return std::future::pending().await;
    };
    let (session, answer) = answering.await;
    *access = Access::Idle(session);
    answer
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
