//! The reference of all settings, made from the schema, so that it cannot be wrong: `docs/configuration.md`.

use crate::config::{Config, choices, defaults_of, resolve};
use crate::protocols;
use headgate_bridge::BridgeSettings;
use headgate_shell::ListenerSettings;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::fmt::Write;

/// The reference as Markdown.
pub(super) fn markdown() -> String {
    let schema = Config::schema();
    let defaults = serde_json::to_value(Config::default()).expect("settings are plain data");
    let mut text = String::from(INTRODUCTION);
    let mut sections = VecDeque::from([Section {
        path: String::new(),
        schema: schema.clone(),
        defaults,
        list: false,
    }]);
    while let Some(section) = sections.pop_front() {
        section.write(&schema, &mut text, &mut sections);
    }
    text
}

const INTRODUCTION: &str = "# Configuration reference\n\n\
    Made by `headgate check --reference` from the program itself. `headgate check --config FILE` tells all faults of a file, each with its line, and what \
    in the system stands in the way of a start: unreadable files, addresses that are not this machine's, a data folder that cannot be written. Run it \
    as the gateway's user. It changes nothing, and a port that is taken is no fault, for the gateway that runs may have it. A warning is no reason not to start. `--json` answers with `ok`, \
    `faults` and `warnings`, each with `file`, `line` and `column` (or `variable`), `key` and `message`. `headgate check --print` shows the settings in force.\n\n\
    Unknown keys are refused. Where a limit may be `0`, that is no limit.\n\n\
    A duration is a text: numbers, each with its unit, such as `\"500ms\"`, `\"10s\"` or `\"1h 30m\"`. Units are `ns`, `us`, `ms`, `s`, `m`, `h`, `d` (also `days`), `w` (`weeks`), \
    `M` (`months`, of 30.44 days) and `y` (`years`). A number without a unit, or a negative one, is refused; `\"0s\"` is no time at all.\n\n\
    A setting may also come from the environment: `HEADGATE__MQTT__MAX_QOS=1` stands for `max_qos = 1` in `[mqtt]`. Names that are nearly right are told: \
    `HEADGATE_MQTT__MAX_QOS` sets nothing.\n";

struct Section {
    path: String,
    schema: Value,
    defaults: Value,
    list: bool,
}

impl Section {
    fn write(&self, root: &Value, text: &mut String, sections: &mut VecDeque<Self>) {
        let heading = match (self.path.as_str(), self.list) {
            ("", _) => "Top level".to_owned(),
            (path, true) => format!("`[[{path}]]`"),
            (path, false) => format!("`[{path}]`"),
        };
        let _ = write!(text, "\n## {heading}\n\n");
        if let (Some(about), false) = (description(&self.schema), self.path.is_empty()) {
            let _ = write!(text, "{about}\n\n");
        }
        text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        let empty = Map::new();
        let properties = self
            .schema
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        for (key, property) in properties {
            let target = resolve(root, property);
            let about = description(property)
                .or_else(|| description(&target))
                .unwrap_or_default();
            let path = if self.path.is_empty() {
                key.clone()
            } else {
                format!("{}.{key}", self.path)
            };
            let item = property
                .get("items")
                .or_else(|| target.get("items"))
                .map(|items| resolve(root, items));
            let required = self.schema.get("required").and_then(Value::as_array);
            let is_required = required.is_some_and(|keys| keys.iter().any(|required| required == key));
            let default = self.defaults.get(key).cloned().unwrap_or(Value::Null);
            let (kind, default) = if target.get("properties").is_some() {
                let defaults = if default.is_null() {
                    Value::Object(Map::new())
                } else {
                    default
                };
                sections.push_back(Self {
                    path,
                    schema: target,
                    defaults,
                    list: false,
                });
                ("section".to_owned(), String::new())
            } else if let Some(item) = item.filter(|item| item.get("properties").is_some()) {
                let defaults = match key.as_str() {
                    "listeners" => defaults_of::<ListenerSettings>(&["name", "bind"]),
                    "bridges" => defaults_of::<BridgeSettings>(&["name"]),
                    list => protocols::defaults_of_entry(list).unwrap_or_else(|| Value::Object(Map::new())),
                };
                sections.push_back(Self {
                    path,
                    schema: item,
                    defaults,
                    list: true,
                });
                ("list of sections".to_owned(), String::new())
            } else if is_required {
                (kind(root, property, &target), "required".to_owned())
            } else {
                (kind(root, property, &target), shown(&default))
            };
            let _ = writeln!(
                text,
                "| `{key}` | {kind} | {default} | {} |",
                about.replace('\n', " ").replace('|', "\\|")
            );
        }
    }
}

fn description(schema: &Value) -> Option<String> {
    schema
        .get("description")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn kind(root: &Value, property: &Value, target: &Value) -> String {
    let choices = choices(target);
    if !choices.is_empty() {
        let quoted: Vec<String> = choices.iter().map(|word| format!("`{word}`")).collect();
        return quoted.join(", ");
    }
    if let Some(items) = target.get("items") {
        return format!("list of {}", kind(root, items, &resolve(root, items)));
    }
    let named = property.get("type").or_else(|| target.get("type"));
    match named {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "any".to_owned(),
    }
}

fn shown(default: &Value) -> String {
    match default {
        Value::Null => String::new(),
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    /// The defaults of the program's own listeners are not those of one that is written down.
    #[test]
    fn what_must_be_said_has_no_default() {
        let text = super::markdown();
        let section = |name: &str| {
            let (_, section) = text.split_once(&format!("## `[[{name}]]`\n")).unwrap();
            section.split("\n## ").next().unwrap().to_owned()
        };
        for name in ["listeners", "mqttsn"] {
            assert!(section(name).contains("| `name` | string | required |"), "{name}");
        }
        assert!(section("listeners").contains("| `bind` | string | required |"));
        assert!(
            section("mqttsn").contains("| `bind` | string |  |"),
            "{}",
            section("mqttsn")
        );
        assert!(
            section("auth.acl").contains("| `topics` | list of string |  |"),
            "{}",
            section("auth.acl")
        );
    }

    /// `make docs` writes the file.
    #[test]
    fn the_reference_in_docs_is_the_programs() {
        let written = include_str!("../../../../docs/configuration.md");
        assert_eq!(
            written.trim_end(),
            super::markdown().trim_end(),
            "run `make docs`"
        );
    }
}
