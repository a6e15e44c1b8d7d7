//! DISCONNECT both ways. MQTT 5 §3.14; 3.1.1 §3.14

use headgate_mqtt_codec::{Disconnect, DisconnectProperties, Packet, PacketType, Publish, ReasonCode};
use headgate_tests::*;
use std::num::NonZeroU16;

/// [MQTT-3.14.4-1] [MQTT-3.14.4-3] [MQTT-3.1.2-10] [3.1.1 MQTT-3.14.4-2] [3.1.1 MQTT-3.14.4-3] [3.1.1 MQTT-3.1.2-10]
/// After DISCONNECT nothing more is taken, not even from the same write; nothing is sent, the link is closed, the will is dropped.
#[test]
fn disconnect_ends_everything() {
    for version in ALL {
        let gw = Gateway::default();
        let mut watcher = gw.client(V5, "w");
        watcher.subscribe("#", AtMostOnce);
        let mut client = gw.open(connect(version, "c").will(will("gone", "c")));
        client.send_together(vec![
            publish("before", "x").to_packet(),
            disconnect(ReasonCode::Success).to_packet(),
            publish("after", "x").to_packet(),
            Packet::PingReq,
        ]);
        assert!(client.is_closed());
        assert_eq!(client.received(), []);
        assert_eq!(watcher.heard(), ["before=x"]);
    }
}

/// [MQTT-3.14.1-1] [MQTT-3.14.2-1] [MQTT-4.13.1-1] [3.1.1 MQTT-3.14.1-1] A DISCONNECT that is none counts as loss.
/// MQTT 5 §3.14.2.2.2: so does one that wants a session to be kept that was to end.
#[test]
fn faulty_disconnect_counts_as_loss() {
    let longer = Disconnect {
        reason: ReasonCode::Success,
        properties: Some(Box::new(DisconnectProperties {
            session_expiry: Some(10),
            ..DisconnectProperties::default()
        })),
    };
    let mut longer_bytes = bytes::BytesMut::new();
    headgate_mqtt_codec::encode(&longer.to_packet(), V5, &mut longer_bytes);
    let faults = [
        (V311, vec![0xE1, 0], ReasonCode::MalformedPacket),
        (V5, vec![0xE1, 0], ReasonCode::MalformedPacket),
        (V5, vec![0xE0, 1, 0x01], ReasonCode::ProtocolError),
        (V5, longer_bytes.to_vec(), ReasonCode::ProtocolError),
    ];
    for (version, bytes, reason) in faults {
        let gw = Gateway::default();
        let mut watcher = gw.client(V5, "w");
        watcher.subscribe("gone", AtMostOnce);
        let mut client = gw.open(connect(version, "c").will(will("gone", "c")));
        client.send_bytes(&bytes);
        client.assert_refused(reason);
        assert_eq!(watcher.heard(), ["gone=c"], "{bytes:x?}");
    }
}

/// [MQTT-3.14.2-1] [MQTT-3.14.2-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.2-1]
/// When we end a connection, DISCONNECT is the last packet, says why, and asks nothing; then the link is closed.
#[test]
fn disconnect_of_the_server_is_the_last_packet() {
    type Cause = fn(&Gateway, &mut Client);
    let alias = |n| publish("a", "").with(|p| p.topic_alias = NonZeroU16::new(n));
    let _: fn(u16) -> Publish = alias;
    let causes: [(ReasonCode, Cause); 11] = [
        (ReasonCode::MalformedPacket, |_, c| c.send_bytes(&[0x3F, 0])),
        (ReasonCode::ProtocolError, |_, c| c.send(connect(V5, "c"))),
        (ReasonCode::ProtocolError, |_, c| {
            c.send(auth(ReasonCode::ReAuthenticate, "m", ""));
        }),
        (ReasonCode::ServerShuttingDown, |gw, _| gw.shut_down()),
        (ReasonCode::KeepAliveTimeout, |gw, _| gw.sleep(90)),
        (ReasonCode::SessionTakenOver, |gw, _| drop(gw.client(V5, "c"))),
        (ReasonCode::TopicAliasInvalid, |_, c| {
            c.send(publish("a", "").with(|p| p.topic_alias = NonZeroU16::new(9_999)));
        }),
        (ReasonCode::PacketTooLarge, |_, c| {
            c.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        }),
        (ReasonCode::AdministrativeAction, |gw, _| gw.kick("c")),
        (ReasonCode::TopicNameInvalid, |_, c| c.send(publish("a/+", ""))),
        (ReasonCode::ReceiveMaximumExceeded, |_, c| {
            for n in 1..=3 {
                c.send(publish("a", "").qos(ExactlyOnce, n));
            }
        }),
    ];
    for (reason, cause) in causes {
        let gw = Gateway::with(|s| s.mqtt.receive_maximum = 2);
        let mut client = gw.open(connect(V5, "c").keep_alive(60));
        client.subscribe("waiting", AtLeastOnce);
        let mut publisher = gw.client(V5, "p");
        for _ in 0..200 {
            publisher.deliver(publish("waiting", "x"), AtLeastOnce);
        }
        client.received();
        cause(&gw, &mut client);
        assert!(client.is_closed(), "{reason}");
        publisher.say("waiting", "late");
        let packets = client.received();
        let Some((Packet::Disconnect(last), before)) = packets.split_last() else {
            panic!("{reason}: {packets:?}");
        };
        assert_eq!(last.reason, reason);
        assert_eq!(last.properties.as_ref().and_then(|p| p.session_expiry), None);
        assert!(
            before
                .iter()
                .all(|packet| packet.packet_type() == PacketType::PubRec),
            "{before:?}"
        );
    }
}

