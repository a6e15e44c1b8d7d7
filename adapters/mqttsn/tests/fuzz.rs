//! Any bytes and any messages, from several peers, in any state. See [`headgate_fuzz`] for how long, and how to replay a failure.

mod bench;

use bench::*;
use bytes::Bytes;
use fastrand::Rng;
use headgate_model::access::AuthRefusal;
use headgate_model::{AccessDecision, Action, Answer, Qos as BusQos};
use headgate_mqttsn::PredefinedTopic;
use headgate_mqttsn_codec::{Message, Publish, Qos, ReturnCode, Subscribe, TopicName, TopicRef, Unsubscribe};

#[test]
fn whatever_comes_nobody_unknown_gets_more_than_it_sent() {
    headgate_fuzz::fuzz(|rng| rng.u64(..), |seed| run(*seed));
}

const PEERS: [At; 5] = [
    At(1, None),
    At(2, None),
    At(2, Some(b"n")),
    At(2, Some(b"a longer name of a node")),
    At(3, None),
];
/// Sends bytes and messages like the others, but never a CONNECT or a PINGREQ with a client id: it never becomes a client.
const UNKNOWN: At = At(4, None);
const IDS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 6] = ["a/1", "a/2", "ab", "gone", "secret", "asked"];

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut sn = Bench::with(|settings| {
        settings.max_clients = 4;
        settings.max_handshakes = 3;
        settings.max_registrations = 3;
        settings.max_datagram_bytes = 64;
        settings.max_remembered_bytes = 300;
        settings.qos_minus_one.enabled = true;
        settings.predefined = vec![PredefinedTopic {
            id: 2,
            topic: "a/2".into(),
            client_id: None,
        }];
    });
    sn.watch("#");
    for topic in ["secret", "asked"] {
        let decision = match topic {
            "asked" => AccessDecision::Ask,
            _ => AccessDecision::Deny(Default::default()),
        };
        sn.rule(Action::Publish, topic, decision);
        sn.rule(Action::Subscribe, topic, decision);
    }
    for _ in 0..200 {
        step(&mut sn, &mut rng);
        let stats = sn.gateway.stats();
        assert!(stats.clients + stats.handshakes <= 4 + 3, "{stats:?}");
        assert!(
            sn.endpoints() <= stats.clients + 1,
            "an endpoint without a client"
        );
    }
    // Left alone, everybody is lost, or sleeps and is lost, and nothing is kept but the ids of two that have gone.
    sn.questions_wait = false;
    sn.break_disk(false);
    sn.withheld = false;
    sn.commit();
    sn.advance(200_000);
    let stats = sn.gateway.stats();
    assert_eq!((stats.clients, stats.handshakes), (0, 0));
    assert!(stats.remembered <= 2 && stats.names <= 2 * 3, "{stats:?}");
    assert!(sn.endpoints() <= 1, "the one without a connection");
}

fn step(sn: &mut Bench, rng: &mut Rng) {
    match rng.u8(..20) {
        0 => sn.advance(rng.u64(..100)),
        1 => sn.deliver(TOPICS[rng.usize(..TOPICS.len())], "x", any_bus_qos(rng)),
        2 => sn.refusal = (rng.u8(..3) == 0).then_some(AuthRefusal::NotAuthorized),
        3 => sn.questions_wait = rng.bool(),
        4 if sn.questions_wait => {
            // Whoever is asked has an answer, and it need not fit the question.
            let answer = match rng.u8(..3) {
                0 => Answer::Refused(AuthRefusal::Unavailable),
                1 => Answer::Authorized(vec![AccessDecision::Allow]),
                _ => sn.allowed(),
            };
            sn.answer_if_asked(answer);
        }
        5 => sn.kick(IDS[rng.usize(..IDS.len())]),
        6 => {
            sn.withheld = rng.bool();
            if !sn.withheld {
                sn.commit();
            }
        }
        7 => sn.break_disk(rng.u8(..4) == 0),
        8 if rng.u8(..10) == 0 => {
            sn.crash(rng.u64(..100));
            sn.watch("#");
        }
        9..12 => {
            let bytes = any_bytes(rng);
            from_unknown(sn, &bytes);
            sn.raw(PEERS[rng.usize(..PEERS.len())], &bytes);
        }
        _ => {
            let from = PEERS[rng.usize(..PEERS.len())];
            let message = any_message(rng);
            let bytes = datagram(UNKNOWN, &message);
            from_unknown(sn, &bytes);
            sn.send(from, message);
        }
    }
}

