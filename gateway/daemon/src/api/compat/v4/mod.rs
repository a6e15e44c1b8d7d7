//! Of EMQX 4's `/api/v4`: messages, subscriptions, clients, bans, and what there is to be seen of the gateway. Basic authentication by API keys (EMQX's
//! applications) or administrators; everything in `{"code": 0, "data": …}`, lists with a `meta`. Read in the sources of 4.4.
//!
//! What is not known here is not there, or `null`. What EMQX has no word for, a role that is not enough, is status 403; too many messages, or too many wrong
//! passwords, 429; a store that takes nothing, 503.

mod bans;
mod clients;
mod monitoring;
mod mqtt;

use super::basic;
use super::pages::{Found, Span};
use super::table::{Call, Dialect, Table, Turned, Undone};
use crate::api::guard::Asking;
use crate::api::server::{Control, Failure};
use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use headgate_access::ConnectionInfo;
use headgate_admin::Role::Operator;
use serde_json::{Value, json};

pub(super) const PREFIX: &str = "/api/v4";

/// Rows of a list that is asked for without a limit, and the most of one.
const MAX_ROWS: usize = 10_000;

/// All that can be asked.
pub(super) fn table() -> Table<V4> {
    Table::below(PREFIX)
        .get("brokers", monitoring::brokers)
        .get("brokers/{node}", monitoring::broker)
        .get("nodes", monitoring::nodes)
        .get("nodes/{node}", monitoring::node)
        .get("stats", monitoring::stats)
        .get("nodes/{node}/stats", monitoring::stats_of)
        .get("metrics", monitoring::metrics)
        .get("nodes/{node}/metrics", monitoring::metrics_of)
        .get("alarms", monitoring::alarms)
        .get("alarms/activated", monitoring::activated)
        .get("alarms/deactivated", monitoring::deactivated)
        .get("nodes/{node}/alarms", monitoring::alarms_of)
        .get("nodes/{node}/alarms/activated", monitoring::activated_of)
        .get("nodes/{node}/alarms/deactivated", monitoring::deactivated_of)
        .get("clients", clients::list)
        .get("clients/{client}", clients::one)
        .get("clients/username/{user}", clients::of_user)
        .get("nodes/{node}/clients", clients::list_of)
        .get("nodes/{node}/clients/{client}", clients::one_of)
        .change(
            Method::DELETE,
            Operator,
            "clients/{client}",
            "Disconnects a client, and ends its session.",
            clients::kick,
        )
        .get("clients/{client}/acl_cache", clients::acl_cache)
        .ask(
            Method::DELETE,
            Operator,
            "clients/{client}/acl_cache",
            clients::clean_acl_cache,
        )
        .get("subscriptions", clients::subscriptions)
        .get("subscriptions/{client}", clients::subscriptions_with)
        .get("nodes/{node}/subscriptions", clients::subscriptions_of)
        .get(
            "nodes/{node}/subscriptions/{client}",
            clients::subscriptions_with_of,
        )
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
            "banned/{as}/{who}",
            "Lets somebody in again.",
            bans::remove,
        )
        .ask(Method::POST, Operator, "mqtt/publish", mqtt::publish)
        .ask(Method::POST, Operator, "mqtt/publish_batch", mqtt::publish_batch)
        .change(
            Method::POST,
            Operator,
            "mqtt/subscribe",
            "Subscribes on behalf of a client.",
            mqtt::subscribe,
        )
        .change(
            Method::POST,
            Operator,
            "mqtt/subscribe_batch",
            "Subscribes on behalf of clients.",
            mqtt::subscribe_batch,
        )
        .change(
            Method::POST,
            Operator,
            "mqtt/unsubscribe",
            "Ends a subscription on behalf of a client.",
            mqtt::unsubscribe,
        )
        .change(
            Method::POST,
            Operator,
            "mqtt/unsubscribe_batch",
            "Ends subscriptions on behalf of clients.",
            mqtt::unsubscribe_batch,
        )
}

/// EMQX 4.
pub(super) struct V4;

impl Dialect for V4 {
    const PATHS_FIRST: bool = false;

    async fn identify(
        control: &Control,
        headers: &HeaderMap,
        info: Option<&ConnectionInfo>,
    ) -> Result<Asking, Turned> {
        basic::identify(control, headers, info).await
    }

