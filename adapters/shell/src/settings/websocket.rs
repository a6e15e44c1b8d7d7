//! WebSocket settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Network;

/// What a protocol says of itself over WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebSocketFacts {
    /// Its subprotocols, best first.
    pub subprotocols: &'static [&'static str],
    /// It is spoken in text frames too. Its clients need not offer a subprotocol.
    pub is_text: bool,
}

/// WebSocket of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocketSettings {
    /// The path of the request; `*` for any. Default: `/mqtt`, or `/` and what else `protocol` says.
    pub path: String,
    /// Subprotocols, best first. Default: those of the protocol, such as `mqtt`, `mqttv3.1`, `mqttv3.1.1`, or `v12.stomp`, `v11.stomp`, `v10.stomp`.
    pub subprotocols: Vec<String>,
    /// A client must offer one of the subprotocols. Default: true for `mqtt` (MQTT 5 §6), false for `stomp`.
    pub require_subprotocol: Option<bool>,
    /// Values of `Origin` that are accepted, `*` for all; a client that sends none (no browser) always is. Default: all, but to a `localhost` address pages of
    /// this machine alone.
    pub origins: Vec<String>,
    /// Whose `X-Forwarded-For` and `X-Forwarded-Port` are believed. Default: nobody's.
    pub trusted_forwarders: Vec<Network>,
    /// The largest request head, in bytes, 256 or more. Default: 8192.
    pub max_header_bytes: usize,
    /// The largest message (a frame and its continuations), in bytes; 0 for no limit of its own. Default: 16 MiB.
    pub max_message_bytes: u64,
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self {
            path: String::new(),
            subprotocols: Vec::new(),
            require_subprotocol: None,
            origins: Vec::new(),
            trusted_forwarders: Vec::new(),
            max_header_bytes: 8 * 1024,
            max_message_bytes: 16 * 1024 * 1024,
        }
    }
}

impl WebSocketSettings {
    /// With what the protocol of this name says where nothing is set.
    pub(crate) fn of_protocol(mut self, name: &str, facts: &WebSocketFacts) -> Self {
        if self.path.is_empty() {
            self.path = format!("/{name}");
        }
        if self.subprotocols.is_empty() {
            self.subprotocols = facts.subprotocols.iter().copied().map(Into::into).collect();
        }
        self.require_subprotocol.get_or_insert(!facts.is_text);
        self
    }
}
