//! The uplink is down for 72 hours while publishers go on and the power fails; then it comes back, and breaks a few times while the queue is sent.
//! \[MQTT-4.3.2\] \[MQTT-4.3.3\] \[MQTT-4.4.0-1\] \[MQTT-4.6.0-2\]
//!
//! `HEADGATE_OUTAGE_RATE` is the rate in messages a second, 1 if it is not set (259,200 messages in all); each message of the queue takes about 430 bytes of
//! memory. The full one, 25.9 million, takes two minutes and 10.9 GB:
//! `HEADGATE_OUTAGE_RATE=100 cargo test --release -p headgate-tests --test outage -- --nocapture --test-threads 1`.

#![allow(clippy::print_stdout, reason = "figures of a long run are worth reading")]

mod publisher;
mod remote;
mod world;

use headgate_bridge::QueueSettings;
use headgate_bus::DropReason;
use headgate_model::QueueFull;
use std::collections::BTreeMap;
use std::time::Duration;
use world::{Cut, World};

const TOPICS: usize = 8;
/// Publishers send what they have in bursts, so that a power cut finds some of it under way.
const BURST_EVERY: Duration = Duration::from_secs(10);
const OUTAGE: Duration = Duration::from_secs(72 * 3600);
const CUTS: [Cut; 3] = [Cut::BeforeWrite, Cut::AfterWrite, Cut::Quiet];

/// Messages a second.
fn rate() -> u32 {
    let set = std::env::var("HEADGATE_OUTAGE_RATE").ok();
    set.map_or(1, |text| text.parse().expect("HEADGATE_OUTAGE_RATE is a number"))
}

fn bursts(time: Duration) -> u64 {
    time.as_secs() / BURST_EVERY.as_secs()
}

/// Power cuts at the first burst, at the last, in the middle, and at seeded others.
fn power_cuts(seed: u64, bursts: u64) -> BTreeMap<u64, Cut> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let seeded = (0..20).map(|_| rng.u64(..bursts));
    let chosen = [0, 1, 2, bursts / 2, bursts - 3, bursts - 2, bursts - 1];
    let moments = chosen.into_iter().chain(seeded);
    moments.zip(CUTS.into_iter().cycle()).collect()
}

/// The link is there again. It breaks at six moments, twice with the gateway, and publishers go on until then; then it stays until all has come.
fn drain(world: &mut World, burst: u32, queued: u64) {
    let packets = usize::try_from(queued / 100).expect("fits").max(10);
    for flap in 0..6 {
        world.reachable = true;
        for _ in 0..12 {
            world.burst(burst, None);
            world.pass(packets);
        }
        world.reachable = false;
        match flap {
            2 => world.burst(burst, Some(Cut::BeforeWrite)),
            4 => world.burst(burst, Some(Cut::AfterWrite)),
            _ => world.break_link(),
        }
        world.pass(packets);
    }
    world.reachable = true;
    for _ in 0..1_000 {
        if world.is_drained() {
            return;
        }
        world.pass(packets);
    }
    panic!("it is not drained: {:#?}", world.report());
}

/// Every acknowledged message arrives, QoS 2 once, each topic in its order, and the ledger balances all the time.
#[test]
fn an_outage_of_72_hours_with_power_cuts_loses_nothing() {
    let queue = QueueSettings {
        max_messages: 100_000_000,
        max_bytes: 1 << 40,
        ..QueueSettings::default()
    };
    let mut world = World::new(1, queue);
    let burst = rate() * u32::try_from(BURST_EVERY.as_secs()).expect("small");
    let bursts = bursts(OUTAGE);
    let cuts = power_cuts(1, bursts);
    for n in 0..bursts {
        world.burst(burst, cuts.get(&n).copied());
        world.pass(0);
    }
    let report = world.report();
    assert_eq!(report.done, 0);
    assert!(report.queued >= bursts * u64::from(burst), "{report:#?}");
    assert_eq!(world.connections, 0);
    // A pause is between 5 and 30 s.
    assert!(
        (OUTAGE.as_secs() / 30..OUTAGE.as_secs() / 5).contains(&world.dials),
        "{}",
        world.dials
    );
    drain(&mut world, burst, report.queued);
    for (topic, (arrivals, published)) in world.remote.topics.iter().zip(world.published).enumerate() {
        assert_eq!(
            (arrivals.count, arrivals.next),
            (u64::from(published), published),
            "plant/{topic}"
        );
    }
    assert_eq!(world.dropped.iter().sum::<u64>(), 0);
    assert!(world.remote.duplicates > 0, "the flaps make some");
    let published: u32 = world.published.iter().sum();
    println!(
        "{published} messages, {} power cuts, {} connections, {} duplicates",
        cuts.len() + 2,
        world.connections,
        world.remote.duplicates
    );
}

/// What does not fit, or waits too long, is missing, and counted: neither more nor less.
#[test]
fn what_a_bounded_queue_drops_is_exactly_what_is_missing() {
    let fits = |when_full| QueueSettings {
        max_messages: 2_000,
        when_full,
        ..QueueSettings::default()
    };
    let ages = QueueSettings {
        max_age: Duration::from_secs(3_600),
        ..QueueSettings::default()
    };
    for (queue, reason) in [
        (fits(QueueFull::DropOldest), DropReason::QueueFull),
        (fits(QueueFull::DropNewest), DropReason::QueueFull),
        (ages, DropReason::Expired),
    ] {
        let is_newest = queue.when_full == QueueFull::DropNewest;
        let mut world = World::new(2, queue);
        for n in 0..bursts(Duration::from_secs(6 * 3600)) {
            // The drops of a batch that is lost with the power are counted and come back, so it is cut where nothing is half done. Ages are not
            // kept over a restart, so there is none where they matter.
            let cuts = reason == DropReason::QueueFull && n % 500 == 499;
            world.burst(10, cuts.then_some(Cut::Quiet));
            world.pass(0);
        }
        world.reachable = true;
        for _ in 0..200 {
            world.pass(100);
        }
        assert!(world.is_drained(), "{:#?}", world.report());
        let last = world.report().dropped;
        let dropped: Vec<u64> = world.dropped.iter().zip(last).map(|(a, b)| a + b).collect();
        let published: u64 = world.published.iter().copied().map(u64::from).sum();
        let arrived: u64 = world.remote.topics.iter().map(|t| t.count).sum();
        assert_eq!(dropped.iter().sum::<u64>(), published - arrived, "{reason:?}");
        assert_eq!(dropped[reason as usize], published - arrived, "by its reason");
        assert!(arrived > 0 && arrived < published / 2, "{arrived} of {published}");
        for (arrivals, published) in world.remote.topics.iter().zip(world.published) {
            let (first, next) = (arrivals.first.expect("some came"), arrivals.next);
            assert_eq!(
                u64::from(next - first),
                arrivals.count,
                "what is missing is at one end"
            );
            assert_eq!(
                (first == 0, next == published),
                (is_newest, !is_newest),
                "{reason:?}"
            );
        }
    }
}
