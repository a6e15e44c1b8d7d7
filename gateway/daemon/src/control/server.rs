//! What a running gateway can be asked. Errors are `{"error": "…"}` with a status that fits.

use crate::alarms::Alarms;
use crate::bridges::{BridgeError, BridgeView, Bridges};
use crate::live::Live;
use crate::log::LogHandle;
use crate::metrics::Counters;
use crate::traces::Traces;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use headgate_auth::{Access, Ban, BanError, Banned};
use headgate_bus::MAX_PAGE;
use headgate_bus::handle::Hub;
use headgate_model::bus::PeerName;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;

/// What can be asked for, and who answers.
#[derive(Clone)]
pub(crate) struct Control {
    /// The bridges.
    pub bridges: Bridges,
    /// Who may do what.
    pub access: Arc<Access>,
    /// The bus, whose clients are told of other rules.
    pub hub: Hub,
    /// The configuration that is valid.
    pub live: Live,
    /// What needs an operator.
    pub alarms: Alarms,
    /// What is counted.
    pub counters: Counters,
    /// The log.
    pub log: LogHandle,
    /// Traces.
    pub traces: Traces,
}

pub(super) type Answer = Result<Json<Value>, Failure>;

/// What could not be done.
pub(super) struct Failure(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<BridgeError> for Failure {
    fn from(error: BridgeError) -> Self {
        let status = match &error {
            BridgeError::Unknown(_) => StatusCode::NOT_FOUND,
            BridgeError::Settings(_) => StatusCode::UNPROCESSABLE_ENTITY,
            BridgeError::Configured(_) => StatusCode::CONFLICT,
            BridgeError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            BridgeError::Login(_)
            | BridgeError::Timeout { .. }
            | BridgeError::Dial(_)
            | BridgeError::Provisioning(_) => StatusCode::BAD_GATEWAY,
        };
        Self(status, error.to_string())
    }
}

impl From<BanError> for Failure {
    fn from(error: BanError) -> Self {
        let status = match &error {
            BanError::Full => StatusCode::CONFLICT,
            BanError::Io { .. } | BanError::Malformed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl Control {
    /// Listens. A socket that a killed gateway left is replaced: the store's lock shows that no other gateway has this folder.
    pub(crate) fn bind(data_dir: &std::path::Path) -> std::io::Result<UnixListener> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(data_dir)?;
        let short = super::ShortName::of(data_dir)?;
        let path = super::socket(&short.name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Nobody connects before the permissions are right: the name is given last.
        let beside = path.with_extension("new");
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&beside, &path)?;
        Ok(listener)
    }

    /// Answers for ever.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let routes = Router::new()
            .merge(super::configuration::routes())
            .route("/api/v1/users/look", post(look_at_users))
            .route("/api/v1/bans", get(bans).post(ban).delete(unban))
            .route("/api/v1/bridges", get(list).post(add))
            .route("/api/v1/bridges/{name}", get(show).delete(remove))
            .route("/api/v1/bridges/{name}/pause", post(pause))
            .route("/api/v1/bridges/{name}/resume", post(resume))
            .route("/api/v1/bridges/{name}/flush", post(flush))
            .route("/api/v1/bridges/{name}/report", get(report))
            .route("/api/v1/bridges/{name}/test", post(test))
            .merge(super::alarms::routes())
            .merge(super::clients::routes())
            .merge(super::explain::routes())
            .merge(super::retained::routes())
            .merge(super::metrics::routes())
            .merge(super::log::routes())
            .merge(super::lwm2m::routes())
            .merge(super::traces::routes())
            .merge(super::snapshot::routes())
            .with_state(self);
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the control socket is gone");
        }
    }

    /// Throws out who is banned now. How many.
    fn kick_banned(&self, who: &Banned) -> usize {
        if let Banned::Client(id) = who {
            return super::clients::throw_out(self, id);
        }
        let mut kicked = 0;
        let mut after = None;
        loop {
            let page = self.hub.clients(after.as_deref(), MAX_PAGE);
            for row in &page.rows {
                let is_meant = match who {
                    Banned::Client(id) => row.client.as_str() == id,
                    Banned::User(name) => row.presence.username.as_deref() == Some(name),
                    Banned::Address(network) => {
                        matches!(row.presence.peer, PeerName::Ip(address) if network.contains(address))
                    }
                };
                kicked += usize::from(is_meant && self.hub.kick(row.client.as_str()));
            }
            match page.next {
                Some(next) => after = Some(next.as_str().to_owned()),
                None => return kicked,
            }
        }
    }
}

async fn look_at_users(State(control): State<Control>) -> Json<Value> {
    tokio::task::block_in_place(|| control.access.look_at_users());
    Json(json!({}))
}

async fn bans(State(control): State<Control>) -> Json<Vec<Ban>> {
    Json(control.access.bans())
}

/// Who is to be kept out, and how long.
#[derive(Deserialize)]
struct ToBan {
    #[serde(flatten)]
    who: Banned,
    #[serde(default)]
    reason: String,
    /// Seconds; left out for ever.
    seconds: Option<u64>,
}

async fn ban(State(control): State<Control>, Json(wanted): Json<ToBan>) -> Answer {
    let lasts = wanted.seconds.map(Duration::from_secs);
    let ban = Ban::by_operator(wanted.who, wanted.reason, lasts);
    control.access.ban(ban.clone())?;
    let kicked = control.kick_banned(&ban.who);
    tracing::info!(who = ?ban.who, reason = ban.reason, until = ban.until, kicked, "banned by an operator");
    Ok(Json(json!({ "ban": ban, "kicked": kicked })))
}

async fn unban(State(control): State<Control>, Json(who): Json<Banned>) -> Answer {
    let was_banned = control.access.unban(&who)?;
    if was_banned {
        tracing::info!(?who, "a ban was lifted");
    }
    Ok(Json(json!({ "was_banned": was_banned })))
}

async fn list(State(control): State<Control>) -> Json<Vec<BridgeView>> {
    Json(control.bridges.views())
}

async fn show(State(control): State<Control>, Path(name): Path<String>) -> Result<Json<BridgeView>, Failure> {
    Ok(Json(control.bridges.view(&name)?))
}

/// A new bridge in TOML, as it would stand below `[[bridges]]`.
#[derive(Deserialize)]
struct Added {
    toml: String,
}

async fn add(State(control): State<Control>, Json(added): Json<Added>) -> Answer {
    let (name, change) = control.bridges.add(&added.toml).await?;
    Ok(Json(json!({ "bridge": name, "change": change })))
}

async fn remove(State(control): State<Control>, Path(name): Path<String>) -> Answer {
    let discarded = control.bridges.remove(&name).await?;
    Ok(Json(json!({ "bridge": name, "discarded": discarded })))
}

async fn pause(State(control): State<Control>, Path(name): Path<String>) -> Answer {
    control.bridges.pause(&name)?;
    Ok(Json(json!({ "bridge": name, "paused": true })))
}

async fn resume(State(control): State<Control>, Path(name): Path<String>) -> Answer {
    control.bridges.resume(&name)?;
    Ok(Json(json!({ "bridge": name, "paused": false })))
}

async fn flush(State(control): State<Control>, Path(name): Path<String>) -> Answer {
    let flushed = control.bridges.flush(&name)?;
    Ok(Json(json!({ "bridge": name, "flushed": flushed })))
}

/// Seconds since 1970.
#[derive(Deserialize)]
struct Span {
    #[serde(default)]
    from: u64,
    to: Option<u64>,
}

async fn report(
    State(control): State<Control>,
    Path(name): Path<String>,
    Query(span): Query<Span>,
) -> Answer {
    let report = control
        .bridges
        .report(&name, span.from, span.to.unwrap_or(u64::MAX))?;
    let mut value = serde_json::to_value(&report).unwrap_or_default();
    value["adds_up"] = report.adds_up().into();
    Ok(Json(value))
}

/// Each finding is a line, as soon as it is there.
async fn test(State(control): State<Control>, Path(name): Path<String>) -> Result<Body, Failure> {
    let findings = control.bridges.probe(&name)?;
    let lines = futures_util::stream::unfold(findings, |mut findings| async {
        let finding = findings.recv().await?;
        Some((finding, findings))
    });
    let lines = lines.map(|finding| {
        let line = serde_json::to_string(&finding).unwrap_or_default();
        Ok::<_, Infallible>(line + "\n")
    });
    Ok(Body::from_stream(lines))
}
