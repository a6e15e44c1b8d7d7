//! When to connect, and to which address. Told what happened; says what to do.
//!
//! Addresses: the first is the primary. When one fails the next is tried at once, and after the last of them there is a pause, of decorrelated jitter:
//! the pause is drawn between its base and three times the one before, up to a cap, so that a thousand gateways do not come back in step.
//! Always true: one connection at a time is dialed or open; a connection that is open ends before another is dialed.

use crate::reasons::EndReason;
use crate::status::BridgeState;
use crate::uplink_settings::{MINUTE_MS, RestartSettings, Start, UplinkSettings, UplinkSettingsError};
use headgate_model::{Instant, WallTime};
use std::time::Duration;

/// Before this the clock was not set: 2024-01-01.
const CLOCK_IS_SET: WallTime = WallTime(1_704_067_200_000);
/// How often it is looked at whether the clock is set.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkInput {
    /// The gateway runs: first of all.
    Started,
    /// An operator stops the bridge.
    Paused,
    /// An operator lets it go on.
    Resumed,
    /// Whether what was dialed is connected.
    Dialed(bool),
    /// The connection ended.
    Ended(EndReason),
    /// So many messages wait in the queue, those under way among them.
    QueueLength(u64),
    /// The answer to [`UplinkAction::ProbePrimary`].
    PrimaryAnswers(bool),
    /// The deadline came.
    Timeout,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UplinkAction {
    /// Connect to the address at this place; answered by [`UplinkInput::Dialed`].
    Dial(usize),
    /// End the connection; answered by [`UplinkInput::Ended`].
    Close,
    /// See whether the first address takes connections; answered by [`UplinkInput::PrimaryAnswers`].
    ProbePrimary,
    /// Tell the status. Of an open connection its endpoint tells.
    SetState(BridgeState),
}

/// Decides when to connect and to which address. See the module's documentation.
#[derive(Debug)]
pub struct Uplink {
    settings: UplinkSettings,
    addresses: usize,
    needs_clock: bool,
    random: u64,
    link: Link,
    started: bool,
    paused: bool,
    /// For `lazy`: enough messages waited.
    woken: bool,
    /// For `lazy`: nothing waits since then.
    empty_since: Option<Instant>,
    /// For `once`: it was connected, or could not be.
    done: bool,
    /// The address to dial next.
    next: usize,
    /// Addresses that failed since the last pause.
    failed: usize,
    /// The last pause.
    pause: Duration,
    retry_at: Instant,
    /// The last connection ended because bit 0x80 was refused.
    refused_private: bool,
    told: Option<BridgeState>,
    clocks: UplinkClocks,
}

/// When it must be looked again although nothing happened.
#[derive(Debug, Default)]
struct UplinkClocks {
    probe: Option<Instant>,
    look: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Dialing(usize),
    Up {
        address: usize,
        since: Instant,
    },
    /// We asked for its end.
    Closing,
}

impl Uplink {
    /// For so many addresses, of which there is at least one. `needs_clock`: certificates are checked. `seed` makes pauses repeatable.
    pub fn new(
        settings: UplinkSettings,
        addresses: usize,
        needs_clock: bool,
        seed: u64,
    ) -> Result<Self, UplinkSettingsError> {
        settings.check()?;
        if addresses == 0 {
            return Err(UplinkSettingsError::Range {
                key: "addresses",
                value: 0,
                allowed: "1 or more",
            });
        }
        Ok(Self {
            pause: settings.restart_timeout.base,
            needs_clock: needs_clock || settings.start == Start::Window,
            settings,
            addresses,
            random: seed,
            link: Link::Down,
            started: false,
            paused: false,
            woken: false,
            empty_since: None,
            done: false,
            next: 0,
            failed: 0,
            retry_at: Instant::START,
            refused_private: false,
            told: None,
            clocks: UplinkClocks::default(),
        })
    }

    /// Takes one thing that happened and writes what to do into `out`.
    pub fn handle(&mut self, input: UplinkInput, now: Instant, wall: WallTime, out: &mut Vec<UplinkAction>) {
        match input {
            UplinkInput::Started => self.started = true,
            UplinkInput::Paused => self.paused = true,
            UplinkInput::Resumed => self.resume(now),
            UplinkInput::Dialed(true) => self.on_up(now),
            UplinkInput::Dialed(false) => self.on_dial_failed(now),
            UplinkInput::Ended(reason) => self.on_ended(reason, now),
            UplinkInput::QueueLength(n) => self.on_queue_length(n, now),
            UplinkInput::PrimaryAnswers(answers) => self.on_primary(answers, out),
            UplinkInput::Timeout => self.on_timeout(now, out),
        }
        self.act(now, wall, out);
    }

    /// When the first address is tried again, after all of them failed.
    pub fn next_try(&self) -> Option<Instant> {
        (self.told == Some(BridgeState::BackingOff)).then_some(self.retry_at)
    }

