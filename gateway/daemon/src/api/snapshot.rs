//! `/api/v1/snapshot`: a copy of the store for `headgate export`, made while the gateway runs.

use super::Control;
use super::routes::Routes;
use super::server::{Answer, Done, Failure};
use crate::archive::{self, Holds};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::Administrator;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// How long the store may take to find a moment for it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Routes {
    Routes::default()
        .post(
            Administrator,
            "/snapshot",
            "Makes a copy of the store in the data folder.",
            make,
        )
        .delete(
            Administrator,
            "/snapshot",
            "Throws a copy of the store away.",
            forget,
        )
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// A copy of the store.
#[derive(Serialize, JsonSchema)]
struct SnapshotView {
    /// On the gateway.
    folder: PathBuf,
    /// By which it is thrown away.
    name: String,
    /// Names and bytes.
    files: Vec<(String, u64)>,
    /// What is in them.
    holds: Holds,
}

async fn make(State(control): State<Control>) -> Answer<SnapshotView> {
    let data_dir = control.counters.data_dir();
    let (folder, name) = archive::empty_snapshot(data_dir).map_err(failed)?;
    let made = timeout(PATIENCE, control.hub.snapshot_store(folder.clone())).await;
    let files = made
        .map_err(|_| failed("the store found no moment to be copied in"))?
        .map_err(|error| match archive::no_room_for_links(&folder) {
            Some(full) => failed(full),
            None => failed(error),
        })?;
    let stats = control.hub.stats();
    let holds = Holds {
        sessions: stats.sessions,
        subscriptions: stats.subscriptions,
        queued: control.hub.store_stats().queued,
        retained: stats.retained,
        delayed: stats.delayed,
        damage: Vec::new(),
    };
    let files = files.into_iter().map(|file| (file.name, file.bytes)).collect();
    Ok(Json(SnapshotView {
        folder,
        name,
        files,
        holds,
    }))
}

/// Which copy.
#[derive(Deserialize, JsonSchema)]
struct Which {
    name: String,
}

async fn forget(State(control): State<Control>, Query(which): Query<Which>) -> Answer<Done> {
    archive::forget_snapshot(control.counters.data_dir(), &which.name).map_err(failed)?;
    Ok(Json(Done {}))
}
