//! Makes an archive.

use super::sealed::{Passphrase, Sealing};
use super::unpack::LONGEST_MANIFEST;
use super::{ArchiveError, Archived, DATA, Hashing, MANIFEST, Manifest, Stoppable, at, is_full};
use crate::owner::named;
use crate::private::{self, all_ours};
use rustix::process::geteuid;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

/// zstd's own default: what is in the store is small already, or no smaller for more work.
const LEVEL: i32 = 3;
/// Where a gateway that runs puts copies of its store, each in a folder of its own: beside the files that they are links to.
const EXPORTING: &str = "store/exporting";
/// A copy of the store that nobody has held yet has so long to be held.
const UNHELD: Duration = Duration::from_secs(60);
/// How often it is looked whether the disk has room, in bytes.
const LOOK_EVERY: u64 = 4 << 20;
/// What an archive is called while it is written.
const UNFINISHED: (&str, &str) = (".headgate-export-", ".tmp");

/// A file that goes into the archive.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Its name there.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// How much of it belongs to the archive, of a file that grows.
    pub bytes: Option<u64>,
}

/// All that a gateway keeps in its data folder, but what a start makes anew, and what was set aside as damaged.
pub(super) fn sources(data_dir: &Path) -> Result<Vec<Source>, ArchiveError> {
    let mut found = Vec::new();
    for ours in all_ours().filter(|ours| !ours.starts_with("store.")) {
        walk_ours(data_dir, ours, &mut found)?;
    }
    Ok(found)
}

/// What is kept under one of our names, which may be a link to somewhere else.
fn walk_ours(data_dir: &Path, ours: &str, found: &mut Vec<Source>) -> Result<(), ArchiveError> {
    let path = data_dir.join(ours);
    let path = match fs::canonicalize(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
            return Ok(());
        }
        real => real.map_err(at(&path))?,
    };
    walk(&path, format!("{DATA}/{ours}"), found)
}

/// The same while a gateway runs, which has put these files of its store into a folder ([`empty_snapshot`]).
pub(super) fn sources_of_running(
    data_dir: &Path,
    folder: &Path,
    store: Vec<(String, u64)>,
) -> Result<Vec<Source>, ArchiveError> {
    let store = store.into_iter().map(|(name, bytes)| Source {
        path: folder.join(&name),
        name: format!("{DATA}/store/{name}"),
        bytes: Some(bytes),
    });
    let mut found: Vec<Source> = store.collect();
    for ours in all_ours().filter(|ours| !ours.starts_with("store")) {
        walk_ours(data_dir, ours, &mut found)?;
    }
    Ok(found)
}

/// An empty folder for a copy of the store, and the name by which it is [forgotten](forget_snapshot).
pub(crate) fn empty_snapshot(data_dir: &Path) -> Result<(PathBuf, String), ArchiveError> {
    let all = data_dir.join(EXPORTING);
    forget_unheld(&all);
    let made = fs::create_dir_all(&all).and_then(|()| tempfile::Builder::new().prefix("").tempdir_in(&all));
    let folder = match made {
        Err(error) if is_full(&error) => return Err(ArchiveError::NoRoomForLinks(all)),
        made => made.map_err(at(&all))?.keep(),
    };
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok((folder, name))
}

/// Whoever exports holds the copy until this is dropped: a gateway lets go of one that nobody holds any more when it makes the next.
pub(super) fn hold_snapshot(folder: &Path) -> Result<File, ArchiveError> {
    let held = File::open(folder).map_err(at(folder))?;
    held.lock_shared().map_err(at(folder))?;
    // Who was held once waits for nobody: it counts as old. Where that cannot be said, it is as old as it is.
    let _ = held.set_modified(SystemTime::UNIX_EPOCH);
    Ok(held)
}

/// Removes copies whose export was killed. What cannot be removed goes at the next start.
fn forget_unheld(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let path = entry.path();
        let made = entry.metadata().and_then(|metadata| metadata.modified());
        let age = made
            .ok()
            .and_then(|made| SystemTime::now().duration_since(made).ok());
        let is_free = || File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok());
        if age.is_some_and(|age| age > UNHELD) && is_free() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// What stands in the way of links in this folder, if it is a full disk.
