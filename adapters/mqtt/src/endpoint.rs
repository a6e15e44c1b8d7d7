//! The endpoint's state, and what happens to each thing that comes in.

use crate::connect::Connecting;
use crate::counters::PacketMetric;
use crate::inbound::{HeldPublish, Inbound};
use crate::outbound::Outbound;
use crate::settings::MqttSettings;
use crate::subscribe::HeldSubscribe;
use crate::wire::{Received, Sent};
use headgate_model::access::Wanted;
use headgate_model::bus::{OpenRefusal, Presence, Protocol};
use headgate_model::gate::Waiting;
use headgate_model::trace::Party;
use headgate_model::{
    AccessPolicy, Answer, BusCommand, BusEvent, ClientId, CloseReason, Counter, Endpoint, Gate, Input,
    Instant, Metric, Naming, One, Outputs, PeerFacts, Question, Will,
};
use headgate_mqtt_codec::{
    AckKind, Auth, AuthProperties, DecodeError, Disconnect, DisconnectProperties, Packet, ReasonCode, Utf8,
    Version,
};
use std::sync::Arc;
use std::time::Duration;

/// SUBSCRIBEs and UNSUBSCRIBEs that may wait for their answer before further packets are left unread.
const MAX_SUBSCRIBES: usize = 64;

/// The word for operators.
pub(crate) static PROTOCOL: Protocol = Protocol { name: "mqtt" };

pub(crate) type Out = Outputs<Sent>;

/// One connection of one MQTT client. See the crate's documentation.
#[derive(Debug)]
pub struct MqttEndpoint {
    pub(crate) settings: Arc<MqttSettings>,
    pub(crate) naming: Arc<Naming>,
    pub(crate) version: Version,
    pub(crate) phase: Phase,
    /// What the open question is about; no frame is taken while there is one.
    pub(crate) held: Option<Held>,
    pub(crate) client_id: ClientId,
    /// The enhanced authentication in use.
    pub(crate) method: Option<Box<Method>>,
    /// Re-authentication is under way: AUTH 0x18 is expected. MQTT 5 §4.12.1
    pub(crate) reauthenticating: bool,
    /// One and a half times the keep alive; zero for none. \[MQTT-3.1.2-22\]
    pub(crate) patience_ms: u32,
    pub(crate) silent_since: Instant,
    /// The client is another broker: no echo. By mosquitto's bit, which means RETAIN as published too, or in version 5 by a user property or its will.
    pub(crate) bridge: bool,
    /// The client does not want reason strings. \[MQTT-3.1.2-29\]
    pub(crate) quiet: bool,
    pub(crate) session_expiry: u32,
    pub(crate) max_packet_size: u32,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// What waits for its answer.
    pub(crate) subscribes: Option<Box<Vec<HeldSubscribe>>>,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(
    size_of::<MqttEndpoint>() <= 144,
    "there is one for each connection"
);

/// How far the connection is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// CONNECT is awaited.
    Fresh(Box<Fresh>),
    /// Authentication: our turn while a question is open, otherwise the client's.
    Connecting(Box<Connecting>),
    /// The bus opens the session; CONNACK waits for it.
    Opening(Box<Opening>),
    Open(Arc<Presence>),
    /// The client said goodbye, and waits for answers.
    Leaving(Box<Leaving>),
    /// Nothing is taken and nothing is sent any more.
    Closed,
}

/// A session on its way.
#[derive(Debug)]
pub(crate) struct Opening {
    pub connack: headgate_mqtt_codec::ConnAck,
    pub who: Arc<Presence>,
}

/// How a client left.
#[derive(Debug)]
pub(crate) struct Leaving {
    reason: CloseReason,
    expiry: Option<Duration>,
    /// It goes by then, answered or not.
    until: Instant,
    pub who: Arc<Presence>,
}

/// What is known before CONNECT. Boxed: the phase is there as long as the connection.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// CONNECT must come by then.
    until: Instant,
    pub facts: PeerFacts,
}

/// Enhanced authentication. MQTT 5 §4.12
#[derive(Debug)]
pub(crate) struct Method {
    pub name: Utf8,
    /// Who the client proved to be.
    pub username: Option<Arc<str>>,
}

