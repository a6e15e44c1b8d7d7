//! `headgate clients`, `sessions`, `subscriptions`, `topics`, `retained` and `listeners`: who is there and what waits, and what an operator does about it.

use super::error::CommandError;
use super::gateway::Gateway;
use super::table::{columns, date, raw, text};
use crate::bridges::escape;
use crate::protocols::spoken;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use headgate_cli::{Outcome, note, visible_lines};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;

/// Show clients, disconnect one, subscribe on its behalf.
#[derive(Args)]
pub struct ClientsCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<ClientsAction>,
    #[command(flatten)]
    which: Which,
}

/// Which clients.
#[derive(Args)]
struct Which {
    /// Those in this state.
    #[arg(long, value_parser = ["connected", "away", "asleep", "awake", "opening", "leaving"])]
    state: Option<String>,
    /// Those of this user name.
    #[arg(long)]
    user: Option<String>,
    /// Those that speak this.
    #[arg(long, value_parser = PossibleValuesParser::new(spoken()))]
    protocol: Option<String>,
    /// Rows at most.
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
}

#[derive(Subcommand)]
enum ClientsAction {
    /// Show all that is known of a client and its session, with its subscriptions.
    Show {
        /// Client id.
        client: String,
    },
    /// Disconnect a client. It may come back; `headgate bans add` keeps it out.
    Kick {
        /// Client id.
        client: String,
    },
    /// Subscribe on behalf of a client, which hears nothing of it. The filter is one of the bus: no mount point goes in front of it.
    Subscribe {
        /// Client id.
        client: String,
        /// Topic filter, also `$share/{group}/{filter}`.
        filter: String,
        /// The highest QoS at which messages are delivered.
        #[arg(long, short, default_value_t = 0)]
        qos: u8,
    },
    /// End a subscription on behalf of a client.
    Unsubscribe {
        /// Client id.
        client: String,
        /// Topic filter, as `headgate subscriptions` shows it.
        filter: String,
    },
}

/// Show sessions and what waits in them, empty a queue, remove a session.
#[derive(Args)]
pub struct SessionsCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<SessionsAction>,
    #[command(flatten)]
    which: Which,
}

#[derive(Subcommand)]
enum SessionsAction {
    /// Show all that is known of a session.
    Show {
        /// Client id.
        client: String,
    },
    /// Show what waits for a client and is under way to it.
    Queue {
        /// Client id.
        client: String,
        /// Rows at most.
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Throw away what waits for a client. What it may have received already stays.
    Purge {
        /// Client id.
        client: String,
    },
    /// End a session for good, with all that it holds. Its client is disconnected.
    Remove {
        /// Client id.
        client: String,
    },
}

/// Show what clients are subscribed to.
#[derive(Args)]
pub struct SubscriptionsCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// Those of one client, and of the sessions that it has beside its own.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Rows at most.
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
}

/// Show the topics and filters that somebody is subscribed to, and how many are.
#[derive(Args)]
pub struct TopicsCommand {
    #[command(flatten)]
    gateway: Gateway,
}

/// Show retained messages, and remove one.
#[derive(Args)]
pub struct RetainedCommand {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<RetainedAction>,
    /// Topic filter.
    #[arg(long, default_value = "#")]
    filter: String,
    /// Rows at most.
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
}

#[derive(Subcommand)]
enum RetainedAction {
    /// Show one with its payload.
    Show {
        /// Topic.
        topic: String,
    },
    /// Remove one.
    Remove {
        /// Topic.
        topic: String,
    },
}

/// Show where clients connect.
#[derive(Args)]
pub struct ListenersCommand {
    #[command(flatten)]
    gateway: Gateway,
}

