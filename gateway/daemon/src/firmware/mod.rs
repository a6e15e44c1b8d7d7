//! Updates of the system that the gateway runs on: RAUC writes a signed bundle into the slot that does not run; the gateway says whether the one that runs
//! is good, and lets the machine fall back to the other where it is not.
//!
//! Always true: a slot is marked good only when the store is open, the listeners accept and a message went round the bus, and, the first time, what was
//! connected before is connected again; one system is installed at a time; where there is no RAUC nothing of this happens.

mod asked;
mod bus;
mod judge;
mod kept;
mod rauc;

use crate::alarms::{Alarms, Severity, Trouble};
use crate::bridges::Bridges;
use crate::config::{Config, FirmwareSettings};
use crate::deadline::until;
use crate::incoming::{IncomingError, write_body};
use crate::live::Live;
use crate::programs;
use crate::starts::{Starts, Why};
use crate::sys::unix_time;
pub(crate) use asked::against_command;
use bytes::Bytes;
use futures_util::Stream;
use headgate_auth::data_dir::{DataDir, DataPath, OnTheWay};
use headgate_bus::handle::Hub;
use headgate_model::{Message, Topic};
use judge::{Judge, Seen, Verdict};
pub(crate) use kept::FellBack;
use kept::Kept;
use parking_lot::Mutex;
pub(crate) use rauc::{BundleInfo, RaucError, Slot};
use rauc::{Rauc, Status};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Display;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

/// How often it is looked whether the system is good, and afterwards what it reaches.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_LATER: Duration = Duration::from_secs(30);
/// RAUC may start after the gateway.
const RETRY: Duration = Duration::from_secs(10);
/// How long a message may take round the bus.
const BEAT: Duration = Duration::from_secs(10);
/// How long a program of the settings may take.
const PROGRAM: Duration = Duration::from_secs(30);
/// In this time a machine goes down that was asked to.
const REBOOT_COMES: Duration = Duration::from_secs(600);
/// How long a listener may take to accept.
const ACCEPT: Duration = Duration::from_secs(5);
/// Where an uploaded bundle is, below the data folder.
const FOLDER: &str = "firmware";
const BUNDLE: &str = "bundle.raucb";
const COMING: &str = ".headgate-upload-";
/// Where a machine with RAUC says what its slots are. rauc(1)
const SYSTEM_CONF: [&str; 3] = [
    "/etc/rauc/system.conf",
    "/run/rauc/system.conf",
    "/usr/lib/rauc/system.conf",
];

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirmwareError {
    /// This machine has no slots.
    #[error("this system is not updated by RAUC: {0}")]
    NotHere(String),
    /// One at a time.
    #[error("a bundle is being received or installed: try again when that is done")]
    Busy,
    /// The bundle goes with the data.
    #[error(transparent)]
    OnTheWay(#[from] OnTheWay),
    /// Neither a path nor an address.
    #[error(
        "`{0}` is no bundle: a path from the root on this machine, or an address that begins with https:// or http://"
    )]
    Bundle(String),
    /// Nothing was uploaded.
    #[error("there is no bundle on the gateway: upload one, or name a path or an address")]
    Nothing,
    /// No slot to go to.
    #[error("the other slot has no system that may be booted")]
    NoOther,
    /// The file did not come.
    #[error(transparent)]
    Incoming(#[from] IncomingError),
    /// RAUC did not do it.
    #[error(transparent)]
    Rauc(#[from] RaucError),
    /// Nothing is set for it.
    #[error("there is no factory reset here: `firmware.factory_reset` is empty")]
    NoReset,
    /// The machine is not started anew.
    #[error("`{program}` does not do it: {why}")]
    Program {
        /// `firmware.reboot` or `firmware.factory_reset`
        program: String,
        /// What it or the system said.
        why: String,
    },
    /// The data folder.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
}

/// Whether the system that runs is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// That is not asked here.
    #[default]
    None,
    /// It is not known yet.
    Trial,
    /// It is, and the boot loader was told.
    Good,
    /// It is not, and there is nothing to fall back to, or the machine is about to.
    Bad,
}

