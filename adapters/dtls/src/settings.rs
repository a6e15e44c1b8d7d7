//! What a server is told.

use headgate_dtls_codec::CipherSuite;
use std::time::Duration;

/// Limits and habits of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Suites that are taken, best first.
    pub suites: Vec<CipherSuite>,
    /// Whether a client that offers it gets a Connection ID. RFC 9146
    pub connection_id: bool,
    /// Whether sessions with certificates can be resumed. RFC 5246 §7.3
    pub resumption: bool,
    /// Sessions at a time. When there is one more, the one that was silent for the longest time gives way.
    pub max_sessions: usize,
    /// Half-open handshakes at a time. When there is one more, the oldest gives way.
    pub max_handshakes: usize,
    /// Bytes of handshake messages that one handshake may keep.
    pub max_handshake_bytes: usize,
    /// Handshakes that may begin in a second, for each costs some arithmetic. A hello beyond that is not answered, and is sent again by its client.
    pub max_handshakes_per_second: u32,
    /// By when a handshake must be complete.
    pub handshake_timeout: Duration,
    /// A session that is silent for so long ends.
    pub idle_timeout: Duration,
    /// The longest datagram of a handshake that we send.
    pub max_datagram_bytes: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            suites: CipherSuite::ALL.to_vec(),
            connection_id: true,
            resumption: true,
            max_sessions: 10_000,
            max_handshakes: 500,
            max_handshake_bytes: 16 << 10,
            max_handshakes_per_second: 500,
            handshake_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(24 * 60 * 60),
            max_datagram_bytes: 1200,
        }
    }
}
