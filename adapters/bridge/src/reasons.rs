//! Why connections ended and messages did not arrive, in words for operators.

use headgate_mqtt_codec::ReasonCode;
use std::fmt;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The link broke, or the remote closed it.
    Lost,
    /// CONNACK said no.
    Refused(ReasonCode),
    /// The remote does not take a protocol level with bit 0x80. Without, it may.
    PrivateRefused,
    /// DISCONNECT came. MQTT 5 §3.14
    Disconnected(ReasonCode),
    /// The remote answered nothing for twice `stalled_after`.
    NoAnswer,
    /// The remote broke the protocol, or sent more than it may.
    ProtocolError,
    /// The remote cannot take a message now: it is sent again later.
    RefusedForNow(ReasonCode),
    /// The bus cannot take a message of the remote now: the remote sends it again later.
    BusRefused,
    /// We were asked to end it.
    Asked,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the connection was lost"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::PrivateRefused => f.write_str("the bridge bit was refused"),
            Self::Disconnected(reason) => write!(f, "the remote disconnected: {reason}"),
            Self::NoAnswer => f.write_str("the remote does not answer"),
            Self::ProtocolError => f.write_str("the remote broke the protocol"),
            Self::RefusedForNow(reason) => write!(f, "the remote takes no message now: {reason}"),
            Self::BusRefused => f.write_str("the gateway takes no message now"),
            Self::Asked => f.write_str("ended on purpose"),
        }
    }
}

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeadReason {
    /// It is larger than the remote takes. \[MQTT-3.2.2-15\]
    TooLarge,
    /// Its topic has no name at the remote, or the remote does not like it.
    TopicInvalid,
    /// The remote does not let us publish it.
    NotAuthorized,
    /// The remote says that it is not UTF-8 text.
    PayloadInvalid,
    /// The remote refused it again and again without saying why.
    RefusedRepeatedly,
    /// The remote hung up again and again when it was sent, in the end when nothing else was.
    Disconnects,
}

impl DeadReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::TooLarge,
        Self::TopicInvalid,
        Self::NotAuthorized,
        Self::PayloadInvalid,
        Self::RefusedRepeatedly,
        Self::Disconnects,
    ];

    /// The word for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::TopicInvalid => "topic_invalid",
            Self::NotAuthorized => "not_authorized",
            Self::PayloadInvalid => "payload_invalid",
            Self::RefusedRepeatedly => "refused_repeatedly",
            Self::Disconnects => "disconnects",
        }
    }
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// To the remote, but no rule is for its topic: an earlier configuration had one.
    NoRule,
    /// Its expiry interval passed before it was sent. \[MQTT-3.3.2-5\]
    Expired,
    /// A throttle let another message of its topic or rule go in its stead.
    Throttled,
    /// At QoS 0, gathered for a batch, when the connection ended.
    Unsent,
    /// From the remote, and no rule is for its topic.
    IncomingNoRule,
    /// From the remote, and its topic has no name here.
    IncomingTopicInvalid,
    /// From the remote, packed, and it cannot be unpacked, or is larger than `max_packet_size` then.
    IncomingPayloadInvalid,
    /// From the remote, and the bus will never take it.
    IncomingRefused,
    /// A dead letter that the bus did not take.
    DeadLetterRefused,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::NoRule,
        Self::Expired,
        Self::Throttled,
        Self::Unsent,
        Self::IncomingNoRule,
        Self::IncomingTopicInvalid,
        Self::IncomingPayloadInvalid,
        Self::IncomingRefused,
        Self::DeadLetterRefused,
    ];

    /// The word for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::Expired => "expired",
            Self::Throttled => "throttled",
            Self::Unsent => "unsent",
            Self::IncomingNoRule => "incoming_no_rule",
            Self::IncomingTopicInvalid => "incoming_topic_invalid",
            Self::IncomingPayloadInvalid => "incoming_payload_invalid",
            Self::IncomingRefused => "incoming_refused",
            Self::DeadLetterRefused => "dead_letter_refused",
        }
    }
}
