//! The real gateway under a system's clock that is wrong: at every start, in every run, behind and ahead. Nothing ends that has not lasted its time, and what
//! has lasted it ends. `gateway/daemon/src/timeline.rs` has the rules.

use bytes::Bytes;
use headgate_mqtt_codec::{Disconnect, Packet, PacketId, Publish, PublishProperties, Qos};
use headgate_stomp_codec::Version;
use headgate_tests::blackbox::{
    Certificates, Daemon, HttpClient, Mosquitto, Peer, Setup, StompPeer, Transport, eventually, free_port,
    headgate,
};
use serde_json::json;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u32 = 86_400;
const EXPIRY: u32 = 30 * DAY;

#[test]
fn nothing_ends_by_a_wrong_clock_and_everything_by_the_right_one() {
    let setup = Setup::new().with_clock();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let to_1970 = 10 - i64::try_from(now).unwrap();
    let to_2090 = 64 * 365 * i64::from(DAY);

    let gateway = setup.start();
    assert!(!visit(&gateway), "a new session");
    leave_messages(&gateway);
    let mut gateway = Some(gateway);
    let mut restart = |off: i64| {
        // That its client has left is written, though nobody waits for it.
        std::thread::sleep(Duration::from_millis(500));
        gateway.take().expect("one runs").kill();
        setup.shift_clock(off);
        let logged = setup.log().len();
        let next = setup.start();
        let told = setup.log()[logged..].to_owned();
        (gateway.insert(next).port(Transport::Tcp), told)
    };

    // Behind, killed, behind again, right.
    for off in [to_1970, to_1970 + 20] {
        let (port, told) = restart(off);
        assert!(
            told.contains("the system's clock is behind the last time that was trusted"),
            "{told}"
        );
        assert!(visit_at(port), "its session is there");
    }
    let (port, told) = restart(0);
    assert!(told.contains("sessions=0 wills=0 retained=0 delayed=0"), "{told}");
    assert!(visit_at(port));

    // Ahead, killed, ahead again, right.
    let (port, told) = restart(to_2090);
    assert!(told.contains("the system's clock is too far ahead"), "{told}");
    assert!(visit_at(port));
    let (port, told) = restart(to_2090);
    assert!(told.contains("sessions=0 wills=0 retained=0 delayed=0"), "{told}");
    assert!(visit_at(port));
    let (port, _) = restart(0);
    assert!(visit_at(port));

    // Set while it runs: from 1970 to the right time, and from the right time to 2090.
    for (from, to) in [(to_1970, 0), (0, to_2090)] {
        restart(from);
        let logged = setup.log().len();
        setup.shift_clock(to);
        eventually("the jump to be told", || {
            let log = setup.log();
            log[logged..]
                .contains("the system's clock was set: nothing expires because of it")
                .then_some(())
        });
        let (port, _) = restart(0);
        assert!(visit_at(port));
    }

    // All of it is still there, and 40 days end it.
    let (port, told) = restart(i64::from(EXPIRY) / 2);
    assert!(told.contains("sessions=0 wills=0 retained=0"), "{told}");
    hear_messages(port);
    let (port, told) = restart(i64::from(EXPIRY) / 2 + 40 * i64::from(DAY));
    assert!(told.contains("sessions=1 wills=0 retained=1 delayed=0"), "{told}");
    assert!(!visit_at(port), "its session has ended");
}

fn visit(gateway: &Daemon<'_>) -> bool {
    visit_at(gateway.port(Transport::Tcp))
}

/// Comes and leaves; whether there was a session.
fn visit_at(port: u16) -> bool {
    let (mut peer, present) = Peer::connect(port, "sleeper", false, EXPIRY).unwrap();
    if !present {
        peer.subscribe("queue", Qos::AtLeastOnce).unwrap();
    }
    leave(peer);
    present
}

fn leave(mut peer: Peer) {
    peer.send(&Packet::Disconnect(Disconnect::default())).unwrap();
    while peer.recv().is_ok() {}
}

