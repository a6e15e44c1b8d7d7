//! What clients publish. MQTT 5 §3.3

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs};
use crate::routing::{Ingested, Origin};
use crate::sessions::Slot;
use crate::turns;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::{AckToken, BusEvent, EndpointId, Instant, Message, StoreOp};

/// The endpoint of programs that publish by way of the hub. It has no session; [`Bus::publish_acknowledged`] is answered to it.
pub const HUB: EndpointId = EndpointId(u64::MAX);

impl Bus {
    /// A message of the gateway itself.
    pub fn publish(&mut self, message: Message, now: Instant, out: &mut BusOutputs) {
        // Nobody waits for an answer: a refusal (a full `$delayed/` list) is counted where it happens.
        let _ = self.ingest(message, Origin::Gateway, now, out);
    }

    /// A message of a program. [`HUB`] is told [`BusEvent::Accepted`] when it is as safe as a PUBACK promises, or [`BusEvent::Refused`], in the order in
    /// which they were published.
    pub fn publish_acknowledged(
        &mut self,
        mut message: Message,
        token: AckToken,
        now: Instant,
        out: &mut BusOutputs,
    ) {
        self.work += turns::COMMAND;
        self.look_at_memory();
        self.stamp(&mut message, false, now);
        let (event, needs) = match self.ingest(message, Origin::Hub, now, out) {
            Ok(Ingested { outcome, needs }) => (BusEvent::Accepted(token, outcome), needs),
            Err(refusal) => (BusEvent::Refused(token, refusal), Needs::Nothing),
        };
        self.answer(HUB, event, needs, out);
    }

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
            if session.rare.has_received(packet) {
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
            if session.rare.received() >= limit {
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
            None if self.looks_closer => self.ingest_closely(slot, message, now, out),
            None => self.ingest(message, Origin::Session(slot), now, out),
        };
        match ingested {
            Ok(Ingested { outcome, mut needs }) => {
                if let Some(packet) = dedup {
                    let session = &mut self.sessions[slot];
                    session.rare.put_received(packet);
                    if session.is_durable() {
                        let id = session.id;
                        self.pending.push(StoreOp::PutReceived(id, packet));
                        needs = Needs::Disk;
                    }
                }
                if let Some(token) = ack {
                    let event = BusEvent::Accepted(token, outcome);
                    self.answer_publish(from, Some(event), dedup, needs, out);
                }
            }
            Err(refusal) => {
                if let Some(token) = ack {
                    self.answer(from, BusEvent::Refused(token, refusal), Needs::Nothing, out);
                }
            }
        }
    }

    /// The same for a message that is to be stamped, or may be a request to the gateway itself.
    #[inline(never)]
    fn ingest_closely(
        &mut self,
        slot: Slot,
        mut message: Message,
        now: Instant,
        out: &mut BusOutputs,
    ) -> Result<Ingested, Refusal> {
        let is_link = self.sessions[slot].link.is_some();
        self.stamp(&mut message, is_link, now);
        let request = self.request_in(slot, &message);
        let mut ingested = self.ingest(message, Origin::Session(slot), now, out);
        if let (Some(request), Ok(taken)) = (request, &mut ingested) {
            // Somebody has it, whoever else subscribed.
            taken.outcome = Outcome::Matched;
            out.requests.push(*request);
        }
        ingested
    }

    /// Whether messages of clients need more than to be routed: most gateways are asked for neither, and pay one look at a flag.
    pub(crate) fn set_looks_closer(&mut self) {
        self.looks_closer = self.settings.stamp || self.requested.is_some();
    }

    /// PUBREL: the packet identifier may be used for another message. \[MQTT-4.3.3-12\]
    pub(crate) fn release(&mut self, from: EndpointId, slot: Slot, packet: u16, out: &mut BusOutputs) {
        let session = &mut self.sessions[slot];
        let known = session.rare.remove_received(packet);
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
