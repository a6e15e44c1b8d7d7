//! The message layer on a virtual clock. RFC 7252 §4

use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use headgate_coap::{Messenger, Outcome, Received, Requester, Transmission, Unguessable};
use headgate_coap_codec::{Code, Kind, Message, Token, decode, encode};
use headgate_model::{DatagramOutputs, Destination, Instant};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    messenger: Messenger<SocketAddr, u32>,
    out: DatagramOutputs<SocketAddr>,
    now: Instant,
    outcomes: Vec<Outcome<u32>>,
}

fn peer() -> SocketAddr {
    "192.0.2.1:5683".parse().unwrap()
}

fn token() -> Token {
    Token::new(b"to").unwrap()
}

fn request(kind: Kind, id: u16) -> Message {
    Message::new(kind, Code::GET, id, token())
}

fn content(bytes: usize) -> Message {
    Message {
        payload: vec![b'x'; bytes].into(),
        ..Message::new(Kind::Confirmable, Code::CONTENT, 0, token())
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(Transmission {
            amplification_limit: 0,
            ..Transmission::default()
        })
    }

    fn with(transmission: Transmission) -> Self {
        Self {
            messenger: Messenger::new(transmission, Unguessable::repeating(1)),
            out: DatagramOutputs::default(),
            now: Instant(1_000),
            outcomes: Vec::new(),
        }
    }

    fn receive(&mut self, message: &Message) -> Option<Received<SocketAddr, u32>> {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).unwrap();
        self.messenger.receive(peer(), &bytes, self.now, &mut self.out)
    }

    fn asked(&mut self, message: &Message) -> Requester<SocketAddr> {
        match self.receive(message) {
            Some(Received::Request(requester, got)) if got == *message => requester,
            other => panic!("{other:?}"),
        }
    }

    fn respond(&mut self, to: &Requester<SocketAddr>, response: Message) {
        self.messenger.respond(to, response, self.now, &mut self.out);
    }

    fn send(&mut self, message: Message, tag: u32) -> bool {
        self.messenger.send(peer(), message, tag, self.now, &mut self.out)
    }

    fn datagrams(&mut self) -> Vec<Bytes> {
        let all = self.out.take_datagrams();
        all.into_iter()
            .map(|(to, bytes)| {
                assert_eq!(to, Destination::To(peer()));
                bytes
            })
            .collect()
    }

    fn sent(&mut self) -> Vec<Message> {
        self.datagrams()
            .iter()
            .map(|bytes| decode(bytes).unwrap())
            .collect()
    }

    /// Lets time go by, and does what is due when it is due.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.messenger.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let outcomes = &mut self.outcomes;
            self.messenger
                .handle_timeout(self.now, &mut self.out, |_, outcome| outcomes.push(outcome));
        }
        self.now = end;
    }
}

/// §5.2.1: the response is carried in the acknowledgement; §4.5: the same acknowledgement answers each copy of the request.
/// \[RFC7252-4.2-1\] \[RFC7252-4.2-3\] \[RFC7252-4.4-1\] \[RFC7252-4.5-1\] \[RFC7252-4.5-2\] \[RFC7252-5.3.1-1\] \[RFC7252-5.3.1-5\]
#[test]
fn a_request_that_comes_again_gets_the_same_answer() {
    let mut bench = Bench::new();
    let get = request(Kind::Confirmable, 7);
    let requester = bench.asked(&get);
    bench.respond(&requester, content(3));
    let answer = bench.datagrams();
    let message = decode(&answer[0]).unwrap();
    assert_eq!(
        (message.kind, message.id, message.token),
        (Kind::Acknowledgement, 7, token())
    );
    for _ in 0..3 {
        bench.advance(60 * SECOND);
        assert!(bench.receive(&get).is_none(), "it is the same request");
        assert_eq!(bench.datagrams(), answer);
    }
    bench.advance(67 * SECOND);
    assert!(bench.receive(&get).is_some(), "EXCHANGE_LIFETIME is over");
}

