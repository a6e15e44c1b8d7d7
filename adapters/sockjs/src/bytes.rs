//! A session as a stream of bytes, for protocols that have frames of their own.
//!
//! Messages are text. What is written goes out as one message for each write, whatever its length: a frame written at once is in one message, where clients look
//! for it. A character that is cut by the end of a write waits for its rest. What is no UTF-8 cannot be carried: it ends the session.

use crate::application::Session;
use crate::memory::Hold;
use crate::session::Ended;
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes were to be carried that are no text. RFC 6455 §7.4.1
const NOT_TEXT: Ended = Ended::new(1007, "Not UTF-8");

/// Reads and writes a [`Session`]. A read of nothing: it has ended.
#[derive(Debug)]
pub struct SessionBytes {
    session: Session,
    reading: Bytes,
    /// What is read and not taken, whole until all of it is.
    held: Hold,
    /// The beginning of a character.
    cut: Vec<u8>,
}

impl SessionBytes {
    /// On top of a session.
    pub fn new(session: Session) -> Self {
        let held = Hold::new(session.meter());
        Self {
            session,
            held,
            reading: Bytes::new(),
            cut: Vec::new(),
        }
    }

    /// The session below.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn refuse(&mut self) -> io::Error {
        self.session.close(NOT_TEXT);
        io::Error::new(
            ErrorKind::InvalidData,
            "SockJS carries text, and this is not UTF-8",
        )
    }
}

impl AsyncRead for SessionBytes {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.reading.is_empty() {
            match ready!(Pin::new(&mut this.session).poll_next(cx)) {
                Some(message) => {
                    this.held.set(message.len());
                    this.reading = Bytes::from(message);
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = this.reading.len().min(buf.remaining());
        buf.put_slice(&this.reading[..n]);
        this.reading.advance(n);
        if this.reading.is_empty() {
            this.reading = Bytes::new();
            this.held.set(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SessionBytes {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let broken = |ended: Ended| io::Error::new(ErrorKind::BrokenPipe, ended.reason);
        ready!(Pin::new(&mut this.session).poll_ready(cx)).map_err(broken)?;
        let bytes = match this.cut.is_empty() {
            true => Cow::Borrowed(buf),
            false => Cow::Owned([&this.cut, buf].concat()),
        };
        let whole = match std::str::from_utf8(&bytes) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Poll::Ready(Err(this.refuse())),
        };
        let text = String::from_utf8(bytes[..whole].to_vec()).expect("valid up to there");
        let cut = bytes[whole..].to_vec();
        this.cut = cut;
        if !text.is_empty() {
            Pin::new(&mut this.session).start_send(text).map_err(broken)?;
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has got everything and was told, or is gone.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.cut.is_empty() {
            return Poll::Ready(Err(this.refuse()));
        }
        // It may have ended before.
        let _ = ready!(Pin::new(&mut this.session).poll_close(cx));
        Poll::Ready(Ok(()))
    }
}
