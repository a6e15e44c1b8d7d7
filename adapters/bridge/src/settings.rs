//! What an operator may set about a bridge.

use crate::azure;
use crate::presets::Preset;
use crate::remote::{BridgeTls, Login};
use crate::topics::{TopicRule, TopicRuleError};
use crate::uplink_settings::{UplinkSettings, UplinkSettingsError};
use headgate_model::{Fault, QueueFull, Secret};
use headgate_mqtt_codec::Version;
use humantime_serde::re::humantime::format_duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Most rules a bridge may have: each message is compared with them in turn.
const MAX_RULES: usize = 1_000;
const MAX_NAME_BYTES: usize = 100;

/// A bridge to another broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeSettings {
    /// The name in logs, topics and the session. Another name is another bridge, with a queue of its own.
    pub name: String,
    /// A cloud that is known: what it wants need not be said.
    pub preset: Option<Preset>,
    /// Where the remote is: `mqtt://HOST[:PORT]`, `mqtts://…`, `ws://…/PATH`, `wss://…` or `unix:PATH`. The first is preferred; see `uplink`.
    pub addresses: Vec<String>,
    /// As whom the bridge comes.
    pub login: Login,
    /// For `mqtts` and `wss`.
    pub tls: BridgeTls,
    /// Who passes the bytes on: `socks5://[USER:PASSWORD@]HOST[:PORT]` or `http://…`. Host names are resolved there.
    #[schemars(with = "String")]
    pub proxy: Secret,
    /// The address or network interface of this machine that connections leave from. Default: what the system chooses.
    pub bind: Option<String>,
    /// Whether connections leave by the WAN that is the way out (`[[wans]]`), where `bind` does not say from where, and the remote is in no network of the
    /// gateway's own. `false`: the system chooses.
    pub wan: bool,
    /// The protocol version spoken to the remote.
    pub version: BridgeVersion,
    /// Client identifier at the remote. Empty for `{name}.{node}`.
    pub client_id: String,
    /// The remote forgets subscriptions and what it has for us whenever the connection ends. Our own queue is kept all the same.
    pub clean_session: bool,
    /// How long the remote keeps the session while we are away; `0s` for ever. MQTT 5 only.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub session_expiry: Duration,
    /// The longest silence; then PINGREQ is sent. 5 s or more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub keep_alive: Duration,
    /// The topics, each as a table or as mosquitto's line: `sensors/# out 1 local/ remote/`.
    #[schemars(schema_with = "crate::topics::schema")]
    pub topics: Vec<TopicRule>,
    /// Tell a 3.1 or 3.1.1 remote that this is a bridge, by bit 0x80 of the protocol level. It then sends nothing back that came from here. A remote
    /// that refuses it is connected to without.
    pub try_private: bool,
    /// Unsubscribe at the remote from topics that only go out: an earlier configuration may have left them.
    pub attempt_unsubscribe: bool,
    /// Whether messages to the remote may be retained there.
    pub outgoing_retain: bool,
    /// Publish `1` retained on `notification_topic` when the bridge is up and `0` when it is not, here and at the remote.
    pub notifications: bool,
    /// Not at the remote.
    pub notifications_local_only: bool,
    /// Empty for `$SYS/broker/connection/{client_id}/state`.
    pub notification_topic: String,
    /// The largest packet taken from the remote, in bytes.
    pub max_packet_size: u32,
    /// The largest packet sent, in bytes, if the remote does not say less; `0` for no limit. What is larger becomes a dead letter.
    pub max_outgoing_packet_size: u32,
    /// QoS 1 and 2 messages that the remote may have under way to us. MQTT 5 only.
    pub receive_maximum: u16,
    /// The highest QoS sent, 0 to 2, if the remote does not say less.
    pub max_qos: u8,
    /// QoS 1 and 2 messages under way to the remote, each batch as one, if it does not say less. `bus.max_inflight` limits it too, where no rule has `batch`. `0` for 100 in MQTT 5, and before
    /// for 20, which is what mosquitto takes without saying so: at one more it hangs up.
    pub max_inflight: u16,
    /// The bridge counts as stalled when the remote acknowledged nothing for so long of what waits for it; after twice as long the connection is given up.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub stalled_after: Duration,
    /// How fast messages go out; absent for as fast as the remote takes them.
    pub rate: Option<RateSettings>,
    /// How much may go over the uplink; absent for as much as there is.
    pub budget: Option<BudgetSettings>,
    /// Where messages go that the remote will never take. Empty for `$bridge/{name}/dead`.
    pub dead_letter_topic: String,
    /// What waits for the remote.
    pub queue: QueueSettings,
    /// When to connect, and to which address.
    pub uplink: UplinkSettings,
}

