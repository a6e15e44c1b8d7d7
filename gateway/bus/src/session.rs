//! A session: what the bus knows of one client, connected or not. MQTT 5 §4.1.

use crate::bus::{Answers, Notice};
use crate::index::GroupId;
use crate::lanes::Lanes;
use crate::ledger::seconds;
use crate::links::LinkState;
use crate::pending::EntryRef;
use crate::settings::BusSettings;
use crate::stats::DropReason;
use bytes::Bytes;
use headgate_model::bus::{NEVER, Presence};
use headgate_model::memory::Charge;
use headgate_model::store::{SessionRecord, StoredWill};
use headgate_model::{
    ClientId, CloseReason, Delivery, DeliveryId, EndpointId, Instant, Message, Qos, QueueRules, SessionId,
    Share, Subscription, SubscriptionIds, SubscriptionOptions, TopicFilter, WallTime, Will,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// When a will is due whose client said goodbye and kept it: never. See [`CloseReason::KeepingWill`](headgate_model::CloseReason).
pub(crate) const NOT_DUE: Instant = Instant(u64::MAX);
/// The same in the store.
pub(crate) const NEVER_DUE: WallTime = WallTime(u64::MAX);

/// Bytes that may wait in memory for a durable session; what comes then waits in the store alone.
const BYTES_IN_MEMORY: usize = 256 << 10;

/// How much may be handed over to one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    /// The last batch that is durable.
    pub committed: u64,
    /// Bytes that it has not written out.
    pub unread: u32,
    /// Bytes of QoS 1 and 2 that it has not settled.
    pub inflight: u32,
}

/// What waits in memory and what is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub entries: usize,
    /// As each delivery counts, though several may share a message.
    pub bytes: usize,
}

/// One delivery that waits or is under way.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub message: Arc<Message>,
    pub subscription_ids: Option<Box<SubscriptionIds>>,
    /// In the store, for durable sessions and QoS above 0.
    pub entry: Option<EntryRef>,
    /// Counts the QoS 1 and 2 deliveries of the session; meaningless at QoS 0.
    pub seq: u64,
    /// The shared subscription it came by, zero for none.
    pub group: GroupId,
    pub qos: Qos,
    pub retain: bool,
    /// Handed to an endpoint before: DUP.
    pub sent: bool,
    /// QoS 2: PUBREC came.
    pub received: bool,
    /// Received on an earlier connection: only its PUBREL is under way, which does not count against the quota. MQTT 5 §4.9.
    pub carried: bool,
    pub priority: u8,
    /// Since when it waits, in [`seconds`](crate::ledger::seconds).
    pub since: u32,
}

const _: () = assert!(
    size_of::<Queued>() <= 64,
    "a client that is slow holds hundreds of these"
);

/// When a delivery expires, in seconds, rounded up; `u32::MAX` for never.
fn expires(queued: &Queued) -> u32 {
    queued.message.expires_at.map_or(u32::MAX, seconds)
}

impl Queued {
    pub(crate) fn id(&self) -> Option<DeliveryId> {
        (self.qos > Qos::AtMostOnce).then(|| delivery_id(self.seq))
    }

