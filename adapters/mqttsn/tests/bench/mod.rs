//! The bench: the real gateway, bus and store logic, without sockets, on a virtual clock. Datagrams go in, messages come out.
//!
//! What is to be committed is committed at once, unless it is withheld. Questions are answered at once, unless they are to wait.

#![allow(dead_code, reason = "no test uses all of it")]

use bytes::{Bytes, BytesMut};
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_model::access::{AccessQuery, AuthRefusal, Credentials, Denial};
use headgate_model::bus::Presence;
use headgate_model::{
    AccessDecision, AccessPolicy, Action, Admitted, Answer, Asked, BusCommand, BusEvent, CloseReason,
    Counter, DatagramServer, Destination, EndpointId, Entrant, Identity, Instant, Message as BusMessage,
    MountPoint, Naming, Open, Qos as BusQos, Question, SessionKey, Settlement, Store, Subscription,
    SubscriptionOptions, Topic, WallTime,
};
use headgate_mqttsn::{SnGateway, SnMetric, SnOutputs, SnSettings};
use headgate_mqttsn_codec::{
    Connect, Encapsulation, Message, Publish, Qos, RegAck, Register, ReturnCode, SubAck, Subscribe,
    TopicName, TopicRef, WillTopic, decode, encode, encode_wrapped, unwrap_datagram,
};
use headgate_store::{Disk, SimStore};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where a device is: a number, and perhaps a wireless node behind a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(pub u8, pub Option<&'static [u8]>);

/// The device of most tests, and others.
pub(crate) const DEVICE: At = At(1, None);
pub(crate) const OTHER: At = At(2, None);

const WATCHER: EndpointId = EndpointId(1);

/// What clients may not do, or what must be asked for; everything else is allowed.
#[derive(Debug, Default)]
struct Rules(Mutex<Vec<(Action, String, AccessDecision)>>);

impl AccessPolicy for Rules {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        let rules = self.0.lock().unwrap();
        rules
            .iter()
            .find(|(action, topic, _)| *action == query.action && topic.as_bytes() == query.topic)
            .map_or(AccessDecision::Allow, |(_, _, decision)| *decision)
    }
}

