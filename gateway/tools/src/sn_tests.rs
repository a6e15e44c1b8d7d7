//! `sn-pub`, `sn-sub` and `sn-scan` as they are typed, against a real gateway at a real socket.

use crate::ClientCommand;
use bytes::Bytes;
use clap::Parser;
use headgate_cli::Outcome;
use headgate_model::Qos;
use headgate_tests::sn_testbed::{Served, Testbed, settings};
use std::time::Duration;

/// The clients alone.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: ClientCommand,
}

/// Runs a command line.
fn run(served: &Served, command: &str) -> Outcome {
    let port = served.address.port().to_string();
    let words = command.split(' ').map(str::to_owned);
    let line = ["headgate".to_owned()].into_iter().chain(words);
    let line = line.chain(["-h", "127.0.0.1", "-p", &port].map(str::to_owned));
    Cli::try_parse_from(line)?.command.run()
}

fn complaint(served: &Served, command: &str) -> String {
    run(served, command).unwrap_err().to_string()
}

#[test]
fn messages_are_published_at_every_qos() {
    let served = Served::start(settings());
    for (command, topic) in [
        ("sn-pub -t plant/7 -m a", "plant/7"),
        ("sn-pub -t plant/7 -q 1 -m b", "plant/7"),
        ("sn-pub -t t1 -q 2 -m c", "t1"),
        ("sn-pub --predefined 7 -q 1 -m d", "known/seven"),
        ("sn-pub --predefined 7 -q -1 -m e", "known/seven"),
        ("sn-pub -t t1 -q -1 -m f", "t1"),
    ] {
        run(&served, command).unwrap();
        // At QoS −1 nobody says when it has come.
        while served.with(|testbed, _| testbed.published.is_empty()) {
            std::thread::yield_now();
        }
        let published = served.with(|testbed, _| std::mem::take(&mut testbed.published));
        let payload = Bytes::copy_from_slice(&command.as_bytes()[command.len() - 1..]);
        assert_eq!(published, [(topic.to_owned(), payload)], "{command}");
    }
}

/// A time is in seconds, or has a unit.
#[test]
fn a_time_may_have_a_unit() {
    let served = Served::start(settings());
    for time in ["500ms", "0.5", "1m"] {
        run(
            &served,
            &format!("sn-pub --retry-interval {time} -t t1 -q 1 -m a"),
        )
        .unwrap();
    }
    let complaint = complaint(&served, "sn-pub --retry-interval 5x -t t1 -m a");
    assert!(
        complaint.contains("allowed are 0.01 to 86400 seconds, also as 500ms"),
        "{complaint}"
    );
}

/// A refusal says what it is about, also at QoS 0, and what to do.
#[test]
fn refusals_are_told() {
    let served = Served::start(settings());
    for (command, expected) in [
        ("sn-pub --predefined 8 -m a", "PUBLISH: invalid topic id"),
        ("sn-pub --predefined 8 -q 1 -m a", "PUBLISH: invalid topic id"),
        ("sn-pub -t secret/1 -q 1 -m a", "PUBLISH: not supported"),
        ("sn-pub -t plant/7 -q -1 -m a", "topic of two characters"),
        ("sn-sub -t secret/#", "SUBSCRIBE: not supported"),
        ("sn-sub --predefined 8", "SUBSCRIBE: invalid topic id"),
        ("sn-sub -t a/#/b", "filter `a/#/b`"),
    ] {
        let complaint = complaint(&served, command);
        assert!(complaint.contains(expected), "{command}: {complaint}");
    }
    let full = Served::serving(Testbed::full(settings()));
    let complaint = complaint(&full, "sn-pub -t a -m b");
    assert!(complaint.contains("CONNECT: congestion"), "{complaint}");
}

#[test]
fn a_subscriber_gets_what_is_retained() {
    let served = Served::start(settings());
    run(&served, "sn-pub -t plant/7 -q 1 -r -m kept").unwrap();
    run(&served, "sn-sub -t plant/+ -q 1 -C 1 -W 60").unwrap();
    let complaint = complaint(&served, "sn-sub -t other/+ -C 1 -W 0.2");
    assert!(complaint.starts_with("0 of 1 messages"), "{complaint}");
}

/// What comes while it sleeps is there when it wakes, and what was not printed stays with the gateway.
#[test]
fn a_subscriber_sleeps_and_wakes() {
    let served = Served::start(settings());
    let there = served.clone();
    let sleeper = std::thread::spawn(move || {
        let command = "sn-sub -i sleeper -c -t cmd/+ -q 1 --sleep 1 -C 2 -W 60";
        run(&there, command).map_err(|error| error.to_string())
    });
    let mut sent = 0;
    while !sleeper.is_finished() {
        served.with(|testbed, now| testbed.publish("cmd/open", Qos::AtLeastOnce, "go".into(), now));
        sent += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    sleeper.join().unwrap().unwrap();
    assert!(sent >= 2);
    served.with(|testbed, now| testbed.publish("cmd/open", Qos::AtLeastOnce, "go".into(), now));
    run(&served, "sn-sub -i sleeper -c -t cmd/+ -q 1 -C 1 -W 60").unwrap();
    run(&served, "sn-sub -i sleeper -c -U cmd/+").unwrap();
}

#[test]
fn a_gateway_is_found() {
    let served = Served::start(settings());
    run(&served, "sn-scan --seconds 1").unwrap();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut elsewhere = served;
    elsewhere.address.set_port(nobody.local_addr().unwrap().port());
    let complaint = complaint(&elsewhere, "sn-scan --seconds 0.2");
    assert_eq!(complaint, "no gateway answered within 0.2 seconds");
}

/// Arguments that exclude each other, and those that need each other.
#[test]
fn command_lines_are_checked() {
    for (line, is_good) in [
        ("sn-pub -m x", false),
        ("sn-pub -t a --predefined 7 -m x", false),
        ("sn-pub -t a -m x --hdlc", false),
        ("sn-pub -t a -m x --serial /dev/ttyS0,baud=19200 --hdlc", true),
        ("sn-pub -t a -m x --serial /dev/ttyS0 -h there", false),
        ("sn-sub -t a -c", false),
        ("sn-sub -t a --json -v", false),
        ("sn-sub --sleep 5m -t a -v", true),
        ("sn-scan --multicast 225.1.1.1", true),
        ("sn-scan --multicast 10.1.1.1", false),
        ("sn-scan --serial /dev/ttyS0 --hdlc", true),
        ("sn-scan --hdlc", false),
        ("sn-scan --serial /dev/ttyS0 -h there", false),
    ] {
        let words = ["headgate"].into_iter().chain(line.split(' '));
        assert_eq!(Cli::try_parse_from(words).is_ok(), is_good, "{line}");
    }
}
