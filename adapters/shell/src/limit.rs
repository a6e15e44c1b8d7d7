//! Limits on connections: how many at a time, how many from one address, how many each second.

use crate::shared_rate::SharedRates;
use crate::throttle::ClientRate;
use headgate_access::subscriber;
use headgate_model::UserRates;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most so many connections at a time. Clones share the count: one for each listener, one over all.
#[derive(Clone, Debug, Default)]
pub struct ConnectionLimit(Arc<LimitState>);

#[derive(Debug)]
struct LimitState {
    /// What it limits: a listener's name.
    name: String,
    max: AtomicUsize,
    current: AtomicUsize,
    /// How fast each of its clients may send.
    rate: Mutex<ClientRate>,
    /// How fast all may send together, and all of one user.
    shared_rates: Arc<SharedRates>,
    /// There is more to do than can be done: nobody comes in.
    overloaded: AtomicBool,
    /// Those who are under it have to go.
    closed: AtomicBool,
}

impl Default for LimitState {
    fn default() -> Self {
        Self {
            name: String::new(),
            max: AtomicUsize::new(usize::MAX),
            current: AtomicUsize::new(0),
            rate: Mutex::default(),
            shared_rates: Arc::default(),
            overloaded: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }
}

impl ConnectionLimit {
    /// `None`: no limit.
    pub fn new(max: Option<usize>) -> Self {
        let limit = Self::default();
        limit.set_max(max);
        limit
    }

    /// That of a listener, which limits nothing yet.
    pub(crate) fn of(listener: &str) -> Self {
        Self(Arc::new(LimitState {
            name: listener.to_owned(),
            ..LimitState::default()
        }))
    }

    /// Changes the limit for connections to come; those open stay.
    pub fn set_max(&self, max: Option<usize>) {
        self.0.max.store(max.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// How fast a client may send that connects from now on.
    pub(crate) fn set_rate(&self, rate: ClientRate) {
        *self.0.rate.lock().unwrap_or_else(PoisonError::into_inner) = rate;
    }

    /// How fast all may send together from now on, and all of one user.
    pub fn set_shared_rates(&self, all: ClientRate, user: ClientRate) {
        self.0.shared_rates.set(all, user);
    }

    /// How fast all of one user may send, for what is not sent by a connection that could be read more slowly.
    pub fn user_rates(&self) -> Arc<dyn UserRates> {
        self.shared_rates()
    }

    /// Whether there is more to do than can be done: then nobody comes in.
    pub fn set_overloaded(&self, overloaded: bool) {
        self.0.overloaded.store(overloaded, Ordering::Relaxed);
    }

    /// How fast all may send together, and all of one user.
    pub(crate) fn shared_rates(&self) -> Arc<SharedRates> {
        Arc::clone(&self.0.shared_rates)
    }

    pub(crate) fn is_overloaded(&self) -> bool {
        self.0.overloaded.load(Ordering::Relaxed)
    }

    /// Who is under it has to go. They see it when they are woken.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Connections open now.
    pub fn current(&self) -> usize {
        self.0.current.load(Ordering::Relaxed)
    }

    pub(crate) fn acquire(&self) -> Option<ConnectionSlot> {
        let max = self.0.max.load(Ordering::Relaxed);
        let one_more = |current| (current < max).then_some(current + 1);
        self.0
            .current
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(ConnectionSlot(self.clone()))
    }
}

/// At most so many connections from one address at a time. An IPv6 /64 counts as one address: whoever has one
/// address of it has them all.
#[derive(Clone, Debug)]
pub(crate) struct AddressLimit {
    max: u32,
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl AddressLimit {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max,
            counts: Arc::default(),
        }
    }

    /// Another limit for the same connections.
    pub(crate) fn with_max(&self, max: u32) -> Self {
        Self {
            max,
            counts: Arc::clone(&self.counts),
        }
    }

    pub(crate) fn acquire(&self, address: IpAddr) -> Option<AddressSlot> {
        let key = subscriber(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= self.max {
            if *count == 0 {
                counts.remove(&key);
            }
            return None;
        }
        *count += 1;
        drop(counts);
        Some(AddressSlot(Box::new((self.clone(), key))))
    }
}

/// One connection's place under a limit, free again when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot(ConnectionLimit);

impl ConnectionSlot {
    /// The name of the listener whose limit it is.
    pub(crate) fn name(&self) -> &str {
        &self.0.0.name
    }

    /// How fast each client of this listener may send.
    pub(crate) fn rate(&self) -> ClientRate {
        *self.0.0.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared_rates(&self) -> Arc<SharedRates> {
        self.0.shared_rates()
    }

    /// Its listener is no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.0.closed.load(Ordering::Acquire)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.0.current.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection's place among those from its address, free again when dropped.
#[derive(Debug)]
pub(crate) struct AddressSlot(Box<(AddressLimit, IpAddr)>);

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let (limit, key) = &*self.0;
        let mut counts = limit.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
        }
    }
}

/// `rate` connections a second in the long run, `burst` at once.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// What one token takes to grow.
    interval: Duration,
    /// How far ahead of the steady flow a burst may be.
    ahead: Duration,
    /// When the bucket would be full again.
    full_at: Option<Instant>,
}

impl TokenBucket {
    pub(crate) fn new(rate_per_s: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate_per_s.max(1);
        Self {
            interval,
            ahead: interval.saturating_mul(burst.max(1) - 1),
            full_at: None,
        }
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        if full_at - now > self.ahead {
            return false;
        }
        self.full_at = Some(full_at + self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 3);

        assert_eq!([(); 4].map(|()| bucket.take(start)), [true, true, true, false]);
        assert!(!bucket.take(start + Duration::from_millis(99)));
        assert!(bucket.take(start + Duration::from_millis(100)));
        assert!(!bucket.take(start + Duration::from_millis(100)));
    }

    #[test]
    fn a_rested_bucket_holds_no_more_than_its_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 2);
        assert!(bucket.take(start));

        let later = start + Duration::from_secs(3600);
        assert_eq!([(); 3].map(|()| bucket.take(later)), [true, true, false]);
    }

    #[test]
    fn a_slot_is_free_again_when_dropped_and_the_limit_can_change() {
        let limit = ConnectionLimit::new(Some(1));
        let slot = limit.acquire();
        assert!(slot.is_some());
        assert!(limit.acquire().is_none());

        drop(slot);
        let _first = limit.acquire().expect("free again");
        limit.set_max(Some(2));
        let _second = limit.acquire().expect("the limit is two now");
        assert_eq!(limit.current(), 2);
    }

    #[test]
    fn addresses_are_counted_apart_and_a_v6_network_as_one() {
        let limit = AddressLimit::new(1);
        let of = |text: &str| limit.acquire(text.parse().unwrap());

        let first = of("192.0.2.1");
        assert!(first.is_some() && of("192.0.2.1").is_none());
        let _other = of("192.0.2.2").expect("another address");
        let _v6 = of("2001:db8::1").expect("the first of its network");
        assert!(of("2001:db8::2").is_none());

        drop(first);
        assert!(of("192.0.2.1").is_some());
    }
}
