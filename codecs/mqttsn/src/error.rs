//! What can be wrong with a datagram.

use crate::{MAX_LEN, MessageType};

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short for a length and a type. §5.2
    #[error("{0} bytes, too few for a header")]
    NoHeader(usize),
    /// The Length field does not say how long the datagram is. §5.2.1
    #[error("the length field says {told} bytes, there are {found}")]
    Length {
        /// What it says.
        told: usize,
        /// How many there are.
        found: usize,
    },
    /// A reserved type. §5.2.2
    #[error("message type {0:#04x} is reserved")]
    UnknownType(u8),
    /// It ends before its last field.
    #[error("{kind}: {missing} bytes are missing")]
    Missing {
        /// What it is.
        kind: MessageType,
        /// How many bytes are missing, at least.
        missing: usize,
    },
    /// Something follows its last field.
    #[error("{kind}: {extra} bytes too many")]
    Trailing {
        /// What it is.
        kind: MessageType,
        /// How many bytes follow.
        extra: usize,
    },
    /// TopicIdType 0b11 is reserved. §5.3.4
    #[error("{0}: topic id type 0b11 is reserved")]
    TopicIdType(MessageType),
    /// QoS −1 is for PUBLISH alone. §5.3.4
    #[error("{0}: QoS -1 is for PUBLISH alone")]
    Qos(MessageType),
    /// An encapsulation inside an encapsulation. §5.5
    #[error("a forwarder's encapsulation is not expected here")]
    Encapsulated,
    /// A forwarder's encapsulation ends before its wireless node id. §5.5
    #[error("encapsulation: {missing} bytes are missing")]
    Encapsulation {
        /// How many bytes are missing, at least.
        missing: usize,
    },
}

/// A message does not fit into the two bytes of a length. §5.2.1
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes, the limit is {MAX_LEN}")]
pub struct TooLong(pub usize);
