//! Clients, sessions, subscriptions and routes. Who is connected is a client; who has a session is listed among the sessions.

use super::{Answer, Code, Kind, Params, Untold, done, objects, of_this_node, page, rows_of, span};
use crate::api::compat::deeds;
use crate::api::compat::pages::{Span, walk};
use crate::api::compat::table::Call;
use crate::api::compat::told::{connected_at, filters, has_filter, is_connected};
use crate::api::server::Control;
use crate::sys::datetime;
use headgate_bus::{ClientInfo, MAX_PAGE, SessionInfo, SubscriptionCursor, SubscriptionInfo};
use headgate_model::{ClientId, Subscription};
use serde_json::{Value, json};

fn client_row(control: &Control, info: &ClientInfo) -> Value {
    let who = &info.presence;
    json!({
        "client_id": info.client.as_str(),
        "username": who.username.as_deref(),
        "ipaddress": who.peer.to_string(),
        "port": who.peer_port,
        "clean_sess": who.clean_start,
        "proto_ver": who.version,
        "keepalive": who.keep_alive,
        "connected_at": connected_at(control, info).map(datetime),
    })
}

pub(super) async fn list(call: Call) -> Answer {
    of_this_node(&call)?;
    let (span, control) = (span(&call)?, &call.control);
    let clients = |after: Option<&ClientId>, limit| control.hub.clients(after.map(ClientId::as_str), limit);
    let found = walk(span, clients, |info| is_connected(&info).then_some(info)).await;
    let rows = rows_of(found, |info| client_row(control, &info));
    page(span, control.hub.stats().clients, rows)
}

pub(super) async fn of_node(call: Call) -> Answer {
    of_this_node(&call)?;
    one_of(&call.control, &call.path[1])
}

pub(super) async fn one(call: Call) -> Answer {
    one_of(&call.control, &call.path[0])
}

/// None is no error.
fn one_of(control: &Control, client: &str) -> Answer {
    let info = control.hub.session(client).map(|session| session.client);
    let info = info.filter(is_connected);
    objects(info.map(|info| client_row(control, &info)))
}

pub(super) async fn kick(call: Call) -> Answer {
    match deeds::disconnect(&call.control, &call.path[0]) {
        true => done(),
        false => Err(Untold::Code(Code::Offline, None)),
    }
}

/// There is no such cache here: rules are cut down to each client's, and changed where they are.
pub(super) async fn clean_acl_cache(call: Call) -> Answer {
    Params::of(&call, &[("topic", Kind::Text)])?;
    let session = call.control.hub.session(&call.path[0]);
    match session.is_some_and(|session| is_connected(&session.client)) {
        true => done(),
        false => Err(Untold::Code(Code::Offline, None)),
    }
}

fn session_row(session: &SessionInfo) -> Value {
    let client = &session.client;
    json!({
        "client_id": client.client.as_str(),
        "clean_sess": client.presence.clean_start,
        "subscriptions": client.subscriptions,
        "max_inflight": session.receive_maximum,
        "inflight_len": client.inflight,
        "mqueue_len": client.queued,
        "mqueue_dropped": null,
        "awaiting_rel_len": session.awaiting_release,
        "deliver_msg": null,
        "enqueue_msg": null,
        "created_at": null,
    })
}

pub(super) async fn sessions(call: Call) -> Answer {
    of_this_node(&call)?;
    let (span, control) = (span(&call)?, &call.control);
    let clients = |after: Option<&ClientId>, limit| control.hub.clients(after.map(ClientId::as_str), limit);
    let mut found = walk(span, clients, Some).await;
    let sessions = found.rows.drain(..);
    let sessions = sessions.filter_map(|info| control.hub.session(info.client.as_str()));
    let rows = sessions.map(|session| session_row(&session)).collect();
    page(span, control.hub.stats().sessions, rows)
}

pub(super) async fn session_of_node(call: Call) -> Answer {
    of_this_node(&call)?;
    session_with(&call.control, &call.path[1])
}

pub(super) async fn session(call: Call) -> Answer {
    session_with(&call.control, &call.path[0])
}

fn session_with(control: &Control, client: &str) -> Answer {
    objects(control.hub.session(client).map(|session| session_row(&session)))
}

fn subscription_row(client: &str, subscription: &Subscription) -> Value {
    json!({
        "client_id": client,
        "topic": subscription.to_text(),
        "qos": subscription.options.qos as u8,
    })
}

pub(super) async fn subscriptions(call: Call) -> Answer {
    of_this_node(&call)?;
    let (span, control) = (span(&call)?, &call.control);
    let all = |after: Option<&SubscriptionCursor>, limit| control.hub.all_subscriptions(after, limit);
    let found = walk(span, all, Some).await;
    let rows = rows_of(found, |SubscriptionInfo { client, subscription }| {
        subscription_row(client.as_str(), &subscription)
    });
    page(span, control.hub.stats().subscriptions, rows)
}

pub(super) async fn subscriptions_of_node(call: Call) -> Answer {
    of_this_node(&call)?;
    subscriptions_with(&call.control, &call.path[1]).await
}

pub(super) async fn subscriptions_of(call: Call) -> Answer {
    subscriptions_with(&call.control, &call.path[0]).await
}

/// The first of them, where there are more than one may ask for.
async fn subscriptions_with(control: &Control, client: &str) -> Answer {
    let page = control.hub.subscriptions(client, None, MAX_PAGE);
    let rows = page.into_iter().flat_map(|page| page.rows);
    objects(rows.map(|subscription| subscription_row(client, &subscription)))
}

fn route_row(control: &Control, filter: &str) -> Value {
    json!({ "topic": filter, "node": control.counters.node() })
}

pub(super) async fn routes(call: Call) -> Answer {
    let (span, control): (Span, _) = (span(&call)?, &call.control);
    let found = filters(control, span).await?;
    let rows = rows_of(found, |filter| route_row(control, &filter));
    page(span, control.hub.stats().filters, rows)
}

pub(super) async fn route(call: Call) -> Answer {
    let (control, filter) = (&call.control, &call.path[0]);
    let is_there = has_filter(control, filter);
    objects(is_there.then(|| route_row(control, filter)))
}
