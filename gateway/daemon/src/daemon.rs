//! Builds the parts of the gateway, wires them, runs them and stops them.

use crate::alarms::{Alarms, Severity, Trouble};
use crate::api::{self, Control, Logins, Pace, Streams};
use crate::archive::{self, ArchiveError, Hold};
use crate::backups::Backups;
use crate::bridges::Bridges;
use crate::config::{self, Config, Startable, environment_variables};
use crate::earlier::{self, Instead, Started};
use crate::firmware::{self, Firmware};
use crate::http::Site;
use crate::keeps::Keeps;
use crate::listeners::Listeners;
use crate::live::{self, Applied, ConfigFile, Live, Parts};
use crate::log::{self, ClosesLog, LogHandle};
use crate::memory;
use crate::metrics::{self, Counters, Surveyor};
use crate::moving::{self, Mover};
use crate::overload::Overload;
use crate::private;
use crate::protocols;
use crate::provisioning::{self, ProvisioningError, Taken};
use crate::recovery::{Recovery, RecoveryState};
use crate::restart::{Begun, Restart};
use crate::service::{self, MoreTime};
use crate::stamps::Stamps;
use crate::starts::{Machine, Starts, Why};
use crate::supplies;
use crate::sys::{self, Sys};
use crate::telemetry::{SpanCounts, Telemetry};
use crate::timeline::{self, ClockState, Timeline};
use crate::traces::Traces;
use crate::trends::Trends;
use crate::wans::{self, Wans};
use crate::watch::{Watch, WatchedTls};
use crate::whereabouts;
use headgate_access::AccessService;
use headgate_admin::{Admin, AuditEntry, AuditLog, Role};
use headgate_auth::Access;
use headgate_auth::data_dir::DataDir;
use headgate_bus::Bus;
use headgate_bus::handle::Hub;
use headgate_cli::Outcome;
use headgate_model::{Store, StoreError};
use headgate_shell::{ConnectionLimit, Http, ListenerSettings, Metrics, Protocols, Serving, Tracer};
use headgate_store::{DiskSettings, LiveStore};
use parking_lot::Mutex;
use rustls_pki_types::UnixTime;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A gateway that was killed while it waited for the disk has its data folder until the disk has answered.
const LAST_BREATH: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);
/// How long clients may take to hear that the gateway stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the gateway until it is told to stop.
pub(crate) fn run(path: Option<&Path>) -> Outcome {
    let begun = Begun::now();
    private::make_files_private();
    memory::fill_small_holes();
    let file = match path {
        Some(path) => ConfigFile::Given(path.to_owned()),
        None => ConfigFile::Own(config::own_file()?),
    };
    // The log comes after the configuration, so a word on this waits.
    let undone = live::undo_unconfirmed(file.path())?;
    // It brings the configuration, too, so it comes before all others look.
    let restored = finish_restore(&file)?;
    let undone = undone && restored.is_none();
    let provisioned = finish_provisioning(&file);
    let Started {
        startable: Startable { config, warnings, .. },
        text,
        instead,
    } = earlier::start(&file)?;
    memory::stay_small(memory::limit(config.bus.max_memory_bytes));
    let log = log::start(&config.log)?;
    let closes = ClosesLog(log.clone());
    if undone {
        tracing::warn!(
            "the last configuration was not confirmed before the gateway stopped, the one before it is valid again"
        );
    }
    if let Some(Instead { name, why }) = &instead {
        tracing::error!(
            why,
            name,
            "the configuration was taken by a later version, and this one cannot read it: an earlier one of the history is valid, and the file stays"
        );
    }
    for warning in &warnings {
        tracing::warn!(%warning, "configuration");
    }
    if let Some(aside) = restored {
        tracing::warn!(before = %aside.display(), "a backup has taken the place of all data");
    }
    match &provisioned {
        Some(Ok(taken)) => tracing::warn!(
            number = taken.number,
            "a provisioning file has changed this gateway"
        ),
        Some(Err(error)) => tracing::error!(%error, "the provisioning file that waited is not taken"),
        None => {}
    }
    // The data are held until the runtime is gone: what it has begun it may still write.
    let hold = Arc::new(Mutex::new(None));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let restart = Restart::new(random()?);
    runtime.block_on(serve(
        config,
        Written {
            file,
            text,
            undone,
            instead,
            refused: provisioned.and_then(Result::err),
        },
        log,
        restart.clone(),
        Arc::clone(&hold),
    ))?;
    drop((runtime, closes));
    drop(hold);
    match restart.is_asked() {
        false => Ok(()),
        true => Err(format!("the gateway cannot begin anew: {}", begun.again()).into()),
    }
}

