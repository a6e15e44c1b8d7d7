//! Whether the system that runs is good: decided of what is seen, as time goes by.
//!
//! A system that was good before is good again as soon as it serves: that the world is not reached is not its fault. One that is new must reach all that the
//! one before it reached.

use std::collections::BTreeSet;
use std::time::Duration;

/// What is seen of a system that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Listeners that should run and do not.
    pub(super) listeners_down: Vec<String>,
    /// A message went round the bus, and the store made progress.
    pub(super) beats: bool,
    /// Bridges that are connected.
    pub(super) connected: BTreeSet<String>,
    /// Bridges that there are.
    pub(super) bridges: BTreeSet<String>,
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not yet; what is waited for.
    Wait(Vec<String>),
    Good,
    /// Its time is over; what is missing.
    Bad(Vec<String>),
}

/// One system on trial.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    /// It was found good before.
    pub(super) was_good: bool,
    /// Bridges that the system before it had connected.
    pub(super) uplinks: BTreeSet<String>,
    /// How long it may take.
    pub(super) patience: Duration,
}

impl Judge {
    /// After so long.
    pub(super) fn judge(&self, seen: &Seen, after: Duration) -> Verdict {
        let mut missing = Vec::new();
        if !seen.beats {
            missing.push("no message goes round the bus".to_owned());
        }
        missing.extend(
            seen.listeners_down
                .iter()
                .map(|name| format!("listener {name} does not accept")),
        );
        if !self.was_good {
            // One that was taken out of the configuration is missed by nobody.
            let wanted = self.uplinks.intersection(&seen.bridges);
            let lost = wanted.filter(|name| !seen.connected.contains(*name));
            missing.extend(lost.map(|name| format!("bridge {name} was connected before, and is not")));
        }
        match (missing.is_empty(), after >= self.patience) {
            (true, _) => Verdict::Good,
            (false, false) => Verdict::Wait(missing),
            (false, true) => Verdict::Bad(missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn judge(was_good: bool) -> Judge {
        Judge {
            was_good,
            uplinks: names(&["cloud", "gone"]),
            patience: Duration::from_secs(600),
        }
    }

    fn seen(connected: &[&str]) -> Seen {
        Seen {
            beats: true,
            connected: names(connected),
            bridges: names(&["cloud", "new"]),
            ..Seen::default()
        }
    }

    const EARLY: Duration = Duration::from_secs(10);
    const LATE: Duration = Duration::from_secs(600);

    #[test]
    fn a_new_system_must_reach_what_was_reached_before() {
        let new = judge(false);
        assert_eq!(new.judge(&seen(&["cloud"]), EARLY), Verdict::Good);
        let missing = vec!["bridge cloud was connected before, and is not".to_owned()];
        assert_eq!(new.judge(&seen(&["new"]), EARLY), Verdict::Wait(missing.clone()));
        assert_eq!(new.judge(&seen(&[]), LATE), Verdict::Bad(missing));
    }

    #[test]
    fn one_that_was_good_needs_no_network_but_must_serve() {
        let old = judge(true);
        assert_eq!(old.judge(&seen(&[]), EARLY), Verdict::Good);
        let deaf = Seen {
            listeners_down: vec!["tcp".into()],
            beats: false,
            ..seen(&[])
        };
        let Verdict::Bad(missing) = old.judge(&deaf, LATE) else {
            panic!("it does not serve");
        };
        assert_eq!(missing.len(), 2);
        assert!(matches!(old.judge(&deaf, EARLY), Verdict::Wait(_)));
    }
}
