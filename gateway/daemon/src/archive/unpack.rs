//! Reads an archive. Nothing that it says is believed: names are those that a gateway keeps, lengths and sums those of the manifest.

use super::pack::{Sparing, free_bytes};
use super::sealed::{Opened, Passphrase, is_sealed};
use super::{
    ArchiveError, Archived, CONFIGURATION, FORMAT, Hashing, MANIFEST, Manifest, Stoppable, at, belongs,
    is_full,
};
use crate::owner::named;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Bytes of a manifest. Each file has some 200 of them, so it has room for 20,000: a store of more than 100 GiB in its segments of 8 MiB, and nothing else that
/// a gateway keeps has thousands of files. What is made of it in memory is 20 times as long at worst.
pub(super) const LONGEST_MANIFEST: u64 = 4 << 20;
/// Bytes of a configuration, as many as a start reads.
const LONGEST_CONFIGURATION: u64 = 16 << 20;
/// Bytes of all other files but those of the store and traces: the next start reads each as a whole. Users have some 300 bytes each.
const LONGEST_FILE: u64 = 32 << 20;
/// What of an archive is needed to decompress the rest is kept in memory: 2 to this power bytes, four times as many as our own archives want.
const WINDOW: u32 = 23;
/// Characters of the version of a gateway that nothing else is known of.
const LONGEST_VERSION: usize = 64;

/// An archive, and how it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unpacking<'a> {
    /// The archive.
    pub file: &'a Path,
    /// What it is encrypted by.
    pub passphrase: Option<&'a Passphrase>,
    /// Bytes that stay free on the disk.
    pub reserve: u64,
    /// Whether it is to end early.
    pub stop: &'a CancellationToken,
}

type Files = tar::Archive<Stoppable<zstd::Decoder<'static, BufReader<Box<dyn Read>>>>>;

fn open(
    file: &Path,
    passphrase: Option<&Passphrase>,
    stop: &CancellationToken,
) -> Result<Files, ArchiveError> {
    let is_sealed = named(|| is_sealed(file))?;
    let read = named(|| File::open(file)).map_err(at(file))?;
    let compressed: Box<dyn Read> = match (is_sealed, passphrase) {
        (true, Some(passphrase)) => Box::new(Opened::new(BufReader::new(read), passphrase)?),
        (true, None) => return Err(ArchiveError::Sealed),
        (false, Some(_)) => return Err(ArchiveError::NotSealed),
        (false, None) => Box::new(read),
    };
    let mut decoder = zstd::Decoder::new(compressed).map_err(ArchiveError::NotAnArchive)?;
    decoder
        .window_log_max(WINDOW)
        .map_err(ArchiveError::NotAnArchive)?;
    Ok(tar::Archive::new(Stoppable {
        inner: decoder,
        stop: stop.clone(),
    }))
}

/// Bytes of a name.
const LONGEST_NAME: u64 = 4_096;

/// A file with its name.
type Named<'a, R> = (Vec<u8>, tar::Entry<'a, R>);

/// The entries as they stand in the archive: the library would read whatever describes the next one whole, however long it is.
struct Entries<'a, R: Read>(std::iter::Fuse<tar::Entries<'a, R>>);

impl<'a, R: Read> Entries<'a, R> {
    fn of(archive: &'a mut tar::Archive<R>) -> Result<Self, ArchiveError> {
        let entries = archive.entries().map_err(ArchiveError::NotAnArchive)?;
        Ok(Self(entries.raw(true).fuse()))
    }

    /// The next file, with its name.
    fn next(&mut self) -> Option<Result<Named<'a, R>, ArchiveError>> {
        let mut long_name = None;
        loop {
            let mut entry = match self.0.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(ArchiveError::NotAnArchive(error))),
            };
            let kind = entry.header().entry_type();
            let name = long_name
                .take()
                .unwrap_or_else(|| entry.path_bytes().into_owned());
            if kind.is_file() {
                return Some(Ok((name, entry)));
            }
            // GNU's way to write a name that is too long for a header.
            if !kind.is_gnu_longname() || entry.size() > LONGEST_NAME {
                return Some(Err(ArchiveError::Name(
                    String::from_utf8_lossy(&name).into_owned(),
                )));
            }
            let mut bytes = Vec::new();
            if let Err(error) = entry.read_to_end(&mut bytes) {
                return Some(Err(ArchiveError::NotAnArchive(error)));
            }
            bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
            long_name = Some(bytes);
        }
    }
}

