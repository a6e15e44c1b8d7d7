//! Sessions: what outlives a connection, a take-over, a power cut; and what does not. MQTT 5 §3.1.2.4, §3.1.2.11.2, §4.1

use headgate_bus::{DropReason, QueueFull};
use headgate_mqtt_codec::{Disconnect, DisconnectProperties, ReasonCode, Version};
use headgate_tests::*;
use std::time::Duration;

const NOTHING: [&str; 0] = [];

fn dropped(gw: &Gateway, reason: DropReason) -> u64 {
    gw.stats().dropped[reason as usize]
}

fn durable(gw: &Gateway, version: Version) -> Client {
    gw.open(connect(version, "c").durable())
}

/// [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-3.1.3-2] [MQTT-3.1.4-4]
/// [3.1.1 MQTT-3.1.2-4] [3.1.1 MQTT-3.1.2-5] [3.1.1 MQTT-3.1.3-2] [3.1.1 MQTT-4.1.0-1] [3.1.1 MQTT-3.1.4-3]
/// The client id names the session: subscriptions and QoS 1 and 2 messages wait for it, in order, also over a power cut, and for nobody
/// else.
#[test]
fn session_outlives_the_connection() {
    for version in NUMBERED {
        for cut in [false, true] {
            let gw = Gateway::default();
            let mut client = durable(&gw, version);
            assert!(!client.session_present());
            client.subscribe("a", ExactlyOnce);
            client.leave();
            let mut publisher = gw.client(V5, "p");
            for (payload, qos) in [
                ("0", AtMostOnce),
                ("1", AtLeastOnce),
                ("2", ExactlyOnce),
                ("3", AtLeastOnce),
            ] {
                publisher.deliver(publish("a", payload), qos);
            }
            if cut {
                gw.crash(Duration::from_secs(60));
            }
            let mut other = gw.open(connect(version, "C").durable());
            assert!(!other.session_present());
            assert_eq!(other.heard(), NOTHING);
            let mut back = durable(&gw, version);
            assert!(back.session_present());
            assert_eq!(back.heard(), ["a=1", "a=2", "a=3"]);
            gw.client(V5, "p").deliver(publish("a", "live"), AtLeastOnce);
            assert_eq!(back.heard(), ["a=live"], "the subscription is there");
        }
    }
}

/// [MQTT-4.1.0-2] [MQTT-3.1.2-23] After its interval a session is gone: from the gateway, from the disk, and for its client.
#[test]
fn session_ends_after_its_expiry_interval() {
    for cut in [false, true] {
        let gw = Gateway::default();
        let hello = connect(V5, "c").resume().expiry(60);
        let mut client = gw.open(hello.clone());
        client.subscribe("a", AtLeastOnce);
        client.lose();
        let wait = |time| {
            if cut {
                gw.crash(time);
            } else {
                gw.advance(time);
            }
        };
        wait(Duration::from_millis(59_999));
        assert_eq!((gw.stats().sessions, gw.stored_sessions()), (1, 1));
        let mut client = gw.open(hello.clone());
        assert!(client.session_present());
        client.lose();
        wait(Duration::from_secs(60));
        assert_eq!((gw.stats().sessions, gw.stored_sessions()), (0, 0));
        assert!(!gw.open(hello).session_present());
        assert_eq!(gw.stats().subscriptions, 0);
    }
}

/// [MQTT-4.1.0-2] For a client that was connected when the power was cut the interval begins when the gateway is back; another cut does
/// not let it begin again. Our reading: docs/interpretations.md#power-cut-and-expiry.
#[test]
fn power_cuts_do_not_keep_a_session_alive() {
    let gw = Gateway::default();
    let _client = gw.open(connect(V5, "c").expiry(60));
    gw.crash(Duration::from_secs(1_000));
    assert_eq!(gw.stats().sessions, 1);
    gw.crash(Duration::from_secs(40));
    assert_eq!(gw.stats().sessions, 1);
    gw.crash(Duration::from_secs(40));
    assert_eq!((gw.stats().sessions, gw.stored_sessions()), (0, 0));
}

