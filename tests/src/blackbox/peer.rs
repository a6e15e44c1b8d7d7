//! A client that says exactly what a test wants, over a blocking socket.

use super::HANG;
use bytes::{Bytes, BytesMut};
use headgate_mqtt_codec::{
    Ack, AckKind, Connect, ConnectProperties, Decoder, MAX_PACKET_SIZE, Packet, PacketId, Publish, Qos,
    ReasonCode, Subscribe, SubscribeFilter, SubscribeOptions, Utf8, Version, encode,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A connection that speaks MQTT 5 over TCP.
pub struct Peer {
    stream: TcpStream,
    input: BytesMut,
    decoder: Decoder,
}

impl Peer {
    /// Connects; with an expiry the session stays for so many seconds. Says whether there was one.
    pub fn connect(port: u16, id: &str, clean: bool, expiry: u32) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANG))?;
        let mut peer = Self {
            stream,
            input: BytesMut::new(),
            decoder: Decoder::client(Version::V5, MAX_PACKET_SIZE),
        };
        peer.send(&Packet::Connect(Box::new(Connect {
            clean_start: clean,
            properties: ConnectProperties {
                session_expiry: Some(expiry),
                ..ConnectProperties::default()
            },
            ..Connect::new(Version::V5, text(id))
        })))?;
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
