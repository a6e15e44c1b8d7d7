//! The side of the application: a session as a stream and a sink of messages.

use crate::live::Live;
use crate::memory::{Memory, Meter};
use crate::route::Transport;
use crate::session::Ended;
use axum::http::request::Parts;
use futures_util::{Sink, Stream};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Takes new sessions.
pub trait Service: Send + Sync + 'static {
    /// A client opened a session. `request` is its first one: headers for whoever authenticates, extensions of the server around. Keep what is needed and
    /// return at once; the client gets no answer before.
    fn open(&self, session: Session, request: Parts);
}

impl<F: Fn(Session, Parts) + Send + Sync + 'static> Service for F {
    fn open(&self, session: Session, request: Parts) {
        self(session, request);
    }
}

/// One session. Its messages are a [`Stream`], which ends with the session; messages for the client go into the [`Sink`].
///
/// A message that was sent waits until the client asks for it. If the client does not come back, it is dropped and counted
/// ([`Refusal::Undelivered`](crate::Refusal::Undelivered)). A session that is dropped is closed with [`Ended::GO_AWAY`].
#[derive(Debug)]
pub struct Session {
    live: Arc<Live>,
    transport: Transport,
    peer: Option<IpAddr>,
}

impl Session {
    pub(crate) fn new(live: Arc<Live>, transport: Transport, peer: Option<IpAddr>) -> Self {
        Self {
            live,
            transport,
            peer,
        }
    }

    /// What carried the first request.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Where the first request came from, if the server around says so (`ConnectInfo<SocketAddr>`).
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// What the session holds, and will hold, counts there.
    pub fn count_in(&self, memory: Arc<dyn Memory>) {
        self.live.meter.count_in(memory);
    }

    /// Who the client is, is known: from now on it may send as much as the settings allow, and no longer only
    /// [`max_stranger_bytes`](crate::SockJsSettings::max_stranger_bytes).
    pub fn let_in(&self) {
        self.live.let_in();
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.live.meter
    }

    /// The client's next message; `None`: the session has ended, and [`Self::ended`] says how. Cancel-safe.
    pub async fn recv(&mut self) -> Option<String> {
        poll_fn(|cx| self.live.poll_read(cx)).await
    }

    /// Sends a message when there is room for it. Cancel-safe: the message is sent or dropped as a whole.
    pub async fn send(&mut self, message: impl Into<String>) -> Result<(), Ended> {
        poll_fn(|cx| self.live.poll_ready(cx)).await?;
        self.live.send(message.into())
    }

    /// Ends the session, once. The client gets what was sent before, then this.
    pub fn close(&mut self, ended: Ended) {
        self.live.close(ended);
    }

    /// How the session ended; `None`: it has not.
    pub fn ended(&self) -> Option<Ended> {
        self.live.ended()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.live.close(Ended::GO_AWAY);
    }
}

impl Stream for Session {
    type Item = String;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        self.live.poll_read(cx)
    }
}

impl Sink<String> for Session {
    type Error = Ended;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.live.poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: String) -> Result<(), Ended> {
        self.live.send(message)
    }

    /// What was sent is in the session's outbox at once; when the client asks for it, is the client's affair.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        Poll::Ready(Ok(()))
    }

    /// Ready when the client was told, or is gone.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.close(Ended::GO_AWAY);
        ready!(self.live.poll_settled(cx));
        Poll::Ready(Ok(()))
    }
}
