//! `headgate explain`: why a client may do something or not, and whom it would concern.

use super::bans;
use super::gateway::Gateway;
use super::table::{columns, date, text, visible};
use crate::bridges::escape;
use clap::Args;
use headgate_cli::Outcome;
use hyper::Method;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Say which rule lets a client publish or subscribe, or keeps it from it, and whom it would concern: sessions, retained messages, bridges.
#[derive(Args)]
#[group(id = "wish", required = true, multiple = false, args = ["publish", "subscribe"])]
pub struct ExplainCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// Client id.
    #[arg(long, value_name = "ID")]
    client: String,
    /// User name. Default: the name by which the client is connected, or none.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where it comes from. Default: where it is connected from, or this machine.
    #[arg(long)]
    address: Option<IpAddr>,
    /// The listener it comes by, with its mount point and rules; of an MQTT-SN gateway with its list: `mqttsn/sn`. Default: the one that the client is connected by.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Ask about a publish to this topic.
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,
    /// Ask about a subscription to this filter.
    #[arg(long, value_name = "FILTER")]
    subscribe: Option<String>,
    /// At this QoS.
    #[arg(long, short, default_value_t = 0)]
    qos: u8,
    /// To be retained.
    #[arg(long, short)]
    retain: bool,
}

impl ExplainCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let mut asked = json!({
            "client": self.client,
            "user": self.user,
            "address": self.address,
            "listener": self.listener,
            "qos": self.qos,
            "retain": self.retain,
        });
        if let Some(topic) = &self.publish {
            asked["publish"] = topic.as_str().into();
        }
        if let Some(filter) = &self.subscribe {
            asked["subscribe"] = filter.as_str().into();
        }
        let explained = self.gateway.ask(Method::POST, "/api/v1/explain", Some(asked))?;
        let publishes = self.publish.is_some();
        self.gateway
            .answer(&explained, |explained| words(explained, publishes));
        Ok(())
    }
}

fn words(explained: &Value, publishes: bool) -> String {
    let list = |key: &str| {
        let items = explained[key].as_array().into_iter().flatten().map(text);
        items.collect::<Vec<_>>().join(", ")
    };
    let count = |key: &str| explained[key].as_u64().unwrap_or(0);
    let is_allowed = explained["allowed"] == true;
    let what = if publishes { "publish to" } else { "subscribe to" };
    let may = if is_allowed { "may" } else { "may not" };
    let user = match &explained["user"] {
        Value::String(user) => format!("user {}", visible(user)),
        _ => "without a user name".to_owned(),
    };
    let (client, address) = (text(&explained["client"]), text(&explained["address"]));
    let listener = match &explained["listener"] {
        Value::String(listener) => format!(", by listener {}", visible(listener)),
        _ => String::new(),
    };
    let mut lines = vec![format!(
        "{client} ({user}, from {address}{listener}) {may} {what} {}",
        text(&explained["topic"])
    )];
    lines.splice(0..0, who_it_is(explained));
    let at = text(&explained["at"]);
    let at = if at.is_empty() { at } else { format!(", {at}") };
    let by = text(&explained["by"]);
    lines.push(match by.starts_with("auth.") {
        true => format!("by {by}{at}"),
        false => format!("because: {by}"),
    });
    if !is_allowed {
        return lines.join("\n");
    }
    if publishes {
        let sessions = count("sessions");
        let named = list("first_sessions");
        lines.push(match sessions {
            0 => "no session would get it".to_owned(),
            1 => format!("one session would get it: {named}"),
            n => format!("{n} sessions would get it: {named}"),
        });
        if count("kept_from") > 0 {
            lines.push(format!("{} that match may not read it", count("kept_from")));
        }
        if count("shared_subscriptions") > 0 {
            lines.push(format!(
                "{} shared subscriptions would get one copy each",
                count("shared_subscriptions")
            ));
        }
        match explained["against_command"].as_str() {
            None => {}
            Some("") => lines.push("it would be taken as a command about updates".to_owned()),
            Some(why) => lines.push(format!(
                "as a command about updates it would be refused: {}",
                visible(why)
            )),
        }
        let bridges = list("bridges");
        if !bridges.is_empty() {
            lines.push(format!("bridges that would carry it: {bridges}"));
        }
        if !list("retained").is_empty() {
            lines.push("it would replace the retained message".to_owned());
        }
    } else {
        if explained["narrowed"] == true {
            lines.push("rules keep some of what matches from it: that is not delivered".to_owned());
        }
        let more = if explained["more_retained"] == true {
            ", and more"
        } else {
            ""
        };
        lines.push(match list("retained") {
            named if named.is_empty() => "nothing retained would be sent".to_owned(),
            named => format!("retained messages that would be sent: {named}{more}"),
        });
    }
    lines.join("\n")
}

