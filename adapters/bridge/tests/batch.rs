//! Many messages in one PUBLISH: when a batch goes out, what it looks like, what its acknowledgement settles. `docs/interpretations.md#bridge-batches`

mod bench;

use bench::*;
use headgate_bridge::{
    BatchSettings, BridgePlan, BridgeSettings, BridgeVersion, Compression, DeadReason, Direction, DropReason,
    EndReason, Throttle,
};
use headgate_model::{Message, Qos as BusQos, Topic};
use headgate_mqtt_codec::{AckKind, Packet, Publish, ReasonCode};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

const LINES: &[&str] = &["a/# out 1 \"\" r/"];

fn batch(max_messages: u16) -> BatchSettings {
    BatchSettings {
        max_messages,
        ..BatchSettings::default()
    }
}

fn gathering(version: BridgeVersion, batch: BatchSettings) -> Bench {
    let mut bench = Bench::with(version, LINES, |s| s.topics[0].batch = Some(batch));
    bench.connect(welcome());
    bench
}

fn in_one_topic(max_messages: u16) -> BatchSettings {
    BatchSettings {
        topic: Some("all".into()),
        ..batch(max_messages)
    }
}

fn deliver(bench: &mut Bench, topic: &str, payloads: &[&'static str]) {
    for payload in payloads {
        bench.deliver(topic, payload, BusQos::AtLeastOnce);
    }
}

fn only(bench: &mut Bench) -> Publish {
    match &bench.sent()[..] {
        [Packet::Publish(publish)] => publish.clone(),
        sent => panic!("{sent:?}"),
    }
}

#[test]
fn a_batch_goes_out_when_it_is_full_and_one_puback_settles_all() {
    let mut bench = gathering(V3, batch(3));
    deliver(&mut bench, "a/t", &["1", "on"]);
    assert_eq!(bench.words(), NOTHING);
    deliver(&mut bench, "a/t", &["{\"v\": 2}"]);
    assert_eq!(
        bench.words(),
        [
            "publish 1 qos1 r/a/t=[{\"topic\":\"r/a/t\",\"payload\":1},{\"topic\":\"r/a/t\",\"payload\":\"on\"},\
             {\"topic\":\"r/a/t\",\"payload\":{\"v\": 2}}]"
        ]
    );
    assert_eq!((bench.queued(), bench.status.in_flight()), (3, 3));
    bench.remote_sends(puback(1));
    assert_eq!((bench.queued(), bench.status.in_flight()), (0, 0));
    let status = &bench.status;
    assert_eq!(
        (status.sent.get(), status.batches.get(), status.acknowledged.get()),
        (3, 1, 3)
    );
}

#[test]
fn a_batch_goes_out_so_long_after_its_first_message() {
    let mut bench = gathering(V3, batch(10));
    deliver(&mut bench, "a", &["1"]);
    bench.advance(600);
    deliver(&mut bench, "a", &["2"]);
    bench.advance(399);
    assert_eq!(bench.words(), NOTHING);
    bench.advance(1);
    assert_eq!(
        bench.words(),
        ["publish 1 qos1 r/a=[{\"topic\":\"r/a\",\"payload\":1},{\"topic\":\"r/a\",\"payload\":2}]"]
    );
    bench.advance(10_000);
    assert_eq!(bench.words(), NOTHING, "nothing is sent again");
}

/// 33 objects of 30 bytes, their commas and the brackets are 1,024 bytes; one more would be too much.
#[test]
fn a_batch_that_would_be_too_long_goes_out_before() {
    let limits = BatchSettings {
        max_bytes: 1_024,
        ..batch(1_000)
    };
    let mut bench = gathering(V3, limits);
    for _ in 0..40 {
        deliver(&mut bench, "a/12", &["567"]);
    }
    let publish = only(&mut bench);
    assert!(publish.payload.len() <= 1_024, "{}", publish.payload.len());
    let full = publish.payload.len() + ",{\"topic\":\"r/a/12\",\"payload\":567}".len();
    assert!(full > 1_024, "there was room for one more: {full}");
    bench.advance(1_000);
    assert_eq!(bench.sent().len(), 1, "the rest");
}

/// [MQTT-3.2.2-15] What does not fit even alone is a dead letter, as ever.
#[test]
fn no_batch_is_larger_than_the_remote_takes() {
    let mut bench = gathering(V5, batch(100));
    bench.cut();
    bench.watch("$bridge/up/dead");
    bench.connect(limited(|p| p.maximum_packet_size = NonZeroU32::new(400)));
    let long = Box::leak("x".repeat(400).into_boxed_str());
    for n in 0..30 {
        deliver(&mut bench, "a/t", &[if n == 20 { &*long } else { "12345" }]);
    }
    bench.advance(1_000);
    let mut messages = 0;
    for packet in bench.sent() {
        let size = headgate_mqtt_codec::encoded_len(&packet, wire_version(V5));
        assert!(size <= 400, "{size}");
        let Packet::Publish(publish) = packet else {
            panic!()
        };
        messages += array(&publish).as_array().unwrap().len();
    }
    assert_eq!((messages, bench.watched().len()), (29, 1));
    assert_eq!(bench.status.dead_letters(DeadReason::TooLarge), 1);
    assert_eq!(bench.queued(), 29, "the dead letter is settled");
}

fn array(publish: &Publish) -> serde_json::Value {
    serde_json::from_slice(&publish.payload).unwrap()
}

#[test]
fn each_remote_topic_has_its_batch_or_the_rule_has_one_for_all() {
    let mut bench = gathering(V3, batch(2));
    for payload in ["1", "2"] {
        deliver(&mut bench, "a/t", &[payload]);
        deliver(&mut bench, "a/u", &[payload]);
    }
    let topics: Vec<String> = bench.words().iter().map(|word| word[..18].to_owned()).collect();
    assert_eq!(topics, ["publish 1 qos1 r/a", "publish 2 qos1 r/a"]);
    let mut bench = gathering(V3, in_one_topic(2));
    deliver(&mut bench, "a/t", &["1"]);
    deliver(&mut bench, "a/u", &["2"]);
    assert_eq!(
        bench.words(),
        ["publish 1 qos1 all=[{\"topic\":\"r/a/t\",\"payload\":1},{\"topic\":\"r/a/u\",\"payload\":2}]"]
    );
}

/// A hundred are gathered at a time; the one that has waited longest makes room.
#[test]
fn the_oldest_batch_makes_room_for_one_more() {
    let mut bench = gathering(V3, batch(100));
    for n in 0..101 {
        deliver(&mut bench, &format!("a/{n}"), &["1"]);
    }
    assert_eq!(
        bench.words(),
        ["publish 1 qos1 r/a/0=[{\"topic\":\"r/a/0\",\"payload\":1}]"]
    );
}

/// MQTT 5 §3.3.2.3; the batch is a message of this gateway's, so its path begins here.
#[test]
fn a_batch_says_that_it_is_json_and_where_it_comes_from() {
    let mut bench = gathering(V5, batch(2));
    for seconds in [5, 9] {
        bench.deliver_message(Message {
            qos: BusQos::AtLeastOnce,
            retain: true,
            expires_at: Some(bench.now + Duration::from_secs(seconds)),
            ..Message::new(Topic::try_from("a").unwrap(), "1")
        });
    }
    let publish = only(&mut bench);
    let properties = publish.properties.as_ref().unwrap();
    assert_eq!(properties.content_type, Some(text("application/json")));
    assert_eq!(
        (properties.payload_format, properties.message_expiry),
        (Some(true), Some(9))
    );
    assert_eq!(
        properties.user_properties,
        [(text("headgate-path"), text("here"))]
    );
    assert!(!publish.retain, "a batch is no last value");
    assert_eq!(array(&publish)[0]["retain"], true);
}

/// [MQTT-3.3.2-5] Nobody waits in a batch for the end of his time.
#[test]
fn a_batch_goes_out_before_one_of_it_expires() {
    let mut bench = gathering(V5, batch(10));
    deliver(&mut bench, "a", &["1"]);
    bench.deliver_message(Message {
        qos: BusQos::AtLeastOnce,
        expires_at: Some(bench.now + Duration::from_millis(200)),
        ..Message::new(Topic::try_from("a").unwrap(), "2")
    });
    bench.advance(200);
    assert_eq!(array(&only(&mut bench)).as_array().unwrap().len(), 2);
}

#[test]
fn the_whole_batch_is_packed() {
    let mut bench = Bench::with(V5, LINES, |s| {
        s.topics[0].batch = Some(batch(50));
        s.topics[0].compress = Some(Compression::Zstd);
    });
    bench.connect(welcome());
    for _ in 0..50 {
        deliver(&mut bench, "a/t", &["21.5"]);
    }
    let publish = only(&mut bench);
    assert_eq!(Compression::of(&publish.payload), Some(Compression::Zstd));
    let encoding = (text("content-encoding"), text("zstd"));
    let properties = publish.properties.as_ref().unwrap();
    assert!(properties.user_properties.contains(&encoding), "{properties:?}");
    assert_eq!(properties.payload_format, None);
    let payload = Compression::Zstd.unpack(&publish.payload, 10_000).unwrap();
    let array: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 50);
}

