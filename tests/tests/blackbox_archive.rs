//! `headgate export` and `headgate restore`, with the real binary: a gateway dies, another takes its place, and no client notices.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Message, Peer, Setup, Transport, eventually, headgate};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn retained(topic: &str, payload: &str) -> Message {
    Message {
        retain: true,
        ..Message::new(topic, 1, payload)
    }
}

#[test]
fn a_replaced_gateway_goes_on_where_the_old_one_stopped() {
    let old = Setup::new();
    let daemon = old.start();
    let port = daemon.port(Transport::Tcp);
    let mut keeper = Peer::connect(port, "keeper", true, 3_600).unwrap().0;
    keeper.subscribe("t/#", Qos::ExactlyOnce).unwrap();
    keeper.vanish();
    let mut publisher = Peer::connect(port, "publisher", true, 0).unwrap().0;
    let messages: Vec<Message> = (0..300)
        .map(|n| Message::new("t/x", if n % 2 == 0 { 1 } else { 2 }, &n.to_string()))
        .collect();
    publisher.say(&messages);
    publisher.say(&[retained("state/door", "open")]);
    daemon.ask(&["bans", "add", "--client", "intruder"]);

    // While it runs, and goes on: what comes later is not in it.
    let answer = daemon.ask(&["export", "running.archive"]);
    assert_eq!(answer["store"]["queued"], 300, "{answer}");
    let left = old.folder().join("data/store/exporting");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
    let (_, told) = old
        .command(&["restore", "running.archive", "--force"])
        .unwrap_err();
    assert!(told.contains("a gateway runs with this data folder"), "{told}");
    publisher.say(&[Message::new("u/later", 1, "not for keeper")]);
    daemon.kill();
    let answer = old.command(&["export", "a.archive"]).unwrap().remove(0);
    assert_eq!(answer["format"], 1);
    assert_eq!(answer["store"]["queued"], 300);
    // There are some of `$SYS`, too.
    assert!(answer["store"]["retained"].as_u64().unwrap() >= 1);
    let archive = old.folder().join("a.archive");
    assert_eq!(
        std::fs::metadata(&archive).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let copy = Setup::new();
    let running = old.folder().join("running.archive");
    copy.command(&["restore", running.to_str().unwrap()]).unwrap();
    let daemon = copy.start();
    assert!(
        !copy.log().contains("part of the store could not be read"),
        "{}",
        copy.log()
    );
    let (mut keeper, present) = Peer::connect(daemon.port(Transport::Tcp), "keeper", false, 3_600).unwrap();
    assert!(present);
    let came: Vec<Message> = messages.iter().map(|_| keeper.hear()).collect();
    assert_eq!(came, messages);
    drop((keeper, daemon));

    // A folder without anything: the archive brings the configuration.
    let new = Setup::new();
    let archive = archive.to_str().unwrap();
    new.command(&["restore", archive]).unwrap();
    let brought = std::fs::read_to_string(new.folder().join("headgate.toml")).unwrap();
    assert_eq!(
        brought,
        std::fs::read_to_string(old.folder().join("headgate.toml")).unwrap()
    );
    let daemon = new.start();
    let port = daemon.port(Transport::Tcp);
    let (mut keeper, present) = Peer::connect(port, "keeper", false, 3_600).unwrap();
    assert!(present);
    let came: Vec<Message> = messages.iter().map(|_| keeper.hear()).collect();
    assert_eq!(came, messages);
    // And nothing of it twice.
    let mut other = Peer::connect(port, "other", true, 0).unwrap().0;
    other.say(&[Message::new("t/end", 1, "end")]);
    assert_eq!(keeper.hear().payload, "end");
    other.subscribe("state/#", Qos::AtMostOnce).unwrap();
    assert_eq!(other.hear().payload, "open");
    let bans = daemon.ask(&["bans", "list"]);
    assert!(bans.to_string().contains("intruder"), "{bans}");
    assert!(Peer::connect(port, "intruder", true, 0).is_err());

    // What is there is not written over by accident, and never by half.
    daemon.kill();
    let (_, told) = new.command(&["restore", archive]).unwrap_err();
    assert!(told.contains("holds data already"), "{told}");
    let damaged = new.folder().join("damaged");
    let mut bytes = std::fs::read(archive).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&damaged, bytes).unwrap();
    let (_, told) = new.command(&["restore", "damaged", "--force"]).unwrap_err();
    assert!(told.contains("archive"), "{told}");
    let daemon = new.start();
    let (keeper, present) = Peer::connect(daemon.port(Transport::Tcp), "keeper", false, 3_600).unwrap();
    assert!(present);
    drop(keeper);
    daemon.stop();

    let answer = new.command(&["restore", archive, "--force"]).unwrap().remove(0);
    let aside = new.folder().join(answer["replaced"].as_str().unwrap());
    assert!(aside.join("store/journal").is_dir());
    let daemon = new.start();
    let (mut keeper, present) = Peer::connect(daemon.port(Transport::Tcp), "keeper", false, 3_600).unwrap();
    assert!(present);
    assert_eq!(keeper.hear(), messages[0]);
    daemon.stop();
}

