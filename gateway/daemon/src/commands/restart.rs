//! `headgate restart`: a running gateway begins anew.

use super::error::CommandError;
use super::gateway::Gateway;
use clap::Args;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::json;
use std::time::{Duration, Instant};

/// How often it is asked whether it is there again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Seconds until it must serve again.
pub(super) const WAIT: u64 = 120;

/// Let a running gateway stop and begin anew, with the settings and the backup that wait for it; comes back when it serves again.
#[derive(Args)]
pub struct RestartCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// Seconds until it must serve again.
    #[arg(long, default_value_t = WAIT)]
    wait: u64,
}

impl RestartCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        begin_anew(&self.gateway, self.wait)?;
        self.gateway
            .answer(&json!({}), |_| "the gateway serves again".to_owned());
        Ok(())
    }
}

/// Comes back when the gateway serves again, `wait` seconds later at most.
pub(super) fn begin_anew(gateway: &Gateway, wait: u64) -> Result<(), CommandError> {
    let run = || {
        let system = gateway.ask(Method::GET, "/api/v1/system", None);
        system.map(|system| system["run"].as_str().unwrap_or_default().to_owned())
    };
    let before = run()?;
    gateway.ask(Method::POST, "/api/v1/restart", None)?;
    let (asked, most) = (Instant::now(), Duration::from_secs(wait));
    loop {
        std::thread::sleep(LOOK_EVERY);
        match run() {
            Ok(now) if now != before => return Ok(()),
            Ok(_) | Err(_) if asked.elapsed() < most => {}
            Ok(_) => return Err(CommandError::NotAgain(wait)),
            Err(error) => return Err(error),
        }
    }
}
