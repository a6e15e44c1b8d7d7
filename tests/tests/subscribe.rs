//! SUBSCRIBE and UNSUBSCRIBE. MQTT 5 §3.8 to §3.11; 3.1.1 the same sections

use headgate_bus::{AutoSubscription, Overlap};
use headgate_model::access::DenyCode;
use headgate_model::{AccessDecision, Action, Answer};
use headgate_mqtt_codec::{
    Packet, PacketType, PublishProperties, Qos, ReasonCode, SubscribeOptions, Version,
};
use headgate_tests::*;

const LEVELS: [Qos; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// The packet identifier and the codes of the SUBACK or UNSUBACK that came.
fn answer(client: &mut Client, kind: PacketType) -> (u16, Vec<ReasonCode>) {
    match client.expect(kind) {
        Packet::SubAck(ack) => (ack.packet_id.get(), ack.codes),
        Packet::UnsubAck(ack) => (ack.packet_id.get(), ack.codes),
        other => panic!("{other:?}"),
    }
}

/// The identifiers that came with the only message there is.
fn identifiers(client: &mut Client) -> Vec<u32> {
    let messages = client.take();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let mut found = messages[0].props().subscription_identifiers;
    found.sort_unstable();
    found
}

/// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT-2.2.1-6]
/// [3.1.1 MQTT-3.8.4-1] [3.1.1 MQTT-3.8.4-2] [3.1.1 MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-5] [3.1.1 MQTT-3.9.3-1] [3.1.1 MQTT-3.9.3-2]
/// [3.1.1 MQTT-2.3.1-7]
/// One SUBACK with one code for each filter, in their order; what is refused does not spoil the rest. Of equal filters the last holds.
#[test]
fn suback_mirrors_the_subscribe() {
    for version in NUMBERED {
        let gw = Gateway::with(|s| s.bus.max_subscriptions = 5);
        gw.rule(
            Action::Subscribe,
            "secret",
            AccessDecision::Deny(DenyCode::NotAuthorized),
        );
        gw.rule(
            Action::Subscribe,
            "hidden",
            AccessDecision::Deny(DenyCode::Unspecified),
        );
        let mut client = gw.client(version, "c");
        client.send(subscribe(
            77,
            &[
                ("zero", AtMostOnce),
                ("one", AtLeastOnce),
                ("secret", AtLeastOnce),
                ("two", ExactlyOnce),
                ("hidden", AtMostOnce),
                ("$local/$local/a", AtMostOnce),
                ("same", AtMostOnce),
                ("same", ExactlyOnce),
                ("sixth", AtMostOnce),
                ("seventh", AtMostOnce),
            ],
        ));
        use ReasonCode as R;
        let v5 = |code| if version == V5 { code } else { R::UnspecifiedError };
        let expected = vec![
            R::Success,
            R::GrantedQos1,
            v5(R::NotAuthorized),
            R::GrantedQos2,
            R::UnspecifiedError,
            v5(R::TopicFilterInvalid),
            R::Success,
            R::GrantedQos2,
            R::Success,
            v5(R::QuotaExceeded),
        ];
        assert_eq!(answer(&mut client, PacketType::SubAck), (77, expected));
        let mut publisher = gw.client(V5, "p");
        for topic in [
            "zero", "one", "two", "same", "secret", "hidden", "sixth", "seventh",
        ] {
            publisher.deliver(publish(topic, ""), ExactlyOnce);
        }
        let got: Vec<_> = client
            .take()
            .iter()
            .map(|m| (m.topic.as_str().to_owned(), m.qos as u8))
            .collect();
        let expected = [("zero", 0), ("one", 1), ("two", 2), ("same", 2), ("sixth", 0)];
        assert_eq!(got, expected.map(|(topic, qos)| (topic.to_owned(), qos)));
    }
}

/// [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2] [MQTT-2.2.1-6]
/// [3.1.1 MQTT-3.10.4-4] [3.1.1 MQTT-3.10.4-5] [3.1.1 MQTT-3.10.4-6] [3.1.1 MQTT-2.3.1-7]
/// One UNSUBACK under the same identifier; MQTT 5 with one code for each filter, in their order.
#[test]
fn unsuback_mirrors_the_unsubscribe() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.client(version, "c");
        client.subscribe("a", AtMostOnce);
        client.subscribe("b", AtMostOnce);
        client.send(unsubscribe(78, &["a", "unknown", "$local/$local/a", "b", "a"]));
        use ReasonCode as R;
        let codes = match version {
            V5 => {
                let gone = R::NoSubscriptionExisted;
                vec![R::Success, gone, R::TopicFilterInvalid, R::Success, gone]
            }
            _ => vec![],
        };
        assert_eq!(answer(&mut client, PacketType::UnsubAck), (78, codes));
        client.send(unsubscribe(79, &["nothing"]));
        assert_eq!(answer(&mut client, PacketType::UnsubAck).0, 79);
        client.say("a", "");
        client.say("b", "");
        assert_eq!(client.messages(), []);
    }
}

