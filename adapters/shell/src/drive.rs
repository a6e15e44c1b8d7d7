//! The loop that drives an endpoint: bytes in, bytes out, and everything that waits on the world in between.
//!
//! One task for a connection. A wake-up hands over all whole frames that are there, submits what follows to the bus in one turn, takes the
//! events that are there, and writes all that follows with one call. A protocol rule that creeps in here has lost its test.

use crate::buffers;
use crate::connection::{Connection, ConnectionPermit};
use crate::denials;
use crate::metrics::{Metrics, OwnMetrics};
use crate::stages::Stages;
use crate::transport::{Progress, Transport};
use bytes::BytesMut;
use headgate_access::{AccessSession, Answering};
use headgate_bus::handle::{Call, Hub, Port};
use headgate_model::memory::Want;
use headgate_model::{Answer, BusEvent, Counts, Endpoint, Input, Instant, Metric, Outputs, Wire};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Unsent bytes from which on nothing more is taken from the peer or the bus.
const HIGH_WATER: usize = 64 << 10;
/// Commands that go to the bus in one turn at most: the lock is short.
const MAX_COMMANDS: usize = 256;
/// How long a peer may take to read our last words, and then to close.
const LINGER: Duration = Duration::from_secs(2);
/// How long a link is read for what its client had sent before the session was taken over.
const LAST_WORDS: Duration = Duration::from_millis(2);
/// Later than any deadline.
const NO_ALARM: Instant = Instant(u64::MAX);
/// Bytes of buffers that no link has to give up.
const SMALL_BUFFERS: usize = 4 * buffers::ROOM;
/// Scratch buffers that wait to be lent, at most.
const SPARE: usize = 64;

/// What all links of one protocol share.
pub struct Connections<F> {
    hub: Hub,
    metrics: Arc<Metrics>,
    own: Arc<OwnMetrics>,
    /// Links that are open: who stops the gateway waits for them.
    links: TaskTracker,
    /// Lent to a link while it works: an idle one holds none. Boxed, for they are large and move to and fro.
    spare: Mutex<Vec<Box<Scratch<F>>>>,
}

/// What a link needs only while there is something to do.
struct Scratch<F> {
    out: Outputs<F>,
    events: VecDeque<BusEvent>,
    reading: BytesMut,
    writing: BytesMut,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            out: Outputs::default(),
            events: VecDeque::new(),
            reading: BytesMut::new(),
            writing: BytesMut::new(),
        }
    }
}

impl<F> Scratch<F> {
    fn is_clear(&self) -> bool {
        self.events.is_empty()
            && self.reading.is_empty()
            && self.writing.is_empty()
            && self.out.bus.is_empty()
    }
}

impl<F> Connections<F> {
    /// For links on this bus, which add what they count to `metrics`, their protocol's own under the names of `counters`, and are counted in `links`.
    pub fn new(
        hub: Hub,
        metrics: Arc<Metrics>,
        counters: &'static [&'static str],
        links: TaskTracker,
    ) -> Self {
        Self {
            hub,
            own: metrics.register(counters),
            metrics,
            links,
            spare: Mutex::default(),
        }
    }

    /// The bus.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Counts something that happened beside the links.
    pub fn count(&self, metric: Metric) {
        let mut counts = Counts::default();
        counts.add(metric);
        self.add(&mut counts);
    }

    fn add(&self, counts: &mut Counts) {
        self.metrics.add(counts, &self.own);
    }

    fn lend(&self) -> Box<Scratch<F>> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, scratch: Box<Scratch<F>>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE {
            spare.push(scratch);
        }
    }
}

/// Runs one connection until it ends. [`Hub::say_goodbye`] lets the endpoint say goodbye.
pub fn drive<E, W>(
    endpoint: E,
    wire: W,
    connection: Connection,
    access: Box<dyn AccessSession>,
    connections: &Arc<Connections<E::Out>>,
) -> Stages
where
    E: Endpoint + Send + 'static,
    E::Out: Send + 'static,
    W: Wire<In = E::In, Out = E::Out> + Send + 'static,
{
    let (transport, _info, permit) = connection.into_parts();
    Stages::new(Open(Some(Conversation {
        endpoint,
        wire,
        transport,
        port: connections.hub.attach(),
        access: Access::Idle(access),
        connections: Arc::clone(connections),
        scratch: None,
        alarm: NO_ALARM,
        last_words_by: None,
        last_words_taken: false,
        told_to_leave: false,
        let_others_go: false,
        unfinished: false,
        permit,
        _open: connections.links.token(),
    })))
}