/// No amplification: a peer without a client gets at most one datagram for each, of no more bytes.
fn from_unknown(sn: &mut Bench, bytes: &[u8]) {
    let begins =
        |kind| bytes.get(1) == Some(&kind) || (bytes.first() == Some(&1) && bytes.get(3) == Some(&kind));
    if begins(0x04) || begins(0x16) {
        return;
    }
    sn.raw(UNKNOWN, bytes);
    let sent: Vec<usize> = sn.datagrams(UNKNOWN).into_iter().map(|(len, _)| len).collect();
    assert!(sent.len() <= 1, "{sent:?} for {bytes:02x?}");
    assert!(
        sent.iter().all(|len| *len <= bytes.len()),
        "{sent:?} for {bytes:02x?}"
    );
}

fn any_bytes(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = datagram(UNKNOWN, &any_message(rng)).to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            _ if at == bytes.len() => bytes.push(rng.u8(..)),
            2 => bytes[at] ^= 1 << rng.u8(..8),
            _ => bytes[at] = rng.u8(..),
        }
    }
    if rng.bool() && !bytes.is_empty() {
        bytes[0] = u8::try_from(bytes.len()).unwrap_or(2);
    }
    bytes
}

fn any_bus_qos(rng: &mut Rng) -> BusQos {
    [BusQos::AtMostOnce, BusQos::AtLeastOnce, BusQos::ExactlyOnce][rng.usize(..3)]
}

fn any_qos(rng: &mut Rng) -> Qos {
    [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][rng.usize(..3)]
}

/// Small numbers, so that answers meet questions now and then.
fn any_message(rng: &mut Rng) -> Message {
    let topic = TOPICS[rng.usize(..TOPICS.len())];
    let id = IDS[rng.usize(..IDS.len())];
    let (topic_id, msg_id) = (rng.u16(..5), rng.u16(..5));
    let code = ReturnCode::from_code(if rng.bool() { 0 } else { rng.u8(..5) });
    match rng.u8(..26) {
        0 => Message::SearchGw { radius: 0 },
        1..5 => connect_as(id, rng.bool(), rng.bool(), [0, 10, 600][rng.usize(..3)]),
        5 => Message::WillTopic(rng.bool().then(|| a_will(topic))),
        6 => will_msg("x"),
        7 => register(topic, msg_id),
        8 => regack(topic_id, msg_id, code),
        9..12 => {
            let qos = if rng.u8(..4) == 0 {
                Qos::NoConnection
            } else {
                any_qos(rng)
            };
            let topic = match rng.u8(..4) {
                0 => TopicRef::Short(*b"ab"),
                1 => TopicRef::Predefined(topic_id),
                _ => TopicRef::Normal(topic_id),
            };
            Message::Publish(Publish {
                dup: rng.bool(),
                retain: rng.bool(),
                ..publish(topic, qos, msg_id, &"x".repeat(rng.usize(..80)))
            })
        }
        12..14 => puback(topic_id, msg_id, code),
        14 => Message::PubRec(msg_id),
        15 => Message::PubRel(msg_id),
        16 => Message::PubComp(msg_id),
        17 => Message::Subscribe(Subscribe {
            dup: false,
            qos: any_qos(rng),
            msg_id,
            topic: match rng.u8(..5) {
                0 => TopicName::Predefined(topic_id),
                1 => TopicName::Short(*b"ab"),
                2 => TopicName::Name(Bytes::from_static(b"#")),
                _ => TopicName::Name(Bytes::from_static(topic.as_bytes())),
            },
        }),
        18 => Message::Unsubscribe(Unsubscribe {
            msg_id,
            topic: TopicName::Name(Bytes::from_static(topic.as_bytes())),
        }),
        19 => Message::PingReq(None),
        20..22 => ping(id),
        22 => Message::Disconnect(None),
        23 => Message::Disconnect(Some(rng.u16(..100))),
        24 => Message::WillTopicUpd(rng.bool().then(|| a_will(topic))),
        _ => Message::WillMsgUpd(Bytes::from_static(b"y")),
    }
}
