//! WebSocket, with SockJS frames and raw. A session lives as long as its WebSocket, so session ids say nothing here.

use crate::frame::{Frame, MessagesError, websocket_messages};
use crate::http::{Server, peer};
use crate::live::{Live, Receiving};
use crate::refusal::{Refusal, Refused};
use crate::route::Transport;
use crate::session::Ended;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

/// How long a peer may take to close.
const LINGER: Duration = Duration::from_secs(2);
/// Read at a time; a WebSocket holds as much while it lives.
const READ_BUFFER: usize = 4 << 10;
/// Bytes of a reason in a Close frame. RFC 6455 §5.5
const MAX_REASON: usize = 123;

/// The client is gone, and said nothing. RFC 6455 §7.4.1
const ABNORMAL: Ended = Ended::new(1006, "Connection lost");
const BINARY: Ended = Ended::new(1003, "Only text is accepted");
const BROKEN: Ended = Ended::new(1007, "Broken JSON encoding");
const TOO_LARGE: Ended = Ended::new(1009, "Message too large");
const TOO_MANY: Ended = Ended::new(1009, "Too many messages");

/// A request for a WebSocket.
pub(crate) async fn upgrade(server: &Arc<Server>, transport: Transport, mut parts: Parts) -> Response {
    let limit = server.settings.max_body_bytes;
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(_) => return server.refuse(not_websocket(&parts)),
    };
    let place = match server.table.place(peer(&parts)) {
        Ok(place) => place,
        Err(refused) => return server.refuse(refused),
    };
    let upgrade = match transport {
        Transport::RawWebSocket => upgrade.protocols(server.settings.subprotocols.iter().copied()),
        _ => upgrade,
    };
    let server = Arc::clone(server);
    upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .on_upgrade(move |socket| async move {
            run(&server, transport, socket, parts).await;
            drop(place);
        })
}

fn not_websocket(parts: &Parts) -> Refused {
    let has = |name, word: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    if !has(UPGRADE, "websocket") {
        Refused::NO_UPGRADE
    } else if !has(CONNECTION, "upgrade") {
        Refused::NO_CONNECTION_UPGRADE
    } else {
        Refused::UPGRADE
    }
}

async fn run(server: &Server, transport: Transport, socket: WebSocket, parts: Parts) {
    let live = server.new_live();
    let receiving = live.attach().expect("nobody else knows the session");
    server.open(&live, transport, parts);
    let raw = transport == Transport::RawWebSocket;
    let (mut sink, mut stream) = socket.split();
    let (ended, tell) = tokio::select! {
        said = write(&receiving, &mut sink, raw) => (live.ended().unwrap_or(ABNORMAL), said),
        ended = read(server, &live, &mut stream, raw) => (ended.clone(), Some(ended)),
        () = live.keep_time() => (Ended::STALLED, None),
        () = live.cut_off() => (Ended::STALLED, None),
    };
    live.forget(ended);
    drop(receiving);
    if let Some(ended) = tell {
        // Late, broken or done: in each case there is nothing more to do than to drop it.
        let _ = timeout(LINGER, say_goodbye(sink, stream, ended)).await;
    }
}

/// Writes frames until the session has ended; then, or if the client is not to be told of an error, says what goes into the Close frame.
async fn write(receiving: &Receiving, sink: &mut SplitSink<WebSocket, Message>, raw: bool) -> Option<Ended> {
    while let Some(frame) = receiving.next().await {
        let closed = match &frame {
            Frame::Close(ended) => Some(ended.clone()),
            _ => None,
        };
        if raw {
            send_raw(frame, sink).await.ok()?;
        } else {
            sink.send(Message::text(frame.text())).await.ok()?;
        }
        match closed {
            Some(ended) if raw => return Some(ended),
            Some(_) => return Some(Ended::new(close_code::NORMAL, "")),
            None => {}
        }
    }
    None
}

/// There is no framing but that of WebSocket, which has pings for heart-beats.
async fn send_raw(frame: Frame, sink: &mut SplitSink<WebSocket, Message>) -> Result<(), axum::Error> {
    match frame {
        Frame::Open | Frame::Close(_) => {}
        Frame::Heartbeat => sink.send(Message::Ping(Bytes::new())).await?,
        Frame::Messages(messages) => {
            for message in messages {
                sink.feed(Message::text(message)).await?;
            }
            sink.flush().await?;
        }
    }
    Ok(())
}

/// Reads messages until there are none, and says why.
async fn read(server: &Server, live: &Live, stream: &mut SplitStream<WebSocket>, raw: bool) -> Ended {
    let refuse = |refusal, ended| {
        server.counts.add(refusal, 1);
        ended
    };
    loop {
        let text = match stream.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => return refuse(Refusal::Binary, BINARY),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(frame))) => return closed_by_client(frame),
            Some(Err(error)) if is_too_large(&error) => return refuse(Refusal::TooLarge, TOO_LARGE),
            Some(Err(_)) | None => return ABNORMAL,
        };
        let messages = if raw {
            Ok(vec![text.as_str().to_owned()])
        } else {
            websocket_messages(&text, server.settings.max_messages)
        };
        let messages = match messages {
            Ok(messages) => messages,
            Err(MessagesError::TooMany) => return refuse(Refusal::TooManyMessages, TOO_MANY),
            Err(MessagesError::Broken | MessagesError::Empty) => return refuse(Refusal::Payload, BROKEN),
        };
        // Without room nothing is read: the client is held up by TCP. What comes after the end is nobody's, but last words may still be on their way out.
        let _ = live.deliver(messages).await;
    }
}

fn closed_by_client(frame: Option<CloseFrame>) -> Ended {
    match frame {
        Some(frame) => Ended {
            code: frame.code,
            reason: frame.reason.as_str().to_owned().into(),
        },
        None => Ended::new(close_code::STATUS, ""),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(tungstenite::Error::Capacity(_)) = error.downcast_ref() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Sends a Close frame, or answers the client's, then waits until the client is gone.
async fn say_goodbye(
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    ended: Ended,
) {
    // Codes that stand for the lack of one are not sent. RFC 6455 §7.4.1
    let frame = (![close_code::STATUS, ABNORMAL.code].contains(&ended.code)).then(|| {
        let end = ended.reason.floor_char_boundary(MAX_REASON);
        CloseFrame {
            code: ended.code,
            reason: ended.reason[..end].into(),
        }
    });
    // Refused if the client closed first: its answer is ready, and is sent by reading on.
    let _ = sink.send(Message::Close(frame)).await;
    while let Some(Ok(_)) = stream.next().await {}
}
