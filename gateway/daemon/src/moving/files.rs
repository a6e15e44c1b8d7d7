//! What the gateway keeps in its data folder beside the store, copied to another folder.
//!
//! The copy is made in a folder of its own ([`ARRIVING`]) in the new one. The first [pass](Copy::pass) copies all of it, while everybody reads and writes. Each next
//! one copies what has changed since. The last is made while nobody writes, and has little to do. Then all is [put in its place](place).

use super::named::Named;
use crate::private;
use headgate_store::remove_store;
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// The copy that is not in its place yet. Where this is, a store beside it is a copy, too.
pub(super) const ARRIVING: &str = "data-arrives";
/// Two changes of a file within this time may look like one.
const TICK: Duration = Duration::from_secs(1);
/// Bytes after which it is looked whether the copy is still wanted.
const PIECE: usize = 1 << 20;

/// A copy that is being made.
#[derive(Debug)]
pub(super) struct Copy {
    from: PathBuf,
    /// The new data folder.
    goal: PathBuf,
    /// Where the copy is made.
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
    /// Of one folder for another, which has none yet.
    pub(super) fn new(from: &Path, to: &Path) -> io::Result<Self> {
        let copy = Self {
            from: from.to_owned(),
            goal: to.to_owned(),
            to: to.join(ARRIVING),
            known: HashMap::new(),
            left: 0,
        };
        fs::create_dir(&copy.to)?;
        Ok(copy)
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
            remove(&to)?;
            return symlink(self.target(&from)?, &to);
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

    /// Where the copy of a link leads: to what is copied, or else to what it led to.
    fn target(&self, link: &Path) -> io::Result<PathBuf> {
        let written = fs::read_link(link)?;
        let (Ok(target), Ok(folder)) = (fs::canonicalize(link), fs::canonicalize(&self.from)) else {
            return Ok(written);
        };
        let copied = target.strip_prefix(folder).ok().filter(|inside| {
            let mut kept = private::kept_beside_store();
            kept.any(|name| inside.starts_with(name))
        });
        Ok(match copied {
            Some(_) if written.is_relative() => written,
            Some(inside) => self.goal.join(inside),
            None => target,
        })
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

/// All names that a gateway has in a folder.
fn all_names() -> impl Iterator<Item = &'static str> {
    let unfinished = crate::archive::UNFINISHED.into_iter();
    private::kept_beside_store()
        .chain(private::STORES)
        .chain(unfinished)
}

/// Whether there is something in a folder that a gateway has there.
pub(super) fn has_data(folder: &Path) -> bool {
    all_names().any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
}

/// What is in the way of data in a folder that they have left before, but for the files that were named there: a store, or what looks like data.
pub(super) fn in_the_way(folder: &Path, named: &Named) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    let is_in_the_way = |name: &&str| match (*name, fs::symlink_metadata(folder.join(name))) {
        (_, Err(_)) => false,
        // Parts that were set aside may be left of it.
        ("store", Ok(_)) => headgate_store::has_store(&folder.join(name)),
        // Others' files in them stay where they are.
        (name, Ok(found)) if found.is_dir() => !private::is_folder_beside_store(name),
        (name, Ok(_)) => !named.has(&folder.join(name)),
    };
    all_names().find(is_in_the_way).map(|name| folder.join(name))
}

/// Removes a copy that is not used, with the store beside it.
pub(super) fn remove_copy(folder: &Path) -> io::Result<()> {
    let copy = folder.join(ARRIVING);
    if fs::symlink_metadata(&copy).is_err() {
        return Ok(());
    }
    remove_store(&folder.join("store"))?;
    remove(&copy)
}

/// Puts a whole copy in its place. Files that are there already are the ones that configurations name: of two the one counts that was changed last. Goes on with what was
/// interrupted.
pub(super) fn place(folder: &Path) -> io::Result<()> {
    let copy = folder.join(ARRIVING);
    if fs::symlink_metadata(&copy).is_err() {
        return Ok(());
    }
    place_folder(&copy, folder)?;
    File::open(folder)?.sync_all()
}

fn place_folder(from: &Path, to: &Path) -> io::Result<()> {
    let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(from)?.collect();
    let mut first_error = Ok(());
    for entry in entries? {
        let (new, there) = (entry.path(), to.join(entry.file_name()));
        // What cannot be placed keeps nothing else from its place.
        let placed = place_one(&new, &there)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", there.display())));
        first_error = first_error.and(placed);
    }
    first_error?;
    File::open(to)?.sync_all()?;
    fs::remove_dir(from)
}

fn place_one(new: &Path, there: &Path) -> io::Result<()> {
    let arrives = fs::symlink_metadata(new)?;
    let found = match fs::symlink_metadata(there) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return take_place(new, there, &arrives),
        found => found?,
    };
    if found.is_dir() && arrives.is_dir() {
        return place_folder(new, there);
    }
    if found.is_symlink() && !arrives.is_dir() {
        return fs::remove_file(new);
    }
    if found.is_file() && arrives.is_file() {
        return match found.modified()? >= arrives.modified()? {
            true => fs::remove_file(new),
            false => take_place(new, there, &arrives),
        };
    }
    // Two things of one name that cannot be one: both stay.
    let aside = private::beside(there, ".arrived");
    remove(&aside)?;
    take_place(new, &aside, &arrives)
}

/// A folder in the new one may be on another disk.
fn take_place(new: &Path, there: &Path, arrives: &Metadata) -> io::Result<()> {
    match fs::rename(new, there) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        renamed => return renamed,
    }
    if arrives.is_dir() {
        fs::create_dir(there)?;
        return place_folder(new, there);
    }
    let copy = private::beside(there, ".new");
    match arrives.is_symlink() {
        true => {
            remove(&copy)?;
            symlink(fs::read_link(new)?, &copy)?;
        }
        false => copy_file(new, &copy, &AtomicBool::new(true))?,
    }
    fs::rename(copy, there)?;
    fs::remove_file(new)
}

/// Removes all that a gateway has in a folder, but for files that are named, and for what is not the gateway's. What is left is told.
pub(super) fn remove_data(folder: &Path, named: &Named) -> Vec<PathBuf> {
    let mut left = Vec::new();
    let Ok(folder) = fs::canonicalize(folder) else {
        return left;
    };
    // An export that goes on looks whether its copy of the store is still there.
    for name in private::STORES.into_iter().chain(private::kept_beside_store()) {
        let path = folder.join(name);
        let removed = match name {
            "store" => remove_linked_store(&path, &mut left),
            _ => remove_but(&path, named, &mut left),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "what the gateway had in its data folder is not removed");
            left.push(path);
        }
    }
    left
}

/// It may be a link to another disk. What was set aside of it because it could not be read is the operator's, and so is what else is there.
fn remove_linked_store(path: &Path, left: &mut Vec<PathBuf>) -> io::Result<()> {
    match remove_store(path)? {
        true => remove(path),
        false => {
            left.push(path.to_owned());
            Ok(())
        }
    }
}

fn remove_but(path: &Path, named: &Named, left: &mut Vec<PathBuf>) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    if named.has(path) {
        left.push(path.to_owned());
        return Ok(());
    }
    if !named.has_below(path) {
        return remove(path);
    }
    for entry in fs::read_dir(path)? {
        remove_but(&entry?.path(), named, left)?;
    }
    Ok(())
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
