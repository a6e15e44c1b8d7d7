//! Proxies: SOCKS 5 (RFC 1928, 1929), and HTTP CONNECT (RFC 9110 §9.3.6).

use super::target::{RemoteAddress, decode, split_port};
use super::{AddressError, DialError, ProxyError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use std::fmt;
use std::str::FromStr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

/// The most that is read of an HTTP answer.
const HEAD_MAX: usize = 8 << 10;

/// Who passes our bytes on: `socks5://[USER:PASSWORD@]HOST[:PORT]` or `http://…`. Names are resolved by the proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How it is spoken to.
    pub kind: ProxyKind,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS 5.
    Socks5,
    /// HTTP CONNECT.
    Http,
}

impl FromStr for Proxy {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (kind, usual) = match scheme {
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            "http" => (ProxyKind::Http, 3128),
            _ => return Err(AddressError::NotAProxy),
        };
        let rest = rest.trim_end_matches('/');
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let login = user.map(|user| user.split_once(':').unwrap_or((user, "")));
        let login = login.map(|(name, password)| Ok::<_, AddressError>((decode(name)?, decode(password)?)));
        let (host, port) = split_port(address, usual)?;
        Ok(Self {
            kind,
            host: host.to_owned(),
            port,
            login: login.transpose()?,
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RemoteAddress::Host(self.host.clone(), self.port).fmt(f)
    }
}

/// Without the password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {self}", self.kind)
    }
}

impl Proxy {
    /// Lets the proxy at the other end of `tcp` connect us to the host.
    pub(super) async fn pass(&self, tcp: TcpStream, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let passed = match self.kind {
            ProxyKind::Socks5 => self.socks(tcp, host, port).await,
            ProxyKind::Http => self.http(tcp, host, port).await,
        };
        passed.map_err(|cause| DialError::Proxy {
            proxy: self.to_string(),
            place: RemoteAddress::Host(host.to_owned(), port).to_string(),
            cause,
        })
    }

    async fn socks(&self, tcp: TcpStream, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        let opened = match &self.login {
            None => Socks5Stream::connect_with_socket(tcp, (host, port)).await,
            Some((name, password)) => {
                Socks5Stream::connect_with_password_and_socket(tcp, (host, port), name, password).await
            }
        };
        Ok(opened?.into_inner())
    }

    async fn http(&self, mut tcp: TcpStream, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        let place = RemoteAddress::Host(host.to_owned(), port);
        let login = self.login.as_ref().map(|(name, password)| {
            let login = STANDARD.encode(format!("{name}:{password}"));
            format!("Proxy-Authorization: Basic {login}\r\n")
        });
        let login = login.unwrap_or_default();
        let request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n");
        tcp.write_all(request.as_bytes()).await?;
        let mut head = BytesMut::new();
        // The host says nothing before we do, so nothing follows the head that would be lost.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= HEAD_MAX || tcp.read_buf(&mut head).await? == 0 {
                return Err(ProxyError::Endless);
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        answer.parse(&head)?;
        match answer.code {
            Some(200..=299) => Ok(tcp),
            code => Err(ProxyError::Refused {
                code: code.unwrap_or_default(),
                reason: answer.reason.unwrap_or_default().to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_by_a_url() {
        let proxy: Proxy = "socks5://ann:p%40ss@gate:99".parse().unwrap();
        assert_eq!(
            (proxy.kind, proxy.to_string().as_str()),
            (ProxyKind::Socks5, "gate:99")
        );
        assert_eq!(proxy.login, Some(("ann".into(), "p@ss".into())));
        assert!(
            !format!("{proxy:?}").contains("p@ss"),
            "a password is never shown"
        );
        let proxy: Proxy = "http://[::1]/".parse().unwrap();
        assert_eq!(
            (proxy.kind, proxy.to_string().as_str()),
            (ProxyKind::Http, "[::1]:3128")
        );
        for wrong in ["gate:99", "ftp://gate", "http://"] {
            assert!(wrong.parse::<Proxy>().is_err(), "{wrong}");
        }
    }
}
