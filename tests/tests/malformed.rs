//! What breaks the protocol ends the connection, and hurts nobody else. MQTT 5 §4.13; 3.1.1 §4.8

use headgate_model::Metric;
use headgate_mqtt_codec::{Packet, ReasonCode, SubAck, UnsubAck, encode};
use headgate_tests::*;

fn bytes_of(packet: &Packet, version: headgate_mqtt_codec::Version) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    encode(packet, version, &mut bytes);
    bytes.to_vec()
}

/// [MQTT-4.13.1-1] [3.1.1 MQTT-4.8.0-1] The connection that a fault came on is closed, MQTT 5 is told which; its will goes out; nothing
/// behind the fault is processed, and other clients go on.
#[test]
fn fault_closes_the_connection_it_came_on() {
    use ReasonCode::{MalformedPacket, ProtocolError, TopicNameInvalid};
    let faults: [(&str, &[u8], ReasonCode); 9] = [
        ("reserved type", &[0x00, 0], MalformedPacket),
        ("QoS 3", &[0x36, 5, 0, 1, b'a', 0, 1], MalformedPacket),
        ("DUP at QoS 0", &[0x38, 3, 0, 1, b'a'], MalformedPacket),
        ("wildcard in a topic", &[0x30, 4, 0, 1, b'#', 0], TopicNameInvalid),
        ("ill-formed text", &[0x30, 4, 0, 1, 0xC3, 0], MalformedPacket),
        ("identifier zero", &[0x32, 6, 0, 1, b'a', 0, 0, 0], ProtocolError),
        (
            "flags of SUBSCRIBE",
            &[0x80, 6, 0, 1, 0, 1, b'a', 0],
            MalformedPacket,
        ),
        (
            "length of five bytes",
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            MalformedPacket,
        ),
        ("SUBSCRIBE of nothing", &[0x82, 3, 0, 1, 0], ProtocolError),
    ];
    for version in NUMBERED {
        for (what, bytes, reason) in faults {
            let gw = Gateway::default();
            let mut watcher = gw.client(version, "w");
            watcher.subscribe("#", AtMostOnce);
            let mut client = gw.open(connect(version, "c").will(will("gone", "c")));
            let mut write = bytes.to_vec();
            write.extend(bytes_of(&publish("behind", "x").to_packet(), version));
            client.send_bytes(&write);
            assert!(client.is_closed(), "{version} {what}");
            client.assert_refused(reason);
            client.send(publish("later", "x"));
            assert_eq!(watcher.heard(), ["gone=c"], "{version} {what}");
            assert_eq!(gw.counted(Metric::MalformedPackets), 1);
        }
    }
}

/// [MQTT-4.13.1-1] [3.1.1 MQTT-4.8.0-1] What only a server sends is a Protocol Error when it comes from a client.
#[test]
fn packets_of_a_server_are_refused() {
    for version in NUMBERED {
        let suback = SubAck {
            packet_id: id(1),
            codes: vec![ReasonCode::Success],
            reason_string: None,
            user_properties: Vec::new(),
        };
        let unsuback = UnsubAck {
            packet_id: id(1),
            codes: vec![ReasonCode::Success],
            reason_string: None,
            user_properties: Vec::new(),
        };
        let packets = [
            Packet::ConnAck(Box::default()),
            Packet::SubAck(Box::new(suback)),
            Packet::UnsubAck(Box::new(unsuback)),
            Packet::PingResp,
        ];
        for packet in packets {
            let mut client = Gateway::default().client(version, "c");
            client.send(packet);
            client.assert_refused(ReasonCode::ProtocolError);
        }
    }
}

/// Packets are the same however the network cuts them.
#[test]
fn packets_may_come_byte_by_byte() {
    for version in ALL {
        let gw = Gateway::default();
        let mut client = gw.link(version);
        let mut bytes = bytes_of(&connect(version, "c").to_packet(), version);
        bytes.extend(bytes_of(
            &subscribe(1, &[("a", AtLeastOnce)]).to_packet(),
            version,
        ));
        bytes.extend(bytes_of(
            &publish("a", "x").qos(AtLeastOnce, 2).to_packet(),
            version,
        ));
        bytes.extend(bytes_of(&Packet::PingReq, version));
        for byte in bytes {
            client.send_bytes(&[byte]);
        }
        let kinds: Vec<_> = client
            .received()
            .iter()
            .map(|p| p.packet_type().to_string())
            .collect();
        assert_eq!(kinds.join(" "), "CONNACK SUBACK PUBLISH PUBACK PINGRESP");
    }
}

/// [MQTT-4.7.3-1] [3.1.1 MQTT-4.7.3-1] Empty filters are refused.
#[test]
fn empty_filters_are_refused() {
    for version in NUMBERED {
        let mut client = Gateway::default().client(version, "c");
        client.send(subscribe(1, &[("", AtMostOnce)]));
        client.assert_refused(ReasonCode::ProtocolError);
        let mut client = Gateway::default().client(version, "c");
        client.send(unsubscribe(1, &[""]));
        client.assert_refused(ReasonCode::ProtocolError);
    }
    let mut client = Gateway::default().client(V311, "c");
    client.send(publish("", "x"));
    client.assert_refused(ReasonCode::ProtocolError);
}

/// [MQTT-4.7.3-3] [3.1.1 MQTT-4.7.3-3] The longest topic there is works.
#[test]
fn longest_topic_works() {
    let longest = "t".repeat(65_535);
    for version in NUMBERED {
        let gw = Gateway::default();
        let mut client = gw.client(version, "c");
        assert_eq!(client.subscribe(&longest, AtMostOnce), ReasonCode::Success);
        client.say(&longest, "x");
        assert_eq!(client.messages()[0].topic.as_str(), longest);
    }
}

/// Whatever bytes come, nobody panics and other clients go on. The seed is printed by the assertion.
#[test]
fn random_bytes_hurt_nobody_else() {
    let gw = Gateway::default();
    let mut bystander = gw.client(V5, "by");
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let version = NUMBERED[rng.usize(..2)];
        let mut client = gw.client(version, "victim");
        for _ in 0..4 {
            let head = [
                0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0,
            ][rng.usize(..12)];
            let body: Vec<u8> = (0..rng.usize(..20)).map(|_| rng.u8(..4)).collect();
            let mut bytes = vec![head, u8::try_from(body.len()).unwrap()];
            bytes.extend(body);
            client.send_bytes(&bytes);
        }
        client.received();
        bystander.send(Packet::PingReq);
        let pong = bystander.received();
        assert_eq!(pong, [Packet::PingResp], "seed {seed}");
    }
}
