//! Configurations of other brokers: imported, and then the gateway does what they promised. mosquitto itself runs the same file where it is asked.

use headgate_tests::blackbox::{Certificates, Message, Mosquitto, SnPeer, eventually, free_port, headgate};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A broker as a process, killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a broker in a folder and waits until it listens there.
fn run(folder: &Path, program: &Path, arguments: &[&str], ports: &[u16]) -> Running {
    let log = File::create(folder.join("log")).expect("a log");
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_remove("HEADGATE_CONFIG")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let mut running = Running(child.expect("it starts"));
    eventually("the broker to listen", || {
        let ended = running.0.try_wait().expect("it can be asked");
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(ended.is_none(), "it ended: {}", log());
        let is_there = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
        ports.iter().all(is_there).then_some(())
    });
    running
}

fn run_headgate(folder: &Path, ports: &[u16]) -> Running {
    // Another test's gateway may have the usual port of the web UI.
    let file = folder.join("headgate.toml");
    let text = fs::read_to_string(&file).expect("it was made");
    fs::write(file, text.replace("127.0.0.1:18083", "127.0.0.1:0")).expect("it is written");
    run(folder, headgate(), &["run", "--config", "headgate.toml"], ports)
}

/// Imports; the answer in JSON, and the code with which the command ended.
fn import(folder: &Path, words: &[&str]) -> (Value, i32) {
    let output = Command::new(headgate())
        .arg("import")
        .args(words)
        .arg("--json")
        .current_dir(folder)
        .output()
        .expect("it runs");
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (answer, output.status.code().expect("it ends by itself"))
}

/// Where a client comes, and as whom.
#[derive(Clone, Copy, Debug)]
struct Who<'a> {
    port: u16,
    login: Option<(&'a str, &'a str)>,
}

fn client(program: &str, who: Who<'_>) -> Command {
    let mut command = Command::new(program);
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &who.port.to_string(),
        "-V",
        "mqttv5",
        "-q",
        "1",
    ]);
    if let Some((user, password)) = who.login {
        command.args(["-u", user, "-P", password]);
    }
    command
}

fn publish(who: Who<'_>, topic: &str, more: &[&str]) -> bool {
    let mut command = client("mosquitto_pub", who);
    let output = command.args(["-t", topic, "-m", "x"]).args(more).output();
    output.expect("mosquitto_pub is there").status.success()
}

/// What SUBACK says of a filter, in version 5.
fn granted(who: Who<'_>, filter: &str) -> Option<u8> {
    let mut command = client("mosquitto_sub", who);
    let output = command
        .args(["-t", filter, "-E", "-d"])
        .output()
        .expect("mosquitto_sub is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("Subscribed"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

/// Topics that a reader gets by `#` of what the root publishes, retained before or afterwards.
fn heard(root: Who<'_>, reader: Who<'_>) -> BTreeSet<String> {
    let mut command = client("mosquitto_sub", reader);
    command.args(["-F", "%t", "-t", "#"]);
    let child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub is there");
    let mut running = Running(child);
    let lines = BufReader::new(running.0.stdout.take().expect("it is piped")).lines();
    let mut topics = lines.map(|line| line.expect("topics are text"));
    // It is retained, and everybody may read it: with it come the others that were.
    let mut heard = BTreeSet::new();
    for topic in topics.by_ref() {
        let is_ready = topic == "ready/z";
        heard.insert(topic);
        if is_ready {
            break;
        }
    }
    for topic in ["news/b", "secret/b", "own/joe/b", "own/ann/b", "end"] {
        assert!(publish(root, topic, &[]));
    }
    heard.extend(topics.take_while(|topic| topic != "end"));
    heard
}

/// What a WebSocket client that asks for a path is answered, and its CONNECT behind that.
fn speaks_websocket(port: u16, path: &str) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: mqtt\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return false;
        }
        answer.push(byte[0]);
    }
    // CONNECT of 3.1.1, masked with zeros. RFC 6455 §5.3
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01w";
    let frame = [&[0x82, 0x80 | 15, 0, 0, 0, 0][..], connect].concat();
    stream.write_all(&frame).expect("it reads");
    let mut connack = [0; 6];
    let is_whole = stream.read_exact(&mut connack).is_ok();
    answer.starts_with(b"HTTP/1.1 101") && is_whole && connack == [0x82, 4, 0x20, 2, 0, 0]
}

