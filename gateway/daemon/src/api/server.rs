//! What a running gateway can be asked, and by whom. Errors are `{"error": "…"}` with a status that fits.

use super::guard::Pace;
use super::login::Logins;
use super::routes::Routes;
use super::streams::Streams;
use super::{guard, openapi};
use crate::alarms::Alarms;
use crate::backups::Backups;
use crate::bridges::{BridgeError, Bridges};
use crate::firmware::Firmware;
use crate::live::Live;
use crate::log::LogHandle;
use crate::metrics::Counters;
use crate::restart::Restart;
use crate::starts::Starts;
use crate::timeline::ClockState;
use crate::traces::Traces;
use crate::trends::Trends;
use crate::wans::Wans;
use crate::watch::WatchedTls;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::connect_info::Connected;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use headgate_admin::{Admin, AuditLog};
use headgate_auth::{Access, BanError};
use headgate_bus::handle::Hub;
use serde::Serialize;
use serde_json::json;
use std::sync::{Arc, LazyLock};
use tokio::net::UnixListener;

/// What can be asked for, and who answers.
#[derive(Clone)]
pub(crate) struct Control {
    /// The bridges.
    pub bridges: Bridges,
    /// Their ways out.
    pub wans: Wans,
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
    /// Who runs the gateway.
    pub admin: Admin,
    /// Who changed what.
    pub audit: AuditLog,
    /// What the gateway was like lately.
    pub trends: Trends,
    /// Certificates that listeners serve.
    pub certificates: WatchedTls,
    /// Backups on the gateway.
    pub backups: Backups,
    /// Updates of the system.
    pub firmware: Firmware,
    /// Why it was started.
    pub starts: Starts,
    /// Whether the system's clock is trusted; `None` where nothing is kept.
    pub clock: Arc<ClockState>,
    /// Lets the gateway begin anew.
    pub restart: Restart,
    /// Places for streams of events.
    pub streams: Streams,
    /// How many changes are made.
    pub pace: Pace,
    /// Places for those who log in.
    pub logins: Logins,
}

pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// Nothing more is to be told.
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct Done {}

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
            BanError::TooLong => StatusCode::UNPROCESSABLE_ENTITY,
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

    /// Answers at the control socket for ever.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let routes = api()
            .layer(map_response(in_json))
            .layer(from_fn_with_state(self.clone(), guard::local))
            .with_state(self);
        let routes = routes.into_make_service_with_connect_info::<LocalPeer>();
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the control socket is gone");
        }
    }

    /// What listeners answer, to who may ask.
    pub(crate) fn router(self) -> Router {
        let compatible = super::compat::router(&self);
        api()
            .layer(map_response(in_json))
            .layer(from_fn_with_state(self.clone(), guard::remote))
            .layer(from_fn_with_state(self.clone(), guard::set_up_first))
            .with_state(self)
            .merge(compatible)
    }
}

/// All that can be asked, by whatever way.
fn api() -> Router<Control> {
    let (routes, _) = table().into_parts();
    routes
        .route("/api/v1/openapi.json", get(document))
        .method_not_allowed_fallback(|| async {
            let what = "this is not asked by this method: see /api/v1/openapi.json";
            Failure(StatusCode::METHOD_NOT_ALLOWED, what.into())
        })
        .fallback(|uri: Uri| async move {
            let what = format!("there is no `{}`: see /api/v1/openapi.json", uri.path());
            Failure(StatusCode::NOT_FOUND, what)
        })
}

/// The OpenAPI document: made when it is first asked for, for all ways alike.
async fn document() -> impl IntoResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let (_, operations) = table().into_parts();
        openapi::document(&operations).to_string()
    });
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// What the framework says of a request that cannot be understood, as an error of ours.
async fn in_json(response: Response) -> Response {
    let kind = response.headers().get(CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !response.status().is_client_error() || !is_text {
        return response;
    }
    let (head, body) = response.into_parts();
    let text = to_bytes(body, 64 << 10).await.unwrap_or_default();
    Failure(head.status, String::from_utf8_lossy(&text).into_owned()).into_response()
}

/// The table of all that can be asked.
pub(super) fn table() -> Routes {
    Routes::default()
        .merge(super::login::routes())
        .merge(super::administrators::routes())
        .merge(super::configuration::routes())
        .merge(super::backups::routes())
        .merge(super::bans::routes())
        .merge(super::bridges::routes())
        .merge(super::alarms::routes())
        .merge(super::certificates::routes())
        .merge(super::clock::routes())
        .merge(super::clients::routes())
        .merge(super::lines::routes())
        .merge(super::listeners::routes())
        .merge(super::diagnostics::routes())
        .merge(super::explain::routes())
        .merge(super::firmware::routes())
        .merge(super::provisioning::routes())
        .merge(super::retained::routes())
        .merge(super::publish::routes())
        .merge(super::metrics::routes())
        .merge(super::log::routes())
        .merge(super::lwm2m::routes())
        .merge(super::lwm2m_command::routes())
        .merge(super::topics::routes())
        .merge(super::traces::routes())
        .merge(super::snapshot::routes())
        .merge(super::streams::routes())
        .merge(super::system::routes())
        .merge(super::users::routes())
        .merge(super::wans::routes())
}

/// Who has opened the control socket.
#[derive(Clone, Debug)]
pub(super) struct LocalPeer(Option<u32>);

impl LocalPeer {
    pub(super) fn name(&self) -> String {
        match self.0 {
            Some(user) => format!("local user {user}"),
            None => "local user".into(),
        }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for LocalPeer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}
