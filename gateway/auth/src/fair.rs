//! A queue that is fair by address: those who wait at different addresses take turns, however many wait at each.
//!
//! Always true: an address is in the round exactly when somebody waits there; nobody is let in beyond the two bounds, and who is put out for
//! another is handed back.

use headgate_access::subscriber;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Who counts as one address: an IPv4 address, or an IPv6 network of 64 bits, which is what one subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(subscriber(address))
    }
}

/// No room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    waiting: HashMap<Origin, VecDeque<(u64, T)>>,
    round: VecDeque<Origin>,
    len: usize,
    next: u64,
    max: usize,
    max_each: usize,
}

impl<T> FairQueue<T> {
    /// For `max` in all and `max_each` of one address.
    pub(crate) fn new(max: usize, max_each: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            round: VecDeque::new(),
            len: 0,
            next: 0,
            max,
            max_each,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts one at the end of its address's queue: its number, and who was put out for it. When there is no room in all, the longest queue gives
    /// up its last, if it is longer than the newcomer's would be.
    pub(crate) fn push(&mut self, from: Origin, item: T) -> Result<(u64, Option<T>), Full> {
        let here = self.waiting.get(&from).map_or(0, VecDeque::len);
        if here >= self.max_each {
            return Err(Full);
        }
        let mut put_out = None;
        if self.len >= self.max {
            let longest = self.waiting.iter().max_by_key(|(_, queue)| queue.len());
            let longest = longest.filter(|(_, queue)| queue.len() > here + 1);
            let origin = longest.map(|(origin, _)| *origin).ok_or(Full)?;
            let last = self.waiting.get_mut(&origin).and_then(VecDeque::pop_back);
            put_out = last.map(|(_, item)| item);
            self.len -= 1;
        }
        let number = self.next;
        self.next += 1;
        let queue = self.waiting.entry(from).or_default();
        if queue.is_empty() {
            self.round.push_back(from);
        }
        queue.push_back((number, item));
        self.len += 1;
        Ok((number, put_out))
    }

    /// The first of the address whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let origin = self.round.pop_front()?;
        let queue = self.waiting.get_mut(&origin)?;
        let (_, item) = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&origin);
        } else {
            self.round.push_back(origin);
        }
        self.len -= 1;
        Some(item)
    }

    /// Takes one out that waits no longer; `None` when it is not there any more.
    pub(crate) fn remove(&mut self, from: Origin, number: u64) -> Option<T> {
        let queue = self.waiting.get_mut(&from)?;
        let at = queue.iter().position(|(n, _)| *n == number)?;
        let (_, item) = queue.remove(at)?;
        if queue.is_empty() {
            self.waiting.remove(&from);
            self.round.retain(|origin| *origin != from);
        }
        self.len -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Origin {
        Origin::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn addresses_take_turns_however_many_wait_at_each() {
        let mut queue = FairQueue::new(1_000, 100);
        for n in 0..100 {
            queue.push(at("10.0.0.1"), n).unwrap();
        }
        queue.push(at("10.0.0.2"), 500).unwrap();
        assert_eq!(
            [queue.pop(), queue.pop(), queue.pop()],
            [Some(0), Some(500), Some(1)]
        );
        assert_eq!(queue.len(), 98);
    }

    #[test]
    fn one_address_has_its_own_bound() {
        let mut queue = FairQueue::new(1_000, 2);
        assert!(queue.push(at("10.0.0.1"), 1).is_ok() && queue.push(at("10.0.0.1"), 2).is_ok());
        assert_eq!(queue.push(at("10.0.0.1"), 3), Err(Full));
        assert!(queue.push(at("10.0.0.2"), 4).is_ok());
    }

    /// A network of 64 bits is one subscriber's, and an IPv4 address stays one when it comes mapped.
    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }

    #[test]
    fn a_full_queue_makes_room_for_another_address() {
        let mut queue = FairQueue::new(3, 3);
        for n in 0..3 {
            queue.push(at("10.0.0.1"), n).unwrap();
        }
        assert_eq!(
            queue.push(at("10.0.0.2"), 7),
            Ok((3, Some(2))),
            "the last of the longest goes"
        );
        assert_eq!(
            queue.push(at("10.0.0.2"), 8),
            Err(Full),
            "it would only change places"
        );
        assert_eq!(
            [queue.pop(), queue.pop(), queue.pop(), queue.pop()],
            [Some(0), Some(7), Some(1), None]
        );
    }

    #[test]
    fn who_left_is_not_come_to() {
        let mut queue = FairQueue::new(10, 10);
        let (one, _) = queue.push(at("10.0.0.1"), 1).unwrap();
        let (two, _) = queue.push(at("10.0.0.2"), 2).unwrap();
        assert_eq!(queue.remove(at("10.0.0.1"), one), Some(1));
        assert_eq!(queue.remove(at("10.0.0.1"), one), None);
        assert_eq!((queue.pop(), queue.pop()), (Some(2), None));
        assert_eq!(queue.remove(at("10.0.0.2"), two), None);
        queue.push(at("10.0.0.1"), 3).unwrap();
        assert_eq!((queue.pop(), queue.len()), (Some(3), 0));
    }
}
