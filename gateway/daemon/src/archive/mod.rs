//! All that a gateway keeps, in one file: a tar archive, compressed with zstd.
//!
//! It begins with `manifest.json`, which says what form the archive has, which gateway made it and what is in it: each file with its length and SHA-256. Then
//! come the configuration, and what is in the data folder. Another form has another [`FORMAT`]. With a passphrase all of that is [encrypted](sealed).
//!
//! What is taken over from an archive is [unpacked](unpack) beside the data, checked, and only then [put in its place](place).

mod make;
mod pack;
mod place;
mod sealed;
mod take;
mod unpack;

pub(crate) use make::{Making, Snapshot};
pub(crate) use pack::{empty_snapshot, forget_snapshot, forget_snapshots, free_bytes, no_room_for_links};
pub(crate) use place::{
    Hold, UNFINISHED, finish_waiting, forget_restoring, forget_taken, is_foreign, place, replaced_by_restore,
    taken, wait_for_start, withdraw,
};
pub(crate) use sealed::{Passphrase, is_sealed, look_at_header};
pub(crate) use take::{Outward, Taking, brought, files_outside};
pub(crate) use unpack::look_into;

use crate::private::{AUDIT, FILES, FOLDERS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Component, Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// The form of the archives that this gateway makes and reads.
const FORMAT: u32 = 1;
/// Names in the archive.
const MANIFEST: &str = "manifest.json";
const CONFIGURATION: &str = "configuration/headgate.toml";
const USERS: &str = "configuration/users.json";
const ACL: &str = "configuration/acl/";
const DATA: &str = "data";

/// What is in an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The form.
    pub format: u32,
    /// The version of the gateway that made it.
    pub gateway: String,
    /// That gateway's name.
    pub node: String,
    /// Seconds since 1970.
    pub made: u64,
    /// What its store holds; `None` where it keeps none.
    pub store: Option<Holds>,
    /// The gateway ran meanwhile: the store holds what it held a moment before or after that was counted.
    #[serde(default)]
    pub running: bool,
    /// Users who may connect.
    pub users: usize,
    /// All files, in their order.
    pub files: Vec<Archived>,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Holds {
    pub sessions: usize,
    pub subscriptions: usize,
    pub queued: u64,
    pub retained: usize,
    pub delayed: usize,
    /// What could not be read when the archive was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

/// A file of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Archived {
    /// Its name in the archive, `data/users.json`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// Why an archive cannot be made, or taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// A file or folder cannot be read or written.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The disk is full onto which an archive is written.
    #[error(
        "no room in {} for the archive, which takes up to {bytes} bytes: free some there, or name a file on another disk; nothing was left behind", .folder.display()
    )]
    NoRoom {
        /// Where it was written.
        folder: PathBuf,
        /// Bytes of what goes into it.
        bytes: u64,
    },
    /// The disk is full onto which an archive is restored.
    #[error(
        "no room in {} for what is in the archive, {bytes} bytes: free some there, or name another data folder (data_dir); nothing was changed", .folder.display()
    )]
    NoRoomToRestore {
        /// Where it was written.
        folder: PathBuf,
        /// Bytes of all its files.
        bytes: u64,
    },
    /// The disk of the gateway is full.
    #[error(
        "no room in {} for links to the files of the store, which take some KiB: the gateway's disk is full; free some there, and export to another disk", .0.display()
    )]
    NoRoomForLinks(PathBuf),
    /// The gateway runs with another data folder by now.
    #[error("the data went to another folder meanwhile (data_dir): try again")]
    Moved,
    /// A gateway, or another command, has the data.
    #[error("{}: a gateway runs with this data folder, or another command works on it: stop it first", .0.display())]
    InUse(PathBuf),
    /// The target of an export.
    #[error("{} is there already: name another file, or write over it (--force)", .0.display())]
    IsThere(PathBuf),
    /// The archive names a folder of somebody else.
    #[error(
        "{}: the archive's configuration has its data there, and what is there is no gateway's: name a configuration of your own (--config), or let the archive choose (--outside)", .0.display()
    )]
    Chosen(PathBuf),
    /// The target of a restore.
    #[error("{}: holds data already: with --force they are put aside, into a folder there", .0.display())]
    HasData(PathBuf),
    /// Certificates of before and new ones.
    #[error("{}: a provisioning file is not done to its end: the next start of the gateway goes on with it", .0.display())]
    HalfProvisioned(PathBuf),
    /// A file of users outside the data folder.
    #[error("{}: there are users already: with --force those of the archive take their place", .0.display())]
    HasUsers(PathBuf),
    /// It is no file and no folder.
    #[error("{}: neither a file nor a folder, so it cannot be put into an archive", .0.display())]
    Special(PathBuf),
    /// A store that is to be there.
    #[error("{}: the store has no file: nothing of it would be in the archive", .0.display())]
    NoStore(PathBuf),
    /// A file outside the folders that a restore is about.
    #[error(
        "{}: the archive's configuration wants this file, which is neither in the data folder nor beside the configuration: --outside lets it be written", .0.display()
    )]
    Outside(PathBuf),
    /// Something wrote to a file meanwhile.
    #[error("{} was changed while it was read", .0.display())]
    Changed(PathBuf),
    /// It is no archive, or cut off.
    #[error("no archive of `headgate export`, or a damaged one: {0}")]
    NotAnArchive(io::Error),
    /// Nobody has so many files.
    #[error("a damaged archive: {MANIFEST} has more than {0} bytes")]
    LongManifest(u64),
    /// Files that are read whole have an end.
    #[error("the archive holds `{name}` with {bytes} bytes: no gateway has one of more than {most}")]
    LongFile {
        /// Its name.
        name: String,
        /// Its length.
        bytes: u64,
        /// What it may have.
        most: u64,
    },
    /// Read by the code that the next start reads it with.
    #[error("the gateway would not start with what is in the archive: {0}")]
    Unfit(String),
    /// The gateway stops.
    #[error("the gateway stops, so this was not done, and nothing was changed")]
    Stopped,
    /// It does not begin with a manifest.
    #[error("no archive of `headgate export`: it does not begin with {MANIFEST}")]
    NoManifest,
    /// The manifest is none.
    #[error("a damaged archive: {MANIFEST}: {0}")]
    Manifest(#[source] serde_json::Error),
    /// Made by a gateway that is newer.
    #[error(
        "the archive has format {format} and was made by headgate {gateway}: this one reads format {FORMAT}"
    )]
    Format {
        /// Its form.
        format: u64,
        /// Who made it.
        gateway: String,
    },
    /// A name that leads elsewhere, or to what a gateway does not keep.
    #[error("the archive holds `{0}`, which does not belong into one")]
    Name(String),
    /// A file is not what the manifest says.
    #[error("a damaged archive: {0} is not what the manifest says")]
    Damaged(String),
    /// A file that the manifest has is not there.
    #[error("a damaged archive: {0} is missing")]
    Missing(String),
    /// It is encrypted.
    #[error("the archive is encrypted: it takes its passphrase to read it")]
    Sealed,
    /// It is not, though whoever reads it says so.
    #[error("the archive is not encrypted: leave the passphrase out, if you trust who gave it to you")]
    NotSealed,
    /// It is another one.
    #[error("the passphrase is not that of the archive")]
    WrongPassphrase,
    /// Anybody would find it.
    #[error("a passphrase has {0} characters at least")]
    ShortPassphrase(usize),
    /// Trying the passphrase would take all memory.
    #[error(
        "the archive's passphrase takes 2^{0} rounds of scrypt, which is more than is done here: decrypt it with `age` on a larger machine"
    )]
    Work(u8),
    /// Users cannot be read.
    #[error(transparent)]
    Users(#[from] headgate_auth::UsersError),
    /// The store does not open.
    #[error("{}: {cause}", .path.display())]
    Store {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: headgate_model::StoreError,
    },
}

