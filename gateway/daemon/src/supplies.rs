//! What protocols need from folders, such as object definitions and firmware packages: read with the configuration, and again when a folder changes.
//!
//! Always true: one file that cannot be read leaves the others as they are; what has not changed is not read again.

use crate::config::Config;
use crate::live::Live;
use crate::protocols::{self, Read};
use bytes::Bytes;
use headgate_model::{Fault, Files};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Folders are looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// Files of one folder.
const MOST_FILES: usize = 10_000;
/// Bytes of all files of one folder: they are kept in memory.
const MOST_BYTES: u64 = 256 << 20;

/// How a folder was when it was looked at: names, sizes and times of its files.
type Looks = Vec<(String, u64, Option<SystemTime>)>;

/// What was read of folders, and how they were then.
static KEPT: Mutex<BTreeMap<PathBuf, (Looks, Read)>> = Mutex::new(BTreeMap::new());

/// What keeps the gateway from a start: folders that are not there.
pub(crate) fn obstacles(config: &Config) -> Vec<Fault> {
    let folders = protocols::folders(config).into_iter();
    let fault = |(key, folder): (String, PathBuf)| {
        let error = look(&folder).err()?;
        Some(Fault::new(key, format!("{}: {error}", folder.display())))
    };
    folders.filter_map(fault).collect()
}

/// Reads what is needed. What cannot be read is told, and left out.
pub(crate) fn load(config: &mut Config) -> Vec<Fault> {
    protocols::supply(config, &mut read)
}

/// Looks at the folders again and again, and lets servers have what has changed.
pub(crate) async fn keep(live: Live) {
    loop {
        tokio::time::sleep(LOOK).await;
        live.renew_supplies().await;
    }
}

/// The files of a folder, by name; hidden ones are not looked at.
fn look(folder: &Path) -> io::Result<Looks> {
    let mut looks = Looks::new();
    for entry in fs::read_dir(folder)?.take(MOST_FILES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let facts = fs::metadata(entry.path())?;
        if facts.is_file() && !name.starts_with('.') {
            looks.push((name, facts.len(), facts.modified().ok()));
        }
    }
    looks.sort();
    Ok(looks)
}

/// The files of a folder: as they were read before, if nothing has changed.
fn read(folder: &Path) -> Read {
    let mut kept = KEPT.lock();
    let known = kept.get(folder);
    let looks = match look(folder) {
        Ok(looks) => looks,
        // What was there stays valid while the folder is away.
        Err(error) => {
            let files = known.map(|(_, (files, _))| Arc::clone(files));
            return (
                files.unwrap_or_default(),
                vec![format!("{}: {error}", folder.display())],
            );
        }
    };
    if let Some((before, read)) = known
        && *before == looks
    {
        return read.clone();
    }
    let (files, told) = files(folder, &looks);
    let read = (Arc::new(files), told);
    kept.insert(folder.to_owned(), (looks, read.clone()));
    read
}

fn files(folder: &Path, looks: &Looks) -> (Files, Vec<String>) {
    let mut files = Files::new();
    let mut told = Vec::new();
    let mut all = 0;
    for (name, bytes, _) in looks {
        let path = folder.join(name);
        all += bytes;
        if all > MOST_BYTES {
            let what = format!(
                "{}: the files are longer than {MOST_BYTES} bytes together",
                path.display()
            );
            told.push(what);
            break;
        }
        match fs::read(&path) {
            Ok(body) => drop(files.insert(name.clone(), Bytes::from(body))),
            Err(error) => told.push(format!("{}: {error}", path.display())),
        }
    }
    (files, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("meter-2.bin"), b"FW").unwrap();
        fs::write(folder.path().join(".part"), b"x").unwrap();
        let (files, told) = read(folder.path());
        assert_eq!(files.keys().collect::<Vec<_>>(), ["meter-2.bin"]);
        assert_eq!((&files["meter-2.bin"][..], told.len()), (&b"FW"[..], 0));
        assert!(Arc::ptr_eq(&files, &read(folder.path()).0));
        fs::write(folder.path().join("meter-3.bin"), b"FW3").unwrap();
        assert_eq!(read(folder.path()).0.len(), 2);
        let path = folder.path().to_owned();
        drop(folder);
        let (files, told) = read(&path);
        assert_eq!((files.len(), told.len()), (2, 1), "what was there stays valid");
    }
}
