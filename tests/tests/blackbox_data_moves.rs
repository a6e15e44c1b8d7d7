//! The data folder becomes another one while clients are connected and publish: none of them notices, what is promised is kept, and whoever has either configuration
//! finds the data.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Peer, Setup, Transport, eventually};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const EXPIRY: u32 = 3600;
/// Messages that wait before the data go anywhere.
const WAITING: usize = 300;

/// A fast machine publishes more in the time of a move than may wait otherwise.
const ANY_NUMBER: &str = "[bus]\nmax_queued_messages = 0\n";

/// The configuration, with another data folder.
fn text_with(setup: &Setup, data_dir: &str) -> String {
    let text = fs::read_to_string(setup.folder().join("headgate.toml")).unwrap();
    let others = text.lines().filter(|line| !line.starts_with("data_dir = "));
    let others: Vec<&str> = others.collect();
    format!("data_dir = \"{data_dir}\"\n{}\n", others.join("\n"))
}

fn write_new(setup: &Setup, data_dir: &str) {
    fs::write(setup.folder().join("new.toml"), text_with(setup, data_dir)).unwrap();
}

fn apply(daemon: &Daemon<'_>, data_dir: &str) -> Value {
    write_new(daemon.setup(), data_dir);
    daemon.ask(&["config", "apply", "new.toml"])
}

fn status(daemon: &Daemon<'_>) -> Value {
    daemon.ask(&["status"])
}

/// As the status says it.
fn absolute(daemon: &Daemon<'_>, data_dir: &str) -> Value {
    daemon.setup().folder().join(data_dir).to_str().into()
}

fn has_alarm(daemon: &Daemon<'_>) -> bool {
    let status = status(daemon);
    let mut alarms = status["alarms"].as_array().unwrap().iter();
    alarms.any(|alarm| alarm["id"] == "data_not_moved")
}

fn arrive(daemon: &Daemon<'_>, data_dir: &str) {
    eventually("the data to arrive", || {
        let status = status(daemon);
        let folder = &status["data_dir"];
        (folder["path"] == absolute(daemon, data_dir) && folder["moves_to"] == Value::Null).then_some(())
    });
}

fn message(n: usize) -> Message {
    Message::new("move/x", 1, &format!("{n}"))
}

/// Publishes, one acknowledged message after the other, until the data are there; the number of the next one.
fn publish_until_arrival(daemon: &Daemon<'_>, writer: &mut Peer, data_dir: &str, first: usize) -> usize {
    let mut next = first;
    eventually("the data to arrive", || {
        for _ in 0..50 {
            writer.say(&[message(next)]);
            next += 1;
        }
        (status(daemon)["data_dir"]["path"] == absolute(daemon, data_dir)).then_some(next)
    })
}

/// A session that is away, for which messages wait.
fn away(port: u16) -> Peer {
    let (mut reader, _) = Peer::connect(port, "reader", false, EXPIRY).unwrap();
    reader.subscribe("move/#", Qos::AtLeastOnce).unwrap();
    reader.vanish();
    Peer::connect(port, "writer", false, EXPIRY).unwrap().0
}