struct Conversation<E: Endpoint, W> {
    endpoint: E,
    wire: W,
    transport: Transport,
    port: Port,
    access: Access,
    connections: Arc<Connections<E::Out>>,
    /// `None` while nothing is read and not handled, nor to be written.
    scratch: Option<Box<Scratch<E::Out>>>,
    /// When the alarm rings that was set last; [`NO_ALARM`] when it has.
    alarm: Instant,
    /// See [`Conversation::takes_last_words`]. A timer of the runtime, for the bus's alarm does not ask the system for what came.
    last_words_by: Option<Pin<Box<Sleep>>>,
    last_words_taken: bool,
    told_to_leave: bool,
    /// There is something to do, and the link waits for its next turn to do it.
    let_others_go: bool,
    /// The bus has not taken all commands yet.
    unfinished: bool,
    /// Counts the connection until it ends.
    permit: ConnectionPermit,
    _open: TaskTrackerToken,
}

/// The conversation with the access service: ours to go on with, or away with a question.
enum Access {
    Idle(Box<dyn AccessSession>),
    Asked(Answering),
    /// Never between two steps.
    Moving,
}

/// The task goes on when everybody else who is ready has had a turn, those included of whom the system has yet to be asked: a task that wakes itself would be
/// polled dozens of times before.
pub(crate) fn wait_for_others<T>(cx: &mut Context<'_>) -> Poll<T> {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}

/// What a wait ended with.
enum Woken {
    /// There is something to do without it.
    Events,
    Transport(io::Result<Progress>),
    Answer(Answer),
    Deadline,
    Leave,
}

/// The stage in which the endpoint works.
struct Open<E: Endpoint, W>(Option<Conversation<E, W>>);

// Nothing in a link is pinned.
impl<E: Endpoint, W> Unpin for Open<E, W> {}

impl<E, W> Future for Open<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    type Output = Option<Stages>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stages>> {
        while let Some(link) = &mut self.0 {
            let woken = ready!(link.poll_wait(cx));
            if !link.turn(woken) {
                return Poll::Ready(self.0.take().map(Conversation::close));
            }
        }
        Poll::Ready(None)
    }
}

