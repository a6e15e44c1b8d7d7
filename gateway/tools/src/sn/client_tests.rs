//! [`SnClient`] against a real gateway, on a pretended clock and links that lose, double and delay.

use super::*;
use bytes::BytesMut;
use fastrand::Rng;
use headgate_model::Qos as BusQos;
use headgate_mqttsn_codec::{decode, encode};
use headgate_tests::sn_testbed::{Testbed, settings};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// One client, one gateway, and the way between them.
struct World {
    now: Instant,
    rng: Rng,
    /// In percent; a third as many datagrams come twice.
    loss: u8,
    client: SnClient,
    out: Outputs,
    gateway: Testbed,
    way: BinaryHeap<Reverse<(Instant, u64, ToClient, Bytes)>>,
    next: u64,
    /// All that the client said.
    said: Vec<Message>,
    events: Vec<Event>,
}

type ToClient = bool;

const T_RETRY: Duration = Duration::from_secs(10);

fn client_settings() -> ClientSettings {
    ClientSettings {
        client_id: "tester".into(),
        keep_alive: 60,
        clean: true,
        will: None,
        retry_interval: T_RETRY,
        retries: 5,
    }
}

fn here() -> SocketAddr {
    "127.0.0.1:5000".parse().unwrap()
}

fn name(text: &'static str) -> TopicName {
    TopicName::Name(Bytes::from_static(text.as_bytes()))
}

fn message(topic: TopicName, qos: Qos, payload: &'static str) -> Request {
    Request::Publish(Outgoing {
        topic,
        qos,
        retain: false,
        payload: payload.into(),
    })
}

impl World {
    fn new(settings: ClientSettings) -> Self {
        Self {
            now: Instant::START,
            rng: Rng::with_seed(1),
            loss: 0,
            client: SnClient::new(settings),
            out: Outputs::default(),
            gateway: Testbed::new(headgate_tests::sn_testbed::settings()),
            way: BinaryHeap::new(),
            next: 0,
            said: Vec::new(),
            events: Vec::new(),
        }
    }

    fn connected() -> Self {
        let mut world = Self::new(client_settings());
        assert_eq!(world.ask(Request::Connect), [Event::Connected]);
        world.said.clear();
        world
    }

    /// Asks, and lets five minutes pass or as much as it takes; what happened.
    fn ask(&mut self, request: Request) -> Vec<Event> {
        self.client.request(request, self.now, &mut self.out);
        self.run_until(self.now + Duration::from_secs(300), true)
    }

    fn pass(&mut self, time: Duration) -> Vec<Event> {
        self.run_until(self.now + time, false)
    }

    /// Until then, or until nothing is under way.
    fn run_until(&mut self, end: Instant, or_idle: bool) -> Vec<Event> {
        loop {
            self.carry();
            let way = self.way.peek().map(|Reverse((at, ..))| *at);
            if or_idle && way.is_none() && self.client.doing.is_none() {
                break;
            }
            let (client, gateway) = (self.client.deadline(), self.gateway.deadline());
            let first = [way, client, gateway].into_iter().flatten().min();
            let Some(at) = first.filter(|at| *at <= end) else {
                self.now = end;
                break;
            };
            self.now = self.now.max(at);
            if way == Some(at) {
                let Reverse((_, _, to_client, bytes)) = self.way.pop().unwrap();
                if to_client {
                    let message = decode(&bytes).unwrap();
                    self.client.handle(message, self.now, &mut self.out);
                } else {
                    self.gateway.datagram(here(), bytes, self.now);
                }
            } else if client == Some(at) {
                self.client.handle_timeout(self.now, &mut self.out);
            } else {
                self.gateway.timeout(self.now);
            }
        }
        let events: Vec<Event> = self.out.events.drain(..).collect();
        self.events.extend(events.iter().cloned());
        events
    }

