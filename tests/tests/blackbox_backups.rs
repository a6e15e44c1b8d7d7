//! Backups over the API: a gateway makes one while it runs, another takes it, and is the first from its next start on; whatever is cut off leaves the old data
//! or the new.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{
    Daemon, HttpAnswer, HttpClient, Message, Peer, Setup, Transport, eventually, headgate,
};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &str = "correct horse battery";
const PASSPHRASE: &str = "seven brave tortoises";
const HTTP: &str = "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
const BACKUPS: &str = "/api/v1/backups";

/// A gateway of this name with an administrator of this name, too, and who asks for it.
fn gateway(node: &str) -> Setup {
    Setup::with(&format!("node = \"{node}\"\n{HTTP}"))
}

fn administrator(daemon: &Daemon<'_>, name: &str) -> HttpClient {
    let new = json!({ "name": name, "password": PASSWORD, "role": "administrator" });
    let made = HttpClient::control(daemon).post("/api/v1/administrators", &new);
    assert_eq!(made.status, 200, "{}", made.text());
    key(daemon, "administrator")
}

fn key(daemon: &Daemon<'_>, role: &str) -> HttpClient {
    let made = HttpClient::control(daemon).post("/api/v1/keys", &json!({ "name": role, "role": role }));
    let made = made.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    HttpClient::at(daemon.port_of("http")).basic(id, secret)
}

fn upload(client: &HttpClient, name: &str, bytes: &[u8]) -> HttpAnswer {
    client.ask(
        "PUT",
        &format!("{BACKUPS}/{name}"),
        "application/octet-stream",
        bytes,
    )
}

