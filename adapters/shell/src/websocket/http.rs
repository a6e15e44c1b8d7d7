//! The HTTP request that opens a WebSocket, and its answers. RFC 6455 §4.2, RFC 9110.
//!
//! [`judge`] decides and is pure; [`read_head`] waits for the bytes.

use crate::origin::is_from_elsewhere;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::settings::WebSocketSettings;
use crate::socket::canonical;
use crate::stream::ByteStream;
use headgate_access::{HttpInfo, Network};

const MAX_HEADERS: usize = 64;

/// A request that is accepted.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) info: HttpInfo,
    /// Who the client is, if a trusted forwarder says so.
    pub(crate) forwarded: Option<SocketAddr>,
    accept_key: String,
}

/// A request that is not, and what it is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) status: &'static str,
    pub(crate) cause: &'static str,
    headers: &'static str,
}

const NO_SUBPROTOCOL: &str = "none of websocket.subprotocols is offered in Sec-WebSocket-Protocol, \
    which websocket.require_subprotocol asks for";

#[derive(Debug)]
pub(crate) enum HeadError {
    Io(io::Error),
    Rejected(Rejection),
}

/// The request's head, parsed.
#[derive(Debug, Default)]
pub(crate) struct Head {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Rejection {
    pub(crate) const FORBIDDEN: Self = Self::new("403 Forbidden", "this address may not connect");

    const fn new(status: &'static str, cause: &'static str) -> Self {
        Self {
            status,
            cause,
            headers: "",
        }
    }

    const fn bad(cause: &'static str) -> Self {
        Self::new("400 Bad Request", cause)
    }

    pub(crate) fn response(&self) -> BytesMut {
        let Self {
            status,
            cause,
            headers,
        } = self;
        let length = cause.len() + 1;
        let text = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n{cause}\n"
        );
        text.as_bytes().into()
    }
}

impl Upgrade {
    pub(crate) fn response(&self) -> BytesMut {
        let mut text = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.accept_key
        );
        if let Some(subprotocol) = &self.info.subprotocol {
            text += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
        }
        text += "\r\n";
        text.as_bytes().into()
    }
}

/// Reads up to the end of the head; also returns what came behind it.
pub(crate) async fn read_head(
    stream: &mut impl ByteStream,
    max: usize,
) -> Result<(Head, BytesMut), HeadError> {
    let mut bytes = BytesMut::new();
    loop {
        let n = poll_fn(|cx| stream.poll_read(cx, &mut bytes))
            .await
            .map_err(HeadError::Io)?;
        if n == 0 {
            return Err(HeadError::Io(ErrorKind::UnexpectedEof.into()));
        }
        let parsed = parse_head(&bytes).map_err(HeadError::Rejected)?;
        match parsed {
            Some((head, size)) if size <= max => {
                let rest = bytes.split_off(size);
                return Ok((head, rest));
            }
            None if bytes.len() <= max => {}
            _ => {
                let rejection = Rejection::new(
                    "431 Request Header Fields Too Large",
                    "the request head is too large",
                );
                return Err(HeadError::Rejected(rejection));
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Rejection> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => {
            if request.version != Some(1) {
                return Err(Rejection::bad("not HTTP/1.1"));
            }
            let text = |value: &[u8]| String::from_utf8(value.to_vec());
            let headers = request
                .headers
                .iter()
                .map(|h| text(h.value).map(|v| (h.name.to_ascii_lowercase(), v)));
            let head = Head {
                method: request.method.unwrap_or_default().into(),
                target: request.path.unwrap_or_default().into(),
                headers: headers
                    .collect::<Result<_, _>>()
                    .map_err(|_| Rejection::bad("a header is not UTF-8"))?,
            };
            Ok(Some((head, size)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Rejection::new(
            "431 Request Header Fields Too Large",
            "too many headers",
        )),
        Err(_) => Err(Rejection::bad("not an HTTP request")),
    }
}

/// Decides about a request. `from_forwarder`: who sent it is trusted to say who the client is.
pub(crate) fn judge(
    head: &Head,
    settings: &WebSocketSettings,
    from_forwarder: bool,
) -> Result<Upgrade, Rejection> {
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target.as_str(), None),
    };
    if settings.path != "*" && path != settings.path {
        return Err(Rejection::new("404 Not Found", "no such path"));
    }
    if head.method != "GET" {
        let headers = "Allow: GET\r\n";
        return Err(Rejection {
            headers,
            ..Rejection::new("405 Method Not Allowed", "only GET")
        });
    }
    if !head.has_token("upgrade", "websocket") || !head.has_token("connection", "upgrade") {
        let headers = "Upgrade: websocket\r\n";
        return Err(Rejection {
            headers,
            ..Rejection::new("426 Upgrade Required", "only WebSocket is spoken here")
        });
    }
    if head.get("sec-websocket-version") != Some("13") {
        let headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        return Err(Rejection {
            headers,
            ..Rejection::new("426 Upgrade Required", "only WebSocket version 13")
        });
    }
    let key = head.get("sec-websocket-key").unwrap_or_default();
    if STANDARD.decode(key).map(|nonce| nonce.len()) != Ok(16) {
        return Err(Rejection::bad("Sec-WebSocket-Key is missing or wrong"));
    }
    let origin = head.get("origin");
    let may_connect = match origin {
        None => true,
        Some(origin) if settings.origins.is_empty() => {
            !is_from_elsewhere(head.get("host"), Some(origin), head.get("sec-fetch-site"))
        }
        Some(origin) => settings
            .origins
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)),
    };
    if !may_connect {
        let why = "pages of this origin may not connect: see `websocket.origins`";
        return Err(Rejection::new("403 Forbidden", why));
    }
    let subprotocol = settings
        .subprotocols
        .iter()
        .find(|known| head.has_exact("sec-websocket-protocol", known));
    if subprotocol.is_none() && settings.require_subprotocol != Some(false) {
        return Err(Rejection::bad(NO_SUBPROTOCOL));
    }

    let text = |name| head.get(name).map(String::from);
    let forwarded_for = head.all("x-forwarded-for");
    let forwarded = match &forwarded_for {
        Some(list) if from_forwarder => {
            let client = forwarded_client(list, &settings.trusted_forwarders);
            let mut client =
                client.ok_or(Rejection::bad("X-Forwarded-For has no address where one is due"))?;
            if let Some(port) = head.get("x-forwarded-port").and_then(|port| port.parse().ok()) {
                client.set_port(port);
            }
            Some(client)
        }
        _ => None,
    };
    let info = HttpInfo {
        path: path.into(),
        query: query.map(Into::into),
        host: text("host"),
        origin: origin.map(Into::into),
        user_agent: text("user-agent"),
        cookies: head.all("cookie"),
        authorization: text("authorization"),
        forwarded_for,
        subprotocol: subprotocol.cloned(),
    };
    Ok(Upgrade {
        info,
        forwarded,
        accept_key: derive_accept_key(key.as_bytes()),
    })
}

