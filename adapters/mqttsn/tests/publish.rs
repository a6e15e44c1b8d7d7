//! What clients ask for: topic ids, PUBLISH at every QoS, SUBSCRIBE, changes of the will. MQTT-SN 1.2 §6.4 to §6.9

mod bench;

use bench::*;
use bytes::Bytes;
use headgate_model::{AccessDecision, Action, Answer, Metric, Qos as BusQos};
use headgate_mqttsn::{PredefinedTopic, SnGateway, SnMetric, SnSettings, SnSettingsError};
use headgate_mqttsn_codec::{
    Message, Publish, Qos, ReturnCode, Subscribe, TopicName, TopicRef, Unsubscribe, WillTopic,
};
use std::net::SocketAddr;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const DENY: AccessDecision = AccessDecision::Deny(headgate_model::access::DenyCode::NotAuthorized);

/// A client that goes on with an id of before the gateway was started again is told so, though others have ids by then; it does not publish elsewhere.
/// Our reading: docs/interpretations.md#sn-gateway-restart.
#[test]
fn ids_of_an_earlier_gateway_mean_nothing() {
    let mut sn = Bench::new();
    sn.connected_durably(DEVICE, "c");
    let before = sn.registered(DEVICE, "mine");
    sn.crash(1);
    sn.gateway.start_ids_at(30_000);
    sn.watch("#");
    sn.connected_durably(DEVICE, "c");
    assert_eq!(sn.registered(DEVICE, "another"), 30_000);
    let publish = publish_to(before, Qos::AtLeastOnce, 9, "x");
    sn.exchange(DEVICE, publish, &[puback(before, 9, ReturnCode::InvalidTopicId)]);
    assert_eq!(sn.registered(DEVICE, "mine"), 30_001);
    assert_eq!(sn.watched(), UNHEARD);
}

/// §6.5 An id belongs to one client and stands for one topic, however often it is asked for.
#[test]
fn topics_are_registered() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected(DEVICE, "c");
    sn.connected(OTHER, "d");
    sn.exchange(DEVICE, register("a/b", 7), &[regack(1, 7, ACCEPTED)]);
    sn.exchange(DEVICE, register("a/c", 8), &[regack(2, 8, ACCEPTED)]);
    sn.exchange(DEVICE, register("a/b", 9), &[regack(1, 9, ACCEPTED)]);
    sn.exchange(OTHER, register("a/c", 1), &[regack(1, 1, ACCEPTED)]);
    for from in [DEVICE, OTHER] {
        sn.exchange(from, publish_to(1, Qos::AtMostOnce, 0, "x"), &NOTHING);
    }
    assert_eq!(sn.watched(), ["a/b=x", "a/c=x"]);
    for bad in ["a/+", "#", "\0"] {
        sn.exchange(
            DEVICE,
            register(bad, 3),
            &[regack(0, 3, ReturnCode::NotSupported)],
        );
    }
}

/// Everything has a bound: then there is congestion. §5.3.10
#[test]
fn topic_ids_have_a_limit() {
    let mut sn = Bench::with(|settings| settings.max_registrations = 2);
    sn.connected(DEVICE, "c");
    sn.registered(DEVICE, "a/1");
    sn.registered(DEVICE, "a/2");
    sn.exchange(
        DEVICE,
        register("a/3", 1),
        &[regack(0, 1, ReturnCode::Congestion)],
    );
    let full = suback(Qos::AtMostOnce, 0, 1, ReturnCode::Congestion);
    sn.exchange(DEVICE, subscribe("a/3", Qos::AtMostOnce, 1), &[full]);
    sn.subscribed(DEVICE, "a/2", Qos::AtMostOnce);
    sn.subscribed(DEVICE, "a/+", Qos::AtLeastOnce);
    // A message for a topic that the client cannot be told of.
    sn.deliver("a/3", "x", BusQos::AtLeastOnce);
    assert_eq!((sn.sent(DEVICE), sn.counted(SnMetric::Rejected)), (vec![], 1));
}

