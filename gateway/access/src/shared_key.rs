//! Keys that a client and the gateway share. RFC 4279

use std::fmt;
use zeroize::Zeroizing;

/// The most bytes of a key. RFC 4279 §5.3 wants 64 and more
const LONGEST: usize = 64;

/// A shared key of 1 to 64 bytes. It is wiped when it is dropped, and shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(Zeroizing<Vec<u8>>);

/// What is wrong with the text of a shared key; that says nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharedKeyError {
    /// There are other characters in it, or an odd number of digits.
    #[error("it is not hexadecimal, such as `00112233445566778899aabbccddeeff`")]
    NotHex,
    /// No bytes.
    #[error("the key is empty")]
    Empty,
    /// Too many bytes.
    #[error("the key is longer than {LONGEST} bytes")]
    TooLong,
}

impl SharedKey {
    /// From hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, SharedKeyError> {
        let key = Zeroizing::new(unhex(text).ok_or(SharedKeyError::NotHex)?);
        match key.len() {
            0 => Err(SharedKeyError::Empty),
            1..=LONGEST => Ok(Self(key)),
            _ => Err(SharedKeyError::TooLong),
        }
    }

    /// Its bytes.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

/// The bytes of hexadecimal digits; `None` if it is something else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
    let pairs = digits.chunks_exact(2);
    Some(pairs.map(|pair| value(pair[0]) << 4 | value(pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hexadecimal() {
        assert_eq!(SharedKey::parse("00fF10").unwrap().reveal(), [0, 255, 16]);
        for wrong in ["", "0", "0g", " 00", &"00".repeat(65)] {
            assert!(SharedKey::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", SharedKey::parse("00")), "Ok(SharedKey(..))");
    }
}
