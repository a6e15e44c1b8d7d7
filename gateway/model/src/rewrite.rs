//! Topic rewriting: topic filter, regular expression, replacement with `$1`. EMQ's `rewrite` module.

use crate::TopicFilter;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which topics a rewrite rule applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewriteAction {
    /// Topic names of publishes and topic filters of subscriptions.
    #[default]
    All,
    /// Topic names only.
    Publish,
    /// Topic filters only.
    Subscribe,
}

/// One rule of topic rewriting (EMQ's `rewrite`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewriteRule {
    /// What the rule applies to.
    #[serde(default)]
    pub action: RewriteAction,
    /// Topic filter that the topic must match.
    pub source: String,
    /// Regular expression that the topic must match; its groups are `$1`, `$2` … of `target`.
    pub pattern: String,
    /// The topic instead.
    pub target: String,
}

/// A rule that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// `source` is malformed.
    #[error("rewrite.source: `{value}` is not a topic filter: {cause}")]
    Source {
        /// As written.
        value: String,
        /// What is wrong.
        cause: crate::TopicError,
    },
    /// `pattern` is malformed.
    #[error("rewrite.pattern: `{value}` is not a regular expression: {cause}")]
    Pattern {
        /// As written.
        value: String,
        /// What is wrong.
        cause: String,
    },
    /// `target` wants a group that `pattern` has not.
    #[error("rewrite.target: `{value}` has no `${group}` to take: the pattern has {groups} groups")]
    Target {
        /// As written.
        value: String,
        /// The group.
        group: usize,
        /// How many there are.
        groups: usize,
    },
}

impl RewriteRule {
    /// All that is wrong with it.
    pub fn errors(&self) -> Vec<RewriteError> {
        [self.source().err(), self.pattern().err(), self.missing_group()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn missing_group(&self) -> Option<RewriteError> {
        let groups = self.pattern().ok()?.captures_len() - 1;
        let wanted = groups_of(&self.target).filter_map(|number| number.parse().ok());
        let group = wanted.max().filter(|group| *group > groups)?;
        let value = self.target.clone();
        Some(RewriteError::Target { value, group, groups })
    }

    fn source(&self) -> Result<TopicFilter, RewriteError> {
        TopicFilter::try_from(self.source.as_str()).map_err(|cause| RewriteError::Source {
            value: self.source.clone(),
            cause,
        })
    }

    fn pattern(&self) -> Result<Regex, RewriteError> {
        Regex::new(&self.pattern).map_err(|cause| RewriteError::Pattern {
            value: self.pattern.clone(),
            cause: cause.to_string(),
        })
    }
}

/// The compiled rules.
#[derive(Debug, Default)]
pub struct Rewriter(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    action: RewriteAction,
    source: TopicFilter,
    pattern: Regex,
    target: String,
}

impl Rewriter {
    /// Compiles the rules, in their order.
    pub fn compile(rules: &[RewriteRule]) -> Result<Self, RewriteError> {
        rules.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The topic that stands for `topic`, when a rule says so. The first rule that matches is applied, once.
    pub fn apply(&self, action: RewriteAction, topic: &str) -> Option<String> {
        self.0.iter().find_map(|rule| {
            if rule.action != RewriteAction::All && rule.action != action {
                return None;
            }
            if !rule.source.matches(topic.as_bytes()) {
                return None;
            }
            let groups = rule.pattern.captures(topic)?;
            let mut rewritten = String::new();
            groups.expand(&rule.target, &mut rewritten);
            Some(rewritten)
        })
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The numbers behind the `$` of a target.
fn groups_of(target: &str) -> impl Iterator<Item = &str> {
    target.split('$').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        &rest[..end]
    })
}

fn compile(rule: &RewriteRule) -> Result<Rule, RewriteError> {
    // `$1` directly before a letter would be read as a longer name: EMQ's destinations mean the number.
    let target = Regex::new(r"\$(\d+)")
        .expect("a constant")
        .replace_all(&rule.target, "$${$1}")
        .into_owned();
    Ok(Rule {
        action: rule.action,
        source: rule.source()?,
        pattern: rule.pattern()?,
        target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_takes_groups_that_are_there() {
        let rule = |target: &str| RewriteRule {
            action: RewriteAction::All,
            source: "#".into(),
            pattern: "^a/(.+)/(.+)$".into(),
            target: target.into(),
        };
        assert!(rule("$2/$1/$0 costs 5$ or $x").errors().is_empty());
        let error = rule("$2/$3").errors().remove(0);
        let told = "rewrite.target: `$2/$3` has no `$3` to take: the pattern has 2 groups";
        assert_eq!(error.to_string(), told);
    }

    /// The examples of EMQ's own documentation.
    #[test]
    fn groups_of_the_pattern_stand_in_the_target() {
        let rule = |source: &str, pattern: &str, target: &str| RewriteRule {
            action: RewriteAction::All,
            source: source.into(),
            pattern: pattern.into(),
            target: target.into(),
        };
        let rewriter = Rewriter::compile(&[
            rule("y/+/z/#", "^y/(.+)/z/(.+)$", "y/z/$2"),
            rule("x/#", "^x/y/(.+)$", "z/y/x/$1"),
            rule("a/#", "^a/(.)(.)$", "$1b/$2"),
        ])
        .unwrap();
        let all = |topic| rewriter.apply(RewriteAction::Publish, topic);
        assert_eq!(all("x/y/2").as_deref(), Some("z/y/x/2"));
        assert_eq!(all("x/1/2"), None);
        assert_eq!(all("y/a/z/b").as_deref(), Some("y/z/b"));
        assert_eq!(all("y/def"), None);
        assert_eq!(all("a/12").as_deref(), Some("1b/2"));
    }
}
