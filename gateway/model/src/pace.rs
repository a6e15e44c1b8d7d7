//! How fast something may happen: so many a second in the long run, so many at once. The generic cell rate algorithm, ITU-T I.371.

use crate::Instant;

/// What one client has used of a rate. Eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// When all that it did would have been done at the rate that it may have, in microseconds.
    steady: u64,
}

impl Pace {
    /// Takes one more, or not: so many a second, 0 for any number; so many at once, 0 for as many as in a second.
    pub fn take(&mut self, per_second: u32, burst: u32, now: Instant) -> bool {
        if per_second == 0 {
            return true;
        }
        let burst = if burst == 0 { per_second } else { burst };
        let (now, span) = (now.0.saturating_mul(1_000), 1_000_000 / u64::from(per_second));
        let begun = self.steady.max(now);
        if begun - now > span.saturating_mul(u64::from(burst - 1)) {
            return false;
        }
        self.steady = begun + span;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut pace = Pace::default();
        let taken = |pace: &mut Pace, ms| (0..20).filter(|_| pace.take(10, 5, Instant(ms))).count();
        assert_eq!(taken(&mut pace, 1_000), 5);
        assert_eq!(taken(&mut pace, 1_100), 1);
        assert_eq!(taken(&mut pace, 1_300), 2);
        assert_eq!(taken(&mut pace, 9_000), 5);
        assert!((0..1_000).all(|_| pace.take(0, 0, Instant(9_000))));
    }
}