#[test]
fn the_qos_of_a_batch_is_the_highest_of_its_messages() {
    let mut bench = gathering(V3, batch(2));
    bench.deliver("a", "0", BusQos::AtMostOnce);
    bench.deliver("a", "0", BusQos::AtMostOnce);
    assert!(bench.words()[0].starts_with("publish qos0 r/a=["));
    bench.deliver("a", "0", BusQos::AtMostOnce);
    bench.deliver("a", "2", BusQos::ExactlyOnce);
    assert!(bench.words()[0].starts_with("publish 1 qos1 r/a=["));
    assert_eq!((bench.queued(), bench.status.in_flight()), (1, 1));
    bench.remote_sends(puback(1));
    assert_eq!((bench.queued(), bench.status.acknowledged.get()), (0, 1));
    assert_eq!(bench.status.sent.get(), 4);
}

/// [MQTT-3.2.2-11]
#[test]
fn a_remote_that_takes_qos_0_only_has_batches_at_qos_0() {
    let mut bench = gathering(V5, batch(2));
    bench.cut();
    bench.connect(limited(|p| {
        p.maximum_qos = Some(headgate_mqtt_codec::Qos::AtMostOnce);
    }));
    deliver(&mut bench, "a", &["1", "2"]);
    assert!(bench.words()[0].starts_with("publish qos0 r/a=["));
    assert_eq!(bench.queued(), 0);
}

