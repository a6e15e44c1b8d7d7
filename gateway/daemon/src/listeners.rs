//! Where clients connect, as it runs: what a configuration says of it is made ready first, and then taken as a whole.
//!
//! Always true: who is connected stays, unless the listener is gone or is another one, at another address. A configuration that cannot be taken changes
//! nothing. A listener that needs the address of one that is to go gets it before anybody is cut off; if that fails, the old one accepts again.

use crate::config::Config;
use crate::metrics::Counters;
use crate::protocols::{self, Entry};
use crate::watch::WatchedTls;
use headgate_model::{MountPoint, Naming, Qos, RewriteError, Rewriter, TopicError};
use headgate_shell::{
    BoundListener, ConnectionLimit, DatagramHandle, DatagramPlace, Handler, ListenError, Listener,
    ListenerHandle, ListenerKind, ListenerSettings, PreparedChange, Protocols, RefuseReason, Serving,
};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// All listeners. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Listeners(Arc<Inner>);

struct Inner {
    serving: Serving,
    counters: Counters,
    certificates: WatchedTls,
    stop: CancellationToken,
    running: Mutex<Running>,
    /// One change after the other.
    changing: tokio::sync::Mutex<()>,
}

struct Running {
    spoken: Protocols,
    rewriter: Arc<Rewriter>,
    /// As it was taken last.
    config: Arc<Config>,
    streams: BTreeMap<String, Stream>,
    datagrams: BTreeMap<Key, Datagram>,
}

