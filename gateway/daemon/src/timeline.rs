//! The wall time by which the store counts.
//!
//! Boards without a clock start in 1970, or when their image was made, and a clock that is set jumps; neither may end sessions early or keep them
//! for ever. So the gateway has a time of its own. While it runs, only the monotonic clock moves it. What passed while it was off is what the system's
//! clock says, counted from the last moment at which that clock was trusted; a clock that is behind that moment, or more than a year ahead of it, is not
//! trusted: then the gateway's time goes on where it stood, and the trusted moment stays the reference for the next start.
//!
//! A clock that is far ahead and stays so is right after all, or wrong for good. Either way its own differences count: it has a reference beside.
//!
//! Certificates are judged by the system's clock while it is trusted, and else by the gateway's time from the trusted moment on.
//!
//! The file `clock` in the data folder keeps this, where anything is kept; it is written at the start, every ten minutes, when the system's clock was set, and at the end.

use crate::keeps::Keeps;
use crate::private;
use crate::timekeeping::is_synchronized;
use headgate_auth::data_dir::{DataDir, DataPath};
use headgate_bus::handle::Clock;
use headgate_model::store::{SessionRecord, StoreImage};
use headgate_model::{StoreOp, WallTime};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// How often the time is written down.
const EVERY: Duration = Duration::from_secs(600);
/// How often it is looked whether the system's clock was set.
const LOOK: Duration = Duration::from_secs(10);
/// So far, in ms, the two may drift apart unnoticed.
const DRIFT: u64 = 2_000;
/// No clock that is right says less: 2026-01-01, ms since 1970.
pub(crate) const EARLIEST: u64 = 1_767_225_600_000;
/// More than this, in ms, no gateway is believed to have been off.
const LONGEST_OFF: u64 = 366 * 86_400_000;

/// The times at one moment, ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    system: u64,
    gateway: u64,
}

impl Pair {
    /// The gateway's time when the system's clock, after this moment, says `system`; `None` if that is not to be believed.
    fn carried_on(self, system: u64) -> Option<u64> {
        let passed = system.checked_sub(self.system)?;
        (passed <= LONGEST_OFF).then(|| self.gateway.saturating_add(passed))
    }
}

/// What is kept from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ClockFile {
    /// The gateway's time.
    gateway: u64,
    /// The latest moment at which the system's clock was trusted.
    trusted: Option<Pair>,
    /// The latest moment of a clock that is too far ahead to be trusted.
    ahead: Option<Pair>,
    /// The gateway's time when trust was lost; `None` while there is trust. What happened since has not aged by what is found to have passed.
    lost_at: Option<u64>,
}

/// What a start found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// No earlier run.
    First,
    /// The clock is trusted, and so long has passed.
    Passed(u64),
    /// The clock is behind the trusted moment, or before any possible one, by so much.
    Behind(u64),
    /// The clock is so far ahead of the trusted moment.
    Ahead(u64),
}

impl ClockFile {
    /// A start: what is kept from now on, and what was found. The gateway's time never goes back.
    fn start(before: Option<Self>, system: u64) -> (Self, Found) {
        let Some(before) = before else {
            let gateway = system.max(EARLIEST);
            let here = Pair { system, gateway };
            let first = Self {
                gateway,
                trusted: (system >= EARLIEST).then_some(here),
                ..Self::default()
            };
            return (first, Found::First);
        };
        if system < EARLIEST {
            return (before.without_trust(), Found::Behind(EARLIEST - system));
        }
        let Some(trusted) = before.trusted else {
            // The first clock that may be right says nothing on what was before.
            return (before.anchored(system, before.gateway), Found::Passed(0));
        };
        if system < trusted.system {
            return (before.without_trust(), Found::Behind(trusted.system - system));
        }
        if let Some(gateway) = trusted.carried_on(system) {
            let gateway = gateway.max(before.gateway);
            return (
                before.anchored(system, gateway),
                Found::Passed(gateway - before.gateway),
            );
        }
        let carried = before.ahead.and_then(|ahead| ahead.carried_on(system));
        let gateway = carried.map_or(before.gateway, |gateway| gateway.max(before.gateway));
        let kept = Self {
            gateway,
            ahead: Some(Pair { system, gateway }),
            ..before.without_trust()
        };
        match carried {
            Some(_) => (kept, Found::Passed(gateway - before.gateway)),
            None => (kept, Found::Ahead(system - trusted.system)),
        }
    }

