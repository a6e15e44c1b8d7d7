//! All clients of one socket: who is registered, and who lets them in. LwM2M Core 1.1 §6.2
//!
//! Requests come in by [`Core::request`], responses by [`Core::on_response`], and what is to be sent is written down as [`Effect`]s.
//!
//! Always true: a client is let in before anything is done for it; a session has one key from `Open` to `Close`, and none gets the same key again; a command is settled when its answer is
//! published, in the same turn of the bus, so that it gets one answer.

use crate::bootstrap::Bootstraps;
use crate::counters::Lwm2mMetric;
use crate::device::{Device, State};
use crate::registration::Registration;
use crate::settings::Lwm2mSettings;
use headgate_coap::blockwise::{Uploads, answer, echo_block1};
use headgate_coap::{Requester, Unguessable};
use headgate_coap_codec::{Block, Code, Message, Token};
use headgate_model::bus::{OpenRefusal, Protocol};
use headgate_model::datagram::{Address, Places};
use headgate_model::{
    AckToken, BusCommand, BusEvent, ClientId, CloseReason, DatagramOutputs, Instant, Naming, Seats,
    SessionKey, UserRates, WallTime,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The word for operators.
pub(crate) static PROTOCOL: Protocol = Protocol { name: "lwm2m" };

/// What sessions of clients are called.
pub const SESSIONS: &str = "$lwm2m/";
/// Timers handled in one turn; the others wait for the next one.
pub(crate) const TIMERS_PER_TURN: usize = 256;
/// So long before a session ends that is not open, its registration does.
pub(crate) const BEFORE_THE_END: Duration = Duration::from_secs(30);
/// What a client takes, with its places in the tables.
pub(crate) const EACH_DEVICE: usize = 1_024;
/// Reports of one client about which the access service is to be asked, while it is being asked about others.
pub(crate) const MOST_ASKED: usize = 256;
/// The token of commands to the bus whose answer nobody waits for.
pub(crate) const NOBODY: AckToken = AckToken(0);

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
    Device(u32),
    Bootstrap(u32),
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
    /// How places are kept over a restart, if they are.
    pub places: Option<Arc<dyn Places<A>>>,
    /// How often the topics have changed: clients that know others get their commands by these with their next update.
    pub topics: u32,
    pub devices: Vec<Option<Device<A>>>,
    pub free: Vec<u32>,
    pub by_endpoint: HashMap<String, u32>,
    pub by_location: HashMap<String, u32>,
    pub by_address: HashMap<A, u32>,
    /// Whose requests and observations tokens are.
    pub by_token: HashMap<Token, u32>,
    pub seats: Seats<Occupant>,
    pub timers: BTreeSet<(Instant, u32)>,
    pub effects: VecDeque<Effect<A>>,
    pub bootstraps: Bootstraps<A>,
    pub logging_in: usize,
    /// Those that registered before the start, and have yet to be let in again.
    pub restored: VecDeque<u32>,
    /// Bytes that all clients hold beside their places.
    pub weight: usize,
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
            places: None,
            topics: 0,
            devices: Vec::new(),
            free: Vec::new(),
            by_endpoint: HashMap::new(),
            by_location: HashMap::new(),
            by_address: HashMap::new(),
            by_token: HashMap::new(),
            seats: Seats::default(),
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

    /// The client at this address. After a restart that gave the socket other addresses, the one of ours that it speaks to is not known.
    pub(crate) fn find_at(&mut self, at: A) -> Option<u32> {
        if let Some(index) = self.by_address.get(&at) {
            return Some(*index);
        }
        let index = self.by_address.remove(&at.by_any_of_ours())?;
        self.by_address.insert(at, index);
        self.device_mut(index).at = at;
        Some(index)
    }

    /// The client that has this location.
    pub(crate) fn at_location(&self, location: &str) -> Option<u32> {
        self.by_location.get(location).copied()
    }

    /// A client has its place from now on.
    pub(crate) fn add(
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
        let seat = self.seats.take(Occupant::Device(index));
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
            place_due: None,
            place_is_old: false,
            retained: Vec::new(),
            topics: self.topics,
            armed: None,
            weighed: 0,
        });
        index
    }

    /// The bus says.
    pub(crate) fn on_bus(&mut self, key: SessionKey, event: BusEvent, now: Instant, out: &mut Out<A>) {
        let Some(Occupant::Device(index)) = self.seats.occupant(key) else {
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

    /// Nobody finds a client any more.
    pub(crate) fn forget(&mut self, index: u32) {
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

    pub(crate) fn remove(&mut self, index: u32) {
        self.forget(index);
        let device = self.devices[index as usize]
            .take()
            .expect("the index of a client");
        self.effects.push_back(Effect::Forget(device.at, device.seat));
        self.seats.leave(device.seat);
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

    /// The client that has a session.
    pub(crate) fn device_of(&self, key: SessionKey) -> Option<u32> {
        match self.seats.occupant(key)? {
            Occupant::Device(index) => Some(index),
            Occupant::Bootstrap(_) => None,
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
            ("seats", self.seats.len()),
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
}
