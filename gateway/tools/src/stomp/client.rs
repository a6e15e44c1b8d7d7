//! One connection to a STOMP server.

use super::StompError;
use bytes::{Buf, BytesMut};
use headgate_dial::{Dial, Stream};
use headgate_stomp_codec::{Command, Decoder, Frame, Limits, Version, encode};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, sleep_until, timeout};

/// What a server may send.
const LIMITS: Limits = Limits {
    headers: 1_000,
    line_bytes: 64 << 10,
    head_bytes: 1 << 20,
    body_bytes: 256 << 20,
};
/// How long a server may take to answer CONNECT, and DISCONNECT.
const PATIENCE: Duration = Duration::from_secs(15);
/// The other side's clock and network are not ours: so many times its interval is silence. STOMP 1.2, Heart-beating
const TOLERANCE: u32 = 2;
/// The receipt of DISCONNECT. Others are numbers.
const GOODBYE: &str = "goodbye";

/// As whom one connects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Login {
    /// The virtual host.
    pub host: String,
    pub login: Option<String>,
    pub passcode: Option<String>,
    /// For durable subscriptions.
    pub client_id: Option<String>,
    /// How often each side lets the other hear of it; zero for never.
    pub heart_beat: Duration,
}

/// An open connection.
pub(crate) struct StompClient {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    decoder: Decoder,
    version: Version,
    reading: BytesMut,
    writing: BytesMut,
    /// How often we must be heard, and when we were last.
    beats: Option<Duration>,
    sent: Instant,
    /// After so long the server is gone, and when it was heard last.
    silence: Option<Duration>,
    heard: Instant,
}

impl StompClient {
    /// Connects and logs in.
    pub(crate) async fn open(dial: &Dial, login: &Login) -> Result<Self, StompError> {
        let opened = timeout(PATIENCE, Self::open_at_leisure(dial, login)).await;
        opened.unwrap_or_else(|_| {
            Err(StompError::Timeout {
                place: dial.target.place.to_string(),
                within: PATIENCE,
            })
        })
    }

    async fn open_at_leisure(dial: &Dial, login: &Login) -> Result<Self, StompError> {
        let stream = dial.connect(&mut |_| {}).await?.into_stream();
        let (reader, writer) = split(stream);
        let now = Instant::now();
        let mut client = Self {
            reader,
            writer,
            decoder: Decoder::new(LIMITS),
            version: Version::V12,
            reading: BytesMut::new(),
            writing: BytesMut::new(),
            beats: None,
            sent: now,
            silence: None,
            heard: now,
        };
        client.send(&connect(login));
        let connected = client.recv().await?;
        if connected.command != Command::Connected {
            return Err(StompError::Refused(format!(
                "{} instead of CONNECTED",
                connected.command.as_str()
            )));
        }
        let version = connected.get("version").and_then(Version::highest_of);
        client.version = version.unwrap_or(Version::V10);
        client.decoder.set_version(client.version);
        client.agree_on_beats(login.heart_beat, connected.get("heart-beat").unwrap_or("0,0"));
        Ok(client)
    }

    /// STOMP 1.2, Heart-beating: the longer of what one side can do and the other wants; 0 for never.
    fn agree_on_beats(&mut self, ours: Duration, theirs: &str) {
        let mut theirs = theirs.split(',').map(|ms| ms.trim().parse().unwrap_or(0));
        let mut agreed = || {
            let theirs = Duration::from_millis(theirs.next().unwrap_or(0));
            (!ours.is_zero() && !theirs.is_zero()).then(|| ours.max(theirs))
        };
        self.silence = agreed().map(|often| often * TOLERANCE);
        self.beats = agreed();
        (self.sent, self.heard) = (Instant::now(), Instant::now());
    }

    /// The version that both speak.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Queues a frame; [`Self::recv`] writes it.
    pub(crate) fn send(&mut self, frame: &Frame) {
        encode(frame, self.version, &mut self.writing);
    }

    /// Bytes that are not written yet.
    pub(crate) fn unsent(&self) -> usize {
        self.writing.len()
    }

    /// Writes what is queued, keeps the connection alive, and gives the next frame. ERROR is an error. May be dropped and called again.
    pub(crate) async fn recv(&mut self) -> Result<Frame, StompError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.reading)? {
                return match frame.command {
                    Command::Error => Err(StompError::of(&frame)),
                    _ => Ok(frame),
                };
            }
            let beat = self.beats.map(|often| self.sent + often);
            let end = self.silence.map(|long| self.heard + long);
            tokio::select! {
                read = self.reader.read_buf(&mut self.reading) => {
                    if read? == 0 {
                        return Err(StompError::Closed);
                    }
                    self.heard = Instant::now();
                }
                written = self.writer.write(&self.writing), if !self.writing.is_empty() => {
                    self.writing.advance(written?);
                    self.writer.flush().await?;
                    self.sent = Instant::now();
                }
                () = sleep_until(beat.unwrap_or(self.sent)), if beat.is_some() && self.writing.is_empty() => {
                    self.writing.extend_from_slice(b"\n");
                }
                () = sleep_until(end.unwrap_or(self.heard)), if end.is_some() => {
                    return Err(StompError::Silent(self.silence.unwrap_or_default()));
                }
            }
        }
    }

    /// STOMP 1.2, DISCONNECT: all that was sent before has arrived when the receipt comes.
    pub(crate) async fn close(mut self) -> Result<(), StompError> {
        self.send(&Frame::new(Command::Disconnect).with("receipt", GOODBYE));
        let farewell = async {
            loop {
                match self.recv().await {
                    Ok(frame) if frame.get("receipt-id") == Some(GOODBYE) => return Ok(()),
                    Ok(_) => {}
                    Err(StompError::Closed) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        timeout(PATIENCE, farewell).await.unwrap_or(Ok(()))
    }
}

/// CONNECT, which servers of 1.0 know too. STOMP 1.2, CONNECT or STOMP Frame
fn connect(login: &Login) -> Frame {
    let ms = login.heart_beat.as_millis();
    let mut frame = Frame::new(Command::Connect)
        .with("accept-version", "1.0,1.1,1.2")
        .with("host", login.host.clone())
        .with("heart-beat", format!("{ms},{ms}"));
    let given = [
        ("login", &login.login),
        ("passcode", &login.passcode),
        ("client-id", &login.client_id),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            frame = frame.with(name, value.clone());
        }
    }
    frame
}
