//! A client of HTTP/1.1 that keeps no connection: each request has one of its own, so that nothing is left over from the one before.

use super::{Daemon, HANG};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where it asks, and what it shows each time.
#[derive(Clone, Debug)]
pub struct HttpClient {
    place: Place,
    headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Place {
    Port(u16),
    Socket(PathBuf),
}

/// What it was answered.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// As it came.
    pub body: Vec<u8>,
}

impl HttpClient {
    /// At a port of this machine.
    pub fn at(port: u16) -> Self {
        Self {
            place: Place::Port(port),
            headers: Vec::new(),
        }
    }

    /// At the control socket of a gateway.
    pub fn control(daemon: &Daemon<'_>) -> Self {
        Self {
            place: Place::Socket(daemon.setup().folder().join("data/control.sock")),
            headers: Vec::new(),
        }
    }

    /// Shows one header more.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut more = self.clone();
        more.headers.push((name.to_owned(), value.to_owned()));
        more
    }

    /// Shows a name and a password. RFC 7617
    #[must_use]
    pub fn basic(&self, name: &str, password: &str) -> Self {
        let shown = STANDARD.encode(format!("{name}:{password}"));
        self.with("Authorization", &format!("Basic {shown}"))
    }

    /// Asks, with a body of this type.
    ///
    /// # Panics
    /// If there is no answer, or it is none of HTTP's.
    pub fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> HttpAnswer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method != "GET" {
            request += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        let answer = match &self.place {
            Place::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).expect("somebody listens");
                stream.set_read_timeout(Some(HANG)).expect("it may be set");
                exchange(stream, &bytes)
            }
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).expect("somebody listens");
                stream.set_read_timeout(Some(HANG)).expect("it may be set");
                exchange(stream, &bytes)
            }
        };
        HttpAnswer::parse(&answer)
    }

    /// Asks without a body.
    pub fn get(&self, path: &str) -> HttpAnswer {
        self.ask("GET", path, "", &[])
    }

    /// Asks with JSON.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> HttpAnswer {
        self.ask(method, path, "application/json", body.to_string().as_bytes())
    }

    /// The same by POST.
    pub fn post(&self, path: &str, body: &Value) -> HttpAnswer {
        self.send("POST", path, body)
    }

    /// Wants something gone.
    pub fn delete(&self, path: &str) -> HttpAnswer {
        self.ask("DELETE", path, "application/json", &[])
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("it takes the request");
    let mut answer = Vec::new();
    // Who refuses a body without reading it may reset the connection behind the answer.
    let read = stream.read_to_end(&mut answer);
    assert!(read.is_ok() || !answer.is_empty(), "no answer: {read:?}");
    answer
}

impl HttpAnswer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("an answer has a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let fields = lines.filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = fields
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Self {
            status: status.and_then(|status| status.parse().ok()).expect("a status"),
            headers,
            body: bytes[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunked(&answer.body);
        }
        answer
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known == name);
        named.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        let read = serde_json::from_slice(&self.body);
        read.unwrap_or_else(|error| panic!("{}: {}: {error}", self.status, self.text()))
    }

    /// Status and text, to be compared.
    pub fn told(&self) -> (u16, String) {
        (self.status, self.text())
    }

    /// Status and JSON, to be compared.
    pub fn told_json(&self) -> (u16, Value) {
        (self.status, self.json())
    }
}

/// RFC 9112 §7.1
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let size = size.filter(|size| *size > 0);
        let Some(size) = size.filter(|size| bytes.len() >= end + 4 + size) else {
            break;
        };
        whole.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    whole
}
