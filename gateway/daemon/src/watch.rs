//! What alarms are raised for, looked at again and again: the store, memory, the disk, the clock, certificates, bridges.

use crate::alarms::{Alarms, Severity, Trouble};
use crate::bridges::{BridgeView, Bridges};
use crate::config::Config;
use crate::log::LogHandle;
use crate::sys::unix_time;
use crate::timeline::ClockState;
use headgate_auth::data_dir::DataDir;
use headgate_bus::handle::Hub;
use headgate_model::MemoryLimit;
use headgate_model::memory::Want;
use headgate_model::store::{StorePlace, StoreStats};
use headgate_shell::tls::{ServedCertificate, ServerTls, TlsState};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::sync::watch;

/// The store and memory are looked at so often.
const LOOK: Duration = Duration::from_secs(1);
/// The disk, the clock and bridges: every so many looks.
const LOOKS_AT_STATE: u64 = 5;
/// Certificates and their files: every so many looks.
const LOOKS_AT_FILES: u64 = 60;
/// A clock that was set is an alarm for so long.
const STEP_STANDS: u64 = 600;

const DAY: i64 = 86_400;
/// Days before a certificate ends at which its alarm is raised, and becomes more urgent.
const SOON: [(i64, Severity); 3] = [
    (1, Severity::Critical),
    (7, Severity::Error),
    (30, Severity::Warning),
];

/// The parts of the gateway that are looked at.
pub(crate) struct Watch {
    /// Where alarms are raised.
    pub alarms: Alarms,
    /// The bus and its store.
    pub hub: Hub,
    /// Bridges.
    pub bridges: Bridges,
    /// The certificates of listeners.
    pub certificates: WatchedTls,
    /// The log, whose destinations may fail.
    pub log: LogHandle,
    /// Whether the system's clock is trusted.
    pub clock: Arc<ClockState>,
    /// Whose disk is watched.
    pub data_dir: DataDir,
    /// The configuration that is valid.
    pub config: watch::Receiver<Arc<Config>>,
}

/// The TLS configurations of listeners, by their names. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct WatchedTls(Arc<Mutex<BTreeMap<String, ServerTls>>>);

impl WatchedTls {
    /// The listener's, from now on; `None` when it has none, or is gone.
    pub(crate) fn set(&self, listener: &str, tls: Option<ServerTls>) {
        let mut watched = self.0.lock();
        match tls {
            Some(tls) => drop(watched.insert(listener.to_owned(), tls)),
            None => drop(watched.remove(listener)),
        }
    }
}

impl WatchedTls {
    /// What each listener serves.
    pub(crate) fn states(&self) -> Vec<(String, TlsState)> {
        let watched = self.0.lock();
        watched
            .iter()
            .map(|(name, tls)| (name.clone(), tls.state()))
            .collect()
    }
}

/// What was found before, for alarms whose cause may be gone.
#[derive(Default)]
struct Known {
    memory: bool,
    disk: bool,
    store: bool,
    /// Bridges, and since when each is not what it should be.
    bridges: BTreeMap<String, Option<Instant>>,
    listeners: BTreeSet<String>,
    destinations: BTreeSet<&'static str>,
    steps: u64,
    stepped_at: Option<u64>,
}

/// The configuration wants the store elsewhere, and it could not go there.
fn not_moved(store: &StoreStats) -> Option<Trouble> {
    let summary = match store.place {
        _ if !store.move_failed => return None,
        StorePlace::Memory => {
            "the store cannot go to the disk and stays in memory: nothing survives a restart. The log says why; it is tried again each minute"
        }
        StorePlace::Disk => {
            "the store cannot go to memory and stays on the disk. The log says why; it is tried again each minute"
        }
    };
    Some(Trouble::new(Severity::Error, summary))
}

