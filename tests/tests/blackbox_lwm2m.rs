//! LwM2M with a device that is not ours. docs/lwm2m.md

use headgate_mqtt_codec::{Packet, Qos};
use headgate_tests::blackbox::{
    CoapClient, Daemon, Lwm2mDevice, Message, Peer, Setup, Transport, python_client,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::UdpSocket;

/// A port that nobody has.
fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// A gateway that speaks LwM2M on this port, with more about it.
fn setup(port: u16, gateway: &str) -> Setup {
    Setup::with(&format!(
        "[[lwm2m]]\nname = \"lwm2m\"\nbind = \"127.0.0.1:{port}\"\n[lwm2m.gateway]\n{gateway}\n"
    ))
}

/// An application: it asks, and hears what devices say.
struct Application {
    mqtt: Peer,
    asked: u16,
    /// What was heard and is not looked at yet.
    heard: Vec<(String, Value)>,
    /// The last value of each resource.
    values: BTreeMap<String, Value>,
}

impl Application {
    fn new(daemon: &Daemon<'_>) -> Self {
        let (mut mqtt, _) = Peer::connect(daemon.port(Transport::Tcp), "app", true, 0).unwrap();
        mqtt.subscribe("lwm2m/#", Qos::AtLeastOnce).unwrap();
        Self {
            mqtt,
            asked: 0,
            heard: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    /// A command to a device, under a number of its own.
    fn command(&mut self, endpoint: &str, kind: &str, data: Value) -> u16 {
        self.asked += 1;
        let command = json!({"reqID": self.asked, "msgType": kind, "data": data}).to_string();
        let topic = format!("lwm2m/{endpoint}/dn/x");
        self.mqtt
            .publish(&topic, &command, Some((Qos::AtLeastOnce, self.asked)), false)
            .unwrap();
        loop {
            match self.mqtt.recv().unwrap() {
                Packet::Ack(_) => return self.asked,
                Packet::Publish(publish) => {
                    if let Some(id) = publish.packet_id {
                        self.mqtt
                            .ack(headgate_mqtt_codec::AckKind::PubAck, id.get())
                            .unwrap();
                    }
                    let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                    self.keep(Message::new(publish.topic.as_str(), 1, &payload));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn keep(&mut self, message: Message) {
        let value: Value = serde_json::from_str(&message.payload).expect("JSON");
        let level = message.topic.split('/').nth(2).unwrap_or_default();
        match level.parse::<u16>() {
            Ok(_) => drop(self.values.insert(message.topic, value)),
            Err(_) if level == "dn" => {}
            Err(_) => self.heard.push((message.topic, value)),
        }
    }

    /// The first thing that is heard and meant; what else is heard stays.
    fn until(&mut self, is_meant: impl Fn(&str, &Value) -> bool) -> Value {
        loop {
            let found = self
                .heard
                .iter()
                .position(|(topic, value)| is_meant(topic, value));
            if let Some(n) = found {
                return self.heard.remove(n).1;
            }
            let message = self.mqtt.hear();
            self.keep(message);
        }
    }

    /// The answer to a command.
    fn answer(&mut self, number: u16) -> Value {
        self.until(|topic, value| {
            topic.ends_with("/up/resp") && value["reqID"] == number && value["msgType"] != "ack"
        })
    }

    fn ask(&mut self, endpoint: &str, kind: &str, data: Value) -> Value {
        let number = self.command(endpoint, kind, data);
        let answer = self.answer(number);
        assert_eq!(answer["msgType"], kind, "{answer}");
        answer["data"].clone()
    }

    fn notification(&mut self) -> Value {
        self.until(|topic, value| topic.ends_with("/up/notify") && value["msgType"] == "notify")
    }
}

/// LwM2M Core 1.1 §6.3, §6.4 by all versions and formats: a device with the habits of Wakaama, and one with those of Anjay.
/// \[LWM2M-6.2.1-REGISTER\] \[LWM2M-6.2.1-OBJECTS\] \[LWM2M-6.2.1-ALTERNATE-PATH\] \[LWM2M-6.2.2-UPDATE\] \[LWM2M-6.2.3-DEREGISTER\] \[LWM2M-6.3.1-READ\]
/// \[LWM2M-6.3.2-DISCOVER\] \[LWM2M-6.3.3-REPLACE\] \[LWM2M-6.3.3-UPDATE\] \[LWM2M-6.3.4-WRITE-ATTRIBUTES\] \[LWM2M-6.3.5-EXECUTE\] \[LWM2M-6.3.6-CREATE\]
/// \[LWM2M-6.3.7-DELETE\] \[LWM2M-6.3.8-READ-COMPOSITE\] \[LWM2M-6.3.9-WRITE-COMPOSITE\] \[LWM2M-6.3-ERRORS\] \[LWM2M-6.4.1-OBSERVE\] \[LWM2M-6.4.2-NOTIFY\]
/// \[LWM2M-6.4.3-CANCEL\] \[LWM2M-6.4.4-OBSERVE-COMPOSITE\] \[LWM2M-6.4.5-CANCEL-COMPOSITE\] \[LWM2M-6.4.6-SEND\] \[LWM2M-6.2.1-VERSIONS\] \[LWM2M-6.2.1.2-UDP\]
#[test]
fn a_device_is_read_written_executed_and_observed() {
    let port = free_udp_port();
    let setup = setup(port, "");
    let daemon = setup.start();
    let server = format!("coap://127.0.0.1:{port}");
    let mut app = Application::new(&daemon);
    let kinds: [(&str, &[&str]); 5] = [
        ("old", &["--version", "1.0"]),
        ("wakaama", &["--version", "1.1", "--habit", "wakaama"]),
        ("anjay", &["--version", "1.1", "--habit", "anjay"]),
        ("json", &["--version", "1.1", "--format", "senml-json"]),
        ("rooted", &["--version", "1.2", "--alternate-root", "/lwm2m"]),
    ];
    for (ep, arguments) in kinds {
        let mut device = Lwm2mDevice::start(ep, &[&["--server", &server], arguments].concat());
        device.register();
        let registered = app.until(|_, value| value["msgType"] == "register");
        assert_eq!(registered["data"]["ep"], ep);
        let read = app.ask(ep, "read", json!({"path": "/3/0/0"}));
        let expected = json!([{"path": "/3/0/0", "value": "Headgate"}]);
        assert_eq!(
            (&read["code"], &read["content"]),
            (&json!("2.05"), &expected),
            "{ep}"
        );
        let object = app.ask(ep, "read", json!({"path": "/3303"}));
        let content = object["content"].as_array().unwrap();
        let value = |path: &str| {
            content
                .iter()
                .find(|entry| entry["path"] == path)
                .map(|entry| entry["value"].clone())
        };
        assert_eq!(value("/3303/0/5700"), Some(json!(21.5)), "{ep}: {object}");
        assert_eq!(value("/3303/1/5701"), Some(json!("Cel")), "{ep}");
        let last = &app.values[&format!("lwm2m/{ep}/3303/0/5700")];
        assert_eq!(
            (&last["value"], &last["type"]),
            (&json!(21.5), &json!("Float")),
            "{ep}"
        );
        let written = app.ask(ep, "write", json!({"path": "/3/0/14", "value": "+05:00"}));
        assert_eq!(written["code"], "2.04", "{ep}: {written}");
        let several = json!({"basePath": "/3/0", "content": [{"path": "15", "value": "Europe/Berlin"}]});
        assert_eq!(app.ask(ep, "write", several)["code"], "2.04", "{ep}");
        let read = app.ask(ep, "read", json!({"path": "/3/0/14"}));
        assert_eq!(read["content"][0]["value"], "+05:00", "{ep}");
        let opaque = json!({"path": "/32769/0/2", "type": "Opaque", "value": "AQID"});
        assert_eq!(
            app.ask(ep, "write", opaque)["code"],
            "2.04",
            "{ep}: an object that nobody knows"
        );
        let executed = app.ask(ep, "execute", json!({"path": "/3303/0/5605"}));
        assert_eq!(executed["code"], "2.04", "{ep}");
        device.wait("executed");
        let links = app.ask(ep, "discover", json!({"path": "/3"}));
        let links = links["content"].to_string();
        assert!(
            links.contains("</3/0/9>") && !links.contains("lwm2m"),
            "{ep}: {links}"
        );
        let create = json!({"basePath": "/3303", "content": [{"path": "/7/5700", "value": 3.5}]});
        assert_eq!(app.ask(ep, "create", create)["code"], "2.01", "{ep}");
        assert_eq!(
            app.ask(ep, "read", json!({"path": "/3303/7/5700"}))["content"][0]["value"],
            3.5,
            "{ep}"
        );
        assert_eq!(
            app.ask(ep, "delete", json!({"path": "/3303/7"}))["code"],
            "2.02",
            "{ep}"
        );
        let missing = app.ask(ep, "read", json!({"path": "/3303/7/5700"}));
        assert_eq!(
            (&missing["code"], &missing["codeMsg"]),
            (&json!("4.04"), &json!("not_found")),
            "{ep}"
        );
        let attributes = json!({"path": "/3303/0/5700", "pmin": "0", "pmax": "600"});
        assert_eq!(app.ask(ep, "write-attr", attributes)["code"], "2.04", "{ep}");
        let observed = app.ask(ep, "observe", json!({"path": "/3303/0/5700"}));
        assert_eq!(observed["content"][0]["value"], 21.5, "{ep}");
        device.tell("set", json!({"path": "/3303/0/5700", "value": 30.25}));
        let notification = app.notification();
        assert_eq!(notification["data"]["content"][0]["value"], 30.25, "{ep}");
        assert_eq!(notification["data"]["reqPath"], "/3303/0/5700");
        assert_eq!(
            app.ask(ep, "cancel-observe", json!({"path": "/3303/0/5700"}))["code"],
            "2.05",
            "{ep}"
        );
        if ep != "old" {
            let both = json!({"paths": ["/3/0/0", "/3303/1/5700"]});
            let read = app.ask(ep, "read-composite", both.clone());
            assert_eq!(read["content"][1]["value"], 4.25, "{ep}: {read}");
            let write = json!({"content": [{"path": "/3/0/14", "value": "+01:00"}, {"path": "/3/0/15", "value": "Asia/Tokyo"}]});
            assert_eq!(app.ask(ep, "write-composite", write)["code"], "2.04", "{ep}");
            assert_eq!(
                app.ask(ep, "observe-composite", both.clone())["code"],
                "2.05",
                "{ep}"
            );
            device.tell("set", json!({"path": "/3303/1/5700", "value": -5.5}));
            assert!(
                app.notification()["data"]["content"].to_string().contains("-5.5"),
                "{ep}"
            );
            assert_eq!(
                app.ask(ep, "cancel-observe-composite", both)["code"],
                "2.05",
                "{ep}"
            );
            device.tell("send", json!({"records": [{"path": "/3/0/9", "value": 77}]}));
            assert_eq!(device.wait("sent")["code"], "2.04", "{ep}");
            let sent = app.until(|_, value| value["msgType"] == "send");
            assert_eq!(sent["data"]["content"][0]["value"], 77, "{ep}");
        }
        device.tell("update", json!({"lifetime": 120}));
        assert_eq!(device.wait("updated")["code"], "2.04");
        let updated = app.until(|topic, value| topic.ends_with("/up/update") && value["data"]["lt"] == 120);
        assert_eq!(updated["data"]["ep"], ep);
        device.tell("deregister", json!({}));
        assert_eq!(device.wait("deregistered")["code"], "2.02");
        app.until(|_, value| value["msgType"] == "deregister");
    }
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// LwM2M Core 1.1 §6.5: commands to a client that sleeps wait on the disk, in order; each has one answer; one that is over before is answered so.
/// \[LWM2M-6.5-AWAY\] \[LWM2M-6.5-UPDATE\] \[LWM2M-6.5-ORDER\]
#[test]
fn commands_to_a_sleeper_survive_a_kill() {
    let port = free_udp_port();
    let setup = setup(port, "awake_window = \"2s\"\n");
    let daemon = setup.start();
    let server = format!("coap://127.0.0.1:{port}");
    let mut device = Lwm2mDevice::start(
        "sleeper",
        &["--server", &server, "--version", "1.1", "--queue", "--no-update"],
    );
    let mut app = Application::new(&daemon);
    device.register();
    device.tell("sleep", json!({}));
    device.wait("asleep");
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let over = app.command("sleeper", "read", json!({"path": "/3/0/1", "expiry": 1}));
    let first = app.command("sleeper", "write", json!({"path": "/3/0/14", "value": "+03:00"}));
    let answer = app.answer(over);
    assert_eq!(
        (&answer["data"]["code"], &answer["data"]["reason"]),
        (&json!("5.04"), &json!("expired"))
    );
    // Its PUBACK says that all before it is on the disk.
    let last = app.command("sleeper", "read", json!({"path": "/3/0/2"}));
    let daemon = daemon.restart();
    let mut app = Application::new(&daemon);
    app.asked = 100;
    let second = app.command("sleeper", "read", json!({"path": "/3/0/14"}));
    device.tell("wake", json!({"update": true}));
    assert_eq!(app.answer(first)["data"]["code"], "2.04");
    assert_eq!(app.answer(last)["data"]["code"], "2.05");
    assert_eq!(app.answer(second)["data"]["content"][0]["value"], "+03:00");
    let third = app.ask("sleeper", "read", json!({"path": "/3/0/0"}));
    assert_eq!(third["code"], "2.05");
    let others: Vec<_> = app
        .heard
        .iter()
        .filter(|(topic, _)| topic.ends_with("/up/resp"))
        .collect();
    assert!(others.is_empty(), "one answer each: {others:?}");
}

/// A registration and its observations survive `kill -9`: the device does nothing for it. It may come from elsewhere, as behind a NAT.
/// \[LWM2M-6.2.1-AGAIN\] \[LWM2M-6.2.2-ADDRESS\]
#[test]
fn registrations_and_observations_survive_a_kill() {
    let port = free_udp_port();
    // At all addresses: which of ours the device speaks to is remembered, too.
    let setup = Setup::with(&format!(
        "[auth]\nanonymous = \"loopback\"\n[[lwm2m]]\nname = \"lwm2m\"\nbind = \"0.0.0.0:{port}\"\n"
    ));
    let daemon = setup.start();
    let server = format!("coap://127.0.0.1:{port}");
    let mut device = Lwm2mDevice::start("kept", &["--server", &server, "--version", "1.1", "--no-update"]);
    let mut app = Application::new(&daemon);
    device.register();
    assert_eq!(
        app.ask("kept", "observe", json!({"path": "/3303/0/5700"}))["code"],
        "2.05"
    );
    let daemon = daemon.restart();
    let mut app = Application::new(&daemon);
    // A command whose end was not on the disk yet is done, and answered, again.
    app.asked = 100;
    assert_eq!(
        app.ask("kept", "read", json!({"path": "/3/0/0"}))["code"],
        "2.05",
        "it says nothing first"
    );
    device.tell("set", json!({"path": "/3303/0/5700", "value": 31.5}));
    assert_eq!(app.notification()["data"]["content"][0]["value"], 31.5);
    assert_eq!(app.ask("kept", "read", json!({"path": "/3/0/0"}))["code"], "2.05");
    device.tell("move", json!({}));
    device.wait("moved");
    device.tell("set", json!({"path": "/3303/0/5700", "value": 32.5}));
    assert_eq!(app.notification()["data"]["content"][0]["value"], 32.5);
    assert_eq!(app.ask("kept", "read", json!({"path": "/3/0/0"}))["code"], "2.05");
    device.tell("reboot", json!({}));
    device.wait("rebooted");
    device.wait("registered");
    // What was observed is observed again.
    assert_eq!(app.notification()["data"]["reqPath"], "/3303/0/5700");
}

/// LwM2M Core 1.1 appendix E.6: a package is sent in blocks, or fetched; what goes wrong is told.
/// \[LWM2M-6.3.3-BLOCKS\] \[LWM2M-E.6-FIRMWARE-PUSH\] \[LWM2M-E.6-FIRMWARE-PULL\] \[LWM2M-E.6-FIRMWARE-STATES\] \[LWM2M-E.6-FIRMWARE-RESULTS\]
#[test]
fn firmware_is_updated() {
    let port = free_udp_port();
    let packages = tempfile::tempdir().unwrap();
    let good = [b"FW:7.1\n".as_slice(), &[7; 20_000]].concat();
    std::fs::write(packages.path().join("good.bin"), good).unwrap();
    std::fs::write(packages.path().join("bad.bin"), b"BAD package").unwrap();
    let folder = packages.path().display();
    let setup = setup(
        port,
        &format!("firmware = \"{folder}\"\nfirmware_uri = \"coap://127.0.0.1:{port}\"\n"),
    );
    let daemon = setup.start();
    let server = format!("coap://127.0.0.1:{port}");
    let mut app = Application::new(&daemon);
    for (ep, pull) in [("pushed", false), ("pulled", true)] {
        let arguments = ["--server", &server, "--version", "1.1", "--update-seconds", "1"];
        let mut device = Lwm2mDevice::start(ep, &arguments);
        device.register();
        let failed = app.ask(ep, "update-firmware", json!({"package": "bad.bin", "pull": pull}));
        assert_eq!(
            (&failed["code"], &failed["result"]),
            (&json!("5.00"), &json!(5)),
            "{failed}"
        );
        let done = app.ask(
            ep,
            "update-firmware",
            json!({"package": "good.bin", "pull": pull}),
        );
        assert_eq!(
            (&done["code"], &done["result"]),
            (&json!("2.04"), &json!(1)),
            "{done}"
        );
        let version = app.ask(ep, "read", json!({"path": "/3/0/3"}));
        assert_eq!(version["content"][0]["value"], "7.1");
        app.until(|_, value| value["msgType"] == "firmware" && value["data"]["state"] == "downloaded");
        let none = app.ask(ep, "update-firmware", json!({"package": "none.bin"}));
        assert_eq!(none["code"], "4.04");
    }
}

/// LwM2M Core 1.1 §6.1: a device that knows this server alone is told where it belongs.
/// \[LWM2M-6.1.7-REQUEST\] \[LWM2M-6.1.7-FINISH\] \[LWM2M-6.1.7-WRITE\] \[LWM2M-E.1-SECURITY-OBJECT\] \[LWM2M-E.2-SERVER-OBJECT\]
#[test]
fn a_device_is_bootstrapped() {
    let port = free_udp_port();
    let server = format!("coap://127.0.0.1:{port}");
    let setup = setup(
        port,
        &format!(
            "[[lwm2m.gateway.bootstrap.clients]]\nendpoint = \"new*\"\nservers = [{{ uri = \"{server}\", short_id = 7, lifetime = \"90s\" }}]\n"
        ),
    );
    let daemon = setup.start();
    let mut app = Application::new(&daemon);
    for (ep, format) in [("new-1", "tlv"), ("new-2", "senml-json")] {
        let arguments = ["--bootstrap", &server, "--version", "1.1", "--format", format];
        let mut device = Lwm2mDevice::start(ep, &arguments);
        device.tell("bootstrap", json!({}));
        assert_eq!(device.wait("bootstrapped")["short_id"], 7);
        device.wait("registered");
        let registered = app.until(|_, value| value["msgType"] == "register");
        assert_eq!(
            (&registered["data"]["ep"], &registered["data"]["lt"]),
            (&json!(ep), &json!(90))
        );
    }
}

/// The device of these tests does what the specification says, as a server of aiocoap's sees it: what it shows of ours rests on that.
#[test]
fn the_device_itself_is_sound() {
    CoapClient::Aiocoap.install();
    let output = python_client("lwm2m_device_selftest.py").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("ok "),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
