//! Clients of LwM2M as they registered. What is known of one is the note of its session, so that it is known also while the client is away.

use super::clients::Part;
use super::routes::Routes;
use super::server::{Answer, Control, Failure};
use crate::protocols::{LWM2M_SESSIONS, Lwm2mNote, Lwm2mSupplies};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::Viewer;
use headgate_model::datagram::Restored;
use serde_json::{Value, json};

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/lwm2m/clients",
            "Lists registered LwM2M clients, by endpoint name.",
            list,
        )
        .get(
            Viewer,
            "/lwm2m/clients/{endpoint}",
            "Shows a registered LwM2M client.",
            show,
        )
}

/// What a client said of itself; nothing of a note of a later version.
fn row(restored: &Restored) -> Option<Value> {
    let note = Lwm2mNote::parse(&restored.note)?;
    let registration = note.registration();
    let observed = note.observed.iter().map(|observed| {
        let paths = observed.paths.iter().map(ToString::to_string);
        json!({ "paths": paths.collect::<Vec<_>>(), "composite": observed.composite })
    });
    let mut said = registration.to_json();
    Some(json!({
        "endpoint": registration.endpoint,
        "user": restored.username.as_deref(),
        "connected": restored.attached,
        "listener": note.listener,
        "address": note.peer,
        "port": note.port,
        "lifetime_seconds": registration.lifetime,
        "version": registration.version,
        "binding": registration.binding,
        "queue_mode": registration.queue_mode,
        "sms": registration.sms,
        "alternate_path": said["alternatePath"].take(),
        "objects": said["objectList"].take(),
        "observations": observed.collect::<Vec<_>>(),
        "firmware": note.firmware,
        "ends_in_seconds": restored.ends_in.map(|left| left.as_secs()),
    }))
}

async fn list(State(control): State<Control>, Query(part): Query<Part>) -> Json<Value> {
    let page = control
        .hub
        .notes(LWM2M_SESSIONS, part.after.as_deref(), part.limit());
    let rows: Vec<Value> = page.rows.iter().filter_map(row).collect();
    Json(json!({ "rows": rows, "next": page.next.as_ref().map(|next| next.as_str()) }))
}

async fn show(State(control): State<Control>, Path(endpoint): Path<String>) -> Answer<Value> {
    let session = format!("{LWM2M_SESSIONS}{}", endpoint.replace('%', "%25"));
    // It is the first that begins like this.
    let page = control.hub.notes(&session, None, 1);
    let found = page
        .rows
        .first()
        .filter(|found| found.client_id.as_str() == session);
    let Some(mut row) = found.and_then(row) else {
        let what = format!("no client `{endpoint}` is registered: `headgate lwm2m list` shows who is");
        return Err(Failure(StatusCode::NOT_FOUND, what));
    };
    if let Some(info) = control.hub.session(&session) {
        // For the bus what the server has in memory is under way, also while its client sleeps.
        row["commands_waiting"] = (info.client.queued + info.client.inflight).into();
    }
    row["names"] = names(&row["objects"]);
    Ok(Json(row))
}

/// What the objects of a client are called, as far as it is known.
fn names(objects: &Value) -> Value {
    let registry = Lwm2mSupplies::default().registry;
    let objects = objects.as_array().into_iter().flatten().filter_map(Value::as_str);
    let names = objects.filter_map(|path| {
        let id = path.trim_start_matches('/').split('/').next()?;
        let name = registry.object(id.parse().ok()?)?.name.clone();
        Some((id.to_owned(), Value::from(name)))
    });
    names.collect()
}
