//! Commits: what is to be durable becomes one frame of the journal, less what the same commit takes back, and changes the state accordingly.

use super::{DiskStore, replay::State};
use crate::checkpoint::Flushing;
use crate::journal::{JournalError, Position};
use crate::lanes::{Entry, Extra};
use crate::open::failed;
use crate::records::{self, Record};
use crate::rows;
use headgate_model::store::{MessageId, QueueEntry};
use headgate_model::{SessionId, StoreError, StoreOp};
use std::collections::{HashMap, HashSet};
use std::time::Instant;

impl DiskStore {
    /// Writes what `fill` writes as one frame, makes it durable, and changes the state accordingly.
    pub(crate) fn append(&mut self, fill: impl Fn(&mut Frame<'_>)) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let begun = self.journal.begin().map(|_| ());
            let written = begun.and_then(|()| {
                let (buffer, at) = self.journal.frame();
                fill(&mut Frame {
                    segment: at.segment,
                    offset: at.offset,
                    buffer,
                });
                self.journal.commit().map_err(|error| match error {
                    JournalError::Write(error) => failed("write to the journal", error),
                    JournalError::Sync(error) => {
                        self.broken = Some(format!("a sync failed earlier: {error}"));
                        failed("sync the journal", error)
                    }
                })
            });
            match written {
                Ok(()) => break,
                // With the ballast gone there may be room for what deletes.
                Err(_) if self.ballast && tries == 0 && self.broken.is_none() => self.drop_ballast(),
                Err(error) => return Err(error),
            }
            tries += 1;
        }
        let (buffer, _) = self.journal.frame();
        let frame = std::mem::take(buffer);
        self.since += frame.len() as u64;
        let mut state = State {
            queues: std::mem::take(&mut self.queues),
            rows: std::mem::take(&mut self.rows),
            dropped: std::mem::take(&mut self.dropped),
            writing: self.flushing.as_ref().map(Flushing::rows),
            even: self.even,
        };
        let applied = records::read_all(&frame[crate::journal::FRAME..], |record| {
            state.apply(record, &mut self.tables);
        });
        (self.queues, self.rows, self.dropped) = (state.queues, state.rows, state.dropped);
        self.journal.give_back(frame);
        self.report_unreadable();
        applied.map_err(|e| failed("understand what was written", e))
    }

    pub(super) fn write(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let resolved = self.resolve(ops);
        let ops = resolved.as_deref().unwrap_or(ops);
        let plan = Plan::of(ops);
        if plan.is_empty(ops) {
            return Ok(());
        }
        self.append(|frame| plan.write(ops, frame))?;
        self.wait_when_behind();
        for op in ops {
            if let StoreOp::PutMessage(id, stored) = op
                && plan.writes(*id)
            {
                self.stats.messages += 1;
                self.stats.payload_bytes += stored.message.payload.len() as u64;
            }
        }
        self.stats.commits += 1;
        self.last_commit = Instant::now();
        Ok(())
    }

