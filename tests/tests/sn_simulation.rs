//! Many lives of small fields of sensors, each with its own mishaps; a crash after every single step of some of them; and a week of a large field.
//!
//! A failure prints its seed; `HEADGATE_SEED=… cargo test -p headgate-tests --test sn_simulation one_seed` replays it.

use headgate_tests::sn_sim::{SnPlan, SnSim};

/// An hour of three sensors, who sleep five minutes at a time.
fn plan(seed: u64) -> SnPlan {
    SnPlan {
        seed,
        sensors: 3,
        sleep: 300,
        seconds: 3_600,
        readings: 4,
        commands: 12,
        loss: 30,
        wills: false,
        crash_steps: Vec::new(),
        crash_seconds: Vec::new(),
    }
}

/// Wills and good links, or neither.
fn with_wills(wills: bool, plan: SnPlan) -> SnPlan {
    let loss = if wills { 0 } else { plan.loss };
    SnPlan { wills, loss, ..plan }
}

fn seeds(what: &str, default: u64) -> u64 {
    std::env::var(what)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A third of all datagrams is lost, or sensors have wills; the gateway crashes three times.
#[test]
fn a_thousand_lives_lose_nothing_acknowledged() {
    for seed in 0..seeds("HEADGATE_SEEDS", 1_000) {
        let mut plan = with_wills(seed % 4 == 0, plan(seed));
        let mut rng = fastrand::Rng::with_seed(seed);
        plan.crash_seconds = (0..3).map(|_| rng.u64(..3_600)).collect();
        let report = SnSim::new(plan).run();
        assert!(report.faults.is_empty(), "seed {seed}: {:#?}", report.faults);
        assert!(report.arrived >= 12, "seed {seed}: {report:?}");
    }
}

/// Random crashes hit a bad moment rarely; this tries them all.
#[test]
fn a_crash_after_every_step_loses_nothing_acknowledged() {
    let mut crashes = 0;
    for seed in 0..seeds("HEADGATE_CUT_SEEDS", 6) {
        let plan = SnPlan {
            sensors: 2,
            sleep: 60,
            seconds: 240,
            readings: 2,
            commands: 6,
            ..plan(seed)
        };
        let plan = with_wills(seed % 2 == 0, plan);
        let report = SnSim::new(plan.clone()).run();
        assert!(report.faults.is_empty(), "seed {seed}: {:#?}", report.faults);
        for step in 0..report.steps {
            let crash_steps = vec![step];
            let report = SnSim::new(SnPlan {
                crash_steps,
                ..plan.clone()
            })
            .run();
            let faults = report.faults;
            assert!(
                faults.is_empty(),
                "seed {seed}, crash after step {step}: {faults:#?}"
            );
            crashes += 1;
        }
    }
    assert!(crashes > 1_000, "only {crashes} crashes were tried");
}

/// A thousand sensors that sleep a quarter of an hour at a time, for a week, over links that lose a third; the gateway crashes every day.
#[test]
fn a_week_of_a_thousand_sleeping_sensors() {
    const DAY: u64 = 86_400;
    let report = SnSim::new(SnPlan {
        sensors: 1_000,
        sleep: 900,
        seconds: 7 * DAY,
        readings: 5,
        commands: 5_000,
        crash_seconds: (0..7).map(|day| day * DAY + 40_000).collect(),
        ..plan(1)
    })
    .run();
    assert!(
        report.faults.is_empty(),
        "{:#?}",
        &report.faults[..report.faults.len().min(20)]
    );
    assert!(report.wakes > 500_000, "{} wakes", report.wakes);
    assert!(report.arrived >= 9_000, "{} messages", report.arrived);
}

/// Replays `HEADGATE_SEED`, with a crash after step `HEADGATE_CUT` if that is set.
#[test]
fn one_seed_gives_one_run() {
    let mut plan = plan(seeds("HEADGATE_SEED", 7));
    plan.crash_steps = std::env::var("HEADGATE_CUT")
        .ok()
        .and_then(|text| text.parse().ok())
        .into_iter()
        .collect();
    let first = SnSim::new(plan.clone()).run();
    let second = SnSim::new(plan).run();
    assert_eq!(first, second);
    assert!(first.faults.is_empty(), "{:#?}", first.faults);
}
