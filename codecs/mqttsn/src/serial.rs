//! Frames on a serial line.
//!
//! MQTT-SN says nothing of serial lines. Two ways are common: messages one after the other, told apart by their own length field
//! ([`LengthFramer`]), and frames in the manner of HDLC, with flags and a check sum ([`HdlcFramer`], as PPP has them: RFC 1662). The first
//! costs nothing and trusts the line; the second finds every damaged byte.
//!
//! Always true: the frames that come out depend on the bytes alone, not on how they were cut up on the way; what is kept has a bound.

use crate::decode::{FORWARDED, Header};
use crate::{MAX_LEN, MAX_NODE_LEN, MessageType, decode, unwrap_datagram};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest frame: an encapsulated message. §5.5
const LONGEST: usize = MAX_LEN + MAX_NODE_LEN + 3;
/// Bytes that are taken beyond one whole frame.
const AHEAD: usize = 4_096;

/// What a framer has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramerCounts {
    /// Bytes taken.
    pub bytes: u64,
    /// Frames handed out.
    pub frames: u64,
    /// Frames that were damaged, or none.
    pub errors: u64,
    /// Bytes that belonged to no frame.
    pub skipped: u64,
    /// How often the start of the next frame had to be looked for.
    pub resyncs: u64,
}

/// Messages one after the other, told apart by their length fields.
///
/// What cannot be a message is noise: bytes are skipped until something can.
#[derive(Debug)]
pub struct LengthFramer {
    buffer: BytesMut,
    max_frame: usize,
    /// Bytes are being skipped.
    lost: bool,
    counts: FramerCounts,
}

/// What stands at the start of the buffer.
enum Start {
    /// A whole frame of so many bytes.
    Frame(usize),
    /// Perhaps one; more bytes will tell.
    Part,
    /// No frame.
    Noise,
}

impl LengthFramer {
    /// A framer that takes frames of up to `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            max_frame: max_frame.min(LONGEST),
            lost: false,
            counts: FramerCounts::default(),
        }
    }

    /// Takes bytes of the line; how many. When that is not all, ask for frames with [`Self::next_frame`] first.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let room = (self.max_frame + AHEAD).saturating_sub(self.buffer.len());
        let taken = bytes.len().min(room);
        self.buffer.put_slice(&bytes[..taken]);
        self.counts.bytes += taken as u64;
        taken
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            match start(&self.buffer, self.max_frame) {
                Start::Part => return None,
                Start::Noise => self.skip(),
                Start::Frame(len) => {
                    let frame = Bytes::copy_from_slice(&self.buffer[..len]);
                    let whole = unwrap_datagram(&frame).and_then(|(_, inner)| decode(&inner));
                    if whole.is_err() {
                        // It looked like one. The next one may begin anywhere in it.
                        self.counts.errors += 1;
                        self.skip();
                        continue;
                    }
                    self.buffer.advance(len);
                    self.lost = false;
                    self.counts.frames += 1;
                    return Some(frame);
                }
            }
        }
    }

    /// The line was silent for longer than a frame takes: what is there is no beginning of one.
    pub fn on_silence(&mut self) {
        if !self.buffer.is_empty() {
            self.skip();
        }
    }

    /// What it has seen.
    pub fn counts(&self) -> FramerCounts {
        self.counts
    }

    fn skip(&mut self) {
        self.buffer.advance(1);
        self.counts.skipped += 1;
        if !std::mem::replace(&mut self.lost, true) {
            self.counts.resyncs += 1;
        }
    }
}

fn start(bytes: &[u8], max_frame: usize) -> Start {
    let Some(header) = Header::read(bytes) else {
        return half_a_header(bytes, max_frame);
    };
    if header.kind != FORWARDED {
        return match is_plausible(header, max_frame) {
            true => whole_or_part(header.len, bytes),
            false => Start::Noise,
        };
    }
    if header.len_bytes != 1 || header.len < 4 {
        return Start::Noise;
    }
    // The length of an encapsulation ends before what is inside.
    let Some(inside) = bytes.get(header.len..) else {
        return Start::Part;
    };
    let room = max_frame.saturating_sub(header.len);
    match Header::read(inside) {
        Some(inner) if is_plausible(inner, room) => whole_or_part(header.len + inner.len, bytes),
        Some(_) => Start::Noise,
        None => half_a_header(inside, room),
    }
}

/// Whether a message may begin so.
fn is_plausible(header: Header, max_frame: usize) -> bool {
    let body = header.len.checked_sub(header.len_bytes + 1);
    MessageType::from_u8(header.kind)
        .zip(body)
        .is_some_and(|(kind, body)| header.len <= max_frame && kind.body_lens().contains(&body))
}

fn half_a_header(bytes: &[u8], max_frame: usize) -> Start {
    match *bytes {
        [0, ..] => Start::Noise,
        [1, high, low, ..] if !(4..=max_frame).contains(&u16::from_be_bytes([high, low]).into()) => {
            Start::Noise
        }
        _ => Start::Part,
    }
}

