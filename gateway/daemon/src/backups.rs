//! Backups: archives as those of `headgate export`, in the folder `backups` of the data folder, which are in no archive themselves.
//!
//! Always true: one is made, or taken back, at a time; a file stands under its name whole and checked, or not at all; those that were made by hand or came from
//! elsewhere are removed by nobody else, and there are no more than `backups.keep` of them; of those that the gateway makes by itself the newest stay.
//!
//! To take one back changes nothing while the gateway runs: all is made ready beside the data, and the next start puts it in its place. Until then it is told that
//! one waits: by an alarm, and by what needs a restart. A gateway that stops ends whatever is done with them, and nothing of that stays.

use crate::alarms::{Alarms, Severity, Trouble};
use crate::api::{SnapshotError, snapshot};
use crate::archive::{
    self, ArchiveError, Holds, Making, Manifest, Outward, Passphrase, Taking, is_sealed, look_at_header,
    look_into,
};
use crate::config::{Config, ConfigError, environment_variables};
use crate::incoming::{IncomingError, RESERVE, write_body};
use crate::live::Live;
use crate::sys::unix_time;
use bytes::Bytes;
use futures_util::Stream;
use headgate_auth::data_dir::{DataDir, LongWork, OnTheWay};
use headgate_bus::handle::Hub;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "backups";
/// How those begin that the gateway makes by itself.
const SCHEDULED: &str = "scheduled-";
const BY_HAND: &str = "backup-";
/// A file that comes, until it is whole.
const COMING: &str = ".headgate-upload-";
/// Characters of a name.
const LONGEST_NAME: usize = 128;
/// Bytes of a file that comes from elsewhere.
const MOST_BYTES: u64 = 4 << 30;
/// The alarm that stands while one waits for the next start.
const WAITS: &str = "restore_waits";
/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(5);
/// One that failed is tried again after this, or when the next is due.
const RETRY: Duration = Duration::from_secs(600);

/// All backups of this gateway. Clones share them.
#[derive(Clone)]
pub(crate) struct Backups(Arc<Inner>);

struct Inner {
    hub: Hub,
    live: Live,
    alarms: Alarms,
    data_dir: DataDir,
    /// The gateway stops.
    stop: CancellationToken,
    /// For one that makes or takes back,
    work: Arc<Semaphore>,
    /// and one that brings.
    coming: Arc<Semaphore>,
    /// The one that the next start takes.
    waits: Mutex<Option<(String, LongWork)>>,
}

/// One file.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Backup {
    pub name: String,
    pub bytes: u64,
    /// When it was made here or came here, in seconds since 1970.
    pub made_at: u64,
    /// Nothing can be read of it without its passphrase.
    pub encrypted: bool,
    /// The next start of the gateway takes it.
    pub waits: bool,
}

/// What the next start will take.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Prepared {
    /// Nothing has changed yet: it takes a restart.
    pub needs_restart: bool,
    /// The name of the gateway that the backup is of,
    pub node: String,
    /// and its version.
    pub gateway: String,
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// What its store holds.
    pub store: Option<Holds>,
    /// Users who may connect.
    pub users: usize,
    /// The file that gets the backup's configuration; `null`: the configuration stays as it is.
    pub configuration: Option<String>,
    /// What is put aside, into a folder `replaced-1` in the data folder.
    pub replaces: Vec<String>,
}

/// Who wants a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// An operator.
    Hand,
    /// `backups.every`.
    Schedule,
}

