//! `headgate bench sn`: a million MQTT-SN sensors, and what they cost their gateway.

use crate::command::tell;
use crate::login::LoginArgs;
use crate::{BenchError, MAX_SENSORS, SN_HEADING, SN_STAMP_LEN, Server, SnPlan, SwarmPlan};
use clap::{ArgAction, Args};
use headgate_cli::{Outcome, one_of, say, say_json, within};
use headgate_mqtt_codec::Version;
use headgate_mqttsn_codec::Qos;
use headgate_tools::MQTTSN_PORT;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::time::Duration;

/// Up to a million MQTT-SN sensors: they connect, publish, sleep and wake.
///
/// They are clients `sn-0`, `sn-1` and so on, each with an address of its own in 127/8, so that the gateway must be on this machine. Everything that a
/// phase promises is checked: one answer for each, and for sleepers exactly their message before PINGRESP.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(super) struct SnBenchCommand {
    /// Sensors.
    #[arg(short, long, value_name = "N", default_value_t = 1_000, value_parser = within(1, MAX_SENSORS))]
    clients: usize,
    /// QoS of publishing: 0 or 1.
    #[arg(short, long, default_value = "1", value_parser = one_of([("0", Qos::AtMostOnce), ("1", Qos::AtLeastOnce)]))]
    qos: Qos,
    /// Messages that each publishes; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1)]
    messages: u64,
    /// Messages a second that all publish together; without it as many as the window lets through.
    #[arg(long, value_name = "N", value_parser = within(0.1, 1e7))]
    rate: Option<f64>,
    /// Bytes of a payload; the first 12 are ours.
    #[arg(long, value_name = "BYTES", default_value_t = 20, value_parser = within(SN_STAMP_LEN, 1_024))]
    payload: usize,
    /// All publish to one topic instead of each to its own.
    #[arg(long)]
    shared_topic: bool,
    /// Datagrams under way at a time: what does not fit into the socket buffer of the gateway is lost and costs retries.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = within(1_usize, 65_536))]
    window: usize,
    /// While they sleep, each gets a message by MQTT, which it must receive when it wakes.
    #[arg(long)]
    buffer: bool,
    /// Sessions that outlive connections and sleep.
    #[arg(long)]
    durable: bool,
    /// Keep alive of the sensors; it must be longer than all others take for a phase.
    #[arg(long, value_name = "SECONDS", default_value_t = 36_000)]
    keep_alive: u16,
    /// How long they say that they sleep.
    #[arg(long, value_name = "SECONDS", default_value_t = 36_000, value_parser = clap::value_parser!(u16).range(1..))]
    sleep: u16,
    /// Seconds to wait for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = within(0.01, 3_600.0))]
    retry_interval: f64,
    /// How often to ask again before giving up.
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u8,
    /// Sensors say no goodbye at the end; they stay, asleep.
    #[arg(long)]
    stay: bool,
    /// Wait so long behind each phase before the gateway's memory is read: after a minute of rest the store has tidied up.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    settle: u32,
    /// The gateway's process, if it runs here: its CPU time and memory are reported.
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object for each phase instead of the table.
    #[arg(long)]
    json: bool,
    /// Gateway: this machine, by name or address.
    #[arg(short = 'h', long, default_value = "127.0.0.1", help_heading = "Connection")]
    host: String,
    /// UDP port.
    #[arg(short, long, default_value_t = MQTTSN_PORT, help_heading = "Connection")]
    port: u16,
    /// Where --buffer publishes by MQTT, as HOST:PORT.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:1883",
        help_heading = "Connection"
    )]
    mqtt: String,
    /// Unacknowledged messages there.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = within(1_usize, u16::MAX.into()), help_heading = "Connection")]
    mqtt_window: usize,
    #[command(flatten)]
    login: LoginArgs,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl SnBenchCommand {
    /// Runs the command.
    pub(super) fn run(self) -> Outcome {
        let plan = self.plan()?;
        let json = self.json;
        let mut faults = Vec::new();
        if !json {
            say(SN_HEADING);
        }
        plan.run(
            &mut |report| {
                faults.extend(report.fault());
                if json {
                    say_json(serde_json::to_string(&report)?);
                } else {
                    say(report.row());
                }
                Ok(())
            },
            &mut tell,
        )?;
        if faults.is_empty() {
            Ok(())
        } else {
            Err(BenchError::Faults(faults).into())
        }
    }

    fn plan(&self) -> Result<SnPlan, BenchError> {
        let buffer = if self.buffer {
            let addresses = self.mqtt.to_socket_addrs();
            let mut addresses = addresses.map_err(BenchError::resolve(&self.mqtt))?;
            let server = Server {
                address: addresses.next().ok_or_else(|| BenchError::NoAddress {
                    host: self.mqtt.clone(),
                })?,
                tls: None,
                websocket: None,
                version: Version::V311,
                username: self.login.username()?,
                password: self.login.password(),
            };
            Some((server, self.mqtt_window))
        } else {
            None
        };
        Ok(SnPlan {
            gateway: self.gateway()?,
            swarm: SwarmPlan {
                sensors: self.clients,
                qos: self.qos,
                messages: self.messages,
                payload: self.payload,
                window: self.window,
                rate: self.rate,
                shared_topic: self.shared_topic,
                clean: !self.durable,
                keep_alive: self.keep_alive,
                sleep: self.sleep,
                buffered: self.buffer,
                retry_interval: Duration::from_secs_f64(self.retry_interval).as_nanos() as u64,
                retries: self.retries,
                run: 0,
            },
            buffer,
            stay: self.stay,
            settle: Duration::from_secs(self.settle.into()),
            pid: self.pid,
        })
    }

    /// Only from there the sensors' addresses can be answered.
    fn gateway(&self) -> Result<SocketAddrV4, BenchError> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses = addresses.map_err(BenchError::resolve(&self.host))?;
        let here = addresses.filter_map(|address| match address {
            SocketAddr::V4(address) if address.ip().is_loopback() => Some(address),
            _ => None,
        });
        let here = here.into_iter().next();
        here.ok_or_else(|| BenchError::Elsewhere {
            host: self.host.clone(),
        })
    }
}
