//! The cases that pass messages on: handshakes, then one loop.

use super::flow::{Flow, filter, parties, topic};
use super::histogram::Timetable;
use super::network::{Network, Ticker, Traffic};
use super::process::Mark;
use super::report::{Latency, Messages, Report};
use super::wire::Wire;
use super::{BenchError, Case, Plan, Until};
use headgate_mqtt_codec::Qos;
use std::time::{Duration, Instant};

/// How long what is outstanding may take at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// Carries out the plan.
pub(super) fn run(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    let run = run_name();
    let report = connect(plan, &run, progress).and_then(|parties| measure(plan, parties, progress));
    if plan.durable {
        let (publishers, receivers) = parties(plan);
        for number in publishers..publishers + receivers {
            plan.server.enter(&client_id(&run, number), true, 0)?.leave()?;
        }
    }
    report
}

/// Puts the load on those that are connected.
pub(super) fn measure<W: Wire>(
    plan: &Plan,
    (mut network, mut flow): (Network<W>, Flow<W>),
    progress: &mut dyn FnMut(String),
) -> Result<Report, BenchError> {
    let what = plan.case.name();
    let total = match plan.until {
        Until::Elapsed(_) => u64::MAX,
        Until::Count(count) => count,
    };
    let start = network.nanos();
    flow.start(plan.rate.map(|rate| Timetable::new(start, rate)), total);
    let mut stalled = false;
    let done = |flow: &Flow<W>| flow.all_sent() && flow.outstanding() == 0;
    if let Until::Elapsed(_) = plan.until {
        let end = Instant::now() + plan.warm_up;
        stalled |= network.turn_until(&mut flow, |_, at| at >= end, what, progress)?;
        flow.latency.clear();
    }
    let (before, earlier) = (Mark::now(plan)?, flow.tally.delivered);
    stalled |= match plan.until {
        Until::Elapsed(time) => {
            let end = before.at + time;
            network.turn_until(&mut flow, |_, at| at >= end, what, progress)?
        }
        Until::Count(_) => network.turn_until(&mut flow, |flow, _| done(flow), what, progress)?,
    };
    let (after, delivered) = (Mark::now(plan)?, flow.tally.delivered - earlier);
    flow.stop();
    let end = Instant::now() + DRAIN;
    network.turn_until(&mut flow, |flow, at| done(flow) || at >= end, what, progress)?;
    flow.give_up(network.nanos());
    let seconds = after.since(&before);
    Ok(Report {
        messages: Some(Messages {
            stalled,
            ..Messages::new(delivered, seconds, flow.lost(), flow.tally)
        }),
        latency_us: Latency::of(&flow.latency),
        ..Report::new(plan, seconds, delivered, (&before, &after))
    })
}

fn client_id(run: &str, number: usize) -> String {
    format!("bench-{run}-{number}")
}

fn connect(plan: &Plan, run: &str, progress: &mut dyn FnMut(String)) -> Result<(Network, Flow), BenchError> {
    let (publishers, receivers) = parties(plan);
    let mut network = Network::new(plan)?;
    let mut window = plan.window;
    let mut ticker = Ticker::new();
    for number in 0..publishers + receivers {
        let clean = !plan.durable || number < publishers;
        let mut guest = plan.server.enter(&client_id(run, number), clean, 0)?;
        if let Some(receiver) = number.checked_sub(publishers) {
            guest.subscribe(vec![filter(plan.case, run, receiver)], plan.qos)?;
        } else {
            window = window.min(guest.receive_maximum.into());
        }
        network.add(guest.into_client()?)?;
        ticker.tell(progress, || {
            format!(
                "{}: {} of {} connected",
                plan.case.name(),
                number + 1,
                publishers + receivers
            )
        });
    }
    let topics = |number| topic(run, number);
    Ok((network, Flow::new(plan.server.version, plan, topics, window)))
}

/// So that two runs do not hear each other.
pub(super) fn run_name() -> String {
    let mut bytes = [0; 4];
    // Without randomness the process id still tells them apart.
    let _ = getrandom::fill(&mut bytes);
    format!("{:x}-{:x}", std::process::id(), u32::from_ne_bytes(bytes))
}

/// Windows and backlogs that fit a case, for whoever gives none.
pub(crate) fn usual(case: Case, qos: Qos) -> (usize, u64) {
    match (case, qos) {
        (Case::FanIn, _) => (10, 10),
        (Case::Connect | Case::Retained, _) => (8, 0),
        (_, Qos::AtMostOnce) => (20, 200),
        _ => (20, 20),
    }
}