/// Where the configuration comes from.
struct Written {
    file: ConfigFile,
    text: String,
    /// It is the one before a change that was not confirmed.
    undone: bool,
    /// It is not the one in the file.
    instead: Option<Instead>,
    /// Why a provisioning file that waited is not taken.
    refused: Option<ProvisioningError>,
}

async fn serve(
    config: Config,
    written: Written,
    log: LogHandle,
    restart: Restart,
    hold: Arc<Mutex<Option<Hold>>>,
) -> Outcome {
    // From here on they do not end the process.
    let (hangup, user_signals) = (hangup()?, user_signals()?);
    let more_time = MoreTime::for_work("reading the store");
    let is_new = private::all_ours().all(|name| !config.data_dir.join(name).exists());
    *hold.lock() = Some(hold_data(&config)?);
    if is_new {
        let folder = whereabouts::absolute(&config.data_dir);
        tracing::info!(data_dir = %folder.display(), "the data folder is new: there are no sessions and no messages yet");
    }
    // Until then a command could change both, such as `provision take`: the data would be of another configuration.
    if written.instead.is_none() && written.file.text()? != written.text {
        return Err("the configuration was changed while the gateway started: start it again".into());
    }
    let mut store = open_store(&config)?;
    private::close_old_files(&config.data_dir);
    let data = DataDir::new(&config.data_dir);
    let keeps = Keeps::of(&config);
    let mut image = store
        .load()
        .map_err(|cause| OpenError::of_store(&config, cause))?;
    let (timeline, ops) = Timeline::start(&data, keeps.clone(), &mut image);
    if let Err(error) = store.commit(&ops) {
        tracing::error!(%error, "the time cannot be stored with the sessions: they may end early after the next restart");
    }
    let clock = timeline.clock();
    judge_certificates_by(timeline.state());
    let mut bus = Bus::new(live::bus_settings(&config), clock.epoch(), seed()?)?;
    bus.set_node(&config.node);
    bus.number_unpredictably();
    for damage in &image.damage {
        tracing::error!(damage, "part of the store could not be read");
    }
    let damage = image.damage.clone();
    bus.load(image);
    let hub = Hub::start(bus, clock, store)?;
    let notices = hub.notices(sys::MAX_NOTICES);
    let alarms = Alarms::start(hub.clone(), &config.node, &data, keeps.clone());
    for (n, damage) in damage.iter().enumerate() {
        let trouble = Trouble::new(Severity::Critical, damage.as_str());
        alarms.set(&format!("store_damaged_{}", n + 1), Some(trouble));
    }
    let refused = provisioning::refused(&config.data_dir).map(|why| {
        let summary = format!("the provisioning file is not taken: {why}");
        Trouble::new(Severity::Error, summary)
    });
    alarms.set("provisioning_refused", refused);
    // It is done by now, or refused; or the disk was full.
    let waits = provisioning::waits(&config.data_dir).then(|| {
        let summary = "a provisioning file was accepted, and could not be done at this start: the log says why. The next start tries again";
        Trouble::new(Severity::Error, summary)
    });
    alarms.set(provisioning::WAITS_ALARM, waits);
    let starts = Starts::begin(&data, keeps.clone(), Machine::look());
    let metrics = Arc::new(Metrics::default());
    let access = Arc::new(Access::load(&config.auth, data.clone())?);

    let admin = Admin::load(data.clone(), config.http.session_idle)?;
    if admin.of_later_version() > 0 {
        tracing::warn!(
            count = admin.of_later_version(),
            "a later version has written some administrators or keys: nobody is let in by them"
        );
    }

    let config = Arc::new(config);
    let stop = CancellationToken::new();
    let links = TaskTracker::new();
    let tracer = Tracer::default();
    let spans = Arc::<SpanCounts>::default();
    let traces = Traces::new(tracer.clone(), hub.clone(), &data);
    let serving = Serving {
        hub: hub.clone(),
        metrics: Arc::clone(&metrics),
        access: Arc::clone(&access) as Arc<dyn AccessService>,
        open: links.clone(),
        tracer: tracer.clone(),
        total: ConnectionLimit::default(),
    };
    let (valid, config_changes) = watch::channel(Arc::clone(&config));
    let wans = Wans::default();
    let recovery = RecoveryState::default();
    let bridges = Bridges::new(
        &hub,
        &links,
        &tracer,
        &wans,
        &config.node,
        &data,
        timeline.state(),
    );
    let surveyor = Surveyor::new(hub.clone(), config_changes.clone());
    let running = firmware::Running::default();
    let counters = Counters::new(metrics::Parts {
        hub: hub.clone(),
        totals: metrics,
        bridges: bridges.clone(),
        access: Arc::clone(&access),
        alarms: alarms.clone(),
        surveyor: surveyor.clone(),
        log: log.clone(),
        traces: traces.clone(),
        spans: (tracer.clone(), Arc::clone(&spans)),
        config: config_changes.clone(),
        data_dir: data.clone(),
        running: running.clone(),
        wans: wans.clone(),
        recovery: recovery.clone(),
    });
    let site = Site::new(counters.clone(), config_changes.clone());
    let mut spoken = Protocols::new(serving.clone());
    spoken.register_http(protocols::HTTP, Http::new(site.clone().router(), stop.clone()));
    let certificates = WatchedTls::default();
    let listeners = Listeners::new(
        serving,
        spoken,
        counters.clone(),
        certificates.clone(),
        stop.clone(),
    );
    // All listeners are bound before the first is served: a gateway that lacks one does not start.
    let prepared = listeners.prepare(&config).await?;
    let control = Control::bind(&config.data_dir)
        .map_err(|error| format!("data_dir: {}: {error}", api::socket(&config.data_dir).display()))?;
    let keeper = wans::Keeper::start(wans::Parts {
        wans: wans.clone(),
        alarms: alarms.clone(),
        data_dir: data.clone(),
        config: config_changes.clone(),
    });
    // Before anybody publishes: what goes out is queued from the first message on.
    bridges.set_rewriter(prepared.rewriter());
    bridges.start(config.checked_bridges()?).await;
    let parts = Parts {
        hub: hub.clone(),
        access: Arc::clone(&access),
        bridges: bridges.clone(),
        listeners: listeners.clone(),
        log: log.clone(),
        alarms: alarms.clone(),
        admin: admin.clone(),
        starts: starts.clone(),
        keeps: keeps.clone(),
        data: data.clone(),
        valid,
    };
    let Written {
        file,
        text,
        undone,
        instead,
        refused,
    } = written;
    let told = file
        .if_there()
        .map_or_else(|| "none, all defaults".into(), |path| path.display().to_string());
    let live = Live::new(parts, Arc::clone(&config), file, &text, undone, instead.as_ref());
    let trends = Trends::start(counters.clone(), &data, keeps.clone());
    let backups = Backups::new(hub.clone(), live.clone(), alarms.clone(), &data, stop.clone());
    let firmware = Firmware::new(firmware::Parts {
        hub: hub.clone(),
        live: live.clone(),
        bridges: bridges.clone(),
        alarms: alarms.clone(),
        data_dir: data.clone(),
        running,
        starts: starts.clone(),
        config: config_changes.clone(),
    });
    let audit = AuditLog::open(data.clone());
    tell_restore(&audit, &config.data_dir);
    tell_provisioning(&audit, &config.data_dir);
    if let Some(error) = refused {
        // Whoever brought it was told that it waits.
        let action = "A provisioning file that waited is not taken.";
        tell_start(&audit, action, 422, Some(error.to_string().into()));
    }
    let answers = Control {
        bridges: bridges.clone(),
        wans: wans.clone(),
        access,
        hub: hub.clone(),
        live: live.clone(),
        alarms: alarms.clone(),
        counters: counters.clone(),
        log: log.clone(),
        traces: traces.clone(),
        admin: admin.clone(),
        audit,
        restart: restart.clone(),
        firmware: firmware.clone(),
        starts: starts.clone(),
        clock: timeline.state(),
        trends: trends.clone(),
        certificates: certificates.clone(),
        backups: backups.clone(),
        streams: Streams::default(),
        logins: Logins::default(),
        pace: Pace::default(),
    };
    site.set_api(answers.clone().router());
    let watch = Watch {
        alarms: alarms.clone(),
        hub: hub.clone(),
        bridges: bridges.clone(),
        certificates,
        log: log.clone(),
        clock: timeline.state(),
        data_dir: data.clone(),
        config: config_changes.clone(),
    };
    let stamps = Stamps {
        hub: hub.clone(),
        clock: timeline.state(),
        config: config_changes.clone(),
    };
    // Before anybody publishes.
    stamps.look();
    let overload = Overload {
        total: listeners.total(),
        alarms: alarms.clone(),
        config: config_changes.clone(),
    };
    let mut tasks = JoinSet::new();
    let telemetry = Telemetry {
        tracer,
        config: config_changes.clone(),
        counts: spans,
    };
    tasks.spawn(overload.run());
    tasks.spawn(telemetry.run());
    tasks.spawn(surveyor.run());
    tasks.spawn(supplies::keep(live.clone()));
    tasks.spawn(reload_when_told(hangup, live.clone()));
    tasks.spawn(firmware.clone().answer(answers.audit.clone()));
    let mover = Mover::start(
        moving::Parts {
            data: data.clone(),
            hub: hub.clone(),
            live,
            alarms: alarms.clone(),
            config: config_changes.clone(),
            serve: Box::new(move |socket| {
                AbortOnDropHandle::new(tokio::spawn(answers.clone().serve(socket)))
            }),
            hold,
        },
        control,
    );
    tasks.spawn(mover.keep());
    tasks.spawn(outlive(user_signals));
    tasks.spawn(bridges.clone().keep_books());
    tasks.spawn(memory::give_back());
    tasks.spawn(log.keep());
    tasks.spawn(watch.run());
    tasks.spawn(stamps.keep());
    tasks.spawn(alarms.clone().keep());
    tasks.spawn(trends.clone().keep());
    tasks.spawn(backups.keep());
    let ladder = Recovery {
        bridges: bridges.clone(),
        firmware: firmware.clone(),
        data_dir: data.clone(),
        config: config_changes.clone(),
        state: recovery,
    };
    tasks.spawn(ladder.keep());
    tasks.spawn(keeper.keep());
    tasks.spawn(firmware.keep());
    let sys = Sys::new(counters.clone(), config_changes.clone());
    let sys = tokio::spawn(sys.run(notices));

    let timeline = tokio::spawn(timeline.keep());
    // A stop may come as soon as somebody is served, and nobody is before all this is there.
    let mut ends = end_signals()?;
    counters.set_up();
    listeners.take(prepared, &config).await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = told,
        data_dir = %data.now().display(),
        "gateway is up"
    );
    tell_code(&admin, &config);
    drop(more_time);
    service::ready();
    tasks.spawn(service::keep(hub.clone(), alarms.clone(), config_changes));
    memory::forget_startup_code();
    tokio::select! {
        told = told_to_stop(&mut ends) => {
            told?;
            tracing::info!("gateway stops");
            service::stopping();
            starts.expect(Why::Stopped);
        }
        () = restart.asked() => {
            tracing::info!("gateway stops, and begins anew");
            service::reloading();
        }
    }
    let _more_time = MoreTime::for_work("telling clients and writing what is left");
    stop.cancel();
    bridges.halt();
    hub.say_goodbye();
    links.close();
    if tokio::time::timeout(FAREWELL, links.wait()).await.is_err() {
        tracing::warn!(links = links.len(), "connections did not close in time");
    }
    tasks.shutdown().await;
    listeners.abort();
    sys.abort();
    tokio::task::block_in_place(|| traces.stop_all());
    if let Err(error) = trends.save() {
        tracing::warn!(%error, "what the gateway was like cannot be written down");
    }
    if let Err(error) = alarms.save() {
        tracing::warn!(%error, "the alarms cannot be written down");
    }
    // Whatever was acknowledged is durable already; this waits for the rest.
    tokio::task::spawn_blocking(move || hub.stop()).await?;
    timeline.abort();
    if keeps.now() {
        let saved = timeline::save_now(&data.now(), clock);
        saved.map_err(|error| format!("data_dir: {}: {error}", timeline::file(&data.now()).display()))?;
    }
    tracing::info!("gateway has stopped");
    Ok(())
}

