//! What is retained at both sides of a bridge when one of them changed, or forgot, while the other was away: Debian's mosquitto is the remote.
//! \[3.1.1 MQTT-3.8.4-3\] \[MQTT-3.3.1-6\] \[MQTT-3.3.1-10\]

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Mosquitto, Peer, Setup, Transport, eventually};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv50"];
/// After so long it does not come any more.
const PATIENCE: Duration = Duration::from_secs(30);

fn bridged(version: &str, mosquitto: &Mosquitto, lines: &str) -> Setup {
    Setup::with(&format!(
        "node = \"{version}\"\n[[bridges]]\nname = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\nversion = \"{version}\"\n\
         topics = [\"t/# both 1\", \"up/# out 1\"]\nuplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n{lines}\n",
        mosquitto.port()
    ))
}

fn here(daemon: &Daemon<'_>) -> u16 {
    daemon.port(Transport::Tcp)
}

/// Retained messages at QoS 1; an empty payload clears.
fn keep(port: u16, values: &[(&str, &str)]) {
    let (mut peer, _) = Peer::connect(port, "keeper", true, 0).unwrap();
    let messages = values.iter().map(|(topic, payload)| Message {
        retain: true,
        ..Message::new(topic, 1, payload)
    });
    peer.say(&messages.collect::<Vec<_>>());
}

/// What a broker retains.
fn kept(port: u16) -> BTreeMap<String, String> {
    let (mut peer, _) = Peer::connect(port, "late", true, 0).unwrap();
    peer.subscribe("#", Qos::AtLeastOnce).unwrap();
    peer.publish("end", "end", None, false).unwrap();
    let heard = peer.until("end").into_iter().filter(|message| message.retain);
    heard.map(|message| (message.topic, message.payload)).collect()
}

/// Waits until the brokers retain this and nothing else.
fn until_kept(ports: &[u16], wanted: &[(&str, &str)], case: &str) {
    let wanted = wanted
        .iter()
        .map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned()));
    let wanted: BTreeMap<String, String> = wanted.collect();
    for port in ports {
        let mut seen = BTreeMap::new();
        let start = Instant::now();
        while seen != wanted {
            assert!(
                start.elapsed() < PATIENCE,
                "{case}: {seen:?} instead of {wanted:?}"
            );
            seen = kept(*port);
        }
    }
}

fn until_sent(daemon: &Daemon<'_>) {
    daemon.until_bridge("hall", "is connected and empty", |bridge| {
        bridge["state"] == "connected"
            && bridge["queue"]["messages"] == 0
            && bridge["queue"]["in_flight"] == 0
    });
}

/// How often the bridge subscribed.
fn subscribes(mosquitto: &Mosquitto, version: &str) -> usize {
    mosquitto
        .log()
        .matches(&format!("Received SUBSCRIBE from hall.{version}"))
        .count()
}

/// What was changed or cleared here while the link was down wins at both sides, also over a kill of the gateway, and where the remote kept no session; what was
/// changed there comes here.
#[test]
fn what_is_newer_wins_at_both_sides() {
    for version in VERSIONS {
        for (killed, lines) in [
            (false, ""),
            (true, ""),
            (false, "clean_session = true"),
            (true, "clean_session = true"),
        ] {
            let case = format!("{version}, killed: {killed}, {lines}");
            let mosquitto = Mosquitto::start("");
            let setup = bridged(version, &mosquitto, lines);
            let mut daemon = setup.start();
            until_sent(&daemon);
            let both = [here(&daemon), mosquitto.port()];
            let old = [("t/changed", "old"), ("t/cleared", "old"), ("t/there", "old")];
            keep(both[0], &old);
            until_kept(&both, &old, &case);
            until_sent(&daemon);
            daemon.ask(&["bridge", "pause", "hall"]);
            daemon.until_bridge_is("hall", "paused");
            keep(both[0], &[("t/changed", "new"), ("t/cleared", "")]);
            keep(both[1], &[("t/there", "new"), ("t/first", "new")]);
            if killed {
                daemon = daemon.restart();
            }
            daemon.ask(&["bridge", "resume", "hall"]);
            until_sent(&daemon);
            let new = [("t/changed", "new"), ("t/first", "new"), ("t/there", "new")];
            until_kept(&both, &new, &case);
            // Nothing is on its way that would change it.
            keep(both[1], &[("t/last", "new")]);
            let new = [&new[..2], &[("t/last", "new")], &new[2..]].concat();
            until_kept(&both, &new, &case);
        }
    }
}

/// Session Present, and the same topics: nothing is subscribed anew. Session Present 0, for the remote lost its file: it gets what is retained here.
#[test]
fn a_remote_that_remembers_is_not_asked_and_one_that_forgot_is_told() {
    for version in VERSIONS {
        let mut mosquitto = Mosquitto::start("");
        let setup = bridged(version, &mosquitto, "");
        let daemon = setup.start();
        until_sent(&daemon);
        let both = [here(&daemon), mosquitto.port()];
        let values = [("t/x", "1"), ("up/x", "2")];
        keep(both[0], &values);
        until_kept(&both, &values, version);
        let asked = subscribes(&mosquitto, version);
        let connects = mosquitto.connects(&format!("hall.{version}"));
        mosquitto.stop();
        mosquitto.run();
        eventually("the bridge", || {
            (mosquitto.connects(&format!("hall.{version}")) > connects).then_some(())
        });
        until_sent(&daemon);
        assert_eq!(subscribes(&mosquitto, version), asked, "{version}");
        until_kept(&both, &values, version);
        mosquitto.stop();
        keep(both[0], &[("up/late", "3")]);
        std::fs::remove_file(mosquitto.folder().join("mosquitto.db")).unwrap();
        mosquitto.run();
        until_kept(&both, &[("t/x", "1"), ("up/late", "3"), ("up/x", "2")], version);
        assert!(subscribes(&mosquitto, version) > asked, "{version}");
    }
}
