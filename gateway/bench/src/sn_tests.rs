//! Whole runs against a real gateway at real sockets.

use super::*;
use headgate_mqttsn_codec::Qos as SnQos;
use headgate_tests::sn_testbed::{Served, settings};

fn plan(served: &Served, sensors: usize) -> SnPlan {
    SnPlan {
        gateway: served.address,
        swarm: SwarmPlan {
            sensors,
            qos: SnQos::AtLeastOnce,
            messages: 2,
            payload: 20,
            window: 64,
            rate: None,
            shared_topic: false,
            clean: true,
            keep_alive: 3_600,
            sleep: 3_600,
            buffered: true,
            retry_interval: 10_000_000_000,
            retries: 5,
            run: 0,
        },
        buffer: Some((
            Server {
                address: served.mqtt,
                tls: None,
                websocket: None,
                version: Version::V311,
                username: None,
                password: None,
            },
            50,
        )),
        stay: false,
        settle: std::time::Duration::ZERO,
        pid: Some(std::process::id()),
    }
}

fn reports(plan: &SnPlan) -> Vec<SnReport> {
    let mut reports = Vec::new();
    let mut keep = |report| {
        reports.push(report);
        Ok(())
    };
    plan.run(&mut keep, &mut |_| {}).unwrap();
    reports
}

/// Each sensor has its own address and its own message, over as many datagrams as it takes.
#[test]
fn a_run_reports_every_phase() {
    let served = Served::start(settings());
    let reports = reports(&plan(&served, 500));
    let counts: Vec<(&str, u64)> = reports
        .iter()
        .map(|report| (report.phase, report.count))
        .collect();
    assert_eq!(
        counts,
        [
            ("connect", 500),
            ("subscribe", 500),
            ("register", 500),
            ("publish", 1_000),
            ("sleep", 500),
            ("buffer", 500),
            ("wake", 500),
            ("leave", 500)
        ]
    );
    assert_eq!(reports.iter().find_map(SnReport::fault), None);
    assert_eq!(reports[6].delivered, 500);
    assert!(reports[6].row().contains("500 messages"), "{}", reports[6].row());
    assert!(reports.iter().all(|report| report.rss_bytes_each.is_some()));
    let json = serde_json::to_value(&reports[0]).unwrap();
    assert_eq!((&json["phase"], &json["count"]), (&"connect".into(), &500.into()));
    served.with(|testbed, _| assert_eq!(testbed.published.len(), 1_000));
}

/// No messages to them, QoS 0 from them, no goodbye.
#[test]
fn phases_are_left_out() {
    let served = Served::start(settings());
    let mut plan = plan(&served, 100);
    plan.buffer = None;
    plan.stay = true;
    plan.swarm.buffered = false;
    plan.swarm.qos = SnQos::AtMostOnce;
    let reports = reports(&plan);
    let phases: Vec<&str> = reports.iter().map(|report| report.phase).collect();
    assert_eq!(phases, ["connect", "register", "publish", "sleep", "wake"]);
    assert_eq!(reports.iter().find_map(SnReport::fault), None);
    served.with(|testbed, _| assert_eq!(testbed.published.len(), 200));
}

#[test]
fn a_refusal_is_a_fault() {
    let served = Served::start(headgate_mqttsn::SnSettings {
        max_clients: 40,
        ..settings()
    });
    let mut plan = plan(&served, 50);
    plan.buffer = None;
    plan.swarm.messages = 0;
    plan.swarm.buffered = false;
    let reports = reports(&plan);
    assert_eq!(reports[0].fault(), Some("connect: 10 refused".into()));
    // The others are not held up.
    let counts: Vec<u64> = reports.iter().map(|report| report.count).collect();
    assert_eq!(counts, [40; 4]);
    assert!(reports[0].row().ends_with("10 refused"), "{}", reports[0].row());
}

#[test]
fn nobody_at_the_port_is_an_error() {
    let served = Served::start(settings());
    let mut plan = plan(&served, 10);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    plan.gateway.set_port(taken.local_addr().unwrap().port());
    plan.swarm.retry_interval = 1_000_000;
    let error = plan.run(&mut |_| Ok(()), &mut |_| {}).unwrap_err();
    assert!(matches!(error, BenchError::Connect { .. }), "{error}");
}
