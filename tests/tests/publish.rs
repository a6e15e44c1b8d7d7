//! PUBLISH from a client: how it is answered, who gets it, and what travels with it. MQTT 5 §3.3

use bytes::Bytes;
use headgate_model::access::DenyCode;
use headgate_model::{AccessDecision, Action, Answer, Metric};
use headgate_mqtt_codec::{Packet, PublishProperties, ReasonCode, Version};
use headgate_tests::*;

/// [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-2.2.1-5]
/// [3.1.1 MQTT-3.3.4-1] [3.1.1 MQTT-4.3.2-2] [3.1.1 MQTT-4.3.3-2] [3.1.1 MQTT-2.3.1-6]
/// QoS 0 is not answered, QoS 1 by PUBACK, QoS 2 by PUBREC and PUBCOMP, under the same identifier.
#[test]
fn publish_is_answered_by_its_qos() {
    for version in ALL {
        let gw = Gateway::default();
        let mut watcher = gw.client(V5, "w");
        watcher.subscribe("a", AtMostOnce);
        let mut client = gw.client(version, "c");
        client.say("a", "0");
        assert_eq!(client.received(), []);
        client.send(publish("a", "1").qos(AtLeastOnce, 5));
        assert_eq!(client.received(), [puback(5).to_packet()]);
        client.send(publish("a", "2").qos(ExactlyOnce, 6));
        assert_eq!(client.received(), [pubrec(6).to_packet()]);
        client.send(pubrel(6));
        assert_eq!(client.received(), [pubcomp(6).to_packet()]);
        assert_eq!(watcher.heard(), ["a=0", "a=1", "a=2"]);
    }
}

/// [MQTT-4.3.2-4] [MQTT-4.3.3-8] [3.1.1 MQTT-4.3.2-2] [3.1.1 MQTT-4.3.3-2] An acknowledgement is a promise: it waits until the message
/// is durable, and acknowledgements keep the order of the publishes. Our reading: docs/interpretations.md#acknowledgement-means-durable.
#[test]
fn acknowledgements_wait_for_the_commit_and_keep_their_order() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut away = gw.open(connect(version, "away").durable());
        away.subscribe("kept", ExactlyOnce);
        away.leave();
        let mut client = gw.client(version, "c");

        gw.withhold_commits();
        client.send(publish("kept", "1").qos(AtLeastOnce, 1));
        client.send(publish("kept", "2").qos(ExactlyOnce, 2));
        client.send(publish("free", "3").qos(AtLeastOnce, 3));
        client.send(Packet::PingReq);
        assert_eq!(client.received(), [Packet::PingResp], "nothing is promised yet");
        gw.commit();
        let numbers: Vec<_> = client
            .received()
            .into_iter()
            .map(|packet| match packet {
                Packet::Ack(ack) => ack.packet_id.get(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
}

/// What is not kept for anyone is acknowledged at once, whatever the disk does.
#[test]
fn nothing_to_keep_is_acknowledged_at_once() {
    let gw = Gateway::default();
    let mut online = gw.client(V5, "w");
    online.subscribe("a", AtLeastOnce);
    let mut client = gw.client(V5, "c");
    gw.withhold_commits();
    assert_eq!(
        client.deliver(publish("a", "x"), AtLeastOnce),
        ReasonCode::Success
    );
    assert_eq!(online.heard(), ["a=x"]);
}

/// MQTT 5 §3.4.2.1: a publisher is told that nobody subscribed; before MQTT 5 there is no way to.
#[test]
fn publisher_is_told_that_nobody_subscribed() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "c");
    for qos in [AtLeastOnce, ExactlyOnce] {
        assert_eq!(
            client.deliver(publish("a", "x"), qos),
            ReasonCode::NoMatchingSubscribers
        );
        assert_eq!(
            gw.client(V311, "o").deliver(publish("a", "x"), qos),
            ReasonCode::Success
        );
    }
}

