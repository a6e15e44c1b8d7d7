//! Puts what was unpacked in the place of what is there.
//!
//! The data folder may be a file system of its own, so that it cannot be exchanged as a whole. Instead:
//!
//! 1. What is taken over is written to `restoring/` in the data folder. If that ends early it is rubbish.
//! 2. When it is complete and on the disk, the folder is called `restored/`: from here on it is valid. Whatever is there besides is moved to `replaced-N/`.
//! 3. The folder is called `arriving/`, and what it holds is moved to its place.
//!
//! Files that belong elsewhere ([`Outside`]) are written beside their places with the first step, and get their names with the last.
//!
//! A restore that was interrupted behind the first step is [finished](finish) by the next start of the gateway, or the next command that works on the data.
//! One that a gateway has [made ready](wait_for_start) while it runs is just that: nothing moves as long as the gateway holds the data.

use super::{ArchiveError, at};
use crate::private::{self, OURS};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const RESTORING: &str = "restoring";
const RESTORED: &str = "restored";
const ARRIVING: &str = "arriving";
/// What is outside, in such a folder.
const OUTSIDE: &str = "outside.json";

/// The data folder, for a gateway that runs with it, or for one command that no gateway may disturb. It ends with the process.
#[derive(Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "the lock is on it")] File);

impl Hold {
    /// For a gateway. A restore that was interrupted is finished first.
    pub(crate) fn for_gateway(data_dir: &Path) -> Result<Self, ArchiveError> {
        if is_unfinished(data_dir) {
            Self::for_command(data_dir)?;
        }
        let folder = File::open(data_dir).map_err(at(data_dir))?;
        locked(folder.try_lock_shared(), data_dir)?;
        Ok(Self(folder))
    }

    /// For a command, while no gateway runs. A restore that was interrupted is finished first.
    pub(crate) fn for_command(data_dir: &Path) -> Result<Self, ArchiveError> {
        let folder = File::open(data_dir).map_err(at(data_dir))?;
        locked(folder.try_lock(), data_dir)?;
        if is_unfinished(data_dir) {
            finish(data_dir)?;
        }
        Ok(Self(folder))
    }
}

fn locked(result: Result<(), TryLockError>, data_dir: &Path) -> Result<(), ArchiveError> {
    match result {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ArchiveError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(cause)) => Err(at(data_dir)(cause)),
    }
}

/// Before a gateway starts: finishes a restore that waits for that. Where the data of before are now; `None` if nothing waited.
pub(crate) fn finish_waiting(data_dir: &Path) -> Result<Option<PathBuf>, ArchiveError> {
    if !is_unfinished(data_dir) {
        return Ok(None);
    }
    let folder = File::open(data_dir).map_err(at(data_dir))?;
    locked(folder.try_lock(), data_dir)?;
    let aside = finish(data_dir)?;
    Ok(Some(aside.unwrap_or_else(|| data_dir.to_owned())))
}

/// Whether a restore was interrupted that has to be finished.
fn is_unfinished(data_dir: &Path) -> bool {
    data_dir.join(RESTORED).exists() || data_dir.join(ARRIVING).exists()
}

/// What a restore would put aside.
pub(crate) fn replaced_by_restore(data_dir: &Path) -> Vec<String> {
    let paths = OURS.iter().map(|ours| data_dir.join(ours));
    let there = paths.filter(|path| fs::symlink_metadata(path).is_ok());
    there.map(|path| path.display().to_string()).collect()
}

/// Whether there is what would have to be replaced.
fn has_data(data_dir: &Path) -> bool {
    OURS.iter()
        .any(|ours| fs::symlink_metadata(data_dir.join(ours)).is_ok())
}

/// An empty folder to unpack into. With `force` there may be data.
pub(super) fn prepare(data_dir: &Path, force: bool) -> Result<PathBuf, ArchiveError> {
    if !force && has_data(data_dir) {
        return Err(ArchiveError::HasData(data_dir.to_owned()));
    }
    forget_restoring(data_dir)?;
    let folder = data_dir.join(RESTORING);
    fs::create_dir(&folder).map_err(at(&folder))?;
    Ok(folder)
}

/// Removes what a restore has left that ended before it was valid, also outside.
pub(crate) fn forget_restoring(data_dir: &Path) -> Result<(), ArchiveError> {
    let folder = data_dir.join(RESTORING);
    if let Ok(outside) = Outside::of(&folder) {
        outside.give_up();
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&folder)(error)),
        _ => Ok(()),
    }
}

/// What is unpacked becomes the data with the next start of the gateway, which runs now.
pub(crate) fn wait_for_start(data_dir: &Path) -> Result<(), ArchiveError> {
    let restored = data_dir.join(RESTORED);
    fs::rename(data_dir.join(RESTORING), &restored).map_err(at(&restored))?;
    sync(data_dir)
}

