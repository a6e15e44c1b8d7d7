//! What can go wrong between us and a server, in words for whoever typed the command.

use headgate_coap_codec::Code;
use std::io;
use std::time::Duration;

/// Why the client could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoapError {
    #[error("`{uri}` is no address such as coap://localhost/ps/a: {why}")]
    Uri { uri: String, why: &'static str },
    #[error("the host name `{host}` cannot be resolved: {cause}")]
    Resolve { host: String, cause: io::Error },
    #[error("the host `{0}` has no address")]
    NoAddress(String),
    #[error("nothing listens at {0}")]
    NobodyThere(String),
    #[error("{place}: {cause}")]
    Socket { place: String, cause: io::Error },
    #[error("{place} does not answer, though it was asked {times} times within {within:?}")]
    NoAnswer {
        place: String,
        times: u32,
        within: Duration,
    },
    #[error("{place} took the request and does not answer it")]
    NoResponse { place: String },
    #[error("the server rejected the request: it speaks CoAP, but has no use for it")]
    Rejected,
    #[error("{code} {}{}", .code.name().unwrap_or("(no name)"), reason(.words))]
    Refused { code: Code, words: String },
    #[error("the server answers with {0}, which fits nothing that was asked")]
    Unexpected(&'static str),
    #[error("another payload came before all blocks of this one had been fetched: the rest is lost")]
    Superseded,
    #[error("the payload file cannot be read: {0}")]
    Payload(io::Error),
    #[error("the answer cannot be written: {0}")]
    Output(io::Error),
}

fn reason(words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!(": {}", headgate_cli::visible(words)),
    }
}
