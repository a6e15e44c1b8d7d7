//! Room that is kept back, so that the store can still delete, and start, when the disk is full.

use super::DiskStore;
use crate::open;
use crate::tables::{Opened, Tables};
use headgate_model::StoreError;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl DiskStore {
    pub(super) fn ballast_path(&self) -> PathBuf {
        ballast(&self.folder)
    }

    /// Puts the ballast there if there is room for it.
    pub(super) fn load_ballast(&mut self) {
        let (path, bytes) = (self.ballast_path(), self.settings.ballast_bytes);
        self.ballast = std::fs::metadata(&path).is_ok_and(|data| data.len() == bytes);
        if self.ballast {
            return;
        }
        let written = File::create(&path).and_then(|mut file| {
            io::copy(&mut io::Read::take(io::repeat(0xA5), bytes), &mut file)?;
            file.sync_all()
        });
        self.ballast = written.is_ok();
        if written.is_err() {
            let _ = std::fs::remove_file(path); // It is only in the way.
        }
    }

    pub(super) fn drop_ballast(&mut self) {
        tracing::error!("the disk is full: only what frees space is written until there is room again");
        self.ballast = false;
        self.last_retry = Instant::now();
        let _ = std::fs::remove_file(self.ballast_path()); // If not, the next try fails as the last one did.
    }
}

fn ballast(folder: &Path) -> PathBuf {
    folder.join("ballast")
}

/// Opens the tables, on a full disk too: with the ballast's room, or else with the export's rows for the time being. The latter is said by the second.
pub(super) fn open_tables(folder: &Path, sync: bool, max_bytes: u64) -> Result<(Opened, bool), StoreError> {
    let error = match Tables::open(folder, sync, max_bytes) {
        Ok(opened) => return Ok((opened, false)),
        Err(error) => error,
    };
    if !open::is_full(&folder.join("tables")) {
        return Err(error);
    }
    tracing::error!(%error, "the disk is full: what is there can be read, and only what frees space is written until there is room again");
    if std::fs::remove_file(ballast(folder)).is_ok()
        && let Ok(opened) = Tables::open(folder, sync, max_bytes)
    {
        return Ok((opened, false));
    }
    let opened = Tables::borrow_export(folder, sync, max_bytes).ok_or(error)?;
    Ok((opened, true))
}
