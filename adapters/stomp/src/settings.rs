//! What an operator may set about STOMP clients.

use headgate_model::{Fault, MountPoint, Naming, Qos, Rewriter, Topic};
use headgate_stomp_codec::Limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Limits and habits of the STOMP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StompSettings {
    /// Headers that a frame may have (EMQ's `frame.max_headers`, 10 there). 1 to 1000.
    pub max_headers: usize,
    /// The longest header line, in bytes (EMQ's `frame.max_header_length`, 1,024 there). 64 to 65535.
    pub max_header_bytes: usize,
    /// The command and all headers of a frame together, in bytes, before the client is let in too. 256 and more.
    pub max_head_bytes: usize,
    /// The largest body, in bytes (EMQ's `frame.max_body_length`, 8,192 or 65,536 there).
    pub max_body_bytes: usize,
    /// The longest `client-id`, in bytes; 0 for no limit.
    pub max_client_id_bytes: usize,
    /// The longest topic name or filter, in bytes; 0 for no limit.
    pub max_topic_bytes: usize,
    /// Levels that a topic name or filter may have; 0 for no limit.
    pub max_topic_levels: usize,
    /// A connection that has not sent CONNECT by then is closed; a client that says DISCONNECT gets its receipts within this time. 1 ms or more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// The shortest interval of heart-beats that we send, for clients that want some; `0s` for none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub heart_beat_send: Duration,
    /// The shortest interval of heart-beats that we ask of clients that can send some; `0s` for none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub heart_beat_receive: Duration,
    /// A client that was silent for so many percent of its interval is lost. 100 or more.
    pub heart_beat_tolerance: u32,
    /// QoS of SEND frames that say none with the header `qos`, 0 to 2; `default_qos` of a listener goes before it. With `receipt`, and in a transaction, it is at least 1.
    pub send_qos: u8,
    /// QoS of subscriptions that say none with the header `qos`, 0 to 2; `default_qos` of a listener goes before it. Where the client acknowledges, it is at least 1.
    pub subscribe_qos: u8,
    /// Subscriptions of one connection. 1 or more.
    pub max_subscriptions: usize,
    /// Messages of one subscription that may wait for the client's ACK, if SUBSCRIBE says nothing else with `prefetch-count`. 1 or more.
    pub prefetch: u16,
    /// How long a durable subscription is kept after its client left. `0s` for ever.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub durable_expiry: Duration,
    /// Transactions that a connection may have open; 0 for none.
    pub max_transactions: usize,
    /// What all open transactions of a connection may hold, in bytes.
    pub max_transaction_bytes: usize,
    /// A transaction that is not ended by then is dropped. 1 ms or more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub transaction_timeout: Duration,
    /// What becomes of a message that a client answers with NACK.
    pub nack: NackPolicy,
    /// How often a message is delivered again after NACK, before it counts as undeliverable.
    pub max_redeliveries: u32,
    /// How long the first redelivery waits; each further one waits twice as long.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub redelivery_delay: Duration,
    /// The longest that a redelivery waits.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_redelivery_delay: Duration,
    /// Undeliverable messages are published with this in front of their topic: `dead/` for example. Empty: they are dropped, and counted.
    pub dead_letter_prefix: String,
    /// Destinations begin with this, which stands for nothing: `/topic/` for example. Empty for none.
    pub destination_prefix: String,
    /// Levels of destinations are separated by dots, as in `a.b`; `*` stands for `+`, `>` for `#`.
    pub dotted: bool,
}

/// What becomes of a message that is answered with NACK. STOMP 1.2, NACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NackPolicy {
    /// It is delivered again, to the same subscription; after `max_redeliveries` it is undeliverable.
    #[default]
    Requeue,
    /// It is undeliverable at once.
    DeadLetter,
    /// It is dropped, and counted.
    Drop,
}

impl Default for StompSettings {
    fn default() -> Self {
        Self {
            max_headers: 100,
            max_header_bytes: 8 << 10,
            max_head_bytes: 64 << 10,
            max_body_bytes: 1 << 20,
            max_client_id_bytes: 1_024,
            max_topic_bytes: 65_535,
            max_topic_levels: 128,
            connect_timeout: Duration::from_secs(10),
            heart_beat_send: Duration::from_secs(1),
            heart_beat_receive: Duration::from_secs(1),
            heart_beat_tolerance: 200,
            send_qos: 1,
            subscribe_qos: 1,
            max_subscriptions: 256,
            prefetch: 100,
            durable_expiry: Duration::from_secs(24 * 60 * 60),
            max_transactions: 16,
            max_transaction_bytes: 1 << 20,
            transaction_timeout: Duration::from_secs(60),
            nack: NackPolicy::Requeue,
            max_redeliveries: 5,
            redelivery_delay: Duration::from_secs(1),
            max_redelivery_delay: Duration::from_secs(60),
            dead_letter_prefix: String::new(),
            destination_prefix: String::new(),
            dotted: false,
        }
    }
}

