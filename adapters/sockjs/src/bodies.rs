//! How many large bodies of requests may come in at a time, in all and from one address.
//!
//! A body that says it is small takes no place, so that whoever sends slowly keeps nobody's heart-beats from coming in. A place is held while a body is read and no
//! longer.

use crate::refusal::Refused;
use crate::table::network;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Of all sessions.
const IN_ALL: usize = 1_024;
/// Of one address (IPv6: one /64): more than its sessions, where nothing else is set.
const OF_A_PEER: usize = IN_ALL / 8;
/// Bytes of a body that takes no place.
pub(crate) const SMALL: u64 = 4 << 10;

/// The places.
#[derive(Debug)]
pub(crate) struct Bodies {
    places: Semaphore,
    of_a_peer: usize,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// A body that is read. The place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct BodyPlace<'b> {
    _of_peer: OfPeer<'b>,
    _place: SemaphorePermit<'b>,
}

/// One of an address, which reads or waits.
#[derive(Debug)]
struct OfPeer<'b> {
    bodies: &'b Bodies,
    peer: Option<IpAddr>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(IN_ALL, OF_A_PEER)
    }
}

impl Bodies {
    fn new(in_all: usize, of_a_peer: usize) -> Self {
        Self {
            places: Semaphore::new(in_all),
            of_a_peer,
            peers: Mutex::default(),
        }
    }

    /// A place. Whose address has all that it may have is refused at once; the others wait.
    pub(crate) async fn place(&self, peer: Option<IpAddr>, wait: Duration) -> Result<BodyPlace<'_>, Refused> {
        let of_peer = self.of_peer(peer)?;
        match timeout(wait, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(BodyPlace {
                _of_peer: of_peer,
                _place: place,
            }),
            Ok(Err(_)) | Err(_) => Err(Refused::BODIES),
        }
    }

    fn of_peer(&self, peer: Option<IpAddr>) -> Result<OfPeer<'_>, Refused> {
        let peer = peer.map(network);
        if let Some(peer) = peer {
            let mut peers = self.peers.lock();
            let of_peer = peers.entry(peer).or_default();
            if *of_peer >= self.of_a_peer {
                return Err(Refused::BODIES_OF_PEER);
            }
            *of_peer += 1;
        }
        Ok(OfPeer { bodies: self, peer })
    }
}

impl Drop for OfPeer<'_> {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut peers = self.bodies.peers.lock();
        if let Some(of_peer) = peers.get_mut(&peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_and_leaves_the_rest() {
        let bodies = Bodies::new(3, 2);
        let place = |peer: &str| bodies.place(Some(peer.parse().unwrap()), Duration::from_secs(1));
        let refused = |place: Result<BodyPlace<'_>, Refused>| place.unwrap_err().refusal;
        let first = place("192.0.2.1").await.unwrap();
        let second = place("192.0.2.1").await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(refused(place("192.0.2.1").await), Refusal::BodiesOfPeer);
        assert_eq!(began.elapsed(), Duration::ZERO, "it does not wait");
        let third = place("192.0.2.2").await.unwrap();
        assert_eq!(refused(place("192.0.2.3").await), Refusal::Bodies);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        drop(first);
        let fourth = place("192.0.2.3").await.unwrap();
        drop((second, third, fourth));
        assert!(bodies.peers.lock().is_empty());
    }
}
