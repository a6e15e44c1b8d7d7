//! A walk through what is in memory, which changes meanwhile: each part is copied as it is when the walk comes to it. What is behind the walk is copied again
//! by every commit ([`Walk::behind`]); what is before it the walk will find as it is by then. So there is no moment at which all of it would have to be held.

use crate::disk::Copied;
use crate::sim::{SessionTable, Tables};
use headgate_model::store::{MessageId, StoredMessage};
use headgate_model::{SessionId, StoreOp};
use std::collections::HashSet;

/// What a row or an entry counts for beside its message.
const ROW: usize = 200;

/// Where the walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// With the first session from this one on.
    Session(SessionId),
    /// With the queue entries of this session from the first number on, and below the second: what came since its rows were copied is behind the walk.
    Queue(SessionId, u64, u64),
    Retained(MessageId),
    Delayed(MessageId),
    End,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Walk(Next);

/// What is copied in one step.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub rows: Vec<StoreOp>,
    /// Of sessions whose rows are copied.
    pub entries: Vec<Copied>,
    bytes: usize,
}

impl Walk {
    pub(crate) fn begin() -> Self {
        Self(Next::Session(SessionId(0)))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0 == Next::End
    }

    /// The next part: about so many bytes, and no less than one thing.
    pub(crate) fn step(&mut self, tables: &Tables, bytes: usize) -> Part {
        let mut part = Part::default();
        while part.bytes < bytes && !self.is_over() {
            self.0 = match self.0 {
                Next::Session(from) => match tables.sessions.range(from..).next() {
                    Some((id, table)) => {
                        part.put_session(*id, table);
                        Next::Queue(*id, 0, table.next_seq)
                    }
                    None => {
                        part.put(StoreOp::ReserveSessions(SessionId(tables.next_session)));
                        Next::Retained(MessageId(0))
                    }
                },
                Next::Queue(id, from, until) => {
                    let queue = tables.sessions.get(&id).map(|table| &table.queue);
                    match queue.and_then(|queue| queue.range(from..until).next()) {
                        Some((seq, kept)) => {
                            part.put_entry(Copied {
                                session: id,
                                seq: *seq,
                                entry: kept.entry.clone(),
                                message: kept.message.clone(),
                                received: kept.received,
                            });
                            Next::Queue(id, seq + 1, until)
                        }
                        None => Next::Session(SessionId(id.0 + 1)),
                    }
                }
                Next::Retained(from) => match tables.retained.range(from..).next() {
                    Some((id, stored)) => {
                        part.put_message(*id, stored, StoreOp::PutRetained(*id));
                        Next::Retained(MessageId(id.0 + 1))
                    }
                    None => Next::Delayed(MessageId(0)),
                },
                Next::Delayed(from) => match tables.delayed.range(from..).next() {
                    Some((id, (stored, due))) => {
                        part.put_message(*id, stored, StoreOp::PutDelayed(*id, *due));
                        Next::Delayed(MessageId(id.0 + 1))
                    }
                    None => Next::End,
                },
                Next::End => Next::End,
            };
        }
        part
    }

    /// What of a commit is behind the walk, with the bodies that it needs.
    pub(crate) fn behind(&self, mut ops: Vec<StoreOp>) -> Vec<StoreOp> {
        ops.retain(|op| self.has_passed(op));
        let needed: HashSet<MessageId> = ops.iter().filter_map(body_of).collect();
        ops.retain(|op| !matches!(op, StoreOp::PutMessage(id, _) if !needed.contains(id)));
        ops
    }

    fn has_passed(&self, op: &StoreOp) -> bool {
        let session = |id: &SessionId| match self.0 {
            Next::Session(next) => *id < next,
            Next::Queue(at, ..) => *id <= at,
            Next::Retained(_) | Next::Delayed(_) | Next::End => true,
        };
        match op {
            StoreOp::PutMessage(..) | StoreOp::ReserveSessions(_) => true,
            StoreOp::PutSession(id, _)
            | StoreOp::DeleteSession(id)
            | StoreOp::PutNote(id, _)
            | StoreOp::PutSubscription(id, _)
            | StoreOp::DeleteSubscription(id, _)
            | StoreOp::PutQueued(id, ..)
            | StoreOp::MarkReceived(id, _)
            | StoreOp::DeleteQueued(id, _)
            | StoreOp::DropOldest(id, ..)
            | StoreOp::PutReceived(id, _)
            | StoreOp::DeleteReceived(id, _) => session(id),
            StoreOp::PutRetained(id) | StoreOp::DeleteRetained(id) => match self.0 {
                Next::Session(_) | Next::Queue(..) => false,
                Next::Retained(next) => *id < next,
                Next::Delayed(_) | Next::End => true,
            },
            StoreOp::PutDelayed(id, _) | StoreOp::DeleteDelayed(id) => match self.0 {
                Next::Session(_) | Next::Queue(..) | Next::Retained(_) => false,
                Next::Delayed(next) => *id < next,
                Next::End => true,
            },
        }
    }
}

fn body_of(op: &StoreOp) -> Option<MessageId> {
    match op {
        StoreOp::PutQueued(_, _, entry) => Some(entry.message),
        StoreOp::PutRetained(id) | StoreOp::PutDelayed(id, _) => Some(*id),
        _ => None,
    }
}

impl Part {
    fn put(&mut self, op: StoreOp) {
        self.bytes += bytes_of(&op);
        self.rows.push(op);
    }

    fn put_session(&mut self, id: SessionId, table: &SessionTable) {
        self.put(StoreOp::PutSession(id, Box::new(table.record.clone())));
        if !table.note.is_empty() {
            self.put(StoreOp::PutNote(id, table.note.clone()));
        }
        for subscription in table.subscriptions.values() {
            self.put(StoreOp::PutSubscription(id, Box::new(subscription.clone())));
        }
        for packet in &table.received {
            self.put(StoreOp::PutReceived(id, *packet));
        }
    }

    fn put_message(&mut self, id: MessageId, stored: &StoredMessage, op: StoreOp) {
        self.put(StoreOp::PutMessage(id, stored.clone()));
        self.put(op);
    }

    fn put_entry(&mut self, copied: Copied) {
        self.bytes += ROW + copied.message.message.payload.len();
        self.entries.push(copied);
    }
}

/// About the bytes that an operation writes.
pub(crate) fn bytes_of(op: &StoreOp) -> usize {
    let more = match op {
        StoreOp::PutMessage(_, stored) => stored.message.payload.len(),
        StoreOp::PutNote(_, note) => note.len(),
        StoreOp::PutSession(_, record) => record.will.as_ref().map_or(0, |will| will.message.payload.len()),
        _ => 0,
    };
    ROW + more
}