    fn carry(&mut self) {
        for message in self.out.messages.drain(..) {
            let mut bytes = BytesMut::new();
            encode(&message, &mut bytes).unwrap();
            self.said.push(message);
            Self::send(
                &mut self.rng,
                self.loss,
                self.now,
                &mut self.next,
                &mut self.way,
                false,
                bytes.freeze(),
            );
        }
        for (_, bytes) in self.gateway.take() {
            Self::send(
                &mut self.rng,
                self.loss,
                self.now,
                &mut self.next,
                &mut self.way,
                true,
                bytes,
            );
        }
    }

    #[allow(clippy::type_complexity, reason = "parts of one struct, borrowed one by one")]
    fn send(
        rng: &mut Rng,
        loss: u8,
        now: Instant,
        next: &mut u64,
        way: &mut BinaryHeap<Reverse<(Instant, u64, ToClient, Bytes)>>,
        to_client: ToClient,
        bytes: Bytes,
    ) {
        let copies = match rng.u8(..100) {
            n if n < loss => 0,
            n if n < loss + loss / 3 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            *next += 1;
            // So that a copy arrives before its QoS 2 exchange is over: against a later one no protocol helps.
            let late = Duration::from_millis(rng.u64(80..=200));
            way.push(Reverse((now + late, *next, to_client, bytes.clone())));
        }
    }

    fn kinds_said(&self) -> Vec<MessageType> {
        self.said.iter().map(Message::kind).collect()
    }

    fn received(&self) -> Vec<&str> {
        let payloads = self.events.iter().filter_map(|event| match event {
            Event::Received(received) => Some(std::str::from_utf8(&received.payload).unwrap()),
            _ => None,
        });
        payloads.collect()
    }
}

/// §6.5, §6.6: a name gets an id first, and keeps it.
#[test]
fn a_name_is_registered_once() {
    let mut world = World::connected();
    for (n, qos) in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]
        .into_iter()
        .enumerate()
    {
        assert_eq!(world.ask(message(name("plant/7"), qos, "x")), [Event::Published]);
        assert_eq!(world.gateway.published.len(), n + 1);
    }
    assert_eq!(
        world.kinds_said(),
        [
            MessageType::Register,
            MessageType::Publish,
            MessageType::Publish,
            MessageType::Publish,
            MessageType::PubRel
        ]
    );
    assert!(
        world
            .gateway
            .published
            .iter()
            .all(|(topic, _)| topic == "plant/7")
    );
}

/// §6.7
#[test]
fn short_names_and_predefined_ids_need_no_registration() {
    let mut world = World::connected();
    world.ask(message(TopicName::Short(*b"t1"), Qos::AtLeastOnce, "short"));
    world.ask(message(TopicName::Predefined(7), Qos::AtLeastOnce, "seven"));
    let topics: Vec<&str> = world
        .gateway
        .published
        .iter()
        .map(|(topic, _)| topic.as_str())
        .collect();
    assert_eq!(topics, ["t1", "known/seven"]);
    assert!(!world.kinds_said().contains(&MessageType::Register));
}

/// §6.8
#[test]
fn qos_minus_one_needs_no_connection_but_an_id() {
    let mut world = World::new(client_settings());
    let done = world.ask(message(TopicName::Predefined(7), Qos::NoConnection, "hello"));
    assert_eq!(done, [Event::Published]);
    assert_eq!(world.kinds_said(), [MessageType::Publish]);
    assert_eq!(world.gateway.published[0].0, "known/seven");
    let done = world.ask(message(name("plant/7"), Qos::NoConnection, "hello"));
    assert_eq!(done, [Event::OutOfPlace(MessageType::Register)]);
}

#[test]
fn what_needs_a_connection_is_refused_without_one() {
    let mut world = World::new(client_settings());
    for (request, kind) in [
        (message(name("a"), Qos::AtMostOnce, "x"), MessageType::Publish),
        (
            Request::Subscribe(name("a"), Qos::AtMostOnce),
            MessageType::Subscribe,
        ),
        (Request::Unsubscribe(name("a")), MessageType::Unsubscribe),
        (Request::Sleep(9), MessageType::Disconnect),
        (Request::Wake, MessageType::PingReq),
        (Request::Disconnect, MessageType::Disconnect),
    ] {
        assert_eq!(world.ask(request), [Event::OutOfPlace(kind)]);
    }
    assert!(world.said.is_empty());
}

