//! What the gateway counts, at one moment: the one source of `$SYS`, `/metrics`, the control socket and the command line.
//!
//! Taking a snapshot holds the bus for as long as a handful of numbers take. Lists of sessions are walked page by page, by the [survey](Survey), and only
//! while somebody asks.

mod families;
mod machine;
mod process;
mod survey;

pub(crate) use families::{Family, text};
pub(crate) use machine::Machine;
pub(crate) use process::Process;
pub(crate) use survey::{Survey, Surveyor};

use crate::alarms::Alarms;
use crate::bridges::{BridgeView, Bridges};
use crate::config::Config;
use crate::firmware::{Running, RunningSystem};
use crate::log::{DestinationView, LogHandle};
use crate::recovery::{RecoveryState, RecoveryView};
use crate::telemetry::SpanCounts;
use crate::timekeeping::Timekeeping;
use crate::traces::Traces;
use crate::wans::{WanView, Wans};
use headgate_auth::data_dir::DataDir;
use headgate_auth::{Access, LoginStats};
use headgate_bus::BusStats;
use headgate_bus::handle::Hub;
use headgate_model::store::StoreStats;
use headgate_model::{Instant, Metric};
use headgate_shell::{
    DatagramStats, ListenerStats, Metrics, RefuseReason, SockJsRefusal, SockJsRefusals, Tracer,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Where all counters are. Clones share them.
#[derive(Clone)]
pub(crate) struct Counters(Arc<Inner>);

struct Inner {
    parts: Parts,
    listeners: Mutex<BTreeMap<String, Arc<ListenerStats>>>,
    datagrams: Mutex<BTreeMap<String, Arc<DatagramStats>>>,
    peaks: Mutex<Peaks>,
    /// All listeners are bound, and clients are served.
    up: AtomicBool,
}

/// The parts of the gateway that count.
pub(crate) struct Parts {
    /// The bus and the store.
    pub hub: Hub,
    /// The adapters.
    pub totals: Arc<Metrics>,
    /// Bridges.
    pub bridges: Bridges,
    /// Log-ins.
    pub access: Arc<Access>,
    /// Alarms.
    pub alarms: Alarms,
    /// Sessions, one by one.
    pub surveyor: Surveyor,
    /// The log.
    pub log: LogHandle,
    /// Traces.
    pub traces: Traces,
    /// Where spans come from, and what becomes of them.
    pub spans: (Tracer, Arc<SpanCounts>),
    /// As of now: it has the gateway's name.
    pub config: watch::Receiver<Arc<Config>>,
    /// Whose disk is told.
    pub data_dir: DataDir,
    /// The system that runs.
    pub running: Running,
    /// Ways out.
    pub wans: Wans,
    /// How far the recovery is.
    pub recovery: RecoveryState,
}

/// The highest gauges so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peaks {
    pub clients: usize,
    pub sessions: usize,
    pub subscriptions: usize,
    pub filters: usize,
    pub retained: usize,
}