/// An installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Installation {
    /// Which bundle.
    pub bundle: String,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// How far it is.
    pub percent: u8,
    /// What RAUC does, or did last.
    pub step: String,
    /// Whether it has ended.
    pub ended: bool,
    /// Why it came to nothing.
    pub error: Option<String>,
}

/// A bundle on the gateway.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Uploaded {
    pub bytes: u64,
    /// Seconds since 1970.
    pub at: u64,
}

/// All that can be told.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct FirmwareView {
    /// Whether RAUC updates this system.
    pub available: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// Whether all data can be wiped.
    pub has_factory_reset: bool,
    /// Bundles must be for this board.
    pub compatible: String,
    pub slots: Vec<Slot>,
    /// Whether the system that runs is good.
    pub state: State,
    /// What is waited for, or missing.
    pub missing: Vec<String>,
    /// The last system that was not good.
    pub fell_back: Option<FellBack>,
    /// The installation that is under way, or was the last.
    pub installation: Option<Installation>,
    /// The bundle that was uploaded.
    pub uploaded: Option<Uploaded>,
    /// The topic where commands are taken by the bus, too.
    pub commands: Option<String>,
}

/// The system that runs, as others tell of it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Arc<Mutex<Option<RunningSystem>>>);

/// A system.
#[derive(Clone, Debug)]
pub(crate) struct RunningSystem {
    /// Its slot, by the boot loader's name.
    pub slot: String,
    /// The version of its bundle; empty: it is as it came from the factory.
    pub version: String,
    pub state: State,
}