/// A protocol version by mosquitto's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BridgeVersion {
    /// MQTT 3.1.
    MqttV31,
    /// MQTT 3.1.1.
    #[default]
    MqttV311,
    /// MQTT 5.0.
    MqttV50,
}

impl From<BridgeVersion> for Version {
    fn from(version: BridgeVersion) -> Self {
        match version {
            BridgeVersion::MqttV31 => Self::V31,
            BridgeVersion::MqttV311 => Self::V311,
            BridgeVersion::MqttV50 => Self::V5,
        }
    }
}

/// How fast messages go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateSettings {
    /// Messages a second, over a longer time.
    pub messages_per_second: u32,
    /// Messages at once after a pause.
    pub burst: u32,
}

/// How much may go over an uplink that costs by volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSettings {
    /// Bytes of MQTT in a month (UTC), both ways, without what TLS and TCP add. When they are spent the connection is ended until the next month;
    /// what goes out is queued meanwhile.
    pub bytes_per_month: u64,
}

/// What waits for the remote, while it is away or slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Messages; `0` for no limit.
    pub max_messages: usize,
    /// Bytes; `0` for no limit. Otherwise 1024 or more.
    pub max_bytes: usize,
    /// What has waited longer is dropped; `0s` keeps it for ever. After a restart of the gateway it counts anew.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_age: Duration,
    /// What happens to a QoS 1 or 2 message that does not fit.
    pub when_full: QueueFull,
    /// Whether QoS 0 messages wait too. They are lost when the gateway stops.
    pub qos0: bool,
}

impl QueueSettings {
    /// With `0` as no limit.
    pub(crate) fn without_zeros(mut self) -> Self {
        for limit in [&mut self.max_messages, &mut self.max_bytes] {
            if *limit == 0 {
                *limit = usize::MAX;
            }
        }
        self
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            max_messages: 1_000_000,
            max_bytes: 1 << 30,
            max_age: Duration::ZERO,
            when_full: QueueFull::default(),
            qos0: false,
        }
    }
}

impl Default for BridgeSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            preset: None,
            addresses: Vec::new(),
            login: Login::default(),
            tls: BridgeTls::default(),
            proxy: Secret::default(),
            bind: None,
            wan: true,
            version: BridgeVersion::default(),
            client_id: String::new(),
            clean_session: false,
            session_expiry: Duration::ZERO,
            keep_alive: Duration::from_secs(60),
            topics: Vec::new(),
            try_private: true,
            attempt_unsubscribe: true,
            outgoing_retain: true,
            notifications: true,
            notifications_local_only: false,
            notification_topic: String::new(),
            max_packet_size: 16 << 20,
            max_outgoing_packet_size: 0,
            receive_maximum: 100,
            max_qos: 2,
            max_inflight: 0,
            stalled_after: Duration::from_secs(20),
            rate: None,
            budget: None,
            dead_letter_topic: String::new(),
            queue: QueueSettings::default(),
            uplink: UplinkSettings::default(),
        }
    }
}

/// A setting of a bridge that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BridgeSettingsError {
    /// A number or time is out of range.
    Range {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A time is out of range.
    Time {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: Duration,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A text cannot be what it is for.
    Text {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: String,
        /// What is wrong with it.
        what: String,
    },
    /// A topic rule cannot be.
    Topics {
        /// Its place, from 0.
        at: usize,
        /// What is wrong with it.
        cause: TopicRuleError,
    },
    /// When to connect cannot be.
    Uplink(UplinkSettingsError),
    /// Of several settings there are too many, or none.
    Choice {
        /// The section's name.
        key: &'static str,
        /// What is wanted.
        what: &'static str,
    },
}

impl BridgeSettingsError {
    /// The same as operators are told: the key, and what is wrong with it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Range { key, value, allowed } => out_of_range(key, value, allowed),
            Self::Time { key, value, allowed } => out_of_range(key, format_duration(*value), allowed),
            Self::Text { key, value, what } => Fault::new(*key, format!("`{value}` {what}")),
            Self::Topics { at, cause } => Fault::new("topics", cause.to_string()).of_entry(*at),
            Self::Uplink(error) => error.fault().below("uplink"),
            Self::Choice { key, what } => Fault::new(*key, *what),
        }
    }
}