/// §5.3.11, §5.4.13: an id that means nothing is answered at every QoS, so that the client registers anew.
#[test]
fn unknown_topic_ids_are_refused() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected(DEVICE, "c");
    sn.registered(DEVICE, "a");
    for (qos, msg_id) in [(Qos::AtMostOnce, 0), (Qos::AtLeastOnce, 5), (Qos::ExactlyOnce, 6)] {
        for topic in [
            TopicRef::Normal(0),
            TopicRef::Normal(2),
            TopicRef::Normal(0xFFFF),
            TopicRef::Predefined(1),
            TopicRef::Short(*b"+/"),
        ] {
            let id = match topic {
                TopicRef::Normal(id) | TopicRef::Predefined(id) => id,
                TopicRef::Short(name) => u16::from_be_bytes(name),
            };
            let message = Message::Publish(publish(topic, qos, msg_id, "x"));
            sn.exchange(DEVICE, message, &[puback(id, msg_id, ReturnCode::InvalidTopicId)]);
        }
    }
    assert_eq!(sn.watched(), UNHEARD);
}

fn predefined(id: u16, topic: &str, client_id: Option<&str>) -> PredefinedTopic {
    PredefinedTopic {
        id,
        topic: topic.into(),
        client_id: client_id.map(str::to_owned),
    }
}

/// §6.7 Predefined ids, for all and for one client, and short names: in both directions, without REGISTER.
#[test]
fn predefined_ids_and_short_names_need_no_register() {
    let mut sn = Bench::with(|settings| {
        settings.predefined = vec![
            predefined(7, "plant/all", None),
            predefined(8, "plant/mine", Some("c")),
            predefined(7, "plant/other", Some("d")),
        ];
    });
    sn.watch("#");
    sn.connected(DEVICE, "c");
    sn.connected(OTHER, "d");
    let to = |topic| Message::Publish(publish(topic, Qos::AtMostOnce, 0, "x"));
    sn.exchange(DEVICE, to(TopicRef::Predefined(7)), &NOTHING);
    sn.exchange(DEVICE, to(TopicRef::Predefined(8)), &NOTHING);
    sn.exchange(DEVICE, to(TopicRef::Short(*b"ab")), &NOTHING);
    sn.exchange(OTHER, to(TopicRef::Predefined(7)), &NOTHING);
    let unknown = puback(8, 0, ReturnCode::InvalidTopicId);
    sn.exchange(OTHER, to(TopicRef::Predefined(8)), &[unknown]);
    assert_eq!(
        sn.watched(),
        ["plant/all=x", "plant/mine=x", "ab=x", "plant/other=x"]
    );

    let wish = |topic| {
        Message::Subscribe(Subscribe {
            dup: false,
            qos: Qos::AtMostOnce,
            msg_id: 4,
            topic,
        })
    };
    let granted = |id| suback(Qos::AtMostOnce, id, 4, ACCEPTED);
    sn.exchange(DEVICE, wish(TopicName::Predefined(7)), &[granted(7)]);
    sn.exchange(
        DEVICE,
        wish(TopicName::Short(*b"ab")),
        &[granted(u16::from_be_bytes(*b"ab"))],
    );
    let refused = suback(Qos::AtMostOnce, 0, 4, ReturnCode::InvalidTopicId);
    sn.exchange(DEVICE, wish(TopicName::Predefined(9)), &[refused]);
    sn.deliver("plant/all", "1", BusQos::AtMostOnce);
    sn.deliver("ab", "2", BusQos::AtMostOnce);
    let with = |topic, payload| Message::Publish(publish(topic, Qos::AtMostOnce, 0, payload));
    assert_eq!(
        sn.sent(DEVICE),
        [
            with(TopicRef::Predefined(7), "1"),
            with(TopicRef::Short(*b"ab"), "2")
        ]
    );
    // What is everyone's 7 is something else to d: it has to be told of an id.
    sn.exchange(
        OTHER,
        subscribe("plant/+", Qos::AtMostOnce, 5),
        &[suback(Qos::AtMostOnce, 0, 5, ACCEPTED)],
    );
    sn.deliver("plant/all", "3", BusQos::AtMostOnce);
    assert_eq!(sn.sent(OTHER), [register_id("plant/all", 1, 1)]);
}

