//! Where clients connect.

use super::configuration::{Refused, to_the_end, with_changes};
use super::routes::{Changed, Routes};
use super::server::{Control, Failure};
use crate::config::{Edit, edited};
use crate::listeners::ListenerView;
use crate::live::Applied;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_access::ConnectionInfo;
use headgate_admin::Role::{Administrator, Viewer};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(Viewer, "/listeners", "Lists where clients connect.", list)
        .post(
            Administrator,
            "/listeners/{name}/stop",
            "Closes a listener, in the configuration; its clients hear goodbye.",
            stop,
        )
        .post(
            Administrator,
            "/listeners/{name}/start",
            "Opens a listener again, in the configuration.",
            start,
        )
}

/// All listeners.
#[derive(Serialize, JsonSchema)]
struct ListenerRows {
    rows: Vec<ListenerView>,
}

async fn list(State(control): State<Control>) -> Json<ListenerRows> {
    let rows = control.live.listeners().views();
    Json(ListenerRows { rows })
}

async fn stop(
    State(control): State<Control>,
    Path(name): Path<String>,
    info: Option<Extension<Arc<ConnectionInfo>>>,
) -> Result<Changed<Json<Applied>>, Refused> {
    if info.is_some_and(|Extension(info)| *info.listener == *name) {
        let what = "this listener answers you now: stop it from another one, or by the configuration with a time to confirm in";
        return Err(Failure(StatusCode::CONFLICT, what.into()).into());
    }
    enable(control, name, false).await
}

async fn start(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Result<Changed<Json<Applied>>, Refused> {
    enable(control, name, true).await
}

async fn enable(control: Control, name: String, enabled: bool) -> Result<Changed<Json<Applied>>, Refused> {
    let views = control.live.listeners().views();
    if !views.iter().any(|view| view.name == name) {
        let what = format!("there is no listener `{name}`");
        return Err(Failure(StatusCode::NOT_FOUND, what).into());
    }
    // One for datagrams has its list in its name.
    let (list, entry) = name.split_once('/').unwrap_or(("listeners", &name));
    let edit = Edit {
        path: format!("{list}[{entry}].enabled"),
        // That it is enabled goes without saying.
        value: if enabled {
            serde_json::Value::Null
        } else {
            false.into()
        },
        toml: None,
    };
    let text = edited(&control.live.text().await, &[edit]).map_err(Failure::from)?;
    let live = control.live.clone();
    let work = async move { live.apply(None, text, None).await };
    to_the_end(work).await.map(with_changes)
}
