//! Configurations that cannot be, and reading them again, with the real binary: `headgate check` tells what `headgate run` would refuse, all of it, and changes nothing.

use headgate_tests::blackbox::{Certificates, Setup, Transport, headgate};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

fn in_folder(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    // A gateway that starts after all must not stay.
    let mut command = Command::new("timeout");
    command.arg("60").arg(headgate()).args(args);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

/// What a command complains of, line by line.
fn complaints(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.strip_prefix("headgate: ").unwrap_or(&text);
    text.lines().map(str::to_owned).collect()
}

/// All names below a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}

/// `check` and `run` refuse the configuration with the same words; these.
fn refused(folder: &Path, text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    std::fs::write(folder.join("headgate.toml"), text).unwrap();
    let before = files(folder);
    let check = in_folder(folder, &["check", "--config", "headgate.toml"], variables);
    assert!(!check.status.success(), "check takes it:\n{text}");
    assert_eq!(files(folder), before, "check changes nothing:\n{text}");
    let run = in_folder(folder, &["run", "--config", "headgate.toml"], variables);
    assert_eq!(run.status.code(), Some(1), "run takes it:\n{text}");
    assert_eq!(complaints(&check), complaints(&run), "{text}");
    complaints(&check)
}

fn listener(name: &str, more: &str) -> String {
    format!("[[listeners]]\nname = \"{name}\"\n{more}\n")
}

/// What a new user writes, and what is said of it. No word of Rust is in it.
#[test]
fn slips_of_the_pen_are_told_with_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    Certificates::create(folder);
    let tcp = |more: &str| listener("a", &format!("bind = \"127.0.0.1:0\"\n{more}"));
    let bridge = |more: &str| format!("node = \"edge\"\n[[bridges]]\nname = \"up\"\n{more}\n");
    let duration = "allowed is a text of numbers with units, such as \"500ms\", \"10s\"";
    let cases = [
        (
            "[auth]\nanonymous = true\n".into(),
            ":2:13: auth.anonymous: `true` is not allowed here, allowed is `\"nowhere\"`, `\"loopback\"`",
        ),
        (
            bridge("addresses = [\"mqtt://a\"]\nversion = 5"),
            ":5:11: bridges.version: `5` is not allowed here, allowed is `\"mqttv31\"`",
        ),
        (
            bridge("preset = \"aws\""),
            ":4:10: bridges.preset: a text is not allowed here, allowed is a section such as `preset = { cloud = \"aws-iot\", endpoint = …, thing = … }`",
        ),
        (
            bridge("preset = { host = \"a\" }"),
            ":4:10: bridges.preset: `up`: missing key `cloud`, allowed is a section such as",
        ),
        (tcp("handshake_timeout = \"10\""), duration),
        (tcp("handshake_timeout = 10"), duration),
        (tcp("handshake_timeout = \"-1s\""), duration),
        (
            "[listeners]\nname = \"a\"\n".into(),
            ":1:1: listeners: a list of sections: write `[[listeners]]`, not `[listeners]`",
        ),
        (
            "[listeners.a]\nbind = \"b\"\n".into(),
            ": a list of sections: write `[[listeners]]`, not `[listeners]`",
        ),
        (
            tcp("websocket = { path = \"/x\" }"),
            ":4:1: listeners.websocket: `a`: WebSocket settings are for kind `ws` or `wss`",
        ),
        (
            tcp("sockjs = { path = \"/x\" }"),
            ":4:1: listeners.sockjs: `a`: SockJS settings are for kind `sockjs`",
        ),
        (
            tcp("unix = { mode = \"0600\" }"),
            ":4:1: listeners.unix: `a`: these settings are for kind `unix`",
        ),
        (
            tcp("tls = { certificate = \"server.pem\", key = \"server.key\" }"),
            ":4:1: listeners.tls: `a`: TLS settings are for kind `tls`, `wss` or `sockjs`",
        ),
        (
            tcp("kind = \"tls\""),
            "listeners.tls: `a`: this kind needs `tls = { certificate = ",
        ),
        (listener("a", ""), ":1:1: listeners: `a`: missing key `bind`"),
        (
            "[[mqttsn]]\nname = \"sn\"\nkind = \"serial\"\n".into(),
            "mqttsn.serial: `sn`: serial is missing, such as `serial = { port = ",
        ),
        (
            "data_dir = 5\n".into(),
            ":1:12: data_dir: invalid type: integer `5`, allowed is a path, in quotes",
        ),
    ];
    for (text, told) in &cases {
        let lines = refused(folder, text, &[]);
        assert!(
            lines.len() == 1 && lines[0].contains(told),
            "{told}\n{lines:#?}\n{text}"
        );
    }
    let lines = refused(
        folder,
        &bridge("addresses = [\"mqtt://a\"]\nlogin = \"joe:hunter2\""),
        &[],
    );
    assert!(
        lines[0].contains("bridges.login: a text is not allowed here") && !lines[0].contains("hunter2"),
        "{lines:#?}"
    );
    let tls = |tls: &str| tcp(&format!("kind = \"tls\"\ntls = {{ {tls} }}"));
    let lines = refused(folder, &tls("cert = \"server.pem\", key = \"server.key\""), &[]);
    assert!(
        lines[0].contains(" (did you mean `certificate`?), expected "),
        "{lines:#?}"
    );
    let lines = refused(
        folder,
        &tls("certificate = \"server.key\", key = \"server.pem\""),
        &[],
    );
    for (line, told) in lines.iter().zip([
        "server.key: there is no certificate in it, but a private key",
        "server.pem: there is no private key in it, but a certificate",
    ]) {
        assert!(
            line.contains(told) && line.ends_with(": are `certificate` and `key` swapped?"),
            "{line}"
        );
    }
    assert_eq!(lines.len(), 2, "{lines:#?}");

    std::fs::write(folder.join("latin1.toml"), b"node = \"a\"\n# K\xfcche\n").unwrap();
    let check = in_folder(folder, &["check", "--config", "latin1.toml"], &[]);
    assert_eq!(
        complaints(&check),
        ["latin1.toml:2:4: the text is not UTF-8: save the file in this encoding"]
    );
}

