//! Updates of the system, with a stand-in for RAUC that says and does what RAUC 1.8 says and does; the real one is in `make image-test`.

use bytes::Bytes;
use headgate_mqtt_codec::{Packet, Publish, PublishProperties, Qos};
use headgate_tests::blackbox::{Daemon, HttpClient, Mosquitto, Peer, Setup, Transport, eventually};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FIRMWARE: &str = "/api/v1/firmware";

/// Two slots; what is asked is written down in `asked`. `slot`, `version` and `count` are of the system that runs; a bundle says its version in its file.
const RAUC: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> asked
slot() {
    echo "{\"rootfs.$1\":{\"class\":\"rootfs\",\"device\":\"/dev/x\",\"type\":\"raw\",\"bootname\":\"$2\",\"state\":\"$3\",\"parent\":null,\"mountpoint\":null,\"boot_status\":\"$4\","
    echo "\"slot_status\":{\"bundle\":{\"compatible\":\"test\",\"version\":\"$5\"},\"installed\":{\"timestamp\":\"2026-11-30T00:00:00Z\",\"count\":$6}}}}"
}
case "$*" in
    "status --detailed --output-format=json")
        echo '{"compatible":"test","variant":"","booted":"'$(cat slot)'","boot_primary":"rootfs.1","slots":['
        if [ "$(cat slot)" = A ]; then a=booted b=inactive; else a=inactive b=booted; fi
        slot 1 B $b good "$(cat version)" "$(cat count)"; echo ,; slot 0 A $a "$(cat other)" 1.0 1; echo ']}' ;;
    "info --output-format=json "*)
        grep -q signed "$3" || { echo "signature verification failed: self-signed certificate" >&2; exit 1; }
        echo '{"compatible":"test","version":"1.2","description":"mends the pump","hooks":[],"images":[]}' ;;
    "install "*)
        echo installing; echo "  0% Installing"; echo " 40% Checking bundle"
        seq 30
        grep -q signed "$2" || { echo "LastError: signature verification failed: self-signed certificate"; exit 1; }
        echo "100% Installing done."; echo idle ;;
    "status mark-"*) ;;
    *) echo "unknown" >&2; exit 1 ;;
esac
"#;

struct Machine {
    setup: Setup,
}

impl Machine {
    /// One whose gateway has these sections, and runs in slot B with an installation that was never found good.
    fn new(sections: &str) -> Self {
        Self::with_commands(sections, "")
    }

    /// The same, and these settings for commands by the bus.
    fn with_commands(sections: &str, commands: &str) -> Self {
        let setup = Setup::with(&format!(
            "{sections}\n[firmware]\ncommands = {{ {commands} }}\nprogram = \"./rauc/rauc\"\nreboot = [\"touch\", \"rauc/rebooted\"]\nfactory_reset = [\"touch\", \"rauc/wiped\"]\ntrial_time = \"10s\"\n"
        ));
        let machine = Self { setup };
        fs::create_dir(machine.folder()).unwrap();
        fs::write(machine.folder().join("rauc"), RAUC).unwrap();
        fs::set_permissions(machine.folder().join("rauc"), fs::Permissions::from_mode(0o755)).unwrap();
        for (file, text) in [
            ("slot", "B"),
            ("version", "1.1"),
            ("count", "2"),
            ("other", "good"),
        ] {
            machine.write(file, text);
        }
        machine
    }

    fn folder(&self) -> std::path::PathBuf {
        self.setup.folder().join("rauc")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder().join(file), text).unwrap();
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.folder().join("asked")).unwrap_or_default()
    }

    fn has_rebooted(&self) -> bool {
        fs::remove_file(self.folder().join("rebooted")).is_ok()
    }
}

fn bridge_to(remote: &Mosquitto) -> String {
    let port = remote.port();
    format!(
        "node = \"gate\"\n[[bridges]]\nname = \"cloud\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\ntopics = [\"up/# out 1\"]\n"
    )
}

fn view(daemon: &Daemon<'_>) -> Value {
    HttpClient::control(daemon).get(FIRMWARE).json()
}

fn until_state(daemon: &Daemon<'_>, state: &str) -> Value {
    eventually(&format!("the system is {state}"), || {
        let view = view(daemon);
        (view["state"] == state).then_some(view)
    })
}

