//! The bus itself: its state, the dispatch of commands, the order of acknowledgements, and its timers.

use crate::clients::{Attached, Clients};
use crate::duplicates::Duplicates;
use crate::flush::Flush;
use crate::index::{Index, Matches, Slot};
use crate::links::{LinkReport, Links};
use crate::memory::Memory;
use crate::paging::{Estate, FetchRequest};
use crate::pending::{AckRef, BodyRef, Pending};
use crate::retained::Retained;
use crate::routing::Target;
use crate::session::Session;
use crate::settings::{BusSettings, SettingsError, filter};
use crate::stats::{BusStats, DropReason};
use crate::turns::{self, UnderWay};
use bytes::Bytes;
use hashbrown::HashMap;
use headgate_model::bus::{Presence, Refusal};
use headgate_model::store::MessageId;
use headgate_model::{
    BusCommand, BusEvent, ClientId, CloseReason, EndpointId, Instant, Message, Open, QueueFull, QueueRules,
    SessionId, StoreOp, Subscription, Topic, TopicFilter, WallTime,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

/// What one call wrote down.
#[derive(Debug, Default)]
pub struct BusOutputs {
    /// For endpoints, in order.
    pub events: Vec<(EndpointId, BusEvent)>,
    /// For those who watch.
    pub notices: Vec<Notice>,
}

/// Something operators watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A client is connected. One that sleeps was all the time: it is not told when it wakes.
    Connected {
        /// Who.
        client: ClientId,
        /// The rest of what is known.
        presence: Arc<Presence>,
    },
    /// A client is no longer connected. Not told when it falls asleep, but when it is lost then: as soon as its will is due, or its session ends.
    Disconnected {
        /// Who.
        client: ClientId,
        /// The rest of what is known.
        presence: Arc<Presence>,
        /// Why.
        reason: CloseReason,
    },
    /// A connection gets the session of another that is still there: the client has come back, or its identifier is used twice.
    TakenOver {
        /// Who.
        client: ClientId,
        /// The connection that loses the session.
        old: Arc<Presence>,
        /// The one that gets it.
        new: Arc<Presence>,
    },
    /// A message came round a ring of gateways, or from too far, and was not routed. Told once a minute at most.
    Loop {
        /// Who brought it.
        client: ClientId,
        /// Where it was published to.
        topic: Topic,
        /// Its path, or the end of it.
        path: String,
    },
}

/// A message that waits for its time.
#[derive(Clone, Debug)]
pub(crate) struct Delayed {
    pub message: Arc<Message>,
    /// Where its publisher's session was; another may be there by now.
    pub from: Option<Slot>,
}

/// The bus. See the crate's documentation.
#[derive(Debug)]
pub struct Bus {
    pub(crate) settings: BusSettings,
    /// Of sessions that have no rules of their own.
    pub(crate) queue_rules: QueueRules,
    pub(crate) links: Links,
    pub(crate) duplicates: Duplicates,
    /// The gateway's name among those it is linked with.
    pub(crate) node: Box<str>,
    /// When operators were last told of a loop.
    pub(crate) loop_told: Option<Instant>,
    /// Wall time at [`Instant::START`].
    pub(crate) epoch: WallTime,
    pub(crate) rng: fastrand::Rng,

    pub(crate) sessions: Vec<Option<Box<Session>>>,
    pub(crate) free_slots: Vec<Slot>,
    pub(crate) by_client: Clients,
    pub(crate) endpoints: Attached,
    /// Commands of which a part is done.
    pub(crate) under_way: HashMap<EndpointId, UnderWay>,
    /// Connections that wait for a session until the one that has it has left; and whose session each of them waits for.
    pub(crate) succeeding: BTreeMap<ClientId, (EndpointId, Open)>,
    pub(crate) waits_for: HashMap<EndpointId, ClientId>,
    pub(crate) index: Index,
    pub(crate) retained: Retained,
    pub(crate) delayed: BTreeMap<MessageId, Delayed>,
    pub(crate) delayed_bytes: usize,
    pub(crate) memory: Memory,
    pub(crate) exclusive: HashMap<TopicFilter, Slot>,
    pub(crate) timers: BTreeSet<(Instant, Timer)>,
    /// Sessions whose search for retained messages goes on at the next turn.
    pub(crate) scanning: VecDeque<Slot>,

    pub(crate) next_session: u64,
    /// The store knows that all numbers below this one are given.
    pub(crate) reserved_sessions: u64,
    pub(crate) next_message: u64,

