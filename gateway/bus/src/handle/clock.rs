//! The clock of the gateway.

use headgate_model::{Instant, WallTime};
use std::time::{Duration, SystemTime};

/// The clock of the gateway: the only place where the bus's world reads the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
    epoch: WallTime,
}

impl Clock {
    /// A clock that starts now, at the system's time.
    pub fn start() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self::start_at(WallTime(
            u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
        ))
    }

    /// A clock that starts now, at this time.
    pub fn start_at(epoch: WallTime) -> Self {
        Self {
            start: std::time::Instant::now(),
            epoch,
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Wall time at the start.
    pub fn epoch(&self) -> WallTime {
        self.epoch
    }

    /// Wall time now, as the start and the monotonic clock have it.
    pub fn wall(&self) -> WallTime {
        WallTime::of(self.now(), self.epoch)
    }

    /// The system's instant for one of ours, for timers.
    pub fn to_system(&self, at: Instant) -> std::time::Instant {
        self.start + Duration::from_millis(at.0)
    }
}
