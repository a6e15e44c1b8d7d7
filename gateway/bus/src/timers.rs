//! When sessions want something done.

use crate::sessions::SessionRef;
use headgate_model::Instant;
use std::collections::BTreeSet;

/// What is to be done. What is due at the same time is done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Its will is sent.
    Will(SessionRef),
    /// It ends.
    SessionEnd(SessionRef),
    /// The connection that has it had long enough to hand it over.
    TakeOver(SessionRef),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(crate) fn insert(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn remove(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<Timer> {
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
