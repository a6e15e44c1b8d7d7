//! `uplink.start` of a bridge to Debian's mosquitto: when it comes and goes, and what waits meanwhile. `adapters/bridge/tests/uplink.rs` has the timelines.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Mosquitto, Peer, Setup, Transport, free_port, headgate};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whatever is done within a second or two has happened by then.
const SOME_LOOKS: Duration = Duration::from_secs(3);

fn settings(mosquitto: &Mosquitto, uplink: &str) -> String {
    format!(
        "name = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\ntopics = [\"t/# out 1\"]\n\
         uplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n{uplink}\n",
        mosquitto.port()
    )
}

fn bridged(mosquitto: &Mosquitto, uplink: &str) -> Setup {
    let settings = settings(mosquitto, uplink);
    Setup::with(&format!("node = \"start\"\n[[bridges]]\n{settings}"))
}

fn say(daemon: &Daemon<'_>, numbers: std::ops::Range<u32>) {
    let (mut publisher, _) = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0).unwrap();
    let messages = numbers.map(|n| Message::new("t/x", 1, &n.to_string()));
    publisher.say(&messages.collect::<Vec<_>>());
}

/// A subscriber whose session outlives mosquitto's restarts.
fn listener(mosquitto: &Mosquitto) -> Peer {
    let (mut peer, present) = Peer::connect(mosquitto.port(), "listener", false, 3_600).unwrap();
    if !present {
        peer.subscribe("t/#", Qos::AtLeastOnce).unwrap();
    }
    peer
}

fn hears(remote: &mut Peer, numbers: std::ops::Range<u32>) {
    for n in numbers {
        assert_eq!(remote.hear().payload, n.to_string());
    }
}

/// Nothing is sent, and nobody connects, though there was time to.
fn stays_idle(daemon: &Daemon<'_>, mosquitto: &Mosquitto, queued: u32) {
    let connects = mosquitto.connects("hall.start");
    daemon.until_bridge("hall", "is idle with its queue", |bridge| {
        bridge["state"] == "idle" && bridge["queue"]["messages"] == queued
    });
    sleep(SOME_LOOKS);
    let bridge = daemon.bridge("hall");
    assert_eq!(
        (&bridge["state"], &bridge["queue"]["messages"]),
        (&"idle".into(), &queued.into())
    );
    assert_eq!(mosquitto.connects("hall.start"), connects);
}

/// users.md: a modem that costs by the minute. What waits counts over a `kill -9`, too.
#[test]
fn a_lazy_bridge_comes_when_enough_waits_and_leaves_when_nothing_does() {
    let mosquitto = Mosquitto::start("");
    let mut remote = listener(&mosquitto);
    let lazy = "uplink.start = \"lazy\"\nuplink.lazy = { threshold = 5, idle_timeout = \"6s\" }";
    let setup = bridged(&mosquitto, lazy);
    let daemon = setup.start();
    say(&daemon, 0..4);
    stays_idle(&daemon, &mosquitto, 4);
    let daemon = daemon.restart();
    stays_idle(&daemon, &mosquitto, 4);
    assert_eq!(mosquitto.connects("hall.start"), 0);
    say(&daemon, 4..5);
    hears(&mut remote, 0..5);
    // While it is there one is enough.
    say(&daemon, 5..6);
    hears(&mut remote, 5..6);
    assert_eq!(mosquitto.connects("hall.start"), 1);
    daemon.until_bridge_is("hall", "idle");
    say(&daemon, 6..8);
    stays_idle(&daemon, &mosquitto, 2);
    say(&daemon, 8..11);
    hears(&mut remote, 6..11);
    assert_eq!(mosquitto.connects("hall.start"), 2);
    // What died with the run that was killed is named.
    let report = daemon.ask(&["bridge", "report", "hall"]);
    assert_eq!(report["unknown"].as_array().map(Vec::len), Some(1), "{report}");
}

/// One connection for each start of the gateway, or when an operator asks for it.
#[test]
fn a_bridge_that_connects_once_does_not_come_back_by_itself() {
    let mut mosquitto = Mosquitto::start("");
    let mut remote = listener(&mosquitto);
    let setup = bridged(&mosquitto, "uplink.start = \"once\"");
    let daemon = setup.start();
    daemon.until_bridge_is("hall", "connected");
    say(&daemon, 0..2);
    hears(&mut remote, 0..2);
    daemon.until_bridge("hall", "has sent all", |bridge| bridge["acknowledged"] == 2);
    mosquitto.stop();
    daemon.until_bridge_is("hall", "idle");
    mosquitto.run();
    let mut remote = listener(&mosquitto);
    say(&daemon, 2..4);
    stays_idle(&daemon, &mosquitto, 2);
    daemon.ask(&["bridge", "resume", "hall"]);
    hears(&mut remote, 2..4);
    // What is not acknowledged when the remote goes comes once more.
    daemon.until_bridge("hall", "has sent all", |bridge| bridge["acknowledged"] == 4);

    // Nobody is there at the start: that was the one try.
    mosquitto.stop();
    daemon.until_bridge_is("hall", "idle");
    let daemon = daemon.restart();
    daemon.until_bridge("hall", "has tried", |bridge| {
        bridge["state"] == "idle" && !bridge["last_error"].is_null()
    });
    mosquitto.run();
    let mut remote = listener(&mosquitto);
    say(&daemon, 4..6);
    stays_idle(&daemon, &mosquitto, 2);
    let daemon = daemon.restart();
    daemon.until_bridge_is("hall", "connected");
    hears(&mut remote, 4..6);
}

