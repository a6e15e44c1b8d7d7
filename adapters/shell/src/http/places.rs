//! Places for HTTP connections. When all are taken, a newcomer gets that of a connection on which nothing is asked, or else one of the address that has
//! the most: so whoever holds connections, from however many addresses, keeps nobody out.
//!
//! Always true: there are no more places than `max`, and `reserve` more for this machine.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

/// The places. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    max: usize,
    reserve: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by_number: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    address: IpAddr,
    /// Requests that are answered, one at most; while there is none it may have to go.
    asked: usize,
    /// Counts up: who asked longest ago has the lowest.
    since: u64,
    leave: CancellationToken,
}

/// One place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    leave: CancellationToken,
    places: Places,
}

/// A request is being answered as long as this lives.
#[derive(Debug)]
pub(super) struct Asked {
    number: u64,
    places: Places,
}

impl Places {
    pub(super) fn new(max: usize, reserve: usize) -> Self {
        Self {
            max,
            reserve,
            taken: Arc::default(),
        }
    }

    /// A place for somebody at this address; `None` if all are taken by others with no more than one each.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let (address, mut taken) = (network(address), self.taken.lock());
        let is_here = address.is_loopback();
        let room = self.max + if is_here { self.reserve } else { 0 };
        if taken.by_number.len() >= room {
            let number = taken.to_leave(address)?;
            let holder = taken.by_number.remove(&number)?;
            holder.leave.cancel();
        }
        let number = taken.number();
        let leave = CancellationToken::new();
        let holder = Holder {
            address,
            asked: 0,
            since: number,
            leave: leave.clone(),
        };
        taken.by_number.insert(number, holder);
        Some(Place {
            number,
            leave,
            places: self.clone(),
        })
    }

    fn change(&self, number: u64, asked: impl FnOnce(usize) -> usize) {
        let mut taken = self.taken.lock();
        let since = taken.number();
        if let Some(holder) = taken.by_number.get_mut(&number) {
            holder.asked = asked(holder.asked);
            holder.since = since;
        }
    }
}

impl Taken {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Who makes room: of the connections on which nothing is asked, or else of all, one of the address that has the most, and there the one that has been
    /// silent, or asking, for longest. One that asks gives way only to an address that has fewer.
    fn to_leave(&self, newcomer: IpAddr) -> Option<u64> {
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        for holder in self.by_number.values() {
            *of_address.entry(holder.address).or_default() += 1;
        }
        let here = of_address.get(&newcomer).copied().unwrap_or(0);
        let may_leave = |holder: &Holder| holder.asked == 0 || of_address[&holder.address] > here + 1;
        let leaving = self.by_number.iter().filter(|(_, holder)| may_leave(holder));
        let first = leaving.min_by_key(|(_, holder)| {
            let most = usize::MAX - of_address[&holder.address];
            (holder.asked > 0, most, holder.since)
        });
        first.map(|(number, _)| *number)
    }
}

/// Who has one IPv6 address has its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        other => other,
    }
}

impl Place {
    /// Ready when somebody else has got it.
    pub(super) async fn given_away(&self) {
        self.leave.cancelled().await;
    }

    /// A request has come.
    pub(super) fn ask(&self) -> Asked {
        self.places.change(self.number, |asked| asked + 1);
        Asked {
            number: self.number,
            places: self.places.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().by_number.remove(&self.number);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.places.change(self.number, |asked| asked.saturating_sub(1));
    }
}

/// The body of an answer, which is under way until it ends.
pub(super) struct Answered {
    body: Body,
    _asked: Asked,
}

impl Answered {
    pub(super) fn body(body: Body, asked: Asked) -> Body {
        Body::new(Self { body, _asked: asked })
    }
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn left(place: &Place) -> bool {
        place.leave.is_cancelled()
    }

    #[test]
    fn a_newcomer_gets_the_place_of_who_is_silent_longest_where_there_are_most() {
        let places = Places::new(4, 0);
        let one = places.take(at("10.0.0.1")).unwrap();
        let two: Vec<_> = (0..3).map(|_| places.take(at("10.0.0.2")).unwrap()).collect();
        let asked = two[0].ask();
        let new = places.take(at("10.0.0.3")).unwrap();
        let all = [&one, &two[0], &two[1], &two[2], &new];
        assert_eq!(all.map(left), [false, false, true, false, false]);
        assert_eq!(places.taken.lock().by_number.len(), 4);
        // Who has asked last is the last to go.
        drop(asked);
        places.take(at("10.0.0.4")).unwrap();
        assert_eq!([left(&two[0]), left(&two[2])], [false, true]);
    }

    #[test]
    fn who_asks_gives_way_to_an_address_that_has_fewer_and_to_no_other() {
        let places = Places::new(4, 0);
        let many: Vec<_> = (0..4).map(|_| places.take(at("2001:db8::1")).unwrap()).collect();
        let asked: Vec<_> = many.iter().map(Place::ask).collect();
        assert!(places.take(at("2001:db8::2")).is_none(), "of the same network");
        let new = places.take(at("2001:db8:0:1::1")).unwrap();
        assert_eq!(
            many.iter().map(left).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        drop((asked, many));
        assert_eq!(places.taken.lock().by_number.len(), 1);
        drop(new);
        assert_eq!(places.taken.lock().by_number.len(), 0);
    }

    #[test]
    fn one_each_and_all_asking_nobody_gives_way_but_this_machine_has_a_reserve() {
        let places = Places::new(4, 1);
        let all: Vec<_> = (1..=4)
            .map(|n| places.take(at(&format!("10.0.0.{n}"))).unwrap())
            .collect();
        let _asked: Vec<_> = all.iter().map(Place::ask).collect();
        assert!(places.take(at("10.0.0.9")).is_none());
        assert!(places.take(at("::ffff:127.0.0.1")).is_some());
        assert!(places.take(at("::1")).is_some());
    }
}
