//! What can go wrong before a command has its answer.

use crate::api::ControlError;
use crate::archive::ArchiveError;
use crate::config::ConfigError;
use std::io;
use std::path::PathBuf;

/// Why a command has no answer, or not what it needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The gateway does not answer, or refuses.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// An archive cannot be made or read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A bridge of the configuration that the running gateway has not read.
    #[error("the running gateway has no bridge `{0}` yet, the configuration has: `headgate reload` first")]
    NotTaken(String),
    /// A file that an argument names cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// What would be written over.
    #[error("{} is there already: name another file (--output), or write over it (--force)", .0.display())]
    IsThere(PathBuf),
    /// Users cannot be written.
    #[error(transparent)]
    Users(#[from] headgate_auth::UsersError),
    /// Administrators cannot be read or changed.
    #[error(transparent)]
    Admin(#[from] headgate_admin::AdminError),
    /// It was told to begin anew.
    #[error("the gateway does not serve again after {0} s: see its log")]
    NotAgain(u64),
    /// RAUC or the gateway refused it.
    #[error("the update is not installed: {0}")]
    NotInstalled(String),
    /// A provisioning file is not taken.
    #[error(transparent)]
    Provisioning(#[from] crate::provisioning::ProvisioningError),
    /// A provisioning file says nothing that can be done.
    #[error("{}: {cause}", .path.display())]
    ProvisioningFile {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        cause: crate::provisioning::DocumentError,
    },
    /// Nobody who may has signed a provisioning file.
    #[error("{}: {cause} (the key is {})", .path.display(), .key.display())]
    NotVerified {
        /// Which file.
        path: PathBuf,
        /// By which key.
        key: PathBuf,
        /// Why not.
        cause: crate::provisioning::SignedError,
    },
    /// A key that others may have put there.
    #[error("{}: root does not believe this key, for {} {why}", .key.display(), .path.display())]
    NotRoots {
        /// The key.
        key: PathBuf,
        /// It, or a folder above.
        path: PathBuf,
        /// What is wrong with that.
        why: &'static str,
    },
    /// Nothing says which gateway is meant.
    #[error("there is no gateway in {}: `--config FILE` or HEADGATE_CONFIG says which one is meant", .0.display())]
    NoGateway(PathBuf),
    /// A configuration that waits cannot be taken back.
    #[error(transparent)]
    Apply(#[from] crate::live::ApplyError),
    /// It was accepted, and could not be done.
    #[error("the gateway has begun anew without the provisioning file: {0}")]
    NotProvisioned(String),
    /// It was accepted, and is not done yet.
    #[error(
        "{0}; the file is accepted and waits: once that is mended, the next start of the gateway takes it, or `headgate provision finish`"
    )]
    ProvisioningWaits(crate::provisioning::ProvisioningError),
    /// There is no such ban.
    #[error("{0} is not banned")]
    NotBanned(String),
    /// The terminal, standard input or the runtime failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
