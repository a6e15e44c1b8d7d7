//! Who takes long: clients whose deliveries were settled late, with the longest wait of each. A few of them, and the memory of them fades.
//!
//! What a client missed while it was away is not its fault: the wait counts from when it came.

use headgate_model::{ClientId, Instant};
use std::time::Duration;

/// Clients that are remembered.
const MOST: usize = 64;
/// Seconds from which on a wait is worth a note.
const SLOW: u32 = 2;
/// Seconds in which the memory of a wait fades to a half.
const HALF: u32 = 300;

/// A client that takes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowClient {
    /// Who.
    pub client: ClientId,
    /// The longest wait of a delivery, from when it was queued, or the client came, to when it was settled; less the longer ago it was.
    pub wait: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Slow(Vec<Noted>);

#[derive(Debug)]
struct Noted {
    client: ClientId,
    /// In seconds.
    wait: u32,
    at: u32,
}

impl Noted {
    /// What is left of the wait.
    fn left(&self, now: u32) -> u32 {
        self.wait
            .checked_shr(now.saturating_sub(self.at) / HALF)
            .unwrap_or(0)
    }
}

impl Slow {
    /// A delivery was settled that waited since then; 0 where that is not known. `came`: when the client did. All in seconds, as [`crate::ledger::seconds`].
    #[inline]
    pub(crate) fn settled(&mut self, client: &ClientId, since: u32, came: u32, now: u32) {
        if since != 0 && now.saturating_sub(since.max(came)) >= SLOW {
            self.note(client, now - since.max(came), now);
        }
    }

    fn note(&mut self, client: &ClientId, wait: u32, now: u32) {
        if let Some(known) = self.0.iter_mut().find(|noted| noted.client == *client) {
            if wait >= known.left(now) {
                (known.wait, known.at) = (wait, now);
            }
            return;
        }
        let new = Noted {
            client: client.clone(),
            wait,
            at: now,
        };
        if self.0.len() < MOST {
            self.0.push(new);
            return;
        }
        let least = self.0.iter_mut().min_by_key(|noted| noted.left(now));
        if let Some(least) = least.filter(|least| least.left(now) < wait) {
            *least = new;
        }
    }

    /// Those that are worth telling, the slowest first.
    pub(crate) fn list(&self, now: u32) -> Vec<SlowClient> {
        let mut list: Vec<SlowClient> = self
            .0
            .iter()
            .filter(|noted| noted.left(now) >= SLOW)
            .map(|noted| SlowClient {
                client: noted.client.clone(),
                wait: Duration::from_secs(noted.left(now).into()),
            })
            .collect();
        list.sort_by(|a, b| {
            b.wait
                .cmp(&a.wait)
                .then_with(|| a.client.as_str().cmp(b.client.as_str()))
        });
        list
    }
}

/// Since when the oldest of these has waited for a client that came then; `None` when nothing does, or it is not known.
pub(crate) fn waiting_since(since: impl Iterator<Item = u32>, came: u32) -> Option<Instant> {
    let oldest = since.filter(|since| *since != 0).min()?;
    Some(Instant(u64::from(oldest.max(came)) * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(slow: &Slow, now: u32) -> Vec<(String, u64)> {
        let list = slow.list(now).into_iter();
        list.map(|slow| (slow.client.as_str().to_owned(), slow.wait.as_secs()))
            .collect()
    }

    #[test]
    fn the_longest_wait_of_a_client_is_kept_and_fades() {
        let mut slow = Slow::default();
        let (a, b) = (ClientId::from("a"), ClientId::from("b"));
        slow.settled(&a, 10, 1, 11);
        slow.settled(&a, 0, 1, 100);
        assert!(names(&slow, 100).is_empty(), "quick, or not known");
        slow.settled(&a, 100, 1, 140);
        slow.settled(&a, 138, 1, 142);
        slow.settled(&b, 1, 130, 142);
        assert_eq!(names(&slow, 142), [("a".into(), 40), ("b".into(), 12)]);
        assert_eq!(names(&slow, 142 + HALF), [("a".into(), 20), ("b".into(), 6)]);
        assert!(names(&slow, 142 + 40 * HALF).is_empty());
        slow.settled(&a, 142, 1, 145);
        assert_eq!(names(&slow, 145)[0], ("a".into(), 40));
    }

    #[test]
    fn there_are_so_many_and_the_least_slow_goes() {
        let mut slow = Slow::default();
        for n in 0..1_000_u32 {
            slow.settled(&ClientId::from(&*format!("c{n}")), 1_000, 1, 1_000 + n);
        }
        let list = names(&slow, 2_000);
        assert!(list.len() <= MOST);
        assert_eq!(list[0].0, "c999");
    }

    #[test]
    fn what_waits_counts_from_when_the_client_came() {
        assert_eq!(waiting_since([0, 7, 5].into_iter(), 1), Some(Instant(5_000)));
        assert_eq!(waiting_since([5].into_iter(), 9), Some(Instant(9_000)));
        assert_eq!(waiting_since([0].into_iter(), 9), None);
    }
}