/// What an open question is about.
#[derive(Debug)]
pub(crate) enum Held {
    /// May it connect?
    Connect,
    /// May its will be published?
    Will(Box<Waiting<Will>>),
    Publish(Box<HeldPublish>),
    Subscribe(Box<HeldSubscribe>),
    Reauthenticate,
}

impl MqttEndpoint {
    /// A connection that was accepted at `now` and has said nothing yet.
    pub fn new(settings: Arc<MqttSettings>, facts: PeerFacts, now: Instant) -> Self {
        let until = now + settings.connect_timeout;
        Self {
            settings,
            naming: Arc::clone(&facts.naming),
            version: Version::V311,
            phase: Phase::Fresh(Box::new(Fresh { until, facts })),
            held: None,
            client_id: ClientId::from(""),
            method: None,
            reauthenticating: false,
            patience_ms: 0,
            silent_since: now,
            bridge: false,
            quiet: false,
            session_expiry: 0,
            max_packet_size: u32::MAX,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            subscribes: None,
        }
    }

    fn on_packet(&mut self, packet: Packet, now: Instant, out: &mut Out) {
        match (&self.phase, packet) {
            (Phase::Fresh(_), Packet::Connect(connect)) => self.on_connect(*connect, now, out),
            (Phase::Connecting(_), Packet::Auth(auth)) => self.on_auth_while_connecting(auth, now, out),
            (Phase::Connecting(_), Packet::Disconnect(_)) => self.finish(out),
            // Only AUTH and DISCONNECT may come before CONNACK when there is enhanced authentication.
            // [MQTT-3.1.2-30]; [3.1.1 MQTT-3.1.0-1], [MQTT-3.1.0-1]: CONNECT comes first.
            (Phase::Fresh(_) | Phase::Connecting(_), _) => {
                self.fail(ReasonCode::ProtocolError, "unexpected before CONNACK", out);
            }
            (Phase::Opening(_) | Phase::Leaving(_) | Phase::Closed, _) => {}
            (Phase::Open(_), packet) => self.on_packet_while_open(packet, now, out),
        }
    }

    fn on_packet_while_open(&mut self, packet: Packet, now: Instant, out: &mut Out) {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish, now, out),
            Packet::Ack(ack) => match ack.kind {
                AckKind::PubAck => self.on_puback(&ack, out),
                AckKind::PubRec => self.on_pubrec(&ack, out),
                AckKind::PubRel => self.on_pubrel(&ack, out),
                AckKind::PubComp => self.on_pubcomp(&ack, out),
            },
            Packet::Subscribe(subscribe) => self.on_subscribe(*subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(*unsubscribe, out),
            Packet::PingReq => {
                out.counts.add_own(PacketMetric::PingrespSent);
                self.reply(Packet::PingResp, out); // [MQTT-3.12.4-1]
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(&disconnect, now, out),
            Packet::Auth(auth) => self.on_reauthenticate(auth, out),
            // The decoder refuses these: a second CONNECT [MQTT-3.1.0-2], and what only a server sends.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => self.fail(ReasonCode::ProtocolError, "only a server sends this", out),
        }
    }

    fn on_malformed(&mut self, error: &DecodeError, version: Option<Version>, out: &mut Out) {
        out.counts.add(Metric::MalformedPackets);
        match self.phase {
            Phase::Fresh(_) => self.refuse_malformed_connect(error, version, out),
            Phase::Closed => {}
            _ if matches!(error, DecodeError::TooLarge { .. }) => {
                self.fail(
                    error.reason_code(),
                    &format!("{error} (mqtt.max_packet_size)"),
                    out,
                );
            }
            _ => self.fail(error.reason_code(), &error.to_string(), out),
        }
    }

