//! Connections that go out: from a target to a stream of bytes, whatever lies between.
//!
//! Always true: certificates, keys and authorities are read for every connection, so that renewed ones count from the next one on; nothing is retried here.

mod error;
mod proxy;
mod target;
mod tls;
mod websocket;

pub use error::{AddressError, DialError, ProxyError};
pub use proxy::Proxy;
pub use target::{RemoteAddress, Schemes, Target};
pub use tls::{ClientFile, ClientTls, explain};
pub use websocket::Piped;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// How long one of several addresses of a name may take.
const ADDRESS_TIME: Duration = Duration::from_secs(8);

/// Any stream of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Where it is, and what is spoken on the way.
    pub target: Target,
    /// What TLS needs to know, if the target wants it.
    pub tls: ClientTls,
    /// Who passes the bytes on.
    pub proxy: Option<Proxy>,
    /// From where.
    pub bind: Option<Bind>,
    /// Who says it for each address that the target has, where `bind` does not.
    pub way_out: Option<Arc<dyn WayOut>>,
}

/// Knows several ways out of this machine, and which one is to be taken now.
pub trait WayOut: fmt::Debug + Send + Sync {
    /// By which a connection to this address leaves; `None`: the system says.
    fn way_to(&self, remote: IpAddr) -> Option<Bind>;
}

/// Our end of a connection that goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An address of this machine.
    Address(IpAddr),
    /// A network interface of it, whatever its addresses are. Linux only.
    Interface(String),
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Interface(text.to_owned()), Self::Address)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(name) => f.write_str(name),
        }
    }
}

/// What was reached on the way, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The host's name, or the proxy's, stands for these addresses.
    Resolved(Vec<SocketAddr>),
    /// By which of several ways out it leaves.
    Leaves(Bind),
    /// The host, or the proxy, accepted the connection.
    Connected(SocketAddr),
    /// The proxy reached the host.
    Proxied,
    /// TLS: version, cipher suite, application protocol if one was agreed on.
    Secured(String),
    /// The WebSocket is open.
    Upgraded,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
                write!(f, "name resolved: {}", addresses.join(", "))
            }
            Self::Leaves(way) => write!(f, "leaves by {way}"),
            Self::Connected(address) => write!(f, "connected to {address}"),
            Self::Proxied => f.write_str("the proxy reached the host"),
            Self::Secured(what) => write!(f, "TLS: {what}"),
            Self::Upgraded => f.write_str("the WebSocket is open"),
        }
    }
}

/// A connection past all handshakes.
pub enum Dialed {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// A task speaks WebSocket at the other end.
    WebSocket(Piped),
    /// A Unix-domain stream socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Dialed {
    /// For whoever reads and writes by itself.
    pub fn into_stream(self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(stream) => Box::new(stream),
            Self::Tls(stream) => stream,
            Self::WebSocket(pipe) => Box::new(pipe),
            #[cfg(unix)]
            Self::Unix(stream) => Box::new(stream),
        }
    }
}

impl Dial {
    /// Connects, with all the layers; tells `on_step` how far it is.
    pub async fn connect(&self, on_step: &mut (dyn FnMut(Step) + Send)) -> Result<Dialed, DialError> {
        let (host, port) = match &self.target.place {
            RemoteAddress::Host(host, port) => (host.as_str(), *port),
            #[cfg(unix)]
            RemoteAddress::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                return stream.map(Dialed::Unix).map_err(|cause| self.unreachable(cause));
            }
            #[cfg(not(unix))]
            RemoteAddress::Unix(_) => return Err(self.unreachable(io::ErrorKind::Unsupported.into())),
        };
        let tcp = match &self.proxy {
            None => self.socket(host, port, on_step).await?,
            Some(proxy) => {
                let mut tcp = self.socket(&proxy.host, proxy.port, on_step).await?;
                tcp = proxy.pass(tcp, host, port).await?;
                on_step(Step::Proxied);
                tcp
            }
        };
        if !self.target.tls {
            return match &self.target.websocket {
                None => Ok(Dialed::Tcp(tcp)),
                Some(path) => self.upgrade(Box::new(tcp), path, on_step).await,
            };
        }
        let tls = self
            .tls
            .secure(tcp, host)
            .await
            .map_err(|cause| self.no_tls(cause))?;
        on_step(Step::Secured(tls::describe(&tls)));
        match &self.target.websocket {
            None => Ok(Dialed::Tls(Box::new(tls))),
            Some(path) => self.upgrade(Box::new(tls), path, on_step).await,
        }
    }

    async fn upgrade(
        &self,
        below: Box<dyn Stream>,
        path: &str,
        on_step: &mut (dyn FnMut(Step) + Send),
    ) -> Result<Dialed, DialError> {
        let pipe = websocket::open(below, &self.target, path).await?;
        on_step(Step::Upgraded);
        Ok(Dialed::WebSocket(pipe))
    }

    async fn socket(
        &self,
        host: &str,
        port: u16,
        on_step: &mut (dyn FnMut(Step) + Send),
    ) -> Result<TcpStream, DialError> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|cause| DialError::Resolve {
            host: host.to_owned(),
            cause,
        })?;
        let found: Vec<SocketAddr> = found.collect();
        on_step(Step::Resolved(found.clone()));
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let count = found.len();
        for (n, address) in found.into_iter().enumerate() {
            let way = self.way_out.as_ref().filter(|_| self.bind.is_none());
            let way = way.and_then(|out| out.way_to(address.ip()));
            let reaching = reach(address, self.bind.as_ref().or(way.as_ref()));
            let reached = match n + 1 == count {
                true => reaching.await,
                // Others come after it.
                false => timeout(ADDRESS_TIME, reaching)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            };
            match reached {
                Ok(stream) => {
                    if let Some(way) = way {
                        on_step(Step::Leaves(way));
                    }
                    on_step(Step::Connected(address));
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(DialError::Connect {
            place: RemoteAddress::Host(host.to_owned(), port).to_string(),
            cause: last,
        })
    }

    fn unreachable(&self, cause: io::Error) -> DialError {
        DialError::Connect {
            place: self.target.place.to_string(),
            cause,
        }
    }

    fn no_tls(&self, error: tls::Failure) -> DialError {
        match error {
            tls::Failure::Files(error) => error,
            tls::Failure::Handshake(cause) => DialError::Tls {
                place: self.target.place.to_string(),
                cause,
            },
        }
    }
}

/// Connects to an address, from a place of ours if one is given.
pub async fn reach(address: SocketAddr, bind: Option<&Bind>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    match bind {
        None => {}
        Some(Bind::Address(ours)) => socket.bind((*ours, 0).into())?,
        #[cfg(target_os = "linux")]
        Some(Bind::Interface(name)) => socket.bind_device(Some(name.as_bytes()))?,
        #[cfg(not(target_os = "linux"))]
        Some(Bind::Interface(_)) => return Err(io::ErrorKind::Unsupported.into()),
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
