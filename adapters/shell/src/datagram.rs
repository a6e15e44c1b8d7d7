//! The loop that drives all clients of one socket or line: datagrams in, datagrams out, and everything that waits on the world in between.
//!
//! One task for a socket, and one place on the bus for all its clients. A wake-up hands over the datagrams that are there, submits what follows to the bus in one
//! turn, takes the events that are there, and sends all that follows with few calls. A protocol rule that creeps in here has lost its test.
//!
//! A server that wants the notes of its sessions gets them first, page by page, as one that was started anew does.
//!
//! Always true: nothing is due before what was sent in time is read; while the store is behind, the peers do not take what is sent, or all clients together have sent
//! more than they may, datagrams are left in the system, whose room for them has a bound.

use crate::denials;
use crate::limit::ConnectionLimit;
use crate::protocols::Serving;
use crate::seat::{Seat, Tally, wait_for_others};
use crate::shared_rate::SharedThrottle;
use crate::spans::PendingSpans;
use crate::trace::Tracer;
use bytes::Bytes;
use headgate_access::ConnectionInfo;
use headgate_access::{AccessService, AccessSession, Answering};
use headgate_model::datagram::{Address, Places, Restored};
use headgate_model::trace::{BusTrace, Party};
use headgate_model::{
    Answer, Asked, BusEvent, ClientId, DatagramOutputs, DatagramServer, Destination, Instant, Many,
    MemoryLimit, Metric, Question, SessionKey,
};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Turns before everybody else who is ready has one.
const TURNS: usize = 16;
/// Events handled before what follows from them is sent.
const EVENTS_AT_ONCE: usize = 256;
/// So long what is due may wait for datagrams that are left unread.
const LATE: Duration = Duration::from_secs(1);
/// How long our last words may take to be sent.
const LINGER: Duration = Duration::from_secs(2);

/// A socket or line: what moves the datagrams.
pub trait DatagramTransport: Unpin + Send + 'static {
    /// Where its peers are.
    type Address: Address + Unpin + Send + 'static;

    /// Hands some of the datagrams that are there to `sink`. If there are none, `cx` is woken when there are.
    fn poll_receive(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut(Self::Address, Bytes)) -> Poll<()>;

    /// Queues a datagram.
    fn send(&mut self, to: Destination<Self::Address>, bytes: &[u8]);

    /// Whether the queue is short. Otherwise nothing more is taken from the peers or the bus.
    fn has_room(&self) -> bool;

    /// Ready when the queue is empty.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// What is known of a peer; of `None`, who has no connection.
    fn info(&self, at: Option<Self::Address>) -> ConnectionInfo;

    /// What it counts.
    fn stats(&self) -> &Arc<DatagramStats>;

    /// Its name, and where it is.
    fn describe(&self) -> (&str, String);

    /// Tells how many there are of what it has itself, such as sessions. Default: nothing.
    fn gauges(&self, _tell: &mut dyn FnMut(&'static str, usize)) {}

    /// How its places are kept over a restart. Default: they are not.
    fn places(&self) -> Option<Arc<dyn Places<Self::Address>>> {
        None
    }

    /// Who may be asked for keys. Default: nobody needs one.
    fn set_access(&mut self, _access: &Arc<dyn AccessService>) {}

    /// Where what it holds of its peers counts. Default: it holds nothing.
    fn count_in(&mut self, _memory: &Arc<MemoryLimit>) {}

    /// The gateway stops: queues its own last words, behind those of the protocol. Default: there are none.
    fn say_goodbye(&mut self) {}
}

/// The counters of one socket or line, and how many clients there are.
#[derive(Debug)]
pub struct DatagramStats {
    names: &'static [&'static str],
    counts: Box<[AtomicU64]>,
    /// How often the task was started anew.
    restarts: AtomicU64,
    down: AtomicBool,
    gauges: Mutex<Vec<(&'static str, usize)>>,
}

impl DatagramStats {
    pub(crate) fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            counts: names.iter().map(|_| AtomicU64::new(0)).collect(),
            restarts: AtomicU64::new(0),
            down: AtomicBool::new(false),
            gauges: Mutex::default(),
        }
    }

    /// The task that served it has failed: see [`crate::supervise`].
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.set_down(true);
    }

    /// Whether nothing is received now: the task that served it has failed, or the system gives us nothing.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, counter: usize, n: u64) {
        self.counts[counter].fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, counter: usize, n: u64) {
        self.counts[counter].store(n, Ordering::Relaxed);
    }

    /// One of the counters by its name; `None` if there is none.
    pub fn get(&self, name: &str) -> Option<u64> {
        if name == "restarts" {
            return Some(self.restarts.load(Ordering::Relaxed));
        }
        let index = self.names.iter().position(|known| *known == name)?;
        Some(self.counts[index].load(Ordering::Relaxed))
    }

    /// All counters.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let named = self.names.iter().copied().zip(counts);
        named
            .chain([("restarts", self.restarts.load(Ordering::Relaxed))])
            .collect()
    }

    /// How many clients there are of each kind.
    pub fn gauges(&self) -> Vec<(&'static str, u64)> {
        let gauges = self.gauges.lock();
        gauges
            .iter()
            .map(|(name, gauge)| (*name, *gauge as u64))
            .collect()
    }
}

