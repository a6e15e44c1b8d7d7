//! A kill at each step of a delivery, just before and just after the packet passes. MQTT 5 figure 4.3, §4.4

use crate::clients::Reader;
use crate::recorder::{Halt, Recorder, Side, Step};
use crate::{DOWN, UP, bridged, end};
use headgate_mqtt_codec::{AckKind, Qos, Version};
use headgate_tests::blackbox::{Daemon, Mosquitto, Transport, eventually};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

/// Who sends what of a delivery.
fn steps(sender: Side, qos: Qos) -> Vec<(Side, Step)> {
    let receiver = sender.other();
    let mut steps = vec![(sender, Step::Publish)];
    match qos {
        Qos::ExactlyOnce => steps.extend([
            (receiver, Step::Ack(AckKind::PubRec)),
            (sender, Step::Ack(AckKind::PubRel)),
            (receiver, Step::Ack(AckKind::PubComp)),
        ]),
        _ => steps.push((receiver, Step::Ack(AckKind::PubAck))),
    }
    steps
}

/// All halts, each with the sender of the message and its QoS.
fn halts(senders: &[Side]) -> Vec<(Side, Qos, Halt)> {
    let mut halts = Vec::new();
    for sender in senders {
        for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
            for (side, step) in steps(*sender, qos) {
                halts.extend([false, true].map(|after| {
                    (
                        *sender,
                        qos,
                        Halt {
                            sender: side,
                            step,
                            after,
                        },
                    )
                }));
            }
        }
    }
    halts
}

const TOPICS: &str = "topics = [\"up/# out 2\", \"down/# in 2\"]";

/// The gateway is killed: what its remote sends, and what it sends, arrives; at QoS 2 once. \[MQTT-4.3.3-13\]
#[test]
fn a_gateway_that_is_killed_at_any_step_loses_nothing_and_repeats_no_qos_2() {
    std::thread::scope(|scope| {
        for version in [Version::V311, Version::V5] {
            scope.spawn(move || kill_gateway(version));
        }
    });
}

fn kill_gateway(version: Version) {
    let mosquitto = Mosquitto::start("");
    let recorder = Recorder::to(mosquitto.port(), version);
    let setup = bridged(version, recorder.port(), TOPICS);
    let mut daemon = setup.start();
    daemon.until_bridge_is("hall", "connected");
    let ports = [daemon.port(Transport::Tcp), mosquitto.port()];
    // Where each side's messages are said, and heard.
    let ways = [
        (Side::Gateway, UP, ports[0], ports[1]),
        (Side::Remote, DOWN, ports[1], ports[0]),
    ];
    let ready = AtomicUsize::new(0);
    for (sender, prefix, said_at, heard_at) in ways {
        let reader = |last| Reader {
            port: heard_at,
            prefix,
            qos: Qos::ExactlyOnce,
            last,
            ready: &ready,
        };
        drop(reader(0).connect(&mut BTreeSet::new()).unwrap());
        let halts = halts(&[sender]);
        let mut heard = Vec::new();
        for (number, (_, qos, halt)) in halts.iter().enumerate() {
            recorder.halt_at(*halt);
            end(said_at, prefix, number, *qos);
            eventually(&format!("{halt:?}"), || recorder.has_halted().then_some(()));
            daemon = daemon.restart();
            daemon.until_bridge_is("hall", "connected");
            heard.extend(reader(number).run());
        }
        end(said_at, prefix, halts.len(), Qos::ExactlyOnce);
        heard.extend(reader(halts.len()).run());
        for (number, (_, qos, halt)) in halts.iter().enumerate() {
            let times = heard.iter().filter(|heard| **heard == number).count();
            let right = times == 1 || times > 1 && *qos == Qos::AtLeastOnce;
            assert!(right, "{version:?} {halt:?}: {times} times");
        }
        assert_eq!(recorder.account(sender).clashes, [], "{version:?}");
    }
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// The remote is killed and has forgotten everything: what it had not acknowledged arrives, and what it had does not hold up what comes after.
/// \[MQTT-4.4.0-1\]
#[test]
fn a_remote_that_is_killed_at_any_step_gets_what_it_had_not_acknowledged() {
    std::thread::scope(|scope| {
        for version in [Version::V311, Version::V5] {
            scope.spawn(move || kill_remote(version));
        }
    });
}

fn kill_remote(version: Version) {
    let mut mosquitto = Mosquitto::start("");
    let recorder = Recorder::to(mosquitto.port(), version);
    let setup = bridged(version, recorder.port(), TOPICS);
    let daemon = setup.start();
    daemon.until_bridge_is("hall", "connected");
    let ready = AtomicUsize::new(0);
    let there = mosquitto.port();
    let reader = |last| Reader {
        port: there,
        prefix: UP,
        qos: Qos::ExactlyOnce,
        last,
        ready: &ready,
    };
    drop(reader(0).connect(&mut BTreeSet::new()).unwrap());
    for (n, (_, qos, halt)) in halts(&[Side::Gateway]).iter().enumerate() {
        let (number, next) = (2 * n, 2 * n + 1);
        recorder.halt_at(*halt);
        end(daemon.port(Transport::Tcp), UP, number, *qos);
        eventually(&format!("{halt:?}"), || recorder.has_halted().then_some(()));
        recorder.set_open(false);
        mosquitto.kill();
        recorder.remote_killed();
        mosquitto.run();
        drop(reader(0).connect(&mut BTreeSet::new()).unwrap());
        recorder.set_open(true);
        connects(&daemon);
        end(daemon.port(Transport::Tcp), UP, next, *qos);
        let heard = reader(next).run();
        let acknowledged = recorder.account(Side::Gateway).acknowledged;
        let times = heard.iter().filter(|heard| **heard == number).count();
        let promised = acknowledged
            .get(&number)
            .is_some_and(|lives| lives.iter().all(|life| *life == n));
        assert!(
            times == 1 || promised && times == 0,
            "{version:?} {halt:?}: {times} times"
        );
    }
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// Without the pause.
fn connects(daemon: &Daemon<'_>) {
    daemon.ask(&["bridge", "resume", "hall"]);
    daemon.until_bridge_is("hall", "connected");
}
