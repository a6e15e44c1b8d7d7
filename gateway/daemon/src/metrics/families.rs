//! A snapshot as families of samples: for Prometheus, and in JSON for programs.
//!
//! The number of samples is bounded: by what is configured (listeners, bridges), by lists of the program (reasons, parts of memory), and for sessions by
//! `metrics.top_sessions`.

use super::{ListenerCounts, Machine, Snapshot, Survey};
use crate::bridges::BridgeView;
use crate::wans::{WanState, WanView};
use headgate_bus::DropReason;
use headgate_model::store::StorePlace;
use headgate_shell::RefuseReason;
use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Characters of a client id in a label.
const LONGEST: usize = 128;

/// Samples of one name.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Family {
    /// As Prometheus wants it.
    pub name: String,
    /// What is counted.
    pub help: String,
    /// Whether it only grows.
    pub kind: Kind,
    /// The values.
    pub samples: Vec<Sample>,
}

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It does, but for restarts.
    Counter,
    /// It does not.
    Gauge,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Sample {
    /// By what it is told apart.
    #[serde(serialize_with = "as_map")]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

fn as_map<S: Serializer>(labels: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(labels.len()))?;
    for (name, value) in labels {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// The text format of Prometheus, version 0.0.4.
pub(crate) fn text(families: &[Family]) -> Result<String, prometheus::Error> {
    let families: Vec<MetricFamily> = families.iter().map(Family::encoded).collect();
    TextEncoder::new().encode_to_string(&families)
}

impl Family {
    fn encoded(&self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.clone());
        family.set_help(self.help.clone());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        let metrics = self.samples.iter().map(|sample| {
            let mut metric = Metric::default();
            let labels = sample.labels.iter().map(|(name, value)| {
                let mut label = LabelPair::default();
                label.set_name((*name).to_owned());
                label.set_value(value.clone());
                label
            });
            metric.set_label(labels.collect());
            match self.kind {
                Kind::Counter => {
                    let mut counter = Counter::default();
                    counter.set_value(sample.value);
                    metric.set_counter(counter);
                }
                Kind::Gauge => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(sample.value);
                    metric.set_gauge(gauge);
                }
            }
            metric
        });
        family.set_metric(metrics.collect());
        family
    }
}

/// Families as they are written down.
#[derive(Default)]
struct Families(Vec<Family>);

