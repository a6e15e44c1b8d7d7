//! WebSocket, the server's side: RFC 6455 frames as a plain stream of bytes.
//!
//! The payload of binary frames, and of text frames where the protocol is text, is passed on as it arrives, without regard to where frames begin and end
//! [MQTT-6.0.0-2], so a large frame needs no buffer of its size. The frame header's coding is tungstenite's;
//! its message layer is not used, because it keeps a read buffer for every idle connection.
//!
//! Always true: nothing is sent after our Close frame; at most one pong waits to be sent (RFC 6455 §5.5.3).

pub(crate) mod http;

use std::io::{self, Cursor, ErrorKind};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::stream::ByteStream;

/// The most payload put in one frame that we send.
const WRITE_FRAME: usize = 64 * 1024;

/// RFC 6455 §5.5: control frames carry at most this much.
const CONTROL_MAX: u64 = 125;

/// A WebSocket after its handshake, over TCP or TLS.
pub struct WebSocket<S> {
    inner: S,
    /// Bytes received and not yet understood: part of a header or of a control frame, else empty.
    raw: BytesMut,
    /// Bytes of whole frames on their way out.
    out: BytesMut,
    /// The answer to the last ping, while `out` is not empty.
    pong: Option<BytesMut>,
    /// The data frame whose payload is arriving.
    frame: Option<DataFrame>,
    /// Payload bytes of the message so far; `None` between messages.
    message: Option<u64>,
    message_limit: u64,
    /// Text frames are taken, and sent where the bytes are UTF-8.
    is_text: bool,
    close_sent: bool,
    close_received: bool,
}

struct DataFrame {
    left: u64,
    mask: [u8; 4],
    is_final: bool,
}

/// Why a WebSocket is closed from our side.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    /// [MQTT-6.0.0-1]
    #[error("a text frame where only binary is allowed")]
    Text,
    /// A frame that RFC 6455 forbids.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message above the limit.
    #[error("a message of more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
}

impl WebSocketError {
    /// RFC 6455 §7.4.1
    fn close_code(&self) -> CloseCode {
        match self {
            Self::Text => CloseCode::Unsupported,
            Self::Protocol(_) => CloseCode::Protocol,
            Self::TooLarge { .. } => CloseCode::Size,
        }
    }
}

impl<S> WebSocket<S> {
    /// Takes over a stream after the handshake; `rest` came behind the request already.
    pub(crate) fn new(inner: S, rest: BytesMut, message_limit: u64, is_text: bool) -> Self {
        Self {
            inner,
            raw: rest,
            out: BytesMut::new(),
            pong: None,
            frame: None,
            message: None,
            message_limit,
            is_text,
            close_sent: false,
            close_received: false,
        }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Moves the payload of what has arrived to `buf` and handles control frames on the way.
    fn take_frames(&mut self, buf: &mut BytesMut) -> Result<(), WebSocketError> {
        while !self.close_received {
            if let Some(frame) = &mut self.frame {
                let n = self
                    .raw
                    .len()
                    .min(usize::try_from(frame.left).unwrap_or(usize::MAX));
                let start = buf.len();
                buf.extend_from_slice(&self.raw[..n]);
                apply_mask(&mut buf[start..], &mut frame.mask);
                self.raw.advance(n);
                frame.left -= n as u64;
                if frame.left > 0 {
                    return Ok(());
                }
                if frame.is_final {
                    self.message = None;
                }
                self.frame = None;
            }
            if !self.take_header()? {
                return Ok(());
            }
        }
        self.raw.clear(); // RFC 6455 §5.5.1: nothing counts after Close
        Ok(())
    }

    /// Takes a data frame's header, or a whole control frame; `false`: more bytes are needed.
    fn take_header(&mut self) -> Result<bool, WebSocketError> {
        let mut cursor = Cursor::new(&self.raw[..]);
        let parsed =
            FrameHeader::parse(&mut cursor).map_err(|_| WebSocketError::Protocol("a reserved opcode"))?;
        let Some((header, length)) = parsed else {
            return Ok(false);
        };
        let header_size = usize::try_from(cursor.position()).expect("a header has at most 14 bytes");

        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(WebSocketError::Protocol("reserved bits without an extension"));
        }
        let Some(mask) = header.mask else {
            return Err(WebSocketError::Protocol("a client's frame without a mask"));
        };
        match header.opcode {
            OpCode::Data(kind) => {
                self.begin_data(kind, length)?;
                self.raw.advance(header_size);
                self.frame = Some(DataFrame {
                    left: length,
                    mask,
                    is_final: header.is_final,
                });
            }
            OpCode::Control(kind) => {
                if !header.is_final || length > CONTROL_MAX {
                    return Err(WebSocketError::Protocol("a control frame in parts or too long"));
                }
                let length = usize::try_from(length).expect("at most 125");
                if self.raw.len() < header_size + length {
                    return Ok(false);
                }
                self.raw.advance(header_size);
                let mut payload = self.raw.split_to(length);
                apply_mask(&mut payload, &mut { mask });
                self.control(kind, payload);
            }
        }
        Ok(true)
    }

