//! The folder of a store gives its place to a new one, at once and for good.
//!
//! `store.moving` is being written. When it is whole it becomes `store.replaced`, which then changes places with `store`: whenever the power is cut, `store` is
//! the old one or the new one, whole.

use crate::open::failed;
use headgate_model::StoreError;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where a new store is written that shall take this one's place.
pub(crate) fn moving(folder: &Path) -> PathBuf {
    beside(folder, ".moving")
}

/// Where the store is that was there before.
pub(crate) fn replaced(folder: &Path) -> PathBuf {
    beside(folder, ".replaced")
}

/// A folder may have a dot in its name: nobody else's is meant.
fn beside(folder: &Path, end: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Links to the files of a store that is copied elsewhere.
pub(crate) fn copying(folder: &Path) -> PathBuf {
    folder.join("copying")
}

/// In a store that is not used any more, for what it held went to memory.
const OUTDATED: &str = "outdated";

/// The store in this folder grows old from now on.
pub(crate) fn note_outdated(folder: &Path) {
    if let Err(error) = fs::write(folder.join(OUTDATED), "") {
        tracing::debug!(%error, "a later start will not say that the store is old");
    }
}

/// Whether it has grown old. It is told once.
pub(crate) fn is_outdated(folder: &Path) -> bool {
    fs::remove_file(folder.join(OUTDATED)).is_ok()
}

/// What an interrupted run has left.
pub(crate) fn clean_up(folder: &Path) -> Result<(), StoreError> {
    // The file system could not exchange two folders, and the run ended in between.
    if !folder.exists() && moving(folder).exists() && replaced(folder).exists() {
        rename(&replaced(folder), folder)?;
    }
    remove(&copying(folder))?;
    remove(&moving(folder))
}

/// The new store takes the place; the one that was there is in `store.replaced`. After an error all is as before, as far as the disk lets it be.
pub(crate) fn put_in_place(folder: &Path) -> Result<(), StoreError> {
    let (new, old) = (&moving(folder), &replaced(folder));
    remove(old)?;
    if !folder.exists() {
        rename(new, folder)?;
        return sync_parent(folder).inspect_err(|_| undo(&[(folder, new)]));
    }
    rename(new, old)?;
    sync_parent(folder).inspect_err(|_| undo(&[(old, new)]))?;
    if let Err(error) = exchange(old, folder) {
        tracing::debug!(%error, "the file system cannot exchange folders");
        rename(old, new)?;
        rename(folder, old)?;
        let placed = rename(new, folder).and_then(|()| sync_parent(folder));
        return placed.inspect_err(|_| undo(&[(folder, new), (old, folder)]));
    }
    sync_parent(folder).inspect_err(|_| {
        if exchange(old, folder).is_ok() {
            undo(&[(old, new)]);
        }
    })
}

fn undo(renames: &[(&Path, &Path)]) {
    for (from, to) in renames {
        // The first of two may not have been done.
        if let Err(error) = fs::rename(from, to) {
            tracing::debug!(%error, from = %from.display(), "it was not put back");
        }
    }
}

/// The other way round: the new one is not to be used after all.
pub(crate) fn put_back(folder: &Path) -> Result<(), StoreError> {
    remove(&moving(folder))?;
    rename(folder, &moving(folder))?;
    if replaced(folder).exists() {
        rename(&replaced(folder), folder)?;
    }
    sync_parent(folder)?;
    remove(&moving(folder))
}

/// Removes a folder of ours, if it is there, or whatever has its name.
pub(crate) fn remove(folder: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(folder),
        Ok(_) => fs::remove_file(folder),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let cause = format!("{}: {error}", folder.display());
            Err(failed("remove what is left of a store", cause))
        }
        _ => Ok(()),
    }
}

/// Makes all that is in a folder durable.
pub(crate) fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_all(&entry.path())?,
            false => sync_if_there(&entry.path())?,
        }
    }
    File::open(folder)?.sync_all()
}

/// What a checkpoint has renamed meanwhile is not there any more.
fn sync_if_there(file: &Path) -> io::Result<()> {
    match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        file => file?.sync_all(),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|e| failed("put the new store in its place", e))
}

