//! What attacks make the gateway keep, where it may keep little.

use crate::third::Third;
use crate::{Attack, peak_while, scale, tell};
use bytes::{BufMut, Bytes, BytesMut};
use headgate_mqtt_codec::{
    Connect, ConnectProperties, Packet, PacketId, Publish, PublishProperties, Qos, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsubscribe, UserProperty, Utf8, Version, Will, WillProperties,
    encode,
};
use headgate_tests::blackbox::{Peer, Setup, Transport, own_address};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU16;
use std::sync::OnceLock;
use std::time::Duration;

/// What the process may take, in bytes: 64 MiB without the 8 MiB of a release build's program.
const CEILING: u64 = 56 << 20;

/// Where MQTT-SN is spoken.
static FIELD: OnceLock<SocketAddr> = OnceLock::new();

/// A ledger of 10 MiB keeps a process below 64 MiB, whatever comes; and honest clients go on.
#[test]
fn memory_has_a_ceiling() {
    let field = *FIELD.get_or_init(own_address);
    let setup = Setup::with(&format!(
        "[bus]\nmax_memory_bytes = 10485760\n[store]\nmax_bytes = 40000000\n[[mqttsn]]\nname = \"field\"\nbind = \"{field}\"\n"
    ));
    let mut daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let attacks: [Attack; 15] = [
        ("wills of 60 kB", wills),
        ("sessions that never end", sessions),
        ("10,000 subscriptions each", subscriptions),
        ("9,000 subscriptions of 127 levels each", deep_filters),
        ("shared subscriptions with names of 6 kB", long_groups),
        ("aliases for topics of 60 kB", aliases),
        ("durable subscriptions come and go", churn),
        ("QoS 2 identifiers that are never released", unreleased),
        ("MQTT-SN topic ids for topics of 1.3 kB", topic_ids),
        ("CONNECT with 190,000 user properties", properties),
        ("half a CONNECT of 60 kB", half_connects),
        ("half a PUBLISH of 1 MB", half_publishes),
        ("$delayed messages of 500 kB", delayed),
        ("retained messages of 500 kB", retained),
        ("subscribers that do not read", deaf),
    ];
    let third = Third::begin(port);
    let mut highest = 0;
    for (name, attack) in attacks {
        let ((), peak) = peak_while(&daemon, || attack(port));
        let now = daemon.memory();
        highest = highest.max(peak);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        tell(
            name,
            &format!("RSS {:.1} MiB at the peak, {:.1} after", mib(peak), mib(now)),
        );
    }
    let report = third.end();
    let worst = report.worst.as_secs_f64() * 1e3;
    tell(
        "a client that was there before",
        &format!("{} round trips, the longest {worst:.1} ms", report.rounds),
    );
    assert!(daemon.is_alive(), "{}", setup.log());
    assert!(highest < CEILING, "{highest}");
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

fn text(text: String) -> Utf8 {
    Utf8::try_from(text).expect("a short text")
}

fn bytes_of(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(packet, Version::V5, &mut bytes);
    bytes
}

/// Connects and does not wait for an answer.
fn send(port: u16, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a number");
    // Who is refused may be cut off in the middle.
    let _ = stream.write_all(bytes);
    stream
}

/// CONNACK, or the end.
fn answer(stream: &mut TcpStream) {
    let mut answer = [0; 64];
    let _ = stream.read(&mut answer);
}

fn durable(id: String) -> Connect {
    Connect {
        clean_start: false,
        properties: ConnectProperties {
            session_expiry: Some(u32::MAX),
            ..ConnectProperties::default()
        },
        ..Connect::new(Version::V5, text(id))
    }
}

fn wills(port: u16) {
    let mut held = Vec::new();
    for n in 0..scale(600, 2_000) {
        let connect = Connect {
            will: Some(Will {
                topic: text("will".to_owned()),
                payload: Bytes::from(vec![b'x'; 60_000]),
                qos: Qos::AtLeastOnce,
                retain: false,
                properties: WillProperties {
                    delay_interval: Some(u32::MAX),
                    ..WillProperties::default()
                },
            }),
            ..durable(format!("will{n}"))
        };
        let mut stream = send(port, &bytes_of(&Packet::Connect(Box::new(connect))));
        answer(&mut stream);
        held.push(stream);
    }
    // They leave without a goodbye, and their wills wait for ever.
    drop(held);
    end_all("will", "", scale(600, 2_000), port);
}

fn sessions(port: u16) {
    let count = scale(3_000, 30_000);
    for n in 0..count {
        // As long as a client id may be.
        let connect = durable(format!("session{n}{}", "x".repeat(1_000)));
        let mut stream = send(port, &bytes_of(&Packet::Connect(Box::new(connect))));
        answer(&mut stream);
    }
    end_all("session", &"x".repeat(1_000), count, port);
}

/// The next attack shall find room.
fn end_all(prefix: &str, suffix: &str, count: usize, port: u16) {
    for n in 0..count {
        let connect = Connect::new(Version::V5, text(format!("{prefix}{n}{suffix}")));
        let mut bytes = bytes_of(&Packet::Connect(Box::new(connect)));
        bytes.put_slice(&[0xE0, 0]);
        let mut stream = send(port, &bytes);
        answer(&mut stream);
    }
}

fn subscriptions(port: u16) {
    subscribe_to(port, scale(20, 100), 1, 10_000, |n| {
        format!("{n}/+/many/levels/that/nobody/else/has")
    });
}

fn deep_filters(port: u16) {
    let levels = "a/".repeat(124);
    subscribe_to(port, scale(5, 50), 3, 3_000, |n| format!("{n}/+/{levels}{n}"));
}

fn long_groups(port: u16) {
    let name = "x".repeat(6_000);
    subscribe_to(port, scale(5, 50), scale(10, 60), 150, |n| {
        format!("$share/{n}{name}/a")
    });
}

/// At QoS 0 to all of these.
fn subscribe(filters: impl Iterator<Item = Utf8>) -> Packet {
    let filters = filters.map(|filter| SubscribeFilter {
        filter,
        options: SubscribeOptions::qos(Qos::AtMostOnce),
    });
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::MIN,
        identifier: None,
        user_properties: Vec::new(),
        filters: filters.collect(),
    }))
}

