//! What waits for the store: the batch that is being filled, and who waits for it.
//!
//! An acknowledgement is released when its message is safe for every durable session that it matched: the batch with its queue entries is
//! durable, or the receivers have settled them. So a queue entry that is settled while its batch is still open is taken out of it again, and
//! when nobody is left who needs the body, that is not written either. A batch is *due* at once when something in it can only become safe
//! on the disk; when all of it may still be settled, it may wait a little for that; when nobody waits for it at all, a little longer.

use headgate_model::store::{MessageId, QueueEntry, StoredMessage};
use headgate_model::{EndpointId, Instant, SessionId, StoreOp};
use std::collections::VecDeque;
use std::time::Duration;

/// Settled entries are deleted with the next batch, or after this time: nobody waits for it.
const LAZY: Duration = Duration::from_millis(100);
/// A batch of so many operations waits for nothing.
const FULL: usize = 4_096;

/// An acknowledgement that waits: the endpoint it is for, and which of its answers it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckRef {
    pub endpoint: EndpointId,
    pub serial: u64,
}

/// A body in the open batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyRef {
    pub id: MessageId,
    batch: u64,
    at: u64,
}

/// Where the entry of a queued delivery stands: its batch, and its place there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryRef {
    /// Zero for one that has long been durable.
    pub batch: u64,
    at: u64,
}

/// The open batch.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Its number.
    pub number: u64,
    /// In order; what was cancelled at the front is gone.
    writes: VecDeque<Write>,
    /// Place of the first write.
    first: u64,
    live: usize,
    /// Bytes of the bodies, wills and notes in it.
    bytes: usize,
    /// Somebody waits for the disk.
    urgent: bool,
    /// What is settled and was written by an earlier batch. Their order does not matter, but to [`Pending::drop_oldest`].
    deletes: Vec<StoreOp>,
    deletes_due: Instant,
}

#[derive(Debug)]
struct Write {
    /// `None` once it is cancelled.
    op: Option<StoreOp>,
    /// When it must be on its way if it is not settled.
    due: Instant,
    /// Of a body: how many operations refer to it.
    refs: u32,
    /// Of a body: who waits for those.
    ack: Option<AckRef>,
    /// Of an entry: the place of its body.
    body: u64,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            number: 1,
            writes: VecDeque::new(),
            first: 0,
            live: 0,
            bytes: 0,
            urgent: false,
            deletes: Vec::new(),
            deletes_due: Instant::START,
        }
    }
}

impl Pending {
    /// Operations in the open batch.
    pub(crate) fn len(&self) -> usize {
        self.live + self.deletes.len()
    }

    /// Bytes of the bodies, wills and notes in the open batch.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batch whose commit makes everything written so far durable.
    pub(crate) fn last(&self) -> u64 {
        if self.live == 0 {
            self.number - 1
        } else {
            self.number
        }
    }

