//! The side file: how many commits there were, at least.
//!
//! A sled that lost the end of its file may open with less or with nothing and not say so. This file says so.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// `path` with a word after a dot put to its end.
pub fn beside(path: &Path, word: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{word}"));
    name.into()
}

/// What the mark of the store at `path` says; `None` when there is none or it cannot be read.
pub fn read(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(beside(path, "mark")).ok()?;
    text.strip_prefix("commits ")?.strip_suffix('\n')?.parse().ok()
}

/// Writes the mark: it is there whole or not at all.
pub fn write(path: &Path, commits: u64) -> io::Result<()> {
    let new = beside(path, "mark-new");
    let mut file = File::create(&new)?;
    writeln!(file, "commits {commits}")?;
    file.sync_all()?;
    std::fs::rename(new, beside(path, "mark"))?;
    sync_folder(path)
}

/// Makes the names in the folder of `path` durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all()?,
        _ => File::open(".")?.sync_all()?,
    }
    Ok(())
}
