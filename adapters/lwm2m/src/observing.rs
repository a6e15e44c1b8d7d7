//! What clients are observed for, and their notifications. RFC 7641, LwM2M Core 1.1 §6.4

use crate::command::{Kind, Operation};
use crate::core::{Core, Out};
use crate::counters::Lwm2mMetric;
use crate::device::{Job, Wanted};
use crate::exchange::Exchange;
use crate::report;
use crate::request::{self, RequestError};
use headgate_coap_codec::{Block, Message, Token, number};
use headgate_lwm2m_codec::Path;
use headgate_model::Instant;
use headgate_model::datagram::Address;
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// What an answer says of its words that the bus must not carry for ever: more than this of a command is not kept for notifications.
const MOST_SAID: usize = 512;

impl<A: Address> Core<A> {
    pub(crate) fn add_observation(&mut self, index: u32, token: Token, wanted: Wanted) {
        self.by_token.insert(token, index);
        self.observations += 1;
        let last = None;
        let observation = crate::device::Observation { token, wanted, last };
        self.device_mut(index).observations.push(observation);
    }

    /// Whether it would be one observation more than there may be.
    pub(crate) fn has_too_many(&self, index: u32, job: &Job) -> bool {
        let observations = self.device(index).observations.len();
        observations >= self.settings.max_observations && self.known_observation(index, job).is_none()
    }

    /// The token of the observation that a job is about.
    pub(crate) fn known_observation(&self, index: u32, job: &Job) -> Option<Token> {
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
    pub(crate) fn rest_of(
        &self,
        index: u32,
        token: Token,
        first: &Message,
    ) -> Result<Exchange, RequestError> {
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

    /// Whether a message with the token of what is under way is a notification all the same: of an observation that is being ended.
    pub(crate) fn is_late_notification(&self, index: u32, response: &Message) -> bool {
        let device = self.device(index);
        let ends = device
            .exchange
            .as_ref()
            .is_some_and(|running| match &running.job {
                Job::Command(pending) => matches!(pending.command.operation, Operation::Cancel(..)),
                _ => false,
            });
        let observed = device
            .observations
            .iter()
            .any(|known| known.token == response.token);
        ends && observed && response.options.has(number::OBSERVE)
    }

    /// The answer to a request that begins an observation. RFC 7641 §3.1: without the option there is none.
    pub(crate) fn on_observed(
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

    pub(crate) fn drop_observation(
        &mut self,
        index: u32,
        is_meant: impl Fn(&crate::device::Observation) -> bool,
    ) {
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
    pub(crate) fn on_notification(&mut self, index: u32, message: Message, now: Instant, out: &mut Out<A>) {
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
    pub(crate) fn notified(
        &mut self,
        index: u32,
        token: Token,
        message: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let device = self.device(index);
        let Some(observation) = device.observations.iter().find(|known| known.token == token) else {
            return;
        };
        let wanted = &observation.wanted;
        let mut said = wanted.said.clone();
        let (base, paths) = match (wanted.kind, &wanted.paths[..]) {
            (Kind::Single, [path]) => (*path, None),
            (_, paths) => (
                Path::ROOT,
                Some(paths.iter().map(ToString::to_string).collect::<Json>()),
            ),
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
        said.insert("msgType".into(), "notify".into());
        if let Some(sequence) = message.options.uint(number::OBSERVE) {
            said.insert("seqNum".into(), sequence.into());
        }
        more.extend(paths.map(|paths| ("paths", paths)));
        let told = report::answer(&said, &base.to_string(), message.code, &more);
        let topics = &self.settings.topics;
        let topic = topics.of(&topics.notify, self.device(index).id.as_str());
        self.publish(index, topic, &told, false, None, Vec::new(), out);
    }
}

/// What notifications say again of a command.
pub(crate) fn kept(said: &Map<String, Json>) -> Map<String, Json> {
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
