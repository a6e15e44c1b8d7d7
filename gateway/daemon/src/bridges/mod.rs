//! Bridges to other brokers: which there are, and what operators do with them while the gateway runs.
//!
//! A bridge is known by its name. It comes from the configuration, or was added at run time and is kept in a file of its own. Always true: a change
//! concerns one bridge and leaves its queue as it is; the same settings again change nothing.

mod attempt;
mod budget;
mod credentials;
mod error;
mod ledger;
mod probe;
mod provisioner;
mod queue;
mod rates;
mod runner;
mod view;
mod way;

pub(crate) use credentials::escape;
pub(crate) use error::BridgeError;
pub(crate) use ledger::Report;
pub(crate) use probe::Finding;
pub(crate) use view::BridgeView;
pub(crate) use way::{address_faults, tls_faults};

use crate::config::{DEFAULT_NODE, explain_text};
use crate::sys::unix_time;
use crate::timeline::ClockState;
use crate::wans::Wans;
use budget::Budget;
use headgate_auth::data_dir::{DataDir, DataPath};
use headgate_bridge::{BridgePlan, BridgeSettings, BridgeState, BridgeStatus, Unmapped, Uplink};
use headgate_bus::handle::Hub;
use headgate_dial::{Dial, WayOut};
use headgate_model::{Fault, Metric, Naming, Rewriter, Topic};
use headgate_shell::{Connections, Metrics, Tracer};
use ledger::{LedgerFile, Line};
use parking_lot::Mutex;
use provisioner::{Provisioner, Service};
use rates::Rates;
use runner::{Order, Runner};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// How long a bridge may take to end its connection and go.
const LEAVE: Duration = Duration::from_secs(10);
/// How often rates are taken, in seconds.
const SAMPLE: u64 = 10;
/// How often a line is written into the ledgers, in seconds.
const LINE: u64 = 300;

/// All bridges. Clones share them.
#[derive(Clone)]
pub(crate) struct Bridges(Arc<Inner>);

struct Inner {
    /// Whether the system's clock is trusted.
    clock: Arc<ClockState>,
    hub: Hub,
    /// By which bridges leave.
    wans: Wans,
    /// Connections, which are waited for when the gateway stops.
    links: TaskTracker,
    /// Who wants to know what they do.
    tracer: Tracer,
    node: Mutex<String>,
    /// Of connections to come.
    naming: Arc<Mutex<Arc<Naming>>>,
    /// Added bridges, ledgers and who is paused.
    folder: DataPath,
    running: Mutex<BTreeMap<String, Running>>,
    /// What was counted of bridges that were stopped, and may be started again.
    books: Mutex<BTreeMap<String, Books>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

struct Running {
    plan: Arc<BridgePlan>,
    provisioner: Option<Arc<Provisioner>>,
    status: Arc<BridgeStatus>,
    metrics: Arc<Metrics>,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
    source: Source,
    paused: bool,
    rates: Rates,
    /// What had been counted when the ledger's last line was written.
    told: Option<Line>,
    /// The ledger knows that this run has begun.
    begun: bool,
    /// The ledger could not be written.
    unwritten: bool,
}

impl Running {
    /// Tells when the ledger cannot be written, and when it can again. Whether it was.
    fn is_written(&mut self, result: io::Result<()>) -> bool {
        let bridge = &self.plan.settings().name;
        match &result {
            Err(error) if !self.unwritten => {
                tracing::warn!(bridge, %error, "the ledger of a bridge cannot be written");
            }
            Ok(()) if self.unwritten => tracing::info!(bridge, "the ledger of a bridge is written again"),
            _ => {}
        }
        self.unwritten = result.is_err();
        result.is_ok()
    }
}

/// Writes to the log when the remote answers, and when it is silent. The runner tells of the ends.
fn tell_of_states(bridge: &str, status: &Arc<BridgeStatus>) {
    let (bridge, known) = (bridge.to_owned(), Arc::downgrade(status));
    status.observe(move |before, now| {
        let remote = known.upgrade().map(|status| status.remote());
        match (before, now) {
            (BridgeState::Stalled, BridgeState::Connected) => {
                tracing::info!(bridge, remote, "the remote acknowledges again");
            }
            (_, BridgeState::Connected) => tracing::info!(bridge, remote, "bridge connected"),
            (_, BridgeState::Stalled) => {
                tracing::warn!(bridge, remote, "the remote is connected and acknowledges nothing");
            }
            _ => {}
        }
    });
}

/// What a bridge counted since the gateway's start, whatever its settings were.
#[derive(Default)]
struct Books {
    status: Arc<BridgeStatus>,
    metrics: Arc<Metrics>,
    told: Option<Line>,
    begun: bool,
}

/// Where a bridge's settings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// In the configuration.
    Configuration,
    /// It was added at run time.
    Added,
}