    pub(crate) fn delivery(&self) -> Delivery {
        Delivery {
            message: Arc::clone(&self.message),
            id: self.id(),
            qos: self.qos,
            retain: self.retain,
            redelivered: self.sent,
            subscription_ids: self.subscription_ids.clone(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.message.size()
    }
}

/// Names of deliveries; the next one after so many is the first one again.
pub(crate) const DELIVERY_IDS: u64 = 65_535;

/// See [`DeliveryId`].
pub(crate) fn delivery_id(seq: u64) -> DeliveryId {
    let number = u16::try_from(seq % DELIVERY_IDS).expect("below 65,535") + 1;
    NonZeroU16::new(number).expect("at least one")
}

/// A search for retained messages that a new subscription asked for.
#[derive(Debug)]
pub(crate) struct Scan {
    pub options: SubscriptionOptions,
    pub after: Option<Bytes>,
}

/// The searches of a session, one for each filter at most: who subscribes again before it is over lets it begin anew. Most sessions have none.
#[derive(Debug, Default)]
pub(crate) struct Scans(Option<Box<BTreeMap<TopicFilter, Scan>>>);

impl Scans {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn insert(&mut self, filter: TopicFilter, scan: Scan) {
        self.0.get_or_insert_default().insert(filter, scan);
    }

    pub(crate) fn pop_first(&mut self) -> Option<(TopicFilter, Scan)> {
        let scan = self.0.as_mut()?.pop_first();
        self.0 = self.0.take().filter(|scans| !scans.is_empty());
        scan
    }

    /// What this filter searched for is not wanted any more.
    pub(crate) fn forget(&mut self, filter: &TopicFilter) {
        if let Some(scans) = &mut self.0 {
            scans.remove(filter);
        }
        self.0 = self.0.take().filter(|scans| !scans.is_empty());
    }
}

/// Packet identifiers that the client has yet to release. Boxed at the first: most clients never publish at QoS 2.
#[derive(Debug, Default)]
pub(crate) struct Received(Option<Box<Packets>>);

#[derive(Debug, Default)]
struct Packets {
    ids: BTreeSet<u16>,
    /// In the ledger of memory.
    charge: Charge,
}

/// What an identifier takes, with what waits for the store of it.
const RECEIVED: usize = 64;

impl Received {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |packets| packets.ids.len())
    }

    pub(crate) fn contains(&self, packet: u16) -> bool {
        self.0
            .as_ref()
            .is_some_and(|packets| packets.ids.contains(&packet))
    }

    pub(crate) fn insert(&mut self, packet: u16) {
        let packets = self.0.get_or_insert_default();
        packets.ids.insert(packet);
        packets.charge.set(packets.ids.len() * RECEIVED);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, packet: u16) -> bool {
        let Some(packets) = &mut self.0 else { return false };
        let known = packets.ids.remove(&packet);
        packets.charge.set(packets.ids.len() * RECEIVED);
        known
    }
}

/// What a session is subscribed to, by filter and group. A sorted list, for most sessions have few.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<Box<Subscription>>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter().map(|held| &**held)
    }

    pub(crate) fn get(&self, filter: &TopicFilter, share: Option<&Share>) -> Option<&Subscription> {
        let at = self.find(filter, share).ok()?;
        Some(&*self.0[at])
    }

    /// Adds one, or puts it in the place of the one with its filter and group.
    pub(crate) fn insert(&mut self, subscription: Subscription) {
        let subscription = Box::new(subscription);
        match self.find(&subscription.filter, subscription.share.as_ref()) {
            Ok(at) => self.0[at] = subscription,
            Err(at) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, subscription);
            }
        }
    }

    pub(crate) fn remove(
        &mut self,
        filter: &TopicFilter,
        share: Option<&Share>,
    ) -> Option<Box<Subscription>> {
        let at = self.find(filter, share).ok()?;
        Some(self.0.remove(at))
    }

    fn find(&self, filter: &TopicFilter, share: Option<&Share>) -> Result<usize, usize> {
        self.0
            .binary_search_by(|held| (&held.filter, held.share.as_ref()).cmp(&(filter, share)))
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    pub client: ClientId,
    /// Of its client when it was last here.
    pub presence: Arc<Presence>,
    pub endpoint: Option<EndpointId>,
    /// Of that endpoint; there since the first answer that had to wait.
    pub answers: Option<Box<Answers>>,
    /// `Opened` waits for its commit: nothing is delivered before it.
    pub opening: bool,
    /// The endpoint was told that another takes over: it gets nothing more, and what its client had sent is still taken.
    pub leaving: bool,
    /// It outlives its connection, so its state is in the store.
    pub durable: bool,
    /// It has a record in the store, for its state or for its will alone.
    pub recorded: bool,
    pub expiry: Duration,
    pub ends_at: Option<Instant>,
    pub will: Option<Box<Will>>,
    pub will_due: Option<Instant>,
    pub subscriptions: Subscriptions,
    pub queue: VecDeque<Queued>,
    pub queued_bytes: usize,
    /// No delivery in `queue` that may expire has done so before: in seconds, rounded up.
    queue_expires: u32,
    /// How many of the queue are QoS 0.
    pub queued_qos0: u32,
    /// Bytes of what of those is counted for its client that sleeps, among those of all sleepers.
    pub slept_bytes: u32,
    /// What waits in the store alone, behind everything of its priority in `queue`.
    pub lanes: Lanes,
    /// Deliveries from this number on were never handed over, as far as an earlier run knew.
    pub unsent_from: u64,
    /// Under way, in the order in which they were sent.
    pub inflight: VecDeque<Queued>,
    /// Between these lie the numbers of all that is in flight; less may be there.
    pub inflight_span: (u64, u64),
    /// How many of those count against `receive_maximum`: all that are not `carried`.
    pub quota_used: u16,
    pub receive_maximum: u16,
    pub credit: u32,
    /// Bytes of what was handed over and is not written out.
    pub unread: u32,
    /// Bytes of what is under way.
    pub inflight_bytes: u32,
    pub next_seq: u64,
    /// QoS 2 packet identifiers of this client that are not yet released.
    pub received: Received,
    pub scans: Scans,
    /// It is in the bus's list of sessions with scans to go on with.
    pub scan_listed: bool,
    /// Its endpoint wants to be told when nothing waits and nothing is under way.
    pub tell_drained: bool,
    /// A client that sleeps is awake, and the store knows nothing of it: it learns it when something is handed over.
    pub awake: bool,
    /// Whether its client sleeps: operators see it as connected then.
    pub sleep: Sleep,
    /// The last batch whose commit it is listed for, to go on sending.
    pub listed_for: u64,
    /// Its other side is another broker.
    pub link: Option<Box<LinkState>>,
    /// Its client may not read some of what its filters match: see [`crate::reading`].
    pub narrowed: bool,
}

