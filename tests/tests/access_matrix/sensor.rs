//! Rows tried by clients of MQTT-SN, and by senders without a connection.

use crate::rules::{Door, of_the_table};
use crate::{Action, Detour, PLANT, Seen, mount, rewriting};
use bytes::{Bytes, BytesMut};
use headgate_model::{Instant, Message as BusMessage, Naming, Qos as BusQos, Rewriter, Topic};
use headgate_mqttsn::PredefinedTopic;
use headgate_mqttsn_codec::{
    Connect, Message, Publish, Qos, RegAck, Register, ReturnCode, Subscribe, TopicName, TopicRef, WillTopic,
    decode, encode,
};
use headgate_tests::sn_testbed::{Testbed, settings};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Topics that both sides know, by their ids.
const KNOWN: [&str; 4] = ["known/open", "deny/known", "$SYS/known", "$delayed/0/deny/known"];

/// A gateway with one sensor.
pub(crate) struct Bench {
    testbed: Testbed,
    now: Instant,
    next_id: u16,
    /// What the gateway named.
    names: BTreeMap<u16, String>,
    /// What was delivered and not looked at.
    heard: Vec<String>,
    inbox: Vec<Message>,
    /// The filter it subscribes to.
    asked_for: String,
    /// The answer to that.
    granted: bool,
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], port))
}

fn bus_qos(qos: Qos) -> BusQos {
    match qos {
        Qos::NoConnection | Qos::AtMostOnce => BusQos::AtMostOnce,
        Qos::AtLeastOnce => BusQos::AtLeastOnce,
        Qos::ExactlyOnce => BusQos::ExactlyOnce,
    }
}

impl Bench {
    pub(crate) fn new(door: &Door, detour: Detour) -> Self {
        Self::under_name(door, None, detour)
    }

    /// The sensor goes by a user name.
    fn under_name(door: &Door, user: Option<&str>, detour: Detour) -> Self {
        let naming = Naming {
            mount: mount(detour),
            rewriter: Arc::new(Rewriter::compile(&rewriting(detour)).expect("good rules")),
            ..Naming::default()
        };
        let mut settings = settings();
        let known = KNOWN.iter().zip(1..).map(|(topic, id)| PredefinedTopic {
            id,
            topic: (*topic).into(),
            client_id: None,
        });
        settings.predefined = known.collect();
        settings.qos_minus_one.rate = 0;
        settings.default_username = user.unwrap_or_default().to_owned();
        let door = door.clone();
        Self {
            testbed: Testbed::with(settings, Arc::new(naming), move |question| door.answer(question)),
            now: Instant::START,
            next_id: 0,
            names: BTreeMap::new(),
            heard: Vec::new(),
            inbox: Vec::new(),
            asked_for: String::new(),
            granted: false,
        }
    }

