//! The real gateway with MQTT-SN devices over UDP: one made of bytes, and a client that is not ours; and MQTT clients at the other end of the bus.

use headgate_tests::blackbox::{
    Daemon, Job, Message, Setup, SnPeer, Tool, Transport, eventually, lossless, mqttsn12, own_address,
};
use headgate_tests::{V5, V311};
use std::net::SocketAddr;

/// What a gateway is made of, with an MQTT-SN gateway; and where that is.
fn setup(more: &str) -> (Setup, SocketAddr) {
    let address = own_address();
    let text = format!(
        "[sys]\ninterval = \"1s\"\n[[mqttsn]]\nname = \"field\"\nbind = \"{address}\"\n{more}[mqttsn.gateway]\nretry_interval = \"1s\"\n"
    );
    (Setup::with(&text), address)
}

fn mqtt_job() -> Job {
    Job::new(Transport::Tcp, V5)
}

fn three(topic: &str) -> Vec<Message> {
    (0..=2)
        .map(|qos| Message::new(&format!("{topic}/{qos}"), qos, &format!("Grüße at QoS {qos}")))
        .collect()
}

/// §6.6: a device publishes at every QoS; every MQTT client hears it at that QoS.
#[test]
fn devices_are_heard_by_mqtt_clients_at_every_qos() {
    let (setup, address) = setup("");
    let daemon = setup.start();
    let mut device = SnPeer::new(address, "device");
    device.connect(true, 60, None);
    for tool in [Tool::Mosquitto, Tool::Paho, Tool::MqttJs, Tool::Headgate] {
        let topic = format!("up/{tool:?}");
        let mut listening = tool.listen(&daemon, &mqtt_job(), &[&format!("{topic}/#")]);
        let messages = three(&topic);
        messages.iter().for_each(|message| device.publish(message));
        let mut received = listening.take(3);
        received.sort();
        assert_eq!(received, messages, "{tool:?}");
    }
    device.leave();
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// §6.9: what MQTT clients publish comes at the lower of both QoS; to a subscription by name and to one with a wildcard, whose topics are told by
/// REGISTER, §6.10.
#[test]
fn mqtt_clients_are_heard_by_devices_at_every_qos() {
    let (setup, address) = setup("");
    let daemon = setup.start();
    for granted in 0..=2 {
        let topic = format!("down/{granted}");
        let mut device = SnPeer::new(address, &format!("device{granted}"));
        device.connect(true, 60, None);
        let filters = [format!("{topic}/#"), format!("{topic}/+/named")];
        for filter in &filters {
            assert_eq!(device.subscribe(filter, granted), granted);
        }
        let mut named = SnPeer::new(address, &format!("named{granted}"));
        named.connect(true, 60, None);
        named.subscribe(&format!("{topic}/1"), granted);
        for tool in [Tool::Mosquitto, Tool::Paho] {
            tool.publish(&daemon, &mqtt_job(), &three(&topic));
            let lowered = three(&topic).into_iter().map(|message| Message {
                qos: message.qos.min(granted),
                ..message
            });
            let lowered: Vec<Message> = lowered.collect();
            let mut received: Vec<Message> = (0..3).map(|_| device.recv()).collect();
            received.sort();
            assert_eq!(received, lowered, "{tool:?}");
            assert_eq!(named.recv(), lowered[1], "{tool:?}");
        }
        device.leave();
    }
}

/// §6.5: retained messages both ways; they survive the gateway.
#[test]
fn retained_messages_are_kept_for_both() {
    let (setup, address) = setup("");
    let mut daemon = setup.start();
    let retained = |topic: &str| Message {
        retain: true,
        ..Message::new(topic, 1, "kept")
    };
    let mut device = SnPeer::new(address, "device");
    device.connect(true, 60, None);
    device.publish(&retained("kept/by/device"));
    Tool::Mosquitto.publish(&daemon, &mqtt_job(), &[retained("kept/by/mqtt")]);
    daemon.kill();
    daemon = setup.start();
    let mut listening = Tool::Paho.listen(&daemon, &mqtt_job(), &["kept/by/device"]);
    assert_eq!(listening.recv(), retained("kept/by/device"));
    let mut device = SnPeer::new(address, "device");
    device.connect(true, 60, None);
    device.subscribe("kept/by/+", 1);
    let mut received = [device.recv(), device.recv()];
    received.sort();
    assert_eq!(received, [retained("kept/by/device"), retained("kept/by/mqtt")]);
}

/// §6.3, §6.14: the will of a device that falls silent, of one that does not wake, and of an MQTT client.
#[test]
fn wills_are_heard_by_both() {
    let (setup, address) = setup("");
    let daemon = setup.start();
    let mut listening = Tool::Headgate.listen(&daemon, &mqtt_job(), &["will/#"]);
    for (topic, sleeps) in [("will/silent", false), ("will/asleep", true)] {
        let mut device = SnPeer::new(address, topic);
        let will = Message::new(topic, 1, "gone");
        device.connect(true, if sleeps { 60 } else { 1 }, Some(&will));
        if sleeps {
            device.sleep(1);
        }
        assert_eq!(listening.recv(), will);
    }
    let mut device = SnPeer::new(address, "device");
    device.connect(true, 600, None);
    device.subscribe("will/mqtt", 2);
    let will = Message::new("will/mqtt", 2, "gone");
    let client = Tool::Paho.listen(
        &daemon,
        &Job {
            will: Some(will.clone()),
            ..Job::new(Transport::Tcp, V311)
        },
        &["nothing"],
    );
    client.kill();
    assert_eq!(device.recv(), will);
}

/// §6.14: a client that sleeps finds what was published meanwhile, before and after the gateway was killed; QoS 2 once, in order.
#[test]
fn sleepers_find_their_messages_after_a_crash() {
    const DEVICES: usize = 20;
    let (setup, address) = setup("");
    let mut daemon = setup.start();
    let mut devices: Vec<SnPeer> = (0..DEVICES)
        .map(|n| {
            let mut device = SnPeer::new(address, &format!("sleeper{n}"));
            device.connect(n % 3 == 0, 60, None);
            device.subscribe(&format!("to/{n}/#"), 2);
            device.subscribe("to/all", 1);
            device.sleep(600);
            device
        })
        .collect();
    let send = |daemon: &Daemon<'_>, payload: &str| {
        let mut messages: Vec<Message> = (0..DEVICES)
            .map(|n| Message::new(&format!("to/{n}/it"), 2, payload))
            .collect();
        messages.push(Message::new("to/all", 1, payload));
        Tool::Paho.publish(daemon, &mqtt_job(), &messages);
    };
    let mut expected: Vec<Vec<String>> = vec![Vec::new(); DEVICES];
    for round in 0..3 {
        for when in ["before", "after"] {
            let payload = format!("{when} {round}");
            send(&daemon, &payload);
            expected.iter_mut().for_each(|expected| {
                expected.push(format!("all {payload}"));
                expected.push(format!("it {payload}"));
            });
            if when == "before" {
                daemon.kill();
                daemon = setup.start();
            }
        }
        // In the last round all are woken; before, only some.
        for (n, device) in devices.iter_mut().enumerate() {
            if round < 2 && n % 2 == round {
                continue;
            }
            let found = device.wake().into_iter().map(|message| {
                let kind = message.topic.rsplit('/').next().expect("a level");
                format!("{kind} {}", message.payload)
            });
            let found: Vec<String> = found.collect();
            let of = |messages: &[String], kind: &str| -> Vec<String> {
                let these = messages.iter().filter(|message| message.starts_with(kind));
                these.cloned().collect()
            };
            for kind in ["it", "all"] {
                assert_eq!(
                    of(&found, kind),
                    of(&expected[n], kind),
                    "sleeper{n}, round {round}"
                );
            }
            assert_eq!(device.wake(), [], "everything was settled");
            expected[n].clear();
        }
    }
    daemon.stop();
}

