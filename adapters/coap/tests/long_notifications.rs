//! Notifications in blocks: RFC 7959 §2.6. A message is settled when its first block was acknowledged and its last one fetched.

mod bench;

use bench::{Bench, at, get, observe, post, put, text, token};
use headgate_coap_codec::{Block, Code, Kind, Message, number};
use headgate_model::Qos;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// MAX_TRANSMIT_WAIT: so long a block is waited for.
const PATIENCE: Duration = Duration::from_secs(93);
const SZX: u8 = 6;

/// A body of so many blocks, the last of which is not full.
fn body(name: char, blocks: usize) -> String {
    let lines = (0..).map(|n| format!("{name}{n:06} "));
    let text: String = lines.take(blocks * 128).collect();
    text[..blocks * 1_024 - 100].to_owned()
}

fn observing(qos: &str) -> Bench {
    let mut bench = Bench::new();
    bench.exchange(at(1), observe(&format!("ps/%2B?c=o{qos}"), 7, 0));
    bench
}

fn block_of(message: &Message) -> Block {
    Block::of(&message.options, number::BLOCK2).unwrap().unwrap()
}

/// The next thing that is sent, a notification, is acknowledged.
fn acknowledged(bench: &mut Bench) -> Message {
    let mut sent = bench.sent(at(1));
    assert_eq!(sent.len(), 1, "{sent:?}");
    let first = sent.remove(0);
    assert_eq!(
        (first.token, first.options.has(number::OBSERVE)),
        (token(7), true)
    );
    bench.answer(at(1), Kind::Acknowledgement, first.id);
    first
}

fn ask_for(number: u32, uri: &str) -> Message {
    let mut message = get(uri);
    let more = false;
    Block {
        number,
        more,
        szx: SZX,
    }
    .put(&mut message.options, number::BLOCK2);
    message
}

/// Fetches the block of this number: what it holds, and whether there is more.
fn fetch_block(bench: &mut Bench, number: u32) -> (String, bool) {
    bench.ask(at(1), ask_for(number, "ps/%2B?c=o"));
    let sent = bench.sent(at(1));
    let part = sent.iter().find(|message| message.kind == Kind::Acknowledgement);
    let part = part.expect("an answer");
    assert_eq!((part.code, block_of(part).number), (Code::CONTENT, number));
    // What else was sent is looked at later.
    for other in sent
        .iter()
        .filter(|message| message.kind != Kind::Acknowledgement)
    {
        bench.put_back(at(1), other);
    }
    (text(part), block_of(part).more)
}

/// Fetches what is left.
fn fetch_rest(bench: &mut Bench, first: &Message) -> String {
    let mut all = text(first);
    for number in 1.. {
        let (part, more) = fetch_block(bench, number);
        all += &part;
        if !more {
            break;
        }
    }
    all
}

/// The second message waits until the first was fetched to its end, whatever its topic. \[RFC7641-4.5.1-2\]
#[test]
fn long_messages_come_one_after_the_other() {
    let mut bench = observing("");
    let bodies = [body('a', 3), body('b', 2), body('c', 5)];
    for (topic, body) in ["one", "two", "one"].iter().zip(&bodies) {
        bench.publish(topic, body, Qos::AtLeastOnce);
    }
    for (topic, body) in ["one", "two", "one"].iter().zip(&bodies) {
        let first = acknowledged(&mut bench);
        assert_eq!(first.options.get(number::LOCATION_PATH).unwrap(), topic);
        assert_eq!(bench.sent(at(1)), [], "the others wait");
        assert!(fetch_rest(&mut bench, &first) == *body);
    }
    assert_eq!(bench.left_of("$coap/o/+"), 0);
}

