//! How fast all clients together may send, and all clients of one user name. A connection that is faster is read more slowly, and nothing is dropped; a datagram of a user that is faster is refused.
//!
//! The rates may change at any time, and hold for who is connected. Where there is none, nothing is kept.

use crate::throttle::{ClientRate, span};
use headgate_model::{Instant, UserLimit, UserRates};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Users that are looked through for those who may be forgotten, at the least.
const FEW: usize = 64;

/// A rate that may change.
#[derive(Debug, Default)]
struct LiveRate {
    bytes_per_second: AtomicU32,
    burst_bytes: AtomicU32,
    packets_per_second: AtomicU32,
    burst_packets: AtomicU32,
}

/// What a number of clients have sent together: a token bucket for bytes and one for packets (the generic cell rate algorithm, ITU-T I.371). Each says when all
/// that came would have come at the steady rate, in microseconds.
#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    packets: AtomicU64,
}

/// The rates of a gateway, and what was sent.
#[derive(Debug, Default)]
pub(crate) struct SharedRates {
    rate: LiveRate,
    sent: Sent,
    user_rate: LiveRate,
    /// What the connections of each user have sent.
    users: Mutex<Users>,
    /// What the datagram clients of each user have sent. A connection may go into debt and waits until that is over; a datagram cannot wait. With one account for both, a fast
    /// connection would leave no room for any datagram.
    datagram_users: Mutex<Users>,
}

/// What the clients of each user have sent, as long as that matters.
#[derive(Debug, Default)]
struct Users {
    sent: HashMap<Arc<str>, Arc<Sent>>,
    /// With as many, those who may be forgotten are.
    full_at: usize,
}

/// The rates as one connection has them.
#[derive(Debug)]
pub(crate) struct SharedThrottle {
    rates: Arc<SharedRates>,
    /// Whose connection it is, once that is known.
    user: Option<Arc<str>>,
    /// What that user has sent; there while there is a rate for users.
    sent_by_user: Option<Arc<Sent>>,
    /// Bytes and packets that came before.
    unclaimed: (u64, u64),
}

impl LiveRate {
    /// Whether it was another one.
    fn set(&self, rate: ClientRate) -> bool {
        let or = |burst, rate| if burst == 0 { rate } else { burst };
        let mut differs = false;
        for (place, value) in [
            (&self.bytes_per_second, rate.bytes_per_second),
            (&self.burst_bytes, or(rate.burst_bytes, rate.bytes_per_second)),
            (&self.packets_per_second, rate.packets_per_second),
            (
                &self.burst_packets,
                or(rate.burst_packets, rate.packets_per_second),
            ),
        ] {
            differs |= place.swap(value, Ordering::Relaxed) != value;
        }
        differs
    }

    fn is_set(&self) -> bool {
        self.bytes_per_second.load(Ordering::Relaxed) > 0
            || self.packets_per_second.load(Ordering::Relaxed) > 0
    }
}