/// Nothing comes of what waits for the next start. Whether there was something.
pub(crate) fn withdraw(data_dir: &Path) -> Result<bool, ArchiveError> {
    let restored = data_dir.join(RESTORED);
    if !restored.exists() {
        return Ok(false);
    }
    forget_restoring(data_dir)?;
    fs::rename(&restored, data_dir.join(RESTORING)).map_err(at(&restored))?;
    sync(data_dir)?;
    forget_restoring(data_dir)?;
    Ok(true)
}

/// What is unpacked becomes the data. Where what was there is now, if there was something.
pub(crate) fn place(data_dir: &Path) -> Result<Option<PathBuf>, ArchiveError> {
    wait_for_start(data_dir)?;
    finish(data_dir)
}

/// Goes on with a restore whose data are complete.
fn finish(data_dir: &Path) -> Result<Option<PathBuf>, ArchiveError> {
    let (restored, arriving) = (data_dir.join(RESTORED), data_dir.join(ARRIVING));
    let mut aside = None;
    if restored.exists() {
        if has_data(data_dir) {
            let folder = free(data_dir);
            fs::create_dir(&folder).map_err(at(&folder))?;
            move_ours(data_dir, &folder)?;
            sync(&folder)?;
            sync(data_dir)?;
            aside = Some(folder);
        }
        fs::rename(&restored, &arriving).map_err(at(&restored))?;
        sync(data_dir)?;
    }
    move_ours(&arriving.join(super::DATA), data_dir)?;
    sync(data_dir)?;
    Outside::finish(&arriving)?;
    fs::remove_dir_all(&arriving).map_err(at(&arriving))?;
    sync(data_dir)?;
    Ok(aside)
}

/// Files that do not belong into the data folder. They are complete and on the disk, under other names, before the restore is valid.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outside(Vec<Moved>);

#[derive(Debug, Serialize, Deserialize)]
struct Moved {
    from: PathBuf,
    to: PathBuf,
}

impl Outside {
    /// Writes one more, beside its place. What is there keeps who may read it, and a link to it stays one.
    pub(super) fn write(&mut self, to: &Path, bytes: &[u8]) -> Result<(), ArchiveError> {
        let to = match fs::canonicalize(to) {
            Ok(there) => there,
            Err(_) => std::path::absolute(to).map_err(at(to))?,
        };
        let folder = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(at(folder))?;
        let from = beside(&to, ".restoring");
        private::replace(&from, bytes).map_err(at(&from))?;
        if let Ok(there) = fs::metadata(&to) {
            fs::set_permissions(&from, there.permissions()).map_err(at(&from))?;
        }
        self.0.push(Moved { from, to });
        Ok(())
    }

    /// Lets [`place`] know of them.
    pub(super) fn note(&self, data_dir: &Path) -> Result<(), ArchiveError> {
        let path = data_dir.join(RESTORING).join(OUTSIDE);
        let text = serde_json::to_vec(self).map_err(ArchiveError::Manifest)?;
        private::replace(&path, &text).map_err(at(&path))
    }

    /// Those of a folder that was unpacked.
    fn of(folder: &Path) -> Result<Self, ArchiveError> {
        let path = folder.join(OUTSIDE);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            text => serde_json::from_slice(&text.map_err(at(&path))?).map_err(ArchiveError::Manifest),
        }
    }

    /// Nothing comes of it.
    pub(super) fn give_up(&self) {
        for Moved { from, .. } in &self.0 {
            let _ = fs::remove_file(from);
        }
    }

    /// What was there is kept beside it.
    fn finish(arriving: &Path) -> Result<(), ArchiveError> {
        for Moved { from, to } in Self::of(arriving)?.0 {
            if from.exists() {
                keep_replaced(&to)?;
            }
            match fs::rename(&from, &to) {
                // It has its name already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved.map_err(at(&to))?,
            }
            sync(to.parent().unwrap_or(Path::new("/")))?;
        }
        Ok(())
    }
}

/// A copy of what is there, as `NAME.replaced`.
fn keep_replaced(path: &Path) -> Result<(), ArchiveError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        bytes => {
            let replaced = beside(path, ".replaced");
            private::replace(&replaced, &bytes.map_err(at(path))?).map_err(at(&replaced))
        }
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    name.into()
}

fn move_ours(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    for ours in OURS {
        match fs::rename(from.join(ours), to.join(ours)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&to.join(ours))(error)),
            _ => {}
        }
    }
    Ok(())
}

/// `replaced-1` and so on.
fn free(data_dir: &Path) -> PathBuf {
    let names = (1..).map(|n| data_dir.join(format!("replaced-{n}")));
    let mut free = names.filter(|path| !path.exists());
    free.next().unwrap_or_else(|| data_dir.join("replaced"))
}

fn sync(folder: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(at(folder))
}
