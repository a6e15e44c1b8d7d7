//! HTTP/1.1 over the connections of a listener: who asks gets an answer of a router, within bounds.
//!
//! A request's head has a size and a time, its body a size, its answer a time; who takes nothing of the answer, or asks nothing more, is left; and there are
//! so many connections at a time at most, whatever the listener allows (`places`).

mod places;

use crate::connection::{Connection, ConnectionPermit};
use crate::limit::AddressLimit;
use crate::stages::Stages;
use crate::transport::Transport;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use bytes::{Buf, BytesMut};
use headgate_access::{ConnectionInfo, PeerAddr};
use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
pub use places::Caller;
use places::{Answer, Place, Places, Question};
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

/// What a listener for it has as its `protocol`.
pub(crate) const NAME: &str = "http";
/// Connections at a time.
const MAX_CONNECTIONS: usize = 256;
/// More of them for this machine.
const RESERVE: usize = 64;
/// Bytes of a request's head, and of what is read ahead.
const MAX_HEAD: usize = 16 << 10;
/// Of one address.
const MAX_OF_AN_ADDRESS: u32 = 64;
/// Fields of a request's head.
const MAX_FIELDS: usize = 64;
/// Time for a request's head; so long a connection may also be idle.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a request's body.
const MAX_BODY: usize = 1 << 20;
/// Time until an answer begins, the reading of the body included.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// So long a peer may take nothing of what waits for it.
const STALL_TIME: Duration = Duration::from_secs(30);
/// Requests on one connection; the last answer says that it is the last.
const MAX_REQUESTS: u32 = 1_000;
/// What waits to be sent, at most.
const MAX_WAITING: usize = 64 << 10;
/// How long a peer may take to close.
const LINGER: Duration = Duration::from_secs(2);

/// Answers for a router. Handlers find an `Extension<Arc<ConnectionInfo>>` that says who asks, and the address, if there is one, in
/// `ConnectInfo<SocketAddr>`.
#[derive(Clone)]
pub struct Http {
    router: Router,
    /// `None`: the listener alone limits.
    limits: Option<(Places, AddressLimit)>,
    stop: CancellationToken,
    /// Time until an answer begins; `None`: the router has bounds of its own.
    answer_time: Option<Duration>,
}

impl Http {
    /// When `stop` is cancelled, answers that are under way are given, and nothing more is asked.
    pub fn new(router: Router, stop: CancellationToken) -> Self {
        Self {
            router: router.layer(DefaultBodyLimit::max(MAX_BODY)),
            limits: Some((
                Places::new(MAX_CONNECTIONS, RESERVE),
                AddressLimit::new(MAX_OF_AN_ADDRESS),
            )),
            stop,
            answer_time: Some(ANSWER_TIME),
        }
    }

    /// For a router that waits on purpose, ends its answers by itself, and bounds what it takes. Connections are limited by the listener alone.
    pub(crate) fn unhurried(router: Router) -> Self {
        Self {
            router,
            limits: None,
            stop: CancellationToken::new(),
            answer_time: None,
        }
    }

    /// Serves one connection, which `open` counts.
    pub(crate) fn serve(&self, connection: Connection, open: &TaskTracker) -> Stages {
        let address = match connection.info.peer {
            PeerAddr::Ip(address) => address.ip(),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let held = match &self.limits {
            None => Some((None, None)),
            Some((places, of_address)) => of_address
                .acquire(address)
                .and_then(|slot| Some((places.take(address)?, slot)))
                .map(|(place, slot)| (Some(Arc::new(place)), Some(slot))),
        };
        let Some((place, slot)) = held else {
            tracing::info!(peer = %connection.info.peer, "too many HTTP connections: one is refused");
            return Stages::one(async move { drop(connection) });
        };
        let (this, token) = (self.clone(), open.token());
        Stages::one(async move {
            this.answer(connection, place).await;
            drop((slot, token));
        })
    }

    async fn answer(self, connection: Connection, place: Option<Arc<Place>>) {
        let (transport, info, permit) = connection.into_parts();
        let (info, permit) = (Arc::new(info), Arc::new(permit));
        let held = Arc::clone(&permit);
        let peer = info.peer;
        let router = self.router;
        let answer_time = self.answer_time;
        let requests = AtomicU32::new(0);
        let asks_at = place.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let whole = request.body().is_end_stream();
            let asked = asks_at.as_ref().map(|place| Arc::new(place.ask(whole)));
            request.extensions_mut().insert(Caller(asks_at.clone()));
            let request = match &asked {
                Some(asked) => request.map(|body| Question::body(body, asked)),
                None => request.map(Body::new),
            };
            let last = requests.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_REQUESTS || held.is_over();
            let answer = respond(router.clone(), request, Arc::clone(&info), answer_time, last);
            async move {
                let answer = answer.await?;
                Ok::<_, Infallible>(match asked {
                    Some(asked) => answer.map(|body| Answer::body(body, asked)),
                    None => answer,
                })
            }
        });
        let mut serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_FIELDS)
            .serve_connection(Io::new(transport, permit), service)
            .with_upgrades();
        let mut serving = Pin::new(&mut serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = given_away(place.as_deref()) => {
                tracing::debug!(%peer, "HTTP connection gives way to another");
                return;
            }
            () = self.stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                // What cannot be answered in time is cut off by who stops the gateway.
                serving.as_mut().await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "HTTP connection ended");
        }
    }
}