    /// Whether the next start would trust a clock that says this.
    fn could_be(self, system: u64) -> bool {
        could_be(self.trusted, system)
    }

    /// A clock that would not be believed, and is right: an earlier one was wrong, and is the reference no more. Nothing has passed by that. `None`: nothing of
    /// what was trusted is against it.
    fn confirmed(self, now: Pair) -> Option<Self> {
        let is_new = now.system >= EARLIEST && !self.could_be(now.system);
        is_new.then(|| self.anchored(now.system, now.gateway))
    }

    fn without_trust(self) -> Self {
        Self {
            lost_at: self.lost_at.or(Some(self.gateway)),
            ..self
        }
    }

    fn anchored(self, system: u64, gateway: u64) -> Self {
        Self {
            gateway,
            trusted: Some(Pair { system, gateway }),
            ahead: self.ahead,
            lost_at: None,
        }
    }

    /// The run goes on: both clocks now. A clock that was set forward while it was trusted is the reference from now on, and its jump is not time
    /// that passed; one that was set back or far ahead is not.
    fn go_on(self, now: Pair) -> Self {
        let kept = Self {
            gateway: now.gateway,
            ..self
        };
        if self.lost_at.is_some() {
            let goes_on = |ahead: Pair| {
                let expected = ahead
                    .system
                    .saturating_add(now.gateway - ahead.gateway.min(now.gateway));
                now.system.abs_diff(expected) <= DRIFT
            };
            let ahead = self.ahead.map(|ahead| if goes_on(ahead) { now } else { ahead });
            return Self { ahead, ..kept };
        }
        if now.system < EARLIEST {
            return kept;
        }
        match self.trusted {
            None => kept.anchored(now.system, now.gateway),
            Some(trusted) if now.system < trusted.system => kept,
            Some(trusted) if trusted.carried_on(now.system).is_some() => {
                let expected = trusted.system + now.gateway.saturating_sub(trusted.gateway);
                // Behind what it should say: what is higher stays the reference.
                if now.system + DRIFT < expected {
                    kept
                } else {
                    kept.anchored(now.system, now.gateway)
                }
            }
            Some(_) => Self {
                ahead: Some(now),
                ..kept.without_trust()
            },
        }
    }
}

/// Whether a clock that says this is believed after that trusted moment.
fn could_be(trusted: Option<Pair>, system: u64) -> bool {
    system >= EARLIEST && trusted.is_none_or(|trusted| trusted.carried_on(system).is_some())
}

/// Keeps the file.
#[derive(Debug)]
pub(crate) struct Timeline {
    file: DataPath,
    keeps: Keeps,
    /// It was written, and goes on to be.
    is_kept: bool,
    clock: Clock,
    kept: ClockFile,
    last: Pair,
    /// The last try to write it down failed.
    unwritten: bool,
    state: Arc<ClockState>,
}

/// Whether the system's clock is trusted, at the moment of the question: it may have been set since the last look.
#[derive(Debug)]
pub(crate) struct ClockState {
    clock: Clock,
    trusted: Mutex<Option<Pair>>,
    /// Somebody has set it since the last look.
    set_by_hand: AtomicBool,
    /// How often it was set, and how far in ms the last time.
    steps: AtomicU64,
    last_step: AtomicI64,
}

impl ClockState {
    fn new(clock: Clock, trusted: Option<Pair>) -> Self {
        Self {
            clock,
            trusted: Mutex::new(trusted),
            set_by_hand: AtomicBool::default(),
            steps: AtomicU64::default(),
            last_step: AtomicI64::default(),
        }
    }