/// All rows of a list that are wanted, page by page.
pub(super) fn rows(
    gateway: &Gateway,
    path: &str,
    limit: usize,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, CommandError> {
    let mut rows = Vec::new();
    let mut behind = String::new();
    loop {
        let join = if path.contains('?') { '&' } else { '?' };
        let page = gateway.ask(Method::GET, &format!("{path}{join}limit=1000{behind}"), None)?;
        let found = page["rows"].as_array().into_iter().flatten();
        rows.extend(found.filter(|row| wanted(row)).cloned());
        let next = match &page["next"] {
            Value::Null => None,
            Value::Object(place) => {
                let parts = place.iter().filter(|(_, value)| !value.is_null());
                Some(
                    parts
                        .map(|(key, value)| format!("&{key}={}", escape(&raw(value))))
                        .collect(),
                )
            }
            next => Some(format!("&after={}", escape(&raw(next)))),
        };
        if rows.len() > limit || next.is_some() && rows.len() == limit {
            rows.truncate(limit);
            note(format!("there are more: `--limit` shows more than {limit}"));
            return Ok(rows);
        }
        match next {
            Some(next) => behind = next,
            None => return Ok(rows),
        }
    }
}

/// A table, or a word where there is nothing.
pub(super) fn shown<const N: usize>(
    gateway: &Gateway,
    rows: Vec<Value>,
    nothing: &str,
    head: [&str; N],
    cells: impl Fn(&Value) -> [String; N],
) {
    let rows = Value::Array(rows);
    gateway.answer(&rows, |rows| {
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        match rows.is_empty() {
            true => nothing.to_owned(),
            false => columns(head, rows.iter().map(cells)),
        }
    });
}

/// One thing, a line for each of what is known of it.
fn lines(of: &Value) -> String {
    let known = of.as_object().into_iter().flatten();
    let known: Vec<(&String, String)> = known
        .map(|(name, value)| (name, text(value)))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let width = known.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = known.iter().map(|(name, value)| {
        let name = name.replace('_', " ");
        format!("{name:width$}  {value}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Which {
    fn includes(&self, row: &Value) -> bool {
        let is = |wanted: &Option<String>, key: &str| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| {
                row[key]
                    .as_str()
                    .is_some_and(|is| is.eq_ignore_ascii_case(wanted))
            })
        };
        is(&self.state, "state") && is(&self.user, "user") && is(&self.protocol, "protocol")
    }
}

fn of_client(client: &str) -> String {
    format!("/api/v1/clients/{}", escape(client))
}

fn of_session(client: &str) -> String {
    format!("/api/v1/sessions/{}", escape(client))
}

fn show(gateway: &Gateway, client: &str) -> Result<(), CommandError> {
    let mut shown = gateway.ask(Method::GET, &of_client(client), None)?;
    let mut held = rows(
        gateway,
        &format!("{}/subscriptions", of_client(client)),
        usize::MAX,
        |_| true,
    )?;
    for session in sessions_of(&shown) {
        held.extend(subscriptions_of(gateway, &session, usize::MAX)?);
    }
    shown["subscribed_to"] = held.into();
    gateway.answer(&shown, |shown| {
        let mut shown = shown.clone();
        for time in ["connected_at", "last_seen"] {
            if let Some(date) = date(&shown[time]) {
                shown[time] = date.into();
            }
        }
        let sessions = shown["sessions"].take();
        let sessions = sessions.as_array().into_iter().flatten().map(|session| {
            let [name, queued, inflight] = ["client", "queued", "inflight"].map(|key| text(&session[key]));
            format!("\nhas the session {name}: {queued} queued, {inflight} under way")
        });
        let sessions = sessions.collect::<String>();
        let held = shown["subscribed_to"].take();
        let held = held.as_array().cloned().unwrap_or_default();
        let held = held
            .iter()
            .map(|held| format!("\nsubscribed to {} at QoS {}", text(&held["filter"]), held["qos"]));
        lines(&shown) + &held.collect::<String>() + &sessions
    });
    Ok(())
}

/// Names of the sessions that a client has beside its own.
fn sessions_of(shown: &Value) -> Vec<String> {
    let sessions = shown["sessions"].as_array().into_iter().flatten();
    sessions.map(|session| raw(&session["client"])).collect()
}

/// Each with the session that has it.
fn subscriptions_of(gateway: &Gateway, client: &str, limit: usize) -> Result<Vec<Value>, CommandError> {
    let path = format!("{}/subscriptions", of_client(client));
    let mut found = rows(gateway, &path, limit, |_| true)?;
    for row in &mut found {
        row["client"] = client.into();
    }
    Ok(found)
}

impl ClientsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let Self {
            gateway,
            action,
            which,
        } = self;
        match action {
            None => {
                let is_there = |row: &Value| {
                    let away = which.state.is_none() && row["state"] == "away";
                    which.includes(row) && !away
                };
                let found = rows(&gateway, "/api/v1/clients", which.limit, is_there)?;
                let head = [
                    "CLIENT",
                    "USER",
                    "STATE",
                    "PROTOCOL",
                    "ADDRESS",
                    "SUBSCRIPTIONS",
                    "QUEUED",
                ];
                shown(&gateway, found, "no clients", head, |row| {
                    let protocol = format!("{} {}", text(&row["protocol"]), text(&row["version"]));
                    let [client, user, state, address] =
                        ["client", "user", "state", "address"].map(|key| text(&row[key]));
                    let [subscriptions, queued] = ["subscriptions", "queued"].map(|key| text(&row[key]));
                    [client, user, state, protocol, address, subscriptions, queued]
                });
            }
            Some(ClientsAction::Show { client }) => show(&gateway, &client)?,
            Some(ClientsAction::Kick { client }) => {
                let done = gateway.ask(Method::DELETE, &of_client(&client), None)?;
                gateway.answer(&done, |_| format!("{} is disconnected", text(&client.into())));
            }
            Some(ClientsAction::Subscribe { client, filter, qos }) => {
                let path = format!("{}/subscriptions", of_client(&client));
                let body = json!({ "filter": filter, "qos": qos });
                let done = gateway.ask(Method::POST, &path, Some(body))?;
                gateway.answer(&done, |done| {
                    format!("{client} is subscribed to {filter} at QoS {}", done["qos"])
                });
            }
            Some(ClientsAction::Unsubscribe { client, filter }) => {
                let path = format!("{}/subscriptions", of_client(&client));
                let done = gateway.ask(Method::DELETE, &path, Some(json!({ "filter": filter })))?;
                gateway.answer(&done, |_| {
                    format!("{client} is not subscribed to {filter} any more")
                });
            }
        }
        Ok(())
    }
}