/// [MQTT-3.1.2-23] [3.1.1 MQTT-3.1.2-6] An interval of zero, or none, or a clean session before MQTT 5, ends with the connection.
#[test]
fn session_without_expiry_ends_with_the_connection() {
    let zero = connect(V5, "c").resume().expiry(0);
    for hello in [
        zero,
        connect(V5, "c").resume(),
        connect(V311, "c"),
        connect(V31, "c"),
    ] {
        let gw = Gateway::default();
        let mut client = gw.open(hello);
        client.subscribe("a", AtLeastOnce);
        client.lose();
        assert_eq!((gw.stats().sessions, gw.stored_sessions()), (0, 0));
        assert!(!gw.open(connect(V5, "c").resume()).session_present());
        assert_eq!(gw.stats().subscriptions, 0);
    }
}

/// MQTT 5 §3.1.2.11.2: 0xFFFFFFFF never ends.
#[test]
fn session_may_never_end() {
    let gw = Gateway::default();
    durable(&gw, V5).leave();
    gw.crash(Duration::from_secs(10 * 365 * 86_400));
    gw.sleep(10 * 365 * 86_400);
    assert!(durable(&gw, V5).session_present());
}

/// 3.1.1 has no expiry: the operator sets how long such sessions are kept. 0 is for ever.
#[test]
fn sessions_of_older_clients_end_as_the_operator_says() {
    for (setting, after, present) in [(7_200, 7_199, true), (7_200, 7_200, false), (0, 1_000_000, true)] {
        let gw = Gateway::with(|s| s.mqtt.v3_session_expiry = Duration::from_secs(setting));
        durable(&gw, V311).lose();
        gw.sleep(after);
        assert_eq!(durable(&gw, V311).session_present(), present, "{setting} s");
    }
}

/// MQTT 5 §3.2.2.3.2: a client is told when its session will end earlier than it asked for.
#[test]
fn shorter_session_expiry_is_told() {
    let gw = Gateway::with(|s| s.bus.max_session_expiry = Duration::from_secs(100));
    let told = |hello| gw.open(hello).told().session_expiry;
    assert_eq!(told(connect(V5, "c").expiry(100)), None);
    assert_eq!(told(connect(V5, "c").expiry(101)), Some(100));
    assert_eq!(told(connect(V5, "c").expiry(u32::MAX)), Some(100));
    assert_eq!(told(connect(V5, "c")), None);
    gw.open(connect(V5, "c").expiry(u32::MAX)).lose();
    gw.sleep(100);
    assert_eq!(gw.stats().sessions, 0);
    let usual = Gateway::default().open(connect(V5, "c").expiry(u32::MAX));
    assert_eq!(usual.told().session_expiry, None);
}

/// [MQTT-3.1.2-4] [MQTT-3.1.4-4] [3.1.1 MQTT-3.1.2-6] [3.1.1 MQTT-3.1.4-3] [3.1.1 MQTT-3.2.2-1]
/// A clean start throws everything away: subscriptions, queue, what was in flight both ways. Retained messages stay.
#[test]
fn clean_start_discards_the_session() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut watcher = gw.client(V5, "w");
        watcher.subscribe("out", AtMostOnce);
        let mut client = durable(&gw, version);
        client.subscribe("a", ExactlyOnce);
        client.send(publish("out", "1").qos(ExactlyOnce, 7));
        let mut publisher = gw.client(V5, "p");
        publisher.deliver(publish("a", "in flight"), ExactlyOnce);
        client.lose();
        publisher.deliver(publish("a", "queued").retain(), ExactlyOnce);

        let mut clean = gw.client(version, "c");
        assert!(!clean.session_present());
        publisher.deliver(publish("a", "later"), ExactlyOnce);
        clean.send(publish("out", "2").qos(ExactlyOnce, 7));
        assert_eq!(clean.received(), [pubrec(7).to_packet()]);
        assert_eq!(watcher.heard(), ["out=1", "out=2"], "the identifier is new");
        clean.lose();

        let mut after = durable(&gw, version);
        assert!(!after.session_present(), "a clean session leaves nothing");
        assert_eq!(after.heard(), NOTHING);
        after.subscribe("a", AtMostOnce);
        assert_eq!(
            after.heard(),
            ["a=queued"],
            "a retained message is not session state"
        );
    }
}