#[test]
fn a_system_that_serves_is_marked_good_once() {
    let machine = Machine::new("");
    let daemon = machine.setup.start();
    let view = until_state(&daemon, "good");
    assert_eq!(view["slots"][1]["booted"], true);
    assert_eq!(view["slots"][1]["version"], "1.1");
    assert!(
        machine.asked().contains("status mark-good booted"),
        "{}",
        machine.asked()
    );
    let kept = fs::read_to_string(machine.setup.folder().join("data/firmware.json")).unwrap();
    assert!(kept.contains("rootfs.1"), "{kept}");
    let said = machine.setup.said(&["update"]);
    assert!(
        said.contains("this system: good") && said.contains("board: test"),
        "{said}"
    );
    daemon.stop();
}

/// Ruuvi gateways were lost this way: the new system served, and had no network.
#[test]
fn a_new_system_that_does_not_reach_what_was_reached_falls_back() {
    let remote = Mosquitto::start("");
    let bridge = bridge_to(&remote);
    let machine = Machine::new(&bridge);
    machine.write("slot", "A");
    let daemon = machine.setup.start();
    daemon.until_bridge_is("cloud", "connected");
    until_state(&daemon, "good");
    let kept = machine.setup.folder().join("data/firmware.json");
    eventually("the bridge is written down as reached", || {
        fs::read_to_string(&kept)
            .ok()
            .filter(|kept| kept.contains("cloud"))
    });
    daemon.stop();
    drop(remote);

    // The same system without its network is as good as it was.
    let daemon = machine.setup.start();
    until_state(&daemon, "good");
    daemon.stop();
    assert!(!machine.has_rebooted());

    // A new one is not.
    machine.write("slot", "B");
    machine.write("version", "1.2");
    machine.write("count", "3");
    let daemon = machine.setup.start();
    let bad = until_state(&daemon, "bad");
    assert_eq!(
        bad["missing"],
        json!(["bridge cloud was connected before, and is not"])
    );
    eventually("the machine is started anew", || {
        machine.has_rebooted().then_some(())
    });
    assert!(
        machine.asked().contains("status mark-bad booted"),
        "{}",
        machine.asked()
    );
    let alarms = HttpClient::control(&daemon).get("/api/v1/alarms").json();
    assert!(alarms.to_string().contains("firmware_bad"), "{alarms}");
    daemon.stop();

    // The system before says why it is back.
    machine.write("slot", "A");
    let daemon = machine.setup.start();
    let view = until_state(&daemon, "good");
    assert_eq!(view["fell_back"]["slot"], "B");
    assert_eq!(view["fell_back"]["version"], "1.2");
    let said = machine.setup.said(&["update", "status"]);
    assert!(said.contains("fell back from slot B (1.2)"), "{said}");
    daemon.stop();
}

#[test]
fn a_bad_system_with_nothing_to_fall_back_to_stays_and_says_so() {
    let remote = Mosquitto::start("");
    let bridge = bridge_to(&remote);
    drop(remote);
    let machine = Machine::new(&bridge);
    machine.write("other", "bad");
    let data = machine.setup.folder().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("firmware.json"), r#"{"uplinks":["cloud"]}"#).unwrap();
    let daemon = machine.setup.start();
    until_state(&daemon, "bad");
    assert!(!machine.has_rebooted());
    assert!(!machine.asked().contains("mark-bad"));

    // Unless somebody knows better.
    machine.setup.said(&["update", "mark", "good"]);
    assert_eq!(view(&daemon)["state"], "good");
    let alarms = HttpClient::control(&daemon).get("/api/v1/alarms").json();
    assert!(!alarms["active"].to_string().contains("firmware_bad"), "{alarms}");
    daemon.stop();
}

