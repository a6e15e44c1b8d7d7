//! All clients of one socket: who is registered, and who lets them in. LwM2M Core 1.1 §6.2
//!
//! Requests come in by [`Core::request`], responses by [`Core::on_response`], and what is to be sent is written down as [`Effect`]s.
//!
//! Always true: a client is let in before anything is done for it; a session has one key from `Open` to `Close`, and none gets the same key again; a command is settled when its answer is
//! published, in the same turn of the bus, so that it gets one answer.

use crate::bootstrap::Bootstraps;
use crate::counters::Lwm2mMetric;
use crate::device::{Asking, Device, Job, State, Wanted};
use crate::note::{Note, Observed};
use crate::registration::Registration;
use crate::report;
use crate::settings::Lwm2mSettings;
use bytes::Bytes;
use headgate_coap::blockwise::{Uploads, answer, echo_block1};
use headgate_coap::{Requester, Unguessable};
use headgate_coap_codec::{Block, Code, Message, Token, number};
use headgate_lwm2m_codec::Format;
use headgate_model::access::{AuthRefusal, Credentials, Readmission};
use headgate_model::bus::{NOTE_BYTES, OpenRefusal, Presence, Protocol};
use headgate_model::datagram::{Address, Restored};
use headgate_model::{
    AccessPolicy, AckToken, Answer, Asked, BusCommand, BusEvent, ClientId, CloseReason, DatagramOutputs,
    Identity, Instant, Metric, Naming, Open, Qos, Question, RetainHandling, RulesOf, SessionKey,
    SubscriptionOptions, Topic, UserRates, Verdict, WallTime,
};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The word for operators.
pub(crate) static PROTOCOL: Protocol = Protocol { name: "lwm2m" };

/// What sessions of clients are called.
pub const SESSIONS: &str = "$lwm2m/";
/// Timers handled in one turn; the others wait for the next one.
const TIMERS_PER_TURN: usize = 256;
/// So long before a session ends that is not open, its registration does.
const BEFORE_THE_END: Duration = Duration::from_secs(30);
/// What a client takes, with its places in the tables.
const EACH_DEVICE: usize = 1_024;
/// Reports of one client about which the access service is to be asked, while it is being asked about others.
const MOST_ASKED: usize = 256;
/// The token of commands to the bus whose answer nobody waits for.
const NOBODY: AckToken = AckToken(0);

pub(crate) type Out<A> = DatagramOutputs<A>;

/// What a message that we sent was about: whose it is, and which of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub key: SessionKey,
    pub number: u32,
}

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Effect<A> {
    /// An answer.
    Respond(Requester<A>, Message),
    /// Somebody that was there before the start will be sent requests: it may be asked for a proof that it receives.
    Expect(A),
    /// A request of ours.
    Send(A, Message, Tag),
    /// That a response came.
    Acknowledge(Requester<A>),
    /// That a response was not asked for. RFC 7641 §3.6
    Reject(Requester<A>),
    /// What was sent of this, or is to be, is not wanted any more.
    Forget(A, SessionKey),
}

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    Nobody,
    Device(u32),
    Bootstrap(u32),
}

