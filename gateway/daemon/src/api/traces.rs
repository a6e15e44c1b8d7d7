//! `/api/v1/traces`: what one client, topic or address does, into a file.

use super::Control;
use super::routes::{Changed, Routes};
use super::server::Failure;
use crate::traces::{TraceError, TraceView, Wanted};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use headgate_admin::Role::{Operator, Viewer};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::io::ReaderStream;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(Viewer, "/traces", "Lists traces.", list)
        .post(
            Operator,
            "/traces",
            "Begins to write down what one client, topic or address does.",
            start,
        )
        .get(Operator, "/traces/{name}", "Gives what was written down.", show)
        .delete(Operator, "/traces/{name}", "Throws a trace away.", delete)
        .post(
            Operator,
            "/traces/{name}/stop",
            "Ends a trace; its file stays.",
            stop,
        )
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        let status = match &error {
            TraceError::Unknown(_) => StatusCode::NOT_FOUND,
            TraceError::Runs(_) | TraceError::TooMany | TraceError::TooManyKept => StatusCode::CONFLICT,
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
) -> Result<Changed<Json<TraceView>>, Failure> {
    let after = Some(wanted.clone());
    let started = control.traces.start(wanted).await?;
    Ok(Changed::new(Json(started), None::<()>, after))
}

/// What became of a trace.
#[derive(Serialize, JsonSchema)]
struct TraceDone {
    trace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
}

async fn stop(State(control): State<Control>, Path(trace): Path<String>) -> Result<Json<TraceDone>, Failure> {
    tokio::task::block_in_place(|| control.traces.stop(&trace))?;
    Ok(Json(TraceDone {
        trace,
        running: Some(false),
        deleted: None,
    }))
}

async fn delete(
    State(control): State<Control>,
    Path(trace): Path<String>,
) -> Result<Json<TraceDone>, Failure> {
    tokio::task::block_in_place(|| control.traces.delete(&trace))?;
    Ok(Json(TraceDone {
        trace,
        running: None,
        deleted: Some(true),
    }))
}

async fn show(State(control): State<Control>, Path(name): Path<String>) -> Result<Response, Failure> {
    let file = control.traces.open(&name)?;
    let file = ReaderStream::new(tokio::fs::File::from_std(file));
    Ok(Body::from_stream(file).into_response())
}