fn done(answer: &HttpAnswer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What waits for `keeper`.
fn messages(of: &str, many: usize) -> Vec<Message> {
    (0..many)
        .map(|n| Message::new("t/x", if n % 2 == 0 { 1 } else { 2 }, &format!("{of} {n}")))
        .collect()
}

/// A session that waits, with messages; a retained one; a user.
fn fill(daemon: &Daemon<'_>, of: &str) {
    let port = daemon.port(Transport::Tcp);
    let mut keeper = Peer::connect(port, "keeper", true, 3_600).unwrap().0;
    keeper.subscribe("t/#", Qos::ExactlyOnce).unwrap();
    keeper.vanish();
    let mut publisher = Peer::connect(port, "publisher", true, 0).unwrap().0;
    publisher.say(&messages(of, 100));
    publisher.say(&[Message {
        retain: true,
        ..Message::new("state/door", 1, of)
    }]);
    let user = json!({ "name": of, "password": "a" });
    done(&HttpClient::control(daemon).post("/api/v1/users", &user));
}

/// That all of it is there.
fn is_all_of(daemon: &Daemon<'_>, of: &str) {
    let control = HttpClient::control(daemon);
    assert_eq!(control.get("/api/v1/status").json()["node"], of);
    let names = |path: &str| {
        let rows = control.get(path).json()["rows"].as_array().cloned();
        let names = rows.unwrap().into_iter().map(|row| row["name"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("/api/v1/users"), [of]);
    assert_eq!(names("/api/v1/administrators"), [of]);
    let log_in = json!({ "name": of, "password": PASSWORD });
    done(&HttpClient::at(daemon.port_of("http")).post("/api/v1/session", &log_in));
    let port = daemon.port(Transport::Tcp);
    let (mut keeper, present) = Peer::connect(port, "keeper", false, 3_600).unwrap();
    assert!(present, "the session of {of}");
    let expected = messages(of, 100);
    let came: Vec<Message> = expected.iter().map(|_| keeper.hear()).collect();
    assert_eq!(came, expected);
    let mut other = Peer::connect(port, "other", true, 0).unwrap().0;
    other.subscribe("state/#", Qos::AtMostOnce).unwrap();
    assert_eq!(other.hear().payload, of);
}

/// The names of files in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_of_one_gateway_becomes_another() {
    let old = gateway("old");
    let daemon = old.start();
    let admin = administrator(&daemon, "old");
    fill(&daemon, "old");

    // Who may, and what may not be.
    let (viewer, operator) = (key(&daemon, "viewer"), key(&daemon, "operator"));
    assert_eq!(viewer.get(BACKUPS).status, 403);
    assert_eq!(done(&operator.get(BACKUPS))["rows"], json!([]));
    assert_eq!(operator.post(BACKUPS, &json!({})).status, 403);
    let short = admin.post(BACKUPS, &json!({ "passphrase": "short" }));
    assert_eq!(short.status, 422, "{}", short.text());

    let made = done(&admin.post(BACKUPS, &json!({ "passphrase": PASSPHRASE })));
    let name = made["name"].as_str().unwrap();
    assert!(
        name.starts_with("backup-20") && name.ends_with("-1.archive"),
        "{name}"
    );
    assert_eq!(
        (&made["encrypted"], &made["waits"]),
        (&json!(true), &json!(false))
    );
    let plain = done(&admin.post(BACKUPS, &json!({})));
    assert_eq!(plain["encrypted"], false);
    let rows = done(&operator.get(BACKUPS))["rows"].clone();
    assert!(rows.as_array().unwrap().contains(&made), "{rows}");
    assert_eq!(operator.get(&format!("{BACKUPS}/{name}")).status, 403);
    let file = admin.get(&format!("{BACKUPS}/{name}"));
    assert_eq!(
        file.header("content-disposition"),
        Some(&*format!("attachment; filename=\"{name}\""))
    );
    assert!(file.body.starts_with(b"age-encryption.org/v1\n"));
    assert_eq!(made["bytes"], file.body.len());
    // Another backup does not have the first one in it.
    let folder = old.folder().join("data/backups");
    let archive = folder.join(plain["name"].as_str().unwrap());
    let names: Vec<String> = unpacked(&std::fs::read(&archive).unwrap())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"data/users.json".into()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("backups")), "{names:?}");

    for (path, status) in [
        ("..%2Fusers.json", 422),
        ("%2E%2E%2Fusers.json", 422),
        (".hidden", 422),
        ("a%00b", 422),
        ("a%0Ab", 422),
        ("a%22b", 422),
        ("nothing", 404),
    ] {
        let path = format!("{BACKUPS}/{path}");
        for answer in [
            admin.get(&path),
            admin.delete(&path),
            admin.post(&format!("{path}/restore"), &json!({})),
        ] {
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
        }
    }
    daemon.stop();

    let new = gateway("new");
    let daemon = new.start();
    let admin = administrator(&daemon, "new");
    fill(&daemon, "new");
    for bytes in [
        &b"no archive"[..],
        b"age-encryption.org/v1\nnone",
        &file.body[..100],
        b"",
    ] {
        let refused = upload(&admin, "bad", bytes);
        assert_eq!(refused.status, 422, "{}", refused.text());
    }
    assert_eq!(files(&new.folder().join("data/backups")), [""; 0]);
    let came = done(&upload(&admin, "from%20old%20%281%29.archive", &file.body));
    assert_eq!(came["name"], "from old (1).archive");
    assert_eq!(
        upload(&admin, "from%20old%20%281%29.archive", &file.body).status,
        409
    );

    let restore = format!("{BACKUPS}/from%20old%20%281%29.archive/restore");
    for (wanted, told) in [
        (json!({}), "it takes its passphrase"),
        (
            json!({ "passphrase": "seven brave tortoise" }),
            "not that of the archive",
        ),
    ] {
        let refused = admin.post(&restore, &wanted);
        assert_eq!(refused.status, 422);
        assert!(refused.text().contains(told), "{}", refused.text());
    }
    let ready = done(&admin.post(&restore, &json!({ "passphrase": PASSPHRASE })));
    assert_eq!(
        (
            &ready["needs_restart"],
            &ready["node"],
            &ready["store"]["queued"],
            &ready["users"]
        ),
        (&json!(true), &json!("old"), &json!(100), &json!(1)),
        "{ready}"
    );
    let replaces = ready["replaces"].to_string();
    assert!(
        replaces.contains("store") && replaces.contains("users.json"),
        "{replaces}"
    );
    let rows = done(&admin.get(BACKUPS))["rows"].clone();
    assert_eq!(rows[0]["waits"], true, "{rows}");
    // Nobody notices yet, nor after a second thought.
    let withdrawn = done(&admin.delete(&restore));
    assert_eq!(withdrawn["waited"], true);
    let config = std::fs::read_to_string(new.folder().join("headgate.toml")).unwrap();
    assert!(config.contains("node = \"new\""), "{config}");
    let daemon = daemon.restart_as_it_is();
    is_all_of(&daemon, "new");

    // Now it is meant, twice: the second takes the place of the first.
    let control = HttpClient::control(&daemon);
    for _ in 0..2 {
        done(&control.post(&restore, &json!({ "passphrase": PASSPHRASE })));
    }
    let daemon = daemon.restart_as_it_is();
    is_all_of(&daemon, "old");
    new.log_with(&["a backup has taken the place of all data"]);
    let config = std::fs::read_to_string(new.folder().join("headgate.toml")).unwrap();
    assert_eq!(
        config,
        std::fs::read_to_string(old.folder().join("headgate.toml")).unwrap()
    );
    let replaced = std::fs::read_to_string(new.folder().join("headgate.toml.replaced")).unwrap();
    assert!(replaced.contains("node = \"new\""));
    assert!(new.folder().join("data/replaced-1/store").is_dir());
    assert_eq!(
        files(&new.folder().join("data/backups")),
        ["from old (1).archive"]
    );
    // The audit log is the gateway's own: it goes on, and says what has become of the data, once.
    let audited = |daemon: &Daemon<'_>| {
        let rows = HttpClient::control(daemon).get("/api/v1/audit").json()["rows"].clone();
        let rows = rows.as_array().cloned().unwrap();
        let of = |request: &str| {
            let rows = rows.iter().filter(|row| row["request"] == request);
            rows.cloned().collect::<Vec<_>>()
        };
        (of("start"), of(&format!("POST {restore}")))
    };
    let (starts, restores) = audited(&daemon);
    assert_eq!((starts.len(), restores.len()), (1, 5), "{starts:?} {restores:?}");
    for (key, value) in [
        ("who", json!("the gateway itself")),
        ("action", json!("A backup has taken the place of all data.")),
        ("status", json!(200)),
        ("after", json!("replaced-1")),
    ] {
        assert_eq!(starts[0][key], value, "{key}");
    }
    assert!(starts[0]["number"].as_u64() > restores[0]["number"].as_u64());
    let daemon = daemon.restart_as_it_is();
    assert_eq!(audited(&daemon), (starts, restores));
    daemon.stop();

    // Nothing secret was written down.
    for setup in [&old, &new] {
        let audit: String = files(&setup.folder().join("data"))
            .iter()
            .filter(|name| name.starts_with("audit.log"))
            .map(|name| std::fs::read_to_string(setup.folder().join("data").join(name)).unwrap())
            .collect();
        assert!(audit.contains("Makes a backup while the gateway runs.") || audit.contains("Takes a backup"));
        for text in [&audit, &setup.log()] {
            assert!(!text.contains("tortoise") && !text.contains(PASSWORD), "{text}");
        }
    }
}

