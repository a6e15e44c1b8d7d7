//! Retained messages. MQTT 5 §3.3.1.3; 3.1.1 the same section

use headgate_model::{Message, Qos, Topic};
use headgate_mqtt_codec::{Publish, RetainHandling, SubscribeOptions};
use headgate_tests::*;
use std::time::Duration;

/// What a new subscriber finds, as `topic=payload`; it is told that it was retained.
fn found(gw: &Gateway, filter: &str) -> Vec<String> {
    let mut late = gw.client(V311, "late");
    late.subscribe(filter, ExactlyOnce);
    let messages = late.take();
    assert!(messages.iter().all(|message| message.retain));
    messages.iter().map(PublishExt::brief).collect()
}

fn retain(publisher: &mut Client, messages: &[(&str, &str)]) {
    for (topic, payload) in messages {
        publisher.send(publish(topic, payload).retain());
    }
}

fn handling(retain_handling: RetainHandling) -> SubscribeOptions {
    SubscribeOptions {
        retain_handling,
        ..SubscribeOptions::qos(AtLeastOnce)
    }
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] [MQTT-3.3.1-9]
/// [3.1.1 MQTT-3.3.1-5] [3.1.1 MQTT-3.3.1-6] [3.1.1 MQTT-3.3.1-7] [3.1.1 MQTT-3.3.1-8] [3.1.1 MQTT-3.3.1-10] [3.1.1 MQTT-3.3.1-11]
/// [3.1.1 MQTT-3.3.1-12] [3.1.1 MQTT-3.1.2-7]
/// One message for each topic: replaced by the next with RETAIN, whatever its QoS; removed by an empty one; untouched by others; and not
/// part of its publisher's session.
#[test]
fn retained_message_is_kept_replaced_and_removed() {
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut present = gw.client(version, "present");
        present.subscribe("t/1", AtMostOnce);
        let publish_it = |message: Publish, qos| {
            let mut publisher = gw.client(version, "p");
            publisher.deliver(message, qos);
            publisher.leave();
        };
        assert_eq!(found(&gw, "t/1"), Vec::<String>::new());
        publish_it(publish("t/1", "a").retain(), AtLeastOnce);
        for filter in ["t/1", "t/+", "#"] {
            assert_eq!(found(&gw, filter), ["t/1=a"]);
        }
        publish_it(publish("t/1", "b").retain(), ExactlyOnce);
        assert_eq!(found(&gw, "t/+"), ["t/1=b"]);
        publish_it(publish("t/1", "plain"), AtLeastOnce);
        publish_it(publish("t/1", ""), AtLeastOnce);
        assert_eq!(found(&gw, "t/+"), ["t/1=b"]);
        publish_it(publish("t/1", "d").retain(), AtMostOnce);
        assert_eq!(found(&gw, "t/+"), ["t/1=d"]);
        gw.crash(Duration::ZERO);
        assert_eq!(found(&gw, "t/+"), ["t/1=d"]);
        present = gw.client(version, "present");
        present.subscribe("t/1", AtMostOnce);
        present.take();

        publish_it(publish("t/1", "").retain(), AtLeastOnce);
        assert_eq!(found(&gw, "t/+"), Vec::<String>::new());
        assert_eq!(gw.stats().retained, 0);
        let live = present.messages();
        assert_eq!(live.len(), 1, "those present are told");
        assert!(!live[0].retain && live[0].payload.is_empty());
    }
}

/// [3.1.1 MQTT-3.3.1-5] [MQTT-3.3.1-5] The QoS is kept too: a new subscriber gets the lower of stored and granted.
#[test]
fn retained_message_keeps_its_qos() {
    let gw = Gateway::default();
    let mut publisher = gw.client(V5, "p");
    for (topic, qos) in [("q/0", AtMostOnce), ("q/1", AtLeastOnce), ("q/2", ExactlyOnce)] {
        publisher.deliver(publish(topic, "x").retain(), qos);
    }
    for granted in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        let mut late = gw.client(V5, "late");
        late.subscribe("q/+", granted);
        let levels: Vec<u8> = late.take().iter().map(|m| m.qos as u8).collect();
        assert_eq!(levels, [0, 1, 2].map(|qos: u8| qos.min(granted as u8)));
    }
}

