//! Clients, their sessions and what they are subscribed to: lists by the page, and what an operator does with one of them.

use super::routes::{Changed, Routes};
use super::server::{Answer, Control, Failure};
use crate::protocols;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::{Operator, Viewer};
use headgate_bus::{
    ClientInfo, ClientState, DeliveryInfo, MAX_PAGE, SessionInfo, StoredCursor, SubscriptionCursor,
    SubscriptionInfo,
};
use headgate_model::bus::{NEVER, PeerName, Presence};
use headgate_model::link::{INNER_CLIENT_IDS, RESERVED_CLIENT_ID};
use headgate_model::{Admitted, MountPoint, Qos, Subscription, SubscriptionOptions, TopicError, WallTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Clients that one question looks at, at most: who looks for something rare goes on with the cursor.
pub(super) const LOOKED_AT: usize = 20_000;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(Viewer, "/sessions", "Lists sessions: the same as clients.", list)
        .get(
            Viewer,
            "/sessions/{client}",
            "Shows a session: the same as its client.",
            show,
        )
        .get(
            Viewer,
            "/clients/by-id",
            "Shows a client whose id cannot be part of a path, such as `..`.",
            show_by_id,
        )
        .delete(
            Operator,
            "/clients/by-id",
            "Disconnects such a client.",
            kick_by_id,
        )
        .delete(
            Operator,
            "/sessions/by-id",
            "Ends such a client's session for good.",
            remove_by_id,
        )
        .get(
            Viewer,
            "/clients",
            "Lists clients that have a session, by client id.",
            list,
        )
        .get(
            Viewer,
            "/clients/{client}",
            "Shows all that is known of a client and its session.",
            show,
        )
        .delete(Operator, "/clients/{client}", "Disconnects a client.", kick)
        .get(
            Viewer,
            "/clients/{client}/subscriptions",
            "Lists what a client is subscribed to.",
            subscriptions,
        )
        .post(
            Operator,
            "/clients/{client}/subscriptions",
            "Subscribes on behalf of a client.",
            subscribe,
        )
        .delete(
            Operator,
            "/clients/{client}/subscriptions",
            "Ends a subscription on behalf of a client.",
            unsubscribe,
        )
        .delete(
            Operator,
            "/sessions/{client}",
            "Ends a session for good, with all that it holds.",
            remove,
        )
        .get(
            Viewer,
            "/sessions/{client}/queue",
            "Lists what is under way to a client and waits for it.",
            queue,
        )
        .delete(
            Operator,
            "/sessions/{client}/queue",
            "Throws away what waits for a client.",
            purge,
        )
        .get(
            Viewer,
            "/subscriptions",
            "Lists all subscriptions, by client id.",
            all_subscriptions,
        )
}

/// Which part of a list.
#[derive(Deserialize, JsonSchema)]
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

/// What a client may be.
const STATES: [&str; 7] = [
    "connected",
    "away",
    "asleep",
    "awake",
    "opening",
    "falling asleep",
    "leaving",
];

/// A part of a list.
#[derive(Serialize, JsonSchema)]
pub(super) struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// What `after` is for the next part; `null` at the end.
    pub next: Option<String>,
}

