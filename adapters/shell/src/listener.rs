//! A listener: accepts connections, applies the limits, and hands over what has passed all handshakes.
//!
//! Always true: a slow peer never delays the next; whatever the system says to `accept`, the listener goes on,
//! without spinning; what is refused is closed at once and counted.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headgate_sockjs::SettingsFault;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, ConnectionPermit};
use crate::dtls::DtlsError;
use crate::handshake::{self, Refusal};
use crate::limit::{AddressLimit, ConnectionLimit, TokenBucket};
use crate::settings::{ListenerKind, ListenerSettings, TlsSettings, WebSocketSettings};
use crate::socket::{Accepted, Socket};
use crate::sockjs::{SessionLimits, SockJsFront};
use crate::stages::Stages;
use crate::stats::{ListenerStats, RefuseReason};
use crate::throttle::ClientRate;
use crate::tls::{ServerTls, TlsError};

/// A bound listener. It accepts once it [runs](Self::run).
pub struct Listener {
    front: ListenerHandle,
    socket: Arc<Socket>,
}

/// A listener, for whoever asks or changes it while it runs. Clones are the same.
#[derive(Clone)]
pub struct ListenerHandle(Arc<Front>);

/// What connections come to.
struct Front {
    /// As long as the listener runs.
    socket: RwLock<Weak<Socket>>,
    /// As of now. Connections keep what they came to.
    state: RwLock<Arc<ListenerState>>,
    /// `None` until it runs.
    handler: Arc<RwLock<Option<Handler>>>,
}

/// Takes a connection that has passed all handshakes.
pub type Handler = Arc<dyn Fn(Connection) -> Stages + Send + Sync>;

/// Other settings of a listener, ready to be [taken](ListenerHandle::take).
pub struct PreparedChange(Arc<ListenerState>);