/// The composition is another one on the next connection: neither DUP, which would say that it is the same, nor a lost message.
#[test]
fn what_was_not_acknowledged_is_gathered_anew() {
    let mut bench = gathering(V3, batch(2));
    deliver(&mut bench, "a", &["1", "2", "3"]);
    assert_eq!(bench.sent().len(), 1);
    bench.crash();
    bench.deliver("a", "4", BusQos::AtLeastOnce);
    bench.connect(welcome_back());
    let words = bench.words();
    assert_eq!(
        words,
        [
            "publish 1 qos1 r/a=[{\"topic\":\"r/a\",\"payload\":1},{\"topic\":\"r/a\",\"payload\":2}]",
            "publish 3 qos1 r/a=[{\"topic\":\"r/a\",\"payload\":3},{\"topic\":\"r/a\",\"payload\":4}]"
        ]
    );
    assert_eq!(bench.status.sent_again.get(), 3, "the third may have been sent");
    bench.remote_sends(puback(3));
    bench.remote_sends(puback(1));
    assert_eq!(bench.queued(), 0);
}

/// MQTT 5 §4.9 counts packets: many more messages are under way, of which the bus gives as many as fit in.
#[test]
fn as_many_batches_are_under_way_as_the_remote_takes_packets() {
    let mut bench = gathering(V5, batch(50));
    bench.cut();
    bench.connect(limited(|p| p.receive_maximum = NonZeroU16::new(4)));
    for _ in 0..300 {
        deliver(&mut bench, "a", &["1"]);
    }
    assert_eq!((bench.sent().len(), bench.status.in_flight()), (4, 200));
    bench.remote_sends(puback(1));
    assert_eq!(only(&mut bench).packet_id, Some(id(201)));
    bench.remote_sends(puback(51));
    assert_eq!(only(&mut bench).packet_id, Some(id(251)));
    bench.remote_sends(puback(101));
    assert_eq!(bench.sent().len(), 0);
    assert_eq!(bench.queued(), 150);
}

