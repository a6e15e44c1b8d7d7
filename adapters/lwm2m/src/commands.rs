//! Commands from the bus: they wait until their client listens, are done one after the other, and each has one answer. LwM2M Core 1.1 §6.3, §6.5
//!
//! Always true: one request of ours to a client is under way at most; a command that waits is unsettled on the bus, so it is there again after a restart.

use crate::command::{BadCommand, Command, Kind, Operation};
use crate::core::{Core, Effect, Out, Tag};
use crate::counters::Lwm2mMetric;
use crate::device::{Job, Pending, Running, State, Wanted};
use crate::exchange::{Exchange, Next};
use crate::report;
use crate::request::{self, RequestError};
use crate::requests;
use headgate_coap::{Outcome, Requester};
use headgate_coap_codec::{Block, Code, Kind as MessageKind, Message, Token, number};
use headgate_lwm2m_codec::Path;
use headgate_model::datagram::Address;
use headgate_model::{BusCommand, Delivery, DeliveryId, Instant, Settlement, WillChange};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// What an answer says of its words that the bus must not carry for ever: more than this of a command is not kept for notifications.
const MOST_SAID: usize = 512;

impl<A: Address> Core<A> {
    /// A command came.
    pub(crate) fn on_command(&mut self, index: u32, delivery: Delivery, now: Instant, out: &mut Out<A>) {
        out.counts.add_own(Lwm2mMetric::Commands);
        let message = &delivery.message;
        let size = u32::try_from(message.size()).unwrap_or(u32::MAX);
        let registry = Arc::clone(&self.settings.supplies.registry);
        let command = match Command::parse(&message.payload, &registry) {
            Ok(command) => command,
            Err(BadCommand { said, path, why }) => {
                out.counts.add_own(Lwm2mMetric::CommandsBad);
                let told = report::answer(
                    &said,
                    &path,
                    Code::BAD_REQUEST,
                    &[("reason", why.to_string().into())],
                );
                return self.answer(index, &told, delivery.id, size, out);
            }
        };
        let by_setting = now + command.expiry.unwrap_or(self.settings.command_expiry);
        let expires = message.expires_at.map_or(by_setting, |at| at.min(by_setting));
        let pending = Pending {
            command,
            delivery: delivery.id,
            size,
            expires,
            acknowledged: false,
        };
        if self.device(index).state == State::Leaving {
            return self.fail(index, pending, "the client is not registered any more", now, out);
        }
        if expires <= now {
            return self.expire(index, pending, out);
        }
        self.device_mut(index).commands.push_back(pending);
        self.go_on(index, now, out);
        self.rearm(index, now);
    }

    /// Publishes the answer to a command, and settles it, in one turn of the bus.
    pub(crate) fn answer(
        &mut self,
        index: u32,
        told: &Json,
        delivery: Option<DeliveryId>,
        size: u32,
        out: &mut Out<A>,
    ) {
        let settled = delivery.map(|id| BusCommand::Settle(id, Settlement::Done));
        let more = BusCommand::credit_of(size as usize);
        let then = settled.into_iter().chain([more]).collect();
        let topics = &self.settings.topics;
        let topic = topics.of(&topics.response, self.device(index).id.as_str());
        self.publish(index, topic, told, false, None, then, out);
    }

    /// A command has its answer.
    pub(crate) fn finish(
        &mut self,
        index: u32,
        pending: &Pending,
        code: Code,
        more: &[(&str, Json)],
        out: &mut Out<A>,
    ) {
        out.counts.add_own(match code.is_success() {
            true => Lwm2mMetric::CommandsDone,
            false => Lwm2mMetric::CommandsFailed,
        });
        let told = report::answer(&pending.command.said, &pending.command.path, code, more);
        let is_noted = matches!(
            pending.command.operation,
            Operation::Observe(..) | Operation::Cancel(..)
        );
        if !(is_noted && code.is_success()) {
            return self.answer(index, &told, pending.delivery, pending.size, out);
        }
        // What is observed now is in the note. Its answer waits until a restart would find that: an answer of the bus does not come before.
        let device = self.device_mut(index);
        device.noted.push_back((told, pending.delivery, pending.size));
        let asked = BusCommand::ChangeWill(WillChange::Remove);
        out.bus.push((device.seat, asked));
    }

