//! The HTTP API from outside: who may ask what, what is written down, and that what handlers give is what the OpenAPI document says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_mqtt_codec::{Packet, PacketId, Publish, Qos, Utf8};
use headgate_tests::blackbox::{Daemon, HttpAnswer, HttpClient, Peer, Setup, Transport, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PASSWORD: &str = "correct horse battery";

/// A gateway with a listener of HTTP.
fn setup() -> Setup {
    Setup::with("[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n")
}

/// Whoever asks over HTTP without showing anything.
fn anybody(daemon: &Daemon<'_>) -> HttpClient {
    HttpClient::at(daemon.port_of("http"))
}

/// An API key of this role: whoever shows it, and the header that it shows.
fn key_and_header(daemon: &Daemon<'_>, role: &str) -> (HttpClient, String) {
    let made = HttpClient::control(daemon).post("/api/v1/keys", &json!({ "name": role, "role": role }));
    let made = made.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let header = format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!("{id}:{secret}"))
    );
    (anybody(daemon).basic(id, secret), header)
}

fn key(daemon: &Daemon<'_>, role: &str) -> HttpClient {
    key_and_header(daemon, role).0
}

/// Publishes at QoS 1, and waits until it is acknowledged.
fn publish(peer: &mut Peer, topic: &str, payload: &str, retain: bool) {
    let publish = Publish {
        qos: Qos::AtLeastOnce,
        retain,
        topic: Utf8::try_from(topic.to_owned()).unwrap(),
        packet_id: PacketId::new(7),
        payload: payload.to_owned().into(),
        ..Publish::default()
    };
    peer.send(&Packet::Publish(publish)).unwrap();
    while !matches!(peer.recv().unwrap(), Packet::Ack(_)) {}
}

/// The first administrator is there.
fn set_up(daemon: &Daemon<'_>) {
    let new = json!({ "name": "root", "password": PASSWORD, "role": "administrator" });
    let made = HttpClient::control(daemon).post("/api/v1/administrators", &new);
    assert_eq!(made.status, 200, "{}", made.text());
}

fn cookie_of(answer: &HttpAnswer) -> String {
    let cookie = answer.header("set-cookie").expect("a session has a cookie");
    cookie.split(';').next().unwrap().to_owned()
}

/// A session of the administrator: it shows its cookie and its token.
fn log_in(daemon: &Daemon<'_>) -> HttpClient {
    let anybody = anybody(daemon);
    let answer = anybody.post(
        "/api/v1/session",
        &json!({ "name": "root", "password": PASSWORD }),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let csrf = answer.json()["csrf"].as_str().unwrap().to_owned();
    anybody
        .with("Cookie", &cookie_of(&answer))
        .with("X-CSRF-Token", &csrf)
}

#[test]
fn nobody_is_asked_anything_before_there_is_an_administrator() {
    let setup = setup();
    let daemon = setup.start();
    let anybody = anybody(&daemon);
    for path in [
        "/api/v1/status",
        "/api/v1/openapi.json",
        "/api/v1/session",
        "/api/v1/nothing",
    ] {
        let answer = anybody.get(path);
        assert_eq!(
            (answer.status, &answer.json()["setup"]),
            (403, &json!(true)),
            "{path}"
        );
    }
    let needed = anybody.get("/api/v1/setup").json();
    assert_eq!(needed["needed"], true);
    let code_file = setup.folder().join(needed["code_file"].as_str().unwrap());
    let code = std::fs::read_to_string(code_file).unwrap();
    setup.log_with(&["no administrator yet", code.trim()]);
    let new = |code: &str, password: &str| json!({ "code": code, "name": "root", "password": password });
    let wrong = anybody.post("/api/v1/setup", &new("0000-0000-0000", PASSWORD));
    assert_eq!(wrong.status, 401);
    let short = anybody.post("/api/v1/setup", &new(&code, "short"));
    assert_eq!(short.status, 422, "{}", short.text());
    let made = anybody.post("/api/v1/setup", &new(&code, PASSWORD));
    assert_eq!(
        (made.status, &made.json()["role"]),
        (200, &json!("administrator"))
    );
    let cookie = made.header("set-cookie").unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let again = anybody.post("/api/v1/setup", &new(&code, PASSWORD));
    assert_eq!(again.status, 409);
    assert_eq!(anybody.get("/api/v1/status").status, 401);
    assert_eq!(
        anybody
            .with("Cookie", &cookie_of(&made))
            .get("/api/v1/status")
            .status,
        200
    );
    let daemon = daemon.restart();
    assert_eq!(anybody_of(&daemon).get("/api/v1/setup").json()["needed"], false);
}

fn anybody_of(daemon: &Daemon<'_>) -> HttpClient {
    anybody(daemon)
}

/// All that can be asked, by method, path with something in the place of names, and role.
fn operations(document: &Value) -> Vec<(String, String, Option<String>)> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "7" } else { part });
            let asked = parts.collect::<Vec<_>>().join("/");
            let role = operation["x-role"].as_str().map(str::to_owned);
            all.push((method.to_uppercase(), asked, role));
        }
    }
    all
}

