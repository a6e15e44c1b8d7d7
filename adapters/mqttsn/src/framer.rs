//! The frames of MQTT-SN on a serial line.

use bytes::{Bytes, BytesMut};
use headgate_model::{Framer, FramerCounts};
use headgate_mqttsn_codec::serial::{self, HdlcFramer, LengthFramer, put_hdlc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How frames are told apart on a serial line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// By the length field of each message. What is damaged may be taken for something else.
    #[default]
    Length,
    /// By flags as in HDLC, with a check sum that finds damage: RFC 1662, without address and control field.
    Hdlc,
}

/// The frames of MQTT-SN, cut as the settings say.
#[derive(Debug)]
pub enum SnFramer {
    /// By length.
    Length(LengthFramer),
    /// By flags.
    Hdlc(HdlcFramer),
}

impl SnFramer {
    /// For frames of at most `max_frame` bytes.
    pub fn new(framing: Framing, max_frame: usize) -> Self {
        match framing {
            Framing::Length => Self::Length(LengthFramer::new(max_frame)),
            Framing::Hdlc => Self::Hdlc(HdlcFramer::new(max_frame)),
        }
    }

    fn seen(&self) -> serial::FramerCounts {
        match self {
            Self::Length(framer) => framer.counts(),
            Self::Hdlc(framer) => framer.counts(),
        }
    }
}

impl Framer for SnFramer {
    fn push(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Length(framer) => framer.push(bytes),
            Self::Hdlc(framer) => framer.push(bytes),
        }
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        match self {
            Self::Length(framer) => framer.next_frame(),
            Self::Hdlc(framer) => framer.next_frame(),
        }
    }

    fn on_silence(&mut self) -> bool {
        match self {
            Self::Length(framer) => {
                let before = framer.counts().skipped;
                framer.on_silence();
                framer.counts().skipped > before
            }
            // The next flag shows where a frame begins.
            Self::Hdlc(_) => false,
        }
    }

    fn encode(&self, frame: &[u8], out: &mut BytesMut) {
        match self {
            Self::Length(_) => out.extend_from_slice(frame),
            Self::Hdlc(_) => put_hdlc(frame, out),
        }
    }

    fn counts(&self) -> FramerCounts {
        let seen = self.seen();
        FramerCounts {
            frames: seen.frames,
            errors: seen.errors,
            skipped: seen.skipped,
            resyncs: seen.resyncs,
        }
    }
}
