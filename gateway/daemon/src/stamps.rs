//! The clock that messages are stamped by, where `bus.stamp` wants that: the system's while it is believed, else the gateway's own, which goes on from the last time that was.

use crate::config::Config;
use crate::timekeeping;
use crate::timeline::{ClockState, EARLIEST};
use headgate_bus::handle::Hub;
use headgate_bus::{ClockQuality, StampClock};
use headgate_model::WallTime;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::interval;

/// How often the clocks are looked at: in between, the monotonic clock moves the time.
const LOOK: Duration = Duration::from_secs(1);

/// Tells the bus what the clock says, and how good that is.
pub(crate) struct Stamps {
    pub(crate) hub: Hub,
    /// Whether the system's clock is believed.
    pub(crate) clock: Arc<ClockState>,
    pub(crate) config: watch::Receiver<Arc<Config>>,
}

impl Stamps {
    /// As it is now, where it is wanted.
    pub(crate) fn look(&self) {
        let wanted = self.config.borrow().bus.stamp;
        let clock = wanted.then(|| self.now());
        self.hub.set_stamp_clock(clock);
    }

    /// Looks again and again, where it is wanted.
    pub(crate) async fn keep(mut self) {
        let mut look = interval(LOOK);
        loop {
            self.look();
            let wanted = self.config.borrow_and_update().bus.stamp;
            tokio::select! {
                _ = look.tick(), if wanted => {}
                changed = self.config.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }

    fn now(&self) -> StampClock {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let system = u64::try_from(system.as_millis()).unwrap_or(u64::MAX);
        let untrusted = self.clock.is_untrusted();
        let quality = quality(timekeeping::is_synchronized(), untrusted, system);
        let clock = self.hub.clock();
        let epoch = match quality {
            ClockQuality::Floor => clock.epoch(),
            ClockQuality::Synchronized | ClockQuality::Set => WallTime(system.saturating_sub(clock.now().0)),
        };
        StampClock { epoch, quality }
    }
}

/// How good the system's clock is: who keeps it right knows better than what was seen of it.
fn quality(is_synchronized: bool, is_untrusted: bool, system: u64) -> ClockQuality {
    match (is_synchronized, is_untrusted) {
        _ if system < EARLIEST => ClockQuality::Floor,
        (true, _) => ClockQuality::Synchronized,
        (false, true) => ClockQuality::Floor,
        (false, false) => ClockQuality::Set,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_as_good_as_who_keeps_it() {
        let now = EARLIEST + 1;
        assert_eq!(quality(true, false, now), ClockQuality::Synchronized);
        assert_eq!(quality(false, false, now), ClockQuality::Set);
        assert_eq!(quality(false, true, now), ClockQuality::Floor);
        // A time service has set it right since it was found wrong at the start.
        assert_eq!(quality(true, true, now), ClockQuality::Synchronized);
        // No clock that is right says this, whoever keeps it.
        assert_eq!(quality(true, false, 10_000), ClockQuality::Floor);
    }
}