/// Which addresses failed and why, and when it tries again; and a bridge that stands in the file alone.
#[test]
fn a_bridge_that_reaches_nobody_tells_all_of_it() {
    let ports = [free_port(), free_port()];
    let file = |name: &str| {
        let [one, two] = ports;
        format!(
            "[[bridges]]\nname = \"{name}\"\naddresses = [\"mqtt://127.0.0.1:{one}\", \"mqtt://127.0.0.1:{two}\"]\n\
             topics = [\"t/# out 1\"]\nuplink.restart_timeout = {{ base = \"60s\", cap = \"60s\" }}\n"
        )
    };
    let setup = Setup::with(&format!("node = \"start\"\n{}", file("hall")));
    let daemon = setup.start();
    let bridge = daemon.until_bridge_is("hall", "backing_off");
    let failures = bridge["failures"].as_object().unwrap();
    for port in ports {
        let error = failures[&format!("127.0.0.1:{port}")].as_str().unwrap();
        assert!(error.contains("Connection refused"), "{bridge}");
    }
    let next = bridge["next_try_seconds"].as_u64().unwrap();
    assert!((1..=60).contains(&next), "{bridge}");
    let words = |args: &[&str]| {
        let mut command = Command::new(headgate());
        command
            .args(args)
            .args(["--config", "headgate.toml"])
            .current_dir(setup.folder());
        let output = command.output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&both).into_owned()
    };
    let shown = words(&["bridge", "show", "hall"]);
    assert!(
        shown.contains(&format!("failures.127.0.0.1:{}: cannot connect", ports[1])),
        "{shown}"
    );
    assert!(words(&["bridges"]).contains("NEXT s"));
    let report = words(&["bridge", "report", "hall"]);
    assert!(report.contains("from: 20") && report.contains("Z\n"), "{report}");

    let path = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + &file("new")).unwrap();
    for action in ["test", "show", "pause"] {
        let told = words(&["bridge", action, "new"]);
        assert!(
            told.contains("no bridge `new` yet, the configuration has: `headgate reload` first"),
            "{told}"
        );
    }
    assert!(words(&["bridge", "show", "ghost"]).contains("there is no bridge `ghost`"));

    drop(daemon);
    // Without a gateway the way is walked from here.
    let (findings, error) = setup.command(&["bridge", "test", "hall"]).unwrap_err();
    assert!(
        findings.iter().filter(|finding| finding["ok"] == false).count() == 2,
        "{findings:?}"
    );
    assert!(
        error.contains("no gateway runs") && error.contains("the step `network` failed"),
        "{error}"
    );
    let (_, error) = setup.command(&["bridge", "test", "no-such"]).unwrap_err();
    assert!(error.contains("no gateway answers at"), "{error}");
}

/// Seconds since midnight, UTC.
fn time_of_day() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since_1970.as_secs() % 86_400
}

/// A window from some minutes before this minute to some after it.
fn window(before: u64, after: u64) -> String {
    let minute = time_of_day() / 60 + 1_440;
    let time = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let (from, until) = (time(minute - before), time(minute + after));
    format!("uplink.start = \"window\"\nuplink.windows = [\"{from}-{until}\"]")
}

/// users.md: data goes at night. What is published by day waits.
#[test]
fn a_bridge_with_a_window_connects_in_it_and_not_outside() {
    let mosquitto = Mosquitto::start("");
    let mut remote = listener(&mosquitto);
    let setup = Setup::with("node = \"start\"");
    let daemon = setup.start();
    // It ended half an hour ago.
    let ended = window(60, 1_440 - 30);
    daemon.add_bridge(&settings(&mosquitto, &ended));
    say(&daemon, 0..3);
    stays_idle(&daemon, &mosquitto, 3);
    let daemon = daemon.restart();
    stays_idle(&daemon, &mosquitto, 3);

    // The end of this one is near, and not so near that nothing goes before it.
    let minutes = 1 + u64::from(time_of_day() % 60 > 40);
    daemon.add_bridge(&settings(&mosquitto, &window(30, minutes)));
    hears(&mut remote, 0..3);
    daemon.until_bridge_is("hall", "idle");
    let connects = mosquitto.connects("hall.start");
    assert_eq!(connects, 1);
    say(&daemon, 3..5);
    stays_idle(&daemon, &mosquitto, 2);

    // Two windows, of which one is open.
    let open = window(30, 30).replace("[\"", "[\"00:00-00:01\", \"");
    daemon.add_bridge(&settings(&mosquitto, &open));
    hears(&mut remote, 3..5);
    daemon.until_bridge_is("hall", "connected");
}
