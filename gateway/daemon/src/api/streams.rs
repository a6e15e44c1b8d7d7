//! Server-sent events: what happens, and messages as they come. HTML Living Standard §9.2
//!
//! A stream ends when whoever asked has no session or key any more, or another role. What it has no room for is left out, and said by its number.

use super::guard::{Asking, By, moment};
use super::openapi::{Schemas, Shape};
use super::routes::{Given, Routes};
use super::server::{Control, Failure};
use super::tail::{self, Tail};
use crate::alarms::Alarm;
use crate::sys::unix_time;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use headgate_admin::Role::Viewer;
use headgate_bus::Notice;
use headgate_model::bus::CloseReason;
use headgate_model::memory::MemoryLimit;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// Streams at a time.
const MAX_STREAMS: usize = 64;
/// Streams of one administrator or key.
const MAX_OF_ONE: usize = 12;
/// Events of a stream that wait to be sent,
const MAX_WAITING: usize = 256;
/// and bytes of them.
const MAX_BYTES: usize = 256 << 10;
/// Notices of the bus that wait for a stream.
const MAX_NOTICES: usize = 1_024;
/// How often alarms and bridges are looked at, and whether whoever asked still may.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An empty comment goes out after so long without an event, so that both sides know that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Places for streams. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<BTreeMap<String, usize>>>);

/// A place of somebody.
pub(super) struct Place {
    streams: Streams,
    name: String,
}

impl Streams {
    pub(super) fn take(&self, name: &str) -> Result<Place, Failure> {
        let mut open = self.0.lock();
        let all: usize = open.values().sum();
        let of_one = open.get(name).copied().unwrap_or(0);
        if all >= MAX_STREAMS || of_one >= MAX_OF_ONE {
            let what = format!("{all} streams are open, {of_one} of them yours: close one");
            return Err(Failure(StatusCode::TOO_MANY_REQUESTS, what));
        }
        *open.entry(name.to_owned()).or_default() += 1;
        Ok(Place {
            streams: self.clone(),
            name: name.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        if let Some(count) = open.get_mut(&self.name) {
            *count -= 1;
        }
        open.retain(|_, count| *count > 0);
    }
}

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/events",
            "Tells what happens, as server-sent events.",
            events,
        )
        .get(
            Viewer,
            "/tail",
            "Tells messages as they come, as server-sent events.",
            tail,
        )
}

/// A stream of events.
pub(super) struct Events {
    /// Where they come from, each with its bytes.
    events: mpsc::Receiver<(Event, usize)>,
    waiting: Waiting,
    _place: Place,
}

/// Bytes of events that wait, which count in the ledger of memory.
#[derive(Clone)]
struct Waiting {
    bytes: Arc<AtomicUsize>,
    memory: Arc<MemoryLimit>,
}

impl Waiting {
    fn change(&self, change: impl Fn(usize) -> usize) {
        let changed = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(change(now)));
        let before = changed.unwrap_or_default();
        self.memory.change_buffers(before, change(before));
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.events.close();
        while let Ok((_, bytes)) = self.events.try_recv() {
            self.waiting.change(|now| now.saturating_sub(bytes));
        }
    }
}

impl Stream for Events {
    type Item = Result<Event, Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.events.poll_recv(cx).map(|event| {
            let (event, bytes) = event?;
            this.waiting.change(|now| now.saturating_sub(bytes));
            Some(Ok(event))
        })
    }
}

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
        Sse::new(self).keep_alive(keep_alive).into_response()
    }
}

impl Given for Events {
    fn describe(shape: &mut Shape, _: &mut Schemas) {
        shape.answer = ("text/event-stream", json!({ "type": "string" }));
    }
}

/// Where the events of a stream go.
pub(super) struct Sink {
    events: mpsc::Sender<(Event, usize)>,
    waiting: Waiting,
    left_out: u64,
}

/// What became of an event.
enum Sent {
    Yes,
    NoRoom,
    /// Nobody is there any more.
    Over,
}

impl Sink {
    /// A stream, and where its events go.
    fn open(control: &Control, asking: &Asking) -> Result<(Self, Events), Failure> {
        let place = control.streams.take(&asking.who.name)?;
        let (events, taken) = mpsc::channel(MAX_WAITING);
        let waiting = Waiting {
            bytes: Arc::default(),
            memory: Arc::clone(control.hub.memory()),
        };
        let stream = Events {
            events: taken,
            waiting: waiting.clone(),
            _place: place,
        };
        let sink = Self {
            events,
            waiting,
            left_out: 0,
        };
        Ok((sink, stream))
    }

