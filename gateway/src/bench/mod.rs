//! `headgate bench`: load on any MQTT broker over TCP, and what it costs.
//!
//! One thread, one epoll. [`flow`] decides what is sent and judges what comes, without I/O; [`load`] moves its
//! bytes; [`mod@connections`] measures connections as such. The handshakes go through the codec, everything that
//! happens once for each message through [`frame`].
//!
//! Always true: only messages that were delivered count; what is outstanding is bounded; a run ends by itself.

mod connections;
mod flow;
mod frame;
mod histogram;
mod link;
mod load;
mod process;
mod report;
mod sequence;
mod server;

use headgate_mqtt_codec::{DecodeError, Qos, ReasonCode};
use std::io;
use std::time::Duration;

pub use frame::STAMP_LEN;
pub use load::usual;
pub use report::{HEADING, Report, connections};
pub use server::Server;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// Each client publishes to another one: N publishers, N subscribers, N topics.
    Pairs,
    /// N publishers with a topic each, one subscriber to all of them by a wildcard.
    FanIn,
    /// One publisher, N subscribers to its topic.
    FanOut,
    /// N connections that do nothing.
    Idle,
    /// Clients come and go.
    Connect,
}

impl Case {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::FanIn => "fan-in",
            Self::FanOut => "fan-out",
            Self::Idle => "idle",
            Self::Connect => "connect",
        }
    }
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    /// After this time, which begins after the warm-up.
    Elapsed(Duration),
    /// After so many messages were published, or connections made.
    Count(u64),
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is measured.
    pub case: Case,
    /// At which QoS.
    pub qos: Qos,
    /// N of the case.
    pub clients: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Unacknowledged messages for each publisher (QoS 1 and 2); connections that are being made at a time.
    pub window: usize,
    /// Undelivered messages for each publisher.
    pub backlog: u64,
    /// Messages a second that all publish together, whatever the broker does; `None` for as many as it takes.
    pub rate: Option<f64>,
    /// When it is over.
    pub until: Until,
    /// What is not measured at the beginning.
    pub warm_up: Duration,
    /// The broker's process.
    pub pid: Option<u32>,
    /// The broker.
    pub server: Server,
}

impl Plan {
    /// Carries it out; `progress` is told now and then how far it is.
    pub fn run(&self, progress: &mut dyn FnMut(String)) -> Result<Report, BenchError> {
        match self.case {
            Case::Idle => connections::idle(self, progress),
            Case::Connect => connections::connect(self, progress),
            _ => load::run(self, progress),
        }
    }
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
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
    /// The broker went away.
    #[error("the broker closed a connection{}", .0.map_or(String::new(), |reason| format!(" with reason 0x{reason:02x}")))]
    Closed(Option<u8>),
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
}