    fn turned(why: &Turned) -> Response {
        match why {
            Turned::Unknown(_) => {
                let realm = [(WWW_AUTHENTICATE, "Basic Realm=\"minirest-server\"")];
                (StatusCode::UNAUTHORIZED, realm, "UNAUTHORIZED").into_response()
            }
            Turned::NoPath | Turned::NoMethod(_) => not_found(),
            Turned::Later(status, why) => with_status(*status, Code::Unknown, why),
            Turned::ForeignPage => {
                let why = "a page of another server may not ask for this";
                with_status(StatusCode::FORBIDDEN, Code::Unknown, why)
            }
            Turned::Role(who, role) => {
                let (has, wants) = (who.role.name(), role.name());
                let why = format!("`{}` is {has}, this is for {wants}s", who.name);
                with_status(StatusCode::FORBIDDEN, Code::Unknown, &why)
            }
            Turned::Body(StatusCode::PAYLOAD_TOO_LARGE) => with_status(
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::Unknown,
                "the body is too large",
            ),
            Turned::Body(_) => bad_request(),
        }
    }
}

/// The type that EMQX gives its texts.
const TEXT: [(axum::http::HeaderName, &str); 1] = [(CONTENT_TYPE, "text/plain")];

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, TEXT, "Not found.").into_response()
}

fn bad_request() -> Response {
    (StatusCode::BAD_REQUEST, TEXT, "Bad Request").into_response()
}

fn with_status(status: StatusCode, code: Code, message: &str) -> Response {
    (status, Json(json!({ "code": code as u8, "message": message }))).into_response()
}

/// What a handler answers.
type Answer = Result<Told, Untold>;

enum Told {
    /// Nothing more is to be told.
    Done,
    Data(Value),
    /// A page, and what is said of it.
    Page(Vec<Value>, Value),
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        match self {
            Self::Done => Json(json!({ "code": 0 })).into_response(),
            Self::Data(data) => Json(json!({ "code": 0, "data": data })).into_response(),
            Self::Page(data, meta) => Json(json!({ "code": 0, "data": data, "meta": meta })).into_response(),
        }
    }
}

/// EMQX's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Unknown = 102,
    Missing = 107,
    Types = 108,
    Offline = 112,
    BadTopic = 115,
    BadQos = 116,
}

/// What was not done.
enum Untold {
    NotFound,
    BadRequest,
    /// By EMQX's code.
    Code(Code, String),
    /// EMQX has no word for it.
    Status(StatusCode, String),
}

impl Untold {
    fn code(code: Code, message: impl Into<String>) -> Self {
        Self::Code(code, message.into())
    }

    /// Of one entry of a batch.
    fn number(&self) -> u8 {
        match self {
            Self::Code(code, _) => *code as u8,
            Self::NotFound | Self::BadRequest | Self::Status(..) => Code::Unknown as u8,
        }
    }
}

impl IntoResponse for Untold {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::NotFound => not_found(),
            Self::BadRequest => bad_request(),
            Self::Code(code, message) => with_status(StatusCode::OK, code, &message),
            Self::Status(status, message) => with_status(status, Code::Unknown, &message),
        };
        response.extensions_mut().insert(Undone);
        response
    }
}

impl From<Failure> for Untold {
    fn from(Failure(status, what): Failure) -> Self {
        Self::Status(status, what)
    }
}

/// This gateway by its name, or nobody.
fn of_this_node(call: &Call) -> Result<(), Untold> {
    match call.path.first() {
        Some(node) if *node == call.control.counters.node() => Ok(()),
        _ => Err(Untold::NotFound),
    }
}

/// The body; without one, nothing is said.
fn body(call: &Call) -> Result<Value, Untold> {
    match call.body.is_empty() {
        true => Ok(json!({})),
        false => serde_json::from_slice(&call.body).map_err(|_| Untold::BadRequest),
    }
}

/// Which page. What is no number ends EMQX's handler with an error.
fn span(call: &Call) -> Result<Span, Untold> {
    let number = |name: &str, default| match call.query.get(name) {
        None => Ok(default),
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| Untold::Status(StatusCode::BAD_REQUEST, format!("{name} is no number"))),
    };
    Ok(Span {
        page: number("_page", 1)?.max(1),
        limit: number("_limit", MAX_ROWS)?.clamp(1, MAX_ROWS),
    })
}

/// How many rows there are on all pages: −1 for a list that is filtered, as EMQX has it.
fn page(span: Span, count: Option<usize>, found: Found<Value>) -> Answer {
    let meta = json!({
        "page": span.page,
        "limit": span.limit,
        "count": count.map_or(json!(-1), Value::from),
        "hasnext": found.more,
    });
    Ok(Told::Page(found.rows, meta))
}
