//! What is under way to a client: QoS 1 and 2 deliveries that were handed to its endpoint and are not settled. MQTT 5 §4.4
//!
//! Always true: they are in the order in which they were sent, and `bytes` and `quota_used` are those of `entries`.

use crate::gauges::{Gauges, Load};
use crate::queue::{DELIVERY_IDS, Queued};
use headgate_model::DeliveryId;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    entries: VecDeque<Queued>,
    /// Between these lie the numbers of all of them; less may be there.
    span: (u64, u64),
    bytes: u32,
    /// How many count against the receiver's maximum: all that are not `carried`.
    quota_used: u16,
}

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(crate) fn quota_used(&self) -> u16 {
        self.quota_used
    }

    #[inline]
    pub(crate) fn load(&self) -> Load {
        Load {
            entries: self.len(),
            bytes: self.bytes as usize,
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Queued> {
        self.entries.iter()
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Queued> {
        self.entries.get_mut(at)
    }

    #[inline]
    pub(crate) fn push(&mut self, queued: Queued, gauges: &mut Gauges) {
        let before = self.load();
        let seq = queued.seq;
        self.bytes = self.bytes.saturating_add(bytes_of(queued.size()));
        self.quota_used += u16::from(!queued.carried);
        let (low, high) = self.span;
        self.span = if self.entries.is_empty() {
            (seq, seq)
        } else {
            (low.min(seq), high.max(seq))
        };
        self.entries.push_back(queued);
        if self.span.1 - self.span.0 >= DELIVERY_IDS {
            let seqs = || self.entries.iter().map(|queued| queued.seq);
            self.span = (seqs().min().unwrap_or(seq), seqs().max().unwrap_or(seq));
        }
        gauges.inflight.change(before, self.load());
    }

    /// Takes the delivery at this place out.
    #[inline]
    pub(crate) fn remove(&mut self, at: usize, gauges: &mut Gauges) -> Option<Queued> {
        let before = self.load();
        let queued = self.entries.remove(at)?;
        self.bytes = self.bytes.saturating_sub(bytes_of(queued.size()));
        self.quota_used -= u16::from(!queued.carried);
        gauges.inflight.change(before, self.load());
        Some(queued)
    }

    /// The connection is gone. What was received stays, for its PUBREL; the rest is handed back, in order, to be sent again. \[MQTT-4.4.0-1\]
    pub(crate) fn take_unreceived(&mut self, gauges: &mut Gauges) -> VecDeque<Queued> {
        let before = self.load();
        let (received, unreceived): (VecDeque<_>, VecDeque<_>) =
            self.entries.drain(..).partition(|queued| queued.received);
        self.entries = received;
        self.entries.iter_mut().for_each(|queued| queued.carried = true);
        self.quota_used = 0;
        self.bytes = bytes_of(self.entries.iter().map(Queued::size).sum());
        gauges.inflight.change(before, self.load());
        unreceived
    }

    /// Where the delivery of this name is. Acknowledgements mostly come in order, so the guess is nearly always right.
    #[inline]
    pub(crate) fn find(&self, id: DeliveryId) -> Option<usize> {
        let first = self.entries.front()?.id()?;
        let distance = (u32::from(id.get()) + 65_535 - u32::from(first.get())) % 65_535;
        let guess = distance as usize;
        let is_it = |queued: &Queued| queued.id() == Some(id);
        if self.entries.get(guess).is_some_and(is_it) {
            return Some(guess);
        }
        // In order of their sequence numbers, entries in the middle may be missing: it is not behind the guess.
        let upto = guess.min(self.entries.len());
        let before = self.entries.iter().take(upto).position(is_it);
        before.or_else(|| {
            let behind = self.entries.iter().skip(upto).position(is_it)?;
            Some(upto + behind)
        })
    }

    /// Names repeat after 65,535 deliveries: whether the one of this number is under way, and must not be given again. \[MQTT-2.2.1-4\]
    #[inline]
    pub(crate) fn holds_name_of(&self, seq: u64, id: DeliveryId) -> bool {
        let (low, high) = self.span;
        high.max(seq) - low.min(seq) >= DELIVERY_IDS && self.find(id).is_some()
    }

    pub(crate) fn into_entries(self) -> VecDeque<Queued> {
        self.entries
    }
}

pub(crate) fn bytes_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::delivery_id;
    use crate::queue::tests::queued;

    #[test]
    fn inflight_is_found_whatever_is_missing_before_it() {
        let (mut inflight, mut gauges) = (Inflight::default(), Gauges::default());
        for seq in [65_533, 65_534, 65_537, 65_600] {
            inflight.push(queued(seq, 0), &mut gauges);
        }
        for (at, seq) in (0..).zip([65_533, 65_534, 65_537, 65_600]) {
            assert_eq!(inflight.find(delivery_id(seq)), Some(at), "{seq}");
        }
        assert_eq!(inflight.find(delivery_id(65_536)), None);
        assert_eq!(inflight.find(delivery_id(1_000)), None);
        assert_eq!(gauges.inflight, inflight.load());
    }
}
