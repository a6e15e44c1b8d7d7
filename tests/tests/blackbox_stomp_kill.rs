//! The gateway is killed while STOMP clients send, and while durable subscriptions are read. What has its RECEIPT is there afterwards; what was
//! acknowledged with a RECEIPT does not come again. docs/stomp.md, Receipts

use headgate_stomp_codec::{Command, Frame, Version};
use headgate_tests::blackbox::{Daemon, Setup, StompPeer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const LISTENER: &str = "[[listeners]]\nname = \"stomp\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:0\"\n";

/// `HEADGATE_KILL_ROUNDS` for more: `make soak`.
const ROUNDS: u64 = 4;
const MESSAGES: usize = 300;
/// RECEIPTs that the writer waits for at most.
const WINDOW: usize = 10;
/// Every fifth step of the writer is a transaction of so many messages.
const IN_TRANSACTION: usize = 3;
const END: &str = "end";

/// How a reader acknowledges, always with a RECEIPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Each fifth message, with all before it.
    Client,
    /// Each message alone.
    Individual,
    /// Each in a transaction.
    Transaction,
}

const MODES: [Mode; 3] = [Mode::Client, Mode::Individual, Mode::Transaction];

#[test]
#[allow(clippy::print_stderr, reason = "a soak of many rounds says how far it is")]
fn no_receipt_is_broken_when_the_gateway_is_killed() {
    let setup = Setup::with(LISTENER);
    let mut daemon = setup.start();
    let mut readers = MODES.map(|mode| Reader::new(&daemon, mode));
    let rounds = std::env::var("HEADGATE_KILL_ROUNDS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for seed in 0..rounds {
        let mut writer = Writer::new(seed);
        readers.iter_mut().for_each(|reader| reader.begin(seed));
        let kill_at = fastrand::Rng::with_seed(seed).usize(1..MESSAGES * MODES.len());
        let port = daemon.port_of("stomp");
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            work(scope, port, &mut writer, &mut readers, &count);
            while count.load(Ordering::Relaxed) < kill_at {
                thread::sleep(Duration::from_millis(1));
            }
            daemon.kill();
        });
        daemon = setup.start();
        let port = daemon.port_of("stomp");
        thread::scope(|scope| work(scope, port, &mut writer, &mut readers, &count));
        assert!(writer.is_done(), "seed {seed}: {}", setup.log());
        readers.iter().for_each(|reader| reader.check(seed));
        if rounds > ROUNDS {
            eprintln!("round {} of {rounds}: no receipt is broken", seed + 1);
        }
    }
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// All go on until they are done, or the gateway is gone.
fn work<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    port: u16,
    writer: &'scope mut Writer,
    readers: &'scope mut [Reader; 3],
    count: &'scope AtomicUsize,
) {
    for reader in readers {
        let peer = reader.connect(port);
        scope.spawn(move || drop(reader.read(peer, count)));
    }
    let peer = StompPeer::connect(port, Version::V12, "");
    scope.spawn(move || drop(writer.write(peer)));
}

/// Sends messages, some of them in transactions, and repeats on the next connection what has no RECEIPT.
struct Writer {
    seed: u64,
    /// Of the next message.
    next: usize,
    /// How often it has connected.
    attempt: usize,
    /// Numbers of messages, by what has no RECEIPT yet, in their order.
    open: VecDeque<Vec<usize>>,
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            next: 0,
            attempt: 0,
            open: VecDeque::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.next > MESSAGES && self.open.is_empty()
    }

    fn write(&mut self, mut peer: StompPeer) -> io::Result<()> {
        self.attempt += 1;
        for numbers in self.open.clone() {
            self.send(&mut peer, &numbers)?;
        }
        while !self.is_done() {
            // The end comes alone, so that it is the last.
            let may_send = match self.next {
                MESSAGES => self.open.is_empty(),
                next => next < MESSAGES && self.open.len() < WINDOW,
            };
            if may_send {
                let together = if self.next.is_multiple_of(5) {
                    IN_TRANSACTION
                } else {
                    1
                };
                let end = if self.next == MESSAGES {
                    MESSAGES + 1
                } else {
                    MESSAGES.min(self.next + together)
                };
                let numbers: Vec<usize> = (self.next..end).collect();
                self.next = end;
                // First noted, then sent: the gateway may die in between.
                self.open.push_back(numbers.clone());
                self.send(&mut peer, &numbers)?;
                continue;
            }
            let frame = peer.next().ok_or(io::ErrorKind::UnexpectedEof)?;
            let first = self.open.pop_front().expect("something is open");
            let named = (frame.command, frame.get("receipt-id").map(str::to_owned));
            assert_eq!(named, (Command::Receipt, Some(first[0].to_string())));
        }
        Ok(())
    }

    /// Each attempt has a body of its own: a copy of the writer's is no copy of the gateway's.
    fn send(&self, peer: &mut StompPeer, numbers: &[usize]) -> io::Result<()> {
        let body = |n: usize| match n {
            MESSAGES => format!("{} {END} {}", self.seed, self.attempt),
            n => format!("{} {n} {}", self.seed, self.attempt),
        };
        let first = numbers[0];
        if let [n] = numbers {
            let qos = 1 + n % 2;
            return peer.try_send(format!(
                "SEND\ndestination:kill\nqos:{qos}\nreceipt:{n}\n\n{}",
                body(*n)
            ));
        }
        peer.try_send(format!("BEGIN\ntransaction:{first}\n\n"))?;
        for n in numbers {
            peer.try_send(format!(
                "SEND\ndestination:kill\ntransaction:{first}\n\n{}",
                body(*n)
            ))?;
        }
        peer.try_send(format!("COMMIT\ntransaction:{first}\nreceipt:{first}\n\n"))
    }
}

