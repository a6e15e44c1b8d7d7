//! Requests of ours to a client, one at a time: when they go, and what comes back. RFC 7252 §5
//!
//! Always true: one request to a client is under way at most; what is not answered by a client that sleeps is asked again when it is awake.

use crate::command::Operation;
use crate::core::{Core, Effect, Out, Tag};
use crate::counters::Lwm2mMetric;
use crate::device::{Job, Running, State};
use crate::exchange::{Exchange, Next};
use crate::request::{self, RequestError};
use crate::requests;
use headgate_coap::{Outcome, Requester};
use headgate_coap_codec::{Code, Kind as MessageKind, Message, Token, number};
use headgate_model::Instant;
use headgate_model::datagram::Address;
use serde_json::Value as Json;

impl<A: Address> Core<A> {
    /// Begins what is next, if the client listens and nothing is under way.
    pub(crate) fn go_on(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        loop {
            let device = self.device_mut(index);
            if device.state != State::Open || device.exchange.is_some() || !device.listens(now) {
                return;
            }
            let due = device
                .firmware
                .as_ref()
                .is_some_and(|firmware| firmware.is_due(now));
            let is_silent = device.is_silent;
            let next = |job: &Job| !(is_silent && job.wanted().is_some());
            let next = device.jobs.iter().position(next);
            let job = match next.and_then(|next| device.jobs.remove(next)) {
                Some(job) => job,
                None if due => Job::Firmware,
                None => match device.commands.pop_front() {
                    Some(pending) => Job::Command(pending),
                    None => return,
                },
            };
            self.begin(index, job, now, out);
        }
    }

    pub(crate) fn begin(&mut self, index: u32, job: Job, now: Instant, out: &mut Out<A>) {
        let abilities = self.device(index).registration.abilities();
        let szx = self.szx;
        let made = match &job {
            Job::Command(pending) => match &pending.command.operation {
                Operation::UpdateFirmware(_) => return self.begin_firmware(index, job, now, out),
                Operation::Observe(..) if self.has_too_many(index, &job) => Err(RequestError::TooMany),
                operation => request::request(operation, &abilities, pending.command.format)
                    .map(|message| Exchange::new(message, szx)),
            },
            Job::Observe(wanted) => {
                let operation = Operation::Observe(wanted.paths.clone(), wanted.kind);
                request::request(&operation, &abilities, wanted.format)
                    .map(|message| Exchange::new(message, szx))
            }
            Job::Rest { token, first, .. } => self.rest_of(index, *token, first),
            Job::Firmware => match self.firmware_request(index, &abilities, now) {
                Some(message) => Ok(match self.package_tag(index) {
                    Some(tag) => Exchange::tagged(message, szx, tag),
                    None => Exchange::new(message, szx),
                }),
                None => {
                    let why = "the package is not there any more (firmware)";
                    return self.firmware_failed(index, why, now, out);
                }
            },
        };
        let mut exchange = match (made, &job) {
            (Ok(exchange), _) => exchange,
            (Err(why), Job::Command(pending)) => {
                let more = [("reason", Json::from(why.to_string()))];
                return self.finish(index, pending, Code::BAD_REQUEST, &more, out);
            }
            (Err(_), _) => return out.counts.add_own(Lwm2mMetric::Unreadable),
        };
        // An observation that is there is asked for by its token. RFC 7641 §3.3.1, §3.6
        let known = self.known_observation(index, &job);
        let token = known.unwrap_or_else(|| self.new_token());
        let message = exchange.message(token);
        self.run(index, job, exchange, message, token, now);
    }

    pub(crate) fn run(
        &mut self,
        index: u32,
        job: Job,
        exchange: Exchange,
        message: Message,
        first_token: Token,
        now: Instant,
    ) {
        let number = self.device_mut(index).take_token();
        let until = self.patience(now);
        self.by_token.insert(exchange.token(), index);
        let device = self.device_mut(index);
        device.exchange = Some(Running {
            job,
            exchange,
            number,
            first_token,
            until,
        });
        let (at, key) = (device.at, device.seat);
        self.effects
            .push_back(Effect::Send(at, message, Tag { key, number }));
        self.rearm(index, now);
    }

    pub(crate) fn patience(&self, now: Instant) -> Instant {
        now + self.settings.transmission.max_transmit_wait() + self.settings.response_timeout
    }

