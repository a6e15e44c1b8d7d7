//! Takes an archive over, as far as that changes nothing yet: all of it is unpacked beside the data, checked, and on the disk. What is left is to
//! [put it in its place](super::place), at once or with the next start.

use super::make::{acl_files, holds_in};
use super::place::{Outside, forget_restoring, leave_out_audit, prepare};
use super::unpack::{Unpacking, unpack};
use super::{ACL, ArchiveError, DATA, Holds, Manifest, Passphrase, USERS, at, unless_stopped};
use crate::config::{Config, Durability};
use crate::memory;
use crate::private::ours;
use headgate_admin::Admin;
use headgate_auth::Access;
use std::fs;
use std::path::{Component, Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// What is taken over, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taking<'a> {
    /// The archive.
    pub file: &'a Path,
    /// What it is encrypted by.
    pub passphrase: Option<&'a Passphrase>,
    /// The configuration that is valid behind it.
    pub config: &'a Config,
    /// Its file, and the archive's text for it; `None`: it stays as it is.
    pub new: Option<(&'a Path, &'a str)>,
    /// There may be data, which are put aside.
    pub force: bool,
    /// Files of rules that are there are replaced, too.
    pub rules: bool,
    /// What a new configuration may have written outside its own folder and the data folder.
    pub outside: Outward<'a>,
    /// Bytes that stay free on the disk.
    pub reserve: u64,
    /// Whether it is to end early.
    pub stop: &'a CancellationToken,
}

/// Where files may be written that a configuration of somebody else names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outward<'a> {
    /// Anywhere.
    Anywhere,
    /// Where the configuration that is valid now has its own.
    AsNow(&'a Config),
    /// Nowhere else.
    Nowhere,
}

impl Taking<'_> {
    /// Everything that can fail. The manifest says what the store really holds. If it fails, nothing is left of it.
    pub(crate) fn ready(&self) -> Result<Manifest, ArchiveError> {
        let data_dir = &self.config.data_dir;
        let users = Access::users_file(&self.config.auth, data_dir);
        let users = (!users.starts_with(data_dir)).then_some(users);
        let folder = prepare(data_dir, self.force)?;
        let ready = self.unpack(&folder, users.as_deref()).and_then(|manifest| {
            self.look_at(&folder, users.as_deref())?;
            self.stage(&folder, users.as_deref())?;
            match self.stop.is_cancelled() {
                true => Err(ArchiveError::Stopped),
                false => Ok(manifest),
            }
        });
        if ready.is_err() {
            // What cannot be removed now goes with the next restore, or the next start.
            let _ = forget_restoring(data_dir);
        }
        unless_stopped(ready, self.stop)
    }

    fn unpack(&self, folder: &Path, users: Option<&Path>) -> Result<Manifest, ArchiveError> {
        let how = Unpacking {
            file: self.file,
            passphrase: self.passphrase,
            reserve: self.reserve,
            stop: self.stop,
        };
        let mut manifest = unpack(how, folder)?;
        leave_out_audit(&self.config.data_dir, folder)?;
        if let Some(users) = users.filter(|users| !self.force && users.exists())
            && folder.join(USERS).exists()
        {
            return Err(ArchiveError::HasUsers(users.to_owned()));
        }
        let told = manifest.store.take();
        let store = folder.join("data/store");
        if told.is_some() && !store.is_dir() {
            return Err(ArchiveError::Missing("data/store".to_owned()));
        }
        let is_opened = told.is_some() || self.config.store.durability != Durability::Memory;
        if !is_opened || !store.is_dir() || is_too_large_to_open(&manifest) {
            manifest.store = told;
            return Ok(manifest);
        }
        let found = holds_in(&store).map_err(|error| self.unfit(folder, &error.to_string()))?;
        let counts = |holds: &Holds| Holds {
            damage: Vec::new(),
            ..holds.clone()
        };
        if let Some(told) = told
            && !manifest.running
            && counts(&found) != counts(&told)
        {
            return Err(ArchiveError::Damaged("data/store".to_owned()));
        }
        manifest.store = Some(found);
        Ok(manifest)
    }

    /// Reads what the next start will read, by the code that it is read with then.
    fn look_at(&self, folder: &Path, users: Option<&Path>) -> Result<(), ArchiveError> {
        let data = folder.join(DATA);
        fs::create_dir_all(&data).map_err(at(&data))?;
        let config = self.config.with_files(&|path| self.unpacked(folder, users, path));
        // Rules are looked at with all other files that the configuration names.
        let mut auth = config.auth.clone();
        auth.acl_file = None;
        auth.listeners
            .iter_mut()
            .for_each(|listener| listener.acl_file = None);
        let unpacked = folder.display().to_string();
        Access::load(&auth, &data).map_err(|error| self.unfit(folder, &error.to_string()))?;
        let looked = Admin::load(&data, config.http.session_idle);
        // The code of a gateway without an administrator is made here, too.
        let _ = fs::remove_file(data.join("setup-code"));
        looked.map_err(|error| self.unfit(folder, &error.to_string()))?;
        // What else is in the way is not the archive's fault.
        let faults = config.obstacles().into_iter().map(|fault| fault.to_string());
        let faults: Vec<String> = faults.filter(|told| told.contains(&unpacked)).collect();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(self.unfit(folder, &faults.join("; "))),
        }
    }

    /// In the words of what reads it, with the places that files would have.
    fn unfit(&self, folder: &Path, told: &str) -> ArchiveError {
        let data = folder.join(DATA).display().to_string();
        let told = told.replace(&data, &self.config.data_dir.display().to_string());
        ArchiveError::Unfit(told.replace(&format!("{}/", folder.display()), ""))
    }

    /// Where a file is now that will be at `path`; `None`: it is there, and stays.
    fn unpacked(&self, folder: &Path, users: Option<&Path>, path: &Path) -> Option<PathBuf> {
        let in_archive = |name: &str| Some(folder.join(name)).filter(|file| file.exists());
        if users == Some(path) {
            return in_archive(USERS);
        }
        let rules = acl_files(&self.config.auth);
        if let Some(n) = rules.iter().position(|rules| rules == path)
            && self.brings_rules(path)
            && let Some(rules) = in_archive(&format!("{ACL}{n}"))
        {
            return Some(rules);
        }
        let absolute = |path: &Path| std::path::absolute(path).ok();
        let inside = absolute(path)?;
        let inside = inside.strip_prefix(absolute(&self.config.data_dir)?).ok()?;
        let first = inside.components().next()?.as_os_str().to_str()?;
        // The rest of the data folder stays.
        ours()
            .any(|ours| ours == first)
            .then(|| folder.join(DATA).join(inside))
    }

    /// Whether rules of the archive are written there, if it has some.
    fn brings_rules(&self, path: &Path) -> bool {
        self.new.is_some() && (self.rules || !path.exists())
    }

    /// Writes what belongs elsewhere beside its place. Users go to where the configuration has them. A new configuration has its files of rules.
    fn stage(&self, folder: &Path, users: Option<&Path>) -> Result<(), ArchiveError> {
        let mut outside = Outside::new(&self.config.data_dir);
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = path.exists().then(|| fs::read(&path)).transpose();
            bytes.map_err(at(&path))
        };
        if let Some((path, bytes)) = users.zip(read(USERS)?) {
            self.may_be_written(path)?;
            outside.write(path, &bytes)?;
        }
        let Some((file, text)) = self.new else {
            return Ok(());
        };
        for (n, path) in acl_files(&self.config.auth).iter().enumerate() {
            if let Some(rules) = read(&format!("{ACL}{n}"))?.filter(|_| self.brings_rules(path)) {
                self.may_be_written(path)?;
                outside.write(path, &rules)?;
            }
        }
        outside.write(file, text.as_bytes())
    }

    fn may_be_written(&self, path: &Path) -> Result<(), ArchiveError> {
        // What the operator's own configuration says is meant so.
        let Some((file, _)) = self.new else { return Ok(()) };
        let known = match self.outside {
            Outward::Anywhere => return Ok(()),
            Outward::Nowhere => Vec::new(),
            Outward::AsNow(config) => files_outside(config),
        };
        let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let homes = [beside.unwrap_or(Path::new(".")), &self.config.data_dir];
        let is_known = known.iter().any(|known| known == path);
        match is_known || homes.iter().any(|home| is_below(path, home)) {
            true => Ok(()),
            false => Err(ArchiveError::Outside(path.to_owned())),
        }
    }
}