/// So many clients with so many SUBSCRIBEs with so many filters each, none of which is there twice.
fn subscribe_to(port: u16, clients: usize, packets: usize, filters: usize, filter: impl Fn(usize) -> String) {
    let mut held = Vec::new();
    for client in 0..clients {
        let Ok((mut peer, _)) = Peer::connect(port, &format!("deep{client}"), true, 0) else {
            continue;
        };
        for packet in 0..packets {
            let first = (client * packets + packet) * filters;
            let subscribe = subscribe((first..first + filters).map(|n| text(filter(n))));
            if peer.send(&subscribe).is_ok() {
                let _ = peer.recv();
            }
        }
        held.push(peer);
    }
}

/// What is gone again is still written to the store.
fn churn(port: u16) {
    let Ok((mut peer, _)) = Peer::connect(port, "churn", true, u32::MAX) else {
        return;
    };
    for round in 0..scale(20, 300) {
        let filter = |n: usize| text(format!("{round}/{n}/a/name/of/some/length/that/nobody/else/has"));
        let unsubscribe = Unsubscribe {
            packet_id: PacketId::MIN,
            user_properties: Vec::new(),
            filters: (0..3_000).map(filter).collect(),
        };
        for packet in [
            subscribe((0..3_000).map(filter)),
            Packet::Unsubscribe(Box::new(unsubscribe)),
        ] {
            if peer.send(&packet).is_err() || peer.recv().is_err() {
                return;
            }
        }
    }
}

fn unreleased(port: u16) {
    for client in 0..scale(50, 600) {
        let Ok((mut peer, _)) = Peer::connect(port, &format!("unreleased{client}"), true, u32::MAX) else {
            continue;
        };
        for id in 1..=1_000 {
            let publish = Publish {
                topic: text("nobody/hears/it".to_owned()),
                qos: Qos::ExactlyOnce,
                packet_id: PacketId::new(id),
                ..Publish::default()
            };
            if peer.send(&Packet::Publish(publish)).is_err() {
                break;
            }
        }
        // PUBREC, or what it is refused by.
        while let Ok(Packet::Ack(ack)) = peer.recv() {
            if ack.packet_id.get() == 1_000 {
                break;
            }
        }
    }
    end_all("unreleased", "", scale(50, 600), port);
}

/// Nobody hears them, and they end with their connection: only the aliases stay.
fn aliases(port: u16) {
    let mut held = Vec::new();
    for client in 0..scale(50, 500) {
        let Ok((mut peer, _)) = Peer::connect(port, &format!("alias{client}"), true, 0) else {
            continue;
        };
        for alias in 1..=64 {
            let publish = Publish {
                topic: text(format!("{alias}{}", "x".repeat(60_000))),
                properties: Some(Box::new(PublishProperties {
                    topic_alias: NonZeroU16::new(alias),
                    ..PublishProperties::default()
                })),
                ..Publish::default()
            };
            if peer.send(&Packet::Publish(publish)).is_err() {
                break;
            }
        }
        held.push(peer);
    }
}

