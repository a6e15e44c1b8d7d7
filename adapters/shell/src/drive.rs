//! The loop that drives an endpoint: bytes in, bytes out, and everything that waits on the world in between.
//!
//! One task for a connection. A wake-up hands over all whole frames that are there, submits what follows to the bus in one turn, takes the
//! events that are there, and writes all that follows with one call. A protocol rule that creeps in here has lost its test.

use crate::buffers;
use crate::connection::{Connection, ConnectionPermit};
use crate::denials;
use crate::metrics::Metrics;
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
/// Desks that wait to be lent, at most.
const SPARE: usize = 64;

/// What all links of one protocol share.
pub struct Workplace<F> {
    hub: Hub,
    metrics: Arc<Metrics>,
    /// Links that are open: who stops the gateway waits for them.
    links: TaskTracker,
    /// Lent to a link while it works: an idle one holds none. Boxed, for they are large and move to and fro.
    spare: Mutex<Vec<Box<Desk<F>>>>,
}

/// What a link needs only while there is something to do.
struct Desk<F> {
    out: Outputs<F>,
    events: VecDeque<BusEvent>,
    reading: BytesMut,
    writing: BytesMut,
}

impl<F> Default for Desk<F> {
    fn default() -> Self {
        Self {
            out: Outputs::default(),
            events: VecDeque::new(),
            reading: BytesMut::new(),
            writing: BytesMut::new(),
        }
    }
}

impl<F> Desk<F> {
    fn is_clear(&self) -> bool {
        self.events.is_empty()
            && self.reading.is_empty()
            && self.writing.is_empty()
            && self.out.bus.is_empty()
    }
}

impl<F> Workplace<F> {
    /// For links on this bus, which add what they count to `metrics` and are counted in `links`.
    pub fn new(hub: Hub, metrics: Arc<Metrics>, links: TaskTracker) -> Self {
        Self {
            hub,
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
        self.metrics.add(&mut counts);
    }

    fn lend(&self) -> Box<Desk<F>> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, desk: Box<Desk<F>>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE {
            spare.push(desk);
        }
    }
}

/// Runs one connection until it ends. [`Hub::say_goodbye`] lets the endpoint say goodbye.
pub fn drive<E, W>(
    endpoint: E,
    wire: W,
    connection: Connection,
    access: Box<dyn AccessSession>,
    workplace: &Arc<Workplace<E::Out>>,
) -> Stages
where
    E: Endpoint + Send + 'static,
    E::Out: Send + 'static,
    W: Wire<In = E::In, Out = E::Out> + Send + 'static,
{
    let (transport, _info, permit) = connection.into_parts();
    Stages::new(Open(Some(Link {
        endpoint,
        wire,
        transport,
        port: workplace.hub.attach(),
        access: Access::Idle(access),
        workplace: Arc::clone(workplace),
        desk: None,
        alarm: NO_ALARM,
        last_words_by: None,
        last_words_taken: false,
        told_to_leave: false,
        let_others_go: false,
        unfinished: false,
        permit,
        _open: workplace.links.token(),
    })))
}

struct Link<E: Endpoint, W> {
    endpoint: E,
    wire: W,
    transport: Transport,
    port: Port,
    access: Access,
    workplace: Arc<Workplace<E::Out>>,
    /// `None` while nothing is read and not handled, nor to be written.
    desk: Option<Box<Desk<E::Out>>>,
    /// When the alarm rings that was set last; [`NO_ALARM`] when it has.
    alarm: Instant,
    /// See [`Link::takes_last_words`]. A timer of the runtime, for the bus's alarm does not ask the system for what came.
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
    Link(io::Result<Progress>),
    Answer(Answer),
    Deadline,
    Leave,
}

/// The stage in which the endpoint works.
struct Open<E: Endpoint, W>(Option<Link<E, W>>);

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
                return Poll::Ready(self.0.take().map(Link::close));
            }
        }
        Poll::Ready(None)
    }
}