/// Files of users and rules that a configuration names.
pub(crate) fn files_outside(config: &Config) -> Vec<PathBuf> {
    let mut files = acl_files(&config.auth);
    files.push(Access::users_file(&config.auth, &config.data_dir));
    files
}

/// Where the files of an archive will be, with this configuration.
pub(crate) fn brought(manifest: &Manifest, config: &Config) -> Vec<PathBuf> {
    let rules = acl_files(&config.auth);
    let place = |name: &str| match name.split_once('/') {
        _ if name == USERS => Some(Access::users_file(&config.auth, &config.data_dir)),
        Some((DATA, inside)) => Some(config.data_dir.join(inside)),
        _ => rules.get(name.strip_prefix(ACL)?.parse::<usize>().ok()?).cloned(),
    };
    let names = manifest.files.iter().map(|file| file.path.as_str());
    names.filter_map(place).collect()
}

/// A store that is opened takes memory, which a gateway that runs may need for itself. What is not opened has the sums that the manifest says all the same.
fn is_too_large_to_open(manifest: &Manifest) -> bool {
    let store = manifest
        .files
        .iter()
        .filter(|file| file.path.starts_with("data/store/"));
    let bytes: u64 = store.map(|file| file.bytes).fold(0, u64::saturating_add);
    let most = memory::of_the_machine().map_or(u64::MAX, |bytes| bytes as u64 / 4);
    bytes > most
}

/// Whether a path leads to somewhere below a folder, by its words alone.
fn is_below(path: &Path, folder: &Path) -> bool {
    let (Ok(path), Ok(folder)) = (std::path::absolute(path), std::path::absolute(folder)) else {
        return false;
    };
    let is_plain = !path.components().any(|part| part == Component::ParentDir);
    is_plain && path.starts_with(folder)
}