#[test]
fn bundles_are_uploaded_checked_and_installed_and_bad_ones_refused() {
    let machine = Machine::new("");
    let daemon = machine.setup.start();
    until_state(&daemon, "good");
    let control = HttpClient::control(&daemon);
    let post = |path: &str, body: &Value| control.post(&format!("{FIRMWARE}/{path}"), body);
    assert_eq!(post("install", &json!({})).status, 404);
    // RAUC would take it for an option.
    assert_eq!(post("install", &json!({ "bundle": "--conf=/tmp/x" })).status, 422);
    assert_eq!(post("check", &json!({ "bundle": "x.raucb" })).status, 422);

    let upload = |bytes: &[u8]| {
        control.ask(
            "PUT",
            &format!("{FIRMWARE}/bundle"),
            "application/octet-stream",
            bytes,
        )
    };
    assert_eq!(upload(b"forged").status, 200);
    let refused = post("check", &json!({}));
    assert_eq!(refused.status, 422);
    assert!(
        refused.text().contains("self-signed certificate"),
        "{}",
        refused.text()
    );
    assert_eq!(post("install", &json!({ "reboot": true })).status, 200);
    let change = control.get("/api/v1/audit?limit=1").json()["rows"][0].clone();
    let bundle = change["after"]["bundle"].as_str().unwrap_or_default();
    assert!(
        bundle.ends_with("bundle.raucb"),
        "what was done is told: {change}"
    );
    let ended = || {
        eventually("the installation has ended", || {
            let view = view(&daemon);
            (view["installation"]["ended"] == true).then_some(view)
        })
    };
    let error = ended()["installation"]["error"].clone();
    assert_eq!(error, "signature verification failed: self-signed certificate");
    assert!(!machine.has_rebooted());

    assert_eq!(upload(b"signed").status, 200);
    let info = post("check", &json!({})).json();
    assert_eq!(
        (&info["version"], &info["description"]),
        (&json!("1.2"), &json!("mends the pump"))
    );
    assert_eq!(post("install", &json!({ "reboot": true })).status, 200);
    let view = ended();
    assert_eq!(view["installation"]["percent"], 100);
    assert_eq!(view["uploaded"], Value::Null, "it takes room no more");
    eventually("the machine is started anew", || {
        machine.has_rebooted().then_some(())
    });

    fs::write(machine.setup.folder().join("next.raucb"), "signed").unwrap();
    let said = machine.setup.said(&["update", "install", "next.raucb"]);
    assert!(said.starts_with("installed;"), "{said}");
    machine.setup.said(&["update", "boot-other"]);
    assert!(machine.asked().contains("status mark-active other"));
    assert!(machine.has_rebooted());
    machine.write("other", "bad");
    assert_eq!(post("boot-other", &json!({})).status, 409);

    // All data goes only if the right gateway is meant.
    let wipe = |name: &str| {
        control
            .post("/api/v1/factory-reset", &json!({ "confirm": name }))
            .status
    };
    let node = control.get("/api/v1/system").json()["node"].clone();
    assert_eq!(wipe("another"), 422);
    assert!(!machine.folder().join("wiped").exists());
    assert_eq!(wipe(node.as_str().unwrap()), 200);
    assert!(machine.folder().join("wiped").exists());
    daemon.stop();
}

/// What a client published, as somebody or nobody.
struct Asker {
    peer: Peer,
    packet: u16,
}

const REQUEST: &str = "fleet/gate/update/request";

impl Asker {
    fn of(daemon: &Daemon<'_>, id: &str, user: Option<&str>) -> Self {
        let port = daemon.port(Transport::Tcp);
        let mut peer = match user {
            Some(user) => Peer::connect_as(port, id, user, "correct horse").unwrap(),
            None => Peer::connect(port, id, true, 0).unwrap().0,
        };
        for level in ["reply", "progress"] {
            let filter = format!("fleet/gate/update/{level}");
            peer.subscribe(&filter, Qos::AtLeastOnce).unwrap();
        }
        Self { peer, packet: 0 }
    }

    fn says(&mut self, request: &Value) {
        self.publish(&request.to_string(), false, None);
    }

    fn publish(&mut self, payload: &str, retain: bool, properties: Option<PublishProperties>) {
        self.packet += 1;
        let publish = Publish {
            retain,
            qos: Qos::AtMostOnce,
            topic: REQUEST.to_owned().try_into().unwrap(),
            payload: Bytes::from(payload.to_owned()),
            properties: properties.map(Box::new),
            ..Publish::default()
        };
        self.peer.send(&Packet::Publish(publish)).unwrap();
    }

    /// The next message, with the last level of its topic.
    fn hears(&mut self) -> (String, Value) {
        let message = self.peer.hear();
        let level = message.topic.rsplit('/').next().unwrap().to_owned();
        (level, serde_json::from_str(&message.payload).unwrap())
    }

    /// The next answer. What is told meanwhile of an installation is left out.
    fn answer(&mut self) -> Value {
        loop {
            let (level, answer) = self.hears();
            if level != "progress" {
                return answer;
            }
        }
    }

