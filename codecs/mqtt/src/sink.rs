//! Where an encoder writes: into a buffer, or nowhere, only to learn the length.
//!
//! Each packet is described once and run twice, so that a length cannot disagree with what follows it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{MAX_VARIABLE_BYTE_INTEGER, Utf8};

/// The data representations of §1.5.
pub(crate) trait Sink {
    fn raw(&mut self, bytes: &[u8]);
    fn u8(&mut self, value: u8);
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);

    /// Two bytes of length, then the bytes. §1.5.6
    #[inline]
    fn binary(&mut self, bytes: &[u8]) {
        let length =
            u16::try_from(bytes.len()).expect("whoever made the packet keeps fields below 65,536 bytes");
        self.u16(length);
        self.raw(bytes);
    }

    /// §1.5.4
    #[inline]
    fn utf8(&mut self, text: &Utf8) {
        self.binary(text.as_bytes());
    }

    /// In the shortest form. [MQTT-1.5.5-1]
    #[inline]
    fn variable_byte_integer(&mut self, mut value: u32) {
        assert!(
            value <= MAX_VARIABLE_BYTE_INTEGER,
            "{value} does not fit a variable byte integer"
        );
        while value > 0x7F {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }
}

impl Sink for BytesMut {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn u8(&mut self, value: u8) {
        self.put_u8(value);
    }

    #[inline]
    fn u16(&mut self, value: u16) {
        self.put_u16(value);
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.put_u32(value);
    }
}

/// Counts what it is given.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Length {
    /// As a Remaining Length or Property Length; what is too long for one is told as `u32::MAX`.
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Sink for Length {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn u8(&mut self, _: u8) {
        self.0 += 1;
    }

    #[inline]
    fn u16(&mut self, _: u16) {
        self.0 += 2;
    }

    #[inline]
    fn u32(&mut self, _: u32) {
        self.0 += 4;
    }

    /// Also of what could not be written, so that a length can always be asked for.
    #[inline]
    fn binary(&mut self, bytes: &[u8]) {
        self.0 += 2 + bytes.len();
    }

    #[inline]
    fn variable_byte_integer(&mut self, value: u32) {
        self.0 += variable_byte_integer_len(value);
    }
}

/// How many bytes a variable byte integer takes. §1.5.5
#[inline]
pub(crate) const fn variable_byte_integer_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Optional fields, each behind its property identifier.
pub(crate) trait PropertySink: Sink {
    #[inline]
    fn property_flag(&mut self, id: crate::PropertyId, value: Option<bool>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.u8(value.into());
        }
    }

    #[inline]
    fn property_u16(&mut self, id: crate::PropertyId, value: Option<u16>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.u16(value);
        }
    }

    #[inline]
    fn property_u32(&mut self, id: crate::PropertyId, value: Option<u32>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.u32(value);
        }
    }

    #[inline]
    fn property_utf8(&mut self, id: crate::PropertyId, value: &Option<Utf8>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.utf8(value);
        }
    }

    #[inline]
    fn property_binary(&mut self, id: crate::PropertyId, value: &Option<Bytes>) {
        if let Some(value) = value {
            self.u8(id as u8);
            self.binary(value);
        }
    }

    #[inline]
    fn user_properties(&mut self, properties: &[crate::UserProperty]) {
        for (name, value) in properties {
            self.u8(crate::PropertyId::UserProperty as u8);
            self.utf8(name);
            self.utf8(value);
        }
    }
}

impl<S: Sink> PropertySink for S {}
