//! Commands from the bus: they wait until their client listens, are done one after the other, and each has one answer. LwM2M Core 1.1 §6.3, §6.5
//!
//! Always true: one request of ours to a client is under way at most; a command that waits is unsettled on the bus, so it is there again after a restart.

use crate::command::{BadCommand, Command, Kind, Operation};
use crate::core::{Core, Out};
use crate::counters::Lwm2mMetric;
use crate::device::{Job, Pending, State, Wanted};
use crate::report;
use crate::request;
use headgate_coap_codec::{Code, Message, Token, number};
use headgate_lwm2m_codec::Path;
use headgate_model::datagram::Address;
use headgate_model::{BusCommand, Delivery, DeliveryId, Instant, Settlement, WillChange};
use serde_json::Value as Json;
use std::sync::Arc;

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
            return self.fail(index, &pending, "the client is not registered any more", out);
        }
        if expires <= now {
            return self.expire(index, &pending, out);
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

    pub(crate) fn expire(&mut self, index: u32, pending: &Pending, out: &mut Out<A>) {
        out.counts.add_own(Lwm2mMetric::CommandsExpired);
        let more = [("reason", Json::from("expired"))];
        let said = &pending.command.said;
        let told = report::answer(said, &pending.command.path, Code::GATEWAY_TIMEOUT, &more);
        self.answer(index, &told, pending.delivery, pending.size, out);
    }

    pub(crate) fn fail(&mut self, index: u32, pending: &Pending, why: &str, out: &mut Out<A>) {
        let more = [("reason", Json::from(why))];
        self.finish(index, pending, Code::NOT_FOUND, &more, out);
    }

    /// All commands that wait, and the one that is being done, are answered so.
    pub(crate) fn fail_all(&mut self, index: u32, why: &str, out: &mut Out<A>) {
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
            self.fail(index, &pending, why, out);
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
            self.expire(index, &pending, out);
        }
    }

    pub(crate) fn complete_command(
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
                    said: crate::observing::kept(&pending.command.said),
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
}
