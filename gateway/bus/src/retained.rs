//! Retained messages: the last message of each topic that was published with RETAIN. \[MQTT-3.3.1-5\]
//!
//! Always true: at most one message for a topic; an empty payload removes it \[MQTT-3.3.1-6\]; an expired one is never delivered; each that expires is
//! in `expiries` once. They are kept in the order of their topics, so that a filter's literal beginning bounds the search and a search can be taken up
//! again. Those below `$SYS/` are found like all others, and the limits leave them out ([`Kind`]).

use bytes::Bytes;
use headgate_model::store::MessageId;
use headgate_model::{Instant, Message, TopicFilter};
use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;

/// A retained message.
#[derive(Debug, Clone)]
pub(crate) struct RetainedMessage {
    pub message: Arc<Message>,
    /// Its body's number in the store; nothing when it is in memory alone.
    pub id: Option<MessageId>,
    /// For whom it counts.
    pub owner: Option<Owner>,
    /// What it counts for.
    pub kind: Kind,
}

/// What bounds a retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The limits of the configuration.
    Plain,
    /// Below `$SYS/`, a client's own state, which it may say without any right: a bound beside the limits, which are for those who have one.
    State,
    /// Below `$SYS/`, of the gateway: its own code.
    OfGateway,
}

/// A client, by a number made of its client id: whoever comes back has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner(NonZeroU64);

impl Owner {
    pub(crate) fn of(client: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Bytes, RetainedMessage>,
    /// How many the limits count, and their bytes.
    counted: usize,
    bytes: usize,
    /// How many are states of clients.
    states: usize,
    /// How many are in the store.
    durable: usize,
    /// How many each client has. Looked up, never iterated.
    owned: HashMap<Owner, u32>,
    expiries: BTreeSet<(Instant, Bytes)>,
}

/// How far one step of a search came.
pub(crate) enum Scanned {
    /// Nothing is left.
    All,
    /// Take it up behind this topic.
    Until(Bytes),
}

impl Retained {
    /// How many there are that the limits count.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// How many are states of clients.
    pub(crate) fn states(&self) -> usize {
        self.states
    }

    /// How many are in the store.
    pub(crate) fn durable(&self) -> usize {
        self.durable
    }

    /// Bytes of those that count.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of those that count if this one were among them.
    pub(crate) fn bytes_with(&self, message: &Message) -> usize {
        let old = self
            .get(message.topic.as_bytes())
            .filter(|old| old.kind == Kind::Plain);
        self.bytes + message.size() - old.map_or(0, |old| old.message.size())
    }

    /// How many this client would have if this topic were among its own.
    pub(crate) fn owned_with(&self, owner: Owner, topic: &[u8]) -> usize {
        let has = self.owned.get(&owner).copied().unwrap_or(0) as usize;
        let is_own = self.get(topic).is_some_and(|known| known.owner == Some(owner));
        has + usize::from(!is_own)
    }

    pub(crate) fn contains(&self, topic: &[u8]) -> bool {
        self.by_topic.contains_key(topic)
    }

    pub(crate) fn get(&self, topic: &[u8]) -> Option<&RetainedMessage> {
        self.by_topic.get(topic)
    }

    /// Puts a message in the place of what its topic has.
    pub(crate) fn put(&mut self, retained: RetainedMessage) {
        let topic = retained.message.topic.bytes();
        self.remove(topic);
        match retained.kind {
            Kind::Plain => {
                self.counted += 1;
                self.bytes += retained.message.size();
            }
            Kind::State => self.states += 1,
            Kind::OfGateway => {}
        }
        self.durable += usize::from(retained.id.is_some());
        if let Some(at) = retained.message.expires_at {
            self.expiries.insert((at, topic.clone()));
        }
        if let Some(owner) = retained.owner {
            *self.owned.entry(owner).or_default() += 1;
        }
        self.by_topic.insert(topic.clone(), retained);
    }