/// An archive may come from anybody: its configuration writes nothing but beside itself and in its data folder, unless that is wanted.
#[test]
fn an_archive_writes_where_it_is_told_and_nowhere_else() {
    let (setup, elsewhere) = (Setup::new(), tempfile::tempdir().unwrap());
    let rules = elsewhere.path().join("etc/rules.acl");
    std::fs::create_dir(elsewhere.path().join("etc")).unwrap();
    std::fs::write(&rules, "topic read #\n").unwrap();
    let config = setup.folder().join("headgate.toml");
    let text = format!("data_dir = \"data\"\n[auth.acl_file]\nformat = \"mosquitto\"\npath = {rules:?}\n");
    std::fs::write(&config, text).unwrap();
    let data = setup.folder().join("data");
    std::fs::create_dir(&data).unwrap();
    setup.command(&["export", "a.archive"]).unwrap();
    std::fs::remove_file(&config).unwrap();
    std::fs::remove_dir_all(elsewhere.path().join("etc")).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    let (_, told) = setup.command(&["restore", "a.archive"]).unwrap_err();
    assert!(told.contains("rules.acl") && told.contains("--outside"), "{told}");
    assert!(!elsewhere.path().join("etc").exists() && !config.exists());
    setup.command(&["restore", "a.archive", "--outside"]).unwrap();
    assert_eq!(std::fs::read_to_string(&rules).unwrap(), "topic read #\n");
    assert!(config.exists());

    // Its configuration may call any folder its data folder, such as one of scripts that root runs.
    std::fs::remove_file(&config).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("script"), "echo").unwrap();
    let (_, told) = setup.command(&["restore", "a.archive"]).unwrap_err();
    assert!(told.contains("what is there is no gateway's"), "{told}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
}

/// A copy of a gateway that is busy: everything that was acknowledged before it is in it, once and in order, whatever checkpoints and segments come and go meanwhile.
#[test]
fn a_busy_gateway_is_exported_without_a_stop() {
    let old = Setup::new();
    let daemon = old.start();
    let port = daemon.port(Transport::Tcp);
    let mut keeper = Peer::connect(port, "keeper", true, 3_600).unwrap().0;
    keeper.subscribe("t/#", Qos::AtLeastOnce).unwrap();
    keeper.vanish();
    let payload = |n: usize| format!("{n:0>16384}");
    let acknowledged = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let exported: Vec<usize> = std::thread::scope(|scope| {
        let (acknowledged, over) = (&acknowledged, &over);
        scope.spawn(move || {
            let mut publisher = Peer::connect(port, "publisher", true, 0).unwrap().0;
            // Several checkpoints' worth; a queue has room for 64 MiB.
            for n in 0..3_500 {
                publisher.say(&[Message::new("t/x", 1, &payload(n))]);
                acknowledged.store(n + 1, Ordering::SeqCst);
                if over.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let exports = (0..4).map(|n| {
            eventually("messages", || {
                (acknowledged.load(Ordering::SeqCst) >= 500 * n + 10).then_some(())
            });
            let before = acknowledged.load(Ordering::SeqCst);
            daemon.ask(&["export", &format!("{n}.archive")]);
            before
        });
        let exports = exports.collect();
        over.store(true, Ordering::SeqCst);
        exports
    });
    daemon.kill();
    for (n, before) in exported.into_iter().enumerate() {
        let new = Setup::new();
        let archive = old.folder().join(format!("{n}.archive"));
        new.command(&["restore", archive.to_str().unwrap()]).unwrap();
        let daemon = new.start();
        assert!(
            !new.log().contains("part of the store could not be read"),
            "{}",
            new.log()
        );
        let mut keeper = Peer::connect(daemon.port(Transport::Tcp), "keeper", false, 3_600)
            .unwrap()
            .0;
        for n in 0..before {
            assert_eq!(keeper.hear().payload, payload(n));
        }
    }
}

/// The disk for the archive is full: the export says where it wants room, and leaves nothing there. In a namespace of its own, where a test may mount a disk.
#[cfg(target_os = "linux")]
#[test]
fn an_export_onto_a_full_disk_says_what_to_do() {
    let in_namespace = |script: &str, folder: &Path| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script])
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .expect("unshare runs")
    };
    let setup = Setup::new();
    let mount = "mkdir -p small && mount -t tmpfs -o size=16k,mode=755 tmpfs small";
    if !in_namespace(mount, setup.folder()).status.success() {
        return; // This system lets nobody but root mount anything.
    }
    let daemon = setup.start();
    let mut publisher = Peer::connect(daemon.port(Transport::Tcp), "publisher", true, 0)
        .unwrap()
        .0;
    for n in 0..64 {
        // What does not get smaller by compression.
        let noise = std::iter::repeat_with(fastrand::alphanumeric).take(4_096);
        publisher.say(&[retained(&format!("noise/{n}"), &noise.collect::<String>())]);
    }
    let script = format!(
        "{mount}; if {} export small/a.archive --config headgate.toml; then exit 7; fi; ls -A small",
        headgate().display()
    );
    let output = in_namespace(&script, setup.folder());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("no room in small for the archive") && told.contains("another disk"),
        "{told}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing is left");
    let left = setup.folder().join("data/store/exporting");
    assert_eq!(
        std::fs::read_dir(left).unwrap().count(),
        0,
        "nor of the copy of the store"
    );
    daemon.ask(&["export", "a.archive"]);
    // Nor is there room for what is restored.
    std::fs::write(setup.folder().join("small.toml"), "data_dir = \"small/data\"\n").unwrap();
    let script = format!(
        "{mount}; if {} restore a.archive --config small.toml; then exit 7; fi",
        headgate().display()
    );
    let output = in_namespace(&script, setup.folder());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("no room in ") && told.contains(" bytes: free some there, or name another data folder"),
        "{told}"
    );
}
