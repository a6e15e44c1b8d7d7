//! Serial lines: those of the configuration with what they count, and ports of the machine that nobody has.

use super::routes::Routes;
use super::server::Control;
use axum::extract::State;
use axum::response::Json;
use headgate_admin::Role::Viewer;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names of serial devices in `/dev`; what the kernel calls virtual consoles is none of them.
const DEVICES: [&str; 8] = [
    "ttyS", "ttyUSB", "ttyACM", "ttyAMA", "ttymxc", "ttyO", "ttySC", "ttyXRUSB",
];

pub(super) fn routes() -> Routes {
    Routes::default().get(
        Viewer,
        "/lines",
        "Lists serial lines and ports, and who has them.",
        list,
    )
}

/// A serial line, or a port that nobody has.
#[derive(Serialize, JsonSchema)]
struct LineRow {
    /// The device.
    port: String,
    /// Where a name that stays the same leads to; of a port, names that stay the same.
    also: Vec<String>,
    /// Whether the device is there.
    present: bool,
    /// The listener that has it, with its list.
    listener: Option<String>,
    /// Baud rate, parity and whatever else the configuration says of it.
    settings: Option<Value>,
    /// What it has counted since the start: bytes, frames, errors.
    counters: BTreeMap<&'static str, u64>,
}

/// All serial lines and ports.
#[derive(Serialize, JsonSchema)]
struct LineRows {
    rows: Vec<LineRow>,
}

async fn list(State(control): State<Control>) -> Json<LineRows> {
    let config = control.live.config().await;
    let shown = serde_json::to_value(&*config).unwrap_or_default();
    let counted = control.counters.snapshot().datagrams;
    let mut rows = Vec::new();
    for (list, entries) in shown.as_object().into_iter().flatten() {
        for entry in entries.as_array().into_iter().flatten() {
            let Some(port) = entry["serial"]["port"].as_str() else {
                continue;
            };
            let name = format!("{list}/{}", entry["name"].as_str().unwrap_or_default());
            let counts = counted.iter().find(|counts| counts.name == name);
            let counters =
                counts.map(|counts| counts.counters.iter().chain(&counts.gauges).copied().collect());
            rows.push(LineRow {
                port: port.to_owned(),
                also: real(Path::new(port))
                    .into_iter()
                    .filter(|real| real != port)
                    .collect(),
                present: Path::new(port).exists(),
                listener: Some(name),
                settings: Some(entry["serial"].clone()),
                counters: counters.unwrap_or_default(),
            });
        }
    }
    let free = tokio::task::block_in_place(ports);
    let is_taken = |port: &str| {
        rows.iter()
            .any(|row| row.port == port || row.also.iter().any(|also| also == port))
    };
    let free: Vec<LineRow> = free
        .into_iter()
        .filter(|(port, also)| !is_taken(port) && !also.iter().any(|also| is_taken(also)))
        .map(|(port, also)| LineRow {
            port,
            also,
            present: true,
            listener: None,
            settings: None,
            counters: BTreeMap::new(),
        })
        .collect();
    rows.extend(free);
    Json(LineRows { rows })
}

/// Where a name leads to.
fn real(path: &Path) -> Option<String> {
    Some(std::fs::canonicalize(path).ok()?.display().to_string())
}

/// Ports of the machine that have a driver, each with its names that stay the same.
fn ports() -> Vec<(String, Vec<String>)> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries("/dev/serial/by-id") {
        if let Some(real) = real(&entry) {
            names.entry(real).or_default().push(entry.display().to_string());
        }
    }
    let is_device = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let named = DEVICES.iter().find_map(|device| name.strip_prefix(device));
        named.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) && has_driver(name)
    };
    let devices = entries("/dev").into_iter().filter(is_device);
    let devices = devices.map(|path| path.display().to_string());
    devices
        .map(|port| {
            let also = names.remove(&port).unwrap_or_default();
            (port, also)
        })
        .collect()
}

/// Ports of a PC stand there also when there is no hardware behind them: these have the type 0.
fn has_driver(name: &str) -> bool {
    let kind = std::fs::read_to_string(format!("/sys/class/tty/{name}/type"));
    kind.map_or(true, |kind| kind.trim() != "0")
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    found.sort();
    found
}