/// What is short waits for its turn, too, at any QoS.
#[test]
fn the_order_is_kept() {
    let mut bench = observing("");
    let long = body('a', 2);
    bench.publish("t", &long, Qos::AtLeastOnce);
    bench.publish("t", "1", Qos::AtMostOnce);
    bench.publish("t", "2", Qos::AtLeastOnce);
    bench.publish("t", "3", Qos::AtLeastOnce);
    let first = acknowledged(&mut bench);
    assert_eq!(bench.sent(at(1)), []);
    assert!(fetch_rest(&mut bench, &first) == long);
    assert_eq!(bench.notified(at(1), 7), ["1", "2", "3"]);
    assert_eq!(bench.left_of("$coap/o/+"), 0);
}

/// An acknowledgement that comes late, or is lost with the first and comes for the second, is one.
#[test]
fn the_rest_may_be_fetched_before_the_first_block_is_acknowledged() {
    let mut bench = observing("");
    let long = body('a', 3);
    bench.publish("t", &long, Qos::AtLeastOnce);
    bench.publish("t", "next", Qos::AtLeastOnce);
    let first = bench.sent(at(1)).remove(0);
    assert!(fetch_rest(&mut bench, &first) == long);
    assert_eq!(bench.sent(at(1)), []);
    bench.advance(4 * SECOND);
    let again = acknowledged(&mut bench);
    assert_eq!(again.id, first.id);
    assert_eq!(bench.notified(at(1), 7), ["next"]);
}

/// As long as blocks are fetched, however slowly, nothing is sent again and nobody is lost.
#[test]
fn a_slow_client_has_the_time_it_takes() {
    let mut bench = observing("");
    let long = body('a', 12);
    bench.publish("t", &long, Qos::AtLeastOnce);
    let first = acknowledged(&mut bench);
    let mut all = text(&first);
    for number in 1..12 {
        bench.advance(60 * SECOND);
        all += &fetch_block(&mut bench, number).0;
    }
    assert!(all == long);
    assert_eq!(bench.left_of("$coap/o/+"), 0);
}

/// Who acknowledges and fetches nothing is notified again, then lost as one that does not acknowledge; the message waits for it. When it comes back and does the
/// same, the message is given up, and the next one comes.
#[test]
fn what_is_not_fetched_is_sent_again_and_blocks_nobody_for_ever() {
    let mut bench = observing("");
    bench.publish("t", &body('a', 3), Qos::AtLeastOnce);
    bench.publish("t", "next", Qos::AtLeastOnce);
    let mut sequence = 0;
    for _ in 0..3 {
        let first = acknowledged(&mut bench);
        let observe = first.options.uint(number::OBSERVE).unwrap();
        assert!(observe > sequence, "RFC 7641 §3.4");
        sequence = observe;
        bench.advance(PATIENCE - SECOND);
        assert_eq!(bench.sent(at(1)), []);
        bench.advance(SECOND);
    }
    assert_eq!(bench.sent(at(1)), [], "it is lost");
    assert_eq!(bench.left_of("$coap/o/+"), 2);
    assert_eq!(bench.counts["coap/notifications/dropped"], 1);

    bench.exchange(at(1), observe("ps/%2B?c=o", 7, 0));
    for _ in 0..3 {
        acknowledged(&mut bench);
        bench.advance(PATIENCE);
    }
    assert_eq!(bench.notified(at(1), 7), ["next"]);
    assert_eq!(bench.left_of("$coap/o/+"), 0);
    assert_eq!(bench.counts["coap/notifications/dropped"], 2);
}

/// RFC 7641 §3.3.1: a client may say again that it observes, at any time. What is under way goes on.
#[test]
fn who_observes_again_in_the_middle_goes_on() {
    let mut bench = observing("");
    let long = body('a', 6);
    bench.publish("t", &long, Qos::AtLeastOnce);
    bench.publish("t", "next", Qos::AtLeastOnce);
    let first = acknowledged(&mut bench);
    let mut all = text(&first);
    for number in 1..6 {
        let (code, _) = bench.exchange(at(1), observe("ps/%2B?c=o", 7, 0));
        assert_eq!(code, Code::CONTENT);
        bench.advance(50 * SECOND);
        all += &fetch_block(&mut bench, number).0;
    }
    assert!(all == long);
    assert_eq!(bench.notified(at(1), 7), ["next"]);
    for n in 0..20 {
        bench.publish("t", &n.to_string(), Qos::AtMostOnce);
        assert_eq!(bench.notified(at(1), 7), [n.to_string()], "with credit for more");
    }
    assert_eq!((bench.left_of("$coap/o/+"), bench.gauge("observations")), (0, 1));
}

