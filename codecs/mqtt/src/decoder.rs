//! Cuts whole packets off a read buffer. §2.1
//!
//! The first byte is judged as soon as it is there, and the size as soon as the Remaining Length is: a peer
//! cannot make us wait for, or store, a packet that will be refused.

use bytes::{Buf, BytesMut};

use crate::decode;
use crate::packet::{Packet, PacketType};
use crate::reader::VariableByteInteger;
use crate::{DecodeError, Version};

/// Decodes what one peer sends. After an error the connection is over, and so is the decoder.
#[derive(Debug, Clone)]
pub struct Decoder {
    side: Side,
    version: Option<Version>,
    max_packet_size: u32,
}

/// Which side of the connection decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// A complete fixed header.
struct FixedHeader {
    packet: PacketType,
    flags: u8,
    remaining: VariableByteInteger,
}

impl FixedHeader {
    #[inline]
    fn len(&self) -> usize {
        1 + self.remaining.width
    }

    #[inline]
    fn packet_len(&self) -> usize {
        self.len() + self.remaining.value as usize
    }
}

impl Decoder {
    /// For a server: the version is learnt from the CONNECT, which must come first and once.
    /// `max_packet_size` counts the whole packet.
    pub const fn server(max_packet_size: u32) -> Self {
        Self {
            side: Side::Server,
            version: None,
            max_packet_size,
        }
    }

    /// For a client, which knows what version it asked for.
    pub const fn client(version: Version, max_packet_size: u32) -> Self {
        Self {
            side: Side::Client,
            version: Some(version),
            max_packet_size,
        }
    }

    /// The version of the connection. A server knows it as soon as a protocol level was read, even if
    /// something else is wrong with the CONNECT.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Sets the version: for a client that tries another one; for a server, as if CONNECT had been read.
    pub const fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// The largest packet accepted.
    pub const fn max_packet_size(&self) -> u32 {
        self.max_packet_size
    }

    /// Sets the largest packet accepted, for instance once it is known who the client is.
    pub const fn set_max_packet_size(&mut self, max_packet_size: u32) {
        self.max_packet_size = max_packet_size;
    }

    /// Takes the next packet off `buf`, or nothing while its last byte is missing. Never reserves memory.
    #[inline]
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = self.fixed_header(buf)? else {
            return Ok(None);
        };
        if buf.len() < header.packet_len() {
            return Ok(None);
        }
        let mut body = buf.split_to(header.packet_len()).freeze();
        body.advance(header.len());
        if header.packet == PacketType::Connect {
            let connect = decode::connect(&body, &mut self.version)?;
            // MQTT 3.1 §3.1: DUP, QoS and RETAIN of the fixed header are not used.
            if connect.version != Version::V31 {
                decode::check_flags(header.packet, header.flags, self.version)?;
            }
            // Before MQTT 5 no clause asks for the shortest Remaining Length.
            if connect.version == Version::V5 {
                header.remaining.minimal()?;
            }
            return Ok(Some(Packet::Connect(Box::new(connect))));
        }
        let version = self.version.ok_or(DecodeError::ConnectExpected(header.packet))?;
        decode::body(header.packet, header.flags, body, version, self.side).map(Some)
    }

    /// How many more bytes are needed at least before [`Decoder::decode`] has anything new to say; zero if it
    /// has a packet or an error already.
    pub fn needed(&self, buf: &[u8]) -> usize {
        match self.fixed_header(buf) {
            Ok(Some(header)) => header.packet_len().saturating_sub(buf.len()),
            Ok(None) => 2usize.saturating_sub(buf.len()).max(1),
            Err(_) => 0,
        }
    }

    /// `None` while the fixed header is incomplete and nothing is wrong with it so far.
    #[inline]
    fn fixed_header(&self, buf: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
        let Some((&first, rest)) = buf.split_first() else {
            return Ok(None);
        };
        let flags = first & 0x0F;
        let packet = PacketType::from_u8(first >> 4).ok_or(DecodeError::ReservedType(0))?;
        self.expect(packet)?;
        // Those of CONNECT are looked at when its version is known.
        if packet != PacketType::Connect {
            decode::check_flags(packet, flags, self.version)?;
        }
        let Some(remaining) = VariableByteInteger::parse(rest)? else {
            return Ok(None);
        };
        if self.version == Some(Version::V5) {
            remaining.minimal()?;
        }
        let header = FixedHeader {
            packet,
            flags,
            remaining,
        };
        match u32::try_from(header.packet_len()) {
            Ok(size) if size <= self.max_packet_size => Ok(Some(header)),
            Ok(size) => Err(DecodeError::TooLarge {
                size,
                limit: self.max_packet_size,
            }),
            Err(_) => Err(DecodeError::TooLarge {
                size: u32::MAX,
                limit: self.max_packet_size,
            }),
        }
    }

    /// Whether the peer may send such a packet at all now.
    #[inline]
    fn expect(&self, packet: PacketType) -> Result<(), DecodeError> {
        use PacketType as T;
        let Some(version) = self.version else {
            return match packet {
                T::Connect => Ok(()),
                other => Err(DecodeError::ConnectExpected(other)),
            };
        };
        match (packet, self.side) {
            (T::Auth, _) if version != Version::V5 => Err(DecodeError::ReservedType(packet as u8)),
            (T::Connect, Side::Server) => Err(DecodeError::SecondConnect),
            (T::ConnAck | T::SubAck | T::UnsubAck | T::PingResp, Side::Server)
            | (T::Connect | T::Subscribe | T::Unsubscribe | T::PingReq, Side::Client) => {
                Err(DecodeError::WrongDirection(packet))
            }
            (T::Disconnect, Side::Client) if version != Version::V5 => {
                Err(DecodeError::WrongDirection(packet))
            }
            _ => Ok(()),
        }
    }
}
