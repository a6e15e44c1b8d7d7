//! Several ways out of the gateway's own networks (WANs), of which bridges take the first that works: `[[wans]]`.
//!
//! Connections of bridges are bound to the interface of the WAN that was chosen, which needs no rights of the system. The name of that interface stands in the file
//! `wan` of the service's runtime folder (`$RUNTIME_DIRECTORY`), or else of the data folder, for whoever moves the machine's default route after it, as the appliance does.

mod choice;
mod link;
mod probe;
mod settings;

pub(crate) use settings::{WanSettings, too_many};

use crate::alarms::{Alarms, Severity, Trouble};
use crate::config::Config;
use crate::deadline::until;
use crate::private;
use choice::{Action, Choice, Health, Input};
use headgate_auth::data_dir::{DataDir, DataPath};
use headgate_dial::{Bind, WayOut};
use link::{Local, Stamp, default_routes, is_elsewhere, locals, of_wan};
use parking_lot::Mutex;
use probe::{Names, ProbeError, probe};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often links are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Where the appliance's Wi-Fi and modems say why there is no connection, in bytes at most.
const TOLD: &str = "/run/headgate-links-told";
const LONGEST_TOLD: u64 = 200;
/// How soon the file is written once more.
const AGAIN: Duration = Duration::from_secs(3);
/// The file with the name of the interface.
const FILE: &str = "wan";

/// The WANs, and which of them is the way out now. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wans(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    active: Mutex<Option<Way>>,
    views: Mutex<Vec<WanView>>,
    switches: AtomicU64,
    doubted: Notify,
}

/// The way out. It is another one also where the same WAN has another interface or address by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    name: String,
    bind: Bind,
    /// Its interface.
    interface: Option<String>,
    stamp: Stamp,
}

impl Way {
    /// That of the WAN.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// What one WAN is and does.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct WanView {
    pub name: String,
    /// As configured.
    pub interface: String,
    /// It is the way out.
    pub active: bool,
    pub state: WanState,
    /// Seconds since that is so.
    pub state_seconds: u64,
    /// Its interface is up and has an address.
    pub link: bool,
    pub addresses: Vec<IpAddr>,
    /// How long the last answer took.
    pub round_trip_ms: Option<f64>,
    /// Why nothing was reached, the last time.
    pub last_error: Option<String>,
    /// Seconds until it is trusted again, if it goes on to work.
    pub trusted_in_seconds: Option<u64>,
    /// How often it was tried since the start,
    pub probes: u64,
    /// and how often nothing answered.
    pub unanswered: u64,
}

/// Whether a WAN works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WanState {
    /// Nothing was tried yet.
    Unknown,
    /// It can be the way out.
    Works,
    /// It works again, and is not trusted yet.
    Recovers,
    /// It has no link, or what it is to reach does not answer.
    Fails,
}

impl WanState {
    /// The word for operators.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Works => "works",
            Self::Recovers => "recovers",
            Self::Fails => "fails",
        }
    }
}

impl Wans {
    /// The way out: connections that left by another one should come again.
    pub(crate) fn way(&self) -> Option<Way> {
        self.0.active.lock().clone()
    }

    /// The name of the way out; `None` where there are no WANs, or none has a link.
    pub(crate) fn active(&self) -> Option<String> {
        let active = self.0.active.lock();
        active.as_ref().map(|active| active.name.clone())
    }

    /// All, in the order of the configuration.
    pub(crate) fn views(&self) -> Vec<WanView> {
        self.0.views.lock().clone()
    }

    /// How often another one became the way out, since the start.
    pub(crate) fn switches(&self) -> u64 {
        self.0.switches.load(Ordering::Relaxed)
    }

    /// A bridge lost its remote, or did not reach it: the way out is tried at once.
    pub(crate) fn doubt(&self) {
        self.0.doubted.notify_one();
    }
}

impl WayOut for Wans {
    fn way_to(&self, remote: IpAddr) -> Option<Bind> {
        let active = self.0.active.lock().clone()?;
        let locals = locals().unwrap_or_default();
        let is_away = !is_elsewhere(&locals, active.interface.as_deref(), remote);
        is_away.then_some(active.bind)
    }
}

