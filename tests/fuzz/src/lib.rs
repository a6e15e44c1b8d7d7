//! The loop of every fuzz test: random inputs for as long as `HEADGATE_FUZZ_SECONDS` says (2 if it says nothing).
//!
//! Always true: each input follows from the seed and its number alone. A failure prints both; `HEADGATE_FUZZ_SEED` and `HEADGATE_FUZZ_CASE` replay it.

use fastrand::Rng;
use std::env;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Makes inputs and checks each. A check fails by a panic.
pub fn fuzz<I: Debug>(input: impl Fn(&mut Rng) -> I, check: impl Fn(&I)) {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("HEADGATE_FUZZ_SEED").unwrap_or(0x4845_4144);
    let nth = |case: u64| {
        input(&mut Rng::with_seed(
            seed ^ case.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        ))
    };
    if let Some(case) = number("HEADGATE_FUZZ_CASE") {
        return check(&nth(case));
    }
    let time = Duration::from_secs(number("HEADGATE_FUZZ_SECONDS").unwrap_or(2));
    let started = Instant::now();
    let mut case = 0;
    while started.elapsed() < time {
        let input = nth(case);
        if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
            panic!("HEADGATE_FUZZ_SEED={seed} HEADGATE_FUZZ_CASE={case}: {input:02x?}");
        }
        case += 1;
    }
    report(seed, case);
}

#[allow(clippy::print_stderr, reason = "tells how to run the same again")]
fn report(seed: u64, cases: u64) {
    eprintln!("{cases} cases, HEADGATE_FUZZ_SEED={seed}");
}

/// Changes bytes in a place or not at all: one is added, removed or another, a bit is flipped, or the rest is cut off. `special` are bytes that mean
/// something.
pub fn mutate(bytes: &mut Vec<u8>, special: &[u8], rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..6) {
        0 => bytes.insert(at, rng.u8(..)),
        1 => bytes.truncate(at),
        _ if at == bytes.len() => bytes.push(rng.u8(..)),
        2 => {
            bytes.remove(at);
        }
        3 => bytes[at] ^= 1 << rng.u8(..8),
        4 if !special.is_empty() => bytes[at] = special[rng.usize(..special.len())],
        _ => bytes[at] = rng.u8(..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a check must not find is found, and is named by a number that replays it.
    #[test]
    fn a_failure_names_its_seed_and_its_number() {
        let failed = catch_unwind(|| fuzz(|rng| rng.u8(..), |byte| assert_ne!(*byte, 7)));
        let message = failed.expect_err("one byte of 256 is found within a moment");
        let message = message.downcast_ref::<String>().expect("a message with numbers");
        assert!(message.starts_with("HEADGATE_FUZZ_SEED="), "{message}");
        assert!(message.ends_with(": 07"), "{message}");
    }
}