impl SessionsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let Self {
            gateway,
            action,
            which,
        } = self;
        match action {
            None => {
                let found = rows(&gateway, "/api/v1/clients", which.limit, |row| {
                    which.includes(row)
                })?;
                let head = [
                    "CLIENT",
                    "USER",
                    "STATE",
                    "DURABLE",
                    "SUBSCRIPTIONS",
                    "QUEUED",
                    "INFLIGHT",
                ];
                shown(&gateway, found, "no sessions", head, |row| {
                    let keys = [
                        "client",
                        "user",
                        "state",
                        "durable",
                        "subscriptions",
                        "queued",
                        "inflight",
                    ];
                    keys.map(|key| text(&row[key]))
                });
            }
            Some(SessionsAction::Show { client }) => show(&gateway, &client)?,
            Some(SessionsAction::Queue { client, limit }) => {
                let found = rows(&gateway, &format!("{}/queue", of_session(&client)), limit, |_| {
                    true
                })?;
                let head = ["TOPIC", "QOS", "BYTES", "RETAIN", "PRIORITY", "STATE"];
                shown(&gateway, found, "nothing waits", head, |row| {
                    let state = match (&row["inflight"], &row["sent"]) {
                        (Value::Bool(true), _) => "under way",
                        (_, Value::Bool(true)) => "was sent",
                        _ => "waits",
                    };
                    let [topic, qos, bytes, retain, priority] =
                        ["topic", "qos", "bytes", "retain", "priority"].map(|key| text(&row[key]));
                    [topic, qos, bytes, retain, priority, state.to_owned()]
                });
            }
            Some(SessionsAction::Purge { client }) => {
                let done = gateway.ask(Method::DELETE, &format!("{}/queue", of_session(&client)), None)?;
                gateway.answer(&done, |done| {
                    format!("{} messages are thrown away", done["purged"])
                });
            }
            Some(SessionsAction::Remove { client }) => {
                let done = gateway.ask(Method::DELETE, &of_session(&client), None)?;
                gateway.answer(&done, |_| format!("the session of {client} is gone"));
            }
        }
        Ok(())
    }
}

