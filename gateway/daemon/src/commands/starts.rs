//! `headgate starts`: why the machine, or the gateway alone, was started.

use super::gateway::Gateway;
use super::table::{columns, date, text};
use clap::Args;
use headgate_cli::Outcome;
use hyper::Method;

/// Show why the machine of a running gateway, or the gateway alone, was started, the newest start first.
#[derive(Args)]
pub struct StartsCommand {
    #[command(flatten)]
    gateway: Gateway,
}

impl StartsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let starts = self.gateway.ask(Method::GET, "/api/v1/system/starts", None)?;
        self.gateway.answer(&starts, |starts| {
            let rows = starts["rows"].as_array().cloned().unwrap_or_default();
            let rows = rows.iter().map(|start| {
                [
                    date(&start["at"]).unwrap_or_default(),
                    text(&start["what"]),
                    words(start["why"].as_str().unwrap_or_default()).to_owned(),
                    text(&start["version"]),
                ]
            });
            columns(["STARTED", "WHAT", "WHY", "VERSION"], rows)
        });
        Ok(())
    }
}

/// What a reason means.
fn words(why: &str) -> &str {
    match why {
        "first" => "the first start with these data",
        "reboot" => "an operator had the machine started anew",
        "update" => "a new system was installed",
        "other_slot" => "an operator wanted the other slot",
        "fall_back" => "the system was not good",
        "recovery" => "no uplink was connected for long",
        "restart" => "an operator had the gateway begin anew",
        "stopped" => "it was stopped in order",
        "watchdog" => "the system hung: the hardware watchdog reset the machine",
        "overheated" => "the machine was too hot",
        "undervoltage" => "the power was too low",
        "lost" => "nobody knows: a power cut, a crash, or it was killed",
        other => other,
    }
}
