//! What can be wrong with bytes.

/// Why bytes are no record or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends before its last field.
    #[error("{0}: it ends too early")]
    Short(&'static str),
    /// Something follows its last field.
    #[error("{0}: {1} bytes too many")]
    Trailing(&'static str, usize),
    /// A content type that DTLS 1.2 does not have. RFC 5246 §6.2.1
    #[error("content type {0} is unknown")]
    ContentType(u8),
    /// Not DTLS 1.x. RFC 6347 §4.1
    #[error("version {0:#06x} is not of DTLS")]
    Version(u16),
    /// A record longer than records may be. RFC 5246 §6.2.3
    #[error("a record of {0} bytes")]
    TooLong(usize),
    /// A fragment reaches beyond its message. RFC 6347 §4.2.3
    #[error("a fragment reaches beyond its message")]
    Beyond,
    /// A value that the field cannot have.
    #[error("{0}: a value that it cannot have")]
    Value(&'static str),
    /// An extension twice. RFC 5246 §7.4.1.4
    #[error("extension {0} is there twice")]
    Twice(u16),
}
