//! What a bridge keeps while its remote is away, and over a link that is bad in every way: nothing is lost, the order stays, the books balance.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Mosquitto, Peer, Proxy, Setup, Transport, Weather};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long mosquitto keeps the subscriber's session, in seconds.
const EXPIRY: u32 = 3_600;
/// The topics take turns, each has a QoS.
const TOPICS: [(&str, u8); 4] = [("t/1", 1), ("t/2", 2), ("t/3", 1), ("t/4", 2)];
const MESSAGES: usize = 2_000;
/// How often the link turns bad.
const FAULTS: usize = 20;

fn bridged(version: &str, port: u16) -> Setup {
    Setup::with(&format!(
        "node = \"{version}\"\n[[bridges]]\nname = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
         version = \"{version}\"\ntopics = [\"t/# out 2\"]\nkeep_alive = \"5s\"\nstalled_after = \"1s\"\n\
         uplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n"
    ))
}

fn message(n: usize) -> Message {
    let (topic, qos) = TOPICS[n % TOPICS.len()];
    Message::new(topic, qos, &n.to_string())
}

fn messages(from: usize, to: usize) -> Vec<Message> {
    (from..to).map(message).collect()
}

fn publish(daemon: &Daemon<'_>, messages: &[Message]) {
    let (mut publisher, _) = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0).unwrap();
    publisher.say(messages);
}

/// The subscriber at the remote, whose session outlives mosquitto.
fn subscriber(mosquitto: &Mosquitto) -> Peer {
    let (mut peer, present) = Peer::connect(mosquitto.port(), "subscriber", false, EXPIRY).unwrap();
    if !present {
        peer.subscribe("t/#", Qos::ExactlyOnce).unwrap();
    }
    peer
}

/// Hears until all the messages below `n` are there.
fn hear_all(peer: &mut Peer, n: usize) -> Vec<Message> {
    let mut missing: BTreeSet<String> = (0..n).map(|n| n.to_string()).collect();
    let mut heard = Vec::new();
    while !missing.is_empty() {
        let message = peer.hear();
        missing.remove(&message.payload);
        heard.push(message);
    }
    heard
}

/// [MQTT-4.6.0-6] In order per topic, QoS 2 once [MQTT-4.3.3-13], QoS 1 at least once; how often more than once.
fn repeats(heard: &[Message]) -> u64 {
    let mut by_topic: BTreeMap<(&str, u8), Vec<usize>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut repeats = 0;
    for message in heard {
        assert!(!message.retain);
        let n = message.payload.parse().unwrap();
        let topic = by_topic.entry((&message.topic, message.qos)).or_default();
        if seen.insert(n) {
            topic.push(n);
        } else {
            assert_eq!(message.qos, 1, "`{n}` came twice");
            repeats += 1;
        }
    }
    for (topic, numbers) in by_topic {
        assert!(TOPICS.contains(&topic), "{topic:?}");
        assert!(numbers.is_sorted(), "{topic:?}: {numbers:?}");
    }
    repeats
}

/// The books balance, and everything that was to go out has been acknowledged or is still there. What died with a run that was killed is named.
fn check_books(daemon: &Daemon<'_>, queued: u64, kills: usize) -> Value {
    let report = daemon.ask(&["bridge", "report", "hall"]);
    assert_eq!(report["adds_up"], kills == 0, "{report}");
    assert_eq!(
        report["unknown"].as_array().map(Vec::len),
        Some(kills),
        "{report}"
    );
    assert_eq!(report["dropped"], serde_json::json!({}), "{report}");
    assert_eq!(
        (&report["rejected"], &report["queued_after"]),
        (&0.into(), &queued.into()),
        "{report}"
    );
    report
}