impl Watch {
    /// Looks for ever.
    pub(crate) async fn run(self) {
        let mut known = Known::default();
        let mut looks = 0_u64;
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            self.look_at_store();
            self.alarms
                .set("memory_low", memory(self.hub.memory(), &mut known.memory));
            if looks.is_multiple_of(LOOKS_AT_STATE) {
                self.look_at_log(&mut known);
                self.look_at_disk(&mut known);
                self.look_at_clock(&mut known);
                self.look_at_bridges(&mut known);
            }
            if looks.is_multiple_of(LOOKS_AT_FILES) {
                self.look_at_certificates(&mut known).await;
            }
            looks += 1;
        }
    }

    fn look_at_store(&self) {
        let failed = self.hub.is_failing().then(|| {
            Trouble::new(
                Severity::Critical,
                "what is published cannot be made durable and is refused",
            )
        });
        self.alarms.set("store_failed", failed);
        let full = self.hub.is_full().then(|| {
            Trouble::new(
                Severity::Critical,
                "the store has no room: what would have to be kept is refused",
            )
        });
        self.alarms.set("store_full", full);
        self.alarms
            .set("store_not_moved", not_moved(&self.hub.store_stats()));
    }

    fn look_at_log(&self, known: &mut Known) {
        let mut before = std::mem::take(&mut known.destinations);
        for destination in self.log.destinations() {
            let trouble = destination.failing.map(|error| {
                let name = destination.name;
                let summary = format!("the destination `{name}` of the log takes no lines: {error}");
                Trouble::new(Severity::Warning, summary).with("lost", destination.lost)
            });
            before.remove(destination.name);
            known.destinations.insert(destination.name);
            self.alarms.set(&format!("log_{}", destination.name), trouble);
        }
        for gone in before {
            self.alarms.set(&format!("log_{gone}"), None);
        }
    }

    fn look_at_disk(&self, known: &mut Known) {
        let used = self.hub.store_stats().disk_bytes;
        let nearly = store_nearly_full(used, self.config.borrow().store.max_bytes, &mut known.store);
        self.alarms.set("store_nearly_full", nearly);
        // A folder that cannot be asked about is not one that has no room.
        if let Ok(disk) = rustix::fs::statvfs(&*self.data_dir.now()) {
            let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
            let least = self.config.borrow().alarms.min_free_disk_bytes;
            self.alarms
                .set("disk_low", disk_low(free, all, least, &mut known.disk));
        }
    }

    fn look_at_clock(&self, known: &mut Known) {
        let clock = &self.clock;
        let unset = clock.is_untrusted().then(|| {
            Trouble::new(
                Severity::Error,
                "the system's clock is not set, or says a time that is not believed: nothing expires by it, and certificates cannot be judged",
            )
        });
        self.alarms.set("clock_unset", unset);
        let (steps, by) = clock.steps();
        let now = unix_time();
        if steps != known.steps {
            known.steps = steps;
            known.stepped_at = Some(now);
            let seconds = by / 1_000;
            let summary = format!("the system's clock was set by {seconds} s while the gateway ran");
            let trouble = Trouble::new(Severity::Warning, summary).with("seconds", seconds);
            self.alarms.set("clock_stepped", Some(trouble));
        } else if known.stepped_at.is_none_or(|at| now.abs_diff(at) >= STEP_STANDS) {
            known.stepped_at = None;
            self.alarms.set("clock_stepped", None);
        }
    }

    fn look_at_bridges(&self, known: &mut Known) {
        let after = self.config.borrow().alarms.bridge_down_after;
        let views = self.bridges.views();
        let mut before = std::mem::take(&mut known.bridges);
        for view in &views {
            let since = before.remove(&view.name).flatten();
            let since = is_down(view).then(|| since.unwrap_or_else(Instant::now));
            let lasts = since.map(|since| since.elapsed());
            let trouble = lasts
                .filter(|lasts| *lasts >= after)
                .map(|lasts| bridge_down(view, lasts));
            self.alarms.set(&down(&view.name), trouble);
            self.alarms.set(&queue(&view.name), bridge_queue(view));
            known.bridges.insert(view.name.clone(), since);
        }
        for gone in before.keys() {
            self.alarms.set(&down(gone), None);
            self.alarms.set(&queue(gone), None);
        }
    }

    async fn look_at_certificates(&self, known: &mut Known) {
        let watched = self.certificates.0.lock().clone();
        let names: BTreeSet<String> = watched.keys().cloned().collect();
        for gone in known.listeners.difference(&names) {
            self.alarms.set(&certificate(gone), None);
        }
        known.listeners = names;
        let states = tokio::task::spawn_blocking(move || {
            let look = |(name, tls): (String, ServerTls)| {
                // Told in the log by itself, and kept in the state.
                let _ = tls.reload();
                (name, tls.state())
            };
            watched.into_iter().map(look).collect::<Vec<_>>()
        });
        let is_clock_right = !self.clock.is_untrusted();
        let now = i64::try_from(unix_time()).unwrap_or(i64::MAX);
        for (name, state) in states.await.unwrap_or_default() {
            let trouble = certificates(&state, is_clock_right.then_some(now));
            self.alarms.set(&certificate(&name), trouble);
        }
    }
}

