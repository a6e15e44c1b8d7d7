//! A delivery's way to its client: handed over, queued, sent again, settled.

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs, Counters};
use crate::deliveries::SendLimits;
use crate::ledger::seconds;
use crate::links::is_over;
use crate::queue::Queued;
use crate::routing::{LastingCopy, Target};
use crate::session::Session;
use crate::sessions::Slot;
use crate::stats::DropReason;
use crate::turns;
use headgate_model::store::QueueEntry;
use headgate_model::{
    BusEvent, Delivery, DeliveryId, EndpointId, Instant, Message, Qos, Settlement, StoreOp,
};
use std::sync::Arc;

/// Bytes of deliveries that an endpoint may have, and not have written out, before it gets another one.
const MAX_UNREAD: u32 = 1 << 20;

impl Bus {
    /// Hands a copy to the session's endpoint, or keeps it for later. Whether something was written for the store.
    pub(crate) fn deliver(
        &mut self,
        message: &Arc<Message>,
        target: Target,
        copy: &mut LastingCopy,
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
        let session = &mut self.sessions[slot];
        if !copy.readable.by(session, &message.topic) {
            self.counters.drop(DropReason::NotAuthorized);
            return false;
        }
        if let Some(link) = session.link.as_deref_mut() {
            link.routed(qos);
        }
        if qos == Qos::AtMostOnce {
            if session.takes(limits) && session.deliveries.queue.is_empty() {
                let delivery = || Delivery {
                    message: Arc::clone(message),
                    id: None,
                    qos,
                    retain,
                    redelivered: false,
                    subscription_ids: identifiers,
                };
                hand_over(session, message, qos, delivery, &mut self.counters, out);
                return false;
            }
            let stores = session.rules(&self.queue_rules).store_qos0;
            if !session.is_attached() && !stores && !self.settings.sleepers.keeps(session) {
                self.counters.drop(DropReason::OfflineQos0);
                session.note_drop(DropReason::OfflineQos0, qos, message.topic.as_bytes());
                return false;
            }
        }
        let mut queued = Queued {
            message: Arc::clone(message),
            subscription_ids: identifiers,
            entry: None,
            seq: session.deliveries.next_seq,
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
        let sleeps = qos == Qos::AtMostOnce && session.is_asleep();
        let durable = session.is_durable() && qos > Qos::AtMostOnce;
        let waits = durable && qos == Qos::ExactlyOnce;
        let deliveries = &session.deliveries;
        let could_go =
            deliveries.queue.is_empty() && deliveries.lanes.is_empty() && session.may_send(&queued, limits);
        let at_once = could_go && !waits && !(durable && self.is_over_total(queued.size()));
        // A client that is too slow gives way before anybody is refused.
        let tight = !at_once && self.memory.tight;
        if tight && !durable {
            self.counters.drop(DropReason::MemoryFull);
            self.sessions[slot].note_drop(DropReason::MemoryFull, qos, message.topic.as_bytes());
            return false;
        }
        if !at_once && !self.make_room(slot, &queued, now, out) {
            return false;
        }
        let settings = &self.settings;
        let session = &mut self.sessions[slot];
        if qos > Qos::AtMostOnce {
            session.deliveries.next_seq += 1;
            if message.retain {
                let opening = session.deliveries.credit == 0;
                if let Some(link) = session.link.as_deref_mut() {
                    link.note_retained(message.topic.as_bytes(), queued.seq, opening);
                }
            }
        }
        if durable {
            let to_lane = !could_go && (tight || session.must_page(queued.priority, settings));
            self.store_queued(slot, message, &mut queued, to_lane, copy, now);
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
                queued.message = copy.compact(message);
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

    pub(crate) fn send_limits(&self) -> SendLimits {
        let share = if self.memory.tight { 16 } else { 1 };
        SendLimits {
            committed: self.acks.committed(),
            unread: MAX_UNREAD / share,
            inflight: (self.settings.max_inflight_bytes / share).max(1),
        }
    }

    /// Puts a delivery into the queue of a session, in memory.
    pub(crate) fn enqueue(&mut self, slot: Slot, queued: Queued) {
        let queue = &mut self.sessions[slot].deliveries.queue;
        queue.push(queued, &mut self.gauges);
    }

    /// Writes the entry of a delivery, and its body if that is not in the open batch. One that goes `to_lane` is kept in the store alone.
    fn store_queued(
        &mut self,
        slot: Slot,
        message: &Arc<Message>,
        queued: &mut Queued,
        to_lane: bool,
        copy: &mut LastingCopy,
        now: Instant,
    ) {
        let body = self.body_of(message, copy);
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
        let session = &mut self.sessions[slot];
        // A QoS 2 delivery waits for its commit before it is sent, so nobody settles it before.
        let may_settle = session.is_online() && queued.qos == Qos::AtLeastOnce && !to_lane;
        let settled_by = may_settle.then(|| now + window);
        let entry = self
            .pending
            .put_queued(body, session.id, queued.seq, entry, settled_by);
        self.store.add(size);
        if to_lane {
            let expires = message.expires_at;
            session.deliveries.lanes.push(
                queued.priority,
                queued.seq,
                size,
                entry.batch,
                expires,
                &mut self.gauges,
            );
            if let Some(link) = session.link.as_deref_mut() {
                link.push(queued);
            }
            if expires.is_some() {
                self.sweep.arm(now);
            }
        } else {
            queued.entry = Some(entry);
        }
    }

    /// Drops a delivery that has left its session's queue.
    pub(crate) fn drop_queued(
        &mut self,
        slot: Slot,
        queued: Queued,
        reason: DropReason,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        self.counters.drop(reason);
        let topic = queued.message.topic.as_bytes();
        self.sessions[slot].note_drop(reason, queued.qos, topic);
        self.forget(slot, queued, now, out);
    }

    /// Removes what is in the store of a delivery that has left its session's queue or flight.
    pub(crate) fn forget(&mut self, slot: Slot, queued: Queued, now: Instant, out: &mut BusOutputs) {
        if let Some(entry) = queued.entry {
            self.store.free(queued.size());
            let id = self.sessions[slot].id;
            if let Some(ack) = self.pending.settle(entry, id, queued.seq, now) {
                self.entry_settled(ack, now, out);
            }
        }
        Message::recycle(queued.message);
    }

    /// Sends a delivery that may be sent: it is under way from now on, unless it is QoS 0.
    fn send(&mut self, slot: Slot, mut queued: Queued, out: &mut BusOutputs) {
        let session = &mut self.sessions[slot];
        let (message, qos) = (&queued.message, queued.qos);
        hand_over(
            session,
            message,
            qos,
            || queued.delivery(),
            &mut self.counters,
            out,
        );
        if queued.qos == Qos::AtMostOnce {
            return;
        }
        // The store knows nothing yet of a client that was asleep and is awake.
        let attached = session.attachment.attached_mut();
        if attached.is_some_and(|attached| attached.note_written()) {
            let op = StoreOp::PutSession(session.id, Box::new(session.record(self.epoch)));
            self.pending.push(op);
        }
        queued.sent = true;
        session.deliveries.inflight.push(queued, &mut self.gauges);
    }

    /// Hands over what waits, as far as window and credit allow; then goes on with searches for retained messages.
    pub(crate) fn pump(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        self.pump_queue(slot, now, out);
        if !self.strays.waiting.is_empty() {
            self.hand_on_strays(now, out);
        }
    }

    fn pump_queue(&mut self, slot: Slot, now: Instant, out: &mut BusOutputs) {
        loop {
            let limits = self.send_limits();
            let session = &mut self.sessions[slot];
            let Some(next) = session.deliveries.next_in_memory() else {
                break;
            };
            // Sent before, it must be sent again: the receiver may hold its packet identifier. [MQTT-4.4.0-1]
            let rules = session.rules(&self.queue_rules);
            let gone = if next.sent {
                // No receiver holds one of QoS 1.
                let drops = next.qos == Qos::AtLeastOnce && !session.may_read(&next.message.topic);
                drops.then_some(DropReason::NotAuthorized)
            } else if next.message.is_expired(now) && session.drops_expired(next.qos)
                || is_over(rules, next.since, now)
            {
                Some(DropReason::Expired) // [MQTT-3.3.2-5]
            } else {
                // It was queued under other rules, or while none were known.
                (!session.may_read(&next.message.topic)).then_some(DropReason::NotAuthorized)
            };
            if gone.is_none() && !session.may_send(next, limits) {
                return self.page_in(slot);
            }
            let queue = &mut session.deliveries.queue;
            let queued = queue.pop_front(&mut self.gauges).expect("just looked at");
            if gone.is_none() && session.is_link() {
                self.count_late(slot, &queued, now);
            }
            match gone {
                None => self.send(slot, queued, out),
                Some(DropReason::NotAuthorized) if queued.may_go_to_another() => {
                    self.strays.waiting.push_back((slot, queued));
                }
                Some(reason) => self.drop_queued(slot, queued, reason, now, out),
            }
        }
        if self.sessions[slot].deliveries.lanes.is_empty() {
            self.scan_retained(slot, now, out);
        } else {
            self.page_in(slot);
        }
        if self.sessions[slot].tells_drained() {
            self.tell_if_drained(slot, out);
        }
    }

    fn tell_if_drained(&mut self, slot: Slot, out: &mut BusOutputs) {
        let session = &mut self.sessions[slot];
        if !session.is_online() || !session.is_drained() {
            return;
        }
        session.doubt_no_more();
        if let Some(attached) = session.attachment.attached_mut() {
            attached.tell_drained = false;
            out.events.push((attached.endpoint, BusEvent::Drained));
        }
    }

    /// The client says what becomes of a delivery.
    pub(crate) fn settle(
        &mut self,
        from: EndpointId,
        slot: Slot,
        id: DeliveryId,
        settlement: Settlement,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        let session = &mut self.sessions[slot];
        let inflight = &mut session.deliveries.inflight;
        let Some(at) = inflight.find(id) else {
            return;
        };
        if settlement == Settlement::Received {
            let Some(queued) = inflight.get_mut(at) else {
                return;
            };
            queued.received = true;
            let (seq, stored) = (queued.seq, queued.entry.is_some());
            let needs = if stored {
                self.pending.push(StoreOp::MarkReceived(session.id, seq));
                Needs::Disk
            } else {
                Needs::Nothing
            };
            self.answer(from, BusEvent::Received(id), needs, out);
            return;
        }
        let queued = inflight.remove(at, &mut self.gauges).expect("just found");
        if let Some(attached) = session.attachment.attached() {
            let (since, came) = (queued.since, attached.since);
            self.slow.settled(&session.client, since, came, seconds(now));
        }
        if let Some(link) = session.link.as_deref_mut() {
            link.settled(settlement);
        }
        self.forget(slot, queued, now, out);
        self.pump(slot, now, out);
    }
}

/// Hands a delivery to the endpoint of a session that takes it. Nothing goes to a client but by here.
fn hand_over(
    session: &mut Session,
    message: &Message,
    qos: Qos,
    delivery: impl FnOnce() -> Delivery, // made in its place: it is too large to be moved for every receiver
    counters: &mut Counters,
    out: &mut BusOutputs,
) {
    let Some(attached) = session.attachment.attached() else {
        return;
    };
    counters.delivered += 1;
    session.deliveries.spend(message);
    let endpoint = attached.endpoint;
    if qos == Qos::AtMostOnce {
        session.note_handed_qos0();
    }
    out.events.push((endpoint, BusEvent::Delivery(delivery())));
}
