//! Mutated packets. See [`headgate_fuzz`] for how long, and how to replay a failure.

mod common;

use bytes::BytesMut;
use common::corpus::{self, Line};
use common::{client, server};
use fastrand::Rng;
use headgate_fuzz::{fuzz, mutate};
use headgate_mqtt_codec::{Decoder, Packet, Version, encode, encoded_len, fit};

/// The largest packet the decoders accept here.
const LIMIT: u32 = 4096;

#[test]
fn mutated_packets_never_panic_and_never_disagree() {
    let lines = corpus::lines();
    fuzz(
        |rng| (lines[rng.usize(..lines.len())].version, input(&lines, rng)),
        |(version, bytes)| check(*version, bytes),
    );
}

/// A few lines of the corpus, one after the other, changed in a few places; or noise.
fn input(lines: &[Line], rng: &mut Rng) -> Vec<u8> {
    if rng.u8(..) < 8 {
        return (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
    }
    let any = |rng: &mut Rng| &lines[rng.usize(..lines.len())].bytes;
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..4) {
        bytes.extend_from_slice(any(rng));
    }
    for _ in 0..rng.usize(..6) {
        match rng.u8(..8) {
            0 => {
                let (at, other) = (rng.usize(..=bytes.len()), any(rng));
                bytes.splice(at..at, other[rng.usize(..=other.len())..].iter().copied());
            }
            // Lengths live in the first bytes.
            1 if bytes.len() > 1 => bytes[1] = bytes[1].wrapping_add(rng.u8(..5)).wrapping_sub(2),
            _ => mutate(&mut bytes, &[0, 1, 0x7F, 0x80, 0xFF], rng),
        }
    }
    bytes
}

/// Whatever comes out must be whole, within the limit, and the same once encoded and decoded again.
fn check(version: Option<Version>, bytes: &[u8]) {
    let decoders = match version {
        None => vec![Decoder::server(LIMIT)],
        Some(version) => vec![server(version), client(version)],
    };
    for mut decoder in decoders {
        decoder.set_max_packet_size(LIMIT);
        let mut buf = BytesMut::from(bytes);
        loop {
            let before = buf.len();
            let fresh = decoder.clone();
            let needed = decoder.needed(&buf);
            match decoder.decode(&mut buf) {
                Ok(Some(packet)) => {
                    assert_eq!(needed, 0);
                    assert!(before - buf.len() <= LIMIT as usize);
                    encodes_to_itself(fresh, packet, &decoder);
                }
                Ok(None) => {
                    assert!(needed > 0, "nothing comes of it, nothing is needed");
                    assert_eq!(before, buf.len(), "waiting takes nothing off the buffer");
                    break;
                }
                Err(error) => {
                    assert!(error.reason_code().is_error());
                    assert!(!error.to_string().is_empty());
                    break;
                }
            }
        }
    }
}

fn encodes_to_itself(mut fresh: Decoder, mut packet: Packet, decoder: &Decoder) {
    let version = decoder.version().expect("a packet was decoded");
    let mut out = BytesMut::new();
    encode(&packet, version, &mut out);
    assert_eq!(out.len(), encoded_len(&packet, version));
    fresh.set_max_packet_size(u32::MAX);
    assert_eq!(fresh.decode(&mut out).as_ref(), Ok(&Some(packet.clone())));
    if fit(&mut packet, version, 16) {
        assert!(encoded_len(&packet, version) <= 16);
    }
}
