//! Who is kept out. EMQX 4 lets a ban end after five minutes unless it is told otherwise.

use super::{Answer, Code, Told, Untold, body, page, span};
use crate::api::compat::bans::{names_of, row_of, who_of};
use crate::api::compat::table::Call;
use crate::api::routes::Changed;
use crate::sys::unix_time;
use headgate_auth::Ban;
use serde_json::{Value, json};
use std::time::Duration;

/// So long a ban lasts that says nothing of it.
const LASTS: u64 = 300;

fn wrong_kind() -> Untold {
    let what = "value of 'as' must be one of: ['clientid', 'username', 'peerhost']";
    Untold::code(Code::Types, what)
}

/// With numbers for times.
fn row(ban: &Ban) -> Value {
    row_of(ban, |seconds| seconds.into())
}

pub(super) async fn list(call: Call) -> Answer {
    let bans = call.control.access.bans();
    let (span, count) = (span(&call)?, bans.len());
    let found = span.of(bans).filter_map(|ban| Some(row(&ban)));
    page(span, Some(count), found)
}

pub(super) async fn create(call: Call) -> Result<Changed<Told>, Untold> {
    let wanted = body(&call)?;
    let text = |name: &str| wanted.get(name).and_then(Value::as_str);
    let (Some(kind), Some(name)) = (text("as"), text("who")) else {
        return Err(Untold::code(
            Code::Missing,
            "missing mandatory params: ['who', 'as']",
        ));
    };
    let who = who_of(kind, name).ok_or_else(wrong_kind)?;
    let now = unix_time();
    let until = wanted.get("until").and_then(Value::as_u64);
    let lasts = until.map_or(LASTS, |until| until.saturating_sub(now));
    let reason = text("reason").unwrap_or_default().to_owned();
    let ban = Ban::by_operator(who, reason, Some(Duration::from_secs(lasts)));
    call.control
        .ban(ban.clone())
        .map_err(|error| Untold::code(Code::Unknown, error.to_string()))?;
    Ok(Changed::new(Told::Data(wanted), None::<()>, Some(ban)))
}

/// Also where there is no such ban.
pub(super) async fn remove(call: Call) -> Result<Changed<Told>, Untold> {
    let who = who_of(&call.path[0], &call.path[1]).ok_or_else(wrong_kind)?;
    let was_banned = call.control.access.unban(&who);
    let was_banned = was_banned.map_err(|error| Untold::code(Code::Unknown, error.to_string()))?;
    let (kind, name) = names_of(&who);
    let before = was_banned.then(|| json!({ "as": kind, "who": name }));
    Ok(Changed::new(Told::Done, before, None::<()>))
}
