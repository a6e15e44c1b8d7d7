//! Messages that came in the last minutes, and what was answered: the same message ID again is the same message again. RFC 7252 §4.5
//!
//! Always true: what is remembered has a bound in bytes, and the oldest is forgotten first.

use headgate_model::Instant;
use headgate_model::datagram::Address;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What remembering one takes beside its answer.
const EACH: usize = 160;

type Name<A> = (A, u16);

/// See the module.
#[derive(Debug)]
pub(crate) struct Exchanges<A> {
    by_name: HashMap<Name<A>, Exchange>,
    /// In the order in which they came, with when each is forgotten.
    order: VecDeque<(Instant, Name<A>)>,
    /// Confirmable ones in the order in which they came, with when each is to be acknowledged if it is not answered by then.
    unanswered: VecDeque<(Instant, Name<A>)>,
    bytes: usize,
    /// Those that were forgotten before their time, since it was last asked.
    pub forgotten: u32,
}

#[derive(Debug)]
enum Exchange {
    /// It is being answered.
    Open { acknowledged: bool },
    /// What is sent if it comes again; nothing for one that is not confirmable.
    Closed(Box<[u8]>),
}

/// What is known of a message that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen<'a> {
    /// It is new.
    Never,
    /// It came before and is being answered; whether it was acknowledged meanwhile.
    Open { acknowledged: bool },
    /// It came before, and this was sent.
    Closed(&'a [u8]),
}

impl<A> Default for Exchanges<A> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            order: VecDeque::new(),
            unanswered: VecDeque::new(),
            bytes: 0,
            forgotten: 0,
        }
    }
}

impl<A: Address> Exchanges<A> {
    /// A message came; from now on it is known.
    pub(crate) fn begin(
        &mut self,
        name: Name<A>,
        acknowledge_at: Option<Instant>,
        now: Instant,
        lifetime: Duration,
        max_bytes: usize,
    ) -> Seen<'_> {
        self.expire(now);
        if self.by_name.contains_key(&name) {
            return match &self.by_name[&name] {
                Exchange::Open { acknowledged } => Seen::Open {
                    acknowledged: *acknowledged,
                },
                Exchange::Closed(answer) => Seen::Closed(answer),
            };
        }
        self.by_name.insert(name, Exchange::Open { acknowledged: false });
        self.order.push_back((now + lifetime, name));
        if let Some(at) = acknowledge_at {
            self.unanswered.push_back((at, name));
        }
        self.bytes += EACH;
        self.make_room(max_bytes);
        Seen::Never
    }

    /// Whether it is still to be acknowledged: nothing was sent for it.
    pub(crate) fn is_unacknowledged(&self, name: Name<A>) -> bool {
        matches!(
            self.by_name.get(&name),
            Some(Exchange::Open { acknowledged: false })
        )
    }

    /// This was sent for it, and is sent again if it comes again.
    pub(crate) fn close(&mut self, name: Name<A>, answer: &[u8], max_bytes: usize) {
        if let Some(exchange) = self.by_name.get_mut(&name) {
            if let Exchange::Closed(before) = exchange {
                self.bytes -= before.len();
            }
            *exchange = Exchange::Closed(answer.into());
            self.bytes += answer.len();
        }
        self.make_room(max_bytes);
    }

    fn make_room(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes && self.forget_oldest() {
            self.forgotten += 1;
        }
    }

    /// The next one that has waited long enough for its answer; it counts as acknowledged from now on.
    pub(crate) fn pop_unanswered(&mut self, now: Instant) -> Option<Name<A>> {
        while self.unanswered.front().is_some_and(|(at, _)| *at <= now) {
            let (_, name) = self.unanswered.pop_front().expect("just looked at");
            if let Some(Exchange::Open { acknowledged }) = self.by_name.get_mut(&name)
                && !*acknowledged
            {
                *acknowledged = true;
                return Some(name);
            }
        }
        None
    }

    /// When the next one has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.unanswered.front().map(|(at, _)| *at)
    }

    pub(crate) fn held(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, name)) = self.order.pop_front() else {
            return false;
        };
        let answer = match self.by_name.remove(&name) {
            Some(Exchange::Closed(answer)) => answer.len(),
            _ => 0,
        };
        self.bytes -= EACH + answer;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(247);

    #[test]
    fn the_same_message_is_known_for_its_lifetime() {
        let mut exchanges = Exchanges::default();
        let name = ((), 7);
        assert_eq!(
            exchanges.begin(name, Some(Instant(500)), Instant(0), LIFE, 1_000),
            Seen::Never
        );
        assert_eq!(
            exchanges.begin(name, Some(Instant(510)), Instant(10), LIFE, 1_000),
            Seen::Open { acknowledged: false }
        );
        assert_eq!(exchanges.pop_unanswered(Instant(499)), None);
        assert_eq!(exchanges.pop_unanswered(Instant(500)), Some(name));
        assert_eq!(exchanges.pop_unanswered(Instant(500)), None);
        assert_eq!(
            exchanges.begin(name, None, Instant(600), LIFE, 1_000),
            Seen::Open { acknowledged: true }
        );
        exchanges.close(name, b"answer", 1_000);
        assert_eq!(
            exchanges.begin(name, None, Instant(600), LIFE, 1_000),
            Seen::Closed(b"answer")
        );
        assert_eq!(
            exchanges.begin(name, None, Instant(247_000), LIFE, 1_000),
            Seen::Never
        );
    }

    /// Those that are never answered, too.
    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut exchanges = Exchanges::default();
        for id in 0..1_000 {
            exchanges.begin(((), id), None, Instant(0), LIFE, 1_000);
        }
        assert_eq!((exchanges.len(), exchanges.forgotten), (6, 994));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut exchanges = Exchanges::default();
        for id in 0..10 {
            exchanges.begin(((), id), None, Instant(0), LIFE, 1_000);
            exchanges.close(((), id), &[0; 40], 1_000);
        }
        assert_eq!((exchanges.len(), exchanges.bytes), (5, 1_000));
        assert_eq!(
            exchanges.begin(((), 4), None, Instant(1), LIFE, 1_000),
            Seen::Never
        );
        assert!(matches!(
            exchanges.begin(((), 9), None, Instant(1), LIFE, 1_000),
            Seen::Closed(_)
        ));
    }
}