/// SUBACK and UNSUBACK of a durable session are promises too: they wait for the commit.
#[test]
fn suback_waits_for_the_commit() {
    let gw = Gateway::default();
    let mut client = gw.open(connect(V5, "c").durable());
    gw.withhold_commits();
    client.send(subscribe(1, &[("a", AtLeastOnce)]));
    assert_eq!(client.received(), []);
    gw.commit();
    client.expect(PacketType::SubAck);
    client.send(unsubscribe(2, &["a"]));
    assert_eq!(client.received(), []);
    gw.commit();
    client.expect(PacketType::UnsubAck);
}

/// Access to filters may have to be asked for: the answers find their places.
#[test]
fn asked_filters_get_their_own_answers() {
    let gw = Gateway::default();
    for topic in ["x", "y"] {
        gw.rule(Action::Subscribe, topic, AccessDecision::Ask);
    }
    let mut client = gw.client(V5, "c");
    gw.access(|_| None);
    let filters = [("x", AtMostOnce), ("free", AtLeastOnce), ("y", ExactlyOnce)];
    client.send(subscribe(1, &filters));
    assert_eq!(client.received(), []);
    let denied = AccessDecision::Deny(DenyCode::NotAuthorized);
    gw.answer(Answer::Authorized(vec![denied, AccessDecision::Allow]));
    let codes = vec![
        ReasonCode::NotAuthorized,
        ReasonCode::GrantedQos1,
        ReasonCode::GrantedQos2,
    ];
    assert_eq!(answer(&mut client, PacketType::SubAck), (1, codes));
}

/// [MQTT-3.8.4-8] [3.1.1 MQTT-3.8.4-6] The lower of both levels, live and queued: all nine combinations.
#[test]
fn delivered_qos_is_the_lower_of_both() {
    for version in NUMBERED {
        for granted in LEVELS {
            let gw = Gateway::default();
            let mut live = gw.client(version, "live");
            live.subscribe("a", granted);
            let mut away = gw.open(connect(version, "away").durable());
            away.subscribe("a", granted);
            away.leave();
            for published in LEVELS {
                gw.client(V5, "p").deliver(publish("a", ""), published);
            }
            let levels = |client: &mut Client| client.take().iter().map(|m| m.qos as u8).collect::<Vec<_>>();
            let lower: Vec<u8> = LEVELS
                .iter()
                .map(|published| *published.min(&granted) as u8)
                .collect();
            assert_eq!(levels(&mut live), lower);
            let kept: Vec<u8> = lower.into_iter().filter(|qos| *qos > 0).collect();
            assert_eq!(levels(&mut gw.open(connect(version, "away").durable())), kept);
        }
    }
}

/// EMQ's `upgrade_qos`: the level of the subscription, whatever was published.
#[test]
fn qos_can_be_upgraded() {
    let gw = Gateway::with(|s| s.bus.upgrade_qos = true);
    let mut client = gw.client(V5, "c");
    client.subscribe("a", AtLeastOnce);
    client.say("a", "x");
    assert_eq!(client.take()[0].qos, AtLeastOnce);
}