impl fmt::Display for BridgeSettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

pub(crate) fn out_of_range(key: &str, value: impl fmt::Display, allowed: &str) -> Fault {
    Fault::new(key, format!("{value} is out of range, allowed is {allowed}"))
}

impl BridgeSettings {
    /// Finds what is wrong by itself; [`BridgePlan::new`](crate::BridgePlan::new) finds the rest. The error names the key.
    pub fn check(&self) -> Result<(), BridgeSettingsError> {
        self.check_name()?;
        self.preset.as_ref().map_or(Ok(()), azure::check)?;
        let packet_sizes = "16 to 268435460";
        time(
            "session_expiry",
            self.session_expiry,
            0,
            0xFFFF_FFFE,
            "0s to 4294967294s",
        )?;
        time("keep_alive", self.keep_alive, 5, 65_535, "5s to 65535s")?;
        range(
            "topics",
            self.topics.len() as u64,
            0,
            MAX_RULES as u64,
            "0 to 1000 rules",
        )?;
        range(
            "max_packet_size",
            self.max_packet_size.into(),
            16,
            268_435_460,
            packet_sizes,
        )?;
        if self.max_outgoing_packet_size > 0 {
            let size = self.max_outgoing_packet_size.into();
            range(
                "max_outgoing_packet_size",
                size,
                16,
                268_435_460,
                "0, 16 to 268435460",
            )?;
        }
        range(
            "receive_maximum",
            self.receive_maximum.into(),
            1,
            65_535,
            "1 to 65535",
        )?;
        range("max_qos", self.max_qos.into(), 0, 2, "0 to 2")?;
        time("stalled_after", self.stalled_after, 1, 3_600, "1s to 1h")?;
        if let Some(rate) = self.rate {
            let per_second = rate.messages_per_second.into();
            range(
                "rate.messages_per_second",
                per_second,
                1,
                1_000_000,
                "1 to 1000000",
            )?;
            range("rate.burst", rate.burst.into(), 1, 1_000_000, "1 to 1000000")?;
        }
        if let Some(budget) = self.budget {
            range(
                "budget.bytes_per_month",
                budget.bytes_per_month,
                1,
                u64::MAX,
                "1 or more",
            )?;
        }
        if self.queue.max_bytes > 0 {
            let bytes = self.queue.max_bytes as u64;
            range("queue.max_bytes", bytes, 1_024, u64::MAX, "0, 1024 or more")?;
        }
        self.uplink.check().map_err(BridgeSettingsError::Uplink)
    }

    fn check_name(&self) -> Result<(), BridgeSettingsError> {
        let name = &self.name;
        let fault = if name.is_empty() {
            "must not be empty"
        } else if name.len() > MAX_NAME_BYTES {
            "is longer than 100 bytes"
        } else if name.contains(['/', '+', '#', '\0', ',']) {
            "must not hold `/`, `+`, `#`, `,`"
        } else {
            return Ok(());
        };
        Err(BridgeSettingsError::Text {
            key: "name",
            value: name.clone(),
            what: fault.into(),
        })
    }
}

/// `least` and `most` in seconds.
fn time(
    key: &'static str,
    value: Duration,
    least: u64,
    most: u64,
    allowed: &'static str,
) -> Result<(), BridgeSettingsError> {
    if (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&value) {
        return Ok(());
    }
    Err(BridgeSettingsError::Time { key, value, allowed })
}

fn range(
    key: &'static str,
    value: u64,
    least: u64,
    most: u64,
    allowed: &'static str,
) -> Result<(), BridgeSettingsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(BridgeSettingsError::Range { key, value, allowed })
}
