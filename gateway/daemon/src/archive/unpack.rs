//! Reads an archive. Nothing that it says is believed: names are those that a gateway keeps, lengths and sums those of the manifest.

use super::sealed::{Opened, Passphrase, is_sealed};
use super::{
    ArchiveError, Archived, CONFIGURATION, FORMAT, Hashing, MANIFEST, Manifest, at, belongs, is_full,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Bytes of a manifest, which has some 150 for each file, and of a configuration.
const LONGEST: u64 = 64 << 20;

type Files = tar::Archive<zstd::Decoder<'static, BufReader<Box<dyn Read>>>>;

fn open(file: &Path, passphrase: Option<&Passphrase>) -> Result<Files, ArchiveError> {
    let is_sealed = is_sealed(file)?;
    let read = File::open(file).map_err(at(file))?;
    let compressed: Box<dyn Read> = match (is_sealed, passphrase) {
        (true, Some(passphrase)) => Box::new(Opened::new(BufReader::new(read), passphrase)?),
        (true, None) => return Err(ArchiveError::Sealed),
        (false, Some(_)) => return Err(ArchiveError::NotSealed),
        (false, None) => Box::new(read),
    };
    let decoder = zstd::Decoder::new(compressed).map_err(ArchiveError::NotAnArchive)?;
    Ok(tar::Archive::new(decoder))
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
    let mut archive = open(file, passphrase)?;
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
    if name != CONFIGURATION.as_bytes() || archived.bytes > LONGEST {
        return Err(damaged());
    }
    let (mut text, mut read) = (Vec::new(), Hashing::new(entry.take(LONGEST)));
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
    let mut text = Vec::new();
    let mut first = first.take(LONGEST);
    first.read_to_end(&mut text).map_err(ArchiveError::NotAnArchive)?;
    // First the form: of another one nothing else is known.
    let value: Value = serde_json::from_slice(&text).map_err(ArchiveError::Manifest)?;
    let format = value["format"].as_u64().unwrap_or_default();
    if format != u64::from(FORMAT) {
        let gateway = value["gateway"].as_str().unwrap_or("of another kind").to_owned();
        return Err(ArchiveError::Format { format, gateway });
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(ArchiveError::Manifest)?;
    match manifest.files.iter().find(|file| !belongs(&file.path)) {
        Some(file) => Err(ArchiveError::Name(file.path.clone())),
        None => Ok(manifest),
    }
}

/// Writes all files into an empty folder, and to the disk.
pub(super) fn unpack(
    file: &Path,
    passphrase: Option<&Passphrase>,
    into: &Path,
) -> Result<Manifest, ArchiveError> {
    let mut archive = open(file, passphrase)?;
    let mut entries = Entries::of(&mut archive)?;
    let manifest = manifest(&mut entries)?;
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
        let taken = take(&mut entry, archived, &into.join(&archived.path));
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
        bytes: manifest
            .files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.bytes)),
    }
}

fn take(entry: &mut impl Read, archived: &Archived, path: &Path) -> Result<(), ArchiveError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(at(folder))?;
    }
    let mut file = File::create_new(path).map_err(at(path))?;
    // One byte more than there should be shows that there is more.
    let mut read = Hashing::new(entry.take(archived.bytes.saturating_add(1)));
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = read.read(&mut piece).map_err(ArchiveError::NotAnArchive)?;
        if n == 0 {
            break;
        }
        io::Write::write_all(&mut file, &piece[..n]).map_err(at(path))?;
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