impl SubscriptionsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let Self {
            gateway,
            client,
            limit,
        } = self;
        let found = match client {
            None => rows(&gateway, "/api/v1/subscriptions", limit, |_| true)?,
            Some(client) => {
                let mut found = subscriptions_of(&gateway, &client, limit)?;
                let shown = gateway.ask(Method::GET, &of_client(&client), None)?;
                for session in sessions_of(&shown) {
                    let left = limit.saturating_sub(found.len());
                    found.extend(subscriptions_of(&gateway, &session, left)?);
                }
                found
            }
        };
        shown(
            &gateway,
            found,
            "no subscriptions",
            ["CLIENT", "FILTER", "QOS"],
            |row| ["client", "filter", "qos"].map(|key| text(&row[key])),
        );
        Ok(())
    }
}

impl TopicsCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let found = rows(&self.gateway, "/api/v1/subscriptions", usize::MAX, |_| true)?;
        let mut topics: BTreeMap<String, u64> = BTreeMap::new();
        for row in &found {
            *topics.entry(raw(&row["filter"])).or_default() += 1;
        }
        let topics = topics.into_iter();
        let topics: Vec<Value> = topics
            .map(|(filter, n)| json!({ "filter": filter, "subscribers": n }))
            .collect();
        shown(
            &self.gateway,
            topics,
            "nobody is subscribed to anything",
            ["FILTER", "SUBSCRIBERS"],
            |row| ["filter", "subscribers"].map(|key| text(&row[key])),
        );
        Ok(())
    }
}

impl RetainedCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let gateway = &self.gateway;
        match self.action {
            None => {
                let path = format!("/api/v1/retained?filter={}", escape(&self.filter));
                let found = rows(gateway, &path, self.limit, |_| true)?;
                let head = ["TOPIC", "QOS", "BYTES", "EXPIRES IN s"];
                shown(gateway, found, "nothing is retained", head, |row| {
                    ["topic", "qos", "bytes", "expires_in_seconds"].map(|key| text(&row[key]))
                });
            }
            Some(RetainedAction::Show { topic }) => {
                let path = format!("/api/v1/retained/message?topic={}", escape(&topic));
                let found = gateway.ask(Method::GET, &path, None)?;
                gateway.answer(&found, |found| match &found["payload"] {
                    // A terminal is told nothing but what can be seen.
                    Value::String(payload) if std::io::stdout().is_terminal() => {
                        visible_lines(payload.as_bytes())
                    }
                    Value::String(payload) => payload.clone(),
                    _ => format!("base64: {}", text(&found["payload_base64"])),
                });
            }
            Some(RetainedAction::Remove { topic }) => {
                let path = format!("/api/v1/retained?topic={}", escape(&topic));
                let done = gateway.ask(Method::DELETE, &path, None)?;
                gateway.answer(&done, |_| format!("nothing is retained under {topic} any more"));
            }
        }
        Ok(())
    }
}

impl ListenersCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let found = rows(&self.gateway, "/api/v1/listeners", usize::MAX, |_| true)?;
        let head = [
            "LISTENER",
            "PROTOCOL",
            "KIND",
            "ADDRESS",
            "CONNECTIONS",
            "OPENED",
            "REFUSED",
        ];
        shown(&self.gateway, found, "no listeners", head, |row| {
            let refused = row["refused"].as_object().into_iter().flatten();
            let refused: Vec<String> = refused.map(|(reason, n)| format!("{reason} {n}")).collect();
            let [name, protocol, kind, address, connections, opened] =
                ["name", "protocol", "kind", "address", "connections", "opened"].map(|key| text(&row[key]));
            [
                name,
                protocol,
                kind,
                address,
                connections,
                opened,
                refused.join(", "),
            ]
        });
        Ok(())
    }
}