/// A listener that stands in no file, on an address that somebody has.
#[test]
fn a_default_listener_that_is_in_the_way_is_told_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Whoever has it, it is taken.
    let _socket = std::net::UdpSocket::bind("127.0.0.1:1884");
    let hint = "it is a default: sections `[[mqttsn]]` replace it, and `mqttsn = []` switches it off";
    let sn = "[[mqttsn]]\nname = \"mqttsn\"\nbind = \"127.0.0.1:1884\"\nadvertise_to = \"127.0.0.1:1885\"\n";
    for (more, is_told) in [("", true), (sn, false)] {
        let others = "coap = []\nlwm2m = []\n";
        let text = others.to_owned() + &listener("a", "bind = \"127.0.0.1:0\"") + more;
        std::fs::write(folder.join("headgate.toml"), text).unwrap();
        let run = in_folder(folder, &["run", "--config", "headgate.toml"], &[]);
        let told = complaints(&run).join("\n");
        assert!(
            !run.status.success() && told.contains("cannot listen on 127.0.0.1:1884"),
            "{told}"
        );
        assert_eq!(told.contains(hint), is_told, "{told}");
    }
}

/// Each class of faults, alone.
#[test]
fn check_refuses_what_run_refuses_with_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    Certificates::create(folder);
    std::fs::create_dir(folder.join("other")).unwrap();
    Certificates::create(&folder.join("other"));
    std::fs::write(folder.join("file"), "nothing of use").unwrap();
    let tls = |tls: &str| {
        listener(
            "a",
            &format!("kind = \"tls\"\nbind = \"127.0.0.1:0\"\ntls = {{ {tls} }}"),
        )
    };
    let unix = |bind: &str, unix: &str| {
        listener(
            "a",
            &format!("kind = \"unix\"\nbind = \"{bind}\"\nunix = {{ {unix} }}"),
        )
    };
    let tcp = |bind: &str| listener("a", &format!("bind = \"{bind}\""));
    let good = "certificate = \"server.pem\", key = \"server.key\"";
    let bridge = |more: &str| format!("node = \"edge\"\n[[bridges]]\nname = \"up\"\n{more}\n");
    let sn = |more: &str| format!("[[mqttsn]]\nname = \"sn\"\n{more}\n");
    let serial = |more: &str| {
        sn(&format!(
            "kind = \"serial\"\nserial = {{ port = \"/dev/ttyS9\", {more} }}"
        ))
    };
    let cases = [
        // The file.
        ("node = \"a\n".into(), ":1:", "invalid"),
        (
            "[mqtt]\nmax_qso = 1\n".into(),
            ":2:1: mqtt.max_qso: ",
            "did you mean `max_qos`?",
        ),
        (
            "[mqtt]\nmax_qos = 300\n".into(),
            ":2:11: mqtt.max_qos: ",
            "allowed is a number from 0 to 255",
        ),
        (
            "[mqtt]\nmax_qos = 3\n".into(),
            ":2:1: mqtt.max_qos: ",
            "allowed is 0 to 2",
        ),
        ("[log]\nlevel = \"inof\"\n".into(), ":2:1: log.level: ", "`inof`"),
        (
            "[log]\nlevel = \"info,[=info\"\n".into(),
            ":2:1: log.level: ",
            "allowed is off, error",
        ),
        // Folders and files.
        (
            "data_dir = \"file\"\n".into(),
            ":1:1: data_dir: file: ",
            "it is a file, not a folder",
        ),
        (
            "data_dir = \"file/below\"\n".into(),
            ":1:1: data_dir: file/below",
            "Not a directory",
        ),
        (
            "[auth]\nusers_file = \"file\"\n".into(),
            ":2:1: auth.users_file: file:1:",
            "expected",
        ),
        (
            "[auth]\nusers_file = \"other\"\n".into(),
            ":2:1: auth.users_file: other: ",
            "directory",
        ),
        (
            "[[auth.acl]]\neffect = \"allow\"\ntopics = []\n".into(),
            ":3:1: auth.acl.topics: ",
            "leave `topics` out",
        ),
        // Certificates.
        (
            tls("certificate = \"no.pem\", key = \"server.key\""),
            ":5:9: listeners.tls.certificate: `a`: no.pem: ",
            "No such file",
        ),
        (
            tls("certificate = \"server.pem\", key = \"file\""),
            ":5:37: listeners.tls.key: `a`: file: ",
            "",
        ),
        (
            tls("certificate = \"server.pem\", key = \"other/server.key\""),
            ":5:9: listeners.tls.certificate: `a`: server.pem: ",
            "the certificate is not for the key in other/server.key",
        ),
        (
            tls(&format!("{good}, client_ca = \"file\"")),
            ": listeners.tls.client_ca: `a`: file: ",
            "there is no certificate in it",
        ),
        (
            tls(&format!("{good}, ciphers = [\"ROT13\"]")),
            ": listeners.tls.ciphers: `a`: ",
            "known are",
        ),
        // Addresses.
        (
            tcp("localhost:1883"),
            ":3:1: listeners.bind: `a`: ",
            "is no address with a port",
        ),
        (
            tcp("192.0.2.1:1883"),
            ":3:1: listeners.bind: `a`: ",
            "cannot listen on 192.0.2.1:1883",
        ),
        (
            tcp("0.0.0.0:1883") + &listener("b", "bind = \"127.0.0.1:1883\""),
            ":6:1: listeners.bind: `b` wants ",
            "which `a` has",
        ),
        (
            tcp("[::]:1883") + &listener("b", "bind = \"0.0.0.0:1883\""),
            ":6:1: listeners.bind: `b` wants ",
            "which `a` has",
        ),
        (
            sn("bind = \"192.0.2.1:1884\""),
            ":3:1: mqttsn.bind: `sn`: ",
            "cannot listen on 192.0.2.1:1884",
        ),
        (
            sn("bind = \"0.0.0.0:1884\"\nmulticast = { group = \"10.0.0.1\" }"),
            ":4:15: mqttsn.multicast.group: `sn`: ",
            "no multicast address",
        ),
        (
            sn("bind = \"0.0.0.0:1884\"\nmulticast = { group = \"239.1.1.1\", interfaces = [\"moon7\"] }"),
            ": mqttsn.multicast.interfaces: `sn`: ",
            "no interface `moon7`",
        ),
        (
            unix("mqtt.sock", "mode = \"rw\""),
            ":5:10: listeners.unix.mode: `a`: ",
            "no octal mode",
        ),
        (
            unix("mqtt.sock", "owner = \"nobody-has-this-name\""),
            ":5:10: listeners.unix.owner: `a`: ",
            "is not in /etc/passwd",
        ),
        (unix("file", ""), ":4:1: listeners.bind: `a`: file: ", "no socket"),
        (
            unix("nowhere/mqtt.sock", ""),
            ":4:1: listeners.bind: `a`: nowhere: ",
            "No such file",
        ),
        (
            unix("a.sock", "") + &listener("b", "kind = \"unix\"\nbind = \"./other/../a.sock\""),
            ":9:1: listeners.bind: `b` wants ",
            "which `a` has",
        ),
        // Lines.
        (
            serial("baud = 0"),
            ": mqttsn.serial.baud: `sn`: ",
            "allowed is 1 and more",
        ),
        (
            serial("data_bits = 9"),
            ": mqttsn.serial.data_bits: `sn`: ",
            "allowed is 5 to 8",
        ),
        (
            serial("")
                + "[[mqttsn]]\nname = \"two\"\nkind = \"serial\"\nserial = { port = \"/dev/../dev/ttyS9\" }\n",
            ": mqttsn.serial.port: `two` wants ",
            "which `sn` has",
        ),
        // Bridges.
        (
            bridge(""),
            ":2:1: bridges.addresses: `up`: ",
            "at least one is wanted",
        ),
        (
            bridge("addresses = [\"mqtt://a\"]\ntopics = [\"a/#/b\"]"),
            ":5:11: bridges.topics: `up`: ",
            "`a/#/b`",
        ),
        (
            bridge("addresses = [\"mqtts://a\"]\ntls.certificate = \"c.pem\""),
            ": bridges.tls: `up`: ",
            "belong together",
        ),
    ];
    for (text, place, told) in &cases {
        let lines = refused(folder, text, &[]);
        let line = &lines[0];
        assert!(
            line.starts_with("headgate.toml:") && line.contains(place) && line.contains(told),
            "{place}: {line}\n{text}"
        );
        assert_eq!(lines.len(), 1, "{lines:#?}\n{text}");
    }
    let variables = [
        ("HEADGATE__MQTT__MAX_QOS", "3"),
        ("HEADGATE__BSU__X", "1"),
        ("HEADGATE_CONFGI", "x"),
    ];
    let lines = refused(folder, "", &variables);
    assert!(
        lines[0].contains("variable HEADGATE__BSU__X: bsu: unknown key `bsu`"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("variable HEADGATE__MQTT__MAX_QOS: mqtt.max_qos: 3 is out of range"),
        "{lines:#?}"
    );
    assert!(
        lines[2].starts_with("warning: environment variable HEADGATE_CONFGI: "),
        "{lines:#?}"
    );
}

