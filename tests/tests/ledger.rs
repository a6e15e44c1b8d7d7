//! The ledger of a link: whatever happens, it says what became of each message; and what operators may do with its queue.

use headgate_bus::{BusSettings, DropReason, LinkReport};
use headgate_model::{
    BusCommand, BusEvent, CloseReason, Qos, QueueFull, QueueRules, Settlement, SubscriptionOptions,
    TopicFilter,
};
use headgate_tests::bus_bench::{BusBench, link, message, opening, subscription};
use std::collections::VecDeque;
use std::time::Duration;

const LINK: &str = "$bridge/cloud";
const NOTHING: [&str; 0] = [];

fn connected() -> BusBench {
    let settings = BusSettings {
        max_queued_in_memory: 4,
        ..BusSettings::default()
    };
    let mut bench = BusBench::new("a", settings);
    bench.connect("sensor");
    bench.open(opening(LINK, link(|_| {})));
    bench.subscribe(LINK, "#");
    bench.events.clear();
    bench
}

fn say(bench: &mut BusBench, count: usize, qos: Qos) {
    for n in 0..count {
        bench.publish("sensor", message("t", &n.to_string(), qos));
    }
}

fn sum(report: &LinkReport) -> u64 {
    report.dropped.iter().sum()
}

/// What waits is dropped; what is under way goes its way, and what comes later is sent.
#[test]
fn a_queue_is_emptied() {
    let mut bench = connected();
    say(&mut bench, 50, Qos::AtLeastOnce);
    let before = bench.report(LINK);
    assert_eq!((before.in_flight, before.queued), (10, 40));
    let mut gone = None;
    bench.turn(|bus, now, out| gone = bus.flush(LINK, now, out));
    assert_eq!(gone, Some(40));
    let after = bench.report(LINK);
    assert_eq!((after.in_flight, after.queued, after.queued_bytes), (10, 0, 0));
    assert_eq!(after.dropped[DropReason::Flushed as usize], 40);
    assert_eq!(bench.bus.stats().dropped[DropReason::Flushed as usize], 40);
    assert_eq!(after.topics[0].dropped[DropReason::Flushed as usize], 40);
    bench.publish("sensor", message("t", "new", Qos::AtLeastOnce));
    let heard = bench.heard(LINK);
    assert_eq!((heard.len(), heard[10].as_str()), (11, "t=new"));
    bench.crash();
    bench.open(opening(LINK, link(|_| {})));
    assert_eq!(bench.heard(LINK), NOTHING, "nothing was left in the store");
    bench.turn(|bus, now, out| assert_eq!(bus.flush("nobody", now, out), None));
}

/// A long queue goes in slices, and what comes meanwhile stays.
#[test]
fn a_long_queue_is_emptied_in_slices() {
    let mut bench = connected();
    bench.close(LINK, CloseReason::Lost);
    say(&mut bench, 10_000, Qos::AtLeastOnce);
    bench.withheld = true;
    bench.turn(|bus, now, out| assert_eq!(bus.flush(LINK, now, out), Some(10_000)));
    let report = bench.report(LINK);
    assert!((1..=5_000).contains(&sum(&report)), "{}", sum(&report));
    bench.publish("sensor", message("t", "new", Qos::AtLeastOnce));
    bench.withheld = false;
    bench.turn(|_, _, _| {});
    let report = bench.report(LINK);
    assert_eq!((sum(&report), report.queued), (10_000, 1));
    bench.open(opening(LINK, link(|_| {})));
    assert_eq!(bench.heard(LINK), ["t=new"]);
}

/// What the other side may hold as QoS 2 stays: its packet identifier must not be given to another message. \[MQTT-4.4.0-1\]
#[test]
fn what_the_other_side_may_hold_is_not_dropped() {
    let mut bench = connected();
    say(&mut bench, 20, Qos::ExactlyOnce);
    bench.close(LINK, CloseReason::Lost);
    bench.turn(|bus, now, out| assert_eq!(bus.flush(LINK, now, out), Some(10)));
    bench.events.clear();
    bench.open(opening(LINK, link(|_| {})));
    let again = bench.deliveries(LINK);
    assert_eq!(again.len(), 10);
    assert!(again.iter().all(|delivery| delivery.redelivered));
}

/// A session ends for good, connected or not, also in the store.
#[test]
fn a_session_is_removed() {
    for online in [true, false] {
        let mut bench = connected();
        say(&mut bench, 50, Qos::AtLeastOnce);
        if !online {
            bench.close(LINK, CloseReason::Lost);
        }
        bench.events.clear();
        bench.remove(LINK);
        let kicked = bench.events.iter().any(|(_, event)| *event == BusEvent::Kicked);
        assert_eq!(kicked, online);
        assert_eq!(bench.bus.link_report(LINK, bench.now), None);
        assert_eq!((bench.bus.stats().sessions, bench.bus.stats().queued), (1, 0));
        bench.crash();
        assert_eq!(bench.bus.stats().sessions, 0);
        bench.turn(|bus, now, out| assert!(!bus.remove_session(LINK, now, out)));
    }
}