/// Keeps [`Wans`] as they are.
pub(crate) struct Keeper {
    parts: Parts,
    known: Known,
    names: Names,
    probes: JoinSet<Probed>,
    /// Of the settings that `known` is of.
    number: u64,
    /// Alarms that may stand.
    alarmed: BTreeSet<String>,
    /// Where the name of the interface is.
    file: DataPath,
    /// The default routes of that interface, when its name was written.
    routes: Vec<String>,
    /// When it is written once more: whoever reads it may have looked at routes that were about to change.
    again_at: Option<Instant>,
    /// It could not be written, the last time.
    is_unwritten: bool,
}

/// What it is made of.
pub(crate) struct Parts {
    pub(crate) wans: Wans,
    pub(crate) alarms: Alarms,
    pub(crate) data_dir: DataDir,
    pub(crate) config: watch::Receiver<Arc<Config>>,
}

/// What is known beside the choice.
struct Known {
    settings: Vec<WanSettings>,
    choice: Choice,
    facts: Vec<Facts>,
    locals: Vec<Local>,
}

struct Facts {
    state: WanState,
    since: Instant,
    round_trip: Option<Duration>,
    error: Option<String>,
    probes: u64,
    unanswered: u64,
}

/// What came of a probe. It is of settings of this number.
type Probed = (u64, usize, Result<Duration, (String, ProbeError)>);

impl Keeper {
    /// Makes the first choice: bridges that are started after it leave by that one.
    pub(crate) fn start(parts: Parts) -> Self {
        let known = Known::new(&parts.config.borrow().wans, Instant::now());
        let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
        let mut keeper = Self {
            file: match runtime {
                Some(folder) => folder.join(FILE).into(),
                None => parts.data_dir.join(FILE),
            },
            parts,
            known,
            names: Names::default(),
            probes: JoinSet::new(),
            number: 0,
            alarmed: BTreeSet::new(),
            routes: Vec::new(),
            again_at: None,
            is_unwritten: false,
        };
        keeper.write(None);
        let links = keeper.known.look();
        keeper.step(links);
        keeper
    }