/// What changes a server and its transport.
type Alteration<S, T> = Box<dyn FnOnce(&mut S, &mut T, Instant) + Send>;

/// What whoever serves a transport is told while it does.
pub(crate) enum Told<S, T> {
    /// To change something.
    Change(Alteration<S, T>),
    /// To say goodbye, and end.
    End,
}

/// Serves all clients of a transport until [`Hub::say_goodbye`](headgate_bus::handle::Hub::say_goodbye).
pub fn serve<S, T>(server: S, transport: T, serving: &Serving) -> impl Future<Output = ()> + Send + 'static
where
    S: DatagramServer<Address = T::Address> + Unpin + Send + 'static,
    T: DatagramTransport,
{
    let (_, nothing) = mpsc::unbounded_channel();
    serve_and_listen(server, transport, nothing, serving)
}

/// The same, and does what it is told meanwhile.
pub(crate) fn serve_and_listen<S, T>(
    mut server: S,
    mut transport: T,
    told: mpsc::UnboundedReceiver<Told<S, T>>,
    serving: &Serving,
) -> impl Future<Output = ()> + Send + 'static
where
    S: DatagramServer<Address = T::Address> + Unpin + Send + 'static,
    T: DatagramTransport,
{
    let (name, address) = transport.describe();
    tracing::info!(listener = %name, %address, "listening");
    transport.stats().set_down(false);
    server.begin(name, serving.hub.clock().epoch());
    server.set_user_rates(serving.total.shared_rates());
    if let Some(places) = transport.places() {
        server.set_places(places);
    }
    transport.set_access(&serving.access);
    transport.count_in(serving.hub.memory());
    Server {
        server,
        transport,
        seat: Seat::new(&serving.hub),
        conversations: Conversations {
            access: Arc::clone(&serving.access),
            idle: HashMap::new(),
            answering: JoinSet::new(),
        },
        tally: Tally::new(&serving.metrics, S::COUNTERS),
        tracer: serving.tracer.clone(),
        spans: None,
        restoring: S::NOTES.map(|prefix| Restoring { prefix, after: None }),
        shared: SharedThrottle::new(serving.total.shared_rates()),
        total: serving.total.clone(),
        overloaded: false,
        out: DatagramOutputs::default(),
        events: VecDeque::new(),
        told,
        ended: false,
        farewell: None,
        _open: serving.open.token(),
    }
}

struct Server<S, T: DatagramTransport> {
    server: S,
    transport: T,
    seat: Seat<Many>,
    conversations: Conversations,
    tally: Tally,
    tracer: Tracer,
    /// Spans that have begun, while somebody wants some.
    spans: Option<Box<PendingSpans>>,
    /// The server has not seen all notes of its sessions yet.
    restoring: Option<Restoring>,
    /// How fast all clients of the gateway may send.
    shared: SharedThrottle,
    total: ConnectionLimit,
    /// As the server knows it.
    overloaded: bool,
    out: DatagramOutputs<T::Address>,
    events: VecDeque<(SessionKey, BusEvent)>,
    told: mpsc::UnboundedReceiver<Told<S, T>>,
    /// It was told to end.
    ended: bool,
    /// It ends: so long our last words may take.
    farewell: Option<Pin<Box<Sleep>>>,
    /// Counts the socket until it is closed.
    _open: TaskTrackerToken,
}

/// How far a server is that gets the notes of its sessions back.
#[derive(Debug)]
struct Restoring {
    /// How the client ids of its sessions begin.
    prefix: &'static str,
    /// The last that was looked at.
    after: Option<ClientId>,
}