fn assert_heard(port: u16, expected: std::ops::Range<usize>) {
    let (mut reader, present) = Peer::connect(port, "reader", false, EXPIRY).unwrap();
    assert!(present, "the session is there");
    let heard: Vec<String> = expected.clone().map(|_| reader.hear().payload).collect();
    let expected: Vec<String> = expected.map(|n| n.to_string()).collect();
    assert_eq!(heard, expected);
    reader.vanish();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_data_go_to_another_folder_and_back_under_clients_that_publish() {
    let setup = Setup::with(ANY_NUMBER);
    let daemon = setup.start();
    let mut writer = away(daemon.port(Transport::Tcp));
    writer.say(&(0..WAITING).map(message).collect::<Vec<_>>());
    daemon.ask(&["bans", "add", "--client", "bad"]);
    daemon.ask(&["trace", "start", "long", "--client", "writer", "--for", "1h"]);

    let applied = apply(&daemon, "elsewhere");
    assert_eq!(applied["changes"], json!(["data_dir: \"data\" → \"elsewhere\""]));
    let there = publish_until_arrival(&daemon, &mut writer, "elsewhere", WAITING);
    arrive(&daemon, "elsewhere");
    let data = setup.folder().join("data");
    eventually("what was left to go", || {
        (names(&data) == ["data-is-in"]).then_some(())
    });
    // What is changed from now on is there.
    daemon.ask(&["bans", "add", "--client", "worse"]);
    writer.say(&[message(there)]);
    let new = setup.folder().join("elsewhere");
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
    for name in [
        "store",
        "audit.log",
        "bans.json",
        "clock",
        "configurations",
        "control.sock",
        "traces",
    ] {
        assert!(new.join(name).exists(), "{name}: {:?}", names(&new));
    }

    let daemon = daemon.restart_as_it_is();
    let port = daemon.port(Transport::Tcp);
    assert_heard(port, 0..there + 1);
    assert_eq!(daemon.ask(&["bans"]).as_array().unwrap().len(), 2);
    let trace = fs::read_to_string(new.join("traces/long.jsonl")).unwrap();
    let lines = trace.lines().count();
    assert!(lines > there - WAITING, "it went on: {lines} lines");

    // Back, to a folder that says where the data are.
    let (mut writer, _) = Peer::connect(port, "writer", false, EXPIRY).unwrap();
    apply(&daemon, "data");
    let back = publish_until_arrival(&daemon, &mut writer, "data", 0);
    arrive(&daemon, "data");
    eventually("what was left to go", || {
        (names(&new) == ["data-is-in"]).then_some(())
    });
    assert!(!data.join("data-is-in").exists());
    assert_heard(port, 0..back);
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// Ends by `kill -9` at moments all over the move: what was acknowledged is there, by the new configuration as by the one before.
#[test]
fn a_move_that_is_cut_off_at_any_moment_loses_nothing() {
    let setup = Setup::with(ANY_NUMBER);
    let mut daemon = setup.start();
    let mut writer = away(daemon.port(Transport::Tcp));
    writer.say(&(0..WAITING).map(message).collect::<Vec<_>>());
    let mut next = WAITING;
    for (round, wait) in [0, 5, 20, 60, 150, 300, 900, 1_500].into_iter().enumerate() {
        let to = ["elsewhere", "data"][round % 2];
        apply(&daemon, to);
        let until = std::time::Instant::now() + std::time::Duration::from_millis(wait);
        while std::time::Instant::now() < until {
            writer.say(&[message(next)]);
            next += 1;
        }
        daemon = daemon.restart_as_it_is();
        (writer, _) = Peer::connect(daemon.port(Transport::Tcp), "writer", false, EXPIRY).unwrap();
        writer.say(&[message(next)]);
        next += 1;
        // It goes on by itself.
        arrive(&daemon, to);
    }
    assert_heard(daemon.port(Transport::Tcp), 0..next);
    eventually("what was left to go", || {
        (names(&setup.folder().join("elsewhere")) == ["data-is-in"]).then_some(())
    });
}

/// A change that is not confirmed goes back, and so do the data.
#[test]
fn the_data_come_back_with_a_change_that_is_not_confirmed() {
    let setup = Setup::new();
    let daemon = setup.start();
    let mut writer = away(daemon.port(Transport::Tcp));
    writer.say(&[message(0)]);
    write_new(&setup, "elsewhere");
    daemon.ask(&["config", "apply", "new.toml", "--confirm", "1h"]);
    arrive(&daemon, "elsewhere");
    writer.say(&[message(1)]);
    // Nobody confirms before the gateway ends.
    let daemon = daemon.restart_as_it_is();
    arrive(&daemon, "data");
    assert_heard(daemon.port(Transport::Tcp), 0..2);
    eventually("what was left to go", || {
        (names(&setup.folder().join("elsewhere")) == ["data-is-in"]).then_some(())
    });
}

/// The configuration that it goes back to names a file that the new one does not name.
#[test]
fn what_an_unconfirmed_change_goes_back_to_is_still_there() {
    let rules = "[auth.acl_file]\nformat = \"mosquitto\"\npath = \"data/secrets/acl\"\n";
    let setup = Setup::with(rules);
    let secrets = setup.folder().join("data/secrets");
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("acl"), "topic readwrite #\n").unwrap();
    let daemon = setup.start();
    let mut writer = away(daemon.port(Transport::Tcp));
    let other = text_with(&setup, "elsewhere").replace(rules.trim(), "");
    assert!(!other.contains("acl"), "{other}");
    fs::write(setup.folder().join("new.toml"), other).unwrap();
    daemon.ask(&["config", "apply", "new.toml", "--confirm", "1h"]);
    arrive(&daemon, "elsewhere");
    writer.say(&[message(0)]);
    eventually("what was left to go", || {
        (names(&setup.folder().join("data")) == ["data-is-in", "secrets"]).then_some(())
    });
    let daemon = daemon.restart_as_it_is();
    arrive(&daemon, "data");
    assert_eq!(
        fs::read_to_string(secrets.join("acl")).unwrap(),
        "topic readwrite #\n"
    );
    assert_heard(daemon.port(Transport::Tcp), 0..1);
}

/// The store was put on another disk by a link, where other things are, and now all of it goes there.
#[test]
fn data_go_to_the_disk_that_the_store_is_on_already() {
    let setup = Setup::new();
    setup.start().stop();
    let (data, disk) = (setup.folder().join("data"), setup.folder().join("disk"));
    fs::create_dir_all(disk.join("photos")).unwrap();
    for name in names(&data.join("store")) {
        fs::rename(data.join("store").join(&name), disk.join(&name)).unwrap();
    }
    fs::remove_dir(data.join("store")).unwrap();
    symlink(&disk, data.join("store")).unwrap();
    let daemon = setup.start();
    let mut writer = away(daemon.port(Transport::Tcp));
    writer.say(&[message(0)]);
    apply(&daemon, "disk");
    arrive(&daemon, "disk");
    eventually("what was left to go", || {
        (names(&data) == ["data-is-in", "store"]).then_some(())
    });
    writer.say(&[message(1)]);
    let daemon = daemon.restart_as_it_is();
    assert_heard(daemon.port(Transport::Tcp), 0..2);
    assert!(disk.join("photos").exists() && !disk.join("journal").exists());
}

/// What the configuration names by its old path stays there.
#[test]
fn files_that_the_configuration_names_stay_where_they_are() {
    let setup = Setup::with(
        "[log.file]\npath = \"data/own.log\"\n[auth.acl_file]\nformat = \"mosquitto\"\npath = \"data/secrets/acl\"\n",
    );
    let secrets = setup.folder().join("data/secrets");
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("acl"), "topic readwrite #\n").unwrap();
    let daemon = setup.start();
    apply(&daemon, "elsewhere");
    arrive(&daemon, "elsewhere");
    eventually("what was left to go", || {
        (names(&setup.folder().join("data")) == ["data-is-in", "own.log", "secrets"]).then_some(())
    });
    assert!(setup.folder().join("elsewhere/secrets/acl").exists());
    let daemon = daemon.restart_as_it_is();
    assert_eq!(
        status(&daemon)["data_dir"]["path"],
        absolute(&daemon, "elsewhere")
    );
}