/// MQTT-SN 1.2 §6.14
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Its client does not sleep.
    No,
    /// That it sleeps is written, and its endpoint waits for the answer.
    Falling,
    /// It sleeps.
    Asleep,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Session>() <= 320, "there is one for each client");

impl Session {
    pub(crate) fn new(id: SessionId, client: ClientId) -> Self {
        Self {
            id,
            client,
            presence: Arc::default(),
            endpoint: None,
            answers: None,
            opening: false,
            leaving: false,
            durable: false,
            recorded: false,
            expiry: Duration::ZERO,
            ends_at: None,
            will: None,
            will_due: None,
            subscriptions: Subscriptions::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            queue_expires: u32::MAX,
            queued_qos0: 0,
            slept_bytes: 0,
            lanes: Lanes::default(),
            unsent_from: 0,
            inflight: VecDeque::new(),
            inflight_span: (0, 0),
            quota_used: 0,
            receive_maximum: 0,
            credit: 0,
            unread: 0,
            inflight_bytes: 0,
            next_seq: 0,
            received: Received::default(),
            scans: Scans::default(),
            scan_listed: false,
            tell_drained: false,
            awake: false,
            sleep: Sleep::No,
            listed_for: 0,
            link: None,
            narrowed: false,
        }
    }

    /// Whether an answer to its endpoint still waits for the store.
    pub(crate) fn answer_waits(&self) -> bool {
        self.answers.as_deref().is_some_and(|answers| !answers.is_empty())
    }

    /// Whether an endpoint takes deliveries now.
    pub(crate) fn is_online(&self) -> bool {
        self.endpoint.is_some() && !self.opening && !self.leaving && self.sleep == Sleep::No
    }

    /// What it holds in memory of deliveries.
    pub(crate) fn held(&self) -> Held {
        Held {
            entries: self.queue.len() + self.inflight.len(),
            bytes: self.queued_bytes + self.inflight_bytes as usize,
        }
    }

    /// Whether anything may be handed to the endpoint now. A message may be larger than what is left.
    pub(crate) fn takes(&self, limits: SendLimits) -> bool {
        self.is_online() && self.credit > 0 && self.unread < limits.unread
    }

    /// The endpoint has been handed this message.
    pub(crate) fn hand_over(&mut self, message: &Message) {
        self.credit -= 1;
        self.unread = self.unread.saturating_add(bytes_of(message.size()));
    }