    /// The note of a client is durable.
    pub(crate) fn on_noted(&mut self, index: u32, out: &mut Out<A>) {
        if let Some((told, delivery, size)) = self.device_mut(index).noted.pop_front() {
            self.answer(index, &told, delivery, size, out);
        }
    }

    fn expire(&mut self, index: u32, pending: Pending, out: &mut Out<A>) {
        out.counts.add_own(Lwm2mMetric::CommandsExpired);
        let more = [("reason", Json::from("expired"))];
        let said = &pending.command.said;
        let told = report::answer(said, &pending.command.path, Code::GATEWAY_TIMEOUT, &more);
        self.answer(index, &told, pending.delivery, pending.size, out);
    }

    pub(crate) fn fail(&mut self, index: u32, pending: Pending, why: &str, _: Instant, out: &mut Out<A>) {
        let more = [("reason", Json::from(why))];
        self.finish(index, &pending, Code::NOT_FOUND, &more, out);
    }

    /// All commands that wait, and the one that is being done, are answered so.
    pub(crate) fn fail_all(&mut self, index: u32, why: &str, now: Instant, out: &mut Out<A>) {
        while !self.device(index).noted.is_empty() {
            self.on_noted(index, out);
        }
        let device = self.device_mut(index);
        let running = device.exchange.take().and_then(|running| match running.job {
            Job::Command(pending) => Some(pending),
            _ => None,
        });
        let firmware = device.firmware.take().map(|firmware| firmware.pending);
        let waiting = std::mem::take(&mut device.commands);
        for pending in firmware.into_iter().chain(running).chain(waiting) {
            self.fail(index, pending, why, now, out);
        }
    }

    /// Commands whose time is over.
    pub(crate) fn expire_commands(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let device = self.device_mut(index);
        if device.commands.iter().all(|pending| pending.expires > now) {
            return;
        }
        let all = std::mem::take(&mut device.commands);
        let (over, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|pending| pending.expires <= now);
        device.commands = left.into();
        for pending in over {
            self.expire(index, pending, out);
        }
    }

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

