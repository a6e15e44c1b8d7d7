//! Puts all that a gateway keeps into an archive, whether it runs or not: for `headgate export`, and for backups that a gateway makes by itself.

use super::pack::{Packing, Source, hold_snapshot, pack, sources, sources_of_running};
use super::{ACL, ArchiveError, CONFIGURATION, FORMAT, Holds, Manifest, Passphrase, USERS, unless_stopped};
use crate::config::{Config, Durability};
use crate::provisioning;
use crate::sys::unix_time;
use crate::whereabouts::is_below;
use headgate_auth::{Access, AuthSettings, Users};
use headgate_model::{Store, StoreError};
use headgate_store::{DiskSettings, DiskStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// How often it is tried again when a small file changed meanwhile.
const TRIES: u32 = 5;

/// What goes into an archive, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making<'a> {
    /// Where everything is.
    pub config: &'a Config,
    /// What the configuration stands in.
    pub config_file: Option<&'a Path>,
    /// The archive is encrypted.
    pub passphrase: Option<&'a Passphrase>,
    /// It is written over one that is there.
    pub force: bool,
    /// Bytes that stay free on its disk.
    pub reserve: u64,
    /// Whether it is to end early.
    pub stop: &'a CancellationToken,
}

/// A copy of the store of a gateway that runs: no more than links to its files.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Snapshot {
    /// On the gateway.
    pub folder: PathBuf,
    /// By which it is thrown away.
    pub name: String,
    /// Names and bytes.
    pub files: Vec<(String, u64)>,
    /// What is in them.
    pub holds: Holds,
}

impl Making<'_> {
    /// Of a gateway that does not run, and is [held](super::Hold).
    pub(crate) fn of_stopped(&self, file: &Path) -> Result<Manifest, ArchiveError> {
        let holds = holds(self.config)?;
        self.pack(file, holds, false, || sources(&self.config.data_dir))
    }

    /// Of one that runs, and has made this copy of its store.
    pub(crate) fn of_running(&self, file: &Path, snapshot: &Snapshot) -> Result<Manifest, ArchiveError> {
        let _held = hold_snapshot(&snapshot.folder)?;
        // A store that is in memory has no files, wherever it is to be.
        let holds = (!snapshot.files.is_empty()).then(|| snapshot.holds.clone());
        let mut tries = 1..=TRIES;
        loop {
            let done = self.pack(file, holds.clone(), true, || {
                let (data_dir, folder) = (&self.config.data_dir, &snapshot.folder);
                let found = sources_of_running(data_dir, folder, snapshot.files.clone())?;
                // The copy of the store is what goes first where the data have gone elsewhere.
                match folder.exists() && is_below(folder, data_dir) {
                    true => Ok(found),
                    false => Err(ArchiveError::Moved),
                }
            });
            // A small file was written anew just then.
            let was_changed = matches!(done, Err(ArchiveError::Changed(_)));
            if !was_changed || tries.next().is_none() {
                return unless_stopped(done, self.stop);
            }
        }
    }

    fn pack(
        &self,
        file: &Path,
        store: Option<Holds>,
        running: bool,
        data: impl FnOnce() -> Result<Vec<Source>, ArchiveError>,
    ) -> Result<Manifest, ArchiveError> {
        let config = self.config;
        if provisioning::is_half_done(&config.data_dir) {
            return Err(ArchiveError::HalfProvisioned(config.data_dir.clone()));
        }
        let users = Access::users_file(&config.auth, &config.data_dir);
        let mut manifest = Manifest {
            format: FORMAT,
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            node: config.node.clone(),
            made: unix_time(),
            store,
            running,
            users: Users::load(&users)?.names().count(),
            files: Vec::new(),
        };
        let mut sources = self.configuration();
        if !users.starts_with(&config.data_dir) && users.exists() {
            sources.push(source(USERS, &users));
        }
        sources.extend(data()?);
        let is_of_store = |source: &Source| source.name.starts_with("data/store/");
        if manifest.store.is_some() && !sources.iter().any(is_of_store) {
            return Err(ArchiveError::NoStore(config.data_dir.join("store")));
        }
        let how = Packing {
            force: self.force,
            passphrase: self.passphrase,
            reserve: self.reserve,
            stop: self.stop,
        };
        pack(file, &mut manifest, &sources, how)?;
        Ok(manifest)
    }

    /// The configuration and the files of rules that it names.
    fn configuration(&self) -> Vec<Source> {
        let file = self.config_file.map(|file| source(CONFIGURATION, file));
        let rules = acl_files(&self.config.auth).into_iter().enumerate();
        let rules = rules.map(|(n, file)| source(&format!("{ACL}{n}"), &file));
        let rules = rules.filter(|_| self.config_file.is_some());
        file.into_iter().chain(rules).collect()
    }
}

fn source(name: &str, path: &Path) -> Source {
    Source {
        name: name.to_owned(),
        path: path.to_owned(),
        bytes: None,
    }
}

/// Files of rules, in the order of the configuration.
pub(super) fn acl_files(auth: &AuthSettings) -> Vec<PathBuf> {
    let listeners = auth
        .listeners
        .iter()
        .filter_map(|listener| listener.acl_file.as_ref());
    let files = auth.acl_file.iter().chain(listeners);
    files.map(|file| file.path.clone()).collect()
}

/// What the store holds. Opening it repairs what a kill has left.
fn holds(config: &Config) -> Result<Option<Holds>, ArchiveError> {
    let path = config.data_dir.join("store");
    if config.store.durability == Durability::Memory || !path.is_dir() {
        return Ok(None);
    }
    holds_in(&path).map(Some)
}

/// What a store holds that nobody has open.
pub(super) fn holds_in(path: &Path) -> Result<Holds, ArchiveError> {
    let opened = DiskStore::open(path, DiskSettings::default());
    let told = |cause: StoreError| ArchiveError::Store {
        path: path.to_owned(),
        cause,
    };
    let mut store = opened.map_err(told)?;
    let image = store.load().map_err(told)?;
    Ok(Holds {
        sessions: image.sessions.len(),
        subscriptions: image.sessions.iter().map(|s| s.subscriptions.len()).sum(),
        queued: store.stats().queued,
        retained: image.retained.len(),
        delayed: image.delayed.len(),
        damage: image.damage,
    })
}
