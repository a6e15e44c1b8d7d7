//! What waits for a client in memory.
//!
//! Always true: higher priorities come first, equals in the order in which they came, and `bytes` and `qos0` are those of `entries`.

use crate::gauges::{Gauges, Load};
use crate::index::GroupId;
use crate::ledger::seconds;
use crate::pending::EntryRef;
use headgate_model::{Delivery, DeliveryId, Instant, Message, Qos, SubscriptionIds};
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

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
    /// Since when it waits, in [`seconds`].
    pub since: u32,
}

const _: () = assert!(
    size_of::<Queued>() <= 64,
    "a client that is slow holds hundreds of these"
);

/// Names of deliveries; the next one after so many is the first one again.
pub(crate) const DELIVERY_IDS: u64 = 65_535;

/// See [`DeliveryId`].
pub(crate) fn delivery_id(seq: u64) -> DeliveryId {
    let number = u16::try_from(seq % DELIVERY_IDS).expect("below 65,535") + 1;
    NonZeroU16::new(number).expect("at least one")
}

impl Queued {
    #[inline]
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

    #[inline]
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.message.size()
    }

    /// When it expires, in seconds, rounded up; `u32::MAX` for never.
    /// Whether another member of its group may get it. What a receiver may already hold as QoS 2 is not given to another. \[MQTT-4.8.2-5\]
    pub(crate) fn may_go_to_another(&self) -> bool {
        self.group != 0 && !(self.qos == Qos::ExactlyOnce && self.sent)
    }

    fn expires(&self) -> u32 {
        self.message.expires_at.map_or(u32::MAX, seconds)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: VecDeque<Queued>,
    bytes: usize,
    /// No delivery that may expire has done so before: in seconds, rounded up.
    expires: u32,
    /// How many are QoS 0.
    qos0: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            expires: u32::MAX,
            qos0: 0,
        }
    }
}

impl Queue {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are QoS 0.
    pub(crate) fn qos0(&self) -> usize {
        self.qos0 as usize
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            entries: self.len(),
            bytes: self.bytes,
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Queued> + ExactSizeIterator {
        self.entries.iter()
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&Queued> {
        self.entries.front()
    }

    pub(crate) fn back(&self) -> Option<&Queued> {
        self.entries.back()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Queued> {
        self.entries.get(at)
    }

    /// The place of the oldest QoS 0 delivery.
    pub(crate) fn oldest_qos0(&self) -> Option<usize> {
        let is_qos0 = |queued: &Queued| queued.qos == Qos::AtMostOnce;
        (self.qos0 > 0).then(|| self.entries.iter().position(is_qos0))?
    }

    /// Puts a delivery in by its priority, behind its equals.
    #[inline]
    pub(crate) fn push(&mut self, queued: Queued, gauges: &mut Gauges) {
        self.count_in(&queued, gauges);
        self.expires = self.expires.min(queued.expires());
        let at = self
            .entries
            .iter()
            .rposition(|q| q.priority >= queued.priority)
            .map_or(0, |at| at + 1);
        if at == self.entries.len() {
            self.entries.push_back(queued);
        } else {
            self.entries.insert(at, queued);
        }
    }

    /// Puts back in front what was sent and is to be sent again.
    pub(crate) fn push_front(&mut self, queued: Queued, gauges: &mut Gauges) {
        self.count_in(&queued, gauges);
        self.entries.push_front(queued);
    }

    #[inline]
    pub(crate) fn pop_front(&mut self, gauges: &mut Gauges) -> Option<Queued> {
        let queued = self.entries.pop_front()?;
        self.count_out(&queued, gauges);
        Some(queued)
    }

    pub(crate) fn remove(&mut self, at: usize, gauges: &mut Gauges) -> Option<Queued> {
        let queued = self.entries.remove(at)?;
        self.count_out(&queued, gauges);
        Some(queued)
    }

    /// Takes all that are `chosen` out, in order, in one pass.
    pub(crate) fn take(
        &mut self,
        mut chosen: impl FnMut(&Queued) -> bool,
        gauges: &mut Gauges,
    ) -> Vec<Queued> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.entries.len());
        for queued in self.entries.drain(..) {
            if chosen(&queued) {
                taken.push(queued);
            } else {
                kept.push_back(queued);
            }
        }
        self.entries = kept;
        taken.iter().for_each(|queued| self.count_out(queued, gauges));
        taken
    }

    /// Takes all deliveries of those QoS out that have expired and were not sent before. MQTT 5 §3.3.2.3.3 Looks at them only if there can be any.
    pub(crate) fn take_expired(
        &mut self,
        now: Instant,
        drops: impl Fn(Qos) -> bool,
        gauges: &mut Gauges,
    ) -> Vec<Queued> {
        if now.0 / 1_000 < u64::from(self.expires) {
            return Vec::new();
        }
        let may_go = |queued: &Queued| !queued.sent && drops(queued.qos);
        let gone = self.take(|queued| may_go(queued) && queued.message.is_expired(now), gauges);
        let left = self.entries.iter().filter(|queued| may_go(queued));
        self.expires = left.map(Queued::expires).min().unwrap_or(u32::MAX);
        gone
    }

    pub(crate) fn into_entries(self) -> VecDeque<Queued> {
        self.entries
    }

    #[inline]
    fn count_in(&mut self, queued: &Queued, gauges: &mut Gauges) {
        let size = queued.size();
        self.bytes += size;
        self.qos0 += u32::from(queued.qos == Qos::AtMostOnce);
        gauges.queue.add(size);
    }

    #[inline]
    fn count_out(&mut self, queued: &Queued, gauges: &mut Gauges) {
        let size = queued.size();
        self.bytes -= size;
        self.qos0 -= u32::from(queued.qos == Qos::AtMostOnce);
        gauges.queue.subtract(size);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use headgate_model::Topic;

    pub(crate) fn queued(seq: u64, priority: u8) -> Queued {
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
    fn higher_priorities_go_first_and_equals_stay_in_order() {
        let (mut queue, mut gauges) = (Queue::default(), Gauges::default());
        for (seq, priority) in [(1, 0), (2, 5), (3, 0), (4, 5), (5, 9)] {
            queue.push(queued(seq, priority), &mut gauges);
        }
        let order: Vec<u64> = queue.iter().map(|q| q.seq).collect();
        assert_eq!(order, [5, 2, 4, 1, 3]);
        assert_eq!(gauges.queue, queue.load());
        while queue.pop_front(&mut gauges).is_some() {}
        assert_eq!((queue.bytes(), queue.qos0()), (0, 0));
        assert_eq!(gauges, Gauges::default());
    }
}
