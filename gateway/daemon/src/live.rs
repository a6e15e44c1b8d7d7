//! The configuration that is valid, and how another one becomes it while the gateway runs.
//!
//! Always true: a configuration is taken whole or not at all; what could refuse it is asked first. The file and what is valid say the same when a change is
//! done. What was valid is kept ([`History`]).
//!
//! A change may have to be confirmed. Until then what was valid before is beside the file, under [`BEFORE`]: when the time is over, or the gateway is
//! started anew meanwhile, it takes the file's place again. So a change that cuts off whoever made it, or that keeps the gateway from starting, undoes itself.
//! The gateway that waits has that file locked: who starts another one meanwhile undoes nothing.

use crate::alarms::{Alarms, Severity, Trouble};
use crate::bridges::{BridgeError, Bridges, Change};
use crate::config::{self, Config, ConfigError, Durability, Startable, Told, environment_variables};
use crate::earlier::{self, Instead};
use crate::history::{Cause, Entry, History, HistoryError, LONGEST};
use crate::keeps::Keeps;
use crate::listeners::{ListenerChange, Listeners, ListenersError};
use crate::log::{LogError, LogHandle};
use crate::moving::{self, Ready};
use crate::private::beside;
use crate::starts::Starts;
use crate::sys::unix_time;
use crate::whereabouts::is_same;
use crate::{memory, private, protocols, supplies};
use headgate_admin::Admin;
use headgate_auth::data_dir::DataDir;
use headgate_auth::{Access, AccessError};
use headgate_bus::BusSettings;
use headgate_bus::handle::Hub;
use headgate_model::store::{StorePlace, StoreSettings};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

/// What the name of the file is followed by for the configuration that an unconfirmed one has replaced.
const BEFORE: &str = ".before";
/// With this line it begins: a file of somebody else may have such a name.
const MARK: &str = "# headgate: valid before a change that is not confirmed yet. It comes back by itself.\n";
/// Bytes of that file which are read: a configuration, and the mark.
const LONGEST_BEFORE: u64 = 17 << 20;
/// What the name of the file is followed by for what stood there and was never taken.
const REPLACED: &str = ".replaced";
/// Bytes of queues that go from the disk to memory at most, and no more than a quarter of what may be used.
const MOST_IN_MEMORY: u64 = 256 << 20;
/// How often going back is tried, if something is in its way.
const RETRY: Duration = Duration::from_secs(10);

/// All that takes another configuration over. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// The configuration's file.
    file: ConfigFile,
    valid: Mutex<Valid>,
}

/// The configuration's file.
#[derive(Clone, Debug)]
pub(crate) enum ConfigFile {
    /// The gateway was started with it.
    Given(PathBuf),
    /// It was started with none: the one in its data folder, which need not be there.
    Own(PathBuf),
}

impl ConfigFile {
    /// Where it is, or would be.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::Own(path) => path,
        }
    }

    /// Where it is; `None` for one of its own that is not there.
    pub(crate) fn if_there(&self) -> Option<&Path> {
        match self {
            Self::Given(path) => Some(path),
            Self::Own(path) => Some(&**path).filter(|path| path.exists()),
        }
    }

    /// What stands there.
    pub(crate) fn text(&self) -> Result<String, ConfigError> {
        match self {
            Self::Given(path) => config::text_of(path),
            Self::Own(path) => config::text_if_any(path),
        }
    }

    /// Puts a text there.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        match self {
            Self::Own(path) if !path.exists() => private::replace(path, text.as_bytes()),
            Self::Given(path) | Self::Own(path) => private::replace_foreign(path, text.as_bytes()),
        }
    }
}

/// Who is told.
pub(crate) struct Parts {
    /// The bus.
    pub hub: Hub,
    /// Who comes in and may do what.
    pub access: Arc<Access>,
    /// The bridges.
    pub bridges: Bridges,
    /// Where clients connect.
    pub listeners: Listeners,
    /// The log.
    pub log: LogHandle,
    /// The alarms.
    pub alarms: Alarms,
    /// Who runs the gateway.
    pub admin: Admin,
    /// Why it was started.
    pub starts: Starts,
    /// Whether all this is written down.
    pub keeps: Keeps,
    /// Where the data are.
    pub data: DataDir,
    /// All who look at the configuration by themselves.
    pub valid: watch::Sender<Arc<Config>>,
}

