//! Mutated datagrams, and mutated bytes on serial lines. See [`headgate_fuzz`] for how long, and how to replay a failure.

mod common;

use bytes::{Bytes, BytesMut};
use common::corpus::{self, Line};
use common::datagram;
use fastrand::Rng;
use headgate_fuzz::{fuzz, mutate};
use headgate_mqttsn_codec::serial::{HdlcFramer, LengthFramer, put_hdlc};
use headgate_mqttsn_codec::{decode, encoded_len, unwrap_datagram};

/// Bytes that mean something on a serial line, or as a length.
const SPECIAL: [u8; 6] = [0, 1, 0x7D, 0x7E, 0xFE, 0xFF];

#[test]
fn mutated_datagrams_never_panic_and_never_disagree() {
    let lines = corpus::lines();
    fuzz(|rng| input(&lines, rng), |bytes| check(bytes));
}

/// A line of the corpus, or two, changed in a few places; or noise.
fn input(lines: &[Line], rng: &mut Rng) -> Vec<u8> {
    if rng.u8(..) < 8 {
        return (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
    }
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..3) {
        bytes.extend_from_slice(&lines[rng.usize(..lines.len())].bytes);
    }
    for _ in 0..rng.usize(..6) {
        match rng.u8(..7) {
            // A kind of message.
            0 if bytes.len() > 1 => bytes[1] = rng.u8(..0x20),
            _ => mutate(&mut bytes, &SPECIAL, rng),
        }
    }
    if rng.bool() && !bytes.is_empty() {
        // A length that is right, so that what is behind it gets looked at.
        bytes[0] = u8::try_from(bytes.len()).unwrap_or(2);
    }
    bytes
}

/// What is read is the same once it is written and read again.
fn check(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    match unwrap_datagram(&bytes) {
        Ok((layer, inner)) => match decode(&inner) {
            Ok(message) => {
                assert!(encoded_len(&message) <= inner.len());
                let again = datagram(layer.as_ref(), &message);
                let (same_layer, inner) = unwrap_datagram(&again).expect("just written");
                assert_eq!((same_layer, decode(&inner)), (layer, Ok(message)));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        },
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What comes over a serial line, and where one read ends and the next one begins.
#[derive(Debug)]
struct OnTheLine {
    bytes: Vec<u8>,
    cuts: [usize; 2],
}

/// Whole frames one after the other, some of them changed underway.
fn on_the_line(lines: &[Line], wrap: impl Fn(&[u8], &mut BytesMut), rng: &mut Rng) -> OnTheLine {
    let mut sent = BytesMut::new();
    for _ in 0..rng.usize(1..5) {
        wrap(&input(lines, rng), &mut sent);
    }
    let mut bytes = sent.to_vec();
    for _ in 0..rng.usize(..4) {
        mutate(&mut bytes, &SPECIAL, rng);
    }
    let (a, b) = (rng.usize(..=bytes.len()), rng.usize(..=bytes.len()));
    OnTheLine {
        bytes,
        cuts: [a.min(b), a.max(b)],
    }
}

/// A length-prefixed line gives nothing but whole messages, wherever reads end.
#[test]
fn a_line_of_lengths_gives_whole_messages_only() {
    let lines = corpus::lines();
    let wrap = |frame: &[u8], out: &mut BytesMut| out.extend_from_slice(frame);
    fuzz(
        |rng| on_the_line(&lines, wrap, rng),
        |came| {
            let frames = read(
                came,
                || LengthFramer::new(1_024),
                LengthFramer::push,
                LengthFramer::next_frame,
            );
            for frame in frames {
                let (_, inner) = unwrap_datagram(&frame).expect("checked by the framer");
                assert!(decode(&inner).is_ok());
            }
        },
    );
}

/// An HDLC line gives frames within its limit, the same wherever reads end.
#[test]
fn an_hdlc_line_gives_the_same_wherever_it_is_cut() {
    let lines = corpus::lines();
    fuzz(
        |rng| on_the_line(&lines, put_hdlc, rng),
        |came| {
            let frames = read(
                came,
                || HdlcFramer::new(1_024),
                HdlcFramer::push,
                HdlcFramer::next_frame,
            );
            assert!(frames.iter().all(|frame| frame.len() <= 1_024));
            for frame in frames {
                check(&frame);
                let mut wrapped = BytesMut::new();
                put_hdlc(&frame, &mut wrapped);
                let mut line = HdlcFramer::new(1_024);
                assert_eq!(line.push(&wrapped), wrapped.len());
                assert_eq!(line.next_frame(), Some(frame));
            }
        },
    );
}

/// The frames of a line, which are the same in one read and in three.
fn read<F>(
    came: &OnTheLine,
    framer: impl Fn() -> F,
    push: impl Fn(&mut F, &[u8]) -> usize,
    next: impl Fn(&mut F) -> Option<Bytes>,
) -> Vec<Bytes> {
    let frames = |reads: &[&[u8]]| {
        let (mut line, mut frames) = (framer(), Vec::new());
        for read in reads {
            let mut rest = *read;
            while !rest.is_empty() {
                let (taken, before) = (push(&mut line, rest), frames.len());
                rest = &rest[taken..];
                frames.extend(std::iter::from_fn(|| next(&mut line)));
                assert!(
                    taken > 0 || frames.len() > before,
                    "a framer that was asked takes more"
                );
            }
        }
        frames
    };
    let [a, b] = came.cuts;
    let whole = frames(&[&came.bytes]);
    assert_eq!(
        whole,
        frames(&[&came.bytes[..a], &came.bytes[a..b], &came.bytes[b..]])
    );
    whole
}
