//! Requests that mean harm, or cannot be: nobody else is disturbed.

use crate::*;

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