/// There are no more than are kept, and a configuration with which the gateway would not start here is refused.
#[test]
fn bounds_and_foreign_configurations_are_refused_in_words() {
    let setup = Setup::with(&format!("{HTTP}[backups]\nkeep = 2\n"));
    let daemon = setup.start();
    let control = HttpClient::control(&daemon);
    let first = done(&control.post(BACKUPS, &json!({})));
    done(&control.post(BACKUPS, &json!({})));
    let refused = control.post(BACKUPS, &json!({}));
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("backups.keep"), "{}", refused.text());
    let path = format!("{BACKUPS}/{}", first["name"].as_str().unwrap());
    let file = control.get(&path).body;
    assert_eq!(upload(&control, "more", &file).status, 409);
    done(&control.delete(&path));
    assert_eq!(control.get(&path).status, 404);

    // By the command line, too.
    let answer = daemon.ask(&["backups", "make"]);
    let name = answer["name"].as_str().unwrap();
    assert!(setup.said(&["backups", "list"]).contains(name));
    let ready = daemon.ask(&["backups", "restore", name, "--keep-configuration"]);
    assert_eq!(ready["configuration"], Value::Null);
    assert!(setup.said(&["backups"]).contains("waits"));
    assert_eq!(daemon.ask(&["backups", "withdraw", name])["waited"], true);
    daemon.ask(&["backups", "delete", name]);

    let other = Setup::with(HTTP);
    let text = "data_dir = \"data\"\n[[listeners]]\nname = \"tls\"\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\n\
                [listeners.tls]\ncertificate = \"nowhere.pem\"\nkey = \"nowhere.key\"\n";
    std::fs::write(other.folder().join("other.toml"), text).unwrap();
    std::fs::create_dir(other.folder().join("data")).unwrap();
    let exported = Command::new(headgate())
        .args(["export", "a.archive", "--config", "other.toml"])
        .current_dir(other.folder())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        exported.status.success(),
        "{}",
        String::from_utf8_lossy(&exported.stderr)
    );
    let file = std::fs::read(other.folder().join("a.archive")).unwrap();
    done(&upload(&control, "other", &file));
    let path = format!("{BACKUPS}/other/restore");
    let refused = control.post(&path, &json!({}));
    assert_eq!(refused.status, 422);
    let told = refused.text();
    assert!(
        told.contains("would not start here") && told.contains("nowhere.pem"),
        "{told}"
    );
    let ready = done(&control.post(&path, &json!({ "configuration": false })));
    assert_eq!(ready["configuration"], Value::Null);
    let daemon = daemon.restart_as_it_is();
    let text = HttpClient::control(&daemon).get("/api/v1/configuration").text();
    assert!(text.contains("keep = 2"), "{text}");
    assert!(setup.folder().join("data/replaced-1").is_dir());
    daemon.kill();
}