/// Whoever shows nothing gets nothing, and whoever has too small a role does nothing, whatever is asked.
#[test]
fn each_question_has_its_role() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let anybody = anybody(&daemon);
    let (viewer, operator) = (key(&daemon, "viewer"), key(&daemon, "operator"));
    let document = viewer.get("/api/v1/openapi.json").json();
    let all = operations(&document);
    assert!(all.len() > 70, "{}", all.len());
    let ask = |who: &HttpClient, method: &str, path: &str| {
        who.ask(
            method,
            path,
            "application/json",
            if method == "GET" { b"" } else { b"{}" },
        )
        .status
    };
    let mut open = Vec::new();
    for (method, path, role) in &all {
        let Some(role) = role else {
            open.push(format!("{method} {path}"));
            continue;
        };
        assert_eq!(ask(&anybody, method, path), 401, "{method} {path}");
        assert_eq!(
            ask(&anybody.basic("hg_0", "wrong"), method, path),
            401,
            "{method} {path}"
        );
        if role != "viewer" {
            assert_eq!(ask(&viewer, method, path), 403, "{method} {path}");
        }
        if role == "administrator" {
            assert_eq!(ask(&operator, method, path), 403, "{method} {path}");
        }
    }
    open.sort();
    assert_eq!(
        open,
        ["GET /api/v1/setup", "POST /api/v1/session", "POST /api/v1/setup"],
        "nothing else is open"
    );
    // What was refused is in the log, and pushes no change out of the audit log.
    setup.log_with(&["an administrator was refused"]);
    let audit = HttpClient::control(&daemon)
        .get("/api/v1/audit?limit=1000")
        .json();
    let rows = audit["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "an administrator and two keys: {rows:?}");
}

/// OpenAPI 3.1: schemas are those of JSON Schema 2020-12.
#[test]
fn what_handlers_give_is_what_the_document_says() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let control = HttpClient::control(&daemon);
    let document = control.get("/api/v1/openapi.json").json();
    let port = daemon.port(Transport::Tcp);
    let (mut peer, _) = Peer::connect(port, "pump/7", true, 600).unwrap();
    peer.subscribe("a/#", Qos::AtLeastOnce).unwrap();
    peer.subscribe("$share/g/b/#", Qos::AtMostOnce).unwrap();
    publish(&mut peer, "r/1", "hello", true);
    publish(&mut peer, "$delayed/600/a/b", "later", false);
    control.post("/api/v1/bans", &json!({ "client": "eve", "reason": "why not" }));
    control.post("/api/v1/keys", &json!({ "name": "k", "role": "viewer" }));
    control.post("/api/v1/users", &json!({ "name": "u", "password": "p" }));
    control.post(
        "/api/v1/certificates/csr",
        &json!({ "name": "gate", "common_name": "gate" }),
    );
    let gets = [
        "/setup",
        "/session",
        "/administrators",
        "/keys",
        "/audit",
        "/configuration",
        "/configuration/history",
        "/configuration/schema",
        "/bans",
        "/bridges",
        "/alarms",
        "/certificates",
        "/clients",
        "/clients?search=pump&limit=1",
        "/clients/pump%2F7",
        "/clients/by-id?client=pump/7",
        "/clients/pump%2F7/subscriptions",
        "/sessions/pump%2F7/queue",
        "/subscriptions",
        "/lines",
        "/listeners",
        "/acl",
        "/retained?filter=%23",
        "/retained/message?topic=r/1",
        "/metrics",
        "/status",
        "/slow",
        "/log/level",
        "/lwm2m/clients",
        "/traces",
        "/system",
        "/overview",
        "/history",
        "/history?span=30d&series=clients",
        "/shared",
        "/topics",
        "/topics?limit=1",
        "/delayed",
        "/users",
    ];
    let asked = gets.iter().map(|path| ("get", *path, None));
    let posts = [
        ("/explain", json!({ "client": "pump/7", "publish": "a/b" })),
        (
            "/configuration/preview",
            json!({ "toml": "node = \"x\"\ndata_dir = \"data\"\n" }),
        ),
        (
            "/configuration/edit",
            json!({ "toml": "", "changes": [{ "path": "node", "value": "x" }] }),
        ),
        (
            "/clients/pump%2F7/subscriptions",
            json!({ "filter": "c/#", "qos": 1 }),
        ),
        ("/users/look", json!({})),
    ];
    let asked = asked.chain(posts.iter().map(|(path, body)| ("post", *path, Some(body))));
    let mut checked = 0;
    for (method, path, body) in asked {
        let full = format!("/api/v1{path}");
        let answer = match body {
            Some(body) => control.post(&full, body),
            None => control.get(&full),
        };
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let schema = schema_of(&document, method, path.split('?').next().unwrap());
        let mut whole = json!({ "components": document["components"], "allOf": [schema] });
        forbid_others(&mut whole);
        let validator = jsonschema::validator_for(&whole).unwrap();
        let given = answer.json();
        let faults: Vec<String> = validator
            .iter_errors(&given)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{path}: {faults:#?}\n{given:#}");
        checked += 1;
    }
    assert!(checked > 40);
}

