//! `/api/v2`, as in EMQ 2.3: Basic authentication by administrators or API keys, and everything in `{"code": 0, "result": …}`, with status 200 also for what
//! was not done. Read in the sources of 2.3.11.
//!
//! What is not known here is `null`: what belongs to Erlang's machine, and what a session has dropped. What EMQ has no word for, a role that is not enough, is
//! status 403; too many messages, or too many wrong passwords, 429; a store that takes nothing, 503.

mod clients;
mod monitoring;
mod mqtt;
mod settings;
mod users;

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
use headgate_admin::Role::{Administrator, Operator, Viewer};
use headgate_bus::MAX_PAGE;
use serde_json::{Value, json};

pub(super) const PREFIX: &str = "/api/v2";

/// All that can be asked.
pub(super) fn table() -> Table<V2> {
    Table::below(PREFIX)
        .get("management/nodes", monitoring::brokers)
        .get("management/nodes/{node}", monitoring::broker)
        .get("monitoring/nodes", monitoring::nodes)
        .get("monitoring/nodes/{node}", monitoring::node)
        .get("monitoring/listeners", monitoring::listeners)
        .get("monitoring/listeners/{node}", monitoring::listeners_of)
        .get("monitoring/metrics", monitoring::metrics)
        .get("monitoring/metrics/{node}", monitoring::metrics_of)
        .get("monitoring/stats", monitoring::stats)
        .get("monitoring/stats/{node}", monitoring::stats_of)
        .get("nodes/{node}/alarms", monitoring::alarms)
        .get("nodes/{node}/clients", clients::list)
        .get("nodes/{node}/clients/{client}", clients::of_node)
        .get("clients/{client}", clients::one)
        .change(
            Method::DELETE,
            Operator,
            "clients/{client}",
            "Disconnects a client.",
            clients::kick,
        )
        .ask(
            Method::PUT,
            Operator,
            "clients/{client}/clean_acl_cache",
            clients::clean_acl_cache,
        )
        .get("nodes/{node}/sessions", clients::sessions)
        .get("nodes/{node}/sessions/{client}", clients::session_of_node)
        .get("sessions/{client}", clients::session)
        .get("nodes/{node}/subscriptions", clients::subscriptions)
        .get(
            "nodes/{node}/subscriptions/{client}",
            clients::subscriptions_of_node,
        )
        .get("subscriptions/{client}", clients::subscriptions_of)
        .get("routes", clients::routes)
        .get("routes/{topic...}", clients::route)
        .ask(Method::POST, Operator, "mqtt/publish", mqtt::publish)
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
            "mqtt/unsubscribe",
            "Ends a subscription on behalf of a client.",
            mqtt::unsubscribe,
        )
        .get("nodes/{node}/plugins", settings::plugins)
        .ask(
            Method::PUT,
            Administrator,
            "nodes/{node}/plugins/{plugin}",
            settings::load_plugin,
        )
        .get("configs", settings::configs)
        .ask(Method::PUT, Administrator, "configs/{app}", settings::set)
        .get("nodes/{node}/configs", settings::configs_of)
        .ask(
            Method::PUT,
            Administrator,
            "nodes/{node}/configs/{app}",
            settings::set_of,
        )
        .get("nodes/{node}/plugin_configs/{plugin}", settings::plugin_configs)
        .ask(
            Method::PUT,
            Administrator,
            "nodes/{node}/plugin_configs/{plugin}",
            settings::set_plugin,
        )
        .ask(Method::GET, Administrator, "users", users::list)
        .change(
            Method::POST,
            Administrator,
            "users",
            "Adds an administrator.",
            users::add,
        )
        .ask(Method::GET, Administrator, "users/{name}", users::one)
        .change(
            Method::PUT,
            Administrator,
            "users/{name}",
            "Gives an administrator another role; its sessions end.",
            users::alter,
        )
        .change(
            Method::DELETE,
            Administrator,
            "users/{name}",
            "Removes an administrator; its sessions end.",
            users::remove,
        )
        .open(Method::POST, "auth", users::auth)
        .change(
            Method::PUT,
            Viewer,
            "change_pwd/{name}",
            "Gives an administrator another password.",
            users::change_password,
        )
}

/// EMQ 2.3.
pub(super) struct V2;

impl Dialect for V2 {
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
                let realm = [(WWW_AUTHENTICATE, "Basic Realm=\"emqx control center\"")];
                (StatusCode::UNAUTHORIZED, realm).into_response()
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
            Turned::Body(status) => with_status(*status, Code::Unknown, "the body cannot be read"),
        }
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "text/plain")]).into_response()
}

