//! DTLS around a UDP socket: what is handed over was authentic, and its address is the name of a session.
//!
//! Always true: a session keeps its name while its client changes its address; a name is never given again; what is sent to a session that is gone goes nowhere, and is counted.

mod files;
mod keys;
mod peers;

use crate::datagram::{DatagramStats, DatagramTransport};
use crate::listener::ListenError;
use crate::settings::dtls::MAX_IDENTITY;
use crate::settings::{DtlsSettings, UdpSettings};
use crate::tls::identity::certificate_of;
use crate::udp::{UdpAddress, UdpTransport};
use bytes::Bytes;
use files::Loaded;
use headgate_access::{ANSWER_IN, AccessService, ConnectionInfo, SharedKey, TlsInfo};
use headgate_dtls::{CloseReason, Counter, DtlsServer, Event, Failure, Outputs, Peer, Reason, Shown};
use headgate_model::bus::PeerName;
use headgate_model::datagram::Address;
use headgate_model::{Destination, Fault, Instant, MemoryLimit};
use peers::{Known, Peers};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Sleep;

pub use files::DtlsError;
pub use keys::KeyFileError;

/// How often hellos without a cookie, which anybody may send, let the files be looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a key that nobody guesses.
const STRONG: usize = 16;
/// Handshakes whose key is looked for while the files are read.
const MAX_WAITING: usize = 1_000;

/// The counters of the socket, and those of DTLS behind them.
static COUNTERS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| [crate::udp::COUNTERS, headgate_dtls::COUNTERS].concat());

/// All that is wrong with the files of DTLS settings.
pub(crate) fn faults(settings: &DtlsSettings) -> Vec<Fault> {
    files::faults(settings)
}

/// What is probably not as it was meant: keys that can be guessed.
pub(crate) fn warnings(settings: &DtlsSettings) -> Vec<Fault> {
    let keys = keys::SharedKeys::load(settings).unwrap_or_default();
    let own = settings.as_tls().map(|tls| crate::tls::warnings(&tls));
    let key = match settings.psk_file {
        Some(_) => "psk_file",
        None => "psk",
    };
    let short = Some(keys.shorter_than(STRONG)).filter(|count| *count > 0);
    let short = short.map(|count| {
        let what = "can be guessed by whoever has seen a handshake: `openssl rand -hex 16` makes a good one";
        Fault::new(
            key,
            format!("shared keys shorter than {STRONG} bytes: {count}; such a key {what}"),
        )
    });
    short.into_iter().chain(own.into_iter().flatten()).collect()
}

/// A session, and where its client was when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DtlsAddress {
    session: u64,
    from: UdpAddress,
}

const _: () = assert!(size_of::<DtlsAddress>() == 32, "there is one for each client");

impl Address for DtlsAddress {
    // Whoever sends in its name has its keys.
    const FORGEABLE: bool = false;

    fn presence(&self) -> (PeerName, u16) {
        self.from.presence()
    }

    /// Of no session: keys are gone with the process that had them.
    fn of_presence(peer: &str, port: u16) -> Option<Self> {
        Some(Self {
            session: u64::MAX,
            from: UdpAddress::of_presence(peer, port)?,
        })
    }
}

/// A socket whose peers speak DTLS 1.2.
pub struct DtlsTransport {
    udp: UdpTransport,
    server: DtlsServer<UdpAddress>,
    out: Outputs<UdpAddress>,
    name: Arc<str>,
    settings: DtlsSettings,
    files: Files,
    /// Knows further shared keys.
    access: Option<Arc<dyn AccessService>>,
    asked: JoinSet<(u64, Option<SharedKey>)>,
    /// What is known of the clients of sessions.
    peers: Peers,
    began: tokio::time::Instant,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// What was read, and the look at whether it is still so.
struct Files {
    loaded: Loaded,
    looked_at: Option<tokio::time::Instant>,
    looking: Option<JoinHandle<Option<Result<Loaded, DtlsError>>>>,
    /// Who waits for the look: handshakes and their identities.
    waiting: Vec<(u64, Vec<u8>)>,
}

impl DtlsTransport {
    /// Binds the socket and reads the files. Needs a tokio runtime around it.
    pub fn bind(
        name: &str,
        mount_point: Option<&str>,
        udp: &UdpSettings,
        settings: &DtlsSettings,
    ) -> Result<Self, ListenError> {
        let loaded = files::load(settings).map_err(|source| ListenError::Dtls {
            listener: name.to_owned(),
            address: udp.bind.clone(),
            source: Box::new(source),
        })?;
        let udp = UdpTransport::bind(name, mount_point, udp)?.counting_as(&COUNTERS);
        let random = |bytes: &mut [u8]| {
            // Without random numbers there is no secret: better none than a known one.
            getrandom::fill(bytes).expect("the system has random numbers");
        };
        let mut server = DtlsServer::new(
            settings.server(),
            loaded.credentials.clone(),
            Box::new(random),
            Instant(0),
        );
        server.count_from(first_number());
        Ok(Self {
            udp,
            server,
            out: Outputs::default(),
            name: name.into(),
            settings: settings.clone(),
            files: Files {
                loaded,
                looked_at: None,
                looking: None,
                waiting: Vec::new(),
            },
            access: None,
            asked: JoinSet::new(),
            peers: Peers::default(),
            began: tokio::time::Instant::now(),
            timer: None,
        })
    }