#[derive(Debug)]
struct Seat {
    generation: u32,
    occupant: Occupant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core<A> {
    pub settings: Lwm2mSettings,
    pub naming: Arc<Naming>,
    pub unguessable: Unguessable,
    pub uploads: Uploads<A>,
    /// The exponent of the largest block.
    pub szx: u8,
    /// The name of the listener.
    pub listener: String,
    /// The wall time of the start.
    pub epoch: WallTime,
    /// How often the topics have changed: clients that know others get their commands by these with their next update.
    pub topics: u32,
    devices: Vec<Option<Device<A>>>,
    free: Vec<u32>,
    by_endpoint: HashMap<String, u32>,
    by_location: HashMap<String, u32>,
    pub by_address: HashMap<A, u32>,
    /// Whose requests and observations tokens are.
    pub by_token: HashMap<Token, u32>,
    seats: Vec<Seat>,
    free_seats: Vec<u32>,
    timers: BTreeSet<(Instant, u32)>,
    pub effects: VecDeque<Effect<A>>,
    pub bootstraps: Bootstraps<A>,
    pub logging_in: usize,
    /// Those that registered before the start, and have yet to be let in again.
    restored: VecDeque<u32>,
    /// Bytes that all clients hold beside their places.
    weight: usize,
    pub observations: usize,
    pub overloaded: bool,
    pub user_rates: Option<Arc<dyn UserRates>>,
    /// Whether there is memory for what begins.
    pub has_memory: bool,
}

impl<A: Address> Core<A> {
    pub(crate) fn new(settings: Lwm2mSettings, naming: Arc<Naming>, unguessable: Unguessable) -> Self {
        Self {
            uploads: Uploads::new(settings.max_body_bytes, settings.max_transfer_bytes),
            szx: Block::szx_within(settings.max_block_bytes),
            settings,
            naming,
            unguessable,
            listener: String::new(),
            epoch: WallTime::default(),
            topics: 0,
            devices: Vec::new(),
            free: Vec::new(),
            by_endpoint: HashMap::new(),
            by_location: HashMap::new(),
            by_address: HashMap::new(),
            by_token: HashMap::new(),
            seats: Vec::new(),
            free_seats: Vec::new(),
            timers: BTreeSet::new(),
            effects: VecDeque::new(),
            bootstraps: Bootstraps::new(),
            logging_in: 0,
            restored: VecDeque::new(),
            weight: 0,
            observations: 0,
            overloaded: false,
            user_rates: None,
            has_memory: true,
        }
    }

    /// Other settings from now on; clients stay as they are.
    pub(crate) fn change(&mut self, settings: Lwm2mSettings, naming: Arc<Naming>) {
        self.uploads.max_body_bytes = settings.max_body_bytes;
        self.uploads.max_bytes = settings.max_transfer_bytes;
        self.szx = Block::szx_within(settings.max_block_bytes);
        if settings.topics != self.settings.topics {
            self.topics += 1;
        }
        (self.settings, self.naming) = (settings, naming);
    }

    pub(crate) fn devices(&self) -> usize {
        self.devices.len() - self.free.len()
    }

    /// Bytes that clients, bootstraps and transfers take.
    pub(crate) fn held(&self) -> usize {
        self.devices() * EACH_DEVICE + self.weight + self.uploads.held() + self.bootstraps.held()
    }

    pub(crate) fn device(&self, index: u32) -> &Device<A> {
        self.devices[index as usize]
            .as_ref()
            .expect("the index of a client")
    }

    pub(crate) fn device_mut(&mut self, index: u32) -> &mut Device<A> {
        self.devices[index as usize]
            .as_mut()
            .expect("the index of a client")
    }

    /// The client at this address. After a restart it is known by less of it: our own address is not in a note.
    pub(crate) fn find_at(&mut self, at: A) -> Option<u32> {
        if let Some(index) = self.by_address.get(&at) {
            return Some(*index);
        }
        // Over DTLS another's session may begin at the same address.
        if !A::FORGEABLE {
            return None;
        }
        let (peer, port) = at.presence();
        let known = A::of_presence(&peer.to_string(), port).filter(|known| *known != at)?;
        let index = self.by_address.remove(&known)?;
        self.by_address.insert(at, index);
        self.device_mut(index).at = at;
        Some(index)
    }

    /// The client that has this location.
    pub(crate) fn at_location(&self, location: &str) -> Option<u32> {
        self.by_location.get(location).copied()
    }

    /// Somebody registers: the access service is asked who it is, and the request waits. LwM2M Core 1.1 §6.2.1
    pub(crate) fn register(&mut self, from: Requester<A>, request: Message, now: Instant, out: &mut Out<A>) {
        let registration = match Registration::parse(&request, &self.settings) {
            Ok(registration) => registration,
            Err((code, why)) => return self.refuse(&from, &request, code, &why, out),
        };
        let known = self.by_endpoint.contains_key(&registration.endpoint);
        let full = !known && self.devices() >= self.settings.max_clients;
        if full || self.logging_in >= self.settings.max_logins || self.overloaded || !self.has_memory {
            out.counts.add(Metric::ConnectRefused);
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
            let firmware = old.firmware_mark.clone();
            let device = self.device_mut(index);
            device.jobs.extend(wanted.into_iter().map(Job::Observe));
            device.firmware_mark = firmware;
        }
        let at = from.at;
        self.device_mut(index).requester = Some((from, request));
        self.ask_who(index, at, out);
    }