pub(crate) struct Bench {
    pub settings: SnSettings,
    bus_settings: BusSettings,
    mount: MountPoint,
    pub gateway: SnGateway<SocketAddr>,
    out: SnOutputs<SocketAddr>,
    /// What was denied, and was not looked at yet.
    pub denied: Vec<Denial>,
    disk: Disk,
    store: SimStore,
    pub bus: Bus,
    bus_out: BusOutputs,
    pub now: Instant,
    epoch: WallTime,
    /// Endpoints by the key that opened them.
    endpoints: BTreeMap<SessionKey, EndpointId>,
    next_endpoint: u64,
    sent: Vec<(Destination<SocketAddr>, Bytes)>,
    rules: Arc<Rules>,
    /// By which name everybody is let in.
    pub user: Option<Arc<str>>,
    pub refusal: Option<AuthRefusal>,
    /// Questions wait for [`Bench::answer`].
    pub questions_wait: bool,
    questions: VecDeque<(SessionKey, Question)>,
    /// What was shown to the access service.
    pub credentials: Vec<Credentials>,
    pub withheld: bool,
    watched: Vec<String>,
    pub counts: BTreeMap<&'static str, u32>,
    /// Why endpoints left.
    pub closed: Vec<CloseReason>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut SnSettings)) -> Self {
        let mut settings = SnSettings {
            advertise_interval: Duration::ZERO,
            ..SnSettings::default()
        };
        change(&mut settings);
        Self::start(
            settings,
            MountPoint::default(),
            Disk::default(),
            WallTime(1_700_000_000_000),
        )
    }

    pub(crate) fn mounted(at: &str) -> Self {
        let bench = Self::new();
        Self::start(
            bench.settings,
            MountPoint::parse(at).unwrap(),
            Disk::default(),
            bench.epoch,
        )
    }

    fn start(settings: SnSettings, mount: MountPoint, disk: Disk, epoch: WallTime) -> Self {
        let bus_settings = BusSettings::default();
        let mut store = SimStore::open(&disk);
        let mut bus = Bus::new(bus_settings.clone(), epoch, 1).unwrap();
        bus.load(store.load().unwrap());
        let naming = Naming {
            mount: mount.clone(),
            ..Naming::default()
        };
        let mut gateway = SnGateway::new(settings.clone(), Arc::new(naming), Instant::START).unwrap();
        gateway.start_ids_at(1);
        let mut bench = Self {
            settings,
            bus_settings,
            mount,
            gateway,
            out: SnOutputs::default(),
            denied: Vec::new(),
            disk,
            store,
            bus,
            bus_out: BusOutputs::default(),
            now: Instant::START,
            epoch,
            endpoints: BTreeMap::new(),
            next_endpoint: 100,
            sent: Vec::new(),
            rules: Arc::default(),
            user: None,
            refusal: None,
            questions_wait: false,
            questions: VecDeque::new(),
            credentials: Vec::new(),
            withheld: false,
            watched: Vec::new(),
            counts: BTreeMap::new(),
            closed: Vec::new(),
        };
        bench.run();
        bench
    }

    /// The power is cut and comes back after `off_s` seconds.
    pub(crate) fn crash(&mut self, off_s: u64) {
        let epoch = WallTime::of(self.now + Duration::from_secs(off_s), self.epoch);
        let (settings, mount, disk) = (self.settings.clone(), self.mount.clone(), self.disk.clone());
        *self = Self::start(settings, mount, disk, epoch);
    }

    /// Bytes come from a device.
    pub(crate) fn raw(&mut self, from: At, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.gateway
            .handle_datagram(address(from), bytes, self.now, &mut self.out);
        self.run();
    }

    /// A device sends a message.
    pub(crate) fn send(&mut self, from: At, message: Message) {
        let bytes = datagram(from, &message);
        self.raw(from, &bytes);
    }

    /// What a device was sent since the last look.
    pub(crate) fn sent(&mut self, to: At) -> Vec<Message> {
        self.datagrams(to)
            .iter()
            .map(|(_, message)| message.clone())
            .collect()
    }

    /// The same with the size of each datagram.
    pub(crate) fn datagrams(&mut self, to: At) -> Vec<(usize, Message)> {
        let mut found = Vec::new();
        self.sent.retain(|(destination, bytes)| {
            if *destination != Destination::To(address(to)) {
                return true;
            }
            let (layer, inner) = unwrap_datagram(bytes).unwrap();
            if layer.map(|layer| layer.node).as_deref() != to.1 {
                return true;
            }
            found.push((bytes.len(), decode(&inner).unwrap()));
            false
        });
        found
    }

    /// Broadcasts since the last look.
    pub(crate) fn broadcasts(&mut self) -> Vec<Message> {
        let (broadcasts, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(to, _)| *to == Destination::Broadcast);
        self.sent = others;
        broadcasts
            .iter()
            .map(|(_, bytes)| decode(bytes).unwrap())
            .collect()
    }

    /// A device sends a message and gets these answers.
    #[track_caller]
    pub(crate) fn exchange(&mut self, from: At, message: Message, answers: &[Message]) {
        self.send(from, message);
        assert_eq!(self.sent(from), answers);
    }

    /// Lets seconds pass; everything that is due on the way happens at its time.
    pub(crate) fn advance(&mut self, seconds: u64) {
        self.advance_ms(seconds * 1_000);
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        loop {
            let next = self
                .gateway
                .deadline()
                .into_iter()
                .chain(self.bus.deadline())
                .min();
            let Some(at) = next.filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            self.gateway.handle_timeout(self.now, &mut self.out);
            self.bus.handle_timeout(self.now, &mut self.bus_out);
            self.run();
        }
        self.now = until;
    }

    /// A client with a clean session, keep alive 60 s.
    #[track_caller]
    pub(crate) fn connected(&mut self, from: At, id: &str) {
        self.exchange(from, connect(id), &[CONNACK]);
    }

    /// A client with a session that it keeps.
    #[track_caller]
    pub(crate) fn connected_durably(&mut self, from: At, id: &str) {
        self.exchange(from, durable(id), &[CONNACK]);
    }

    #[track_caller]
    pub(crate) fn registered(&mut self, from: At, topic: &str) -> u16 {
        self.send(from, register(topic, 1));
        match self.sent(from)[..] {
            [
                Message::RegAck(RegAck {
                    topic_id,
                    code: ReturnCode::Accepted,
                    ..
                }),
            ] => topic_id,
            ref other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn subscribed(&mut self, from: At, filter: &str, qos: Qos) -> u16 {
        self.send(from, subscribe(filter, qos, 2));
        match self.sent(from)[..] {
            [
                Message::SubAck(SubAck {
                    topic_id,
                    code: ReturnCode::Accepted,
                    ..
                }),
                ..,
            ] => topic_id,
            ref other => panic!("{other:?}"),
        }
    }

    /// The gateway itself publishes, as any other client would.
    pub(crate) fn deliver(&mut self, topic: &str, payload: &'static str, qos: BusQos) {
        self.deliver_as(topic, payload, qos, false);
    }

    pub(crate) fn deliver_as(&mut self, topic: &str, payload: &'static str, qos: BusQos, retain: bool) {
        let message = BusMessage {
            qos,
            retain,
            ..BusMessage::new(Topic::try_from(topic).unwrap(), payload)
        };
        self.bus.publish(message, self.now, &mut self.bus_out);
        self.run();
    }

    /// Somebody who watches, with a session that outlives crashes.
    pub(crate) fn watch(&mut self, filter: &'static str) {
        self.watch_as("watcher", None, filter);
    }

    /// The same, with this client id and as this user.
    pub(crate) fn watch_as(&mut self, client_id: &str, username: Option<&str>, filter: &'static str) {
        let presence = Presence {
            username: username.map(Into::into),
            ..Presence::default()
        };
        let open = Open {
            client: Entrant::of_gateway(client_id.into(), presence),
            clean_start: false,
            expiry: Duration::from_secs(1_000_000),
            will: None.into(),
            receive_maximum: 100,
            credit: u32::MAX,
            forgeable: false,
            wants_expired: false,
            link: None,
        };
        let options = SubscriptionOptions {
            qos: BusQos::ExactlyOnce,
            ..SubscriptionOptions::default()
        };
        let filter = Bytes::from_static(filter.as_bytes());
        let subscription = Subscription::parse(&filter, options, &MountPoint::default()).unwrap();
        let commands = [
            BusCommand::Open(Box::new(open)),
            BusCommand::Subscribe {
                token: headgate_model::AckToken(0),
                subscriptions: vec![Admitted::of_gateway(subscription)],
            },
        ];
        for command in commands {
            self.bus.handle(WATCHER, command, self.now, &mut self.bus_out);
            self.run();
        }
    }

    /// What the watcher got since the last look, as `topic=payload`.
    pub(crate) fn watched(&mut self) -> Vec<String> {
        std::mem::take(&mut self.watched)
    }

    /// What clients may do from now on.
    pub(crate) fn rule(&mut self, action: Action, topic: &str, decision: AccessDecision) {
        self.rules
            .0
            .lock()
            .unwrap()
            .insert(0, (action, topic.to_owned(), decision));
    }

    /// Answers the oldest question.
    pub(crate) fn answer(&mut self, answer: Answer) {
        let (key, _) = self.questions.pop_front().expect("a question");
        self.gateway.handle_answer(key, answer, self.now, &mut self.out);
        self.run();
    }

    /// Answers the oldest question, if there is one.
    pub(crate) fn answer_if_asked(&mut self, answer: Answer) {
        if !self.questions.is_empty() {
            self.answer(answer);
        }
    }

    pub(crate) fn allowed(&self) -> Answer {
        Answer::Allowed {
            identity: Identity {
                username: self.user.clone(),
                policy: Arc::clone(&self.rules) as Arc<dyn AccessPolicy>,
            },
            data: None,
        }
    }

    pub(crate) fn counted<C: Counter>(&self, counter: C) -> u32 {
        self.counts.get(C::NAMES[counter.number()]).copied().unwrap_or(0)
    }

    pub(crate) fn break_disk(&mut self, broken: bool) {
        self.disk.set_failing(broken);
    }

    pub(crate) fn kick(&mut self, id: &str) {
        self.bus.kick(id, self.now, &mut self.bus_out);
        self.run();
    }

    /// Makes durable what waits, and goes on.
    pub(crate) fn commit(&mut self) {
        self.work_for_disk();
        self.run();
    }

    /// Nothing is withheld from the disk any more.
    pub(crate) fn release_disk(&mut self) {
        self.withheld = false;
        self.run();
    }

    /// Endpoints that are open on the bus, the watcher not counted.
    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// Until nothing more follows.
    pub(crate) fn run(&mut self) {
        loop {
            let mut busy = false;
            self.sent.extend(self.out.take_datagrams());
            self.denied.extend(self.out.denials.drain());
            let counts = &mut self.counts;
            self.out
                .counts
                .drain(|metric, n| *counts.entry(metric.name()).or_default() += n);
            let own = &mut self.out.counts;
            own.drain_own(|number, n| *counts.entry(SnMetric::NAMES[number]).or_default() += n);
            for Asked { key, question, .. } in std::mem::take(&mut self.out.questions) {
                busy = true;
                if let Question::Authenticate(credentials) = &question {
                    self.credentials.push((**credentials).clone());
                }
                self.questions.push_back((key, question));
            }
            for (key, command) in std::mem::take(&mut self.out.bus) {
                busy = true;
                self.command(key, command);
            }
            for (to, event) in std::mem::take(&mut self.bus_out.events) {
                busy = true;
                self.event(to, event);
            }
            self.bus_out.notices.clear();
            if !self.questions_wait {
                while let Some((key, question)) = self.questions.pop_front() {
                    busy = true;
                    let answer = match (question, self.refusal) {
                        (Question::Authenticate(_), Some(why)) => Answer::Refused(why),
                        (Question::Authenticate(_), None) => self.allowed(),
                        (Question::Authorize(requests), _) => {
                            Answer::Authorized(vec![AccessDecision::Allow; requests.len()])
                        }
                        (other, _) => panic!("{other:?}"),
                    };
                    self.gateway.handle_answer(key, answer, self.now, &mut self.out);
                }
            }
            if !busy && !self.withheld {
                busy = self.work_for_disk();
            }
            if !busy {
                return;
            }
        }
    }

    fn command(&mut self, key: SessionKey, command: BusCommand) {
        if matches!(command, BusCommand::Open(_)) {
            let earlier = self.endpoints.insert(key, EndpointId(self.next_endpoint));
            assert_eq!(earlier, None, "an endpoint opens once");
            self.next_endpoint += 1;
        }
        let endpoint = *self.endpoints.get(&key).expect("Open comes first");
        if let BusCommand::Close { reason, .. } = command {
            self.closed.push(reason);
            self.endpoints.remove(&key);
        }
        self.bus.handle(endpoint, command, self.now, &mut self.bus_out);
    }

    fn event(&mut self, to: EndpointId, event: BusEvent) {
        if to == WATCHER {
            if let BusEvent::Delivery(delivery) = event {
                let payload = String::from_utf8_lossy(&delivery.message.payload).into_owned();
                self.watched.push(format!("{}={payload}", delivery.message.topic));
                if let Some(id) = delivery.id {
                    let settle = BusCommand::Settle(id, Settlement::Done);
                    self.bus.handle(WATCHER, settle, self.now, &mut self.bus_out);
                }
            }
            return;
        }
        // Not even events for those that have gone do harm; half of the tests see some.
        let key = self.endpoints.iter().find(|(_, endpoint)| **endpoint == to);
        if let Some((key, _)) = key {
            let key = *key;
            self.gateway.handle_bus(key, event, self.now, &mut self.out);
        }
    }

    fn work_for_disk(&mut self) -> bool {
        let busy = self.bus.commit_due().is_some();
        let fetches = self.bus.take_fetches();
        if let Some((number, ops)) = self.bus.take_batch() {
            match self.store.commit(&ops) {
                Ok(()) => self.bus.committed(number, self.now, &mut self.bus_out),
                Err(_) => self.bus.commit_failed(number, self.now, &mut self.bus_out),
            }
        }
        for request in fetches {
            let found = self
                .store
                .fetch(request.session, request.lane, request.from, request.limit)
                .unwrap();
            self.bus.fetched(request, found, self.now, &mut self.bus_out);
        }
        busy
    }
}

fn address(at: At) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, at.0), 1_000).into()
}

