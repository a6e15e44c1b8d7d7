//! What can go wrong on the way to a server, in words for operators.

use std::io;
use std::path::PathBuf;

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// DNS does not know the name, or cannot be asked.
    #[error("the host name `{host}` cannot be resolved: {cause}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Nobody accepted the connection.
    #[error("cannot connect to {place}: {cause}")]
    Connect {
        /// Host and port, or a path.
        place: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The proxy does not pass us on.
    #[error("the proxy {proxy} does not connect us to {place}: {cause}")]
    Proxy {
        /// The proxy.
        proxy: String,
        /// Where we want to go.
        place: String,
        /// What it said.
        cause: String,
    },
    /// The handshake failed.
    #[error("TLS with {place} failed: {cause}")]
    Tls {
        /// Host and port.
        place: String,
        /// Why.
        cause: String,
    },
    /// The WebSocket's handshake failed.
    #[error("WebSocket with {place} failed: {cause}")]
    WebSocket {
        /// Host and port.
        place: String,
        /// Why.
        cause: String,
    },
    /// A file of ours cannot be used.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// There is nobody to believe.
    #[error("there are no certificate authorities on this system; name a file of some")]
    NoAuthorities,
}

impl DialError {
    /// Whether another try may fare better without anybody doing anything here.
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Proxy { .. } | Self::WebSocket { .. }
        )
    }
}
