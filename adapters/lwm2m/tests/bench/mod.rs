//! The bench: a real server of LwM2M with bus and store logic, without sockets, on a virtual clock. Messages of devices go in, messages to them come out; a backend is subscribed to all that
//! is told, and publishes commands.

#![allow(dead_code, reason = "no test uses all of it")]

use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_coap_codec::{Block, Code, Kind, Message, Token, decode, encode, number};
use headgate_lwm2m::{Lwm2mMetric, Lwm2mServer, Lwm2mSettings, SESSIONS};
use headgate_model::access::{AccessQuery, AuthRefusal, Denial};
use headgate_model::bus::{Outcome, Presence};
use headgate_model::datagram::Asked;
use headgate_model::{
    AccessDecision, AccessPolicy, AckToken, Action, Admitted, Answer, BusCommand, BusEvent, ClientId,
    DatagramOutputs, DatagramServer, Destination, EndpointId, Entrant, Identity, Instant, MountPoint, Naming,
    Open, Qos, Question, SessionKey, Settlement, Store, Subscription, SubscriptionOptions, Topic, WallTime,
};
use headgate_store::{Disk, SimStore};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
const BACKEND: EndpointId = EndpointId(1);

/// What clients may not do, or what must be asked for; everything else is allowed. A topic that ends with `#` stands for all that begin so.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<Vec<(Action, String, AccessDecision)>>);

impl AccessPolicy for Rules {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        let rules = self.0.lock().unwrap();
        let fits = |topic: &str| match topic.strip_suffix('#') {
            Some(beginning) => query.topic.starts_with(beginning.as_bytes()),
            None => topic.as_bytes() == query.topic,
        };
        let rule = rules
            .iter()
            .find(|(action, topic, _)| *action == query.action && fits(topic));
        rule.map_or(AccessDecision::Allow, |(_, _, decision)| *decision)
    }
}

/// What the access service says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub refusal: Option<AuthRefusal>,
    /// Questions are not answered.
    pub silent: bool,
    /// Whose addresses are whose; others are anonymous.
    pub users: BTreeMap<SocketAddr, &'static str>,
    /// What must be asked for is denied.
    pub denies: bool,
}

pub(crate) struct Bench {
    pub settings: Lwm2mSettings,
    pub server: Lwm2mServer<SocketAddr>,
    out: DatagramOutputs<SocketAddr>,
    bus: Bus,
    bus_out: BusOutputs,
    store: SimStore,
    disk: Disk,
    epoch: WallTime,
    /// How often it was started again.
    lives: u64,
    pub now: Instant,
    events: VecDeque<(EndpointId, BusEvent)>,
    sent: VecDeque<(SocketAddr, Bytes)>,
    pub rules: Arc<Rules>,
    pub access: Access,
    /// What the access service has not answered.
    pub open_questions: Vec<Asked<SocketAddr>>,
    /// All that it was asked.
    pub questions: Vec<Question>,
    /// Nothing is committed meanwhile.
    pub withheld: bool,
    next_id: u16,
    next_command: u32,
    /// Commands that the bus has accepted, and whether somebody gets them.
    pub accepted: BTreeMap<u32, Outcome>,
    /// What the backend got and has not looked at: topic, and what it says.
    told: VecDeque<(String, Json)>,
    pub counts: BTreeMap<&'static str, u32>,
    pub denied: Vec<Denial>,
}

pub(crate) fn at(n: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], n))
}

/// A request of a device, by its method, path, and query.
pub(crate) fn request(code: Code, uri: &str, payload: &str) -> Message {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut message = Message::new(Kind::Confirmable, code, 0, Token::new(&[7]).unwrap());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        message.options.push(number::URI_PATH, segment.to_owned());
    }
    for word in query.split('&').filter(|word| !word.is_empty()) {
        message.options.push(number::URI_QUERY, word.to_owned());
    }
    message.payload = Bytes::copy_from_slice(payload.as_bytes());
    message
}

pub(crate) fn post(uri: &str, payload: &str) -> Message {
    request(Code::POST, uri, payload)
}

/// LwM2M Core 1.1 §6.4.6.1: values in SenML JSON.
pub(crate) fn send(path: &str, value: f64) -> Message {
    let mut message = post("dp", &json!([{"n": path, "v": value}]).to_string());
    message.options.push_uint(number::CONTENT_FORMAT, 110);
    message
}

