//! The bench: real endpoints, wire, bus and store logic, without sockets, on a virtual clock. Text goes in, frames come out.
//!
//! Everything happens in small steps: a command reaches the bus, an event an endpoint, a batch the disk. The power can be cut before each of them.

#![allow(dead_code, reason = "no test uses all of it")]

use bytes::{Bytes, BytesMut};
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_model::access::{AccessQuery, AuthRefusal, Credentials};
use headgate_model::{
    AccessDecision, AccessPolicy, Action, Answer, BusEvent, Endpoint, EndpointId, Identity, Input, Instant,
    Many, Message, MountPoint, Naming, Outputs, PeerFacts, Properties, Qos, Question, SessionKey, Store,
    Topic, WallTime, Wire,
};
use headgate_stomp::{Sent, StompEndpoint, StompMetric, StompSettings, StompWire};
use headgate_stomp_codec::{Command, Decoder, Frame, Limits, Version};
use headgate_store::{Disk, SimStore};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What clients may not do, or what must be asked for; everything else is allowed.
#[derive(Debug, Default)]
struct Rules(Mutex<Vec<(Action, String, AccessDecision)>>);

impl AccessPolicy for Rules {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        let rules = self.0.lock().unwrap();
        let mut rules = rules.iter();
        let rule =
            rules.find(|(action, topic, _)| *action == query.action && topic.as_bytes() == query.topic);
        rule.map_or(AccessDecision::Allow, |(_, _, decision)| *decision)
    }
}

/// One connection.
struct Client {
    endpoint: StompEndpoint,
    wire: StompWire,
    reading: BytesMut,
    out: Outputs<Sent, Many>,
    /// Sessions on the bus.
    sessions: BTreeMap<SessionKey, EndpointId>,
    events: VecDeque<(SessionKey, BusEvent)>,
    question: Option<Question>,
    decoder: Decoder,
    written: BytesMut,
    heard: Vec<Frame>,
    /// Name of the last MESSAGE with this body, for ACK.
    ids: BTreeMap<String, String>,
    beats: u64,
    closed: bool,
}

pub(crate) struct Bench {
    pub settings: StompSettings,
    mount: MountPoint,
    bus: Bus,
    bus_out: BusOutputs,
    store: SimStore,
    disk: Disk,
    epoch: WallTime,
    pub now: Instant,
    clients: BTreeMap<&'static str, Client>,
    next_endpoint: u64,
    rules: Arc<Rules>,
    /// The next client is not let in.
    pub refusal: Option<AuthRefusal>,
    pub credentials: Vec<Credentials>,
    /// Nothing is committed meanwhile.
    pub withheld: bool,
    /// Questions wait for [`Bench::answer`].
    pub questions_wait: bool,
    /// Clients that connect from now on do so by SockJS.
    pub carries_text_only: bool,
    /// Of their listener.
    pub default_qos: Option<Qos>,
    /// Steps until the power is cut.
    pub power: usize,
    pub steps: usize,
    pub counts: BTreeMap<&'static str, u32>,
    /// What all protocols count.
    pub metrics: BTreeMap<String, u32>,
}

