//! Log-ins that were right are remembered for a while, so that a fleet that comes back costs no hashes.
//!
//! What is kept is an HMAC-SHA-256 over name, password and the user's stored hash, under a key that no other process and no later run has. With
//! another hash in the file of users it does not match any more. Log-ins that were wrong leave nothing.

use crate::users::User;
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// Names that are remembered at most; of more the one goes that would go first.
const MAX: usize = 100_000;

/// What stands for a right log-in.
pub(crate) type Tag = [u8; 32];

pub(crate) struct Remembered {
    key: [u8; 32],
    keep: Duration,
    logins: Mutex<HashMap<Box<str>, (Tag, Instant)>>,
}

impl Remembered {
    /// Each log-in for so long; zero: none.
    pub(crate) fn new(key: [u8; 32], keep: Duration) -> Self {
        Self {
            key,
            keep,
            logins: Mutex::default(),
        }
    }

    pub(crate) fn tag(&self, name: &str, password: &[u8], user: &User) -> Tag {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in [name.as_bytes(), password, user.stored().as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    pub(crate) fn knows(&self, name: &str, tag: &Tag, now: Instant) -> bool {
        let logins = self.logins.lock();
        logins
            .get(name)
            .is_some_and(|(known, until)| now < *until && bool::from(known.ct_eq(tag)))
    }

    pub(crate) fn add(&self, name: &str, tag: Tag, now: Instant) {
        if self.keep.is_zero() {
            return;
        }
        let mut logins = self.logins.lock();
        if logins.len() >= MAX && !logins.contains_key(name) {
            logins.retain(|_, (_, until)| now < *until);
            let first = logins.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(first) = first
                .filter(|_| logins.len() >= MAX)
                .map(|(name, _)| name.clone())
            {
                logins.remove(&first);
            }
        }
        logins.insert(name.into(), (tag, now + self.keep));
    }

    /// Forgets those of whom this is false.
    pub(crate) fn retain(&self, still: impl Fn(&str) -> bool) {
        self.logins.lock().retain(|name, _| still(name));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.logins.lock().len()
    }
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembered(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_log_in_is_known_for_its_time_and_no_other_is() {
        let remembered = Remembered::new([1; 32], Duration::from_secs(60));
        let (user, now) = (User::nobody().unwrap(), Instant::now());
        let right = remembered.tag("joe", b"secret", &user);
        assert!(!remembered.knows("joe", &right, now));
        remembered.add("joe", right, now);
        assert!(remembered.knows("joe", &right, now + Duration::from_secs(59)));
        assert!(!remembered.knows("joe", &right, now + Duration::from_secs(60)));
        for (name, password) in [("joe", &b"secre"[..]), ("joes", b"ecret"), ("ann", b"secret")] {
            let other = remembered.tag(name, password, &user);
            assert!(
                !remembered.knows("joe", &other, now) && !remembered.knows(name, &right, now)
                    || name == "joe"
            );
        }
        let changed = remembered.tag("joe", b"secret", &User::nobody().unwrap());
        assert!(
            !remembered.knows("joe", &changed, now),
            "the user has another hash now"
        );
    }

    #[test]
    fn nothing_is_kept_where_nothing_shall_be() {
        let remembered = Remembered::new([1; 32], Duration::ZERO);
        remembered.add("joe", [0; 32], Instant::now());
        assert_eq!(remembered.len(), 0);
    }
}
