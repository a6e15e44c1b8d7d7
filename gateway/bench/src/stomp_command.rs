//! `headgate bench stomp`: load on a STOMP server, and what it costs.

use crate::command::{MAX_BACKLOG, MAX_BYTES, MAX_CONNECTIONS, tell};
use crate::login::LoginArgs;
use crate::stomp::StompPlan;
use crate::stomp_wire::{AckMode, Stomp};
use crate::{BenchError, Case, HEADING, Plan, STAMP_LEN, Server, Until, usual};
use clap::{ArgAction, Args, ValueEnum};
use headgate_cli::{Outcome, say, say_json, within};
use headgate_mqtt_codec::{Qos, Version};
use std::net::ToSocketAddrs;
use std::time::Duration;

/// Put load on a STOMP server and measure what it costs.
///
/// Only delivered messages count. Each is checked: did it come, once, in the order of its publisher? The exit
/// status says whether a promise was broken.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(super) struct StompBenchCommand {
    /// What to measure.
    #[arg(value_enum, value_name = "CASE", default_value = "pairs")]
    case: StompCase,
    /// How receivers acknowledge; with `client` each tenth message.
    #[arg(long, value_enum, default_value = "auto")]
    ack: AckMode,
    /// SEND with `receipt`: the window bounds those that have none yet.
    #[arg(long)]
    receipts: bool,
    /// Publishers, subscribers, or pairs of them, as the case has it.
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = within(1, MAX_CONNECTIONS / 2))]
    clients: usize,
    /// Bytes of a body; the first 20 are ours.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = within(STAMP_LEN, 1 << 20))]
    payload: usize,
    /// SENDs of each publisher without their RECEIPT (20; fan-in 10).
    #[arg(long, value_name = "N", value_parser = within(1_usize, u16::MAX.into()))]
    window: Option<usize>,
    /// Messages of each publisher that have not come to all its subscribers (without receipts 200, with them 20; fan-in 10).
    #[arg(long, value_name = "N", value_parser = within(1, MAX_BACKLOG))]
    backlog: Option<u64>,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0, value_parser = within(0.0, 86_400.0))]
    seconds: f64,
    /// End after so many messages; without a warm-up.
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Load that is not measured, at the beginning.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = within(0.0, 86_400.0))]
    warm_up: f64,
    /// What destinations begin with: `/topic/` for RabbitMQ.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Levels of destinations are separated by dots, as RabbitMQ has it.
    #[arg(long)]
    dotted: bool,
    /// The server's process, if it runs here: its CPU time and memory are reported.
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Server, by name or address.
    #[arg(short = 'h', long, default_value = "127.0.0.1", help_heading = "Connection")]
    host: String,
    /// Port.
    #[arg(short, long, default_value_t = 61613, help_heading = "Connection")]
    port: u16,
    /// Virtual host to ask for.
    #[arg(long, value_name = "NAME", default_value = "/", help_heading = "Connection")]
    virtual_host: String,
    #[command(flatten)]
    login: LoginArgs,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What is measured.
#[derive(Clone, Copy, ValueEnum)]
enum StompCase {
    /// Each client sends to another one: N publishers, N subscribers, N destinations.
    Pairs,
    /// N publishers with a destination each, one subscriber to all of them by a wildcard.
    FanIn,
    /// One publisher, N subscribers to its destination.
    FanOut,
}

impl StompBenchCommand {
    /// Runs the command.
    pub(super) fn run(self) -> Outcome {
        let report = self.plan()?.run(&mut tell)?;
        if self.json {
            say_json(serde_json::to_string(&report)?);
        } else {
            say(HEADING);
            say(report.row());
        }
        match report.fault() {
            None => Ok(()),
            Some(fault) => Err(BenchError::Faults(vec![fault]).into()),
        }
    }

    fn plan(&self) -> Result<StompPlan, BenchError> {
        let case = match self.case {
            StompCase::Pairs => Case::Pairs,
            StompCase::FanIn => Case::FanIn,
            StompCase::FanOut => Case::FanOut,
        };
        let qos = if self.receipts {
            Qos::AtLeastOnce
        } else {
            Qos::AtMostOnce
        };
        let (window, backlog) = usual(case, qos);
        let backlog = self.backlog.unwrap_or(backlog);
        // On their way, or in our memory.
        let bytes = backlog.saturating_mul(2 * self.clients as u64 * self.payload as u64);
        if bytes > MAX_BYTES {
            return Err(BenchError::TooManyBytes {
                bytes,
                allowed: MAX_BYTES,
            });
        }
        Ok(StompPlan {
            plan: Plan {
                case,
                qos,
                clients: self.clients,
                payload: self.payload,
                subscriptions: 0,
                window: self.window.unwrap_or(window),
                backlog,
                rate: None,
                until: match self.messages {
                    Some(count) => Until::Count(count),
                    None => Until::Elapsed(Duration::from_secs_f64(self.seconds)),
                },
                warm_up: Duration::from_secs_f64(self.warm_up),
                durable: false,
                pid: self.pid,
                server: self.server()?,
            },
            wire: Stomp { ack: self.ack },
            virtual_host: self.virtual_host.clone(),
            prefix: self.prefix.clone(),
            dotted: self.dotted,
        })
    }

    fn server(&self) -> Result<Server, BenchError> {
        let host = &self.host;
        let found = (host.as_str(), self.port).to_socket_addrs();
        let mut found = found.map_err(BenchError::resolve(host))?;
        let no_address = || BenchError::NoAddress { host: host.clone() };
        Ok(Server {
            address: found.next().ok_or_else(no_address)?,
            tls: None,
            websocket: None,
            version: Version::V311,
            username: self.login.username()?,
            password: self.login.password(),
        })
    }
}
