//! Messages that are gathered, and what waits until the remote takes one more PUBLISH.
//!
//! Always true: all messages of a topic leave in the order in which they came; never more than the bounds are gathered, for the oldest batch is closed
//! early; what is closed leaves in the order in which it was.

use crate::mapping::Mapped;
use headgate_model::{Delivery, Instant, Topic};
use headgate_mqtt_codec::Qos;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Batches that are gathered at the same time.
const MAX_OPEN: usize = 100;
/// Bytes of all their payloads.
const MAX_OPEN_BYTES: usize = 16 << 20;

/// Of one bridge that has a rule with `batch`.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    open: BTreeMap<Key, Batch>,
    /// Of the payloads of those.
    open_bytes: usize,
    next_number: u64,
    due: Option<Instant>,
    ready: VecDeque<Ready>,
    /// Messages in both whose place in the session's window is taken.
    waiting: usize,
}

/// The place of a rule, and the remote topic of the batch.
pub(crate) type Key = (usize, Topic);

/// Messages for one PUBLISH.
#[derive(Debug)]
pub(crate) struct Batch {
    pub key: Key,
    pub members: Vec<Delivery>,
    /// The array without its last bracket.
    pub body: Vec<u8>,
    /// The highest of the members'.
    pub qos: Qos,
    /// When the last of the members expires, if all do.
    pub expires_at: Option<Instant>,
    closes_at: Instant,
    number: u64,
}

/// What goes out as soon as the remote takes it.
#[derive(Debug)]
pub(crate) enum Ready {
    Batch(Batch),
    /// Of a rule without `batch`.
    Message(Delivery, Mapped),
}

/// A message that is gathered.
#[derive(Debug)]
pub(crate) struct Member {
    pub delivery: Delivery,
    /// At which it would be sent alone.
    pub qos: Qos,
    /// As it stands in the array.
    pub object: Vec<u8>,
}

/// When a batch is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub messages: usize,
    pub bytes: usize,
    pub wait: Duration,
}

impl Batches {
    /// Gathers a message.
    pub(crate) fn add(&mut self, key: &Key, member: Member, limits: Limits, now: Instant) {
        if self
            .open
            .get(key)
            .is_some_and(|batch| !batch.has_room(&member, limits))
        {
            self.close(key);
        }
        self.waiting += usize::from(member.delivery.id.is_some());
        self.open_bytes += member.object.len();
        let batch = self.open.entry(key.clone()).or_insert_with(|| {
            self.next_number += 1;
            Batch::new(key.clone(), self.next_number, now + limits.wait)
        });
        batch.push(member);
        let closes_at = batch.closes_at;
        let is_full = batch.members.len() >= limits.messages || batch.len() >= limits.bytes;
        self.due = Some(self.due.map_or(closes_at, |due| due.min(closes_at)));
        if is_full {
            self.close(key);
        }
        while self.open.len() > MAX_OPEN || self.open_bytes > MAX_OPEN_BYTES {
            self.close_oldest();
        }
    }

    /// A message that is not gathered keeps its place behind what is ready.
    pub(crate) fn add_message(&mut self, delivery: Delivery, mapped: Mapped) {
        self.waiting += usize::from(delivery.id.is_some());
        self.ready.push_back(Ready::Message(delivery, mapped));
    }

    /// What goes out next; `blocked` says that nothing more will come before something went.
    pub(crate) fn next(&mut self, now: Instant, blocked: bool) -> Option<Ready> {
        if self.ready.is_empty() {
            if self.due.is_some_and(|due| due <= now) {
                self.close_first(|batch| (batch.closes_at, batch.number));
            } else if blocked {
                self.close_oldest();
            }
        }
        let ready = self.ready.pop_front()?;
        self.waiting -= ready
            .deliveries()
            .filter(|delivery| delivery.id.is_some())
            .count();
        Some(ready)
    }

    /// Messages whose place in the session's window is taken.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether something waits for the remote to take it.
    pub(crate) fn is_held_up(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next batch is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How many are here that no queue has: those of QoS 0.
    pub(crate) fn volatile(&self) -> usize {
        let open = self.open.values().flat_map(|batch| batch.members.iter());
        let ready = self.ready.iter().flat_map(Ready::deliveries);
        open.chain(ready).filter(|delivery| delivery.id.is_none()).count()
    }

    /// Takes the batches that no queue has any message of.
    pub(crate) fn take_volatile(&mut self) -> Vec<Batch> {
        while !self.open.is_empty() {
            self.close_oldest();
        }
        let volatile = |batch: &Batch| batch.members.iter().all(|delivery| delivery.id.is_none());
        let mut taken = Vec::new();
        for ready in std::mem::take(&mut self.ready) {
            match ready {
                Ready::Batch(batch) if volatile(&batch) => taken.push(batch),
                kept => self.ready.push_back(kept),
            }
        }
        taken
    }

    fn close_oldest(&mut self) {
        self.close_first(|batch| (Instant(0), batch.number));
    }

    fn close_first(&mut self, order: impl Fn(&Batch) -> (Instant, u64)) {
        let first = self.open.values().min_by_key(|batch| order(batch));
        if let Some(key) = first.map(|batch| batch.key.clone()) {
            self.close(&key);
        }
    }

    fn close(&mut self, key: &Key) {
        let Some(batch) = self.open.remove(key) else {
            return;
        };
        self.open_bytes -= batch.objects_len();
        self.due = self.open.values().map(|batch| batch.closes_at).min();
        self.ready.push_back(Ready::Batch(batch));
    }
}

impl Batch {
    fn new(key: Key, number: u64, closes_at: Instant) -> Self {
        Self {
            key,
            members: Vec::new(),
            body: Vec::new(),
            qos: Qos::AtMostOnce,
            expires_at: None,
            closes_at,
            number,
        }
    }

    fn has_room(&self, member: &Member, limits: Limits) -> bool {
        self.members.len() < limits.messages && self.len() + 1 + member.object.len() <= limits.bytes
    }

    /// Of the whole array.
    fn len(&self) -> usize {
        self.body.len() + 1
    }

    /// Without bracket and commas.
    fn objects_len(&self) -> usize {
        self.body.len() - self.members.len()
    }

    fn push(&mut self, member: Member) {
        let expires_at = member.delivery.message.expires_at;
        self.expires_at = match (expires_at, self.members.is_empty()) {
            (at, true) => at,
            (at, false) => at.zip(self.expires_at).map(|(one, other)| one.max(other)),
        };
        // Nobody shall have waited here for the end of its time.
        self.closes_at = expires_at.map_or(self.closes_at, |at| at.min(self.closes_at));
        self.qos = self.qos.max(member.qos);
        self.body.push(if self.members.is_empty() { b'[' } else { b',' });
        self.body.extend_from_slice(&member.object);
        self.members.push(member.delivery);
    }
}

impl Ready {
    fn deliveries(&self) -> std::slice::Iter<'_, Delivery> {
        match self {
            Self::Batch(batch) => batch.members.iter(),
            Self::Message(delivery, _) => std::slice::from_ref(delivery).iter(),
        }
    }
}