/// A client with a durable subscription, in all rounds.
struct Reader {
    mode: Mode,
    seed: u64,
    /// Numbers of this round's messages, in the order in which the first of each came.
    numbers: Vec<String>,
    seen: BTreeSet<String>,
    ended: bool,
    /// Bodies whose ACK has its RECEIPT.
    settled: BTreeSet<String>,
    /// Bodies whose ACK is under way, by its receipt.
    promised: BTreeMap<String, Vec<String>>,
    /// Came on this connection, and was not acknowledged.
    waiting: Vec<String>,
}

impl Reader {
    fn new(daemon: &Daemon<'_>, mode: Mode) -> Self {
        let reader = Self {
            mode,
            seed: 0,
            numbers: Vec::new(),
            seen: BTreeSet::new(),
            ended: false,
            settled: BTreeSet::new(),
            promised: BTreeMap::new(),
            waiting: Vec::new(),
        };
        let mut peer = reader.connect(daemon.port_of("stomp"));
        peer.done("SUBSCRIBE", &reader.subscription(), "");
        reader
    }

    fn begin(&mut self, seed: u64) {
        self.seed = seed;
        self.numbers.clear();
        self.seen.clear();
        self.ended = false;
    }

    fn connect(&self, port: u16) -> StompPeer {
        StompPeer::connect(port, Version::V12, &format!("client-id:{:?}\n", self.mode))
    }

    fn subscription(&self) -> String {
        let ack = if self.mode == Mode::Client {
            "client"
        } else {
            "client-individual"
        };
        format!("id:0\ndestination:kill\ndurable:true\nqos:2\nack:{ack}\n")
    }

    fn is_done(&self) -> bool {
        self.ended && self.promised.is_empty() && self.waiting.is_empty()
    }

    fn read(&mut self, mut peer: StompPeer, count: &AtomicUsize) -> io::Result<()> {
        self.promised.clear();
        self.waiting.clear();
        peer.try_send(format!("SUBSCRIBE\n{}\n", self.subscription()))?;
        while !self.is_done() {
            let frame = peer.next().ok_or(io::ErrorKind::UnexpectedEof)?;
            match frame.command {
                Command::Message => {
                    self.take(&mut peer, &frame)?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Command::Receipt => {
                    let bodies = self.promised.remove(frame.get("receipt-id").unwrap_or_default());
                    self.settled.extend(bodies.expect("it was asked for"));
                }
                _ => panic!("{frame:?}"),
            }
        }
        Ok(())
    }

    fn take(&mut self, peer: &mut StompPeer, frame: &Frame) -> io::Result<()> {
        let body = String::from_utf8(frame.body.to_vec()).expect("text");
        assert!(
            !self.settled.contains(&body),
            "{:?}: {body} was settled",
            self.mode
        );
        // What the writer repeated in the last round may come in this one.
        if let Some(rest) = body.strip_prefix(&format!("{} ", self.seed)) {
            let number = rest.split(' ').next().expect("a number").to_owned();
            self.ended |= number == END;
            if self.seen.insert(number.clone()) {
                self.numbers.push(number);
            }
        }
        self.waiting.push(body.clone());
        let is_due = self.mode != Mode::Client || self.waiting.len() >= 5 || self.ended;
        let id = frame.get("ack").expect("it is to be acknowledged");
        if !is_due {
            return Ok(());
        }
        self.promised
            .insert(body.clone(), std::mem::take(&mut self.waiting));
        if self.mode != Mode::Transaction {
            return peer.try_send(format!("ACK\nid:{id}\nreceipt:{body}\n\n"));
        }
        peer.try_send(format!("BEGIN\ntransaction:{body}\n\n"))?;
        peer.try_send(format!("ACK\nid:{id}\ntransaction:{body}\n\n"))?;
        peer.try_send(format!("COMMIT\ntransaction:{body}\nreceipt:{body}\n\n"))
    }

    /// Every message is there, and the first of each came in its place.
    fn check(&self, seed: u64) {
        let expected: Vec<String> = (0..MESSAGES)
            .map(|n| n.to_string())
            .chain([END.to_owned()])
            .collect();
        let missing: Vec<&String> = expected.iter().filter(|n| !self.seen.contains(*n)).collect();
        assert!(
            missing.is_empty(),
            "seed {seed}, {:?}: {missing:?} are lost",
            self.mode
        );
        assert!(
            self.numbers == expected,
            "seed {seed}, {:?}: the order differs: {:?}",
            self.mode,
            self.numbers
        );
    }
}
