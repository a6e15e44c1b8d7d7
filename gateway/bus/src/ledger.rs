//! The ledger of a link: what was routed to it, and what became of it.
//!
//! Always true, of QoS 1 and 2: carried + routed = done + rejected + dropped + handed on + queued + in flight; of QoS 0: routed = handed over +
//! dropped + queued. What waits in the store alone is known here by its topic and its age, for one byte each.

use crate::stats::DropReason;
use bytes::Bytes;
use hashbrown::HashMap;
use headgate_model::{Instant, Qos};
use std::collections::VecDeque;
use std::time::Duration;

/// How often each reason applied, in the order of [`DropReason::ALL`].
pub type Drops = [u64; DropReason::ALL.len()];

/// Topics whose drops are counted apart. A further one takes the place of one that waits for nothing and lost nothing, or is among the others.
const MAX_TOPICS: usize = 100;
const OTHERS: u8 = 254;
/// Of what was in the queue before there was a ledger nobody knows the topics.
pub(crate) const CARRIED: u8 = 255;

/// Slices of time in which the age of what waits in one lane is known.
const MAX_SLICES: usize = 128;

/// Time as it is kept of what waits: seconds since the start, rounded up.
pub(crate) fn seconds(at: Instant) -> u32 {
    u32::try_from(at.0.div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// The ledger. See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub carried: u64,
    pub routed: u64,
    pub done: u64,
    pub rejected: u64,
    pub handed_on: u64,
    pub dropped: Drops,
    pub routed_qos0: u64,
    pub handed_qos0: u64,
    pub dropped_qos0: Drops,
    /// Publishers refused because the queue was full.
    pub refused: u64,
    /// What came in by the link and was not routed.
    pub loops: u64,
    pub duplicates: u64,
    pub topics: Topics,
}

impl Ledger {
    pub(crate) fn drop(&mut self, reason: DropReason, qos: Qos, topic: &[u8]) {
        let row = self.topics.row(topic);
        self.drop_of(row, reason, qos);
    }

    /// [`Ledger::drop`] of the topic of a row.
    pub(crate) fn drop_of(&mut self, row: u8, reason: DropReason, qos: Qos) {
        let drops = match qos {
            Qos::AtMostOnce => &mut self.dropped_qos0,
            _ => &mut self.dropped,
        };
        drops[reason as usize] += 1;
        self.topics.dropped(row)[reason as usize] += 1;
    }

    /// What came in by the link is not routed.
    pub(crate) fn ignore(&mut self, reason: DropReason, topic: &[u8]) {
        match reason {
            DropReason::Loop => self.loops += 1,
            DropReason::Superseded => {}
            _ => self.duplicates += 1,
        }
        let row = self.topics.row(topic);
        self.topics.dropped(row)[reason as usize] += 1;
    }
}

/// Drops by topic.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    rows: Vec<Row>,
    /// Looked up, never iterated.
    by_name: HashMap<Bytes, u8>,
    others: Drops,
    carried: Drops,
}

#[derive(Debug)]
struct Row {
    topic: Bytes,
    /// Deliveries of the topic that wait in the store alone.
    waiting: usize,
    dropped: Drops,
}

impl Topics {
    /// The row of a topic; it gets one if there is room.
    fn row(&mut self, topic: &[u8]) -> u8 {
        if let Some(row) = self.by_name.get(topic) {
            return *row;
        }
        let idle = |row: &Row| row.waiting == 0 && row.dropped == Drops::default();
        let at = if self.rows.len() < MAX_TOPICS {
            self.rows.len()
        } else {
            match self.rows.iter().position(idle) {
                Some(at) => at,
                None => return OTHERS,
            }
        };
        let topic = Bytes::copy_from_slice(topic);
        let row = Row {
            topic: topic.clone(),
            waiting: 0,
            dropped: Drops::default(),
        };
        match self.rows.get_mut(at) {
            Some(old) => {
                self.by_name.remove(&old.topic);
                *old = row;
            }
            None => self.rows.push(row),
        }
        let at = u8::try_from(at).expect("at most a hundred");
        self.by_name.insert(topic, at);
        at
    }

    /// The row of a topic of which one more waits.
    fn wait(&mut self, topic: &[u8]) -> u8 {
        let row = self.row(topic);
        if let Some(row) = self.rows.get_mut(usize::from(row)) {
            row.waiting += 1;
        }
        row
    }

    fn leave(&mut self, row: u8) {
        if let Some(row) = self.rows.get_mut(usize::from(row)) {
            row.waiting -= 1;
        }
    }

    fn dropped(&mut self, row: u8) -> &mut Drops {
        match row {
            CARRIED => &mut self.carried,
            row => match self.rows.get_mut(usize::from(row)) {
                Some(row) => &mut row.dropped,
                None => &mut self.others,
            },
        }
    }

    /// Topics that lost something, by name; then the others, and those of what was carried, under a name that is no topic's.
    pub(crate) fn report(&self) -> Vec<TopicDrops> {
        let named = self.rows.iter().map(|row| TopicDrops {
            topic: String::from_utf8_lossy(&row.topic).into_owned(),
            dropped: row.dropped,
        });
        let mut named: Vec<_> = named.collect();
        named.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        for (name, dropped) in [("# others", self.others), ("# before the start", self.carried)] {
            named.push(TopicDrops {
                topic: name.to_owned(),
                dropped,
            });
        }
        named.retain(|row| row.dropped != Drops::default());
        named
    }
}

/// What a link lost of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDrops {
    /// The topic; `# others` and `# before the start` are none.
    pub topic: String,
    /// How much by reason, in the order of [`DropReason::ALL`].
    pub dropped: Drops,
}

