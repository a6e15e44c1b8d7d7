//! What can go wrong between us, the gateway and a client of it, in words for whoever typed the command.

use headgate_client::{ClientError, Reason};
use std::time::Duration;

/// Why a command has no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lwm2mError {
    /// The gateway cannot be reached, or does not let us in.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody gets commands there. MQTT 5 §3.4.2.1
    #[error(
        "no client `{endpoint}` is registered: nobody gets commands at {topic}. `headgate lwm2m list` shows who is"
    )]
    Unknown {
        /// The endpoint name.
        endpoint: String,
        /// Where the command went.
        topic: String,
    },
    /// The rules keep us from hearing answers.
    #[error("you may not subscribe to {topic}: {reason}")]
    MayNotHear {
        /// Where the answers go.
        topic: String,
        /// What the server said.
        reason: Reason,
    },
    /// The rules keep us from commanding, or the gateway has no room.
    #[error("the gateway did not take the command at {topic}: {reason}")]
    NotTaken {
        /// Where commands go.
        topic: String,
        /// What the server said.
        reason: Reason,
    },
    /// The command was done, and failed, or was not done.
    #[error("{code} {name}{}", because(.why, .hint))]
    Failed {
        /// As CoAP has it: `4.04`.
        code: String,
        /// Its name: `not_found`.
        name: String,
        /// The client's words, or the gateway's.
        why: String,
        /// What may help.
        hint: &'static str,
    },
    /// No answer came, and the command is not wanted any more.
    #[error(
        "no answer from `{endpoint}` within {within:?}. `headgate lwm2m list` shows which clients are registered"
    )]
    NoAnswer {
        /// The endpoint name.
        endpoint: String,
        /// How long we waited.
        within: Duration,
    },
    /// No answer came, and the command waits.
    #[error(
        "no answer from `{endpoint}` within {within:?}. The command waits for it {left:?} longer; its answer will have reqID {id}, at {topic}"
    )]
    Waits {
        /// The endpoint name.
        endpoint: String,
        /// How long we waited.
        within: Duration,
        /// How long it waits.
        left: Duration,
        /// What tells its answer from others.
        id: u32,
        /// Where the answer goes.
        topic: String,
    },
    /// The client ended an observation. RFC 7641 §4.2
    #[error("the client ended the observation of {path}: {code} {name}")]
    Ended {
        /// What was observed.
        path: String,
        /// As CoAP has it.
        code: String,
        /// Its name.
        name: String,
    },
    /// An answer that is none.
    #[error("what came at {topic} cannot be understood: {cause}")]
    Answer {
        /// Where.
        topic: String,
        /// Why.
        cause: String,
    },
    /// Arguments that make no sense.
    #[error("{0}")]
    Usage(String),
}

fn because(why: &str, hint: &str) -> String {
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    let hint = if hint.is_empty() {
        String::new()
    } else {
        format!(" ({hint})")
    };
    why + &hint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_code_reason_and_what_may_help() {
        let failed = |why: &str, hint| Lwm2mError::Failed {
            code: "4.04".into(),
            name: "not_found".into(),
            why: why.into(),
            hint,
        };
        assert_eq!(failed("", "").to_string(), "4.04 not_found");
        assert_eq!(failed("gone", "").to_string(), "4.04 not_found: gone");
        assert_eq!(failed("gone", "wait").to_string(), "4.04 not_found: gone (wait)");
    }
}