/// §5.2.2: what takes its time is acknowledged first, and answered by a message of its own.
/// \[RFC7252-4.2-1\] \[RFC7252-4.2-3\] \[RFC7252-4.2-9\] \[RFC7252-4.5-2\] \[RFC7252-5.2.2-1\] \[RFC7252-5.2.2-2\] \[RFC7252-5.2.2-4\] \[RFC7252-5.3.1-1\]
#[test]
fn a_late_response_is_separate() {
    let mut bench = Bench::new();
    let get = request(Kind::Confirmable, 7);
    let requester = bench.asked(&get);
    bench.advance(SECOND);
    assert_eq!(bench.sent(), [Message::empty(Kind::Acknowledgement, 7)]);
    assert!(bench.receive(&get).is_none());
    assert_eq!(
        bench.sent(),
        [Message::empty(Kind::Acknowledgement, 7)],
        "a copy is acknowledged too"
    );
    bench.respond(&requester, content(3));
    let separate = bench.sent().remove(0);
    assert_eq!(
        (separate.kind, separate.code, separate.token),
        (Kind::Confirmable, Code::CONTENT, token())
    );
    bench.advance(4 * SECOND);
    assert_eq!(
        bench.sent(),
        std::slice::from_ref(&separate),
        "it wants to be acknowledged"
    );
    assert!(
        bench
            .receive(&Message::empty(Kind::Acknowledgement, separate.id))
            .is_none()
    );
    bench.advance(200 * SECOND);
    assert_eq!((bench.sent(), bench.outcomes), (vec![], vec![]));
}

/// §5.2.3, §4.5: NON is answered by NON, and a copy is not answered again.
/// \[RFC7252-4.3-2\] \[RFC7252-4.5-3\] \[RFC7252-5.2.3-1\] \[RFC7252-5.3.1-1\]
#[test]
fn a_request_without_confirmation_is_answered_once() {
    let mut bench = Bench::new();
    let get = request(Kind::NonConfirmable, 7);
    let requester = bench.asked(&get);
    bench.respond(&requester, content(3));
    let answer = bench.sent().remove(0);
    assert_eq!((answer.kind, answer.token), (Kind::NonConfirmable, token()));
    assert!(bench.receive(&get).is_none());
    bench.advance(10 * SECOND);
    assert_eq!(bench.sent(), []);
}

/// §4.2, figure 3 and §4.8: sent again MAX_RETRANSMIT times, after 2, 4, 8 and 16 times a random factor; lost after MAX_TRANSMIT_WAIT.
/// \[RFC7252-4.2-7\] \[RFC7252-4.2-8\]
#[test]
fn what_is_not_acknowledged_is_sent_again_and_then_lost() {
    let mut bench = Bench::new();
    assert!(bench.send(content(3), 42));
    let first = bench.sent();
    let mut times = Vec::new();
    while bench.outcomes.is_empty() {
        let at = bench.messenger.deadline().unwrap();
        times.push(at.since(bench.now).as_millis());
        bench.advance(at.since(bench.now));
        if bench.outcomes.is_empty() {
            assert_eq!(bench.sent(), first);
        }
    }
    assert_eq!(bench.outcomes, [Outcome::Lost(42)]);
    assert_eq!(times.len(), 5);
    assert!((2_000..=3_000).contains(&times[0]), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] == 2 * pair[0]), "{times:?}");
    assert_eq!(
        (
            bench.messenger.counts.retransmissions,
            bench.messenger.counts.lost
        ),
        (4, 1)
    );
}

/// §4.7: NSTART is 1. The next message goes when the one before is acknowledged, or rejected.
/// \[RFC7252-4.2-9\] \[RFC7252-4.4-3\] \[RFC7252-4.7-1\] \[RFC7252-5.2.2-4\] \[RFC7641-4.5.1-2\]
#[test]
fn one_message_is_under_way_at_a_time() {
    let mut bench = Bench::new();
    (1..=3).for_each(|tag| assert!(bench.send(content(1), tag)));
    let first = bench.sent();
    assert_eq!(first.len(), 1);
    let got = bench.receive(&Message::empty(Kind::Acknowledgement, first[0].id));
    assert!(matches!(got, Some(Received::Outcome(Outcome::Acknowledged(1)))));
    let second = bench.sent();
    assert_eq!(second.len(), 1);
    let got = bench.receive(&Message::empty(Kind::Reset, second[0].id));
    assert!(matches!(got, Some(Received::Outcome(Outcome::Rejected(2)))));
    assert_eq!(bench.sent().len(), 1);
    assert!(
        bench
            .receive(&Message::empty(Kind::Acknowledgement, first[0].id))
            .is_none(),
        "a copy settles nothing"
    );
    bench.advance(100 * SECOND);
    assert_eq!(bench.outcomes, [Outcome::Lost(3)]);
}