/// Of every kind one, in one file: types, values, files, addresses.
#[test]
fn all_faults_of_a_file_are_told_at_once_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("file"), "").unwrap();
    let text = r#"data_dir = "file"
node = "a/b"
[log]
level = "loud"
[mqtt]
max_qso = 1
max_qos = 3
receive_maximum = "many"
[bus]
max_inflight = 0
[bus.retained]
expiry = "soon"
[sys]
presence_qos = 7
[auth.passwords]
at_once = 100
[[auth.acl]]
effect = "perhaps"
[[listeners]]
name = "a"
bind = "0.0.0.0:1883"
[[listeners]]
name = "b"
bind = "127.0.0.1:1883"
[[listeners]]
name = "c"
kind = "tls"
bind = "127.0.0.1:8883"
[listeners.tls]
certificate = "no.pem"
key = "file"
[[mqttsn]]
name = "sn"
kind = "serial"
serial = { port = "/dev/ttyS9", baud = 0, parity = "evn" }
[[bridges]]
name = "up"
addresses = ["ftp://a"]
keep_alive = "1s"
"#;
    let expected = [
        (1, "data_dir"),
        (2, "node"),
        (4, "log.level"),
        (6, "mqtt.max_qso"),
        (7, "mqtt.max_qos"),
        (8, "mqtt.receive_maximum"),
        (10, "bus.max_inflight"),
        (12, "bus.retained.expiry"),
        (14, "sys.presence_qos"),
        (16, "auth.passwords.at_once"),
        (18, "auth.acl.effect"),
        (24, "listeners.bind"),
        (30, "listeners.tls.certificate"),
        (31, "listeners.tls.key"),
        (35, "mqttsn.serial.baud"),
        (35, "mqttsn.serial.parity"),
        (38, "bridges.addresses"),
        (39, "bridges.keep_alive"),
    ];
    let lines = refused(folder, text, &[]);
    for (line, key) in expected {
        let found = lines.iter().filter(|told| {
            told.starts_with(&format!("headgate.toml:{line}:")) && told.contains(&format!(": {key}: "))
        });
        assert_eq!(found.count(), 1, "{line} {key}\n{lines:#?}");
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");

    let check = in_folder(folder, &["check", "--json", "--config", "headgate.toml"], &[]);
    assert!(!check.status.success());
    let answer: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(answer["ok"], false);
    let faults = answer["faults"].as_array().unwrap();
    let told = faults.iter().map(|fault| {
        assert_eq!(fault["file"], "headgate.toml", "{fault}");
        assert!(!fault["message"].as_str().unwrap().is_empty(), "{fault}");
        (
            fault["line"].as_u64().unwrap(),
            fault["key"].as_str().unwrap().to_owned(),
        )
    });
    let expected = expected.iter().map(|(line, key)| (*line, (*key).to_owned()));
    assert_eq!(told.collect::<BTreeSet<_>>(), expected.collect());
}

