//! `headgate export` and `headgate restore`: all data of a gateway in one file.

use super::config_for;
use super::error::CommandError;
use super::table::date;
use crate::archive::{self, ACL, ArchiveError, CONFIGURATION, Hold, Holds, Manifest, Source, USERS};
use crate::config::{Config, Durability};
use crate::control::ControlClient;
use crate::private;
use crate::sys::unix_time;
use clap::Args;
use headgate_auth::{Access, AuthSettings, Users};
use headgate_cli::{Outcome, note, runtime, say};
use headgate_model::{Store, StoreError};
use headgate_store::{DiskSettings, DiskStore};
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What both need of the configuration.
const NEEDED: [&str; 6] = [
    "data_dir",
    "node",
    "store.durability",
    "auth.users_file",
    "auth.acl_file",
    "auth.listeners",
];

/// Write all data of a gateway to one file, whether it runs or not: sessions with what waits for them, retained messages, users, bans, bridges, the configuration
/// and its history. Certificates and their keys are left out.
#[derive(Args)]
pub struct ExportCommand {
    /// The archive that is made, readable for its owner only.
    file: PathBuf,
    /// The configuration, which says where the data are.
    #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Write over a file that is there.
    #[arg(long)]
    force: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Take over all data of an archive of `headgate export`: everything or nothing.
#[derive(Args)]
pub struct RestoreCommand {
    /// The archive.
    file: PathBuf,
    /// The configuration, which says where the data go. If there is none of this name, that of the archive is put there.
    #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Put aside data that are there, into a folder `replaced-1` in the data folder.
    #[arg(long)]
    force: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// How often an export is tried again during which a small file changed.
const TRIES: u32 = 5;

/// What a gateway answers that has made a copy of its store.
#[derive(Deserialize)]
struct Snapshot {
    /// Names and lengths.
    files: Vec<(String, u64)>,
    holds: Holds,
}

impl ExportCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        private::make_files_private();
        let config = config_for(&NEEDED, self.config.as_deref())?;
        if !self.force && self.file.exists() {
            return Err(ArchiveError::IsThere(self.file).into());
        }
        match Hold::for_command(&config.data_dir) {
            Ok(_hold) => {
                let holds = holds(&config)?;
                self.pack(&config, holds, || archive::sources(&config.data_dir))
            }
            Err(ArchiveError::InUse(_)) => self.export_running(&config),
            Err(error) => Err(error.into()),
        }
    }

    /// While a gateway runs it makes a copy of its store, which costs no more than links to its files.
    fn export_running(&self, config: &Config) -> Outcome {
        let data_dir = &config.data_dir;
        let client = ControlClient::new(data_dir);
        let ask = |method| {
            runtime()?
                .block_on(client.ask(method, "/api/v1/snapshot", None))
                .map_err(CommandError::from)
        };
        let Snapshot { files, holds } = serde_json::from_value(ask(Method::POST)?)?;
        let store = (config.store.durability != Durability::Memory).then_some(holds);
        let mut tries = 1..=TRIES;
        let done = loop {
            let done = self.pack(config, store.clone(), || {
                archive::sources_of_running(data_dir, files.clone())
            });
            let was_changed = |error: &(dyn std::error::Error + 'static)| {
                matches!(error.downcast_ref(), Some(ArchiveError::Changed(_)))
            };
            // A small file was written anew just then.
            if !done.as_ref().is_err_and(|error| was_changed(&**error)) || tries.next().is_none() {
                break done;
            }
        };
        ask(Method::DELETE)?;
        done
    }

    /// Writes the archive, and tells of it.
    fn pack(
        &self,
        config: &Config,
        store: Option<Holds>,
        data: impl FnOnce() -> Result<Vec<Source>, ArchiveError>,
    ) -> Outcome {
        let users = Access::users_file(&config.auth, &config.data_dir);
        let mut manifest = Manifest {
            format: archive::FORMAT,
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            node: config.node.clone(),
            made: unix_time(),
            store,
            users: Users::load(&users)?.names().count(),
            files: Vec::new(),
        };
        let mut sources = self.configuration(&config.auth);
        if !users.starts_with(&config.data_dir) && users.exists() {
            sources.push(source(USERS, &users));
        }
        sources.extend(data()?);
        archive::pack(&self.file, &mut manifest, &sources, self.force)?;
        for damage in manifest.store.iter().flat_map(|store| &store.damage) {
            note(format!(
                "warning: part of the store could not be read, and is not in the archive: {damage}"
            ));
        }
        tell(&self.file, &manifest, self.json, "written", json!({}))
    }

