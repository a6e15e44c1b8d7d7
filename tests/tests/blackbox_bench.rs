//! `headgate bench` against the real gateway: what it counts came, once and in order.

use headgate_tests::blackbox::{Daemon, Setup, Transport, headgate};
use std::process::{Command, Output};

fn bench(port: u16, args: &[&str]) -> Output {
    let mut command = Command::new(headgate());
    command
        .args(["bench", "--json", "--port", &port.to_string()])
        .args(args);
    command.output().unwrap()
}

/// The lines of a run that kept every promise.
fn lines(port: u16, args: &[&str]) -> Vec<String> {
    let output = bench(port, args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_message_is_delivered_once_at_each_qos_and_version() {
    let setup = Setup::new();
    let daemon = setup.start();
    let (port, pid) = (daemon.port(Transport::Tcp), daemon.pid().to_string());
    for version in ["3.1", "3.1.1", "5"] {
        let common = [
            "-V",
            version,
            "-c",
            "3",
            "--messages",
            "500",
            "--pid",
            &pid,
            "-q",
            "0",
            "-q",
            "1",
            "-q",
            "2",
        ];
        for (case, delivered) in [("pairs", 500), ("fan-in", 500), ("fan-out", 1_500)] {
            let lines = lines(port, &[&[case][..], &common].concat());
            assert_eq!(lines.len(), 3);
            for line in lines {
                for part in [
                    format!("\"delivered\":{delivered},"),
                    "\"lost\":0,\"duplicates\":0,\"reordered\":0,\"foreign\":0,\"refused\":0,\"stalled\":false".into(),
                ] {
                    assert!(line.contains(&part), "{part} in {line}");
                }
                assert!(!line.contains("\"cpu_s_per_million\":null"), "{line}");
            }
        }
    }
}

#[test]
fn an_open_loop_publishes_at_its_rate_and_ends() {
    let setup = Setup::new();
    let daemon = setup.start();
    let args = [
        "pairs",
        "-c",
        "2",
        "--rate",
        "500",
        "--messages",
        "250",
        "-q",
        "1",
    ];
    let lines = lines(daemon.port(Transport::Tcp), &args);
    assert!(lines[0].contains("\"delivered\":250,"), "{}", lines[0]);
}

#[test]
fn connections_are_held_and_come_and_go() {
    let setup = Setup::new();
    let daemon = setup.start();
    let args = ["idle", "connect", "-c", "50", "--messages", "50"];
    let lines = lines(daemon.port(Transport::Tcp), &args);
    for line in lines {
        assert!(
            line.contains("\"made\":50,") && line.contains("\"failed\":0,"),
            "{line}"
        );
    }
}

/// All was delivered, and nothing twice, in disorder or to the wrong one.
fn assert_delivered(line: &str, case: &str, delivered: u64) {
    for part in [
        format!("\"case\":\"{case}\""),
        format!("\"delivered\":{delivered},"),
        "\"lost\":0,\"duplicates\":0,\"reordered\":0,\"foreign\":0,\"refused\":0,\"stalled\":false".into(),
    ] {
        assert!(line.contains(&part), "{part} in {line}");
    }
}

/// Nothing is left behind: neither sessions nor retained messages.
fn assert_clean(daemon: Daemon<'_>, setup: &Setup) {
    daemon.stop();
    let store = |what: &[&str]| {
        let output = Command::new(headgate())
            .args(["store", "--config", "headgate.toml"])
            .args(what)
            .current_dir(setup.folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let stats: serde_json::Value = serde_json::from_str(&store(&["stats", "--json"])).unwrap();
    for what in ["sessions", "queued", "subscriptions"] {
        assert_eq!(stats[what], 0, "{what} in {stats}");
    }
    // An alarm of this machine may be retained, and nothing else is.
    let dump = store(&["dump"]);
    assert_eq!(stats["retained"], dump.matches("$SYS/").count(), "{dump}");
    assert!(!dump.contains("bench/"), "{dump}");
}

#[test]
fn what_is_stored_for_clients_that_are_away_is_drained_once_and_in_order() {
    let setup = Setup::new();
    let daemon = setup.start();
    for version in ["3.1.1", "5"] {
        let args = [
            "offline",
            "-V",
            version,
            "-c",
            "3",
            "--messages",
            "400",
            "-q",
            "1",
            "-q",
            "2",
        ];
        let lines = lines(daemon.port(Transport::Tcp), &args);
        assert_eq!(lines.len(), 4);
        for (line, case) in lines.iter().zip(["offline", "drain", "offline", "drain"]) {
            assert_delivered(line, case, 400);
        }
    }
    assert_clean(daemon, &setup);
}

#[test]
fn each_subscriber_gets_each_retained_message() {
    let setup = Setup::new();
    let daemon = setup.start();
    let args = [
        "retained",
        "-c",
        "5",
        "--window",
        "2",
        "--messages",
        "300",
        "-q",
        "0",
        "-q",
        "1",
        "-q",
        "2",
    ];
    for line in lines(daemon.port(Transport::Tcp), &args) {
        assert_delivered(&line, "retained", 1_500);
    }
    assert_clean(daemon, &setup);
}

#[test]
fn a_publish_reaches_exactly_the_sessions_whose_filters_match() {
    let setup = Setup::new();
    let daemon = setup.start();
    let pid = daemon.pid().to_string();
    let args = [
        "wildcards",
        "-c",
        "7",
        "--subscriptions",
        "2000",
        "--messages",
        "1000",
        "--pid",
        &pid,
    ];
    let line = &lines(daemon.port(Transport::Tcp), &args)[0];
    assert_delivered(line, "wildcards", 2_500);
    assert!(line.contains("\"subscriptions\":{\"made\":2000,"), "{line}");
    assert!(!line.contains("\"cpu_us_per_publish\":null"), "{line}");
}

#[test]
fn every_case_works_over_every_transport() {
    let setup = Setup::new();
    let daemon = setup.start();
    let ca = setup.ca().to_str().unwrap();
    for transport in Transport::ALL {
        let (tls, insecure) = (["--tls", "--cafile", ca], ["--tls", "--insecure"]);
        let layers = match transport {
            Transport::Tcp => vec![],
            Transport::Tls => tls.to_vec(),
            Transport::Ws => vec!["--ws"],
            Transport::Wss => [&insecure[..], &["--ws=/mqtt"]].concat(),
        };
        let port = daemon.port(transport);
        let cases = [
            ("pairs", 200),
            ("fan-in", 200),
            ("fan-out", 1_000),
            ("offline", 200),
            ("drain", 200),
            ("retained", 1_000),
            ("wildcards", 500),
        ];
        let mut args = vec!["--messages", "200", "-c", "5", "--subscriptions", "50"];
        args.extend(&layers);
        // Frames that do not fit one record, one read or one WebSocket frame.
        args.extend(["--payload", "70000", "--backlog", "10"]);
        args.extend(
            cases
                .map(|(case, _)| case)
                .iter()
                .filter(|case| **case != "drain"),
        );
        let lines = lines(port, &args);
        assert_eq!(lines.len(), cases.len());
        for (line, (case, delivered)) in lines.iter().zip(cases) {
            assert_delivered(line, case, delivered);
            let transport = format!("\"transport\":\"{}\"", transport.name());
            assert!(line.contains(&transport), "{line}");
        }
        let mut args = vec!["idle", "connect", "-c", "20", "--messages", "20"];
        args.extend(&layers);
        for line in self::lines(port, &args) {
            assert!(
                line.contains("\"made\":20,") && line.contains("\"failed\":0,"),
                "{line}"
            );
        }
    }
}

#[test]
fn sessions_that_outlive_their_connections_are_removed_in_the_end() {
    let setup = Setup::new();
    let daemon = setup.start();
    let args = ["pairs", "--durable", "-c", "3", "-q", "1", "--messages", "300"];
    assert_delivered(&lines(daemon.port(Transport::Tcp), &args)[0], "pairs", 300);
    assert_clean(daemon, &setup);
}

#[test]
fn a_server_that_is_not_known_and_a_case_that_is_not_there_are_errors() {
    let setup = Setup::new();
    let daemon = setup.start();
    for (transport, args, word) in [
        (
            Transport::Tls,
            &["pairs", "--tls", "--messages", "1"][..],
            "TLS failed",
        ),
        (
            Transport::Ws,
            &["pairs", "--ws=/elsewhere", "--messages", "1"],
            "WebSocket failed",
        ),
        (Transport::Tcp, &["offline", "-q", "0"], "no such case"),
        (Transport::Tcp, &["wildcards", "-c", "4"], "5 clients"),
    ] {
        let output = bench(daemon.port(transport), args);
        assert!(!output.status.success());
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains(word), "{complaint}");
    }
}

#[test]
fn nobody_there_is_an_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let output = bench(port, &["pairs", "--messages", "1"]);
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("cannot connect to 127.0.0.1"), "{complaint}");
}

/// Each way of acknowledging, with receipts and without; fan-in by a wildcard.
#[test]
fn every_message_is_delivered_once_to_stomp_clients() {
    let setup =
        Setup::with("[[listeners]]\nname = \"stomp\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:0\"\n");
    let daemon = setup.start();
    let (port, pid) = (daemon.port_of("stomp").to_string(), daemon.pid().to_string());
    for ack in ["auto", "client", "client-individual"] {
        for (case, delivered) in [("pairs", 500), ("fan-in", 500), ("fan-out", 1_500)] {
            for receipts in [&[][..], &["--receipts"]] {
                let mut command = Command::new(headgate());
                command
                    .args(["bench", "stomp", case, "--ack", ack, "--json", "-c", "3"])
                    .args(["--messages", "500", "--port", &port, "--pid", &pid])
                    .args(receipts);
                let output = command.output().unwrap();
                let line = String::from_utf8(output.stdout).unwrap();
                let complaint = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{complaint}");
                for part in [
                    format!("\"delivered\":{delivered},"),
                    "\"lost\":0,\"duplicates\":0,\"reordered\":0,\"foreign\":0,\"refused\":0,\"stalled\":false".into(),
                ] {
                    assert!(line.contains(&part), "{part} in {line}");
                }
            }
        }
    }
    daemon.stop();
}
