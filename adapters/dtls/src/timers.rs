//! What is due when.

use headgate_model::Instant;
use std::collections::BTreeSet;

/// Numbers in the order in which they are due.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, u64)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, number: u64) {
        self.0.insert((at, number));
    }

    pub(crate) fn unset(&mut self, at: Instant, number: u64) {
        self.0.remove(&(at, number));
    }

    /// The number that is due first, and when.
    pub(crate) fn first(&self) -> Option<(Instant, u64)> {
        self.0.first().copied()
    }

    /// Takes the first that is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let (at, _) = self.0.first()?;
        if *at > now {
            return None;
        }
        self.0.pop_first().map(|(_, number)| number)
    }
}
