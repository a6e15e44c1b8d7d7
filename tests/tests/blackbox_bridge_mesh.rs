//! Three brokers, linked with each other, carry everything both ways: each message arrives once, and traffic dies out. users.md: "bridging `#` both ways
//! melts both brokers". Our reading: docs/interpretations.md#links-and-loops.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Mosquitto, Peer, Setup, Transport, eventually};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

fn gateways(sections: &str) -> [Setup; 3] {
    ["a", "b", "c"].map(|node| Setup::with(&format!("node = \"{node}\"\nauth.links = [\"*\"]\n{sections}")))
}

/// A bridge that carries everything both ways.
fn link(from: &Daemon<'_>, name: &str, to: u16, version: &str) {
    from.add_bridge(&format!(
        "name = \"{name}\"\naddresses = [\"mqtt://127.0.0.1:{to}\"]\nversion = \"{version}\"\ntopics = [\"# both 1\"]\n"
    ));
    from.until_bridge_is(name, "connected");
}

fn port(daemon: &Daemon<'_>) -> u16 {
    daemon.port(Transport::Tcp)
}

/// Messages that the gateways' bridges sent and received.
fn traffic(daemons: &[&Daemon<'_>]) -> Vec<(String, u64, u64)> {
    let mut traffic = Vec::new();
    for daemon in daemons {
        for bridge in daemon.ask(&["bridges"]).as_array().unwrap() {
            let [sent, received] = ["sent", "received"].map(|key| bridge[key].as_u64().unwrap());
            traffic.push((bridge["name"].to_string(), sent, received));
        }
    }
    traffic
}

/// Publishes at every broker, and counts at every broker how often each message came when nothing moves any more.
fn flood(brokers: [u16; 3], daemons: &[&Daemon<'_>]) -> [BTreeMap<String, usize>; 3] {
    let mut listeners = brokers.map(|broker| {
        let (mut listener, _) = Peer::connect(broker, "listener", true, 0).unwrap();
        listener.subscribe("t/#", Qos::ExactlyOnce).unwrap();
        listener
    });
    for (n, broker) in brokers.into_iter().enumerate() {
        let (mut publisher, _) = Peer::connect(broker, "publisher", true, 0).unwrap();
        let messages = (0..10).map(|m| Message::new(&format!("t/{n}"), m % 2, &format!("{n}-{m}")));
        publisher.say(&messages.collect::<Vec<_>>());
    }
    eventually("traffic to die out", || {
        let before = traffic(daemons);
        sleep(Duration::from_secs(1));
        (traffic(daemons) == before).then_some(())
    });
    let mut counts = brokers.map(|_| BTreeMap::new());
    for ((broker, listener), counts) in brokers.into_iter().zip(&mut listeners).zip(&mut counts) {
        // Behind all that came by the links.
        let (mut publisher, _) = Peer::connect(broker, "end", true, 0).unwrap();
        publisher.say(&[Message::new("t/end", 1, &format!("end of {broker}"))]);
        for message in listener.until(&format!("end of {broker}")) {
            *counts.entry(message.payload).or_insert(0) += 1;
        }
        counts.retain(|payload, _| !payload.starts_with("end"));
    }
    counts
}

fn check_once(counts: &[BTreeMap<String, usize>]) {
    for counts in counts {
        assert_eq!(counts.len(), 30, "{counts:?}");
        assert!(counts.values().all(|n| *n == 1), "{counts:?}");
    }
}

/// Each has a bridge to both others, so two links join each pair. MQTT 5: the path goes with the message.
#[test]
fn three_gateways_of_version_5_each_linked_with_both_others() {
    let setups = gateways("");
    let daemons = setups.each_ref().map(Setup::start);
    let brokers = daemons.each_ref().map(port);
    for (n, daemon) in daemons.iter().enumerate() {
        for to in [(n + 1) % 3, (n + 2) % 3] {
            link(daemon, &format!("to-{to}"), brokers[to], "mqttv50");
        }
    }
    check_once(&flood(brokers, &daemons.each_ref()));
}

/// MQTT 3 has no path: copies are counted by link.
#[test]
fn a_ring_of_three_gateways_of_version_3() {
    let setups = gateways("");
    let daemons = setups.each_ref().map(Setup::start);
    let brokers = daemons.each_ref().map(port);
    for (n, daemon) in daemons.iter().enumerate() {
        link(daemon, "next", brokers[(n + 1) % 3], "mqttv311");
    }
    check_once(&flood(brokers, &daemons.each_ref()));
}

/// Where every broker is linked with every other, nothing has to go through: `bus.links.transit = false`. mosquitto passes on what it gets all the same;
/// the gateways know those copies.
#[test]
fn two_gateways_and_mosquitto_without_transit() {
    for version in ["mqttv311", "mqttv50"] {
        let setups = gateways("[bus.links]\ntransit = false\n");
        let [a, b] = [&setups[0], &setups[1]].map(Setup::start);
        let mosquitto = Mosquitto::start("");
        link(&a, "b", port(&b), version);
        link(&a, "mosquitto", mosquitto.port(), version);
        link(&b, "mosquitto", mosquitto.port(), version);
        let brokers = [port(&a), port(&b), mosquitto.port()];
        check_once(&flood(brokers, &[&a, &b]));
    }
}

/// mosquitto with connections to both gateways.
fn mosquitto_linked_with(daemons: [&Daemon<'_>; 2], version: &str) -> Mosquitto {
    let connections = daemons.map(|daemon| {
        let port = port(daemon);
        format!(
            "connection c{port}\naddress 127.0.0.1:{port}\ntopic # both 1\nbridge_protocol_version {version}\n\
             remote_clientid mosquitto\nlocal_clientid local.{port}\n"
        )
    });
    let mosquitto = Mosquitto::start(&connections.concat());
    for daemon in daemons {
        let (mut probe, _) = Peer::connect(port(daemon), "probe", true, 0).unwrap();
        probe
            .subscribe("$SYS/broker/connection/mosquitto/state", Qos::AtMostOnce)
            .unwrap();
        probe.until("1");
        // It is subscribed when a message comes through.
        let topic = format!("ready/{}", port(daemon));
        let (mut listener, _) = Peer::connect(mosquitto.port(), "probe", true, 0).unwrap();
        listener.subscribe(&topic, Qos::AtMostOnce).unwrap();
        let ready = Message {
            retain: true,
            ..Message::new(&topic, 1, "retained before it subscribes or live after")
        };
        probe.say(&[ready]);
        listener.hear();
    }
    mosquitto
}

/// The same with mosquitto as the one that connects.
#[test]
fn mosquitto_linked_with_two_gateways() {
    for version in ["mqttv311", "mqttv50"] {
        let setups = gateways("[bus.links]\ntransit = false\n");
        let [a, b] = [&setups[0], &setups[1]].map(Setup::start);
        link(&a, "b", port(&b), version);
        let mosquitto = mosquitto_linked_with([&a, &b], version);
        check_once(&flood([port(&a), port(&b), mosquitto.port()], &[&a, &b]));
    }
}

/// Two links join each pair. mosquitto tells one of them what came by the other and keeps no count, so its copies look like messages that were published
/// there: they may come twice. None is lost, and it ends.
#[test]
fn mosquitto_linked_twice_with_each_gateway() {
    for version in ["mqttv311", "mqttv50"] {
        let setups = gateways("[bus.links]\ntransit = false\n");
        let [a, b] = [&setups[0], &setups[1]].map(Setup::start);
        let mosquitto = mosquitto_linked_with([&a, &b], version);
        for (from, name, to) in [(&a, "b", port(&b)), (&b, "a", port(&a))] {
            link(from, name, to, version);
            link(from, "mosquitto", mosquitto.port(), version);
        }
        for counts in flood([port(&a), port(&b), mosquitto.port()], &[&a, &b]) {
            assert_eq!(counts.len(), 30, "{counts:?}");
        }
    }
}