/// What waits in one lane of a link's queue, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Row of the topic, one for each.
    rows: VecDeque<u8>,
    slices: VecDeque<Slice>,
}

/// So many that came one after the other, between two times.
#[derive(Debug)]
struct Slice {
    first: u32,
    last: u32,
    count: usize,
}

impl Waiting {
    /// So many of which nothing is known but when they were found.
    pub(crate) fn carried(count: usize, since: u32) -> Self {
        Self {
            rows: std::iter::repeat_n(CARRIED, count).collect(),
            slices: VecDeque::from([Slice {
                first: since,
                last: since,
                count,
            }]),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn push(&mut self, topics: &mut Topics, topic: &[u8], since: u32, max_age: Duration) {
        self.rows.push_back(topics.wait(topic));
        let width = u32::try_from(max_age.as_secs() / 64).unwrap_or(u32::MAX);
        match self.slices.back_mut() {
            Some(slice) if since <= slice.first.saturating_add(width) => {
                slice.last = slice.last.max(since);
                slice.count += 1;
            }
            _ => self.slices.push_back(Slice {
                first: since,
                last: since,
                count: 1,
            }),
        }
        if self.slices.len() > MAX_SLICES {
            self.join_slices();
        }
    }

    /// What was taken out comes back in front of the others.
    pub(crate) fn put_back(&mut self, topics: &mut Topics, topic: &[u8], since: u32) {
        self.rows.push_front(topics.wait(topic));
        match self.slices.front_mut() {
            Some(slice) if slice.first <= since && since <= slice.last => slice.count += 1,
            _ => self.slices.push_front(Slice {
                first: since,
                last: since,
                count: 1,
            }),
        }
        if self.slices.len() > MAX_SLICES {
            self.join_slices();
        }
    }

    /// The oldest leaves: the row of its topic, and since when it waited at the latest.
    pub(crate) fn pop(&mut self, topics: &mut Topics) -> Option<(u8, u32)> {
        let row = self.rows.pop_front()?;
        topics.leave(row);
        let slice = self.slices.front_mut()?;
        slice.count -= 1;
        let since = slice.last;
        if slice.count == 0 {
            self.slices.pop_front();
        }
        Some((row, since))
    }

    /// Since when the oldest waits, at the earliest and at the latest.
    pub(crate) fn oldest(&self) -> Option<(u32, u32)> {
        self.slices.front().map(|slice| (slice.first, slice.last))
    }

    /// Two become one, which is as old as the younger: nothing is dropped too early.
    fn join_slices(&mut self) {
        let mut joined: VecDeque<Slice> = VecDeque::with_capacity(MAX_SLICES);
        for (n, slice) in self.slices.drain(..).enumerate() {
            match joined.back_mut().filter(|_| n % 2 == 1) {
                Some(before) => {
                    before.first = before.first.min(slice.first);
                    before.last = before.last.max(slice.last);
                    before.count += slice.count;
                }
                None => joined.push_back(slice),
            }
        }
        self.slices = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_hundred_topics_are_counted_apart_and_the_rest_together() {
        let mut ledger = Ledger::default();
        for n in 0..150 {
            let topic = format!("t/{n:03}");
            ledger.drop(DropReason::QueueFull, Qos::AtLeastOnce, topic.as_bytes());
        }
        let rows = ledger.topics.report();
        assert_eq!(rows.len(), 101);
        assert_eq!(
            (rows[0].topic.as_str(), rows[100].topic.as_str()),
            ("t/000", "# others")
        );
        assert_eq!(rows[100].dropped[DropReason::QueueFull as usize], 50);
        assert_eq!(ledger.dropped.iter().sum::<u64>(), 150);
    }

    #[test]
    fn a_topic_that_lost_nothing_makes_room() {
        let mut ledger = Ledger::default();
        let mut waiting = Waiting::default();
        for n in 0..100 {
            waiting.push(&mut ledger.topics, format!("t/{n}").as_bytes(), 1, HOUR);
        }
        ledger.drop(DropReason::Expired, Qos::AtLeastOnce, b"late");
        waiting.pop(&mut ledger.topics);
        ledger.drop(DropReason::Expired, Qos::AtLeastOnce, b"later");
        let names: Vec<_> = ledger.topics.report().into_iter().map(|row| row.topic).collect();
        assert_eq!(names, ["later", "# others"], "t/0 waits no more");
    }

    /// An age may be told too low, by a 64th of the limit, or more when far more waits than the limit allows; never too high.
    #[test]
    fn ages_are_never_told_too_high() {
        let (mut topics, mut waiting) = (Topics::default(), Waiting::default());
        for since in 0..50_000 {
            waiting.push(&mut topics, b"t", since, HOUR);
            assert!(waiting.slices.len() <= MAX_SLICES);
        }
        for since in 0..50_000 {
            let (_, latest) = waiting.pop(&mut topics).unwrap();
            assert!(latest >= since, "{latest} {since}");
        }
        assert_eq!((waiting.len(), waiting.oldest()), (0, None));
        assert_eq!(topics.rows[0].waiting, 0);
    }

    #[test]
    fn what_comes_back_is_the_oldest_again() {
        let (mut topics, mut waiting) = (Topics::default(), Waiting::default());
        for since in [10, 20, 30] {
            waiting.push(&mut topics, b"t", since, Duration::ZERO);
        }
        let (_, since) = waiting.pop(&mut topics).unwrap();
        waiting.put_back(&mut topics, b"t", since);
        assert_eq!(waiting.oldest(), Some((10, 10)));
        assert_eq!(waiting.len(), 3);
    }
}