    fn begin(&mut self, index: u32, job: Job, now: Instant, out: &mut Out<A>) {
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
                Some(message) => Ok(Exchange::new(message, szx)),
                None => {
                    let why = "the package is not there any more (firmware)";
                    return self.firmware_failed(index, why, now, out);
                }
            },
        };
        let mut exchange = match (made, job) {
            (Ok(exchange), job) => (exchange, job),
            (Err(why), Job::Command(pending)) => {
                let more = [("reason", Json::from(why.to_string()))];
                return self.finish(index, &pending, Code::BAD_REQUEST, &more, out);
            }
            (Err(_), _) => return out.counts.add_own(Lwm2mMetric::Unreadable),
        };
        // An observation that is there is asked for by its token. RFC 7641 §3.3.1, §3.6
        let known = self.known_observation(index, &exchange.1);
        let token = known.unwrap_or_else(|| self.new_token());
        let message = exchange.0.message(token);
        let (exchange, job) = exchange;
        self.run(index, job, exchange, message, token, now);
    }

    fn run(
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

    fn patience(&self, now: Instant) -> Instant {
        now + self.settings.transmission.max_transmit_wait() + self.settings.response_timeout
    }

    /// Whether it would be one observation more than there may be.
    fn has_too_many(&self, index: u32, job: &Job) -> bool {
        let observations = self.device(index).observations.len();
        observations >= self.settings.max_observations && self.known_observation(index, job).is_none()
    }

    /// The token of the observation that a job is about.
    fn known_observation(&self, index: u32, job: &Job) -> Option<Token> {
        let paths = match job {
            Job::Command(pending) => match &pending.command.operation {
                Operation::Observe(paths, kind) | Operation::Cancel(paths, kind) => (paths, *kind),
                _ => return None,
            },
            Job::Observe(wanted) => (&wanted.paths, wanted.kind),
            _ => return None,
        };
        let known = &self.device(index).observations;
        let same = known
            .iter()
            .find(|known| known.wanted.paths == *paths.0 && known.wanted.kind == paths.1);
        same.map(|known| known.token)
    }

    /// To fetch the rest of a notification by the request of its observation. RFC 7959 §2.6
    fn rest_of(&self, index: u32, token: Token, first: &Message) -> Result<Exchange, RequestError> {
        let device = self.device(index);
        let observation = device.observations.iter().find(|known| known.token == token);
        let wanted = &observation.ok_or(RequestError::Ended)?.wanted;
        let operation = Operation::Observe(wanted.paths.clone(), wanted.kind);
        let message = request::request(&operation, &device.registration.abilities(), wanted.format)?;
        Ok(Exchange::of_rest(
            message,
            first.clone(),
            self.szx,
            self.settings.max_body_bytes,
        )?)
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
    fn on_silence(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let device = self.device_mut(index);
        if !device.registration.queue_mode {
            return self.give_up(index, "coap_timeout", "the client does not answer", now, out);
        }
        device.awake_until = None;
        let Some(running) = device.exchange.take() else {
            return;
        };
        self.release(index, &running);
        let device = self.device_mut(index);
        match running.job {
            Job::Command(pending) => device.commands.push_front(pending),
            job @ Job::Observe(_) => device.jobs.push_front(job),
            Job::Rest { .. } | Job::Firmware => {}
        }
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

    /// A client is somewhere else: what was under way to where it was waits for its turn again.
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
    fn give_up(&mut self, index: u32, kind: &str, why: &str, now: Instant, out: &mut Out<A>) {
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
    fn release(&mut self, index: u32, running: &Running) {
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
            return self.on_early_response(index, from, response, out);
        }
        let device = self.device(index);
        // Only the client knows its tokens: who has one is the client, wherever it is now, as behind a NAT.
        if device.at != from.at {
            let asked = device.exchange.as_ref().map(|running| running.exchange.token());
            if asked != Some(response.token) {
                self.ask_anew(index);
            }
            self.move_to(index, from.at, out);
        }
        let seat = self.device(index).seat;
        let device = self.device_mut(index);
        let is_answer = device
            .exchange
            .as_ref()
            .is_some_and(|running| running.exchange.token() == response.token);
        let is_notification = response.options.has(number::OBSERVE)
            && device
                .observations
                .iter()
                .any(|known| known.token == response.token);
        if is_answer && !(is_notification && self.is_late_notification(index)) {
            self.on_answer_of(index, response, now, out);
        } else if !self.admits(index, &from, now) {
            // Nobody asked for it just now: it counts as what a client sends.
            out.counts.add_own(Lwm2mMetric::TooFast);
        } else {
            self.on_notification(index, response, now, out);
        }
        if self.device_of(seat) == Some(index) {
            self.hear(index, now, out);
            self.rearm(index, now);
        }
    }

    /// A notification of a client that registered before the start, and has yet to be let in: it waits for that, which begins now if it has not.
    fn on_early_response(&mut self, index: u32, from: Requester<A>, response: Message, out: &mut Out<A>) {
        /// So many wait for one client.
        const MOST: usize = 8;
        let device = self.device_mut(index);
        if device.early.len() < MOST && device.state != State::Leaving {
            device.early.push((from, response));
        }
        if device.state == State::Restored {
            device.state = State::LoggingIn;
            if device.at != from.at {
                self.move_to(index, from.at, out);
            }
            self.ask_who(index, from.at, out);
        }
    }

    /// Whether what is under way under the token of an observation is to end it: then a notification is not its answer.
    fn is_late_notification(&self, index: u32) -> bool {
        let running = self.device(index).exchange.as_ref();
        running.is_some_and(|running| match &running.job {
            Job::Command(pending) => matches!(pending.command.operation, Operation::Cancel(..)),
            _ => false,
        })
    }

    fn on_unknown_response(&mut self, from: Requester<A>, response: Message, now: Instant, out: &mut Out<A>) {
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

    fn on_answer_of(&mut self, index: u32, response: Message, now: Instant, out: &mut Out<A>) {
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

    fn complete(
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

    fn complete_command(
        &mut self,
        index: u32,
        pending: &Pending,
        token: Token,
        response: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let code = response.code;
        let operation = &pending.command.operation;
        match operation {
            Operation::Observe(paths, kind) => {
                let wanted = Wanted {
                    paths: paths.clone(),
                    kind: *kind,
                    format: pending.command.format,
                    said: kept(&pending.command.said),
                };
                self.on_observed(index, token, wanted, response, now, out);
            }
            Operation::Cancel(paths, kind) if code.is_success() => {
                self.drop_observation(index, |known| {
                    known.wanted.paths == *paths && known.wanted.kind == *kind
                });
                let is_meant = |wanted: &Wanted| wanted.paths == *paths && wanted.kind == *kind;
                let jobs = &mut self.device_mut(index).jobs;
                jobs.retain(|job| !job.wanted().is_some_and(is_meant));
                self.keep_note(index, out);
            }
            _ => {}
        }
        let mut more: Vec<(&str, Json)> = Vec::new();
        if !code.is_success() {
            if !response.payload.is_empty() && response.payload.len() <= 256 {
                let why = String::from_utf8_lossy(&response.payload).into_owned();
                more.push(("reason", why.into()));
            }
            return self.finish(index, pending, code, &more, out);
        }
        if matches!(operation, Operation::Observe(..)) && !response.options.has(number::OBSERVE) {
            // RFC 7641 §3.1: the value is there, but nothing will be notified.
            more.push(("reason", "the client does not observe this".into()));
            return self.finish(index, pending, Code::NOT_IMPLEMENTED, &more, out);
        }
        let base = match operation {
            Operation::Read(path) => Some(*path),
            Operation::Observe(paths, Kind::Single) | Operation::Cancel(paths, Kind::Single) => {
                paths.first().copied()
            }
            Operation::ReadComposite(_) | Operation::Observe(..) | Operation::Cancel(..) => Some(Path::ROOT),
            _ => None,
        };
        if let Operation::Discover(_) = operation {
            let root = self.device(index).registration.objects().root;
            match request::discovered(response, &root) {
                Ok(links) => more.push(("content", report::links(&links))),
                Err(why) => more.push(("reason", why.to_string().into())),
            }
        } else if let Operation::Create(..) = operation {
            let segments = response.options.all(number::LOCATION_PATH);
            let location: String = segments
                .map(|part| format!("/{}", String::from_utf8_lossy(part)))
                .collect();
            if !location.is_empty() {
                more.push(("location", location.into()));
            }
        } else if let Some(base) = base.filter(|_| code == Code::CONTENT) {
            let registry = Arc::clone(&self.settings.supplies.registry);
            match request::values(response, base, &registry) {
                Ok(values) => {
                    self.retain(index, &values, now, out);
                    more.push(("content", report::content(&values)));
                }
                Err(why) => {
                    out.counts.add_own(Lwm2mMetric::Unreadable);
                    more.push(("reason", why.to_string().into()));
                    return self.finish(index, pending, Code::BAD_GATEWAY, &more, out);
                }
            }
        }
        self.finish(index, pending, code, &more, out);
    }

    /// The answer to a request that begins an observation. RFC 7641 §3.1: without the option there is none.
    fn on_observed(
        &mut self,
        index: u32,
        token: Token,
        wanted: Wanted,
        response: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let max = self.settings.max_observations;
        let sequence = response
            .options
            .uint(number::OBSERVE)
            .filter(|_| response.code.is_success());
        let known = self
            .device(index)
            .observations
            .iter()
            .any(|known| known.token == token);
        match sequence {
            Some(sequence) => {
                if !known {
                    if self.device(index).observations.len() >= max {
                        // The client hears that it is not wanted when it notifies.
                        return out.counts.add_own(Lwm2mMetric::NotificationsUnknown);
                    }
                    self.add_observation(index, token, wanted);
                }
                let observations = &mut self.device_mut(index).observations;
                if let Some(observation) = observations.iter_mut().find(|known| known.token == token) {
                    observation.last = Some((sequence, now));
                }
            }
            None => self.drop_observation(index, |known| known.token == token),
        }
        self.keep_note(index, out);
    }

    fn drop_observation(&mut self, index: u32, is_meant: impl Fn(&crate::device::Observation) -> bool) {
        let device = self.device_mut(index);
        let gone: Vec<Token> = device
            .observations
            .iter()
            .filter(|known| is_meant(known))
            .map(|known| known.token)
            .collect();
        device.observations.retain(|known| !is_meant(known));
        self.observations -= gone.len();
        for token in gone {
            self.by_token.remove(&token);
        }
    }

    /// A notification came. RFC 7641 §3.2
    fn on_notification(&mut self, index: u32, message: Message, now: Instant, out: &mut Out<A>) {
        out.counts.add_own(Lwm2mMetric::Notifications);
        let token = message.token;
        let sequence = message.options.uint(number::OBSERVE);
        let observations = &mut self.device_mut(index).observations;
        let Some(observation) = observations.iter_mut().find(|known| known.token == token) else {
            return;
        };
        let Some(sequence) = sequence.filter(|_| message.code.is_success()) else {
            // RFC 7641 §4.2: that was the last one.
            self.notified(index, token, &message, now, out);
            self.drop_observation(index, |known| known.token == token);
            return self.keep_note(index, out);
        };
        if !observation.is_newer(sequence, now) {
            return out.counts.add_own(Lwm2mMetric::NotificationsOld);
        }
        observation.last = Some((sequence, now));
        let has_more = Block::of(&message.options, number::BLOCK2)
            .and_then(Result::ok)
            .is_some_and(|block| block.more);
        if has_more {
            // A newer one takes the place of one whose rest was not fetched yet.
            let jobs = &mut self.device_mut(index).jobs;
            jobs.retain(|job| !matches!(job, Job::Rest { token: of, .. } if *of == token));
            let first = message;
            jobs.push_front(Job::Rest {
                token,
                sequence,
                first,
            });
            return self.go_on(index, now, out);
        }
        self.notified(index, token, &message, now, out);
    }

    /// Publishes a notification that is whole.
    fn notified(&mut self, index: u32, token: Token, message: &Message, now: Instant, out: &mut Out<A>) {
        let device = self.device(index);
        let Some(observation) = device.observations.iter().find(|known| known.token == token) else {
            return;
        };
        let wanted = observation.wanted.clone();
        let base = match (wanted.kind, &wanted.paths[..]) {
            (Kind::Single, [path]) => *path,
            _ => Path::ROOT,
        };
        let registry = Arc::clone(&self.settings.supplies.registry);
        let mut more: Vec<(&str, Json)> = Vec::new();
        if message.code.is_success() {
            match request::values(message, base, &registry) {
                Ok(values) => {
                    self.retain(index, &values, now, out);
                    more.push(("content", report::content(&values)));
                }
                Err(why) => {
                    out.counts.add_own(Lwm2mMetric::Unreadable);
                    more.push(("reason", why.to_string().into()));
                }
            }
        }
        let mut said = wanted.said;
        said.insert("msgType".into(), "notify".into());
        if let Some(sequence) = message.options.uint(number::OBSERVE) {
            said.insert("seqNum".into(), sequence.into());
        }
        let paths: Vec<String> = wanted.paths.iter().map(ToString::to_string).collect();
        if wanted.kind == Kind::Composite {
            more.push(("paths", json!(paths)));
        }
        let path = if wanted.kind == Kind::Single {
            paths[0].as_str()
        } else {
            "/"
        };
        let told = report::answer(&said, path, message.code, &more);
        let topics = &self.settings.topics;
        let topic = topics.of(&topics.notify, self.device(index).id.as_str());
        self.publish(index, topic, &told, false, None, Vec::new(), out);
    }
}

/// What notifications say again of a command.
fn kept(said: &Map<String, Json>) -> Map<String, Json> {
    let bytes = serde_json::to_vec(said).map_or(usize::MAX, |json| json.len());
    if bytes <= MOST_SAID {
        return said.clone();
    }
    let number = said.get("reqID").filter(|number| number.is_number());
    number
        .map(|number| ("reqID".to_owned(), number.clone()))
        .into_iter()
        .collect()
}
