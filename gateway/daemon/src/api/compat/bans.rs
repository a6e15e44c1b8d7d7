//! Bans in the words of EMQX 4 and 5: `clientid`, `username` or `peerhost`; EMQX 5 has `peerhost_net` for networks, too.

use headgate_auth::{Ban, Banned, BannedBy};
use serde_json::{Value, json};

/// Who is meant; `None` for what is no kind here, or no address.
pub(super) fn who_of(kind: &str, name: &str) -> Option<Banned> {
    match kind {
        "clientid" => Some(Banned::Client(name.to_owned())),
        "username" => Some(Banned::User(name.to_owned())),
        "peerhost" => name
            .parse::<std::net::IpAddr>()
            .ok()?
            .to_string()
            .parse()
            .ok()
            .map(Banned::Address),
        "peerhost_net" => name.parse().ok().map(Banned::Address),
        _ => None,
    }
}

/// The kind, and the name.
pub(super) fn names_of(who: &Banned) -> (&'static str, String) {
    match who {
        Banned::Client(id) => ("clientid", id.clone()),
        Banned::User(name) => ("username", name.clone()),
        Banned::Address(network) => {
            let text = network.to_string();
            // A network of one address is that address.
            match text.split_once('/') {
                Some((address, "32")) if !address.contains(':') => ("peerhost", address.to_owned()),
                Some((address, "128")) => ("peerhost", address.to_owned()),
                _ => ("peerhost_net", text),
            }
        }
    }
}

/// A ban, with its times as they are written there.
pub(super) fn row_of(ban: &Ban, time: impl Fn(u64) -> Value) -> Value {
    let (kind, who) = names_of(&ban.who);
    let by = match ban.by {
        BannedBy::Operator => "mgmt_api",
        BannedBy::Failures => "failures",
        BannedBy::Flapping => "flapping",
    };
    json!({
        "as": kind,
        "who": who,
        "by": by,
        "reason": ban.reason,
        "at": time(ban.since),
        "until": ban.until.map_or(json!("infinity"), time),
    })
}
