//! Seventy-two hours without an uplink, with power cuts in the middle, and a link that breaks while it drains: everything arrives, in order, QoS 2 once;
//! what a bounded queue had to drop is exactly what is missing.
//!
//! One message a second in a usual run; `HEADGATE_OUTAGE_RATE=100 cargo test --release -p headgate-bridge --test outage` for a hundred.

mod bench;

use bench::*;
use headgate_bus::DropReason;
use headgate_model::{Message, Qos as BusQos, QueueFull, Topic};
use headgate_mqtt_codec::{Packet, Publish, Qos};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

const HOURS: u64 = 72;
/// Even ones carry QoS 2, odd ones QoS 1.
const TOPICS: u64 = 8;
/// Packets that a connection carries before it breaks, one connection after the other; the last one holds.
const FLAPS: [usize; 8] = [1, 2, 37, 250, 3, 1_000, 99, 5_003];

fn deliver(bench: &mut Bench, number: u64) {
    let topic = format!("t/{}", number % TOPICS);
    let qos = if number.is_multiple_of(2) {
        BusQos::ExactlyOnce
    } else {
        BusQos::AtLeastOnce
    };
    bench.deliver_message(Message {
        qos,
        ..Message::new(Topic::try_from(topic.as_str()).unwrap(), number.to_string())
    });
}

/// A remote that forgets nothing, and what it has got.
struct Remote {
    /// The next number of each topic.
    next: [u64; TOPICS as usize],
    /// QoS 2 packet identifiers that were not released.
    received: BTreeSet<u16>,
    arrived: u64,
    duplicates: u64,
    /// Numbers that may be missing: each topic may skip them.
    skips: bool,
}

impl Remote {
    fn new(skips: bool) -> Self {
        Self {
            next: std::array::from_fn(|topic| topic as u64),
            received: BTreeSet::new(),
            arrived: 0,
            duplicates: 0,
            skips,
        }
    }

    /// [MQTT-4.6.0-1]: in order on each topic; again only at QoS 1, and with DUP.
    fn take(&mut self, publish: &Publish) {
        let number: u64 = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
        let next = &mut self.next[(number % TOPICS) as usize];
        if number < *next {
            assert!(publish.qos == Qos::AtLeastOnce && publish.dup, "{number} again");
            self.duplicates += 1;
            return;
        }
        assert!(
            number == *next || self.skips,
            "{number} came, {next} was expected"
        );
        *next = number + TOPICS;
        self.arrived += 1;
    }

    fn answer(&mut self, packet: &Packet) -> Option<Packet> {
        match packet {
            Packet::Publish(publish) => {
                let id = publish.packet_id?.get();
                if publish.qos == Qos::AtLeastOnce {
                    self.take(publish);
                    return Some(puback(id));
                }
                if self.received.insert(id) {
                    self.take(publish);
                }
                Some(pubrec(id))
            }
            Packet::Ack(ack) => {
                self.received.remove(&ack.packet_id.get());
                Some(pubcomp(ack.packet_id.get()))
            }
            Packet::PingReq => Some(Packet::PingResp),
            other => panic!("{other:?}"),
        }
    }

    /// Handles packets until so many were, or nothing more waits. The last answers are lost with the link.
    fn serve(&mut self, bench: &mut Bench, most: usize) {
        let mut on_the_way: VecDeque<Packet> = VecDeque::new();
        for n in 1..=most {
            on_the_way.extend(bench.sent());
            let Some(packet) = on_the_way.pop_front() else {
                if bench.queued() == 0 {
                    return;
                }
                bench.advance(10);
                continue;
            };
            let answer = self.answer(&packet);
            let is_lost = n + 20 > most;
            if let Some(answer) = answer.filter(|_| !is_lost) {
                bench.remote_sends(answer);
            }
        }
    }

    /// Until nothing waits, over a link that breaks, and a gateway that loses power every other time.
    fn drain(&mut self, bench: &mut Bench, flaps: &[usize]) {
        let mut first = true;
        for (n, most) in flaps.iter().chain([&usize::MAX]).enumerate() {
            bench.connect(if first { welcome() } else { welcome_back() });
            first = false;
            self.serve(bench, *most);
            assert!(bench.report().balances(), "{:?}", bench.report());
            if bench.queued() == 0 {
                break;
            }
            bench.cut();
            bench.sent();
            if n % 2 == 1 {
                bench.crash();
            }
            bench.advance(5_000);
        }
        assert_eq!(bench.queued(), 0);
    }
}

#[test]
fn after_three_days_without_uplink_everything_arrives() {
    let rate: u64 = std::env::var("HEADGATE_OUTAGE_RATE").map_or(1, |rate| rate.parse().unwrap());
    for version in [V3, V5] {
        let mut bench = unbounded(version);
        let mut number = 0;
        for second in 0..HOURS * 3_600 {
            for _ in 0..rate {
                deliver(&mut bench, number);
                number += 1;
            }
            bench.advance(1_000);
            // Power cuts, at no special moments.
            if second % 17_389 == 17_000 {
                bench.crash();
            }
            if second % 3_600 == 0 {
                assert!(bench.report().balances(), "{:?}", bench.report());
            }
        }
        assert_eq!(bench.queued() as u64, number);
        let mut remote = Remote::new(false);
        remote.drain(&mut bench, &FLAPS);
        assert_eq!(remote.arrived, number);
        let under_way = 100 * FLAPS.len() as u64;
        assert!(
            (1..=under_way).contains(&remote.duplicates),
            "{}",
            remote.duplicates
        );
    }
}

fn unbounded(version: headgate_bridge::BridgeVersion) -> Bench {
    Bench::with(version, &["t/# out 2"], |settings| {
        settings.queue.max_messages = usize::MAX;
        settings.queue.max_bytes = usize::MAX;
    })
}

/// What is missing is what was counted, and it is the oldest or the newest, as the operator wants it.
#[test]
fn a_full_queue_drops_what_it_says() {
    for (when_full, first) in [(QueueFull::DropOldest, 4_000), (QueueFull::DropNewest, 0)] {
        let mut bench = Bench::with(V5, &["t/# out 2"], |settings| {
            settings.queue.max_messages = 1_000;
            settings.queue.when_full = when_full;
        });
        for number in 0..5_000 {
            deliver(&mut bench, number);
        }
        assert_eq!(bench.report().dropped[DropReason::QueueFull as usize], 4_000);
        let mut remote = Remote::new(true);
        remote.drain(&mut bench, &[10, 200]);
        assert_eq!(remote.arrived, 1_000);
        let last = remote.next.iter().max().unwrap() - TOPICS;
        assert_eq!(last, first + 999, "{when_full:?}");
    }
}

#[test]
fn what_has_waited_too_long_is_not_sent() {
    let mut bench = Bench::with(V5, &["t/# out 2"], |settings| {
        settings.queue.max_age = Duration::from_secs(3_600);
    });
    for number in 0..100 {
        deliver(&mut bench, number);
    }
    bench.advance(2 * 3_600_000);
    for number in 100..300 {
        deliver(&mut bench, number);
    }
    let mut remote = Remote::new(true);
    remote.drain(&mut bench, &[]);
    assert_eq!(remote.arrived, 200);
    assert_eq!(bench.report().dropped[DropReason::Expired as usize], 100);
}
