//! How a client comes in: who it is, its session on the bus, and the answer to its registration. LwM2M Core 1.1 §6.2.1

use crate::core::{Core, NOBODY, Occupant, Out, PROTOCOL, SESSIONS};
use crate::counters::Lwm2mMetric;
use crate::device::{Asking, Device, Job, State, Wanted};
use crate::registration::{Registration, check_endpoint};
use bytes::Bytes;
use headgate_coap::Requester;
use headgate_coap_codec::{Code, Message, number};
use headgate_model::access::{AuthRefusal, Credentials, Readmission, Wanted as Wished};
use headgate_model::bus::Presence;
use headgate_model::datagram::Address;
use headgate_model::{
    AccessPolicy, Answer, Asked, BusCommand, ClientId, CloseReason, Identity, Instant, Metric, Open, Qos,
    Question, RetainHandling, RulesOf, SessionKey, SubscriptionOptions, Verdict,
};
use serde_json::Map;
use std::sync::Arc;
use std::time::Duration;

impl<A: Address> Core<A> {
    /// Somebody registers: the access service is asked who it is, and the request waits. LwM2M Core 1.1 §6.2.1
    pub(crate) fn register(&mut self, from: Requester<A>, request: Message, now: Instant, out: &mut Out<A>) {
        let registration = match Registration::parse(&request, &self.settings) {
            Ok(registration) => registration,
            Err((code, why)) => return self.refuse_stranger(&from, &request, code, &why, out),
        };
        if registration.endpoint.is_empty() {
            return self.identify(from, request, registration, now, out);
        }
        self.register_as(from, request, registration, now, out);
    }

    /// Somebody registers without an endpoint name: it has that by which its keys know it, if they do. LwM2M Core 1.1 §6.2.1
    fn identify(
        &mut self,
        from: Requester<A>,
        request: Message,
        registration: Registration,
        now: Instant,
        out: &mut Out<A>,
    ) {
        // Where somebody else could send, nobody has shown anything.
        if A::FORGEABLE {
            return self.on_identified(from, request, registration, None, now, out);
        }
        if self.is_full(out) {
            let why = "too many clients";
            return self.refuse(&from, &request, Code::SERVICE_UNAVAILABLE, why, out);
        }
        let index = self.add(from.at, registration, String::new(), State::LoggingIn, now);
        let device = self.device_mut(index);
        (device.asked, device.requester) = (true, Some((from, request)));
        let (key, at) = (device.seat, Some(from.at));
        self.logging_in += 1;
        let question = Question::Identify;
        out.questions.push(Asked { key, at, question });
    }

    fn on_identified(
        &mut self,
        from: Requester<A>,
        request: Message,
        mut registration: Registration,
        name: Option<&str>,
        now: Instant,
        out: &mut Out<A>,
    ) {
        registration.endpoint = name.unwrap_or_default().to_owned();
        match check_endpoint(&registration.endpoint, &self.settings) {
            Ok(()) => self.register_as(from, request, registration, now, out),
            Err((code, why)) => {
                let why = match name {
                    Some(_) => format!("of its key: {why}"),
                    None => why,
                };
                self.refuse_stranger(&from, &request, code, &why, out);
            }
        }
    }

    /// Whether nobody more can be let in now; that is counted.
    fn is_full(&mut self, out: &mut Out<A>) -> bool {
        let is_full = self.logging_in >= self.settings.max_logins || self.overloaded || !self.has_memory;
        if is_full {
            out.counts.add(Metric::ConnectRefused);
        }
        is_full
    }

