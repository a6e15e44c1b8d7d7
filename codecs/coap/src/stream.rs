//! Messages on a connection: a length instead of kind and message ID. RFC 8323 §3.2

use crate::datagram::packet;
use crate::{Code, DecodeError, Kind, Message, Token, TooLong, decode};
use bytes::{Buf, BufMut, BytesMut};

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// More than the receiver takes. RFC 8323 §5.3.1
    #[error("a message of {size} bytes, limit {limit}")]
    TooLarge {
        /// Bytes that it says it has, with everything.
        size: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// Its content has no meaning.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
}

/// The header of a datagram that stands for that of a stream: version 1, CON, and no message ID.
const STAND_IN: u8 = 0x40;

/// Takes the next whole message off `bytes`; `None` while it is not whole. Messages of more than `limit` bytes are refused as soon as their length is known.
pub fn decode_stream(bytes: &mut BytesMut, limit: usize) -> Result<Option<Message>, StreamError> {
    let Some(first) = bytes.first().copied() else {
        return Ok(None);
    };
    let token = first & 0xF;
    if usize::from(token) > Token::MOST {
        return Err(StreamError::Malformed("a token of more than eight bytes"));
    }
    let (extended, base) = match first >> 4 {
        13 => (1, 13),
        14 => (2, 269),
        15 => (4, 65_805),
        length => (0, usize::from(length)),
    };
    let Some(length) = bytes.get(1..1 + extended) else {
        return Ok(None);
    };
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let size = (2 + extended + usize::from(token))
        .saturating_add(base)
        .saturating_add(length);
    if size > limit {
        return Err(StreamError::TooLarge { size, limit });
    }
    if bytes.len() < size {
        return Ok(None);
    }
    let mut whole = bytes.split_to(size);
    whole.advance(1 + extended);
    let mut datagram = BytesMut::with_capacity(whole.len() + 3);
    datagram.put_slice(&[STAND_IN | token, whole[0], 0, 0]);
    datagram.put_slice(&whole[1..]);
    match decode(&datagram) {
        Ok(message) => Ok(Some(message)),
        Err(DecodeError::Malformed { why, .. }) => Err(StreamError::Malformed(why)),
        Err(DecodeError::NotCoap) => unreachable!("the version was put there"),
    }
}

/// Appends a message. Its kind and message ID are left out.
pub fn encode_stream(message: &Message, bytes: &mut BytesMut) -> Result<(), TooLong> {
    let mut stand_in = packet(message)?;
    stand_in.header.message_id = 0;
    let datagram = stand_in.to_bytes_unlimited().map_err(|_| TooLong)?;
    let token = message.token.as_bytes().len();
    let length = datagram.len() - 4 - token;
    let head = |nibble: u8| nibble << 4 | token as u8;
    match length {
        0..13 => bytes.put_u8(head(length as u8)),
        13..269 => bytes.put_slice(&[head(13), (length - 13) as u8]),
        269..65_805 => {
            bytes.put_u8(head(14));
            bytes.put_u16((length - 269) as u16);
        }
        _ => {
            bytes.put_u8(head(15));
            bytes.put_u32(u32::try_from(length - 65_805).map_err(|_| TooLong)?);
        }
    }
    bytes.put_u8(message.code.0);
    bytes.put_slice(&datagram[4..]);
    Ok(())
}

/// A message of a connection, which has no kind nor message ID.
impl Message {
    /// A message without options and payload, for a connection.
    pub fn of_stream(code: Code, token: Token) -> Self {
        Self::new(Kind::Confirmable, code, 0, token)
    }
}