pub(crate) fn no_room_for_links(folder: &Path) -> Option<ArchiveError> {
    let made = tempfile::tempdir_in(folder);
    let is_full = made.is_err_and(|error| is_full(&error));
    is_full.then(|| ArchiveError::NoRoomForLinks(folder.to_owned()))
}

/// Removes such a folder, if it is there.
pub(crate) fn forget_snapshot(data_dir: &Path, name: &str) -> Result<(), ArchiveError> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(ArchiveError::Name(name.to_owned()));
    }
    remove(&data_dir.join(EXPORTING).join(name))
}

/// Removes all that exports have left which were cut off.
pub(crate) fn forget_snapshots(data_dir: &Path) -> Result<(), ArchiveError> {
    remove(&data_dir.join(EXPORTING))
}

fn remove(folder: &Path) -> Result<(), ArchiveError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(folder)(error)),
        _ => Ok(()),
    }
}

fn walk(path: &Path, name: String, found: &mut Vec<Source>) -> Result<(), ArchiveError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(at(path))?,
    };
    if metadata.is_file() {
        let path = path.to_owned();
        found.push(Source {
            name,
            path,
            bytes: None,
        });
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(ArchiveError::Special(path.to_owned()));
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(at(path))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        let made_anew = ["lock", "ballast", "tables.new", "exporting"].contains(&file.as_str());
        if !made_anew && !file.contains(".damaged-") && !file.contains(".unreadable-") {
            walk(&entry.path(), format!("{name}/{file}"), found)?;
        }
    }
    Ok(())
}

/// How an archive is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing<'a> {
    /// Over one that is there.
    pub force: bool,
    /// Encrypted.
    pub passphrase: Option<&'a Passphrase>,
    /// Bytes that stay free on its disk.
    pub reserve: u64,
    /// Whether it is to end early.
    pub stop: &'a CancellationToken,
}

/// Writes the archive; `manifest` gets the files. It is there whole or not at all, and for its owner alone.
pub(super) fn pack(
    file: &Path,
    manifest: &mut Manifest,
    sources: &[Source],
    how: Packing<'_>,
) -> Result<(), ArchiveError> {
    manifest.files = sources
        .iter()
        .map(|source| describe(source, how.stop))
        .collect::<Result<_, _>>()?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    named(|| forget_unfinished(folder));
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    let written = write_new(folder, manifest, sources, file, how);
    let new = written.map_err(|error| match error {
        ArchiveError::File { cause, .. } if is_full(&cause) => ArchiveError::NoRoom {
            folder: folder.to_owned(),
            bytes,
        },
        error => error,
    })?;
    let kept = named(|| match how.force {
        true => new.persist(file),
        false => new.persist_noclobber(file),
    });
    kept.map_err(|error| {
        named(|| drop(error.file));
        match error.error.kind() {
            io::ErrorKind::AlreadyExists => ArchiveError::IsThere(file.to_owned()),
            _ => at(file)(error.error),
        }
    })?;
    named(|| File::open(folder))
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

/// The archive under a name of its own, complete and on the disk.
fn write_new(
    folder: &Path,
    manifest: &Manifest,
    sources: &[Source],
    file: &Path,
    how: Packing<'_>,
) -> Result<NamedTempFile, ArchiveError> {
    let new = named(|| unfinished(folder)).map_err(at(folder))?;
    let mut writer = io::BufWriter::with_capacity(1 << 16, Sparing::new(new.as_file(), folder, how.reserve));
    let written =
        write_to(&mut writer, manifest, sources, file, how).and_then(|()| writer.flush().map_err(at(file)));
    drop(writer);
    match written.and_then(|()| new.as_file().sync_all().map_err(at(file))) {
        Ok(()) => Ok(new),
        Err(error) => {
            named(|| drop(new));
            Err(error)
        }
    }
}

fn write_to(
    mut writer: impl Write,
    manifest: &Manifest,
    sources: &[Source],
    file: &Path,
    how: Packing<'_>,
) -> Result<(), ArchiveError> {
    match how.passphrase {
        None => write(writer, manifest, sources, file, how.stop),
        Some(passphrase) => {
            let mut sealing = Sealing::new(&mut writer, passphrase, file)?;
            write(&mut sealing, manifest, sources, file, how.stop)?;
            sealing.finish().map_err(at(file))
        }
    }
}

/// Bytes that are free for us on the disk of a folder; as many as one likes where the system does not say.
pub(crate) fn free_bytes(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder);
    disk.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What is written is so only while the disk keeps a reserve for others.
pub(super) struct Sparing<'a, W> {
    inner: W,
    folder: &'a Path,
    reserve: u64,
    /// Bytes until it is looked again.
    unlooked: u64,
}

