//! What can be wrong with bytes from a peer, and the one table to what the peer is told.

use bytes::Bytes;

use crate::packet::PacketType;
use crate::properties::PropertyId;
use crate::{ReasonCode, Utf8Error};

/// Why bytes are not a packet. The connection they came from cannot go on. [MQTT-4.13.1-1]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Type 0, or 15 before MQTT 5.
    #[error("control packet type {0} is reserved [MQTT-2.1.3-1]")]
    ReservedType(u8),
    /// Reserved bits of the fixed header.
    #[error("{packet} with fixed header flags {flags:#06b} [MQTT-2.1.3-1]")]
    HeaderFlags {
        /// Its type.
        packet: PacketType,
        /// The lower half of the first byte.
        flags: u8,
    },
    /// QoS 3 in a PUBLISH, or in the Will of a CONNECT.
    #[error("QoS 3 in {0} [MQTT-3.3.1-4] [MQTT-3.1.2-12]")]
    QosBits(PacketType),
    /// A duplicate of what is never sent again.
    #[error("DUP set on a QoS 0 PUBLISH [MQTT-3.3.1-2]")]
    DupAtMostOnce,
    /// A variable byte integer has at most four bytes.
    #[error("variable byte integer longer than four bytes §1.5.5")]
    VariableByteIntegerTooLong,
    /// A shorter encoding exists.
    #[error("{0} in a variable byte integer longer than needed [MQTT-1.5.5-1]")]
    VariableByteIntegerNotMinimal(u32),
    /// Larger than we accept; known from the fixed header alone.
    #[error("packet of {size} bytes, limit {limit} [MQTT-3.1.2-24]")]
    TooLarge {
        /// Size of the whole packet.
        size: u32,
        /// The limit.
        limit: u32,
    },
    /// More topic filters or user properties than one packet may have here.
    #[error("more than {limit} topic filters or user properties in {packet}")]
    TooMany {
        /// Its type.
        packet: PacketType,
        /// So many are allowed.
        limit: usize,
    },
    /// A field, or the property section, reaches beyond the packet.
    #[error("the packet ends inside a field")]
    Truncated,
    /// Bytes after the last field.
    #[error("{count} bytes after the end of {packet}")]
    TrailingBytes {
        /// Its type.
        packet: PacketType,
        /// How many.
        count: usize,
    },
    /// Not a UTF-8 Encoded String.
    #[error(transparent)]
    Text(#[from] Utf8Error),

    /// The first packet of a client must be CONNECT.
    #[error("{0} before CONNECT [MQTT-3.1.0-1]")]
    ConnectExpected(PacketType),
    /// There is one CONNECT in a connection.
    #[error("a second CONNECT [MQTT-3.1.0-2]")]
    SecondConnect,
    /// Only the other side, or only another version, sends this.
    #[error("{0} cannot be sent to this side of a connection")]
    WrongDirection(PacketType),
    /// Not MQTT: close without an answer. Holds at most the first 16 bytes of the name.
    #[error("protocol name {0:?} [MQTT-3.1.2-1]")]
    UnknownProtocol(Bytes),
    /// MQTT, but no level we speak: the answer is CONNACK 0x01 (3.x) or 0x84 (5).
    #[error("protocol level {0} [MQTT-3.1.2-2]")]
    UnsupportedVersion(u8),
    /// Bit 0 of the connect flags.
    #[error("reserved connect flag is set [MQTT-3.1.2-3]")]
    ConnectFlags,
    /// Will QoS or Will Retain without a Will.
    #[error(
        "connect flags {0:#010b}: Will QoS or Will Retain without Will Flag [MQTT-3.1.2-11] [MQTT-3.1.2-13]"
    )]
    WillFlags(u8),
    /// Allowed by MQTT 5 only.
    #[error("a password without a user name [3.1.1 MQTT-3.1.2-22]")]
    PasswordWithoutUserName,
    /// Bits 7 to 1 of the Connect Acknowledge Flags.
    #[error("connect acknowledge flags {0:#010b} [MQTT-3.2.2-1]")]
    ConnAckFlags(u8),
    /// A refused client has no session.
    #[error("Session Present in a refusal ({0}) [MQTT-3.2.2-6]")]
    SessionPresentInRefusal(ReasonCode),
    /// 6 to 255 are reserved before MQTT 5.
    #[error("connect return code {0} is reserved, 3.1.1 §3.2.2.3")]
    ReturnCode(u8),

    /// Not a reason this packet may give, or none at all.
    #[error("reason code 0x{code:02X} in {packet} [MQTT-3.4.2-1]")]
    ReasonNotAllowed {
        /// The packet's type.
        packet: PacketType,
        /// The byte.
        code: u8,
    },
    /// Zero is not a packet identifier.
    #[error("packet identifier of {0} is zero [MQTT-2.2.1-3]")]
    ZeroPacketId(PacketType),

    /// No topic, nor an alias for one.
    #[error("empty topic name in {0} [MQTT-4.7.3-1]")]
    EmptyTopic(PacketType),
    /// A topic name is not a filter.
    #[error("wildcard in a topic name of {0} [MQTT-3.3.2-2]")]
    WildcardInTopic(PacketType),
    /// Nor is a response topic.
    #[error("wildcard in a response topic [MQTT-3.3.2-14]")]
    WildcardInResponseTopic,
    /// Nothing to subscribe to or unsubscribe from.
    #[error("{0} without a topic filter [MQTT-3.8.3-2] [MQTT-3.10.3-2]")]
    NoFilters(PacketType),
    /// At least one character.
    #[error("empty topic filter in {0} [MQTT-4.7.3-1]")]
    EmptyFilter(PacketType),
    /// Reserved bits of the subscription options.
    #[error("subscription options {0:#010b} [MQTT-3.8.3-5]")]
    SubscribeOptions(u8),
    /// Maximum QoS 3.
    #[error("subscription with QoS 3 §3.8.3.1")]
    SubscribeQos,
    /// 0, 1 and 2 are defined.
    #[error("Retain Handling is 3 §3.8.3.1")]
    RetainHandling,
    /// Who among the group would be local?
    #[error("No Local on a shared subscription [MQTT-3.8.3-4]")]
    NoLocalShared,
    /// One reason code for each filter, and there was at least one.
    #[error("{0} without a reason code §3.9.3, §3.11.3")]
    NoReasonCodes(PacketType),

    /// None of the 27.
    #[error("unknown property 0x{0:02X} §2.2.2.2")]
    UnknownProperty(u32),
    /// Not for this packet.
    #[error("property {property} in {packet} §2.2.2.2")]
    PropertyNotAllowed {
        /// The packet's type.
        packet: PacketType,
        /// The property.
        property: PropertyId,
    },
    /// More than once.
    #[error("property {0} twice")]
    DuplicateProperty(PropertyId),
    /// A value the property cannot have: zero, or more than its maximum.
    #[error("property {property} with value {value}")]
    PropertyValue {
        /// The property.
        property: PropertyId,
        /// The value.
        value: u32,
    },
    /// Data for which method?
    #[error("authentication data without a method in {0} §3.1.2.11.10")]
    AuthDataWithoutMethod(PacketType),
    /// An AUTH with properties has to name its method.
    #[error("AUTH without an authentication method §3.15.2.2.2")]
    AuthWithoutMethod,
}

