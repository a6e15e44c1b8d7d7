//! The configuration is changed while the gateway runs: who is connected does not notice, and what cannot be changes nothing.

use headgate_mqtt_codec::{Packet, PacketId, Qos, ReasonCode, Subscribe, SubscribeFilter, SubscribeOptions};
use headgate_tests::blackbox::{
    Daemon, HANG, Message, Peer, Setup, SnPeer, Transport, eventually, free_port, headgate,
};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

fn file(setup: &Setup) -> std::path::PathBuf {
    setup.folder().join("headgate.toml")
}

fn text(setup: &Setup) -> String {
    std::fs::read_to_string(file(setup)).unwrap()
}

/// Makes this the configuration, without another word.
fn apply(daemon: &Daemon<'_>, text: &str) -> Value {
    let new = daemon.setup().folder().join("new.toml");
    std::fs::write(new, text).unwrap();
    daemon.ask(&["config", "apply", "new.toml"])
}

/// The same for what is refused; the complaint.
fn refused(daemon: &Daemon<'_>, words: &[&str], text: &str) -> String {
    std::fs::write(daemon.setup().folder().join("new.toml"), text).unwrap();
    let (_, complaint) = daemon.setup().command(words).unwrap_err();
    complaint
}

fn listener(name: &str, port: u16) -> String {
    format!("[[listeners]]\nname = \"{name}\"\nbind = \"127.0.0.1:{port}\"\n")
}

/// It is there and takes what is said.
fn round_trip(peer: &mut Peer, payload: &str) {
    peer.say(&[Message::new("t/x", 0, payload)]);
    assert_eq!(peer.hear(), Message::new("t/x", 0, payload));
}

fn connected(port: u16, id: &str) -> Peer {
    let (mut peer, _) = Peer::connect(port, id, true, 0).unwrap();
    peer.subscribe("t/#", Qos::AtLeastOnce).unwrap();
    peer
}

#[test]
fn nobody_is_disconnected_by_a_change() {
    let sn_port = free_port();
    let sn = format!("[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n");
    let setup = Setup::with(&sn);
    let daemon = setup.start();
    let gateway: SocketAddr = format!("127.0.0.1:{sn_port}").parse().unwrap();
    let mut sensor = SnPeer::new(gateway, "sensor");
    sensor.connect(true, 60, None);
    let mut stays = connected(daemon.port(Transport::Tcp), "stays");

    let new_port = free_port();
    let before = text(&setup);
    let changed = before
        .replace(
            &sn,
            &format!(
                "{sn}receive_buffer_bytes = 65536\ngateway.retry_interval = \"3s\"\ngateway.max_clients = 1\n"
            ),
        )
        .replace(
            "name = \"tcp\"\n",
            "name = \"tcp\"\nmount_point = \"new/\"\nmax_connections = 2\nbacklog = 64\n",
        )
        + "[mqtt]\nmax_qos = 1\n[bus]\nmax_subscriptions = 1\n[sys]\ninterval = \"1s\"\n[store]\nmax_bytes = 100000000\n"
        + &listener("more", new_port);
    let applied = apply(&daemon, &changed);
    assert_eq!(
        applied["listeners"],
        json!({ "tcp": "changed", "more": "added", "mqttsn/sn": "changed" })
    );
    assert_eq!(text(&setup), changed, "the file says what is valid");

    // Who is there goes on as before.
    round_trip(&mut stays, "1");
    sensor.publish(&Message::new("t/x", 1, "2"));
    assert_eq!(stays.hear(), Message::new("t/x", 1, "2"));

    // Who comes has what is valid now: his topics are others, and one subscription is enough.
    let mut comes = connected(daemon.port(Transport::Tcp), "comes");
    round_trip(&mut comes, "4");
    let mut more = connected(new_port, "more");
    round_trip(&mut more, "5");
    assert_eq!(stays.hear().payload, "5", "`new/t/x` was for others");
    let third = Peer::connect(daemon.port(Transport::Tcp), "third", true, 0);
    assert!(third.is_err(), "there is room for two");
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        identifier: None,
        user_properties: Vec::new(),
        filters: vec![SubscribeFilter {
            filter: "other".into(),
            options: SubscribeOptions::qos(Qos::AtMostOnce),
        }],
    };
    more.send(&Packet::Subscribe(Box::new(subscribe))).unwrap();
    let Ok(Packet::SubAck(answer)) = more.recv() else {
        panic!("no answer");
    };
    assert_eq!(answer.codes, [ReasonCode::QuotaExceeded]);
    // MQTT-SN 1.2 §5.4.5: CONNACK, congestion: there is room for one.
    let late = UdpSocket::bind("127.0.0.1:0").unwrap();
    late.set_read_timeout(Some(HANG)).unwrap();
    late.send_to(b"\x0a\x04\x04\x01\x00\x3clate", gateway).unwrap();
    let mut answer = [0; 16];
    let len = late.recv(&mut answer).unwrap();
    assert_eq!(answer[..len], [3, 5, 1]);

    // The same again changes nothing.
    let again = apply(&daemon, &changed);
    assert_eq!((&again["changes"], &again["listeners"]), (&json!([]), &json!({})));
    round_trip(&mut comes, "6");
}

