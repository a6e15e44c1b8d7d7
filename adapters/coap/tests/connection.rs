//! CoAP on a connection. RFC 8323

use bytes::{Bytes, BytesMut};
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_coap::{CoapConnection, CoapSettings, CoapWire};
use headgate_coap_codec::{Block, Code, Message, Token, encode_stream, number};
use headgate_model::access::Unrestricted;
use headgate_model::{
    Answer, BusCommand, BusEvent, Endpoint, EndpointId, Identity, Input, Instant, Many, Outputs, PeerFacts,
    Question, SessionKey, WallTime, Wire,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One connection, and the bus.
struct Bench {
    endpoint: CoapConnection,
    wire: CoapWire,
    bus: Bus,
    bus_out: BusOutputs,
    sessions: BTreeMap<SessionKey, EndpointId>,
    now: Instant,
    closed: bool,
}

fn token(n: u8) -> Token {
    Token::new(&[n]).unwrap()
}

fn request(code: Code, path: &[&str], query: &[&str], n: u8) -> Message {
    let mut message = Message::of_stream(code, token(n));
    path.iter()
        .for_each(|segment| message.options.push(number::URI_PATH, (*segment).to_owned()));
    query
        .iter()
        .for_each(|word| message.options.push(number::URI_QUERY, (*word).to_owned()));
    message
}

fn csm(max: u32) -> Message {
    let mut csm = Message::of_stream(Code::CSM, Token::default());
    csm.options.push_uint(number::MAX_MESSAGE_SIZE, max);
    csm
}

impl Bench {
    /// A client that has just connected, and said its CSM.
    fn met() -> Self {
        let mut bench = Self::new();
        let sent = bench.say(&csm(1 << 20));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].code, Code::CSM);
        bench
    }

    fn new() -> Self {
        let settings = CoapSettings::default();
        Self {
            wire: CoapWire::new(&settings),
            endpoint: CoapConnection::new(settings, PeerFacts::default(), Instant::START),
            bus: Bus::new(BusSettings::default(), WallTime(1), 1).unwrap(),
            bus_out: BusOutputs::default(),
            sessions: BTreeMap::new(),
            now: Instant::START,
            closed: false,
        }
    }

    /// Says something; what comes back.
    fn say(&mut self, message: &Message) -> Vec<Message> {
        let mut bytes = BytesMut::new();
        encode_stream(message, &mut bytes).unwrap();
        self.bytes(bytes)
    }

    fn bytes(&mut self, mut bytes: BytesMut) -> Vec<Message> {
        let frame = self
            .wire
            .decode(&mut bytes)
            .expect("a whole frame, or none that can be");
        self.step(Input::Frame(frame))
    }

    fn step(&mut self, input: Input<<CoapConnection as Endpoint>::In, Many>) -> Vec<Message> {
        let mut sent = Vec::new();
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let mut out = Outputs::default();
            self.endpoint.handle(inputs.remove(0), self.now, &mut out);
            sent.append(&mut out.frames);
            self.closed |= out.close;
            for (key, command) in out.bus {
                let next = EndpointId(100 + self.sessions.len() as u64);
                if matches!(command, BusCommand::Open(_)) {
                    self.sessions.insert(key, next);
                }
                self.bus
                    .handle(self.sessions[&key], command, self.now, &mut self.bus_out);
            }
            if self.bus.commit_due().is_some()
                && let Some((number, _)) = self.bus.take_batch()
            {
                self.bus.committed(number, self.now, &mut self.bus_out);
            }
            for (to, event) in self.bus_out.events.drain(..) {
                let key = self.sessions.iter().find(|(_, endpoint)| **endpoint == to);
                if let Some((key, _)) = key {
                    inputs.push(Input::Bus((*key, event)));
                }
            }
            if let Some(Question::Authenticate(credentials)) = out.question {
                let identity = Identity {
                    username: credentials.username,
                    policy: Arc::new(Unrestricted),
                };
                inputs.push(Input::Answer(Answer::Allowed { identity, data: None }));
            }
        }
        sent
    }
}