const ACL: &str = "\
topic read ready/#
user root
topic readwrite #
user joe
topic read news/#
topic write in/#
pattern read own/%u/#
pattern read ready/#
pattern read end
";

/// Who may connect, what they may publish and what they hear, of one file under whichever broker.
fn answers(ports: &[u16; 4]) -> BTreeMap<String, String> {
    let [users, open, _, shut] = *ports;
    let at = |port, login| Who { port, login };
    let root = at(users, Some(("root", "secret")));
    for topic in ["news/a", "secret/a", "own/joe/a", "own/ann/a", "ready/z"] {
        assert!(publish(root, topic, &["-r"]), "the root may do all");
    }
    let mut answers = BTreeMap::new();
    for (name, who) in [
        ("users, nobody", at(users, None)),
        ("users, joe", at(users, Some(("joe", "secret")))),
        (
            "users, joe with a wrong password",
            at(users, Some(("joe", "secre"))),
        ),
        ("users, an unknown name", at(users, Some(("tim", "secret")))),
        ("open, nobody", at(open, None)),
        ("shut, nobody", at(shut, None)),
        ("shut, joe", at(shut, Some(("joe", "secret")))),
    ] {
        answers.insert(
            format!("{name}: SUBACK"),
            format!("{:?}", granted(who, "ready/#")),
        );
    }
    for (name, login) in [("joe", Some(("joe", "secret"))), ("ann", Some(("ann", "secret")))] {
        let heard = heard(root, at(users, login));
        answers.insert(format!("{name} hears"), format!("{heard:?}"));
    }
    answers.insert(
        "open hears".into(),
        format!("{:?}", heard(at(open, None), at(open, None))),
    );
    answers
}

/// mosquitto.conf(5): listeners with access of their own, passwords of `mosquitto_passwd`, rules, WebSocket, an include. The same file under mosquitto
/// and, imported, under the gateway.
#[test]
fn an_imported_file_does_what_mosquitto_does_with_it() {
    // It installs mosquitto, if it is missing.
    drop(Mosquitto::new(""));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let ports = [free_port(), free_port(), free_port(), free_port()];
    let [users, open, web, shut] = ports;
    let conf = format!(
        "\u{feff}per_listener_settings true\r\nuser root\r\npersistence false\r\ninclude_dir more.d\r\n\
         listener {users} 127.0.0.1\r\npassword_file passwords\r\nacl_file acl\r\n\
         listener {open} 127.0.0.1 # for all\r\nallow_anonymous true # yes\r\n\
         listener {shut} 127.0.0.1\r\n"
    );
    fs::write(
        folder.join("mosquitto.conf"),
        conf.trim_start_matches('\u{feff}').replace("\r\n", "\n"),
    )
    .unwrap();
    fs::create_dir(folder.join("more.d")).unwrap();
    let more = format!("listener {web} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n");
    fs::write(folder.join("more.d/web.conf"), more).unwrap();
    fs::write(folder.join("acl"), ACL).unwrap();
    fs::write(folder.join("passwords"), "").unwrap();
    for (user, how) in [
        ("root", "sha512-pbkdf2"),
        ("joe", "sha512"),
        ("ann", "sha512-pbkdf2"),
    ] {
        let mut command = Command::new("mosquitto_passwd");
        command
            .args(["-H", how, "-b"])
            .arg(folder.join("passwords"))
            .args([user, "secret"]);
        assert!(command.status().expect("mosquitto_passwd is there").success());
    }
    let mosquitto = run(
        folder,
        Path::new("/usr/sbin/mosquitto"),
        &["-c", "mosquitto.conf"],
        &ports,
    );
    let theirs = answers(&ports);
    assert!(speaks_websocket(web, "/mqtt") && speaks_websocket(web, "/any/where"));
    drop(mosquitto);

    // As it came from another system.
    fs::write(folder.join("mosquitto.conf"), conf).unwrap();
    let (report, code) = import(folder, &["mosquitto", "mosquitto.conf"]);
    assert_eq!((code, &report["complete"]), (0, &Value::Bool(true)), "{report:#}");
    assert_eq!(report["users"]["added"], 3);
    let headgate = run_headgate(folder, &ports);
    let ours = answers(&ports);
    assert_eq!(ours, theirs, "ours and mosquitto's");
    assert!(
        ours["joe hears"].contains("own/joe/a") && !ours["joe hears"].contains("secret"),
        "{ours:?}"
    );
    assert!(
        ours["open hears"].contains("secret/b"),
        "without an acl_file everything is allowed: {ours:?}"
    );
    assert!(speaks_websocket(web, "/mqtt") && speaks_websocket(web, "/any/where"));
    drop(headgate);
}