    fn register_as(
        &mut self,
        from: Requester<A>,
        request: Message,
        registration: Registration,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let known = self.by_endpoint.contains_key(&registration.endpoint);
        let has_place = known || self.devices() < self.settings.max_clients;
        if !has_place {
            out.counts.add(Metric::ConnectRefused);
        }
        if !has_place || self.is_full(out) {
            let why = "too many clients";
            return self.refuse(&from, &request, Code::SERVICE_UNAVAILABLE, why, out);
        }
        let location = format!("{:016x}", self.unguessable.number());
        let before = self.by_endpoint.get(&registration.endpoint).copied();
        let index = self.add(from.at, registration, location, State::LoggingIn, now);
        // LwM2M Core 1.1 §6.2.1: what was observed before ends with the old registration, and is begun again with the new one.
        if let Some(before) = before {
            let old = self.device(before);
            let known = old.observations.iter().map(|known| &known.wanted);
            let wanted: Vec<Wanted> = known.chain(old.to_observe()).cloned().collect();
            let (firmware, retained) = (old.firmware_mark.clone(), old.retained.clone());
            let device = self.device_mut(index);
            device.retained = retained;
            device.jobs.extend(wanted.into_iter().map(Job::Observe));
            device.firmware_mark = firmware;
        }
        let at = from.at;
        self.device_mut(index).requester = Some((from, request));
        self.ask_who(index, at, out);
    }

    /// The lifetime is over of somebody who registered before the start and was not let in since: it is let in as the one that it was, for what waits for
    /// it is to be answered.
    pub(crate) fn ask_about(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let is_busy = self.logging_in >= self.settings.max_logins;
        let device = self.device_mut(index);
        if is_busy {
            let soon = Duration::from_secs(1);
            device.renewed = device.renewed + soon;
            device.ends_by = device.ends_by.map(|by| by + soon);
            return self.rearm(index, now);
        }
        device.state = State::LoggingIn;
        device.asked = true;
        let known = Readmission {
            client_id: device.id.clone(),
            username: None,
            owner: device.owner.clone(),
        };
        out.questions.push(Asked {
            key: device.seat,
            at: Some(device.at),
            question: Question::Readmit(Box::new(known)),
        });
        self.logging_in += 1;
        self.rearm(index, now);
    }

    /// Asks the access service who it is, where it is now.
    pub(crate) fn ask_who(&mut self, index: u32, at: A, out: &mut Out<A>) {
        self.logging_in += 1;
        let device = self.device_mut(index);
        device.asked = true;
        let credentials = Credentials {
            client_id: device.id.clone(),
            username: None,
            password: None,
            method: None,
            data: None,
            link: false,
        };
        out.questions.push(Asked {
            key: device.seat,
            at: Some(at),
            question: Question::Authenticate(Box::new(credentials)),
        });
    }

    /// The access service says.
    pub(crate) fn on_answer(&mut self, key: SessionKey, answer: Answer, now: Instant, out: &mut Out<A>) {
        let index = match self.seats.occupant(key) {
            Some(Occupant::Device(index)) => index,
            Some(Occupant::Bootstrap(index)) => return self.on_bootstrap_answer(index, &answer, now, out),
            None => return,
        };
        if std::mem::take(&mut self.device_mut(index).asked) {
            self.logging_in -= 1;
            match answer {
                Answer::Identified(name) => {
                    let device = self.device_mut(index);
                    let (asked, registration) = (device.requester.take(), device.registration.clone());
                    self.remove(index);
                    if let Some((from, request)) = asked {
                        self.on_identified(from, request, registration, name.as_deref(), now, out);
                    }
                }
                answer => self.on_who(index, answer, now, out),
            }
            if self.device_of(key) == Some(index) {
                self.ask(index, out);
            }
        } else {
            self.on_authorized(index, &answer, now, out);
        }
        if self.device_of(key) == Some(index) {
            self.rearm(index, now);
            self.end_if_done(index, out);
        }
        self.go_on_restoring(out);
    }

    pub(crate) fn on_who(&mut self, index: u32, answer: Answer, now: Instant, out: &mut Out<A>) {
        match (self.device(index).state, answer) {
            (State::LoggingIn, Answer::Allowed { identity, .. }) => self.open(index, identity, now, out),
            (State::Moving, Answer::Allowed { identity, .. }) => self.on_moved(index, &identity, now, out),
            (state @ (State::LoggingIn | State::Moving), answer) => {
                out.counts.add(Metric::ConnectRefused);
                let (code, why) = refusal_of(&answer);
                if let Some((from, request)) = self.device_mut(index).requester.take() {
                    self.refuse(&from, &request, code, why, out);
                }
                match state {
                    State::Moving => self.stays(index, now, out),
                    _ => self.let_go(index, now),
                }
            }
            // It left meanwhile.
            _ => {}
        }
    }