    /// Whether it says a time that cannot be, or one that is not to be believed.
    pub(crate) fn is_untrusted(&self) -> bool {
        !could_be(*self.trusted.lock(), system_time())
    }

    /// The time by which certificates are judged, ms since 1970: what the system's clock says if it is trusted, and else what it would say if nobody had set it
    /// since it was.
    pub(crate) fn for_certificates(&self) -> u64 {
        judged_by(*self.trusted.lock(), system_time(), self.clock.wall().0)
    }

    /// Somebody has set it, and says that it is right.
    pub(crate) fn confirm(&self) {
        self.set_by_hand.store(true, Ordering::Relaxed);
    }

    /// How often it was set while the gateway ran, and by how many ms the last time.
    pub(crate) fn steps(&self) -> (u64, i64) {
        (
            self.steps.load(Ordering::Acquire),
            self.last_step.load(Ordering::Relaxed),
        )
    }
}

impl Timeline {
    /// Goes on where the last run in this data folder stood. Sessions that were left while the clock was not trusted are given what is now found to have
    /// passed before: the operations bring the store up to date.
    pub(crate) fn start(data_dir: &DataDir, keeps: Keeps, image: &mut StoreImage) -> (Self, Vec<StoreOp>) {
        let file = data_dir.join("clock");
        let system = system_time();
        let known = Some(file.now()).filter(|_| keeps.now());
        let before = known.and_then(|file| read(&file)).or_else(|| {
            let gateway = last_known(image, system)?;
            tracing::warn!(
                file = %file.now().display(),
                "the file with the time is missing or cannot be read: it is unknown for how long the gateway was off, so nothing expires because of it"
            );
            Some(ClockFile {
                gateway,
                ..ClockFile::default()
            })
        });
        let (kept, found) = ClockFile::start(before, system);
        let mut ops = Vec::new();
        match (found, before) {
            (Found::Passed(passed), Some(before)) => {
                if let (Some(lost_at), None) = (before.lost_at, kept.lost_at) {
                    ops = postpone(image, lost_at, passed);
                }
                let ended = Ended::count(image, before.gateway, kept.gateway);
                tracing::info!(
                    passed = %words(passed),
                    sessions = ended.sessions,
                    wills = ended.wills,
                    retained = ended.retained,
                    delayed = ended.delayed,
                    "time passed while the gateway was off: these ended or fell due meanwhile"
                );
            }
            (Found::Behind(behind), _) => tracing::warn!(
                behind = %words(behind),
                "the system's clock is behind the last time that was trusted: the gateway's time goes on from there, and nothing expires because of it"
            ),
            (Found::Ahead(ahead), _) => tracing::warn!(
                ahead = %words(ahead),
                "the system's clock is too far ahead of the last time that was trusted: the gateway's time goes on from there, and nothing expires because of it"
            ),
            (Found::First | Found::Passed(_), _) => {}
        }
        let clock = Clock::start_at(WallTime(kept.gateway));
        let mut timeline = Self {
            file,
            keeps,
            is_kept: false,
            clock,
            kept,
            last: Pair {
                system,
                gateway: kept.gateway,
            },
            unwritten: false,
            state: Arc::new(ClockState::new(clock, kept.trusted)),
        };
        timeline.save();
        (timeline, ops)
    }

    /// The gateway's clock.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether the system's clock is trusted, now and later.
    pub(crate) fn state(&self) -> Arc<ClockState> {
        Arc::clone(&self.state)
    }

    /// A time service says that the clock is right, or somebody who has set it.
    fn confirm(&mut self, now: Pair) {
        let is_confirmed = self.state.set_by_hand.swap(false, Ordering::Relaxed) || is_synchronized();
        if let Some(kept) = self.kept.confirmed(now).filter(|_| is_confirmed) {
            tracing::warn!(
                "the clock that was trusted before was wrong, and this one is confirmed: nothing expires because of it"
            );
            self.kept = kept;
        }
    }

