//! Batches on their way: gathered, sent when the remote takes one more PUBLISH, settled by its PUBACK. `docs/interpretations.md#bridge-batches`
//!
//! Without a rule with `batch` nothing of this is there: then the session's window is the remote's, and what comes from the bus can be sent.

use crate::batch_body::object;
use crate::batches::{Batch, Batches, Limits, Member, Ready};
use crate::convert;
use crate::endpoint::{BridgeEndpoint, Out, Phase};
use crate::mapping::Mapped;
use crate::reasons::{DeadReason, DropReason};
use headgate_model::path::{PROPERTY as PATH, stamp};
use headgate_model::{BusCommand, Delivery, Instant, Metric, Settlement};
use headgate_mqtt_codec::{Packet, Publish, PublishProperties, Qos, Utf8, Version, encoded_len};

/// More than the fixed header, the lengths and the properties of a batch take up, without its topic and the node's name.
const HEADER: usize = 128;

impl BridgeEndpoint {
    /// Puts a message where it goes out from, in a bridge with a rule with `batch`.
    pub(crate) fn gather(&mut self, delivery: Delivery, mapped: Mapped, now: Instant, out: &mut Out) {
        let qos = self.qos_of(&delivery, &mapped);
        let Some(limits) = self.limits(&mapped) else {
            // What needs no packet identifier need not wait for one.
            if qos == Qos::AtMostOnce {
                return self.transmit(delivery, mapped, now, out);
            }
            return self.batches.add_message(delivery, mapped);
        };
        // [MQTT-3.3.2-5]
        if delivery.message.is_expired(now) && !delivery.redelivered {
            return self.discard(&delivery, DropReason::Expired, out);
        }
        let retain = mapped.retain.apply(delivery.retain);
        let object = object(mapped.topic.as_str(), &delivery.message.payload, retain);
        let rule = self.plan.topics.batching(mapped.rule);
        let topic = rule.and_then(|rule| rule.topic.clone());
        let key = (mapped.rule, topic.unwrap_or(mapped.topic));
        let member = Member {
            delivery,
            qos,
            object,
        };
        self.batches.add(&key, member, limits, now);
    }

    /// `None` for a rule without `batch`.
    fn limits(&self, mapped: &Mapped) -> Option<Limits> {
        let rule = self.plan.topics.batching(mapped.rule)?;
        let topic = rule.topic.as_ref().unwrap_or(&mapped.topic);
        let header = HEADER + topic.as_bytes().len() + self.plan.node.as_str().len();
        let room = (self.remote.max_packet_size as usize).saturating_sub(header);
        // What the remote hung up at, or refused without a word, is looked for one by one.
        let alone = !self.outbound.acknowledged && self.status.suspects();
        Some(Limits {
            messages: if alone { 1 } else { rule.max_messages.into() },
            bytes: rule.max_bytes.min(room),
            wait: rule.max_wait,
        })
    }

    /// Sends what is due or ready, as far as the remote takes it.
    pub(crate) fn send_ready(&mut self, now: Instant, out: &mut Out) {
        while matches!(self.phase, Phase::Open) && self.takes_more() {
            let taken = self.outbound.len() + self.batches.waiting() + self.throttles.waiting();
            let blocked = taken >= usize::from(self.plan.window(self.remote.receive_maximum));
            match self.batches.next(now, blocked) {
                Some(Ready::Batch(batch)) => self.transmit_batch(batch, now, out),
                Some(Ready::Message(delivery, mapped)) => self.transmit(delivery, mapped, now, out),
                None => return,
            }
        }
    }

    /// \[MQTT-3.3.4-9\]; MQTT 5 §4.9
    fn takes_more(&self) -> bool {
        self.outbound.packets() < usize::from(self.remote.receive_maximum)
    }

