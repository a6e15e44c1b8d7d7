//! What goes to the remote: QoS flows, limits, dead letters, crashes.

mod bench;

use bench::*;
use bytes::Bytes;
use headgate_bridge::{DeadReason, DropReason, EndReason, RateSettings, Throttle};
use headgate_model::message::Properties;
use headgate_model::{Message, Qos as BusQos, Topic};
use headgate_mqtt_codec::{AckKind, Packet, Publish, Qos, ReasonCode};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

const LINES: &[&str] = &["a/# out 2 \"\" r/"];

fn connected(version: headgate_bridge::BridgeVersion) -> Bench {
    let mut bench = Bench::new(version, LINES);
    bench.connect(welcome());
    bench
}

/// MQTT 5 §4.3.2, §4.3.3
#[test]
fn each_qos_has_its_flow_and_the_remote_name() {
    let mut bench = connected(V3);
    bench.deliver("a/0", "x", BusQos::AtMostOnce);
    assert_eq!(bench.words(), ["publish qos0 r/a/0=x"]);
    bench.deliver("a/1", "x", BusQos::AtLeastOnce);
    assert_eq!(bench.words(), ["publish 1 qos1 r/a/1=x"]);
    bench.deliver("a/2", "x", BusQos::ExactlyOnce);
    assert_eq!(bench.words(), ["publish 2 qos2 r/a/2=x"]);
    assert_eq!((bench.queued(), bench.status.in_flight()), (2, 2));
    bench.remote_sends(puback(1));
    bench.remote_sends(pubrec(2));
    assert_eq!(bench.words(), ["pubrel 2"]);
    assert_eq!(bench.queued(), 1, "not done before PUBCOMP");
    bench.remote_sends(pubcomp(2));
    assert_eq!((bench.queued(), bench.status.in_flight()), (0, 0));
    assert_eq!((bench.status.sent.get(), bench.status.acknowledged.get()), (3, 2));
}

#[test]
fn what_is_published_while_away_goes_out_in_order_afterwards() {
    let mut bench = Bench::new(V3, LINES);
    for payload in ["1", "2", "3"] {
        bench.deliver("a", payload, BusQos::AtLeastOnce);
    }
    bench.crash();
    bench.deliver("a", "4", BusQos::AtLeastOnce);
    bench.connect(welcome());
    let payloads: Vec<String> = bench
        .words()
        .iter()
        .map(|w| w[w.len() - 1..].to_owned())
        .collect();
    assert_eq!(payloads, ["1", "2", "3", "4"]);
}

/// [MQTT-4.4.0-1] [MQTT-3.3.1-1]: the same packet identifier, with DUP; a message is deleted only when the remote has it.
#[test]
fn what_was_not_acknowledged_is_sent_again_after_a_cut_and_after_a_crash() {
    let mut bench = connected(V3);
    bench.deliver("a", "x", BusQos::AtLeastOnce);
    assert_eq!(bench.words(), ["publish 1 qos1 r/a=x"]);
    bench.cut();
    bench.connect(welcome_back());
    assert_eq!(bench.words(), ["publish 1 qos1 r/a=x dup"]);
    bench.crash();
    bench.connect(welcome_back());
    assert_eq!(bench.words(), ["publish 1 qos1 r/a=x dup"]);
    assert_eq!(bench.status.sent_again.get(), 1, "counted since the start");
    bench.remote_sends(puback(1));
    bench.crash();
    bench.connect(welcome_back());
    assert_eq!(bench.words(), NOTHING);
}

