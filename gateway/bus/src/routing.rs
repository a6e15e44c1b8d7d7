//! From a publish to its deliveries: who gets a message, at which QoS, now or later.

use crate::bus::{Bus, BusOutputs, Delayed, Needs, Timer};
use crate::index::{GroupId, Slot};
use crate::ledger::seconds;
use crate::links::{Victim, is_link, is_over};
use crate::pending::BodyRef;
use crate::retained::Kept;
use crate::session::{Queued, SendLimits, Sleep};
use crate::settings::{Overlap, SharedStrategy};
use crate::stats::DropReason;
use crate::turns;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::memory::{SMALL, Want};
use headgate_model::store::{MessageId, QueueEntry, StoredMessage};
use headgate_model::{
    AckToken, BusEvent, Delivery, DeliveryId, EndpointId, Instant, Message, Qos, QueueFull, Settlement,
    StoreOp, SubscriptionIds, Topic, WallTime,
};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

/// One copy of a message on its way to one session.
#[derive(Debug)]
pub(crate) struct Target {
    pub slot: Slot,
    pub qos: Qos,
    pub retain: bool,
    pub group: GroupId,
    pub identifiers: Option<Box<SubscriptionIds>>,
}

/// What is made of a message at most once, however many sessions keep it: a copy that owns its bytes, and a body in the open batch.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    compact: Option<Arc<Message>>,
    body: Option<BodyRef>,
}

impl Shared {
    /// Of a retained message: already compact.
    pub(crate) fn of_kept(kept: &Kept) -> Self {
        Self::of_compact(&kept.message)
    }

    pub(crate) fn of_compact(message: &Arc<Message>) -> Self {
        Self {
            compact: Some(Arc::clone(message)),
            body: None,
        }
    }

