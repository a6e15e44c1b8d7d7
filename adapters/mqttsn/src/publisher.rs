//! PUBLISH at QoS −1, of senders without a connection. §6.8
//!
//! All of it is published under one identity of its own, whose session is opened with the first message, and no faster than the settings say.

use crate::counters::SnMetric;
use crate::gateway::{Occupant, Out, PROTOCOL, SnGateway};
use crate::handshake::credentials;
use crate::inbound::short_topic;
use crate::settings::{Login, QosMinusOneSettings};
use headgate_model::access::{Denial, Wanted};
use headgate_model::bus::Presence;
use headgate_model::datagram::Address;
use headgate_model::gate::Waiting;
use headgate_model::link::RESERVED_CLIENT_ID;
use headgate_model::{
    Admitted, Answer, BusCommand, BusEvent, ClientId, CloseReason, Entrant, Identity, Instant, Message,
    Metric, Open, Question, Refused, Verdict,
};
use headgate_mqttsn_codec::{Publish, TopicRef};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Messages that wait until the session is open.
const MAX_WAITING: usize = 64;
/// After a refusal it is not tried again sooner.
const PAUSE: Duration = Duration::from_secs(10);

/// The one who publishes for those without a connection.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// As rules and log know it.
    name: ClientId,
    /// Its place among the clients, once it was needed.
    index: Option<u32>,
    state: State,
    waiting: VecDeque<Message>,
    /// Thousandths of messages that may be sent now.
    tokens: u64,
    filled_at: Instant,
    /// It goes by another identity from the next message on.
    is_another: bool,
}

#[derive(Debug)]
enum State {
    Closed {
        not_before: Instant,
    },
    Authenticating,
    Opening(Identity),
    Open {
        identity: Identity,
        /// The access service is asked about it; others wait behind it.
        asking: Option<Box<Waiting<Message>>>,
    },
}

impl Publisher {
    pub(crate) fn new(settings: &QosMinusOneSettings, now: Instant) -> Self {
        Self {
            name: settings.client_id.as_str().into(),
            index: None,
            state: State::Closed { not_before: now },
            waiting: VecDeque::new(),
            tokens: u64::from(settings.burst) * 1_000,
            filled_at: now,
            is_another: false,
        }
    }

    /// Takes over other settings.
    pub(crate) fn change(&mut self, old: &QosMinusOneSettings, new: &QosMinusOneSettings) {
        let who = |settings: &QosMinusOneSettings| {
            let QosMinusOneSettings {
                client_id,
                username,
                password,
                ..
            } = settings;
            (client_id.clone(), username.clone(), password.clone())
        };
        self.is_another |= who(old) != who(new);
        self.tokens = self.tokens.min(u64::from(new.burst) * 1_000);
    }

    pub(crate) fn has_endpoint(&self) -> bool {
        matches!(self.state, State::Opening(_) | State::Open { .. })
    }

    /// By which user name it publishes, while that is known.
    fn user(&self) -> Option<&Arc<str>> {
        match &self.state {
            State::Opening(identity) | State::Open { identity, .. } => identity.username.as_ref(),
            State::Closed { .. } | State::Authenticating => None,
        }
    }

    /// Whether one more message may be taken now.
    fn take_token(&mut self, settings: &QosMinusOneSettings, now: Instant) -> bool {
        if settings.rate == 0 {
            return true;
        }
        let ms = u64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(u64::MAX);
        self.filled_at = now;
        let grown = self
            .tokens
            .saturating_add(ms.saturating_mul(settings.rate.into()));
        self.tokens = grown.min(u64::from(settings.burst) * 1_000);
        let enough = self.tokens >= 1_000;
        self.tokens -= if enough { 1_000 } else { 0 };
        enough
    }
}

impl<A: Address> SnGateway<A> {
    /// Nobody is ever answered: who has no connection would not understand, and whoever it is said to come from has perhaps not sent it.
    pub(crate) fn on_unconnected_publish(
        &mut self,
        publish: Publish,
        bytes: usize,
        now: Instant,
        out: &mut Out<A>,
    ) {
        let settings = &self.config.settings.qos_minus_one;
        if !settings.enabled || !self.publisher.take_token(settings, now) {
            return out.counts.add_own(SnMetric::Dropped);
        }
        let user = self.publisher.user();
        if let Err(limit) = self.publisher_may_send(user, bytes, now) {
            self.tell_unconnected(|| Wanted::Send, || limit.name().into(), out);
            return out.counts.add_own(SnMetric::UserTooFast);
        }
        let topic = match publish.topic {
            TopicRef::Short(name) => short_topic(name),
            TopicRef::Predefined(id) => self.config.predefined_topic(None, id).cloned(),
            // A registered id belongs to a connection.
            TopicRef::Normal(_) => None,
        };
        let Some(topic) = topic else {
            return out.counts.add_own(SnMetric::Dropped);
        };
        if self.publisher.waiting.len() >= MAX_WAITING {
            return out.counts.add_own(SnMetric::Dropped);
        }
        let retain = publish.retain;
        let message = Message::new(topic, publish.data);
        self.publisher.waiting.push_back(Message { retain, ..message });
        match self.publisher.state {
            State::Closed { not_before } if not_before <= now => self.begin_publisher(out),
            State::Closed { .. } => self.drop_waiting(out),
            State::Authenticating | State::Opening(_) => {}
            State::Open { .. } => self.publish_waiting(out),
        }
    }

