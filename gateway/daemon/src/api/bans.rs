//! Who is kept out.

use super::routes::{Changed, Routes};
use super::server::{Control, Failure};
use axum::extract::State;
use axum::response::Json;
use headgate_admin::Role::{Operator, Viewer};
use headgate_auth::{Ban, BanError, Banned};
use headgate_bus::MAX_PAGE;
use headgate_model::bus::PeerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
struct ToBan {
    #[serde(flatten)]
    who: Banned,
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
    let lasts = wanted.seconds.map(Duration::from_secs);
    let ban = Ban::by_operator(wanted.who, wanted.reason, lasts);
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