/// [MQTT-4.1.0-1] [3.1.1 MQTT-4.1.0-2] A session lasts as long as its connection, however short its expiry.
#[test]
fn session_is_kept_while_connected() {
    for hello in [
        connect(V5, "c").expiry(1),
        connect(V5, "c"),
        connect(V311, "c"),
        connect(V311, "c").durable(),
    ] {
        let gw = Gateway::default();
        let mut client = gw.open(hello);
        client.subscribe("a", AtLeastOnce);
        for _ in 0..24 {
            gw.sleep(3_600);
            gw.client(V5, "p").deliver(publish("a", "x"), AtLeastOnce);
            assert_eq!(client.heard(), ["a=x"]);
        }
    }
}

/// MQTT 5 §3.14.2.2.2: DISCONNECT may change how long the session is kept.
#[test]
fn disconnect_may_change_the_expiry() {
    let leaving = |expiry| Disconnect {
        reason: ReasonCode::Success,
        properties: Some(Box::new(DisconnectProperties {
            session_expiry: Some(expiry),
            ..DisconnectProperties::default()
        })),
    };
    let hello = || connect(V5, "c").resume().expiry(60);
    let gw = Gateway::default();
    gw.open(hello()).send(leaving(600));
    gw.sleep(599);
    let mut client = gw.open(hello());
    assert!(client.session_present());
    client.send(leaving(0));
    assert_eq!((gw.stats().sessions, gw.stored_sessions()), (0, 0));
    gw.open(hello()).send(leaving(10));
    gw.sleep(10);
    assert_eq!(gw.stats().sessions, 0);
}

/// [MQTT-3.1.2-23] The interval is the one of the last CONNECT.
#[test]
fn last_connect_sets_the_expiry() {
    let gw = Gateway::default();
    let mut client = gw.open(connect(V5, "c").resume().expiry(600));
    client.subscribe("a", AtLeastOnce);
    client.lose();
    let mut client = gw.open(connect(V5, "c").resume());
    assert!(client.session_present());
    client.lose();
    assert_eq!((gw.stats().sessions, gw.stored_sessions()), (0, 0));
}

/// CONNACK of a session that shall last promises that it does: it waits for the commit.
#[test]
fn connack_of_a_durable_session_waits_for_the_commit() {
    let gw = Gateway::default();
    gw.withhold_commits();
    let mut client = gw.connect(connect(V5, "c").durable());
    assert_eq!(client.connack, None);
    gw.commit();
    client.expect(headgate_mqtt_codec::PacketType::ConnAck);
    let volatile = gw.connect(connect(V5, "v"));
    assert_eq!(volatile.code(), Some(ReasonCode::Success), "nothing is promised");
}

/// A session that is taken over while its CONNACK waits: the first link gets nothing but its end.
#[test]
fn take_over_before_connack() {
    let gw = Gateway::default();
    gw.withhold_commits();
    let mut first = gw.connect(connect(V5, "c").durable());
    let mut second = gw.connect(connect(V5, "c").durable());
    gw.commit();
    assert!(first.is_closed());
    assert_eq!(first.received(), [], "no DISCONNECT before CONNACK");
    second.expect(headgate_mqtt_codec::PacketType::ConnAck);
    assert_eq!(gw.stats().clients, 1);
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6] Waiting counts: what is left of a message's life is told, and nothing is delivered after its end; a
/// power cut does not stop the clock.
#[test]
fn queued_messages_expire() {
    for cut in [false, true] {
        let gw = Gateway::default();
        let mut client = durable(&gw, V5);
        client.subscribe("a", AtLeastOnce);
        client.leave();
        let mut publisher = gw.client(V5, "p");
        for (payload, seconds) in [("short", Some(5)), ("long", Some(60)), ("ever", None)] {
            let message = publish("a", payload).with(|p| p.message_expiry = seconds);
            publisher.deliver(message, AtLeastOnce);
        }
        if cut {
            gw.crash(Duration::from_secs(10));
        } else {
            gw.sleep(10);
        }
        let messages = durable(&gw, V5).messages();
        let got: Vec<_> = messages
            .iter()
            .map(|m| (m.brief(), m.props().message_expiry))
            .collect();
        assert_eq!(
            got,
            [("a=long".to_owned(), Some(50)), ("a=ever".to_owned(), None)],
            "cut: {cut}"
        );
        assert!(
            messages.iter().all(|message| !message.dup),
            "none was sent before"
        );
    }
}

