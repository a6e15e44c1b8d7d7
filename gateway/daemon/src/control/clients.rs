//! Clients, their sessions and what they are subscribed to: lists by the page, and what an operator does with one of them.

use super::server::{Answer, Control, Failure};
use crate::protocols;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{delete, get};
use headgate_bus::{ClientInfo, DeliveryInfo, MAX_PAGE, SessionInfo, SubscriptionCursor, SubscriptionInfo};
use headgate_model::bus::{NEVER, Presence};
use headgate_model::link::INNER_CLIENT_IDS;
use headgate_model::{Admitted, MountPoint, Qos, Subscription, SubscriptionOptions, TopicError};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/api/v1/clients", get(list))
        .route("/api/v1/clients/{client}", get(show).delete(kick))
        .route(
            "/api/v1/clients/{client}/subscriptions",
            get(subscriptions).post(subscribe).delete(unsubscribe),
        )
        .route("/api/v1/sessions/{client}", delete(remove))
        .route("/api/v1/sessions/{client}/queue", get(queue).delete(purge))
        .route("/api/v1/subscriptions", get(all_subscriptions))
        .route("/api/v1/listeners", get(listeners))
}

/// Which part of a list.
#[derive(Deserialize)]
pub(super) struct Part {
    /// Behind this.
    pub after: Option<String>,
    /// Rows; no more than [`MAX_PAGE`].
    pub limit: Option<usize>,
}

impl Part {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE)
    }
}

fn unknown(client: &str) -> Failure {
    let what = format!("there is no client `{client}`, and no session of one");
    Failure(StatusCode::NOT_FOUND, what)
}

fn wrong_filter(filter: &str, error: &TopicError) -> Failure {
    let what = format!("`{filter}` is not a topic filter: {error}");
    Failure(StatusCode::UNPROCESSABLE_ENTITY, what)
}

fn client_row(info: &ClientInfo) -> Value {
    let who = &info.presence;
    json!({
        "client": info.client.as_str(),
        "user": who.username.as_deref(),
        "state": info.state.name(),
        "protocol": who.protocol.name,
        "version": version(who),
        "address": who.peer.to_string(),
        "port": who.peer_port,
        "keep_alive_seconds": who.keep_alive,
        "clean_start": who.clean_start,
        "durable": info.durable,
        "subscriptions": info.subscriptions,
        "queued": info.queued,
        "inflight": info.inflight,
    })
}

/// As the protocol writes it: MQTT numbers its versions, STOMP has them with a dot.
fn version(who: &Presence) -> Value {
    match who.protocol.name {
        protocols::STOMP => format!("{}.{}", who.version / 10, who.version % 10).into(),
        _ => who.version.into(),
    }
}

/// Sessions that a client has beside its own, by their names: one for each acknowledged subscription of STOMP, and for each observation of CoAP.
fn beside(control: &Control, client: &str) -> Vec<Value> {
    let beside = rows_beside(control, client);
    beside.iter().map(client_row).collect()
}

/// Throws a client out, by its client id or by the endpoint name that it has, with the sessions beside its own. How many sessions that were.
pub(super) fn throw_out(control: &Control, client: &str) -> usize {
    let escaped = client.replace('%', "%25").replace('/', "%2F");
    let inner = INNER_CLIENT_IDS.iter().map(|inner| format!("{inner}{escaped}"));
    let own = [client.to_owned()].into_iter().chain(inner);
    let own = own.filter(|id| control.hub.kick(id)).count();
    let beside = rows_beside(control, client);
    let beside = beside.iter().filter(|row| control.hub.kick(row.client.as_str()));
    own + beside.count()
}

fn rows_beside(control: &Control, client: &str) -> Vec<ClientInfo> {
    let client = client.replace('%', "%25").replace('/', "%2F");
    let mut found = Vec::new();
    for inner in INNER_CLIENT_IDS {
        let prefix = format!("{inner}{client}/");
        let mut after = Some(prefix.clone());
        while let Some(from) = after.take() {
            let page = control.hub.clients(Some(&from), MAX_PAGE);
            let of_client = |info: &&ClientInfo| info.client.as_str().starts_with(&prefix);
            let count = page.rows.iter().take_while(of_client).count();
            let all = count == page.rows.len();
            found.extend(page.rows.into_iter().take(count));
            after = page.next.filter(|_| all).map(|next| next.as_str().to_owned());
        }
    }
    found
}

