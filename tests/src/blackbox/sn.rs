//! A device that speaks MQTT-SN 1.2, over UDP or a serial line, written from the specification with bytes alone: it shares nothing with our codec.
//!
//! Over UDP on one machine nothing is lost, so it asks once and takes nothing but the answer. On a serial line it lives as §6.13 wants: what is not answered is
//! sent again, and after N_RETRY times, or when the gateway says that it does not know it, it connects again and goes on where it was.

use super::{HANG, Message};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

const GWINFO: u8 = 0x02;
const CONNECT: u8 = 0x04;
const CONNACK: u8 = 0x05;
const WILLTOPICREQ: u8 = 0x06;
const WILLTOPIC: u8 = 0x07;
const WILLMSGREQ: u8 = 0x08;
const WILLMSG: u8 = 0x09;
const REGISTER: u8 = 0x0A;
const REGACK: u8 = 0x0B;
const PUBLISH: u8 = 0x0C;
const PUBACK: u8 = 0x0D;
const PUBCOMP: u8 = 0x0E;
const PUBREC: u8 = 0x0F;
const PUBREL: u8 = 0x10;
const SUBSCRIBE: u8 = 0x12;
const SUBACK: u8 = 0x13;
const PINGREQ: u8 = 0x16;
const PINGRESP: u8 = 0x17;
const DISCONNECT: u8 = 0x18;

const DUP: u8 = 0x80;

/// An address of this machine that no other test has, with the usual port.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(100);
    let [.., high, low] = process::id().to_be_bytes();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, n, high, low.clamp(1, 254)], 1884))
}

/// What carries a device's messages.
pub(super) trait SnWire: Send {
    /// Sends one, if it can.
    fn send(&self, bytes: &[u8]);

    /// The next one, if one comes in time.
    fn receive(&self, within: Duration) -> Option<Vec<u8>>;
}

impl SnWire for UdpSocket {
    fn send(&self, bytes: &[u8]) {
        UdpSocket::send(self, bytes).expect("it is sent");
    }

    fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        let mut bytes = [0; 2048];
        self.set_read_timeout(Some(within.max(Duration::from_millis(1))))
            .expect("a timeout");
        let len = self.recv(&mut bytes).ok()?;
        Some(bytes[..len].to_vec())
    }
}

/// §6.13, §7.2
pub(super) struct Habits {
    /// How long it waits for an answer.
    pub t_retry: Duration,
    /// How often it sends again.
    pub n_retry: u32,
    /// Messages may be lost and come twice: what is not understood is passed over, and it connects again when nothing helps.
    pub lossy: bool,
}

/// The gateway does not answer, or does not know us.
#[derive(Debug)]
struct Lost;

/// How far a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Sent,
    /// PUBREC came.
    Released,
}

/// The device.
pub struct SnPeer {
    wire: Box<dyn SnWire>,
    habits: Habits,
    id: String,
    /// What it said in CONNECT, flags and keep alive, and its will.
    hello: (u8, u16, Option<Message>),
    next_msg_id: u16,
    /// Names of topic ids.
    topics: BTreeMap<u16, String>,
    /// Messages of QoS 2 that are not released.
    held: BTreeSet<u16>,
    received: VecDeque<Message>,
    /// How often something was sent again.
    repeated: Cell<usize>,
}

/// One message off the wire: its type and what follows.
type Frame = (u8, Vec<u8>);

impl SnPeer {
    /// A device with this id that knows where the gateway is.
    ///
    /// # Panics
    /// If there is no socket.
    pub fn new(gateway: SocketAddr, id: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(gateway).expect("an address");
        let habits = Habits {
            t_retry: HANG,
            n_retry: 0,
            lossy: false,
        };
        Self::over(Box::new(socket), habits, id)
    }

    pub(super) fn over(wire: Box<dyn SnWire>, habits: Habits, id: &str) -> Self {
        Self {
            wire,
            habits,
            id: id.to_owned(),
            hello: (0, 0, None),
            next_msg_id: 0,
            topics: BTreeMap::new(),
            held: BTreeSet::new(),
            received: VecDeque::new(),
            repeated: Cell::new(0),
        }
    }

