//! `headgate alarms`: what needs an operator.

use super::gateway::Gateway;
use super::table::{columns, date, text};
use clap::Args;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::Value;

/// Show what needs an operator now.
#[derive(Args)]
pub struct AlarmsCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// Show also those that are over, the latest first.
    #[arg(long)]
    history: bool,
}

impl AlarmsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let mut alarms = self.gateway.ask(Method::GET, "/api/v1/alarms", None)?;
        if !self.history
            && let Some(lists) = alarms.as_object_mut()
        {
            lists.remove("history");
        }
        self.gateway.answer(&alarms, table);
        Ok(())
    }
}

fn table(alarms: &Value) -> String {
    let lists = ["active", "history"].map(|list| alarms[list].as_array().cloned().unwrap_or_default());
    let rows: Vec<Value> = lists.concat();
    if rows.is_empty() {
        return "no alarms".to_owned();
    }
    let rows = rows.iter().map(|alarm| {
        [
            text(&alarm["id"]),
            text(&alarm["severity"]),
            date(&alarm["raised"]).unwrap_or_default(),
            date(&alarm["cleared"]).unwrap_or_else(|| "stands".to_owned()),
            text(&alarm["summary"]),
        ]
    });
    columns(["ALARM", "SEVERITY", "RAISED", "OVER", "WHAT"], rows)
}