impl<E, W> Conversation<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    /// Does all that can be done without waiting. False when the link is to be closed.
    fn turn(&mut self, woken: Woken) -> bool {
        self.let_others_go = false;
        let mut scratch = self.scratch.take().unwrap_or_else(|| self.connections.lend());
        let now = self.port.hub().clock().now();
        match woken {
            Woken::Events => {}
            Woken::Transport(Ok(progress)) => {
                let written = u32::try_from(progress.written).unwrap_or(u32::MAX);
                scratch.out.counts.add_n(Metric::BytesSent, written);
                match progress.read {
                    Some(0) => self.step(Input::Closed, now, &mut scratch),
                    Some(n) => {
                        let n = u32::try_from(n).unwrap_or(u32::MAX);
                        scratch.out.counts.add_n(Metric::BytesReceived, n);
                    }
                    None => {}
                }
            }
            Woken::Transport(Err(error)) => {
                tracing::debug!(%error, "link broke");
                self.step(Input::Closed, now, &mut scratch);
            }
            Woken::Answer(answer) => self.step(Input::Answer(answer), now, &mut scratch),
            Woken::Deadline => self.step(Input::Timeout, now, &mut scratch),
            Woken::Leave => {
                self.told_to_leave = true;
                self.step(Input::Shutdown, now, &mut scratch);
            }
        }
        self.work(now, &mut scratch);
        let goes_on = self.unfinished || !std::mem::take(&mut scratch.out.close);
        self.connections.add(&mut scratch.out.counts);
        denials::log(
            self.permit.listener().unwrap_or_default(),
            &mut scratch.out.denials,
        );
        buffers::rest(&mut scratch.reading);
        buffers::rest(&mut scratch.writing);
        let mut held = self.endpoint.held();
        if goes_on && scratch.is_clear() {
            self.connections.give_back(scratch);
        } else {
            held += scratch.reading.capacity() + scratch.writing.capacity();
            self.scratch = Some(scratch);
        }
        self.port.hold_buffers(held);
        goes_on && !self.gives_way(held, now)
    }

    /// Where there is no memory left, links that hold much go: half a packet, a peer that does not read, long topics with aliases.
    fn gives_way(&mut self, held: usize, now: Instant) -> bool {
        let memory = self.port.hub().memory();
        if held <= SMALL_BUFFERS || memory.allows(Want::ToWait, memory.used()) {
            return false;
        }
        let mut scratch = self.scratch.take().unwrap_or_else(|| self.connections.lend());
        tracing::info!(
            listener = self.permit.listener(),
            held,
            "no memory left: a link that holds much is closed"
        );
        scratch.out.counts.add(Metric::MemoryShed);
        self.step(Input::Closed, now, &mut scratch);
        self.port.submit(&mut scratch.out.bus);
        self.connections.add(&mut scratch.out.counts);
        true
    }

    fn step(&mut self, input: Input<E::In>, now: Instant, scratch: &mut Scratch<E::Out>) {
        let Scratch { out, writing, .. } = scratch;
        self.endpoint.handle(input, now, out);
        if out.frames.is_empty() {
            return;
        }
        let frames = u32::try_from(out.frames.len()).unwrap_or(u32::MAX);
        out.counts.add_n(Metric::PacketsSent, frames);
        buffers::lend(writing);
        for frame in out.frames.drain(..) {
            self.wire.encode(frame, writing);
        }
    }

    fn work(&mut self, now: Instant, scratch: &mut Scratch<E::Out>) {
        if self.unfinished && !self.submit(&mut scratch.out) {
            return;
        }
        loop {
            let mut idle = true;
            while self.takes_frames(scratch.writing.len())
                && !scratch.out.close
                && scratch.out.bus.len() < MAX_COMMANDS
            {
                let large = scratch.reading.capacity() > buffers::LARGEST;
                let Some(frame) = self.wire.decode(&mut scratch.reading) else {
                    break;
                };
                idle = false;
                // What is left of a large buffer would keep all of it.
                if large && scratch.reading.is_empty() {
                    scratch.reading = BytesMut::new();
                }
                self.step(Input::Frame(frame), now, scratch);
                self.ask(&mut scratch.out);
            }
            self.ask(&mut scratch.out);
            if !self.submit(&mut scratch.out) {
                return;
            }
            if scratch.events.is_empty() {
                self.port.take_events(&mut scratch.events);
            }
            while scratch.writing.len() < HIGH_WATER && !scratch.out.close {
                if self.takes_last_words(scratch.events.front()) {
                    break;
                }
                let Some(event) = scratch.events.pop_front() else {
                    break;
                };
                idle = false;
                self.step(Input::Bus(event), now, scratch);
            }
            if idle || scratch.out.close {
                break;
            }
        }
        self.ask(&mut scratch.out);
        self.submit(&mut scratch.out);
    }

    /// Hands the commands to the bus. False when it has not taken all: the link goes on after everybody else has had a turn.
    fn submit(&mut self, out: &mut Outputs<E::Out>) -> bool {
        self.unfinished = !self.port.submit_some(&mut out.bus);
        !self.unfinished
    }

    /// What the client sent before another connection took its session over belongs to the session, its goodbye above all. Before the endpoint hears
    /// of the take-over, the link is read until nothing more is there: a timer that fires shows that the system was asked since.
    fn takes_last_words(&mut self, next: Option<&BusEvent>) -> bool {
        if next != Some(&BusEvent::TakenOver) {
            return false;
        }
        if !self.last_words_taken {
            self.last_words_by
                .get_or_insert_with(|| Box::pin(sleep(LAST_WORDS)));
        }
        !self.last_words_taken
    }

    fn takes_frames(&self, unsent: usize) -> bool {
        self.endpoint.ready() && unsent < HIGH_WATER
    }

    fn ask(&mut self, out: &mut Outputs<E::Out>) {
        let Some(question) = out.question.take() else {
            return;
        };
        self.access = match std::mem::replace(&mut self.access, Access::Moving) {
            Access::Idle(session) => Access::Asked(headgate_access::ask(session, question)),
            Access::Asked(_) | Access::Moving => unreachable!("an endpoint asks one question at a time"),
        };
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        if self.unfinished && !std::mem::replace(&mut self.let_others_go, true) {
            return wait_for_others(cx);
        }
        let unsent = self.scratch.as_ref().map_or(0, |scratch| scratch.writing.len());
        let takes_frames = !self.unfinished && self.takes_frames(unsent);
        // While the store is behind, publishers are left unread; their silence is then ours.
        let caught_up = self.port.hub().is_caught_up();
        if let Poll::Ready(progress) = self.poll_link(cx, takes_frames && caught_up) {
            return Poll::Ready(Woken::Transport(progress));
        }
        if self.unfinished {
            return Poll::Ready(Woken::Events);
        }
        if let Some(timer) = &mut self.last_words_by
            && timer.as_mut().poll(cx).is_ready()
        {
            self.last_words_by = None;
            self.last_words_taken = true;
            return Poll::Ready(Woken::Events);
        }
        let takes_events = unsent < HIGH_WATER && self.last_words_by.is_none();
        let mut called = self.port.poll_call(cx);
        if called == Poll::Ready(Call::Alarm) {
            self.alarm = NO_ALARM;
            called = self.port.poll_call(cx);
        }
        if called.is_ready() && takes_events {
            // First everybody else who is ready has a turn: then more events leave with one write.
            if self.let_others_go {
                return Poll::Ready(Woken::Events);
            }
            self.let_others_go = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Access::Asked(answering) = &mut self.access
            && let Poll::Ready((session, answer)) = answering.as_mut().poll(cx)
        {
            self.access = Access::Idle(session);
            return Poll::Ready(Woken::Answer(answer));
        }
        let hub = self.port.hub();
        if takes_frames && !caught_up && hub.poll_caught_up(cx).is_ready() {
            return Poll::Ready(Woken::Events);
        }
        if hub.says_goodbye() && !self.told_to_leave {
            return Poll::Ready(Woken::Leave);
        }
        let deadline = self.endpoint.deadline().filter(|_| caught_up || !takes_frames);
        match deadline {
            Some(at) if self.is_due(at) => Poll::Ready(Woken::Deadline),
            _ => Poll::Pending,
        }
    }

    /// Reads what is there and writes what can be written.
    fn poll_link(&mut self, cx: &mut Context<'_>, reads: bool) -> Poll<io::Result<Progress>> {
        if let Some(scratch) = &mut self.scratch {
            let writes = (!scratch.writing.is_empty()).then_some(&mut scratch.writing);
            return self
                .transport
                .poll_ready(cx, writes, reads.then_some(&mut scratch.reading));
        }
        let mut reading = BytesMut::new();
        let progress = self.transport.poll_ready(cx, None, reads.then_some(&mut reading));
        buffers::rest(&mut reading);
        if !reading.is_empty() {
            let scratch = self.scratch.insert(self.connections.lend());
            scratch.reading = reading;
        }
        progress
    }

    /// Whether this deadline has come. If not, the link will be woken: a deadline mostly moves on with every packet, so the alarm stays as it is,
    /// and is set anew when it rings too early.
    fn is_due(&mut self, at: Instant) -> bool {
        if self.alarm <= at {
            return false;
        }
        if at <= self.port.hub().clock().now() {
            return true;
        }
        self.alarm = at;
        self.port.wake_at(at);
        false
    }

    /// The endpoint is done: its last words, then the end of the link.
    fn close(self) -> Stages {
        let Self {
            mut transport,
            scratch,
            permit,
            _open,
            ..
        } = self;
        let mut last_words = scratch.map(|scratch| scratch.writing).unwrap_or_default();
        Stages::one(async move {
            let _ = timeout(LINGER, transport.write(&mut last_words)).await;
            drop(last_words);
            transport.close(LINGER).await;
            drop((permit, _open));
        })
    }
}
