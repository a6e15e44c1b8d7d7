//! How many messages the bus may hand over: as many as are taken, or as a token bucket has.
//!
//! Always true: what is granted and not yet taken, and what is in the bucket, are together no more than the burst. Without room there is no deadline.

use crate::settings::RateSettings;
use headgate_model::Instant;
use std::time::Duration;

/// Deliveries that the bus may hand over before more are granted, without a rate.
const CREDIT: u32 = 1_024;
/// Parts of a message that the bucket counts in: a rate of one a second fills one part in a millisecond.
const PARTS: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Grants {
    pace: Pace,
    /// Granted and not yet taken.
    outstanding: u32,
    limit: Option<u32>,
}

#[derive(Debug)]
enum Pace {
    AsTaken,
    Bucket(Bucket),
}

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    burst: u32,
    /// In parts.
    level: u64,
    filled_at: Instant,
}

impl Grants {
    pub(crate) fn new(rate: Option<RateSettings>, now: Instant) -> Self {
        let bucket = |rate: RateSettings| Bucket {
            per_second: rate.messages_per_second.into(),
            burst: rate.burst,
            level: u64::from(rate.burst) * PARTS,
            filled_at: now,
        };
        Self {
            pace: rate.map_or(Pace::AsTaken, |rate| Pace::Bucket(bucket(rate))),
            outstanding: 0,
            limit: None,
        }
    }

    /// The bus has handed one over.
    pub(crate) fn taken(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// No more than this shall be outstanding from now on.
    pub(crate) fn limit(&mut self, limit: Option<u32>) {
        self.limit = limit;
    }

    /// What is to be granted now.
    pub(crate) fn grant(&mut self, now: Instant) -> u32 {
        let room = self.room();
        let granted = match &mut self.pace {
            Pace::AsTaken => room,
            Pace::Bucket(bucket) => bucket.take(room, self.outstanding, now),
        };
        self.outstanding += granted;
        granted
    }

    /// When there is more to grant.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.pace {
            Pace::Bucket(bucket) if self.room() > 0 => Some(bucket.due()),
            _ => None,
        }
    }

    fn room(&self) -> u32 {
        let most = match &self.pace {
            Pace::AsTaken => CREDIT,
            Pace::Bucket(bucket) => bucket.burst,
        };
        let most = self.limit.map_or(most, |limit| limit.min(most));
        most.saturating_sub(self.outstanding)
    }
}

impl Bucket {
    fn take(&mut self, room: u32, outstanding: u32, now: Instant) -> u32 {
        let passed = u64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(u64::MAX);
        self.filled_at = now;
        let filled = self.level.saturating_add(passed.saturating_mul(self.per_second));
        let full = u64::from(self.burst.saturating_sub(outstanding)) * PARTS;
        self.level = filled.min(full);
        let whole = u32::try_from(self.level / PARTS).unwrap_or(u32::MAX).min(room);
        self.level -= u64::from(whole) * PARTS;
        whole
    }

    fn due(&self) -> Instant {
        let missing = PARTS.saturating_sub(self.level).div_ceil(self.per_second);
        self.filled_at + Duration::from_millis(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(messages_per_second: u32, burst: u32) -> Grants {
        let rate = RateSettings {
            messages_per_second,
            burst,
        };
        Grants::new(Some(rate), Instant(0))
    }

    #[test]
    fn after_the_burst_messages_are_granted_one_by_one() {
        let mut grants = bucket(2, 3);
        assert_eq!(grants.grant(Instant(0)), 3);
        assert_eq!(grants.due(), None, "nothing was taken");
        grants.taken();
        assert_eq!(grants.grant(Instant(0)), 0);
        assert_eq!(grants.due(), Some(Instant(500)));
        assert_eq!(grants.grant(Instant(499)), 0);
        assert_eq!(grants.grant(Instant(500)), 1);
    }

    #[test]
    fn a_pause_is_worth_no_more_than_the_burst() {
        let mut grants = bucket(1_000, 5);
        assert_eq!(grants.grant(Instant(0)), 5);
        (0..5).for_each(|_| grants.taken());
        assert_eq!(grants.grant(Instant(3_600_000)), 5);
        assert_eq!(grants.grant(Instant(3_600_001)), 0);
    }
}