impl<'a, W> Sparing<'a, W> {
    pub(super) fn new(inner: W, folder: &'a Path, reserve: u64) -> Self {
        Self {
            inner,
            folder,
            reserve,
            unlooked: 0,
        }
    }
}

impl<W: Write> Write for Sparing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.reserve > 0 && self.unlooked == 0 {
            if free_bytes(self.folder) < self.reserve.saturating_add(LOOK_EVERY) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.unlooked = LOOK_EVERY;
        }
        let n = self.inner.write(bytes)?;
        self.unlooked = self.unlooked.saturating_sub(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An empty file for an archive, readable for nobody else: so tempfile makes them. It is locked as long as whoever writes it lives.
fn unfinished(folder: &Path) -> io::Result<NamedTempFile> {
    let (prefix, suffix) = UNFINISHED;
    loop {
        let new = tempfile::Builder::new()
            .prefix(prefix)
            .suffix(suffix)
            .tempfile_in(folder)?;
        new.as_file().lock()?;
        // Another export may have taken it for one that was left.
        if new.path().exists() {
            return Ok(new);
        }
    }
}

/// Removes what exports have left here that were killed.
fn forget_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, (prefix, suffix)) = (entry.file_name(), UNFINISHED);
        let is_ours = name
            .to_str()
            .is_some_and(|name| name.starts_with(prefix) && name.ends_with(suffix));
        // Anybody can put a link or a pipe of such a name into a folder for all.
        let is_file = || {
            entry
                .metadata()
                .is_ok_and(|found| found.is_file() && found.uid() == geteuid().as_raw())
        };
        let is_left = || private::open(&entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_ours && is_file() && is_left() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn describe(source: &Source, stop: &CancellationToken) -> Result<Archived, ArchiveError> {
    let told = || at(&source.path);
    let file = File::open(&source.path).map_err(told())?;
    let file = Stoppable {
        inner: file.take(source.bytes.unwrap_or(u64::MAX)),
        stop: stop.clone(),
    };
    let mut file = Hashing::new(file);
    io::copy(&mut file, &mut io::sink()).map_err(told())?;
    let (bytes, sha256) = file.end();
    if source.bytes.is_some_and(|expected| expected != bytes) {
        return Err(ArchiveError::Changed(source.path.clone()));
    }
    Ok(Archived {
        path: source.name.clone(),
        bytes,
        sha256,
    })
}

fn write(
    into: impl Write,
    manifest: &Manifest,
    sources: &[Source],
    file: &Path,
    stop: &CancellationToken,
) -> Result<(), ArchiveError> {
    let mut compressed = zstd::Encoder::new(into, LEVEL).map_err(at(file))?;
    let mut archive = tar::Builder::new(&mut compressed);
    let text = serde_json::to_vec_pretty(manifest).map_err(ArchiveError::Manifest)?;
    if text.len() as u64 > LONGEST_MANIFEST {
        return Err(ArchiveError::LongManifest(LONGEST_MANIFEST));
    }
    let mut header = header(text.len() as u64, manifest.made);
    archive
        .append_data(&mut header, MANIFEST, text.as_slice())
        .map_err(at(file))?;
    for (source, archived) in sources.iter().zip(&manifest.files) {
        let open = File::open(&source.path).map_err(at(&source.path))?;
        let read = Stoppable {
            inner: open.take(archived.bytes),
            stop: stop.clone(),
        };
        let mut read = Hashing::new(read);
        let mut header = self::header(archived.bytes, manifest.made);
        archive
            .append_data(&mut header, &archived.path, &mut read)
            .map_err(at(file))?;
        if read.end() != (archived.bytes, archived.sha256.clone()) {
            return Err(ArchiveError::Changed(source.path.clone()));
        }
    }
    archive.finish().map_err(at(file))?;
    drop(archive);
    compressed.finish().map_err(at(file))?;
    Ok(())
}

fn header(bytes: u64, made: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(made);
    header
}
