//! The session of the bus that is a bridge's queue, while no connection has it.

use headgate_bridge::BridgePlan;
use headgate_bus::MAX_PAGE;
use headgate_bus::handle::{Hub, Port};
use headgate_model::{AckToken, Admitted, BusCommand, BusEvent, CloseReason, Subscription};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

/// Makes the session what the plan says: it is there, and is subscribed to what goes out and nothing else. What is queued stays.
pub(super) async fn prepare(hub: &Hub, plan: &BridgePlan) {
    let wanted = plan.subscriptions();
    subscribe(hub, plan, wanted).await;
}

/// Nothing more is queued; what is queued stays.
pub(super) async fn retire(hub: &Hub, plan: &BridgePlan) {
    subscribe(hub, plan, Vec::new()).await;
}

async fn subscribe(hub: &Hub, plan: &BridgePlan, wanted: Vec<Subscription>) {
    let client = plan.local_client_id();
    let mut visit = Visit {
        port: hub.attach(),
        events: VecDeque::new(),
    };
    visit.say(BusCommand::Open(Box::new(plan.open(1, ""))));
    visit
        .until(|event| matches!(event, BusEvent::Opened { .. }))
        .await;
    let mut unwanted = subscriptions_of(hub, client.as_str());
    unwanted.retain(|held| !wanted.iter().any(|wanted| wanted.to_text() == held.to_text()));
    let token = AckToken(0);
    if !unwanted.is_empty() {
        visit.say(BusCommand::Unsubscribe {
            token,
            subscriptions: Admitted::each_of_gateway(unwanted),
        });
        visit
            .until(|event| matches!(event, BusEvent::Unsubscribed { .. }))
            .await;
    }
    if !wanted.is_empty() {
        visit.say(BusCommand::Subscribe {
            token,
            subscriptions: Admitted::each_of_gateway(wanted),
        });
        visit
            .until(|event| matches!(event, BusEvent::Subscribed { .. }))
            .await;
    }
    visit.say(BusCommand::Close {
        // Then its will says that the bridge is not up.
        reason: CloseReason::Lost,
        expiry: None,
    });
}

/// All that the bridge's session is subscribed to.
fn subscriptions_of(hub: &Hub, client: &str) -> Vec<Subscription> {
    let (mut all, mut after) = (Vec::new(), None);
    while let Some(page) = hub.subscriptions(client, after.as_deref(), MAX_PAGE) {
        all.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    all
}

/// An endpoint without a link.
struct Visit {
    port: Port,
    events: VecDeque<BusEvent>,
}

impl Visit {
    fn say(&self, command: BusCommand) {
        self.port.submit(&mut vec![command]);
    }

    /// Waits for an answer. Nobody else opens this session, so it comes.
    async fn until(&mut self, answer: impl Fn(&BusEvent) -> bool) {
        poll_fn(|cx| {
            loop {
                if self.events.is_empty() {
                    self.port.take_events(&mut self.events);
                }
                match self.events.pop_front() {
                    Some(event) if answer(&event) => return Poll::Ready(()),
                    Some(_) => {}
                    None if self.port.poll_call(cx).is_pending() => return Poll::Pending,
                    None => {}
                }
            }
        })
        .await;
    }
}
