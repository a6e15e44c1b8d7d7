//! `headgate trace`: what one client, topic or address does at a running gateway.

use super::gateway::Gateway;
use super::table::{columns, date, text};
use crate::bridges::escape;
use clap::{Args, Subcommand};
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/api/v1/traces";

/// Write down what one client, topic or address does.
#[derive(Args)]
pub struct TraceCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Begin a trace; it ends by itself.
    Start {
        /// Its name: letters, digits, `-` and `_`.
        name: String,
        #[command(flatten)]
        about: About,
        /// How long: `10m`, up to `7days`.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10m")]
        lasts: Duration,
        /// Bytes of the file, at which it ends too.
        #[arg(long, value_name = "BYTES", default_value_t = 10 << 20)]
        max_bytes: u64,
        /// Bytes of each payload that are written down, up to 1024.
        #[arg(long, value_name = "BYTES", default_value_t = 0)]
        payload: usize,
    },
    /// Show all traces, also those that are over.
    List,
    /// End a trace; its file stays.
    Stop {
        /// Its name.
        name: String,
    },
    /// Show what a trace has written down.
    Show {
        /// Its name.
        name: String,
    },
    /// End a trace and remove its file.
    Delete {
        /// Its name.
        name: String,
    },
}

/// One of them.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct About {
    /// The client with this id, whatever it speaks.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Messages of topics that match, as on the bus, and subscriptions to this filter.
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// All clients from this address or network.
    #[arg(long, value_name = "NETWORK")]
    address: Option<String>,
}

impl TraceCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let of = |name: &str| format!("{PATH}/{}", escape(name));
        let gateway = &self.gateway;
        match self.action.unwrap_or(Action::List) {
            Action::Start {
                name,
                about,
                lasts,
                max_bytes,
                payload,
            } => {
                let wanted = json!({
                    "name": name,
                    "client": about.client,
                    "topic": about.topic,
                    "address": about.address,
                    "seconds": lasts.as_secs(),
                    "max_bytes": max_bytes,
                    "payload": payload,
                });
                let started = gateway.ask(Method::POST, PATH, Some(wanted))?;
                gateway.answer(&started, |trace| {
                    let until = date(&trace["until"]).unwrap_or_default();
                    format!("tracing until {until} into {}", text(&trace["file"]))
                });
            }
            Action::List => {
                let traces = gateway.ask(Method::GET, PATH, None)?;
                gateway.answer(&traces, table);
            }
            Action::Stop { name } => {
                let done = gateway.ask(Method::POST, &format!("{}/stop", of(&name)), None)?;
                gateway.answer(&done, |_| format!("stopped {name}"));
            }
            Action::Show { name } => {
                gateway.lines(&of(&name), &mut |record| gateway.answer(&record, line))?;
            }
            Action::Delete { name } => {
                let done = gateway.ask(Method::DELETE, &of(&name), None)?;
                gateway.answer(&done, |_| format!("deleted {name}"));
            }
        }
        Ok(())
    }
}

fn table(traces: &Value) -> String {
    let Some(traces) = traces.as_array().filter(|traces| !traces.is_empty()) else {
        return "there are no traces".to_owned();
    };
    let rows = traces.iter().map(|trace| {
        let about = ["client", "topic", "address"].into_iter();
        let mut about = about.filter_map(|kind| Some(format!("{kind} {}", trace["about"][kind].as_str()?)));
        let state = match trace["running"] == true {
            true => format!("until {}", date(&trace["until"]).unwrap_or_default()),
            false => "over".to_owned(),
        };
        [
            text(&trace["name"]),
            about.next().unwrap_or_default(),
            state,
            text(&trace["bytes"]),
            text(&trace["lost"]),
        ]
    });
    columns(["NAME", "ABOUT", "STATE", "BYTES", "LOST"], rows)
}

/// One record. Names and topics come from anybody: what a terminal would obey is escaped.
fn line(record: &Value) -> String {
    let parts =
        ["time", "what", "listener", "peer", "client", "text", "payload"].map(|part| text(&record[part]));
    let [time, what, listener, peer, client, said, payload] = parts;
    let who = [listener, peer, client]
        .into_iter()
        .filter(|part| !part.is_empty());
    let mut line = format!("{time} {what:<8} {}", who.collect::<Vec<_>>().join(" "));
    line = format!("{}: {said}", line.trim_end());
    if !payload.is_empty() {
        line.push_str(&format!(" | {payload}"));
    }
    line
}