/// §3.4, §5.3: both begin with a CSM; who does not, or says one that cannot be understood, is sent away.
/// \[RFC8323-3.3-1\] \[RFC8323-3.3-3\] \[RFC8323-5.2-1\] \[RFC8323-5.3-1\] \[RFC8323-5.6-3\]
#[test]
fn a_connection_begins_with_a_csm() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.endpoint.deadline(),
        Some(Instant::START),
        "it greets without being asked"
    );
    assert_eq!(bench.step(Input::Timeout)[0].code, Code::CSM);
    let sent = bench.say(&request(Code::GET, &["ps", "a"], &[], 1));
    assert_eq!((sent[0].code, bench.closed), (Code::ABORT, true));

    let mut bench = Bench::new();
    let mut odd = csm(2_000);
    odd.options.push(7, "?");
    let sent = bench.say(&odd);
    assert_eq!(
        (sent[1].code, sent[1].options.uint(number::BAD_CSM_OPTION)),
        (Code::ABORT, Some(7))
    );
}

/// §5.4, §5.5: Ping is answered by Pong with its token; Release ends the connection. \[RFC8323-3.4-1\] \[RFC8323-5.4-1\] \[RFC8323-5.4-2\]
#[test]
fn signals_are_answered() {
    let mut bench = Bench::met();
    let mut ping = Message::of_stream(Code::PING, token(9));
    ping.options.push(number::CUSTODY, Bytes::new());
    let pong = bench.say(&ping).remove(0);
    assert_eq!(
        (pong.code, pong.token, pong.options.has(number::CUSTODY)),
        (Code::PONG, token(9), true)
    );
    assert_eq!(
        bench.say(&Message::of_stream(Code::EMPTY, Token::default())),
        [],
        "§3.4: ignored"
    );
    bench.say(&Message::of_stream(Code::RELEASE, Token::default()));
    assert!(bench.closed);
}

/// Publish, retain, read and observe are those of datagrams; a long answer needs no blocks where the peer takes it whole.
/// \[RFC8323-3.3-4\] \[RFC8323-7.4-2\]
#[test]
fn topics_are_published_read_and_observed() {
    let mut bench = Bench::met();
    let long = "x".repeat(50_000);
    let publish = Message {
        payload: long.into(),
        ..request(Code::POST, &["ps", "a"], &["c=w", "retain=1"], 1)
    };
    let sent = bench.say(&publish);
    assert_eq!(
        (sent.len(), sent[0].code, sent[0].token),
        (1, Code::CHANGED, token(1))
    );
    let mut observe = request(Code::GET, &["ps", "a"], &["c=o"], 2);
    observe.options.push_uint(number::OBSERVE, 0);
    let sent = bench.say(&observe);
    assert_eq!((sent[0].code, sent[0].payload.len()), (Code::CONTENT, 50_000));
    assert!(sent[0].options.has(number::OBSERVE) && !sent[0].options.has(number::BLOCK2));
    for n in 0..20 {
        let publish = Message {
            payload: n.to_string().into(),
            ..request(Code::PUT, &["mqtt", "a"], &["c=w"], 3)
        };
        let sent = bench.say(&publish);
        let notification = sent
            .iter()
            .find(|message| message.token == token(2))
            .expect("a notification");
        assert_eq!(notification.payload, n.to_string());
        assert!(
            sent.iter()
                .any(|message| message.code == Code::CHANGED && message.token == token(3))
        );
    }
    bench.step(Input::Closed);
    assert!(bench.closed);
    let is_there = |bench: &Bench, client: &str| bench.bus.session_info(client).is_some();
    assert!(
        !is_there(&bench, "w") && is_there(&bench, "$coap/o/a"),
        "what is for it waits"
    );
}

/// A peer that takes little gets blocks. \[RFC8323-5.3.1-1\]
#[test]
fn who_takes_little_gets_blocks() {
    let mut bench = Bench::new();
    bench.say(&csm(1_152));
    let publish = Message {
        payload: vec![b'x'; 5_000].into(),
        ..request(Code::POST, &["ps", "a"], &["retain=1"], 1)
    };
    assert_eq!(bench.say(&publish)[0].code, Code::CHANGED);
    let sent = bench.say(&request(Code::GET, &["ps", "a"], &[], 2));
    assert!(sent[0].options.has(number::BLOCK2) && sent[0].payload.len() <= 1_024);
}

