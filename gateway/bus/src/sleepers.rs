//! QoS 0 for clients that sleep: in memory, bounded for each and for all. MQTT-SN 1.2 §6.14

use crate::bus::Bus;
use crate::index::Slot;
use crate::session::{Queued, Session, Sleep};
use crate::settings::SleeperSettings;
use crate::stats::DropReason;
use headgate_model::{Message, Qos};

impl SleeperSettings {
    /// Whether QoS 0 waits for the client of this session.
    pub(crate) fn keeps(&self, session: &Session) -> bool {
        self.keep_qos0 && session.sleep == Sleep::Asleep
    }
}

impl Bus {
    /// What waits at QoS 0 for a client that sleeps is brought within its bounds, and counted among that of all sleepers. The oldest goes.
    pub(crate) fn trim_sleeper(&mut self, slot: Slot) {
        let stores = self.session(slot).rules(&self.queue_rules).store_qos0;
        let limits = &self.settings.sleepers;
        let session = self.sessions[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session");
        self.slept_bytes -= std::mem::take(&mut session.slept_bytes) as usize;
        if stores || !limits.keeps(session) {
            return;
        }
        let of_qos0 = session.queue.iter().filter(|q| q.qos == Qos::AtMostOnce);
        let mut bytes: usize = of_qos0.map(Queued::size).sum();
        let before = session.held();
        while session.queued_qos0 > 0 {
            let fits = session.queued_qos0 as usize <= limits.max_qos0_messages
                && bytes <= limits.max_qos0_bytes
                && self.slept_bytes + bytes <= limits.max_total_qos0_bytes;
            if fits {
                break;
            }
            let oldest = session.queue.iter().position(|q| q.qos == Qos::AtMostOnce);
            let Some(queued) = oldest.and_then(|at| session.dequeue_at(at)) else {
                break;
            };
            bytes -= queued.size();
            self.counters.drop(DropReason::QueueFull);
            session.note_drop(DropReason::QueueFull, queued.qos, queued.message.topic.as_bytes());
            Message::recycle(queued.message);
        }
        self.memory.change(before, session.held());
        // More than four billion may wait only if the settings say so; then less of it is counted.
        session.slept_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.slept_bytes += session.slept_bytes as usize;
    }
}