/// mosquitto.conf(5), use_identity_as_username: the certificate names the client, for the rules too, and nobody else comes in. A bridge carries what it carried.
#[test]
fn imported_certificates_and_bridges_do_what_they_did() {
    let mut remote = Mosquitto::start("");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let pki = Certificates::create(folder);
    let (tls, plain) = (free_port(), free_port());
    let conf = format!(
        "user root\nallow_anonymous true\nacl_file acl\nlistener {plain} 127.0.0.1\nlistener {tls} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
         require_certificate true\nuse_identity_as_username true\nconnection up\naddress 127.0.0.1:{}\nclientid gate\ntopic # out 1 up/ from/gate/\n\
         topic down/# in 1\n",
        pki.ca.display(),
        pki.certificate.display(),
        pki.key.display(),
        remote.port()
    );
    fs::write(folder.join("mosquitto.conf"), conf).unwrap();
    fs::write(folder.join("acl"), "topic read #\nuser pump-7\ntopic #\n").unwrap();
    let secure = |topic: &str, certificate: bool, more: &[&str]| {
        let mut command = client(
            "mosquitto_pub",
            Who {
                port: tls,
                login: None,
            },
        );
        command
            .arg("--cafile")
            .arg(&pki.ca)
            .args(["--insecure", "-t", topic, "-m", "x"])
            .args(more);
        if certificate {
            command
                .arg("--cert")
                .arg(&pki.client)
                .arg("--key")
                .arg(&pki.client_key);
        }
        command.output().expect("mosquitto_pub is there").status.success()
    };
    let answers = || {
        let open = Who {
            port: plain,
            login: None,
        };
        // Retained, it tells whether it was let in.
        let came = |topic: &str| {
            let mut command = client("mosquitto_sub", open);
            command.args(["-t", topic, "-t", "ready", "-C", "1", "-F", "%t"]);
            let output = command.output().expect("mosquitto_sub is there");
            String::from_utf8_lossy(&output.stdout).trim() == topic
        };
        let by_name = secure("by/name", true, &["-r"]);
        let ready = secure("ready", true, &["-r"]);
        let nameless = secure("by/nobody", false, &["-r"]);
        publish(open, "by/open", &["-r"]);
        [by_name, ready, nameless, came("by/name"), came("by/open")]
    };
    let mosquitto = run(
        folder,
        Path::new("/usr/sbin/mosquitto"),
        &["-c", "mosquitto.conf"],
        &[tls, plain],
    );
    let theirs = answers();
    drop(mosquitto);
    assert_eq!(theirs, [true, true, false, true, false]);

    let (report, code) = import(folder, &["mosquitto", "mosquitto.conf", "--node", "plant-7"]);
    assert_eq!(code, 0, "{report:#}");
    let headgate = run_headgate(folder, &[tls, plain]);
    assert_eq!(answers(), theirs, "ours and mosquitto's");
    let mut command = client(
        "mosquitto_sub",
        Who {
            port: remote.port(),
            login: None,
        },
    );
    command.args(["-t", "from/gate/#", "-C", "1", "-F", "%t"]);
    let waiting = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub is there");
    assert!(secure("up/a", true, &["-r"]));
    let output = waiting.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "from/gate/a");
    drop(headgate);
    remote.stop();
}