/// A listener that is gone or listens elsewhere takes its clients with it; theirs is the only loss.
/// What was told under the old name is told under the new one, and who asks under the old name finds nothing.
#[test]
fn the_gateway_gets_another_name() {
    let setup = Setup::with("");
    let daemon = setup.start();
    let mut stays = connected(daemon.port(Transport::Tcp), "stays");
    let base = text(&setup);
    let renamed = format!("node = \"plant7\"\n{base}[alarms]\nmin_free_disk_bytes = 9000000000000000000\n");
    apply(&daemon, &renamed);
    let told = |node: &str, what: &str| {
        let retained = daemon.ask(&["retained", "--filter", &format!("$SYS/brokers/{node}/{what}")]);
        retained.as_array().is_some_and(|all| !all.is_empty())
    };
    let alarm = "alarms/disk_low/alert";
    eventually("the new name", || {
        (told("plant7", "version") && told("plant7", alarm)).then_some(())
    });
    assert!(!told("headgate@127.0.0.1", "version"));
    assert_eq!(daemon.ask(&["status"])["node"], "plant7");

    let again = renamed.replace("plant7", "plant8");
    apply(&daemon, &again);
    eventually("the newer name", || {
        (told("plant8", "version") && told("plant8", alarm)).then_some(())
    });
    assert!(!told("plant7", "version") && !told("plant7", alarm));
    round_trip(&mut stays, "still here");

    // It goes by what was told, and what was told before is promised as much.
    for durability in ["process-crash", "memory", "power-loss"] {
        let text = format!("{again}[store]\ndurability = \"{durability}\"\n");
        apply(&daemon, &text);
        round_trip(&mut stays, durability);
    }
}

#[test]
fn a_listener_moves_and_goes_with_its_clients_alone() {
    let setup = Setup::new();
    let daemon = setup.start();
    let (first, second) = (free_port(), free_port());
    let base = text(&setup);
    apply(
        &daemon,
        &(base.clone() + &listener("a", first) + &listener("b", second)),
    );
    let mut stays = connected(daemon.port(Transport::Tcp), "stays");
    let mut on_a = connected(first, "on-a");
    let mut on_b = connected(second, "on-b");
    round_trip(&mut stays, "0");
    assert_eq!([on_a.hear().payload, on_b.hear().payload], ["0", "0"]);

    // `a` takes the address of `b`, which takes that of `a`.
    let applied = apply(
        &daemon,
        &(base.clone() + &listener("a", second) + &listener("b", first)),
    );
    assert_eq!(applied["listeners"], json!({ "a": "moved", "b": "moved" }));
    for gone in [&mut on_a, &mut on_b] {
        // [MQTT-3.14.4-3]: 0x8B, the server shuts down, and then the connection is over.
        assert!(matches!(gone.recv(), Ok(Packet::Disconnect(_))));
        assert!(gone.recv().is_err());
    }
    let mut again = connected(second, "again");
    round_trip(&mut again, "1");
    assert_eq!(stays.hear().payload, "1");

    let applied = apply(&daemon, &base);
    assert_eq!(applied["listeners"], json!({ "a": "removed", "b": "removed" }));
    assert!(matches!(again.recv(), Ok(Packet::Disconnect(_))));
    for port in [first, second] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
    round_trip(&mut stays, "2");
}