    /// Writes the time down when it is time to, for ever.
    pub(crate) async fn keep(mut self) {
        let mut saved_at = self.clock.now();
        loop {
            tokio::time::sleep(LOOK).await;
            let was_set = self.look();
            let is_new = self.keeps.now() != self.is_kept;
            if was_set || is_new || self.clock.now() >= saved_at + EVERY {
                self.save();
                saved_at = self.clock.now();
            }
        }
    }

    /// Takes both clocks' times; whether the system's was set since the last look.
    fn look(&mut self) -> bool {
        let now = Pair {
            system: system_time(),
            gateway: self.clock.wall().0,
        };
        let expected = self.last.system.saturating_add(now.gateway - self.last.gateway);
        let off = now.system.abs_diff(expected);
        if off > DRIFT {
            let forward = now.system > expected;
            tracing::info!(forward, by = %words(off), "the system's clock was set: nothing expires because of it");
            let by = now.system.wrapping_sub(expected).cast_signed();
            self.state.last_step.store(by, Ordering::Relaxed);
            self.state.steps.fetch_add(1, Ordering::Release);
        }
        self.kept = self.kept.go_on(now);
        self.confirm(now);
        // A clock that was set right while the gateway runs is trusted from then on; what has passed is found by the next start.
        *self.state.trusted.lock() = self.kept.trusted;
        self.last = now;
        off > DRIFT
    }

    fn save(&mut self) {
        self.is_kept = self.keeps.now();
        if !self.is_kept {
            return;
        }
        let path = self.file.now();
        let file = path.display();
        match write(&path, self.kept) {
            Err(error) if !self.unwritten => {
                self.unwritten = true;
                tracing::warn!(%file, %error, "the file with the time cannot be written");
            }
            Ok(()) if std::mem::take(&mut self.unwritten) => {
                tracing::info!(%file, "the file with the time is written again");
            }
            _ => {}
        }
    }
}

fn judged_by(trusted: Option<Pair>, system: u64, gateway: u64) -> u64 {
    match trusted {
        _ if could_be(trusted, system) => system,
        Some(trusted) => trusted.system + gateway.saturating_sub(trusted.gateway),
        None => gateway,
    }
}

/// Where the time is written down.
pub(crate) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("clock")
}

/// Writes the time down at the end of a run.
pub(crate) fn save_now(data_dir: &Path, clock: Clock) -> io::Result<()> {
    let file = file(data_dir);
    let now = Pair {
        system: system_time(),
        gateway: clock.wall().0,
    };
    let kept = read(&file).unwrap_or_default();
    write(&file, kept.go_on(now))
}

/// What time that passed while the gateway was off has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ended {
    sessions: usize,
    wills: usize,
    retained: usize,
    delayed: usize,
}

impl Ended {
    fn count(image: &StoreImage, from: u64, to: u64) -> Self {
        let due = |at: Option<WallTime>| at.is_some_and(|at| at.0 > from && at.0 <= to);
        let count = |all: &mut dyn Iterator<Item = Option<WallTime>>| all.filter(|at| due(*at)).count();
        let records = || image.sessions.iter().map(|session| &session.record);
        Self {
            sessions: count(&mut records().map(|record| record.ends)),
            wills: count(&mut records().map(|record| record.will.as_ref().and_then(|will| will.due))),
            retained: count(&mut image.retained.iter().map(|(_, stored)| stored.expires)),
            delayed: count(&mut image.delayed.iter().map(|(_, _, due)| Some(*due))),
        }
    }
}

/// Moves the ends and wills of sessions that were left since `lost_at` by so many ms.
fn postpone(image: &mut StoreImage, lost_at: u64, by: u64) -> Vec<StoreOp> {
    let changed = image.sessions.iter_mut().filter_map(|session| {
        let record = &mut session.record;
        postpone_record(record, lost_at, by)
            .then(|| StoreOp::PutSession(session.id, Box::new(record.clone())))
    });
    changed.collect()
}

