//! Discovery, forwarders, clients that move, publishing without a connection, and bytes that are nothing. MQTT-SN 1.2 §5.5, §6.1, §6.8

mod bench;

use bench::*;
use bytes::Bytes;
use headgate_model::access::{AuthRefusal, Denial, Wanted};
use headgate_model::{
    AccessDecision, Action, Answer, Asked, CloseReason, DatagramServer, Destination, Instant, Qos as BusQos,
    Question,
};
use headgate_mqttsn::{PredefinedTopic, SnGateway, SnMetric, SnOutputs, SnSettings};
use headgate_mqttsn_codec::serial::LengthFramer;
use headgate_mqttsn_codec::{GwInfo, Message, Publish, Qos, ReturnCode, TopicRef};
use std::time::Duration;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;

fn gwinfo() -> Message {
    Message::GwInfo(GwInfo {
        gw_id: 9,
        address: Bytes::new(),
    })
}

/// §6.1 A gateway advertises itself, and says when the next time is.
#[test]
fn the_gateway_advertises_itself() {
    let mut sn = Bench::with(|settings| {
        settings.gateway_id = 9;
        settings.advertise_interval = Duration::from_secs(900);
    });
    let advertise = Message::Advertise {
        gw_id: 9,
        duration: 900,
    };
    sn.advance(0);
    assert_eq!(sn.broadcasts(), std::slice::from_ref(&advertise));
    sn.advance(899);
    assert_eq!(sn.broadcasts(), NOTHING);
    sn.advance(1);
    assert_eq!(sn.broadcasts(), [advertise]);
    let mut sn = Bench::new();
    sn.advance(10_000);
    assert_eq!(sn.broadcasts(), NOTHING, "switched off");
}

/// §6.1 Who looks for a gateway is answered, in no more bytes than it asked.
#[test]
fn a_search_is_answered() {
    let mut sn = Bench::with(|settings| settings.gateway_id = 9);
    let search = Message::SearchGw { radius: 1 };
    sn.send(DEVICE, search.clone());
    assert_eq!(sn.datagrams(DEVICE), [(3, gwinfo())]);
    let node = At(1, Some(b"n"));
    sn.exchange(node, search.clone(), &[gwinfo()]);
    let mut sn = Bench::with(|settings| {
        settings.gateway_id = 9;
        settings.broadcast_gwinfo = true;
    });
    sn.exchange(DEVICE, search, &NOTHING);
    assert_eq!(sn.broadcasts(), [gwinfo()]);
}

/// §5.5 Several nodes behind one forwarder are several clients; each is answered by way of its forwarder.
#[test]
fn nodes_behind_a_forwarder_are_clients() {
    let (one, two) = (At(1, Some(b"\x0a")), At(1, Some(b"\x0b\x0c")));
    let mut sn = Bench::new();
    sn.connected(one, "one");
    sn.connected(two, "two");
    sn.connected(DEVICE, "forwarder itself");
    assert_eq!(sn.gateway.stats().clients, 3);
    for (n, at) in [(1, one), (2, two), (3, DEVICE)] {
        let id = sn.subscribed(at, "a", Qos::AtLeastOnce);
        assert_eq!((n, id), (n, 1));
    }
    sn.deliver("a", "x", BusQos::AtLeastOnce);
    for at in [one, two, DEVICE] {
        assert_eq!(sn.sent(at), [publish_to(1, Qos::AtLeastOnce, 1, "x")]);
        sn.exchange(at, puback(1, 1, ACCEPTED), &NOTHING);
    }
    sn.exchange(one, DISCONNECT, &[DISCONNECT]);
    sn.exchange(two, Message::PingReq(None), &[Message::PingResp]);
    sn.exchange(At(1, Some(b"\x0f")), Message::PingReq(None), &[DISCONNECT]);
}

/// A sleeper whose address has changed is found by its client id; nothing is lost.
#[test]
fn a_sleeper_wakes_somewhere_else() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    let id = sn.subscribed(DEVICE, "a", Qos::AtLeastOnce);
    sn.exchange(DEVICE, Message::Disconnect(Some(60)), &[DISCONNECT]);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    sn.exchange(OTHER, ping("c"), &[publish_to(id, Qos::AtLeastOnce, 1, "1")]);
    sn.exchange(OTHER, puback(id, 1, ACCEPTED), &[Message::PingResp]);
    assert_eq!((sn.counted(SnMetric::Moved), sn.credentials.len()), (1, 2));
    sn.exchange(DEVICE, Message::PingReq(None), &[DISCONNECT]);
    assert_eq!(sn.gateway.stats().clients, 1);
}

