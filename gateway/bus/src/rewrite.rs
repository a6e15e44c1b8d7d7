//! Topic rewriting: topic filter, regular expression, replacement with `$1`. EMQ's `rewrite` module.

use crate::settings::{RewriteAction, RewriteRule, SettingsError, filter};
use headgate_model::TopicFilter;
use regex::Regex;

/// The compiled rules.
#[derive(Debug, Default)]
pub(crate) struct Rewriter(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    action: RewriteAction,
    source: TopicFilter,
    pattern: Regex,
    target: String,
}

impl Rewriter {
    pub(crate) fn compile(rules: &[RewriteRule]) -> Result<Self, SettingsError> {
        rules.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The topic that stands for `topic`, when a rule says so. The first rule that matches is applied, once.
    pub(crate) fn apply(&self, action: RewriteAction, topic: &str) -> Option<String> {
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
}

/// The regular expression of a rule.
pub(crate) fn pattern(rule: &RewriteRule) -> Result<Regex, SettingsError> {
    Regex::new(&rule.pattern).map_err(|cause| SettingsError::Pattern {
        value: rule.pattern.clone(),
        cause: cause.to_string(),
    })
}

fn compile(rule: &RewriteRule) -> Result<Rule, SettingsError> {
    let source = filter("rewrite.source", &rule.source)?;
    let pattern = pattern(rule)?;
    // `$1` directly before a letter would be read as a longer name: EMQ's destinations mean the number.
    let target = Regex::new(r"\$(\d+)")
        .expect("a constant")
        .replace_all(&rule.target, "$${$1}")
        .into_owned();
    Ok(Rule {
        action: rule.action,
        source,
        pattern,
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
