//! WebSocket, with SockJS frames and raw. A session lives as long as its WebSocket, so session ids say nothing here.

use crate::encode::{Encoder, Form};
use crate::frame::{Frame, MessagesError, websocket_messages};
use crate::http::{Server, peer};
use crate::live::{Live, Receiving};
use crate::memory::Hold;
use crate::metered::{Metered, Unread};
use crate::receive::PIECE;
use crate::refusal::{Refusal, Refused};
use crate::route::Transport;
use crate::session::Ended;
use axum::body::Body;
use axum::http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::Frame as WsFrame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// How long a peer may take to close.
const LINGER: Duration = Duration::from_secs(2);
/// Read at a time; a WebSocket holds as much while it lives.
const READ_BUFFER: usize = 4 << 10;
/// Bytes of a reason in a Close frame. RFC 6455 §5.5
const MAX_REASON: usize = 123;

/// A Close frame without a code. RFC 6455 §7.4.1
const NO_STATUS: u16 = 1005;
/// The client is gone, and said nothing. RFC 6455 §7.4.1
const ABNORMAL: Ended = Ended::new(1006, "Connection lost");
const BINARY: Ended = Ended::new(1003, "Only text is accepted");
const BROKEN: Ended = Ended::new(1007, "Broken JSON encoding");
const TOO_LARGE: Ended = Ended::new(1009, "Message too large");
const TOO_MANY: Ended = Ended::new(1009, "Too many messages");

/// A WebSocket, whose unread bytes are counted.
type Socket = WebSocketStream<Metered<TokioIo<Upgraded>>>;

/// A request for a WebSocket. RFC 6455 §4.2
pub(crate) async fn upgrade(server: &Arc<Server>, transport: Transport, mut parts: Parts) -> Response {
    let asks = parts
        .headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let key = parts
        .headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|_| asks && is_websocket(&parts));
    let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
        return server.refuse(not_websocket(&parts));
    };
    let Some(upgraded) = parts.extensions.remove::<OnUpgrade>() else {
        return server.refuse(Refused::UPGRADE);
    };
    let place = match server.table.place(peer(&parts)) {
        Ok(place) => place,
        Err(refused) => return server.refuse(refused),
    };
    let subprotocol = match transport {
        Transport::RawWebSocket => subprotocol(&parts, server.settings.subprotocols),
        _ => None,
    };
    let server = Arc::clone(server);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => run(&server, transport, upgraded, parts).await,
            Err(error) => tracing::debug!(%error, "a client left before its WebSocket began"),
        }
        drop(place);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&accept).expect("base64 is plain text");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    response
}

/// The best of ours that the client offers.
fn subprotocol(parts: &Parts, ours: &[&'static str]) -> Option<&'static str> {
    let offered = parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<_> = offered.iter().filter_map(|value| value.to_str().ok()).collect();
    let mut offered = offered.iter().flat_map(|value| value.split(',')).map(str::trim);
    let offered: Vec<_> = offered.by_ref().collect();
    ours.iter().copied().find(|own| offered.contains(own))
}

fn is_websocket(parts: &Parts) -> bool {
    parts.method == Method::GET && has(parts, UPGRADE, "websocket") && has(parts, CONNECTION, "upgrade")
}

/// Whether a header has the word in it.
fn has(parts: &Parts, name: HeaderName, word: &str) -> bool {
    let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.to_ascii_lowercase().contains(word))
}

fn not_websocket(parts: &Parts) -> Refused {
    if !has(parts, UPGRADE, "websocket") {
        Refused::NO_UPGRADE
    } else if !has(parts, CONNECTION, "upgrade") {
        Refused::NO_CONNECTION_UPGRADE
    } else {
        Refused::UPGRADE
    }
}

async fn run(server: &Server, transport: Transport, upgraded: Upgraded, parts: Parts) {
    let live = server.new_live();
    let limit = server.settings.max_body_bytes;
    let config = WebSocketConfig::default()
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0);
    let socket = Metered::new(TokioIo::new(upgraded), &live);
    let socket = Socket::from_raw_socket(socket, Role::Server, Some(config)).await;
    let receiving = live.attach().expect("nobody else knows the session");
    server.open(&live, transport, parts);
    let raw = transport == Transport::RawWebSocket;
    let unread = socket.get_ref().unread();
    let (mut sink, mut stream) = socket.split();
    let (ended, tell) = tokio::select! {
        said = write(&receiving, &mut sink, raw) => (live.ended().unwrap_or(ABNORMAL), said),
        ended = read(server, &live, &mut stream, &unread, raw) => (ended.clone(), Some(ended)),
        () = live.keep_time() => (Ended::STALLED, None),
        () = live.cut_off() => (Ended::STALLED, None),
    };
    live.forget(ended);
    drop(receiving);
    if let Some(ended) = tell {
        // Late, broken or done: in each case there is nothing more to do than to drop it.
        let _ = timeout(LINGER, say_goodbye(sink, stream, &unread, ended)).await;
    }
}

