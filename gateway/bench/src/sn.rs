//! The case `sn`: up to a million MQTT-SN sensors from one process and one UDP socket. They come, publish, sleep, and wake for one message each;
//! each phase is a report.
//!
//! [`sn_swarm`](super::sn_swarm) decides what is sent and judges what comes, [`sn_backend`](super::sn_backend) is who writes to them by MQTT; both
//! without I/O.

use super::load::run_name;
use super::network::{Network, Ticker, Traffic};
use super::process::Mark;
use super::report::Latency;
use super::sn_backend::Backend;
use super::sn_socket::{Outbox, SnSocket};
use super::sn_swarm::{Counts, Phase, Swarm, SwarmPlan};
use super::{BenchError, Case, Plan, Server, Until};
use headgate_mqtt_codec::{Qos, Version};
use serde::Serialize;
use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// What a gateway does behind its last answer belongs to the cost; and nothing may come in it.
const LINGER: Duration = Duration::from_millis(300);

/// Sensors without an answer, and none with one, after which nobody is there.
const HOPELESS: u64 = 200;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct SnPlan {
    /// The gateway.
    pub gateway: SocketAddrV4,
    /// The sensors.
    pub swarm: SwarmPlan,
    /// Where their messages come from, and how many are under way there; without it they wake for nothing.
    pub buffer: Option<(Server, usize)>,
    /// Sensors say no goodbye.
    pub stay: bool,
    /// How long to wait behind each phase before the gateway's memory is read.
    pub settle: Duration,
    /// The gateway's process.
    pub pid: Option<u32>,
}

/// What was measured in one phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SnReport {
    /// Name of the phase.
    pub phase: &'static str,
    /// How many sensors there are.
    pub sensors: usize,
    /// QoS of what they publish.
    pub qos: u8,
    /// Datagrams under way at a time.
    pub window: usize,
    /// What was done: exchanges, or messages.
    pub count: u64,
    /// How long it took.
    pub seconds: f64,
    /// Count by seconds.
    pub per_second: f64,
    /// Seconds of CPU time the gateway took for a million.
    pub cpu_s_per_million: Option<f64>,
    /// CPU seconds that the gateway took for each second.
    pub gateway_busy: Option<f64>,
    /// CPU seconds that we took for each second: near 1 we are what limits.
    pub generator_busy: f64,
    /// The gateway's memory at the end.
    pub rss_bytes: Option<u64>,
    /// Its growth since the beginning of the run, for each sensor.
    pub rss_bytes_each: Option<f64>,
    /// What the gateway wrote to disks meanwhile.
    pub written_bytes: Option<u64>,
    /// Datagrams that we sent.
    pub datagrams_sent: u64,
    /// Datagrams that came.
    pub datagrams_received: u64,
    /// What was sent again because its answer did not come in time.
    pub retries: u64,
    /// Sensors that got no answer.
    pub failed: u64,
    /// What the gateway refused.
    pub refused: u64,
    /// Messages to sensors, each once.
    pub delivered: u64,
    /// Messages that had not come when PINGRESP said that this was all.
    pub lost: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that came to the wrong sensor, or are nobody's.
    pub foreign: u64,
    /// Messages that came after PINGRESP.
    pub late: u64,
    /// Datagrams that make no sense.
    pub malformed: u64,
    /// How long an exchange took, in microseconds.
    pub latency_us: Option<Latency>,
}

/// Above [`SnReport::row`].
pub(crate) const SN_HEADING: &str = "phase     qos sensors       count   a second   CPU s/M   RSS MB  B each   gen   p50 us   p99 us    max us  retries  remarks";

impl SnPlan {
    /// Carries it out; each report is handed to `report` when it is there, `progress` is told now and then how far it is.
    pub(crate) fn run(
        &self,
        report: &mut dyn FnMut(SnReport) -> Result<(), BenchError>,
        progress: &mut dyn FnMut(String),
    ) -> Result<(), BenchError> {
        let mut bytes = [0; 8];
        // Without randomness messages of another run may be taken for ours.
        let _ = getrandom::fill(&mut bytes);
        let number = u64::from_ne_bytes(bytes);
        let mut run = Run {
            plan: self,
            // What the MQTT side and the measuring of processes want to know.
            mqtt: Plan {
                case: Case::FanOut,
                qos: Qos::AtLeastOnce,
                clients: self.swarm.sensors,
                payload: self.swarm.payload,
                subscriptions: 0,
                window: self.buffer.as_ref().map_or(1, |(_, window)| *window),
                backlog: 0,
                rate: None,
                until: Until::Count(self.swarm.sensors as u64),
                warm_up: Duration::ZERO,
                durable: true,
                pid: self.pid,
                server: match &self.buffer {
                    Some((server, _)) => server.clone(),
                    // Nobody connects to it.
                    None => Server {
                        address: self.gateway.into(),
                        tls: None,
                        websocket: None,
                        version: Version::V311,
                        username: None,
                        password: None,
                    },
                },
            },
            swarm: Swarm::new(SwarmPlan {
                run: number,
                ..self.swarm.clone()
            }),
            run: number,
            socket: SnSocket::open(self.gateway)?,
            outbox: Outbox::default(),
            epoch: Instant::now(),
            rss_before: None,
        };
        run.rss_before = Mark::now(&run.mqtt)?.broker.map(|usage| usage.rss_bytes);
        let mut phases = vec![Phase::Connect];
        if self.buffer.is_some() {
            phases.push(Phase::Subscribe);
        }
        if self.swarm.messages > 0 {
            phases.extend([Phase::Register, Phase::Publish]);
        }
        phases.extend([Phase::Sleep, Phase::Wake]);
        if !self.stay {
            phases.push(Phase::Leave);
        }
        for phase in phases {
            if phase == Phase::Wake && self.buffer.is_some() {
                report(run.fill_mailboxes(progress)?)?;
            }
            report(run.spend(phase, progress)?)?;
        }
        Ok(())
    }
}

