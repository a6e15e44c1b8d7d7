//! A toy: a line of text is a frame. `HELLO name`, then `PUB topic text`, `SUB filter`, `BYE`; answered by `OK`, `ERR why`, and `MSG topic text` for what
//! is delivered. `KEEP label filter` is a subscription that outlives the connection: it is a session of its own, and its messages come as
//! `MSG@label topic text`; `FORGET label` ends it, and `GONE label` says that another connection has it. `SUB filter AS 7` is one of several to a filter, and `7` stands
//! behind `MSG` when it matches: `MSG#7`. This file is what the protocol's own crates would hold: codec, endpoint and settings.

use bytes::{Bytes, BytesMut};
use headgate_model::access::{Credentials, Identity};
use headgate_model::bus::{Presence, Protocol};
use headgate_model::{
    AckToken, Answer, BusCommand, BusEvent, ClientId, CloseReason, Endpoint, Fault, Gate, Input, Instant,
    Many, Message, MountPoint, Naming, Open, Outputs, PeerFacts, Qos, Question, Rewriter, SessionKey,
    Settlement, StreamProtocol, SubscriptionOptions, Topic, Verdict, Wire,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The word for operators.
static PROTOCOL: Protocol = Protocol { name: "line" };

/// The protocol, as it is registered.
pub(crate) struct Line;

impl StreamProtocol for Line {
    const NAME: &'static str = "line";
    const IS_TEXT: bool = true;

    type Settings = ();
    type Endpoint = LineEndpoint;
    type Wire = LineWire;

    fn faults((): &()) -> Vec<Fault> {
        Vec::new()
    }

    fn new((): &(), _node: &str) -> Self {
        Self
    }

    fn naming(&self, mount: MountPoint, rewriter: Arc<Rewriter>) -> Naming {
        Naming {
            mount,
            rewriter,
            ..Naming::default()
        }
    }

    fn endpoint(&self, facts: PeerFacts, now: Instant) -> LineEndpoint {
        LineEndpoint {
            facts,
            client: ClientId::from(""),
            kept: BTreeMap::new(),
            kept_so_far: 0,
            state: State::Silent {
                until: now + Duration::from_secs(10),
            },
        }
    }

    fn wire(&self) -> LineWire {
        LineWire
    }
}

/// Lines of at most 1,024 bytes.
pub(crate) struct LineWire;

const LONGEST: usize = 1_024;

impl Wire for LineWire {
    /// `None` for a line that is too long, or no UTF-8.
    type In = Option<String>;
    type Out = String;

    fn decode(&mut self, bytes: &mut BytesMut) -> Option<Option<String>> {
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
            return (bytes.len() > LONGEST).then(|| {
                bytes.clear();
                None
            });
        };
        let line = bytes.split_to(end + 1);
        Some(std::str::from_utf8(&line[..end]).ok().map(str::to_owned))
    }

    fn encode(&mut self, line: String, bytes: &mut BytesMut) {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\n");
    }
}

/// One client.
pub(crate) struct LineEndpoint {
    facts: PeerFacts,
    client: ClientId,
    /// Its durable subscriptions, by the keys of their sessions.
    kept: BTreeMap<SessionKey, Kept>,
    /// How many there have been.
    kept_so_far: u32,
    state: State,
}

/// A subscription that outlives the connection.
struct Kept {
    label: String,
    filter: String,
}

/// The session of the connection itself.
const OWN: SessionKey = SessionKey {
    index: 0,
    generation: 0,
};

enum State {
    /// HELLO must come by then.
    Silent {
        until: Instant,
    },
    /// Asked whether it may come in.
    Asking,
    /// The bus opens its session.
    Opening(Identity),
    Open(Identity),
    Closed,
}

type Out = Outputs<String, Many>;

/// Durable subscriptions of one connection.
const MOST_KEPT: u32 = 8;

impl LineEndpoint {
    fn on_line(&mut self, line: &str, out: &mut Out) {
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        match (&self.state, word) {
            (State::Silent { .. }, "HELLO") => {
                self.client = ClientId::from(rest);
                self.state = State::Asking;
                out.question = Some(Question::Authenticate(Box::new(Credentials {
                    client_id: self.client.clone(),
                    username: None,
                    password: None,
                    method: None,
                    data: None,
                    link: false,
                })));
            }
            (State::Open(_), "PUB") => self.publish(rest, out),
            (State::Open(_), "SUB") => self.subscribe(OWN, rest, out),
            (State::Open(_), "KEEP") => self.keep(rest, out),
            (State::Open(_), "FORGET") => self.forget(rest, out),
            (State::Open(_), "BYE") => self.leave(CloseReason::Normal, out),
            _ => self.fail("not now", out),
        }
    }