    /// A client is registered as it was before it came from somewhere else: what waited meanwhile is done.
    pub(crate) fn stays(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        self.device_mut(index).state = State::Open;
        self.go_on(index, now, out);
        self.rearm(index, now);
    }

    /// Somebody is not let in. Who registered before the start is waited for: over DTLS, nobody can say who it is until it is back.
    pub(crate) fn let_go(&mut self, index: u32, now: Instant) {
        let is_known = self.at_location(&self.device(index).location) == Some(index);
        if !is_known || self.ends(index) <= now {
            return self.remove(index);
        }
        self.device_mut(index).state = State::Restored;
        self.rearm(index, now);
    }

    pub(crate) fn open(&mut self, index: u32, identity: Identity, now: Instant, out: &mut Out<A>) {
        let settings = &self.settings;
        let (grace, max_commands) = (settings.lifetime_grace, settings.max_commands);
        let device = self.device_mut(index);
        device.state = State::Opening;
        let requester = device.requester.as_ref();
        let (peer, peer_port) = requester.map_or(device.at, |(from, _)| from.at).presence();
        let lifetime = Duration::from_secs(device.registration.lifetime);
        let who = Presence {
            username: identity.username.clone(),
            protocol: &PROTOCOL,
            version: match device.registration.version.as_str() {
                "1.0" => 10,
                "1.1" => 11,
                _ => 12,
            },
            peer,
            peer_port,
            keep_alive: u16::try_from(device.registration.lifetime).unwrap_or(u16::MAX),
            clean_start: false,
            ..Presence::default()
        };
        device.identity = Some(identity.clone());
        let escaped = device.id.as_str().replace('%', "%25");
        let name = ClientId::from(format!("{SESSIONS}{escaped}").as_str());
        let policy = Arc::new(RulesOf {
            client: device.id.clone(),
            rules: Arc::clone(&identity.policy),
        }) as Arc<dyn AccessPolicy>;
        let seat = device.seat;
        let entrant = self.naming.gate(&name, Some(&policy)).enter_beside(who);
        let Some(entrant) = entrant else {
            let why = "nobody may have this endpoint name";
            self.tell_denial(index, || Wished::Connect, || why.into(), out);
            return self.end(index, Code::FORBIDDEN, why, now, out);
        };
        self.device_mut(index).who = Some(Arc::clone(entrant.who()));
        let open = Open {
            client: entrant,
            clean_start: false,
            // It outlives the registration a little, so that commands that wait are answered at the end of it.
            expiry: lifetime + grace + grace + Duration::from_secs(60),
            will: None.into(),
            receive_maximum: max_commands,
            // No command comes before the client is registered.
            credit: 0,
            forgeable: A::FORGEABLE,
            link: None,
            wants_expired: true,
        };
        out.bus.push((seat, BusCommand::Open(Box::new(open))));
    }

    pub(crate) fn on_rules(&mut self, index: u32, who: Arc<Presence>) {
        let device = self.device_mut(index);
        if let (Some(identity), Some(policy)) = (&mut device.identity, who.rules.policy()) {
            identity.policy = Arc::clone(policy);
        }
        device.who = Some(who);
    }

    /// Its session is there: it is noted down, and gets commands.
    pub(crate) fn on_opened(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let requester = self.device(index).requester.as_ref();
        if requester.is_some_and(|(_, request)| is_registration(request)) {
            self.observe_at_once(index);
        }
        let device = self.device(index);
        let before = device.at;
        match device.requester.as_ref().map(|(from, _)| from.at) {
            Some(at) if at != before => self.move_to(index, at, now, out),
            _ => self.keep_note(index, out),
        }
        self.hear_commands(index, now, out);
    }

