//! UTF-8 Encoded String. §1.5.4
//!
//! Always true of a [`Utf8`]: well-formed UTF-8 without U+0000, at most 65,535 bytes.

use std::fmt;

use bytes::Bytes;

/// Checked text, a slice of the buffer it was read from.
///
/// Control characters and non-characters are kept: the specification only says SHOULD NOT. U+FEFF is kept
/// wherever it stands. [MQTT-1.5.4-3] [3.1.1 MQTT-1.5.3-3]
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utf8(Bytes);

/// Why bytes are not a UTF-8 Encoded String.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Utf8Error {
    /// Ill-formed from this byte on; surrogates are ill-formed too.
    #[error("ill-formed UTF-8 at byte {at} [MQTT-1.5.4-1]")]
    IllFormed {
        /// Where the text stops being well-formed.
        at: usize,
    },
    /// U+0000 is not allowed.
    #[error("U+0000 at byte {at} [MQTT-1.5.4-2]")]
    Nul {
        /// Where it stands.
        at: usize,
    },
    /// A two-byte length cannot say how long it is.
    #[error("a string of {len} bytes, limit 65535")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

impl Utf8 {
    /// Checks the bytes. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
    #[inline]
    pub fn new(bytes: Bytes) -> Result<Self, Utf8Error> {
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The text. Checks the bytes again, so prefer [`Utf8::as_bytes`] on a hot path.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked by new")
    }

    /// The bytes of the text.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The shared bytes of the text.
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `+` or `#` stands anywhere in it.
    #[inline]
    pub fn has_wildcard(&self) -> bool {
        self.0
            .iter()
            .fold(false, |found, &b| found | (b == b'+') | (b == b'#'))
    }
}

#[inline]
fn check(bytes: &[u8]) -> Result<(), Utf8Error> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(Utf8Error::TooLong { len: bytes.len() });
    }
    // One pass that is vectorised, because it has no early exit; most text is ASCII and is done then.
    let (nul, ascii) = bytes.iter().fold((false, true), |(nul, ascii), &b| {
        (nul | (b == 0), ascii & (b < 0x80))
    });
    if nul {
        let at = bytes.iter().position(|&b| b == 0).unwrap_or_default();
        return Err(Utf8Error::Nul { at });
    }
    if ascii {
        return Ok(());
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(Utf8Error::IllFormed {
            at: error.valid_up_to(),
        }),
    }
}

/// For literals.
///
/// # Panics
/// If the text holds U+0000 or is longer than 65,535 bytes.
impl From<&'static str> for Utf8 {
    fn from(text: &'static str) -> Self {
        Self::new(Bytes::from_static(text.as_bytes())).expect("a literal holds no U+0000 and is short")
    }
}

impl TryFrom<String> for Utf8 {
    type Error = Utf8Error;

    fn try_from(text: String) -> Result<Self, Utf8Error> {
        Self::new(Bytes::from(text))
    }
}

impl TryFrom<Bytes> for Utf8 {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        Self::new(bytes)
    }
}

impl AsRef<[u8]> for Utf8 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Utf8 {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Utf8 {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for Utf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
