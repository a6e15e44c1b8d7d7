//! What all sessions hold together, kept as it changes: nobody has to look at each of them.
//!
//! Always true: the gauges of the bus are the sum of [`Session::gauges`](crate::session::Session::gauges) over all sessions.

use std::ops::{AddAssign, SubAssign};

/// So many deliveries, of so many bytes. Each counts, though several may share a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub entries: usize,
    pub bytes: usize,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gauges {
    /// Sessions that outlive their connection.
    pub durable: usize,
    pub subscriptions: usize,
    /// Those of sessions that outlive their connection.
    pub durable_subscriptions: usize,
    /// As the ledger of memory counts them.
    pub subscription_bytes: usize,
    /// Of notes, as the ledger of memory counts them.
    pub note_bytes: usize,
    /// What waits in memory.
    pub queue: Load,
    /// What waits in the store alone.
    pub lanes: Load,
    /// What is under way.
    pub inflight: Load,
    /// Bytes of QoS 0 that wait for clients that sleep.
    pub sleepers: usize,
}

impl Load {
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes;
    }

    #[inline]
    pub(crate) fn subtract(&mut self, bytes: usize) {
        self.entries -= 1;
        self.bytes -= bytes;
    }

    /// What was `before` is `after`.
    #[inline]
    pub(crate) fn change(&mut self, before: Self, after: Self) {
        *self += after;
        *self -= before;
    }
}

impl Gauges {
    /// What waits.
    pub(crate) fn queued(&self) -> Load {
        let mut queued = self.queue;
        queued += self.lanes;
        queued
    }

    /// Deliveries in memory.
    pub(crate) fn in_memory(&self) -> Load {
        let mut held = self.queue;
        held += self.inflight;
        held
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.entries -= other.entries;
        self.bytes -= other.bytes;
    }
}

impl AddAssign for Gauges {
    fn add_assign(&mut self, other: Self) {
        self.durable += other.durable;
        self.subscriptions += other.subscriptions;
        self.durable_subscriptions += other.durable_subscriptions;
        self.subscription_bytes += other.subscription_bytes;
        self.note_bytes += other.note_bytes;
        self.queue += other.queue;
        self.lanes += other.lanes;
        self.inflight += other.inflight;
        self.sleepers += other.sleepers;
    }
}

impl SubAssign for Gauges {
    fn sub_assign(&mut self, other: Self) {
        self.durable -= other.durable;
        self.subscriptions -= other.subscriptions;
        self.durable_subscriptions -= other.durable_subscriptions;
        self.subscription_bytes -= other.subscription_bytes;
        self.note_bytes -= other.note_bytes;
        self.queue -= other.queue;
        self.lanes -= other.lanes;
        self.inflight -= other.inflight;
        self.sleepers -= other.sleepers;
    }
}
