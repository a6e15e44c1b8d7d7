//! Thousands of lives of a small plant, each with its own mishaps; and a power cut after every single step of some of them.
//!
//! A failure prints its seed; `HEADGATE_SEED=… cargo test -p headgate-tests --test simulation one_seed` replays it.

use headgate_tests::sim::{Plan, Sim};

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        messages: 12,
        lossy: true,
        power_cuts: Vec::new(),
    }
}

fn seeds(what: &str, default: u64) -> u64 {
    std::env::var(what)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Links break at any moment, also unnoticed; the power is cut twice at random moments.
#[test]
fn ten_thousand_lives_lose_nothing_acknowledged() {
    for seed in 0..seeds("HEADGATE_SEEDS", 10_000) {
        let mut plan = plan(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        plan.power_cuts = (0..2).map(|_| rng.usize(..300)).collect();
        let (_, faults) = Sim::new(plan).run();
        assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
    }
}

/// Random cuts hit a bad moment rarely; this tries them all.
#[test]
fn a_power_cut_after_every_step_loses_nothing_acknowledged() {
    let mut cuts = 0;
    for seed in 0..seeds("HEADGATE_CUT_SEEDS", 25) {
        let (steps, faults) = Sim::new(Plan {
            lossy: seed % 2 == 1,
            ..plan(seed)
        })
        .run();
        assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
        for cut in 0..steps {
            let plan = Plan {
                lossy: seed % 2 == 1,
                power_cuts: vec![cut],
                ..plan(seed)
            };
            let (_, faults) = Sim::new(plan).run();
            assert!(
                faults.is_empty(),
                "seed {seed}, cut after step {cut}: {faults:#?}"
            );
            cuts += 1;
        }
    }
    assert!(cuts > 1_000, "only {cuts} cuts were tried");
}

/// Replays `HEADGATE_SEED`, with a cut after step `HEADGATE_CUT` if that is set.
#[test]
fn one_seed_gives_one_run() {
    let mut plan = plan(seeds("HEADGATE_SEED", 7));
    plan.power_cuts = std::env::var("HEADGATE_CUT")
        .ok()
        .and_then(|text| text.parse().ok())
        .into_iter()
        .collect();
    let first = Sim::new(plan.clone()).run();
    let second = Sim::new(plan).run();
    assert_eq!(first, second);
    assert!(first.1.is_empty(), "{:#?}", first.1);
}
