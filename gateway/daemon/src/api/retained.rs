//! Retained messages: listed by filter, shown, removed.

use super::clients::{Part, Rows};
use super::guard::Asking;
use super::routes::{Changed, Routes};
use super::server::{Answer, Control, Failure};
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use base64::Engine as _;
use bytes::Bytes;
use headgate_admin::Role::{Operator, Viewer};
use headgate_model::{Admitted, Message, Topic, TopicFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/retained",
            "Lists retained messages that a filter matches.",
            list,
        )
        .delete(Operator, "/retained", "Removes a retained message.", remove)
        .get(Viewer, "/retained/message", "Shows a retained message.", show)
}

/// Which of them.
#[derive(Deserialize, JsonSchema)]
struct WantedRetained {
    filter: String,
}

fn wrong(text: &str, error: impl std::fmt::Display) -> Failure {
    Failure(StatusCode::UNPROCESSABLE_ENTITY, format!("`{text}`: {error}"))
}

/// A retained message, without its payload.
#[derive(Serialize, JsonSchema)]
struct RetainedRow {
    topic: String,
    qos: u8,
    /// Of its payload.
    bytes: usize,
    expires_in_seconds: Option<u64>,
}

async fn list(
    State(control): State<Control>,
    Query(WantedRetained { filter }): Query<WantedRetained>,
    Query(part): Query<Part>,
) -> Answer<Rows<RetainedRow>> {
    let parsed = TopicFilter::try_from(filter.as_str()).map_err(|error| wrong(&filter, error))?;
    let after = part
        .after
        .as_deref()
        .map(|after| Topic::try_from(after).map_err(|error| wrong(after, error)));
    let page = control
        .hub
        .retained(&parsed, after.transpose()?.as_ref(), part.limit());
    let row = |message: &Arc<Message>| RetainedRow {
        topic: message.topic.to_string(),
        qos: message.qos as u8,
        bytes: message.payload.len(),
        expires_in_seconds: message
            .expires_at
            .map(|at| at.since(control.hub.clock().now()).as_secs()),
    };
    Ok(Json(Rows {
        rows: page.rows.iter().map(row).collect(),
        next: page.next.as_ref().map(ToString::to_string),
    }))
}

/// One of them.
#[derive(Deserialize, JsonSchema)]
struct Named {
    topic: String,
}

/// A retained message.
#[derive(Serialize, JsonSchema)]
struct RetainedView {
    topic: String,
    qos: u8,
    /// `null` if it is no text.
    payload: Option<String>,
    payload_base64: String,
    content_type: Option<String>,
    user_properties: Vec<(String, String)>,
}

async fn show(
    State(control): State<Control>,
    Extension(asking): Extension<Asking>,
    Query(Named { topic }): Query<Named>,
) -> Answer<RetainedView> {
    if !control.policy_of(&asking).may_read(topic.as_bytes()) {
        let what = format!("the access rules keep `{topic}` from `{}`", asking.who.name);
        return Err(Failure(StatusCode::FORBIDDEN, what));
    }
    let message = retained(&control, &topic)?;
    let base64 = base64::engine::general_purpose::STANDARD.encode(&message.payload);
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let properties = message.properties.as_deref();
    Ok(Json(RetainedView {
        topic: message.topic.to_string(),
        qos: message.qos as u8,
        payload: std::str::from_utf8(&message.payload).ok().map(str::to_owned),
        payload_base64: base64,
        content_type: properties.and_then(|all| all.content_type.as_ref().map(text)),
        user_properties: properties
            .into_iter()
            .flat_map(|all| &all.user_properties)
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
    }))
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
async fn remove(
    State(control): State<Control>,
    Query(Named { topic }): Query<Named>,
) -> Result<Changed<Json<RemovedTopic>>, Failure> {
    let known = retained(&control, &topic)?;
    let message = Message {
        retain: true,
        ..Message::new(known.topic.clone(), Bytes::new())
    };
    let removed = control.hub.publish(Admitted::of_gateway(message)).await;
    removed.map_err(|refusal| Failure(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()))?;
    tracing::info!(topic, "retained message removed by an operator");
    let before = serde_json::json!({ "topic": topic, "bytes": known.payload.len() });
    let removed = Json(RemovedTopic { removed: topic });
    Ok(Changed::new(removed, Some(before), None::<()>))
}

/// Whose message is gone.
#[derive(Serialize, JsonSchema)]
struct RemovedTopic {
    removed: String,
}
