//! What a listener is told: where to listen, whom to let in, and how the connection is wrapped.

mod datagram;
pub(crate) mod dtls;
mod faults;
mod serial;
mod sockjs;
mod tls;
mod udp;
mod websocket;

use std::time::Duration;

use bytes::Bytes;
use headgate_access::{AddressRules, Network};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::socket::parse_address;
pub use datagram::{DatagramKind, DatagramSettings};
pub use dtls::{DtlsSettings, RawKeyLogin, SharedKeyLogin};
pub use serial::{FlowControl, Parity, Rs485Settings, SerialSettings};
pub use sockjs::SockJsSettings;
pub use tls::{TlsSettings, TlsVersion, VirtualHost};
pub use udp::{DEFAULT_RECEIVE_BUFFER, MulticastSettings, UdpSettings};
pub use websocket::{WebSocketFacts, WebSocketSettings};

/// One listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// The name in logs, metrics and the API.
    pub name: String,
    /// What is spoken on them: `mqtt`, `stomp`, or `http` for the web UI, the API, metrics and health. Default: `mqtt`.
    #[serde(default = "default_protocol")]
    pub protocol: String,
    /// Whether it listens; its settings stay where it does not. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// How connections are wrapped. Default: `tcp`.
    #[serde(default)]
    pub kind: ListenerKind,
    /// Where to listen: `0.0.0.0:1883`, `[::]:1883`, `[fe80::1%eth0]:1883`; for `unix` the path of the socket.
    /// Port 0 lets the system choose.
    pub bind: String,
    /// An IPv6 address takes no IPv4 connections. Default: false, `[::]` takes both.
    #[serde(default)]
    pub ipv6_only: bool,
    /// Connections that may wait to be accepted; 0 for as many as the system allows. Default: 1024; the system may allow less.
    #[serde(default = "default_backlog")]
    pub backlog: u32,
    /// Send small packets at once (TCP_NODELAY). Default: true.
    #[serde(default = "yes")]
    pub tcp_nodelay: bool,
    /// Who may connect: `"allow 10.0.0.0/8"`, `"deny all"`; the first rule that matches decides, and where none
    /// does, the client may. Also holds for an address that a PROXY header or a forwarder announces.
    #[serde(default)]
    pub access: AddressRules,
    /// Connections open at a time. Default: 0, no limit.
    #[serde(default)]
    pub max_connections: Option<usize>,
    /// Connections open at a time from one IPv4 address or IPv6 /64. Default: 0, no limit.
    #[serde(default)]
    pub max_connections_per_ip: Option<u32>,
    /// New connections each second. Default: 0, no limit.
    #[serde(default)]
    pub max_connect_rate: Option<u32>,
    /// New connections at once, where `max_connect_rate` is set, 1 or more. Default: as many as in one second.
    #[serde(default)]
    pub connect_burst: Option<u32>,
    /// Bytes that one client may send each second in the long run; one that is faster is read more slowly, and nothing of it is dropped. Default: 0, no limit.
    #[serde(default)]
    pub max_client_bytes_per_second: Option<u32>,
    /// Bytes that it may send at once, where that is set. Default: as many as in one second.
    #[serde(default)]
    pub client_burst_bytes: Option<u32>,
    /// Packets that one client may send each second; otherwise as with bytes. Default: 0, no limit.
    #[serde(default)]
    pub max_client_packets_per_second: Option<u32>,
    /// Packets that it may send at once, where that is set. Default: as many as in one second.
    #[serde(default)]
    pub client_burst_packets: Option<u32>,
    /// Time for the TLS handshake, and as much again for the WebSocket handshake, 1 ms or more. Default: 10s.
    #[serde(default = "default_handshake_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub handshake_timeout: Duration,
    /// Put in front of the topics of this listener's clients. Default: none.
    #[serde(default)]
    pub mount_point: Option<String>,
    /// QoS of messages and subscriptions that say none, 0 to 2, for `stomp`. Default: `stomp.send_qos` and `stomp.subscribe_qos`.
    #[serde(default)]
    pub default_qos: Option<u8>,
    /// Every connection starts with a PROXY header, version 1 or 2. Default: false.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Time for the PROXY header, 1 ms or more. Default: 3s.
    #[serde(default = "default_proxy_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub proxy_timeout: Duration,
    /// Who may send a PROXY header; with `proxy_protocol`, all others are refused. Must not be empty then.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// Needed by `tls` and `wss`; `sockjs` may have it.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    /// For `ws` and `wss`.
    #[serde(default)]
    pub websocket: Option<WebSocketSettings>,
    /// For `sockjs`.
    #[serde(default)]
    pub sockjs: Option<SockJsSettings>,
    /// For `unix`.
    #[serde(default)]
    pub unix: Option<UnixSettings>,
    /// What the protocol says of itself over WebSocket: not for the operator to set.
    #[serde(skip)]
    pub facts: WebSocketFacts,
    /// The script of SockJS' client, for browsers: not for the operator to set.
    #[serde(skip)]
    pub sockjs_client: Option<Bytes>,
}