#[test]
fn predefined_topics_are_checked_when_they_are_set() {
    let gateway = |topics: Vec<PredefinedTopic>| {
        let settings = SnSettings {
            predefined: topics,
            ..SnSettings::default()
        };
        SnGateway::<SocketAddr>::new(settings, Default::default(), Default::default()).err()
    };
    assert_eq!(
        gateway(vec![predefined(0, "a", None)]),
        Some(SnSettingsError::ReservedId(0))
    );
    assert_eq!(
        gateway(vec![predefined(0xFFFF, "a", Some("c"))]),
        Some(SnSettingsError::ReservedId(0xFFFF))
    );
    let twice = vec![predefined(1, "a", None), predefined(1, "b", None)];
    assert_eq!(gateway(twice), Some(SnSettingsError::IdTwice(1)));
    assert!(matches!(
        gateway(vec![predefined(1, "a/#", None)]),
        Some(SnSettingsError::Topic { .. })
    ));
    assert_eq!(
        gateway(vec![predefined(1, "a", None), predefined(1, "b", Some("c"))]),
        None
    );
}

/// §6.6 An acknowledgement is a promise: it leaves when the message is safe, and one answer is for all copies that came before.
#[test]
fn an_acknowledgement_waits_for_the_disk() {
    for (qos, answer) in [
        (Qos::AtLeastOnce, puback(1, 5, ACCEPTED)),
        (Qos::ExactlyOnce, Message::PubRec(5)),
    ] {
        let mut sn = Bench::new();
        sn.connected_durably(OTHER, "away");
        sn.subscribed(OTHER, "a", Qos::ExactlyOnce);
        sn.exchange(OTHER, Message::Disconnect(Some(600)), &[DISCONNECT]);
        sn.connected(DEVICE, "c");
        let id = sn.registered(DEVICE, "a");
        sn.withheld = true;
        let message = publish_to(id, qos, 5, "x");
        sn.exchange(DEVICE, message.clone(), &NOTHING);
        sn.exchange(DEVICE, dup(message), &NOTHING);
        sn.withheld = false;
        sn.commit();
        assert_eq!(sn.sent(DEVICE), [answer]);
        sn.exchange(OTHER, durable("away"), &[CONNACK, register_id("a", 1, 1)]);
        assert_eq!(sn.bus.stats().queued + sn.bus.stats().inflight, 1, "once");
    }
}

/// §6.6, QoS 2: whatever is lost on the way, the message is published once.
#[test]
fn a_qos_2_message_is_published_once() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected_durably(DEVICE, "c");
    let id = sn.registered(DEVICE, "a");
    let message = publish_to(id, Qos::ExactlyOnce, 5, "x");
    for _ in 0..3 {
        sn.exchange(DEVICE, message.clone(), &[Message::PubRec(5)]);
    }
    for _ in 0..3 {
        sn.exchange(DEVICE, Message::PubRel(5), &[Message::PubComp(5)]);
    }
    assert_eq!(sn.watched(), ["a=x"]);
    sn.exchange(DEVICE, message.clone(), &[Message::PubRec(5)]);
    assert_eq!(sn.watched(), ["a=x"], "the id is free for another message");
    // The gateway knows what it has, whatever becomes of it.
    sn.crash(0);
    sn.watch("#");
    sn.connected_durably(DEVICE, "c");
    sn.registered(DEVICE, "a");
    sn.exchange(DEVICE, dup(message), &[Message::PubRec(5)]);
    assert_eq!(sn.watched(), UNHEARD);
}

/// What cannot be kept is not acknowledged as if it were.
#[test]
fn a_message_that_is_not_taken_is_refused() {
    let mut sn = Bench::new();
    sn.connected_durably(OTHER, "away");
    sn.subscribed(OTHER, "a", Qos::AtLeastOnce);
    sn.exchange(OTHER, Message::Disconnect(Some(600)), &[DISCONNECT]);
    sn.connected(DEVICE, "c");
    let id = sn.registered(DEVICE, "a");
    sn.break_disk(true);
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let refused = puback(id, 5, ReturnCode::Congestion);
        sn.exchange(DEVICE, publish_to(id, qos, 5, "x"), &[refused]);
    }
}

/// docs/interpretations.md#sn-denied
#[test]
fn rules_apply() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected(DEVICE, "c");
    let id = sn.registered(DEVICE, "secret");
    let system = sn.registered(DEVICE, "$SYS/x");
    sn.rule(Action::Publish, "secret", DENY);
    sn.rule(Action::Subscribe, "secret", DENY);
    for id in [id, system] {
        let denied = puback(id, 5, ReturnCode::NotSupported);
        sn.exchange(DEVICE, publish_to(id, Qos::AtLeastOnce, 5, "x"), &[denied]);
    }
    let denied = suback(Qos::AtMostOnce, 0, 6, ReturnCode::NotSupported);
    sn.exchange(DEVICE, subscribe("secret", Qos::AtMostOnce, 6), &[denied]);
    assert_eq!(
        (sn.watched(), sn.counted(Metric::DroppedNotAuthorized)),
        (vec![], 2)
    );
}

