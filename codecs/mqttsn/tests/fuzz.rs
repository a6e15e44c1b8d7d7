//! Mutated datagrams, for as long as `HEADGATE_FUZZ_SECONDS` says (2 if it says nothing).
//!
//! Each input follows from the seed and its number alone. A failure prints both; `HEADGATE_FUZZ_SEED` and
//! `HEADGATE_FUZZ_CASE` replay it.

mod common;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::corpus::{self, Line};
use common::datagram;
use fastrand::Rng;
use headgate_mqttsn_codec::serial::{HdlcFramer, LengthFramer};
use headgate_mqttsn_codec::{decode, encoded_len, unwrap_datagram};

#[test]
fn mutated_datagrams_never_panic_and_never_disagree() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("HEADGATE_FUZZ_SEED").unwrap_or(0x4845_4144);
    let lines = corpus::lines();
    if let Some(case) = number("HEADGATE_FUZZ_CASE") {
        return check(&input(&lines, seed, case));
    }

    let time = Duration::from_secs(number("HEADGATE_FUZZ_SECONDS").unwrap_or(2));
    let started = Instant::now();
    let mut case = 0;
    while started.elapsed() < time {
        // The clock costs more than a case: look at it now and then.
        for _ in 0..64 {
            let bytes = input(&lines, seed, case);
            if catch_unwind(AssertUnwindSafe(|| check(&bytes))).is_err() {
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

/// A line of the corpus, or two, changed in a few places; or noise.
fn input(lines: &[Line], seed: u64, case: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed ^ case.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    if rng.u8(..) < 8 {
        return (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
    }
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..3) {
        bytes.extend_from_slice(&lines[rng.usize(..lines.len())].bytes);
    }
    for _ in 0..rng.usize(..6) {
        mutate(&mut bytes, &mut rng);
    }
    if rng.bool() && !bytes.is_empty() {
        // A length that is right, so that what is behind it gets looked at.
        bytes[0] = u8::try_from(bytes.len()).unwrap_or(2);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..7) {
        0 => bytes.insert(at, rng.u8(..)),
        1 => bytes.truncate(at),
        2 if bytes.len() > 1 => bytes[1] = rng.u8(..0x20),
        _ if at == bytes.len() => bytes.push(rng.u8(..)),
        3 => {
            bytes.remove(at);
        }
        4 => bytes[at] ^= 1 << rng.u8(..8),
        5 => bytes[at] = [0, 1, 0x7D, 0x7E, 0xFE, 0xFF][rng.usize(..6)],
        _ => bytes[at] = rng.u8(..),
    }
}

/// What is read is the same once it is written and read again; a serial line gives nothing but whole messages.
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
    let mut line = LengthFramer::new(1_024);
    assert_eq!(line.push(&bytes), bytes.len());
    while let Some(frame) = line.next_frame() {
        let (_, inner) = unwrap_datagram(&frame).expect("checked by the framer");
        assert!(decode(&inner).is_ok());
    }
    let mut line = HdlcFramer::new(1_024);
    assert_eq!(line.push(&bytes), bytes.len());
    while line.next_frame().is_some() {}
}