    /// For ever.
    pub(crate) async fn keep(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let deadline = self.known.choice.deadline();
            let inputs = tokio::select! {
                _ = look.tick() => {
                    // Where there are none, and none was, there is nothing to look at.
                    if self.known.settings.is_empty() && self.alarmed.is_empty() {
                        continue;
                    }
                    let links = self.known.look();
                    self.follow_stamp();
                    links
                }
                Ok(()) = self.parts.config.changed() => {
                    self.follow_settings();
                    self.known.look()
                }
                Some(probed) = self.probes.join_next() => match probed {
                    Ok((number, wan, result)) if number == self.number => vec![self.known.probed(wan, result)],
                    _ => continue,
                },
                () = self.parts.wans.0.doubted.notified() => vec![Input::Doubted],
                () = until(deadline) => vec![Input::Timeout],
            };
            self.step(inputs);
        }
    }

    /// Other settings are another choice.
    fn follow_settings(&mut self) {
        let settings = self.parts.config.borrow_and_update().wans.clone();
        if settings == self.known.settings {
            return;
        }
        self.number += 1;
        self.probes.abort_all();
        self.names.keep(&settings);
        let known = std::mem::replace(&mut self.known, Known::new(&[], Instant::now()));
        self.known = known.with(&settings, Instant::now());
        if self.known.choice.active().is_none() && self.parts.wans.active().is_some() {
            self.use_wan(None);
        }
    }

    fn step(&mut self, inputs: Vec<Input>) {
        let mut actions = Vec::new();
        for input in inputs {
            self.known.choice.handle(input, Instant::now(), &mut actions);
        }
        for action in actions {
            match action {
                Action::Probe(wan) => {
                    let asked = probe(self.known.settings[wan].clone(), self.names.clone());
                    let number = self.number;
                    self.probes.spawn(async move { (number, wan, asked.await) });
                }
                Action::Use(wan) => self.use_wan(Some(self.known.way(wan))),
                Action::Tell { wan, works } => self.known.log(wan, works),
            }
        }
        self.tell();
    }

    /// Another one is the way out.
    fn use_wan(&mut self, active: Option<Way>) {
        let interface = active.as_ref().and_then(|active| active.interface.clone());
        let to = active.as_ref().map(|active| active.name.clone());
        let before = std::mem::replace(&mut *self.parts.wans.0.active.lock(), active);
        match (before, to) {
            (Some(before), Some(to)) => {
                self.parts.wans.0.switches.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    from = before.name,
                    to,
                    interface = interface.as_deref(),
                    "another WAN is the way out"
                );
            }
            (None, Some(to)) => tracing::info!(to, interface = interface.as_deref(), "a WAN is the way out"),
            (Some(before), None) => {
                tracing::info!(from = before.name, "the system chooses the way out again");
            }
            (None, None) => {}
        }
        self.write(interface.as_deref());
    }

    /// The same WAN may have another address by now. One whose link is away is left as it is: another one is chosen, or it comes back.
    fn follow_stamp(&mut self) {
        let Some(wan) = self.known.choice.active() else {
            return;
        };
        let way = self.known.way(wan);
        let has_link = !of_wan(&self.known.locals, &way.bind).is_empty();
        let before = self.parts.wans.way();
        let before_interface = before.as_ref().and_then(|before| before.interface.clone());
        if has_link && before.is_some_and(|before| before.name == way.name && before != way) {
            tracing::info!(wan = way.name, "the way out has another interface or address");
            let interface = way.interface.clone();
            *self.parts.wans.0.active.lock() = Some(way);
            self.write(interface.as_deref());
            return;
        }
        // Whoever moves the machine's default route after it has a copy of these.
        let Some(name) = before_interface else { return };
        if default_routes(&name) != self.routes {
            self.write(Some(&name));
        } else if self.again_at.is_some_and(|at| at <= Instant::now()) {
            self.write(Some(&name));
            self.again_at = self.again_at.filter(|_| self.is_unwritten);
        }
    }

    fn write(&mut self, interface: Option<&str>) {
        self.routes = interface.map(default_routes).unwrap_or_default();
        self.again_at = interface.map(|_| Instant::now() + AGAIN);
        let written = tokio::task::block_in_place(|| write(&self.file.now(), interface));
        let was_unwritten = std::mem::replace(&mut self.is_unwritten, written.is_err());
        let file = self.file.now();
        let path = file.display();
        match written {
            Err(error) if !was_unwritten => {
                tracing::error!(%path, %error, "the name of the way out cannot be written down: it is tried again");
            }
            Ok(()) if was_unwritten => tracing::info!(%path, "the name of the way out is written down again"),
            _ => {}
        }
    }

    /// What operators see.
    fn tell(&mut self) {
        let views = self.known.views(Instant::now());
        let mut gone = std::mem::take(&mut self.alarmed);
        for view in &views {
            let id = format!("wan_down_{}", view.name);
            let why = match view.state {
                WanState::Fails => {
                    let why = view.last_error.as_deref().unwrap_or("nothing was reached");
                    Some(format!("does not work: {why}"))
                }
                WanState::Recovers => Some("works again, and is trusted when that has held".to_owned()),
                WanState::Works | WanState::Unknown => None,
            };
            let trouble = why.map(|why| {
                let summary = format!("the WAN `{}` ({}) {why}", view.name, view.interface);
                Trouble::new(Severity::Warning, summary)
            });
            self.parts.alarms.set(&id, trouble);
            gone.remove(&id);
            self.alarmed.insert(id);
        }
        gone.iter().for_each(|id| self.parts.alarms.set(id, None));
        *self.parts.wans.0.views.lock() = views;
    }
}

fn write(path: &Path, interface: Option<&str>) -> io::Result<()> {
    match interface {
        Some(name) => private::replace(path, format!("{name}\n").as_bytes()),
        None if path.exists() => private::remove(path),
        None => Ok(()),
    }
}

impl Known {
    fn new(settings: &[WanSettings], now: Instant) -> Self {
        let facts = |_: &WanSettings| Facts {
            state: WanState::Unknown,
            since: now,
            round_trip: None,
            error: None,
            probes: 0,
            unanswered: 0,
        };
        Self {
            settings: settings.to_vec(),
            choice: Choice::new(settings, now),
            facts: settings.iter().map(facts).collect(),
            locals: Vec::new(),
        }
    }

    /// Of other settings. What is known of a WAN that stays is known on.
    fn with(self, settings: &[WanSettings], now: Instant) -> Self {
        let mut new = Self::new(settings, now);
        for (old, facts) in self.settings.iter().zip(self.facts) {
            if let Some(at) = settings.iter().position(|wan| wan.is_same(old)) {
                new.facts[at] = facts;
            }
        }
        Self {
            choice: self.choice.with(settings, now),
            ..new
        }
    }

