//! `headgate audit`: who changed what.

use super::gateway::Gateway;
use super::table::{columns, date, text};
use clap::Args;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};

/// Show who changed what at a running gateway, the latest first.
#[derive(Args)]
pub struct AuditCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// Rows at most.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

impl AuditCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let mut rows = Vec::new();
        let mut after = None;
        while rows.len() < self.limit {
            let left = (self.limit - rows.len()).min(1_000);
            let after_word = after.map_or_else(String::new, |after: u64| format!("&after={after}"));
            let path = format!("/api/v1/audit?limit={left}{after_word}");
            let page = self.gateway.ask(Method::GET, &path, None)?;
            rows.extend(page["rows"].as_array().cloned().unwrap_or_default());
            after = page["next"].as_u64();
            if after.is_none() {
                break;
            }
        }
        self.gateway.answer(&json!({ "rows": rows }), table);
        Ok(())
    }
}

fn table(page: &Value) -> String {
    let rows = page["rows"].as_array().cloned().unwrap_or_default();
    if rows.is_empty() {
        return "nothing was changed yet".to_owned();
    }
    let rows = rows.iter().map(|row| {
        [
            date(&row["at"]).unwrap_or_default(),
            text(&row["who"]),
            text(&row["from"]),
            text(&row["status"]),
            text(&row["request"]),
        ]
    });
    columns(["AT", "WHO", "FROM", "STATUS", "REQUEST"], rows)
}
