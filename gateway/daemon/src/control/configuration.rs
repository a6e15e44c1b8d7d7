//! What a running gateway can be asked about its configuration.

use super::server::{Answer, Control, Failure};
use crate::live::{Applied, ApplyError, Live, Preview};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/configuration", get(show))
        .route("/api/v1/configuration/preview", post(preview))
        .route("/api/v1/configuration/apply", post(apply))
        .route("/api/v1/configuration/confirm", post(confirm))
        .route("/api/v1/configuration/rollback", post(roll_back))
        .route("/api/v1/configuration/history", get(history))
        .route("/api/v1/configuration/history/{number}", get(show_earlier))
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let status = match &error {
            ApplyError::Config(_)
            | ApplyError::Bridge(_)
            | ApplyError::Access(_)
            | ApplyError::Listeners(_)
            | ApplyError::Log(_)
            | ApplyError::DataDir(_)
            | ApplyError::TooLong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApplyError::NoFile
            | ApplyError::Runs
            | ApplyError::InTheWay(_)
            | ApplyError::Unconfirmed
            | ApplyError::NothingToConfirm => StatusCode::CONFLICT,
            ApplyError::History(_) => StatusCode::NOT_FOUND,
            ApplyError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

/// Goes on although whoever asked has gone: a change is never left half done.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApplyError>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

async fn reload(State(Control { live, .. }): State<Control>) -> Result<Json<Applied>, Failure> {
    to_the_end(async move { live.reload().await }).await.map(Json)
}

/// A configuration in TOML.
#[derive(Deserialize)]
struct Given {
    toml: String,
    /// Where it comes from, for what is told of it.
    name: Option<PathBuf>,
    /// It goes back by itself after so many seconds unless it is confirmed.
    confirm_seconds: Option<u64>,
}

async fn preview(
    State(Control { live, .. }): State<Control>,
    Json(given): Json<Given>,
) -> Result<Json<Preview>, Failure> {
    Ok(Json(live.preview(given.name.as_deref(), given.toml).await?))
}

async fn apply(
    State(Control { live, .. }): State<Control>,
    Json(given): Json<Given>,
) -> Result<Json<Applied>, Failure> {
    let wait = given.confirm_seconds.map(Duration::from_secs);
    let work = async move { live.apply(given.name.as_deref(), given.toml, wait).await };
    to_the_end(work).await.map(Json)
}

async fn confirm(State(Control { live, .. }): State<Control>) -> Answer {
    to_the_end(async move { live.confirm().await }).await?;
    Ok(Json(json!({ "confirmed": true })))
}

/// Which one; without a number the one before.
#[derive(Deserialize)]
struct Earlier {
    number: Option<u64>,
}

async fn roll_back(
    State(Control { live, .. }): State<Control>,
    Json(Earlier { number }): Json<Earlier>,
) -> Result<Json<Applied>, Failure> {
    to_the_end(async move { live.roll_back(number).await })
        .await
        .map(Json)
}

async fn show(State(Control { live, .. }): State<Control>) -> Answer {
    Ok(Json(json!({ "toml": live.text().await? })))
}

async fn show_earlier(State(Control { live, .. }): State<Control>, Path(number): Path<u64>) -> Answer {
    Ok(Json(
        json!({ "number": number, "toml": live.text_of(number).await? }),
    ))
}

async fn history(State(Control { live, .. }): State<Control>) -> Answer {
    let (entries, confirm_until) = Live::history(&live).await;
    Ok(Json(
        json!({ "configurations": entries, "confirm_until": confirm_until }),
    ))
}