/// `bus.max_inflight` is 100: it does not limit batches to 100 messages.
#[test]
fn the_window_of_the_session_grows_with_the_batches() {
    for (receive_maximum, most, window) in [
        (20, 100, 2_000),
        (100, 500, 10_000),
        (20_000, 10, 20_000),
        (3, 1, 3),
    ] {
        let mut settings = BridgeSettings {
            name: "up".into(),
            topics: vec![LINES[0].parse().unwrap()],
            ..BridgeSettings::default()
        };
        let plan = BridgePlan::new(settings.clone(), "here").unwrap();
        let open = plan.open(receive_maximum, "");
        assert_eq!(
            (open.receive_maximum, open.link.unwrap().window),
            (receive_maximum, 0)
        );
        settings.topics[0].batch = Some(batch(most));
        let open = BridgePlan::new(settings, "here")
            .unwrap()
            .open(receive_maximum, "");
        assert_eq!(
            (open.receive_maximum, open.link.unwrap().window),
            (window, window)
        );
    }
}

/// What is not gathered keeps to Receive Maximum too, and to its order.
#[test]
fn messages_of_other_rules_are_held_back_beyond_what_the_remote_takes() {
    let mut bench = Bench::with(V5, &["a/# out 1", "b/# out 2"], |s| {
        s.topics[0].batch = Some(batch(50));
    });
    bench.connect(limited(|p| p.receive_maximum = NonZeroU16::new(2)));
    for payload in ["1", "2", "3", "4"] {
        bench.deliver("b/t", payload, BusQos::ExactlyOnce);
    }
    bench.deliver("b/t", "0", BusQos::AtMostOnce);
    assert_eq!(
        bench.words(),
        [
            "publish 1 qos2 b/t=1",
            "publish 2 qos2 b/t=2",
            "publish qos0 b/t=0"
        ]
    );
    bench.remote_sends(pubrec(2));
    assert_eq!(bench.words(), ["pubrel 2"], "it takes up its place until PUBCOMP");
    bench.remote_sends(pubcomp(2));
    assert_eq!(bench.words(), ["publish 3 qos2 b/t=3"]);
    bench.remote_sends(ack(AckKind::PubRec, 1, ReasonCode::NotAuthorized));
    assert_eq!(bench.words(), ["publish 4 qos2 b/t=4"]);
}

/// Nothing more would come: it is useless to wait.
#[test]
fn a_window_that_is_full_of_gathered_messages_goes_out() {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.topics[0].batch = Some(BatchSettings {
            max_wait: Duration::from_secs(3_600),
            ..batch(3)
        });
        s.max_inflight = 4;
    });
    bench.connect(welcome());
    for n in 0..13 {
        deliver(&mut bench, &format!("a/{n}"), &["1"]);
    }
    assert_eq!(bench.sent().len(), 4, "as the remote takes them");
    bench.remote_sends(puback(1));
    assert_eq!(bench.sent().len(), 1);
}

/// A batch that cannot go is gathered on: the slower the remote, the fuller they are.
#[test]
fn while_the_remote_takes_nothing_batches_become_fuller() {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.topics[0].batch = Some(batch(10));
        s.max_inflight = 1;
    });
    bench.connect(welcome());
    deliver(&mut bench, "a", &["1"]);
    bench.advance(1_000);
    assert_eq!(bench.sent().len(), 1);
    for payload in ["2", "3", "4"] {
        deliver(&mut bench, "a", &[payload]);
        bench.advance(1_500);
    }
    assert_eq!(bench.words(), NOTHING);
    bench.remote_sends(puback(1));
    assert_eq!(array(&only(&mut bench)).as_array().unwrap().len(), 3);
}

