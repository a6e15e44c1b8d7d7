//! The case `retained`: messages are retained, subscribers get all of them, the messages are removed.

use super::load::run_name;
use super::network::{Network, Ticker, Traffic};
use super::process::Mark;
use super::report::{Latency, Messages, Report};
use super::retained_flow::Shelf;
use super::{BenchError, Plan, Until};
use std::time::{Duration, Instant};

/// What a broker does behind its last answer belongs to the cost; and nothing may come twice in it.
const LINGER: Duration = Duration::from_millis(300);

/// Carries out the plan.
pub(super) fn run(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
    let topics = match plan.until {
        Until::Count(count) => count,
        Until::Elapsed(_) => u64::MAX,
    };
    let run = run_name();
    let mut network = Network::new(plan)?;
    let mut ticker = Ticker::new();
    let mut window = usize::MAX;
    for number in 0..=plan.clients {
        let guest = plan.server.enter(&format!("bench-{run}-{number}"), true, 0)?;
        window = window.min(guest.receive_maximum.into());
        network.add(guest.into_client()?)?;
        ticker.tell(progress, || {
            format!("retained: {number} of {} connected", plan.clients)
        });
    }
    let mut shelf = Shelf::new(plan, &run, topics, window);
    let report = measure(plan, network, &mut shelf, progress);

    // Without subscribers, which would hear of it.
    shelf.remove();
    let mut network = Network::new(plan)?;
    let guest = plan.server.enter(&format!("bench-{run}"), true, 0)?;
    network.add(guest.into_client()?)?;
    network.turn_until(&mut shelf, is_done, "retained, removed", progress)?;
    report
}

fn is_done(shelf: &Shelf, _: Instant) -> bool {
    shelf.outstanding() == 0
}

fn measure(
    plan: &Plan,
    mut network: Network,
    shelf: &mut Shelf,
    progress: &mut dyn FnMut(String),
) -> Result<Report, BenchError> {
    let mut stalled = network.turn_until(shelf, is_done, "retained, set", progress)?;
    shelf.read(plan.window);
    let before = Mark::now(plan)?;
    stalled |= network.turn_until(shelf, is_done, "retained, delivered", progress)?;
    let at = network.at;
    network.linger(shelf, LINGER)?;
    let after = Mark {
        at,
        ..Mark::now(plan)?
    };
    let (delivered, seconds) = (shelf.tally.delivered, after.since(&before));
    Ok(Report {
        messages: Some(Messages {
            stalled,
            ..Messages::new(delivered, seconds, shelf.lost(), shelf.tally)
        }),
        latency_us: Latency::of(&shelf.latency),
        ..Report::new(plan, seconds, delivered, (&before, &after))
    })
}
