//! Which records came already. RFC 6347 §4.1.2.6

/// How many numbers below the highest are told apart.
const WIDTH: u64 = 64;

/// A sliding window over the sequence numbers of one epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    /// The highest number that came, plus one; 0: none came.
    next: u64,
    /// Bit n: whether `next - 1 - n` came.
    seen: u64,
}

impl Window {
    /// Whether a record may be looked at: it is neither too old nor was it there.
    pub(crate) fn is_new(&self, sequence: u64) -> bool {
        if sequence >= self.next {
            return true;
        }
        let back = self.next - 1 - sequence;
        back < WIDTH && self.seen & (1 << back) == 0
    }

    /// Remembers one that is authentic. Whether it is newer than all before.
    pub(crate) fn note(&mut self, sequence: u64) -> bool {
        if sequence >= self.next {
            let ahead = sequence + 1 - self.next;
            self.seen = if ahead >= WIDTH { 0 } else { self.seen << ahead };
            self.seen |= 1;
            self.next = sequence + 1;
            return true;
        }
        let back = self.next - 1 - sequence;
        if back < WIDTH {
            self.seen |= 1 << back;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_once_and_not_when_it_is_too_old() {
        let mut window = Window::default();
        assert!(window.is_new(0));
        assert!(window.note(0));
        assert!(!window.is_new(0));
        assert!(window.note(70));
        assert!(!window.is_new(6));
        assert!(window.is_new(7));
        assert!(!window.note(7));
        assert!(!window.is_new(7));
        assert!(window.is_new(8) && window.is_new(69));
        assert!(window.note(71));
        assert!(!window.is_new(70) && window.is_new(69) && !window.is_new(7));
        assert!(window.note(1000));
        assert!(!window.is_new(900) && window.is_new(999));
    }

    /// Against a list of all that came.
    #[test]
    fn no_number_is_ever_taken_twice() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut window, mut taken) = (Window::default(), std::collections::HashSet::new());
        let mut base = 0;
        for _ in 0..20_000 {
            base += rng.u64(..3);
            let number = base + rng.u64(..100);
            if window.is_new(number) {
                assert!(taken.insert(number), "{number} twice");
                window.note(number);
            }
        }
        assert!(taken.len() > 10_000);
    }
}
