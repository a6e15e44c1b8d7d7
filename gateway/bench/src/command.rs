//! `headgate bench`: puts load on an MQTT broker and says what it cost.

use crate::login::LoginArgs;
use crate::sn_command::SnBenchCommand;
use crate::stomp_command::StompBenchCommand;
use crate::{
    BenchError, Case, HEADING, MIN_SESSIONS, MIN_SUBSCRIPTIONS, Plan, STAMP_LEN, Server, Until, connections,
    usual,
};
use clap::{ArgAction, Args, Subcommand};
use headgate_cli::{Outcome, say, say_json, within};
use headgate_dial::ClientTls;
use headgate_mqtt_codec::{Qos, Version};
use headgate_tools::{qos, version};
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Nobody wants more by accident.
pub(crate) const MAX_CONNECTIONS: usize = 100_000;
pub(crate) const MAX_BACKLOG: u64 = 1_000_000;
pub(crate) const MAX_BYTES: u64 = 4 << 30;
const MAX_SUBSCRIPTIONS: u64 = 10_000_000;

/// What is stored, or retained, if nothing is said.
const STORED: u64 = 50_000;
const RETAINED: u64 = 10_000;

/// Put load on an MQTT broker and measure what it costs.
///
/// Only delivered messages count. Each is checked: did it come, once, in the order of its publisher? The exit
/// status says whether a promise was broken.
#[derive(Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct BenchCommand {
    #[command(subcommand)]
    other: Option<OtherBench>,
    /// What to measure; several run one after the other.
    #[arg(value_enum, required = true, value_name = "CASE")]
    cases: Vec<Case>,
    /// QoS of publishing and of subscribing, 0 unless given; may be given several times. `offline` has 1 and 2 only,
    /// 1 unless given; `wildcards` has 0 only.
    #[arg(short, long, value_parser = qos)]
    qos: Vec<Qos>,
    /// Publishers, subscribers, pairs of them, sessions or connections, as the case has it.
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = within(1, MAX_CONNECTIONS))]
    clients: usize,
    /// Bytes of a payload; the first 20 are ours.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = within(STAMP_LEN, 16 << 20))]
    payload: usize,
    /// Unacknowledged messages of each publisher at QoS 1 and 2 (20; fan-in 10); clients of `connect` and subscribers of
    /// `retained` that come at a time (8).
    #[arg(long, value_name = "N", value_parser = within(1_usize, u16::MAX.into()))]
    window: Option<usize>,
    /// Messages of each publisher that have not come to all its subscribers (QoS 0 200, QoS 1 and 2 20, fan-in 10).
    #[arg(long, value_name = "N", value_parser = within(1, MAX_BACKLOG))]
    backlog: Option<u64>,
    /// Messages a second that all publishers together publish, however slow the broker is. Latency then counts from when a
    /// message was due. Takes a whole core.
    #[arg(long, value_name = "N", value_parser = within(0.1, 1e7))]
    rate: Option<f64>,
    /// How long to measure, or to hold idle connections.
    #[arg(long, default_value_t = 5.0, value_parser = within(0.0, 86_400.0))]
    seconds: f64,
    /// Subscriptions of all sessions of `wildcards` together.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(MIN_SUBSCRIPTIONS..=MAX_SUBSCRIPTIONS))]
    subscriptions: u64,
    /// End after so many messages, or connections; without a warm-up. What `offline` stores in all (50000), and the topics
    /// of `retained` (10000).
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Load that is not measured, at the beginning.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = within(0.0, 86_400.0))]
    warm_up: f64,
    /// Subscribers of `pairs`, `fan-in` and `fan-out` have sessions that outlive their connections: what they are sent at
    /// QoS 1 and 2 must be durable, or settled, before it is acknowledged.
    #[arg(long)]
    durable: bool,
    /// The broker's process, if it runs here: its CPU time and memory are reported.
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object for each run instead of the table.
    #[arg(long)]
    json: bool,
    /// Broker, by name or address.
    #[arg(short = 'h', long, default_value = "127.0.0.1", help_heading = "Connection")]
    host: String,
    /// Port; without it 1883, with TLS 8883, with WebSocket 8083.
    #[arg(short, long, help_heading = "Connection")]
    port: Option<u16>,
    /// WebSocket around MQTT, at this path.
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "/mqtt", help_heading = "Connection")]
    ws: Option<String>,
    /// MQTT version: 3.1, 3.1.1 or 5.
    #[arg(short = 'V', long = "mqtt-version", value_name = "VERSION", default_value = "3.1.1", value_parser = version, help_heading = "Connection")]
    version: Version,
    #[command(flatten)]
    login: LoginArgs,
    /// TLS around everything; each connection makes a whole handshake.
    #[arg(long, help_heading = "TLS")]
    tls: bool,
    /// Authorities to believe, as PEM; without it the system's.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    cafile: Option<PathBuf>,
    /// Believe any server.
    #[arg(long, help_heading = "TLS")]
    insecure: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Cases with arguments of their own.
