//! Requests: what they ask for, and what becomes of them. RFC 7252 §5

use crate::Requester;
use crate::blockwise::etag;
use crate::client::{Asking, Awaiting, State, Wish};
use crate::core::{Core, Out};
use crate::counters::CoapMetric;
use crate::discovery::{self, Offer};
use crate::uri::{self, Query, Resource};
use bytes::Bytes;
use headgate_coap_codec::{Code, Kind, Message, format, number};
use headgate_model::access::Wanted;
use headgate_model::bus::Refusal;
use headgate_model::datagram::Address;
use headgate_model::{
    AckToken, Answer, Asked, BusCommand, CloseReason, Instant, Metric, Properties, Qos, Question,
    RetainHandling, SubscriptionOptions, Topic, UserLimit, Verdict,
};
use std::sync::Arc;
use std::time::Duration;

/// So long an Echo value is fresh. RFC 9175 §2.3
const FRESH: Duration = Duration::from_secs(60);

/// What can be found here.
const OFFERS: [Offer; 2] = [
    Offer {
        path: "/mqtt",
        kind: "mqtt",
        attributes: ";obs",
    },
    Offer {
        path: "/ps",
        kind: "core.ps",
        attributes: ";obs",
    },
];

/// Critical options that are understood. RFC 7252 §5.4.1
fn is_known(option: u16) -> bool {
    use number::*;
    matches!(
        option,
        URI_HOST | URI_PORT | URI_PATH | URI_QUERY | ACCEPT | BLOCK1 | BLOCK2 | PROXY_URI | PROXY_SCHEME
    )
}

/// What every request must be like.
fn check(request: &Message) -> Result<(), (Code, &'static str)> {
    let options = &request.options;
    if options.has(number::PROXY_URI) || options.has(number::PROXY_SCHEME) {
        return Err((Code::PROXYING_NOT_SUPPORTED, "this is no proxy"));
    }
    if options.first_bad(is_known).is_some() {
        return Err((
            Code::BAD_OPTION,
            "a critical option is not understood, or stands twice",
        ));
    }
    // RFC 8768 §3
    let hops = options.get(number::HOP_LIMIT);
    if hops.is_some_and(|hops| hops.len() != 1 || hops[0] == 0) {
        return Err((Code::BAD_REQUEST, "Hop-Limit is 1 to 255"));
    }
    Ok(())
}

impl<A: Address> Core<A> {
    /// A request came, for the first time.
    pub(crate) fn request(
        &mut self,
        from: Requester<A>,
        mut request: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        out.counts.add_own(CoapMetric::RequestsReceived);
        if from.at.is_by_group() {
            return self.by_group(&from, &request, now, out);
        }
        if let Err((code, why)) = check(&request) {
            if code == Code::BAD_OPTION {
                out.counts.add_own(CoapMetric::BadOptions);
                // §5.4.1: what cannot be understood and wants no confirmation is rejected, here silently.
                if from.kind == Kind::NonConfirmable {
                    return;
                }
            }
            return match code {
                Code::BAD_REQUEST => self.refuse_stranger(&from, &request, "", (code, why), out),
                _ => self.refuse(&from, &request, code, why, out),
            };
        }
        if self.asks_for_echo(&from, &request, now) {
            let mut challenge =
                crate::blockwise::answer(Code::UNAUTHORIZED, &request, "say the Echo option again");
            challenge.options.push(number::ECHO, self.echo(from.at, now));
            return self.respond(&from, &request, challenge, now, out);
        }
        if self.answer_block(&from, &request, now, out) {
            return;
        }
        if let Err(response) = self.uploads.take(from.at, &mut request, now) {
            return self.respond(&from, &request, response, now, out);
        }
        match uri::resource(&request) {
            Resource::WellKnownCore => self.on_discovery(&from, &request, now, out),
            Resource::Unknown => self.refuse(&from, &request, Code::NOT_FOUND, "", out),
            Resource::Connection | Resource::Mqtt(_) | Resource::Ps(_) => match uri::query(&request) {
                Ok(query) => self.on_query(from, request, &query, now, out),
                Err(error) => {
                    let why = error.to_string();
                    self.refuse_stranger(&from, &request, "", (Code::BAD_REQUEST, &why), out);
                }
            },
        }
    }

    /// A request came to a group: only what there is may be asked there, for nobody knows who asks, and many hear it. §8, §11.3
    fn by_group(&mut self, from: &Requester<A>, request: &Message, now: Instant, out: &mut Out<A>) {
        if check(request).is_err() {
            return;
        }
        if let Some(links) = discovery::links_for_group(from, request, &OFFERS) {
            self.respond(from, request, links, now, out);
        }
    }