    /// How often it had to send something again.
    pub fn repeated(&self) -> usize {
        self.repeated.get()
    }

    /// CONNECT, with its will if it has one.
    ///
    /// # Panics
    /// If it is not let in.
    pub fn connect(&mut self, clean: bool, keep_alive: u16, will: Option<&Message>) {
        let flags = u8::from(clean) << 2 | u8::from(will.is_some()) << 3;
        self.hello = (flags, keep_alive, will.cloned());
        self.persist(Self::try_connect);
    }

    fn try_connect(&mut self) -> Result<(), Lost> {
        let (flags, keep_alive, will) = self.hello.clone();
        let mut body = vec![flags, 1];
        body.extend(keep_alive.to_be_bytes());
        body.extend(self.id.as_bytes());
        let mut say = (CONNECT, body);
        loop {
            let answers = [CONNACK, WILLTOPICREQ, WILLMSGREQ];
            let (kind, body) = self.ask(say.0, &say.1, |kind, _| answers.contains(&kind))?;
            say = match (kind, &will) {
                (WILLTOPICREQ, Some(will)) => {
                    let flags = will.qos << 5 | u8::from(will.retain) << 4;
                    (WILLTOPIC, [&[flags], will.topic.as_bytes()].concat())
                }
                (WILLMSGREQ, Some(will)) => (WILLMSG, will.payload.as_bytes().to_vec()),
                // Noise was taken for a CONNECT.
                _ if self.habits.lossy && body != [0] => return Err(Lost),
                _ => {
                    assert_eq!((kind, &body[..]), (CONNACK, &[0][..]), "accepted");
                    break;
                }
            };
        }
        // What it was told before it may have forgotten.
        self.topics.clear();
        Ok(())
    }

    /// Does something, and connects again if the gateway is lost meanwhile.
    fn persist<T>(&mut self, mut act: impl FnMut(&mut Self) -> Result<T, Lost>) -> T {
        let start = Instant::now();
        let mut done = act(self);
        loop {
            match done {
                Ok(done) => return done,
                Err(Lost) => {
                    assert!(self.habits.lossy && start.elapsed() < HANG, "the gateway answers");
                    done = self.try_connect().and_then(|()| act(self));
                }
            }
        }
    }

    /// SEARCHGW; the id of the gateway.
    pub fn search(&mut self) -> u8 {
        self.persist(|peer| peer.ask(0x01, &[0], |kind, _| kind == GWINFO))
            .1[0]
    }

