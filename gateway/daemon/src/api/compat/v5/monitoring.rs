//! What the gateway is, how it is, and what it counts.

use super::{Answer, Told, of_this_node, page, span, time};
use crate::alarms::Alarm;
use crate::api::compat::table::Call;
use crate::api::compat::told::{Host, VERSION, dotted_metrics, dotted_stats, size_text, uptime};
use crate::api::server::Control;
use crate::sys::unix_time;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headgate_model::Instant;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// In EMQX's words; as JSON if `format=json`.
pub(super) async fn status(call: Call) -> Response {
    let node = call.control.counters.node();
    let is_up = call.control.counters.obstacles().is_empty();
    let running = if is_up { "running" } else { "not_running" };
    let status = if is_up {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if call.query.get("format") == Some("json") {
        let told = json!({
            "node_name": node,
            "rel_vsn": VERSION,
            "broker_status": "started",
            "app_status": running,
        });
        return (status, axum::Json(told)).into_response();
    }
    (status, format!("Node {node} is started\nemqx is {running}")).into_response()
}

fn node_row(control: &Control) -> Value {
    let (host, stats) = (Host::now(), control.hub.stats());
    let [load1, load5, load15] = host.loads;
    json!({
        "node": control.counters.node(),
        "node_status": "running",
        "version": VERSION,
        "uptime": uptime(control) * 1_000,
        "connections": stats.sessions,
        "live_connections": stats.clients,
        "cluster_sessions": stats.sessions,
        "memory_total": host.memory.map(size_text),
        "memory_used": host.process.resident.map(size_text),
        "max_fds": host.process.max_files,
        "load1": load1,
        "load5": load5,
        "load15": load15,
        "edition": "Opensource",
        "role": "core",
    })
}

pub(super) async fn nodes(call: Call) -> Answer {
    Ok(Told::Json(json!([node_row(&call.control)])))
}

pub(super) async fn node(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told::Json(node_row(&call.control)))
}

fn object(all: BTreeMap<String, u64>) -> Map<String, Value> {
    all.into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect()
}

/// One object for the whole, or a list with one for each node.
fn of_nodes(call: &Call, all: BTreeMap<String, u64>) -> Answer {
    let mut all = object(all);
    if call.query.get("aggregate") == Some("true") {
        return Ok(Told::Json(all.into()));
    }
    let node = call.control.counters.node();
    if call.query.get("node").is_some_and(|wanted| wanted != node) {
        return Ok(Told::Json(json!([])));
    }
    all.insert("node".into(), node.into());
    Ok(Told::Json(json!([all])))
}

pub(super) async fn metrics(call: Call) -> Answer {
    let all = dotted_metrics(&call.control.counters.snapshot());
    of_nodes(&call, all)
}

pub(super) async fn metrics_of(call: Call) -> Answer {
    of_this_node(&call)?;
    let all = dotted_metrics(&call.control.counters.snapshot());
    Ok(Told::Json(object(all).into()))
}

pub(super) async fn stats(call: Call) -> Answer {
    let all = dotted_stats(&call.control.counters.snapshot());
    of_nodes(&call, all)
}

pub(super) async fn stats_of(call: Call) -> Answer {
    of_this_node(&call)?;
    let all = dotted_stats(&call.control.counters.snapshot());
    Ok(Told::Json(object(all).into()))
}

/// Messages received, sent and dropped.
type Counted = [u64; 3];

/// What was counted, when rates were asked for: the latest, and the one before that.
static SAMPLES: Mutex<Option<(Instant, Counted, Counted)>> = Mutex::new(None);
/// Rates are those of so long at the least.
const SAMPLED: Duration = Duration::from_secs(1);

/// Messages a second since rates were asked for the last time, a second ago or earlier; zero at first.
fn rates(now: Instant, counted: Counted) -> Counted {
    let mut samples = SAMPLES.lock();
    let (at, before, known) = samples.unwrap_or((now, counted, [0; 3]));
    let passed = now.since(at);
    if passed < SAMPLED && samples.is_some() {
        return known;
    }
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |n: usize| counted[n].saturating_sub(before[n]).saturating_mul(1_000) / millis;
    let rates = [rate(0), rate(1), rate(2)];
    *samples = Some((now, counted, rates));
    rates
}

fn current_row(control: &Control) -> Map<String, Value> {
    let snapshot = control.counters.snapshot();
    let bus = &snapshot.bus;
    let (received, sent) = snapshot.messages();
    let counted = [received, sent, bus.dropped.iter().sum()];
    let [received, sent, dropped] = rates(snapshot.now, counted);
    let row = json!({
        "received_msg_rate": received,
        "sent_msg_rate": sent,
        "dropped_msg_rate": dropped,
        "subscriptions": bus.subscriptions,
        "topics": bus.filters,
        "connections": bus.sessions,
        "live_connections": bus.clients,
        "retained_msg_count": bus.retained,
    });
    match row {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}

pub(super) async fn current(call: Call) -> Answer {
    Ok(Told::Json(current_row(&call.control).into()))
}

pub(super) async fn current_of(call: Call) -> Answer {
    of_this_node(&call)?;
    let mut row = current_row(&call.control);
    row.insert("node_uptime".into(), uptime(&call.control).into());
    Ok(Told::Json(row.into()))
}

fn alarm_row(node: &str, alarm: &Alarm) -> Value {
    let until = alarm.cleared.unwrap_or_else(unix_time);
    let mut row = json!({
        "node": node,
        "name": alarm.id,
        "message": alarm.summary,
        "details": alarm.details,
        "duration": until.saturating_sub(alarm.raised) * 1_000,
        "activate_at": time(alarm.raised),
    });
    if let Some(cleared) = alarm.cleared {
        row["deactivate_at"] = time(cleared).into();
    }
    row
}

/// Those that stand; with `activated=false` those that are over.
pub(super) async fn alarms(call: Call) -> Answer {
    let (active, history) = call.control.alarms.lists();
    let rows = match call.query.get("activated") {
        Some("false") => history,
        _ => active,
    };
    let (span, count, node) = (span(&call)?, rows.len(), call.control.counters.node());
    let found = span.of(rows).filter_map(|alarm| Some(alarm_row(&node, &alarm)));
    page(span, Some(count), found)
}
