//! QoS 0 for clients that sleep: in memory, bounded for each and for all. MQTT-SN 1.2 §6.14

use crate::bus::Bus;
use crate::queue::Queued;
use crate::session::Session;
use crate::sessions::Slot;
use crate::settings::SleeperSettings;
use crate::stats::DropReason;
use headgate_model::{Message, Qos};

impl SleeperSettings {
    /// Whether QoS 0 waits for the client of this session.
    pub(crate) fn keeps(&self, session: &Session) -> bool {
        self.keep_qos0 && session.is_asleep()
    }
}

impl Bus {
    /// What waits at QoS 0 for a client that sleeps is brought within its bounds, and counted among that of all sleepers. The oldest goes.
    pub(crate) fn trim_sleeper(&mut self, slot: Slot) {
        let stores = self.sessions[slot].rules(&self.queue_rules).store_qos0;
        let limits = &self.settings.sleepers;
        let session = &mut self.sessions[slot];
        let gauges = &mut self.gauges;
        session.deliveries.count_slept(0, gauges);
        if stores || !limits.keeps(session) {
            return;
        }
        let queue = &mut session.deliveries.queue;
        let of_qos0 = queue.iter().filter(|q| q.qos == Qos::AtMostOnce);
        let mut bytes: usize = of_qos0.map(Queued::size).sum();
        while let Some(oldest) = queue.oldest_qos0() {
            let fits = queue.qos0() <= limits.max_qos0_messages
                && bytes <= limits.max_qos0_bytes
                && gauges.sleepers + bytes <= limits.max_total_qos0_bytes;
            if fits {
                break;
            }
            let Some(queued) = queue.remove(oldest, gauges) else {
                break;
            };
            bytes -= queued.size();
            self.counters.drop(DropReason::QueueFull);
            if let Some(link) = session.link.as_deref_mut() {
                let topic = queued.message.topic.as_bytes();
                link.ledger.drop(DropReason::QueueFull, queued.qos, topic);
            }
            Message::recycle(queued.message);
        }
        session.deliveries.count_slept(bytes, gauges);
    }
}