    /// Whether this delivery may be handed to the endpoint now.
    ///
    /// What a receiver holds as QoS 2 must be in the store first: after a crash nobody would know what it holds, and under which packet
    /// identifier. What it gets as QoS 1 need not be: at worst it gets it again.
    pub(crate) fn may_send(&self, next: &Queued, limits: SendLimits) -> bool {
        if !self.takes(limits) {
            return false;
        }
        if next.qos == Qos::ExactlyOnce && next.entry.is_some_and(|entry| entry.batch > limits.committed) {
            return false;
        }
        let Some(id) = next.id() else { return true };
        // Names repeat after 65,535 deliveries: one that is still under way must not be given again. [MQTT-2.2.1-4]
        let (low, high) = self.inflight_span;
        let is_free =
            || high.max(next.seq) - low.min(next.seq) < DELIVERY_IDS || self.find_inflight(id).is_none();
        self.quota_used < self.receive_maximum && self.inflight_bytes < limits.inflight && is_free()
    }

    /// A delivery is under way.
    pub(crate) fn push_inflight(&mut self, queued: Queued) {
        let seq = queued.seq;
        self.inflight_bytes = self.inflight_bytes.saturating_add(bytes_of(queued.size()));
        let (low, high) = self.inflight_span;
        self.inflight_span = if self.inflight.is_empty() {
            (seq, seq)
        } else {
            (low.min(seq), high.max(seq))
        };
        self.inflight.push_back(queued);
        if self.inflight_span.1 - self.inflight_span.0 >= DELIVERY_IDS {
            let seqs = || self.inflight.iter().map(|queued| queued.seq);
            self.inflight_span = (seqs().min().unwrap_or(seq), seqs().max().unwrap_or(seq));
        }
    }

    /// Takes the delivery at this place out of what is under way.
    pub(crate) fn remove_inflight(&mut self, at: usize) -> Option<Queued> {
        let queued = self.inflight.remove(at)?;
        self.inflight_bytes = self.inflight_bytes.saturating_sub(bytes_of(queued.size()));
        self.quota_used -= u16::from(!queued.carried);
        Some(queued)
    }

    /// Where the delivery of this name is. Acknowledgements mostly come in order, so the guess is nearly always right.
    pub(crate) fn find_inflight(&self, id: DeliveryId) -> Option<usize> {
        let first = self.inflight.front()?.id()?;
        let distance = (u32::from(id.get()) + 65_535 - u32::from(first.get())) % 65_535;
        let guess = distance as usize;
        if self.inflight.get(guess).is_some_and(|q| q.id() == Some(id)) {
            return Some(guess);
        }
        // In order of their sequence numbers, entries in the middle may be missing: it is not behind the guess.
        let upto = guess.min(self.inflight.len());
        self.inflight
            .iter()
            .take(upto)
            .position(|q| q.id() == Some(id))
            .or_else(|| {
                self.inflight
                    .iter()
                    .skip(upto)
                    .position(|q| q.id() == Some(id))
                    .map(|at| upto + at)
            })
    }

    /// Puts a delivery into the queue by its priority, behind its equals.
    pub(crate) fn enqueue(&mut self, queued: Queued) {
        self.queued_bytes += queued.size();
        self.queued_qos0 += u32::from(queued.qos == Qos::AtMostOnce);
        self.queue_expires = self.queue_expires.min(expires(&queued));
        let at = self
            .queue
            .iter()
            .rposition(|q| q.priority >= queued.priority)
            .map_or(0, |at| at + 1);
        if at == self.queue.len() {
            self.queue.push_back(queued);
        } else {
            self.queue.insert(at, queued);
        }
    }

    pub(crate) fn dequeue_front(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.account_removed(&queued);
        Some(queued)
    }

    pub(crate) fn dequeue_at(&mut self, at: usize) -> Option<Queued> {
        let queued = self.queue.remove(at)?;
        self.account_removed(&queued);
        Some(queued)
    }