/// [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] [3.1.1 MQTT-3.3.5-1]
/// Several subscriptions of one client match: one copy at the highest level, with the identifiers of all that have one.
#[test]
fn overlapping_subscriptions_give_one_copy() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.client(version, "c");
        overlap(&mut client, version);
        gw.client(V5, "p").deliver(publish("a/b", "x"), ExactlyOnce);
        let messages = client.take();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].qos, ExactlyOnce);
        let mut ids = messages[0].props().subscription_identifiers;
        ids.sort_unstable();
        assert_eq!(ids, if version == V5 { vec![1, 2, 2] } else { vec![] });
    }
}

/// [MQTT-3.3.4-2] [MQTT-3.3.4-5] [3.1.1 MQTT-3.3.5-1] The operator may prefer one copy for each: each at its own level, with its own
/// identifier or none.
#[test]
fn overlapping_subscriptions_can_give_a_copy_each() {
    for version in NUMBERED {
        let gw = Gateway::with(|s| s.bus.overlap = Overlap::EachSubscription);
        let mut client = gw.client(version, "c");
        overlap(&mut client, version);
        gw.client(V5, "p").deliver(publish("a/b", "x"), ExactlyOnce);
        let mut copies: Vec<(u8, Vec<u32>)> = client
            .take()
            .iter()
            .map(|message| (message.qos as u8, message.props().subscription_identifiers))
            .collect();
        copies.sort_unstable();
        let ids = |ids: &[u32]| if version == V5 { ids.to_vec() } else { vec![] };
        assert_eq!(
            copies,
            [(0, ids(&[1])), (1, ids(&[])), (1, ids(&[2])), (2, ids(&[2]))]
        );
    }
}

fn overlap(client: &mut Client, version: Version) {
    let subscriptions = [
        ("a/#", AtMostOnce, Some(1)),
        ("a/+", ExactlyOnce, Some(2)),
        ("a/b", AtLeastOnce, None),
        ("+/b", AtLeastOnce, Some(2)),
    ];
    for (filter, qos, identifier) in subscriptions {
        let identifier = identifier.filter(|_| version == V5);
        client.subscribe_with(filter, SubscribeOptions::qos(qos), identifier);
    }
}

/// [MQTT-3.8.4-3] [MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-3] An equal filter replaces the subscription: its level, options and identifier count
/// from then on, retained messages are sent again, and nothing is lost or doubled.
#[test]
fn same_filter_replaces_the_subscription() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut publisher = gw.client(V5, "p");
        publisher.deliver(publish("a", "retained").retain(), AtLeastOnce);
        let mut client = gw.client(version, "c");
        for (qos, identifier) in [(AtMostOnce, Some(1)), (ExactlyOnce, Some(2)), (AtLeastOnce, None)] {
            let identifier = identifier.filter(|_| version == V5);
            publisher.send(publish("a", "before").qos(ExactlyOnce, 1));
            client.take();
            publisher.send(pubrel(1));
            client.subscribe_with("a", SubscribeOptions::qos(qos), identifier);
            assert_eq!(client.heard(), ["a=retained"]);
            publisher.deliver(publish("a", "after"), ExactlyOnce);
            let messages = client.take();
            assert_eq!(messages.len(), 1);
            assert_eq!(messages[0].qos, qos);
            let expected: Vec<u32> = identifier.into_iter().collect();
            assert_eq!(messages[0].props().subscription_identifiers, expected);
        }
        assert_eq!(gw.stats().subscriptions, 1);
    }
}

/// [MQTT-3.8.4-3] [3.1.1 MQTT-3.8.4-3] Options that were replaced stay replaced after a restart.
#[test]
fn replaced_subscription_is_the_one_that_is_kept() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.open(connect(version, "c").durable());
        client.subscribe("a", AtMostOnce);
        client.subscribe("a", ExactlyOnce);
        gw.crash(std::time::Duration::ZERO);
        gw.client(V5, "p").deliver(publish("a", "x"), ExactlyOnce);
        let mut client = gw.open(connect(version, "c").durable());
        assert_eq!(client.take()[0].qos, ExactlyOnce);
    }
}