    fn begin_publisher(&mut self, out: &mut Out<A>) {
        let index = match self.publisher.index {
            Some(index) => index,
            None => self.place(Occupant::Publisher),
        };
        let settings = &self.config.settings.qos_minus_one;
        self.publisher.index = Some(index);
        self.publisher.state = State::Authenticating;
        self.publisher.name = settings.client_id.as_str().into();
        self.publisher.is_another = false;
        let login = Login {
            username: settings.username.clone(),
            password: settings.password.clone(),
        };
        let credentials = credentials(&settings.client_id, login);
        self.ask(index, Question::Authenticate(Box::new(credentials)), out);
    }

    pub(crate) fn on_publisher_answer(&mut self, answer: Answer, now: Instant, out: &mut Out<A>) {
        let Some(index) = self.publisher.index else { return };
        match (&mut self.publisher.state, answer) {
            (State::Authenticating, Answer::Allowed { identity, .. }) => {
                // No client may call itself by an id that begins so: none takes this session over.
                let client_id = &self.config.settings.qos_minus_one.client_id;
                let client_id = format!("{RESERVED_CLIENT_ID}sn/{client_id}").as_str().into();
                let presence = Presence {
                    username: identity.username.clone(),
                    protocol: &PROTOCOL,
                    version: 1,
                    clean_start: true,
                    ..Presence::default()
                };
                self.publisher.state = State::Opening(identity);
                let open = Open {
                    client: Entrant::of_gateway(client_id, presence),
                    clean_start: true,
                    expiry: Duration::ZERO,
                    will: None.into(),
                    receive_maximum: 1,
                    credit: 0,
                    forgeable: false,
                    wants_expired: false,
                    link: None,
                };
                self.bus(index, BusCommand::Open(Box::new(open)), out);
            }
            (State::Authenticating, _) => {
                self.publisher.state = State::Closed {
                    not_before: now + PAUSE,
                };
                self.drop_waiting(out);
            }
            (State::Open { asking, .. }, answer) => {
                let decided = asking.take().map(|waiting| waiting.decide(answer.decision(0)));
                match decided {
                    Some(Ok(message)) => self.publish_unconnected(index, message, out),
                    Some(Err(refused)) => self.refuse_unconnected(&refused, out),
                    None => {}
                }
                self.publish_waiting(out);
            }
            _ => {}
        }
    }

    pub(crate) fn on_publisher_event(&mut self, event: &BusEvent, now: Instant, out: &mut Out<A>) {
        let Some(index) = self.publisher.index else { return };
        let closed = State::Closed {
            not_before: now + PAUSE,
        };
        match (event, &mut self.publisher.state) {
            (BusEvent::Opened { .. }, State::Opening(_)) => {
                let State::Opening(identity) = std::mem::replace(&mut self.publisher.state, closed) else {
                    unreachable!("just looked at")
                };
                self.publisher.state = State::Open {
                    identity,
                    asking: None,
                };
                self.publish_waiting(out);
            }
            (BusEvent::OpenRefused(_) | BusEvent::TakenOver | BusEvent::Kicked, state) => {
                *state = closed;
                self.close(index, CloseReason::Kicked, None, out);
                self.drop_waiting(out);
            }
            _ => {}
        }
    }

    fn publish_waiting(&mut self, out: &mut Out<A>) {
        let Some(index) = self.publisher.index else { return };
        while let State::Open {
            identity,
            asking: None,
        } = &self.publisher.state
        {
            if self.publisher.waiting.is_empty() {
                return;
            }
            let name = &self.publisher.name;
            if self.publisher.is_another || identity.policy.renewed(name, &Presence::default()).is_some() {
                // It is let in under the rules and the name of now.
                self.close(index, CloseReason::Normal, None, out);
                return self.begin_publisher(out);
            }
            let Some(message) = self.publisher.waiting.pop_front() else {
                return;
            };
            let gate = self.config.naming.gate(name, Some(&identity.policy));
            match gate.publish(message) {
                Verdict::Admitted(message) => self.publish_unconnected(index, message, out),
                Verdict::Refused(refused) => self.refuse_unconnected(&refused, out),
                Verdict::Ask(waiting) => {
                    let question = Question::Authorize(vec![waiting.request()]);
                    self.ask(index, question, out);
                    if let State::Open { asking, .. } = &mut self.publisher.state {
                        *asking = Some(waiting);
                    }
                }
            }
        }
    }

    fn refuse_unconnected(&self, refused: &Refused, out: &mut Out<A>) {
        let policy = match &self.publisher.state {
            State::Open { identity, .. } => Some(&identity.policy),
            _ => None,
        };
        self.tell_unconnected(|| refused.wanted.clone(), || refused.why(policy), out);
        out.counts.add(Metric::DroppedNotAuthorized);
    }

    /// Somebody without a connection wanted this, and does not get it. Who sent it has no name, and its address is not kept.
    fn tell_unconnected(
        &self,
        wanted: impl FnOnce() -> Wanted,
        why: impl FnOnce() -> Cow<'static, str>,
        out: &mut Out<A>,
    ) {
        out.denials.tell(|| Denial {
            client: self.publisher.name.clone(),
            who: Arc::new(Presence {
                username: self.publisher.user().cloned(),
                ..Presence::default()
            }),
            wanted: wanted(),
            why: why(),
            disconnects: false,
        });
    }

    fn publish_unconnected(&self, index: u32, message: Admitted<Message>, out: &mut Out<A>) {
        out.counts.add(Metric::Qos0Received);
        let (ack, dedup) = (None, None);
        self.bus(index, BusCommand::Publish { message, ack, dedup }, out);
    }

    fn drop_waiting(&mut self, out: &mut Out<A>) {
        let count = self.publisher.waiting.len();
        out.counts
            .add_own_n(SnMetric::Dropped, u32::try_from(count).unwrap_or(u32::MAX));
        self.publisher.waiting.clear();
    }
}