/// An active client whose address has changed goes on, with what is under way to it.
#[test]
fn an_active_client_moves() {
    let mut sn = Bench::new();
    sn.watch("gone");
    sn.connected(DEVICE, "c");
    let id = sn.subscribed(DEVICE, "a", Qos::AtLeastOnce);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    let message = publish_to(id, Qos::AtLeastOnce, 1, "1");
    assert_eq!(sn.sent(DEVICE), std::slice::from_ref(&message));
    sn.exchange(OTHER, ping("c"), &[Message::PingResp]);
    sn.exchange(OTHER, Message::PingReq(None), &[Message::PingResp]);
    sn.advance(10);
    assert_eq!((sn.sent(DEVICE), sn.sent(OTHER)), (vec![], vec![dup(message)]));
    sn.exchange(OTHER, puback(id, 1, ACCEPTED), &NOTHING);
    assert_eq!(sn.closed, []);
}

/// CONNECT from a new address takes the session over, without a will.
#[test]
fn a_client_connects_from_somewhere_else() {
    let mut sn = Bench::new();
    sn.watch("gone");
    sn.exchange(DEVICE, connect_as("c", false, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("c"), &[CONNACK]);
    sn.subscribed(DEVICE, "a", Qos::AtLeastOnce);
    sn.exchange(OTHER, durable("c"), &[CONNACK]);
    sn.deliver("a", "1", BusQos::AtLeastOnce);
    assert_eq!(
        (sn.sent(DEVICE), sn.sent(OTHER)),
        (vec![], vec![register_id("a", 1, 1)])
    );
    sn.exchange(DEVICE, Message::PingReq(None), &[DISCONNECT]);
    assert_eq!(sn.watched(), UNHEARD);
    sn.exchange(OTHER, DISCONNECT, &[DISCONNECT]);
    sn.exchange(OTHER, durable("c"), &[CONNACK, register_id("a", 1, 1)]);
    sn.advance(200);
    assert_eq!(sn.watched(), ["gone=c"], "the will is still the one it set");
}

/// Who cannot prove to be the client changes nothing for it.
#[test]
fn a_stranger_disturbs_nobody() {
    for message in [connect("c"), ping("c")] {
        let mut sn = Bench::new();
        sn.connected(DEVICE, "c");
        let id = sn.subscribed(DEVICE, "a", Qos::AtMostOnce);
        sn.questions_wait = true;
        sn.exchange(OTHER, message.clone(), &NOTHING);
        sn.exchange(DEVICE, Message::PingReq(None), &[Message::PingResp]);
        sn.answer(Answer::Refused(AuthRefusal::BadUserNameOrPassword));
        assert_eq!(sn.sent(OTHER).len(), 1);
        sn.deliver("a", "x", BusQos::AtMostOnce);
        assert_eq!(sn.sent(DEVICE), [publish_to(id, Qos::AtMostOnce, 0, "x")]);
        assert_eq!((sn.closed.len(), sn.gateway.stats().handshakes), (0, 0));
    }
}

/// Another client at an address that was somebody's: that one is lost, and its will says so.
#[test]
fn an_address_has_one_client() {
    let mut sn = Bench::new();
    sn.watch("gone");
    sn.exchange(DEVICE, connect_as("c", true, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("c"), &[CONNACK]);
    sn.exchange(DEVICE, connect("d"), &[CONNACK]);
    assert_eq!(
        (sn.watched(), &sn.closed[..]),
        (vec!["gone=c".into()], &[CloseReason::Lost][..])
    );
    assert_eq!(sn.gateway.stats().clients, 1);
}

fn unconnected(topic: TopicRef, payload: &str) -> Message {
    Message::Publish(publish(topic, Qos::NoConnection, 0, payload))
}

fn with_qos_minus_one() -> Bench {
    with_qos_minus_one_at(10)
}

fn with_qos_minus_one_at(rate: u32) -> Bench {
    let mut sn = Bench::with(|settings| {
        settings.qos_minus_one.enabled = true;
        settings.qos_minus_one.rate = rate;
        settings.qos_minus_one.burst = 20;
        settings.qos_minus_one.username = "nobody".into();
        settings.predefined = vec![PredefinedTopic {
            id: 5,
            topic: "plant/5".into(),
            client_id: None,
        }];
    });
    sn.watch("#");
    sn
}

/// §6.8 QoS −1: to predefined ids and short names, without a connection and without an answer; under an identity of its own.
#[test]
fn some_publish_without_a_connection() {
    let mut sn = with_qos_minus_one();
    assert_eq!(sn.endpoints(), 0);
    sn.exchange(DEVICE, unconnected(TopicRef::Predefined(5), "1"), &NOTHING);
    sn.exchange(OTHER, unconnected(TopicRef::Short(*b"ab"), "2"), &NOTHING);
    for topic in [
        TopicRef::Normal(5),
        TopicRef::Predefined(6),
        TopicRef::Short(*b"a#"),
    ] {
        sn.exchange(DEVICE, unconnected(topic, "no"), &NOTHING);
    }
    assert_eq!(sn.watched(), ["plant/5=1", "ab=2"]);
    assert_eq!((sn.endpoints(), sn.credentials.len()), (1, 1));
    assert_eq!(sn.credentials[0].username.as_deref(), Some("nobody"));
    // A client that is connected needs no other identity.
    sn.connected(DEVICE, "c");
    let id = sn.registered(DEVICE, "mine");
    sn.exchange(DEVICE, unconnected(TopicRef::Normal(id), "3"), &NOTHING);
    sn.exchange(DEVICE, unconnected(TopicRef::Normal(77), "no"), &NOTHING);
    assert_eq!(sn.watched(), ["mine=3"]);
}

/// It is off unless switched on, has its own rules, and a rate.
#[test]
fn publishing_without_a_connection_has_limits() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.exchange(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"), &NOTHING);
    assert_eq!((sn.watched(), sn.endpoints()), (vec![], 0));

    let mut sn = with_qos_minus_one();
    for _ in 0..30 {
        sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"));
    }
    assert_eq!((sn.watched().len(), sn.counted(SnMetric::Dropped)), (20, 10));
    sn.advance(1);
    for _ in 0..30 {
        sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"));
    }
    assert_eq!(sn.watched().len(), 10);

    // 0 is no limit.
    let mut sn = with_qos_minus_one_at(0);
    for _ in 0..30 {
        sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"));
    }
    assert_eq!((sn.watched().len(), sn.counted(SnMetric::Dropped)), (30, 0));

    let mut sn = with_qos_minus_one();
    sn.rule(Action::Publish, "ab", AccessDecision::Deny(Default::default()));
    sn.rule(Action::Publish, "plant/5", AccessDecision::Ask);
    sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"));
    sn.send(DEVICE, unconnected(TopicRef::Predefined(5), "2"));
    assert_eq!(sn.watched(), ["plant/5=2"]);

    let mut sn = with_qos_minus_one();
    sn.refusal = Some(AuthRefusal::NotAuthorized);
    sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"));
    sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"));
    assert_eq!(sn.credentials.len(), 1, "it is not asked for every message");
    sn.refusal = None;
    sn.advance(10);
    sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "3"));
    assert_eq!(sn.watched(), ["ab=3"]);
}