/// Why there is no backup, or nothing is done with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// No file may be called so.
    #[error(
        "`{0}` is no name for a backup: letters, digits, blanks and `.-_()`, {LONGEST_NAME} at most, and none of `.-_()` or a blank at the beginning"
    )]
    Name(String),
    /// There is none.
    #[error("there is no backup `{0}`")]
    Unknown(String),
    /// There is one.
    #[error("there is a backup `{0}` already: remove it first")]
    IsThere(String),
    /// There are enough.
    #[error("there are {0} backups, which is as many as are kept: remove one, or set `backups.keep`")]
    Full(usize),
    /// It would take what was made ready with it.
    #[error("`{0}` waits for the next start: withdraw it first")]
    Waits(String),
    /// Another one does.
    #[error("`{0}` does not wait for the next start: `{1}` does")]
    WaitsNot(String, String),
    /// Something is done with them that a restart would end.
    #[error("a backup is being made, taken back or received: try again when that is done")]
    Underway,
    /// One at a time.
    #[error("another backup is being made, taken back or received: try again when that is done")]
    Busy,
    /// They go with the data.
    #[error(transparent)]
    OnTheWay(#[from] OnTheWay),
    /// It did not come.
    #[error(transparent)]
    Incoming(#[from] IncomingError),
    /// It cannot be made or read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store was not copied.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The configuration in it cannot be.
    #[error(
        "the backup's configuration cannot be taken: {0}; without it (`configuration: false`) the one that is valid stays"
    )]
    Config(#[from] ConfigError),
    /// Something here is in the way of it.
    #[error(
        "with the backup's configuration the gateway would not start here: {0}; without it (`configuration: false`) the one that is valid stays"
    )]
    Obstacles(String),
    /// Nobody would find the gateway any more.
    #[error(
        "the backup's configuration has its data in {}, and this gateway in {}: without it (`configuration: false`) the one that is valid stays", .0.display(), .1.display()
    )]
    DataDir(PathBuf, PathBuf),
    /// A file or folder.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It ended in its middle.
    #[error("it was not done: {0}")]
    Lost(#[from] tokio::task::JoinError),
}

fn takes_place(name: &str) -> String {
    format!("the backup `{name}` takes the place of all data with the next start")
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |cause| BackupError::File { path, cause }
}

impl Backups {
    /// Those of a gateway. What came by half, and what was not made ready, is removed.
    pub(crate) fn new(
        hub: Hub,
        live: Live,
        alarms: Alarms,
        data_dir: &DataDir,
        stop: CancellationToken,
    ) -> Self {
        if let Err(error) = archive::forget_restoring(&data_dir.now()) {
            tracing::warn!(%error, "what an interrupted restore has left is not removed");
        }
        for entry in fs::read_dir(data_dir.join(FOLDER).now())
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(COMING) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // It may have come with a backup that was made while one waited.
        alarms.set(WAITS, None);
        Self(Arc::new(Inner {
            hub,
            live,
            alarms,
            data_dir: data_dir.clone(),
            stop,
            work: Arc::new(Semaphore::new(1)),
            coming: Arc::new(Semaphore::new(1)),
            waits: Mutex::default(),
        }))
    }

    fn folder(&self) -> PathBuf {
        self.0.data_dir.now().join(FOLDER)
    }

    /// The path of a name that leads nowhere else.
    fn path(&self, name: &str) -> Result<PathBuf, BackupError> {
        let is_in = |c: char| c.is_ascii_alphanumeric() || " .-_()".contains(c);
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        match begins && name.len() <= LONGEST_NAME && name.chars().all(is_in) {
            true => Ok(self.folder().join(name)),
            false => Err(BackupError::Name(name.to_owned())),
        }
    }

    fn existing(&self, name: &str) -> Result<PathBuf, BackupError> {
        let path = self.path(name)?;
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        match is_file {
            true => Ok(path),
            false => Err(BackupError::Unknown(name.to_owned())),
        }
    }

    /// Begins what only one does at a time, in a data folder that stays where it is.
    fn begin(&self) -> Result<(OwnedSemaphorePermit, LongWork), BackupError> {
        let one = Arc::clone(&self.0.work).try_acquire_owned();
        let one = one.map_err(|_| BackupError::Busy)?;
        Ok((one, self.0.data_dir.begin_long_work()?))
    }