/// What a topic is called on the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Renamed {
    /// As it was given.
    pub topic: String,
    /// `out`: it is ours; `in`: it is the remote's.
    pub direction: &'static str,
    /// `null`: the bridge does not carry it.
    pub becomes: Option<String>,
    /// The place of the rule, from 0.
    pub rule: Option<usize>,
    /// Why the new name would be none.
    pub fault: Option<String>,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// It was not there.
    Added,
    /// Its settings are others now; its queue is what it was.
    Changed,
    /// Nothing was done.
    Unchanged,
    /// It is not in the configuration any more; its queue is kept.
    Gone,
}

/// Settings that can be.
pub(crate) struct Checked {
    plan: Arc<BridgePlan>,
    dials: Vec<Dial>,
    service: Option<Service>,
}

impl Checked {
    /// The error names the key. `node` is this gateway.
    pub(crate) fn new(settings: &BridgeSettings, node: &str) -> Result<Self, Fault> {
        if node == DEFAULT_NODE {
            return Err(Fault::new(
                "",
                format!(
                    "`node` is still `{node}`: a gateway with bridges needs a name of its own, for messages that come round a ring are known by it"
                ),
            ));
        }
        let service = Service::new(settings, node)?;
        let settings = settings.clone().with_preset();
        let dials = way::dials(&settings)?;
        let plan = BridgePlan::new(settings, node).map_err(|error| error.fault())?;
        Ok(Self {
            plan: Arc::new(plan),
            dials,
            service,
        })
    }

    /// Walks the way to the remote end, for whoever has no running gateway. `None` where only the gateway knows the remote.
    pub(crate) fn probe(self) -> Option<mpsc::UnboundedReceiver<Finding>> {
        let is_known = self.service.is_none();
        is_known.then(|| probe::start(self.plan, self.dials, None, || {}))
    }

    fn name(&self) -> &str {
        &self.plan.settings().name
    }

    /// It leaves by the WAN that is the way out, unless its settings say otherwise.
    fn leaving_by(mut self, wans: &Wans) -> Self {
        let way_out = leave_by(&mut self.dials, self.plan.settings(), wans);
        if let Some(service) = &mut self.service {
            service.leaving_by(way_out);
        }
        self
    }
}

/// Has connections leave by the WAN that is the way out, unless the settings say otherwise.
fn leave_by(dials: &mut [Dial], settings: &BridgeSettings, wans: &Wans) -> Option<Arc<dyn WayOut>> {
    let way_out = settings.wan.then(|| Arc::new(wans.clone()) as Arc<dyn WayOut>);
    for dial in dials {
        dial.way_out.clone_from(&way_out);
    }
    way_out
}

/// What is wrong with a bridge whose remote a service names.
pub(crate) fn check_service(settings: &BridgeSettings, node: &str) -> Result<(), Fault> {
    Service::new(settings, node).map(drop)
}

impl Bridges {
    /// None yet. What they bring in is rewritten by nothing until [`Self::set_rewriter`].
    /// `clock`: whether the system's clock is trusted.
    pub(crate) fn new(
        hub: &Hub,
        links: &TaskTracker,
        tracer: &Tracer,
        wans: &Wans,
        node: &str,
        data_dir: &DataDir,
        clock: Arc<ClockState>,
    ) -> Self {
        Self(Arc::new(Inner {
            clock,
            hub: hub.clone(),
            wans: wans.clone(),
            links: links.clone(),
            tracer: tracer.clone(),
            node: Mutex::new(node.to_owned()),
            naming: Arc::default(),
            folder: data_dir.join("bridges"),
            running: Mutex::default(),
            books: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }))
    }

