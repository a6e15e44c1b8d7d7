//! `[limits]`: what all clients together may do, and all of one user.

use headgate_shell::ClientRate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What all clients together may send, and all clients of one user name. Who is faster is read more slowly; nothing of it is dropped, but for datagrams that the system has no
/// more room for. MQTT-SN and CoAP clients count for all together, and have a limit each (`mqttsn.gateway.max_client_packets_per_second`, `coap.gateway.max_client_requests_per_second`). The connections of a user together have the rate
/// of a user, and its MQTT-SN and CoAP clients together have it once more: a datagram cannot wait, and would never find room beside a fast connection. What datagram clients send beyond it is refused. MQTT-SN: with
/// return code 0x01, congestion: PUBLISH at QoS 1 and 2, REGISTER, SUBSCRIBE and changes of a will; other requests are dropped. Either counts as `mqttsn/datagrams/user_too_fast`. CoAP: with 4.29, which counts as `coap/requests/too_fast`. Who publishes over HTTP counts as a datagram client, each administrator and API key by itself, and gets status 429. A rate of 0 is no limit. Bridges
/// are the gateway's own, and count nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitSettings {
    /// Bytes a second that all clients together may send in the long run.
    pub max_bytes_per_second: u32,
    /// Bytes that all clients together may send at once; 0 for as many as in a second.
    pub burst_bytes: u32,
    /// Packets a second that all clients together may send in the long run.
    pub max_packets_per_second: u32,
    /// Packets that all clients together may send at once; 0 for as many as in a second.
    pub burst_packets: u32,
    /// Bytes a second that the connections of one user name together may send in the long run, and as many its datagram clients.
    pub max_user_bytes_per_second: u32,
    /// Bytes that the clients of one user name together may send at once; 0 for as many as in a second.
    pub user_burst_bytes: u32,
    /// Packets a second that the connections of one user name together may send in the long run, and as many its datagram clients.
    pub max_user_packets_per_second: u32,
    /// Packets that the clients of one user name together may send at once; 0 for as many as in a second.
    pub user_burst_packets: u32,
    /// How late the gateway's tasks may run. When they stay later, there is more to do than the machine can: connections and MQTT-SN clients to come are refused (`overload`) until it is better, and the alarm
    /// `overload` is raised. Who is connected stays, and listeners for HTTP answer. `0s` for never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_delay: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_bytes_per_second: 0,
            burst_bytes: 0,
            max_packets_per_second: 0,
            burst_packets: 0,
            max_user_bytes_per_second: 0,
            user_burst_bytes: 0,
            max_user_packets_per_second: 0,
            user_burst_packets: 0,
            max_delay: Duration::from_secs(2),
        }
    }
}

impl LimitSettings {
    /// For all clients together.
    pub(crate) fn of_all(&self) -> ClientRate {
        ClientRate {
            bytes_per_second: self.max_bytes_per_second,
            burst_bytes: self.burst_bytes,
            packets_per_second: self.max_packets_per_second,
            burst_packets: self.burst_packets,
        }
    }

    /// For those of one user.
    pub(crate) fn of_user(&self) -> ClientRate {
        ClientRate {
            bytes_per_second: self.max_user_bytes_per_second,
            burst_bytes: self.user_burst_bytes,
            packets_per_second: self.max_user_packets_per_second,
            burst_packets: self.user_burst_packets,
        }
    }
}
