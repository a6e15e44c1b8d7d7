//! The loop that drives an endpoint: bytes in, bytes out, and everything that waits on the world in between.
//!
//! One task for a connection. A wake-up hands over all whole frames that are there, submits what follows to the bus in one turn, takes the
//! events that are there, and writes all that follows with one call. A protocol rule that creeps in here has lost its test.

use crate::access::{AccessSession, Answering};
use crate::buffers;
use crate::connection::{Connection, ConnectionPermit};
use crate::metrics::Metrics;
use crate::transport::{Progress, Transport};
use bytes::BytesMut;
use headgate_bus::handle::{Hub, Port};
use headgate_model::{Answer, BusEvent, Endpoint, Input, Instant, Metric, Outputs, Wire};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep_until};

/// Unsent bytes from which on nothing more is taken from the peer or the bus.
const HIGH_WATER: usize = 64 << 10;
/// Commands that go to the bus in one turn at most: the lock is short.
const MAX_COMMANDS: usize = 256;
/// How long a peer may take to read our last words, and then to close.
const LINGER: Duration = Duration::from_secs(2);
/// How long a link is read for what its client had sent before the session was taken over.
const LAST_WORDS: Duration = Duration::from_millis(2);
/// Outputs that wait to be lent, at most.
const SPARE: usize = 64;

/// What all links of one protocol share.
pub struct Workplace<F> {
    hub: Hub,
    metrics: Arc<Metrics>,
    /// Lent to a link while it works: an idle one holds none. Boxed, for they are large and move to and fro.
    #[allow(clippy::vec_box, reason = "a box is what moves")]
    spare: Mutex<Vec<Box<Outputs<F>>>>,
}

impl<F> Workplace<F> {
    /// For links on this bus, which add what they count to `metrics`.
    pub fn new(hub: Hub, metrics: Arc<Metrics>) -> Self {
        Self {
            hub,
            metrics,
            spare: Mutex::default(),
        }
    }

    fn lend(&self) -> Box<Outputs<F>> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, out: Box<Outputs<F>>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE {
            spare.push(out);
        }
    }
}

/// Runs one connection until it ends. [`Hub::say_goodbye`] lets the endpoint say goodbye.
///
/// No `async fn`: it would keep room twice for what it was given, for the whole life of the connection.
pub fn drive<E, W>(
    endpoint: E,
    wire: W,
    connection: Connection,
    access: Box<dyn AccessSession>,
    workplace: &Arc<Workplace<E::Out>>,
) -> Driving<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    let (transport, _info, permit) = connection.into_parts();
    let link = Link {
        endpoint,
        wire,
        transport,
        port: workplace.hub.attach(),
        access: Access::Idle(access),
        workplace: Arc::clone(workplace),
        events: VecDeque::new(),
        reading: BytesMut::new(),
        writing: BytesMut::new(),
        timer: None,
        last_words: LastWords::NotAsked,
        told_to_leave: false,
        permit,
    };
    Driving {
        link: Some(Box::new(link)),
        closing: None,
    }
}