/// [3.1.1 MQTT-3.3.5-2] A publish that is not allowed reaches nobody and is not retained. MQTT 5 is told; the others are answered as
/// usual, for they cannot be told. Our reading: docs/interpretations.md#denied-publish-before-5.
#[test]
fn unauthorised_publish_reaches_nobody() {
    for ask in [false, true] {
        for version in NUMBERED {
            let gw = Gateway::default();
            let denied = AccessDecision::Deny(DenyCode::NotAuthorized);
            gw.rule(
                Action::Publish,
                "secret",
                if ask { AccessDecision::Ask } else { denied },
            );
            let mut watcher = gw.client(V5, "w");
            watcher.subscribe("secret", AtMostOnce);
            let mut client = gw.client(version, "c");
            gw.access(move |_| Some(Answer::Authorized(vec![denied])));

            client.send(publish("secret", "0").retain());
            assert_eq!(client.received(), []);
            let told = if version == V5 {
                ReasonCode::NotAuthorized
            } else {
                ReasonCode::Success
            };
            client.send(publish("secret", "1").qos(AtLeastOnce, 1).retain());
            assert_eq!(client.received(), [puback(1).because(told).to_packet()]);
            client.send(publish("secret", "2").qos(ExactlyOnce, 2).retain());
            assert_eq!(client.received(), [pubrec(2).because(told).to_packet()]);
            if version == V311 {
                client.send(pubrel(2));
                assert_eq!(
                    client.received(),
                    [pubcomp(2).to_packet()],
                    "the handshake is completed"
                );
            }
            assert!(!client.is_closed());
            assert_eq!(watcher.received(), []);
            assert_eq!(gw.stats().retained, 0);
            assert_eq!(gw.counted(Metric::DroppedNotAuthorized), 3);
        }
    }
}

/// Frames behind a question wait for its answer: publishes keep their order.
#[test]
fn publishes_behind_a_question_wait_for_it() {
    let gw = Gateway::default();
    gw.rule(Action::Publish, "asked", AccessDecision::Ask);
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("#", AtMostOnce);
    let mut client = gw.client(V5, "c");
    gw.access(|_| None);
    client.say("asked", "1");
    client.say("free", "2");
    assert_eq!(watcher.heard(), Vec::<String>::new());
    gw.answer(Answer::Authorized(vec![AccessDecision::Allow]));
    assert_eq!(watcher.heard(), ["asked=1", "free=2"]);
}

/// MQTT 5 §4.7.2: the gateway's own topics are not the clients'.
#[test]
fn clients_do_not_publish_to_sys() {
    let gw = Gateway::default();
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("$SYS/#", AtMostOnce);
    let mut client = gw.client(V5, "c");
    let told = client.deliver(publish("$SYS/brokers", "x").retain(), AtLeastOnce);
    assert_eq!(told, ReasonCode::NotAuthorized);
    client.say("$SYS/brokers", "x");
    assert_eq!(watcher.received(), []);
    assert_eq!(gw.stats().retained, 0);
}

