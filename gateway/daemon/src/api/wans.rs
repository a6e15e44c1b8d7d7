//! `/api/v1/wans`: ways out of the gateway's own networks.

use super::Control;
use super::routes::Routes;
use crate::wans::WanView;
use axum::extract::State;
use axum::response::Json;
use headgate_admin::Role::Viewer;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) fn routes() -> Routes {
    Routes::default().get(
        Viewer,
        "/wans",
        "Lists ways out for bridges, in their order, and says which of them work.",
        list,
    )
}

/// All WANs.
#[derive(Serialize, JsonSchema)]
struct WanList {
    /// The name of the way out; `null` where there are none, or none ever had a link.
    active: Option<String>,
    /// How often another one became the way out, since the start.
    switches: u64,
    rows: Vec<WanView>,
}

async fn list(State(control): State<Control>) -> Json<WanList> {
    let wans = &control.wans;
    Json(WanList {
        active: wans.active(),
        switches: wans.switches(),
        rows: wans.views(),
    })
}
