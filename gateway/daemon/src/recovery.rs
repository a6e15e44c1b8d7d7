//! What is done when no uplink is connected for long: first the bridges try at once, then a program resets the modem, then the machine is started anew; each
//! with more patience than before, also over starts of the machine. Somebody on site would do the same, and nobody is on site.

use crate::bridges::{BridgeView, Bridges};
use crate::config::{Config, RecoverySettings};
use crate::firmware::{Firmware, State, run_program};
use crate::private;
use crate::starts::Why;
use headgate_auth::data_dir::DataDir;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);
/// The file that has how often the ladder was climbed in vain, in the data folder.
const FILE: &str = "recovery";

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// The bridges try at once.
    Reconnect,
    /// `recovery.reset`
    Reset,
    /// `recovery.reboot`
    Reboot,
}

impl Step {
    /// The word for operators.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reconnect => "reconnect",
            Self::Reset => "reset",
            Self::Reboot => "reboot",
        }
    }
}

/// How far the recovery is.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(crate) struct RecoveryView {
    /// How often all steps were taken in vain.
    pub(crate) rounds: u32,
    /// While no uplink is connected: what is done next,
    pub(crate) next: Option<Step>,
    /// and in how many seconds.
    pub(crate) next_in_seconds: Option<u64>,
}

/// How far the recovery is now; nothing where `recovery.after` does not say that there is one. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct RecoveryState(Arc<Mutex<Option<RecoveryView>>>);

impl RecoveryState {
    /// Now.
    pub(crate) fn view(&self) -> Option<RecoveryView> {
        *self.0.lock()
    }
}

/// The steps one after the other. It knows no clock but what it is told.
#[derive(Debug)]
struct Ladder {
    settings: RecoverySettings,
    /// How often all steps were taken in vain.
    rounds: u32,
    /// Since when nothing was done and nothing is connected, and which step is next.
    waits: Option<(Instant, usize)>,
    /// Since when something is connected.
    connected: Option<Instant>,
}

impl Ladder {
    fn new(settings: RecoverySettings, rounds: u32) -> Self {
        Self {
            settings,
            rounds,
            waits: None,
            connected: None,
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Reconnect];
        steps.extend((!self.settings.reset.is_empty()).then_some(Step::Reset));
        steps.extend(self.settings.reboot.then_some(Step::Reboot));
        steps
    }

    /// How long nothing may be connected before the next step: twice as long with each round.
    fn patience(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.rounds).unwrap_or(u32::MAX);
        self.settings
            .after
            .saturating_mul(factor)
            .min(self.settings.longest)
    }

    fn view(&self, now: Instant) -> RecoveryView {
        let next = self.waits.map(|(since, next)| {
            let step = self.steps().get(next).copied().unwrap_or(Step::Reconnect);
            (step, self.patience().saturating_sub(now.duration_since(since)))
        });
        RecoveryView {
            rounds: self.rounds,
            next: next.map(|(step, _)| step),
            next_in_seconds: next.map(|(_, left)| left.as_secs()),
        }
    }

    /// What is to be done now. `connected`: some uplink is, `None`: there is none that should be.
    fn look(&mut self, connected: Option<bool>, now: Instant) -> Option<Step> {
        let Some(false) = connected else {
            self.waits = None;
            let since = *self.connected.get_or_insert(now);
            // What comes and goes is no better than before.
            if now.duration_since(since) >= self.patience() {
                self.rounds = 0;
            }
            return None;
        };
        self.connected = None;
        let steps = self.steps();
        let (since, next) = *self.waits.get_or_insert((now, 0));
        if now.duration_since(since) < self.patience() {
            return None;
        }
        let step = *steps.get(next).unwrap_or(&Step::Reconnect);
        match next + 1 < steps.len() {
            true => self.waits = Some((now, next + 1)),
            false => {
                self.waits = Some((now, 0));
                self.rounds = self.rounds.saturating_add(1);
            }
        }
        Some(step)
    }
}

/// What it is made of.
pub(crate) struct Recovery {
    pub(crate) bridges: Bridges,
    pub(crate) firmware: Firmware,
    pub(crate) data_dir: DataDir,
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) state: RecoveryState,
}

impl Recovery {
    /// Looks after the uplinks, for ever.
    pub(crate) async fn keep(self) {
        let mut kept = rounds(&self.data_dir.now());
        let mut ladder = Ladder::new(RecoverySettings::default(), kept);
        loop {
            sleep(LOOK).await;
            let settings = self.config.borrow().recovery.clone();
            if settings != ladder.settings {
                ladder = Ladder::new(settings, ladder.rounds);
            }
            if ladder.settings.after.is_zero() {
                *self.state.0.lock() = None;
                continue;
            }
            // A system on trial falls back by itself, and one that is being written is not disturbed.
            let step = match self.firmware.state() == State::Trial || self.firmware.is_at_work() {
                true => None,
                false => ladder.look(self.connected(&ladder.settings), Instant::now()),
            };
            *self.state.0.lock() = Some(ladder.view(Instant::now()));
            if ladder.rounds != kept {
                kept = ladder.rounds;
                self.save(kept);
            }
            if let Some(step) = step {
                self.take(step, &ladder.settings).await;
            }
        }
    }