/// A socket or line for datagrams: its list in the configuration, and its name.
type Key = (&'static str, String);
type BoundDatagram = (Key, Box<dyn BoundListener>);

/// A listener for connections.
struct Stream {
    settings: ListenerSettings,
    handle: ListenerHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A socket or line for datagrams.
struct Datagram {
    handle: Arc<dyn DatagramHandle>,
    task: JoinHandle<()>,
}

/// A listener, as it is told.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListenerView {
    /// Its name; of a socket or line for datagrams with its list in front.
    pub name: String,
    /// Whether it listens: it is enabled.
    pub running: bool,
    /// What is spoken there.
    pub protocol: String,
    /// How connections are wrapped, or what datagrams go over.
    pub kind: &'static str,
    /// Where it is, with the real port.
    pub address: String,
    /// TLS or DTLS ends here.
    pub tls: bool,
    /// The path of WebSocket requests, or of SockJS.
    pub path: Option<String>,
    /// What is put in front of the topics of its clients.
    pub mount_point: Option<String>,
    /// Connections open now.
    pub connections: Option<usize>,
    /// As many may be open.
    pub max_connections: Option<usize>,
    /// Connections that have passed all handshakes.
    pub opened: Option<u64>,
    /// Connections that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// What became of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListenerChange {
    /// It is new.
    Added,
    /// It has other settings; its clients stay.
    Changed,
    /// It listens elsewhere now; its clients have to connect again.
    Moved,
    /// It is gone, with its clients.
    Removed,
}

/// Why listeners cannot be as a configuration says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenersError {
    /// One of them, as it stands in the file.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// One of them, and it stands in no file.
    #[error("{cause}; it is a default: sections `[[{list}]]` replace it, and `{list} = []` switches it off")]
    Default {
        /// The list of the configuration that is missing.
        list: &'static str,
        /// Why not.
        cause: ListenError,
    },
    /// Topics cannot be rewritten so.
    #[error("bus.rewrite: {0}")]
    Rewrite(#[from] RewriteError),
    /// Nothing can be put in front of topics so.
    #[error("mount_point: {0}")]
    Mount(#[from] TopicError),
    /// Nobody registered the protocol.
    #[error("nobody speaks `{0}`")]
    Protocol(String),
}

impl ListenersError {
    fn of_list(config: &Config, list: &'static str, cause: ListenError) -> Self {
        match config.is_default(list) {
            true => Self::Default { list, cause },
            false => Self::Listen(cause),
        }
    }
}

fn stream_view(settings: &ListenerSettings, stream: Option<&Stream>) -> ListenerView {
    let stats = stream.map(|stream| stream.handle.stats());
    let stats = stats.as_ref();
    let address = stream.and_then(|stream| stream.handle.local_addr());
    let refused = stats.map(|stats| RefuseReason::ALL.map(|reason| (reason.label(), stats.refused(reason))));
    let websocket = settings
        .websocket
        .as_ref()
        .map(|websocket| websocket.path.clone());
    let websocket = websocket.filter(|path| !path.is_empty() && path != "*");
    let usual = settings.kind.has_websocket().then(|| match &*settings.protocol {
        "mqtt" => "/mqtt".to_owned(),
        _ => "/".to_owned(),
    });
    ListenerView {
        name: settings.name.clone(),
        running: stream.is_some(),
        protocol: settings.protocol.clone(),
        kind: match settings.kind {
            ListenerKind::Tcp => "tcp",
            ListenerKind::Tls => "tls",
            ListenerKind::Ws => "ws",
            ListenerKind::Wss => "wss",
            ListenerKind::Sockjs => "sockjs",
            ListenerKind::Unix => "unix",
        },
        address: address.map_or_else(|| settings.bind.clone(), |address| address.to_string()),
        tls: settings.kind.has_tls() || settings.tls.is_some(),
        path: websocket
            .or(usual)
            .or_else(|| Some(settings.sockjs.as_ref()?.path.clone())),
        mount_point: settings.mount_point.clone(),
        connections: stats.map(|stats| stats.current()),
        max_connections: settings.max_connections.filter(|max| *max > 0),
        opened: stats.map(|stats| stats.opened()),
        refused: refused.into_iter().flatten().filter(|(_, n)| *n > 0).collect(),
    }
}

/// Listeners that are ready to be taken.
pub(crate) struct Prepared {
    rewriter: Arc<Rewriter>,
    /// Those that stay where they are and have other settings.
    changes: Vec<(ListenerSettings, PreparedChange)>,
    bound: Vec<(ListenerSettings, Listener)>,
    bound_datagrams: Vec<BoundDatagram>,
    /// Those that go, some of them to another place.
    leaving: Vec<String>,
    leaving_datagrams: Vec<Key>,
    /// Those of them whose sockets are closed.
    vacated: Vec<String>,
    vacated_datagrams: Vec<Key>,
}

/// What is to be bound, and what has been.
#[derive(Default)]
struct Wanted<'c> {
    streams: Vec<&'c ListenerSettings>,
    datagrams: Vec<Entry<'c>>,
    bound: Vec<(ListenerSettings, Listener)>,
    bound_datagrams: Vec<BoundDatagram>,
}

impl Prepared {
    /// How topics will be rewritten.
    pub(crate) fn rewriter(&self) -> &Arc<Rewriter> {
        &self.rewriter
    }
}

impl Listeners {
    /// None yet. They speak what is in `spoken` beside the protocols of the configuration, and end with `stop`.
    pub(crate) fn new(
        serving: Serving,
        mut spoken: Protocols,
        counters: Counters,
        certificates: WatchedTls,
        stop: CancellationToken,
    ) -> Self {
        let nowhere = Config {
            listeners: Vec::new(),
            ..Config::default()
        };
        protocols::register(&mut spoken, &nowhere);
        Self(Arc::new(Inner {
            serving,
            counters,
            certificates,
            stop,
            running: Mutex::new(Running {
                spoken,
                rewriter: Arc::default(),
                config: Arc::new(nowhere),
                streams: BTreeMap::new(),
                datagrams: BTreeMap::new(),
            }),
            changing: tokio::sync::Mutex::default(),
        }))
    }

    /// How clients of a listener name topics, or those of an entry of a list for datagrams: `mqttsn/sn`. `None` if there is no such listener.
    pub(crate) fn naming(&self, name: &str) -> Option<Naming> {
        let running = self.0.running.lock();
        if let Some(stream) = running.streams.get(name) {
            let mount = mount_point(&stream.settings).ok()?;
            return running
                .spoken
                .naming(&stream.settings.protocol, mount, &running.rewriter);
        }
        let entry = protocols::datagram_listeners(&running.config)
            .find(|entry| format!("{}/{}", entry.list, entry.listener.name()) == name)?;
        let mount = entry.listener.mount_point();
        Some(Naming {
            mount: mount.map_or(Ok(MountPoint::default()), MountPoint::parse).ok()?,
            rewriter: Arc::clone(&running.rewriter),
            ..Naming::default()
        })
    }

    /// The name under which [`Self::naming`] finds a listener that clients came by, with its list if it is one for datagrams: rules know it without. One over connections and one
    /// for datagrams may share a name; what the client speaks tells them apart.
    pub(crate) fn full_name(&self, name: &str, protocol: &str) -> Option<String> {
        let running = self.0.running.lock();
        let stream = running.streams.get(name);
        if stream.is_some_and(|stream| stream.settings.protocol == protocol) {
            return Some(name.to_owned());
        }
        let entry =
            protocols::datagram_listeners(&running.config).find(|entry| entry.listener.name() == name);
        let of_list = entry.map(|entry| format!("{}/{name}", entry.list));
        of_list.or_else(|| stream.map(|_| name.to_owned()))
    }

    /// The user name that the settings of a listener for datagrams, with its list in its name, have for a client.
    pub(crate) fn user_of(&self, name: &str, client: &str) -> Option<String> {
        let running = self.0.running.lock();
        let entry = protocols::datagram_listeners(&running.config)
            .find(|entry| format!("{}/{}", entry.list, entry.listener.name()) == name)?;
        entry.listener.user_of(client)
    }

    /// Whether clients of a listener may show a certificate there, and whether a key; of `None`, at any listener.
    pub(crate) fn takes(&self, name: Option<&str>) -> (bool, bool) {
        let running = self.0.running.lock();
        let is_it = |full_name: &str| name.is_none_or(|name| name == full_name);
        let streams = running.streams.iter().filter(|(name, _)| is_it(name));
        let of_streams = streams.map(|(_, stream)| {
            let settings = &stream.settings;
            let verifies = settings.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
            // A proxy tells the name of a certificate that it has verified.
            (verifies || settings.proxy_protocol, false)
        });
        let entries = protocols::datagram_listeners(&running.config)
            .filter(|entry| is_it(&format!("{}/{}", entry.list, entry.listener.name())));
        let of_datagrams = entries.map(|entry| {
            let dtls = entry.listener.dtls();
            (dtls.is_some_and(|dtls| dtls.client_ca.is_some()), dtls.is_some())
        });
        let all = of_streams.chain(of_datagrams);
        all.fold(
            (false, false),
            |(certificates, keys), (more_certificates, more_keys)| {
                (certificates || more_certificates, keys || more_keys)
            },
        )
    }

    /// All of them, as they are told.
    pub(crate) fn views(&self) -> Vec<ListenerView> {
        let running = self.0.running.lock();
        let mut streams = running.config.listeners.iter().collect::<Vec<_>>();
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        let streams = streams
            .into_iter()
            .map(|settings| stream_view(settings, running.streams.get(&settings.name)));
        let datagrams = protocols::datagram_listeners(&running.config).map(|entry| {
            let key = (entry.list, entry.listener.name().to_owned());
            let datagram = running.datagrams.get(&key);
            let place = || match entry.listener.place()? {
                DatagramPlace::Udp { bind, .. } => Some(bind.to_owned()),
                DatagramPlace::Serial(path) => Some(path.to_owned()),
            };
            let address = datagram.map(|datagram| datagram.handle.address().to_owned());
            ListenerView {
                name: format!("{}/{}", key.0, key.1),
                running: datagram.is_some(),
                protocol: key.0.to_owned(),
                kind: entry.listener.kind(),
                address: address.or_else(place).unwrap_or_default(),
                tls: entry.listener.dtls().is_some(),
                path: None,
                mount_point: entry.listener.mount_point().map(str::to_owned),
                connections: None,
                max_connections: None,
                opened: None,
                refused: BTreeMap::new(),
            }
        });
        streams.chain(datagrams).collect()
    }

    /// All connections together.
    pub(crate) fn total(&self) -> ConnectionLimit {
        self.0.serving.total.clone()
    }

    /// How topics are rewritten.
    pub(crate) fn rewriter(&self) -> Arc<Rewriter> {
        Arc::clone(&self.0.running.lock().rewriter)
    }

    /// Binds what is new and reads what has changed, for [`Self::take`]. Nobody is cut off yet.
    pub(crate) async fn prepare(&self, config: &Config) -> Result<Prepared, ListenersError> {
        let _one = self.0.changing.lock().await;
        let mut wanted = Wanted::default();
        let mut prepared = self.compare(config, &mut wanted)?;
        for settings in &config.listeners {
            mount_point(settings)?;
            if !protocols::NAMES.contains(&settings.protocol.as_str()) {
                return Err(ListenersError::Protocol(settings.protocol.clone()));
            }
        }
        if let Err(error) = wanted.bind(&self.0.serving.total, config) {
            if !is_in_use(&error) {
                return Err(error);
            }
            // Perhaps one that is to go has the address.
            let (streams, datagrams) = self.in_the_way(&prepared, &wanted);
            if streams.is_empty() && datagrams.is_empty() {
                return Err(error);
            }
            self.vacate(&streams, &datagrams).await;
            (prepared.vacated, prepared.vacated_datagrams) = (streams, datagrams);
            if let Err(error) = wanted.bind(&self.0.serving.total, config) {
                drop(wanted);
                self.restore(&prepared.vacated, &prepared.vacated_datagrams);
                return Err(error);
            }
        }
        (prepared.bound, prepared.bound_datagrams) = (wanted.bound, wanted.bound_datagrams);
        Ok(prepared)
    }

    /// What changes, goes and is new.
    fn compare<'c>(&self, config: &'c Config, wanted: &mut Wanted<'c>) -> Result<Prepared, ListenersError> {
        let running = self.0.running.lock();
        let rewriter = match running.config.bus.rewrite == config.bus.rewrite {
            true => Arc::clone(&running.rewriter),
            false => Arc::new(Rewriter::compile(&config.bus.rewrite)?),
        };
        let mut prepared = Prepared {
            rewriter,
            changes: Vec::new(),
            bound: Vec::new(),
            bound_datagrams: Vec::new(),
            leaving: running.streams.keys().cloned().collect(),
            leaving_datagrams: running.datagrams.keys().cloned().collect(),
            vacated: Vec::new(),
            vacated_datagrams: Vec::new(),
        };
        for settings in config.listeners.iter().filter(|settings| settings.enabled) {
            match running.streams.get(&settings.name) {
                Some(known) if known.settings.stays_at(settings) => {
                    prepared.leaving.retain(|name| *name != settings.name);
                    if known.settings != *settings {
                        let change = known.handle.prepare(with_facts(settings));
                        let change =
                            change.map_err(|cause| ListenersError::of_list(config, "listeners", cause))?;
                        prepared.changes.push((settings.clone(), change));
                    }
                }
                _ => wanted.streams.push(settings),
            }
        }
        for entry in protocols::datagram_listeners(config).filter(|entry| entry.listener.is_enabled()) {
            let key = (entry.list, entry.listener.name().to_owned());
            match running.datagrams.get(&key) {
                Some(known) if entry.listener.stays_at(&*known.handle) => {
                    prepared.leaving_datagrams.retain(|known| *known != key);
                }
                _ => wanted.datagrams.push(entry),
            }
        }
        Ok(prepared)
    }

    /// Closes the sockets of those that go. Their connections stay for now.
    async fn vacate(&self, leaving: &[String], leaving_datagrams: &[Key]) {
        let mut tasks = Vec::new();
        {
            let mut running = self.0.running.lock();
            for name in leaving {
                if let Some(stream) = running.streams.get_mut(name) {
                    stream.stop.cancel();
                    tasks.push(std::mem::replace(&mut stream.task, nothing()));
                }
            }
            for key in leaving_datagrams {
                if let Some(datagram) = running.datagrams.get_mut(key) {
                    datagram.handle.end();
                    tasks.push(std::mem::replace(&mut datagram.task, nothing()));
                }
            }
        }
        for task in tasks {
            let _ = task.await;
        }
    }

    /// Those that go and have a port that is wanted, or the path of a socket.
    fn in_the_way(&self, prepared: &Prepared, wanted: &Wanted<'_>) -> (Vec<String>, Vec<Key>) {
        let running = self.0.running.lock();
        let place = |bind: &str| bind.rsplit(':').next().unwrap_or(bind).to_owned();
        let ports: Vec<String> = wanted
            .streams
            .iter()
            .map(|settings| place(&settings.bind))
            .collect();
        let has_wanted = |name: &&String| {
            let stream = running.streams.get(*name);
            // The system may have chosen its port.
            let has = |stream: &Stream| {
                let address = stream.handle.local_addr();
                address.map_or_else(
                    || place(&stream.settings.bind),
                    |address| address.port().to_string(),
                )
            };
            stream.is_some_and(|stream| ports.contains(&has(stream)))
        };
        let streams = prepared.leaving.iter().filter(has_wanted).cloned().collect();
        let ports: Vec<String> = wanted
            .datagrams
            .iter()
            .filter_map(|entry| match entry.listener.place()? {
                DatagramPlace::Udp { bind, .. } => Some(place(bind)),
                DatagramPlace::Serial(_) => None,
            })
            .collect();
        let has_wanted = |key: &&Key| {
            let datagram = running.datagrams.get(*key);
            datagram.is_some_and(|datagram| ports.contains(&place(datagram.handle.address())))
        };
        let datagrams = prepared
            .leaving_datagrams
            .iter()
            .filter(has_wanted)
            .cloned()
            .collect();
        (streams, datagrams)
    }

    /// Opens again what [`Self::vacate`] has closed. Connections never noticed; clients of datagrams have to connect again.
    fn restore(&self, streams: &[String], datagrams: &[Key]) {
        let mut running = self.0.running.lock();
        for name in streams {
            let Some(stream) = running.streams.get(name) else {
                continue;
            };
            match Listener::bind_again(&stream.handle) {
                Ok(listener) => {
                    let handler = running.handler(&stream.settings);
                    let stop = self.0.stop.child_token();
                    let task =
                        tokio::spawn(listener.run(stop.clone(), move |connection| handler(connection)));
                    if let Some(stream) = running.streams.get_mut(name) {
                        (stream.stop, stream.task) = (stop, task);
                    }
                }
                Err(error) => told_in_vain(&error),
            }
        }
        let config = Arc::clone(&running.config);
        let mut wanted = Wanted::default();
        let goes = |entry: &Entry<'_>| datagrams.contains(&(entry.list, entry.listener.name().to_owned()));
        wanted.datagrams = protocols::datagram_listeners(&config).filter(goes).collect();
        if let Err(error) = wanted.bind(&self.0.serving.total, &config) {
            told_in_vain(&error);
        }
        self.0.start(&mut running, Vec::new(), wanted.bound_datagrams);
    }

    /// Drops what was made ready.
    pub(crate) async fn give_up(&self, prepared: Prepared) {
        let _one = self.0.changing.lock().await;
        let Prepared {
            vacated,
            vacated_datagrams,
            ..
        } = prepared;
        self.restore(&vacated, &vacated_datagrams);
    }

    /// Makes the listeners those of a configuration. What became of each that is not as before.
    pub(crate) async fn take(
        &self,
        prepared: Prepared,
        config: &Arc<Config>,
    ) -> BTreeMap<String, ListenerChange> {
        let _one = self.0.changing.lock().await;
        let mut changes = BTreeMap::new();
        let limit = config.max_connections;
        self.0.serving.total.set_max((limit > 0).then_some(limit));
        let limits = &config.limits;
        self.0
            .serving
            .total
            .set_shared_rates(limits.of_all(), limits.of_user());
        let mut running = self.0.running.lock();
        let speaks_as_before = protocols::are_alike(&running.config, config)
            && Arc::ptr_eq(&running.rewriter, &prepared.rewriter);
        if !speaks_as_before {
            protocols::register(&mut running.spoken, config);
            running.rewriter = Arc::clone(&prepared.rewriter);
        }
        for name in &prepared.leaving {
            if let Some(stream) = running.streams.remove(name) {
                stream.stop.cancel();
                stream.handle.close_connections();
                self.0.counters.set_listener(name, None);
                self.0.certificates.set(name, None);
                changes.insert(name.clone(), ListenerChange::Removed);
            }
        }
        for key in &prepared.leaving_datagrams {
            if let Some(datagram) = running.datagrams.remove(key) {
                datagram.handle.end();
                let name = format!("{}/{}", key.0, key.1);
                self.0.counters.set_datagrams(&name, None);
                self.0.certificates.set(&name, None);
                changes.insert(name, ListenerChange::Removed);
            }
        }
        for (settings, change) in prepared.changes {
            let handler = running.handler(&settings);
            if let Some(stream) = running.streams.get_mut(&settings.name) {
                stream.handle.take(change, handler);
                self.0.certificates.set(&settings.name, stream.handle.tls());
                changes.insert(settings.name.clone(), ListenerChange::Changed);
                stream.settings = settings;
            }
        }
        if !speaks_as_before {
            for stream in running.streams.values() {
                stream.handle.set_handler(running.handler(&stream.settings));
            }
        }
        for entry in protocols::datagram_listeners(config) {
            let key = (entry.list, entry.listener.name().to_owned());
            if let Some(datagram) = running.datagrams.get(&key)
                && entry.listener.change(&*datagram.handle, &running.rewriter)
            {
                let name = format!("{}/{}", key.0, key.1);
                self.0.certificates.set(&name, datagram.handle.tls());
                changes.insert(name, ListenerChange::Changed);
            }
        }
        let new = prepared.bound.iter().map(|(settings, _)| settings.name.clone());
        let datagrams = prepared.bound_datagrams.iter();
        for name in new.chain(datagrams.map(|((list, name), _)| format!("{list}/{name}"))) {
            let before = changes.get(&name);
            let change = before.map_or(ListenerChange::Added, |_| ListenerChange::Moved);
            changes.insert(name, change);
        }
        self.0
            .start(&mut running, prepared.bound, prepared.bound_datagrams);
        running.config = Arc::clone(config);
        drop(running);
        self.0.serving.hub.wake_all();
        changes
    }

    /// Ends what still runs when the gateway has stopped.
    pub(crate) fn abort(&self) {
        let running = self.0.running.lock();
        let streams = running.streams.values().map(|stream| &stream.task);
        let datagrams = running.datagrams.values().map(|datagram| &datagram.task);
        streams.chain(datagrams).for_each(JoinHandle::abort);
    }
}