/// A client with a connection may be somewhere else by the next block.
#[test]
fn who_moves_in_the_middle_goes_on() {
    let mut bench = Bench::new();
    let (_, token) = bench.exchange(at(1), post("mqtt/connection?c=o", ""));
    let uri = format!("ps/%2B?c=o&t={token}");
    bench.exchange(at(1), observe(&uri, 7, 0));
    let (long, next) = (body('a', 4), body('b', 2));
    bench.publish("t", &long, Qos::AtLeastOnce);
    bench.publish("t", &next, Qos::AtLeastOnce);
    let mut all = text(&acknowledged(&mut bench));
    all += &bench.exchange(at(1), ask_for(1, &uri)).1;
    bench.exchange(at(2), put(&format!("ps/x?c=o&t={token}"), "moved"));
    for number in 2..4 {
        all += &bench.exchange(at(2), ask_for(number, &uri)).1;
    }
    assert!(all == long);
    let first = bench.sent(at(2)).remove(0);
    assert!(text(&first) == next[..1_024]);
}

/// One long message for many observers has room, whatever `max_transfer_bytes` is: they hold the same bytes.
#[test]
fn many_fetch_the_same_message() {
    let mut bench = Bench::with(|settings| settings.max_transfer_bytes = 1 << 20);
    let long = body('a', 200);
    for n in 1..40 {
        bench.exchange(at(n), observe(&format!("ps/%2B?c=o{n}"), 7, 0));
    }
    bench.publish("t", &long, Qos::AtLeastOnce);
    for n in 1..40 {
        let first = bench.sent(at(n)).remove(0);
        bench.answer(at(n), Kind::Acknowledgement, first.id);
        let mut all = text(&first);
        for number in 1..200 {
            all += &bench
                .exchange(at(n), ask_for(number, &format!("ps/%2B?c=o{n}")))
                .1;
        }
        assert!(all == long, "{n}");
        assert_eq!(bench.left_of(&format!("$coap/o{n}/+")), 0);
    }
    assert!(!bench.counts.contains_key("coap/notifications/dropped"));
}

/// A power cut between the first block and the last: the message was not settled.
#[test]
fn what_was_not_fetched_is_there_after_a_restart() {
    let mut bench = observing("");
    let long = body('a', 3);
    bench.publish("t", &long, Qos::AtLeastOnce);
    acknowledged(&mut bench);
    fetch_block(&mut bench, 1);
    bench.restart();
    let first = acknowledged(&mut bench);
    assert!(fetch_rest(&mut bench, &first) == long);
    assert_eq!(bench.left_of("$coap/o/+"), 0);
}

/// RFC 7641 §1.3: of what wants no acknowledgement the newest counts; an older one that was not fetched is counted.
#[test]
fn without_confirmation_the_newest_counts() {
    let mut bench = observing("&qos=0");
    let (old, new) = (body('a', 3), body('b', 3));
    bench.publish("t", &old, Qos::AtMostOnce);
    bench.publish("t", &new, Qos::AtMostOnce);
    let sent = bench.sent(at(1));
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|first| first.kind == Kind::NonConfirmable));
    bench.ask(at(1), ask_for(1, "ps/%2B?c=o&qos=0"));
    let second = bench.sent(at(1)).remove(0);
    assert_eq!(text(&second), new[1_024..2_048]);
    assert_eq!(bench.counts["coap/notifications/dropped"], 1);
}

