//! DTLS 1.2, the server's side: all peers of one socket as one plain struct, which is told what happened and writes down what follows. RFC 6347, RFC 5246.
//!
//! [`DtlsServer`] takes datagrams and gives plaintext, and the other way round. It offers the suites of
//! [`CipherSuite`](headgate_dtls_codec::CipherSuite): a shared key (RFC 4279), one with Diffie-Hellman (RFC 5489), ECDSA (RFC 8422) with certificates or raw
//! public keys (RFC 7250); and Connection IDs (RFC 9146), the extended master secret (RFC 7627), encrypt-then-MAC (RFC 7366), shorter records (RFC 6066 §4).
//! Sessions with certificates can be resumed (RFC 5246 §7.3). There is no renegotiation and no compression.
//!
//! Always true:
//! - nothing is kept of an address, nor more sent to it than came from it, before it has sent back a cookie;
//! - what is not authentic changes nothing of a session;
//! - half-open handshakes and sessions are bounded in number, and each in bytes;
//! - a new handshake from the address of a session replaces it when it is complete, not before. RFC 6347 §4.2.8

mod begin;
mod cookie;
mod credentials;
mod crypto;
mod flight;
mod handshake;
mod ledger;
mod negotiate;
mod outputs;
mod reassembly;
mod resume;
mod server;
mod session;
mod sessions;
mod settings;
mod steps;
#[cfg(test)]
mod tests;
mod timers;
mod window;
mod writer;

pub use credentials::{ClientVerifier, Credentials, ServerKey, Shown};
pub use crypto::Random;
pub use outputs::{COUNTERS, CloseReason, Counter, Event, Failure, Outputs, Peer, Reason};
pub use server::{DtlsServer, SendError};
pub use settings::ServerSettings;

/// Bytes of the Connection IDs that we give. RFC 9146 §3
pub const CID_LEN: usize = 8;
