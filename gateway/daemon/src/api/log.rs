//! `/api/v1/log`: the last lines, those that come, and the level.

use super::Control;
use super::guard::Asking;
use super::routes::{Changed, Lines, Routes};
use super::server::Failure;
use super::streams::{LOOK_EVERY, Place};
use crate::config::level_fault;
use crate::log::{DestinationView, LevelView, Tail};
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::{Operator, Viewer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A year.
const MOST_SECONDS: u64 = 366 * 86_400;

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
    Extension(asking): Extension<Asking>,
    Query(wanted): Query<WantedLines>,
) -> Result<Lines<serde_json::Value>, Failure> {
    let place = wanted.follow.then(|| control.streams.take(&asking.who.name));
    let place = place.transpose()?;
    let (last, tail) = control.log.ring().last(wanted.last);
    let following = place.map(|place| Following {
        tail,
        control,
        asking,
        _place: place,
    });
    let begin = (VecDeque::from(last), following);
    let stream = futures_util::stream::unfold(begin, |(mut last, mut following)| async {
        let line = match last.pop_front() {
            Some(line) => line,
            None => following.as_mut()?.next().await?,
        };
        Some((Ok::<_, Infallible>(format!("{line}\n")), (last, following)))
    });
    Ok(Lines::new(Body::from_stream(stream)))
}

/// Somebody who follows the log.
struct Following {
    tail: Tail,
    control: Control,
    asking: Asking,
    _place: Place,
}

impl Following {
    /// The next line; `None` when nothing comes any more, or whoever asked may no more.
    async fn next(&mut self) -> Option<Arc<str>> {
        loop {
            if let Ok(line) = timeout(LOOK_EVERY, self.tail.next()).await {
                return line.filter(|_| self.asking.still_holds(&self.control));
            }
            if !self.asking.still_holds(&self.control) {
                return None;
            }
        }
    }
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
#[serde(deny_unknown_fields)]
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
    if wanted.seconds.is_some_and(|seconds| seconds > MOST_SECONDS) {
        let what = format!("`seconds` is out of range, allowed is up to {MOST_SECONDS}");
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what));
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
