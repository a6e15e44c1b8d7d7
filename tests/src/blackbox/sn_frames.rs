//! Frames of MQTT-SN on a serial line as a device makes and finds them: written from docs/mqtt-sn.md, RFC 1662 and MQTT-SN 1.2 with bytes alone.

/// How frames are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnFraming {
    /// By the length field of each message.
    Length,
    /// By flags, with escapes and a check sum.
    Hdlc,
}

const FLAG: u8 = 0x7E;
const ESCAPE: u8 = 0x7D;
const FORWARDED: u8 = 0xFE;
/// No message of these tests is longer.
const LONGEST: usize = 512;

impl SnFraming {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Hdlc => "hdlc",
        }
    }

    /// A message as it is sent.
    pub fn frame(self, message: &[u8]) -> Vec<u8> {
        if self == Self::Length {
            return message.to_vec();
        }
        let check = !crc(message);
        let mut frame = vec![FLAG];
        for byte in message.iter().copied().chain(check.to_le_bytes()) {
            if byte == FLAG || byte == ESCAPE {
                frame.extend([ESCAPE, byte ^ 0x20]);
            } else {
                frame.push(byte);
            }
        }
        frame.push(FLAG);
        frame
    }
}

/// RFC 1662 §C.2, bit by bit; the complement is sent.
fn crc(bytes: &[u8]) -> u16 {
    let mut register = 0xFFFF_u16;
    for byte in bytes {
        for bit in 0..8 {
            let differs = (register ^ u16::from(*byte >> bit)) & 1 == 1;
            register >>= 1;
            if differs {
                register ^= 0x8408;
            }
        }
    }
    register
}

/// Of a message with its own right check sum behind it. RFC 1662 §C.2
const GOOD_CRC: u16 = 0xF0B8;

/// Finds messages among what comes.
pub(super) struct SnDeframer {
    framing: SnFraming,
    buffer: Vec<u8>,
}

impl SnDeframer {
    pub(super) fn new(framing: SnFraming) -> Self {
        Self {
            framing,
            buffer: Vec::new(),
        }
    }

    /// Nothing has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_empty()
    }

    /// All messages that are whole now.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.buffer.extend_from_slice(bytes);
        match self.framing {
            SnFraming::Length => self.take_by_length(),
            SnFraming::Hdlc => self.take_by_flags(),
        }
    }

    /// The line is silent: what has begun does not go on.
    pub(super) fn on_silence(&mut self) -> Vec<Vec<u8>> {
        if self.framing == SnFraming::Hdlc || self.buffer.is_empty() {
            return Vec::new();
        }
        self.buffer.remove(0);
        self.take_by_length()
    }

    fn take_by_length(&mut self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !self.buffer.is_empty() {
            match whole(&self.buffer) {
                Some(len) if len <= self.buffer.len() => found.push(self.buffer.drain(..len).collect()),
                Some(_) => break,
                None => drop(self.buffer.remove(0)),
            }
        }
        found
    }

    fn take_by_flags(&mut self) -> Vec<Vec<u8>> {
        let Some(last) = self.buffer.iter().rposition(|byte| *byte == FLAG) else {
            return Vec::new();
        };
        let ended: Vec<u8> = self.buffer.drain(..last).collect();
        let frames = ended.split(|byte| *byte == FLAG).filter_map(|frame| {
            let mut bytes = frame.iter();
            let mut plain = Vec::new();
            while let Some(byte) = bytes.next() {
                plain.push(match *byte {
                    ESCAPE => bytes.next()? ^ 0x20,
                    byte => byte,
                });
            }
            let good = plain.len() > 3 && crc(&plain) == GOOD_CRC;
            plain.truncate(plain.len().saturating_sub(2));
            (good && whole(&plain) == Some(plain.len())).then_some(plain)
        });
        frames.collect()
    }
}

/// How long the frame is that begins here, or must become; `None` if none does.
fn whole(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [len @ 4..=255, FORWARDED, ..] => {
            let header = usize::from(*len);
            match bytes.get(header..) {
                Some(inside @ [_, ..]) => Some(header + whole_message(inside)?),
                _ => Some(header + 2),
            }
        }
        _ => whole_message(bytes),
    }
}

/// The same without an encapsulation. Only what a gateway says is a message here.
fn whole_message(bytes: &[u8]) -> Option<usize> {
    let (len, header, kind) = match bytes {
        [1, high, low, kind, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4, *kind),
        [1, ..] => return Some(4),
        [len @ 2..=255, kind, ..] => (usize::from(*len), 2, *kind),
        [2..=255] => return Some(2),
        _ => return None,
    };
    let body = len.checked_sub(header).filter(|_| len <= LONGEST)?;
    let possible = match kind {
        0x05 | 0x1B | 0x1D => body == 1,
        0x06 | 0x08 | 0x17 | 0x18 => body == 0,
        0x0A | 0x0C => body >= 5,
        0x0B | 0x0D => body == 5,
        0x0E | 0x0F | 0x10 | 0x15 => body == 2,
        0x13 => body == 6,
        0x00 => body == 3,
        0x02 => body >= 1,
        _ => false,
    };
    possible.then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1662 gives no example; catalogues of CRCs give 0x906E for CRC-16/X.25 of these digits.
    #[test]
    fn the_check_sum_is_right() {
        assert_eq!(!crc(b"123456789"), 0x906E);
        assert_eq!(
            crc(&[b"123456789", &0x906E_u16.to_le_bytes()[..]].concat()),
            GOOD_CRC
        );
    }

    #[test]
    fn what_is_framed_is_found_between_noise() {
        let messages: [&[u8]; 3] = [
            &[3, 0x05, 0],
            &[8, 0x0C, 0x20, 0x7E, 0x7D, 0, 9, 0x7E],
            &[4, 0xFE, 0, 7, 2, 0x17],
        ];
        for framing in [SnFraming::Length, SnFraming::Hdlc] {
            let mut deframer = SnDeframer::new(framing);
            let mut line = Vec::new();
            for message in messages {
                line.extend([0, 0xFF, 0x99]);
                line.extend(framing.frame(message));
            }
            let mut found = Vec::new();
            for byte in line {
                found.extend(deframer.take(&[byte]));
            }
            assert_eq!(found, [&[], &messages[..]].concat(), "{framing:?}");
        }
    }
}
