//! ACK and NACK, and what becomes of a message then. STOMP 1.2, ACK, NACK
//!
//! Always true: the RECEIPT of an ACK leaves when the message is durably settled, so that it is never delivered again. Without a RECEIPT nobody waits for that.

use crate::counters::StompMetric;
use crate::endpoint::{Out, StompEndpoint};
use crate::frames::{receipt_of, shown};
use crate::settings::NackPolicy;
use crate::subscriptions::{AckId, Seat, Unsettled};
use crate::transactions::Item;
use bytes::Bytes;
use headgate_model::{
    AckToken, BusCommand, Delivery, DeliveryId, Instant, Message, Qos, SessionKey, Settlement, Topic, Verdict,
};
use headgate_stomp_codec::{Frame, Text, Version};
use std::collections::BTreeMap;

/// User properties of a dead letter.
const REASON: &str = "headgate-reason";
const SUBSCRIPTION: &str = "headgate-subscription";
const DELIVERIES: &str = "headgate-deliveries";

/// What waits for the bus after the client is done with it.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// Steps that wait until a delivery is durably known to have arrived.
    steps: BTreeMap<(SessionKey, DeliveryId), AckToken>,
    /// Undeliverable messages that are published elsewhere, by their tokens.
    dead: BTreeMap<u32, (u32, Unsettled)>,
}

/// What one of these takes.
const ENTRY: usize = 64;

impl Settling {
    /// Whether a step waits for a delivery of this session.
    pub(crate) fn waits_for(&self, session: SessionKey) -> bool {
        let all = (session, DeliveryId::MIN)..=(session, DeliveryId::MAX);
        self.steps.range(all).next().is_some()
    }

    pub(crate) fn held(&self) -> usize {
        (self.steps.len() + self.dead.len()) * ENTRY
    }
}

impl StompEndpoint {
    pub(crate) fn on_ack(&mut self, frame: &Frame, out: &mut Out) {
        out.counts.add_own(StompMetric::AckReceived);
        let Some(id) = self.ack_id(frame, out) else { return };
        let receipt = receipt_of(frame);
        if let Some(name) = frame.headers.get("transaction") {
            return self.hold(name, Item::Ack(id), receipt, out);
        }
        let promised = receipt.map(|receipt| self.steps.open(Some(receipt)));
        if !self.acknowledge(id, promised, out) {
            return self.complain_of_ack(frame, promised, out);
        }
        if let Some(step) = promised {
            self.steps.answered(step);
        }
    }

    pub(crate) fn on_nack(&mut self, frame: &Frame, now: Instant, out: &mut Out) {
        out.counts.add_own(StompMetric::NackReceived);
        let Some(id) = self.ack_id(frame, out) else { return };
        let receipt = receipt_of(frame);
        if let Some(name) = frame.headers.get("transaction") {
            return self.hold(name, Item::Nack(id), receipt, out);
        }
        match self.refuse_messages(id, now, out) {
            true => self.done(receipt),
            false => {
                out.counts.add_own(StompMetric::AckMissed);
                self.complain_of_id(frame, self.ack_header(), receipt, out);
            }
        }
    }

    /// STOMP 1.2: `id` is the `ack` of a MESSAGE. Before that: `message-id`, and in 1.1 `subscription`, which the former holds already.
    fn ack_id(&mut self, frame: &Frame, out: &mut Out) -> Option<AckId> {
        let header = self.ack_header();
        let text = self.required(frame, header, out)?;
        let id = AckId::parse(&text);
        let named = frame
            .headers
            .get("subscription")
            .filter(|_| self.version == Version::V11);
        let is_of = |id: &AckId| {
            let subscription = self.subscriptions.get(id.number);
            named.is_none() || subscription.and_then(|found| found.id.as_ref()) == named
        };
        let id = id.filter(is_of);
        if id.is_none() {
            out.counts.add_own(StompMetric::AckMissed);
            self.complain_of_id(frame, header, receipt_of(frame), out);
        }
        id
    }