/// What waits for the next start is seen, and stays until that one is withdrawn.
#[test]
fn a_backup_that_waits_is_seen_and_stays() {
    let setup = Setup::with(HTTP);
    let daemon = setup.start();
    let control = HttpClient::control(&daemon);
    let made = |_| {
        done(&control.post(BACKUPS, &json!({})))["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let [first, second] = [(); 2].map(made);
    let path = |name: &str| format!("{BACKUPS}/{name}");
    let restore = |name: &str| format!("{BACKUPS}/{name}/restore");
    let seen = || {
        let needs_restart = done(&control.get("/api/v1/status"))["needs_restart"].clone();
        let alarms = done(&control.get("/api/v1/alarms"))["active"].clone();
        let alarms = alarms.as_array().cloned().unwrap();
        let waits = alarms.into_iter().find(|alarm| alarm["id"] == "restore_waits");
        (needs_restart, waits)
    };
    assert_eq!(seen(), (json!([]), None));
    done(&control.post(&restore(&first), &json!({})));
    let is_seen = |name: &str| {
        let told = format!("the backup `{name}` takes the place of all data with the next start");
        let (needs_restart, waits) = seen();
        let waits = waits.expect("the alarm");
        assert_eq!(needs_restart, json!([told]));
        assert_eq!(
            (&waits["severity"], &waits["summary"]),
            (&json!("warning"), &json!(told))
        );
    };
    is_seen(&first);
    let refused = control.delete(&path(&first));
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("withdraw it first"), "{}", refused.text());
    let refused = control.delete(&restore(&second));
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert_eq!(control.delete(&restore("nothing")).status, 404);
    is_seen(&first);
    assert!(setup.folder().join("data/restored").is_dir());
    // Another one may wait instead.
    done(&control.post(&restore(&second), &json!({})));
    is_seen(&second);
    done(&control.delete(&path(&first)));
    assert_eq!(done(&control.delete(&restore(&second)))["waited"], true);
    assert_eq!(seen(), (json!([]), None));
    assert_eq!(done(&control.delete(&restore(&second)))["waited"], false);
    // It is over with the start that takes it, though it stood when the backup was made.
    done(&control.post(&restore(&second), &json!({})));
    let daemon = daemon.restart_as_it_is();
    let status = done(&HttpClient::control(&daemon).get("/api/v1/status"));
    assert_eq!(
        (&status["needs_restart"], &status["alarms"]),
        (&json!([]), &json!([]))
    );
    daemon.stop();
}

/// A gateway that is to stop does not wait for a backup that is taken back, and nothing has changed; a restart waits for whoever wants it.
#[test]
fn a_gateway_stops_while_a_backup_is_taken_back() {
    let setup = Setup::with(HTTP);
    let daemon = setup.start();
    let control = HttpClient::control(&daemon);
    // Long enough for what follows; its sum is wrong, but nobody comes so far.
    let bytes = 4_u64 << 30;
    let file = "data/traces/a.jsonl";
    let manifest = json!({
        "format": 1, "gateway": "0.1.0", "node": "n", "made": 1, "store": null, "users": 0,
        "files": [{ "path": file, "bytes": bytes, "sha256": "" }],
    });
    let manifest = manifest.to_string();
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    let header = |bytes| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header
    };
    archive
        .append_data(
            &mut header(manifest.len() as u64),
            "manifest.json",
            manifest.as_bytes(),
        )
        .unwrap();
    archive
        .append_data(&mut header(bytes), file, std::io::repeat(0).take(bytes))
        .unwrap();
    let archive = archive.into_inner().unwrap().finish().unwrap();
    done(&upload(&control, "long", &archive));
    let asking = Command::new(headgate())
        .args(["backups", "restore", "long", "--config", "headgate.toml"])
        .current_dir(setup.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut asking = asking.unwrap();
    let data = setup.folder().join("data");
    eventually("the restore to begin", || {
        let written = std::fs::metadata(data.join("restoring").join(file));
        written.is_ok_and(|file| file.len() > 0).then_some(())
    });
    let refused = control.post("/api/v1/restart", &json!({}));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("taken back"), "{}", refused.text());
    let asked = Instant::now();
    daemon.stop();
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    for left in ["restoring", "restored"] {
        assert!(!data.join(left).exists(), "{left}");
    }
    assert!(!asking.wait().unwrap().success());
    let daemon = setup.start_as_it_is();
    assert!(!data.join("replaced-1").exists());
    daemon.stop();
}