/// 0 stands for no limit, in every setting.
#[test]
fn zero_is_no_limit() {
    let gw = Gateway::with(|settings| {
        let bus = &mut settings.bus;
        (
            bus.max_queued_messages,
            bus.max_queued_bytes,
            bus.max_queued_in_memory,
        ) = (0, 0, 0);
        (bus.max_inflight_bytes, bus.max_awaiting_release) = (0, 0);
        (
            bus.retained.max_count,
            bus.retained.max_bytes,
            bus.retained.max_payload_bytes,
        ) = (0, 0, 0);
        (bus.delayed.max_count, bus.delayed.max_bytes) = (0, 0);
        bus.max_memory_bytes = Some(0);
    });
    let mut client = durable(&gw, V5);
    client.subscribe("a/#", ExactlyOnce);
    client.leave();
    let mut publisher = gw.client(V5, "p");
    for (topic, qos) in [
        ("a/1", AtLeastOnce),
        ("a/2", ExactlyOnce),
        ("$delayed/1/a/3", AtLeastOnce),
    ] {
        assert!(
            !publisher.deliver(publish(topic, "x").retain(), qos).is_error(),
            "{topic}"
        );
    }
    gw.sleep(2);
    assert_eq!(gw.stats().retained, 3);
    assert_eq!(durable(&gw, V5).heard(), ["a/1=x", "a/2=x", "a/3=x"]);
}

/// [MQTT-3.3.2-5] What has expired holds no place: a full queue of expired messages takes new ones, and drops none that is still good.
#[test]
fn expired_messages_hold_no_place() {
    for when_full in [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse] {
        for cut in [false, true] {
            let gw = Gateway::with(|settings| {
                settings.bus.max_queued_messages = 5;
                settings.bus.when_full = when_full;
            });
            let mut client = durable(&gw, V5);
            client.subscribe("a", AtLeastOnce);
            client.leave();
            let mut publisher = gw.client(V5, "p");
            let say = |publisher: &mut Client, payload: &str, expiry| {
                let message = publish("a", payload).with(|p| p.message_expiry = expiry);
                assert!(!publisher.deliver(message, AtLeastOnce).is_error(), "{payload}");
            };
            say(&mut publisher, "good", None);
            for n in 0..4 {
                say(&mut publisher, &format!("short{n}"), Some(5));
            }
            if cut {
                gw.crash(Duration::from_secs(10));
            } else {
                gw.sleep(10);
            }
            let mut publisher = gw.client(V5, "p");
            for n in 0..4 {
                say(&mut publisher, &format!("new{n}"), None);
            }
            assert_eq!(dropped(&gw, DropReason::Expired), 4, "{when_full:?} {cut}");
            assert_eq!(dropped(&gw, DropReason::QueueFull), 0);
            let heard = durable(&gw, V5).heard();
            assert_eq!(heard, ["a=good", "a=new0", "a=new1", "a=new2", "a=new3"]);
        }
    }
}

/// What expires while nobody comes is gone a minute later, from the disk too, and counted.
#[test]
fn expired_messages_are_swept() {
    let gw = Gateway::default();
    let mut client = durable(&gw, V5);
    client.subscribe("a", AtLeastOnce);
    client.leave();
    let mut publisher = gw.client(V5, "p");
    for n in 0..3_000 {
        let expiry = [None, Some(5), Some(600)][n % 3];
        let message = publish("a", &n.to_string()).with(|p| p.message_expiry = expiry);
        publisher.deliver(message, AtLeastOnce);
    }
    gw.sleep(65);
    assert_eq!(dropped(&gw, DropReason::Expired), 1_000);
    assert_eq!((gw.stats().queued, gw.stored_messages()), (2_000, 2_000));
    gw.sleep(600);
    assert_eq!(
        (gw.stats().queued, dropped(&gw, DropReason::Expired)),
        (1_000, 2_000)
    );
    let expected: Vec<String> = (0..3_000).step_by(3).map(|n| format!("a={n}")).collect();
    assert_eq!(durable(&gw, V5).heard(), expected);
}

