//! Mutated packets, for as long as `HEADGATE_FUZZ_SECONDS` says (2 if it says nothing).
//!
//! Each input follows from the seed and its number alone. A failure prints both; `HEADGATE_FUZZ_SEED` and
//! `HEADGATE_FUZZ_CASE` replay it.

mod common;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::corpus::{self, Line};
use common::{client, server};
use fastrand::Rng;
use headgate_mqtt_codec::{Decoder, Packet, encode, encoded_len, fit};

/// The largest packet the decoders accept here.
const LIMIT: u32 = 4096;

#[test]
fn mutated_packets_never_panic_and_never_disagree() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("HEADGATE_FUZZ_SEED").unwrap_or(0x4845_4144);
    let lines = corpus::lines();
    if let Some(case) = number("HEADGATE_FUZZ_CASE") {
        check(&lines, &input(&lines, seed, case), case);
        return;
    }

    let time = Duration::from_secs(number("HEADGATE_FUZZ_SECONDS").unwrap_or(2));
    let started = Instant::now();
    let mut case = 0;
    while started.elapsed() < time {
        // The clock costs more than a case: look at it now and then.
        for _ in 0..64 {
            let bytes = input(&lines, seed, case);
            if catch_unwind(AssertUnwindSafe(|| check(&lines, &bytes, case))).is_err() {
                panic!("HEADGATE_FUZZ_SEED={seed} HEADGATE_FUZZ_CASE={case}: {bytes:02x?}");
            }
            case += 1;
        }
    }
    report(seed, case);
}

#[allow(clippy::print_stderr, reason = "tells how to run the same again")]
fn report(seed: u64, cases: u64) {
    eprintln!("{cases} cases, HEADGATE_FUZZ_SEED={seed}");
}

/// A few lines of the corpus, one after the other, changed in a few places; or noise.
fn input(lines: &[Line], seed: u64, case: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed ^ case.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    if rng.u8(..) < 8 {
        return (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
    }
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..4) {
        bytes.extend_from_slice(&lines[rng.usize(..lines.len())].bytes);
    }
    for _ in 0..rng.usize(..6) {
        mutate(&mut bytes, lines, &mut rng);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, lines: &[Line], rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..8) {
        0 => bytes.insert(at, rng.u8(..)),
        1 => bytes.truncate(at),
        2 => {
            let other = &lines[rng.usize(..lines.len())].bytes;
            let piece = rng.usize(..=other.len());
            bytes.splice(at..at, other[piece..].iter().copied());
        }
        // Lengths live in the first bytes.
        3 if bytes.len() > 1 => bytes[1] = bytes[1].wrapping_add(rng.u8(..5)).wrapping_sub(2),
        _ if at == bytes.len() => bytes.push(rng.u8(..)),
        4 => {
            bytes.remove(at);
        }
        5 => bytes[at] ^= 1 << rng.u8(..8),
        6 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][rng.usize(..5)],
        _ => bytes[at] = rng.u8(..),
    }
}

/// Whatever comes out must be whole, within the limit, and the same once encoded and decoded again.
fn check(lines: &[Line], bytes: &[u8], case: u64) {
    let version = lines[case as usize % lines.len()].version;
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