/// What is to be said of the client before what it may do.
fn who_it_is(explained: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if explained["banned"].is_object() {
        let ban = &explained["banned"];
        let until = date(&ban["until"]).map_or_else(|| "for ever".to_owned(), |date| format!("until {date}"));
        let reason = match text(&ban["reason"]) {
            reason if reason.is_empty() => reason,
            reason => format!(": {reason}"),
        };
        let who = text(&bans::subject(ban).into());
        lines.push(format!(
            "banned, so it is not let in: {who}, {until}{reason}; the rest is what would hold without the ban"
        ));
    }
    if explained["client_is_known"] == false {
        let client = text(&explained["client"]);
        lines.push(format!(
            "nobody has the client id {client}: there is no session of it; the rest is what would hold for it"
        ));
    }
    let said = text(&explained["said_user"]);
    let user = text(&explained["user"]);
    let is_let_in = explained["not_let_in"].is_null();
    if is_let_in && explained["user_is_known"] == false {
        lines.push(format!(
            "nobody is known by the user name {said}: the client is let in as an anonymous one, for which no rule for a user name holds"
        ));
    } else if is_let_in && !said.is_empty() {
        lines.push(format!(
            "it says the user name {said}, and is let in as {user}: so say its client id or its address"
        ));
    }
    lines
}

/// Show the rules of publishing and subscribing, in the order in which they are asked.
#[derive(Args)]
pub struct AclCommand {
    #[command(flatten)]
    gateway: Gateway,
    /// Those of a listener. Default: those of listeners of which `auth.listeners` says nothing else.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
}

impl AclCommand {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let of = self
            .listener
            .as_deref()
            .map(|name| format!("?listener={}", escape(name)));
        let path = format!("/api/v1/acl{}", of.unwrap_or_default());
        let rules = self.gateway.ask(Method::GET, &path, None)?["rows"].take();
        self.gateway.answer(&rules, |rules| {
            let rules = rules.as_array().map(Vec::as_slice).unwrap_or_default();
            let rows = rules.iter().map(|rule| {
                let list = |key: &str| {
                    let items = rule[key].as_array()?.iter().map(text);
                    Some(items.collect::<Vec<_>>().join(", "))
                };
                let action = match rule["action"].as_str() {
                    Some("all") | None => "publish, subscribe".to_owned(),
                    Some(action) => action.to_owned(),
                };
                let qos = list("qos")
                    .filter(|qos| qos != "0, 1, 2")
                    .map(|qos| format!("QoS {qos}"));
                let retain = rule["retain"]
                    .as_bool()
                    .map(|retain| if retain { "retained" } else { "not retained" });
                let conditions = [qos, retain.map(str::to_owned)];
                [
                    text(&rule["rule"]),
                    text(&rule["effect"]),
                    action,
                    text(&rule["who"]),
                    list("topics").unwrap_or_else(|| "all topics".to_owned()),
                    conditions.into_iter().flatten().collect::<Vec<_>>().join(", "),
                ]
            });
            let table = columns(["RULE", "EFFECT", "ACTION", "WHO", "TOPICS", "ONLY"], rows);
            format!("{table}\nWhere none of them matches, the answer is no.")
        });
        Ok(())
    }
}
