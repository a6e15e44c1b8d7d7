//! What the bus has in the store, and what it wants to read there.

use crate::paging::FetchRequest;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct StoreUse {
    /// Sizes of all queue entries. What the oldest of a lane takes is a guess, so this may drift a little.
    queued_bytes: usize,
    /// The store takes no more: only what frees space is written.
    pub is_full: bool,
    /// What it is asked to read.
    fetches: Vec<FetchRequest>,
}

impl StoreUse {
    /// Sizes of all queue entries.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Queue entries of so many bytes are in it, or will be with the open batch.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.queued_bytes = self.queued_bytes.saturating_add(bytes);
    }

    /// Queue entries of so many bytes are gone.
    pub(crate) fn free(&mut self, bytes: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
    }

    pub(crate) fn ask(&mut self, request: FetchRequest) {
        self.fetches.push(request);
    }

    pub(crate) fn asks(&self) -> bool {
        !self.fetches.is_empty()
    }

    pub(crate) fn take_fetches(&mut self) -> Vec<FetchRequest> {
        std::mem::take(&mut self.fetches)
    }
}