pub(crate) fn sync_parent(folder: &Path) -> Result<(), StoreError> {
    let parent = folder
        .parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all());
    parent.map_err(|e| failed("sync the folder of the store", e))
}

/// Both change places in one step.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library has no such call")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (one, other) = (name(one)?, name(other)?);
    // SAFETY: both are strings that end in a zero and live as long as the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_one: &Path, _other: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(names: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        for (name, content) in names {
            fs::create_dir(parent.path().join(name)).unwrap();
            fs::write(parent.path().join(name).join("is"), content).unwrap();
        }
        let folder = parent.path().join("store");
        (parent, folder)
    }

    fn is(folder: &Path) -> String {
        fs::read_to_string(folder.join("is")).unwrap_or_default()
    }

    fn all(folder: &Path) -> (String, String, String) {
        (is(folder), is(&moving(folder)), is(&replaced(folder)))
    }

    #[test]
    fn two_folders_change_places() {
        let (_parent, folder) = here(&[
            ("store", "old"),
            ("store.moving", "new"),
            ("store.replaced", "older"),
        ]);
        put_in_place(&folder).unwrap();
        assert_eq!(all(&folder), ("new".into(), String::new(), "old".into()));
        put_back(&folder).unwrap();
        assert_eq!(all(&folder), ("old".into(), String::new(), String::new()));
    }

    #[test]
    fn the_first_one_has_nothing_to_replace() {
        let (_parent, folder) = here(&[("store.moving", "new")]);
        put_in_place(&folder).unwrap();
        assert_eq!(all(&folder), ("new".into(), String::new(), String::new()));
        put_back(&folder).unwrap();
        assert_eq!(all(&folder), Default::default());
    }

    /// Ended after each step, with and without a file system that exchanges folders: the store is one of both, whole.
    #[test]
    fn what_was_interrupted_is_the_old_one_or_the_new_one() {
        let ends: [(&[(&str, &str)], &str); 6] = [
            (&[("store", "old"), ("store.moving", "new")], "old"),
            (&[("store", "old"), ("store.replaced", "new")], "old"),
            (&[("store", "new"), ("store.replaced", "old")], "new"),
            (&[("store.replaced", "old"), ("store.moving", "new")], "old"),
            (&[("store.moving", "part")], ""),
            (&[("store", "new")], "new"),
        ];
        for (names, expected) in ends {
            let (_parent, folder) = here(names);
            clean_up(&folder).unwrap();
            assert_eq!(is(&folder), expected, "{names:?}");
            assert!(!moving(&folder).exists(), "{names:?}");
        }
    }

    /// As where the store is a link to a folder of such a name.
    #[test]
    fn a_folder_with_a_dot_in_its_name_has_folders_of_its_own_beside_it() {
        for (name, expected) in [
            ("store", "store.moving"),
            ("gw.1", "gw.1.moving"),
            ("store.moving", "store.moving.moving"),
        ] {
            assert_eq!(
                moving(&Path::new("disk").join(name)),
                Path::new("disk").join(expected)
            );
        }
        let (parent, folder) = here(&[("store.moving", "data"), ("gw.moving", "foreign")]);
        for name in ["store.moving", "gw.1"] {
            clean_up(&folder.with_file_name(name)).unwrap();
        }
        assert_eq!(is(&parent.path().join("store.moving")), "data");
        assert_eq!(is(&parent.path().join("gw.moving")), "foreign");
    }

    #[test]
    fn what_has_the_name_and_is_no_folder_is_in_nobodys_way() {
        let (parent, folder) = here(&[("store", "old")]);
        fs::write(moving(&folder), "a file").unwrap();
        std::os::unix::fs::symlink(parent.path().join("nowhere"), replaced(&folder)).unwrap();
        clean_up(&folder).unwrap();
        remove(&replaced(&folder)).unwrap();
        assert_eq!(all(&folder), ("old".into(), String::new(), String::new()));
        assert!(fs::symlink_metadata(moving(&folder)).is_err());
    }
}
