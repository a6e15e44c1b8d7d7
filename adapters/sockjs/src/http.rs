//! The URLs below the base: who may ask, what the answers have in common, and those that have to do with no session.

use crate::application::{Service, Session};
use crate::bodies::Bodies;
use crate::frame::Frame;
use crate::live::{Live, Receiving};
use crate::refusal::{Refusal, Refusals, Refused};
use crate::route::{Route, Transport};
use crate::session::{Bounds, Ended};
use crate::settings::{SettingsFault, SockJsSettings};
use crate::table::{Found, Key, Table};
use crate::{receive, send, websocket};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

pub(crate) const TEXT: &str = "text/plain; charset=UTF-8";
pub(crate) const HTML: &str = "text/html; charset=UTF-8";
pub(crate) const SCRIPT: &str = "application/javascript; charset=UTF-8";
const JSON: &str = "application/json; charset=UTF-8";
const A_YEAR: Duration = Duration::from_secs(31_536_000);
const NOT_CACHED: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
const CACHED: &str = "public, max-age=31536000";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// A longer value of `JSESSIONID` is not sent back.
const MAX_COOKIE: usize = 256;

/// A SockJS service: its sessions, and the URLs by which clients come to them. Clones are the same.
#[derive(Clone)]
pub struct SockJs(Arc<Server>);

pub(crate) struct Server {
    pub(crate) settings: SockJsSettings,
    pub(crate) counts: Arc<Refusals>,
    pub(crate) table: Arc<Table>,
    service: Box<dyn Service>,
    began: Instant,
    iframe: Page,
    client: Option<Page>,
    pub(crate) bodies: Bodies,
}

/// What browsers may keep.
struct Page {
    content_type: &'static str,
    body: Bytes,
    etag: HeaderValue,
}

impl SockJs {
    /// A service without sessions. Needs a tokio runtime around its router.
    pub fn new(settings: SockJsSettings, service: impl Service) -> Result<Self, SettingsFault> {
        Self::counting(settings, service, Arc::default())
    }

    /// The same; what it refuses is added to what others have.
    pub fn counting(
        settings: SockJsSettings,
        service: impl Service,
        counts: Arc<Refusals>,
    ) -> Result<Self, SettingsFault> {
        settings.check()?;
        Ok(Self(Arc::new(Server {
            counts,
            table: Table::new(
                settings.same_address,
                settings.max_sessions,
                settings.max_sessions_per_ip,
            ),
            service: Box::new(service),
            began: Instant::now(),
            bodies: Bodies::default(),
            iframe: Page::new(HTML, iframe(&settings.client_url).into()),
            client: settings.client.clone().map(|client| Page::new(SCRIPT, client)),
            settings,
        })))
    }

    /// All URLs of the service below `base`, which begins with a slash and ends without one; empty: below the root. Peers are known by
    /// `ConnectInfo<SocketAddr>`; without it all are the same one, of whom there is no limit.
    ///
    /// The server around bounds heads, connections, and how long a peer may take nothing of an answer. It must not cut off answers that begin
    /// after [`heartbeat`](SockJsSettings::heartbeat), and has to let connections be upgraded.
    ///
    /// # Panics
    ///
    /// If `base` is no path of plain text (no braces).
    pub fn router(&self, base: &str) -> Router {
        let prefix: Arc<str> = base.into();
        let answer = move |State(this): State<Self>, request: Request| async move {
            let path = request.uri().path();
            let path = path.strip_prefix(&*prefix).unwrap_or(path).to_owned();
            this.answer(&path, request).await
        };
        let router = Router::new()
            .route(&format!("{base}/"), any(answer.clone()))
            .route(&format!("{base}/{{*path}}"), any(answer.clone()));
        let router = if base.is_empty() {
            router
        } else {
            router.route(base, any(answer))
        };
        router.with_state(self.clone())
    }

    /// Sessions as of now, those included that have ended and still tell so.
    pub fn sessions(&self) -> usize {
        self.0.table.count()
    }