/// §6.13
#[test]
fn a_gateway_that_does_not_answer_is_asked_again_and_then_lost() {
    let mut world = World::new(client_settings());
    world.loss = 100;
    let events = world.ask(Request::Connect);
    assert_eq!(events, [Event::Lost(MessageType::Connect)]);
    assert_eq!(world.said.len(), 6);
    assert_eq!(world.now.since(Instant::START), T_RETRY * 6);
    assert_eq!(world.client.state(), State::Lost);
}

/// §6.13: PUBLISH and SUBSCRIBE say that they come again.
#[test]
fn what_is_sent_again_says_so() {
    let mut world = World::connected();
    world.loss = 100;
    world.ask(Request::Subscribe(name("a/b"), Qos::AtLeastOnce));
    let dups: Vec<bool> = world
        .said
        .iter()
        .map(|message| matches!(message, Message::Subscribe(subscribe) if subscribe.dup))
        .collect();
    assert_eq!(dups, [false, true, true, true, true, true]);
}

/// §6.11
#[test]
fn silence_is_broken_by_a_ping() {
    let mut world = World::connected();
    assert_eq!(world.pass(Duration::from_secs(600)), []);
    assert_eq!(
        world.client.state(),
        State::Active {
            ping_at: world.client.deadline()
        }
    );
    let kinds = world.kinds_said();
    assert!((10..=12).contains(&kinds.len()), "{kinds:?}");
    assert!(kinds.iter().all(|kind| *kind == MessageType::PingReq));
}

/// §6.3
#[test]
fn a_will_is_published_when_the_client_is_silent() {
    let mut world = World::new(ClientSettings {
        will: Some(Will {
            topic: "gone".into(),
            payload: "tester".into(),
            qos: Qos::AtLeastOnce,
            retain: false,
        }),
        ..client_settings()
    });
    assert_eq!(world.ask(Request::Connect), [Event::Connected]);
    assert_eq!(
        world.kinds_said(),
        [MessageType::Connect, MessageType::WillTopic, MessageType::WillMsg]
    );
    world.loss = 100;
    world.pass(Duration::from_secs(600));
    assert_eq!(world.gateway.published, [("gone".into(), Bytes::from("tester"))]);
}

/// §6.9, §6.10: a filter with wildcards gets REGISTERs when messages come.
#[test]
fn messages_come_under_their_names() {
    let mut world = World::connected();
    for topic in [name("cmd/+"), TopicName::Short(*b"t1"), TopicName::Predefined(7)] {
        let done = world.ask(Request::Subscribe(topic, Qos::ExactlyOnce));
        assert_eq!(done, [Event::Subscribed(Qos::ExactlyOnce)]);
    }
    for (topic, qos) in [
        ("cmd/open", BusQos::AtMostOnce),
        ("cmd/close", BusQos::AtLeastOnce),
        ("cmd/open", BusQos::ExactlyOnce),
        ("t1", BusQos::AtLeastOnce),
        ("known/seven", BusQos::AtLeastOnce),
    ] {
        world.gateway.publish(topic, qos, topic.into(), world.now);
    }
    let events = world.pass(Duration::from_secs(5));
    let came: Vec<(String, Qos)> = events
        .into_iter()
        .map(|event| match event {
            Event::Received(received) => (received.topic, received.qos),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("cmd/open", Qos::AtMostOnce),
        ("cmd/close", Qos::AtLeastOnce),
        ("cmd/open", Qos::ExactlyOnce),
        ("t1", Qos::AtLeastOnce),
        ("predefined:7", Qos::AtLeastOnce),
    ];
    assert_eq!(came, expected.map(|(topic, qos)| (topic.to_owned(), qos)));
    assert!(!world.client.holds());
    assert_eq!(
        world.ask(Request::Unsubscribe(name("cmd/+"))),
        [Event::Unsubscribed]
    );
    world
        .gateway
        .publish("cmd/open", BusQos::AtLeastOnce, "late".into(), world.now);
    assert_eq!(world.pass(Duration::from_secs(5)), []);
}

/// §6.6: an id that we do not know is refused, and the gateway registers it again.
#[test]
fn an_unknown_id_is_refused() {
    let mut world = World::connected();
    world.ask(Request::Subscribe(name("cmd/open"), Qos::AtLeastOnce));
    world.client.names.clear();
    world
        .gateway
        .publish("cmd/open", BusQos::AtLeastOnce, "1".into(), world.now);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.received(), ["1"]);
    let kinds = world.kinds_said();
    assert_eq!(
        kinds,
        [
            MessageType::Subscribe,
            MessageType::PubAck,
            MessageType::RegAck,
            MessageType::PubAck
        ]
    );
}