struct Valid {
    config: Arc<Config>,
    /// As it was written.
    text: String,
    /// Its number in the history; `None` if it could not be kept there.
    number: Option<u64>,
    history: History,
    unconfirmed: Option<Unconfirmed>,
}

/// A change that goes back by itself.
struct Unconfirmed {
    /// When, in seconds since 1970.
    until: u64,
    /// Ends the wait.
    confirmed: CancellationToken,
    /// What was valid before,
    before: String,
    /// and its file, locked.
    _file: File,
}

/// What came of a configuration that was taken.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Applied {
    /// Its number in the history.
    pub number: Option<u64>,
    /// `key: old → new`.
    pub changes: Vec<String>,
    /// What became of listeners that are not as before, by name.
    pub listeners: BTreeMap<String, ListenerChange>,
    /// What became of each bridge.
    pub bridges: BTreeMap<String, Change>,
    /// Other rules are valid: who is connected has them too.
    pub rules: bool,
    /// What is probably not as it was meant.
    pub warnings: Vec<Told>,
    /// When it goes back by itself unless it is confirmed, in seconds since 1970.
    pub confirm_until: Option<u64>,
    /// Where that is kept which stood in the file and was never taken.
    pub replaced: Option<PathBuf>,
}

/// What would come of a configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Preview {
    /// `key: old → new`.
    pub changes: Vec<String>,
    /// What is probably not as it was meant.
    pub warnings: Vec<Told>,
}

/// Why the configuration of before stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// It cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A bridge cannot be.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// Rules or users cannot be.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A listener cannot be.
    #[error(transparent)]
    Listeners(#[from] ListenersError),
    /// The log cannot be.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no such configuration.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The file cannot be written.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// It is longer than is kept.
    #[error("the configuration has {0} bytes, allowed are {LONGEST}")]
    TooLong(usize),
    /// A gateway runs with this file, and waits.
    #[error("a gateway runs with this configuration, and waits for its confirmation")]
    Runs,
    /// A file has the name under which what is valid would be kept.
    #[error(
        "{0}: this name is wanted for the configuration of before, and the file there is not the gateway's"
    )]
    InTheWay(PathBuf),
    /// Another change waits.
    #[error(
        "a configuration waits to be confirmed: `headgate config confirm` or `headgate config rollback` first"
    )]
    Unconfirmed,
    /// No change waits.
    #[error("no configuration waits to be confirmed")]
    NothingToConfirm,
}

/// The settings of the bus as a gateway on this machine has them.
pub(crate) fn bus_settings(config: &Config) -> BusSettings {
    BusSettings {
        max_memory_bytes: Some(memory::limit(config.bus.max_memory_bytes)),
        ..config.bus.clone()
    }
}

/// What the store is told, of a gateway on this machine.
pub(crate) fn store_settings(config: &Config) -> StoreSettings {
    let memory = memory::limit(config.bus.max_memory_bytes) as u64;
    StoreSettings {
        max_bytes: config.store.max_bytes,
        survives_power_loss: config.store.durability == Durability::PowerLoss,
        place: match config.store.durability {
            Durability::Memory => StorePlace::Memory,
            Durability::PowerLoss | Durability::ProcessCrash => StorePlace::Disk,
        },
        most_in_memory: MOST_IN_MEMORY.min(memory / 4),
    }
}

/// Before a start: a configuration that was not confirmed gives way to the one before it. Whether there was one.
pub(crate) fn undo_unconfirmed(path: &Path) -> Result<bool, ApplyError> {
    let before = beside(path, BEFORE);
    let failed = |cause| ApplyError::File {
        path: before.clone(),
        cause,
    };
    let mut file = match private::open(&before) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(failed)?,
    };
    let mut text = String::new();
    let mut beginning = (&mut file).take(LONGEST_BEFORE);
    beginning.read_to_string(&mut text).map_err(failed)?;
    let Some(text) = text.strip_prefix(MARK) else {
        return Ok(false);
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(ApplyError::Runs),
        locked => locked.map_err(|error| failed(error.into()))?,
    }
    // It was not confirmed, or somebody has changed it since.
    keep_replaced(path, &private::read(path, private::LONGEST).unwrap_or_default());
    private::replace_foreign(path, text.as_bytes()).map_err(|cause| ApplyError::File {
        path: path.to_owned(),
        cause,
    })?;
    private::remove(&before).map_err(failed)?;
    Ok(true)
}

