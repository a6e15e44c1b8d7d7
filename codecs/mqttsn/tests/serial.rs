//! Frames on serial lines.

mod common;

use bytes::{Bytes, BytesMut};
use common::{datagram, generate};
use headgate_mqttsn_codec::serial::{HdlcFramer, LengthFramer, put_hdlc};
use headgate_mqttsn_codec::{Message, MessageType};
use proptest::prelude::*;

const LIMIT: usize = 2_048;

enum Line {
    Length(LengthFramer),
    Hdlc(HdlcFramer),
}

impl Line {
    fn both() -> [Self; 2] {
        [
            Self::Length(LengthFramer::new(LIMIT)),
            Self::Hdlc(HdlcFramer::new(LIMIT)),
        ]
    }

    fn wrap(&self, frame: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self {
            Self::Length(_) => out.extend_from_slice(frame),
            Self::Hdlc(_) => put_hdlc(frame, &mut out),
        }
        out.to_vec()
    }

    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Length(line) => line.next_frame(),
            Self::Hdlc(line) => line.next_frame(),
        }
    }

    /// Everything that comes of these bytes, handed over as a careful caller does.
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let taken = match self {
                Self::Length(line) => line.push(bytes),
                Self::Hdlc(line) => line.push(bytes),
            };
            bytes = &bytes[taken..];
            let before = frames.len();
            frames.extend(std::iter::from_fn(|| self.next()));
            assert!(
                taken > 0 || frames.len() > before,
                "a framer that was asked takes more"
            );
        }
        frames
    }

    fn counts(&self) -> headgate_mqttsn_codec::serial::FramerCounts {
        match self {
            Self::Length(line) => line.counts(),
            Self::Hdlc(line) => line.counts(),
        }
    }
}

fn frames() -> impl Strategy<Value = Vec<Bytes>> {
    let frame = (
        proptest::option::of(generate::encapsulation()),
        generate::message(),
    );
    prop::collection::vec(
        frame.prop_map(|(layer, message)| datagram(layer.as_ref(), &message)),
        0..6,
    )
}