/// A message on its way from a device.
pub(crate) fn datagram(from: At, message: &Message) -> Bytes {
    let mut bytes = BytesMut::new();
    match from.1 {
        None => encode(message, &mut bytes).unwrap(),
        Some(node) => {
            let layer = Encapsulation {
                radius: 0,
                node: Bytes::from_static(node),
            };
            encode_wrapped(&layer, message, &mut bytes).unwrap();
        }
    }
    bytes.freeze()
}

pub(crate) const CONNACK: Message = Message::ConnAck(ReturnCode::Accepted);
pub(crate) const DISCONNECT: Message = Message::Disconnect(None);
pub(crate) const NOTHING: [Message; 0] = [];
pub(crate) const UNHEARD: [&str; 0] = [];

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn connect_as(id: &str, clean_session: bool, will: bool, duration: u16) -> Message {
    Message::Connect(Connect {
        will,
        clean_session,
        protocol_id: 1,
        duration,
        client_id: text(id),
    })
}

pub(crate) fn connect(id: &str) -> Message {
    connect_as(id, true, false, 60)
}

pub(crate) fn durable(id: &str) -> Message {
    connect_as(id, false, false, 60)
}

pub(crate) fn will_topic(topic: &str) -> Message {
    Message::WillTopic(Some(a_will(topic)))
}