const LIMITS: Limits = Limits {
    headers: 1_000,
    line_bytes: 100_000,
    head_bytes: 1_000_000,
    body_bytes: 10_000_000,
};

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut StompSettings)) -> Self {
        let mut settings = StompSettings::default();
        change(&mut settings);
        assert_eq!(settings.faults(), []);
        Self::start(
            settings,
            MountPoint::default(),
            Disk::default(),
            WallTime(1_700_000_000_000),
        )
    }

    pub(crate) fn mounted(at: &str) -> Self {
        let mount = MountPoint::parse(at).unwrap();
        Self::start(
            StompSettings::default(),
            mount,
            Disk::default(),
            WallTime(1_700_000_000_000),
        )
    }

    fn start(settings: StompSettings, mount: MountPoint, disk: Disk, epoch: WallTime) -> Self {
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(BusSettings::default(), epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        let mut bench = Self {
            settings,
            mount,
            bus,
            bus_out: BusOutputs::default(),
            store,
            disk,
            epoch,
            now: Instant::START,
            clients: BTreeMap::new(),
            next_endpoint: 1_000,
            rules: Arc::default(),
            refusal: None,
            credentials: Vec::new(),
            withheld: false,
            questions_wait: false,
            carries_text_only: false,
            default_qos: None,
            power: usize::MAX,
            steps: 0,
            counts: BTreeMap::new(),
            metrics: BTreeMap::new(),
        };
        bench.run();
        bench
    }

    /// The power comes back, at once.
    pub(crate) fn restart(&mut self) {
        let epoch = WallTime::of(self.now, self.epoch);
        *self = Self::start(
            self.settings.clone(),
            self.mount.clone(),
            self.disk.clone(),
            epoch,
        );
    }

    /// What the client may not do, or must be asked about.
    pub(crate) fn rule(&self, action: Action, topic: &str, decision: AccessDecision) {
        self.rules
            .0
            .lock()
            .unwrap()
            .push((action, topic.to_owned(), decision));
    }

    /// Somebody connects, and says nothing yet.
    pub(crate) fn open(&mut self, client: &'static str) {
        let settings = Arc::new(self.settings.clone());
        let facts = PeerFacts {
            naming: Arc::new(Naming {
                mount: self.mount.clone(),
                ..Naming::default()
            }),
            nonce: self.next_endpoint.into(),
            carries_text_only: self.carries_text_only,
            default_qos: self.default_qos,
            ..PeerFacts::default()
        };
        let opened = Client {
            endpoint: StompEndpoint::new(Arc::clone(&settings), facts, self.now),
            wire: StompWire::new(settings),
            reading: BytesMut::new(),
            out: Outputs::default(),
            sessions: BTreeMap::new(),
            events: VecDeque::new(),
            question: None,
            decoder: Decoder::new(LIMITS),
            written: BytesMut::new(),
            heard: Vec::new(),
            ids: BTreeMap::new(),
            beats: 0,
            closed: false,
        };
        self.clients.insert(client, opened);
    }

    /// A client of version 1.2 with a client id.
    pub(crate) fn connect(&mut self, client: &'static str) {
        self.connect_as(client, &format!("accept-version:1.2\nhost:h\nclient-id:{client}"));
    }

    /// A client that says this in CONNECT, and is let in.
    #[track_caller]
    pub(crate) fn connect_as(&mut self, client: &'static str, headers: &str) {
        self.open(client);
        self.send(client, &format!("CONNECT\n{headers}\n\n"));
        if self.is_on() {
            let heard = self.heard(client);
            assert!(heard.len() == 1 && heard[0].starts_with("CONNECTED"), "{heard:?}");
        }
    }

    /// The client sends a frame; NUL is added.
    pub(crate) fn send(&mut self, client: &str, frame: &str) {
        self.raw(client, format!("{frame}\0").as_bytes());
    }

    /// Bytes come from the client.
    pub(crate) fn raw(&mut self, client: &str, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(client).filter(|client| !client.closed) {
            client.reading.extend_from_slice(bytes);
        }
        self.run();
    }

    /// Sends a frame, and what follows is this.
    #[track_caller]
    pub(crate) fn exchange(&mut self, client: &str, frame: &str, answers: &[&str]) {
        self.send(client, frame);
        assert_eq!(self.heard(client), answers);
    }

    /// Subscribes with these headers.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, client: &str, headers: &str) {
        self.send(client, &format!("SUBSCRIBE\n{headers}\nreceipt:sub\n\n"));
        if self.is_on() {
            let at = self
                .client(client)
                .heard
                .iter()
                .position(|frame| frame.command == Command::Receipt);
            let client = self.clients.get_mut(client).expect("it is there");
            let frame = client.heard.remove(at.expect("it is subscribed"));
            assert_eq!(frame.get("receipt-id"), Some("sub"));
        }
    }

    /// The last MESSAGE with this body is acknowledged.
    pub(crate) fn ack(&mut self, client: &str, body: &str) {
        self.ack_with(client, "ACK", body, "");
    }

    pub(crate) fn nack(&mut self, client: &str, body: &str) {
        self.ack_with(client, "NACK", body, "");
    }

    /// The same with other headers, each with its line end.
    pub(crate) fn ack_with(&mut self, client: &str, command: &str, body: &str, headers: &str) {
        let id = self.id(client, body);
        self.send(client, &format!("{command}\nid:{id}\n{headers}\n"));
    }

    /// What the last MESSAGE with this body is called.
    #[track_caller]
    pub(crate) fn id(&self, client: &str, body: &str) -> String {
        self.client(client)
            .ids
            .get(body)
            .expect("it was delivered")
            .clone()
    }

    /// Frames since the last look.
    pub(crate) fn frames(&mut self, client: &str) -> Vec<Frame> {
        self.clients
            .get_mut(client)
            .map_or(Vec::new(), |client| std::mem::take(&mut client.heard))
    }

    /// The same, in short.
    pub(crate) fn heard(&mut self, client: &str) -> Vec<String> {
        self.frames(client).iter().map(brief).collect()
    }

    /// Heart-beats since the beginning.
    pub(crate) fn beats(&self, client: &str) -> u64 {
        self.client(client).beats
    }

    pub(crate) fn is_closed(&self, client: &str) -> bool {
        self.client(client).closed
    }

    /// The link of the client breaks.
    pub(crate) fn lose(&mut self, client: &'static str) {
        self.step_client(client, Input::Closed);
        self.run();
    }

    pub(crate) fn shut_down(&mut self, client: &'static str) {
        self.step_client(client, Input::Shutdown);
        self.run();
    }

    pub(crate) fn kick(&mut self, client_id: &str) {
        self.bus.kick(client_id, self.now, &mut self.bus_out);
        self.run();
    }

    /// The question of a client is answered.
    pub(crate) fn answer(&mut self, client: &'static str, decision: AccessDecision) {
        let question = self
            .clients
            .get_mut(client)
            .and_then(|client| client.question.take());
        assert!(matches!(question, Some(Question::Authorize(_))), "{question:?}");
        self.step_client(client, Input::Answer(Answer::Authorized(vec![decision])));
        self.run();
    }

    /// Another client, of MQTT, publishes.
    pub(crate) fn deliver(&mut self, topic: &str, payload: &'static str, qos: Qos) {
        self.deliver_with(topic, payload, qos, |_| {});
    }

    pub(crate) fn deliver_with(
        &mut self,
        topic: &str,
        payload: &'static str,
        qos: Qos,
        change: impl FnOnce(&mut Message),
    ) {
        let mut message = Message {
            qos,
            ..Message::new(Topic::try_from(topic).unwrap(), payload)
        };
        change(&mut message);
        self.bus.publish(message, self.now, &mut self.bus_out);
        self.run();
    }

    /// Messages that wait for a client.
    pub(crate) fn queued(&self, client_id: &str) -> usize {
        let session = self.bus.session_info(client_id);
        session.map_or(0, |session| session.client.queued + session.client.inflight)
    }

    pub(crate) fn has_session(&self, client_id: &str) -> bool {
        self.bus.session_info(client_id).is_some()
    }

    /// Lets time pass; everything that is due on the way happens at its time.
    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let clients = self.clients.iter().filter(|(_, client)| !client.closed);
            let due = clients.filter_map(|(name, client)| Some((client.endpoint.deadline()?, Some(*name))));
            let next = due.chain(self.bus.deadline().map(|at| (at, None))).min();
            let Some((at, whose)) = next.filter(|(at, _)| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            match whose {
                Some(client) => self.step_client(client, Input::Timeout),
                None => self.bus.handle_timeout(self.now, &mut self.bus_out),
            }
            self.run();
        }
        self.now = until;
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    pub(crate) fn is_on(&self) -> bool {
        self.power > 0
    }

    fn client(&self, name: &str) -> &Client {
        &self.clients[name]
    }

    /// Does all that there is to do, a step at a time.
    fn run(&mut self) {
        while self.is_on() && self.step() {
            self.steps += 1;
            self.power = self.power.saturating_sub(1);
        }
    }

    /// Does one thing, if there is any.
    fn step(&mut self) -> bool {
        self.hand_out_events();
        let names: Vec<_> = self.clients.keys().copied().collect();
        names.iter().any(|name| self.step_of(name)) || self.commit()
    }

    fn hand_out_events(&mut self) {
        for (to, event) in std::mem::take(&mut self.bus_out.events) {
            for client in self.clients.values_mut() {
                let key = client.sessions.iter().find(|(_, endpoint)| **endpoint == to);
                if let Some((key, _)) = key {
                    client.events.push_back((*key, event));
                    break;
                }
            }
        }
    }

    fn step_of(&mut self, name: &'static str) -> bool {
        let client = self.clients.get_mut(name).expect("it is there");
        if !client.out.bus.is_empty() {
            let (key, command) = client.out.bus.remove(0);
            if matches!(command, headgate_model::BusCommand::Open(_)) {
                self.next_endpoint += 1;
                client.sessions.insert(key, EndpointId(self.next_endpoint));
            }
            let endpoint = client.sessions[&key];
            self.bus.handle(endpoint, command, self.now, &mut self.bus_out);
            self.bus.check_gauges();
            return true;
        }
        if let Some(question) = client.out.question.take() {
            client.question = Some(question);
            return true;
        }
        if !self.questions_wait && client.question.is_some() {
            let question = client.question.take();
            let answer = self.answer_to(question);
            self.step_client(name, Input::Answer(answer));
            return true;
        }
        if client.closed {
            return false;
        }
        if client.endpoint.ready()
            && let Some(frame) = client.wire.decode(&mut client.reading)
        {
            self.step_client(name, Input::Frame(frame));
            return true;
        }
        if let Some(event) = client.events.pop_front() {
            self.step_client(name, Input::Bus(event));
            return true;
        }
        false
    }

    fn answer_to(&mut self, question: Option<Question>) -> Answer {
        match question {
            Some(Question::Authenticate(credentials)) => {
                let username = credentials.username.clone();
                self.credentials.push(*credentials);
                match self.refusal.take() {
                    Some(why) => Answer::Refused(why),
                    None => Answer::Allowed {
                        identity: Identity {
                            username,
                            policy: Arc::clone(&self.rules) as Arc<dyn AccessPolicy>,
                        },
                        data: None,
                    },
                }
            }
            Some(Question::Authorize(requests)) => {
                Answer::Authorized(vec![AccessDecision::Allow; requests.len()])
            }
            other => panic!("{other:?}"),
        }
    }

    fn step_client(&mut self, name: &'static str, input: Input<headgate_stomp::Received, Many>) {
        let client = self.clients.get_mut(name).expect("it is there");
        client.endpoint.handle(input, self.now, &mut client.out);
        for frame in client.out.frames.drain(..) {
            client.wire.encode(frame, &mut client.written);
        }
        client.read_written();
        client.closed |= client.out.close;
        let mut counted = Vec::new();
        client.out.counts.drain_own(|number, n| counted.push((number, n)));
        let metrics = &mut self.metrics;
        client.out.counts.drain(|metric, n| {
            *metrics.entry(format!("{metric:?}")).or_default() += n;
        });
        for (number, n) in counted {
            *self.counts.entry(StompMetric::ALL[number].name()).or_default() += n;
        }
    }

    fn commit(&mut self) -> bool {
        if self.withheld || self.bus.commit_due().is_none() {
            return false;
        }
        let fetches = self.bus.take_fetches();
        if let Some((number, ops)) = self.bus.take_batch() {
            self.store.commit(&ops).expect("memory can be written");
            self.bus.committed(number, self.now, &mut self.bus_out);
        }
        for request in fetches {
            let found = self
                .store
                .fetch(request.session, request.lane, request.from, request.limit);
            let found = found.expect("memory can be read");
            self.bus.fetched(request, found, self.now, &mut self.bus_out);
        }
        true
    }
}

