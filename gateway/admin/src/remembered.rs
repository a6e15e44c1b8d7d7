//! Who showed the right password lately, so that who shows it with each request does not have it hashed each time.
//!
//! Always true: what is kept shows neither name nor password, and is kept for minutes; any change of administrators or keys forgets all of it.

use crate::AdminError;
use crate::secret::same;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// So long a password is remembered after it was checked.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Administrators that are remembered; the oldest gives way.
const MAX: usize = 64;

pub(crate) struct Remembered {
    /// Drawn at the start: without it, nobody finds a password by its digest.
    key: [u8; 32],
    known: Vec<Known>,
}

struct Known {
    name: String,
    digest: [u8; 32],
    until: Instant,
}

impl Remembered {
    pub(crate) fn new() -> Result<Self, AdminError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self {
            key,
            known: Vec::new(),
        })
    }

    /// Whether this password of this administrator was right lately.
    pub(crate) fn knows(&self, name: &str, password: &str, now: Instant) -> bool {
        let digest = self.digest(name, password);
        let mut fresh = self
            .known
            .iter()
            .filter(|known| known.name == name && now < known.until);
        fresh.any(|known| same(&known.digest, &digest))
    }

    pub(crate) fn keep(&mut self, name: &str, password: &str, now: Instant) {
        let digest = self.digest(name, password);
        self.known.retain(|known| known.name != name && now < known.until);
        if self.known.len() >= MAX {
            self.known.remove(0);
        }
        self.known.push(Known {
            name: name.to_owned(),
            digest,
            until: now + REMEMBERED,
        });
    }

    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        digest.update(password);
        digest.finalize().into()
    }
}
