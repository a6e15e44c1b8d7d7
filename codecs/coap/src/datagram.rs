//! One message in one datagram. RFC 7252 §3

use crate::{Code, Kind, Message, Options, Token};
use bytes::{BufMut, Bytes, BytesMut};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing can be said to its sender. RFC 7252 §3: silently ignored.
    #[error("no CoAP, or another version of it")]
    NotCoap,
    /// The rest has no meaning; the message layer may reject it. RFC 7252 §4.2, §4.3
    #[error("malformed message {id}: {why}")]
    Malformed {
        /// Its kind.
        kind: Kind,
        /// Its message ID.
        id: u16,
        /// What is wrong.
        why: &'static str,
    },
}

/// An option, or the whole, is longer than can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is too long")]
pub struct TooLong;

/// The only version. RFC 7252 §3
const VERSION: u8 = 1;

/// Reads a datagram.
pub fn decode(datagram: &[u8]) -> Result<Message, DecodeError> {
    let [first, code, id @ ..] = datagram else {
        return Err(DecodeError::NotCoap);
    };
    let id = id.first_chunk().map(|id| u16::from_be_bytes(*id));
    let (Some(id), VERSION) = (id, first >> 6) else {
        return Err(DecodeError::NotCoap);
    };
    let kind = kind_of(*first);
    let malformed = |why| DecodeError::Malformed { kind, id, why };
    // RFC 7252 §4.1: the Token Length field MUST be set to 0 and bytes of data MUST NOT be present after the Message ID.
    if *code == Code::EMPTY.0 && (datagram.len() > 4 || first & 0xF != 0) {
        return Err(malformed("an Empty message with more than a header"));
    }
    let packet = Packet::from_bytes(datagram).map_err(|_| malformed("token or options run over its end"))?;
    // RFC 7252 §3: the presence of a marker followed by a zero-length payload is a message format error.
    if packet.payload.is_empty() && ends_with_marker(datagram, &packet) {
        return Err(malformed("a payload marker without a payload"));
    }
    Ok(message(kind, packet))
}

fn kind_of(first: u8) -> Kind {
    match first >> 4 & 3 {
        0 => Kind::Confirmable,
        1 => Kind::NonConfirmable,
        2 => Kind::Acknowledgement,
        _ => Kind::Reset,
    }
}

/// Without a payload the options must be all that is there: then the length of what they take tells whether a marker follows them.
fn ends_with_marker(datagram: &[u8], packet: &Packet) -> bool {
    let mut rest = &datagram[4 + packet.get_token().len()..];
    while let Some((first, more)) = rest.split_first() {
        if *first == 0xFF {
            return true;
        }
        let extended = |nibble: u8| match nibble {
            13 => 1,
            14 => 2,
            _ => 0,
        };
        let (delta, length) = (extended(first >> 4), extended(first & 0xF));
        let length_bytes = more.get(delta..delta + length).unwrap_or_default();
        let value = match length_bytes {
            [] => usize::from(first & 0xF),
            [one] => usize::from(*one) + 13,
            bytes => bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) + 269,
        };
        rest = more.get(delta + length + value..).unwrap_or_default();
    }
    false
}

fn message(kind: Kind, packet: Packet) -> Message {
    let token = Token::new(packet.get_token()).expect("coap-lite refuses longer ones");
    let mut options = Options::default();
    for (number, values) in packet.options() {
        for value in values {
            options.push(*number, Bytes::copy_from_slice(value));
        }
    }
    Message {
        kind,
        code: Code(packet.header.code.into()),
        id: packet.header.message_id,
        token,
        options,
        payload: packet.payload.into(),
    }
}

/// Appends a message as a datagram.
pub fn encode(message: &Message, bytes: &mut BytesMut) -> Result<(), TooLong> {
    let written = packet(message)?.to_bytes_with_limit(MOST);
    bytes.put_slice(&written.map_err(|_| TooLong)?);
    Ok(())
}

/// What a datagram can hold at most.
const MOST: usize = u16::MAX as usize;
/// What an option can hold at most. RFC 7252 §3.1
const MOST_OF_OPTION: usize = 65_804;

pub(crate) fn packet(message: &Message) -> Result<Packet, TooLong> {
    let mut packet = Packet::new();
    packet.header.set_version(VERSION);
    packet.header.set_type(match message.kind {
        Kind::Confirmable => MessageType::Confirmable,
        Kind::NonConfirmable => MessageType::NonConfirmable,
        Kind::Acknowledgement => MessageType::Acknowledgement,
        Kind::Reset => MessageType::Reset,
    });
    packet.header.code = MessageClass::from(message.code.0);
    packet.header.message_id = message.id;
    packet.set_token(message.token.as_bytes().to_vec());
    for (number, value) in message.options.iter() {
        if value.len() > MOST_OF_OPTION {
            return Err(TooLong);
        }
        packet.add_option(CoapOption::from(number), value.to_vec());
    }
    packet.payload = message.payload.to_vec();
    Ok(packet)
}

/// Bytes that a message has as a datagram.
pub fn encoded_len(message: &Message) -> usize {
    let extended = |n: usize| usize::from(n > 12) + usize::from(n > 268);
    let mut before = 0;
    let options = message.options.iter().map(|(number, value)| {
        let delta = usize::from(number - before);
        before = number;
        1 + extended(delta) + extended(value.len()) + value.len()
    });
    let options: usize = options.sum();
    let marker = usize::from(!message.payload.is_empty());
    4 + message.token.as_bytes().len() + options + marker + message.payload.len()
}
