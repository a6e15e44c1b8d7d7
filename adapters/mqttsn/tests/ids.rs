//! What a topic id means over the lives of a client. MQTT-SN 1.2 §6.2, §6.5, §6.6, §6.10

mod bench;

use bench::*;
use headgate_model::Qos as BusQos;
use headgate_mqttsn::{PredefinedTopic, SnGateway, SnMetric};
use headgate_mqttsn_codec::{Message, Qos, ReturnCode, Subscribe, TopicName, TopicRef};

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const UNKNOWN: ReturnCode = ReturnCode::InvalidTopicId;
const T_RETRY: u64 = 10;

/// How a life ends.
const ENDS: [fn(&mut Bench); 4] = [
    |sn| sn.advance(90), // lost
    |sn| sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]),
    |sn| {
        sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
        sn.advance(60);
    },
    |sn| {
        sn.kick("c");
        sn.sent(DEVICE);
    },
];

fn qos1(id: u16, msg_id: u16, payload: &str) -> Message {
    publish_to(id, Qos::AtLeastOnce, msg_id, payload)
}

/// Without CleanSession an id means what it meant, and is given to no other topic.
#[test]
fn ids_of_a_session_outlive_its_connections() {
    for end in ENDS {
        let mut sn = Bench::new();
        sn.watch("#");
        sn.connected_durably(DEVICE, "c");
        let id = sn.registered(DEVICE, "a");
        end(&mut sn);
        sn.connected_durably(DEVICE, "c");
        assert_ne!(sn.registered(DEVICE, "b"), id);
        sn.exchange(DEVICE, qos1(id, 7, "x"), &[puback(id, 7, ACCEPTED)]);
        assert_eq!(sn.watched(), ["a=x"]);
        sn.exchange(DEVICE, connect("c"), &[CONNACK]);
        sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
        sn.advance(60);
        assert_eq!(sn.gateway.stats().names, 0);
    }
}

/// With CleanSession no id of before means anything, and none is given to another topic. §6.2
#[test]
fn ids_of_a_clean_session_end_with_it() {
    for end in ENDS {
        let mut sn = Bench::new();
        sn.watch("#");
        sn.connected(DEVICE, "c");
        let id = sn.registered(DEVICE, "a");
        end(&mut sn);
        sn.connected(DEVICE, "c");
        assert_ne!(sn.registered(DEVICE, "b"), id);
        sn.exchange(DEVICE, qos1(id, 7, "x"), &[puback(id, 7, UNKNOWN)]);
        assert_eq!(sn.watched(), UNHEARD);
    }
}

/// The same for the ids that the gateway gave, and for a client that moves, sleeps, is lost asleep, or sits behind a forwarder. §5.5, §6.14
#[test]
fn ids_of_the_gateway_outlive_sleep_and_loss() {
    const BEHIND: At = At(3, Some(b"node"));
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected_durably(DEVICE, "c");
    sn.subscribed(DEVICE, "a/+", Qos::AtLeastOnce);
    sn.deliver("a/1", "1", BusQos::AtLeastOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("a/1", 1, 1)]);
    sn.exchange(DEVICE, regack(1, 1, ACCEPTED), &[qos1(1, 1, "1")]);
    sn.exchange(DEVICE, puback(1, 1, ACCEPTED), &NOTHING);
    sn.exchange(DEVICE, Message::Disconnect(Some(60)), &[DISCONNECT]);
    sn.advance(90);
    assert_eq!(sn.gateway.stats().clients, 0, "lost asleep");
    for at in [BEHIND, OTHER] {
        // It is told the id again, for it may have forgotten it; it is the same one.
        sn.exchange(at, durable("c"), &[CONNACK]);
        sn.send(at, qos1(1, 7, "x"));
        let sent = sn.sent(at);
        assert!(sent.contains(&puback(1, 7, ACCEPTED)) && sent.contains(&register_id("a/1", 1, 1)));
        sn.exchange(
            at,
            regack(1, 1, ACCEPTED),
            &[qos1(1, if at == OTHER { 3 } else { 2 }, "x")],
        );
        let told = if at == OTHER { 3 } else { 2 };
        sn.exchange(at, puback(1, told, ACCEPTED), &NOTHING);
        assert_eq!(sn.registered(at, "b"), 2);
        sn.exchange(at, DISCONNECT, &[DISCONNECT]);
        sn.advance(60);
    }
    assert_eq!(sn.watched(), ["a/1=1", "a/1=x", "a/1=x"]);
}