/// What the handshakes of a listener share.
pub(crate) struct ListenerState {
    pub(crate) name: Arc<str>,
    pub(crate) mount_point: Option<Arc<str>>,
    pub(crate) settings: ListenerSettings,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) websocket: WebSocketSettings,
    sockjs: Option<Arc<SockJsFront>>,
    /// As in [`Front`].
    handler: Arc<RwLock<Option<Handler>>>,
    pub(crate) stats: Arc<ListenerStats>,
    limit: ConnectionLimit,
    total: ConnectionLimit,
    per_address: Option<AddressLimit>,
    bucket: Option<Arc<Mutex<TokenBucket>>>,
}

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The settings contradict each other.
    #[error("listener `{listener}` on {address}: {fault}")]
    Settings {
        /// The listener's name.
        listener: String,
        /// As in the settings.
        address: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// The system refuses the address.
    #[error("listener `{listener}` cannot listen on {address}: {source}")]
    Bind {
        /// The listener's name.
        listener: String,
        /// As in the settings.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key of DTLS is unusable.
    #[error("listener `{listener}` on {address}: {source}")]
    Dtls {
        /// The listener's name.
        listener: String,
        /// As in the settings.
        address: String,
        /// What is wrong.
        source: Box<DtlsError>,
    },
    /// SockJS settings that cannot be.
    #[error("listener `{listener}`: `sockjs.{}`: {source}", source.key())]
    SockJs {
        /// The listener's name.
        listener: String,
        /// What is wrong.
        source: SettingsFault,
    },
    /// A certificate, key or list is unusable.
    #[error("listener `{listener}` on {address}: {source}")]
    Tls {
        /// The listener's name.
        listener: String,
        /// As in the settings.
        address: String,
        /// What is wrong.
        source: Box<TlsError>,
    },
}

impl ListenerSettings {
    /// The first contradiction, if there is one.
    fn check(&self) -> Result<(), ListenError> {
        match self.contradictions().first() {
            None => Ok(()),
            Some((_, fault)) => Err(ListenError::Settings {
                listener: self.name.clone(),
                address: self.bind.clone(),
                fault,
            }),
        }
    }

    /// Settings that do not go together, each with its key.
    pub(crate) fn contradictions(&self) -> Vec<(&'static str, &'static str)> {
        let is_unix = self.kind == ListenerKind::Unix;
        let (has_tls, wants_tls) = (self.tls.is_some(), self.kind.has_tls());
        let verifies = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let requires = self
            .tls
            .as_ref()
            .is_some_and(|tls| tls.require_client_certificate);
        let revokes = self.tls.as_ref().is_some_and(|tls| !tls.crl.is_empty());
        let rules = [
            (self.name.is_empty(), "name", "the name is empty"),
            (
                wants_tls && !has_tls,
                "tls",
                "this kind needs `tls = { certificate = \"FILE\", key = \"FILE\" }`",
            ),
            (
                has_tls && !self.kind.may_have_tls(),
                "tls",
                "TLS settings are for kind `tls`, `wss` or `sockjs`",
            ),
            (
                self.websocket.is_some() && !self.kind.has_websocket(),
                "websocket",
                "WebSocket settings are for kind `ws` or `wss`",
            ),
            (
                self.sockjs.is_some() && self.kind != ListenerKind::Sockjs,
                "sockjs",
                "SockJS settings are for kind `sockjs`",
            ),
            (
                self.unix.is_some() && !is_unix,
                "unix",
                "these settings are for kind `unix`",
            ),
            (
                self.proxy_protocol && is_unix,
                "proxy_protocol",
                "the PROXY protocol has no meaning on a Unix-domain socket",
            ),
            (
                self.proxy_protocol && !is_unix && self.trusted_proxies.is_empty(),
                "trusted_proxies",
                "the PROXY protocol is on, but no proxy is trusted",
            ),
            (
                requires && !verifies,
                "tls.require_client_certificate",
                "client certificates are required, but there is no CA for them",
            ),
            (
                revokes && !verifies,
                "tls.crl",
                "there is a revocation list, but no CA for client certificates",
            ),
        ];
        let broken = rules.into_iter().filter(|(broken, ..)| *broken);
        broken.map(|(_, key, what)| (key, what)).collect()
    }

    /// Whether the socket of a listener with these settings is right for one with `new`. If not, that listens elsewhere: it is another one.
    pub fn stays_at(&self, new: &Self) -> bool {
        let is_unix = |settings: &Self| settings.kind == ListenerKind::Unix;
        self.bind == new.bind && self.ipv6_only == new.ipv6_only && is_unix(self) == is_unix(new)
    }

    fn open(&self) -> Result<Socket, ListenError> {
        let bound = match self.kind {
            ListenerKind::Unix => Socket::bind_unix(self),
            _ => Socket::bind_tcp(self),
        };
        bound.map_err(|source| self.bind_error(source))
    }

    fn bind_error(&self, source: io::Error) -> ListenError {
        ListenError::Bind {
            listener: self.name.clone(),
            address: self.bind.clone(),
            source,
        }
    }
}

/// How fast each client may send.
fn client_rate(settings: &ListenerSettings) -> ClientRate {
    ClientRate {
        bytes_per_second: settings.max_client_bytes_per_second.unwrap_or(0),
        burst_bytes: settings.client_burst_bytes.unwrap_or(0),
        packets_per_second: settings.max_client_packets_per_second.unwrap_or(0),
        burst_packets: settings.client_burst_packets.unwrap_or(0),
    }
}

impl Listener {
    /// Binds and listens; connections wait in the system until [`Self::run`]. `total` is the limit over all
    /// listeners that share it. Needs a tokio runtime around it.
    pub fn bind(settings: ListenerSettings, total: &ConnectionLimit) -> Result<Self, ListenError> {
        let limit = ConnectionLimit::of(&settings.name);
        let handler = Arc::default();
        let fresh = ListenerState {
            name: settings.name.as_str().into(),
            mount_point: None,
            tls: None,
            websocket: WebSocketSettings::default(),
            sockjs: None,
            handler: Arc::clone(&handler),
            stats: Arc::new(ListenerStats::new(limit.clone())),
            limit,
            total: total.clone(),
            per_address: None,
            bucket: None,
            settings: ListenerSettings::default(),
        };
        let state = fresh.with(settings)?;
        state.set_limits();
        let socket = Arc::new(state.settings.open()?);
        let front = Front {
            socket: RwLock::new(Arc::downgrade(&socket)),
            state: RwLock::new(Arc::new(state)),
            handler,
        };
        Ok(Self {
            front: ListenerHandle(Arc::new(front)),
            socket,
        })
    }

    /// Listens once more where a listener has stopped, as the same: with its settings, its counts and its connections.
    pub fn bind_again(front: &ListenerHandle) -> Result<Self, ListenError> {
        let socket = Arc::new(front.state().settings.open()?);
        *front.0.socket.write() = Arc::downgrade(&socket);
        Ok(Self {
            front: front.clone(),
            socket,
        })
    }

    /// The address with the real port; `None` for a Unix-domain socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr()
    }

    /// What it counts; lives on when the listener has stopped.
    pub fn stats(&self) -> Arc<ListenerStats> {
        self.front.stats()
    }

    /// To ask and change it while it runs.
    pub fn handle(&self) -> ListenerHandle {
        self.front.clone()
    }

    /// Accepts until `shutdown`. Each connection has its own task, in which its handshakes run and then what
    /// `handler` gives. At `shutdown` the socket is closed, handshakes under way are given up, and
    /// this returns; connections already handed over belong to the handler.
    pub async fn run<H>(self, shutdown: CancellationToken, handler: H)
    where
        H: Fn(Connection) -> Stages + Send + Sync + 'static,
    {
        let Self { front, socket } = self;
        *front.0.handler.write() = Some(Arc::new(handler));
        let mut trouble = AcceptTrouble::default();
        let name = front.name();
        let address = socket
            .local_addr()
            .map_or_else(|| front.state().settings.bind.clone(), |a| a.to_string());
        tracing::info!(listener = %name, %address, "listening");
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    if trouble.over() {
                        front.state().stats.set_down(false);
                        tracing::info!(listener = %name, "connections are accepted again");
                    }
                    front.0.welcome(accepted, &shutdown);
                }
                // Of one connection, which is gone; nothing is wrong with us.
                Err(error) if is_of_the_peer(&error) => front.state().stats.set_down(false),
                Err(error) => {
                    front.state().stats.count_accept_error();
                    front.state().stats.set_down(true);
                    let (pause, tell) = trouble.again(Instant::now());
                    if tell {
                        tracing::warn!(listener = %name, %error, "cannot accept connections for now");
                    }
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        tracing::info!(listener = %name, "listener stopped");
    }
}

