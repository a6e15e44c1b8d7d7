//! Settings of one SockJS service, and what cannot be.

use axum::http::HeaderValue;
use bytes::Bytes;
use std::time::Duration;

/// One SockJS service: what it offers, how long it waits and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SockJsSettings {
    /// WebSocket is offered, with SockJS frames and raw. Default: true.
    pub websocket: bool,
    /// Subprotocols of raw WebSocket, best first. A client that offers none of them gets none. Default: none. RFC 6455 §1.9
    pub subprotocols: &'static [&'static str],
    /// A load balancer wants the cookie `JSESSIONID`: session URLs set it. Default: false.
    pub cookie_needed: bool,
    /// Where the iframe page gets the SockJS client from: a URL, an absolute path, or [`Self::OWN_CLIENT`], which is the default.
    pub client_url: String,
    /// The SockJS client, a script: it is served below the base as [`Self::OWN_CLIENT`]. Default: none, and there is no such URL.
    pub client: Option<Bytes>,
    /// Values of `Origin` that may use the service; requests that no other site caused may, too. Empty, the default: all.
    pub origins: Vec<String>,
    /// A session belongs to the address of its first request: an IPv4 address, or the /64 of an IPv6 address. Default: true. Turn it off where clients
    /// come through several addresses at once.
    pub same_address: bool,
    /// A session ends so long after its last receiver. Default: 5 s.
    pub session_timeout: Duration,
    /// A receiver that got nothing for so long gets a heart-beat. Default: 25 s.
    pub heartbeat: Duration,
    /// A receiver may leave a due heart-beat untaken for so long; then its session ends. Default: 30 s.
    pub stall_time: Duration,
    /// Time for the body of a request; a sender waits as long for room in its session's inbox. Default: 10 s.
    pub body_time: Duration,
    /// A streaming answer ends after so many bytes, the prelude not counted, and the client asks again. Default: 128 KiB.
    pub response_limit_bytes: usize,
    /// Body of `xhr_send` and `jsonp_send`, and a WebSocket message, in bytes. Default: 1 MiB.
    pub max_body_bytes: usize,
    /// Messages in one body or WebSocket message. Default: 1,000.
    pub max_messages: usize,
    /// What waits for the application, in bytes of messages and 24 for each; an empty inbox takes any one body. Who sends more waits. Default: 64 KiB.
    pub max_inbox_bytes: usize,
    /// What waits for the client, counted alike; the last message may overrun it. The application waits. Default: 128 KiB.
    pub max_outbox_bytes: usize,
    /// Before [`Session::let_in`](crate::Session::let_in): bytes of a body or WebSocket message, and of what waits for the application. Default: none, the other bounds hold.
    pub max_stranger_bytes: Option<usize>,
    /// Sessions at a time, WebSockets included. Default: 10,000.
    pub max_sessions: usize,
    /// Sessions of one peer address (IPv6: of one /64) at a time. Default: 100.
    pub max_sessions_per_ip: usize,
}

impl Default for SockJsSettings {
    fn default() -> Self {
        Self {
            websocket: true,
            subprotocols: &[],
            cookie_needed: false,
            client_url: Self::OWN_CLIENT.into(),
            client: None,
            origins: Vec::new(),
            same_address: true,
            session_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(25),
            stall_time: Duration::from_secs(30),
            body_time: Duration::from_secs(10),
            response_limit_bytes: 128 << 10,
            max_body_bytes: 1 << 20,
            max_messages: 1_000,
            max_inbox_bytes: 64 << 10,
            max_outbox_bytes: 128 << 10,
            max_stranger_bytes: None,
            max_sessions: 10_000,
            max_sessions_per_ip: 100,
        }
    }
}

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsFault {
    /// It stands in a page's `src="…"`.
    #[error("`{0}` is no URL of a script: it begins with `/` or `http`, and has no quotes, blanks or `<>`")]
    ClientUrl(String),
    /// It is compared with a header, and put in one.
    #[error("`{0}` is no origin such as `https://example.org`")]
    Origin(String),
    /// Nothing would work.
    #[error("it is zero")]
    Zero(&'static str),
}

impl SettingsFault {
    /// The name of the setting.
    pub fn key(&self) -> &'static str {
        match self {
            Self::ClientUrl(_) => "client_url",
            Self::Origin(_) => "origins",
            Self::Zero(key) => key,
        }
    }
}

impl SockJsSettings {
    /// Where the client is below the base, relative to the iframe page.
    pub const OWN_CLIENT: &str = "sockjs.min.js";

    /// The first fault, if there is one.
    pub fn check(&self) -> Result<(), SettingsFault> {
        let url = &self.client_url;
        let begins = url.starts_with('/') || url.starts_with("http") || url == Self::OWN_CLIENT;
        if !begins
            || !url
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"\"'<>".contains(&b))
        {
            return Err(SettingsFault::ClientUrl(url.clone()));
        }
        let is_origin = |origin: &String| {
            HeaderValue::from_str(origin).is_ok()
                && origin.contains("://")
                && !origin.contains([' ', ';', ','])
        };
        if let Some(origin) = self.origins.iter().find(|origin| !is_origin(origin)) {
            return Err(SettingsFault::Origin(origin.clone()));
        }
        let zeros = [
            ("session_timeout", self.session_timeout.is_zero()),
            ("heartbeat", self.heartbeat.is_zero()),
            ("stall_time", self.stall_time.is_zero()),
            ("body_time", self.body_time.is_zero()),
            ("response_limit_bytes", self.response_limit_bytes == 0),
            ("max_body_bytes", self.max_body_bytes == 0),
            ("max_messages", self.max_messages == 0),
            ("max_inbox_bytes", self.max_inbox_bytes == 0),
            ("max_outbox_bytes", self.max_outbox_bytes == 0),
            ("max_sessions", self.max_sessions == 0),
            ("max_sessions_per_ip", self.max_sessions_per_ip == 0),
        ];
        match zeros.iter().find(|(_, is_zero)| *is_zero) {
            Some((key, _)) => Err(SettingsFault::Zero(key)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_named() {
        assert_eq!(SockJsSettings::default().check(), Ok(()));
        let url = "/sockjs.js\"></script><script>".to_owned();
        let wrong = SockJsSettings {
            client_url: url.clone(),
            ..SockJsSettings::default()
        };
        assert_eq!(wrong.check(), Err(SettingsFault::ClientUrl(url)));
        let wrong = SockJsSettings {
            origins: vec!["example.org".into()],
            ..SockJsSettings::default()
        };
        assert_eq!(wrong.check(), Err(SettingsFault::Origin("example.org".into())));
        let wrong = SockJsSettings {
            heartbeat: Duration::ZERO,
            ..SockJsSettings::default()
        };
        assert_eq!(wrong.check(), Err(SettingsFault::Zero("heartbeat")));
    }
}
