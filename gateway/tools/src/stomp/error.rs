//! Why a STOMP client gives up.

use headgate_client::ClientError;
use headgate_dial::DialError;
use headgate_stomp_codec::{DecodeError, Frame};
use std::io;
use std::time::Duration;

/// Why it does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StompError {
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
    /// What was read is no STOMP.
    #[error("the server's answer cannot be understood ({0}); does it speak STOMP?")]
    Decode(#[from] DecodeError),
    /// ERROR.
    #[error("the server says: {0}")]
    Refused(String),
    /// The stream ended.
    #[error("the server closed the connection")]
    Closed,
    /// Nothing came for too long. STOMP 1.2, Heart-beating.
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
    /// Reading or writing failed.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
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
    /// What is wrong with arguments and files, as in `pub` and `sub`.
    #[error(transparent)]
    Argument(#[from] ClientError),
}

impl StompError {
    /// An ERROR frame in words.
    pub(super) fn of(frame: &Frame) -> Self {
        let message = frame.get("message").unwrap_or("no reason given");
        let body = String::from_utf8_lossy(&frame.body);
        Self::Refused(match body.trim() {
            "" => message.to_owned(),
            body if body == message => message.to_owned(),
            body => format!("{message}: {body}"),
        })
    }

    /// Whether another try may fare better without anybody doing anything here.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Dial(error) => error.passes(),
            Self::Timeout { .. } | Self::Closed | Self::Silent(_) | Self::Broken(_) => true,
            _ => false,
        }
    }
}
