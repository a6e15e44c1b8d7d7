//! The client's end of a link: it encodes and decodes with the codec, and keeps no rule of its own.

use crate::bench::World;
use crate::packets::{PublishExt, ToPacket, puback, pubcomp, pubrec, subscribe, unsubscribe};
use bytes::BytesMut;
use headgate_mqtt_codec::{
    AckKind, ConnAck, ConnAckProperties, Decoder, Packet, PacketType, Publish, Qos, ReasonCode,
    SubscribeOptions, Version, encode,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// One client on one link.
pub struct Client {
    world: Rc<RefCell<World>>,
    link: u64,
    version: Version,
    decoder: Decoder,
    bytes: BytesMut,
    inbox: VecDeque<Packet>,
    next_id: u16,
    /// The answer to its CONNECT, if it came as the first packet.
    pub connack: Option<ConnAck>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.forget(self.link);
        }
    }
}

impl Client {
    pub(crate) fn new(world: Rc<RefCell<World>>, link: u64, version: Version, max_packet_size: u32) -> Self {
        Self {
            world,
            link,
            version,
            decoder: Decoder::client(version, max_packet_size),
            bytes: BytesMut::new(),
            inbox: VecDeque::new(),
            next_id: 1_000,
            connack: None,
        }
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: impl ToPacket) {
        let mut bytes = BytesMut::new();
        encode(&packet.to_packet(), self.version, &mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends several packets in one write.
    pub fn send_together(&mut self, packets: Vec<Packet>) {
        let mut bytes = BytesMut::new();
        for packet in &packets {
            encode(packet, self.version, &mut bytes);
        }
        self.send_bytes(&bytes);
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.world.borrow_mut().receive(self.link, bytes);
    }

    /// Every packet that came since the last call.
    pub fn received(&mut self) -> Vec<Packet> {
        self.read();
        self.inbox.drain(..).collect()
    }

    /// Every byte that came and was not looked at yet.
    pub fn received_bytes(&mut self) -> Vec<u8> {
        self.bytes
            .unsplit(self.world.borrow_mut().take_written(self.link));
        self.bytes.split().to_vec()
    }

    /// The messages that came; nothing else may have come. They are not acknowledged.
    pub fn messages(&mut self) -> Vec<Publish> {
        self.received()
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => publish,
                other => panic!("not a PUBLISH: {other:?}"),
            })
            .collect()
    }

