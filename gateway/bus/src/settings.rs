//! What an operator may set about the bus.

use headgate_model::{Fault, QueueFull, RewriteError, RewriteRule, TopicFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Settings of the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BusSettings {
    /// Messages that one session may have queued; 0 for no limit. QoS 0 gives way first; then `when_full` decides.
    pub max_queued_messages: usize,
    /// Bytes that one session may have queued; 0 for no limit.
    pub max_queued_bytes: usize,
    /// Deliveries of one connected session that wait in memory; more wait in the store alone, as all do while the client is away. 0 for no limit.
    pub max_queued_in_memory: usize,
    /// Bytes that the queues of all sessions may hold together, connected or not, what is under way included; 0 for no limit.
    pub max_total_queued_bytes: usize,
    /// Bytes of memory for all that clients make the gateway keep: messages in queues and on their way, retained and delayed messages, wills, sessions,
    /// subscriptions, and the buffers of connections. What stays (sessions, subscriptions, wills, retained and delayed messages) is refused from one half on;
    /// from three quarters on, clients that are too slow get no more than the store holds for them, and connections with large buffers are closed; from seven
    /// eighths on, messages of more than 4 KiB are refused; when all is used, all messages and new connections. 0 for no limit. Left out: half of what the machine, or the control group, has.
    pub max_memory_bytes: Option<usize>,
    /// What happens to a QoS 1 or 2 message that does not fit.
    pub when_full: QueueFull,
    /// How long the acknowledgement of a QoS 1 message waits for receivers that are connected to settle it, before the message is written
    /// to the store. What they settle in time is never written. `0s` writes everything at once.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub settle_window: Duration,
    /// Whether QoS 0 messages are queued for clients that are away. Of those that sleep see `sleepers`.
    pub store_qos0: bool,
    /// QoS 0 for clients that sleep.
    pub sleepers: SleeperSettings,
    /// QoS 1 and 2 deliveries under way at once to one client, if it does not ask for fewer.
    pub max_inflight: u16,
    /// Bytes of QoS 1 and 2 deliveries under way at once to one client; one that is larger goes alone. 0 for no limit.
    pub max_inflight_bytes: u32,
    /// QoS 2 packet identifiers of one client that wait for their PUBREL; 0 for no limit. For the gateway's own bridges there is none.
    pub max_awaiting_release: usize,
    /// Deliver at the subscription's QoS even when the message was published with a lower one (EMQ's `upgrade_qos`).
    pub upgrade_qos: bool,
    /// What a client gets when several of its subscriptions match one message.
    pub overlap: Overlap,
    /// Which member of a shared subscription gets a message.
    pub shared_strategy: SharedStrategy,
    /// Subscriptions that one session may hold; 0 for no limit.
    pub max_subscriptions: usize,
    /// Connections that the clients of one user name may have at a time, whatever they speak; 0 for no limit. One more is refused: CONNACK 0x97, or 3 in version 3,
    /// congestion in MQTT-SN. A client that takes its own session over, or wakes up, is none more. Clients without a user name, and the gateway's own bridges, have no limit here.
    pub max_connections_per_user: usize,
    /// Whether a client may resume, take over or end the session of its client id although another user name opened it, or an anonymous client did.
    /// Otherwise it is refused: CONNACK 0x85, or 2 in version 3.
    pub share_sessions: bool,
    /// The longest a session may outlive its connection; longer wishes are cut. `0s` for no limit.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_session_expiry: Duration,
    /// The same for sessions of anonymous clients, which anybody can leave behind. `0s` for no limit of their own.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_anonymous_session_expiry: Duration,
    /// Retained messages.
    pub retained: RetainedSettings,
    /// `$delayed/{seconds}/{topic}`.
    pub delayed: DelayedSettings,
    /// Topics whose queued messages go first. Without an entry a topic has priority 0.
    pub priorities: Vec<TopicPriority>,
    /// Topic rewriting; the first rule whose `source` and `pattern` match is applied.
    pub rewrite: Vec<RewriteRule>,
    /// Subscriptions that every client gets when it connects, but for other brokers.
    pub auto_subscribe: Vec<AutoSubscription>,
    /// What comes from other brokers and goes to them.
    pub links: LinkSettings,
    /// Stamps each message of a client with user properties of MQTT 5: `headgate-received`, when it came, and `headgate-clock`, how good the clock was that
    /// says so: `synchronized`, `set` or `floor`. See docs/operations.md.
    pub stamp: bool,
}

impl Default for BusSettings {
    fn default() -> Self {
        Self {
            max_queued_messages: 10_000,
            max_queued_bytes: 64 << 20,
            max_queued_in_memory: 512,
            max_total_queued_bytes: 1 << 30,
            when_full: QueueFull::default(),
            settle_window: Duration::from_millis(10),
            store_qos0: false,
            sleepers: SleeperSettings::default(),
            max_memory_bytes: None,
            max_inflight: 2_000,
            max_inflight_bytes: 1 << 20,
            max_awaiting_release: 1_000,
            upgrade_qos: false,
            overlap: Overlap::default(),
            shared_strategy: SharedStrategy::default(),
            max_subscriptions: 10_000,
            max_connections_per_user: 0,
            share_sessions: false,
            max_session_expiry: Duration::ZERO,
            max_anonymous_session_expiry: Duration::from_secs(30 * 24 * 60 * 60),
            retained: RetainedSettings::default(),
            delayed: DelayedSettings::default(),
            priorities: Vec::new(),
            rewrite: Vec::new(),
            auto_subscribe: Vec::new(),
            links: LinkSettings::default(),
            stamp: false,
        }
    }
}

/// QoS 0 messages for MQTT-SN clients that sleep: kept in memory until they wake, and lost with a restart. When there are too many the oldest goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SleeperSettings {
    /// Whether they are kept.
    pub keep_qos0: bool,
    /// Messages for one client; 0 for no limit.
    pub max_qos0_messages: usize,
    /// Bytes for one client; 0 for no limit.
    pub max_qos0_bytes: usize,
    /// Bytes for all clients together; 0 for no limit. When they are used up, what comes for a client displaces what waits for it, and is dropped if nothing does.
    pub max_total_qos0_bytes: usize,
}

