//! When checkpoints are due, and what lets segments of the journal go.

use super::DiskStore;
use crate::checkpoint::{self, Flushing};
use crate::open::failed;
use crate::tables::Checkpoint;
use headgate_model::{Store, StoreError};
use std::time::Duration;

/// After so long without a commit what is left is checkpointed, so that space comes back.
const IDLE: Duration = Duration::from_secs(10);
/// Queue entries in memory that make a checkpoint due.
const MANY: usize = 100_000;
/// Bytes of memory for queue entries that make a checkpoint due are [`DiskSettings::checkpoint_bytes`], within these bounds; for rows, which take sled
/// longer, a quarter of it.
const LEAST_MEMORY: u64 = 1 << 20;
const MOST_MEMORY: u64 = 16 << 20;
/// How many times that may wait while a checkpoint is being written.
const WAITS: usize = 4;
/// Segments removed at once.
const REMOVED_AT_ONCE: usize = 1;

impl DiskStore {
    /// A checkpoint in the background: begun when it is due, taken over when it is done.
    pub(super) fn checkpoint_step(&mut self) -> Result<(), StoreError> {
        if self.flushing.as_ref().is_some_and(Flushing::is_done) {
            let flushing = self.flushing.take().expect("just looked at");
            self.end_checkpoint(flushing)?;
        }
        // What was not told yet must be found again.
        let leave_behind = self.leave_behind && self.damage.is_empty();
        let many = self.since >= self.settings.checkpoint_bytes
            || self.has_much_in_memory(1)
            || self.queues.entries_in_memory >= MANY;
        let no_room = !self.has_room();
        if no_room && self.flushing.is_none() {
            self.leave_segment();
        }
        let filled = self.has_filled();
        let wanted = no_room || self.last_commit.elapsed() >= IDLE;
        if self.tables_failed && self.ballast {
            self.reopen_tables()?;
        }
        // With nothing that differs, a checkpoint still lets segments go.
        let due = leave_behind || many && (filled || self.differs()) || wanted && filled;
        if self.flushing.is_none() && due && !self.tables_failed {
            self.begin_checkpoint()?;
        }
        Ok(())
    }

    /// What is not in the tables since the last checkpoint takes so many times the memory that makes a checkpoint due.
    pub(super) fn has_much_in_memory(&self, times: usize) -> bool {
        let most = self.settings.checkpoint_bytes.clamp(LEAST_MEMORY, MOST_MEMORY) as usize;
        let rows = self.rows.bytes() + self.dropped.len() * size_of::<u64>();
        let pages = self.queues.dirty_bytes().saturating_sub(self.open_pages);
        rows >= times * most / 4 || pages >= times * most
    }

    /// Rows may come faster than the tables take them. When much more is waiting than makes a checkpoint due, the commit does not end before
    /// the one that is being written is there.
    pub(super) fn wait_when_behind(&mut self) {
        if !self.has_much_in_memory(WAITS) {
            return;
        }
        if let Some(flushing) = self.flushing.take()
            && let Err(error) = self.end_checkpoint(flushing)
        {
            tracing::warn!(%error, "a checkpoint failed; it is tried again");
        }
    }

    /// A segment was filled since the last checkpoint.
    pub(super) fn has_filled(&self) -> bool {
        let behind = self.journal.segments().range(self.checkpoint.at.segment..);
        behind.count() > 1
    }

    /// Begins a new segment when the one that is written to holds much that is of no use: only what is not written to any more can go.
    /// What must be written before the next time keeps this from coming too often.
    pub(super) fn leave_segment(&mut self) {
        let end = self.journal.end();
        let used = self
            .queues
            .references
            .get(&end.segment)
            .map_or(0, |references| references.bytes);
        if u64::from(end.offset).saturating_sub(used) < (self.settings.segment_bytes / 8).max(used) {
            return;
        }
        if let Err(error) = self.journal.roll() {
            tracing::debug!(%error, "no room for a new segment either");
        }
    }

    /// There is something that the tables do not have.
    pub(super) fn differs(&self) -> bool {
        !(self.rows.is_empty() && self.dropped.is_empty() && self.queues.dirty.is_empty())
    }

    pub(super) fn reopen_tables(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.tables.reopen(self.checkpoint) {
            self.broken = Some(format!("the tables could not be opened again: {error}"));
            return Err(error);
        }
        self.tables_failed = false;
        Ok(())
    }

    pub(super) fn begin_checkpoint(&mut self) -> Result<(), StoreError> {
        let next = Checkpoint {
            number: self.checkpoint.number + 1,
            at: self.journal.end(),
        };
        self.since = 0;
        self.leave_behind = false;
        self.flushing = Some(checkpoint::begin(self, next)?);
        Ok(())
    }

    pub(super) fn end_checkpoint(&mut self, flushing: Flushing) -> Result<(), StoreError> {
        let next = flushing.checkpoint;
        let written = checkpoint::end(self, flushing).inspect_err(|_| {
            // Tried again when there is room.
            self.since = self.settings.checkpoint_bytes;
            self.leave_behind = true;
            self.tables_failed = true;
            (self.even, self.queues.note_gone) = (false, true);
            self.drop_ballast();
        })?;
        self.checkpoint = next;
        (self.even, self.queues.note_gone) = (true, false);
        self.open_pages = self.queues.dirty_bytes();
        self.stats.checkpoints += 1;
        self.stats.checkpoint_bytes += written;
        self.table_bytes = self.tables.bytes();
        Ok(())
    }

    /// Removes segments that nothing needs. Whether there are more.
    pub(super) fn free_segments(&mut self) -> Result<bool, StoreError> {
        let passed = self.journal.segments().range(..self.checkpoint.at.segment);
        let free = passed.map(|(number, _)| *number);
        let mut free = free.filter(|number| !self.queues.references.contains_key(number));
        let some: Vec<u32> = free.by_ref().take(REMOVED_AT_ONCE).collect();
        let more = free.next().is_some();
        for number in some {
            self.journal
                .remove(number)
                .map_err(|e| failed("remove a segment of the journal", e))?;
        }
        Ok(more)
    }

    /// Brings the tables up to date, and waits for it.
    pub(crate) fn checkpoint_now(&mut self) -> Result<(), StoreError> {
        if let Some(flushing) = self.flushing.take() {
            self.end_checkpoint(flushing)?;
        }
        if self.tables_failed {
            self.reopen_tables()?;
        }
        if !self.differs() && !self.leave_behind && !self.has_filled() {
            return Ok(());
        }
        self.begin_checkpoint()?;
        match self.flushing.take() {
            Some(flushing) => self.end_checkpoint(flushing),
            None => Ok(()),
        }
    }
}
