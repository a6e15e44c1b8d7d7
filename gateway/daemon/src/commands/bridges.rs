//! `headgate bridges` and `headgate bridge …`: what a running gateway's bridges do, and what they are to do.

use super::error::CommandError;
use super::gateway::Gateway;
use super::table::{columns, visible};
use crate::api::ControlError;
use crate::bridges::{BridgeError, Checked, escape};
use crate::config::{Config, environment_variables};
use crate::sys::unix_time;
use clap::{Args, Subcommand};
use headgate_cli::{Outcome, note, runtime, say, say_json};
use hyper::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// Show all bridges.
#[derive(Args)]
pub struct BridgesCommand {
    #[command(flatten)]
    gateway: Gateway,
}

/// Show, pause, resume, flush, test, add and remove a bridge.
#[derive(Args)]
pub struct BridgeCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show everything about a bridge.
    Show {
        /// Its name.
        name: String,
    },
    /// End the connection and make none; what goes out is queued.
    Pause {
        /// Its name.
        name: String,
    },
    /// Go on after a pause; one that waits before its next try tries at once.
    Resume {
        /// Its name.
        name: String,
    },
    /// Throw away what is queued.
    Flush {
        /// Its name.
        name: String,
    },
    /// Walk the way to the remote: name, network, TLS, clock, login, round trip. Fails with the step that failed. Where no gateway runs, the bridge
    /// of the configuration is tested from here.
    Test {
        /// Its name.
        name: String,
    },
    /// What became of its messages in a time: they add up.
    Report {
        /// Its name.
        name: String,
        /// How long ago it begins: `24h`, `7days`.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "24h")]
        since: Duration,
        /// How long ago it ends.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "0s")]
        until: Duration,
    },
    /// Add a bridge, or change one that was added; its settings in TOML, as they would stand below `[[bridges]]`.
    Add {
        /// The file.
        file: PathBuf,
    },
    /// Remove a bridge that was added, with its queue; or what one left behind that is gone from the configuration.
    Remove {
        /// Its name.
        name: String,
    },
}

impl BridgesCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let bridges = self.gateway.ask(Method::GET, "/api/v1/bridges", None)?;
        self.gateway.answer(&bridges, table);
        Ok(())
    }
}