    fn compact(&mut self, message: &Message) -> Arc<Message> {
        Arc::clone(self.compact.get_or_insert_with(|| Arc::new(message.compact())))
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingested {
    pub outcome: Outcome,
    /// What the acknowledgement promises.
    pub needs: Needs,
}

/// Bytes of deliveries that an endpoint may have, and not have written out, before it gets another one.
const MAX_UNREAD: u32 = 1 << 20;
/// Members drawn by lot before all are looked at in a row.
const DRAWS: usize = 8;
/// EMQX's limit of `$delayed/`: 4,294,967 s, about 49 days.
const MAX_DELAY_S: u64 = 4_294_967;
/// When a delayed message is tried again for which there was no room.
const DELAYED_AGAIN: Duration = Duration::from_secs(1);

impl Bus {
    pub(crate) fn publish_from(
        &mut self,
        from: EndpointId,
        slot: Slot,
        mut message: Message,
        ack: Option<AckToken>,
        dedup: Option<u16>,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let limit = self.settings.max_awaiting_release;
        let session = self.session_mut(slot);
        // A remote sends what was refused again before it releases anything; there are no more than 65,535 identifiers.
        let limit = if session.is_bridge() { usize::MAX } else { limit };
        message.publisher = Some(session.id);
        if let Some(packet) = dedup {
            if session.received.contains(packet) {
                // Sent again: it was routed when it first came. [MQTT-4.3.3-10]
                if let Some(token) = ack {
                    self.answer(
                        from,
                        BusEvent::Accepted(token, Outcome::Matched),
                        Needs::Disk,
                        out,
                    );
                }
                return;
            }
            if session.received.len() >= limit {
                if let Some(token) = ack {
                    self.answer(
                        from,
                        BusEvent::Refused(token, Refusal::QuotaExceeded),
                        Needs::Nothing,
                        out,
                    );
                }
                return;
            }
        }
        let ingested = match self.stop_loop(slot, &message, now, out) {
            Some(stopped) => Ok(stopped),
            None => self.ingest(message, Some(slot), now, out),
        };
        match ingested {
            Ok(Ingested { outcome, mut needs }) => {
                if let Some(packet) = dedup {
                    let session = self.session_mut(slot);
                    session.received.insert(packet);
                    if session.durable {
                        let id = session.id;
                        self.pending.push(StoreOp::PutReceived(id, packet));
                        needs = Needs::Disk;
                    }
                }
                if let Some(token) = ack {
                    let event = BusEvent::Accepted(token, outcome);
                    self.answer_publish(from, event, dedup, needs, out);
                }
            }
            Err(refusal) => {
                if let Some(token) = ack {
                    self.answer(from, BusEvent::Refused(token, refusal), Needs::Nothing, out);
                }
            }
        }
    }

    /// PUBREL: the packet identifier may be used for another message. \[MQTT-4.3.3-12\]
    pub(crate) fn release(&mut self, from: EndpointId, slot: Slot, packet: u16, out: &mut BusOutputs) {
        let session = self.session_mut(slot);
        let known = session.received.remove(packet);
        let needs = if known && session.durable {
            let id = session.id;
            self.pending.push(StoreOp::DeleteReceived(id, packet));
            Needs::Disk
        } else {
            Needs::Nothing
        };
        self.answer(from, BusEvent::Released { packet, known }, needs, out);
    }

    /// A message enters the bus: held back, retained and routed as its topic says.
    pub(crate) fn ingest(
        &mut self,
        mut message: Message,
        from: Option<Slot>,
        now: Instant,
        out: &mut BusOutputs,
    ) -> Result<Ingested, Refusal> {
        if message.topic.as_bytes().starts_with(b"$delayed/") {
            return self.delay(message, from, now);
        }
        let size = message.size();
        let want = if size <= SMALL {
            Want::ToGoOn
        } else {
            Want::ToPublish
        };
        if from.is_some() && !self.has_memory(want, size) {
            self.counters.drop(DropReason::MemoryFull);
            return Err(Refusal::NoMemory);
        }
        self.counters.published += 1;
        if message.retain
            && let Some(stopped) = self.stop_superseded(&mut message, from)
        {
            return Ok(stopped);
        }
        let message = message.share();
        let mut shared = Shared::default();
        let circulates = self.find_targets(&message, from);
        let copied = if self.links.ids.is_empty() {
            None
        } else {
            self.copy_of(&message, from, circulates)
        };
        if let Some(stopped) = copied.and_then(|copied| self.stop_copy(copied, from, &message, now)) {
            self.targets.clear();
            return Ok(stopped);
        }
        if self.links.refusing && self.some_target_refuses(&message, now, out) {
            self.targets.clear();
            self.counters.drop(DropReason::QueueFull);
            return Err(Refusal::QueueFull);
        }
        // What the gateway itself has to say in such a state goes on.
        if self.store_is_full && from.is_some() && self.wants_store(&message) {
            self.targets.clear();
            self.counters.drop(DropReason::StoreFull);
            return Err(Refusal::StoreFull);
        }
        if let Some(copied) = copied {
            self.duplicates.count(copied, now);
        }
        let retained = message.retain && self.retain(&message, &mut shared, now);
        let outcome = if self.targets.is_empty() {
            Outcome::NoSubscribers
        } else {
            Outcome::Matched
        };
        if self.targets.is_empty() {
            self.counters.unmatched += 1;
        }
        let mut queued = false;
        let mut targets = std::mem::take(&mut self.targets);
        for target in targets.drain(..) {
            queued |= self.deliver(&message, target, &mut shared, now, out);
        }
        self.targets = targets;
        let needs = match shared.body {
            _ if retained => Needs::Disk,
            Some(body) if queued => Needs::Entries(body),
            _ => Needs::Nothing,
        };
        Message::recycle(message);
        Ok(Ingested { outcome, needs })
    }

    /// Whether taking this message for `targets` would write something.
    fn wants_store(&self, message: &Message) -> bool {
        let retains = message.retain && !message.payload.is_empty();
        retains
            || self
                .targets
                .iter()
                .any(|target| target.qos > Qos::AtMostOnce && self.session(target.slot).durable)
    }

    /// Fills `targets` with one copy for each session, or for each subscription if the operator wants that. MQTT 5 §3.3.4. Whether it came by a link
    /// and another link subscribed to it.
    fn find_targets(&mut self, message: &Message, from: Option<Slot>) -> bool {
        let mut matches = std::mem::take(&mut self.matches);
        matches.clear();
        self.index.collect(message.topic.as_bytes(), &mut matches);
        self.work += matches.plain.len() + 4 * matches.groups.len() + turns::NODE * matches.visited;
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            // After four billion messages the old marks would count again.
            self.marks.fill((0, 0));
            self.stamp = 1;
        }
        let from_link = !self.links.ids.is_empty() && from.is_some_and(|slot| is_link(&self.sessions, slot));
        let transit = self.settings.links.transit;
        let mut circulates = false;
        for entry in &matches.plain {
            if (entry.no_local || from_link) && from == Some(entry.session) {
                continue; // [MQTT-3.8.3-3], and over a link nothing goes back.
            }
            if from_link && is_link(&self.sessions, entry.session) {
                circulates = true;
                if !transit {
                    continue;
                }
            }
            let qos = self.effective_qos(message.qos, entry.qos);
            let retain = message.retain && entry.retain_as_published; // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            if self.settings.overlap == Overlap::OneCopy {
                let mark = &mut self.marks[entry.session as usize];
                if mark.0 == self.stamp {
                    let target = &mut self.targets[mark.1 as usize];
                    target.qos = target.qos.max(qos);
                    target.retain |= retain;
                    if entry.identifier != 0 {
                        target.identifiers.get_or_insert_default().push(entry.identifier);
                    }
                    continue;
                }
                *mark = (
                    self.stamp,
                    u32::try_from(self.targets.len()).expect("fewer than four billion sessions"),
                );
            }
            let identifiers = identifiers(entry.identifier);
            self.targets.push(Target {
                slot: entry.session,
                qos,
                retain,
                group: 0,
                identifiers,
            });
        }
        for group in &matches.groups {
            if let Some(target) = self.choose_member(*group, message, from.filter(|_| from_link)) {
                circulates |= from_link && is_link(&self.sessions, target.slot);
                self.targets.push(target);
            }
        }
        self.matches = matches;
        circulates
    }

