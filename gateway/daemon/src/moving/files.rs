//! What the gateway keeps in its data folder beside the store, copied to another folder.
//!
//! The first [pass](Copy::pass) copies all of it, while everybody reads and writes. Each next one copies what has changed since. The last is made while nobody
//! writes, and has little to do.

use crate::private;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Two changes of a file within this time may look like one.
const TICK: Duration = Duration::from_secs(1);
/// What is in the names of damaged parts of a store.
const SET_ASIDE: [&str; 2] = [".damaged-", ".unreadable-"];
/// Bytes after which it is looked whether the copy is still wanted.
const PIECE: usize = 1 << 20;

/// A copy that is being made.
#[derive(Debug)]
pub(super) struct Copy {
    from: PathBuf,
    to: PathBuf,
    /// Files as they were when they were copied, by their paths in the folder.
    known: HashMap<PathBuf, Version>,
    /// Bytes that this pass may still copy.
    left: u64,
}

/// What tells one version of a file from the next, if it was not changed just before.
type Version = (u64, u64, i64, i64, SystemTime);

fn version(found: &Metadata) -> Version {
    let changed = (found.ctime(), found.ctime_nsec());
    (found.ino(), found.len(), changed.0, changed.1, SystemTime::now())
}

fn is_same(then: &Version, now: &Version) -> bool {
    let changed = SystemTime::UNIX_EPOCH + Duration::new(then.2.unsigned_abs(), then.3 as u32);
    let is_settled = then.4.duration_since(changed).is_ok_and(|since| since > TICK);
    is_settled && (then.0, then.1, then.2, then.3) == (now.0, now.1, now.2, now.3)
}

impl Copy {
    pub(super) fn new(from: &Path, to: &Path) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            known: HashMap::new(),
            left: 0,
        }
    }

    /// Copies what is new, and removes what is gone. All of it is on the disk when this returns. Bytes that were copied. More than `most` are an error.
    pub(super) fn pass(&mut self, is_wanted: &AtomicBool, most: u64) -> io::Result<u64> {
        self.left = most;
        for name in private::kept_beside_store() {
            self.copy(Path::new(name), is_wanted)?;
        }
        File::open(&self.to)?.sync_all()?;
        Ok(most - self.left)
    }

    fn copy(&mut self, name: &Path, is_wanted: &AtomicBool) -> io::Result<()> {
        let (from, to) = (self.from.join(name), self.to.join(name));
        let found = match fs::symlink_metadata(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return remove(&to);
            }
            found => found?,
        };
        if found.is_dir() {
            return self.copy_folder(name, is_wanted);
        }
        if found.is_symlink() {
            // It may lead on from where it is.
            let leads_to = fs::canonicalize(&from).or_else(|_| fs::read_link(&from))?;
            remove(&to)?;
            return symlink(leads_to, &to);
        }
        if !found.is_file() {
            return Ok(());
        }
        let now = version(&found);
        let is_known = self.known.get(name).is_some_and(|then| is_same(then, &now));
        let is_there = || fs::symlink_metadata(&to).is_ok_and(|copy| copy.len() == found.len());
        if is_known && is_there() {
            return Ok(());
        }
        self.known.remove(name);
        self.left = self.left.checked_sub(found.len()).ok_or_else(|| {
            io::Error::other(format!("{} is large, and changes all the time", from.display()))
        })?;
        copy_file(&from, &to, is_wanted)?;
        self.known.insert(name.to_owned(), now);
        Ok(())
    }

    fn copy_folder(&mut self, name: &Path, is_wanted: &AtomicBool) -> io::Result<()> {
        let (from, to) = (self.from.join(name), self.to.join(name));
        if !fs::symlink_metadata(&to).is_ok_and(|there| there.is_dir()) {
            remove(&to)?;
            fs::create_dir(&to)?;
        }
        for entry in fs::read_dir(&from)? {
            self.copy(&name.join(entry?.file_name()), is_wanted)?;
        }
        for entry in fs::read_dir(&to)? {
            let file = entry?.file_name();
            if fs::symlink_metadata(from.join(&file)).is_err() {
                remove(&to.join(&file))?;
            }
        }
        File::open(&to)?.sync_all()
    }
}

fn copy_file(from: &Path, to: &Path, is_wanted: &AtomicBool) -> io::Result<()> {
    let mut from = match private::open(from) {
        // It was replaced by something else, or is gone: the next pass sees what it is.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        from => from?,
    };
    remove(to)?;
    let mut options = File::options();
    let mode = from.metadata()?.mode() & 0o700;
    let mut to = options.write(true).create_new(true).mode(mode).open(to)?;
    let mut piece = vec![0; PIECE];
    loop {
        if !is_wanted.load(Ordering::Relaxed) {
            return Err(io::Error::other("it is not wanted any more"));
        }
        let count = from.read(&mut piece)?;
        if count == 0 {
            break;
        }
        to.write_all(&piece[..count])?;
    }
    // So that lists by age stay as they are.
    to.set_modified(from.metadata()?.modified()?)?;
    to.sync_all()
}

/// Bytes of all that is to be copied.
pub(super) fn bytes_in(folder: &Path) -> u64 {
    private::kept_beside_store()
        .map(|name| bytes_of(&folder.join(name)))
        .sum()
}

fn bytes_of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            let within = fs::read_dir(path).into_iter().flatten().flatten();
            within.map(|entry| bytes_of(&entry.path())).sum()
        }
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    }
}

/// Whether there is something in a folder that a gateway has there.
pub(super) fn has_data(folder: &Path) -> bool {
    let names = private::kept_beside_store().chain(private::STORES);
    let mut names = names.chain(crate::archive::UNFINISHED);
    names.any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
}

/// Removes all that a gateway has in a folder, but for these names. What is left is told.
pub(super) fn remove_data(folder: &Path, but: &BTreeSet<OsString>) -> Vec<PathBuf> {
    let mut left = Vec::new();
    // An export that goes on looks whether its copy of the store is still there.
    for name in private::STORES.into_iter().chain(private::kept_beside_store()) {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_err() {
            continue;
        }
        if but.contains(OsStr::new(name)) {
            left.push(path);
        } else if let Err(error) = remove_with_target(&path) {
            tracing::warn!(path = %path.display(), %error, "what the gateway had in its data folder is not removed");
            left.push(path);
        }
    }
    left
}

/// A store may be a link to another disk: what is there goes, too. What was set aside of it because it could not be read is the operator's.
fn remove_with_target(path: &Path) -> io::Result<()> {
    let is_store = path.file_name().is_some_and(|name| name == "store");
    if is_store && !remove_what_is_in(path)? {
        return Err(io::Error::other(
            "a part of it that could not be read was set aside there",
        ));
    }
    remove(path)
}

/// Whether nothing is left.
fn remove_what_is_in(folder: &Path) -> io::Result<bool> {
    let mut is_empty = true;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_set_aside = SET_ASIDE.iter().any(|part| name.to_string_lossy().contains(part));
        is_empty &= match entry.file_type()?.is_dir() {
            _ if is_set_aside => false,
            true => remove_what_is_in(&entry.path())? && remove(&entry.path()).is_ok(),
            false => remove(&entry.path()).map(|()| true)?,
        };
    }
    Ok(is_empty)
}

/// Removes a file, a link, or a folder with all that is in it, if there is one.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