#[test]
fn a_folder_that_cannot_have_the_data_is_refused_and_nothing_has_changed() {
    let setup = Setup::new();
    let daemon = setup.start();
    let valid = fs::read_to_string(setup.folder().join("headgate.toml")).unwrap();
    fs::create_dir(setup.folder().join("theirs")).unwrap();
    fs::write(setup.folder().join("theirs/users.json"), "{}").unwrap();
    fs::write(setup.folder().join("file"), "").unwrap();
    for (folder, told) in [
        ("theirs", "data of a gateway already"),
        ("data/below", "none of both may be in the other"),
        ("file", "it is a file, not a folder"),
        ("/proc/headgate", "/proc"),
        ("~/data", "`~` stands for nothing here"),
    ] {
        write_new(&setup, folder);
        let (_, complaint) = setup.command(&["config", "apply", "new.toml"]).unwrap_err();
        assert!(
            complaint.contains(told) && complaint.contains("new.toml:1:1: data_dir: "),
            "{folder}: {complaint}"
        );
    }
    assert_eq!(
        fs::read_to_string(setup.folder().join("headgate.toml")).unwrap(),
        valid
    );
    assert_eq!(
        status(&daemon)["data_dir"],
        json!({ "path": absolute(&daemon, "data"), "moves_to": null })
    );
    assert_eq!(names(&setup.folder().join("theirs")), ["users.json"]);
    assert!(!setup.folder().join("data/below").exists());
}

