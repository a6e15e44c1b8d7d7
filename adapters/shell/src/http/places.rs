//! Places for HTTP connections. When all are taken, a newcomer gets that of a connection whose peer is not known, or on which nothing is asked: so whoever
//! holds connections, from however many addresses and with whatever half requests, keeps nobody out, and takes nothing from who has logged in.
//!
//! Always true: there are no more places than `max`, and `reserve` more for this machine; an answer to a peer that is known is cut off for nobody.

use axum::body::{Body, Bytes, HttpBody};
use headgate_access::subscriber;
use hyper::body::{Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
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
    /// Its peer has shown who it is.
    known: bool,
    doing: Doing,
    /// Counts up: who did something longest ago has the lowest.
    since: u64,
    leave: CancellationToken,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing is asked.
    Nothing,
    /// A request is under way whose end has not come.
    Asking,
    /// An answer is under way.
    Answering,
}

impl Holder {
    /// Who makes room first; `None`: never.
    fn rank(&self) -> Option<u8> {
        match (self.known, self.doing) {
            (false, Doing::Nothing) => Some(0),
            (false, Doing::Asking) => Some(1),
            (true, Doing::Nothing) => Some(2),
            (false, Doing::Answering) => Some(3),
            (true, Doing::Asking | Doing::Answering) => None,
        }
    }
}

/// One place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    leave: CancellationToken,
    places: Places,
}

/// A request, and then its answer, is under way as long as this lives.
#[derive(Debug)]
pub(super) struct Asked {
    number: u64,
    places: Places,
}

/// By this a handler says that it knows who asks: it is an extension of the request.
#[derive(Clone, Debug)]
pub struct Caller(pub(super) Option<Arc<Place>>);

impl Caller {
    /// The peer of this connection has shown who it is: what is answered to it is not cut off for strangers.
    pub fn is_known(&self) {
        if let Some(place) = &self.0 {
            place.places.change(place.number, |holder| holder.known = true);
        }
    }
}

impl Places {
    pub(super) fn new(max: usize, reserve: usize) -> Self {
        Self {
            max,
            reserve,
            taken: Arc::default(),
        }
    }

    /// A place for somebody at this address; `None` if those who are known have all of them.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let (address, mut taken) = (subscriber(address), self.taken.lock());
        let room = self.max + if address.is_loopback() { self.reserve } else { 0 };
        if taken.by_number.len() >= room {
            let number = taken.to_leave()?;
            let holder = taken.by_number.remove(&number)?;
            holder.leave.cancel();
        }
        let number = taken.number();
        let leave = CancellationToken::new();
        let holder = Holder {
            address,
            known: false,
            doing: Doing::Nothing,
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

    fn change(&self, number: u64, change: impl FnOnce(&mut Holder)) {
        let mut taken = self.taken.lock();
        let since = taken.number();
        if let Some(holder) = taken.by_number.get_mut(&number) {
            change(holder);
            holder.since = since;
        }
    }
}

impl Taken {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Who makes room: by rank, then one of the address that has the most, and there the one that did nothing for longest.
    fn to_leave(&self) -> Option<u64> {
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        for holder in self.by_number.values() {
            *of_address.entry(holder.address).or_default() += 1;
        }
        let leaving = self.by_number.iter().filter_map(|(number, holder)| {
            let most = usize::MAX - of_address[&holder.address];
            Some(((holder.rank()?, most, holder.since), *number))
        });
        leaving.min().map(|(_, number)| number)
    }
}

impl Place {
    /// Ready when somebody else has got it.
    pub(super) async fn given_away(&self) {
        self.leave.cancelled().await;
    }

    /// A request has come; `whole`: nothing more belongs to it.
    pub(super) fn ask(&self, whole: bool) -> Asked {
        let doing = if whole { Doing::Answering } else { Doing::Asking };
        self.places.change(self.number, |holder| holder.doing = doing);
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

impl Asked {
    /// All of the request is here.
    fn whole(&self) {
        self.places
            .change(self.number, |holder| holder.doing = Doing::Answering);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.places
            .change(self.number, |holder| holder.doing = Doing::Nothing);
    }
}

/// The body of a request, whose end is noted.
pub(super) struct Question {
    body: Incoming,
    asked: Arc<Asked>,
}

impl Question {
    pub(super) fn body(body: Incoming, asked: &Arc<Asked>) -> Body {
        let asked = Arc::clone(asked);
        Body::new(Self { body, asked })
    }
}

impl HttpBody for Question {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.asked.whole();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, which is under way until it ends.
pub(super) struct Answer {
    body: Body,
    _asked: Arc<Asked>,
}

impl Answer {
    pub(super) fn body(body: Body, asked: Arc<Asked>) -> Body {
        Body::new(Self { body, _asked: asked })
    }
}

impl HttpBody for Answer {
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

    fn known(place: &Arc<Place>) {
        Caller(Some(Arc::clone(place))).is_known();
    }

    #[test]
    fn a_newcomer_gets_the_place_of_who_is_silent_longest_where_there_are_most() {
        let places = Places::new(4, 0);
        let one = places.take(at("10.0.0.1")).unwrap();
        let two: Vec<_> = (0..3).map(|_| places.take(at("10.0.0.2")).unwrap()).collect();
        let asked = two[0].ask(true);
        let new = places.take(at("10.0.0.3")).unwrap();
        let all = [&one, &two[0], &two[1], &two[2], &new];
        assert_eq!(all.map(left), [false, false, true, false, false]);
        assert_eq!(places.taken.lock().by_number.len(), 4);
        // Who has asked last is the last to go.
        drop(asked);
        places.take(at("10.0.0.4")).unwrap();
        assert_eq!([left(&two[0]), left(&two[2])], [false, true]);
    }

    /// However many addresses there are, each with a request that does not end: a newcomer comes in, and who has logged in is not disturbed.
    #[test]
    fn half_requests_of_strangers_keep_nobody_out_and_end_no_stream() {
        let places = Places::new(256, 0);
        let admin: Vec<_> = (0..3)
            .map(|_| Arc::new(places.take(at("10.9.9.9")).unwrap()))
            .collect();
        admin.iter().for_each(known);
        let _streams = [admin[0].ask(true), admin[1].ask(true)];
        let mut held = Vec::new();
        for n in 0..1_000_u32 {
            let place = places.take(IpAddr::from(n.to_be_bytes())).unwrap();
            let asked = place.ask(false);
            held.push((place, asked));
        }
        let new = places.take(at("10.8.8.8")).unwrap();
        assert!(!left(&new));
        assert_eq!(
            admin.iter().map(|place| left(place)).collect::<Vec<_>>(),
            [false; 3]
        );
        assert_eq!(places.taken.lock().by_number.len(), 256);
    }

    #[test]
    fn of_known_peers_those_that_do_nothing_make_room_and_the_reserve_is_for_this_machine() {
        let places = Places::new(4, 1);
        let all: Vec<_> = (1..=4)
            .map(|n| Arc::new(places.take(at(&format!("2001:db8:0:{n}::1"))).unwrap()))
            .collect();
        all.iter().for_each(known);
        let asked: Vec<_> = all.iter().map(|place| place.ask(false)).collect();
        asked[3].whole();
        assert!(places.take(at("10.0.0.9")).is_none());
        let here = places.take(at("::ffff:127.0.0.1")).unwrap();
        assert!(places.take(at("::1")).is_some(), "it gives way to another");
        assert!(left(&here));
        drop(asked);
        assert!(places.take(at("10.0.0.9")).is_some());
    }
}
