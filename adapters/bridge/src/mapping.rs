//! Topic rules at work: what a topic is called on the other side.
//!
//! Always true: both filters of a rule are well-formed; what a rule makes of a topic name is a topic name again, or an error.

use crate::batch_settings::Batching;
use crate::compression::Compression;
use crate::topics::{Direction, RetainRule, Rewrite, Throttle, TopicRule, TopicRuleError};
use headgate_model::topic::TopicError;
use headgate_model::{Qos, RetainHandling, Subscription, SubscriptionOptions, Topic, TopicFilter};
use regex::Regex;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Names that mean a kind of subscription, not a topic.
const SPECIAL: [&str; 4] = ["$share/", "$queue/", "$local/", "$exclusive/"];

/// How often a last value may be sent.
const EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

/// The compiled rules of a bridge, in their order.
#[derive(Debug)]
pub struct TopicMap(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    local: Side,
    remote: Side,
    direction: Direction,
    qos: Qos,
    rewrite: Option<(Regex, String)>,
    priority: u8,
    retain: RetainRule,
    throttle: Option<Throttle>,
    compress: Option<Compression>,
    batching: Option<Batching>,
}

/// Topics as one of the two brokers knows them.
#[derive(Debug)]
struct Side {
    prefix: String,
    filter: TopicFilter,
}

/// A topic under its name on the other side, and what its rule says of the message.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The name.
    pub topic: Topic,
    /// The highest QoS.
    pub qos: Qos,
    /// What becomes of RETAIN.
    pub retain: RetainRule,
    /// How payloads are packed on the way.
    pub compress: Option<Compression>,
    /// The place of the rule in the list.
    pub rule: usize,
}

/// Why a topic has no name on the other side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// No rule is for it.
    #[error("no rule matches")]
    NoRule,
    /// The name would not be one.
    #[error("the new name: {0}")]
    Invalid(TopicError),
}

impl TopicMap {
    /// Compiles rules. The error comes with the place of the rule.
    pub fn compile(rules: &[TopicRule]) -> Result<Self, (usize, TopicRuleError)> {
        let rules = rules.iter().enumerate();
        rules
            .map(|(at, rule)| Rule::compile(rule).map_err(|error| (at, error)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What a local topic is called at the remote.
    pub fn outgoing(&self, topic: &Topic) -> Result<Mapped, Unmapped> {
        self.map(topic, |rule| {
            rule.direction.is_out().then_some((&rule.local, &rule.remote))
        })
    }

    /// What a remote topic is called here.
    pub fn incoming(&self, topic: &Topic) -> Result<Mapped, Unmapped> {
        self.map(topic, |rule| {
            rule.direction.is_in().then_some((&rule.remote, &rule.local))
        })
    }

    fn map<'a>(
        &'a self,
        topic: &Topic,
        sides: impl Fn(&'a Rule) -> Option<(&'a Side, &'a Side)>,
    ) -> Result<Mapped, Unmapped> {
        let found = self.0.iter().enumerate().find_map(|(at, rule)| {
            let (from, to) = sides(rule)?;
            Some((at, rule, from.rest(topic)?, to))
        });
        let (at, rule, rest, to) = found.ok_or(Unmapped::NoRule)?;
        Ok(Mapped {
            topic: rule.renamed(topic, rest, &to.prefix).map_err(Unmapped::Invalid)?,
            qos: rule.qos,
            retain: rule.retain,
            compress: rule.compress,
            rule: at,
        })
    }

    /// What the bridge subscribes to on its own bus, each filter once.
    pub fn local_subscriptions(&self) -> Vec<Subscription> {
        let outgoing = self.0.iter().filter(|rule| rule.direction.is_out());
        let subscription = |(filter, qos)| Subscription {
            filter,
            share: None,
            local: false,
            exclusive: false,
            options: SubscriptionOptions {
                qos,
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::SendIfNew,
                ..SubscriptionOptions::default()
            },
        };
        highest_qos(outgoing.map(|rule| (&rule.local.filter, rule.qos)))
            .into_iter()
            .map(subscription)
            .collect()
    }

    /// What the bridge subscribes to at the remote, each filter once, with the QoS wanted.
    pub fn remote_subscriptions(&self) -> Vec<(TopicFilter, Qos)> {
        let incoming = self.0.iter().filter(|rule| rule.direction.is_in());
        highest_qos(incoming.map(|rule| (&rule.remote.filter, rule.qos)))
    }

    /// Filters that the remote may still hold from an earlier configuration, though nothing shall come in by them.
    pub fn remote_unwanted(&self) -> Vec<TopicFilter> {
        let wanted = self.remote_subscriptions();
        let mut unwanted: Vec<TopicFilter> = Vec::new();
        for rule in self.0.iter().filter(|rule| rule.direction == Direction::Out) {
            let filter = &rule.remote.filter;
            if !wanted.iter().any(|(wanted, _)| wanted == filter) && !unwanted.contains(filter) {
                unwanted.push(filter.clone());
            }
        }
        unwanted
    }

    /// How a rule is throttled.
    pub(crate) fn throttle(&self, rule: usize) -> Option<Throttle> {
        self.0.get(rule)?.throttle
    }

    /// How a rule gathers messages.
    pub(crate) fn batching(&self, rule: usize) -> Option<&Batching> {
        self.0.get(rule)?.batching.as_ref()
    }

    /// How a rule packs.
    pub(crate) fn compress(&self, rule: usize) -> Option<Compression> {
        self.0.get(rule)?.compress
    }

    /// The most messages that any rule gathers; `None` when none does.
    pub(crate) fn most_in_a_batch(&self) -> Option<u16> {
        let rules = self.0.iter().filter_map(|rule| rule.batching.as_ref());
        rules.map(|batching| batching.max_messages).max()
    }

    /// Priorities of local topics in the queue, in the order in which they are to be looked at.
    pub fn priorities(&self) -> Vec<(TopicFilter, u8)> {
        let outgoing = self.0.iter().filter(|rule| rule.direction.is_out());
        outgoing
            .map(|rule| (rule.local.filter.clone(), rule.priority))
            .collect()
    }
}

/// Each filter once, at the highest QoS any rule has for it.
fn highest_qos<'a>(filters: impl Iterator<Item = (&'a TopicFilter, Qos)>) -> Vec<(TopicFilter, Qos)> {
    let mut highest: Vec<(TopicFilter, Qos)> = Vec::new();
    for (filter, qos) in filters {
        match highest.iter_mut().find(|(known, _)| known == filter) {
            Some((_, known)) => *known = qos.max(*known),
            None => highest.push((filter.clone(), qos)),
        }
    }
    highest
}

impl Side {
    fn new(prefix: &str, filter: &str) -> Result<Self, TopicRuleError> {
        if !prefix.is_empty() {
            Topic::try_from(prefix).map_err(|cause| TopicRuleError::Prefix {
                prefix: prefix.into(),
                cause: cause.to_string(),
            })?;
        }
        let whole = format!("{prefix}{filter}");
        if SPECIAL.iter().any(|special| whole.starts_with(special)) {
            return Err(TopicRuleError::Special(whole));
        }
        let filter = TopicFilter::try_from(whole.as_str()).map_err(|cause| TopicRuleError::Filter {
            filter: whole,
            cause: cause.to_string(),
        })?;
        Ok(Self {
            prefix: prefix.into(),
            filter,
        })
    }

