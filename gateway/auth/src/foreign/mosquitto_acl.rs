//! mosquitto's `acl_file`. mosquitto.conf(5), as mosquitto 2.0 reads it
//!
//! `topic [read|write|readwrite|deny] FILTER` is for the user of the section, `user NAME`, and before the first section for clients without a name.
//! `pattern …` is for everybody, wherever it stands, and has `%c` and `%u`, which are text in a `topic` line.
//!
//! A client's `topic` lines are asked first, then all patterns; of each, those that deny before those that allow. What has no rule is denied: a file
//! without a line allows nothing.

use super::{AclFileFault, Misplaced};
use crate::rules::{Condition, Entry, Names, Origin, Template, Who};
use crate::settings::{AclAction, AclEffect, RefuseWith};
use headgate_model::TopicFilter;

/// The rules in the order in which they are asked.
pub(super) fn parse(bytes: &[u8], origin: &dyn Fn(usize) -> Origin) -> Result<Vec<Entry>, Vec<Misplaced>> {
    let mut file = File::default();
    let mut faults = Vec::new();
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line_number = n + 1;
        let fault = |column, fault| Misplaced {
            line: line_number,
            column,
            fault,
        };
        let Ok(text) = std::str::from_utf8(line) else {
            faults.push(fault(1, AclFileFault::NotUtf8));
            continue;
        };
        if let Err((rest, found)) = file.line(text, origin(line_number)) {
            // The rest is a part of the line without the blanks at its end.
            let before = text.trim_end().len() - rest.len();
            faults.push(fault(text[..before].chars().count() + 1, found));
        }
    }
    if faults.is_empty() {
        Ok(file.ordered())
    } else {
        Err(faults)
    }
}

#[derive(Default)]
struct File {
    /// Whose section it is.
    user: Option<String>,
    topics: Vec<Entry>,
    patterns: Vec<Entry>,
}

/// The part of a line that is wrong, up to its end.
type Wrong<'a> = (&'a str, AclFileFault);

impl File {
    fn line<'a>(&mut self, line: &'a str, origin: Origin) -> Result<(), Wrong<'a>> {
        let line = line.trim_end().trim_start();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (directive, rest) = word(line);
        match directive {
            "user" if rest.is_empty() => Err((rest, AclFileFault::NoName)),
            "user" => {
                self.user = Some(rest.to_owned());
                Ok(())
            }
            "topic" => {
                let who = self.user.clone().map_or(Who::Anonymous, Who::User);
                self.topics.push(rule(rest, origin, who, Names::Nowhere)?);
                Ok(())
            }
            "pattern" => {
                self.patterns
                    .push(rule(rest, origin, Who::EVERYBODY, Names::Anywhere)?);
                Ok(())
            }
            other => Err((line, AclFileFault::Directive(other.to_owned()))),
        }
    }

    fn ordered(self) -> Vec<Entry> {
        let denies_first = |mut rules: Vec<Entry>| {
            rules.sort_by_key(|rule| rule.effect != AclEffect::Deny);
            rules
        };
        // A name that could widen a pattern has no part in any.
        let kept_out = self.patterns.first().map(|pattern| Entry {
            origin: pattern.origin.clone(),
            effect: AclEffect::Deny,
            action: AclAction::All,
            who: Who::WithWildcard,
            topics: None,
            condition: Condition::default(),
            refuse_with: RefuseWith::default(),
        });
        let mut rules = denies_first(self.topics);
        rules.extend(kept_out);
        rules.extend(denies_first(self.patterns));
        rules
    }
}

/// The first word of a line, and what is behind the blanks that follow it.
fn word(line: &str) -> (&str, &str) {
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    (&line[..end], line[end..].trim_start())
}