    /// What became of a message that we sent.
    pub(crate) fn on_outcome(&mut self, outcome: Outcome<Tag>, now: Instant, out: &mut Out<A>) {
        let (Outcome::Acknowledged(tag) | Outcome::Rejected(tag) | Outcome::Lost(tag)) = outcome;
        let Some(index) = self.device_of(tag.key) else {
            return self.on_bootstrap_outcome(outcome, now, out);
        };
        let device = self.device_mut(index);
        let Some(running) = device
            .exchange
            .as_mut()
            .filter(|running| running.number == tag.number)
        else {
            return;
        };
        match outcome {
            // RFC 7252 §5.2.2: the response comes later.
            Outcome::Acknowledged(_) => {
                let first = match &mut running.job {
                    Job::Command(pending) => {
                        let told = std::mem::replace(&mut pending.acknowledged, true);
                        (!told).then(|| pending.command.said.clone())
                    }
                    _ => None,
                };
                if let Some(mut told) = first {
                    told.insert("msgType".into(), "ack".into());
                    let topics = &self.settings.topics;
                    let topic = topics.of(&topics.response, self.device(index).id.as_str());
                    self.publish(index, topic, &told.into(), false, None, Vec::new(), out);
                }
                let until = now + self.settings.response_timeout;
                if let Some(running) = &mut self.device_mut(index).exchange {
                    running.until = until;
                }
                self.hear(index, now, out);
            }
            Outcome::Rejected(_) => {
                self.give_up(index, "coap_reset", "the client rejected the request", now, out);
            }
            Outcome::Lost(_) => self.on_silence(index, now, out),
        }
        if self.device_of(tag.key) == Some(index) {
            self.rearm(index, now);
        }
    }

    /// A request that has no answer in time.
    pub(crate) fn expire_exchange(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let running = self.device(index).exchange.as_ref();
        if running.is_some_and(|running| running.until <= now) {
            self.on_silence(index, now, out);
        }
    }

    /// A client does not answer. One that sleeps at times is asked again when it is awake; of another one it is told.
    pub(crate) fn on_silence(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let device = self.device_mut(index);
        if !device.registration.queue_mode {
            return self.give_up(index, "coap_timeout", "the client does not answer", now, out);
        }
        device.awake_until = None;
        self.ask_anew(index);
        self.firmware_waits(index, now);
    }

    /// A client registers anew before it has answered: what must not be done twice is not asked for again.
    pub(crate) fn give_up_unrepeatable(&mut self, index: u32, out: &mut Out<A>) {
        let is_meant = |running: &mut Running| match &running.job {
            Job::Command(pending) => {
                matches!(
                    pending.command.operation,
                    Operation::Execute(..) | Operation::Create(..)
                )
            }
            _ => false,
        };
        let Some(running) = self.device_mut(index).exchange.take_if(is_meant) else {
            return;
        };
        self.release(index, &running);
        if let Job::Command(pending) = running.job {
            let more = [(
                "reason",
                Json::from("the client registered anew before it answered"),
            )];
            self.finish(index, &pending, Code::GATEWAY_TIMEOUT, &more, out);
        }
    }

    /// A client sleeps, or is somewhere else: what was under way waits for its turn again.
    pub(crate) fn ask_anew(&mut self, index: u32) {
        let Some(running) = self.device_mut(index).exchange.take() else {
            return;
        };
        self.release(index, &running);
        let device = self.device_mut(index);
        match running.job {
            Job::Command(pending) => device.commands.push_front(pending),
            Job::Firmware => {}
            job => device.jobs.push_front(job),
        }
    }

    /// What is being done ends without an answer of the client.
    pub(crate) fn give_up(&mut self, index: u32, kind: &str, why: &str, now: Instant, out: &mut Out<A>) {
        let Some(running) = self.device_mut(index).exchange.take() else {
            return;
        };
        self.release(index, &running);
        match running.job {
            Job::Command(mut pending) => {
                // As EMQX has it.
                pending.command.said.insert("msgType".into(), kind.into());
                let more = [("reason", Json::from(why))];
                self.finish(index, &pending, Code::GATEWAY_TIMEOUT, &more, out);
            }
            Job::Firmware => self.firmware_failed(index, why, now, out),
            job @ Job::Observe(_) if kind == "coap_timeout" => {
                let device = self.device_mut(index);
                device.jobs.push_front(job);
                device.is_silent = true;
            }
            Job::Observe(_) => self.keep_note(index, out),
            Job::Rest { .. } => {}
        }
        self.go_on(index, now, out);
    }

    /// The tokens of what was under way are nobody's any more, unless one has become that of an observation.
    pub(crate) fn release(&mut self, index: u32, running: &Running) {
        for token in [running.exchange.token(), running.first_token] {
            let is_kept = self
                .device(index)
                .observations
                .iter()
                .any(|known| known.token == token);
            if !is_kept {
                self.by_token.remove(&token);
            }
        }
    }

