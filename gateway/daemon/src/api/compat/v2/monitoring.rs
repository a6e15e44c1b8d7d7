//! What the gateway is, how it is, and what it counts.

use super::{Answer, Told, of_this_node};
use crate::api::compat::table::Call;
use crate::api::compat::told::{DESCRIPTION, Host, VERSION, metrics as counted, size_text, uptime_text};
use crate::api::server::Control;
use crate::listeners::ListenerView;
use crate::sys::{datetime, unix_time};
use serde_json::{Map, Value, json};

fn broker_row(control: &Control) -> Value {
    json!({
        "version": VERSION,
        "sysdescr": DESCRIPTION,
        "uptime": uptime_text(control),
        "datetime": datetime(unix_time()),
        "otp_release": null,
        "node_status": "Running",
    })
}

pub(super) async fn brokers(call: Call) -> Answer {
    let mut row = broker_row(&call.control);
    row["name"] = call.control.counters.node().into();
    Ok(Told(json!([row])))
}

pub(super) async fn broker(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told(broker_row(&call.control)))
}

fn node_row(control: &Control) -> Value {
    let host = Host::now();
    let [load1, load5, load15] = host.loads.map(|load| format!("{load:.2}"));
    json!({
        "name": control.counters.node(),
        "otp_release": null,
        "memory_total": host.memory.map(size_text),
        "memory_used": host.process.resident.map(size_text),
        "process_available": null,
        "process_used": null,
        "max_fds": host.process.max_files,
        "clients": control.hub.stats().clients,
        "node_status": "Running",
        "load1": load1,
        "load5": load5,
        "load15": load15,
    })
}

pub(super) async fn nodes(call: Call) -> Answer {
    Ok(Told(json!([node_row(&call.control)])))
}

pub(super) async fn node(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told(node_row(&call.control)))
}

/// EMQ's words: `mqtt:tcp`, `mqtt:ssl`, `mqtt:ws`, `mqtt:wss`.
fn listener_row(listener: &ListenerView) -> Value {
    let kind = if listener.kind == "tls" {
        "ssl"
    } else {
        listener.kind
    };
    json!({
        "protocol": format!("{}:{kind}", listener.protocol),
        "listen": listener.address,
        "acceptors": null,
        "max_clients": listener.max_connections,
        "current_clients": listener.connections,
        "shutdown_count": listener.refused,
    })
}

fn listener_rows(control: &Control) -> Value {
    let views = control.live.listeners().views();
    views.iter().map(listener_row).collect()
}

/// In a list, below the node's name: EMQ has one for each node.
fn by_node(control: &Control, value: Value) -> Answer {
    Ok(Told(json!([{ control.counters.node(): value }])))
}

pub(super) async fn listeners(call: Call) -> Answer {
    let rows = listener_rows(&call.control);
    by_node(&call.control, rows)
}

pub(super) async fn listeners_of(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told(listener_rows(&call.control)))
}

fn all_metrics(control: &Control) -> Value {
    let all = counted(&control.counters.snapshot()).into_iter();
    let all: Map<String, Value> = all.map(|(name, value)| (name, value.into())).collect();
    Value::Object(all)
}

pub(super) async fn metrics(call: Call) -> Answer {
    let all = all_metrics(&call.control);
    by_node(&call.control, all)
}

pub(super) async fn metrics_of(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told(all_metrics(&call.control)))
}

fn all_stats(control: &Control) -> Value {
    let snapshot = control.counters.snapshot();
    let (bus, peaks) = (&snapshot.bus, &snapshot.peaks);
    let counts = [
        ("clients", bus.clients, peaks.clients),
        ("sessions", bus.sessions, peaks.sessions),
        ("topics", bus.filters, peaks.filters),
        ("routes", bus.filters, peaks.filters),
        ("subscribers", bus.subscriptions, peaks.subscriptions),
        ("subscriptions", bus.subscriptions, peaks.subscriptions),
        ("retained", bus.retained, peaks.retained),
    ];
    let named = counts.into_iter().flat_map(|(name, count, peak)| {
        [
            (format!("{name}/count"), count.into()),
            (format!("{name}/max"), peak.into()),
        ]
    });
    Value::Object(named.collect())
}

pub(super) async fn stats(call: Call) -> Answer {
    let all = all_stats(&call.control);
    by_node(&call.control, all)
}

pub(super) async fn stats_of(call: Call) -> Answer {
    of_this_node(&call)?;
    Ok(Told(all_stats(&call.control)))
}

pub(super) async fn alarms(call: Call) -> Answer {
    of_this_node(&call)?;
    let (active, _) = call.control.alarms.lists();
    let row = |alarm: crate::alarms::Alarm| {
        json!({
            "id": alarm.id,
            "severity": alarm.severity.name(),
            "title": alarm.id,
            "summary": alarm.summary,
            "occurred_at": datetime(alarm.raised),
        })
    };
    Ok(Told(active.into_iter().map(row).collect()))
}
