//! `headgate bans`: who is kept out of a running gateway.

use super::error::CommandError;
use super::gateway::Gateway;
use super::table::{columns, date, visible};
use clap::{Args, Subcommand};
use headgate_access::Network;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/api/v1/bans";

/// Show, add and remove bans.
#[derive(Args)]
pub struct BansCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show all bans, also those that came by themselves (`auth.bans`).
    List,
    /// Keep somebody out, and throw out who is connected.
    Add {
        #[command(flatten)]
        who: Who,
        /// How long: `1h`, `7days`. Default: for ever.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
        /// Why, for the list and the log.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Let somebody in again.
    Remove {
        #[command(flatten)]
        who: Who,
    },
}

/// One of them.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// Who has this client id.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Who goes by this user name.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Who comes from this address or network, such as 10.0.0.0/8.
    #[arg(long, value_name = "NETWORK")]
    address: Option<Network>,
}

impl Who {
    fn to_json(&self) -> Value {
        match (&self.client, &self.user, &self.address) {
            (Some(id), ..) => json!({ "client": id }),
            (_, Some(name), _) => json!({ "user": name }),
            (_, _, address) => json!({ "address": address }),
        }
    }
}

impl BansCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let gateway = &self.gateway;
        match self.action.unwrap_or(Action::List) {
            Action::List => {
                let bans = gateway.ask(Method::GET, PATH, None)?;
                gateway.answer(&bans, table);
            }
            Action::Add { who, lasts, reason } => {
                let mut wanted = who.to_json();
                wanted["reason"] = reason.into();
                wanted["seconds"] = lasts.map_or(Value::Null, |lasts| lasts.as_secs().into());
                let done = gateway.ask(Method::POST, PATH, Some(wanted))?;
                gateway.answer(&done, |done| {
                    format!("banned {}, threw {} out", subject(&done["ban"]), done["kicked"])
                });
            }
            Action::Remove { who } => {
                let wanted = who.to_json();
                let done = gateway.ask(Method::DELETE, PATH, Some(wanted.clone()))?;
                if done["was_banned"] != true {
                    return Err(CommandError::NotBanned(subject(&wanted)).into());
                }
                gateway.answer(&done, |_| format!("{} may come in again", subject(&wanted)));
            }
        }
        Ok(())
    }
}

/// `client pump-7`.
pub(super) fn subject(ban: &Value) -> String {
    let kinds = ["client", "user", "address"].into_iter();
    let mut named = kinds.filter_map(|kind| Some(format!("{kind} {}", visible(ban[kind].as_str()?))));
    named.next().unwrap_or_default()
}

fn table(bans: &Value) -> String {
    let Some(bans) = bans.as_array().filter(|bans| !bans.is_empty()) else {
        return "nobody is banned".to_owned();
    };
    let time = |seconds: &Value| date(seconds).unwrap_or_else(|| "for ever".to_owned());
    let rows = bans.iter().map(|ban| {
        [
            subject(ban),
            ban["by"].as_str().unwrap_or_default().to_owned(),
            time(&ban["since"]),
            time(&ban["until"]),
            ban["reason"].as_str().unwrap_or_default().to_owned(),
        ]
    });
    let head = ["WHO", "BY", "SINCE", "UNTIL", "REASON"];
    columns(head, rows)
}
