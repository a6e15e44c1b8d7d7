//! A client that says exactly what a test wants, over a blocking socket.

use super::{HANG, Message};
use bytes::{Bytes, BytesMut};
use headgate_mqtt_codec::{
    Ack, AckKind, Connect, ConnectProperties, Decoder, MAX_PACKET_SIZE, Packet, PacketId, Publish, Qos,
    ReasonCode, Subscribe, SubscribeFilter, SubscribeOptions, Utf8, Version, encode,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Messages of QoS 1 and 2 that are under way at a time: as many as mosquitto takes.
const WINDOW: usize = 20;

/// A connection that speaks MQTT 5 over TCP.
pub struct Peer {
    stream: TcpStream,
    input: BytesMut,
    decoder: Decoder,
    next_id: u16,
}

impl Peer {
    /// Connects; with an expiry the session stays for so many seconds. Says whether there was one.
    pub fn connect(port: u16, id: &str, clean: bool, expiry: u32) -> io::Result<(Self, bool)> {
        Self::connect_with(
            port,
            Connect {
                clean_start: clean,
                properties: ConnectProperties {
                    session_expiry: Some(expiry),
                    ..ConnectProperties::default()
                },
                ..Connect::new(Version::V5, text(id))
            },
        )
    }

    /// Connects as this user, to a session of its own that ends with the connection.
    pub fn connect_as(port: u16, id: &str, user: &str, password: &str) -> io::Result<Self> {
        let connect = Connect {
            clean_start: true,
            username: Some(text(user)),
            password: Some(Bytes::copy_from_slice(password.as_bytes())),
            ..Connect::new(Version::V5, text(id))
        };
        Ok(Self::connect_with(port, connect)?.0)
    }

    /// The same, to a session that stays for an hour. Says whether there was one.
    pub fn connect_durably(port: u16, id: &str, user: &str, password: &str) -> io::Result<(Self, bool)> {
        let connect = Connect {
            clean_start: false,
            username: Some(text(user)),
            password: Some(Bytes::copy_from_slice(password.as_bytes())),
            properties: ConnectProperties {
                session_expiry: Some(3_600),
                ..ConnectProperties::default()
            },
            ..Connect::new(Version::V5, text(id))
        };
        Self::connect_with(port, connect)
    }

    fn connect_with(port: u16, connect: Connect) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANG))?;
        let mut peer = Self {
            stream,
            input: BytesMut::new(),
            decoder: Decoder::client(Version::V5, MAX_PACKET_SIZE),
            next_id: 0,
        };
        peer.send(&Packet::Connect(Box::new(connect)))?;
        match peer.recv()? {
            Packet::ConnAck(connack) if connack.code == ReasonCode::Success => {
                Ok((peer, connack.session_present))
            }
            other => Err(io::Error::other(format!("not let in: {other:?}"))),
        }
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        encode(packet, Version::V5, &mut bytes);
        self.stream.write_all(&bytes)
    }

    /// Waits for a packet.
    pub fn recv(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input).map_err(io::Error::other)? {
                return Ok(packet);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Subscribes and waits for the answer.
    ///
    /// # Panics
    /// If it is refused.
    pub fn subscribe(&mut self, filter: &str, qos: Qos) -> io::Result<()> {
        self.send(&Packet::Subscribe(Box::new(Subscribe {
            packet_id: PacketId::MAX,
            identifier: None,
            user_properties: Vec::new(),
            filters: vec![SubscribeFilter {
                filter: text(filter),
                options: SubscribeOptions::qos(qos),
            }],
        })))?;
        match self.recv()? {
            Packet::SubAck(suback) => assert!(!suback.codes[0].is_error(), "{suback:?}"),
            other => panic!("{other:?} instead of SUBACK"),
        }
        Ok(())
    }

    /// Sends a PUBLISH.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: &str,
        id: Option<(Qos, u16)>,
        dup: bool,
    ) -> io::Result<()> {
        self.send(&Packet::Publish(Publish {
            dup,
            qos: id.map_or(Qos::AtMostOnce, |(qos, _)| qos),
            topic: text(topic),
            packet_id: id.and_then(|(_, id)| PacketId::new(id)),
            payload: Bytes::from(payload.to_owned()),
            ..Publish::default()
        }))
    }

    /// Publishes messages, some at a time, and waits until all are acknowledged.
    ///
    /// # Panics
    /// If one is refused, or the connection ends.
    pub fn say(&mut self, messages: &[Message]) {
        let mut waiting = 0;
        for message in messages {
            if message.qos > 0 {
                waiting += 1;
                self.next_id = self.next_id % 10_000 + 1;
            }
            let publish = Packet::Publish(Publish {
                qos: Qos::from_bits(message.qos).expect("0 to 2"),
                retain: message.retain,
                topic: text(&message.topic),
                packet_id: (message.qos > 0).then(|| PacketId::new(self.next_id).expect("not zero")),
                payload: Bytes::from(message.payload.clone()),
                ..Publish::default()
            });
            self.send(&publish).expect("the broker is there");
            while waiting >= WINDOW {
                waiting -= self.acknowledged();
            }
        }
        while waiting > 0 {
            waiting -= self.acknowledged();
        }
    }

    /// How many messages the next packet settles.
    fn acknowledged(&mut self) -> usize {
        match self.recv().expect("an answer") {
            Packet::Ack(ack) if ack.kind == AckKind::PubRec => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                self.ack(AckKind::PubRel, ack.packet_id.get())
                    .expect("the broker is there");
                0
            }
            Packet::Ack(ack) => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                1
            }
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }

    /// The next message, which is acknowledged.
    ///
    /// # Panics
    /// If the connection ends, or no message comes for a long time.
    pub fn hear(&mut self) -> Message {
        loop {
            match self.recv().expect("a message") {
                Packet::Publish(publish) => {
                    let id = publish.packet_id.map_or(0, PacketId::get);
                    let answered = match publish.qos {
                        Qos::AtMostOnce => Ok(()),
                        Qos::AtLeastOnce => self.ack(AckKind::PubAck, id),
                        Qos::ExactlyOnce => self.ack(AckKind::PubRec, id),
                    };
                    answered.expect("the broker is there");
                    let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                    return Message {
                        retain: publish.retain,
                        ..Message::new(publish.topic.as_str(), publish.qos as u8, &payload)
                    };
                }
                Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                    let done = self.ack(AckKind::PubComp, ack.packet_id.get());
                    done.expect("the broker is there");
                }
                other => panic!("{other:?} instead of a message"),
            }
        }
    }

    /// What comes until a message with this payload, without it.
    ///
    /// # Panics
    /// If it does not come.
    pub fn until(&mut self, payload: &str) -> Vec<Message> {
        std::iter::from_fn(|| Some(self.hear()).filter(|m| m.payload != payload)).collect()
    }

    /// Sends an acknowledgement.
    ///
    /// # Panics
    /// If the identifier is zero.
    pub fn ack(&mut self, kind: AckKind, id: u16) -> io::Result<()> {
        let id = PacketId::new(id).expect("it is not zero");
        self.send(&Packet::Ack(Ack::success(kind, id)))
    }

    /// Closes without a word.
    pub fn vanish(self) {}
}

fn text(text: &str) -> Utf8 {
    Utf8::try_from(text.to_owned()).expect("a short text")
}