    /// Answers a request for a block of what is being fetched. Whether it was one.
    fn answer_block(
        &mut self,
        from: &Requester<A>,
        request: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) -> bool {
        let Some(part) = self.downloads.fetch(from.at, request, now) else {
            return false;
        };
        self.respond(from, request, part.answer, now, out);
        if let Some(key) = part.of {
            self.on_fetched(key, part.is_last, now, out);
        }
        true
    }

    /// Whether a request that changes something must first show that it is fresh. RFC 9175 §2.3
    fn asks_for_echo(&self, from: &Requester<A>, request: &Message, now: Instant) -> bool {
        let changes = !matches!(request.code, Code::GET | Code::FETCH);
        if !self.settings.require_echo || !changes || !A::FORGEABLE {
            return false;
        }
        let Some(said) = request.options.get(number::ECHO) else {
            return true;
        };
        let Some((at, _)) = said.split_first_chunk::<8>() else {
            return true;
        };
        let at = Instant(u64::from_be_bytes(*at));
        self.echo(from.at, at) != *said || at > now || now.since(at) > FRESH
    }

    /// A value that only this gateway can have given to this address at this time: 16 bytes.
    fn echo(&self, to: A, now: Instant) -> Bytes {
        let number = self.unguessable.of((to, now.0, "echo"));
        let bytes = [now.0.to_be_bytes(), number.to_be_bytes()].concat();
        bytes.into()
    }

    /// RFC 6690 §4
    fn on_discovery(&mut self, from: &Requester<A>, request: &Message, now: Instant, out: &mut Out<A>) {
        if request.code != Code::GET {
            return self.refuse(from, request, Code::METHOD_NOT_ALLOWED, "", out);
        }
        if !accepts(request, Some(format::LINK_FORMAT)) {
            return self.refuse(
                from,
                request,
                Code::NOT_ACCEPTABLE,
                "application/link-format (40) is what there is",
                out,
            );
        }
        let response = discovery::links(request, &OFFERS);
        self.respond(from, request, response, now, out);
    }

    /// A request about topics, or about a connection.
    fn on_query(
        &mut self,
        from: Requester<A>,
        request: Message,
        query: &Query,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let resource = uri::resource(&request);
        let token = query.token.as_deref();
        let id = query.client_id.as_deref();
        let known = token.and_then(|token| self.find_token(token, id?));
        if let Some(index) = known {
            return self.push(index, from, request, now, out);
        }
        let wants_client = matches!(resource, Resource::Mqtt(_) | Resource::Connection);
        if wants_client && id.is_none_or(str::is_empty) {
            let why = (Code::BAD_REQUEST, "the client id is missing: c=");
            return self.refuse_stranger(&from, &request, "", why, out);
        }
        let by_token = match resource {
            Resource::Connection => request.code != Code::POST,
            Resource::Ps(_) => token.is_some() || self.settings.connection_required,
            _ => token.is_some(),
        };
        if by_token {
            let why = "there is no connection of this client id with this token";
            let why = (Code::UNAUTHORIZED, why);
            return self.refuse_stranger(&from, &request, id.unwrap_or_default(), why, out);
        }
        let name = self.name(from.at, query);
        match self.find(&name) {
            Some(index) => self.push(index, from, request, now, out),
            None => drop(self.log_in(name, query, (from, request), now, out)),
        }
    }

    /// A request of a client that is known: it waits for those before it.
    fn push(&mut self, index: u32, from: Requester<A>, request: Message, now: Instant, out: &mut Out<A>) {
        let max = self.settings.max_waiting_requests;
        let (rate, burst) = (
            self.settings.max_client_requests_per_second,
            self.settings.client_burst_requests,
        );
        let user_rates = self.user_rates.clone();
        let client = self.client_mut(index);
        client.heard = now;
        let user = client
            .identity
            .as_ref()
            .and_then(|identity| identity.username.as_ref());
        // What is too much for the client itself is not taken from the others of its user.
        let admitted = match (client.pace.take(rate, burst, now), user_rates.zip(user)) {
            (false, _) => Err("max_client_requests_per_second"),
            (true, Some((rates, user))) => rates.admits(user, from.bytes, now).map_err(UserLimit::name),
            (true, None) => Ok(()),
        };
        if let Err(limit) = admitted {
            out.counts.add_own(CoapMetric::TooFast);
            self.tell_too_fast(index, limit, out);
            return self.refuse(&from, &request, Code::TOO_MANY_REQUESTS, "", out);
        }
        // Who sends too much does not move, for that is written down.
        self.hear(index, from.at, now, out);
        let client = self.client_mut(index);
        if client.waiting.len() + client.awaiting.len() >= max.max(1) {
            return self.refuse(
                &from,
                &request,
                Code::SERVICE_UNAVAILABLE,
                "too many requests wait",
                out,
            );
        }
        client.waiting.push_back((from, request));
        if client.state == State::Dormant {
            return self.open_own(index, out);
        }
        self.go_on(index, now, out);
    }

