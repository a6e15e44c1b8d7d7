//! What can go wrong between us and a gateway, in words for whoever typed the command.

use crate::error::ArgumentError;
use headgate_client::ClientError;
use headgate_mqttsn_codec::{MessageType, ReturnCode, TooLong};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why the client could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnError {
    #[error("the host name `{host}` cannot be resolved: {cause}")]
    Resolve { host: String, cause: io::Error },
    #[error("cannot open {place}: {cause}")]
    Open { place: String, cause: io::Error },
    #[error("nothing listens at {0}")]
    NobodyThere(String),
    #[error("{place} failed: {cause}")]
    Broken { place: String, cause: io::Error },
    #[error("the gateway at {place} does not answer {message}, which was sent {times} times")]
    Lost {
        place: String,
        message: MessageType,
        times: u32,
    },
    #[error("the gateway refused {}: {}", .0, advice(*.0, *.1))]
    Refused(MessageType, ReturnCode),
    #[error("the gateway ended the connection, or does not know us any more")]
    Disconnected,
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("{messages} of {wanted} messages within {within:?}")]
    TooFew {
        messages: u64,
        wanted: u64,
        within: Duration,
    },
    #[error("the host `{host}` has no address")]
    NoAddress { host: String },
    #[error("cannot send to {to}: {cause}")]
    Send { to: SocketAddr, cause: io::Error },
    #[error("no gateway answered within {seconds} seconds{hint}")]
    NoGateway { seconds: f64, hint: &'static str },
    /// Of something that we would print.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Of something that we would publish.
    #[error(transparent)]
    Payload(#[from] ClientError),
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error("{0}")]
    Usage(String),
}

/// What a return code means, and what can be done. §5.3.10
fn advice(message: MessageType, code: ReturnCode) -> String {
    match (code, message) {
        (ReturnCode::Accepted, _) => "it was accepted after all".into(),
        (ReturnCode::Congestion, MessageType::Connect) => {
            "congestion: it has as many clients as it may have, or is overloaded; try again later".into()
        }
        (ReturnCode::Congestion, MessageType::Register | MessageType::Subscribe) => {
            "congestion: it is overloaded, our user sends more than it may (limits.max_user_packets_per_second), or we have as many topic ids as a client may have"
                .into()
        }
        (ReturnCode::Congestion, _) => {
            "congestion: it is overloaded, our user sends more than it may (limits.max_user_packets_per_second), or its store is full; try again later"
                .into()
        }
        (ReturnCode::InvalidTopicId, _) => {
            "invalid topic id: it knows no such predefined topic; name it in the gateway's settings, or publish and \
             subscribe by the topic's name"
                .into()
        }
        (ReturnCode::NotSupported, MessageType::Connect) => {
            "not supported: client identifier, credentials or will are not accepted".into()
        }
        (ReturnCode::NotSupported, _) => {
            "not supported: the topic is malformed, or access rules forbid it".into()
        }
        (ReturnCode::Reserved(code), _) => format!("return code 0x{code:02x}, which MQTT-SN 1.2 does not have"),
    }
}

impl SnError {
    /// Whether another try may fare better.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::NobodyThere(_)
            | Self::Broken { .. }
            | Self::Lost { .. }
            | Self::Disconnected => true,
            Self::Refused(message, code) => {
                (*message, *code) == (MessageType::Connect, ReturnCode::Congestion)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_can_be_done() {
        let text = SnError::Refused(MessageType::Publish, ReturnCode::InvalidTopicId).to_string();
        assert!(
            text.starts_with("the gateway refused PUBLISH: invalid topic id: "),
            "{text}"
        );
        let text = SnError::Refused(MessageType::Connect, ReturnCode::Congestion).to_string();
        assert!(text.contains("try again later"), "{text}");
        let text = SnError::Refused(MessageType::Register, ReturnCode::Reserved(9)).to_string();
        assert!(text.contains("0x09"), "{text}");
    }
}