    /// What they bring in is rewritten by this from now on; a connection that is there goes on as it was.
    pub(crate) fn set_rewriter(&self, rewriter: &Arc<Rewriter>) {
        *self.0.naming.lock() = Arc::new(Naming {
            rewriter: Arc::clone(rewriter),
            ..Naming::default()
        });
    }

    /// Starts those of the configuration and those that were added before. What was added and cannot be read is left out, with a word.
    pub(crate) async fn start(&self, configured: Vec<Checked>) {
        let node = self.0.node.lock().clone();
        self.configure(configured, &node).await;
        self.put_added().await;
    }

    /// Whether those that were added could be where the gateway has this name.
    pub(crate) fn could_be_of(&self, node: &str) -> Result<(), BridgeError> {
        let running = self.0.running.lock();
        let mut added = running.values().filter(|bridge| bridge.source == Source::Added);
        added.try_for_each(|bridge| Ok(Checked::new(bridge.plan.settings(), node).map(drop)?))
    }

    async fn put_added(&self) {
        for path in self.0.added_files() {
            let text = fs::read_to_string(&path).map_err(|cause| BridgeError::File {
                path: path.clone(),
                cause,
            });
            let is_of_file = |name: &str| {
                let running = self.0.running.lock();
                let bridge = running.get(name);
                bridge.is_some_and(|bridge| bridge.source == Source::Configuration)
            };
            match text.and_then(|text| self.0.read(&text)) {
                Ok(added) if is_of_file(added.name()) => {
                    tracing::warn!(
                        bridge = added.name(),
                        "a bridge of the configuration has the name of an added one"
                    );
                }
                Ok(added) => {
                    self.0.put(added, Source::Added).await;
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "an added bridge cannot be used");
                }
            }
        }
    }

    /// Makes the bridges of the configuration those that it names. One that it names no more is stopped, and its queue kept. Where the gateway has another name from now on,
    /// all connect anew.
    pub(crate) async fn configure(&self, configured: Vec<Checked>, node: &str) -> BTreeMap<String, Change> {
        let _one = self.0.changing.lock().await;
        let is_renamed = std::mem::replace(&mut *self.0.node.lock(), node.to_owned()) != node;
        let named: BTreeSet<&str> = configured.iter().map(Checked::name).collect();
        let gone: Vec<String> = {
            let running = self.0.running.lock();
            let of_file = running
                .iter()
                .filter(|(_, bridge)| bridge.source == Source::Configuration);
            of_file
                .map(|(name, _)| name.clone())
                .filter(|name| !named.contains(name.as_str()))
                .collect()
        };
        let mut changes = BTreeMap::new();
        for name in gone {
            if let Some(plan) = self.0.stop(&name).await {
                queue::retire(&self.0.hub, &plan).await;
                tracing::info!(
                    bridge = name,
                    "bridge is gone from the configuration, its queue is kept"
                );
                changes.insert(name, Change::Gone);
            }
        }
        for bridge in configured {
            let name = bridge.name().to_owned();
            changes.insert(name, self.0.put(bridge, Source::Configuration).await);
        }
        if is_renamed {
            self.put_added().await;
        }
        changes
    }

    /// Adds or changes a bridge at run time; `text` is its settings in TOML, which are kept as they are.
    pub(crate) async fn add(&self, text: &str) -> Result<(String, Change), BridgeError> {
        let _one = self.0.changing.lock().await;
        let bridge = self.0.read(text)?;
        let name = bridge.name().to_owned();
        let running = self.0.running.lock().get(&name).map(|bridge| bridge.source);
        if running == Some(Source::Configuration) {
            return Err(BridgeError::Configured(name));
        }
        self.0.write(&format!("{name}.toml"), text.as_bytes())?;
        Ok((name, self.0.put(bridge, Source::Added).await))
    }

    /// Stops a bridge for good and throws its queue away. How many messages that were.
    pub(crate) async fn remove(&self, name: &str) -> Result<u64, BridgeError> {
        let _one = self.0.changing.lock().await;
        let source = self.0.running.lock().get(name).map(|bridge| bridge.source);
        match source {
            None if !name.contains('/') => return self.remove_left_over(name),
            None => return Err(BridgeError::Unknown(name.to_owned())),
            Some(Source::Configuration) => return Err(BridgeError::Configured(name.to_owned())),
            Some(Source::Added) => {}
        }
        let path = self.0.added(name);
        fs::remove_file(path.now()).map_err(|cause| file_error(&path, cause))?;
        let Some(plan) = self.0.stop(name).await else {
            return Err(BridgeError::Unknown(name.to_owned()));
        };
        self.0.books.lock().remove(name);
        let client = plan.local_client_id();
        let report = self.0.hub.link_report(client.as_str());
        self.0.hub.remove_session(client.as_str());
        let _ = fs::remove_file(self.0.ledger(name).now());
        let _ = fs::remove_file(self.0.assignment(name).now());
        tracing::info!(bridge = name, "bridge removed");
        Ok(report.map_or(0, |report| report.queued + report.in_flight))
    }

    /// The queue of a bridge that is gone from the configuration.
    fn remove_left_over(&self, name: &str) -> Result<u64, BridgeError> {
        let client = format!("$bridge/{name}");
        let report = self.0.hub.link_report(&client);
        if !self.0.hub.remove_session(&client) {
            return Err(BridgeError::Unknown(name.to_owned()));
        }
        self.0.books.lock().remove(name);
        let _ = fs::remove_file(self.0.ledger(name).now());
        let _ = fs::remove_file(self.0.assignment(name).now());
        tracing::info!(bridge = name, "the queue of a former bridge was removed");
        Ok(report.map_or(0, |report| report.queued + report.in_flight))
    }

    /// Ends the connection and makes none until [`Bridges::resume`], also after a restart. What goes out is queued.
    pub(crate) fn pause(&self, name: &str) -> Result<(), BridgeError> {
        self.set_paused(name, true)
    }

    /// Lets a paused bridge go on; one that waits before its next try tries at once.
    pub(crate) fn resume(&self, name: &str) -> Result<(), BridgeError> {
        self.set_paused(name, false)
    }

    fn set_paused(&self, name: &str, paused: bool) -> Result<(), BridgeError> {
        let names: Vec<String> = {
            let mut running = self.0.running.lock();
            let bridge = running
                .get_mut(name)
                .ok_or_else(|| BridgeError::Unknown(name.to_owned()))?;
            let goes_on = !paused && !bridge.paused;
            let orders: &[Order] = match goes_on {
                true if bridge.status.state().0 == BridgeState::Connected => &[],
                // It may be waiting before its next try.
                true => &[Order::Pause, Order::Resume],
                false if paused => &[Order::Pause],
                false => &[Order::Resume],
            };
            bridge.paused = paused;
            for order in orders {
                let _ = bridge.orders.send(*order);
            }
            let paused = running.iter().filter(|(_, bridge)| bridge.paused);
            paused.map(|(name, _)| name.clone()).collect()
        };
        self.0.write("paused", names.join("\n").as_bytes())
    }

    /// Throws away what waits for a bridge. How many messages that were.
    pub(crate) fn flush(&self, name: &str) -> Result<usize, BridgeError> {
        let plan = self.plan(name)?;
        let flushed = self.0.hub.flush(plan.local_client_id().as_str());
        tracing::warn!(bridge = name, flushed, "the queue of a bridge was thrown away");
        Ok(flushed.unwrap_or(0))
    }

    /// What all bridges do.
    pub(crate) fn views(&self) -> Vec<BridgeView> {
        let running = self.0.running.lock();
        running.values().map(|bridge| self.0.view(bridge)).collect()
    }

    /// What one bridge does.
    pub(crate) fn view(&self, name: &str) -> Result<BridgeView, BridgeError> {
        let running = self.0.running.lock();
        let bridge = running.get(name);
        bridge
            .map(|bridge| self.0.view(bridge))
            .ok_or_else(|| BridgeError::Unknown(name.to_owned()))
    }

    /// What topics are called on the other side, by the rules of a bridge that is given in TOML.
    pub(crate) fn preview(&self, text: &str, topics: &[String]) -> Result<Vec<Renamed>, BridgeError> {
        let bridge = self.0.read(text)?;
        let map = bridge.plan.topics();
        let mut renamed = Vec::new();
        for topic in topics {
            let parsed = Topic::try_from(topic.as_str());
            let parsed = parsed.map_err(|error| Fault::new("topics", format!("`{topic}`: {error}")))?;
            let ways = [("out", map.outgoing(&parsed)), ("in", map.incoming(&parsed))];
            for (direction, mapped) in ways {
                let (becomes, rule, fault) = match mapped {
                    Ok(mapped) => (Some(mapped.topic.to_string()), Some(mapped.rule), None),
                    Err(Unmapped::NoRule) => (None, None, None),
                    Err(Unmapped::Invalid(error)) => (None, None, Some(error.to_string())),
                };
                renamed.push(Renamed {
                    topic: topic.clone(),
                    direction,
                    becomes,
                    rule,
                    fault,
                });
            }
        }
        Ok(renamed)
    }

    /// Walks the way of a bridge that is given in TOML, which need not be there.
    pub(crate) fn probe_new(&self, text: &str) -> Result<mpsc::UnboundedReceiver<Finding>, BridgeError> {
        let bridge = self.0.read(text)?;
        let name = bridge.name().to_owned();
        bridge.leaving_by(&self.0.wans).probe().ok_or_else(|| {
            let what =
                format!("`{name}`: a service says where its remote is: it can be tested when it is there");
            Fault::new("addresses", what).into()
        })
    }

    /// The settings of a bridge that was added, as they were written.
    pub(crate) fn text_of(&self, name: &str) -> Result<Option<String>, BridgeError> {
        let source = self.0.running.lock().get(name).map(|bridge| bridge.source);
        match source {
            None => Err(BridgeError::Unknown(name.to_owned())),
            Some(Source::Configuration) => Ok(None),
            Some(Source::Added) => {
                let path = self.0.added(name);
                let text = fs::read_to_string(path.now());
                text.map(Some).map_err(|cause| file_error(&path, cause))
            }
        }
    }

    /// What became of a bridge's messages from one moment to another, in seconds since 1970.
    pub(crate) fn report(&self, name: &str, from: u64, to: u64) -> Result<Report, BridgeError> {
        self.0.write_lines(Some(name), false);
        self.plan(name)?;
        let path = self.0.ledger(name);
        let lines = LedgerFile::at(&path.now()).lines();
        let lines = lines.map_err(|cause| file_error(&path, cause))?;
        Ok(Report::of(lines, from, to))
    }

    /// Walks the way to a bridge's remote end and says how each step went. A bridge that can come under one name only is paused meanwhile.
    pub(crate) fn probe(&self, name: &str) -> Result<mpsc::UnboundedReceiver<Finding>, BridgeError> {
        let plan = self.plan(name)?;
        let mut dials = way::dials(plan.settings())?;
        leave_by(&mut dials, plan.settings(), &self.0.wans);
        let running = self.0.running.lock();
        let bridge = running.get(name);
        let provisioner = bridge.and_then(|bridge| bridge.provisioner.clone());
        let makes_way = plan.is_bound_to_client_id();
        if let Some(bridge) = bridge.filter(|_| makes_way) {
            let _ = bridge.orders.send(Order::Pause);
        }
        let (bridges, name) = (self.clone(), name.to_owned());
        let after = move || {
            let running = bridges.0.running.lock();
            // An operator may have paused or removed it in the meantime.
            if let Some(bridge) = running.get(&name).filter(|bridge| makes_way && !bridge.paused) {
                let _ = bridge.orders.send(Order::Resume);
            }
        };
        Ok(probe::start(plan, dials, provisioner, after))
    }

    /// Takes rates and writes ledgers, until dropped.
    pub(crate) async fn keep_books(self) {
        let mut seconds = 0_u64;
        let mut tick = tokio::time::interval(Duration::from_secs(SAMPLE));
        loop {
            tick.tick().await;
            self.0.sample();
            // Files are slow: meanwhile other threads do what else there is.
            tokio::task::block_in_place(|| {
                if seconds.is_multiple_of(LINE) {
                    self.0.write_lines(None, false);
                } else {
                    self.0.write_first_lines();
                }
            });
            seconds += SAMPLE;
        }
    }

    /// The gateway stops: no connection is made any more. Those that are there say goodbye by themselves.
    pub(crate) fn halt(&self) {
        self.0.write_lines(None, true);
        for bridge in self.0.running.lock().values() {
            bridge.task.abort();
        }
    }

    fn plan(&self, name: &str) -> Result<Arc<BridgePlan>, BridgeError> {
        let running = self.0.running.lock();
        let bridge = running.get(name);
        bridge
            .map(|bridge| Arc::clone(&bridge.plan))
            .ok_or_else(|| BridgeError::Unknown(name.to_owned()))
    }
}

