//! `headgate lwm2m list` and `show`: which clients of LwM2M are registered, and with what.

use super::clients::{rows, shown};
use super::gateway::Gateway;
use super::table::{columns, text};
use crate::bridges::escape;
use clap::{Args, Subcommand};
use headgate_cli::{Outcome, note};
use hyper::Method;
use serde_json::Value;
use std::path::Path;

/// What is asked of the gateway on this machine.
#[derive(Subcommand)]
pub enum Lwm2mClients {
    /// Show which clients are registered at a running gateway.
    List(ListArgs),
    /// Show all that is known of a client: its objects, what is observed of it, commands that wait for it.
    Show(ShowArgs),
}

/// How many.
#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    gateway: Gateway,
    /// Rows at most.
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
}

/// Which one.
#[derive(Args)]
pub struct ShowArgs {
    #[command(flatten)]
    gateway: Gateway,
    /// Endpoint name.
    endpoint: String,
}

impl Lwm2mClients {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        match self {
            Self::List(ListArgs { gateway, limit }) => {
                let found = rows(&gateway, "/api/v1/lwm2m/clients", limit, |_| true)?;
                let head = [
                    "ENDPOINT",
                    "CONNECTED",
                    "ADDRESS",
                    "LIFETIME",
                    "VERSION",
                    "BINDING",
                    "OBJECTS",
                    "OBSERVATIONS",
                ];
                shown(&gateway, found, "no clients", head, |row| {
                    [
                        text(&row["endpoint"]),
                        yes_or_no(&row["connected"]).to_owned(),
                        address(row),
                        lifetime(row),
                        text(&row["version"]),
                        binding(row),
                        objects(row),
                        row["observations"].as_array().map_or(0, Vec::len).to_string(),
                    ]
                });
            }
            Self::Show(ShowArgs { gateway, endpoint }) => {
                let path = format!("/api/v1/lwm2m/clients/{}", escape(&endpoint));
                let client = gateway.ask(Method::GET, &path, None)?;
                gateway.answer(&client, words);
            }
        }
        Ok(())
    }
}

/// The definitions of the objects of a client, as the gateway of this configuration has them: as rows of JSON. None where there is no such client, or no gateway that could say.
pub fn lwm2m_definitions(config: Option<&Path>, endpoint: &str) -> Option<Value> {
    let path = format!("/api/v1/lwm2m/clients/{}/objects", escape(endpoint));
    match Gateway::of(config).ask(Method::GET, &path, None) {
        Ok(mut answer) => Some(answer["rows"].take()),
        Err(error) => {
            // Who named none need not have one here.
            if config.is_some() {
                note(format!("objects are called as this program knows them: {error}"));
            }
            None
        }
    }
}

fn yes_or_no(value: &Value) -> &'static str {
    if value == true { "yes" } else { "no" }
}

fn address(row: &Value) -> String {
    let [host, port] = ["address", "port"].map(|key| text(&row[key]));
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn lifetime(row: &Value) -> String {
    format!("{} s", text(&row["lifetime_seconds"]))
}

fn binding(row: &Value) -> String {
    let queue_mode = if row["queue_mode"] == true {
        ", queue mode"
    } else {
        ""
    };
    text(&row["binding"]) + queue_mode
}

/// Numbers of objects, the first of them.
fn objects(row: &Value) -> String {
    const MOST: usize = 8;
    let paths = row["objects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let mut ids: Vec<&str> = paths.filter_map(|path| path.split('/').nth(1)).collect();
    ids.dedup();
    let more = if ids.len() > MOST { " …" } else { "" };
    ids.truncate(MOST);
    ids.join(" ") + more
}

/// A line for each of what is known.
fn words(client: &Value) -> String {
    let mut rows = vec![
        ["endpoint".to_owned(), text(&client["endpoint"])],
        ["connected".to_owned(), yes_or_no(&client["connected"]).to_owned()],
        ["user".to_owned(), text(&client["user"])],
        ["address".to_owned(), address(client)],
        ["listener".to_owned(), text(&client["listener"])],
        ["version".to_owned(), text(&client["version"])],
        ["lifetime".to_owned(), lifetime(client)],
        ["binding".to_owned(), binding(client)],
        ["sms".to_owned(), text(&client["sms"])],
        ["firmware update".to_owned(), text(&client["firmware"])],
        ["commands waiting".to_owned(), text(&client["commands_waiting"])],
    ];
    if client["alternate_path"] != "/" {
        rows.push(["objects below".to_owned(), text(&client["alternate_path"])]);
    }
    if !client["ends_in_seconds"].is_null() {
        rows.push(["ends in".to_owned(), format!("{} s", client["ends_in_seconds"])]);
    }
    let objects = client["objects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    rows.extend(objects.map(|path| {
        let id = path.split('/').nth(1).unwrap_or_default();
        let name = text(&client["names"][id]);
        [
            "object".to_owned(),
            format!("{path} {name}").trim_end().to_owned(),
        ]
    }));
    let observed = client["observations"].as_array().into_iter().flatten();
    rows.extend(observed.map(|observed| {
        let paths = observed["paths"].as_array().into_iter().flatten().map(text);
        ["observed".to_owned(), paths.collect::<Vec<_>>().join(" ")]
    }));
    rows.retain(|[_, value]| !value.is_empty());
    // The first row is no head here, but it is set like one.
    let mut rows = rows.into_iter();
    let [key, value] = rows.next().unwrap_or_default();
    columns([&key, &value], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn client() -> Value {
        json!({
            "endpoint": "dev", "user": null, "connected": true, "listener": "lwm2m", "address": "2001:db8::1", "port": 5683,
            "lifetime_seconds": 60, "version": "1.1", "binding": "U", "queue_mode": true, "sms": null, "alternate_path": "/",
            "objects": ["/1/0", "/3/0", "/3303/0", "/3303/1", "/40000"], "names": {"1": "Server", "3": "Device", "3303": "Temperature"},
            "observations": [{"paths": ["/3/0/9", "/4/0/2"], "composite": true}], "firmware": null,
            "ends_in_seconds": null, "commands_waiting": 2,
        })
    }

    #[test]
    fn a_client_is_told_line_by_line() {
        let told = words(&client());
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "endpoint          dev",
                "connected         yes",
                "address           [2001:db8::1]:5683",
                "listener          lwm2m",
                "version           1.1",
                "lifetime          60 s",
                "binding           U, queue mode",
                "commands waiting  2",
                "object            /1/0 Server",
                "object            /3/0 Device",
                "object            /3303/0 Temperature",
                "object            /3303/1 Temperature",
                "object            /40000",
                "observed          /3/0/9 /4/0/2",
            ]
        );
    }

    #[test]
    fn a_list_has_the_first_objects() {
        assert_eq!(objects(&client()), "1 3 3303 40000");
        let many: Vec<String> = (1..=9).map(|id| format!("/{id}/0")).collect();
        assert_eq!(objects(&json!({ "objects": many })), "1 2 3 4 5 6 7 8 …");
    }
}
