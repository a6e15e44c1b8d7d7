//! Messages, and subscriptions on behalf of clients; each also as a batch, whose entries stand for themselves: what is wrong with one keeps no other back.

use super::{Answer, Code, Told, Untold, body};
use crate::api::compat::deeds;
use crate::api::compat::table::Call;
use crate::api::compat::told::subscription;
use crate::api::publish::{Author, Letter, Unpublished};
use crate::api::server::Control;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headgate_model::message::Properties;
use headgate_model::{Admitted, Message, Qos, SubscriptionOptions, Topic, TopicFilter};
use serde_json::{Value, json};

fn bad_params() -> Untold {
    Untold::code(Code::Types, "bad_params")
}

fn bad_topic() -> Untold {
    Untold::code(Code::BadTopic, "bad_topic")
}

fn bad_client() -> Untold {
    Untold::code(Code::Types, "bad clientid: must be string")
}

impl From<Unpublished> for Untold {
    fn from(error: Unpublished) -> Self {
        match &error {
            Unpublished::Topic(..) | Unpublished::Name(..) => bad_topic(),
            Unpublished::Qos(..) => Self::code(Code::BadQos, "bad_qos"),
            Unpublished::Property(_) | Unpublished::ResponseTopic(..) => bad_params(),
            Unpublished::TooFast(_) | Unpublished::Refused(_)
                if error.status() != StatusCode::UNPROCESSABLE_ENTITY =>
            {
                Self::Status(error.status(), error.to_string())
            }
            _ => Self::code(Code::Unknown, error.to_string()),
        }
    }
}

/// `topic`, or else `topics`: both may name several, with commas between them.
fn names(entry: &Value) -> Result<Vec<&str>, Untold> {
    let text = entry.get("topic").or_else(|| entry.get("topics"));
    let text = text.map_or(Some(""), Value::as_str).ok_or_else(bad_params)?;
    Ok(text.split(',').collect())
}

/// What an entry of a batch names in its answer.
fn named(entry: &Value) -> Value {
    let text = entry.get("topic").or_else(|| entry.get("topics"));
    text.cloned().unwrap_or_else(|| json!(""))
}

/// Text, base64, or JSON as it is.
fn payload(entry: &Value) -> Result<Bytes, Untold> {
    let encoding = entry.get("encoding").and_then(Value::as_str);
    match entry.get("payload") {
        None => Ok(Bytes::new()),
        Some(Value::String(text)) if encoding == Some("base64") => {
            STANDARD.decode(text).map(Bytes::from).map_err(|_| bad_params())
        }
        Some(Value::String(text)) => Ok(text.clone().into()),
        Some(other) => Ok(other.to_string().into()),
    }
}

/// Those that are named `properties`, and the user properties beside them of older clients.
fn properties(entry: &Value) -> Result<(Option<u32>, Properties), Untold> {
    let mut properties = Properties::default();
    let mut expiry = None;
    let text = |value: &Value| value.as_str().map(|text| Bytes::from(text.to_owned()));
    let given = entry.get("properties").and_then(Value::as_object);
    let mut users = vec![entry.get("user_properties")];
    for (name, value) in given.into_iter().flatten() {
        match name.as_str() {
            "payload_format_indicator" => properties.payload_is_utf8 = Some(value == 1),
            "message_expiry_interval" => {
                let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
                expiry = Some(seconds.ok_or_else(bad_params)?);
            }
            "response_topic" => properties.response_topic = Some(text(value).ok_or_else(bad_params)?),
            "correlation_data" => properties.correlation_data = Some(text(value).ok_or_else(bad_params)?),
            "content_type" => properties.content_type = Some(text(value).ok_or_else(bad_params)?),
            "user_properties" => users.push(Some(value)),
            _ => return Err(bad_params()),
        }
    }
    for user in users.into_iter().flatten() {
        for (name, value) in user.as_object().ok_or_else(bad_params)? {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(bad_params()),
            };
            properties
                .user_properties
                .push((name.clone().into(), value.into()));
        }
    }
    Ok((expiry, properties))
}

/// The messages of an entry. Topics that are none are left out, as EMQX does; where none is left, it is an error.
async fn admitted(call: &Call, entry: &Value) -> Result<Vec<Admitted<Message>>, Untold> {
    let topics = names(entry)?;
    let payload = payload(entry)?;
    let (expiry_seconds, properties) = properties(entry)?;
    let qos = entry
        .get("qos")
        .map_or(Some(0), Value::as_u64)
        .ok_or_else(bad_params)?;
    let retain = entry
        .get("retain")
        .map_or(Some(false), Value::as_bool)
        .ok_or_else(bad_params)?;
    let client = match entry.get("clientid") {
        None => None,
        Some(client) => Some(client.as_str().ok_or_else(bad_client)?),
    };
    let author = Author::of(&call.control, call.asking(), call.info.as_deref(), client)?;
    let mut messages = Vec::new();
    for topic in topics.into_iter().filter(|topic| Topic::try_from(*topic).is_ok()) {
        let letter = Letter {
            topic: topic.to_owned(),
            payload: payload.clone(),
            qos,
            retain,
            expiry_seconds,
            properties: properties.clone(),
        };
        messages.push(author.admit(&call.control, letter).await?);
    }
    match messages.is_empty() {
        true => Err(bad_topic()),
        false => Ok(messages),
    }
}

