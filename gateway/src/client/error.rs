//! What can go wrong between us and a server, in words for whoever typed the command.

use headgate_mqtt_codec::{DecodeError, ReasonCode, Version};
use headgate_shell::dial::DialError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the client could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no answer from {place} within {within:?}")]
    Timeout { place: String, within: Duration },
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: String },
    #[error("the server's answer to CONNECT cannot be understood ({cause}); does it speak MQTT {version}?")]
    Greeting { cause: DecodeError, version: Version },
    #[error("the server refused the connection: {0}")]
    Refused(Reason),
    #[error("the server closed the connection: {0}")]
    Disconnected(Reason),
    #[error("the server closed the connection without a reason")]
    Closed,
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("the server sent what is not MQTT: {0}")]
    Protocol(#[from] DecodeError),
    #[error("the server {0}")]
    Lacks(String),
    #[error("the server refused the message: {0}")]
    MessageRefused(Reason),
    #[error("the server refused every subscription: {0}")]
    SubscriptionRefused(Reason),
    #[error("{messages} of {wanted} messages within {within:?}")]
    TooFew {
        messages: u64,
        wanted: u64,
        within: Duration,
    },
    #[error("{0}")]
    Usage(String),
}

/// A reason code with the server's own words.
#[derive(Debug)]
pub(crate) struct Reason {
    /// What the server said.
    pub code: ReasonCode,
    /// Its words, when it had any.
    pub text: Option<String>,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        self.text.iter().try_for_each(|text| write!(f, ": {text}"))
    }
}

impl ClientError {
    /// Whether another try may fare better.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Dial(error) => error.passes(),
            Self::Timeout { .. } | Self::Closed | Self::Silent(_) | Self::Broken(_) => true,
            Self::Refused(reason) | Self::Disconnected(reason) => matches!(
                reason.code,
                ReasonCode::ServerUnavailable
                    | ReasonCode::ServerBusy
                    | ReasonCode::ServerShuttingDown
                    | ReasonCode::KeepAliveTimeout
                    | ReasonCode::ConnectionRateExceeded
                    | ReasonCode::MaximumConnectTime
                    | ReasonCode::UnspecifiedError
            ),
            _ => false,
        }
    }
}
