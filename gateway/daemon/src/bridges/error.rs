//! What can go wrong with a bridge, in words for operators.

use headgate_bridge::{BridgeSettingsError, CredentialsError, ProvisioningError};
use headgate_client::ClientError;
use headgate_dial::DialError;
use headgate_model::Fault;
use headgate_mqtt_codec::Utf8Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why operators do not get what they want, or a bridge does not reach its remote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BridgeError {
    /// There is none of that name.
    #[error("there is no bridge `{0}`")]
    Unknown(String),
    /// The settings cannot be.
    #[error("{0}")]
    Settings(Fault),
    /// It belongs to the configuration.
    #[error("the bridge `{0}` stands in the configuration: change it there, then reload")]
    Configured(String),
    /// Its files cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// What the remote would be shown cannot be made.
    #[error("login: {0}")]
    Login(#[from] LoginError),
    /// Name, network, proxy, TLS and WebSocket took too long.
    #[error("no answer from {place} within {within:?}")]
    Timeout {
        /// Host and port, or a path.
        place: String,
        /// How long we waited.
        within: Duration,
    },
    /// The remote is not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The service that names the remote does not.
    #[error("provisioning: {0}")]
    Provisioning(#[from] RegisterError),
}

impl From<Fault> for BridgeError {
    fn from(fault: Fault) -> Self {
        Self::Settings(fault)
    }
}

impl From<BridgeSettingsError> for BridgeError {
    fn from(error: BridgeSettingsError) -> Self {
        Self::Settings(error.fault())
    }
}

/// Why a bridge has no user name or password to show. Passwords and keys are never shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// MQTT cannot carry them.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A user name or client identifier is no MQTT string.
    #[error(transparent)]
    Text(#[from] Utf8Error),
    /// A file cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// What a file or a command says is no text.
    #[error("{origin}: not UTF-8")]
    NotUtf8 {
        /// The file or the command.
        origin: String,
    },
    /// What a file or a command says is too long, or nothing.
    #[error("{origin}: a password of 1 to {longest} bytes is wanted, there are {len}")]
    Length {
        /// The file or the command.
        origin: String,
        /// Bytes that there are.
        len: usize,
        /// Bytes that there may be.
        longest: usize,
    },
    /// A command does not end.
    #[error("`{program}` took more than {limit:?}")]
    Slow {
        /// The command.
        program: String,
        /// How long it may take.
        limit: Duration,
    },
    /// A command cannot be run.
    #[error("`{program}`: {cause}")]
    Command {
        /// The command.
        program: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A command ended with an error.
    #[error("`{program}` failed: {status}")]
    Failed {
        /// The command.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The key of a shared access signature is none.
    #[error("sas.key: the key is not base64")]
    SasKey,
    /// Nothing can be signed with the key of a JSON Web Token.
    #[error("{path}: {cause}")]
    Jwt {
        /// The key's file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: jsonwebtoken::errors::Error,
    },
}

/// Why the service that names a remote said nothing that helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// What we would show it cannot be made.
    #[error(transparent)]
    Credentials(#[from] LoginError),
    /// The way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its answer.
    #[error(transparent)]
    Answer(#[from] ProvisioningError),
}