/// An id that the gateway does not know any more is asked for once more.
#[test]
fn an_id_that_is_refused_is_asked_for_again() {
    let mut world = World::connected();
    world.client.names.insert(99, Bytes::from_static(b"plant/7"));
    assert_eq!(
        world.ask(message(name("plant/7"), Qos::AtLeastOnce, "x")),
        [Event::Published]
    );
    assert_eq!(
        world.kinds_said(),
        [MessageType::Publish, MessageType::Register, MessageType::Publish]
    );
    let predefined = message(TopicName::Predefined(8), Qos::AtLeastOnce, "x");
    let refused = Event::Refused(MessageType::Publish, ReturnCode::InvalidTopicId);
    assert_eq!(world.ask(predefined).last(), Some(&refused));
    let at_qos_0 = message(TopicName::Predefined(8), Qos::AtMostOnce, "x");
    assert_eq!(world.ask(at_qos_0), [Event::Published, refused]);
}

#[test]
fn what_is_forbidden_is_refused_and_the_connection_stays() {
    let mut world = World::connected();
    let refused = |kind| [Event::Refused(kind, ReturnCode::NotSupported)];
    let publish = message(name("secret/1"), Qos::AtLeastOnce, "x");
    assert_eq!(world.ask(publish), refused(MessageType::Publish));
    let subscribe = Request::Subscribe(name("secret/#"), Qos::AtLeastOnce);
    assert_eq!(world.ask(subscribe), refused(MessageType::Subscribe));
    assert!(matches!(world.client.state(), State::Active { .. }));
}

#[test]
fn a_full_gateway_says_so() {
    let mut world = World::new(client_settings());
    world.gateway = Testbed::full(settings());
    let refused = Event::Refused(MessageType::Connect, ReturnCode::Congestion);
    assert_eq!(world.ask(Request::Connect), [refused]);
    assert_eq!(world.client.state(), State::Disconnected);
}

/// PUBACK with "congestion" asks for patience: T_retry later it is tried again. §6.13
#[test]
fn a_congested_publish_is_tried_again_and_then_refused() {
    let mut client = SnClient::new(client_settings());
    let mut out = Outputs::default();
    client.request(Request::Connect, Instant(0), &mut out);
    client.handle(Message::ConnAck(ReturnCode::Accepted), Instant(0), &mut out);
    client.request(
        message(TopicName::Short(*b"t1"), Qos::AtLeastOnce, "x"),
        Instant(0),
        &mut out,
    );
    out = Outputs::default();
    let mut now = Instant(0);
    for _ in 0..=5 {
        let ack = RegAck {
            topic_id: 0,
            msg_id: 1,
            code: ReturnCode::Congestion,
        };
        client.handle(Message::PubAck(ack), now, &mut out);
        assert!(out.events.is_empty());
        now = client.deadline().unwrap();
        client.handle_timeout(now, &mut out);
    }
    assert_eq!(out.messages.len(), 5);
    assert_eq!(
        out.events,
        [Event::Refused(MessageType::Publish, ReturnCode::Congestion)]
    );
}

