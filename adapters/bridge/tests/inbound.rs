//! What the remote publishes: acknowledged when the bus has it, once, under its name here.

mod bench;

use bench::*;
use bytes::Bytes;
use headgate_bridge::{BridgeVersion, DropReason, EndReason};
use headgate_model::Qos as BusQos;
use headgate_mqtt_codec::{Publish, PublishProperties, Qos};
use std::time::Duration;

const LINES: &[&str] = &["a/# both 2 l/ r/"];

fn connected(version: BridgeVersion) -> Bench {
    let mut bench = Bench::new(version, LINES);
    bench.watch("#");
    bench.connect(welcome());
    bench
}

/// MQTT 5 §4.3.1 [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11]
#[test]
fn each_qos_is_answered_as_it_must_be() {
    for version in [V31, V3, V5] {
        let mut bench = connected(version);
        bench.remote_sends(publish("r/a/0", "x"));
        assert_eq!(bench.words(), NOTHING);
        bench.remote_sends(publish_at(Qos::AtLeastOnce, 7, "r/a/1", "x"));
        assert_eq!(bench.words(), ["puback 7"]);
        bench.remote_sends(publish_at(Qos::ExactlyOnce, 8, "r/a/2", "x"));
        assert_eq!(bench.words(), ["pubrec 8"]);
        bench.remote_sends(pubrel(8));
        assert_eq!(bench.words(), ["pubcomp 8"]);
        assert_eq!(bench.heard(), ["l/a/0=x", "l/a/1=x", "l/a/2=x"]);
        assert_eq!(bench.status.received.get(), 3);
    }
}

/// MQTT 5: nothing that came from the remote goes back; the bus's no local sees to it for all versions.
#[test]
fn what_came_in_does_not_go_out_again() {
    let mut bench = connected(V3);
    bench.remote_sends(publish_at(Qos::AtLeastOnce, 1, "r/a", "x"));
    assert_eq!((bench.words(), bench.queued()), (vec!["puback 1".into()], 0));
}

/// [MQTT-4.3.3-10]: whatever happens between PUBLISH and PUBREL, it is one message.
#[test]
fn a_qos_2_message_is_one_over_cuts_and_crashes() {
    let mut bench = connected(V3);
    let message = publish_at(Qos::ExactlyOnce, 8, "r/a", "x");
    let again = Publish {
        dup: true,
        ..message.clone()
    };
    bench.remote_sends(message);
    bench.cut();
    bench.connect(welcome_back());
    bench.sent();
    bench.remote_sends(again.clone());
    assert_eq!(
        (bench.words(), bench.heard()),
        (vec!["pubrec 8".into()], vec!["l/a=x".into()])
    );
    bench.crash();
    bench.watch("#");
    bench.connect(welcome_back());
    bench.remote_sends(again);
    assert_eq!(
        (bench.words(), bench.heard()),
        (vec!["pubrec 8".into()], Vec::new())
    );
    bench.cut();
    bench.connect(welcome_back());
    bench.remote_sends(pubrel(8));
    assert_eq!(bench.words(), ["pubcomp 8"]);
    bench.remote_sends(publish_at(Qos::ExactlyOnce, 8, "r/a", "y"));
    assert_eq!(bench.heard(), ["l/a=y"]);
}

/// A remote that has lost its session begins its packet identifiers anew: no message may be taken for one of the session before. 3.1 does not say
/// that the session is new; there only DUP tells.
#[test]
fn a_new_session_of_the_remote_uses_old_identifiers_for_new_messages() {
    for version in [V31, V3, V5] {
        let mut bench = connected(version);
        bench.remote_sends(publish_at(Qos::ExactlyOnce, 8, "r/a", "old"));
        bench.cut();
        bench.connect(welcome());
        bench.sent();
        bench.heard();
        bench.remote_sends(publish_at(Qos::ExactlyOnce, 8, "r/a", "new"));
        assert_eq!(bench.words(), ["pubrec 8"], "{version:?}");
        assert_eq!(bench.heard(), ["l/a=new"]);
        bench.remote_sends(Publish {
            dup: true,
            ..publish_at(Qos::ExactlyOnce, 8, "r/a", "new")
        });
        assert_eq!(
            (bench.words(), bench.heard()),
            (vec!["pubrec 8".into()], Vec::new())
        );
        bench.remote_sends(pubrel(8));
        assert_eq!(bench.words(), ["pubcomp 8"]);
    }
}

