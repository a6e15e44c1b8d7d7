//! Escaping of header names and values. STOMP 1.2, Value Encoding; STOMP 1.1, Value Encoding; 1.0 has none.

use crate::{Command, DecodeError, Version};
use bytes::{BufMut, Bytes, BytesMut};

/// What is escaped in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escaping {
    Nothing,
    /// `\n`, `\c` and `\\`.
    V11,
    /// Also `\r`.
    V12,
}

impl Escaping {
    pub(crate) fn of(command: Command, version: Option<Version>) -> Self {
        match version {
            _ if command.is_handshake() => Self::Nothing,
            None | Some(Version::V10) => Self::Nothing,
            Some(Version::V11) => Self::V11,
            Some(Version::V12) => Self::V12,
        }
    }

    /// The same slice if nothing in it is escaped. `header` is its number, for the error.
    pub(crate) fn unescape(self, raw: Bytes, header: usize) -> Result<Bytes, DecodeError> {
        let Some(first) = memchr::memchr(b'\\', &raw).filter(|_| self != Self::Nothing) else {
            return Ok(raw);
        };
        let mut plain = BytesMut::with_capacity(raw.len());
        plain.put_slice(&raw[..first]);
        let mut rest = raw[first..].iter();
        while let Some(byte) = rest.next() {
            plain.put_u8(match byte {
                b'\\' => match rest.next() {
                    Some(b'n') => b'\n',
                    Some(b'c') => b':',
                    Some(b'\\') => b'\\',
                    Some(b'r') if self == Self::V12 => b'\r',
                    _ => return Err(DecodeError::BadEscape(header)),
                },
                byte => *byte,
            });
        }
        Ok(plain.freeze())
    }

    pub(crate) fn escape(self, plain: &[u8], out: &mut BytesMut) {
        let mut rest = plain;
        while let Some(at) = rest.iter().position(|byte| self.escaped(*byte).is_some()) {
            out.put_slice(&rest[..at]);
            out.put_u8(b'\\');
            out.put_u8(self.escaped(rest[at]).expect("just found"));
            rest = &rest[at + 1..];
        }
        out.put_slice(rest);
    }

    /// What stands behind the backslash.
    fn escaped(self, byte: u8) -> Option<u8> {
        match byte {
            _ if self == Self::Nothing => None,
            b'\n' => Some(b'n'),
            b':' => Some(b'c'),
            b'\\' => Some(b'\\'),
            b'\r' if self == Self::V12 => Some(b'r'),
            _ => None,
        }
    }

    /// Whether a header can be written so that it is read as the same.
    pub(crate) fn can_say(self, name: &[u8], value: &[u8]) -> bool {
        let lines_are_safe = self != Self::Nothing || (!name.contains(&b':') && !has_line_end(name, value));
        // Of 1.0, spaces around a name are taken off.
        let is_plain = self != Self::Nothing || !is_padded(name);
        lines_are_safe && is_plain && !name.is_empty() && !name.contains(&0) && !value.contains(&0)
    }
}

/// Whether a name begins or ends with what some reader takes off: white space of Unicode, and control characters. Another header could come out of it.
pub fn is_padded(name: &[u8]) -> bool {
    let is_space =
        |c: char| c <= ' ' || c == '\u{7f}' || c == '\u{180e}' || c == '\u{feff}' || c.is_whitespace();
    match std::str::from_utf8(name) {
        Ok(name) => name.starts_with(is_space) || name.ends_with(is_space),
        Err(_) => true,
    }
}

fn has_line_end(name: &[u8], value: &[u8]) -> bool {
    let ends = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    ends(name) || ends(value)
}
