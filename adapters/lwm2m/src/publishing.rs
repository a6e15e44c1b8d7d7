//! What goes to the bus for a client, by its rules; and what waits until that is safe.

use crate::core::{Core, MOST_ASKED, NOBODY, Out};
use crate::counters::Lwm2mMetric;
use crate::device::Asking;
use crate::report;
use headgate_coap_codec::{Code, Message};
use headgate_model::datagram::Address;
use headgate_model::{AckToken, Answer, Asked, BusCommand, Instant, Metric, Qos, Question, Topic, Verdict};
use serde_json::{Value as Json, json};
use std::sync::Arc;

impl<A: Address> Core<A> {
    /// Publishes what a client, or its registration, says: `kind` is the msgType.
    pub(crate) fn tell(&mut self, index: u32, kind: &str, data: Json, out: &mut Out<A>) {
        let topics = &self.settings.topics;
        let topic = match kind {
            "update" => &topics.update,
            "notify" | "send" | "firmware" => &topics.notify,
            _ => &topics.register,
        };
        let topic = topics.of(topic, self.device(index).id.as_str());
        let told = json!({"msgType": kind, "data": data});
        self.publish(index, topic, &told, false, None, Vec::new(), out);
    }

    /// Publishes for a client, by its rules; `then` goes to the bus behind it. `token`: who waits until it is safe.
    pub(crate) fn publish(
        &mut self,
        index: u32,
        topic: String,
        payload: &Json,
        retain: bool,
        token: Option<u32>,
        then: Vec<BusCommand>,
        out: &mut Out<A>,
    ) {
        let Ok(topic) = Topic::try_from(topic.as_str()) else {
            return self.submit(index, then, out);
        };
        let payload = serde_json::to_vec(payload).expect("JSON");
        let message = headgate_model::Message {
            qos: self.settings.qos(),
            retain,
            ..headgate_model::Message::new(topic, payload)
        };
        let device = self.device(index);
        let policy = device.identity.as_ref().map(|identity| &identity.policy);
        match self.naming.gate(&device.id, policy).publish(message) {
            Verdict::Admitted(message) => self.publish_admitted(index, message, token, then, out),
            Verdict::Refused(refused) => self.deny(index, &refused, token, then, out),
            Verdict::Ask(waiting) => {
                let to_ask = &mut self.device_mut(index).to_ask;
                // Answers to commands and what is waited for are few.
                if to_ask.len() >= MOST_ASKED && token.is_none() && then.is_empty() {
                    return out.counts.add_own(Lwm2mMetric::ReportsRefused);
                }
                to_ask.push(Asking::Publish(waiting, token, then));
                self.ask(index, out);
            }
        }
    }

    /// What was to be published may not be: who waits for it hears so, and what was to follow does.
    pub(crate) fn deny(
        &mut self,
        index: u32,
        refused: &headgate_model::Refused,
        token: Option<u32>,
        then: Vec<BusCommand>,
        out: &mut Out<A>,
    ) {
        out.counts.add(Metric::DroppedNotAuthorized);
        self.tell_denied(index, refused, out);
        if let Some(token) = token {
            self.on_accepted(index, AckToken(token), Code::FORBIDDEN, out);
        }
        self.submit(index, then, out);
    }

    pub(crate) fn publish_admitted(
        &mut self,
        index: u32,
        message: headgate_model::Admitted<headgate_model::Message>,
        token: Option<u32>,
        then: Vec<BusCommand>,
        out: &mut Out<A>,
    ) {
        let seat = self.device(index).seat;
        let ack = (message.qos > Qos::AtMostOnce).then(|| token.map_or(NOBODY, AckToken));
        let dedup = None;
        out.bus.push((seat, BusCommand::Publish { message, ack, dedup }));
        self.submit(index, then, out);
    }

    pub(crate) fn submit(&mut self, index: u32, commands: Vec<BusCommand>, out: &mut Out<A>) {
        let seat = self.device(index).seat;
        out.bus
            .extend(commands.into_iter().map(|command| (seat, command)));
    }

    /// Asks the access service what is to be asked, unless it is being asked already.
    pub(crate) fn ask(&mut self, index: u32, out: &mut Out<A>) {
        let device = self.device_mut(index);
        if device.asked || device.asking.is_some() || device.to_ask.is_empty() {
            return;
        }
        let asking = std::mem::take(&mut device.to_ask);
        let requests = asking.iter().map(|asking| match asking {
            Asking::Publish(waiting, ..) => waiting.request(),
            Asking::Subscribe(waiting) => waiting.request(),
        });
        let question = Question::Authorize(requests.collect());
        device.asking = Some(asking);
        let (key, at) = (device.seat, Some(device.at));
        out.questions.push(Asked { key, at, question });
    }

    pub(crate) fn on_authorized(&mut self, index: u32, answer: &Answer, now: Instant, out: &mut Out<A>) {
        let Some(asked) = self.device_mut(index).asking.take() else {
            return;
        };
        for (n, asking) in asked.into_iter().enumerate() {
            match asking {
                Asking::Publish(waiting, token, then) => match waiting.decide(answer.decision(n)) {
                    Ok(message) => self.publish_admitted(index, message, token, then, out),
                    Err(refused) => self.deny(index, &refused, token, then, out),
                },
                Asking::Subscribe(waiting) => match waiting.decide(answer.decision(n)) {
                    Ok(subscription) => self.subscribe(index, subscription, out),
                    Err(refused) => {
                        out.counts.add(Metric::SubscribeNotAuthorized);
                        self.tell_denied(index, &refused, out);
                        return self.end(index, Code::FORBIDDEN, "you may not get commands", now, out);
                    }
                },
            }
        }
        self.ask(index, out);
    }

    /// What a request brought is safe, or was not taken.
    pub(crate) fn on_accepted(&mut self, index: u32, token: AckToken, code: Code, out: &mut Out<A>) {
        if let Some((from, request)) = self.device_mut(index).awaiting.remove(&token.0) {
            let response = Message::of_stream(code, request.token);
            self.respond(&from, &request, response, out);
        }
    }

    /// Publishes the last values of resources, each at its own topic; `token`: who waits until the last one is safe.
    pub(crate) fn retain(
        &mut self,
        index: u32,
        records: &[headgate_lwm2m_codec::Record],
        now: Instant,
        out: &mut Out<A>,
    ) {
        if !self.settings.retain_resources {
            return;
        }
        let registry = Arc::clone(&self.settings.supplies.registry);
        let wall = self.wall(now);
        for record in records.iter().filter(|record| record.path.depth() >= 3) {
            let Some(last) = report::resource(record, &registry, wall) else {
                continue;
            };
            let most = self.settings.max_retained_resources;
            if !self.device_mut(index).may_retain(record.path, most) {
                out.counts.add_own(Lwm2mMetric::NotRetained);
                continue;
            }
            let topics = &self.settings.topics;
            let topic = topics.of(&report::level(&record.path), self.device(index).id.as_str());
            self.publish(index, topic, &last, true, None, Vec::new(), out);
        }
    }
}