    /// How often this happened.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.0.counts.get(refusal)
    }

    async fn answer(&self, path: &str, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let peer = peer(&parts).map(|peer| peer.to_string());
        let response = self.answer_to(path, parts, body).await;
        if let Some(refusal) = response.extensions().get::<Refusal>() {
            let reason = refusal.name();
            match refusal.concerns_operators() {
                true => tracing::info!(peer, reason, "SockJS request refused"),
                false => tracing::debug!(peer, reason, "SockJS request refused"),
            }
        }
        response
    }

    async fn answer_to(&self, path: &str, parts: Parts, body: Body) -> Response {
        let server = &self.0;
        let is_websocket = |route: &Route<'_>| matches!(route, Route::WebSocket | Route::RawWebSocket);
        let route = Route::parse(path).filter(|route| server.settings.websocket || !is_websocket(route));
        let Some(route) = route else {
            return server.refuse(Refused::NOT_FOUND);
        };
        if !route.allows(&parts.method) {
            let mut response = server.refuse(Refused::METHOD);
            response.headers_mut().remove(header::CONTENT_TYPE);
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(route.allow()));
            return response;
        }
        if !server.admits(route, &parts.headers) {
            return server.refuse(Refused::ORIGIN);
        }
        let common = Common::of(&parts, route, &server.settings);
        let mut response = match route {
            _ if parts.method == Method::OPTIONS => preflight(&parts, route),
            Route::Greeting => with_type(TEXT, Body::from("Welcome to SockJS!\n")),
            Route::Info => server.info(),
            Route::Iframe => server.iframe(&parts.headers),
            Route::Client => server.client(&parts.headers),
            Route::WebSocket => websocket::upgrade(server, Transport::WebSocket, parts).await,
            Route::RawWebSocket => websocket::upgrade(server, Transport::RawWebSocket, parts).await,
            Route::Receive(session, transport) => receive::receive(server, session, transport, parts).await,
            Route::XhrSend(session) => send::xhr_send(server, session, &parts, body).await,
            Route::JsonpSend(session) => send::jsonp_send(server, session, &parts, body).await,
        };
        common.complete(response.headers_mut());
        response
    }
}

impl Server {
    /// An answer that says why there is no other; it is counted.
    pub(crate) fn refuse(&self, refused: Refused) -> Response {
        let Refused {
            refusal,
            status,
            text,
        } = refused;
        self.counts.add(refusal, 1);
        let mut response = with_type(TEXT, Body::from(text));
        *response.status_mut() = status;
        response.extensions_mut().insert(refusal);
        response
    }

    /// Whether the site that caused a request may use the service. A browser that tells no origin tells, since 2020, whether it was another site's.
    fn admits(&self, route: Route<'_>, headers: &HeaderMap) -> bool {
        let origins = &self.settings.origins;
        if origins.is_empty() || matches!(route, Route::Greeting | Route::Iframe | Route::Client) {
            return true;
        }
        match headers.get(header::ORIGIN) {
            Some(origin) => origins
                .iter()
                .any(|allowed| allowed.as_bytes() == origin.as_bytes()),
            None => headers
                .get(SEC_FETCH_SITE)
                .is_none_or(|site| site == "same-origin" || site == "none"),
        }
    }

    pub(crate) fn key(&self, session: &str, parts: &Parts) -> Key {
        self.table.key(session, peer(parts), &parts.headers)
    }

    pub(crate) fn new_live(&self) -> Arc<Live> {
        let settings = &self.settings;
        let bounds = Bounds {
            session_timeout: settings.session_timeout,
            heartbeat: settings.heartbeat,
            stall_time: settings.stall_time,
            inbox_bytes: settings.max_inbox_bytes,
            outbox_bytes: settings.max_outbox_bytes,
            body_bytes: settings.max_body_bytes,
            stranger_bytes: settings.max_stranger_bytes,
        };
        Live::new(bounds, self.began, Arc::clone(&self.counts))
    }

    /// Gives a new session to the application.
    pub(crate) fn open(&self, live: &Arc<Live>, transport: Transport, request: Parts) {
        let session = Session::new(Arc::clone(live), transport, peer(&request));
        self.service.open(session, request);
    }

    /// Who receives a session, which is opened if it is new. `Ok(Err(frame))`: that frame is all that there is to receive.
    pub(crate) fn attach(
        self: &Arc<Self>,
        session: &str,
        transport: Transport,
        parts: Parts,
    ) -> Result<Result<Receiving, Frame>, Refused> {
        let key = self.key(session, &parts);
        let origin = parts.headers.get(header::ORIGIN);
        let new = || {
            let live = self.new_live();
            live.belongs_to(origin);
            live
        };
        let live = match self.table.get_or_insert(&key, peer(&parts), new)? {
            Found::Here(live) if live.belongs_to(origin) => live,
            Found::Here(_) => return Err(Refused::FOREIGN_SESSION),
            Found::New(live, place) => {
                let (timed, server) = (Arc::clone(&live), Arc::clone(self));
                tokio::spawn(async move {
                    timed.keep_time().await;
                    server.table.remove(&key);
                    drop(place);
                });
                self.open(&live, transport, parts);
                live
            }
        };
        let attached = live.attach();
        if attached
            .as_ref()
            .is_err_and(|frame| *frame == Frame::Close(Ended::ANOTHER_RECEIVER))
        {
            self.counts.add(Refusal::AnotherReceiver, 1);
        }
        Ok(attached)
    }