impl Families {
    fn push(&mut self, name: &str, help: &str, kind: Kind, samples: Vec<Sample>) {
        if !samples.is_empty() {
            self.0.push(Family {
                name: format!("headgate_{name}"),
                help: help.to_owned(),
                kind,
                samples,
            });
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Number) {
        self.push(name, help, Kind::Gauge, vec![sample([], value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Number) {
        self.push(
            &format!("{name}_total"),
            help,
            Kind::Counter,
            vec![sample([], value)],
        );
    }

    fn gauges(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.push(name, help, Kind::Gauge, samples.into_iter().collect());
    }

    fn counters(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.push(
            &format!("{name}_total"),
            help,
            Kind::Counter,
            samples.into_iter().collect(),
        );
    }
}

/// A value of each bridge: its name, what it is, and where it comes from.
type OfBridge = (&'static str, &'static str, fn(&BridgeView) -> f64);

/// What a sample may be. Counters beyond 2⁵³ lose their last digits, as everywhere in Prometheus.
trait Number {
    fn value(self) -> f64;
}

impl Number for u64 {
    fn value(self) -> f64 {
        self as f64
    }
}

impl Number for usize {
    fn value(self) -> f64 {
        self as f64
    }
}

impl Number for f64 {
    fn value(self) -> f64 {
        self
    }
}

impl Number for bool {
    fn value(self) -> f64 {
        f64::from(u8::from(self))
    }
}

fn sample<const N: usize>(labels: [(&'static str, &str); N], value: impl Number) -> Sample {
    Sample {
        labels: labels
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect(),
        value: value.value(),
    }
}

impl Snapshot {
    /// Everything, with the sessions that are worth telling.
    pub(crate) fn families(&self, survey: &Survey) -> Vec<Family> {
        let mut families = Families::default();
        self.gateway(&mut families);
        self.bus(&mut families);
        self.drops(&mut families);
        self.adapters(&mut families);
        self.logins(&mut families);
        self.memory(&mut families);
        self.store(&mut families);
        self.machine(&mut families);
        self.listeners(&mut families);
        self.datagrams(&mut families);
        self.bridges(&mut families);
        self.wans(&mut families);
        self.recovery(&mut families);
        sessions(survey, &mut families);
        families.0
    }

    fn gateway(&self, out: &mut Families) {
        let about = [("version", env!("CARGO_PKG_VERSION")), ("node", &*self.node)];
        out.gauges("info", "Which gateway this is.", [sample(about, true)]);
        out.gauge(
            "uptime_seconds",
            "Seconds since the gateway was started.",
            self.now.0 as f64 / 1_000.0,
        );
        let alarms = self.alarms.iter();
        out.gauges(
            "alarm",
            "1 for each alarm that stands.",
            alarms.map(|(id, severity)| sample([("alarm", &**id), ("severity", severity)], true)),
        );
        out.gauge("alarms", "Alarms that stand.", self.alarms.len());
        out.counter(
            "notices_dropped",
            "Presence and other notices that were not told under $SYS, for there were too many at once.",
            self.notices_dropped,
        );
        out.counters(
            "log_lines_lost",
            "Lines of the log that a destination had no room for.",
            self.log
                .iter()
                .map(|destination| sample([("destination", destination.name)], destination.lost)),
        );
        out.gauge(
            "trace_records_lost",
            "Records that traces under way had no time for.",
            self.traces_lost,
        );
        let spans = self.spans.iter();
        out.counters(
            "spans",
            "Spans of messages: sent to the collector, dropped for want of room, or failed, for no collector took them.",
            spans.map(|(result, n)| sample([("result", *result)], *n)),
        );
        let process = &self.process;
        let mut of_process = |name: &str, help: &str, kind, value: Option<f64>| {
            if let Some(value) = value {
                out.0.push(Family {
                    name: format!("process_{name}"),
                    help: help.to_owned(),
                    kind,
                    samples: vec![sample([], value)],
                });
            }
        };
        let number = |value: Option<u64>| value.map(|value| value as f64);
        of_process(
            "resident_memory_bytes",
            "Memory of the process.",
            Kind::Gauge,
            number(process.resident),
        );
        of_process(
            "cpu_seconds_total",
            "Processor time of the process.",
            Kind::Counter,
            process.cpu_seconds,
        );
        of_process(
            "open_fds",
            "Open files and sockets.",
            Kind::Gauge,
            number(process.open_files),
        );
        of_process(
            "max_fds",
            "How many there may be.",
            Kind::Gauge,
            number(process.max_files),
        );
    }

    fn bus(&self, out: &mut Families) {
        let bus = &self.bus;
        for (name, help, value) in [
            ("clients", "Clients connected now.", bus.clients),
            ("sessions", "Sessions, connected or not.", bus.sessions),
            (
                "durable_sessions",
                "Sessions that outlive their connection.",
                bus.durable_sessions,
            ),
            (
                "subscriptions",
                "Subscriptions of all sessions.",
                bus.subscriptions,
            ),
            ("topic_filters", "Distinct topic filters.", bus.filters),
            (
                "retained_messages",
                "Retained messages, without those below $SYS.",
                bus.retained,
            ),
            ("delayed_messages", "Delayed messages.", bus.delayed),
            (
                "queued_messages",
                "Deliveries that wait in all queues.",
                bus.queued,
            ),
            ("queued_bytes", "Bytes that wait in all queues.", bus.queued_bytes),
            (
                "inflight_messages",
                "QoS 1 and 2 deliveries that are not acknowledged.",
                bus.inflight,
            ),
        ] {
            out.gauge(name, help, value);
        }
        for (name, help, value) in [
            (
                "messages_published",
                "Messages published to the bus, by clients, bridges and the gateway.",
                bus.published,
            ),
            (
                "messages_unmatched",
                "Messages that matched no subscription.",
                bus.unmatched,
            ),
            (
                "messages_delivered",
                "Deliveries handed to connections.",
                bus.delivered,
            ),
            (
                "sessions_expired",
                "Sessions that ended by their expiry interval.",
                bus.expired_sessions,
            ),
            (
                "notes_refused",
                "Notes of sessions that were longer than they may be, by a fault of the gateway.",
                bus.refused_notes,
            ),
        ] {
            out.counter(name, help, value);
        }
        let (received, sent) = self.messages();
        out.counter("messages_received", "PUBLISH packets from clients.", received);
        out.counter("messages_sent", "PUBLISH packets to clients.", sent);
    }

    /// By the bus, and by the adapters before it.
    fn drops(&self, out: &mut Families) {
        let by_bus = DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), self.bus.dropped[*reason as usize]));
        out.counters(
            "messages_dropped",
            "Messages that were not delivered, or not kept, by reason.",
            by_bus
                .chain(self.reasons("messages/dropped/"))
                .map(|(reason, count)| sample([("reason", reason)], count)),
        );
        out.counters(
            "subscriptions_refused",
            "Subscriptions that were refused, by reason.",
            self.reasons("subscriptions/refused/")
                .map(|(reason, count)| sample([("reason", reason)], count)),
        );
    }

    fn reasons<'a>(&'a self, before: &'a str) -> impl Iterator<Item = (&'static str, u64)> + 'a {
        let totals = self.totals.iter();
        totals.filter_map(move |(name, count)| Some((name.strip_prefix(before)?, *count)))
    }

    /// Counters with EMQ 2's names: `packets/publish/received` is `headgate_packets_publish_received_total`.
    fn adapters(&self, out: &mut Families) {
        let by_reason = ["messages/dropped/", "subscriptions/refused/"];
        for (name, count) in &self.totals {
            if by_reason.iter().any(|before| name.starts_with(before)) {
                continue;
            }
            let help = format!("`{name}` of $SYS.");
            out.counter(&name.replace('/', "_"), &help, *count);
        }
    }

    fn logins(&self, out: &mut Families) {
        let logins = &self.logins;
        let counted = [
            ("checked", logins.checked),
            ("remembered", logins.remembered),
            ("busy", logins.busy),
            ("left", logins.left),
        ];
        out.counters(
            "logins",
            "Log-ins with a password: checked, remembered, refused for too many wait, gone before their turn.",
            counted.map(|(result, count)| sample([("result", result)], count)),
        );
        out.gauge("logins_waiting", "Log-ins that wait now.", logins.waiting);
    }

    fn memory(&self, out: &mut Families) {
        let memory = &self.bus.memory;
        let parts = [
            ("messages", memory.messages),
            ("sessions", memory.sessions),
            ("subscriptions", memory.subscriptions),
            ("queue_entries", memory.entries),
            ("buffers", memory.buffers),
        ];
        out.gauges(
            "memory_bytes",
            "The ledger of memory, by use.",
            parts.map(|(part, bytes)| sample([("part", part)], bytes)),
        );
        if memory.max < usize::MAX {
            out.gauge("memory_max_bytes", "The limit of that ledger.", memory.max);
        }
        let (retained, delayed) = (memory.retained, memory.delayed);
        out.gauge(
            "retained_bytes",
            "Bytes of retained messages, without those below $SYS.",
            retained,
        );
        out.gauge("delayed_bytes", "Bytes of delayed messages.", delayed);
    }

    fn store(&self, out: &mut Families) {
        let store = &self.store;
        for (name, help, value) in [
            ("commits", "Commits that wrote something.", store.commits),
            ("messages", "Bodies of messages written.", store.messages),
            ("payload_bytes", "Payload bytes of those.", store.payload_bytes),
            (
                "journal_bytes",
                "Bytes written to the journal.",
                store.journal_bytes,
            ),
            (
                "checkpoint_bytes",
                "Bytes written by checkpoints.",
                store.checkpoint_bytes,
            ),
            ("checkpoints", "Checkpoints finished.", store.checkpoints),
        ] {
            out.counter(&format!("store_{name}"), help, value);
        }
        out.gauge(
            "store_disk_bytes",
            "Bytes of all files of the store.",
            store.disk_bytes,
        );
        out.gauge("store_queued", "Queue entries in the store.", store.queued);
        out.gauge(
            "store_longest_seconds",
            "The longest that one call held the store's thread.",
            store.longest.as_secs_f64(),
        );
        out.gauge(
            "store_on_disk",
            "1 while the store is on the disk, 0 while it is in memory.",
            store.place == StorePlace::Disk,
        );
        out.gauge(
            "store_moving",
            "1 while the store is on its way to the other place.",
            store.is_moving,
        );
        out.gauge(
            "store_failing",
            "1 while commits fail, and nothing is acknowledged.",
            self.store_failing,
        );
        out.gauge(
            "store_full",
            "1 while the store has no room, and refuses.",
            self.store_full,
        );
        if let Some((free, all)) = self.disk {
            out.gauge("disk_free_bytes", "Free on the disk with the data.", free);
            out.gauge("disk_bytes", "Size of the disk with the data.", all);
        }
    }

    fn machine(&self, out: &mut Families) {
        let Machine {
            temperatures,
            networks,
            load,
            memory_total,
            memory_available,
            flash_life_used,
        } = &self.machine;
        out.gauges(
            "machine_temperature_celsius",
            "What the machine's sensors say.",
            temperatures
                .iter()
                .map(|(zone, degrees)| sample([("zone", &**zone)], *degrees)),
        );
        out.gauges(
            "machine_network_up",
            "1 while a network interface carries.",
            networks
                .iter()
                .map(|(name, up)| sample([("interface", &**name)], *up)),
        );
        if let Some(load) = load {
            out.gauge(
                "machine_load",
                "Tasks that ran or wanted to, over the last minute.",
                *load,
            );
        }
        if let Some((total, available)) = memory_total.zip(*memory_available) {
            out.gauge("machine_memory_bytes", "Memory of the machine.", total);
            out.gauge(
                "machine_memory_available_bytes",
                "Memory that could be had.",
                available,
            );
        }
        if let Some(tenths) = flash_life_used {
            out.gauge(
                "machine_flash_life_used_ratio",
                "How much of its life the flash memory has used up, by its own estimate.",
                f64::from(*tenths) / 10.0,
            );
        }
        if let Some(synchronized) = self.timekeeping.synchronized {
            out.gauge(
                "machine_clock_synchronized",
                "1 while a time service keeps the clock right.",
                synchronized,
            );
        }
        if let Some(system) = &self.system {
            let labels = [
                ("slot", &*system.slot),
                ("version", &*system.version),
                ("state", system.state.name()),
            ];
            out.gauges(
                "machine_system_info",
                "1; the system that runs, and whether it is good.",
                [sample(labels, true)],
            );
        }
    }

    fn listeners(&self, out: &mut Families) {
        let each = |count: fn(&ListenerCounts) -> f64| {
            let listeners = self.listeners.iter();
            listeners.map(move |listener| sample([("listener", &*listener.name)], count(listener)))
        };
        out.gauges(
            "listener_connections",
            "Connections open now, those in a handshake included.",
            each(|listener| listener.connections.value()),
        );
        out.counters(
            "listener_accepted",
            "Connections that the system gave us.",
            each(|listener| listener.accepted.value()),
        );
        out.counters(
            "listener_opened",
            "Connections that passed all handshakes.",
            each(|listener| listener.opened.value()),
        );
        out.counters(
            "listener_accept_errors",
            "Times that the system could not give us a connection.",
            each(|listener| listener.accept_errors.value()),
        );
        let refused = self.listeners.iter().flat_map(|listener| {
            let name = &*listener.name;
            let reasons = RefuseReason::ALL.into_iter().zip(listener.refused);
            reasons
                .map(move |(reason, count)| sample([("listener", name), ("reason", reason.label())], count))
        });
        out.counters(
            "listener_refused",
            "Connections that were refused before the protocol, by reason.",
            refused,
        );
        let sockjs = self.listeners.iter().flat_map(|listener| {
            let reasons = listener.sockjs_refused.iter();
            reasons.map(|(reason, count)| sample([("listener", &*listener.name), ("reason", reason)], *count))
        });
        out.counters(
            "sockjs_refused",
            "What SockJS refused, cut off or dropped, by reason.",
            sockjs,
        );
    }

    fn datagrams(&self, out: &mut Families) {
        let all = self.datagrams.iter();
        out.counters(
            "datagram_events",
            "What happened on sockets and lines for datagrams.",
            all.clone().flat_map(|socket| {
                let counters = socket.counters.iter();
                counters.map(|(name, count)| sample([("listener", &*socket.name), ("event", name)], *count))
            }),
        );
        out.gauges(
            "datagram_clients",
            "Clients of sockets and lines for datagrams, and what is kept of them.",
            all.flat_map(|socket| {
                let gauges = socket.gauges.iter();
                gauges.map(|(name, count)| sample([("listener", &*socket.name), ("kind", name)], *count))
            }),
        );
    }

    fn wans(&self, out: &mut Families) {
        let each = |count: fn(&WanView) -> f64| {
            let wans = self.wans.iter();
            wans.map(move |wan| sample([("wan", &*wan.name), ("interface", &*wan.interface)], count(wan)))
        };
        let works = |wan: &WanView| (wan.state == WanState::Works).value();
        out.gauges("wan_works", "1 while a WAN can be the way out.", each(works));
        let active = |wan: &WanView| wan.active.value();
        out.gauges("wan_active", "1 for the WAN that is the way out.", each(active));
        let answered = self.wans.iter().filter_map(|wan| {
            let seconds = wan.round_trip_ms? / 1_000.0;
            Some(sample(
                [("wan", &*wan.name), ("interface", &*wan.interface)],
                seconds,
            ))
        });
        out.gauges(
            "wan_round_trip_seconds",
            "How long the last answer took.",
            answered,
        );
        out.counters(
            "wan_probes",
            "How often it was tried whether a WAN works.",
            each(|wan| wan.probes.value()),
        );
        out.counters(
            "wan_probes_unanswered",
            "How often nothing answered.",
            each(|wan| wan.unanswered.value()),
        );
        out.counter(
            "wan_switches",
            "How often another WAN became the way out.",
            self.wan_switches,
        );
    }

    fn recovery(&self, out: &mut Families) {
        let Some(recovery) = &self.recovery else { return };
        out.gauge(
            "recovery_rounds",
            "How often all steps of the recovery were taken in vain.",
            u64::from(recovery.rounds),
        );
        if let Some(seconds) = recovery.next_in_seconds {
            out.gauge(
                "recovery_next_seconds",
                "While no uplink is connected: in how many seconds the recovery does something.",
                seconds,
            );
        }
    }

    fn bridges(&self, out: &mut Families) {
        let each = |count: fn(&BridgeView) -> f64| {
            let bridges = self.bridges.iter();
            bridges.map(move |bridge| sample([("bridge", &*bridge.name)], count(bridge)))
        };
        out.gauges(
            "bridge_connected",
            "1 while the remote answers.",
            each(|bridge| (bridge.state == "connected").value()),
        );
        let states = self.bridges.iter();
        out.gauges(
            "bridge_state",
            "1 for the state that a bridge is in.",
            states.map(|bridge| sample([("bridge", &*bridge.name), ("state", bridge.state)], true)),
        );
        let gauges: [OfBridge; 5] = [
            ("queue_messages", "QoS 1 and 2 messages that wait.", |bridge| {
                bridge.queue.messages.value()
            }),
            ("queue_bytes", "Bytes that wait.", |bridge| {
                bridge.queue.bytes.value()
            }),
            ("queue_max_messages", "Messages that may wait.", |bridge| {
                bridge.queue.max_messages.value()
            }),
            (
                "queue_in_flight",
                "Messages that are sent and not acknowledged.",
                |bridge| bridge.queue.in_flight.value(),
            ),
            ("queue_oldest_seconds", "Age of the oldest message.", |bridge| {
                bridge.queue.oldest_seconds.unwrap_or(0).value()
            }),
        ];
        for (name, help, count) in gauges {
            out.gauges(&format!("bridge_{name}"), help, each(count));
        }
        let counters: [OfBridge; 8] = [
            ("sent", "Messages sent, each time.", |bridge| bridge.sent.value()),
            ("sent_again", "Of those, sent again.", |bridge| {
                bridge.sent_again.value()
            }),
            ("batches", "Batches sent, each time.", |bridge| {
                bridge.batches.value()
            }),
            ("acknowledged", "Messages that the remote took over.", |bridge| {
                bridge.acknowledged.value()
            }),
            ("received", "Messages from the remote.", |bridge| {
                bridge.received.value()
            }),
            ("bytes", "Bytes of MQTT, both ways.", |bridge| {
                bridge.bytes.value()
            }),
            ("loops", "Messages stopped, for they went in a ring.", |bridge| {
                bridge.loops.value()
            }),
            (
                "duplicates",
                "Messages that came by another bridge too.",
                |bridge| bridge.duplicates.value(),
            ),
        ];
        for (name, help, count) in counters {
            out.counters(&format!("bridge_{name}"), help, each(count));
        }
        let by_reason = |reasons: fn(&BridgeView) -> &BTreeMap<&'static str, u64>| {
            let bridges = self.bridges.iter();
            bridges.flat_map(move |bridge| {
                let counted = reasons(bridge).iter();
                counted.map(|(reason, count)| sample([("bridge", &*bridge.name), ("reason", reason)], *count))
            })
        };
        out.counters(
            "bridge_dropped",
            "Messages that were dropped, by reason.",
            by_reason(|bridge| &bridge.dropped),
        );
        out.counters(
            "bridge_dead_letters",
            "Messages that the remote will never take, by reason.",
            by_reason(|bridge| &bridge.dead_letters),
        );
    }
}