    fn publish(&mut self, rest: &str, out: &mut Out) {
        let (topic, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let Ok(topic) = Topic::try_from(topic) else {
            return out.send("ERR no topic");
        };
        let message = Message {
            qos: Qos::AtLeastOnce,
            ..Message::new(topic, Bytes::copy_from_slice(text.as_bytes()))
        };
        let State::Open(identity) = &self.state else {
            return;
        };
        match self.gate(identity).publish(message) {
            Verdict::Admitted(message) => {
                let ack = Some(AckToken(0));
                let dedup = None;
                out.bus(OWN, BusCommand::Publish { message, ack, dedup });
            }
            Verdict::Refused(refused) => out.send(format!("ERR {}", refused.why(Some(&identity.policy)))),
            // A real protocol holds it and asks.
            Verdict::Ask(_) => out.send("ERR nobody is asked here"),
        }
    }

    fn gate<'a>(&'a self, identity: &'a Identity) -> Gate<'a> {
        self.facts.naming.gate(&self.client, Some(&identity.policy))
    }

    fn subscribe(&self, session: SessionKey, text: &str, out: &mut Out) {
        let (filter, number) = text.split_once(" AS ").unwrap_or((text, "0"));
        let Ok(identifier) = number.parse() else {
            return out.send("ERR no number");
        };
        let options = SubscriptionOptions {
            qos: Qos::AtLeastOnce,
            identifier,
            by_identifier: identifier > 0,
            ..SubscriptionOptions::default()
        };
        let filter = Bytes::copy_from_slice(filter.as_bytes());
        let State::Open(identity) = &self.state else {
            return;
        };
        match self.gate(identity).subscribe(&filter, options) {
            Verdict::Admitted(subscription) => {
                let token = AckToken(0);
                let subscriptions = vec![subscription];
                out.bus(session, BusCommand::Subscribe { token, subscriptions });
            }
            Verdict::Refused(refused) => out.send(format!("ERR {}", refused.why(Some(&identity.policy)))),
            Verdict::Ask(_) => out.send("ERR nobody is asked here"),
        }
    }

    /// A subscription with a session of its own, which is there or is made.
    fn keep(&mut self, rest: &str, out: &mut Out) {
        let State::Open(identity) = &self.state else {
            return;
        };
        let Some((label, filter)) = rest.split_once(' ') else {
            return out.send("ERR a label and a filter");
        };
        let taken = |index| self.kept.keys().any(|key| key.index == index);
        let free = (1..=MOST_KEPT).find(|index| !taken(*index));
        let Some(index) = free.filter(|_| self.session_of(label).is_none()) else {
            return out.send("ERR no room for this label");
        };
        let name = ClientId::from(&*format!("{}.{label}", self.client));
        let Some(open) = self.opening(&name, identity, Duration::MAX) else {
            return out.send("ERR nobody may have this name");
        };
        // The index is used again, the two together never.
        let generation = self.kept_so_far;
        self.kept_so_far += 1;
        let session = SessionKey { index, generation };
        out.bus(session, BusCommand::Open(open));
        let (label, filter) = (label.to_owned(), filter.to_owned());
        self.kept.insert(session, Kept { label, filter });
    }

    fn session_of(&self, label: &str) -> Option<SessionKey> {
        let mut kept = self.kept.iter();
        kept.find(|(_, kept)| kept.label == label).map(|(key, _)| *key)
    }

    fn forget(&mut self, label: &str, out: &mut Out) {
        let Some(session) = self.session_of(label) else {
            return out.send("ERR no such label");
        };
        self.kept.remove(&session);
        let (reason, expiry) = (CloseReason::Normal, Some(Duration::ZERO));
        out.bus(session, BusCommand::Close { reason, expiry });
        out.send("OK");
    }

    fn on_answer(&mut self, answer: Answer, out: &mut Out) {
        let Answer::Allowed { identity, .. } = answer else {
            return self.fail("you may not come in", out);
        };
        let Some(open) = self.opening(&self.client, &identity, Duration::ZERO) else {
            return self.fail("nobody may have this name", out);
        };
        out.bus(OWN, BusCommand::Open(open));
        self.state = State::Opening(identity);
    }

    /// How a session is opened that outlives the connection by `expiry`.
    fn opening(&self, name: &ClientId, identity: &Identity, expiry: Duration) -> Option<Box<Open>> {
        let who = Presence {
            username: identity.username.clone(),
            protocol: &PROTOCOL,
            version: 1,
            peer: self.facts.peer.clone(),
            peer_port: self.facts.peer_port,
            clean_start: expiry.is_zero(),
            ..Presence::default()
        };
        let gate = self.facts.naming.gate(name, Some(&identity.policy));
        Some(Box::new(Open {
            client: gate.enter(who)?,
            clean_start: expiry.is_zero(),
            expiry,
            will: None.into(),
            receive_maximum: 16,
            credit: 16,
            forgeable: false,
            wants_expired: false,
            link: None,
        }))
    }

    fn on_event(&mut self, session: SessionKey, event: BusEvent, out: &mut Out) {
        let kept = self.kept.get(&session);
        if session != OWN && kept.is_none() {
            return; // It was forgotten.
        }
        match event {
            BusEvent::Opened { .. } => match kept {
                Some(kept) => self.subscribe(session, &kept.filter, out),
                None => {
                    if let State::Opening(identity) = std::mem::replace(&mut self.state, State::Closed) {
                        self.state = State::Open(identity);
                        out.send("OK");
                    }
                }
            },
            // Only that one goes, and the connection stays.
            BusEvent::TakenOver | BusEvent::Kicked | BusEvent::OpenRefused(_) if kept.is_some() => {
                let opened = !matches!(event, BusEvent::OpenRefused(_));
                if let Some(kept) = self.kept.remove(&session) {
                    out.send(format!("GONE {}", kept.label));
                }
                if opened {
                    let (reason, expiry) = (CloseReason::TakenOver, None);
                    out.bus(session, BusCommand::Close { reason, expiry });
                }
            }
            BusEvent::OpenRefused(why) => self.fail(&why.to_string(), out),
            BusEvent::Accepted(..) | BusEvent::Subscribed { .. } => out.send("OK"),
            BusEvent::Refused(_, why) => out.send(format!("ERR {why}")),
            BusEvent::Delivery(delivery) => {
                let topic = self.facts.naming.mount.unmount(&delivery.message.topic);
                let text = String::from_utf8_lossy(&delivery.message.payload).replace('\n', " ");
                let label = kept.map(|kept| format!("@{}", kept.label)).unwrap_or_default();
                let numbers = delivery.subscription_ids.iter().flat_map(|ids| ids.iter());
                let numbers: String = numbers.map(|number| format!("#{number}")).collect();
                out.send(format!("MSG{label}{numbers} {topic} {text}"));
                out.grant_credit(session, delivery.message.size());
                // A line has no acknowledgement: it is done when it is written.
                if let Some(id) = delivery.id {
                    out.bus(session, BusCommand::Settle(id, Settlement::Done));
                }
            }
            BusEvent::TakenOver => self.leave(CloseReason::TakenOver, out),
            BusEvent::Kicked => self.leave(CloseReason::Kicked, out),
            _ => {}
        }
    }

    fn fail(&mut self, why: &str, out: &mut Out) {
        out.send(format!("ERR {why}"));
        self.leave(CloseReason::ProtocolError, out);
    }

    fn leave(&mut self, reason: CloseReason, out: &mut Out) {
        if matches!(self.state, State::Opening(_) | State::Open(_)) {
            let kept = self.kept.keys().copied();
            for session in kept.chain([OWN]) {
                let expiry = None;
                out.bus(session, BusCommand::Close { reason, expiry });
            }
        }
        self.state = State::Closed;
        out.close = true;
    }
}

impl Endpoint for LineEndpoint {
    type Sessions = Many;
    type In = Option<String>;
    type Out = String;

    fn handle(&mut self, input: Input<Option<String>, Many>, now: Instant, out: &mut Out) {
        match input {
            Input::Frame(Some(line)) => self.on_line(&line, out),
            Input::Frame(None) => self.fail("no line", out),
            Input::Bus((session, event)) => self.on_event(session, event, out),
            Input::Answer(answer) => self.on_answer(answer, out),
            Input::Timeout => {
                if self.deadline().is_some_and(|at| at <= now) {
                    self.fail("say HELLO", out);
                }
            }
            Input::Closed => self.leave(CloseReason::Lost, out),
            Input::Shutdown => self.leave(CloseReason::Shutdown, out),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Silent { until } => Some(until),
            _ => None,
        }
    }

    fn ready(&self) -> bool {
        matches!(self.state, State::Silent { .. } | State::Open(_))
    }
}
