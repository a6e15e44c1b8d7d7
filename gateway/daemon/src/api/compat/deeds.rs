//! What these APIs do to clients and to what is retained, and the log says of it.

use crate::api::clients::throw_out;
use crate::api::publish::Unpublished;
use crate::api::server::Control;
use bytes::Bytes;
use headgate_bus::MAX_PAGE;
use headgate_model::bus::Refusal;
use headgate_model::gate::is_reserved;
use headgate_model::{Admitted, Message, Qos, Subscription, TopicFilter};

/// Disconnects a client. Whether it was connected.
pub(super) fn disconnect(control: &Control, client: &str) -> bool {
    let thrown_out = throw_out(control, client) > 0;
    if thrown_out {
        tracing::info!(client, "disconnected by an operator");
    }
    thrown_out
}

/// Throws a client out and ends its session, as EMQX does, unless an adapter or a bridge has the session. Whether there was any.
pub(super) fn end(control: &Control, client: &str) -> bool {
    let thrown_out = throw_out(control, client) > 0;
    let ended = !is_reserved(client) && control.hub.remove_session(client);
    if thrown_out || ended {
        tracing::info!(client, ended, "disconnected by an operator, with its session");
    }
    thrown_out || ended
}

/// Subscribes on behalf of a client; `None` if there is none.
pub(super) fn subscribe(
    control: &Control,
    client: &str,
    wanted: Admitted<Subscription>,
) -> Option<Result<Qos, Refusal>> {
    let filter = wanted.to_text();
    let granted = control.hub.subscribe_for(client, wanted)?;
    if let Ok(qos) = granted {
        tracing::info!(client, filter, qos = qos as u8, "subscribed by an operator");
    }
    Some(granted)
}

/// Ends a subscription on behalf of a client; `None` if there is no such client. Whether there was the subscription.
pub(super) fn unsubscribe(control: &Control, client: &str, unwanted: Admitted<Subscription>) -> Option<bool> {
    let filter = unwanted.to_text();
    let existed = control.hub.unsubscribe_for(client, unwanted)?;
    if existed {
        tracing::info!(client, filter, "unsubscribed by an operator");
    }
    Some(existed)
}

/// Removes what is retained and a filter matches, as a client does it: by empty messages that are retained. MQTT 5 §3.3.1.3. They are gone for good when
/// this is done. How many.
pub(super) async fn remove_retained(control: &Control, filter: &TopicFilter) -> Result<usize, Unpublished> {
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
            published.map_err(Unpublished::Refused)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if removed > 0 {
        tracing::info!(
            filter = filter.as_str(),
            removed,
            "retained messages removed by an operator"
        );
    }
    Ok(removed)
}