    /// As [`Client::messages`], and acknowledges them as their QoS asks, until no more come.
    pub fn take(&mut self) -> Vec<Publish> {
        let mut messages = Vec::new();
        loop {
            let packets = self.received();
            if packets.is_empty() {
                return messages;
            }
            for packet in packets {
                match packet {
                    Packet::Publish(publish) => {
                        match publish.qos {
                            Qos::AtMostOnce => {}
                            Qos::AtLeastOnce => self.send(puback(publish.number())),
                            Qos::ExactlyOnce => self.send(pubrec(publish.number())),
                        }
                        messages.push(publish);
                    }
                    Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                        self.send(pubcomp(ack.packet_id.get()));
                    }
                    other => panic!("not a PUBLISH: {other:?}"),
                }
            }
        }
    }

    /// [`Client::take`], as `topic=payload`.
    pub fn heard(&mut self) -> Vec<String> {
        self.take().iter().map(PublishExt::brief).collect()
    }

    /// Subscribes and takes the SUBACK: the code of the filter.
    pub fn subscribe(&mut self, filter: &str, qos: Qos) -> ReasonCode {
        self.subscribe_with(filter, SubscribeOptions::qos(qos), None)
    }

    /// Subscribes with options and an identifier, and takes the SUBACK.
    pub fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscribeOptions,
        identifier: Option<u32>,
    ) -> ReasonCode {
        let mut packet = subscribe(self.new_id(), &[(filter, options.qos)]);
        packet.filters[0].options = options;
        packet.identifier = identifier;
        self.send(packet);
        match self.expect(PacketType::SubAck) {
            Packet::SubAck(suback) => suback.codes[0],
            _ => unreachable!("it is a SUBACK"),
        }
    }

    /// Unsubscribes and takes the UNSUBACK.
    pub fn unsubscribe(&mut self, filter: &str) {
        let packet = unsubscribe(self.new_id(), &[filter]);
        self.send(packet);
        self.expect(PacketType::UnsubAck);
    }

    /// Publishes at QoS 0.
    pub fn say(&mut self, topic: &str, payload: &str) {
        self.send(crate::publish(topic, payload));
    }

    /// Publishes at this QoS and goes through the whole handshake; the reason of the last acknowledgement.
    pub fn deliver(&mut self, publish: Publish, qos: Qos) -> ReasonCode {
        let id = self.new_id();
        self.send(publish.qos(qos, id));
        match qos {
            Qos::AtMostOnce => ReasonCode::Success,
            Qos::AtLeastOnce => self.reason(PacketType::PubAck),
            Qos::ExactlyOnce => {
                let reason = self.reason(PacketType::PubRec);
                if reason.is_error() {
                    return reason;
                }
                self.send(crate::pubrel(id));
                self.reason(PacketType::PubComp);
                reason
            }
        }
    }

    /// Says goodbye: DISCONNECT 0x00.
    pub fn leave(&mut self) {
        self.send(crate::disconnect(ReasonCode::Success));
    }

    /// The network between is gone.
    pub fn lose(&mut self) {
        self.world.borrow_mut().break_link(self.link);
    }

    /// Whether the gateway has closed the link.
    pub fn is_closed(&self) -> bool {
        self.world.borrow().is_closed(self.link)
    }

    /// Session Present of the CONNACK.
    pub fn session_present(&self) -> bool {
        self.connack.as_ref().expect("CONNACK").session_present
    }

    /// The properties of the CONNACK.
    pub fn told(&self) -> ConnAckProperties {
        self.connack.as_ref().expect("CONNACK").properties.clone()
    }

    /// The code of the CONNACK.
    pub fn code(&self) -> Option<ReasonCode> {
        self.connack.as_ref().map(|connack| connack.code)
    }

    /// The connection is over, for this reason: MQTT 5 is told it by DISCONNECT as the last packet, 3.1.1 is told nothing.
    #[track_caller]
    pub fn assert_refused(&mut self, reason: ReasonCode) {
        let last = self.received().pop();
        assert!(self.is_closed(), "still open; last packet {last:?}");
        if self.version == Version::V5 {
            match last {
                Some(Packet::Disconnect(disconnect)) => assert_eq!(disconnect.reason, reason),
                other => panic!("not a DISCONNECT: {other:?}"),
            }
        } else {
            assert_eq!(last, None);
        }
    }

    /// The next packet that came, which is of this type.
    #[track_caller]
    pub fn expect(&mut self, kind: PacketType) -> Packet {
        self.read();
        let at = self.inbox.iter().position(|packet| packet.packet_type() == kind);
        let Some(at) = at else {
            panic!("no {kind} among {:?}, closed: {}", self.inbox, self.is_closed());
        };
        self.inbox.remove(at).expect("just found")
    }

    #[track_caller]
    fn reason(&mut self, kind: PacketType) -> ReasonCode {
        match self.expect(kind) {
            Packet::Ack(ack) => ack.reason,
            other => unreachable!("{other:?} is no acknowledgement"),
        }
    }

    pub(crate) fn read_connack(&mut self) {
        self.read();
        if let Some(Packet::ConnAck(_)) = self.inbox.front()
            && let Some(Packet::ConnAck(connack)) = self.inbox.pop_front()
        {
            self.connack = Some(*connack);
        }
    }

    fn read(&mut self) {
        self.bytes
            .unsplit(self.world.borrow_mut().take_written(self.link));
        while let Some(packet) = self
            .decoder
            .decode(&mut self.bytes)
            .expect("the gateway writes what the codec reads")
        {
            self.inbox.push_back(packet);
        }
    }

    fn new_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }
}
