//! What an operator may set about MQTT clients.

use headgate_model::{Fault, MountPoint, Naming, Rewriter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Limits and habits of the MQTT endpoint. What MQTT 5 can say of them stands in CONNACK. MQTT 5 §3.2.2.3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MqttSettings {
    /// The largest packet taken from a client, in bytes. 64 or more.
    pub max_packet_size: u32,
    /// The largest CONNECT with its will, and AUTH before the client is let in, in bytes. 64 or more.
    pub max_connect_size: u32,
    /// The longest client identifier, in bytes; 0 for no limit.
    pub max_client_id_bytes: usize,
    /// The longest topic name or filter, in bytes; 0 for no limit.
    pub max_topic_bytes: usize,
    /// Levels that a topic name or filter may have; 0 for no limit.
    pub max_topic_levels: usize,
    /// The highest QoS offered, 0 to 2. A publish above it is a protocol error, a subscription is granted less.
    pub max_qos: u8,
    /// QoS 1 and 2 messages that a client may have under way to us; beyond it gets DISCONNECT 0x93. 1 or more.
    pub receive_maximum: u16,
    /// Topic aliases that a client may use towards us; 0 for none.
    pub topic_alias_maximum: u16,
    /// Topic aliases that we use towards a client that allows as many; 0 for none.
    pub outbound_topic_alias_maximum: u16,
    /// The longest keep alive; a client that asks for more, or for none, is told this. `0s` for no limit, or 1 s and more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_keep_alive: Duration,
    /// A connection that has not sent CONNECT by then is closed. 1 ms or more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How long the session of a 3.1 or 3.1.1 client without clean session is kept after it left. `0s` for ever.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub v3_session_expiry: Duration,
    /// Whether clients may publish retained messages.
    pub retain_available: bool,
    /// Whether filters may hold wildcards.
    pub wildcard_available: bool,
    /// Whether `$share/{group}/{filter}` and `$queue/{filter}` are offered.
    pub shared_available: bool,
    /// Whether subscription identifiers are offered.
    pub identifiers_available: bool,
    /// Do not send 3.1 and 3.1.1 clients what they published themselves (EMQ's `ignore_loop_deliver`).
    pub ignore_loop_deliver: bool,
    /// The gateway's name in the path of messages to other brokers: the configuration's `node`.
    #[serde(skip)]
    pub node: String,
    /// Told to clients that ask for response information; `%c` stands for the client id. Empty for none. MQTT 5 §3.2.2.3.15.
    pub response_information: String,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            max_packet_size: 1 << 20,
            max_connect_size: 64 << 10,
            max_client_id_bytes: 1_024,
            max_topic_bytes: 65_535,
            max_topic_levels: 128,
            max_qos: 2,
            receive_maximum: 1_000,
            topic_alias_maximum: 64,
            outbound_topic_alias_maximum: 64,
            max_keep_alive: Duration::ZERO,
            connect_timeout: Duration::from_secs(10),
            v3_session_expiry: Duration::from_secs(2 * 60 * 60),
            retain_available: true,
            wildcard_available: true,
            shared_available: true,
            identifiers_available: true,
            ignore_loop_deliver: false,
            node: String::new(),
            response_information: String::new(),
        }
    }
}

impl MqttSettings {
    /// All that is wrong.
    pub fn faults(&self) -> Vec<Fault> {
        let number = |key, value: u32, range: RangeInclusive<u32>, allowed| {
            let fault = || Fault::new(key, format!("{value} is out of range, allowed is {allowed}"));
            (!range.contains(&value)).then(fault)
        };
        let time = |key, value: Duration, good: bool, allowed| {
            let shown = humantime_serde::re::humantime::format_duration(value);
            let fault = || Fault::new(key, format!("{shown} is out of range, allowed is {allowed}"));
            (!good).then(fault)
        };
        // In CONNACK it is told in seconds, where 0 is none. MQTT 5 §3.2.2.3.14
        let keep_alive = self.max_keep_alive;
        let in_seconds = keep_alive.is_zero() || keep_alive >= Duration::from_secs(1);
        let can_connect = self.connect_timeout >= Duration::from_millis(1);
        let all = 64..=u32::MAX;
        [
            number(
                "max_packet_size",
                self.max_packet_size,
                all.clone(),
                "64 and more",
            ),
            number("max_connect_size", self.max_connect_size, all, "64 and more"),
            number("max_qos", self.max_qos.into(), 0..=2, "0 to 2"),
            number(
                "receive_maximum",
                self.receive_maximum.into(),
                1..=65_535,
                "1 to 65535",
            ),
            time("max_keep_alive", keep_alive, in_seconds, "0s, or 1s and more"),
            time(
                "connect_timeout",
                self.connect_timeout,
                can_connect,
                "1ms and more",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// How clients of a listener with this mount point name topics.
    pub fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming {
        Naming {
            mount,
            rewriter,
            max_bytes: self.max_topic_bytes,
            max_levels: self.max_topic_levels,
        }
    }

    /// The same, with the largest number there is where 0 stands for no limit.
    #[must_use]
    pub fn without_zeros(mut self) -> Self {
        for limit in [&mut self.max_client_id_bytes] {
            if *limit == 0 {
                *limit = usize::MAX;
            }
        }
        self
    }
}
