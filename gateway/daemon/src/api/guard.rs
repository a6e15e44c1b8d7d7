//! Who asks: the control socket, a session or an API key; whether it may; and what it changed, for the audit log.
//!
//! A session is a cookie, which browsers send by themselves. So what changes something must show a second token in a header, which no other page can, and
//! must come from a page of this gateway, as far as the browser says from where.

use super::Control;
use super::server::Failure;
use crate::diagnostics::Secrets;
use crate::sys::unix_time;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE as COOKIE_HEADER, HOST, HeaderMap, ORIGIN,
};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use headgate_access::{ConnectionInfo, PeerAddr};
use headgate_admin::{AuditEntry, AuditLog, Identity, Moment, Role};
use headgate_shell::Caller;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

/// The cookie of a session.
pub(super) const COOKIE: &str = "headgate_session";
/// What changes of a session must show.
pub(super) const CSRF: &str = "x-csrf-token";

/// With this a page asks by itself: nobody uses the session by that.
const BACKGROUND: &str = "x-background";

/// Characters of a request that the audit log has: more than any name of ours.
const LONGEST_REQUEST: usize = 2_048;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    /// Its name and role.
    pub(super) who: Identity,
    /// Where from, in words.
    pub(super) from: String,
    /// By what it came.
    pub(super) by: By,
}

/// By what somebody came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The control socket.
    Socket,
    /// A session, by its cookie.
    Session {
        /// The cookie.
        token: String,
        /// What its changes must show.
        csrf: String,
    },
    /// An API key.
    Key {
        /// Its id.
        id: String,
    },
    /// An administrator's name and password, with each request, to an API of another broker.
    Password,
}

/// What an entry of the table wants.
#[derive(Clone, Copy)]
pub(super) struct Guard {
    /// The least role.
    pub(super) role: Role,
    /// What is done, in words, if it changes something.
    pub(super) action: Option<&'static str>,
}

/// What a change has changed.
#[derive(Clone)]
pub(super) struct Difference {
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

/// How many changes each of those who are no administrators has made in this second: each costs the disk two writes. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Pace(Arc<Mutex<HashMap<String, (u64, u32)>>>);

impl Pace {
    /// Changes a second.
    const MOST: u32 = 20;