#[test]
fn what_cannot_be_changes_nothing() {
    let setup = Setup::new();
    let daemon = setup.start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free_port();
    let before = text(&setup) + &listener("own", port);
    apply(&daemon, &before);
    let mut stays = connected(port, "stays");
    let apply_new: &[&str] = &["config", "apply", "new.toml"];

    // Somebody else has the address: `own` gives its own away for nothing, and gets it back.
    let wrong = before.replace(
        &format!(":{port}\""),
        &format!(":{}\"", taken.local_addr().unwrap().port()),
    ) + "[mqtt]\nmax_qos = 0\n[[auth.acl]]\neffect = \"deny\"\n";
    let complaint = refused(&daemon, apply_new, &wrong);
    assert!(
        complaint.contains("listener `own` cannot listen on"),
        "{complaint}"
    );
    round_trip(&mut stays, "1");
    round_trip(&mut connected(port, "comes"), "2");

    // Each fault is told with its line in the file that was given.
    let wrong = format!("{before}[mqtt]\nmax_qos = 7\n[sys]\npresence_qos = 7\n");
    let complaint = refused(&daemon, apply_new, &wrong);
    let line = wrong.lines().count();
    for told in [
        format!(
            "new.toml:{}:1: mqtt.max_qos: 7 is out of range, allowed is 0 to 2",
            line - 2
        ),
        format!("new.toml:{line}:1: sys.presence_qos: 7"),
    ] {
        assert!(complaint.contains(&told), "{told}\n{complaint}");
    }
    assert_eq!(text(&setup), before);
    assert_eq!(daemon.ask(&["config", "show"])["toml"], before);
    let preview = daemon.ask(&["config", "diff", "headgate.toml"]);
    assert_eq!(preview["changes"], json!([]));
}