    /// The operations with every [`StoreOp::DropOldest`] replaced by what it deletes: the journal must name it, for when it is replayed
    /// another entry may be the oldest. `None` when there are none.
    pub(crate) fn resolve(&mut self, ops: &[StoreOp]) -> Option<Vec<StoreOp>> {
        if !ops.iter().any(|op| matches!(op, StoreOp::DropOldest(..))) {
            return None;
        }
        let mut gone: HashSet<(SessionId, u64)> = HashSet::new();
        let mut put: HashMap<(SessionId, u8), Vec<u64>> = HashMap::new();
        // Where the last search with the same words ended.
        let mut ended: HashMap<(SessionId, u8, u64), u64> = HashMap::new();
        let mut resolved = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                StoreOp::DropOldest(session, lane, first) => {
                    let from = ended.get(&(*session, *lane, *first)).copied().unwrap_or(*first);
                    let new = put.get(&(*session, *lane)).map_or(&[][..], Vec::as_slice);
                    if let Some(seq) = self.oldest(*session, *lane, from, new, &gone) {
                        ended.insert((*session, *lane, *first), seq + 1);
                        gone.insert((*session, seq));
                        resolved.push(StoreOp::DeleteQueued(*session, seq));
                    }
                    continue;
                }
                StoreOp::PutQueued(session, seq, entry) => {
                    put.entry((*session, entry.lane)).or_default().push(*seq);
                }
                StoreOp::DeleteQueued(session, seq) | StoreOp::MarkReceived(session, seq) => {
                    gone.insert((*session, *seq));
                }
                _ => {}
            }
            resolved.push(op.clone());
        }
        Some(resolved)
    }

    /// The first waiting entry of a lane from a number on, or of those that this commit puts `new`, that is not `gone`.
    pub(super) fn oldest(
        &mut self,
        session: SessionId,
        lane: u8,
        mut from: u64,
        new: &[u64],
        gone: &HashSet<(SessionId, u64)>,
    ) -> Option<u64> {
        let first = from;
        loop {
            let tables = &mut self.tables;
            let (found, _) = self.queues.waiting(session.0, lane, from, 1, usize::MAX, tables);
            match found.first() {
                Some(entry) if gone.contains(&(session, entry.seq)) => from = entry.seq + 1,
                Some(entry) => return Some(entry.seq),
                None => break,
            }
        }
        let mut new = new.iter().copied();
        new.find(|seq| *seq >= first && !gone.contains(&(session, *seq)))
    }
}

/// A frame that is being made.
pub(crate) struct Frame<'a> {
    segment: u32,
    offset: u32,
    pub buffer: &'a mut Vec<u8>,
}

impl Frame<'_> {
    /// Writes a body; where it will be.
    pub(crate) fn body(&mut self, body: &[u8]) -> Position {
        let range = records::write_body(self.buffer, body);
        // A frame that does not fit is refused as a whole.
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position {
            segment: self.segment,
            offset: self.offset.saturating_add(number(range.start)),
            len: number(range.len()),
        }
    }

    pub(crate) fn record(&mut self, record: &Record) {
        records::write(self.buffer, record);
    }
}

/// What of a commit need not be written: what it puts and deletes again, and bodies that nothing needs then.
#[derive(Debug, Default)]
pub(super) struct Plan {
    cancels: bool,
    entries: HashSet<(SessionId, u64)>,
    kept: HashSet<MessageId>,
    needed: HashSet<MessageId>,
}

impl Plan {
    pub(super) fn of(ops: &[StoreOp]) -> Self {
        let deletes = |op: &StoreOp| {
            matches!(
                op,
                StoreOp::DeleteQueued(..) | StoreOp::DeleteRetained(_) | StoreOp::DeleteDelayed(_)
            )
        };
        let mut plan = Self {
            cancels: ops.iter().any(deletes),
            ..Self::default()
        };
        if !plan.cancels {
            return plan;
        }
        let mut put = HashSet::new();
        let mut kept = HashSet::new();
        for op in ops {
            match op {
                StoreOp::PutQueued(session, seq, _) => {
                    put.insert((*session, *seq));
                    plan.entries.remove(&(*session, *seq));
                }
                StoreOp::DeleteQueued(session, seq) if put.contains(&(*session, *seq)) => {
                    plan.entries.insert((*session, *seq));
                }
                StoreOp::PutRetained(id) | StoreOp::PutDelayed(id, _) => {
                    kept.insert(*id);
                    plan.kept.remove(id);
                }
                StoreOp::DeleteRetained(id) | StoreOp::DeleteDelayed(id) if kept.contains(id) => {
                    plan.kept.insert(*id);
                }
                _ => {}
            }
        }
        for op in ops {
            let needed = match op {
                StoreOp::PutQueued(session, seq, entry) if !plan.entries.contains(&(*session, *seq)) => {
                    entry.message
                }
                StoreOp::PutRetained(id) | StoreOp::PutDelayed(id, _) if !plan.kept.contains(id) => *id,
                _ => continue,
            };
            plan.needed.insert(needed);
        }
        plan
    }

    fn writes(&self, body: MessageId) -> bool {
        !self.cancels || self.needed.contains(&body)
    }

