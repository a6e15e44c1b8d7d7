//! [`Flow`] against a broker of a few lines.

use super::*;
use crate::frame::{Frame, scan};
use crate::{Server, Until};
use headgate_mqtt_codec::{AckKind, Version};
use std::time::Duration;

/// A plan that nobody carries out.
pub(crate) fn plan(case: Case, qos: Qos, clients: usize, backlog: u64) -> Plan {
    Plan {
        case,
        qos,
        clients,
        payload: 32,
        subscriptions: 0,
        window: 3,
        backlog,
        rate: None,
        until: Until::Elapsed(Duration::from_secs(1)),
        warm_up: Duration::ZERO,
        durable: false,
        pid: None,
        server: Server {
            address: "127.0.0.1:1".parse().unwrap(),
            tls: None,
            websocket: None,
            version: Version::V311,
            username: None,
            password: None,
        },
    }
}

/// A flow of MQTT.
fn flow(plan: &Plan) -> Flow {
    Flow::new(plan.server.version, plan, |number| topic("r", number), 3)
}

/// Everything that may be published now, as (publisher, frame).
fn published(flow: &mut Flow, now: u64) -> Vec<(usize, Frame)> {
    let mut frames = Vec::new();
    while let Some(publisher) = flow.next_dirty() {
        let mut out = Vec::new();
        flow.fill(publisher, now, &mut out);
        frames.extend(scanned(&out).into_iter().map(|frame| (publisher, frame)));
    }
    frames
}

/// The frames in these bytes.
pub(crate) fn scanned(bytes: &[u8]) -> Vec<Frame> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((frame, len)) = scan(&bytes[at..], Version::V311).unwrap() {
        frames.push(frame);
        at += len;
    }
    frames
}

fn reply(bytes: &[u8]) -> Option<Frame> {
    scan(bytes, Version::V311).unwrap().map(|(frame, _)| frame)
}

#[test]
fn the_backlog_bounds_what_the_slowest_receiver_lacks() {
    let mut flow = flow(&plan(Case::FanOut, Qos::AtMostOnce, 2, 4));
    flow.start(None, u64::MAX);
    let frames = published(&mut flow, 0);
    assert_eq!(frames.len(), 4);
    for (_, frame) in &frames {
        flow.received(0, *frame, 10, &mut Vec::new());
    }
    assert_eq!(published(&mut flow, 20).len(), 0, "the second has none yet");
    assert_eq!((flow.tally.delivered, flow.outstanding()), (4, 4));
    flow.received(1, frames[0].1, 30, &mut Vec::new());
    assert_eq!(published(&mut flow, 40).len(), 1);
}

#[test]
fn the_window_bounds_what_is_unacknowledged() {
    let mut flow = flow(&plan(Case::Pairs, Qos::ExactlyOnce, 1, 100));
    flow.start(None, u64::MAX);
    assert_eq!(published(&mut flow, 0).len(), 3);
    let mut out = Vec::new();
    flow.acknowledged(0, Frame::Ack(AckKind::PubRec, 2, true), &mut out);
    assert_eq!(reply(&out), Some(Frame::Ack(AckKind::PubRel, 2, true)));
    assert_eq!(published(&mut flow, 0).len(), 0);
    flow.acknowledged(0, Frame::Ack(AckKind::PubComp, 2, true), &mut out);
    let frames = published(&mut flow, 0);
    assert!(
        matches!(frames[..], [(0, Frame::Publish(Qos::ExactlyOnce, 2, Some(stamp)))] if stamp.sequence == 3)
    );
}

#[test]
fn a_receiver_acknowledges_as_its_qos_asks() {
    let mut flow = flow(&plan(Case::Pairs, Qos::ExactlyOnce, 1, 9));
    for (frame, answer) in [
        (
            Frame::Publish(Qos::AtLeastOnce, 7, None),
            Some(Frame::Ack(AckKind::PubAck, 7, true)),
        ),
        (
            Frame::Publish(Qos::ExactlyOnce, 8, None),
            Some(Frame::Ack(AckKind::PubRec, 8, true)),
        ),
        (
            Frame::Ack(AckKind::PubRel, 8, true),
            Some(Frame::Ack(AckKind::PubComp, 8, true)),
        ),
        (Frame::Publish(Qos::AtMostOnce, 0, None), None),
    ] {
        let mut out = Vec::new();
        flow.received(0, frame, 0, &mut out);
        assert_eq!(reply(&out), answer);
    }
    assert_eq!(flow.tally.foreign, 3, "without a stamp they are not ours");
}

#[test]
fn duplicates_do_not_count_and_gaps_are_lost() {
    let mut flow = flow(&plan(Case::FanIn, Qos::AtMostOnce, 2, 4));
    flow.start(None, u64::MAX);
    let frames: Vec<_> = published(&mut flow, 0)
        .into_iter()
        .filter(|(p, _)| *p == 1)
        .collect();
    for at in [0, 2, 2, 1, 0] {
        flow.received(0, frames[at].1, 5, &mut Vec::new());
    }
    let Tally {
        delivered,
        duplicates,
        reordered,
        ..
    } = flow.tally;
    assert_eq!((delivered, duplicates, reordered), (3, 2, 1));
    assert_eq!(flow.lost(), 5, "one of this publisher, four of the other");
    let theirs = Frame::Publish(Qos::AtMostOnce, 0, None);
    flow.received(0, theirs, 5, &mut Vec::new());
    assert_eq!(flow.tally.foreign, 1);
}

/// Sent late because the backlog was full, a message carries the time at which it was due.
#[test]
fn an_open_loop_owes_what_is_late_and_stamps_it_with_its_due_time() {
    let mut flow = flow(&plan(Case::Pairs, Qos::AtMostOnce, 1, 2));
    flow.start(Some(Timetable::new(0, 1e9)), u64::MAX);
    flow.release(9);
    let early = published(&mut flow, 9);
    assert_eq!((early.len(), flow.next_due()), (2, Some(10)));
    flow.stop();
    assert!(!flow.all_sent());
    for (_, frame) in early {
        flow.received(0, frame, 100, &mut Vec::new());
    }
    let late = published(&mut flow, 100);
    let due: Vec<u64> = late
        .iter()
        .filter_map(|(_, frame)| match frame {
            Frame::Publish(_, _, Some(stamp)) => Some(stamp.nanos),
            _ => None,
        })
        .collect();
    assert_eq!(due, [2, 3]);
    flow.give_up(1_000);
    assert_eq!((flow.latency.total(), flow.latency.max()), (10, 998));
}

#[test]
fn a_limit_ends_the_run() {
    let mut flow = flow(&plan(Case::Pairs, Qos::AtMostOnce, 2, 10));
    flow.start(None, 13);
    assert_eq!(published(&mut flow, 0).len(), 13);
    assert!(flow.all_sent());
}