/// An id that was refused is not given to another topic either.
#[test]
fn a_refused_id_is_used_up() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    sn.subscribed(DEVICE, "a/+", Qos::AtMostOnce);
    sn.deliver("a/1", "1", BusQos::AtMostOnce);
    sn.deliver("a/2", "2", BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("a/1", 1, 1)]);
    let refused = regack(1, 1, ReturnCode::NotSupported);
    sn.exchange(DEVICE, refused, &[register_id("a/2", 2, 2)]);
}

/// What is remembered of clients that have gone has a bound; the first id of who was forgotten is anywhere, and an id of before unknown, most likely.
#[test]
fn what_was_forgotten_is_unknown() {
    let mut sn = Bench::with(|settings| settings.max_remembered_bytes = 300);
    sn.gateway = SnGateway::new(sn.settings.clone(), std::sync::Arc::default(), sn.now).unwrap();
    sn.watch("#");
    let mut ids = Vec::new();
    for client in ["c", "d", "e"] {
        sn.connected_durably(DEVICE, client);
        ids.push(sn.registered(DEVICE, client));
        sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
        sn.advance(60);
    }
    assert_eq!((sn.gateway.stats().remembered, sn.gateway.stats().names), (2, 2));
    sn.connected_durably(DEVICE, "c");
    assert_ne!(sn.registered(DEVICE, "b"), ids[0]);
    sn.exchange(DEVICE, qos1(ids[0], 7, "x"), &[puback(ids[0], 7, UNKNOWN)]);
    assert_eq!(sn.watched(), UNHEARD);
}

fn with_predefined(id: u16, topic: &'static str) -> Bench {
    let mut sn = Bench::with(|settings| {
        settings.predefined = vec![PredefinedTopic {
            id,
            topic: topic.into(),
            client_id: None,
        }];
    });
    sn.connected(DEVICE, "c");
    sn
}

/// §6.10 A client that was not given the predefined ids, or takes no short names, is told an id of its own, and gets the message.
#[test]
fn a_refused_predefined_or_short_id_leads_to_register() {
    for (topic, sent_as) in [
        ("plant/level", TopicRef::Predefined(5)),
        ("ab", TopicRef::Short(*b"ab")),
    ] {
        let mut sn = with_predefined(5, "plant/level");
        sn.subscribed(DEVICE, "#", Qos::AtLeastOnce);
        let number = if topic == "ab" { 0x6162 } else { 5 };
        sn.deliver(topic, "1", BusQos::AtLeastOnce);
        assert_eq!(
            sn.sent(DEVICE),
            [Message::Publish(publish(sent_as, Qos::AtLeastOnce, 1, "1"))]
        );
        sn.exchange(DEVICE, puback(number, 1, UNKNOWN), &[register_id(topic, 1, 1)]);
        sn.exchange(DEVICE, regack(1, 1, ACCEPTED), &[qos1(1, 1, "1")]);
        sn.exchange(DEVICE, puback(1, 1, ACCEPTED), &NOTHING);
        sn.deliver(topic, "2", BusQos::AtLeastOnce);
        assert_eq!(sn.sent(DEVICE), [qos1(1, 2, "2")], "from now on by that");
        assert_eq!(sn.counted(SnMetric::Rejected), 0);
        // What it does not know when it was told is its own fault.
        sn.exchange(DEVICE, puback(1, 2, UNKNOWN), &[register_id(topic, 1, 2)]);
        sn.exchange(DEVICE, regack(1, 2, ACCEPTED), &[qos1(1, 2, "2")]);
        sn.exchange(DEVICE, puback(1, 2, UNKNOWN), &NOTHING);
        assert_eq!(sn.counted(SnMetric::Rejected), 1);
    }
}