/// From an address for each client, which need not even be its own.
fn topic_ids(_: u16) {
    let field = FIELD.get().expect("the gateway runs");
    for client in 0..scale(100, 2_000) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(field).expect("an address");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a number");
        let id = format!("sn{client}");
        let mut connect = vec![6 + id.len() as u8, 0x04, 0x04, 0x01, 0, 60];
        connect.extend(id.as_bytes());
        let _ = socket.send(&connect);
        let _ = socket.recv(&mut [0; 16]);
        for n in 0..256_u16 {
            let topic = format!("{client}/{n}/{}", "x".repeat(1_300));
            let mut register = vec![1, 0, 0, 0x0A, 0, 0];
            register.extend(n.to_be_bytes());
            register.extend(topic.as_bytes());
            let len = register.len() as u16;
            register[1..3].copy_from_slice(&len.to_be_bytes());
            let _ = socket.send(&register);
            if n % 16 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn properties(port: u16) {
    for n in 0..scale(50, 300) {
        let empty = UserProperty::from((Utf8::default(), Utf8::default()));
        let connect = Connect {
            properties: ConnectProperties {
                authentication_method: Some(text("SCRAM-SHA-256".to_owned())),
                user_properties: vec![empty; 190_000],
                ..ConnectProperties::default()
            },
            ..Connect::new(Version::V5, text(format!("properties{n}")))
        };
        answer(&mut send(port, &bytes_of(&Packet::Connect(Box::new(connect)))));
    }
}

fn half_connects(port: u16) {
    let connect = Connect {
        password: Some(Bytes::from(vec![b'x'; 60_000])),
        username: Some(text("somebody".to_owned())),
        ..Connect::new(Version::V5, text("half".to_owned()))
    };
    let bytes = bytes_of(&Packet::Connect(Box::new(connect)));
    let held: Vec<TcpStream> = (0..scale(300, 2_000))
        .map(|_| send(port, &bytes[..bytes.len() - 1]))
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    drop(held);
}

fn publish(topic: String, payload: usize, retain: bool) -> Packet {
    Packet::Publish(Publish {
        qos: Qos::AtLeastOnce,
        packet_id: Some(PacketId::MIN),
        retain,
        topic: text(topic),
        payload: Bytes::from(vec![b'x'; payload]),
        ..Publish::default()
    })
}

fn half_publishes(port: u16) {
    let half = bytes_of(&publish("half".to_owned(), 1_000_000, false));
    let mut held = Vec::new();
    for n in 0..scale(100, 300) {
        let connect = Packet::Connect(Box::new(Connect::new(Version::V5, text(format!("half{n}")))));
        let mut stream = send(port, &bytes_of(&connect));
        answer(&mut stream);
        let _ = stream.write_all(&half[..half.len() - 1]);
        held.push(stream);
    }
}

/// Publishes one after the other, and comes again when it is thrown out.
fn publish_all(port: u16, name: &str, count: usize, packet: impl Fn(usize) -> Packet) {
    let connect = || Peer::connect(port, name, true, 0).ok().map(|(peer, _)| peer);
    let mut peer = connect();
    for n in 0..count {
        let Some(connected) = &mut peer else {
            peer = connect();
            continue;
        };
        if connected.send(&packet(n)).is_err() || connected.recv().is_err() {
            peer = connect();
        }
    }
}

fn delayed(port: u16) {
    let topic = |n| publish(format!("$delayed/10/late/{n}"), 500_000, false);
    publish_all(port, "delayer", scale(60, 400), topic);
    std::thread::sleep(Duration::from_secs(11));
}

fn retained(port: u16) {
    let count = scale(60, 400);
    publish_all(port, "retainer", count, |n| {
        publish(format!("kept/{n}"), 500_000, true)
    });
    publish_all(port, "retainer", count, |n| publish(format!("kept/{n}"), 0, true));
}

fn deaf(port: u16) {
    let mut held = Vec::new();
    for n in 0..scale(50, 200) {
        let Ok((mut peer, _)) = Peer::connect(port, &format!("deaf{n}"), true, 0) else {
            continue;
        };
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][n % 3];
        if peer.subscribe(&format!("deaf/{n}"), qos).is_ok() {
            held.push(peer);
        }
    }
    publish_all(port, "loud", scale(2_000, 10_000), |n| {
        publish(format!("deaf/{}", n % 50), 100_000, false)
    });
}
