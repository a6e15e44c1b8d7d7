//! `headgate check`: is this configuration good, and what may it hold?

use super::{Outcome, reference, say};
use crate::config::Config;
use clap::Args;
use std::path::PathBuf;

/// Check a configuration, or show what one may hold.
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
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        if self.schema {
            say(serde_json::to_string_pretty(&Config::schema())?);
            return Ok(());
        }
        if self.reference {
            say(reference::markdown().trim_end());
            return Ok(());
        }
        match (Config::load(self.config.as_deref(), std::env::vars()), self.json) {
            (Ok(config), true) if self.print => say(serde_json::to_string_pretty(&config)?),
            (Ok(config), false) if self.print => say(toml::to_string(&config)?.trim_end()),
            (Ok(_), true) => say(serde_json::json!({ "ok": true })),
            (Ok(_), false) => say("The configuration is good."),
            (Err(error), true) => {
                say(serde_json::json!({ "ok": false, "error": error.to_string() }));
                return Err(error.into());
            }
            (Err(error), false) => return Err(error.into()),
        }
        Ok(())
    }
}
