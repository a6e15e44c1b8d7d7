//! What the remote publishes: PUBLISH and PUBREL in, PUBACK, PUBREC and PUBCOMP out. MQTT 5 §3.3, §4.3
//!
//! A message that the bus cannot take *now* is not acknowledged and the connection ends, in MQTT 5 too: a negative acknowledgement would make the
//! remote forget it. \[MQTT-4.3.2-3\] What the bus will *never* take is acknowledged and counted, or it would come again and again.

use crate::compression::{Compression, ENCODING};
use crate::convert;
use crate::endpoint::{BridgeEndpoint, Out};
use crate::mapping::{Mapped, Unmapped};
use crate::outbound::{DEAD_LETTERS, delivery_of};
use crate::reasons::{DropReason, EndReason};
use headgate_model::bus::Refusal;
use headgate_model::{AckToken, BusCommand, Instant, Message, Metric, Qos, Topic};
use headgate_mqtt_codec::{Ack, AckKind, Packet, PacketId, Publish, ReasonCode, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The remote's side of the QoS flows.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    under_way: BTreeMap<PacketId, Flow>,
    /// Of those, the ones that began on an earlier connection and are brought to their end on this one.
    resumed: BTreeSet<PacketId>,
    /// Packet identifiers under which QoS 2 messages came by this connection.
    ///
    /// The bus may know identifiers from before, and would take a new message under one of those for an old one.
    used: BTreeSet<PacketId>,
    /// The remote's session began with this connection. 3.1 does not say it.
    is_fresh: bool,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// QoS 1: the bus has it.
    One,
    /// QoS 2: the bus has it.
    Two,
    /// QoS 2: PUBREC went out.
    Received,
    /// QoS 2: PUBREL came.
    Released,
}

impl Inbound {
    pub(crate) fn begin(&mut self, session_present: bool, version: Version) {
        self.is_fresh = !session_present && version != Version::V31;
    }

    /// Notes how far a message is.
    fn set(&mut self, id: PacketId, flow: Flow) {
        self.under_way.insert(id, flow);
    }

    /// The identifier is the remote's again.
    fn end(&mut self, id: PacketId) {
        self.under_way.remove(&id);
        self.resumed.remove(&id);
    }

    /// Messages that began on this connection and are not acknowledged.
    fn begun(&self) -> usize {
        self.under_way.len() - self.resumed.len()
    }

    /// Whether a QoS 2 message under this identifier is surely none that the bus knows: what is sent again on another connection has DUP.
    /// \[MQTT-3.3.1-1\]
    fn is_new(&mut self, id: PacketId, dup: bool) -> bool {
        let first = !self.under_way.contains_key(&id) && self.used.insert(id);
        first && (self.is_fresh || !dup)
    }
}

impl BridgeEndpoint {
    pub(crate) fn on_publish(&mut self, mut publish: Publish, now: Instant, out: &mut Out) {
        let qos = convert::qos_from_wire(publish.qos);
        out.counts.add(match qos {
            Qos::AtMostOnce => Metric::Qos0Received,
            Qos::AtLeastOnce => Metric::Qos1Received,
            Qos::ExactlyOnce => Metric::Qos2Received,
        });
        if let Some(id) = publish.packet_id
            && !self.takes_packet_id(id, publish.dup)
        {
            let reason = ReasonCode::ReceiveMaximumExceeded; // MQTT 5 §4.9
            return self.fail_as(reason, "more than Receive Maximum under way", out);
        }
        // We allow no aliases, so the topic is there. [MQTT-3.1.2-26]
        let Ok(topic) = Topic::parse(publish.topic.clone().into_bytes()) else {
            return self.fail_as(ReasonCode::TopicNameInvalid, "not a topic name", out);
        };
        self.status.received.add();
        let mapped = self.local_name(&topic);
        match mapped.and_then(|mapped| self.unpack(&mut publish, mapped)) {
            Ok(mapped) => self.publish_to_bus(publish, mapped, now, out),
            Err(why) => {
                self.status.count_drop(why);
                self.acknowledge_unrouted(publish.packet_id, qos, ReasonCode::Success, out);
            }
        }
    }

    /// Version 3 has no Receive Maximum: there the number of packet identifiers is the bound. So it is for what a session that goes on has to send again
    /// \[MQTT-4.4.0-1\]: mosquitto has more of it than it may have, and if it was refused would send the same on every connection.
    fn takes_packet_id(&mut self, id: PacketId, dup: bool) -> bool {
        if self.plan.version() != Version::V5 || self.inbound.under_way.contains_key(&id) {
            return true;
        }
        if dup && self.remote.session_present {
            self.inbound.resumed.insert(id);
            return true;
        }
        self.inbound.begun() < usize::from(self.plan.settings.receive_maximum)
    }

    /// What a rule with `compress` packs on the way out comes in packed, and is unpacked.
    fn unpack(&self, publish: &mut Publish, mapped: Mapped) -> Result<Mapped, DropReason> {
        let Some(how) = mapped.compress.and_then(|_| Compression::of(&publish.payload)) else {
            return Ok(mapped);
        };
        let limit = self.plan.settings.max_packet_size as usize;
        let payload = how.unpack(&publish.payload, limit);
        publish.payload = payload.ok_or(DropReason::IncomingPayloadInvalid)?;
        if let Some(properties) = &mut publish.properties {
            properties
                .user_properties
                .retain(|(name, _)| name.as_str() != ENCODING);
        }
        Ok(mapped)
    }

