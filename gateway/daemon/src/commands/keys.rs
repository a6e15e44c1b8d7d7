//! `headgate keys`: API keys of a running gateway.

use super::administrators::RoleName;
use super::gateway::Gateway;
use super::table::{columns, date, raw, text};
use crate::bridges::escape;
use clap::{Args, Subcommand};
use headgate_admin::Role;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/api/v1/keys";

/// Show, make and remove API keys, by which programs use the HTTP API.
#[derive(Args)]
pub struct KeysCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show all API keys.
    List,
    /// Make an API key. Its secret is shown this once.
    Add {
        /// What it is for.
        name: String,
        /// What it may do.
        #[arg(long, value_enum, default_value_t = RoleName::Viewer)]
        role: RoleName,
        /// How long it is good: `30days`. Default: until it is removed.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
    },
    /// Remove an API key.
    Remove {
        /// Its id.
        id: String,
    },
}

impl KeysCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let gateway = &self.gateway;
        match self.action.unwrap_or(Action::List) {
            Action::List => {
                let keys = gateway.ask(Method::GET, PATH, None)?;
                gateway.answer(&keys, table);
            }
            Action::Add { name, role, lasts } => {
                let seconds = lasts.map(|lasts| lasts.as_secs());
                let wanted = json!({ "name": name, "role": Role::from(role), "expires_in_seconds": seconds });
                let made = gateway.ask(Method::POST, PATH, Some(wanted))?;
                gateway.answer(&made, |made| {
                    format!(
                        "id      {}\nsecret  {}\nThe secret is not shown again.",
                        raw(&made["id"]),
                        raw(&made["secret"])
                    )
                });
            }
            Action::Remove { id } => {
                let done = gateway.ask(Method::DELETE, &format!("{PATH}/{}", escape(&id)), None)?;
                gateway.answer(&done, |_| format!("removed {id}"));
            }
        }
        Ok(())
    }
}

fn table(keys: &Value) -> String {
    let keys = keys["rows"].as_array().cloned().unwrap_or_default();
    if keys.is_empty() {
        return "there are no API keys".to_owned();
    }
    let rows = keys.iter().map(|key| {
        [
            text(&key["id"]),
            text(&key["name"]),
            text(&key["role"]),
            date(&key["expires"]).unwrap_or_else(|| "never".to_owned()),
            date(&key["last_used"]).unwrap_or_default(),
        ]
    });
    columns(["ID", "NAME", "ROLE", "ENDS", "LAST USED"], rows)
}
