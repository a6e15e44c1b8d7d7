//! What keys are made of, and what is made of keys.

pub(crate) mod ecdh;
pub(crate) mod keys;
pub(crate) mod prf;

/// Where random bytes come from: the system's, or seeded ones in tests.
pub trait Random: Send {
    /// Fills all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> Random for F {
    fn fill(&mut self, bytes: &mut [u8]) {
        self(bytes);
    }
}
