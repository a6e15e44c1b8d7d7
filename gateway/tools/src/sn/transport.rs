//! Messages over UDP or a serial line.
//!
//! Always true: a future that is dropped while it waits has lost no message, and has not written half of one.

use super::{SnError, SnTarget};
use bytes::{Bytes, BytesMut};
use headgate_mqttsn_codec::serial::{HdlcFramer, LengthFramer, put_hdlc};
use headgate_mqttsn_codec::{MAX_LEN, Message, decode, encode};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio_serial::SerialPortBuilderExt;

/// Bytes of a serial line that are read at a time.
const CHUNK: usize = 512;

/// A frame whose next byte does not come for so long is none.
const SILENCE: Duration = Duration::from_millis(500);

/// The way to one gateway.
pub(crate) struct SnTransport {
    place: String,
    way: Way,
}

enum Way {
    Udp {
        socket: UdpSocket,
        buffer: Vec<u8>,
        /// Waiting to be sent.
        output: VecDeque<Bytes>,
    },
    Serial {
        line: Box<dyn Line>,
        framer: Framer,
        /// Waiting to be written.
        output: BytesMut,
    },
}

/// A serial line, or what stands for one.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Line for T {}

enum Framer {
    Length(LengthFramer),
    Hdlc(HdlcFramer),
}

impl SnTransport {
    /// Opens socket or line. Nothing is sent.
    pub(crate) async fn open(target: &SnTarget) -> Result<Self, SnError> {
        let place = target.to_string();
        match target {
            SnTarget::Udp(host, port) => {
                let resolve = |cause| SnError::Resolve {
                    host: host.clone(),
                    cause,
                };
                let mut addresses = tokio::net::lookup_host((host.as_str(), *port))
                    .await
                    .map_err(resolve)?;
                let address = addresses
                    .next()
                    .ok_or_else(|| resolve(ErrorKind::NotFound.into()))?;
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let open = async {
                    let socket = UdpSocket::bind(any).await?;
                    socket.connect(address).await?;
                    Ok(socket)
                };
                let socket = open.await.map_err(|cause| SnError::Open {
                    place: place.clone(),
                    cause,
                })?;
                let way = Way::Udp {
                    socket,
                    buffer: vec![0; MAX_LEN],
                    output: VecDeque::new(),
                };
                Ok(Self { place, way })
            }
            SnTarget::Serial(line, hdlc) => {
                let line = line
                    .builder()
                    .open_native_async()
                    .map_err(|error| SnError::Open {
                        place: place.clone(),
                        cause: error.into(),
                    })?;
                Ok(Self::serial(place, Box::new(line), *hdlc))
            }
        }
    }

    /// A line that is open.
    pub(crate) fn serial(place: String, line: Box<dyn Line>, hdlc: bool) -> Self {
        let framer = if hdlc {
            Framer::Hdlc(HdlcFramer::new(MAX_LEN))
        } else {
            Framer::Length(LengthFramer::new(MAX_LEN))
        };
        let way = Way::Serial {
            line,
            framer,
            output: BytesMut::new(),
        };
        Self { place, way }
    }

    /// What it is called where people read it.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Takes a message; [`Self::flush`] sends it.
    pub(crate) fn push(&mut self, message: &Message) -> Result<(), SnError> {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes)?;
        match &mut self.way {
            Way::Udp { output, .. } => output.push_back(bytes.freeze()),
            Way::Serial { framer, output, .. } => match framer {
                Framer::Length(_) => output.extend_from_slice(&bytes),
                Framer::Hdlc(_) => put_hdlc(&bytes, output),
            },
        }
        Ok(())
    }

    /// Sends what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), SnError> {
        match &mut self.way {
            Way::Udp { socket, output, .. } => {
                while let Some(datagram) = output.front() {
                    let sent = socket.send(datagram).await;
                    output.pop_front();
                    sent.map(drop).or_else(|cause| passing(&self.place, cause))?;
                }
            }
            Way::Serial { line, output, .. } => {
                while !output.is_empty() {
                    let written = line.write_buf(output).await;
                    written.map_err(|cause| broken(&self.place, cause))?;
                }
            }
        }
        Ok(())
    }

    /// The next message. What is none is passed over.
    pub(crate) async fn recv(&mut self) -> Result<Message, SnError> {
        loop {
            let datagram = match &mut self.way {
                Way::Udp { socket, buffer, .. } => match socket.recv(buffer).await {
                    Ok(len) => Bytes::copy_from_slice(&buffer[..len]),
                    Err(cause) => {
                        passing(&self.place, cause)?;
                        continue;
                    }
                },
                Way::Serial { line, framer, .. } => {
                    let frame = next_frame(line, framer).await;
                    frame.map_err(|cause| broken(&self.place, cause))?
                }
            };
            if let Ok(message) = decode(&datagram) {
                return Ok(message);
            }
        }
    }
}