fn postpone_record(record: &mut SessionRecord, lost_at: u64, by: u64) -> bool {
    let postpone = |at: &mut Option<WallTime>, after: Duration| {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        // What is due never stands for itself alone, and is no time.
        let Some(WallTime(due)) = at.filter(|at| at.0 < u64::MAX) else {
            return false;
        };
        let since = due.checked_sub(after).is_some_and(|left| left >= lost_at);
        if since {
            *at = Some(WallTime(due.saturating_add(by).min(u64::MAX - 1)));
        }
        since
    };
    let mut changed = postpone(&mut record.ends, record.expiry);
    if let Some(will) = &mut record.will {
        changed |= postpone(&mut will.due, will.delay);
    }
    changed && by > 0
}

/// The time that goes on without the file: the system's, if nothing would end by it, else the last time of which the store knows that it had come. `None` for
/// an empty store.
fn last_known(image: &StoreImage, system: u64) -> Option<u64> {
    let (mut begun, mut due) = (EARLIEST, u64::MAX);
    let mut look = |at: Option<WallTime>, after: Duration| {
        if let Some(WallTime(at)) = at.filter(|at| at.0 < u64::MAX) {
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            begun = begun.max(at.saturating_sub(after));
            due = due.min(at);
        }
    };
    for session in &image.sessions {
        look(session.record.ends, session.record.expiry);
        if let Some(will) = &session.record.will {
            look(will.due, will.delay);
        }
    }
    for (_, stored) in &image.retained {
        look(stored.expires, Duration::MAX);
    }
    for (_, _, at) in &image.delayed {
        look(Some(*at), Duration::MAX);
    }
    let is_empty = image.sessions.is_empty() && image.retained.is_empty() && image.delayed.is_empty();
    (!is_empty).then(|| if system < due { begun.max(system) } else { begun })
}

fn words(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string()
}

fn system_time() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn read(file: &Path) -> Option<ClockFile> {
    parse(&String::from_utf8(private::read(file, 4_096).ok()?).ok()?)
}

/// `2 gateway trusted.system trusted.gateway ahead.system ahead.gateway lost_at`, `-` for what there is not; or, of the first form, `system gateway`.
fn parse(text: &str) -> Option<ClockFile> {
    let fields: Vec<&str> = text.strip_suffix('\n')?.split(' ').collect();
    let number = |field: &str| field.parse::<u64>().ok();
    let pair = |system: &str, gateway: &str| match (system, gateway) {
        ("-", "-") => Some(None),
        _ => Some(Some(Pair {
            system: number(system)?,
            gateway: number(gateway)?,
        })),
    };
    match fields[..] {
        // The first form took any clock for a reference.
        [system, gateway] => {
            let pair = pair(system, gateway)?;
            Some(ClockFile {
                gateway: number(gateway)?,
                trusted: pair.filter(|pair| pair.system >= EARLIEST),
                ..ClockFile::default()
            })
        }
        ["2", gateway, ts, tg, fs, fg, lost] => Some(ClockFile {
            gateway: number(gateway)?,
            trusted: pair(ts, tg)?,
            ahead: pair(fs, fg)?,
            lost_at: if lost == "-" { None } else { Some(number(lost)?) },
        }),
        _ => None,
    }
}

