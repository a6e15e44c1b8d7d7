//! What goes to the remote: PUBLISH and PUBREL out, PUBACK, PUBREC and PUBCOMP in. MQTT 5 §3.3, §4.3
//!
//! What the remote refuses for good becomes a dead letter. What it refuses for now stays in the queue: the connection ends, and all that is under way
//! is sent again on the next one, in order. A refusal without a good reason counts as one for now, a few times in a row.
//!
//! Before MQTT 5 a remote can refuse only by hanging up. When it does so a few times in a row before it acknowledged anything, the first message is
//! suspected; it goes alone on the next connection, and if that ends the same way it becomes a dead letter.

use crate::convert;
use crate::endpoint::{BridgeEndpoint, Out, Phase};
use crate::mapping::{Mapped, Unmapped};
use crate::reasons::{DeadReason, DropReason, EndReason};
use crate::status::MAX_DOUBTFUL;
use crate::throttle::Offered;
use bytes::Bytes;
use headgate_model::path::{PROPERTY as PATH, stamp};
use headgate_model::{
    AckToken, Admitted, BusCommand, Delivery, DeliveryId, Instant, Message, Metric, Qos, Settlement,
};
use headgate_mqtt_codec::{
    Ack, AckKind, Packet, Publish, PublishProperties, ReasonCode, Utf8, Version, encoded_len,
};
use std::collections::BTreeMap;

/// Tokens of dead letters are delivery identifiers from here on.
pub(crate) const DEAD_LETTERS: u32 = 1 << 16;

/// Our side of the QoS flows.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    under_way: BTreeMap<DeliveryId, Awaiting>,
    /// Messages of batches among those, beside the ones that gave them their packet identifiers.
    more_in_batches: usize,
    /// How many of those the remote has to answer.
    owed: usize,
    /// The first that was sent on this connection, if the remote has to acknowledge it.
    pub first: Option<DeliveryId>,
    /// The last that came.
    pub last: Option<DeliveryId>,
    /// The remote has acknowledged something.
    pub acknowledged: bool,
}

#[derive(Debug)]
enum Awaiting {
    PubAck(Delivery),
    /// One PUBACK for all.
    Batch(Vec<Delivery>),
    PubRec(Delivery),
    /// PUBREC came; PUBREL waits for the bus to say that this is durable.
    Durable,
    PubComp,
    /// The bus has yet to take the dead letter.
    DeadLetter,
}

impl Awaiting {
    fn is_owed(&self) -> bool {
        matches!(
            self,
            Self::PubAck(_) | Self::Batch(_) | Self::PubRec(_) | Self::PubComp
        )
    }
}

impl Outbound {
    /// Messages that the remote has yet to acknowledge, or the bus as dead letters.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len() + self.more_in_batches
    }

    /// The same, each batch as one.
    pub(crate) fn packets(&self) -> usize {
        self.under_way.len()
    }

    /// Answers that the remote owes.
    pub(crate) fn owed(&self) -> usize {
        self.owed
    }

    fn insert(&mut self, id: DeliveryId, awaiting: Awaiting) {
        self.owed += usize::from(awaiting.is_owed());
        let before = self.under_way.insert(id, awaiting);
        self.owed -= usize::from(before.is_some_and(|before| before.is_owed()));
    }

    /// A batch went out under the identifier of its first message that has one.
    pub(crate) fn insert_batch(&mut self, members: Vec<Delivery>) {
        let Some(id) = members.iter().find_map(|delivery| delivery.id) else {
            return;
        };
        self.first.get_or_insert(id);
        self.more_in_batches += more_in(&members);
        self.insert(id, Awaiting::Batch(members));
    }

    /// Whether several messages went under this identifier.
    fn is_of_many(&self, id: DeliveryId) -> bool {
        matches!(self.under_way.get(&id), Some(Awaiting::Batch(members)) if members.len() > 1)
    }

    fn remove(&mut self, id: DeliveryId) -> Option<Awaiting> {
        let removed = self.under_way.remove(&id)?;
        self.owed -= usize::from(removed.is_owed());
        if let Awaiting::Batch(members) = &removed {
            self.more_in_batches -= more_in(members);
        }
        Some(removed)
    }
}

/// Messages of a batch that have an identifier which is not the packet's.
fn more_in(members: &[Delivery]) -> usize {
    members.iter().filter(|delivery| delivery.id.is_some()).count() - 1
}