/// [MQTT-4.3.3-5]: after PUBREC only PUBREL is sent again. It waits until the identifiers of our SUBSCRIBE are free.
#[test]
fn a_qos_2_message_is_never_published_again_after_pubrec() {
    let mut bench = Bench::new(V3, &["a out 2", "b in 1"]);
    bench.connect(welcome());
    bench.deliver("a", "x", BusQos::ExactlyOnce);
    bench.remote_sends(pubrec(1));
    assert_eq!(bench.words(), ["publish 1 qos2 a=x", "pubrel 1"]);
    bench.crash();
    bench.dial();
    bench.remote_sends(welcome_back());
    bench.sent.remove(0);
    assert!(bench.sent.iter().all(|p| !matches!(p, Packet::Ack(_))));
    bench.grant_all();
    assert_eq!(bench.words(), ["pubrel 1"]);
    bench.remote_sends(ack(AckKind::PubComp, 1, ReasonCode::Success));
    assert_eq!(bench.queued(), 0);
}

/// [MQTT-3.2.2-11] A remote that takes less gets less; its PUBACK is enough then.
#[test]
fn qos_is_the_lowest_of_message_rule_and_remote() {
    let mut bench = Bench::new(V5, &["one/# out 1", "two/# out 2"]);
    bench.connect(limited(|p| p.maximum_qos = Some(Qos::AtLeastOnce)));
    bench.deliver("two/a", "x", BusQos::ExactlyOnce);
    bench.deliver("one/a", "x", BusQos::ExactlyOnce);
    assert_eq!(
        bench.words(),
        ["publish 1 qos1 two/a=x", "publish 2 qos1 one/a=x"]
    );
    bench.remote_sends(puback(1));
    bench.remote_sends(puback(2));
    assert_eq!(bench.queued(), 0);
    bench.cut();
    bench.connect(limited(|p| p.maximum_qos = Some(Qos::AtMostOnce)));
    bench.deliver("two/a", "x", BusQos::ExactlyOnce);
    assert_eq!(
        (bench.words(), bench.queued()),
        (vec!["publish qos0 two/a=x".into()], 0)
    );
}

/// MQTT 5 §4.9 [MQTT-3.3.4-9]; the lower of Receive Maximum and `max_inflight`.
#[test]
fn no_more_is_under_way_than_the_remote_takes() {
    let mut bench = Bench::with(V5, LINES, |s| s.max_inflight = 3);
    bench.connect(limited(|p| p.receive_maximum = NonZeroU16::new(2)));
    for _ in 0..5 {
        bench.deliver("a", "x", BusQos::AtLeastOnce);
    }
    assert_eq!(bench.sent().len(), 2);
    bench.remote_sends(puback(1));
    assert_eq!(bench.words(), ["publish 3 qos1 r/a=x"]);
    bench.cut();
    bench.connect(limited(|p| p.receive_maximum = NonZeroU16::new(10)));
    assert_eq!(bench.sent().len(), 3);
}

/// MQTT 5 §4.9: without Receive Maximum, 65,535 are allowed; we send 100. Version 3 cannot say how many, and mosquitto takes `max_inflight_messages`, 20.
#[test]
fn what_a_remote_does_not_say_is_what_mosquitto_takes() {
    for (version, most) in [(V31, 20), (V3, 20), (V5, 100)] {
        let mut bench = Bench::new(version, LINES);
        bench.connect(welcome());
        for _ in 0..=most {
            bench.deliver("a", "x", BusQos::ExactlyOnce);
        }
        assert_eq!(bench.sent().len(), most, "{version:?}");
    }
}

/// [MQTT-3.2.2-14]; `bridge_outgoing_retain` in mosquitto.conf(5).
#[test]
fn retain_goes_as_remote_and_operator_allow() {
    let retained = || Message {
        retain: true,
        ..Message::new(Topic::try_from("a").unwrap(), "x")
    };
    let mut bench = connected(V5);
    bench.deliver_message(retained());
    assert_eq!(bench.words(), ["publish qos0 r/a=x retain"]);
    bench.cut();
    bench.connect(limited(|p| p.retain_available = Some(false)));
    bench.deliver_message(retained());
    assert_eq!(bench.words(), ["publish qos0 r/a=x"]);
    let mut bench = Bench::with(V3, LINES, |s| s.outgoing_retain = false);
    bench.connect(welcome());
    bench.deliver_message(retained());
    assert_eq!(bench.words(), ["publish qos0 r/a=x"]);
}