    /// Takes all that are `chosen` out of the queue, in order, in one pass.
    pub(crate) fn take_queued(&mut self, mut chosen: impl FnMut(&Queued) -> bool) -> Vec<Queued> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for queued in self.queue.drain(..) {
            if chosen(&queued) {
                taken.push(queued);
            } else {
                kept.push_back(queued);
            }
        }
        self.queue = kept;
        taken.iter().for_each(|queued| self.account_removed(queued));
        taken
    }

    /// Takes all deliveries out that have expired and were not sent before. MQTT 5 §3.3.2.3.3 Looks at the queue only if there can be any.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<Queued> {
        if now.0 / 1_000 < u64::from(self.queue_expires) {
            return Vec::new();
        }
        let gone = self.take_queued(|queued| !queued.sent && queued.message.is_expired(now));
        let left = self.queue.iter().filter(|queued| !queued.sent);
        self.queue_expires = left.map(expires).min().unwrap_or(u32::MAX);
        gone
    }

    /// The delivery that goes next, unless a part of the queue that is in the store alone goes before it.
    pub(crate) fn next_in_memory(&self) -> Option<&Queued> {
        let next = self.queue.front()?;
        let lane_first = self
            .lanes
            .iter()
            .next()
            .is_some_and(|lane| lane.priority > next.priority);
        (!lane_first).then_some(next)
    }

    /// Whether a delivery that cannot go now is to wait in the store alone.
    pub(crate) fn must_page(&self, priority: u8, settings: &BusSettings) -> bool {
        !self.is_online()
            || self.lanes.precede(priority)
            || self.queue.len() >= settings.max_queued_in_memory
            || self.queued_bytes >= BYTES_IN_MEMORY
    }

    /// Everything that waits, in memory or in the store alone.
    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len() + self.lanes.count()
    }

    fn account_removed(&mut self, queued: &Queued) {
        self.queued_bytes -= queued.size();
        self.queued_qos0 -= u32::from(queued.qos == Qos::AtMostOnce);
    }

    /// How its queue behaves: by rules of its own, or as all do by `default`.
    pub(crate) fn rules<'a>(&'a self, default: &'a QueueRules) -> &'a QueueRules {
        let own = self.link.as_deref().and_then(|link| link.rules.as_ref());
        own.unwrap_or(default)
    }

    /// Counts a drop in the ledger of a link.
    pub(crate) fn note_drop(&mut self, reason: DropReason, qos: Qos, topic: &[u8]) {
        if let Some(link) = self.link.as_deref_mut() {
            link.ledger.drop(reason, qos, topic);
        }
    }

    /// Counts a QoS 0 delivery in the ledger of a link.
    pub(crate) fn note_handed_qos0(&mut self) {
        if let Some(link) = self.link.as_deref_mut() {
            link.ledger.handed_qos0 += 1;
        }
    }

    /// Whether one more delivery of `size` bytes is over a limit. QoS 0 is in memory, so no rule lets it have more than `default`.
    ///
    /// What only waits for its commit and has room in the receiver's window does not count: it is on its way.
    pub(crate) fn is_full(&self, qos: Qos, size: usize, default: &QueueRules) -> bool {
        let rules = self.rules(default);
        let window = usize::from(self.receive_maximum.saturating_sub(self.quota_used));
        let on_the_way = if self.is_online() {
            window.min(self.credit as usize)
        } else {
            0
        };
        let len = self.queue_len();
        if len < on_the_way {
            return false;
        }
        let in_memory_is_full = || {
            self.queued_qos0 as usize >= default.max_messages || self.queued_bytes + size > default.max_bytes
        };
        len - on_the_way >= rules.max_messages
            || self.queued_bytes + self.lanes.bytes() + size > rules.max_bytes
            || qos == Qos::AtMostOnce && self.link.is_some() && in_memory_is_full()
    }

    /// What was under way and not received goes back to the front of the queue, in order, to be sent again. \[MQTT-4.4.0-1\]
    pub(crate) fn take_back_inflight(&mut self) {
        let (received, unreceived): (VecDeque<_>, VecDeque<_>) =
            self.inflight.drain(..).partition(|queued| queued.received);
        self.inflight = received;
        self.inflight.iter_mut().for_each(|queued| queued.carried = true);
        self.quota_used = 0;
        self.inflight_bytes = bytes_of(self.inflight.iter().map(Queued::size).sum());
        for queued in unreceived.into_iter().rev() {
            self.queued_bytes += queued.size();
            self.queue.push_front(queued);
        }
    }

    /// As it is written to the store.
    pub(crate) fn record(&self, epoch: WallTime) -> SessionRecord {
        SessionRecord {
            client_id: self.client.clone(),
            username: self.presence.username.clone(),
            expiry: if self.durable { self.expiry } else { Duration::ZERO },
            ends: self.ends_at.map(|at| WallTime::of(at, epoch)),
            unsent_from: (self.endpoint.is_none() || self.sleep == Sleep::Falling)
                .then(|| self.unsent_from()),
            will: self.will.as_ref().map(|will| StoredWill {
                message: Arc::new(will.message.compact()),
                delay: will.delay,
                message_expiry: will.message_expiry,
                due: self.will_due.map(|at| match at {
                    NOT_DUE => NEVER_DUE,
                    at => WallTime::of(at, epoch),
                }),
            }),
        }
    }

    /// Nothing waits for the client and nothing is under way to it.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.lanes.is_empty() && self.inflight.is_empty() && self.scans.is_empty()
    }

    /// From this number on nothing of the queue was handed over.
    fn unsent_from(&self) -> u64 {
        let sent = self
            .queue
            .iter()
            .chain(&self.inflight)
            .filter(|q| q.id().is_some() && q.sent);
        sent.map(|q| q.seq + 1).max().unwrap_or(0).max(self.unsent_from)
    }

    /// What operators hear when its client has left.
    pub(crate) fn disconnected(&self, reason: CloseReason) -> Notice {
        Notice::Disconnected {
            client: self.client.clone(),
            presence: Arc::clone(&self.presence),
            reason,
        }
    }

    /// Its client sleeps from now on and may be silent so long. A will keeps the time, for a client that is not known to anybody else when it comes
    /// back; without a will there is nothing but the expiry that it could matter to.
    pub(crate) fn fall_asleep(&mut self, patience: Option<Duration>, now: Instant) {
        let as_before = self.will.as_ref().map_or(self.expiry, |will| will.delay);
        let patience = patience.unwrap_or(as_before);
        if let Some(will) = &mut self.will {
            will.delay = patience;
            self.will_due = Some(now + patience);
        }
        self.ends_at = (self.expiry != NEVER).then(|| now + self.expiry.max(patience));
    }

    /// When the session ends if its client leaves now.
    pub(crate) fn end_after(&self, now: Instant) -> Option<Instant> {
        (self.expiry != NEVER).then(|| now + self.expiry)
    }
}