/// A backup with which the gateway would not start is refused by a gateway that runs, and by the command for one that does not.
#[test]
fn a_backup_that_keeps_the_gateway_from_starting_is_refused() {
    let bad = Setup::with(HTTP);
    std::fs::write(bad.folder().join("headgate.toml"), "data_dir = \"data\"\n").unwrap();
    std::fs::create_dir(bad.folder().join("data")).unwrap();
    for name in ["administrators.json", "bans.json"] {
        let file = bad.folder().join("data").join(name);
        std::fs::write(&file, "{\"x\":").unwrap();
        bad.command(&["export", name]).unwrap();
        std::fs::remove_file(file).unwrap();
        let archive = bad.folder().join(name);
        let new = Setup::with(HTTP);
        let (_, told) = new.command(&["restore", archive.to_str().unwrap()]).unwrap_err();
        assert!(told.contains("would not start") && told.contains(name), "{told}");
        assert!(!new.folder().join("data/users.json").exists());
        let daemon = new.start();
        let control = HttpClient::control(&daemon);
        done(&upload(&control, "bad", &std::fs::read(archive).unwrap()));
        let refused = control.post(
            &format!("{BACKUPS}/bad/restore"),
            &json!({ "configuration": false }),
        );
        assert_eq!(refused.status, 422);
        let told = refused.text();
        assert!(told.contains("would not start") && told.contains(name), "{told}");
        let daemon = daemon.restart_as_it_is();
        daemon.stop();
    }
}

