//! Messages that come by more than one link. MQTT 3 carries nothing by which one that has been here is known again, so copies are counted: of each
//! message, by topic and payload, those that came in by each link, those that went out from local publishers, and those that went out late.
//!
//! Always true: the n-th copy by one way is the n-th message, whichever way it comes by first. So messages that repeat are all kept, each once, and two
//! copies of one message by two ways are one. When a message has been known for the window, ways that did not bring it are taken to never will.
//!
//! Whoever brings a copy is told that it is safe, so it may only be a copy of a message that promises as much. Messages are counted apart by what
//! they promise: their QoS, and whether they are retained. Of each way, every copy has a routed message of its own with at least its QoS, and with
//! RETAIN if it has it.

use hashbrown::HashMap;
use headgate_model::{Instant, Message, Qos, SessionId};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

/// Messages remembered at most; then the oldest are forgotten before their time.
const MAX_MESSAGES: usize = 65_536;
/// Equal messages within one window. A broker that counts nothing itself may send what it got from us back by way of another, and then each round
/// looks like one message more.
const MAX_REPEATS: u64 = 100;
/// Ways of one message that are kept before those that say nothing are left out.
const MANY_WAYS: usize = 16;

/// How a copy came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It was published here, and goes out by a link.
    Local,
    /// It came in by a link.
    In(SessionId),
    /// It goes out by a link long after it was published: retained, or from a queue.
    Out(SessionId),
}

/// What is promised to whoever publishes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Promise {
    qos: Qos,
    retain: bool,
}

impl Promise {
    /// It, and all that promise more.
    fn and_more(self) -> impl Iterator<Item = Self> {
        let retain = [self.retain, true];
        let flags = retain.into_iter().take(if self.retain { 1 } else { 2 });
        flags.flat_map(move |retain| {
            let levels = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter();
            levels
                .filter(move |qos| *qos >= self.qos)
                .map(move |qos| Self { qos, retain })
        })
    }
}

/// A topic and payload, and a promise.
type Key = (u64, Promise);

/// A copy of a message that may come by another way too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    pub way: Way,
    hash: u64,
    promise: Promise,
    /// Somebody subscribed to it.
    matched: bool,
}

/// See [`Duplicates::judge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The first of its message.
    New,
    /// Its message was known already; somebody had subscribed to it, or nobody.
    Known { matched: bool },
    /// Nothing repeats so often but what goes round.
    TooMany,
}

#[derive(Debug)]
pub(crate) struct Duplicates {
    window: Duration,
    seed: u64,
    /// Looked up, never iterated.
    seen: HashMap<Key, Seen>,
    /// When each message was first seen, of all that are not over.
    first: VecDeque<(Instant, Key)>,
}

/// Messages of one topic, payload and promise. Always true: `passed <= newest`, and as many as lie between are in `first`.
#[derive(Debug, Default)]
struct Seen {
    /// So many are over: nobody waits for a copy of them.
    passed: u64,
    /// The number of the newest.
    newest: u64,
    /// The number of the newest that came by each way; `passed` or less says nothing.
    ways: Vec<(Way, u64)>,
    /// Somebody subscribed to the newest.
    matched: bool,
}

impl Seen {
    fn next(&self, way: Way) -> u64 {
        let known = self.ways.iter().find(|(other, _)| *other == way);
        known.map_or(0, |(_, number)| *number).max(self.passed) + 1
    }
}

impl Duplicates {
    /// Seeded, so that nobody can make two messages look like one.
    pub(crate) fn new(window: Duration, seed: u64) -> Self {
        Self {
            window,
            seed,
            seen: HashMap::new(),
            first: VecDeque::new(),
        }
    }

    /// Zero for nothing that is counted.
    pub(crate) fn set_window(&mut self, window: Duration) {
        if window.is_zero() {
            self.seen.clear();
            self.first.clear();
        }
        self.window = window;
    }

    pub(crate) fn window(&self) -> Duration {
        self.window
    }

    /// `matched`: somebody subscribed to it.
    pub(crate) fn copied(&self, message: &Message, way: Way, matched: bool) -> Copied {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(message.topic.as_bytes());
        hasher.write_u8(0xff); // no topic holds it
        hasher.write(&message.payload);
        let Message { qos, retain, .. } = *message;
        Copied {
            way,
            hash: hasher.finish(),
            promise: Promise { qos, retain },
            matched,
        }
    }

