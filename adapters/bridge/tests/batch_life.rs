//! Any life of a bridge with batches: nothing is lost, the order of each topic stays, and the remote never has more than it takes.

mod bench;

use bench::*;
use headgate_bridge::BatchSettings;
use headgate_model::Qos as BusQos;
use headgate_mqtt_codec::{AckKind, Packet, PacketId, ReasonCode};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

/// Two topics that are gathered, one that is not.
const TOPICS: [&str; 3] = ["a/0", "a/1", "b"];
/// Packets that the remote takes at a time.
const MOST: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize, BusQos),
    /// The remote answers what it has owed longest.
    Answer,
    /// The same, with "not now".
    Refuse,
    Cut,
    Crash,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let qos = prop_oneof![
        Just(BusQos::AtMostOnce),
        Just(BusQos::AtLeastOnce),
        Just(BusQos::ExactlyOnce)
    ];
    prop_oneof![
        12 => (0..TOPICS.len(), qos).prop_map(|(topic, qos)| Step::Deliver(topic, qos)),
        6 => Just(Step::Answer),
        1 => Just(Step::Refuse),
        1 => Just(Step::Cut),
        1 => Just(Step::Crash),
        2 => (0..1_500_u64).prop_map(Step::Advance),
    ]
}

struct Life {
    bench: Bench,
    /// What the remote has to answer, in order.
    owed: VecDeque<(AckKind, PacketId)>,
    /// Numbers of each topic that came, in the order in which they came first.
    came: BTreeMap<String, Vec<u64>>,
    seen: BTreeSet<u64>,
}

impl Life {
    fn new() -> Self {
        let bench = Bench::with(V5, &["a/# out 1", "b out 2"], |s| {
            s.topics[0].batch = Some(BatchSettings {
                max_messages: 4,
                ..BatchSettings::default()
            });
        });
        let mut life = Self {
            bench,
            owed: VecDeque::new(),
            came: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        life.connect();
        life
    }

    fn connect(&mut self) {
        self.owed.clear();
        let mut connack = limited(|p| p.receive_maximum = NonZeroU16::new(u16::try_from(MOST).unwrap()));
        connack.session_present = true;
        self.bench.connect(connack);
        self.hear();
    }

    /// Takes what was sent. A new one must have had a place at the remote.
    fn hear(&mut self) {
        for packet in self.bench.sent() {
            match packet {
                Packet::Publish(publish) => {
                    let payload = std::str::from_utf8(&publish.payload).unwrap();
                    let objects: serde_json::Value = serde_json::from_str(payload).unwrap();
                    match objects.as_array() {
                        Some(objects) => {
                            assert!((1..=4).contains(&objects.len()), "{payload}");
                            for object in objects {
                                let topic = object["topic"].as_str().unwrap();
                                assert_eq!(topic, publish.topic.as_str());
                                self.came(topic, object["payload"].as_u64().unwrap());
                            }
                        }
                        None => self.came(publish.topic.as_str(), objects.as_u64().unwrap()),
                    }
                    if let Some(id) = publish.packet_id {
                        assert!(
                            self.owed.iter().all(|(_, known)| *known != id),
                            "{id} is under way"
                        );
                        let answer = match publish.qos {
                            headgate_mqtt_codec::Qos::ExactlyOnce => AckKind::PubRec,
                            _ => AckKind::PubAck,
                        };
                        self.owed.push_back((answer, id));
                        assert!(self.owed.len() <= MOST, "{:?}", self.owed);
                    }
                }
                Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                    self.owed.push_back((AckKind::PubComp, ack.packet_id));
                }
                Packet::PingReq => self.bench.remote_sends(Packet::PingResp),
                Packet::Disconnect(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn came(&mut self, topic: &str, number: u64) {
        if self.seen.insert(number) {
            self.came.entry(topic.to_owned()).or_default().push(number);
        }
    }

    fn answer(&mut self, reason: ReasonCode) {
        if let Some((kind, id)) = self.owed.pop_front() {
            let reason = if kind == AckKind::PubComp {
                ReasonCode::Success
            } else {
                reason
            };
            self.bench.remote_sends(ack(kind, id.get(), reason));
            self.hear();
        }
        if !self.bench.is_connected() {
            self.connect();
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_overtakes(steps in prop::collection::vec(step(), 1..120)) {
        let mut life = Life::new();
        let mut sure: BTreeSet<u64> = BTreeSet::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Deliver(topic, qos) => {
                    let payload: &'static str = Box::leak(number.to_string().into_boxed_str());
                    life.bench.deliver(TOPICS[topic], payload, qos);
                    if qos > BusQos::AtMostOnce {
                        sure.insert(number);
                    }
                }
                Step::Answer => life.answer(ReasonCode::Success),
                Step::Refuse => life.answer(ReasonCode::QuotaExceeded),
                Step::Cut => {
                    life.bench.cut();
                    life.connect();
                }
                Step::Crash => {
                    life.bench.crash();
                    life.connect();
                }
                Step::Advance(ms) => life.bench.advance(ms),
            }
            life.hear();
            if !life.bench.is_connected() {
                life.connect(); // It owed an answer for too long.
            }
        }
        for _ in 0..1_000 {
            life.bench.advance(200);
            life.hear();
            life.answer(ReasonCode::Success);
        }
        prop_assert_eq!(life.bench.queued(), 0);
        prop_assert_eq!(life.bench.status.in_flight(), 0);
        let missing: Vec<&u64> = sure.difference(&life.seen).collect();
        prop_assert!(missing.is_empty(), "{:?}", missing);
        for (topic, numbers) in &life.came {
            let acknowledged: Vec<&u64> = numbers.iter().filter(|number| sure.contains(number)).collect();
            prop_assert!(acknowledged.is_sorted(), "{topic}: {acknowledged:?}");
        }
    }
}
