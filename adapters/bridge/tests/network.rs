//! A remote that keeps its promises, over links that break and a gateway that loses power at any step: nothing is lost either way, and what is QoS 2
//! arrives once. MQTT 5 §4.3.2, §4.3.3 [MQTT-4.4.0-1]

mod bench;

use bench::*;
use headgate_bridge::BridgeVersion;
use headgate_model::Qos as BusQos;
use headgate_mqtt_codec::{AckKind, Packet, Publish, Qos, ReasonCode};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Debug)]
enum Step {
    /// Somebody here publishes.
    Deliver(BusQos),
    /// Somebody at the remote publishes.
    RemotePublishes(Qos),
    /// The remote handles the next packet on its way to it.
    Remote,
    /// The link breaks, and what is on its way is lost.
    Cut,
    /// The gateway loses power.
    Crash,
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(BusQos::AtLeastOnce), Just(BusQos::ExactlyOnce)].prop_map(Step::Deliver),
        3 => prop_oneof![Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)].prop_map(Step::RemotePublishes),
        8 => Just(Step::Remote),
        1 => Just(Step::Cut),
        1 => Just(Step::Crash),
        3 => Just(Step::Connect),
    ]
}

/// What the remote holds of our session, and what it has got.
#[derive(Default)]
struct Remote {
    has_session: bool,
    /// Packet identifiers of QoS 2 messages that were not released.
    received: BTreeSet<u16>,
    got: BTreeMap<String, u32>,
    /// On its way to us: until PUBACK or PUBREC, then as PUBREL until PUBCOMP.
    outgoing: VecDeque<(u16, Option<Publish>)>,
    next_id: u16,
}

struct World {
    bench: Bench,
    remote: Remote,
    heard: BTreeMap<String, u32>,
    on_the_way: VecDeque<Packet>,
    /// What must have arrived, and whether exactly once.
    to_remote: BTreeMap<String, bool>,
    to_us: BTreeMap<String, bool>,
    number: u32,
}

impl World {
    fn new(version: BridgeVersion) -> Self {
        let mut bench = Bench::new(version, &["out/# out 2", "in/# in 2"]);
        bench.watch("in/#");
        Self {
            bench,
            remote: Remote {
                next_id: 1,
                ..Remote::default()
            },
            heard: BTreeMap::new(),
            on_the_way: VecDeque::new(),
            to_remote: BTreeMap::new(),
            to_us: BTreeMap::new(),
            number: 0,
        }
    }

