//! A publisher and a subscriber that keep their sessions, whatever happens to their broker.

use crate::recorder::numbers;
use headgate_mqtt_codec::{AckKind, Disconnect, Packet, Qos};
use headgate_tests::blackbox::{HANG, Peer};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const EXPIRY: u32 = 3_600;
const WINDOW: usize = 20;
/// So many at once, then a pause: the traffic shall last.
const BURST: usize = 10;
const PAUSE: Duration = Duration::from_millis(2);
/// Before a broker that is away is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// Publishes the numbers from 0 on, and again after a reconnect what was not acknowledged.
pub(crate) struct Writer<'a> {
    pub port: u16,
    /// Topics begin with it.
    pub prefix: &'a str,
    pub qos: Qos,
    pub count: usize,
    /// How many were acknowledged.
    pub acknowledged: &'a AtomicUsize,
}

impl Writer<'_> {
    /// Until the last one is acknowledged.
    pub(crate) fn run(&self) {
        let mut next = 0;
        let mut under_way = Vec::new();
        until_done(self.prefix, |there| {
            self.try_all(there, &mut next, &mut under_way)
        });
    }

    /// Each of those under way is a number, and whether PUBREC came.
    fn try_all(
        &self,
        there: &Cell<Instant>,
        next: &mut usize,
        under_way: &mut Vec<(usize, bool)>,
    ) -> io::Result<()> {
        let (mut peer, present) = Peer::connect(self.port, self.prefix, false, EXPIRY)?;
        there.set(Instant::now());
        for (number, received) in under_way.iter_mut() {
            *received &= present; // What has forgotten it gets it again.
            match received {
                true => peer.ack(AckKind::PubRel, id(*number))?,
                false => self.publish(&mut peer, *number, present)?,
            }
        }
        while *next < self.count || !under_way.is_empty() {
            if *next < self.count && under_way.len() < WINDOW {
                if next.is_multiple_of(BURST) {
                    sleep(PAUSE);
                }
                under_way.push((*next, false));
                *next += 1;
                self.publish(&mut peer, *next - 1, false)?;
                continue;
            }
            let Packet::Ack(ack) = peer.recv()? else { continue };
            if ack.reason.is_error() && ack.kind != AckKind::PubComp {
                // mosquitto takes no more for now: what it refused comes again.
                return Err(io::Error::other(format!("{ack:?}")));
            }
            let is_it = |number: usize| id(number) == ack.packet_id.get();
            if ack.kind == AckKind::PubRec {
                let it = under_way.iter_mut().filter(|(number, _)| is_it(*number));
                it.for_each(|(_, received)| *received = true);
                peer.ack(AckKind::PubRel, ack.packet_id.get())?;
            } else {
                under_way.retain(|(number, _)| !is_it(*number));
                self.acknowledged.store(*next - under_way.len(), Ordering::SeqCst);
            }
        }
        peer.send(&Packet::Disconnect(Disconnect::default()))
    }

    fn publish(&self, peer: &mut Peer, number: usize, dup: bool) -> io::Result<()> {
        let topic = format!("{}/{}", self.prefix, number % 4);
        peer.publish(&topic, &number.to_string(), Some((self.qos, id(number))), dup)
    }
}

/// Tries again and again, until something hangs: the broker is not there for long, or is there and says nothing.
fn until_done(who: &str, mut attempt: impl FnMut(&Cell<Instant>) -> io::Result<()>) {
    let there = Cell::new(Instant::now());
    while let Err(error) = attempt(&there) {
        let hangs = error.kind() == io::ErrorKind::WouldBlock || there.get().elapsed() > HANG;
        assert!(!hangs, "`{who}`: {error}");
        sleep(RETRY);
    }
}

fn id(number: usize) -> u16 {
    u16::try_from(number % 60_000 + 1).unwrap()
}

/// Hears all that is published, until the number that is last.
pub(crate) struct Reader<'a> {
    pub port: u16,
    pub prefix: &'a str,
    pub qos: Qos,
    pub last: usize,
    /// How often it subscribed, or found its subscription.
    pub ready: &'a AtomicUsize,
}

impl Reader<'_> {
    /// The numbers in the order they came, each as often as it came.
    pub(crate) fn run(&self) -> Vec<usize> {
        let (mut heard, mut held) = (Vec::new(), BTreeSet::new());
        until_done(self.prefix, |there| self.try_all(there, &mut heard, &mut held));
        heard
    }

    /// Connects, and subscribes if that is not known.
    pub(crate) fn connect(&self, held: &mut BTreeSet<u16>) -> io::Result<Peer> {
        let name = format!("{}-reader", self.prefix);
        let (mut peer, present) = Peer::connect(self.port, &name, false, EXPIRY)?;
        if !present {
            held.clear();
            peer.subscribe(&format!("{}/#", self.prefix), self.qos)?;
        }
        self.ready.fetch_add(1, Ordering::SeqCst);
        Ok(peer)
    }

    fn try_all(
        &self,
        there: &Cell<Instant>,
        heard: &mut Vec<usize>,
        held: &mut BTreeSet<u16>,
    ) -> io::Result<()> {
        let mut peer = self.connect(held)?;
        there.set(Instant::now());
        while heard.last() != Some(&self.last) || !held.is_empty() {
            match peer.recv()? {
                Packet::Publish(publish) => {
                    let id = publish.packet_id.expect("QoS 1 or 2").get();
                    let exactly_once = publish.qos == Qos::ExactlyOnce;
                    if !exactly_once || held.insert(id) {
                        heard.extend(numbers(&publish.payload));
                    }
                    let kind = if exactly_once {
                        AckKind::PubRec
                    } else {
                        AckKind::PubAck
                    };
                    peer.ack(kind, id)?;
                }
                Packet::Ack(ack) => {
                    held.remove(&ack.packet_id.get());
                    peer.ack(AckKind::PubComp, ack.packet_id.get())?;
                }
                other => panic!("{other:?}"),
            }
        }
        peer.send(&Packet::Disconnect(Disconnect::default()))
    }
}