/// What the system does not let this user do. Root may do all of it, so it is nobody who tries.
#[test]
fn what_the_user_may_not_do_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(folder, 0o755);
    for (name, rights) in [("closed", 0o555), ("data", 0o755)] {
        std::fs::create_dir(folder.join(name)).unwrap();
        mode(&folder.join(name), rights);
    }
    std::fs::write(folder.join("secret.pem"), "").unwrap();
    mode(&folder.join("secret.pem"), 0o000);
    let binary = folder.join("headgate");
    // By a process of its own: a file that this one has open for writing, in whatever thread and child, cannot be run.
    let copied = Command::new("cp").args([headgate(), &*binary]).status();
    assert!(copied.unwrap().success());
    let text = "data_dir = \"closed/data\"\n\
                [auth]\nusers_file = \"secret.pem\"\n\
                [[listeners]]\nname = \"u\"\nkind = \"unix\"\nbind = \"closed/mqtt.sock\"\nunix = { owner = \"root\" }\n\
                [[listeners]]\nname = \"t\"\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\ntls = { certificate = \"secret.pem\", key = \"secret.pem\" }\n";
    std::fs::write(folder.join("headgate.toml"), text).unwrap();
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let as_nobody = |command: &str| {
        let mut words = vec!["timeout", "60"];
        if is_root {
            words.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        words.extend([binary.to_str().unwrap(), command, "--config", "headgate.toml"]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(folder);
        command.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap()
    };
    let (check, run) = (as_nobody("check"), as_nobody("run"));
    assert_eq!((check.status.code(), run.status.code()), (Some(1), Some(1)));
    let lines = complaints(&check);
    assert_eq!(lines, complaints(&run));
    let expected = [
        ":1:1: data_dir: closed/data cannot be made: closed: ",
        ":3:1: auth.users_file: secret.pem: ",
        ":7:1: listeners.bind: `u`: closed: no socket can be made in it: ",
        ":8:10: listeners.unix.owner: `u`: needs the right to give files away",
        ":13:9: listeners.tls.certificate: `t`: secret.pem: ",
        ":13:37: listeners.tls.key: `t`: secret.pem: ",
    ];
    for (line, told) in lines.iter().zip(expected) {
        assert!(
            line.starts_with(&format!("headgate.toml{told}")),
            "{told}\n{lines:#?}"
        );
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
}

/// What is no reason not to start is told, and the gateway starts.
#[test]
fn a_warning_is_told_by_check_and_in_the_log() {
    let mut setup = Setup::with(
        "node = \"edge\"\n[[bridges]]\nname = \"up\"\naddresses = [\"mqtts://127.0.0.1:1\"]\n\
         tls = { ca = \"no.pem\", certificate = \"server.pem\", key = \"ca.pem\" }\n\
         [[mqttsn]]\nname = \"line\"\nkind = \"serial\"\nserial = { port = \"/dev/nowhere\", baud = 9601 }\n",
    );
    setup.variable("HEADGATE_MQTT__MAX_QOS", "1");
    let daemon = setup.start();
    let log = setup.log();
    for told in [
        "environment variable HEADGATE_MQTT__MAX_QOS: it sets nothing; did you mean HEADGATE__MQTT__MAX_QOS?",
        "bridges.tls.ca: `up`: no.pem: ",
        "bridges.tls.key: `up`: ca.pem: ",
        "mqttsn.serial.baud: `line`: 9601 is no usual rate",
    ] {
        assert!(log.contains(told), "{told}\n{log}");
        let variables = [("HEADGATE_MQTT__MAX_QOS", "1")];
        let check = in_folder(
            setup.folder(),
            &["check", "--config", "headgate.toml"],
            &variables,
        );
        assert!(
            check.status.success(),
            "its ports are taken by the gateway itself: {:?}",
            complaints(&check)
        );
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(
            said.contains(told) && said.ends_with("The configuration is good.\n"),
            "{said}"
        );
        let check = in_folder(
            setup.folder(),
            &["check", "--json", "--config", "headgate.toml"],
            &variables,
        );
        let answer: Value = serde_json::from_slice(&check.stdout).unwrap();
        assert_eq!(
            (&answer["ok"], answer["warnings"].as_array().unwrap().len()),
            (&Value::Bool(true), 4)
        );
    }
    drop(daemon);
}

/// The configuration is good, with these warnings.
fn warned(folder: &Path, text: &str) -> Vec<String> {
    std::fs::write(folder.join("headgate.toml"), text).unwrap();
    let check = in_folder(folder, &["check", "--config", "headgate.toml"], &[]);
    assert!(check.status.success(), "{:?}\n{text}", complaints(&check));
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    let warnings = said.lines().filter_map(|line| line.strip_prefix("warning: "));
    warnings.map(str::to_owned).collect()
}

/// Adds a user; what is said on standard error.
fn add_user(folder: &Path, name: &str, password: &str) -> Vec<String> {
    std::fs::write(folder.join("password"), password).unwrap();
    let args = [
        "users",
        "add",
        "--config",
        "headgate.toml",
        name,
        "--password-file",
        "password",
    ];
    let output = in_folder(folder, &args, &[]);
    assert!(output.status.success(), "{output:?}");
    complaints(&output)
}

/// What a gateway starts with and what does not do what it was written for.
#[test]
fn what_does_nothing_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let unix = |bind: &str| format!("[[listeners]]\nname = \"a\"\nkind = \"unix\"\nbind = \"{bind}\"\n");
    let rule = |more: &str| format!("[[auth.acl]]\neffect = \"allow\"\n{more}\n");
    let cases = [
        (
            rule("topics = [\"a\", \"plant/%x/#\"]"),
            ":3:16: auth.acl.topics: `plant/%x/#`: `%x` stands for itself; placeholders are `%c`",
        ),
        (
            rule("topics = [\"${username}/#\"]"),
            ":3:11: auth.acl.topics: `${username}/#`: `${username}` stands for itself",
        ),
        (
            unix("127.0.0.1:1883"),
            ":4:1: listeners.bind: `a`: kind is `unix`: a file called `127.0.0.1:1883` is made",
        ),
        (
            "[auth]\nusers_file = \"nowhere/users.json\"\n".into(),
            ":2:1: auth.users_file: there is no folder nowhere, so nobody can log in; `headgate users add` makes it",
        ),
    ];
    for (text, told) in &cases {
        let warnings = warned(folder, text);
        assert!(
            warnings.len() == 1 && warnings[0].contains(told),
            "{told}\n{warnings:#?}"
        );
    }
    let own = Certificates::create_self_signed_authority(folder);
    let tls = format!(
        "kind = \"tls\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificate = {:?}, key = {:?} }}",
        own.certificate, own.key
    );
    let warnings = warned(folder, &listener("a", &tls));
    assert!(
        warnings.len() == 1
            && warnings[0].contains("listeners.tls.certificate: `a`: ")
            && warnings[0].contains("a CA's certificate (CA:TRUE)"),
        "{warnings:#?}"
    );
    for good in [
        rule("topics = [\"plant/%u/%c/100%\"]"),
        unix("run:1883/x.sock").replace("run:1883", "."),
        rule("user = \"ghost\""),
    ] {
        assert_eq!(warned(folder, &good), [""; 0], "{good}");
    }
}

/// Rules, links and log-ins of sensors for users there are not, or with another password.
#[test]
fn users_that_nobody_is_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "[auth]\nusers_file = \"new/users.json\"\nlinks = [\"hall\", \"ghost\", \"*\"]\n\
                [[auth.acl]]\neffect = \"allow\"\nuser = \"ghost\"\n[[auth.acl]]\neffect = \"allow\"\nuser = \"hall\"\n\
                [[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:0\"\n\
                [mqttsn.gateway]\ncredentials = [\n\
                { client_id = \"a\", username = \"hall\", password = \"right\" },\n\
                { client_id = \"b\", username = \"hall\", password = \"wrong\" },\n\
                { client_id = \"c\", username = \"pump7\", password = \"right\" },\n]\n";
    let unknown =
        "mqttsn.gateway.credentials.username: `sn`: there is no user `hall`; `headgate users add` adds one";
    assert!(warned(folder, text).iter().any(|told| told.contains(unknown)));
    assert_eq!(add_user(folder, "hall", "right"), ["made the folder new"]);
    assert_eq!(add_user(folder, "hall", "right"), [""; 0]);
    let expected = [
        ":6:1: auth.acl.user: there is no user `ghost`",
        ":3:18: auth.links: there is no user `ghost`",
        ":16:20: mqttsn.gateway.credentials.username: `sn`: the password with it is not that of the user `hall`",
        ":17:20: mqttsn.gateway.credentials.username: `sn`: there is no user `pump7`",
    ];
    let warnings = warned(folder, text);
    for told in expected {
        assert!(
            warnings.iter().any(|line| line.contains(told)),
            "{told}\n{warnings:#?}"
        );
    }
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    assert!(!warnings.concat().contains("wrong"), "{warnings:#?}");
}

