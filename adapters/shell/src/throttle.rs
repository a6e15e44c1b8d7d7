//! How fast one client may send. One that is faster is read more slowly; nothing of it is dropped.

use headgate_model::Instant;

/// What one client of a listener, or several together, may send in the long run, and at once. Zero: no limit; a burst of zero is what may come in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientRate {
    /// Bytes a second in the long run.
    pub bytes_per_second: u32,
    /// Bytes at once.
    pub burst_bytes: u32,
    /// Packets a second in the long run.
    pub packets_per_second: u32,
    /// Packets at once.
    pub burst_packets: u32,
}

/// What one client has sent.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes: Flow,
    packets: Flow,
}

/// A token bucket (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Flow {
    per_second: u32,
    burst: u32,
    /// When all that came would have come at the steady rate, in microseconds.
    steady: u64,
}

impl Throttle {
    /// `None` where there is no limit.
    pub(crate) fn new(rate: ClientRate) -> Option<Box<Self>> {
        let limited = rate.bytes_per_second > 0 || rate.packets_per_second > 0;
        limited.then(|| {
            Box::new(Self {
                bytes: Flow::new(rate.bytes_per_second, rate.burst_bytes),
                packets: Flow::new(rate.packets_per_second, rate.burst_packets),
            })
        })
    }

    pub(crate) fn took_bytes(&mut self, n: usize, now: Instant) {
        self.bytes.take(n as u64, now);
    }

    pub(crate) fn took_packet(&mut self, now: Instant) {
        self.packets.take(1, now);
    }

    /// When the client is read again; `None` while it is.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        self.bytes.until(now).max(self.packets.until(now))
    }
}

/// How long so many take at this rate, in microseconds.
pub(crate) fn span(n: u64, per_second: u32) -> u64 {
    n.saturating_mul(1_000_000) / u64::from(per_second.max(1))
}

impl Flow {
    fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second,
            burst: if burst == 0 { per_second } else { burst },
            steady: 0,
        }
    }

    fn take(&mut self, n: u64, now: Instant) {
        if self.per_second > 0 {
            let begun = self.steady.max(now.0.saturating_mul(1_000));
            self.steady = begun.saturating_add(span(n, self.per_second));
        }
    }

    fn until(&self, now: Instant) -> Option<Instant> {
        let free = self
            .steady
            .saturating_sub(span(self.burst.into(), self.per_second));
        // Not before the whole millisecond is over, or it would be asked again at once.
        let at = Instant(free.div_ceil(1_000));
        (self.per_second > 0 && at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes_per_second: u32, burst_bytes: u32, packets_per_second: u32) -> ClientRate {
        ClientRate {
            bytes_per_second,
            burst_bytes,
            packets_per_second,
            burst_packets: 1,
        }
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_keep() {
        assert!(Throttle::new(ClientRate::default()).is_none());
    }

    /// As fast as it can: a burst, and then the steady rate, whatever the sizes of what comes.
    #[test]
    fn in_the_long_run_it_is_the_steady_rate() {
        for piece in [1, 100, 1_000, 65_536] {
            let mut throttle = Throttle::new(rate(10_000, 5_000, 0)).unwrap();
            let (mut now, mut sent) = (Instant(7_000), 0);
            while now < Instant(107_000) {
                match throttle.until(now) {
                    Some(at) => now = at,
                    None => {
                        throttle.took_bytes(piece, now);
                        sent += piece;
                    }
                }
            }
            let steady = 100 * 10_000 + 5_000;
            assert!(
                (steady - piece - 100..=steady + 2 * piece).contains(&sent),
                "{piece}: {sent}"
            );
        }
    }

    /// Who was silent for long may send one burst, not all that it might have sent.
    #[test]
    fn silence_saves_up_one_burst() {
        let mut throttle = Throttle::new(rate(1_000, 500, 0)).unwrap();
        throttle.took_bytes(10, Instant(0));
        throttle.took_bytes(500, Instant(1_000_000));
        assert_eq!(throttle.until(Instant(1_000_000)), None);
        throttle.took_bytes(500, Instant(1_000_000));
        assert_eq!(throttle.until(Instant(1_000_000)), Some(Instant(1_000_500)));
    }

    #[test]
    fn packets_are_counted_too() {
        let mut throttle = Throttle::new(rate(0, 0, 10)).unwrap();
        throttle.took_packet(Instant(0));
        assert_eq!(throttle.until(Instant(0)), None);
        throttle.took_packet(Instant(0));
        assert_eq!(throttle.until(Instant(0)), Some(Instant(100)));
        assert_eq!(throttle.until(Instant(100)), None);
    }
}
