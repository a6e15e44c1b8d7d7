//! The bench: a real server of CoAP with bus and store logic, without sockets, on a virtual clock. Messages go in, messages come out.

#![allow(dead_code, reason = "no test uses all of it")]

use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_coap::{CoapServer, CoapSettings};
use headgate_coap_codec::{Code, Kind, Message, Token, decode, encode, number};
use headgate_model::access::{AccessQuery, AuthRefusal, Credentials, Denial, Readmission};
use headgate_model::bus::Presence;
use headgate_model::datagram::Places;
use headgate_model::{
    AccessDecision, AccessPolicy, Action, Admitted, Answer, BusCommand, BusEvent, ClientId, DatagramOutputs,
    DatagramServer, Destination, EndpointId, Entrant, Identity, Instant, Naming, Open, Qos, Question,
    SessionKey, Store, Topic, WallTime,
};
use headgate_store::{Disk, SimStore};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BACKEND: EndpointId = EndpointId(1);

/// What clients may not do, or what must be asked for; everything else is allowed.
#[derive(Debug, Default)]
struct Rules(Mutex<Vec<(Action, String, AccessDecision)>>, AtomicBool);

impl AccessPolicy for Rules {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        let rules = self.0.lock().unwrap();
        let mut rules = rules.iter();
        let rule =
            rules.find(|(action, topic, _)| *action == query.action && topic.as_bytes() == query.topic);
        rule.map_or(AccessDecision::Allow, |(_, _, decision)| *decision)
    }

    fn disconnects(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

/// Places that are kept: all, of one socket.
#[derive(Debug)]
struct Addresses;

impl Places<SocketAddr> for Addresses {
    fn keep(&self, at: SocketAddr) -> Option<Bytes> {
        Some(at.to_string().into())
    }

    fn find(&self, kept: &[u8]) -> Option<SocketAddr> {
        std::str::from_utf8(kept).ok()?.parse().ok()
    }
}

pub(crate) struct Bench {
    settings: CoapSettings,
    server: CoapServer<SocketAddr>,
    out: DatagramOutputs<SocketAddr>,
    bus: Bus,
    bus_out: BusOutputs,
    store: SimStore,
    disk: Disk,
    epoch: WallTime,
    pub now: Instant,
    events: VecDeque<(EndpointId, BusEvent)>,
    sent: VecDeque<(SocketAddr, Bytes)>,
    rules: Arc<Rules>,
    /// Who knows this password only is let in.
    pub password: Option<&'static str>,
    pub refusal: Option<AuthRefusal>,
    pub credentials: Vec<Credentials>,
    /// Who was to be let in again.
    pub readmitted: Vec<Readmission>,
    /// Questions are not answered.
    pub silent: bool,
    /// Nothing is committed meanwhile.
    pub withheld: bool,
    next_id: u16,
    /// Bytes that came from, and went to, each address.
    pub traffic: BTreeMap<SocketAddr, (usize, usize)>,
    pub counts: BTreeMap<&'static str, u32>,
    /// What was denied, and was not looked at yet.
    pub denied: Vec<Denial>,
}

pub(crate) fn at(n: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], n))
}

pub(crate) fn token(n: u8) -> Token {
    Token::new(&[n]).unwrap()
}

/// A request by its method, path, query, and options.
pub(crate) fn request(code: Code, uri: &str) -> Message {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut message = Message::new(Kind::Confirmable, code, 0, token(1));
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        message.options.push(number::URI_PATH, segment.to_owned());
    }
    for word in query.split('&').filter(|word| !word.is_empty()) {
        message.options.push(number::URI_QUERY, word.to_owned());
    }
    message
}

pub(crate) fn put(uri: &str, payload: &str) -> Message {
    Message {
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..request(Code::PUT, uri)
    }
}

pub(crate) fn post(uri: &str, payload: &str) -> Message {
    Message {
        code: Code::POST,
        ..put(uri, payload)
    }
}

pub(crate) fn get(uri: &str) -> Message {
    request(Code::GET, uri)
}

/// RFC 7641 §2: 0 registers, 1 deregisters.
pub(crate) fn observe(uri: &str, n: u8, value: u32) -> Message {
    let mut message = get(uri);
    message.token = token(n);
    message.options.push_uint(number::OBSERVE, value);
    message
}