impl Inner {
    fn read(&self, text: &str) -> Result<Checked, BridgeError> {
        let settings = toml::from_str(text);
        let settings = settings.map_err(|error| Fault::new("", explain_text(text, &error)))?;
        Ok(Checked::new(&settings, &self.node.lock())?)
    }

    async fn put(&self, bridge: Checked, source: Source) -> Change {
        let name = bridge.name().to_owned();
        let mut change = Change::Added;
        if let Some(running) = self.running.lock().get_mut(&name) {
            running.source = source;
            if running.plan.settings() == bridge.plan.settings() && running.plan.node() == bridge.plan.node()
            {
                return Change::Unchanged;
            }
            change = Change::Changed;
        }
        self.stop(&name).await;
        // Before anybody can publish what it shall carry: listeners are opened when this is done.
        queue::prepare(&self.hub, &bridge.plan).await;
        self.launch(bridge, source);
        tracing::info!(bridge = name, ?change, "bridge configured");
        change
    }

    fn launch(&self, bridge: Checked, source: Source) {
        let Checked { plan, dials, service } = bridge.leaving_by(&self.wans);
        let settings = plan.settings();
        let name = settings.name.clone();
        let judges_certificates = dials.iter().any(|dial| dial.target.tls && !dial.tls.insecure);
        let mut seed = [0; 8];
        // Without randomness all gateways of one make come back in step.
        let _ = getrandom::fill(&mut seed);
        let seed = u64::from_ne_bytes(seed);
        let uplink = Uplink::new(settings.uplink.clone(), dials.len(), judges_certificates, seed);
        let uplink = uplink.expect("checked with the settings");
        let paused = self.paused_names().contains(&name);
        let books = self.books.lock().remove(&name).unwrap_or_default();
        let Books {
            status,
            metrics,
            told,
            begun,
        } = books;
        let budget = settings.budget.map(|budget| {
            let lines = LedgerFile::at(&self.ledger(&name).now()).lines();
            let counted = told.as_ref().map_or(0, |told| told.bytes);
            let lines = lines.unwrap_or_default();
            Budget::new(budget.bytes_per_month, &lines, counted, unix_time())
        });
        let provisioner = service.map(|service| Arc::new(Provisioner::new(service, self.assignment(&name))));
        let connections =
            Connections::new(self.hub.clone(), &metrics, self.links.clone()).traced_by(self.tracer.clone());
        let (orders, taken) = mpsc::unbounded_channel();
        let runner = Runner {
            clock: Arc::clone(&self.clock),
            hub: self.hub.clone(),
            wans: self.wans.clone(),
            connections: Arc::new(connections),
            naming: Arc::clone(&self.naming),
            metrics: Arc::clone(&metrics),
            budget,
            paused,
            plan: Arc::clone(&plan),
            dials,
            provisioner: provisioner.clone(),
            status: Arc::clone(&status),
            uplink,
            connections_made: 0,
            orders: taken,
        };
        tell_of_states(&name, &status);
        let bridge = Running {
            plan,
            provisioner,
            status,
            metrics,
            orders,
            task: tokio::spawn(runner.run()),
            source,
            paused,
            rates: Rates::default(),
            told,
            begun,
            unwritten: false,
        };
        self.running.lock().insert(name, bridge);
    }