    pub(crate) pending: Pending,
    /// Number of the last batch that is durable.
    pub(crate) committed: u64,
    /// Endpoints with acknowledgements that wait, by the batch.
    waiting: BTreeMap<u64, Vec<EndpointId>>,
    /// What the store is asked to read.
    pub(crate) fetches: Vec<FetchRequest>,
    pub(crate) next_ticket: u64,
    /// Sessions that have ended, while what they held is handed on.
    pub(crate) estates: BTreeMap<SessionId, Estate>,
    /// Sessions whose queue is being emptied.
    pub(crate) flushing: BTreeMap<SessionId, Flush>,
    /// Sizes of all queue entries in the store.
    pub(crate) stored_bytes: usize,
    /// Bytes of QoS 0 that wait for clients that sleep.
    pub(crate) slept_bytes: usize,
    /// Where the first delivery of a new session is numbered, for protocols that take an acknowledgement for a proof; `None` for 0.
    pub(crate) first_numbers: Option<RandomState>,
    /// Somebody looks for what has expired in queues.
    pub(crate) sweep_is_armed: bool,
    /// In this round there was something that expires.
    pub(crate) sweep_finds: bool,
    /// Lanes that are being read for it.
    pub(crate) sweeps: usize,
    /// The store takes no more: only what frees space is written.
    pub(crate) store_is_full: bool,
    /// Sessions that have deliveries to send once a batch is durable.
    held_back: BTreeMap<u64, Vec<(Slot, SessionId)>>,

    /// Scratch of one publish: what matched, whom it goes to, and each session's place among those.
    pub(crate) matches: Matches,
    pub(crate) targets: Vec<Target>,
    pub(crate) marks: Vec<(u32, u32)>,
    pub(crate) stamp: u32,

    /// Steps done so far: copies made, subscriptions changed, topics looked at.
    pub(crate) work: usize,
    pub(crate) counters: Counters,
}

/// Answers that wait, in order: none may overtake another. \[MQTT-4.6.0-2\]
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: VecDeque<Waiting>,
    /// Serial number of the first of them.
    first: u64,
    /// The last batch for which its endpoint is listed as waiting.
    listed_for: u64,
}

/// An answer that waits until what it promises is safe.
#[derive(Debug)]
struct Waiting {
    event: BusEvent,
    /// The QoS 2 identifier that the answer accepts.
    dedup: Option<u16>,
    /// It is safe when this batch is durable,
    batch: u64,
    /// or when all of so many queue entries are settled.
    unsettled: u32,
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs {
    Nothing,
    /// Everything written so far is durable.
    Disk,
    /// Durable, or settled: the queue entries of this body.
    Entries(BodyRef),
}

/// More than can ever be settled.
const DISK_ONLY: u32 = u32::MAX;

impl Answers {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn pop(&mut self) -> Option<Waiting> {
        let answer = self.waiting.pop_front()?;
        self.first += 1;
        Some(answer)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Will(Slot, SessionId),
    SessionEnd(Slot, SessionId),
    HandOver(Slot, SessionId),
    Delayed(MessageId),
    RetainedExpiry(Bytes),
    Sweep(Slot),
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub published: u64,
    pub unmatched: u64,
    pub delivered: u64,
    pub expired_sessions: u64,
    pub dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }
}

/// Timers and searches handled in one turn; the others wait for the next one, so that live traffic gets its share.
const TIMERS_PER_TURN: usize = 256;
const SCANS_PER_TURN: usize = 16;
/// Numbers of sessions that one write to the store is enough for.
const SESSIONS_RESERVED: u64 = 1 << 16;

impl Bus {
    /// An empty bus. `epoch` is the wall time of [`Instant::START`], `seed` makes its random choices repeatable.
    pub fn new(settings: BusSettings, epoch: WallTime, seed: u64) -> Result<Self, SettingsError> {
        if let Some((_, error)) = settings.errors().into_iter().next() {
            return Err(error);
        }
        let settings = settings.without_zeros();
        let priorities = settings
            .priorities
            .iter()
            .map(|p| Ok((filter("priorities.topic", &p.topic)?, p.priority)))
            .collect::<Result<_, SettingsError>>()?;
        let queue_rules = QueueRules {
            max_messages: settings.max_queued_messages,
            max_bytes: settings.max_queued_bytes,
            max_age: Duration::ZERO,
            when_full: settings.when_full,
            store_qos0: settings.store_qos0,
            priorities,
        };
        let links = Links {
            refusing: settings.when_full == QueueFull::Refuse,
            ..Links::default()
        };
        let memory = Memory::new(settings.max_memory_bytes.unwrap_or(usize::MAX));
        let duplicates = Duplicates::new(settings.links.duplicate_window, seed);
        Ok(Self {
            settings,
            queue_rules,
            links,
            duplicates,
            node: Box::default(),
            loop_told: None,
            epoch,
            rng: fastrand::Rng::with_seed(seed),
            sessions: Vec::new(),
            free_slots: Vec::new(),
            by_client: Clients::default(),
            endpoints: Attached::default(),
            under_way: HashMap::new(),
            succeeding: BTreeMap::new(),
            waits_for: HashMap::new(),
            index: Index::default(),
            retained: Retained::default(),
            delayed: BTreeMap::new(),
            delayed_bytes: 0,
            memory,
            exclusive: HashMap::new(),
            timers: BTreeSet::new(),
            scanning: VecDeque::new(),
            next_session: 1,
            reserved_sessions: 1,
            next_message: 1,
            pending: Pending::default(),
            committed: 0,
            waiting: BTreeMap::new(),
            fetches: Vec::new(),
            next_ticket: 1,
            estates: BTreeMap::new(),
            flushing: BTreeMap::new(),
            stored_bytes: 0,
            slept_bytes: 0,
            first_numbers: None,
            sweep_is_armed: false,
            sweep_finds: false,
            sweeps: 0,
            store_is_full: false,
            held_back: BTreeMap::new(),
            matches: Matches::default(),
            targets: Vec::new(),
            marks: Vec::new(),
            stamp: 0,
            work: 0,
            counters: Counters::default(),
        })
    }

