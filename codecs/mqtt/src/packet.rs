//! The fifteen control packets, one type for all three versions. §3
//!
//! What a version does not have is left empty by the decoder and not written by the encoder.

use std::fmt;

use bytes::Bytes;

use crate::properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties,
    PublishProperties, UserProperty, WillProperties,
};
use crate::{PacketId, Qos, ReasonCode, Utf8, Version};

/// Any control packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// §3.1
    Connect(Box<Connect>),
    /// §3.2
    ConnAck(Box<ConnAck>),
    /// §3.3
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP. §3.4 to §3.7
    Ack(Ack),
    /// §3.8
    Subscribe(Box<Subscribe>),
    /// §3.9
    SubAck(Box<SubAck>),
    /// §3.10
    Unsubscribe(Box<Unsubscribe>),
    /// §3.11
    UnsubAck(Box<UnsubAck>),
    /// §3.12
    PingReq,
    /// §3.13
    PingResp,
    /// §3.14
    Disconnect(Disconnect),
    /// MQTT 5 only. §3.15
    Auth(Auth),
}

const _: () = assert!(
    size_of::<Publish>() <= 80,
    "one for each message in flight through a wake-up"
);
const _: () = assert!(
    size_of::<Packet>() <= 80,
    "everything rarer than PUBLISH is boxed"
);

impl Packet {
    /// The type in the fixed header.
    pub fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::Ack(ack) => ack.kind.packet_type(),
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// MQTT Control Packet type: the upper half of the first byte. §2.1.2
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "they are the specification's names")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type with this value; zero is reserved.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        })
    }
}

/// A client asks to be let in. §3.1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Protocol version.
    pub version: Version,
    /// Bit 0x80 of the protocol level, by which a bridge names itself. Only before MQTT 5; no standard has it.
    pub bridge: bool,
    /// Clean Start; Clean Session before MQTT 5.
    pub clean_start: bool,
    /// Keep alive in seconds; zero switches it off.
    pub keep_alive: u16,
    /// Client identifier; empty asks the server for one.
    pub client_id: Utf8,
    /// What to publish when the connection is lost.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<Utf8>,
    /// Password.
    pub password: Option<Bytes>,
    /// Properties.
    pub properties: ConnectProperties,
}

impl Connect {
    /// A clean start without a Will or credentials.
    pub fn new(version: Version, client_id: Utf8) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }
}

/// The Will Message. §3.1.2.5
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Will {
    /// Topic name: neither empty nor with a wildcard.
    pub topic: Utf8,
    /// Payload.
    pub payload: Bytes,
    /// QoS to publish it with.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// Properties.
    pub properties: WillProperties,
}

/// The server's answer to a CONNECT. §3.2
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server continues a session. Not told by MQTT 3.1, nor with a refusal.
    pub session_present: bool,
    /// Why; before MQTT 5 written as a return code, see [`ReasonCode::to_return_code`].
    pub code: ReasonCode,
    /// Properties.
    pub properties: ConnAckProperties,
}

/// An application message. §3.3
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// Sent before with this packet identifier.
    pub dup: bool,
    /// Quality of service.
    pub qos: Qos,
    /// To be retained; from a server: was retained.
    pub retain: bool,
    /// Topic name, without wildcards; empty only together with a topic alias.
    pub topic: Utf8,
    /// Present exactly when the QoS is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// The message.
    pub payload: Bytes,
    /// Properties; `None` when there are none.
    pub properties: Option<Box<PublishProperties>>,
}

/// Which of the four acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckKind {
    /// Answers a QoS 1 PUBLISH.
    PubAck,
    /// Answers a QoS 2 PUBLISH.
    PubRec,
    /// Answers a PUBREC.
    PubRel,
    /// Answers a PUBREL.
    PubComp,
}

impl AckKind {
    /// The type in the fixed header.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP: they share a shape. §3.4 to §3.7
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Which one.
    pub kind: AckKind,
    /// The identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// Before MQTT 5 always Success.
    pub reason: ReasonCode,
    /// Properties; `None` when there are none.
    pub properties: Option<Box<AckProperties>>,
}

impl Ack {
    /// All went well.
    #[inline]
    pub const fn success(kind: AckKind, packet_id: PacketId) -> Self {
        Self::with_reason(kind, packet_id, ReasonCode::Success)
    }

    /// An acknowledgement with this reason and no properties.
    #[inline]
    pub const fn with_reason(kind: AckKind, packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            kind,
            packet_id,
            reason,
            properties: None,
        }
    }
}

/// A client asks for messages. §3.8
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// Subscription identifier, 1 to 268,435,455, for all its filters.
    pub identifier: Option<u32>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// At least one. [MQTT-3.8.3-2]
    pub filters: Vec<SubscribeFilter>,
}

/// One topic filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// Topic filter: not empty; the places of its wildcards are not checked here.
    pub filter: Utf8,
    /// Options.
    pub options: SubscribeOptions,
}

/// Subscription options. §3.8.3.1
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Maximum QoS wanted.
    pub qos: Qos,
    /// Do not send the client its own messages.
    pub no_local: bool,
    /// Keep the RETAIN flag of forwarded messages.
    pub retain_as_published: bool,
    /// Whether retained messages are sent now.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// Just a QoS: all that versions before MQTT 5 can ask for.
    pub const fn qos(qos: Qos) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }
}

/// What happens to retained messages at the time of the SUBSCRIBE. §3.8.3.1
#[repr(u8)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// They are sent.
    #[default]
    SendAtSubscribe = 0,
    /// They are sent if the subscription is new.
    SendIfNew = 1,
    /// They are not sent.
    DoNotSend = 2,
}

/// The server's answer to a SUBSCRIBE. §3.9
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// The identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order. Before MQTT 5: QoS 0 to 2 or Unspecified error.
    pub codes: Vec<ReasonCode>,
    /// For humans.
    pub reason_string: Option<Utf8>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

/// A client no longer wants messages. §3.10
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// At least one, none of them empty. [MQTT-3.10.3-2]
    pub filters: Vec<Utf8>,
}

/// The server's answer to an UNSUBSCRIBE. §3.11
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck {
    /// The identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order; before MQTT 5 there are none.
    pub codes: Vec<ReasonCode>,
    /// For humans.
    pub reason_string: Option<Utf8>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

/// The last packet of a connection; before MQTT 5 only from a client. §3.14
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: ReasonCode,
    /// Properties; `None` when there are none.
    pub properties: Option<Box<DisconnectProperties>>,
}

impl Disconnect {
    /// A DISCONNECT with this reason and no properties.
    pub const fn with_reason(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: None,
        }
    }
}

/// Enhanced authentication. §3.15
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Success, Continue authentication or Re-authenticate.
    pub reason: ReasonCode,
    /// Properties; `None` when there are none.
    pub properties: Option<Box<AuthProperties>>,
}