/// QoS 0 has no window: while something is held up the bus is not asked for more.
#[test]
fn what_the_remote_does_not_take_is_bounded() {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.topics[0].batch = Some(batch(2));
        s.max_inflight = 1;
        s.queue.qos0 = true;
    });
    bench.connect(welcome());
    deliver(&mut bench, "a", &["1", "2"]);
    bench.sent();
    for _ in 0..5_000 {
        bench.deliver("a", "0", BusQos::AtMostOnce);
    }
    assert!(bench.queued() > 2_000, "{}", bench.queued());
    bench.remote_sends(puback(1));
    assert_eq!(bench.sent().len(), 2_500, "all of them");
}

/// A batch that is refused for now is sent again, and nothing is lost.
#[test]
fn a_batch_that_is_refused_for_now_stays_in_the_queue() {
    let mut bench = gathering(V5, batch(2));
    deliver(&mut bench, "a", &["1", "2"]);
    bench.sent();
    for _ in 0..10 {
        bench.remote_sends(ack(AckKind::PubAck, 1, ReasonCode::QuotaExceeded));
        let why = EndReason::RefusedForNow(ReasonCode::QuotaExceeded);
        assert_eq!(bench.ended(), Some(why));
        bench.connect(welcome_back());
        assert_eq!(array(&only(&mut bench)).as_array().unwrap().len(), 2);
    }
    assert_eq!(bench.queued(), 2);
}

#[test]
fn each_message_of_a_batch_that_is_refused_for_good_is_a_dead_letter() {
    let mut bench = gathering(V5, batch(3));
    bench.watch("$bridge/up/dead");
    deliver(&mut bench, "a/t", &["1", "2"]);
    bench.deliver("a/t", "0", BusQos::AtMostOnce);
    bench.remote_sends(ack(AckKind::PubAck, 1, ReasonCode::NotAuthorized));
    assert!(bench.is_connected());
    assert_eq!(
        bench.heard(),
        ["$bridge/up/dead=1", "$bridge/up/dead=2", "$bridge/up/dead=0"]
    );
    assert_eq!(bench.status.dead_letters(DeadReason::NotAuthorized), 3);
    assert_eq!((bench.queued(), bench.status.in_flight()), (0, 0));
}

/// One message that the remote refuses without saying why does not take the others of its batch with it.
#[test]
fn a_refusal_without_a_reason_finds_its_message() {
    let mut bench = gathering(V5, batch(3));
    bench.watch("$bridge/up/dead");
    deliver(&mut bench, "a", &["good", "poison", "fine"]);
    for _ in 0..40 {
        for packet in bench.sent() {
            let Packet::Publish(publish) = packet else {
                continue;
            };
            let poisonous = String::from_utf8_lossy(&publish.payload).contains("poison");
            let code = if poisonous {
                ReasonCode::ImplementationSpecificError
            } else {
                ReasonCode::Success
            };
            bench.remote_sends(ack(AckKind::PubAck, publish.packet_id.unwrap().get(), code));
            if !bench.is_connected() {
                bench.connect(welcome_back());
                break;
            }
        }
        bench.advance(1_000);
    }
    assert_eq!(
        (bench.heard(), bench.queued()),
        (vec!["$bridge/up/dead=poison".into()], 0)
    );
    assert_eq!(bench.status.acknowledged.get(), 2);
}

/// A version 3 remote hangs up at one message of a batch: it is found, and the others arrive.
#[test]
fn the_message_at_which_the_remote_hangs_up_is_found_in_its_batch() {
    let mut bench = gathering(V3, batch(3));
    bench.watch("$bridge/up/dead");
    deliver(&mut bench, "a", &["good", "poison", "fine"]);
    assert_eq!(bench.sent().len(), 1);
    bench.cut();
    bench.connect(welcome_back());
    assert_eq!(
        bench.words(),
        [
            "publish 1 qos1 r/a=[{\"topic\":\"r/a\",\"payload\":\"good\"}]",
            "publish 2 qos1 r/a=[{\"topic\":\"r/a\",\"payload\":\"poison\"}]",
            "publish 3 qos1 r/a=[{\"topic\":\"r/a\",\"payload\":\"fine\"}]"
        ],
        "one by one"
    );
    bench.remote_sends(puback(1));
    for _ in 0..20 {
        bench.cut();
        bench.connect(welcome_back());
        bench.advance(1_000);
        for packet in bench.sent() {
            let Packet::Publish(publish) = packet else {
                continue;
            };
            if String::from_utf8_lossy(&publish.payload).contains("poison") {
                break;
            }
            bench.remote_sends(puback(publish.packet_id.unwrap().get()));
        }
    }
    assert_eq!(
        (bench.heard(), bench.queued()),
        (vec!["$bridge/up/dead=poison".into()], 0)
    );
}

