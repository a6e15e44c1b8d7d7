//! SEND: what the client publishes. STOMP 1.2, SEND

use crate::counters::StompMetric;
use crate::endpoint::{Held, Out, StompEndpoint};
use crate::frames::{BadFrame, expiry_of, flag, header, qos_of, receipt_of, shown};
use crate::headers::properties;
use crate::subscriptions::OWN;
use crate::transactions::{Item, NOT_OPEN};
use headgate_model::bus::Refusal;
use headgate_model::gate::Waiting;
use headgate_model::{
    AckToken, Admitted, Answer, BusCommand, Instant, Message, Metric, Properties, Qos, Question, Refused,
    Topic, Verdict,
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
    /// For errors, as the client wrote it.
    destination: String,
}

/// What a SEND says beside its body.
struct Fields {
    topic: Topic,
    qos: Qos,
    retain: bool,
    expiry: Option<Duration>,
    properties: Option<Box<Properties>>,
}

fn no_destination(destination: &str, error: &dyn std::fmt::Display) -> String {
    format!("{destination} is no destination to send to: {error}")
}

impl StompEndpoint {
    pub(crate) fn on_send(&mut self, frame: Frame, now: Instant, out: &mut Out) {
        out.counts.add_own(StompMetric::SendReceived);
        let way = Way {
            receipt: receipt_of(&frame),
            transaction: frame.headers.get("transaction").cloned(),
            destination: shown(frame.get("destination").unwrap_or_default()),
        };
        if let Some(name) = &way.transaction
            && !self.transactions.contains(name)
        {
            return self.complain_of_transaction(way.receipt, name, NOT_OPEN, out);
        }
        let Fields {
            topic,
            mut qos,
            retain,
            expiry,
            properties,
        } = match self.read_send(&frame) {
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
            retain,
            expires_at: expiry.map(|expiry| now + expiry),
            properties,
            ..Message::new(topic, frame.body)
        };
        if way.transaction.is_some() {
            message = message.compact(); // It may stay for long.
        }
        match self.gate().publish(message) {
            Verdict::Admitted(message) => self.go(message, way, out),
            Verdict::Refused(refused) => self.refuse_send(&refused, way, out),
            Verdict::Ask(message) => {
                let question = Question::Authorize(vec![message.request()]);
                self.ask(Held::Send(Box::new(HeldSend { message, way })), question, out);
            }
        }
    }

    fn read_send(&self, frame: &Frame) -> Result<Fields, BadFrame> {
        let destination = header(frame, "destination")?;
        let name = self
            .settings
            .name_of(&destination)
            .ok_or_else(|| self.settings.bad_prefix("destination", &destination))?;
        let topic = Topic::parse(name);
        let topic = topic.map_err(|error| no_destination(&shown(&destination), &error))?;
        Ok(Fields {
            topic,
            qos: qos_of(
                frame,
                self.default_qos.unwrap_or(self.settings.default_send_qos()),
            )?,
            retain: flag(frame, "retain")?,
            expiry: expiry_of(frame)?,
            properties: properties(frame, &self.settings)?,
        })
    }

    pub(crate) fn on_send_decided(&mut self, held: HeldSend, answer: &Answer, out: &mut Out) {
        match held.message.decide(answer.decision(0)) {
            Ok(message) => self.go(message, held.way, out),
            Err(refused) => self.refuse_send(&refused, held.way, out),
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

    fn refuse_send(&mut self, refused: &Refused, way: Way, out: &mut Out) {
        let Way {
            receipt, destination, ..
        } = way;
        if let Some(error) = refused.name_error() {
            return self.fail(receipt, &no_destination(&destination, error), out);
        }
        out.counts.add(Metric::DroppedNotAuthorized);
        self.tell_refused(refused, out);
        self.fail(receipt, &format!("not authorized to send to {destination}"), out);
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
