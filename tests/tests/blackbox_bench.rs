//! `headgate bench` against the real gateway: what it counts came, once and in order.

use headgate_tests::blackbox::{Setup, Transport, headgate};
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
