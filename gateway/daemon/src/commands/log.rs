//! `headgate log`: the last lines of a running gateway, those that come, and its level.

use super::gateway::Gateway;
use super::table::{columns, date, text};
use crate::log::MODULES;
use clap::{Args, Subcommand};
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const LEVEL: &str = "/api/v1/log/level";

/// Show the last lines of the log, and set its level.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LogCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// How many of the last lines.
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
    /// Show also those that come, until interrupted.
    #[arg(long, short)]
    follow: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show the level and where lines go, or set the level: `debug`, `info,headgate_shell=debug`; `default` is the configured one.
    Level {
        /// The level.
        level: Option<String>,
        /// How long: `10m`. Default: until the next restart.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, requires = "level")]
        lasts: Option<Duration>,
    },
    /// List the modules whose level may be set by itself, and what they tell of. No gateway has to run.
    Modules,
}

impl LogCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let gateway = &self.gateway;
        let (level, lasts) = match self.action {
            Some(Action::Level { level, lasts }) => (level, lasts),
            Some(Action::Modules) => {
                let modules = MODULES.map(|(module, tells)| json!({ "module": module, "tells": tells }));
                gateway.answer(&modules.as_slice().into(), |_| {
                    columns(
                        ["MODULE", "TELLS OF"],
                        MODULES
                            .map(|row| <[&str; 2]>::from(row).map(str::to_owned))
                            .into_iter(),
                    )
                });
                return Ok(());
            }
            None => return self.lines(),
        };
        let shown = match level.as_deref() {
            None => gateway.ask(Method::GET, LEVEL, None)?,
            Some("default") => gateway.ask(Method::DELETE, LEVEL, None)?,
            Some(level) => {
                let seconds = lasts.map(|lasts| lasts.as_secs());
                let wanted = json!({ "level": level, "seconds": seconds });
                gateway.ask(Method::PUT, LEVEL, Some(wanted))?
            }
        };
        gateway.answer(&shown, level_told);
        Ok(())
    }

    /// Shows lines.
    fn lines(&self) -> Outcome {
        let gateway = &self.gateway;
        let path = format!("/api/v1/log?last={}&follow={}", self.last, self.follow);
        let mut each = |line: Value| gateway.answer(&line, written);
        match self.follow {
            true => gateway.follow(&path, &mut each)?,
            false => gateway.lines(&path, &mut each)?,
        }
        Ok(())
    }
}

/// As it would stand in the log of a gateway with `log.format = "text"`.
fn written(line: &Value) -> String {
    let fields = line["fields"].as_object().into_iter().flatten();
    let mut message = text(&line["fields"]["message"]);
    for (name, value) in fields.filter(|(name, _)| *name != "message") {
        // A text within quotes: a name cannot look like another value.
        message.push_str(&format!(" {name}={value}"));
    }
    let (time, level, target) = (&line["timestamp"], &line["level"], &line["target"]);
    format!("{} {:>5} {}: {message}", text(time), text(level), text(target))
}

fn level_told(shown: &Value) -> String {
    let level = text(&shown["level"]);
    let told = match date(&shown["until"]) {
        Some(until) => format!("level {level} until {until}, then {}", text(&shown["configured"])),
        None if shown["level"] == shown["configured"] => format!("level {level}, as configured"),
        None => format!(
            "level {level} until the next restart, then {}",
            text(&shown["configured"])
        ),
    };
    let rows = shown["destinations"].as_array().into_iter().flatten();
    let rows = rows.map(|destination| {
        [
            text(&destination["name"]),
            text(&destination["lost"]),
            text(&destination["failing"]),
        ]
    });
    let table = columns(["DESTINATION", "LOST", "FAILS BECAUSE"], rows);
    format!("{told}\n{table}")
}
