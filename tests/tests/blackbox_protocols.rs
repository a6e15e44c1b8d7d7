//! Every protocol to every other, at each QoS and way of acknowledging, through the real gateway. docs/stomp.md, docs/mqtt-sn.md

use headgate_mqtt_codec::{AckKind, Packet, Publish, PublishProperties, Qos, UserProperty, Utf8};
use headgate_stomp_codec::{Frame, Version};
use headgate_tests::blackbox::{Daemon, Message, Peer, Setup, SnPeer, StompPeer, Transport, own_address};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const ACKS: [&str; 3] = ["auto", "client", "client-individual"];

fn setup() -> (Setup, SocketAddr) {
    let field = own_address();
    let sections = format!(
        "[[mqttsn]]\nname = \"field\"\nbind = \"{field}\"\n[[listeners]]\nname = \"stomp\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:0\"\n"
    );
    (Setup::with(&sections), field)
}

fn mqtt(daemon: &Daemon<'_>, id: &str, clean: bool) -> Peer {
    let expiry = if clean { 0 } else { 3_600 };
    let connected = Peer::connect(daemon.port(Transport::Tcp), id, clean, expiry);
    connected.expect("it is let in").0
}

fn stomp(daemon: &Daemon<'_>, id: &str) -> StompPeer {
    StompPeer::connect(
        daemon.port_of("stomp"),
        Version::V12,
        &format!("client-id:{id}\n"),
    )
}

fn body(frame: &Frame) -> String {
    String::from_utf8(frame.body.to_vec()).expect("text")
}

/// Who receives, and how.
enum Receiver {
    Mqtt(u8, Peer),
    Sn(u8, SnPeer),
    Stomp(&'static str, StompPeer),
}

impl Receiver {
    /// One of each kind, subscribed to `filter`. All of STOMP's are QoS 2, which is no limit.
    fn all(daemon: &Daemon<'_>, field: SocketAddr, filter: &str) -> Vec<Self> {
        let mut all = Vec::new();
        for qos in 0..=2_u8 {
            let mut peer = mqtt(daemon, &format!("mqtt{qos}"), true);
            peer.subscribe(filter, Qos::from_bits(qos).expect("0 to 2"))
                .expect("it is there");
            all.push(Self::Mqtt(qos, peer));
            let mut device = SnPeer::new(field, &format!("sn{qos}"));
            device.connect(true, 60, None);
            assert_eq!(device.subscribe(filter, qos), qos);
            all.push(Self::Sn(qos, device));
        }
        for ack in ACKS {
            for qos in 0..=2 {
                let mut peer = stomp(daemon, &format!("{ack}{qos}"));
                peer.done(
                    "SUBSCRIBE",
                    &format!("id:0\ndestination:{filter}\nack:{ack}\nqos:{qos}\n"),
                    "",
                );
                all.push(Self::Stomp(ack, peer));
            }
        }
        all
    }

