//! `headgate reload` and `headgate config …`: the configuration of a running gateway, and those before it.

use super::error::CommandError;
use super::gateway::Gateway;
use super::table::{columns, date, raw, text, visible};
use crate::config::{Config, at_most, environment_variables};
use clap::{Args, Subcommand};
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATH: &str = "/api/v1/configuration";

/// Let a running gateway read its configuration again. Nobody is disconnected but clients of a listener that is gone or listens elsewhere; what needs a
/// restart is listed.
#[derive(Args)]
pub struct ReloadCommand {
    #[command(flatten)]
    gateway: Gateway,
}

/// The configuration of a running gateway: show it, change it, go back.
#[derive(Args)]
pub struct ConfigCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show the configuration that is valid, as it was written, or an earlier one.
    Show {
        /// The number of an earlier one, as in the history.
        number: Option<u64>,
    },
    /// Show what a file, or an earlier configuration, would change, and what of it would need a restart. Nothing is changed.
    Diff {
        /// The file; `-` for standard input. Or the number of an earlier configuration, as in the history; a file of such a name is `./3`.
        #[arg(value_name = "FILE|NUMBER")]
        file: PathBuf,
    },
    /// Make a file the configuration: it replaces the gateway's own file, and is valid at once. One that is faulty changes nothing.
    Apply {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// Go back after this time unless `headgate config confirm` is called: for changes that may cut you off. Also a restart before that goes back.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        confirm: Option<Duration>,
    },
    /// Let the configuration that was applied with `--confirm` stay.
    Confirm,
    /// Go back to an earlier configuration; without a number to the one before.
    Rollback {
        /// Its number, as in the history.
        number: Option<u64>,
    },
    /// List the configurations that were valid, the latest first.
    History,
}

impl ReloadCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        // What cannot be need not be asked for.
        Config::load(self.gateway.config(), environment_variables())?;
        let applied = self.gateway.ask(Method::POST, "/api/v1/reload", None)?;
        self.gateway
            .answer(&applied, |applied| words(applied, Mood::Done));
        Ok(())
    }
}

impl ConfigCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let gateway = &self.gateway;
        let post = |what: &str, body| gateway.ask(Method::POST, &format!("{PATH}/{what}"), Some(body));
        match self.action {
            Action::Show { number } => {
                let path = number.map_or(PATH.to_owned(), |number| format!("{PATH}/history/{number}"));
                let shown = gateway.ask(Method::GET, &path, None)?;
                gateway.answer_text(&shown, |shown| raw(&shown["toml"]));
            }
            Action::Diff { file } => {
                let other = match number(&file) {
                    Some(number) => {
                        let earlier = gateway.ask(Method::GET, &format!("{PATH}/history/{number}"), None)?;
                        json!({ "toml": earlier["toml"], "name": format!("configuration {number}") })
                    }
                    None => given(&file)?,
                };
                let preview = post("preview", other)?;
                gateway.answer(&preview, |preview| words(preview, Mood::Would));
            }
            Action::Apply { file, confirm } => {
                let mut body = given(&file)?;
                body["confirm_seconds"] = confirm.map_or(Value::Null, |time| time.as_secs().max(1).into());
                let applied = post("apply", body)?;
                gateway.answer(&applied, |applied| words(applied, Mood::Done));
            }
            Action::Confirm => {
                let confirmed = post("confirm", json!({}))?;
                gateway.answer(&confirmed, |_| "the configuration stays".to_owned());
            }
            Action::Rollback { number } => {
                let applied = post("rollback", json!({ "number": number }))?;
                gateway.answer(&applied, |applied| words(applied, Mood::Done));
            }
            Action::History => {
                let history = gateway.ask(Method::GET, &format!("{PATH}/history"), None)?;
                gateway.answer(&history, table);
            }
        }
        Ok(())
    }
}

/// The number that was given instead of a file.
fn number(file: &Path) -> Option<u64> {
    let text = file.to_str()?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A file as the gateway is given it.
fn given(file: &Path) -> Result<Value, CommandError> {
    if file == Path::new("-") {
        let mut toml = String::new();
        std::io::stdin().read_to_string(&mut toml)?;
        return Ok(json!({ "toml": toml }));
    }
    let toml = std::fs::read_to_string(file).map_err(|cause| CommandError::File {
        path: file.to_owned(),
        cause,
    })?;
    Ok(json!({ "toml": toml, "name": file }))
}

/// What is told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Done,
    Would,
}

