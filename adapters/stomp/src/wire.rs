//! The codec of one STOMP link, as the shell wants it: bytes in, [`Received`] out; [`Sent`] in, bytes out.

use crate::headers::write_message;
use crate::settings::StompSettings;
use crate::subscriptions::AckId;
use crate::trace;
use bytes::{BufMut, BytesMut};
use headgate_model::trace::PacketTrace;
use headgate_model::{Message, Wire};
use headgate_stomp_codec::{Command, DecodeError, Decoder, Frame, Text, Version, encode};
use std::sync::Arc;

/// What came from the client.
#[derive(Debug)]
pub enum Received {
    /// A frame.
    Frame(Frame),
    /// Line ends between frames, or a part of a frame: the client is alive. Only where heart-beats were agreed upon. STOMP 1.2, Heart-beating.
    Activity,
    /// Bytes that are no frame; the last thing that comes. And what its RECEIPT was to be called, as far as that is known.
    Malformed(DecodeError, Option<Text>),
}

/// What goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// CONNECTED: frames are of its version from now on.
    Connected {
        /// The version agreed upon.
        version: Version,
        /// The frame.
        frame: Frame,
        /// The endpoint wants to know of every sign of life.
        listens: bool,
    },
    /// RECEIPT or ERROR.
    Frame(Version, Frame),
    /// MESSAGE.
    Message(Outgoing),
    /// A line end. STOMP 1.2, Heart-beating.
    HeartBeat,
}

/// A MESSAGE on its way out: the shared message, and what differs for this subscription.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Of the connection.
    pub(crate) version: Version,
    /// What is delivered.
    pub(crate) message: Arc<Message>,
    /// Length of the listener's mount point, taken off the topic.
    pub(crate) unmount: usize,
    /// As in SUBSCRIBE; `None` if it said none, as in STOMP 1.0.
    pub(crate) subscription: Option<Text>,
    /// Names it in `message-id` and `ack`.
    pub(crate) id: AckId,
    /// The client is to acknowledge it.
    pub(crate) wants_ack: bool,
    /// It was retained before the subscription came.
    pub(crate) retain: bool,
    /// It may have been sent before.
    pub(crate) redelivered: bool,
    /// Seconds left of the message's lifetime.
    pub(crate) expiry: Option<u64>,
}

/// The codec of one link.
#[derive(Debug)]
pub struct StompWire {
    settings: Arc<StompSettings>,
    decoder: Decoder,
    /// After malformed bytes nothing more is read.
    failed: bool,
    /// See [`Sent::Connected`].
    listens: bool,
    /// Bytes that were in the buffer when it was looked at last.
    seen: usize,
}

impl StompWire {
    /// For a fresh connection.
    pub fn new(settings: Arc<StompSettings>) -> Self {
        let decoder = Decoder::new(settings.limits());
        Self {
            settings,
            decoder,
            failed: false,
            listens: false,
            seen: 0,
        }
    }
}

/// Whether the first frame is CONNECT or STOMP, or may still become one.
fn may_be_connect(bytes: &[u8]) -> bool {
    let begins = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let frame = &bytes[begins.unwrap_or(bytes.len())..];
    [&b"CONNECT"[..], b"STOMP"]
        .iter()
        .any(|command| frame.starts_with(command) || command.starts_with(frame))
}

/// What came in the place of CONNECT: other protocols are told by their first bytes.
fn what_else(bytes: &[u8]) -> DecodeError {
    const METHODS: [&[u8]; 6] = [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE "];
    let name = match bytes {
        _ if METHODS.iter().any(|method| bytes.starts_with(method)) => "HTTP",
        [0x16, 3, ..] => "TLS",
        // CONNECT, a length, and the name of the protocol. MQTT 5 §3.1.2.1
        [0x10, rest @ ..] if rest.windows(2).take(6).any(|name| name == b"MQ") => "MQTT",
        _ => return DecodeError::NotConnected,
    };
    DecodeError::OtherProtocol(name)
}

impl Wire for StompWire {
    type In = Received;
    type Out = Sent;

    fn decode(&mut self, bytes: &mut BytesMut) -> Option<Received> {
        if self.failed {
            bytes.clear();
            return None;
        }
        let (before, beats) = (self.seen, self.decoder.heart_beats());
        let came = bytes.len() > before;
        let may_come = self.decoder.version().is_some() || self.decoder.awaits_body();
        let decoded = match may_come || may_be_connect(bytes) {
            true => self.decoder.decode(bytes),
            // Nothing of it is waited for, and nothing kept.
            false => Err(what_else(bytes)),
        };
        self.seen = bytes.len();
        match decoded {
            Ok(Some(frame)) => Some(Received::Frame(frame)),
            Ok(None) => {
                let alive = came || self.decoder.heart_beats() > beats;
                (alive && self.listens).then_some(Received::Activity)
            }
            Err(error) => {
                self.failed = true;
                Some(Received::Malformed(error, self.decoder.receipt().cloned()))
            }
        }
    }

    fn encode(&mut self, frame: Sent, bytes: &mut BytesMut) {
        match frame {
            Sent::Connected {
                version,
                frame,
                listens,
            } => {
                self.decoder.set_version(version);
                self.listens = listens;
                encode(&frame, version, bytes);
            }
            Sent::Frame(version, frame) => encode(&frame, version, bytes),
            Sent::Message(outgoing) => {
                write_message(&outgoing, &self.settings, bytes);
                Message::recycle(outgoing.message);
            }
            Sent::HeartBeat => bytes.put_u8(b'\n'),
        }
    }

    fn trace_in(&self, frame: &Received) -> Option<PacketTrace> {
        match frame {
            Received::Frame(frame) => Some(trace::frame(frame)),
            Received::Activity => None,
            Received::Malformed(error, _) => Some(PacketTrace::new(format!("malformed: {error}"))),
        }
    }

    fn trace_out(&self, frame: &Sent) -> Option<PacketTrace> {
        match frame {
            Sent::Connected { frame, .. } | Sent::Frame(_, frame) => Some(trace::frame(frame)),
            Sent::Message(outgoing) => Some(trace::outgoing(outgoing)),
            Sent::HeartBeat => None,
        }
    }
}

impl Outgoing {
    /// The topic as the client knows it.
    pub(crate) fn topic(&self) -> &[u8] {
        &self.message.topic.as_bytes()[self.unmount..]
    }

    /// Whether it says `ack`. STOMP 1.2, MESSAGE
    pub(crate) fn says_ack(&self) -> bool {
        self.wants_ack && self.version >= Version::V12
    }

    pub(crate) const COMMAND: Command = Command::Message;
}
