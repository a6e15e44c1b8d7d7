//! What a running gateway can be asked. Errors are `{"error": "…"}` with a status that fits.

use crate::alarms::Alarms;
use crate::bridges::{BridgeError, BridgeView, Bridges, Change};
use crate::config::{Config, ConfigError, Startable, Told, environment_variables};
use crate::log::{LogError, LogHandle};
use crate::metrics::Counters;
use crate::traces::Traces;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use headgate_auth::{Access, AclError, AuthSettings, Ban, BanError, Banned};
use headgate_bus::MAX_PAGE;
use headgate_bus::handle::Hub;
use headgate_model::bus::PeerName;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
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
    /// The configuration's file, to be read again.
    pub config: Option<Arc<PathBuf>>,
    /// The rules that are valid.
    pub rules: Arc<Mutex<AuthSettings>>,
    /// The configuration that the gateway was started with.
    pub started_with: Arc<Config>,
    /// What needs an operator.
    pub alarms: Alarms,
    /// What is counted.
    pub counters: Counters,
    /// The log.
    pub log: LogHandle,
    /// Traces.
    pub traces: Traces,
}

/// What came of reading the configuration again.
#[derive(Debug, Serialize)]
pub(crate) struct Reloaded {
    /// What became of each bridge.
    pub bridges: BTreeMap<String, Change>,
    /// Other rules are valid: who is connected has them too.
    pub rules: bool,
    /// What changed and needs a restart.
    pub needs_restart: Vec<String>,
    /// What is probably not as it was meant.
    pub warnings: Vec<Told>,
}

/// Why the configuration of before stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// It cannot be read again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A bridge cannot be.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The rules cannot be.
    #[error(transparent)]
    Rules(#[from] AclError),
    /// The log cannot be.
    #[error(transparent)]
    Log(#[from] LogError),
}

type Answer = Result<Json<Value>, Failure>;

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
            .route("/api/v1/reload", post(reload))
            .route("/api/v1/bans", get(bans).post(ban).delete(unban))
            .route("/api/v1/bridges", get(list).post(add))
            .route("/api/v1/bridges/{name}", get(show).delete(remove))
            .route("/api/v1/bridges/{name}/pause", post(pause))
            .route("/api/v1/bridges/{name}/resume", post(resume))
            .route("/api/v1/bridges/{name}/flush", post(flush))
            .route("/api/v1/bridges/{name}/report", get(report))
            .route("/api/v1/bridges/{name}/test", post(test))
            .merge(super::alarms::routes())
            .merge(super::metrics::routes())
            .merge(super::log::routes())
            .merge(super::traces::routes())
            .with_state(self);
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the control socket is gone");
        }
    }

    /// Whether there are other rules than before, or other ways to come in.
    fn take_rules(&self, new: &AuthSettings) -> Result<bool, ReloadError> {
        let mut valid = self.rules.lock();
        // What is in the file shows only when it is read.
        let is_like = valid.is_like(new);
        if new.acl_file.is_none() && is_like {
            return Ok(false);
        }
        let are_others = self.access.set(new)? || !is_like;
        *valid = new.clone();
        drop(valid);
        if are_others {
            self.hub.renew_rules();
        }
        Ok(are_others)
    }

    /// Throws out who is banned now. How many.
    fn kick_banned(&self, who: &Banned) -> usize {
        if let Banned::Client(id) = who {
            return usize::from(self.hub.kick(id));
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

    /// Reads the configuration again: bridges and rules are what it says from now on. Whatever else changed needs a restart, and is listed.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let path = self.config.as_deref().map(PathBuf::as_path);
        let Startable { config, warnings } = Config::load_to_start(path, environment_variables())?;
        let checked = config.checked_bridges()?;
        // Destinations that go may write their last lines.
        tokio::task::block_in_place(|| self.log.set(&config.log))?;
        let bridges = self.bridges.configure(checked).await;
        Ok(Reloaded {
            bridges,
            rules: self.take_rules(&config.auth)?,
            needs_restart: self.started_with.changes(&config),
            warnings,
        })
    }
}

async fn reload(State(control): State<Control>) -> Result<Json<Reloaded>, Failure> {
    let changes = control.reload().await;
    changes
        .map(Json)
        .map_err(|error| Failure(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
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