/// The same, without confirmation.
pub(crate) fn non(message: Message) -> Message {
    Message {
        kind: Kind::NonConfirmable,
        ..message
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Addresses need no proof unless `change` says so.
    pub(crate) fn with(change: impl FnOnce(&mut CoapSettings)) -> Self {
        let mut settings = CoapSettings::default();
        settings.transmission.amplification_limit = 0;
        change(&mut settings);
        assert_eq!(settings.faults(), []);
        Self::start(settings, Disk::default(), WallTime(1_700_000_000_000))
    }

    fn start(settings: CoapSettings, disk: Disk, epoch: WallTime) -> Self {
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(BusSettings::default(), epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        let mut server = CoapServer::repeating(settings.clone(), Arc::new(Naming::default()), 7);
        server.set_places(Arc::new(Addresses));
        let mut bench = Self {
            server,
            settings,
            out: DatagramOutputs::default(),
            bus,
            bus_out: BusOutputs::default(),
            store,
            disk,
            epoch,
            now: Instant::START,
            events: VecDeque::new(),
            sent: VecDeque::new(),
            rules: Arc::default(),
            password: None,
            refusal: None,
            credentials: Vec::new(),
            readmitted: Vec::new(),
            silent: false,
            withheld: false,
            next_id: 100,
            traffic: BTreeMap::new(),
            counts: BTreeMap::new(),
            denied: Vec::new(),
        };
        let open = Open {
            client: Entrant::of_gateway("backend".into(), Presence::default()),
            clean_start: true,
            expiry: Duration::ZERO,
            will: None.into(),
            receive_maximum: 100,
            credit: 100,
            forgeable: false,
            wants_expired: false,
            link: None,
        };
        let open = BusCommand::Open(Box::new(open));
        bench.bus.handle(BACKEND, open, bench.now, &mut bench.bus_out);
        bench.run();
        bench
    }

    /// The power comes back, at once. Who may come in is as before; `change` says what is otherwise.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut Self)) {
        let epoch = WallTime::of(self.now, self.epoch);
        let (rules, password) = (Arc::clone(&self.rules), self.password);
        *self = Self::start(self.settings.clone(), self.disk.clone(), epoch);
        (self.rules, self.password) = (rules, password);
        change(self);
        let mut after = None::<ClientId>;
        let prefix = CoapServer::<SocketAddr>::NOTES.unwrap();
        loop {
            let page = self
                .bus
                .notes(prefix, after.as_ref().map(ClientId::as_str), 2, self.now);
            self.server.restore(page.rows, self.now, &mut self.out);
            self.run();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.server.restored(self.now, &mut self.out);
        self.run();
        self.advance(Duration::ZERO);
    }

    pub(crate) fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    /// Notes of sessions, as they are in the store.
    pub(crate) fn notes(&mut self) -> Vec<Bytes> {
        let sessions = self.store.load().unwrap().sessions;
        let notes = sessions.into_iter().map(|session| session.note);
        notes.filter(|note| !note.is_empty()).collect()
    }

    /// Who wants what is denied is thrown out.
    pub(crate) fn disconnect_the_denied(&self) {
        self.rules.1.store(true, Ordering::Relaxed);
    }

    pub(crate) fn rule(&self, action: Action, topic: &str, decision: AccessDecision) {
        let mut rules = self.rules.0.lock().unwrap();
        rules.push((action, topic.to_owned(), decision));
    }

    /// A message comes as it is.
    pub(crate) fn receive(&mut self, from: SocketAddr, message: &Message) {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).unwrap();
        self.datagram(from, bytes.freeze());
    }

    pub(crate) fn datagram(&mut self, from: SocketAddr, bytes: Bytes) {
        self.traffic.entry(from).or_default().0 += bytes.len();
        self.server.handle_datagram(from, bytes, self.now, &mut self.out);
        self.run();
    }

    /// Sends a request under a message ID of its own.
    pub(crate) fn ask(&mut self, from: SocketAddr, mut message: Message) -> u16 {
        self.next_id += 1;
        message.id = self.next_id;
        self.receive(from, &message);
        self.next_id
    }

    /// Asks, and expects one answer: its code and payload.
    pub(crate) fn exchange(&mut self, from: SocketAddr, message: Message) -> (Code, String) {
        let (kind, token) = (message.kind, message.token);
        let id = self.ask(from, message);
        let at = self.sent.iter().position(|(to, _)| *to == from);
        let (_, answer) = self.sent.remove(at.expect("an answer")).expect("just found");
        let answer = decode(&answer).unwrap();
        assert_eq!(answer.token, token);
        match kind {
            Kind::Confirmable => assert_eq!((answer.kind, answer.id), (Kind::Acknowledgement, id)),
            _ => assert_eq!(answer.kind, Kind::NonConfirmable),
        }
        (answer.code, text(&answer))
    }

    /// What was sent to an address since it was last asked.
    pub(crate) fn sent(&mut self, to: SocketAddr) -> Vec<Message> {
        let mut found = Vec::new();
        self.sent.retain(|(at, bytes)| {
            if *at == to {
                found.push(decode(bytes).unwrap());
            }
            *at != to
        });
        found
    }

    /// Acknowledges, or rejects.
    pub(crate) fn answer(&mut self, from: SocketAddr, kind: Kind, id: u16) {
        self.receive(from, &Message::empty(kind, id));
    }

    /// The notifications that were sent, acknowledged, and those that follow, too: their payloads.
    pub(crate) fn notified(&mut self, who: SocketAddr, n: u8) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let sent = self.sent(who);
            if sent.is_empty() {
                return all;
            }
            for message in sent {
                assert!(
                    message.code == Code::EMPTY || message.token == token(n),
                    "{message:?}"
                );
                if message.code != Code::EMPTY {
                    assert!(message.options.has(number::OBSERVE), "{message:?}");
                    all.push(text(&message));
                }
                if message.kind == Kind::Confirmable {
                    let kind = match message.code {
                        Code::EMPTY => Kind::Reset,
                        _ => Kind::Acknowledgement,
                    };
                    self.answer(who, kind, message.id);
                }
            }
        }
    }

    /// Something is published on the bus.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: Qos) {
        self.publish_message(headgate_model::Message {
            qos,
            ..headgate_model::Message::new(
                Topic::try_from(topic).unwrap(),
                Bytes::copy_from_slice(payload.as_bytes()),
            )
        });
    }

    pub(crate) fn publish_message(&mut self, message: headgate_model::Message) {
        let command = BusCommand::Publish {
            message: Admitted::of_gateway(message),
            ack: None,
            dedup: None,
        };
        self.bus.handle(BACKEND, command, self.now, &mut self.bus_out);
        self.run();
    }

    /// What was sent to an address is to be looked at again.
    pub(crate) fn put_back(&mut self, to: SocketAddr, message: &Message) {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).unwrap();
        self.sent.push_back((to, bytes.freeze()));
    }

    /// Deliveries that a session has not settled.
    pub(crate) fn left_of(&self, client_id: &str) -> usize {
        let client = self.bus.session_info(client_id).expect("it has a session").client;
        client.queued + client.inflight
    }

    /// How many there are of something, as operators see it.
    pub(crate) fn gauge(&self, name: &str) -> usize {
        let mut found = None;
        self.server.gauges(&mut |known, n| {
            if known == name {
                found = Some(n);
            }
        });
        found.expect("it is counted")
    }

    pub(crate) fn has_session(&self, client_id: &str) -> bool {
        self.bus.session_info(client_id).is_some()
    }

    pub(crate) fn kick(&mut self, client_id: &str) {
        assert!(self.bus.kick(client_id, self.now, &mut self.bus_out));
        self.run();
    }

    /// The same, if it is connected.
    pub(crate) fn try_kick(&mut self, client_id: &str) {
        self.bus.kick(client_id, self.now, &mut self.bus_out);
        self.run();
    }

    /// Lets time go by, and does what is due when it is due.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due = self
                .server
                .deadline()
                .into_iter()
                .chain(self.bus.deadline())
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            if self.server.deadline().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now, &mut self.out);
            }
            if self.bus.deadline().is_some_and(|at| at <= self.now) {
                self.bus.handle_timeout(self.now, &mut self.bus_out);
            }
            self.run();
        }
        self.now = end;
    }

    /// Until nothing follows any more.
    pub(crate) fn run(&mut self) {
        loop {
            for (key, command) in std::mem::take(&mut self.out.bus) {
                self.bus
                    .handle(endpoint(key), command, self.now, &mut self.bus_out);
            }
            for asked in std::mem::take(&mut self.out.questions) {
                if self.silent {
                    continue;
                }
                let answer = self.verdict(&asked.question);
                self.server
                    .handle_answer(asked.key, answer, self.now, &mut self.out);
            }
            for (to, bytes) in self.out.take_datagrams() {
                let Destination::To(to) = to else {
                    panic!("to everybody")
                };
                self.traffic.entry(to).or_default().1 += bytes.len();
                check_sent(&bytes);
                self.sent.push_back((to, bytes));
            }
            let counts = &mut self.counts;
            self.out
                .counts
                .drain(|metric, n| *counts.entry(metric.name()).or_default() += n);
            self.out.counts.drain_own(|n, count| {
                let name = headgate_coap::CoapMetric::ALL[n].name();
                *counts.entry(name).or_default() += count;
            });
            self.denied.extend(self.out.denials.drain());
            self.bus_out.notices.clear();
            self.events.extend(self.bus_out.events.drain(..));
            if let Some((to, event)) = self.events.pop_front() {
                if to != BACKEND {
                    let key = SessionKey {
                        index: to.0 as u32,
                        generation: (to.0 >> 32) as u32 & 0x7FFF_FFFF,
                    };
                    self.server.handle_bus(key, event, self.now, &mut self.out);
                }
                continue;
            }
            if !self.out.bus.is_empty() || !self.out.questions.is_empty() || self.out.datagrams() > 0 {
                continue;
            }
            if self.withheld {
                return;
            }
            let fetches = self.bus.take_fetches();
            let batch = self.bus.commit_due().and_then(|_| self.bus.take_batch());
            if fetches.is_empty() && batch.is_none() {
                return;
            }
            if let Some((number, ops)) = batch {
                self.store.commit(&ops).unwrap();
                self.bus.committed(number, self.now, &mut self.bus_out);
            }
            for request in fetches {
                let found = self
                    .store
                    .fetch(request.session, request.lane, request.from, request.limit);
                self.bus
                    .fetched(request, found.unwrap(), self.now, &mut self.bus_out);
            }
        }
    }

    fn verdict(&mut self, question: &Question) -> Answer {
        match question {
            Question::Authenticate(credentials) => {
                self.credentials.push((**credentials).clone());
                if let Some(refusal) = self.refusal {
                    return Answer::Refused(refusal);
                }
                let right = self.password.map(str::as_bytes);
                if right.is_some() && credentials.password.as_deref() != right {
                    return Answer::Refused(AuthRefusal::BadUserNameOrPassword);
                }
                let identity = Identity {
                    username: credentials.username.clone(),
                    policy: Arc::clone(&self.rules) as Arc<dyn AccessPolicy>,
                };
                Answer::Allowed { identity, data: None }
            }
            Question::Authorize(requests) => {
                let decision = |denies: bool| match denies {
                    true => AccessDecision::Deny(Default::default()),
                    false => AccessDecision::Allow,
                };
                let denies = self.rules.disconnects();
                Answer::Authorized(requests.iter().map(|_| decision(denies)).collect())
            }
            Question::Readmit(known) => {
                self.readmitted.push((**known).clone());
                match self.refusal {
                    Some(refusal) => Answer::Refused(refusal),
                    None => Answer::Allowed {
                        identity: Identity {
                            username: known.owner.clone(),
                            policy: Arc::clone(&self.rules) as Arc<dyn AccessPolicy>,
                        },
                        data: None,
                    },
                }
            }
            Question::Continue(_) | Question::Reauthenticate(_) | Question::Identify => {
                panic!("nobody asks so")
            }
        }
    }
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

fn endpoint(key: SessionKey) -> EndpointId {
    EndpointId(1 << 63 | u64::from(key.generation) << 32 | u64::from(key.index))
}

/// What holds for each message that a server sends, in every test that has a bench.
/// \[RFC7252-4.3-1\] \[RFC7252-4.6-1\] \[RFC7252-5.4.5-1\] \[RFC7252-5.10.6.1-1\] \[RFC7959-2.1-2\] \[RFC7959-4-3\] \[RFC9175-3.4-3\]
fn check_sent(bytes: &Bytes) {
    let message = decode(bytes).expect("a message");
    let numbers: Vec<u16> = message.options.iter().map(|(number, _)| number).collect();
    let twice = numbers
        .windows(2)
        .find(|pair| pair[0] == pair[1] && pair[0] != number::LOCATION_PATH);
    assert_eq!(twice, None, "{message:?}");
    assert!(!message.options.has(number::REQUEST_TAG), "{message:?}");
    assert!(message.payload.len() <= 1_024, "{message:?}");
    let is_empty = message.code == Code::EMPTY;
    assert!(!is_empty || message.kind != Kind::NonConfirmable, "{message:?}");
}