    /// The name by which the gateway is known again in the path of a message. Without one no path is a loop, but for its length.
    pub fn set_node(&mut self, node: &str) {
        self.node = node.into();
    }

    /// Takes one command of an endpoint and does a first slice of it. Whether there is more: then [`Bus::go_on`] is to be called before the endpoint's
    /// next command.
    pub fn begin(
        &mut self,
        from: EndpointId,
        command: BusCommand,
        now: Instant,
        out: &mut BusOutputs,
    ) -> bool {
        self.work += turns::COMMAND;
        self.look_at_memory();
        let slot = self.endpoints.find(from, &self.sessions);
        match (command, slot) {
            (BusCommand::Open(open), _) => self.open(from, *open, now, out),
            (BusCommand::Close { reason, expiry }, _) => self.leave(from, reason, expiry, now, out),
            (_, None) => {}
            (BusCommand::Subscribe { token, subscriptions }, Some(_)) => {
                return self.start(from, UnderWay::subscribe(token, subscriptions), now, out);
            }
            (BusCommand::Unsubscribe { token, subscriptions }, Some(_)) => {
                return self.start(from, UnderWay::unsubscribe(token, subscriptions), now, out);
            }
            (command, Some(slot)) => self.handle_short(from, slot, command, now, out),
        }
        false
    }

    fn handle_short(
        &mut self,
        from: EndpointId,
        slot: Slot,
        command: BusCommand,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        match command {
            BusCommand::Open(_)
            | BusCommand::Close { .. }
            | BusCommand::Subscribe { .. }
            | BusCommand::Unsubscribe { .. } => {}
            BusCommand::Publish { message, ack, dedup } => {
                self.publish_from(from, slot, message.into_inner(), ack, dedup, now, out);
            }
            BusCommand::Release(packet) => self.release(from, slot, packet, out),
            BusCommand::Settle(id, settlement) => self.settle(from, slot, id, settlement, now, out),
            BusCommand::Credit { deliveries, bytes } => {
                let session = self.session_mut(slot);
                session.credit = session.credit.saturating_add(deliveries);
                session.unread = session.unread.saturating_sub(bytes);
                self.pump(slot, now, out);
            }
            BusCommand::TellWhenDrained => {
                self.session_mut(slot).tell_drained = true;
                self.pump(slot, now, out);
            }
            BusCommand::FallAsleep { patience, expiry } => {
                self.fall_asleep(from, slot, patience, expiry, now, out);
            }
            BusCommand::ChangeWill(change) => self.change_will(from, slot, change, out),
            BusCommand::ChangeRules(client) => {
                self.session_mut(slot).presence = Arc::clone(client.who());
                self.look_at_rules(slot);
            }
        }
    }

