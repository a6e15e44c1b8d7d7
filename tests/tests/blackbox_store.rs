//! `headgate store`: what an operator sees of a store, tried on one that a gateway left behind.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Peer, Setup, Transport, headgate};
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

const MESSAGES: u16 = 50;

/// A gateway with fifty messages for a client that is away, killed.
fn left_behind() -> Setup {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (mut reader, _) = Peer::connect(port, "reader", false, 3600).unwrap();
    reader.subscribe("plant/#", Qos::AtLeastOnce).unwrap();
    reader.vanish();
    let (mut writer, _) = Peer::connect(port, "writer", false, 3600).unwrap();
    for n in 1..=MESSAGES {
        let payload = format!("message {n} {}", "x".repeat(500));
        writer
            .publish("plant/line", &payload, Some((Qos::AtLeastOnce, n)), false)
            .unwrap();
        writer.recv().unwrap();
    }
    daemon.kill();
    setup
}

fn store(setup: &Setup, args: &[&str]) -> Output {
    Command::new(headgate())
        .args(["store", "--config", "headgate.toml"])
        .args(args)
        .current_dir(setup.folder())
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_store_is_checked_counted_dumped_and_compacted() {
    let setup = left_behind();
    let check = store(&setup, &["check", "--json"]);
    let answer = json(&check);
    assert!(check.status.success(), "{check:?}");
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["queued"], MESSAGES);
    assert_eq!(answer["subscriptions"], 1);

    let stats = json(&store(&setup, &["stats", "--json"]));
    assert_eq!(stats["queued"], MESSAGES);
    assert!(stats["disk_bytes"].as_u64().unwrap() > 25_000);

    let dump = store(&setup, &["dump"]);
    let lines: Vec<Value> = String::from_utf8(dump.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let queued = lines.iter().filter(|line| line["queued"] == "plant/line");
    assert_eq!(queued.count(), usize::from(MESSAGES));
    assert!(
        lines
            .iter()
            .any(|line| line["subscription"] == "plant/#" && line["client"] == "reader")
    );

    let compact = store(&setup, &["compact", "--json"]);
    assert!(compact.status.success(), "{compact:?}");
    assert!(json(&compact)["bytes"].as_u64().unwrap() > 25_000);
    assert_eq!(json(&store(&setup, &["check", "--json"]))["ok"], true);
}

#[test]
fn a_damaged_store_is_told_of_and_the_rest_is_kept() {
    let setup = left_behind();
    let journal = setup.folder().join("data/store/journal/0000000001.log");
    scribble(&journal, 12_000);
    let check = store(&setup, &["check", "--json"]);
    assert!(!check.status.success());
    let answer = json(&check);
    assert_eq!(answer["ok"], false);
    assert!(
        answer["queued"].as_u64().unwrap() >= u64::from(MESSAGES) - 3,
        "{answer}"
    );
    let again = json(&store(&setup, &["check", "--json"]));
    assert_eq!(again["ok"], true, "it is told once: {again}");
}

fn scribble(file: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[0xEE; 512], at).unwrap();
}

#[test]
fn a_store_in_use_is_left_alone() {
    let setup = Setup::new();
    let daemon = setup.start();
    let output = store(&setup, &["check"]);
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("in use by another process"), "{words}");
    daemon.stop();
}
