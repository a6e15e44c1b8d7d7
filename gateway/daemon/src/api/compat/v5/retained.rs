//! Retained messages: listed, shown, removed.

use super::{Answer, Told, Untold, bad_request, page, span};
use crate::api::compat::deeds;
use crate::api::compat::pages::{Span, walk};
use crate::api::compat::table::Call;
use crate::api::routes::Changed;
use crate::api::server::Failure;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_model::{Message, Topic, TopicFilter};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of a payload that is shown.
const MAX_PAYLOAD: usize = 1 << 20;

fn row(message: &Message) -> Value {
    json!({ "topic": message.topic.as_str(), "qos": message.qos as u8 })
}

fn filter_of(text: &str) -> Result<TopicFilter, Untold> {
    TopicFilter::try_from(text).map_err(|error| bad_request(error.to_string()))
}

/// Those that a filter matches; all, if there is none. Of those below `$SYS/`, only what is asked for by that name.
pub(super) async fn list(call: Call) -> Answer {
    let (span, control, wanted) = (span(&call)?, &call.control, call.query.get("topic"));
    let filter = filter_of(wanted.unwrap_or("#"))?;
    let rows = |after: Option<&Topic>, limit| control.hub.retained(&filter, after, limit);
    let found = walk(span, rows, |message: Arc<Message>| Some(row(&message))).await;
    let count = wanted.is_none().then(|| control.hub.stats().retained);
    page(span, count, found)
}

fn not_there() -> Untold {
    let message = "Viewed message doesn't exist";
    Untold(StatusCode::NOT_FOUND, "NOT_FOUND", message.into())
}

/// The first that a filter matches.
pub(super) async fn one(call: Call) -> Answer {
    let filter = filter_of(&call.path[0])?;
    let first = Span { page: 1, limit: 1 };
    let rows = |after: Option<&Topic>, limit| call.control.hub.retained(&filter, after, limit);
    let found = walk(first, rows, Some).await;
    let message = found.rows.first().ok_or_else(not_there)?;
    let policy = call.control.policy_of(call.asking());
    if !policy.may_read(message.topic.as_bytes()) {
        return Err(not_there());
    }
    let mut row = row(message);
    if message.payload.len() <= MAX_PAYLOAD {
        row["payload"] = STANDARD.encode(&message.payload).into();
    }
    Ok(Told::Json(row))
}

async fn removed(call: &Call, filter: &str) -> Result<usize, Untold> {
    let removed = deeds::remove_retained(&call.control, &filter_of(filter)?).await;
    Ok(removed.map_err(Failure::from)?)
}

pub(super) async fn remove(call: Call) -> Result<Changed<Told>, Untold> {
    let removed = removed(&call, &call.path[0]).await?;
    if removed == 0 {
        return Err(not_there());
    }
    Ok(Changed::new(
        Told::Done,
        Some(json!({ "messages": removed })),
        None::<()>,
    ))
}

pub(super) async fn clear(call: Call) -> Result<Changed<Told>, Untold> {
    let removed = removed(&call, "#").await?;
    Ok(Changed::new(
        Told::Done,
        Some(json!({ "messages": removed })),
        None::<()>,
    ))
}
