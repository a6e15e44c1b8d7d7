//! DTLS 1.2: bytes to records and handshake messages, and back. RFC 6347, RFC 5246.
//!
//! [`next_record`] cuts a record off a datagram, [`next_fragment`] a fragment of a handshake message off a record. The messages themselves are
//! [`ClientHello`], [`ServerHello`] and those of [`message`]. What protects records is none of its business.
//!
//! Always true: no bytes make it panic; nothing is allocated by a number that a peer sent; what is read is a slice of the datagram.

mod alert;
mod error;
pub mod extension;
mod handshake;
mod hello;
pub mod message;
mod reader;
mod record;
mod suite;

pub use alert::{Alert, Description};
pub use error::DecodeError;
pub use handshake::{
    Fragment, HANDSHAKE_HEADER, HandshakeType, next_fragment, write_fragment, write_message,
};
pub use hello::{ClientHello, RANDOM_LEN, ServerHello};
pub use record::{ContentType, MAX_FRAGMENT, RECORD_HEADER, Record, RecordHeader, next_record};
pub use suite::{Bulk, CipherSuite, KeyExchange, RENEGOTIATION_SCSV};

/// DTLS 1.0, in the records of a HelloVerifyRequest. RFC 6347 §4.2.1
pub const DTLS_1_0: u16 = 0xFEFF;

/// DTLS 1.2. RFC 6347 §4.1
pub const DTLS_1_2: u16 = 0xFEFD;
