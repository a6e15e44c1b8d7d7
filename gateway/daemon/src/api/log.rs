//! `/api/v1/log`: the last lines, those that come, and the level.

use super::Control;
use super::routes::{Changed, Lines, Routes};
use super::server::Failure;
use crate::config::level_fault;
use crate::log::{DestinationView, LevelView};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::{Operator, Viewer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/log",
            "Gives the last lines of the log, and those that come.",
            lines,
        )
        .get(
            Viewer,
            "/log/level",
            "Says the log's level, and where its lines go.",
            show,
        )
        .put(Operator, "/log/level", "Sets the log's level.", set)
        .delete(
            Operator,
            "/log/level",
            "Sets the log's level back to the configured one.",
            reset,
        )
}

/// Which lines.
#[derive(Deserialize, JsonSchema)]
struct WantedLines {
    /// How many of the last ones.
    #[serde(default = "all")]
    last: usize,
    /// And those that come, until the connection ends.
    #[serde(default)]
    follow: bool,
}

fn all() -> usize {
    usize::MAX
}

/// One JSON object a line.
async fn lines(
    State(control): State<Control>,
    Query(wanted): Query<WantedLines>,
) -> Lines<serde_json::Value> {
    let (last, tail) = control.log.ring().last(wanted.last);
    let begin = (VecDeque::from(last), wanted.follow.then_some(tail));
    let stream = futures_util::stream::unfold(begin, |(mut last, mut tail)| async {
        let line = match last.pop_front() {
            Some(line) => line,
            None => tail.as_mut()?.next().await?,
        };
        Some((Ok::<_, Infallible>(format!("{line}\n")), (last, tail)))
    });
    Lines::new(Body::from_stream(stream))
}

/// The level, and where lines go.
#[derive(Serialize, JsonSchema)]
struct LogState {
    #[serde(flatten)]
    level: LevelView,
    destinations: Vec<DestinationView>,
}

async fn show(State(control): State<Control>) -> Json<LogState> {
    Json(shown(&control))
}

fn shown(control: &Control) -> LogState {
    LogState {
        level: control.log.level(),
        destinations: control.log.destinations(),
    }
}

/// A level, and how long.
#[derive(Deserialize, JsonSchema)]
struct WantedLevel {
    level: String,
    /// Seconds; left out until the next restart.
    seconds: Option<u64>,
}

async fn set(
    State(control): State<Control>,
    Json(wanted): Json<WantedLevel>,
) -> Result<Changed<Json<LogState>>, Failure> {
    if let Some(fault) = level_fault(&wanted.level) {
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, fault));
    }
    let lasts = wanted.seconds.map(Duration::from_secs);
    change(&control, Some(wanted.level), lasts)
}

async fn reset(State(control): State<Control>) -> Result<Changed<Json<LogState>>, Failure> {
    change(&control, None, None)
}

fn change(
    control: &Control,
    level: Option<String>,
    lasts: Option<Duration>,
) -> Result<Changed<Json<LogState>>, Failure> {
    let before = control.log.level();
    let changed = control.log.set_level(level, lasts);
    changed.map_err(|error| Failure(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let shown = shown(control);
    tracing::info!(
        level = shown.level.level,
        seconds = lasts.map(|lasts| lasts.as_secs()),
        "the level of the log was set by an operator"
    );
    let after = shown.level.clone();
    Ok(Changed::new(Json(shown), Some(before), Some(after)))
}