impl Default for SleeperSettings {
    fn default() -> Self {
        Self {
            keep_qos0: true,
            max_qos0_messages: 100,
            max_qos0_bytes: 64 << 10,
            max_total_qos0_bytes: 32 << 20,
        }
    }
}

impl BusSettings {
    /// All that is wrong.
    pub fn faults(&self) -> Vec<Fault> {
        let errors = self.errors().into_iter();
        let fault = |(n, error): (Option<usize>, SettingsError)| {
            let fault = Fault::of(&error);
            n.map_or(fault.clone(), |n| fault.of_entry(n))
        };
        errors.map(fault).collect()
    }

    /// All that is wrong, with the place in its list.
    pub(crate) fn errors(&self) -> Vec<(Option<usize>, SettingsError)> {
        let mut checks = Vec::new();
        for (n, rule) in self.rewrite.iter().enumerate() {
            checks.extend(
                rule.errors()
                    .into_iter()
                    .map(|error| (Some(n), Err(error.into()))),
            );
        }
        for (n, entry) in self.priorities.iter().enumerate() {
            checks.push((Some(n), filter("priorities.topic", &entry.topic).map(drop)));
        }
        for (n, auto) in self.auto_subscribe.iter().enumerate() {
            let qos = range("auto_subscribe.qos", auto.qos.into(), 0..=2, "0 to 2");
            checks.push((Some(n), filter("auto_subscribe.topic", &auto.topic).map(drop)));
            checks.push((Some(n), qos));
        }
        let inflight = range("max_inflight", self.max_inflight.into(), 1..=65_535, "1 to 65535");
        let hops = range("links.max_hops", self.links.max_hops.into(), 1..=255, "1 to 255");
        checks.extend([(None, inflight), (None, hops)]);
        let errors = checks
            .into_iter()
            .filter_map(|(n, check)| Some((n, check.err()?)));
        errors.collect()
    }

    /// The same, with the largest number there is where 0 stands for no limit.
    #[must_use]
    pub(crate) fn without_zeros(mut self) -> Self {
        let limits = [
            &mut self.max_queued_messages,
            &mut self.max_queued_bytes,
            &mut self.max_queued_in_memory,
            &mut self.max_awaiting_release,
            &mut self.retained.max_count,
            &mut self.retained.max_count_per_client,
            &mut self.retained.max_bytes,
            &mut self.retained.max_payload_bytes,
            &mut self.delayed.max_count,
            &mut self.delayed.max_bytes,
            &mut self.sleepers.max_qos0_messages,
            &mut self.sleepers.max_qos0_bytes,
            &mut self.sleepers.max_total_qos0_bytes,
        ];
        for limit in limits {
            if *limit == 0 {
                *limit = usize::MAX;
            }
        }
        if self.max_inflight_bytes == 0 {
            self.max_inflight_bytes = u32::MAX;
        }
        if self.max_memory_bytes == Some(0) {
            self.max_memory_bytes = None;
        }
        self
    }
}

