//! Settings and administrators, changed by the API and by the command line.

use crate::*;

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