    /// Lets a bridge end its connection and go. What it was, if it was there.
    async fn stop(&self, name: &str) -> Option<Arc<BridgePlan>> {
        self.write_lines(Some(name), false);
        let mut bridge = self.running.lock().remove(name)?;
        let _ = bridge.orders.send(Order::Leave);
        if tokio::time::timeout(LEAVE, &mut bridge.task).await.is_err() {
            bridge.task.abort();
        }
        let books = Books {
            status: bridge.status,
            metrics: bridge.metrics,
            told: bridge.told,
            begun: bridge.begun,
        };
        self.books.lock().insert(name.to_owned(), books);
        Some(bridge.plan)
    }

    fn sample(&self) {
        let now = self.hub.clock().now();
        for bridge in self.running.lock().values_mut() {
            if let Some(report) = self.hub.link_report(bridge.plan.local_client_id().as_str()) {
                bridge.rates.sample(now, &report);
            }
        }
    }

    /// Of bridges that have just begun.
    fn write_first_lines(&self) {
        let running = self.running.lock();
        let new = running.iter().filter(|(_, bridge)| bridge.told.is_none());
        let new: Vec<String> = new.map(|(name, _)| name.clone()).collect();
        drop(running);
        for name in new {
            self.write_lines(Some(&name), false);
        }
    }