    fn local_name(&self, topic: &Topic) -> Result<Mapped, DropReason> {
        match self.plan.topics.incoming(topic) {
            Ok(mapped) => Ok(mapped),
            Err(Unmapped::NoRule) => Err(DropReason::IncomingNoRule),
            Err(Unmapped::Invalid(_)) => Err(DropReason::IncomingTopicInvalid),
        }
    }

    fn publish_to_bus(&mut self, publish: Publish, mapped: Mapped, now: Instant, out: &mut Out) {
        let qos = convert::qos_from_wire(publish.qos);
        let expiry = publish.properties.as_ref().and_then(|p| p.message_expiry);
        let message = Message {
            topic: mapped.topic,
            payload: publish.payload,
            qos,
            retain: mapped.retain.apply(publish.retain),
            expires_at: expiry.map(|seconds| now + Duration::from_secs(seconds.into())),
            properties: publish
                .properties
                .and_then(|properties| convert::properties_from_wire(*properties)),
            publisher: None,
            charge: Default::default(),
        };
        let Some(message) = self.admit(message) else {
            self.status.count_drop(DropReason::IncomingTopicInvalid);
            return self.acknowledge_unrouted(publish.packet_id, qos, ReasonCode::Success, out);
        };
        let exactly_once = publish.packet_id.filter(|_| qos == Qos::ExactlyOnce);
        if let Some(id) = exactly_once
            && self.inbound.is_new(id, publish.dup)
        {
            out.bus(BusCommand::Release(id.get()));
        }
        if let Some(id) = publish.packet_id {
            let flow = if exactly_once.is_some() {
                Flow::Two
            } else {
                Flow::One
            };
            self.inbound.set(id, flow);
        }
        out.bus(BusCommand::Publish {
            message,
            ack: publish.packet_id.map(|id| AckToken(id.get().into())),
            dedup: exactly_once.map(PacketId::get),
        });
    }

    /// Answers a message that does not reach the bus.
    fn acknowledge_unrouted(&mut self, id: Option<PacketId>, qos: Qos, reason: ReasonCode, out: &mut Out) {
        let Some(id) = id else { return };
        let flow = if qos == Qos::ExactlyOnce {
            Flow::Two
        } else {
            Flow::One
        };
        self.inbound.set(id, flow);
        self.acknowledge(id, reason, out);
    }

    /// PUBACK or PUBREC. \[MQTT-4.3.2-4\] \[MQTT-4.3.3-8\]
    fn acknowledge(&mut self, id: PacketId, reason: ReasonCode, out: &mut Out) {
        let kind = match self.inbound.under_way.get(&id) {
            Some(Flow::One) => AckKind::PubAck,
            Some(Flow::Two | Flow::Received) => AckKind::PubRec,
            Some(Flow::Released) | None => return,
        };
        if kind == AckKind::PubAck || reason.is_error() {
            self.inbound.end(id);
        } else {
            self.inbound.set(id, Flow::Received);
        }
        out.send(Packet::Ack(Ack::with_reason(kind, id, reason)));
    }

    pub(crate) fn on_accepted(&mut self, token: AckToken, out: &mut Out) {
        if let Some(delivery) = delivery_of(token) {
            return self.on_dead_letter_accepted(delivery, out);
        }
        if let Some(id) = packet_id_of(token) {
            self.acknowledge(id, ReasonCode::Success, out);
        }
    }

    pub(crate) fn on_refused(&mut self, token: AckToken, why: Refusal, out: &mut Out) {
        if let Some(delivery) = delivery_of(token) {
            return self.on_dead_letter_refused(delivery, out);
        }
        let Some(id) = packet_id_of(token) else { return };
        match convert::lasting_refusal(why) {
            Some(reason) => {
                self.status.count_drop(DropReason::IncomingRefused);
                // Before MQTT 5 an acknowledgement cannot say no.
                let sayable = self.plan.version() == Version::V5;
                let reason = if sayable { reason } else { ReasonCode::Success };
                self.acknowledge(id, reason, out);
            }
            None => self.try_later(EndReason::BusRefused, out),
        }
    }

    pub(crate) fn on_pubrel(&mut self, ack: &Ack, out: &mut Out) {
        let flow = self.inbound.under_way.get(&ack.packet_id);
        if matches!(flow, Some(Flow::One | Flow::Two)) {
            return self.fail("PUBREL before PUBREC", out); // [MQTT-4.3.3-5]
        }
        if flow.is_none() {
            self.inbound.resumed.insert(ack.packet_id); // Its PUBLISH came by an earlier connection.
        }
        self.inbound.set(ack.packet_id, Flow::Released);
        out.bus(BusCommand::Release(ack.packet_id.get()));
    }

    /// PUBCOMP, after the identifier was durably given back; nothing if it was we who gave it back. \[MQTT-4.3.3-11\]
    pub(crate) fn on_released(&mut self, packet: u16, out: &mut Out) {
        let Some(id) = PacketId::new(packet) else { return };
        if self.inbound.under_way.get(&id) == Some(&Flow::Released) {
            self.inbound.end(id);
            out.send(Packet::Ack(Ack::success(AckKind::PubComp, id)));
        }
    }
}

/// Tokens below those of dead letters are packet identifiers.
fn packet_id_of(token: AckToken) -> Option<PacketId> {
    debug_assert!(token.0 < DEAD_LETTERS);
    u16::try_from(token.0).ok().and_then(PacketId::new)
}
