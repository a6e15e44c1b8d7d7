//! What the gateway counts, and how it is.

use super::Control;
use super::routes::Routes;
use crate::metrics::{Family, Snapshot};
use crate::recovery::RecoveryView;
use crate::whereabouts::absolute;
use axum::extract::State;
use axum::response::Json;
use headgate_admin::Role::Viewer;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(Viewer, "/metrics", "Gives all that is counted.", metrics)
        .get(Viewer, "/status", "Says how the gateway is.", status)
        .get(
            Viewer,
            "/slow",
            "Lists clients that take long to acknowledge.",
            slow,
        )
}

async fn metrics(State(control): State<Control>) -> Json<Vec<Family>> {
    let survey = control.counters.survey().await;
    Json(control.counters.snapshot().families(&survey))
}

/// A client that takes long to acknowledge.
#[derive(Serialize, JsonSchema)]
struct SlowRow {
    client: String,
    /// How long the last deliveries took.
    seconds: usize,
}

async fn slow(State(control): State<Control>) -> Json<Vec<SlowRow>> {
    let survey = control.counters.survey().await;
    let row = |(client, seconds): &(String, usize)| SlowRow {
        client: client.clone(),
        seconds: *seconds,
    };
    Json(survey.slow.iter().map(row).collect())
}

/// How the gateway is.
#[derive(Serialize, JsonSchema)]
struct Status {
    node: String,
    version: &'static str,
    pid: u32,
    uptime_seconds: u64,
    ready: bool,
    not_ready_because: Vec<String>,
    /// What waits for the next start: a backup that is taken back.
    needs_restart: Vec<String>,
    clients: usize,
    sessions: usize,
    subscriptions: usize,
    retained: usize,
    queued: usize,
    memory: MemoryStatus,
    data_dir: DataDirStatus,
    store: StoreStatus,
    listeners: Vec<ListenerStatus>,
    bridges: Vec<BridgeStatus>,
    /// What is done because no uplink is connected; `null` without `recovery.after`.
    recovery: Option<RecoveryView>,
    alarms: Vec<AlarmStatus>,
}

#[derive(Serialize, JsonSchema)]
struct MemoryStatus {
    /// Bytes that count in the gateway's ledger.
    ledger_bytes: usize,
    /// As many may; `null`: no limit.
    max_bytes: Option<usize>,
    /// Bytes of the process, where the system tells them.
    process_bytes: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct DataDirStatus {
    /// Where the data are.
    path: PathBuf,
    /// Where `data_dir` wants them, if that is elsewhere.
    moves_to: Option<PathBuf>,
}

#[derive(Serialize, JsonSchema)]
struct StoreStatus {
    /// `disk` or `memory`.
    place: &'static str,
    /// It is on its way to the other one.
    moving: bool,
    disk_bytes: u64,
    disk_free_bytes: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct ListenerStatus {
    name: String,
    /// Of a socket for datagrams, its clients; `null` where they cannot be counted.
    connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct BridgeStatus {
    name: String,
    state: String,
    queued: u64,
}

#[derive(Serialize, JsonSchema)]
struct AlarmStatus {
    id: String,
    severity: &'static str,
}

async fn status(State(control): State<Control>) -> Json<Status> {
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
        recovery,
        ..
    } = control.counters.snapshot();
    let listeners = listeners.iter().map(|listener| ListenerStatus {
        name: listener.name.to_string(),
        connections: Some(listener.connections as u64),
        accepted: Some(listener.accepted),
        refused: Some(listener.refused.iter().sum::<u64>()),
    });
    let datagrams = datagrams.iter().map(|socket| {
        let clients = socket.gauges.iter().find(|(name, _)| *name == "clients");
        ListenerStatus {
            name: socket.name.to_string(),
            connections: clients.map(|(_, clients)| *clients),
            accepted: None,
            refused: None,
        }
    });
    let bridges = bridges.iter().map(|bridge| BridgeStatus {
        name: bridge.name.clone(),
        state: bridge.state.to_owned(),
        queued: bridge.queue.messages,
    });
    let needs_restart = control.backups.needs_restart().into_iter().collect();
    let config = control.live.config().await;
    let alarms = alarms.iter().map(|(id, severity)| AlarmStatus {
        id: id.clone(),
        severity,
    });
    Json(Status {
        node: node.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        uptime_seconds: now.0 / 1_000,
        ready: obstacles.is_empty(),
        not_ready_because: obstacles.iter().map(ToString::to_string).collect(),
        needs_restart,
        clients: bus.clients,
        sessions: bus.sessions,
        subscriptions: bus.subscriptions,
        retained: bus.retained,
        queued: bus.queued,
        memory: MemoryStatus {
            ledger_bytes: bus.memory.used(),
            max_bytes: (bus.memory.max < usize::MAX).then_some(bus.memory.max),
            process_bytes: process.resident,
        },
        data_dir: DataDirStatus {
            path: absolute(&control.counters.data_dir().now()),
            moves_to: config.moves_to.as_deref().map(absolute),
        },
        store: StoreStatus {
            place: store.place.name(),
            moving: store.is_moving,
            disk_bytes: store.disk_bytes,
            disk_free_bytes: disk.map(|(free, _)| free),
        },
        listeners: listeners.chain(datagrams).collect(),
        bridges: bridges.collect(),
        recovery,
        alarms: alarms.collect(),
    })
}
