//! The machine's clock, set by hand where no time service keeps it.

use super::routes::{Changed, Routes};
use super::server::{Control, Done, Failure};
use crate::sys::unix_time;
use crate::timekeeping::{self, Timekeeping};
use crate::timeline;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::Administrator;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::{Duration, UNIX_EPOCH};

/// No clock that is right says less: 2026-01-01, seconds since 1970.
const EARLIEST: u64 = timeline::EARLIEST / 1_000;

pub(super) fn routes() -> Routes {
    Routes::default().put(
        Administrator,
        "/system/clock",
        "Sets the clock of the machine, where the gateway may.",
        set,
    )
}

/// What the clock is to say.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewTime {
    /// Seconds since 1970, with a fraction.
    now: f64,
}

async fn set(
    State(control): State<Control>,
    Json(wanted): Json<NewTime>,
) -> Result<Changed<Json<Done>>, Failure> {
    let since = Duration::try_from_secs_f64(wanted.now).ok();
    let since = since.filter(|since| since.as_secs() >= EARLIEST);
    let Some(to) = since.and_then(|since| UNIX_EPOCH.checked_add(since)) else {
        let what = format!("now: seconds since 1970, not before 2026 ({EARLIEST})");
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what));
    };
    let refused = |what| Err(Failure(StatusCode::CONFLICT, what));
    if Timekeeping::look().synchronized == Some(true) {
        let what = "a time service keeps the clock right, and would set it back";
        return refused(what.to_owned());
    }
    let before = unix_time();
    if let Err(error) = timekeeping::set_clock(to) {
        return refused(format!("the gateway may not set the clock: {error}"));
    }
    control.clock.confirm();
    tracing::warn!(before, now = unix_time(), "the clock was set by hand");
    Ok(Changed::new(Json(Done {}), Some(before), Some(unix_time())))
}
