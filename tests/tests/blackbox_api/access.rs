//! Who is let in: before there is an administrator, by sessions, keys and passwords.

use crate::*;

#[test]
fn nobody_is_asked_anything_before_there_is_an_administrator() {
    let setup = setup();
    let daemon = setup.start();
    let stranger = anybody(&daemon);
    for path in [
        "/api/v1/status",
        "/api/v1/openapi.json",
        "/api/v1/session",
        "/api/v1/nothing",
    ] {
        let answer = stranger.get(path);
        assert_eq!(
            (answer.status, &answer.json()["setup"]),
            (403, &json!(true)),
            "{path}"
        );
    }
    let needed = stranger.get("/api/v1/setup").json();
    assert_eq!(needed["needed"], true);
    let code_file = setup.folder().join(needed["code_file"].as_str().unwrap());
    let code = std::fs::read_to_string(code_file).unwrap();
    setup.log_with(&["no administrator yet", code.trim()]);
    let new = |code: &str, password: &str| json!({ "code": code, "name": "root", "password": password });
    let wrong = stranger.post("/api/v1/setup", &new("0000-0000-0000", PASSWORD));
    assert_eq!(wrong.status, 401);
    let short = stranger.post("/api/v1/setup", &new(&code, "short"));
    assert_eq!(short.status, 422, "{}", short.text());
    let made = stranger.post("/api/v1/setup", &new(&code, PASSWORD));
    assert_eq!(
        (made.status, &made.json()["role"]),
        (200, &json!("administrator"))
    );
    let cookie = made.header("set-cookie").unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let again = stranger.post("/api/v1/setup", &new(&code, PASSWORD));
    assert_eq!(again.status, 409);
    assert_eq!(stranger.get("/api/v1/status").status, 401);
    assert_eq!(
        stranger
            .with("Cookie", &cookie_of(&made))
            .get("/api/v1/status")
            .status,
        200
    );
    let daemon = daemon.restart();
    assert_eq!(anybody(&daemon).get("/api/v1/setup").json()["needed"], false);
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
