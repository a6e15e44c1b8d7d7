//! What the client receives: PUBLISH and PUBREL out, PUBACK, PUBREC and PUBCOMP in. MQTT 5 §3.3, §4.3

use crate::counters::PacketMetric;
use crate::endpoint::{MqttEndpoint, Out};
use crate::ids::IdMap;
use crate::wire::{Outgoing, Sent};
use bytes::Bytes;
use headgate_model::{BusCommand, Delivery, DeliveryId, Instant, Metric, Qos, Settlement, path};
use headgate_mqtt_codec::{Ack, AckKind, ReasonCode, Version, publish_len};
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

/// Topics that get an alias have so many bytes together at most: publishers choose them.
const MAX_ALIAS_BYTES: usize = 16 << 10;

/// Our side of the QoS flows and of topic aliases.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// What the client has yet to acknowledge.
    under_way: IdMap<Awaiting>,
    /// `None` for a client that takes no aliases.
    aliases: Option<Box<Aliases>>,
}

#[derive(Debug)]
struct Aliases {
    /// Looked up, never iterated.
    by_topic: HashMap<Bytes, NonZeroU16>,
    maximum: u16,
    /// Of all topics.
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    PubAck,
    PubRec,
    /// PUBREC came; PUBREL waits for the bus to say that this is durable.
    Durable,
    PubComp,
}

impl Outbound {
    pub(crate) fn allow_aliases(&mut self, maximum: u16) {
        self.aliases = (maximum > 0).then(|| {
            Box::new(Aliases {
                by_topic: HashMap::new(),
                maximum,
                bytes: 0,
            })
        });
    }

    /// The alias of a topic and whether the client knows it already. The first topics get the aliases: a gateway's busiest
    /// subscriptions mostly have few. \[MQTT-3.1.2-26\] \[MQTT-3.1.2-27\]
    fn alias(&self, topic: &[u8]) -> (Option<NonZeroU16>, bool) {
        let Some(aliases) = &self.aliases else {
            return (None, false);
        };
        if let Some(alias) = aliases.by_topic.get(topic) {
            return (Some(*alias), true);
        }
        let next = u16::try_from(aliases.by_topic.len() + 1)
            .ok()
            .filter(|n| *n <= aliases.maximum && aliases.bytes + topic.len() <= MAX_ALIAS_BYTES);
        (next.and_then(NonZeroU16::new), false)
    }

    fn learn_alias(&mut self, topic: &[u8], alias: NonZeroU16) {
        if let Some(aliases) = &mut self.aliases {
            aliases.bytes += topic.len();
            aliases.by_topic.insert(Bytes::copy_from_slice(topic), alias);
        }
    }

    /// Bytes of the topics that have an alias.
    pub(crate) fn held(&self) -> usize {
        self.aliases.as_ref().map_or(0, |aliases| aliases.bytes)
    }
}

impl MqttEndpoint {
    pub(crate) fn on_delivery(&mut self, mut delivery: Delivery, now: Instant, out: &mut Out) {
        out.grant_credit(delivery.message.size());
        if self.bridge && self.version == Version::V5 {
            delivery.message = Arc::new(path::stamped(&delivery.message, &self.settings.node));
        }
        let message = &delivery.message;
        // [MQTT-3.3.2-5]: an expired message is not sent, unless its transmission has begun.
        if message.is_expired(now) && !delivery.redelivered {
            self.discard(&delivery, out);
            return;
        }
        let expiry = message.expires_at.map(|at| {
            let left = at.since(now).as_millis().div_ceil(1_000);
            u32::try_from(left).unwrap_or(u32::MAX)
        });
        let hidden = self.naming.mount.hidden(&message.topic);
        let (alias, alias_is_known) = self.outbound.alias(&message.topic.as_bytes()[hidden..]);
        let mut outgoing = Outgoing {
            delivery,
            unmount: u16::try_from(hidden).expect("a topic is that short"),
            expiry,
            alias,
            alias_is_known,
        };
        if self.is_too_large(&outgoing) && alias.is_some() {
            // The alias is our wish: without it the message may fit.
            outgoing.alias = None;
            outgoing.alias_is_known = false;
        }
        if self.is_too_large(&outgoing) {
            // [MQTT-3.1.2-24] [MQTT-3.1.2-25]: as if it had been sent.
            out.counts.add(Metric::DroppedTooLarge);
            self.discard(&outgoing.delivery, out);
            return;
        }
        if let Some(alias) = outgoing.alias.filter(|_| !outgoing.alias_is_known) {
            let topic = &outgoing.delivery.message.topic.as_bytes()[hidden..];
            self.outbound.learn_alias(topic, alias);
        }
        if let Some(id) = outgoing.delivery.id {
            let awaiting = if outgoing.delivery.qos == Qos::ExactlyOnce {
                Awaiting::PubRec
            } else {
                Awaiting::PubAck
            };
            self.outbound.under_way.insert(id, awaiting);
        }
        out.counts.add_own(PacketMetric::PublishSent);
        out.counts.add(match outgoing.delivery.qos {
            Qos::AtMostOnce => Metric::Qos0Sent,
            Qos::AtLeastOnce => Metric::Qos1Sent,
            Qos::ExactlyOnce => Metric::Qos2Sent,
        });
        out.frames.push(Sent::Publish(outgoing));
    }