    /// When [`BridgeEndpoint::send_ready`] has something to do. A batch that is due and cannot go is gathered on.
    pub(crate) fn batches_due(&self) -> Option<Instant> {
        self.batches.due().filter(|_| self.takes_more())
    }

    /// The connection ends on purpose: what no queue has goes out now.
    pub(crate) fn send_volatile(&mut self, now: Instant, out: &mut Out) {
        if matches!(self.phase, Phase::Open) {
            for batch in self.batches.take_volatile() {
                self.transmit_batch(batch, now, out);
            }
        }
    }

    fn transmit_batch(&mut self, mut batch: Batch, now: Instant, out: &mut Out) {
        let packet = Packet::Publish(self.publish_of_batch(&mut batch, now));
        if encoded_len(&packet, self.plan.version()) > self.remote.max_packet_size as usize {
            for delivery in &batch.members {
                out.counts.add(Metric::DroppedTooLarge);
                self.bury(delivery, DeadReason::TooLarge, out);
            }
            return;
        }
        self.status.batches.add();
        for delivery in &batch.members {
            let again = delivery.redelivered && batch.qos > Qos::AtMostOnce;
            self.status.count_sent(again);
        }
        self.count_packet(convert::qos_from_wire(batch.qos), out);
        out.send(packet);
        match batch.qos {
            Qos::AtMostOnce => settle_all(&batch.members, out),
            _ => self.outbound.insert_batch(batch.members),
        }
    }

    /// It is no message that was sent before, whatever was in the one that had this packet identifier: it has no DUP.
    fn publish_of_batch(&self, batch: &mut Batch, now: Instant) -> Publish {
        let mut payload = std::mem::take(&mut batch.body);
        let (rule, topic) = &batch.key;
        payload.push(b']');
        let compress = self.plan.topics.compress(*rule);
        let packed = compress.and_then(|how| Some((how, how.pack(&payload)?)));
        let mut properties = self.properties_of_batch(batch, now);
        if let (Some((how, _)), Some(properties)) = (&packed, &mut properties) {
            how.tell(properties);
        }
        let id = batch.members.iter().find_map(|delivery| delivery.id);
        Publish {
            qos: batch.qos,
            topic: Utf8::new(topic.bytes().clone()).expect("a topic is UTF-8 without NUL"),
            packet_id: id.filter(|_| batch.qos > Qos::AtMostOnce),
            payload: packed.map_or_else(|| payload.into(), |(_, payload)| payload),
            properties,
            ..Publish::default()
        }
    }

    fn properties_of_batch(&self, batch: &Batch, now: Instant) -> Option<Box<PublishProperties>> {
        if self.plan.version() != Version::V5 {
            return None;
        }
        let path = Utf8::try_from(stamp(None, self.plan.node.as_str())).ok();
        Some(Box::new(PublishProperties {
            payload_format: Some(true),
            message_expiry: convert::seconds_left(batch.expires_at, now),
            content_type: Some(Utf8::from("application/json")),
            user_properties: path.map(|path| (Utf8::from(PATH), path)).into_iter().collect(),
            ..PublishProperties::default()
        }))
    }

    /// The remote has a batch.
    pub(crate) fn settle_batch(&mut self, members: &[Delivery], out: &mut Out) {
        let settled = members.iter().filter(|delivery| delivery.id.is_some());
        settled.for_each(|_| self.status.acknowledged.add());
        settle_all(members, out);
    }
}

impl Batches {
    /// How many messages the bus may hand over: what is held up waits in the queue rather than here.
    pub(crate) fn most_granted(&self) -> u32 {
        if self.is_held_up() { 0 } else { MOST_GRANTED }
    }
}

/// Messages that may still come when the remote takes nothing more: they are in memory, whatever their size.
const MOST_GRANTED: u32 = 256;

fn settle_all(members: &[Delivery], out: &mut Out) {
    for id in members.iter().filter_map(|delivery| delivery.id) {
        out.bus(BusCommand::Settle(id, Settlement::Done));
    }
}
