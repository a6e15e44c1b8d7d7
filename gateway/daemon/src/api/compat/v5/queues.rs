//! What waits for a client, and what is under way to it, with payloads.

use super::{Answer, MAX_ROWS, ROWS, Told, Untold, invalid, no_client};
use crate::api::compat::table::Call;
use crate::api::server::Failure;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_bus::{DeliveryInfo, MAX_PAGE};
use headgate_model::AccessPolicy;
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of all payloads of an answer, unless it is said otherwise. A first message that is larger is shown all the same.
const MAX_BYTES: usize = 1 << 20;
/// The most that may be said.
const MOST_BYTES: usize = 16 << 20;

/// How payloads are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Base64,
    Plain,
    Not,
}

/// Which part is wanted, and how.
struct Part {
    /// Behind so many of the list of the bus: what is under way first, then what waits.
    after: usize,
    limit: usize,
    written: Written,
    bytes: usize,
}

impl Part {
    fn of(call: &Call) -> Result<Self, Untold> {
        let wrong = || invalid("position_limit_invalid");
        let number = |name: &str, default| match call.query.get(name) {
            None | Some("none") => Ok(default),
            Some(text) => text.parse::<usize>().map_err(|_| wrong()),
        };
        let limit = number("limit", ROWS)?;
        Ok(Self {
            after: number("position", 0)?,
            limit: Some(limit)
                .filter(|limit| (1..=MAX_ROWS).contains(limit))
                .ok_or_else(wrong)?,
            written: match call.query.get("payload") {
                None | Some("base64") => Written::Base64,
                Some("plain") => Written::Plain,
                Some("none") => Written::Not,
                Some(_) => return Err(invalid("payload: none, base64 or plain is expected")),
            },
            bytes: match call.query.get("max_payload_bytes") {
                None => MAX_BYTES,
                Some(text) => size(text)
                    .filter(|size| *size <= MOST_BYTES)
                    .ok_or_else(|| invalid("max_payload_bytes: at most 16MB"))?,
            },
        })
    }
}

/// `1MB`, `100KB`, `4096`
fn size(text: &str) -> Option<usize> {
    let upper = text.to_ascii_uppercase();
    let (number, unit) = match upper.strip_suffix("MB") {
        Some(number) => (number, 1 << 20),
        None => upper
            .strip_suffix("KB")
            .map_or((upper.as_str(), 1), |number| (number, 1 << 10)),
    };
    number.trim().parse::<usize>().ok()?.checked_mul(unit)
}

pub(super) async fn waiting(call: Call) -> Answer {
    messages(&call, false).await
}

pub(super) async fn inflight(call: Call) -> Answer {
    messages(&call, true).await
}

/// What was found so far.
struct Shown {
    part: Part,
    /// Payloads that the rules keep from whoever asks are left out.
    policy: Arc<dyn AccessPolicy>,
    rows: Vec<Value>,
    bytes: usize,
    start: Option<usize>,
    /// Where the next answer begins.
    position: Option<usize>,
}

impl Shown {
    /// Takes the message at this place, if there is room. Whether there was.
    fn take(&mut self, place: usize, delivery: &DeliveryInfo) -> Result<bool, Untold> {
        let bytes = self.bytes + delivery.message.payload.len();
        let is_full = bytes > self.part.bytes && !self.rows.is_empty();
        if self.rows.len() == self.part.limit || is_full {
            self.position = Some(place);
            return Ok(false);
        }
        self.start.get_or_insert(place);
        self.bytes = bytes;
        let may_read = self.policy.may_read(delivery.message.topic.as_bytes());
        let written = if may_read { self.part.written } else { Written::Not };
        self.rows.push(row(delivery, written)?);
        Ok(true)
    }
}

async fn messages(call: &Call, inflight: bool) -> Answer {
    let part = Part::of(call)?;
    let (hub, client) = (&call.control.hub, call.path[0].as_str());
    let mut after = Some(part.after);
    let mut shown = Shown {
        part,
        policy: call.control.policy_of(call.asking()),
        rows: Vec::new(),
        bytes: 0,
        start: None,
        position: None,
    };
    'pages: while let Some(from) = after {
        let queue = hub.queue(client, from, MAX_PAGE).ok_or_else(no_client)?;
        after = queue.page.next;
        for (place, delivery) in (from..).zip(&queue.page.rows) {
            if delivery.inflight == inflight && !shown.take(place, delivery)? {
                break 'pages;
            }
        }
        // What is under way comes first: behind it there is nothing more of it.
        if inflight && queue.page.rows.last().is_none_or(|last| !last.inflight) {
            break;
        }
        tokio::task::yield_now().await;
    }
    if !inflight && shown.position.is_none() {
        stored(call, &mut shown).await?;
    }
    let place = |place: Option<usize>| place.map_or("none".to_owned(), |place| place.to_string());
    let meta = json!({ "start": place(shown.start), "position": place(shown.position) });
    Ok(Told::Json(json!({ "data": shown.rows, "meta": meta })))
}

/// Goes on with what waits in the store alone: it stands behind all that is in memory, and is read from its beginning each time.
async fn stored(call: &Call, shown: &mut Shown) -> Result<(), Untold> {
    let (hub, client) = (&call.control.hub, call.path[0].as_str());
    let session = hub.session(client).ok_or_else(no_client)?;
    let known = &session.client;
    let mut place = (known.inflight + known.queued).saturating_sub(session.stored);
    let mut after = None;
    loop {
        let page = hub.stored_queue(client, after, MAX_PAGE).await;
        let page = page.map_err(|error| Failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
        for delivery in &page.rows {
            if place >= shown.part.after && !shown.take(place, delivery)? {
                return Ok(());
            }
            place += 1;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn row(delivery: &DeliveryInfo, written: Written) -> Result<Value, Untold> {
    let message = &delivery.message;
    let mut row = json!({
        "topic": message.topic.as_str(),
        "qos": delivery.qos as u8,
        "retain": message.retain,
    });
    if !delivery.inflight {
        row["mqueue_priority"] = delivery.priority.into();
    }
    match written {
        Written::Not => {}
        Written::Base64 => row["payload"] = STANDARD.encode(&message.payload).into(),
        Written::Plain => {
            let text = std::str::from_utf8(&message.payload);
            let text = text.map_err(|_| {
                let message = "Some message payloads are not JSON serializable";
                Untold(StatusCode::BAD_REQUEST, "INVALID_PARAMETER", message.into())
            })?;
            row["payload"] = text.into();
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1MB"), Some(1 << 20));
        assert_eq!(size("2kb"), Some(2_048));
        assert_eq!(size("17"), Some(17));
        assert_eq!(size("much"), None);
    }
}