/// §4.3, §4.2: a ping is answered by a reset, and so is what has no meaning. What is neither is ignored.
/// \[RFC7252-4.1-1\] \[RFC7252-4.2-1\] \[RFC7252-4.2-2\] \[RFC7252-4.2-4\] \[RFC7252-4.2-5\] \[RFC7252-4.3-3\] \[RFC7252-4.4-1\]
#[test]
fn pings_and_nonsense() {
    let mut bench = Bench::new();
    assert!(bench.receive(&Message::empty(Kind::Confirmable, 9)).is_none());
    assert_eq!(bench.sent(), [Message::empty(Kind::Reset, 9)]);
    let reserved = Message::new(Kind::Confirmable, Code::new(1, 1), 10, token());
    assert!(bench.receive(&reserved).is_none());
    assert_eq!(bench.sent(), [Message::empty(Kind::Reset, 10)]);
    for ignored in [
        Message::empty(Kind::NonConfirmable, 11),
        Message::empty(Kind::Reset, 12),
        Message::empty(Kind::Acknowledgement, 13),
        Message::new(Kind::NonConfirmable, Code::new(6, 1), 14, token()),
        Message::new(Kind::Acknowledgement, Code::GET, 15, token()),
        Message::new(Kind::Reset, Code::GET, 16, token()),
    ] {
        assert!(bench.receive(&ignored).is_none());
        assert_eq!(bench.sent(), [], "{ignored:?}");
    }
    let malformed = b"\x40\x01\x00\x11\xff";
    let got = bench
        .messenger
        .receive(peer(), malformed, bench.now, &mut bench.out);
    assert!(got.is_none());
    assert_eq!(bench.sent(), [Message::empty(Kind::Reset, 17)]);
}

/// §3, §4.3: another version of CoAP, and what is malformed and wants no confirmation, is ignored. \[RFC7252-3-2\] \[RFC7252-4.3-3\]
#[test]
fn what_cannot_be_answered_is_ignored() {
    let mut bench = Bench::new();
    for ignored in [
        &b"\x80\x01\x00\x11"[..],
        b"\x00\x01\x00\x11",
        b"\x50\x01\x00\x11\xff",
        b"\x59\x01\x00\x11123456789",
    ] {
        let got = bench
            .messenger
            .receive(peer(), ignored, bench.now, &mut bench.out);
        assert!(got.is_none());
        assert_eq!(bench.sent(), [], "{ignored:?}");
    }
}

/// §4.2: the state for an acknowledgement stays, though the separate response was acknowledged. \[RFC7252-4.2-10\]
#[test]
fn a_request_that_was_answered_apart_is_acknowledged_again() {
    let mut bench = Bench::new();
    let get = request(Kind::Confirmable, 7);
    let requester = bench.asked(&get);
    bench.advance(SECOND);
    assert_eq!(bench.sent().len(), 1);
    bench.respond(&requester, content(3));
    let separate = bench.sent().remove(0);
    bench.receive(&Message::empty(Kind::Acknowledgement, separate.id));
    assert!(bench.receive(&get).is_none());
    assert_eq!(bench.sent(), [Message::empty(Kind::Acknowledgement, 7)]);
}