    fn send(&self, kind: &str, data: String) -> Sent {
        let bytes = data.len() + kind.len();
        if self.waiting.bytes.load(Ordering::Relaxed) + bytes > MAX_BYTES {
            return if self.events.is_closed() {
                Sent::Over
            } else {
                Sent::NoRoom
            };
        }
        // Counted first: whoever takes it counts it off.
        self.waiting.change(|now| now + bytes);
        let sent = self
            .events
            .try_send((Event::default().event(kind).data(data), bytes));
        let Err(error) = sent else { return Sent::Yes };
        self.waiting.change(|now| now.saturating_sub(bytes));
        match error {
            mpsc::error::TrySendError::Full(_) => Sent::NoRoom,
            mpsc::error::TrySendError::Closed(_) => Sent::Over,
        }
    }

    /// Says something, if there is room. Whether anybody is there.
    pub(super) fn say(&mut self, kind: &str, data: &impl Serialize) -> bool {
        if self.left_out > 0 {
            match self.send("left_out", json!({ "count": self.left_out }).to_string()) {
                Sent::Yes => self.left_out = 0,
                Sent::NoRoom => {
                    self.left_out += 1;
                    return true;
                }
                Sent::Over => return false,
            }
        }
        match self.send(kind, serde_json::to_string(data).unwrap_or_default()) {
            Sent::Yes => true,
            Sent::NoRoom => {
                self.left_out += 1;
                true
            }
            Sent::Over => false,
        }
    }

    /// Whether there is room for anything.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.bytes.load(Ordering::Relaxed) < MAX_BYTES
    }

    /// Something was left out before it came here.
    pub(super) fn leave_out(&mut self, count: u64) {
        self.left_out += count;
    }

    /// Says how much was left out, if there is room and anything to say. Whether anybody is there.
    pub(super) fn settle(&mut self) -> bool {
        if self.left_out == 0 {
            return !self.events.is_closed();
        }
        match self.send("left_out", json!({ "count": self.left_out }).to_string()) {
            Sent::Yes => self.left_out = 0,
            Sent::NoRoom => {}
            Sent::Over => return false,
        }
        true
    }

    /// Comes back when nobody is there any more.
    pub(super) async fn closed(&self) {
        self.events.closed().await;
    }
}

impl Asking {
    /// Whether it may still ask what it asked.
    pub(super) fn still_holds(&self, control: &Control) -> bool {
        match &self.by {
            By::Socket => true,
            By::Session { token, .. } => {
                let known = control.admin.look(token, moment());
                known.is_some_and(|who| who == self.who)
            }
            By::Key { id } => control.admin.has_key(id, moment()),
            // Nobody comes here so.
            By::Password => false,
        }
    }
}

/// What is told: `presence`, `alarm`, `bridge`, `log`, with commas; all if it is left out.
#[derive(Deserialize, JsonSchema)]
struct Kinds {
    kinds: Option<String>,
}

async fn events(
    State(control): State<Control>,
    Extension(asking): Extension<Asking>,
    Query(Kinds { kinds }): Query<Kinds>,
) -> Result<Events, Failure> {
    let known = ["presence", "alarm", "bridge", "log"];
    let wanted: Vec<&str> = match &kinds {
        Some(kinds) => kinds.split(',').collect(),
        None => known.to_vec(),
    };
    if let Some(wrong) = wanted.iter().find(|kind| !known.contains(kind)) {
        let what = format!("`{wrong}` is no kind of event, allowed is {}", known.join(", "));
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what));
    }
    let wants = |kind| wanted.contains(&kind);
    let (sink, events) = Sink::open(&control, &asking)?;
    let watch = Watch {
        notices: wants("presence").then(|| control.hub.notices(MAX_NOTICES)),
        log: wants("log").then(|| control.log.ring().last(0).1),
        alarms: wants("alarm").then(|| standing(&control)),
        bridges: wants("bridge").then(|| states(&control)),
        control,
        asking,
        sink,
    };
    tokio::spawn(watch.run());
    Ok(events)
}

/// One stream of events.
struct Watch {
    notices: Option<headgate_bus::handle::Notices>,
    log: Option<crate::log::Tail>,
    alarms: Option<BTreeMap<String, Alarm>>,
    bridges: Option<BTreeMap<String, &'static str>>,
    control: Control,
    asking: Asking,
    sink: Sink,
}

fn standing(control: &Control) -> BTreeMap<String, Alarm> {
    let (active, _) = control.alarms.lists();
    active
        .into_iter()
        .map(|alarm| (alarm.id.clone(), alarm))
        .collect()
}

