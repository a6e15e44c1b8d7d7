//! Small files that are replaced as a whole: whoever reads one, also after a power cut, finds the old or the new one.

use serde::Serialize;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of any file that the gateway keeps for itself: what is longer is none.
pub const LONGEST: u64 = 256 << 20;

/// Opens a file to read it. What is none, such as a pipe, which would be waited for, is an error.
pub fn open(path: &Path) -> io::Result<File> {
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(without_waiting).open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(rustix::io::Errno::ISDIR.into()),
        false => Err(io::Error::other("it is no file")),
    }
}

/// What stands in a file. More than `longest` bytes are an error.
pub fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(longest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > longest {
        true => Err(io::Error::other(format!("it has more than {longest} bytes"))),
        false => Ok(bytes),
    }
}

/// Puts a file, which its owner alone may read, in the place of another, or where there was none. It is on the disk when this returns. Meanwhile it
/// stands beside as `NAME.new`.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, None)
}

/// The same for a file of somebody else, who keeps what others may do with it. A link to it stays one.
pub fn replace_foreign(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let known = fs::metadata(&path)?;
    replace_as(&path, bytes, Some(&known))
}

/// Removes a file, if there is one: it does not come back by a power cut.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed?,
    }
    File::open(folder_of(path))?.sync_all()
}

/// [`replace`] with a value as JSON. The folder is made.
pub(crate) fn replace_with_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    fs::create_dir_all(folder_of(path))?;
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    replace(path, &bytes)
}

/// The folder in which a file is, or would be.
pub fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn replace_as(path: &Path, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // What was cut off is begun anew, and nobody has a link waiting there.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&new)?;
    let written = write(file, folder_of(path), bytes, like);
    // Half a file would take the space that others need.
    let placed = written.and_then(|()| fs::rename(&new, path));
    placed.inspect_err(|_| drop(fs::remove_file(&new)))?;
    File::open(folder_of(path))?.sync_all()
}

fn write(mut file: File, folder: &Path, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
    if let Some(known) = like {
        // Who is not its owner cannot give it away: then it is ours.
        let _ = std::os::unix::fs::fchown(&file, Some(known.uid()), Some(known.gid()));
        file.set_permissions(known.permissions())?;
    } else if file.metadata()?.uid() == 0 {
        // Made by root, for whoever has the folder. A root of a container may not be able to.
        let folder = fs::metadata(folder)?;
        let _ = std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()));
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn ours_is_private_and_a_foreign_one_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        replace(&path("ours"), b"a").unwrap();
        replace(&path("ours"), b"b").unwrap();
        fs::write(path("theirs.toml"), "a").unwrap();
        fs::set_permissions(path("theirs.toml"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink(path("theirs.toml"), path("link")).unwrap();
        replace_foreign(&path("link"), b"b").unwrap();
        assert_eq!((mode("ours"), mode("theirs.toml")), (0o600, 0o640));
        for name in ["ours", "theirs.toml", "link"] {
            assert_eq!(fs::read(path(name)).unwrap(), b"b", "{name}");
        }
        assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());

        for _ in 0..2 {
            remove(&path("ours")).unwrap();
        }
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