/// §6.10 At QoS 0 the message is lost, and the next one is preceded by REGISTER.
#[test]
fn a_predefined_id_refused_at_qos0_is_registered_next_time() {
    for (topic, number) in [("plant/level", 5), ("ab", 0x6162)] {
        let mut sn = with_predefined(5, "plant/level");
        sn.subscribed(DEVICE, "#", Qos::AtMostOnce);
        sn.deliver(topic, "1", BusQos::AtMostOnce);
        assert_eq!(sn.sent(DEVICE).len(), 1);
        sn.exchange(DEVICE, puback(number, 0, UNKNOWN), &NOTHING);
        sn.deliver(topic, "2", BusQos::AtMostOnce);
        assert_eq!(sn.sent(DEVICE), [register_id(topic, 1, 1)]);
    }
}

/// §6.10 A client that reads no REGISTER, as some small ones, learns the id by SUBACK or REGACK: what waits for that goes out.
#[test]
fn suback_and_regack_tell_an_id() {
    for ask in [subscribe("a", Qos::AtLeastOnce, 9), register("a", 9)] {
        let mut sn = Bench::new();
        sn.connected_durably(DEVICE, "c");
        let id = sn.subscribed(DEVICE, "a", Qos::AtLeastOnce);
        sn.exchange(DEVICE, DISCONNECT, &[DISCONNECT]);
        sn.deliver("a", "1", BusQos::AtLeastOnce);
        sn.exchange(DEVICE, durable("c"), &[CONNACK, register_id("a", id, 1)]);
        sn.advance(T_RETRY);
        assert_eq!(sn.sent(DEVICE), [register_id("a", id, 1)]);
        let answer = match ask {
            Message::Register(_) => regack(id, 9, ACCEPTED),
            _ => suback(Qos::AtLeastOnce, id, 9, ACCEPTED),
        };
        sn.exchange(DEVICE, ask, &[answer, qos1(id, 1, "1")]);
        sn.exchange(DEVICE, puback(id, 1, ACCEPTED), &NOTHING);
        assert_eq!(sn.bus.stats().inflight, 0);
    }
}

/// §5.4.16, §6.7 SUBACK of a short name hands back its two characters, as of a predefined id that one; of a filter with wildcards 0.
#[test]
fn suback_hands_back_the_short_name() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    for (name, id) in [(*b"ab", 0x6162), (*b"/+", 0), (*b"+/", 0)] {
        let ask = Message::Subscribe(Subscribe {
            dup: false,
            qos: Qos::AtMostOnce,
            msg_id: 3,
            topic: TopicName::Short(name),
        });
        sn.exchange(DEVICE, ask, &[suback(Qos::AtMostOnce, id, 3, ACCEPTED)]);
    }
}

/// §6.13 sets DUP when a message is repeated. A client that refuses it then gets it once without; what it refuses all the same is dropped.
#[test]
fn a_refused_dup_is_tried_without() {
    for accepts in [true, false] {
        let mut sn = Bench::new();
        sn.connected(DEVICE, "c");
        let id = sn.subscribed(DEVICE, "a", Qos::AtLeastOnce);
        sn.deliver("a", "1", BusQos::AtLeastOnce);
        sn.deliver("a", "2", BusQos::AtLeastOnce);
        assert_eq!(sn.sent(DEVICE), [qos1(id, 1, "1")]);
        sn.advance(T_RETRY);
        assert_eq!(sn.sent(DEVICE), [dup(qos1(id, 1, "1"))]);
        let refused = puback(id, 1, ReturnCode::NotSupported);
        sn.exchange(DEVICE, refused.clone(), &[qos1(id, 1, "1")]);
        sn.advance(T_RETRY);
        assert_eq!(sn.sent(DEVICE), [qos1(id, 1, "1")], "not again with DUP");
        let answer = if accepts { puback(id, 1, ACCEPTED) } else { refused };
        sn.exchange(DEVICE, answer, &[qos1(id, 2, "2")]);
        assert_eq!(sn.counted(SnMetric::Rejected), u32::from(!accepts));
    }
}
