//! How messages are gathered to batches, as an operator writes it and as it is checked.

use crate::topics::{Direction, TopicRule, TopicRuleError};
use headgate_model::Topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MESSAGES: std::ops::RangeInclusive<u16> = 1..=1_000;
const BYTES: std::ops::RangeInclusive<u32> = 1_024..=16 << 20;
const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);

/// Many messages in one PUBLISH, whose payload is a JSON array. See `docs/bridges.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// A batch of so many goes out. 1 to 1000, default 100.
    pub max_messages: u16,
    /// A batch whose payload would be longer, before it is packed, goes out. One message that is longer goes alone.
    /// 1024 to 16777216, default 65536.
    pub max_bytes: u32,
    /// A batch goes out so long after its first message. 10ms to 1h, default 1s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_wait: Duration,
    /// The remote topic of the batches of this rule. Default: each remote topic has batches of its own.
    pub topic: Option<String>,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_messages: 100,
            max_bytes: 64 << 10,
            max_wait: Duration::from_secs(1),
            topic: None,
        }
    }
}

/// The same, checked.
#[derive(Clone, Debug)]
pub(crate) struct Batching {
    pub max_messages: u16,
    pub max_bytes: usize,
    pub max_wait: Duration,
    pub topic: Option<Topic>,
}

impl Batching {
    /// Of a rule that has it.
    pub(crate) fn compile(rule: &TopicRule) -> Result<Option<Self>, TopicRuleError> {
        let Some(batch) = &rule.batch else { return Ok(None) };
        let fault = |what: &str| TopicRuleError::Batch(what.into());
        if rule.direction == Direction::In {
            return Err(fault("goes with out or both, not with in"));
        }
        if rule.qos == 2 {
            return Err(fault(
                "goes with qos 0 or 1, not 2: after a crash a batch is made of other messages than before, and the remote would take it for the one \
                 that it already holds under the same packet identifier",
            ));
        }
        if !MESSAGES.contains(&batch.max_messages) {
            return Err(fault("max_messages is 1 to 1000"));
        }
        if !BYTES.contains(&batch.max_bytes) {
            return Err(fault("max_bytes is 1024 to 16777216"));
        }
        if !WAIT.contains(&batch.max_wait) {
            return Err(fault("max_wait is 10ms to 1h"));
        }
        let topic = batch.topic.as_deref().map(Topic::try_from).transpose();
        Ok(Some(Self {
            max_messages: batch.max_messages,
            max_bytes: batch.max_bytes as usize,
            max_wait: batch.max_wait,
            topic: topic.map_err(|cause| fault(&format!("topic is not a topic name: {cause}")))?,
        }))
    }
}
