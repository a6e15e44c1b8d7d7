//! A live tail of messages: a session of its own on the bus, with the rules of who has logged in, that takes everything at once and tells as much as is wanted.
//! Where that is not all, the last message of each topic is told, if late.

use super::guard::Asking;
use super::server::{Control, Failure};
use super::streams::Sink;
use crate::sys::unix_time;
use axum::http::StatusCode;
use base64::Engine as _;
use bytes::Bytes;
use headgate_admin::Role;
use headgate_bus::handle::Port;
use headgate_model::access::Unrestricted;
use headgate_model::bus::{BusEvent, Open, OpenWill, PeerName, Presence, Protocol};
use headgate_model::{
    AccessPolicy, AckToken, BusCommand, ClientId, CloseReason, Delivery, Naming, SessionId,
    SubscriptionOptions, Topic, Verdict,
};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the sessions of tails begin with: nobody from outside has one of these.
const SESSIONS: &str = "$web/";
/// Messages that the session takes before it grants more.
const CREDIT: u32 = 4_096;
/// So long messages gather before they are told: a busy tail wakes seldom.
const GATHER: Duration = Duration::from_millis(20);
/// Topics whose last message is held while there are more than may be told.
const MOST_HELD: usize = 256;
/// How often it is looked whether whoever asked still may.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What these sessions speak, in a word for operators.
static WEB: Protocol = Protocol { name: "web" };

/// Whether a session is one of ours, of which nobody is told.
pub(crate) fn is_ours(client: &str) -> bool {
    client.starts_with(SESSIONS)
}

/// What is wanted.
pub(super) struct Tail {
    pub(super) filter: String,
    /// Messages that this client published.
    pub(super) of_client: Option<String>,
    pub(super) per_second: u32,
    /// Bytes.
    pub(super) max_payload: usize,
}

impl Control {
    /// The rules of who has logged in, by its name; an administrator may do everything.
    pub(super) fn policy_of(&self, asking: &Asking) -> Arc<dyn AccessPolicy> {
        match asking.who.role {
            Role::Administrator => Arc::new(Unrestricted),
            Role::Operator | Role::Viewer => {
                let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let name = &asking.who.name;
                self.access.policy("", name, Some(name), here)
            }
        }
    }
}

/// A session of its own for who looks on, with its rules: what opens it, and subscribes to the filter.
pub(super) fn session(control: &Control, asking: &Asking, filter: &str) -> Result<Vec<BusCommand>, Failure> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let naming = Naming::default();
    let policy = control.policy_of(asking);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let client: ClientId = format!("{SESSIONS}{}/{number}", asking.who.name).as_str().into();
    let gate = naming.gate(&client, Some(&policy));
    let options = SubscriptionOptions::default();
    let subscription = match gate.subscribe(&Bytes::from(filter.to_owned()), options) {
        Verdict::Admitted(subscription) => subscription,
        Verdict::Ask(_) => {
            let what = "the rules want somebody else to be asked, which nobody waits for here";
            return Err(Failure(StatusCode::FORBIDDEN, what.into()));
        }
        Verdict::Refused(refused) => {
            let status = match refused.name_error() {
                None => StatusCode::FORBIDDEN,
                Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
            };
            return Err(Failure(status, refused.why(Some(&policy)).into_owned()));
        }
    };
    if subscription.share.is_some() {
        let what =
            "who looks on takes nothing away from the members of a shared subscription: leave `$share/…` out";
        return Err(Failure(StatusCode::UNPROCESSABLE_ENTITY, what.into()));
    }
    let who = Presence {
        username: Some(asking.who.name.as_str().into()),
        protocol: &WEB,
        peer: PeerName::Other("web".into()),
        ..Presence::default()
    };
    let open = Open {
        client: gate.enter_beside(who).expect("its name is one of those"),
        clean_start: true,
        expiry: Duration::ZERO,
        will: OpenWill::Set(None),
        receive_maximum: 1,
        credit: CREDIT,
        forgeable: false,
        wants_expired: false,
        link: None,
    };
    let subscribe = BusCommand::Subscribe {
        token: AckToken(0),
        subscriptions: vec![subscription],
    };
    Ok(vec![BusCommand::Open(Box::new(open)), subscribe])
}

impl Tail {
    /// Begins, or says why not. It ends when nobody listens any more, or whoever asked may no more.
    pub(super) fn start(self, control: Control, asking: Asking, sink: Sink) -> Result<(), Failure> {
        let commands = session(&control, &asking, &self.filter)?;
        let running = Running {
            port: control.hub.attach(),
            tail: self,
            control,
            asking,
            sink,
            told: 0,
            second: Instant::now(),
            publisher: None,
            looked_up: Instant::now(),
            held: HashMap::new(),
        };
        tokio::spawn(running.run(commands));
        Ok(())
    }
}

