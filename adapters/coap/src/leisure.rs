//! When to answer what came to a group: at a time by chance, so that not all who hear it answer at once. RFC 7252 §8.2
//!
//! Always true: what waits has a bound; what comes beyond it is not answered, as a server may choose.

use crate::Requester;
use headgate_coap_codec::{Message, encoded_len};
use headgate_model::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// Answers that wait at once.
const MOST: usize = 64;
/// What keeping one takes beside its bytes.
const EACH: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Leisure<A> {
    waiting: BTreeMap<(Instant, u64), (Requester<A>, Message)>,
    next: u64,
    bytes: usize,
    /// When the period ends that began last, or that which waits for its end to begin.
    ends: Option<Instant>,
}

impl<A> Default for Leisure<A> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            bytes: 0,
            ends: None,
        }
    }
}

impl<A> Leisure<A> {
    /// Keeps an answer until some time of a period of this length; `chance` says which. A period begins at the earliest when the one before has ended: what
    /// comes meanwhile has the next one in common. False if too many wait.
    pub(crate) fn put(
        &mut self,
        to: Requester<A>,
        response: Message,
        (length, chance): (Duration, u64),
        now: Instant,
    ) -> bool {
        if self.waiting.len() >= MOST {
            return false;
        }
        // The last period that was begun may be under way, or still to come.
        let begins = match self.ends {
            Some(ends) if ends > now + length => Instant(ends.0 - millis(length)),
            Some(ends) => ends.max(now),
            None => now,
        };
        self.ends = Some(begins + length);
        let due = Instant(begins.0 + chance % (millis(length) + 1));
        self.next += 1;
        self.bytes += EACH + encoded_len(&response);
        self.waiting.insert((due, self.next), (to, response));
        true
    }

    /// The next answer whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Requester<A>, Message)> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        let (to, response) = first.remove();
        self.bytes -= EACH + encoded_len(&response);
        Some((to, response))
    }

    /// When the next one is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Bytes that wait.
    pub(crate) fn held(&self) -> usize {
        self.bytes
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
