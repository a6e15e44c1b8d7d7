//! Publish and subscribe over CoAP, whatever carries its messages: clients, what they observe, and who lets them in.
//!
//! Requests come in by [`Core::request`], and what is to be sent is written down as [`Effect`]s.
//!
//! Always true: a client is let in before anything is done for it; a session has one key from `Open` to `Close`, and none gets the same key again.

use crate::blockwise::{Downloads, Uploads, answer, echo_block1};
use crate::client::{Awaiting, Client, Name, State};
use crate::counters::CoapMetric;
use crate::returning::Returns;
use crate::settings::CoapSettings;
use crate::unguessable::Unguessable;
use crate::uri::Query;
use crate::{Outcome, Requester};
use bytes::Bytes;
use headgate_coap_codec::{Block, Code, Message, encoded_len, number};
use headgate_model::access::{AuthRefusal, Credentials, Wanted};
use headgate_model::bus::{OpenRefusal, PeerName, Presence, Protocol};
use headgate_model::datagram::{Address, Places};
use headgate_model::{
    Answer, Asked, BusCommand, BusEvent, ClientId, CloseReason, DatagramOutputs, Gate, Identity, Instant,
    Metric, Naming, Open, Question, Seats, SessionKey, UserRates,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The word for operators.
pub(crate) static PROTOCOL: Protocol = Protocol { name: "coap" };

/// Timers handled in one turn; the others wait for the next one.
const TIMERS_PER_TURN: usize = 256;

/// What a client takes, with its places in the tables.
const EACH_CLIENT: usize = 768;
/// What an observation takes, with its place in the table.
const EACH_OBSERVATION: usize = 640;

pub(crate) type Out<A> = DatagramOutputs<A>;

/// What a message that we sent was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// A notification of an observation, with the delivery that it settles.
    Notification(SessionKey, Option<headgate_model::DeliveryId>, u32),
    /// The first block of a long one.
    FirstBlock(SessionKey),
    /// One that is settled, and wants to be acknowledged all the same.
    Settled(SessionKey),
    /// Whether a client is there.
    Alive(SessionKey),
}

/// The largest block that may be sent to somebody who has proved nothing: any, if the whole response may. RFC 7252 §11.3: the rest is fetched in small increments.
pub fn szx_allowed<A>(to: &Requester<A>, response: &Message) -> u8 {
    /// Of what a block has beside its bytes: ETag, Block2, Size2, a marker.
    const MORE: usize = 9 + 4 + 6 + 1;
    let whole = encoded_len(response);
    if to.allowed.is_some_and(|bytes| whole <= bytes) {
        return Block::MAX_SZX;
    }
    let head = whole - response.payload.len();
    to.allowed.map_or(Block::MAX_SZX, |bytes| {
        Block::szx_within(bytes.saturating_sub(head + MORE))
    })
}

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Effect<A> {
    /// An answer.
    Respond(Requester<A>, Message),
    /// A notification, or a message of our own.
    Notify(A, Message, Tag),
    /// Asks whether somebody is there.
    Ping(A, Tag),
    /// What is not sent yet of an observation is not wanted any more.
    Forget(A, SessionKey),
}

