//! `/api/v1/snapshot`: a copy of the store for `headgate export`, made while the gateway runs.

use super::Control;
use super::routes::Routes;
use super::server::{Answer, Done, Failure};
use crate::archive::{self, ArchiveError, Holds, Snapshot};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::Administrator;
use headgate_bus::handle::Hub;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;
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

async fn make(State(control): State<Control>) -> Answer<Snapshot> {
    let data_dir = control.counters.data_dir();
    let _stays = data_dir.begin_long_work().map_err(failed)?;
    let folder = data_dir.now().to_owned();
    let made = snapshot(&folder, &control.hub).await;
    Ok(Json(made.map_err(failed)?))
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The folder, or the disk.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store works on something.
    #[error("the store found no moment to be copied in")]
    Late,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] headgate_bus::QueryError),
}

/// Makes a copy of the store.
pub(crate) async fn snapshot(data_dir: &Path, hub: &Hub) -> Result<Snapshot, SnapshotError> {
    let (folder, name) = archive::empty_snapshot(data_dir)?;
    let made = timeout(PATIENCE, hub.snapshot_store(folder.clone())).await;
    let files = made.map_err(|_| SnapshotError::Late)?;
    let files = files.map_err(|error| match archive::no_room_for_links(&folder) {
        Some(full) => SnapshotError::Archive(full),
        None => error.into(),
    })?;
    let stats = hub.stats();
    let holds = Holds {
        sessions: stats.durable_sessions,
        subscriptions: stats.durable_subscriptions,
        queued: hub.store_stats().queued,
        retained: stats.durable_retained,
        delayed: stats.delayed,
        damage: Vec::new(),
    };
    Ok(Snapshot {
        folder,
        name,
        files: files.into_iter().map(|file| (file.name, file.bytes)).collect(),
        holds,
    })
}

/// Which copy.
#[derive(Deserialize, JsonSchema)]
struct Which {
    name: String,
}

async fn forget(State(control): State<Control>, Query(which): Query<Which>) -> Answer<Done> {
    archive::forget_snapshot(&control.counters.data_dir().now(), &which.name).map_err(failed)?;
    Ok(Json(Done {}))
}