    /// When [`UplinkInput::Timeout`] is next wanted.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.idle_due();
        [self.next_try(), idle, self.clocks.probe, self.clocks.look]
            .into_iter()
            .flatten()
            .min()
    }

    fn resume(&mut self, now: Instant) {
        if std::mem::take(&mut self.paused) {
            self.done = false;
            self.failed = 0;
            self.retry_at = now;
        }
    }

    fn on_up(&mut self, now: Instant) {
        if let Link::Dialing(address) = self.link {
            self.link = Link::Up { address, since: now };
            let on_secondary = address > 0 && !self.settings.round_robin;
            self.clocks.probe = on_secondary.then(|| now + self.settings.return_after);
        }
    }

    fn on_dial_failed(&mut self, now: Instant) {
        if let Link::Dialing(address) = self.link {
            self.link = Link::Down;
            self.address_failed(address, now);
        }
    }

    /// The next address at once; after the last one a pause.
    fn address_failed(&mut self, address: usize, now: Instant) {
        self.failed += 1;
        self.next = (address + 1) % self.addresses;
        if self.failed < self.addresses {
            self.retry_at = now;
            return;
        }
        self.done = self.settings.start == Start::Once;
        self.back_off(now);
    }

    fn back_off(&mut self, now: Instant) {
        self.failed = 0;
        if !self.settings.round_robin {
            self.next = 0;
        }
        let RestartSettings { base, cap } = self.settings.restart_timeout;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let drawn = self.draw(ms(base), ms(self.pause).saturating_mul(3));
        self.pause = Duration::from_millis(drawn).min(cap);
        self.retry_at = now + self.pause;
    }

    fn on_ended(&mut self, reason: EndReason, now: Instant) {
        self.clocks.probe = None;
        let link = std::mem::replace(&mut self.link, Link::Down);
        let again = reason == EndReason::PrivateRefused && !self.refused_private;
        self.refused_private = reason == EndReason::PrivateRefused;
        match link {
            Link::Closing => {
                self.next = 0;
                self.failed = 0;
                self.retry_at = now;
            }
            Link::Up { address, .. } | Link::Dialing(address) if again => {
                self.next = address;
                self.retry_at = now;
            }
            Link::Up { address, since } => self.on_lost(address, since, now),
            Link::Dialing(address) => self.address_failed(address, now),
            Link::Down => {}
        }
    }

    fn on_lost(&mut self, address: usize, since: Instant, now: Instant) {
        if self.settings.start == Start::Once {
            self.done = true;
        }
        let RestartSettings { base, cap } = self.settings.restart_timeout;
        if now.since(since) < cap {
            return self.address_failed(address, now); // It did not hold: as good as none.
        }
        self.pause = base;
        self.back_off(now);
        if self.settings.round_robin {
            self.next = (address + 1) % self.addresses;
        }
    }

    fn on_queue_length(&mut self, n: u64, now: Instant) {
        self.woken |= n >= self.settings.lazy.threshold;
        if n > 0 {
            self.empty_since = None;
        } else {
            self.empty_since.get_or_insert(now);
        }
    }

    fn on_primary(&mut self, answers: bool, out: &mut Vec<UplinkAction>) {
        let on_secondary = matches!(self.link, Link::Up { address, .. } if address > 0);
        if answers && on_secondary && !self.settings.round_robin {
            self.link = Link::Closing;
            self.clocks.probe = None;
            out.push(UplinkAction::Close);
        }
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Vec<UplinkAction>) {
        if self.clocks.probe.is_some_and(|at| at <= now) {
            self.clocks.probe = Some(now + self.settings.return_after);
            out.push(UplinkAction::ProbePrimary);
        }
        if self.idle_due().is_some_and(|at| at <= now) {
            self.woken = false;
        }
    }

    /// When a lazy bridge leaves.
    fn idle_due(&self) -> Option<Instant> {
        let up = matches!(self.link, Link::Up { .. });
        let lazy = self.settings.start == Start::Lazy && self.woken && up;
        Some(self.empty_since.filter(|_| lazy)? + self.settings.lazy.idle_timeout)
    }

    /// What is to be done now, after whatever happened.
    fn act(&mut self, now: Instant, wall: WallTime, out: &mut Vec<UplinkAction>) {
        self.clocks.look = None;
        let hindered = self.hindrance(wall);
        if hindered == Some(BridgeState::WaitingForTime) {
            self.clocks.look = Some(now + CLOCK_LOOK);
        } else if self.settings.start == Start::Window && self.started {
            self.clocks.look = Some(now + Duration::from_millis(MINUTE_MS - wall.0 % MINUTE_MS));
        }
        match (self.link, hindered) {
            (Link::Up { .. }, Some(state)) if state != BridgeState::WaitingForTime => {
                self.link = Link::Closing;
                self.clocks.probe = None;
                out.push(UplinkAction::Close);
            }
            (Link::Down, Some(state)) => self.tell(state, out),
            (Link::Down, None) if self.retry_at <= now => {
                self.link = Link::Dialing(self.next);
                self.tell(BridgeState::Connecting, out);
                out.push(UplinkAction::Dial(self.next));
            }
            (Link::Down, None) => self.tell(BridgeState::BackingOff, out),
            // The endpoint tells of what it does.
            (Link::Up { .. }, _) => self.told = None,
            (Link::Dialing(_) | Link::Closing, _) => {}
        }
    }

    /// Why there shall be no connection now.
    fn hindrance(&self, wall: WallTime) -> Option<BridgeState> {
        let settings = &self.settings;
        let wanted = match settings.start {
            Start::Automatic => true,
            Start::Lazy => self.woken,
            Start::Once => !self.done,
            Start::Window => true,
        };
        if self.paused {
            return Some(BridgeState::Paused);
        }
        if !self.started || !wanted {
            return Some(BridgeState::Idle);
        }
        if self.needs_clock && wall < CLOCK_IS_SET {
            return Some(BridgeState::WaitingForTime);
        }
        let closed = settings.start == Start::Window && !settings.windows.iter().any(|w| w.contains(wall));
        closed.then_some(BridgeState::Idle)
    }

    fn tell(&mut self, state: BridgeState, out: &mut Vec<UplinkAction>) {
        if self.told != Some(state) {
            self.told = Some(state);
            out.push(UplinkAction::SetState(state));
        }
    }

    /// A number from `least` to `most`. SplitMix64, Steele et al. 2014.
    fn draw(&mut self, least: u64, most: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        least + mixed % (most.saturating_sub(least) + 1)
    }
}