impl BridgeEndpoint {
    pub(crate) fn on_delivery(&mut self, delivery: Delivery, now: Instant, out: &mut Out) {
        self.outbound.last = delivery.id.or(self.outbound.last);
        if !self.outbound.acknowledged && delivery.id.is_some() && delivery.id == self.status.poison() {
            self.status.clear_suspect();
            return self.bury(&delivery, DeadReason::Disconnects, out);
        }
        let mapped = match self.plan.topics.outgoing(&delivery.message.topic) {
            Ok(mapped) => mapped,
            Err(Unmapped::NoRule) => return self.discard(&delivery, DropReason::NoRule, out),
            Err(Unmapped::Invalid(_)) => return self.bury(&delivery, DeadReason::TopicInvalid, out),
        };
        let throttle = self.plan.topics.throttle(mapped.rule);
        // What the remote may hold in part must be brought to an end.
        let Some(throttle) = throttle.filter(|_| !delivery.redelivered) else {
            return self.send(delivery, mapped, now, out);
        };
        match self.throttles.offer(mapped.rule, throttle, delivery, now) {
            Offered::Send(delivery) => self.send(delivery, mapped, now, out),
            Offered::Drop(delivery) | Offered::Waits(Some(delivery)) => {
                self.discard(&delivery, DropReason::Throttled, out);
            }
            Offered::Waits(None) => self.send_due(now, out),
        }
    }

    /// Sends the values that waited long enough.
    pub(crate) fn send_due(&mut self, now: Instant, out: &mut Out) {
        while let Some(delivery) = self.throttles.take_due(self.remote.receive_maximum, now) {
            let mapped = self.plan.topics.outgoing(&delivery.message.topic);
            self.send(
                delivery,
                mapped.expect("it had a name when it was offered"),
                now,
                out,
            );
        }
    }

    fn send(&mut self, delivery: Delivery, mapped: Mapped, now: Instant, out: &mut Out) {
        if self.gathers {
            self.gather(delivery, mapped, now, out);
        } else {
            self.transmit(delivery, mapped, now, out);
        }
    }

    pub(crate) fn transmit(&mut self, delivery: Delivery, mapped: Mapped, now: Instant, out: &mut Out) {
        // [MQTT-3.3.2-5]: an expired message is not sent, unless its transmission has begun.
        if delivery.message.is_expired(now) && !delivery.redelivered {
            return self.discard(&delivery, DropReason::Expired, out);
        }
        let publish = self.publish_of(&delivery, mapped, now);
        let qos = convert::qos_from_wire(publish.qos);
        let packet = Packet::Publish(publish);
        if encoded_len(&packet, self.plan.version()) > self.remote.max_packet_size as usize {
            out.counts.add(Metric::DroppedTooLarge);
            return self.bury(&delivery, DeadReason::TooLarge, out);
        }
        self.status
            .count_sent(delivery.redelivered && qos > Qos::AtMostOnce);
        self.count_packet(qos, out);
        out.send(packet);
        let Some(id) = delivery.id else { return };
        if qos > Qos::AtMostOnce {
            self.outbound.first.get_or_insert(id);
        }
        match qos {
            // The remote or a rule takes no more than QoS 0: it is sent, and that is all there is to know.
            Qos::AtMostOnce => out.bus(BusCommand::Settle(id, Settlement::Done)),
            Qos::AtLeastOnce => self.outbound.insert(id, Awaiting::PubAck(delivery)),
            Qos::ExactlyOnce => self.outbound.insert(id, Awaiting::PubRec(delivery)),
        }
    }

    pub(crate) fn count_packet(&self, qos: Qos, out: &mut Out) {
        out.counts.add(match qos {
            Qos::AtMostOnce => Metric::Qos0Sent,
            Qos::AtLeastOnce => Metric::Qos1Sent,
            Qos::ExactlyOnce => Metric::Qos2Sent,
        });
    }

    /// The PUBLISH under the remote's name of the topic, within what the remote takes.
    fn publish_of(&self, delivery: &Delivery, mapped: Mapped, now: Instant) -> Publish {
        let message = &delivery.message;
        let qos = self.qos_of(delivery, &mapped);
        let acknowledged = qos > headgate_mqtt_codec::Qos::AtMostOnce;
        let packed = mapped
            .compress
            .and_then(|how| Some((how, how.pack(&message.payload)?)));
        let mut properties = self.properties_of(message, now);
        if let (Some((how, _)), Some(properties)) = (&packed, &mut properties) {
            how.tell(properties);
        }
        Publish {
            dup: delivery.redelivered,
            qos,
            retain: mapped.retain.apply(delivery.retain) && self.remote.retain_available,
            topic: Utf8::new(mapped.topic.bytes().clone()).expect("a topic is UTF-8 without NUL"),
            packet_id: delivery.id.filter(|_| acknowledged),
            payload: packed.map_or_else(|| message.payload.clone(), |(_, payload)| payload),
            properties,
        }
    }

