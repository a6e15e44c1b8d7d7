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
        #[source]
        cause: ProxyError,
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

/// Why a proxy does not connect us.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A SOCKS 5 proxy refused, or the connection to it broke.
    #[error(transparent)]
    Socks(#[from] tokio_socks::Error),
    /// The connection to an HTTP proxy broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// An HTTP proxy's answer is longer than we read, or was cut off.
    #[error("its answer has no end")]
    Endless,
    /// What it answered is not HTTP.
    #[error(transparent)]
    Malformed(#[from] httparse::Error),
    /// An HTTP proxy refused.
    #[error("{code} {reason}")]
    Refused {
        /// Status code.
        code: u16,
        /// Its words.
        reason: String,
    },
}

/// Why a text is not the address of a server or of a proxy. User names and passwords are never shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no scheme.
    #[error("a URL begins with a scheme and `://`")]
    NoScheme,
    /// The scheme is not one that a server is reached by.
    #[error("`{scheme}` is not one of {allowed}, ws, wss and unix")]
    Scheme {
        /// The scheme.
        scheme: String,
        /// What it may be.
        allowed: String,
    },
    /// The scheme is not one that a proxy is reached by.
    #[error("a proxy is `socks5://HOST[:PORT]` or `http://HOST[:PORT]`")]
    NotAProxy,
    /// There is a path, and nothing that has one.
    #[error("`{path}`: only ws and wss have a path; topics are given with -t")]
    Path {
        /// The path.
        path: String,
    },
    /// There is no host.
    #[error("the host is missing")]
    NoHost,
    /// An IPv6 address does not end.
    #[error("`{address}`: a `]` is missing")]
    Bracket {
        /// Host and port.
        address: String,
    },
    /// The port is none.
    #[error("`{address}`: the port is not a number up to 65535")]
    Port {
        /// Host and port.
        address: String,
    },
    /// A `%` stands alone in user name or password. RFC 3986 §2.1
    #[error("user name or password: two hexadecimal digits follow a `%`")]
    Percent,
    /// User name or password is not UTF-8 when it is decoded.
    #[error("user name or password is not UTF-8")]
    NotUtf8,
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
