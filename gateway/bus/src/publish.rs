//! What clients publish. MQTT 5 §3.3

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs};
use crate::routing::Ingested;
use crate::sessions::Slot;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::{AckToken, BusEvent, EndpointId, Instant, Message, StoreOp};

impl Bus {
    /// A client publishes. What it sends again was routed when it first came.
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
        let session = &mut self.sessions[slot];
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
                    let session = &mut self.sessions[slot];
                    session.received.insert(packet);
                    if session.is_durable() {
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
        let session = &mut self.sessions[slot];
        let known = session.received.remove(packet);
        let needs = if known && session.is_durable() {
            let id = session.id;
            self.pending.push(StoreOp::DeleteReceived(id, packet));
            Needs::Disk
        } else {
            Needs::Nothing
        };
        self.answer(from, BusEvent::Released { packet, known }, needs, out);
    }
}
