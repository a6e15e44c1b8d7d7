//! MQTT-SN 1.2: bytes to messages and back. The section numbers are those of the specification, version 1.2 of November 2013.
//!
//! [`decode`] reads one datagram, [`encode`] writes one; [`unwrap_datagram`] takes off the outer layer of a forwarder (§5.5). [`serial`] finds the
//! datagrams in the bytes of a serial line.
//!
//! Always true: no bytes make it panic; nothing is allocated by a number that a peer sent; names and payloads are slices of the datagram.

mod decode;
mod encode;
mod error;
mod message;
pub mod serial;

pub use decode::{Encapsulation, decode, unwrap_datagram};
pub use encode::{encode, encode_wrapped, encoded_len};
pub use error::{DecodeError, TooLong};
pub use message::{
    Connect, GwInfo, Message, MessageType, Publish, Qos, RegAck, Register, ReturnCode, SubAck, Subscribe,
    TopicName, TopicRef, Unsubscribe, WillTopic, is_reserved,
};

/// The longest message: its length is told in two bytes. §5.2.1
pub const MAX_LEN: usize = u16::MAX as usize;

/// The longest name of a wireless node: the length of the encapsulation's header is told in one byte. §5.5
pub const MAX_NODE_LEN: usize = u8::MAX as usize - 3;
