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
    folder.with_extension("moving")
}

/// Where the store is that was there before.
pub(crate) fn replaced(folder: &Path) -> PathBuf {
    folder.with_extension("replaced")
}

/// Links to the files of a store that is copied elsewhere.
pub(crate) fn copying(folder: &Path) -> PathBuf {
    folder.join("copying")
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

/// The new store takes the place; the one that was there is in `store.replaced`.
pub(crate) fn put_in_place(folder: &Path) -> Result<(), StoreError> {
    let (new, old) = (moving(folder), replaced(folder));
    remove(&old)?;
    if !folder.exists() {
        rename(&new, folder)?;
        return sync_parent(folder);
    }
    rename(&new, &old)?;
    sync_parent(folder)?;
    if let Err(error) = exchange(&old, folder) {
        tracing::debug!(%error, "the file system cannot exchange folders");
        rename(&old, &new)?;
        rename(folder, &old)?;
        rename(&new, folder)?;
    }
    sync_parent(folder)
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

/// Removes a folder, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove what is left of a store", error))
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
}
