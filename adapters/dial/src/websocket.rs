//! WebSocket, the client's side: a task between a pipe and the server. MQTT 5 §6

use super::target::Target;
use super::{DialError, Stream};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Bytes between us and the task that speaks WebSocket.
const PIPE: usize = 64 * 1024;

/// Opens a WebSocket with the subprotocols of the target.
pub(super) async fn open(
    below: Box<dyn Stream>,
    target: &Target,
    path: &str,
) -> Result<DuplexStream, DialError> {
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
    let (ours, theirs) = tokio::io::duplex(PIPE);
    tokio::spawn(pump(websocket, theirs));
    Ok(ours)
}

/// Carries bytes both ways until both sides are done. MQTT packets and frames need not match \[MQTT-6.0.0-2\].
async fn pump(websocket: WebSocketStream<Box<dyn Stream>>, pipe: DuplexStream) {
    let (mut to_server, mut from_server) = websocket.split();
    let (mut from_us, mut to_us) = tokio::io::split(pipe);
    let up = async {
        let mut bytes = BytesMut::with_capacity(PIPE);
        while from_us.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) {
            let frame: Bytes = bytes.split().freeze();
            if to_server.send(Message::Binary(frame)).await.is_err() {
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