fn down(bridge: &str) -> String {
    format!("bridge_down_{bridge}")
}

fn queue(bridge: &str) -> String {
    format!("bridge_queue_{bridge}")
}

fn certificate(listener: &str) -> String {
    format!("certificate_{listener}")
}

/// Memory of which so much is used that something is refused; it is over when there is some room again.
fn memory(limit: &MemoryLimit, stands: &mut bool) -> Option<Trouble> {
    let (used, max) = (limit.used(), limit.max());
    let refused = [
        (Want::ToPublish, Severity::Critical, "large messages"),
        (Want::ToWait, Severity::Error, "deliveries to slow clients"),
        (
            Want::ToKeep,
            Severity::Warning,
            "new sessions, subscriptions and retained messages",
        ),
    ];
    let found = refused.into_iter().find(|(want, ..)| !limit.allows(*want, used));
    // Not at once, or it would come and go with every message.
    let lasts = *stands && used > max / 8 * 3;
    *stands = found.is_some() || lasts;
    let (severity, what) = match found {
        Some((_, severity, what)) => (severity, format!("memory is short: {what} are refused")),
        None if lasts => (Severity::Warning, "memory is nearly short".to_owned()),
        None => return None,
    };
    Some(Trouble::new(severity, what).with("max_bytes", max))
}

/// The store's own limit is nearly reached, from 90 % until it is below 80 %.
fn store_nearly_full(used: u64, max: u64, stands: &mut bool) -> Option<Trouble> {
    let percent = if *stands { 80 } else { 90 };
    *stands = max > 0 && used > max / 100 * percent;
    stands.then(|| {
        let summary = format!("the store has more than {percent} % of `store.max_bytes`");
        Trouble::new(Severity::Warning, summary).with("max_bytes", max)
    })
}

/// The disk has less free than `least`, by default 5 % of it and at most 1 GiB; it is over when there is a quarter more than that.
fn disk_low(free: u64, all: u64, least: Option<u64>, stands: &mut bool) -> Option<Trouble> {
    let least = least.unwrap_or_else(|| (all / 20).min(1 << 30));
    let wanted = if *stands { least + least / 4 } else { least };
    *stands = free < wanted;
    stands.then(|| {
        let summary = format!("the disk with `data_dir` has only {} MiB left", free >> 20);
        Trouble::new(Severity::Warning, summary).with("min_free_bytes", least)
    })
}

/// Whether a bridge is to be connected and is not. One that is idle by its schedule, or paused, is as it was meant.
fn is_down(view: &BridgeView) -> bool {
    !view.paused && !matches!(view.state, "connected" | "idle" | "paused")
}

fn bridge_down(view: &BridgeView, lasts: Duration) -> Trouble {
    let why = view.last_error.as_deref().unwrap_or("no answer yet");
    let (name, lasts) = (&view.name, lasts.as_secs());
    let summary = format!("the bridge `{name}` has not been connected for {lasts} s: {why}");
    Trouble::new(Severity::Error, summary)
        .with("bridge", view.name.as_str())
        .with("state", view.state)
}

/// A bridge whose queue is nearly full.
fn bridge_queue(view: &BridgeView) -> Option<Trouble> {
    let queue = &view.queue;
    let is_over = |used: u64, max: u64| max > 0 && used > max / 10 * 9;
    let nearly = is_over(queue.messages, queue.max_messages) || is_over(queue.bytes, queue.max_bytes);
    nearly.then(|| {
        let summary = format!(
            "the queue of the bridge `{}` is nearly full: then messages are dropped",
            view.name
        );
        Trouble::new(Severity::Error, summary).with("bridge", view.name.as_str())
    })
}

/// The worst that is to be said of a listener's certificates. `now`: seconds since 1970; `None` where that is not known.
fn certificates(state: &TlsState, now: Option<i64>) -> Option<Trouble> {
    let unusable = state.fault.as_ref().map(|fault| {
        let summary = format!("changed TLS files cannot be used, the old ones stay in use: {fault}");
        Trouble::new(Severity::Error, summary)
    });
    let each = state.certificates.iter();
    let found = each.filter_map(|served| certificate_trouble(served, now));
    found.chain(unusable).max_by_key(|trouble| trouble.severity)
}

