//! Requests that come to a group. RFC 7252 §8

use bytes::{Bytes, BytesMut};
use headgate_coap::{CoapServer, CoapSettings};
use headgate_coap_codec::{Block, Code, Kind, Message, Token, decode, encode, number};
use headgate_model::bus::PeerName;
use headgate_model::datagram::Address;
use headgate_model::{DatagramOutputs, DatagramServer, Destination, Instant, Naming};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const LINKS: &str = "</mqtt>;rt=\"mqtt\";obs,</ps>;rt=\"core.ps\";obs";
const LEISURE: Duration = Duration::from_secs(5);

/// A sender, and whether it spoke to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct At(u8, bool);

const TO_GROUP: At = At(1, true);
const TO_US: At = At(1, false);

impl Address for At {
    const FORGEABLE: bool = true;

    fn presence(&self) -> (PeerName, u16) {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, self.0), 5_683)).presence()
    }

    fn of_presence(_: &str, _: u16) -> Option<Self> {
        None
    }

    fn is_by_group(&self) -> bool {
        self.1
    }
}

struct Bench {
    server: CoapServer<At>,
    out: DatagramOutputs<At>,
    now: Instant,
    next_id: u16,
}

impl Bench {
    fn new(seed: u64, change: impl FnOnce(&mut CoapSettings)) -> Self {
        let mut settings = CoapSettings::default();
        change(&mut settings);
        Self {
            server: CoapServer::repeating(settings, Arc::new(Naming::default()), seed),
            out: DatagramOutputs::default(),
            now: Instant(10_000),
            next_id: 0,
        }
    }

    /// How many bytes it had.
    fn receive(&mut self, from: At, mut message: Message) -> usize {
        self.next_id += 1;
        if message.code != Code::EMPTY {
            message.id = self.next_id;
        }
        let mut bytes = BytesMut::new();
        encode(&message, &mut bytes).unwrap();
        let len = bytes.len();
        self.datagram(from, bytes.freeze());
        len
    }

    fn datagram(&mut self, from: At, bytes: Bytes) {
        self.server.handle_datagram(from, bytes, self.now, &mut self.out);
    }

    /// Everything that is sent in this time, and after how long.
    fn sent_in(&mut self, time: Duration) -> Vec<(Duration, At, Bytes)> {
        let (began, mut all) = (self.now, Vec::new());
        loop {
            for (to, bytes) in self.out.take_datagrams() {
                let Destination::To(to) = to else {
                    panic!("to everybody")
                };
                all.push((self.now.since(began), to, bytes));
            }
            match self.server.deadline().filter(|due| *due <= began + time) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
            self.server.handle_timeout(self.now, &mut self.out);
        }
        self.now = began + time;
        all
    }

    fn is_silent(&mut self) -> bool {
        assert!(self.out.bus.is_empty() && self.out.questions.is_empty());
        self.sent_in(Duration::from_secs(3_600)).is_empty()
    }
}

fn get(path: &[&'static str], query: &[&'static str]) -> Message {
    let token = Token::new(b"to").unwrap();
    let mut message = Message::new(Kind::NonConfirmable, Code::GET, 0, token);
    for segment in path {
        message.options.push(number::URI_PATH, *segment);
    }
    for word in query {
        message.options.push(number::URI_QUERY, *word);
    }
    message
}

fn discovery() -> Message {
    get(&[".well-known", "core"], &[])
}

/// §8.2: the answer comes within Leisure, sooner or later by chance, and is not confirmable. \[RFC7252-8.1-2\] \[RFC7252-8.2-1\]
#[test]
fn what_there_is_is_told_to_who_asks_a_group_some_time_later() {
    let mut times = Vec::new();
    for seed in 0..100 {
        let mut bench = Bench::new(seed, |_| {});
        bench.receive(TO_GROUP, discovery());
        let sent = bench.sent_in(LEISURE);
        let [(time, to, bytes)] = &sent[..] else {
            panic!("{sent:?}")
        };
        let answer = decode(bytes).unwrap();
        assert_eq!((*to, answer.kind), (TO_GROUP, Kind::NonConfirmable));
        assert_eq!((answer.code, &answer.token), (Code::CONTENT, &discovery().token));
        assert_eq!(answer.payload, LINKS);
        times.push(time.as_secs());
    }
    for second in 0..5 {
        let n = times.iter().filter(|time| **time == second).count();
        assert!((5..=40).contains(&n), "{n} of 100 in second {second}");
    }
}

/// Whoever asks us alone is answered at once.
#[test]
fn who_asks_us_alone_does_not_wait() {
    let mut bench = Bench::new(1, |_| {});
    bench.receive(TO_US, discovery());
    assert_eq!(bench.sent_in(Duration::ZERO).len(), 1);
}

/// §8.1: confirmable requests, Resets and acknowledgements have no place there, and nothing gets a Reset. \[RFC7252-8.1-3\] \[RFC7252-8-1\]
#[test]
fn what_is_no_request_without_confirmation_is_not_heard() {
    let mut bench = Bench::new(1, |_| {});
    for kind in [Kind::Confirmable, Kind::Acknowledgement, Kind::Reset] {
        bench.receive(TO_GROUP, Message::empty(kind, 7));
        bench.receive(TO_GROUP, Message { kind, ..discovery() });
    }
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        let code = Code::CONTENT;
        bench.receive(
            TO_GROUP,
            Message {
                kind,
                code,
                ..discovery()
            },
        );
    }
    // A token of nine bytes. §3
    bench.datagram(TO_GROUP, Bytes::from_static(&[0x49, 1, 0, 7]));
    assert!(bench.is_silent());
}

