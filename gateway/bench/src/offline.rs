//! The case `offline`: sessions whose clients leave, messages for them, and the clients' return. Two reports: what
//! storing cost, and what draining cost.

use super::flow::topic;
use super::load::run_name;
use super::network::{Network, Ticker, Traffic};
use super::offline_flow::Mailboxes;
use super::process::Mark;
use super::report::{Latency, Messages, Report};
use super::{BenchError, Plan, Until};
use std::time::Duration;

/// What a broker does behind its last answer belongs to the cost; and nothing may come twice in it.
const LINGER: Duration = Duration::from_millis(300);

/// Carries out the plan.
pub(super) fn run(plan: &Plan, progress: &mut dyn FnMut(String)) -> Result<Vec<Report>, BenchError> {
    let run = run_name();
    let session = |number: usize| format!("away-{run}-{number}");
    let mut ticker = Ticker::new();
    for number in 0..plan.clients {
        let mut guest = plan.server.enter(&session(number), false, 0)?;
        guest.subscribe(vec![topic(&run, number)], plan.qos)?;
        guest.leave()?;
        ticker.tell(progress, || {
            format!("offline: {} of {} sessions left", number + 1, plan.clients)
        });
    }
    let reports = measure(plan, &run, &session, progress);
    for number in 0..plan.clients {
        plan.server.enter(&session(number), true, 0)?.leave()?;
    }
    reports
}

fn measure(
    plan: &Plan,
    run: &str,
    session: &dyn Fn(usize) -> String,
    progress: &mut dyn FnMut(String),
) -> Result<Vec<Report>, BenchError> {
    let messages = match plan.until {
        Until::Count(count) => count,
        Until::Elapsed(_) => u64::MAX,
    };
    let mut network = Network::new(plan)?;
    let mut window = plan.window;
    for number in 0..plan.clients {
        let guest = plan.server.enter(&format!("bench-{run}-{number}"), true, 0)?;
        window = window.min(guest.receive_maximum.into());
        network.add(guest.into_client()?)?;
    }
    let mut mailboxes = Mailboxes::new(plan, run, messages, window);
    let (before, after, stalled) = spend(plan, &mut network, &mut mailboxes, "offline, stored", progress)?;
    let (stored, seconds) = (mailboxes.stored(), after.since(&before));
    let store = Report {
        messages: Some(Messages {
            stalled,
            ..Messages::new(stored, seconds, 0, mailboxes.tally)
        }),
        latency_us: Latency::of(&mailboxes.latency),
        ..Report::new(plan, seconds, stored, (&before, &after))
    };

    mailboxes.drain();
    let mut returning = Vec::with_capacity(plan.clients);
    for number in 0..plan.clients {
        let mut client = plan.server.open(0)?.into_client()?;
        client.output = plan.server.connect_packet(&session(number), false);
        returning.push(client);
    }
    for client in returning {
        network.add(client)?; // writable at once, and so its CONNECT leaves
    }
    let (before, after, stalled) = spend(plan, &mut network, &mut mailboxes, "offline, drained", progress)?;
    let (delivered, seconds) = (mailboxes.tally.delivered, after.since(&before));
    let drain = Report {
        case: "drain",
        messages: Some(Messages {
            stalled: stalled || mailboxes.absent > 0,
            ..Messages::new(delivered, seconds, mailboxes.lost(), mailboxes.tally)
        }),
        ..Report::new(plan, seconds, delivered, (&before, &after))
    };
    Ok(vec![store, drain])
}

/// Until nothing is outstanding. The time ends then, the CPU time a moment later.
fn spend(
    plan: &Plan,
    network: &mut Network,
    mailboxes: &mut Mailboxes,
    what: &str,
    progress: &mut dyn FnMut(String),
) -> Result<(Mark, Mark, bool), BenchError> {
    let before = Mark::now(plan)?;
    let stalled = network.turn_until(
        mailboxes,
        |mailboxes, _| mailboxes.outstanding() == 0,
        what,
        progress,
    )?;
    let at = network.at;
    network.linger(mailboxes, LINGER)?;
    let after = Mark {
        at,
        ..Mark::now(plan)?
    };
    Ok((before, after, stalled))
}
