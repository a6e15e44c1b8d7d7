//! Why the gateway was started, and what is done when no uplink is connected for long: docs/appliance.md.

use headgate_tests::blackbox::{HttpClient, Mosquitto, Setup, eventually};
use serde_json::Value;
use std::fs;

fn newest(setup: &Setup) -> (Value, Value) {
    let starts = setup.command(&["starts"]).unwrap();
    let start = starts[0]["rows"][0].clone();
    (start["what"].clone(), start["why"].clone())
}

#[test]
fn each_start_says_why_the_run_before_it_ended() {
    let setup = Setup::new();
    let daemon = setup.start();
    assert_eq!(newest(&setup), ("machine".into(), "first".into()));
    setup.said(&["restart"]);
    assert_eq!(newest(&setup), ("gateway".into(), "restart".into()));
    daemon.stop();
    let daemon = setup.start();
    assert_eq!(newest(&setup), ("gateway".into(), "stopped".into()));
    daemon.kill();
    let daemon = setup.start();
    assert_eq!(newest(&setup), ("gateway".into(), "lost".into()));
    let told = setup.said(&["starts"]);
    assert!(
        told.contains("nobody knows: a power cut, a crash, or it was killed"),
        "{told}"
    );
    daemon.stop();
}

#[test]
fn a_gateway_without_uplink_resets_the_modem_and_then_the_machine_and_has_more_patience_each_time() {
    let mut remote = Mosquitto::new("");
    let port = remote.port();
    let bridge = format!(
        "[[bridges]]\nname = \"cloud\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\ntopics = [\"up/# out 1\"]\n"
    );
    let recovery = "[recovery]\nafter = \"10s\"\nreset = [\"touch\", \"modem-was-reset\"]\nreboot = true\n\
        [firmware]\nreboot = [\"touch\", \"rebooted\"]\n";
    let setup = Setup::with(&format!("node = \"gate\"\n{bridge}{recovery}"));
    let daemon = setup.start();
    let is_there = |name: &str| setup.folder().join(name).exists().then_some(());
    eventually("the modem is reset", || is_there("modem-was-reset"));
    assert!(is_there("rebooted").is_none(), "one step after the other");
    eventually("the machine is started anew", || is_there("rebooted"));
    let log = setup.log();
    assert!(log.contains("all try again at once"), "{log}");
    let rounds = || fs::read_to_string(setup.folder().join("data/recovery")).unwrap();
    assert_eq!(rounds(), "1");
    daemon.kill();

    // The machine would be away now. The gateway knows why it is back, and goes on from there.
    let daemon = setup.start();
    assert_eq!(newest(&setup).1, "recovery");
    assert_eq!(rounds(), "1");
    remote.run();
    daemon.until_bridge_is("cloud", "connected");
    eventually("what holds ten seconds begins anew", || {
        (rounds() == "0").then_some(())
    });
    daemon.stop();
}

#[test]
fn what_cannot_be_is_told_with_the_key() {
    let setup = Setup::new();
    let daemon = setup.start();
    let control = HttpClient::control(&daemon);
    for (text, key) in [
        ("[recovery]\nafter = \"1s\"\n", "recovery.after"),
        (
            "[recovery]\nafter = \"1h\"\nlongest = \"1m\"\n",
            "recovery.longest",
        ),
        ("[recovery]\nuplinks = [\"cloud\"]\n", "recovery.uplinks"),
    ] {
        let checked = control.post(
            "/api/v1/configuration/preview",
            &serde_json::json!({ "toml": text }),
        );
        assert!(checked.text().contains(key), "{}", checked.text());
    }
    daemon.stop();
}
