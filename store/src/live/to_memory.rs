//! The way to memory: rows at once, as a start reads them, then queues part by part, and every commit.

use super::to_disk::Step;
use crate::disk::DiskStore;
use crate::journal::Position;
use crate::open::failed;
use crate::sim::{Disk, Entry, SessionTable, Tables};
use headgate_model::store::{LaneImage, SessionImage, StoredDelivery, StoredMessage};
use headgate_model::{SessionId, Store, StoreError, StoreImage, StoreOp};
use std::collections::{HashMap, VecDeque};

/// Entries that one step reads.
const STEP: usize = 1_000;
/// About what a queue entry takes in memory, beside its message.
const ENTRY: u64 = 300;

/// See the module.
#[derive(Debug)]
pub(crate) struct ToMemory {
    tables: Tables,
    /// Lanes that are to be read, from a number on.
    lanes: VecDeque<(SessionId, u8, u64)>,
    /// So that a body which many wait for is there once.
    bodies: HashMap<Position, StoredMessage>,
    /// Bytes that one step reads.
    step: usize,
}

impl ToMemory {
    /// Reads the rows, if there is memory for the queues.
    pub(crate) fn begin(from: &mut DiskStore, most: u64, step: usize) -> Result<Self, StoreError> {
        let image = from.load()?;
        let needed = from.bytes_in_memory(&image, ENTRY);
        if needed > most {
            let cause = format!("what waits would take about {needed} bytes, at most {most} may be taken");
            return Err(failed("read the store into memory", cause));
        }
        let lanes = image.sessions.iter().flat_map(|session| {
            let lane = |lane: &LaneImage| (session.id, lane.lane, 0);
            session.lanes.iter().map(lane)
        });
        Ok(Self {
            lanes: lanes.collect(),
            tables: tables(image),
            bodies: HashMap::new(),
            step,
        })
    }

    /// Makes a commit in both.
    pub(crate) fn commit(&mut self, from: &mut DiskStore, ops: &[StoreOp]) -> Result<(), StoreError> {
        let named = from.resolve(ops);
        let ops = named.as_deref().unwrap_or(ops);
        for op in ops {
            if let StoreOp::MarkReceived(session, seq) = op {
                self.read_before_it_is_received(from, *session, *seq);
            }
        }
        from.commit(ops)?;
        self.tables.apply_all(ops);
        Ok(())
    }

    /// What is received is not found as what waits.
    fn read_before_it_is_received(&mut self, from: &mut DiskStore, session: SessionId, seq: u64) {
        let is_there = |table: &SessionTable| table.queue.contains_key(&seq);
        if self.tables.sessions.get(&session).is_none_or(is_there) {
            return;
        }
        match from.copy_of(session, seq, &mut self.bodies) {
            Ok(Some(delivery)) => self.put(session, delivery, false),
            Ok(None) => {}
            Err(error) => tracing::error!(number = seq, %error, "a queued message is lost"),
        }
    }

    /// One step on the way.
    pub(crate) fn step(&mut self, from: &mut DiskStore) -> Result<Step, StoreError> {
        let Some((session, lane, first)) = self.lanes.pop_front() else {
            return Ok(Step::Done);
        };
        let limit = (STEP, self.step);
        let (found, more) = from.read_copies((session, lane, first), limit, &mut self.bodies)?;
        if let Some(last) = found.last().filter(|_| more) {
            self.lanes.push_front((session, lane, last.seq + 1));
        }
        for delivery in found {
            self.put(session, delivery, false);
        }
        Ok(Step::More)
    }

    /// All of it.
    pub(crate) fn done(self) -> Disk {
        Disk::of(self.tables)
    }

    /// Puts an entry, unless a commit has brought it.
    fn put(&mut self, session: SessionId, delivery: StoredDelivery, received: bool) {
        if let Some(table) = self.tables.sessions.get_mut(&session) {
            put(table, delivery, received);
        }
    }
}

fn put(table: &mut SessionTable, delivery: StoredDelivery, received: bool) {
    let StoredDelivery { seq, entry, message } = delivery;
    let entry = Entry {
        entry,
        message,
        received,
    };
    table.queue.entry(seq).or_insert(entry);
}

fn tables(image: StoreImage) -> Tables {
    let delayed = image.delayed.into_iter();
    let mut tables = Tables {
        retained: image.retained.into_iter().collect(),
        delayed: delayed.map(|(id, stored, due)| (id, (stored, due))).collect(),
        next_session: image.next_session,
        ..Tables::default()
    };
    for session in image.sessions {
        tables.sessions.insert(session.id, table(session));
    }
    tables
}

fn table(session: SessionImage) -> SessionTable {
    let mut table = SessionTable::new(session.record);
    table.note = session.note;
    table.next_seq = session.next_seq;
    table.received = session.received.into_iter().collect();
    let subscriptions = session.subscriptions.into_iter();
    table.subscriptions = subscriptions.map(|one| (one.stored_name(), one)).collect();
    for held in session.held {
        put(&mut table, held, true);
    }
    table
}
