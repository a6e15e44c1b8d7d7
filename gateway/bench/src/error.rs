//! What can go wrong with a measurement, in words for whoever typed the command.

use headgate_dial::DialError;
use headgate_mqtt_codec::{DecodeError, ReasonCode, Utf8Error};
use rustls_pki_types::InvalidDnsNameError;
use std::io;

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// No address, or none that answers.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        cause: io::Error,
    },
    /// The broker does not let us in.
    #[error("the broker refused a connection: {0:?}")]
    Refused(ReasonCode),
    /// The broker does not let us subscribe.
    #[error("the broker refused a subscription: {0:?}")]
    NotSubscribed(ReasonCode),
    /// An answer that is no MQTT.
    #[error("the broker's answer is malformed")]
    Malformed,
    /// An answer that the codec refuses.
    #[error("the broker's answer is malformed: {0}")]
    Decode(#[from] DecodeError),
    /// An answer out of place.
    #[error("the broker sent {0} out of place")]
    Unexpected(String),
    /// An answer that is no STOMP.
    #[error("the broker's answer is malformed: {0}")]
    Stomp(#[from] headgate_stomp_codec::DecodeError),
    /// The broker sent ERROR.
    #[error("the broker complains: {0}")]
    Complaint(String),
    /// The broker went away.
    #[error("the broker closed a connection{}", .0.map_or(String::new(), |reason| format!(" with reason 0x{reason:02x}")))]
    Closed(Option<u8>),
    /// TLS could not be agreed on, or was broken.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The broker does not speak WebSocket there.
    #[error("WebSocket failed: {0}")]
    WebSocket(String),
    /// The network failed.
    #[error("a connection broke: {0}")]
    Io(#[from] io::Error),
    /// The broker's process is not there.
    #[error("{path}: {cause}")]
    Process {
        /// Where it should be.
        path: String,
        /// Why it is not.
        cause: io::Error,
    },
    /// A file that TLS needs cannot be used.
    #[error(transparent)]
    Files(#[from] DialError),
    /// There is no certificate for such a host.
    #[error(transparent)]
    ServerName(#[from] InvalidDnsNameError),
    /// DNS does not know the name, or cannot be asked.
    #[error("the host name `{host}` cannot be resolved: {cause}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The host stands for nothing.
    #[error("the host `{host}` has no address")]
    NoAddress {
        /// Its name.
        host: String,
    },
    /// The gateway is on another machine.
    #[error("{host}: the sensors have addresses in 127/8, which only a gateway on this machine can answer")]
    Elsewhere {
        /// Where it is.
        host: String,
    },
    /// MQTT cannot carry the user name.
    #[error(transparent)]
    Username(#[from] Utf8Error),
    /// The case has none of the QoS that are wanted.
    #[error("{case}: there is no such case at this QoS")]
    NoSuchQos {
        /// Its name.
        case: &'static str,
    },
    /// Nobody wants so many by accident.
    #[error("{wanted} connections are wanted, allowed are {allowed}")]
    TooManyConnections {
        /// How many it would be.
        wanted: usize,
        /// How many it may be.
        allowed: usize,
    },
    /// Nobody wants so much by accident.
    #[error("up to {bytes} bytes would be on their way, allowed are {allowed}")]
    TooManyBytes {
        /// How many it would be.
        bytes: u64,
        /// How many it may be.
        allowed: u64,
    },
    /// A case makes no sense with so few.
    #[error("{case} needs {least} clients at least")]
    TooFewClients {
        /// Its name.
        case: &'static str,
        /// How many it needs.
        least: usize,
    },
    /// Reports cannot be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It was measured, and promises were broken.
    #[error("{}", .0.join("; "))]
    Faults(Vec<String>),
}

impl BenchError {
    pub(crate) fn resolve(host: &str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Resolve {
            host: host.to_owned(),
            cause,
        }
    }

    pub(crate) fn tls(error: rustls::Error) -> Self {
        Self::Tls(headgate_dial::explain(&io::Error::other(error)))
    }
}