/// [MQTT-3.3.1-12] [MQTT-3.3.1-13] [3.1.1 MQTT-3.3.1-9] An established subscription sees RETAIN only if it asked for it.
#[test]
fn retain_flag_of_live_messages() {
    let gw = Gateway::default();
    let as_published = SubscribeOptions {
        retain_as_published: true,
        ..SubscribeOptions::default()
    };
    let mut plain = gw.client(V5, "plain");
    plain.subscribe("a", AtMostOnce);
    let mut told = gw.client(V5, "told");
    told.subscribe_with("a", as_published, None);
    let mut old = gw.client(V311, "old");
    old.subscribe("a", AtMostOnce);
    let mut publisher = gw.client(V5, "p");
    publisher.say("a", "0");
    publisher.send(publish("a", "1").retain());
    let flags = |client: &mut Client| client.messages().iter().map(|m| m.retain).collect::<Vec<_>>();
    assert_eq!(flags(&mut plain), [false, false]);
    assert_eq!(flags(&mut told), [false, true]);
    assert_eq!(flags(&mut old), [false, false]);
}

/// [MQTT-3.3.1-13] Queued messages keep the flag that their subscription asked for.
#[test]
fn retain_flag_is_kept_in_the_queue() {
    let gw = Gateway::default();
    let as_published = SubscribeOptions {
        retain_as_published: true,
        ..SubscribeOptions::qos(AtLeastOnce)
    };
    let mut client = gw.open(connect(V5, "c").durable());
    client.subscribe_with("a", as_published, None);
    client.leave();
    gw.client(V5, "p")
        .deliver(publish("a", "x").retain(), AtLeastOnce);
    gw.crash(Duration::ZERO);
    assert!(gw.open(connect(V5, "c").durable()).messages()[0].retain);
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4] [3.1.1 MQTT-3.8.4-3] [3.1.1 MQTT-3.3.1-6]
/// Retain Handling: on each SUBSCRIBE, on the first of a filter, or never. Before MQTT 5 it is on each.
#[test]
fn retain_handling_options() {
    use RetainHandling::{DoNotSend, SendAtSubscribe, SendIfNew};
    let gw = Gateway::default();
    gw.client(V5, "p").send(publish("a", "x").retain());
    for (option, expected) in [
        (SendAtSubscribe, [1, 1]),
        (SendIfNew, [1, 0]),
        (DoNotSend, [0, 0]),
    ] {
        let mut client = gw.client(V5, "c");
        for expected in expected {
            client.subscribe_with("a", handling(option), None);
            let messages = client.take();
            assert_eq!(messages.len(), expected, "{option:?}");
            assert!(messages.iter().all(|message| message.retain));
        }
    }
    let mut old = gw.client(V311, "old");
    for _ in 0..2 {
        old.subscribe("a", AtMostOnce);
        assert_eq!(old.messages().len(), 1);
    }
    let mut again = gw.client(V5, "again");
    again.subscribe_with("a", handling(SendIfNew), None);
    again.take();
    again.unsubscribe("a");
    again.subscribe_with("a", handling(SendIfNew), None);
    assert_eq!(again.take().len(), 1, "after UNSUBSCRIBE it is new");
}

/// [MQTT-3.3.1-10] "New" is what the session does not hold: also after a reconnect and a power cut.
#[test]
fn resumed_subscription_is_not_new() {
    let gw = Gateway::default();
    gw.client(V5, "p").send(publish("a", "x").retain());
    let mut client = gw.open(connect(V5, "c").durable());
    client.subscribe_with("a", handling(RetainHandling::SendIfNew), None);
    assert_eq!(client.take().len(), 1);
    gw.crash(Duration::ZERO);
    let mut client = gw.open(connect(V5, "c").durable());
    client.subscribe_with("a", handling(RetainHandling::SendIfNew), None);
    assert_eq!(client.take().len(), 0);
}

/// MQTT 5 §4.8.2: a shared subscription gets no retained messages when it is made.
#[test]
fn shared_subscription_gets_no_retained_messages() {
    let gw = Gateway::default();
    gw.client(V5, "p").send(publish("a", "x").retain());
    let mut client = gw.client(V5, "c");
    client.subscribe("$share/g/a", AtMostOnce);
    client.subscribe("$queue/a", AtMostOnce);
    assert_eq!(client.messages(), []);
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6] A retained message is delivered with the rest of its life, and not after its end; a power cut does not
/// stop the clock.
#[test]
fn retained_message_expires() {
    for cut in [false, true] {
        let gw = Gateway::default();
        let message = publish("a", "x").retain().with(|p| p.message_expiry = Some(60));
        gw.client(V5, "p").deliver(message, AtLeastOnce);
        let wait = |seconds| {
            if cut {
                gw.crash(Duration::from_secs(seconds));
            } else {
                gw.sleep(seconds);
            }
        };
        wait(10);
        let mut early = gw.client(V5, "early");
        early.subscribe("a", AtMostOnce);
        assert_eq!(early.messages()[0].props().message_expiry, Some(50));
        wait(50);
        assert_eq!(found(&gw, "a"), Vec::<String>::new());
        assert_eq!(gw.stats().retained, 0);
    }
}

