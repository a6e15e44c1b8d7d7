//! Why somebody may do something or not, and whom it would concern.

use super::routes::Routes;
use super::server::{Control, Failure};
use crate::config;
use crate::firmware::against_command;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use bytes::Bytes;
use headgate_admin::Role::Viewer;
use headgate_auth::{AuthSettings, Ban, Foreseen, Prospect, RuleView};
use headgate_bus::Receivers;
use headgate_model::access::AccessQuery;
use headgate_model::bus::PeerName;
use headgate_model::{
    AccessPolicy, ClientId, Message, Naming, Qos, SubscriptionOptions, Topic, TopicFilter, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Sessions, retained messages and bridges that are named.
const NAMED: usize = 20;

pub(super) fn routes() -> Routes {
    Routes::default()
        .ask(
            Viewer,
            "/explain",
            "Says which rule lets a client publish or subscribe, or keeps it from it.",
            explain,
        )
        .get(
            Viewer,
            "/acl",
            "Lists the rules in the order in which they are asked.",
            rules,
        )
}

/// Of which listener; left out, of one of which nothing else is said.
#[derive(Deserialize, JsonSchema)]
struct Of {
    listener: Option<String>,
}

async fn rules(State(control): State<Control>, Query(of): Query<Of>) -> Result<Json<RuleRows>, Failure> {
    if let Some(name) = &of.listener
        && control.live.listeners().naming(name).is_none()
    {
        return Err(no_listener(&control, name));
    }
    // An entry of a list for datagrams goes by its own name among the rules.
    let listener = of.listener.unwrap_or_default();
    let listener = listener.rsplit('/').next().unwrap_or_default().to_owned();
    let own = own_rules(&control, &listener).await;
    let mut rules = control.access.rules(&listener);
    for rule in &mut rules {
        rule.rule = with_listener(&rule.rule, own);
    }
    Ok(Json(RuleRows { rows: rules }))
}

/// Rules, the first first.
#[derive(Serialize, JsonSchema)]
struct RuleRows {
    rows: Vec<RuleView>,
}

fn no_listener(control: &Control, name: &str) -> Failure {
    let what = match control.live.listeners().full_name(name, "") {
        Some(full) if full != name => {
            format!("there is no listener `{name}` for connections; that for datagrams is `{full}`")
        }
        _ => format!("there is no listener `{name}` for clients: `headgate listeners` shows all"),
    };
    Failure(StatusCode::NOT_FOUND, what)
}

/// The place of a listener in `auth.listeners`, if it has rules of its own.
async fn own_rules(control: &Control, listener: &str) -> Option<usize> {
    let config = control.live.config().await;
    let own = &config.auth.listeners;
    own.iter()
        .position(|own| own.name == listener && own.acl.is_some())
}

/// The name of a rule, of a listener's own if it has some.
fn with_listener(rule: &str, own: Option<usize>) -> String {
    match own {
        Some(n) => rule.replace("auth.acl[", &format!("auth.listeners[{n}].acl[")),
        None => rule.to_owned(),
    }
}

/// Who wants what.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    client: String,
    /// Left out: as the client is connected, or nobody.
    user: Option<String>,
    /// Left out: as the client is connected, or from this machine.
    address: Option<IpAddr>,
    /// At which listener; left out, at the one that the client is connected by, or at one of which nothing else is said.
    listener: Option<String>,
    /// This or `subscribe`: the topic that it wants to publish to.
    publish: Option<String>,
    /// The filter that it wants to subscribe to.
    subscribe: Option<String>,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
}

enum Wish {
    Publish(String),
    Subscribe(String),
}

/// The answer.
#[derive(Serialize, JsonSchema)]
struct Explained {
    client: String,
    /// The name by which it is let in.
    user: Option<String>,
    /// The name that it says, if that is another.
    said_user: Option<String>,
    /// Why it would not be let in, whatever it shows; bans are told apart.
    not_let_in: Option<String>,
    address: IpAddr,
    /// By which listener it comes, with the list if it is one for datagrams; of one that is not connected, as it was asked.
    listener: Option<String>,
    /// What keeps it out altogether.
    banned: Option<Ban>,
    /// Whether anything of this gateway's has this client id: a session, or an entry of the configuration.
    client_is_known: bool,
    /// Whether anybody can be let in by this user name; also true without one.
    user_is_known: bool,
    /// The name on the bus: with the mount point, and rewritten.
    topic: String,
    allowed: bool,
    /// The rule that decides, or what else does.
    by: String,
    /// Where that rule stands.
    at: Option<String>,
    /// Some of what the filter matches is not delivered.
    narrowed: bool,
    /// Sessions that would get the message.
    sessions: usize,
    first_sessions: Vec<String>,
    /// Sessions that subscribed to it, and may not read it.
    kept_from: usize,
    /// Shared subscriptions that would get it.
    shared_subscriptions: usize,
    /// At the topic of commands about updates: why its commands are not done, or an empty text where they are.
    against_command: Option<String>,
    /// Bridges that would carry it.
    bridges: Vec<String>,
    /// Retained messages that it would replace, or that would be sent to the subscriber: the first of them.
    retained: Vec<String>,
    /// There are more than that.
    more_retained: bool,
}

