//! The codec of one MQTT link, as the shell wants it: bytes in, [`Received`] out; [`Sent`] in, bytes out.

use crate::convert;
use crate::trace;
use bytes::BytesMut;
use headgate_model::trace::PacketTrace;
use headgate_model::{Delivery, Message, Wire};
use headgate_mqtt_codec::{
    Ack, Auth, ConnAck, DecodeError, Decoder, Disconnect, Packet, PublishParts, SubAck, UnsubAck, Version,
    encode, encode_publish,
};
use std::num::NonZeroU16;

/// What came from the client.
#[derive(Debug)]
pub enum Received {
    /// A packet.
    Packet(Packet),
    /// Bytes that are none; the last thing that comes.
    Malformed {
        /// What is wrong with them.
        error: DecodeError,
        /// The connection's version, if CONNECT got that far.
        version: Option<Version>,
    },
}

/// What goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// Any packet but PUBLISH.
    Packet(Packet),
    /// A message.
    Publish(Outgoing),
}

/// A PUBLISH on its way out: the shared message, and what differs for this client.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Message, QoS, flags and identifiers.
    pub delivery: Delivery,
    /// Length of the listener's mount point, taken off the topic.
    pub unmount: u16,
    /// Seconds left of the message's lifetime. \[MQTT-3.3.2-6\]
    pub expiry: Option<u32>,
    /// The topic's alias on this connection.
    pub alias: Option<NonZeroU16>,
    /// The alias is known to the client: the topic is left out.
    pub alias_is_known: bool,
}

macro_rules! sent_from {
    ($($packet:ident $wrap:expr,)*) => {
        $(impl From<$packet> for Sent {
            fn from(packet: $packet) -> Self {
                let wrap: fn($packet) -> Packet = $wrap;
                Self::Packet(wrap(packet))
            }
        })*
    };
}

sent_from! {
    Ack Packet::Ack,
    Auth Packet::Auth,
    ConnAck |p| Packet::ConnAck(Box::new(p)),
    Disconnect Packet::Disconnect,
    SubAck |p| Packet::SubAck(Box::new(p)),
    UnsubAck |p| Packet::UnsubAck(Box::new(p)),
    Packet |p| p,
}

/// The codec of one link.
#[derive(Debug)]
pub struct MqttWire {
    decoder: Decoder,
    /// The limit once the client is let in.
    max_packet_size: u32,
    /// After malformed bytes nothing more is read. \[MQTT-4.8.0-1\]
    failed: bool,
    /// Of the packets written.
    version: Version,
}

impl MqttWire {
    /// For a fresh connection: packets of `max_connect_size` bytes are taken until CONNACK lets the client in, then those of `max_packet_size`.
    pub fn new(max_packet_size: u32, max_connect_size: u32) -> Self {
        Self {
            decoder: Decoder::server(max_packet_size.min(max_connect_size)),
            max_packet_size,
            failed: false,
            version: Version::V311,
        }
    }
}

impl Wire for MqttWire {
    type In = Received;
    type Out = Sent;

    fn decode(&mut self, bytes: &mut BytesMut) -> Option<Received> {
        if self.failed {
            bytes.clear();
            return None;
        }
        let decoded = self.decoder.decode(bytes);
        if let Some(version) = self.decoder.version() {
            self.version = version;
        }
        match decoded {
            Ok(packet) => packet.map(Received::Packet),
            Err(error) => {
                self.failed = true;
                if let DecodeError::UnsupportedVersion(level) = error
                    && level > Version::V5 as u8
                {
                    self.version = Version::V5; // what comes after 5 reads a CONNACK of 5 rather than one of 3.1.1
                }
                Some(Received::Malformed {
                    error,
                    version: self.decoder.version(),
                })
            }
        }
    }

    fn trace_in(&self, frame: &Received) -> Option<PacketTrace> {
        Some(match frame {
            Received::Packet(packet) => trace::packet(packet),
            Received::Malformed { error, .. } => PacketTrace::new(format!("malformed: {error}")),
        })
    }

    fn trace_out(&self, frame: &Sent) -> Option<PacketTrace> {
        Some(match frame {
            Sent::Packet(packet) => trace::packet(packet),
            Sent::Publish(outgoing) => trace::outgoing(outgoing),
        })
    }

    fn encode(&mut self, frame: Sent, bytes: &mut BytesMut) {
        match frame {
            Sent::Packet(packet) => {
                if matches!(&packet, Packet::ConnAck(connack) if !connack.code.is_error()) {
                    self.decoder.set_max_packet_size(self.max_packet_size);
                }
                encode(&packet, self.version, bytes);
            }
            Sent::Publish(outgoing) => {
                outgoing.with_parts(self.version, |parts| encode_publish(parts, self.version, bytes));
                Message::recycle(outgoing.delivery.message);
            }
        }
    }
}

impl Outgoing {
    /// Calls `f` with the borrowed parts of the PUBLISH.
    pub(crate) fn with_parts<T>(&self, version: Version, f: impl FnOnce(&PublishParts<'_>) -> T) -> T {
        let message = &self.delivery.message;
        let properties = match &message.properties {
            Some(properties) if version == Version::V5 => Some(convert::properties_to_wire(properties)),
            _ => None,
        };
        f(&PublishParts {
            dup: self.delivery.redelivered,
            qos: convert::qos_to_wire(self.delivery.qos),
            retain: self.delivery.retain,
            topic: if self.alias_is_known {
                &[]
            } else {
                &message.topic.as_bytes()[usize::from(self.unmount)..]
            },
            packet_id: self.delivery.id,
            payload: &message.payload,
            properties: properties.as_ref(),
            message_expiry: self.expiry,
            topic_alias: self.alias,
            subscription_identifiers: self
                .delivery
                .subscription_ids
                .as_ref()
                .map_or(&[], |ids| &ids[..]),
        })
    }
}