    /// Does what waits, one request after the other, as long as none waits for the access service.
    pub(crate) fn go_on(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let seat = self.client(index).seat;
        while self.client_of(seat) == Some(index) {
            let client = self.client_mut(index);
            if client.state != State::Open || client.asking.is_some() {
                return;
            }
            let Some((from, request)) = client.waiting.pop_front() else {
                return;
            };
            self.process(index, from, request, now, out);
        }
    }

    fn process(&mut self, index: u32, from: Requester<A>, request: Message, now: Instant, out: &mut Out<A>) {
        // Of a client that was there before a restart, the password that is in the name of what it fetches was not known when the request came.
        if self.answer_block(&from, &request, now, out) {
            return;
        }
        let query = uri::query(&request).expect("it was looked at when it came");
        match (uri::resource(&request), request.code) {
            (Resource::Connection, Code::POST) => {
                let token = self.give_token(index);
                let mut response = Message::of_stream(Code::CREATED, request.token);
                response.payload = token.into();
                self.respond(&from, &request, response, now, out);
            }
            (Resource::Connection, Code::PUT) => self.done(&from, &request, Code::CHANGED, now, out),
            (Resource::Connection, Code::DELETE) => {
                self.done(&from, &request, Code::DELETED, now, out);
                self.end_all(index, out);
                self.lose(index, CloseReason::Normal, out);
            }
            (Resource::Mqtt(topic), Code::PUT) | (Resource::Ps(topic), Code::PUT | Code::POST) => {
                self.on_publish(index, from, request, topic, &query, now, out);
            }
            (Resource::Mqtt(filter), Code::GET) => match request.options.uint(number::OBSERVE) {
                Some(0) => self.on_subscribe(index, from, request, Wish::Observe(filter), &query, now, out),
                Some(_) => self.on_cancel(index, &from, &request, &filter, Code::CONTENT, now, out),
                // EMQ 2: a client says that it is there.
                None => self.done(&from, &request, Code::CONTENT, now, out),
            },
            (Resource::Ps(filter), Code::GET) => match request.options.uint(number::OBSERVE) {
                Some(0) => self.on_subscribe(index, from, request, Wish::Observe(filter), &query, now, out),
                Some(_) => self.on_cancel(index, &from, &request, &filter, Code::NO_CONTENT, now, out),
                None => self.on_subscribe(index, from, request, Wish::Read(filter), &query, now, out),
            },
            _ => self.refuse(&from, &request, Code::METHOD_NOT_ALLOWED, "", out),
        }
    }

    fn done(&mut self, to: &Requester<A>, request: &Message, code: Code, now: Instant, out: &mut Out<A>) {
        self.respond(to, request, Message::of_stream(code, to.token), now, out);
    }

    fn on_publish(
        &mut self,
        index: u32,
        from: Requester<A>,
        request: Message,
        topic: Bytes,
        query: &Query,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let topic = match Topic::parse(topic.clone()) {
            Ok(topic) => topic,
            Err(error) => {
                let why = error.to_string();
                self.tell(index, || Wanted::Publish(topic), || why.clone().into(), out);
                return self.refuse(&from, &request, Code::BAD_REQUEST, &why, out);
            }
        };
        let content = request.options.uint(number::CONTENT_FORMAT);
        let media_type = content.and_then(|content| format::media_type(content.try_into().ok()?));
        let properties = media_type.map(|media_type| {
            Box::new(Properties {
                content_type: Some(Bytes::from_static(media_type.as_bytes())),
                ..Properties::default()
            })
        });
        let message = headgate_model::Message {
            qos: self
                .settings
                .publish_qos
                .of(query.qos, from.kind == Kind::Confirmable),
            retain: query.retain,
            expires_at: query.expiry.map(|expiry| now + expiry),
            properties,
            ..headgate_model::Message::new(topic, request.payload.clone())
        };
        match self.gate(index).publish(message) {
            Verdict::Admitted(message) => self.publish(index, from, request, message, now, out),
            Verdict::Refused(refused) => {
                out.counts.add(Metric::DroppedNotAuthorized);
                self.deny(index, &from, &request, &refused, out);
            }
            Verdict::Ask(waiting) => {
                let asked = waiting.request();
                let asking = Asking::Publish(from, request, waiting);
                self.ask(index, asking, asked, out);
            }
        }
    }