/// What a handler gives beyond what is said of it is a fault, too: no object has more than its fields, where one schema says all of them.
fn forbid_others(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let parts = ["allOf", "anyOf", "oneOf", "$ref"];
            let combines = parts.iter().any(|key| fields.contains_key(*key));
            let names_fields = fields.get("properties").is_some_and(Value::is_object);
            let whole = fields
                .iter_mut()
                .filter(|(key, _)| !parts.contains(&key.as_str()));
            whole.for_each(|(_, value)| forbid_others(value));
            if names_fields && !combines && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(forbid_others),
        _ => {}
    }
}

/// The schema of an answer, by the path with its names.
fn schema_of(document: &Value, method: &str, path: &str) -> Value {
    let asked: Vec<&str> = path.split('/').collect();
    let fits = |known: &str| {
        let known: Vec<&str> = known.trim_start_matches("/api/v1").split('/').collect();
        let same = |(known, asked): (&&str, &&str)| known == asked || known.starts_with('{');
        known.len() == asked.len() && known.iter().zip(&asked).all(same)
    };
    let exact = format!("/api/v1{path}");
    let paths = document["paths"].as_object().unwrap();
    let found = paths
        .get(&exact)
        .or_else(|| Some(paths.iter().find(|(known, _)| fits(known))?.1));
    let found = found.unwrap_or_else(|| panic!("{path} is not in the document"));
    let content = &found[method]["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(!content.is_null(), "{method} {path}");
    content.clone()
}

/// A page of another server has the cookie sent, and not the token; its browser says where it comes from.
#[test]
fn another_page_changes_nothing() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let anybody = anybody(&daemon);
    let answer = anybody.post(
        "/api/v1/session",
        &json!({ "name": "root", "password": PASSWORD }),
    );
    let session = anybody.with("Cookie", &cookie_of(&answer));
    let csrf = answer.json()["csrf"].as_str().unwrap().to_owned();
    let ban = json!({ "client": "eve" });
    assert_eq!(session.post("/api/v1/bans", &ban).status, 403, "no token");
    assert_eq!(
        session
            .with("X-CSRF-Token", "wrong")
            .post("/api/v1/bans", &ban)
            .status,
        403
    );
    let ours = session.with("X-CSRF-Token", &csrf);
    assert_eq!(
        ours.with("Origin", "http://evil.example")
            .post("/api/v1/bans", &ban)
            .status,
        403
    );
    assert_eq!(ours.with("Origin", "null").post("/api/v1/bans", &ban).status, 403);
    assert_eq!(
        ours.with("Origin", "http://gateway")
            .post("/api/v1/bans", &ban)
            .status,
        200
    );
    // A form is no JSON, and a log-in from elsewhere is none.
    let form = ours.ask("POST", "/api/v1/bans", "text/plain", ban.to_string().as_bytes());
    assert_eq!(form.status, 415);
    let credentials = json!({ "name": "root", "password": PASSWORD });
    let foreign = anybody.with("Origin", "http://evil.example");
    assert_eq!(foreign.post("/api/v1/session", &credentials).status, 403);
    // Nothing lets another page read: no CORS.
    let read = ours.with("Origin", "http://evil.example").get("/api/v1/status");
    assert_eq!(read.header("access-control-allow-origin"), None);
}