    /// Goes on with what an earlier socket has counted.
    #[must_use]
    pub fn counting_on(mut self, stats: Arc<DatagramStats>) -> Self {
        self.udp = self.udp.counting_on(stats);
        self
    }

    /// Takes over other settings. Sessions stay; files that cannot be read leave the credentials as they were, and are told.
    pub(crate) fn renew(&mut self, udp: &UdpSettings, settings: &DtlsSettings) {
        self.udp.renew(udp);
        if self.settings == *settings {
            return;
        }
        self.settings = settings.clone();
        self.server.set_settings(settings.server());
        // What is under way was begun with the settings of before.
        self.files.looking = None;
        self.take_files(files::load(settings));
        self.answer_all();
    }

    fn take_files(&mut self, loaded: Result<Loaded, DtlsError>) {
        match loaded {
            Ok(loaded) => {
                self.server.set_credentials(loaded.credentials.clone());
                self.files.loaded = loaded;
                tracing::info!(listener = %self.name, "DTLS files read");
            }
            Err(error) => {
                self.files.loaded.seen = files::look(&self.settings);
                tracing::error!(listener = %self.name, %error, "DTLS files unusable, the old stay in use");
            }
        }
    }

    fn now(&self) -> Instant {
        let elapsed = self.began.elapsed().as_millis();
        Instant(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// Lets time go by. Whether something was due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(at) = self.server.deadline() else {
                self.timer = None;
                return false;
            };
            let now = self.now();
            if at <= now {
                // Should more be due, the next turn does it.
                self.server.handle_timeout(now, &mut self.out);
                return true;
            }
            if self.timer.as_ref().is_none_or(|(set, _)| *set != at) {
                let sleep = tokio::time::sleep(at.since(now));
                self.timer = Some((at, Box::pin(sleep)));
            }
            let ended = self
                .timer
                .as_mut()
                .is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
            if !ended {
                return false;
            }
            self.timer = None;
        }
    }

    /// Looks whether the files have changed. There is one look at a time, and each handshake waits for one, whether its identity is known or not: how long
    /// that takes tells nothing.
    fn look(&mut self) {
        let files = &mut self.files;
        if files.looking.is_none() {
            files.looked_at = Some(tokio::time::Instant::now());
            let (settings, seen) = (self.settings.clone(), files.loaded.seen.clone());
            // Files can be slow.
            files.looking = Some(tokio::task::spawn_blocking(move || {
                (files::look(&settings) != seen).then(|| files::load(&settings))
            }));
        }
    }

    fn poll_look(&mut self, cx: &mut Context<'_>) {
        let Some(looking) = &mut self.files.looking else {
            return;
        };
        let Poll::Ready(looked) = Pin::new(looking).poll(cx) else {
            return;
        };
        self.files.looking = None;
        if let Ok(Some(loaded)) = looked {
            self.take_files(loaded);
        }
        self.answer_all();
    }

    fn answer_all(&mut self) {
        for (handshake, identity) in std::mem::take(&mut self.files.waiting) {
            self.answer(handshake, &identity);
        }
    }

