//! Subscriptions, also on behalf of clients, and the filters that there are: EMQX calls them topics.

use super::{
    Answer, Told, Untold, asked_of_this_node, bad_request, body, invalid, list as entries, no_client, number,
    page, span, text,
};
use crate::api::compat::deeds;
use crate::api::compat::pages::{Found, walk};
use crate::api::compat::table::Call;
use crate::api::compat::told::{filters, has_filter, subscription};
use crate::api::server::Control;
use axum::http::StatusCode;
use headgate_bus::{MAX_PAGE, SubscriptionCursor, SubscriptionInfo};
use headgate_model::{Qos, RetainHandling, Share, Subscription, SubscriptionOptions, TopicFilter};
use serde_json::{Value, json};

fn row(control: &Control, client: &str, subscription: &Subscription) -> Value {
    let options = &subscription.options;
    json!({
        "node": control.counters.node(),
        "clientid": client,
        "topic": subscription.to_text(),
        "qos": options.qos as u8,
        "nl": u8::from(options.no_local),
        "rap": u8::from(options.retain_as_published),
        "rh": options.retain_handling as u8,
        "durable": false,
    })
}

pub(super) async fn list(call: Call) -> Answer {
    let (span, control) = (span(&call)?, &call.control);
    asked_of_this_node(&call)?;
    let get = |name| call.query.get(name);
    let matching = get("match_topic").map(|filter| {
        let parsed = TopicFilter::try_from(filter).ok();
        let parsed = parsed.filter(|_| !filter.starts_with("$share/"));
        parsed.ok_or_else(|| invalid("match_topic_invalid"))
    });
    let matching = matching.transpose()?;
    let wants = |SubscriptionInfo { client, subscription }: &SubscriptionInfo| {
        let group = match &subscription.share {
            Some(Share::Group(group)) => Some(&group[..]),
            Some(Share::Queue) => Some(&b"$queue"[..]),
            None => None,
        };
        let filter = subscription.filter.as_str();
        get("clientid").is_none_or(|wanted| wanted == client.as_str())
            && get("topic").is_none_or(|wanted| wanted == filter || wanted == subscription.to_text())
            && get("share_group").is_none_or(|wanted| group == Some(wanted.as_bytes()))
            && get("qos").is_none_or(|wanted| wanted == (subscription.options.qos as u8).to_string())
            && matching
                .as_ref()
                .is_none_or(|wanted| wanted.matches(filter.as_bytes()))
    };
    let rows = |after: Option<&SubscriptionCursor>, limit| control.hub.all_subscriptions(after, limit);
    let found = walk(span, rows, |info| {
        let info = Some(info).filter(&wants)?;
        Some(row(control, info.client.as_str(), &info.subscription))
    });
    let found = found.await;
    let is_filtered = call
        .query
        .has_any(&["clientid", "topic", "share_group", "qos", "match_topic"]);
    let count = (!is_filtered).then(|| control.hub.stats().subscriptions);
    page(span, count, found)
}

/// The first of them, where there are more than one may ask for.
pub(super) async fn of_client(call: Call) -> Answer {
    let (control, client) = (&call.control, call.path[0].as_str());
    let page = control.hub.subscriptions(client, None, MAX_PAGE);
    let rows = page.ok_or_else(no_client)?.rows;
    Ok(Told::Json(
        rows.iter().map(|known| row(control, client, known)).collect(),
    ))
}

fn retain_handling(number: u64) -> RetainHandling {
    match number {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        _ => RetainHandling::DoNotSend,
    }
}