/// A client that has a session.
#[derive(Serialize, JsonSchema)]
pub(super) struct ClientRow {
    /// Client id.
    pub client: String,
    /// User name.
    pub user: Option<String>,
    /// `connected`, `away`, `asleep`, `awake`, `opening`, `falling asleep`, `leaving`.
    state: &'static str,
    /// What it speaks.
    pub protocol: &'static str,
    /// As the protocol writes it: MQTT numbers its versions, STOMP has them with a dot.
    version: Version,
    /// Where it comes from.
    pub address: String,
    /// 0 where there is none.
    pub port: u16,
    /// By which listener it came.
    listener: Option<String>,
    /// Since when it is connected, in seconds since 1970; `null` while it is away or asleep.
    connected_at: Option<u64>,
    /// Since when it is away or asleep, if it was here since the gateway was started.
    last_seen: Option<u64>,
    pub keep_alive_seconds: u16,
    pub clean_start: bool,
    /// Whether its session outlives its connection.
    durable: bool,
    subscriptions: usize,
    /// Messages that wait.
    queued: usize,
    /// Messages under way.
    inflight: usize,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Version {
    Number(u8),
    Text(String),
}

pub(super) fn client_row(control: &Control, info: &ClientInfo) -> ClientRow {
    let who = &info.presence;
    let epoch = control.hub.clock().epoch();
    let wall = |at| WallTime::of(at, epoch).0 / 1_000;
    ClientRow {
        client: info.client.as_str().to_owned(),
        user: who.username.as_deref().map(str::to_owned),
        state: info.state.name(),
        protocol: who.protocol.name,
        version: version(who),
        address: who.peer.to_string(),
        port: who.peer_port,
        listener: listener_of(control, who),
        connected_at: info.connected.map(wall),
        last_seen: info.left.map(wall),
        keep_alive_seconds: who.keep_alive,
        clean_start: who.clean_start,
        durable: info.durable,
        subscriptions: info.subscriptions,
        queued: info.queued,
        inflight: info.inflight,
    }
}

/// By which listener a client came; `None` where nothing says so.
pub(super) fn listener_of(control: &Control, who: &Presence) -> Option<String> {
    let listener = who.rules.policy()?.listener()?;
    control.live.listeners().full_name(&listener, who.protocol.name)
}

/// As the protocol writes it: MQTT numbers its versions, STOMP has them with a dot.
fn version(who: &Presence) -> Version {
    match who.protocol.name {
        protocols::STOMP => Version::Text(format!("{}.{}", who.version / 10, who.version % 10)),
        // Of a session whose client was not here since the start it is not known.
        _ if who.version == 0 => Version::Text(String::new()),
        _ => Version::Number(who.version),
    }
}

/// Sessions that a client has beside its own, by their names: one for each acknowledged subscription of STOMP, and for each observation of CoAP.
fn beside(control: &Control, client: &str) -> Vec<ClientRow> {
    let beside = rows_beside(control, client);
    beside.iter().map(|info| client_row(control, info)).collect()
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

/// A subscription.
#[derive(Serialize, JsonSchema)]
struct SubscriptionRow {
    /// Whose, where that is not said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// As on the bus.
    filter: String,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    /// Subscription Identifier. MQTT 5 §3.8.2.1.2
    identifier: Option<u32>,
}

fn subscription_row(client: Option<&str>, subscription: &Subscription) -> SubscriptionRow {
    let options = &subscription.options;
    SubscriptionRow {
        client: client.map(str::to_owned),
        filter: subscription.to_text(),
        qos: options.qos as u8,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        identifier: Some(options.identifier).filter(|identifier| *identifier > 0),
    }
}

/// Which clients.
#[derive(Deserialize, JsonSchema)]
struct Wished {
    /// A part of the client id, the user name or the address.
    search: Option<String>,
    /// Those that speak this.
    protocol: Option<String>,
    /// Those of this listener.
    listener: Option<String>,
    /// Those from this address or network.
    address: Option<headgate_access::Network>,
    /// Those in this state; `asleep` are also those that are awake for a moment.
    state: Option<String>,
    /// Those of this user name.
    user: Option<String>,
}

impl Wished {
    fn is_everything(&self) -> bool {
        let words = [
            &self.search,
            &self.protocol,
            &self.listener,
            &self.state,
            &self.user,
        ];
        words.iter().all(|word| word.is_none()) && self.address.is_none()
    }

    fn wants(&self, control: &Control, info: &ClientInfo) -> bool {
        let who = &info.presence;
        let is =
            |wanted: &Option<String>, known: &str| wanted.as_deref().is_none_or(|wanted| wanted == known);
        let state = || match info.state {
            ClientState::Awake | ClientState::FallingAsleep => self.state.as_deref() == Some("asleep"),
            _ => false,
        };
        let user = who.username.as_deref().unwrap_or_default();
        let has = |part: &String| {
            info.client.as_str().contains(&**part)
                || user.contains(&**part)
                || who.peer.to_string().contains(&**part)
        };
        is(&self.protocol, who.protocol.name)
            && (is(&self.state, info.state.name()) || state())
            && is(&self.user, user)
            && self.search.as_ref().is_none_or(has)
            && self
                .address
                .is_none_or(|network| matches!(who.peer, PeerName::Ip(address) if network.contains(address)))
            && self
                .listener
                .as_ref()
                .is_none_or(|wanted| listener_of(control, who).as_ref() == Some(wanted))
    }
}

async fn list(
    State(control): State<Control>,
    Query(part): Query<Part>,
    Query(wished): Query<Wished>,
) -> Answer<Rows<ClientRow>> {
    if let Some(unknown) = wished.state.as_deref().filter(|state| !STATES.contains(state)) {
        let what = format!("`{unknown}` is no state, allowed is {}", STATES.join(", "));
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    let spoken = protocols::spoken();
    if let Some(unknown) = wished.protocol.as_deref().filter(|name| !spoken.contains(name)) {
        let what = format!(
            "`{unknown}` is no protocol, allowed is {}",
            spoken.into_iter().collect::<Vec<_>>().join(", ")
        );
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    let limit = part.limit();
    let mut after = part.after;
    let mut rows = Vec::new();
    let mut looked_at = 0;
    // A page holds the bus's lock; what filters do not want makes another one.
    let page_size = if wished.is_everything() { limit } else { MAX_PAGE };
    loop {
        let page = control.hub.clients(after.as_deref(), page_size);
        looked_at += page.rows.len();
        let mut last = None;
        for info in page.rows.iter().filter(|info| wished.wants(&control, info)) {
            rows.push(client_row(&control, info));
            if rows.len() == limit {
                last = Some(info.client.as_str().to_owned());
                break;
            }
        }
        let next = page.next.map(|next| next.as_str().to_owned());
        let behind = page.rows.last().map(|info| info.client.as_str().to_owned());
        if last.is_some() {
            // There may be more of this page.
            let next = last.filter(|last| next.is_some() || behind.as_ref() != Some(last));
            return Ok(Json(Rows { rows, next }));
        }
        if next.is_none() || looked_at >= LOOKED_AT {
            return Ok(Json(Rows { rows, next }));
        }
        after = next;
        tokio::task::yield_now().await;
    }
}

/// All that is known of a client and its session.
#[derive(Serialize, JsonSchema)]
struct ClientView {
    #[serde(flatten)]
    client: ClientRow,
    /// How long the session lasts without a connection; `null`: for ever.
    expiry_seconds: Option<u64>,
    /// When the session of a client that is away ends.
    ends_in_seconds: Option<u64>,
    will_topic: Option<String>,
    queued_bytes: usize,
    /// Messages that wait in the store alone.
    queued_on_disk: usize,
    queued_on_disk_bytes: usize,
    inflight_bytes: usize,
    /// Messages that it takes without acknowledging one.
    receive_maximum: u16,
    /// Packet identifiers of QoS 2 that it has yet to release.
    awaiting_release: usize,
    /// Its other side is another broker.
    link: bool,
    /// Sessions that it has beside its own: observations of CoAP, subscriptions of STOMP.
    sessions: Vec<ClientRow>,
}

async fn show(State(control): State<Control>, Path(client): Path<String>) -> Answer<ClientView> {
    let info = session(&control, &client).ok_or_else(|| unknown(&client))?;
    let now = control.hub.clock().now();
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
        ..
    } = info;
    let row = client_row(&control, &client);
    let sessions = beside(&control, &row.client);
    Ok(Json(ClientView {
        client: row,
        expiry_seconds: (expiry < NEVER).then_some(expiry.as_secs()),
        ends_in_seconds: ends_at
            .filter(|_| expiry < NEVER)
            .map(|at| at.since(now).as_secs()),
        will_topic: will.map(|will| will.message.topic.to_string()),
        queued_bytes,
        queued_on_disk: stored,
        queued_on_disk_bytes: stored_bytes,
        inflight_bytes,
        receive_maximum,
        awaiting_release,
        link: is_link,
        sessions,
    }))
}

/// A session by the client id, or by the name that the client goes by in its protocol: an LwM2M client by its endpoint name.
pub(super) fn session(control: &Control, client: &str) -> Option<SessionInfo> {
    let own = control.hub.session(client);
    own.or_else(|| control.hub.session(&protocols::lwm2m_session(client)))
}

/// That a client was disconnected.
#[derive(Serialize, JsonSchema)]
struct Kicked {
    kicked: String,
}

/// What the gateway has for itself is run by its own means.
fn not_ours(client: &str) -> Result<(), Failure> {
    let what = match client.strip_prefix(RESERVED_CLIENT_ID) {
        Some(bridge) => format!("`{client}` is the queue of a bridge: see `/bridges/{bridge}`"),
        None if super::tail::is_ours(client) => format!("`{client}` is a stream of this API"),
        None => return Ok(()),
    };
    Err(Failure(StatusCode::CONFLICT, what))
}

async fn kick(State(control): State<Control>, Path(client): Path<String>) -> Answer<Kicked> {
    not_ours(&client)?;
    if throw_out(&control, &client) == 0 {
        let what = format!("`{client}` is not connected");
        return Err(Failure(StatusCode::NOT_FOUND, what));
    }
    tracing::info!(client, "disconnected by an operator");
    Ok(Json(Kicked { kicked: client }))
}

/// That a session is gone.
#[derive(Serialize, JsonSchema)]
struct Removed {
    removed: String,
}

async fn remove(State(control): State<Control>, Path(client): Path<String>) -> Answer<Removed> {
    not_ours(&client)?;
    if !control.hub.remove_session(&client) {
        return Err(unknown(&client));
    }
    tracing::info!(client, "session removed by an operator");
    Ok(Json(Removed { removed: client }))
}

async fn subscriptions(
    State(control): State<Control>,
    Path(client): Path<String>,
    Query(part): Query<Part>,
) -> Answer<Rows<SubscriptionRow>> {
    let page = control
        .hub
        .subscriptions(&client, part.after.as_deref(), part.limit());
    let page = page.ok_or_else(|| unknown(&client))?;
    let rows = page.rows.iter().map(|row| subscription_row(None, row)).collect();
    Ok(Json(Rows {
        rows,
        next: page.next,
    }))
}

/// A part of the list of all subscriptions: behind this client and this name of a subscription of it.
#[derive(Deserialize, JsonSchema)]
struct SubscriptionsPart {
    client: Option<String>,
    name: Option<String>,
    limit: Option<usize>,
}

/// A part of the list of all subscriptions.
#[derive(Serialize, JsonSchema)]
struct SubscriptionsPage {
    rows: Vec<SubscriptionRow>,
    next: Option<SubscriptionsNext>,
}

/// What to ask for the next part with.
#[derive(Serialize, JsonSchema)]
struct SubscriptionsNext {
    client: String,
    name: Option<String>,
}

async fn all_subscriptions(
    State(control): State<Control>,
    Query(part): Query<SubscriptionsPart>,
) -> Json<SubscriptionsPage> {
    let limit = part.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let after = part.client.map(|client| SubscriptionCursor {
        client: client.as_str().into(),
        text: part.name,
    });
    let page = control.hub.all_subscriptions(after.as_ref(), limit);
    let row = |info: &SubscriptionInfo| subscription_row(Some(info.client.as_str()), &info.subscription);
    Json(SubscriptionsPage {
        rows: page.rows.iter().map(row).collect(),
        next: page.next.map(|next| SubscriptionsNext {
            client: next.client.as_str().to_owned(),
            name: next.text,
        }),
    })
}

/// A subscription on behalf of a client.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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

/// What was granted.
#[derive(Clone, Serialize, JsonSchema)]
struct Granted {
    client: String,
    filter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
}

async fn subscribe(
    State(control): State<Control>,
    Path(client): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Result<Changed<Json<Granted>>, Failure> {
    not_ours(&client)?;
    let granted = control.hub.subscribe_for(&client, parsed(&wanted)?);
    let granted = granted.ok_or_else(|| unknown(&client))?;
    let qos = granted.map_err(|refusal| Failure(StatusCode::CONFLICT, refusal.to_string()))?;
    tracing::info!(
        client,
        filter = wanted.filter,
        qos = qos as u8,
        "subscribed by an operator"
    );
    let granted = Granted {
        client,
        filter: wanted.filter,
        qos: Some(qos as u8),
    };
    let after = Some(granted.clone());
    Ok(Changed::new(Json(granted), None::<()>, after))
}

async fn unsubscribe(
    State(control): State<Control>,
    Path(client): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Result<Changed<Json<Granted>>, Failure> {
    not_ours(&client)?;
    let existed = control.hub.unsubscribe_for(&client, parsed(&wanted)?);
    if !existed.ok_or_else(|| unknown(&client))? {
        let what = format!("`{client}` has no subscription to `{}`", wanted.filter);
        return Err(Failure(StatusCode::NOT_FOUND, what));
    }
    tracing::info!(client, filter = wanted.filter, "unsubscribed by an operator");
    let ended = Granted {
        client,
        filter: wanted.filter,
        qos: None,
    };
    let before = Some(ended.clone());
    Ok(Changed::new(Json(ended), before, None::<()>))
}

/// What `after` is of messages that wait in the store alone.
const ON_DISK: &str = "disk:";

/// A part of a queue.
#[derive(Serialize, JsonSchema)]
struct QueueView {
    rows: Vec<DeliveryRow>,
    /// What `after` is for the next part; `null` at the end.
    next: Option<String>,
    /// Messages that wait in the store alone, behind all others.
    on_disk: usize,
    on_disk_bytes: usize,
}

/// A message that waits, or is under way.
#[derive(Serialize, JsonSchema)]
struct DeliveryRow {
    topic: String,
    qos: u8,
    retain: bool,
    /// Of its payload.
    bytes: usize,
    /// Higher goes first.
    priority: u8,
    /// Handed to the client, and not acknowledged.
    inflight: bool,
    /// Handed to the client, on this connection or an earlier one.
    sent: bool,
}

async fn queue(
    State(control): State<Control>,
    Path(client): Path<String>,
    Query(part): Query<Part>,
) -> Answer<QueueView> {
    let limit = part.limit();
    let after = part.after.as_deref().unwrap_or("0");
    let wrong = || {
        Failure(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("`{after}` is no cursor"),
        )
    };
    let (in_memory, mut stored_after) = match after.strip_prefix(ON_DISK) {
        Some("") => (None, None),
        Some(cursor) => (None, Some(cursor.parse::<StoredCursor>().map_err(|_| wrong())?)),
        None => (Some(after.parse::<usize>().map_err(|_| wrong())?), None),
    };
    let behind = in_memory.unwrap_or(usize::MAX);
    let queue = control
        .hub
        .queue(&client, behind, limit)
        .ok_or_else(|| unknown(&client))?;
    let mut rows = Vec::new();
    let mut next = None;
    if in_memory.is_some() {
        rows.extend(queue.page.rows.iter().map(delivery_row));
        next = queue.page.next.map(|next| next.to_string());
    }
    // What waits in the store alone comes behind.
    let left = limit - rows.len().min(limit);
    if next.is_none() && queue.stored > 0 {
        next = Some(ON_DISK.to_owned());
        if left > 0 {
            let stored = control.hub.stored_queue(&client, stored_after.take(), left).await;
            let stored =
                stored.map_err(|error| Failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
            rows.extend(stored.rows.iter().map(delivery_row));
            next = stored.next.map(|next| format!("{ON_DISK}{next}"));
        }
    }
    Ok(Json(QueueView {
        rows,
        next,
        on_disk: queue.stored,
        on_disk_bytes: queue.stored_bytes,
    }))
}

fn delivery_row(delivery: &DeliveryInfo) -> DeliveryRow {
    let message = &delivery.message;
    DeliveryRow {
        topic: message.topic.to_string(),
        qos: delivery.qos as u8,
        retain: message.retain,
        bytes: message.payload.len(),
        priority: delivery.priority,
        inflight: delivery.inflight,
        sent: delivery.sent,
    }
}

/// How many messages were thrown away.
#[derive(Serialize, JsonSchema)]
struct Purged {
    client: String,
    purged: usize,
}

async fn purge(State(control): State<Control>, Path(client): Path<String>) -> Answer<Purged> {
    not_ours(&client)?;
    let purged = control.hub.flush(&client).ok_or_else(|| unknown(&client))?;
    tracing::info!(client, purged, "queue emptied by an operator");
    Ok(Json(Purged { client, purged }))
}

/// A client by its id.
#[derive(Deserialize, JsonSchema)]
struct ById {
    client: String,
}

async fn show_by_id(control: State<Control>, Query(ById { client }): Query<ById>) -> Answer<ClientView> {
    show(control, Path(client)).await
}

async fn kick_by_id(control: State<Control>, Query(ById { client }): Query<ById>) -> Answer<Kicked> {
    kick(control, Path(client)).await
}

async fn remove_by_id(control: State<Control>, Query(ById { client }): Query<ById>) -> Answer<Removed> {
    remove(control, Path(client)).await
}