    fn asks(&mut self, request: &Value) -> Value {
        self.says(request);
        self.answer()
    }
}

fn answered_at(topic: &str) -> Option<PublishProperties> {
    Some(PublishProperties {
        response_topic: Some(topic.to_owned().try_into().unwrap()),
        correlation_data: Some(Bytes::from_static(b"\x00\x01")),
        ..PublishProperties::default()
    })
}

const COMMANDS: &str = "topic = \"fleet/{node}/update\", users = [\"fleet\"], bridges = [\"cloud\"]";

fn add_users(daemon: &Daemon<'_>, names: &[&str]) {
    for name in names {
        let user = json!({ "name": name, "password": "correct horse" });
        let added = HttpClient::control(daemon).post("/api/v1/users", &user);
        assert_eq!(added.status, 200, "{}", added.text());
    }
}

#[test]
fn commands_by_the_bus_do_what_the_api_does() {
    let machine = Machine::with_commands("node = \"gate\"", COMMANDS);
    let bundle = |name: &str, text: &str| {
        fs::write(machine.folder().join(name), text).unwrap();
        json!(machine.folder().join(name))
    };
    let (forged, signed) = (bundle("forged.raucb", "forged"), bundle("next.raucb", "signed"));
    let daemon = machine.setup.start();
    until_state(&daemon, "good");
    add_users(&daemon, &["fleet"]);
    let mut fleet = Asker::of(&daemon, "backend", Some("fleet"));

    let status = fleet.asks(&json!({ "id": "1", "command": "status" }));
    assert_eq!((&status["id"], &status["status"]), (&json!("1"), &json!(200)));
    assert_eq!(status["result"]["compatible"], "test");
    assert_eq!(status["result"]["commands"], "fleet/gate/update/request");
    let unknown = fleet.asks(&json!({ "id": "2", "command": "format" }));
    assert_eq!((&unknown["id"], &unknown["status"]), (&json!("2"), &json!(422)));
    assert!(
        unknown["error"].as_str().unwrap().contains("boot-other"),
        "{unknown}"
    );
    fleet.publish("reboot!", false, None);
    assert_eq!(fleet.answer()["status"], 422);
    fleet.publish(&"x".repeat(10_000), false, None);
    assert_eq!(fleet.answer()["status"], 413);

    let check = |bundle: &Value| json!({ "id": "3", "command": "check", "bundle": bundle });
    let refused = fleet.asks(&check(&forged));
    assert_eq!(refused["status"], 422);
    assert!(
        refused["error"].as_str().unwrap().contains("self-signed"),
        "{refused}"
    );
    assert_eq!(fleet.asks(&check(&signed))["result"]["version"], "1.2");
    let missing = fleet.asks(&json!({ "id": "4", "command": "install" }));
    assert_eq!(missing["status"], 404, "nothing was uploaded");

    let install = json!({ "id": "5", "command": "install", "bundle": signed, "reboot": true });
    fleet.says(&install);
    let (mut answers, mut progress) = (Vec::new(), Vec::new());
    while answers.is_empty() || progress.last().is_none_or(|told: &Value| told["ended"] != true) {
        match fleet.hears() {
            (level, told) if level == "progress" => progress.push(told),
            (_, answer) => answers.push(answer),
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["result"]["bundle"], signed);
    let end = progress.last().unwrap();
    assert_eq!(
        (&end["id"], &end["percent"], &end["error"]),
        (&json!("5"), &json!(100), &Value::Null)
    );
    eventually("the machine is started anew", || {
        machine.has_rebooted().then_some(())
    });
    // It comes again, as QoS 1 may, and is not done again.
    assert_eq!(fleet.asks(&install), answers[0]);
    let installs = machine
        .asked()
        .lines()
        .filter(|line| line.starts_with("install "))
        .count();
    assert_eq!(installs, 1);

    assert_eq!(
        fleet.asks(&json!({ "id": "6", "command": "mark", "state": "good" }))["status"],
        200
    );
    assert_eq!(
        fleet.asks(&json!({ "id": "7", "command": "boot-other" }))["result"],
        json!({})
    );
    assert!(machine.has_rebooted());
    let audit = HttpClient::control(&daemon).get("/api/v1/audit?limit=10").json();
    let told: Vec<_> = audit["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["who"] == "fleet")
        .map(|row| (row["request"].as_str().unwrap(), row["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("fleet/gate/update/request boot-other", 200),
            ("fleet/gate/update/request mark", 200),
            ("fleet/gate/update/request install", 200),
        ]
    );
    let from = audit["rows"].to_string();
    assert!(from.contains("client backend at 127.0.0.1"), "{from}");
    daemon.stop();

    // The command that started the machine anew may come again when it is up again.
    let daemon = machine.setup.start();
    let mut fleet = Asker::of(&daemon, "backend", Some("fleet"));
    let again = fleet.asks(&json!({ "id": "7", "command": "boot-other" }));
    assert_eq!(again["status"], 409, "{again}");
    assert!(!machine.has_rebooted());
    daemon.stop();
}

/// Rules alone let nobody in: anonymous clients and users that are not named are refused, and what nobody answers for is no request.
#[test]
fn commands_by_the_bus_are_for_who_is_named() {
    let rules = "[[auth.acl]]\neffect = \"deny\"\naction = \"publish\"\nuser = \"fleet\"\ntopics = [\"valves/#\"]\n[[auth.acl]]\neffect = \"deny\"\naction = \"publish\"\nuser = \"sensor\"\ntopics = [\"wells/#\"]\n[[auth.acl]]\neffect = \"allow\"\n";
    let machine = Machine::with_commands(&format!("node = \"gate\"\n{rules}"), COMMANDS);
    let daemon = machine.setup.start();
    until_state(&daemon, "good");
    add_users(&daemon, &["fleet", "sensor"]);
    let boot_other = |id: &str| json!({ "id": id, "command": "boot-other" });
    let mut nobody = Asker::of(&daemon, "a", None);
    nobody.peer.subscribe("inbox", Qos::AtMostOnce).unwrap();
    nobody.publish(&boot_other("1").to_string(), false, answered_at("inbox"));
    let (level, refused) = nobody.hears();
    assert_eq!((&*level, &refused["status"]), ("inbox", &json!(403)));
    assert!(
        refused["error"].as_str().unwrap().contains("anonymous"),
        "{refused}"
    );
    // Where others listen nobody is refused, whatever id it says.
    let mut sensor = Asker::of(&daemon, "b", Some("sensor"));
    let mut fleet = Asker::of(&daemon, "backend", Some("fleet"));
    nobody.says(&boot_other("3"));
    sensor.peer.subscribe("inbox", Qos::AtMostOnce).unwrap();
    // Four of theirs wait at a time.
    for elsewhere in [
        &["wells/7", "$delayed/0/fleet/gate/update/reply"][..],
        &["$SYS/x"],
    ] {
        for wanted in elsewhere {
            sensor.publish(&boot_other("3").to_string(), false, answered_at(wanted));
        }
        sensor.publish(&boot_other("2").to_string(), false, answered_at("inbox"));
        let (level, refused) = sensor.hears();
        assert_eq!((&*level, &refused["id"]), ("inbox", &json!("2")));
    }
    drop((nobody, sensor));

    fleet.publish(&boot_other("3").to_string(), true, None);
    let refused = fleet.answer();
    assert!(
        refused["error"].as_str().unwrap().contains("retained"),
        "{refused}"
    );
    let message = json!({ "topic": REQUEST, "payload": boot_other("4").to_string() });
    assert_eq!(
        HttpClient::control(&daemon)
            .post("/api/v1/publish", &message)
            .status,
        200
    );
    fleet
        .peer
        .publish(
            &format!("$delayed/0/{REQUEST}"),
            &boot_other("5").to_string(),
            None,
            false,
        )
        .unwrap();

    // The answer goes where it is wanted, if whoever asks may publish there.
    for filter in ["inbox", "valves/7"] {
        fleet.peer.subscribe(filter, Qos::AtMostOnce).unwrap();
    }
    for (wanted, goes_to) in [("inbox", "inbox"), ("valves/7", "fleet/gate/update/reply")] {
        let status = json!({ "id": wanted, "command": "status" });
        fleet.publish(&status.to_string(), false, answered_at(wanted));
        let answer = loop {
            match fleet.peer.recv().unwrap() {
                Packet::Publish(publish) => break publish,
                _ => continue,
            }
        };
        assert_eq!(answer.topic.as_str(), goes_to);
        let told: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!((&told["id"], &told["status"]), (&json!(wanted), &json!(200)));
        assert_eq!(
            answer.properties.unwrap().correlation_data.as_deref(),
            Some(&b"\x00\x01"[..])
        );
        if let Some(id) = answer.packet_id {
            fleet
                .peer
                .ack(headgate_mqtt_codec::AckKind::PubAck, id.get())
                .unwrap();
        }
    }
    assert!(!machine.has_rebooted(), "nothing of all this was done");
    assert!(!machine.asked().contains("mark-active"));

    // Who asks too often has to wait.
    let status = json!({ "id": "many", "command": "status" });
    (0..30).for_each(|_| fleet.says(&status));
    let statuses: Vec<_> = (0..30).map(|_| fleet.answer()["status"].clone()).collect();
    assert!(statuses.contains(&json!(429)), "{statuses:?}");
    daemon.stop();
}

/// A client knows topics by its listener's names, and its answers stay within the mount point.
#[test]
fn answers_go_where_the_client_of_a_mount_point_means() {
    let mounted = "[[listeners]]\nname = \"mounted\"\nbind = \"127.0.0.1:0\"\nmount_point = \"fleet/\"\n";
    let machine = Machine::with_commands(&format!("node = \"gate\"\n{mounted}"), COMMANDS);
    let daemon = machine.setup.start();
    until_state(&daemon, "good");
    add_users(&daemon, &["fleet"]);
    let mut outside = Asker::of(&daemon, "outside", None);
    outside.peer.subscribe("out/#", Qos::AtMostOnce).unwrap();
    let port = daemon.port_of("mounted");
    let mut fleet = Peer::connect_as(port, "inside", "fleet", "correct horse").unwrap();
    fleet.subscribe("out/x", Qos::AtMostOnce).unwrap();
    fleet
        .send(&Packet::Publish(Publish {
            qos: Qos::AtMostOnce,
            topic: "gate/update/request".to_owned().try_into().unwrap(),
            payload: json!({ "id": "1", "command": "status" }).to_string().into(),
            properties: answered_at("out/x").map(Box::new),
            ..Publish::default()
        }))
        .unwrap();
    let answer = fleet.hear();
    assert_eq!(answer.topic, "out/x");
    outside.peer.publish("out/last", "{}", None, false).unwrap();
    assert_eq!(outside.hears().0, "last", "nothing left the mount point");
    daemon.stop();
}

#[test]
fn a_bridge_brings_commands_from_a_cloud() {
    let remote = Mosquitto::start("");
    let bridge = bridge_to(&remote).replace(
        "topics = [",
        "topics = [\"fleet/gate/update/request in 1\", \"fleet/gate/update/reply out 1\", \"fleet/gate/update/progress out 1\", ",
    );
    let machine = Machine::with_commands(&bridge, COMMANDS);
    let daemon = machine.setup.start();
    daemon.until_bridge_is("cloud", "connected");
    until_state(&daemon, "good");
    let (mut cloud, _) = Peer::connect(remote.port(), "cloud", true, 0).unwrap();
    cloud
        .subscribe("fleet/gate/update/reply", Qos::AtLeastOnce)
        .unwrap();
    let request = json!({ "id": "c-1", "command": "boot-other" }).to_string();
    cloud.publish(REQUEST, &request, None, false).unwrap();
    let answer: Value = serde_json::from_str(&cloud.hear().payload).unwrap();
    assert_eq!(
        answer,
        json!({ "id": "c-1", "command": "boot-other", "status": 200, "result": {} })
    );
    assert!(machine.has_rebooted());
    let audit = HttpClient::control(&daemon).get("/api/v1/audit?limit=1").json();
    assert_eq!(audit["rows"][0]["who"], "bridge cloud");
    daemon.stop();
}

#[test]
fn without_rauc_it_says_so() {
    if Path::new("/etc/rauc/system.conf").exists() {
        return;
    }
    let setup = Setup::new();
    let daemon = setup.start();
    let view = view(&daemon);
    assert_eq!(
        (&view["available"], &view["state"]),
        (&json!(false), &json!("none"))
    );
    assert!(
        view["why_not"].as_str().unwrap().contains("system.conf"),
        "{view}"
    );
    let refused =
        HttpClient::control(&daemon).post(&format!("{FIRMWARE}/install"), &json!({ "bundle": "/x" }));
    assert_eq!(refused.status, 409);
    daemon.stop();
}
