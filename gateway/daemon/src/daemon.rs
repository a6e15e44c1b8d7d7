//! Builds the parts of the gateway, wires them, runs them and stops them.

use crate::alarms::{Alarms, Severity, Trouble};
use crate::bridges::Bridges;
use crate::config::{Config, Durability, Startable, at_most, environment_variables};
use crate::control::{self, Control, Reloaded};
use crate::http::Site;
use crate::log::{self, ClosesLog, LogHandle};
use crate::memory;
use crate::metrics::{Counters, Parts, Surveyor};
use crate::private;
use crate::protocols::{self, Entry};
use crate::sys::{self, Sys};
use crate::timeline::{self, Timeline};
use crate::traces::Traces;
use crate::watch::{Watch, WatchedTls};
use headgate_access::AccessService;
use headgate_auth::Access;
use headgate_bus::Bus;
use headgate_bus::handle::{Clock, Hub};
use headgate_cli::Outcome;
use headgate_model::{MountPoint, Rewriter, Store, StoreError, TopicError};
use headgate_shell::{ConnectionLimit, Http, ListenError, Listener, Metrics, Protocols, Serving, Tracer};
use headgate_store::{Disk, DiskSettings, DiskStore, SimStore};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long clients may take to hear that the gateway stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the gateway until it is told to stop.
pub(crate) fn run(path: Option<&Path>) -> Outcome {
    private::make_files_private();
    memory::fill_small_holes();
    let Startable { config, warnings } = Config::load_to_start(path, environment_variables())?;
    memory::stay_small(memory::limit(config.bus.max_memory_bytes));
    let log = log::start(&config.log)?;
    let _closes = ClosesLog(log.clone());
    for warning in &warnings {
        tracing::warn!(%warning, "configuration");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, path, log))
}