/// emq.conf, its plugins and acl.conf: who comes in, what is denied, what no rule matches, the listeners and the MQTT-SN gateway.
#[test]
fn an_imported_emq_does_what_it_did() {
    drop(Mosquitto::new(""));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let ports = [free_port(), free_port()];
    let [tcp, web] = ports;
    let sn = free_port();
    fs::create_dir_all(folder.join("emq/etc/plugins")).unwrap();
    fs::create_dir_all(folder.join("emq/data")).unwrap();
    for (path, text) in [
        (
            "etc/emq.conf",
            format!(
                "## EMQ\nnode.name = emq@127.0.0.1\nmqtt.allow_anonymous = false\nmqtt.acl_nomatch = allow\n\
                 mqtt.acl_file = {{{{ platform_etc_dir }}}}/acl.conf\nmqtt.plugins.etc_dir ={{{{ platform_etc_dir }}}}/plugins/\n\
                 mqtt.plugins.loaded_file = {{{{ platform_data_dir }}}}/loaded_plugins\nlistener.tcp.external = 127.0.0.1:{tcp}\n\
                 listener.tcp.external.mountpoint = ext/\nlistener.ws.external = 127.0.0.1:{web}\n"
            ),
        ),
        ("etc/acl.conf", "{deny, {user, \"joe\"}, pubsub, [\"ext/secret/#\"]}.\n".to_owned()),
        ("data/loaded_plugins", "emq_retainer.\nemq_auth_username.\nemq_auth_clientid.\nemq_sn.\n".to_owned()),
        (
            "etc/plugins/emq_auth_username.conf",
            "auth.user.1.username = joe\nauth.user.1.password = secret\nauth.user.2.username = sn\nauth.user.2.password = of-sn\n".to_owned(),
        ),
        ("etc/plugins/emq_auth_clientid.conf", "auth.client.1.clientid = pump\nauth.client.1.password = of-pump\n".to_owned()),
        ("etc/plugins/emq_auth_mysql.conf", "auth.mysql.server = 127.0.0.1:3306\n".to_owned()),
        (
            "etc/plugins/emq_sn.conf",
            format!("mqtt.sn.port = 127.0.0.1:{sn}\nmqtt.sn.gateway_id = 7\nmqtt.sn.username = sn\nmqtt.sn.password = of-sn\n"),
        ),
    ] {
        fs::write(folder.join("emq").join(path), text).unwrap();
    }
    let (report, code) = import(folder, &["emq", "emq"]);
    assert_eq!((code, &report["not_taken"]), (0, &Value::from(0)), "{report:#}");
    assert_eq!(report["faults"], Value::Array(Vec::new()));
    // The password of a client id has no other place.
    let mode = fs::metadata(folder.join("headgate.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for secret in ["secret\"", "of-pump", "of-sn"] {
        assert!(!report.to_string().contains(secret), "{report:#}");
    }
    let headgate = run_headgate(folder, &ports);
    let who = |login| Who { port: tcp, login };
    let joe = who(Some(("joe", "secret")));
    assert!(publish(joe, "a", &["-r"]) && !publish(who(Some(("joe", "x"))), "a", &[]));
    assert!(!publish(who(None), "a", &[]) && !publish(who(Some(("tim", "x"))), "a", &[]));
    assert!(publish(who(Some(("", "of-pump"))), "a", &["-i", "pump"]));
    assert!(!publish(who(Some(("", "x"))), "a", &["-i", "pump"]));
    // The rule is asked about the topic with the mount point, and what none matches is allowed.
    assert_eq!(granted(joe, "open/#"), Some(1));
    assert_eq!(granted(joe, "secret/#"), Some(0x87));
    assert!(!speaks_websocket(web, "/elsewhere"), "EMQ's path is /mqtt");

    let mut sensor = SnPeer::new(SocketAddr::from(([127, 0, 0, 1], sn)), "sensor");
    assert_eq!(sensor.search(), 7);
    sensor.connect(true, 60, None);
    sensor.publish(&Message::new("t", 1, "from a sensor"));
    drop(headgate);
}

/// Nothing is written over, and nobody else reads what is secret.
#[test]
fn what_is_written_is_whole_and_private_and_what_is_missing_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let port = free_port();
    let conf = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nconnection up\naddress 127.0.0.1:1\nusername joe\npassword hunter2\ntopic a/# out 1\n"
    );
    fs::write(folder.join("m.conf"), &conf).unwrap();
    let dry = Command::new(headgate())
        .args(["import", "mosquitto", "m.conf", "--dry-run"])
        .current_dir(folder)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&dry.stdout).into_owned();
    for part in [
        "bridge-up.password would be written",
        "users: 0 would be added",
        "Nothing is written.",
    ] {
        assert!(words.contains(part), "{words}");
    }
    let (report, code) = import(folder, &["mosquitto", "m.conf", "--dry-run"]);
    assert_eq!(
        (code, folder.join("headgate.toml").exists()),
        (0, false),
        "{report:#}"
    );
    let (report, code) = import(folder, &["mosquitto", "m.conf"]);
    assert_eq!(code, 0, "{report:#}");
    let secret = folder.join("headgate-data/secrets/bridge-up.password");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "hunter2\n");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(folder.join("headgate.toml")).unwrap();
    assert!(!text.contains("hunter2") && !report.to_string().contains("hunter2"));
    assert_eq!(
        import(folder, &["mosquitto", "m.conf"]),
        (Value::Null, 1),
        "it is there already"
    );
    assert_eq!(fs::read_to_string(folder.join("headgate.toml")).unwrap(), text);

    // Who decided there cannot be asked: the port is there, and nobody comes in.
    fs::write(
        folder.join("m.conf"),
        format!("{conf}plugin /usr/lib/mosquitto_dynamic_security.so\n"),
    )
    .unwrap();
    let (report, code) = import(folder, &["mosquitto", "m.conf", "--force"]);
    assert_eq!((code, &report["not_taken"]), (3, &Value::from(1)), "{report:#}");
    let lines = report["lines"].as_array().expect("a list");
    let last = lines.last().expect("the plugin");
    assert_eq!(
        (&last["result"], &last["line"]),
        (&Value::from("not_taken"), &Value::from(8))
    );
    drop(Mosquitto::new(""));
    let headgate = run_headgate(folder, &[port]);
    for login in [None, Some(("joe", "x"))] {
        assert!(!publish(Who { port, login }, "a", &[]), "{login:?}");
    }
    drop(headgate);

    // What is wrong with it is told with it.
    fs::write(folder.join("m.conf"), "listener 1883\nacl_file none\n").unwrap();
    let (report, code) = import(folder, &["mosquitto", "m.conf", "--force"]);
    let fault = &report["faults"][0];
    assert_eq!(
        (code, &fault["key"]),
        (3, &Value::from("auth.acl_file")),
        "{report:#}"
    );
    assert_eq!(import(folder, &["mosquitto", "none.conf", "--force"]).1, 1);
}

