//! Rules of the configuration hold for what is read, with the real binary and real clients, and change for whoever is connected.

use headgate_mqtt_codec::{Packet, Publish, Qos, ReasonCode};
use headgate_tests::V5;
use headgate_tests::blackbox::{
    Daemon, HANG, Job, Listening, Message, Peer, Setup, Tool, Transport, free_port,
};
use std::fmt::Write as _;
use std::net::UdpSocket;

/// Rules that deny this, and allow all else.
fn rules(denied: &[&str]) -> String {
    let mut rules = String::new();
    for topic in denied {
        let _ = writeln!(
            rules,
            "[[auth.acl]]\neffect = \"deny\"\nclient = \"reader\"\ntopics = [\"{topic}\"]"
        );
    }
    rules + "[[auth.acl]]\neffect = \"allow\"\n"
}

fn job(id: &str) -> Job {
    let job = Job::new(Transport::Tcp, V5);
    Job { id: id.into(), ..job }
}

/// What the reader gets of `deny/x`, `other/x` and `open/x`, published now.
fn heard(daemon: &Daemon<'_>, reader: &mut Listening, round: &str) -> Vec<String> {
    let said = ["deny/x", "other/x", "open/x", "end"].map(|topic| {
        let payload = format!("{round} {topic}");
        Message::new(topic, 1, &payload)
    });
    Tool::Mosquitto.publish(daemon, &job("writer"), &said);
    let came = reader.until(&format!("{round} end"));
    came.into_iter().map(|message| message.topic).collect()
}

/// `deny deny/#` before `allow` all: who subscribes to `#` gets nothing of it, now or retained. Other rules are valid for it with `headgate reload`, both ways
/// and without a reconnect; a file that cannot be leaves it those it has.
#[test]
fn rules_are_changed_under_a_connected_client() {
    let setup = Setup::with(&rules(&["deny/#"]));
    let file = setup.folder().join("headgate.toml");
    let daemon = setup.start();
    let text = std::fs::read_to_string(&file).unwrap();
    let before = rules(&["deny/#"]);
    assert!(text.contains(&before), "{text}");
    let retained = ["deny/kept", "open/kept"].map(|topic| Message {
        retain: true,
        ..Message::new(topic, 1, "kept")
    });
    Tool::Mosquitto.publish(&daemon, &job("writer"), &retained);

    let mut reader = Tool::Mosquitto.listen(&daemon, &job("reader"), &["#"]);
    let first = heard(&daemon, &mut reader, "at first");
    let mut first: Vec<&str> = first.iter().map(String::as_str).collect();
    first.retain(|topic| !topic.starts_with("black/box"));
    assert_eq!(first, ["open/kept", "other/x", "open/x"]);

    let reload = |acl: &str| {
        std::fs::write(&file, text.replace(&before, acl)).unwrap();
        daemon.setup().command(&["reload"])
    };
    reload(&rules(&["other/#"])).expect("good rules");
    assert_eq!(heard(&daemon, &mut reader, "others"), ["deny/x", "open/x"]);
    let (_, error) = reload(&rules(&["other/#/x"])).expect_err("no filter");
    assert!(error.contains("other/#/x"), "{error}");
    assert_eq!(heard(&daemon, &mut reader, "faulty"), ["deny/x", "open/x"]);
    reload(&rules(&[])).expect("good rules");
    assert_eq!(
        heard(&daemon, &mut reader, "none"),
        ["deny/x", "other/x", "open/x"]
    );
    reload(&before).expect("good rules");
    assert_eq!(heard(&daemon, &mut reader, "again"), ["other/x", "open/x"]);
}

/// `auth.on_deny = "disconnect"`: who publishes or subscribes where it may not is gone, whatever it speaks, and everybody else stays.
#[test]
fn who_is_denied_something_may_be_disconnected_for_it() {
    let sn_port = free_port();
    let setup = Setup::with(&format!(
        "[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:{sn_port}\"\n[auth]\non_deny = \"disconnect\"\n\
         [[auth.acl]]\neffect = \"deny\"\ntopics = [\"deny/#\"]\n[[auth.acl]]\neffect = \"deny\"\ntopics = [\"retained\"]\nretain = true\n\
         [[auth.acl]]\neffect = \"allow\"\n"
    ));
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (mut stays, _) = Peer::connect(port, "stays", true, 0).unwrap();
    stays.subscribe("#", Qos::AtMostOnce).unwrap();
    for (topic, retain) in [("deny/x", false), ("retained", true)] {
        let (mut goes, _) = Peer::connect(port, "goes", true, 0).unwrap();
        let publish = Publish {
            topic: topic.into(),
            retain,
            ..Publish::default()
        };
        goes.send(&Packet::Publish(publish)).unwrap();
        // MQTT 5 §3.14.2.1: 0x98, administrative action.
        let Ok(Packet::Disconnect(told)) = goes.recv() else {
            panic!("{topic}: it stays");
        };
        assert_eq!(told.reason, ReasonCode::AdministrativeAction);
        assert!(goes.recv().is_err());
    }
    // MQTT-SN 1.2 §5.4.4, §5.4.15, §5.4.21: CONNECT, SUBSCRIBE to `deny/x`, which is rejected, and DISCONNECT.
    let sensor = UdpSocket::bind("127.0.0.1:0").unwrap();
    sensor.connect(("127.0.0.1", sn_port)).unwrap();
    sensor.set_read_timeout(Some(HANG)).unwrap();
    let ask = |datagram: &[u8]| sensor.send(datagram).unwrap();
    let heard = || {
        let mut answer = [0; 16];
        let len = sensor.recv(&mut answer).unwrap();
        answer[..len].to_vec()
    };
    ask(b"\x0c\x04\x04\x01\x00\x3csensor");
    assert_eq!(heard(), [3, 5, 0]);
    ask(b"\x0b\x12\x00\x00\x01deny/x");
    assert_eq!(heard(), [8, 0x13, 0, 0, 0, 0, 1, 3]);
    assert_eq!(heard(), [2, 0x18]);
    Peer::connect(port, "p", true, 0)
        .unwrap()
        .0
        .say(&[Message::new("open", 1, "1"), Message::new("retained", 1, "2")]);
    assert_eq!([stays.hear().payload, stays.hear().payload], ["1", "2"]);
}
