//! Retained messages: the last message of each topic that was published with RETAIN. \[MQTT-3.3.1-5\]
//!
//! Always true: at most one message for a topic; an empty payload removes it \[MQTT-3.3.1-6\]; an expired one is never delivered; each that expires is
//! in `expiries` once. They are kept in the order of their topics, so that a filter's literal beginning bounds the search and a search can be taken up
//! again.

use bytes::Bytes;
use headgate_model::store::MessageId;
use headgate_model::{Instant, Message, TopicFilter};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// A retained message, and its body's number in the store.
#[derive(Debug, Clone)]
pub(crate) struct RetainedMessage {
    pub message: Arc<Message>,
    pub id: MessageId,
}

#[derive(Debug, Default)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Bytes, RetainedMessage>,
    bytes: usize,
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
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all of them if this one were among them.
    pub(crate) fn bytes_with(&self, message: &Message) -> usize {
        let old = self.get(message.topic.as_bytes());
        self.bytes + message.size() - old.map_or(0, |old| old.message.size())
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
        self.bytes += retained.message.size();
        if let Some(at) = retained.message.expires_at {
            self.expiries.insert((at, topic.clone()));
        }
        self.by_topic.insert(topic.clone(), retained);
    }

    pub(crate) fn remove(&mut self, topic: &[u8]) -> Option<RetainedMessage> {
        let old = self.by_topic.remove(topic)?;
        self.bytes -= old.message.size();
        if let Some(at) = old.message.expires_at {
            self.expiries.remove(&(at, old.message.topic.bytes().clone()));
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
                id: MessageId(n),
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