    fn effective_qos(&self, published: Qos, subscribed: Qos) -> Qos {
        if self.settings.upgrade_qos {
            subscribed
        } else {
            published.min(subscribed)
        }
    }

    /// Whether a queue that has no room for it says so to its publisher.
    fn some_target_refuses(&mut self, message: &Message, now: Instant, out: &mut BusOutputs) -> bool {
        let size = size_of::<Queued>() + message.size();
        let targets = std::mem::take(&mut self.targets);
        let refusing = targets.iter().map(|target| (target.qos, target.slot));
        let refusing = refusing
            .filter(|(qos, _)| *qos > Qos::AtMostOnce)
            .find_map(|(_, slot)| {
                let refuses =
                    self.session(slot).may_read(&message.topic) && self.refuses(slot, size, now, out);
                refuses.then_some(slot)
            });
        self.targets = targets;
        if let Some(link) = refusing.and_then(|slot| self.session_mut(slot).link.as_deref_mut()) {
            link.ledger.refused += 1;
        }
        refusing.is_some()
    }

    fn refuses(&mut self, slot: Slot, size: usize, now: Instant, out: &mut BusOutputs) -> bool {
        loop {
            let session = self.session(slot);
            let rules = session.rules(&self.queue_rules);
            let full =
                || session.is_full(Qos::AtLeastOnce, size, &self.queue_rules) || self.is_over_total(size);
            if rules.when_full != QueueFull::Refuse || session.queued_qos0 > 0 || !full() {
                return false;
            }
            let aged = session.aged(rules, now);
            if self.drop_expired(slot, now, out) {
                continue;
            }
            let Some(victim) = aged else {
                return !self.begin_sweep(slot, now);
            };
            self.drop_victim(slot, victim, DropReason::Expired, now, out);
        }
    }

    /// One member of a shared subscription, connected ones first. MQTT 5 §4.8.2. Mostly the first one that is looked at.
    fn choose_member(&mut self, id: GroupId, message: &Message, except: Option<Slot>) -> Option<Target> {
        let publisher = message.publisher.map_or(0, |p| p.0);
        let drawn: [u64; DRAWS] = std::array::from_fn(|_| self.rng.u64(..));
        let group = self.index.group(id)?;
        let (members, cursor) = (&group.members, group.cursor as usize);
        let split = !self.settings.links.transit
            && message
                .publisher
                .is_some_and(|publisher| self.links.ids.contains(&publisher));
        let eligible = |at: &usize| {
            let slot = members[*at].session;
            Some(slot) != except
                && !(split && is_link(&self.sessions, slot))
                && self.session(slot).may_read(&message.topic)
        };
        let online = |at: &usize| eligible(at) && self.session(members[*at].session).endpoint.is_some();
        let count = members.len();
        let within = |number: u64| usize::try_from(number % count as u64).expect("less than a count");
        let hash = |key: &[u8]| within(BuildHasherDefault::<DefaultHasher>::default().hash_one(key));
        let start = match self.settings.shared_strategy {
            SharedStrategy::Random => {
                let found = drawn.into_iter().map(within).find(online);
                found.unwrap_or_else(|| within(drawn[0]))
            }
            SharedStrategy::RoundRobin => cursor % count,
            SharedStrategy::Sticky => cursor.checked_sub(1).unwrap_or_else(|| within(drawn[0])),
            SharedStrategy::HashClient => hash(&publisher.to_be_bytes()),
            SharedStrategy::HashTopic => hash(message.topic.as_bytes()),
        };
        let round = || (start..count).chain(0..start);
        let chosen = round().find(online).or_else(|| round().find(eligible))?;
        let passed = (chosen + count - start) % count;
        let member = members[chosen];
        self.work += passed;
        if let Some(group) = self.index.group_mut(id) {
            group.cursor = u32::try_from(chosen + 1).unwrap_or(0);
        }
        Some(Target {
            slot: member.session,
            qos: self.effective_qos(message.qos, member.qos),
            retain: message.retain && member.retain_as_published,
            group: id,
            identifiers: identifiers(member.identifier),
        })
    }