    /// Whether one of the uplinks is connected, of those that should be.
    fn connected(&self, settings: &RecoverySettings) -> Option<bool> {
        let is_named =
            |view: &BridgeView| settings.uplinks.is_empty() || settings.uplinks.contains(&view.name);
        let views = self.bridges.views();
        let wanted: Vec<_> = views
            .iter()
            .filter(|view| is_named(view) && view.should_be_connected())
            .collect();
        (!wanted.is_empty()).then(|| wanted.iter().any(|view| view.state == "connected"))
    }

    async fn take(&self, step: Step, settings: &RecoverySettings) {
        match step {
            Step::Reconnect => {
                tracing::warn!("no uplink is connected: all try again at once");
                for view in self.bridges.views().iter().filter(|view| !view.paused) {
                    let _ = self.bridges.resume(&view.name);
                }
            }
            Step::Reset => {
                tracing::warn!(
                    program = settings.reset.join(" "),
                    "no uplink is connected: what makes the connection is reset"
                );
                match run_program(&settings.reset).await {
                    Ok(()) => tracing::info!("what makes the connection was reset"),
                    Err(error) => tracing::error!(%error, "what makes the connection was not reset"),
                }
            }
            Step::Reboot => {
                tracing::warn!("no uplink is connected: the machine is started anew");
                if let Err(error) = self.firmware.reboot(Why::Recovery).await {
                    tracing::error!(%error, "the machine is not started anew");
                }
            }
        }
    }

    fn save(&self, rounds: u32) {
        let path = self.data_dir.join(FILE);
        let saved =
            tokio::task::block_in_place(|| private::replace(&path.now(), rounds.to_string().as_bytes()));
        if let Err(error) = saved {
            tracing::error!(%error, "how often the connection was lost for long cannot be written down");
        }
    }
}

fn rounds(data_dir: &Path) -> u32 {
    let text = private::read(&data_dir.join(FILE), 64).ok();
    let text = text.and_then(|text| String::from_utf8(text).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn settings() -> RecoverySettings {
        RecoverySettings {
            after: 10 * MINUTE,
            reset: vec!["reset-modem".into()],
            reboot: true,
            longest: 60 * MINUTE,
            uplinks: Vec::new(),
        }
    }

    /// What is done, and after how many minutes, in so many minutes without any uplink.
    fn without_uplink(ladder: &mut Ladder, from: Instant, minutes: u32) -> Vec<(u32, Step)> {
        let at = |minute| from + minute * MINUTE;
        (0..=minutes)
            .filter_map(|minute| Some((minute, ladder.look(Some(false), at(minute))?)))
            .collect()
    }

    #[test]
    fn steps_come_one_after_the_other_and_each_round_has_twice_the_patience() {
        let mut ladder = Ladder::new(settings(), 0);
        let wanted = [
            (10, Step::Reconnect),
            (20, Step::Reset),
            (30, Step::Reboot),
            // A reboot that does not come is no reason to give up.
            (50, Step::Reconnect),
            (70, Step::Reset),
            (90, Step::Reboot),
        ];
        let now = Instant::now();
        assert_eq!(without_uplink(&mut ladder, now, 100), wanted);
        assert_eq!(ladder.rounds, 2);
        let view = ladder.view(now + 100 * MINUTE);
        assert_eq!((view.rounds, view.next), (2, Some(Step::Reconnect)));
        assert_eq!(view.next_in_seconds, Some(30 * 60));
    }

    /// Over starts of the machine the rounds go on: a plant that has no network for a week is not started anew every half hour.
    #[test]
    fn patience_goes_on_over_starts_of_the_machine_and_has_an_end() {
        for (rounds, first) in [(1, 20), (2, 40), (3, 60), (31, 60), (32, 60), (u32::MAX, 60)] {
            let mut ladder = Ladder::new(settings(), rounds);
            let steps = without_uplink(&mut ladder, Instant::now(), 180);
            assert_eq!(steps[0], (first, Step::Reconnect), "{rounds}");
        }
    }

    #[test]
    fn a_connection_that_holds_begins_anew_and_one_that_flickers_does_not() {
        let now = Instant::now();
        let mut ladder = Ladder::new(settings(), 1);
        assert_eq!(ladder.look(Some(true), now), None);
        assert_eq!(ladder.look(Some(false), now + MINUTE), None);
        assert_eq!(ladder.look(Some(true), now + 2 * MINUTE), None);
        assert_eq!(ladder.look(Some(true), now + 21 * MINUTE), None);
        assert_eq!(ladder.rounds, 1);
        // As long as the next step would have waited.
        assert_eq!(ladder.look(Some(true), now + 22 * MINUTE), None);
        assert_eq!(ladder.rounds, 0);
        // Where nothing should be connected nothing is missed.
        assert_eq!(ladder.look(None, now + 600 * MINUTE), None);
    }

    #[test]
    fn what_is_not_set_is_not_done() {
        let only_reset = RecoverySettings {
            reboot: false,
            ..settings()
        };
        let steps = without_uplink(&mut Ladder::new(only_reset, 0), Instant::now(), 60);
        assert_eq!(
            steps[..3],
            [(10, Step::Reconnect), (20, Step::Reset), (40, Step::Reconnect)]
        );
        let nothing = RecoverySettings {
            reset: Vec::new(),
            reboot: false,
            ..settings()
        };
        let steps = without_uplink(&mut Ladder::new(nothing, 0), Instant::now(), 60);
        assert!(steps.iter().all(|(_, step)| *step == Step::Reconnect));
    }
}
