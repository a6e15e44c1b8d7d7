//! What stood where a provisioning file puts certificates and keys, until it is certain that a gateway starts with the new ones.
//!
//! Always true: while the folder is there it holds all of them, whatever was replaced or put back meanwhile. So a power cut at any step leaves the way back, and
//! so does a full disk: they are further names of the same files, and need no space.

use super::FOLDER;
use crate::private;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Where they are, in the data folder.
const KEPT: &str = "provisioned.before";
/// It is made and removed under this name.
const UNDER_WORK: &str = "provisioned.before.new";
/// There is the digest of the file for which they are kept. No name of theirs begins so.
const WHOSE: &str = ".of";
/// There is the digest of the configuration that they are no longer meant for.
const END: &str = ".end";
/// Behind the name of what was not there. No file of a provisioning file ends so.
const NONE: &str = ".new";

/// Whether some are kept, or were not removed to the end.
pub(super) fn are_left(data_dir: &Path) -> bool {
    are_kept(data_dir) || fs::symlink_metadata(data_dir.join(UNDER_WORK)).is_ok()
}

/// Whether some are kept: what is there now may be these, the new ones, or some of both.
pub(super) fn are_kept(data_dir: &Path) -> bool {
    // A link would lead elsewhere.
    fs::symlink_metadata(data_dir.join(KEPT)).is_ok_and(|kept| kept.is_dir())
}

/// Keeps the files of these names, before they are replaced by those of `text`. Those that are kept for that already are the ones of before.
pub(super) fn keep<'n>(data_dir: &Path, text: &str, names: impl Iterator<Item = &'n str>) -> io::Result<()> {
    let digest = Sha256::digest(text);
    if are_kept(data_dir) {
        let whose = private::read(&data_dir.join(KEPT).join(WHOSE), 1_024);
        if whose.is_ok_and(|whose| whose == digest[..]) {
            return Ok(());
        }
        put_back(data_dir)?;
    }
    let (folder, new) = (data_dir.join(FOLDER), data_dir.join(UNDER_WORK));
    remove(&new)?;
    fs::create_dir(&new)?;
    private::replace(&new.join(WHOSE), &digest)?;
    for name in names {
        match link_or_copy(&folder.join(name), &new.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::create_new(new.join(format!("{name}{NONE}")))?;
            }
            kept => {
                kept.map_err(|error| io::Error::new(error.kind(), format!("{FOLDER}/{name}: {error}")))?;
            }
        }
    }
    sync(&new)?;
    fs::rename(&new, data_dir.join(KEPT))?;
    sync(data_dir)
}

/// With this configuration the gateway starts with the new ones: once it is written, nothing is put back.
pub(super) fn note_end(data_dir: &Path, configuration: &str) -> io::Result<()> {
    match are_kept(data_dir) {
        true => private::replace(&data_dir.join(KEPT).join(END), &Sha256::digest(configuration)),
        false => Ok(()),
    }
}

/// Whether that was noted for this configuration.
pub(super) fn is_end(data_dir: &Path, configuration: &str) -> bool {
    let noted = private::read(&data_dir.join(KEPT).join(END), 1_024);
    noted.is_ok_and(|noted| noted == Sha256::digest(configuration)[..])
}

/// Puts them back, if there are any, and keeps them no longer.
pub(super) fn put_back(data_dir: &Path) -> io::Result<()> {
    if !are_kept(data_dir) {
        return remove(&data_dir.join(UNDER_WORK));
    }
    let (kept, folder) = (data_dir.join(KEPT), data_dir.join(FOLDER));
    super::make_own_folder(&folder)?;
    for entry in fs::read_dir(&kept)? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let was_there = name.to_str().and_then(|name| name.strip_suffix(NONE));
        if let Some(new) = was_there {
            remove_file(&folder.join(new))?;
            continue;
        }
        let (mut beside, place) = (name.clone(), folder.join(&name));
        beside.push(NONE);
        let beside = folder.join(beside);
        remove_file(&beside)?;
        link_or_copy(&kept.join(&name), &beside)?;
        fs::rename(&beside, &place).inspect_err(|_| drop(fs::remove_file(&beside)))?;
        // It may have been the same file still, of which both names stay then.
        remove_file(&beside)?;
    }
    sync(&folder)?;
    forget(data_dir)
}

/// Keeps them no longer: what is there now stays.
pub(super) fn forget(data_dir: &Path) -> io::Result<()> {
    let gone = data_dir.join(UNDER_WORK);
    if are_kept(data_dir) {
        remove(&gone)?;
        fs::rename(data_dir.join(KEPT), &gone)?;
        sync(data_dir)?;
    }
    remove(&gone)
}

/// Some file systems have no second names.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    let is_file = || fs::symlink_metadata(from).is_ok_and(|from| from.is_file());
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && is_file() => {
            fs::copy(from, to)?;
            File::open(to)?.sync_all()
        }
        linked => linked,
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whatever is there, it is ours to remove.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