    /// Hands a copy to the session's endpoint, or keeps it for later. Whether something was written for the store.
    pub(crate) fn deliver(
        &mut self,
        message: &Arc<Message>,
        target: Target,
        shared: &mut Shared,
        now: Instant,
        out: &mut BusOutputs,
    ) -> bool {
        let Target {
            slot,
            qos,
            retain,
            group,
            identifiers,
        } = target;
        self.work += if qos == Qos::AtMostOnce {
            turns::DELIVERY
        } else {
            turns::QUEUED
        };
        let limits = self.send_limits();
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a target is a session");
        if !session.may_read(&message.topic) {
            self.counters.drop(DropReason::NotAuthorized);
            return false;
        }
        if let Some(link) = session.link.as_deref_mut() {
            link.routed(qos);
        }
        if qos == Qos::AtMostOnce {
            if session.takes(limits) && session.queue.is_empty() {
                session.hand_over(message);
                session.note_handed_qos0();
                self.counters.delivered += 1;
                let delivery = Delivery {
                    message: Arc::clone(message),
                    id: None,
                    qos,
                    retain,
                    redelivered: false,
                    subscription_ids: identifiers,
                };
                out.events
                    .push((session.endpoint.expect("online"), BusEvent::Delivery(delivery)));
                return false;
            }
            let stores = session.rules(&self.queue_rules).store_qos0;
            if session.endpoint.is_none() && !stores && !self.settings.sleepers.keeps(session) {
                self.counters.drop(DropReason::OfflineQos0);
                session.note_drop(DropReason::OfflineQos0, qos, message.topic.as_bytes());
                return false;
            }
        }
        let mut queued = Queued {
            message: Arc::clone(message),
            subscription_ids: identifiers,
            entry: None,
            seq: session.next_seq,
            group,
            qos,
            retain,
            sent: false,
            received: false,
            carried: false,
            priority: session
                .rules(&self.queue_rules)
                .priority(message.topic.as_bytes()),
            since: seconds(now),
        };
        let sleeps = qos == Qos::AtMostOnce && session.sleep == Sleep::Asleep;
        let durable = session.durable && qos > Qos::AtMostOnce;
        let waits = durable && qos == Qos::ExactlyOnce;
        let could_go =
            session.queue.is_empty() && session.lanes.is_empty() && session.may_send(&queued, limits);
        let at_once = could_go && !waits && !(durable && self.is_over_total(queued.size()));
        // A client that is too slow gives way before anybody is refused.
        let tight = !at_once && self.memory.tight;
        if tight && !durable {
            self.counters.drop(DropReason::MemoryFull);
            self.session_mut(slot)
                .note_drop(DropReason::MemoryFull, qos, message.topic.as_bytes());
            return false;
        }
        if !at_once && !self.make_room(slot, &queued, now, out) {
            return false;
        }
        let settings = &self.settings;
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a target is a session");
        if qos > Qos::AtMostOnce {
            session.next_seq += 1;
            if message.retain {
                let opening = session.credit == 0;
                if let Some(link) = session.link.as_deref_mut() {
                    link.note_retained(message.topic.as_bytes(), queued.seq, opening);
                }
            }
        }
        if durable {
            let to_lane = !could_go && (tight || session.must_page(queued.priority, settings));
            self.store_queued(slot, message, &mut queued, to_lane, shared, now);
            if to_lane {
                self.page_in(slot);
                return true;
            }
        }
        if waits {
            self.wait_for_commit(slot);
        }
        if at_once {
            self.send(slot, queued, out);
        } else {
            if !could_go {
                // It may stay for long: it must not keep a read buffer alive.
                queued.message = shared.compact(message);
            }
            self.enqueue(slot, queued);
            if sleeps {
                self.trim_sleeper(slot);
            }
            // Behind others it waits its turn; alone, the endpoint may have room for it by now.
            self.pump(slot, now, out);
        }
        durable
    }

