//! [`Swarm`] against a real gateway, on a virtual clock and a network that loses datagrams.

use super::*;
use fastrand::Rng;
use headgate_model::{Instant, Qos as BusQos};
use headgate_mqttsn::SnSettings;
use headgate_tests::sn_testbed::{Testbed, settings};
use std::net::SocketAddr;
use std::time::Duration;

const MS: u64 = 1_000_000;

struct World {
    swarm: Swarm,
    gateway: Testbed,
    rng: Rng,
    /// In percent.
    loss: u8,
    now: u64,
    outbox: Outbox,
    /// The most datagrams that were sent in one go.
    burst: usize,
}

fn plan(sensors: usize) -> SwarmPlan {
    SwarmPlan {
        sensors,
        qos: Qos::AtLeastOnce,
        messages: 1,
        payload: 20,
        window: 8,
        rate: None,
        shared_topic: false,
        clean: true,
        keep_alive: 3_600,
        sleep: 3_600,
        buffered: true,
        retry_interval: 1_000 * MS,
        retries: 10,
        run: 99,
    }
}

impl World {
    fn new(plan: SwarmPlan) -> Self {
        Self {
            swarm: Swarm::new(plan),
            gateway: Testbed::new(SnSettings {
                retry_interval: Duration::from_secs(1),
                retries: 20,
                ..settings()
            }),
            rng: Rng::with_seed(3),
            loss: 0,
            now: 0,
            outbox: Outbox::default(),
            burst: 0,
        }
    }

    fn instant(&self) -> Instant {
        Instant(self.now / MS)
    }

    fn spend(&mut self, phase: Phase) -> Counts {
        self.swarm.begin(phase, self.now);
        self.swarm.fill(self.now, &mut self.outbox);
        while !self.swarm.is_done() {
            self.burst = self.burst.max(self.outbox.len());
            let outbox = &self.outbox;
            let sent: Vec<(Ipv4Addr, Bytes)> = (0..outbox.len())
                .map(|n| outbox.datagram(n))
                .map(|(from, datagram)| (from, Bytes::copy_from_slice(datagram)))
                .collect();
            self.outbox.clear();
            let now = self.instant();
            for (from, datagram) in sent {
                if self.rng.u8(..100) >= self.loss {
                    self.gateway.datagram(SocketAddr::from((from, 5)), datagram, now);
                }
            }
            if self.gateway.deadline().is_some_and(|at| at <= now) {
                self.gateway.timeout(now);
            }
            self.now += MS;
            for (to, datagram) in self.gateway.take() {
                let SocketAddr::V4(to) = to else { continue };
                if self.rng.u8(..100) >= self.loss {
                    self.swarm
                        .datagram(*to.ip(), &datagram, self.now, &mut self.outbox);
                }
            }
            self.swarm.fill(self.now, &mut self.outbox);
        }
        self.swarm.counts
    }

    fn buffer(&mut self, number: u32, run: u64) {
        let now = self.instant();
        let payload = Bytes::copy_from_slice(&stamp(run, number));
        self.gateway
            .publish(&own_topic(number), BusQos::AtLeastOnce, payload, now);
    }
}

/// All phases, each sensor once in each.
#[test]
fn all_sensors_do_everything_once() {
    let mut world = World::new(plan(50));
    for phase in [
        Phase::Connect,
        Phase::Subscribe,
        Phase::Register,
        Phase::Publish,
        Phase::Sleep,
    ] {
        let counts = world.spend(phase);
        let expected = Counts {
            done: 50,
            sent: 50,
            received: 50,
            ..Counts::default()
        };
        assert_eq!(counts, expected, "{phase:?}");
    }
    let topics: Vec<&str> = world
        .gateway
        .published
        .iter()
        .map(|(topic, _)| topic.as_str())
        .collect();
    assert_eq!(topics.len(), 50);
    assert_eq!(topics[49], "sn/49/data");
    (0..50).for_each(|number| world.buffer(number, 99));
    let counts = world.spend(Phase::Wake);
    assert_eq!((counts.done, counts.delivered), (50, 50));
    assert_eq!(
        (counts.lost, counts.duplicates, counts.foreign, counts.late),
        (0, 0, 0, 0)
    );
    assert_eq!(world.spend(Phase::Leave).done, 50);
    assert_eq!(world.burst, 8);
}