    /// A message of the gateway itself.
    pub fn publish(&mut self, message: Message, now: Instant, out: &mut BusOutputs) {
        // Nobody waits for an answer: a refusal (a full `$delayed/` list) is counted where it happens.
        let _ = self.ingest(message, None, now, out);
    }

    /// Throws a client out. Whether it was connected.
    pub fn kick(&mut self, client: &str, now: Instant, out: &mut BusOutputs) -> bool {
        let Some(slot) = self.by_client.find(client, &self.sessions) else {
            return false;
        };
        let Some(endpoint) = self.session(slot).endpoint else {
            return false;
        };
        out.events.push((endpoint, BusEvent::Kicked));
        self.leave(endpoint, CloseReason::Kicked, None, now, out);
        true
    }

    /// Ends a session for good, with all that it holds; its client is thrown out. Whether there was one.
    pub fn remove_session(&mut self, client: &str, now: Instant, out: &mut BusOutputs) -> bool {
        // Whoever waited for the session has it next.
        while self.kick(client, now, out) {}
        let slot = self.by_client.find(client, &self.sessions);
        if let Some(slot) = slot {
            self.end_session(slot, now, out);
        }
        slot.is_some()
    }

    /// When [`Bus::handle_timeout`] is next wanted.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.scanning.is_empty() {
            return Some(Instant::START);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due: wills, session ends, delayed messages, expired retained messages, the next step of searches. Never much at once:
    /// when more is due, [`Bus::deadline`] says so.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut BusOutputs) {
        let enough = self.work + Self::steps_of_a_turn();
        for _ in 0..TIMERS_PER_TURN {
            if self.work >= enough || self.timers.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            self.work += turns::TIMER;
            self.look_at_memory();
            let (_, timer) = self.timers.pop_first().expect("just looked at");
            match timer {
                Timer::Will(slot, id) => self.will_is_due(slot, id, now, out),
                Timer::SessionEnd(slot, id) => self.session_may_end(slot, id, now, out),
                Timer::HandOver(slot, id) => self.hand_over(slot, id, now, out),
                Timer::Delayed(id) => self.publish_delayed(id, now, out),
                Timer::RetainedExpiry(topic) => self.expire_retained(&topic, now),
                Timer::Sweep(from) => self.sweep(from, now),
            }
        }
        for _ in 0..SCANS_PER_TURN.min(self.scanning.len()) {
            let Some(slot) = self.scanning.pop_front() else {
                break;
            };
            if let Some(session) = self.sessions[slot as usize].as_mut() {
                session.scan_listed = false;
                self.pump(slot, now, out);
            }
        }
    }

    /// When the open batch shall be committed, and what is asked for be fetched; `None` when there is nothing of either.
    pub fn commit_due(&self) -> Option<Instant> {
        if self.fetches.is_empty() {
            self.batch_due()
        } else {
            Some(Instant::START)
        }
    }

    /// When the open batch shall be committed; `None` when it is empty.
    pub fn batch_due(&self) -> Option<Instant> {
        self.pending.due()
    }