    /// All, the newest first.
    pub(crate) fn list(&self) -> Result<Vec<Backup>, BackupError> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&folder))?,
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let names = names.filter(|name| self.existing(name).is_ok());
        // One may be gone again.
        let mut all: Vec<Backup> = names.filter_map(|name| self.row(name).ok()).collect();
        all.sort_by(|a, b| (b.made_at, &b.name).cmp(&(a.made_at, &a.name)));
        Ok(all)
    }

    fn row(&self, name: String) -> Result<Backup, BackupError> {
        let path = self.path(&name)?;
        let metadata = fs::metadata(&path).map_err(at(&path))?;
        let made_at = metadata.modified().ok();
        let made_at = made_at.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Backup {
            bytes: metadata.len(),
            made_at: made_at.unwrap_or_default().as_secs(),
            encrypted: is_sealed(&path)?,
            waits: self
                .0
                .waits
                .lock()
                .as_ref()
                .is_some_and(|(waits, _)| *waits == name),
            name,
        })
    }

    /// Whether there may be one more that was made by hand or comes from elsewhere.
    fn look_for_place(&self, keep: usize) -> Result<(), BackupError> {
        let all = self.list()?;
        let kept = all.iter().filter(|backup| !backup.name.starts_with(SCHEDULED));
        match kept.count() >= keep {
            true => Err(BackupError::Full(keep)),
            false => Ok(()),
        }
    }

    /// Makes one. It is made to the end although whoever asked has gone.
    pub(crate) async fn make(&self, passphrase: Option<Passphrase>, by: By) -> Result<Backup, BackupError> {
        let begun = self.begin()?;
        let this = self.clone();
        let made = tokio::spawn(async move {
            let made = this.make_now(passphrase, by).await;
            drop(begun);
            made
        });
        made.await?
    }

    async fn make_now(&self, passphrase: Option<Passphrase>, by: By) -> Result<Backup, BackupError> {
        let (config, (file, _)) = (self.0.live.config().await, self.0.live.file().await);
        let keep = config.backups.keep;
        if by == By::Hand {
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.look_for_place(keep)).await??;
        }
        let data_dir = self.0.data_dir.now().to_owned();
        let copy = snapshot(&data_dir, &self.0.hub).await?;
        let this = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            let making = Making {
                config: &config,
                config_file: Some(&*file).filter(|file| file.exists()),
                passphrase: passphrase.as_ref(),
                force: false,
                reserve: RESERVE,
                stop: &this.0.stop,
            };
            let made = this.write(&making, &copy, by);
            if let Err(error) = archive::forget_snapshot(&this.0.data_dir.now(), &copy.name) {
                tracing::warn!(%error, "a copy of the store is not removed");
            }
            let made = made?;
            if by == By::Schedule {
                this.remove_old(keep)?;
            }
            Ok::<_, BackupError>(made)
        });
        let made = made.await??;
        tracing::info!(
            name = made.name,
            bytes = made.bytes,
            encrypted = made.encrypted,
            "backup made"
        );
        Ok(made)
    }

    fn write(&self, making: &Making<'_>, copy: &archive::Snapshot, by: By) -> Result<Backup, BackupError> {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let name = self.free_name(by)?;
        making.of_running(&self.path(&name)?, copy)?;
        self.row(name)
    }

    /// `backup-2026-08-01-1.archive`
    fn free_name(&self, by: By) -> Result<String, BackupError> {
        let now = UNIX_EPOCH + Duration::from_secs(unix_time());
        let mut day = humantime::format_rfc3339_seconds(now).to_string();
        day.truncate("2026-08-01".len());
        let begin = match by {
            By::Hand => BY_HAND,
            By::Schedule => SCHEDULED,
        };
        let mut n = 1;
        loop {
            let name = format!("{begin}{day}-{n}.archive");
            if !self.path(&name)?.exists() {
                return Ok(name);
            }
            n += 1;
        }
    }

    /// Of those that were made by themselves.
    fn remove_old(&self, keep: usize) -> Result<(), BackupError> {
        let all = self.list()?.into_iter();
        let scheduled = all.filter(|backup| backup.name.starts_with(SCHEDULED) && !backup.waits);
        for old in scheduled.skip(keep) {
            self.remove(&old.name)?;
            tracing::info!(name = old.name, "an old backup was removed");
        }
        Ok(())
    }

    /// Removes one.
    pub(crate) fn remove(&self, name: &str) -> Result<(), BackupError> {
        let path = self.existing(name)?;
        // Held, so that none begins to wait meanwhile.
        let waits = self.0.waits.lock();
        if waits.as_ref().is_some_and(|(waits, _)| waits == name) {
            return Err(BackupError::Waits(name.to_owned()));
        }
        crate::private::remove(&path).map_err(at(&path))
    }

    /// One to be read, and its length.
    pub(crate) fn open(&self, name: &str) -> Result<(File, u64), BackupError> {
        let path = self.existing(name)?;
        let file = File::open(&path).map_err(at(&path))?;
        let bytes = file.metadata().map_err(at(&path))?.len();
        Ok((file, bytes))
    }

    /// Takes one from elsewhere, of which `told` bytes are told to come.
    pub(crate) async fn receive<E: Display>(
        &self,
        name: &str,
        told: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Backup, BackupError> {
        let coming = Arc::clone(&self.0.coming).try_acquire_owned();
        let _coming = coming.map_err(|_| BackupError::Busy)?;
        let _stays = self.0.data_dir.begin_long_work()?;
        let path = self.path(name)?;
        let keep = self.0.live.config().await.backups.keep;
        let folder = self.folder();
        let new = tokio::task::block_in_place(|| {
            if path.exists() {
                return Err(BackupError::IsThere(name.to_owned()));
            }
            self.look_for_place(keep)?;
            fs::create_dir_all(&folder).map_err(at(&folder))?;
            let new = tempfile::Builder::new().prefix(COMING).tempfile_in(&folder);
            new.map_err(at(&folder))
        })?;
        let file = new.reopen().map_err(at(&folder))?;
        write_body(&folder, file, told, MOST_BYTES, body).await?;
        tokio::task::block_in_place(|| {
            match is_sealed(new.path())? {
                true => look_at_header(new.path())?,
                false => drop(look_into(new.path(), None)?),
            }
            new.persist_noclobber(&path)
                .map_err(|error| match error.error.kind() {
                    io::ErrorKind::AlreadyExists => BackupError::IsThere(name.to_owned()),
                    _ => at(&path)(error.error),
                })?;
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(at(&folder))?;
            self.row(name.to_owned())
        })
    }

    /// Makes one ready for the next start. With `configuration` that of the backup takes the place of the one that is valid.
    pub(crate) async fn restore(
        &self,
        name: &str,
        passphrase: Option<Passphrase>,
        configuration: bool,
    ) -> Result<Prepared, BackupError> {
        let begun = self.begin()?;
        let path = self.existing(name)?;
        let (config, (file, _)) = (self.0.live.config().await, self.0.live.file().await);
        let (this, name) = (self.clone(), name.to_owned());
        let done = tokio::task::spawn_blocking(move || {
            this.withdraw()?;
            let prepared = this.prepare(
                &path,
                passphrase.as_ref(),
                &config,
                configuration.then_some(&*file),
            )?;
            this.let_wait(&name)?;
            tracing::warn!(
                name,
                "a backup takes the place of all data when the gateway is started next"
            );
            drop(begun);
            Ok(prepared)
        });
        done.await?
    }

    fn prepare(
        &self,
        path: &Path,
        passphrase: Option<&Passphrase>,
        config: &Config,
        file: Option<&Path>,
    ) -> Result<Prepared, BackupError> {
        let (manifest, text) = look_into(path, passphrase)?;
        let wanted = match file.zip(text.as_deref()) {
            Some((file, text)) => Some((file, text, self.configuration_of(text, config, &manifest)?)),
            None => None,
        };
        let mut valid = wanted
            .as_ref()
            .map_or_else(|| config.clone(), |(.., new)| new.clone());
        // Both mean the same folder, by whatever words.
        valid.data_dir = self.0.data_dir.now().to_owned();
        let taking = Taking {
            file: path,
            passphrase,
            config: &valid,
            new: wanted.as_ref().map(|(file, text, _)| (*file, *text)),
            force: true,
            rules: true,
            outside: Outward::AsNow(config),
            reserve: RESERVE,
            stop: &self.0.stop,
        };
        let manifest = taking.ready()?;
        Ok(Prepared {
            needs_restart: true,
            node: manifest.node,
            gateway: manifest.gateway,
            made_at: manifest.made,
            store: manifest.store,
            users: manifest.users,
            configuration: wanted.map(|(file, ..)| file.display().to_string()),
            replaces: archive::replaced_by_restore(&self.0.data_dir.now()),
        })
    }

    /// The configuration of a backup, if a gateway could be started with it here.
    fn configuration_of(
        &self,
        text: &str,
        valid: &Config,
        manifest: &Manifest,
    ) -> Result<Config, BackupError> {
        let config = Config::of_text(None, text.to_owned(), environment_variables())?;
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if absolute(&config.data_dir) != absolute(&valid.data_dir) {
            return Err(BackupError::DataDir(config.data_dir, valid.data_dir.clone()));
        }
        let brought: Vec<String> = archive::brought(manifest, &config)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let is_brought = |told: &str| brought.iter().any(|path| told.contains(path));
        let obstacles = config.obstacles().into_iter();
        let obstacles = obstacles.map(|fault| fault.to_string());
        let obstacles: Vec<String> = obstacles.filter(|told| !is_brought(told)).collect();
        match obstacles.is_empty() {
            true => Ok(config),
            false => Err(BackupError::Obstacles(obstacles.join("; "))),
        }
    }

    /// What was made ready waits from now on. It is known before it is so: what nobody knows of, nobody withdraws.
    fn let_wait(&self, name: &str) -> Result<(), BackupError> {
        let mut waits = self.0.waits.lock();
        *waits = Some((name.to_owned(), self.0.data_dir.begin_long_work()?));
        let trouble = Trouble::new(Severity::Warning, takes_place(name)).with("name", name);
        self.0.alarms.set(WAITS, Some(trouble));
        drop(waits);
        archive::wait_for_start(&self.0.data_dir.now())
            .map_err(BackupError::from)
            .inspect_err(|_| {
                if let Err(error) = self.withdraw() {
                    tracing::error!(name, %error, "a backup that is not ready may wait for the next start");
                }
            })
    }

    /// Nothing comes of what waits for the next start. Whether there was something.
    fn withdraw(&self) -> Result<bool, BackupError> {
        let was_there = archive::withdraw(&self.0.data_dir.now())?;
        *self.0.waits.lock() = None;
        self.0.alarms.set(WAITS, None);
        Ok(was_there)
    }

    /// The same with one, while nothing else is done with them.
    pub(crate) fn withdraw_now(&self, name: &str) -> Result<bool, BackupError> {
        self.path(name)?;
        let _begun = self.begin()?;
        let waits = self.waits();
        if let Some(waits) = waits.filter(|waits| waits != name) {
            return Err(BackupError::WaitsNot(name.to_owned(), waits));
        }
        self.withdraw()
    }

    /// The name of the one that the next start takes.
    fn waits(&self) -> Option<String> {
        let waits = self.0.waits.lock();
        waits.as_ref().map(|(name, _)| name.clone())
    }

    /// What of them needs a restart, in words.
    pub(crate) fn needs_restart(&self) -> Option<String> {
        self.waits().map(|name| takes_place(&name))
    }

    /// Nothing is done with them as long as this is held; an error, if something is being done.
    pub(crate) fn rest(&self) -> Result<[OwnedSemaphorePermit; 2], BackupError> {
        let one = |of: &Arc<Semaphore>| {
            let held = Arc::clone(of).try_acquire_owned();
            held.map_err(|_| BackupError::Underway)
        };
        Ok([one(&self.0.work)?, one(&self.0.coming)?])
    }

    /// Makes backups by `backups.every`, for ever.
    pub(crate) async fn keep(self) {
        let started = Instant::now();
        let mut last: Option<Duration> = None;
        let known = self.age_of_scheduled();
        let mut not_before = started;
        let mut told = None;
        loop {
            sleep(LOOK).await;
            let config = self.0.live.config().await;
            let every = config.backups.every;
            if every.is_zero() {
                self.tell(&mut told, None);
                continue;
            }
            let now = started.elapsed();
            let age = match last {
                Some(last) => Some(now.saturating_sub(last)),
                None => known.map(|known| known + now),
            };
            if age.is_some_and(|age| age < every) || Instant::now() < not_before {
                continue;
            }
            match self.make_scheduled(&config).await {
                Ok(_) => {
                    last = Some(started.elapsed());
                    self.tell(&mut told, None);
                }
                // Somebody makes one by hand, or the data go elsewhere.
                Err(BackupError::Busy | BackupError::OnTheWay(_)) => {}
                Err(error) => {
                    not_before = Instant::now() + RETRY.min(every);
                    tracing::warn!(%error, "the scheduled backup failed");
                    self.tell(&mut told, Some(error.to_string()));
                }
            }
        }
    }

    /// Raises the alarm, or says that it is over, if that was not told yet.
    fn tell(&self, told: &mut Option<Option<String>>, error: Option<String>) {
        if told.as_ref() == Some(&error) {
            return;
        }
        let summary = error
            .as_ref()
            .map(|error| format!("the scheduled backup failed: {error}"));
        let trouble = summary.map(|summary| Trouble::new(Severity::Warning, summary));
        self.0.alarms.set("backup_failed", trouble);
        *told = Some(error);
    }

    async fn make_scheduled(&self, config: &Config) -> Result<Backup, BackupError> {
        let passphrase = match &config.backups.passphrase_file {
            Some(file) => Some(tokio::task::block_in_place(|| {
                Passphrase::of_file(file)?.checked()
            })?),
            None => None,
        };
        self.make(passphrase, By::Schedule).await
    }

    /// How long ago the last was made by itself, before this start; one from the future was made just now.
    fn age_of_scheduled(&self) -> Option<Duration> {
        let all = tokio::task::block_in_place(|| self.list()).ok()?;
        let last = all
            .into_iter()
            .find(|backup| backup.name.starts_with(SCHEDULED))?;
        let made = UNIX_EPOCH + Duration::from_secs(last.made_at);
        Some(SystemTime::now().duration_since(made).unwrap_or_default())
    }
}
