//! What was measured, for people and for machines.

use super::flow::Tally;
use super::histogram::Histogram;
use super::process::Mark;
use super::{Case, Plan, wildcard_flow};
use headgate_mqtt_codec::Qos;
use serde::Serialize;

/// What was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Name of the case.
    pub case: &'static str,
    /// What is around MQTT: tcp, tls, ws or wss.
    pub transport: &'static str,
    /// Protocol version.
    pub version: String,
    /// QoS of its messages.
    pub qos: u8,
    /// N of the case.
    pub clients: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Unacknowledged messages for each publisher.
    pub window: usize,
    /// Undelivered messages for each publisher.
    pub backlog: u64,
    /// Messages a second that were to be published.
    pub rate: Option<f64>,
    /// How long it was measured.
    pub seconds: f64,
    /// Seconds of CPU time the broker took for a million deliveries, or connections.
    pub cpu_s_per_million: Option<f64>,
    /// Microseconds of CPU time the broker took for each publish, whoever got it.
    pub cpu_us_per_publish: Option<f64>,
    /// CPU seconds that the broker took for each second.
    pub broker_busy: Option<f64>,
    /// CPU seconds that we took for each second: near 1 we are what limits.
    pub generator_busy: f64,
    /// The broker's memory at the end.
    pub rss_bytes: Option<u64>,
    /// What the broker wrote to disks meanwhile.
    pub written_bytes: Option<u64>,
    /// What became of the messages.
    pub messages: Option<Messages>,
    /// What was subscribed to before.
    pub subscriptions: Option<Subscriptions>,
    /// What became of the connections.
    pub connections: Option<Connections>,
    /// How long a message, or a CONNACK, took, in microseconds.
    pub latency_us: Option<Latency>,
}

/// What became of the messages.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Messages {
    /// In the measured time, each once for each receiver.
    pub delivered: u64,
    /// That by the seconds.
    pub per_second: f64,
    /// In the whole run, as all that follow.
    pub lost: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came after a later one of their publisher.
    pub reordered: u64,
    /// Nobody sent them.
    pub foreign: u64,
    /// The broker did not take them.
    pub refused: u64,
    /// Nothing came any more, although something was to come.
    pub stalled: bool,
}

impl Messages {
    /// So many in these seconds.
    pub(crate) fn new(delivered: u64, seconds: f64, lost: u64, tally: Tally) -> Self {
        Self {
            delivered,
            per_second: delivered as f64 / seconds,
            lost,
            duplicates: tally.duplicates,
            reordered: tally.reordered,
            foreign: tally.foreign,
            refused: tally.refused,
            stalled: false,
        }
    }
}

/// What was subscribed to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Subscriptions {
    /// How many.
    pub made: u64,
    /// That by the seconds it took.
    pub per_second: f64,
    /// Microseconds of the broker's CPU time for each.
    pub cpu_us_each: Option<f64>,
    /// Growth of the broker's memory for each.
    pub rss_bytes_each: Option<f64>,
}

impl Subscriptions {
    /// So many between the two.
    pub(crate) fn new(made: u64, before: &Mark, after: &Mark) -> Self {
        let broker = after.broker.zip(before.broker);
        Self {
            made,
            per_second: made as f64 / after.since(before),
            cpu_us_each: broker
                .map(|(after, before)| (after.cpu - before.cpu).as_secs_f64() * 1e6 / made as f64),
            rss_bytes_each: broker
                .map(|(after, before)| after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / made as f64),
        }
    }
}

/// What became of the connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Connections {
    /// That were let in.
    pub made: u64,
    /// That by the seconds it took.
    pub per_second: f64,
    /// Refused, broken or too slow.
    pub failed: u64,
    /// Growth of the broker's memory for each.
    pub rss_bytes_each: Option<f64>,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// `None` if there is nothing.
    pub(crate) fn of(histogram: &Histogram) -> Option<Self> {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        (histogram.total() > 0).then(|| Self {
            p50: micros(histogram.percentile(0.5)),
            p99: micros(histogram.percentile(0.99)),
            p999: micros(histogram.percentile(0.999)),
            max: micros(histogram.max()),
        })
    }
}

impl Report {
    /// What all cases have in common. `units` are what the CPU time is divided by.
    pub(crate) fn new(plan: &Plan, seconds: f64, units: u64, (before, after): (&Mark, &Mark)) -> Self {
        let broker = after.broker.zip(before.broker);
        let cpu = broker.map(|(after, before)| (after.cpu - before.cpu).as_secs_f64());
        let own = (after.own.cpu - before.own.cpu).as_secs_f64();
        Self {
            case: plan.case.name(),
            transport: plan.server.transport(),
            version: plan.server.version.to_string(),
            qos: plan.qos as u8,
            clients: plan.clients,
            payload: plan.payload,
            window: plan.window,
            backlog: plan.backlog,
            rate: plan.rate,
            seconds,
            cpu_s_per_million: cpu.filter(|_| units > 0).map(|cpu| cpu * 1e6 / units as f64),
            cpu_us_per_publish: None,
            broker_busy: cpu.map(|cpu| cpu / seconds),
            generator_busy: own / seconds,
            rss_bytes: after.broker.map(|usage| usage.rss_bytes),
            written_bytes: broker
                .and_then(|(after, before)| Some(after.written_bytes?.saturating_sub(before.written_bytes?))),
            messages: None,
            subscriptions: None,
            connections: None,
            latency_us: None,
        }
    }