/// §8.2: errors are not told, nor that there is nothing; §11.3: all but the list is for those who ask us alone.
/// \[RFC7252-8-1\] \[RFC7252-8.2-3\] \[RFC7252-11.3-2\]
#[test]
fn who_asks_a_group_hears_of_no_error_and_changes_nothing() {
    let core = [".well-known", "core"];
    let with = |number, value: u32| {
        let mut message = discovery();
        message.options.push_uint(number, value);
        message
    };
    let requests = [
        get(&core, &["rt=something.else"]),
        get(&core, &["ct=40"]),
        get(&["nothing"], &[]),
        get(&["ps", "a"], &[]),
        get(&["mqtt", "a"], &["c=x"]),
        get(&["mqtt", "a"], &[]),
        with(number::ACCEPT, 50),
        with(number::BLOCK1, 0x08),
        with(number::BLOCK2, 0x10),
        with(number::IF_MATCH, 1),
        with(number::PROXY_URI, 1),
    ];
    for request in requests {
        let mut bench = Bench::new(1, |_| {});
        let told = format!("{request:?}");
        bench.receive(TO_GROUP, request);
        assert!(bench.is_silent(), "{told}");
    }
    for code in [Code::PUT, Code::POST, Code::DELETE, Code::FETCH, Code(0x1F)] {
        for path in [&core[..], &["ps", "a"], &["mqtt", "connection"]] {
            let mut bench = Bench::new(1, |_| {});
            let request = get(path, &["c=x", "clientid=x"]);
            bench.receive(TO_GROUP, Message { code, ..request });
            assert!(bench.is_silent(), "{code} {path:?}");
        }
    }
}

/// RFC 6690 §4.1
#[test]
fn a_filter_chooses() {
    for (filter, links) in [
        ("rt=core.p*", "</ps>;rt=\"core.ps\";obs"),
        ("href=/mqtt", "</mqtt>;rt=\"mqtt\";obs"),
    ] {
        let mut bench = Bench::new(1, |_| {});
        bench.receive(TO_GROUP, get(&[".well-known", "core"], &[filter]));
        let sent = bench.sent_in(LEISURE);
        assert_eq!(decode(&sent[0].2).unwrap().payload, links);
    }
}

/// §11.3: nor does an address get more than a few times what came from it this way. What does not fit is fetched from us alone.
/// \[RFC7252-11.3-1\]
#[test]
fn an_address_that_has_proved_nothing_gets_little() {
    for limit in 1..=3_u8 {
        let mut bench = Bench::new(1, |settings| settings.transmission.amplification_limit = limit);
        let got = bench.receive(TO_GROUP, discovery());
        let sent = bench.sent_in(Duration::from_secs(3_600));
        let bytes: usize = sent.iter().map(|(.., bytes)| bytes.len()).sum();
        assert!(bytes <= got * usize::from(limit), "{bytes} for {got}");
        assert_eq!(sent.len(), usize::from(limit > 1), "limit {limit}");
        let Some((.., first)) = sent.first() else { continue };
        let first = decode(first).unwrap();
        let Some(block) = Block::of(&first.options, number::BLOCK2) else {
            assert_eq!(first.payload, LINKS);
            continue;
        };
        let block = block.unwrap();
        assert!(block.more);
        let mut next = discovery();
        let asked = Block {
            number: 1,
            more: false,
            ..block
        };
        asked.put(&mut next.options, number::BLOCK2);
        bench.receive(TO_US, next);
        let sent = bench.sent_in(Duration::ZERO);
        let rest = decode(&sent[0].2).unwrap();
        let so_far = [&first.payload[..], &rest.payload[..]].concat();
        assert!(LINKS.as_bytes().starts_with(&so_far));
        assert!(so_far.len() > block.size());
    }
}

/// §8.2: a new period begins when the one before has ended. Only so many wait, whatever comes. docs/interpretations.md#coap-leisure \[RFC7252-8.2-4\]
#[test]
fn further_answers_come_in_the_next_period() {
    let mut bench = Bench::new(1, |_| {});
    for n in 0..100 {
        bench.receive(At(n, true), discovery());
    }
    let first = bench.sent_in(LEISURE);
    let [(_, At(0, true), _)] = &first[..] else {
        panic!("{first:?}")
    };
    bench.receive(TO_GROUP, discovery());
    let second = bench.sent_in(LEISURE);
    assert_eq!(second.len(), 63);
    assert!(second.iter().all(|(_, At(n, _), _)| (1..64).contains(n)));
    let third = bench.sent_in(LEISURE);
    assert_eq!(third.len(), 1);
    assert!(bench.is_silent());
    bench.receive(TO_GROUP, discovery());
    assert_eq!(
        bench.sent_in(LEISURE).len(),
        1,
        "after a while all is as at first"
    );
}

/// The same message again is not answered again. §4.5
#[test]
fn what_comes_twice_is_answered_once() {
    let mut bench = Bench::new(1, |_| {});
    for _ in 0..2 {
        bench.next_id = 7;
        bench.receive(TO_GROUP, discovery());
    }
    assert_eq!(bench.sent_in(Duration::from_secs(60)).len(), 1);
}

/// \[RFC7252-8.2-1\]
#[test]
fn without_leisure_it_is_answered_at_once() {
    let mut bench = Bench::new(1, |settings| settings.transmission.leisure = Duration::ZERO);
    bench.receive(TO_GROUP, discovery());
    assert_eq!(bench.sent_in(Duration::ZERO).len(), 1);
}
