//! `/api/v1/alarms`: what needs an operator, and what did.

use super::Control;
use super::routes::Routes;
use crate::alarms::Alarm;
use axum::extract::State;
use axum::response::Json;
use headgate_admin::Role::Viewer;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) fn routes() -> Routes {
    Routes::default().get(
        Viewer,
        "/alarms",
        "Lists alarms that stand, and those that are over.",
        list,
    )
}

/// All alarms.
#[derive(Serialize, JsonSchema)]
struct AlarmLists {
    /// Those that stand.
    active: Vec<Alarm>,
    /// Those that are over, the latest first.
    history: Vec<Alarm>,
}

async fn list(State(control): State<Control>) -> Json<AlarmLists> {
    let (active, history) = control.alarms.lists();
    Json(AlarmLists { active, history })
}
