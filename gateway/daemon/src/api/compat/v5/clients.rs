//! Clients, connected or not.

use super::{Answer, Told, asked_of_this_node, bad_request, list as entries, no_client, page, span, time};
use crate::api::compat::deeds;
use crate::api::compat::pages::walk;
use crate::api::compat::table::Call;
use crate::api::compat::told::{connected_at, disconnected_at, is_connected, protocol_name};
use crate::api::server::Control;
use headgate_bus::{ClientInfo, SessionInfo};
use headgate_model::ClientId;
use headgate_model::bus::NEVER;
use serde_json::{Value, json};

fn client_row(control: &Control, session: &SessionInfo) -> Value {
    let (info, who) = (&session.client, &session.client.presence);
    let listener = crate::api::clients::listener_of(control, who);
    let expiry = session.expiry;
    let mut row = json!({
        "node": control.counters.node(),
        "clientid": info.client.as_str(),
        "username": who.username.as_deref(),
        "proto_name": protocol_name(info),
        "proto_ver": who.version,
        "ip_address": who.peer.to_string(),
        "port": who.peer_port,
        "listener": listener,
        "connected": is_connected(info),
        "connected_at": connected_at(control, info).map(time),
        "keepalive": who.keep_alive,
        "clean_start": who.clean_start,
        "expiry_interval": if expiry < NEVER { expiry.as_secs() } else { u64::from(u32::MAX) },
        "is_bridge": session.is_link,
        "is_expired": false,
        "durable": info.durable,
        "subscriptions_cnt": info.subscriptions,
        "inflight_cnt": info.inflight,
        "inflight_max": session.receive_maximum,
        "mqueue_len": info.queued,
        "awaiting_rel_cnt": session.awaiting_release,
    });
    if let Some(at) = disconnected_at(control, info) {
        row["disconnected_at"] = time(at).into();
    }
    row
}

/// What a list may be filtered by.
const FILTERS: &[&str] = &[
    "clientid",
    "username",
    "ip_address",
    "conn_state",
    "clean_start",
    "proto_ver",
    "like_clientid",
    "like_username",
    "gte_connected_at",
    "lte_connected_at",
];

/// RFC 3339, or milliseconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    if let Ok(millis) = text.parse::<u64>() {
        return Some(millis / 1_000);
    }
    super::bans::unix_seconds(text)
}

fn wants(call: &Call, info: &ClientInfo) -> bool {
    let who = &info.presence;
    let user = who.username.as_deref().unwrap_or_default();
    // Of a name that stands several times, any will do.
    let is = |name: &'static str, known: &str| {
        call.query.get(name).is_none() || call.query.all(name).any(|wanted| wanted == known)
    };
    let holds = |name: &str, known: &str| call.query.get(name).is_none_or(|part| known.contains(part));
    let at = connected_at(&call.control, info);
    let bound = |name: &str| call.query.get(name).and_then(seconds);
    let state = if is_connected(info) {
        "connected"
    } else {
        "disconnected"
    };
    is("clientid", info.client.as_str())
        && is("username", user)
        && is("ip_address", &who.peer.to_string())
        && is("conn_state", state)
        && is("clean_start", &who.clean_start.to_string())
        && is("proto_ver", &who.version.to_string())
        && holds("like_clientid", info.client.as_str())
        && holds("like_username", user)
        && bound("gte_connected_at").is_none_or(|from| at.is_some_and(|at| at >= from))
        && bound("lte_connected_at").is_none_or(|until| at.is_some_and(|at| at <= until))
}

/// With those fields alone that are wanted.
fn cut(mut row: Value, fields: Option<&str>) -> Value {
    if let (Some(fields), Some(row)) = (fields.filter(|fields| *fields != "all"), row.as_object_mut()) {
        let wanted: Vec<&str> = fields.split(',').collect();
        row.retain(|name, _| wanted.contains(&name.as_str()));
    }
    row
}

pub(super) async fn list(call: Call) -> Answer {
    let (span, control) = (span(&call)?, &call.control);
    asked_of_this_node(&call)?;
    let rows = |after: Option<&ClientId>, limit| control.hub.clients(after.map(ClientId::as_str), limit);
    let found = walk(span, rows, |info| wants(&call, &info).then_some(info.client)).await;
    let fields = call.query.get("fields");
    let found = found.filter_map(|client| {
        let session = control.hub.session(client.as_str())?;
        Some(cut(client_row(control, &session), fields))
    });
    let count = (!call.query.has_any(FILTERS)).then(|| control.hub.stats().sessions);
    page(span, count, found)
}

pub(super) async fn one(call: Call) -> Answer {
    let session = call.control.hub.session(&call.path[0]).ok_or_else(no_client)?;
    Ok(Told::Json(client_row(&call.control, &session)))
}

pub(super) async fn kick(call: Call) -> Answer {
    match deeds::end(&call.control, &call.path[0]) {
        true => Ok(Told::Done),
        false => Err(no_client()),
    }
}

/// Also where some of them are not there.
pub(super) async fn kick_all(call: Call) -> Answer {
    for client in entries(&call)? {
        let client = client.as_str().ok_or_else(|| bad_request("texts are expected"))?;
        deeds::end(&call.control, client);
        tokio::task::yield_now().await;
    }
    Ok(Told::Done)
}

/// There is no such cache here: rules are cut down to each client's, and changed where they are.
fn of_connected(call: &Call, told: Told) -> Answer {
    let session = call.control.hub.session(&call.path[0]);
    match session.is_some_and(|session| is_connected(&session.client)) {
        true => Ok(told),
        false => Err(no_client()),
    }
}

pub(super) async fn cache(call: Call) -> Answer {
    of_connected(&call, Told::Json(json!([])))
}

pub(super) async fn clean_cache(call: Call) -> Answer {
    of_connected(&call, Told::Done)
}