async fn serve(config: Config, path: Option<&Path>, log: LogHandle) -> Outcome {
    let mut store = open_store(&config)?;
    private::close_old_files(&config.data_dir);
    let keeps = config.store.durability != Durability::Memory;
    let mut image = store
        .load()
        .map_err(|cause| OpenError::of_store(&config, cause))?;
    let timeline = keeps.then(|| {
        let (timeline, ops) = Timeline::start(&config.data_dir, &mut image);
        if let Err(error) = store.commit(&ops) {
            tracing::error!(%error, "the time cannot be stored with the sessions: they may end early after the next restart");
        }
        timeline
    });
    let clock = timeline.as_ref().map_or_else(Clock::start, Timeline::clock);
    let mut bus_settings = config.bus.clone();
    bus_settings.max_memory_bytes = Some(memory::limit(config.bus.max_memory_bytes));
    let mut bus = Bus::new(bus_settings, clock.epoch(), seed()?)?;
    bus.set_node(&config.node);
    bus.number_unpredictably();
    for damage in &image.damage {
        tracing::error!(damage, "part of the store could not be read");
    }
    let damage = image.damage.clone();
    bus.load(image);
    let hub = Hub::start(bus, clock, store)?;
    let notices = hub.notices(sys::MAX_NOTICES);
    let alarms = Alarms::start(hub.clone(), &config.node, keeps.then_some(&*config.data_dir));
    for (n, damage) in damage.iter().enumerate() {
        let trouble = Trouble::new(Severity::Critical, damage.as_str());
        alarms.set(&format!("store_damaged_{}", n + 1), Some(trouble));
    }
    let metrics = Arc::new(Metrics::default());
    let access = Arc::new(Access::load(&config.auth, &config.data_dir)?);

    // All listeners are bound before the first is served: a gateway that lacks one does not start.
    let total = ConnectionLimit::new((config.max_connections > 0).then_some(config.max_connections));
    let listeners = config
        .listeners
        .iter()
        .map(|l| Listener::bind(l.clone(), &total))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| StartError::of_list(&config, "listeners", cause))?;
    let datagrams = protocols::datagram_listeners(&config)
        .map(|Entry { list, listener, .. }| {
            let bound = listener.bind();
            let bound = bound.map_err(|cause| StartError::of_list(&config, list, cause))?;
            Ok((format!("{list}/{}", listener.name()), bound))
        })
        .collect::<Result<Vec<_>, StartError>>()?;
    let control = Control::bind(&config.data_dir).map_err(|error| {
        format!(
            "data_dir: {}: {error}",
            control::socket(&config.data_dir).display()
        )
    })?;
    let stop = CancellationToken::new();
    let links = TaskTracker::new();
    let rewriter = Arc::new(Rewriter::compile(&config.bus.rewrite)?);
    let tracer = Tracer::default();
    let traces = Traces::new(tracer.clone(), hub.clone(), &config.data_dir);
    let serve = Serving {
        hub: hub.clone(),
        metrics: Arc::clone(&metrics),
        access: Arc::clone(&access) as Arc<dyn AccessService>,
        open: links.clone(),
        tracer: tracer.clone(),
    };
    let mut spoken = Protocols::new(serve.clone());
    protocols::register(&mut spoken, &config);
    // Before anybody publishes: what goes out is queued from the first message on.
    let bridges = Bridges::new(&hub, &links, &config.node, &rewriter, &config.data_dir);
    bridges.start(config.checked_bridges()?).await;
    let mut serving = JoinSet::new();
    let surveyor = Surveyor::new(hub.clone(), config.metrics.top_sessions);
    let counters = Counters::new(Parts {
        hub: hub.clone(),
        totals: metrics,
        bridges: bridges.clone(),
        access: Arc::clone(&access),
        alarms: alarms.clone(),
        surveyor: surveyor.clone(),
        log: log.clone(),
        traces: traces.clone(),
        node: config.node.clone(),
        data_dir: config.data_dir.clone(),
    });
    let site = Site::new(counters.clone(), config.metrics.clone());
    spoken.register_http(protocols::HTTP, Http::new(site.router(), stop.clone()));
    let answers = Control {
        bridges: bridges.clone(),
        access: Arc::clone(&access),
        hub: hub.clone(),
        rules: Arc::new(Mutex::new(config.auth.clone())),
        config: path.map(|path| Arc::new(path.to_owned())),
        started_with: Arc::new(config.clone()),
        alarms: alarms.clone(),
        counters: counters.clone(),
        log: log.clone(),
        traces: traces.clone(),
    };
    serving.spawn(surveyor.run());
    serving.spawn(reload_when_told(answers.clone()));
    serving.spawn(answers.serve(control));
    serving.spawn(outlive_user_signals());
    serving.spawn(bridges.clone().keep_books());
    serving.spawn(memory::give_back());
    serving.spawn(log.clone().keep());
    let certificates = WatchedTls::default();
    for (listener, settings) in listeners.into_iter().zip(&config.listeners) {
        certificates.set(&settings.name, listener.tls());
        counters.set_listener(&settings.name, Some(listener.stats()));
        let mount = mount_point(settings.mount_point.as_deref())?;
        let handler = spoken.handler(&settings.protocol, mount, &rewriter);
        let handler = handler.ok_or_else(|| format!("nobody speaks `{}`", settings.protocol))?;
        serving.spawn(listener.run(stop.clone(), handler));
    }
    for (name, bound) in datagrams {
        counters.set_datagrams(&name, Some(bound.stats()));
        serving.spawn(bound.serve(&serve, &rewriter));
    }
    let watch = Watch {
        alarms: alarms.clone(),
        hub: hub.clone(),
        bridges: bridges.clone(),
        certificates,
        log: log.clone(),
        clock: timeline.as_ref().map(Timeline::state),
        data_dir: config.data_dir.clone(),
        store_max: config.store.max_bytes,
        settings: Arc::new(Mutex::new(config.alarms.clone())),
    };
    serving.spawn(watch.run());
    serving.spawn(alarms.clone().keep());
    let sys = Sys::new(counters.clone(), config.sys.clone());
    let sys = tokio::spawn(sys.run(notices));

    let timeline = timeline.map(|timeline| tokio::spawn(timeline.keep()));
    counters.set_up();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %path.map_or_else(|| "none, all defaults".into(), |path| path.display().to_string()),
        data_dir = %config.data_dir.display(),
        "gateway is up"
    );
    tell_service_manager(true);
    memory::forget_startup_code();
    told_to_stop().await?;
    tracing::info!("gateway stops");
    tell_service_manager(false);
    stop.cancel();
    bridges.halt();
    hub.say_goodbye();
    links.close();
    if tokio::time::timeout(FAREWELL, links.wait()).await.is_err() {
        tracing::warn!(links = links.len(), "connections did not close in time");
    }
    serving.shutdown().await;
    sys.abort();
    tokio::task::block_in_place(|| traces.stop_all());
    if let Err(error) = alarms.save() {
        tracing::warn!(%error, "the alarms cannot be written down");
    }
    // Whatever was acknowledged is durable already; this waits for the rest.
    tokio::task::spawn_blocking(move || hub.stop()).await?;
    if let Some(timeline) = timeline {
        timeline.abort();
        let saved = timeline::save_now(&config.data_dir, clock);
        saved.map_err(|error| {
            format!(
                "data_dir: {}: {error}",
                timeline::file(&config.data_dir).display()
            )
        })?;
    }
    tracing::info!("gateway has stopped");
    Ok(())
}

/// Why a listener is not there.
#[derive(Debug, thiserror::Error)]
enum StartError {
    /// As it stands in the file.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// It stands in no file.
    #[error("{cause}; it is a default: sections `[[{list}]]` replace it, and `{list} = []` switches it off")]
    Default {
        /// The list of the configuration that is missing.
        list: &'static str,
        /// Why not.
        cause: ListenError,
    },
}