struct Run<'a> {
    plan: &'a SnPlan,
    mqtt: Plan,
    swarm: Swarm,
    /// As in every payload.
    run: u64,
    socket: SnSocket,
    outbox: Outbox,
    epoch: Instant,
    rss_before: Option<u64>,
}

impl Run<'_> {
    fn spend(&mut self, phase: Phase, progress: &mut dyn FnMut(String)) -> Result<SnReport, BenchError> {
        let before = Mark::now(&self.mqtt)?;
        let mut ticker = Ticker::new();
        self.swarm.begin(phase, self.nanos());
        while !self.swarm.is_done() {
            self.turn()?;
            let Counts { done, failed, .. } = self.swarm.counts;
            if done == 0 && failed >= HOPELESS.min(self.plan.swarm.sensors as u64) {
                return Err(BenchError::Connect {
                    address: self.plan.gateway.to_string(),
                    cause: ErrorKind::TimedOut.into(),
                });
            }
            ticker.tell(progress, || {
                let (begun, total) = self.swarm.progress();
                let retries = self.swarm.counts.retries;
                format!("sn, {}: {begun} of {total}, {retries} retries", phase.name())
            });
        }
        let at = Instant::now();
        while at.elapsed() < LINGER {
            self.turn()?;
        }
        let mut after = Mark {
            at,
            ..Mark::now(&self.mqtt)?
        };
        self.settle(&mut after)?;
        let counts = self.swarm.counts;
        Ok(SnReport {
            latency_us: Latency::of(&self.swarm.latency),
            ..self.report(phase.name(), counts, (&before, &after))
        })
    }

    /// The gateway's memory when it has tidied up. What it costs to do so is not the phase's.
    fn settle(&mut self, mark: &mut Mark) -> Result<(), BenchError> {
        let from = Instant::now();
        while from.elapsed() < self.plan.settle {
            self.turn()?;
        }
        if let (Some(then), Some(now)) = (&mut mark.broker, Mark::now(&self.mqtt)?.broker) {
            then.rss_bytes = now.rss_bytes;
        }
        Ok(())
    }

    /// Sends what waits to be sent, and takes what came.
    fn turn(&mut self) -> Result<(), BenchError> {
        let now = self.nanos();
        self.swarm.fill(now, &mut self.outbox);
        self.socket.send(&mut self.outbox)?;
        let (swarm, outbox, epoch) = (&mut self.swarm, &mut self.outbox, self.epoch);
        let mut now = None;
        self.socket.recv(|to, datagram| {
            let now = *now.get_or_insert_with(|| nanos_since(epoch));
            swarm.datagram(to, datagram, now, outbox);
        })?;
        Ok(())
    }

    /// A message for each sensor, while they sleep.
    fn fill_mailboxes(&mut self, progress: &mut dyn FnMut(String)) -> Result<SnReport, BenchError> {
        let (server, window) = match &self.plan.buffer {
            Some((server, window)) => (server, *window),
            None => (&self.mqtt.server, self.mqtt.window),
        };
        let guest = server.enter(&format!("bench-{}", run_name()), true, 0)?;
        let window = window.min(guest.receive_maximum.into());
        let plan = &self.plan.swarm;
        let mut backend = Backend::new(
            plan.sensors as u64,
            plan.payload,
            self.run,
            server.version,
            window,
        );
        let mut network = Network::new(&self.mqtt)?;
        network.add(guest.into_client()?)?;
        let before = Mark::now(&self.mqtt)?;
        let done = |backend: &Backend, _| backend.outstanding() == 0;
        let stalled = network.turn_until(&mut backend, done, "sn, buffer", progress)?;
        let at = network.at;
        network.linger(&mut backend, LINGER)?;
        let mut after = Mark {
            at,
            ..Mark::now(&self.mqtt)?
        };
        self.settle(&mut after)?;
        let counts = Counts {
            done: backend.acknowledged,
            refused: backend.refused,
            failed: if stalled { backend.outstanding() } else { 0 },
            ..Counts::default()
        };
        Ok(self.report("buffer", counts, (&before, &after)))
    }

    fn report(&self, phase: &'static str, counts: Counts, (before, after): (&Mark, &Mark)) -> SnReport {
        let seconds = after.since(before);
        let gateway = after.broker.zip(before.broker);
        let cpu = gateway.map(|(after, before)| (after.cpu - before.cpu).as_secs_f64());
        let rss_bytes = after.broker.map(|usage| usage.rss_bytes);
        let grown = rss_bytes
            .zip(self.rss_before)
            .map(|(after, before)| after as f64 - before as f64);
        let sensors = self.plan.swarm.sensors;
        SnReport {
            phase,
            sensors,
            qos: u8::from(self.plan.swarm.qos == headgate_mqttsn_codec::Qos::AtLeastOnce),
            window: self.plan.swarm.window,
            count: counts.done,
            seconds,
            per_second: counts.done as f64 / seconds,
            cpu_s_per_million: cpu
                .filter(|_| counts.done > 0)
                .map(|cpu| cpu * 1e6 / counts.done as f64),
            gateway_busy: cpu.map(|cpu| cpu / seconds),
            generator_busy: (after.own.cpu - before.own.cpu).as_secs_f64() / seconds,
            rss_bytes,
            rss_bytes_each: grown.map(|grown| grown / sensors as f64),
            written_bytes: gateway
                .and_then(|(after, before)| Some(after.written_bytes?.saturating_sub(before.written_bytes?))),
            datagrams_sent: counts.sent,
            datagrams_received: counts.received,
            retries: counts.retries,
            failed: counts.failed,
            refused: counts.refused,
            delivered: counts.delivered,
            lost: counts.lost,
            duplicates: counts.duplicates,
            foreign: counts.foreign,
            late: counts.late,
            malformed: counts.malformed,
            latency_us: None,
        }
    }

    fn nanos(&self) -> u64 {
        nanos_since(self.epoch)
    }
}

