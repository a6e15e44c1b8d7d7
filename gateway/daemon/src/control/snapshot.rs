//! `/api/v1/snapshot`: a copy of the store for `headgate export`, made while the gateway runs.

use super::Control;
use super::server::{Answer, Failure};
use crate::archive::{self, Holds};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// How long the store may take to find a moment for it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Router<Control> {
    Router::new().route("/api/v1/snapshot", post(make).delete(forget))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// What is in the folder afterwards, and what that holds.
async fn make(State(control): State<Control>) -> Answer {
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
    let files: Vec<_> = files.iter().map(|file| (&file.name, file.bytes)).collect();
    Ok(Json(
        json!({ "folder": folder, "name": name, "files": files, "holds": holds }),
    ))
}

/// Which copy.
#[derive(Deserialize)]
struct Which {
    name: String,
}

async fn forget(State(control): State<Control>, Query(which): Query<Which>) -> Answer {
    archive::forget_snapshot(control.counters.data_dir(), &which.name).map_err(failed)?;
    Ok(Json(json!({})))
}