    fn begin_ledger(&self, name: &str) -> std::io::Result<()> {
        let folder = self.folder.now();
        fs::create_dir_all(&folder)?;
        LedgerFile::at(&self.ledger(name).now()).append(&Line {
            at: unix_time(),
            start: true,
            ..Line::default()
        })
    }

    /// Writes what was counted since the last line, of one bridge or of all. `end`: the gateway stops.
    fn write_lines(&self, only: Option<&str>, end: bool) {
        let mut running = self.running.lock();
        let chosen = running
            .iter_mut()
            .filter(|(name, _)| only.is_none_or(|only| only == *name));
        for (name, bridge) in chosen {
            if !bridge.begun {
                bridge.begun = bridge.is_written(self.begin_ledger(name));
            }
            let Some(report) = self.hub.link_report(bridge.plan.local_client_id().as_str()) else {
                continue;
            };
            let total = view::total(&report, &bridge.status, bytes_of(&bridge.metrics), unix_time());
            let mut line = total.since(bridge.told.as_ref());
            line.end = end;
            if bridge.told.is_some() && line.is_idle() && !end {
                continue;
            }
            let written = fs::create_dir_all(self.folder.now())
                .and_then(|()| LedgerFile::at(&self.ledger(name).now()).append(&line));
            if bridge.is_written(written) {
                bridge.told = Some(total);
            }
        }
    }

