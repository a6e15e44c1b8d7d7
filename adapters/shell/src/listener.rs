//! A listener: accepts connections, applies the limits, and hands over what has passed all handshakes.
//!
//! Always true: a slow peer never delays the next; whatever the system says to `accept`, the listener goes on,
//! without spinning; what is refused is closed at once and counted.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, ConnectionPermit};
use crate::handshake::{self, Refusal};
use crate::limit::{AddressLimit, ConnectionLimit, TokenBucket};
use crate::settings::{ListenerKind, ListenerSettings, WebSocketSettings};
use crate::socket::{Accepted, Socket};
use crate::stages::Stages;
use crate::stats::{ListenerStats, RefuseReason};
use crate::throttle::ClientRate;
use crate::tls::{ServerTls, TlsError};

/// A bound listener. It accepts once it [runs](Self::run).
pub struct Listener {
    socket: Socket,
    bucket: Option<TokenBucket>,
    shared: Arc<ListenerState>,
}

/// What the handshakes of a listener share.
pub(crate) struct ListenerState {
    pub(crate) name: Arc<str>,
    pub(crate) mount_point: Option<Arc<str>>,
    pub(crate) settings: ListenerSettings,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) websocket: WebSocketSettings,
    pub(crate) stats: Arc<ListenerStats>,
    limit: ConnectionLimit,
    total: ConnectionLimit,
    per_address: Option<AddressLimit>,
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
                has_tls && !wants_tls,
                "tls",
                "TLS settings are for kind `tls` or `wss`",
            ),
            (
                self.websocket.is_some() && !self.kind.has_websocket(),
                "websocket",
                "WebSocket settings are for kind `ws` or `wss`",
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
        settings.check()?;
        let settings = settings.without_zeros();
        let name: Arc<str> = settings.name.as_str().into();
        let tls = settings
            .tls
            .clone()
            .map(|tls| ServerTls::load(&name, tls))
            .transpose();
        let tls = tls.map_err(|source| ListenError::Tls {
            listener: settings.name.clone(),
            address: settings.bind.clone(),
            source: Box::new(source),
        })?;
        let bound = match settings.kind {
            ListenerKind::Unix => Socket::bind_unix(&settings),
            _ => Socket::bind_tcp(&settings),
        };
        let socket = bound.map_err(|source| settings.bind_error(source))?;

        let limit = ConnectionLimit::of(&settings.name, settings.max_connections, client_rate(&settings));
        let bucket = settings
            .max_connect_rate
            .map(|rate| TokenBucket::new(rate, settings.connect_burst.unwrap_or(rate)));
        let shared = ListenerState {
            name,
            mount_point: settings.mount_point.as_deref().map(Into::into),
            tls,
            websocket: settings.websocket.clone().unwrap_or_default(),
            stats: Arc::new(ListenerStats::new(limit.clone())),
            limit,
            total: total.clone(),
            per_address: settings.max_connections_per_ip.map(AddressLimit::new),
            settings,
        };
        Ok(Self {
            socket,
            bucket,
            shared: Arc::new(shared),
        })
    }

    /// The address with the real port; `None` for a Unix-domain socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr()
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it counts; lives on when the listener has stopped.
    pub fn stats(&self) -> Arc<ListenerStats> {
        self.shared.stats.clone()
    }

    /// Its own limit, to be changed while it runs.
    pub fn limit(&self) -> ConnectionLimit {
        self.shared.limit.clone()
    }

    /// Its TLS configuration, to have the files looked at without waiting for a client.
    pub fn tls(&self) -> Option<ServerTls> {
        self.shared.tls.clone()
    }

    /// Accepts until `shutdown`. Each connection has its own task, in which its handshakes run and then what
    /// `handler` gives. At `shutdown` the socket is closed, handshakes under way are given up, and
    /// this returns; connections already handed over belong to the handler.
    pub async fn run<H>(mut self, shutdown: CancellationToken, handler: H)
    where
        H: Fn(Connection) -> Stages + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let mut trouble = AcceptTrouble::default();
        let address = self
            .local_addr()
            .map_or_else(|| self.shared.settings.bind.clone(), |a| a.to_string());
        tracing::info!(listener = %self.shared.name, %address, "listening");
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    if trouble.over() {
                        tracing::info!(listener = %self.shared.name, "connections are accepted again");
                    }
                    self.take(accepted, &shutdown, &handler);
                }
                // Of one connection, which is gone; nothing is wrong with us.
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    self.shared.stats.count_accept_error();
                    let (pause, tell) = trouble.again(Instant::now());
                    if tell {
                        tracing::warn!(listener = %self.shared.name, %error, "cannot accept connections for now");
                    }
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        tracing::info!(listener = %self.shared.name, "listener stopped");
    }

    /// Checks what can be checked without waiting, then lets the connection have its own task.
    fn take<H>(&mut self, accepted: Accepted, shutdown: &CancellationToken, handler: &Arc<H>)
    where
        H: Fn(Connection) -> Stages + Send + Sync + 'static,
    {
        self.shared.stats.count_accepted();
        let permit = match self.admit(&accepted) {
            Ok(permit) => permit,
            Err(refusal) => return self.shared.refused(&accepted.peer(), &refusal),
        };
        let (shared, shutdown, handler) = (self.shared.clone(), shutdown.clone(), handler.clone());
        tokio::spawn(Stages::new(async move {
            let opened = tokio::select! {
                biased;
                () = shutdown.cancelled() => None,
                opened = shake(shared, accepted, permit) => opened,
            };
            opened.map(|connection| handler(connection))
        }));
    }

    fn admit(&mut self, accepted: &Accepted) -> Result<ConnectionPermit, Refusal> {
        let shared = &self.shared;
        let mut permit = ConnectionPermit::default();
        if let Accepted::Tcp(_, peer) = accepted {
            if !shared.settings.proxy_protocol {
                shared.admit_address(peer.ip(), &mut permit)?;
            } else if !shared
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
            .as_mut()
            .is_some_and(|bucket| !bucket.take(Instant::now()))
        {
            return Err(Refusal::new(RefuseReason::Rate, "too many new connections"));
        }
        let over = || Refusal::new(RefuseReason::Limit, "too many connections");
        permit.on_listener = Some(shared.limit.acquire().ok_or_else(over)?);
        permit.in_all = Some(shared.total.acquire().ok_or_else(over)?);
        Ok(permit)
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
        self.settings.kind.has_websocket()
            && self
                .websocket
                .trusted_forwarders
                .iter()
                .any(|network| network.contains(address))
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
