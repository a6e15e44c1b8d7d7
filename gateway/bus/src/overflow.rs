//! Queues that are full: who gives way, and who is refused.

use crate::bus::{Bus, BusOutputs};
use crate::links::Victim;
use crate::queue::Queued;
use crate::sessions::Slot;
use crate::stats::DropReason;
use headgate_model::{Instant, Message, Qos, QueueFull};

impl Bus {
    /// Whether a queue that has no room for it says so to its publisher.
    pub(crate) fn some_target_refuses(
        &mut self,
        message: &Message,
        now: Instant,
        out: &mut BusOutputs,
    ) -> bool {
        let size = size_of::<Queued>() + message.size();
        let targets = std::mem::take(&mut self.router.targets);
        let kept = targets.iter().filter(|target| target.qos > Qos::AtMostOnce);
        let refusing = kept.map(|target| target.slot).find(|slot| {
            self.sessions[*slot].may_read(&message.topic) && self.refuses(*slot, size, now, out)
        });
        self.router.targets = targets;
        if let Some(link) = refusing.and_then(|slot| self.sessions[slot].link.as_deref_mut()) {
            link.ledger.refused += 1;
        }
        refusing.is_some()
    }

    fn refuses(&mut self, slot: Slot, size: usize, now: Instant, out: &mut BusOutputs) -> bool {
        loop {
            let session = &self.sessions[slot];
            let rules = session.rules(&self.queue_rules);
            let full =
                || session.is_full(Qos::AtLeastOnce, size, &self.queue_rules) || self.is_over_total(size);
            if rules.when_full != QueueFull::Refuse || session.deliveries.queue.qos0() > 0 || !full() {
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

    /// Makes room in a queue for one more. False when it must not be queued; whatever is dropped is counted.
    pub(crate) fn make_room(
        &mut self,
        slot: Slot,
        incoming: &Queued,
        now: Instant,
        out: &mut BusOutputs,
    ) -> bool {
        loop {
            let over_total = self.is_over_total(incoming.size());
            let session = &mut self.sessions[slot];
            let full = session.is_full(incoming.qos, incoming.size(), &self.queue_rules);
            if !(full || over_total) {
                return true;
            }
            if self.drop_expired(slot, now, out) {
                continue;
            }
            let session = &self.sessions[slot];
            if session
                .deliveries
                .lanes
                .last()
                .is_some_and(|lane| lane.asked.is_some())
            {
                return true; // A part of the queue is on its way from the store; until it is here, nobody knows what is the oldest.
            }
            if self.begin_sweep(slot, now) {
                return true; // What has expired holds a place; soon it is known how many.
            }
            let session = &mut self.sessions[slot];
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
        let session = &mut self.sessions[slot];
        let all = !session.wants_expired;
        let queue = &mut session.deliveries.queue;
        let gone = queue.take_expired(now, |qos| all || qos == Qos::AtMostOnce, &mut self.gauges);
        let found = !gone.is_empty();
        for queued in gone {
            self.counters.drop(DropReason::Expired);
            let (qos, topic) = (queued.qos, queued.message.topic.as_bytes());
            self.sessions[slot].note_drop(DropReason::Expired, qos, topic);
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
        let session = &mut self.sessions[slot];
        match victim {
            Victim::Incoming => {}
            Victim::Queued(at) => {
                let queue = &mut session.deliveries.queue;
                let queued = queue.remove(at, &mut self.gauges).expect("a place in the queue");
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
        let session = &mut self.sessions[slot];
        let lanes = &mut session.deliveries.lanes;
        let Some(from) = lanes.get(priority).map(|lane| lane.from) else {
            return false;
        };
        let bytes = lanes.drop_one(priority, &mut self.gauges);
        if let Some(link) = session.link.as_deref_mut() {
            link.lose(priority, reason);
        }
        let id = session.id;
        self.store.free(bytes);
        self.pending.drop_oldest(id, priority, from);
        true
    }

    /// Whether so many bytes more are over the limit of all queues together, in the store or in memory.
    pub(crate) fn is_over_total(&self, size: usize) -> bool {
        let limit = self.settings.max_total_queued_bytes;
        limit > 0 && self.store.queued_bytes().max(self.gauges.in_memory().bytes) + size > limit
    }
}