/// What the archive says it holds, and its configuration's text.
pub(crate) fn look_into(
    file: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<(Manifest, Option<String>), ArchiveError> {
    let mut archive = open(file, passphrase, &CancellationToken::new())?;
    let mut entries = Entries::of(&mut archive)?;
    let manifest = manifest(&mut entries)?;
    // It comes next, if it is there.
    let Some(archived) = manifest.files.iter().find(|file| file.path == CONFIGURATION) else {
        return Ok((manifest, None));
    };
    let entry = entries
        .next()
        .ok_or_else(|| ArchiveError::Missing(CONFIGURATION.into()))?;
    let (name, entry) = entry?;
    let damaged = || ArchiveError::Damaged(CONFIGURATION.into());
    if name != CONFIGURATION.as_bytes() || archived.bytes > LONGEST_CONFIGURATION {
        return Err(damaged());
    }
    let (mut text, mut read) = (Vec::new(), Hashing::new(entry.take(LONGEST_CONFIGURATION)));
    read.read_to_end(&mut text).map_err(ArchiveError::NotAnArchive)?;
    if read.end() != (archived.bytes, archived.sha256.clone()) {
        return Err(damaged());
    }
    let text = String::from_utf8(text).map_err(|_| damaged())?;
    Ok((manifest, Some(text)))
}

fn manifest<R: Read>(entries: &mut Entries<'_, R>) -> Result<Manifest, ArchiveError> {
    let (name, first) = entries.next().ok_or(ArchiveError::NoManifest)??;
    if name != MANIFEST.as_bytes() {
        return Err(ArchiveError::NoManifest);
    }
    if first.size() > LONGEST_MANIFEST {
        return Err(ArchiveError::LongManifest(LONGEST_MANIFEST));
    }
    let mut text = Vec::new();
    let mut first = first.take(LONGEST_MANIFEST);
    first.read_to_end(&mut text).map_err(ArchiveError::NotAnArchive)?;
    // First the form: of another one nothing else is known.
    let form: Form = serde_json::from_slice(&text).map_err(ArchiveError::Manifest)?;
    if form.format != u64::from(FORMAT) {
        let gateway = form.gateway.chars().take(LONGEST_VERSION).collect();
        return Err(ArchiveError::Format {
            format: form.format,
            gateway,
        });
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(ArchiveError::Manifest)?;
    for Archived { path, bytes, .. } in &manifest.files {
        if !belongs(path) {
            return Err(ArchiveError::Name(path.clone()));
        }
        let is_read_whole = !["data/store/", "data/traces/"]
            .iter()
            .any(|folder| path.starts_with(folder));
        if is_read_whole && *bytes > LONGEST_FILE {
            return Err(ArchiveError::LongFile {
                name: path.clone(),
                bytes: *bytes,
                most: LONGEST_FILE,
            });
        }
    }
    Ok(manifest)
}

/// What the manifests of all forms say. Whatever else stands there is passed over.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    format: u64,
    #[serde(default = "of_another_kind")]
    gateway: String,
}

fn of_another_kind() -> String {
    "of another kind".to_owned()
}

/// Writes all files into an empty folder, and to the disk.
pub(super) fn unpack(how: Unpacking<'_>, into: &Path) -> Result<Manifest, ArchiveError> {
    let mut archive = open(how.file, how.passphrase, how.stop)?;
    let mut entries = Entries::of(&mut archive)?;
    let manifest = manifest(&mut entries)?;
    if bytes_of(&manifest) > free_bytes(into).saturating_sub(how.reserve) {
        return Err(no_room(into, &manifest));
    }
    let mut wanted: BTreeMap<&str, &Archived> = manifest
        .files
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    while let Some(entry) = entries.next() {
        let (name, mut entry) = entry?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let archived = wanted.remove(name.as_str());
        let archived = archived.ok_or(ArchiveError::Name(name))?;
        let taken = take(&mut entry, archived, &into.join(&archived.path), how.reserve);
        taken.map_err(|error| match error {
            ArchiveError::File { cause, .. } if is_full(&cause) => no_room(into, &manifest),
            error => error,
        })?;
    }
    if let Some(missing) = wanted.keys().next() {
        return Err(ArchiveError::Missing((*missing).to_owned()));
    }
    sync_folders(into).map_err(at(into))?;
    Ok(manifest)
}

fn no_room(into: &Path, manifest: &Manifest) -> ArchiveError {
    ArchiveError::NoRoomToRestore {
        folder: into.parent().unwrap_or(into).to_owned(),
        bytes: bytes_of(manifest),
    }
}

/// Of all files.
fn bytes_of(manifest: &Manifest) -> u64 {
    let bytes = manifest.files.iter().map(|file| file.bytes);
    bytes.fold(0, u64::saturating_add)
}

fn take(entry: &mut impl Read, archived: &Archived, path: &Path, reserve: u64) -> Result<(), ArchiveError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut file = File::create_new(path).map_err(at(path))?;
    let mut sparing = Sparing::new(&mut file, folder, reserve);
    // One byte more than there should be shows that there is more.
    let mut read = Hashing::new(entry.take(archived.bytes.saturating_add(1)));
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = read.read(&mut piece).map_err(ArchiveError::NotAnArchive)?;
        if n == 0 {
            break;
        }
        sparing.write_all(&piece[..n]).map_err(at(path))?;
    }
    if read.end() != (archived.bytes, archived.sha256.clone()) {
        return Err(ArchiveError::Damaged(archived.path.clone()));
    }
    file.sync_all().map_err(at(path))
}

fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}