    /// The lowest of message, rule and remote.
    pub(crate) fn qos_of(&self, delivery: &Delivery, mapped: &Mapped) -> headgate_mqtt_codec::Qos {
        convert::qos_to_wire(delivery.qos.min(mapped.qos)).min(self.remote.max_qos)
    }

    fn properties_of(&self, message: &Message, now: Instant) -> Option<Box<PublishProperties>> {
        if self.plan.version() != Version::V5 {
            return None;
        }
        let properties = message.properties.as_deref();
        let mut properties = properties.map(convert::properties_to_wire).unwrap_or_default();
        properties.message_expiry = convert::seconds_left(message.expires_at, now);
        let pairs = &mut properties.user_properties;
        let known = pairs.iter().position(|(name, _)| *name == PATH);
        let existing = known.map(|at| pairs.remove(at).1);
        let path = stamp(existing.as_ref().map(Utf8::as_str), self.plan.node.as_str());
        // A path too long for MQTT has gone round for ever: it is left off, and the number of hops ended it long before.
        if let Ok(path) = Utf8::try_from(path) {
            pairs.push((Utf8::from(PATH), path));
        }
        Some(Box::new(properties))
    }

    pub(crate) fn discard(&self, delivery: &Delivery, why: DropReason, out: &mut Out) {
        self.status.count_drop(why);
        if let Some(id) = delivery.id {
            out.bus(BusCommand::Settle(id, Settlement::Done));
        }
    }

    /// Makes a dead letter of a message. It is settled when the dead letter is safe, and does not hold up the others.
    pub(crate) fn bury(&mut self, delivery: &Delivery, why: DeadReason, out: &mut Out) {
        let message = &delivery.message;
        self.status
            .note_dead_letter(message.topic.as_str(), message.payload.len(), why);
        let mut properties = delivery.message.properties.clone().unwrap_or_default();
        let topic = delivery.message.topic.bytes().clone();
        let pairs = [
            ("reason", Bytes::from_static(why.as_str().as_bytes())),
            ("topic", topic),
        ];
        let pairs = pairs.map(|(name, value)| (Bytes::from_static(name.as_bytes()), value));
        properties.user_properties.extend(pairs);
        let message = Message {
            topic: self.plan.dead_letters.clone(),
            retain: false,
            qos: delivery.qos,
            properties: Some(properties),
            publisher: None,
            charge: Default::default(),
            ..(*delivery.message).clone()
        };
        let ack = delivery.id.map(|id| AckToken(DEAD_LETTERS + u32::from(id.get())));
        if let Some(id) = delivery.id {
            self.outbound.insert(id, Awaiting::DeadLetter);
        }
        out.bus(BusCommand::Publish {
            message: Admitted::of_gateway(message),
            ack,
            dedup: None,
        });
    }

    pub(crate) fn on_dead_letter_accepted(&mut self, id: DeliveryId, out: &mut Out) {
        if matches!(self.outbound.under_way.get(&id), Some(Awaiting::DeadLetter)) {
            self.outbound.remove(id);
            out.bus(BusCommand::Settle(id, Settlement::Rejected));
        }
    }

    /// The queue goes on, though the message is lost: it could not have been sent either.
    pub(crate) fn on_dead_letter_refused(&mut self, id: DeliveryId, out: &mut Out) {
        self.status.count_drop(DropReason::DeadLetterRefused);
        self.on_dead_letter_accepted(id, out);
    }

    pub(crate) fn on_puback(&mut self, ack: &Ack, out: &mut Out) {
        let id = ack.packet_id;
        match self.outbound.under_way.get(&id) {
            Some(Awaiting::PubAck(_) | Awaiting::Batch(_)) if ack.reason.is_error() => {
                self.on_negative(ack, out);
            }
            Some(Awaiting::PubAck(_)) => self.settle_done(id, out), // [MQTT-4.3.2-3]
            Some(Awaiting::Batch(_)) => {
                if let Some(Awaiting::Batch(members)) = self.outbound.remove(id) {
                    self.settle_batch(&members, out);
                }
            }
            Some(Awaiting::DeadLetter) | None => {}
            Some(_) => self.fail("PUBACK for a QoS 2 publish", out),
        }
    }