/// What is lost on the way is sent again; nothing is counted twice.
#[test]
fn a_bad_link_costs_retries_only() {
    let mut world = World::new(plan(200));
    world.loss = 10;
    for phase in [
        Phase::Connect,
        Phase::Subscribe,
        Phase::Register,
        Phase::Publish,
        Phase::Sleep,
    ] {
        let counts = world.spend(phase);
        assert_eq!(
            (counts.done, counts.failed, counts.refused),
            (200, 0, 0),
            "{phase:?}"
        );
        assert!(counts.retries > 0, "{phase:?}");
    }
    (0..200).for_each(|number| world.buffer(number, 99));
    let counts = world.spend(Phase::Wake);
    assert_eq!(
        (counts.done, counts.delivered, counts.lost, counts.late),
        (200, 200, 0, 0)
    );
    assert!(counts.duplicates > 0, "some PUBACKs are lost");
}

/// A missing message, and one of somebody else, are noticed.
#[test]
fn a_gateway_that_mixes_up_messages_is_found_out() {
    let mut world = World::new(plan(3));
    for phase in [Phase::Connect, Phase::Subscribe, Phase::Sleep] {
        world.spend(phase);
    }
    world.buffer(0, 99);
    world.buffer(1, 98);
    let counts = world.spend(Phase::Wake);
    assert_eq!((counts.delivered, counts.foreign, counts.lost), (1, 1, 2));
    world.buffer(0, 99);
    assert_eq!(world.spend(Phase::Leave).late, 0);

    let mut world = World::new(plan(1));
    world.spend(Phase::Connect);
    world.spend(Phase::Subscribe);
    world.spend(Phase::Sleep);
    world.spend(Phase::Wake);
    let late = Message::Publish(Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: TopicRef::Normal(1),
        msg_id: 0,
        data: Bytes::copy_from_slice(&stamp(99, 0)),
    });
    let mut bytes = BytesMut::new();
    encode(&late, &mut bytes).unwrap();
    world
        .swarm
        .datagram(Ipv4Addr::new(127, 1, 0, 0), &bytes, world.now, &mut world.outbox);
    assert_eq!((world.swarm.counts.lost, world.swarm.counts.late), (1, 1));
}

/// QoS 0 has no answer: a ping behind several messages tells that they have arrived.
#[test]
fn messages_of_qos_0_are_followed_by_pings() {
    let mut world = World::new(SwarmPlan {
        qos: Qos::AtMostOnce,
        messages: 3,
        window: 40,
        shared_topic: true,
        ..plan(50)
    });
    world.spend(Phase::Connect);
    world.spend(Phase::Register);
    let counts = world.spend(Phase::Publish);
    let pings = 150_u64.div_ceil(QOS_0_GROUP);
    assert_eq!(
        (counts.done, counts.sent, counts.received),
        (150, 150 + pings, pings)
    );
    assert_eq!(world.gateway.published.len(), 150);
    assert!(
        world
            .gateway
            .published
            .iter()
            .all(|(topic, _)| topic == "sn/data")
    );
    assert!(world.burst <= 40, "{}", world.burst);
}

/// A rate is kept: the last of 100 messages at 1,000 a second is due after 99 ms.
#[test]
fn messages_have_their_time() {
    let mut world = World::new(SwarmPlan {
        rate: Some(1_000.0),
        messages: 10,
        ..plan(10)
    });
    world.spend(Phase::Connect);
    world.spend(Phase::Register);
    let start = world.now;
    assert_eq!(world.spend(Phase::Publish).done, 100);
    assert_eq!((world.now - start) / MS, 100);
}

/// Who gets no answer, or no for an answer, is counted, does not hold up the others, and does nothing more.
#[test]
fn failures_are_counted() {
    let mut world = World::new(plan(20));
    world.loss = 100;
    let counts = world.spend(Phase::Connect);
    assert_eq!((counts.done, counts.failed, counts.retries), (0, 20, 200));
    assert_eq!(world.spend(Phase::Register), Counts::default());

    let mut world = World::new(plan(20));
    world.spend(Phase::Connect);
    world.gateway = Testbed::new(settings());
    let counts = world.spend(Phase::Register);
    assert_eq!((counts.done, counts.refused), (0, 20));
    assert_eq!(world.spend(Phase::Publish), Counts::default());

    for (address, datagram) in [
        ([127, 1, 0, 20], &[2, 0x17][..]),
        ([127, 0, 0, 1], &[2, 0x17]),
        ([127, 1, 0, 0], &[9]),
    ] {
        world
            .swarm
            .datagram(address.into(), datagram, 0, &mut world.outbox);
    }
    assert_eq!(world.swarm.counts.malformed, 3);
}