pub(crate) const LINKS: &str = "</1/0>,</3/0>,</5/0>,</3303/0>";

/// Where a request goes: its path.
pub(crate) fn path(message: &Message) -> String {
    let all = message.options.all(number::URI_PATH);
    all.map(|segment| format!("/{}", String::from_utf8_lossy(segment)))
        .collect()
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Addresses need no proof unless `change` says so.
    pub(crate) fn with(change: impl FnOnce(&mut Lwm2mSettings)) -> Self {
        let mut settings = Lwm2mSettings::default();
        settings.transmission.amplification_limit = 0;
        settings.transmission.ack_random_percent = 100;
        change(&mut settings);
        assert_eq!(settings.faults(), []);
        Self::start(settings, Disk::default(), WallTime(1_700_000_000_000), 0)
    }

    fn start(settings: Lwm2mSettings, disk: Disk, epoch: WallTime, lives: u64) -> Self {
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(BusSettings::default(), epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        let mut server = Lwm2mServer::repeating(settings.clone(), Arc::new(Naming::default()), lives << 32);
        server.begin("lwm2m", epoch);
        let mut bench = Self {
            settings,
            server,
            out: DatagramOutputs::default(),
            bus,
            bus_out: BusOutputs::default(),
            store,
            disk,
            epoch,
            lives,
            now: Instant::START,
            events: VecDeque::new(),
            sent: VecDeque::new(),
            rules: Arc::default(),
            access: Access::default(),
            open_questions: Vec::new(),
            questions: Vec::new(),
            withheld: false,
            next_id: 100,
            next_command: 0,
            accepted: BTreeMap::new(),
            told: VecDeque::new(),
            counts: BTreeMap::new(),
            denied: Vec::new(),
        };
        let open = Open {
            client: Entrant::of_gateway("backend".into(), Presence::default()),
            clean_start: false,
            expiry: Duration::MAX,
            will: None.into(),
            receive_maximum: 1_000,
            credit: 1_000,
            forgeable: false,
            wants_expired: false,
            link: None,
        };
        bench.backend(BusCommand::Open(Box::new(open)));
        let options = SubscriptionOptions {
            qos: Qos::AtLeastOnce,
            ..SubscriptionOptions::default()
        };
        let filter = Bytes::from_static(b"lwm2m/#");
        let subscription = Subscription::parse(&filter, options, &MountPoint::default()).unwrap();
        bench.backend(BusCommand::Subscribe {
            token: AckToken(u32::MAX),
            subscriptions: Admitted::each_of_gateway([subscription]),
        });
        bench
    }

    /// The power is cut, and comes back. What the access service says is as before; `change` says what is otherwise.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut Self)) {
        let epoch = WallTime::of(self.now, self.epoch);
        let (rules, access) = (Arc::clone(&self.rules), self.access.clone());
        let told = std::mem::take(&mut self.told);
        let next_command = self.next_command;
        *self = Self::start(self.settings.clone(), self.disk.clone(), epoch, self.lives + 1);
        (self.rules, self.access, self.next_command) = (rules, access, next_command);
        self.told.extend(told);
        change(self);
        let mut after = None::<ClientId>;
        loop {
            let page = self
                .bus
                .notes(SESSIONS, after.as_ref().map(ClientId::as_str), 2, self.now);
            self.server.restore(page.rows, self.now, &mut self.out);
            self.run();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.server.restored(self.now, &mut self.out);
        self.run();
    }

    pub(crate) fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    /// Other settings while clients are registered.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Lwm2mSettings)) {
        change(&mut self.settings);
        self.server
            .change(self.settings.clone(), Arc::new(Naming::default()));
    }

    pub(crate) fn rule(&self, action: Action, topic: &str, decision: AccessDecision) {
        let mut rules = self.rules.0.lock().unwrap();
        rules.push((action, topic.to_owned(), decision));
    }

    pub(crate) fn deny(&self, action: Action, topic: &str) {
        self.rule(action, topic, AccessDecision::Deny(Default::default()));
    }

    /// The access service answers what it was asked, and goes on answering.
    pub(crate) fn speak(&mut self) {
        self.access.silent = false;
        for asked in std::mem::take(&mut self.open_questions) {
            self.decide(&asked);
        }
        self.run();
    }

    // ---- a device

    /// A message comes as it is.
    pub(crate) fn receive(&mut self, from: SocketAddr, message: &Message) {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).unwrap();
        self.datagram(from, bytes.freeze());
    }

    /// Bytes come as they are.
    pub(crate) fn datagram(&mut self, from: SocketAddr, bytes: Bytes) {
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

    /// Asks, and takes the answer, which comes with the acknowledgement. What else is sent is looked at later.
    pub(crate) fn exchange(&mut self, from: SocketAddr, message: Message) -> Message {
        let id = self.ask(from, message);
        self.answer_to(from, id).expect("an answer")
    }

    /// The answer to a request that was sent, if there is one.
    pub(crate) fn answer_to(&mut self, from: SocketAddr, id: u16) -> Option<Message> {
        let is_meant = |(to, bytes): &(SocketAddr, Bytes)| {
            let message = decode(bytes).unwrap();
            *to == from && message.kind == Kind::Acknowledgement && message.id == id
        };
        let found = self.sent.iter().position(is_meant)?;
        let (_, bytes) = self.sent.remove(found)?;
        Some(decode(&bytes).unwrap())
    }

    pub(crate) fn code(&mut self, from: SocketAddr, message: Message) -> Code {
        self.exchange(from, message).code
    }

    /// Registers: the location, `rd/…`.
    pub(crate) fn register(&mut self, from: SocketAddr, query: &str) -> String {
        let answer = self.exchange(from, post(&format!("rd?{query}"), LINKS));
        assert_eq!(answer.code, Code::CREATED, "{}", text(&answer));
        location(&answer)
    }

    /// What was sent to an address since it was last looked at.
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

    /// The one thing that was sent to an address: a request.
    pub(crate) fn asked(&mut self, to: SocketAddr) -> Message {
        let mut sent = self.sent(to);
        assert_eq!(sent.len(), 1, "{sent:?}");
        let asked = sent.remove(0);
        assert!(asked.code.is_request(), "{asked:?}");
        asked
    }

    /// A device answers with its acknowledgement.
    pub(crate) fn answer(&mut self, from: SocketAddr, asked: &Message, code: Code, payload: &str) {
        self.answer_with(from, asked, code, payload, |_| {});
    }

    pub(crate) fn answer_with(
        &mut self,
        from: SocketAddr,
        asked: &Message,
        code: Code,
        payload: &str,
        change: impl FnOnce(&mut Message),
    ) {
        let mut message = Message::new(Kind::Acknowledgement, code, asked.id, asked.token);
        message.payload = Bytes::copy_from_slice(payload.as_bytes());
        change(&mut message);
        self.receive(from, &message);
    }

    /// The request to observe is answered: the token of its notifications.
    pub(crate) fn observed(&mut self, from: SocketAddr, sequence: u32, payload: &str) -> Token {
        let asked = self.asked(from);
        assert_eq!(asked.options.uint(number::OBSERVE), Some(0), "{asked:?}");
        self.answer_with(from, &asked, Code::CONTENT, payload, |message| {
            message.options.push_uint(number::OBSERVE, sequence);
        });
        asked.token
    }

    /// A notification, and how it is answered.
    pub(crate) fn notify(&mut self, from: SocketAddr, token: Token, sequence: u32, payload: &str) -> Kind {
        let mut message = Message::new(Kind::Confirmable, Code::CONTENT, 0, token);
        message.options.push_uint(number::OBSERVE, sequence);
        message.payload = Bytes::copy_from_slice(payload.as_bytes());
        self.say(from, message)
    }

    /// A confirmable message that is no request, and whether it is acknowledged or rejected.
    pub(crate) fn say(&mut self, from: SocketAddr, message: Message) -> Kind {
        let id = self.ask(from, message);
        let is_meant = |(to, bytes): &(SocketAddr, Bytes)| {
            let message = decode(bytes).unwrap();
            *to == from && message.code == Code::EMPTY && message.id == id
        };
        let found = self.sent.iter().position(is_meant).expect("it is answered");
        let (_, bytes) = self.sent.remove(found).unwrap();
        decode(&bytes).unwrap().kind
    }

    // ---- the backend

    fn backend(&mut self, command: BusCommand) {
        self.bus.handle(BACKEND, command, self.now, &mut self.bus_out);
        self.run();
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: Qos) -> u32 {
        self.next_command += 1;
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let message = headgate_model::Message {
            qos,
            ..headgate_model::Message::new(Topic::try_from(topic).unwrap(), payload)
        };
        self.backend(BusCommand::Publish {
            message: Admitted::of_gateway(message),
            ack: Some(AckToken(self.next_command)).filter(|_| qos > Qos::AtMostOnce),
            dedup: None,
        });
        self.next_command
    }

    /// A command, under a number of its own: `reqID`.
    pub(crate) fn command(&mut self, endpoint: &str, kind: &str, data: Json) -> u32 {
        let number = self.next_command + 1;
        let command = json!({"reqID": number, "msgType": kind, "data": data});
        self.publish(
            &format!("lwm2m/{endpoint}/dn"),
            &command.to_string(),
            Qos::AtLeastOnce,
        )
    }

    pub(crate) fn read(&mut self, endpoint: &str, path: &str) -> u32 {
        self.command(endpoint, "read", json!({"path": path}))
    }

    /// All that was told on topics that end so.
    pub(crate) fn told(&mut self, end: &str) -> Vec<Json> {
        let mut found = Vec::new();
        self.told.retain(|(topic, json)| {
            if topic.ends_with(end) {
                found.push(json.clone());
            }
            !topic.ends_with(end)
        });
        found
    }

    /// Answers to commands, as number, code and reason.
    pub(crate) fn answers(&mut self) -> Vec<(u32, String, String)> {
        let told = self.told("/up/resp");
        let found = told.iter().filter(|told| told["data"].get("code").is_some());
        let answers = found.map(|told| {
            let word = |word: &Json| word.as_str().unwrap_or_default().to_owned();
            (
                told["reqID"].as_u64().unwrap_or_default() as u32,
                word(&told["data"]["code"]),
                word(&told["data"]["reason"]),
            )
        });
        answers.collect()
    }

    /// The one answer to a command.
    pub(crate) fn answered(&mut self, number: u32) -> Json {
        let mut told = self.told("/up/resp");
        told.retain(|told| told["data"].get("code").is_some());
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(told[0]["reqID"], json!(number));
        told.remove(0)
    }

    /// Numbers and codes of the answers.
    pub(crate) fn results(&mut self) -> Vec<(u32, String)> {
        let answers = self.answers().into_iter();
        answers.map(|(number, code, _)| (number, code)).collect()
    }

    /// What is retained at a topic.
    pub(crate) fn retained(&mut self, topic: &str) -> Option<Json> {
        let image = self.store.load().unwrap();
        let found = image
            .retained
            .into_iter()
            .find(|(_, stored)| stored.message.topic.as_bytes() == topic.as_bytes());
        found.map(|(_, stored)| serde_json::from_slice(&stored.message.payload).unwrap())
    }

    // ---- how it is

    /// Notes of sessions, as they are in the store.
    pub(crate) fn notes(&mut self) -> Vec<headgate_lwm2m::Note> {
        let sessions = self.store.load().unwrap().sessions;
        let notes = sessions.into_iter().map(|session| session.note);
        notes
            .filter(|note| !note.is_empty())
            .map(|note| headgate_lwm2m::Note::parse(&note).unwrap())
            .collect()
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

    pub(crate) fn has_session(&self, endpoint: &str) -> bool {
        self.bus.session_info(&format!("{SESSIONS}{endpoint}")).is_some()
    }

    /// The same, if it is connected.
    pub(crate) fn try_kick(&mut self, endpoint: &str) -> bool {
        let client = format!("{SESSIONS}{endpoint}");
        let was_there = self.bus.kick(&client, self.now, &mut self.bus_out);
        self.run();
        was_there
    }

    pub(crate) fn kick(&mut self, endpoint: &str) {
        assert!(self.try_kick(endpoint));
    }

    /// Nothing is left of anybody.
    pub(crate) fn is_empty(&mut self) {
        self.is_forgotten();
        assert_eq!(self.notes(), []);
    }

    /// The server knows nobody.
    pub(crate) fn is_forgotten(&self) {
        self.server.check();
        for (table, entries) in self.server.tables() {
            assert_eq!(entries, 0, "{table}");
        }
        for gauge in ["clients", "logging_in", "observations", "bootstraps"] {
            assert_eq!(self.gauge(gauge), 0, "{gauge}");
        }
    }

    /// Lets time go by, and does what is due when it is due.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        let mut turns = 0;
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
            turns = if due > self.now { 0 } else { turns + 1 };
            assert!(turns < 1_000, "what is due is not done");
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

    fn decide(&mut self, asked: &Asked<SocketAddr>) {
        let answer = self.verdict(asked);
        self.server
            .handle_answer(asked.key, answer, self.now, &mut self.out);
    }

    /// Until nothing follows any more.
    pub(crate) fn run(&mut self) {
        loop {
            for (key, command) in std::mem::take(&mut self.out.bus) {
                self.bus
                    .handle(endpoint(key), command, self.now, &mut self.bus_out);
            }
            for asked in std::mem::take(&mut self.out.questions) {
                let is_open = self.open_questions.iter().any(|open| open.key == asked.key);
                assert!(!is_open, "one question of a client at a time: {asked:?}");
                self.questions.push(asked.question.clone());
                match self.access.silent {
                    true => self.open_questions.push(asked),
                    false => self.decide(&asked),
                }
            }
            self.server.check();
            for (to, bytes) in self.out.take_datagrams() {
                let Destination::To(to) = to else {
                    panic!("to everybody")
                };
                self.sent.push_back((to, bytes));
            }
            let counts = &mut self.counts;
            self.out
                .counts
                .drain(|metric, n| *counts.entry(metric.name()).or_default() += n);
            self.out.counts.drain_own(|n, count| {
                let name = Lwm2mMetric::ALL[n].name();
                *counts.entry(name).or_default() += count;
            });
            self.denied.extend(self.out.denials.drain());
            self.bus_out.notices.clear();
            self.events.extend(self.bus_out.events.drain(..));
            if let Some((to, event)) = self.events.pop_front() {
                if to == BACKEND {
                    self.on_backend(event);
                } else {
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

    fn on_backend(&mut self, event: BusEvent) {
        match event {
            BusEvent::Accepted(token, outcome) => {
                self.accepted.insert(token.0, outcome);
            }
            BusEvent::Delivery(delivery) => {
                let topic = String::from_utf8_lossy(delivery.message.topic.as_bytes()).into_owned();
                let payload = &delivery.message.payload;
                // It hears itself, too.
                if !topic.contains("/dn") && !payload.is_empty() {
                    self.told
                        .push_back((topic, serde_json::from_slice(payload).unwrap()));
                }
                let settled = delivery.id.map(|id| BusCommand::Settle(id, Settlement::Done));
                for command in settled.into_iter().chain([BusCommand::credit(1)]) {
                    self.bus.handle(BACKEND, command, self.now, &mut self.bus_out);
                }
            }
            _ => {}
        }
    }

    fn verdict(&self, asked: &Asked<SocketAddr>) -> Answer {
        let allowed = |username: Option<Arc<str>>| Answer::Allowed {
            identity: Identity {
                username,
                policy: Arc::clone(&self.rules) as Arc<dyn AccessPolicy>,
            },
            data: None,
        };
        match (&asked.question, self.access.refusal) {
            (Question::Authorize(requests), _) => {
                let decision = match self.access.denies {
                    true => AccessDecision::Deny(Default::default()),
                    false => AccessDecision::Allow,
                };
                Answer::Authorized(requests.iter().map(|_| decision).collect())
            }
            (_, Some(refusal)) => Answer::Refused(refusal),
            (Question::Authenticate(_), None) => {
                let user = asked.at.and_then(|at| self.access.users.get(&at));
                allowed(user.map(|user| Arc::from(*user)))
            }
            (Question::Readmit(known), None) => allowed(known.owner.clone()),
            (Question::Continue(_) | Question::Reauthenticate(_) | Question::Identify, None) => {
                panic!("nobody asks so")
            }
        }
    }
}

/// Where a registration is: `rd/…`.
pub(crate) fn location(answer: &Message) -> String {
    let all = answer.options.all(number::LOCATION_PATH);
    let all: Vec<_> = all
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    assert_eq!((all.len(), all[0].as_str()), (2, "rd"));
    all.join("/")
}

pub(crate) fn block(message: &Message, number: u16) -> Option<Block> {
    Block::of(&message.options, number).map(|block| block.unwrap())
}

fn endpoint(key: SessionKey) -> EndpointId {
    EndpointId(1 << 63 | u64::from(key.generation) << 32 | u64::from(key.index))
}