/// [MQTT-3.3.2-6] [MQTT-3.3.2-18]; the path is the loop guard.
#[test]
fn properties_go_with_the_message_and_the_path_is_stamped() {
    let mut bench = connected(V5);
    let pair = |name: &'static str, value: &'static str| (Bytes::from(name), Bytes::from(value));
    bench.deliver_message(Message {
        expires_at: Some(bench.now + Duration::from_millis(9_500)),
        properties: Some(Box::new(Properties {
            content_type: Some("text/plain".into()),
            user_properties: vec![pair("headgate-path", "there"), pair("k", "v")],
            ..Properties::default()
        })),
        ..Message::new(Topic::try_from("a").unwrap(), "x")
    });
    let Some(Packet::Publish(Publish {
        properties: Some(properties),
        ..
    })) = bench.sent().pop()
    else {
        panic!()
    };
    assert_eq!(properties.message_expiry, Some(10));
    assert_eq!(properties.content_type, Some(text("text/plain")));
    let path = (text("headgate-path"), text("there,here"));
    assert_eq!(properties.user_properties, [(text("k"), text("v")), path]);
}

/// [MQTT-3.3.2-5]
#[test]
fn an_expired_message_is_not_sent_unless_it_was_begun() {
    let mut bench = Bench::with(V3, LINES, |s| s.max_inflight = 1);
    bench.connect(welcome());
    for payload in ["begun", "late"] {
        bench.deliver_message(Message {
            qos: BusQos::AtLeastOnce,
            expires_at: Some(bench.now + Duration::from_secs(1)),
            ..Message::new(Topic::try_from("a").unwrap(), payload)
        });
    }
    bench.sent();
    bench.advance(2_000);
    bench.cut();
    bench.connect(welcome_back());
    assert_eq!(bench.words(), ["publish 1 qos1 r/a=begun dup"]);
}

/// [MQTT-3.2.2-15]: what is too large for the remote does not hold up what comes after it.
#[test]
fn a_message_too_large_for_the_remote_is_a_dead_letter() {
    let mut bench = connected(V5);
    bench.cut();
    bench.watch("$bridge/up/dead");
    bench.deliver(
        "a/large",
        "0123456789012345678901234567890123456789",
        BusQos::AtLeastOnce,
    );
    bench.deliver("a/small", "x", BusQos::AtLeastOnce);
    bench.connect(limited(|p| p.maximum_packet_size = NonZeroU32::new(60)));
    assert_eq!(bench.words(), ["publish 2 qos1 r/a/small=x"]);
    let dead = bench.watched();
    let properties = dead[0].properties.as_ref().unwrap();
    let pair = |name: &'static str, value: &'static str| (Bytes::from(name), Bytes::from(value));
    assert_eq!(
        properties.user_properties,
        [pair("reason", "too_large"), pair("topic", "a/large")]
    );
    assert_eq!((dead.len(), dead[0].qos), (1, BusQos::AtLeastOnce));
    assert_eq!(
        (
            bench.status.dead_letter_list()[0].reason,
            bench.status.dead_letter_list().len()
        ),
        (DeadReason::TooLarge, 1)
    );
    assert_eq!(
        (bench.status.dead_letters(DeadReason::TooLarge), bench.queued()),
        (1, 1)
    );
}

#[test]
fn max_outgoing_packet_size_limits_a_remote_that_says_nothing() {
    let mut bench = Bench::with(V3, LINES, |s| s.max_outgoing_packet_size = 30);
    bench.connect(welcome());
    bench.deliver(
        "a",
        "0123456789012345678901234567890123456789",
        BusQos::AtMostOnce,
    );
    assert_eq!(
        (bench.words(), bench.status.dead_letters(DeadReason::TooLarge)),
        (Vec::new(), 1)
    );
}