    /// Topics have other names since the client registered: it gets its commands by these from now on.
    pub(crate) fn follow_topics(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let topics = self.topics;
        if std::mem::replace(&mut self.device_mut(index).topics, topics) != topics {
            self.hear_commands(index, now, out);
        }
    }

    pub(crate) fn hear_commands(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let device = self.device(index);
        let (filter, options) = self.commands_of(device);
        let policy = device.identity.as_ref().map(|identity| &identity.policy);
        let gate = self.naming.gate(&device.id, policy);
        match gate.subscribe(&filter, options) {
            Verdict::Admitted(subscription) => self.subscribe(index, subscription, out),
            Verdict::Refused(refused) => {
                out.counts.add(Metric::SubscribeNotAuthorized);
                self.tell_denied(index, &refused, out);
                self.end(index, Code::FORBIDDEN, "you may not get commands", now, out);
            }
            Verdict::Ask(waiting) => {
                self.device_mut(index).to_ask.push(Asking::Subscribe(waiting));
                self.ask(index, out);
            }
        }
    }

    /// What a client subscribes to.
    pub(crate) fn commands_of(&self, device: &Device<A>) -> (Bytes, SubscriptionOptions) {
        let topics = &self.settings.topics;
        let filter = topics.of(&topics.command, device.id.as_str());
        let options = SubscriptionOptions {
            qos: Qos::AtLeastOnce,
            retain_handling: RetainHandling::DoNotSend,
            ..SubscriptionOptions::default()
        };
        (filter.into(), options)
    }

    pub(crate) fn subscribe(
        &mut self,
        index: u32,
        subscription: headgate_model::Admitted<headgate_model::Subscription>,
        out: &mut Out<A>,
    ) {
        let (token, subscription) = (NOBODY, Box::new(subscription));
        let command = BusCommand::SubscribeOnly { token, subscription };
        out.bus.push((self.device(index).seat, command));
    }

    /// It is registered, and that is durable.
    pub(crate) fn on_subscribed(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        if self.device(index).state != State::Opening {
            return;
        }
        let device = self.device_mut(index);
        device.state = State::Open;
        // Now its session ends when we say so.
        device.ends_by = device.ends_by.filter(|by| *by <= now);
        let (at, seat, credit) = (device.at, device.seat, self.settings.max_commands);
        let device = self.device(index);
        let (endpoint, location) = (device.registration.endpoint.clone(), device.location.clone());
        let before = self.by_endpoint.insert(endpoint, index);
        if let Some(before) = before.filter(|before| *before != index) {
            // From before the start, and not let in yet: it must not be, for it would take the session.
            if !self.device(before).state.has_session() {
                self.remove(before);
            }
        }
        self.by_location.insert(location, index);
        self.by_address.insert(at, index);
        out.bus.push((seat, BusCommand::credit(credit.into())));
        match self.device_mut(index).requester.take() {
            Some((from, request)) if is_registration(&request) => {
                self.on_registered(index, &from, &request, now, out);
            }
            // It registered before the start.
            Some((from, request)) => self.on_known(index, from, request, now, out),
            None => {}
        }
        if self.device_of(seat) != Some(index) {
            return;
        }
        self.rearm(index, now);
        for (from, response) in std::mem::take(&mut self.device_mut(index).early) {
            self.on_response(from, response, now, out);
        }
        if self.device_of(seat) == Some(index) {
            self.go_on(index, now, out);
        }
    }

    pub(crate) fn on_registered(
        &mut self,
        index: u32,
        from: &Requester<A>,
        request: &Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        out.counts.add_own(Lwm2mMetric::Registered);
        let mut response = Message::of_stream(Code::CREATED, request.token);
        response.options.push(number::LOCATION_PATH, "rd");
        let location = self.device(index).location.clone();
        response.options.push(number::LOCATION_PATH, location);
        self.respond(from, request, response, out);
        let data = self.device(index).registration.to_json();
        self.tell(index, "register", data, out);
        self.hear(index, now, out);
    }