/// [MQTT-3.3.2-5] What waits for room in the client's window expires as well, and makes room for the next.
#[test]
fn messages_held_back_expire() {
    let gw = Gateway::default();
    let one = std::num::NonZeroU16::new(1);
    let mut client = gw.open(connect(V5, "c").with(|p| p.receive_maximum = one));
    client.subscribe("a", AtLeastOnce);
    let mut publisher = gw.client(V5, "p");
    for (payload, seconds) in [("held", 60), ("expires", 5), ("stays", 60)] {
        publisher.deliver(
            publish("a", payload).with(|p| p.message_expiry = Some(seconds)),
            AtLeastOnce,
        );
    }
    gw.sleep(10);
    assert_eq!(client.heard(), ["a=held", "a=stays"]);
}

/// QoS 0 for a client that is away is dropped, or kept if the operator wants that.
#[test]
fn qos0_for_absent_clients() {
    for (store, expected) in [(false, 0), (true, 1)] {
        let gw = Gateway::with(|s| s.bus.store_qos0 = store);
        let mut client = durable(&gw, V5);
        client.subscribe("a", AtLeastOnce);
        client.leave();
        gw.client(V5, "p").say("a", "x");
        assert_eq!(durable(&gw, V5).heard().len(), expected);
    }
}

/// A full queue drops the oldest, drops the newest, or refuses the publisher; a client that reads again gets what was kept, in order.
#[test]
fn queue_limit_has_a_policy() {
    for (policy, kept) in [
        (QueueFull::DropOldest, ["a=3", "a=4"]),
        (QueueFull::DropNewest, ["a=1", "a=2"]),
        (QueueFull::Refuse, ["a=1", "a=2"]),
    ] {
        for version in NUMBERED {
            let gw = Gateway::with(|s| {
                s.bus.max_queued_messages = 2;
                s.bus.when_full = policy;
            });
            let mut client = durable(&gw, V5);
            client.subscribe("a", AtLeastOnce);
            client.leave();
            for n in 1..=4 {
                let mut publisher = gw.client(version, "p");
                publisher.send(publish("a", &n.to_string()).qos(AtLeastOnce, 1));
                let refused = n > 2 && policy == QueueFull::Refuse;
                assert_eq!(
                    publisher.is_closed(),
                    refused && version == V311,
                    "it cannot be told otherwise"
                );
                if version == V5 {
                    let reason = if refused {
                        ReasonCode::QuotaExceeded
                    } else {
                        ReasonCode::Success
                    };
                    assert_eq!(publisher.received(), [puback(1).because(reason).to_packet()]);
                }
            }
            assert_eq!(durable(&gw, V5).heard(), kept, "{policy:?}");
            assert_eq!(gw.stats().dropped[0], 2);
        }
    }
}

/// QoS 0 gives way first when a queue is full.
#[test]
fn qos0_gives_way_in_a_full_queue() {
    let gw = Gateway::with(|s| {
        s.bus.max_queued_messages = 2;
        s.bus.store_qos0 = true;
        s.bus.when_full = QueueFull::DropNewest;
    });
    let mut client = durable(&gw, V5);
    client.subscribe("a", AtLeastOnce);
    client.leave();
    let mut publisher = gw.client(V5, "p");
    for (payload, qos) in [
        ("0", AtMostOnce),
        ("1", AtLeastOnce),
        ("2", AtLeastOnce),
        ("3", AtLeastOnce),
    ] {
        publisher.deliver(publish("a", payload), qos);
    }
    assert_eq!(durable(&gw, V5).heard(), ["a=1", "a=2"]);
}