/// Takes a backup that waits for this start. Where the data of before are now.
fn finish_restore(file: &ConfigFile) -> Result<Option<PathBuf>, ArchiveError> {
    match data_dir_of(file) {
        Some(data_dir) => {
            moving::finish_interrupted(&data_dir)?;
            archive::finish_waiting(&data_dir)
        }
        None => Ok(None),
    }
}

/// The data folder that the configuration names. What is wrong with the rest is told when all of it is read.
fn data_dir_of(file: &ConfigFile) -> Option<PathBuf> {
    let read = Config::load_for(&["data_dir"], file.if_there(), environment_variables());
    Some(read.ok()?.0.data_dir)
}

/// Whose provisioning files are taken. The configuration may be of a later version: where this one cannot read it, the default counts.
fn provisioning_key_of(file: &ConfigFile) -> PathBuf {
    let needed = ["firmware.provisioning_key"];
    let read = Config::load_for(&needed, file.if_there(), environment_variables());
    let config = read.map(|(config, _)| config).unwrap_or_default();
    config.firmware.provisioning_key
}

/// Does what a provisioning file says that waits for this start.
fn finish_provisioning(file: &ConfigFile) -> Option<Result<Taken, ProvisioningError>> {
    let data_dir = data_dir_of(file)?;
    // Another gateway that has the data folder does it itself.
    let _hold = provisioning::is_unfinished(&data_dir).then(|| Hold::take(&data_dir).ok())??;
    let _more_time = MoreTime::for_work("taking a provisioning file");
    provisioning::finish_waiting(&data_dir, &provisioning_key_of(file), file)
}

