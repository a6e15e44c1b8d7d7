//! The demo page, and what it is told: where browsers find STOMP. See `headgate_web`.

use crate::config::{Audience, Config};
use crate::http::Site;
use crate::protocols::STOMP;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headgate_access::{ConnectionInfo, PeerAddr};
use headgate_shell::settings::parse_address;
use headgate_shell::{ListenerKind, ListenerSettings};
use serde::Serialize;
use std::sync::Arc;

/// A listener for STOMP that browsers can use.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BrowserListener {
    /// `ws` or `sockjs`.
    kind: &'static str,
    port: u16,
    /// Of a SockJS listener the base.
    path: String,
    tls: bool,
}

/// `/demo/`, for whom the configuration says.
pub(crate) fn routes(site: &Site) -> Router<Site> {
    headgate_web::routes()
        .route("/demo/listeners.json", get(listeners))
        .route_layer(from_fn_with_state(site.clone(), for_the_audience))
}

async fn for_the_audience(
    State(site): State<Site>,
    Extension(peer): Extension<Arc<ConnectionInfo>>,
    request: Request,
    next: Next,
) -> Response {
    let audience = site.config().http.demo;
    let told = match (audience, peer.peer) {
        (Audience::Off, _) => "the demo page is off: `http.demo`\n",
        (Audience::Local, PeerAddr::Ip(address)) if !address.ip().is_loopback() => {
            "the demo page is for this machine; `http.demo = \"all\"` shows it to others\n"
        }
        _ => return next.run(request).await,
    };
    (StatusCode::FORBIDDEN, told).into_response()
}

async fn listeners(State(site): State<Site>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(for_browsers(&site.config())))
}

/// Those of a configuration, in its order. One whose port the system chooses is left out.
pub(crate) fn for_browsers(config: &Config) -> Vec<BrowserListener> {
    let of_stomp = config
        .listeners
        .iter()
        .filter(|listener| listener.protocol == STOMP);
    of_stomp.flat_map(ways_in).collect()
}

/// A SockJS listener has a WebSocket without frames of SockJS, too.
fn ways_in(listener: &ListenerSettings) -> Vec<BrowserListener> {
    let port = parse_address(&listener.bind).map_or(0, |address| address.port());
    let way = |kind, path| BrowserListener {
        kind,
        port,
        path,
        tls: listener.tls.is_some(),
    };
    match listener.kind {
        _ if port == 0 => Vec::new(),
        ListenerKind::Ws | ListenerKind::Wss => {
            let path = listener
                .websocket
                .as_ref()
                .map(|websocket| websocket.path.as_str());
            let path = match path {
                None | Some("") => format!("/{STOMP}"),
                Some("*") => "/".to_owned(),
                Some(path) => path.to_owned(),
            };
            vec![way("ws", path)]
        }
        ListenerKind::Sockjs => {
            let sockjs = listener.sockjs.clone().unwrap_or_default();
            let raw = way("ws", format!("{}/websocket", sockjs.path));
            let raw = sockjs.websocket.then_some(raw);
            raw.into_iter().chain([way("sockjs", sockjs.path)]).collect()
        }
        ListenerKind::Tcp | ListenerKind::Tls | ListenerKind::Unix => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_of_websocket_and_sockjs() {
        let way = |kind, port, path: &str, tls| BrowserListener {
            kind,
            port,
            path: path.to_owned(),
            tls,
        };
        assert_eq!(
            for_browsers(&Config::default()),
            [
                way("ws", 61616, "/stomp/websocket", false),
                way("sockjs", 61616, "/stomp", false)
            ]
        );
        let listener = |protocol: &str, kind, bind: &str| ListenerSettings {
            protocol: protocol.into(),
            kind,
            bind: bind.into(),
            ..ListenerSettings::default()
        };
        let mut any_path = listener("stomp", ListenerKind::Wss, "[::]:443");
        any_path.tls = Some(toml::from_str("certificate = \"a\"\nkey = \"b\"").unwrap());
        any_path.websocket = Some(toml::from_str("path = \"*\"").unwrap());
        let mut without_websocket = listener("stomp", ListenerKind::Sockjs, "0.0.0.0:80");
        without_websocket.sockjs = Some(toml::from_str("websocket = false").unwrap());
        let config = Config {
            listeners: vec![
                listener("stomp", ListenerKind::Ws, "127.0.0.1:1"),
                any_path,
                without_websocket,
                listener("stomp", ListenerKind::Tcp, "127.0.0.1:2"),
                listener("mqtt", ListenerKind::Ws, "127.0.0.1:3"),
                listener("stomp", ListenerKind::Ws, "127.0.0.1:0"),
            ],
            ..Config::default()
        };
        assert_eq!(
            for_browsers(&config),
            [
                way("ws", 1, "/stomp", false),
                way("ws", 443, "/", true),
                way("sockjs", 80, "/sockjs", false)
            ]
        );
    }
}
