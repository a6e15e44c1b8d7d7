//! What the gateway is, how it is, and what it counts.

use super::{Answer, Told, of_this_node};
use crate::alarms::Alarm;
use crate::api::compat::table::Call;
use crate::api::compat::told::{
    DESCRIPTION, Host, VERSION, dotted_metrics, dotted_stats, size_text, uptime_text,
};
use crate::api::server::Control;
use crate::sys::{datetime, unix_time};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn broker_row(control: &Control) -> Value {
    json!({
        "node": control.counters.node(),
        "version": VERSION,
        "sysdescr": DESCRIPTION,
        "uptime": uptime_text(control),
        "datetime": datetime(unix_time()),
        "otp_release": null,
        "node_status": "Running",
    })
}

pub(super) async fn brokers(call: Call) -> Answer {
    Ok(Told::Data(json!([broker_row(&call.control)])))
}

pub(super) async fn broker(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told::Data(broker_row(&call.control)))
}

fn node_row(control: &Control) -> Value {
    let host = Host::now();
    let [load1, load5, load15] = host.loads.map(|load| format!("{load:.2}"));
    json!({
        "node": control.counters.node(),
        "node_status": "Running",
        "version": VERSION,
        "uptime": uptime_text(control),
        "connections": control.hub.stats().clients,
        "memory_total": host.memory.map(size_text),
        "memory_used": host.process.resident.map(size_text),
        "max_fds": host.process.max_files,
        "load1": load1,
        "load5": load5,
        "load15": load15,
        "otp_release": null,
        "process_available": null,
        "process_used": null,
    })
}

pub(super) async fn nodes(call: Call) -> Answer {
    Ok(Told::Data(json!([node_row(&call.control)])))
}

pub(super) async fn node(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told::Data(node_row(&call.control)))
}

fn object(all: BTreeMap<String, u64>) -> Value {
    let all = all.into_iter().map(|(name, value)| (name, value.into()));
    Value::Object(all.collect::<Map<String, Value>>())
}

fn all_stats(control: &Control) -> Value {
    object(dotted_stats(&control.counters.snapshot()))
}

fn all_metrics(control: &Control) -> Value {
    object(dotted_metrics(&control.counters.snapshot()))
}

pub(super) async fn stats(call: Call) -> Answer {
    let row = json!({ "node": call.control.counters.node(), "stats": all_stats(&call.control) });
    Ok(Told::Data(json!([row])))
}

pub(super) async fn stats_of(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told::Data(all_stats(&call.control)))
}

pub(super) async fn metrics(call: Call) -> Answer {
    let row = json!({ "node": call.control.counters.node(), "metrics": all_metrics(&call.control) });
    Ok(Told::Data(json!([row])))
}

pub(super) async fn metrics_of(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told::Data(all_metrics(&call.control)))
}

/// Which alarms.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Standing,
    Over,
}

/// Times in microseconds, as EMQX 4 has them.
fn alarm_row(alarm: &Alarm) -> Value {
    let micros = |seconds: u64| seconds.saturating_mul(1_000_000);
    json!({
        "name": alarm.id,
        "message": alarm.summary,
        "details": alarm.details,
        "activate_at": micros(alarm.raised),
        "deactivate_at": alarm.cleared.map_or(json!("infinity"), |at| micros(at).into()),
        "activated": alarm.cleared.is_none(),
    })
}

fn rows(control: &Control, which: Which) -> Value {
    let (active, history) = control.alarms.lists();
    let active = active.iter().filter(|_| which != Which::Over);
    let history = history.iter().filter(|_| which != Which::Standing);
    active.chain(history).map(alarm_row).collect()
}

fn by_node(call: &Call, which: Which) -> Answer {
    let alarms = rows(&call.control, which);
    Ok(Told::Data(
        json!([{ "node": call.control.counters.node(), "alarms": alarms }]),
    ))
}

fn of_node(call: &Call, which: Which) -> Answer {
    of_this_node(call)?;
    Ok(Told::Data(rows(&call.control, which)))
}

pub(super) async fn alarms(call: Call) -> Answer {
    by_node(&call, Which::All)
}

pub(super) async fn activated(call: Call) -> Answer {
    by_node(&call, Which::Standing)
}

pub(super) async fn deactivated(call: Call) -> Answer {
    by_node(&call, Which::Over)
}

pub(super) async fn alarms_of(call: Call) -> Answer {
    of_node(&call, Which::All)
}

pub(super) async fn activated_of(call: Call) -> Answer {
    of_node(&call, Which::Standing)
}

pub(super) async fn deactivated_of(call: Call) -> Answer {
    of_node(&call, Which::Over)
}