fn whole_or_part(len: usize, bytes: &[u8]) -> Start {
    if bytes.len() < len {
        Start::Part
    } else {
        Start::Frame(len)
    }
}

const FLAG: u8 = 0x7E;
const ESCAPE: u8 = 0x7D;
const FLIP: u8 = 0x20;

/// Frames between flags, with a check sum. RFC 1662 §3, §4, without address and control field.
#[derive(Debug)]
pub struct HdlcFramer {
    raw: BytesMut,
    frame: BytesMut,
    max_frame: usize,
    state: Hdlc,
    counts: FramerCounts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hdlc {
    /// What comes belongs to no frame, until the next flag. At first nothing is wrong with that.
    Outside {
        noisy: bool,
    },
    Inside,
    Escaped,
}

impl HdlcFramer {
    /// A framer that takes frames of up to `max_frame` bytes, check sum and escapes not counted.
    pub fn new(max_frame: usize) -> Self {
        Self {
            raw: BytesMut::new(),
            frame: BytesMut::new(),
            max_frame: max_frame.min(LONGEST),
            state: Hdlc::Outside { noisy: false },
            counts: FramerCounts::default(),
        }
    }

    /// Takes bytes of the line; how many. When that is not all, ask for frames with [`Self::next_frame`] first.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(AHEAD.saturating_sub(self.raw.len()));
        self.raw.put_slice(&bytes[..taken]);
        self.counts.bytes += taken as u64;
        taken
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        while !self.raw.is_empty() {
            let byte = self.raw.get_u8();
            match (self.state, byte) {
                (Hdlc::Outside { .. }, FLAG) => self.state = Hdlc::Inside,
                (Hdlc::Outside { noisy }, _) => {
                    self.counts.skipped += 1;
                    if !noisy {
                        self.counts.resyncs += 1;
                        self.state = Hdlc::Outside { noisy: true };
                    }
                }
                // One flag may end a frame and begin the next; nothing between two flags is no frame.
                (Hdlc::Inside, FLAG) if self.frame.is_empty() => {}
                (Hdlc::Inside, FLAG) => {
                    if let Some(frame) = self.take() {
                        return Some(frame);
                    }
                }
                (Hdlc::Inside, ESCAPE) => self.state = Hdlc::Escaped,
                (Hdlc::Inside, byte) => self.take_in(byte),
                // The sender gave this frame up. RFC 1662 §4.3
                (Hdlc::Escaped, FLAG) => {
                    self.fail();
                    self.state = Hdlc::Inside;
                }
                (Hdlc::Escaped, byte) => {
                    self.state = Hdlc::Inside;
                    self.take_in(byte ^ FLIP);
                }
            }
        }
        None
    }

    /// What it has seen.
    pub fn counts(&self) -> FramerCounts {
        self.counts
    }

    fn take_in(&mut self, byte: u8) {
        if self.frame.len() >= self.max_frame + 2 {
            self.fail();
            self.counts.resyncs += 1;
            self.counts.skipped += 1;
            self.state = Hdlc::Outside { noisy: true };
        } else {
            self.frame.put_u8(byte);
        }
    }

    /// A flag ends the frame: is it whole?
    fn take(&mut self) -> Option<Bytes> {
        let body = self.frame.len().checked_sub(2);
        let whole = body.filter(|body| {
            *body > 0 && crc(&self.frame[..*body]).to_le_bytes() == [self.frame[*body], self.frame[*body + 1]]
        });
        let Some(body) = whole else {
            self.fail();
            return None;
        };
        let frame = Bytes::copy_from_slice(&self.frame[..body]);
        self.frame.clear();
        self.counts.frames += 1;
        Some(frame)
    }

    fn fail(&mut self) {
        self.counts.errors += 1;
        self.counts.skipped += self.frame.len() as u64;
        self.frame.clear();
    }
}

/// Appends a frame for [`HdlcFramer`], with both its flags.
pub fn put_hdlc(frame: &[u8], out: &mut BytesMut) {
    let check = crc(frame).to_le_bytes();
    out.put_u8(FLAG);
    for byte in frame.iter().chain(&check) {
        match *byte {
            byte @ (FLAG | ESCAPE) => out.put_slice(&[ESCAPE, byte ^ FLIP]),
            byte => out.put_u8(byte),
        }
    }
    out.put_u8(FLAG);
}

/// CRC-16/X.25: polynomial 0x1021 reflected, all ones at first and inverted at the end. RFC 1662 appendix C
fn crc(bytes: &[u8]) -> u16 {
    !bytes.iter().fold(0xFFFF, |crc, byte| {
        crc >> 8 ^ TABLE[usize::from((crc ^ u16::from(*byte)) & 0xFF)]
    })
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x8408 } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that catalogues of CRCs give for CRC-16/X.25.
    #[test]
    fn the_check_sum_is_the_one_of_x25() {
        assert_eq!(crc(b"123456789"), 0x906E);
    }
}
