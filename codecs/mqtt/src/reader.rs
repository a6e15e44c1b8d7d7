//! The data representations of §1.5, read from one packet's body with nom.
//!
//! A nom parser can only fail for want of bytes here, which in a whole packet means that a field reaches beyond
//! its end; what a value may be is checked where it has a meaning.

use bytes::Bytes;
use nom::Parser;
use nom::bytes::complete::take;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32};

use crate::{DecodeError, PacketId, PacketType, Utf8};

/// A cursor over a packet's body, or over one property section of it.
pub(crate) struct Reader<'a> {
    packet: PacketType,
    body: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(packet: PacketType, body: &'a Bytes) -> Self {
        Self {
            packet,
            body,
            rest: body,
        }
    }

    /// The type of the packet being read.
    #[inline]
    pub(crate) fn packet(&self) -> PacketType {
        self.packet
    }

    /// How many bytes are left.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn run<O>(
        &mut self,
        mut parser: impl Parser<&'a [u8], Output = O, Error = ()>,
    ) -> Result<O, DecodeError> {
        let (rest, value) = parser.parse(self.rest).map_err(|_| DecodeError::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.run(be_u8)
    }

    /// §1.5.2
    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.run(be_u16)
    }

    /// §1.5.3
    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.run(be_u32)
    }

    /// A packet identifier. [MQTT-2.2.1-3] [3.1.1 MQTT-2.3.1-1]
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::ZeroPacketId(self.packet))
    }

    /// Two bytes of length, then that many bytes; a slice of the body. §1.5.6
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let data = self.run(length_data(be_u16))?;
        Ok(self.body.slice_ref(data))
    }

    /// A UTF-8 Encoded String. §1.5.4
    #[inline]
    pub(crate) fn utf8(&mut self) -> Result<Utf8, DecodeError> {
        Ok(Utf8::new(self.binary()?)?)
    }

    /// §1.5.5, in its shortest form only. [MQTT-1.5.5-1]
    pub(crate) fn variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        let integer = VariableByteInteger::parse(self.rest)?.ok_or(DecodeError::Truncated)?;
        self.rest = &self.rest[integer.width..];
        integer.minimal()
    }

    /// A reader over the property section alone, which this one steps over. §2.2.2.1
    pub(crate) fn property_section(&mut self) -> Result<Reader<'a>, DecodeError> {
        let length = self.variable_byte_integer()?;
        let section = self.run(take(length))?;
        Ok(Reader {
            packet: self.packet,
            body: self.body,
            rest: section,
        })
    }

    /// Nothing may follow the last field.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes {
                packet: self.packet,
                count,
            }),
        }
    }
}

/// A variable byte integer as it stands in the bytes. §1.5.5
#[derive(Clone, Copy)]
pub(crate) struct VariableByteInteger {
    pub(crate) value: u32,
    /// How many bytes it takes: one to four.
    pub(crate) width: usize,
}

impl VariableByteInteger {
    /// `None` while its last byte is missing.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut value = 0;
        for (at, &byte) in bytes.iter().take(4).enumerate() {
            value |= u32::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { value, width: at + 1 }));
            }
        }
        if bytes.len() >= 4 {
            Err(DecodeError::VariableByteIntegerTooLong)
        } else {
            Ok(None)
        }
    }

    /// The value, if it was written in its shortest form. [MQTT-1.5.5-1]
    #[inline]
    pub(crate) fn minimal(self) -> Result<u32, DecodeError> {
        if self.width > 1 && self.value >> (7 * (self.width - 1)) == 0 {
            return Err(DecodeError::VariableByteIntegerNotMinimal(self.value));
        }
        Ok(self.value)
    }
}