    /// A client has its place from now on.
    fn add(
        &mut self,
        at: A,
        registration: Registration,
        location: String,
        state: State,
        now: Instant,
    ) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.devices.push(None);
            u32::try_from(self.devices.len() - 1).expect("fewer than four billion clients")
        });
        let seat = self.take_seat(Occupant::Device(index));
        self.devices[index as usize] = Some(Device {
            at,
            id: ClientId::from(registration.endpoint.as_str()),
            seat,
            state,
            identity: None,
            owner: None,
            who: None,
            registration,
            location,
            renewed: now,
            ends_by: None,
            awake_until: None,
            requester: None,
            jobs: VecDeque::new(),
            is_silent: false,
            commands: VecDeque::new(),
            noted: VecDeque::new(),
            exchange: None,
            observations: Vec::new(),
            firmware: None,
            firmware_mark: None,
            leaving: CloseReason::Normal,
            is_drained: false,
            asked: false,
            asking: None,
            to_ask: Vec::new(),
            early: Vec::new(),
            awaiting: HashMap::new(),
            last_token: 0,
            pace: Default::default(),
            retained: Vec::new(),
            topics: self.topics,
            armed: None,
            weighed: 0,
        });
        index
    }

    /// The lifetime is over of somebody who registered before the start and was not let in since: it is let in as the one that it was, for what waits for
    /// it is to be answered.
    fn ask_about(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
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
        let index = match self.occupant(key) {
            Some(Occupant::Device(index)) => index,
            Some(Occupant::Bootstrap(index)) => return self.on_bootstrap_answer(index, &answer, now, out),
            Some(Occupant::Nobody) | None => return,
        };
        if std::mem::take(&mut self.device_mut(index).asked) {
            self.logging_in -= 1;
            self.on_who(index, answer, now, out);
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

    fn on_who(&mut self, index: u32, answer: Answer, now: Instant, out: &mut Out<A>) {
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
    fn stays(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        self.device_mut(index).state = State::Open;
        self.go_on(index, now, out);
        self.rearm(index, now);
    }

    /// Somebody is not let in. Who registered before the start is waited for: over DTLS, nobody can say who it is until it is back.
    fn let_go(&mut self, index: u32, now: Instant) {
        let is_known = self.at_location(&self.device(index).location) == Some(index);
        if !is_known || self.ends(index) <= now {
            return self.remove(index);
        }
        self.device_mut(index).state = State::Restored;
        self.rearm(index, now);
    }

    fn open(&mut self, index: u32, identity: Identity, now: Instant, out: &mut Out<A>) {
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
            return self.end(
                index,
                Code::FORBIDDEN,
                "nobody may have this endpoint name",
                now,
                out,
            );
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

    /// The bus says.
    pub(crate) fn on_bus(&mut self, key: SessionKey, event: BusEvent, now: Instant, out: &mut Out<A>) {
        let Some(Occupant::Device(index)) = self.occupant(key) else {
            return;
        };
        match event {
            BusEvent::Opened { .. } => self.on_opened(index, now, out),
            BusEvent::OpenRefused(why) => {
                let code = match why {
                    OpenRefusal::NotOwner => Code::FORBIDDEN,
                    OpenRefusal::NoRoom | OpenRefusal::TooManyOfUser => Code::SERVICE_UNAVAILABLE,
                };
                self.tell_refused_open(index, why, out);
                self.device_mut(index).state = State::LoggingIn;
                self.end(
                    index,
                    code,
                    "the session of this endpoint cannot be opened",
                    now,
                    out,
                );
            }
            BusEvent::Subscribed { results, .. } => match results.first() {
                Some(Ok(_)) => self.on_subscribed(index, now, out),
                Some(Err(_)) => self.end(
                    index,
                    Code::SERVICE_UNAVAILABLE,
                    "no commands can be had",
                    now,
                    out,
                ),
                None => {}
            },
            BusEvent::Delivery(delivery) => self.on_command(index, delivery, now, out),
            BusEvent::Received(id) => {
                let done = headgate_model::Settlement::Done;
                out.bus.push((key, BusCommand::Settle(id, done)));
            }
            BusEvent::WillChanged(_) => self.on_noted(index, out),
            BusEvent::Drained => self.on_drained(index, out),
            BusEvent::Accepted(token, _) => self.on_accepted(index, token, Code::CHANGED, out),
            BusEvent::Refused(token, why) => {
                let code = headgate_coap::refusal_code(why);
                out.counts.add_own(Lwm2mMetric::ReportsRefused);
                self.on_accepted(index, token, code, out);
            }
            BusEvent::RulesChanged(who) => self.on_rules(index, who),
            BusEvent::TakenOver => {
                self.give_up_unrepeatable(index, out);
                self.close(index, CloseReason::TakenOver, None, out);
            }
            BusEvent::Kicked => {
                self.close(index, CloseReason::Kicked, Some(Duration::ZERO), out);
            }
            _ => {}
        }
    }

    fn on_rules(&mut self, index: u32, who: Arc<Presence>) {
        let device = self.device_mut(index);
        if let (Some(identity), Some(policy)) = (&mut device.identity, who.rules.policy()) {
            identity.policy = Arc::clone(policy);
        }
        device.who = Some(who);
    }

    /// Its session is there: it is noted down, and gets commands.
    fn on_opened(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let requester = self.device(index).requester.as_ref();
        if requester.is_some_and(|(_, request)| is_registration(request)) {
            self.observe_at_once(index);
        }
        let device = self.device(index);
        let before = device.at;
        match device.requester.as_ref().map(|(from, _)| from.at) {
            Some(at) if at != before => self.move_to(index, at, out),
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

    fn hear_commands(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
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
    fn commands_of(&self, device: &Device<A>) -> (Bytes, SubscriptionOptions) {
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
    fn on_subscribed(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
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

    fn on_registered(
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
    fn observe_at_once(&mut self, index: u32) {
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
    fn deny(
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

    fn publish_admitted(
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

    fn on_authorized(&mut self, index: u32, answer: &Answer, now: Instant, out: &mut Out<A>) {
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
    fn on_accepted(&mut self, index: u32, token: AckToken, code: Code, out: &mut Out<A>) {
        if let Some((from, request)) = self.device_mut(index).awaiting.remove(&token.0) {
            let response = Message::of_stream(code, request.token);
            self.respond(&from, &request, response, out);
        }
    }

    /// A client said something: if it sleeps at times, it listens now.
    pub(crate) fn hear(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let window = self.settings.window_of(&self.device(index).registration.endpoint);
        let device = self.device_mut(index);
        let was_silent = std::mem::take(&mut device.is_silent);
        if device.registration.queue_mode {
            device.awake_until = Some(now + window);
        } else if !was_silent {
            return;
        }
        self.go_on(index, now, out);
        self.rearm(index, now);
    }

    /// A client comes from somewhere else, with what it must know for that.
    pub(crate) fn move_to(&mut self, index: u32, at: A, out: &mut Out<A>) {
        let device = self.device_mut(index);
        let before = std::mem::replace(&mut device.at, at);
        let seat = device.seat;
        if self.by_address.get(&before) == Some(&index) {
            self.by_address.remove(&before);
        }
        self.by_address.insert(at, index);
        self.effects.push_back(Effect::Forget(before, seat));
        self.effects.push_back(Effect::Expect(at));
        out.counts.add_own(Lwm2mMetric::Moved);
        self.keep_note(index, out);
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

    fn on_moved(&mut self, index: u32, identity: &Identity, now: Instant, out: &mut Out<A>) {
        let device = self.device_mut(index);
        device.state = State::Open;
        let (seat, requester) = (device.seat, device.requester.take());
        let known = device.identity.as_ref().and_then(|known| known.username.as_ref());
        let is_same = known == identity.username.as_ref();
        match requester {
            Some((from, request)) if is_same => {
                self.ask_anew(index);
                self.move_to(index, from.at, out);
                self.on_known(index, from, request, now, out);
            }
            Some((from, request)) => {
                let why = "this is another's registration";
                self.refuse(&from, &request, Code::UNAUTHORIZED, why, out);
            }
            None => {}
        }
        if self.device_of(seat) == Some(index) && self.device(index).state == State::Open {
            self.stays(index, now, out);
        }
    }

    /// What the store keeps of it is as it is now.
    pub(crate) fn keep_note(&mut self, index: u32, out: &mut Out<A>) {
        let device = self.device(index);
        if !device.state.has_session() {
            return;
        }
        let (peer, port) = device.at.presence();
        let known = device.observations.iter();
        let known = known.map(|known| (known.token.to_string(), &known.wanted));
        let to_observe = device.to_observe().map(|wanted| (String::new(), wanted));
        let observed = known.chain(to_observe).map(|(token, wanted)| Observed {
            token,
            paths: wanted.paths.clone(),
            composite: wanted.kind == crate::command::Kind::Composite,
            format: wanted.format.map(Format::number),
            said: wanted.said.clone(),
        });
        let note = Note {
            listener: self.listener.clone(),
            peer: peer.to_string(),
            port,
            location: device.location.clone(),
            registration: (&device.registration).into(),
            observed: observed.collect(),
            firmware: device.firmware_mark.clone(),
        };
        let mut note = note.to_bytes();
        if note.len() > NOTE_BYTES {
            // Observations are the only part that grows; who loses them observes again.
            note = Note {
                observed: Vec::new(),
                ..Note::parse(&note).expect("just written")
            }
            .to_bytes();
            out.counts.add_own(Lwm2mMetric::NotesCut);
        }
        out.bus.push((device.seat, BusCommand::SetNote(note)));
    }

    /// Clients that registered before the start.
    pub(crate) fn restore(&mut self, found: Vec<Restored>, now: Instant) {
        for restored in found {
            let Some(note) = Note::parse(&restored.note) else {
                continue;
            };
            let is_ours = note.listener == self.listener
                && !self.by_endpoint.contains_key(&note.registration().endpoint);
            let Some(at) = A::of_presence(&note.peer, note.port).filter(|_| is_ours) else {
                continue;
            };
            let registration = note.registration();
            let endpoint = registration.endpoint.clone();
            let index = self.add(at, registration, note.location.clone(), State::Restored, now);
            self.by_endpoint.insert(endpoint, index);
            self.by_location.insert(note.location, index);
            self.by_address.entry(at).or_insert(index);
            for observed in note.observed {
                let Some(token) = token_of(&observed.token) else {
                    continue;
                };
                let wanted = Wanted {
                    paths: observed.paths,
                    kind: match observed.composite {
                        true => crate::command::Kind::Composite,
                        false => crate::command::Kind::Single,
                    },
                    format: observed
                        .format
                        .and_then(|number| Format::of_number(number.into())),
                    said: observed.said,
                };
                if token.as_bytes().is_empty() {
                    self.device_mut(index).jobs.push_back(Job::Observe(wanted));
                } else {
                    self.add_observation(index, token, wanted);
                }
            }
            let device = self.device_mut(index);
            (device.firmware_mark, device.owner) = (note.firmware, restored.username.clone());
            // Several starts may have come since it was heard of.
            let ends_in = restored.ends_in.map(|left| left.saturating_sub(BEFORE_THE_END));
            device.ends_by = ends_in.map(|left| now + left);
            // Who had a name must show it again, which it does when it is back.
            if restored.username.is_none() && A::FORGEABLE {
                self.restored.push_back(index);
            }
            self.rearm(index, now);
        }
    }

    /// Lets clients in that registered before the start, a few at a time: half of the room is for those who register.
    pub(crate) fn go_on_restoring(&mut self, out: &mut Out<A>) {
        while self.logging_in < self.settings.max_logins.div_ceil(2) {
            let Some(index) = self.restored.pop_front() else {
                return;
            };
            let device = self.devices[index as usize].as_mut();
            if let Some(device) = device.filter(|device| device.state == State::Restored) {
                device.state = State::LoggingIn;
                let at = device.at;
                self.effects.push_back(Effect::Expect(at));
                self.ask_who(index, at, out);
            }
        }
    }

    pub(crate) fn add_observation(&mut self, index: u32, token: Token, wanted: Wanted) {
        self.by_token.insert(token, index);
        self.observations += 1;
        let last = None;
        let observation = crate::device::Observation { token, wanted, last };
        self.device_mut(index).observations.push(observation);
    }

    /// Does what is due.
    pub(crate) fn on_timeout(&mut self, now: Instant, out: &mut Out<A>) {
        self.go_on_restoring(out);
        for _ in 0..TIMERS_PER_TURN {
            if self.timers.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let (_, index) = self.timers.pop_first().expect("just looked at");
            self.device_mut(index).armed = None;
            self.on_due(index, now, out);
        }
        self.on_bootstrap_timeout(now, out);
    }

    fn on_due(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let seat = self.device(index).seat;
        let state = self.device(index).state;
        if self.ends(index) <= now && state == State::Restored {
            return self.ask_about(index, now, out);
        }
        if self.ends(index) <= now && state == State::Open {
            out.counts.add_own(Lwm2mMetric::RegistrationsExpired);
            self.leave(index, "lifetime", CloseReason::KeepAlive, now, out);
        }
        self.expire_commands(index, now, out);
        self.expire_exchange(index, now, out);
        self.firmware_due(index, now, out);
        if self.occupant(seat) == Some(Occupant::Device(index)) {
            self.go_on(index, now, out);
            self.rearm(index, now);
        }
    }

    /// When its registration is over. LwM2M Core 1.1 §6.2.1
    fn ends(&self, index: u32) -> Instant {
        let device = self.device(index);
        let lifetime = Duration::from_secs(device.registration.lifetime);
        let ends = device.renewed + lifetime + self.settings.lifetime_grace;
        device.ends_by.map_or(ends, |by| by.min(ends))
    }

    /// Its timer is set to what is due first, and what it holds is weighed.
    pub(crate) fn rearm(&mut self, index: u32, now: Instant) {
        let ends = self.ends(index);
        let device = self.device_mut(index);
        let weighed = device.held();
        let before = std::mem::replace(&mut device.weighed, weighed);
        let end = device.state.can_end().then_some(ends);
        let commands = device.commands.iter().map(|pending| pending.expires);
        let running = device.exchange.iter().map(|running| running.until);
        let is_free = device.state == State::Open && device.exchange.is_none();
        let can_go_on = is_free && device.listens(now);
        let firmware = device.firmware.iter().map(|firmware| firmware.due(can_go_on));
        let due = commands.chain(running).chain(firmware).chain(end).min();
        let due = due.map(|due| due.max(now));
        let known = std::mem::replace(&mut device.armed, due);
        self.weight = self.weight + weighed - before;
        if known != due {
            if let Some(at) = known {
                self.timers.remove(&(at, index));
            }
            if let Some(at) = due {
                self.timers.insert((at, index));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = self.timers.first().map(|(at, _)| *at);
        own.into_iter().chain(self.bootstraps.deadline()).min()
    }

    /// A registration is over: commands that wait are answered so, and then its session ends.
    pub(crate) fn leave(
        &mut self,
        index: u32,
        why: &str,
        reason: CloseReason,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let data = json!({"ep": self.device(index).registration.endpoint, "reason": why});
        self.tell(index, "deregister", data, out);
        let device = self.device_mut(index);
        device.state = State::Leaving;
        device.leaving = reason;
        let seat = device.seat;
        self.forget(index);
        self.fail_all(index, "the client is not registered any more", now, out);
        // What is published from now on is for nobody: it would go with the session, unanswered.
        let device = self.device(index);
        let (filter, options) = self.commands_of(device);
        if let Ok(subscription) = self.naming.gate(&device.id, None).unsubscribe(&filter, options) {
            let (token, subscriptions) = (NOBODY, vec![subscription]);
            out.bus
                .push((seat, BusCommand::Unsubscribe { token, subscriptions }));
        }
        out.bus.push((seat, BusCommand::TellWhenDrained));
        self.rearm(index, now);
    }

    fn on_drained(&mut self, index: u32, out: &mut Out<A>) {
        self.device_mut(index).is_drained = true;
        self.end_if_done(index, out);
    }

    /// The session of a client that leaves ends when nothing waits for it, and all that is told of it was.
    fn end_if_done(&mut self, index: u32, out: &mut Out<A>) {
        let device = self.device(index);
        let asks = device.asking.is_some() || !device.to_ask.is_empty();
        if device.state == State::Leaving && device.is_drained && !asks {
            self.close(index, device.leaving, Some(Duration::ZERO), out);
        }
    }

    /// A request that began a registration is refused, and nothing is left of it.
    fn end(&mut self, index: u32, code: Code, why: &str, now: Instant, out: &mut Out<A>) {
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

    /// Its session is let go.
    pub(crate) fn close(
        &mut self,
        index: u32,
        reason: CloseReason,
        expiry: Option<Duration>,
        out: &mut Out<A>,
    ) {
        let device = self.device_mut(index);
        let waiting = device.awaiting.drain().map(|(_, waiting)| waiting);
        let waiting: Vec<_> = waiting.chain(device.requester.take()).collect();
        let seat = device.seat;
        for (from, request) in waiting {
            self.refuse(
                &from,
                &request,
                Code::SERVICE_UNAVAILABLE,
                "the client is gone",
                out,
            );
        }
        out.bus.push((seat, BusCommand::Close { reason, expiry }));
        self.remove(index);
    }

    /// Nobody finds a client any more.
    fn forget(&mut self, index: u32) {
        let device = self.devices[index as usize]
            .as_mut()
            .expect("the index of a client");
        if self.by_endpoint.get(&device.registration.endpoint) == Some(&index) {
            self.by_endpoint.remove(&device.registration.endpoint);
        }
        if self.by_location.get(&device.location) == Some(&index) {
            self.by_location.remove(&device.location);
        }
        if self.by_address.get(&device.at) == Some(&index) {
            self.by_address.remove(&device.at);
        }
        for observation in device.observations.drain(..) {
            self.by_token.remove(&observation.token);
            self.observations -= 1;
        }
        if let Some(running) = &device.exchange {
            self.by_token.remove(&running.exchange.token());
            self.by_token.remove(&running.first_token);
        }
    }

    fn remove(&mut self, index: u32) {
        self.forget(index);
        let device = self.devices[index as usize]
            .take()
            .expect("the index of a client");
        self.effects.push_back(Effect::Forget(device.at, device.seat));
        self.leave_seat(device.seat);
        self.logging_in -= usize::from(device.asked);
        self.weight -= device.weighed;
        if let Some(at) = device.armed {
            self.timers.remove(&(at, index));
        }
        self.free.push(index);
    }

    /// The gateway stops: sessions stay as the store has them.
    pub(crate) fn shutdown(&mut self, out: &mut Out<A>) {
        for device in self.devices.iter().flatten() {
            if device.state.has_session() {
                let (reason, expiry) = (CloseReason::Shutdown, None);
                out.bus.push((device.seat, BusCommand::Close { reason, expiry }));
            }
        }
    }

    /// Answers a request.
    pub(crate) fn respond(
        &mut self,
        to: &Requester<A>,
        request: &Message,
        mut response: Message,
        out: &mut Out<A>,
    ) {
        response.token = to.token;
        echo_block1(request, &mut response);
        out.counts.add_own(match response.code.class() {
            4 => Lwm2mMetric::ClientErrorsSent,
            5 => Lwm2mMetric::ServerErrorsSent,
            _ => Lwm2mMetric::ResponsesSent,
        });
        self.effects.push_back(Effect::Respond(*to, response));
    }

    /// Answers a request that is not done, and says why in words.
    pub(crate) fn refuse(
        &mut self,
        to: &Requester<A>,
        request: &Message,
        code: Code,
        why: &str,
        out: &mut Out<A>,
    ) {
        let refusal = answer(code, request, why);
        self.respond(to, request, refusal, out);
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall(&self, now: Instant) -> u64 {
        WallTime::of(now, self.epoch).0
    }

    /// A token that nobody can guess.
    pub(crate) fn new_token(&mut self) -> Token {
        Token::new(&self.unguessable.number().to_be_bytes()).expect("eight bytes")
    }

    pub(crate) fn take_seat(&mut self, occupant: Occupant) -> SessionKey {
        let index = self.free_seats.pop().unwrap_or_else(|| {
            self.seats.push(Seat {
                generation: 0,
                occupant: Occupant::Nobody,
            });
            u32::try_from(self.seats.len() - 1).expect("fewer than four billion sessions")
        });
        let seat = &mut self.seats[index as usize];
        seat.occupant = occupant;
        let generation = seat.generation;
        SessionKey { index, generation }
    }

    pub(crate) fn leave_seat(&mut self, key: SessionKey) {
        let seat = &mut self.seats[key.index as usize];
        seat.generation = seat.generation.wrapping_add(1);
        seat.occupant = Occupant::Nobody;
        self.free_seats.push(key.index);
    }

    pub(crate) fn occupant(&self, key: SessionKey) -> Option<Occupant> {
        let seat = self.seats.get(key.index as usize)?;
        (seat.generation == key.generation).then_some(seat.occupant)
    }

    /// The client that has a session.
    pub(crate) fn device_of(&self, key: SessionKey) -> Option<u32> {
        match self.occupant(key)? {
            Occupant::Device(index) => Some(index),
            Occupant::Bootstrap(_) | Occupant::Nobody => None,
        }
    }

    /// Entries of all tables.
    pub(crate) fn tables(&self) -> [(&'static str, usize); 7] {
        [
            ("endpoints", self.by_endpoint.len()),
            ("locations", self.by_location.len()),
            ("addresses", self.by_address.len()),
            ("tokens", self.by_token.len()),
            ("timers", self.timers.len()),
            ("weight", self.weight),
            ("seats", self.seats.len() - self.free_seats.len()),
        ]
    }

    /// Panics unless all tables agree.
    pub(crate) fn check(&self) {
        let devices = self.devices.iter().enumerate();
        let devices: Vec<_> = devices
            .filter_map(|(n, device)| Some((n as u32, device.as_ref()?)))
            .collect();
        assert_eq!(devices.len(), self.devices());
        assert_eq!(
            self.logging_in,
            devices.iter().filter(|(_, device)| device.asked).count()
        );
        let observations = devices.iter().map(|(_, device)| device.observations.len());
        assert_eq!(self.observations, observations.sum::<usize>());
        assert_eq!(
            self.weight,
            devices.iter().map(|(_, device)| device.weighed).sum::<usize>()
        );
        let armed = devices
            .iter()
            .filter_map(|(index, device)| Some((device.armed?, *index)));
        assert_eq!(self.timers, armed.collect());
        for (endpoint, index) in &self.by_endpoint {
            assert_eq!(*endpoint, self.device(*index).registration.endpoint);
        }
        for (location, index) in &self.by_location {
            assert_eq!(*location, self.device(*index).location);
        }
        for (at, index) in &self.by_address {
            assert_eq!(*at, self.device(*index).at);
        }
        for (token, index) in &self.by_token {
            let device = self.device(*index);
            let is_observed = device.observations.iter().any(|known| known.token == *token);
            let is_asked = device
                .exchange
                .as_ref()
                .is_some_and(|running| running.exchange.token() == *token || running.first_token == *token);
            assert!(is_observed || is_asked, "{token} is nobody's");
        }
        for (index, device) in devices {
            assert_eq!(self.device_of(device.seat), Some(index));
            for observation in &device.observations {
                assert_eq!(self.by_token.get(&observation.token), Some(&index));
            }
            if device.state == State::Open {
                assert_eq!(self.by_endpoint.get(&device.registration.endpoint), Some(&index));
                assert_eq!(self.by_location.get(&device.location), Some(&index));
                assert!(device.armed.is_some(), "an end is due");
            }
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

/// Whether a request is to `/rd`, and not to what somebody registered there.
fn is_registration(request: &Message) -> bool {
    request.options.all(number::URI_PATH).count() == 1
}

fn refusal_of(answer: &Answer) -> (Code, &'static str) {
    match answer {
        Answer::Refused(AuthRefusal::Unavailable | AuthRefusal::Busy) => {
            (Code::SERVICE_UNAVAILABLE, "nobody can say who you are now")
        }
        Answer::Refused(AuthRefusal::NotAuthorized) => (Code::FORBIDDEN, "you may not come in"),
        Answer::Refused(AuthRefusal::Banned) => (Code::FORBIDDEN, "you are banned"),
        _ => (Code::FORBIDDEN, "you are not known here"),
    }
}

fn token_of(hexadecimal: &str) -> Option<Token> {
    let digits = hexadecimal.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 16 {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Token::new(&bytes?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::core::net::SocketAddr;

    /// RFC 7252 §5.3.1 \[RFC7252-5.3.1-2\] \[RFC7252-5.3.1-3\] \[RFC7252-5.3.1-4\] \[RFC9175-4.2-1\]
    #[test]
    fn tokens_are_long_and_none_is_there_twice() {
        let new = || Core::<SocketAddr>::new(Lwm2mSettings::default(), Arc::default(), Unguessable::new());
        let (mut one, mut other) = (new(), new());
        let tokens = (0..1_000).flat_map(|_| [one.new_token(), other.new_token()]);
        let tokens: BTreeSet<Token> = tokens.collect();
        assert_eq!(tokens.len(), 2_000);
        assert!(tokens.iter().all(|token| token.as_bytes().len() == Token::MOST));
    }
}
