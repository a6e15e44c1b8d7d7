//! Of EMQX 5's `/api/v5`: messages, clients, subscriptions, topics, bans, retained messages, and what there is to be seen of the gateway. API keys by Basic
//! authentication, or a token of `POST /login`. Read in the sources of 5.8.
//!
//! What is not known here is not there. What EMQX has no word for: too many messages, or too many wrong passwords, are status 429.

mod bans;
mod clients;
mod monitoring;
mod publish;
mod queues;
mod retained;
mod session;
mod subscriptions;

use super::basic;
use super::pages::{Found, Span};
use super::table::{Call, Dialect, Stranger, Table, Turned};
use crate::api::guard::{self, Asking, By};
use crate::api::server::{Control, Failure};
use axum::Json;
use axum::http::header::{ALLOW, AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use headgate_access::ConnectionInfo;
use headgate_admin::Role::{Operator, Viewer};
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

pub(super) const PREFIX: &str = "/api/v5";

/// Rows of a list that is asked for without a limit, and the most of one.
const ROWS: usize = 100;
const MAX_ROWS: usize = 10_000;

/// All that can be asked.
pub(super) fn table() -> Table<V5> {
    let table = Table::below(PREFIX)
        .open(Method::POST, "login", session::log_in)
        .ask(Method::POST, Viewer, "logout", session::log_out)
        .open(Method::GET, "status", monitoring::status)
        .get("nodes", monitoring::nodes)
        .get("nodes/{node}", monitoring::node)
        .get("nodes/{node}/metrics", monitoring::metrics_of)
        .get("nodes/{node}/stats", monitoring::stats_of)
        .get("metrics", monitoring::metrics)
        .get("stats", monitoring::stats)
        .get("monitor_current", monitoring::current)
        .get("monitor_current/nodes/{node}", monitoring::current_of)
        .get("alarms", monitoring::alarms)
        .ask(Method::POST, Operator, "publish", publish::one)
        .ask(Method::POST, Operator, "publish/bulk", publish::bulk);
    let table = table
        .get("clients", clients::list)
        .change(
            Method::POST,
            Operator,
            "clients/kickout/bulk",
            "Disconnects clients, and ends their sessions.",
            clients::kick_all,
        )
        .get("clients/{client}", clients::one)
        .change(
            Method::DELETE,
            Operator,
            "clients/{client}",
            "Disconnects a client, and ends its session.",
            clients::kick,
        )
        .get("clients/{client}/authorization/cache", clients::cache)
        .ask(
            Method::DELETE,
            Operator,
            "clients/{client}/authorization/cache",
            clients::clean_cache,
        )
        .get("clients/{client}/mqueue_messages", queues::waiting)
        .get("clients/{client}/inflight_messages", queues::inflight)
        .get("clients/{client}/subscriptions", subscriptions::of_client)
        .change(
            Method::POST,
            Operator,
            "clients/{client}/subscribe",
            "Subscribes on behalf of a client.",
            subscriptions::subscribe,
        )
        .change(
            Method::POST,
            Operator,
            "clients/{client}/subscribe/bulk",
            "Subscribes on behalf of a client.",
            subscriptions::subscribe_all,
        )
        .change(
            Method::POST,
            Operator,
            "clients/{client}/unsubscribe",
            "Ends a subscription on behalf of a client.",
            subscriptions::unsubscribe,
        )
        .change(
            Method::POST,
            Operator,
            "clients/{client}/unsubscribe/bulk",
            "Ends subscriptions on behalf of a client.",
            subscriptions::unsubscribe_all,
        );
    table
        .get("subscriptions", subscriptions::list)
        .get("topics", subscriptions::topics)
        .get("topics/{topic...}", subscriptions::topic)
        .get("banned", bans::list)
        .change(
            Method::POST,
            Operator,
            "banned",
            "Keeps somebody out, and disconnects who is meant.",
            bans::create,
        )
        .change(
            Method::DELETE,
            Operator,
            "banned",
            "Lets everybody in again.",
            bans::clear,
        )
        .change(
            Method::DELETE,
            Operator,
            "banned/{as}/{who}",
            "Lets somebody in again.",
            bans::remove,
        )
        .get("mqtt/retainer/messages", retained::list)
        .change(
            Method::DELETE,
            Operator,
            "mqtt/retainer/messages",
            "Removes all retained messages.",
            retained::clear,
        )
        .get("mqtt/retainer/message/{topic...}", retained::one)
        .change(
            Method::DELETE,
            Operator,
            "mqtt/retainer/message/{topic...}",
            "Removes retained messages that a filter matches.",
            retained::remove,
        )
}

/// EMQX 5.
pub(super) struct V5;

impl Dialect for V5 {
    const PATHS_FIRST: bool = true;

    async fn identify(
        control: &Control,
        headers: &HeaderMap,
        info: Option<&ConnectionInfo>,
    ) -> Result<Asking, Turned> {
        if let Some(token) = bearer(headers) {
            let known = control.admin.session(token, true, guard::moment());
            let (who, csrf) = known.ok_or(Turned::Unknown(Stranger::Bearer))?;
            return Ok(Asking {
                who,
                from: info.map_or_else(String::new, |info| info.peer.to_string()),
                by: By::Session {
                    token: token.to_owned(),
                    csrf,
                },
            });
        }
        let (id, secret) = guard::basic(headers).ok_or(Turned::Unknown(Stranger::Nothing))?;
        basic::key(control, &id, &secret, info).ok_or(Turned::Unknown(Stranger::Basic))
    }

    fn turned(why: &Turned) -> Response {
        let told = |status, code: &str, message: &str| error(status, code, message);
        let mut response = match why {
            Turned::Unknown(Stranger::Nothing) => {
                let message = "Support authorization: basic/bearer ";
                told(StatusCode::UNAUTHORIZED, "AUTHORIZATION_HEADER_ERROR", message)
            }
            Turned::Unknown(Stranger::Basic) => {
                let message = "Check api_key/api_secret";
                told(StatusCode::UNAUTHORIZED, "BAD_API_KEY_OR_SECRET", message)
            }
            Turned::Unknown(Stranger::Bearer) => {
                let message = "Get a token by POST /login";
                return told(StatusCode::UNAUTHORIZED, "BAD_TOKEN", message);
            }
            Turned::NoPath => return told(StatusCode::NOT_FOUND, "NOT_FOUND", "Request Path Not Found"),
            Turned::NoMethod(allowed) => {
                return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, allowed.as_str())]).into_response();
            }
            Turned::Later(status, why) => return told(*status, code_of(*status), why),
            Turned::ForeignPage => {
                let message = "a page of another server may not ask for this";
                return told(StatusCode::FORBIDDEN, "UNAUTHORIZED_ROLE", message);
            }
            Turned::Role(..) => {
                let message = "You don't have permission to access this resource";
                return told(StatusCode::FORBIDDEN, "UNAUTHORIZED_ROLE", message);
            }
            Turned::Body(status) => return told(*status, "BAD_REQUEST", "the body cannot be read"),
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            let realm = "Basic Realm=\"emqx-dashboard\"".parse().expect("it is text");
            response.headers_mut().insert(WWW_AUTHENTICATE, realm);
        }
        response
    }
}