    fn on_disconnect(&mut self, disconnect: &Disconnect, now: Instant, out: &mut Out) {
        let expiry = disconnect.properties.as_ref().and_then(|p| p.session_expiry);
        // Zero at CONNECT stays zero. MQTT 5 §3.14.2.2.2
        if self.session_expiry == 0 && expiry.is_some_and(|e| e > 0) {
            return self.fail(ReasonCode::ProtocolError, "session expiry was zero", out);
        }
        let reason = match disconnect.reason {
            ReasonCode::Success => CloseReason::Normal, // [MQTT-3.14.4-3] [3.1.1 MQTT-3.14.4-3]
            _ => CloseReason::WithWill,
        };
        let expiry = expiry.map(crate::connect::session_expiry);
        let until = now + self.settings.connect_timeout;
        let Phase::Open(who) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("DISCONNECT is read while open")
        };
        self.phase = Phase::Leaving(Box::new(Leaving {
            reason,
            expiry,
            until,
            who,
        }));
        self.leave_if_answered(out);
    }

    /// A client that said goodbye goes as soon as it has its answers: without PUBACK it would publish again. \[MQTT-4.3.2-4\] \[MQTT-3.8.4-1\]
    fn leave_if_answered(&mut self, out: &mut Out) {
        if self.subscribes.is_none() && !self.inbound.waits_for_bus() {
            self.leave(out);
        }
    }

    fn leave(&mut self, out: &mut Out) {
        if let Phase::Leaving(leaving) = &self.phase {
            let (reason, expiry) = (leaving.reason, leaving.expiry);
            out.bus(BusCommand::Close { reason, expiry });
            self.finish(out);
        }
    }

    /// What comes to a client that said goodbye: answers, and nothing else. What is delivered now stays in its session.
    fn on_bus_while_leaving(&mut self, event: BusEvent, now: Instant, out: &mut Out) {
        match event {
            BusEvent::Delivery(_) | BusEvent::Received(_) => {}
            BusEvent::TakenOver | BusEvent::Kicked => self.leave(out),
            answer => {
                self.on_bus_while_open(answer, now, out);
                self.leave_if_answered(out);
            }
        }
    }

    /// AUTH on an open connection. MQTT 5 §4.12.1
    fn on_reauthenticate(&mut self, auth: Auth, out: &mut Out) {
        let properties = auth.properties.map(|p| *p).unwrap_or_default();
        // The method is the one of CONNECT, if there was one. [MQTT-4.12.1-1] [MQTT-4.12.0-7]
        if self.method.is_none() || properties.method.as_ref() != self.method_name() {
            return self.fail(ReasonCode::ProtocolError, "another authentication method", out);
        }
        match auth.reason {
            ReasonCode::ReAuthenticate if !self.reauthenticating => {
                self.reauthenticating = true;
                let credentials = self.credentials(None, None, properties.data);
                self.ask(
                    Held::Reauthenticate,
                    Question::Reauthenticate(Box::new(credentials)),
                    out,
                );
            }
            ReasonCode::ContinueAuthentication if self.reauthenticating => {
                self.ask(Held::Reauthenticate, Question::Continue(properties.data), out);
            }
            _ => self.fail(ReasonCode::ProtocolError, "AUTH out of turn", out),
        }
    }

    fn on_reauthenticated(&mut self, answer: Answer, out: &mut Out) {
        match answer {
            // The session is another's then.
            Answer::Allowed { identity, .. } if identity.username != self.proven_username() => {
                self.fail(
                    ReasonCode::NotAuthorized,
                    "re-authentication as another user",
                    out,
                );
            }
            Answer::Allowed { identity, data } => {
                self.reauthenticating = false;
                if let Phase::Open(who) = &mut self.phase {
                    let gate = self.naming.gate(&self.client_id, Some(&identity.policy));
                    let client = gate.enter((**who).clone()).expect("looked at with CONNECT");
                    *who = Arc::clone(client.who());
                    out.bus(BusCommand::ChangeRules(client));
                }
                self.send_auth(ReasonCode::Success, data, out);
            }
            Answer::Challenge(data) => self.send_auth(ReasonCode::ContinueAuthentication, Some(data), out),
            // [MQTT-4.12.1-2]
            Answer::Refused(_) | Answer::Authorized(_) | Answer::Identified(_) => {
                self.fail(ReasonCode::NotAuthorized, "re-authentication failed", out);
            }
        }
    }

    pub(crate) fn method_name(&self) -> Option<&Utf8> {
        self.method.as_deref().map(|method| &method.name)
    }

    fn proven_username(&self) -> Option<Arc<str>> {
        self.method.as_ref()?.username.clone()
    }

    pub(crate) fn send_auth(&mut self, reason: ReasonCode, data: Option<bytes::Bytes>, out: &mut Out) {
        out.counts.add_own(PacketMetric::AuthSent);
        // The method goes with every AUTH. [MQTT-4.12.0-5]
        let properties = AuthProperties {
            method: self.method_name().cloned(),
            data,
            ..AuthProperties::default()
        };
        let auth = Auth {
            reason,
            properties: Some(Box::new(properties)),
        };
        self.reply(auth, out);
    }

    fn on_answer(&mut self, answer: Answer, now: Instant, out: &mut Out) {
        self.silent_since = now;
        match self.held.take() {
            Some(Held::Connect) => self.on_authenticated(answer, now, out),
            Some(Held::Will(waiting)) => self.on_will_decided(*waiting, &answer, now, out),
            Some(Held::Publish(held)) => self.on_publish_decided(*held, &answer, out),
            Some(Held::Subscribe(held)) => self.on_subscribe_decided(*held, &answer, out),
            Some(Held::Reauthenticate) => self.on_reauthenticated(answer, out),
            None => {}
        }
    }

    fn on_bus(&mut self, event: BusEvent, now: Instant, out: &mut Out) {
        match self.phase {
            Phase::Leaving(_) => self.on_bus_while_leaving(event, now, out),
            _ => self.on_bus_while_open(event, now, out),
        }
    }

    fn on_bus_while_open(&mut self, event: BusEvent, now: Instant, out: &mut Out) {
        match event {
            BusEvent::Opened { present, expiry } => self.on_opened(present, expiry, now, out),
            BusEvent::OpenRefused(why) => {
                self.tell(|| Wanted::Connect, || why.to_string().into(), out);
                self.turn_away(open_refusal_code(why, self.version), out);
            }
            BusEvent::TakenOver => {
                let reason = CloseReason::TakenOver;
                out.bus(BusCommand::Close { reason, expiry: None });
                self.goodbye(ReasonCode::SessionTakenOver, out); // [MQTT-3.1.4-3]
            }
            // Its session could not be made durable.
            BusEvent::Kicked if matches!(self.phase, Phase::Opening(_)) => {
                self.refuse(ReasonCode::ServerUnavailable, out);
            }
            BusEvent::Kicked => self.goodbye(ReasonCode::AdministrativeAction, out),
            BusEvent::Subscribed { token, results } => self.on_subscribed(token, &results, out),
            BusEvent::Unsubscribed { token, existed } => self.on_unsubscribed(token, &existed, out),
            BusEvent::Accepted(token, outcome) => self.on_accepted(token, outcome, out),
            BusEvent::Refused(token, why) => self.on_refused(token, why, out),
            BusEvent::Released { packet, known } => self.on_released(packet, known, out),
            BusEvent::Delivery(delivery) => self.on_delivery(delivery, now, out),
            BusEvent::Received(id) => self.on_received(id, out),
            BusEvent::RulesChanged(renewed) => match &mut self.phase {
                Phase::Open(who) => *who = renewed,
                Phase::Opening(opening) => opening.who = renewed,
                Phase::Leaving(leaving) => leaving.who = renewed,
                Phase::Fresh(_) | Phase::Connecting(_) | Phase::Closed => {}
            },
            // It never asks for these.
            BusEvent::Drained | BusEvent::Asleep | BusEvent::WillChanged(_) | BusEvent::Retained(..) => {}
        }
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Out) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            Phase::Fresh(_) => {
                self.tell(|| Wanted::Connect, || "no CONNECT in time".into(), out);
                self.finish(out);
            }
            Phase::Connecting(_) => {
                let our_turn = self.held.is_some();
                let reason = if our_turn {
                    ReasonCode::ServerUnavailable
                } else {
                    ReasonCode::NotAuthorized
                };
                self.refuse(reason, out);
            }
            Phase::Open(_) => {
                // [MQTT-3.1.2-22] [3.1.1 MQTT-3.1.2-24] MQTT 5 §4.13.1: with a DISCONNECT that says why.
                out.bus(BusCommand::Close {
                    reason: CloseReason::KeepAlive,
                    expiry: None,
                });
                self.goodbye(ReasonCode::KeepAliveTimeout, out);
            }
            Phase::Leaving(_) => self.leave(out),
            Phase::Opening(_) | Phase::Closed => {}
        }
    }

    /// Sends an answer. The client waits for it, so the link ends if the client does not take one that large. \[MQTT-3.1.2-24\]
    pub(crate) fn reply(&mut self, answer: impl Into<Sent>, out: &mut Out) {
        let mut answer = answer.into();
        if self.max_packet_size < u32::MAX
            && let Sent::Packet(packet) = &mut answer
            && !headgate_mqtt_codec::fit(packet, self.version, self.max_packet_size)
        {
            return self.fail(
                ReasonCode::PacketTooLarge,
                "the answer is larger than the client takes",
                out,
            );
        }
        out.send(answer);
    }

    pub(crate) fn ask(&mut self, held: Held, question: Question, out: &mut Out) {
        self.held = Some(held);
        out.question = Some(question);
    }

    pub(crate) fn gate(&self) -> Gate<'_> {
        self.naming.gate(&self.client_id, self.policy())
    }

    /// The client's rules, once it is let in.
    pub(crate) fn policy(&self) -> Option<&Arc<dyn AccessPolicy>> {
        match &self.phase {
            Phase::Open(who) => who.rules.policy(),
            Phase::Opening(opening) => opening.who.rules.policy(),
            Phase::Leaving(leaving) => leaving.who.rules.policy(),
            Phase::Connecting(connecting) => connecting.identity.as_ref().map(|identity| &identity.policy),
            Phase::Fresh(_) | Phase::Closed => None,
        }
    }

    /// The client broke the protocol: it is told why if its version can be told, and the link ends. \[MQTT-4.13.1-1\]
    pub(crate) fn fail(&mut self, reason: ReasonCode, what: &str, out: &mut Out) {
        out.counts.add(Metric::ProtocolErrors);
        let is_in = matches!(self.phase, Phase::Open(_) | Phase::Opening(_));
        let wanted = || if is_in { Wanted::Stay } else { Wanted::Connect };
        if !matches!(self.phase, Phase::Closed) {
            self.tell(wanted, || what.to_owned().into(), out);
        }
        match self.phase {
            Phase::Leaving(_) => self.leave(out),
            Phase::Open(_) | Phase::Opening(_) => {
                out.bus(BusCommand::Close {
                    reason: CloseReason::ProtocolError,
                    expiry: None,
                });
                self.disconnect(reason, Some(what), out);
            }
            Phase::Connecting(_) => self.turn_away(reason, out),
            Phase::Fresh(_) | Phase::Closed => {}
        }
        self.finish(out);
    }

    /// The link ends for a reason that is not the client's fault.
    fn goodbye(&mut self, reason: ReasonCode, out: &mut Out) {
        if reason != ReasonCode::ServerShuttingDown {
            self.tell(|| Wanted::Stay, || reason.to_string().into(), out);
        }
        if matches!(self.phase, Phase::Open(_)) {
            self.disconnect(reason, None, out);
        }
        self.finish(out);
    }

    /// DISCONNECT from a server exists in version 5 only. \[MQTT-3.14.0-1\]
    fn disconnect(&mut self, reason: ReasonCode, what: Option<&str>, out: &mut Out) {
        if self.version != Version::V5 || !matches!(self.phase, Phase::Open(_)) {
            return;
        }
        out.counts.add_own(PacketMetric::DisconnectSent);
        let mut disconnect = Disconnect::with_reason(reason);
        if let Some(what) = what.filter(|_| !self.quiet)
            && let Ok(text) = Utf8::new(bytes::Bytes::copy_from_slice(what.as_bytes()))
        {
            disconnect.properties = Some(Box::new(DisconnectProperties {
                reason_string: Some(text),
                ..DisconnectProperties::default()
            }));
        }
        let mut packet = Packet::Disconnect(disconnect);
        if headgate_mqtt_codec::fit(&mut packet, self.version, self.max_packet_size) {
            out.send(packet);
        }
    }

    pub(crate) fn finish(&mut self, out: &mut Out) {
        self.phase = Phase::Closed;
        self.held = None;
        out.close = true;
    }
}

