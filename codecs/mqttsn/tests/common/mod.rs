//! Shared by the tests of this crate.

#![allow(dead_code, reason = "no test uses all of it")]

pub(crate) mod corpus;
pub(crate) mod generate;

use bytes::{Bytes, BytesMut};
use headgate_mqttsn_codec::{Encapsulation, Message, encode, encode_wrapped};

/// The message on the wire, in a forwarder's layer if there is one.
pub(crate) fn datagram(encapsulation: Option<&Encapsulation>, message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    match encapsulation {
        None => encode(message, &mut out).unwrap(),
        Some(layer) => encode_wrapped(layer, message, &mut out).unwrap(),
    }
    out.freeze()
}
