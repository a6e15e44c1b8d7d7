//! Alerts. RFC 5246 §7.2

use crate::DecodeError;
use crate::reader::Reader;

/// An alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Whether the session ends with it.
    pub fatal: bool,
    /// What is the matter.
    pub description: Description,
}

impl Alert {
    /// One that ends the session.
    pub const fn fatal(description: Description) -> Self {
        Self {
            fatal: true,
            description,
        }
    }

    /// One that does not, or says goodbye.
    pub const fn warning(description: Description) -> Self {
        Self {
            fatal: false,
            description,
        }
    }

    /// Reads what a record carries.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "alert");
        let fatal = match reader.u8()? {
            1 => false,
            2 => true,
            _ => return Err(DecodeError::Value("alert")),
        };
        let description = Description(reader.u8()?);
        reader.end()?;
        Ok(Self { fatal, description })
    }

    /// What a record carries.
    pub fn encode(self) -> [u8; 2] {
        [if self.fatal { 2 } else { 1 }, self.description.0]
    }
}

/// What an alert says, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Description(pub u8);

macro_rules! descriptions {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        #[allow(missing_docs, reason = "the names are those of the specification")]
        impl Description {
            $(pub const $name: Self = Self($number);)*

            /// Its name in the specification.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "unknown",
                }
            }
        }
    };
}

descriptions! {
    CLOSE_NOTIFY = 0, "close_notify";
    UNEXPECTED_MESSAGE = 10, "unexpected_message";
    BAD_RECORD_MAC = 20, "bad_record_mac";
    RECORD_OVERFLOW = 22, "record_overflow";
    HANDSHAKE_FAILURE = 40, "handshake_failure";
    BAD_CERTIFICATE = 42, "bad_certificate";
    UNSUPPORTED_CERTIFICATE = 43, "unsupported_certificate";
    CERTIFICATE_REVOKED = 44, "certificate_revoked";
    CERTIFICATE_EXPIRED = 45, "certificate_expired";
    CERTIFICATE_UNKNOWN = 46, "certificate_unknown";
    ILLEGAL_PARAMETER = 47, "illegal_parameter";
    UNKNOWN_CA = 48, "unknown_ca";
    ACCESS_DENIED = 49, "access_denied";
    DECODE_ERROR = 50, "decode_error";
    DECRYPT_ERROR = 51, "decrypt_error";
    PROTOCOL_VERSION = 70, "protocol_version";
    INSUFFICIENT_SECURITY = 71, "insufficient_security";
    INTERNAL_ERROR = 80, "internal_error";
    USER_CANCELED = 90, "user_canceled";
    NO_RENEGOTIATION = 100, "no_renegotiation";
    UNSUPPORTED_EXTENSION = 110, "unsupported_extension";
    UNKNOWN_PSK_IDENTITY = 115, "unknown_psk_identity";
}
