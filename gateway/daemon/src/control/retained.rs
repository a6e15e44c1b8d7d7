//! Retained messages: listed by filter, shown, removed.

use super::clients::Part;
use super::server::{Answer, Control, Failure};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;
use base64::Engine as _;
use bytes::Bytes;
use headgate_model::{Admitted, Message, Topic, TopicFilter};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/api/v1/retained", get(list).delete(remove))
        .route("/api/v1/retained/message", get(show))
}

/// Which of them.
#[derive(Deserialize)]
struct Wanted {
    filter: String,
}

fn wrong(text: &str, error: impl std::fmt::Display) -> Failure {
    Failure(StatusCode::UNPROCESSABLE_ENTITY, format!("`{text}`: {error}"))
}

async fn list(
    State(control): State<Control>,
    Query(Wanted { filter }): Query<Wanted>,
    Query(part): Query<Part>,
) -> Answer {
    let parsed = TopicFilter::try_from(filter.as_str()).map_err(|error| wrong(&filter, error))?;
    let after = part
        .after
        .as_deref()
        .map(|after| Topic::try_from(after).map_err(|error| wrong(after, error)));
    let page = control
        .hub
        .retained(&parsed, after.transpose()?.as_ref(), part.limit());
    let row = |message: &Arc<Message>| {
        json!({
            "topic": message.topic.as_str(),
            "qos": message.qos as u8,
            "bytes": message.payload.len(),
            "expires_in_seconds": message.expires_at.map(|at| at.since(control.hub.clock().now()).as_secs()),
        })
    };
    let rows: Vec<Value> = page.rows.iter().map(row).collect();
    Ok(Json(
        json!({ "rows": rows, "next": page.next.as_ref().map(Topic::as_str) }),
    ))
}

/// One of them.
#[derive(Deserialize)]
struct Named {
    topic: String,
}

async fn show(State(control): State<Control>, Query(Named { topic }): Query<Named>) -> Answer {
    let message = retained(&control, &topic)?;
    let base64 = base64::engine::general_purpose::STANDARD.encode(&message.payload);
    Ok(Json(json!({
        "topic": message.topic.as_str(),
        "qos": message.qos as u8,
        "payload": std::str::from_utf8(&message.payload).ok(),
        "payload_base64": base64,
    })))
}

fn retained(control: &Control, topic: &str) -> Result<Arc<Message>, Failure> {
    let filter = TopicFilter::try_from(topic).map_err(|error| wrong(topic, error))?;
    let page = control.hub.retained(&filter, None, 1);
    let found = page
        .rows
        .into_iter()
        .find(|message| message.topic.as_str() == topic);
    found.ok_or_else(|| {
        let what = format!("nothing is retained under `{topic}`");
        Failure(StatusCode::NOT_FOUND, what)
    })
}

/// As a client does it: by an empty message that is retained. MQTT 5 §3.3.1.3. It is gone for good when this is answered.
async fn remove(State(control): State<Control>, Query(Named { topic }): Query<Named>) -> Answer {
    let known = retained(&control, &topic)?;
    let message = Message {
        retain: true,
        ..Message::new(known.topic.clone(), Bytes::new())
    };
    let removed = control.hub.publish(Admitted::of_gateway(message)).await;
    removed.map_err(|refusal| Failure(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()))?;
    tracing::info!(topic, "retained message removed by an operator");
    Ok(Json(json!({ "removed": topic })))
}