/// Writes frames until the session has ended; then, or if the client is not to be told of an error, says what goes into the Close frame.
async fn write(receiving: &Receiving, sink: &mut SplitSink<Socket, Message>, raw: bool) -> Option<Ended> {
    while let Some(frame) = receiving.next().await {
        let closed = match &frame {
            Frame::Close(ended) => Some(ended.clone()),
            _ => None,
        };
        if raw {
            send_raw(frame, receiving.live(), sink).await.ok()?;
        } else {
            send_framed(frame, receiving.live(), sink).await.ok()?;
        }
        match closed {
            Some(ended) if raw => return Some(ended),
            Some(_) => return Some(Ended::new(CloseCode::Normal.into(), "")),
            None => {}
        }
    }
    None
}

/// A long frame is sent in fragments: it is never in memory as a whole beside its messages. RFC 6455 §5.4
async fn send_framed(
    frame: Frame,
    live: &Arc<Live>,
    sink: &mut SplitSink<Socket, Message>,
) -> Result<(), tungstenite::Error> {
    let mut held = Hold::new(&live.meter);
    let mut encoder = Encoder::new(frame, Form::Json);
    let mut kind = Data::Text;
    loop {
        let mut piece = Vec::new();
        let is_last = encoder.encode(&mut piece, PIECE);
        held.set(encoder.held() + piece.capacity());
        let fragment = WsFrame::message(piece, OpCode::Data(kind), is_last);
        sink.send(Message::Frame(fragment)).await?;
        if is_last {
            return Ok(());
        }
        kind = Data::Continue;
        tokio::task::yield_now().await;
    }
}

/// There is no framing but that of WebSocket, which has pings for heart-beats.
async fn send_raw(
    frame: Frame,
    live: &Arc<Live>,
    sink: &mut SplitSink<Socket, Message>,
) -> Result<(), tungstenite::Error> {
    match frame {
        Frame::Open | Frame::Close(_) => {}
        Frame::Heartbeat => sink.send(Message::Ping(Bytes::new())).await?,
        Frame::Messages(messages) => {
            let mut held = Hold::new(&live.meter);
            // The WebSocket has a copy of each until it is written.
            held.set(2 * messages.iter().map(String::len).sum::<usize>());
            for message in messages {
                sink.feed(Message::text(message)).await?;
            }
            sink.flush().await?;
        }
    }
    Ok(())
}

/// Reads messages until there are none, and says why.
async fn read(
    server: &Server,
    live: &Live,
    stream: &mut SplitStream<Socket>,
    unread: &Unread,
    raw: bool,
) -> Ended {
    let refuse = |refusal, ended| {
        server.counts.add(refusal, 1);
        ended
    };
    loop {
        let text = match stream.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => return refuse(Refusal::Binary, BINARY),
            Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                unread.control_taken(payload.len());
                continue;
            }
            Some(Ok(Message::Frame(_))) => continue,
            Some(Ok(Message::Close(frame))) => return closed_by_client(frame),
            Some(Err(_)) if live.ended() == Some(Ended::NO_MEMORY) => return Ended::NO_MEMORY,
            Some(Err(error)) if unread.is_too_much() || matches!(error, tungstenite::Error::Capacity(_)) => {
                return refuse(Refusal::TooLarge, TOO_LARGE);
            }
            Some(Err(_)) | None => return ABNORMAL,
        };
        unread.taken();
        let messages = if raw {
            Ok(vec![text.as_str().to_owned()])
        } else {
            websocket_messages(&text, server.settings.max_messages)
        };
        drop(text);
        let messages = match messages {
            Ok(messages) => messages,
            Err(MessagesError::TooMany) => return refuse(Refusal::TooManyMessages, TOO_MANY),
            Err(MessagesError::Broken | MessagesError::Empty) => return refuse(Refusal::Payload, BROKEN),
        };
        let mut held = Hold::new(&live.meter);
        held.set(messages.iter().map(String::capacity).sum());
        // Without room nothing is read: the client is held up by TCP. What comes after the end is nobody's, but last words may still be on their way out.
        let _ = live.deliver(messages).await;
    }
}

fn closed_by_client(frame: Option<CloseFrame>) -> Ended {
    match frame {
        Some(frame) => Ended {
            code: frame.code.into(),
            reason: frame.reason.as_str().to_owned().into(),
        },
        None => Ended::new(NO_STATUS, ""),
    }
}

/// Sends a Close frame, or answers the client's, then waits until the client is gone.
async fn say_goodbye(
    mut sink: SplitSink<Socket, Message>,
    mut stream: SplitStream<Socket>,
    unread: &Unread,
    ended: Ended,
) {
    // Codes that stand for the lack of one are not sent. RFC 6455 §7.4.1
    let frame = (![NO_STATUS, ABNORMAL.code].contains(&ended.code)).then(|| {
        let end = ended.reason.floor_char_boundary(MAX_REASON);
        CloseFrame {
            code: ended.code.into(),
            reason: ended.reason[..end].into(),
        }
    });
    // Refused if the client closed first: its answer is ready, and is sent by reading on.
    let _ = sink.send(Message::Close(frame)).await;
    while let Some(Ok(_)) = stream.next().await {
        unread.taken();
    }
}
