//! Makes an archive.

use super::{ArchiveError, Archived, DATA, Hashing, MANIFEST, Manifest, at};
use crate::private::OURS;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// zstd's own default: what is in the store is small already, or no smaller for more work.
const LEVEL: i32 = 3;

/// A file that goes into the archive.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its name there.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// All that a gateway keeps in its data folder, but what a start makes anew, and what was set aside as damaged.
pub(crate) fn sources(data_dir: &Path) -> Result<Vec<Source>, ArchiveError> {
    let mut found = Vec::new();
    for ours in OURS.into_iter().filter(|ours| *ours != "store.format-1") {
        walk(&data_dir.join(ours), format!("{DATA}/{ours}"), &mut found)?;
    }
    Ok(found)
}

fn walk(path: &Path, name: String, found: &mut Vec<Source>) -> Result<(), ArchiveError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(at(path))?,
    };
    if metadata.is_file() {
        let path = path.to_owned();
        found.push(Source { name, path });
        return Ok(());
    }
    if !metadata.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(at(path))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        let made_anew = ["lock", "ballast", "tables.new"].contains(&file.as_str());
        if !made_anew && !file.contains(".damaged-") && !file.contains(".unreadable-") {
            walk(&entry.path(), format!("{name}/{file}"), found)?;
        }
    }
    Ok(())
}

/// Writes the archive; `manifest` gets the files. It is there whole or not at all, and for its owner alone.
pub(crate) fn pack(
    file: &Path,
    manifest: &mut Manifest,
    sources: &[Source],
    force: bool,
) -> Result<(), ArchiveError> {
    manifest.files = sources.iter().map(describe).collect::<Result<_, _>>()?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Readable for nobody else: so tempfile makes them.
    let new = tempfile::NamedTempFile::new_in(folder).map_err(at(folder))?;
    let mut writer = io::BufWriter::with_capacity(1 << 16, new.as_file());
    write(&mut writer, manifest, sources, file)?;
    writer.flush().map_err(at(file))?;
    drop(writer);
    new.as_file().sync_all().map_err(at(file))?;
    let kept = if force {
        new.persist(file)
    } else {
        new.persist_noclobber(file)
    };
    kept.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => ArchiveError::IsThere(file.to_owned()),
        _ => at(file)(error.error),
    })?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

fn describe(source: &Source) -> Result<Archived, ArchiveError> {
    let told = || at(&source.path);
    let mut file = Hashing::new(File::open(&source.path).map_err(told())?);
    io::copy(&mut file, &mut io::sink()).map_err(told())?;
    let (bytes, sha256) = file.end();
    Ok(Archived {
        path: source.name.clone(),
        bytes,
        sha256,
    })
}

fn write(into: impl Write, manifest: &Manifest, sources: &[Source], file: &Path) -> Result<(), ArchiveError> {
    let mut compressed = zstd::Encoder::new(into, LEVEL).map_err(at(file))?;
    let mut archive = tar::Builder::new(&mut compressed);
    let text = serde_json::to_vec_pretty(manifest).map_err(ArchiveError::Manifest)?;
    let mut header = header(text.len() as u64, manifest.made);
    archive
        .append_data(&mut header, MANIFEST, text.as_slice())
        .map_err(at(file))?;
    for (source, archived) in sources.iter().zip(&manifest.files) {
        let open = File::open(&source.path).map_err(at(&source.path))?;
        let mut read = Hashing::new(open.take(archived.bytes));
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