/// Says in the audit log that a backup has taken the place of all data: it is this gateway's own, and the only one of its data that goes on.
fn tell_restore(audit: &AuditLog, data_dir: &Path) {
    let Some(before) = archive::taken(data_dir) else {
        return;
    };
    // What fails is tried again at the next start.
    let action = "A backup has taken the place of all data.";
    if tell_start(audit, action, 200, before.map(Into::into))
        && let Err(error) = archive::forget_taken(data_dir)
    {
        tracing::warn!(%error, "the audit log will say again that a backup has taken the place of all data");
    }
}

/// The same of a provisioning file.
fn tell_provisioning(audit: &AuditLog, data_dir: &Path) {
    let untold = provisioning::taken(data_dir).filter(|taken| !taken.is_told);
    let Some(taken) = untold else { return };
    let action = "A provisioning file has changed this gateway.";
    if tell_start(audit, action, 200, Some(taken.number.into())) {
        provisioning::was_told(data_dir);
    }
}

/// Whether the audit log says now what the start has done. `status`: as an answer over HTTP would have it.
fn tell_start(audit: &AuditLog, action: &str, status: u16, after: Option<serde_json::Value>) -> bool {
    let told = AuditEntry {
        number: 0,
        at: sys::unix_time(),
        who: "the gateway itself".into(),
        from: "this machine".into(),
        request: "start".into(),
        action: action.into(),
        status: Some(status),
        before: None,
        after,
    };
    let (number, _) = audit.begin(Role::Administrator, told.clone());
    let ended = audit.end(Role::Administrator, AuditEntry { number, ..told });
    if let Err(error) = &ended {
        tracing::error!(%error, action, "the audit log does not say it");
    }
    ended.is_ok()
}

