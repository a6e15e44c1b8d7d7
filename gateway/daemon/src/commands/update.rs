//! `headgate update`: the system that a running gateway runs on.

use super::error::CommandError;
use super::gateway::Gateway;
use super::table::{columns, date, text, visible};
use clap::{Args, Subcommand, ValueEnum};
use headgate_cli::{Outcome, note};
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/api/v1/firmware";
/// How often it is asked how far an installation is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Updates of the system that a running gateway runs on: show, check, install, go back.
#[derive(Args)]
pub struct UpdateCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show which systems there are, which one runs, and whether it is good.
    Status,
    /// Verify a bundle's signature and show what it is.
    Check {
        /// A file that the gateway can read, or an address; left out, the one that was uploaded.
        bundle: Option<String>,
    },
    /// Install a bundle into the slot that does not run, and wait for it. The next start of the machine takes it.
    Install {
        /// A file that the gateway can read, or an address; left out, the one that was uploaded.
        bundle: Option<String>,
        /// Start the machine anew when it is installed.
        #[arg(long)]
        reboot: bool,
    },
    /// Say of the system that runs that it is good, or is not; the boot loader goes by it.
    Mark {
        /// Which.
        state: Mark,
    },
    /// Start the machine anew with the system of the other slot.
    BootOther,
    /// Start the machine anew.
    Reboot,
    /// Wipe all data (sessions, messages, users, certificates, configuration), and start the machine anew as from the factory.
    FactoryReset {
        /// The name of the gateway, so that no other is meant.
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Mark {
    Good,
    Bad,
}

impl UpdateCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let gateway = &self.gateway;
        let done = |path: &str, body, words: &str| -> Outcome {
            let done = gateway.ask(Method::POST, path, Some(body))?;
            gateway.answer(&done, |_| words.to_owned());
            Ok(())
        };
        match self.action.unwrap_or(Action::Status) {
            Action::Status => {
                let status = gateway.ask(Method::GET, PATH, None)?;
                gateway.answer(&status, words);
            }
            Action::Check { bundle } => {
                let wanted = json!({ "bundle": place(bundle)? });
                let info = gateway.ask(Method::POST, &format!("{PATH}/check"), Some(wanted))?;
                gateway.answer(&info, |info| {
                    let (version, board) = (text(&info["version"]), text(&info["compatible"]));
                    let notes = info["description"]
                        .as_str()
                        .map_or_else(String::new, |notes| format!("\n{}", visible(notes)));
                    format!("version {version} for {board}; its signature is good{notes}")
                });
            }
            Action::Install { bundle, reboot } => install(gateway, bundle, reboot)?,
            Action::Mark { state: Mark::Good } => {
                done(&format!("{PATH}/mark"), json!({ "good": true }), "marked good")?;
            }
            Action::Mark { state: Mark::Bad } => {
                let words = "marked bad: the next start takes the other slot";
                done(&format!("{PATH}/mark"), json!({ "good": false }), words)?;
            }
            Action::BootOther => done(
                &format!("{PATH}/boot-other"),
                json!({}),
                "the machine starts anew with the system of the other slot",
            )?,
            Action::FactoryReset { confirm } => done(
                "/api/v1/factory-reset",
                json!({ "confirm": confirm }),
                "all data is wiped, and the machine starts anew as from the factory",
            )?,
            Action::Reboot => done("/api/v1/reboot", json!({}), "the machine starts anew")?,
        }
        Ok(())
    }
}

fn install(gateway: &Gateway, bundle: Option<String>, reboot: bool) -> Result<(), CommandError> {
    let wanted = json!({ "bundle": place(bundle)?, "reboot": reboot });
    gateway.ask(Method::POST, &format!("{PATH}/install"), Some(wanted))?;
    let mut told = String::new();
    loop {
        std::thread::sleep(LOOK_EVERY);
        let status = gateway.ask(Method::GET, PATH, None)?;
        let now = &status["installation"];
        let step = format!(
            "{:3} % {}",
            now["percent"].as_u64().unwrap_or(0),
            text(&now["step"])
        );
        if step != told {
            note(&step);
            told = step;
        }
        if now["ended"] != true {
            continue;
        }
        if let Some(error) = now["error"].as_str() {
            return Err(CommandError::NotInstalled(visible(error)));
        }
        gateway.answer(now, |_| match reboot {
            true => "installed; the machine starts anew".to_owned(),
            false => "installed; the next start of the machine takes it: `headgate update reboot`".to_owned(),
        });
        return Ok(());
    }
}

/// A path as the gateway has it, which has another working folder.
fn place(bundle: Option<String>) -> Result<Option<String>, CommandError> {
    match bundle {
        Some(file) if !file.contains("://") => {
            let path = std::path::absolute(&file)?;
            Ok(Some(path.display().to_string()))
        }
        other => Ok(other),
    }
}

fn words(status: &Value) -> String {
    if status["available"] != true {
        return text(&status["why_not"]);
    }
    let slots = status["slots"].as_array().cloned().unwrap_or_default();
    let rows = slots.iter().map(|slot| {
        let yes = |name: &str, word: &str| match slot[name] == true {
            true => word.to_owned(),
            false => String::new(),
        };
        [
            text(&slot["boot_name"]),
            yes("booted", "runs"),
            yes("first", "next"),
            if slot["good"] == true {
                "good".into()
            } else {
                "bad".into()
            },
            slot["version"].as_str().map_or_else(|| "factory".into(), visible),
            text(&slot["installed"]),
        ]
    });
    let mut said = columns(["SLOT", "RUNS", "NEXT", "STATE", "VERSION", "INSTALLED"], rows);
    let list = |value: &Value| {
        let all = value.as_array().cloned().unwrap_or_default();
        all.iter().map(text).collect::<Vec<_>>().join("; ")
    };
    said += &format!(
        "\nboard: {}\nthis system: {}",
        text(&status["compatible"]),
        text(&status["state"])
    );
    let missing = list(&status["missing"]);
    if !missing.is_empty() {
        said += &format!(" ({missing})");
    }
    if status["commands"].is_string() {
        said += &format!("\ncommands by the bus: {}", text(&status["commands"]));
    }
    if let Some(fell) = status["fell_back"].as_object() {
        let (slot, why) = (text(&fell["slot"]), list(&fell["missing"]));
        said += &format!(
            "\nfell back from slot {slot} ({}) at {}: {why}",
            text(&fell["version"]),
            date(&fell["at"]).unwrap_or_default()
        );
    }
    said
}
