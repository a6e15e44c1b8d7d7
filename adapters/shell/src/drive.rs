//! The loop that drives an endpoint: bytes in, bytes out, and everything that waits on the world in between.
//!
//! One task for a connection. A wake-up hands over all whole frames that are there, submits what follows to the bus in one turn, takes the
//! events that are there, and writes all that follows with one call. A protocol rule that creeps in here has lost its test.

use crate::buffers;
use crate::connection::{BrokenBy, Connection, ConnectionPermit};
use crate::denials;
use crate::metrics::Metrics;
use crate::seat::{Seat, Tally, wait_for_others};
use crate::shared_rate::SharedThrottle;
use crate::spans::PendingSpans;
use crate::stages::Stages;
use crate::throttle::Throttle;
use crate::trace::Tracer;
use crate::transport::{Progress, Transport};
use bytes::BytesMut;
use headgate_access::{AccessSession, Answering};
use headgate_bus::handle::{Attach, Hub};
use headgate_model::bus::PeerName;
use headgate_model::memory::Want;
use headgate_model::trace::Party;
use headgate_model::{Answer, BusEvent, Counts, Endpoint, Input, Instant, Metric, Outputs, Sessions, Wire};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Bytes to be written from which on no frame is encoded.
const ENCODED_AHEAD: usize = 1 << 20;
/// Unsent bytes from which on nothing more is taken from the peer or the bus.
const HIGH_WATER: usize = 64 << 10;
/// Commands that go to the bus in one turn at most: the lock is short.
const MAX_COMMANDS: usize = 256;
/// How long a peer may take to read our last words, and then to close.
const LINGER: Duration = Duration::from_secs(2);
/// How long a connection is read for what its client had sent before the session was taken over.
const LAST_WORDS: Duration = Duration::from_millis(2);
/// Bytes of buffers that no connection has to give up.
const SMALL_BUFFERS: usize = 4 * buffers::ROOM;
/// Scratch buffers that wait to be lent, at most.
const SPARE: usize = 64;

/// What all connections with this kind of endpoint share.
pub struct Connections<E: Endpoint> {
    hub: Hub,
    tally: Tally,
    /// Those that are open: who stops the gateway waits for them.
    open: TaskTracker,
    tracer: Tracer,
    /// Lent to a connection while it works: an idle one holds none. Boxed, for they are large and move to and fro.
    spare: Mutex<Vec<Box<Scratch<E>>>>,
}

/// What a connection needs only while there is something to do.
struct Scratch<E: Endpoint> {
    out: Outputs<E::Out, E::Sessions>,
    events: VecDeque<<E::Sessions as Sessions>::Event>,
    reading: BytesMut,
    writing: BytesMut,
}

impl<E: Endpoint> Default for Scratch<E> {
    fn default() -> Self {
        Self {
            out: Outputs::default(),
            events: VecDeque::new(),
            reading: BytesMut::new(),
            writing: BytesMut::new(),
        }
    }
}

impl<E: Endpoint> Scratch<E> {
    fn is_clear(&self) -> bool {
        self.events.is_empty()
            && self.reading.is_empty()
            && self.writing.is_empty()
            && self.out.bus.is_empty()
            && self.out.frames.is_empty()
    }
}

impl<E: Endpoint> Connections<E> {
    /// For connections on this bus, which add what they count to `metrics`, and are counted in `open`.
    pub fn new(hub: Hub, metrics: &Arc<Metrics>, open: TaskTracker) -> Self {
        Self {
            hub,
            tally: Tally::new(metrics, E::COUNTERS),
            open,
            tracer: Tracer::default(),
            spare: Mutex::default(),
        }
    }

