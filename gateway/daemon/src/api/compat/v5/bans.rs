//! Who is kept out; for ever unless it is told otherwise.

use super::{Told, Untold, bad_request, body, page, span, text};
use crate::api::compat::bans::{names_of, row_of, who_of};
use crate::api::compat::table::Call;
use crate::api::routes::Changed;
use crate::log::LAST_DATE;
use crate::sys::unix_time;
use axum::http::StatusCode;
use headgate_auth::Ban;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// `2021-10-25T21:48:47+08:00`, or with `Z`. RFC 3339
pub(super) fn unix_seconds(text: &str) -> Option<u64> {
    // What stands in a query may have lost its plus.
    let text = text.replace(' ', "+");
    let zone_at = text
        .rfind(['+', '-', 'Z', 'z'])
        .filter(|at| *at >= "2021-10-25T21:48:47".len())?;
    let (local, zone) = text.split_at(zone_at);
    let local = humantime::parse_rfc3339_weak(local).ok()?;
    let local = local.duration_since(UNIX_EPOCH).ok()?.as_secs();
    if zone.eq_ignore_ascii_case("z") {
        return Some(local);
    }
    let (hours, minutes) = zone[1..].split_once(':')?;
    let hours = hours.parse::<u64>().ok().filter(|hours| *hours < 24)?;
    let minutes = minutes.parse::<u64>().ok().filter(|minutes| *minutes < 60)?;
    let offset = hours * 3_600 + minutes * 60;
    match zone.starts_with('+') {
        true => local.checked_sub(offset),
        false => local.checked_add(offset),
    }
}

/// `2021-10-25T21:48:47+00:00`
fn time(seconds: u64) -> Value {
    let since_1970 = Duration::from_secs(seconds).min(LAST_DATE);
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970);
    time.to_string().replace('Z', "+00:00").into()
}

fn row(ban: &Ban) -> Value {
    row_of(ban, time)
}

/// One filter at a time, as EMQX has it: what it is, or a part of it.
pub(super) async fn list(call: Call) -> Result<Told, Untold> {
    let span = span(&call)?;
    let kinds = ["clientid", "username", "peerhost", "peerhost_net"];
    let exact = kinds
        .iter()
        .filter_map(|kind| Some((*kind, call.query.get(kind)?, true)));
    let parts = kinds
        .iter()
        .filter_map(|kind| Some((*kind, call.query.get(&format!("like_{kind}"))?, false)));
    let filters: Vec<_> = exact.chain(parts).collect();
    if filters.len() > 1 {
        return Err(bad_request("too_many_filters"));
    }
    let wants = |ban: &Ban| {
        let (kind, who) = names_of(&ban.who);
        filters.iter().all(|(wanted, name, exact)| {
            *wanted == kind && if *exact { *name == who } else { who.contains(name) }
        })
    };
    let bans: Vec<Value> = call
        .control
        .access
        .bans()
        .iter()
        .filter(|ban| wants(ban))
        .map(row)
        .collect();
    let count = bans.len();
    page(span, Some(count), span.of(bans))
}

/// A time in seconds, or as text; `None` for ever.
fn until(wanted: &Value) -> Result<Option<u64>, Untold> {
    match wanted.get("until") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "infinity" => Ok(None),
        Some(Value::String(text)) => {
            let seconds = unix_seconds(text);
            seconds
                .map(Some)
                .ok_or_else(|| bad_request("until: a time is expected"))
        }
        Some(value) => {
            let seconds = value.as_u64();
            seconds
                .map(Some)
                .ok_or_else(|| bad_request("until: a time is expected"))
        }
    }
}

pub(super) async fn create(call: Call) -> Result<Changed<Told>, Untold> {
    let wanted = body(&call)?;
    let (kind, name) = (text(&wanted, "as")?, text(&wanted, "who")?);
    let who = who_of(kind, name).ok_or_else(|| {
        bad_request("as, who: clientid, username, peerhost or peerhost_net, and what it is called")
    })?;
    let (now, until) = (unix_time(), until(&wanted)?);
    if let Some(until) = until.filter(|until| *until <= now) {
        let message = format!("Cannot create expired banned, {now} to {until}");
        return Err(bad_request(message));
    }
    if let Some(known) = call.control.access.bans().iter().find(|ban| ban.who == who) {
        let message = row(known).to_string();
        return Err(Untold(StatusCode::BAD_REQUEST, "ALREADY_EXISTS", message));
    }
    let reason = wanted.get("reason").and_then(Value::as_str).unwrap_or_default();
    let lasts = until.map(|until| Duration::from_secs(until - now));
    let ban = Ban::by_operator(who, reason.to_owned(), lasts);
    call.control
        .ban(ban.clone())
        .map_err(|error| bad_request(error.to_string()))?;
    Ok(Changed::new(Told::Json(row(&ban)), None::<()>, Some(ban)))
}

pub(super) async fn remove(call: Call) -> Result<Changed<Told>, Untold> {
    let (kind, name) = (&call.path[0], &call.path[1]);
    let was_banned = match who_of(kind, name) {
        None => false,
        Some(who) => call
            .control
            .access
            .unban(&who)
            .map_err(|error| bad_request(error.to_string()))?,
    };
    match was_banned {
        false => {
            let message = format!("{kind}: {name} not found");
            Err(Untold(StatusCode::NOT_FOUND, "NOT_FOUND", message))
        }
        true => {
            let before = json!({ "as": kind, "who": name });
            Ok(Changed::new(Told::Done, Some(before), None::<()>))
        }
    }
}

pub(super) async fn clear(call: Call) -> Result<Changed<Told>, Untold> {
    let bans = call.control.access.bans();
    for ban in &bans {
        let ended = call.control.access.unban(&ban.who);
        ended.map_err(|error| bad_request(error.to_string()))?;
    }
    let before = json!({ "bans": bans.len() });
    Ok(Changed::new(Told::Done, Some(before), None::<()>))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_zones() {
        assert_eq!(unix_seconds("2021-10-25T21:48:47+08:00"), Some(1_635_169_727));
        assert_eq!(unix_seconds("2021-10-25T13:48:47Z"), Some(1_635_169_727));
        assert_eq!(unix_seconds("2021-10-25T13:48:47.000-00:00"), Some(1_635_169_727));
        assert_eq!(unix_seconds("2021-10-25"), None);
        assert_eq!(time(1_635_169_727), "2021-10-25T13:48:47+00:00");
    }
}