    fn new_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    fn send_from(&mut self, port: u16, message: &Message) {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).unwrap();
        self.testbed.datagram(at(port), bytes.freeze(), self.now);
        self.listen();
    }

    /// Acknowledges all that is sent to the sensor.
    fn listen(&mut self) {
        loop {
            let datagrams = self.testbed.take();
            if datagrams.is_empty() {
                return;
            }
            for (_, datagram) in datagrams {
                let message = decode(&datagram).expect("a gateway writes what can be read");
                self.on_message(message);
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        let accepted = |topic_id, msg_id| RegAck {
            topic_id,
            msg_id,
            code: ReturnCode::Accepted,
        };
        let answer = match message {
            Message::Register(Register {
                topic_id,
                msg_id,
                topic,
            }) => {
                let topic = String::from_utf8(topic.to_vec()).unwrap();
                self.names.insert(topic_id, topic);
                Message::RegAck(accepted(topic_id, msg_id))
            }
            Message::Publish(publish) => {
                let (name, id) = match publish.topic {
                    TopicRef::Normal(id) => (self.names[&id].clone(), id),
                    TopicRef::Predefined(id) => (KNOWN[usize::from(id) - 1].to_owned(), id),
                    TopicRef::Short(name) => (String::from_utf8(name.to_vec()).unwrap(), 0),
                };
                self.heard.push(name);
                match publish.qos {
                    Qos::NoConnection | Qos::AtMostOnce => return,
                    Qos::AtLeastOnce => Message::PubAck(accepted(id, publish.msg_id)),
                    Qos::ExactlyOnce => Message::PubRec(publish.msg_id),
                }
            }
            // A filter without wildcard gets its id here. §5.4.16
            Message::SubAck(ack) => {
                self.granted = ack.code == ReturnCode::Accepted;
                self.names.insert(ack.topic_id, self.asked_for.clone());
                return;
            }
            Message::PubRel(id) => Message::PubComp(id),
            message => return self.inbox.push(message),
        };
        self.send(&answer);
    }

    pub(crate) fn send(&mut self, message: &Message) {
        self.send_from(1_000, message);
    }

    /// What the gateway answered.
    fn answers(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.inbox)
    }

    /// Does what is due.
    fn run(&mut self) {
        while self.testbed.deadline().is_some_and(|due| due <= self.now) {
            self.testbed.timeout(self.now);
            self.listen();
        }
    }

    /// What was delivered.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        self.run();
        std::mem::take(&mut self.heard)
    }

    /// What was published, as somebody sees who sees all.
    pub(crate) fn published(&mut self) -> Vec<String> {
        self.run();
        self.testbed.published.drain(..).map(|(topic, _)| topic).collect()
    }

    /// Whether it was let in.
    pub(crate) fn connect(&mut self, clean: bool, will: Option<(&str, &str)>) -> bool {
        self.send(&Message::Connect(Connect {
            will: will.is_some(),
            clean_session: clean,
            protocol_id: 1,
            duration: 600,
            client_id: "c".into(),
        }));
        if let Some((topic, payload)) = will {
            self.send(&Message::WillTopic(Some(will_topic(topic))));
            self.send(&Message::WillMsg(Bytes::copy_from_slice(payload.as_bytes())));
        }
        self.answers().contains(&Message::ConnAck(ReturnCode::Accepted))
    }

    /// Whether it may.
    pub(crate) fn subscribe(&mut self, topic: TopicName, qos: Qos) -> bool {
        let msg_id = self.new_id();
        self.asked_for = match &topic {
            TopicName::Name(name) => {
                let name = String::from_utf8(name.to_vec()).unwrap();
                name.trim_start_matches("$exclusive/").to_owned()
            }
            TopicName::Predefined(_) | TopicName::Short(_) => String::new(),
        };
        self.send(&Message::Subscribe(Subscribe {
            dup: false,
            qos,
            msg_id,
            topic,
        }));
        std::mem::take(&mut self.granted)
    }

    /// Its link is gone, and its will comes.
    pub(crate) fn lose(&mut self) {
        self.now = self.now + std::time::Duration::from_secs(3_600);
        while let Some(due) = self.testbed.deadline().filter(|due| *due <= self.now) {
            self.testbed.timeout(due.max(Instant::START));
            self.testbed.take();
        }
    }

    pub(crate) fn sleep(&mut self) {
        self.send(&Message::Disconnect(Some(600)));
        assert_eq!(self.answers(), [Message::Disconnect(None)]);
    }

    pub(crate) fn wake(&mut self) {
        self.send(&Message::PingReq(Some("c".into())));
        assert_eq!(self.answers(), [Message::PingResp]);
    }

    /// Publishes the plant.
    pub(crate) fn work(&mut self, qos: Qos, retain: bool) {
        for topic in PLANT {
            let topic = Topic::try_from(topic).unwrap();
            let message = BusMessage::new(topic, Bytes::from_static(b"1"));
            let qos = bus_qos(qos);
            self.testbed.publish_message(
                BusMessage {
                    qos,
                    retain,
                    ..message
                },
                self.now,
            );
            self.listen();
        }
    }

    /// Other rules are valid.
    pub(crate) fn renew_rules(&mut self) {
        self.testbed.renew_rules(self.now);
        self.listen();
    }

    /// What the sensor calls a topic by: an id that it registers, if it gets one.
    fn register(&mut self, topic: &str) -> Option<u16> {
        let msg_id = self.new_id();
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        self.send(&Message::Register(Register {
            topic_id: 0,
            msg_id,
            topic,
        }));
        self.answers().into_iter().find_map(|answer| match answer {
            Message::RegAck(ack) if ack.code == ReturnCode::Accepted => Some(ack.topic_id),
            _ => None,
        })
    }

    /// Publishes as far as it is let.
    pub(crate) fn publish(&mut self, detour: Detour, topic: &str, qos: Qos, retain: bool) {
        let topic = match detour {
            Detour::Predefined => TopicRef::Predefined(predefined(topic)),
            Detour::Short => TopicRef::Short(short(topic)),
            _ => match self.register(topic) {
                Some(id) => TopicRef::Normal(id),
                None => return,
            },
        };
        self.publish_to(1_000, topic, qos, retain);
    }

    pub(crate) fn publish_to(&mut self, port: u16, topic: TopicRef, qos: Qos, retain: bool) {
        let msg_id = match qos {
            Qos::NoConnection | Qos::AtMostOnce => 0,
            Qos::AtLeastOnce | Qos::ExactlyOnce => self.new_id(),
        };
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            msg_id,
            data: Bytes::from_static(b"1"),
        };
        self.send_from(port, &Message::Publish(publish));
        if self.answers().contains(&Message::PubRec(msg_id)) {
            self.send(&Message::PubRel(msg_id));
            assert_eq!(self.answers(), [Message::PubComp(msg_id)]);
        }
    }
}