/// How a gateway that nobody runs yet is set up.
fn tell_code(admin: &Admin, config: &Config) {
    let Some(code) = admin.setup_code() else {
        // Whoever made the first administrator may have been killed before this.
        let file = admin.code_file();
        if let Err(error) = std::fs::remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %file.display(), %error, "a code that is used up is not removed");
        }
        return;
    };
    let listeners = config.listeners.iter();
    let pages = listeners.filter(|listener| listener.protocol == protocols::HTTP);
    let page = |listener: &ListenerSettings| {
        let scheme = if listener.kind.has_tls() { "https" } else { "http" };
        format!("{scheme}://{}/", listener.bind)
    };
    let pages: Vec<String> = pages.map(page).collect();
    let (pages, file) = (pages.join(" "), admin.code_file());
    let file = file.display();
    match pages.is_empty() {
        true => tracing::warn!(
            "no administrator yet, and no page to set one up: `headgate administrators add`, or add a listener with `protocol = \"http\"`"
        ),
        false => tracing::warn!(code, pages, %file, "no administrator yet: open the page and enter the code"),
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
    /// Its folder is somebody else's at the moment.
    #[error("data_dir: {0}")]
    Held(#[from] ArchiveError),
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

/// Keeps commands from the data that work on all of them, and finishes what one has left.
fn hold_data(config: &Config) -> Result<Hold, OpenError> {
    std::fs::create_dir_all(&config.data_dir).map_err(|cause| OpenError::Folder {
        folder: config.data_dir.clone(),
        cause,
    })?;
    let begun = std::time::Instant::now();
    let hold = loop {
        match Hold::take(&config.data_dir) {
            Err(ArchiveError::InUse(_)) if begun.elapsed() < LAST_BREATH => std::thread::sleep(LOOK),
            hold => break hold?,
        }
    };
    archive::forget_snapshots(&config.data_dir)?;
    private::remove_unfinished(&config.data_dir);
    Ok(hold)
}

fn open_store(config: &Config) -> Result<Box<dyn Store>, OpenError> {
    let wanted = live::store_settings(config);
    let durability = match wanted.survives_power_loss {
        true => headgate_store::Durability::PowerLoss,
        false => headgate_store::Durability::ProcessCrash,
    };
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
    let opened = LiveStore::open(&folder, settings, wanted.place);
    Ok(Box::new(
        opened.map_err(|cause| OpenError::of_store(config, cause))?,
    ))
}

/// Signals that come; none ever where the system has no such thing.
struct Signals {
    #[cfg(unix)]
    signals: Vec<(&'static str, tokio::signal::unix::Signal)>,
}

impl Signals {
    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        #[cfg(unix)]
        {
            std::future::poll_fn(|cx| {
                let mut came = self
                    .signals
                    .iter_mut()
                    .filter_map(|(name, signal)| signal.poll_recv(cx).is_ready().then_some(*name));
                came.next().map_or(Poll::Pending, Poll::Ready)
            })
            .await
        }
        #[cfg(not(unix))]
        std::future::pending().await
    }
}

fn hangup() -> io::Result<Signals> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = vec![("SIGHUP", signal(SignalKind::hangup())?)];
        Ok(Signals { signals })
    }
    #[cfg(not(unix))]
    Ok(Signals {})
}