/// MQTT 5 §3.4.2.1, [MQTT-4.3.3-4]: what the remote will never take.
#[test]
fn a_message_the_remote_refuses_for_good_is_a_dead_letter() {
    for (code, reason) in [
        (ReasonCode::NotAuthorized, DeadReason::NotAuthorized),
        (ReasonCode::TopicNameInvalid, DeadReason::TopicInvalid),
        (ReasonCode::PayloadFormatInvalid, DeadReason::PayloadInvalid),
    ] {
        for (qos, kind) in [
            (BusQos::AtLeastOnce, AckKind::PubAck),
            (BusQos::ExactlyOnce, AckKind::PubRec),
        ] {
            let mut bench = connected(V5);
            bench.watch("$bridge/up/dead");
            bench.deliver("a", "x", qos);
            bench.remote_sends(ack(kind, 1, code));
            assert!(bench.is_connected());
            assert_eq!(bench.heard(), ["$bridge/up/dead=x"]);
            assert_eq!((bench.status.dead_letters(reason), bench.queued()), (1, 0));
        }
    }
}

/// Our reading of MQTT 5 §3.4.2.1: 0x97 says "not now". Nothing is lost, and nothing overtakes.
#[test]
fn what_the_remote_refuses_for_now_stays_in_the_queue() {
    let mut bench = connected(V5);
    bench.deliver("a", "1", BusQos::AtLeastOnce);
    bench.deliver("a", "2", BusQos::AtLeastOnce);
    bench.sent();
    for _ in 0..10 {
        bench.remote_sends(ack(AckKind::PubAck, 1, ReasonCode::QuotaExceeded));
        assert_eq!(bench.words(), ["disconnect 0x04"]);
        assert_eq!(
            bench.ended(),
            Some(EndReason::RefusedForNow(ReasonCode::QuotaExceeded))
        );
        bench.connect(welcome_back());
        assert_eq!(
            bench.words(),
            ["publish 1 qos1 r/a=1 dup", "publish 2 qos1 r/a=2 dup"]
        );
    }
}

/// A refusal that says nothing may be a full disk or a poisonous message: it is tried six times.
#[test]
fn a_message_refused_again_and_again_without_a_reason_does_not_block_the_queue() {
    let mut bench = connected(V5);
    bench.watch("$bridge/up/dead");
    bench.deliver("a", "1", BusQos::AtLeastOnce);
    for _ in 0..5 {
        bench.remote_sends(ack(AckKind::PubAck, 1, ReasonCode::ImplementationSpecificError));
        assert!(!bench.is_connected());
        bench.sent();
        bench.connect(welcome_back());
    }
    bench.remote_sends(ack(AckKind::PubAck, 1, ReasonCode::ImplementationSpecificError));
    assert!(bench.is_connected());
    assert_eq!(
        (bench.heard(), bench.queued()),
        (vec!["$bridge/up/dead=1".into()], 0)
    );
    assert_eq!(bench.status.dead_letters(DeadReason::RefusedRepeatedly), 1);
}

#[test]
fn a_dead_letter_the_bus_refuses_is_counted_and_does_not_block() {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.max_outgoing_packet_size = 16;
        s.dead_letter_topic = "$delayed/x/dead".into();
    });
    bench.connect(welcome());
    bench.deliver("a/long/topic/name", "x", BusQos::AtLeastOnce);
    assert_eq!((bench.queued(), bench.is_connected()), (0, true));
    assert_eq!(bench.status.dropped(DropReason::DeadLetterRefused), 1);
}

/// The queue may hold messages of rules that are no more.
#[test]
fn a_message_without_a_rule_is_dropped_and_counted() {
    let mut bench = Bench::new(V3, &["a out 1", "b out 1"]);
    bench.deliver("a", "x", BusQos::AtLeastOnce);
    bench.deliver("b", "x", BusQos::AtLeastOnce);
    bench.configure(&["b out 1"]);
    bench.connect(welcome());
    assert_eq!(bench.words(), ["publish 2 qos1 b=x"]);
    assert_eq!((bench.status.dropped(DropReason::NoRule), bench.queued()), (1, 1));
}

