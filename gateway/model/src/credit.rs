//! How much may be sent to an address that has not proved that it receives. RFC 9000 §8.1 has the same rule for QUIC
//!
//! A datagram may bear anybody's address. Until something comes back that only a receiver can know, an address gets no more bytes than its credit: so many
//! times what came from it. The proof is an acknowledgement of a message whose ids were chosen unpredictably, at the first or one of few tries.

use std::cell::Cell;

/// Acknowledgements of nothing that was sent: who guesses so often never proves anything.
const MAX_WRONG: u8 = 8;

/// The credit of one party. It is spent by sending, also where the party is only looked at.
#[derive(Clone, Debug)]
pub struct Credit {
    bytes: Cell<u32>,
    wrong: Cell<u8>,
}

/// It receives, or nobody could pretend to be there.
const UNLIMITED: u32 = u32::MAX;

impl Credit {
    /// For `received` bytes, each `factor` times. A factor of 0 is no limit.
    pub fn new(received: usize, factor: u8) -> Self {
        let bytes = match factor {
            0 => UNLIMITED,
            _ => u32::try_from(received.saturating_mul(factor.into()))
                .unwrap_or(UNLIMITED)
                .min(UNLIMITED - 1),
        };
        Self {
            bytes: Cell::new(bytes),
            wrong: Cell::new(0),
        }
    }

    /// Whether there is no proof yet.
    pub fn is_limited(&self) -> bool {
        self.bytes.get() != UNLIMITED
    }

    /// How many bytes may be sent.
    pub fn bytes(&self) -> usize {
        self.bytes.get() as usize
    }

    /// Whether so many bytes may be sent.
    pub fn has(&self, bytes: usize) -> bool {
        bytes <= self.bytes.get() as usize || !self.is_limited()
    }

    /// Takes the bytes of a datagram. False when there are not so many.
    pub fn spend(&self, bytes: usize) -> bool {
        if !self.has(bytes) {
            return false;
        }
        if self.is_limited() {
            let spent = u32::try_from(bytes).expect("there are as many");
            self.bytes.set(self.bytes.get() - spent);
        }
        true
    }

    /// The same party has this credit too: of another datagram, or of the client that was there before. A proof holds.
    pub fn join(&self, other: &Self) {
        self.wrong.set(self.wrong.get().max(other.wrong.get()));
        if self.is_limited() {
            let most = if other.is_limited() {
                UNLIMITED - 1
            } else {
                UNLIMITED
            };
            self.bytes
                .set(self.bytes.get().saturating_add(other.bytes.get()).min(most));
        }
    }

    /// Something came that only a receiver could know.
    pub fn prove(&self) {
        if self.wrong.get() < MAX_WRONG {
            self.bytes.set(UNLIMITED);
        }
    }

    /// An acknowledgement came of nothing that was sent: a late copy, or a guess.
    pub fn guessed_wrong(&self) {
        if self.is_limited() {
            self.wrong.set(self.wrong.get().saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_spent_and_a_proof_ends_it() {
        let credit = Credit::new(10, 3);
        assert!(credit.has(30) && !credit.has(31));
        assert!(credit.spend(25) && !credit.spend(6) && credit.spend(5) && !credit.spend(1));
        credit.join(&Credit::new(1, 3));
        assert!(credit.spend(3) && !credit.spend(1));
        credit.prove();
        assert!(credit.spend(usize::MAX));
        let next = Credit::new(1, 3);
        next.join(&credit);
        assert!(!next.is_limited(), "the address has not changed");
    }

    #[test]
    fn who_guesses_often_proves_nothing() {
        let credit = Credit::new(10, 3);
        (0..MAX_WRONG).for_each(|_| credit.guessed_wrong());
        credit.prove();
        assert!(credit.is_limited());
        let again = Credit::new(10, 3);
        again.join(&credit);
        again.prove();
        assert!(again.is_limited(), "nor by connecting again");
    }

    #[test]
    fn nothing_overflows() {
        let credit = Credit::new(usize::MAX, 255);
        credit.join(&credit.clone());
        assert!(credit.is_limited());
        assert!(!Credit::new(0, 0).is_limited());
    }
}
