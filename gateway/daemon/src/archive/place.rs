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

/// Whether a restore was interrupted that has to be finished.
fn is_unfinished(data_dir: &Path) -> bool {
    data_dir.join(RESTORED).exists() || data_dir.join(ARRIVING).exists()
}

/// Whether there is what would have to be replaced.
fn has_data(data_dir: &Path) -> bool {
    OURS.iter()
        .any(|ours| fs::symlink_metadata(data_dir.join(ours)).is_ok())
}

/// An empty folder to unpack into. With `force` there may be data.
pub(crate) fn prepare(data_dir: &Path, force: bool) -> Result<PathBuf, ArchiveError> {
    if !force && has_data(data_dir) {
        return Err(ArchiveError::HasData(data_dir.to_owned()));
    }
    let folder = data_dir.join(RESTORING);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&folder)(error)),
        _ => {}
    }
    fs::create_dir(&folder).map_err(at(&folder))?;
    Ok(folder)
}

/// What is unpacked becomes the data. Where what was there is now, if there was something.
pub(crate) fn place(data_dir: &Path) -> Result<Option<PathBuf>, ArchiveError> {
    let restored = data_dir.join(RESTORED);
    fs::rename(data_dir.join(RESTORING), &restored).map_err(at(&restored))?;
    sync(data_dir)?;
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
pub(crate) struct Outside(Vec<Moved>);

#[derive(Debug, Serialize, Deserialize)]
struct Moved {
    from: PathBuf,
    to: PathBuf,
}

impl Outside {
    /// Writes one more, beside its place.
    pub(crate) fn write(&mut self, to: &Path, bytes: &[u8]) -> Result<(), ArchiveError> {
        let to = std::path::absolute(to).map_err(at(to))?;
        let folder = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(at(folder))?;
        let mut from = to.clone().into_os_string();
        from.push(".restoring");
        let from = PathBuf::from(from);
        private::replace(&from, bytes).map_err(at(&from))?;
        self.0.push(Moved { from, to });
        Ok(())
    }

    /// Lets [`place`] know of them.
    pub(crate) fn note(&self, data_dir: &Path) -> Result<(), ArchiveError> {
        let path = data_dir.join(RESTORING).join(OUTSIDE);
        let text = serde_json::to_vec(self).map_err(ArchiveError::Manifest)?;
        private::replace(&path, &text).map_err(at(&path))
    }

    /// Nothing comes of it.
    pub(crate) fn give_up(&self) {
        for Moved { from, .. } in &self.0 {
            let _ = fs::remove_file(from);
        }
    }

    fn finish(arriving: &Path) -> Result<(), ArchiveError> {
        let path = arriving.join(OUTSIDE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text.map_err(at(&path))?,
        };
        let Self(all) = serde_json::from_slice(&text).map_err(ArchiveError::Manifest)?;
        for Moved { from, to } in all {
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