impl Endpoint for MqttEndpoint {
    const COUNTERS: &'static [&'static str] = PacketMetric::NAMES;

    type Sessions = One;
    type In = Received;
    type Out = Sent;

    fn handle(&mut self, input: Input<Received>, now: Instant, out: &mut Out) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        match input {
            Input::Frame(Received::Packet(packet)) => {
                self.silent_since = now;
                count_received(&packet, out);
                self.on_packet(packet, now, out);
            }
            Input::Frame(Received::Malformed { error, version }) => self.on_malformed(&error, version, out),
            Input::Bus(event) => self.on_bus(event, now, out),
            Input::Answer(answer) => self.on_answer(answer, now, out),
            Input::Timeout => self.on_timeout(now, out),
            Input::Closed => {
                out.bus(BusCommand::Close {
                    reason: CloseReason::Lost,
                    expiry: None,
                });
                self.finish(out);
            }
            Input::Shutdown => {
                out.bus(BusCommand::Close {
                    reason: CloseReason::Shutdown,
                    expiry: None,
                });
                self.goodbye(ReasonCode::ServerShuttingDown, out);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Fresh(fresh) => Some(fresh.until),
            Phase::Connecting(connecting) => Some(connecting.until),
            Phase::Leaving(leaving) => Some(leaving.until),
            // While we leave the client's packets unread, its silence is ours.
            Phase::Open(_) if self.patience_ms > 0 && self.ready() => {
                Some(self.silent_since + Duration::from_millis(self.patience_ms.into()))
            }
            Phase::Open(_) | Phase::Opening(_) | Phase::Closed => None,
        }
    }

    fn held(&self) -> usize {
        self.inbound.held() + self.outbound.held()
    }

    fn party(&self) -> Party<'_> {
        let peer = match &self.phase {
            Phase::Fresh(fresh) => Some(&fresh.facts.peer),
            Phase::Connecting(connecting) => Some(&connecting.facts.peer),
            Phase::Opening(opening) => Some(&opening.who.peer),
            Phase::Open(who) => Some(&who.peer),
            Phase::Leaving(leaving) => Some(&leaving.who.peer),
            Phase::Closed => None,
        };
        let client = self.client_id.as_str();
        Party {
            client: Some(client).filter(|client| !client.is_empty()),
            peer,
        }
    }

    fn ready(&self) -> bool {
        self.held.is_none()
            && self.subscribes.as_ref().map_or(0, |held| held.len()) < MAX_SUBSCRIBES
            && !matches!(self.phase, Phase::Opening(_) | Phase::Leaving(_) | Phase::Closed)
    }
}

