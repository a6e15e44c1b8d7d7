//! WebSocket, the server's side: RFC 6455 frames as a plain stream of bytes.
//!
//! The payload of binary frames, and of text frames where the protocol is text, is passed on as it arrives, without regard to where frames begin and end
//! [MQTT-6.0.0-2], so a large frame needs no buffer of its size. The frame header's coding is tungstenite's;
//! its message layer is not used, because it keeps a read buffer for every idle connection.
//!
//! Where the protocol is text, what is handed over for one write is one message, in as many frames as it takes: clients of STOMP look for whole frames of theirs in each.
//!
//! Always true: nothing is sent after our Close frame; at most one pong waits to be sent (RFC 6455 §5.5.3).

pub(crate) mod http;
mod utf8;

use std::io::{self, Cursor, ErrorKind};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::stream::ByteStream;
use utf8::Utf8;

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
    /// Whether the text message that is arriving is UTF-8; `None`: it is a binary one.
    text: Option<Utf8>,
    /// Bytes of our message that have yet to be put in frames; 0 between messages.
    sending: usize,
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
    /// RFC 6455 §8.1
    #[error("a text message that is not UTF-8")]
    NotUtf8,
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
            Self::NotUtf8 => CloseCode::Invalid,
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
            text: None,
            sending: 0,
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
            if self.text == Some(Utf8::Broken) {
                return Err(WebSocketError::NotUtf8);
            }
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
                let (is_whole, is_last) = (frame.left == 0, frame.left == 0 && frame.is_final);
                if let Some(text) = &mut self.text {
                    text.push(&buf[start..]);
                    if is_last {
                        text.end();
                    }
                    if *text == Utf8::Broken {
                        buf.truncate(start);
                        continue;
                    }
                }
                if !is_whole {
                    return Ok(());
                }
                if is_last {
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
        match kind {
            Data::Text => self.text = Some(Utf8::default()),
            Data::Binary => self.text = None,
            Data::Continue | Data::Reserved(_) => {}
        }
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
                true,
                &code.to_be_bytes(),
            ),
            None => put_frame(&mut self.out, OpCode::Control(Control::Close), true, &[]),
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
            put_frame(&mut self.out, OpCode::Control(Control::Pong), true, &payload);
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
        let mut kind = Data::Continue;
        if self.sending == 0 {
            // A message of text is UTF-8 as a whole, and only one that is text begins as such. RFC 6455 §5.6
            (kind, self.sending) = match self.is_text {
                true if std::str::from_utf8(src).is_ok() => (Data::Text, src.len()),
                true => (Data::Binary, src.len()),
                false => (Data::Binary, src.len().min(WRITE_FRAME)),
            };
        }
        let n = self.sending.min(WRITE_FRAME).min(src.len());
        self.sending -= n;
        put_frame(&mut self.out, OpCode::Data(kind), self.sending == 0, &src[..n]);
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

fn put_frame(out: &mut BytesMut, opcode: OpCode, is_final: bool, payload: &[u8]) {
    let header = FrameHeader {
        opcode,
        is_final,
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
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

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

    /// What a server sends: the payloads of its messages, each with its kind.
    async fn sent(write: &[u8], is_text: bool) -> Vec<(Data, Vec<u8>)> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut socket = WebSocket::new(ours, BytesMut::new(), LIMIT, is_text);
        let mut src = BytesMut::from(write);
        while !src.is_empty() {
            poll_fn(|cx| socket.poll_write(cx, &mut src)).await.unwrap();
        }
        poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
        drop(socket);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.unwrap();
        let (mut rest, mut messages) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let mut cursor = Cursor::new(rest);
            let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            let begin = usize::try_from(cursor.position()).unwrap();
            let (payload, behind) = rest[begin..].split_at(usize::try_from(length).unwrap());
            assert!(payload.len() <= WRITE_FRAME);
            match header.opcode {
                OpCode::Data(Data::Continue) => messages
                    .last_mut()
                    .map(|(_, message): &mut (_, Vec<u8>)| message.extend(payload))
                    .unwrap(),
                OpCode::Data(kind) => messages.push((kind, payload.to_vec())),
                OpCode::Control(_) => panic!("nothing was asked"),
            }
            rest = behind;
        }
        messages
    }

    /// RFC 6455 §5.4, §5.6: one message for each write, however long it is; as text if it is text as a whole.
    #[tokio::test]
    async fn a_write_is_one_message_where_the_protocol_is_text() {
        let text = format!("MESSAGE\n\n{}\0", "ß".repeat(100_000));
        let long = sent(text.as_bytes(), true).await;
        assert!(long == [(Data::Text, text.clone().into_bytes())]);
        let broken = b"MESSAGE\n\n\xFF\0";
        assert_eq!(sent(broken, true).await, [(Data::Binary, broken.to_vec())]);
        let binary = sent(text.as_bytes(), false).await;
        assert!(binary.len() == 4 && binary.iter().all(|(kind, _)| *kind == Data::Binary));
    }

    /// RFC 6455 §8.1: what is no UTF-8 fails the connection; what came before it counts. A binary message may hold anything.
    #[test]
    fn a_text_message_is_utf8() {
        let mut buf = BytesMut::new();
        let mut read = |frames: &[Vec<u8>]| {
            buf.clear();
            let mut socket = WebSocket::new((), frames.concat()[..].into(), LIMIT, true);
            let read = socket.take_frames(&mut buf);
            (read, buf.to_vec())
        };
        let parts = [
            client_frame(0x1, false, [1; 4], b"\xC3"),
            client_frame(0x9, true, [5; 4], b"ping"),
            client_frame(0x0, true, [2; 4], b"\x9F\0"),
        ];
        assert_eq!(read(&parts), (Ok(()), "ß\0".into()));
        let cut = [
            client_frame(0x1, true, [1; 4], b"a"),
            client_frame(0x1, true, [1; 4], b"\xC3"),
        ];
        assert_eq!(read(&cut), (Err(WebSocketError::NotUtf8), b"a".to_vec()));
        assert_eq!(
            read(&[client_frame(0x1, false, [1; 4], b"\xFF")]),
            (Err(WebSocketError::NotUtf8), vec![])
        );
        assert_eq!(
            read(&[client_frame(0x2, true, [1; 4], b"\xFF")]),
            (Ok(()), vec![0xFF])
        );
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