impl Running {
    /// As it was when it was looked at last; `None` where RAUC does not update it.
    pub(crate) fn now(&self) -> Option<RunningSystem> {
        self.0.lock().clone()
    }
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Trial => "trial",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// Updates. Clones share them.
#[derive(Clone)]
pub(crate) struct Firmware(Arc<Inner>);

struct Inner {
    hub: Hub,
    live: Live,
    bridges: Bridges,
    alarms: Alarms,
    data_dir: DataDir,
    config: watch::Receiver<Arc<Config>>,
    known: Mutex<Known>,
    /// The last installation, for those who watch it.
    installations: watch::Sender<Option<Installation>>,
    running: Running,
    starts: Starts,
    /// By when a reboot that was asked for should have come.
    reboot_due: Mutex<Option<Instant>>,
    /// For one that comes, or is installed.
    work: Arc<Semaphore>,
}

#[derive(Default)]
struct Known {
    status: Option<Status>,
    why_not: Option<String>,
    state: State,
    missing: Vec<String>,
    looked_at: Option<Instant>,
}

/// What updates are made of.
pub(crate) struct Parts {
    pub(crate) hub: Hub,
    pub(crate) live: Live,
    pub(crate) bridges: Bridges,
    pub(crate) alarms: Alarms,
    pub(crate) data_dir: DataDir,
    pub(crate) running: Running,
    pub(crate) starts: Starts,
    pub(crate) config: watch::Receiver<Arc<Config>>,
}

impl Firmware {
    /// Nothing happens before [`Self::keep`].
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            hub: parts.hub,
            live: parts.live,
            bridges: parts.bridges,
            alarms: parts.alarms,
            data_dir: parts.data_dir,
            config: parts.config,
            known: Mutex::default(),
            installations: watch::Sender::default(),
            running: parts.running,
            starts: parts.starts,
            reboot_due: Mutex::default(),
            work: Arc::new(Semaphore::new(1)),
        }))
    }

    fn settings(&self) -> FirmwareSettings {
        self.0.config.borrow().firmware.clone()
    }

    /// The program, where there is one to be asked.
    fn rauc(&self) -> Result<Rauc, FirmwareError> {
        let not_here = |why: &str| Err(FirmwareError::NotHere(why.to_owned()));
        match self.settings().program {
            Some(program) if program.is_empty() => not_here("`firmware.program` is empty"),
            Some(program) => Ok(Rauc(program)),
            None if SYSTEM_CONF.iter().any(|path| Path::new(path).exists()) => Ok(Rauc("rauc".into())),
            None => not_here("there is no /etc/rauc/system.conf"),
        }
    }

    /// Says whether the system that runs is good, for ever.
    pub(crate) async fn keep(self) {
        let began = Instant::now();
        let status = loop {
            match self.look().await {
                Ok(status) => break status,
                Err(FirmwareError::NotHere(_)) => sleep(LOOK_LATER).await,
                Err(_) => sleep(RETRY).await,
            }
        };
        let mut kept = Kept::load(&self.0.data_dir);
        if let Some(booted) = status.booted() {
            self.on_trial(booted, &status, &mut kept, began).await;
        }
        loop {
            // What has just started has not reached anything yet.
            sleep(LOOK_LATER).await;
            let _ = self.look().await;
            let reached = self.seen().await.connected;
            let is_good = self.0.known.lock().state == State::Good;
            if is_good && reached != kept.uplinks {
                kept = Kept {
                    uplinks: reached,
                    ..Kept::load(&self.0.data_dir)
                };
                self.save(&kept);
            }
        }
    }

    async fn look(&self) -> Result<Status, FirmwareError> {
        self.0.known.lock().looked_at = Some(Instant::now());
        let looked = match self.rauc() {
            Ok(rauc) => rauc.status().await.map_err(FirmwareError::from),
            Err(error) => Err(error),
        };
        let mut known = self.0.known.lock();
        match &looked {
            Ok(status) => (known.status, known.why_not) = (Some(status.clone()), None),
            Err(error) => (known.status, known.why_not) = (None, Some(error.to_string())),
        }
        self.tell(&known);
        looked
    }

    /// Waits until the system is good, or its time is over.
    async fn on_trial(&self, booted: &Slot, status: &Status, kept: &mut Kept, began: Instant) {
        let judge = Judge {
            was_good: kept.good.get(&booted.name) == Some(&booted.mark),
            uplinks: kept.uplinks.clone(),
            patience: self.settings().trial_time,
        };
        let (slot, version) = (&booted.boot_name, booted.version.as_deref().unwrap_or("factory"));
        self.set_state(State::Trial, Vec::new());
        let mut is_told = false;
        loop {
            // An operator has said so meanwhile.
            if self.0.known.lock().state == State::Good {
                return;
            }
            let seen = Seen {
                listeners_down: self.deaf().await,
                ..self.seen().await
            };
            match judge.judge(&seen, began.elapsed()) {
                Verdict::Wait(missing) => self.set_state(State::Trial, missing),
                // What has nothing to fall back to may become good late.
                Verdict::Bad(missing) if is_told => self.set_state(State::Bad, missing),
                Verdict::Bad(missing) => {
                    tracing::error!(slot, version, ?missing, "this system is not good");
                    is_told = true;
                    if self.fall_back(booted, status, kept, missing).await {
                        return;
                    }
                }
                Verdict::Good => {
                    let marked = match self.rauc() {
                        Ok(rauc) => rauc.mark("good", "booted").await.map_err(FirmwareError::from),
                        Err(error) => Err(error),
                    };
                    match marked {
                        Ok(()) => break,
                        Err(error) => {
                            tracing::error!(slot, version, %error, "this system is good, and cannot be marked so");
                            self.set_state(State::Trial, vec![error.to_string()]);
                        }
                    }
                }
            }
            sleep(LOOK).await;
        }
        if judge.was_good {
            tracing::debug!(slot, version, "this system is good");
        } else {
            tracing::info!(slot, version, "this system is good, and marked so");
            kept.good.insert(booted.name.clone(), booted.mark.clone());
            self.save(kept);
        }
        self.is_good();
        let _ = self.look().await;
    }

    fn is_good(&self) {
        self.set_state(State::Good, Vec::new());
        self.0.alarms.set("firmware_bad", None);
    }

    /// Whether the machine falls back.
    async fn fall_back(&self, booted: &Slot, status: &Status, kept: &mut Kept, missing: Vec<String>) -> bool {
        self.set_state(State::Bad, missing.clone());
        let summary = format!(
            "the system in slot {} is not good: {}",
            booted.boot_name,
            missing.join("; ")
        );
        let trouble = Trouble::new(Severity::Critical, summary);
        self.0.alarms.set("firmware_bad", Some(trouble));
        // A system that was good before stays: another one would not be better.
        let is_new = kept.good.get(&booted.name) != Some(&booted.mark);
        let there = status.other().is_some_and(|other| other.good);
        if !(is_new && there) {
            tracing::error!("there is no other system to fall back to");
            return false;
        }
        kept.fell_back = Some(FellBack {
            slot: booted.boot_name.clone(),
            version: booted.version.clone(),
            missing,
            at: unix_time(),
        });
        self.save(kept);
        let fallen = async {
            self.rauc()?.mark("bad", "booted").await?;
            self.reboot(Why::FallBack).await
        };
        match fallen.await {
            Ok(()) => tracing::warn!("the machine falls back to the system before"),
            Err(error) => tracing::error!(%error, "the machine does not fall back"),
        }
        true
    }

    async fn seen(&self) -> Seen {
        let topic = Topic::try_from("$SYS/sysmon/firmware").ok();
        let message = topic.map(|topic| Message::new(topic, Bytes::new()));
        let beats = match message {
            Some(message) => timeout(BEAT, self.0.hub.beat(message)).await.is_ok(),
            None => false,
        };
        let views = self.0.bridges.views();
        let connected = views.iter().filter(|view| view.state == "connected");
        Seen {
            listeners_down: Vec::new(),
            beats,
            connected: connected.map(|view| view.name.clone()).collect(),
            bridges: views
                .iter()
                .filter(|view| view.should_be_connected())
                .map(|view| view.name.clone())
                .collect(),
        }
    }

    /// Listeners for connections that take none.
    async fn deaf(&self) -> Vec<String> {
        let mut deaf = Vec::new();
        for view in self.0.live.listeners().views() {
            // Sockets for datagrams, serial lines and Unix sockets have no such address.
            let address = view.address.parse::<SocketAddr>().ok();
            let Some(mut address) = address.filter(|_| view.running && view.connections.is_some()) else {
                continue;
            };
            if address.ip().is_unspecified() {
                address.set_ip(match address {
                    SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                });
            }
            let connected = timeout(ACCEPT, TcpStream::connect(address)).await;
            if !matches!(connected, Ok(Ok(_))) {
                deaf.push(view.name);
            }
        }
        deaf
    }

    fn set_state(&self, state: State, missing: Vec<String>) {
        let mut known = self.0.known.lock();
        (known.state, known.missing) = (state, missing);
        self.tell(&known);
    }

    fn tell(&self, known: &Known) {
        let booted = known.status.as_ref().and_then(Status::booted);
        *self.0.running.0.lock() = booted.map(|booted| RunningSystem {
            slot: booted.boot_name.clone(),
            version: booted.version.clone().unwrap_or_default(),
            state: known.state,
        });
    }

    fn save(&self, kept: &Kept) {
        if let Err(error) = tokio::task::block_in_place(|| kept.save(&self.0.data_dir)) {
            tracing::error!(%error, "what is known of updates cannot be written down");
        }
    }

    /// All that is known; RAUC is asked again, though not more often than every two seconds, however many ask.
    pub(crate) async fn view(&self) -> FirmwareView {
        let looked_at = self.0.known.lock().looked_at;
        if looked_at.is_none_or(|at| at.elapsed() >= LOOK) {
            let _ = self.look().await;
        }
        // Before the rest: where it has ended, its bundle is gone.
        let installation = self.0.installations.borrow().clone();
        let (kept, uploaded) =
            tokio::task::block_in_place(|| (Kept::load(&self.0.data_dir), self.uploaded()));
        let known = self.0.known.lock();
        let status = known.status.as_ref();
        FirmwareView {
            available: status.is_some(),
            why_not: known.why_not.clone(),
            has_factory_reset: !self.settings().factory_reset.is_empty(),
            compatible: status.map(|status| status.compatible.clone()).unwrap_or_default(),
            slots: status.map(|status| status.slots.clone()).unwrap_or_default(),
            state: known.state,
            missing: known.missing.clone(),
            fell_back: kept.fell_back,
            installation,
            uploaded,
            commands: self.commands_topic(),
        }
    }

    fn bundle(&self) -> DataPath {
        self.0.data_dir.join(FOLDER).join(BUNDLE)
    }

    fn uploaded(&self) -> Option<Uploaded> {
        let data = fs::metadata(self.bundle().now()).ok()?;
        let at = data.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Uploaded {
            bytes: data.len(),
            at: at.as_secs(),
        })
    }

    /// What is meant: a path, an address, or the bundle that was uploaded. Never something that RAUC would take for an option.
    fn wanted(&self, bundle: Option<&str>) -> Result<String, FirmwareError> {
        match bundle {
            None => {
                // RAUC's service has another working folder.
                let path = self.bundle();
                let path = path.now();
                let path = std::path::absolute(&path).unwrap_or_else(|_| path.to_owned());
                let is_there = path.exists();
                is_there
                    .then(|| path.display().to_string())
                    .ok_or(FirmwareError::Nothing)
            }
            Some(bundle)
                if ["/", "https://", "http://"]
                    .iter()
                    .any(|begin| bundle.starts_with(begin)) =>
            {
                Ok(bundle.to_owned())
            }
            Some(bundle) => Err(FirmwareError::Bundle(bundle.to_owned())),
        }
    }

    /// Takes a bundle from elsewhere, in the place of the one before.
    pub(crate) async fn receive<E: Display>(
        &self,
        told: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Uploaded, FirmwareError> {
        self.rauc()?;
        let _work = Arc::clone(&self.0.work)
            .try_acquire_owned()
            .map_err(|_| FirmwareError::Busy)?;
        let _stays = self.0.data_dir.begin_long_work()?;
        let (folder, path) = (self.0.data_dir.join(FOLDER), self.bundle());
        let (folder, path) = (folder.now().to_owned(), path.now().to_owned());
        let at = |cause| FirmwareError::File {
            path: folder.clone(),
            cause,
        };
        let (new, file) = tokio::task::block_in_place(|| {
            fs::create_dir_all(&folder)?;
            // What was cut off, and what comes in its place.
            for entry in fs::read_dir(&folder)?.flatten() {
                let _ = fs::remove_file(entry.path());
            }
            let new = tempfile::Builder::new().prefix(COMING).tempfile_in(&folder)?;
            let file = new.reopen()?;
            Ok((new, file))
        })
        .map_err(at)?;
        write_body(&folder, file, told, self.settings().max_bundle_bytes, body).await?;
        let placed = tokio::task::block_in_place(|| new.persist(&path).map(drop));
        placed.map_err(|error| at(error.error))?;
        self.uploaded().ok_or(FirmwareError::Nothing)
    }

    /// Looks into a bundle: RAUC verifies its signature.
    pub(crate) async fn check(&self, bundle: Option<&str>) -> Result<BundleInfo, FirmwareError> {
        Ok(self.rauc()?.info(&self.wanted(bundle)?).await?)
    }

    /// Begins to install a bundle; with `reboot` the machine is started anew when that is done.
    pub(crate) fn install(&self, bundle: Option<&str>, reboot: bool) -> Result<Installation, FirmwareError> {
        let (rauc, bundle) = (self.rauc()?, self.wanted(bundle)?);
        let work = Arc::clone(&self.0.work)
            .try_acquire_owned()
            .map_err(|_| FirmwareError::Busy)?;
        let stays = self.0.data_dir.begin_long_work()?;
        let begun = Installation {
            bundle: bundle.clone(),
            began: unix_time(),
            percent: 0,
            step: "begins".into(),
            ended: false,
            error: None,
        };
        self.0.installations.send_replace(Some(begun.clone()));
        tracing::info!(bundle, "an update is installed");
        let this = self.clone();
        tokio::spawn(async move {
            let progress = |percent, step: &str| {
                this.on_installation(|now| {
                    (now.percent, now.step) = (percent, step.chars().take(200).collect());
                });
            };
            let installed = rauc.install(&bundle, progress).await;
            match &installed {
                Ok(()) => tracing::info!(
                    bundle,
                    "the update is installed; the next start of the machine takes it"
                ),
                Err(error) => tracing::error!(bundle, %error, "the update is not installed"),
            }
            let error = installed.as_ref().err().map(ToString::to_string);
            if installed.is_ok() {
                let _ = tokio::task::block_in_place(|| fs::remove_file(this.bundle().now()));
            }
            this.on_installation(|now| (now.ended, now.error) = (true, error));
            drop((work, stays));
            let _ = this.look().await;
            if installed.is_ok()
                && reboot
                && let Err(error) = this.reboot(Why::Update).await
            {
                tracing::error!(%error, "the machine is not started anew");
            }
        });
        Ok(begun)
    }

    fn on_installation(&self, change: impl FnOnce(&mut Installation)) {
        self.0.installations.send_modify(|now| {
            if let Some(now) = now {
                change(now);
            }
        });
    }

    /// Says of the system that runs that it is good, or is not; the boot loader goes by it at the next start.
    pub(crate) async fn mark(&self, good: bool) -> Result<(), FirmwareError> {
        let state = if good { "good" } else { "bad" };
        self.rauc()?.mark(state, "booted").await?;
        if good {
            let status = self.look().await?;
            if let Some(booted) = status.booted() {
                let mut kept = Kept::load(&self.0.data_dir);
                kept.good.insert(booted.name.clone(), booted.mark.clone());
                self.save(&kept);
            }
            self.is_good();
        }
        Ok(())
    }

    /// Starts the machine anew with the system of the other slot.
    pub(crate) async fn boot_other(&self) -> Result<(), FirmwareError> {
        let status = self.look().await?;
        let other = status.other().filter(|other| other.good);
        other.ok_or(FirmwareError::NoOther)?;
        self.rauc()?.mark("active", "other").await?;
        self.reboot(Why::OtherSlot).await
    }

    /// Starts the machine anew.
    pub(crate) async fn reboot(&self, why: Why) -> Result<(), FirmwareError> {
        tracing::warn!(why = why.name(), "the machine is started anew");
        self.0.starts.expect(why);
        let asked = run_program(&self.settings().reboot).await;
        if let Err(error) = &asked {
            tracing::error!(%error, why = why.name(), "the machine is not started anew");
            self.0.starts.expect_nothing();
            return asked;
        }
        // One that does not come explains no later start. Another one may have been asked for since.
        let due = Instant::now() + REBOOT_COMES;
        *self.0.reboot_due.lock() = Some(due);
        let this = self.clone();
        tokio::spawn(async move {
            until(Some(due)).await;
            if *this.0.reboot_due.lock() == Some(due) {
                tracing::error!(
                    why = why.name(),
                    "the machine was to be started anew, and was not"
                );
                this.0.starts.expect_nothing();
            }
        });
        asked
    }

    /// Whether the system that runs is good.
    pub(crate) fn state(&self) -> State {
        self.0.known.lock().state
    }

    /// A bundle is being received or installed.
    pub(crate) fn is_at_work(&self) -> bool {
        self.0.work.available_permits() == 0
    }

    /// Wipes all data, and starts the machine anew as from the factory.
    pub(crate) async fn factory_reset(&self) -> Result<(), FirmwareError> {
        let words = self.settings().factory_reset;
        if words.is_empty() {
            return Err(FirmwareError::NoReset);
        }
        tracing::warn!("all data is wiped, and the machine is started anew as from the factory");
        run_program(&words)
            .await
            .inspect_err(|error| tracing::error!(%error, "no data is wiped"))
    }
}

/// A program and its arguments, of the settings.
pub(crate) async fn run_program(words: &[String]) -> Result<(), FirmwareError> {
    let failed = |why: String| FirmwareError::Program {
        program: words.join(" "),
        why,
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err(failed("there is none".into()));
    };
    let mut command = Command::new(program);
    let ended = timeout(PROGRAM, programs::run(command.args(arguments))).await;
    let ended = ended.map_err(|_| failed("it does not end".into()))?;
    let ended = ended.map_err(|error| failed(error.to_string()))?;
    match ended.status.success() {
        true => Ok(()),
        false => {
            let told = String::from_utf8_lossy(&ended.stderr);
            let told: String = told.trim().chars().take(300).collect();
            Err(failed(format!("{}: {told}", ended.status)))
        }
    }
}