/// What is sent first from a queue can be set by topic.
#[test]
fn queued_messages_go_by_priority() {
    let gw = Gateway::with(|s| {
        s.bus.priorities = vec![headgate_bus::TopicPriority {
            topic: "alarm/#".into(),
            priority: 9,
        }];
    });
    let mut client = durable(&gw, V5);
    client.subscribe("#", AtLeastOnce);
    client.leave();
    let mut publisher = gw.client(V5, "p");
    for topic in ["data/1", "alarm/1", "data/2", "alarm/2"] {
        publisher.deliver(publish(topic, ""), AtLeastOnce);
    }
    assert_eq!(
        durable(&gw, V5).heard(),
        ["alarm/1=", "alarm/2=", "data/1=", "data/2="]
    );
}

/// Everything a session holds is let go when it ends: nothing is left on the disk.
#[test]
fn ended_sessions_leave_nothing_on_the_disk() {
    let gw = Gateway::default();
    let mut client = durable(&gw, V5);
    client.subscribe("a", ExactlyOnce);
    let mut publisher = gw.open(connect(V5, "p").durable());
    publisher.send(publish("a", "x").qos(ExactlyOnce, 1));
    publisher.send(publish("b", "x").qos(ExactlyOnce, 2));
    client.lose();
    publisher.deliver(publish("a", "y"), AtLeastOnce);
    gw.client(V5, "c").leave();
    gw.client(V5, "p").leave();
    assert_eq!(gw.stored_sessions(), 0);
    assert_eq!(gw.stored_messages(), 0);
}

/// [MQTT-4.4.0-1] [3.1.1 MQTT-4.4.0-1] What was sent must be sent again: a full queue drops what was not.
#[test]
fn full_queue_keeps_what_was_sent() {
    for version in NUMBERED {
        let gw = Gateway::with(|s| s.bus.max_queued_messages = 2);
        let mut client = durable(&gw, version);
        client.subscribe("a", ExactlyOnce);
        let mut publisher = gw.client(V5, "p");
        publisher.deliver(publish("a", "sent 1"), AtLeastOnce);
        publisher.deliver(publish("a", "sent 2"), ExactlyOnce);
        assert_eq!(client.messages().len(), 2);
        client.lose();
        for n in 0..5 {
            publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
        }
        let mut client = durable(&gw, version);
        assert_eq!(client.heard()[..2], ["a=sent 1", "a=sent 2"]);
    }
}

/// The limit is for what waits for its receiver: a burst of QoS 2 that waits for the disk only is not dropped.
#[test]
fn waiting_for_the_disk_is_not_a_full_queue() {
    let gw = Gateway::with(|s| s.bus.max_queued_messages = 2);
    let mut client = durable(&gw, V5);
    client.subscribe("a", ExactlyOnce);
    let mut publisher = gw.client(V5, "p");
    gw.withhold_commits();
    for n in 1..=20 {
        publisher.send(publish("a", &n.to_string()).qos(ExactlyOnce, n));
    }
    gw.commit();
    assert_eq!(client.messages().len(), 20);
    assert_eq!(gw.stats().dropped, [0; DropReason::ALL.len()]);
}

/// A message that would not fit into an empty queue takes nobody's place.
#[test]
fn too_large_for_the_queue_drops_nothing_else() {
    let gw = Gateway::with(|s| s.bus.max_queued_bytes = 2_000);
    let mut client = durable(&gw, V5);
    client.subscribe("a", AtLeastOnce);
    client.leave();
    let mut publisher = gw.client(V5, "p");
    publisher.deliver(publish("a", "small"), AtLeastOnce);
    publisher.deliver(publish("a", &"large".repeat(1_000)), AtLeastOnce);
    assert_eq!(durable(&gw, V5).heard(), ["a=small"]);
}

/// A session that cannot be made durable is not promised: the client is told to try elsewhere, or later.
#[test]
fn failing_disk_refuses_durable_sessions() {
    for version in NUMBERED {
        let gw = Gateway::default();
        gw.break_disk(true);
        let client = gw.connect(connect(version, "c").durable());
        assert_eq!(client.code(), Some(ReasonCode::ServerUnavailable));
        assert!(client.is_closed());
        assert_eq!(gw.client(version, "volatile").code(), Some(ReasonCode::Success));
    }
}
