//! What the gateway answers over HTTP, on listeners with `protocol = "http"`: the web UI, the API below `/api/`, and those of other brokers; `/metrics`, `/status`, `/health/live` and
//! `/health/ready`; and `/demo/`.

use crate::config::{Audience, Config};
use crate::demo;
use crate::metrics::{Counters, text};
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap};
use axum::http::uri::Authority;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use bytes::Bytes;
use headgate_access::{ConnectionInfo, PeerAddr};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tower_service::Service;

/// What of the text format of Prometheus this is.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics are written no more often than this; who asks in between gets them as they were.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);

/// Who answers.
#[derive(Clone)]
pub(crate) struct Site {
    counters: Counters,
    config: watch::Receiver<Arc<Config>>,
    /// The metrics as they were last written, and when.
    written: Arc<Mutex<Option<(Instant, Bytes)>>>,
    /// The API, when the gateway is up.
    api: Arc<OnceLock<Router>>,
}

impl Site {
    /// Of these counters.
    pub(crate) fn new(counters: Counters, config: watch::Receiver<Arc<Config>>) -> Self {
        Self {
            counters,
            config,
            written: Arc::default(),
            api: Arc::default(),
        }
    }

    /// From now on this answers below `/api/`.
    pub(crate) fn set_api(&self, api: Router) {
        let _ = self.api.set(api);
    }

    /// All pages.
    pub(crate) fn router(self) -> Router {
        let pages = demo::routes(&self);
        Router::new()
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .layer(middleware::map_response(uncached))
            .merge(pages)
            .merge(headgate_web::ui())
            // No route with a wildcard: what it matches would be among the names that the API's own routes find.
            .fallback(api)
            .with_state(self)
    }

    /// As it is valid now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Whether somebody there gets the UI and the API at all.
    fn is_for(&self, peer: PeerAddr, headers: &HeaderMap) -> bool {
        match self.config.borrow().http.api {
            Audience::All => true,
            Audience::Off => false,
            Audience::Local => match peer {
                PeerAddr::Ip(address) => address.ip().to_canonical().is_loopback() && is_of_here(headers),
                PeerAddr::Unix { .. } | PeerAddr::Serial | PeerAddr::Memory => true,
            },
        }
    }

    /// This machine may read the metrics, and who is allowed to.
    fn may_read_metrics(&self, peer: PeerAddr, headers: &HeaderMap) -> bool {
        match peer {
            PeerAddr::Ip(address) => {
                let address = address.ip();
                let config = self.config.borrow();
                let allowed = &config.metrics.addresses;
                let here = address.is_loopback() && is_of_here(headers);
                here || allowed.iter().any(|network| network.contains(address))
            }
            // Who may open the socket is said by its permissions.
            PeerAddr::Unix { .. } | PeerAddr::Serial | PeerAddr::Memory => true,
        }
    }
}

/// Whether a request means this machine by a name that is its own: a page of the world can have a name of its own lead here (DNS rebinding), and is a page
/// of this machine then for a browser on it.
fn is_of_here(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return true;
    };
    let host = host.parse::<Authority>();
    host.is_ok_and(|host| {
        let name = host
            .host()
            .trim_matches(['[', ']'])
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let own = rustix::system::uname();
        let own = own.nodename().to_string_lossy().to_ascii_lowercase();
        let is_own = name == own || own.split('.').next() == Some(&name);
        name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost") || is_own
    })
}

/// The API, for whom it is.
async fn api(
    State(site): State<Site>,
    Extension(peer): Extension<Arc<ConnectionInfo>>,
    request: Request,
) -> Response {
    let path = request.uri().path();
    // The second is the one path that EMQ 2.2 had.
    if !path.starts_with("/api/") && path != "/mqtt/publish" {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    }
    if !site.is_for(peer.peer, request.headers()) {
        let told = "the API is not for this address: see `http.api`\n";
        return (StatusCode::FORBIDDEN, told).into_response();
    }
    match site.api.get() {
        Some(api) => match api.clone().call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        },
        None => (StatusCode::SERVICE_UNAVAILABLE, "the gateway starts\n").into_response(),
    }
}

/// All of it is true for a moment only.
async fn uncached(response: Response) -> Response {
    ([(CACHE_CONTROL, "no-store")], response).into_response()
}

async fn metrics(
    State(site): State<Site>,
    Extension(peer): Extension<Arc<ConnectionInfo>>,
    headers: HeaderMap,
) -> Response {
    if !site.may_read_metrics(peer.peer, &headers) {
        let told = "metrics are for this machine; `metrics.addresses` allows others\n";
        return (StatusCode::FORBIDDEN, told).into_response();
    }
    let answer = |text: Bytes| ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response();
    // Writing them takes its time, and anybody on this machine may ask.
    let fresh = |(at, _): &&(Instant, Bytes)| at.elapsed() < WRITTEN_EVERY;
    if let Some((_, text)) = site.written.lock().as_ref().filter(fresh) {
        return answer(text.clone());
    }
    let survey = site.counters.survey().await;
    match text(&site.counters.snapshot().families(&survey)) {
        Ok(text) => {
            let text = Bytes::from(text);
            *site.written.lock() = Some((Instant::now(), text.clone()));
            answer(text)
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// EMQ 2's words, which load balancers look for.
async fn status(State(site): State<Site>) -> Response {
    let node = site.counters.node();
    match site.counters.obstacles().is_empty() {
        true => format!("Node {node} is started\nemqttd is running").into_response(),
        false => {
            let told = format!("Node {node} is started\nemqttd is not_running");
            (StatusCode::SERVICE_UNAVAILABLE, told).into_response()
        }
    }
}

/// The process answers: restarting it would help nobody.
async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(site): State<Site>) -> Response {
    let obstacles = site.counters.obstacles();
    if obstacles.is_empty() {
        return "ready\n".into_response();
    }
    let told = format!("not ready: {}\n", obstacles.join("; "));
    (StatusCode::SERVICE_UNAVAILABLE, told).into_response()
}