/// Whose session a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occupant {
    /// A client's own.
    Client(u32),
    /// Of one of its observations.
    Observation(u32),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core<A> {
    pub settings: CoapSettings,
    pub naming: Arc<Naming>,
    pub unguessable: Unguessable,
    pub uploads: Uploads<A>,
    pub downloads: Downloads<A>,
    /// The exponent of the largest block; `None` where messages may be long.
    pub szx: Option<u8>,
    /// Bytes of a body that need not be cut, whatever the size of blocks.
    pub max_whole: usize,
    /// Where all clients are, if their address does not say so.
    pub place: Option<(PeerName, u16)>,
    clients: Vec<Option<Client<A>>>,
    free: Vec<u32>,
    by_name: HashMap<Name<A>, u32>,
    by_token: HashMap<String, u32>,
    seats: Seats<Occupant>,
    /// When each client would have been silent too long, or earlier: what it says moves that back, and costs nothing here.
    timers: BTreeSet<(Instant, u32)>,
    /// When a block of each notification must have been fetched, or earlier: what is fetched moves that back, and costs nothing here.
    pub transfers: BTreeSet<(Instant, SessionKey)>,
    pub effects: VecDeque<Effect<A>>,
    pub logging_in: usize,
    pub observations: usize,
    pub overloaded: bool,
    /// How fast all clients of a user may send.
    pub user_rates: Option<Arc<dyn UserRates>>,
    /// How places are kept over a restart.
    pub places: Option<Arc<dyn Places<A>>>,
    /// Clients that were there before a restart.
    pub returns: Returns<A>,
    /// Whether there is memory for what begins.
    pub has_memory: bool,
}

impl<A: Address> Core<A> {
    pub(crate) fn new(
        settings: CoapSettings,
        naming: Arc<Naming>,
        unguessable: Unguessable,
        szx: Option<u8>,
    ) -> Self {
        Self {
            uploads: Uploads::new(settings.max_body_bytes, settings.max_transfer_bytes),
            downloads: Downloads::new(settings.max_transfer_bytes),
            settings,
            naming,
            unguessable,
            szx,
            max_whole: 0,
            place: None,
            clients: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::new(),
            by_token: HashMap::new(),
            seats: Seats::default(),
            timers: BTreeSet::new(),
            transfers: BTreeSet::new(),
            effects: VecDeque::new(),
            logging_in: 0,
            observations: 0,
            overloaded: false,
            user_rates: None,
            places: None,
            returns: Returns::default(),
            has_memory: true,
        }
    }

    /// Other settings from now on; clients stay as they are.
    pub(crate) fn change(&mut self, settings: CoapSettings, naming: Arc<Naming>) {
        self.uploads.max_body_bytes = settings.max_body_bytes;
        self.uploads.max_bytes = settings.max_transfer_bytes;
        self.downloads.max_bytes = settings.max_transfer_bytes;
        (self.settings, self.naming) = (settings, naming);
    }

    pub(crate) fn clients(&self) -> usize {
        self.by_name.len()
    }

    /// Bytes that clients, observations and transfers take.
    pub(crate) fn held(&self) -> usize {
        let observations = self.observations + self.returns.observations();
        let clients = self.clients() * EACH_CLIENT + observations * EACH_OBSERVATION;
        clients + self.uploads.held() + self.downloads.held()
    }

    /// The client that says so, if it is known.
    pub(crate) fn find(&self, name: &Name<A>) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The client whose connection has this token.
    pub(crate) fn find_token(&self, token: &str, client_id: &str) -> Option<u32> {
        let index = *self.by_token.get(token)?;
        (self.client(index).id.as_str() == client_id).then_some(index)
    }

    pub(crate) fn client(&self, index: u32) -> &Client<A> {
        self.clients[index as usize]
            .as_ref()
            .expect("the index of a client")
    }

    pub(crate) fn client_mut(&mut self, index: u32) -> &mut Client<A> {
        self.clients[index as usize]
            .as_mut()
            .expect("the index of a client")
    }

    /// What it is found by: with a number that nobody can make who does not know the password.
    pub(crate) fn name(&self, at: A, query: &Query) -> Name<A> {
        let id = ClientId::from(query.client_id.as_deref().unwrap_or_default());
        let number = self.number_of(&query.username, &query.password);
        (at, id, number)
    }

    pub(crate) fn number_of(&self, username: &Option<String>, password: &Option<Bytes>) -> u64 {
        self.unguessable.of((username, password))
    }