impl Inner {
    fn start(
        &self,
        running: &mut Running,
        streams: Vec<(ListenerSettings, Listener)>,
        datagrams: Vec<BoundDatagram>,
    ) {
        for (settings, listener) in streams {
            let (handle, stop) = (listener.handle(), self.stop.child_token());
            self.counters.set_listener(&settings.name, Some(handle.stats()));
            self.certificates.set(&settings.name, handle.tls());
            let handler = running.handler(&settings);
            let task = tokio::spawn(listener.run(stop.clone(), move |connection| handler(connection)));
            let stream = Stream {
                handle,
                stop,
                task,
                settings,
            };
            running.streams.insert(stream.settings.name.clone(), stream);
        }
        for (key, bound) in datagrams {
            self.counters
                .set_datagrams(&format!("{}/{}", key.0, key.1), Some(bound.stats()));
            let handle = bound.handle();
            self.certificates
                .set(&format!("{}/{}", key.0, key.1), handle.tls());
            let datagram = Datagram {
                handle,
                task: tokio::spawn(bound.serve(&self.serving, &running.rewriter)),
            };
            running.datagrams.insert(key, datagram);
        }
    }
}

impl Running {
    /// # Panics
    ///
    /// If [`Listeners::prepare`] has not seen the settings.
    fn handler(&self, settings: &ListenerSettings) -> Handler {
        let mount = mount_point(settings).expect("looked at before");
        let default_qos = settings.default_qos.and_then(Qos::from_u8);
        let handler = self
            .spoken
            .handler(&settings.protocol, mount, &self.rewriter, default_qos);
        Arc::new(handler.expect("looked at before"))
    }
}