fn user_signals() -> io::Result<Signals> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = vec![
            ("SIGUSR1", signal(SignalKind::user_defined1())?),
            ("SIGUSR2", signal(SignalKind::user_defined2())?),
        ];
        Ok(Signals { signals })
    }
    #[cfg(not(unix))]
    Ok(Signals {})
}

/// Ctrl-C, or the service manager's SIGTERM.
fn end_signals() -> io::Result<Signals> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = vec![
            ("SIGTERM", signal(SignalKind::terminate())?),
            ("SIGINT", signal(SignalKind::interrupt())?),
        ];
        Ok(Signals { signals })
    }
    #[cfg(not(unix))]
    Ok(Signals {})
}

/// SIGHUP: the configuration is read again, as by `headgate reload`.
async fn reload_when_told(mut hangup: Signals, live: Live) {
    loop {
        hangup.next().await;
        service::reloading();
        let reloaded = live.reload().await;
        service::reloaded(reloaded.is_ok());
        match reloaded {
            Ok(Applied {
                listeners,
                bridges,
                rules,
                warnings,
                ..
            }) => {
                tracing::info!(?listeners, ?bridges, rules, "configuration read again");
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

/// SIGUSR1 and SIGUSR2 have no meaning here, and must not end the gateway, as they would by default.
async fn outlive(mut signals: Signals) {
    loop {
        let name = signals.next().await;
        tracing::info!(signal = name, "a signal without a meaning was ignored");
    }
}

/// Ready when one of them has come.
async fn told_to_stop(ends: &mut Signals) -> io::Result<()> {
    #[cfg(unix)]
    {
        ends.next().await;
        Ok(())
    }
    #[cfg(not(unix))]
    {
        let _ = ends;
        tokio::signal::ctrl_c().await
    }
}

/// A number nobody can guess.
fn random() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes))
}

/// Certificates of both sides are judged by the system's clock while it is trusted.
fn judge_certificates_by(state: Arc<ClockState>) {
    headgate_certificate_time::judge_by(move || {
        UnixTime::since_unix_epoch(Duration::from_millis(state.for_certificates()))
    });
}

/// For the choices of the bus that shall differ from run to run.
fn seed() -> Result<u64, getrandom::Error> {
    Ok(random()? as u64)
}