/// What a client gets when several of its subscriptions match one message. MQTT 5 §3.3.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// One copy at the highest QoS, with all subscription identifiers.
    #[default]
    OneCopy,
    /// One copy for each subscription.
    EachSubscription,
}

/// Which member of a shared subscription gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharedStrategy {
    /// Any.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// Always the same, while it is there.
    Sticky,
    /// By the publishing client.
    HashClient,
    /// By the topic name.
    HashTopic,
}

/// Settings of retained messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetainedSettings {
    /// Whether messages are retained at all. MQTT 5 §3.2.2.3.5.
    pub available: bool,
    /// Topics with a retained message; a further one is delivered but not retained. What is retained below `$SYS/` counts for none of these limits.
    /// 0 for no limit.
    pub max_count: usize,
    /// Topics whose retained message one client has published; a further one is delivered but not retained. Bridges bring in as many as come. After a restart what clients have retained
    /// whose session is gone counts for nobody. 0 for no limit.
    pub max_count_per_client: usize,
    /// Bytes of all retained messages together; what does not fit is delivered but not retained. 0 for no limit.
    pub max_bytes: usize,
    /// Bytes of payload; a longer message is delivered but not retained. 0 for no limit.
    pub max_payload_bytes: usize,
    /// Retained messages that say nothing of their expiry are kept that long; `0s` for ever.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub expiry: Duration,
}

impl Default for RetainedSettings {
    fn default() -> Self {
        Self {
            available: true,
            max_count: 1_000_000,
            max_count_per_client: 0,
            max_bytes: 256 << 20,
            max_payload_bytes: 1 << 20,
            expiry: Duration::ZERO,
        }
    }
}

/// Settings of delayed publishing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DelayedSettings {
    /// Whether `$delayed/{seconds}/{topic}` delays; otherwise such a publish is refused.
    pub available: bool,
    /// Messages held back at once; a further one is refused. 0 for no limit.
    pub max_count: usize,
    /// Bytes of all messages held back together; what does not fit is refused. 0 for no limit.
    pub max_bytes: usize,
}

impl Default for DelayedSettings {
    fn default() -> Self {
        Self {
            available: true,
            max_count: 100_000,
            max_bytes: 64 << 20,
        }
    }
}

/// Settings of links: sessions whose other side is another broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkSettings {
    /// Whether what came in by one link goes out by another. `false` where every gateway is linked with every other.
    pub transit: bool,
    /// How long it is remembered what came in by each link and went out by any: a message that comes by a second way meanwhile is not routed again.
    /// Must be longer than messages are under way. `0s` lets all of them through.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub duplicate_window: Duration,
    /// Gateways that a message may have come through; one with more in its path is not routed. Counts where MQTT 5 is spoken.
    pub max_hops: u8,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            transit: true,
            duplicate_window: Duration::from_secs(5),
            max_hops: 8,
        }
    }
}

/// The priority of queued messages of some topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicPriority {
    /// Topic filter.
    pub topic: String,
    /// Higher goes first.
    pub priority: u8,
}

/// A subscription that every client gets when it connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoSubscription {
    /// Topic filter; `%c` stands for the client id, `%u` for the user name.
    pub topic: String,
    /// Quality of service, 0 to 2.
    #[serde(default)]
    pub qos: u8,
}

/// A setting of the bus that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A topic filter is malformed.
    #[error("{key}: `{value}` is not a topic filter: {cause}")]
    Filter {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: String,
        /// What is wrong.
        cause: String,
    },
    /// A rule of rewriting is malformed.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// A number is out of range.
    #[error("{key}: {value} is out of range, allowed is {allowed}")]
    Range {
        /// The setting's name.
        key: &'static str,
        /// As written.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// A topic filter of a setting.
pub(crate) fn filter(key: &'static str, text: &str) -> Result<TopicFilter, SettingsError> {
    TopicFilter::try_from(text).map_err(|cause| SettingsError::Filter {
        key,
        value: text.to_owned(),
        cause: cause.to_string(),
    })
}

fn range(
    key: &'static str,
    value: u64,
    range: RangeInclusive<u64>,
    allowed: &'static str,
) -> Result<(), SettingsError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(SettingsError::Range { key, value, allowed })
}
