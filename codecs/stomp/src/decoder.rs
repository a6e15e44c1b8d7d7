//! Cuts whole frames off a read buffer.
//!
//! The command, each header line and a declared length are judged as soon as they are there: a peer cannot make us wait for, or store, a frame that will be
//! refused.

use crate::escape::Escaping;
use crate::{Command, DecodeError, Frame, Headers, Text, Version};
use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// How large a frame may be. STOMP 1.2, Size Limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Headers of one frame.
    pub headers: usize,
    /// Bytes of one header line, without its end.
    pub line_bytes: usize,
    /// Bytes of the command and all headers.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
}

/// Decodes what one peer sends. After an error the connection is over, and so is the decoder.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    /// `None` until the two sides have agreed.
    version: Option<Version>,
    state: State,
    heart_beats: u64,
    /// Of the frame that was refused.
    receipt: Option<Text>,
}

#[derive(Clone, Debug)]
enum State {
    Head(Scan),
    Body(Box<Body>),
}

/// How far the command and the headers were looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// Up to here there is no other line end.
    scanned: usize,
    /// Here the line begins that is not whole yet.
    line: usize,
    /// Whole lines: the command, and headers.
    lines: usize,
    command: Option<Command>,
}

/// A frame whose body is awaited.
#[derive(Clone, Debug)]
struct Body {
    command: Command,
    headers: Headers,
    /// As in `content-length`.
    length: Option<usize>,
    /// Up to here there is no NUL.
    scanned: usize,
}

impl Decoder {
    /// For a connection whose version is not agreed upon: what comes is a CONNECT or its answer.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            version: None,
            state: State::Head(Scan::default()),
            heart_beats: 0,
            receipt: None,
        }
    }

    /// From now on frames are of this version.
    pub const fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// The version agreed upon.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether a frame has begun whose headers are read, and whose body or end is awaited.
    pub const fn awaits_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Line ends between frames so far. STOMP 1.2, Heart-beating.
    pub const fn heart_beats(&self) -> u64 {
        self.heart_beats
    }

    /// After an error: the header `receipt` of the frame, as far as its head was read. STOMP 1.2, ERROR: `receipt-id`
    pub const fn receipt(&self) -> Option<&Text> {
        self.receipt.as_ref()
    }

    /// Takes the next frame off `buf`, or what there is of it, or nothing. Never reserves memory for what is not there.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let limit = self.limits.body_bytes;
        match &mut self.state {
            State::Head(scan) => {
                let scan = std::mem::take(scan);
                let Some(mut body) = self.read_head(scan, buf)? else {
                    return Ok(None);
                };
                // Most frames are whole: only a body that is waited for has a place of its own.
                let frame = body.take(buf, limit);
                let frame = frame.inspect_err(|_| self.receipt = body.receipt())?;
                self.state = match frame {
                    Some(_) => State::Head(Scan::default()),
                    None => State::Body(Box::new(body)),
                };
                Ok(frame)
            }
            State::Body(body) => {
                let frame = body.take(buf, limit);
                let frame = frame.inspect_err(|_| self.receipt = body.receipt())?;
                if frame.is_some() {
                    self.state = State::Head(Scan::default());
                }
                Ok(frame)
            }
        }
    }

    /// Takes the head off the buffer once it is whole.
    fn read_head(&mut self, mut scan: Scan, buf: &mut BytesMut) -> Result<Option<Body>, DecodeError> {
        if scan.scanned == 0 {
            self.skip_heart_beats(buf);
            if matches!(buf[..], [] | [b'\r']) {
                return Ok(None);
            }
        }
        loop {
            let found = memchr2(b'\n', 0, &buf[scan.scanned..]).map(|at| scan.scanned + at);
            let end = found.unwrap_or(buf.len());
            let judged = self.judge_length(&scan, end);
            judged.inspect_err(|_| self.note_receipt(&scan, buf))?;
            let Some(end) = found else {
                scan.scanned = end;
                self.state = State::Head(scan);
                return Ok(None);
            };
            if buf[end] == 0 {
                self.note_receipt(&scan, buf);
                return Err(DecodeError::NulInHead);
            }
            let line = self.without_cr(&buf[scan.line..end]);
            match scan.command {
                None => scan.command = Some(Command::parse(line).ok_or(DecodeError::UnknownCommand)?),
                Some(command) if line.is_empty() => {
                    let head = buf.split_to(end + 1).freeze();
                    let parsed = self.parse_head(command, &head, scan.lines);
                    return parsed.map(Some).inspect_err(|_| self.note_receipt(&scan, &head));
                }
                Some(_) if scan.lines > self.limits.headers => {
                    self.note_receipt(&scan, &buf[..end + 1]);
                    return Err(DecodeError::TooManyHeaders(self.limits.headers));
                }
                Some(_) => {}
            }
            scan.lines += 1;
            (scan.line, scan.scanned) = (end + 1, end + 1);
        }
    }

    /// The refused frame's `receipt`, if the line is whole. The first one counts, as always.
    fn note_receipt(&mut self, scan: &Scan, head: &[u8]) {
        let Some(command) = scan.command else { return };
        let escaping = Escaping::of(command, self.version);
        let whole = head[..scan.scanned.min(head.len())].split(|byte| *byte == b'\n');
        let mut values = whole
            .skip(1)
            .filter_map(|line| self.without_cr(line).strip_prefix(b"receipt:"));
        let value = values
            .next()
            .and_then(|value| Text::new(Bytes::copy_from_slice(value)));
        let value = value.and_then(|value| escaping.unescape(value.into_bytes(), 0).ok());
        self.receipt = value.map(Text::checked);
    }

    /// STOMP 1.2, Heart-beating: a line end between frames. With CR in front in any version, for no frame begins with one.
    fn skip_heart_beats(&mut self, buf: &mut BytesMut) {
        let mut at = 0;
        loop {
            at += match &buf[at..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => break,
            };
            self.heart_beats += 1;
        }
        buf.advance(at);
    }

    /// Whether a line that goes on until `end`, or further, may.
    fn judge_length(&self, scan: &Scan, end: usize) -> Result<(), DecodeError> {
        let line = (end - scan.line).saturating_sub(1); // Its last byte may be a CR.
        match scan.command {
            None if line > Command::LONGEST => Err(DecodeError::UnknownCommand),
            Some(_) if line > self.limits.line_bytes => Err(DecodeError::LineTooLong(self.limits.line_bytes)),
            _ if end > self.limits.head_bytes => Err(DecodeError::HeadTooLarge(self.limits.head_bytes)),
            _ => Ok(()),
        }
    }

    /// STOMP 1.2, Augmented BNF: a line ends with CR LF too. Before the version is agreed upon it may be 1.2.
    fn without_cr<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        match line {
            [line @ .., b'\r'] if matches!(self.version, None | Some(Version::V12)) => line,
            line => line,
        }
    }

    /// `lines` are the command and the headers.
    fn parse_head(&self, command: Command, head: &Bytes, lines: usize) -> Result<Body, DecodeError> {
        if std::str::from_utf8(head).is_err() {
            return Err(DecodeError::NotUtf8);
        }
        let escaping = Escaping::of(command, self.version);
        let mut headers = Headers::with_capacity(lines.saturating_sub(1));
        // Parts of UTF-8 between ASCII are UTF-8, and stay so when escapes are undone.
        let text = |part: &[u8], number| {
            let part = escaping.unescape(head.slice_ref(part), number);
            part.map(Text::checked)
        };
        for (number, line) in head.split(|byte| *byte == b'\n').enumerate().skip(1) {
            let line = self.without_cr(line);
            if line.is_empty() {
                break;
            }
            let colon = memchr(b':', line).ok_or(DecodeError::NoColon(number))?;
            if colon == 0 {
                return Err(DecodeError::NoName(number));
            }
            headers.push(text(&line[..colon], number)?, text(&line[colon + 1..], number)?);
        }
        let is_v10 = match command {
            Command::Connect => headers.get("accept-version").is_none(),
            Command::Connected => headers.get("version").is_none(),
            _ => self.version == Some(Version::V10),
        };
        if is_v10 {
            headers.trim(); // STOMP 1.2, Value Encoding: 1.0's examples have padding, later versions must not trim.
        }
        let length = headers.get("content-length").map(|value| content_length(value));
        let length = length.transpose()?;
        if length.is_some_and(|length| length > 0) && !command.has_body() {
            return Err(DecodeError::UnexpectedBody);
        }
        if length.is_some_and(|length| length > self.limits.body_bytes) {
            return Err(DecodeError::BodyTooLarge(self.limits.body_bytes));
        }
        Ok(Body {
            command,
            headers,
            length,
            scanned: 0,
        })
    }
}

