//! `headgate backups`: backups that a running gateway keeps in its data folder.

use super::archive::passphrase_of;
use super::error::CommandError;
use super::gateway::Gateway;
use super::table::{columns, date, text, visible};
use crate::bridges::escape;
use clap::{Args, Subcommand};
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const PATH: &str = "/api/v1/backups";

/// Show backups on a running gateway, make one, take one back.
#[derive(Args)]
pub struct BackupsCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show all backups, the newest first.
    List,
    /// Make one: an archive as of `headgate export`, in the folder `backups` of the data folder.
    Make {
        /// Encrypt it by the passphrase in the first line of this file.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Remove one.
    Delete {
        /// Its name.
        name: String,
    },
    /// Make one ready for the next start of the gateway, which puts it in the place of all data. Nothing changes before.
    Restore {
        /// Its name.
        name: String,
        /// What it is encrypted by: the first line of this file.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Leave the configuration as it is.
        #[arg(long)]
        keep_configuration: bool,
    },
    /// Let nothing come of one that waits for the next start.
    Withdraw {
        /// Its name.
        name: String,
    },
}

impl BackupsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let gateway = &self.gateway;
        match self.action.unwrap_or(Action::List) {
            Action::List => {
                let backups = gateway.ask(Method::GET, PATH, None)?;
                gateway.answer(&backups, table);
            }
            Action::Make { passphrase_file } => {
                let wanted = json!({ "passphrase": passphrase(passphrase_file.as_deref())? });
                let made = gateway.ask(Method::POST, PATH, Some(wanted))?;
                gateway.answer(&made, |made| {
                    format!("made {} ({} bytes)", text(&made["name"]), made["bytes"])
                });
            }
            Action::Delete { name } => {
                let done = gateway.ask(Method::DELETE, &path(&name), None)?;
                gateway.answer(&done, |_| format!("removed {}", visible(&name)));
            }
            Action::Restore {
                name,
                passphrase_file,
                keep_configuration,
            } => {
                let wanted = json!({
                    "passphrase": passphrase(passphrase_file.as_deref())?,
                    "configuration": !keep_configuration,
                });
                let path = format!("{}/restore", path(&name));
                let ready = gateway.ask(Method::POST, &path, Some(wanted))?;
                gateway.answer(&ready, told);
            }
            Action::Withdraw { name } => {
                let done = gateway.ask(Method::DELETE, &format!("{}/restore", path(&name)), None)?;
                gateway.answer(&done, |done| match done["waited"] == true {
                    true => "the next start takes no backup".to_owned(),
                    false => "no backup waited for the next start".to_owned(),
                });
            }
        }
        Ok(())
    }
}

fn path(name: &str) -> String {
    format!("{PATH}/{}", escape(name))
}

fn passphrase(file: Option<&Path>) -> Result<Option<String>, CommandError> {
    Ok(passphrase_of(file)?.map(|passphrase| passphrase.reveal().to_owned()))
}

fn told(ready: &Value) -> String {
    let replaces = ready["replaces"].as_array().into_iter().flatten();
    let replaces: Vec<String> = replaces.map(text).collect();
    let store = &ready["store"];
    let configuration = match &ready["configuration"] {
        Value::Null => "the configuration stays".to_owned(),
        file => format!("its configuration takes the place of {}", text(file)),
    };
    format!(
        "the next start takes it: of {}, headgate {}, {}\n{} sessions, {} messages that wait, {} retained messages, {} users; {configuration}\nwill be put aside: {}",
        text(&ready["node"]),
        text(&ready["gateway"]),
        date(&ready["made_at"]).unwrap_or_default(),
        store["sessions"].as_u64().unwrap_or(0),
        store["queued"].as_u64().unwrap_or(0),
        store["retained"].as_u64().unwrap_or(0),
        ready["users"],
        replaces.join(", ")
    )
}

fn table(backups: &Value) -> String {
    let Some(backups) = backups["rows"].as_array().filter(|rows| !rows.is_empty()) else {
        return "there are no backups".to_owned();
    };
    let rows = backups.iter().map(|backup| {
        let word = |key: &str, word: &str| {
            if backup[key] == true {
                word.to_owned()
            } else {
                String::new()
            }
        };
        [
            text(&backup["name"]),
            text(&backup["bytes"]),
            date(&backup["made_at"]).unwrap_or_default(),
            [word("encrypted", "encrypted"), word("waits", "waits")]
                .join(" ")
                .trim()
                .to_owned(),
        ]
    });
    columns(["NAME", "BYTES", "MADE", "STATE"], rows)
}