/// A backlog does not flood the remote: what comes after the burst comes at the rate.
#[test]
fn a_rate_is_kept_from_the_first_message_of_a_backlog() {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.rate = Some(RateSettings {
            messages_per_second: 10,
            burst: 3,
        });
        s.max_inflight = 100;
    });
    for _ in 0..100 {
        bench.deliver("a", "x", BusQos::AtLeastOnce);
    }
    bench.connect(welcome());
    assert_eq!(bench.sent().len(), 3);
    bench.advance(1_000);
    assert_eq!(bench.sent().len(), 10);
    bench.advance(2_000);
    assert_eq!(bench.sent().len(), 20);
}

/// MQTT 5 §4.3.2, §4.3.3: a remote that mixes the flows up is left, and loses nothing.
#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    for (qos, wrong) in [
        (BusQos::AtLeastOnce, pubrec(1)),
        (BusQos::ExactlyOnce, puback(1)),
        (BusQos::ExactlyOnce, pubcomp(1)),
    ] {
        let mut bench = connected(V3);
        bench.deliver("a", "x", qos);
        bench.remote_sends(wrong);
        assert_eq!(
            (bench.ended(), bench.queued()),
            (Some(EndReason::ProtocolError), 1)
        );
    }
}

fn throttled(throttle: Throttle) -> Bench {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.topics[0].throttle = Some(throttle);
        s.max_inflight = 10;
    });
    bench.connect(welcome());
    bench
}

/// A message that waits is settled when another takes its place, or when the remote has acknowledged it.
#[test]
fn of_each_topic_the_last_value_goes_out_when_its_time_comes() {
    let mut bench = throttled(Throttle::LastValueEvery(Duration::from_secs(10)));
    for payload in ["1", "2", "3"] {
        bench.deliver("a/t", payload, BusQos::AtLeastOnce);
        bench.deliver("a/u", payload, BusQos::ExactlyOnce);
    }
    assert_eq!(
        bench.words(),
        ["publish 1 qos1 r/a/t=1", "publish 2 qos2 r/a/u=1"]
    );
    assert_eq!(
        (bench.status.dropped(DropReason::Throttled), bench.queued()),
        (2, 4)
    );
    bench.remote_sends(puback(1));
    bench.remote_sends(ack(AckKind::PubRec, 2, ReasonCode::Success));
    bench.remote_sends(pubcomp(2));
    bench.sent();
    bench.advance(9_999);
    assert_eq!(bench.words(), NOTHING);
    bench.advance(1);
    assert_eq!(
        bench.words(),
        ["publish 5 qos1 r/a/t=3", "publish 6 qos2 r/a/u=3"]
    );
    assert_eq!(bench.queued(), 2);
    bench.remote_sends(puback(5));
    bench.advance(10_000);
    bench.deliver("a/t", "4", BusQos::AtLeastOnce);
    assert_eq!(
        bench.words().last().map(String::as_str),
        Some("publish 7 qos1 r/a/t=4"),
        "after a pause at once"
    );
}

#[test]
fn a_value_that_waits_survives_a_crash() {
    let mut bench = throttled(Throttle::LastValueEvery(Duration::from_secs(10)));
    bench.deliver("a", "1", BusQos::AtLeastOnce);
    bench.remote_sends(puback(1));
    bench.deliver("a", "2", BusQos::AtLeastOnce);
    bench.crash();
    bench.connect(welcome_back());
    assert_eq!(bench.words(), ["publish 2 qos1 r/a=2 dup"]);
}

/// Values that wait take up half of the window at most: the one whose time comes first makes room, so that other topics go on.
#[test]
fn values_that_wait_do_not_fill_the_window() {
    let mut bench = throttled(Throttle::LastValueEvery(Duration::from_secs(1_000)));
    let topics: Vec<String> = (0..8).map(|n| format!("a/{n}")).collect();
    for (number, topic) in (1..).zip(&topics) {
        bench.deliver(topic, "1", BusQos::AtLeastOnce);
        bench.remote_sends(puback(number));
    }
    bench.sent();
    for topic in &topics {
        bench.deliver(topic, "2", BusQos::AtLeastOnce);
    }
    let early = [
        "publish 9 qos1 r/a/0=2",
        "publish 10 qos1 r/a/1=2",
        "publish 11 qos1 r/a/2=2",
    ];
    assert_eq!(
        (bench.words(), bench.queued()),
        (early.map(String::from).to_vec(), 8)
    );
}

