//! `/api/v1/metrics` and `/api/v1/status`: what the gateway counts, and how it is.

use super::Control;
use crate::metrics::{Family, Snapshot};
use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::get;
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/api/v1/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/slow", get(slow))
}

async fn metrics(State(control): State<Control>) -> Json<Vec<Family>> {
    let survey = control.counters.survey().await;
    Json(control.counters.snapshot().families(&survey))
}

async fn slow(State(control): State<Control>) -> Json<Vec<Value>> {
    let survey = control.counters.survey().await;
    let slow = survey.slow.iter();
    Json(
        slow.map(|(client, wait)| json!({ "client": client, "seconds": wait }))
            .collect(),
    )
}

async fn status(State(control): State<Control>) -> Json<Value> {
    let obstacles = control.counters.obstacles();
    let Snapshot {
        node,
        now,
        bus,
        store,
        listeners,
        datagrams,
        bridges,
        alarms,
        process,
        disk,
        ..
    } = control.counters.snapshot();
    let listeners = listeners.iter().map(|listener| {
        json!({
            "name": listener.name,
            "connections": listener.connections,
            "accepted": listener.accepted,
            "refused": listener.refused.iter().sum::<u64>(),
        })
    });
    let datagrams = datagrams.iter().map(|socket| {
        let clients = socket.gauges.iter().find(|(name, _)| *name == "clients");
        json!({ "name": socket.name, "connections": clients.map(|(_, clients)| clients) })
    });
    let bridges = bridges
        .iter()
        .map(|bridge| json!({ "name": bridge.name, "state": bridge.state, "queued": bridge.queue.messages }));
    Json(json!({
        "node": node,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": now.0 / 1_000,
        "ready": obstacles.is_empty(),
        "not_ready_because": obstacles,
        "needs_restart": control.live.needs_restart().await,
        "clients": bus.clients,
        "sessions": bus.sessions,
        "subscriptions": bus.subscriptions,
        "retained": bus.retained,
        "queued": bus.queued,
        "memory": { "ledger_bytes": bus.memory.used(), "max_bytes": (bus.memory.max < usize::MAX).then_some(bus.memory.max), "process_bytes": process.resident },
        "store": { "disk_bytes": store.disk_bytes, "disk_free_bytes": disk.map(|(free, _)| free) },
        "listeners": listeners.chain(datagrams).collect::<Vec<_>>(),
        "bridges": bridges.collect::<Vec<_>>(),
        "alarms": alarms.iter().map(|(id, severity)| json!({ "id": id, "severity": severity })).collect::<Vec<_>>(),
    }))
}
