//! `headgate export` and `headgate restore`: all data of a gateway in one file.

use super::error::CommandError;
use super::table::date;
use super::{config_for, config_to_change, data_dir};
use crate::api::{ControlClient, ControlError};
use crate::archive::{
    self, ArchiveError, Hold, Holds, Making, Manifest, Outward, Passphrase, Snapshot, Taking,
};
use crate::config::{Config, given_or_own, own_file};
use crate::owner::Acting;
use crate::private;
use clap::Args;
use headgate_cli::{Outcome, note, runtime, say, say_json};
use hyper::Method;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

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
    /// Encrypt it by the passphrase in the first line of this file: who has the archive has all secrets otherwise. `age -d` opens it, too.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
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
    /// What the archive is encrypted by: the first line of this file.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Let the archive's configuration have its data, users and rules written anywhere: data also into a folder with files of others, users and rules not only beside it and in the data folder. Whoever made the archive can write files then.
    #[arg(long)]
    outside: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// The passphrase in a file.
pub(super) fn passphrase_of(file: Option<&Path>) -> Result<Option<Passphrase>, ArchiveError> {
    file.map(Passphrase::of_file).transpose()
}

impl ExportCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        private::make_files_private();
        let passphrase = passphrase_of(self.passphrase_file.as_deref())?;
        let passphrase = passphrase.map(Passphrase::checked).transpose()?;
        if !self.force && self.file.exists() {
            return Err(ArchiveError::IsThere(self.file).into());
        }
        let (config, acting) = config_to_change(&NEEDED, self.config.as_deref(), data_dir)?;
        let config_file = given_or_own(self.config.as_deref())?;
        let making = Making {
            config: &config,
            config_file: config_file.as_deref(),
            passphrase: passphrase.as_ref(),
            force: self.force,
            reserve: 0,
            stop: &CancellationToken::new(),
        };
        let manifest = match Hold::take(&config.data_dir) {
            Ok(_hold) => making.of_stopped(&self.file)?,
            Err(ArchiveError::InUse(_)) => export_running(&self.file, &making)?,
            Err(error) => return Err(error.into()),
        };
        drop(acting);
        for damage in manifest.store.iter().flat_map(|store| &store.damage) {
            note(format!(
                "warning: part of the store could not be read, and is not in the archive: {damage}"
            ));
        }
        tell(&self.file, &manifest, self.json, "written", json!({}))
    }
}

/// While a gateway runs it makes a copy of its store, which costs no more than links to its files.
fn export_running(file: &Path, making: &Making<'_>) -> Result<Manifest, CommandError> {
    let client = ControlClient::new(&making.config.data_dir);
    let ask = |method, path: &str| {
        runtime()?
            .block_on(client.ask(method, path, None))
            .map_err(CommandError::from)
    };
    let made = serde_json::from_value(ask(Method::POST, "/api/v1/snapshot")?);
    let snapshot: Snapshot = made.map_err(|error| ControlError::Answer(error.to_string()))?;
    let done = making.of_running(file, &snapshot);
    ask(
        Method::DELETE,
        &format!("/api/v1/snapshot?name={}", snapshot.name),
    )?;
    Ok(done?)
}

impl RestoreCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        private::make_files_private();
        let passphrase = passphrase_of(self.passphrase_file.as_deref())?;
        let (_, text) = archive::look_into(&self.file, passphrase.as_ref())?;
        let file = self.config_file(text.as_deref())?;
        let missing = file.as_deref().filter(|file| !file.exists());
        let new = missing.zip(text.as_deref());
        let mut acting = Acting::default();
        if let Some(file) = &file {
            acting.as_author_of(file)?;
        }
        let config = match new {
            Some((_, text)) => config_of(text)?,
            None => config_for(&NEEDED, self.config.as_deref())?,
        };
        let data_dir = &config.data_dir;
        if new.is_some() && !self.outside && archive::is_foreign(data_dir) {
            return Err(ArchiveError::Chosen(data_dir.clone()).into());
        }
        acting.as_owner_of(data_dir)?;
        let files = archive::files_outside(&config);
        files.iter().try_for_each(|file| acting.may_write(file))?;
        fs::create_dir_all(data_dir).map_err(|cause| ArchiveError::File {
            path: data_dir.clone(),
            cause,
        })?;
        let hold = Hold::take(data_dir)?;
        let taking = Taking {
            file: &self.file,
            passphrase: passphrase.as_ref(),
            config: &config,
            new,
            force: self.force,
            rules: false,
            outside: if self.outside {
                Outward::Anywhere
            } else {
                Outward::Nowhere
            },
            reserve: 0,
            stop: &CancellationToken::new(),
        };
        let manifest = taking.ready()?;
        let aside = archive::place(data_dir)?;
        drop((hold, acting));
        if let Some(aside) = &aside {
            note(format!("what was there is in {}", aside.display()));
        }
        match (new, &text, &file) {
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

    /// Where the configuration is, or that of the archive goes: without a file that is named, into the data folder, if the archive means the same one.
    fn config_file(&self, text: Option<&str>) -> Result<Option<PathBuf>, CommandError> {
        if self.config.is_some() {
            return Ok(self.config.clone());
        }
        let own = own_file()?;
        let wanted = text.filter(|_| !own.exists()).map(config_of).transpose()?;
        let is_meant = wanted.is_none_or(|wanted| own.parent() == Some(&wanted.data_dir));
        Ok(Some(own).filter(|_| is_meant))
    }
}

/// The configuration that an archive brings.
fn config_of(text: &str) -> Result<Config, CommandError> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    Ok(config_for(&NEEDED, Some(file.path()))?)
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