/// What keeps the data where they are is told by an alarm as long as it stands; another folder, or the one of before, is the way out.
#[test]
fn data_that_cannot_go_stay_and_the_alarm_says_why() {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let mut writer = away(port);
    writer.say(&[message(0)]);
    // Nobody can make a store there.
    let to = setup.folder().join("elsewhere");
    fs::create_dir(&to).unwrap();
    fs::create_dir(to.join("control.sock")).unwrap();
    apply(&daemon, "elsewhere");
    eventually("the alarm", || has_alarm(&daemon).then_some(()));
    writer.say(&[message(1)]);
    assert_eq!(
        status(&daemon)["data_dir"],
        json!({ "path": absolute(&daemon, "data"), "moves_to": absolute(&daemon, "elsewhere") })
    );
    // Commands by the new configuration find the gateway where it is, and so does a start.
    let daemon = daemon.restart_as_it_is();
    eventually("the alarm", || has_alarm(&daemon).then_some(()));
    let (mut writer, _) = Peer::connect(daemon.port(Transport::Tcp), "writer", false, EXPIRY).unwrap();
    writer.say(&[message(2)]);
    apply(&daemon, "data");
    eventually("the end of the alarm", || (!has_alarm(&daemon)).then_some(()));
    assert_eq!(names(&to), ["control.sock", "data-is-in"]);
    apply(&daemon, "third");
    arrive(&daemon, "third");
    assert_heard(daemon.port(Transport::Tcp), 0..3);
}

/// Its disk is not mounted any more, and the configuration is read again for another reason.
#[test]
fn a_new_folder_that_is_another_one_by_now_gets_nothing_until_somebody_says_so() {
    let setup = Setup::new();
    let daemon = setup.start();
    let to = setup.folder().join("elsewhere");
    fs::create_dir_all(to.join("control.sock")).unwrap();
    apply(&daemon, "elsewhere");
    eventually("the alarm", || has_alarm(&daemon).then_some(()));
    fs::remove_dir_all(&to).unwrap();
    fs::create_dir(&to).unwrap();
    let file = setup.folder().join("headgate.toml");
    let other = format!("{}[mqtt]\nmax_qos = 1\n", fs::read_to_string(&file).unwrap());
    fs::write(&file, other).unwrap();
    let told = Command::new("kill")
        .args(["-HUP", &daemon.pid().to_string()])
        .status();
    assert!(told.unwrap().success());
    eventually("it to be told", || {
        setup
            .log()
            .contains("does not say any more that the data are in")
            .then_some(())
    });
    assert!(names(&to).is_empty());
    symlink(setup.folder().join("data"), to.join("data-is-in")).unwrap();
    assert!(has_alarm(&daemon));
    let daemon = daemon.restart_as_it_is();
    arrive(&daemon, "elsewhere");
}

/// A disk that is not mounted is not taken for an empty folder.
#[test]
fn a_start_that_is_led_to_no_data_is_refused() {
    let setup = Setup::new();
    let daemon = setup.start();
    apply(&daemon, "elsewhere");
    arrive(&daemon, "elsewhere");
    daemon.stop();
    let (away, old): (PathBuf, PathBuf) = (setup.folder().join("away"), setup.folder().join("elsewhere"));
    fs::rename(&old, &away).unwrap();
    fs::write(setup.folder().join("headgate.toml"), text_with(&setup, "data")).unwrap();
    let (_, complaint) = setup.command(&["users", "list"]).unwrap_err();
    assert!(
        complaint.contains("data-is-in") && complaint.contains("remove it if"),
        "{complaint}"
    );
    fs::rename(&away, &old).unwrap();
    let daemon = setup.start_as_it_is();
    arrive(&daemon, "data");
}

/// `headgate users` writes the file itself, also where a gateway runs.
#[test]
fn users_that_are_added_meanwhile_go_along() {
    let setup = Setup::new();
    let daemon = setup.start();
    fs::write(setup.folder().join("password"), "correct horse\n").unwrap();
    let is_over = AtomicBool::new(false);
    let added = std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let mut added = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let name = format!("user-{}", added.len());
                let words = ["users", "add", &name, "--password-file", "password"];
                setup.command(&words).unwrap();
                added.push(name);
            }
            added
        });
        for to in ["elsewhere", "data", "elsewhere"] {
            apply(&daemon, to);
            arrive(&daemon, to);
        }
        is_over.store(true, Ordering::Relaxed);
        adding.join().unwrap()
    });
    let mut users: Vec<String> =
        serde_json::from_value(daemon.ask(&["users", "list"])["users"].clone()).unwrap();
    let mut added = added;
    added.sort();
    users.sort();
    assert_eq!(users, added);
}