/// §5.2: whoever asks takes a response in an acknowledgement, or apart from it with or without confirmation; each copy is acknowledged in the same way.
/// \[RFC7252-4.5-1\] \[RFC7252-5.2.1-1\] \[RFC7252-5.2.2-3\] \[RFC7252-5.2.3-2\]
#[test]
fn a_response_may_come_in_any_message() {
    let mut bench = Bench::new();
    assert!(bench.send(request(Kind::Confirmable, 0), 1));
    let asked = bench.sent().remove(0);
    let unconfirmed = Message {
        kind: Kind::NonConfirmable,
        id: 900,
        ..content(3)
    };
    let got = bench.receive(&unconfirmed);
    assert!(matches!(got, Some(Received::Response(_, message, None)) if message == unconfirmed));
    let separate = Message {
        id: 901,
        ..content(3)
    };
    let Some(Received::Response(from, message, None)) = bench.receive(&separate) else {
        panic!("it is a response");
    };
    assert_eq!(message, separate);
    bench.messenger.acknowledge(&from, &mut bench.out);
    let acknowledgement = Message::empty(Kind::Acknowledgement, 901);
    assert_eq!(bench.sent(), std::slice::from_ref(&acknowledgement));
    assert!(bench.receive(&separate).is_none());
    assert_eq!(bench.sent(), [acknowledgement]);
    let piggybacked = Message {
        kind: Kind::Acknowledgement,
        id: asked.id,
        ..content(3)
    };
    let got = bench.receive(&piggybacked);
    assert!(matches!(got, Some(Received::Response(_, _, Some(1)))));
}

/// §5.2.2: a response is not sent again after an acknowledgement, whatever else that says. \[RFC7252-5.2.2-4\]
#[test]
fn an_acknowledgement_with_something_in_it_is_one() {
    let mut bench = Bench::new();
    assert!(bench.send(content(3), 1));
    let sent = bench.sent().remove(0);
    let odd = Message {
        kind: Kind::Acknowledgement,
        id: sent.id,
        ..content(2)
    };
    let got = bench.receive(&odd);
    assert!(matches!(got, Some(Received::Response(_, _, Some(1)))));
    bench.advance(200 * SECOND);
    assert_eq!((bench.sent(), bench.outcomes), (vec![], vec![]));
}

/// §4.4: an acknowledgement from another address is of nothing. \[RFC7252-4.4-3\]
#[test]
fn an_acknowledgement_from_elsewhere_is_none() {
    let mut bench = Bench::new();
    assert!(bench.send(content(3), 1));
    let sent = bench.sent().remove(0);
    let mut bytes = BytesMut::new();
    encode(&Message::empty(Kind::Acknowledgement, sent.id), &mut bytes).unwrap();
    let other = "192.0.2.2:5683".parse().unwrap();
    let got = bench.messenger.receive(other, &bytes, bench.now, &mut bench.out);
    assert!(got.is_none());
    bench.advance(4 * SECOND);
    assert_eq!(bench.sent(), [sent], "it is sent again");
}

/// We ping, too: a reset says that the peer is there.
#[test]
fn a_ping_of_ours_tells_whether_a_peer_is_there() {
    let mut bench = Bench::new();
    assert!(bench.messenger.ping(peer(), 5, bench.now, &mut bench.out));
    let ping = bench.sent().remove(0);
    assert_eq!((ping.kind, ping.code), (Kind::Confirmable, Code::EMPTY));
    let got = bench.receive(&Message::empty(Kind::Reset, ping.id));
    assert!(matches!(got, Some(Received::Outcome(Outcome::Acknowledged(5)))));
    bench.messenger.ping(peer(), 6, bench.now, &mut bench.out);
    bench.advance(100 * SECOND);
    assert_eq!(bench.outcomes, [Outcome::Lost(6)]);
}

/// §4.2: a notification that a peer does not know is rejected, also one that wanted no confirmation. \[RFC7252-4.4-3\]
#[test]
fn a_rejection_finds_what_it_is_about() {
    let mut bench = Bench::new();
    for tag in 0..20 {
        assert!(bench.send(
            Message {
                kind: Kind::NonConfirmable,
                ..content(1)
            },
            tag
        ));
    }
    let sent = bench.sent();
    let got = bench.receive(&Message::empty(Kind::Reset, sent[17].id));
    assert!(matches!(got, Some(Received::Outcome(Outcome::Rejected(17)))));
    assert!(
        bench.receive(&Message::empty(Kind::Reset, sent[2].id)).is_none(),
        "too long ago"
    );
}

