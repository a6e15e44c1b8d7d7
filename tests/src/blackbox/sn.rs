//! A device that speaks MQTT-SN 1.2 over UDP, written from the specification with bytes alone: it shares nothing with our codec.

use super::{HANG, Message};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};

const GWINFO: u8 = 0x02;
const CONNACK: u8 = 0x05;
const WILLTOPICREQ: u8 = 0x06;
const WILLMSGREQ: u8 = 0x08;
const REGISTER: u8 = 0x0A;
const REGACK: u8 = 0x0B;
const PUBLISH: u8 = 0x0C;
const PUBACK: u8 = 0x0D;
const PUBCOMP: u8 = 0x0E;
const PUBREC: u8 = 0x0F;
const PUBREL: u8 = 0x10;
const SUBACK: u8 = 0x13;
const PINGRESP: u8 = 0x17;
const DISCONNECT: u8 = 0x18;

/// An address of this machine that no other test has, with the usual port.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(100);
    let [.., high, low] = process::id().to_be_bytes();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, n, high, low.clamp(1, 254)], 1884))
}

/// The device.
pub struct SnPeer {
    socket: UdpSocket,
    id: String,
    next_msg_id: u16,
    /// Names of topic ids.
    topics: BTreeMap<u16, String>,
    /// Messages of QoS 2 that are not released.
    held: BTreeSet<u16>,
    received: VecDeque<Message>,
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
        socket.set_read_timeout(Some(HANG)).expect("a timeout");
        Self {
            socket,
            id: id.to_owned(),
            next_msg_id: 0,
            topics: BTreeMap::new(),
            held: BTreeSet::new(),
            received: VecDeque::new(),
        }
    }

    /// CONNECT, with its will if it has one.
    ///
    /// # Panics
    /// If it is not let in.
    pub fn connect(&mut self, clean: bool, keep_alive: u16, will: Option<&Message>) {
        let flags = u8::from(clean) << 2 | u8::from(will.is_some()) << 3;
        let mut body = vec![flags, 1];
        body.extend(keep_alive.to_be_bytes());
        body.extend(self.id.as_bytes());
        self.send(0x04, &body);
        if let Some(will) = will {
            self.expect(WILLTOPICREQ);
            let flags = will.qos << 5 | u8::from(will.retain) << 4;
            let body = [&[flags], will.topic.as_bytes()].concat();
            self.send(0x07, &body);
            self.expect(WILLMSGREQ);
            self.send(0x09, will.payload.as_bytes());
        }
        assert_eq!(self.expect(CONNACK), [0], "accepted");
    }

    /// SEARCHGW; the id of the gateway.
    pub fn search(&mut self) -> u8 {
        self.send(0x01, &[0]);
        self.expect(GWINFO)[0]
    }

    /// SUBSCRIBE by name or filter; the QoS that was granted.
    ///
    /// # Panics
    /// If it is refused.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let msg_id = self.msg_id();
        let mut body = vec![qos << 5];
        body.extend(msg_id.to_be_bytes());
        body.extend(filter.as_bytes());
        self.send(0x12, &body);
        let ack = self.expect(SUBACK);
        let [flags, t0, t1, m0, m1, code] = ack[..] else {
            panic!("{ack:?}")
        };
        assert_eq!((code, u16::from_be_bytes([m0, m1])), (0, msg_id));
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
        let topic_id = self.register(&message.topic);
        let msg_id = if message.qos > 0 { self.msg_id() } else { 0 };
        let flags = message.qos << 5 | u8::from(message.retain) << 4;
        let mut body = vec![flags];
        body.extend(topic_id.to_be_bytes());
        body.extend(msg_id.to_be_bytes());
        body.extend(message.payload.as_bytes());
        self.send(PUBLISH, &body);
        let id = msg_id.to_be_bytes();
        match message.qos {
            0 => {}
            1 => {
                let ack = self.expect(PUBACK);
                assert_eq!(ack[2..], [id[0], id[1], 0], "accepted");
            }
            _ => {
                assert_eq!(self.expect(PUBREC), id);
                self.send(PUBREL, &id);
                assert_eq!(self.expect(PUBCOMP), id);
            }
        }
    }

    fn register(&mut self, topic: &str) -> u16 {
        if let Some((id, _)) = self.topics.iter().find(|(_, name)| *name == topic) {
            return *id;
        }
        let msg_id = self.msg_id();
        let mut body = vec![0, 0];
        body.extend(msg_id.to_be_bytes());
        body.extend(topic.as_bytes());
        self.send(REGISTER, &body);
        let ack = self.expect(REGACK);
        assert_eq!(ack[4], 0, "accepted");
        let id = u16::from_be_bytes([ack[0], ack[1]]);
        self.topics.insert(id, topic.to_owned());
        id
    }

    /// The next message that is published to it, acknowledged.
    ///
    /// # Panics
    /// If none comes.
    pub fn recv(&mut self) -> Message {
        while self.received.is_empty() || !self.held.is_empty() {
            let frame = self.read();
            assert!(self.take(&frame), "{frame:?} instead of a message");
        }
        self.received.pop_front().expect("just looked at")
    }

    /// DISCONNECT with a duration.
    pub fn sleep(&mut self, seconds: u16) {
        self.send(DISCONNECT, &seconds.to_be_bytes());
        self.expect(DISCONNECT);
    }

    /// PINGREQ with its id: everything that waited for it.
    pub fn wake(&mut self) -> Vec<Message> {
        let id = self.id.clone();
        self.send(0x16, id.as_bytes());
        self.expect(PINGRESP);
        self.received.drain(..).collect()
    }

    /// DISCONNECT.
    pub fn leave(&mut self) {
        self.send(DISCONNECT, &[]);
        self.expect_goodbye();
    }

    /// Waits until the gateway says DISCONNECT.
    pub fn expect_goodbye(&mut self) {
        self.expect(DISCONNECT);
    }

    /// Any bytes, as one datagram.
    ///
    /// # Panics
    /// If they cannot be sent.
    pub fn raw(&self, bytes: &[u8]) {
        self.socket.send(bytes).expect("it is sent");
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

    fn read(&self) -> Frame {
        let mut bytes = [0; 2048];
        let len = self.socket.recv(&mut bytes).expect("the gateway answers");
        let bytes = &bytes[..len];
        match bytes {
            [1, high, low, kind, body @ ..] => {
                assert_eq!(usize::from(u16::from_be_bytes([*high, *low])), len);
                (*kind, body.to_vec())
            }
            [told, kind, body @ ..] => {
                assert_eq!(usize::from(*told), len);
                (*kind, body.to_vec())
            }
            _ => panic!("{bytes:?} is no message"),
        }
    }

    /// Waits for a message of this type; takes what is published meanwhile.
    fn expect(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let frame = self.read();
            if frame.0 == kind {
                return frame.1;
            }
            assert!(self.take(&frame), "{frame:?} instead of {kind:#x}");
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
                let id = u16::from_be_bytes([*t0, *t1]);
                let msg_id = u16::from_be_bytes([*m0, *m1]);
                let topic = if flags & 3 == 2 {
                    String::from_utf8(vec![*t0, *t1]).expect("a short name")
                } else {
                    self.topics[&id].clone()
                };
                let message = Message {
                    topic,
                    qos: flags >> 5 & 3,
                    retain: flags & 0x10 != 0,
                    payload: String::from_utf8(payload.to_vec()).expect("text"),
                };
                match message.qos {
                    1 => self.send(PUBACK, &[*t0, *t1, *m0, *m1, 0]),
                    2 => self.send(PUBREC, &[*m0, *m1]),
                    _ => {}
                }
                if message.qos < 2 || self.held.insert(msg_id) {
                    self.received.push_back(message);
                }
            }
            (PUBREL, [m0, m1]) => {
                self.held.remove(&u16::from_be_bytes([*m0, *m1]));
                self.send(PUBCOMP, &[*m0, *m1]);
            }
            _ => return false,
        }
        true
    }
}
