//! What an operator may set about CoAP.

use crate::Transmission;
use headgate_model::{ConfiguredLogin, Fault, Qos, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Limits and habits of CoAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CoapSettings {
    /// Clients at once, 1 or more. Who comes then is answered 5.03.
    pub max_clients: usize,
    /// Clients that are being let in at once, 1 or more.
    pub max_logins: usize,
    /// Bytes of the longest client id.
    pub max_client_id_bytes: usize,
    /// Requests of one client that wait while it is let in, or while its rules are asked for. Beyond that they are answered 5.03.
    pub max_waiting_requests: usize,
    /// Topics that one client may observe at once. Beyond that it is answered 5.03.
    pub max_observations: usize,
    /// Requests that one client may send a second in the long run; 0 for no limit. Beyond that they are answered 4.29. RFC 8516
    pub max_client_requests_per_second: u32,
    /// Requests that one client may send at once; 0 for as many as in a second.
    pub client_burst_requests: u32,
    /// Bytes of the longest payload that is taken, put together from blocks. A longer one is answered 4.13. RFC 7959 §2.9.3
    pub max_body_bytes: usize,
    /// Bytes for all payloads that are being sent to us, or fetched, in blocks. The oldest is given up first.
    pub max_transfer_bytes: usize,
    /// Bytes of the largest block that is sent, 16 to 1024: longer payloads are fetched in blocks. RFC 7959
    pub max_block_bytes: usize,
    /// How long a client may be silent, 1 s or more. Who observes something is asked whether it is there, and who does not answer is lost.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub keep_alive: Duration,
    /// How long messages of QoS 1 and 2 wait for an observer that was lost, and is to come back under the same client id. `0s` for not at all.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub observation_expiry: Duration,
    /// A notification wants to be acknowledged at least so often, that nobody is notified who is not there: 1 s to 24 h. RFC 7641 §4.5
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub confirm_interval: Duration,
    /// QoS of messages that clients publish. Default: `coap`.
    pub publish_qos: QosRule,
    /// QoS of what clients observe. Default: `coap`.
    pub subscribe_qos: QosRule,
    /// Whether notifications want to be acknowledged. Default: `qos`.
    pub notify_type: NotifyType,
    /// Clients of `/ps` must have made a connection at `/mqtt/connection`, and say its token. Default: false.
    pub connection_required: bool,
    /// What changes something must come with a fresh Echo option: who has none is answered 4.01 with one. Against requests that are kept and sent again by others; not every client knows
    /// it. RFC 9175 §2.3. Default: false.
    pub require_echo: bool,
    /// User name of clients that say none; empty for none.
    pub default_username: String,
    /// The password with it.
    #[schemars(with = "String")]
    pub default_password: Secret,
    /// How messages are sent again, and what is remembered of those that came.
    pub transmission: Transmission,
}

/// Which QoS something has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QosRule {
    /// What the request asks for by `qos`; otherwise 1 for confirmable requests, 0 for others.
    #[default]
    Coap,
    /// 0
    Qos0,
    /// 1
    Qos1,
    /// 2
    Qos2,
}

impl QosRule {
    /// The QoS of one request.
    pub(crate) fn of(self, wished: Option<Qos>, confirmable: bool) -> Qos {
        match self {
            Self::Coap => wished.unwrap_or(match confirmable {
                true => Qos::AtLeastOnce,
                false => Qos::AtMostOnce,
            }),
            Self::Qos0 => Qos::AtMostOnce,
            Self::Qos1 => Qos::AtLeastOnce,
            Self::Qos2 => Qos::ExactlyOnce,
        }
    }
}

/// Whether notifications want to be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifyType {
    /// Those of QoS 1 and 2 do.
    #[default]
    Qos,
    /// All do.
    Con,
    /// None does: a message counts as delivered when it is sent.
    Non,
}

impl Default for CoapSettings {
    fn default() -> Self {
        Self {
            max_clients: 100_000,
            max_logins: 1_000,
            max_client_id_bytes: 128,
            max_waiting_requests: 16,
            max_observations: 64,
            max_client_requests_per_second: 0,
            client_burst_requests: 0,
            max_body_bytes: 256 << 10,
            max_transfer_bytes: 16 << 20,
            max_block_bytes: 1_024,
            keep_alive: Duration::from_secs(120),
            observation_expiry: Duration::from_secs(2 * 60 * 60),
            confirm_interval: Duration::from_secs(10 * 60),
            publish_qos: QosRule::default(),
            subscribe_qos: QosRule::default(),
            notify_type: NotifyType::default(),
            connection_required: false,
            require_echo: false,
            default_username: String::new(),
            default_password: Secret::default(),
            transmission: Transmission::default(),
        }
    }
}

impl CoapSettings {
    /// All that is wrong.
    pub fn faults(&self) -> Vec<Fault> {
        let number = |key: &str, value: usize, least: usize, most: usize, allowed: &str| {
            let message = format!("{value} is out of range, allowed is {allowed}");
            (!(least..=most).contains(&value)).then(|| Fault::new(key, message))
        };
        let time = |key: &str, value: Duration, least: Duration, most: Duration, allowed: &str| {
            let written = humantime_serde::re::humantime::format_duration(value);
            let message = format!("{written} is out of range, allowed is {allowed}");
            (!(least..=most).contains(&value)).then(|| Fault::new(key, message))
        };
        const SECOND: Duration = Duration::from_secs(1);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let most = usize::MAX;
        let own = [
            number("max_clients", self.max_clients, 1, most, "1 and more"),
            number("max_logins", self.max_logins, 1, most, "1 and more"),
            number(
                "max_client_id_bytes",
                self.max_client_id_bytes,
                1,
                65_535,
                "1 to 65535",
            ),
            number(
                "max_waiting_requests",
                self.max_waiting_requests,
                1,
                most,
                "1 and more",
            ),
            number("max_block_bytes", self.max_block_bytes, 16, 1_024, "16 to 1024"),
            time(
                "keep_alive",
                self.keep_alive,
                SECOND,
                Duration::MAX,
                "1s and more",
            ),
            time(
                "confirm_interval",
                self.confirm_interval,
                SECOND,
                DAY,
                "1s to 24h",
            ),
        ];
        let below = self.transmission.faults().into_iter();
        let below = below.map(|fault| fault.below("transmission"));
        own.into_iter().flatten().chain(below).collect()
    }

    /// The log-in that is shown for clients that have none.
    pub(crate) fn logins(&self) -> Vec<ConfiguredLogin> {
        if self.default_username.is_empty() {
            return Vec::new();
        }
        vec![ConfiguredLogin {
            key: "default_username".into(),
            username: self.default_username.clone(),
            password: self.default_password.clone(),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_key_value_and_what_is_allowed() {
        let settings = CoapSettings {
            max_block_bytes: 2_048,
            keep_alive: Duration::ZERO,
            transmission: Transmission {
                nstart: 0,
                ..Transmission::default()
            },
            ..CoapSettings::default()
        };
        let told: Vec<_> = settings.faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "max_block_bytes: 2048 is out of range, allowed is 16 to 1024",
                "keep_alive: 0s is out of range, allowed is 1s and more",
                "transmission.nstart: 0 is out of range, allowed is 1 to 64",
            ]
        );
        assert!(CoapSettings::default().faults().is_empty());
    }
}
