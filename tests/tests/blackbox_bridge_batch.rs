//! Batches of a bridge, packed, to Debian's mosquitto, while the gateway is killed: `batch` in docs/bridges.md.

use headgate_bridge::Compression;
use headgate_mqtt_codec::{AckKind, Packet, PacketId, Publish, Qos};
use headgate_tests::blackbox::{Daemon, Message, Mosquitto, Peer, Setup, Transport};
use serde_json::Value;
use std::collections::BTreeSet;

const MESSAGES: usize = 6_000;
/// How often the gateway is killed.
const KILLS: usize = 3;

fn bridged(version: &str, port: u16) -> Setup {
    Setup::with(&format!(
        "node = \"{version}\"\n[[bridges]]\nname = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
         version = \"{version}\"\nuplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n\
         topics = [{{ filter = \"t/#\", qos = 1, remote_prefix = \"far/\", compress = \"zstd\", \
         batch = {{ max_messages = 50, max_wait = \"100ms\", topic = \"batches\" }} }}]\n"
    ))
}

fn publish(daemon: &Daemon<'_>, numbers: std::ops::Range<usize>) {
    let (mut publisher, _) = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0).unwrap();
    let message = |n: usize| Message::new(&format!("t/{}", n % 7), 1, &n.to_string());
    publisher.say(&numbers.map(message).collect::<Vec<_>>());
}

/// The next batch, acknowledged; whether it came packed.
fn hear(remote: &mut Peer) -> (Vec<Value>, bool) {
    let packet = remote.recv().expect("a batch");
    let Packet::Publish(Publish {
        topic,
        packet_id,
        payload,
        ..
    }) = packet
    else {
        panic!("{packet:?}")
    };
    remote
        .ack(AckKind::PubAck, packet_id.map_or(0, PacketId::get))
        .unwrap();
    assert_eq!(topic.as_str(), "batches");
    let how = Compression::of(&payload);
    let array = match how {
        Some(how) => how.unpack(&payload, 1 << 20).expect("it is whole"),
        None => payload,
    };
    (serde_json::from_slice(&array).expect("an array"), how.is_some())
}

/// `kill -9` while batches are gathered and under way: every message that was acknowledged to its publisher arrives at least once, and the books balance.
#[test]
fn packed_batches_lose_nothing_when_the_gateway_is_killed() {
    for version in ["mqttv311", "mqttv50"] {
        let mosquitto = Mosquitto::start("");
        let (mut remote, _) = Peer::connect(mosquitto.port(), "subscriber", false, 3_600).unwrap();
        remote.subscribe("batches", Qos::AtLeastOnce).unwrap();
        let setup = bridged(version, mosquitto.port());
        let mut daemon = setup.start();
        let heard = std::thread::spawn(move || {
            let mut missing: BTreeSet<usize> = (0..MESSAGES).collect();
            let (mut batches, mut packed) = (0, 0);
            while !missing.is_empty() {
                let (array, is_packed) = hear(&mut remote);
                (batches, packed) = (batches + 1, packed + usize::from(is_packed));
                for object in array {
                    let n = usize::try_from(object["payload"].as_u64().expect("a number")).unwrap();
                    assert_eq!(object["topic"], format!("far/t/{}", n % 7));
                    missing.remove(&n);
                }
            }
            (batches, packed)
        });
        let share = MESSAGES / (KILLS + 1);
        for part in 0..=KILLS {
            publish(&daemon, part * share..(part + 1) * share);
            if part < KILLS {
                daemon = daemon.restart();
            }
        }
        let (batches, packed) = heard.join().unwrap();
        assert!(
            batches < MESSAGES / 5,
            "{batches} batches for {MESSAGES} messages"
        );
        assert!(packed > 0, "none of {batches} batches was packed");
        let bridge = daemon.until_bridge("hall", "is empty", |bridge| {
            bridge["queue"]["messages"] == 0 && bridge["queue"]["in_flight"] == 0
        });
        let count = |key: &str| bridge[key].as_u64().unwrap();
        assert!(
            count("batches") > 0 && count("batches") < count("sent"),
            "{bridge}"
        );
        assert!(count("sent") >= count("acknowledged"), "{bridge}");
        let report = daemon.ask(&["bridge", "report", "hall"]);
        // What died with a run is named.
        assert_eq!(
            report["unknown"].as_array().map(Vec::len),
            Some(KILLS),
            "{report}"
        );
        assert_eq!(
            (&report["rejected"], &report["dropped"], &report["queued_after"]),
            (&0.into(), &serde_json::json!({}), &0.into()),
            "{report}"
        );
        assert!(!setup.log().contains("panicked"), "{}", setup.log());
    }
}
