//! What is encoded is decoded to the same, however the stream is cut.

mod common;

use bytes::{Bytes, BytesMut};
use common::{decode_all, decode_in};
use headgate_stomp_codec::{Command, Frame, Version, encode};
use proptest::collection::vec;
use proptest::prelude::*;

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(Version::ALL.to_vec())
}

/// Names and values that 1.1 and 1.2 can say; in the handshake, those that need no escape.
fn frame() -> impl Strategy<Value = Frame> {
    let command = prop::sample::select(Command::ALL.to_vec());
    let headers = vec(("[a-z:\n\\\\é]{1,8}", "[a-z0-9: \n\\\\é]{0,20}"), 0..6);
    (command, headers, vec(any::<u8>(), 0..300)).prop_map(|(command, headers, body)| {
        let is_handshake = matches!(command, Command::Connect | Command::Stomp | Command::Connected);
        let plain = |text: String| match is_handshake {
            true => text.replace([':', '\n'], "x"),
            false => text,
        };
        let mut frame = Frame::new(command);
        if is_handshake {
            frame = frame.with("accept-version", "1.2").with("version", "1.2");
        }
        for (name, value) in headers {
            frame.headers.push(plain(name), plain(value));
        }
        match command.has_body() {
            true => frame
                .with("content-length", body.len().to_string())
                .with_body(body),
            false => frame,
        }
    })
}

fn encoded(frames: &[Frame], version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        encode(frame, version, &mut out);
    }
    out
}

proptest! {
    #[test]
    fn decoding_what_was_encoded_gives_the_same(frames in vec(frame(), 1..5), version in version()) {
        prop_assume!(version != Version::V10);
        let stream = encoded(&frames, version);
        prop_assert_eq!(decode_all(Some(version), &stream), (frames, None));
    }

    #[test]
    fn every_split_gives_the_same_frames(frames in vec(frame(), 1..4), version in version(), cuts in vec(1..20_usize, 1..8)) {
        let mut stream = encoded(&frames, version);
        stream.extend_from_slice(b"\n\r\n");
        let whole = decode_all(Some(version), &stream);
        for pieces in [&[1][..], &[2], &[7], &cuts] {
            prop_assert_eq!(&decode_in(pieces, Some(version), &stream), &whole);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..400), version in version()) {
        let whole = decode_all(Some(version), &bytes);
        prop_assert_eq!(decode_in(&[1], Some(version), &bytes).0, whole.0);
    }
}

/// 1.0 has no escapes: what would end the line, or the name, is left out, and the rest is read as it was written.
#[test]
fn version_1_0_leaves_out_what_it_cannot_say() {
    let frame = Frame::new(Command::Message)
        .with("destination", "a:b")
        .with("text", "two\nlines")
        .with("a:b", "c")
        .with("nul", "\0")
        .with_body(Bytes::from_static(b"x\0y"));
    let stream = encoded(&[frame], Version::V10);
    assert_eq!(
        &stream[..],
        b"MESSAGE\ndestination:a:b\ncontent-length:3\n\nx\0y\0"
    );
}
