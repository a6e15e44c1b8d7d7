//! Records: what a datagram consists of. RFC 6347 §4.1; with a Connection ID RFC 9146 §4.

use crate::DecodeError;
use crate::reader::Reader;

/// Bytes of a header without Connection ID.
pub const RECORD_HEADER: usize = 13;

/// The most bytes that the fragment of a protected record may have. RFC 5246 §6.2.3
pub const MAX_FRAGMENT: usize = (1 << 14) + 2048;

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ContentType {
    /// The next records are under new keys. RFC 5246 §7.1
    ChangeCipherSpec = 20,
    /// An alert. RFC 5246 §7.2
    Alert = 21,
    /// Handshake messages, or fragments of some. RFC 5246 §7.4
    Handshake = 22,
    /// What both are here for. RFC 5246 §10
    ApplicationData = 23,
    /// A protected record with a Connection ID; the true type is inside. RFC 9146 §4
    Tls12Cid = 25,
}

impl ContentType {
    /// The type of this number.
    pub fn from_u8(number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::ApplicationData,
            25 => Self::Tls12Cid,
            other => return Err(DecodeError::ContentType(other)),
        })
    }
}

/// A record as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it carries.
    pub content: ContentType,
    /// The version that its sender wrote.
    pub version: u16,
    /// Which keys protect it; 0: none.
    pub epoch: u16,
    /// Its number under these keys, of 48 bits.
    pub sequence: u64,
    /// The receiver's Connection ID; empty for all types but [`ContentType::Tls12Cid`].
    pub cid: &'a [u8],
    /// What is in it, protected or not.
    pub fragment: &'a [u8],
}

/// Cuts the first record off a datagram. A record with a Connection ID has one of `cid_len` bytes, for the receiver knows how long its own are.
pub fn next_record(datagram: &[u8], cid_len: usize) -> Result<(Record<'_>, &[u8]), DecodeError> {
    let mut reader = Reader::new(datagram, "record");
    let content = ContentType::from_u8(reader.u8()?)?;
    let version = reader.u16()?;
    if version >> 8 != 0xFE {
        return Err(DecodeError::Version(version));
    }
    let epoch = reader.u16()?;
    let sequence = reader.u48()?;
    let cid = match content {
        ContentType::Tls12Cid => reader.take(cid_len)?,
        _ => &[],
    };
    let fragment = reader.vec16()?;
    if fragment.len() > MAX_FRAGMENT {
        return Err(DecodeError::TooLong(fragment.len()));
    }
    let record = Record {
        content,
        version,
        epoch,
        sequence,
        cid,
        fragment,
    };
    Ok((record, reader.rest()))
}

/// What stands before a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// As in [`Record`].
    pub content: ContentType,
    /// As in [`Record`].
    pub version: u16,
    /// As in [`Record`].
    pub epoch: u16,
    /// As in [`Record`].
    pub sequence: u64,
    /// As in [`Record`]; not written for other types than [`ContentType::Tls12Cid`].
    pub cid: &'a [u8],
}

impl RecordHeader<'_> {
    /// Epoch and sequence number, as they are written and authenticated.
    pub fn number(&self) -> [u8; 8] {
        ((u64::from(self.epoch) << 48) | (self.sequence & 0xFFFF_FFFF_FFFF)).to_be_bytes()
    }

    /// Appends the header of a record whose fragment has `len` bytes.
    ///
    /// # Panics
    /// If `len` does not fit into two bytes.
    pub fn write(&self, len: usize, out: &mut Vec<u8>) {
        out.push(self.content as u8);
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.number());
        if self.content == ContentType::Tls12Cid {
            out.extend_from_slice(self.cid);
        }
        let len = u16::try_from(len).expect("a record is shorter");
        out.extend_from_slice(&len.to_be_bytes());
    }
}