    fn ack_header(&self) -> &'static str {
        match self.version {
            Version::V10 | Version::V11 => "message-id",
            Version::V12 => "id",
        }
    }

    fn complain_of_id(&mut self, frame: &Frame, header: &str, receipt: Option<Text>, out: &mut Out) {
        let id = shown(frame.get(header).unwrap_or_default());
        let why = format!("no message {id} waits for an acknowledgement");
        self.complain_in(receipt, frame.headers.get("transaction"), &why, out);
    }

    fn complain_of_ack(&mut self, frame: &Frame, step: Option<AckToken>, out: &mut Out) {
        out.counts.add_own(StompMetric::AckMissed);
        let receipt: Option<Text> = step.and_then(|step| self.steps.withdraw(step));
        self.complain_of_id(frame, self.ack_header(), receipt, out);
    }

    /// The client is done with a message, or with all up to it. False if there never was such a message.
    pub(crate) fn acknowledge(&mut self, id: AckId, step: Option<AckToken>, out: &mut Out) -> bool {
        let Some((session, messages)) = self.subscriptions.take_acknowledged(id) else {
            return false;
        };
        for Unsettled { delivery, .. } in messages {
            out.grant_credit(session, delivery.message.size());
            self.settle(session, &delivery, step, out);
        }
        true
    }

    /// The client does not want a message, or any up to it. False if there never was such a message.
    pub(crate) fn refuse_messages(&mut self, id: AckId, now: Instant, out: &mut Out) -> bool {
        let Some((session, messages)) = self.subscriptions.take_acknowledged(id) else {
            return false;
        };
        for mut message in messages {
            message.nacks += 1;
            let returns = message.nacks <= self.settings.max_redeliveries;
            match self.settings.nack {
                NackPolicy::Requeue if returns => {
                    let at = now + self.settings.redelivery_delay(message.nacks);
                    self.subscriptions.return_at(at, id.number, message);
                }
                NackPolicy::Requeue | NackPolicy::DeadLetter => {
                    self.bury(session, id.number, message, StompMetric::NackedDropped, out);
                }
                NackPolicy::Drop => {
                    self.drop_message(session, &message.delivery, StompMetric::NackedDropped, out);
                }
            }
        }
        true
    }

    /// An undeliverable message is published elsewhere, as by the client; then it is done with. Its rules must allow that without being asked, or it is
    /// dropped and counted as `why`.
    pub(crate) fn bury(
        &mut self,
        session: SessionKey,
        number: u32,
        message: Unsettled,
        why: StompMetric,
        out: &mut Out,
    ) {
        let Some(letter) = self.dead_letter(number, &message, why) else {
            return self.drop_message(session, &message.delivery, why, out);
        };
        match self.gate().publish(letter) {
            Verdict::Admitted(letter) => {
                let step = self.steps.open(None);
                self.settling.dead.insert(step.0, (number, message));
                self.publish(letter, Some(step), out);
                self.steps.answered(step);
            }
            Verdict::Refused(refused) => {
                self.tell_refused(&refused, out);
                self.drop_message(session, &message.delivery, why, out);
            }
            Verdict::Ask(_) => self.drop_message(session, &message.delivery, why, out),
        }
    }

    /// The message with three properties more: why, whose subscription could not have it, and how often it was delivered.
    fn dead_letter(&self, number: u32, message: &Unsettled, why: StompMetric) -> Option<Message> {
        let delivery = &message.delivery;
        let prefix = &self.settings.dead_letter_prefix;
        if prefix.is_empty() {
            return None;
        }
        let topic = self.naming.mount.unmount(&delivery.message.topic);
        if topic.as_str().starts_with(&**prefix) {
            return None; // It is one, and its reader cannot have it either.
        }
        let topic = Topic::parse(Bytes::from(format!("{prefix}{topic}"))).ok()?;
        let mut properties = delivery
            .message
            .properties
            .as_deref()
            .cloned()
            .unwrap_or_default();
        let reason = if why == StompMetric::NotTextDropped {
            "not_text"
        } else {
            "nack"
        };
        let subscription = self.subscriptions.get(number);
        let subscription = subscription.map(|found| found.durable.as_ref().unwrap_or(&found.name));
        let subscription = subscription.map(Text::bytes).cloned().unwrap_or_default();
        let told = [
            (REASON, Bytes::from_static(reason.as_bytes())),
            (SUBSCRIPTION, subscription),
            (DELIVERIES, message.nacks.to_string().into()),
        ];
        let user = &mut properties.user_properties;
        user.retain(|(name, _)| told.iter().all(|(own, _)| own.as_bytes() != name));
        user.extend(told.map(|(name, value)| (Bytes::from_static(name.as_bytes()), value)));
        Some(Message {
            qos: delivery.qos.max(Qos::AtLeastOnce),
            properties: Some(Box::new(properties)),
            ..Message::new(topic, delivery.message.payload.clone())
        })
    }

    pub(crate) fn is_dead_letter(&self, token: AckToken) -> bool {
        self.settling.dead.contains_key(&token.0)
    }

    pub(crate) fn on_dead_letter_accepted(&mut self, token: AckToken, out: &mut Out) {
        let Some((number, message)) = self.settling.dead.remove(&token.0) else {
            return;
        };
        out.counts.add_own(StompMetric::DeadLettered);
        if let Some(subscription) = self.subscriptions.get(number) {
            self.done_with(subscription.session, &message.delivery, out);
        }
    }

    /// It could not be published: it is tried again like any redelivery.
    pub(crate) fn on_dead_letter_refused(&mut self, token: AckToken, now: Instant) {
        if let Some((number, message)) = self.settling.dead.remove(&token.0) {
            let at = now + self.settings.max_redelivery_delay;
            self.subscriptions.return_at(at, number, message);
        }
    }

    pub(crate) fn drop_message(
        &mut self,
        session: SessionKey,
        delivery: &Delivery,
        why: StompMetric,
        out: &mut Out,
    ) {
        out.counts.add_own(why);
        out.grant_credit(session, delivery.message.size());
        if let Some(id) = delivery.id {
            out.bus(session, BusCommand::Settle(id, Settlement::Rejected));
        }
    }

    /// Tells the bus that a delivery has arrived. If a step waits for that, it is answered when it is durable; QoS 2 is always done in two strides.
    pub(crate) fn settle(
        &mut self,
        session: SessionKey,
        delivery: &Delivery,
        step: Option<AckToken>,
        out: &mut Out,
    ) {
        let Some(id) = delivery.id else { return };
        if let Some(step) = step {
            self.steps.add(step);
            self.settling.steps.insert((session, id), step);
        }
        let settlement = match delivery.qos {
            Qos::ExactlyOnce => Settlement::Received,
            _ if step.is_some() => Settlement::Received,
            _ => Settlement::Done,
        };
        out.bus(session, BusCommand::Settle(id, settlement));
    }

    /// It is durable that a delivery has arrived; told again of what was left so by an earlier connection.
    pub(crate) fn on_received(&mut self, session: SessionKey, id: DeliveryId, out: &mut Out) {
        out.bus(session, BusCommand::Settle(id, Settlement::Done));
        if let Some(step) = self.settling.steps.remove(&(session, id)) {
            self.steps.answered(step);
        }
        if self.subscriptions.seat(session) == Some(Seat::Leaving) {
            self.close_seat(session, out);
        }
    }
}