    /// What comes after the prefix of a topic of this side. A filter `a/#` also matches `a`, which is not below the prefix `a/`.
    fn rest<'a>(&self, topic: &'a Topic) -> Option<&'a str> {
        if !self.filter.matches(topic.as_bytes()) {
            return None;
        }
        topic.as_str().strip_prefix(self.prefix.as_str())
    }
}

impl Rule {
    fn compile(rule: &TopicRule) -> Result<Self, TopicRuleError> {
        if rule.filter.is_empty() && (rule.local_prefix.is_empty() || rule.remote_prefix.is_empty()) {
            return Err(TopicRuleError::EmptyFilter);
        }
        let qos = Qos::from_u8(rule.qos).ok_or_else(|| TopicRuleError::Qos(rule.qos.to_string()))?;
        if rule.rewrite.is_some() && rule.direction == Direction::Both {
            return Err(TopicRuleError::RewriteBoth);
        }
        Ok(Self {
            local: Side::new(&rule.local_prefix, &rule.filter)?,
            remote: Side::new(&rule.remote_prefix, &rule.filter)?,
            direction: rule.direction,
            qos,
            rewrite: rule.rewrite.as_ref().map(compile_rewrite).transpose()?,
            priority: rule.priority,
            retain: rule.retain,
            compress: rule.compress,
            batching: Batching::compile(rule)?,
            throttle: rule
                .throttle
                .map(|throttle| checked(throttle, rule.direction))
                .transpose()?,
        })
    }

    /// `rest` of `topic` with another prefix, rewritten.
    fn renamed(&self, topic: &Topic, rest: &str, prefix: &str) -> Result<Topic, TopicError> {
        if prefix.is_empty() && self.rewrite.is_none() && rest.len() == topic.as_bytes().len() {
            return Ok(topic.clone());
        }
        let mut name = format!("{prefix}{rest}");
        if let Some((pattern, target)) = &self.rewrite
            && let Some(groups) = pattern.captures(&name)
        {
            let mut rewritten = String::new();
            groups.expand(target, &mut rewritten);
            name = rewritten;
        }
        Topic::parse(name.into())
    }
}

fn checked(throttle: Throttle, direction: Direction) -> Result<Throttle, TopicRuleError> {
    match throttle {
        _ if direction == Direction::In => Err(TopicRuleError::ThrottleIn),
        Throttle::PerMinute(0) => Err(TopicRuleError::Throttle("per_minute is 1 or more")),
        Throttle::LastValueEvery(every) if !EVERY.contains(&every) => {
            Err(TopicRuleError::Throttle("last_value_every is 100ms to 1day"))
        }
        throttle => Ok(throttle),
    }
}

fn compile_rewrite(rewrite: &Rewrite) -> Result<(Regex, String), TopicRuleError> {
    let pattern = Regex::new(&rewrite.pattern).map_err(|cause| TopicRuleError::Pattern {
        pattern: rewrite.pattern.clone(),
        cause: cause.to_string(),
    })?;
    // `$1` directly before a letter would be read as a longer name.
    let target = Regex::new(r"\$(\d+)")
        .expect("a constant")
        .replace_all(&rewrite.target, "$${$1}")
        .into_owned();
    Ok((pattern, target))
}
