//! What is known of a peer: where it is, and what it showed on the way in.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What is known of the peer before it says its first word.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The client: as a trusted proxy or forwarder says, else the other end of the socket.
    pub peer: PeerAddr,
    /// Nothing shows that the peer is where it says: anybody can send a datagram under another's address.
    pub forgeable: bool,
    /// It is gone, and what it had shown with it: it may not come in.
    pub gone: bool,
    /// The other end of the socket, where a proxy or forwarder spoke for the client.
    pub via: Option<SocketAddr>,
    /// Our end; through a proxy, the address that the client connected to.
    pub local: Option<SocketAddr>,
    /// What the listener puts in front of the client's topics.
    pub mount_point: Option<Arc<str>>,
    /// TLS that ended here.
    pub tls: Option<Box<TlsInfo>>,
    /// The WebSocket's HTTP request.
    pub http: Option<Box<HttpInfo>>,
    /// Common name of a client certificate that a trusted proxy has verified.
    pub proxy_common_name: Option<String>,
    /// The host name (SNI) that the client gave to a trusted proxy.
    pub proxy_authority: Option<String>,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(
    size_of::<ConnectionInfo>() <= 200,
    "there is one for each connection"
);

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// An address of the internet. Never IPv4-mapped IPv6.
    Ip(SocketAddr),
    /// A process on this machine, as far as the system tells.
    Unix {
        /// Process.
        pid: Option<i32>,
        /// User.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
    },
    /// A device at the other end of a wire that is plugged into this machine.
    Serial,
    /// The other end of a pipe in memory.
    Memory,
}

/// What TLS agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The host name that the client asked for.
    pub sni: Option<String>,
    /// `TLSv1.2`, `TLSv1.3` or `DTLSv1.2`.
    pub version: &'static str,
    /// The IANA name of the cipher suite.
    pub cipher: String,
    /// The application protocol (ALPN), if one was agreed on.
    pub alpn: Option<String>,
    /// The client's certificate, verified.
    pub client_cert: Option<ClientCert>,
    /// The name of the key that the client has proved to have: the identity of a shared key (RFC 4279), or that of a raw public key in the settings.
    pub identity: Option<String>,
}

/// A verified client certificate. For its DER see the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// The (last, most specific) common name of the subject.
    pub common_name: Option<String>,
    /// The subject in the form of RFC 4514: `CN=pump-7,O=Plant`.
    pub subject: String,
    /// The issuer in the same form.
    pub issuer: String,
    /// Serial number, upper-case hexadecimal.
    pub serial: String,
    /// Subject alternative names: DNS names, mail addresses, URIs and IP addresses, as text.
    pub san: Vec<String>,
    /// SHA-256 of the DER.
    pub sha256: [u8; 32],
}

/// The HTTP request that opened a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpInfo {
    /// The path without the query.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// `Host`
    pub host: Option<String>,
    /// `Origin`
    pub origin: Option<String>,
    /// `User-Agent`
    pub user_agent: Option<String>,
    /// `Cookie`
    pub cookies: Option<String>,
    /// `Authorization`
    pub authorization: Option<String>,
    /// `X-Forwarded-For` as received: not to be trusted, unlike [`ConnectionInfo::peer`].
    pub forwarded_for: Option<String>,
    /// The subprotocol that was agreed on.
    pub subprotocol: Option<String>,
}

impl ConnectionInfo {
    /// The least that is known of a connection.
    pub fn new(listener: Arc<str>, peer: PeerAddr) -> Self {
        Self {
            listener,
            peer,
            forgeable: false,
            gone: false,
            via: None,
            local: None,
            mount_point: None,
            tls: None,
            http: None,
            proxy_common_name: None,
            proxy_authority: None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix { pid: Some(pid), .. } => write!(f, "unix:{pid}"),
            Self::Unix { pid: None, .. } => f.write_str("unix"),
            Self::Serial => f.write_str("serial"),
            Self::Memory => f.write_str("memory"),
        }
    }
}
