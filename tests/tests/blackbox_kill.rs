//! The gateway is killed while messages come in, and while they go out. What it acknowledged is there afterwards.

use headgate_mqtt_codec::{AckKind, Disconnect, Packet, Publish, Qos};
use headgate_tests::blackbox::{Daemon, Peer, Setup, Transport};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `HEADGATE_KILL_ROUNDS` for more: `make soak`.
const ROUNDS: u64 = 5;
const MESSAGES: usize = 600;
const WINDOW: usize = 20;
const EXPIRY: u32 = 3600;
const END: &str = "end";

/// [MQTT-4.3.2-4] [MQTT-4.3.3-10] [MQTT-4.4.0-1] [MQTT-3.1.2-5]
#[test]
#[allow(clippy::print_stderr, reason = "a soak of many rounds says how far it is")]
fn nothing_acknowledged_is_lost_when_the_gateway_is_killed() {
    let setup = Setup::new();
    let mut daemon = setup.start();
    let (mut peer, _) = connect(&daemon, "reader").unwrap();
    peer.subscribe("kill/#", Qos::ExactlyOnce).unwrap();
    peer.vanish();
    let rounds = std::env::var("HEADGATE_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let (mut online, _) = connect(&daemon, "online").unwrap();
    online.subscribe("kill/#", Qos::ExactlyOnce).unwrap();
    online.vanish();
    for seed in 0..rounds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut writer = Writer::new(seed);
        let kill_at = random.usize(1..MESSAGES);
        let mut present = Reader::default();
        daemon = with_receiver(&mut present, &setup, daemon, |daemon| {
            until_killed(&setup, daemon, kill_at, "writer", |peer, count| {
                writer.write(peer, count)
            })
        });
        present.check(seed);
        let mut reader = Reader::default();
        if seed % 2 == 1 {
            let kill_at = random.usize(1..MESSAGES);
            daemon = until_killed(&setup, daemon, kill_at, "reader", |peer, count| {
                reader.read(peer, count)
            });
        } else {
            let (mut peer, _) = connect(&daemon, "reader").unwrap();
            reader.read(&mut peer, &AtomicUsize::new(0)).unwrap();
        }
        reader.check(seed);
        if rounds > ROUNDS {
            eprintln!(
                "round {} of {rounds}: {} messages, nothing lost",
                seed + 1,
                MESSAGES + 1
            );
        }
    }
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
    assert!(!setup.log().contains("could not be read"), "{}", setup.log());
}

fn connect(daemon: &Daemon<'_>, id: &str) -> io::Result<(Peer, bool)> {
    Peer::connect(daemon.port(Transport::Tcp), id, false, EXPIRY)
}

/// Lets the client work, kills the gateway after so many steps, and lets the client finish with the next one.
fn until_killed<'a>(
    setup: &'a Setup,
    daemon: Daemon<'a>,
    kill_at: usize,
    id: &str,
    mut work: impl FnMut(&mut Peer, &AtomicUsize) -> io::Result<()>,
) -> Daemon<'a> {
    let count = AtomicUsize::new(0);
    let (mut peer, _) = connect(&daemon, id).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while count.load(Ordering::Relaxed) < kill_at {
                std::thread::yield_now();
            }
            daemon.kill();
        });
        // It may have been done just before.
        let _ = work(&mut peer, &count);
        count.store(usize::MAX, Ordering::Relaxed);
    });
    let daemon = setup.start();
    let (mut peer, present) = connect(&daemon, id).unwrap();
    assert!(present, "the session of `{id}` survived");
    work(&mut peer, &AtomicUsize::new(0)).unwrap();
    daemon
}

/// A receiver that is connected while the rest happens, and comes back as soon as the gateway does.
fn with_receiver<'a>(
    reader: &mut Reader,
    setup: &'a Setup,
    daemon: Daemon<'a>,
    rest: impl FnOnce(Daemon<'a>) -> Daemon<'a>,
) -> Daemon<'a> {
    let (mut peer, present) = connect(&daemon, "online").unwrap();
    assert!(present);
    std::thread::scope(|scope| {
        let first = scope.spawn(move || {
            // The gateway is killed under it, unless it was done just before.
            let _ = reader.read(&mut peer, &AtomicUsize::new(0));
            reader
        });
        let daemon = rest(daemon);
        let reader = first.join().unwrap();
        if !reader.is_done() {
            let (mut peer, present) = connect(&daemon, "online").unwrap();
            assert!(present, "the session of `online` survived: {}", setup.log());
            reader.read(&mut peer, &AtomicUsize::new(0)).unwrap();
        }
        daemon
    })
}

/// Publishes messages at QoS 1 and 2 in turn, and repeats after a reconnect what was not acknowledged.
struct Writer {
    seed: u64,
    next: usize,
    /// In the order they were published: they are repeated in it. [MQTT-4.6.0-1]
    in_flight: Vec<(u16, Stage)>,
    done: bool,
}

enum Stage {
    Sent(Qos, String),
    Released,
}

