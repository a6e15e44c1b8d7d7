//! What is wrong with a frame.

/// Why bytes are no frame. Nothing behind it can be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// STOMP 1.2, Augmented BNF: `command`.
    #[error("no STOMP command")]
    UnknownCommand,
    /// STOMP 1.2, Connecting: no other frame comes before CONNECT.
    #[error("CONNECT comes first")]
    NotConnected,
    /// What came first is of another protocol.
    #[error("this is a port for STOMP, and what came looks like {0}")]
    OtherProtocol(&'static str),
    /// STOMP 1.2, Augmented BNF: `header`. Headers are counted from 1.
    #[error("header {0} has no colon")]
    NoColon(usize),
    /// STOMP 1.2, Augmented BNF: `header-name` has at least one octet.
    #[error("header {0} has no name")]
    NoName(usize),
    /// STOMP 1.2, Value Encoding: undefined escape sequences are a fatal protocol error.
    #[error("an undefined escape sequence in header {0}")]
    BadEscape(usize),
    /// STOMP 1.2, Value Encoding.
    #[error("a header that is not UTF-8")]
    NotUtf8,
    /// The frame ended before its headers did.
    #[error("a NUL among the headers")]
    NulInHead,
    /// STOMP 1.2, Header content-length.
    #[error("content-length is no number")]
    BadContentLength,
    /// STOMP 1.2, Header content-length: the body is followed by NUL.
    #[error("no NUL behind the {0} bytes of content-length")]
    MissingNul(usize),
    /// STOMP 1.2, Body: only SEND, MESSAGE and ERROR may have one.
    #[error("a body in a frame that has none")]
    UnexpectedBody,
    /// STOMP 1.2, Size Limits.
    #[error("more than {0} headers")]
    TooManyHeaders(usize),
    /// STOMP 1.2, Size Limits.
    #[error("a header line of more than {0} bytes")]
    LineTooLong(usize),
    /// STOMP 1.2, Size Limits.
    #[error("headers of more than {0} bytes together")]
    HeadTooLarge(usize),
    /// STOMP 1.2, Size Limits.
    #[error("a body of more than {0} bytes")]
    BodyTooLarge(usize),
}