/// A filter may have blanks in it; one word is the filter, whatever it says.
fn rule(rest: &str, origin: Origin, who: Who, names: Names) -> Result<Entry, Wrong<'_>> {
    if rest.is_empty() {
        return Err((rest, AclFileFault::NoTopic));
    }
    let (access, topic) = match word(rest) {
        (topic, "") => ("readwrite", topic),
        split => split,
    };
    let (effect, action) = match access {
        "read" => (AclEffect::Allow, AclAction::Subscribe),
        "write" => (AclEffect::Allow, AclAction::Publish),
        "readwrite" => (AclEffect::Allow, AclAction::All),
        "deny" => (AclEffect::Deny, AclAction::All),
        other => return Err((rest, AclFileFault::Access(other.to_owned()))),
    };
    if let Err(cause) = TopicFilter::try_from(topic) {
        let (cause, text) = (cause.to_string(), topic.to_owned());
        return Err((topic, AclFileFault::Topic { topic: text, cause }));
    }
    let template = Template {
        filter: topic.to_owned(),
        exactly: false,
        names,
    };
    Ok(Entry {
        origin,
        effect,
        action,
        who,
        topics: Some(vec![template]),
        condition: Condition::default(),
        refuse_with: RefuseWith::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn origin(line: usize) -> Origin {
        let path = Path::new("acl").into();
        Origin::File { path, line }
    }

    /// Lines, whom they concern, what they do and to which filter.
    fn read(text: &str) -> Vec<String> {
        let rules = parse(text.as_bytes(), &origin).unwrap();
        let rules = rules.into_iter().map(|rule| {
            let topics = rule.topics.unwrap_or_default();
            let topics: Vec<_> = topics.into_iter().map(|t| t.filter).collect();
            let topics = topics.join(",");
            let Origin::File { line, .. } = rule.origin else {
                panic!("it is from a file")
            };
            format!(
                "{line} {:?} {:?} {:?} {topics}",
                rule.who, rule.effect, rule.action
            )
        });
        rules.collect()
    }

    #[test]
    fn sections_are_of_users_and_patterns_of_everybody() {
        let text = "# for nobody\n\ntopic read news/#\nuser joe smith\ntopic write a/b\ntopic deny a/#\n\
                    pattern read of/%u\npattern deny of/%c\nuser ann\ntopic read\n";
        assert_eq!(
            read(text),
            [
                "6 User(\"joe smith\") Deny All a/#",
                "3 Anonymous Allow Subscribe news/#",
                "5 User(\"joe smith\") Allow Publish a/b",
                "10 User(\"ann\") Allow All read",
                "7 WithWildcard Deny All ",
                "8 All([]) Deny All of/%c",
                "7 All([]) Allow Subscribe of/%u",
            ]
        );
    }

    /// As editors of all systems leave it.
    #[test]
    fn blanks_tabs_line_ends_and_marks_do_not_matter() {
        assert_eq!(
            read("  topic\tread  a b/c d \t\r\n\t# nothing\r\nuser\t joe \r\npattern  %u\r\n"),
            [
                "1 Anonymous Allow Subscribe a b/c d",
                "4 WithWildcard Deny All ",
                "4 All([]) Allow All %u",
            ]
        );
        assert_eq!(read(""), [""; 0]);
    }

    #[test]
    fn every_fault_has_its_place_and_says_what_is_allowed() {
        let text = b"topics a\ntopic\nuser\n topic write  a/#/b\ntopic reads a\npattern \xff\ntopic fine\n";
        let faults = parse(text, &origin).unwrap_err();
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let starts = [
            "1:1: `topics` is no directive, allowed is topic, pattern and user",
            "2:6: a topic filter is missing",
            "3:5: a user name is missing",
            "4:15: `a/#/b` is not a topic filter: ",
            "5:7: `reads` is no access, allowed is read, write, readwrite and deny",
            "6:1: it is not UTF-8",
        ];
        assert_eq!(faults.len(), starts.len(), "{faults:?}");
        for (fault, start) in faults.iter().zip(starts) {
            assert!(fault.starts_with(start), "{fault}");
        }
    }
}
