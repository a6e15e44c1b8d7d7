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
//! What a step is about to write stands written down before it: what is outside ([`Outside`]), and where what was before is put aside. So whatever comes next
//! knows what to remove, and what to go on with. The audit log is the gateway's own, and stays where it is; that its data are others now is [noted](taken) for it.
//!
//! A restore that was interrupted behind the first step is [finished](finish) by the next start of the gateway, or the next command that works on the data.
//! One that a gateway has [made ready](wait_for_start) while it runs is just that: nothing moves as long as the gateway holds the data.

use super::{ArchiveError, at};
use crate::moving;
use crate::private::{self, AUDIT, beside, ours};
use crate::whereabouts;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const RESTORING: &str = "restoring";
const RESTORED: &str = "restored";
const ARRIVING: &str = "arriving";
/// Folders that an interrupted restore leaves in a data folder.
pub(crate) const UNFINISHED: [&str; 3] = [RESTORING, RESTORED, ARRIVING];
/// What is outside, in such a folder.
const OUTSIDE: &str = "outside.json";
/// The name of the folder with what was before, in such a folder.
const ASIDE: &str = "aside";
/// The same in the data folder, from when a backup has taken the place of all data to when the audit log says so.
const TAKEN: &str = "taken-back";
/// Bytes of the name of such a folder.
const LONGEST_NAME: u64 = 1_024;

/// The data folder, for one gateway that runs with it, or for one command that no gateway may disturb. It ends with the process.
#[derive(Debug)]
pub(crate) struct Hold(File);

/// A program that is just being started still has every file of ours, and so the lock, until it is that program.
impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Hold {
    /// With nobody else, and no restore finished.
    fn alone(data_dir: &Path) -> Result<Self, ArchiveError> {
        let hold = Self::untouched(data_dir)?;
        moving::finish(data_dir).map_err(at(data_dir))?;
        // They may have gone while the lock was waited for.
        match whereabouts::elsewhere(data_dir) {
            Ok(None) => Ok(hold),
            Ok(Some(_)) => Err(at(data_dir)(io::Error::other(
                "the data have just gone to another folder: try again",
            ))),
            Err(lost) => Err(at(data_dir)(io::Error::other(lost))),
        }
    }

    /// With nobody else, and nothing finished.
    pub(crate) fn untouched(data_dir: &Path) -> Result<Self, ArchiveError> {
        let folder = File::open(data_dir).map_err(at(data_dir))?;
        locked(folder.try_lock(), data_dir)?;
        Ok(Self(folder))
    }

    /// A restore that was interrupted is finished first.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, ArchiveError> {
        let hold = Self::alone(data_dir)?;
        if is_unfinished(data_dir) {
            finish(data_dir)?;
        }
        Ok(hold)
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
    let _hold = Hold::alone(data_dir)?;
    let aside = finish(data_dir)?;
    Ok(Some(aside.unwrap_or_else(|| data_dir.to_owned())))
}

/// Whether a restore was interrupted that has to be finished.
fn is_unfinished(data_dir: &Path) -> bool {
    data_dir.join(RESTORED).exists() || data_dir.join(ARRIVING).exists()
}

/// What a restore would put aside.
pub(crate) fn replaced_by_restore(data_dir: &Path) -> Vec<String> {
    let paths = ours().map(|ours| data_dir.join(ours));
    let there = paths.filter(|path| is_there(path));
    there.map(|path| path.display().to_string()).collect()
}

/// Whether there is something in a folder, and nothing of a gateway.
pub(crate) fn is_foreign(folder: &Path) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    // A disk of its own has one from the beginning.
    let mut names = names.filter(|entry| entry.file_name() != "lost+found");
    names.next().is_some() && !has_data(folder)
}

/// Whether there is what would have to be replaced.
fn has_data(data_dir: &Path) -> bool {
    ours().any(|ours| is_there(&data_dir.join(ours)))
}

/// Whether there is something of this name, if only a link.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Of what was unpacked the audit log is left out, unless this gateway has kept nothing yet.
pub(super) fn leave_out_audit(data_dir: &Path, unpacked: &Path) -> Result<(), ArchiveError> {
    let is_new = !has_data(data_dir) && !AUDIT.iter().any(|name| is_there(&data_dir.join(name)));
    let theirs = AUDIT.iter().map(|name| unpacked.join(super::DATA).join(name));
    for path in theirs.filter(|path| !is_new && path.exists()) {
        fs::remove_file(&path).map_err(at(&path))?;
    }
    Ok(())
}

/// Whether a backup has taken the place of all data, and the audit log does not say so yet; with the name of the folder that has what was before.
pub(crate) fn taken(data_dir: &Path) -> Option<Option<String>> {
    let name = private::read_text(&data_dir.join(TAKEN), LONGEST_NAME).ok()?;
    Some(Some(name).filter(|name| !name.is_empty()))
}

