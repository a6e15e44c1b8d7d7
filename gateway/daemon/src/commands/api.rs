//! `headgate api`: any question of the HTTP API, over the control socket.

use super::error::CommandError;
use super::gateway::Gateway;
use clap::Args;
use headgate_cli::{Outcome, runtime, say_json};
use hyper::Method;
use serde_json::Value;
use std::path::PathBuf;

/// Ask a running gateway anything that its HTTP API answers, in JSON. `headgate api openapi.json` lists all of it.
#[derive(Args)]
pub struct ApiCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// What to ask: `status`, `certificates`, `history?span=30d`; below `/api/v1/`.
    path: String,
    /// The method of the request. Default: GET, or POST with a body.
    #[arg(long, short)]
    method: Option<Method>,
    /// The body, in JSON.
    #[arg(long, short, value_name = "JSON", conflicts_with = "body_file")]
    body: Option<String>,
    /// A file with the body.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
}

impl ApiCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let body = match (self.body, self.body_file) {
            (Some(body), _) => Some(body),
            (None, Some(path)) => {
                let read = std::fs::read_to_string(&path);
                Some(read.map_err(|cause| CommandError::File { path, cause })?)
            }
            (None, None) => None,
        };
        let body: Option<Value> = body.map(|body| serde_json::from_str(&body)).transpose()?;
        let usual = if body.is_some() { Method::POST } else { Method::GET };
        let method = self.method.unwrap_or(usual);
        let path = self.path.trim_start_matches('/');
        let path = path.strip_prefix("api/v1/").unwrap_or(path);
        let client = self.gateway.client()?;
        let path = format!("/api/v1/{path}");
        let mut each = |line: Value| say_json(line);
        // It may be a stream, such as that of events.
        Ok(runtime()?.block_on(client.follow(method, &path, body, &mut each))?)
    }
}
