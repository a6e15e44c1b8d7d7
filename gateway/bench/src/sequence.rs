//! What one receiver got from one publisher: everything, once, in order? [MQTT-4.6.0-5] [MQTT-4.6.0-6]

use std::collections::VecDeque;
use std::ops::Range;

/// Gaps that are remembered; a message that comes late to an older one counts as a duplicate.
const MAX_GAPS: usize = 1_024;

/// What a sequence number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one, or a later one with some left out.
    New,
    /// Left out before: out of order.
    Late,
    /// Seen before.
    Duplicate,
}

/// The numbers of one publisher as they come in.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    next: u64,
    gaps: VecDeque<Range<u64>>,
    missing: u64,
}

impl Sequence {
    /// Takes the next number off the wire.
    #[inline]
    pub(super) fn arrive(&mut self, number: u64) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::New;
        }
        self.out_of_line(number)
    }

    #[cold]
    fn out_of_line(&mut self, number: u64) -> Arrival {
        if number > self.next {
            self.missing += number - self.next;
            if self.gaps.len() == MAX_GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back(self.next..number);
            self.next = number + 1;
            return Arrival::New;
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&number)) else {
            return Arrival::Duplicate;
        };
        self.missing -= 1;
        let gap = self.gaps[at].clone();
        self.gaps[at] = gap.start..number;
        if number + 1 < gap.end && self.gaps.len() < MAX_GAPS {
            self.gaps.insert(at + 1, number + 1..gap.end);
        }
        if self.gaps[at].is_empty() {
            self.gaps.remove(at);
        }
        Arrival::Late
    }

    /// One more than the highest number that came.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many below that did not come.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Duplicate, Late, New};

    fn run(numbers: &[u64]) -> (Vec<Arrival>, Sequence) {
        let mut sequence = Sequence::default();
        (numbers.iter().map(|n| sequence.arrive(*n)).collect(), sequence)
    }

    #[test]
    fn in_order_nothing_is_missing() {
        let (arrivals, sequence) = run(&[0, 1, 2, 3]);
        assert_eq!(arrivals, [New; 4]);
        assert_eq!((sequence.next(), sequence.missing()), (4, 0));
    }

    #[test]
    fn what_was_left_out_is_missing_until_it_comes_late() {
        let (arrivals, mut sequence) = run(&[0, 5, 6]);
        assert_eq!(arrivals, [New; 3]);
        assert_eq!((sequence.next(), sequence.missing()), (7, 4));
        assert_eq!(
            [2, 2, 1, 4, 3, 3].map(|n| sequence.arrive(n)),
            [Late, Duplicate, Late, Late, Late, Duplicate]
        );
        assert_eq!((sequence.next(), sequence.missing()), (7, 0));
        assert!(sequence.gaps.is_empty());
    }

    #[test]
    fn what_comes_twice_is_a_duplicate() {
        assert_eq!(run(&[0, 0, 1, 0]).0, [New, Duplicate, New, Duplicate]);
    }

    #[test]
    fn gaps_are_bounded_and_still_counted() {
        let (_, sequence) = run(&(0..5_000).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!((sequence.gaps.len(), sequence.missing()), (MAX_GAPS, 4_999));
    }
}