/// `auth.grant_subscriptions` with rules of our own: `#` is granted, and what may be read is delivered, retained messages too. A rule that denies refuses.
#[test]
fn subscriptions_are_granted_and_messages_are_looked_at() {
    drop(Mosquitto::new(""));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let (granting, strict) = (free_port(), free_port());
    let rules = "[[auth.acl]]\neffect = \"deny\"\ntopics = [\"deny/#\"]\n\
                 [[auth.acl]]\neffect = \"allow\"\naction = \"publish\"\n\
                 [[auth.acl]]\neffect = \"allow\"\ntopics = [\"ready/#\", \"news/#\", \"end\"]\n";
    let config = format!(
        "mqttsn = []\ncoap = []\nlwm2m = []\n[auth]\nanonymous = \"everywhere\"\n{rules}[[auth.listeners]]\nname = \"granting\"\ngrant_subscriptions = true\n\
         [[listeners]]\nname = \"granting\"\nbind = \"127.0.0.1:{granting}\"\n[[listeners]]\nname = \"strict\"\nbind = \"127.0.0.1:{strict}\"\n"
    );
    fs::write(folder.join("headgate.toml"), config).unwrap();
    let headgate = run_headgate(folder, &[granting, strict]);
    let at = |port| Who { port, login: None };
    for topic in ["news/a", "secret/a", "ready/z"] {
        assert!(publish(at(strict), topic, &["-r"]));
    }
    let reads = heard(at(strict), at(granting));
    assert_eq!(reads, ["news/a", "news/b", "ready/z"].map(str::to_owned).into());
    assert_eq!(granted(at(granting), "#"), Some(1), "the QoS that was asked for");
    assert_eq!(granted(at(strict), "#"), Some(0x87), "not authorized");
    assert_eq!(granted(at(granting), "deny/#"), Some(0x87));
    drop(headgate);
}