/// What came of a configuration, or would.
fn words(applied: &Value, mood: Mood) -> String {
    let of = |key: &str| applied[key].as_array().cloned().unwrap_or_default();
    let changes: Vec<String> = of("changes").iter().map(text).collect();
    let mut lines = at_most(&changes);
    for (kind, key) in [("listener", "listeners"), ("bridge", "bridges")] {
        let named = applied[key].as_object().into_iter().flatten();
        let changed = named.filter(|(_, change)| *change != "unchanged");
        lines.extend(changed.map(|(name, change)| format!("{kind} {}: {}", visible(name), text(change))));
    }
    if applied["rules"] == true {
        lines.push("rules: changed".to_owned());
    }
    let is_move = |change: &String| change.starts_with("store.durability: ") && change.contains("\"memory\"");
    if changes.iter().any(is_move) {
        let way = match mood {
            Mood::Done => "the store goes there, unless it is there: `headgate status` says where it is",
            Mood::Would => "the store would go there, if it is not there",
        };
        lines.push(way.to_owned());
    }
    if changes.iter().any(|change| change.starts_with("data_dir: ")) {
        let way = match mood {
            Mood::Done => "the data go there, unless they are there: `headgate status` says where they are",
            Mood::Would => "the data would go there, if they are not there",
        };
        lines.push(way.to_owned());
    }
    lines.extend(
        of("warnings")
            .iter()
            .map(|warning| format!("warning: {}", told(warning))),
    );
    if let Some(replaced) = applied["replaced"].as_str() {
        lines.push(format!(
            "the gateway's file had changes that were never taken: they are kept in {}",
            visible(replaced)
        ));
    }
    if let Some(until) = date(&applied["confirm_until"]) {
        lines.push(format!(
            "goes back by itself at {until}: `headgate config confirm` lets it stay"
        ));
    }
    match lines.is_empty() {
        true if mood == Mood::Would => "nothing would change".to_owned(),
        true => "nothing has changed".to_owned(),
        false => lines.join("\n"),
    }
}

/// A warning of the configuration.
fn told(warning: &Value) -> String {
    let place = match &warning["variable"] {
        Value::String(name) => format!("environment variable {name}"),
        _ => [&warning["file"], &warning["line"]].map(text).join(":"),
    };
    format!("{place}: {}", text(&warning["message"]))
}

fn table(history: &Value) -> String {
    let entries = history["configurations"].as_array().cloned().unwrap_or_default();
    if entries.is_empty() {
        return "there is no history: the gateway runs without a configuration".to_owned();
    }
    let rows = entries.iter().rev().map(|entry| {
        let changes = entry["changes"].as_array().cloned().unwrap_or_default();
        let changes: Vec<String> = changes.iter().map(text).collect();
        let more = changes.len().saturating_sub(1);
        let first = changes.first().cloned().unwrap_or_default();
        [
            text(&entry["number"]),
            date(&entry["at"]).unwrap_or_default(),
            text(&entry["by"]).replace('_', " "),
            match more {
                0 => first,
                // What going back by itself has changed.
                1 if first.starts_with("back to ") => format!("{first}: {}", changes[1]),
                1 => format!("{first}, and one more change"),
                more => format!("{first}, and {more} more changes"),
            },
        ]
    });
    let list = columns(["NUMBER", "SINCE", "BY", "WHAT CHANGED"], rows);
    match date(&history["confirm_until"]) {
        Some(until) => format!(
            "{list}\nthe last one goes back by itself at {until}: `headgate config confirm` lets it stay"
        ),
        None => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_configuration_is_told() {
        let told = words(
            &json!({
                "changes": ["mqtt.max_qos: 2 → 1"],
                "listeners": { "tcp": "moved" },
                "bridges": { "up": "unchanged", "down": "added" },
                "rules": true,
                "warnings": [],
            }),
            Mood::Done,
        );
        let lines: Vec<&str> = told.lines().collect();
        let expected = [
            "mqtt.max_qos: 2 → 1",
            "listener tcp: moved",
            "bridge down: added",
            "rules: changed",
        ];
        assert_eq!(lines, expected);
        for (change, done, would) in [
            (
                "store.durability: \"memory\" → \"power-loss\"",
                "the store goes there",
                "the store would go there",
            ),
            (
                "data_dir: \"a\" → \"b\"",
                "the data go there",
                "the data would go there",
            ),
        ] {
            let changes = json!({ "changes": [change] });
            let (told, preview) = (words(&changes, Mood::Done), words(&changes, Mood::Would));
            assert!(
                told.contains(done) && preview.contains(would),
                "{told}; {preview}"
            );
        }
        let nothing = json!({ "changes": [], "bridges": { "up": "unchanged" } });
        assert_eq!(words(&nothing, Mood::Done), "nothing has changed");
        assert_eq!(words(&nothing, Mood::Would), "nothing would change");
    }
}