/// RFC 7252 §11.3: an address that has proved nothing gets no more than three times what came from it. The proof is the answer to a ping.
/// \[RFC7252-4.4-3\] \[RFC7252-11.3-1\]
#[test]
fn what_is_long_waits_for_a_proof() {
    let mut bench = Bench::with(Transmission::default());
    let get = request(Kind::Confirmable, 7);
    let requester = bench.asked(&get);
    let came = requester.bytes;
    bench.respond(&requester, content(1_000));
    let sent = bench.datagrams();
    assert!(sent.iter().map(Bytes::len).sum::<usize>() <= 3 * came);
    let messages: Vec<_> = sent.iter().map(|bytes| decode(bytes).unwrap()).collect();
    let ping = &messages[0];
    assert_eq!(
        (ping.kind, ping.code, messages.len()),
        (Kind::Confirmable, Code::EMPTY, 1)
    );

    assert!(
        bench
            .receive(&Message::empty(Kind::Reset, ping.id.wrapping_add(1)))
            .is_none()
    );
    assert_eq!(bench.sent(), [], "a wrong guess proves nothing");
    bench.receive(&Message::empty(Kind::Reset, ping.id));
    let piggybacked = bench.sent().remove(0);
    assert_eq!(
        (piggybacked.kind, piggybacked.id, piggybacked.payload.len()),
        (Kind::Acknowledgement, 7, 1_000)
    );
    assert!(bench.messenger.is_proved(peer()));
    let requester = bench.asked(&request(Kind::Confirmable, 8));
    bench.respond(&requester, content(1_000));
    assert_eq!(
        bench.sent()[0].kind,
        Kind::Acknowledgement,
        "from then on it is answered at once"
    );
}

/// The same when nothing ever comes back, and when requests go on coming under the victim's address. \[RFC7252-11.3-1\]
#[test]
fn a_forged_address_gets_three_times_what_came_at_most() {
    let mut bench = Bench::with(Transmission::default());
    let (mut came, mut sent) = (0, 0);
    for id in 0..200 {
        let kind = if id % 2 == 0 {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        let get = request(kind, id);
        let requester = bench.asked(&get);
        came += requester.bytes;
        bench.respond(&requester, content(usize::from(id) * 7));
        bench.receive(&get);
        came += requester.bytes;
        bench.advance(Duration::from_millis(700));
        sent += bench.datagrams().iter().map(Bytes::len).sum::<usize>();
        assert!(sent <= 3 * came, "{sent} for {came} after {id}");
    }
    bench.advance(300 * SECOND);
    sent += bench.datagrams().iter().map(Bytes::len).sum::<usize>();
    assert!(sent <= 3 * came, "{sent} for {came}");
}

/// What waits has a bound in messages and in bytes, and so have peers.
#[test]
fn there_is_a_bound_for_what_waits() {
    let mut bench = Bench::with(Transmission {
        max_waiting: 3,
        max_waiting_bytes: 64 << 10,
        max_peers: 2,
        amplification_limit: 0,
        ..Transmission::default()
    });
    let sent: Vec<bool> = (0..5).map(|tag| bench.send(content(1), tag)).collect();
    assert_eq!(sent, [true, true, true, false, false]);
    let others: Vec<SocketAddr> = (2..5)
        .map(|n| format!("192.0.2.{n}:1").parse().unwrap())
        .collect();
    let room = others.map_send(&mut bench, 60_000);
    assert_eq!(room, [true, false, false], "the third peer has no place");
    bench.advance(1_000 * SECOND);
    let room = others.map_send(&mut bench, 40_000);
    assert_eq!(room, [true, false, false], "together they have 64 KiB");
}

trait Others {
    fn map_send(&self, bench: &mut Bench, bytes: usize) -> Vec<bool>;
}

impl Others for Vec<SocketAddr> {
    fn map_send(&self, bench: &mut Bench, bytes: usize) -> Vec<bool> {
        let send = |at: &SocketAddr| {
            bench
                .messenger
                .send(*at, content(bytes), 9, bench.now, &mut bench.out)
        };
        let sent = self.iter().map(send).collect();
        let _ = bench.out.take_datagrams();
        sent
    }
}
