//! `headgate metrics`, `status` and `slow`: what a running gateway counts, how it is, and who takes long.

use super::gateway::Gateway;
use super::table::{columns, text};
use clap::Args;
use headgate_cli::{Outcome, visible};
use hyper::Method;
use serde_json::Value;
use std::time::Duration;

/// Show all counters.
#[derive(Args)]
pub struct MetricsCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// Only those whose name holds this, or a label: `queue_full` for example.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Show how the gateway is.
#[derive(Args)]
pub struct StatusCommand {
    #[command(flatten)]
    gateway: Gateway,
}

/// Show who takes long.
#[derive(Args)]
pub struct SlowCommand {
    #[command(flatten)]
    gateway: Gateway,
}

impl SlowCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let slow = self.gateway.ask(Method::GET, "/api/v1/slow", None)?;
        self.gateway.answer(&slow, |slow| {
            let Some(slow) = slow.as_array().filter(|slow| !slow.is_empty()) else {
                return "nobody takes long".to_owned();
            };
            let rows = slow
                .iter()
                .map(|slow| [text(&slow["client"]), text(&slow["seconds"])]);
            columns(["CLIENT", "SECONDS"], rows)
        });
        Ok(())
    }
}

impl MetricsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let mut families = self.gateway.ask(Method::GET, "/api/v1/metrics", None)?;
        if let (Some(wanted), Some(families)) = (&self.name, families.as_array_mut()) {
            families.retain_mut(|family| keep(family, wanted));
        }
        self.gateway.answer(&families, |families| {
            if let (Some(wanted), Some([])) = (&self.name, families.as_array().map(Vec::as_slice)) {
                return format!("no counter has `{}` in its name or its labels", visible(wanted));
            }
            let families = families.as_array().into_iter().flatten();
            let rows = families.flat_map(|family| {
                let samples = family["samples"].as_array().into_iter().flatten();
                samples.map(|sample| [name(&family["name"], &sample["labels"]), number(&sample["value"])])
            });
            columns(["NAME", "VALUE"], rows)
        });
        Ok(())
    }
}

impl StatusCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let status = self.gateway.ask(Method::GET, "/api/v1/status", None)?;
        self.gateway.answer(&status, told);
        Ok(())
    }
}

/// Of a family what is called so: all of it by its name, else the samples with such a label. False if that is nothing.
fn keep(family: &mut Value, wanted: &str) -> bool {
    if text(&family["name"]).contains(wanted) {
        return true;
    }
    let Some(samples) = family["samples"].as_array_mut() else {
        return false;
    };
    samples.retain(|sample| name(&Value::Null, &sample["labels"]).contains(wanted));
    !samples.is_empty()
}

/// `name{label="value"}`.
fn name(name: &Value, labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let labels: Vec<String> = labels.map(|(label, value)| format!("{label}={value}")).collect();
    match labels.is_empty() {
        true => text(name),
        false => format!("{}{{{}}}", text(name), labels.join(",")),
    }
}

/// Whole numbers without a point.
fn number(value: &Value) -> String {
    let number = value.as_f64().unwrap_or_default();
    format!("{number}")
}

/// Nothing while all is well.
fn recovery(recovery: &Value) -> String {
    let rounds = recovery["rounds"].as_u64().unwrap_or_default();
    match (recovery["next"].as_str(), rounds) {
        (Some(next), _) => {
            let left = recovery["next_in_seconds"].as_u64().unwrap_or_default();
            let left = humantime::format_duration(Duration::from_secs(left));
            format!("no uplink is connected: `recovery` does {next} in {left}, after {rounds} rounds in vain")
        }
        (None, 0) => String::new(),
        (None, _) => format!("{rounds} rounds in vain; a connection that holds makes up for them"),
    }
}

