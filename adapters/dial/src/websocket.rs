//! WebSocket, the client's side: a task between a pipe and the server. MQTT 5 §6

use super::target::Target;
use super::{DialError, Stream};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Bytes between us and the task that speaks WebSocket.
const PIPE: usize = 64 * 1024;

/// Opens a WebSocket with the subprotocols of the target.
pub(super) async fn open(below: Box<dyn Stream>, target: &Target, path: &str) -> Result<Piped, DialError> {
    let failed = |error: tokio_tungstenite::tungstenite::Error| DialError::WebSocket {
        place: target.place.to_string(),
        cause: error.to_string(),
    };
    let scheme = if target.tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{path}", target.place);
    let mut request = url.into_client_request().map_err(failed)?;
    let protocol = HeaderValue::from_static(target.subprotocols);
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let opened = tokio_tungstenite::client_async(request, below).await;
    let (websocket, _) = opened.map_err(failed)?;
    let (pipe, theirs) = tokio::io::duplex(PIPE);
    let goodbye = Arc::<OnceLock<String>>::default();
    tokio::spawn(pump(websocket, theirs, target.is_text, Arc::clone(&goodbye)));
    Ok(Piped { pipe, goodbye })
}

/// A WebSocket as a stream of bytes. Where the server closed it and says what is wrong, its end is an error that says so.
#[derive(Debug)]
pub struct Piped {
    pipe: DuplexStream,
    goodbye: Arc<OnceLock<String>>,
}

impl Piped {
    /// The bytes alone: the end is an end.
    pub fn into_pipe(self) -> DuplexStream {
        self.pipe
    }
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        match self.goodbye.get() {
            Some(said) if buf.filled().len() == before && buf.remaining() > 0 => {
                Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionAborted, said.clone())))
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Piped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Carries bytes both ways until both sides are done. MQTT packets and frames need not match \[MQTT-6.0.0-2\].
async fn pump(
    websocket: WebSocketStream<Box<dyn Stream>>,
    pipe: DuplexStream,
    is_text: bool,
    goodbye: Arc<OnceLock<String>>,
) {
    let (mut to_server, mut from_server) = websocket.split();
    let (mut from_us, mut to_us) = tokio::io::split(pipe);
    let up = async {
        let mut bytes = BytesMut::with_capacity(PIPE);
        while from_us.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) {
            let Some(message) = message(&mut bytes, is_text) else {
                continue;
            };
            if to_server.send(message).await.is_err() {
                return;
            }
        }
        let _ = to_server.close().await;
    };
    let down = async {
        while let Some(Ok(message)) = from_server.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                // As STOMP has it, where servers choose by what is in a message.
                Message::Text(text) => text.into(),
                Message::Close(Some(said)) if !is_harmless(said.code) => {
                    let said = format!(
                        "the server closed the WebSocket: {} {}",
                        u16::from(said.code),
                        said.reason
                    );
                    let _ = goodbye.set(said.trim_end().to_owned());
                    continue;
                }
                _ => continue,
            };
            if to_us.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // We see the end of the stream, whatever ended it.
        let _ = to_us.shutdown().await;
    };
    tokio::join!(up, down);
}

/// What is to be sent of these bytes; a character that is cut waits for its rest. RFC 6455 §5.6
fn message(bytes: &mut BytesMut, is_text: bool) -> Option<Message> {
    if !is_text {
        return Some(Message::Binary(bytes.split().freeze()));
    }
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        Err(cut) if cut.error_len().is_none() => cut.valid_up_to(),
        Err(_) => return Some(Message::Binary(bytes.split().freeze())),
    };
    let text = Utf8Bytes::try_from(bytes.split_to(whole).freeze()).ok()?;
    (whole > 0).then_some(Message::Text(text))
}

/// An end that says nothing of a fault. RFC 6455 §7.4.1
fn is_harmless(code: CloseCode) -> bool {
    matches!(code, CloseCode::Normal | CloseCode::Away | CloseCode::Status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_utf_8_is_text_and_no_character_is_cut() {
        let mut bytes = BytesMut::from("a\u{fc}".as_bytes());
        let cut = bytes.split_off(2);
        assert_eq!(message(&mut bytes, true), Some(Message::text("a")));
        assert_eq!(message(&mut bytes, true), None);
        bytes.unsplit(cut);
        assert_eq!(message(&mut bytes, true), Some(Message::text("\u{fc}")));
        bytes.extend_from_slice(b"a\xff");
        assert_eq!(message(&mut bytes, true), Some(Message::binary(&b"a\xff"[..])));
        bytes.extend_from_slice(b"a");
        assert_eq!(message(&mut bytes, false), Some(Message::binary(&b"a"[..])));
        assert!(bytes.is_empty());
    }
}