impl BridgeCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let of = |name: &str| format!("/api/v1/bridges/{}", escape(name));
        let gateway = &self.gateway;
        match &self.action {
            Action::Show { name } => {
                let bridge = gateway
                    .ask(Method::GET, &of(name), None)
                    .map_err(|error| self.hint(name, error))?;
                gateway.answer(&bridge, |bridge| lines(bridge, ""));
            }
            Action::Pause { name } => {
                let done = gateway
                    .ask(Method::POST, &format!("{}/pause", of(name)), None)
                    .map_err(|error| self.hint(name, error))?;
                gateway.answer(&done, |_| format!("paused {name}"));
            }
            Action::Resume { name } => {
                let done = gateway
                    .ask(Method::POST, &format!("{}/resume", of(name)), None)
                    .map_err(|error| self.hint(name, error))?;
                gateway.answer(&done, |_| format!("resumed {name}"));
            }
            Action::Flush { name } => {
                let done = gateway
                    .ask(Method::POST, &format!("{}/flush", of(name)), None)
                    .map_err(|error| self.hint(name, error))?;
                gateway.answer(&done, |done| format!("discarded {} messages", done["flushed"]));
            }
            Action::Test { name } => return self.test(name),
            Action::Report { name, since, until } => {
                let (from, to) = (ago(*since), ago(*until));
                let path = format!("{}/report?from={from}&to={to}", of(name));
                let report = gateway
                    .ask(Method::GET, &path, None)
                    .map_err(|error| self.hint(name, error))?;
                gateway.answer(&report, |report| lines(&with_dates(report), ""));
            }
            Action::Add { file } => {
                let toml =
                    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
                let path = "/api/v1/bridges";
                let done = gateway.ask(Method::POST, path, Some(json!({ "toml": toml })));
                let done = done.map_err(|error| format!("{}: {error}", file.display()))?;
                gateway.answer(&done, |done| {
                    format!("{}: {}", text(&done["bridge"]), text(&done["change"]))
                });
            }
            Action::Remove { name } => {
                let done = gateway.ask(Method::DELETE, &of(name), None)?;
                gateway.answer(&done, |done| {
                    format!("removed {name}, discarded {} messages", done["discarded"])
                });
            }
        }
        Ok(())
    }

    /// The bridge of this name in the configuration, read as far as it can be.
    fn configured(&self, name: &str) -> Option<Checked> {
        let (config, _) =
            Config::load_for(&["bridges"], self.gateway.config(), environment_variables()).ok()?;
        let settings = config.bridges.iter().find(|bridge| bridge.name == name)?;
        Checked::new(settings, &config.node).ok()
    }

    /// What the gateway does not know, and the configuration does.
    fn hint(&self, name: &str, error: CommandError) -> CommandError {
        let is_unknown = matches!(&error, CommandError::Control(ControlError::Refused(words)) if *words == BridgeError::Unknown(name.to_owned()).to_string());
        match is_unknown && self.configured(name).is_some() {
            true => CommandError::NotTaken(name.to_owned()),
            false => error,
        }
    }

    fn test(&self, name: &str) -> Outcome {
        let client = self.gateway.client()?;
        let path = format!("/api/v1/bridges/{}/test", escape(name));
        let mut failed = None;
        let json = self.gateway.is_json();
        let mut each = |finding: Value| {
            if finding["ok"] == false {
                failed.get_or_insert_with(|| text(&finding["step"]));
            }
            if json {
                return say_json(&finding);
            }
            let verdict = if finding["ok"] == true { "ok    " } else { "FAILED" };
            let [address, step, detail] = ["address", "step", "detail"].map(|key| text(&finding[key]));
            say(format!(
                "{verdict} {address}  {step}: {detail} ({} ms)",
                finding["milliseconds"]
            ));
        };
        let runtime = runtime()?;
        match runtime.block_on(client.lines(Method::POST, &path, None, &mut each)) {
            Err(error @ ControlError::NotRunning { .. }) => {
                let Some(checked) = self.configured(name) else {
                    return Err(error.into());
                };
                note("no gateway runs with this configuration: its bridge is tested from here");
                runtime.block_on(async {
                    let mut findings = checked.probe().ok_or(error)?;
                    while let Some(finding) = findings.recv().await {
                        each(serde_json::to_value(&finding).unwrap_or_default());
                    }
                    Ok::<_, ControlError>(())
                })?;
            }
            asked => asked.map_err(|error| self.hint(name, error.into()))?,
        }
        match failed {
            Some(step) => Err(format!("the step `{step}` failed").into()),
            None => Ok(()),
        }
    }
}

/// Seconds since 1970, so long ago.
fn ago(time: Duration) -> u64 {
    unix_time().saturating_sub(time.as_secs())
}

/// A report whose moments are dates.
fn with_dates(report: &Value) -> Value {
    let date = |seconds: &Value| {
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.as_u64()?))?;
        Some(humantime::format_rfc3339_seconds(time).to_string())
    };
    let mut report = report.clone();
    for key in ["from", "to"] {
        if let Some(date) = date(&report[key]) {
            report[key] = date.into();
        }
    }
    for gap in report["unknown"].as_array_mut().into_iter().flatten() {
        for key in ["since", "until"] {
            if let Some(date) = date(&gap[key]) {
                gap[key] = date.into();
            }
        }
    }
    report
}

/// A value as people read it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Null => "-".into(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or_default()),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => "none".into(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name} {}", text(value)));
            fields.collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}

/// A line for each field.
fn lines(value: &Value, before: &str) -> String {
    let fields = value.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &Value)| match value {
        Value::Object(fields) if name == "queue" || (name == "failures" && !fields.is_empty()) => {
            lines(value, &format!("{name}."))
        }
        value => format!("{before}{name}: {}\n", text(value)),
    };
    fields.map(line).collect()
}

/// One line for each bridge.
fn table(bridges: &Value) -> String {
    let head = [
        "NAME", "STATE", "REMOTE", "WAY OUT", "QUEUED", "OLDEST s", "ROOM h", "SENT", "ACKED", "RECEIVED",
        "NEXT s", "ERROR",
    ];
    let bridges = bridges.as_array().into_iter().flatten();
    let rows = bridges.map(|bridge| {
        let queue = &bridge["queue"];
        [
            &bridge["name"],
            &bridge["state"],
            &bridge["remote"],
            &bridge["way_out"],
            &queue["messages"],
            &queue["oldest_seconds"],
            &queue["capacity_hours"],
            &bridge["sent"],
            &bridge["acknowledged"],
            &bridge["received"],
            &bridge["next_try_seconds"],
            &bridge["last_error"],
        ]
        .map(text)
    });
    columns(head, rows)
}
