//! Commands to LwM2M clients: published where the gateway takes them, and answered by what comes of it, as for any application on the bus.

use super::guard::Asking;
use super::publish::{Author, Letter};
use super::routes::Routes;
use super::server::{Answer, Control, Failure};
use super::tail;
use crate::protocols::Lwm2mNote;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_access::ConnectionInfo;
use headgate_admin::Role::Operator;
use headgate_bus::handle::Port;
use headgate_model::BusCommand;
use headgate_model::CloseReason;
use headgate_model::bus::BusEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The longest that somebody waits for an answer: less than HTTP does.
const LONGEST: u64 = 25;

pub(super) fn routes() -> Routes {
    Routes::default().post(
        Operator,
        "/lwm2m/clients/{endpoint}/command",
        "Gives a command to an LwM2M client, and waits for what comes of it.",
        command,
    )
}

/// A command in the words of the bus: docs/lwm2m.md.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Command {
    /// `read`, `discover`, `write`, `write-attr`, `execute`, `create`, `delete`, `observe`, `cancel-observe` …
    #[serde(rename = "msgType")]
    kind: String,
    /// As the command wants it: `{"path": "/3/0/0"}`.
    #[serde(default)]
    data: Value,
    /// How long an answer is waited for, up to 25 s. The command itself waits as long.
    wait_seconds: Option<u64>,
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Outcome {
    /// The answer, as it is on the bus; `null` if none came in time.
    answer: Option<Value>,
}

async fn command(
    State(control): State<Control>,
    Path(endpoint): Path<String>,
    Extension(asking): Extension<Asking>,
    info: Option<Extension<Arc<ConnectionInfo>>>,
    Json(command): Json<Command>,
) -> Answer<Outcome> {
    let (command_topic, response_topic) = topics(&control, &endpoint).await?;
    let wait = command.wait_seconds.unwrap_or(LONGEST).clamp(1, LONGEST);
    let number = request_number()?;
    let body = json!({ "reqID": number, "msgType": command.kind, "data": command.data });
    let letter = Letter {
        topic: command_topic,
        payload: body.to_string().into(),
        qos: 1,
        expiry_seconds: u32::try_from(wait).ok(),
        ..Letter::default()
    };
    let info = info.as_ref().map(|Extension(info)| &**info);
    let author = Author::of(&control, &asking, info, None)?;
    let port = control.hub.attach();
    port.submit(&mut tail::session(&control, &asking, &response_topic)?);
    let until = Instant::now() + Duration::from_secs(wait);
    let mut waiting = Waiting {
        port,
        events: VecDeque::new(),
    };
    waiting.subscribed(until).await?;
    author.publish(&control, letter).await?;
    let answer = waiting.answer(number, until).await;
    Ok(Json(Outcome { answer }))
}

/// Nobody else's number.
fn request_number() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    // JSON's numbers are whole up to here in every language. RFC 8259 §6
    Ok(u64::from_ne_bytes(bytes) & ((1 << 53) - 1))
}

/// Where commands to a client go, and where answers come, as on the bus.
async fn topics(control: &Control, endpoint: &str) -> Result<(String, String), Failure> {
    let found = super::lwm2m::find(control, endpoint)?;
    let note = Lwm2mNote::parse(&found.note);
    let config = control.live.config().await;
    let listener = note.and_then(|note| config.lwm2m.iter().find(|known| known.name == note.listener));
    let Some(listener) = listener else {
        let what = format!("the listener of `{endpoint}` is not in the configuration any more");
        return Err(Failure(StatusCode::CONFLICT, what));
    };
    let topics = &listener.gateway.topics;
    let command = match topics.command.strip_suffix("/#") {
        Some(below) => format!("{below}/web"),
        None => topics.command.replace('+', "web"),
    };
    let mount = listener.mount_point.clone().unwrap_or_default();
    let topic = |part: &str| format!("{mount}{}", topics.of(part, endpoint));
    Ok((topic(&command), topic(&topics.response)))
}

/// Somebody who waits for one answer.
struct Waiting {
    port: Port,
    events: VecDeque<BusEvent>,
}

impl Waiting {
    async fn next(&mut self, until: Instant) -> Option<BusEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            timeout_at(until, poll_fn(|cx| self.port.poll_call(cx)))
                .await
                .ok()?;
            self.port.take_events(&mut self.events);
        }
    }

    async fn subscribed(&mut self, until: Instant) -> Result<(), Failure> {
        let refused = |why: String| Failure(StatusCode::SERVICE_UNAVAILABLE, why);
        while let Some(event) = self.next(until).await {
            match event {
                BusEvent::OpenRefused(why) => return Err(refused(why.to_string())),
                BusEvent::Subscribed { results, .. } => {
                    let result = results.into_iter().next();
                    return result
                        .transpose()
                        .map(drop)
                        .map_err(|why| refused(why.to_string()));
                }
                _ => {}
            }
        }
        Err(refused("the bus did not answer in time".into()))
    }

    async fn answer(&mut self, number: u64, until: Instant) -> Option<Value> {
        while let Some(event) = self.next(until).await {
            let BusEvent::Delivery(delivery) = event else {
                continue;
            };
            self.port.submit(&mut vec![BusCommand::credit(1)]);
            let said: Option<Value> = serde_json::from_slice(&delivery.message.payload).ok();
            let is_ours = |said: &Value| said["reqID"] == number && said["msgType"] != "ack";
            if let Some(said) = said.filter(is_ours) {
                return Some(said);
            }
        }
        None
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let close = BusCommand::Close {
            reason: CloseReason::Normal,
            expiry: None,
        };
        self.port.submit(&mut vec![close]);
    }
}
