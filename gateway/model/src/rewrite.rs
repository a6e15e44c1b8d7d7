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
}

impl RewriteRule {
    /// All that is wrong with it.
    pub fn errors(&self) -> Vec<RewriteError> {
        [self.source().err(), self.pattern().err()]
            .into_iter()
            .flatten()
            .collect()
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