/// What was granted.
fn subscribe_one(call: &Call, wanted: &Value) -> Result<Value, Untold> {
    let (client, topic) = (call.path[0].as_str(), text(wanted, "topic")?);
    let flag = |name| number(wanted, name, 0, 1);
    let (qos, nl, rap, rh) = (
        number(wanted, "qos", 0, 2)?,
        flag("nl")?,
        flag("rap")?,
        number(wanted, "rh", 0, 2)?,
    );
    let options = SubscriptionOptions {
        qos: u8::try_from(qos).ok().and_then(Qos::from_u8).unwrap_or_default(),
        no_local: nl == 1,
        retain_as_published: rap == 1,
        retain_handling: retain_handling(rh),
        ..SubscriptionOptions::default()
    };
    let parsed = subscription(topic, options).map_err(|error| invalid(error.to_string()))?;
    if parsed.share.is_some() && options.no_local {
        let message = "Invalid Subscribe options: `no_local` not allowed for shared-sub. See [MQTT-3.8.3-4]";
        return Err(invalid(message));
    }
    let granted = deeds::subscribe(&call.control, client, parsed);
    granted.ok_or_else(no_client)?.map_err(|refusal| {
        Untold(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN_ERROR",
            refusal.to_string(),
        )
    })?;
    Ok(json!({
        "node": call.control.counters.node(),
        "clientid": client,
        "topic": topic,
        "qos": qos,
        "nl": nl,
        "rap": rap,
        "rh": rh,
    }))
}

pub(super) async fn subscribe(call: Call) -> Answer {
    Ok(Told::Json(subscribe_one(&call, &body(&call)?)?))
}

/// A list of what was granted; with what was not, both.
pub(super) async fn subscribe_all(call: Call) -> Answer {
    let wanted = entries(&call)?;
    call.control.hub.session(&call.path[0]).ok_or_else(no_client)?;
    let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
    for wanted in &wanted {
        match subscribe_one(&call, wanted) {
            Ok(granted) => succeeded.push(granted),
            Err(Untold(_, "BAD_REQUEST", message)) => return Err(bad_request(message)),
            Err(Untold(_, _, reason)) => failed.push(json!({ "data": wanted, "reason": reason })),
        }
    }
    Ok(Told::Json(match failed.is_empty() {
        true => succeeded.into(),
        false => json!({ "succeed": succeeded, "failed": failed }),
    }))
}

/// Also where there is no such subscription.
fn unsubscribe_one(call: &Call, wanted: &Value) -> Result<(), Untold> {
    let (client, topic) = (call.path[0].as_str(), text(wanted, "topic")?);
    let parsed = subscription(topic, SubscriptionOptions::default());
    let parsed = parsed.map_err(|error| invalid(error.to_string()))?;
    let existed = deeds::unsubscribe(&call.control, client, parsed);
    existed.ok_or_else(no_client)?;
    Ok(())
}

pub(super) async fn unsubscribe(call: Call) -> Answer {
    unsubscribe_one(&call, &body(&call)?)?;
    Ok(Told::Done)
}

pub(super) async fn unsubscribe_all(call: Call) -> Answer {
    for wanted in &entries(&call)? {
        unsubscribe_one(&call, wanted)?;
    }
    Ok(Told::Done)
}

fn topic_row(control: &Control, filter: &str) -> Value {
    json!({ "topic": filter, "node": control.counters.node() })
}

pub(super) async fn topics(call: Call) -> Answer {
    let (span, control) = (span(&call)?, &call.control);
    let here = control.counters.node();
    if call.query.get("node").is_some_and(|node| node != here) {
        let nothing = Found {
            rows: Vec::new(),
            more: false,
        };
        return page(span, Some(0), nothing);
    }
    if let Some(topic) = call.query.get("topic") {
        let is_there = has_filter(control, topic);
        let rows: Vec<Value> = is_there.then(|| topic_row(control, topic)).into_iter().collect();
        let count = rows.len();
        return page(span, Some(count), span.of(rows));
    }
    let found = filters(control, span).await?;
    let found = found.filter_map(|filter| Some(topic_row(control, &filter)));
    page(span, Some(control.hub.stats().filters), found)
}

pub(super) async fn topic(call: Call) -> Answer {
    let (control, topic) = (&call.control, call.path[0].as_str());
    match has_filter(control, topic) {
        true => Ok(Told::Json(json!([topic_row(control, topic)]))),
        false => {
            let message = "Topic not found";
            Err(Untold(StatusCode::NOT_FOUND, "TOPIC_NOT_FOUND", message.into()))
        }
    }
}