impl StartError {
    fn of_list(config: &Config, list: &'static str, cause: ListenError) -> Self {
        match config.is_default(list) {
            true => Self::Default { list, cause },
            false => Self::Listen(cause),
        }
    }
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    /// Its folder cannot be made.
    #[error("data_dir: {folder}: {cause}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It cannot be opened or read.
    #[error("{}", told_with_folder(.folder, .cause))]
    Store {
        /// Its folder.
        folder: PathBuf,
        /// Why not.
        #[source]
        cause: StoreError,
    },
}

impl OpenError {
    fn of_store(config: &Config, cause: StoreError) -> Self {
        let folder = config.data_dir.join("store");
        Self::Store { folder, cause }
    }
}

/// What the store says, with its folder.
fn told_with_folder(folder: &Path, cause: &StoreError) -> String {
    let folder = folder.display().to_string();
    match cause.to_string() {
        told if told.contains(&folder) => told,
        told => format!("data_dir: {folder}: {told}"),
    }
}

fn open_store(config: &Config) -> Result<Box<dyn Store>, OpenError> {
    let durability = match config.store.durability {
        Durability::PowerLoss => headgate_store::Durability::PowerLoss,
        Durability::ProcessCrash => headgate_store::Durability::ProcessCrash,
        Durability::Memory => return Ok(Box::new(SimStore::open(&Disk::default()))),
    };
    std::fs::create_dir_all(&config.data_dir).map_err(|cause| OpenError::Folder {
        folder: config.data_dir.clone(),
        cause,
    })?;
    let defaults = DiskSettings::default();
    // What was written since the last checkpoint is in memory, too.
    let most = u64::try_from(memory::limit(config.bus.max_memory_bytes) / 8).unwrap_or(u64::MAX);
    let settings = DiskSettings {
        durability,
        max_bytes: config.store.max_bytes,
        checkpoint_bytes: defaults.checkpoint_bytes.min(most.max(1 << 20)),
        ..defaults
    };
    let folder = config.data_dir.join("store");
    let opened = DiskStore::open(&folder, settings);
    Ok(Box::new(
        opened.map_err(|cause| OpenError::of_store(config, cause))?,
    ))
}

fn mount_point(text: Option<&str>) -> Result<MountPoint, TopicError> {
    text.map_or(Ok(MountPoint::default()), MountPoint::parse)
}

/// systemd starts what depends on the gateway when it is up (`Type=notify`). Without systemd nobody is told.
fn tell_service_manager(up: bool) {
    #[cfg(target_os = "linux")]
    {
        let state = if up {
            sd_notify::NotifyState::Ready
        } else {
            sd_notify::NotifyState::Stopping
        };
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "the service manager was not told");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = up;
}

/// SIGHUP: the configuration is read again, as by `headgate reload`.
async fn reload_when_told(control: Control) {
    #[cfg(unix)]
    {
        let hangup = tokio::signal::unix::SignalKind::hangup();
        let Ok(mut hangup) = tokio::signal::unix::signal(hangup) else {
            return;
        };
        while hangup.recv().await.is_some() {
            match control.reload().await {
                Ok(Reloaded {
                    bridges,
                    rules,
                    needs_restart,
                    warnings,
                }) => {
                    tracing::info!(?bridges, rules, "configuration read again");
                    for change in at_most(&needs_restart) {
                        tracing::info!(change, "needs a restart");
                    }
                    for warning in &warnings {
                        tracing::warn!(%warning, "configuration");
                    }
                }
                Err(error) => {
                    for fault in error.to_string().lines() {
                        tracing::error!(fault, "the configuration cannot be read again, the old one stays");
                    }
                }
            }
        }
    }
    #[cfg(not(unix))]
    std::future::pending::<()>().await;
}

/// SIGUSR1 and SIGUSR2 have no meaning here, and must not end the gateway, as they would by default.
async fn outlive_user_signals() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (one, two) = (
            signal(SignalKind::user_defined1()),
            signal(SignalKind::user_defined2()),
        );
        let (Ok(mut one), Ok(mut two)) = (one, two) else {
            return;
        };
        loop {
            let name = tokio::select! {
                _ = one.recv() => "SIGUSR1",
                _ = two.recv() => "SIGUSR2",
            };
            tracing::info!(signal = name, "a signal without a meaning was ignored");
        }
    }
    #[cfg(not(unix))]
    std::future::pending::<()>().await;
}

/// Ctrl-C, or the service manager's SIGTERM.
async fn told_to_stop() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            done = tokio::signal::ctrl_c() => done,
            _ = term.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// A number nobody can guess.
fn random() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

/// For the choices of the bus that shall differ from run to run.
fn seed() -> Result<u64, getrandom::Error> {
    Ok(random()? as u64)
}