fn will_topic(topic: &str) -> WillTopic {
    WillTopic {
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: Bytes::copy_from_slice(topic.as_bytes()),
    }
}

fn predefined(topic: &str) -> u16 {
    let place = KNOWN.iter().position(|known| *known == topic);
    u16::try_from(place.expect("it is known") + 1).unwrap()
}

fn short(topic: &str) -> [u8; 2] {
    topic.as_bytes().try_into().expect("two bytes")
}

fn name(detour: Detour, filter: &str) -> TopicName {
    match detour {
        Detour::Predefined => TopicName::Predefined(predefined(filter)),
        Detour::Short => TopicName::Short(short(filter)),
        _ => TopicName::Name(Bytes::copy_from_slice(filter.as_bytes())),
    }
}

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

pub(crate) fn tries(detour: Detour, action: Action) -> Seen {
    tries_by(&Door::with(of_the_table()), None, detour, action)
}

/// The same by other rules, and perhaps under a user name.
pub(crate) fn tries_by(door: &Door, user: Option<&str>, detour: Detour, action: Action) -> Seen {
    let fresh = || Bench::under_name(door, user, detour);
    let mut seen = Seen::default();
    match action {
        Action::Publish(topic) => {
            let mut bench = fresh();
            assert!(bench.connect(true, None));
            for (qos, retain) in QOS.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
                bench.publish(detour, topic, qos, retain);
                seen.topics.extend(bench.published());
            }
        }
        Action::Will(topic, payload) => {
            let mut bench = fresh();
            seen.refused = !bench.connect(true, Some((topic, payload)));
            bench.lose();
            seen.topics = bench.published();
        }
        Action::WillTopicUpd(topic) => {
            let mut bench = fresh();
            assert!(bench.connect(true, Some(("open/first", "gone"))) || detour != Detour::Plain);
            bench.send(&Message::WillTopicUpd(Some(will_topic(topic))));
            seen.refused = bench.answers() != [Message::WillTopicResp(ReturnCode::Accepted)];
            bench.lose();
            seen.topics = bench.published();
            seen.topics.retain(|topic| topic != "open/first");
        }
        Action::WillMsgUpd(payload) => {
            let mut bench = fresh();
            assert!(bench.connect(true, Some(("$SYS/broker/connection/c/state", "0"))));
            bench.send(&Message::WillMsgUpd(Bytes::copy_from_slice(payload.as_bytes())));
            seen.refused = bench.answers() != [Message::WillMsgResp(ReturnCode::Accepted)];
            bench.lose();
            let said = std::mem::take(&mut bench.testbed.published).into_iter();
            let other = said.filter(|(_, said)| said != "0");
            seen.topics = other.map(|(topic, _)| topic).collect();
        }
        Action::Read(filter) => {
            for qos in QOS {
                let mut bench = fresh();
                assert!(bench.connect(true, None));
                seen.refused |= !bench.subscribe(name(detour, filter), qos);
                bench.work(qos, false);
                seen.topics.extend(bench.heard());
            }
        }
        Action::ReadLater(filter) => {
            for qos in QOS {
                let mut bench = fresh();
                assert!(bench.connect(false, None));
                seen.refused |= !bench.subscribe(name(detour, filter), qos);
                bench.sleep();
                bench.work(qos, false);
                assert!(bench.heard().is_empty(), "it sleeps");
                bench.wake();
                seen.topics.extend(bench.heard());
            }
        }
        Action::ReadRetained(filter) => {
            for qos in QOS {
                let mut bench = fresh();
                bench.work(qos, true);
                assert!(bench.connect(true, None));
                seen.refused |= !bench.subscribe(name(detour, filter), qos);
                seen.topics.extend(bench.heard());
            }
        }
    }
    seen
}

pub(crate) fn tries_unconnected(detour: Detour, action: Action) -> Seen {
    let Action::Publish(topic) = action else {
        unreachable!("they can do nothing else")
    };
    let topic = match detour {
        Detour::Predefined => TopicRef::Predefined(predefined(topic)),
        _ => TopicRef::Short(short(topic)),
    };
    let mut bench = Bench::new(&Door::with(of_the_table()), detour);
    let mut seen = Seen::default();
    for retain in [false, true] {
        bench.publish_to(2_000, topic, Qos::NoConnection, retain);
        seen.topics.extend(bench.published());
    }
    seen
}
