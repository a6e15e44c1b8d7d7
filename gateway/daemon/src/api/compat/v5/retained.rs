//! Retained messages: listed, shown, removed.

use super::{Answer, Told, Untold, bad_request, page, span};
use crate::api::compat::pages::{Span, walk};
use crate::api::compat::table::Call;
use crate::api::publish::Unpublished;
use crate::api::routes::Changed;
use crate::api::server::{Control, Failure};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headgate_bus::MAX_PAGE;
use headgate_model::{Admitted, Message, Topic, TopicFilter};
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
    let mut row = row(message);
    if message.payload.len() <= MAX_PAYLOAD {
        row["payload"] = STANDARD.encode(&message.payload).into();
    }
    Ok(Told::Json(row))
}

/// As a client does it: by empty messages that are retained. MQTT 5 §3.3.1.3. They are gone for good when this is answered. How many.
async fn remove_all(control: &Control, filter: &TopicFilter) -> Result<usize, Untold> {
    let (mut removed, mut after) = (0, None);
    loop {
        let page = control.hub.retained(filter, after.as_ref(), MAX_PAGE);
        let empty = page.rows.iter().map(|known| {
            Admitted::of_gateway(Message {
                retain: true,
                ..Message::new(known.topic.clone(), Bytes::new())
            })
        });
        let empty: Vec<_> = empty.collect();
        removed += empty.len();
        for published in control.hub.publish_each(empty).await {
            let refused = published.map_err(Unpublished::Refused);
            refused.map_err(Failure::from)?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(removed);
        }
    }
}

pub(super) async fn remove(call: Call) -> Result<Changed<Told>, Untold> {
    let filter = filter_of(&call.path[0])?;
    let removed = remove_all(&call.control, &filter).await?;
    if removed == 0 {
        return Err(not_there());
    }
    tracing::info!(filter = %filter.as_str(), removed, "retained messages removed by an operator");
    Ok(Changed::new(
        Told::Done,
        Some(json!({ "messages": removed })),
        None::<()>,
    ))
}

pub(super) async fn clear(call: Call) -> Result<Changed<Told>, Untold> {
    let removed = remove_all(&call.control, &filter_of("#")?).await?;
    tracing::info!(removed, "all retained messages removed by an operator");
    Ok(Changed::new(
        Told::Done,
        Some(json!({ "messages": removed })),
        None::<()>,
    ))
}