impl Wanted<'_> {
    /// Binds what is not bound yet.
    fn bind(&mut self, total: &ConnectionLimit, config: &Config) -> Result<(), ListenersError> {
        while let Some(settings) = self.streams.last() {
            let bound = Listener::bind(with_facts(settings), total);
            let bound = bound.map_err(|cause| ListenersError::of_list(config, "listeners", cause))?;
            self.bound.push(((*settings).clone(), bound));
            self.streams.pop();
        }
        while let Some(entry) = self.datagrams.last() {
            let bound = entry.listener.bind();
            let bound = bound.map_err(|cause| ListenersError::of_list(config, entry.list, cause))?;
            self.bound_datagrams
                .push(((entry.list, entry.listener.name().to_owned()), bound));
            self.datagrams.pop();
        }
        Ok(())
    }
}

fn told_in_vain(error: &dyn std::error::Error) {
    tracing::error!(%error, "a listener that gave its address away for a new one does not get it back");
}

fn is_in_use(error: &ListenersError) -> bool {
    let (ListenersError::Listen(cause) | ListenersError::Default { cause, .. }) = error else {
        return false;
    };
    matches!(cause, ListenError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
}

/// With what its protocol says of itself, and what browsers load.
fn with_facts(settings: &ListenerSettings) -> ListenerSettings {
    ListenerSettings {
        facts: protocols::websocket_facts(&settings.protocol),
        sockjs_client: headgate_web::sockjs_client(),
        ..settings.clone()
    }
}

fn mount_point(settings: &ListenerSettings) -> Result<MountPoint, TopicError> {
    let text = settings.mount_point.as_deref();
    text.map_or(Ok(MountPoint::default()), MountPoint::parse)
}

/// A task that is done.
fn nothing() -> JoinHandle<()> {
    tokio::spawn(std::future::ready(()))
}
