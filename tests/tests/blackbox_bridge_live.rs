//! What operators do with bridges while the gateway runs: one bridge is concerned, its queue stays, everybody else does not notice.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{
    Certificates, Daemon, Message, Mosquitto, Peer, Setup, Transport, eventually, free_port,
};
use std::path::Path;
use std::process::Command;

fn say(daemon: &Daemon<'_>, payloads: &[&str]) {
    let (mut publisher, _) = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0).unwrap();
    let messages = payloads.iter().map(|payload| Message::new("t/x", 1, payload));
    publisher.say(&messages.collect::<Vec<_>>());
}

fn listener(mosquitto: &Mosquitto, filter: &str) -> Peer {
    let (mut listener, _) = Peer::connect(mosquitto.port(), "listener", true, 0).unwrap();
    listener.subscribe(filter, Qos::ExactlyOnce).unwrap();
    listener
}

fn settings(name: &str, mosquitto: &Mosquitto) -> String {
    format!(
        "name = \"{name}\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\n\
         uplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n",
        mosquitto.port()
    )
}

/// users.md: change a bridge without restarting the broker, and keep its queue.
#[test]
fn a_bridge_is_added_changed_paused_flushed_and_removed() {
    let mosquitto = Mosquitto::start("");
    let setup = Setup::with("node = \"live\"");
    let daemon = setup.start();
    let mut remote = listener(&mosquitto, "#");
    let first = settings("cloud", &mosquitto) + "topics = [\"t/# out 1\"]\n";
    assert_eq!(daemon.add_bridge(&first), "added");
    daemon.until_bridge_is("cloud", "connected");
    assert_eq!(daemon.add_bridge(&first), "unchanged");
    assert_eq!(mosquitto.connects("cloud.live"), 1);
    say(&daemon, &["1"]);
    assert_eq!(remote.hear(), Message::new("t/x", 1, "1"));

    // It stays paused over a restart, and what goes out is queued.
    daemon.ask(&["bridge", "pause", "cloud"]);
    daemon.until_bridge_is("cloud", "paused");
    say(&daemon, &["2"]);
    let daemon = daemon.restart();
    say(&daemon, &["3"]);
    let bridge = daemon.until_bridge("cloud", "has queued both", |bridge| {
        bridge["queue"]["messages"] == 2
    });
    assert_eq!(
        (&bridge["state"], &bridge["paused"]),
        (&"paused".into(), &true.into())
    );
    assert_eq!(mosquitto.connects("cloud.live"), 1);

    // The queue outlives a change. What was queued goes by the new name.
    let second = settings("cloud", &mosquitto) + "topics = [\"t/# out 1 \\\"\\\" from/\"]\n";
    assert_eq!(daemon.add_bridge(&second), "changed");
    assert_eq!(daemon.bridge("cloud")["queue"]["messages"], 2);
    daemon.ask(&["bridge", "resume", "cloud"]);
    for payload in ["2", "3"] {
        assert_eq!(remote.hear(), Message::new("from/t/x", 1, payload));
    }

    // What is not acknowledged stays in the queue.
    daemon.until_bridge("cloud", "has sent all", |bridge| bridge["acknowledged"] == 2);
    daemon.ask(&["bridge", "pause", "cloud"]);
    daemon.until_bridge_is("cloud", "paused");
    say(&daemon, &["4", "5"]);
    assert_eq!(daemon.ask(&["bridge", "flush", "cloud"])["flushed"], 2);
    say(&daemon, &["6"]);
    daemon.ask(&["bridge", "resume", "cloud"]);
    assert_eq!(remote.hear().payload, "6", "what was flushed is gone");
    let report = daemon.ask(&["bridge", "report", "cloud"]);
    // What died with the run that was killed is named.
    assert_eq!(report["unknown"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(
        (&report["adds_up"], &report["dropped"]["flushed"]),
        (&false.into(), &2.into()),
        "{report}"
    );

    daemon.ask(&["bridge", "remove", "cloud"]);
    assert_eq!(daemon.ask(&["bridges"]), serde_json::json!([]));
    assert!(setup.command(&["bridge", "show", "cloud"]).is_err());
    let daemon = daemon.restart();
    assert_eq!(daemon.ask(&["bridges"]), serde_json::json!([]));
}

/// A bridge of the configuration is changed there, and `headgate reload` reads it again: the other one's connection stays.
#[test]
fn a_reload_concerns_what_has_changed() {
    let mosquitto = Mosquitto::start("");
    let bridge = |name: &str, filter: &str| {
        let settings = settings(name, &mosquitto);
        format!("[[bridges]]\n{settings}topics = [\"{filter} out 1\"]\n")
    };
    let setup = Setup::with(&format!(
        "node = \"live\"\n{}{}",
        bridge("one", "t/#"),
        bridge("two", "u/#")
    ));
    let daemon = setup.start();
    for name in ["one", "two"] {
        daemon.until_bridge_is(name, "connected");
    }
    let file = setup.folder().join("headgate.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let changes = |config: &str| {
        std::fs::write(&file, config).unwrap();
        daemon.ask(&["reload"])["bridges"].clone()
    };
    let unchanged = serde_json::json!({ "one": "unchanged", "two": "unchanged" });
    assert_eq!(changes(&config), unchanged);
    let changed = config.replace("[\"t/# out 1\"]", "[\"t/# out 1\", \"v/# out 1\"]");
    assert_eq!(
        changes(&changed),
        serde_json::json!({ "one": "changed", "two": "unchanged" })
    );
    daemon.until_bridge_is("one", "connected");
    assert_eq!(
        [mosquitto.connects("one.live"), mosquitto.connects("two.live")],
        [2, 1]
    );
    let mut remote = listener(&mosquitto, "v/#");
    let (mut publisher, _) = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0).unwrap();
    publisher.say(&[Message::new("v/x", 1, "new")]);
    assert_eq!(remote.hear(), Message::new("v/x", 1, "new"));

    // What cannot be is refused as a whole, and nothing is touched.
    std::fs::write(&file, config.replace("u/# out 1", "u/# sideways 1")).unwrap();
    let (_, error) = setup.command(&["reload"]).unwrap_err();
    assert!(error.contains("sideways"), "{error}");
    std::fs::write(&file, &changed).unwrap();
    assert_eq!(daemon.bridge("two")["state"], "connected");
    // To go on is nothing to one that goes on.
    daemon.ask(&["bridge", "resume", "two"]);
    assert_eq!(
        [mosquitto.connects("one.live"), mosquitto.connects("two.live")],
        [2, 1]
    );
    // An added bridge must not take a configured one's name.
    std::fs::write(setup.folder().join("added.toml"), settings("one", &mosquitto)).unwrap();
    assert!(setup.command(&["bridge", "add", "added.toml"]).is_err());

    // One that is gone is told; its queue is kept until somebody takes it away.
    let without = changed.replace(&bridge("two", "u/#"), "");
    assert_eq!(
        changes(&without),
        serde_json::json!({ "one": "unchanged", "two": "gone" })
    );
    daemon.ask(&["bridge", "remove", "two"]);
    assert!(setup.command(&["bridge", "remove", "two"]).is_err());
}

/// The password file of mosquitto, made by its own tool.
fn set_password(file: &Path, password: &str) {
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(file)
        .args(["ann", password])
        .status();
    assert!(made.unwrap().success());
}

/// `allow_anonymous` of the first listener does not count for this one.
fn with_password(password: &str) -> (Mosquitto, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    set_password(&folder.path().join("passwords"), password);
    let file = folder.path().join("passwords");
    let mosquitto = Mosquitto::start(&format!(
        "allow_anonymous false\npassword_file {}",
        file.display()
    ));
    (mosquitto, folder)
}

/// users.md: a token is renewed by whoever writes the file; the bridge comes back with it by itself.
#[test]
fn a_changed_password_file_is_used_at_once() {
    let (mosquitto, folder) = with_password("old");
    let ours = folder.path().join("ours");
    std::fs::write(&ours, "old\n").unwrap();
    let setup = Setup::with("node = \"live\"");
    let daemon = setup.start();
    let login = format!("login = {{ username = \"ann\", password_file = {ours:?} }}\n");
    daemon.add_bridge(&(settings("cloud", &mosquitto) + &login));
    daemon.until_bridge_is("cloud", "connected");
    assert_eq!(mosquitto.connects("cloud.live"), 1);
    set_password(&folder.path().join("passwords"), "new");
    mosquitto.reload();
    std::fs::write(&ours, "new\n").unwrap();
    eventually("the bridge to come back", || {
        (mosquitto.connects("cloud.live") == 2).then_some(())
    });
    daemon.until_bridge_is("cloud", "connected");
}

/// `headgate bridge test` walks the way and fails with the first step that fails.
#[test]
fn a_test_names_the_step_that_fails() {
    let (mosquitto, folder) = with_password("right");
    let certificates = Certificates::create(folder.path());
    let secured = free_port();
    let tls = Mosquitto::start(&format!(
        "listener {secured} 127.0.0.1\ncertfile {}\nkeyfile {}",
        certificates.certificate.display(),
        certificates.key.display()
    ));
    let setup = Setup::with("node = \"live\"");
    let daemon = setup.start();
    let login = |password: &str| format!("login = {{ username = \"ann\", password = \"{password}\" }}\n");
    let address = |address: &str| format!("name = \"cloud\"\naddresses = [\"{address}\"]\n");
    let localhost = format!("mqtts://localhost:{secured}");
    let trusting = |ca: &Path| address(&localhost) + &format!("tls.ca = {ca:?}\n");
    for (settings, failing) in [
        (settings("cloud", &mosquitto) + &login("right"), None),
        (trusting(&certificates.ca), None),
        (address("mqtt://no-such-host.invalid"), Some("name")),
        (
            address(&format!("mqtt://127.0.0.1:{}", free_port())),
            Some("network"),
        ),
        // The gateway's own authority has not signed it.
        (trusting(setup.ca()), Some("tls")),
        (settings("cloud", &mosquitto) + &login("wrong"), Some("login")),
    ] {
        daemon.add_bridge(&settings);
        let (findings, failed) = match setup.command(&["bridge", "test", "cloud"]) {
            Ok(findings) => (findings, String::new()),
            Err(failure) => failure,
        };
        let bad: Vec<_> = findings.iter().filter(|finding| finding["ok"] == false).collect();
        let steps: Vec<_> = bad
            .iter()
            .filter_map(|finding| finding["step"].as_str())
            .collect();
        assert_eq!(steps, failing.into_iter().collect::<Vec<_>>(), "{findings:?}");
        match failing {
            Some(step) => assert!(failed.contains(&format!("`{step}` failed")), "{failed}"),
            None => assert_eq!(findings.last().unwrap()["step"], "round_trip", "{findings:?}"),
        }
    }
    drop(tls);
}