/// [MQTT-3.14.0-1] Before CONNACK a gateway that stops closes without a word.
#[test]
fn no_disconnect_before_connack() {
    let gw = Gateway::default();
    let mut fresh = gw.link(V5);
    gw.access(|_| None);
    let mut asked = gw.connect(connect(V5, "c"));
    gw.shut_down();
    for client in [&mut fresh, &mut asked] {
        assert!(client.is_closed());
        assert_eq!(client.received(), []);
    }
}

/// Before MQTT 5 a server has no DISCONNECT to send.
#[test]
fn older_clients_are_closed_without_a_word() {
    for version in [V31, V311] {
        let gw = Gateway::default();
        let mut client = gw.client(version, "c");
        gw.kick("c");
        assert!(client.is_closed());
        assert_eq!(client.received(), []);
    }
}

/// A client that goes without a word and one that says goodbye are the same for the rest: both are gone from the bus.
#[test]
fn every_end_leaves_the_bus() {
    let gw = Gateway::default();
    for version in ALL {
        let mut polite = gw.client(version, "polite");
        let mut lost = gw.client(version, "lost");
        assert_eq!(gw.stats().clients, 2);
        polite.leave();
        lost.lose();
        assert_eq!((gw.stats().clients, gw.stats().sessions), (0, 0));
    }
}

/// [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-3.8.4-1] [MQTT-3.10.4-4] [3.1.1 MQTT-4.3.2-2] [3.1.1 MQTT-4.3.3-2] [3.1.1 MQTT-3.8.4-1]
/// A device that sends everything and its goodbye at once gets its answers before the link ends, also those that wait for the disk.
#[test]
fn what_was_sent_before_the_goodbye_is_answered() {
    for version in ALL {
        for withheld in [false, true] {
            let gw = Gateway::default();
            let mut keeper = gw.open(connect(V5, "keeper").durable());
            keeper.subscribe("t", ExactlyOnce);
            keeper.lose();
            if withheld {
                gw.withhold_commits();
            }
            let mut client = gw.client(version, "c");
            client.send_together(vec![
                publish("t", "1").qos(AtLeastOnce, 1).to_packet(),
                publish("t", "2").qos(ExactlyOnce, 2).to_packet(),
                subscribe(3, &[("x", AtMostOnce)]).to_packet(),
                unsubscribe(4, &["x"]).to_packet(),
                disconnect(ReasonCode::Success).to_packet(),
            ]);
            assert_eq!(client.is_closed(), !withheld);
            gw.commit();
            let answers: Vec<PacketType> = client.received().iter().map(Packet::packet_type).collect();
            let expected = [
                PacketType::PubAck,
                PacketType::PubRec,
                PacketType::SubAck,
                PacketType::UnsubAck,
            ];
            assert_eq!(answers, expected, "{version:?}");
            assert!(client.is_closed());
            assert_eq!(gw.stats().clients, 0);
            assert_eq!(gw.stats().queued, 2);
        }
    }
}

/// Nobody waits for ever for a disk that does not answer, and a goodbye is a goodbye: no will.
#[test]
fn a_goodbye_does_not_wait_for_ever() {
    let gw = Gateway::default();
    let mut watcher = gw.client(V5, "watcher");
    watcher.subscribe("will", AtMostOnce);
    let mut keeper = gw.open(connect(V5, "keeper").durable());
    keeper.subscribe("t", AtLeastOnce);
    keeper.lose();
    let mut client = gw.open(connect(V5, "c").will(will("will", "lost")));
    gw.withhold_commits();
    client.send_together(vec![
        publish("t", "1").qos(AtLeastOnce, 1).to_packet(),
        disconnect(ReasonCode::Success).to_packet(),
    ]);
    assert!(!client.is_closed());
    gw.sleep(10);
    assert!(client.is_closed());
    assert_eq!(watcher.messages(), []);
}
