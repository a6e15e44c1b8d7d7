//! Between the network and whoever knows users and rules: neither has to know the other.
//!
//! The network says what it knows of a peer ([`ConnectionInfo`]); whoever knows users and rules answers the questions of endpoints about it
//! ([`AccessService`]). Always true: a question has an answer in time, whoever hangs.

mod network;
mod peer;
mod service;
mod shared_key;

pub use network::{AddressRule, AddressRules, Network, ParseRuleError, subscriber};
pub use peer::{ClientCert, ConnectionInfo, HttpInfo, PeerAddr, TlsInfo};
pub use service::{ANSWER_IN, AccessService, AccessSession, Answering, Finding, ask};
pub use shared_key::{SharedKey, SharedKeyError, unhex};