    fn payload(&mut self) -> &'static str {
        self.number += 1;
        Box::leak(self.number.to_string().into_boxed_str())
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Deliver(qos) => {
                let payload = self.payload();
                self.bench.deliver("out/a", payload, *qos);
                self.to_remote.insert(payload.into(), *qos == BusQos::ExactlyOnce);
            }
            Step::RemotePublishes(qos) if self.remote.has_session => {
                let payload = self.payload();
                let id = self.remote.next_id;
                self.remote.next_id += 1;
                let message = publish_at(*qos, id, "in/a", payload);
                self.to_us.insert(payload.into(), *qos == Qos::ExactlyOnce);
                self.remote.outgoing.push_back((id, Some(message.clone())));
                self.send(message);
            }
            Step::RemotePublishes(_) => {}
            Step::Remote => {
                if let Some(packet) = self.on_the_way.pop_front() {
                    self.answer(packet);
                }
            }
            Step::Cut => {
                self.bench.cut();
                self.on_the_way.clear();
            }
            Step::Crash => {
                self.collect();
                self.bench.crash();
                self.bench.watch("in/#");
                self.on_the_way.clear();
            }
            Step::Connect if self.bench.is_connected() => {}
            Step::Connect => {
                self.on_the_way.clear();
                let session = if self.remote.has_session {
                    welcome_back()
                } else {
                    welcome()
                };
                self.remote.has_session = true;
                self.bench.connect(session);
                self.collect();
                for (id, message) in self.remote.outgoing.clone() {
                    match message {
                        Some(message) => self.send(Publish { dup: true, ..message }),
                        None => self.send(pubrel(id)),
                    }
                }
            }
        }
        self.collect();
    }

    fn send(&mut self, packet: impl Into<Sends>) {
        if self.bench.is_connected() {
            self.bench.remote_sends(packet);
            self.collect();
        }
    }

    fn collect(&mut self) {
        self.on_the_way.extend(self.bench.sent());
        for message in self.bench.watched() {
            let payload = String::from_utf8(message.payload.to_vec()).unwrap();
            *self.heard.entry(payload).or_default() += 1;
        }
    }

    fn answer(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(message) => {
                let number = message.packet_id.unwrap().get();
                let new = message.qos == Qos::AtLeastOnce || self.remote.received.insert(number);
                if new {
                    let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                    *self.remote.got.entry(payload).or_default() += 1;
                }
                match message.qos {
                    Qos::AtLeastOnce => self.send(puback(number)),
                    _ => self.send(pubrec(number)),
                }
            }
            Packet::Ack(ack) => {
                let number = ack.packet_id.get();
                let place = self.remote.outgoing.iter().position(|(id, _)| *id == number);
                match (ack.kind, place) {
                    (AckKind::PubRel, _) => {
                        self.remote.received.remove(&number);
                        self.send(pubcomp(number));
                    }
                    (AckKind::PubAck | AckKind::PubComp, Some(at)) => {
                        self.remote.outgoing.remove(at);
                    }
                    (AckKind::PubRec, Some(at)) => {
                        self.remote.outgoing[at].1 = None;
                        self.send(pubrel(number));
                    }
                    (_, None) => {}
                }
            }
            Packet::PingReq => self.send(Packet::PingResp),
            other => panic!("{other:?}"),
        }
    }

    fn finish(mut self) {
        self.take(&Step::Connect);
        for _ in 0..10_000 {
            if self.on_the_way.is_empty() {
                break;
            }
            self.take(&Step::Remote);
        }
        assert_eq!(self.bench.queued(), 0, "everything has left the queue");
        assert!(self.remote.outgoing.is_empty(), "and everything has come in");
        check(&self.to_remote, &self.remote.got);
        check(&self.to_us, &self.heard);
    }
}

fn check(expected: &BTreeMap<String, bool>, got: &BTreeMap<String, u32>) {
    for (payload, once) in expected {
        let times = got.get(payload).copied().unwrap_or(0);
        assert!(times >= 1, "{payload} is lost");
        assert!(!once || times == 1, "{payload} came {times} times");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever a remote acknowledges or releases, and however often, it cannot make us panic.
    #[test]
    fn acknowledgements_of_anything_do_no_harm(
        version in prop_oneof![Just(V31), Just(V3), Just(V5)],
        acks in prop::collection::vec((0..6_u8, prop_oneof![1..6_u16, Just(u16::MAX)], 0..4_usize), 0..60),
    ) {
        let mut bench = Bench::new(version, &["out/# out 2", "in/# in 2"]);
        bench.connect(welcome_back());
        for (kind, number, reason) in acks {
            if !bench.is_connected() {
                bench.connect(welcome_back());
            }
            let reason = [ReasonCode::Success, ReasonCode::NotAuthorized, ReasonCode::QuotaExceeded, ReasonCode::UnspecifiedError][reason];
            match kind {
                0 => bench.remote_sends(ack(AckKind::PubAck, number, reason)),
                1 => bench.remote_sends(ack(AckKind::PubRec, number, reason)),
                2 => bench.remote_sends(pubrel(number)),
                3 => bench.remote_sends(pubcomp(number)),
                4 => bench.remote_sends(publish_at(Qos::ExactlyOnce, number, "in/a", "x")),
                _ => bench.deliver("out/a", "x", BusQos::ExactlyOnce),
            }
        }
        prop_assert!(bench.queued() <= 60);
    }

    #[test]
    fn nothing_is_lost_and_qos_2_arrives_once(
        version in prop_oneof![Just(V31), Just(V3), Just(V5)],
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(version);
        steps.iter().for_each(|step| world.take(step));
        world.finish();
    }
}