/// §6.14: while it sleeps nothing comes; PINGRESP ends what comes when it wakes.
#[test]
fn a_sleeper_gets_its_messages_when_it_wakes() {
    let mut world = World::connected();
    world.ask(Request::Subscribe(name("cmd/+"), Qos::AtLeastOnce));
    assert_eq!(world.ask(Request::Sleep(100)), [Event::Asleep]);
    for payload in ["1", "2", "3"] {
        world
            .gateway
            .publish("cmd/open", BusQos::AtLeastOnce, payload.into(), world.now);
    }
    assert_eq!(world.pass(Duration::from_secs(100)), []);
    let events = world.ask(Request::Wake);
    assert_eq!(world.received(), ["1", "2", "3"]);
    assert_eq!(events.last(), Some(&Event::Drained));
    assert_eq!(world.client.state(), State::Asleep);
    assert_eq!(world.ask(Request::Wake), [Event::Drained]);
    assert_eq!(world.ask(Request::Connect), [Event::Connected]);
    assert_eq!(world.ask(Request::Disconnect), [Event::Left]);
}

/// Who leaves with messages on their way does not acknowledge them: they are there when it comes back.
#[test]
fn a_goodbye_leaves_what_waits_to_the_gateway() {
    let mut world = World::new(ClientSettings {
        clean: false,
        ..client_settings()
    });
    world.ask(Request::Connect);
    world.ask(Request::Subscribe(name("cmd/+"), Qos::AtLeastOnce));
    world.ask(Request::Sleep(100));
    for payload in ["1", "2", "3"] {
        world
            .gateway
            .publish("cmd/open", BusQos::AtLeastOnce, payload.into(), world.now);
    }
    world.client.request(Request::Wake, world.now, &mut world.out);
    while world.out.events.is_empty() {
        let next = world.way.peek().map_or(world.now, |Reverse((at, ..))| *at);
        let events = world.run_until(next, false);
        if !events.is_empty() {
            break;
        }
    }
    world.client.stop_receiving();
    assert_eq!(world.ask(Request::Disconnect), [Event::Left]);
    assert_eq!(world.received(), ["1"]);
    world.client = SnClient::new(world.client.settings.clone());
    assert_eq!(world.ask(Request::Connect)[0], Event::Connected);
    // What overtakes CONNACK comes again T_retry later.
    world.pass(Duration::from_secs(30));
    assert_eq!(world.received(), ["1", "2", "3"]);
}

/// A gateway that forgot the sleeper says so, and it has to connect.
#[test]
fn a_forgotten_sleeper_is_told() {
    let mut world = World::connected();
    assert_eq!(world.ask(Request::Sleep(100)), [Event::Asleep]);
    world.gateway = Testbed::new(settings());
    assert_eq!(world.ask(Request::Wake), [Event::Disconnected]);
    assert_eq!(world.client.state(), State::Disconnected);
    assert_eq!(world.ask(Request::Connect), [Event::Connected]);
}

/// On a bad network, both ways, with everything at once: QoS 2 once, QoS 1 at least once, in order. A failure names its seed.
#[test]
fn a_bad_link_loses_nothing_that_was_acknowledged() {
    for seed in 0..60 {
        let mut world = World::new(ClientSettings {
            retries: 20,
            clean: false,
            ..client_settings()
        });
        // The gateway is as patient.
        world.gateway = Testbed::new(headgate_mqttsn::SnSettings {
            retries: 20,
            ..settings()
        });
        world.rng = Rng::with_seed(seed);
        world.loss = 25;
        let sent = ["0", "1", "2", "3", "4", "5", "6", "7"];
        world.client.request(Request::Connect, world.now, &mut world.out);
        world.client.request(
            Request::Subscribe(name("cmd/#"), Qos::ExactlyOnce),
            world.now,
            &mut world.out,
        );
        world.run_until(world.now + Duration::from_secs(3_000), true);
        for (n, payload) in sent.into_iter().enumerate() {
            world.client.request(
                message(name("data/2"), Qos::ExactlyOnce, payload),
                world.now,
                &mut world.out,
            );
            world.client.request(
                message(name("data/1"), Qos::AtLeastOnce, payload),
                world.now,
                &mut world.out,
            );
            world.gateway.publish(
                if n % 2 == 0 { "cmd/a" } else { "cmd/b/c" },
                BusQos::ExactlyOnce,
                payload.into(),
                world.now,
            );
        }
        world.run_until(world.now + Duration::from_secs(3_000), false);
        let published = world
            .events
            .iter()
            .filter(|event| **event == Event::Published)
            .count();
        assert_eq!(published, 16, "seed {seed}: {:?}", world.events);
        assert_eq!(world.received(), sent, "seed {seed}");
        let of = |topic: &str| -> Vec<&str> {
            let published = world.gateway.published.iter();
            let of_topic = published.filter(|(published, _)| published == topic);
            of_topic
                .map(|(_, payload)| std::str::from_utf8(payload).unwrap())
                .collect()
        };
        assert_eq!(of("data/2"), sent, "seed {seed}");
        let mut at_least_once = Vec::new();
        for payload in of("data/1") {
            if !at_least_once.contains(&payload) {
                at_least_once.push(payload);
            }
        }
        assert_eq!(at_least_once, sent, "seed {seed}");
    }
}