fn subscription_row(subscription: &Subscription) -> Value {
    let options = &subscription.options;
    json!({
        "filter": subscription.to_text(),
        "qos": options.qos as u8,
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "identifier": Some(options.identifier).filter(|identifier| *identifier > 0),
    })
}

async fn list(State(control): State<Control>, Query(part): Query<Part>) -> Json<Value> {
    let page = control.hub.clients(part.after.as_deref(), part.limit());
    let rows: Vec<Value> = page.rows.iter().map(client_row).collect();
    Json(json!({ "rows": rows, "next": page.next.as_ref().map(|next| next.as_str()) }))
}

async fn show(State(control): State<Control>, Path(client): Path<String>) -> Answer {
    let info = control.hub.session(&client).ok_or_else(|| unknown(&client))?;
    let SessionInfo {
        client,
        expiry,
        ends_at,
        will,
        queued_bytes,
        stored,
        stored_bytes,
        inflight_bytes,
        receive_maximum,
        awaiting_release,
        is_link,
    } = info;
    let mut row = client_row(&client);
    let now = control.hub.clock().now();
    let more = json!({
        "expiry_seconds": (expiry < NEVER).then_some(expiry.as_secs()),
        "ends_in_seconds": ends_at.filter(|_| expiry < NEVER).map(|at| at.since(now).as_secs()),
        "will_topic": will.map(|will| will.message.topic.to_string()),
        "queued_bytes": queued_bytes,
        "queued_on_disk": stored,
        "queued_on_disk_bytes": stored_bytes,
        "inflight_bytes": inflight_bytes,
        "receive_maximum": receive_maximum,
        "awaiting_release": awaiting_release,
        "link": is_link,
        "sessions": beside(&control, row["client"].as_str().unwrap_or_default()),
    });
    if let (Some(row), Some(more)) = (row.as_object_mut(), more.as_object()) {
        row.extend(more.clone());
    }
    Ok(Json(row))
}

async fn kick(State(control): State<Control>, Path(client): Path<String>) -> Answer {
    if throw_out(&control, &client) == 0 {
        let what = format!("`{client}` is not connected");
        return Err(Failure(StatusCode::NOT_FOUND, what));
    }
    tracing::info!(client, "disconnected by an operator");
    Ok(Json(json!({ "kicked": client })))
}

async fn remove(State(control): State<Control>, Path(client): Path<String>) -> Answer {
    if !control.hub.remove_session(&client) {
        return Err(unknown(&client));
    }
    tracing::info!(client, "session removed by an operator");
    Ok(Json(json!({ "removed": client })))
}

async fn subscriptions(
    State(control): State<Control>,
    Path(client): Path<String>,
    Query(part): Query<Part>,
) -> Answer {
    let page = control
        .hub
        .subscriptions(&client, part.after.as_deref(), part.limit());
    let page = page.ok_or_else(|| unknown(&client))?;
    let rows: Vec<Value> = page.rows.iter().map(subscription_row).collect();
    Ok(Json(json!({ "rows": rows, "next": page.next })))
}

/// A place in the list of all subscriptions.
#[derive(Deserialize)]
struct SubscriptionsPart {
    client: Option<String>,
    name: Option<String>,
    limit: Option<usize>,
}

async fn all_subscriptions(
    State(control): State<Control>,
    Query(part): Query<SubscriptionsPart>,
) -> Json<Value> {
    let limit = part.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let after = part.client.map(|client| SubscriptionCursor {
        client: client.as_str().into(),
        text: part.name,
    });
    let page = control.hub.all_subscriptions(after.as_ref(), limit);
    let row = |info: &SubscriptionInfo| {
        let mut row = subscription_row(&info.subscription);
        row["client"] = info.client.as_str().into();
        row
    };
    let rows: Vec<Value> = page.rows.iter().map(row).collect();
    let next = page
        .next
        .map(|next| json!({ "client": next.client.as_str(), "name": next.text }));
    Json(json!({ "rows": rows, "next": next }))
}