/// RFC 6750 §2.1
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// EMQX's words for what it does not answer itself.
fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::TOO_MANY_REQUESTS => "TOO_MANY_REQUESTS",
        StatusCode::SERVICE_UNAVAILABLE => "SERVICE_UNAVAILABLE",
        _ => "INTERNAL_ERROR",
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "code": code, "message": message }))).into_response()
}

/// What a handler answers.
type Answer = Result<Told, Untold>;

enum Told {
    /// 204
    Done,
    Json(Value),
    /// With a status that says more.
    With(StatusCode, Value),
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        match self {
            Self::Done => StatusCode::NO_CONTENT.into_response(),
            Self::Json(value) => Json(value).into_response(),
            Self::With(status, value) => (status, Json(value)).into_response(),
        }
    }
}

/// What was not done: a status, EMQX's word and a sentence.
#[derive(Debug)]
struct Untold(StatusCode, &'static str, String);

impl IntoResponse for Untold {
    fn into_response(self) -> Response {
        error(self.0, self.1, &self.2)
    }
}

impl From<Failure> for Untold {
    fn from(Failure(status, what): Failure) -> Self {
        Self(status, code_of(status), what)
    }
}

fn bad_request(message: impl Into<String>) -> Untold {
    Untold(StatusCode::BAD_REQUEST, "BAD_REQUEST", message.into())
}

fn invalid(message: impl Into<String>) -> Untold {
    Untold(StatusCode::BAD_REQUEST, "INVALID_PARAMETER", message.into())
}

fn no_client() -> Untold {
    let message = "Client ID not found";
    Untold(StatusCode::NOT_FOUND, "CLIENTID_NOT_FOUND", message.into())
}

/// This gateway by its name, or nobody.
fn of_this_node(call: &Call) -> Result<(), Untold> {
    match call.path.first() {
        Some(node) if *node == call.control.counters.node() => Ok(()),
        other => {
            let node = other.map_or("", String::as_str);
            let message = format!("Node not found: {node}");
            Err(Untold(StatusCode::NOT_FOUND, "NOT_FOUND", message))
        }
    }
}

/// The same where a query names it; none is this one.
fn asked_of_this_node(call: &Call) -> Result<(), Untold> {
    match call.query.get("node") {
        Some(node) if node != call.control.counters.node() => {
            let message = format!("bad rpc call <<\"{node}\">>, Reason <<\"invalid node\">>");
            Err(Untold(StatusCode::INTERNAL_SERVER_ERROR, "NODE_DOWN", message))
        }
        _ => Ok(()),
    }
}

/// The body.
fn body(call: &Call) -> Result<Value, Untold> {
    serde_json::from_slice(&call.body).map_err(|_| bad_request("Invalid json message received"))
}

/// A list in the body.
fn list(call: &Call) -> Result<Vec<Value>, Untold> {
    match body(call)? {
        Value::Array(list) => Ok(list),
        _ => Err(bad_request("an array is expected")),
    }
}

/// A text that must be there.
fn text<'v>(value: &'v Value, name: &str) -> Result<&'v str, Untold> {
    let text = value.get(name).and_then(Value::as_str);
    text.ok_or_else(|| bad_request(format!("{name}: a text is required")))
}

