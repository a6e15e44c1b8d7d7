//! Packets to and from a server, and the keep alive between them.

use super::ClientError;
use super::error::Reason;
use bytes::{Buf, BytesMut};
use headgate_dial::{Dial, Step, Stream};
use headgate_mqtt_codec::{
    ConnAck, Connect, Decoder, Disconnect, MAX_PACKET_SIZE, Packet, ReasonCode, Utf8, Version, encode,
};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};

/// For the network, TLS, WebSocket and CONNACK together.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// How long the server may take to close after our DISCONNECT.
const FAREWELL: Duration = Duration::from_secs(3);

/// What is told of a Reason String. \[MQTT-3.2.2-19\] lets it have 64 KiB.
const MAX_WORDS_CHARS: usize = 500;

/// A connection after CONNACK.
pub struct Client {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
    /// Something was written and not yet flushed.
    unflushed: bool,
    decoder: Decoder,
    version: Version,
    keep_alive: Option<Duration>,
    /// When PINGREQ is due, or when PINGRESP is overdue.
    wake: Instant,
    pinged: bool,
}

/// How an alert of TLS begins: its content type, and the version's first byte. RFC 8446 §5.1
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

impl Client {
    /// Connects and waits to be let in.
    pub async fn open(dial: &Dial, connect: &Connect) -> Result<(Self, ConnAck), ClientError> {
        Self::open_telling(dial, connect, &mut |_| {}).await
    }

    /// The same; tells `on_step` how far it is.
    pub async fn open_telling(
        dial: &Dial,
        connect: &Connect,
        on_step: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(Self, ConnAck), ClientError> {
        let opening = async {
            let stream = dial.connect(on_step).await?.into_stream();
            let mut client = Self::new(stream, connect);
            let connack = client.greet(connect).await?;
            Ok((client, connack))
        };
        let opened = timeout(CONNECT_TIME, opening).await;
        opened.unwrap_or_else(|_| {
            Err(ClientError::Timeout {
                place: dial.target.place.to_string(),
                within: CONNECT_TIME,
            })
        })
    }

    fn new(stream: Box<dyn Stream>, connect: &Connect) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            decoder: Decoder::client(connect.version, MAX_PACKET_SIZE),
            version: connect.version,
            keep_alive: None,
            wake: Instant::now(),
            pinged: false,
        }
    }

    async fn greet(&mut self, connect: &Connect) -> Result<ConnAck, ClientError> {
        self.send(&Packet::Connect(Box::new(connect.clone())));
        let answer = self.recv().await;
        let answer = answer.map_err(|error| match error {
            ClientError::Protocol(_) if self.input.starts_with(&TLS_ALERT) => ClientError::SpeaksTls,
            ClientError::Protocol(cause) => ClientError::Greeting {
                cause,
                version: self.version,
            },
            ClientError::Disconnected(reason) => ClientError::Refused(reason),
            error => error,
        })?;
        let Packet::ConnAck(connack) = answer else {
            return Err(ClientError::Lacks(format!(
                "answered CONNECT with {}",
                answer.packet_type()
            )));
        };
        if connack.code != ReasonCode::Success {
            return Err(ClientError::Refused(Reason {
                code: connack.code,
                text: words(connack.properties.reason_string.as_ref()),
            }));
        }
        // [MQTT-3.1.2-21]
        let seconds = connack.properties.server_keep_alive.unwrap_or(connect.keep_alive);
        self.keep_alive = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        self.stay_alive();
        Ok(*connack)
    }

    /// Puts a packet on its way; it is written while a packet is awaited, or by [`Client::close`].
    pub fn send(&mut self, packet: &Packet) {
        encode(packet, self.version, &mut self.output);
        self.unflushed = true;
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.output.len()
    }

    /// The next packet that is not about keeping alive. May be dropped at any time.
    pub async fn recv(&mut self) -> Result<Packet, ClientError> {
        loop {
            match self.decoder.decode(&mut self.input)? {
                Some(Packet::PingResp) => self.stay_alive(),
                Some(Packet::Disconnect(disconnect)) => return Err(farewell(&disconnect)),
                Some(packet) => return Ok(packet),
                None => self.turn().await?,
            }
        }
    }

    /// One step of reading, writing or keeping alive.
    async fn turn(&mut self) -> Result<(), ClientError> {
        let unflushed = self.unflushed;
        tokio::select! {
            read = self.reader.read_buf(&mut self.input) => match read {
                Ok(0) => Err(ClientError::Closed),
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ClientError::Closed),
                Err(error) => Err(ClientError::Broken(error)),
            },
            written = write(&mut self.writer, &mut self.output), if unflushed => {
                self.unflushed = !written.map_err(ClientError::Broken)?;
                if !self.pinged {
                    self.stay_alive();
                }
                Ok(())
            }
            () = sleep_until(self.wake), if self.keep_alive.is_some() => self.ping(),
        }
    }

    fn ping(&mut self) -> Result<(), ClientError> {
        let patience = self.keep_alive.unwrap_or_default();
        if self.pinged {
            return Err(ClientError::Silent(patience));
        }
        self.send(&Packet::PingReq);
        self.pinged = true;
        self.wake = Instant::now() + patience;
        Ok(())
    }

    fn stay_alive(&mut self) {
        self.pinged = false;
        // Early enough to arrive in time. [MQTT-3.1.2-20]
        self.wake = Instant::now() + self.keep_alive.unwrap_or_default().mul_f32(0.9);
    }

    /// Writes what waits, says goodbye and lets the server close.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.send(&Packet::Disconnect(Disconnect::default()));
        while self.unflushed {
            let written = write(&mut self.writer, &mut self.output).await;
            self.unflushed = !written.map_err(ClientError::Broken)?;
        }
        let leaving = async {
            self.writer.shutdown().await?;
            while self.reader.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            io::Result::Ok(())
        };
        // Everything was written: how the server takes its leave does not matter.
        let _ = timeout(FAREWELL, leaving).await;
        Ok(())
    }
}

/// Writes some; `true` when all is written and flushed. Dropped at any time it has taken from `output` what it wrote.
async fn write(writer: &mut WriteHalf<Box<dyn Stream>>, output: &mut BytesMut) -> io::Result<bool> {
    if output.has_remaining() {
        return match writer.write_buf(output).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(false),
        };
    }
    writer.flush().await?;
    Ok(true)
}

fn farewell(disconnect: &Disconnect) -> ClientError {
    let text = disconnect
        .properties
        .as_ref()
        .and_then(|p| p.reason_string.as_ref());
    ClientError::Disconnected(Reason {
        code: disconnect.reason,
        text: words(text),
    })
}

/// The server's words, if any; very long ones are cut.
pub(crate) fn words(text: Option<&Utf8>) -> Option<String> {
    let text = text?.as_str();
    Some(match text.char_indices().nth(MAX_WORDS_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    })
}