    fn begin_data(&mut self, kind: Data, length: u64) -> Result<(), WebSocketError> {
        let before = match (kind, self.message) {
            (Data::Text, _) if !self.is_text => return Err(WebSocketError::Text),
            (Data::Text | Data::Binary, None) => 0,
            (Data::Continue, Some(before)) => before,
            (Data::Text | Data::Binary, Some(_)) => {
                return Err(WebSocketError::Protocol("a message inside a message"));
            }
            (Data::Continue, None) => return Err(WebSocketError::Protocol("a continuation of nothing")),
            (Data::Reserved(_), _) => return Err(WebSocketError::Protocol("a reserved opcode")),
        };
        let total = before.saturating_add(length);
        if total > self.message_limit {
            return Err(WebSocketError::TooLarge {
                limit: self.message_limit,
            });
        }
        self.message = Some(total);
        Ok(())
    }

    fn control(&mut self, kind: Control, payload: BytesMut) {
        match kind {
            Control::Ping => self.pong = Some(payload),
            Control::Close => {
                self.close_received = true;
                // RFC 6455 §5.5.1: answered with the same status
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                self.send_close(code);
            }
            Control::Pong | Control::Reserved(_) => {}
        }
    }

    fn send_close(&mut self, code: Option<u16>) {
        if self.close_sent {
            return;
        }
        self.close_sent = true;
        self.pong = None;
        match code {
            Some(code) => put_frame(
                &mut self.out,
                OpCode::Control(Control::Close),
                &code.to_be_bytes(),
            ),
            None => put_frame(&mut self.out, OpCode::Control(Control::Close), &[]),
        }
    }
}

impl<S: ByteStream> WebSocket<S> {
    /// Empties `out` into the stream below, then a waiting pong.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.out.is_empty() {
                ready!(self.inner.poll_write(cx, &mut self.out))?;
            }
            let Some(payload) = self.pong.take() else { break };
            put_frame(&mut self.out, OpCode::Control(Control::Pong), &payload);
        }
        self.out = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Closes for `error` and tries once to tell the peer; `poll_shutdown` tells it if that did not do.
    fn fail(&mut self, cx: &mut Context<'_>, error: WebSocketError) -> io::Error {
        self.send_close(Some(error.close_code().into()));
        self.close_received = true; // what follows cannot be understood
        let _ = self.poll_flush(cx);
        io::Error::new(ErrorKind::InvalidData, error)
    }
}

impl<S: ByteStream> ByteStream for WebSocket<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let before = buf.len();
        loop {
            // What came before a fault is passed on first; the fault is found again by the next call.
            match self.take_frames(buf) {
                Ok(()) => {}
                Err(_) if buf.len() > before => {}
                Err(error) => return Poll::Ready(Err(self.fail(cx, error))),
            }
            if !self.out.is_empty() || self.pong.is_some() {
                // If it cannot be sent now, `cx` is woken when it can; an error is for the next write to tell.
                let _ = self.poll_flush(cx);
            }
            if self.raw.is_empty() {
                self.raw = BytesMut::new();
            }
            if buf.len() > before || self.close_received {
                return Poll::Ready(Ok(buf.len() - before));
            }
            if ready!(self.inner.poll_read(cx, &mut self.raw))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, src: &mut BytesMut) -> Poll<io::Result<usize>> {
        if self.close_sent {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_drain(cx))?;
        let n = src.len().min(WRITE_FRAME);
        let (kind, n) = match self.is_text {
            true => text_of(&src[..n]),
            false => (Data::Binary, n),
        };
        put_frame(&mut self.out, OpCode::Data(kind), &src[..n]);
        src.advance(n);
        let _ = self.poll_drain(cx)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.inner.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send_close(Some(CloseCode::Normal.into()));
        ready!(self.poll_drain(cx))?;
        self.inner.poll_shutdown(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut BytesMut) -> Poll<io::Result<usize>> {
        self.inner.poll_discard(cx, scratch)
    }
}

