//! Messages, and subscriptions on behalf of clients. Filters with wildcards are refused there, as EMQ does.

use super::{Answer, Code, Kind, Params, Untold, done};
use crate::api::compat::deeds;
use crate::api::compat::table::Call;
use crate::api::compat::told::subscription;
use crate::api::publish::{Author, Letter, Unpublished};
use axum::http::StatusCode;
use headgate_model::{Qos, SubscriptionOptions, Topic};

impl From<Unpublished> for Untold {
    fn from(error: Unpublished) -> Self {
        match &error {
            Unpublished::Topic(topic, _) => wrong_topic(topic),
            Unpublished::TooFast(_) | Unpublished::Refused(_)
                if error.status() != StatusCode::UNPROCESSABLE_ENTITY =>
            {
                Self::Status(error.status(), error.to_string())
            }
            _ => Self::code(Code::Unknown, error.to_string()),
        }
    }
}

fn wrong_topic(topic: &str) -> Untold {
    Untold::code(Code::Unknown, format!("validate topic: {topic} fail"))
}

pub(super) async fn publish(call: Call) -> Answer {
    let params = Params::of(&call, &[("topic", Kind::Text), ("payload", Kind::Text)])?;
    let types = || Untold::code(Code::Types, "params type error");
    let client = match params.optional("client_id") {
        None => None,
        Some(client) => Some(client.as_str().ok_or_else(types)?),
    };
    let retain = match params.optional("retain") {
        None => false,
        Some(retain) => retain.as_bool().ok_or_else(types)?,
    };
    let letter = Letter {
        topic: params.text("topic").to_owned(),
        payload: params.text("payload").to_owned().into(),
        qos: params.qos()?,
        retain,
        ..Letter::default()
    };
    let author = Author::of(&call.control, call.asking(), call.info.as_deref(), client)?;
    author.publish(&call.control, letter).await?;
    done()
}

fn unknown(client: &str) -> Untold {
    Untold::code(Code::Unknown, format!("Clientid: {client} not found"))
}

pub(super) async fn subscribe(call: Call) -> Answer {
    let params = Params::of(&call, &[("client_id", Kind::Text), ("topic", Kind::Text)])?;
    let (client, topic) = (params.text("client_id"), params.text("topic"));
    Topic::try_from(topic).map_err(|_| wrong_topic(topic))?;
    let qos = params.qos()?;
    let qos = u8::try_from(qos).ok().and_then(Qos::from_u8);
    let qos = qos.ok_or_else(|| Untold::code(Code::Unknown, "QoS is out of range, allowed is 0 to 2"))?;
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    let wanted = subscription(topic, options).map_err(|_| wrong_topic(topic))?;
    let granted = deeds::subscribe(&call.control, client, wanted);
    granted
        .ok_or_else(|| unknown(client))?
        .map_err(|refusal| Untold::code(Code::Unknown, refusal.to_string()))?;
    done()
}

/// Also where there is no such subscription.
pub(super) async fn unsubscribe(call: Call) -> Answer {
    let params = Params::of(&call, &[("client_id", Kind::Text), ("topic", Kind::Text)])?;
    let (client, topic) = (params.text("client_id"), params.text("topic"));
    Topic::try_from(topic).map_err(|_| wrong_topic(topic))?;
    let wanted = subscription(topic, SubscriptionOptions::default()).map_err(|_| wrong_topic(topic))?;
    let existed = deeds::unsubscribe(&call.control, client, wanted);
    existed.ok_or_else(|| unknown(client))?;
    done()
}