fn states(control: &Control) -> BTreeMap<String, &'static str> {
    let views = control.bridges.views().into_iter();
    views
        .map(|view| (view.name, if view.paused { "paused" } else { view.state }))
        .collect()
}

impl Watch {
    async fn run(mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = tokio::select! {
                () = self.sink.closed() => false,
                Some(notice) = next_notice(&mut self.notices) => self.notice(&notice),
                Some(line) = next_line(&mut self.log) => {
                    let line: Value = serde_json::from_str(&line).unwrap_or_default();
                    self.sink.say("log", &line)
                }
                _ = look.tick() => self.look(),
            };
            if !goes_on {
                return;
            }
        }
    }

    fn notice(&mut self, notice: &Notice) -> bool {
        let (client, presence, connected, reason) = match notice {
            Notice::Connected { client, presence } => (client, presence, true, None),
            Notice::Disconnected {
                client,
                presence,
                reason,
            } => (client, presence, false, Some(CloseReason::as_str(*reason))),
            Notice::TakenOver { .. } | Notice::Loop { .. } => return true,
        };
        if tail::is_ours(client.as_str()) {
            return true;
        }
        let told = json!({
            "client": client.as_str(),
            "user": presence.username.as_deref(),
            "protocol": presence.protocol.name,
            "address": presence.peer.to_string(),
            "connected": connected,
            "reason": reason,
            "at": unix_time(),
        });
        self.sink.say("presence", &told)
    }

    /// Alarms and bridges that are not as before.
    fn look(&mut self) -> bool {
        if !self.asking.still_holds(&self.control) {
            return false;
        }
        if let Some(before) = &mut self.alarms {
            let now = standing(&self.control);
            let news = now.values().filter(|alarm| {
                let known = before.get(&alarm.id);
                known.is_none_or(|known| (known.raised, known.severity) != (alarm.raised, alarm.severity))
            });
            for alarm in news {
                self.sink.say("alarm", &alarm_told(alarm, true));
            }
            for alarm in before.values().filter(|alarm| !now.contains_key(&alarm.id)) {
                self.sink.say("alarm", &alarm_told(alarm, false));
            }
            *before = now;
        }
        if let Some(before) = &mut self.bridges {
            let now = states(&self.control);
            for (name, state) in now
                .iter()
                .filter(|(name, state)| before.get(*name) != Some(state))
            {
                let told = json!({ "name": name, "state": state, "at": unix_time() });
                self.sink.say("bridge", &told);
            }
            for name in before.keys().filter(|name| !now.contains_key(*name)) {
                let told = json!({ "name": name, "state": "removed", "at": unix_time() });
                self.sink.say("bridge", &told);
            }
            *before = now;
        }
        self.sink.settle()
    }
}

fn alarm_told(alarm: &Alarm, active: bool) -> Value {
    json!({
        "id": alarm.id,
        "active": active,
        "severity": alarm.severity,
        "message": alarm.summary,
        "at": if active { alarm.raised } else { unix_time() },
    })
}

/// For ever, where none are wanted.
async fn next_notice(notices: &mut Option<headgate_bus::handle::Notices>) -> Option<Notice> {
    match notices {
        Some(notices) => notices.next().await,
        None => std::future::pending().await,
    }
}

async fn next_line(log: &mut Option<crate::log::Tail>) -> Option<Arc<str>> {
    match log {
        Some(log) => log.next().await,
        None => std::future::pending().await,
    }
}

/// Which messages.
#[derive(Deserialize, JsonSchema)]
struct Tailed {
    /// A topic filter.
    filter: String,
    /// Messages that this client publishes, and no others.
    client: Option<String>,
    /// More are left out, and said by their number; 1 to 1,000.
    max_per_second: Option<u32>,
    /// Bytes of a payload that are told; what is longer is cut.
    max_payload: Option<usize>,
}

async fn tail(
    State(control): State<Control>,
    Extension(asking): Extension<Asking>,
    Query(wanted): Query<Tailed>,
) -> Result<Events, Failure> {
    let (sink, events) = Sink::open(&control, &asking)?;
    let tail = Tail {
        filter: wanted.filter,
        of_client: wanted.client,
        per_second: wanted.max_per_second.unwrap_or(100).clamp(1, 1_000),
        max_payload: wanted.max_payload.unwrap_or(4_096).min(64 << 10),
    };
    tail.start(control, asking, sink)?;
    Ok(events)
}