/// Each forwarder appends who it got the request from. Read from the end, what trusted forwarders wrote is
/// true; the first address that is not a trusted forwarder is the client. What stands before it, it made up.
pub(crate) fn forwarded_client(list: &str, trusted: &[Network]) -> Option<SocketAddr> {
    let mut client = None;
    for entry in list.rsplit(',') {
        let address = parse_forwarded(entry.trim())?;
        client = Some(address);
        if !trusted.iter().any(|network| network.contains(address.ip())) {
            break;
        }
    }
    client
}

fn parse_forwarded(entry: &str) -> Option<SocketAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    let address = bare
        .parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, 0))
        .or_else(|_| entry.parse());
    address.ok().map(canonical)
}

impl Head {
    fn get(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.trim())
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n == name)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
    }

    /// Repeated headers as one list.
    fn all(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self
            .headers
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, v)| v.trim())
            .collect();
        let separator = if name == "cookie" { "; " } else { ", " };
        (!values.is_empty()).then(|| values.join(separator))
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    fn has_exact(&self, name: &str, token: &str) -> bool {
        self.values(name).any(|value| value == token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::settings::WebSocketFacts;

    /// For MQTT, with nothing else said.
    fn settings() -> WebSocketSettings {
        let facts = WebSocketFacts {
            subprotocols: &["mqtt", "mqttv3.1"],
            is_text: false,
        };
        WebSocketSettings::default().of_protocol("mqtt", &facts)
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
            let request = [b"GET /mqtt HTTP/1.1\r\nX-Forwarded-For: ", &bytes[..], b"\r\n\r\n"].concat();
            for bytes in [&bytes[..], &request] {
                if let Ok(Some((head, _))) = parse_head(bytes) {
                    let _ = judge(&head, &settings(), true);
                }
            }
        }

        #[test]
        fn any_list_of_addresses_is_read_without_a_panic(list in "[0-9a-f.:, \\[\\]]{0,60}") {
            let _ = forwarded_client(&list, &[]);
        }
    }

    /// Good requests, changed in a few places, as `make fuzz` runs it. What is answered is a head of its own lines, whatever the request says.
    #[test]
    fn mutated_requests_are_answered_without_a_panic() {
        const START: &[u8] =
            b"GET /mqtt?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
            Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let heads = [
            [START, b"Sec-WebSocket-Protocol: mqttv3.1, mqtt5\r\n\r\n"].concat(),
            [
                START,
                b"Origin: http://h\r\nX-Forwarded-For: [::1]:9, 10.0.0.1\r\nX-Forwarded-Port: 7\r\n\r\nrest",
            ]
            .concat(),
            [
                START,
                b"Cookie: a=b\r\nCookie: c=d\r\nAuthorization: Basic YTpi\r\n\r\n",
            ]
            .concat(),
        ];
        let settings = settings();
        let read = |bytes: &[u8]| {
            parse_head(bytes).map(|read| read.map(|(head, size)| (judge(&head, &settings, true), size)))
        };
        assert!(
            heads
                .iter()
                .all(|bytes| matches!(read(bytes), Ok(Some((Ok(_), _))))),
            "they are good"
        );
        let mutated = |rng: &mut fastrand::Rng| {
            let mut bytes = heads[rng.usize(..heads.len())].clone();
            for _ in 0..rng.usize(1..6) {
                headgate_fuzz::mutate(&mut bytes, b"\r\n :,;=?\x00\x7f\xff", rng);
            }
            (bytes, rng.f32())
        };
        headgate_fuzz::fuzz(mutated, |(bytes, cut)| {
            let answer = match read(bytes) {
                Ok(None) => return,
                Ok(Some((judged, size))) => {
                    assert!(size <= bytes.len());
                    // The same head is found once all of it is there, and not before.
                    let early = (size as f32 * cut) as usize;
                    assert!(matches!(parse_head(&bytes[..early.min(size - 1)]), Ok(None)));
                    judged.map_or_else(|rejection| rejection.response(), |upgrade| upgrade.response())
                }
                Err(rejection) => rejection.response(),
            };
            let text = std::str::from_utf8(&answer).expect("we write text");
            assert!(text.starts_with("HTTP/1.1 "));
            let (head, _) = text.split_once("\r\n\r\n").expect("a head has an end");
            assert!(head.lines().count() <= 6, "{head}");
        });
    }
}
