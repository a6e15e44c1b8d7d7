//! What a new configuration changes.

use super::Config;
use headgate_model::Secret;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Changes that are shown.
const MOST: usize = 20;
/// Lists of which the order counts.
const ORDERED: [&str; 1] = ["wans"];
/// Characters of a value that are shown.
const LONGEST: usize = 60;

impl Config {
    /// What `new` changes: `key: old → new`, with values as `check --print` shows them, so without secrets; of a secret, only that it changed.
    pub(crate) fn changes(&self, new: &Self) -> Vec<String> {
        let shown = |config: &Self| {
            let mut shown = serde_json::to_value(config).unwrap_or_default();
            // As it was written.
            shown["data_dir"] = json!(config.wanted_data_dir());
            shown
        };
        let mut changes = Vec::new();
        let (old, new) = Secret::told_apart(|| (shown(self), shown(new)));
        compare("", &old, &new, &mut changes);
        changes
    }
}

/// As many changes as one looks at, and how many more there are.
pub(crate) fn at_most(changes: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = changes.iter().take(MOST).cloned().collect();
    if let Some(left) = changes.len().checked_sub(MOST).filter(|left| *left > 0) {
        let settings = if left == 1 { "setting" } else { "settings" };
        shown.push(format!("and {left} more {settings}"));
    }
    shown
}

/// Adds a line for each value that differs, and for each entry of a list.
fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                let value = |table: &serde_json::Map<_, _>| table.get(key).cloned().unwrap_or(Value::Null);
                compare(&path, &value(before), &value(after), changes);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.iter().chain(after).any(Value::is_object) => {
            match names(before).zip(names(after)) {
                Some((old, new)) => compare_named(path, &old, &new, changes),
                None => compare_lists(path, before, after, changes),
            }
        }
        (Value::String(old), Value::String(new)) if Secret::is_shown_as(old) && Secret::is_shown_as(new) => {
            changes.push(format!("{path}: changed (hidden)"));
        }
        _ => changes.push(format!("{path}: {} → {}", short(old), short(new))),
    }
}

/// The entries of a list by their names, if each has one of its own.
fn names(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named = list.iter().map(|entry| Some((entry["name"].as_str()?, entry)));
    let named: Vec<_> = named.collect::<Option<_>>()?;
    let different: BTreeSet<&str> = named.iter().map(|(name, _)| *name).collect();
    (different.len() == named.len()).then_some(named)
}

fn compare_named(path: &str, old: &[(&str, &Value)], new: &[(&str, &Value)], changes: &mut Vec<String>) {
    let among = |list: &[(&str, &Value)], name: &str| list.iter().any(|(other, _)| *other == name);
    for (name, before) in old {
        if let Some((_, after)) = new.iter().find(|(other, _)| other == name) {
            compare(&format!("{path}[{name}]"), before, after, changes);
        }
    }
    let left = |list: &[(&str, &Value)], other: &[(&str, &Value)]| {
        let left = list.iter().filter(|(name, _)| !among(other, name));
        left.map(|(_, entry)| (*entry).clone()).collect::<Vec<_>>()
    };
    changes.extend(entries(path, &left(old, new), "gone"));
    changes.extend(entries(path, &left(new, old), "new"));
    if ORDERED.contains(&path) {
        changes.extend(reordered(path, old, new));
    }
}

/// Whether those that are in both are in another order.
fn reordered(path: &str, old: &[(&str, &Value)], new: &[(&str, &Value)]) -> Option<String> {
    let order = |list: &[(&str, &Value)], other: &[(&str, &Value)]| {
        let is_in_both = |name: &&str| other.iter().any(|(other, _)| other == name);
        let names = list.iter().map(|(name, _)| *name).filter(is_in_both);
        names.map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    let (before, after) = (order(old, new), order(new, old));
    (before != after).then(|| format!("{path}: in another order: {} → {}", cut(&before), cut(&after)))
}

/// Entries without names: what is alike at the beginning and at the end is the same.
fn compare_lists(path: &str, before: &[Value], after: &[Value], changes: &mut Vec<String>) {
    let alike = |(old, new): &(&Value, &Value)| old == new;
    let first = before.iter().zip(after).take_while(alike).count();
    let (before, after) = (&before[first..], &after[first..]);
    let last = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take_while(alike)
        .count();
    let (before, after) = (&before[..before.len() - last], &after[..after.len() - last]);
    for (n, (old, new)) in before.iter().zip(after).enumerate() {
        compare(&format!("{path}[{}]", first + n), old, new, changes);
    }
    let both = before.len().min(after.len());
    changes.extend(entries(path, &before[both..], "gone"));
    changes.extend(entries(path, &after[both..], "new"));
}

/// What became of entries of a list, which are told by their names if they have some.
fn entries(path: &str, entries: &[Value], what: &str) -> Option<String> {
    let names: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    let named = match names[..] {
        [] => String::new(),
        _ => format!(": {}", cut(&names.join(", "))),
    };
    match entries.len() {
        0 => None,
        1 => Some(format!("{path}: an entry is {what}{named}")),
        many => Some(format!("{path}: {many} entries are {what}{named}")),
    }
}

/// A value as one reads it, cut where it is too long.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) if Secret::is_shown_as(text) => "\"(hidden)\"".to_owned(),
        value => cut(&value.to_string()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => {
            let left = text[end..].chars().count();
            format!("{}… and {left} more characters", &text[..end])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What was taken away is named, wherever it stood; what is the same is no change.
    #[test]
    fn entries_of_lists_are_told_by_their_names_or_by_what_is_new() {
        let told = |old: Value, new: Value| {
            let mut changes = Vec::new();
            compare("l", &old, &new, &mut changes);
            changes
        };
        let entry = |name: &str, port: u16| json!({ "name": name, "port": port });
        let three = json!([entry("a", 1), entry("b", 2), entry("c", 3)]);
        assert_eq!(
            told(three.clone(), json!([entry("a", 1), entry("c", 3)])),
            ["l: an entry is gone: b"]
        );
        let changed = json!([entry("c", 9), entry("d", 4), entry("a", 1), entry("b", 2)]);
        assert_eq!(
            told(three, changed),
            ["l[c].port: 3 → 9", "l: an entry is new: d"]
        );
        let rules = |effects: &[&str]| {
            effects
                .iter()
                .map(|effect| json!({ "effect": effect }))
                .collect::<Value>()
        };
        assert_eq!(
            told(rules(&["x", "y"]), rules(&["new", "x", "y"])),
            ["l: an entry is new"]
        );
        assert_eq!(
            told(rules(&["x", "y", "z"]), rules(&["x", "w", "z"])),
            ["l[1].effect: \"y\" → \"w\""]
        );
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let last = |n| at_most(&vec![String::new(); MOST + n]).pop();
        assert_eq!(last(0).as_deref(), Some(""));
        assert_eq!(last(1).as_deref(), Some("and 1 more setting"));
        assert_eq!(last(2).as_deref(), Some("and 2 more settings"));
    }
}