/// [MQTT-3.8.3-3] A client does not hear itself on a subscription with No Local, live or queued, and its will neither; others do.
#[test]
fn no_local_keeps_own_messages_away() {
    let no_local = SubscribeOptions {
        qos: AtLeastOnce,
        no_local: true,
        ..SubscribeOptions::default()
    };
    let gw = Gateway::default();
    let mut other = gw.client(V5, "other");
    other.subscribe("+", AtMostOnce);
    let mut client = gw.open(connect(V5, "c").durable().will(will("quiet", "will")));
    client.subscribe_with("quiet", no_local, None);
    client.subscribe("loud", AtMostOnce);
    client.say("quiet", "1");
    client.say("loud", "2");
    other.say("quiet", "3");
    assert_eq!(client.heard(), ["loud=2", "quiet=3"]);
    client.send(publish("quiet", "4").qos(AtLeastOnce, 1).retain());
    client.lose();
    let mut client = gw.open(connect(V5, "c").durable());
    assert_eq!(client.messages(), [], "nothing of its own was queued");
    client.subscribe_with("quiet", no_local, None);
    assert_eq!(client.messages(), [], "nor what it retained");
    assert_eq!(
        other.heard(),
        ["quiet=1", "loud=2", "quiet=3", "quiet=4", "quiet=will"]
    );
    // Nor what it published with a delay, also over a crash.
    client.deliver(publish("$delayed/5/quiet", "5"), AtLeastOnce);
    gw.crash(std::time::Duration::ZERO);
    let mut client = gw.open(connect(V5, "c").durable());
    let mut other = gw.client(V5, "other");
    other.subscribe("+", AtMostOnce);
    gw.sleep(6);
    assert_eq!(client.messages(), []);
    assert_eq!(other.heard(), ["quiet=4", "quiet=5"]);
}

/// EMQ's `ignore_loop_deliver`: the same for clients that have no such option.
#[test]
fn echo_can_be_switched_off_for_older_clients() {
    let gw = Gateway::with(|s| s.mqtt.ignore_loop_deliver = true);
    let mut old = gw.client(V311, "old");
    let mut new = gw.client(V5, "new");
    for client in [&mut old, &mut new] {
        client.subscribe("a", AtMostOnce);
        client.say("a", "x");
    }
    assert_eq!(old.heard(), ["a=x"], "of the other one");
    assert_eq!(new.heard(), ["a=x"], "its own");
}

/// [MQTT-3.8.3-4] Who of the group would be local? Nothing of such a SUBSCRIBE is done.
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "c");
    let mut wrong = subscribe(1, &[("a", AtMostOnce), ("$share/g/b", AtMostOnce)]);
    wrong.filters[1].options.no_local = true;
    client.send(wrong);
    client.assert_refused(ReasonCode::ProtocolError);
    assert_eq!(gw.stats().subscriptions, 0);
}

/// [MQTT-3.10.4-1] [MQTT-3.10.4-2] [3.1.1 MQTT-3.10.4-1] [3.1.1 MQTT-3.10.4-2] Filters are compared as text, character by character.
#[test]
fn unsubscribe_removes_exactly_its_filter() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.client(version, "c");
        for filter in ["a/+", "a/b", "$share/g/a/b"] {
            client.subscribe(filter, AtMostOnce);
        }
        for other in ["A/+", "b", "a", "a/b/", "#"] {
            client.unsubscribe(other);
        }
        assert_eq!(gw.stats().subscriptions, 3);
        client.unsubscribe("a/b");
        client.say("a/b", "x");
        assert_eq!(client.heard().len(), 2, "by the wildcard and by the group");
        client.unsubscribe("a/+");
        client.unsubscribe("$share/g/a/b");
        client.say("a/b", "x");
        assert_eq!(client.messages(), []);
    }
}

/// [MQTT-3.10.4-3] [3.1.1 MQTT-3.10.4-3] [MQTT-3.10.4-2] [3.1.1 MQTT-3.10.4-2]
/// What was begun is completed after UNSUBSCRIBE, also on another connection; nothing new comes.
#[test]
fn deliveries_begun_before_unsubscribe_are_completed() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.open(connect(version, "c").durable());
        client.subscribe("a", ExactlyOnce);
        let mut publisher = gw.client(V5, "p");
        publisher.deliver(publish("a", "1"), AtLeastOnce);
        publisher.deliver(publish("a", "2"), ExactlyOnce);
        let sent = client.messages();
        client.unsubscribe("a");
        publisher.deliver(publish("a", "3"), ExactlyOnce);
        client.send(pubrec(sent[1].number()));
        assert_eq!(client.received(), [pubrel(sent[1].number()).to_packet()]);
        client.send(pubcomp(sent[1].number()));
        client.lose();
        let mut client = gw.open(connect(version, "c").durable());
        assert_eq!(client.messages(), [sent[0].clone().dup()]);
    }
}