/// One for the sleeper's queue, one retained, both for as long as the session.
fn leave_messages(gateway: &Daemon<'_>) {
    let (mut peer, _) = Peer::connect(gateway.port(Transport::Tcp), "speaker", true, 0).unwrap();
    for (topic, retain, id) in [("queue", false, 1), ("kept", true, 2)] {
        peer.send(&Packet::Publish(Publish {
            qos: Qos::AtLeastOnce,
            retain,
            topic: topic.to_owned().try_into().unwrap(),
            packet_id: PacketId::new(id),
            payload: Bytes::from_static(b"still here"),
            properties: Some(Box::new(PublishProperties {
                message_expiry: Some(EXPIRY),
                ..PublishProperties::default()
            })),
            ..Publish::default()
        }))
        .unwrap();
        let answer = peer.recv().unwrap();
        assert!(
            matches!(&answer, Packet::Ack(ack) if !ack.reason.is_error()),
            "{answer:?}"
        );
    }
    leave(peer);
}

fn hear_messages(port: u16) {
    let (mut peer, present) = Peer::connect(port, "sleeper", false, EXPIRY).unwrap();
    assert!(present);
    assert_eq!(peer.hear().topic, "queue");
    leave(peer);
    let (mut peer, _) = Peer::connect(port, "reader", true, 0).unwrap();
    peer.subscribe("kept", Qos::AtLeastOnce).unwrap();
    assert_eq!(peer.hear().topic, "kept");
    leave(peer);
}

/// Without the file nobody knows for how long the gateway was off: nothing ends, whatever the system's clock says, and it is told.
#[test]
fn a_clock_file_that_is_lost_ends_nothing() {
    let setup = Setup::new().with_clock();
    let mut gateway = setup.start();
    visit(&gateway);
    leave_messages(&gateway);
    let file = setup.folder().join("data/clock");
    for damage in [None, Some(""), Some("nonsense")] {
        std::thread::sleep(Duration::from_millis(500));
        gateway.kill();
        match damage {
            None => std::fs::remove_file(&file).unwrap(),
            Some(text) => std::fs::write(&file, text).unwrap(),
        }
        setup.shift_clock(40 * 365 * i64::from(DAY));
        let logged = setup.log().len();
        gateway = setup.start();
        let told = setup.log()[logged..].to_owned();
        assert!(
            told.contains("the file with the time is missing or cannot be read"),
            "{told}"
        );
        assert!(visit(&gateway), "its session is there: {damage:?}");
    }
    hear_messages(gateway.port(Transport::Tcp));
}

/// A board without a clock starts days back. What is certified for a time is not judged by another: such uplinks wait, by name, and go on when the time comes.
#[test]
fn an_uplink_with_tls_waits_for_the_time_and_one_without_does_not() {
    let remote = Mosquitto::start("");
    let (plain, nobody) = (remote.port(), free_port());
    let setup = Setup::with(&format!(
        "node = \"gate\"\n[[bridges]]\nname = \"cloud\"\naddresses = [\"mqtts://127.0.0.1:{nobody}\"]\ntopics = [\"up/# out 1\"]\n\
         [[bridges]]\nname = \"plant\"\naddresses = [\"mqtt://127.0.0.1:{plain}\"]\ntopics = [\"up/# out 1\"]\n"
    ))
    .with_clock();
    let gateway = setup.start();
    gateway.until_bridge_is("cloud", "backing_off");
    gateway.stop();

    setup.shift_clock(-5 * i64::from(DAY));
    let gateway = setup.start();
    gateway.until_bridge_is("cloud", "waiting_for_time");
    gateway.until_bridge_is("plant", "connected");
    setup.shift_clock(0);
    gateway.until_bridge_is("cloud", "backing_off");
    gateway.stop();
}

