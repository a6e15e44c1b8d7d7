//! Many lives of a few devices, each with its own mishaps, and a power cut after every single step of some of them.
//!
//! A failure prints its seed; `HEADGATE_SEED=… cargo test -p headgate-lwm2m --test simulation one_seed` replays it.

mod sim;

use sim::{Plan, Sim};

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        devices: 4,
        seconds: 1_800,
        commands: 40,
        sends: 5,
        loss: if seed.is_multiple_of(4) {
            0
        } else {
            10 + seed as u8 % 4 * 10
        },
        mishaps: 3,
        forged: seed % 2 == 1,
        crash_steps: Vec::new(),
        crash_seconds: Vec::new(),
    }
}

fn seeds(what: &str, default: u64) -> u64 {
    std::env::var(what)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Half an hour; the power is cut a few times, or many, and as much befalls the devices.
fn with_crashes(seed: u64) -> Plan {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (crashes, mishaps) = [(4, 3), (12, 10)][usize::from(seed % 3 == 2)];
    Plan {
        crash_seconds: (0..crashes).map(|_| rng.u64(..1_800)).collect(),
        mishaps,
        ..plan(seed)
    }
}

/// Every command has one answer, nothing that was acknowledged is lost, what is observed is notified, and nothing is left in the end.
#[test]
fn many_lives_lose_nothing() {
    let (mut answers, mut successes, mut observations) = (0, 0, 0);
    for seed in seeds("HEADGATE_FIRST", 0)..seeds("HEADGATE_SEEDS", 80) {
        let report = Sim::new(with_crashes(seed)).run();
        assert!(report.faults.is_empty(), "seed {seed}: {:#?}", report.faults);
        answers += report.answers;
        successes += report.successes;
        observations += report.observations;
    }
    let told = format!("{answers} answers, {successes} successes, {observations} observations");
    assert!(successes * 2 > answers && observations > 100, "{told}");
}

/// Random cuts hit a bad moment rarely; this tries them all.
#[test]
fn a_power_cut_after_every_step_loses_nothing() {
    let mut cuts = 0;
    for seed in 0..seeds("HEADGATE_CUT_SEEDS", 3) {
        let plan = Plan {
            devices: 3,
            seconds: 60,
            commands: 8,
            sends: 1,
            mishaps: usize::from(seed % 2 == 1),
            loss: 0,
            ..plan(seed)
        };
        let report = Sim::new(plan.clone()).run();
        assert!(report.faults.is_empty(), "seed {seed}: {:#?}", report.faults);
        for step in 0..report.steps.min(350) {
            let crash_steps = vec![step];
            let report = Sim::new(Plan {
                crash_steps,
                ..plan.clone()
            })
            .run();
            let faults = report.faults;
            assert!(
                faults.is_empty(),
                "seed {seed}, cut after step {step}: {faults:#?}"
            );
            cuts += 1;
        }
    }
    assert!(cuts > 1_000, "only {cuts} cuts were tried");
}

/// Replays `HEADGATE_SEED`, with a cut after step `HEADGATE_CUT` if that is set.
#[test]
fn one_seed_gives_one_run() {
    let plan = with_crashes(seeds("HEADGATE_SEED", 7));
    let first = Sim::new(plan.clone()).run();
    let second = Sim::new(plan).run();
    assert_eq!(first, second);
    assert!(first.faults.is_empty(), "{:#?}", first.faults);
}