/// `backups.every`: the newest stay, encrypted by the passphrase of a file.
#[test]
fn backups_are_made_by_themselves() {
    let setup = Setup::with(&format!(
        "{HTTP}[backups]\nkeep = 1\nevery = \"1m\"\npassphrase_file = \"passphrase\"\n"
    ));
    std::fs::write(setup.folder().join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    let daemon = setup.start();
    let scheduled = |daemon: &Daemon<'_>| {
        let rows = HttpClient::control(daemon).get(BACKUPS).json()["rows"].clone();
        let rows = rows.as_array().cloned().unwrap();
        assert!(rows.iter().all(|row| row["encrypted"] == true), "{rows:?}");
        let names = rows.iter().map(|row| row["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let first = eventually("the first", || {
        Some(scheduled(&daemon)).filter(|names| names.len() == 1)
    });
    assert!(first[0].starts_with("scheduled-"), "{first:?}");
    // As if a minute had gone by.
    let file = std::fs::File::open(setup.folder().join("data/backups").join(&first[0])).unwrap();
    let earlier = std::time::SystemTime::now() - Duration::from_secs(61);
    file.set_modified(earlier).unwrap();
    let daemon = daemon.restart_as_it_is();
    let second = eventually("the second", || {
        Some(scheduled(&daemon)).filter(|names| *names != first && names.len() == 1)
    });
    assert!(second[0].starts_with("scheduled-"), "{second:?}");
    // Without its passphrase there is none, and an operator knows.
    let text = std::fs::read_to_string(setup.folder().join("headgate.toml")).unwrap();
    let text = text.replace("\"passphrase\"", "\"nowhere\"");
    std::fs::write(setup.folder().join("headgate.toml"), text).unwrap();
    let file = std::fs::File::open(setup.folder().join("data/backups").join(&second[0])).unwrap();
    file.set_modified(earlier).unwrap();
    let daemon = daemon.restart_as_it_is();
    eventually("the alarm", || {
        let alarms = HttpClient::control(&daemon).get("/api/v1/alarms").text();
        (alarms.contains("backup_failed") && alarms.contains("nowhere")).then_some(())
    });
    daemon.stop();
}

/// Secrets everywhere that they can be, and none of them in the bundle; nor who connects.
#[test]
fn diagnostics_have_no_secrets() {
    let mut sections = format!(
        "# planted-comment
node = \"plant\"
{HTTP}"
    );
    sections += r#"
[backups]
passphrase_file = "passphrase"
[[auth.client_ids]]
id = "c7"
psk = "706c616e746564"
[[bridges]]
name = "cloud"
addresses = ["mqtt://127.0.0.1:1"]
login = { username = "bridge-user", password = "planted-bridge" }
proxy = "http://u:planted-proxy@127.0.0.1:1"
"#;
    let setup = Setup::with(&sections);
    std::fs::write(setup.folder().join("passphrase"), "planted-passphrase\n").unwrap();
    let daemon = setup.start();
    let admin = administrator(&daemon, "root");
    let control = HttpClient::control(&daemon);
    let user = json!({ "name": "user", "password": "planted-user" });
    done(&control.post("/api/v1/users", &user));
    let bridge = "name = \"second\"\naddresses = [\"mqtt://127.0.0.1:1\"]\nlogin = { username = \"b\", password = \"planted-second\" } # planted-note\n";
    done(&control.post("/api/v1/bridges", &json!({ "toml": bridge })));
    let port = daemon.port(Transport::Tcp);
    assert!(Peer::connect_as(port, "someone-7", "user", "planted-wrong").is_err());
    let mut peer = Peer::connect_as(port, "someone-8", "user", "planted-user").unwrap();
    peer.subscribe("a/#", Qos::AtLeastOnce).unwrap();
    done(&control.post(BACKUPS, &json!({ "passphrase": "planted-by-hand" })));
    assert_eq!(key(&daemon, "operator").get("/api/v1/diagnostics").status, 403);

    let bundle = admin.get("/api/v1/diagnostics");
    assert_eq!(bundle.status, 200);
    let name = bundle.header("content-disposition").unwrap().to_owned();
    assert!(
        name.contains("headgate-diagnostics-20") && name.contains(".tar.zst"),
        "{name}"
    );
    daemon.ask(&["diagnostics", "bundle.tar.zst"]);
    let by_command = std::fs::read(setup.folder().join("bundle.tar.zst")).unwrap();
    for bytes in [&bundle.body, &by_command] {
        let texts = unpacked(bytes);
        let names: Vec<&str> = texts
            .iter()
            .map(|(name, _)| name.rsplit('/').next().unwrap())
            .collect();
        for name in [
            "status.json",
            "headgate.toml",
            "second.toml",
            "log.jsonl",
            "files.txt",
            "certificates.json",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        let key = std::fs::read_to_string(&setup.certificates().key).unwrap();
        let code = "706c616e746564";
        for (name, text) in &texts {
            for secret in ["planted", code, PASSWORD, "$argon2", key.lines().nth(1).unwrap()] {
                assert!(!text.contains(secret), "{name} has {secret}: {text}");
            }
        }
        let all: String = texts.into_iter().map(|(_, text)| text).collect();
        for known in [
            "bridge-user",
            "\"plant\"",
            "password = \"***\"",
            "users.json",
            "127.0.0.1:1",
        ] {
            assert!(all.contains(known), "{known}");
        }
    }
    daemon.stop();
}

/// The files of a tar archive that is compressed with zstd.
fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(bytes).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = entry.path().unwrap().display().to_string();
        (name, String::from_utf8_lossy(&bytes).into_owned())
    });
    entries.collect()
}