impl<E, W> Link<E, W>
where
    E: Endpoint,
    W: Wire<In = E::In, Out = E::Out>,
{
    /// Does all that can be done without waiting. False when the link is to be closed.
    fn turn(&mut self, woken: Woken) -> bool {
        self.let_others_go = false;
        let mut desk = self.desk.take().unwrap_or_else(|| self.workplace.lend());
        let now = self.port.hub().clock().now();
        match woken {
            Woken::Events => {}
            Woken::Link(Ok(progress)) => {
                let written = u32::try_from(progress.written).unwrap_or(u32::MAX);
                desk.out.counts.add_n(Metric::BytesSent, written);
                match progress.read {
                    Some(0) => self.step(Input::Closed, now, &mut desk),
                    Some(n) => {
                        let n = u32::try_from(n).unwrap_or(u32::MAX);
                        desk.out.counts.add_n(Metric::BytesReceived, n);
                    }
                    None => {}
                }
            }
            Woken::Link(Err(error)) => {
                tracing::debug!(%error, "link broke");
                self.step(Input::Closed, now, &mut desk);
            }
            Woken::Answer(answer) => self.step(Input::Answer(answer), now, &mut desk),
            Woken::Deadline => self.step(Input::Timeout, now, &mut desk),
            Woken::Leave => {
                self.told_to_leave = true;
                self.step(Input::Shutdown, now, &mut desk);
            }
        }
        self.work(now, &mut desk);
        let goes_on = self.unfinished || !std::mem::take(&mut desk.out.close);
        self.workplace.metrics.add(&mut desk.out.counts);
        denials::log(self.permit.listener().unwrap_or_default(), &mut desk.out.denials);
        buffers::rest(&mut desk.reading);
        buffers::rest(&mut desk.writing);
        let mut held = self.endpoint.held();
        if goes_on && desk.is_clear() {
            self.workplace.give_back(desk);
        } else {
            held += desk.reading.capacity() + desk.writing.capacity();
            self.desk = Some(desk);
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
        let mut desk = self.desk.take().unwrap_or_else(|| self.workplace.lend());
        tracing::info!(
            listener = self.permit.listener(),
            held,
            "no memory left: a link that holds much is closed"
        );
        desk.out.counts.add(Metric::MemoryShed);
        self.step(Input::Closed, now, &mut desk);
        self.port.submit(&mut desk.out.bus);
        self.workplace.metrics.add(&mut desk.out.counts);
        true
    }

    fn step(&mut self, input: Input<E::In>, now: Instant, desk: &mut Desk<E::Out>) {
        let Desk { out, writing, .. } = desk;
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

    fn work(&mut self, now: Instant, desk: &mut Desk<E::Out>) {
        if self.unfinished && !self.submit(&mut desk.out) {
            return;
        }
        loop {
            let mut idle = true;
            while self.takes_frames(desk.writing.len())
                && !desk.out.close
                && desk.out.bus.len() < MAX_COMMANDS
            {
                let large = desk.reading.capacity() > buffers::LARGEST;
                let Some(frame) = self.wire.decode(&mut desk.reading) else {
                    break;
                };
                idle = false;
                // What is left of a large buffer would keep all of it.
                if large && desk.reading.is_empty() {
                    desk.reading = BytesMut::new();
                }
                self.step(Input::Frame(frame), now, desk);
                self.ask(&mut desk.out);
            }
            self.ask(&mut desk.out);
            if !self.submit(&mut desk.out) {
                return;
            }
            if desk.events.is_empty() {
                self.port.take_events(&mut desk.events);
            }
            while desk.writing.len() < HIGH_WATER && !desk.out.close {
                if self.takes_last_words(desk.events.front()) {
                    break;
                }
                let Some(event) = desk.events.pop_front() else {
                    break;
                };
                idle = false;
                self.step(Input::Bus(event), now, desk);
            }
            if idle || desk.out.close {
                break;
            }
        }
        self.ask(&mut desk.out);
        self.submit(&mut desk.out);
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
        let unsent = self.desk.as_ref().map_or(0, |desk| desk.writing.len());
        let takes_frames = !self.unfinished && self.takes_frames(unsent);
        // While the store is behind, publishers are left unread; their silence is then ours.
        let caught_up = self.port.hub().is_caught_up();
        if let Poll::Ready(progress) = self.poll_link(cx, takes_frames && caught_up) {
            return Poll::Ready(Woken::Link(progress));
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
        if let Some(desk) = &mut self.desk {
            let writes = (!desk.writing.is_empty()).then_some(&mut desk.writing);
            return self
                .transport
                .poll_ready(cx, writes, reads.then_some(&mut desk.reading));
        }
        let mut reading = BytesMut::new();
        let progress = self.transport.poll_ready(cx, None, reads.then_some(&mut reading));
        buffers::rest(&mut reading);
        if !reading.is_empty() {
            let desk = self.desk.insert(self.workplace.lend());
            desk.reading = reading;
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
            desk,
            permit,
            _open,
            ..
        } = self;
        let mut last_words = desk.map(|desk| desk.writing).unwrap_or_default();
        Stages::one(async move {
            let _ = timeout(LINGER, transport.write(&mut last_words)).await;
            drop(last_words);
            transport.close(LINGER).await;
            drop((permit, _open));
        })
    }
}