    /// The user name of a client that says this one, or none.
    pub(crate) fn username_of(&self, said: Option<&str>) -> Option<Arc<str>> {
        let default = self.settings.default_username.as_str();
        let said = said.or_else(|| (!default.is_empty()).then_some(default));
        said.map(Arc::from)
    }

    /// Somebody wants to be a client: the access service is asked who it is, and the request waits.
    pub(crate) fn log_in(
        &mut self,
        name: Name<A>,
        query: &Query,
        request: (Requester<A>, Message),
        now: Instant,
        out: &mut Out<A>,
    ) -> Option<u32> {
        let (requester, message) = request;
        let settings = &self.settings;
        let too_long = name.1.as_str().len() > settings.max_client_id_bytes;
        if too_long {
            let why = (Code::BAD_REQUEST, "the client id is too long");
            self.refuse_stranger(&requester, &message, "", why, out);
            return None;
        }
        let full = self.clients() >= settings.max_clients || self.logging_in >= settings.max_logins;
        if full || self.overloaded || !self.has_memory {
            out.counts.add(Metric::ConnectRefused);
            self.refuse(
                &requester,
                &message,
                Code::SERVICE_UNAVAILABLE,
                "too many clients",
                out,
            );
            return None;
        }
        let id = match name.1.as_str() {
            "" => ClientId::from(format!("coap-{:016x}", self.unguessable.number()).as_str()),
            id => ClientId::from(id),
        };
        let has_default = query.username.is_none() && !self.settings.default_username.is_empty();
        let default = || Bytes::copy_from_slice(self.settings.default_password.reveal().as_bytes());
        let credentials = Credentials {
            client_id: id.clone(),
            username: self.username_of(query.username.as_deref()),
            password: match has_default {
                true => Some(default()),
                false => query.password.clone(),
            },
            method: None,
            data: None,
            link: false,
        };
        let at = name.0;
        let index = self.add_client(name, id, query.username.clone(), State::LoggingIn, now);
        self.client_mut(index).waiting.push_back((requester, message));
        let seat = self.client(index).seat;
        let question = Question::Authenticate(Box::new(credentials));
        out.questions.push(Asked {
            key: seat,
            at: Some(at),
            question,
        });
        Some(index)
    }