    /// What is observed of each client that has it.
    pub(crate) fn observe_at_once(&mut self, index: u32) {
        if self.settings.auto_observe.is_empty() {
            return;
        }
        let device = self.device(index);
        let objects = device.registration.objects().objects;
        let known: Vec<_> = device.to_observe().collect();
        let paths = self.settings.auto_observe.iter();
        let paths = paths.filter_map(|path| path.parse::<headgate_lwm2m_codec::Path>().ok());
        let has = |path: &headgate_lwm2m_codec::Path| {
            let ids = path.ids();
            let object = objects.get(&ids[0]);
            object.is_some_and(|object| {
                ids.get(1)
                    .is_none_or(|instance| object.instances.contains(instance))
            })
        };
        let is_new = |path: &headgate_lwm2m_codec::Path| !known.iter().any(|wanted| wanted.paths == [*path]);
        let format = None;
        let said = Map::new();
        let jobs: Vec<Job> = paths
            .filter(|path| has(path) && is_new(path))
            .map(|path| {
                Job::Observe(Wanted {
                    paths: vec![path],
                    kind: crate::command::Kind::Single,
                    format,
                    said: said.clone(),
                })
            })
            .collect();
        self.device_mut(index).jobs.extend(jobs);
    }

    /// An update came from elsewhere: who sends it must be let in there, and be the same.
    pub(crate) fn ask_again(&mut self, index: u32, from: Requester<A>, request: Message, out: &mut Out<A>) {
        let device = self.device_mut(index);
        if device.asked || device.requester.is_some() || device.asking.is_some() {
            let why = "one thing after the other";
            return self.refuse(&from, &request, Code::SERVICE_UNAVAILABLE, why, out);
        }
        device.state = match device.state {
            State::Restored => State::LoggingIn,
            _ => State::Moving,
        };
        let at = from.at;
        device.requester = Some((from, request));
        self.ask_who(index, at, out);
    }

    pub(crate) fn on_moved(&mut self, index: u32, identity: &Identity, now: Instant, out: &mut Out<A>) {
        let device = self.device_mut(index);
        device.state = State::Open;
        let (seat, requester) = (device.seat, device.requester.take());
        let known = device.identity.as_ref().and_then(|known| known.username.as_ref());
        let is_same = known == identity.username.as_ref();
        match requester {
            Some((from, request)) if is_same => {
                self.ask_anew(index);
                self.move_to(index, from.at, now, out);
                self.on_known(index, from, request, now, out);
            }
            Some((from, request)) => {
                let why = "this is another's registration";
                self.tell_stranger(from.at, self.device(index).id.as_str(), why, out);
                self.refuse(&from, &request, Code::UNAUTHORIZED, why, out);
            }
            None => {}
        }
        if self.device_of(seat) == Some(index) && self.device(index).state == State::Open {
            self.stays(index, now, out);
        }
    }

    /// A request that began a registration is refused, and nothing is left of it.
    pub(crate) fn end(&mut self, index: u32, code: Code, why: &str, now: Instant, out: &mut Out<A>) {
        if let Some((from, request)) = self.device_mut(index).requester.take() {
            self.refuse(&from, &request, code, why, out);
        }
        let device = self.device(index);
        if !device.state.has_session() {
            return self.let_go(index, now);
        }
        // It is not registered, so a restart must not find that it is.
        out.bus.push((device.seat, BusCommand::SetNote(Bytes::new())));
        self.close(index, CloseReason::Kicked, None, out);
    }
}

/// Whether a request is to `/rd`, and not to what somebody registered there.
pub(crate) fn is_registration(request: &Message) -> bool {
    request.options.all(number::URI_PATH).count() == 1
}

pub(crate) fn refusal_of(answer: &Answer) -> (Code, &'static str) {
    match answer {
        Answer::Refused(AuthRefusal::Unavailable | AuthRefusal::Busy) => {
            (Code::SERVICE_UNAVAILABLE, "nobody can say who you are now")
        }
        Answer::Refused(AuthRefusal::NotAuthorized) => (Code::FORBIDDEN, "you may not come in"),
        Answer::Refused(AuthRefusal::Banned) => (Code::FORBIDDEN, "you are banned"),
        _ => (Code::FORBIDDEN, "you are not known here"),
    }
}
