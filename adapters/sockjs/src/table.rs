//! The sessions that requests share, and how many there may be.
//!
//! A session id is chosen by the client, so it is not all that a session is found by. The key has what is the same in all requests of one client: its address
//! (an IPv6 client's /64, for it changes addresses) and its `User-Agent`. Whoever guesses an id finds nothing from elsewhere, not even that the id is
//! taken, and cannot keep others from using it. `Origin` is compared apart (`Live::belongs_to`): browsers leave it out of some requests. Cookies
//! are not compared, for they change while a session lasts.

use crate::live::Live;
use crate::refusal::Refused;
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Whose session it is, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    id: String,
    address: Option<IpAddr>,
    /// A hash that is different in each process.
    agent: u64,
}

/// All sessions of a service.
#[derive(Debug)]
pub(crate) struct Table {
    same_address: bool,
    hasher: RandomState,
    max: usize,
    max_per_peer: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    sessions: HashMap<Key, Arc<Live>>,
    count: usize,
    peers: HashMap<IpAddr, usize>,
}

/// A session's place among those that there may be.
#[derive(Debug)]
pub(crate) struct Place {
    table: Arc<Table>,
    peer: Option<IpAddr>,
}

/// The session of a key.
pub(crate) enum Found {
    Here(Arc<Live>),
    New(Arc<Live>, Place),
}

impl Table {
    pub(crate) fn new(same_address: bool, max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            same_address,
            hasher: RandomState::new(),
            max,
            max_per_peer,
            inside: Mutex::default(),
        })
    }

    pub(crate) fn key(&self, id: &str, peer: Option<IpAddr>, headers: &HeaderMap) -> Key {
        Key {
            id: id.to_owned(),
            address: peer.filter(|_| self.same_address).map(network),
            agent: self.hasher.hash_one(headers.get(USER_AGENT)),
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Live>> {
        self.inside.lock().sessions.get(key).cloned()
    }

    /// The session of `key`, or else the one that `new` makes.
    pub(crate) fn get_or_insert(
        self: &Arc<Self>,
        key: &Key,
        peer: Option<IpAddr>,
        new: impl FnOnce() -> Arc<Live>,
    ) -> Result<Found, Refused> {
        let mut inside = self.inside.lock();
        if let Some(live) = inside.sessions.get(key) {
            return Ok(Found::Here(Arc::clone(live)));
        }
        let place = self.occupy(&mut inside, peer)?;
        let live = new();
        inside.sessions.insert(key.clone(), Arc::clone(&live));
        Ok(Found::New(live, place))
    }

    /// A place for a session that no other request is to find.
    pub(crate) fn place(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<Place, Refused> {
        self.occupy(&mut self.inside.lock(), peer)
    }

    fn occupy(self: &Arc<Self>, inside: &mut Inside, peer: Option<IpAddr>) -> Result<Place, Refused> {
        if inside.count >= self.max {
            return Err(Refused::SESSIONS);
        }
        let peer = peer.map(network);
        if let Some(peer) = peer {
            let of_peer = inside.peers.entry(peer).or_default();
            if *of_peer >= self.max_per_peer {
                return Err(Refused::SESSIONS_OF_PEER);
            }
            *of_peer += 1;
        }
        inside.count += 1;
        Ok(Place {
            table: Arc::clone(self),
            peer,
        })
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.inside.lock().sessions.remove(key);
    }

    pub(crate) fn count(&self) -> usize {
        self.inside.lock().count
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.table.inside.lock();
        inside.count -= 1;
        if let Some(peer) = self.peer
            && let Some(of_peer) = inside.peers.get_mut(&peer)
        {
            *of_peer -= 1;
            if *of_peer == 0 {
                inside.peers.remove(&peer);
            }
        }
    }
}

/// What counts as one address: of IPv6, the network that one client has for itself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;
    use axum::http::HeaderValue;

    fn agent(name: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(name))])
    }

    #[test]
    fn an_id_of_another_client_is_another_session() {
        let table = Table::new(true, 9, 9);
        let key = |peer: &str, name| table.key("id", Some(peer.parse().unwrap()), &agent(name));
        let mine = key("192.0.2.1", "a");
        assert_eq!(mine, key("::ffff:192.0.2.1", "a"));
        assert_ne!(mine, key("192.0.2.2", "a"));
        assert_ne!(mine, key("192.0.2.1", "b"));
        assert_eq!(key("2001:db8::1", "a"), key("2001:db8::2", "a"));
        assert_ne!(key("2001:db8::1", "a"), key("2001:db8:0:1::1", "a"));

        let anywhere = Table::new(false, 9, 9);
        let key = |peer: &str| anywhere.key("id", Some(peer.parse().unwrap()), &agent("a"));
        assert_eq!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn places_are_counted_in_all_and_for_each_peer() {
        let table = Table::new(true, 3, 2);
        let place = |peer: &str| table.place(Some(peer.parse().unwrap()));
        let first = place("192.0.2.1").unwrap();
        let second = place("192.0.2.1").unwrap();
        assert_eq!(place("192.0.2.1").unwrap_err().refusal, Refusal::SessionsOfPeer);
        let third = place("192.0.2.2").unwrap();
        assert_eq!(place("192.0.2.3").unwrap_err().refusal, Refusal::Sessions);
        drop(first);
        let fourth = place("192.0.2.1").unwrap();
        drop((second, third, fourth));
        assert_eq!(table.count(), 0);
        assert!(table.inside.lock().peers.is_empty());
    }
}
