//! Time is a number that is handed in: nothing in the pure crates reads a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since the gateway started. Monotonic; eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The start of the gateway.
    pub const START: Self = Self(0);

    /// Time from `earlier` until `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// Milliseconds since 1970 in UTC. Only what must outlive a restart is kept as wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

impl WallTime {
    /// The wall time at `at`, given the wall time of [`Instant::START`].
    pub fn of(at: Instant, epoch: Self) -> Self {
        Self(epoch.0.saturating_add(at.0))
    }

    /// The instant of this wall time, given the wall time of [`Instant::START`]. What lies before the start is the start.
    pub fn to_instant(self, epoch: Self) -> Instant {
        Instant(self.0.saturating_sub(epoch.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_survives_a_restart_with_another_start() {
        let first_start = WallTime(1_000_000);
        let deadline = WallTime::of(Instant(5_000), first_start);
        assert_eq!(deadline.to_instant(WallTime(1_002_000)), Instant(3_000));
        assert_eq!(
            deadline.to_instant(WallTime(2_000_000)),
            Instant::START,
            "already over"
        );
    }
}