    /// The configuration and the files of rules that it names.
    fn configuration(&self, auth: &AuthSettings) -> Vec<Source> {
        let file = self.config.iter().map(|file| source(CONFIGURATION, file));
        let rules = acl_files(auth).into_iter().enumerate();
        let rules = rules.map(|(n, file)| source(&format!("{ACL}{n}"), &file));
        file.chain(rules.filter(|_| self.config.is_some())).collect()
    }
}

impl RestoreCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        private::make_files_private();
        let (_, text) = archive::look_into(&self.file)?;
        let missing = self.config.as_deref().filter(|file| !file.exists());
        let new = missing.zip(text.as_deref());
        let config = match new {
            Some((_, text)) => config_of(text)?,
            None => config_for(&NEEDED, self.config.as_deref())?,
        };
        let data_dir = &config.data_dir;
        fs::create_dir_all(data_dir).map_err(|cause| ArchiveError::File {
            path: data_dir.clone(),
            cause,
        })?;
        let users = Access::users_file(&config.auth, data_dir);
        let users = (!users.starts_with(data_dir)).then_some(users);
        let _hold = Hold::for_command(data_dir)?;
        let folder = archive::prepare(data_dir, self.force)?;
        let unpacked = self.unpack(&folder, users.as_deref());
        let outside = unpacked.and_then(|manifest| {
            let outside = Outside::read(&folder)?;
            outside.make_folders(users.as_deref(), new.map(|(file, _)| file), &config.auth)?;
            Ok((manifest, outside))
        });
        let (manifest, outside) = match outside {
            Ok(unpacked) => unpacked,
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                return Err(error.into());
            }
        };
        let aside = archive::place(data_dir)?;
        // The data are in their place; what is left is outside the folder.
        outside.write(users.as_deref(), new, &config.auth)?;
        if let Some(aside) = &aside {
            note(format!("what was there is in {}", aside.display()));
        }
        match (new, &text, &self.config) {
            (Some((file, _)), ..) => note(format!("the configuration of the archive is {}", file.display())),
            (None, Some(_), Some(file)) => note(format!(
                "{} stays as it is; the configuration of the archive is the last one of `headgate config history`",
                file.display()
            )),
            _ => {}
        }
        let more = json!({
            "replaced": aside,
            "configuration": new.map(|(file, _)| file),
        });
        tell(&self.file, &manifest, self.json, "restored", more)
    }

    /// Everything that can fail, before anything is changed.
    fn unpack(&self, folder: &Path, users: Option<&Path>) -> Result<Manifest, ArchiveError> {
        let manifest = archive::unpack(&self.file, folder)?;
        if let Some(users) = users.filter(|users| !self.force && users.exists())
            && folder.join(USERS).exists()
        {
            return Err(ArchiveError::HasUsers(users.to_owned()));
        }
        let store = folder.join("data/store");
        if manifest.store.is_some() {
            let opened = DiskStore::open(&store, DiskSettings::default());
            let loaded = opened.and_then(|mut store| store.load().map(drop));
            loaded.map_err(|cause| ArchiveError::Store { path: store, cause })?;
        }
        Ok(manifest)
    }
}

/// What an archive holds that is not kept in the data folder.
struct Outside {
    users: Option<Vec<u8>>,
    rules: Vec<Vec<u8>>,
}

impl Outside {
    fn read(folder: &Path) -> Result<Self, ArchiveError> {
        let read = |name: &str| {
            let path = folder.join(name);
            match path.exists() {
                true => fs::read(&path)
                    .map(Some)
                    .map_err(|cause| ArchiveError::File { path, cause }),
                false => Ok(None),
            }
        };
        let mut rules = Vec::new();
        while let Some(file) = read(&format!("{ACL}{}", rules.len()))? {
            rules.push(file);
        }
        let users = read(USERS)?;
        Ok(Self { users, rules })
    }

