//! `headgate check`: would a gateway start with this configuration, what is wrong with it, and what may it hold?

use super::reference;
use crate::config::{Config, Startable, Told, environment_variables, unread_here};
use clap::Args;
use headgate_cli::{Outcome, say, say_json, say_text};
use serde_json::json;
use std::path::PathBuf;

/// Check a configuration, or show what one may hold. Tells all faults for which the gateway would not start, each with its line; changes nothing.
#[derive(Args)]
pub struct Check {
    /// The configuration to check; without it the embedded defaults are.
    #[arg(long, value_name = "FILE", env = "HEADGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Print the configuration in force, environment included.
    #[arg(long)]
    print: bool,
    /// Print the JSON schema of the configuration.
    #[arg(long, conflicts_with_all = ["print", "reference"])]
    schema: bool,
    /// Print the reference of all settings, as Markdown.
    #[arg(long, conflicts_with = "print")]
    reference: bool,
    /// Answer in JSON: `configuration`, `ok`, `faults` and `warnings`, each with file, line, key and message.
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        if self.schema {
            say_json(serde_json::to_string_pretty(&Config::schema())?);
            return Ok(());
        }
        if self.reference {
            say_text(reference::markdown().trim_end());
            return Ok(());
        }
        let loaded = Config::load_to_start(self.config.as_deref(), environment_variables());
        match loaded {
            Ok(loaded) => self.answer(&loaded),
            Err(error) if self.json && !self.print => {
                let (faults, warnings) = error.told();
                say_json(self.report(&faults, &warnings));
                Err("the configuration cannot be used".into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// That it is good, and what is.
    fn verdict(&self) -> String {
        if self.config.is_some() {
            return "The configuration is good.".to_owned();
        }
        let good = "The embedded defaults are good: neither --config nor HEADGATE_CONFIG names a file";
        match unread_here() {
            Some(unread) => format!("{good}; {unread}."),
            None => format!("{good}."),
        }
    }

    fn answer(&self, loaded: &Startable) -> Outcome {
        match (self.print, self.json) {
            (true, true) => say_json(serde_json::to_string_pretty(&loaded.config)?),
            (true, false) => say_text(toml::to_string(&loaded.config)?.trim_end()),
            (false, true) => say_json(self.report(&[], &loaded.warnings)),
            (false, false) => {
                for warning in &loaded.warnings {
                    say(format!("warning: {warning}"));
                }
                say(self.verdict());
            }
        }
        Ok(())
    }

    /// `configuration`, which is `null` for the embedded defaults, `ok`, and `faults` and `warnings` with `file`, `line` and `column` (or `variable`), `key`
    /// and `message` each.
    fn report(&self, faults: &[Told], warnings: &[Told]) -> serde_json::Value {
        json!({ "configuration": self.config, "ok": faults.is_empty(), "faults": faults, "warnings": warnings })
    }
}