/// Session fixation: a token that somebody brings along is nobody's, before and after a log-in.
#[test]
fn a_session_has_a_token_of_its_own_and_ends() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let anybody = anybody(&daemon);
    let brought = anybody.with("Cookie", "headgate_session=brought-along");
    let answer = brought.post(
        "/api/v1/session",
        &json!({ "name": "root", "password": PASSWORD }),
    );
    assert_ne!(cookie_of(&answer), "headgate_session=brought-along");
    assert_eq!(brought.get("/api/v1/session").status, 401);
    let session = log_in(&daemon);
    assert_eq!(session.get("/api/v1/session").json()["name"], "root");
    assert_eq!(session.delete("/api/v1/session").status, 200);
    assert_eq!(session.get("/api/v1/session").status, 401);
    // Another password ends all sessions.
    let session = log_in(&daemon);
    let change = json!({ "old": PASSWORD, "new": "another password" });
    assert_eq!(
        session.send("PUT", "/api/v1/session/password", &change).status,
        200
    );
    assert_eq!(session.get("/api/v1/session").status, 401);
}

#[test]
fn wrong_passwords_lock_out() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let anybody = anybody(&daemon);
    let guess = |password: &str| {
        anybody.post(
            "/api/v1/session",
            &json!({ "name": "root", "password": password }),
        )
    };
    for _ in 0..5 {
        assert_eq!(guess("a wrong password").status, 401);
    }
    let locked = guess(PASSWORD);
    assert_eq!(locked.status, 429, "{}", locked.text());
    setup.log_with(&["an administrator was not let in"]);
    let text = setup.log();
    assert!(
        !text.contains("a wrong password") && !text.contains(PASSWORD),
        "no password stands in the log"
    );
}

#[test]
fn changes_are_written_down_with_who_and_what() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let session = log_in(&daemon);
    session.post("/api/v1/bans", &json!({ "client": "eve", "reason": "flood" }));
    session.post(
        "/api/v1/users",
        &json!({ "name": "pump", "password": "secret of the pump" }),
    );
    session.send("PUT", "/api/v1/log/level", &json!({ "level": "debug" }));
    let rows = session.get("/api/v1/audit").json()["rows"].clone();
    let [level, user, ban] = [&rows[0], &rows[1], &rows[2]];
    assert_eq!((&level["who"], &level["status"]), (&json!("root"), &json!(200)));
    assert_eq!(
        (&level["before"]["level"], &level["after"]["level"]),
        (&json!("info"), &json!("debug"))
    );
    assert_eq!(user["after"], json!({ "name": "pump" }));
    assert_eq!(
        (&ban["after"]["client"], &ban["request"]),
        (&json!("eve"), &json!("POST /api/v1/bans"))
    );
    assert!(ban["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{ban}");
    let written = std::fs::read_to_string(setup.folder().join("data/audit.log")).unwrap();
    assert!(!written.contains("secret of the pump"));
    let daemon = daemon.restart();
    let after = HttpClient::control(&daemon).get("/api/v1/audit").json();
    assert_eq!(
        after["rows"].as_array().unwrap().len(),
        rows.as_array().unwrap().len()
    );
}

/// A stream of server-sent events: each event's name and data.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(daemon: &Daemon<'_>, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port_of("http"))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Self(reader)
    }

    /// `None` at the end.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut event = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(name) = line.strip_prefix("event: ") {
                name.trim().clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((event, serde_json::from_str(data).unwrap()));
            }
        }
    }

    fn until(&mut self, wanted: &str) -> Value {
        loop {
            let (event, data) = self.next().expect("the stream goes on");
            if event == wanted {
                return data;
            }
        }
    }
}

