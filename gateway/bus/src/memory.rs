//! The bus's part of the ledger of memory: what it counts, and who asks before something grows. The rest is [`headgate_model::memory`].
//!
//! Always true: `held` is the sum of all sessions' [`Session::held`](crate::session::Session::held), and `subscriptions` that of [`of_subscription`].

use crate::bus::Bus;
use crate::session::{Held, Queued};
use crate::stats::MemoryStats;
use headgate_model::memory::Want;
use headgate_model::{MemoryLimit, Subscription, memory};
use std::sync::Arc;

/// What a session takes, with its places in tables and what waits for the store of it, in bytes. Measured: docs/performance.md.
pub(crate) const SESSION: usize = 1_000;
/// What a subscription takes beside its filter, which is there twice.
const SUBSCRIPTION: usize = 300;

/// What the bus counts itself.
#[derive(Debug)]
pub(crate) struct Memory {
    pub limit: Arc<MemoryLimit>,
    pub held: Held,
    /// Bytes.
    pub subscriptions: usize,
    /// Clients that are too slow have to give way: as of the last look, which every command has once.
    pub tight: bool,
}

impl Memory {
    pub fn new(max: usize) -> Self {
        Self {
            limit: Arc::new(MemoryLimit::new(max)),
            held: Held::default(),
            subscriptions: 0,
            tight: false,
        }
    }

    /// What the always-true line above speaks of.
    pub fn sums(&self) -> (Held, usize) {
        (self.held, self.subscriptions)
    }

    /// A session held `before`, and holds `after`.
    pub fn change(&mut self, before: Held, after: Held) {
        self.held.entries = self.held.entries + after.entries - before.entries;
        self.held.bytes = self.held.bytes + after.bytes - before.bytes;
    }
}

/// Bytes of a subscription.
pub(crate) fn of_subscription(subscription: &Subscription) -> usize {
    SUBSCRIPTION + 2 * subscription.filter.as_bytes().len()
}

impl Bus {
    /// The limit, for those who hold memory beside the bus.
    pub fn memory_limit(&self) -> &Arc<MemoryLimit> {
        &self.memory.limit
    }

    /// Whether so many bytes more fit.
    pub(crate) fn has_memory(&self, want: Want, bytes: usize) -> bool {
        let limit = &self.memory.limit;
        limit.max() == usize::MAX || limit.allows(want, self.memory_used() + limit.buffers() + bytes)
    }

    /// See [`Memory::tight`].
    pub(crate) fn look_at_memory(&mut self) {
        self.memory.tight = !self.has_memory(Want::ToWait, 0);
    }

    /// Lets others know what is used.
    pub(crate) fn tell_memory(&self) {
        if self.memory.limit.max() < usize::MAX {
            self.memory.limit.set_bus(self.memory_used());
        }
    }

    /// Without the buffers of connections.
    fn memory_used(&self) -> usize {
        memory::messages()
            + self.by_client.len() * SESSION
            + self.memory.subscriptions
            + self.memory.held.entries * size_of::<Queued>()
    }

    /// The same, summed up over all sessions.
    pub(crate) fn memory_of_sessions(&self) -> (Held, usize) {
        let sessions = self.sessions.iter().flatten();
        sessions.fold((Held::default(), 0), |(held, subscriptions), session| {
            let more = session.held();
            let held = Held {
                entries: held.entries + more.entries,
                bytes: held.bytes + more.bytes,
            };
            let own = session.subscriptions.iter().map(of_subscription);
            (held, subscriptions + own.sum::<usize>())
        })
    }

    /// The ledger, by class.
    pub(crate) fn memory_stats(&self) -> MemoryStats {
        MemoryStats {
            max: self.memory.limit.max(),
            messages: memory::messages(),
            retained: self.retained.bytes(),
            delayed: self.delayed_bytes,
            sessions: self.by_client.len() * SESSION,
            subscriptions: self.memory.subscriptions,
            entries: self.memory.held.entries * size_of::<Queued>(),
            buffers: self.memory.limit.buffers(),
        }
    }
}