    /// SUBSCRIBE by name or filter; the QoS that was granted.
    ///
    /// # Panics
    /// If it is refused.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let id = self.msg_id().to_be_bytes();
        let body = [&[qos << 5], &id[..], filter.as_bytes()].concat();
        let ack = self.persist(|peer| {
            peer.ask(SUBSCRIBE, &body, |kind, ack| {
                kind == SUBACK && ack.get(3..5) == Some(&id)
            })
        });
        let [flags, t0, t1, _, _, 0] = ack.1[..] else {
            panic!("{ack:?}")
        };
        let topic_id = u16::from_be_bytes([t0, t1]);
        if topic_id != 0 {
            self.topics.insert(topic_id, filter.to_owned());
        }
        flags >> 5 & 3
    }

    /// REGISTER and PUBLISH, until it is acknowledged as its QoS wants.
    ///
    /// # Panics
    /// If it is refused.
    pub fn publish(&mut self, message: &Message) {
        let msg_id = if message.qos > 0 { self.msg_id() } else { 0 };
        let mut stage = Stage::New;
        self.persist(|peer| peer.try_publish(message, msg_id, &mut stage));
    }

    /// A message keeps its id until it is acknowledged, over connections too.
    fn try_publish(&mut self, message: &Message, msg_id: u16, stage: &mut Stage) -> Result<(), Lost> {
        let id = msg_id.to_be_bytes();
        while *stage != Stage::Released {
            let topic_id = self.register(&message.topic)?.to_be_bytes();
            let dup = if *stage == Stage::Sent { DUP } else { 0 };
            let flags = dup | message.qos << 5 | u8::from(message.retain) << 4;
            let body = [&[flags], &topic_id[..], &id, message.payload.as_bytes()].concat();
            if message.qos == 0 {
                self.send(PUBLISH, &body);
                return Ok(());
            }
            *stage = Stage::Sent;
            let (kind, ack) = self.ask(PUBLISH, &body, |kind, ack| match kind {
                PUBACK => ack.get(2..4) == Some(&id),
                PUBREC => ack == id,
                _ => false,
            })?;
            match (message.qos, kind, ack.get(4)) {
                (1, PUBACK, Some(0)) => return Ok(()),
                (2, PUBREC, _) => *stage = Stage::Released,
                // The gateway has forgotten the topic id, §6.10.
                (_, PUBACK, Some(2)) if self.habits.lossy => self.topics.clear(),
                other => panic!("{other:?} for {message:?}"),
            }
        }
        self.ask(PUBREL, &id, |kind, ack| kind == PUBCOMP && ack == id)?;
        Ok(())
    }

    fn register(&mut self, topic: &str) -> Result<u16, Lost> {
        if let Some((id, _)) = self.topics.iter().find(|(_, name)| *name == topic) {
            return Ok(*id);
        }
        let msg_id = self.msg_id().to_be_bytes();
        let body = [&[0, 0], &msg_id[..], topic.as_bytes()].concat();
        let (_, ack) = self.ask(REGISTER, &body, |kind, ack| {
            kind == REGACK && ack.get(2..4) == Some(&msg_id)
        })?;
        assert_eq!(ack[4], 0, "accepted");
        let id = u16::from_be_bytes([ack[0], ack[1]]);
        self.topics.insert(id, topic.to_owned());
        Ok(id)
    }

    /// The next message that is published to it, acknowledged.
    ///
    /// # Panics
    /// If none comes.
    pub fn recv(&mut self) -> Message {
        let start = Instant::now();
        while self.received.is_empty() || !self.held.is_empty() {
            let held = &self.held;
            assert!(start.elapsed() < HANG, "no message; not released: {held:?}");
            match self.read(Instant::now() + self.habits.t_retry) {
                Some(frame) => {
                    let taken = self.take(&frame);
                    assert!(taken || self.habits.lossy, "{frame:?} instead of a message");
                    if frame.0 == DISCONNECT {
                        self.persist(Self::try_connect);
                    }
                }
                // Is the gateway there at all? §6.11
                None => {
                    self.persist(|peer| peer.ask(PINGREQ, &[], |kind, _| kind == PINGRESP));
                }
            }
        }
        self.received.pop_front().expect("just looked at")
    }

    /// DISCONNECT with a duration.
    pub fn sleep(&mut self, seconds: u16) {
        self.persist(|peer| peer.ask(DISCONNECT, &seconds.to_be_bytes(), |kind, _| kind == DISCONNECT));
    }

    /// PINGREQ with its id: everything that waited for it.
    pub fn wake(&mut self) -> Vec<Message> {
        let id = self.id.clone();
        self.persist(|peer| peer.ask(PINGREQ, id.as_bytes(), |kind, _| kind == PINGRESP));
        self.received.drain(..).collect()
    }

    /// DISCONNECT.
    pub fn leave(&mut self) {
        self.persist(|peer| peer.ask(DISCONNECT, &[], |kind, _| kind == DISCONNECT));
    }

    /// Waits until the gateway says DISCONNECT.
    ///
    /// # Panics
    /// If it says anything else, or nothing.
    pub fn expect_goodbye(&mut self) {
        while let Some(frame) = self.read(Instant::now() + HANG) {
            if frame.0 == DISCONNECT {
                return;
            }
            assert!(self.take(&frame), "{frame:?} instead of DISCONNECT");
        }
        panic!("the gateway says nothing");
    }

    /// Any bytes, as one datagram.
    pub fn raw(&self, bytes: &[u8]) {
        self.wire.send(bytes);
    }

    fn msg_id(&mut self) -> u16 {
        self.next_msg_id += 1;
        self.next_msg_id
    }

    fn send(&self, kind: u8, body: &[u8]) {
        let len = body.len() + 2;
        let bytes = match u8::try_from(len) {
            Ok(len) => [&[len, kind], body].concat(),
            Err(_) => {
                let [high, low] = u16::try_from(len + 2).expect("a short message").to_be_bytes();
                [&[1, high, low, kind], body].concat()
            }
        };
        self.raw(&bytes);
    }

    /// Sends a request until it is answered; takes what is published meanwhile.
    fn ask(&mut self, kind: u8, body: &[u8], answers: impl Fn(u8, &[u8]) -> bool) -> Result<Frame, Lost> {
        let mut body = body.to_vec();
        for again in 0..=self.habits.n_retry {
            if again > 0 {
                self.repeated.set(self.repeated.get() + 1);
                if matches!(kind, PUBLISH | SUBSCRIBE) {
                    body[0] |= DUP;
                }
            }
            self.send(kind, &body);
            let mut until = Instant::now() + self.habits.t_retry;
            while let Some(frame) = self.read(until) {
                if answers(frame.0, &frame.1) {
                    return Ok(frame);
                }
                if self.habits.lossy && frame.0 == DISCONNECT && kind != CONNECT {
                    return Err(Lost);
                }
                let taken = self.take(&frame);
                assert!(
                    taken || self.habits.lossy,
                    "{frame:?} instead of an answer to {kind:#x}"
                );
                if taken && kind == PINGREQ {
                    // It is at work: it need not be asked again yet.
                    until = Instant::now() + self.habits.t_retry;
                }
            }
        }
        Err(Lost)
    }

    fn read(&self, until: Instant) -> Option<Frame> {
        let within = until.checked_duration_since(Instant::now())?;
        let bytes = self.wire.receive(within)?;
        let len = bytes.len();
        match &bytes[..] {
            [1, high, low, kind, body @ ..] => {
                assert_eq!(usize::from(u16::from_be_bytes([*high, *low])), len);
                Some((*kind, body.to_vec()))
            }
            [told, kind, body @ ..] => {
                assert_eq!(usize::from(*told), len);
                Some((*kind, body.to_vec()))
            }
            _ => panic!("{bytes:?} is no message"),
        }
    }

    /// Takes what the gateway says by itself. False if it is something else.
    fn take(&mut self, (kind, body): &Frame) -> bool {
        match (*kind, &body[..]) {
            (REGISTER, [t0, t1, m0, m1, name @ ..]) => {
                let id = u16::from_be_bytes([*t0, *t1]);
                let name = String::from_utf8(name.to_vec()).expect("a name");
                self.topics.insert(id, name);
                self.send(REGACK, &[*t0, *t1, *m0, *m1, 0]);
            }
            (PUBLISH, [flags, t0, t1, m0, m1, payload @ ..]) => {
                self.on_publish(*flags, [*t0, *t1], [*m0, *m1], payload);
            }
            (PUBREL, [m0, m1]) => {
                self.held.remove(&u16::from_be_bytes([*m0, *m1]));
                self.send(PUBCOMP, &[*m0, *m1]);
            }
            _ => return false,
        }
        true
    }

    fn on_publish(&mut self, flags: u8, [t0, t1]: [u8; 2], [m0, m1]: [u8; 2], payload: &[u8]) {
        let msg_id = u16::from_be_bytes([m0, m1]);
        let qos = flags >> 5 & 3;
        let topic = match self.topics.get(&u16::from_be_bytes([t0, t1])) {
            _ if flags & 3 == 2 => String::from_utf8(vec![t0, t1]).expect("a short name"),
            Some(topic) => topic.clone(),
            // It has connected again meanwhile.
            None if self.habits.lossy => return self.send(PUBACK, &[t0, t1, m0, m1, 2]),
            None => panic!("topic id {t0:#x}{t1:02x} was never told"),
        };
        match qos {
            1 => self.send(PUBACK, &[t0, t1, m0, m1, 0]),
            2 => self.send(PUBREC, &[m0, m1]),
            _ => {}
        }
        if qos < 2 || self.held.insert(msg_id) {
            self.received.push_back(Message {
                topic,
                qos,
                retain: flags & 0x10 != 0,
                payload: String::from_utf8(payload.to_vec()).expect("text"),
            });
        }
    }
}