    /// A response came: to a request of ours, or a notification.
    pub(crate) fn on_response(
        &mut self,
        from: Requester<A>,
        response: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        // RFC 7252 §5.4.1: a response with a critical option that is not known is rejected.
        if response.options.first_bad(requests::is_known).is_some() {
            out.counts.add_own(Lwm2mMetric::Unreadable);
            if from.kind == MessageKind::Confirmable {
                self.effects.push_back(Effect::Reject(from));
            }
            return;
        }
        let Some(index) = self.by_token.get(&response.token).copied() else {
            return self.on_unknown_response(from, response, now, out);
        };
        if from.kind == MessageKind::Confirmable {
            self.effects.push_back(Effect::Acknowledge(from));
        }
        // After a restart a client may be at an address of which the note knew less.
        let _ = self.find_at(from.at);
        if !matches!(self.device(index).state, State::Open | State::Moving) {
            return self.on_early_response(index, from, response, now, out);
        }
        let device = self.device(index);
        let asked = device.exchange.as_ref().map(|running| running.exchange.token());
        let is_answer = asked == Some(response.token) && !self.is_late_notification(index, &response);
        // What nobody asked for just now counts as what a client sends.
        if !is_answer && !self.admits(index, &from, now) {
            return out.counts.add_own(Lwm2mMetric::TooFast);
        }
        // Only the client knows its tokens: who has one is the client, wherever it is now, as behind a NAT.
        if self.device(index).at != from.at {
            if asked != Some(response.token) {
                self.ask_anew(index);
            }
            self.move_to(index, from.at, now, out);
        }
        let seat = self.device(index).seat;
        if is_answer {
            self.on_answer_of(index, response, now, out);
        } else {
            self.on_notification(index, response, now, out);
        }
        if self.device_of(seat) == Some(index) {
            self.hear(index, now, out);
        }
    }

    /// A notification of a client that registered before the start, and has yet to be let in: it waits for that, which begins now if it has not.
    pub(crate) fn on_early_response(
        &mut self,
        index: u32,
        from: Requester<A>,
        response: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        /// So many wait for one client.
        const MOST: usize = 8;
        let device = self.device_mut(index);
        if device.early.len() < MOST && device.state != State::Leaving {
            device.early.push((from, response));
        }
        if device.state == State::Restored {
            device.state = State::LoggingIn;
            if device.at != from.at {
                self.move_to(index, from.at, now, out);
            }
            self.ask_who(index, from.at, out);
        }
    }

    pub(crate) fn on_unknown_response(
        &mut self,
        from: Requester<A>,
        response: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        if self.on_bootstrap_response(from, &response, now, out) {
            return;
        }
        // RFC 7641 §3.6: nobody observes that any more, and its sender is to know.
        let is_notification =
            from.kind == MessageKind::NonConfirmable && response.options.has(number::OBSERVE);
        if from.kind == MessageKind::Confirmable || is_notification {
            out.counts.add_own(Lwm2mMetric::NotificationsUnknown);
            self.effects.push_back(Effect::Reject(from));
        }
    }

    pub(crate) fn on_answer_of(&mut self, index: u32, response: Message, now: Instant, out: &mut Out<A>) {
        let max_body = self.settings.max_body_bytes;
        let token = self.new_token();
        let device = self.device_mut(index);
        let (at, key) = (device.at, device.seat);
        let Some(mut running) = device.exchange.take() else {
            return;
        };
        self.effects.push_back(Effect::Forget(at, key));
        let next = running.exchange.on_response(response, max_body);
        match &next {
            Next::Send if running.exchange.token() != running.first_token => {
                self.by_token.remove(&running.exchange.token());
            }
            Next::Send => {}
            Next::Done(_) | Next::Broken(_) => self.release(index, &running),
        }
        match next {
            Next::Send => {
                let message = running.exchange.message(token);
                self.firmware_progress(index, &running, out);
                self.run(
                    index,
                    running.job,
                    running.exchange,
                    message,
                    running.first_token,
                    now,
                );
            }
            Next::Done(response) => {
                self.complete(index, running.job, running.first_token, &response, now, out);
                self.go_on(index, now, out);
            }
            Next::Broken(why) => {
                out.counts.add_own(Lwm2mMetric::Unreadable);
                match running.job {
                    Job::Command(pending) => {
                        let more = [("reason", Json::from(why.to_string()))];
                        self.finish(index, &pending, Code::BAD_GATEWAY, &more, out);
                    }
                    Job::Firmware => self.firmware_failed(index, &why.to_string(), now, out),
                    Job::Observe(_) => self.keep_note(index, out),
                    Job::Rest { .. } => {}
                }
                self.go_on(index, now, out);
            }
        }
    }

    pub(crate) fn complete(
        &mut self,
        index: u32,
        job: Job,
        token: Token,
        response: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        match job {
            Job::Command(pending) => self.complete_command(index, &pending, token, response, now, out),
            Job::Observe(wanted) => {
                self.on_observed(index, token, wanted, response, now, out);
                if response.code.is_success() {
                    self.notified(index, token, response, now, out);
                }
            }
            Job::Rest { token, sequence, .. } => {
                let mut whole = response.clone();
                whole.options.remove(number::OBSERVE);
                whole.options.push_uint(number::OBSERVE, sequence);
                self.notified(index, token, &whole, now, out);
            }
            Job::Firmware => self.firmware_answered(index, response, now, out),
        }
    }
}