    pub(crate) fn remove(&mut self, topic: &[u8]) -> Option<RetainedMessage> {
        let old = self.by_topic.remove(topic)?;
        match old.kind {
            Kind::Plain => {
                self.counted -= 1;
                self.bytes -= old.message.size();
            }
            Kind::State => self.states -= 1,
            Kind::OfGateway => {}
        }
        self.durable -= usize::from(old.id.is_some());
        if let Some(at) = old.message.expires_at {
            self.expiries.remove(&(at, old.message.topic.bytes().clone()));
        }
        if let Some(owner) = old.owner
            && let Entry::Occupied(mut count) = self.owned.entry(owner)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(old)
    }

    /// When the first of them expires.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Takes the one out that expires first.
    pub(crate) fn pop_expired(&mut self) -> Option<RetainedMessage> {
        let (_, topic) = self.expiries.pop_first()?;
        self.remove(&topic)
    }

    /// Looks at no more than `budget` topics behind `after` and hands those that match to `found`, until it says stop.
    pub(crate) fn scan(
        &self,
        filter: &TopicFilter,
        after: Option<&Bytes>,
        budget: usize,
        now: Instant,
        mut found: impl FnMut(&RetainedMessage) -> std::ops::ControlFlow<()>,
    ) -> Scanned {
        let prefix = literal_prefix(filter);
        let start = match after {
            Some(topic) => Bound::Excluded(topic.clone()),
            None => Bound::Included(Bytes::copy_from_slice(prefix)),
        };
        for (seen, (topic, retained)) in self.by_topic.range((start, Bound::Unbounded)).enumerate() {
            if !topic.starts_with(prefix) {
                return Scanned::All;
            }
            let matches = !retained.message.is_expired(now) && filter.matches(topic);
            if (matches && found(retained).is_break()) || seen + 1 == budget {
                return Scanned::Until(topic.clone());
            }
        }
        Scanned::All
    }
}

/// The part of a filter before its first wildcard level. "a/#" also matches "a", so the separator before `#` is not part of it.
fn literal_prefix(filter: &TopicFilter) -> &[u8] {
    let raw = filter.as_bytes();
    let literal = raw
        .iter()
        .position(|b| matches!(b, b'+' | b'#'))
        .map_or(raw, |at| &raw[..at]);
    if raw.len() == literal.len() + 1 && raw.ends_with(b"/#") {
        &literal[..literal.len() - 1]
    } else {
        literal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::Topic;
    use std::ops::ControlFlow;

    fn filled(topics: &[&str]) -> Retained {
        let mut retained = Retained::default();
        for (n, topic) in (0..).zip(topics) {
            let message = Arc::new(Message::new(Topic::try_from(*topic).unwrap(), "x"));
            retained.put(RetainedMessage {
                message,
                id: Some(MessageId(n)),
                owner: None,
                kind: Kind::Plain,
            });
        }
        retained
    }

    fn search(retained: &Retained, filter: &str, budget: usize) -> Vec<String> {
        let filter = TopicFilter::try_from(filter).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let step = retained.scan(&filter, after.as_ref(), budget, Instant(0), |retained| {
                found.push(retained.message.topic.to_string());
                ControlFlow::Continue(())
            });
            match step {
                Scanned::All => return found,
                Scanned::Until(topic) => after = Some(topic),
            }
        }
    }

    #[test]
    fn a_search_in_small_steps_finds_each_once() {
        let retained = filled(&["a", "a/b", "a/c", "a-b", "ab", "b/b", "$SYS/x"]);
        for budget in [1, 2, 100] {
            assert_eq!(search(&retained, "a/#", budget), ["a", "a/b", "a/c"]);
            assert_eq!(search(&retained, "+/b", budget), ["a/b", "b/b"]);
            assert_eq!(search(&retained, "a", budget), ["a"]);
            assert_eq!(
                search(&retained, "#", budget),
                ["a", "a-b", "a/b", "a/c", "ab", "b/b"]
            );
            assert_eq!(search(&retained, "$SYS/#", budget), ["$SYS/x"]);
        }
    }
}
