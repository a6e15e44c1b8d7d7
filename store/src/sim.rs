//! The store in memory: the tests' twin of the real one, and the store of a gateway that is told to keep nothing.
//!
//! A [`Disk`] outlives the [`SimStore`]s opened on it, as a real disk outlives a process. It holds what was committed and nothing else.

use bytes::Bytes;
use headgate_model::store::{
    FetchLimit, Fetched, LaneImage, MessageId, QueueEntry, SessionImage, SessionRecord, StoredDelivery,
    StoredMessage,
};
use headgate_model::{SessionId, Store, StoreError, StoreImage, StoreOp, Subscription, WallTime};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

/// What is durable. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Tables>>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub sessions: BTreeMap<SessionId, SessionTable>,
    pub retained: BTreeMap<MessageId, StoredMessage>,
    pub delayed: BTreeMap<MessageId, (StoredMessage, WallTime)>,
    pub next_session: u64,
    /// The next commits fail.
    pub failing: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SessionTable {
    pub record: SessionRecord,
    pub note: Bytes,
    pub subscriptions: BTreeMap<String, Subscription>,
    pub queue: BTreeMap<u64, Entry>,
    pub next_seq: u64,
    pub received: BTreeSet<u16>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub entry: QueueEntry,
    pub message: StoredMessage,
    pub received: bool,
}

impl Disk {
    /// Lets commits fail, or succeed again.
    pub fn set_failing(&self, failing: bool) {
        self.lock().failing = failing;
    }

