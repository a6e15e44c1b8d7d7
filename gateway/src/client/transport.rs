//! From a target to a stream of bytes, whatever lies between.

use super::target::{Place, Target};
use super::{ClientError, TlsFiles, tls};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Any stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Bytes between us and the task that speaks WebSocket.
const PIPE: usize = 64 * 1024;

/// Connects, with all the layers.
pub async fn connect(target: &Target, files: &TlsFiles) -> Result<Box<dyn Stream>, ClientError> {
    let plain = socket(&target.place).await?;
    let secured = if target.tls {
        secure(plain, target, files).await?
    } else {
        plain
    };
    match &target.websocket {
        Some(path) => websocket(secured, target, path).await,
        None => Ok(secured),
    }
}

async fn socket(place: &Place) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |cause| ClientError::Connect {
        place: place.to_string(),
        cause,
    };
    match place {
        Place::Host(host, port) => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            let found = found.map_err(|cause| ClientError::Resolve {
                host: host.clone(),
                cause,
            })?;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in found {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true).map_err(failed)?;
                        return Ok(Box::new(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(failed(last))
        }
        #[cfg(unix)]
        Place::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path).await;
            Ok(Box::new(stream.map_err(failed)?))
        }
        #[cfg(not(unix))]
        Place::Unix(_) => Err(failed(io::ErrorKind::Unsupported.into())),
    }
}

async fn secure(
    plain: Box<dyn Stream>,
    target: &Target,
    files: &TlsFiles,
) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |cause: String| ClientError::Tls {
        place: target.place.to_string(),
        cause,
    };
    let Place::Host(host, _) = &target.place else {
        return Err(failed("it needs a host name".into()));
    };
    let name = ServerName::try_from(host.clone()).map_err(|e| failed(e.to_string()))?;
    let connector = TlsConnector::from(Arc::new(files.config()?));
    let stream = connector.connect(name, plain).await;
    Ok(Box::new(stream.map_err(|e| failed(tls::explain(&e)))?))
}

async fn websocket(
    below: Box<dyn Stream>,
    target: &Target,
    path: &str,
) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |error: tokio_tungstenite::tungstenite::Error| ClientError::WebSocket {
        place: target.place.to_string(),
        cause: error.to_string(),
    };
    let scheme = if target.tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{path}", target.place);
    let mut request = url.into_client_request().map_err(failed)?;
    // [MQTT-6.0.0-3]
    let protocol = HeaderValue::from_static("mqtt");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let opened = tokio_tungstenite::client_async(request, below).await;
    let (websocket, _) = opened.map_err(failed)?;
    let (ours, theirs) = tokio::io::duplex(PIPE);
    tokio::spawn(pump(websocket, theirs));
    Ok(Box::new(ours))
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
            if let Message::Binary(bytes) = message
                && to_us.write_all(&bytes).await.is_err()
            {
                break;
            }
        }
        // We see the end of the stream, whatever ended it.
        let _ = to_us.shutdown().await;
    };
    tokio::join!(up, down);
}