    fn info(&self) -> Response {
        let mut entropy = [0; 4];
        getrandom::fill(&mut entropy).expect("the system has random numbers");
        let info = serde_json::json!({
            "websocket": self.settings.websocket,
            "cookie_needed": self.settings.cookie_needed,
            "origins": ["*:*"],
            "entropy": u32::from_ne_bytes(entropy),
        });
        let mut response = with_type(JSON, Body::from(info.to_string()));
        not_cached(&mut response);
        response
    }

    fn iframe(&self, headers: &HeaderMap) -> Response {
        let mut response = self.iframe.answer(headers);
        cached(&mut response);
        let headers = response.headers_mut();
        // The page speaks to us for the page around it, under our origin.
        if !self.settings.origins.is_empty() {
            let policy = format!("frame-ancestors 'self' {}", self.settings.origins.join(" "));
            let policy = HeaderValue::from_str(&policy).expect("checked with the settings");
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }

    /// Its URL says no version, so browsers ask whether it is still the same.
    fn client(&self, headers: &HeaderMap) -> Response {
        let Some(client) = &self.client else {
            return self.refuse(Refused::NOT_FOUND);
        };
        let mut response = client.answer(headers);
        let no_cache = HeaderValue::from_static("no-cache");
        response.headers_mut().insert(header::CACHE_CONTROL, no_cache);
        response
    }
}

impl Page {
    fn new(content_type: &'static str, body: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        Self {
            content_type,
            body,
            etag: HeaderValue::from_str(&etag).expect("hexadecimal digits"),
        }
    }

    /// The page, or that the browser has it. RFC 9110 §13.1.2
    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut tags = known.flat_map(|value| value.split(','));
        let mut response =
            if tags.any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == self.etag.as_bytes()) {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            } else {
                with_type(self.content_type, Body::from(self.body.clone()))
            };
        response.headers_mut().insert(header::ETAG, self.etag.clone());
        response
    }
}

/// What the answer to a request has, whatever it is.
struct Common {
    /// `Access-Control-Allow-Origin`, and whether credentials may be sent.
    shared: Option<(HeaderValue, bool)>,
    cookie: Option<HeaderValue>,
}

impl Common {
    fn of(parts: &Parts, route: Route<'_>, settings: &SockJsSettings) -> Self {
        let shared = route
            .is_shared()
            .then(|| match parts.headers.get(header::ORIGIN) {
                Some(origin) => (origin.clone(), true),
                None => (HeaderValue::from_static("*"), false),
            });
        let wants_cookie = settings.cookie_needed && route.has_cookie() && parts.method != Method::OPTIONS;
        Self {
            shared,
            cookie: wants_cookie.then(|| cookie(&parts.headers)),
        }
    }

    fn complete(self, headers: &mut HeaderMap) {
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if let Some((origin, credentials)) = self.shared {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            if credentials {
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
        }
        if let Some(cookie) = self.cookie {
            headers.insert(header::SET_COOKIE, cookie);
        }
    }
}

/// The cookie of load balancers: the client's own, or a dummy. sockjs-protocol, "JSESSIONID cookie".
fn cookie(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let own = cookies
        .flat_map(|value| value.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("JSESSIONID="))
        .filter(|value| value.len() <= MAX_COOKIE && value.bytes().all(is_plain));
    let cookie = format!("JSESSIONID={}; path=/", own.unwrap_or("dummy"));
    HeaderValue::from_str(&cookie).expect("graphic characters")
}

/// The answer to a browser that asks whether a script of another site may send its request.
fn preflight(parts: &Parts, route: Route<'_>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    cached(&mut response);
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("31536000"),
    );
    // HEAD needs no leave where GET has it.
    let methods = route.allow().trim_end_matches(", HEAD");
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(methods),
    );
    let wanted = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

pub(crate) fn with_type(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn not_cached(response: &mut Response) {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(NOT_CACHED));
}

fn cached(response: &mut Response) {
    let expires = httpdate::fmt_http_date(SystemTime::now() + A_YEAR);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHED));
    headers.insert(
        header::EXPIRES,
        HeaderValue::from_str(&expires).expect("a date is plain text"),
    );
}

/// Where a request comes from, if the server around says so.
pub(crate) fn peer(parts: &Parts) -> Option<IpAddr> {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| address.ip())
}

/// The page by which browsers without CORS come here. sockjs-protocol, `IframePage`.
fn iframe(client_url: &str) -> String {
    format!(
        r#"<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="{client_url}"></script>
  <script>
    document.domain = document.domain;
    SockJS.bootstrap_iframe();
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>"#
    )
}
