//! `/api/v1/traces`: what one client, topic or address does, into a file.

use super::Control;
use super::server::Failure;
use crate::traces::{TraceError, TraceView, Wanted};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/api/v1/traces", get(list).post(start))
        .route("/api/v1/traces/{name}", get(show).delete(delete))
        .route("/api/v1/traces/{name}/stop", post(stop))
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        let status = match &error {
            TraceError::Unknown(_) => StatusCode::NOT_FOUND,
            TraceError::Runs(_) | TraceError::TooMany => StatusCode::CONFLICT,
            TraceError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self(status, error.to_string())
    }
}

async fn list(State(control): State<Control>) -> Json<Vec<TraceView>> {
    Json(control.traces.list())
}

async fn start(
    State(control): State<Control>,
    Json(wanted): Json<Wanted>,
) -> Result<Json<TraceView>, Failure> {
    Ok(Json(control.traces.start(wanted).await?))
}

async fn stop(State(control): State<Control>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    tokio::task::block_in_place(|| control.traces.stop(&name))?;
    Ok(Json(json!({ "trace": name, "running": false })))
}

async fn delete(State(control): State<Control>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    tokio::task::block_in_place(|| control.traces.delete(&name))?;
    Ok(Json(json!({ "trace": name, "deleted": true })))
}

async fn show(State(control): State<Control>, Path(name): Path<String>) -> Result<Body, Failure> {
    let file = control.traces.open(&name)?;
    Ok(Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(
        file,
    ))))
}
