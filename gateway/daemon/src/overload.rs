//! Whether there is more to do than the machine can: then nobody new comes in, so that those who are there are served.
//!
//! The measure is how late a task of the runtime runs: everything that a connection does waits as long.

use crate::alarms::{Alarms, Severity, Trouble};
use crate::config::Config;
use headgate_shell::ConnectionLimit;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks in a row must find it so, and so many that it is better.
const BEGINS: u32 = 3;
const ENDS: u32 = 8;

/// Watches, and keeps connections out.
pub(crate) struct Overload {
    /// Over all listeners for connections.
    pub total: ConnectionLimit,
    /// Who is told.
    pub alarms: Alarms,
    /// As of now.
    pub config: watch::Receiver<Arc<Config>>,
}

/// What was found of late.
#[derive(Debug, Default)]
struct Judge {
    overloaded: bool,
    /// Looks in a row that say otherwise.
    others: u32,
}

impl Judge {
    /// Takes one look. What is so from now on, if it is not as before. It is better when tasks are less than half as late as they may be.
    fn look(&mut self, late: Duration, max: Duration) -> Option<bool> {
        let says_otherwise = match self.overloaded {
            _ if max.is_zero() => self.overloaded,
            false => late > max,
            true => late <= max / 2,
        };
        self.others = if says_otherwise { self.others + 1 } else { 0 };
        let enough = if self.overloaded { ENDS } else { BEGINS };
        if self.others < enough && !(max.is_zero() && self.overloaded) {
            return None;
        }
        (self.overloaded, self.others) = (!self.overloaded, 0);
        Some(self.overloaded)
    }
}

impl Overload {
    /// For ever.
    pub(crate) async fn run(self) {
        let mut judge = Judge::default();
        loop {
            let due = Instant::now() + LOOK;
            sleep_until(due).await;
            let late = due.elapsed();
            let max = self.config.borrow().limits.max_delay;
            let Some(overloaded) = judge.look(late, max) else {
                continue;
            };
            self.total.set_overloaded(overloaded);
            let trouble = overloaded.then(|| {
                let what = "there is more to do than the machine can: new connections are refused";
                Trouble::new(Severity::Error, what).with("late_ms", late.as_millis() as u64)
            });
            self.alarms.set("overload", trouble);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(500);

    fn looks(judge: &mut Judge, late_ms: &[u64]) -> Vec<bool> {
        let looks = late_ms.iter();
        looks
            .filter_map(|ms| judge.look(Duration::from_millis(*ms), MAX))
            .collect()
    }

    /// A hiccup is no overload, and one good moment is not its end.
    #[test]
    fn only_what_stays_counts() {
        let mut judge = Judge::default();
        assert_eq!(looks(&mut judge, &[900, 900, 0, 900, 900, 10]), [false; 0]);
        assert_eq!(looks(&mut judge, &[501, 501, 501]), [true]);
        assert_eq!(
            looks(&mut judge, &[0, 0, 0, 0, 0, 0, 0, 300, 0, 0, 0, 0]),
            [false; 0]
        );
        assert_eq!(looks(&mut judge, &[250; 4]), [false]);
    }

    /// Between the two bounds it stays as it is.
    #[test]
    fn it_does_not_come_and_go() {
        let mut judge = Judge::default();
        assert_eq!(looks(&mut judge, &[400; 50]), [false; 0]);
        assert_eq!(looks(&mut judge, &[600; 3]), [true]);
        assert_eq!(looks(&mut judge, &[400; 50]), [false; 0]);
    }

    #[test]
    fn it_can_be_switched_off() {
        let mut judge = Judge::default();
        assert_eq!(looks(&mut judge, &[600; 3]), [true]);
        assert_eq!(judge.look(Duration::from_secs(9), Duration::ZERO), Some(false));
        assert_eq!(judge.look(Duration::from_secs(9), Duration::ZERO), None);
    }
}
