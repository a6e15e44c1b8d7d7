//! What the client publishes: PUBLISH and PUBREL in, PUBACK, PUBREC and PUBCOMP out. MQTT 5 §3.3, §4.3, §4.9

use crate::convert;
use crate::counters::PacketMetric;
use crate::endpoint::{Held, MqttEndpoint, Out};
use crate::ids::IdMap;
use bytes::Bytes;
use headgate_model::access::{DenyCode, Wanted};
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::gate::Waiting;
use headgate_model::{
    AckToken, Admitted, Answer, BusCommand, Instant, Message, Metric, Qos, Question, Refused, Topic, Verdict,
};
use headgate_mqtt_codec::{Ack, AckKind, PacketId, Publish, ReasonCode, Version};
use std::num::NonZeroU16;
use std::time::Duration;

/// The client's side of flow control and of topic aliases.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// Packet identifiers in use by the client; those of QoS 2 until PUBCOMP. MQTT 5 §4.9
    under_way: IdMap<Flow>,
    /// Topics by alias number minus one, as far as the client came. \[MQTT-3.3.2-10\]
    aliases: Option<Box<Aliases>>,
    alias_maximum: u16,
}

#[derive(Debug, Default)]
struct Aliases {
    topics: Vec<Option<Topic>>,
    /// Of all topics.
    bytes: usize,
}

/// A message of the client that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    qos: Qos,
    /// For the bus; otherwise for the client's PUBREL.
    waits: bool,
}

impl Inbound {
    /// Whether something that the client sent has no answer yet.
    pub(crate) fn waits_for_bus(&self) -> bool {
        self.under_way.iter().any(|flow| flow.waits)
    }

    fn wait_for_bus(&mut self, packet_id: PacketId) {
        if let Some(flow) = self.under_way.get_mut(packet_id) {
            flow.waits = true;
        }
    }

    fn answered(&mut self, packet_id: PacketId) {
        if let Some(flow) = self.under_way.get_mut(packet_id) {
            flow.waits = false;
        }
    }

    fn qos(&self, packet_id: PacketId) -> Option<Qos> {
        self.under_way.get(packet_id).map(|flow| flow.qos)
    }

    pub(crate) fn allow_aliases(&mut self, maximum: u16) {
        self.alias_maximum = maximum;
    }

    /// The topic of an alias; the error when the client may not use that alias.
    fn alias(&self, alias: NonZeroU16) -> Result<Option<&Topic>, ()> {
        if alias.get() > self.alias_maximum {
            return Err(());
        }
        let topics = self.aliases.as_ref().map(|aliases| &aliases.topics);
        Ok(topics.and_then(|known| known.get(usize::from(alias.get()) - 1)?.as_ref()))
    }

    fn set_alias(&mut self, alias: NonZeroU16, topic: Topic) -> Result<(), ()> {
        if alias.get() > self.alias_maximum {
            return Err(());
        }
        let (aliases, at) = (self.aliases.get_or_insert_default(), usize::from(alias.get()) - 1);
        if at >= aliases.topics.len() {
            aliases.topics.resize(at + 1, None);
        }
        aliases.bytes += topic.as_bytes().len();
        let before = aliases.topics[at].replace(topic);
        aliases.bytes -= before.map_or(0, |topic| topic.as_bytes().len());
        Ok(())
    }

    /// Bytes of the topics that have an alias.
    pub(crate) fn held(&self) -> usize {
        self.aliases.as_ref().map_or(0, |aliases| aliases.bytes)
    }
}

/// A publish that waits for a decision on access.
#[derive(Debug)]
pub(crate) struct HeldPublish {
    message: Box<Waiting<Message>>,
    packet_id: Option<PacketId>,
}