/// A wildcard may find very many: they are searched for in slices, each is delivered once, and other clients are served in between.
#[test]
fn thousands_of_retained_messages_are_delivered() {
    const MANY: usize = 2_500;
    for version in NUMBERED {
        for qos in [AtMostOnce, AtLeastOnce] {
            let gw = Gateway::default();
            let mut publisher = gw.client(V5, "p");
            for n in 0..MANY {
                publisher.send(publish(&format!("many/{n:04}"), "x").qos(qos, 1).retain());
                publisher.received();
            }
            let mut client = gw.client(version, "c");
            client.subscribe("other", AtMostOnce);
            client.subscribe("many/+", qos);
            let topics: Vec<String> = client.heard();
            assert_eq!(topics.len(), MANY);
            assert!(topics.is_sorted() && topics.windows(2).all(|pair| pair[0] != pair[1]));
            publisher.say("other", "y");
            assert_eq!(client.heard(), ["other=y"]);
        }
    }
}

/// The search ends with the subscription it was for.
#[test]
fn unsubscribe_stops_the_search() {
    let gw = Gateway::with(|settings| settings.bus.max_inflight = 100);
    let mut publisher = gw.client(V5, "p");
    for n in 0..2_000 {
        publisher.send(publish(&format!("many/{n:04}"), "x").qos(AtLeastOnce, 1).retain());
        publisher.received();
    }
    let mut client = gw.client(V5, "c");
    client.subscribe("many/+", AtLeastOnce);
    client.unsubscribe("many/+");
    let got = client.take().len();
    assert!(
        got < 1_000,
        "what was under way is completed, the rest is not begun: {got}"
    );
}

/// Limits of what is retained: a message beyond them is delivered all the same.
#[test]
fn retained_messages_are_limited() {
    let gw = Gateway::with(|s| {
        s.bus.retained.max_count = 2;
        s.bus.retained.max_payload_bytes = 3;
    });
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("#", AtMostOnce);
    let mut publisher = gw.client(V5, "p");
    for (topic, payload) in [("a", "1"), ("b", "long"), ("b", "2"), ("c", "3"), ("a", "4")] {
        publisher.send(publish(topic, payload).retain());
    }
    assert_eq!(watcher.heard().len(), 5);
    assert_eq!(found(&gw, "#"), ["a=4", "b=2"]);
}

