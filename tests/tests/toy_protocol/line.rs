//! A toy: a line of text is a frame. `HELLO name`, then `PUB topic text`, `SUB filter`, `BYE`; answered by `OK`, `ERR why`, and `MSG topic text` for what
//! is delivered. This file is what the protocol's own crates would hold: codec, endpoint and settings.

use bytes::{Bytes, BytesMut};
use headgate_model::access::{Credentials, Identity};
use headgate_model::bus::{Presence, Protocol};
use headgate_model::{
    AckToken, Answer, BusCommand, BusEvent, ClientId, CloseReason, Endpoint, Fault, Input, Instant, Message,
    MountPoint, Naming, Open, Outputs, PeerFacts, Qos, Question, Rewriter, Settlement, StreamProtocol,
    SubscriptionOptions, Topic, Verdict, Wire,
};
use std::sync::Arc;
use std::time::Duration;

/// The word for operators.
static PROTOCOL: Protocol = Protocol { name: "line" };

/// The protocol, as it is registered.
pub(crate) struct Line;

impl StreamProtocol for Line {
    const NAME: &'static str = "line";

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
    state: State,
}

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

type Out = Outputs<String>;

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
            (State::Open(_), "SUB") => self.subscribe(rest, out),
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
        match self
            .facts
            .naming
            .gate(&self.client, Some(&identity.policy))
            .publish(message)
        {
            Verdict::Admitted(message) => out.bus(BusCommand::Publish {
                message,
                ack: Some(AckToken(0)),
                dedup: None,
            }),
            Verdict::Refused(refused) => out.send(format!("ERR {}", refused.why(Some(&identity.policy)))),
            // A real protocol holds it and asks.
            Verdict::Ask(_) => out.send("ERR nobody is asked here"),
        }
    }

    fn subscribe(&mut self, filter: &str, out: &mut Out) {
        let options = SubscriptionOptions {
            qos: Qos::AtLeastOnce,
            ..SubscriptionOptions::default()
        };
        let filter = Bytes::copy_from_slice(filter.as_bytes());
        let State::Open(identity) = &self.state else {
            return;
        };
        let gate = self.facts.naming.gate(&self.client, Some(&identity.policy));
        match gate.subscribe(&filter, options) {
            Verdict::Admitted(subscription) => out.bus(BusCommand::Subscribe {
                token: AckToken(0),
                subscriptions: vec![subscription],
            }),
            Verdict::Refused(refused) => out.send(format!("ERR {}", refused.why(Some(&identity.policy)))),
            Verdict::Ask(_) => out.send("ERR nobody is asked here"),
        }
    }

    fn on_answer(&mut self, answer: Answer, out: &mut Out) {
        let Answer::Allowed { identity, .. } = answer else {
            return self.fail("you may not come in", out);
        };
        let who = Presence {
            username: identity.username.clone(),
            protocol: &PROTOCOL,
            version: 1,
            peer: self.facts.peer.clone(),
            peer_port: self.facts.peer_port,
            clean_start: true,
            ..Presence::default()
        };
        let gate = self.facts.naming.gate(&self.client, Some(&identity.policy));
        let Some(client) = gate.enter(who) else {
            return self.fail("nobody may have this name", out);
        };
        out.bus(BusCommand::Open(Box::new(Open {
            client,
            clean_start: true,
            expiry: Duration::ZERO,
            will: None.into(),
            receive_maximum: 16,
            credit: 16,
            forgeable: false,
            link: None,
        })));
        self.state = State::Opening(identity);
    }

    fn on_event(&mut self, event: BusEvent, out: &mut Out) {
        match event {
            BusEvent::Opened { .. } => {
                if let State::Opening(identity) = std::mem::replace(&mut self.state, State::Closed) {
                    self.state = State::Open(identity);
                    out.send("OK");
                }
            }
            BusEvent::OpenRefused(why) => self.fail(&why.to_string(), out),
            BusEvent::Accepted(..) | BusEvent::Subscribed { .. } => out.send("OK"),
            BusEvent::Refused(_, why) => out.send(format!("ERR {why}")),
            BusEvent::Delivery(delivery) => {
                let topic = self.facts.naming.mount.unmount(&delivery.message.topic);
                let text = String::from_utf8_lossy(&delivery.message.payload).replace('\n', " ");
                out.send(format!("MSG {topic} {text}"));
                out.grant_credit(delivery.message.size());
                // A line has no acknowledgement: it is done when it is written.
                if let Some(id) = delivery.id {
                    out.bus(BusCommand::Settle(id, Settlement::Done));
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
            let expiry = None;
            out.bus(BusCommand::Close { reason, expiry });
        }
        self.state = State::Closed;
        out.close = true;
    }
}

impl Endpoint for LineEndpoint {
    type In = Option<String>;
    type Out = String;

    fn handle(&mut self, input: Input<Option<String>>, now: Instant, out: &mut Out) {
        match input {
            Input::Frame(Some(line)) => self.on_line(&line, out),
            Input::Frame(None) => self.fail("no line", out),
            Input::Bus(event) => self.on_event(event, out),
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