async fn explain(
    State(control): State<Control>,
    Json(asked): Json<Asked>,
) -> Result<Json<Explained>, Failure> {
    let wrong = |what: String| Failure(StatusCode::UNPROCESSABLE_ENTITY, what);
    let wish = match (&asked.publish, &asked.subscribe) {
        (Some(topic), None) => Wish::Publish(topic.clone()),
        (None, Some(filter)) => Wish::Subscribe(filter.clone()),
        _ => {
            return Err(wrong(
                "one of `publish` and `subscribe` says what is wanted".into(),
            ));
        }
    };
    let qos = Qos::from_u8(asked.qos)
        .ok_or_else(|| wrong(format!("QoS {} is out of range, allowed is 0 to 2", asked.qos)))?;
    let listener = asked
        .listener
        .clone()
        .or_else(|| listener_of(&control, &asked.client));
    let naming = match &listener {
        None => Naming {
            rewriter: control.live.listeners().rewriter(),
            ..Naming::default()
        },
        Some(name) => {
            let naming = control.live.listeners().naming(name);
            naming.ok_or_else(|| no_listener(&control, name))?
        }
    };
    let full_name = listener;
    let (said, address) = who(&control, &asked, full_name.as_deref());
    let client_is_known = knows_client(&control, &control.live.config().await.auth, &asked.client);
    let listener = full_name.as_deref().unwrap_or_default();
    // An entry of a list for datagrams goes by its own name among the rules.
    let listener = listener.rsplit('/').next().unwrap_or_default();
    let connected = as_connected(&control, &asked);
    let foreseen = match has_session_as(&control, &asked.client, said.as_deref()) || connected.is_some() {
        true => Foreseen::LetIn(said.as_deref().map(Arc::from)),
        false => foresee(
            &control,
            listener,
            full_name.as_deref(),
            &asked.client,
            said.as_deref(),
            address,
        ),
    };
    let (user, not_let_in) = match foreseen {
        Foreseen::LetIn(user) => (user.as_deref().map(str::to_owned), None),
        Foreseen::Refused(why) => (said.clone(), Some(why.into_owned())),
    };
    let policy = connected.unwrap_or_else(|| {
        control
            .access
            .policy(listener, &asked.client, user.as_deref(), address)
    });
    let ban_of = |user: &Option<String>| control.access.ban_of(&asked.client, user.as_deref(), address);
    let banned = ban_of(&said).or_else(|| ban_of(&user));
    let client = ClientId::from(asked.client.as_str());
    let gate = naming.gate(&client, Some(&policy));
    let mut explained = Explained {
        client: asked.client.clone(),
        banned,
        client_is_known,
        user_is_known: said.is_none() || (user.is_some() && not_let_in.is_none()),
        listener: full_name.clone(),
        said_user: said.filter(|said| user.as_ref() != Some(said)),
        user,
        not_let_in,
        address,
        topic: String::new(),
        allowed: true,
        by: String::new(),
        at: None,
        narrowed: false,
        sessions: 0,
        first_sessions: Vec::new(),
        kept_from: 0,
        shared_subscriptions: 0,
        against_command: None,
        bridges: Vec::new(),
        retained: Vec::new(),
        more_retained: false,
    };
    let by: Cow<'static, str> = match &wish {
        Wish::Publish(topic) => {
            let parsed = Topic::try_from(topic.as_str());
            let topic = parsed.map_err(|error| wrong(format!("`{topic}` is not a topic name: {error}")))?;
            let message = Message {
                qos,
                retain: asked.retain,
                ..Message::new(topic, Bytes::new())
            };
            match gate.publish(message) {
                Verdict::Admitted(message) => {
                    let by = policy.why(AccessQuery::publish(message.topic.as_bytes(), qos, asked.retain));
                    publish(&control, &message, &mut explained);
                    let config = control.live.config().await;
                    let user = explained.user.as_deref();
                    let commands = &config.firmware.commands;
                    explained.against_command = against_command(commands, &config.node, &message, user);
                    by
                }
                Verdict::Refused(refused) => {
                    explained.allowed = false;
                    explained.topic = String::from_utf8_lossy(refused.wanted.name()).into_owned();
                    refused.why(Some(&policy))
                }
                Verdict::Ask(_) => "the access service is asked".into(),
            }
        }
        Wish::Subscribe(filter) => {
            let options = SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            };
            match gate.subscribe(&Bytes::from(filter.clone()), options) {
                Verdict::Admitted(subscription) => {
                    let filter = &subscription.filter;
                    explained.topic = subscription.to_text();
                    explained.narrowed = policy.narrows(filter.as_bytes());
                    let shared = subscription.share.is_some();
                    if !shared {
                        would_get(&control, filter, policy.as_ref(), &mut explained);
                    }
                    policy.why(AccessQuery::subscribe(filter.as_bytes(), qos))
                }
                Verdict::Refused(refused) => {
                    explained.allowed = false;
                    explained.topic = String::from_utf8_lossy(refused.wanted.name()).into_owned();
                    refused.why(Some(&policy))
                }
                Verdict::Ask(_) => "the access service is asked".into(),
            }
        }
    };
    explained.by = match &explained.not_let_in {
        Some(why) => {
            explained.allowed = false;
            format!("it is not let in: {why}")
        }
        None => with_listener(&by, own_rules(&control, listener).await),
    };
    explained.at = place(&control, &explained.by).await;
    Ok(Json(explained))
}