/// What one listener counts.
pub(crate) struct ListenerCounts {
    pub name: String,
    pub connections: usize,
    pub accepted: u64,
    pub opened: u64,
    pub accept_errors: u64,
    /// In the order of [`RefuseReason::ALL`].
    pub refused: [u64; RefuseReason::ALL.len()],
    /// Names and counts, where SockJS is spoken.
    pub sockjs_refused: Vec<(&'static str, u64)>,
}

/// What one socket or line for datagrams counts.
pub(crate) struct DatagramCounts {
    /// With its list: `mqttsn/sn`.
    pub name: String,
    pub counters: Vec<(&'static str, u64)>,
    pub gauges: Vec<(&'static str, u64)>,
}

/// All of it at one moment.
pub(crate) struct Snapshot {
    pub node: String,
    pub now: Instant,
    pub bus: BusStats,
    pub peaks: Peaks,
    pub store: StoreStats,
    pub store_failing: bool,
    pub store_full: bool,
    /// Of the adapters, by EMQ 2's names.
    pub totals: BTreeMap<&'static str, u64>,
    pub notices_dropped: u64,
    pub logins: LoginStats,
    pub listeners: Vec<ListenerCounts>,
    pub datagrams: Vec<DatagramCounts>,
    pub bridges: Vec<BridgeView>,
    pub wans: Vec<WanView>,
    /// How often another WAN became the way out.
    pub wan_switches: u64,
    /// `None` where there is none.
    pub recovery: Option<RecoveryView>,
    /// Name and severity of each alarm that stands.
    pub alarms: Vec<(String, &'static str)>,
    pub log: Vec<DestinationView>,
    pub traces_lost: u64,
    /// Spans that were sent, dropped for want of room, and taken by no collector.
    pub spans: [(&'static str, u64); 3],
    pub process: Process,
    pub machine: Machine,
    pub timekeeping: Timekeeping,
    /// The system that runs, where RAUC updates it.
    pub system: Option<RunningSystem>,
    /// Bytes free for us on the disk with the data, and in all; `None` where the system does not say.
    pub disk: Option<(u64, u64)>,
}

impl Counters {
    /// Of these parts; listeners are added as they are bound.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            listeners: Mutex::default(),
            datagrams: Mutex::default(),
            peaks: Mutex::default(),
            up: AtomicBool::new(false),
        }))
    }

    /// Tells of this listener from now on; `None` when it is gone.
    pub(crate) fn set_listener(&self, name: &str, stats: Option<Arc<ListenerStats>>) {
        set(&self.0.listeners, name, stats);
    }

    /// Tells of this socket or line from now on, under `{list}/{name}`; `None` when it is gone.
    pub(crate) fn set_datagrams(&self, name: &str, stats: Option<Arc<DatagramStats>>) {
        set(&self.0.datagrams, name, stats);
    }

    /// All listeners are bound, and clients are served.
    pub(crate) fn set_up(&self) {
        self.0.up.store(true, Ordering::Relaxed);
    }

    /// The bus.
    pub(crate) fn access(&self) -> &Access {
        &self.0.parts.access
    }

    /// The bus.
    pub(crate) fn hub(&self) -> &Hub {
        &self.0.parts.hub
    }

    /// Counts what no adapter's loop counts.
    pub(crate) fn count(&self, metric: Metric) {
        self.0.parts.totals.count(metric);
    }

    /// The name of the way out.
    pub(crate) fn active_wan(&self) -> Option<String> {
        self.0.parts.wans.active()
    }

    /// Where the data are.
    pub(crate) fn data_dir(&self) -> &DataDir {
        &self.0.parts.data_dir
    }

    /// The gateway's name.
    pub(crate) fn node(&self) -> String {
        self.0.parts.config.borrow().node.clone()
    }

    /// Why nobody should be sent here now; nothing when all is well.
    pub(crate) fn obstacles(&self) -> Vec<String> {
        let hub = self.hub();
        let reasons = [
            (!self.0.up.load(Ordering::Relaxed), "the gateway starts"),
            (hub.says_goodbye(), "the gateway stops"),
            (
                hub.is_failing(),
                "the store fails: what is published cannot be made durable",
            ),
        ];
        let reasons = reasons.into_iter().filter(|(holds, _)| *holds);
        let reasons = reasons.map(|(_, reason)| reason.to_owned());
        let (streams, datagrams) = (self.0.listeners.lock(), self.0.datagrams.lock());
        let down = streams.iter().map(|(name, stats)| (name, stats.is_down()));
        let down = down.chain(datagrams.iter().map(|(name, stats)| (name, stats.is_down())));
        let down = down.filter(|(_, is_down)| *is_down);
        reasons
            .chain(down.map(|(name, _)| format!("the listener `{name}` receives nothing now")))
            .collect()
    }

    /// Sessions, one by one, as far as they are worth telling.
    pub(crate) async fn survey(&self) -> Arc<Survey> {
        self.0.parts.surveyor.latest().await
    }

    /// Everything now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let Parts {
            hub,
            totals,
            bridges,
            access,
            alarms,
            log,
            traces,
            spans: (tracer, spans),
            data_dir,
            running,
            wans,
            recovery,
            ..
        } = &self.0.parts;
        let bus = hub.stats();
        let (active, _) = alarms.lists();
        let listeners = self.0.listeners.lock();
        let datagrams = self.0.datagrams.lock();
        Snapshot {
            node: self.node(),
            now: hub.clock().now(),
            peaks: self.0.peaks.lock().reach(&bus),
            bus,
            store: hub.store_stats(),
            store_failing: hub.is_failing(),
            store_full: hub.is_full(),
            totals: totals.by_name(),
            notices_dropped: hub.dropped_notices(),
            logins: access.stats(),
            listeners: listeners.iter().map(listener_counts).collect(),
            datagrams: datagrams.iter().map(datagram_counts).collect(),
            bridges: bridges.views(),
            wans: wans.views(),
            wan_switches: wans.switches(),
            recovery: recovery.view(),
            alarms: active
                .into_iter()
                .map(|alarm| (alarm.id, alarm.severity.name()))
                .collect(),
            log: log.destinations(),
            traces_lost: traces.lost(),
            spans: [
                ("sent", spans.sent()),
                ("dropped", tracer.spans_dropped()),
                ("failed", spans.failed()),
            ],
            process: Process::now(),
            machine: Machine::now(),
            timekeeping: Timekeeping::look(),
            system: running.now(),
            disk: rustix::fs::statvfs(&*data_dir.now())
                .ok()
                .map(|disk| (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)),
        }
    }
}

