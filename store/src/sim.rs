//! The store in memory: the tests' twin of the real one, and the store of a gateway that is told to keep nothing.
//!
//! A [`Disk`] outlives the [`SimStore`]s opened on it, as a real disk outlives a process. It holds what was committed and nothing else.

use headgate_model::store::{MessageId, QueueEntry, SessionImage, SessionRecord, StoredMessage};
use headgate_model::{SessionId, Store, StoreError, StoreImage, StoreOp, Subscription, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What is durable. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Tables>>);

#[derive(Clone, Debug, Default)]
struct Tables {
    messages: BTreeMap<MessageId, StoredMessage>,
    sessions: BTreeMap<SessionId, SessionTable>,
    retained: BTreeSet<MessageId>,
    delayed: BTreeMap<MessageId, WallTime>,
    /// The next commits fail.
    failing: bool,
}

#[derive(Clone, Debug)]
struct SessionTable {
    record: SessionRecord,
    subscriptions: BTreeMap<String, Subscription>,
    queue: BTreeMap<u64, QueueEntry>,
    received: BTreeSet<u16>,
}

impl Disk {
    /// Lets commits fail, or succeed again.
    pub fn set_failing(&self, failing: bool) {
        self.lock().failing = failing;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A store on a [`Disk`].
#[derive(Debug, Default)]
pub struct SimStore(Disk);

impl SimStore {
    /// Opens the store on a disk.
    pub fn open(disk: &Disk) -> Self {
        Self(disk.clone())
    }
}

impl Store for SimStore {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        let tables = self.0.lock().clone();
        let session = |(id, table): (SessionId, SessionTable)| SessionImage {
            id,
            record: table.record,
            subscriptions: table.subscriptions.into_values().collect(),
            queue: table.queue.into_iter().collect(),
            received: table.received.into_iter().collect(),
        };
        Ok(StoreImage {
            messages: tables.messages.into_iter().collect(),
            sessions: tables.sessions.into_iter().map(session).collect(),
            retained: tables.retained.into_iter().collect(),
            delayed: tables.delayed.into_iter().collect(),
            damage: Vec::new(),
        })
    }

    fn commit(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let mut tables = self.0.lock();
        if tables.failing {
            return Err(StoreError::Io {
                what: "commit",
                cause: "the disk was told to fail".into(),
            });
        }
        for op in ops {
            tables.apply(op);
        }
        Ok(())
    }
}

impl Tables {
    fn apply(&mut self, op: &StoreOp) {
        match op.clone() {
            StoreOp::PutMessage(id, message) => drop(self.messages.insert(id, message)),
            StoreOp::DeleteMessage(id) => drop(self.messages.remove(&id)),
            StoreOp::PutSession(id, record) => {
                let table = self.sessions.entry(id).or_insert_with(|| SessionTable {
                    record: (*record).clone(),
                    subscriptions: BTreeMap::new(),
                    queue: BTreeMap::new(),
                    received: BTreeSet::new(),
                });
                table.record = *record;
            }
            StoreOp::DeleteSession(id) => drop(self.sessions.remove(&id)),
            StoreOp::PutSubscription(id, subscription) => self.with(id, |s| {
                s.subscriptions.insert(subscription.to_text(), *subscription);
            }),
            StoreOp::DeleteSubscription(id, text) => self.with(id, |s| drop(s.subscriptions.remove(&text))),
            StoreOp::PutQueued(id, seq, entry) => self.with(id, |s| drop(s.queue.insert(seq, entry))),
            StoreOp::DeleteQueued(id, seq) => self.with(id, |s| drop(s.queue.remove(&seq))),
            StoreOp::PutReceived(id, packet) => self.with(id, |s| {
                s.received.insert(packet);
            }),
            StoreOp::DeleteReceived(id, packet) => self.with(id, |s| {
                s.received.remove(&packet);
            }),
            StoreOp::PutRetained(id) => drop(self.retained.insert(id)),
            StoreOp::DeleteRetained(id) => {
                self.retained.remove(&id);
            }
            StoreOp::PutDelayed(id, due) => drop(self.delayed.insert(id, due)),
            StoreOp::DeleteDelayed(id) => drop(self.delayed.remove(&id)),
        }
    }

    fn with(&mut self, id: SessionId, change: impl FnOnce(&mut SessionTable)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            change(session);
        }
    }
}