async fn given_away(place: Option<&Place>) {
    match place {
        Some(place) => place.given_away().await,
        None => std::future::pending().await,
    }
}

/// By this a handler asks for more time until its answer begins, for what has bounds of its own: it is an extension of the request.
#[derive(Clone, Debug, Default)]
pub struct Patience(Arc<AtomicBool>);

impl Patience {
    /// Asks for it.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

async fn respond(
    mut router: Router,
    mut request: Request<Body>,
    info: Arc<ConnectionInfo>,
    answer_time: Option<Duration>,
    last: bool,
) -> Result<Response<Body>, Infallible> {
    if let PeerAddr::Ip(address) = info.peer {
        request.extensions_mut().insert(ConnectInfo(address));
    }
    request.extensions_mut().insert(info);
    let patience = Patience::default();
    request.extensions_mut().insert(patience.clone());
    let mut answer = pin!(router.call(request));
    let mut response = match answer_time {
        None => answer.await?,
        Some(time) => match timeout(time, answer.as_mut()).await {
            Ok(answer) => answer?,
            Err(_) if patience.is_asked_for() => answer.await?,
            Err(_) => {
                let mut late = Response::new(Body::from("no answer in time\n"));
                *late.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                late
            }
        },
    };
    if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

/// A transport as hyper reads and writes it.
struct Io {
    transport: Option<Transport>,
    /// Held as long as the transport, whoever has it after an upgrade.
    _permit: Arc<ConnectionPermit>,
    reading: BytesMut,
    writing: BytesMut,
    /// Since when nothing of `writing` was taken.
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Io {
    fn new(transport: Transport, permit: Arc<ConnectionPermit>) -> Self {
        Self {
            transport: Some(transport),
            _permit: permit,
            reading: BytesMut::new(),
            writing: BytesMut::new(),
            stalled: None,
            closing: None,
        }
    }

    fn transport(&mut self) -> io::Result<&mut Transport> {
        self.transport
            .as_mut()
            .ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Ready when all that waits was taken by the peer.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            transport: Some(transport),
            writing,
            stalled,
            ..
        } = self
        else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let before = writing.len();
        let sent = loop {
            if writing.is_empty() {
                break transport.poll_flush(cx);
            }
            match transport.poll_write(cx, writing) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent.is_ready() || writing.len() < before {
            *stalled = None;
        }
        if sent.is_pending() {
            let since = stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIME)));
            ready!(since.as_mut().poll(cx));
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        sent
    }
}

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reading.is_empty() {
            // An idle connection holds no buffer.
            let mut reading = std::mem::take(&mut this.reading);
            let read = this.transport()?.poll_read(cx, &mut reading);
            if read.is_ready() {
                this.reading = reading;
            }
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let n = this.reading.len().min(buf.remaining());
        buf.put_slice(&this.reading[..n]);
        this.reading.advance(n);
        if this.reading.is_empty() {
            this.reading = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writing.len() >= MAX_WAITING {
            ready!(this.poll_send(cx))?;
        }
        let n = buf.len().min(MAX_WAITING - this.writing.len());
        this.writing.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            ready!(this.poll_send(cx))?;
            let transport = this.transport.take();
            this.closing = transport.map(|transport| Box::pin(transport.close(LINGER)) as _);
        }
        if let Some(closing) = &mut this.closing {
            ready!(closing.as_mut().poll(cx));
        }
        Poll::Ready(Ok(()))
    }
}