/// A clock that is set back lets no certificate in that has expired, and keeps none out that is good.
#[test]
fn certificates_of_clients_are_judged_by_a_time_that_is_believed() {
    let setup = Setup::with(
        "[[listeners]]\nname = \"own\"\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\n\
         tls = { certificate = \"server.pem\", key = \"server.key\", client_ca = \"both.pem\", require_client_certificate = true }\n",
    )
    .with_clock();
    let old = setup.folder().join("old");
    std::fs::create_dir(&old).unwrap();
    let (old, new) = (
        Certificates::create_until(&old, 1990),
        Certificates::create(setup.folder()),
    );
    let both = [&old.ca, &new.ca].map(|ca| std::fs::read_to_string(ca).unwrap());
    std::fs::write(setup.folder().join("both.pem"), both.concat()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let in_1985 = 473_385_600;
    for clock in [now, in_1985] {
        setup.shift_clock(i64::try_from(clock).unwrap() - i64::try_from(now).unwrap());
        let gateway = setup.start();
        let port = gateway.port_of("own").to_string();
        let publish = |client: &Certificates| {
            let mut publish = Command::new(headgate());
            publish.args([
                "pub",
                "-h",
                "localhost",
                "-p",
                &port,
                "-t",
                "t",
                "-m",
                "x",
                "-q",
                "1",
            ]);
            publish.arg("--cafile").arg(&new.ca);
            publish
                .arg("--cert")
                .arg(&client.client)
                .arg("--key")
                .arg(&client.client_key);
            let done = publish.output().unwrap();
            (
                done.status.success(),
                String::from_utf8_lossy(&done.stderr).to_lowercase(),
            )
        };
        assert_eq!(publish(&new), (true, String::new()), "{clock}");
        let (is_let_in, told) = publish(&old);
        assert!(!is_let_in && told.contains("expired"), "{clock}: {told}");
        gateway.stop();
    }
}

/// What a message is stamped with: time and quality. It has both once, behind what its publisher said, and before what a bridge adds.
fn stamp_of(peer: &mut Peer) -> (String, String) {
    loop {
        let Packet::Publish(publish) = peer.recv().unwrap() else {
            continue;
        };
        let pairs = publish.properties.unwrap_or_default().user_properties;
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
            .filter(|(name, _)| name != "headgate-path")
            .collect();
        let [.., (received, time), (clock, quality)] = &pairs[..] else {
            panic!("no stamp: {pairs:?}");
        };
        assert_eq!(
            (received.as_str(), clock.as_str()),
            ("headgate-received", "headgate-clock")
        );
        let stamps = pairs.iter().filter(|(name, _)| name.starts_with("headgate-"));
        assert_eq!(stamps.count(), 2, "{pairs:?}");
        return (time.clone(), quality.clone());
    }
}

/// A bridge of MQTT 5 carries stamps on, and what comes by one keeps the stamp of where it first came.
#[test]
fn a_bridge_carries_stamps_on() {
    let mosquitto = Mosquitto::start("");
    let setup = Setup::with(&format!(
        "node = \"stamped\"\nbus.stamp = true\n[[bridges]]\nname = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\n\
         version = \"mqttv50\"\ntopics = [\"out/# out 1\", \"in/# in 1\"]\n",
        mosquitto.port()
    ));
    let gateway = setup.start();
    gateway.until_bridge_is("hall", "connected");
    let (mut remote, _) = Peer::connect(mosquitto.port(), "remote", true, 0).unwrap();
    remote.subscribe("out/#", Qos::AtLeastOnce).unwrap();
    let (mut local, _) = Peer::connect(gateway.port(Transport::Tcp), "local", true, 0).unwrap();
    local.subscribe("#", Qos::AtLeastOnce).unwrap();

    local
        .publish("out/1", "x", Some((Qos::AtLeastOnce, 1)), false)
        .unwrap();
    let there = stamp_of(&mut remote);
    assert_eq!(stamp_of(&mut local), there);
    // Where nobody has stamped it before, it is stamped here.
    remote.publish("in/1", "y", None, false).unwrap();
    assert!(stamp_of(&mut local).0 >= there.0);
    let stamp = [("headgate-received", "earlier"), ("headgate-clock", "set")];
    let text = |text: &str| text.to_owned().try_into().unwrap();
    remote
        .send(&Packet::Publish(Publish {
            topic: text("in/2"),
            payload: Bytes::from_static(b"z"),
            properties: Some(Box::new(PublishProperties {
                user_properties: stamp.map(|(name, value)| (text(name), text(value))).to_vec(),
                ..PublishProperties::default()
            })),
            ..Publish::default()
        }))
        .unwrap();
    assert_eq!(stamp_of(&mut local), ("earlier".to_owned(), "set".to_owned()));
    gateway.stop();
}

/// Messages of all protocols say when they came, and a clock that is not believed says so: then time goes on from the last that was.
#[test]
fn messages_are_stamped_with_the_time_and_how_good_it_is() {
    let stomp = "[[listeners]]\nname = \"stomp\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:0\"\n";
    let setup = Setup::with(&format!("[bus]\nstamp = true\n{stomp}")).with_clock();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let year = |stamp: &(String, String)| stamp.0[..4].parse::<u64>().unwrap();
    let this_year = 1970 + now / 31_556_952;

    let gateway = setup.start();
    let system = HttpClient::control(&gateway).get("/api/v1/system").json();
    let expected = match system["clock"]["synchronized"].as_bool() {
        Some(true) => "synchronized",
        _ => "set",
    };
    let (mut reader, _) = Peer::connect(gateway.port(Transport::Tcp), "reader", true, 0).unwrap();
    reader.subscribe("t/#", Qos::AtMostOnce).unwrap();
    let mut stomp = StompPeer::connect(gateway.port_of("stomp"), Version::V12, "");
    stomp.done("SUBSCRIBE", "id:1\ndestination:t/s\n", "");
    // Whoever says a stamp itself has none.
    stomp.send("SEND\ndestination:t/s\nheadgate-clock:forged\n\nx");
    let first = stamp_of(&mut reader);
    assert_eq!(
        (year(&first), first.1.as_str()),
        (this_year, expected),
        "{first:?}"
    );
    let message = stomp.recv();
    assert_eq!(message.get("headgate-received"), Some(first.0.as_str()));
    assert_eq!(message.get("headgate-clock"), Some(expected));
    let published = json!({ "topic": "t/http", "payload": "x" });
    assert_eq!(
        HttpClient::control(&gateway)
            .post("/api/v1/publish", &published)
            .status,
        200
    );
    let second = stamp_of(&mut reader);
    assert!(second.0 >= first.0, "{second:?} after {first:?}");

    // The clock is set while it runs, by a day.
    setup.shift_clock(DAY.into());
    let next_day = eventually("the clock to be looked at", || {
        reader.publish("t/m", "x", None, false).unwrap();
        let stamp = stamp_of(&mut reader);
        (stamp.0[..10] != first.0[..10]).then_some(stamp)
    });
    assert!(next_day.0 > first.0);
    setup.shift_clock(0);
    drop(reader);
    gateway.stop();

    // No clock in the machine, and no network yet.
    setup.shift_clock(10 - i64::try_from(now).unwrap());
    let gateway = setup.start();
    let (mut reader, _) = Peer::connect(gateway.port(Transport::Tcp), "reader", true, 0).unwrap();
    reader.subscribe("t/#", Qos::AtMostOnce).unwrap();
    reader.publish("t/m", "x", None, false).unwrap();
    let floor = stamp_of(&mut reader);
    assert_eq!(
        (year(&floor), floor.1.as_str()),
        (this_year, "floor"),
        "{floor:?}"
    );
    assert!(
        floor.0 > first.0,
        "time does not go back: {floor:?} after {first:?}"
    );
    gateway.stop();
}