/// It is there whole or not at all.
fn write(path: &Path, kept: ClockFile) -> io::Result<()> {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let pair = |pair: Option<Pair>| {
        let (system, gateway) = (pair.map(|pair| pair.system), pair.map(|pair| pair.gateway));
        format!("{} {}", number(system), number(gateway))
    };
    let (trusted, ahead, lost) = (pair(kept.trusted), pair(kept.ahead), number(kept.lost_at));
    private::replace(
        path,
        format!("2 {} {trusted} {ahead} {lost}\n", kept.gateway).as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const DAY: u64 = 86_400_000;
    /// Some day.
    const NOW: u64 = EARLIEST + 300 * DAY;
    const IN_2090: u64 = 3_786_912_000_000;

    /// A gateway through its runs.
    struct Life(Option<ClockFile>);

    impl Life {
        fn start(&mut self, system: u64) -> Found {
            let (kept, found) = ClockFile::start(self.0, system);
            assert!(
                self.0.is_none_or(|before| before.gateway <= kept.gateway),
                "never back"
            );
            self.0 = Some(kept);
            found
        }

        /// So many ms of a run, at whose end the system's clock says this.
        fn run(&mut self, ms: u64, system: u64) {
            let gateway = self.time() + ms;
            self.0 = self.0.map(|kept| kept.go_on(Pair { system, gateway }));
        }

        fn time(&self) -> u64 {
            self.0.expect("it was started").gateway
        }
    }

    /// Certificates that have expired stay so when the clock is set back, and those that are good stay so when it is far ahead.
    #[test]
    fn certificates_are_judged_by_a_time_that_is_believed() {
        let (system, gateway) = (NOW, 5 * DAY);
        let trusted = Some(Pair { system, gateway });
        let judged = |says: u64| judged_by(trusted, says, gateway + MINUTE);
        assert_eq!(judged(NOW + MINUTE), NOW + MINUTE);
        assert_eq!(judged(NOW + 3 * DAY), NOW + 3 * DAY);
        for lie in [0, NOW - DAY, NOW - 1, IN_2090] {
            assert_eq!(judged(lie), NOW + MINUTE, "{lie}");
        }
        assert_eq!(judged_by(None, 0, EARLIEST + MINUTE), EARLIEST + MINUTE);
    }

    fn life() -> Life {
        let mut life = Life(None);
        assert_eq!(life.start(NOW), Found::First);
        life.run(MINUTE, NOW + MINUTE);
        life
    }

    #[test]
    fn the_time_that_the_gateway_was_off_counts() {
        let mut life = life();
        assert_eq!(life.start(NOW + DAY), Found::Passed(DAY - MINUTE));
        assert_eq!(life.time(), NOW + DAY);
    }

    /// A board without a clock: any number of starts in 1970, killed or not, add what they run; then the real time is counted from the last trusted one.
    #[test]
    fn a_start_in_1970_is_no_reference() {
        let mut life = life();
        for n in 0..3 {
            assert!(matches!(life.start(10_000), Found::Behind(_)));
            assert_eq!(life.time(), NOW + MINUTE + n * MINUTE);
            life.run(MINUTE, 10_000 + MINUTE);
        }
        assert_eq!(life.start(NOW + 10 * MINUTE), Found::Passed(6 * MINUTE));
        assert_eq!(life.time(), NOW + 10 * MINUTE, "not 56 years");
    }

    /// A clock that lied for years, and then said the truth: who confirms that ends the wait for the lie's time, and nothing has passed.
    #[test]
    fn a_clock_that_is_confirmed_makes_up_for_an_earlier_lie() {
        let mut life = life();
        life.start(NOW + MINUTE);
        for years in 1..=3 {
            life.run(MINUTE, NOW + years * 360 * DAY);
        }
        assert!(matches!(life.start(NOW + DAY), Found::Behind(_)));
        let here = Pair {
            system: NOW + DAY,
            gateway: life.time(),
        };
        let kept = life.0.unwrap();
        assert!(!kept.could_be(here.system));
        let confirmed = kept.confirmed(here).unwrap();
        assert!(confirmed.could_be(here.system) && confirmed.gateway == here.gateway);
        assert_eq!(confirmed.confirmed(here), None, "once is enough");
        life.0 = Some(confirmed);
        assert_eq!(life.start(NOW + 2 * DAY), Found::Passed(DAY));
        // Nobody can confirm a time that cannot be.
        let in_1970 = Pair {
            system: 10_000,
            ..here
        };
        assert_eq!(confirmed.confirmed(in_1970), None);
    }

    /// The time is set while the gateway runs: that is no time that passed.
    #[test]
    fn a_clock_that_is_set_in_a_run_moves_nothing() {
        let mut life = life();
        life.start(10_000);
        life.run(MINUTE, NOW + DAY);
        assert_eq!(life.time(), NOW + 2 * MINUTE);
        assert_eq!(
            life.start(NOW + 2 * DAY),
            Found::Passed(2 * DAY - 2 * MINUTE),
            "the day before the run too"
        );

        life.run(MINUTE, NOW + 2 * DAY + MINUTE + 5 * MINUTE);
        assert_eq!(
            life.start(NOW + 2 * DAY + 7 * MINUTE),
            Found::Passed(MINUTE),
            "five were no time"
        );
        life.run(MINUTE, NOW);
        assert!(
            matches!(life.start(NOW + DAY), Found::Behind(_)),
            "what is higher stays"
        );
    }

    /// A wrong future ends nothing, and the way back is open.
    #[test]
    fn a_start_in_2090_is_not_believed() {
        let mut life = life();
        assert!(matches!(life.start(IN_2090), Found::Ahead(_)));
        life.run(MINUTE, IN_2090 + MINUTE);
        assert_eq!(life.time(), NOW + 2 * MINUTE);
        assert_eq!(
            life.start(IN_2090 + DAY),
            Found::Passed(DAY - MINUTE),
            "its own differences count"
        );
        assert_eq!(life.start(NOW + 5 * DAY), Found::Passed(4 * DAY - MINUTE));
        assert_eq!(life.time(), NOW + 5 * DAY);

        life.run(MINUTE, IN_2090);
        life.run(MINUTE, IN_2090 + MINUTE);
        assert_eq!(
            life.start(NOW + 6 * DAY),
            Found::Passed(DAY - 2 * MINUTE),
            "set there in a run"
        );
    }

    #[test]
    fn a_first_start_in_1970_waits_for_a_clock() {
        let mut life = Life(None);
        assert_eq!(life.start(0), Found::First);
        life.run(MINUTE, MINUTE);
        assert_eq!(life.time(), EARLIEST + MINUTE);
        assert_eq!(life.start(NOW), Found::Passed(0));
        assert_eq!(life.start(NOW + DAY), Found::Passed(DAY));
    }

    /// Who left while the clock was behind has not aged by what had passed before; who left earlier has.
    #[test]
    fn what_is_found_to_have_passed_is_not_counted_for_what_came_after() {
        let record = |left: u64| SessionRecord {
            expiry: Duration::from_millis(30 * DAY),
            ends: Some(WallTime(left + 30 * DAY)),
            client_id: "c".into(),
            username: None,
            unsent_from: None,
            will: None,
            wants_expired: false,
        };
        let (mut before, mut after) = (record(NOW), record(NOW + 2 * MINUTE));
        assert!(!postpone_record(&mut before, NOW + MINUTE, 40 * DAY));
        assert!(postpone_record(&mut after, NOW + MINUTE, 40 * DAY));
        assert_eq!(before.ends, Some(WallTime(NOW + 30 * DAY)));
        assert_eq!(after.ends, Some(WallTime(NOW + 2 * MINUTE + 70 * DAY)));
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_file_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        assert_eq!(read(&file), None);
        let mut life = life();
        write(&file, life.0.unwrap()).unwrap();
        assert_eq!(read(&file), life.0);
        life.start(IN_2090);
        write(&file, life.0.unwrap()).unwrap();
        assert_eq!(read(&file), life.0);
        for text in ["", "\n", "1 2", "1\n", "x 2\n", "1 2 3\n", "2 1 - 4 - - -\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    /// The form before: a pair in 1970 is no reference, and its gateway's time goes on.
    #[test]
    fn the_first_form_is_read() {
        let right = format!("{NOW} {}\n", NOW - 5);
        assert_eq!(ClockFile::start(parse(&right), NOW + DAY).1, Found::Passed(DAY));
        let poisoned = format!("12000 {NOW}\n");
        assert_eq!(ClockFile::start(parse(&poisoned), NOW + DAY).1, Found::Passed(0));
    }
}