/// Its identity can be thrown out like any other, and comes again when it is needed.
#[test]
fn the_unconnected_identity_comes_again() {
    let mut sn = with_qos_minus_one();
    sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "1"));
    sn.kick("$bridge/sn/mqtt-sn-unconnected");
    assert_eq!(sn.endpoints(), 0);
    sn.advance(10);
    sn.send(DEVICE, unconnected(TopicRef::Short(*b"ab"), "2"));
    assert_eq!(sn.watched(), ["ab=1", "ab=2"]);
}

/// Bytes that are no message are counted and disturb nobody, not even the one they come from.
#[test]
fn malformed_datagrams_disturb_nobody() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    for bytes in [
        &b""[..],
        b"\x00",
        b"\x05\x16",
        b"\x02\x03",
        b"\x01\x00\x02\x16",
        b"\x04\xfe\x00\x0a",
        b"\x07\x0c\x03\x00\x01\x00\x00",
        b"\x03\x18\x00",
    ] {
        sn.raw(DEVICE, bytes);
        sn.raw(OTHER, bytes);
    }
    assert_eq!((sn.sent(DEVICE), sn.sent(OTHER)), (vec![], vec![]));
    assert_eq!(sn.counted(SnMetric::Malformed), 16);
    sn.exchange(DEVICE, Message::PingReq(None), &[Message::PingResp]);
}

/// A payload of any length that fits into a datagram arrives whole. §5.2.1
#[test]
fn long_messages_have_long_lengths() {
    let mut sn = Bench::with(|settings| settings.amplification_limit = 0);
    sn.connected(DEVICE, "c");
    sn.connected(OTHER, "d");
    let id = sn.registered(DEVICE, "a");
    sn.subscribed(OTHER, "a", Qos::AtMostOnce);
    for len in [0, 1, 247, 248, 249, 250, 1_390] {
        let payload = "x".repeat(len);
        sn.exchange(DEVICE, publish_to(id, Qos::AtMostOnce, 0, &payload), &NOTHING);
        let [Message::Publish(Publish { data, .. })] = &sn.sent(OTHER)[..] else {
            panic!("{len}")
        };
        assert_eq!(data.len(), len);
    }
}

