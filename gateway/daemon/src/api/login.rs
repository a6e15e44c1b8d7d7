//! Set-up, log-in and log-out.

use super::guard::{self, Asking, By};
use super::routes::Routes;
use super::server::{Answer, Control, Done, Failure};
use axum::extract::{Extension, State};
use axum::http::header::{HeaderValue, SET_COOKIE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use headgate_access::{ConnectionInfo, PeerAddr, subscriber};
use headgate_admin::{AdminError, Login, Role};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Passwords of administrators that are checked at a time: each takes a core for tens of milliseconds, and 19 MiB.
const AT_ONCE: usize = 2;
/// So many of one address wait, with those that are checked; who comes then is told to come later. They are served as they come, so that nobody waits for
/// more than a few of each address.
const MAX_OF_AN_ADDRESS: usize = 2;

/// Places for those who log in. Clones share them.
#[derive(Clone)]
pub(crate) struct Logins {
    waiting: Arc<Mutex<HashMap<IpAddr, usize>>>,
    checking: Arc<Semaphore>,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
            checking: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Logins {
    /// A place for somebody at this address.
    fn place(&self, address: IpAddr) -> Option<Waiting> {
        let network = subscriber(address);
        let mut waiting = self.waiting.lock();
        let here = waiting.entry(network).or_default();
        (*here < MAX_OF_AN_ADDRESS).then(|| {
            *here += 1;
            Waiting(self.clone(), network)
        })
    }
}

/// A place of an address, free again when dropped.
struct Waiting(Logins, IpAddr);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        if let Some(here) = waiting.get_mut(&self.1) {
            *here -= 1;
            if *here == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

pub(super) fn routes() -> Routes {
    Routes::default()
        .open(
            Method::GET,
            "/setup",
            "Says whether this gateway has an administrator.",
            setup,
        )
        .open(
            Method::POST,
            "/setup",
            "Makes the first administrator, with the code of a new gateway.",
            set_up,
        )
        .open(Method::POST, "/session", "Logs in.", log_in)
        .get(Role::Viewer, "/session", "Says who is logged in.", session)
        .quiet(Method::DELETE, Role::Viewer, "/session", "Logs out.", log_out)
        .put(
            Role::Viewer,
            "/session/password",
            "Gives oneself another password.",
            change_password,
        )
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let status = match &error {
            AdminError::Wrong(_) => StatusCode::UNAUTHORIZED,
            AdminError::Locked(_) => StatusCode::TOO_MANY_REQUESTS,
            AdminError::Exists(_)
            | AdminError::KeyExists(_)
            | AdminError::Last(_)
            | AdminError::SetUp
            | AdminError::TooMany(_)
            | AdminError::TooManyKeys(_) => StatusCode::CONFLICT,
            AdminError::Unknown(_) | AdminError::UnknownKey(_) => StatusCode::NOT_FOUND,
            AdminError::Name | AdminError::Password => StatusCode::UNPROCESSABLE_ENTITY,
            AdminError::File { .. } | AdminError::Random(_) | AdminError::Hash(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self(status, error.to_string())
    }
}

/// What a page needs before anybody has logged in.
#[derive(Serialize, JsonSchema)]
struct Setup {
    /// There is no administrator yet.
    needed: bool,
    /// Where the code stands, on the gateway; `null` when it is not needed.
    code_file: Option<String>,
    node: String,
    version: &'static str,
}

async fn setup(State(control): State<Control>) -> Json<Setup> {
    let needed = control.admin.setup_code().is_some();
    Json(Setup {
        needed,
        code_file: needed.then(|| control.admin.code_file().display().to_string()),
        node: control.live.config().await.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The first administrator.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct First {
    code: String,
    name: String,
    password: String,
}

/// Who has a session.
#[derive(Serialize, JsonSchema)]
pub(super) struct SessionView {
    name: String,
    role: Role,
    /// What changes show in the header `x-csrf-token`; `null` for who came by a key or by the control socket.
    csrf: Option<String>,
    /// So long a session may be idle.
    idle_seconds: u64,
}

/// A session, with its cookie.
pub(super) struct WithCookie(Json<SessionView>, HeaderValue);

impl IntoResponse for WithCookie {
    fn into_response(self) -> Response {
        ([(SET_COOKIE, self.1)], self.0).into_response()
    }
}

impl super::routes::Given for WithCookie {
    fn describe(shape: &mut super::openapi::Shape, schemas: &mut super::openapi::Schemas) {
        <Json<SessionView> as super::routes::Given>::describe(shape, schemas);
    }
}

type Peer = Option<Extension<Arc<ConnectionInfo>>>;

impl<T> super::routes::Taken for Option<Extension<T>> {}

/// Where somebody asks from, and whether by TLS.
fn peer(info: Peer) -> (IpAddr, String, bool) {
    match info {
        Some(Extension(info)) => (
            guard::address(info.peer),
            info.peer.to_string(),
            info.tls.is_some(),
        ),
        None => (guard::address(PeerAddr::Memory), "control socket".into(), false),
    }
}

async fn set_up(
    State(control): State<Control>,
    info: Peer,
    Json(first): Json<First>,
) -> Result<WithCookie, Failure> {
    let (address, from, secure) = peer(info);
    let admin = control.admin.clone();
    let name = first.name.clone();
    let login = off_the_threads(&control, Some(address), move || {
        admin.set_up(
            &first.code,
            &first.name,
            &first.password,
            address,
            guard::moment(),
        )
    });
    let login = login.await.inspect_err(|Failure(_, why)| {
        tracing::warn!(from, why, "the set-up was refused");
    })?;
    tracing::info!(name, from, "the first administrator was made");
    let asking = Asking {
        who: login.identity.clone(),
        from,
        by: By::Socket,
    };
    let (request, action) = ("POST /api/v1/setup", "Makes the first administrator.");
    guard::Change::begin(&control, &asking, request.into(), action).end(StatusCode::OK, None);
    Ok(with_cookie(&control, login, secure))
}

/// A name and a password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    name: String,
    password: String,
}

async fn log_in(
    State(control): State<Control>,
    info: Peer,
    Json(given): Json<Credentials>,
) -> Result<WithCookie, Failure> {
    let (address, from, secure) = peer(info);
    let admin = control.admin.clone();
    let name = given.name.clone();
    let login = off_the_threads(&control, Some(address), move || {
        admin.log_in(&given.name, &given.password, address, guard::moment())
    });
    let login = login.await.inspect_err(|Failure(_, why)| {
        tracing::warn!(name, from, why, "an administrator was not let in");
    })?;
    tracing::info!(
        name,
        from,
        role = login.identity.role.name(),
        "an administrator logged in"
    );
    Ok(with_cookie(&control, login, secure))
}

/// Runs what takes long on purpose, few at a time. `stranger`: where somebody asks who is not known yet.
pub(super) async fn off_the_threads<T: Send + 'static>(
    control: &Control,
    stranger: Option<IpAddr>,
    work: impl FnOnce() -> Result<T, AdminError> + Send + 'static,
) -> Result<T, Failure> {
    let logins = &control.logins;
    let busy = || {
        let what = "too many log in from your address at the moment: try again";
        Failure(StatusCode::TOO_MANY_REQUESTS, what.into())
    };
    let _place = stranger
        .map(|address| logins.place(address).ok_or_else(busy))
        .transpose()?;
    let slot = Arc::clone(&logins.checking).acquire_owned().await;
    let slot = slot.map_err(|_| Failure(StatusCode::SERVICE_UNAVAILABLE, "the gateway stops".into()))?;
    // It goes on although whoever asked has gone: the slot is held until it is done.
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(slot);
        done
    });
    match done.await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn with_cookie(control: &Control, login: Login, secure: bool) -> WithCookie {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Strict{secure}",
        guard::COOKIE,
        login.token
    );
    let cookie = HeaderValue::from_str(&cookie).expect("it is of letters and digits");
    let view = SessionView {
        name: login.identity.name,
        role: login.identity.role,
        csrf: Some(login.csrf),
        idle_seconds: control.admin.idle().as_secs(),
    };
    WithCookie(Json(view), cookie)
}

async fn session(State(control): State<Control>, Extension(asking): Extension<Asking>) -> Json<SessionView> {
    let csrf = match asking.by {
        By::Session { csrf, .. } => Some(csrf),
        By::Socket | By::Key { .. } | By::Password => None,
    };
    Json(SessionView {
        name: asking.who.name,
        role: asking.who.role,
        csrf,
        idle_seconds: control.admin.idle().as_secs(),
    })
}

async fn log_out(State(control): State<Control>, Extension(asking): Extension<Asking>) -> Json<Done> {
    if let By::Session { token, .. } = &asking.by {
        control.admin.log_out(token);
        tracing::info!(name = asking.who.name, "an administrator logged out");
    }
    Json(Done {})
}

/// The password that one has, and that one wants.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    old: String,
    new: String,
}

/// All sessions of the administrator end, also this one.
async fn change_password(
    State(control): State<Control>,
    info: Peer,
    Extension(asking): Extension<Asking>,
    Json(wanted): Json<NewPassword>,
) -> Answer<Done> {
    let By::Session { .. } = asking.by else {
        let what = "only an administrator who has logged in has a password here";
        return Err(Failure(StatusCode::CONFLICT, what.into()));
    };
    let (address, ..) = peer(info);
    let admin = control.admin.clone();
    let name = asking.who.name;
    off_the_threads(&control, None, move || {
        admin.check_password(&name, &wanted.old, address, guard::moment())?;
        admin.alter(&name, Some(&wanted.new), None)
    })
    .await?;
    Ok(Json(Done {}))
}