impl Body {
    fn receipt(&self) -> Option<Text> {
        self.headers.get("receipt").map(Text::compact)
    }

    /// The frame, once its body and NUL are there: they are taken off the buffer.
    fn take(&mut self, buf: &mut BytesMut, limit: usize) -> Result<Option<Frame>, DecodeError> {
        let end = match self.length {
            Some(length) => match buf.get(length) {
                None => return Ok(None),
                Some(0) => length,
                Some(_) => return Err(DecodeError::MissingNul(length)),
            },
            None => {
                let limit = if self.command.has_body() { limit } else { 0 };
                let found = memchr(0, &buf[self.scanned..]).map(|at| self.scanned + at);
                self.scanned = found.unwrap_or(buf.len());
                match found {
                    _ if self.scanned > limit && !self.command.has_body() => {
                        return Err(DecodeError::UnexpectedBody);
                    }
                    _ if self.scanned > limit => return Err(DecodeError::BodyTooLarge(limit)),
                    None => return Ok(None),
                    Some(end) => end,
                }
            }
        };
        let body = buf.split_to(end).freeze();
        buf.advance(1);
        Ok(Some(Frame {
            command: self.command,
            headers: std::mem::take(&mut self.headers),
            body,
        }))
    }
}

/// STOMP 1.2, Header content-length: octets. Digits only; more than there can be is still a number.
fn content_length(value: &str) -> Result<usize, DecodeError> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DecodeError::BadContentLength);
    }
    Ok(value.parse().unwrap_or(usize::MAX))
}