fn nanos_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl SnReport {
    /// The promise that was broken, if one was.
    pub(crate) fn fault(&self) -> Option<String> {
        // What comes again after a lost acknowledgement is no fault at QoS 1.
        let faults = self
            .counts()
            .into_iter()
            .filter(|(count, what)| *count > 0 && *what != "twice");
        let faults: Vec<String> = faults.map(|(count, what)| format!("{count} {what}")).collect();
        (!faults.is_empty()).then(|| format!("{}: {}", self.phase, faults.join(", ")))
    }

    /// A line of the table; [`SN_HEADING`] is above it.
    pub(crate) fn row(&self) -> String {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let micros = |pick: fn(&Latency) -> f64| {
            or_dash(
                self.latency_us
                    .as_ref()
                    .map(|latency| format!("{:.0}", pick(latency))),
            )
        };
        let mut remarks = Vec::new();
        if self.delivered > 0 {
            remarks.push(format!("{} messages", self.delivered));
        }
        let counts = self.counts().into_iter().filter(|(count, _)| *count > 0);
        remarks.extend(counts.map(|(count, what)| format!("{count} {what}")));
        if remarks.is_empty() {
            remarks.push("ok".into());
        }
        format!(
            "{:<9} {:>3} {:>7} {:>11} {:>10.0} {:>9} {:>8} {:>7} {:>4.0}% {:>8} {:>8} {:>9} {:>8}  {}",
            self.phase,
            self.qos,
            self.sensors,
            self.count,
            self.per_second,
            or_dash(self.cpu_s_per_million.map(|cpu| format!("{cpu:.3}"))),
            or_dash(self.rss_bytes.map(|bytes| format!("{:.1}", bytes as f64 / 1e6))),
            or_dash(self.rss_bytes_each.map(|bytes| format!("{bytes:.0}"))),
            self.generator_busy * 100.0,
            micros(|l| l.p50),
            micros(|l| l.p99),
            micros(|l| l.max),
            self.retries,
            remarks.join(", "),
        )
    }

    fn counts(&self) -> [(u64, &'static str); 7] {
        [
            (self.failed, "without an answer"),
            (self.refused, "refused"),
            (self.lost, "lost"),
            (self.duplicates, "twice"),
            (self.foreign, "foreign"),
            (self.late, "after PINGRESP"),
            (self.malformed, "malformed"),
        ]
    }
}

#[cfg(test)]
#[path = "sn_tests.rs"]
mod tests;
