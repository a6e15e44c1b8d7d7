//! SEND: what the client publishes. STOMP 1.2, SEND

use crate::counters::StompMetric;
use crate::endpoint::{Held, Out, StompEndpoint};
use crate::frames::{BadFrame, expiry_of, header, qos_of, receipt_of};
use crate::headers::properties;
use crate::subscriptions::OWN;
use crate::transactions::Item;
use headgate_model::bus::Refusal;
use headgate_model::gate::Waiting;
use headgate_model::{
    AckToken, Admitted, Answer, BusCommand, Instant, Message, Metric, Qos, Question, Refused, Topic, Verdict,
};
use headgate_stomp_codec::{Frame, Text};
use std::time::Duration;

/// A SEND that waits for a decision on access.
#[derive(Debug)]
pub(crate) struct HeldSend {
    message: Box<Waiting<Message>>,
    way: Way,
}

/// Where a SEND goes once it is let through.
#[derive(Debug)]
struct Way {
    receipt: Option<Text>,
    transaction: Option<Text>,
}

impl StompEndpoint {
    pub(crate) fn on_send(&mut self, frame: Frame, now: Instant, out: &mut Out) {
        out.counts.add_own(StompMetric::SendReceived);
        let way = Way {
            receipt: receipt_of(&frame),
            transaction: frame.headers.get("transaction").cloned(),
        };
        if let Some(name) = &way.transaction
            && !self.transactions.contains(name)
        {
            return self.complain(way.receipt, "no such transaction", out);
        }
        let (topic, mut qos, expiry) = match self.read_send(&frame) {
            Ok(read) => read,
            Err(error) => return self.fail(way.receipt, error.as_str(), out),
        };
        // A RECEIPT is a promise, and nothing is promised at QoS 0.
        if way.receipt.is_some() || way.transaction.is_some() {
            qos = qos.max(Qos::AtLeastOnce);
        }
        out.counts.add(match qos {
            Qos::AtMostOnce => Metric::Qos0Received,
            Qos::AtLeastOnce => Metric::Qos1Received,
            Qos::ExactlyOnce => Metric::Qos2Received,
        });
        let mut message = Message {
            qos,
            retain: frame.get("retain") == Some("true"),
            expires_at: expiry.map(|expiry| now + expiry),
            properties: properties(&frame, &self.settings),
            ..Message::new(topic, frame.body)
        };
        if way.transaction.is_some() {
            message = message.compact(); // It may stay for long.
        }
        match self.gate().publish(message) {
            Verdict::Admitted(message) => self.go(message, way, out),
            Verdict::Refused(refused) => self.refuse_send(&refused, way.receipt, out),
            Verdict::Ask(message) => {
                let question = Question::Authorize(vec![message.request()]);
                self.ask(Held::Send(Box::new(HeldSend { message, way })), question, out);
            }
        }
    }

    fn read_send(&self, frame: &Frame) -> Result<(Topic, Qos, Option<Duration>), BadFrame> {
        let destination = header(frame, "destination")?;
        let name = self
            .settings
            .name_of(&destination)
            .ok_or_else(|| self.bad_prefix())?;
        let topic = Topic::parse(name);
        let topic = topic.map_err(|error| BadFrame::from(format!("no destination to send to: {error}")))?;
        Ok((
            topic,
            qos_of(frame, self.settings.default_send_qos())?,
            expiry_of(frame)?,
        ))
    }

    pub(crate) fn on_send_decided(&mut self, held: HeldSend, answer: &Answer, out: &mut Out) {
        match held.message.decide(answer.decision(0)) {
            Ok(message) => self.go(message, held.way, out),
            Err(refused) => self.refuse_send(&refused, held.way.receipt, out),
        }
    }

    fn go(&mut self, message: Admitted<Message>, way: Way, out: &mut Out) {
        if let Some(name) = &way.transaction {
            return self.hold(name, Item::Publish(Box::new(message)), way.receipt, out);
        }
        if message.qos == Qos::AtMostOnce {
            return self.publish(message, None, out);
        }
        let step = self.steps.open(way.receipt);
        self.publish(message, Some(step), out);
        self.steps.answered(step);
    }

    /// Hands a message to the bus. The step waits until it is durable.
    pub(crate) fn publish(&mut self, message: Admitted<Message>, step: Option<AckToken>, out: &mut Out) {
        if let Some(step) = step {
            self.steps.add(step);
        }
        let (ack, dedup) = (step, None);
        out.bus(OWN, BusCommand::Publish { message, ack, dedup });
    }

    fn refuse_send(&mut self, refused: &Refused, receipt: Option<Text>, out: &mut Out) {
        if let Some(error) = refused.name_error() {
            return self.fail(receipt, &format!("no destination to send to: {error}"), out);
        }
        out.counts.add(Metric::DroppedNotAuthorized);
        self.tell_refused(refused, out);
        self.fail(receipt, "not authorized to send there", out);
    }

    pub(crate) fn bad_prefix(&self) -> BadFrame {
        format!(
            "destinations begin with {} here",
            self.settings.destination_prefix
        )
        .into()
    }

    pub(crate) fn on_accepted(&mut self, token: AckToken, out: &mut Out) {
        self.on_dead_letter_accepted(token, out);
        self.steps.answered(token);
    }

    pub(crate) fn on_refused(&mut self, token: AckToken, why: Refusal, now: Instant, out: &mut Out) {
        if self.is_dead_letter(token) {
            self.on_dead_letter_refused(token, now);
            return self.steps.answered(token);
        }
        self.fail(self.steps.receipt(token), &format!("not published: {why}"), out);
    }
}