impl Client {
    fn read_written(&mut self) {
        while let Some(frame) = self
            .decoder
            .decode(&mut self.written)
            .expect("we write good frames")
        {
            match frame.command {
                Command::Connected => self.decoder.set_version(version_of(&frame)),
                Command::Message => {
                    let body = String::from_utf8_lossy(&frame.body).into_owned();
                    let id = frame.get("ack").or(frame.get("message-id")).unwrap_or_default();
                    self.ids.insert(body, id.to_owned());
                }
                _ => {}
            }
            self.heard.push(frame);
        }
        self.beats = self.decoder.heart_beats();
    }
}

fn version_of(connected: &Frame) -> Version {
    connected
        .get("version")
        .and_then(Version::highest_of)
        .unwrap_or(Version::V10)
}

/// A frame in a line.
fn brief(frame: &Frame) -> String {
    let say = |name| frame.get(name).unwrap_or("-");
    let flag = |name, word| if frame.get(name) == Some("true") { word } else { "" };
    let body = String::from_utf8_lossy(&frame.body);
    match frame.command {
        Command::Message => format!(
            "MESSAGE {} {} {body}{}{}",
            say("subscription"),
            say("destination"),
            flag("retain", " retained"),
            flag("redelivered", " redelivered")
        ),
        Command::Receipt => format!("RECEIPT {}", say("receipt-id")),
        Command::Error => match frame.get("receipt-id") {
            Some(receipt) => format!("ERROR {receipt}: {}", say("message")),
            None => format!("ERROR {}", say("message")),
        },
        Command::Connected => format!("CONNECTED {}", say("version")),
        other => format!("{other:?}"),
    }
}

/// Properties as an MQTT 5 client sends them.
pub(crate) fn properties(pairs: &[(&'static str, &'static str)]) -> Option<Box<Properties>> {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let user_properties = pairs
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect();
    Some(Box::new(Properties {
        user_properties,
        ..Properties::default()
    }))
}