/// Writes what is valid beside the file, and locks it.
fn keep_before(path: &Path, text: &str) -> Result<File, ApplyError> {
    let before = beside(path, BEFORE);
    let failed = |cause| ApplyError::File {
        path: before.clone(),
        cause,
    };
    // It is ours, or there is none.
    match private::read_text(&before, LONGEST_BEFORE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(known) if known.starts_with(MARK) => {}
        _ => return Err(ApplyError::InTheWay(before)),
    }
    private::replace(&before, format!("{MARK}{text}").as_bytes()).map_err(failed)?;
    let file = File::open(&before).map_err(failed)?;
    file.try_lock().map_err(|error| failed(error.into()))?;
    Ok(file)
}

/// Reads a configuration, which may take long, while others go on. `name` is where it comes from, for what is told of it.
fn read(name: Option<&Path>, text: &str) -> Result<Startable, ConfigError> {
    tokio::task::block_in_place(|| Config::read_to_start(name, text.to_owned(), environment_variables()))
}

/// Reads one that somebody wants to be valid.
fn read_new(name: Option<&Path>, text: &str) -> Result<Startable, ApplyError> {
    if text.len() > LONGEST {
        return Err(ApplyError::TooLong(text.len()));
    }
    Ok(read(name, text)?)
}

/// Whether it is in the history now. Where that cannot be written, the configuration is valid all the same.
fn keep(history: &mut History, text: &str, by: Cause, changes: Vec<String>) -> bool {
    let added = history.add(text, by, changes);
    if let Err(error) = history.keep_for(env!("CARGO_PKG_VERSION"), text) {
        tracing::warn!(%error, "the configuration is not kept for this version");
    }
    if let Err(error) = &added {
        tracing::warn!(%error, "the configuration is not kept in the history");
    }
    added.is_ok()
}

/// What going back at a start has changed, against the last one that was valid.
fn undone_changes(history: &History, config: &Config, path: Option<&Path>, text: &str) -> Vec<String> {
    let last = history.last().and_then(|last| history.text(last.number).ok());
    let last = last.and_then(|last| read(path, &last).ok());
    let changes = last.map(|last| last.config.changes(config)).unwrap_or_default();
    let back_to = history.number_of(text).map(back_to);
    back_to.into_iter().chain(changes).collect()
}

fn back_to(number: u64) -> String {
    format!("back to {number}")
}

/// Keeps what an operator has written into the file, and nobody has read.
fn keep_replaced(path: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let replaced = beside(path, REPLACED);
    match private::replace(&replaced, bytes) {
        Ok(()) => Some(replaced),
        Err(error) => {
            tracing::warn!(path = %replaced.display(), %error, "what stood in the file is not kept");
            None
        }
    }
}

/// Says that an earlier configuration is valid, or no more.
fn tell_instead(alarms: &Alarms, instead: Option<&Instead>) {
    let trouble = instead.map(|Instead { name, why }| {
        let summary = format!(
            "a later version has taken the configuration, and this one cannot read it; what is valid is {name}.toml of the history: {why}"
        );
        Trouble::new(Severity::Critical, summary)
    });
    alarms.set("configuration_of_later_version", trouble);
}

impl Live {
    /// What the gateway was started with. `text` stands in the file, unless there is another one `instead`; `undone`: it is the one before a change that
    /// was not confirmed.
    pub(crate) fn new(
        parts: Parts,
        config: Arc<Config>,
        file: ConfigFile,
        text: &str,
        undone: bool,
        instead: Option<&Instead>,
    ) -> Self {
        let mut history = History::load(parts.data.clone());
        let (by, changes) = match (undone, instead) {
            (true, _) => (
                Cause::NotConfirmed,
                undone_changes(&history, &config, Some(file.path()), text),
            ),
            (false, Some(instead)) => (Cause::Start, vec![format!("back to {}", instead.name)]),
            (false, None) => (Cause::Start, Vec::new()),
        };
        tell_instead(&parts.alarms, instead);
        let is_kept = keep(&mut history, text, by, changes);
        Self(Arc::new(Inner {
            parts,
            file,
            valid: Mutex::new(Valid {
                config,
                text: text.to_owned(),
                number: history.last().map(|entry| entry.number).filter(|_| is_kept),
                history,
                unconfirmed: None,
            }),
        }))
    }

    /// The text of what is valid, as it was taken last.
    pub(crate) async fn text(&self) -> String {
        self.0.valid.lock().await.text.clone()
    }

