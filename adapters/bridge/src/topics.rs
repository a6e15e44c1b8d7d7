//! A bridge's topic lines as they are written: which topics it carries, which way, and what they are called on the other side.
//! `topic` in mosquitto.conf(5).

use crate::batch_settings::BatchSettings;
use crate::compression::Compression;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Topics that a bridge carries. Written as a table, or as mosquitto's line:
/// `pattern [[[out|in|both] qos] local-prefix remote-prefix]`, where `""` is an empty word.
///
/// Local topics are `local_prefix` and what `filter` matches, remote topics are `remote_prefix` and the same. The first rule that a topic matches
/// gives it its name. An empty filter with both prefixes gives one topic another name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct TopicRule {
    /// Topic filter, without the prefixes.
    pub filter: String,
    /// Which way messages go.
    pub direction: Direction,
    /// The highest QoS, 0 to 2.
    pub qos: u8,
    /// What local topics have before the part that the filter matches.
    pub local_prefix: String,
    /// What remote topics have before the part that the filter matches.
    pub remote_prefix: String,
    /// Changes the name once more, after the prefixes. Not together with `both`, for there is no way back.
    pub rewrite: Option<Rewrite>,
    /// Queued messages of a higher priority go first. Without priorities they go in the order they came in.
    pub priority: u8,
    /// What becomes of the RETAIN flag.
    pub retain: RetainRule,
    /// Sends fewer messages than there are: `{ last_value_every = "10s" }` sends of each topic the last one each time, `{ per_minute = 60 }` drops what is
    /// more. What is not sent is counted. For messages that go out.
    pub throttle: Option<Throttle>,
    /// Packs payloads that go out, if that makes them smaller; MQTT 5 says so in the user property `content-encoding`. What comes in packed is unpacked.
    pub compress: Option<Compression>,
    /// Gathers messages that go out and sends many in one, as a JSON array. For QoS 0 and 1.
    pub batch: Option<BatchSettings>,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From here to the remote.
    #[default]
    Out,
    /// From the remote to here.
    In,
    /// Both.
    Both,
}

impl Direction {
    pub(crate) fn is_out(self) -> bool {
        self != Self::In
    }

    pub(crate) fn is_in(self) -> bool {
        self != Self::Out
    }
}

/// What becomes of the RETAIN flag of a message that is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetainRule {
    /// It stays.
    #[default]
    Keep,
    /// It is taken off.
    Never,
    /// It is set.
    Always,
}

impl RetainRule {
    pub(crate) fn apply(self, retain: bool) -> bool {
        match self {
            Self::Keep => retain,
            Self::Never => false,
            Self::Always => true,
        }
    }
}

/// Sends fewer messages than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Throttle {
    /// Of each topic at most one message in this time: the last one.
    LastValueEvery(
        #[serde(with = "humantime_serde")]
        #[schemars(with = "String")]
        Duration,
    ),
    /// So many messages in a minute, of all topics of the rule together.
    PerMinute(u32),
}

/// A regular expression and what stands for what it matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Regular expression; a topic that it does not match stays as it is. Its groups are `$1`, `$2` … of `target`.
    pub pattern: String,
    /// The topic instead.
    pub target: String,
}

/// What is wrong with a topic rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicRuleError {
    /// There is nothing in the line.
    #[error("the line is empty")]
    Empty,
    /// The second word is no direction.
    #[error("`{0}` is no direction, allowed is out, in, both")]
    Direction(String),
    /// The third word is no QoS.
    #[error("`{0}` is no QoS, allowed is 0 to 2")]
    Qos(String),
    /// There are more than five words.
    #[error("`{0}` is one word too many")]
    TooMany(String),
    /// An empty filter names one topic only if both prefixes are there.
    #[error("an empty filter needs both prefixes")]
    EmptyFilter,
    /// A prefix is no beginning of a topic name.
    #[error("`{prefix}` is no prefix of topics: {cause}")]
    Prefix {
        /// As written.
        prefix: String,
        /// What is wrong.
        cause: String,
    },
    /// Prefix and filter together are no topic filter.
    #[error("`{filter}` is not a topic filter: {cause}")]
    Filter {
        /// With its prefix.
        filter: String,
        /// What is wrong.
        cause: String,
    },
    /// `$share/` and its like mean something else on each side.
    #[error("`{0}`: a bridge does not carry shared or exclusive subscriptions")]
    Special(String),
    /// The regular expression is malformed.
    #[error("`{pattern}` is not a regular expression: {cause}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong.
        cause: String,
    },
    /// Only what goes out is throttled.
    #[error("throttle goes with out or both, not with in")]
    ThrottleIn,
    /// A throttle that lets nothing pass, or everything.
    #[error("throttle: {0}")]
    Throttle(&'static str),
    /// A batch that cannot be.
    #[error("batch: {0}")]
    Batch(String),
    /// A rewritten name has no way back.
    #[error("rewrite goes with out or in, not with both")]
    RewriteBoth,
}

impl FromStr for TopicRule {
    type Err = TopicRuleError;

    /// Reads mosquitto's line, with or without `topic` in front.
    fn from_str(line: &str) -> Result<Self, TopicRuleError> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let keyword = words.len() > 1 && words[0] == "topic" && direction(words[1]).is_none();
        let mut words = words.drain(usize::from(keyword)..).map(unquoted);
        let filter = words.next().ok_or(TopicRuleError::Empty)?;
        let direction = words.next().map_or(Ok(Direction::Out), |word| {
            direction(word).ok_or_else(|| TopicRuleError::Direction(word.into()))
        })?;
        let qos = words.next().map_or(Ok(0), |word| match word {
            "0" => Ok(0),
            "1" => Ok(1),
            "2" => Ok(2),
            _ => Err(TopicRuleError::Qos(word.into())),
        })?;
        let (local_prefix, remote_prefix) = (words.next(), words.next());
        if let Some(word) = words.next() {
            return Err(TopicRuleError::TooMany(word.into()));
        }
        Ok(Self {
            filter: filter.into(),
            direction,
            qos,
            local_prefix: local_prefix.unwrap_or_default().into(),
            remote_prefix: remote_prefix.unwrap_or_default().into(),
            ..Self::default()
        })
    }
}

fn direction(word: &str) -> Option<Direction> {
    match word {
        "out" => Some(Direction::Out),
        "in" => Some(Direction::In),
        "both" => Some(Direction::Both),
        _ => None,
    }
}

fn unquoted(word: &str) -> &str {
    if word == "\"\"" { "" } else { word }
}

impl Serialize for TopicRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for TopicRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LineOrTable)
    }
}

struct LineOrTable;

impl<'de> Visitor<'de> for LineOrTable {
    type Value = TopicRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a topic line such as \"sensors/# out 1\", or a table")
    }

    fn visit_str<E: Error>(self, line: &str) -> Result<TopicRule, E> {
        line.parse()
            .map_err(|cause| E::custom(format!("topic line `{line}`: {cause}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TopicRule, A::Error> {
        TopicRule::deserialize(MapAccessDeserializer::new(map))
    }
}

/// The schema of a list of rules, each a line or a table.
pub(crate) fn schema(generator: &mut SchemaGenerator) -> Schema {
    let table = generator.subschema_for::<TopicRule>();
    json_schema!({ "type": "array", "items": { "anyOf": [table, { "type": "string" }] } })
}
