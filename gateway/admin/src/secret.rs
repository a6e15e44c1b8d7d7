//! Numbers nobody can guess, as text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Without letters and digits that look alike (Crockford).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Groups of four characters in a code: 60 bits.
const GROUPS: usize = 3;

/// 256 random bits.
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    pub(crate) fn digest(&self) -> Digested {
        digest(&self.0)
    }
}

/// What is kept of a secret: nobody finds the secret by it.
pub(crate) type Digested = [u8; 32];

pub(crate) fn digest(text: &str) -> Digested {
    Sha256::digest(text).into()
}

/// Takes as long for texts that begin alike as for others.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// `N` random bytes in hexadecimal.
pub(crate) fn hex<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A code to be typed: `7QKD-M2XA-0RTB`.
pub(crate) fn code() -> Result<String, getrandom::Error> {
    let mut bytes = [0; GROUPS * 4];
    getrandom::fill(&mut bytes)?;
    let letters = bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    let groups = letters.chunks(4).map(|group| group.iter().collect::<String>());
    Ok(groups.collect::<Vec<_>>().join("-"))
}

/// Whether it could be one.
pub(crate) fn is_code(text: &str) -> bool {
    let letters = text.bytes().filter(|byte| *byte != b'-');
    text.len() == GROUPS * 5 - 1 && letters.filter(|byte| ALPHABET.contains(byte)).count() == GROUPS * 4
}