#[test]
fn events_tell_what_happens_and_end_with_the_key() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let (_, header) = key_and_header(&daemon, "viewer");
    let mut events = Stream::open(&daemon, "/api/v1/events?kinds=presence,log", &header);
    let port = daemon.port(Transport::Tcp);
    let (peer, _) = Peer::connect(port, "pump-7", true, 0).unwrap();
    let told = events.until("presence");
    assert_eq!(
        (&told["client"], &told["connected"]),
        (&json!("pump-7"), &json!(true))
    );
    peer.vanish();
    let told = events.until("presence");
    assert_eq!(
        (&told["connected"], &told["reason"]),
        (&json!(false), &json!("closed"))
    );
    let control = HttpClient::control(&daemon);
    let keys = control.get("/api/v1/keys").json();
    control.delete(&format!(
        "/api/v1/keys/{}",
        keys["rows"][0]["id"].as_str().unwrap()
    ));
    while events.next().is_some() {}
}

/// The rules of who looks on hold; what is more than wanted is said by its number; nobody who is connected is told of it.
#[test]
fn a_tail_shows_what_its_rules_let_it() {
    let setup = Setup::with(
        "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n\
         [auth]\nacl = [{ effect = \"deny\", action = \"subscribe\", user = \"key viewer\", topics = [\"secret/#\"] }, { effect = \"allow\" }]\n",
    );
    let daemon = setup.start();
    set_up(&daemon);
    let (viewer, header) = key_and_header(&daemon, "viewer");
    let denied = viewer.get("/api/v1/tail?filter=secret/%23");
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert_eq!(viewer.get("/api/v1/tail?filter=a/%23/b").status, 422);
    assert_eq!(viewer.get("/api/v1/tail?filter=$share/g/a").status, 422);
    let mut tail = Stream::open(&daemon, "/api/v1/tail?filter=%23&max_per_second=3", &header);
    tail.until("open");
    let port = daemon.port(Transport::Tcp);
    let (mut peer, _) = Peer::connect(port, "pump-7", true, 0).unwrap();
    publish(&mut peer, "secret/1", "hidden", false);
    for n in 0..20 {
        publish(&mut peer, "a/b", &n.to_string(), false);
    }
    let (mut seen, mut left_out, mut last) = (0, 0, String::new());
    while seen + left_out < 20 {
        let (event, data) = tail.next().expect("the stream goes on");
        match &*event {
            "message" => {
                assert_eq!(data["topic"], "a/b", "{data}");
                seen += 1;
                data["payload"].as_str().unwrap_or_default().clone_into(&mut last);
            }
            "left_out" => left_out += data["count"].as_u64().unwrap(),
            _ => {}
        }
    }
    assert_eq!(seen + left_out, 20);
    assert!(left_out > 0);
    assert_eq!(last, "19", "the last message of a topic is told, if late");
}

/// One huge body, one slow body, many idle connections: nobody else is disturbed.
#[test]
fn a_bad_request_disturbs_nobody() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let port = daemon.port_of("http");
    let session = log_in(&daemon);
    let huge = vec![b' '; 2 << 20];
    let answer = session.ask("POST", "/api/v1/explain", "application/json", &huge);
    assert_eq!(answer.status, 413);
    let mut declared = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(declared, "POST /api/v1/session HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 4000000000\r\n\r\n{{").unwrap();
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
    }
    // Of one address 64 are served, the others are hung up on; from another one it answers at once, and MQTT does.
    let port_mqtt = daemon.port(Transport::Tcp);
    Peer::connect(port_mqtt, "pump-7", true, 0).unwrap();
    assert_eq!(HttpClient::control(&daemon).get("/api/v1/status").status, 200);
    drop((declared, idle));
    eventually("there is a place again", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(
            stream,
            "GET /api/v1/status HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 401").then_some(())
    });
}

/// Ten machines hold all the connections that they get: who comes from another is answered all the same.
#[test]
fn whoever_holds_connections_keeps_nobody_out() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let port = daemon.port_of("http");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let from = |last: u8| async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 1, last], 0).into()).unwrap();
            socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
        };
        let mut held = Vec::new();
        for last in 1..=10 {
            for _ in 0..64 {
                held.push(from(last).await);
            }
        }
        // Each has begun a request that it does not finish.
        for stream in &mut held {
            let half = b"POST /api/v1/session HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{";
            let _ = stream.write_all(half).await;
        }
        let mut honest = from(99).await;
        let asked = b"GET /api/v1/status HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        honest.write_all(asked).await.unwrap();
        let mut answer = String::new();
        honest.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    });
}

