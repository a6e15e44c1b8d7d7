//! A byte transport: one type over TCP, TLS, WebSocket, SockJS, Unix-domain sockets and memory.
//!
//! Always true: every method but [`Transport::close`] may be dropped at any await without losing a byte; an
//! idle transport holds no read buffer.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::sockjs::Ledger;
use bytes::BytesMut;
use headgate_model::MemoryLimit;
use headgate_sockjs::SessionBytes;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::client;
use tokio_rustls::server::TlsStream;

use crate::stream::{ByteStream, say_goodbye};
use crate::websocket::WebSocket;

/// One connection's bytes, whatever carries them.
pub enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP, with a client that came to us.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS over TCP, with a server that we went to.
    TlsOut(Box<client::TlsStream<TcpStream>>),
    /// WebSocket over TCP.
    Ws(Box<WebSocket<TcpStream>>),
    /// WebSocket over TLS.
    Wss(Box<WebSocket<TlsStream<TcpStream>>>),
    /// A session of SockJS, whatever carries it.
    SockJs(Box<SessionBytes>),
    /// A Unix-domain stream socket.
    #[cfg(unix)]
    Unix(UnixStream),
    /// A pipe in memory, for tests.
    Memory(DuplexStream),
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Transport>() <= 48, "there is one for each connection");

/// What one [`Transport::ready`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes appended to the read buffer; `Some(0)`: the peer closed its side; `None`: nothing arrived.
    pub read: Option<usize>,
    /// Bytes taken from the write buffer.
    pub written: usize,
}

impl Transport {
    /// A transport in memory and its other end; each direction holds up to `capacity` bytes.
    pub fn memory(capacity: usize) -> (Self, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(capacity);
        (Self::Memory(ours), theirs)
    }

    /// Reads at least one byte and appends it to `buf`; `Ok(0)` means that the peer closed its side. Room in
    /// `buf` is made only when bytes are waiting: replace an empty buffer by `BytesMut::new()` before an idle
    /// wait. Cancel-safe.
    pub async fn read(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Reads what is there already; `None`: nothing is.
    pub fn try_read(&mut self, buf: &mut BytesMut) -> io::Result<Option<usize>> {
        match self.poll_read(&mut Context::from_waker(Waker::noop()), buf) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Writes until `buf` is empty and nothing is held back. Cancel-safe: what was taken is gone from `buf`.
    ///
    /// A peer that writes without reading can hold this for ever: where that may be, use [`Self::ready`].
    pub async fn write(&mut self, buf: &mut BytesMut) -> io::Result<()> {
        poll_fn(|cx| {
            while !buf.is_empty() {
                std::task::ready!(self.poll_write(cx, buf))?;
            }
            self.poll_flush(cx)
        })
        .await
    }

    /// Reads and writes, whichever is possible first, and says what was done; does both if both are possible.
    /// Bytes that a layer (TLS, WebSocket) took before and still holds back are passed on along the way, also
    /// when `write` is `None`. With nothing to read nor to write it waits for ever. Cancel-safe.
    ///
    /// A write error hides until nothing is left to read: a peer's last words come first.
    pub async fn ready(
        &mut self,
        mut write: Option<&mut BytesMut>,
        mut read: Option<&mut BytesMut>,
    ) -> io::Result<Progress> {
        poll_fn(|cx| self.poll_ready(cx, write.as_deref_mut(), read.as_deref_mut())).await
    }

    /// The poll form of [`Self::ready`].
    pub fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        write: Option<&mut BytesMut>,
        read: Option<&mut BytesMut>,
    ) -> Poll<io::Result<Progress>> {
        let mut progress = Progress::default();
        if let Some(buf) = read
            && let Poll::Ready(read) = self.poll_read(cx, buf)
        {
            progress.read = Some(read?);
        }
        match self.poll_send(cx, write) {
            Ok(written) => progress.written = written,
            Err(_) if progress.read.is_some() => {} // it comes again with the next call
            Err(error) => return Poll::Ready(Err(error)),
        }
        if progress == Progress::default() {
            Poll::Pending
        } else {
            Poll::Ready(Ok(progress))
        }
    }

    /// Writes what can be written now. `cx` is woken when more can.
    fn poll_send(&mut self, cx: &mut Context<'_>, write: Option<&mut BytesMut>) -> io::Result<usize> {
        let mut written = 0;
        if let Some(buf) = write {
            while !buf.is_empty() {
                match self.poll_write(cx, buf) {
                    Poll::Ready(n) => written += n?,
                    Poll::Pending => return Ok(written),
                }
            }
        }
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) if written == 0 => Err(error),
            _ => Ok(written),
        }
    }

    /// Says goodbye: passes on what is held back, tells the peer (WebSocket Close, TLS close_notify, TCP FIN),
    /// then reads and discards until the peer closes, or `linger` is over, or 256 KiB came. The discarding
    /// keeps the kernel from answering late bytes with a reset, which could destroy our last words.
    pub async fn close(mut self, linger: Duration) {
        say_goodbye(self.stream(), linger).await;
    }

    /// What it holds by itself is in this ledger from now on.
    pub(crate) fn count_in(&self, memory: &Arc<MemoryLimit>) {
        if let Self::SockJs(bytes) = self {
            bytes.session().count_in(Arc::new(Ledger(Arc::clone(memory))));
        }
    }

    /// The client may come in: what holds strangers to little holds it no longer.
    pub(crate) fn let_in(&self) {
        if let Self::SockJs(bytes) = self {
            bytes.session().let_in();
        }
    }

    /// The certificate the client showed in the TLS handshake, DER.
    pub fn client_certificate_der(&self) -> Option<&[u8]> {
        let tls = match self {
            Self::Tls(stream) => stream.get_ref().1,
            Self::Wss(socket) => socket.get_ref().get_ref().1,
            _ => return None,
        };
        Some(tls.peer_certificates()?.first()?.as_ref())
    }

    /// The poll form of [`Self::read`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        self.stream().poll_read(cx, buf)
    }

    /// Takes bytes from the front of `src`, which must not be empty; they may wait for [`Self::poll_flush`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, src: &mut BytesMut) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, src)
    }

    /// Passes on what TLS or WebSocket hold back.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn stream(&mut self) -> &mut dyn ByteStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => &mut **stream,
            Self::TlsOut(stream) => &mut **stream,
            Self::Ws(socket) => &mut **socket,
            Self::Wss(socket) => &mut **socket,
            Self::SockJs(session) => &mut **session,
            #[cfg(unix)]
            Self::Unix(stream) => stream,
            Self::Memory(pipe) => pipe,
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Tls(_) => "Tls",
            Self::TlsOut(_) => "TlsOut",
            Self::Ws(_) => "Ws",
            Self::Wss(_) => "Wss",
            Self::SockJs(_) => "SockJs",
            #[cfg(unix)]
            Self::Unix(_) => "Unix",
            Self::Memory(_) => "Memory",
        })
    }
}