    pub(crate) fn on_pubrec(&mut self, ack: &Ack, out: &mut Out) {
        let id = ack.packet_id;
        match self.outbound.under_way.get(&id) {
            Some(Awaiting::PubRec(_)) if ack.reason.is_error() => self.on_negative(ack, out), // [MQTT-4.3.3-4]
            Some(Awaiting::PubRec(_)) => {
                self.outbound.insert(id, Awaiting::Durable);
                out.bus(BusCommand::Settle(id, Settlement::Received));
            }
            Some(Awaiting::Durable | Awaiting::DeadLetter) => {}
            Some(Awaiting::PubComp) => self.send_pubrel(id, ReasonCode::Success, out),
            Some(Awaiting::PubAck(_) | Awaiting::Batch(_)) => self.fail("PUBREC for a QoS 1 publish", out),
            None if ack.reason.is_error() => {} // A refusal ends the flow, whatever it was about.
            None => {
                let reason = match self.plan.version() {
                    Version::V5 => ReasonCode::PacketIdentifierNotFound,
                    _ => ReasonCode::Success,
                };
                self.send_pubrel(id, reason, out);
            }
        }
    }

    /// It is durable that the remote has the message: PUBREL, now or again after a reconnect. \[MQTT-4.3.3-5\] \[MQTT-4.4.0-1\]
    pub(crate) fn on_received(&mut self, id: DeliveryId, out: &mut Out) {
        if let Phase::Preparing(preparing) = &mut self.phase {
            return preparing.received.push(id);
        }
        self.outbound.insert(id, Awaiting::PubComp);
        self.send_pubrel(id, ReasonCode::Success, out);
    }

    fn send_pubrel(&self, id: DeliveryId, reason: ReasonCode, out: &mut Out) {
        out.send(Packet::Ack(Ack::with_reason(AckKind::PubRel, id, reason)));
    }

    pub(crate) fn on_pubcomp(&mut self, ack: &Ack, out: &mut Out) {
        match self.outbound.under_way.get(&ack.packet_id) {
            Some(Awaiting::PubComp) => self.settle_done(ack.packet_id, out),
            Some(Awaiting::DeadLetter) | None => {}
            Some(_) => self.fail("PUBCOMP before PUBREL", out),
        }
    }

    fn settle_done(&mut self, id: DeliveryId, out: &mut Out) {
        self.outbound.remove(id);
        self.status.acknowledged.add();
        out.bus(BusCommand::Settle(id, Settlement::Done));
    }

    /// The remote refused a message. MQTT 5 §3.4.2.1
    fn on_negative(&mut self, ack: &Ack, out: &mut Out) {
        let dead = match ack.reason {
            ReasonCode::NotAuthorized => Some(DeadReason::NotAuthorized),
            ReasonCode::TopicNameInvalid => Some(DeadReason::TopicInvalid),
            ReasonCode::PayloadFormatInvalid => Some(DeadReason::PayloadInvalid),
            ReasonCode::QuotaExceeded => None,
            _ if self.outbound.is_of_many(ack.packet_id) => {
                self.status.suspect(ack.packet_id); // It is looked for one by one.
                None
            }
            _ if self.status.refused_again(ack.packet_id) > MAX_DOUBTFUL => {
                Some(DeadReason::RefusedRepeatedly)
            }
            _ => None,
        };
        let Some(why) = dead else {
            return self.try_later(EndReason::RefusedForNow(ack.reason), out);
        };
        match self.outbound.remove(ack.packet_id) {
            Some(Awaiting::Batch(members)) => {
                for delivery in &members {
                    self.bury(delivery, why, out);
                }
            }
            Some(Awaiting::PubAck(delivery) | Awaiting::PubRec(delivery)) => self.bury(&delivery, why, out),
            _ => {}
        }
    }
}

/// The delivery that a dead letter was made of; `None` for tokens of other kinds.
pub(crate) fn delivery_of(token: AckToken) -> Option<DeliveryId> {
    let number = token.0.checked_sub(DEAD_LETTERS)?;
    u16::try_from(number).ok().and_then(DeliveryId::new)
}
