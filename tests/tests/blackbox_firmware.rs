//! Updates of the system, with a stand-in for RAUC that says and does what RAUC 1.8 says and does; the real one is in `make image-test`.

use headgate_tests::blackbox::{Daemon, HttpClient, Mosquitto, Setup, eventually};
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
        let setup = Setup::with(&format!(
            "{sections}\n[firmware]\nprogram = \"./rauc/rauc\"\nreboot = [\"touch\", \"rauc/rebooted\"]\nfactory_reset = [\"touch\", \"rauc/wiped\"]\ntrial_time = \"10s\"\n"
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