    /// What these connections do is told to this one.
    #[must_use]
    pub fn traced_by(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// The bus.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Counts something that happened beside the connections.
    pub fn count(&self, metric: Metric) {
        let mut counts = Counts::default();
        counts.add(metric);
        self.tally.add(&mut counts);
    }

    fn lend(&self) -> Box<Scratch<E>> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, scratch: Box<Scratch<E>>) {
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
    connections: &Arc<Connections<E>>,
) -> Stages
where
    E: Endpoint<Sessions: Attach> + Send + 'static,
    E::Out: Send + 'static,
    W: Wire<In = E::In, Out = E::Out> + Send + 'static,
{
    let broken_by = connection.tells_what_broke_it();
    let (transport, _info, permit) = connection.into_parts();
    Stages::new(Open(Some(Conversation {
        endpoint,
        wire,
        transport,
        seat: Seat::new(&connections.hub),
        access: Access::Idle(access),
        connections: Arc::clone(connections),
        scratch: None,
        last_words_by: None,
        last_words_taken: false,
        told_to_leave: false,
        let_others_go: false,
        throttle: Throttle::new(permit.rate()),
        shared: permit.shared_rates().map(SharedThrottle::new),
        read_waits: false,
        late: None,
        spans: None,
        broken_by,
        permit,
        _open: connections.open.token(),
    })))
}

struct Conversation<E: Endpoint<Sessions: Attach>, W> {
    endpoint: E,
    wire: W,
    transport: Transport,
    seat: Seat<E::Sessions>,
    access: Access,
    connections: Arc<Connections<E>>,
    /// `None` while nothing is read and not handled, nor to be written.
    scratch: Option<Box<Scratch<E>>>,
    /// See [`Conversation::takes_last_words`]. A timer of the runtime, for the bus's alarm does not ask the system for what came.
    last_words_by: Option<Pin<Box<Sleep>>>,
    last_words_taken: bool,
    told_to_leave: bool,
    /// There is something to do, and the connection waits for its next turn to do it.
    let_others_go: bool,
    /// What the client has sent, where that has a limit.
    throttle: Option<Box<Throttle>>,
    /// What it and others have sent.
    shared: Option<SharedThrottle>,
    /// Something that was read may wait to be looked at until the client is read again.
    read_waits: bool,
    /// It may come in, and its user has sent too much of late: so it waits with the rest.
    late: Option<Box<Answer>>,
    /// Spans that have begun, while somebody wants some.
    spans: Option<Box<PendingSpans>>,
    /// Who wants to know why it broke.
    broken_by: Option<BrokenBy>,
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

/// What a wait ended with.
enum Woken {
    /// There is something to do without it.
    Events,
    Transport(io::Result<Progress>),
    Answer(Answer),
    /// Its time has come.
    Late(Box<Answer>),
    Deadline,
    Leave,
    /// Somebody throws the client out, or takes its session over, and it does not read.
    ThrownOut,
}

/// Whose connection it is, for spans.
fn who(permit: &ConnectionPermit, party: Party<'_>) -> (String, Option<String>) {
    let listener = permit.listener().unwrap_or_default().to_owned();
    (listener, party.client.map(str::to_owned))
}

/// The stage in which the endpoint works.
struct Open<E: Endpoint<Sessions: Attach>, W>(Option<Conversation<E, W>>);

// Nothing in a connection is pinned.
impl<E: Endpoint<Sessions: Attach>, W> Unpin for Open<E, W> {}

impl<E, W> Future for Open<E, W>
where
    E: Endpoint<Sessions: Attach>,
    W: Wire<In = E::In, Out = E::Out>,
{
    type Output = Option<Stages>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stages>> {
        while let Some(connection) = &mut self.0 {
            let woken = ready!(connection.poll_wait(cx));
            if !connection.turn(woken) {
                return Poll::Ready(self.0.take().map(Conversation::close));
            }
        }
        Poll::Ready(None)
    }
}

/// Whether nothing more comes for the connection.
fn ends(event: &BusEvent) -> bool {
    matches!(event, BusEvent::Kicked | BusEvent::TakenOver)
}

impl<E, W> Conversation<E, W>
where
    E: Endpoint<Sessions: Attach>,
    W: Wire<In = E::In, Out = E::Out>,
{
    /// Does all that can be done without waiting. False when the connection is to be closed.
    fn turn(&mut self, woken: Woken) -> bool {
        self.let_others_go = false;
        let mut scratch = self.scratch.take().unwrap_or_else(|| self.connections.lend());
        let now = self.seat.now();
        match woken {
            Woken::Events => {}
            Woken::Transport(Ok(progress)) => {
                let written = u32::try_from(progress.written).unwrap_or(u32::MAX);
                scratch.out.counts.add_n(Metric::BytesSent, written);
                match progress.read {
                    Some(0) => self.step(Input::Closed, now, &mut scratch),
                    Some(n) => {
                        if let Some(throttle) = &mut self.throttle {
                            throttle.took_bytes(n, now);
                        }
                        if let Some(shared) = &mut self.shared {
                            shared.took(n, 0, now);
                        }
                        let n = u32::try_from(n).unwrap_or(u32::MAX);
                        scratch.out.counts.add_n(Metric::BytesReceived, n);
                    }
                    None => {}
                }
            }
            Woken::Transport(Err(error)) => {
                tracing::debug!(%error, "connection broke");
                if let Some(broken_by) = &self.broken_by {
                    broken_by.tell(&error);
                }
                self.step(Input::Closed, now, &mut scratch);
            }
            Woken::Answer(answer) => {
                let mut waits = false;
                if matches!(answer, Answer::Allowed { .. }) {
                    self.transport.let_in();
                }
                if let (Some(shared), Answer::Allowed { identity, .. }) = (&mut self.shared, &answer) {
                    shared.set_user(identity.username.as_ref(), now);
                    waits = shared.until(now).is_some();
                }
                match waits {
                    true => self.late = Some(Box::new(answer)),
                    false => self.step(Input::Answer(answer), now, &mut scratch),
                }
            }
            Woken::Late(answer) => self.step(Input::Answer(*answer), now, &mut scratch),
            Woken::Deadline => self.step(Input::Timeout, now, &mut scratch),
            Woken::ThrownOut => {
                let events = &mut scratch.events;
                let at = events.iter().position(|event| ends(E::Sessions::said(event)));
                // What was to be sent before it is not acknowledged, and stays in the session.
                let event = at.and_then(|at| events.drain(..=at).next_back());
                if let Some(event) = event {
                    self.step(Input::Bus(event), now, &mut scratch);
                }
            }
            Woken::Leave => {
                self.told_to_leave = true;
                self.step(Input::Shutdown, now, &mut scratch);
            }
        }
        self.work(now, &mut scratch);
        if self.slowed_until(now).is_some() {
            scratch.out.counts.add(Metric::Slowed);
            self.read_waits = true;
        }
        let goes_on = self.seat.unfinished || !std::mem::take(&mut scratch.out.close);
        self.connections.tally.add(&mut scratch.out.counts);
        if !scratch.out.denials.is_empty() {
            let listener = self.permit.listener().unwrap_or_default();
            let tracer = &self.connections.tracer;
            denials::settle(listener, &mut scratch.out.denials, self.seat.hub(), tracer);
        }
        buffers::rest(&mut scratch.reading);
        buffers::rest(&mut scratch.writing);
        let mut held = self.endpoint.held();
        if goes_on && scratch.is_clear() {
            self.connections.give_back(scratch);
        } else {
            held += scratch.reading.capacity() + scratch.writing.capacity();
            self.scratch = Some(scratch);
        }
        self.seat.hold_buffers(held);
        goes_on && !self.gives_way(held, now)
    }

    /// Where there is no memory left, connections that hold much go: half a packet, a peer that does not read, long topics with aliases.
    fn gives_way(&mut self, held: usize, now: Instant) -> bool {
        let memory = self.seat.hub().memory();
        if held <= SMALL_BUFFERS || memory.allows(Want::ToWait, memory.used()) {
            return false;
        }
        // It may have been lent buffers that others have let grow.
        let held = self.fit_buffers();
        if held <= SMALL_BUFFERS {
            return false;
        }
        let mut scratch = self.scratch.take().unwrap_or_else(|| self.connections.lend());
        tracing::info!(
            listener = self.permit.listener(),
            held,
            "no memory left: a connection that holds much is closed"
        );
        scratch.out.counts.add(Metric::MemoryShed);
        self.step(Input::Closed, now, &mut scratch);
        self.seat.submit_all(&mut scratch.out.bus);
        self.connections.tally.add(&mut scratch.out.counts);
        true
    }

    /// Bytes that it holds for what is really there.
    fn fit_buffers(&mut self) -> usize {
        let mut held = self.endpoint.held();
        if let Some(scratch) = &mut self.scratch {
            buffers::fit(&mut scratch.reading);
            buffers::fit(&mut scratch.writing);
            held += scratch.reading.capacity() + scratch.writing.capacity();
        }
        self.seat.hold_buffers(held);
        held
    }

    fn step(&mut self, input: Input<E::In, E::Sessions>, now: Instant, scratch: &mut Scratch<E>) {
        let out = &mut scratch.out;
        match self.connections.tracer.watches() {
            false => self.endpoint.handle(input, now, out),
            true => self.handle_watched(input, now, out),
        }
        self.encode(scratch, ENCODED_AHEAD);
    }

    /// Encodes frames until so many bytes are to be written: a short frame may stand for a long message, and many for the same one.
    fn encode(&mut self, scratch: &mut Scratch<E>, most: usize) {
        let Scratch { out, writing, .. } = scratch;
        if out.frames.is_empty() {
            return;
        }
        buffers::lend(writing);
        let (mut encoded, mut frames) = (0, out.frames.drain(..));
        while writing.len() < most
            && let Some(frame) = frames.next()
        {
            self.wire.encode(frame, writing);
            encoded += 1;
        }
        let rest: Vec<_> = frames.collect();
        if !rest.is_empty() {
            out.frames = rest;
        }
        out.counts.add_n(Metric::PacketsSent, encoded);
    }

    /// A step that somebody traces, or wants spans of. Kept out of the way of all others.
    #[cold]
    #[inline(never)]
    fn handle_watched(
        &mut self,
        input: Input<E::In, E::Sessions>,
        now: Instant,
        out: &mut Outputs<E::Out, E::Sessions>,
    ) {
        let (commands, frames) = (out.bus.len(), out.frames.len());
        let traced = self.connections.tracer.is_on();
        let peer = if traced { self.trace_input(&input) } else { None };
        if let Input::Bus(event) = &input {
            self.note_event(event);
        }
        self.endpoint.handle(input, now, out);
        self.note_commands(&mut out.bus[commands..]);
        if traced {
            self.trace_outputs(out, commands, frames, peer.as_ref());
        }
    }

    /// The spans that begin or end with what the bus says.
    fn note_event(&mut self, event: &<E::Sessions as Sessions>::Event) {
        let Self {
            connections,
            spans,
            endpoint,
            permit,
            ..
        } = self;
        if let Some(spans) = connections.tracer.pending(spans) {
            let who = || who(permit, endpoint.party());
            spans.event(E::Sessions::key(event), E::Sessions::said(event), &who);
        }
    }

    /// The spans that begin or end with what is said to the bus.
    fn note_commands(&mut self, commands: &mut [<E::Sessions as Sessions>::Command]) {
        let Self {
            connections,
            spans,
            endpoint,
            permit,
            ..
        } = self;
        if commands.is_empty() {
            return;
        }
        if let Some(spans) = connections.tracer.pending(spans) {
            let who = || who(permit, endpoint.party());
            for command in commands {
                let (key, command) = E::Sessions::command_of(command);
                spans.command(key, command, &who);
            }
        }
    }

    /// What goes into a step. Where the peer is, which the endpoint may not know afterwards.
    fn trace_input(&self, input: &Input<E::In, E::Sessions>) -> Option<PeerName> {
        let (tracer, party) = (&self.connections.tracer, self.endpoint.party());
        let listener = self.permit.listener().unwrap_or_default();
        match input {
            Input::Frame(frame) => {
                if let Some(packet) = self.wire.trace_in(frame) {
                    tracer.packet("in", listener, party, &packet);
                }
            }
            Input::Bus(event) => tracer.bus(listener, party, E::Sessions::said(event).traced()),
            Input::Answer(answer) => tracer.login(listener, party, || answer.traced()),
            Input::Closed => tracer.login(listener, party, || "the connection ended".to_owned()),
            Input::Timeout | Input::Shutdown => {}
        }
        party.peer.cloned()
    }

    /// What followed from a step, with the commands behind so many, and the frames.
    fn trace_outputs(
        &self,
        out: &Outputs<E::Out, E::Sessions>,
        commands: usize,
        frames: usize,
        before: Option<&PeerName>,
    ) {
        let (tracer, now) = (&self.connections.tracer, self.endpoint.party());
        let party = Party {
            peer: now.peer.or(before),
            ..now
        };
        let listener = self.permit.listener().unwrap_or_default();
        if let Some(question) = &out.question {
            tracer.login(listener, party, || question.traced());
        }
        for command in &out.bus[commands..] {
            tracer.bus(listener, party, E::Sessions::command(command).traced());
        }
        for frame in &out.frames[frames..] {
            if let Some(packet) = self.wire.trace_out(frame) {
                tracer.packet("out", listener, party, &packet);
            }
        }
    }

    fn work(&mut self, now: Instant, scratch: &mut Scratch<E>) {
        self.encode(scratch, ENCODED_AHEAD);
        if self.seat.unfinished && !self.seat.submit(&mut scratch.out.bus) {
            return;
        }
        loop {
            let mut idle = true;
            while self.takes_frames(scratch.writing.len())
                && self.slowed_until(now).is_none()
                && !scratch.out.close
                && scratch.out.bus.len() < MAX_COMMANDS
            {
                let large = scratch.reading.capacity() > buffers::LARGEST;
                let Some(frame) = self.wire.decode(&mut scratch.reading) else {
                    break;
                };
                idle = false;
                if let Some(throttle) = &mut self.throttle {
                    throttle.took_packet(now);
                }
                if let Some(shared) = &mut self.shared {
                    shared.took(0, 1, now);
                }
                // What is left of a large buffer would keep all of it.
                if large && scratch.reading.is_empty() {
                    scratch.reading = BytesMut::new();
                }
                self.step(Input::Frame(frame), now, scratch);
                self.ask(&mut scratch.out);
            }
            self.ask(&mut scratch.out);
            if !self.seat.submit(&mut scratch.out.bus) {
                return;
            }
            if scratch.events.is_empty() {
                self.seat.take_events(&mut scratch.events);
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
        self.seat.submit(&mut scratch.out.bus);
    }

    /// What the client sent before another connection took its session over belongs to the session, its goodbye above all. Before the endpoint hears
    /// of the take-over, the connection is read until nothing more is there: a timer that fires shows that the system was asked since.
    fn takes_last_words(&mut self, next: Option<&<E::Sessions as Sessions>::Event>) -> bool {
        if next.map(E::Sessions::said) != Some(&BusEvent::TakenOver) {
            return false;
        }
        // Of another of its sessions there may be last words later.
        if std::mem::take(&mut self.last_words_taken) {
            return false;
        }
        self.last_words_by
            .get_or_insert_with(|| Box::pin(sleep(LAST_WORDS)));
        true
    }

    /// When the client is read again that has sent too much of late.
    fn slowed_until(&self, now: Instant) -> Option<Instant> {
        let own = self.throttle.as_ref().and_then(|throttle| throttle.until(now));
        own.max(self.shared.as_ref().and_then(|shared| shared.until(now)))
    }

    fn takes_frames(&self, unsent: usize) -> bool {
        self.endpoint.ready() && unsent < HIGH_WATER
    }

    fn ask(&mut self, out: &mut Outputs<E::Out, E::Sessions>) {
        let Some(question) = out.question.take() else {
            return;
        };
        self.access = match std::mem::replace(&mut self.access, Access::Moving) {
            Access::Idle(session) => Access::Asked(headgate_access::ask(session, question)),
            Access::Asked(_) | Access::Moving => unreachable!("an endpoint asks one question at a time"),
        };
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        if self.seat.unfinished && !std::mem::replace(&mut self.let_others_go, true) {
            return wait_for_others(cx);
        }
        let unsent = self.scratch.as_ref().map_or(0, |scratch| scratch.writing.len());
        let mut slowed_until = None;
        let limits = self.shared.as_ref().is_some_and(SharedThrottle::limits);
        if limits || self.throttle.is_some() || self.read_waits || self.late.is_some() {
            slowed_until = self.slowed_until(self.seat.now());
            if slowed_until.is_none()
                && let Some(answer) = self.late.take()
            {
                return Poll::Ready(Woken::Late(answer));
            }
            if slowed_until.is_none() && std::mem::take(&mut self.read_waits) {
                return Poll::Ready(Woken::Events);
            }
        }
        let takes_frames = !self.seat.unfinished && slowed_until.is_none() && self.takes_frames(unsent);
        // While the store is behind, publishers are left unread; their silence is then ours.
        let caught_up = self.seat.hub().is_caught_up();
        if let Poll::Ready(progress) = self.poll_transport(cx, takes_frames && caught_up) {
            return Poll::Ready(Woken::Transport(progress));
        }
        if self.seat.unfinished {
            return Poll::Ready(Woken::Events);
        }
        if let Some(timer) = &mut self.last_words_by
            && timer.as_mut().poll(cx).is_ready()
        {
            self.last_words_by = None;
            self.last_words_taken = true;
            return Poll::Ready(Woken::Events);
        }
        let blocked = unsent >= HIGH_WATER;
        let takes_events = !blocked && self.last_words_by.is_none();
        if blocked && self.is_thrown_out(cx) {
            return Poll::Ready(Woken::ThrownOut);
        }
        if !blocked && self.seat.poll_events(cx).is_ready() && takes_events {
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
        let hub = self.seat.hub();
        if takes_frames && !caught_up && hub.poll_caught_up(cx).is_ready() {
            return Poll::Ready(Woken::Events);
        }
        if !self.told_to_leave && (hub.says_goodbye() || self.permit.is_over()) {
            return Poll::Ready(Woken::Leave);
        }
        // Its silence is ours.
        if let Some(until) = slowed_until {
            return match self.seat.is_due(until) {
                true => Poll::Ready(Woken::Events),
                false => Poll::Pending,
            };
        }
        let deadline = self.endpoint.deadline().filter(|_| caught_up || !takes_frames);
        match deadline {
            Some(at) if self.seat.is_due(at) => Poll::Ready(Woken::Deadline),
            _ => Poll::Pending,
        }
    }

    /// Whether one of the events that wait for a client that does not read ends its connection.
    fn is_thrown_out(&mut self, cx: &Context<'_>) -> bool {
        let scratch = self.scratch.as_mut().expect("something is to be written");
        // They are as many as it was granted credit for.
        while self.seat.poll_events(cx).is_ready() {
            self.seat.take_events(&mut scratch.events);
        }
        scratch.events.iter().any(|event| ends(E::Sessions::said(event)))
    }

    /// Reads what is there and writes what can be written.
    fn poll_transport(&mut self, cx: &mut Context<'_>, reads: bool) -> Poll<io::Result<Progress>> {
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

    /// The endpoint is done: its last words, then the end of the connection. Of what waits behind [`ENCODED_AHEAD`] only the very last is said: whoever reads so slowly gets the rest on
    /// another connection, if it was promised.
    fn close(mut self) -> Stages {
        if let Some(mut scratch) = self.scratch.take() {
            self.encode(&mut scratch, ENCODED_AHEAD);
            if let Some(last) = scratch.out.frames.pop() {
                self.wire.encode(last, &mut scratch.writing);
            }
            self.scratch = Some(scratch);
        }
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
