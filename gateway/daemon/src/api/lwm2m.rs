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
        .get(
            Viewer,
            "/lwm2m/clients/{endpoint}/objects",
            "Gives the definitions of the objects of a client.",
            definitions,
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

/// What is known of a client.
pub(super) fn find(control: &Control, endpoint: &str) -> Result<Restored, Failure> {
    let session = format!("{LWM2M_SESSIONS}{}", endpoint.replace('%', "%25"));
    // It is the first that begins like this.
    let mut rows = control.hub.notes(&session, None, 1).rows;
    let found = rows.pop().filter(|found| found.client_id.as_str() == session);
    found.ok_or_else(|| {
        let what = format!("no client `{endpoint}` is registered: `headgate lwm2m list` shows who is");
        Failure(StatusCode::NOT_FOUND, what)
    })
}

async fn show(State(control): State<Control>, Path(endpoint): Path<String>) -> Answer<Value> {
    let found = find(&control, &endpoint)?;
    let (Some(mut row), Some(note)) = (row(&found), Lwm2mNote::parse(&found.note)) else {
        let what = format!("what `{endpoint}` said was written down by a later version");
        return Err(Failure(StatusCode::NOT_FOUND, what));
    };
    if let Some(info) = control.hub.session(found.client_id.as_str()) {
        // For the bus what the server has in memory is under way, also while its client sleeps.
        row["commands_waiting"] = (info.client.queued + info.client.inflight).into();
    }
    let supplies = supplies(&control, &note.listener).await;
    let objects = note.registration().objects().objects;
    let names = objects.keys().filter_map(|id| {
        let name = supplies.registry.object(*id)?.name.clone();
        Some((id.to_string(), Value::from(name)))
    });
    row["names"] = names.collect();
    Ok(Json(row))
}

/// The definitions of the objects of a client, as its listener has them.
async fn definitions(State(control): State<Control>, Path(endpoint): Path<String>) -> Answer<Value> {
    let found = find(&control, &endpoint)?;
    let Some(note) = Lwm2mNote::parse(&found.note) else {
        return Ok(Json(json!({ "rows": [] })));
    };
    let supplies = supplies(&control, &note.listener).await;
    let objects = note.registration().objects().objects;
    let rows = objects.keys().filter_map(|id| {
        let object = supplies.registry.object(*id)?;
        let resources = object.resources.values().map(|resource| {
            json!({
                "id": resource.id,
                "name": resource.name,
                "type": resource.kind.map(|kind| kind.name()),
                "read": resource.read,
                "write": resource.write,
                "execute": resource.execute,
                "multiple": resource.multiple,
                "mandatory": resource.mandatory,
                "units": resource.units,
                "range": resource.range,
            })
        });
        Some(json!({
            "id": object.id,
            "name": object.name,
            "version": object.version,
            "multiple": object.multiple,
            "mandatory": object.mandatory,
            "resources": resources.collect::<Vec<_>>(),
        }))
    });
    Ok(Json(json!({ "rows": rows.collect::<Vec<_>>() })))
}

/// What a listener knows beside what the gateway does; of one that is gone, that alone.
async fn supplies(control: &Control, listener: &str) -> Lwm2mSupplies {
    let config = control.live.config().await;
    let found = config.lwm2m.iter().find(|known| known.name == listener);
    found.map_or_else(Lwm2mSupplies::default, |known| known.gateway.supplies.clone())
}