async fn next_frame(line: &mut Box<dyn Line>, framer: &mut Framer) -> io::Result<Bytes> {
    loop {
        if let Some(frame) = framer.next_frame() {
            return Ok(frame);
        }
        let mut bytes = [0; CHUNK];
        match tokio::time::timeout(SILENCE, line.read(&mut bytes)).await {
            Ok(Ok(0)) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => framer.push(&bytes[..read?]),
            Err(_) => framer.on_silence(),
        }
    }
}

impl Framer {
    fn next_frame(&mut self) -> Option<Bytes> {
        match self {
            Self::Length(framer) => framer.next_frame(),
            Self::Hdlc(framer) => framer.next_frame(),
        }
    }

    /// No more than [`CHUNK`] bytes, which is less than a framer takes at a time: all whole frames were taken out before.
    fn push(&mut self, bytes: &[u8]) {
        let taken = match self {
            Self::Length(framer) => framer.push(bytes),
            Self::Hdlc(framer) => framer.push(bytes),
        };
        debug_assert_eq!(taken, bytes.len());
    }

    fn on_silence(&mut self) {
        if let Self::Length(framer) = self {
            framer.on_silence();
        }
    }
}

/// UDP tells of an earlier datagram that nobody took it: whether somebody comes back is for whoever waits to decide.
fn passing(place: &str, cause: io::Error) -> Result<(), SnError> {
    match cause.kind() {
        ErrorKind::ConnectionRefused => Err(SnError::NobodyThere(place.to_owned())),
        ErrorKind::Interrupted => Ok(()),
        _ => Err(broken(place, cause)),
    }
}

fn broken(place: &str, cause: io::Error) -> SnError {
    SnError::Broken {
        place: place.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_mqttsn_codec::ReturnCode;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    /// What one end sends the other receives, in both framings, with noise of the line in front.
    #[test]
    fn a_line_carries_messages() {
        for hdlc in [false, true] {
            runtime().block_on(async {
                let (here, mut there) = tokio::io::duplex(64);
                let mut transport = SnTransport::serial("line".into(), Box::new(here), hdlc);
                let mut bytes = BytesMut::new();
                encode(&Message::ConnAck(ReturnCode::Congestion), &mut bytes).unwrap();
                let mut framed = BytesMut::from(&b"\xff\xff"[..]);
                if hdlc {
                    put_hdlc(&bytes, &mut framed);
                } else {
                    framed.extend_from_slice(&bytes);
                }
                there.write_all(&framed).await.unwrap();
                assert_eq!(
                    transport.recv().await.unwrap(),
                    Message::ConnAck(ReturnCode::Congestion)
                );
                transport.push(&Message::PingResp).unwrap();
                transport.flush().await.unwrap();
                let mut raw = [0; 16];
                let len = there.read(&mut raw).await.unwrap();
                let mut expected = BytesMut::new();
                if hdlc {
                    put_hdlc(&[2, 0x17], &mut expected);
                } else {
                    expected.extend_from_slice(&[2, 0x17]);
                }
                assert_eq!(raw[..len], expected[..]);
                drop(there);
                assert!(matches!(transport.recv().await, Err(SnError::Broken { .. })));
            });
        }
    }

    /// A real terminal, in raw mode: no byte is taken for a control character, in either direction.
    #[test]
    fn a_terminal_is_a_line() {
        runtime().block_on(async {
            let (there, here) = tokio_serial::SerialStream::pair().unwrap();
            let mut ends = [there, here].map(|end| SnTransport::serial("pty".into(), Box::new(end), false));
            for way in 0..2 {
                for byte in 0..=255_u8 {
                    let message = Message::WillMsg(vec![byte; 9].into());
                    ends[way].push(&message).unwrap();
                    ends[way].flush().await.unwrap();
                    assert_eq!(ends[1 - way].recv().await.unwrap(), message);
                }
            }
        });
    }

    #[test]
    fn a_port_that_nobody_listens_at_is_named() {
        runtime().block_on(async {
            let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = taken.local_addr().unwrap().port();
            drop(taken);
            let mut transport = SnTransport::open(&SnTarget::Udp("127.0.0.1".into(), port))
                .await
                .unwrap();
            transport.push(&Message::SearchGw { radius: 0 }).unwrap();
            transport.flush().await.unwrap();
            let error = transport.recv().await.unwrap_err().to_string();
            assert_eq!(error, format!("nothing listens at 127.0.0.1:{port}"));
        });
    }
}
