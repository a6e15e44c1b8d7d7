//! What the layers of a transport have in common: bytes in, bytes out, by polling.
//!
//! Always true: memory is reserved in a read buffer only when bytes are waiting, so that an idle connection
//! holds none; what `poll_write` took is gone from the source, whoever drops the future.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffers;
use bytes::{Buf, BufMut, BytesMut};
use headgate_sockjs::SessionBytes;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::{client, server};
use tokio_util::io::poll_read_buf;

/// Below this much free room a read is not worth its system call.
const READ_MIN: usize = 1024;

/// What is read and thrown away at most while the peer's goodbye is awaited.
const LINGER_BYTES: usize = 256 * 1024;

/// One layer of a byte transport. Public in name only: the module is not.
pub trait ByteStream: Send + Unpin {
    /// Appends what arrived to `buf`; 0 means that the peer closed its side.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>>;

    /// Takes bytes from the front of `src`, which must not be empty. They may still wait for a flush.
    fn poll_write(&mut self, cx: &mut Context<'_>, src: &mut BytesMut) -> Poll<io::Result<usize>>;

    /// Passes on whatever a layer holds back.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says goodbye in the manner of each layer, then shuts the write side of the socket.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads bytes that nobody wants any more, without regard to what they mean; 0: the peer closed its side.
    fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut BytesMut) -> Poll<io::Result<usize>> {
        self.poll_read(cx, scratch)
    }
}

/// Passes on what is held back, says goodbye, then discards what still comes until the peer closes too.
/// Discarding keeps the kernel from answering late bytes with a reset, which could destroy our last words.
pub(crate) async fn say_goodbye(stream: &mut dyn ByteStream, linger: Duration) {
    let goodbye = async {
        poll_fn(|cx| stream.poll_shutdown(cx)).await?;
        let mut discarded = 0;
        let mut scratch = BytesMut::new();
        while discarded < LINGER_BYTES {
            // Whoever lingers holds no buffer meanwhile.
            let read = poll_fn(|cx| {
                let read = stream.poll_discard(cx, &mut scratch);
                if read.is_pending() {
                    buffers::rest(&mut scratch);
                }
                read
            });
            match read.await? {
                0 => break,
                n => discarded += n,
            }
            scratch.clear();
        }
        io::Result::Ok(())
    };
    // Late, broken or done: in each case there is nothing more to do than to drop it.
    let _ = tokio::time::timeout(linger, goodbye).await;
}

/// Makes room to read into, and says how much of it to use: one byte stays free, by which a buffer that was read out can be told from none.
fn reserve(buf: &mut BytesMut) -> usize {
    buffers::lend(buf);
    if buf.capacity() - buf.len() < READ_MIN {
        buf.reserve(buffers::ROOM);
    }
    buf.capacity() - buf.len() - 1
}

fn write_some(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    src: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    debug_assert!(!src.is_empty(), "an empty write is no progress");
    match ready!(Pin::new(stream).poll_write(cx, src)) {
        Ok(0) => Poll::Ready(Err(ErrorKind::WriteZero.into())),
        Ok(n) => {
            src.advance(n);
            Poll::Ready(Ok(n))
        }
        Err(error) => Poll::Ready(Err(error)),
    }
}

macro_rules! socket_byte_stream {
    ($stream:ty) => {
        impl ByteStream for $stream {
            fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
                ready!(self.poll_read_ready(cx))?;
                let room = reserve(buf);
                // A read that does not fill its room has emptied the socket: tokio then waits without asking again.
                let read = poll_read_buf(Pin::new(self), cx, &mut buf.limit(room));
                if read.is_pending() {
                    buffers::rest(buf);
                }
                read
            }

            fn poll_write(&mut self, cx: &mut Context<'_>, src: &mut BytesMut) -> Poll<io::Result<usize>> {
                write_some(self, cx, src)
            }

            fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(())) // the kernel holds it already
            }

            fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(self).poll_shutdown(cx)
            }
        }
    };
}

socket_byte_stream!(TcpStream);
#[cfg(unix)]
socket_byte_stream!(UnixStream);

macro_rules! tls_byte_stream {
    ($stream:ty) => {
        impl ByteStream for $stream {
            fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
                let mut this = Pin::new(self);
                let taken = match ready!(this.as_mut().poll_fill_buf(cx)) {
                    Ok(plain) => {
                        buf.extend_from_slice(plain);
                        plain.len()
                    }
                    // No close_notify. Our frames carry their own length: a cut one is seen without it.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                this.consume(taken);
                Poll::Ready(Ok(taken))
            }

            fn poll_write(&mut self, cx: &mut Context<'_>, src: &mut BytesMut) -> Poll<io::Result<usize>> {
                write_some(self, cx, src)
            }

            fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                if !self.get_ref().1.wants_write() {
                    return Poll::Ready(Ok(()));
                }
                Pin::new(self).poll_flush(cx)
            }

            fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(self).poll_shutdown(cx)
            }
        }
    };
}

tls_byte_stream!(client::TlsStream<TcpStream>);
tls_byte_stream!(server::TlsStream<TcpStream>);

impl ByteStream for SessionBytes {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let room = reserve(buf);
        let read = poll_read_buf(Pin::new(self), cx, &mut buf.limit(room));
        if read.is_pending() {
            buffers::rest(buf);
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, src: &mut BytesMut) -> Poll<io::Result<usize>> {
        write_some(self, cx, src)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}

impl ByteStream for DuplexStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut scratch = [0; READ_MIN];
        let mut read = ReadBuf::new(&mut scratch);
        ready!(Pin::new(self).poll_read(cx, &mut read))?;
        buf.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, src: &mut BytesMut) -> Poll<io::Result<usize>> {
        write_some(self, cx, src)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}
