//! Where to connect: from a URL, or from host and port.

use super::AddressError;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A server, and who we are there if the URL says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub place: RemoteAddress,
    /// TLS around it.
    pub tls: bool,
    /// WebSocket around that, with this path.
    pub websocket: Option<String>,
    /// Subprotocols that are offered there, the best first. RFC 6455 §4.1
    pub subprotocols: &'static str,
    /// What is UTF-8 goes there in text frames: there are servers that take no others. RFC 6455 §5.6
    pub is_text: bool,
    /// From the URL.
    pub username: Option<String>,
    /// From the URL.
    pub password: Option<String>,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteAddress {
    /// Host name or address, and port.
    Host(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How servers of a protocol are written as URLs.
#[derive(Clone, Copy, Debug)]
pub struct Schemes {
    /// Those of plain connections: name, TLS, and the usual port.
    pub plain: &'static [(&'static str, bool, u16)],
    /// The path of a WebSocket URL that has none.
    pub path: &'static str,
    /// See [`Target::subprotocols`].
    pub subprotocols: &'static str,
    /// See [`Target::is_text`].
    pub is_text: bool,
}

/// Of MQTT. MQTT 5 §6 names no path; this is everybody's. \[MQTT-6.0.0-3\]
const MQTT: Schemes = Schemes {
    plain: &[
        ("mqtt", false, 1883),
        ("mqtts", true, 8883),
        ("tcp", false, 1883),
        ("ssl", true, 8883),
    ],
    path: "/mqtt",
    subprotocols: "mqtt",
    is_text: false,
};

impl Target {
    /// MQTT at a host, on its usual port unless told otherwise.
    pub fn host(host: &str, port: Option<u16>, tls: bool) -> Self {
        let port = port.unwrap_or(if tls { 8883 } else { 1883 });
        Self {
            place: RemoteAddress::Host(host.to_owned(), port),
            tls,
            websocket: None,
            subprotocols: MQTT.subprotocols,
            is_text: MQTT.is_text,
            username: None,
            password: None,
        }
    }

    /// Reads a URL: one of the schemes, `ws[s]://HOST[:PORT][/PATH]` or `unix:PATH`.
    pub fn parse(url: &str, schemes: &Schemes) -> Result<Self, AddressError> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let place = RemoteAddress::Unix(path.into());
            return Ok(Self {
                place,
                subprotocols: schemes.subprotocols,
                is_text: schemes.is_text,
                ..Self::host("", None, false)
            });
        }
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::NoScheme)?;
        let plain = schemes.plain.iter().find(|(name, ..)| *name == scheme);
        let (tls, websocket, usual) = match (scheme, plain) {
            (_, Some((_, tls, port))) => (*tls, false, *port),
            ("ws", None) => (false, true, 80),
            ("wss", None) => (true, true, 443),
            _ => {
                // Another name of one that is told already.
                let names = schemes.plain.iter().take(2).map(|(name, ..)| *name);
                return Err(AddressError::Scheme {
                    scheme: scheme.to_owned(),
                    allowed: names.collect::<Vec<_>>().join(", "),
                });
            }
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        if !websocket && path.len() > 1 {
            return Err(AddressError::Path {
                path: path.to_owned(),
            });
        }
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address, usual)?;
        let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((name, "")) => (Some(decode(name)?), None),
            Some((name, password)) => (Some(decode(name)?), Some(decode(password)?)),
            None => (None, None),
        };
        let path = if path.is_empty() { schemes.path } else { path };
        Ok(Self {
            place: RemoteAddress::Host(host.to_owned(), port),
            tls,
            websocket: websocket.then(|| path.to_owned()),
            subprotocols: schemes.subprotocols,
            is_text: schemes.is_text,
            username,
            password,
        })
    }
}

/// Of MQTT.
impl FromStr for Target {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, AddressError> {
        Self::parse(url, &MQTT)
    }
}

/// An IPv6 address with a port stands in brackets.
pub(super) fn split_port(address: &str, usual: u16) -> Result<(&str, u16), AddressError> {
    let (host, port) = match address.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, rest))) => (host, rest.strip_prefix(':')),
        Some(None) => {
            return Err(AddressError::Bracket {
                address: address.to_owned(),
            });
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    let port = port.map_or(Ok(usual), str::parse);
    let port = port.map_err(|_| AddressError::Port {
        address: address.to_owned(),
    })?;
    Ok((host, port))
}

/// Takes `%41` for `A`. RFC 3986 §2.1.
pub(super) fn decode(text: &str) -> Result<String, AddressError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.ok_or(AddressError::Percent)?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| AddressError::NotUtf8)
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (String, bool, Option<String>) {
        let target: Target = url.parse().unwrap();
        (target.place.to_string(), target.tls, target.websocket)
    }

    #[test]
    fn urls_name_transport_place_and_path() {
        let ws = |path: &str| Some(path.to_owned());
        assert_eq!(parsed("mqtt://a"), ("a:1883".into(), false, None));
        assert_eq!(parsed("mqtts://a.b:99"), ("a.b:99".into(), true, None));
        assert_eq!(parsed("mqtt://[::1]"), ("[::1]:1883".into(), false, None));
        assert_eq!(parsed("mqtt://[::1]:7/"), ("[::1]:7".into(), false, None));
        assert_eq!(parsed("ws://a:8083"), ("a:8083".into(), false, ws("/mqtt")));
        assert_eq!(parsed("wss://a/x/y?z"), ("a:443".into(), true, ws("/x/y?z")));
        assert_eq!(parsed("unix:/run/x"), ("/run/x".into(), false, None));
        assert_eq!(parsed("unix:///run/x"), ("/run/x".into(), false, None));
    }

    #[test]
    fn a_url_may_say_who_we_are() {
        let target: Target = "mqtt://ann%40x:p%3A@ss:w@h".parse().unwrap();
        assert_eq!(target.username.as_deref(), Some("ann@x"));
        assert_eq!(target.password.as_deref(), Some("p:@ss:w"));
        let target: Target = "mqtt://ann@h".parse().unwrap();
        assert_eq!((target.username.as_deref(), target.password), (Some("ann"), None));
    }

    #[test]
    fn what_is_not_a_url_is_refused_in_words() {
        for (url, word) in [
            ("localhost", "scheme"),
            ("http://a", "`http`"),
            ("mqtt://a/t", "-t"),
            ("mqtt://", "host"),
            ("mqtt://a:b", "port"),
            ("mqtt://[::1", "`]`"),
            ("mqtt://a%zz@h", "hexadecimal"),
            ("mqtt://a%ä@h", "hexadecimal"),
        ] {
            let error = url.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(word), "{url}: {error}");
            assert!(
                !error.contains("a%"),
                "what may be a password is never shown: {error}"
            );
        }
    }
}
