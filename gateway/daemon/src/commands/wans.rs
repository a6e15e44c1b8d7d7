//! `headgate wans`: ways out of the gateway's own networks, and which of them work.

use super::gateway::Gateway;
use super::table::{columns, text};
use clap::Args;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::Value;

/// Show the ways out for bridges of a running gateway, in their order, and which of them work.
#[derive(Args)]
pub struct WansCommand {
    #[command(flatten)]
    gateway: Gateway,
}

impl WansCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let wans = self.gateway.ask(Method::GET, "/api/v1/wans", None)?;
        self.gateway.answer(&wans, table);
        Ok(())
    }
}

fn table(wans: &Value) -> String {
    let rows = wans["rows"].as_array().cloned().unwrap_or_default();
    if rows.is_empty() {
        return "no WANs: the system chooses the way out (`wans` in the configuration)".to_owned();
    }
    let rows = rows.iter().map(|wan| {
        let is_active = wan["active"].as_bool() == Some(true);
        let state = match wan["trusted_in_seconds"].as_u64() {
            Some(left) => format!("{}, {left} s left", text(&wan["state"])),
            None => text(&wan["state"]),
        };
        let round_trip = wan["round_trip_ms"].as_f64().map(|ms| format!("{ms} ms"));
        [
            text(&wan["name"]),
            text(&wan["interface"]),
            if is_active { "yes" } else { "" }.to_owned(),
            state,
            round_trip.unwrap_or_default(),
            text(&wan["last_error"]),
        ]
    });
    columns(
        [
            "WAN",
            "INTERFACE",
            "WAY OUT",
            "STATE",
            "ANSWERED IN",
            "LAST ERROR",
        ],
        rows,
    )
}
