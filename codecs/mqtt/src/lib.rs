//! MQTT 3.1, 3.1.1 and 5: bytes to packets and back, without I/O.
//!
//! One packet type for the three versions; [`Version`] is an argument where they differ. A [`Decoder`] takes
//! whole packets off a read buffer and refuses what the specification calls malformed; [`encode`] writes the
//! shortest legal form. Strings and payloads are slices of the read buffer: a PUBLISH without properties is
//! decoded and encoded without touching the heap.
//!
//! Clause ids in comments: `[MQTT-x.y.z-n]` is MQTT 5.0, `[3.1.1 MQTT-x.y.z-n]` is MQTT 3.1.1. A rule that needs
//! more than one packet (identifiers in use, aliases, order) is the endpoint's, not the codec's.
//!
//! Always true: bytes from a peer end in a packet or an error, never in a panic; no length sent by a peer is
//! used to reserve memory; a [`Packet`] that was decoded can be encoded again.

mod decode;
mod decode_properties;
mod decoder;
mod encode;
mod encode_properties;
mod error;
mod fit;
mod packet;
mod properties;
mod reader;
mod reason;
mod sink;
mod utf8;

use std::fmt;
use std::num::NonZeroU16;

pub use decode::MAX_FILTERS;
pub use decode_properties::MAX_USER_PROPERTIES;
pub use decoder::Decoder;
pub use encode::{PublishOffsets, PublishParts, encode, encode_publish, encoded_len, publish_len};
pub use error::DecodeError;
pub use fit::fit;
pub use packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, RetainHandling, SubAck,
    Subscribe, SubscribeFilter, SubscribeOptions, UnsubAck, Unsubscribe, Will,
};
pub use properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PropertyId,
    PublishProperties, UserProperty, WillProperties,
};
pub use reason::ReasonCode;
pub use utf8::{Utf8, Utf8Error};

/// A packet identifier; zero is not one. [MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1]
pub type PacketId = NonZeroU16;

/// The largest number a variable byte integer holds, and so the largest Remaining Length. §1.5.5, §2.1.4
pub const MAX_VARIABLE_BYTE_INTEGER: u32 = 268_435_455;

/// The largest packet there can be: a fixed header of five bytes and the longest body.
pub const MAX_PACKET_SIZE: u32 = MAX_VARIABLE_BYTE_INTEGER + 5;

/// Protocol version; the value is the protocol level on the wire.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl Version {
    /// The protocol name this version is announced with.
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }

    /// The protocol level on the wire, without the bridge bit.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// Quality of service. §4.3
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Qos {
    /// Fire and forget.
    #[default]
    AtMostOnce = 0,
    /// Acknowledged; duplicates are possible.
    AtLeastOnce = 1,
    /// Acknowledged twice; no duplicates.
    ExactlyOnce = 2,
}

impl Qos {
    /// The two QoS bits; three is not a QoS. [MQTT-3.3.1-4]
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}