    fn publish(
        &mut self,
        index: u32,
        from: Requester<A>,
        request: Message,
        message: headgate_model::Admitted<headgate_model::Message>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        out.counts.add(match message.qos {
            Qos::AtMostOnce => Metric::Qos0Received,
            Qos::AtLeastOnce => Metric::Qos1Received,
            Qos::ExactlyOnce => Metric::Qos2Received,
        });
        let seat = self.client(index).seat;
        let ack = (message.qos > Qos::AtMostOnce).then(|| {
            // Its answer needs nothing of the payload.
            let request = Message {
                payload: Bytes::new(),
                ..request.clone()
            };
            self.await_bus(index, Awaiting::Publish(from, request))
        });
        let dedup = None;
        let is_answered = ack.is_none();
        out.bus.push((seat, BusCommand::Publish { message, ack, dedup }));
        if is_answered {
            self.done(&from, &request, Code::CHANGED, now, out);
        }
    }

    fn on_subscribe(
        &mut self,
        index: u32,
        from: Requester<A>,
        request: Message,
        wish: Wish,
        query: &Query,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let (Wish::Read(filter) | Wish::Observe(filter)) = &wish;
        let confirmable = from.kind == Kind::Confirmable;
        let options = |retain_handling| SubscriptionOptions {
            qos: self.settings.subscribe_qos.of(query.qos, confirmable),
            retain_handling,
            ..SubscriptionOptions::default()
        };
        let gate = self.gate(index);
        // What is retained at a topic is in the first answer; of a filter with wildcards, as rewriting may make of a topic, it comes as notifications.
        let mut verdict = gate.subscribe(filter, options(RetainHandling::DoNotSend));
        let subscription = match &verdict {
            Verdict::Admitted(subscription) => Some(&**subscription),
            Verdict::Ask(waiting) => Some(waiting.value()),
            Verdict::Refused(_) => None,
        };
        if subscription.is_some_and(|subscription| subscription.filter.has_wildcard()) {
            verdict = gate.subscribe(filter, options(RetainHandling::Send));
        }
        match verdict {
            Verdict::Admitted(subscription) => self.grant(index, from, request, wish, subscription, now, out),
            Verdict::Refused(refused) => {
                out.counts.add(Metric::SubscribeNotAuthorized);
                self.deny(index, &from, &request, &refused, out);
            }
            Verdict::Ask(waiting) => {
                let asked = waiting.request();
                let asking = Asking::Subscribe(from, request, wish, waiting);
                self.ask(index, asking, asked, out);
            }
        }
    }

    fn grant(
        &mut self,
        index: u32,
        from: Requester<A>,
        request: Message,
        wish: Wish,
        subscription: headgate_model::Admitted<headgate_model::Subscription>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        match wish {
            Wish::Observe(filter) => self.observe(index, from, request, filter, subscription, now, out),
            Wish::Read(_) if subscription.filter.has_wildcard() => {
                let why = "what is retained is read topic by topic";
                let filter = Bytes::copy_from_slice(subscription.filter.as_str().as_bytes());
                self.tell(index, || Wanted::Subscribe(filter), || why.into(), out);
                self.refuse(&from, &request, Code::BAD_REQUEST, why, out);
            }
            Wish::Read(_) => {
                let seat = self.client(index).seat;
                let token = self.await_bus(index, Awaiting::Read(from, request));
                let topic = Box::new(subscription);
                out.bus.push((seat, BusCommand::Read { token, topic }));
            }
        }
    }

    fn ask(
        &mut self,
        index: u32,
        asking: Asking<A>,
        request: headgate_model::AccessRequest,
        out: &mut Out<A>,
    ) {
        let client = self.client_mut(index);
        client.asking = Some(Box::new(asking));
        out.questions.push(Asked {
            key: client.seat,
            at: Some(client.at),
            question: Question::Authorize(vec![request]),
        });
    }