/// [MQTT-3.3.4-6] Only a server names subscriptions.
#[test]
fn subscription_identifier_from_a_client_is_a_protocol_error() {
    let gw = Gateway::default();
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("a", AtMostOnce);
    let mut client = gw.client(V5, "c");
    client.send(publish("a", "x").with(|p| p.subscription_identifiers = vec![1]));
    client.assert_refused(ReasonCode::ProtocolError);
    assert_eq!(watcher.received(), []);
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
/// What travels with a message reaches every subscriber as it was sent: live, queued, over a restart, and from the retained ones.
#[test]
fn properties_reach_every_subscriber_unaltered() {
    let full = PublishProperties {
        payload_format: Some(true),
        response_topic: Some(text("answers/here")),
        correlation_data: Some(Bytes::from_static(&[0, 0xFF, 0x80])),
        user_properties: [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]
            .map(|(k, v)| (text(k), text(v)))
            .into(),
        content_type: Some(text("text/plain")),
        ..PublishProperties::default()
    };
    let odd = PublishProperties {
        payload_format: Some(false),
        correlation_data: Some(Bytes::new()),
        ..PublishProperties::default()
    };
    for properties in [full, odd, PublishProperties::default()] {
        let gw = Gateway::default();
        let mut live = gw.client(V5, "live");
        live.subscribe("a", AtMostOnce);
        let mut queued = gw.open(connect(V5, "queued").durable());
        queued.subscribe("a", AtLeastOnce);
        queued.leave();
        let mut old = gw.client(V311, "old");
        old.subscribe("a", AtMostOnce);

        let message = publish("a", "x").retain().with(|p| *p = properties.clone());
        gw.client(V5, "p").deliver(message, AtLeastOnce);
        assert_eq!(live.messages()[0].props(), properties);
        assert_eq!(old.messages()[0].properties, None);

        gw.crash(std::time::Duration::from_secs(5));
        let mut queued = gw.open(connect(V5, "queued").durable());
        assert_eq!(queued.take()[0].props(), properties);
        let mut late = gw.client(V5, "late");
        late.subscribe("a", AtMostOnce);
        assert_eq!(late.messages()[0].props(), properties);
    }
}

/// MQTT 5 §3.3.2.3.2: a payload that is said to be text is text; what is not is refused in the acknowledgement, or ends the link.
/// Our reading: docs/interpretations.md#payload-format.
#[test]
fn payload_that_is_not_the_text_it_claims_is_refused() {
    let gw = Gateway::default();
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("a", AtMostOnce);
    let mut client = gw.client(V5, "c");
    let mut wrong = publish("a", "").with(|p| p.payload_format = Some(true));
    wrong.payload = Bytes::from_static(&[0xC3]);
    for qos in [AtLeastOnce, ExactlyOnce] {
        assert_eq!(
            client.deliver(wrong.clone(), qos),
            ReasonCode::PayloadFormatInvalid
        );
    }
    client.send(wrong.clone());
    client.assert_refused(ReasonCode::PayloadFormatInvalid);
    assert_eq!(watcher.received(), []);

    let mut unsaid = wrong;
    unsaid.properties = None;
    gw.client(V5, "c").send(unsaid);
    assert_eq!(
        watcher.messages().len(),
        1,
        "bytes are bytes when nothing is claimed"
    );
}

/// [MQTT-3.3.1-3] [3.1.1 MQTT-3.3.1-3] DUP belongs to one hop: what comes with it goes on without.
#[test]
fn incoming_dup_is_not_passed_on() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut watcher = gw.client(version, "w");
        watcher.subscribe("a", ExactlyOnce);
        let mut client = gw.client(version, "c");
        client.send(publish("a", "1").qos(AtLeastOnce, 1).dup());
        client.send(publish("a", "2").qos(ExactlyOnce, 2).dup());
        let messages = watcher.messages();
        assert_eq!(messages.len(), 2);
        assert!(messages.iter().all(|message| !message.dup));
    }
}

/// [MQTT-3.3.2-3] [3.1.1 MQTT-3.3.2-3] [MQTT-4.5.0-1] [3.1.1 MQTT-4.5.0-1]
/// Every session with a matching subscription gets the message, connected or not, and no other; also when the power fails right after
/// the acknowledgement.
#[test]
fn message_is_added_to_every_matching_session() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut here = gw.client(version, "here");
        here.subscribe("a/+", AtLeastOnce);
        let mut other = gw.client(version, "other");
        other.subscribe("b/+", AtLeastOnce);
        for away in ["away1", "away2"] {
            let mut away = gw.open(connect(version, away).durable());
            away.subscribe("a/#", AtLeastOnce);
            away.leave();
        }
        gw.client(version, "p").deliver(publish("a/b", "x"), AtLeastOnce);
        assert_eq!(here.heard(), ["a/b=x"]);
        assert_eq!(other.heard(), Vec::<String>::new());
        gw.crash(std::time::Duration::ZERO);
        for away in ["away1", "away2"] {
            assert_eq!(gw.open(connect(version, away).durable()).heard(), ["a/b=x"]);
        }
    }
}

/// [MQTT-1.5.4-3] [3.1.1 MQTT-1.5.3-3] A byte order mark is a character like any other.
#[test]
fn byte_order_mark_is_part_of_the_topic() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "c");
    client.subscribe("a", AtMostOnce);
    client.say("\u{feff}a", "x");
    assert_eq!(client.messages(), []);
    client.subscribe("\u{feff}a", AtMostOnce);
    client.say("\u{feff}a", "x");
    assert_eq!(client.heard(), ["\u{feff}a=x"]);
}

