//! `headgate bench`: puts load on an MQTT broker and says what it cost.

use super::connection::{qos, text, version};
use super::{Outcome, say};
use crate::bench::{Case, HEADING, Plan, STAMP_LEN, Server, Until, connections, usual};
use clap::{ArgAction, Args};
use headgate_mqtt_codec::{Qos, Version};
use std::net::ToSocketAddrs;
use std::time::Duration;

/// Nobody wants more by accident.
const MAX_CONNECTIONS: usize = 100_000;
const MAX_BACKLOG: u64 = 1_000_000;
const MAX_BYTES: u64 = 4 << 30;

/// Put load on an MQTT broker and measure what it costs.
///
/// Only delivered messages count. Each is checked: did it come, once, in the order of its publisher? The exit
/// status says whether a promise was broken.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct BenchCommand {
    /// What to measure; several run one after the other.
    #[arg(value_enum, required = true, value_name = "CASE")]
    cases: Vec<Case>,
    /// QoS of publishing and of subscribing; may be given several times.
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: Vec<Qos>,
    /// Publishers, subscribers, pairs of them or connections, as the case has it.
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = count)]
    clients: usize,
    /// Bytes of a payload; the first 20 are ours.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = payload)]
    payload: usize,
    /// Unacknowledged messages of each publisher at QoS 1 and 2 (20; fan-in 10); clients of `connect` that come at a time (8).
    #[arg(long, value_name = "N", value_parser = window)]
    window: Option<usize>,
    /// Messages of each publisher that have not come to all its subscribers (QoS 0 200, QoS 1 and 2 20, fan-in 10).
    #[arg(long, value_name = "N", value_parser = backlog)]
    backlog: Option<u64>,
    /// Messages a second that all publishers together publish, however slow the broker is. Latency then counts from when a
    /// message was due. Takes a whole core.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How long to measure, or to hold idle connections.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// End after so many messages, or connections; without a warm-up.
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Load that is not measured, at the beginning.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    warm_up: f64,
    /// The broker's process, if it runs here: its CPU time and memory are reported.
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object for each run instead of the table.
    #[arg(long)]
    json: bool,
    /// Broker, by name or address.
    #[arg(short = 'h', long, default_value = "127.0.0.1", help_heading = "Connection")]
    host: String,
    /// Port.
    #[arg(short, long, default_value_t = 1883, help_heading = "Connection")]
    port: u16,
    /// MQTT version: 3.1, 3.1.1 or 5.
    #[arg(short = 'V', long = "mqtt-version", value_name = "VERSION", default_value = "3.1.1", value_parser = version, help_heading = "Connection")]
    version: Version,
    /// User name.
    #[arg(short, long, value_name = "NAME", help_heading = "Connection")]
    username: Option<String>,
    /// Password.
    #[arg(
        short = 'P',
        long,
        env = "HEADGATE_PASSWORD",
        hide_env_values = true,
        requires = "username",
        help_heading = "Connection"
    )]
    password: Option<String>,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl BenchCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let mut address = (self.host.as_str(), self.port).to_socket_addrs()?;
        let server = Server {
            address: address.next().ok_or("the host has no address")?,
            version: self.version,
            username: self.username.clone().map(text).transpose()?,
            password: self.password.clone().map(Into::into),
        };
        let mut faults = Vec::new();
        if !self.json {
            say(HEADING);
        }
        for case in &self.cases {
            for qos in self.levels(*case) {
                let plan = self.plan(*case, *qos, &server)?;
                let report = plan.run(&mut tell)?;
                faults.extend(report.fault());
                if self.json {
                    say(serde_json::to_string(&report)?);
                } else {
                    say(report.row());
                }
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; ").into())
        }
    }

    /// Connections have no QoS: one run is enough.
    fn levels(&self, case: Case) -> &[Qos] {
        match case {
            Case::Idle | Case::Connect => &self.qos[..1],
            _ => &self.qos,
        }
    }

    fn plan(&self, case: Case, qos: Qos, server: &Server) -> Result<Plan, String> {
        let (window, backlog) = usual(case, qos);
        let window = self.window.unwrap_or(window);
        let wanted = connections(case, self.clients, window);
        if wanted > MAX_CONNECTIONS {
            return Err(format!(
                "{wanted} connections are wanted, allowed are {MAX_CONNECTIONS}"
            ));
        }
        let backlog = self.backlog.unwrap_or(backlog);
        let bytes = backlog.saturating_mul((wanted * self.payload) as u64);
        if !matches!(case, Case::Idle | Case::Connect) && bytes > MAX_BYTES {
            return Err(format!(
                "up to {bytes} bytes would be on their way, allowed are {MAX_BYTES}"
            ));
        }
        Ok(Plan {
            case,
            qos,
            clients: self.clients,
            payload: self.payload,
            window,
            backlog,
            rate: self.rate,
            until: match self.messages {
                Some(count) => Until::Count(count),
                None => Until::Elapsed(Duration::from_secs_f64(self.seconds)),
            },
            warm_up: Duration::from_secs_f64(self.warm_up),
            pid: self.pid,
            server: server.clone(),
        })
    }
}

/// Progress, which is no part of the answer.
#[allow(clippy::print_stderr, reason = "to whoever waits")]
fn tell(line: String) {
    eprintln!("{line}");
}

fn within<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    from: T,
    to: T,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| (&from..=&to).contains(&number));
    number.ok_or_else(|| format!("allowed are {from} to {to}"))
}

fn count(text: &str) -> Result<usize, String> {
    within(text, 1, MAX_CONNECTIONS)
}

fn payload(text: &str) -> Result<usize, String> {
    within(text, STAMP_LEN, 16 << 20)
}

fn window(text: &str) -> Result<usize, String> {
    within(text, 1, u16::MAX.into())
}

fn backlog(text: &str) -> Result<u64, String> {
    within(text, 1, MAX_BACKLOG)
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.1, 1e7)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.0, 86_400.0)
}