/// The longest heart-beat interval that there is a use for.
const LONGEST_BEAT: Duration = Duration::from_secs(24 * 60 * 60);

impl StompSettings {
    /// All that is wrong.
    pub fn faults(&self) -> Vec<Fault> {
        let out_of_range = |key, value: &dyn std::fmt::Display, good: bool, allowed| {
            let fault = || Fault::new(key, format!("{value} is out of range, allowed is {allowed}"));
            (!good).then(fault)
        };
        let time = |key, value: Duration, good: bool, allowed| {
            let shown = humantime_serde::re::humantime::format_duration(value);
            out_of_range(key, &shown, good, allowed)
        };
        let qos = |key, level: u8| out_of_range(key, &level, level <= 2, "0 to 2");
        let at_least_1 = |key, value: usize| out_of_range(key, &value, value >= 1, "1 and more");
        let a_moment = |value: Duration| value >= Duration::from_millis(1);
        let beat = |value: Duration| value.is_zero() || (a_moment(value) && value <= LONGEST_BEAT);
        let (headers, line, head) = (self.max_headers, self.max_header_bytes, self.max_head_bytes);
        let (tolerance, dead) = (self.heart_beat_tolerance, &self.dead_letter_prefix);
        let no_topic = !dead.is_empty() && Topic::try_from(dead.as_str()).is_err();
        [
            out_of_range(
                "max_headers",
                &headers,
                (1..=1_000).contains(&headers),
                "1 to 1000",
            ),
            out_of_range(
                "max_header_bytes",
                &line,
                (64..=65_535).contains(&line),
                "64 to 65535",
            ),
            out_of_range("max_head_bytes", &head, head >= 256, "256 and more"),
            time(
                "connect_timeout",
                self.connect_timeout,
                a_moment(self.connect_timeout),
                "1ms and more",
            ),
            time(
                "heart_beat_send",
                self.heart_beat_send,
                beat(self.heart_beat_send),
                "0s, or 1ms to 1day",
            ),
            time(
                "heart_beat_receive",
                self.heart_beat_receive,
                beat(self.heart_beat_receive),
                "0s, or 1ms to 1day",
            ),
            out_of_range(
                "heart_beat_tolerance",
                &tolerance,
                (100..=10_000).contains(&tolerance),
                "100 to 10000",
            ),
            qos("send_qos", self.send_qos),
            qos("subscribe_qos", self.subscribe_qos),
            at_least_1("max_subscriptions", self.max_subscriptions),
            at_least_1("prefetch", self.prefetch.into()),
            time(
                "transaction_timeout",
                self.transaction_timeout,
                a_moment(self.transaction_timeout),
                "1ms and more",
            ),
            self.destination_prefix.contains(['+', '#', '\0']).then(|| {
                let prefix = &self.destination_prefix;
                let what = format!("`{prefix}` has wildcards, allowed is the beginning of a topic such as `/topic/`, or nothing");
                Fault::new("destination_prefix", what)
            }),
            no_topic.then(|| {
                Fault::new(
                    "dead_letter_prefix",
                    format!("`{dead}` is no beginning of a topic"),
                )
            }),
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

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            headers: self.max_headers,
            line_bytes: self.max_header_bytes,
            head_bytes: self.max_head_bytes,
            body_bytes: self.max_body_bytes,
        }
    }

    pub(crate) fn default_send_qos(&self) -> Qos {
        Qos::from_u8(self.send_qos).unwrap_or_default()
    }

    pub(crate) fn default_subscribe_qos(&self) -> Qos {
        Qos::from_u8(self.subscribe_qos).unwrap_or_default()
    }

    /// How long a message waits for its redelivery after so many NACKs.
    pub(crate) fn redelivery_delay(&self, nacks: u32) -> Duration {
        let doubled = 1_u32.checked_shl(nacks.saturating_sub(1)).unwrap_or(u32::MAX);
        self.redelivery_delay
            .saturating_mul(doubled)
            .min(self.max_redelivery_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_destinations_has_no_wildcards() {
        let faults = |prefix: &str| {
            let settings = StompSettings {
                destination_prefix: prefix.into(),
                ..StompSettings::default()
            };
            settings.faults().len()
        };
        assert_eq!(
            [faults(""), faults("/topic/"), faults("a/+/"), faults("#")],
            [0, 0, 1, 1]
        );
    }
}