/// The listener that a client is connected by.
fn listener_of(control: &Control, client: &str) -> Option<String> {
    let presence = control.hub.session(client)?.client.presence;
    super::clients::listener_of(control, &presence)
}

/// Whether there is such a client, or could be one by the configuration.
fn knows_client(control: &Control, auth: &AuthSettings, client: &str) -> bool {
    let is_configured = auth.client_ids.iter().any(|login| login.id == client);
    is_configured || control.hub.session(client).is_some()
}

/// Whether there is a session of this client that was opened by this name: then it was let in by it.
fn has_session_as(control: &Control, client: &str, user: Option<&str>) -> bool {
    let known = control.hub.session(client);
    known.is_some_and(|info| user.is_some() && info.client.presence.username.as_deref() == user)
}

/// What would become of a client that shows what it should.
fn foresee(
    control: &Control,
    listener: &str,
    full_name: Option<&str>,
    client_id: &str,
    username: Option<&str>,
    address: IpAddr,
) -> Foreseen {
    let (certificates, keys) = control.live.listeners().takes(full_name);
    let asked = Prospect {
        client_id,
        username,
        address,
        certificates,
        keys,
    };
    tokio::task::block_in_place(|| control.access.foresee(listener, &asked))
}

/// The rules of a client that is connected, if it is asked about as it is: those of the listener that it came by.
fn as_connected(control: &Control, asked: &Asked) -> Option<Arc<dyn AccessPolicy>> {
    let as_it_is = asked.user.is_none() && asked.address.is_none() && asked.listener.is_none();
    let known = control.hub.session(&asked.client).filter(|_| as_it_is)?;
    known.client.presence.rules.policy().cloned()
}

/// By which name and from where: as it was said, as the client is connected, or as the listener's settings have it.
fn who(control: &Control, asked: &Asked, listener: Option<&str>) -> (Option<String>, IpAddr) {
    let known = control
        .hub
        .session(&asked.client)
        .map(|info| info.client.presence);
    let known_user = || known.as_ref()?.username.as_deref().map(str::to_owned);
    let configured_user = || control.live.listeners().user_of(listener?, &asked.client);
    let user = asked.user.clone().or_else(known_user).or_else(configured_user);
    let known_address = || match known.as_ref()?.peer {
        PeerName::Ip(address) => Some(address.to_canonical()),
        PeerName::Other(_) => None,
    };
    let address = asked.address.or_else(known_address);
    (user, address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

/// Whom a message would go to.
fn publish(control: &Control, message: &Message, explained: &mut Explained) {
    explained.topic = message.topic.to_string();
    let Receivers {
        clients,
        sessions,
        kept_from,
        groups,
    } = control.hub.receivers(&message.topic, headgate_bus::MAX_PAGE);
    let (bridges, others): (Vec<&str>, Vec<&str>) = clients
        .iter()
        .map(ClientId::as_str)
        .partition(|client| client.starts_with("$bridge/"));
    explained.sessions = sessions - bridges.len();
    explained.first_sessions = others.into_iter().take(NAMED).map(str::to_owned).collect();
    explained.kept_from = kept_from;
    explained.shared_subscriptions = groups;
    let name = |bridge: &str| bridge.trim_start_matches("$bridge/").to_owned();
    explained.bridges = bridges.into_iter().map(name).collect();
    if message.retain {
        let filter = TopicFilter::try_from(message.topic.as_str()).ok();
        let page = filter.map(|filter| control.hub.retained(&filter, None, 1));
        let rows = page.into_iter().flat_map(|page| page.rows);
        explained.retained = rows.map(|message| message.topic.to_string()).collect();
    }
}

/// What a subscriber would get at once.
fn would_get(control: &Control, filter: &TopicFilter, policy: &dyn AccessPolicy, explained: &mut Explained) {
    let page = control.hub.retained(filter, None, headgate_bus::MAX_PAGE);
    let readable = |message: &&Arc<Message>| !explained.narrowed || policy.may_read(message.topic.as_bytes());
    let mut rows = page.rows.iter().filter(readable);
    let retained = rows
        .by_ref()
        .take(NAMED)
        .map(|message| message.topic.to_string())
        .collect();
    explained.more_retained = rows.next().is_some() || page.next.is_some();
    explained.retained = retained;
}

/// `FILE:LINE` of a rule of the configuration. One of another file says it itself.
async fn place(control: &Control, rule: &str) -> Option<String> {
    if !rule.starts_with("auth.") || !rule.ends_with(']') {
        return None;
    }
    let (path, text) = control.live.file().await;
    config::place_of(&path, text, rule)
}
