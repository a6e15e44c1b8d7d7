//! The bus itself: its parts, the dispatch of commands, and what is due by the clock.

use crate::acks::Acks;
use crate::delayed::DelayedMessages;
use crate::duplicates::Duplicates;
use crate::flush::Flush;
use crate::gauges::Gauges;
use crate::index::Index;
use crate::links::{LinkReport, Links};
use crate::memory::Memory;
use crate::numbers::Numbers;
use crate::pending::Pending;
use crate::requests::Request;
use crate::retention::Retention;
use crate::routing::Router;
use crate::sessions::{Sessions, Slot};
use crate::settings::{BusSettings, SettingsError, filter};
use crate::shared::{Redistribution, Strays};
use crate::slow::Slow;
use crate::stamp::Stamps;
use crate::stats::{BusStats, DropReason};
use crate::store::StoreUse;
use crate::sweep::Sweep;
use crate::take_overs::TakeOvers;
use crate::timers::{Timer, Timers};
use crate::turns::{self, UnderWay};
use hashbrown::HashMap;
use headgate_model::bus::{Presence, Refusal};
use headgate_model::{
    Admitted, BusCommand, BusEvent, ClientId, CloseReason, EndpointId, Instant, Qos, QueueFull, QueueRules,
    SessionId, StoreOp, Subscription, Topic, WallTime,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What one call wrote down.
#[derive(Debug, Default)]
pub struct BusOutputs {
    /// For endpoints, in order.
    pub events: Vec<(EndpointId, BusEvent)>,
    /// For those who watch.
    pub notices: Vec<Notice>,
    /// For the gateway itself: [`Bus::take_requests`].
    pub requests: Vec<Request>,
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

/// The bus. See the crate's documentation.
#[derive(Debug)]
pub struct Bus {
    pub(crate) settings: BusSettings,
    /// Of sessions that have no rules of their own.
    pub(crate) queue_rules: QueueRules,
    /// Wall time at [`Instant::START`].
    pub(crate) epoch: WallTime,
    pub(crate) rng: fastrand::Rng,
    pub(crate) numbers: Numbers,

    pub(crate) sessions: Sessions,
    pub(crate) timers: Timers,
    pub(crate) take_overs: TakeOvers,
    /// Commands of which a part is done.
    pub(crate) under_way: HashMap<EndpointId, UnderWay>,
    pub(crate) index: Index,
    pub(crate) router: Router,
    pub(crate) strays: Strays,
    pub(crate) retention: Retention,
    pub(crate) delayed: DelayedMessages,
    pub(crate) links: Links,
    /// Where requests to the gateway itself are published.
    pub(crate) requested: Option<Topic>,
    pub(crate) looks_closer: bool,

    /// The open batch.
    pub(crate) pending: Pending,
    pub(crate) acks: Acks,
    pub(crate) store: StoreUse,
    pub(crate) sweep: Sweep,
    /// Sessions whose queue is being emptied.
    pub(crate) flushing: BTreeMap<SessionId, Flush>,
    /// Sessions that have ended, while what they had is given to others.
    pub(crate) redistributing: BTreeMap<SessionId, Redistribution>,

    pub(crate) memory: Memory,
    pub(crate) gauges: Gauges,
    pub(crate) counters: Counters,
    pub(crate) slow: Slow,
    pub(crate) stamps: Stamps,
    /// Steps done so far: copies made, subscriptions changed, topics looked at.
    pub(crate) work: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub published: u64,
    pub unmatched: u64,
    pub delivered: u64,
    pub expired_sessions: u64,
    pub refused_notes: u64,
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

/// Settings without faults, and the rules of queues that follow from them.
fn checked(settings: BusSettings) -> Result<(BusSettings, QueueRules), SettingsError> {
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
    Ok((settings, queue_rules))
}

impl Bus {
    /// An empty bus. `epoch` is the wall time of [`Instant::START`], `seed` makes its random choices repeatable.
    pub fn new(settings: BusSettings, epoch: WallTime, seed: u64) -> Result<Self, SettingsError> {
        let (settings, queue_rules) = checked(settings)?;
        let memory = Memory::new(settings.max_memory_bytes.unwrap_or(usize::MAX));
        let duplicates = Duplicates::new(settings.links.duplicate_window, seed);
        let links = Links::new(duplicates, settings.when_full == QueueFull::Refuse);
        let mut sessions = Sessions::default();
        sessions.count_users(settings.max_connections_per_user > 0);
        let looks_closer = settings.stamp;
        Ok(Self {
            settings,
            queue_rules,
            epoch,
            rng: fastrand::Rng::with_seed(seed),
            numbers: Numbers::default(),
            sessions,
            timers: Timers::default(),
            take_overs: TakeOvers::default(),
            under_way: HashMap::new(),
            index: Index::default(),
            router: Router::default(),
            strays: Strays::default(),
            retention: Retention::default(),
            delayed: DelayedMessages::default(),
            links,
            requested: None,
            looks_closer,
            pending: Pending::default(),
            acks: Acks::default(),
            store: StoreUse::default(),
            sweep: Sweep::default(),
            flushing: BTreeMap::new(),
            redistributing: BTreeMap::new(),
            memory,
            gauges: Gauges::default(),
            counters: Counters::default(),
            slow: Slow::default(),
            stamps: Stamps::default(),
            work: 0,
        })
    }

    /// Other settings from now on. What is there stays: what is longer than a new limit gets nothing more until it is shorter. How many deliveries may be under
    /// way to a client, and how long a session lives, is decided when the client connects.
    pub fn set_settings(&mut self, settings: BusSettings) -> Result<(), SettingsError> {
        let (settings, queue_rules) = checked(settings)?;
        self.memory
            .limit
            .set_max(settings.max_memory_bytes.unwrap_or(usize::MAX));
        self.links.duplicates.set_window(settings.links.duplicate_window);
        self.links.refusing |= settings.when_full == QueueFull::Refuse;
        self.sessions.count_users(settings.max_connections_per_user > 0);
        (self.settings, self.queue_rules) = (settings, queue_rules);
        self.set_looks_closer();
        Ok(())
    }

    /// The name by which the gateway is known again in the path of a message. Without one no path is a loop, but for its length.
    pub fn set_node(&mut self, node: &str) {
        self.links.node = node.into();
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
        let slot = self.sessions.of_endpoint(from);
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
            BusCommand::SubscribeOnly { token, subscription } => {
                self.subscribe_only(from, slot, token, subscription.into_inner(), now, out);
            }
            BusCommand::Publish { message, ack, dedup } => {
                self.publish_from(from, slot, message.into_inner(), ack, dedup, now, out);
            }
            BusCommand::Release(packet) => self.release(from, slot, packet, out),
            BusCommand::Settle(id, settlement) => self.settle(from, slot, id, settlement, now, out),
            BusCommand::Credit { deliveries, bytes } => {
                self.sessions[slot].deliveries.grant(deliveries, bytes);
                self.pump(slot, now, out);
            }
            BusCommand::TellWhenDrained => {
                if let Some(attached) = self.sessions[slot].attachment.attached_mut() {
                    attached.tell_drained = true;
                }
                self.pump(slot, now, out);
            }
            BusCommand::FallAsleep { patience, expiry } => {
                self.fall_asleep(from, slot, patience, expiry, now, out);
            }
            BusCommand::Read { token, topic } => self.read_retained(from, slot, token, &topic, now, out),
            BusCommand::ChangeWill(change) => self.change_will(from, slot, change, out),
            BusCommand::SetNote(note) => self.set_note(from, slot, &note, out),
            BusCommand::ChangeRules(client) => {
                self.sessions[slot].presence = Arc::clone(client.who());
                self.look_at_rules(slot, now, out);
            }
        }
    }

    /// Throws a client out. Whether it was connected.
    pub fn kick(&mut self, client: &str, now: Instant, out: &mut BusOutputs) -> bool {
        let Some(slot) = self.sessions.of_client(client) else {
            return false;
        };
        let Some(endpoint) = self.sessions[slot].endpoint() else {
            return false;
        };
        out.events.push((endpoint, BusEvent::Kicked));
        self.leave(endpoint, CloseReason::Kicked, None, now, out);
        true
    }

    /// Subscribes a session on behalf of its client, which hears nothing of that. What may not be read by the client's rules is not delivered. `None` when it has
    /// no session.
    pub fn subscribe_for(
        &mut self,
        client: &str,
        subscription: Admitted<Subscription>,
        now: Instant,
        out: &mut BusOutputs,
    ) -> Option<Result<Qos, Refusal>> {
        let slot = self.sessions.of_client(client)?;
        let granted = self.add_subscription(slot, subscription.into_inner());
        if self.sessions[slot].is_online() {
            self.pump(slot, now, out);
        }
        Some(granted)
    }

    /// Ends a subscription of a session on behalf of its client. Whether there was one; `None` when there is no session.
    pub fn unsubscribe_for(
        &mut self,
        client: &str,
        subscription: Admitted<Subscription>,
        now: Instant,
        out: &mut BusOutputs,
    ) -> Option<bool> {
        let slot = self.sessions.of_client(client)?;
        Some(self.remove_subscription(slot, subscription.into_inner(), now, out))
    }

    /// Ends a session for good, with all that it holds; its client is thrown out. Whether there was one.
    pub fn remove_session(&mut self, client: &str, now: Instant, out: &mut BusOutputs) -> bool {
        let existed = self.sessions.of_client(client).is_some();
        // Whoever waited for the session has it next.
        while self.kick(client, now, out) {}
        if let Some(slot) = self.sessions.of_client(client) {
            self.end_session(slot, now, out);
        }
        existed
    }

    /// When [`Bus::handle_timeout`] is next wanted.
    pub fn deadline(&self) -> Option<Instant> {
        if self.retention.searching() > 0 {
            return Some(Instant::START);
        }
        self.timers
            .deadline()
            .into_iter()
            .chain(self.delayed.deadline())
            .chain(self.retention.messages.deadline())
            .chain(self.sweep.deadline())
            .min()
    }

    /// Does what is due: wills, session ends, delayed messages, expired retained messages, the next step of searches. Never much at once:
    /// when more is due, [`Bus::deadline`] says so.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut BusOutputs) {
        let enough = self.work + Self::steps_of_a_turn();
        for _ in 0..TIMERS_PER_TURN {
            if self.work >= enough || !self.do_what_is_due_first(now, out) {
                break;
            }
        }
        for _ in 0..SCANS_PER_TURN.min(self.retention.searching()) {
            let Some(slot) = self.retention.next_search() else {
                break;
            };
            if let Some(session) = self.sessions.get_mut(slot) {
                session.scan_listed = false;
                self.pump(slot, now, out);
            }
        }
    }

    /// Does what has been due for the longest. Whether there was anything.
    fn do_what_is_due_first(&mut self, now: Instant, out: &mut BusOutputs) -> bool {
        // Of those due at the same time, the first one here.
        let parts = [
            self.timers.deadline(),
            self.delayed.deadline(),
            self.retention.messages.deadline(),
            self.sweep.deadline(),
        ];
        let due = (0..).zip(parts).filter_map(|(part, at)| Some((at?, part)));
        let Some((_, part)) = due.min().filter(|(at, _)| *at <= now) else {
            return false;
        };
        self.work += turns::TIMER;
        self.look_at_memory();
        match part {
            0 => match self.timers.pop() {
                Some(Timer::Will(session)) => self.will_is_due(session, now, out),
                Some(Timer::SessionEnd(session)) => self.session_may_end(session, now, out),
                Some(Timer::TakeOver(session)) => self.take_over_is_due(session, now, out),
                None => {}
            },
            1 => {
                if let Some(id) = self.delayed.pop_due() {
                    self.publish_delayed(id, now, out);
                }
            }
            2 => self.expire_retained(),
            _ => self.sweep(now),
        }
        true
    }

    /// When the open batch shall be committed, and what is asked for be fetched; `None` when there is nothing of either.
    pub fn commit_due(&self) -> Option<Instant> {
        if self.store.asks() {
            Some(Instant::START)
        } else {
            self.batch_due()
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

    /// Bytes of the bodies, wills and notes in the open batch.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// The open batch with its number; `None` when it is empty. Batches must be committed in order and reported to [`Bus::committed`] or
    /// [`Bus::commit_failed`].
    pub fn take_batch(&mut self) -> Option<(u64, Vec<StoreOp>)> {
        self.pending.due()?;
        let (number, mut ops) = self.pending.take();
        ops.extend(self.numbers.reserve());
        Some((number, ops))
    }

    /// Whether the store takes more than what frees space.
    pub fn set_store_full(&mut self, full: bool) {
        self.store.is_full = full;
    }

    /// The ledger of a link; `None` when there is no such session, or it is none.
    pub fn link_report(&self, client: &str, now: Instant) -> Option<LinkReport> {
        let slot = self.sessions.of_client(client)?;
        self.sessions[slot].report(now)
    }

    /// Gauges and counters now.
    pub fn stats(&self) -> BusStats {
        let (gauges, counters) = (&self.gauges, &self.counters);
        let queued = gauges.queued();
        BusStats {
            clients: self.sessions.attached(),
            sessions: self.sessions.len(),
            durable_sessions: gauges.durable,
            subscriptions: gauges.subscriptions,
            durable_subscriptions: gauges.durable_subscriptions,
            filters: self.index.filters(),
            retained: self.retention.messages.counted(),
            durable_retained: self.retention.messages.durable(),
            delayed: self.delayed.len(),
            queued: queued.entries,
            queued_bytes: queued.bytes,
            memory: self.memory_stats(),
            inflight: gauges.inflight.entries,
            expired_sessions: counters.expired_sessions,
            refused_notes: counters.refused_notes,
            published: counters.published,
            unmatched: counters.unmatched,
            delivered: counters.delivered,
            dropped: counters.dropped,
        }
    }

    /// Panics if the gauges are not what a walk through all sessions finds: for tests, which call it after every step.
    pub fn check_gauges(&self) {
        let mut sum = Gauges::default();
        let (mut sessions, mut attached, mut names) = (0, 0, 0);
        for (_, session) in self.sessions.iter() {
            sum += session.gauges();
            sessions += 1;
            attached += usize::from(session.is_attached());
            names += session.client.as_str().len();
        }
        assert_eq!(self.gauges, sum, "gauges are the sum of all sessions");
        let known = (
            self.sessions.len(),
            self.sessions.attached(),
            self.sessions.names(),
        );
        assert_eq!(
            known,
            (sessions, attached, names),
            "sessions are found by their names"
        );
    }
}
