//! Mutated frames. See [`headgate_fuzz`] for how long, and how to replay a failure.

mod common;

use bytes::BytesMut;
use common::{LIMITS, decode_all, decode_in};
use fastrand::Rng;
use headgate_fuzz::{fuzz, mutate};
use headgate_stomp_codec::{Command, Frame, Version, encode};

/// Good frames of all kinds.
const FRAMES: [&[u8]; 12] = [
    b"CONNECT\naccept-version:1.0,1.1,1.2\nhost:h\nlogin:me\npasscode:a:b\\n\nheart-beat:10,20\n\n\0",
    b"STOMP\r\naccept-version:1.2\r\nhost:h\r\n\r\n\0\r\n",
    b"CONNECT\nlogin: me\n\n\0\n",
    b"CONNECTED\nversion:1.1\nsession:s\nserver:headgate/1\n\n\0",
    b"SEND\ndestination:/queue/a\ncontent-length:5\n\na\0b\0c\0",
    b"SEND\ndestination:a\\cb\\\\\\n\\r\nreceipt:1\n\nbody\0\n\n\n",
    b"SUBSCRIBE\nid:0\ndestination:a/#\nack:client-individual\n\n\0",
    b"ACK\nid:7\ntransaction:t\n\n\0",
    b"MESSAGE\nsubscription:0\nmessage-id:7\ndestination:a\nfoo:1\nfoo:2\n\n\xFF\0",
    b"RECEIPT\nreceipt-id:\n\n\0",
    b"ERROR\nmessage:no\ncontent-length:0\n\n\0",
    b"DISCONNECT\ncontent-length:0\nreceipt:77\n\n\0",
];

#[test]
fn mutated_frames_never_panic_and_never_disagree() {
    let versions = [None, Some(Version::V10), Some(Version::V11), Some(Version::V12)];
    fuzz(
        |rng| {
            (
                versions[rng.usize(..versions.len())],
                input(rng),
                rng.usize(1..40),
            )
        },
        |(version, bytes, piece)| check(*version, bytes, *piece),
    );
}

/// A few frames, one after the other, changed in a few places; or noise.
fn input(rng: &mut Rng) -> Vec<u8> {
    if rng.u8(..) < 8 {
        return (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
    }
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..4) {
        bytes.extend_from_slice(FRAMES[rng.usize(..FRAMES.len())]);
    }
    for _ in 0..rng.usize(..6) {
        mutate(&mut bytes, b"\0\n\r:\\cnr0159\xFF", rng);
    }
    bytes
}

/// However it is cut, the same comes out; it is within the limits, and the same again once encoded and decoded.
fn check(version: Option<Version>, bytes: &[u8], piece: usize) {
    let (frames, error) = decode_all(version, bytes);
    // An error may be told earlier when less is there, but never another frame.
    let (same, cut_error) = decode_in(&[piece], version, bytes);
    assert_eq!((&same, cut_error.is_some()), (&frames, error.is_some()));
    assert!(error.is_none_or(|error| !error.to_string().is_empty()));
    for frame in frames {
        assert!(frame.headers.iter().len() <= LIMITS.headers);
        assert!(frame.body.len() <= LIMITS.body_bytes);
        encodes_to_itself(frame);
    }
}

/// In 1.2 all that a frame says is said again. CONNECT and CONNECTED have no escapes: there it is what comes out the second time.
fn encodes_to_itself(frame: Frame) {
    let again = written_and_read(&frame);
    let is_handshake = matches!(
        frame.command,
        Command::Connect | Command::Stomp | Command::Connected
    );
    let frame = if is_handshake { again } else { frame };
    let again = written_and_read(&frame);
    let said = |frame: &Frame| {
        let all = frame.headers.iter();
        let others = all.filter(|(name, _)| &**name != "content-length");
        others.cloned().collect::<Vec<_>>()
    };
    assert_eq!(said(&again), said(&frame));
    assert_eq!((again.command, again.body), (frame.command, frame.body));
}

fn written_and_read(frame: &Frame) -> Frame {
    let mut out = BytesMut::new();
    encode(frame, Version::V12, &mut out);
    common::decode_one(Some(Version::V12), &out)
}