    fn view(&self, bridge: &Running) -> BridgeView {
        let report = self.hub.link_report(bridge.plan.local_client_id().as_str());
        let now = self.hub.clock().now();
        let mut view = BridgeView::of(&bridge.plan, &bridge.status, report.as_ref(), &bridge.rates, now);
        (view.source, view.paused) = (bridge.source, bridge.paused);
        view.bytes = bytes_of(&bridge.metrics);
        view
    }

    /// What one was added with.
    fn added(&self, name: &str) -> DataPath {
        self.folder.join(format!("{name}.toml"))
    }

    fn ledger(&self, name: &str) -> DataPath {
        self.folder.join(format!("{name}.ledger"))
    }

    /// Where it is kept what a provisioning service said.
    fn assignment(&self, name: &str) -> DataPath {
        self.folder.join(format!("{name}.assignment"))
    }

    fn paused_names(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.folder.join("paused").now()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn added_files(&self) -> Vec<PathBuf> {
        let Ok(folder) = fs::read_dir(self.folder.now()) else {
            return Vec::new();
        };
        let paths = folder.filter_map(|entry| Some(entry.ok()?.path()));
        let mut added: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        added.sort();
        added
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BridgeError> {
        let path = self.folder.join(name);
        write_file(&path.now(), bytes).map_err(|cause| file_error(&path, cause))
    }
}

fn file_error(path: &DataPath, cause: std::io::Error) -> BridgeError {
    let path = path.now().to_owned();
    BridgeError::File { path, cause }
}

/// Puts a file in place as a whole, for our eyes only: it may hold passwords.
fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

/// Bytes of MQTT that were moved, both ways.
fn bytes_of(metrics: &Metrics) -> u64 {
    metrics.get(Metric::BytesSent) + metrics.get(Metric::BytesReceived)
}
