//! The bus's part of the ledger of memory: what it counts, and who asks before something grows. The rest is [`headgate_model::memory`].

use crate::bus::Bus;
use crate::queue::Queued;
use crate::stats::MemoryStats;
use crate::trie;
use bytes::Bytes;
use headgate_model::memory::Want;
use headgate_model::{ClientId, MemoryLimit, Share, Subscription, memory};
use std::sync::Arc;

/// What a session takes, with its places in tables and what waits for the store of it, in bytes. Measured: docs/performance.md.
const SESSION: usize = 1_000;
/// What a subscription takes beside its filter, which is there twice.
const SUBSCRIPTION: usize = 300;
/// What a shared subscription takes beside its names.
const GROUP: usize = 300;

/// What a note takes beside its bytes.
const NOTE: usize = 100;

/// The limit, and whether it is near.
#[derive(Debug)]
pub(crate) struct Memory {
    pub limit: Arc<MemoryLimit>,
    /// Clients that are too slow have to give way: as of the last look, which every command has once.
    pub tight: bool,
}

impl Memory {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            limit: Arc::new(MemoryLimit::new(max)),
            tight: false,
        }
    }
}

/// Bytes of a session with this client id.
pub(crate) fn of_session(client: &ClientId) -> usize {
    SESSION + 3 * client.as_str().len()
}

/// Bytes of a note, if there is one.
pub(crate) fn of_note(note: Option<&Bytes>) -> usize {
    note.map_or(0, |note| NOTE + note.len())
}

/// Bytes of a subscription, without what the trie takes for it.
pub(crate) fn of_subscription(subscription: &Subscription) -> usize {
    let filter = subscription.filter.as_bytes().len();
    let group = match &subscription.share {
        Some(Share::Group(name)) => GROUP + 3 * name.len() + 2 * filter,
        Some(Share::Queue) => GROUP + 2 * filter,
        None => 0,
    };
    SUBSCRIPTION + 2 * filter + group
}

/// What the trie grows by at most for one more filter: a node for it, and one where its way leaves another.
pub(crate) fn of_trie(subscription: &Subscription) -> usize {
    match subscription.filter.has_wildcard() {
        true => 2 * trie::NODE + 2 * subscription.filter.as_bytes().len(),
        false => 0,
    }
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
    #[cfg(feature = "handle")]
    pub(crate) fn tell_memory(&self) {
        if self.memory.limit.max() < usize::MAX {
            self.memory.limit.set_bus(self.memory_used());
        }
    }

    /// Client ids are in the endpoint, in the session and in what waits for the store. Notes are always taken: they are counted here, so that new sessions
    /// are refused sooner.
    fn sessions_bytes(&self) -> usize {
        self.sessions.len() * SESSION + 3 * self.sessions.names() + self.gauges.note_bytes
    }

    /// Without the buffers of connections.
    fn memory_used(&self) -> usize {
        memory::messages()
            + self.sessions_bytes()
            + self.gauges.subscription_bytes
            + self.index.trie_bytes()
            + self.gauges.in_memory().entries * size_of::<Queued>()
    }

    /// The ledger, by class.
    pub(crate) fn memory_stats(&self) -> MemoryStats {
        MemoryStats {
            max: self.memory.limit.max(),
            messages: memory::messages(),
            retained: self.retention.messages.bytes(),
            delayed: self.delayed.bytes(),
            sessions: self.sessions_bytes(),
            subscriptions: self.gauges.subscription_bytes + self.index.trie_bytes(),
            entries: self.gauges.in_memory().entries * size_of::<Queued>(),
            buffers: self.memory.limit.buffers(),
        }
    }
}