/// A serial line has one peer; several nodes behind it are told apart by their forwarder. The same gateway serves it.
#[test]
fn a_serial_line_is_a_transport() {
    let mut gateway =
        SnGateway::<()>::new(SnSettings::default(), Default::default(), Instant::START).unwrap();
    let mut out = SnOutputs::default();
    let mut line = LengthFramer::new(1_500);
    let stream = [
        &b"\x00noise"[..],
        &datagram(At(1, None), &Message::SearchGw { radius: 0 }),
        &datagram(At(1, Some(b"node")), &connect("c")),
    ];
    for piece in stream.concat().chunks(3) {
        assert_eq!(line.push(piece), piece.len());
        while let Some(frame) = line.next_frame() {
            gateway.handle_datagram((), frame, Instant::START, &mut out);
        }
    }
    let sent = out.take_datagrams();
    assert_eq!((sent.len(), sent[0].0), (1, Destination::To(())));
    let Asked { key, question, .. } = out.questions.pop().expect("CONNECT asks");
    assert!(matches!(question, Question::Authenticate(_)));
    gateway.handle_answer(
        key,
        Answer::Refused(AuthRefusal::NotAuthorized),
        Instant::START,
        &mut out,
    );
    let (to, bytes) = out.take_datagrams().pop().expect("CONNACK");
    assert_eq!(
        (to, &bytes[..]),
        (Destination::To(()), &b"\x07\xfe\x00node\x03\x05\x03"[..])
    );
}

/// Nobody who calls itself by the id of QoS −1 cuts it off: its session has a name that no client may have. §6.8
#[test]
fn the_id_of_qos_minus_one_is_nobody_elses() {
    let mut sn = Bench::with(|settings| settings.qos_minus_one.enabled = true);
    sn.watch("ab");
    let id = sn.settings.qos_minus_one.client_id.clone();
    let blind = || Message::Publish(publish(TopicRef::Short(*b"ab"), Qos::NoConnection, 0, "x"));
    sn.exchange(DEVICE, blind(), &NOTHING);
    sn.connected(OTHER, &id);
    sn.exchange(DEVICE, blind(), &NOTHING);
    assert_eq!((sn.watched(), sn.closed.len()), (vec!["ab=x".to_owned(); 2], 0));
    let reserved = format!("$bridge/sn/{id}");
    let refused = Message::ConnAck(ReturnCode::NotSupported);
    sn.exchange(OTHER, connect(&reserved), &[refused]);
}

/// A datagram cannot be left unread: what is too much is dropped without an answer, and the client's own timer brings it again. Nobody else notices.
#[test]
fn who_is_too_fast_is_not_answered() {
    let mut sn = Bench::with(|settings| {
        settings.max_client_packets_per_second = 10;
        settings.client_burst_packets = 3;
    });
    sn.watch("t/#");
    sn.connected(DEVICE, "fast");
    sn.connected(OTHER, "other");
    let id = sn.registered(DEVICE, "t/fast");
    let other = sn.registered(OTHER, "t/other");
    sn.advance(1);
    sn.watched();
    for n in 1..=10 {
        sn.send(DEVICE, publish_to(id, Qos::AtLeastOnce, n, "x"));
    }
    let acks: Vec<Message> = (1..=3).map(|n| puback(id, n, ReturnCode::Accepted)).collect();
    sn.commit();
    assert_eq!(sn.sent(DEVICE), acks);
    assert_eq!((sn.watched().len(), sn.counted(SnMetric::TooFast)), (3, 7));
    let told = std::mem::take(&mut sn.denied);
    let is_told = |denial: &Denial| denial.client.as_str() == "fast" && denial.wanted == Wanted::Send;
    assert!(told.len() == 7 && told.iter().all(is_told), "{told:?}");
    assert_eq!(told[0].why, "max_client_packets_per_second");
    sn.send(OTHER, publish_to(other, Qos::AtLeastOnce, 1, "x"));
    sn.commit();
    assert_eq!(sn.sent(OTHER), [puback(other, 1, ReturnCode::Accepted)]);
    // §6.13: it tries again, at the rate that it may have.
    for n in 4..=10 {
        sn.advance_ms(100);
        sn.send(DEVICE, dup(publish_to(id, Qos::AtLeastOnce, n, "x")));
        sn.commit();
        assert_eq!(sn.sent(DEVICE), [puback(id, n, ReturnCode::Accepted)]);
    }
    assert_eq!(sn.counted(SnMetric::TooFast), 7);
    // Goodbye is always taken.
    for n in 11..=20 {
        sn.send(DEVICE, publish_to(id, Qos::AtMostOnce, n, "x"));
    }
    sn.exchange(DEVICE, Message::Disconnect(None), &[Message::Disconnect(None)]);
}