/// A subscription on behalf of a client.
#[derive(Deserialize)]
struct Wanted {
    filter: String,
    #[serde(default)]
    qos: u8,
}

/// As it is on the bus: no mount point goes in front, and nothing is rewritten.
fn parsed(wanted: &Wanted) -> Result<Admitted<Subscription>, Failure> {
    let qos = Qos::from_u8(wanted.qos).ok_or_else(|| {
        let what = format!("QoS {} is out of range, allowed is 0 to 2", wanted.qos);
        Failure(StatusCode::UNPROCESSABLE_ENTITY, what)
    })?;
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    let filter = wanted.filter.as_str();
    let subscription = Subscription::parse(&filter.to_owned().into(), options, &MountPoint::default());
    let subscription = subscription.map_err(|error| wrong_filter(filter, &error))?;
    Ok(Admitted::of_gateway(subscription))
}

async fn subscribe(
    State(control): State<Control>,
    Path(client): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Answer {
    let granted = control.hub.subscribe_for(&client, parsed(&wanted)?);
    let granted = granted.ok_or_else(|| unknown(&client))?;
    let qos = granted.map_err(|refusal| Failure(StatusCode::CONFLICT, refusal.to_string()))?;
    tracing::info!(
        client,
        filter = wanted.filter,
        qos = qos as u8,
        "subscribed by an operator"
    );
    Ok(Json(
        json!({ "client": client, "filter": wanted.filter, "qos": qos as u8 }),
    ))
}

async fn unsubscribe(
    State(control): State<Control>,
    Path(client): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Answer {
    let existed = control.hub.unsubscribe_for(&client, parsed(&wanted)?);
    if !existed.ok_or_else(|| unknown(&client))? {
        let what = format!("`{client}` has no subscription to `{}`", wanted.filter);
        return Err(Failure(StatusCode::NOT_FOUND, what));
    }
    tracing::info!(client, filter = wanted.filter, "unsubscribed by an operator");
    Ok(Json(json!({ "client": client, "filter": wanted.filter })))
}

/// Which part of a queue: behind so many.
#[derive(Deserialize)]
struct QueuePart {
    #[serde(default)]
    after: usize,
    limit: Option<usize>,
}

async fn queue(
    State(control): State<Control>,
    Path(client): Path<String>,
    Query(part): Query<QueuePart>,
) -> Answer {
    let limit = part.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let queue = control.hub.queue(&client, part.after, limit);
    let queue = queue.ok_or_else(|| unknown(&client))?;
    let mut rows: Vec<Value> = queue.page.rows.iter().map(delivery_row).collect();
    // What waits in the store alone comes behind; the first of it is shown.
    let left = limit - rows.len().min(limit);
    if queue.page.next.is_none() && queue.stored > 0 && left > 0 {
        let stored = control.hub.stored_queue(&client, None, left).await;
        let stored = stored.map_err(|error| Failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
        rows.extend(stored.rows.iter().map(delivery_row));
    }
    Ok(Json(json!({
        "rows": rows,
        "next": queue.page.next,
        "on_disk": queue.stored,
        "on_disk_bytes": queue.stored_bytes,
    })))
}

fn delivery_row(delivery: &DeliveryInfo) -> Value {
    let message = &delivery.message;
    json!({
        "topic": message.topic.as_str(),
        "qos": delivery.qos as u8,
        "retain": message.retain,
        "bytes": message.payload.len(),
        "priority": delivery.priority,
        "inflight": delivery.inflight,
        "sent": delivery.sent,
    })
}

async fn purge(State(control): State<Control>, Path(client): Path<String>) -> Answer {
    let purged = control.hub.flush(&client).ok_or_else(|| unknown(&client))?;
    tracing::info!(client, purged, "queue emptied by an operator");
    Ok(Json(json!({ "client": client, "purged": purged })))
}

async fn listeners(State(control): State<Control>) -> Json<Value> {
    Json(json!({ "rows": control.live.listeners().views() }))
}
