//! An operator empties a queue. What is in the store alone goes in slices, one for each commit: nobody waits for a million entries.

use crate::bus::{Bus, BusOutputs};
use crate::deliveries::Deliveries;
use crate::queue::Queued;
use crate::sessions::{SessionRef, Slot};
use crate::stats::DropReason;
use headgate_model::{Instant, Qos, SessionId};

/// Entries of the store that go with one commit.
const SLICE: usize = 4_096;

/// What is still to go of one session's queue.
#[derive(Debug)]
pub(crate) struct Flush {
    slot: Slot,
    /// Lanes, and how many are to go of each.
    lanes: Vec<(u8, usize)>,
}

impl Bus {
    /// Drops everything that is queued for a client: how much, or `None` when it has no session. What is under way stays, and so do QoS 2 deliveries
    /// that were under way when the connection was lost: the other side may hold their packet identifiers. \[MQTT-4.4.0-1\]
    pub fn flush(&mut self, client: &str, now: Instant, out: &mut BusOutputs) -> Option<usize> {
        let slot = self.sessions.of_client(client)?;
        let session = &mut self.sessions[slot];
        let id = session.id;
        let Deliveries { queue, lanes, .. } = &mut session.deliveries;
        // A part that is on its way from the store is not taken any more.
        lanes.forget_asked();
        let lanes: Vec<_> = lanes.iter().map(|lane| (lane.priority, lane.len())).collect();
        let may_go = |queued: &Queued| !(queued.qos == Qos::ExactlyOnce && queued.sent);
        let gone = queue.take(may_go, &mut self.gauges);
        let count = gone.len() + lanes.iter().map(|(_, count)| count).sum::<usize>();
        for queued in gone {
            self.counters.drop(DropReason::Flushed);
            let topic = queued.message.topic.as_bytes();
            self.sessions[slot].note_drop(DropReason::Flushed, queued.qos, topic);
            self.forget(slot, queued, now, out);
        }
        self.flushing.insert(id, Flush { slot, lanes });
        self.go_on_flushing(now, out);
        Some(count)
    }

    /// The next slice of every queue that is being emptied.
    pub(crate) fn go_on_flushing(&mut self, now: Instant, out: &mut BusOutputs) {
        let ids: Vec<SessionId> = self.flushing.keys().copied().collect();
        for id in ids {
            let Some(mut flush) = self.flushing.remove(&id) else {
                continue;
            };
            let slot = flush.slot;
            if self.sessions.living(SessionRef { slot, id }).is_none() {
                continue;
            }
            self.flush_slice(&mut flush);
            if flush.lanes.is_empty() {
                self.pump(slot, now, out);
            } else {
                self.flushing.insert(id, flush);
            }
        }
    }

    fn flush_slice(&mut self, flush: &mut Flush) {
        for _ in 0..SLICE {
            let Some((priority, left)) = flush.lanes.last_mut() else {
                return;
            };
            if *left > 0 && self.drop_stored(flush.slot, *priority, DropReason::Flushed) {
                self.counters.drop(DropReason::Flushed);
                *left -= 1;
            } else {
                flush.lanes.pop();
            }
        }
    }
}