fn set<T>(list: &Mutex<BTreeMap<String, T>>, name: &str, stats: Option<T>) {
    let mut list = list.lock();
    match stats {
        Some(stats) => drop(list.insert(name.to_owned(), stats)),
        None => drop(list.remove(name)),
    }
}

fn listener_counts((name, stats): (&String, &Arc<ListenerStats>)) -> ListenerCounts {
    ListenerCounts {
        name: name.clone(),
        connections: stats.current(),
        accepted: stats.accepted(),
        opened: stats.opened(),
        accept_errors: stats.accept_errors(),
        refused: RefuseReason::ALL.map(|reason| stats.refused(reason)),
        sockjs_refused: stats.sockjs().into_iter().flat_map(sockjs_counts).collect(),
    }
}

fn sockjs_counts(refusals: &SockJsRefusals) -> impl Iterator<Item = (&'static str, u64)> {
    let all = SockJsRefusal::ALL.iter();
    all.map(|refusal| (refusal.name(), refusals.get(*refusal)))
}

fn datagram_counts((name, stats): (&String, &Arc<DatagramStats>)) -> DatagramCounts {
    DatagramCounts {
        name: name.clone(),
        counters: stats.counters(),
        gauges: stats.gauges(),
    }
}

impl Peaks {
    fn reach(&mut self, now: &BusStats) -> Self {
        let peaks = [
            (&mut self.clients, now.clients),
            (&mut self.sessions, now.sessions),
            (&mut self.subscriptions, now.subscriptions),
            (&mut self.filters, now.filters),
            (&mut self.retained, now.retained),
        ];
        for (peak, now) in peaks {
            *peak = now.max(*peak);
        }
        *self
    }
}

impl Snapshot {
    /// A counter of the adapters.
    pub(crate) fn total(&self, metric: Metric) -> u64 {
        self.named(metric.name())
    }

    /// The same by its name.
    pub(crate) fn named(&self, name: &str) -> u64 {
        self.totals.get(name).copied().unwrap_or(0)
    }

    /// PUBLISH packets that were taken and sent, at any QoS.
    pub(crate) fn messages(&self) -> (u64, u64) {
        let sum = |metrics: [Metric; 3]| metrics.into_iter().map(|metric| self.total(metric)).sum();
        (
            sum([Metric::Qos0Received, Metric::Qos1Received, Metric::Qos2Received]),
            sum([Metric::Qos0Sent, Metric::Qos1Sent, Metric::Qos2Sent]),
        )
    }
}