    /// Makes room in a queue for one more. False when it must not be queued; whatever is dropped is counted.
    fn make_room(&mut self, slot: Slot, incoming: &Queued, now: Instant, out: &mut BusOutputs) -> bool {
        loop {
            let over_total = self.is_over_total(incoming.size());
            let session = self.sessions[slot as usize]
                .as_deref_mut()
                .expect("a target is a session");
            let full = session.is_full(incoming.qos, incoming.size(), &self.queue_rules);
            if !(full || over_total) {
                return true;
            }
            if self.drop_expired(slot, now, out) {
                continue;
            }
            let session = self.session(slot);
            if session.lanes.last().is_some_and(|lane| lane.asked.is_some()) {
                return true; // A part of the queue is on its way from the store; until it is here, nobody knows what is the oldest.
            }
            if self.begin_sweep(slot, now) {
                return true; // What has expired holds a place; soon it is known how many.
            }
            let session = self.sessions[slot as usize]
                .as_deref_mut()
                .expect("a target is a session");
            let (victim, reason) = session.victim(incoming, &self.queue_rules, now);
            if victim == Victim::Incoming {
                session.note_drop(reason, incoming.qos, incoming.message.topic.as_bytes());
                self.counters.drop(reason);
                return false;
            }
            self.drop_victim(slot, victim, reason, now, out);
        }
    }

    /// Drops all deliveries in memory that have expired. Whether there were any.
    fn drop_expired(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) -> bool {
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a target is a session");
        let before = session.held();
        let gone = session.take_expired(now);
        self.memory.change(before, session.held());
        let found = !gone.is_empty();
        for queued in gone {
            self.counters.drop(DropReason::Expired);
            let (qos, topic) = (queued.qos, queued.message.topic.as_bytes());
            self.session_mut(slot).note_drop(DropReason::Expired, qos, topic);
            self.forget(slot, queued, now, out);
        }
        found
    }

    /// Drops a delivery that waits.
    fn drop_victim(
        &mut self,
        slot: Slot,
        victim: Victim,
        reason: DropReason,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        self.counters.drop(reason);
        let session = self.session_mut(slot);
        match victim {
            Victim::Incoming => {}
            Victim::Queued(at) => {
                let before = session.held();
                let queued = session.dequeue_at(at).expect("a place in the queue");
                self.memory.change(before, self.session(slot).held());
                let session = self.session_mut(slot);
                session.note_drop(reason, queued.qos, queued.message.topic.as_bytes());
                self.forget(slot, queued, now, out);
            }
            Victim::Stored(priority) => {
                self.drop_stored(slot, priority, reason);
            }
        }
    }

    /// The oldest entry of a lane goes. Whether there was one.
    pub(crate) fn drop_stored(&mut self, slot: Slot, priority: u8, reason: DropReason) -> bool {
        let session = self.session_mut(slot);
        let Some(from) = session.lanes.get_mut(priority).map(|lane| lane.from) else {
            return false;
        };
        let bytes = session.lanes.drop_one(priority);
        if let Some(link) = session.link.as_deref_mut() {
            link.lose(priority, reason);
        }
        let id = session.id;
        self.stored_bytes = self.stored_bytes.saturating_sub(bytes);
        self.pending.drop_oldest(id, priority, from);
        true
    }

    /// Whether so many bytes more are over the limit of all queues together, in the store or in memory.
    fn is_over_total(&self, size: usize) -> bool {
        let limit = self.settings.max_total_queued_bytes;
        limit > 0 && self.stored_bytes.max(self.memory.held.bytes) + size > limit
    }

    pub(crate) fn send_limits(&self) -> SendLimits {
        let share = if self.memory.tight { 16 } else { 1 };
        SendLimits {
            committed: self.committed,
            unread: MAX_UNREAD / share,
            inflight: (self.settings.max_inflight_bytes / share).max(1),
        }
    }

    /// Puts a delivery into the queue of a session, in memory.
    pub(crate) fn enqueue(&mut self, slot: Slot, queued: Queued) {
        let session = self.session_mut(slot);
        let before = session.held();
        session.enqueue(queued);
        let after = session.held();
        self.memory.change(before, after);
    }