/// [3.1.1 MQTT-3.8.3-2] Where wildcards are switched off such filters are refused; MQTT 5 §3.2.2.3.11: and CONNACK says so.
#[test]
fn wildcards_can_be_switched_off() {
    for version in NUMBERED {
        let gw = Gateway::with(|s| s.mqtt.wildcard_available = false);
        let mut client = gw.client(version, "c");
        let refused = match version {
            V5 => ReasonCode::WildcardSubscriptionsNotSupported,
            _ => ReasonCode::UnspecifiedError,
        };
        assert_eq!(client.subscribe("a/+", AtMostOnce), refused);
        assert_eq!(client.subscribe("#", AtMostOnce), refused);
        assert_eq!(client.subscribe("a", AtMostOnce), ReasonCode::Success);
        let told = client.told().wildcard_subscription_available;
        assert_eq!(told, (version == V5).then_some(false));

        let gw = Gateway::default();
        let mut client = gw.client(version, "c");
        assert_eq!(client.subscribe("a/+", AtLeastOnce), ReasonCode::GrantedQos1);
        client.say("a/b", "x");
        assert_eq!(client.heard(), ["a/b=x"]);
    }
}

/// MQTT 5 §3.2.2.3.12, §3.2.2.3.13: what is not offered is told in CONNACK and refused when asked for.
#[test]
fn shared_subscriptions_and_identifiers_can_be_switched_off() {
    let gw = Gateway::with(|s| {
        s.mqtt.shared_available = false;
        s.mqtt.identifiers_available = false;
    });
    let mut client = gw.client(V5, "c");
    let told = &client.told();
    assert_eq!(told.shared_subscription_available, Some(false));
    assert_eq!(told.subscription_identifiers_available, Some(false));
    let refused = client.subscribe("$share/g/a", AtMostOnce);
    assert_eq!(refused, ReasonCode::SharedSubscriptionsNotSupported);
    let mut with_identifier = subscribe(1, &[("a", AtMostOnce)]);
    with_identifier.identifier = Some(1);
    client.send(with_identifier);
    client.assert_refused(ReasonCode::SubscriptionIdentifiersNotSupported);
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2] [MQTT-4.13.1-1]
/// [3.1.1 MQTT-4.7.1-1] [3.1.1 MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] [3.1.1 MQTT-4.8.0-1]
/// What is no topic filter ends the connection, in SUBSCRIBE and UNSUBSCRIBE; version 5 is told 0x82. Table 3-8 has 0x8F for filters that are
/// correctly formed and not allowed.
#[test]
fn malformed_filters_end_the_connection() {
    let bad = [
        "a#",
        "#/a",
        "a/#/b",
        "a+",
        "+a",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/g+/a",
        "$share/#/a",
        "$share/g/a#",
    ];
    for version in NUMBERED {
        for filter in bad {
            let gw = Gateway::default();
            let mut client = gw.client(version, "c");
            client.send(subscribe(1, &[("good", AtMostOnce), (filter, AtMostOnce)]));
            client.assert_refused(ReasonCode::ProtocolError);
            assert_eq!(gw.stats().subscriptions, 0, "{filter}");
            let mut client = gw.client(version, "c");
            client.send(unsubscribe(1, &[filter]));
            client.assert_refused(ReasonCode::ProtocolError);
        }
        let gw = Gateway::default();
        let mut client = gw.client(version, "c");
        for filter in ["#", "a/#", "+", "+/+", "/", "//", "+/a/#", "$share/g//a"] {
            assert_eq!(
                client.subscribe(filter, AtMostOnce),
                ReasonCode::Success,
                "{filter}"
            );
        }
    }
}