/// [MQTT-3.3.1-1] A remote that was killed and goes on from what it had saved says Session Present 1, and gives identifiers to other messages that it had
/// used before: without DUP a message is none that came by an earlier connection. It would be acknowledged, and lost.
#[test]
fn a_remote_that_went_back_in_time_uses_old_identifiers_for_new_messages() {
    for version in [V31, V3, V5] {
        let mut bench = connected(version);
        bench.remote_sends(publish_at(Qos::ExactlyOnce, 8, "r/a", "old"));
        bench.cut();
        bench.connect(welcome_back());
        bench.sent();
        bench.heard();
        for (dup, heard) in [(false, vec!["l/a=new".to_owned()]), (true, Vec::new())] {
            bench.remote_sends(Publish {
                dup,
                ..publish_at(Qos::ExactlyOnce, 8, "r/a", "new")
            });
            assert_eq!((bench.words(), bench.heard()), (vec!["pubrec 8".into()], heard));
        }
        bench.remote_sends(pubrel(8));
        assert_eq!(bench.words(), ["pubcomp 8"], "{version:?}");
    }
}

/// It would come again and again: it is acknowledged, and counted.
#[test]
fn what_no_rule_is_for_is_acknowledged_and_dropped() {
    let mut bench = connected(V3);
    bench.remote_sends(publish_at(Qos::AtLeastOnce, 1, "x", "1"));
    bench.remote_sends(publish_at(Qos::ExactlyOnce, 2, "x", "2"));
    bench.remote_sends(pubrel(2));
    assert_eq!(bench.words(), ["puback 1", "pubrec 2", "pubcomp 2"]);
    assert_eq!(
        (
            bench.heard().len(),
            bench.status.dropped(DropReason::IncomingNoRule)
        ),
        (0, 2)
    );
}

/// The gateway's own topics are its own.
#[test]
fn nothing_of_the_remote_appears_under_sys() {
    let mut bench = Bench::new(V3, &["# in 1 $SYS/ r/"]);
    bench.connect(welcome());
    bench.remote_sends(publish_at(Qos::AtLeastOnce, 1, "r/brokers", "x"));
    assert_eq!(bench.words(), ["puback 1"]);
    assert_eq!(bench.status.dropped(DropReason::IncomingTopicInvalid), 1);
}

/// An acknowledgement is a promise: what is not safe is not acknowledged, and the remote sends it again on the next connection.
#[test]
fn what_the_bus_cannot_take_now_is_not_acknowledged() {
    for (version, goodbye) in [(V3, vec![]), (V5, vec!["disconnect 0x97".to_owned()])] {
        let mut bench = Bench::new(version, LINES);
        bench.connect(welcome());
        bench.set_store_full(true);
        let retained = Publish {
            retain: true,
            ..publish_at(Qos::AtLeastOnce, 1, "r/a", "x")
        };
        bench.remote_sends(retained.clone());
        assert_eq!(
            (bench.words(), bench.ended()),
            (goodbye, Some(EndReason::BusRefused))
        );
        bench.set_store_full(false);
        bench.connect(welcome_back());
        bench.sent();
        bench.remote_sends(retained);
        assert_eq!(bench.words(), ["puback 1"]);
    }
}

#[test]
fn what_the_bus_will_never_take_is_acknowledged_and_counted() {
    for (version, answer) in [(V3, "puback 1"), (V5, "puback 1 0x90")] {
        let mut bench = Bench::new(version, &["# in 1 $delayed/never/ r/"]);
        bench.connect(welcome());
        bench.remote_sends(publish_at(Qos::AtLeastOnce, 1, "r/a", "x"));
        assert_eq!(
            (bench.words(), bench.is_connected()),
            (vec![answer.to_owned()], true)
        );
        assert_eq!(bench.status.dropped(DropReason::IncomingRefused), 1);
    }
}

/// MQTT 5 §3.3.2.3: they travel with the message.
#[test]
fn properties_come_with_the_message() {
    let mut bench = connected(V5);
    bench.remote_sends(Publish {
        properties: Some(Box::new(PublishProperties {
            message_expiry: Some(5),
            user_properties: vec![(text("headgate-path"), text("there"))],
            ..PublishProperties::default()
        })),
        ..publish("r/a", "x")
    });
    let heard = bench.watched();
    let properties = heard[0].properties.as_ref().unwrap();
    assert_eq!(
        properties.user_properties,
        [(Bytes::from("headgate-path"), Bytes::from("there"))]
    );
    assert_eq!(heard[0].expires_at, Some(bench.now + Duration::from_secs(5)));
}