/// Cuts `bytes` at these places, wherever they fall.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in cuts.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[from..cut]);
        from = cut;
    }
    pieces
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_frames(
        frames in frames(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        for mut line in Line::both() {
            let stream: Vec<u8> = frames.iter().flat_map(|frame| line.wrap(frame)).collect();
            let found: Vec<Bytes> = pieces(&stream, &cuts).iter().flat_map(|piece| line.feed(piece)).collect();
            prop_assert_eq!(&found, &frames);
            let counts = line.counts();
            prop_assert_eq!(counts.frames, frames.len() as u64);
            prop_assert_eq!(counts.bytes, stream.len() as u64);
            prop_assert_eq!((counts.errors, counts.skipped, counts.resyncs), (0, 0, 0));
        }
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        for (mut whole, mut cut) in Line::both().into_iter().zip(Line::both()) {
            let expected = whole.feed(&bytes);
            let found: Vec<Bytes> = pieces(&bytes, &cuts).iter().flat_map(|piece| cut.feed(piece)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(cut.counts(), whole.counts());
        }
    }

    /// Noise that holds no flag costs no frame: the check sum and the flags find the way back.
    #[test]
    fn hdlc_frames_survive_noise_between_them(
        frames in frames(),
        noise in prop::collection::vec(0u8..0x7D, 1..40),
    ) {
        let mut line = Line::Hdlc(HdlcFramer::new(LIMIT));
        let stream: Vec<u8> = frames
            .iter()
            .flat_map(|frame| [noise.clone(), line.wrap(frame)].concat())
            .collect();
        let found = line.feed(&stream);
        prop_assert_eq!(&found, &frames);
        prop_assert!(frames.is_empty() || line.counts().skipped >= noise.len() as u64);
    }

    /// Any one byte that is changed costs the frame it is in, perhaps the next, and nothing wrong comes out.
    #[test]
    fn hdlc_lets_no_damaged_frame_through(frames in frames(), at: usize, with in 1u8..) {
        let mut line = Line::Hdlc(HdlcFramer::new(LIMIT));
        let mut stream: Vec<u8> = frames.iter().flat_map(|frame| line.wrap(frame)).collect();
        if !stream.is_empty() {
            let at = at % stream.len();
            stream[at] ^= with;
        }
        let found = line.feed(&stream);
        prop_assert!(found.len() + 2 >= frames.len());
        prop_assert!(found.iter().all(|frame| frames.contains(frame)));
    }
}

/// A length of 0, or a type that there is not, begins no message: the search goes on behind it.
#[test]
fn noise_between_messages_is_skipped_and_counted() {
    let ping = datagram(None, &Message::PingResp);
    let ack = datagram(None, &Message::PubRec(7));
    for noise in [
        &[0u8][..],
        &[0, 0, 0],
        &[0xFF, 0xFF, 0],
        &[9, 0x03, 0],
        &[1, 0, 2],
        &[1, 0xFF, 0xFF, 0],
    ] {
        let mut line = Line::Length(LengthFramer::new(LIMIT));
        let stream = [&ping[..], noise, &ack, noise, &ping].concat();
        let found = line.feed(&stream);
        assert_eq!(found, [&ping, &ack, &ping], "{noise:02x?}");
        let counts = line.counts();
        assert_eq!(
            (counts.skipped, counts.resyncs),
            (2 * noise.len() as u64, 2),
            "{noise:02x?}"
        );
        assert_eq!((counts.frames, counts.errors), (3, 0));
    }
}

/// Noise that looks like the beginning of a message swallows no more than that message would have had.
#[test]
fn what_looked_like_a_message_is_searched_again() {
    let publish = datagram(None, &Message::PingReq(Some(Bytes::from_static(b"sensor"))));
    let mut line = Line::Length(LengthFramer::new(LIMIT));
    // A SUBACK of 8 bytes, but QoS bits that it cannot have: found out once it is whole.
    let noise = [8, MessageType::SubAck as u8, 0x60];
    let stream = [&noise[..], &publish].concat();
    assert_eq!(line.feed(&stream), [publish]);
    assert_eq!((line.counts().errors, line.counts().skipped), (1, 3));
}

/// A line that falls silent within a message has lost the rest.
#[test]
fn silence_ends_a_message_that_is_not_whole() {
    let ack = datagram(None, &Message::PubRec(7));
    let mut line = LengthFramer::new(LIMIT);
    let publish = datagram(None, &Message::WillMsg(Bytes::from_static(&[0; 100])));
    line.push(&publish[..50]);
    line.push(&ack);
    assert_eq!(line.next_frame(), None);
    line.on_silence();
    assert_eq!(line.next_frame(), Some(ack));
    assert_eq!(line.counts().skipped, 50);
    line.on_silence();
    assert_eq!(line.counts().skipped, 50, "nothing was there");
}

/// Nothing that a line sends makes a framer keep more than a frame and a little.
#[test]
fn what_is_kept_has_a_bound() {
    let endless = vec![0x55; 1 << 20];
    for mut line in Line::both() {
        let mut taken = 0;
        for piece in endless.chunks(1_000) {
            taken += match &mut line {
                Line::Length(line) => line.push(piece),
                Line::Hdlc(line) => line.push(piece),
            };
        }
        assert!(
            taken <= LIMIT + 4_096,
            "{taken} bytes were taken by one that is not asked for frames"
        );
    }
    let mut line = Line::Hdlc(HdlcFramer::new(LIMIT));
    let mut stream = vec![0x7E];
    stream.extend_from_slice(&endless);
    stream.extend_from_slice(&line.wrap(b"\x02\x17"));
    assert_eq!(line.feed(&stream), [&b"\x02\x17"[..]]);
    assert_eq!(line.counts().errors, 1);
    assert_eq!(line.counts().skipped, endless.len() as u64);
}

/// RFC 1662 §4.3: an escape and a flag give a frame up; the flag begins the next one.
#[test]
fn hdlc_frames_can_be_given_up() {
    let mut line = Line::Hdlc(HdlcFramer::new(LIMIT));
    let stream = [&[0x7E, 1, 2, 3, 0x7D][..], &line.wrap(b"\x02\x17")].concat();
    assert_eq!(line.feed(&stream), [&b"\x02\x17"[..]]);
    assert_eq!(line.counts().errors, 1);
}
