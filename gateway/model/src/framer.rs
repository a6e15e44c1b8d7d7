//! Frames on a serial line.

use bytes::{Bytes, BytesMut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cuts frames out of what comes, and makes frames of what goes.
pub trait Framer: Send + 'static {
    /// Takes bytes of the line; how many. When that is not all, ask for frames first.
    fn push(&mut self, bytes: &[u8]) -> usize;

    /// The next whole frame.
    fn next_frame(&mut self) -> Option<Bytes>;

    /// The line was silent: what is there begins no frame. Drops some of it; false if nothing was there.
    fn on_silence(&mut self) -> bool;

    /// Appends a frame to what is sent.
    fn encode(&self, frame: &[u8], out: &mut BytesMut);

    /// What it has seen.
    fn counts(&self) -> FramerCounts;
}

/// Of protocols that have no serial form: there is nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoFraming {}

/// Of protocols that have no serial form.
#[derive(Clone, Copy, Debug)]
pub enum NoFramer {}

impl Framer for NoFramer {
    fn push(&mut self, _: &[u8]) -> usize {
        match *self {}
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        match *self {}
    }

    fn on_silence(&mut self) -> bool {
        match *self {}
    }

    fn encode(&self, _: &[u8], _: &mut BytesMut) {
        match *self {}
    }

    fn counts(&self) -> FramerCounts {
        match *self {}
    }
}

/// What a [`Framer`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramerCounts {
    /// Frames handed out.
    pub frames: u64,
    /// Frames that were damaged, or none.
    pub errors: u64,
    /// Bytes that belonged to no frame.
    pub skipped: u64,
    /// How often the start of the next frame had to be looked for.
    pub resyncs: u64,
}