fn bytes_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::Topic;

    fn queued(seq: u64, priority: u8) -> Queued {
        Queued {
            message: Arc::new(Message::new(Topic::try_from("t").unwrap(), "x")),
            subscription_ids: None,
            entry: None,
            seq,
            group: 0,
            qos: Qos::AtLeastOnce,
            retain: false,
            sent: false,
            received: false,
            carried: false,
            priority,
            since: 0,
        }
    }

    /// [MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1] Packet identifiers are never zero, and [MQTT-2.2.1-4] go round after 65,535.
    #[test]
    fn delivery_ids_are_1_to_65535_round_and_round() {
        assert_eq!(delivery_id(0).get(), 1);
        assert_eq!(delivery_id(65_534).get(), 65_535);
        assert_eq!(delivery_id(65_535).get(), 1);
    }

    #[test]
    fn inflight_is_found_whatever_is_missing_before_it() {
        let mut session = Session::new(SessionId(1), "c".into());
        session.inflight = [65_533, 65_534, 65_537, 65_600].map(|seq| queued(seq, 0)).into();
        for (at, seq) in (0..).zip([65_533, 65_534, 65_537, 65_600]) {
            assert_eq!(session.find_inflight(delivery_id(seq)), Some(at), "{seq}");
        }
        assert_eq!(session.find_inflight(delivery_id(65_536)), None);
        assert_eq!(session.find_inflight(delivery_id(1_000)), None);
    }

    #[test]
    fn higher_priorities_go_first_and_equals_stay_in_order() {
        let mut session = Session::new(SessionId(1), "c".into());
        for (seq, priority) in [(1, 0), (2, 5), (3, 0), (4, 5), (5, 9)] {
            session.enqueue(queued(seq, priority));
        }
        let order: Vec<u64> = session.queue.iter().map(|q| q.seq).collect();
        assert_eq!(order, [5, 2, 4, 1, 3]);
        while session.dequeue_front().is_some() {}
        assert_eq!((session.queued_bytes, session.queued_qos0), (0, 0));
    }
}