/// While the access service is asked, what the client says meanwhile waits its turn.
#[test]
fn order_is_kept_while_a_question_is_open() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected(DEVICE, "c");
    let (slow, fast) = (sn.registered(DEVICE, "slow"), sn.registered(DEVICE, "fast"));
    sn.rule(Action::Publish, "slow", AccessDecision::Ask);
    sn.rule(Action::Subscribe, "slow", AccessDecision::Ask);
    sn.questions_wait = true;
    sn.exchange(DEVICE, publish_to(slow, Qos::AtLeastOnce, 1, "1"), &NOTHING);
    sn.exchange(DEVICE, publish_to(fast, Qos::AtMostOnce, 0, "2"), &NOTHING);
    sn.exchange(DEVICE, subscribe("slow", Qos::AtMostOnce, 2), &NOTHING);
    sn.exchange(DEVICE, DISCONNECT, &NOTHING);
    assert_eq!(sn.watched(), UNHEARD);
    sn.answer(Answer::Authorized(vec![AccessDecision::Allow]));
    assert_eq!(sn.watched(), ["slow=1", "fast=2"]);
    assert_eq!(sn.sent(DEVICE), [puback(slow, 1, ACCEPTED)]);
    sn.answer(Answer::Authorized(vec![DENY]));
    let denied = suback(Qos::AtMostOnce, 0, 2, ReturnCode::NotSupported);
    assert_eq!(sn.sent(DEVICE), [denied, DISCONNECT]);
}

/// What waits behind a question has a bound.
#[test]
fn little_waits_behind_a_question() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    let id = sn.registered(DEVICE, "slow");
    sn.rule(Action::Publish, "slow", AccessDecision::Ask);
    sn.questions_wait = true;
    for _ in 0..100 {
        sn.exchange(DEVICE, publish_to(id, Qos::AtMostOnce, 0, "x"), &NOTHING);
    }
    assert_eq!(sn.counted(SnMetric::Dropped), 100 - 1 - 16);
}

/// §6.9 A name without wildcards gets an id, a filter with wildcards none; what is not a filter is refused.
#[test]
fn suback_says_the_topic_id() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    assert_eq!(sn.subscribed(DEVICE, "a/b", Qos::AtLeastOnce), 1);
    assert_eq!(sn.subscribed(DEVICE, "a/+", Qos::AtLeastOnce), 0);
    assert_eq!(sn.subscribed(DEVICE, "a/b", Qos::AtLeastOnce), 1);
    sn.deliver("a/b", "x", BusQos::AtMostOnce);
    assert_eq!(
        sn.sent(DEVICE),
        [publish_to(1, Qos::AtMostOnce, 0, "x")],
        "the client knows the id"
    );
    let refused = suback(Qos::AtMostOnce, 0, 3, ReturnCode::NotSupported);
    sn.exchange(DEVICE, subscribe("a#", Qos::AtMostOnce, 3), &[refused]);
}

/// §6.9
#[test]
fn unsubscribe_is_always_answered() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    sn.subscribed(DEVICE, "a/+", Qos::AtMostOnce);
    for topic in [
        TopicName::Name(Bytes::from_static(b"a/+")),
        TopicName::Predefined(9),
    ] {
        let unsubscribe = Message::Unsubscribe(Unsubscribe { msg_id: 3, topic });
        sn.exchange(DEVICE, unsubscribe, &[Message::UnsubAck(3)]);
    }
    sn.deliver("a/b", "x", BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE), NOTHING);
}