#[test]
fn one_goes_back_to_what_was_valid() {
    let setup = Setup::new();
    let daemon = setup.start();
    let first = text(&setup);
    let with_qos = |qos: u8| format!("{first}[mqtt]\nmax_qos = {qos}\n");
    for qos in [1, 0] {
        apply(&daemon, &with_qos(qos));
    }
    let history = daemon.ask(&["config", "history"]);
    let by = |history: &Value| -> Vec<String> {
        let entries = history["configurations"].as_array().unwrap().iter();
        entries
            .map(|entry| entry["by"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(by(&history), ["start", "apply", "apply"]);
    assert_eq!(
        history["configurations"][2]["changes"],
        json!(["mqtt.max_qos: 1 → 0"])
    );

    // What going back would change is shown before; a file of such a name is meant by its path.
    let preview = daemon.ask(&["config", "diff", "2"]);
    assert_eq!(preview["changes"], json!(["mqtt.max_qos: 0 → 1"]));
    std::fs::write(setup.folder().join("2"), with_qos(0)).unwrap();
    assert_eq!(daemon.ask(&["config", "diff", "./2"])["changes"], json!([]));
    let (_, complaint) = setup.command(&["config", "diff", "99"]).unwrap_err();
    assert!(complaint.contains("there is no configuration 99"), "{complaint}");

    let back = daemon.ask(&["config", "rollback"]);
    assert_eq!(back["changes"], json!(["mqtt.max_qos: 0 → 1"]));
    assert_eq!(text(&setup), with_qos(1));
    let back = daemon.ask(&["config", "rollback", "1"]);
    assert_eq!(back["number"], 5);
    assert_eq!(text(&setup), first);
    let (_, complaint) = setup.command(&["config", "rollback", "99"]).unwrap_err();
    assert!(complaint.contains("there is no configuration 99"), "{complaint}");

    // The history outlives the gateway; a start with what was valid is no new entry.
    let daemon = daemon.restart();
    let history = daemon.ask(&["config", "history"]);
    assert_eq!(
        by(&history)[..5],
        ["start", "apply", "apply", "rollback", "rollback"]
    );
    assert_eq!(daemon.ask(&["config", "show", "3"])["toml"], with_qos(0));
}

/// A change that cuts off who made it undoes itself: when the time is over, and by a restart.
#[test]
fn what_is_not_confirmed_goes_back() {
    let setup = Setup::new();
    let daemon = setup.start();
    let first = text(&setup);
    let other = format!("{first}[mqtt]\nmax_qos = 1\n");
    let apply_for = |daemon: &Daemon<'_>, time: &str| {
        std::fs::write(setup.folder().join("new.toml"), &other).unwrap();
        daemon.ask(&["config", "apply", "new.toml", "--confirm", time])
    };
    let applied = apply_for(&daemon, "1s");
    assert!(applied["confirm_until"].is_u64(), "{applied}");
    eventually("it to go back", || (text(&setup) == first).then_some(()));
    eventually("it to be settled", || {
        let history = daemon.ask(&["config", "history"]);
        history["confirm_until"].is_null().then_some(())
    });
    assert_eq!(daemon.ask(&["config", "show"])["toml"], first);
    let went_back = |daemon: &Daemon<'_>| {
        let history = daemon.ask(&["config", "history"]);
        let last = history["configurations"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        (last["by"].clone(), last["changes"].clone())
    };
    let back_to = |number: u64| {
        let changes = serde_json::json!([format!("back to {number}"), "mqtt.max_qos: 1 → 2"]);
        ("not_confirmed".into(), changes)
    };
    assert_eq!(went_back(&daemon), back_to(1));

    apply_for(&daemon, "1h");
    let complaint = refused(&daemon, &["config", "apply", "new.toml"], &first);
    assert!(complaint.contains("waits to be confirmed"), "{complaint}");
    daemon.ask(&["config", "confirm"]);
    assert_eq!(text(&setup), other);
    let (_, complaint) = setup.command(&["config", "confirm"]).unwrap_err();
    assert!(complaint.contains("no configuration waits"), "{complaint}");

    daemon.ask(&["config", "rollback", "1"]);
    apply_for(&daemon, "1h");
    assert_eq!(text(&setup), other);
    // The machine is switched off and on again by somebody on site. What it is started with is what was before.
    let daemon = daemon.restart_as_it_is();
    assert_eq!(text(&setup), first);
    assert_eq!(daemon.ask(&["config", "show"])["toml"], first);
    setup.log_with(&["was not confirmed before the gateway stopped"]);
    assert_eq!(went_back(&daemon), back_to(5));
}

/// What cannot be taken cuts nobody off, whoever has the address that it wants.
#[test]
fn a_refused_change_cuts_nobody_off() {
    let (sn_port, port) = (free_port(), free_port());
    let sn = format!("[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n");
    let setup = Setup::with(&sn);
    let daemon = setup.start();
    let before = text(&setup) + &listener("own", port) + "max_connections = 1\n";
    apply(&daemon, &before);
    let mut sensor = SnPeer::new(format!("127.0.0.1:{sn_port}").parse().unwrap(), "sensor");
    sensor.connect(true, 60, None);
    let mut stays = connected(port, "stays");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port();
    // `own` and the sensor's gateway would go; another wants the port of `own`, and one more what somebody else has.
    let wrong = before
        .replace(&sn, "mqttsn = []\n")
        .replace("\"own\"", "\"other\"")
        + &listener("late", taken);
    let wrong = wrong.replacen("mqttsn = []\n", "", 1);
    let wrong = format!("mqttsn = []\n{wrong}");
    for _ in 0..3 {
        let complaint = refused(&daemon, &["config", "apply", "new.toml"], &wrong);
        assert!(
            complaint.contains("listener `late` cannot listen on"),
            "{complaint}"
        );
    }
    sensor.publish(&Message::new("t/x", 1, "1"));
    assert_eq!(stays.hear().payload, "1");
    assert!(
        Peer::connect(port, "second", true, 0).is_err(),
        "there is room for one"
    );
    // Its connections are still its own.
    let without = before.replace(&(listener("own", port) + "max_connections = 1\n"), "");
    apply(&daemon, &without);
    assert!(matches!(stays.recv(), Ok(Packet::Disconnect(_))));
}

/// What is kept until a change is confirmed is what was valid, and nobody else's file.
#[test]
fn what_goes_back_is_what_was_valid() {
    let setup = Setup::new();
    let daemon = setup.start();
    let valid = text(&setup);
    let other = format!("{valid}[mqtt]\nmax_qos = 1\n");
    let before = setup.folder().join("headgate.toml.before");
    std::fs::write(&before, "# of the operator\n").unwrap();
    std::fs::write(setup.folder().join("new.toml"), &other).unwrap();
    let with_time = |time| ["config", "apply", "new.toml", "--confirm", time];
    let (_, complaint) = setup.command(&with_time("1h")).unwrap_err();
    assert!(complaint.contains("is not the gateway's"), "{complaint}");
    let daemon = daemon.restart_as_it_is();
    assert_eq!(std::fs::read_to_string(&before).unwrap(), "# of the operator\n");
    std::fs::remove_file(&before).unwrap();

    // The file was edited, wrongly, and nobody has read it. That is kept, and does not come back.
    let edited = format!("{valid}[mqtt]\nmax_qos = 9\n");
    std::fs::write(file(&setup), &edited).unwrap();
    let applied = daemon.ask(&with_time("2s"));
    let replaced = applied["replaced"].as_str().unwrap();
    assert_eq!(
        std::fs::read_to_string(setup.folder().join(replaced)).unwrap(),
        edited
    );
    eventually("it to go back", || (text(&setup) == valid).then_some(()));
    eventually("it to be settled", || (!before.exists()).then_some(()));

    // Another gateway that is started meanwhile undoes nothing.
    daemon.ask(&with_time("1h"));
    let second = std::process::Command::new(headgate())
        .args(["run", "--config", "headgate.toml"])
        .current_dir(setup.folder())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && told.contains("waits for its confirmation"),
        "{told}"
    );
    assert_eq!(text(&setup), other);
    // What is edited meanwhile waits, too; and one goes back to what was valid.
    let edited = format!("{other}[bus]\nmax_inflight = 7\n");
    std::fs::write(file(&setup), &edited).unwrap();
    let (_, complaint) = setup.command(&["reload"]).unwrap_err();
    assert!(complaint.contains("waits to be confirmed"), "{complaint}");
    let back = daemon.ask(&["config", "rollback"]);
    assert_eq!(back["changes"], json!(["mqtt.max_qos: 1 → 2"]));
    assert_eq!(text(&setup), valid);
    std::fs::write(setup.folder().join("new.toml"), &other).unwrap();
    // An odd time would let nobody change anything any more.
    let (_, complaint) = setup.command(&with_time("100000000000years")).unwrap_err();
    assert!(complaint.contains("out of range"), "{complaint}");
    let applied = daemon.ask(&with_time("7days"));
    assert_eq!(applied["changes"], json!(["mqtt.max_qos: 2 → 1"]));
    daemon.ask(&["config", "confirm"]);
    assert_eq!((text(&setup), before.exists()), (other, false));
}

/// Where nothing more can be written down, what is valid is shown, and one goes back to what was valid before.
#[test]
fn a_history_that_cannot_be_written_hides_nothing() {
    let setup = Setup::new();
    let daemon = setup.start();
    let first = text(&setup);
    let folder = setup.folder().join("data/configurations");
    let aside = setup.folder().join("data/aside");
    let other = format!("{first}[mqtt]\nmax_qos = 1\n");
    apply(&daemon, &other);
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    let last = format!("{first}[mqtt]\nmax_qos = 0\n");
    let applied = apply(&daemon, &last);
    assert_eq!(applied["number"], Value::Null);
    assert_eq!(daemon.ask(&["config", "show"])["toml"], last);
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    let back = daemon.ask(&["config", "rollback"]);
    assert_eq!(back["changes"], json!(["mqtt.max_qos: 0 → 1"]));
}

/// Certificates, rules, users, limits, log levels, listeners: a thousand changes while messages flow.
#[test]
fn a_thousand_changes_lose_no_connection_and_no_message() {
    let setup = Setup::with("[auth]\nanonymous = \"everywhere\"\n");
    let daemon = setup.start();
    let base = text(&setup);
    let extra = free_port();
    let (certificate, renewed) = (
        &setup.certificates().certificate,
        setup.folder().join("renewed.pem"),
    );
    std::fs::copy(certificate, &renewed).unwrap();
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut to = connected(daemon.port(Transport::Tcp), "to");
            let (mut from, _) = Peer::connect(daemon.port(Transport::Tcp), "from", true, 0).unwrap();
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let messages: Vec<Message> = (n..n + 10)
                    .map(|n| Message::new("t/x", 1, &n.to_string()))
                    .collect();
                from.say(&messages);
                for message in &messages {
                    assert_eq!(to.hear(), *message);
                }
                n += 10;
            }
            n
        });
        for n in 0..1_000 {
            let with = |sections: String| base.clone() + &sections;
            let with_key = |listener: &str, key: String| {
                let name = format!("name = \"{listener}\"\n");
                base.replace(&name, &(name.clone() + &key + "\n"))
            };
            let changed = match n % 10 {
                0 => with(listener("extra", extra)),
                1 => with_key("tcp", format!("max_connections = {}", 100 + n)),
                2 => with(format!(
                    "[[auth.acl]]\neffect = \"allow\"\ntopics = [\"t/{n}\", \"#\"]\n"
                )),
                3 => with(format!("[bus]\nmax_queued_messages = {}\n", 5_000 + n)),
                4 => with_key("tls", format!("handshake_timeout = \"{}ms\"", 5_000 + n)),
                5 => with("[log]\nlevel = \"info,headgate_shell=debug\"\n".to_owned()),
                6 => with(format!(
                    "[[auth.client_ids]]\nid = \"c{n}\"\npassword = \"secret\"\n"
                )),
                7 => base.replace(&format!("{certificate:?}"), &format!("{renewed:?}")),
                8 => {
                    format!("node = \"plant{n}\"\n")
                        + &with("[store]\ndurability = \"process-crash\"\n".to_owned())
                }
                _ => with(format!(
                    "[mqtt]\nreceive_maximum = {}\n[sys]\ninterval = \"{}s\"\n",
                    100 + n,
                    60 + n
                )),
            };
            std::fs::write(file(&setup), changed).unwrap();
            let applied = daemon.ask(&["reload"]);
            assert!(
                !applied["changes"].as_array().unwrap().is_empty(),
                "{n}: {applied}"
            );
        }
        done.store(true, Ordering::Relaxed);
        traffic.join().unwrap()
    });
    assert!(sent > 0);
    assert_eq!(
        daemon.ask(&["config", "history"])["configurations"]
            .as_array()
            .unwrap()
            .len(),
        50
    );
}