    /// The next message is this one, at the lower QoS of both, and is acknowledged.
    fn expect(&mut self, message: &Message) {
        let lowered = |granted: u8| Message {
            qos: message.qos.min(granted),
            ..message.clone()
        };
        match self {
            Self::Mqtt(qos, peer) => assert_eq!(peer.hear(), lowered(*qos)),
            Self::Sn(qos, device) => assert_eq!(device.recv(), lowered(*qos)),
            Self::Stomp(ack, peer) => {
                let frame = peer.recv();
                let heard = (frame.get("destination"), body(&frame));
                assert_eq!(heard, (Some(&*message.topic), message.payload.clone()), "{ack}");
                assert_eq!(frame.get("ack").is_some(), *ack != "auto");
                if let Some(id) = frame.get("ack") {
                    peer.done("ACK", &format!("id:{id}\n"), "");
                }
            }
        }
    }
}

/// Nine ways to publish meet fifteen ways to receive. A SEND with a receipt is at least QoS 1.
#[test]
fn everybody_hears_everybody_at_every_qos_and_way_of_acknowledging() {
    let (setup, field) = setup();
    let daemon = setup.start();
    let mut receivers = Receiver::all(&daemon, field, "matrix/#");
    let mut from_mqtt = mqtt(&daemon, "from-mqtt", true);
    let mut from_sn = SnPeer::new(field, "from-sn");
    from_sn.connect(true, 60, None);
    let mut from_stomp = stomp(&daemon, "from-stomp");
    for qos in 0..=2 {
        for way in ["mqtt", "sn", "stomp", "stomp with a receipt"] {
            let mut message = Message::new(&format!("matrix/{qos}"), qos, &format!("grün, {way} {qos}"));
            let headers = format!("destination:{}\nqos:{qos}\n", message.topic);
            match way {
                "mqtt" => from_mqtt.say(std::slice::from_ref(&message)),
                "sn" => from_sn.publish(&message),
                "stomp" => from_stomp.send(format!("SEND\n{headers}\n{}", message.payload)),
                _ => {
                    from_stomp.done("SEND", &headers, &message.payload);
                    message.qos = qos.max(1);
                }
            }
            receivers
                .iter_mut()
                .for_each(|receiver| receiver.expect(&message));
        }
    }
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

fn utf8(text: &str) -> Utf8 {
    Utf8::try_from(text.to_owned()).expect("a short text")
}

/// What both have a name for.
const HEADERS: [(&str, &str); 4] = [
    ("content-type", "text/plain"),
    ("reply-to", "answers/here"),
    ("correlation-id", "no. 7"),
    ("colour", "grün: hell\n"),
];

/// The same as properties of MQTT 5.
fn properties() -> PublishProperties {
    PublishProperties {
        content_type: Some(utf8("text/plain")),
        response_topic: Some(utf8("answers/here")),
        correlation_data: Some("no. 7".into()),
        user_properties: vec![UserProperty::from((utf8("colour"), utf8("grün: hell\n")))],
        ..PublishProperties::default()
    }
}

/// docs/stomp.md, Headers: they are properties of MQTT 5, both ways, and headers again.
#[test]
fn headers_and_properties_arrive_with_the_message() {
    let (setup, _) = setup();
    let daemon = setup.start();
    let mut from_mqtt = mqtt(&daemon, "from", true);
    let mut to_mqtt = mqtt(&daemon, "to", true);
    to_mqtt.subscribe("t", Qos::AtLeastOnce).expect("it is there");
    let mut to_stomp = ACKS.map(|ack| {
        let mut peer = stomp(&daemon, ack);
        peer.done("SUBSCRIBE", &format!("id:0\ndestination:t\nack:{ack}\n"), "");
        peer
    });
    let mut from_stomp = stomp(&daemon, "from-stomp");
    for way in ["mqtt", "stomp"] {
        if way == "mqtt" {
            let publish = Publish {
                topic: utf8("t"),
                payload: "x".into(),
                properties: Some(Box::new(properties())),
                ..Publish::default()
            };
            from_mqtt.send(&Packet::Publish(publish)).expect("it is there");
        } else {
            // STOMP 1.2, Value Encoding
            let lines = HEADERS.map(|(name, value)| {
                let escaped = value.replace(':', "\\c").replace('\n', "\\n");
                format!("{name}:{escaped}\n")
            });
            from_stomp.done("SEND", &format!("destination:t\n{}", lines.concat()), "x");
        }
        for peer in &mut to_stomp {
            let frame = peer.recv();
            let found = HEADERS.map(|(name, _)| (name, frame.get(name).unwrap_or_default()));
            assert_eq!(found, HEADERS, "from {way}");
        }
        let Ok(Packet::Publish(publish)) = to_mqtt.recv() else {
            panic!("no PUBLISH from {way}")
        };
        assert_eq!(publish.properties.as_deref(), Some(&properties()), "from {way}");
        if let Some(id) = publish.packet_id {
            to_mqtt.ack(AckKind::PubAck, id.get()).expect("it is there");
        }
    }
    daemon.stop();
}

/// How three messages are received of which the second one is acknowledged, and which of them come again after the connection is lost.
const MODES: [(&str, &str, &[&str]); 6] = [
    ("stomp", "auto", &[]),
    ("stomp", "client", &["3"]),
    ("stomp", "client-individual", &["1", "3"]),
    ("mqtt", "0", &[]),
    ("mqtt", "1", &["1", "3"]),
    ("mqtt", "2", &["1", "3"]),
];

/// docs/stomp.md, Acknowledgements and Durable subscriptions; \[MQTT-4.4.0-1\]. What comes again says so, and nothing that was acknowledged comes again.
#[test]
fn what_was_not_acknowledged_comes_again_on_the_next_connection() {
    let (setup, _) = setup();
    let daemon = setup.start();
    let mut writer = stomp(&daemon, "writer");
    for (protocol, mode, again) in MODES {
        let topic = format!("again/{protocol}/{mode}");
        let mut say = |text: &str| writer.done("SEND", &format!("destination:{topic}\nqos:2\n"), text);
        let heard = match protocol {
            "stomp" => lost_stomp(&daemon, mode, &topic, &mut say),
            _ => lost_mqtt(
                &daemon,
                Qos::from_bits(mode.parse().expect("0 to 2")).expect("0 to 2"),
                &topic,
                &mut say,
            ),
        };
        assert_eq!(heard, again, "{protocol} {mode}");
    }
    daemon.stop();
}

/// What comes before `end` after the connection was lost.
fn lost_stomp(daemon: &Daemon<'_>, ack: &str, topic: &str, say: &mut dyn FnMut(&str)) -> Vec<String> {
    let subscribe = format!("id:0\ndestination:{topic}\nack:{ack}\nqos:2\ndurable:true\n");
    let mut peer = stomp(daemon, ack);
    peer.done("SUBSCRIBE", &subscribe, "");
    for text in ["1", "2", "3"] {
        say(text);
    }
    let frames = [peer.recv(), peer.recv(), peer.recv()];
    assert_eq!(frames.each_ref().map(body), ["1", "2", "3"]);
    assert!(frames.iter().all(|frame| frame.get("redelivered").is_none()));
    if let Some(id) = frames[1].get("ack") {
        peer.done("ACK", &format!("id:{id}\n"), "");
    }
    drop(peer);
    let mut peer = stomp(daemon, ack);
    // What waited may come before the receipt.
    peer.send(format!("SUBSCRIBE\n{subscribe}\n"));
    say("end");
    let frames = std::iter::from_fn(|| Some(peer.recv()).filter(|frame| body(frame) != "end"));
    let frames: Vec<Frame> = frames.collect();
    assert!(
        frames
            .iter()
            .all(|frame| frame.get("redelivered") == Some("true")),
        "{frames:?}"
    );
    frames.iter().map(body).collect()
}

/// The same of MQTT.
fn lost_mqtt(daemon: &Daemon<'_>, qos: Qos, topic: &str, say: &mut dyn FnMut(&str)) -> Vec<String> {
    let id = format!("mqtt{}", qos as u8);
    let mut peer = mqtt(daemon, &id, false);
    peer.subscribe(topic, qos).expect("it is there");
    for text in ["1", "2", "3"] {
        say(text);
    }
    let publish = |text: &str, peer: &mut Peer| match peer.recv() {
        Ok(Packet::Publish(publish)) if publish.payload == text => publish.packet_id,
        other => panic!("{other:?}"),
    };
    let ids = ["1", "2", "3"].map(|text| publish(text, &mut peer));
    match qos {
        Qos::AtMostOnce => {}
        Qos::AtLeastOnce => peer
            .ack(AckKind::PubAck, ids[1].expect("QoS 1").get())
            .expect("it is there"),
        Qos::ExactlyOnce => {
            let id = ids[1].expect("QoS 2").get();
            peer.ack(AckKind::PubRec, id).expect("it is there");
            assert!(matches!(peer.recv(), Ok(Packet::Ack(ack)) if ack.kind == AckKind::PubRel));
            peer.ack(AckKind::PubComp, id).expect("it is there");
        }
    }
    drop(peer);
    let mut peer = mqtt(daemon, &id, false);
    say("end");
    let heard = peer.until("end");
    heard.into_iter().map(|message| message.payload).collect()
}

/// MQTT-SN 1.2 §6.14, with CleanSession off: what a device that is gone has not acknowledged comes when it connects again, and then not once more.
#[test]
fn a_device_gets_once_what_came_while_it_was_lost() {
    let (setup, field) = setup();
    let daemon = setup.start();
    let mut writer = stomp(&daemon, "writer");
    for qos in 1..=2 {
        let device = || {
            let mut device = SnPeer::new(field, &format!("sn{qos}"));
            device.connect(false, 60, None);
            device
        };
        let topic = format!("again/sn/{qos}");
        let mut first = device();
        first.subscribe(&topic, qos);
        drop(first);
        let mut say = |text: &str| writer.done("SEND", &format!("destination:{topic}\nqos:2\n"), text);
        for text in ["1", "2", "3"] {
            say(text);
        }
        let mut again = device();
        assert_eq!(
            [again.recv(), again.recv(), again.recv()].map(|m| m.payload),
            ["1", "2", "3"]
        );
        drop(again);
        let mut third = device();
        say("end");
        assert_eq!(third.recv().payload, "end");
    }
    daemon.stop();
}

/// docs/stomp.md, Acknowledgements: what a member of a shared subscription leaves behind goes to the other one.
#[test]
fn what_a_lost_member_did_not_acknowledge_goes_to_the_other_one() {
    let (setup, _) = setup();
    let daemon = setup.start();
    let mut writer = stomp(&daemon, "writer");
    let lost: BTreeMap<&str, &[&str]> = MODES
        .iter()
        .take(3)
        .map(|(_, ack, again)| (*ack, *again))
        .collect();
    for (ack, again) in lost {
        let topic = format!("shared/{ack}");
        let mut say = |text: &str| writer.done("SEND", &format!("destination:{topic}\n"), text);
        let subscribe = format!("id:0\ndestination:$share/g/{topic}\nack:{ack}\n");
        let mut member = stomp(&daemon, &format!("first-{ack}"));
        member.done("SUBSCRIBE", &subscribe, "");
        for text in ["1", "2", "3"] {
            say(text);
        }
        let frames = [member.recv(), member.recv(), member.recv()];
        if let Some(id) = frames[1].get("ack") {
            member.done("ACK", &format!("id:{id}\n"), "");
        }
        let mut other = stomp(&daemon, &format!("second-{ack}"));
        other.done("SUBSCRIBE", &subscribe, "");
        drop(member);
        let heard: Vec<String> = again.iter().map(|_| body(&other.recv())).collect();
        assert_eq!(heard, again, "{ack}");
        // Nothing else: the next that comes is the answer.
        other.done("UNSUBSCRIBE", "id:0\n", "");
    }
    daemon.stop();
}