/// Who cancels while it fetches is not notified again.
#[test]
fn an_observation_ends_in_the_middle() {
    let mut bench = observing("");
    bench.publish("t", &body('a', 3), Qos::AtLeastOnce);
    bench.publish("t", "next", Qos::AtLeastOnce);
    acknowledged(&mut bench);
    bench.exchange(at(1), observe("ps/%2B?c=o", 7, 1));
    bench.advance(10 * PATIENCE);
    let others: Vec<Message> = bench.sent(at(1));
    assert!(
        !others.iter().any(|message| message.options.has(number::OBSERVE)),
        "{others:?}"
    );
}

/// A client that follows the specifications on a link that loses a fifth of all datagrams: it gets everything, whole and in order.
#[test]
fn nothing_is_lost_on_a_lossy_link() {
    for seed in 0..60 {
        let mut bench = Bench::with(|settings| settings.transmission.max_retransmit = 12);
        bench.exchange(at(1), observe("ps/%2B?c=o", 7, 0));
        let mut rng = fastrand::Rng::with_seed(seed);
        let bodies: Vec<String> = ('a'..='f').map(|name| body(name, rng.usize(1..6))).collect();
        for body in &bodies {
            bench.publish("t", body, Qos::AtLeastOnce);
        }
        let mut client = Fetcher::default();
        for _ in 0..10_000 {
            for message in bench.sent(at(1)) {
                if rng.u8(..5) > 0 {
                    client.take(&message, &mut bench, &mut rng);
                }
            }
            bench.advance(SECOND);
            client.tick(&mut bench, &mut rng);
            if client.whole.len() >= bodies.len() && bench.left_of("$coap/o/+") == 0 {
                break;
            }
        }
        assert!(
            client.whole == bodies,
            "seed {seed}: {} of {}",
            client.whole.len(),
            bodies.len()
        );
        assert_eq!(bench.left_of("$coap/o/+"), 0, "seed {seed}");
    }
}

/// A client: what it fetches, and what it has. A notification that comes meanwhile waits.
#[derive(Default)]
struct Fetcher {
    /// Message IDs that have come: RFC 7252 §4.5.
    known: BTreeSet<u16>,
    sequence: u32,
    notified: VecDeque<Message>,
    /// What it has so far of a message, and the request for the next block, which is sent again as it is: RFC 7252 §4.2.
    fetching: Option<(String, Message)>,
    whole: Vec<String>,
}

impl Fetcher {
    fn take(&mut self, message: &Message, bench: &mut Bench, rng: &mut fastrand::Rng) {
        if message.kind == Kind::Confirmable {
            let kind = match message.code {
                Code::EMPTY => Kind::Reset,
                _ => Kind::Acknowledgement,
            };
            if rng.u8(..5) > 0 {
                bench.answer(at(1), kind, message.id);
            }
            if !self.known.insert(message.id) {
                return;
            }
        }
        if let Some(sequence) = message.options.uint(number::OBSERVE) {
            assert!(sequence > self.sequence);
            self.sequence = sequence;
            self.notified.push_back(message.clone());
        } else if let Some((all, asked)) = &mut self.fetching
            && message.id == asked.id
            && message.code == Code::CONTENT
        {
            *all += &text(message);
            let (all, number) = (std::mem::take(all), block_of(message).number);
            self.fetching = None;
            self.go_on(all, number, block_of(message).more);
        }
        while self.fetching.is_none()
            && let Some(first) = self.notified.pop_front()
        {
            let more = first.options.has(number::BLOCK2);
            self.go_on(text(&first), 0, more);
        }
    }

    /// It has so much, up to this block.
    fn go_on(&mut self, all: String, number: u32, more: bool) {
        if !more {
            return self.whole.push(all);
        }
        let mut next = ask_for(number + 1, "ps/%2B?c=o");
        next.id = 10_000 + 100 * self.sequence as u16 + number as u16;
        self.fetching = Some((all, next));
    }

    /// Asks again for what it has not heard.
    fn tick(&mut self, bench: &mut Bench, rng: &mut fastrand::Rng) {
        if let Some((_, asked)) = &self.fetching
            && rng.u8(..5) > 0
        {
            bench.receive(at(1), asked);
        }
    }
}