/// What the gateway retains below `$SYS/` is bounded by its own code: limits of clients neither refuse it nor count it, also after a restart, and it does
/// not expire. docs/operations.md#alarms
#[test]
fn limits_of_retained_messages_leave_out_those_of_the_gateway() {
    let gw = Gateway::with(|s| {
        s.bus.retained.max_count = 2;
        s.bus.retained.max_bytes = 1_000;
        s.bus.retained.max_payload_bytes = 3;
        s.bus.retained.expiry = Duration::from_secs(60);
    });
    let alert = |payload: &str| {
        gw.tell(Message {
            qos: Qos::AtLeastOnce,
            retain: true,
            ..Message::new(
                Topic::try_from("$SYS/brokers/n/alarms/hot/alert").unwrap(),
                payload.to_owned(),
            )
        });
    };
    let told = |payload: &str| vec![format!("$SYS/brokers/n/alarms/hot/alert={payload}")];
    let retained = |gw: &Gateway| (gw.stats().retained, gw.stats().memory.retained);
    let long = "it is hot, ".repeat(100);
    retain(&mut gw.client(V5, "p"), &[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(found(&gw, "#"), ["a=1", "b=2"]);
    let full = retained(&gw);

    alert("it is warm");
    alert(&long);
    assert_eq!(found(&gw, "$SYS/#"), told(&long));
    assert_eq!(retained(&gw), full);
    gw.crash(Duration::from_secs(59));
    assert_eq!(retained(&gw), full);
    gw.sleep(2);
    assert_eq!(retained(&gw).0, 0);
    assert_eq!(found(&gw, "$SYS/#"), told(&long));

    // The room is that of clients, whatever the gateway has.
    retain(&mut gw.client(V5, "p"), &[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(found(&gw, "#"), ["a=1", "b=2"]);
    alert("");
    assert_eq!(retained(&gw), full);
    assert_eq!(found(&gw, "$SYS/#"), Vec::<String>::new());
}

/// A client may say its own state below `$SYS/` without any right, so that takes no room from others, and has a bound of its own.
/// docs/interpretations.md#dollar-sys
#[test]
fn states_of_clients_have_a_bound_beside_the_limits() {
    let gw = Gateway::with(|s| s.bus.retained.max_count = 1);
    let state = |n: usize| format!("$SYS/broker/connection/{n}/state");
    for n in 0..=1_000 {
        retain(&mut gw.client(V5, &n.to_string()), &[(&state(n), "1")]);
    }
    assert_eq!(found(&gw, "$SYS/#").len(), 1_000);
    assert_eq!(found(&gw, &state(1_000)), Vec::<String>::new());
    assert_eq!(gw.stats().retained, 0);
    retain(&mut gw.client(V5, "p"), &[("a", "1"), ("b", "2")]);
    assert_eq!(found(&gw, "#"), ["a=1"]);

    // Who has a place there keeps it, and one that goes makes room, also after a restart.
    gw.crash(Duration::ZERO);
    retain(&mut gw.client(V5, "7"), &[(&state(7), "0")]);
    assert_eq!(found(&gw, &state(7)), [format!("{}=0", state(7))]);
    retain(&mut gw.client(V5, "1000"), &[(&state(1_000), "1")]);
    assert_eq!(found(&gw, &state(1_000)), Vec::<String>::new());
    gw.tell(Message {
        retain: true,
        ..Message::new(Topic::try_from(&*state(7)).unwrap(), "")
    });
    retain(&mut gw.client(V5, "1000"), &[(&state(1_000), "1")]);
    assert_eq!(found(&gw, &state(1_000)), [format!("{}=1", state(1_000))]);

    let long = "x".repeat(1_024);
    let topic = format!("$SYS/broker/connection/{long}/state");
    retain(&mut gw.client(V5, "7"), &[(&state(7), "")]);
    retain(&mut gw.client(V5, &long), &[(&topic, "1")]);
    assert_eq!(found(&gw, &topic), Vec::<String>::new());
}

/// The operator may let retained messages end that say nothing of their expiry.
#[test]
fn retained_messages_can_be_given_an_end() {
    let gw = Gateway::with(|s| s.bus.retained.expiry = Duration::from_secs(60));
    gw.client(V311, "p").send(publish("a", "x").retain());
    gw.sleep(59);
    assert_eq!(found(&gw, "a"), ["a=x"]);
    gw.sleep(1);
    assert_eq!(found(&gw, "a"), Vec::<String>::new());
}

/// The gateway's own news, at QoS 0, are the same or better a moment after a start: an idle gateway writes nothing. What it says with a promise is written.
#[test]
fn news_of_the_gateway_are_retained_in_memory_alone() {
    let gw = Gateway::default();
    let tell = |topic: &str, payload: &'static str, qos| {
        let topic = Topic::try_from(topic).unwrap();
        gw.tell(Message {
            qos,
            retain: true,
            ..Message::new(topic, payload)
        });
    };

    gw.withhold_commits();
    tell("$SYS/brokers/n/uptime", "1 s", Qos::AtMostOnce);
    tell("$SYS/brokers/n/uptime", "2 s", Qos::AtMostOnce);
    assert_eq!(gw.pending_ops(), 0);
    assert_eq!(found(&gw, "$SYS/#"), ["$SYS/brokers/n/uptime=2 s"]);
    gw.crash(Duration::ZERO); // Which ends the withholding.
    assert_eq!(found(&gw, "#"), Vec::<String>::new());
    tell("$SYS/brokers/n/alarms/hot/alert", "80", Qos::AtLeastOnce);
    tell("state", "on", Qos::AtMostOnce);
    gw.crash(Duration::ZERO);
    assert_eq!(found(&gw, "$SYS/#"), ["$SYS/brokers/n/alarms/hot/alert=80"]);
    assert_eq!(found(&gw, "#"), ["state=on"]);

    // What a version before this had written goes with the next news.
    tell("$SYS/brokers/n/uptime", "3 s", Qos::AtLeastOnce);
    tell("$SYS/brokers/n/uptime", "4 s", Qos::AtMostOnce);
    assert_eq!(found(&gw, "$SYS/+/+/uptime"), ["$SYS/brokers/n/uptime=4 s"]);
    gw.crash(Duration::ZERO);
    assert_eq!(found(&gw, "$SYS/+/+/uptime"), Vec::<String>::new());
    tell("$SYS/brokers/n/uptime", "5 s", Qos::AtMostOnce);
    tell("$SYS/brokers/n/uptime", "", Qos::AtMostOnce);
    assert_eq!(found(&gw, "$SYS/+/+/uptime"), Vec::<String>::new());
}
