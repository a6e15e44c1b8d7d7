//! Numbers that nobody outside can guess: message IDs of what is to be acknowledged, jitter, tokens.

use std::hash::{BuildHasher, Hash, RandomState};

/// A secret, and how often it was used.
#[derive(Debug)]
pub struct Unguessable {
    /// `None` for simulations, which must repeat.
    secret: Option<RandomState>,
    used: u64,
}

impl Unguessable {
    /// Another secret each time.
    pub fn new() -> Self {
        Self {
            secret: Some(RandomState::new()),
            used: 0,
        }
    }

    /// The same numbers each time, for simulations.
    pub fn repeating(seed: u64) -> Self {
        Self {
            secret: None,
            used: seed,
        }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.used = self.used.wrapping_add(1);
        match &self.secret {
            Some(secret) => secret.hash_one(self.used),
            // SplitMix64
            None => {
                let mut x = self.used.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
                x ^ x >> 31
            }
        }
    }

    /// A number of this thing, always the same.
    pub fn of(&self, thing: impl Hash) -> u64 {
        match &self.secret {
            Some(secret) => secret.hash_one(thing),
            None => std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(thing),
        }
    }
}

impl Default for Unguessable {
    fn default() -> Self {
        Self::new()
    }
}