    /// The settings and their file know a key, or else the access service is asked.
    fn answer(&mut self, handshake: u64, identity: &[u8]) {
        let now = self.now();
        let key = self.files.loaded.keys.get(identity);
        let asks = self.settings.psk_from_auth && key.is_none() && self.asked.len() < MAX_WAITING;
        let service = self.access.as_ref().filter(|_| asks);
        if let (Some(service), Ok(text)) = (service, str::from_utf8(identity)) {
            let finding = service.shared_key(&self.name, text);
            self.asked.spawn(async move {
                let found = tokio::time::timeout(ANSWER_IN, finding).await;
                (handshake, found.ok().flatten())
            });
            return;
        }
        self.server.psk_answer(handshake, key, now, &mut self.out);
    }

    fn poll_keys(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(found)) = self.asked.poll_join_next(cx) {
            // Of whoever asked in a task that failed, the handshake ends in time.
            let Ok((handshake, key)) = found else {
                continue;
            };
            let now = self.now();
            let key = key.as_ref().map(SharedKey::reveal);
            self.server.psk_answer(handshake, key, now, &mut self.out);
        }
    }

    /// Lets all that was written down happen; what clients say goes to `sink`. Whether something did.
    fn settle(&mut self, sink: &mut dyn FnMut(DtlsAddress, Bytes)) -> bool {
        let mut happened = false;
        while !self.out.events.is_empty() {
            happened = true;
            for event in std::mem::take(&mut self.out.events) {
                self.on_event(event, sink);
            }
        }
        self.hand_over();
        happened
    }

    fn hand_over(&mut self) {
        let Self { udp, out, .. } = self;
        out.drain_datagrams(|to, bytes| udp.send(Destination::To(to), bytes));
        let stats = DatagramTransport::stats(udp);
        let mut has_greeted = false;
        out.drain_counts(|n, count| {
            stats.add(crate::udp::COUNTERS.len() + n, count);
            has_greeted |= n == Counter::Cookies as usize;
        });
        // When a client comes back with its cookie, it gets the certificate of now.
        if has_greeted && self.files.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.look();
        }
    }

    fn on_event(&mut self, event: Event<UdpAddress>, sink: &mut dyn FnMut(DtlsAddress, Bytes)) {
        match event {
            Event::Psk { handshake, identity } => {
                // A key may have come into the file since, or gone from it.
                if self.files.waiting.len() < MAX_WAITING {
                    self.files.waiting.push((handshake, identity));
                    self.look();
                } else {
                    self.answer(handshake, &identity);
                }
            }
            Event::Opened {
                session,
                address,
                peer,
            } => self.on_opened(session, address, *peer),
            Event::Data { session, bytes } => {
                if let Some(known) = self.peers.get(session) {
                    let from = known.from;
                    sink(DtlsAddress { session, from }, bytes.into());
                }
            }
            Event::Moved { session, address } => {
                let (listener, peer) = (&self.name, address.peer());
                tracing::debug!(%listener, %peer, session, "a DTLS client has another address");
            }
            Event::Closed { session, reason } => {
                let listener = &self.name;
                let why = match reason {
                    CloseReason::ByClient(alert) => alert.name(),
                    CloseReason::Idle => "nothing came for too long (idle_timeout)",
                    CloseReason::Crowded => "too many others, and it was silent longest (max_sessions)",
                    CloseReason::Replaced => "its client has made a new handshake",
                    CloseReason::Exhausted => "all its record numbers are used",
                };
                tracing::debug!(%listener, session, why, "DTLS session ended");
                self.peers.remove(session);
            }
            Event::Failed {
                address,
                identity,
                failure,
            } => self.on_failed(address, identity.as_deref(), failure),
        }
    }

    fn on_opened(&mut self, session: u64, from: UdpAddress, peer: Peer) {
        let identity = self.identity_of(&peer);
        let client_cert = match &peer.shown {
            Some(Shown::Certificates(chain)) => chain.first().and_then(|der| certificate_of(der)),
            _ => None,
        };
        let listener = &self.name;
        tracing::debug!(
            %listener, peer = %from.peer(), session, identity, cipher = peer.suite.name(), connection_id = peer.connection_id,
            "DTLS session begun"
        );
        let info = TlsInfo {
            sni: peer.server_name.map(Into::into),
            version: "DTLSv1.2",
            cipher: peer.suite.name().to_owned(),
            alpn: None,
            client_cert,
            identity,
        };
        self.peers.insert(session, Known { from, info });
    }

    /// The name of the key that it has: that of a shared key, or of a raw public key.
    fn identity_of(&self, peer: &Peer) -> Option<String> {
        match (&peer.identity, &peer.shown) {
            (Some(identity), _) => String::from_utf8(identity.clone()).ok(),
            (None, Some(Shown::RawKey(key))) => {
                let known = self.files.loaded.raw_keys.iter();
                let mut known = known.filter(|(_, known)| known == key);
                known.next().map(|(identity, _)| identity.clone())
            }
            _ => None,
        }
    }

    fn on_failed(&self, from: UdpAddress, identity: Option<&[u8]>, failure: Failure) {
        // It may be anything, and as long as a message may be.
        let identity = identity.map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_IDENTITY)]));
        let identity = identity.as_deref().unwrap_or_default();
        let why = match failure.reason {
            Reason::NothingInCommon => "no version or cipher suite in common (ciphers, psk, certificate)",
            Reason::WrongKey => "the identity is unknown, or the client has another key (psk_file, psk)",
            Reason::Certificate => "the client's certificate or raw public key is not good, or missing",
            Reason::Protocol => "the client says what it should not say",
            Reason::Alert => "the client gave up",
            Reason::Timeout => "nothing more came in time (handshake_timeout)",
            Reason::Crowded => "too many others (max_handshakes)",
            Reason::Superseded => "the client has begun a new one",
        };
        let (listener, alert) = (&self.name, failure.alert.name());
        match failure.reason {
            Reason::Timeout | Reason::Superseded | Reason::Crowded => {
                tracing::debug!(%listener, peer = %from.peer(), identity, why, alert, "DTLS handshake failed");
            }
            _ => {
                tracing::info!(%listener, peer = %from.peer(), identity, why, alert, "DTLS handshake failed");
            }
        }
    }
}