fn with_status(status: StatusCode, code: Code, message: &str) -> Response {
    (status, Json(json!({ "code": code as u8, "message": message }))).into_response()
}

/// What a handler answers.
type Answer = Result<Told, Untold>;

/// What goes into `result`.
struct Told(Value);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        Json(json!({ "code": 0, "result": self.0 })).into_response()
    }
}

/// Nothing more is to be told.
fn done() -> Answer {
    Ok(Told(json!([])))
}

/// EMQ's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Unknown = 102,
    WrongPassword = 103,
    EmptyPassword = 104,
    NoUser = 105,
    LastUser = 106,
    Params = 107,
    Types = 108,
    NotJson = 109,
    Loaded = 110,
    Unloaded = 111,
    Offline = 112,
    UserExists = 113,
    OldPassword = 114,
}

/// What was not done.
enum Untold {
    /// There is no such node.
    NoNode,
    /// By EMQ's code.
    Code(Code, Option<String>),
    /// EMQ has no word for it.
    Status(StatusCode, String),
}

impl Untold {
    fn code(code: Code, message: impl Into<String>) -> Self {
        Self::Code(code, Some(message.into()))
    }
}

impl IntoResponse for Untold {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::NoNode => not_found(),
            Self::Code(code, Some(message)) => with_status(StatusCode::OK, code, &message),
            Self::Code(code, None) => Json(json!({ "code": code as u8 })).into_response(),
            Self::Status(status, message) => with_status(status, Code::Unknown, &message),
        };
        response.extensions_mut().insert(Undone);
        response
    }
}

impl From<Failure> for Untold {
    fn from(Failure(status, what): Failure) -> Self {
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INTERNAL_SERVER_ERROR => Self::Status(status, what),
            _ => Self::code(Code::Unknown, what),
        }
    }
}

/// This gateway by its name, or nobody.
fn of_this_node(call: &Call) -> Result<(), Untold> {
    match call.path.first() {
        Some(node) if *node == call.control.counters.node() => Ok(()),
        _ => Err(Untold::NoNode),
    }
}

/// What a body says, by name.
struct Params(Value);

/// What a parameter must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
}

impl Params {
    /// All that is wanted must be there, and be what it should, in this order.
    fn of(call: &Call, wanted: &[(&str, Kind)]) -> Result<Self, Untold> {
        let body = match call.body.is_empty() {
            true => json!({}),
            false => serde_json::from_slice(&call.body)
                .map_err(|_| Untold::code(Code::NotJson, "Body not json"))?,
        };
        if wanted.iter().any(|(name, _)| body.get(name).is_none()) {
            return Err(Untold::code(Code::Params, "params error"));
        }
        let is = |(name, kind): &(&str, Kind)| match kind {
            Kind::Text => body[name].is_string(),
            Kind::Bool => body[name].is_boolean(),
        };
        match wanted.iter().all(is) {
            true => Ok(Self(body)),
            false => Err(Untold::code(Code::Types, "params type error")),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// What may be left out.
    fn optional(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// 0 to 2 where it is left out or a number.
    fn qos(&self) -> Result<u64, Untold> {
        match self.optional("qos") {
            None => Ok(0),
            Some(qos) => qos
                .as_u64()
                .ok_or_else(|| Untold::code(Code::Types, "params type error")),
        }
    }
}

/// Which page.
fn span(call: &Call) -> Result<Span, Untold> {
    let number = |name: &str, default| match call.query.get(name) {
        None => Ok(default),
        // EMQ's handler ends with an error there, which is answered as what does not exist.
        Some(text) => text.parse::<usize>().map_err(|_| Untold::NoNode),
    };
    Ok(Span {
        page: number("curr_page", 1)?.max(1),
        limit: number("page_size", 20)?.clamp(1, MAX_PAGE),
    })
}

/// A page, with how many rows there are on all.
fn page(span: Span, total: usize, rows: Vec<Value>) -> Answer {
    Ok(Told(json!({
        "current_page": span.page,
        "page_size": span.limit,
        "total_num": total,
        "total_page": total.div_ceil(span.limit),
        "objects": rows,
    })))
}

fn objects(rows: impl IntoIterator<Item = Value>) -> Answer {
    Ok(Told(json!({ "objects": rows.into_iter().collect::<Vec<_>>() })))
}

fn rows_of<T>(found: Found<T>, row: impl FnMut(T) -> Value) -> Vec<Value> {
    found.rows.into_iter().map(row).collect()
}