struct Running {
    port: Port,
    tail: Tail,
    control: Control,
    asking: Asking,
    sink: Sink,
    /// Messages that were told in this second,
    told: u32,
    /// which began then.
    second: Instant,
    /// The session of the client whose messages are wanted, as it was looked up last.
    publisher: Option<SessionId>,
    looked_up: Instant,
    /// The last messages of topics that were too many to be told.
    held: HashMap<Topic, Delivery>,
}

impl Running {
    async fn run(mut self, mut commands: Vec<BusCommand>) {
        self.port.submit(&mut commands);
        let mut events = VecDeque::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = self.sink.closed() => break,
                _ = look.tick() => {
                    if !self.asking.still_holds(&self.control) || !self.sink.settle() {
                        break;
                    }
                    let session = |client: &String| Some(self.control.hub.session(client)?.id);
                    self.publisher = self.tail.of_client.as_ref().and_then(session);
                    if !self.tell_held() {
                        break;
                    }
                    continue;
                }
                _ = poll_fn(|cx| self.port.poll_call(cx)) => {}
            }
            self.port.take_events(&mut events);
            if !self.take(&mut events) {
                break;
            }
            sleep(GATHER).await;
        }
        let close = BusCommand::Close {
            reason: CloseReason::Normal,
            expiry: None,
        };
        self.port.submit(&mut vec![close]);
    }

    /// Whether it goes on.
    fn take(&mut self, events: &mut VecDeque<BusEvent>) -> bool {
        let (mut deliveries, mut bytes) = (0, 0usize);
        for event in events.drain(..) {
            match event {
                BusEvent::Delivery(delivery) => {
                    deliveries += 1;
                    bytes += delivery.message.size();
                    if !self.tell(&delivery) {
                        return false;
                    }
                }
                BusEvent::OpenRefused(why) => {
                    self.sink.say("denied", &json!({ "error": why.to_string() }));
                    return false;
                }
                BusEvent::Subscribed { results, .. } => {
                    if let Some(Err(why)) = results.first() {
                        self.sink.say("denied", &json!({ "error": why.to_string() }));
                        return false;
                    }
                    if !self.sink.say("open", &json!({ "filter": self.tail.filter })) {
                        return false;
                    }
                }
                BusEvent::Kicked | BusEvent::TakenOver => return false,
                _ => {}
            }
        }
        if deliveries > 0 {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.port
                .submit(&mut vec![BusCommand::Credit { deliveries, bytes }]);
        }
        true
    }

    fn tell(&mut self, delivery: &Delivery) -> bool {
        let publisher = delivery.message.publisher;
        // It may have come since it was looked up last.
        if let Some(client) = &self.tail.of_client
            && publisher != self.publisher
            && self.looked_up.elapsed() >= GATHER
        {
            self.looked_up = Instant::now();
            self.publisher = self.control.hub.session(client).map(|known| known.id);
        }
        if self.tail.of_client.is_some() && (publisher.is_none() || publisher != self.publisher) {
            return true;
        }
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.second = Instant::now();
            self.told = 0;
        }
        let is_full = self.told >= self.tail.per_second || !self.sink.has_room();
        let topic = &delivery.message.topic;
        let is_held = self.held.contains_key(topic);
        if is_full || is_held {
            if is_held || self.held.len() >= MOST_HELD {
                self.sink.leave_out(1);
            }
            if is_held || self.held.len() < MOST_HELD {
                self.held.insert(topic.clone(), delivery.clone());
            }
            return true;
        }
        self.told += 1;
        let told = self.told_of(delivery);
        self.sink.say("message", &told)
    }

    /// Tells what was held, as far as it may be told in this second. Whether it goes on.
    fn tell_held(&mut self) -> bool {
        if self.held.is_empty() {
            return true;
        }
        (self.second, self.told) = (Instant::now(), 0);
        let mut left = std::mem::take(&mut self.held).into_iter();
        while self.told < self.tail.per_second && self.sink.has_room() {
            let Some((_, delivery)) = left.next() else {
                return true;
            };
            self.told += 1;
            let told = self.told_of(&delivery);
            if !self.sink.say("message", &told) {
                return false;
            }
        }
        self.held.extend(left);
        true
    }

    fn told_of(&self, delivery: &Delivery) -> Value {
        let message = &delivery.message;
        let length = message.payload.len().min(self.tail.max_payload);
        let mut payload = &message.payload[..length];
        let mut text = std::str::from_utf8(payload);
        // What was cut inside a letter ends before it.
        if let Err(error) = text
            && error.error_len().is_none()
            && length < message.payload.len()
        {
            payload = &payload[..error.valid_up_to()];
            text = std::str::from_utf8(payload);
        }
        let base64 = || base64::engine::general_purpose::STANDARD.encode(payload);
        json!({
            "topic": message.topic.as_str(),
            "payload": text.ok(),
            "payload_base64": text.is_err().then(base64),
            "bytes": message.payload.len(),
            "cut": length < message.payload.len(),
            "qos": message.qos as u8,
            "retain": delivery.retain,
            "from": self.tail.of_client,
            "at": unix_time(),
        })
    }
}
