//! Messages that wait for their time in the store: `$delayed/{seconds}/{topic}`, as EMQX has it.

use crate::acks::Needs;
use crate::bus::{Bus, BusOutputs};
use crate::routing::{Ingested, Origin};
use crate::sessions::Slot;
use crate::settings::DelayedSettings;
use crate::stats::DropReason;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::memory::Want;
use headgate_model::store::{MessageId, StoredMessage};
use headgate_model::{Instant, Message, StoreOp, Topic, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// EMQX's limit: 4,294,967 s, about 49 days.
const MAX_DELAY_S: u64 = 4_294_967;
/// When a message is tried again for which there was no room.
const RETRY: Duration = Duration::from_secs(1);

/// All delayed messages.
///
/// Always true: each is in `due` once, and `bytes` is the sum of their sizes.
#[derive(Debug, Default)]
pub(crate) struct DelayedMessages {
    messages: BTreeMap<MessageId, Delayed>,
    due: BTreeSet<(Instant, MessageId)>,
    bytes: usize,
}

/// A message that waits for its time.
#[derive(Clone, Debug)]
struct Delayed {
    message: Arc<Message>,
    /// Where its publisher's session was; another may be there by now.
    from: Option<Slot>,
}

impl DelayedMessages {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the first of them is to be published.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The first of them that is due is not due any more: [`DelayedMessages::retry`] or [`DelayedMessages::remove`] comes next.
    pub(crate) fn pop_due(&mut self) -> Option<MessageId> {
        self.due.pop_first().map(|(_, id)| id)
    }

    /// Those that are due behind `after`, in the order in which they are.
    pub(crate) fn page(
        &self,
        after: Option<(Instant, MessageId)>,
        limit: usize,
    ) -> impl Iterator<Item = (Instant, MessageId, &Arc<Message>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.due.range((from, Bound::Unbounded)).take(limit);
        due.filter_map(|(at, id)| Some((*at, *id, &self.messages.get(id)?.message)))
    }

    fn has_room(&self, size: usize, limits: &DelayedSettings) -> bool {
        self.len() < limits.max_count && self.bytes + size <= limits.max_bytes
    }

    fn insert(&mut self, id: MessageId, due: Instant, message: Arc<Message>, from: Option<Slot>) {
        self.bytes += message.size();
        self.due.insert((due, id));
        self.messages.insert(id, Delayed { message, from });
    }

    fn retry(&mut self, id: MessageId, at: Instant) {
        self.due.insert((at, id));
    }

    fn remove(&mut self, id: MessageId) {
        if let Some(gone) = self.messages.remove(&id) {
            self.bytes -= gone.message.size();
        }
    }
}

impl Bus {
    /// The message waits in the store.
    pub(crate) fn delay(
        &mut self,
        message: Message,
        from: Option<Slot>,
        now: Instant,
    ) -> Result<Ingested, Refusal> {
        let limits = &self.settings.delayed;
        if !limits.available {
            return Err(Refusal::NotSupported);
        }
        let size = message.size();
        let refusal = if !self.delayed.has_room(size, limits) {
            Some(Refusal::QuotaExceeded)
        } else if self.store.is_full {
            Some(Refusal::StoreFull)
        } else {
            (!self.has_memory(Want::ToKeep, size)).then_some(Refusal::NoMemory)
        };
        if let Some(refusal) = refusal {
            self.counters.drop(DropReason::DelayedFull);
            return Err(refusal);
        }
        let (seconds, topic) = parse(&message.topic).ok_or(Refusal::TopicInvalid)?;
        let message = Arc::new(Message { topic, ..message }.compact());
        let body = self.new_body(&message);
        let due = now + Duration::from_secs(seconds);
        let op = StoreOp::PutDelayed(body.id, WallTime::of(due, self.epoch));
        self.pending.keep(body, op);
        self.delayed.insert(body.id, due, message, from);
        Ok(Ingested {
            outcome: Outcome::Matched,
            needs: Needs::Disk,
        })
    }

    /// Its time has come. While there is no room for it, it waits, for it was acknowledged. If the session of its client is still there, and its rules deny the
    /// message by now, it goes nowhere, as a will.
    pub(crate) fn publish_delayed(&mut self, id: MessageId, now: Instant, out: &mut BusOutputs) {
        let Some(Delayed { message, from }) = self.delayed.messages.get(&id).cloned() else {
            return;
        };
        let is_publisher = |slot: &Slot| {
            let session = self.sessions.get(*slot);
            session.is_some_and(|session| Some(session.id) == message.publisher)
        };
        let from = from.filter(is_publisher);
        let may_still = |slot: Slot| self.sessions[slot].presence.rules.may_still_publish(&message);
        if message.is_expired(now) {
            self.counters.drop(DropReason::Expired);
        } else if !from.is_none_or(may_still) {
            self.counters.drop(DropReason::NotAuthorized);
        } else {
            let origin = from.map_or(Origin::Gateway, Origin::Session);
            match self.ingest((*message).clone(), origin, now, out) {
                Ok(_) => {}
                Err(Refusal::TopicInvalid | Refusal::NotSupported) => {
                    self.counters.drop(DropReason::DelayedFull);
                }
                Err(_) => return self.delayed.retry(id, now + RETRY),
            }
        }
        self.delayed.remove(id);
        self.pending.push(StoreOp::DeleteDelayed(id));
    }

    /// What an earlier run delayed.
    pub(crate) fn restore_delayed(&mut self, delayed: Vec<(MessageId, StoredMessage, WallTime)>) {
        let places = self.sessions.iter().map(|(slot, session)| (session.id, slot));
        let places: hashbrown::HashMap<_, Slot> = places.collect();
        for (id, stored, due) in delayed {
            self.numbers.note_message(id);
            let message = self.read_back(stored);
            self.note_publisher(&message);
            let from = message.publisher.and_then(|id| places.get(&id).copied());
            self.delayed.insert(id, due.to_instant(self.epoch), message, from);
        }
    }
}

fn parse(topic: &Topic) -> Option<(u64, Topic)> {
    let rest = topic.as_str().strip_prefix("$delayed/")?;
    let (seconds, name) = rest.split_once('/')?;
    let seconds = seconds.parse().ok().filter(|s| *s <= MAX_DELAY_S)?;
    // One delay is enough: rules are about the topic behind the first.
    let topic = Topic::try_from(name)
        .ok()
        .filter(|_| !name.starts_with("$delayed/"))?;
    Some((seconds, topic))
}