    /// So that nothing is missing when all else is done.
    fn make_folders(
        &self,
        users: Option<&Path>,
        new: Option<&Path>,
        auth: &AuthSettings,
    ) -> Result<(), ArchiveError> {
        let users = users.filter(|_| self.users.is_some()).map(Path::to_owned);
        let rules = acl_files(auth).into_iter().filter(|_| new.is_some());
        let files = users.into_iter().chain(new.map(Path::to_owned)).chain(rules);
        for folder in files.filter_map(|file| Some(file.parent()?.to_owned())) {
            fs::create_dir_all(&folder).map_err(|cause| ArchiveError::File {
                path: folder.clone(),
                cause,
            })?;
        }
        Ok(())
    }

    /// Users go to where the configuration has them. A new configuration has its files of rules; those that are there stay.
    fn write(
        &self,
        users: Option<&Path>,
        new: Option<(&Path, &str)>,
        auth: &AuthSettings,
    ) -> Result<(), ArchiveError> {
        let write = |path: &Path, bytes: &[u8]| {
            private::replace(path, bytes).map_err(|cause| ArchiveError::File {
                path: path.to_owned(),
                cause,
            })
        };
        if let Some((path, users)) = users.zip(self.users.as_deref()) {
            write(path, users)?;
        }
        let Some((file, text)) = new else { return Ok(()) };
        for (path, rules) in acl_files(auth).iter().zip(&self.rules) {
            if !path.exists() {
                write(path, rules)?;
            }
        }
        write(file, text.as_bytes())
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
fn acl_files(auth: &AuthSettings) -> Vec<PathBuf> {
    let listeners = auth
        .listeners
        .iter()
        .filter_map(|listener| listener.acl_file.as_ref());
    let files = auth.acl_file.iter().chain(listeners);
    files.map(|file| file.path.clone()).collect()
}

/// The configuration that an archive brings.
fn config_of(text: &str) -> Result<Config, CommandError> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    Ok(config_for(&NEEDED, Some(file.path()))?)
}

/// What the store holds. Opening it repairs what a kill has left.
fn holds(config: &Config) -> Result<Option<Holds>, ArchiveError> {
    let path = config.data_dir.join("store");
    if config.store.durability == Durability::Memory || !path.is_dir() {
        return Ok(None);
    }
    let opened = DiskStore::open(&path, DiskSettings::default());
    let told = |cause: StoreError| ArchiveError::Store {
        path: path.clone(),
        cause,
    };
    let mut store = opened.map_err(told)?;
    let image = store.load().map_err(told)?;
    Ok(Some(Holds {
        sessions: image.sessions.len(),
        subscriptions: image.sessions.iter().map(|s| s.subscriptions.len()).sum(),
        queued: store.stats().queued,
        retained: image.retained.len(),
        delayed: image.delayed.len(),
        damage: image.damage,
    }))
}

fn tell(file: &Path, manifest: &Manifest, as_json: bool, done: &str, more: serde_json::Value) -> Outcome {
    let bytes = fs::metadata(file)?.len();
    if as_json {
        let mut answer = json!({
            "archive": file,
            "bytes": bytes,
            "format": manifest.format,
            "gateway": manifest.gateway,
            "node": manifest.node,
            "made": manifest.made,
            "store": manifest.store,
            "users": manifest.users,
            "files": manifest.files.len(),
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            answer[key] = value.clone();
        }
        say(answer);
        return Ok(());
    }
    let Manifest {
        gateway, node, users, ..
    } = manifest;
    let made = date(&json!(manifest.made)).unwrap_or_default();
    let held = manifest.store.clone().unwrap_or_default();
    let Holds {
        sessions,
        subscriptions,
        queued,
        retained,
        delayed,
        ..
    } = held;
    say(format!(
        "{done}: {} ({bytes} bytes), of {node}, headgate {gateway}, {made}",
        file.display()
    ));
    say(format!(
        "{sessions} sessions with {subscriptions} subscriptions and {queued} messages that wait, {retained} retained messages, {delayed} delayed messages, {users} users"
    ));
    Ok(())
}