/// [MQTT-4.7.3-4] [MQTT-4.7.2-1] [MQTT-4.7.1-1] [MQTT-4.7.1-2]
/// [3.1.1 MQTT-4.7.3-4] [3.1.1 MQTT-4.7.2-1] [3.1.1 MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] Live and retained messages match alike.
#[test]
fn matching_follows_the_wildcards() {
    let table = [
        ("sport/#", "sport", true),
        ("sport/#", "sport/a/b", true),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+", "/finance", false),
        ("/+", "/finance", true),
        ("+/+", "/finance", true),
        ("a/+/b", "a//b", true),
        ("#", "$other/x", false),
        ("+/x", "$other/x", false),
        ("+/#", "$other/x", false),
        ("$other/#", "$other/x", true),
        ("$other/+", "$other/x", true),
        ("ACCOUNTS", "Accounts", false),
        ("a", "a ", false),
        ("a/b", "a//b", false),
        ("\u{e9}", "e\u{301}", false),
    ];
    for (filter, topic, matches) in table {
        let gw = Gateway::default();
        let mut live = gw.client(V311, "live");
        live.subscribe(filter, AtMostOnce);
        gw.client(V5, "p").send(publish(topic, "x").retain());
        assert_eq!(live.messages().len(), usize::from(matches), "{filter} {topic}");
        let mut late = gw.client(V5, "late");
        late.subscribe(filter, AtMostOnce);
        assert_eq!(
            late.messages().len(),
            usize::from(matches),
            "{filter} {topic}, retained"
        );
    }
}

/// A topic with more levels than the listener allows is refused like a bad name; so is a filter.
#[test]
fn topic_levels_are_limited() {
    let gw = Gateway::with(|s| s.mqtt.max_topic_levels = 3);
    let mut client = gw.client(V5, "c");
    assert_eq!(client.subscribe("a/b/c", AtMostOnce), ReasonCode::GRANTED_QOS_0);
    assert_eq!(
        client.subscribe("a/b/c/d", AtMostOnce),
        ReasonCode::TopicFilterInvalid
    );
    assert_eq!(
        client.deliver(publish("a/b/c/d", "x"), AtLeastOnce),
        ReasonCode::TopicNameInvalid
    );
    client.say("a/b/c", "x");
    assert_eq!(client.heard(), ["a/b/c=x"]);
    client.say("a/b/c/d", "x");
    client.assert_refused(ReasonCode::TopicNameInvalid);
    let mut old = gw.client(V311, "o");
    assert_eq!(old.subscribe("a/b/c/d", AtMostOnce), ReasonCode::UnspecifiedError);
    old.send(publish("a/b/c/d", "x").qos(AtLeastOnce, 1));
    old.assert_refused(ReasonCode::TopicNameInvalid);
}

/// [3.1.1 MQTT-4.8.0-2] A disk that fails hurts the publish it could not keep, and nobody else: MQTT 5 is told 0x83 and
/// goes on, the others are closed without an acknowledgement and will send it again.
#[test]
fn failing_disk_refuses_what_it_cannot_keep() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut away = gw.open(connect(version, "away").durable());
        away.subscribe("kept", ExactlyOnce);
        away.leave();
        let mut bystander = gw.client(version, "by");
        bystander.subscribe("free", AtLeastOnce);
        gw.break_disk(true);
        for qos in [AtLeastOnce, ExactlyOnce] {
            let mut client = gw.client(version, "c");
            client.send(publish("kept", "x").qos(qos, 1));
            let refused = match qos {
                ExactlyOnce => pubrec(1),
                _ => puback(1),
            };
            let refused = refused.because(ReasonCode::ImplementationSpecificError);
            if version == V5 {
                assert_eq!(client.received(), [refused.to_packet()]);
                assert!(!client.is_closed());
            } else {
                assert_eq!(client.received(), []);
                assert!(client.is_closed());
            }
        }
        gw.client(version, "p").deliver(publish("free", "x"), AtLeastOnce);
        assert_eq!(bystander.heard(), ["free=x"]);
    }
}

/// `$delayed/{seconds}/{topic}` (EMQ): the message comes later, also when the gateway was down at that time.
#[test]
fn delayed_publish_comes_later() {
    let gw = Gateway::default();
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("later", AtMostOnce);
    let mut client = gw.client(V5, "c");
    assert_eq!(
        client.deliver(publish("$delayed/10/later", "x"), AtLeastOnce),
        ReasonCode::Success
    );
    gw.sleep(9);
    assert_eq!(watcher.messages(), []);
    gw.sleep(1);
    assert_eq!(watcher.heard(), ["later=x"]);

    for bad in [
        "$delayed/x/later",
        "$delayed/10",
        "$delayed/4294968/later",
        "$delayed/1/$delayed/1/later",
    ] {
        assert_eq!(
            client.deliver(publish(bad, "x"), AtLeastOnce),
            ReasonCode::TopicNameInvalid,
            "{bad}"
        );
    }
    client.deliver(publish("$delayed/10/later", "y").retain(), AtLeastOnce);
    gw.crash(std::time::Duration::from_secs(60));
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("later", AtMostOnce);
    assert_eq!(watcher.heard(), ["later=y"]);
}

