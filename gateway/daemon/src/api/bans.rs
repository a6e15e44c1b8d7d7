//! Who is kept out.

use super::routes::{Changed, Routes};
use super::server::{Control, Failure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use headgate_access::Network;
use headgate_admin::Role::{Operator, Viewer};
use headgate_auth::{Ban, BanError, Banned};
use headgate_bus::MAX_PAGE;
use headgate_model::bus::PeerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A hundred years.
const MOST_SECONDS: u64 = 36_525 * 86_400;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(Viewer, "/bans", "Lists who is kept out.", list)
        .post(
            Operator,
            "/bans",
            "Keeps somebody out, and disconnects who is meant.",
            ban,
        )
        .delete(Operator, "/bans", "Lets somebody in again.", unban)
}

impl Control {
    /// Keeps somebody out from now on, and throws out who is meant. How many.
    pub(super) fn ban(&self, ban: Ban) -> Result<usize, BanError> {
        self.access.ban(ban.clone())?;
        let kicked = self.kick_banned(&ban.who);
        tracing::info!(who = ?ban.who, reason = ban.reason, until = ban.until, kicked, "banned by an operator");
        Ok(kicked)
    }

    /// Throws out who is banned now. How many.
    fn kick_banned(&self, who: &Banned) -> usize {
        if let Banned::Client(id) = who {
            return super::clients::throw_out(self, id);
        }
        let mut kicked = 0;
        let mut after = None;
        loop {
            let page = self.hub.clients(after.as_deref(), MAX_PAGE);
            for row in &page.rows {
                let is_meant = match who {
                    Banned::Client(id) => row.client.as_str() == id,
                    Banned::User(name) => row.presence.username.as_deref() == Some(name),
                    Banned::Address(network) => {
                        matches!(row.presence.peer, PeerName::Ip(address) if network.contains(address))
                    }
                };
                kicked += usize::from(is_meant && self.hub.kick(row.client.as_str()));
            }
            match page.next {
                Some(next) => after = Some(next.as_str().to_owned()),
                None => return kicked,
            }
        }
    }
}

async fn list(State(control): State<Control>) -> Json<Vec<Ban>> {
    Json(control.access.bans())
}

/// Who is to be kept out, and how long.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToBan {
    /// One of these three: who has this client id,
    client: Option<String>,
    /// who goes by this user name,
    user: Option<String>,
    /// or who comes from this address or network.
    address: Option<Network>,
    #[serde(default)]
    reason: String,
    /// Left out: for ever.
    seconds: Option<u64>,
}

/// The ban, and how many were disconnected.
#[derive(Serialize, JsonSchema)]
struct NewBan {
    ban: Ban,
    kicked: usize,
}

async fn ban(
    State(control): State<Control>,
    Json(wanted): Json<ToBan>,
) -> Result<Changed<Json<NewBan>>, Failure> {
    if wanted.seconds.is_some_and(|seconds| seconds > MOST_SECONDS) {
        let what =
            format!("`seconds` is out of range, allowed is up to {MOST_SECONDS}; left out, it is for ever");
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    let lasts = wanted.seconds.map(Duration::from_secs);
    let who = match (wanted.client, wanted.user, wanted.address) {
        (Some(id), None, None) => Banned::Client(id),
        (None, Some(name), None) => Banned::User(name),
        (None, None, Some(network)) => Banned::Address(network),
        _ => {
            let what = "one of `client`, `user` and `address` says who is meant";
            return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what.into()));
        }
    };
    let ban = Ban::by_operator(who, wanted.reason, lasts);
    let kicked = control.ban(ban.clone())?;
    let after = Some(ban.clone());
    Ok(Changed::new(Json(NewBan { ban, kicked }), None::<()>, after))
}

/// Whether there was such a ban.
#[derive(Serialize, JsonSchema)]
struct Unbanned {
    was_banned: bool,
}

async fn unban(
    State(control): State<Control>,
    Json(who): Json<Banned>,
) -> Result<Changed<Json<Unbanned>>, Failure> {
    let was_banned = control.access.unban(&who)?;
    if was_banned {
        tracing::info!(?who, "a ban was lifted");
    }
    let before = was_banned.then_some(who);
    Ok(Changed::new(Json(Unbanned { was_banned }), before, None::<()>))
}
