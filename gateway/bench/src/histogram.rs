//! A histogram of durations and the timetable of an open loop.
//!
//! Always true: a duration is off by at most one part in 64; nothing is allocated after `new`.
//!
//! A load generator that waits for a slow broker before it sends again leaves out the very messages that would
//! have waited longest ("coordinated omission"). In an open loop the latency of a message therefore starts when
//! the [`Timetable`] wanted it sent, not when it was sent.

/// Values below `FINE` have a bucket each; above, every doubling has `FINE` buckets.
const FINE: u64 = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();
const BUCKETS: usize = ((64 - FINE_BITS as usize) + 1) * FINE as usize;

/// How often each duration was seen, in nanoseconds.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
            max: 0,
        }
    }

    /// Adds one.
    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max = 0;
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The longest.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// A duration that `share` (0 to 1) of all do not exceed; zero if there are none.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[inline]
fn bucket(value: u64) -> usize {
    if value < FINE {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - FINE_BITS;
    (u64::from(shift + 1) * FINE + ((value >> shift) - FINE)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    let above = u128::from(bucket % FINE + FINE + 1) << shift;
    u64::try_from(above - 1).unwrap_or(u64::MAX)
}

/// When each message of an open loop is due: the `n`-th `n / rate` seconds after the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timetable {
    start: u64,
    per_second: f64,
}

impl Timetable {
    /// From `start` in nanoseconds, so many messages a second.
    pub(super) fn new(start: u64, per_second: f64) -> Self {
        Self { start, per_second }
    }

    /// When the message with this number is due, in nanoseconds.
    #[inline]
    pub(super) fn due(&self, number: u64) -> u64 {
        self.start + (number as f64 * 1e9 / self.per_second) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_is_at_most_one_part_in_64_wide() {
        let mut values: Vec<u64> = (0..64)
            .flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, (1 << bit) + 1])
            .collect();
        values.extend([u64::MAX, 999_999_937, 123_456_789_012]);
        for value in values {
            let top = upper(bucket(value));
            assert!(top >= value && top - value <= value / 64, "{value}: {top}");
            assert!(bucket(value) < BUCKETS);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(0.5), 0);
        for micros in 1..=1_000 {
            histogram.record(micros * 1_000);
        }
        for (share, exact) in [
            (0.5, 500_000),
            (0.99, 990_000),
            (0.999, 999_000),
            (1.0, 1_000_000),
        ] {
            let found = histogram.percentile(share);
            assert!(found >= exact && found - exact <= exact / 64, "{share}: {found}");
        }
        assert_eq!((histogram.max(), histogram.total()), (1_000_000, 1_000));
        histogram.clear();
        assert_eq!((histogram.max(), histogram.total()), (0, 0));
    }

    /// A broker that stands still for a second at 1,000 messages/s has delayed a thousand messages, not one.
    #[test]
    fn a_standstill_is_seen_by_every_message_that_was_due_in_it() {
        const MS: u64 = 1_000_000;
        let timetable = Timetable::new(0, 1_000.0);
        let (mut from_due, mut from_sent) = (Histogram::new(), Histogram::new());
        for number in 0..10_000 {
            let due = timetable.due(number);
            assert_eq!(due, number * MS);
            // From 4 s to 5 s nothing moves: one outstanding message waits and holds the others back.
            let still = (4_000 * MS..5_000 * MS).contains(&due);
            let answered = if still { 5_000 * MS } else { due } + MS / 10;
            from_due.record(answered - due);
            from_sent.record(if due == 4_000 * MS { 1_000 * MS } else { MS / 10 });
        }
        assert!(from_sent.percentile(0.999) < MS, "the one slow message hides");
        let p95 = from_due.percentile(0.95);
        assert!((490 * MS..520 * MS).contains(&p95), "{p95}");
        assert!(from_due.percentile(0.999) > 980 * MS);
    }
}