impl ListenerHandle {
    fn state(&self) -> Arc<ListenerState> {
        Arc::clone(&self.0.state.read())
    }

    /// The listener's name.
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.state().name)
    }

    /// What it was told last.
    pub fn settings(&self) -> ListenerSettings {
        self.state().settings.clone()
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<ListenerStats> {
        Arc::clone(&self.state().stats)
    }

    /// The address with the real port; `None` for a Unix-domain socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.socket.read().upgrade()?.local_addr()
    }

    /// Its TLS configuration, to have the files looked at without waiting for a client.
    pub fn tls(&self) -> Option<ServerTls> {
        self.state().tls.clone()
    }

    /// Makes other settings ready: files are read, nothing is changed. They are to be those of a listener that [stays](ListenerSettings::stays_at).
    pub fn prepare(&self, settings: ListenerSettings) -> Result<PreparedChange, ListenError> {
        Ok(PreparedChange(Arc::new(self.state().with(settings)?)))
    }

    /// Other settings from now on, for connections to come; those that are open stay. The limits of connections and addresses count both.
    pub fn take(&self, change: PreparedChange, handler: Handler) {
        let PreparedChange(state) = change;
        let socket = self.0.socket.read().upgrade();
        if let Some(Err(error)) = socket.map(|socket| socket.renew(&state.settings)) {
            tracing::warn!(listener = %state.name, %error, "the socket stays as it is");
        }
        state.set_limits();
        self.set_handler(handler);
        *self.0.state.write() = state;
    }

    /// What connections to come are given to from now on.
    pub fn set_handler(&self, handler: Handler) {
        *self.0.handler.write() = Some(handler);
    }

    /// The listener is no more: its connections say goodbye when they are woken ([`Hub::wake_all`](headgate_bus::handle::Hub::wake_all)).
    pub fn close_connections(&self) {
        self.state().limit.close();
    }
}

impl Front {
    /// Checks what can be checked without waiting, then lets the connection have its own task.
    fn welcome(&self, accepted: Accepted, shutdown: &CancellationToken) {
        let state = Arc::clone(&self.state.read());
        state.stats.count_accepted();
        let permit = match state.admit(&accepted) {
            Ok(permit) => permit,
            Err(refusal) => return state.refused(&accepted.peer(), &refusal),
        };
        let Some(handler) = self.handler.read().clone() else {
            return;
        };
        let (sockjs, shutdown) = (state.sockjs.clone(), shutdown.clone());
        tokio::spawn(Stages::new(async move {
            let opened = tokio::select! {
                biased;
                () = shutdown.cancelled() => None,
                opened = shake(state, accepted, permit) => opened,
            };
            opened.map(|connection| match sockjs {
                Some(sockjs) => sockjs.serve(connection),
                None => handler(connection),
            })
        }));
    }
}