    /// Looks at links.
    fn look(&mut self) -> Vec<Input> {
        // Where the system does not say, all is as it was.
        self.locals = locals().unwrap_or_else(|| std::mem::take(&mut self.locals));
        let wans = self.settings.iter().enumerate();
        let link = |(wan, settings): (usize, &WanSettings)| Input::Link {
            wan,
            up: !of_wan(&self.locals, &settings.bind()).is_empty(),
        };
        wans.map(link).collect()
    }

    fn probed(&mut self, wan: usize, result: Result<Duration, (String, ProbeError)>) -> Input {
        let facts = &mut self.facts[wan];
        facts.probes += 1;
        let answered = result.is_ok();
        match result {
            Ok(took) => (facts.round_trip, facts.error) = (Some(took), None),
            Err((target, error)) => {
                facts.unanswered += 1;
                facts.round_trip = None;
                facts.error = Some(format!("{target}: {error}"));
            }
        }
        Input::Probed { wan, answered }
    }

    fn way(&self, wan: usize) -> Way {
        let settings = &self.settings[wan];
        let bind = settings.bind();
        let interface = match &bind {
            Bind::Interface(name) => Some(name.clone()),
            Bind::Address(_) => of_wan(&self.locals, &bind)
                .first()
                .map(|local| local.interface.clone()),
        };
        Way {
            stamp: Stamp::of(&self.locals, &bind),
            name: settings.name.clone(),
            bind,
            interface,
        }
    }

    fn log(&self, wan: usize, works: bool) {
        let WanSettings { name, interface, .. } = &self.settings[wan];
        match works {
            true => tracing::info!(wan = name, interface, "a WAN works"),
            false => {
                let error = self.error_of(wan);
                tracing::warn!(wan = name, interface, error, "a WAN does not work");
            }
        }
    }

    fn error_of(&self, wan: usize) -> Option<String> {
        let settings = &self.settings[wan];
        if !of_wan(&self.locals, &settings.bind()).is_empty() {
            return self.facts[wan].error.clone();
        }
        Some(match told_by_link(&settings.interface) {
            Some(why) => format!("no link: {why}"),
            None => "no link, or no address".to_owned(),
        })
    }

    fn views(&mut self, now: Instant) -> Vec<WanView> {
        (0..self.settings.len()).map(|wan| self.view(wan, now)).collect()
    }

    fn view(&mut self, wan: usize, now: Instant) -> WanView {
        let settings = &self.settings[wan];
        let locals = of_wan(&self.locals, &settings.bind());
        let link = !locals.is_empty();
        let state = match self.choice.health(wan) {
            _ if !link => WanState::Fails,
            (Health::Unknown, _) => WanState::Unknown,
            (Health::Works, _) => WanState::Works,
            (Health::Fails, true) => WanState::Recovers,
            (Health::Fails, false) => WanState::Fails,
        };
        let addresses = locals.iter().map(|local| local.address).collect();
        let last_error = self.error_of(wan);
        let facts = &mut self.facts[wan];
        if facts.state != state {
            (facts.state, facts.since) = (state, now);
        }
        let trusted_in = self.choice.trusted_in(wan, now);
        WanView {
            name: settings.name.clone(),
            interface: settings.interface.clone(),
            active: self.choice.active() == Some(wan),
            state,
            state_seconds: now.duration_since(facts.since).as_secs(),
            link,
            addresses,
            round_trip_ms: facts
                .round_trip
                .map(|took| (took.as_secs_f64() * 10_000.0).round() / 10.0),
            last_error,
            trusted_in_seconds: trusted_in.map(|left| left.as_secs()),
            probes: facts.probes,
            unanswered: facts.unanswered,
        }
    }
}

/// Why Wi-Fi or a modem of the appliance makes no connection: firmware-image/root/usr/lib/headgate/{wifi,modem}
fn told_by_link(interface: &str) -> Option<String> {
    let file = File::open(Path::new(TOLD).join(interface)).ok()?;
    let mut text = String::new();
    file.take(LONGEST_TOLD).read_to_string(&mut text).ok()?;
    let line = text.lines().next().unwrap_or_default().trim();
    (!line.is_empty()).then(|| line.escape_debug().to_string())
}