/// [MQTT-3.3.4-3] The identifier comes back with what was queued, kept over a power cut, and with retained messages.
#[test]
fn subscription_identifier_is_kept_with_the_subscription() {
    let gw = Gateway::default();
    let mut client = gw.open(connect(V5, "c").durable());
    client.subscribe_with("a", SubscribeOptions::qos(AtLeastOnce), Some(268_435_455));
    client.leave();
    let mut publisher = gw.client(V5, "p");
    publisher.deliver(publish("a", "x").retain(), AtLeastOnce);
    gw.crash(std::time::Duration::ZERO);
    let mut client = gw.open(connect(V5, "c").durable());
    assert_eq!(identifiers(&mut client), [268_435_455]);
    gw.client(V5, "p").deliver(publish("a", "y"), AtLeastOnce);
    assert_eq!(identifiers(&mut client), [268_435_455]);
    client.subscribe_with("a", SubscribeOptions::qos(AtLeastOnce), Some(3));
    assert_eq!(identifiers(&mut client), [3]);
}

/// `$exclusive/` (EMQ): one holder at a time, until it leaves or gives it up; a refusal takes nothing.
#[test]
fn exclusive_subscription_has_one_holder() {
    let gw = Gateway::default();
    let mut one = gw.client(V5, "one");
    let mut two = gw.client(V5, "two");
    assert_eq!(one.subscribe("$exclusive/a", AtMostOnce), ReasonCode::Success);
    assert_eq!(
        two.subscribe("$exclusive/a", AtMostOnce),
        ReasonCode::QuotaExceeded
    );
    assert_eq!(
        two.subscribe("a", AtMostOnce),
        ReasonCode::Success,
        "a plain one is another matter"
    );
    two.say("a", "x");
    assert_eq!(
        (one.heard(), two.heard()),
        (vec!["a=x".to_owned()], vec!["a=x".to_owned()])
    );
    one.unsubscribe("$exclusive/a");
    assert_eq!(two.subscribe("$exclusive/a", AtMostOnce), ReasonCode::Success);
    two.lose();
    assert_eq!(one.subscribe("$exclusive/a", AtMostOnce), ReasonCode::Success);
}

/// An exclusive filter that is refused for another reason is not held by the one who was refused.
#[test]
fn refused_exclusive_subscription_is_free() {
    let gw = Gateway::with(|s| s.bus.max_subscriptions = 1);
    let mut one = gw.client(V5, "one");
    one.subscribe("full", AtMostOnce);
    assert_eq!(
        one.subscribe("$exclusive/a", AtMostOnce),
        ReasonCode::QuotaExceeded
    );
    assert_eq!(
        gw.client(V5, "two").subscribe("$exclusive/a", AtMostOnce),
        ReasonCode::Success
    );
}

/// `$local/` (EMQ): the same filter without the prefix, as one subscription.
#[test]
fn local_subscription_is_the_filter_without_prefix() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "c");
    client.subscribe("$local/a", AtMostOnce);
    client.say("a", "x");
    assert_eq!(client.heard(), ["a=x"]);
    client.unsubscribe("$local/a");
    client.say("a", "x");
    assert_eq!(client.messages(), []);
}

/// Subscriptions that every client gets: with its client id and user name in them, but never wider than written.
#[test]
fn clients_are_subscribed_automatically() {
    let auto = |topic: &str, qos| AutoSubscription {
        topic: topic.into(),
        qos,
    };
    let gw = Gateway::with(|s| s.bus.auto_subscribe = vec![auto("to/%c", 1), auto("user/%u", 0)]);
    let mut publisher = gw.client(V5, "p");
    let mut client = gw.open(connect(V311, "c").login("u", ""));
    let mut sly = gw.client(V5, "#");
    publisher.deliver(publish("to/c", "1"), ExactlyOnce);
    publisher.deliver(publish("user/u", "2"), ExactlyOnce);
    let got = client.take();
    assert_eq!(got.iter().map(|m| m.qos as u8).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(sly.messages(), []);
}

/// A delivery without properties carries none: not even an empty identifier.
#[test]
fn plain_delivery_has_no_properties() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "c");
    client.subscribe("a", AtMostOnce);
    client.say("a", "x");
    assert_eq!(client.messages()[0].props(), PublishProperties::default());
}