impl MqttEndpoint {
    pub(crate) fn on_publish(&mut self, publish: Publish, now: Instant, out: &mut Out) {
        let qos = convert::qos_from_wire(publish.qos);
        if qos as u8 > self.settings.max_qos {
            return self.fail(ReasonCode::QosNotSupported, "QoS is not offered", out); // [MQTT-3.2.2-11]
        }
        if publish.retain && !self.settings.retain_available {
            return self.fail(ReasonCode::RetainNotSupported, "RETAIN is not offered", out); // [MQTT-3.2.2-14]
        }
        if let Some(packet_id) = publish.packet_id
            && self.is_other_flow(packet_id, qos)
        {
            return self.refuse_packet_id(packet_id, qos, out);
        }
        if let Some(packet_id) = publish.packet_id
            && !self.takes_packet_id(packet_id, qos)
        {
            // MQTT 5 §4.9: more than Receive Maximum. [MQTT-3.3.4-7]
            return self.fail(
                ReasonCode::ReceiveMaximumExceeded,
                "more than Receive Maximum under way",
                out,
            );
        }
        let (raw, mut properties) = (publish.topic.into_bytes(), publish.properties);
        let alias = properties.as_mut().and_then(|p| p.topic_alias.take());
        let topic = if raw.is_empty() {
            match alias.map(|alias| self.inbound.alias(alias)) {
                Some(Ok(Some(topic))) => topic.clone(),
                Some(Err(())) => {
                    return self.fail(ReasonCode::TopicAliasInvalid, "topic alias is too large", out);
                }
                // MQTT 5 §3.3.2.3.4
                Some(Ok(None)) | None => {
                    return self.fail(ReasonCode::ProtocolError, "topic alias is not set", out);
                }
            }
        } else {
            let Ok(topic) = Topic::parse(raw) else {
                return self.reject(publish.packet_id, ReasonCode::TopicNameInvalid, out);
            };
            if let Some(alias) = alias {
                // [MQTT-3.3.2-9] [MQTT-3.3.2-10]
                if self.inbound.set_alias(alias, topic.compact()).is_err() {
                    return self.fail(ReasonCode::TopicAliasInvalid, "topic alias is too large", out);
                }
            }
            topic
        };
        let utf8 = properties
            .as_ref()
            .is_some_and(|p| p.payload_format == Some(true));
        if utf8 && std::str::from_utf8(&publish.payload).is_err() {
            return self.reject(publish.packet_id, ReasonCode::PayloadFormatInvalid, out);
        }
        out.counts.add(match qos {
            Qos::AtMostOnce => Metric::Qos0Received,
            Qos::AtLeastOnce => Metric::Qos1Received,
            Qos::ExactlyOnce => Metric::Qos2Received,
        });
        let expiry = properties.as_ref().and_then(|p| p.message_expiry);
        let message = Message {
            topic,
            payload: publish.payload,
            qos,
            retain: publish.retain,
            expires_at: expiry.map(|seconds| now + Duration::from_secs(seconds.into())),
            properties: properties.and_then(|p| convert::properties_from_wire(*p)),
            publisher: None,
            charge: Default::default(),
        };
        match self.gate().publish(message) {
            Verdict::Admitted(message) => self.publish_to_bus(message, publish.packet_id, out),
            Verdict::Refused(refused) => self.refuse_publish(&refused, publish.packet_id, out),
            Verdict::Ask(message) => {
                let request = message.request();
                let packet_id = publish.packet_id;
                let held = Held::Publish(Box::new(HeldPublish { message, packet_id }));
                self.ask(held, Question::Authorize(vec![request]), out);
            }
        }
    }

    pub(crate) fn on_publish_decided(&mut self, held: HeldPublish, answer: &Answer, out: &mut Out) {
        match held.message.decide(answer.decision(0)) {
            Ok(message) => self.publish_to_bus(message, held.packet_id, out),
            Err(refused) => self.refuse_publish(&refused, held.packet_id, out),
        }
    }

    fn refuse_publish(&mut self, refused: &Refused, packet_id: Option<PacketId>, out: &mut Out) {
        if refused.name_error().is_some() {
            return self.reject(packet_id, ReasonCode::TopicNameInvalid, out);
        }
        self.tell_refused(refused, out);
        self.deny(packet_id, refused.code(), out);
    }

    fn publish_to_bus(&mut self, message: Admitted<Message>, packet_id: Option<PacketId>, out: &mut Out) {
        let ack = packet_id.map(|id| AckToken(id.get().into()));
        let dedup = packet_id
            .filter(|_| message.qos == Qos::ExactlyOnce)
            .map(PacketId::get);
        out.bus(BusCommand::Publish { message, ack, dedup });
    }

    /// Whether the client uses the identifier for a message of another QoS at the moment.
    fn is_other_flow(&self, packet_id: PacketId, qos: Qos) -> bool {
        self.inbound.qos(packet_id).is_some_and(|used| used != qos)
    }

    /// One identifier for two flows: the later is refused, for its acknowledgements could not be told apart. \[MQTT-2.2.1-3\]
    fn refuse_packet_id(&mut self, packet_id: PacketId, qos: Qos, out: &mut Out) {
        if self.version != Version::V5 {
            return self.fail(ReasonCode::PacketIdentifierInUse, "packet identifier in use", out);
        }
        let (kind, sent) = match qos {
            Qos::ExactlyOnce => (AckKind::PubRec, PacketMetric::PubrecSent),
            _ => (AckKind::PubAck, PacketMetric::PubackSent),
        };
        out.counts.add_own(sent);
        self.reply(
            Ack::with_reason(kind, packet_id, ReasonCode::PacketIdentifierInUse),
            out,
        );
    }

    /// False when the client has more under way than it was allowed. A QoS 2 publish that comes again does not count twice.
    fn takes_packet_id(&mut self, packet_id: PacketId, qos: Qos) -> bool {
        let under_way = &mut self.inbound.under_way;
        if let Some(flow) = under_way.get_mut(packet_id)
            && flow.qos == Qos::ExactlyOnce
        {
            flow.waits = true;
            return true;
        }
        // Version 3 has no Receive Maximum; what it has under way is bounded by the bus.
        if self.version == Version::V5 && under_way.len() >= usize::from(self.settings.receive_maximum) {
            return false;
        }
        under_way.insert(packet_id, Flow { qos, waits: true });
        true
    }

