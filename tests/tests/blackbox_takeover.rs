//! A client that comes back at once, under the same name: what it had sent on the connection before is not lost.

use headgate_mqtt_codec::{Connect, Disconnect, Packet, Publish, Qos, Utf8, Version, Will, encode};
use headgate_tests::blackbox::{Peer, Setup, Transport, eventually};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

const CLIENTS: usize = 4;
const ROUNDS: usize = 150;

/// Says all it has to say in one write as soon as it is let in, and hangs up.
fn say_and_go(port: u16, id: &str, topic: &str, payload: &str) {
    let utf8 = |text: &str| Utf8::try_from(text.to_owned()).unwrap();
    let mut connect = Connect::new(Version::V311, utf8(id));
    connect.will = Some(Will {
        topic: utf8("wills"),
        payload: "lost".into(),
        ..Will::default()
    });
    let publish = Publish {
        topic: utf8(topic),
        payload: payload.to_owned().into(),
        ..Publish::default()
    };
    let mut bytes = bytes::BytesMut::new();
    encode(&Packet::Connect(Box::new(connect)), Version::V311, &mut bytes);
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(&bytes).unwrap();
    let mut connack = [0; 4];
    socket.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    bytes.clear();
    encode(&Packet::Publish(publish), Version::V311, &mut bytes);
    encode(
        &Packet::Disconnect(Disconnect::default()),
        Version::V311,
        &mut bytes,
    );
    socket.write_all(&bytes).unwrap();
}

/// Its goodbye counts too: no will. [MQTT-3.1.2-10] [3.1.1 MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[test]
fn what_was_sent_before_a_take_over_is_taken() {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (mut listener, _) = Peer::connect(port, "listener", true, 0).unwrap();
    listener.subscribe("#", Qos::AtMostOnce).unwrap();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let id = format!("same{client}");
                    say_and_go(port, &id, "said", &format!("{client}/{round}"));
                }
            });
        }
        let mut said = BTreeSet::new();
        while said.len() < CLIENTS * ROUNDS {
            let Packet::Publish(publish) = listener.recv().unwrap() else {
                continue;
            };
            assert_eq!(
                publish.topic.as_str(),
                "said",
                "a client that said goodbye has no will"
            );
            assert!(said.insert(publish.payload), "QoS 0 comes once");
        }
    });
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// Who does not read is thrown out all the same: by who takes its session over, and by an operator. What it was to be sent is not kept for it on the way out.
#[test]
fn who_does_not_read_is_thrown_out_all_the_same() {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let connections = || {
        let listeners = daemon.ask(&["listeners"]);
        let tcp = listeners.as_array().expect("a list").iter();
        let tcp = tcp.clone().find(|row| row["name"] == "tcp").expect("it listens");
        tcp["connections"].as_u64().expect("a number")
    };
    let (mut publisher, _) = Peer::connect(port, "publisher", true, 0).unwrap();
    let payload = "x".repeat(60_000);
    let mut flood = || {
        for _ in 0..400 {
            publisher.publish("flood", &payload, None, false).unwrap();
        }
    };
    let mut idle = Vec::new();
    for _ in 0..4 {
        let (mut peer, _) = Peer::connect(port, "idle", true, 0).unwrap();
        peer.subscribe("flood", Qos::AtMostOnce).unwrap();
        flood();
        idle.push(peer);
    }
    eventually("those taken over to be gone", || {
        (connections() == 2).then_some(())
    });
    daemon.ask(&["clients", "kick", "idle"]);
    eventually("the one that was kicked to be gone", || {
        (connections() == 1).then_some(())
    });
    drop(idle);
}