/// What the access service is asked, and by whom.
struct Conversations {
    access: Arc<dyn AccessService>,
    /// Conversations that may go on, by the index of a client's key: those of clients whose rules may have to be asked for again.
    idle: HashMap<u32, Box<dyn AccessSession>>,
    answering: JoinSet<(SessionKey, Box<dyn AccessSession>, Answer)>,
}

impl Conversations {
    /// Asks. The answer, if it is known at once.
    fn ask(
        &mut self,
        key: SessionKey,
        question: Question,
        info: impl FnOnce() -> ConnectionInfo,
        cx: &mut Context<'_>,
    ) -> Option<Answer> {
        // Another client may have had the place before.
        let known = self.idle.remove(&key.index);
        let begins = matches!(question, Question::Authenticate(_) | Question::Readmit(_));
        let session = known
            .filter(|_| !begins)
            .unwrap_or_else(|| self.access.session(&info()));
        let mut answering: Answering = headgate_access::ask(session, question);
        match answering.as_mut().poll(cx) {
            Poll::Ready((session, answer)) => {
                self.keep(key, session, &answer);
                Some(answer)
            }
            Poll::Pending => {
                self.answering.spawn(async move {
                    let (session, answer) = answering.await;
                    (key, session, answer)
                });
                None
            }
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<(SessionKey, Answer)>> {
        while let Some(joined) = ready!(self.answering.poll_join_next(cx)) {
            match joined {
                Ok((key, session, answer)) => {
                    self.keep(key, session, &answer);
                    return Poll::Ready(Some((key, answer)));
                }
                // Who waits for it gives up in time.
                Err(error) => tracing::error!(%error, "a question to the access service has no answer"),
            }
        }
        Poll::Ready(None)
    }

    fn keep(&mut self, key: SessionKey, session: Box<dyn AccessSession>, answer: &Answer) {
        let goes_on = match answer {
            Answer::Allowed { identity, .. } => identity.policy.may_ask(),
            Answer::Refused(_) | Answer::Identified(_) => false,
            Answer::Challenge(_) | Answer::Authorized(_) => true,
        };
        if goes_on {
            self.idle.insert(key.index, session);
        }
    }
}

/// Tells whoever traces of a datagram.
fn trace_datagram<S: DatagramServer>(
    tracer: &Tracer,
    server: &S,
    what: &'static str,
    listener: &str,
    at: S::Address,
    datagram: &[u8],
) {
    let Some(packet) = server.trace(at, datagram) else {
        return;
    };
    let (peer, _) = at.presence();
    let party = Party {
        client: None,
        peer: Some(&peer),
    };
    tracer.packet(what, listener, party, &packet);
}

/// Tells whoever traces of a word between a client's endpoint and the bus.
fn trace_bus<S: DatagramServer>(
    tracer: &Tracer,
    server: &S,
    listener: &str,
    key: SessionKey,
    word: Option<BusTrace<'_>>,
) {
    if word.is_none() {
        return;
    }
    let (client, at) = server.party(key);
    let peer = at.map(|at| at.presence().0);
    let party = Party {
        client: client.as_deref(),
        peer: peer.as_ref(),
    };
    tracer.bus(listener, party, word);
}

impl<S, T> Future for Server<S, T>
where
    S: DatagramServer<Address = T::Address> + Unpin,
    T: DatagramTransport,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let serving = self.get_mut();
        while let Poll::Ready(Some(told)) = serving.told.poll_recv(cx) {
            match told {
                Told::Change(change) => {
                    let now = serving.seat.now();
                    change(&mut serving.server, &mut serving.transport, now);
                }
                Told::End => serving.ended = true,
            }
        }
        for turn in 1..=TURNS {
            if serving.farewell.is_some() {
                return serving.poll_farewell(cx);
            }
            if !serving.turn(turn == TURNS, cx) {
                serving.finish();
                return Poll::Pending;
            }
            if serving.seat.unfinished {
                break;
            }
        }
        serving.finish();
        wait_for_others(cx)
    }
}

