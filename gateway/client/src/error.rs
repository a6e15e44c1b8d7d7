//! What can go wrong between us and a server, in words for people.

use headgate_dial::DialError;
use headgate_mqtt_codec::{DecodeError, ReasonCode, Version};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the client could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server accepted the connection and said nothing.
    #[error("no answer from {place} within {within:?}")]
    Timeout {
        /// Where it is.
        place: String,
        /// How long we waited.
        within: Duration,
    },
    /// A file that an argument names cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The first answer is no CONNACK.
    #[error("the server's answer to CONNECT cannot be understood ({cause}); does it speak MQTT {version}?")]
    Greeting {
        /// What is wrong with it.
        cause: DecodeError,
        /// What we spoke.
        version: Version,
    },
    /// The first answer is an alert of TLS. RFC 8446 §6
    #[error("this port speaks TLS: use --cafile FILE, --tls or a URL that begins with mqtts:// or wss://")]
    SpeaksTls,
    /// CONNACK with a reason to refuse.
    #[error("the server refused the connection: {0}")]
    Refused(Reason),
    /// DISCONNECT from the server.
    #[error("the server closed the connection: {0}")]
    Disconnected(Reason),
    /// The stream ended.
    #[error("the server closed the connection without a reason")]
    Closed,
    /// No PINGRESP came in this time.
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
    /// Reading or writing failed.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// A packet cannot be decoded.
    #[error("the server sent what is not MQTT: {0}")]
    Protocol(#[from] DecodeError),
    /// What was asked for is beyond what the server said that it takes.
    #[error("the server {0}")]
    Lacks(String),
    /// PUBACK, PUBREC or PUBCOMP with a reason to refuse.
    #[error("the server refused the message: {0}")]
    MessageRefused(Reason),
    /// SUBACK without a subscription.
    #[error("the server refused every subscription: {0}")]
    SubscriptionRefused(Reason),
    /// Fewer messages came than were wanted.
    #[error("{messages} of {wanted} messages within {within:?}")]
    TooFew {
        /// Those that came.
        messages: u64,
        /// Those that were wanted.
        wanted: u64,
        /// How long we waited.
        within: Duration,
    },
    /// Arguments that make no sense together.
    #[error("{0}")]
    Usage(String),
}

/// A reason code with the server's own words.
#[derive(Debug)]
pub struct Reason {
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
    pub fn passes(&self) -> bool {
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
