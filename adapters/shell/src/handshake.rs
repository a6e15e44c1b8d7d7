//! From an accepted socket to a connection: PROXY header, then TLS, then WebSocket, each with its time limit.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::connection::{Connection, ConnectionPermit};
use crate::listener::ListenerState;
use crate::proxy;
use crate::settings::ListenerKind;
use crate::socket::{Accepted, canonical};
use crate::stats::RefuseReason;
use crate::stream::{ByteStream, say_goodbye};
use crate::tls::{ServerTls, identity, words};
use crate::transport::Transport;
use crate::websocket::WebSocket;
use crate::websocket::http::{self, HeadError, Rejection};
use headgate_access::{ConnectionInfo, PeerAddr};

/// How long a client that gets an HTTP error may take to read it.
const REJECTION_LINGER: Duration = Duration::from_secs(2);

/// Why a connection is not handed over.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: RefuseReason,
    pub(crate) cause: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(reason: RefuseReason, cause: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            cause: cause.into(),
        }
    }
}

pub(crate) async fn run(
    shared: &ListenerState,
    accepted: Accepted,
    mut permit: ConnectionPermit,
) -> Result<Connection, Refusal> {
    let mut info = ConnectionInfo::new(shared.name.clone(), accepted.peer());
    info.mount_point = shared.mount_point.clone();
    let (mut stream, source) = match accepted {
        Accepted::Tcp(stream, source) => (stream, source),
        #[cfg(unix)]
        Accepted::Unix(stream) => return Ok(Connection::new(Transport::Unix(stream), info, permit)),
    };
    info.local = stream.local_addr().ok().map(canonical);
    if shared.settings.tcp_nodelay {
        // Refused only by a socket that is gone; the first read tells.
        let _ = stream.set_nodelay(true);
    }

    let mut peer = source;
    if shared.settings.proxy_protocol {
        peer = take_proxy_header(shared, &mut stream, source, &mut info).await?;
        shared.admit_address(peer.ip(), &mut permit)?;
    }

    let transport = match shared.settings.kind {
        ListenerKind::Tls => Transport::Tls(Box::new(accept_tls(shared, stream, &mut info).await?)),
        ListenerKind::Sockjs if shared.tls.is_some() => {
            Transport::Tls(Box::new(accept_tls(shared, stream, &mut info).await?))
        }
        ListenerKind::Ws => {
            let upgraded = accept_websocket(shared, stream, peer, &mut info, &mut permit).await?;
            Transport::Ws(Box::new(upgraded))
        }
        ListenerKind::Wss => {
            let stream = accept_tls(shared, stream, &mut info).await?;
            let upgraded = accept_websocket(shared, stream, peer, &mut info, &mut permit).await?;
            Transport::Wss(Box::new(upgraded))
        }
        ListenerKind::Tcp | ListenerKind::Sockjs | ListenerKind::Unix => Transport::Tcp(stream),
    };
    Ok(Connection::new(transport, info, permit))
}

async fn limited<T>(
    limit: Duration,
    what: &'static str,
    future: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::new(RefuseReason::Timeout, what)),
    }
}

/// Returns who the client is. Where the header does not say, the proxy itself counts as the client.
async fn take_proxy_header(
    shared: &ListenerState,
    stream: &mut TcpStream,
    source: SocketAddr,
    info: &mut ConnectionInfo,
) -> Result<SocketAddr, Refusal> {
    let header = limited(shared.settings.proxy_timeout, "no PROXY header in time", async {
        let header = proxy::read_header(stream).await;
        header.map_err(|error| Refusal::new(RefuseReason::Proxy, error.to_string()))
    })
    .await?;
    info.proxy_common_name = header.common_name;
    info.proxy_authority = header.authority;
    let Some((client, server)) = header.addresses else {
        return Ok(source);
    };
    info.via = Some(source);
    info.local = Some(canonical(server));
    info.peer = PeerAddr::Ip(canonical(client));
    Ok(canonical(client))
}

async fn accept_tls(
    shared: &ListenerState,
    stream: TcpStream,
    info: &mut ConnectionInfo,
) -> Result<TlsStream<TcpStream>, Refusal> {
    let tls: &ServerTls = shared.tls.as_ref().expect("checked by Listener::bind");
    let refuse = |error: io::Error| Refusal::new(RefuseReason::Tls, words::explain(&error));
    let stream = limited(
        shared.settings.handshake_timeout,
        "no TLS handshake in time",
        async {
            let config = tls.config().await;
            TlsAcceptor::from(config).accept(stream).await.map_err(refuse)
        },
    )
    .await?;
    let described = identity::agreed(stream.get_ref().1);
    let described =
        described.ok_or_else(|| Refusal::new(RefuseReason::Tls, "the client certificate is unreadable"))?;
    info.tls = Some(Box::new(described));
    Ok(stream)
}

async fn accept_websocket<S: ByteStream>(
    shared: &ListenerState,
    mut stream: S,
    peer: SocketAddr,
    info: &mut ConnectionInfo,
    permit: &mut ConnectionPermit,
) -> Result<WebSocket<S>, Refusal> {
    let settings = &shared.websocket;
    let result = limited(
        shared.settings.handshake_timeout,
        "no WebSocket handshake in time",
        async {
            let (head, rest) = match http::read_head(&mut stream, settings.max_header_bytes).await {
                Ok(read) => read,
                Err(HeadError::Io(error)) => return Err(Refusal::new(RefuseReason::Http, error.to_string())),
                Err(HeadError::Rejected(rejection)) => return Ok(Err(rejection)),
            };
            let upgrade = match http::judge(&head, settings, shared.is_forwarder(peer.ip())) {
                Ok(upgrade) => upgrade,
                Err(rejection) => return Ok(Err(rejection)),
            };
            if let Some(client) = upgrade.forwarded {
                if let Err(refusal) = shared.admit_address(client.ip(), permit) {
                    send(&mut stream, Rejection::FORBIDDEN.response()).await?;
                    return Err(refusal);
                }
                info.via = info.via.or(Some(peer));
                info.peer = PeerAddr::Ip(client);
            }
            send(&mut stream, upgrade.response()).await?;
            info.http = Some(Box::new(upgrade.info));
            Ok(Ok(rest))
        },
    )
    .await?;
    match result {
        Ok(rest) => {
            let is_text = shared.settings.facts.is_text;
            Ok(WebSocket::new(stream, rest, settings.max_message_bytes, is_text))
        }
        Err(rejection) => {
            let refusal = Refusal::new(RefuseReason::Http, rejection.cause);
            let farewell = async {
                send(&mut stream, rejection.response()).await?;
                say_goodbye(&mut stream, REJECTION_LINGER).await;
                Ok(())
            };
            // Whether the client reads it or not, it is refused.
            let _ = limited(REJECTION_LINGER, "no answer wanted", farewell).await;
            Err(refusal)
        }
    }
}

async fn send(stream: &mut impl ByteStream, mut bytes: BytesMut) -> Result<(), Refusal> {
    let sent = poll_fn(|cx| {
        while !bytes.is_empty() {
            std::task::ready!(stream.poll_write(cx, &mut bytes))?;
        }
        stream.poll_flush(cx)
    });
    sent.await
        .map_err(|error| Refusal::new(RefuseReason::Http, error.to_string()))
}
