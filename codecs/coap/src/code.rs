//! Method, response and signalling codes. RFC 7252 §12.1, RFC 8323 §5

use std::fmt;

/// The code of a message: a class from 0 to 7 and a detail from 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u8);

#[allow(missing_docs, reason = "they are the names of the registry")]
impl Code {
    pub const EMPTY: Self = Self::new(0, 0);
    pub const GET: Self = Self::new(0, 1);
    pub const POST: Self = Self::new(0, 2);
    pub const PUT: Self = Self::new(0, 3);
    pub const DELETE: Self = Self::new(0, 4);
    /// RFC 8132 §2
    pub const FETCH: Self = Self::new(0, 5);
    /// RFC 8132 §3
    pub const PATCH: Self = Self::new(0, 6);
    /// RFC 8132 §3
    pub const IPATCH: Self = Self::new(0, 7);

    pub const CREATED: Self = Self::new(2, 1);
    pub const DELETED: Self = Self::new(2, 2);
    pub const VALID: Self = Self::new(2, 3);
    pub const CHANGED: Self = Self::new(2, 4);
    pub const CONTENT: Self = Self::new(2, 5);
    /// What EMQX 5 answers to the end of an observation.
    pub const NO_CONTENT: Self = Self::new(2, 7);
    /// RFC 7959 §2.9.1
    pub const CONTINUE: Self = Self::new(2, 31);

    pub const BAD_REQUEST: Self = Self::new(4, 0);
    pub const UNAUTHORIZED: Self = Self::new(4, 1);
    pub const BAD_OPTION: Self = Self::new(4, 2);
    pub const FORBIDDEN: Self = Self::new(4, 3);
    pub const NOT_FOUND: Self = Self::new(4, 4);
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    pub const NOT_ACCEPTABLE: Self = Self::new(4, 6);
    /// RFC 7959 §2.9.2
    pub const REQUEST_ENTITY_INCOMPLETE: Self = Self::new(4, 8);
    /// RFC 8132 §2.3.1
    pub const CONFLICT: Self = Self::new(4, 9);
    pub const PRECONDITION_FAILED: Self = Self::new(4, 12);
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::new(4, 13);
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::new(4, 15);
    /// RFC 8132 §2.3.1
    pub const UNPROCESSABLE_ENTITY: Self = Self::new(4, 22);
    /// RFC 8516 §2
    pub const TOO_MANY_REQUESTS: Self = Self::new(4, 29);

    pub const INTERNAL_SERVER_ERROR: Self = Self::new(5, 0);
    pub const NOT_IMPLEMENTED: Self = Self::new(5, 1);
    pub const BAD_GATEWAY: Self = Self::new(5, 2);
    pub const SERVICE_UNAVAILABLE: Self = Self::new(5, 3);
    pub const GATEWAY_TIMEOUT: Self = Self::new(5, 4);
    pub const PROXYING_NOT_SUPPORTED: Self = Self::new(5, 5);
    /// RFC 8768 §3
    pub const HOP_LIMIT_REACHED: Self = Self::new(5, 8);

    /// Capabilities and Settings. RFC 8323 §5.3
    pub const CSM: Self = Self::new(7, 1);
    pub const PING: Self = Self::new(7, 2);
    pub const PONG: Self = Self::new(7, 3);
    pub const RELEASE: Self = Self::new(7, 4);
    pub const ABORT: Self = Self::new(7, 5);

    /// Of a class, 0 to 7, and a detail, 0 to 31.
    pub const fn new(class: u8, detail: u8) -> Self {
        Self(class << 5 | detail)
    }

    /// 0 for requests, 2, 4 and 5 for responses, 7 for signalling.
    pub fn class(self) -> u8 {
        self.0 >> 5
    }

    /// What it says within its class.
    pub fn detail(self) -> u8 {
        self.0 & 0x1F
    }

    /// Whether it is a method, known or not.
    pub fn is_request(self) -> bool {
        self.class() == 0 && self != Self::EMPTY
    }

    /// Whether it answers a request.
    pub fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }

    /// Whether it is an answer that says that the request was done.
    pub fn is_success(self) -> bool {
        self.class() == 2
    }

    /// The word of the registry; `None` for what has none here.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::EMPTY => "Empty",
            Self::GET => "GET",
            Self::POST => "POST",
            Self::PUT => "PUT",
            Self::DELETE => "DELETE",
            Self::FETCH => "FETCH",
            Self::PATCH => "PATCH",
            Self::IPATCH => "iPATCH",
            Self::CREATED => "Created",
            Self::DELETED => "Deleted",
            Self::VALID => "Valid",
            Self::CHANGED => "Changed",
            Self::CONTENT => "Content",
            Self::NO_CONTENT => "No Content",
            Self::CONTINUE => "Continue",
            Self::BAD_REQUEST => "Bad Request",
            Self::UNAUTHORIZED => "Unauthorized",
            Self::BAD_OPTION => "Bad Option",
            Self::FORBIDDEN => "Forbidden",
            Self::NOT_FOUND => "Not Found",
            Self::METHOD_NOT_ALLOWED => "Method Not Allowed",
            Self::NOT_ACCEPTABLE => "Not Acceptable",
            Self::REQUEST_ENTITY_INCOMPLETE => "Request Entity Incomplete",
            Self::CONFLICT => "Conflict",
            Self::PRECONDITION_FAILED => "Precondition Failed",
            Self::REQUEST_ENTITY_TOO_LARGE => "Request Entity Too Large",
            Self::UNSUPPORTED_CONTENT_FORMAT => "Unsupported Content-Format",
            Self::UNPROCESSABLE_ENTITY => "Unprocessable Entity",
            Self::TOO_MANY_REQUESTS => "Too Many Requests",
            Self::INTERNAL_SERVER_ERROR => "Internal Server Error",
            Self::NOT_IMPLEMENTED => "Not Implemented",
            Self::BAD_GATEWAY => "Bad Gateway",
            Self::SERVICE_UNAVAILABLE => "Service Unavailable",
            Self::GATEWAY_TIMEOUT => "Gateway Timeout",
            Self::PROXYING_NOT_SUPPORTED => "Proxying Not Supported",
            Self::HOP_LIMIT_REACHED => "Hop Limit Reached",
            Self::CSM => "CSM",
            Self::PING => "Ping",
            Self::PONG => "Pong",
            Self::RELEASE => "Release",
            Self::ABORT => "Abort",
            _ => return None,
        })
    }
}

/// `2.05`
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7252 §3: "c.dd"
    #[test]
    fn a_code_is_a_class_and_a_detail() {
        assert_eq!(Code::CONTENT.0, 69);
        assert_eq!(Code::CONTENT.to_string(), "2.05");
        assert_eq!(Code::REQUEST_ENTITY_TOO_LARGE.to_string(), "4.13");
        assert_eq!(Code::GET.name(), Some("GET"));
        assert!(Code::GET.is_request() && !Code::EMPTY.is_request() && !Code::CSM.is_request());
        assert!(Code::NOT_FOUND.is_response() && !Code::NOT_FOUND.is_success());
        assert!(!Code(0x20).is_response() && !Code::CSM.is_response());
    }
}