/// A number within bounds, or what it is by default.
fn number(value: &Value, name: &str, default: u64, most: u64) -> Result<u64, Untold> {
    let number = value.get(name).map_or(Some(default), Value::as_u64);
    let number = number.filter(|number| *number <= most);
    number.ok_or_else(|| bad_request(format!("{name}: a number from 0 to {most} is expected")))
}

/// Which page.
fn span(call: &Call) -> Result<Span, Untold> {
    let number = |name: &str, default, most| match call.query.get(name).map(str::parse::<usize>) {
        None => Ok(default),
        Some(Ok(number)) if (1..=most).contains(&number) => Ok(number),
        Some(_) => Err(bad_request(format!(
            "{name}: a number from 1 to {most} is expected"
        ))),
    };
    Ok(Span {
        page: number("page", 1, usize::MAX)?,
        limit: number("limit", ROWS, MAX_ROWS)?,
    })
}

/// Rows, and what is said of the page. How many there are on all pages is said where it is known: of a list that is filtered, on its last page.
fn page(span: Span, count: Option<usize>, found: Found<Value>) -> Answer {
    let is_last = !found.more && !found.rows.is_empty();
    let count = count.or_else(|| is_last.then(|| span.skipped() + found.rows.len()));
    let mut meta = Map::new();
    meta.insert("page".into(), span.page.into());
    meta.insert("limit".into(), span.limit.into());
    if let Some(count) = count {
        meta.insert("count".into(), count.into());
    }
    meta.insert("hasnext".into(), found.more.into());
    Ok(Told::Json(json!({ "data": found.rows, "meta": meta })))
}

/// `2026-11-22T21:17:37.000+00:00`
fn time(seconds: u64) -> String {
    let time = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_secs(seconds));
    time.to_string().replace('Z', "+00:00")
}