    fn skips(&self, op: &StoreOp) -> bool {
        self.cancels
            && match op {
                StoreOp::PutMessage(id, _) => !self.needed.contains(id),
                StoreOp::PutQueued(session, seq, _)
                | StoreOp::DeleteQueued(session, seq)
                | StoreOp::MarkReceived(session, seq) => self.entries.contains(&(*session, *seq)),
                StoreOp::PutRetained(id) | StoreOp::PutDelayed(id, _) => self.kept.contains(id),
                _ => false,
            }
    }

    fn is_empty(&self, ops: &[StoreOp]) -> bool {
        ops.iter().all(|op| self.skips(op))
    }

    pub(super) fn write(&self, ops: &[StoreOp], frame: &mut Frame<'_>) {
        let mut bodies: HashMap<MessageId, Position> = HashMap::new();
        let mut last = None;
        for op in ops.iter().filter(|op| !self.skips(op)) {
            let at = |id: &MessageId| match last {
                Some((last, at)) if last == *id => at,
                _ => bodies[id],
            };
            let record = match op {
                StoreOp::PutMessage(id, message) => {
                    let at = frame.body(&rows::write_message(message));
                    bodies.insert(*id, at);
                    last = Some((*id, at));
                    continue;
                }
                StoreOp::PutSession(id, record) => {
                    Record::Row(rows::key(rows::SESSION, id.0), rows::write_session(record))
                }
                StoreOp::DeleteSession(id) => Record::NoSession(id.0),
                StoreOp::PutNote(id, note) if note.is_empty() => Record::NoRow(rows::key(rows::NOTE, id.0)),
                StoreOp::PutNote(id, note) => Record::Row(rows::key(rows::NOTE, id.0), note.to_vec()),
                StoreOp::PutSubscription(id, subscription) => Record::Row(
                    rows::subscription_key(*id, &subscription.stored_name()),
                    rows::write_subscription(subscription),
                ),
                StoreOp::DeleteSubscription(id, text) => Record::NoRow(rows::subscription_key(*id, text)),
                StoreOp::PutQueued(id, seq, entry) => {
                    Record::Queued(id.0, entry.lane, new_entry(*seq, at(&entry.message), entry))
                }
                StoreOp::MarkReceived(id, seq) => Record::Received(id.0, *seq),
                StoreOp::DeleteQueued(id, seq) => Record::Unqueued(id.0, *seq),
                StoreOp::DropOldest(..) => unreachable!("it was resolved"),
                StoreOp::PutReceived(id, packet) => Record::Row(rows::received_key(*id, *packet), Vec::new()),
                StoreOp::DeleteReceived(id, packet) => Record::NoRow(rows::received_key(*id, *packet)),
                StoreOp::PutRetained(id) => {
                    Record::RowAt(rows::key(rows::RETAINED, id.0), Vec::new(), at(id))
                }
                StoreOp::DeleteRetained(id) => Record::NoRow(rows::key(rows::RETAINED, id.0)),
                StoreOp::PutDelayed(id, due) => {
                    Record::RowAt(rows::key(rows::DELAYED, id.0), rows::write_number(due.0), at(id))
                }
                StoreOp::DeleteDelayed(id) => Record::NoRow(rows::key(rows::DELAYED, id.0)),
                StoreOp::ReserveSessions(id) => {
                    Record::Row(rows::key(rows::NUMBERS, 0), rows::write_number(id.0))
                }
            };
            frame.record(&record);
        }
    }
}

pub(super) fn new_entry(seq: u64, at: Position, entry: &QueueEntry) -> Entry {
    let ids = entry.subscription_ids.as_deref();
    let extra = (ids.is_some() || entry.shared.is_some()).then(|| {
        Box::new(Extra {
            shared: entry.shared.clone(),
            identifiers: ids.map(|ids| ids.to_vec()).unwrap_or_default(),
        })
    });
    Entry {
        seq,
        at,
        size: entry.size,
        qos: entry.qos as u8,
        retain: entry.retain,
        received: false,
        extra,
    }
}