/// A random life of a link: it comes and goes, settles or does not, is too slow, has limits and ages; the gateway loses its power.
struct Life {
    bench: BusBench,
    rng: fastrand::Rng,
    online: bool,
    under_way: VecDeque<(headgate_model::DeliveryId, Qos)>,
    /// QoS 1 and 2 messages that were published since the ledger was begun, and are not refused.
    published: u64,
    last: LinkReport,
    /// It shares a subscription: then it gets copies of a part of it only.
    shares: bool,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut life = Self {
            bench: connected(),
            rng: fastrand::Rng::with_seed(seed),
            online: true,
            under_way: VecDeque::new(),
            published: 0,
            last: LinkReport::default(),
            shares: seed.is_multiple_of(3),
        };
        life.open();
        life
    }

    fn rules(&mut self) -> impl FnOnce(&mut QueueRules) + use<> {
        let rng = &mut self.rng;
        let (max_messages, max_age) = (rng.usize(1..40), rng.u64(0..4) * 60);
        let when_full = [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse][rng.usize(..3)];
        let store_qos0 = rng.bool();
        move |rules| {
            rules.max_messages = max_messages;
            rules.max_age = Duration::from_secs(max_age);
            rules.when_full = when_full;
            rules.store_qos0 = store_qos0;
            rules.priorities = vec![(TopicFilter::try_from("t/2").expect("a filter"), 5)];
        }
    }

    fn open(&mut self) {
        let rules = self.rules();
        let mut open = opening(LINK, link(rules));
        open.credit = self.rng.u32(0..8);
        self.bench.open(open);
        self.under_way.clear();
        self.online = true;
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..45 => self.publish(),
            45..70 => self.settle(),
            70..80 if self.online => {
                let credit = self.rng.u32(1..5);
                self.bench.send(LINK, BusCommand::credit(credit));
            }
            80..85 if self.online => {
                let reason = [CloseReason::Lost, CloseReason::Normal][self.rng.usize(..2)];
                self.bench.close(LINK, reason);
                self.online = false;
            }
            85..90 => self.open(),
            90..94 => {
                let seconds = self.rng.u64(0..90);
                self.bench.advance(Duration::from_secs(seconds));
            }
            94..97 => {
                self.bench.withheld = self.rng.bool();
                self.bench.turn(|_, _, _| {});
            }
            97..98 => self.bench.turn(|bus, now, out| {
                bus.flush(LINK, now, out);
            }),
            98..99 if self.shares => self.share(),
            99 => self.crash(),
            _ => {}
        }
    }

    fn publish(&mut self) {
        let topic = format!("t/{}", self.rng.u32(0..3));
        let qos = Qos::from_u8(self.rng.u8(0..3)).expect("a QoS");
        let mut message = message(&topic, "x", qos);
        if self.rng.u32(0..10) == 0 {
            message.expires_at = Some(self.bench.now + Duration::from_secs(30));
        }
        let refused = self.bench.report(LINK).refused;
        self.bench.publish("sensor", message);
        self.published += u64::from(qos > Qos::AtMostOnce && self.bench.report(LINK).refused == refused);
    }

    fn settle(&mut self) {
        let taken = self.bench.deliveries(LINK);
        let new = taken
            .iter()
            .filter_map(|delivery| Some((delivery.id?, delivery.qos)));
        self.under_way.extend(new);
        let Some((id, qos)) = self.under_way.pop_front().filter(|_| self.online) else {
            return;
        };
        let settlement = match self.rng.u32(0..4) {
            0 => Settlement::Rejected,
            _ => Settlement::Done,
        };
        if qos == Qos::ExactlyOnce && settlement == Settlement::Done {
            self.bench
                .send(LINK, BusCommand::Settle(id, Settlement::Received));
            if self.rng.bool() {
                return; // PUBCOMP never comes
            }
        }
        self.bench.send(LINK, BusCommand::Settle(id, settlement));
    }

    /// Another client shares a subscription with the link, whose part in it may be handed on.
    fn share(&mut self) {
        if !self.online {
            return;
        }
        let shared = subscription("$share/g/t/+", SubscriptionOptions::default());
        self.bench.connect("member");
        self.bench.send("member", shared.clone());
        self.bench.send(LINK, shared);
    }

    fn crash(&mut self) {
        self.bench.crash();
        self.published = 0;
        self.bench.connect("sensor");
        self.last = LinkReport::default();
        self.open();
    }

    /// The ledger balances, nothing is ever taken back, and by topic it says the same as by reason.
    fn check(&mut self) {
        let report = self.bench.report(LINK);
        assert!(report.done >= self.last.done && sum(&report) >= sum(&self.last));
        let by_topic: u64 = report.topics.iter().flat_map(|row| row.dropped).sum();
        assert_eq!(by_topic, sum(&report) + report.dropped_qos0.iter().sum::<u64>());
        let oldest_waits = report.queued + report.queued_qos0 > 0;
        assert_eq!(report.oldest.is_some(), oldest_waits, "{report:#?}");
        self.last = report;
    }
}

#[test]
fn the_ledger_balances_after_every_step() {
    let (mut reasons, mut handed_on, mut rejected) = ([0; DropReason::ALL.len()], 0, 0);
    for seed in 0..1_000 {
        let mut life = Life::new(seed);
        for _ in 0..400 {
            life.step();
            life.check();
            if !life.shares {
                assert_eq!(life.last.routed, life.published, "seed {seed}");
            }
        }
        for reason in DropReason::ALL {
            reasons[reason as usize] += life.last.dropped[reason as usize];
        }
        handed_on += life.last.handed_on;
        rejected += life.last.rejected;
    }
    for reason in [DropReason::QueueFull, DropReason::Expired, DropReason::Flushed] {
        assert!(
            reasons[reason as usize] > 50,
            "{reason:?} is hardly tried: {reasons:?}"
        );
    }
    assert!(handed_on > 5 && rejected > 100, "{handed_on} {rejected}");
}