async fn publish_one(call: &Call, entry: &Value) -> Result<(), Untold> {
    let messages = admitted(call, entry).await?;
    for published in call.control.hub.publish_each(messages).await {
        published.map_err(Unpublished::Refused)?;
    }
    Ok(())
}

pub(super) async fn publish(call: Call) -> Answer {
    publish_one(&call, &body(&call)?).await?;
    Ok(Told::Done)
}

/// The entries of a batch.
fn entries(body: Value) -> Result<Vec<Value>, Untold> {
    match body {
        Value::Array(entries) => Ok(entries),
        _ => Err(Untold::BadRequest),
    }
}

/// All are admitted before the first is published, so that one commit may serve them all.
pub(super) async fn publish_batch(call: Call) -> Answer {
    let entries = entries(body(&call)?)?;
    let (mut messages, mut lengths) = (Vec::new(), Vec::new());
    for entry in &entries {
        let admitted = admitted(&call, entry).await.map(|admitted| {
            let length = admitted.len();
            messages.extend(admitted);
            length
        });
        lengths.push(admitted);
    }
    let mut published = call.control.hub.publish_each(messages).await.into_iter();
    let row = |(entry, length): (&Value, Result<usize, Untold>)| {
        let published = length.and_then(|length| {
            let all: Result<Vec<_>, _> = published.by_ref().take(length).collect();
            all.map_err(|refusal| Unpublished::Refused(refusal).into())
        });
        match published {
            Ok(_) => json!({ "topic": named(entry), "code": 0 }),
            // EMQX names no topic there.
            Err(Untold::Code(Code::Types, message)) => {
                json!({ "code": Code::Types as u8, "message": message })
            }
            Err(untold) => json!({ "topic": named(entry), "code": untold.number() }),
        }
    };
    Ok(Told::Data(entries.iter().zip(lengths).map(row).collect()))
}

fn subscribe_one(control: &Control, entry: &Value) -> Result<(), Untold> {
    let client = entry
        .get("clientid")
        .and_then(Value::as_str)
        .ok_or_else(bad_client)?;
    let is_filter = |filter: &&str| TopicFilter::try_from(*filter).is_ok();
    let filters: Vec<&str> = names(entry)?.into_iter().filter(is_filter).collect();
    if filters.is_empty() {
        return Err(bad_topic());
    }
    let qos = entry.get("qos").map_or(Some(0), Value::as_u64);
    let qos = qos.and_then(|qos| Qos::from_u8(u8::try_from(qos).ok()?));
    let qos = qos.ok_or_else(|| Untold::code(Code::BadQos, "bad_qos"))?;
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    for filter in filters {
        let wanted = subscription(filter, options).map_err(|_| bad_topic())?;
        let granted = deeds::subscribe(control, client, wanted);
        let granted = granted.ok_or_else(|| Untold::code(Code::Offline, "channel_not_found"))?;
        granted.map_err(|refusal| Untold::code(Code::Unknown, refusal.to_string()))?;
    }
    Ok(())
}

/// Also where there is no such subscription.
fn unsubscribe_one(control: &Control, entry: &Value) -> Result<(), Untold> {
    let client = entry
        .get("clientid")
        .and_then(Value::as_str)
        .ok_or_else(bad_client)?;
    let filter = entry.get("topic").and_then(Value::as_str).ok_or_else(bad_topic)?;
    let wanted = subscription(filter, SubscriptionOptions::default()).map_err(|_| bad_topic())?;
    let existed = deeds::unsubscribe(control, client, wanted);
    existed.ok_or_else(|| Untold::code(Code::Offline, "channel_not_found"))?;
    Ok(())
}

type ForOne = fn(&Control, &Value) -> Result<(), Untold>;

fn for_each(call: &Call, of_one: ForOne) -> Answer {
    let entries = entries(body(call)?)?;
    let row = |entry: &Value| {
        let code = of_one(&call.control, entry).map_or_else(|untold| untold.number(), |()| 0);
        json!({ "clientid": entry.get("clientid"), "topic": named(entry), "code": code })
    };
    Ok(Told::Data(entries.iter().map(row).collect()))
}

pub(super) async fn subscribe(call: Call) -> Answer {
    subscribe_one(&call.control, &body(&call)?)?;
    Ok(Told::Done)
}

pub(super) async fn subscribe_batch(call: Call) -> Answer {
    for_each(&call, subscribe_one)
}

pub(super) async fn unsubscribe(call: Call) -> Answer {
    unsubscribe_one(&call.control, &body(&call)?)?;
    Ok(Told::Done)
}

pub(super) async fn unsubscribe_batch(call: Call) -> Answer {
    for_each(&call, unsubscribe_one)
}