    /// Refused by a rule: version 5 is told; the others are answered as if all were well, for they cannot be told.
    /// \[3.1.1 MQTT-3.3.5-2\]
    fn deny(&mut self, packet_id: Option<PacketId>, code: DenyCode, out: &mut Out) {
        out.counts.add(Metric::DroppedNotAuthorized);
        let reason = match code {
            DenyCode::Unspecified => ReasonCode::UnspecifiedError,
            DenyCode::NotAuthorized => ReasonCode::NotAuthorized,
        };
        if let Some(packet_id) = packet_id {
            let reason = if self.version == Version::V5 {
                reason
            } else {
                ReasonCode::Success
            };
            self.acknowledge(packet_id, reason, out);
        }
    }

    /// A publish that cannot be taken as it is: said in its acknowledgement if it has one that can say so, else the link ends.
    fn reject(&mut self, packet_id: Option<PacketId>, reason: ReasonCode, out: &mut Out) {
        match packet_id {
            Some(packet_id) if self.version == Version::V5 => {
                let why = || reason.to_string().into();
                self.tell(|| Wanted::Publish(Bytes::new()), why, out);
                self.acknowledge(packet_id, reason, out);
            }
            _ => self.fail(reason, reason.name(), out),
        }
    }

    /// PUBACK or PUBREC, by the QoS of the publish. \[MQTT-3.3.4-1\] \[MQTT-4.3.2-4\] \[MQTT-4.3.3-8\]
    fn acknowledge(&mut self, packet_id: PacketId, reason: ReasonCode, out: &mut Out) {
        let qos = self.inbound.qos(packet_id);
        self.inbound.answered(packet_id);
        let kind = if qos == Some(Qos::ExactlyOnce) {
            AckKind::PubRec
        } else {
            AckKind::PubAck
        };
        if kind == AckKind::PubAck || reason.is_error() {
            self.inbound.under_way.remove(packet_id);
        }
        out.counts.add_own(if kind == AckKind::PubRec {
            PacketMetric::PubrecSent
        } else {
            PacketMetric::PubackSent
        });
        self.reply(Ack::with_reason(kind, packet_id, reason), out);
    }

    pub(crate) fn on_accepted(&mut self, token: AckToken, outcome: Outcome, out: &mut Out) {
        let Some(packet_id) = packet_id_of(token) else {
            return;
        };
        let reason = match outcome {
            Outcome::NoSubscribers if self.version == Version::V5 => ReasonCode::NoMatchingSubscribers,
            Outcome::NoSubscribers | Outcome::Matched => ReasonCode::Success,
        };
        self.acknowledge(packet_id, reason, out);
    }

    pub(crate) fn on_refused(&mut self, token: AckToken, why: Refusal, out: &mut Out) {
        let Some(packet_id) = packet_id_of(token) else {
            return;
        };
        if self.inbound.qos(packet_id) == Some(Qos::ExactlyOnce) {
            out.counts.add(Metric::Qos2Dropped);
        }
        if self.version == Version::V5 {
            self.tell(|| Wanted::Publish(Bytes::new()), || why.to_string().into(), out);
            self.acknowledge(packet_id, convert::refusal(why), out);
        } else {
            // Nothing but silence says no: without an acknowledgement the client keeps the message and sends it again.
            self.fail(ReasonCode::QuotaExceeded, &format!("publish refused: {why}"), out);
        }
    }

    pub(crate) fn on_pubrel(&mut self, ack: &Ack, out: &mut Out) {
        self.inbound.wait_for_bus(ack.packet_id);
        out.bus(BusCommand::Release(ack.packet_id.get()));
    }

    /// PUBCOMP, after the packet identifier was durably given back. \[MQTT-4.3.3-11\]
    pub(crate) fn on_released(&mut self, packet: u16, known: bool, out: &mut Out) {
        let Some(packet_id) = NonZeroU16::new(packet) else {
            return;
        };
        self.inbound.under_way.remove(packet_id);
        let reason = match (known, self.version) {
            (false, Version::V5) => ReasonCode::PacketIdentifierNotFound,
            _ => ReasonCode::Success,
        };
        if !known {
            out.counts.add_own(PacketMetric::PubrelMissed);
        }
        out.counts.add_own(PacketMetric::PubcompSent);
        self.reply(Ack::with_reason(AckKind::PubComp, packet_id, reason), out);
    }
}

/// Tokens are packet identifiers.
fn packet_id_of(token: AckToken) -> Option<PacketId> {
    u16::try_from(token.0).ok().and_then(PacketId::new)
}
