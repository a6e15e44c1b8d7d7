//! How long one client's frames hold up another.

use crate::third::Third;
use crate::{Attack, scale, tell};
use bytes::Bytes;
use headgate_mqtt_codec::{
    Disconnect, Packet, PacketId, Publish, Qos, ReasonCode, Subscribe, SubscribeFilter, SubscribeOptions,
    Unsubscribe, Utf8,
};
use headgate_tests::blackbox::{Peer, Setup, Transport};

/// As `bus.max_subscriptions` is by default.
const MAX_SUBSCRIPTIONS: usize = 10_000;

/// Each attack is made by one client with default settings; a third one goes on meanwhile.
#[test]
fn no_frame_stops_everybody() {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let attacks: [Attack; 7] = [
        ("16,000 groups on one filter in a SUBSCRIBE", groups),
        ("10,000 groups that each get every message", messages_to_groups),
        ("10,000 wildcard filters that match each message", overlapping),
        ("10,000 filters of 127 levels that match each message", deep),
        ("10,000 subscriptions come and go", come_and_go),
        ("searches for retained messages, begun and left", searches),
        ("PUBACKs for a full window in reverse", reversed),
    ];
    for (name, attack) in attacks {
        let third = Third::begin(port);
        attack(port);
        let report = third.end();
        let worst = report.worst.as_secs_f64() * 1e3;
        tell(
            name,
            &format!(
                "worst pause of a third client {worst:.1} ms, {} round trips",
                report.rounds
            ),
        );
        assert!(report.rounds > 0);
    }
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

fn attacker(port: u16) -> Peer {
    Peer::connect(port, "attacker", true, 0).expect("it is let in").0
}

fn text(text: String) -> Utf8 {
    Utf8::try_from(text).expect("a short text")
}

/// One SUBSCRIBE with all these filters; how many were granted.
fn subscribe(peer: &mut Peer, qos: Qos, filters: impl Iterator<Item = String>) -> usize {
    let filters = filters.map(|filter| SubscribeFilter {
        filter: text(filter),
        options: SubscribeOptions::qos(qos),
    });
    let packet = Subscribe {
        packet_id: PacketId::MIN,
        identifier: None,
        user_properties: Vec::new(),
        filters: filters.collect(),
    };
    peer.send(&Packet::Subscribe(Box::new(packet)))
        .expect("it is taken");
    loop {
        if let Packet::SubAck(suback) = peer.recv().expect("an answer") {
            let refused = |code: &&ReasonCode| code.is_error();
            assert!(
                suback
                    .codes
                    .iter()
                    .filter(refused)
                    .all(|code| *code == ReasonCode::QuotaExceeded)
            );
            return suback.codes.iter().filter(|code| !code.is_error()).count();
        }
    }
}

fn publish(topic: &str) -> Packet {
    Packet::Publish(Publish {
        topic: text(topic.to_owned()),
        payload: Bytes::from_static(b"x"),
        ..Publish::default()
    })
}

fn goodbye(mut peer: Peer) {
    peer.send(&Packet::Disconnect(Disconnect::default()))
        .expect("it is taken");
    // Everything before it has been done when the connection is closed.
    while peer.recv().is_ok() {}
}

fn groups(port: u16) {
    let mut peer = attacker(port);
    let granted = subscribe(
        &mut peer,
        Qos::AtMostOnce,
        (0..16_000).map(|n| format!("$share/{n}/a")),
    );
    assert_eq!(granted, MAX_SUBSCRIPTIONS);
    goodbye(peer);
}

fn messages_to_groups(port: u16) {
    let mut peer = attacker(port);
    subscribe(
        &mut peer,
        Qos::AtMostOnce,
        (0..MAX_SUBSCRIPTIONS).map(|n| format!("$share/{n}/a")),
    );
    // It reads nothing meanwhile.
    for _ in 0..scale(10, 200) {
        peer.send(&publish("a")).expect("it is taken");
    }
    goodbye(peer);
}

/// All filters of literal levels and `+` that match one topic.
fn overlapping(port: u16) {
    let filter = |n: usize| {
        let levels = (0..14).map(|level| if n >> level & 1 == 0 { "a" } else { "+" });
        levels.collect::<Vec<_>>().join("/")
    };
    let mut peer = attacker(port);
    let granted = subscribe(&mut peer, Qos::AtMostOnce, (0..1 << 14).map(filter));
    assert_eq!(granted, MAX_SUBSCRIPTIONS);
    let topic = filter(0);
    for _ in 0..scale(200, 2_000) {
        peer.send(&publish(&topic)).expect("it is taken");
    }
    goodbye(peer);
}

/// As many different ways as there are filters, each as long as it may be.
fn deep(port: u16) {
    let filter = |n: usize| {
        let levels = (0..127).map(|level| {
            if level < 14 && n >> level & 1 == 1 {
                "+"
            } else {
                "a"
            }
        });
        levels.collect::<Vec<_>>().join("/")
    };
    let mut peer = attacker(port);
    for first in (0..9_000).step_by(3_000) {
        assert_eq!(
            subscribe(&mut peer, Qos::AtMostOnce, (first..first + 3_000).map(filter)),
            3_000
        );
    }
    for _ in 0..scale(20, 200) {
        peer.send(&publish(&filter(0))).expect("it is taken");
    }
    goodbye(peer);
}

fn come_and_go(port: u16) {
    for round in 0..scale(2, 20) {
        let mut peer = attacker(port);
        let filter = |n: usize| format!("{n}/{round}/+/x/#");
        subscribe(&mut peer, Qos::AtLeastOnce, (0..MAX_SUBSCRIPTIONS).map(filter));
        if round % 2 == 0 {
            let packet = Unsubscribe {
                packet_id: PacketId::MIN,
                user_properties: Vec::new(),
                filters: (0..MAX_SUBSCRIPTIONS).map(|n| text(filter(n))).collect(),
            };
            peer.send(&Packet::Unsubscribe(Box::new(packet)))
                .expect("it is taken");
            assert!(matches!(peer.recv(), Ok(Packet::UnsubAck(_))));
        }
        goodbye(peer);
    }
}

fn searches(port: u16) {
    let mut peer = attacker(port);
    for n in 0..scale(1_000, 20_000) {
        let retained = Packet::Publish(Publish {
            retain: true,
            topic: text(format!("r/{n}")),
            payload: Bytes::from_static(b"x"),
            ..Publish::default()
        });
        peer.send(&retained).expect("it is taken");
    }
    for round in 0..scale(3, 20) {
        // Nothing matches, and each has to look at everything.
        let filter = |n: usize| format!("+/{n}/{round}/+");
        subscribe(&mut peer, Qos::AtMostOnce, (0..1_000).map(filter));
        let packet = Unsubscribe {
            packet_id: PacketId::MIN,
            user_properties: Vec::new(),
            filters: (0..1_000).map(|n| text(filter(n))).collect(),
        };
        peer.send(&Packet::Unsubscribe(Box::new(packet)))
            .expect("it is taken");
        assert!(matches!(peer.recv(), Ok(Packet::UnsubAck(_))));
    }
    goodbye(peer);
}

fn reversed(port: u16) {
    let mut peer = attacker(port);
    subscribe(&mut peer, Qos::AtLeastOnce, std::iter::once("q".to_owned()));
    let (mut publisher, _) = Peer::connect(port, "helper", true, 0).expect("it is let in");
    for _ in 0..scale(2, 10) {
        let mut ids = Vec::new();
        for _ in 0..100 {
            publisher
                .publish("q", "x", Some((Qos::AtLeastOnce, 1)), false)
                .expect("it is taken");
            match peer.recv().expect("a message") {
                Packet::Publish(publish) => ids.push(publish.packet_id.expect("QoS 1").get()),
                other => panic!("{other:?} instead of a message"),
            }
        }
        for id in ids.into_iter().rev() {
            peer.ack(headgate_mqtt_codec::AckKind::PubAck, id)
                .expect("it is taken");
        }
        for _ in 0..100 {
            assert!(matches!(publisher.recv(), Ok(Packet::Ack(_))));
        }
    }
    goodbye(peer);
    goodbye(publisher);
}
