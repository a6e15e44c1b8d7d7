//! A connection below a WebSocket, which counts what was read and is not a whole message yet.
//!
//! The WebSocket keeps the beginning of a message until its end is there, and does not say how much that is. So what comes in counts until a message comes out.

use crate::live::Live;
use crate::memory::Hold;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What frames cost beside what is in them: many small ones are something, too.
const FRAMING: usize = 4 << 10;
/// The head of a control frame from a client. RFC 6455 §5.2, §5.5
const CONTROL_HEAD: usize = 6;

/// See above.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    unread: Arc<Unread>,
}

/// What was read since the last whole message.
#[derive(Debug)]
pub(crate) struct Unread {
    live: Arc<Live>,
    held: Mutex<Hold>,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, live: &Arc<Live>) -> Self {
        let unread = Arc::new(Unread {
            live: Arc::clone(live),
            held: Mutex::new(Hold::new(&live.meter)),
        });
        Self { inner, unread }
    }

    pub(crate) fn unread(&self) -> Arc<Unread> {
        Arc::clone(&self.unread)
    }
}

impl Unread {
    /// A message is out.
    pub(crate) fn taken(&self) {
        self.held.lock().set(0);
    }

    /// A control frame is out, which may have come between the fragments of a message.
    pub(crate) fn control_taken(&self, payload: usize) {
        let mut held = self.held.lock();
        let now = held.bytes().saturating_sub(payload + CONTROL_HEAD);
        held.set(now);
    }

    /// More than a message may have.
    pub(crate) fn is_too_much(&self) -> bool {
        let limit = self.live.max_body_bytes();
        self.held.lock().bytes() > limit + limit / 16 + FRAMING
    }

    fn came(&self, bytes: usize) -> io::Result<()> {
        {
            let mut held = self.held.lock();
            let now = held.bytes() + bytes;
            held.set(now);
        }
        match self.is_too_much() || self.live.shed() {
            true => Err(io::Error::other("too much of one message")),
            false => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.unread.came(buf.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
