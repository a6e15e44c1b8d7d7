//! What a commit says, as records in a frame of the journal.
//!
//! A record is a tag and fields. Bodies are records of their own; queue entries, retained and delayed messages refer to them by position,
//! so that a body that a thousand sessions wait for is there once. Every record puts or deletes something by its key, so that replaying records
//! over a state that is newer in part leads to the same end.

use crate::journal::Position;
use crate::lanes::{Entry, Extra};
use crate::rows::{Key, Reader, RowError, Writer};
use std::ops::Range;

const ROW: u8 = 1;
const NO_ROW: u8 = 2;
const NO_SESSION: u8 = 3;
const BODY: u8 = 4;
const ROW_AT: u8 = 5;
const QUEUED: u8 = 6;
const RECEIVED: u8 = 7;
const UNQUEUED: u8 = 8;

/// One change of the store's state.
#[derive(Debug)]
pub(crate) enum Record {
    /// The row has this body.
    Row(Key, Vec<u8>),
    /// The row is gone.
    NoRow(Key),
    /// The session and everything of it is gone.
    NoSession(u64),
    /// A body; other records say where it lies.
    Body,
    /// The row has this beginning, and then the body that lies there.
    RowAt(Key, Vec<u8>, Position),
    /// A queue entry.
    Queued(u64, u8, Entry),
    /// PUBREC came for it.
    Received(u64, u64),
    /// It is settled.
    Unqueued(u64, u64),
}

/// Writes a body record; where in `frame` the body lies.
pub(crate) fn write_body(frame: &mut Vec<u8>, body: &[u8]) -> Range<usize> {
    frame.push(BODY);
    frame.extend_from_slice(
        &u32::try_from(body.len())
            .expect("a body is at most a packet long")
            .to_be_bytes(),
    );
    frame.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
    let start = frame.len();
    frame.extend_from_slice(body);
    start..frame.len()
}

/// Writes any other record.
pub(crate) fn write(frame: &mut Vec<u8>, record: &Record) {
    let mut w = Writer(std::mem::take(frame));
    match record {
        Record::Row(key, body) => w.byte(ROW).bytes(key).bytes(body),
        Record::NoRow(key) => w.byte(NO_ROW).bytes(key),
        Record::NoSession(id) => w.byte(NO_SESSION).number(*id),
        Record::Body => unreachable!("bodies are written by write_body"),
        Record::RowAt(key, beginning, at) => w.byte(ROW_AT).bytes(key).bytes(beginning).position(*at),
        Record::Queued(session, lane, entry) => {
            w.byte(QUEUED).varint(*session).byte(*lane).varint(entry.seq);
            w.position(entry.at).entry(entry)
        }
        Record::Received(session, seq) => w.byte(RECEIVED).varint(*session).varint(*seq),
        Record::Unqueued(session, seq) => w.byte(UNQUEUED).varint(*session).varint(*seq),
    };
    *frame = w.0;
}

/// Reads the records of a frame, one after the other.
pub(crate) fn read_all(frame: &[u8], mut take: impl FnMut(Record)) -> Result<(), RowError> {
    let mut r = Reader(frame);
    while !r.0.is_empty() {
        take(read(&mut r)?);
    }
    Ok(())
}

fn read(r: &mut Reader<'_>) -> Result<Record, RowError> {
    Ok(match r.byte()? {
        ROW => Record::Row(r.vec()?, r.vec()?),
        NO_ROW => Record::NoRow(r.vec()?),
        NO_SESSION => Record::NoSession(r.number()?),
        BODY => {
            let len = r.take(8)?;
            let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]);
            r.take(len as usize)?;
            Record::Body
        }
        ROW_AT => Record::RowAt(r.vec()?, r.vec()?, r.position()?),
        QUEUED => {
            let (session, lane, seq) = (r.varint()?, r.byte()?, r.varint()?);
            let at = r.position()?;
            Record::Queued(session, lane, r.entry(seq, at)?)
        }
        RECEIVED => Record::Received(r.varint()?, r.varint()?),
        UNQUEUED => Record::Unqueued(r.varint()?, r.varint()?),
        tag => return Err(RowError::Version(tag)),
    })
}

impl Writer {
    pub(crate) fn varint(&mut self, mut n: u64) -> &mut Self {
        while n >= 0x80 {
            self.byte((n as u8) | 0x80);
            n >>= 7;
        }
        self.byte(n as u8)
    }

    pub(crate) fn position(&mut self, at: Position) -> &mut Self {
        self.varint(at.segment.into())
            .varint(at.offset.into())
            .varint(at.len.into())
    }

    /// All of an entry but its number and position.
    pub(crate) fn entry(&mut self, entry: &Entry) -> &mut Self {
        let flags = entry.qos
            | u8::from(entry.retain) << 2
            | u8::from(entry.received) << 3
            | u8::from(entry.extra.is_some()) << 4;
        self.byte(flags).varint(entry.size.into());
        if let Some(extra) = entry.extra.as_deref() {
            self.maybe(extra.shared.as_ref(), |w, name| w.bytes(name.as_bytes()))
                .varint(extra.identifiers.len() as u64);
            for identifier in &extra.identifiers {
                self.varint((*identifier).into());
            }
        }
        self
    }
}

impl Reader<'_> {
    pub(crate) fn varint(&mut self) -> Result<u64, RowError> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(RowError::Field("number"))
    }

    fn small(&mut self) -> Result<u32, RowError> {
        u32::try_from(self.varint()?).map_err(|_| RowError::Field("number"))
    }

    pub(crate) fn vec(&mut self) -> Result<Vec<u8>, RowError> {
        Ok(self.bytes()?.to_vec())
    }

    pub(crate) fn position(&mut self) -> Result<Position, RowError> {
        Ok(Position {
            segment: self.small()?,
            offset: self.small()?,
            len: self.small()?,
        })
    }

    pub(crate) fn entry(&mut self, seq: u64, at: Position) -> Result<Entry, RowError> {
        let flags = self.byte()?;
        let size = self.small()?;
        let extra = if flags & 1 << 4 == 0 {
            None
        } else {
            let shared = self.maybe(Self::text)?;
            let count = self.varint()?;
            let identifiers = (0..count).map(|_| self.small()).collect::<Result<_, _>>()?;
            Some(Box::new(Extra { shared, identifiers }))
        };
        if flags & 3 == 3 {
            return Err(RowError::Field("QoS"));
        }
        Ok(Entry {
            seq,
            at,
            size,
            qos: flags & 3,
            retain: flags & 1 << 2 != 0,
            received: flags & 1 << 3 != 0,
            extra,
        })
    }
}