    /// The promise that was broken, if one was.
    pub(crate) fn fault(&self) -> Option<String> {
        let case = self.case;
        if let Some(connections) = self.connections
            && connections.failed > 0
        {
            return Some(format!("{case}: {} connections failed", connections.failed));
        }
        let m = self.messages?;
        let qos = self.qos;
        if case == Case::Wildcards.name() && m.lost + m.foreign > 0 {
            return Some(format!(
                "{case}: {} copies did not come, {} came to the wrong session",
                m.lost, m.foreign
            ));
        }
        if m.lost > 0 && qos > Qos::AtMostOnce as u8 {
            return Some(format!("{case}: {} messages of QoS {qos} did not come", m.lost));
        }
        if m.duplicates > 0 && qos != Qos::AtLeastOnce as u8 {
            return Some(format!(
                "{case}: {} messages of QoS {qos} came twice",
                m.duplicates
            ));
        }
        if m.reordered > 0 {
            return Some(format!("{case}: {} messages came out of order", m.reordered));
        }
        m.stalled.then(|| format!("{case}: messages stopped coming"))
    }

    /// A line of the table; [`HEADING`] is above it.
    pub(crate) fn row(&self) -> String {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let (count, rate) = match (self.messages, self.connections) {
            (Some(m), _) => (m.delivered, m.per_second),
            (_, Some(c)) => (c.made, c.per_second),
            _ => (0, 0.0),
        };
        let latency = self.latency_us.filter(|_| self.latency_counts());
        let micros = |pick: fn(&Latency) -> f64| or_dash(latency.map(|l| format!("{:.0}", pick(&l))));
        format!(
            "{:<9} {:<4} {:>3} {:>7} {:>7} {:>11} {:>10.0} {:>9} {:>7} {:>8} {:>4.0}% {:>8} {:>8} {:>8} {:>9}  {}",
            self.case,
            self.transport,
            self.qos,
            self.clients,
            self.payload,
            count,
            rate,
            or_dash(self.cpu_s_per_million.map(|cpu| format!("{cpu:.3}"))),
            or_dash(self.cpu_us_per_publish.map(|cpu| format!("{cpu:.2}"))),
            or_dash(self.rss_bytes.map(|bytes| format!("{:.1}", bytes as f64 / 1e6))),
            self.generator_busy * 100.0,
            micros(|l| l.p50),
            micros(|l| l.p99),
            micros(|l| l.p999),
            micros(|l| l.max),
            self.remarks(),
        )
    }

    /// In a closed loop latency is the length of the queue that the backlog allows, unless that is one message.
    fn latency_counts(&self) -> bool {
        self.rate.is_some() || self.backlog == 1 || self.connections.is_some()
    }

    fn remarks(&self) -> String {
        let mut counts = Vec::new();
        if let Some(m) = self.messages {
            counts.extend([
                (m.lost, "lost"),
                (m.duplicates, "twice"),
                (m.reordered, "out of order"),
                (m.foreign, "foreign"),
                (m.refused, "refused"),
            ]);
        }
        let mut remarks = Vec::new();
        if let Some(c) = self.connections {
            counts.push((c.failed, "failed"));
            remarks.extend(c.rss_bytes_each.map(|bytes| format!("{bytes:.0} bytes each")));
        }
        if let Some(s) = self.subscriptions {
            remarks.push(format!("{} subscriptions, {:.0} a second", s.made, s.per_second));
            remarks.extend(s.rss_bytes_each.map(|bytes| format!("{bytes:.0} bytes each")));
        }
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        remarks.extend(counts.map(|(count, what)| format!("{count} {what}")));
        if self.messages.is_some_and(|m| m.stalled) {
            remarks.push("stalled".into());
        }
        if remarks.is_empty() {
            "ok".into()
        } else {
            remarks.join(", ")
        }
    }
}

/// Above [`Report::row`].
pub(crate) const HEADING: &str = "case      over qos clients payload       count   a second   CPU s/M  us/pub   RSS MB   gen   p50 us   p99 us p99.9 us    max us  remarks";

/// Most connections that a case opens at a time.
pub(crate) fn connections(case: Case, clients: usize, window: usize) -> usize {
    match case {
        Case::Pairs => 2 * clients,
        Case::FanIn | Case::FanOut | Case::Retained => clients + 1,
        Case::Wildcards => clients + wildcard_flow::publishers(clients),
        Case::Idle | Case::Offline => clients,
        Case::Connect => window,
    }
}