/// What an attacker found once: each of these did more harm than an error.
#[test]
fn what_cannot_be_is_refused() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let control = HttpClient::control(&daemon);
    let refused = |method: &str, path: &str, body: Value, status: u16| {
        let answer = control.send(method, path, &body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(answer.json()["error"].is_string(), "{}", answer.text());
    };
    let deep = vec!["a"; 100_000].join(".");
    refused(
        "POST",
        "/api/v1/configuration/edit",
        json!({ "toml": "", "changes": [{ "path": deep, "value": 1 }] }),
        422,
    );
    let many: Vec<Value> = (0..12_000)
        .map(|n| json!({ "path": format!("listeners[a{n}]"), "value": {} }))
        .collect();
    refused(
        "POST",
        "/api/v1/configuration/edit",
        json!({ "toml": "", "changes": many }),
        422,
    );
    refused(
        "POST",
        "/api/v1/bans",
        json!({ "client": "x", "seconds": u64::MAX }),
        422,
    );
    refused(
        "POST",
        "/api/v1/bans",
        json!({ "client": "x", "for_seconds": 60 }),
        422,
    );
    refused("POST", "/api/v1/bans", json!({ "client": "x", "user": "y" }), 422);
    refused(
        "PUT",
        "/api/v1/log/level",
        json!({ "level": "info", "seconds": u64::MAX }),
        422,
    );
    refused(
        "POST",
        "/api/v1/configuration/apply",
        json!({ "toml": "", "confirm_second": 60 }),
        422,
    );
    refused(
        "POST",
        "/api/v1/configuration/apply",
        json!({ "toml": "", "confirm_seconds": u64::MAX }),
        422,
    );
    refused("DELETE", "/api/v1/sessions/%24bridge%2Fcloud", json!({}), 409);
    refused("DELETE", "/api/v1/clients/%24bridge%2Fcloud", json!({}), 409);
    refused(
        "POST",
        "/api/v1/clients/%24bridge%2Fcloud/subscriptions",
        json!({ "filter": "#" }),
        409,
    );
    refused("POST", "/api/v1/status", json!({}), 405);
    refused("POST", "/api/v1/bans", json!([1]), 422);
    refused(
        "POST",
        "/api/v1/keys",
        json!({ "name": "k", "role": "king" }),
        422,
    );
    assert_eq!(
        control
            .post("/api/v1/keys", &json!({ "name": "k", "role": "viewer" }))
            .status,
        200
    );
    refused(
        "POST",
        "/api/v1/keys",
        json!({ "name": "k", "role": "viewer" }),
        409,
    );
    let bad = control.ask("POST", "/api/v1/bans", "application/json", b"{");
    assert!(
        bad.status == 400 && bad.json()["error"].is_string(),
        "{}",
        bad.text()
    );
    let bad = control.get("/api/v1/clients?limit=x");
    assert!(
        bad.status == 400 && bad.json()["error"].is_string(),
        "{}",
        bad.text()
    );
    assert_eq!(control.get("/api/v1/clients?state=bogus").status, 422);
    // A body before anybody is known is a small one.
    let huge = vec![b' '; 64 << 10];
    let answer = anybody(&daemon).ask("POST", "/api/v1/session", "application/json", &huge);
    assert_eq!(answer.status, 413);
}

/// A change that is made is written down, also when whoever asked has hung up.
#[test]
fn a_change_is_written_down_although_nobody_waits() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let (_, header) = key_and_header(&daemon, "administrator");
    let body = json!({ "name": "eve", "password": PASSWORD, "role": "administrator" }).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.port_of("http"))).unwrap();
    write!(stream, "POST /api/v1/administrators HTTP/1.1\r\nHost: h\r\n{header}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    drop(stream);
    let control = HttpClient::control(&daemon);
    let there = |path: &str, what: &str| control.get(path).text().contains(what);
    eventually("the administrator is there", || {
        there("/api/v1/administrators", "eve").then_some(())
    });
    eventually("and written down", || there("/api/v1/audit", "eve").then_some(()));
}