    fn is_too_large(&self, outgoing: &Outgoing) -> bool {
        let len = || outgoing.with_parts(self.version, |parts| publish_len(parts, self.version));
        self.max_packet_size < u32::MAX && len() > self.max_packet_size as usize
    }

    fn discard(&self, delivery: &Delivery, out: &mut Out) {
        if let Some(id) = delivery.id {
            out.bus(BusCommand::Settle(id, Settlement::Done));
        }
    }

    pub(crate) fn on_puback(&mut self, ack: &Ack, out: &mut Out) {
        match self.outbound.under_way.get(ack.packet_id) {
            Some(Awaiting::PubAck) => {
                self.outbound.under_way.remove(ack.packet_id);
                let settlement = if ack.reason.is_error() {
                    Settlement::Rejected
                } else {
                    Settlement::Done
                };
                out.bus(BusCommand::Settle(ack.packet_id, settlement)); // [MQTT-4.3.2-3]
            }
            Some(_) => self.fail(ReasonCode::ProtocolError, "PUBACK for a QoS 2 publish", out),
            None => out.counts.add_own(PacketMetric::PubackMissed),
        }
    }

    pub(crate) fn on_pubrec(&mut self, ack: &Ack, out: &mut Out) {
        match self.outbound.under_way.get_mut(ack.packet_id) {
            Some(Awaiting::PubRec) if ack.reason.is_error() => {
                // The client will not have it: the flow ends here. [MQTT-4.3.3-4]
                self.outbound.under_way.remove(ack.packet_id);
                out.bus(BusCommand::Settle(ack.packet_id, Settlement::Rejected));
            }
            Some(awaiting @ Awaiting::PubRec) => {
                *awaiting = Awaiting::Durable;
                out.bus(BusCommand::Settle(ack.packet_id, Settlement::Received));
            }
            Some(Awaiting::Durable) => {}
            Some(Awaiting::PubComp) => self.send_pubrel(ack.packet_id, ReasonCode::Success, out),
            Some(Awaiting::PubAck) => self.fail(ReasonCode::ProtocolError, "PUBREC for a QoS 1 publish", out),
            None => {
                out.counts.add_own(PacketMetric::PubrecMissed);
                if ack.reason.is_error() {
                    return; // A refusal ends the flow, whatever it was about.
                }
                let reason = match self.version {
                    Version::V5 => ReasonCode::PacketIdentifierNotFound,
                    _ => ReasonCode::Success,
                };
                self.send_pubrel(ack.packet_id, reason, out);
            }
        }
    }

    /// It is durable that the client has the message: PUBREL, now or again after a reconnect. \[MQTT-4.3.3-5\] \[MQTT-4.4.0-1\]
    pub(crate) fn on_received(&mut self, id: DeliveryId, out: &mut Out) {
        self.outbound.under_way.insert(id, Awaiting::PubComp);
        self.send_pubrel(id, ReasonCode::Success, out);
    }

    fn send_pubrel(&mut self, id: DeliveryId, reason: ReasonCode, out: &mut Out) {
        out.counts.add_own(PacketMetric::PubrelSent);
        self.reply(Ack::with_reason(AckKind::PubRel, id, reason), out);
    }

    pub(crate) fn on_pubcomp(&mut self, ack: &Ack, out: &mut Out) {
        match self.outbound.under_way.get(ack.packet_id) {
            Some(Awaiting::PubComp) => {
                self.outbound.under_way.remove(ack.packet_id);
                out.bus(BusCommand::Settle(ack.packet_id, Settlement::Done));
            }
            Some(_) => self.fail(ReasonCode::ProtocolError, "PUBCOMP before PUBREL", out),
            None => out.counts.add_own(PacketMetric::PubcompMissed),
        }
    }
}