fn sessions(survey: &Survey, out: &mut Families) {
    let queues = survey.queues.iter().enumerate();
    out.gauges(
        "session_queue_messages",
        "Deliveries that wait, of the sessions with the longest queues.",
        queues.map(|(place, (client, queued))| sample([("client", &*label(client, place))], *queued)),
    );
    out.gauge(
        "session_queue_messages_others",
        "Deliveries that wait in the queues of all other sessions.",
        survey.others,
    );
    let slow = survey.slow.iter().enumerate();
    out.gauges(
        "slow_subscriber_seconds",
        "The longest wait of a delivery, of the clients that take longest; what is over fades.",
        slow.map(|(place, (client, wait))| sample([("client", &*label(client, place))], *wait)),
    );
}

/// A client id that fits; one that is cut has its place behind, so that two stay two.
fn label(client: &str, place: usize) -> String {
    match client.char_indices().nth(LONGEST) {
        None => client.to_owned(),
        Some((end, _)) => format!("{}… ({place})", &client[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text format: HELP and TYPE once for a family; `\`, `"` and line feeds in label values are escaped.
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    #[test]
    fn labels_are_escaped_and_cut() {
        let evil = "a\"b\\c\nd";
        let long = "x".repeat(1_000);
        let survey = Survey {
            queues: vec![(evil.into(), 9), (long.clone(), 8), (long, 7)],
            others: 3,
            slow: Vec::new(),
        };
        let mut families = Families::default();
        sessions(&survey, &mut families);
        let text = text(&families.0).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "# HELP headgate_session_queue_messages Deliveries that wait, of the sessions with the longest queues.",
                "# TYPE headgate_session_queue_messages gauge",
                r#"headgate_session_queue_messages{client="a\"b\\c\nd"} 9"#,
            ]
        );
        assert_ne!(lines[3], lines[4]);
        assert!(lines[3].len() < 200);
        assert_eq!(lines.last(), Some(&"headgate_session_queue_messages_others 3"));
    }
}