    /// The access service says whether a request may be done.
    pub(crate) fn on_authorized(&mut self, index: u32, answer: &Answer, now: Instant, out: &mut Out<A>) {
        let client = self.client_mut(index);
        let seat = client.seat;
        let Some(asking) = client.asking.take() else {
            return;
        };
        match *asking {
            Asking::Publish(from, request, waiting) => match waiting.decide(answer.decision(0)) {
                Ok(message) => self.publish(index, from, request, message, now, out),
                Err(refused) => {
                    out.counts.add(Metric::DroppedNotAuthorized);
                    self.deny(index, &from, &request, &refused, out);
                }
            },
            Asking::Subscribe(from, request, wish, waiting) => match waiting.decide(answer.decision(0)) {
                Ok(subscription) => self.grant(index, from, request, wish, subscription, now, out),
                Err(refused) => {
                    out.counts.add(Metric::SubscribeNotAuthorized);
                    self.deny(index, &from, &request, &refused, out);
                }
            },
        }
        // What is denied may end the client.
        if self.client_of(seat) == Some(index) {
            self.go_on(index, now, out);
        }
    }

    /// A publish is as safe as it was to be.
    pub(crate) fn on_accepted(&mut self, index: u32, token: AckToken, now: Instant, out: &mut Out<A>) {
        if let Some(awaiting) = self.client_mut(index).awaiting.remove(&token.0) {
            let (from, request) = awaiting.requester();
            self.done(&from, &request, Code::CHANGED, now, out);
        }
    }

    pub(crate) fn on_refused(&mut self, index: u32, token: AckToken, why: Refusal, out: &mut Out<A>) {
        if let Some(awaiting) = self.client_mut(index).awaiting.remove(&token.0) {
            let (from, request) = awaiting.requester();
            self.refuse(&from, &request, refusal_code(why), &why.to_string(), out);
        }
    }

    /// What is retained at a topic that was to be read.
    pub(crate) fn on_retained(
        &mut self,
        index: u32,
        token: AckToken,
        message: Option<Arc<headgate_model::Message>>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        match self.client_mut(index).awaiting.remove(&token.0) {
            Some(Awaiting::Read(from, request)) => {
                let Some(message) = message else {
                    return self.refuse(&from, &request, Code::NOT_FOUND, "nothing is retained there", out);
                };
                let mut response = content_of(&message, request.token, now);
                let tag = etag(&message.payload);
                if request.options.all(number::ETAG).any(|known| *known == tag) {
                    // RFC 7252 §5.10.6.2: the client has it already.
                    response = Message::of_stream(Code::VALID, request.token);
                } else if !accepts(&request, content_format(&response)) {
                    return self.refuse(
                        &from,
                        &request,
                        Code::NOT_ACCEPTABLE,
                        "it has another format",
                        out,
                    );
                }
                response.options.push(number::ETAG, tag);
                self.respond(&from, &request, response, now, out);
            }
            Some(Awaiting::FirstValue(from, request, seat)) => {
                self.first_value(index, from, request, seat, message, now, out);
            }
            Some(Awaiting::Publish(..)) | None => {}
        }
    }
}

/// How a refusal of the bus looks to a client.
pub fn refusal_code(why: Refusal) -> Code {
    match why {
        Refusal::TopicInvalid | Refusal::NotSupported => Code::BAD_REQUEST,
        Refusal::ExclusiveTaken => Code::FORBIDDEN,
        Refusal::QuotaExceeded => Code::TOO_MANY_REQUESTS,
        Refusal::QueueFull | Refusal::NoMemory | Refusal::StoreFull | Refusal::StoreFailed => {
            Code::SERVICE_UNAVAILABLE
        }
    }
}

/// A message of the bus as a representation: payload, format, and for how long it holds. RFC 7252 §5.10.5
pub(crate) fn content_of(
    message: &headgate_model::Message,
    token: headgate_coap_codec::Token,
    now: Instant,
) -> Message {
    let mut content = Message::of_stream(Code::CONTENT, token);
    let media_type = message
        .properties
        .as_ref()
        .and_then(|properties| properties.content_type.as_ref());
    let known = media_type.and_then(|known| format::of_media_type(std::str::from_utf8(known).ok()?));
    if let Some(known) = known {
        content.options.push_uint(number::CONTENT_FORMAT, known.into());
    }
    if let Some(until) = message.expires_at {
        let seconds = u32::try_from(until.since(now).as_secs()).unwrap_or(u32::MAX);
        content.options.push_uint(number::MAX_AGE, seconds);
    }
    content.payload = message.payload.clone();
    content
}

fn content_format(message: &Message) -> Option<u16> {
    message
        .options
        .uint(number::CONTENT_FORMAT)
        .and_then(|format| format.try_into().ok())
}

/// Whether a client takes this format; of a representation whose format is not known, it takes any. RFC 7252 §5.10.4
pub(crate) fn accepts(request: &Message, format: Option<u16>) -> bool {
    match (request.options.uint(number::ACCEPT), format) {
        (Some(wanted), Some(format)) => wanted == u32::from(format),
        _ => true,
    }
}