/// Its notifications, too: one after the other, each when the one before was fetched to its end. RFC 7959 §2.6
#[test]
fn who_takes_little_fetches_long_notifications_one_by_one() {
    let mut bench = Bench::new();
    bench.say(&csm(1_152));
    let mut observe = request(Code::GET, &["ps", "a"], &["c=o"], 2);
    observe.options.push_uint(number::OBSERVE, 0);
    bench.say(&observe);
    let bodies = [b'x', b'y'].map(|byte| vec![byte; 2_500]);
    let mut heard = Vec::new();
    for body in &bodies {
        let publish = Message {
            payload: body.clone().into(),
            ..request(Code::PUT, &["mqtt", "a"], &["c=w"], 3)
        };
        let sent = bench.say(&publish);
        heard.extend(sent.into_iter().filter(|message| message.token == token(2)));
    }
    for body in bodies {
        assert_eq!(heard.len(), 1, "{heard:?}");
        let mut all = heard.remove(0).payload.to_vec();
        for number in 1..3 {
            let mut next = request(Code::GET, &["ps", "a"], &["c=o"], 4);
            let (more, szx) = (false, 6);
            Block { number, more, szx }.put(&mut next.options, number::BLOCK2);
            for message in bench.say(&next) {
                match message.token == token(4) {
                    true => all.extend_from_slice(&message.payload),
                    false => heard.push(message),
                }
            }
        }
        assert!(all == body);
    }
    assert_eq!(heard, []);
}

/// A client that only listens is pinged; without a Pong it is gone.
#[test]
fn who_is_silent_is_pinged() {
    let mut bench = Bench::met();
    let mut observe = request(Code::GET, &["ps", "a"], &["c=o"], 2);
    observe.options.push_uint(number::OBSERVE, 0);
    bench.say(&observe);
    for answers in [true, false] {
        bench.now = bench.endpoint.deadline().unwrap();
        assert_eq!(bench.step(Input::Timeout)[0].code, Code::PING);
        if answers {
            bench.say(&Message::of_stream(Code::PONG, Token::default()));
        }
    }
    bench.now = bench.now + Duration::from_secs(300);
    bench.step(Input::Timeout);
    assert!(bench.bus.session_info("o").is_none());
}

/// §5.6: what is too long, or means nothing, ends the connection at once, whatever it says will follow. \[RFC8323-3.2-2\] \[RFC8323-5.6-2\]
#[test]
fn nonsense_ends_a_connection() {
    for bytes in [
        &b"\xf0\x40\x00\x00\x00"[..],
        b"\x09\x01",
        b"\x51\x01a\xf0\x00\x00\x00\x00",
    ] {
        let mut bench = Bench::met();
        let sent = bench.bytes(BytesMut::from(bytes));
        assert_eq!((sent[0].code, bench.closed), (Code::ABORT, true), "{bytes:?}");
    }
    let event = BusEvent::Kicked;
    let mut bench = Bench::met();
    bench.say(&request(Code::PUT, &["mqtt", "a"], &["c=w"], 1));
    let key = *bench.sessions.keys().next().unwrap();
    bench.step(Input::Bus((key, event)));
    assert!(!bench.closed, "others of the connection go on");
}

/// §5.4, §5.6: elective options of a signal that are not known are ignored; Abort says why. \[RFC8323-5.4-3\] \[RFC8323-5.6-1\]
#[test]
fn a_signal_may_say_more_and_an_abort_says_why() {
    let mut bench = Bench::met();
    let mut ping = Message::of_stream(Code::PING, token(3));
    ping.options.push(40, "?");
    let pong = bench.say(&ping).remove(0);
    assert_eq!(
        (pong.code, pong.token, pong.options.is_empty()),
        (Code::PONG, token(3), true)
    );
    let sent = bench.bytes(BytesMut::from(&b"\x09\x01"[..]));
    assert_eq!(sent[0].code, Code::ABORT);
    assert!(!sent[0].payload.is_empty());
}