fn open_refusal_code(why: OpenRefusal, version: Version) -> ReasonCode {
    match why {
        OpenRefusal::NotOwner => ReasonCode::ClientIdentifierNotValid,
        OpenRefusal::NoRoom | OpenRefusal::TooManyOfUser if version == Version::V5 => {
            ReasonCode::QuotaExceeded
        }
        OpenRefusal::NoRoom | OpenRefusal::TooManyOfUser => ReasonCode::ServerUnavailable,
    }
}

fn count_received(packet: &Packet, out: &mut Out) {
    out.counts.add(Metric::PacketsReceived);
    let metric = match packet {
        Packet::Connect(_) => PacketMetric::ConnectReceived,
        Packet::Publish(_) => PacketMetric::PublishReceived,
        Packet::Ack(ack) => match ack.kind {
            AckKind::PubAck => PacketMetric::PubackReceived,
            AckKind::PubRec => PacketMetric::PubrecReceived,
            AckKind::PubRel => PacketMetric::PubrelReceived,
            AckKind::PubComp => PacketMetric::PubcompReceived,
        },
        Packet::Subscribe(_) => PacketMetric::SubscribeReceived,
        Packet::Unsubscribe(_) => PacketMetric::UnsubscribeReceived,
        Packet::PingReq => PacketMetric::PingreqReceived,
        Packet::Disconnect(_) => PacketMetric::DisconnectReceived,
        Packet::Auth(_) => PacketMetric::AuthReceived,
        Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => return,
    };
    out.counts.add_own(metric);
}
