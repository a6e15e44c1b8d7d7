//! Handshake messages and their fragments. RFC 6347 §4.2.2, §4.2.3

use crate::DecodeError;
use crate::reader::{Reader, put_u24};

/// Bytes before the body of a fragment.
pub const HANDSHAKE_HEADER: usize = 12;

/// What a handshake message is. RFC 5246 §7.4, RFC 6347 §4.3.2
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the specification")]
pub enum HandshakeType {
    HelloRequest = 0,
    ClientHello = 1,
    ServerHello = 2,
    HelloVerifyRequest = 3,
    NewSessionTicket = 4,
    Certificate = 11,
    ServerKeyExchange = 12,
    CertificateRequest = 13,
    ServerHelloDone = 14,
    CertificateVerify = 15,
    ClientKeyExchange = 16,
    Finished = 20,
}

impl HandshakeType {
    /// The type of this number, if we know it.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::HelloRequest,
            1 => Self::ClientHello,
            2 => Self::ServerHello,
            3 => Self::HelloVerifyRequest,
            4 => Self::NewSessionTicket,
            11 => Self::Certificate,
            12 => Self::ServerKeyExchange,
            13 => Self::CertificateRequest,
            14 => Self::ServerHelloDone,
            15 => Self::CertificateVerify,
            16 => Self::ClientKeyExchange,
            20 => Self::Finished,
            _ => return None,
        })
    }
}

/// A part of a handshake message, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// See [`HandshakeType`].
    pub kind: u8,
    /// Bytes of the whole body.
    pub length: u32,
    /// The message's number.
    pub message_seq: u16,
    /// Where in the body this part begins.
    pub offset: u32,
    /// The part.
    pub body: &'a [u8],
}

impl Fragment<'_> {
    /// Whether it is all of its message.
    pub fn is_whole(&self) -> bool {
        self.body.len() == self.length as usize
    }
}

/// Cuts the first fragment off what a record carries.
pub fn next_fragment(bytes: &[u8]) -> Result<(Fragment<'_>, &[u8]), DecodeError> {
    let mut reader = Reader::new(bytes, "handshake message");
    let kind = reader.u8()?;
    let length = reader.u24()?;
    let message_seq = reader.u16()?;
    let offset = reader.u24()?;
    let body = reader.vec24()?;
    // All three are of 24 bits.
    if u64::from(offset) + body.len() as u64 > u64::from(length) {
        return Err(DecodeError::Beyond);
    }
    let fragment = Fragment {
        kind,
        length,
        message_seq,
        offset,
        body,
    };
    Ok((fragment, reader.rest()))
}

/// Appends a fragment.
pub fn write_fragment(fragment: &Fragment<'_>, out: &mut Vec<u8>) {
    out.push(fragment.kind);
    put_u24(out, fragment.length as usize);
    out.extend_from_slice(&fragment.message_seq.to_be_bytes());
    put_u24(out, fragment.offset as usize);
    put_u24(out, fragment.body.len());
    out.extend_from_slice(fragment.body);
}

/// Appends a whole message as one fragment, which is also how it counts for the hash of all messages. RFC 6347 §4.2.6
pub fn write_message(kind: HandshakeType, message_seq: u16, body: &[u8], out: &mut Vec<u8>) {
    let fragment = Fragment {
        kind: kind as u8,
        length: u32::try_from(body.len()).unwrap_or(u32::MAX),
        message_seq,
        offset: 0,
        body,
    };
    write_fragment(&fragment, out);
}