/// Killed anywhere while a backup is made ready, or while a start takes it, a gateway has the old data or the new when it is started at last, and never less.
#[test]
fn a_kill_leaves_the_old_data_or_the_new() {
    let old = gateway("old");
    let daemon = old.start();
    administrator(&daemon, "old");
    fill(&daemon, "old");
    let made = daemon.ask(&["backups", "make"]);
    let file = old
        .folder()
        .join("data/backups")
        .join(made["name"].as_str().unwrap());
    let file = std::fs::read(file).unwrap();
    daemon.stop();
    let mut outcomes = [0; 2];
    for round in 0..12_u64 {
        let new = gateway("new");
        let daemon = new.start();
        administrator(&daemon, "new");
        fill(&daemon, "new");
        done(&upload(&HttpClient::control(&daemon), "old", &file));
        // A round later each; the last one is ready before the kill.
        let after = Duration::from_millis(round * 30);
        let control = new.folder().join("data/control.sock");
        let asking = Command::new(headgate())
            .args(["backups", "restore", "old", "--config", "headgate.toml"])
            .current_dir(new.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut asking = asking.unwrap();
        // The command needs a moment before it asks.
        eventually("the restore to begin", || {
            let data = new.folder().join("data");
            let begun = data.join("restoring").exists() || data.join("restored").exists();
            let ended = asking.try_wait().unwrap().is_some();
            (begun || ended).then_some(())
        });
        std::thread::sleep(after);
        if round == 11 {
            let restored = new.folder().join("data/restored");
            eventually("the restore to be ready", || restored.exists().then_some(()));
        }
        daemon.kill();
        asking.wait().unwrap();
        assert!(control.exists());
        // Starts that are killed, too.
        for n in 0..3 {
            let start = Command::new(headgate())
                .args(["run", "--config", "headgate.toml"])
                .current_dir(new.folder())
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let mut start = start.unwrap();
            std::thread::sleep(Duration::from_millis(4 + 5 * n + round));
            start.kill().unwrap();
            start.wait().unwrap();
        }
        let daemon = new.start_as_it_is();
        let node = HttpClient::control(&daemon).get("/api/v1/status").json()["node"].clone();
        let node = node.as_str().unwrap();
        is_all_of(&daemon, node);
        outcomes[usize::from(node == "old")] += 1;
        for left in ["restoring", "restored", "arriving"] {
            assert!(!new.folder().join("data").join(left).exists(), "{left}");
        }
        let beside = files(new.folder());
        assert!(
            !beside.iter().any(|name| name.contains(".restoring")),
            "{beside:?}"
        );
        daemon.stop();
    }
    assert!(outcomes[1] > 0, "some were ready: {outcomes:?}");
}