/// How bytes of a protocol that is text are sent, and how many of them: as text up to the last whole character, which is what browsers want; or as they are, if they
/// are none. RFC 6455 §5.6
fn text_of(bytes: &[u8]) -> (Data, usize) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Data::Text, text.len()),
        Err(cut) if cut.error_len().is_none() && cut.valid_up_to() > 0 => (Data::Text, cut.valid_up_to()),
        Err(_) => (Data::Binary, bytes.len()),
    }
}

fn put_frame(out: &mut BytesMut, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    out.reserve(header.len(payload.len() as u64) + payload.len());
    header
        .format(payload.len() as u64, &mut out.writer())
        .expect("memory takes every write");
    out.extend_from_slice(payload);
}

/// RFC 6455 §5.3. Leaves `mask` turned to where the next byte of the same frame begins.
fn apply_mask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let mut words = bytes.chunks_exact_mut(8);
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    for word in &mut words {
        let plain = u64::from_ne_bytes((&*word).try_into().expect("eight bytes")) ^ wide;
        word.copy_from_slice(&plain.to_ne_bytes());
    }
    let rest = words.into_remainder();
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(rest.len() % 4);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 1 << 20;

    fn client_frame(opcode: u8, is_final: bool, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let opcode = OpCode::from(opcode);
        let header = FrameHeader {
            is_final,
            opcode,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        bytes
    }

    /// RFC 6455 §5.6: a text frame is text alone. What is cut inside of a character goes on with the next frame.
    #[test]
    fn text_is_sent_as_text_up_to_its_last_whole_character() {
        let text = "MESSAGE\n\nß";
        assert_eq!(text_of(text.as_bytes()), (Data::Text, text.len()));
        let cut = &text.as_bytes()[..text.len() - 1];
        assert_eq!(text_of(cut), (Data::Text, cut.len() - 1));
        assert_eq!(text_of(b"MESSAGE\n\n\xFF\0"), (Data::Binary, 11));
        assert_eq!(text_of(b"\xC3"), (Data::Binary, 1));
    }

    /// RFC 6455 §5.6, and \[MQTT-6.0.0-1\]: text is for protocols that are text.
    #[test]
    fn text_frames_are_taken_where_the_protocol_is_text() {
        let frames = [
            client_frame(0x1, false, [1; 4], b"SEND\n"),
            client_frame(0x0, true, [2; 4], b"\n\0"),
            client_frame(0x2, true, [3; 4], b"\n"),
        ];
        let mut buf = BytesMut::new();
        let mut socket = WebSocket::new((), frames.concat()[..].into(), LIMIT, true);
        assert_eq!(socket.take_frames(&mut buf), Ok(()));
        assert_eq!(&buf[..], b"SEND\n\n\0\n");
        let mut socket = WebSocket::new((), frames.concat()[..].into(), LIMIT, false);
        assert_eq!(socket.take_frames(&mut buf), Err(WebSocketError::Text));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..400)) {
            let mut socket = WebSocket::new((), bytes[..].into(), LIMIT, false);
            let mut buf = BytesMut::new();
            let _ = socket.take_frames(&mut buf);
            prop_assert!(buf.len() <= bytes.len());
        }

        #[test]
        fn every_split_of_a_stream_gives_the_same_bytes(
            frames in vec((any::<[u8; 4]>(), vec(any::<u8>(), 0..300), 0..3_u8), 1..6),
            cuts in vec(1..50_usize, 1..20),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (mask, payload, shape) in frames {
                match shape {
                    0 => stream.extend(client_frame(0x2, true, mask, &payload)),
                    1 => {
                        let (one, two) = payload.split_at(payload.len() / 3);
                        stream.extend(client_frame(0x2, false, mask, one));
                        stream.extend(client_frame(0x9, true, mask, b"ping"));
                        stream.extend(client_frame(0x0, true, mask, two));
                    }
                    _ => {
                        stream.extend(client_frame(0xa, true, mask, &payload[..payload.len().min(125)]));
                        continue;
                    }
                }
                expected.extend(payload);
            }
            let mut socket = WebSocket::new((), BytesMut::new(), LIMIT, false);
            let mut buf = BytesMut::new();
            let mut rest = &stream[..];
            for cut in cuts.into_iter().cycle() {
                let (part, behind) = rest.split_at(cut.min(rest.len()));
                socket.raw.extend_from_slice(part);
                prop_assert_eq!(socket.take_frames(&mut buf), Ok(()));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(&buf[..], &expected[..]);
            prop_assert!(socket.raw.is_empty());
        }
    }
}