fn payload(seed: u64, n: usize) -> String {
    if n == MESSAGES {
        END.into()
    } else {
        format!("{seed}/{n}")
    }
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            next: 0,
            in_flight: Vec::new(),
            done: false,
        }
    }

    fn write(&mut self, peer: &mut Peer, count: &AtomicUsize) -> io::Result<()> {
        for (id, stage) in &self.in_flight {
            match stage {
                Stage::Sent(qos, payload) => peer.publish("kill/it", payload, Some((*qos, *id)), true)?,
                Stage::Released => peer.ack(AckKind::PubRel, *id)?,
            }
        }
        while !self.done {
            if self.next < MESSAGES && self.in_flight.len() < WINDOW {
                self.publish_next(peer)?;
            } else if self.next == MESSAGES && self.in_flight.is_empty() {
                // Alone, so that it is the last.
                self.publish_next(peer)?;
            } else {
                self.on_packet(peer)?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            self.done = self.next > MESSAGES && self.in_flight.is_empty();
        }
        peer.send(&Packet::Disconnect(Disconnect::default()))
    }

    fn publish_next(&mut self, peer: &mut Peer) -> io::Result<()> {
        let qos = if self.next.is_multiple_of(2) {
            Qos::ExactlyOnce
        } else {
            Qos::AtLeastOnce
        };
        let id = (1..)
            .find(|id| self.in_flight.iter().all(|(used, _)| used != id))
            .expect("a window is small");
        let payload = payload(self.seed, self.next);
        self.next += 1;
        // First noted, then sent: the gateway may die in between.
        self.in_flight.push((id, Stage::Sent(qos, payload.clone())));
        peer.publish("kill/it", &payload, Some((qos, id)), false)
    }

    fn on_packet(&mut self, peer: &mut Peer) -> io::Result<()> {
        let Packet::Ack(ack) = peer.recv()? else {
            return Ok(());
        };
        assert!(!ack.reason.is_error() || ack.kind == AckKind::PubComp, "{ack:?}");
        let id = ack.packet_id.get();
        if ack.kind == AckKind::PubRec {
            let released = self.in_flight.iter_mut().filter(|(used, _)| *used == id);
            released.for_each(|(_, stage)| *stage = Stage::Released);
            return peer.ack(AckKind::PubRel, id);
        }
        self.in_flight.retain(|(used, _)| *used != id);
        Ok(())
    }
}

/// Takes messages until the last one, and goes on after a reconnect as a client with a memory does.
#[derive(Default)]
struct Reader {
    received: Vec<Publish>,
    /// QoS 2 identifiers that were not released yet.
    held: BTreeSet<u16>,
    ended: bool,
}

impl Reader {
    fn is_done(&self) -> bool {
        self.ended && self.held.is_empty()
    }

    fn read(&mut self, peer: &mut Peer, count: &AtomicUsize) -> io::Result<()> {
        while !self.is_done() {
            match peer.recv()? {
                Packet::Publish(publish) => self.on_publish(peer, publish)?,
                Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                    self.held.remove(&ack.packet_id.get());
                    peer.ack(AckKind::PubComp, ack.packet_id.get())?;
                }
                other => panic!("{other:?}"),
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        peer.send(&Packet::Disconnect(Disconnect::default()))
    }

    fn on_publish(&mut self, peer: &mut Peer, publish: Publish) -> io::Result<()> {
        let id = publish.packet_id.expect("QoS 1 or 2").get();
        let qos = publish.qos;
        self.ended |= publish.payload == END;
        if qos == Qos::AtLeastOnce || self.held.insert(id) {
            self.received.push(publish);
        }
        let kind = if qos == Qos::ExactlyOnce {
            AckKind::PubRec
        } else {
            AckKind::PubAck
        };
        peer.ack(kind, id)
    }

    /// Every message is there; QoS 2 once; both in the order they were published.
    fn check(&self, seed: u64) {
        let expected: Vec<String> = (0..=MESSAGES).map(|n| payload(seed, n)).collect();
        for (qos, first) in [(Qos::ExactlyOnce, 0), (Qos::AtLeastOnce, 1)] {
            let received = self.received.iter().filter(|publish| publish.qos == qos);
            let mut received: Vec<&[u8]> = received.map(|publish| &publish.payload[..]).collect();
            if qos == Qos::AtLeastOnce {
                // Repeats are allowed; the first ones are in order. [MQTT-4.6.0-6]
                let mut seen = BTreeSet::new();
                received.retain(|payload| seen.insert(*payload));
            }
            let expected: Vec<&[u8]> = expected
                .iter()
                .skip(first)
                .step_by(2)
                .map(|p| p.as_bytes())
                .collect();
            assert!(
                received == expected,
                "seed {seed}, {qos:?}: {}",
                difference(&received, &expected)
            );
        }
    }
}

fn difference(received: &[&[u8]], expected: &[&[u8]]) -> String {
    let text = |payload: &&[u8]| String::from_utf8_lossy(payload).into_owned();
    let missing: Vec<String> = expected
        .iter()
        .filter(|p| !received.contains(p))
        .map(text)
        .collect();
    let mut seen = BTreeSet::new();
    let twice: Vec<String> = received.iter().filter(|p| !seen.insert(**p)).map(text).collect();
    format!("missing {missing:?}, more than once {twice:?}, else the order differs")
}
