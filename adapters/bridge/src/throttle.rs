//! Fewer messages than there are: of each topic the last value from time to time, or so many a minute.
//!
//! Always true: a value that waits is superseded by the next of its topic, or goes out when its time comes; more than the bound never wait, for the
//! one whose time comes first goes out early; what was once on its way to the remote is not throttled.

use crate::topics::Throttle;
use headgate_model::{Delivery, Instant, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Topics whose last time is remembered, of all rules; beyond that the one that is free soonest is forgotten.
const MAX_TOPICS: usize = 10_000;
/// Values that may wait: they take up places in the window of the session.
const MAX_WAITING: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Throttles {
    minutes: BTreeMap<usize, Minute>,
    /// When a topic of a rule may go out again.
    free_at: BTreeMap<(usize, Topic), Instant>,
    quiet: BTreeSet<Turn>,
    waiting: BTreeMap<Turn, (Duration, Delivery)>,
}

/// In the order of time.
type Turn = (Instant, usize, Topic);

/// What becomes of a delivery.
#[derive(Debug)]
pub(crate) enum Offered {
    /// It goes out now.
    Send(Delivery),
    /// It is one too many.
    Drop(Delivery),
    /// It waits, in the place of another perhaps.
    Waits(Option<Delivery>),
}

/// A token bucket that is filled in a minute.
#[derive(Debug)]
struct Minute {
    /// Of 60,000 parts to a message.
    level: u64,
    filled_at: Instant,
}

const PARTS: u64 = 60_000;

impl Throttles {
    pub(crate) fn offer(
        &mut self,
        rule: usize,
        throttle: Throttle,
        delivery: Delivery,
        now: Instant,
    ) -> Offered {
        match throttle {
            Throttle::PerMinute(n) => {
                let minute = self.minutes.entry(rule).or_insert_with(|| Minute {
                    level: u64::from(n) * PARTS,
                    filled_at: now,
                });
                if minute.take(n, now) {
                    Offered::Send(delivery)
                } else {
                    Offered::Drop(delivery)
                }
            }
            Throttle::LastValueEvery(every) => self.offer_value(rule, every, delivery, now),
        }
    }

    fn offer_value(&mut self, rule: usize, every: Duration, delivery: Delivery, now: Instant) -> Offered {
        let topic = delivery.message.topic.compact();
        let known = self.free_at.get(&(rule, topic.clone())).copied();
        let Some(at) = known else {
            self.quiet_until(now + every, rule, topic);
            return Offered::Send(delivery);
        };
        let place = (at, rule, topic);
        if self.quiet.remove(&place) {
            if at <= now {
                self.quiet_until(now + every, rule, place.2);
                return Offered::Send(delivery);
            }
            self.waiting.insert(place, (every, delivery));
            return Offered::Waits(None);
        }
        let before = self.waiting.insert(place, (every, delivery));
        Offered::Waits(before.map(|(_, delivery)| delivery))
    }

    /// The next value whose time has come, or that must make room; `window` is how many the session may have under way.
    pub(crate) fn take_due(&mut self, window: u16, now: Instant) -> Option<Delivery> {
        let most = usize::from(window / 2).clamp(1, MAX_WAITING);
        let (at, ..) = self.waiting.first_key_value()?.0;
        if *at > now && self.waiting.len() <= most {
            return None;
        }
        let ((_, rule, topic), (every, delivery)) = self.waiting.pop_first()?;
        self.quiet_until(now + every, rule, topic);
        Some(delivery)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many wait that no queue has: those of QoS 0.
    pub(crate) fn volatile(&self) -> usize {
        let waiting = self.waiting.values();
        waiting.filter(|(_, delivery)| delivery.id.is_none()).count()
    }

    /// When the next value's time comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, ..), _)| *at)
    }

    fn quiet_until(&mut self, at: Instant, rule: usize, topic: Topic) {
        self.free_at.insert((rule, topic.clone()), at);
        self.quiet.insert((at, rule, topic));
        while self.free_at.len() > MAX_TOPICS {
            let Some((_, rule, topic)) = self.quiet.pop_first() else {
                return;
            };
            self.free_at.remove(&(rule, topic));
        }
    }
}

impl Minute {
    fn take(&mut self, n: u32, now: Instant) -> bool {
        let passed = u64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(u64::MAX);
        self.filled_at = now;
        let full = u64::from(n) * PARTS;
        self.level = self
            .level
            .saturating_add(passed.saturating_mul(n.into()))
            .min(full);
        let enough = self.level >= PARTS;
        self.level -= if enough { PARTS } else { 0 };
        enough
    }
}
