//! Messages. 200: somebody has it, or will when its delay is over; 202: nobody wants it, though it may be retained. Both after it is as safe as a PUBACK
//! promises.

use super::{Told, Untold, bad_request, body, list, number, text};
use crate::api::compat::table::Call;
use crate::api::publish::{Author, Letter, Unpublished};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headgate_model::bus::{Outcome, Refusal};
use headgate_model::message::Properties;
use headgate_model::{Admitted, Message};
use serde_json::{Value, json};

/// Why a message is not published, with MQTT's reason code where it has one.
pub(super) enum Unsent {
    Untold(Untold),
    Reason(StatusCode, u8, String),
}

impl From<Untold> for Unsent {
    fn from(untold: Untold) -> Self {
        Self::Untold(untold)
    }
}

impl From<Unpublished> for Unsent {
    fn from(error: Unpublished) -> Self {
        let bad = |code, message: &str| Self::Reason(StatusCode::BAD_REQUEST, code, message.to_owned());
        match &error {
            Unpublished::Topic(..) | Unpublished::Name(..) => bad(144, "topic_name_invalid"),
            Unpublished::TooLarge { .. } => bad(151, "packet_too_large"),
            Unpublished::Refused(Refusal::TopicInvalid) => bad(144, "topic_name_invalid"),
            Unpublished::Denied { .. } => Self::Reason(StatusCode::FORBIDDEN, 135, error.to_string()),
            Unpublished::TooFast(_) => {
                Self::Untold(Untold(error.status(), "TOO_MANY_REQUESTS", error.to_string()))
            }
            Unpublished::Refused(_) => {
                Self::Reason(StatusCode::SERVICE_UNAVAILABLE, 131, "failed_to_dispatch".into())
            }
            _ => bad(131, &error.to_string()),
        }
    }
}

impl IntoResponse for Unsent {
    fn into_response(self) -> Response {
        match self {
            Self::Untold(untold) => untold.into_response(),
            Self::Reason(status, code, message) => (status, Json(reason(code, &message))).into_response(),
        }
    }
}

fn reason(code: u8, message: &str) -> Value {
    json!({ "reason_code": code, "message": message })
}

/// 128 bits that were drawn, in hexadecimal.
fn message_id() -> String {
    let mut bytes = [0; 16];
    // A name that is not drawn is no fault: nobody asks by it.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn payload(wanted: &Value) -> Result<Bytes, Unsent> {
    let text = text(wanted, "payload")?;
    match wanted.get("payload_encoding").and_then(Value::as_str) {
        None | Some("plain") => Ok(text.to_owned().into()),
        Some("base64") => STANDARD.decode(text).map(Bytes::from).map_err(|_| {
            let message = format!("{{decode_base64_payload_failed,<<\"{text}\">>}}");
            Unsent::Reason(StatusCode::BAD_REQUEST, 131, message)
        }),
        Some(_) => Err(bad_request("payload_encoding: plain or base64 is expected").into()),
    }
}

fn properties(wanted: &Value) -> Result<(Option<u32>, Properties), Untold> {
    let Some(given) = wanted.get("properties").filter(|given| !given.is_null()) else {
        return Ok((None, Properties::default()));
    };
    let given = given
        .as_object()
        .ok_or_else(|| bad_request("properties: an object is expected"))?;
    let mut properties = Properties::default();
    let mut expiry = None;
    for (name, value) in given {
        let text = || {
            let text = value.as_str().map(|text| Bytes::from(text.to_owned()));
            text.ok_or_else(|| bad_request(format!("properties.{name}: a text is expected")))
        };
        match name.as_str() {
            "payload_format_indicator" => {
                let is_text = number(&json!({ name: value }), name, 0, 1)? == 1;
                properties.payload_is_utf8 = Some(is_text);
            }
            "message_expiry_interval" => {
                let seconds = number(&json!({ name: value }), name, 0, u32::MAX.into())?;
                expiry = u32::try_from(seconds).ok();
            }
            "response_topic" => properties.response_topic = Some(text()?),
            "correlation_data" => properties.correlation_data = Some(text()?),
            "content_type" => properties.content_type = Some(text()?),
            "user_properties" => {
                let pairs = value.as_object();
                let pairs =
                    pairs.ok_or_else(|| bad_request("properties.user_properties: an object is expected"))?;
                for (name, value) in pairs {
                    let value = match value {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    properties
                        .user_properties
                        .push((name.clone().into(), value.into()));
                }
            }
            _ => return Err(bad_request(format!("properties.{name}: unknown"))),
        }
    }
    Ok((expiry, properties))
}

/// What EMQX deprecates and takes: `clientid`.
async fn admitted(call: &Call, wanted: &Value) -> Result<Admitted<Message>, Unsent> {
    let client = wanted.get("clientid").and_then(Value::as_str);
    let retain = wanted.get("retain").map_or(Some(false), Value::as_bool);
    let (expiry_seconds, properties) = properties(wanted)?;
    let letter = Letter {
        topic: text(wanted, "topic")?.to_owned(),
        payload: payload(wanted)?,
        qos: number(wanted, "qos", 0, 2)?,
        retain: retain.ok_or_else(|| bad_request("retain: true or false is expected"))?,
        expiry_seconds,
        properties,
    };
    let author = Author::of(&call.control, call.asking(), call.info.as_deref(), client)?;
    Ok(author.admit(&call.control, letter).await?)
}

fn is_delayed(message: &Message) -> bool {
    message.topic.as_bytes().starts_with(b"$delayed/")
}

/// Status and body of one message.
fn sent(delayed: bool, published: Result<Outcome, Refusal>) -> (StatusCode, Value) {
    match published {
        Ok(Outcome::NoSubscribers) if !delayed => {
            (StatusCode::ACCEPTED, reason(16, "no_matching_subscribers"))
        }
        Ok(_) => (StatusCode::OK, json!({ "id": message_id() })),
        Err(refusal) => match Unpublished::Refused(refusal).into() {
            Unsent::Reason(status, code, message) => (status, reason(code, &message)),
            Unsent::Untold(untold) => (untold.0, reason(131, &untold.2)),
        },
    }
}

pub(super) async fn one(call: Call) -> Result<Told, Unsent> {
    let message = admitted(&call, &body(&call)?).await?;
    let delayed = is_delayed(&message);
    let (status, told) = sent(delayed, call.control.hub.publish(message).await);
    Ok(Told::With(status, told))
}

/// All are looked at before any is published: one that is wrong keeps all others back.
pub(super) async fn bulk(call: Call) -> Result<Told, Unsent> {
    let (mut messages, mut delayed) = (Vec::new(), Vec::new());
    for wanted in list(&call)? {
        let message = admitted(&call, &wanted).await?;
        delayed.push(is_delayed(&message));
        messages.push(message);
    }
    if messages.is_empty() {
        return Err(bad_request("empty_batch").into());
    }
    let published = call.control.hub.publish_each(messages).await;
    let sent = delayed.into_iter().zip(published);
    let (codes, told): (Vec<StatusCode>, Vec<Value>) = sent
        .map(|(delayed, published)| self::sent(delayed, published))
        .unzip();
    let all = |wanted: StatusCode| codes.iter().all(|code| *code == wanted);
    let failed = codes.iter().any(|code| !code.is_success());
    let status = match (failed, all(StatusCode::OK)) {
        (true, _) => StatusCode::SERVICE_UNAVAILABLE,
        (false, true) => StatusCode::OK,
        (false, false) => StatusCode::ACCEPTED,
    };
    Ok(Told::With(status, told.into()))
}