#[derive(Subcommand)]
enum OtherBench {
    /// Up to a million MQTT-SN sensors: they connect, publish, sleep and wake.
    Sn(Box<SnBenchCommand>),
    /// Load on a STOMP server.
    Stomp(Box<StompBenchCommand>),
}

impl BenchCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self.other {
            Some(OtherBench::Sn(bench)) => return bench.run(),
            Some(OtherBench::Stomp(bench)) => return bench.run(),
            None => {}
        }
        let server = self.server()?;
        let mut faults = Vec::new();
        if !self.json {
            say(HEADING);
        }
        for case in &self.cases {
            for qos in self.levels(*case)? {
                let plan = self.plan(*case, qos, &server)?;
                for report in plan.run(&mut tell)? {
                    faults.extend(report.fault());
                    if self.json {
                        say_json(serde_json::to_string(&report)?);
                    } else {
                        say(report.row());
                    }
                }
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(BenchError::Faults(faults).into())
        }
    }

    fn server(&self) -> Result<Server, BenchError> {
        let files = ClientTls {
            cafile: self.cafile.clone(),
            insecure: self.insecure,
            ..ClientTls::default()
        };
        let tls = if self.tls || files.any() {
            let mut config = files.config()?;
            // What a returning client saves is another measurement.
            config.resumption = Resumption::disabled();
            Some((Arc::new(config), ServerName::try_from(self.host.clone())?))
        } else {
            None
        };
        let usual = match (&tls, &self.ws) {
            (_, Some(_)) => 8083,
            (Some(_), None) => 8883,
            (None, None) => 1883,
        };
        let host = &self.host;
        let found = (host.as_str(), self.port.unwrap_or(usual)).to_socket_addrs();
        let mut found = found.map_err(BenchError::resolve(host))?;
        let no_address = || BenchError::NoAddress { host: host.clone() };
        Ok(Server {
            address: found.next().ok_or_else(no_address)?,
            tls,
            websocket: self.ws.clone(),
            version: self.version,
            username: self.login.username()?,
            password: self.login.password(),
        })
    }

    /// Those that the case has, of those that are wanted. Connections have no QoS: one run is enough.
    fn levels(&self, case: Case) -> Result<Vec<Qos>, BenchError> {
        let has: &[Qos] = match case {
            Case::Idle | Case::Connect => return Ok(vec![Qos::AtMostOnce]),
            Case::Offline => &[Qos::AtLeastOnce, Qos::ExactlyOnce],
            Case::Wildcards => &[Qos::AtMostOnce],
            _ => &[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce],
        };
        if self.qos.is_empty() {
            return Ok(has[..1].into());
        }
        let wanted = self.qos.iter().copied();
        let levels: Vec<Qos> = wanted.filter(|qos| has.contains(qos)).collect();
        if levels.is_empty() {
            return Err(BenchError::NoSuchQos { case: case.name() });
        }
        Ok(levels)
    }

    fn plan(&self, case: Case, qos: Qos, server: &Server) -> Result<Plan, BenchError> {
        let (window, backlog) = usual(case, qos);
        let window = self.window.unwrap_or(window);
        let wanted = connections(case, self.clients, window);
        if wanted > MAX_CONNECTIONS {
            return Err(BenchError::TooManyConnections {
                wanted,
                allowed: MAX_CONNECTIONS,
            });
        }
        let backlog = self.backlog.unwrap_or(backlog);
        let (payload, clients) = (self.payload as u64, self.clients as u64);
        let until = match (case, self.messages) {
            (_, Some(count)) => Until::Count(count),
            (Case::Offline, None) => Until::Count(STORED),
            (Case::Retained, None) => Until::Count(RETAINED),
            _ => Until::Elapsed(Duration::from_secs_f64(self.seconds)),
        };
        // On their way, or in our memory.
        let bytes = match (case, until) {
            (Case::Idle | Case::Connect, _) => 0,
            (Case::Retained, Until::Count(topics)) => topics.saturating_mul(clients) / 8,
            (Case::Wildcards, _) => self.subscriptions.saturating_mul(payload),
            (Case::Offline, _) => (window as u64).saturating_mul(clients * payload),
            _ => backlog.saturating_mul(wanted as u64 * payload),
        };
        if bytes > MAX_BYTES {
            return Err(BenchError::TooManyBytes {
                bytes,
                allowed: MAX_BYTES,
            });
        }
        if case == Case::Wildcards && self.clients < MIN_SESSIONS {
            return Err(BenchError::TooFewClients {
                case: case.name(),
                least: MIN_SESSIONS,
            });
        }
        Ok(Plan {
            case,
            qos,
            clients: self.clients,
            payload: self.payload,
            subscriptions: self.subscriptions,
            window,
            backlog,
            rate: self.rate,
            until,
            warm_up: Duration::from_secs_f64(self.warm_up),
            durable: self.durable,
            pid: self.pid,
            server: server.clone(),
        })
    }
}

/// Progress, which is no part of the answer.
#[allow(clippy::print_stderr, reason = "to whoever waits")]
pub(crate) fn tell(line: String) {
    eprintln!("{line}");
}