/// First the throttle, then the batch.
#[test]
fn what_a_throttle_lets_pass_is_gathered() {
    let mut bench = Bench::with(V3, LINES, |s| {
        s.topics[0].batch = Some(batch(10));
        s.topics[0].throttle = Some(Throttle::LastValueEvery(Duration::from_secs(10)));
    });
    bench.connect(welcome());
    for payload in ["1", "2", "3"] {
        deliver(&mut bench, "a/t", &[payload]);
        deliver(&mut bench, "a/u", &[payload]);
    }
    bench.advance(1_000);
    assert_eq!(bench.sent().len(), 2, "the first of each topic");
    bench.advance(10_000);
    assert_eq!(
        bench.words(),
        [
            "publish 5 qos1 r/a/t=[{\"topic\":\"r/a/t\",\"payload\":3}]",
            "publish 6 qos1 r/a/u=[{\"topic\":\"r/a/u\",\"payload\":3}]"
        ]
    );
    assert_eq!(bench.status.dropped(DropReason::Throttled), 2);
}

/// No queue has QoS 0: on purpose it goes out before the end, otherwise it is counted.
#[test]
fn qos_0_messages_that_are_gathered_go_out_before_goodbye_or_are_counted() {
    let mut bench = gathering(V3, batch(10));
    bench.deliver("a/t", "0", BusQos::AtMostOnce);
    bench.deliver("a/u", "1", BusQos::AtLeastOnce);
    bench.shut_down();
    assert_eq!(
        bench.words(),
        [
            "publish qos0 r/a/t=[{\"topic\":\"r/a/t\",\"payload\":0}]",
            "disconnect 0x00"
        ]
    );
    assert_eq!((bench.status.dropped(DropReason::Unsent), bench.queued()), (0, 1));
    bench.connect(welcome_back());
    bench.deliver("a/t", "0", BusQos::AtMostOnce);
    bench.cut();
    assert_eq!((bench.status.dropped(DropReason::Unsent), bench.queued()), (1, 1));
}

#[test]
fn a_batch_that_cannot_be_is_refused_in_words() {
    let error = |direction, qos, batch| {
        let mut settings = BridgeSettings {
            name: "up".into(),
            topics: vec![LINES[0].parse().unwrap()],
            ..BridgeSettings::default()
        };
        let rule = &mut settings.topics[0];
        (rule.direction, rule.qos, rule.batch) = (direction, qos, Some(batch));
        BridgePlan::new(settings, "here").unwrap_err().to_string()
    };
    let long = BatchSettings {
        max_wait: Duration::from_secs(3_601),
        ..batch(1)
    };
    let large = BatchSettings {
        max_bytes: 100,
        ..batch(1)
    };
    let topic = BatchSettings {
        topic: Some("a/#".into()),
        ..batch(1)
    };
    for (direction, qos, batch, words) in [
        (Direction::In, 1, batch(1), "not with in"),
        (Direction::Out, 2, batch(1), "same packet identifier"),
        (Direction::Out, 1, batch(0), "max_messages is 1 to 1000"),
        (Direction::Both, 1, long, "max_wait is 10ms to 1h"),
        (Direction::Out, 1, large, "max_bytes is 1024 to 16777216"),
        (Direction::Out, 1, topic, "topic is not a topic name"),
    ] {
        let error = error(direction, qos, batch);
        assert!(
            error.starts_with("topics[0]: batch: ") && error.contains(words),
            "{error}"
        );
    }
}
