//! What handshakes and sessions hold, told to the ledger of the gateway's memory.

use headgate_model::MemoryLimit;
use headgate_model::memory::Want;
use std::sync::Arc;

/// Bytes of the places that a peer has in tables and timers.
pub(crate) const PLACES: usize = 200;

/// Bytes that the peers of one socket hold together.
#[derive(Default)]
pub(crate) struct Ledger {
    memory: Arc<MemoryLimit>,
    bytes: usize,
}

impl Ledger {
    /// Tells this limit from now on.
    pub(crate) fn count_in(&mut self, memory: Arc<MemoryLimit>) {
        self.memory.change_buffers(self.bytes, 0);
        memory.change_buffers(0, self.bytes);
        self.memory = memory;
    }

    /// Somebody holds `now` bytes, and held `before`.
    pub(crate) fn change(&mut self, before: usize, now: usize) {
        self.memory.change_buffers(before, now);
        self.bytes = self.bytes - before + now;
    }

    /// Whether there is memory for so many bytes more.
    pub(crate) fn has_room(&self, want: Want, more: usize) -> bool {
        self.memory.allows(want, self.memory.used() + more)
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.memory.change_buffers(self.bytes, 0);
    }
}