    /// One client more, which is to be let in.
    pub(crate) fn add_client(
        &mut self,
        name: Name<A>,
        id: ClientId,
        username: Option<String>,
        state: State,
        now: Instant,
    ) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            u32::try_from(self.clients.len() - 1).expect("fewer than four billion clients")
        });
        let seat = self.seats.take(Occupant::Client(index));
        self.by_name.insert(name.clone(), index);
        self.clients[index as usize] = Some(Client {
            at: name.0,
            name,
            id,
            seat,
            state,
            identity: None,
            who: None,
            token: None,
            username,
            spoke: state == State::LoggingIn,
            returning: None,
            heard: now,
            armed: now + self.settings.keep_alive,
            is_asked: false,
            waiting: VecDeque::new(),
            asking: None,
            awaiting: HashMap::new(),
            last_token: 0,
            pace: Default::default(),
            observations: Default::default(),
        });
        self.logging_in += 1;
        self.timers.insert((now + self.settings.keep_alive, index));
        index
    }

    /// The access service says.
    pub(crate) fn on_answer(&mut self, key: SessionKey, answer: Answer, now: Instant, out: &mut Out<A>) {
        let Some(Occupant::Client(index)) = self.seats.occupant(key) else {
            return;
        };
        match (self.client(index).state, answer) {
            (State::LoggingIn, Answer::Allowed { identity, .. }) => {
                self.on_allowed(index, identity, now, out);
            }
            (State::Returning, Answer::Allowed { identity, .. }) => {
                self.on_readmitted(index, identity, now, out);
            }
            (State::LoggingIn | State::Returning, answer) => {
                out.counts.add(Metric::ConnectRefused);
                let (code, why) = match answer {
                    Answer::Refused(AuthRefusal::Unavailable | AuthRefusal::Busy) => {
                        (Code::SERVICE_UNAVAILABLE, "nobody can say who you are now")
                    }
                    Answer::Refused(AuthRefusal::NotAuthorized) => {
                        (Code::UNAUTHORIZED, "you may not come in")
                    }
                    Answer::Refused(AuthRefusal::Banned) => (Code::FORBIDDEN, "you are banned"),
                    _ => (Code::UNAUTHORIZED, "wrong user name or password"),
                };
                self.remove(index, Some((code, why)), out);
            }
            (_, answer) => self.on_authorized(index, &answer, now, out),
        }
        // In another turn: answers may come at once, and there may be many.
        self.returns.hurry(now);
    }

    fn on_allowed(&mut self, index: u32, identity: Identity, now: Instant, out: &mut Out<A>) {
        self.logging_in -= 1;
        if !self.let_in(index, identity, out) {
            return;
        }
        self.open_own(index, out);
        self.take_returns(index, now, out);
    }

    /// A client may come in: who it is is known from now on. False if nobody may have its client id; then it is gone.
    pub(crate) fn let_in(&mut self, index: u32, identity: Identity, out: &mut Out<A>) -> bool {
        let keep_alive = u16::try_from(self.settings.keep_alive.as_secs()).unwrap_or(u16::MAX);
        let place = self.place.clone();
        let client = self.client_mut(index);
        let (peer, peer_port) = place.unwrap_or_else(|| client.at.presence());
        let who = Presence {
            username: identity.username.clone(),
            protocol: &PROTOCOL,
            version: 1,
            peer,
            peer_port,
            keep_alive,
            clean_start: true,
            ..Presence::default()
        };
        client.state = State::Dormant;
        client.identity = Some(identity);
        let Some(entrant) = self.gate(index).enter(who) else {
            let why = "nobody may have this client id";
            self.tell(index, || Wanted::Connect, || why.into(), out);
            self.remove(index, Some((Code::FORBIDDEN, why)), out);
            return false;
        };
        self.client_mut(index).who = Some(Arc::clone(entrant.who()));
        true
    }

    /// Opens a client's own session.
    pub(crate) fn open_own(&mut self, index: u32, out: &mut Out<A>) {
        let who = self.client(index).who.as_deref().cloned().unwrap_or_default();
        let Some(entrant) = self.gate(index).enter(who) else {
            return;
        };
        let client = self.client_mut(index);
        client.state = State::Opening;
        let open = Open {
            client: entrant,
            clean_start: true,
            expiry: Duration::ZERO,
            will: None.into(),
            receive_maximum: 1,
            credit: 0,
            forgeable: A::FORGEABLE,
            wants_expired: false,
            link: None,
        };
        out.bus.push((client.seat, BusCommand::Open(Box::new(open))));
    }

    /// The bus says.
    pub(crate) fn on_bus(&mut self, key: SessionKey, event: BusEvent, now: Instant, out: &mut Out<A>) {
        match self.seats.occupant(key) {
            Some(Occupant::Client(index)) => self.on_client_event(index, event, now, out),
            Some(Occupant::Observation(index)) => self.on_observation_event(index, key, event, now, out),
            None => {}
        }
    }

    fn on_client_event(&mut self, index: u32, event: BusEvent, now: Instant, out: &mut Out<A>) {
        match event {
            BusEvent::Opened { .. } => {
                self.client_mut(index).state = State::Open;
                self.go_on(index, now, out);
            }
            BusEvent::OpenRefused(why) => {
                let code = match why {
                    OpenRefusal::NotOwner => Code::FORBIDDEN,
                    OpenRefusal::NoRoom | OpenRefusal::TooManyOfUser => Code::SERVICE_UNAVAILABLE,
                };
                self.tell_refused_open(index, why, out);
                self.remove(
                    index,
                    Some((code, "the session of this client id cannot be opened")),
                    out,
                );
            }
            BusEvent::RulesChanged(who) => self.on_rules(index, who),
            BusEvent::Accepted(token, _) => self.on_accepted(index, token, now, out),
            BusEvent::Refused(token, why) => self.on_refused(index, token, why, out),
            BusEvent::Retained(token, message) => self.on_retained(index, token, message, now, out),
            BusEvent::TakenOver => self.lose(index, CloseReason::TakenOver, out),
            BusEvent::Kicked => self.lose(index, CloseReason::Kicked, out),
            _ => {}
        }
    }

    fn on_rules(&mut self, index: u32, who: Arc<Presence>) {
        let client = self.client_mut(index);
        if let (Some(identity), Some(policy)) = (&mut client.identity, who.rules.policy()) {
            identity.policy = Arc::clone(policy);
        }
        client.who = Some(who);
    }

    /// A client said something.
    pub(crate) fn hear(&mut self, index: u32, at: A, now: Instant, out: &mut Out<A>) {
        let client = self.client_mut(index);
        (client.heard, client.spoke) = (now, true);
        if client.at != at {
            let from = std::mem::replace(&mut client.at, at);
            out.counts.add_own(CoapMetric::Moved);
            self.on_moved(index, from, out);
        }
    }

    /// Does what is due: who was silent too long is asked whether it is there, or is gone.
    pub(crate) fn on_timeout(&mut self, now: Instant, out: &mut Out<A>) {
        self.readmit_some(now, out);
        let keep_alive = self.settings.keep_alive;
        for _ in 0..TIMERS_PER_TURN {
            if self.transfers.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let (_, key) = self.transfers.pop_first().expect("just looked at");
            if let Some(Occupant::Observation(index)) = self.seats.occupant(key) {
                self.on_transfer_due(index, key, now, out);
            }
        }
        for _ in 0..TIMERS_PER_TURN {
            if self.timers.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let (_, index) = self.timers.pop_first().expect("just looked at");
            let client = self.client_mut(index);
            let until = client.heard + keep_alive;
            if until > now {
                self.arm(index, until);
            } else if matches!(client.state, State::Open | State::Dormant) && !client.observations.is_empty()
            {
                // Its answer, or that there is none, is told.
                self.arm(index, now + keep_alive);
                if !std::mem::replace(&mut self.client_mut(index).is_asked, true) {
                    let (at, seat) = (self.client(index).at, self.client(index).seat);
                    self.effects.push_back(Effect::Ping(at, Tag::Alive(seat)));
                }
            } else if client.state == State::Open {
                self.lose(index, CloseReason::KeepAlive, out);
            } else if client.state == State::Dormant {
                self.remove(index, None, out);
            } else {
                self.remove(
                    index,
                    Some((Code::SERVICE_UNAVAILABLE, "nobody can say who you are now")),
                    out,
                );
            }
        }
    }

    fn arm(&mut self, index: u32, at: Instant) {
        self.client_mut(index).armed = at;
        self.timers.insert((at, index));
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let transfer = self.transfers.first().map(|(at, _)| *at);
        let client = self.timers.first().map(|(at, _)| *at);
        let returns = self.returns.due();
        transfer.into_iter().chain(client).chain(returns).min()
    }

    /// What became of a message that we sent.
    pub(crate) fn on_outcome(&mut self, outcome: Outcome<Tag>, now: Instant, out: &mut Out<A>) {
        let tag = match outcome {
            Outcome::Acknowledged(tag) | Outcome::Rejected(tag) | Outcome::Lost(tag) => tag,
        };
        match tag {
            Tag::Notification(key, delivery, size) => {
                if let Some(Occupant::Observation(index)) = self.seats.occupant(key) {
                    self.on_notified(index, key, delivery, size, outcome, now, out);
                }
            }
            Tag::Settled(key) => {
                if let Some(Occupant::Observation(index)) = self.seats.occupant(key) {
                    self.on_settled(index, key, outcome, now, out);
                }
            }
            Tag::FirstBlock(key) => {
                if let Some(Occupant::Observation(index)) = self.seats.occupant(key) {
                    self.on_first_block(index, key, outcome, now, out);
                }
            }
            Tag::Alive(key) => {
                let Some(Occupant::Client(index)) = self.seats.occupant(key) else {
                    return;
                };
                self.client_mut(index).is_asked = false;
                match outcome {
                    Outcome::Acknowledged(_) | Outcome::Rejected(_) => {
                        let client = self.client_mut(index);
                        (client.heard, client.spoke) = (now, true);
                    }
                    Outcome::Lost(_) if self.client(index).heard + self.settings.keep_alive > now => {}
                    Outcome::Lost(_) => self.lose(index, CloseReason::KeepAlive, out),
                }
            }
        }
    }

    /// A client is gone. What waits for its observations waits for it.
    pub(crate) fn lose(&mut self, index: u32, reason: CloseReason, out: &mut Out<A>) {
        if reason == CloseReason::KeepAlive {
            out.counts.add_own(CoapMetric::ClientsLost);
        }
        let observed: Vec<u32> = self.client(index).observations.keys().copied().collect();
        let ends = (reason == CloseReason::Kicked).then_some(Duration::ZERO);
        for n in observed {
            self.end_observation(index, n, reason, ends, out);
        }
        let expiry = None;
        out.bus
            .push((self.client(index).seat, BusCommand::Close { reason, expiry }));
        self.remove(
            index,
            Some((Code::SERVICE_UNAVAILABLE, "the client is gone")),
            out,
        );
    }

    /// All clients of a connection are gone.
    pub(crate) fn lose_all(&mut self, reason: CloseReason, out: &mut Out<A>) {
        for index in 0..self.clients.len() {
            let index = u32::try_from(index).expect("indices are u32");
            match self.clients[index as usize].as_ref().map(|client| client.state) {
                Some(State::LoggingIn | State::Returning) => self.remove(index, None, out),
                Some(State::Opening | State::Open | State::Dormant) => self.lose(index, reason, out),
                None => {}
            }
        }
    }

    /// One of the clients, for a trace.
    pub(crate) fn first_client(&self) -> Option<&str> {
        self.clients
            .iter()
            .flatten()
            .next()
            .map(|client| client.id.as_str())
    }

    /// Forgets a client that has no session; what it waits for is answered so.
    pub(crate) fn remove(&mut self, index: u32, answered: Option<(Code, &str)>, out: &mut Out<A>) {
        let mut client = self.clients[index as usize]
            .take()
            .expect("the index of a client");
        let logs_in = matches!(client.state, State::LoggingIn | State::Returning);
        self.logging_in -= usize::from(logs_in);
        self.by_name.remove(&client.name);
        self.returns
            .forget(&(client.name.0, client.name.1.clone()), index);
        if let Some(token) = &client.token {
            self.by_token.remove(token);
        }
        self.seats.leave(client.seat);
        self.timers.remove(&(client.armed, index));
        self.free.push(index);
        let Some((code, why)) = answered else { return };
        let asking = client.asking.take().map(|asking| asking.requester());
        let awaiting = client.awaiting.drain().map(|(_, awaiting)| awaiting.requester());
        let open: Vec<_> = client.waiting.drain(..).chain(asking).chain(awaiting).collect();
        for (requester, request) in open {
            self.refuse(&requester, &request, code, why, out);
        }
    }

    /// A client made a connection, and is found by its token from now on. EMQX 5, connection mode
    pub(crate) fn give_token(&mut self, index: u32) -> String {
        if let Some(token) = &self.client(index).token {
            return token.clone();
        }
        let token = format!(
            "{:016x}{:016x}",
            self.unguessable.number(),
            self.unguessable.number()
        );
        self.by_token.insert(token.clone(), index);
        self.client_mut(index).token = Some(token.clone());
        token
    }

    /// What a client's requests pass.
    pub(crate) fn gate(&self, index: u32) -> Gate<'_> {
        let client = self.client(index);
        let policy = client.identity.as_ref().map(|identity| &identity.policy);
        self.naming.gate(&client.id, policy)
    }

    /// Answers a request, in blocks if the answer is long.
    pub(crate) fn respond(
        &mut self,
        to: &Requester<A>,
        request: &Message,
        mut response: Message,
        now: Instant,
        out: &mut Out<A>,
    ) {
        response.token = to.token;
        echo_block1(request, &mut response);
        // A block of it, or what asks for one, is cut as it says.
        let is_whole = response.payload.len() <= self.max_whole && !request.options.has(number::BLOCK2);
        let is_part = is_whole || response.options.has(number::BLOCK2);
        if let (Some(szx), true) = (self.szx, response.code.is_success() && !is_part) {
            let szx = szx.min(szx_allowed(to, &response));
            response = self.downloads.cut(to.at, request, response, szx, now);
        }
        out.counts.add_own(match response.code.class() {
            4 => CoapMetric::ClientErrorsSent,
            5 => CoapMetric::ServerErrorsSent,
            _ => CoapMetric::ResponsesSent,
        });
        // RFC 7967 §2.1: what the client does not want to hear; of its request it hears that it came.
        let unwanted = request.options.uint(number::NO_RESPONSE).unwrap_or(0);
        if unwanted & 1 << response.code.class() >> 1 != 0 {
            response = Message::of_stream(Code::EMPTY, to.token);
        }
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
        self.respond(to, request, refusal, Instant::START, out);
    }

    /// A session of a client's observation, from now on.
    pub(crate) fn take_observation_seat(&mut self, index: u32) -> SessionKey {
        self.observations += 1;
        self.seats.take(Occupant::Observation(index))
    }

    pub(crate) fn leave_observation_seat(&mut self, key: SessionKey) {
        self.observations -= 1;
        self.seats.leave(key);
    }

    /// The session of an observation is that of another client from now on.
    pub(crate) fn move_seat(&mut self, key: SessionKey, to: u32) {
        self.seats.change(key, Occupant::Observation(to));
    }

    /// The client that has the session of an observation.
    pub(crate) fn observer(&self, key: SessionKey) -> Option<u32> {
        match self.seats.occupant(key)? {
            Occupant::Observation(index) => Some(index),
            Occupant::Client(_) => None,
        }
    }

    /// The client that has a session, if it is still there.
    pub(crate) fn client_of(&self, key: SessionKey) -> Option<u32> {
        let (Occupant::Client(index) | Occupant::Observation(index)) = self.seats.occupant(key)?;
        Some(index)
    }

    /// The gateway stops: sessions stay as the store has them.
    pub(crate) fn shutdown(&mut self, out: &mut Out<A>) {
        for client in self.clients.iter().flatten() {
            let seats = client.observations.values().map(|observation| observation.seat);
            let own = matches!(client.state, State::Opening | State::Open).then_some(client.seat);
            for key in seats.chain(own) {
                let (reason, expiry) = (CloseReason::Shutdown, None);
                out.bus.push((key, BusCommand::Close { reason, expiry }));
            }
        }
    }

    /// Waits for the bus with a request; how its command is named.
    pub(crate) fn await_bus(&mut self, index: u32, awaiting: Awaiting<A>) -> headgate_model::AckToken {
        let client = self.client_mut(index);
        let token = client.take_token();
        client.awaiting.insert(token, awaiting);
        headgate_model::AckToken(token)
    }

    /// The largest block of an answer, or of what a request asks for.
    pub(crate) fn block_szx(&self) -> u8 {
        self.szx.unwrap_or(Block::MAX_SZX)
    }
}