/// An error with the path that it is about.
fn at(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    |cause| ArchiveError::File { path, cause }
}

/// Whether the system said that the disk is full.
fn is_full(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether a file of this name may be in an archive: there are none but files, so its name says of which kind all above it are.
fn belongs(name: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let path = Path::new(name);
    if name.contains(['\\', '\0']) || !path.components().all(plain) || name.ends_with('/') {
        return false;
    }
    match name.split_once('/') {
        // A file where a folder belongs, or a folder where a file does, would keep the gateway from starting.
        Some((DATA, inside)) => match inside.split_once('/') {
            Some((folder, _)) => FOLDERS.contains(&folder),
            None => FILES.contains(&inside) || AUDIT.contains(&inside),
        },
        _ => name == CONFIGURATION || name == USERS || name.starts_with(ACL),
    }
}

/// The SHA-256 of what goes through.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// What went through.
    fn end(self) -> (u64, String) {
        let hash = self.hash.finalize();
        (
            self.bytes,
            hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        )
    }
}

/// Reads until the gateway stops.
struct Stoppable<T> {
    inner: T,
    stop: CancellationToken,
}

impl<T: io::Read> io::Read for Stoppable<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.stop.is_cancelled() {
            // Whoever has the token says it in its own words.
            true => Err(io::Error::other("the gateway stops")),
            false => self.inner.read(buf),
        }
    }
}

/// What has failed because the gateway stops has no other cause.
fn unless_stopped<T>(done: Result<T, ArchiveError>, stop: &CancellationToken) -> Result<T, ArchiveError> {
    match stop.is_cancelled() {
        true => done.map_err(|_| ArchiveError::Stopped),
        false => done,
    }
}

impl<T: io::Read> io::Read for Hashing<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