/// users.md: the remote is away, and the gateway is killed meanwhile. When the remote is back the backlog moves by itself, in order.
#[test]
fn what_is_published_while_the_remote_is_away_arrives_when_it_is_back() {
    for version in ["mqttv311", "mqttv50"] {
        let mut mosquitto = Mosquitto::start("");
        drop(subscriber(&mosquitto));
        mosquitto.stop();
        let setup = bridged(version, mosquitto.port());
        let daemon = setup.start();
        publish(&daemon, &messages(0, 100));
        let daemon = daemon.restart();
        publish(&daemon, &messages(100, 200));
        let daemon = daemon.restart();
        let bridge = daemon.until_bridge("hall", "has queued all", |bridge| {
            bridge["queue"]["messages"] == 200
        });
        assert_ne!(bridge["state"], "connected");
        check_books(&daemon, 200, 2);
        mosquitto.run();
        let heard = hear_all(&mut subscriber(&mosquitto), 200);
        assert_eq!(repeats(&heard), 0, "nothing was sent before: {version}");
        daemon.until_bridge("hall", "is empty", |bridge| {
            bridge["queue"]["messages"] == 0 && bridge["queue"]["in_flight"] == 0
        });
        let report = check_books(&daemon, 0, 2);
        assert_eq!(report["acknowledged"], 200, "{report}");
    }
}

/// users.md: "connected, and nothing flows". Delays, a trickle, silence, half-open links and cuts, at moments that the seed chooses, while messages pass.
#[test]
fn a_bad_link_loses_nothing_and_is_not_called_connected() {
    std::thread::scope(|scope| {
        for (seed, version) in [(7, "mqttv311"), (8, "mqttv50")] {
            scope.spawn(move || bad_link(seed, version));
        }
    });
}

fn bad_link(seed: u64, version: &str) {
    let mosquitto = Mosquitto::start("");
    let mut remote = subscriber(&mosquitto);
    let heard = std::thread::spawn(move || hear_all(&mut remote, MESSAGES));
    let proxy = Proxy::to(mosquitto.port());
    let setup = bridged(version, proxy.port());
    let daemon = setup.start();
    daemon.until_bridge_is("hall", "connected");
    let mut random = fastrand::Rng::with_seed(seed);
    let share = MESSAGES / FAULTS;
    for fault in 0..FAULTS {
        publish(&daemon, &messages(fault * share, fault * share + share / 2));
        match random.u8(0..5) {
            0 => proxy.set(Weather::Delayed),
            1 => proxy.set(Weather::Throttled),
            2 => proxy.set(Weather::BlackHole),
            3 => proxy.halve(),
            _ => proxy.cut(),
        }
        publish(&daemon, &messages(fault * share + share / 2, (fault + 1) * share));
        sleep(Duration::from_millis(random.u64(100..700)));
        if fault == FAULTS / 2 {
            black_hole(&daemon, &proxy);
        }
        proxy.set(Weather::Fair);
        sleep(Duration::from_millis(random.u64(0..300)));
    }
    let repeats = repeats(&heard.join().unwrap());
    let bridge = daemon.until_bridge("hall", "is empty", |bridge| {
        bridge["queue"]["messages"] == 0 && bridge["queue"]["in_flight"] == 0
    });
    let again = bridge["sent_again"].as_u64().unwrap();
    assert!(repeats <= again, "{repeats} repeats, {again} messages with DUP");
    assert!(again > 0, "the link was never bad: {bridge}");
    let report = check_books(&daemon, 0, 0);
    assert_eq!(report["routed"], MESSAGES, "{report}");
    assert_eq!(report["acknowledged"], MESSAGES, "{report}");
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// Nothing comes back any more, and nobody says so. The bridge notices within `stalled_after` and gives up after twice that; as long as the silence
/// lasts it is never called connected again, for the network's word counts for nothing.
fn black_hole(daemon: &Daemon<'_>, proxy: &Proxy) {
    proxy.set(Weather::BlackHole);
    publish(daemon, &[]);
    let silent = |bridge: &Value| bridge["state"] != "connected";
    daemon.until_bridge("hall", "is found silent", silent);
    let since = Instant::now();
    let mut states = BTreeSet::new();
    while since.elapsed() < Duration::from_secs(4) {
        states.insert(daemon.bridge("hall")["state"].as_str().unwrap().to_owned());
    }
    assert!(!states.contains("connected"), "{states:?}");
    let report = daemon.ask(&["bridge", "report", "hall"]);
    assert_eq!(report["adds_up"], true, "{report}");
}