    /// The store failed, and with it what was promised of messages that were routed: whatever comes from now on is new.
    pub(crate) fn clear(&mut self) {
        self.seen.clear();
        self.first.clear();
    }

    /// The messages that a copy is one of: with its promise, or with more.
    fn known(&self, copied: Copied) -> Option<(Key, &Seen)> {
        let mut keys = copied.promise.and_more().map(|promise| (copied.hash, promise));
        keys.find_map(|key| {
            let seen = self.seen.get(&key)?;
            (seen.next(copied.way) <= seen.newest).then_some((key, seen))
        })
    }

    /// What a copy is that came in.
    pub(crate) fn judge(&mut self, copied: Copied, now: Instant) -> Verdict {
        self.forget(now);
        if let Some((_, seen)) = self.known(copied) {
            let matched = seen.matched;
            return Verdict::Known { matched };
        }
        let seen = self.seen.get(&(copied.hash, copied.promise));
        match seen.map(|seen| seen.next(copied.way) - seen.passed) {
            Some(repeats) if repeats > MAX_REPEATS => Verdict::TooMany,
            _ => Verdict::New,
        }
    }

    pub(crate) fn count(&mut self, copied: Copied, now: Instant) {
        self.forget(now);
        let known = self.known(copied).map(|(key, _)| key);
        let key = known.unwrap_or((copied.hash, copied.promise));
        let seen = self.seen.entry(key).or_default();
        let number = seen.next(copied.way);
        match seen.ways.iter_mut().find(|(way, _)| *way == copied.way) {
            Some((_, last)) => *last = number,
            None => {
                if seen.ways.len() >= MANY_WAYS {
                    let passed = seen.passed;
                    seen.ways.retain(|(_, last)| *last > passed);
                }
                seen.ways.push((copied.way, number));
            }
        }
        if number > seen.newest {
            seen.newest = number;
            seen.matched = copied.matched;
            self.first.push_back((now, key));
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.first.front().copied() {
            if self.first.len() <= MAX_MESSAGES && at + self.window > now {
                return;
            }
            self.first.pop_front();
            if let Some(seen) = self.seen.get_mut(&key) {
                seen.passed += 1;
                if seen.passed == seen.newest {
                    self.seen.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_model::Topic;

    const A: Way = Way::In(SessionId(1));
    const B: Way = Way::In(SessionId(2));

    struct Bench(Duplicates, Instant);

    impl Bench {
        fn new() -> Self {
            Self(Duplicates::new(Duration::from_secs(5), 7), Instant(0))
        }

        /// Whether a copy of `payload` is the first of its message.
        fn is_new(&mut self, payload: &str, way: Way) -> bool {
            self.is_new_at(payload, 0, false, way)
        }

        fn is_new_at(&mut self, payload: &str, qos: u8, retain: bool, way: Way) -> bool {
            let topic = Topic::try_from("t").unwrap();
            let message = Message {
                qos: Qos::from_u8(qos).unwrap(),
                retain,
                ..Message::new(topic, payload.to_owned())
            };
            let copied = self.0.copied(&message, way, true);
            let verdict = self.0.judge(copied, self.1);
            if verdict != Verdict::TooMany {
                self.0.count(copied, self.1);
            }
            verdict == Verdict::New
        }
    }

    #[test]
    fn the_second_way_brings_nothing_new() {
        let mut bench = Bench::new();
        assert!(bench.is_new("x", A) && !bench.is_new("x", B));
        assert!(bench.is_new("y", B) && !bench.is_new("y", A));
    }

    #[test]
    fn a_copy_that_promises_more_is_never_suppressed() {
        let way = |n| Way::In(SessionId(n));
        for (first, second) in [
            ((0, false), (1, false)),
            ((1, false), (2, false)),
            ((2, false), (0, true)),
        ] {
            let mut bench = Bench::new();
            assert!(bench.is_new_at("x", first.0, first.1, A));
            assert!(
                bench.is_new_at("x", second.0, second.1, B),
                "{first:?} {second:?}"
            );
            assert!(!bench.is_new_at("x", second.0, second.1, way(3)));
        }
        let mut bench = Bench::new();
        assert!(bench.is_new_at("x", 0, true, A) && bench.is_new_at("x", 1, false, B));
        assert!(
            bench.is_new_at("x", 1, true, way(3)),
            "neither is retained at QoS 1"
        );
    }

    /// Nor is a copy of a way suppressed for the sake of a message that another copy of that way stands for.
    #[test]
    fn a_copy_that_promises_less_is_one_of_a_message_that_promises_more() {
        let mut bench = Bench::new();
        assert!(bench.is_new_at("x", 1, true, A) && bench.is_new_at("x", 1, true, A));
        assert!(!bench.is_new_at("x", 0, false, B) && !bench.is_new_at("x", 1, false, B));
        assert!(bench.is_new_at("x", 0, false, B), "the third of its way");
    }

    /// Copies of different messages overtake each other.
    #[test]
    fn what_is_as_it_was_is_told_apart() {
        let mut bench = Bench::new();
        assert!(bench.is_new_at("x", 0, false, A) && bench.is_new_at("x", 1, false, B));
        assert!(!bench.is_new_at("x", 1, false, A) && !bench.is_new_at("x", 0, false, B));
    }

    #[test]
    fn repeated_messages_are_kept_each_once_whatever_the_order() {
        let mut bench = Bench::new();
        let news: Vec<bool> = [A, A, B, B, B, A, B, A]
            .into_iter()
            .map(|way| bench.is_new("x", way))
            .collect();
        assert_eq!(news, [true, true, false, false, true, false, true, false]);
    }

    #[test]
    fn what_was_published_here_is_known() {
        let mut bench = Bench::new();
        bench.is_new("x", Way::Local);
        assert!(!bench.is_new("x", A) && !bench.is_new("x", B));
        assert!(bench.is_new("x", A), "it was published once");
    }

    /// A message every second that comes by two ways, for long: the window ends in between.
    #[test]
    fn the_end_of_the_window_lets_nothing_through() {
        let mut bench = Bench::new();
        for n in 0..1_000 {
            bench.1 = Instant(n * 1_000);
            assert!(bench.is_new("x", A), "{n}");
            bench.1 = Instant(n * 1_000 + 900);
            assert!(!bench.is_new("x", B), "{n}");
        }
    }

    /// What one way did not bring is not expected of it any more when the window is over.
    #[test]
    fn a_way_that_missed_some_catches_up() {
        let mut bench = Bench::new();
        for _ in 0..10 {
            assert!(bench.is_new("x", A));
        }
        bench.1 = Instant(4_000);
        assert!(bench.is_new("x", A));
        assert!(!bench.is_new("x", B));
        bench.1 = Instant(8_000);
        assert!(!bench.is_new("x", B), "the one that came at 4 s");
        assert!(bench.is_new("x", B), "A does not bring it");
        bench.1 = Instant(20_000);
        assert!(bench.is_new("x", B));
        bench.1 = Instant(30_000);
        bench.0.forget(bench.1);
        assert!(bench.0.seen.is_empty() && bench.0.first.is_empty());
    }

    #[test]
    fn what_goes_round_comes_to_an_end() {
        let mut bench = Bench::new();
        let rounds = (0..1_000).filter(|_| bench.is_new("x", A)).count();
        assert_eq!(rounds as u64, MAX_REPEATS);
        bench.1 = Instant(6_000);
        assert!(bench.is_new("x", A));
    }

    #[test]
    fn the_memory_has_a_bound() {
        let mut bench = Bench::new();
        for n in 0..MAX_MESSAGES + 100 {
            assert!(bench.is_new(&n.to_string(), A));
        }
        assert!(bench.0.first.len() <= MAX_MESSAGES + 1 && bench.0.seen.len() <= MAX_MESSAGES + 1);
        for n in 0..100 {
            bench.is_new("same", Way::In(SessionId(n)));
            bench.1 = bench.1 + Duration::from_secs(6);
            bench.is_new("same", A);
        }
        let most = bench.0.seen.values().map(|seen| seen.ways.len()).max();
        assert!(most <= Some(MANY_WAYS), "{most:?}");
    }
}