impl DecodeError {
    /// What the peer is told, if its version lets us tell it anything. §4.13
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            // The packet has the property, but only from the other side. [MQTT-3.3.4-6] [MQTT-3.14.2-2]
            Self::PropertyNotAllowed {
                packet: PacketType::Publish,
                property: PropertyId::SubscriptionIdentifier,
            }
            | Self::PropertyNotAllowed {
                packet: PacketType::Disconnect,
                property: PropertyId::SessionExpiryInterval,
            } => ReasonCode::ProtocolError,

            // [MQTT-3.3.2-8]
            Self::PropertyValue {
                property: PropertyId::TopicAlias,
                ..
            } => ReasonCode::TopicAliasInvalid,

            Self::ReservedType(_)
            | Self::HeaderFlags { .. }
            | Self::QosBits(_)
            | Self::DupAtMostOnce
            | Self::VariableByteIntegerTooLong
            | Self::VariableByteIntegerNotMinimal(_)
            | Self::Truncated
            | Self::TrailingBytes { .. }
            | Self::Text(_)
            | Self::ConnectFlags
            | Self::WillFlags(_)
            | Self::PasswordWithoutUserName
            | Self::ConnAckFlags(_)
            | Self::ReturnCode(_)
            | Self::SubscribeOptions(_)
            | Self::UnknownProperty(_)
            | Self::PropertyNotAllowed { .. } => ReasonCode::MalformedPacket,

            Self::ConnectExpected(_)
            | Self::SecondConnect
            | Self::WrongDirection(_)
            | Self::SessionPresentInRefusal(_)
            | Self::ReasonNotAllowed { .. }
            | Self::ZeroPacketId(_)
            | Self::EmptyTopic(_)
            | Self::WildcardInResponseTopic
            | Self::NoFilters(_)
            | Self::EmptyFilter(_)
            | Self::SubscribeQos
            | Self::RetainHandling
            | Self::NoLocalShared
            | Self::NoReasonCodes(_)
            | Self::DuplicateProperty(_)
            | Self::PropertyValue { .. }
            | Self::AuthDataWithoutMethod(_)
            | Self::AuthWithoutMethod => ReasonCode::ProtocolError,

            Self::TooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::TooMany { .. } => ReasonCode::QuotaExceeded,
            Self::WildcardInTopic(_) => ReasonCode::TopicNameInvalid,
            Self::UnknownProtocol(_) | Self::UnsupportedVersion(_) => ReasonCode::UnsupportedProtocolVersion,
        }
    }
}