/// Topic rewriting (EMQ): names of publishes and filters of subscriptions, groups of the pattern in the target.
#[test]
fn topics_are_rewritten() {
    use headgate_model::{RewriteAction, RewriteRule};
    let gw = Gateway::with(|s| {
        s.bus.rewrite = vec![RewriteRule {
            action: RewriteAction::All,
            source: "old/#".into(),
            pattern: "^old/(.+)$".into(),
            target: "new/$1".into(),
        }];
    });
    let mut client = gw.client(V5, "c");
    client.subscribe("old/a", AtMostOnce);
    client.say("new/a", "1");
    client.say("old/a", "2");
    assert_eq!(client.heard(), ["new/a=1", "new/a=2"]);
    client.unsubscribe("old/a");
    client.say("old/a", "3");
    assert_eq!(client.messages(), []);
}

/// A listener's mount point stands before every topic of its clients, and is not seen by them.
#[test]
fn mount_point_is_put_on_and_taken_off() {
    let gw = Gateway::with(|s| s.mount = headgate_model::MountPoint::parse("site1/").unwrap());
    gw.rule(
        Action::Publish,
        "site1/denied",
        AccessDecision::Deny(DenyCode::NotAuthorized),
    );
    let mut client = gw.open(connect(V5, "c").will(will("gone", "c")));
    assert_eq!(
        client.deliver(publish("denied", ""), AtLeastOnce),
        ReasonCode::NotAuthorized
    );
    let mut watcher = gw.client(V311, "w");
    for filter in ["+", "$share/g/a/b"] {
        watcher.subscribe(filter, AtMostOnce);
    }
    client.say("t", "x");
    client.say("a/b", "y");
    client.lose();
    assert_eq!(watcher.heard(), ["t=x", "a/b=y", "gone=c"]);
}

/// 3.1, 3.1.1 and 5 speak to each other.
#[test]
fn versions_understand_each_other() {
    let versions: [Version; 3] = ALL;
    let gw = Gateway::default();
    let mut watchers = versions.map(|version| gw.client(version, &format!("w{version}")));
    for watcher in &mut watchers {
        watcher.subscribe("a", ExactlyOnce);
    }
    for version in versions {
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            gw.client(version, "p").deliver(publish("a", "x"), qos);
        }
    }
    for watcher in &mut watchers {
        let levels: Vec<_> = watcher.take().iter().map(|message| message.qos as u8).collect();
        assert_eq!(levels, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }
}

/// [MQTT-3.3.2-5] A life of zero seconds is over at once. Our reading: docs/interpretations.md#message-expiry-zero.
#[test]
fn message_without_life_reaches_nobody() {
    let gw = Gateway::default();
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("a", ExactlyOnce);
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        let message = publish("a", "x").with(|p| p.message_expiry = Some(0));
        gw.client(V5, "p").deliver(message, qos);
    }
    assert_eq!(watcher.messages(), []);
    assert_eq!(gw.stats().inflight, 0);
}

/// Rules are about the topic that a delayed message goes to in the end; the gateway's own topics are nobody's.
#[test]
fn a_delay_leads_past_no_rule() {
    let gw = Gateway::default();
    let mut client = gw.client(V5, "c");
    for topic in ["$SYS/x", "$delayed/1/$SYS/x"] {
        let answer = client.deliver(publish(topic, "x"), AtLeastOnce);
        assert_eq!(answer, ReasonCode::NotAuthorized, "{topic}");
    }
    let denied = AccessDecision::Deny(DenyCode::NotAuthorized);
    gw.rule(Action::Publish, "secret", denied);
    for topic in ["secret", "$delayed/1/secret"] {
        let answer = client.deliver(publish(topic, "x"), AtLeastOnce);
        assert_eq!(answer, ReasonCode::NotAuthorized, "{topic}");
    }
}