    /// What is valid.
    pub(crate) async fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.valid.lock().await.config)
    }

    /// The file, and what stands there as it was taken last.
    pub(crate) async fn file(&self) -> (PathBuf, String) {
        (self.0.file.path().to_owned(), self.text().await)
    }

    /// Where the file is, and whether the gateway was given it.
    pub(crate) fn config_file(&self) -> &ConfigFile {
        &self.0.file
    }

    /// Whether the gateway could be started with what stands in the file now, which somebody may have changed by hand.
    pub(crate) fn can_start(&self) -> Result<(), ConfigError> {
        earlier::start(&self.0.file).map(drop)
    }

    /// Where clients connect.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.0.parts.listeners
    }

    /// The text of an earlier one.
    pub(crate) async fn text_of(&self, number: u64) -> Result<String, ApplyError> {
        Ok(self.0.valid.lock().await.history.text(number)?)
    }

    /// What was valid, the oldest first, and when the last of it goes back by itself.
    pub(crate) async fn history(&self) -> (Vec<Entry>, Option<u64>) {
        let valid = self.0.valid.lock().await;
        let until = valid.unconfirmed.as_ref().map(|change| change.until);
        (valid.history.entries().to_vec(), until)
    }

    /// What was valid before and may be again, as it was written.
    pub(crate) async fn texts_before(&self) -> Vec<String> {
        let valid = self.0.valid.lock().await;
        let entries = valid.history.entries().iter();
        let texts = entries.filter_map(|entry| valid.history.text(entry.number).ok());
        let unconfirmed = valid.unconfirmed.iter().map(|change| change.before.clone());
        texts.chain(unconfirmed).collect()
    }

    /// Reads the file again.
    pub(crate) async fn reload(&self) -> Result<Applied, ApplyError> {
        let mut valid = self.0.valid.lock().await;
        let text = self.0.file.text()?;
        // It would go back with the change that waits.
        if valid.unconfirmed.is_some() && text != valid.text {
            return Err(ApplyError::Unconfirmed);
        }
        let read = read_new(self.0.file.if_there(), &text)?;
        self.change(&mut valid, text, read, Cause::Reload).await
    }

    /// What would come of this text.
    pub(crate) async fn preview(&self, name: Option<&Path>, text: String) -> Result<Preview, ApplyError> {
        let valid = self.0.valid.lock().await;
        let Startable {
            mut config,
            warnings,
            data_dir,
        } = read_new(name.or(Some(self.0.file.path())), &text)?;
        tokio::task::block_in_place(|| moving::settle(&mut config, &self.0.parts.data.now()))
            .map_err(|unfit| data_dir.because(&unfit))?;
        Ok(Preview {
            changes: valid.config.changes(&config),
            warnings,
        })
    }

    /// Makes this text the configuration, in the file too. With `confirm_in` it goes back by itself after that time unless [`Self::confirm`] is called.
    pub(crate) async fn apply(
        &self,
        name: Option<&Path>,
        text: String,
        confirm_in: Option<Duration>,
    ) -> Result<Applied, ApplyError> {
        let mut valid = self.0.valid.lock().await;
        if valid.unconfirmed.is_some() {
            return Err(ApplyError::Unconfirmed);
        }
        let read = read_new(name.or(Some(self.0.file.path())), &text)?;
        let path = self.0.file.path().to_owned();
        let is_other = valid.text != text;
        let before = match confirm_in.filter(|_| is_other) {
            Some(wait) => Some((wait, keep_before(&path, &valid.text)?)),
            None => None,
        };
        let was_valid = valid.text.clone();
        let changed = self.change(&mut valid, text, read, Cause::Apply).await;
        let mut applied = match changed {
            Ok(applied) => applied,
            Err(error) => {
                if before.is_some() {
                    let _ = fs::remove_file(beside(&path, BEFORE));
                }
                return Err(error);
            }
        };
        if let Some((wait, file)) = before {
            let until = unix_time().saturating_add(wait.as_secs());
            applied.confirm_until = Some(until);
            let confirmed = CancellationToken::new();
            tokio::spawn(self.clone().wait_for(was_valid.clone(), confirmed.clone(), wait));
            valid.unconfirmed = Some(Unconfirmed {
                until,
                confirmed,
                before: was_valid,
                _file: file,
            });
            tracing::info!(
                seconds = wait.as_secs(),
                "the configuration goes back by itself unless it is confirmed"
            );
        }
        Ok(applied)
    }

    /// Lets the last change stay.
    pub(crate) async fn confirm(&self) -> Result<(), ApplyError> {
        let mut valid = self.0.valid.lock().await;
        valid.unconfirmed.as_ref().ok_or(ApplyError::NothingToConfirm)?;
        self.settle(&mut valid)?;
        tracing::info!("the configuration is confirmed");
        Ok(())
    }

    /// Goes back to an earlier configuration. Without a number that is what was valid when a change waits to be confirmed; or else what is valid, if something that was
    /// never taken stands in the file; or else the one before.
    pub(crate) async fn roll_back(&self, number: Option<u64>) -> Result<Applied, ApplyError> {
        let mut valid = self.0.valid.lock().await;
        let before = || match valid.number {
            Some(number) => valid.history.before(number),
            // What is valid is not there.
            None => valid.history.last().map(|entry| entry.number),
        };
        let text = match (number, &valid.unconfirmed) {
            (None, Some(change)) => change.before.clone(),
            (None, None) if self.is_edited(&valid) => valid.text.clone(),
            (None, None) => valid.history.text(before().ok_or(HistoryError::First)?)?,
            (Some(number), _) => valid.history.text(number)?,
        };
        let applied = self.change_back(&mut valid, text, Cause::Rollback).await?;
        self.settle(&mut valid)?;
        Ok(applied)
    }

    /// Whether the file says something else than what is valid.
    fn is_edited(&self, valid: &Valid) -> bool {
        let there = private::read(self.0.file.path(), private::LONGEST);
        there.is_ok_and(|there| there != valid.text.as_bytes())
    }

    /// Nothing waits any more: neither here nor, after a restart, on the disk.
    fn settle(&self, valid: &mut Valid) -> Result<(), ApplyError> {
        let Some(change) = &valid.unconfirmed else {
            return Ok(());
        };
        let path = beside(self.0.file.path(), BEFORE);
        private::remove(&path).map_err(|cause| ApplyError::File { path, cause })?;
        change.confirmed.cancel();
        valid.unconfirmed = None;
        Ok(())
    }

    /// Goes back when the time is over, and as soon as nothing is in the way of that.
    async fn wait_for(self, before: String, confirmed: CancellationToken, wait: Duration) {
        let mut wait = wait;
        loop {
            tokio::select! {
                () = confirmed.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let mut valid = self.0.valid.lock().await;
            if confirmed.is_cancelled() {
                return;
            }
            tracing::warn!("the configuration was not confirmed in time, and goes back");
            let gone_back = self.change_back(&mut valid, before.clone(), Cause::NotConfirmed);
            let gone_back = gone_back.await;
            match gone_back.and_then(|_| self.settle(&mut valid)) {
                Ok(()) => {
                    tracing::warn!("the configuration of before is valid again");
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, again_in = ?RETRY, "the configuration does not go back");
                    wait = RETRY;
                }
            }
        }
    }

    /// Takes one that was valid once.
    async fn change_back(&self, valid: &mut Valid, text: String, by: Cause) -> Result<Applied, ApplyError> {
        let read = read(Some(self.0.file.path()), &text)?;
        self.change(valid, text, read, by).await
    }

    /// The data have come to the folder where they should be.
    pub(crate) async fn arrived(&self, data_dir: &Path) {
        let mut valid = self.0.valid.lock().await;
        let mut config = (*valid.config).clone();
        // Another one may be wanted by now.
        let wanted = config.wanted_data_dir().to_owned();
        config.moves_to = (!is_same(&wanted, data_dir)).then_some(wanted);
        data_dir.clone_into(&mut config.data_dir);
        valid.config = Arc::new(config);
        self.0.parts.valid.send_replace(Arc::clone(&valid.config));
    }

    /// What servers need from folders is as it is there now.
    pub(crate) async fn renew_supplies(&self) {
        let mut valid = self.0.valid.lock().await;
        if protocols::folders(&valid.config).is_empty() {
            return;
        }
        let mut config = (*valid.config).clone();
        let told = tokio::task::block_in_place(|| supplies::load(&mut config));
        if protocols::datagrams_alike(&config, &valid.config) {
            return;
        }
        for fault in told {
            tracing::warn!(what = %fault, "left out");
        }
        let Parts {
            listeners,
            valid: watchers,
            ..
        } = &self.0.parts;
        let config = Arc::new(config);
        match listeners.prepare(&config).await {
            Ok(prepared) => {
                listeners.take(prepared, &config).await;
                valid.config = config;
                watchers.send_replace(Arc::clone(&valid.config));
                tracing::info!("folders that listeners need were read again");
            }
            Err(error) => {
                tracing::warn!(%error, "what was read of folders before stays valid");
            }
        }
    }

    /// Takes another configuration, which was read from `text`, or tells why not and changes nothing.
    async fn change(
        &self,
        valid: &mut Valid,
        text: String,
        read: Startable,
        by: Cause,
    ) -> Result<Applied, ApplyError> {
        let Parts {
            hub,
            access,
            bridges,
            listeners,
            log,
            alarms,
            admin,
            starts,
            keeps,
            data,
            valid: watchers,
        } = &self.0.parts;
        let path = self.0.file.path();
        let Startable {
            config: mut new,
            warnings,
            data_dir,
        } = read;
        let goes_on = by == Cause::Reload && valid.config.moves_to.as_deref() == Some(new.wanted_data_dir());
        let data_dir = match goes_on {
            // Whether the folder is still the one it was is seen there.
            true => {
                new.data_dir.clone_from(&valid.config.data_dir);
                new.moves_to.clone_from(&valid.config.moves_to);
                None
            }
            false => tokio::task::block_in_place(|| moving::prepare(&mut new, &data.now()))
                .map_err(|unfit| data_dir.because(&unfit))?,
        };
        let config = Arc::new(new);
        // Whoever could say no is asked first.
        let wanted_bridges = config.checked_bridges()?;
        bridges.could_be_of(&config.node)?;
        let rules = access.prepare(&config.auth)?;
        let prepared = listeners.prepare(&config).await?;
        // Destinations that go may write their last lines.
        if let Err(error) = tokio::task::block_in_place(|| log.set(&config.log)) {
            listeners.give_up(prepared).await;
            return Err(error.into());
        }
        let mut edited = None;
        if by != Cause::Reload {
            let stands_there = private::read(path, private::LONGEST).unwrap_or_default();
            let is_known = [&valid.text, &text]
                .iter()
                .any(|known| stands_there == known.as_bytes());
            let is_there = path.exists();
            edited = (!is_known && is_there).then_some(stands_there);
            let written = self.0.file.write(&text);
            if let Err(cause) = written {
                listeners.give_up(prepared).await;
                if let Err(error) = tokio::task::block_in_place(|| log.set(&valid.config.log)) {
                    tracing::error!(%error, "the log is not as it was before");
                }
                let path = path.to_owned();
                return Err(ApplyError::File { path, cause });
            }
        }
        let replaced = edited.and_then(|edited| keep_replaced(path, &edited));
        // Nobody says no from here on.
        data_dir.into_iter().for_each(Ready::keep);
        hub.set_settings(bus_settings(&config))
            .expect("checked with the configuration");
        hub.set_node(&config.node);
        alarms.set_node(&config.node);
        admin.set_idle(config.http.session_idle);
        if config.store != valid.config.store {
            hub.set_store_settings(store_settings(&config));
        }
        if keeps.set(&config) {
            alarms.write_soon();
            starts.save();
        }
        let rules = access.take(rules) || config.auth != valid.config.auth;
        if rules {
            hub.renew_rules();
        }
        let listener_changes = listeners.take(prepared, &config).await;
        bridges.set_rewriter(&listeners.rewriter());
        let bridge_changes = bridges.configure(wanted_bridges, &config.node).await;
        watchers.send_replace(Arc::clone(&config));
        tell_instead(alarms, None);
        let changes = valid.config.changes(&config);
        valid.config = config;
        valid.text.clone_from(&text);
        let goes_back = by == Cause::NotConfirmed;
        let back_to = valid.history.number_of(&text).filter(|_| goes_back).map(back_to);
        let told = back_to.into_iter();
        let told = told.chain(changes.iter().cloned()).collect();
        let is_kept = keep(&mut valid.history, &text, by, told);
        let last = valid.history.last().map(|entry| entry.number);
        valid.number = last.filter(|_| is_kept);
        tracing::info!(
            changes = changes.len(),
            rules,
            by = by.name(),
            "configuration taken"
        );
        Ok(Applied {
            number: valid.number,
            changes,
            listeners: listener_changes,
            bridges: bridge_changes,
            rules,
            warnings,
            confirm_until: None,
            replaced,
        })
    }
}