/// How the connections of a listener are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// Plain TCP.
    #[default]
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// SockJS over TCP, or over TLS if there is `tls`. For protocols whose frames are text.
    Sockjs,
    /// A Unix-domain stream socket.
    Unix,
}

/// Who may reach a Unix-domain socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnixSettings {
    /// Permissions of the socket file, octal. Default: `"0660"`.
    #[serde(default)]
    pub mode: Option<String>,
    /// The file's owner, a name of `/etc/passwd` or a number. Default: unchanged.
    #[serde(default)]
    pub owner: Option<String>,
    /// The file's group, a name of `/etc/group` or a number. Default: unchanged.
    #[serde(default)]
    pub group: Option<String>,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            name: "tcp".into(),
            protocol: default_protocol(),
            enabled: true,
            kind: ListenerKind::default(),
            bind: "127.0.0.1:1883".into(),
            ipv6_only: false,
            backlog: default_backlog(),
            tcp_nodelay: true,
            access: AddressRules::default(),
            max_connections: None,
            max_connections_per_ip: None,
            max_connect_rate: None,
            connect_burst: None,
            max_client_bytes_per_second: None,
            client_burst_bytes: None,
            max_client_packets_per_second: None,
            client_burst_packets: None,
            handshake_timeout: default_handshake_timeout(),
            mount_point: None,
            default_qos: None,
            proxy_protocol: false,
            proxy_timeout: default_proxy_timeout(),
            trusted_proxies: Vec::new(),
            tls: None,
            websocket: None,
            sockjs: None,
            unix: None,
            facts: WebSocketFacts::default(),
            sockjs_client: None,
        }
    }
}

impl ListenerKind {
    /// TLS ends here in any case.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// TLS ends here if there are settings for it.
    pub fn may_have_tls(self) -> bool {
        self.has_tls() || self == Self::Sockjs
    }

    /// Bytes come in WebSocket frames.
    pub fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

fn default_protocol() -> String {
    "mqtt".into()
}

fn yes() -> bool {
    true
}

fn default_backlog() -> u32 {
    1024
}

fn default_handshake_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_proxy_timeout() -> Duration {
    Duration::from_secs(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_needs_a_name_and_an_address_only() {
        let read: ListenerSettings = toml::from_str("name = 'tcp'\nbind = '127.0.0.1:1883'").unwrap();
        assert_eq!(read, ListenerSettings::default());

        let error = toml::from_str::<ListenerSettings>("name = 'tcp'").unwrap_err();
        assert!(error.message().contains("bind"), "{error}");
    }

    #[test]
    fn everything_can_be_set_and_a_misspelt_name_is_told() {
        let text = r#"
            name = "public"
            kind = "wss"
            bind = "[::]:8084"
            access = ["allow 10.0.0.0/8", "deny all"]
            max_connect_rate = 50
            handshake_timeout = "1500ms"
            proxy_timeout = "2s"
            proxy_protocol = true
            trusted_proxies = ["10.0.0.1", "fd00::/8"]
            tls = { certificate = "c.pem", key = "k.pem", min_version = "1.3" }
            websocket = { path = "/mqtt", origins = ["https://example.com"] }
        "#;
        let read: ListenerSettings = toml::from_str(text).unwrap();
        assert_eq!(read.handshake_timeout, Duration::from_millis(1500));
        assert_eq!(read.proxy_timeout, Duration::from_secs(2));
        assert_eq!(read.tls.as_ref().unwrap().min_version, TlsVersion::Tls13);
        let written = toml::to_string(&read).unwrap();
        assert_eq!(toml::from_str::<ListenerSettings>(&written).unwrap(), read);

        let wrong = text.replace("max_connect_rate", "max_conect_rate");
        let error = toml::from_str::<ListenerSettings>(&wrong).unwrap_err();
        assert!(error.message().contains("max_conect_rate"), "{error}");
        let bare = text.replace("\"2s\"", "2");
        let error = toml::from_str::<ListenerSettings>(&bare).unwrap_err();
        assert!(
            error.message().contains("expected a duration"),
            "a duration has a unit: {error}"
        );
    }

    #[test]
    fn the_schema_says_what_each_setting_means() {
        let schema = schemars::schema_for!(ListenerSettings);
        let properties = schema.get("properties").and_then(|p| p.as_object()).unwrap();
        for (name, property) in properties {
            assert!(property.get("description").is_some(), "{name}");
        }
    }
}