/// [MQTT-3.1.2-26]: we allow no topic alias.
#[test]
fn a_topic_alias_is_against_the_protocol() {
    let mut bench = connected(V5);
    bench.remote_sends(Publish {
        properties: Some(Box::new(PublishProperties {
            topic_alias: std::num::NonZeroU16::new(1),
            ..PublishProperties::default()
        })),
        ..publish("", "x")
    });
    assert_eq!(
        (bench.words(), bench.ended()),
        (vec!["disconnect 0x90".into()], Some(EndReason::ProtocolError))
    );
}

/// MQTT 5 §4.9: 0x93.
#[test]
fn a_remote_that_sends_more_than_receive_maximum_is_left() {
    let mut bench = Bench::with(V5, LINES, |s| s.receive_maximum = 2);
    bench.connect(welcome());
    bench.sent();
    for number in 1..=3 {
        bench.remote_sends(publish_at(Qos::ExactlyOnce, number, "r/a", "x"));
    }
    assert_eq!(bench.words(), ["pubrec 1", "pubrec 2", "disconnect 0x93"]);
}

/// [MQTT-4.4.0-1] What a session that goes on has to send again does not count: mosquitto 2.0 has more of it than Receive Maximum, and would be left over and
/// over. What is new counts.
#[test]
fn what_a_resumed_session_sends_again_is_taken_beyond_receive_maximum() {
    let mut bench = Bench::with(V5, LINES, |s| s.receive_maximum = 2);
    bench.connect(welcome_back());
    bench.sent();
    bench.remote_sends(pubrel(1));
    for number in 2..=4 {
        bench.remote_sends(Publish {
            dup: true,
            ..publish_at(Qos::ExactlyOnce, number, "r/a", "x")
        });
    }
    bench.remote_sends(pubrel(2));
    for number in 5..=7 {
        bench.remote_sends(publish_at(Qos::ExactlyOnce, number, "r/a", "x"));
    }
    let expected = [
        "pubcomp 1",
        "pubrec 2",
        "pubrec 3",
        "pubrec 4",
        "pubcomp 2",
        "pubrec 5",
        "pubrec 6",
        "disconnect 0x93",
    ];
    assert_eq!(bench.words(), expected);
    // A session that begins has nothing to send again.
    let mut bench = Bench::with(V5, LINES, |s| s.receive_maximum = 1);
    bench.connect(welcome());
    bench.sent();
    for number in 1..=2 {
        bench.remote_sends(Publish {
            dup: true,
            ..publish_at(Qos::ExactlyOnce, number, "r/a", "x")
        });
    }
    assert_eq!(bench.words(), ["pubrec 1", "disconnect 0x93"]);
}

/// What the remote retains is retained here, unless the rule says otherwise.
#[test]
fn retain_goes_as_the_rule_says() {
    let mut bench = Bench::with(V5, &["a in 1", "b in 1"], |s| {
        s.topics[1].retain = headgate_bridge::RetainRule::Never;
    });
    bench.watch("#");
    bench.connect(welcome());
    for topic in ["a", "b"] {
        bench.remote_sends(Publish {
            retain: true,
            ..publish(topic, "x")
        });
    }
    let flags: Vec<bool> = bench.watched().iter().map(|m| m.retain).collect();
    assert_eq!(flags, [true, false]);
}

/// [MQTT-2.2.1-5] Identifiers of each side are its own.
#[test]
fn both_directions_work_at_once() {
    let mut bench = connected(V3);
    bench.deliver("l/a", "out", BusQos::ExactlyOnce);
    bench.remote_sends(publish_at(Qos::ExactlyOnce, 1, "r/a", "in"));
    assert_eq!(bench.words(), ["publish 1 qos2 r/a=out", "pubrec 1"]);
    bench.remote_sends(pubrec(1));
    bench.remote_sends(pubrel(1));
    bench.remote_sends(pubcomp(1));
    assert_eq!(bench.words(), ["pubrel 1", "pubcomp 1"]);
    assert_eq!(
        (bench.heard(), bench.queued()),
        (vec!["l/a=out".into(), "l/a=in".into()], 0)
    );
}