    /// Operations in the open batch.
    pub fn pending_ops(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of the bodies and wills in the open batch.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// The open batch with its number; `None` when it is empty. Batches must be committed in order and reported to [`Bus::committed`] or
    /// [`Bus::commit_failed`].
    pub fn take_batch(&mut self) -> Option<(u64, Vec<StoreOp>)> {
        self.pending.due()?;
        let (number, mut ops) = self.pending.take();
        // Whatever it holds is of sessions with numbers below `next_session`.
        if self.next_session > self.reserved_sessions {
            self.reserved_sessions = self.next_session + SESSIONS_RESERVED;
            ops.push(StoreOp::ReserveSessions(SessionId(self.reserved_sessions)));
        }
        Some((number, ops))
    }

    /// Whether the store takes more than what frees space.
    pub fn set_store_full(&mut self, full: bool) {
        self.store_is_full = full;
    }

    /// All batches up to this one are durable: what waited for them is answered.
    pub fn committed(&mut self, batch: u64, now: Instant, out: &mut BusOutputs) {
        self.committed = self.committed.max(batch);
        self.look_at_memory();
        for endpoint in self.take_waiting(batch) {
            self.release_answers(endpoint, now, out);
        }
        self.pump_held_back(batch, now, out);
        self.go_on_flushing(now, out);
    }

    /// Sends the answers of an endpoint that wait for nothing any more.
    fn release_answers(&mut self, to: EndpointId, now: Instant, out: &mut BusOutputs) {
        let committed = self.committed;
        while let Some(slot) = self.endpoints.find(to, &self.sessions) {
            let safe = |answer: &Waiting| answer.unsettled == 0 || answer.batch <= committed;
            let answers = self.session_mut(slot).answers.as_deref_mut();
            let Some(answers) = answers.filter(|answers| answers.waiting.front().is_some_and(safe)) else {
                return;
            };
            let event = answers.pop().expect("just looked at").event;
            let opened = matches!(event, BusEvent::Opened { .. });
            // Most clients need no other for long. It was the first, so no queue entry knows an answer by its number.
            if opened && answers.is_empty() {
                self.session_mut(slot).answers = None;
            }
            out.events.push((to, event));
            if opened {
                self.finish_open(slot, now, out);
            } else if !self.session(slot).scans.is_empty() {
                self.pump(slot, now, out);
            }
        }
    }

    /// One of the queue entries that an answer waits for is settled.
    pub(crate) fn entry_settled(&mut self, ack: AckRef, now: Instant, out: &mut BusOutputs) {
        let Some(slot) = self.endpoints.find(ack.endpoint, &self.sessions) else {
            return;
        };
        let Some(answers) = self.session_mut(slot).answers.as_deref_mut() else {
            return;
        };
        let at = ack.serial.checked_sub(answers.first).map(usize::try_from);
        let Some(Ok(at)) = at else { return };
        let Some(answer) = answers.waiting.get_mut(at) else {
            return;
        };
        if answer.unsettled != DISK_ONLY {
            answer.unsettled -= 1;
        }
        if answer.unsettled == 0 && at == 0 {
            self.release_answers(ack.endpoint, now, out);
        }
    }

    /// Lists the session to go on when the open batch is durable; that batch's number.
    pub(crate) fn wait_for_commit(&mut self, slot: Slot) -> u64 {
        let batch = self.pending.number;
        let session = self.session_mut(slot);
        if session.listed_for != batch {
            session.listed_for = batch;
            let id = session.id;
            self.held_back.entry(batch).or_default().push((slot, id));
        }
        batch
    }

    fn pump_held_back(&mut self, batch: u64, now: Instant, out: &mut BusOutputs) {
        let later = self.held_back.split_off(&(batch + 1));
        for (slot, id) in std::mem::replace(&mut self.held_back, later)
            .into_values()
            .flatten()
        {
            if self.sessions[slot as usize]
                .as_deref()
                .is_some_and(|session| session.id == id)
            {
                self.pump(slot, now, out);
            }
        }
    }

    /// The batches up to this one could not be made durable: nothing they hold is promised. Publishers are refused; whoever waited for
    /// something else is thrown out, to come back and ask again.
    pub fn commit_failed(&mut self, batch: u64, now: Instant, out: &mut BusOutputs) {
        self.committed = self.committed.max(batch);
        self.duplicates.clear();
        self.reserved_sessions = 0; // It may have been in there.
        for to in self.take_waiting(batch) {
            while let Some(slot) = self.endpoints.find(to, &self.sessions) {
                let concerned = |answer: &Waiting| answer.unsettled == 0 || answer.batch <= batch;
                let answers = self.session_mut(slot).answers.as_deref_mut();
                let Some(answers) = answers.filter(|answers| answers.waiting.front().is_some_and(concerned))
                else {
                    break;
                };
                let answer = answers.pop().expect("just looked at");
                self.answer_failed(to, answer, now, out);
            }
        }
        self.pump_held_back(batch, now, out);
        self.go_on_flushing(now, out);
    }

    fn answer_failed(&mut self, to: EndpointId, answer: Waiting, now: Instant, out: &mut BusOutputs) {
        let Waiting {
            event,
            dedup,
            unsettled,
            ..
        } = answer;
        match event {
            event if unsettled == 0 => out.events.push((to, event)),
            BusEvent::Accepted(token, _) => {
                // What the publisher sends under this identifier from now on is a new message. [MQTT-4.3.3-9]
                if let Some((packet, slot)) = dedup.zip(self.endpoints.find(to, &self.sessions)) {
                    self.session_mut(slot).received.remove(packet);
                }
                out.events
                    .push((to, BusEvent::Refused(token, Refusal::StoreFailed)));
            }
            _ => {
                out.events.push((to, BusEvent::Kicked));
                self.leave(to, CloseReason::Kicked, None, now, out);
            }
        }
    }

    fn take_waiting(&mut self, batch: u64) -> impl Iterator<Item = EndpointId> + use<> {
        let later = self.waiting.split_off(&(batch + 1));
        std::mem::replace(&mut self.waiting, later)
            .into_values()
            .flatten()
    }

    /// Answers an endpoint: now, or when what it `needs` is safe; never before an earlier answer. Whether it was now.
    pub(crate) fn answer(
        &mut self,
        to: EndpointId,
        event: BusEvent,
        needs: Needs,
        out: &mut BusOutputs,
    ) -> bool {
        self.answer_publish(to, event, None, needs, out)
    }

    /// [`Bus::answer`] that accepts a QoS 2 publish of this identifier.
    pub(crate) fn answer_publish(
        &mut self,
        to: EndpointId,
        event: BusEvent,
        dedup: Option<u16>,
        needs: Needs,
        out: &mut BusOutputs,
    ) -> bool {
        let Some(slot) = self.endpoints.find(to, &self.sessions) else {
            return false;
        };
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session");
        let unsettled = match needs {
            Needs::Nothing => 0,
            Needs::Disk => {
                self.pending.hurry();
                DISK_ONLY
            }
            Needs::Entries(body) => {
                let answers = session.answers.get_or_insert_default();
                let serial = answers.first + answers.waiting.len() as u64;
                self.pending.set_ack(body, AckRef { endpoint: to, serial })
            }
        };
        let batch = self.pending.last();
        let safe = unsettled == 0 || batch <= self.committed;
        if safe && !session.answer_waits() {
            out.events.push((to, event));
            return true;
        }
        let answers = session.answers.get_or_insert_default();
        if answers.waiting.capacity() == 0 {
            answers.waiting.reserve_exact(1); // And not four: for most there is one, once.
        }
        answers.waiting.push_back(Waiting {
            event,
            dedup,
            batch,
            unsettled: if safe { 0 } else { unsettled },
        });
        if !safe && answers.listed_for < batch {
            answers.listed_for = batch;
            self.waiting.entry(batch).or_default().push(to);
        }
        false
    }

    /// Whether an answer to this endpoint still waits for the store.
    pub(crate) fn is_waiting(&self, endpoint: EndpointId) -> bool {
        let slot = self.endpoints.find(endpoint, &self.sessions);
        slot.is_some_and(|slot| self.session(slot).answer_waits())
    }

    pub(crate) fn session(&self, slot: Slot) -> &Session {
        self.sessions[slot as usize]
            .as_deref()
            .expect("a slot in use holds a session")
    }

    pub(crate) fn session_mut(&mut self, slot: Slot) -> &mut Session {
        self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session")
    }

    /// The ledger of a link; `None` when there is no such session, or it is none.
    pub fn link_report(&self, client: &str, now: Instant) -> Option<LinkReport> {
        let slot = self.by_client.find(client, &self.sessions)?;
        self.session(slot).report(now)
    }

    /// What a client's session is subscribed to.
    pub fn subscriptions_of(&self, client: &str) -> Vec<Subscription> {
        let slot = self.by_client.find(client, &self.sessions);
        let held = slot.map(|slot| self.session(slot).subscriptions.iter().cloned().collect());
        held.unwrap_or_default()
    }

    /// Gauges and counters now.
    pub fn stats(&self) -> BusStats {
        let mut stats = BusStats {
            clients: self.endpoints.len(),
            sessions: self.by_client.len(),
            filters: self.index.filters(),
            retained: self.retained.len(),
            delayed: self.delayed.len(),
            published: self.counters.published,
            unmatched: self.counters.unmatched,
            delivered: self.counters.delivered,
            expired_sessions: self.counters.expired_sessions,
            dropped: self.counters.dropped,
            memory: self.memory_stats(),
            ..BusStats::default()
        };
        for session in self.sessions.iter().flatten() {
            stats.durable_sessions += usize::from(session.durable);
            stats.subscriptions += session.subscriptions.len();
            stats.queued += session.queue_len();
            stats.queued_bytes += session.queued_bytes + session.lanes.bytes();
            stats.inflight += session.inflight.len();
        }
        debug_assert_eq!(self.memory.sums(), self.memory_of_sessions());
        stats
    }
}