/// Runs the handshakes of one connection.
async fn shake(
    shared: Arc<ListenerState>,
    accepted: Accepted,
    permit: ConnectionPermit,
) -> Option<Connection> {
    let peer = accepted.peer();
    match handshake::run(&shared, accepted, permit).await {
        Ok(connection) => {
            shared.stats.count_opened();
            Some(connection)
        }
        Err(refusal) => {
            shared.refused(&peer, &refusal);
            None
        }
    }
}

impl ListenerState {
    /// The same listener with other settings. What it counts, and who counts, stays.
    fn with(&self, settings: ListenerSettings) -> Result<Self, ListenError> {
        settings.check()?;
        let settings = settings.without_zeros();
        let load = |wanted: &TlsSettings| match &self.tls {
            // It looks at its files by itself.
            Some(known) if self.settings.tls.as_ref() == Some(wanted) => Ok(known.clone()),
            _ => ServerTls::load(&self.name, wanted.clone()),
        };
        let tls = settings.tls.as_ref().map(load).transpose();
        let tls = tls.map_err(|source| ListenError::Tls {
            listener: settings.name.clone(),
            address: settings.bind.clone(),
            source: Box::new(source),
        })?;
        let sockjs = self.sockjs_for(&settings)?;
        let flow = |settings: &ListenerSettings| (settings.max_connect_rate, settings.connect_burst);
        let bucket = |rate| TokenBucket::new(rate, settings.connect_burst.unwrap_or(rate));
        let bucket = match flow(&settings) == flow(&self.settings) {
            true => self.bucket.clone(),
            false => settings
                .max_connect_rate
                .map(|rate| Arc::new(Mutex::new(bucket(rate)))),
        };
        let known = self.per_address.clone().unwrap_or_else(|| AddressLimit::new(0));
        Ok(Self {
            name: Arc::clone(&self.name),
            mount_point: settings.mount_point.as_deref().map(Into::into),
            tls,
            websocket: websocket_of(&settings),
            sockjs,
            handler: Arc::clone(&self.handler),
            stats: Arc::clone(&self.stats),
            limit: self.limit.clone(),
            total: self.total.clone(),
            per_address: settings.max_connections_per_ip.map(|max| known.with_max(max)),
            bucket,
            settings,
        })
    }

    /// Sessions stay where their settings do.
    fn sockjs_for(&self, settings: &ListenerSettings) -> Result<Option<Arc<SockJsFront>>, ListenError> {
        if settings.kind != ListenerKind::Sockjs {
            return Ok(None);
        }
        let known = &self.settings;
        if let Some(sockjs) = &self.sockjs
            && (&known.sockjs, &known.access) == (&settings.sockjs, &settings.access)
        {
            return Ok(Some(Arc::clone(sockjs)));
        }
        let limits = SessionLimits {
            on_listener: self.limit.clone(),
            in_all: self.total.clone(),
        };
        let handler = Arc::clone(&self.handler);
        let refusals = self.stats.count_sockjs();
        let front = SockJsFront::new(settings, limits, handler, refusals);
        let front = front.map_err(|source| ListenError::SockJs {
            listener: settings.name.clone(),
            source,
        })?;
        Ok(Some(Arc::new(front)))
    }

    /// Makes its limits those of the settings.
    fn set_limits(&self) {
        self.limit.set_max(self.settings.max_connections);
        self.limit.set_rate(client_rate(&self.settings));
    }

    fn admit(&self, accepted: &Accepted) -> Result<ConnectionPermit, Refusal> {
        let mut permit = ConnectionPermit::default();
        // Who asks how the gateway is gets an answer.
        if self.total.is_overloaded() && self.settings.protocol != crate::http::NAME {
            return Err(Refusal::new(RefuseReason::Overload, "the gateway is overloaded"));
        }
        if let Accepted::Tcp(_, peer) = accepted {
            if !self.settings.proxy_protocol {
                self.admit_address(peer.ip(), &mut permit)?;
            } else if !self
                .settings
                .trusted_proxies
                .iter()
                .any(|proxy| proxy.contains(peer.ip()))
            {
                return Err(Refusal::new(RefuseReason::Proxy, "not a trusted proxy"));
            }
        }
        if self
            .bucket
            .as_ref()
            .is_some_and(|bucket| !bucket.lock().take(Instant::now()))
        {
            return Err(Refusal::new(RefuseReason::Rate, "too many new connections"));
        }
        let over = || Refusal::new(RefuseReason::Limit, "too many connections");
        permit.on_listener = Some(self.limit.acquire().ok_or_else(over)?);
        permit.in_all = Some(self.total.acquire().ok_or_else(over)?);
        Ok(permit)
    }