/// Whatever a gateway says, in whatever state, nothing panics, and what is kept has a bound.
#[test]
fn any_messages_are_taken() {
    let mut rng = Rng::with_seed(7);
    for _ in 0..2_000 {
        let mut client = SnClient::new(client_settings());
        let mut out = Outputs::default();
        let mut now = Instant::START;
        for _ in 0..40 {
            let kind = MessageType::ALL[rng.usize(..MessageType::ALL.len())];
            let body: Vec<u8> = (0..rng.usize(..9)).map(|_| rng.u8(..4)).collect();
            let mut bytes = vec![u8::try_from(body.len() + 2).unwrap(), kind as u8];
            bytes.extend(body);
            match rng.u8(..8) {
                0 => client.request(Request::Connect, now, &mut out),
                1 => client.request(Request::Sleep(5), now, &mut out),
                2 => client.request(Request::Wake, now, &mut out),
                3 => client.request(message(name("a/b"), Qos::ExactlyOnce, "x"), now, &mut out),
                4 => {
                    now = client.deadline().unwrap_or(now).max(now);
                    client.handle_timeout(now, &mut out);
                }
                _ => {
                    if let Ok(message) = decode(&bytes.into()) {
                        client.handle(message, now, &mut out);
                    }
                }
            }
            assert!(client.deadline().is_none_or(|at| at >= now));
        }
    }
}

/// REGACK and SUBACK with "congestion" ask for patience as PUBACK does. §5.3.10, §6.13
#[test]
fn a_congested_registration_and_subscription_are_tried_again() {
    let code = ReturnCode::Congestion;
    let topic = TopicName::Name("plant/7".into());
    let regack = |msg_id, topic_id, code| {
        Message::RegAck(RegAck {
            topic_id,
            msg_id,
            code,
        })
    };
    let suback = |msg_id, topic_id, code| {
        Message::SubAck(SubAck {
            qos: Qos::AtMostOnce,
            topic_id,
            msg_id,
            code,
        })
    };
    let publish = message(topic.clone(), Qos::AtMostOnce, "x");
    let subscribe = Request::Subscribe(topic, Qos::AtMostOnce);
    type Answer<'a> = &'a dyn Fn(u16, u16, ReturnCode) -> Message;
    let cases: [(Request, Answer<'_>, MessageType, Event); 2] = [
        (publish, &regack, MessageType::Register, Event::Published),
        (
            subscribe,
            &suback,
            MessageType::Subscribe,
            Event::Subscribed(Qos::AtMostOnce),
        ),
    ];
    for (request, answer, kind, done) in cases {
        let mut client = SnClient::new(client_settings());
        let mut out = Outputs::default();
        client.request(Request::Connect, Instant(0), &mut out);
        client.handle(Message::ConnAck(ReturnCode::Accepted), Instant(0), &mut out);
        out = Outputs::default();
        client.request(request, Instant(0), &mut out);
        client.handle(answer(1, 0, code), Instant(0), &mut out);
        assert!(out.events.is_empty(), "{:?}", out.events);
        let again = client.deadline().unwrap();
        client.handle_timeout(again, &mut out);
        assert_eq!(out.messages.iter().filter(|sent| sent.kind() == kind).count(), 2);
        client.handle(answer(1, 9, ReturnCode::Accepted), again, &mut out);
        assert_eq!(out.events, [done]);
    }
}