/// The audit log says so.
pub(crate) fn forget_taken(data_dir: &Path) -> Result<(), ArchiveError> {
    let path = data_dir.join(TAKEN);
    private::remove(&path).map_err(at(&path))
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
    // Certificates in the middle of a provisioning file are neither the ones of before nor the backup's.
    crate::provisioning::put_back(data_dir);
    let (restored, arriving) = (data_dir.join(RESTORED), data_dir.join(ARRIVING));
    if restored.exists() {
        if has_data(data_dir) {
            let folder = aside(data_dir, &restored)?;
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&folder)(error)),
                _ => {}
            }
            move_ours(data_dir, &folder)?;
            sync(&folder)?;
            sync(data_dir)?;
        }
        fs::rename(&restored, &arriving).map_err(at(&restored))?;
        sync(data_dir)?;
    }
    let arrived = arriving.join(super::DATA);
    move_ours(&arrived, data_dir)?;
    move_audit(&arrived, data_dir)?;
    sync(data_dir)?;
    Outside::finish(&arriving)?;
    let aside = noted_aside(&arriving);
    let taken = data_dir.join(TAKEN);
    // The note goes with the folder, so it may have said so before.
    if aside.is_some() || !taken.exists() {
        private::replace(&taken, aside.as_deref().unwrap_or_default().as_bytes()).map_err(at(&taken))?;
    }
    fs::remove_dir_all(&arriving).map_err(at(&arriving))?;
    sync(data_dir)?;
    Ok(aside.map(|name| data_dir.join(name)))
}

/// Where what is there is put, noted before anything is.
fn aside(data_dir: &Path, restored: &Path) -> Result<PathBuf, ArchiveError> {
    if let Some(name) = noted_aside(restored) {
        return Ok(data_dir.join(name));
    }
    let (note, name) = (restored.join(ASIDE), free(data_dir));
    private::replace(&note, name.as_bytes()).map_err(at(&note))?;
    Ok(data_dir.join(name))
}

fn noted_aside(folder: &Path) -> Option<String> {
    let name = private::read_text(&folder.join(ASIDE), LONGEST_NAME).ok()?;
    Some(name).filter(|name| !name.is_empty())
}

/// Files that do not belong into the data folder. They are complete and on the disk, under other names, before the restore is valid.
#[derive(Debug)]
pub(super) struct Outside {
    /// Where they are written down.
    note: PathBuf,
    moved: Vec<Moved>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Moved {
    from: PathBuf,
    to: PathBuf,
}

impl Outside {
    /// None yet, of what is unpacked in this data folder.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self {
            note: data_dir.join(RESTORING).join(OUTSIDE),
            moved: Vec::new(),
        }
    }

    /// Writes one more, beside its place. What is there keeps who may read it, and a link to it stays one.
    pub(super) fn write(&mut self, to: &Path, bytes: &[u8]) -> Result<(), ArchiveError> {
        let to = match fs::canonicalize(to) {
            Ok(there) => there,
            Err(_) => std::path::absolute(to).map_err(at(to))?,
        };
        let folder = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(at(folder))?;
        let there = fs::metadata(&to);
        let from = beside(&to, ".restoring");
        self.moved.push(Moved {
            from: from.clone(),
            to,
        });
        self.write_note()?;
        private::replace(&from, bytes).map_err(at(&from))?;
        if let Ok(there) = there {
            fs::set_permissions(&from, there.permissions()).map_err(at(&from))?;
        }
        Ok(())
    }

    /// Lets whoever comes next know of them, before they are there.
    fn write_note(&self) -> Result<(), ArchiveError> {
        let text = serde_json::to_vec(&self.moved).map_err(ArchiveError::Manifest)?;
        private::replace(&self.note, &text).map_err(at(&self.note))
    }

    /// Those of a folder that was unpacked.
    fn of(folder: &Path) -> Result<Self, ArchiveError> {
        let note = folder.join(OUTSIDE);
        let moved = match private::read(&note, private::LONGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => serde_json::from_slice(&text.map_err(at(&note))?).map_err(ArchiveError::Manifest)?,
        };
        Ok(Self { note, moved })
    }

    /// Nothing comes of it, nor of one that was being written.
    fn give_up(&self) {
        for Moved { from, .. } in &self.moved {
            let _ = fs::remove_file(from);
            let _ = fs::remove_file(beside(from, ".new"));
        }
    }

    /// What was there is kept beside it.
    fn finish(arriving: &Path) -> Result<(), ArchiveError> {
        for Moved { from, to } in Self::of(arriving)?.moved {
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

fn move_ours(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    ours().try_for_each(|ours| move_one(from, to, ours))
}

/// An audit log that is there stays.
fn move_audit(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    let mut new = AUDIT.into_iter().filter(|name| !is_there(&to.join(name)));
    new.try_for_each(|name| move_one(from, to, name))
}

fn move_one(from: &Path, to: &Path, name: &str) -> Result<(), ArchiveError> {
    match fs::rename(from.join(name), to.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&to.join(name))(error)),
        _ => Ok(()),
    }
}

/// `replaced-1` and so on.
fn free(data_dir: &Path) -> String {
    let mut names = (1..).map(|n| format!("replaced-{n}"));
    let free = names.find(|name| !is_there(&data_dir.join(name)));
    free.unwrap_or_else(|| "replaced".to_owned())
}

fn sync(folder: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(at(folder))
}
