//! Who was wrong too often waits. It holds for a name from an address, so that nobody keeps an administrator out from elsewhere, and for an address, whatever
//! names it tries.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong passwords for one name from one address before it waits.
const TRIES: u32 = 5;
/// Wrong passwords from one address, whatever the names.
const TRIES_OF_ADDRESS: u32 = 20;
/// The first wait; each further wrong password doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// After so long without a wrong password all is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3_600);
/// What is remembered at all; the oldest gives way.
const MAX: usize = 4_096;

/// Somebody has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong passwords: try again in {} s", .0.as_secs())]
pub struct Locked(pub Duration);

/// What was wrong lately.
#[derive(Default)]
pub(crate) struct Lockout(HashMap<(Option<String>, IpAddr), Failures>);

struct Failures {
    count: u32,
    last: Instant,
    until: Option<Instant>,
}

/// An IPv6 host has a whole network of addresses. RFC 4291 §2.5.4
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

fn keys(name: &str, from: IpAddr) -> [((Option<String>, IpAddr), u32); 2] {
    let from = host(from);
    [
        ((Some(name.chars().take(64).collect()), from), TRIES),
        ((None, from), TRIES_OF_ADDRESS),
    ]
}

impl Lockout {
    pub(crate) fn check(&self, name: &str, from: IpAddr, now: Instant) -> Result<(), Locked> {
        let until = keys(name, from)
            .into_iter()
            .filter_map(|(key, _)| self.0.get(&key)?.until);
        match until.max().filter(|until| *until > now) {
            Some(until) => Err(Locked(until.duration_since(now) + Duration::from_secs(1))),
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&mut self, name: &str, from: IpAddr, now: Instant) {
        for (key, tries) in keys(name, from) {
            self.make_room(now);
            let failures = self.0.entry(key).or_insert(Failures {
                count: 0,
                last: now,
                until: None,
            });
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
            if let Some(over) = failures.count.checked_sub(tries) {
                let wait = FIRST_WAIT.saturating_mul(1 << over.min(16)).min(LONGEST_WAIT);
                failures.until = Some(now + wait);
            }
        }
    }

    /// A try counts as wrong until it is known to be right.
    pub(crate) fn try_one(&mut self, name: &str, from: IpAddr, now: Instant) -> Result<(), Locked> {
        self.check(name, from, now)?;
        self.failed(name, from, now);
        Ok(())
    }

    pub(crate) fn succeeded(&mut self, name: &str, from: IpAddr) {
        let [(of_name, _), (of_address, _)] = keys(name, from);
        self.0.remove(&of_name);
        if let Some(failures) = self.0.get_mut(&of_address) {
            failures.count = failures.count.saturating_sub(1);
            if failures.count < TRIES_OF_ADDRESS {
                failures.until = None;
            }
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < MAX {
            return;
        }
        self.0
            .retain(|_, failures| now.duration_since(failures.last) < FORGOTTEN);
        // One of many addresses: a quarter goes at once, so that this is done seldom.
        if self.0.len() >= MAX {
            let mut ages: Vec<Instant> = self.0.values().map(|failures| failures.last).collect();
            ages.sort_unstable();
            let oldest = ages[MAX / 4];
            self.0.retain(|_, failures| failures.last > oldest);
        }
    }
}
