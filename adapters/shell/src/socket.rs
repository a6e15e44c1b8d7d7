//! Listening sockets: TCP over IPv4 and IPv6, and Unix-domain sockets with their files.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use crate::settings::ListenerSettings;
#[cfg(unix)]
use crate::unix::{self, SocketFile};
use headgate_access::PeerAddr;

/// A socket that accepts connections.
pub(crate) enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// What came in.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Accepted {
    /// The other end of the socket.
    pub(crate) fn peer(&self) -> PeerAddr {
        match self {
            Self::Tcp(_, peer) => PeerAddr::Ip(*peer),
            #[cfg(unix)]
            Self::Unix(stream) => unix::peer_of(stream),
        }
    }
}

impl Socket {
    pub(crate) fn bind_tcp(settings: &ListenerSettings) -> io::Result<Self> {
        let socket = Self::bound_tcp(settings)?;
        socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
    }

    /// Whether the system gives us the address. Nobody can connect meanwhile.
    pub(crate) fn try_tcp(settings: &ListenerSettings) -> io::Result<()> {
        Self::bound_tcp(settings).map(drop)
    }

    fn bound_tcp(settings: &ListenerSettings) -> io::Result<socket2::Socket> {
        let address = parse_address(&settings.bind)?;
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(settings.ipv6_only)?;
        }
        // On Windows the option would let two processes share the port.
        #[cfg(not(windows))]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    }

    #[cfg(unix)]
    pub(crate) fn bind_unix(settings: &ListenerSettings) -> io::Result<Self> {
        let (listener, _file) = unix::bind(settings)?;
        Ok(Self::Unix { listener, _file })
    }

    #[cfg(not(unix))]
    pub(crate) fn bind_unix(_: &ListenerSettings) -> io::Result<Self> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Takes over what of the settings the system has to know, for a socket that stays where it is.
    pub(crate) fn renew(&self, settings: &ListenerSettings) -> io::Result<()> {
        let backlog = i32::try_from(settings.backlog).unwrap_or(i32::MAX);
        match self {
            Self::Tcp(listener) => socket2::SockRef::from(listener).listen(backlog),
            #[cfg(unix)]
            Self::Unix { listener, .. } => {
                unix::permit(settings)?;
                socket2::SockRef::from(listener).listen(backlog)
            }
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix { .. } => None,
        }
    }

    /// Waits for a connection. Cancel-safe.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, canonical(peer)))
            }
            #[cfg(unix)]
            Self::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// An IPv4 client of a dual-stack socket is shown as what it is.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(v6.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}

/// An address and port; in IPv6 with a scope, as number or name of the interface.
pub fn parse_address(text: &str) -> io::Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = || {
        let what = format!("`{text}` is no address with a port, such as 127.0.0.1:1883 or [::]:1883");
        io::Error::new(ErrorKind::InvalidInput, what)
    };
    let (host, port) = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"))
        .ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let (ip, _scope) = host.split_once('%').ok_or_else(wrong)?;
    ip.parse::<Ipv6Addr>().map_err(|_| wrong())?;
    // The system's resolver is what knows the names of interfaces.
    let mut found = (host, port).to_socket_addrs()?;
    found.next().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_a_scope_are_understood() {
        assert_eq!(parse_address("127.0.0.1:1883").unwrap().port(), 1883);
        let SocketAddr::V6(numbered) = parse_address("[fe80::1%7]:1883").unwrap() else {
            panic!("IPv6")
        };
        assert_eq!(numbered.scope_id(), 7);
        for wrong in [
            "",
            "1883",
            "localhost:1883",
            "127.0.0.1",
            "[::1]",
            "[::1%]:1883",
            "[example.com%lo]:1883",
        ] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }

    /// The loopback interface is `lo` on Linux only.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_scope_may_be_the_name_of_an_interface() {
        let SocketAddr::V6(named) = parse_address("[fe80::1%lo]:1883").unwrap() else {
            panic!("IPv6")
        };
        assert_ne!(named.scope_id(), 0);
    }
}