impl<S, T> Server<S, T>
where
    S: DatagramServer<Address = T::Address> + Unpin,
    T: DatagramTransport,
{
    /// Does what can be done without waiting, but not all of it. False when there was nothing: then `cx` is woken when there is.
    fn turn(&mut self, last: bool, cx: &mut Context<'_>) -> bool {
        let now = self.seat.now();
        if self.ended || self.seat.hub().says_goodbye() {
            self.server.shutdown(&mut self.out);
            self.settle(now, cx);
            self.transport.say_goodbye();
            self.seat.submit_all(&mut self.out.bus);
            self.farewell = Some(Box::pin(tokio::time::sleep(LINGER)));
            return true;
        }
        // Whether it is ready or not, what is left wakes us when it can go.
        let _ = self.transport.poll_flush(cx);
        if self.seat.unfinished {
            self.settle(now, cx);
            if self.seat.unfinished {
                return true;
            }
        }
        let mut busy = self.take_answers(now, cx);
        busy |= self.take_events(now, cx);
        // While the store is behind, clients are left unread; their silence is then ours.
        let caught_up = self.seat.hub().is_caught_up();
        if self.restoring.is_some() {
            busy |= self.restore(caught_up, now, cx);
            return busy;
        }
        let mut drained = false;
        let slowed = self.is_slowed(now);
        if caught_up && !slowed && self.transport.has_room() {
            let received = self.take_datagrams(now, cx);
            drained = !received;
            busy |= received;
        } else if !caught_up {
            busy |= self.seat.hub().poll_caught_up(cx).is_ready();
        }
        let in_turn = drained || last || (slowed && self.is_overdue(now));
        if caught_up && in_turn && self.is_due(now) {
            self.server.handle_timeout(now, &mut self.out);
            busy = true;
        }
        self.settle(now, cx);
        busy
    }

    /// Hands the server the next notes of its sessions, and lets happen what follows. Until it has all, nothing is received and nothing is due. Whether it
    /// could; if not, `cx` is woken when it can.
    fn restore(&mut self, caught_up: bool, now: Instant, cx: &mut Context<'_>) -> bool {
        if !caught_up {
            return self.seat.hub().poll_caught_up(cx).is_ready();
        }
        if !self.transport.has_room() {
            return false;
        }
        let Some(Restoring { prefix, after }) = self.restoring.take() else {
            return false;
        };
        let after = after.as_ref().map(ClientId::as_str);
        let page = self.seat.hub().notes(prefix, after, Restored::PAGE);
        if !page.rows.is_empty() {
            self.server.restore(page.rows, now, &mut self.out);
        }
        self.restoring = page.next.map(|next| Restoring {
            prefix,
            after: Some(next),
        });
        if self.restoring.is_none() {
            self.server.restored(now, &mut self.out);
        }
        self.settle(now, cx);
        true
    }

    fn take_answers(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        while self.transport.has_room()
            && let Poll::Ready(Some((key, answer))) = self.conversations.poll_answer(cx)
        {
            self.trace_login(key, || answer.traced());
            self.server.handle_answer(key, answer, now, &mut self.out);
            self.settle(now, cx);
            busy = true;
        }
        busy
    }

    fn take_events(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        if self.events.is_empty() {
            if self.seat.poll_events(cx).is_pending() {
                return false;
            }
            self.seat.take_events(&mut self.events);
        }
        let mut busy = false;
        while self.transport.has_room() && !self.seat.unfinished && !self.events.is_empty() {
            let count = self.events.len().min(EVENTS_AT_ONCE);
            for (key, event) in self.events.drain(..count) {
                if self.tracer.is_on() {
                    trace_bus(
                        &self.tracer,
                        &self.server,
                        self.transport.describe().0,
                        key,
                        event.traced(),
                    );
                }
                if self.tracer.has_spans() {
                    let Self {
                        server,
                        transport,
                        tracer,
                        spans,
                        ..
                    } = self;
                    if let Some(spans) = tracer.pending(spans) {
                        let who = || (transport.describe().0.to_owned(), server.party(key).0);
                        spans.event(Some(key), &event, &who);
                    }
                }
                self.server.handle_bus(key, event, now, &mut self.out);
            }
            self.settle(now, cx);
            busy = true;
        }
        busy
    }

    fn take_datagrams(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let overloaded = self.total.is_overloaded();
        if overloaded != self.overloaded {
            self.overloaded = overloaded;
            self.server.set_overloaded(overloaded);
        }
        let Self {
            server,
            transport,
            out,
            tracer,
            shared,
            ..
        } = self;
        // The transport is busy while it hands over.
        let name = tracer.is_on().then(|| transport.describe().0.to_owned());
        let (mut sum, mut packets) = (0, 0);
        let received = transport.poll_receive(cx, &mut |from, datagram| {
            if let Some(name) = &name {
                trace_datagram(tracer, server, "in", name, from, &datagram);
            }
            let bytes = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
            out.counts.add_n(Metric::BytesReceived, bytes);
            out.counts.add(Metric::PacketsReceived);
            sum += datagram.len();
            packets += 1;
            server.handle_datagram(from, datagram, now, out);
        });
        shared.took(sum, packets, now);
        received.is_ready()
    }

    /// Lets everything that was written down happen: questions are asked, commands submitted, datagrams sent.
    fn settle(&mut self, now: Instant, cx: &mut Context<'_>) {
        while !self.out.questions.is_empty() {
            for Asked { key, at, question } in std::mem::take(&mut self.out.questions) {
                self.trace_login(key, || question.traced());
                let transport = &self.transport;
                if let Some(answer) = self.conversations.ask(key, question, || transport.info(at), cx) {
                    self.trace_login(key, || answer.traced());
                    self.server.handle_answer(key, answer, now, &mut self.out);
                }
            }
        }
        let traced = self.tracer.is_on();
        // What the bus has not taken yet was told before.
        if traced && !self.seat.unfinished {
            let name = self.transport.describe().0;
            for (key, command) in &self.out.bus {
                trace_bus(&self.tracer, &self.server, name, *key, command.traced());
            }
        }
        if self.tracer.has_spans() && !self.seat.unfinished {
            self.note_commands();
        }
        self.seat.submit(&mut self.out.bus);
        let Self {
            server,
            transport,
            out,
            tracer,
            ..
        } = self;
        let name = traced.then(|| transport.describe().0.to_owned());
        if out.datagrams() > 0 {
            let (mut bytes, mut packets) = (0, 0);
            out.drain_datagrams(|to, datagram| {
                bytes += datagram.len();
                packets += 1;
                if let (Some(name), Destination::To(to)) = (&name, to) {
                    trace_datagram(tracer, server, "out", name, to, datagram);
                }
                transport.send(to, datagram);
            });
            out.counts
                .add_n(Metric::BytesSent, u32::try_from(bytes).unwrap_or(u32::MAX));
            out.counts.add_n(Metric::PacketsSent, packets);
            let _ = transport.poll_flush(cx);
        }
    }

    /// The spans that begin or end with what is said to the bus, which has heard none of it yet.
    fn note_commands(&mut self) {
        let Self {
            server,
            transport,
            tracer,
            spans,
            out,
            ..
        } = self;
        if let Some(spans) = tracer.pending(spans) {
            for (key, command) in &mut out.bus {
                let key = *key;
                let who = || (transport.describe().0.to_owned(), server.party(key).0);
                spans.command(Some(key), command, &who);
            }
        }
    }

    fn trace_login(&self, key: SessionKey, text: impl Fn() -> String) {
        if self.tracer.is_on() {
            let (client, at) = self.server.party(key);
            let peer = at.map(|at| at.presence().0);
            let party = Party {
                client: client.as_deref(),
                peer: peer.as_ref(),
            };
            self.tracer.login(self.transport.describe().0, party, text);
        }
    }

    /// Whether all clients together have sent more than they may. Then the task will be woken when it is over.
    fn is_slowed(&mut self, now: Instant) -> bool {
        self.shared.until(now).is_some_and(|at| !self.seat.is_due(at))
    }

    /// Whether what is due has waited for what is unread for long enough.
    fn is_overdue(&self, now: Instant) -> bool {
        let deadline = self.server.deadline();
        deadline.is_some_and(|at| at + LATE <= now)
    }

    /// Whether something is due. If not, the task will be woken.
    fn is_due(&mut self, now: Instant) -> bool {
        let deadline = self.server.deadline();
        deadline.is_some_and(|at| at <= now || self.seat.is_due(at))
    }

    /// What everybody may see of the turns just done.
    fn finish(&mut self) {
        self.tally.add(&mut self.out.counts);
        if !self.out.denials.is_empty() {
            denials::settle(
                self.transport.describe().0,
                &mut self.out.denials,
                self.seat.hub(),
                &self.tracer,
            );
        }
        let mut gauges = self.transport.stats().gauges.lock();
        gauges.clear();
        self.server.gauges(&mut |name, n| gauges.push((name, n)));
        self.transport.gauges(&mut |name, n| gauges.push((name, n)));
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let over = self
            .farewell
            .as_mut()
            .is_none_or(|sleep| sleep.as_mut().poll(cx).is_ready());
        if !over {
            ready!(self.transport.poll_flush(cx));
        }
        self.finish();
        let (name, _) = self.transport.describe();
        tracing::info!(listener = %name, "listener stopped");
        Poll::Ready(())
    }
}
