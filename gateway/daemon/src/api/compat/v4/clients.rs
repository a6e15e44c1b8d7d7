//! Clients, connected or not, and what they are subscribed to.

use super::{Answer, Code, Told, Untold, of_this_node, page, span};
use crate::api::compat::deeds;
use crate::api::compat::pages::{Span, walk};
use crate::api::compat::table::Call;
use crate::api::compat::told::{connected_at, disconnected_at, is_connected, protocol_name};
use crate::api::server::Control;
use crate::sys::datetime;
use axum::http::StatusCode;
use headgate_bus::{ClientInfo, MAX_PAGE, SessionInfo, SubscriptionCursor, SubscriptionInfo};
use headgate_model::bus::NEVER;
use headgate_model::{ClientId, Share, Subscription, TopicFilter};
use serde_json::{Value, json};

fn client_row(control: &Control, session: &SessionInfo) -> Value {
    let (info, who) = (&session.client, &session.client.presence);
    let connected_at = connected_at(control, info).map(datetime);
    let mut row = json!({
        "node": control.counters.node(),
        "clientid": info.client.as_str(),
        "username": who.username.as_deref(),
        "proto_name": protocol_name(info),
        "proto_ver": who.version,
        "ip_address": who.peer.to_string(),
        "port": who.peer_port,
        "connected": is_connected(info),
        "connected_at": connected_at,
        "keepalive": who.keep_alive,
        "clean_start": who.clean_start,
        "expiry_interval": if session.expiry < NEVER { session.expiry.as_secs() } else { u64::from(u32::MAX) },
        "is_bridge": session.is_link,
        "subscriptions_cnt": info.subscriptions,
        "inflight": info.inflight,
        "max_inflight": session.receive_maximum,
        "mqueue_len": info.queued,
        "awaiting_rel": session.awaiting_release,
    });
    if let Some(at) = disconnected_at(control, info) {
        row["disconnected_at"] = datetime(at).into();
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
    "proto_name",
    "proto_ver",
    "_like_clientid",
    "_like_username",
    "_gte_connected_at",
    "_lte_connected_at",
];

fn wants(call: &Call, info: &ClientInfo) -> bool {
    let who = &info.presence;
    let user = who.username.as_deref().unwrap_or_default();
    let is = |name: &str, known: &str| call.query.get(name).is_none_or(|wanted| wanted == known);
    let holds = |name: &str, known: &str| call.query.get(name).is_none_or(|part| known.contains(part));
    let number = |name: &str| call.query.get(name).and_then(|text| text.parse::<u64>().ok());
    let at = connected_at(&call.control, info);
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
        && is("proto_name", protocol_name(info))
        && is("proto_ver", &who.version.to_string())
        && holds("_like_clientid", info.client.as_str())
        && holds("_like_username", user)
        && number("_gte_connected_at").is_none_or(|from| at.is_some_and(|at| at >= from))
        && number("_lte_connected_at").is_none_or(|until| at.is_some_and(|at| at <= until))
}

async fn clients(call: &Call) -> Answer {
    let (span, control) = (span(call)?, &call.control);
    let rows = |after: Option<&ClientId>, limit| control.hub.clients(after.map(ClientId::as_str), limit);
    let found = walk(span, rows, |info| wants(call, &info).then_some(info.client)).await;
    let is_filtered = call.query.has_any(FILTERS);
    let found = found.filter_map(|client| {
        let session = control.hub.session(client.as_str())?;
        Some(client_row(control, &session))
    });
    let count = (!is_filtered).then(|| control.hub.stats().sessions);
    page(span, count, found)
}

pub(super) async fn list(call: Call) -> Answer {
    clients(&call).await
}

pub(super) async fn list_of(call: Call) -> Answer {
    of_this_node(&call)?;
    clients(&call).await
}

/// None is no error.
fn client(control: &Control, client: &str) -> Answer {
    let session = control.hub.session(client);
    let rows = session.iter().map(|session| client_row(control, session));
    Ok(Told::Data(rows.collect()))
}

pub(super) async fn one(call: Call) -> Answer {
    client(&call.control, &call.path[0])
}

pub(super) async fn one_of(call: Call) -> Answer {
    of_this_node(&call)?;
    client(&call.control, &call.path[1])
}

pub(super) async fn of_user(call: Call) -> Answer {
    let control = &call.control;
    let rows = |after: Option<&ClientId>, limit| control.hub.clients(after.map(ClientId::as_str), limit);
    let all = Span {
        page: 1,
        limit: super::MAX_ROWS,
    };
    let user = Some(call.path[0].as_str());
    let found = walk(all, rows, |info| {
        (info.presence.username.as_deref() == user).then_some(info.client)
    });
    let found = found.await.filter_map(|client| {
        let session = control.hub.session(client.as_str())?;
        Some(client_row(control, &session))
    });
    Ok(Told::Data(found.rows.into()))
}

pub(super) async fn kick(call: Call) -> Answer {
    match deeds::end(&call.control, &call.path[0]) {
        true => Ok(Told::Done),
        false => Err(Untold::code(Code::Offline, "not_found")),
    }
}

/// There is no such cache here: rules are cut down to each client's, and changed where they are.
fn of_connected(call: &Call, told: Told) -> Answer {
    let session = call.control.hub.session(&call.path[0]);
    match session.is_some_and(|session| is_connected(&session.client)) {
        true => Ok(told),
        false => Err(Untold::code(Code::Offline, "not_found")),
    }
}

pub(super) async fn acl_cache(call: Call) -> Answer {
    of_connected(&call, Told::Data(json!([])))
}

pub(super) async fn clean_acl_cache(call: Call) -> Answer {
    of_connected(&call, Told::Done)
}

fn subscription_row(control: &Control, client: &str, subscription: &Subscription) -> Value {
    json!({
        "node": control.counters.node(),
        "clientid": client,
        "topic": subscription.to_text(),
        "qos": subscription.options.qos as u8,
    })
}

async fn all_subscriptions(call: &Call) -> Answer {
    let (span, control) = (span(call)?, &call.control);
    let get = |name| call.query.get(name);
    let wrong = || Untold::Status(StatusCode::BAD_REQUEST, "_match_topic is no topic filter".into());
    let matching = get("_match_topic").map(|filter| TopicFilter::try_from(filter).map_err(|_| wrong()));
    let matching = matching.transpose()?;
    let wants = |SubscriptionInfo { client, subscription }: &SubscriptionInfo| {
        let group = match &subscription.share {
            Some(Share::Group(group)) => Some(&group[..]),
            Some(Share::Queue) => Some(&b"$queue"[..]),
            None => None,
        };
        let filter = subscription.filter.as_str();
        get("clientid").is_none_or(|wanted| wanted == client.as_str())
            && get("topic").is_none_or(|wanted| wanted == filter)
            && get("share").is_none_or(|wanted| group == Some(wanted.as_bytes()))
            && get("qos").is_none_or(|wanted| wanted == (subscription.options.qos as u8).to_string())
            && matching
                .as_ref()
                .is_none_or(|wanted| wanted.matches(filter.as_bytes()))
    };
    let rows = |after: Option<&SubscriptionCursor>, limit| control.hub.all_subscriptions(after, limit);
    let found = walk(span, rows, |row| {
        let row = Some(row).filter(&wants)?;
        Some(subscription_row(control, row.client.as_str(), &row.subscription))
    });
    let found = found.await;
    // EMQX answers a list without pages here.
    if get("topic").is_some() {
        return Ok(Told::Data(found.rows.into()));
    }
    let is_filtered = call.query.has_any(&["clientid", "share", "qos", "_match_topic"]);
    let count = (!is_filtered).then(|| control.hub.stats().subscriptions);
    page(span, count, found)
}

pub(super) async fn subscriptions(call: Call) -> Answer {
    all_subscriptions(&call).await
}

pub(super) async fn subscriptions_of(call: Call) -> Answer {
    of_this_node(&call)?;
    all_subscriptions(&call).await
}

/// The first of them, where there are more than one may ask for.
fn of_client(control: &Control, client: &str) -> Answer {
    let page = control.hub.subscriptions(client, None, MAX_PAGE);
    let rows = page.into_iter().flat_map(|page| page.rows);
    let rows = rows.map(|subscription| subscription_row(control, client, &subscription));
    Ok(Told::Data(rows.collect()))
}

pub(super) async fn subscriptions_with(call: Call) -> Answer {
    of_client(&call.control, &call.path[0])
}

pub(super) async fn subscriptions_with_of(call: Call) -> Answer {
    of_this_node(&call)?;
    of_client(&call.control, &call.path[1])
}