    /// Applies the address rules, and the limit for one address, to who the client is. For a forwarder, who
    /// speaks for many, only the rules; its clients are counted when they are known.
    pub(crate) fn admit_address(
        &self,
        address: IpAddr,
        permit: &mut ConnectionPermit,
    ) -> Result<(), Refusal> {
        if !self.settings.access.allow(address) {
            return Err(Refusal::new(
                RefuseReason::Address,
                "forbidden by the address rules",
            ));
        }
        if !self.is_forwarder(address)
            && let Some(limit) = &self.per_address
        {
            let slot = limit.acquire(address);
            let over = || Refusal::new(RefuseReason::Limit, "too many connections from this address");
            permit.from_address = Some(slot.ok_or_else(over)?);
        }
        Ok(())
    }

    pub(crate) fn is_forwarder(&self, address: IpAddr) -> bool {
        let sockjs = self.settings.sockjs.as_ref();
        let trusted = match self.settings.kind {
            ListenerKind::Ws | ListenerKind::Wss => &self.websocket.trusted_forwarders[..],
            ListenerKind::Sockjs => sockjs.map_or(&[][..], |sockjs| &sockjs.trusted_forwarders),
            _ => &[],
        };
        trusted.iter().any(|network| network.contains(address))
    }

    fn refused(&self, peer: &headgate_access::PeerAddr, refusal: &Refusal) {
        self.stats.count_refused(refusal.reason);
        let (reason, cause) = (refusal.reason.label(), &refusal.cause);
        tracing::info!(listener = %self.name, %peer, reason, %cause, "connection refused");
    }
}

/// The peer gave up before we came to accept it.
fn is_of_the_peer(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// How long to pause after `accept` failed, and when to tell.
#[derive(Default)]
struct AcceptTrouble {
    pause: Duration,
    told_at: Option<Instant>,
}

impl AcceptTrouble {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);
    const TELL_EVERY: Duration = Duration::from_secs(10);

    fn again(&mut self, now: Instant) -> (Duration, bool) {
        self.pause = (self.pause * 2).clamp(Self::FIRST, Self::LONGEST);
        let tell = self
            .told_at
            .is_none_or(|at| now.duration_since(at) >= Self::TELL_EVERY);
        if tell {
            self.told_at = Some(now);
        }
        (self.pause, tell)
    }

    /// Whether there was any.
    fn over(&mut self) -> bool {
        !std::mem::take(&mut self.pause).is_zero()
    }
}

/// How a listener speaks WebSocket, if it does.
fn websocket_of(settings: &ListenerSettings) -> WebSocketSettings {
    let told = settings.websocket.clone().unwrap_or_default();
    told.of_protocol(&settings.protocol, &settings.facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_second_and_the_log_hears_of_it_every_ten() {
        let start = Instant::now();
        let mut trouble = AcceptTrouble::default();
        let pauses: Vec<_> = (0..10).map(|_| trouble.again(start).0.as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);

        trouble.over();
        assert_eq!(trouble.again(start), (AcceptTrouble::FIRST, false));
        assert!(trouble.again(start + AcceptTrouble::TELL_EVERY).1);
    }

    #[test]
    fn settings_that_contradict_each_other_are_told_with_name_and_address() {
        let wrong = ListenerSettings {
            kind: ListenerKind::Tls,
            ..ListenerSettings::default()
        };
        let text = wrong.check().unwrap_err().to_string();
        assert_eq!(
            text,
            "listener `tcp` on 127.0.0.1:1883: this kind needs `tls = { certificate = \"FILE\", key = \"FILE\" }`"
        );

        let wrong = ListenerSettings {
            proxy_protocol: true,
            ..ListenerSettings::default()
        };
        assert!(
            wrong
                .check()
                .unwrap_err()
                .to_string()
                .contains("no proxy is trusted")
        );
    }
}