/// Where it is, and where it goes.
fn store(store: &Value) -> String {
    let free = mib(&store["disk_free_bytes"]).unwrap_or_else(|| "?".to_owned());
    let (is_in_memory, is_moving) = (store["place"] == "memory", store["moving"] == true);
    let place = match is_in_memory {
        true => "in memory".to_owned(),
        false => format!("{} on the disk", mib(&store["disk_bytes"]).unwrap_or_default()),
    };
    let way = match (is_moving, is_in_memory) {
        (false, _) => "",
        (true, true) => ", on its way to the disk",
        (true, false) => ", on its way to memory",
    };
    format!("{place}{way}, {free} free")
}

fn mib(bytes: &Value) -> Option<String> {
    let bytes = bytes.as_u64()?;
    Some(format!("{:.1} MiB", bytes as f64 / 1_048_576.0))
}

fn data(folder: &Value) -> String {
    let path = text(&folder["path"]);
    match folder["moves_to"].as_str() {
        Some(to) => format!("{path}, on the way to {}", visible(to)),
        None => path,
    }
}

fn told(status: &Value) -> String {
    let uptime = status["uptime_seconds"].as_u64().unwrap_or_default();
    let uptime = humantime::format_duration(Duration::from_secs(uptime));
    let list = |key: &str, row: fn(&Value) -> String| {
        let entries = status[key].as_array().into_iter().flatten().map(row);
        entries.collect::<Vec<_>>().join(", ")
    };
    let ready = match status["ready"] == true {
        true => "yes".to_owned(),
        false => format!("no: {}", list("not_ready_because", text)),
    };
    let memory = &status["memory"];
    let used = mib(&memory["ledger_bytes"]).unwrap_or_default();
    let limit = mib(&memory["max_bytes"]).map_or("no limit".to_owned(), |max| format!("of {max}"));
    let process = mib(&memory["process_bytes"]).unwrap_or_else(|| "?".to_owned());
    let rows = [
        ("node", text(&status["node"])),
        ("version", text(&status["version"])),
        ("process", text(&status["pid"])),
        ("up for", uptime.to_string()),
        ("ready", ready),
        ("at a restart", list("needs_restart", text)),
        ("clients", text(&status["clients"])),
        ("sessions", text(&status["sessions"])),
        ("subscriptions", text(&status["subscriptions"])),
        ("retained", text(&status["retained"])),
        ("queued", text(&status["queued"])),
        (
            "memory",
            format!("{used} {limit} in the ledger, {process} in all"),
        ),
        ("data", data(&status["data_dir"])),
        ("store", store(&status["store"])),
        (
            "listeners",
            list("listeners", |listener| {
                format!("{} ({})", text(&listener["name"]), text(&listener["connections"]))
            }),
        ),
        (
            "bridges",
            list("bridges", |bridge| {
                let (name, state) = (text(&bridge["name"]), text(&bridge["state"]));
                format!("{name} ({state}, {} queued)", bridge["queued"])
            }),
        ),
        ("recovery", recovery(&status["recovery"])),
        ("alarms", list("alarms", |alarm| text(&alarm["id"]))),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    let lines = rows.map(|(name, value)| format!("{name:<14}{value}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// docs/operations.md#metrics names reasons, which are labels.
    #[test]
    fn counters_are_found_by_their_names_and_labels() {
        let found = |wanted: &str| {
            let mut families = json!([
                { "name": "dropped_total", "samples": [{ "labels": { "reason": "queue_full" } }, { "labels": { "reason": "expired" } }] },
                { "name": "queued_messages", "samples": [{ "labels": {} }] },
            ]);
            let families = families.as_array_mut().unwrap();
            families.retain_mut(|family| keep(family, wanted));
            let counted = families
                .iter()
                .map(|family| family["samples"].as_array().unwrap().len());
            counted.collect::<Vec<_>>()
        };
        assert_eq!(found("dropped"), [2]);
        assert_eq!(found("queue_full"), [1]);
        assert_eq!(found("reason=\"expired\""), [1]);
        assert_eq!(found("queue"), [1, 1]);
        assert!(found("nothing").is_empty());
    }
}
