//! What the tests of the codec share.

#![allow(dead_code, reason = "no test uses all of it")]

use bytes::BytesMut;
use headgate_stomp_codec::{DecodeError, Decoder, Frame, Limits, Version};

pub(crate) const LIMITS: Limits = Limits {
    headers: 20,
    line_bytes: 200,
    head_bytes: 1_000,
    body_bytes: 4_096,
};

/// A decoder of a connection of this version; of one that has none yet.
pub(crate) fn decoder(version: Option<Version>) -> Decoder {
    let mut decoder = Decoder::new(LIMITS);
    if let Some(version) = version {
        decoder.set_version(version);
    }
    decoder
}

/// All frames of a stream that arrives in pieces of these lengths, again and again; then what is wrong with the rest.
pub(crate) fn decode_in(
    pieces: &[usize],
    version: Option<Version>,
    stream: &[u8],
) -> (Vec<Frame>, Option<DecodeError>) {
    let (mut decoder, mut frames) = (decoder(version), Vec::new());
    let (mut buf, mut rest) = (BytesMut::new(), stream);
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at((*piece).min(rest.len()));
        buf.extend_from_slice(now);
        rest = later;
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    (frames, None)
}

/// The same, all at once.
pub(crate) fn decode_all(version: Option<Version>, stream: &[u8]) -> (Vec<Frame>, Option<DecodeError>) {
    decode_in(&[stream.len()], version, stream)
}

/// The one frame that a stream is.
#[track_caller]
pub(crate) fn decode_one(version: Option<Version>, stream: &[u8]) -> Frame {
    match decode_all(version, stream) {
        (mut frames, None) if frames.len() == 1 => frames.remove(0),
        other => panic!("{other:?}"),
    }
}

/// What is wrong with a stream.
#[track_caller]
pub(crate) fn error(version: Option<Version>, stream: &[u8]) -> DecodeError {
    decode_all(version, stream).1.expect("it is no frame")
}