/// Users and the store need little of the configuration: a fault in the rest is a warning there, one in what they need is not.
#[test]
fn a_fault_elsewhere_does_not_keep_from_users_and_store() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = |text: &str, args: &[&str]| {
        std::fs::write(folder.join("headgate.toml"), text).unwrap();
        in_folder(folder, &[args, &["--config", "headgate.toml"]].concat(), &[])
    };
    let fault = "data_dir = \"data\"\n[mqtt]\nmax_qso = 1\nmax_qos = 7\n[[auth.acl]]\neffect = \"perhaps\"\n";
    std::fs::write(folder.join("headgate.toml"), fault).unwrap();
    let told = add_user(folder, "joe", "hunter2");
    assert_eq!(
        told[..3]
            .iter()
            .filter(|line| line.starts_with("warning: headgate.toml:"))
            .count(),
        3,
        "{told:#?}"
    );
    assert!(told[0].contains("mqtt.max_qso: unknown key"), "{told:#?}");
    assert!(folder.join("data/users.json").is_file());
    let list = run(fault, &["users", "list"]);
    assert_eq!(String::from_utf8_lossy(&list.stdout), "joe\n", "{list:?}");
    assert!(run(fault, &["users", "del", "joe"]).status.success());
    let check = run(fault, &["store", "check"]);
    assert!(
        complaints(&check)
            .iter()
            .any(|line| line.contains("data/store: there is no store")),
        "{check:?}"
    );
    for needed in [
        "data_dri = \"data\"\n",
        "data_dir = 5\n",
        "[auth]\nuser_file = \"x\"\n",
        "auth = 5\n",
        "[auth\n",
    ] {
        let add = run(needed, &["users", "list"]);
        assert!(!add.status.success(), "{needed}: {add:?}");
    }
    assert!(
        !run("[store]\ndurability = \"perhaps\"\n", &["store", "check"])
            .status
            .success()
    );
}