#[test]
fn more_than_so_many_a_minute_are_dropped_and_counted() {
    let mut bench = throttled(Throttle::PerMinute(2));
    for _ in 0..5 {
        bench.deliver("a", "x", BusQos::AtLeastOnce);
    }
    assert_eq!(bench.sent().len(), 2);
    assert_eq!(
        (bench.status.dropped(DropReason::Throttled), bench.queued()),
        (3, 2)
    );
    bench.advance(29_999);
    bench.deliver("a", "x", BusQos::AtMostOnce);
    bench.advance(1);
    bench.deliver("a", "x", BusQos::AtMostOnce);
    assert_eq!(bench.words(), ["publish qos0 r/a=x"]);
}

/// A version 3 remote can refuse a message only by hanging up. The message that it hangs up at, in the end when nothing else was sent, is moved aside.
#[test]
fn a_message_at_which_the_remote_hangs_up_does_not_block_the_queue() {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.rate = Some(RateSettings {
            messages_per_second: 100,
            burst: 100,
        });
    });
    bench.connect(welcome());
    bench.watch("$bridge/up/dead");
    for payload in ["poison", "2", "3"] {
        bench.deliver("a", payload, BusQos::AtLeastOnce);
    }
    for _ in 0..5 {
        assert_eq!(bench.sent().len(), 3);
        bench.cut();
        bench.connect(welcome_back());
    }
    assert_eq!(bench.words(), ["publish 1 qos1 r/a=poison dup"], "alone");
    bench.advance(10_000);
    assert_eq!(bench.words(), NOTHING);
    bench.cut();
    bench.connect(welcome_back());
    assert_eq!(
        bench.words(),
        ["publish 2 qos1 r/a=2 dup", "publish 3 qos1 r/a=3 dup"]
    );
    assert_eq!(bench.heard(), ["$bridge/up/dead=poison"]);
    assert_eq!(bench.status.dead_letters(DeadReason::Disconnects), 1);
}

/// A bad network is no reason to move a message aside.
#[test]
fn a_suspected_message_that_is_acknowledged_is_cleared() {
    let mut bench = connected(V3);
    for payload in ["1", "2", "3"] {
        bench.deliver("a", payload, BusQos::AtLeastOnce);
    }
    for _ in 0..5 {
        bench.cut();
        bench.connect(welcome_back());
    }
    assert_eq!(bench.words(), ["publish 1 qos1 r/a=1 dup"]);
    bench.remote_sends(puback(1));
    assert_eq!(
        bench.words(),
        ["publish 2 qos1 r/a=2 dup", "publish 3 qos1 r/a=3 dup"],
        "at once"
    );
    bench.cut();
    bench.connect(welcome_back());
    assert_eq!(bench.sent().len(), 2);
}

/// MQTT 5 §3.14.2.1: a server that stops, or is busy, says nothing about a message.
#[test]
fn a_disconnect_that_is_not_about_a_packet_suspects_nothing() {
    for (reason, suspected) in [(ReasonCode::ServerBusy, false), (ReasonCode::NotAuthorized, true)] {
        let mut bench = connected(V5);
        bench.deliver("a", "1", BusQos::AtLeastOnce);
        bench.deliver("a", "2", BusQos::AtLeastOnce);
        for _ in 0..5 {
            let disconnect = headgate_mqtt_codec::Disconnect::with_reason(reason);
            bench.remote_sends(Packet::Disconnect(disconnect));
            bench.connect(welcome_back());
        }
        assert_eq!(bench.sent().len() == 1, suspected, "{reason}");
    }
}
