//! What a message consists of. RFC 7252 §3

use crate::{Code, Options};
use bytes::Bytes;
use std::fmt;

/// How a message is to be handled by the message layer. RFC 7252 §4
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// CON: it wants to be acknowledged.
    Confirmable,
    /// NON
    NonConfirmable,
    /// ACK
    Acknowledgement,
    /// RST
    Reset,
}

/// What a response has of its request: 0 to 8 bytes, chosen by whoever asked. RFC 7252 §5.3.1
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    len: u8,
    bytes: [u8; Token::MOST],
}

impl Token {
    /// Bytes that one may have.
    pub const MOST: usize = 8;

    /// Of these bytes; `None` if there are too many.
    pub fn new(token: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MOST];
        bytes.get_mut(..token.len())?.copy_from_slice(token);
        Some(Self {
            len: token.len() as u8,
            bytes,
        })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

/// In hexadecimal digits.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Means nothing on a connection.
    pub kind: Kind,
    /// Method or answer.
    pub code: Code,
    /// Message ID. Means nothing on a connection.
    pub id: u16,
    /// Which request an answer belongs to.
    pub token: Token,
    /// In the order of their numbers.
    pub options: Options,
    /// What it carries.
    pub payload: Bytes,
}

impl Message {
    /// A message without options and payload.
    pub fn new(kind: Kind, code: Code, id: u16, token: Token) -> Self {
        Self {
            kind,
            code,
            id,
            token,
            options: Options::default(),
            payload: Bytes::new(),
        }
    }

    /// A message without any content: an acknowledgement, a reset, or a confirmable one, which is a "ping". RFC 7252 §4.3
    pub fn empty(kind: Kind, id: u16) -> Self {
        Self::new(kind, Code::EMPTY, id, Token::default())
    }
}
