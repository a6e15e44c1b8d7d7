//! A bridge as operators see it.

use super::Source;
use super::ledger::Line;
use super::rates::Rates;
use headgate_bridge::{
    BridgePlan, BridgeState, BridgeStatus, DeadLetter, DeadReason, DropReason as BridgeDrop,
};
use headgate_bus::{DropReason, LinkReport};
use headgate_model::Instant;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// What one bridge is and does.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct BridgeView {
    /// Its name.
    pub name: String,
    /// Where its settings are.
    pub source: Source,
    /// `connected` only when the remote has answered on this connection.
    pub state: &'static str,
    /// Seconds since the state began.
    pub state_seconds: u64,
    /// An operator stopped it.
    pub paused: bool,
    /// The address that was connected to last.
    pub remote: String,
    /// Which of `wans` the connection leaves by, if one was chosen for it.
    pub way_out: Option<String>,
    /// All addresses.
    pub addresses: Vec<String>,
    /// What went wrong last, if it has not been connected since.
    pub last_error: Option<String>,
    /// Addresses that failed since it was connected, and why.
    pub failures: BTreeMap<String, String>,
    /// Seconds until it tries again.
    pub next_try_seconds: Option<u64>,
    /// Seconds since the remote acknowledged something for the last time.
    pub last_acknowledged_seconds: Option<u64>,
    /// What waits.
    pub queue: QueueView,
    /// Messages sent to the remote, each time.
    pub sent: u64,
    /// Of those, sent again with DUP.
    pub sent_again: u64,
    /// Batches sent, each time; their messages are counted in `sent`.
    pub batches: u64,
    /// Messages that the remote took over.
    pub acknowledged: u64,
    /// Messages from the remote.
    pub received: u64,
    /// Bytes of MQTT, both ways.
    pub bytes: u64,
    /// Messages that the remote will never take, by reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// The last of them, oldest first.
    pub dead_letter_list: Vec<DeadView>,
    /// Messages that were dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Drops by topic, the most frequent first.
    pub dropped_topics: Vec<TopicView>,
    /// Messages that came by this bridge and were stopped, for they went in a ring.
    pub loops: u64,
    /// Messages that came by another bridge too.
    pub duplicates: u64,
    /// Subscriptions that the remote refused, or granted less for.
    pub refused_subscriptions: Vec<String>,
}

/// What waits for a bridge's remote.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct QueueView {
    /// Messages of QoS 1 and 2 that wait.
    pub messages: u64,
    /// Messages of QoS 0 that wait.
    pub messages_qos0: u64,
    /// Messages that were sent and are not acknowledged.
    pub in_flight: u64,
    /// Bytes that wait.
    pub bytes: u64,
    /// As configured.
    pub max_messages: u64,
    /// As configured.
    pub max_bytes: u64,
    /// Age of the oldest.
    pub oldest_seconds: Option<u64>,
    /// Messages that come in a second.
    pub in_per_second: Option<f64>,
    /// Messages that leave in a second.
    pub out_per_second: Option<f64>,
    /// For how many hours there is room at the present rate.
    pub capacity_hours: Option<f64>,
    /// When it is empty at the present rate.
    pub drain_seconds: Option<f64>,
}

/// A message that the remote will never take.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct DeadView {
    /// Its topic here.
    pub topic: String,
    /// Bytes of its payload.
    pub payload_bytes: usize,
    /// Why.
    pub reason: &'static str,
}

impl From<DeadLetter> for DeadView {
    fn from(letter: DeadLetter) -> Self {
        Self {
            topic: letter.topic,
            payload_bytes: letter.payload_bytes,
            reason: letter.reason.as_str(),
        }
    }
}

/// Drops of one topic.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct TopicView {
    /// Its name.
    pub topic: String,
    /// How many.
    pub count: u64,
}

/// A query may hold a token.
fn without_query(address: &str) -> String {
    match address.split_once('?') {
        Some((place, _)) => format!("{place}?…"),
        None => address.to_owned(),
    }
}

impl BridgeView {
    /// Whether it is missed where it is not connected: not if it has nothing to carry, is paused, or waits for the time.
    pub(crate) fn should_be_connected(&self) -> bool {
        // At the start all are idle for a moment.
        let is_idle = self.state == BridgeState::Idle.as_str() && self.state_seconds >= 2;
        let waits = [BridgeState::Paused, BridgeState::WaitingForTime].map(BridgeState::as_str);
        !is_idle && !waits.contains(&self.state)
    }

