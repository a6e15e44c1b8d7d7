//! What is written down, and lists that come page by page.

use crate::*;

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

/// A change that is made is written down, also when whoever asked has hung up.
#[test]
fn a_change_is_written_down_although_nobody_waits() {
    let setup = setup();
    let daemon = setup.start();
    set_up(&daemon);
    let (_, header) = key_and_header(&daemon, "administrator");
    let body = json!({ "name": "eve", "password": PASSWORD, "role": "administrator" }).to_string();
    let control = HttpClient::control(&daemon);
    let there = |path: &str, what: &str| control.get(path).text().contains(what);
    eventually("the administrator is there", || {
        // Whose connection has ended before the request was taken has asked for nothing: on a busy machine that may be so.
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port_of("http"))).unwrap();
        write!(stream, "POST /api/v1/administrators HTTP/1.1\r\nHost: h\r\n{header}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        drop(stream);
        let mut looks = (0..20).map(|_| std::thread::sleep(Duration::from_millis(100)));
        looks
            .any(|()| there("/api/v1/administrators", "eve"))
            .then_some(())
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