    /// Whether one more may be made. Names are those of people and keys, of which there are few.
    pub(super) fn check(&self, asking: &Asking) -> Result<(), Failure> {
        if asking.who.role == Role::Administrator {
            return Ok(());
        }
        let (now, mut made) = (unix_time(), self.0.lock());
        made.retain(|_, (second, _)| *second == now);
        let (_, count) = made.entry(asking.who.name.clone()).or_insert((now, 0));
        *count += 1;
        if *count <= Self::MOST {
            return Ok(());
        }
        let what = format!("more than {} changes in a second: wait", Self::MOST);
        Err(Failure(StatusCode::TOO_MANY_REQUESTS, what))
    }
}

/// Now.
pub(super) fn moment() -> Moment {
    Moment {
        steady: Instant::now(),
        unix: unix_time(),
    }
}

/// The address that somebody asks from.
pub(super) fn address(peer: PeerAddr) -> IpAddr {
    match peer {
        PeerAddr::Ip(address) => address.ip(),
        _ => Ipv4Addr::LOCALHOST.into(),
    }
}

/// Lets somebody ask who may, and writes changes down.
pub(super) async fn pass(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Some(asking) = request.extensions().get::<Asking>().cloned() else {
        return unknown().into_response();
    };
    if asking.who.role < guard.role {
        let (name, has, wants) = (&asking.who.name, asking.who.role.name(), guard.role.name());
        tell_refused(&asking, request.uri());
        let what = format!("`{name}` is {has}, this is for {wants}s");
        return Failure(StatusCode::FORBIDDEN, what).into_response();
    }
    let control = request.extensions().get::<Control>().cloned();
    let Some((action, control)) = guard.action.zip(control) else {
        return next.run(request).await;
    };
    if let Err(refusal) = control.pace.check(&asking) {
        return refusal.into_response();
    }
    let asked = format!("{} {}", request.method(), shown(request.uri()));
    // It goes on, and is written down, although whoever asked has gone.
    let done = tokio::spawn(async move {
        let change = Change::begin(&control, &asking, asked, action);
        let (response, answer) = answered(next.run(request).await).await;
        let difference = response.extensions().get::<Difference>().cloned();
        let difference = difference.or(answer);
        change.end(response.status(), difference);
        response
    });
    match done.await {
        Ok(response) => response,
        Err(error) => Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What a change has come to as its answer says it, where nothing else does: without secrets, and if it is short.
async fn answered(response: Response) -> (Response, Option<Difference>) {
    const MOST: usize = 4 << 10;
    let kind = response.headers().get(CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let is_short = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|bytes| bytes <= MOST as u64);
    if !(response.status().is_success() && is_json && is_short) {
        return (response, None);
    }
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, MOST).await.unwrap_or_default();
    let told = serde_json::from_slice::<Value>(&bytes).ok();
    let told = told.filter(|told| told.as_object().is_some_and(|fields| !fields.is_empty()));
    let after = told.map(|mut told| {
        Secrets::default().take_out(&mut told);
        Difference {
            before: None,
            after: Some(told),
        }
    });
    (Response::from_parts(head, Body::from(bytes)), after)
}

/// In the log: what is refused changes nothing, and does not push changes out of the audit log.
pub(super) fn tell_refused(asking: &Asking, asked: &Uri) {
    let (name, role, path) = (&asking.who.name, asking.who.role.name(), asked.path());
    tracing::info!(
        name,
        role,
        from = asking.from,
        path,
        "an administrator was refused"
    );
}

/// One entry of the audit log: written down when the change begins, and when it has ended.
pub(super) struct Change {
    audit: AuditLog,
    role: Role,
    entry: AuditEntry,
}

impl Change {
    pub(super) fn begin(control: &Control, asking: &Asking, request: String, action: &str) -> Self {
        let entry = AuditEntry {
            number: 0,
            at: unix_time(),
            who: asking.who.name.clone(),
            from: asking.from.clone(),
            request,
            action: action.to_owned(),
            status: None,
            before: None,
            after: None,
        };
        let mut change = Self {
            audit: control.audit.clone(),
            role: asking.who.role,
            entry,
        };
        let begun = || change.audit.begin(change.role, change.entry.clone());
        let (number, written) = tokio::task::block_in_place(begun);
        change.tell(written);
        change.entry.number = number;
        change
    }

    pub(super) fn end(mut self, status: StatusCode, difference: Option<Difference>) {
        let AuditEntry {
            number,
            who,
            from,
            request,
            ..
        } = &self.entry;
        if self.role != Role::Administrator && status.is_client_error() {
            // It changed nothing, and pushes nothing out.
            tracing::info!(
                who,
                from,
                request,
                status = status.as_u16(),
                "a change was refused"
            );
            return tokio::task::block_in_place(|| self.audit.forget(*number));
        }
        self.entry.status = Some(status.as_u16());
        if let Some(Difference { before, after }) = difference {
            (self.entry.before, self.entry.after) = (before, after);
        }
        let ended = || self.audit.end(self.role, self.entry.clone());
        let written = tokio::task::block_in_place(ended);
        self.tell(written);
    }

    /// On a full disk changes go on: they may be what makes room.
    fn tell(&self, written: std::io::Result<()>) {
        let AuditEntry { who, action, .. } = &self.entry;
        if let Err(error) = written {
            tracing::error!(%error, who, action, "a change is not in the audit log");
        }
    }
}

/// A path may hold secrets only by mistake; a query is cut.
pub(super) fn shown(uri: &Uri) -> String {
    let text = uri
        .path_and_query()
        .map_or_else(|| uri.path().to_owned(), ToString::to_string);
    text.chars().take(LONGEST_REQUEST).collect()
}

/// The control socket: whoever could open it.
pub(super) async fn local(
    State(control): State<Control>,
    axum::extract::ConnectInfo(peer): axum::extract::ConnectInfo<super::server::LocalPeer>,
    mut request: Request,
    next: Next,
) -> Response {
    let asking = Asking {
        who: Identity {
            name: peer.name(),
            role: Role::Administrator,
        },
        from: "control socket".into(),
        by: By::Socket,
    };
    request.extensions_mut().insert(asking);
    request.extensions_mut().insert(control);
    next.run(request).await
}

/// A listener: who shows a session or a key; nobody else, and nobody at all before there is an administrator.
pub(super) async fn remote(State(control): State<Control>, mut request: Request, next: Next) -> Response {
    let info = request.extensions().get::<Arc<ConnectionInfo>>().cloned();
    let peer = info.map_or(PeerAddr::Memory, |info| info.peer);
    let response = match identify(&control, &request, peer) {
        Ok(asking) => {
            if let Some(asking) = asking {
                // A limit of connections is for strangers.
                if let Some(caller) = request.extensions().get::<Caller>() {
                    caller.is_known();
                }
                request.extensions_mut().insert(asking);
            }
            request.extensions_mut().insert(control);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    with_no_store(response)
}

fn with_no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(axum::http::HeaderValue::from_static("no-store"));
    response
}

/// Who asks; `None` for nobody in particular.
fn identify(control: &Control, request: &Request, peer: PeerAddr) -> Result<Option<Asking>, Failure> {
    let headers = request.headers();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && is_foreign_page(headers) {
        let what = "a page of another server may not ask for this";
        return Err(Failure(StatusCode::FORBIDDEN, what.into()));
    }
    let from = peer.to_string();
    if let Some((id, secret)) = basic(headers) {
        let known = control.admin.key(&id, &secret, moment());
        let asking = |who| Asking {
            who,
            from,
            by: By::Key { id },
        };
        return known.map(|who| Some(asking(who))).ok_or_else(unknown);
    }
    let uses = !headers.contains_key(BACKGROUND);
    // Another server of this host may have set a cookie of this name, too.
    let known = cookies(headers).into_iter().find_map(|token| {
        let (who, csrf) = control.admin.session(&token, uses, moment())?;
        Some((token, who, csrf))
    });
    let Some((token, who, csrf)) = known else {
        return Ok(None);
    };
    let shown = headers.get(CSRF).and_then(|shown| shown.to_str().ok());
    let is_open = *request.method() == Method::POST && is_open(request.uri().path());
    if changes && shown != Some(&csrf) && !is_open {
        let what = format!("a change by a session must show its token in the header `{CSRF}`");
        return Err(Failure(StatusCode::FORBIDDEN, what));
    }
    Ok(Some(Asking {
        who,
        from,
        by: By::Session { token, csrf },
    }))
}

/// What begins a session needs none.
fn is_open(path: &str) -> bool {
    let open = ["/session", "/setup"];
    path.strip_prefix(super::routes::PREFIX)
        .is_some_and(|path| open.contains(&path))
}

/// Whether a browser says that a page of another server asks.
pub(super) fn is_foreign_page(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
    };
    match headers.get(ORIGIN) {
        None => false,
        Some(_) => {
            let origin = text(ORIGIN).and_then(|origin| origin.split_once("://"));
            let origin = origin.map(|(_, host)| host);
            origin.is_none() || origin != text(HOST)
        }
    }
}

/// Name and password of HTTP's Basic authentication. RFC 7617
pub(super) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let given = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, given) = given.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let given = base64::engine::general_purpose::STANDARD
        .decode(given.trim())
        .ok()?;
    let given = String::from_utf8(given).ok()?;
    let (name, password) = given.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Cookies that may be a session, a few at most. RFC 6265 §4.2
pub(super) fn cookies(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(COOKIE_HEADER).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let named = pairs.filter_map(|pair| pair.trim().split_once('='));
    let named = named.filter(|(name, _)| *name == COOKIE);
    named.map(|(_, value)| value.to_owned()).take(16).collect()
}

/// Whoever is nobody. It goes without `WWW-Authenticate`: a browser would ask for a name of its own accord.
fn unknown() -> Failure {
    Failure(StatusCode::UNAUTHORIZED, "log in first".into())
}

/// Nobody is asked anything but for the set-up before there is an administrator.
pub(super) async fn set_up_first(State(control): State<Control>, request: Request, next: Next) -> Response {
    let is_setup = request.uri().path() == format!("{}/setup", super::routes::PREFIX);
    if is_setup || control.admin.setup_code().is_none() {
        return next.run(request).await;
    }
    let told = json!({
        "error": "this gateway has no administrator yet: open it in a browser, or see `headgate administrators add`",
        "setup": true,
    });
    with_no_store((StatusCode::FORBIDDEN, axum::Json(told)).into_response())
}