    /// When it shall be committed; `None` when it is empty.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.urgent || self.len() >= FULL {
            return Some(Instant::START);
        }
        let settled_by = self.writes.front().map(|write| write.due);
        let deleted_by = (!self.deletes.is_empty()).then_some(self.deletes_due);
        settled_by.into_iter().chain(deleted_by).min()
    }

    /// What it waited for will not come.
    pub(crate) fn hurry(&mut self) {
        self.urgent = self.live > 0;
    }

    /// An operation that somebody waits for.
    pub(crate) fn push(&mut self, op: StoreOp) {
        self.urgent = true;
        self.add(op, Instant::START, 0);
    }

    /// The entry of an earlier batch is settled; nobody waits for that.
    pub(crate) fn delete(&mut self, session: SessionId, seq: u64, now: Instant) {
        if self.deletes.is_empty() {
            self.deletes_due = now + LAZY;
        }
        self.deletes.push(StoreOp::DeleteQueued(session, seq));
    }

    /// The first entry of a lane, from this number on, is dropped. What was settled before must be gone by then, or it would be taken for the first.
    pub(crate) fn drop_oldest(&mut self, session: SessionId, lane: u8, from: u64) {
        for delete in std::mem::take(&mut self.deletes) {
            self.add(delete, Instant::START, 0);
        }
        self.push(StoreOp::DropOldest(session, lane, from));
    }

    /// A body. At least one operation must refer to it in the same turn.
    pub(crate) fn put_message(&mut self, id: MessageId, message: StoredMessage) -> BodyRef {
        let at = self.add(StoreOp::PutMessage(id, message), Instant::START, 0);
        BodyRef {
            id,
            batch: self.number,
            at,
        }
    }

    /// Whether the body can still be referred to: its batch is open, and it was not cancelled.
    pub(crate) fn holds(&self, body: BodyRef) -> bool {
        body.batch == self.number
            && body.at >= self.first
            && self.writes[place(body.at, self.first)].op.is_some()
    }

    /// An operation that needs the body for good: it is retained or held back.
    pub(crate) fn keep(&mut self, body: BodyRef, op: StoreOp) {
        self.write_mut(body.at).refs += 1;
        self.push(op);
    }

    /// A queue entry that refers to the body. Until `settled_by` its receiver may settle it; without that the batch is due at once.
    pub(crate) fn put_queued(
        &mut self,
        body: BodyRef,
        session: SessionId,
        seq: u64,
        entry: QueueEntry,
        settled_by: Option<Instant>,
    ) -> EntryRef {
        let due = settled_by.unwrap_or(Instant::START);
        self.urgent |= settled_by.is_none();
        let write = self.write_mut(body.at);
        write.due = if write.refs == 0 { due } else { write.due.min(due) };
        write.refs += 1;
        let at = self.add(StoreOp::PutQueued(session, seq, entry), due, body.at);
        EntryRef {
            batch: self.number,
            at,
        }
    }

    /// Who waits for the entries of this body; how many there are.
    pub(crate) fn set_ack(&mut self, body: BodyRef, ack: AckRef) -> u32 {
        if !self.holds(body) {
            return 0;
        }
        let write = self.write_mut(body.at);
        write.ack = Some(ack);
        write.refs
    }

    /// The entry is settled. When its batch is still open it is taken out again, and whoever waits for it is handed back.
    pub(crate) fn settle(
        &mut self,
        entry: EntryRef,
        session: SessionId,
        seq: u64,
        now: Instant,
    ) -> Option<AckRef> {
        if entry.batch != self.number {
            self.delete(session, seq, now);
            return None;
        }
        let write = self.write_mut(entry.at);
        let body = write.body;
        write.op = None;
        let write = self.write_mut(body);
        write.refs -= 1;
        let ack = write.ack;
        let last = write.refs == 0;
        if last {
            self.bytes -= write.op.take().map_or(0, |op| size_of_op(&op));
        }
        self.live -= 1 + usize::from(last);
        while self.writes.front().is_some_and(|write| write.op.is_none()) {
            self.writes.pop_front();
            self.first += 1;
        }
        ack
    }

    /// Takes the batch, to be committed. Its number; the next one is open from now on.
    pub(crate) fn take(&mut self) -> (u64, Vec<StoreOp>) {
        let mut ops = Vec::with_capacity(self.len());
        ops.extend(self.writes.drain(..).filter_map(|write| write.op));
        ops.append(&mut self.deletes);
        let number = self.number;
        (self.first, self.live, self.bytes, self.urgent) = (0, 0, 0, false);
        self.number += 1;
        (number, ops)
    }

    fn add(&mut self, op: StoreOp, due: Instant, body: u64) -> u64 {
        self.bytes += size_of_op(&op);
        self.writes.push_back(Write {
            op: Some(op),
            due,
            refs: 0,
            ack: None,
            body,
        });
        self.live += 1;
        self.first + self.writes.len() as u64 - 1
    }

    fn write_mut(&mut self, at: u64) -> &mut Write {
        &mut self.writes[place(at, self.first)]
    }
}

/// Bytes that an operation holds beside itself.
fn size_of_op(op: &StoreOp) -> usize {
    match op {
        StoreOp::PutMessage(_, stored) => stored.message.size(),
        StoreOp::PutSession(_, record) => record.will.as_ref().map_or(0, |will| will.message.size()),
        StoreOp::PutNote(_, note) => note.len(),
        _ => 0,
    }
}

fn place(at: u64, first: u64) -> usize {
    usize::try_from(at - first).expect("a batch fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the entry that was settled is the first of its lane, and the one that was to be dropped stays.
    #[test]
    fn what_was_settled_is_gone_when_the_oldest_is_dropped() {
        let (mut pending, session) = (Pending::default(), SessionId(1));
        pending.delete(session, 4, Instant(1));
        pending.drop_oldest(session, 0, 3);
        pending.delete(session, 9, Instant(1));
        let (_, ops) = pending.take();
        let expected = [
            StoreOp::DeleteQueued(session, 4),
            StoreOp::DropOldest(session, 0, 3),
            StoreOp::DeleteQueued(session, 9),
        ];
        assert_eq!(ops, expected);
    }
}
