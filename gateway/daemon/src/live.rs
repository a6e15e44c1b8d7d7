//! The configuration that is valid, and how another one becomes it while the gateway runs.
//!
//! Always true: a configuration is taken whole or not at all; what could refuse it is asked first. The file and what is valid say the same when a change is
//! done. What was valid is kept ([`History`]).
//!
//! A change may have to be confirmed. Until then the configuration of before is beside the file, under [`BEFORE`]: when the time is over, or the gateway is
//! started anew meanwhile, it takes the file's place again. So a change that cuts off whoever made it, or that keeps the gateway from starting, undoes itself.

use crate::bridges::{BridgeError, Bridges, Change};
use crate::config::{self, Config, ConfigError, Startable, Told, environment_variables};
use crate::history::{Cause, Entry, History, HistoryError, LONGEST};
use crate::listeners::{ListenerChange, Listeners, ListenersError};
use crate::log::{LogError, LogHandle};
use crate::sys::unix_time;
use crate::{memory, private};
use headgate_auth::{Access, AclError};
use headgate_bus::BusSettings;
use headgate_bus::handle::Hub;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

/// What the name of the file is followed by for the configuration that an unconfirmed one has replaced.
const BEFORE: &str = ".before";

/// All that takes another configuration over. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Live(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// The configuration's file; `None` for a gateway that has none.
    path: Option<PathBuf>,
    valid: Mutex<Valid>,
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
    /// All who look at the configuration by themselves.
    pub valid: watch::Sender<Arc<Config>>,
}

struct Valid {
    config: Arc<Config>,
    history: History,
    unconfirmed: Option<Unconfirmed>,
}

/// A change that goes back by itself.
struct Unconfirmed {
    /// When, in seconds since 1970.
    until: u64,
    /// Ends the wait.
    confirmed: CancellationToken,
}

/// What came of a configuration that was taken.
#[derive(Debug, Serialize)]
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
    /// What changed and needs a restart.
    pub needs_restart: Vec<String>,
    /// What is probably not as it was meant.
    pub warnings: Vec<Told>,
    /// When it goes back by itself unless it is confirmed, in seconds since 1970.
    pub confirm_until: Option<u64>,
}

/// What would come of a configuration.
#[derive(Debug, Serialize)]
pub(crate) struct Preview {
    /// `key: old → new`.
    pub changes: Vec<String>,
    /// What of it needs a restart.
    pub needs_restart: Vec<String>,
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
    /// The rules cannot be.
    #[error("auth.{0}")]
    Rules(#[from] AclError),
    /// A listener cannot be.
    #[error(transparent)]
    Listeners(#[from] ListenersError),
    /// The log cannot be.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no such configuration.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// There is no file that could hold it.
    #[error("the gateway runs without a configuration: start it with `--config FILE`")]
    NoFile,
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

/// Before a start: a configuration that was not confirmed gives way to the one before it. Whether there was one.
pub(crate) fn undo_unconfirmed(path: &Path) -> io::Result<bool> {
    let before = before(path);
    match fs::read(&before) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        text => private::replace_foreign(path, &text?)?,
    }
    fs::remove_file(before)?;
    Ok(true)
}

fn before(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(BEFORE);
    name.into()
}

impl Live {
    /// What the gateway was started with. `text` stands in the file.
    pub(crate) fn new(parts: Parts, config: Arc<Config>, path: Option<&Path>, text: &str) -> Self {
        let mut history = History::load(&config.data_dir);
        if path.is_some()
            && let Err(error) = history.add(text, Cause::Start, Vec::new())
        {
            tracing::warn!(%error, "the configuration is not kept in the history");
        }
        Self(Arc::new(Inner {
            parts,
            path: path.map(Path::to_owned),
            valid: Mutex::new(Valid {
                config,
                history,
                unconfirmed: None,
            }),
        }))
    }

    /// The text of what is valid, as it was taken last.
    pub(crate) async fn text(&self) -> Result<String, ApplyError> {
        let valid = self.0.valid.lock().await;
        let last = valid.history.last().ok_or(ApplyError::NoFile)?;
        Ok(valid.history.text(last.number)?)
    }

    /// What is valid.
    pub(crate) async fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.valid.lock().await.config)
    }

