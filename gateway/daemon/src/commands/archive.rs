//! `headgate export` and `headgate restore`: all data of a gateway in one file.

use super::config_for;
use super::error::CommandError;
use super::table::date;
use crate::api::ControlClient;
use crate::archive::{self, ACL, ArchiveError, CONFIGURATION, Hold, Holds, Manifest, Outside, Source, USERS};
use crate::config::{Config, Durability};
use crate::private;
use crate::sys::unix_time;
use clap::Args;
use headgate_auth::{Access, AuthSettings, Users};
use headgate_cli::{Outcome, note, runtime, say, say_json};
use headgate_model::{Store, StoreError};
use headgate_store::{DiskSettings, DiskStore};
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

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
    /// Let the archive's configuration have its users and rules written anywhere, not only beside it and in the data folder. Whoever made the archive can write files then.
    #[arg(long)]
    outside: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// How often an export is tried again during which a small file changed.
const TRIES: u32 = 5;

/// What a gateway answers that has made a copy of its store.
#[derive(Deserialize)]
struct Snapshot {
    /// Where it is, and what it is called.
    folder: PathBuf,
    name: String,
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
                self.pack(&config, holds, false, || archive::sources(&config.data_dir))
            }
            Err(ArchiveError::InUse(_)) => self.export_running(&config),
            Err(error) => Err(error.into()),
        }
    }

    /// While a gateway runs it makes a copy of its store, which costs no more than links to its files.
    fn export_running(&self, config: &Config) -> Outcome {
        let data_dir = &config.data_dir;
        let client = ControlClient::new(data_dir);
        let ask = |method, path: &str| {
            runtime()?
                .block_on(client.ask(method, path, None))
                .map_err(CommandError::from)
        };
        let made = ask(Method::POST, "/api/v1/snapshot")?;
        let Snapshot {
            folder,
            name,
            files,
            holds,
        } = serde_json::from_value(made)?;
        let _held = archive::hold_snapshot(&folder)?;
        let store = (config.store.durability != Durability::Memory).then_some(holds);
        let mut tries = 1..=TRIES;
        let done = loop {
            let done = self.pack(config, store.clone(), true, || {
                archive::sources_of_running(data_dir, &folder, files.clone())
            });
            let was_changed = |error: &(dyn std::error::Error + 'static)| {
                matches!(error.downcast_ref(), Some(ArchiveError::Changed(_)))
            };
            // A small file was written anew just then.
            if !done.as_ref().is_err_and(|error| was_changed(&**error)) || tries.next().is_none() {
                break done;
            }
        };
        ask(Method::DELETE, &format!("/api/v1/snapshot?name={name}"))?;
        done
    }

    /// Writes the archive, and tells of it.
    fn pack(
        &self,
        config: &Config,
        store: Option<Holds>,
        running: bool,
        data: impl FnOnce() -> Result<Vec<Source>, ArchiveError>,
    ) -> Outcome {
        let users = Access::users_file(&config.auth, &config.data_dir);
        let mut manifest = Manifest {
            format: archive::FORMAT,
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            node: config.node.clone(),
            made: unix_time(),
            store,
            running,
            users: Users::load(&users)?.names().count(),
            files: Vec::new(),
        };
        let mut sources = self.configuration(&config.auth);
        if !users.starts_with(&config.data_dir) && users.exists() {
            sources.push(source(USERS, &users));
        }
        sources.extend(data()?);
        let is_of_store = |source: &Source| source.name.starts_with("data/store/");
        if manifest.store.is_some() && !sources.iter().any(is_of_store) {
            return Err(ArchiveError::NoStore(config.data_dir.join("store")).into());
        }
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
        let mut outside = Outside::default();
        let unpacked = self.unpack(&folder, users.as_deref()).and_then(|manifest| {
            self.stage(&folder, users.as_deref(), new, &config, &mut outside)?;
            outside.note(data_dir)?;
            Ok(manifest)
        });
        let manifest = match unpacked {
            Ok(manifest) => manifest,
            Err(error) => {
                outside.give_up();
                let _ = fs::remove_dir_all(&folder);
                return Err(error.into());
            }
        };
        let aside = archive::place(data_dir)?;
        private::give_to_owner(data_dir)?;
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

    /// Everything that can fail, before anything is changed. The manifest says what the store really holds.
    fn unpack(&self, folder: &Path, users: Option<&Path>) -> Result<Manifest, ArchiveError> {
        let mut manifest = archive::unpack(&self.file, folder)?;
        if let Some(users) = users.filter(|users| !self.force && users.exists())
            && folder.join(USERS).exists()
        {
            return Err(ArchiveError::HasUsers(users.to_owned()));
        }
        for name in [USERS, "data/users.json"] {
            let path = folder.join(name);
            if path.exists() && Users::load(&path).is_err() {
                return Err(ArchiveError::Damaged(name.to_owned()));
            }
        }
        let Some(told) = manifest.store.take() else {
            return Ok(manifest);
        };
        let store = folder.join("data/store");
        if !store.is_dir() {
            return Err(ArchiveError::Missing("data/store".to_owned()));
        }
        let found = holds_in(&store)?;
        let counts = |holds: &Holds| Holds {
            damage: Vec::new(),
            ..holds.clone()
        };
        if !manifest.running && counts(&found) != counts(&told) {
            return Err(ArchiveError::Damaged("data/store".to_owned()));
        }
        manifest.store = Some(found);
        Ok(manifest)
    }

    /// Writes what belongs elsewhere beside its place. Users go to where the configuration has them. A new configuration has its files of rules; those that are there stay.
    fn stage(
        &self,
        folder: &Path,
        users: Option<&Path>,
        new: Option<(&Path, &str)>,
        config: &Config,
        outside: &mut Outside,
    ) -> Result<(), ArchiveError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = path.exists().then(|| fs::read(&path)).transpose();
            bytes.map_err(|cause| ArchiveError::File { path, cause })
        };
        let may_be_written = |path: &Path| {
            // What the operator's own configuration says is meant so.
            let Some((file, _)) = new.filter(|_| !self.outside) else {
                return Ok(());
            };
            let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let homes = [beside.unwrap_or(Path::new(".")), &config.data_dir];
            match homes.iter().any(|home| is_below(path, home)) {
                true => Ok(()),
                false => Err(ArchiveError::Outside(path.to_owned())),
            }
        };
        if let Some((path, bytes)) = users.zip(read(USERS)?) {
            may_be_written(path)?;
            outside.write(path, &bytes)?;
        }
        let Some((file, text)) = new else { return Ok(()) };
        for (n, path) in acl_files(&config.auth).iter().enumerate() {
            if let Some(rules) = read(&format!("{ACL}{n}"))?.filter(|_| !path.exists()) {
                may_be_written(path)?;
                outside.write(path, &rules)?;
            }
        }
        outside.write(file, text.as_bytes())
    }
}

/// Whether a path leads to somewhere below a folder, by its words alone.
fn is_below(path: &Path, folder: &Path) -> bool {
    let (Ok(path), Ok(folder)) = (std::path::absolute(path), std::path::absolute(folder)) else {
        return false;
    };
    let is_plain = !path.components().any(|part| part == Component::ParentDir);
    is_plain && path.starts_with(folder)
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
    let holds = holds_in(&path)?;
    // Whoever runs this may be root, and the gateway not.
    private::give_to_owner(&config.data_dir).map_err(|cause| ArchiveError::File {
        path: config.data_dir.clone(),
        cause,
    })?;
    Ok(Some(holds))
}

fn holds_in(path: &Path) -> Result<Holds, ArchiveError> {
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
        say_json(answer);
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