/// One connection; ready when it has ended. Small, for it is moved into a task.
pub struct Driving<E: Endpoint, W> {
    link: Option<Box<Link<E, W>>>,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

struct Link<E: Endpoint, W> {
    endpoint: E,
    wire: W,
    transport: Transport,
    port: Port,
    access: Access,
    workplace: Arc<Workplace<E::Out>>,
    events: VecDeque<BusEvent>,
    reading: BytesMut,
    writing: BytesMut,
    timer: Option<Pin<Box<Sleep>>>,
    last_words: LastWords,
    told_to_leave: bool,
    /// Counts the connection until it ends.
    permit: ConnectionPermit,
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
    /// There is something to do without it.
    Events,
    Link(io::Result<Progress>),
    Answer(Answer),
    Deadline,
    Leave,
}

impl<E, W> Future for Driving<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(link) = &mut self.link {
            let woken = ready!(link.poll_wait(cx));
            if !link.turn(woken)
                && let Some(link) = self.link.take()
            {
                let Link {
                    transport,
                    writing,
                    permit,
                    ..
                } = *link;
                self.closing = Some(Box::pin(close(transport, writing, permit)));
            }
        }
        match &mut self.closing {
            Some(closing) => closing.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

/// The endpoint is done: its last words, then the end of the link.
async fn close(mut transport: Transport, mut last_words: BytesMut, permit: ConnectionPermit) {
    let _ = tokio::time::timeout(LINGER, transport.write(&mut last_words)).await;
    transport.close(LINGER).await;
    drop(permit);
}

impl<E, W> Link<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    /// Does all that can be done without waiting. False when the link is to be closed.
    fn turn(&mut self, woken: Woken) -> bool {
        let mut out = self.workplace.lend();
        let now = self.port.hub().clock().now();
        match woken {
            Woken::Events => {}
            Woken::Link(Ok(progress)) => {
                let written = u32::try_from(progress.written).unwrap_or(u32::MAX);
                out.counts.add_n(Metric::BytesSent, written);
                match progress.read {
                    Some(0) => self.step(Input::Closed, now, &mut out),
                    Some(n) => {
                        let n = u32::try_from(n).unwrap_or(u32::MAX);
                        out.counts.add_n(Metric::BytesReceived, n);
                    }
                    None => {}
                }
            }
            Woken::Link(Err(error)) => {
                tracing::debug!(%error, "link broke");
                self.step(Input::Closed, now, &mut out);
            }
            Woken::Answer(answer) => self.step(Input::Answer(answer), now, &mut out),
            Woken::Deadline => {
                if matches!(self.last_words, LastWords::Until(at) if at <= std::time::Instant::now()) {
                    self.last_words = LastWords::Taken;
                }
                self.step(Input::Timeout, now, &mut out);
            }
            Woken::Leave => {
                self.told_to_leave = true;
                self.step(Input::Shutdown, now, &mut out);
            }
        }
        self.work(now, &mut out);
        let goes_on = !std::mem::take(&mut out.close);
        self.workplace.metrics.add(&mut out.counts);
        self.workplace.give_back(out);
        self.port.rest(&mut self.events);
        buffers::rest(&mut self.reading);
        buffers::rest(&mut self.writing);
        goes_on
    }

    fn step(&mut self, input: Input<E::In>, now: Instant, out: &mut Outputs<E::Out>) {
        self.endpoint.handle(input, now, out);
        if out.frames.is_empty() {
            return;
        }
        let frames = u32::try_from(out.frames.len()).unwrap_or(u32::MAX);
        out.counts.add_n(Metric::PacketsSent, frames);
        buffers::lend(&mut self.writing);
        for frame in out.frames.drain(..) {
            self.wire.encode(frame, &mut self.writing);
        }
    }

    fn work(&mut self, now: Instant, out: &mut Outputs<E::Out>) {
        loop {
            let mut idle = true;
            while self.takes_frames() && !out.close && out.bus.len() < MAX_COMMANDS {
                let Some(frame) = self.wire.decode(&mut self.reading) else {
                    break;
                };
                idle = false;
                self.step(Input::Frame(frame), now, out);
                self.ask(out);
            }
            self.ask(out);
            self.port.submit(&mut out.bus);
            if self.events.is_empty() {
                self.port.take_events(&mut self.events);
            }
            while self.writing.len() < HIGH_WATER && !out.close {
                if self.takes_last_words() {
                    break;
                }
                let Some(event) = self.events.pop_front() else {
                    break;
                };
                idle = false;
                self.step(Input::Bus(event), now, out);
            }
            if idle || out.close {
                break;
            }
        }
        self.ask(out);
        self.port.submit(&mut out.bus);
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
        self.endpoint.ready() && self.writing.len() < HIGH_WATER
    }

    fn ask(&mut self, out: &mut Outputs<E::Out>) {
        let Some(question) = out.questions.pop() else {
            return;
        };
        self.access = match std::mem::replace(&mut self.access, Access::Moving) {
            Access::Idle(session) => Access::Asked(session.answer(question)),
            Access::Asked(_) | Access::Moving => unreachable!("an endpoint asks one question at a time"),
        };
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        let takes_frames = self.takes_frames();
        // While the store is behind, publishers are left unread; their silence is then ours.
        let caught_up = self.port.hub().is_caught_up();
        let reads = (takes_frames && caught_up).then_some(&mut self.reading);
        let writes = (!self.writing.is_empty()).then_some(&mut self.writing);
        if let Poll::Ready(progress) = self.transport.poll_ready(cx, writes, reads) {
            return Poll::Ready(Woken::Link(progress));
        }
        let last_words_by = match self.last_words {
            LastWords::Until(at) => Some(at),
            LastWords::NotAsked | LastWords::Taken => None,
        };
        let takes_events = self.writing.len() < HIGH_WATER && last_words_by.is_none();
        if self.port.poll_events(cx).is_ready() && takes_events {
            return Poll::Ready(Woken::Events);
        }
        if let Access::Asked(answering) = &mut self.access
            && let Poll::Ready((session, answer)) = answering.as_mut().poll(cx)
        {
            self.access = Access::Idle(session);
            return Poll::Ready(Woken::Answer(answer));
        }
        let hub = self.port.hub();
        let deadline = self.endpoint.deadline().filter(|_| caught_up || !takes_frames);
        let deadline = deadline.map(|at| hub.clock().to_system(at));
        if takes_frames && !caught_up && hub.poll_caught_up(cx).is_ready() {
            return Poll::Ready(Woken::Events);
        }
        if hub.says_goodbye() && !self.told_to_leave {
            return Poll::Ready(Woken::Leave);
        }
        let deadline = deadline.into_iter().chain(last_words_by).min();
        self.poll_deadline(cx, deadline).map(|()| Woken::Deadline)
    }

    /// A deadline mostly moves on with every packet: the timer stays as it is, and is set anew when it fires too early.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<std::time::Instant>) -> Poll<()> {
        let Some(at) = deadline.map(tokio::time::Instant::from) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if at <= tokio::time::Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}