    /// Writes the entry of a delivery, and its body if that is not in the open batch. One that goes `to_lane` is kept in the store alone.
    fn store_queued(
        &mut self,
        slot: Slot,
        message: &Arc<Message>,
        queued: &mut Queued,
        to_lane: bool,
        shared: &mut Shared,
        now: Instant,
    ) {
        let body = self.body_of(message, shared);
        let size = queued.size();
        let group = self.index.group(queued.group);
        let entry = QueueEntry {
            message: body.id,
            qos: queued.qos,
            retain: queued.retain,
            lane: queued.priority,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            shared: group.map(|group| Arc::clone(&group.name)),
            subscription_ids: queued.subscription_ids.clone(),
        };
        let window = self.settings.settle_window;
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a target is a session");
        // A QoS 2 delivery waits for its commit before it is sent, so nobody settles it before.
        let may_settle = session.is_online() && queued.qos == Qos::AtLeastOnce && !to_lane;
        let settled_by = may_settle.then(|| now + window);
        let entry = self
            .pending
            .put_queued(body, session.id, queued.seq, entry, settled_by);
        self.stored_bytes += size;
        if to_lane {
            let expires = message.expires_at;
            session
                .lanes
                .push(queued.priority, queued.seq, size, entry.batch, expires);
            if let Some(link) = session.link.as_deref_mut() {
                link.push(queued);
            }
            if expires.is_some() {
                self.arm_sweep(now);
            }
        } else {
            queued.entry = Some(entry);
        }
    }

    /// Removes what is in the store of a delivery that has left its session's queue or flight.
    pub(crate) fn forget(&mut self, slot: Slot, queued: Queued, now: Instant, out: &mut BusOutputs) {
        if let Some(entry) = queued.entry {
            self.stored_bytes = self.stored_bytes.saturating_sub(queued.size());
            let id = self.session(slot).id;
            if let Some(ack) = self.pending.settle(entry, id, queued.seq, now) {
                self.entry_settled(ack, now, out);
            }
        }
        Message::recycle(queued.message);
    }

    /// Hands a delivery to the endpoint; `may_send` was asked.
    fn send(&mut self, slot: Slot, mut queued: Queued, out: &mut BusOutputs) {
        self.counters.delivered += 1;
        let epoch = self.epoch;
        let session = self.session_mut(slot);
        session.hand_over(&queued.message);
        if session.awake && queued.qos > Qos::AtMostOnce {
            session.awake = false;
            let op = StoreOp::PutSession(session.id, Box::new(session.record(epoch)));
            self.pending.push(op);
        }
        let session = self.session_mut(slot);
        let endpoint = session.endpoint.expect("may_send was asked");
        out.events.push((endpoint, BusEvent::Delivery(queued.delivery())));
        if queued.qos == Qos::AtMostOnce {
            session.note_handed_qos0();
        }
        if queued.qos > Qos::AtMostOnce {
            queued.sent = true;
            let before = session.held();
            session.push_inflight(queued);
            session.quota_used += 1;
            let after = session.held();
            self.memory.change(before, after);
        }
    }

    /// Hands over what waits, as far as window and credit allow; then goes on with searches for retained messages.
    pub(crate) fn pump(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        loop {
            let limits = self.send_limits();
            let session = self.sessions[slot as usize]
                .as_deref_mut()
                .expect("a slot in use holds a session");
            let Some(next) = session.next_in_memory() else {
                break;
            };
            // Sent before, it must be sent again: the receiver may hold its packet identifier. [MQTT-4.4.0-1]
            let rules = session.rules(&self.queue_rules);
            let gone = if next.sent {
                None
            } else if next.message.is_expired(now) || is_over(rules, next.since, now) {
                Some(DropReason::Expired) // [MQTT-3.3.2-5]
            } else {
                // It was queued under other rules, or while none were known.
                (!session.may_read(&next.message.topic)).then_some(DropReason::NotAuthorized)
            };
            if gone.is_none() && !session.may_send(next, limits) {
                return self.page_in(slot);
            }
            let before = session.held();
            let queued = session.dequeue_front().expect("just looked at");
            let (after, session) = (session.held(), &*session);
            self.memory.change(before, after);
            if gone.is_none() && session.link.is_some() {
                self.count_late(slot, &queued, now);
            }
            if let Some(reason) = gone {
                self.counters.drop(reason);
                let topic = queued.message.topic.as_bytes();
                self.session_mut(slot).note_drop(reason, queued.qos, topic);
                self.forget(slot, queued, now, out);
            } else {
                self.send(slot, queued, out);
            }
        }
        if self.session(slot).lanes.is_empty() {
            self.scan_retained(slot, now, out);
        } else {
            self.page_in(slot);
        }
        if self.session(slot).tell_drained {
            self.tell_if_drained(slot, out);
        }
    }

    fn tell_if_drained(&mut self, slot: Slot, out: &mut BusOutputs) {
        let session = self.session_mut(slot);
        if session.is_online() && session.is_drained() {
            session.tell_drained = false;
            session.doubt_no_more();
            let endpoint = session.endpoint.expect("it is online");
            out.events.push((endpoint, BusEvent::Drained));
        }
    }