fn certificate_trouble(served: &ServedCertificate, now: Option<i64>) -> Option<Trouble> {
    let file = served.path.display().to_string();
    let date = |seconds: i64| {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
    };
    let (from, to) = (date(served.not_before), date(served.not_after));
    let say = |severity, what: String| {
        let summary = format!("{file}: {what}");
        let trouble = Trouble::new(severity, summary).with("file", file.as_str());
        trouble
            .with("subject", served.subject.as_str())
            .with("not_after", to.as_str())
    };
    if let Some(now) = now {
        if now > served.not_after {
            return Some(say(
                Severity::Critical,
                format!("the certificate has ended on {to}: clients refuse it"),
            ));
        }
        if now < served.not_before {
            return Some(say(
                Severity::Critical,
                format!("the certificate is not valid before {from}: clients refuse it"),
            ));
        }
    }
    if let Some(fault) = &served.chain_fault {
        return Some(say(
            Severity::Error,
            format!("the chain is broken, clients may refuse it: {fault}"),
        ));
    }
    let left = served.not_after - now?;
    let soon = SOON.into_iter().find(|(days, _)| left <= days * DAY);
    soon.map(|(days, severity)| {
        say(
            severity,
            format!("the certificate ends within {days} days, on {to}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(not_before: i64, not_after: i64) -> TlsState {
        TlsState {
            certificates: vec![ServedCertificate {
                path: "server.pem".into(),
                subject: "CN=gateway".into(),
                not_before,
                not_after,
                chain_fault: None,
            }],
            fault: None,
        }
    }

    #[test]
    fn a_certificate_is_told_30_7_and_1_days_before_it_ends() {
        let state = served(0, 100 * DAY);
        let severity = |now: i64| certificates(&state, Some(now)).map(|trouble| trouble.severity);
        for (days, wanted) in [
            (0, None),
            (69, None),
            (70, Some(Severity::Warning)),
            (93, Some(Severity::Error)),
            (99, Some(Severity::Critical)),
            (100, Some(Severity::Critical)),
            (101, Some(Severity::Critical)),
        ] {
            assert_eq!(severity(days * DAY), wanted, "after {days} days");
        }
        assert_eq!(severity(-1), Some(Severity::Critical), "not valid yet");
        assert_eq!(certificates(&state, None), None, "the clock says nothing");
        let ended = certificates(&state, Some(101 * DAY)).unwrap();
        assert_eq!(
            ended.summary,
            "server.pem: the certificate has ended on 1970-04-11T00:00:00Z: clients refuse it"
        );
    }

    #[test]
    fn a_broken_chain_and_unusable_files_are_told_without_a_clock() {
        let mut state = served(0, DAY);
        state.certificates[0].chain_fault = Some("wrong".into());
        assert_eq!(certificates(&state, None).unwrap().severity, Severity::Error);
        let mut state = served(0, DAY);
        state.fault = Some("no key".into());
        assert!(certificates(&state, None).unwrap().summary.contains("no key"));
    }

    #[test]
    fn memory_is_short_in_steps_and_a_little_longer_than_it_must() {
        let limit = MemoryLimit::new(800);
        let mut stands = false;
        let mut at = |used: usize| {
            limit.set_bus(used);
            memory(&limit, &mut stands).map(|trouble| trouble.severity)
        };
        assert_eq!(at(390), None);
        assert_eq!(at(410), Some(Severity::Warning));
        assert_eq!(at(610), Some(Severity::Error));
        assert_eq!(at(710), Some(Severity::Critical));
        assert_eq!(at(310), Some(Severity::Warning));
        assert_eq!(at(290), None);
        assert_eq!(at(310), None);
    }

    #[test]
    fn a_disk_is_low_by_its_size_or_as_set() {
        const GIB: u64 = 1 << 30;
        let mut stands = false;
        assert_eq!(disk_low(GIB, 1_000 * GIB, None, &mut stands), None);
        assert!(disk_low(GIB - 1, 1_000 * GIB, None, &mut stands).is_some());
        assert!(
            disk_low(GIB + 1, 1_000 * GIB, None, &mut stands).is_some(),
            "not over yet"
        );
        assert_eq!(disk_low(2 * GIB, 1_000 * GIB, None, &mut stands), None);
        assert!(disk_low(99, 2_000, None, &mut stands).is_some());
        assert_eq!(disk_low(9, 2_000, Some(0), &mut stands), None);
    }

    #[test]
    fn a_store_is_nearly_full_from_90_to_80_percent() {
        let mut stands = false;
        let mut at = |used| store_nearly_full(used, 1_000, &mut stands).is_some();
        assert_eq!(
            [at(890), at(910), at(810), at(790), at(890)],
            [false, true, true, false, false]
        );
        assert!(store_nearly_full(1 << 40, 0, &mut stands).is_none(), "no limit");
    }
}