    /// Source, pause and bytes are the caller's to fill in.
    pub(crate) fn of(
        plan: &BridgePlan,
        status: &BridgeStatus,
        report: Option<&LinkReport>,
        rates: &Rates,
        now: Instant,
    ) -> Self {
        let settings = plan.settings();
        let (state, since) = status.state();
        let error = status.last_error();
        let nothing = LinkReport::default();
        let report = report.unwrap_or(&nothing);
        Self {
            name: settings.name.clone(),
            source: Source::Configuration,
            state: state.as_str(),
            state_seconds: now.since(since).as_secs(),
            paused: false,
            remote: without_query(&status.remote()),
            way_out: status.way_out(),
            addresses: settings
                .addresses
                .iter()
                .map(|address| without_query(address))
                .collect(),
            last_error: (!error.is_empty()).then_some(error),
            failures: status.failures(),
            next_try_seconds: status.next_try().map(|at| at.since(now).as_secs()),
            last_acknowledged_seconds: status.last_acknowledged().map(|at| now.since(at).as_secs()),
            queue: QueueView::of(plan, report, rates),
            sent: status.sent.get(),
            sent_again: status.sent_again.get(),
            batches: status.batches.get(),
            acknowledged: status.acknowledged.get(),
            received: status.received.get(),
            bytes: 0,
            dead_letters: some(DeadReason::ALL.map(|reason| (reason.as_str(), status.dead_letters(reason)))),
            dead_letter_list: status
                .dead_letter_list()
                .into_iter()
                .map(DeadView::from)
                .collect(),
            dropped: dropped(report, status),
            dropped_topics: topics(report),
            loops: report.loops,
            duplicates: report.duplicates,
            refused_subscriptions: status.refused_subscriptions(),
        }
    }
}

impl BridgeView {
    /// What is told under `$SYS/brokers/{node}/bridges/{name}/`, by topic.
    pub(crate) fn counters(&self) -> Vec<(String, String)> {
        let queue = &self.queue;
        let mut counters = vec![
            ("state".to_owned(), self.state.to_owned()),
            ("queue/messages".into(), queue.messages.to_string()),
            ("queue/bytes".into(), queue.bytes.to_string()),
            ("queue/in_flight".into(), queue.in_flight.to_string()),
            (
                "queue/oldest_seconds".into(),
                queue.oldest_seconds.unwrap_or(0).to_string(),
            ),
            ("sent".into(), self.sent.to_string()),
            ("sent_again".into(), self.sent_again.to_string()),
            ("batches".into(), self.batches.to_string()),
            ("acknowledged".into(), self.acknowledged.to_string()),
            ("received".into(), self.received.to_string()),
            ("bytes".into(), self.bytes.to_string()),
            ("loops".into(), self.loops.to_string()),
            ("duplicates".into(), self.duplicates.to_string()),
        ];
        if let Some(hours) = queue.capacity_hours {
            counters.push(("queue/capacity_hours".into(), format!("{hours:.1}")));
        }
        let reasons = |kind: &str, counts: &BTreeMap<&'static str, u64>| {
            let named = counts
                .iter()
                .map(|(reason, count)| (format!("{kind}/{reason}"), count.to_string()));
            named.collect::<Vec<_>>()
        };
        counters.extend(reasons("dropped", &self.dropped));
        counters.extend(reasons("dead_letters", &self.dead_letters));
        counters
    }
}

impl QueueView {
    fn of(plan: &BridgePlan, report: &LinkReport, rates: &Rates) -> Self {
        let limits = &plan.settings().queue;
        let speed = rates.per_second();
        Self {
            messages: report.queued,
            messages_qos0: report.queued_qos0,
            in_flight: report.in_flight,
            bytes: report.queued_bytes as u64,
            max_messages: limits.max_messages as u64,
            max_bytes: limits.max_bytes as u64,
            oldest_seconds: report.oldest.map(|age| age.as_secs()),
            in_per_second: speed.map(|(come, _)| come),
            out_per_second: speed.map(|(_, leave)| leave),
            capacity_hours: rates.capacity_hours(report, limits.max_messages, limits.max_bytes),
            drain_seconds: rates.drain_seconds(report),
        }
    }
}

/// Those that are not zero.
fn some(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn dropped(report: &LinkReport, status: &BridgeStatus) -> BTreeMap<&'static str, u64> {
    let by_bus = DropReason::ALL.iter().map(|reason| {
        let at = *reason as usize;
        (reason.name(), report.dropped[at] + report.dropped_qos0[at])
    });
    let by_endpoint = BridgeDrop::ALL
        .iter()
        .map(|reason| (reason.as_str(), status.dropped(*reason)));
    some(by_bus.chain(by_endpoint))
}

fn topics(report: &LinkReport) -> Vec<TopicView> {
    let mut topics: Vec<TopicView> = report
        .topics
        .iter()
        .map(|drops| TopicView {
            topic: drops.topic.to_string(),
            count: drops.dropped.iter().sum(),
        })
        .collect();
    topics.sort_by_key(|view| std::cmp::Reverse(view.count));
    topics
}

/// What was counted since the start, as a line of the ledger.
pub(super) fn total(report: &LinkReport, status: &BridgeStatus, bytes: u64, at: u64) -> Line {
    let dropped = some(
        DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), report.dropped[*reason as usize])),
    );
    let mut dropped: BTreeMap<String, u64> = dropped
        .into_iter()
        .map(|(reason, count)| (reason.to_owned(), count))
        .collect();
    if report.handed_on > 0 {
        dropped.insert("handed_on".into(), report.handed_on);
    }
    Line {
        at,
        routed: report.routed,
        sent: status.sent.get(),
        sent_again: status.sent_again.get(),
        acknowledged: report.done,
        rejected: report.rejected,
        dropped,
        queued: report.queued + report.in_flight,
        qos0: report.routed_qos0,
        received: status.received.get(),
        bytes,
        carried: Some(report.carried),
        start: false,
        end: false,
    }
}
