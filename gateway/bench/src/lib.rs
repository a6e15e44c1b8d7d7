//! `headgate bench`: load on any MQTT broker over TCP, TLS and WebSocket, and what it costs.
//!
//! One thread, one epoll. `flow`, `offline_flow`, `retained_flow` and `wildcard_flow` decide what is sent and
//! judge what comes, without I/O; `network` moves their bytes; a module beside each says in which steps;
//! `connections` measures connections as such. The handshakes go through the codec, everything that happens
//! once for each message through `frame`.
//!
//! Always true: only messages that were delivered count; what is outstanding is bounded; a run ends by itself.

#![expect(clippy::disallowed_methods, reason = "measures time")]

mod client;
mod command;
mod connections;
mod error;
mod flow;
mod frame;
mod histogram;
mod load;
mod login;
mod network;
mod offline;
mod offline_flow;
mod process;
mod report;
mod retained;
mod retained_flow;
mod sequence;
mod server;
mod sn;
mod sn_backend;
mod sn_command;
mod sn_socket;
mod sn_swarm;
mod stomp;
mod stomp_command;
mod stomp_wire;
mod websocket;
mod wildcard_flow;
mod wildcards;
mod window;
mod wire;

use headgate_mqtt_codec::Qos;
use std::time::Duration;

pub use command::BenchCommand;
pub(crate) use error::BenchError;
pub(crate) use frame::STAMP_LEN;
pub(crate) use load::usual;
pub(crate) use report::{HEADING, Report, connections};
pub(crate) use server::Server;
pub(crate) use sn::{SN_HEADING, SnPlan};
pub(crate) use sn_swarm::{MAX_SENSORS, STAMP_LEN as SN_STAMP_LEN, SwarmPlan};
pub(crate) use wildcard_flow::{MIN_SESSIONS, MIN_SUBSCRIPTIONS};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// Each client publishes to another one: N publishers, N subscribers, N topics.
    Pairs,
    /// N publishers with a topic each, one subscriber to all of them by a wildcard.
    FanIn,
    /// One publisher, N subscribers to its topic.
    FanOut,
    /// Messages are stored for N sessions whose clients are away; then these come back and drain them.
    Offline,
    /// N subscribers get many retained messages, some at a time.
    Retained,
    /// Messages to N sessions with many subscriptions, exact and by wildcards.
    Wildcards,
    /// N connections that do nothing.
    Idle,
    /// Clients come and go.
    Connect,
}

impl Case {
    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::FanIn => "fan-in",
            Self::FanOut => "fan-out",
            Self::Offline => "offline",
            Self::Retained => "retained",
            Self::Wildcards => "wildcards",
            Self::Idle => "idle",
            Self::Connect => "connect",
        }
    }
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Until {
    /// After this time, which begins after the warm-up.
    Elapsed(Duration),
    /// After so many messages were published, stored or retained, or connections made.
    Count(u64),
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What is measured.
    pub case: Case,
    /// At which QoS.
    pub qos: Qos,
    /// N of the case.
    pub clients: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Subscriptions of all sessions together, where a case has many.
    pub subscriptions: u64,
    /// Unacknowledged messages for each publisher (QoS 1 and 2); connections that are being made at a time, or
    /// subscribers that are being sent retained messages.
    pub window: usize,
    /// Undelivered messages for each publisher.
    pub backlog: u64,
    /// Messages a second that all publish together, whatever the broker does; `None` for as many as it takes.
    pub rate: Option<f64>,
    /// When it is over.
    pub until: Until,
    /// What is not measured at the beginning.
    pub warm_up: Duration,
    /// Receivers' sessions outlive their connections, so that what they are sent must outlive the broker.
    pub durable: bool,
    /// The broker's process.
    pub pid: Option<u32>,
    /// The broker.
    pub server: Server,
}

impl Plan {
    /// Carries it out; `progress` is told now and then how far it is. Most cases have one report.
    pub(crate) fn run(&self, progress: &mut dyn FnMut(String)) -> Result<Vec<Report>, BenchError> {
        let report = match self.case {
            Case::Offline => return offline::run(self, progress),
            Case::Retained => retained::run(self, progress),
            Case::Wildcards => wildcards::run(self, progress),
            Case::Idle => connections::idle(self, progress),
            Case::Connect => connections::connect(self, progress),
            Case::Pairs | Case::FanIn | Case::FanOut => load::run(self, progress),
        };
        Ok(vec![report?])
    }
}