    pub(crate) fn of(tables: Tables) -> Self {
        Self(Arc::new(Mutex::new(tables)))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A store on a [`Disk`].
#[derive(Debug, Default)]
pub struct SimStore(pub(crate) Disk);

impl SimStore {
    /// Opens the store on a disk.
    pub fn open(disk: &Disk) -> Self {
        Self(disk.clone())
    }
}

impl Store for SimStore {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        let tables = self.0.lock();
        let delayed = tables.delayed.iter();
        Ok(StoreImage {
            sessions: tables
                .sessions
                .iter()
                .map(|(id, table)| table.image(*id))
                .collect(),
            retained: tables
                .retained
                .iter()
                .map(|(id, message)| (*id, message.clone()))
                .collect(),
            delayed: delayed
                .map(|(id, (message, due))| (*id, message.clone(), *due))
                .collect(),
            next_session: tables.next_session,
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
        tables.apply_all(ops);
        Ok(())
    }

    fn fetch(
        &mut self,
        session: SessionId,
        lane: u8,
        from: u64,
        limit: FetchLimit,
    ) -> Result<Fetched, StoreError> {
        let tables = self.0.lock();
        let mut fetched = Fetched {
            next: from,
            at_end: true,
            ..Fetched::default()
        };
        let Some(table) = tables.sessions.get(&session) else {
            return Ok(fetched);
        };
        let mut bytes = 0;
        for (seq, kept) in table.queue.range(from..) {
            if kept.entry.lane != lane || kept.received {
                continue;
            }
            if fetched.deliveries.len() >= limit.count || bytes >= limit.bytes {
                fetched.at_end = false;
                break;
            }
            bytes += kept.entry.size as usize;
            fetched.next = seq + 1;
            fetched.deliveries.push(kept.delivery(*seq));
        }
        Ok(fetched)
    }
}

impl Entry {
    fn delivery(&self, seq: u64) -> StoredDelivery {
        StoredDelivery {
            seq,
            entry: self.entry.clone(),
            message: self.message.clone(),
        }
    }
}

impl SessionTable {
    pub(crate) fn new(record: SessionRecord) -> Self {
        Self {
            record,
            note: Bytes::new(),
            subscriptions: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_seq: 0,
            received: BTreeSet::new(),
        }
    }

    fn image(&self, id: SessionId) -> SessionImage {
        let mut lanes: BTreeMap<u8, LaneImage> = BTreeMap::new();
        for kept in self.queue.values().filter(|kept| !kept.received) {
            let lane = lanes.entry(kept.entry.lane).or_default();
            lane.lane = kept.entry.lane;
            lane.count += 1;
            lane.bytes += u64::from(kept.entry.size);
        }
        let held = self.queue.iter().filter(|(_, kept)| kept.received);
        SessionImage {
            id,
            record: self.record.clone(),
            note: self.note.clone(),
            subscriptions: self.subscriptions.values().cloned().collect(),
            next_seq: self.next_seq,
            lanes: lanes.into_values().collect(),
            held: held.map(|(seq, kept)| kept.delivery(*seq)).collect(),
            received: self.received.iter().copied().collect(),
        }
    }
}

impl Tables {
    pub(crate) fn apply_all(&mut self, ops: &[StoreOp]) {
        let mut bodies = HashMap::new();
        for op in ops {
            self.apply(op, &mut bodies);
        }
    }

    /// The same. What was done, with every [`StoreOp::DropOldest`] replaced by what it deleted: who has a part of this finds another entry the oldest.
    pub(crate) fn apply_named(&mut self, ops: &[StoreOp]) -> Vec<StoreOp> {
        let mut bodies = HashMap::new();
        let mut named = Vec::with_capacity(ops.len());
        for op in ops {
            let op = match op {
                StoreOp::DropOldest(id, lane, from) => match self.oldest(*id, *lane, *from) {
                    Some(oldest) => StoreOp::DeleteQueued(*id, oldest),
                    None => continue,
                },
                op => op.clone(),
            };
            self.apply(&op, &mut bodies);
            named.push(op);
        }
        named
    }

    fn oldest(&self, id: SessionId, lane: u8, from: u64) -> Option<u64> {
        let mut behind = self.sessions.get(&id)?.queue.range(from..);
        let oldest = behind.find(|(_, kept)| kept.entry.lane == lane && !kept.received);
        oldest.map(|(seq, _)| *seq)
    }

    fn apply(&mut self, op: &StoreOp, bodies: &mut HashMap<MessageId, StoredMessage>) {
        match op.clone() {
            StoreOp::PutMessage(id, message) => drop(bodies.insert(id, message)),
            StoreOp::PutSession(id, record) => match self.sessions.get_mut(&id) {
                Some(table) => table.record = *record,
                None => drop(self.sessions.insert(id, SessionTable::new(*record))),
            },
            StoreOp::DeleteSession(id) => drop(self.sessions.remove(&id)),
            StoreOp::PutNote(id, note) => self.with(id, |s| s.note = note),
            StoreOp::PutSubscription(id, subscription) => self.with(id, |s| {
                s.subscriptions.insert(subscription.stored_name(), *subscription);
            }),
            StoreOp::DeleteSubscription(id, text) => self.with(id, |s| drop(s.subscriptions.remove(&text))),
            StoreOp::PutQueued(id, seq, entry) => {
                let message = bodies[&entry.message].clone();
                self.with(id, |s| {
                    s.next_seq = s.next_seq.max(seq + 1);
                    let kept = Entry {
                        entry,
                        message,
                        received: false,
                    };
                    s.queue.insert(seq, kept);
                });
            }
            StoreOp::MarkReceived(id, seq) => self.with(id, |s| {
                if let Some(kept) = s.queue.get_mut(&seq) {
                    kept.received = true;
                }
            }),
            StoreOp::DeleteQueued(id, seq) => self.with(id, |s| drop(s.queue.remove(&seq))),
            StoreOp::DropOldest(id, lane, from) => {
                if let Some(oldest) = self.oldest(id, lane, from) {
                    self.with(id, |s| drop(s.queue.remove(&oldest)));
                }
            }
            StoreOp::PutReceived(id, packet) => self.with(id, |s| {
                s.received.insert(packet);
            }),
            StoreOp::DeleteReceived(id, packet) => self.with(id, |s| {
                s.received.remove(&packet);
            }),
            StoreOp::PutRetained(id) => drop(self.retained.insert(id, bodies[&id].clone())),
            StoreOp::DeleteRetained(id) => drop(self.retained.remove(&id)),
            StoreOp::PutDelayed(id, due) => drop(self.delayed.insert(id, (bodies[&id].clone(), due))),
            StoreOp::DeleteDelayed(id) => drop(self.delayed.remove(&id)),
            StoreOp::ReserveSessions(id) => self.next_session = id.0,
        }
    }

    fn with(&mut self, id: SessionId, change: impl FnOnce(&mut SessionTable)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            change(session);
        }
    }
}
