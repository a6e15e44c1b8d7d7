//! SockJS settings.

use super::Network;
use headgate_model::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bytes of a body, of a WebSocket message and of what waits, until a client has logged in.
const STRANGER_BYTES: usize = 64 << 10;

/// SockJS of one listener. A change ends the sessions that are polled for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SockJsSettings {
    /// The base of all URLs: what SockJS clients are given. It begins with a slash and does not end with one. Default: `/sockjs`.
    pub path: String,
    /// Where the page for browsers without CORS gets the SockJS client from: a URL or an absolute path. Default: `sockjs.min.js` below the base, which the
    /// gateway has if it was built with its pages.
    pub client_url: String,
    /// WebSocket is offered too. Default: true.
    pub websocket: bool,
    /// A load balancer wants the cookie `JSESSIONID`. Default: false.
    pub cookie_needed: bool,
    /// Values of `Origin` that are accepted; needed where cookies say who a client is. Default: all.
    pub origins: Vec<String>,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Port` are believed. Default: nobody's.
    pub trusted_forwarders: Vec<Network>,
    /// A session belongs to the address of its first request (IPv6: to its /64). Default: true.
    pub same_address: bool,
    /// A session ends so long after its last receiver. Default: 5s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub session_timeout: Duration,
    /// A receiver that got nothing for so long gets a heart-beat. Default: 25s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub heartbeat: Duration,
    /// A streaming answer ends after so many bytes, and the client asks again. Default: 128 KiB.
    pub response_limit_bytes: usize,
    /// The largest body or WebSocket message. Default: 1 MiB.
    pub max_body_bytes: usize,
    /// Sessions at a time. Each counts as a connection, beside those that carry it. Default: 10000.
    pub max_sessions: usize,
    /// Sessions at a time from one IPv4 address or IPv6 /64. A proxy is named in `trusted_forwarders` or `trusted_proxies`, or all its clients are one.
    /// Default: 100.
    pub max_sessions_per_ip: usize,
}

impl Default for SockJsSettings {
    fn default() -> Self {
        let sockjs = headgate_sockjs::SockJsSettings::default();
        Self {
            path: "/sockjs".into(),
            client_url: sockjs.client_url,
            websocket: sockjs.websocket,
            cookie_needed: sockjs.cookie_needed,
            origins: sockjs.origins,
            trusted_forwarders: Vec::new(),
            same_address: sockjs.same_address,
            session_timeout: sockjs.session_timeout,
            heartbeat: sockjs.heartbeat,
            response_limit_bytes: sockjs.response_limit_bytes,
            max_body_bytes: sockjs.max_body_bytes,
            max_sessions: sockjs.max_sessions,
            max_sessions_per_ip: sockjs.max_sessions_per_ip,
        }
    }
}

impl SockJsSettings {
    /// As the service takes them.
    pub(crate) fn of_service(&self) -> headgate_sockjs::SockJsSettings {
        headgate_sockjs::SockJsSettings {
            client_url: self.client_url.clone(),
            websocket: self.websocket,
            cookie_needed: self.cookie_needed,
            origins: self.origins.clone(),
            same_address: self.same_address,
            session_timeout: self.session_timeout,
            heartbeat: self.heartbeat,
            response_limit_bytes: self.response_limit_bytes,
            max_body_bytes: self.max_body_bytes,
            max_sessions: self.max_sessions,
            max_sessions_per_ip: self.max_sessions_per_ip,
            max_stranger_bytes: Some(STRANGER_BYTES),
            ..headgate_sockjs::SockJsSettings::default()
        }
    }

    /// What is wrong with them, with keys as seen from the section.
    pub(crate) fn faults(&self) -> impl Iterator<Item = Fault> {
        let path = self.path.strip_prefix('/').unwrap_or_default();
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        let is_base = path.split('/').all(|part| !part.is_empty()) && path.bytes().all(is_plain);
        let what = || {
            let path = &self.path;
            format!(
                "`{path}` is no base: allowed is `/name`, or several such parts, of letters, digits and `-._~`"
            )
        };
        let path = (!is_base).then(|| Fault::new("path", what()));
        let service = self.of_service().check().err();
        let service = service.map(|fault| Fault::new(fault.key(), fault.to_string()));
        path.into_iter().chain(service)
    }
}