    pub(crate) fn settle(
        &mut self,
        from: EndpointId,
        slot: Slot,
        id: DeliveryId,
        settlement: Settlement,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let session = self.session_mut(slot);
        let Some(at) = session.find_inflight(id) else {
            return;
        };
        if settlement == Settlement::Received {
            let session_id = session.id;
            let queued = &mut session.inflight[at];
            queued.received = true;
            let (seq, stored) = (queued.seq, queued.entry.is_some());
            let needs = if stored {
                self.pending.push(StoreOp::MarkReceived(session_id, seq));
                Needs::Disk
            } else {
                Needs::Nothing
            };
            self.answer(from, BusEvent::Received(id), needs, out);
            return;
        }
        let before = session.held();
        let queued = session.remove_inflight(at).expect("just found");
        let after = session.held();
        if let Some(link) = session.link.as_deref_mut() {
            link.settled(settlement);
        }
        self.memory.change(before, after);
        self.forget(slot, queued, now, out);
        self.pump(slot, now, out);
    }

    /// [`Bus::hand_on`] for what is queued and `chosen`.
    pub(crate) fn hand_on_queued(
        &mut self,
        slot: Slot,
        mut chosen: impl FnMut(&Self, &Queued) -> bool,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let marks: Vec<bool> = self
            .session(slot)
            .queue
            .iter()
            .map(|queued| chosen(self, queued))
            .collect();
        if !marks.contains(&true) {
            return;
        }
        let mut marks = marks.into_iter();
        let session = self.session_mut(slot);
        let before = session.held();
        let left = session.take_queued(|_| marks.next() == Some(true));
        let after = session.held();
        self.memory.change(before, after);
        let session = self.session_mut(slot);
        if let Some(link) = session.link.as_deref_mut() {
            left.iter().for_each(|queued| link.handed_on(queued.qos));
        }
        let id = session.id;
        for queued in left.iter().filter(|queued| queued.entry.is_some()) {
            // Even if its batch is open: a publisher may wait for that entry, and is answered when the message is safe elsewhere.
            self.pending.delete(id, queued.seq, now);
            self.stored_bytes = self.stored_bytes.saturating_sub(queued.size());
        }
        self.hand_on(slot, left, now, out);
    }

    /// Gives what came to a session by shared subscriptions, and was not acknowledged, to other members. MQTT 5 §4.8.2.
    pub(crate) fn hand_on(&mut self, slot: Slot, left: Vec<Queued>, now: Instant, out: &mut BusOutputs) {
        for queued in left {
            // What a receiver may already hold as QoS 2 is not given to another. [MQTT-4.8.2-5]
            let in_doubt = queued.qos == Qos::ExactlyOnce && queued.sent;
            let next = if in_doubt {
                None
            } else {
                self.choose_member(queued.group, &queued.message, Some(slot))
            };
            match next {
                Some(target) => {
                    let mut shared = Shared::of_compact(&queued.message);
                    self.deliver(&queued.message, target, &mut shared, now, out);
                }
                None => self.counters.drop(DropReason::SessionEnded),
            }
        }
    }

    fn body_of(&mut self, message: &Arc<Message>, shared: &mut Shared) -> BodyRef {
        if let Some(body) = shared.body.filter(|body| self.pending.holds(*body)) {
            return body;
        }
        *shared.body.insert(self.new_body(message))
    }

    fn new_body(&mut self, message: &Arc<Message>) -> BodyRef {
        let id = MessageId(self.next_message);
        self.next_message += 1;
        let expires = message.expires_at.map(|at| WallTime::of(at, self.epoch));
        let message = Arc::clone(message);
        self.pending.put_message(id, StoredMessage { message, expires })
    }

    /// Sets or removes the retained message of a topic. Whether something was written for the store.
    fn retain(&mut self, message: &Arc<Message>, shared: &mut Shared, now: Instant) -> bool {
        let topic = message.topic.as_bytes();
        if message.payload.is_empty() {
            return self.drop_retained(topic); // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
        }
        let limits = &self.settings.retained;
        let is_new = !self.retained.contains(topic);
        if !limits.available
            || message.payload.len() > limits.max_payload_bytes
            || (is_new && self.retained.len() >= limits.max_count)
            || self.retained.bytes_with(message) > limits.max_bytes
            || !self.has_memory(Want::ToKeep, message.size())
        {
            self.counters.drop(DropReason::NotRetained);
            return false;
        }
        let mut kept = shared.compact(message);
        if kept.expires_at.is_none() && limits.expiry > Duration::ZERO {
            kept = Arc::new(Message {
                expires_at: Some(now + limits.expiry),
                ..(*kept).clone()
            });
        }
        self.drop_retained(topic);
        // A body of its own when its expiry differs from the message's.
        let body = if kept.expires_at == message.expires_at {
            self.body_of(message, shared)
        } else {
            self.new_body(&kept)
        };
        if let Some(at) = kept.expires_at {
            self.timers
                .insert((at, Timer::RetainedExpiry(kept.topic.bytes().clone())));
        }
        self.pending.keep(body, StoreOp::PutRetained(body.id));
        self.retained.put(Kept {
            message: kept,
            id: body.id,
        });
        true
    }