/// A file that is no TOML hides the running gateway from no command that asks it: the valid configuration can be taken back. What would write into a
/// data folder by itself does not guess which one is meant.
#[test]
fn a_running_gateway_is_found_by_a_file_that_is_no_toml() {
    let setup = Setup::with("");
    let daemon = setup.start();
    let file = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let run = |args: &[&str]| {
        let config = ["--config", "headgate.toml"];
        in_folder(setup.folder(), &[args, &config].concat(), &[])
    };
    let valid = format!("max_connections = 77\n{text}");
    std::fs::write(&file, &valid).unwrap();
    assert!(run(&["reload"]).status.success());
    let said_twice = format!("{text}[sys]\n[sys]\n");
    for (broken, fault) in [
        (format!("a = = 1\n{text}"), "headgate.toml:1:"),
        (said_twice, "stands twice"),
    ] {
        std::fs::write(&file, broken).unwrap();
        for asks in [&["status"][..], &["alarms"], &["config", "history"]] {
            let output = run(asks);
            assert!(output.status.success(), "{asks:?} {output:?}");
            let warning = &complaints(&output)[0];
            assert!(
                warning.starts_with("warning: ") && warning.contains(fault),
                "{output:?}"
            );
        }
        std::fs::write(setup.folder().join("password"), "secret").unwrap();
        for refused in [
            &["reload"][..],
            &["users", "add", "joe", "--password-file", "password"],
            &["store", "check"],
        ] {
            let output = run(refused);
            assert!(
                !output.status.success() && complaints(&output)[0].contains(fault),
                "{refused:?} {output:?}"
            );
        }
    }
    // What is valid comes back first, then what was valid before. The edit is kept.
    let output = run(&["config", "rollback"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("they are kept in") && !said.contains("max_connections"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), valid);
    assert!(complaints(&run(&["status"])).is_empty());
    assert!(run(&["config", "rollback"]).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    daemon.stop();

    // Nothing runs: who would write there does not take what the line says.
    std::fs::write(&file, format!("{text}= 1\n")).unwrap();
    let add = ["administrators", "add", "joe", "--password-file", "password"];
    let output = run(&add);
    assert!(!output.status.success(), "{output:?}");
    assert!(!setup.folder().join("data/administrators.json").exists());
}

/// The ports of the defaults may be taken on this machine.
const OTHER_PORTS: [(&str, &str); 4] = [
    (
        "HEADGATE__LISTENERS",
        "[{ name = \"tcp\", bind = \"127.0.0.1:0\" }]",
    ),
    ("HEADGATE__MQTTSN", "[]"),
    ("HEADGATE__COAP", "[]"),
    ("HEADGATE__LWM2M", "[]"),
];

/// A configuration in the current folder is not read unasked, and whoever names none is told of it.
#[test]
fn a_configuration_that_was_not_named_is_told_of() {
    const HERE: &str = "there is a headgate.toml here: `--config headgate.toml` or HEADGATE_CONFIG reads it";
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = |args: &[&str]| in_folder(folder, args, &[]);
    let check = |json: &[&str]| in_folder(folder, &[&["check"], json].concat(), &OTHER_PORTS);
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let judged = "The embedded defaults are good: neither --config nor HEADGATE_CONFIG names a file";
    assert_eq!(said(&check(&[])), format!("{judged}.\n"));
    assert!(!complaints(&run(&["status"]))[0].contains(HERE));

    std::fs::write(folder.join("headgate.toml"), "data_dir = \"elsewhere\"\n").unwrap();
    assert_eq!(said(&check(&[])), format!("{judged}; {HERE}.\n"));
    let answer: Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    assert_eq!(
        (&answer["configuration"], &answer["ok"]),
        (&Value::Null, &Value::Bool(true))
    );
    let asked = run(&["status"]);
    assert!(complaints(&asked)[0].ends_with(HERE), "{asked:?}");
    std::fs::write(folder.join("password"), "secret").unwrap();
    let added = run(&["users", "add", "joe", "--password-file", "password"]);
    assert_eq!(complaints(&added)[0], format!("warning: {HERE}"), "{added:?}");
    let named = run(&[
        "users",
        "add",
        "joe",
        "--password-file",
        "password",
        "--config",
        "headgate.toml",
    ]);
    assert!(
        !complaints(&named).iter().any(|line| line.contains(HERE)),
        "{named:?}"
    );
    assert!(folder.join("elsewhere/users.json").is_file());
}

/// `headgate reload` and SIGHUP say what has changed; of a secret only that it has.
#[test]
fn reading_again_tells_what_has_changed() {
    let sn = |password: &str| {
        format!(
            "[[mqttsn]]\nname = \"sn\"\nbind = \"127.0.0.1:0\"\ngateway.default_password = \"{password}\"\n"
        )
    };
    let setup = Setup::with(&sn("dumb"));
    let daemon = setup.start();
    let file = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let reload = || in_folder(setup.folder(), &["reload", "--config", "headgate.toml"], &[]);
    let hang_up = || {
        let told = Command::new("kill")
            .args(["-HUP", &daemon.pid().to_string()])
            .status();
        assert!(told.unwrap().success());
    };
    let output = reload();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing has changed\n");

    let topics = vec!["\"a/long/topic/filter/#\""; 50].join(", ");
    let rules = format!("[[auth.acl]]\neffect = \"allow\"\ntopics = [{topics}]\n").repeat(30);
    let rewriting = "[[bus.rewrite]]\nsource = \"a\"\npattern = \"x\"\ntarget = \"b\"\n".repeat(30);
    let changed = text.replace("dumb", "silly") + &format!("[mqtt]\nmax_qos = 1\n{rules}{rewriting}");
    let changed = format!("{changed}[store]\ndurability = \"memory\"\n");
    std::fs::write(&file, &changed).unwrap();
    let output = reload();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for told in [
        "mqtt.max_qos: 2 → 1\n",
        "mqttsn[sn].gateway.default_password: changed (hidden)\n",
        "bus.rewrite: 30 entries are new\n",
        "listener mqttsn/sn: changed\n",
        "rules: changed\n",
        "\nstore.durability: \"power-loss\" → \"memory\"\n",
        "the store goes there, unless it is there: `headgate status` says where it is\n",
    ] {
        assert!(said.contains(told), "{told}\n{said}");
    }
    assert_eq!(said.matches("durability").count(), 1, "{said}");
    assert!(
        said.lines().count() <= 26 && said.lines().all(|line| line.chars().count() < 250),
        "{said}"
    );
    hang_up();
    let log = setup.log_with(&["configuration read again"]);
    assert!(
        ![&said, &log]
            .iter()
            .any(|text| text.contains("silly") || text.contains("dumb"))
    );

    // What cannot be is told in the same words as by `check`, all of it, and changes nothing.
    std::fs::write(
        &file,
        changed.replace("max_qos = 1", "max_qos = 9") + "[sys]\npresence_qos = 9\n",
    )
    .unwrap();
    hang_up();
    setup.log_with(&[
        "sys.presence_qos: 9",
        "mqtt.max_qos: 9 is out of range, allowed is 0 to 2",
        "cannot be read again, the old one stays",
    ]);
    let output = reload();
    assert!(
        !output.status.success() && complaints(&output).len() == 2,
        "{output:?}"
    );
    drop(daemon);
}

/// A limit of 0 is no limit: clients come in and messages pass.
#[test]
fn nothing_is_dropped_because_of_a_zero() {
    let setup = Setup::with(
        "max_connections = 0\n[mqtt]\nmax_client_id_bytes = 0\nmax_topic_bytes = 0\nmax_topic_levels = 0\n\
         [bus]\nmax_queued_messages = 0\nmax_queued_bytes = 0\nmax_memory_bytes = 0\nretained.max_count = 0\n",
    );
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp).to_string();
    let client = |args: &[&str]| {
        let way = ["-h", "127.0.0.1", "-p", &port, "-i", "a-client-with-a-name"];
        in_folder(setup.folder(), &[args, &way].concat(), &[])
    };
    let output = client(&["pub", "-t", "a/b/c/d", "-m", "1", "-q", "1", "-r"]);
    assert!(output.status.success(), "{output:?}");
    let output = client(&["sub", "-t", "a/#", "-C", "1"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{output:?}");
}

/// A rule without `topics`, from the file to the client.
#[test]
fn a_rule_without_topics_is_for_all() {
    let setup =
        Setup::with("[[auth.acl]]\neffect = \"deny\"\nclient = \"out\"\n[[auth.acl]]\neffect = \"allow\"\n");
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp).to_string();
    for (client, allowed) in [("in", true), ("out", false)] {
        for topic in ["a", "$delayed/1/a", "$other/a"] {
            let way = ["-h", "127.0.0.1", "-p", &port, "-V", "5", "-i", client];
            let args = ["pub", "-t", topic, "-m", "1", "-q", "1"];
            let output = in_folder(setup.folder(), &[&args[..], &way].concat(), &[]);
            assert_eq!(output.status.success(), allowed, "{client} {topic}: {output:?}");
        }
    }
}
