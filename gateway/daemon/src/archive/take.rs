//! Takes an archive over, as far as that changes nothing yet: all of it is unpacked beside the data, checked, and on the disk. What is left is to
//! [put it in its place](super::place), at once or with the next start.

use super::make::{acl_files, holds_in};
use super::place::{Outside, prepare};
use super::unpack::unpack;
use super::{ACL, ArchiveError, DATA, Holds, Manifest, Passphrase, USERS, at};
use crate::config::Config;
use crate::memory;
use headgate_auth::{Access, Users};
use std::fs;
use std::path::{Component, Path, PathBuf};

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
        let mut outside = Outside::default();
        let unpacked = self.unpack(&folder, users.as_deref()).and_then(|manifest| {
            self.stage(&folder, users.as_deref(), &mut outside)?;
            outside.note(data_dir)?;
            Ok(manifest)
        });
        if unpacked.is_err() {
            outside.give_up();
            let _ = fs::remove_dir_all(&folder);
        }
        unpacked
    }

    fn unpack(&self, folder: &Path, users: Option<&Path>) -> Result<Manifest, ArchiveError> {
        let mut manifest = unpack(self.file, self.passphrase, folder)?;
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
        if is_too_large_to_open(&manifest) {
            manifest.store = Some(told);
            return Ok(manifest);
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

    /// Writes what belongs elsewhere beside its place. Users go to where the configuration has them. A new configuration has its files of rules.
    fn stage(&self, folder: &Path, users: Option<&Path>, outside: &mut Outside) -> Result<(), ArchiveError> {
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
            let wanted = self.rules || !path.exists();
            if let Some(rules) = read(&format!("{ACL}{n}"))?.filter(|_| wanted) {
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
fn files_outside(config: &Config) -> Vec<PathBuf> {
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