/// A mount point goes before all topics of the clients, and they do not see it.
#[test]
fn clients_do_not_see_their_mount_point() {
    let mut sn = Bench::mounted("site/");
    sn.watch("#");
    sn.connected(DEVICE, "c");
    let id = sn.registered(DEVICE, "valve");
    sn.exchange(DEVICE, publish_to(id, Qos::AtMostOnce, 0, "x"), &NOTHING);
    sn.exchange(
        DEVICE,
        Message::Publish(publish(TopicRef::Short(*b"ab"), Qos::AtMostOnce, 0, "y")),
        &NOTHING,
    );
    assert_eq!(sn.watched(), ["site/valve=x", "site/ab=y"]);
    sn.subscribed(DEVICE, "+", Qos::AtMostOnce);
    sn.deliver("site/pump", "1", BusQos::AtMostOnce);
    assert_eq!(sn.sent(DEVICE), [register_id("pump", 2, 1)]);
    sn.exchange(
        DEVICE,
        regack(2, 1, ACCEPTED),
        &[publish_to(2, Qos::AtMostOnce, 0, "1")],
    );
    sn.deliver("site/ab", "2", BusQos::AtMostOnce);
    let short = publish(TopicRef::Short(*b"ab"), Qos::AtMostOnce, 0, "2");
    assert_eq!(sn.sent(DEVICE), [Message::Publish(short)]);
}

/// §5.4.12 A client's RETAIN is kept, and told to those who subscribe later.
#[test]
fn retained_messages_are_kept_and_told_as_such() {
    let mut sn = Bench::new();
    sn.connected(DEVICE, "c");
    let id = sn.registered(DEVICE, "a");
    let retained = Publish {
        retain: true,
        ..publish(TopicRef::Normal(id), Qos::AtMostOnce, 0, "x")
    };
    sn.exchange(DEVICE, Message::Publish(retained.clone()), &NOTHING);
    sn.connected(OTHER, "d");
    sn.send(OTHER, subscribe("a", Qos::AtMostOnce, 1));
    let expected = Publish {
        topic: TopicRef::Normal(1),
        ..retained
    };
    assert_eq!(
        sn.sent(OTHER),
        [
            suback(Qos::AtMostOnce, 1, 1, ACCEPTED),
            Message::Publish(expected)
        ]
    );
}

/// §6.4 A client changes its will while it is connected; without a will there is nothing whose message could be changed.
#[test]
fn a_will_is_updated() {
    let mut sn = Bench::new();
    sn.watch("#");
    sn.connected(DEVICE, "c");
    let msg = |code| Message::WillMsgResp(code);
    let topic = |code| Message::WillTopicResp(code);
    let update = |text: &'static str| Message::WillMsgUpd(Bytes::from_static(text.as_bytes()));
    let to = |name: &str| {
        Message::WillTopicUpd(Some(WillTopic {
            retain: true,
            ..a_will(name)
        }))
    };
    sn.exchange(DEVICE, update("1"), &[msg(ReturnCode::NotSupported)]);
    sn.exchange(DEVICE, to("gone"), &[topic(ACCEPTED)]);
    sn.exchange(DEVICE, update("2"), &[msg(ACCEPTED)]);
    sn.exchange(DEVICE, to("a/#"), &[topic(ReturnCode::NotSupported)]);
    sn.rule(Action::Publish, "secret", DENY);
    sn.exchange(DEVICE, to("secret"), &[topic(ReturnCode::NotSupported)]);
    sn.rule(Action::Publish, "asked", AccessDecision::Ask);
    sn.exchange(DEVICE, to("asked"), &[topic(ACCEPTED)]);
    sn.exchange(DEVICE, to("gone"), &[topic(ACCEPTED)]);
    sn.advance(90);
    assert_eq!(sn.watched(), ["gone=2"]);

    sn.exchange(DEVICE, connect_as("c", false, true, 60), &[Message::WillTopicReq]);
    sn.exchange(DEVICE, will_topic("gone"), &[Message::WillMsgReq]);
    sn.exchange(DEVICE, will_msg("3"), &[CONNACK]);
    sn.exchange(DEVICE, Message::WillTopicUpd(None), &[topic(ACCEPTED)]);
    sn.advance(90);
    assert_eq!(sn.watched(), UNHEARD, "an empty WILLTOPICUPD deletes it");
}

/// A change of the will is answered once it would survive.
#[test]
fn a_will_update_waits_for_the_disk() {
    let mut sn = Bench::new();
    sn.connected_durably(DEVICE, "c");
    sn.withheld = true;
    sn.exchange(DEVICE, Message::WillTopicUpd(Some(a_will("gone"))), &NOTHING);
    sn.withheld = false;
    sn.commit();
    assert_eq!(sn.sent(DEVICE), [Message::WillTopicResp(ACCEPTED)]);
}