/// Who waits for a client that is away is listed page by page, also what is on the disk alone.
#[test]
fn a_queue_is_listed_page_by_page() {
    let setup = setup();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (mut away, _) = Peer::connect(port, "away", true, 600).unwrap();
    away.subscribe("a", Qos::AtLeastOnce).unwrap();
    away.vanish();
    let (mut peer, _) = Peer::connect(port, "pump", true, 0).unwrap();
    for n in 0..7 {
        publish(&mut peer, "a", &"x".repeat(n), false);
    }
    let control = HttpClient::control(&daemon);
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = control
            .get(&format!("/api/v1/sessions/away/queue?limit=2{after}"))
            .json();
        let rows = page["rows"].as_array().unwrap();
        assert!(rows.len() <= 2);
        seen.extend(rows.iter().map(|row| row["bytes"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
}

/// What browsers normalise, and what they do not, leads nowhere but to the UI's own files.
#[test]
fn no_path_leads_out_of_the_pages() {
    let setup = setup();
    let daemon = setup.start();
    let anybody = anybody(&daemon);
    for path in [
        "/assets/..%2f..%2findex.html",
        "/assets/%2e%2e/%2e%2e/Cargo.toml",
        "/assets/%2Fetc%2Fpasswd",
        "/../../etc/passwd",
        "/assets/index.html%00",
        "//etc/passwd",
        "/ui/index.html",
    ] {
        let answer = anybody.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

/// Hostile names do nothing but show: they come back as they are, in JSON.
#[test]
fn a_name_is_only_a_name() {
    let setup = setup();
    let daemon = setup.start();
    let control = HttpClient::control(&daemon);
    let port = daemon.port(Transport::Tcp);
    let long = "x".repeat(900);
    let names = [
        "<script>alert(1)</script>",
        "a\"b'c\\d",
        "\u{202e}evil",
        "a/../b?c#d",
        "%2e%2e%2f",
        "日本",
        &long,
    ];
    for name in names {
        let (mut peer, _) = Peer::connect(port, name, true, 0).unwrap();
        peer.subscribe(&format!("{}/#", name.replace(['#', '+'], "")), Qos::AtMostOnce)
            .unwrap();
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        if name.len() < 300 {
            let shown = control.get(&format!("/api/v1/clients/{escaped}"));
            assert_eq!((shown.status, &shown.json()["client"]), (200, &json!(name)));
            assert_eq!(shown.header("content-type"), Some("application/json"));
            let kicked = control.delete(&format!("/api/v1/clients/{escaped}"));
            assert_eq!(kicked.status, 200, "{name}");
        } else {
            let listed = control.get("/api/v1/clients?search=xxxxx").json();
            assert_eq!(listed["rows"][0]["client"], name);
        }
    }
}

/// Settings change in the text, and what is wrong is told by its line.
#[test]
fn settings_change_one_at_a_time() {
    let setup = setup();
    let daemon = setup.start();
    let control = HttpClient::control(&daemon);
    let shown = control.get("/api/v1/configuration").json();
    let edits = json!({ "changes": [{ "path": "node", "value": "plant-7" }, { "path": "time_zone", "value": "Europe/Berlin" }] });
    let edited = control.post("/api/v1/configuration/edit", &edits).json();
    assert_ne!(edited["toml"], shown["toml"]);
    let wrong = control.post(
        "/api/v1/configuration/apply",
        &json!({ "toml": "node = 7\n[bus]\nnothing = 1\n" }),
    );
    assert_eq!(wrong.status, 422);
    let faults = wrong.json()["faults"].clone();
    let lines: Vec<u64> = faults
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|fault| fault["line"].as_u64())
        .collect();
    assert_eq!(lines, [1, 3], "{faults}");
    let applied = control.post("/api/v1/configuration/apply", &edited);
    assert_eq!(applied.status, 200, "{}", applied.text());
    assert_eq!(control.get("/api/v1/system").json()["time_zone"], "Europe/Berlin");
    // Whoever looked before that undoes nothing by mistake.
    let late = json!({ "toml": shown["toml"], "instead_of": shown["toml"] });
    let late = control.post("/api/v1/configuration/apply", &late);
    assert_eq!(late.status, 409, "{}", late.text());
    let stopped = control.post("/api/v1/listeners/http/stop", &json!({}));
    assert_eq!(
        stopped.json()["listeners"]["http"],
        "removed",
        "{}",
        stopped.text()
    );
    let listeners = control.get("/api/v1/listeners").json();
    let http = listeners["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "http")
        .unwrap();
    assert_eq!(http["running"], false);
    let started = control.post("/api/v1/listeners/http/start", &json!({}));
    assert_eq!(started.json()["listeners"]["http"], "added", "{}", started.text());
}

/// A gateway that was started without a configuration keeps what is applied in its data folder, also over a restart.
#[test]
fn a_gateway_without_a_configuration_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = std::process::Command::new(headgate_tests::blackbox::headgate());
        command.arg("run").current_dir(folder.path()).env_clear();
        // Its default ports may be taken here.
        command.env("HEADGATE__LISTENERS", "[]");
        for list in ["MQTTSN", "COAP", "LWM2M"] {
            command.env(format!("HEADGATE__{list}"), "[]");
        }
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let child = command.spawn().unwrap();
        let socket = folder.path().join("headgate-data/control.sock");
        let control = HttpClient::at_socket(&socket);
        eventually("the gateway is up", || {
            let stream = std::os::unix::net::UnixStream::connect(&socket).ok()?;
            drop(stream);
            (control.get("/api/v1/status").json()["ready"] == true).then_some(())
        });
        (child, control)
    };
    let (mut child, control) = run();
    let applied = control.post(
        "/api/v1/configuration/apply",
        &json!({ "toml": "node = \"plant-7\"\n" }),
    );
    assert_eq!(applied.status, 200, "{}", applied.text());
    child.kill().unwrap();
    child.wait().unwrap();
    let written = std::fs::read_to_string(folder.path().join("headgate-data/headgate.toml")).unwrap();
    assert_eq!(written, "node = \"plant-7\"\n");
    let (mut child, control) = run();
    assert_eq!(control.get("/api/v1/status").json()["node"], "plant-7");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_command_line_makes_administrators_whether_the_gateway_runs_or_not() {
    let setup = setup();
    let headgate = |arguments: &[&str], input: &str| {
        let mut command = std::process::Command::new(headgate_tests::blackbox::headgate());
        command
            .args(arguments)
            .arg("--config")
            .arg(setup.folder().join("headgate.toml"))
            .current_dir(setup.folder());
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let daemon = setup.start();
    let (_, told) = headgate(&["administrators"], "");
    assert!(told.contains("there is no administrator yet"), "{told}");
    assert!(headgate(&["administrators", "add", "root"], &format!("{PASSWORD}\n")).0);
    let session = log_in(&daemon);
    assert_eq!(session.get("/api/v1/status").status, 200);
    let (done, told) = headgate(&["administrators", "remove", "root"], "");
    assert!(!done && told.contains("is the last"), "{told}");
    let (done, told) = headgate(&["keys", "add", "scada", "--role", "operator"], "");
    assert!(done && told.contains("The secret is not shown again"), "{told}");
    let (done, told) = headgate(&["audit"], "");
    assert!(done && told.contains("POST /api/v1/administrators"), "{told}");
    let (done, told) = headgate(&["api", "system"], "");
    assert!(done && told.contains("\"uptime_seconds\""), "{told}");
    daemon.stop();
    let (done, told) = headgate(&["administrators", "password", "root"], "another password\n");
    assert!(done, "{told}");
    let daemon = setup.start();
    let wrong = anybody(&daemon).post(
        "/api/v1/session",
        &json!({ "name": "root", "password": PASSWORD }),
    );
    assert_eq!(wrong.status, 401);
    let right = anybody(&daemon).post(
        "/api/v1/session",
        &json!({ "name": "root", "password": "another password" }),
    );
    assert_eq!(right.status, 200);
}

/// HTTP without TLS is for this machine.
#[test]
fn plain_http_stays_on_loopback_unless_it_is_said_otherwise() {
    let check = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headgate.toml");
        std::fs::write(&file, text).unwrap();
        let output = std::process::Command::new(headgate_tests::blackbox::headgate())
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let listener = "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"0.0.0.0:0\"\n";
    let told = check(listener);
    assert!(
        told.contains("HTTP without TLS is for this machine") && told.contains(":4:"),
        "{told}"
    );
    let told = check(&format!("{listener}[http]\nplain_beyond_loopback = true\n"));
    assert!(!told.contains("HTTP without TLS"), "{told}");
}