/// The gateway is found, says goodbye when it stops, and is not disturbed by anything that is no message.
#[test]
fn devices_find_the_gateway_and_are_told_when_it_stops() {
    let (setup, address) = setup("mount_point = \"floor/\"\n");
    let daemon = setup.start();
    let mut device = SnPeer::new(address, "device");
    assert_eq!(device.search(), 1);
    device.connect(true, 60, None);
    let noise = SnPeer::new(address, "noise");
    let mut state: u32 = 1;
    for n in 0..2_000_usize {
        let bytes = (0..n % 40).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        noise.raw(&bytes.collect::<Vec<_>>());
    }
    let mut listening = Tool::Headgate.listen(&daemon, &mqtt_job(), &["floor/#"]);
    device.publish(&Message::new("door", 1, "open"));
    assert_eq!(listening.recv(), Message::new("floor/door", 1, "open"));
    device.subscribe("bell", 1);
    Tool::Headgate.publish(&daemon, &mqtt_job(), &[Message::new("floor/bell", 1, "rings")]);
    assert_eq!(device.recv(), Message::new("bell", 1, "rings"));
    daemon.stop();
    device.expect_goodbye();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// Operators see devices come and go, but not sleep and wake; and how many there are.
#[test]
fn devices_are_seen_under_sys() {
    let (setup, address) = setup("");
    let daemon = setup.start();
    let mut listening = Tool::Headgate.listen(&daemon, &mqtt_job(), &["$SYS/brokers/+/clients/+/+"]);
    let mut device = SnPeer::new(address, "device");
    device.connect(false, 60, None);
    let connected = until_of(&mut listening, "device");
    assert!(
        connected.topic.ends_with("/clients/device/connected"),
        "{connected:?}"
    );
    assert!(
        connected.payload.contains("\"proto\":\"mqtt-sn\""),
        "{}",
        connected.payload
    );
    for _ in 0..3 {
        device.sleep(60);
        assert_eq!(device.wake(), []);
    }
    device.connect(false, 60, None);
    device.leave();
    let mut news = Vec::new();
    while !news.ends_with(&["disconnected".to_owned()]) || news.len() < 2 {
        let message = until_of(&mut listening, "device");
        news.push(message.topic.rsplit('/').next().expect("a level").to_owned());
    }
    assert_eq!(
        news,
        ["connected", "disconnected"],
        "sleeping and waking is no news"
    );

    let mut counts = Tool::Headgate.listen(&daemon, &mqtt_job(), &["$SYS/brokers/+/mqttsn/field/#"]);
    let received = eventually("the count of datagrams", || {
        let message = counts.recv();
        message
            .topic
            .ends_with("/datagrams/received")
            .then_some(message.payload)
    });
    assert_eq!(received, "9");
}

/// The next message about this client.
fn until_of(listening: &mut headgate_tests::blackbox::Listening, client: &str) -> Message {
    eventually("news of a client", || {
        let message = listening.recv();
        message
            .topic
            .contains(&format!("/clients/{client}/"))
            .then_some(message)
    })
}

/// mqtt-sn-12 publishes at every QoS, hears what MQTT clients and other devices publish, and has a will.
#[test]
fn a_client_that_is_not_ours_exchanges_messages() {
    let (setup, address) = setup("");
    let daemon = setup.start();
    let mut mqtt = Tool::Mosquitto.listen(&daemon, &mqtt_job(), &["foreign/#"]);
    let will = Message::new("foreign/will", 1, "gone");
    let mut listening =
        mqttsn12(&daemon, address, "listener", Some(&will), &["foreign/+/#"], &[]).expect("it has a filter");
    let messages = three("foreign/up");
    mqttsn12(&daemon, address, "writer", None, &[], &messages);
    let mut received = mqtt.take(3);
    received.sort();
    assert_eq!(received, messages);
    // It subscribes at QoS 1.
    let lower = |messages: &[Message]| -> Vec<Message> {
        let lowered = messages.iter().map(|message| Message {
            qos: message.qos.min(1),
            ..message.clone()
        });
        lowered.collect()
    };
    let mut received = listening.take(3);
    received.sort();
    assert_eq!(received, lower(&messages));

    let messages = three("foreign/down");
    Tool::Paho.publish(&daemon, &mqtt_job(), &messages);
    let mut received = listening.take(3);
    received.sort();
    assert_eq!(received, lower(&messages));
    assert_eq!(lossless(&mqtt.take(3)), lossless(&messages));

    listening.kill();
    assert_eq!(mqtt.recv(), will);
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}