pub(crate) fn a_will(topic: &str) -> WillTopic {
    WillTopic {
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: text(topic),
    }
}

pub(crate) fn will_msg(payload: &str) -> Message {
    Message::WillMsg(text(payload))
}

pub(crate) fn register(topic: &str, msg_id: u16) -> Message {
    Message::Register(Register {
        topic_id: 0,
        msg_id,
        topic: text(topic),
    })
}

/// The gateway tells a client of an id.
pub(crate) fn register_id(topic: &str, topic_id: u16, msg_id: u16) -> Message {
    Message::Register(Register {
        topic_id,
        msg_id,
        topic: text(topic),
    })
}

pub(crate) fn regack(topic_id: u16, msg_id: u16, code: ReturnCode) -> Message {
    Message::RegAck(RegAck {
        topic_id,
        msg_id,
        code,
    })
}

pub(crate) fn puback(topic_id: u16, msg_id: u16, code: ReturnCode) -> Message {
    Message::PubAck(RegAck {
        topic_id,
        msg_id,
        code,
    })
}

pub(crate) fn subscribe(filter: &str, qos: Qos, msg_id: u16) -> Message {
    Message::Subscribe(Subscribe {
        dup: false,
        qos,
        msg_id,
        topic: TopicName::Name(text(filter)),
    })
}

pub(crate) fn suback(qos: Qos, topic_id: u16, msg_id: u16, code: ReturnCode) -> Message {
    Message::SubAck(SubAck {
        qos,
        topic_id,
        msg_id,
        code,
    })
}

pub(crate) fn publish(topic: TopicRef, qos: Qos, msg_id: u16, payload: &str) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        msg_id,
        data: text(payload),
    }
}

/// PUBLISH to a registered topic id.
pub(crate) fn publish_to(topic_id: u16, qos: Qos, msg_id: u16, payload: &str) -> Message {
    Message::Publish(publish(TopicRef::Normal(topic_id), qos, msg_id, payload))
}

pub(crate) fn dup(message: Message) -> Message {
    match message {
        Message::Publish(publish) => Message::Publish(Publish { dup: true, ..publish }),
        other => panic!("{other:?} has no DUP"),
    }
}

pub(crate) fn ping(id: &str) -> Message {
    Message::PingReq(Some(text(id)))
}
