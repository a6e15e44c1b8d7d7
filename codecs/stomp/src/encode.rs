//! Frames to bytes.

use crate::escape::Escaping;
use crate::{Command, Frame, Version};
use bytes::{BufMut, BytesMut};

/// Appends a frame, with `content-length` if it may have a body.
///
/// A header that its version cannot say is left out: in 1.0, and in CONNECT and CONNECTED, one with a line end, or with a colon in its name; in any version one
/// with NUL.
pub fn encode(frame: &Frame, version: Version, out: &mut BytesMut) {
    let mut writer = FrameWriter::new(frame.command, version, out);
    for (name, value) in frame.headers.iter() {
        writer.header(name.bytes(), value.bytes());
    }
    writer.end(&frame.body);
}

/// Writes one frame piece by piece, without allocating.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    out: &'a mut BytesMut,
    command: Command,
    escaping: Escaping,
}

impl<'a> FrameWriter<'a> {
    /// Begins a frame behind what is in `out`. [`FrameWriter::end`] must follow.
    pub fn new(command: Command, version: Version, out: &'a mut BytesMut) -> Self {
        out.put_slice(command.as_str().as_bytes());
        out.put_u8(b'\n');
        Self {
            out,
            command,
            escaping: Escaping::of(command, Some(version)),
        }
    }

    /// One more header, or nothing if the version cannot say it. `content-length` is written by [`FrameWriter::end`].
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        if name == b"content-length" || !self.escaping.can_say(name, value) {
            return;
        }
        self.escaping.escape(name, self.out);
        self.out.put_u8(b':');
        self.escaping.escape(value, self.out);
        self.out.put_u8(b'\n');
    }

    /// One more header whose value is a number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.escaping.escape(name.as_bytes(), self.out);
        self.out.put_u8(b':');
        put_decimal(value, self.out);
        self.out.put_u8(b'\n');
    }

    /// The end of the frame. Frames without a body ignore `body`.
    pub fn end(mut self, body: &[u8]) {
        if self.command.has_body() {
            self.number("content-length", body.len() as u64);
        }
        self.out.put_u8(b'\n');
        if self.command.has_body() {
            self.out.put_slice(body);
        }
        self.out.put_u8(0);
    }
}

fn put_decimal(mut value: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).expect("a digit");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}
