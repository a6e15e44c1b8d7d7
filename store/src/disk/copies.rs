//! Parts of one store are written to another one, and read for one.

use super::writing::{Plan, new_entry};
use super::{DiskStore, delivery};
use crate::journal::Position;
use crate::lanes::Entry;
use crate::open::failed;
use crate::records::Record;
use crate::rows;
use headgate_model::store::{QueueEntry, StoredDelivery, StoredMessage};
use headgate_model::{Message, SessionId, StoreError, StoreImage, StoreOp, WallTime};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// A queue entry for another store.
#[derive(Clone, Debug)]
pub(crate) struct Copied {
    pub session: SessionId,
    pub seq: u64,
    pub entry: QueueEntry,
    pub message: StoredMessage,
    pub received: bool,
}

/// A message in memory and its expiry: entries of both the same share a body on the disk.
type Name = (usize, Option<WallTime>);

/// Where in a journal bodies are that others may need, too. A message keeps its place in memory as long as it is in here.
#[derive(Debug, Default)]
pub(crate) struct Bodies(HashMap<Name, (Weak<Message>, Position)>);

impl Bodies {
    fn name(stored: &StoredMessage) -> Name {
        (Arc::as_ptr(&stored.message) as usize, stored.expires)
    }

    fn keep(&mut self, entries: &[Copied], at: &HashMap<Name, (Position, usize)>) {
        let shared = entries.iter().map(|copied| &copied.message);
        for stored in shared.filter(|stored| Arc::strong_count(&stored.message) > 1) {
            let name = Self::name(stored);
            if let Some((at, _)) = at.get(&name) {
                self.0.insert(name, (Arc::downgrade(&stored.message), *at));
            }
        }
    }
}

impl DiskStore {
    /// Writes rows and entries of another store as one commit. A body that is known is not written again: nothing may let segments of the journal go meanwhile,
    /// so there is [`copy_maintain`](Self::copy_maintain) in place of `maintain`.
    pub(crate) fn write_copies(
        &mut self,
        rows: &[StoreOp],
        entries: &[Copied],
        known: &mut Bodies,
    ) -> Result<(), StoreError> {
        if rows.is_empty() && entries.is_empty() {
            return Ok(());
        }
        let plan = Plan::of(rows);
        let new = RefCell::new(HashMap::new());
        self.append(|frame| {
            let mut new = new.borrow_mut();
            new.clear();
            plan.write(rows, frame);
            for copied in entries {
                let name = Bodies::name(&copied.message);
                let at = known.0.get(&name).map(|(_, at)| *at);
                let at = at.or_else(|| new.get(&name).map(|(at, _)| *at));
                let at = at.unwrap_or_else(|| {
                    let at = frame.body(&rows::write_message(&copied.message));
                    new.insert(name, (at, copied.message.message.payload.len()));
                    at
                });
                let entry = Entry {
                    received: copied.received,
                    ..new_entry(copied.seq, at, &copied.entry)
                };
                frame.record(&Record::Queued(copied.session.0, copied.entry.lane, entry));
            }
        })?;
        let new = new.into_inner();
        known.keep(entries, &new);
        self.wait_when_behind();
        let kept = rows.iter().filter_map(|op| match op {
            StoreOp::PutMessage(_, stored) => Some(stored.message.payload.len()),
            _ => None,
        });
        for payload in new.values().map(|(_, payload)| *payload).chain(kept) {
            self.stats.messages += 1;
            self.stats.payload_bytes += payload as u64;
        }
        self.stats.commits += 1;
        self.last_commit = Instant::now();
        Ok(())
    }

    /// What is due while another store is copied to this one.
    pub(crate) fn copy_maintain(&mut self) -> Result<(), StoreError> {
        self.checkpoint_step()
    }

    /// Begins to bring the tables up to date with all that is here.
    pub(crate) fn begin_to_settle(&mut self) -> Result<(), StoreError> {
        match self.flushing.is_none() && self.differs() {
            true => self.begin_checkpoint(),
            false => Ok(()),
        }
    }

    /// A checkpoint is being written.
    pub(crate) fn is_settling(&self) -> bool {
        self.flushing.is_some()
    }

    /// All that was there when it was opened could be read, and it takes what comes.
    pub(crate) fn is_well(&self) -> Result<(), StoreError> {
        let trouble = self.broken.as_ref().or(self.damage.first());
        trouble.map_or(Ok(()), |trouble| Err(failed("read the store", trouble)))
    }

    /// About the bytes that its queues would take in memory: so many for each entry, and the messages.
    pub(crate) fn bytes_in_memory(&self, image: &StoreImage, for_entry: u64) -> u64 {
        let waiting = image.sessions.iter().flat_map(|session| &session.lanes);
        let held = image.sessions.iter().flat_map(|session| &session.held);
        let bodies = waiting.map(|lane| lane.bytes).sum::<u64>()
            + held.map(|held| u64::from(held.entry.size)).sum::<u64>();
        // What many wait for is there once.
        self.queues.count * for_entry + bodies.min(self.journal.bytes())
    }

    /// Waiting entries of a lane from a number on with their bodies, as [`fetch`](headgate_model::Store::fetch) reads them; whether there are more. Those with one body
    /// share it by `shared`.
    pub(crate) fn read_copies(
        &mut self,
        (session, lane, from): (SessionId, u8, u64),
        (count, bytes): (usize, usize),
        shared: &mut HashMap<Position, StoredMessage>,
    ) -> Result<(Vec<StoredDelivery>, bool), StoreError> {
        let tables = &mut self.tables;
        let (entries, more) = self.queues.waiting(session.0, lane, from, count, bytes, tables);
        let mut found = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            found.push(self.read_copy(entry, &entries[at + 1..], lane, shared)?);
        }
        Ok((found, more))
    }

    /// One entry with its body; `None` when it is not there.
    pub(crate) fn copy_of(
        &mut self,
        session: SessionId,
        seq: u64,
        shared: &mut HashMap<Position, StoredMessage>,
    ) -> Result<Option<StoredDelivery>, StoreError> {
        let Some((entry, lane)) = self.queues.entry_in(session.0, seq, &mut self.tables) else {
            return Ok(None);
        };
        self.read_copy(&entry, &[], lane, shared).map(Some)
    }

    fn read_copy(
        &mut self,
        entry: &Entry,
        next: &[Entry],
        lane: u8,
        shared: &mut HashMap<Position, StoredMessage>,
    ) -> Result<StoredDelivery, StoreError> {
        if let Some(message) = shared.get(&entry.at) {
            return Ok(delivery(entry, lane, message.clone()));
        }
        let found = self.read_delivery(entry, next, lane);
        // It is gone and told when its session asks for it.
        let found = found.ok_or_else(|| failed("read the store", "a queued message cannot be read"))?;
        shared.insert(entry.at, found.message.clone());
        Ok(found)
    }
}