    fn drop_retained(&mut self, topic: &[u8]) -> bool {
        let Some(old) = self.retained.remove(topic) else {
            return false;
        };
        if let Some(at) = old.message.expires_at {
            self.timers
                .remove(&(at, Timer::RetainedExpiry(old.message.topic.bytes().clone())));
        }
        self.pending.push(StoreOp::DeleteRetained(old.id));
        true
    }

    pub(crate) fn expire_retained(&mut self, topic: &[u8], now: Instant) {
        if self
            .retained
            .get(topic)
            .is_some_and(|kept| kept.message.is_expired(now))
        {
            self.drop_retained(topic);
        }
    }

    /// `$delayed/{seconds}/{topic}`: the message waits in the store.
    fn delay(&mut self, message: Message, from: Option<Slot>, now: Instant) -> Result<Ingested, Refusal> {
        let limits = &self.settings.delayed;
        if !limits.available {
            return Err(Refusal::NotSupported);
        }
        let size = message.size();
        let refusal =
            if self.delayed.len() >= limits.max_count || self.delayed_bytes + size > limits.max_bytes {
                Some(Refusal::QuotaExceeded)
            } else if self.store_is_full {
                Some(Refusal::StoreFull)
            } else {
                (!self.has_memory(Want::ToKeep, size)).then_some(Refusal::NoMemory)
            };
        if let Some(refusal) = refusal {
            self.counters.drop(DropReason::DelayedFull);
            return Err(refusal);
        }
        let (seconds, topic) = parse_delayed(&message.topic).ok_or(Refusal::TopicInvalid)?;
        let message = Arc::new(Message { topic, ..message }.compact());
        let body = self.new_body(&message);
        let due = now + Duration::from_secs(seconds);
        let op = StoreOp::PutDelayed(body.id, WallTime::of(due, self.epoch));
        self.pending.keep(body, op);
        self.timers.insert((due, Timer::Delayed(body.id)));
        self.delayed_bytes += message.size();
        self.delayed.insert(body.id, Delayed { message, from });
        Ok(Ingested {
            outcome: Outcome::Matched,
            needs: Needs::Disk,
        })
    }

    /// What was acknowledged is not refused any more: while there is no room for it, it waits.
    pub(crate) fn publish_delayed(&mut self, id: MessageId, now: Instant, out: &mut BusOutputs) {
        let Some(Delayed { message, from }) = self.delayed.get(&id).cloned() else {
            return;
        };
        let is_publisher = |slot: &Slot| {
            let session = self.sessions[*slot as usize].as_deref();
            session.is_some_and(|session| Some(session.id) == message.publisher)
        };
        let from = from.filter(is_publisher);
        if message.is_expired(now) {
            self.counters.drop(DropReason::Expired);
        } else {
            match self.ingest((*message).clone(), from, now, out) {
                Ok(_) => {}
                Err(Refusal::TopicInvalid | Refusal::NotSupported) => {
                    self.counters.drop(DropReason::DelayedFull);
                }
                Err(_) => {
                    self.timers.insert((now + DELAYED_AGAIN, Timer::Delayed(id)));
                    return;
                }
            }
        }
        self.delayed_bytes -= message.size();
        self.delayed.remove(&id);
        self.pending.push(StoreOp::DeleteDelayed(id));
    }
}

pub(crate) fn identifiers(identifier: u32) -> Option<Box<SubscriptionIds>> {
    (identifier != 0).then(|| Box::new(vec![identifier].into()))
}

fn parse_delayed(topic: &Topic) -> Option<(u64, Topic)> {
    let rest = topic.as_str().strip_prefix("$delayed/")?;
    let (seconds, name) = rest.split_once('/')?;
    let seconds = seconds.parse().ok().filter(|s| *s <= MAX_DELAY_S)?;
    // One delay is enough: rules are about the topic behind the first.
    let topic = Topic::try_from(name)
        .ok()
        .filter(|_| !name.starts_with("$delayed/"))?;
    Some((seconds, topic))
}
