//! `/api/v1/alarms`: what needs an operator, and what did.

use super::Control;
use crate::alarms::Alarm;
use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::get;
use serde::Serialize;

pub(super) fn routes() -> Router<Control> {
    Router::new().route("/api/v1/alarms", get(list))
}

/// All alarms.
#[derive(Serialize)]
struct Lists {
    /// Those that stand.
    active: Vec<Alarm>,
    /// Those that are over, the latest first.
    history: Vec<Alarm>,
}

async fn list(State(control): State<Control>) -> Json<Lists> {
    let (active, history) = control.alarms.lists();
    Json(Lists { active, history })
}