/// No session of this run of the gateway gets a number of another socket that was here before: what speaks above may still know it.
fn first_number() -> u64 {
    static SOCKETS: AtomicU64 = AtomicU64::new(0);
    (SOCKETS.fetch_add(1, Ordering::Relaxed) << 40) + 1
}

impl DatagramTransport for DtlsTransport {
    type Address = DtlsAddress;

    fn poll_receive(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut(DtlsAddress, Bytes)) -> Poll<()> {
        let mut happened = self.poll_timer(cx);
        self.poll_look(cx);
        self.poll_keys(cx);
        let now = self.now();
        let Self { udp, server, out, .. } = self;
        let received = udp.poll_receive(cx, &mut |from, bytes| {
            server.handle_datagram(from, &bytes, now, out);
        });
        happened |= self.settle(sink);
        // What was begun just now has timers and looks of its own.
        happened |= self.poll_timer(cx);
        self.poll_look(cx);
        self.poll_keys(cx);
        happened |= self.settle(sink);
        let _ = self.udp.poll_flush(cx);
        match happened || received.is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn send(&mut self, to: Destination<DtlsAddress>, bytes: &[u8]) {
        // Nobody has keys that all have.
        let Destination::To(address) = to else {
            return;
        };
        if let Err(error) = self.server.send(address.session, bytes, &mut self.out) {
            tracing::debug!(listener = %self.name, session = address.session, %error, "datagram not sent");
        }
        self.hand_over();
    }

    fn has_room(&self) -> bool {
        self.udp.has_room()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.udp.poll_flush(cx)
    }

    fn info(&self, at: Option<DtlsAddress>) -> ConnectionInfo {
        let known = at.and_then(|at| self.peers.get(at.session));
        // Where it is now, which is not where it began.
        let address = at.map(|at| self.server.address(at.session).unwrap_or(at.from));
        ConnectionInfo {
            forgeable: DtlsAddress::FORGEABLE,
            gone: at.is_some() && known.is_none(),
            tls: known.map(|known| Box::new(known.info.clone())),
            ..self.udp.info(address)
        }
    }

    fn stats(&self) -> &Arc<DatagramStats> {
        DatagramTransport::stats(&self.udp)
    }

    fn describe(&self) -> (&str, String) {
        self.udp.describe()
    }

    fn gauges(&self, tell: &mut dyn FnMut(&'static str, usize)) {
        tell("dtls/sessions", self.server.sessions());
        tell("dtls/handshakes", self.server.handshakes());
    }

    fn set_access(&mut self, access: &Arc<dyn AccessService>) {
        self.access = Some(Arc::clone(access));
    }

    fn count_in(&mut self, memory: &Arc<MemoryLimit>) {
        self.server.count_in(Arc::clone(memory));
        self.peers.count_in(memory);
    }

    fn say_goodbye(&mut self) {
        self.server.close_all(&mut self.out);
        self.hand_over();
    }
}
