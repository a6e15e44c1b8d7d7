//! SockJS as a kind of transport: requests of HTTP come in by a listener, and each session is a connection for the protocol that the listener speaks.

use crate::connection::{Connection, ConnectionPermit};
use crate::http::Http;
use crate::limit::ConnectionLimit;
use crate::listener::Handler;
use crate::origin::is_from_elsewhere;
use crate::settings::ListenerSettings;
use crate::stages::Stages;
use crate::transport::Transport;
use crate::websocket::http::forwarded_client;
use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::map_request;
use headgate_access::{AddressRules, ConnectionInfo, HttpInfo, Network, PeerAddr};
use headgate_model::MemoryLimit;
use headgate_model::memory::Want;
use headgate_sockjs::{Ended, Memory, Refusals, Session, SessionBytes, SettingsFault, SockJs};
use parking_lot::RwLock;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// There is no room for a session. RFC 6455 §7.4.1, and IANA's registry of close codes.
const TRY_LATER: Ended = Ended::new(1013, "Try again later");

/// The ledger, as sessions see it.
#[derive(Debug)]
pub(crate) struct Ledger(pub(crate) Arc<MemoryLimit>);

impl Memory for Ledger {
    fn change(&self, before: usize, now: usize) {
        self.0.change_buffers(before, now);
    }

    fn is_scarce(&self) -> bool {
        !self.0.allows(Want::ToWait, self.0.used())
    }
}

/// The sessions of one listener.
pub(crate) struct SockJsFront {
    http: Http,
    /// Nobody waits for requests: sessions are waited for by the protocol.
    requests: TaskTracker,
}

/// What sessions count against, as connections.
#[derive(Clone)]
pub(crate) struct SessionLimits {
    pub(crate) on_listener: ConnectionLimit,
    pub(crate) in_all: ConnectionLimit,
}

impl SockJsFront {
    /// Sessions are given to what `handler` holds when they are opened.
    pub(crate) fn new(
        settings: &ListenerSettings,
        limits: SessionLimits,
        handler: Arc<RwLock<Option<Handler>>>,
        refusals: Arc<Refusals>,
    ) -> Result<Self, SettingsFault> {
        let (sockjs, access) = (
            settings.sockjs.clone().unwrap_or_default(),
            settings.access.clone(),
        );
        let of_service = headgate_sockjs::SockJsSettings {
            client: settings.sockjs_client.clone(),
            subprotocols: settings.facts.subprotocols,
            ..sockjs.of_service()
        };
        let service = move |session, request| {
            let connection = limits.connection(session, &request);
            let handler = handler.read().clone();
            if let (Some(connection), Some(handler)) = (connection, handler) {
                tokio::spawn(handler(connection));
            }
        };
        let service = SockJs::counting(of_service, service, refusals)?;
        let forwarders: Arc<[Network]> = sockjs.trusted_forwarders.as_slice().into();
        let all_origins = sockjs.origins.is_empty();
        let announced = move |request: Request| {
            let field = |name| text(request.headers(), name);
            let [host, origin, site] = ["host", "origin", "sec-fetch-site"].map(field);
            let is_elsewhere = || is_from_elsewhere(host.as_deref(), origin.as_deref(), site.as_deref());
            let announced = match all_origins && is_elsewhere() {
                true => Err(StatusCode::FORBIDDEN),
                false => announce(request, &forwarders, &access),
            };
            async move { announced }
        };
        let router = service.router(&sockjs.path).layer(map_request(announced));
        Ok(Self {
            http: Http::unhurried(router),
            requests: TaskTracker::new(),
        })
    }

    /// Answers what is asked on one connection.
    pub(crate) fn serve(&self, connection: Connection) -> Stages {
        self.http.serve(connection, &self.requests)
    }
}

impl SessionLimits {
    /// The session as a connection; `None`: there are too many, and the client is told.
    fn connection(&self, mut session: Session, request: &Parts) -> Option<Connection> {
        let on_listener = self.on_listener.acquire();
        let on_listener = on_listener.filter(|slot| !slot.is_closed() && !self.in_all.is_overloaded());
        let slots = on_listener.zip(self.in_all.acquire());
        let Some((on_listener, in_all)) = slots else {
            session.close(TRY_LATER);
            return None;
        };
        let permit = ConnectionPermit {
            on_listener: Some(on_listener),
            in_all: Some(in_all),
            from_address: None,
        };
        let info = request.extensions.get::<Arc<ConnectionInfo>>()?;
        let info = ConnectionInfo {
            http: Some(Box::new(http_info(request))),
            ..ConnectionInfo::clone(info)
        };
        let transport = Transport::SockJs(Box::new(SessionBytes::new(session)));
        Some(Connection::new(transport, info, permit))
    }
}

/// Puts the client in the place of a trusted forwarder.
fn announce(mut request: Request, trusted: &[Network], access: &AddressRules) -> Result<Request, StatusCode> {
    let info = request.extensions().get::<Arc<ConnectionInfo>>().cloned();
    let Some((info, PeerAddr::Ip(forwarder))) = info.map(|info| {
        let peer = info.peer;
        (info, peer)
    }) else {
        return Ok(request);
    };
    let list = joined(request.headers(), "x-forwarded-for", ", ");
    let (true, Some(list)) = (
        trusted.iter().any(|network| network.contains(forwarder.ip())),
        list,
    ) else {
        return Ok(request);
    };
    let mut client = forwarded_client(&list, trusted).ok_or(StatusCode::BAD_REQUEST)?;
    if let Some(port) = text(request.headers(), "x-forwarded-port").and_then(|port| port.parse().ok()) {
        client.set_port(port);
    }
    if !access.allow(client.ip()) {
        return Err(StatusCode::FORBIDDEN);
    }
    let via = info.via.or(Some(forwarder));
    let info = ConnectionInfo {
        peer: PeerAddr::Ip(client),
        via,
        ..ConnectionInfo::clone(&info)
    };
    request.extensions_mut().insert(ConnectInfo(client));
    request.extensions_mut().insert(Arc::new(info));
    Ok(request)
}

fn http_info(request: &Parts) -> HttpInfo {
    let headers = &request.headers;
    HttpInfo {
        path: request.uri.path().to_owned(),
        query: request.uri.query().map(str::to_owned),
        host: text(headers, "host"),
        origin: text(headers, "origin"),
        user_agent: text(headers, "user-agent"),
        cookies: joined(headers, "cookie", "; "),
        authorization: text(headers, "authorization"),
        forwarded_for: joined(headers, "x-forwarded-for", ", "),
        subprotocol: None,
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Repeated headers as one list.
fn joined(headers: &HeaderMap, name: &str, separator: &str) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(separator))
}
