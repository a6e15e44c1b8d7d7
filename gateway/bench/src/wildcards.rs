//! The case `wildcards`: sessions subscribe to many filters, then publishers go through the topics.

use super::load::run_name;
use super::network::{Network, Ticker, Traffic};
use super::process::Mark;
use super::report::{Latency, Messages, Report, Subscriptions};
use super::wildcard_flow::{Forest, filter, owner};
use super::{BenchError, Plan, Until};
use std::time::{Duration, Instant};

/// Filters of one SUBSCRIBE.
const FILTERS: usize = 1_000;

/// How long what is outstanding may take at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// Carries out the plan.
pub(super) fn run(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    const WHAT: &str = "wildcards, delivered";
    let run = run_name();
    let mut forest = Forest::new(plan, &run);
    let mut network = Network::new(plan)?;
    for number in 0..forest.publishers() {
        let guest = plan.server.enter(&format!("bench-{run}-{number}"), true, 0)?;
        network.add(guest.into_client()?)?;
    }
    let subscriptions = subscribe(plan, &run, &mut network, progress)?;
    let total = match plan.until {
        Until::Elapsed(_) => u64::MAX,
        Until::Count(count) => count,
    };
    let mut stalled = false;
    let done = |forest: &Forest| forest.all_sent() && forest.outstanding() == 0;
    network.nanos();
    forest.start(total);
    if let Until::Elapsed(_) = plan.until {
        let end = Instant::now() + plan.warm_up;
        stalled |= network.turn_until(&mut forest, |_, at| at >= end, WHAT, progress)?;
        forest.latency.clear();
    }
    let before = Mark::now(plan)?;
    let (delivered, complete) = (forest.tally.delivered, forest.complete);
    stalled |= match plan.until {
        Until::Elapsed(time) => {
            let end = before.at + time;
            network.turn_until(&mut forest, |_, at| at >= end, WHAT, progress)?
        }
        Until::Count(_) => network.turn_until(&mut forest, |forest, _| done(forest), WHAT, progress)?,
    };
    let after = Mark::now(plan)?;
    let (delivered, complete) = (forest.tally.delivered - delivered, forest.complete - complete);
    forest.stop();
    let end = Instant::now() + DRAIN;
    network.turn_until(
        &mut forest,
        |forest, at| done(forest) || at >= end,
        WHAT,
        progress,
    )?;
    let seconds = after.since(&before);
    let each = Report::new(plan, seconds, complete, (&before, &after));
    Ok(Report {
        cpu_us_per_publish: each.cpu_s_per_million, // seconds by millions are microseconds
        subscriptions: Some(subscriptions),
        messages: Some(Messages {
            stalled,
            ..Messages::new(delivered, seconds, forest.lost(), forest.tally)
        }),
        latency_us: Latency::of(&forest.latency),
        ..Report::new(plan, seconds, delivered, (&before, &after))
    })
}

fn subscribe(
    plan: &Plan,
    run: &str,
    network: &mut Network,
    progress: &mut dyn FnMut(String),
) -> Result<Subscriptions, BenchError> {
    let mut guests = Vec::with_capacity(plan.clients);
    for number in 0..plan.clients {
        guests.push(plan.server.enter(&format!("tree-{run}-{number}"), true, 0)?);
    }
    let before = Mark::now(plan)?;
    let (mut made, mut ticker) = (0, Ticker::new());
    for (session, guest) in guests.iter_mut().enumerate() {
        let mut numbers = (session as u64..plan.subscriptions)
            .step_by(plan.clients)
            .peekable();
        while numbers.peek().is_some() {
            let filters: Vec<_> = numbers
                .by_ref()
                .take(FILTERS)
                .inspect(|number| debug_assert_eq!(owner(*number, plan.clients), session))
                .map(|number| filter(run, number))
                .collect();
            made += filters.len();
            guest.subscribe(filters, plan.qos)?;
            ticker.tell(progress, || {
                format!("wildcards: {made} of {} subscriptions", plan.subscriptions)
            });
        }
    }
    let after = Mark::now(plan)?;
    for guest in guests {
        network.add(guest.into_client()?)?;
    }
    Ok(Subscriptions::new(plan.subscriptions, &before, &after))
}