    /// The file, and what stands there as it was taken last; `None` for a gateway that has none.
    pub(crate) async fn file(&self) -> Option<(PathBuf, String)> {
        let text = self.text().await.ok()?;
        Some((self.0.path.clone()?, text))
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

    /// Reads the file again.
    pub(crate) async fn reload(&self) -> Result<Applied, ApplyError> {
        let mut valid = self.0.valid.lock().await;
        let path = self.0.path.as_deref();
        let text = path.map_or_else(|| Ok(String::new()), config::text_of)?;
        self.change(&mut valid, text, Cause::Reload).await
    }

    /// What would come of this text. `name` is where it comes from, for what is told of it.
    pub(crate) async fn preview(&self, name: Option<&Path>, text: String) -> Result<Preview, ApplyError> {
        let valid = self.0.valid.lock().await;
        let Startable { config, warnings } = Config::read_to_start(name, text, environment_variables())?;
        Ok(Preview {
            changes: valid.config.changes(&config),
            needs_restart: valid.config.needs_restart(&config),
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
        // Faults are told of where it comes from.
        Config::read_to_start(name, text.clone(), environment_variables())?;
        let path = self.0.path.clone().ok_or(ApplyError::NoFile)?;
        let file = |cause| ApplyError::File {
            path: path.clone(),
            cause,
        };
        let old = config::text_of(&path)?;
        if confirm_in.is_some() && old != text {
            private::replace(&before(&path), old.as_bytes()).map_err(file)?;
        }
        let mut applied = match self.change(&mut valid, text.clone(), Cause::Apply).await {
            Ok(applied) => applied,
            Err(error) => {
                let _ = fs::remove_file(before(&path));
                return Err(error);
            }
        };
        if old != text
            && let Some(wait) = confirm_in
        {
            let until = unix_time() + wait.as_secs();
            applied.confirm_until = Some(until);
            let confirmed = CancellationToken::new();
            tokio::spawn(self.clone().wait_for(confirmed.clone(), wait));
            valid.unconfirmed = Some(Unconfirmed { until, confirmed });
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

    /// Goes back to an earlier configuration; without a number to the one before.
    pub(crate) async fn roll_back(&self, number: Option<u64>) -> Result<Applied, ApplyError> {
        let mut valid = self.0.valid.lock().await;
        let number = number.map_or_else(|| valid.history.before(), Ok)?;
        let text = valid.history.text(number)?;
        let applied = self.change(&mut valid, text, Cause::Rollback).await?;
        self.settle(&mut valid)?;
        Ok(applied)
    }

    /// Nothing waits any more.
    fn settle(&self, valid: &mut Valid) -> Result<(), ApplyError> {
        if let (Some(change), Some(path)) = (valid.unconfirmed.take(), &self.0.path) {
            change.confirmed.cancel();
            let path = before(path);
            fs::remove_file(&path).map_err(|cause| ApplyError::File { path, cause })?;
        }
        Ok(())
    }

    /// Goes back when the time is over.
    async fn wait_for(self, confirmed: CancellationToken, wait: Duration) {
        tokio::select! {
            () = confirmed.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let mut valid = self.0.valid.lock().await;
        let Some(path) = self.0.path.as_deref().filter(|_| !confirmed.is_cancelled()) else {
            return;
        };
        tracing::warn!("the configuration was not confirmed in time, and goes back");
        let text = match config::text_of(&before(path)) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "the configuration of before cannot be read, the new one stays");
                valid.unconfirmed = None;
                return;
            }
        };
        let gone_back = self.change(&mut valid, text, Cause::NotConfirmed).await;
        match gone_back.and_then(|_| self.settle(&mut valid)) {
            Ok(()) => tracing::warn!("the configuration of before is valid again"),
            Err(error) => tracing::error!(%error, "the configuration does not go back"),
        }
    }

    /// Takes another configuration, or tells why not and changes nothing.
    async fn change(&self, valid: &mut Valid, text: String, by: Cause) -> Result<Applied, ApplyError> {
        if text.len() > LONGEST {
            return Err(ApplyError::TooLong(text.len()));
        }
        let Parts {
            hub,
            access,
            bridges,
            listeners,
            log,
            valid: watchers,
        } = &self.0.parts;
        let path = self.0.path.as_deref();
        let read = Config::read_to_start(path, text.clone(), environment_variables())?;
        let Startable {
            config: new,
            warnings,
        } = read;
        let needs_restart = valid.config.needs_restart(&new);
        let config = Arc::new(new.with_fixed_of(&valid.config));
        // Whoever could say no is asked first.
        let wanted_bridges = config.checked_bridges()?;
        let rules = access.prepare(&config.auth)?;
        let prepared = listeners.prepare(&config).await?;
        // Destinations that go may write their last lines.
        if let Err(error) = tokio::task::block_in_place(|| log.set(&config.log)) {
            listeners.give_up(prepared).await;
            return Err(error.into());
        }
        if let Some(path) = path
            && by != Cause::Reload
        {
            let written = private::replace_foreign(path, text.as_bytes());
            if let Err(cause) = written {
                listeners.give_up(prepared).await;
                if let Err(error) = tokio::task::block_in_place(|| log.set(&valid.config.log)) {
                    tracing::error!(%error, "the log is not as it was before");
                }
                let path = path.to_owned();
                return Err(ApplyError::File { path, cause });
            }
        }
        // Nobody says no from here on.
        hub.set_settings(bus_settings(&config))
            .expect("checked with the configuration");
        if config.store.max_bytes != valid.config.store.max_bytes {
            hub.set_max_store_bytes(config.store.max_bytes);
        }
        let rules = access.take(rules) || config.auth != valid.config.auth;
        if rules {
            hub.renew_rules();
        }
        let listener_changes = listeners.take(prepared, &config).await;
        bridges.set_rewriter(&listeners.rewriter());
        let bridge_changes = bridges.configure(wanted_bridges).await;
        watchers.send_replace(Arc::clone(&config));
        let changes = valid.config.changes(&config);
        valid.config = config;
        if path.is_some()
            && let Err(error) = valid.history.add(&text, by, changes.clone())
        {
            tracing::warn!(%error, "the configuration is not kept in the history");
        }
        tracing::info!(changes = changes.len(), rules, ?by, "configuration taken");
        Ok(Applied {
            number: valid.history.last().map(|entry| entry.number),
            changes,
            listeners: listener_changes,
            bridges: bridge_changes,
            rules,
            needs_restart,
            warnings,
            confirm_until: None,
        })
    }
}