/// `n` more have come.
fn take(steady: &AtomicU64, per_second: &AtomicU32, n: u64, now: Instant) {
    let per_second = per_second.load(Ordering::Relaxed);
    if per_second > 0 && n > 0 {
        let more = |steady: u64| {
            let begun = steady.max(now.0.saturating_mul(1_000));
            Some(begun.saturating_add(span(n, per_second)))
        };
        let _ = steady.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

/// When more is read; `None` for now.
fn until(steady: &AtomicU64, per_second: &AtomicU32, burst: &AtomicU32, now: Instant) -> Option<Instant> {
    let per_second = per_second.load(Ordering::Relaxed);
    if per_second == 0 {
        return None;
    }
    let ahead = span(burst.load(Ordering::Relaxed).into(), per_second);
    let free = steady.load(Ordering::Relaxed).saturating_sub(ahead);
    let at = Instant(free.div_ceil(1_000));
    (at > now).then_some(at)
}

impl Sent {
    fn take(&self, rate: &LiveRate, bytes: u64, packets: u64, now: Instant) {
        take(&self.bytes, &rate.bytes_per_second, bytes, now);
        take(&self.packets, &rate.packets_per_second, packets, now);
    }

    fn until(&self, rate: &LiveRate, now: Instant) -> Option<Instant> {
        self.bytes_until(rate, now).max(self.packets_until(rate, now))
    }

    fn bytes_until(&self, rate: &LiveRate, now: Instant) -> Option<Instant> {
        until(&self.bytes, &rate.bytes_per_second, &rate.burst_bytes, now)
    }

    fn packets_until(&self, rate: &LiveRate, now: Instant) -> Option<Instant> {
        until(&self.packets, &rate.packets_per_second, &rate.burst_packets, now)
    }

    fn forgive(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.packets.store(0, Ordering::Relaxed);
    }

    /// Whether whoever sent it may begin anew: nothing is saved up, nothing is owed.
    fn is_over(&self, now: Instant) -> bool {
        let now = now.0.saturating_mul(1_000);
        [&self.bytes, &self.packets]
            .into_iter()
            .all(|steady| steady.load(Ordering::Relaxed) <= now)
    }
}

impl SharedRates {
    /// Other rates from now on. What is owed at a rate that was another one is forgiven: it may have been one by mistake.
    pub(crate) fn set(&self, all: ClientRate, user: ClientRate) {
        if self.rate.set(all) {
            self.sent.forgive();
        }
        if self.user_rate.set(user) {
            for users in [&self.users, &self.datagram_users] {
                users.lock().sent.values().for_each(|sent| sent.forgive());
            }
        }
    }
}

impl Users {
    /// What this user has sent. Who comes back finds what it owed.
    fn of(&mut self, user: &Arc<str>, now: Instant) -> Arc<Sent> {
        if let Some(sent) = self.sent.get(user) {
            return Arc::clone(sent);
        }
        if self.sent.len() >= self.full_at {
            self.sent
                .retain(|_, sent| Arc::strong_count(sent) > 1 || !sent.is_over(now));
            self.full_at = FEW.max(2 * self.sent.len());
        }
        let sent = Arc::<Sent>::default();
        self.sent.insert(Arc::clone(user), Arc::clone(&sent));
        sent
    }
}

/// Where there is no rate for users, this costs two looks at a number.
impl UserRates for SharedRates {
    fn admits(&self, user: &Arc<str>, bytes: usize, now: Instant) -> Result<(), UserLimit> {
        if !self.user_rate.is_set() {
            return Ok(());
        }
        let sent = self.datagram_users.lock().of(user, now);
        if sent.packets_until(&self.user_rate, now).is_some() {
            return Err(UserLimit::Packets);
        }
        if sent.bytes_until(&self.user_rate, now).is_some() {
            return Err(UserLimit::Bytes);
        }
        sent.take(&self.user_rate, bytes as u64, 1, now);
        Ok(())
    }

    fn took(&self, user: &Arc<str>, bytes: usize, now: Instant) {
        if self.user_rate.is_set() {
            let sent = self.datagram_users.lock().of(user, now);
            sent.take(&self.user_rate, bytes as u64, 1, now);
        }
    }
}

impl SharedThrottle {
    pub(crate) fn new(rates: Arc<SharedRates>) -> Self {
        Self {
            rates,
            user: None,
            sent_by_user: None,
            unclaimed: (0, 0),
        }
    }

    /// Whether there is a rate that may slow it.
    pub(crate) fn limits(&self) -> bool {
        self.rates.rate.is_set() || self.sent_by_user.is_some()
    }

    /// It is this user's, and so is what has come until now.
    pub(crate) fn set_user(&mut self, user: Option<&Arc<str>>, now: Instant) {
        if self.user.as_ref() != user {
            (self.user, self.sent_by_user) = (user.cloned(), None);
        }
        let (bytes, packets) = std::mem::take(&mut self.unclaimed);
        self.charge_user(bytes, packets, now);
    }

    fn charge_user(&mut self, bytes: u64, packets: u64, now: Instant) {
        if !self.rates.user_rate.is_set() {
            self.sent_by_user = None;
        } else if let Some(user) = &self.user {
            let sent = self
                .sent_by_user
                .get_or_insert_with(|| self.rates.users.lock().of(user, now));
            sent.take(&self.rates.user_rate, bytes, packets, now);
        } else {
            self.unclaimed.0 = self.unclaimed.0.saturating_add(bytes);
            self.unclaimed.1 = self.unclaimed.1.saturating_add(packets);
        }
    }

    /// So much has come.
    pub(crate) fn took(&mut self, bytes: usize, packets: u64, now: Instant) {
        self.rates.sent.take(&self.rates.rate, bytes as u64, packets, now);
        self.charge_user(bytes as u64, packets, now);
    }

    /// When the connection is read again; `None` while it is.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        let of_user = self.sent_by_user.as_ref();
        let of_user = of_user.and_then(|sent| sent.until(&self.rates.user_rate, now));
        self.rates.sent.until(&self.rates.rate, now).max(of_user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(per_second: u32, burst: u32) -> ClientRate {
        ClientRate {
            bytes_per_second: per_second,
            burst_bytes: burst,
            ..ClientRate::default()
        }
    }

    fn of(rates: &Arc<SharedRates>, user: &str) -> SharedThrottle {
        of_at(rates, user, Instant(0))
    }

    fn of_at(rates: &Arc<SharedRates>, user: &str, now: Instant) -> SharedThrottle {
        let mut throttle = SharedThrottle::new(Arc::clone(rates));
        throttle.set_user(Some(&user.into()), now);
        throttle
    }

    /// However many there are, together they send a burst and then the steady rate.
    #[test]
    fn all_together_have_one_rate() {
        let rates = Arc::<SharedRates>::default();
        rates.set(bytes(10_000, 5_000), ClientRate::default());
        let mut clients: Vec<SharedThrottle> = ["a", "b", "c"].iter().map(|user| of(&rates, user)).collect();
        let mut sent = 0;
        for ms in 0..10_000 {
            for client in &mut clients {
                if client.until(Instant(ms)).is_none() {
                    client.took(100, 1, Instant(ms));
                    sent += 100;
                }
            }
        }
        assert!((104_000..=105_500).contains(&sent), "{sent}");
    }

    #[test]
    fn a_user_has_one_rate_for_all_its_connections() {
        let rates = Arc::<SharedRates>::default();
        rates.set(ClientRate::default(), bytes(1_000, 1_000));
        let (mut one, mut two, mut other) = (of(&rates, "a"), of(&rates, "a"), of(&rates, "b"));
        one.took(1_500, 1, Instant(0));
        two.took(0, 0, Instant(0));
        assert_eq!(two.until(Instant(0)), Some(Instant(500)));
        other.took(10, 1, Instant(0));
        assert_eq!(other.until(Instant(0)), None);
        // Coming back does not help.
        drop((one, two));
        let mut back = of(&rates, "a");
        back.took(0, 0, Instant(0));
        assert_eq!(back.until(Instant(0)), Some(Instant(500)));
        // Other rates hold at once, and none too.
        rates.set(ClientRate::default(), ClientRate::default());
        assert_eq!(back.until(Instant(0)), None);
    }

    /// What comes before it is known whose it is, is that user's then: a CONNECT may be long.
    #[test]
    fn what_came_before_the_log_in_counts() {
        let rates = Arc::<SharedRates>::default();
        rates.set(ClientRate::default(), bytes(1_000, 1_000));
        for (n, until) in [(0, None), (1, Some(Instant(1_000))), (2, Some(Instant(2_000)))] {
            let mut connection = SharedThrottle::new(Arc::clone(&rates));
            connection.took(1_000, 1, Instant(0));
            assert_eq!(connection.until(Instant(0)), None);
            connection.set_user(Some(&"a".into()), Instant(0));
            assert_eq!(connection.until(Instant(0)), until, "{n}");
        }
    }

    /// The datagram clients of a user have the rate together. What is refused costs it nothing: or it would never come through.
    #[test]
    fn datagrams_that_are_too_much_are_refused() {
        let rates = Arc::<SharedRates>::default();
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let admits = |user, bytes, ms| rates.admits(user, bytes, Instant(ms));
        let refused = Err(UserLimit::Bytes);
        assert_eq!(admits(&a, usize::MAX, 0), Ok(()), "there is no rate");
        rates.set(ClientRate::default(), bytes(1_000, 1_000));
        rates.took(&a, 900, Instant(0));
        assert_eq!(admits(&a, 600, 0), Ok(()));
        for _ in 0..100 {
            assert_eq!(admits(&a, 600, 0), refused);
        }
        assert_eq!(admits(&b, 600, 0), Ok(()));
        assert_eq!((admits(&a, 1, 499), admits(&a, 1, 500)), (refused, Ok(())));
        rates.took(&a, 500, Instant(500));
        assert_eq!((admits(&a, 1, 1_000), admits(&a, 1, 1_001)), (refused, Ok(())));
    }

    /// However much a connection of the same user owes, datagrams have their rate; and they do not slow it.
    #[test]
    fn a_fast_connection_leaves_datagrams_their_rate() {
        let rates = Arc::<SharedRates>::default();
        let rate = ClientRate {
            packets_per_second: 20,
            ..ClientRate::default()
        };
        rates.set(ClientRate::default(), rate);
        let (user, mut fast) = (Arc::from("a"), of(&rates, "a"));
        fast.took(1_000, 1_000, Instant(0));
        let owes_until = fast.until(Instant(0));
        let taken = (0..10_000).filter(|ms| rates.admits(&user, 10, Instant(*ms)).is_ok());
        assert!((219..=221).contains(&taken.count()));
        assert_eq!(rates.admits(&user, 10, Instant(9_999)), Err(UserLimit::Packets));
        assert_eq!(
            (owes_until, fast.until(Instant(0))),
            (Some(Instant(49_000)), owes_until)
        );
    }

    /// A rate that was too low leaves no debt behind when it is corrected.
    #[test]
    fn another_rate_begins_anew() {
        let rates = Arc::<SharedRates>::default();
        rates.set(bytes(10, 10), bytes(10, 10));
        let mut client = of(&rates, "a");
        client.took(60_000, 1, Instant(0));
        assert!(client.until(Instant(0)).unwrap() > Instant(5_000_000));
        rates.set(bytes(10, 10), bytes(10, 10));
        assert!(client.until(Instant(0)).is_some(), "the same again is no other");
        rates.set(bytes(10_000_000, 0), bytes(10_000_000, 0));
        client.took(100, 1, Instant(0));
        assert_eq!(client.until(Instant(0)), None);
    }

    /// Who has gone and owes nothing is forgotten.
    #[test]
    fn users_who_have_gone_are_forgotten() {
        let rates = Arc::<SharedRates>::default();
        rates.set(ClientRate::default(), bytes(1_000, 1_000));
        let mut stays = of(&rates, "stays");
        stays.took(1, 1, Instant(0));
        for n in 0..10_000 {
            let now = Instant(10 * n);
            of_at(&rates, &n.to_string(), now).took(1, 1, now);
        }
        assert!(rates.users.lock().sent.len() <= 2 * FEW);
        assert!(rates.users.lock().sent.contains_key("stays"));
    }
}
