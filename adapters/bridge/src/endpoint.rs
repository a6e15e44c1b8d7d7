//! The endpoint of one connection: its state, and what happens to each thing that comes in.

use crate::batches::Batches;
use crate::clocks::Clocks;
use crate::connect::Preparing;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::plan::{BridgePlan, Credentials, DOWN, UP};
use crate::rate::Grants;
use crate::reasons::{DropReason, EndReason};
use crate::status::{BridgeState, BridgeStatus};
use crate::throttle::Throttles;
use crate::wire::Received;
use headgate_model::access::Unrestricted;
use headgate_model::trace::Party;
use headgate_model::{
    AccessPolicy, Admitted, BusCommand, BusEvent, ClientId, CloseReason, Endpoint, Input, Instant, Message,
    Metric, Naming, One, Outputs, Verdict,
};
use headgate_mqtt_codec::{
    Ack, AckKind, Disconnect, MAX_PACKET_SIZE, Packet, Publish, Qos, ReasonCode, Version,
};
use std::sync::Arc;
use std::time::Duration;

pub(crate) type Out = Outputs<Packet>;

/// One connection to the remote. See the crate's documentation.
#[derive(Debug)]
pub struct BridgeEndpoint {
    pub(crate) plan: Arc<BridgePlan>,
    pub(crate) status: Arc<BridgeStatus>,
    pub(crate) credentials: Credentials,
    /// How topics of what comes in are rewritten, and what else its messages need to pass the gate.
    naming: Arc<Naming>,
    local_client_id: ClientId,
    policy: Arc<dyn AccessPolicy>,
    /// CONNECT has bit 0x80.
    pub(crate) private: bool,
    pub(crate) phase: Phase,
    pub(crate) remote: Remote,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    pub(crate) grants: Grants,
    pub(crate) throttles: Throttles,
    /// A rule gathers messages to batches.
    pub(crate) gathers: bool,
    pub(crate) batches: Batches,
    pub(crate) clocks: Clocks,
    created: Instant,
}

/// How far the connection is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// CONNECT is to be sent.
    Fresh,
    /// CONNACK is awaited, until then.
    Connecting(Instant),
    /// The bus opens the session.
    Opening,
    /// The remote is asked for subscriptions and the like. Nothing is sent from the queue yet.
    Preparing(Box<Preparing>),
    Open,
    /// Nothing is taken and nothing is sent any more.
    Closed,
}

/// What the remote takes. MQTT 5 §3.2.2.3
#[derive(Debug)]
pub(crate) struct Remote {
    pub receive_maximum: u16,
    pub max_packet_size: u32,
    pub max_qos: Qos,
    pub retain_available: bool,
    pub wildcards_available: bool,
    pub session_present: bool,
}

impl BridgeEndpoint {
    /// A connection that was just made. `private` asks for bit 0x80 of the protocol level, which MQTT 5 does not have.
    pub fn new(
        plan: Arc<BridgePlan>,
        credentials: Credentials,
        status: Arc<BridgeStatus>,
        private: bool,
        now: Instant,
    ) -> Self {
        let settings = plan.settings();
        let max_packet_size = match settings.max_outgoing_packet_size {
            0 => MAX_PACKET_SIZE,
            size => size,
        };
        Self {
            remote: Remote {
                receive_maximum: plan.max_inflight(),
                max_packet_size,
                max_qos: Qos::from_bits(settings.max_qos).unwrap_or_default(),
                retain_available: settings.outgoing_retain,
                wildcards_available: true,
                session_present: false,
            },
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            grants: Grants::new(settings.rate, now),
            throttles: Throttles::default(),
            gathers: plan.gathers(),
            batches: Batches::default(),
            created: now,
            clocks: Clocks::new(settings.keep_alive, settings.stalled_after, now),
            private: private && plan.version() != Version::V5,
            local_client_id: plan.local_client_id(),
            plan,
            status,
            credentials,
            naming: Arc::default(),
            policy: Arc::new(Unrestricted),
            phase: Phase::Fresh,
        }
    }

    /// Names topics of what comes in by `naming`.
    #[must_use]
    pub fn with_naming(mut self, naming: Arc<Naming>) -> Self {
        self.naming = naming;
        self
    }

    /// Takes a message of the remote, with the topic as the bridge's rules have it. What is under `$SYS` is not the remote's.
    pub(crate) fn admit(&self, message: Message) -> Option<Admitted<Message>> {
        let gate = self.naming.gate(&self.local_client_id, Some(&self.policy));
        match gate.publish(message) {
            Verdict::Admitted(message) => Some(message),
            Verdict::Ask(_) | Verdict::Refused(_) => None,
        }
    }

    /// The longest the remote may owe an answer.
    pub(crate) fn patience(&self) -> Duration {
        self.plan.settings.stalled_after * 2
    }

    fn on_packet(&mut self, packet: Packet, now: Instant, out: &mut Out) {
        match (&self.phase, packet) {
            (Phase::Connecting(_), Packet::ConnAck(connack)) => self.on_connack(*connack, now, out),
            (Phase::Preparing(_) | Phase::Open, packet) => self.on_packet_while_open(packet, now, out),
            (_, packet) => self.fail(&format!("{} out of turn", packet.packet_type()), out),
        }
    }

    fn on_packet_while_open(&mut self, packet: Packet, now: Instant, out: &mut Out) {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish, now, out),
            Packet::Ack(ack) => self.on_ack(&ack, now, out),
            Packet::SubAck(suback) => self.on_suback(&suback, now, out),
            Packet::UnsubAck(unsuback) => self.on_unsuback(&unsuback, now, out),
            Packet::PingResp => self.on_pingresp(now, out),
            Packet::Disconnect(disconnect) => {
                if is_about_a_packet(disconnect.reason) {
                    self.suspect_first();
                }
                self.leave(CloseReason::Lost, EndReason::Disconnected(disconnect.reason), out);
            }
            packet => self.fail(&format!("{} from a server", packet.packet_type()), out),
        }
    }

    fn on_ack(&mut self, ack: &Ack, now: Instant, out: &mut Out) {
        if ack.kind == AckKind::PubRel {
            return self.on_pubrel(ack, out);
        }
        self.answered(now);
        if !std::mem::replace(&mut self.outbound.acknowledged, true) {
            self.status.clear_suspect();
        }
        match ack.kind {
            AckKind::PubAck => self.on_puback(ack, out),
            AckKind::PubRec => self.on_pubrec(ack, out),
            AckKind::PubComp => self.on_pubcomp(ack, out),
            AckKind::PubRel => {}
        }
    }

    fn on_pingresp(&mut self, now: Instant, out: &mut Out) {
        self.clocks.pong();
        if self.outbound.owed() == 0 {
            self.answered(now); // Where nothing else is acknowledged, this is all there is.
        }
        self.on_prepared_pingresp(now, out);
    }

    /// The remote has answered something that it owed.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.status.acknowledged_at(now);
        if self.clocks.answered() {
            self.status.set_state(BridgeState::Connected, now);
        }
    }

    fn on_bus(&mut self, event: BusEvent, now: Instant, out: &mut Out) {
        match event {
            BusEvent::Opened { .. } => self.prepare(out),
            // Never for a session of the gateway itself, whose owner is nobody else.
            BusEvent::OpenRefused(_) | BusEvent::TakenOver => {
                self.leave(CloseReason::TakenOver, EndReason::Asked, out);
            }
            BusEvent::Kicked => self.say_goodbye(CloseReason::Kicked, now, out),
            BusEvent::Subscribed { results, .. } => self.on_local_subscribed(&results),
            BusEvent::Accepted(token, _) => self.on_accepted(token, out),
            BusEvent::Refused(token, why) => self.on_refused(token, why, out),
            BusEvent::Released { packet, .. } => self.on_released(packet, out),
            BusEvent::Delivery(delivery) => {
                self.grants.taken();
                self.on_delivery(delivery, now, out);
            }
            BusEvent::Received(id) => self.on_received(id, out),
            BusEvent::Drained => self.ask_again(out),
            BusEvent::Unsubscribed { .. }
            | BusEvent::Asleep
            | BusEvent::WillChanged(_)
            | BusEvent::Retained(..)
            | BusEvent::RulesChanged(_) => {}
        }
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Out) {
        match self.phase {
            Phase::Fresh => self.connect(now, out),
            Phase::Connecting(until) if until <= now => {
                self.status.end(EndReason::NoAnswer);
                self.finish(out);
            }
            Phase::Preparing(_) | Phase::Open => {
                if self.clocks.give_up_due().is_some_and(|at| at <= now) {
                    return self.leave(CloseReason::KeepAlive, EndReason::NoAnswer, out);
                }
                if self.clocks.stalled_due().is_some_and(|at| at <= now) {
                    self.clocks.stall();
                    self.status.set_state(BridgeState::Stalled, now);
                }
                self.send_due(now, out);
                if self.clocks.ping_due().is_some_and(|at| at <= now) {
                    self.ping(out);
                }
            }
            Phase::Connecting(_) | Phase::Opening | Phase::Closed => {}
        }
    }

    pub(crate) fn ping(&mut self, out: &mut Out) {
        self.clocks.ping();
        out.send(Packet::PingReq);
    }

    /// After each step: what the remote owes from now on, what was sent, what the bus may hand over.
    fn keep_account(&mut self, sent: &[Packet], now: Instant, out: &mut Out) {
        if !matches!(self.phase, Phase::Preparing(_) | Phase::Open) {
            return;
        }
        let prepares = matches!(self.phase, Phase::Preparing(_));
        self.clocks.sent(sent, now);
        self.clocks.owes(prepares || self.outbound.owed() > 0, now);
        self.status.set_in_flight(self.outbound.len());
        if !prepares {
            self.limit_grants();
            let granted = self.grants.grant(now);
            if granted > 0 {
                out.bus(BusCommand::credit(granted));
            }
        }
    }

    /// While something is suspected that the remote hangs up at it, one message goes, and the others wait for what comes of it.
    fn limit_grants(&mut self) {
        let alone = !self.outbound.acknowledged && self.status.is_suspicious();
        let limit = alone.then(|| u32::from(self.outbound.owed() == 0));
        let most = self.gathers.then(|| self.batches.most_granted());
        self.grants.limit(limit.into_iter().chain(most).min());
    }

    /// The remote hung up. What it was sent first may be why.
    fn suspect_first(&self) {
        if let Some(id) = self.outbound.first.filter(|_| !self.outbound.acknowledged) {
            self.status.suspect(id);
        }
    }

    /// Everything that was asked is answered: the queue may go.
    pub(crate) fn open(&mut self, now: Instant, out: &mut Out) {
        let Phase::Preparing(preparing) = std::mem::replace(&mut self.phase, Phase::Open) else {
            return;
        };
        self.status.set_state(BridgeState::Connected, now);
        self.status
            .set_subscribed(self.plan.topics.remote_subscriptions());
        self.status.set_wants_retained(false);
        if !preparing.again {
            self.notify(UP, out);
        }
        for id in preparing.received {
            self.on_received(id, out);
        }
    }

    /// Tells those who watch the bridge on the bus.
    fn notify(&self, state: &'static [u8], out: &mut Out) {
        if let Some(message) = self.plan.notification(state) {
            out.bus(BusCommand::Publish {
                message,
                ack: None,
                dedup: None,
            });
        }
    }

    /// The remote broke the protocol: it is told, if its version can be, and the link ends. \[MQTT-4.13.1-1\]
    pub(crate) fn fail(&mut self, what: &str, out: &mut Out) {
        self.fail_as(ReasonCode::ProtocolError, what, out);
    }

    pub(crate) fn fail_as(&mut self, reason: ReasonCode, what: &str, out: &mut Out) {
        out.counts.add(Metric::ProtocolErrors);
        self.disconnect(reason, out);
        self.leave(CloseReason::ProtocolError, EndReason::ProtocolError, out);
        self.status
            .set_error(&format!("the remote broke the protocol: {what}"));
    }

    /// What cannot be taken now on one of the two sides is tried again on another connection.
    pub(crate) fn try_later(&mut self, why: EndReason, out: &mut Out) {
        let reason = match why {
            EndReason::BusRefused => ReasonCode::QuotaExceeded,
            _ => ReasonCode::DisconnectWithWill,
        };
        self.disconnect(reason, out);
        self.leave(CloseReason::Lost, why, out);
    }

    fn disconnect(&self, reason: ReasonCode, out: &mut Out) {
        let is_connected = matches!(self.phase, Phase::Opening | Phase::Preparing(_) | Phase::Open);
        // Before MQTT 5 a DISCONNECT takes the will back, which shall be published: the link just ends.
        if is_connected && self.plan.version() == Version::V5 {
            out.send(Packet::Disconnect(Disconnect::with_reason(reason)));
        }
    }

    /// Ends the connection on purpose. The will goes with DISCONNECT, so the remote is told in its stead. \[3.1.1 MQTT-3.14.4-3\]
    fn say_goodbye(&mut self, reason: CloseReason, now: Instant, out: &mut Out) {
        if self.gathers {
            self.send_volatile(now, out);
        }
        if matches!(self.phase, Phase::Opening | Phase::Preparing(_) | Phase::Open) {
            if let Some(topic) = self.plan.remote_notification() {
                out.send(Packet::Publish(Publish {
                    topic,
                    payload: bytes::Bytes::from_static(DOWN),
                    retain: self.remote.retain_available,
                    ..Publish::default()
                }));
            }
            out.send(Packet::Disconnect(Disconnect::default()));
        }
        if reason == CloseReason::Shutdown && matches!(self.phase, Phase::Preparing(_) | Phase::Open) {
            self.notify(DOWN, out); // Only then the session's will is not published.
        }
        self.leave(reason, EndReason::Asked, out);
    }

    /// Leaves the bus, and ends the link.
    pub(crate) fn leave(&mut self, reason: CloseReason, end: EndReason, out: &mut Out) {
        if matches!(self.phase, Phase::Opening | Phase::Preparing(_) | Phase::Open) {
            out.bus(BusCommand::Close { reason, expiry: None });
        }
        self.status.end(end);
        self.finish(out);
    }

    pub(crate) fn finish(&mut self, out: &mut Out) {
        for _ in 0..self.throttles.volatile() {
            self.status.count_drop(DropReason::Throttled);
        }
        for _ in 0..self.batches.volatile() {
            self.status.count_drop(DropReason::Unsent);
        }
        self.phase = Phase::Closed;
        out.close = true;
    }

    fn on_closed(&mut self, out: &mut Out) {
        if matches!(self.phase, Phase::Connecting(_)) && self.plan.settings.try_private {
            self.status.private_doubted();
        }
        self.suspect_first();
        self.leave(CloseReason::Lost, EndReason::Lost, out);
    }
}

/// Whether a DISCONNECT may be about something that was sent. MQTT 5 §3.14.2.1
fn is_about_a_packet(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QosNotSupported
    )
}

impl Endpoint for BridgeEndpoint {
    type Sessions = One;
    type In = Received;
    type Out = Packet;

    fn party(&self) -> Party<'_> {
        Party {
            client: Some(self.local_client_id.as_str()),
            peer: None,
        }
    }

    fn handle(&mut self, input: Input<Received>, now: Instant, out: &mut Out) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let before = out.frames.len();
        match input {
            Input::Frame(Received::Packet(packet)) => {
                out.counts.add(Metric::PacketsReceived);
                self.clocks.received(now);
                self.on_packet(packet, now, out);
            }
            Input::Frame(Received::Malformed(error)) => {
                out.counts.add(Metric::MalformedPackets);
                self.fail_as(error.reason_code(), &error.to_string(), out);
            }
            Input::Bus(event) => self.on_bus(event, now, out),
            Input::Timeout => self.on_timeout(now, out),
            Input::Closed => self.on_closed(out),
            Input::Shutdown => self.say_goodbye(CloseReason::Shutdown, now, out),
            Input::Answer(_) => {} // It never asks.
        }
        if self.gathers {
            self.send_ready(now, out);
        }
        let frames = std::mem::take(&mut out.frames);
        self.keep_account(&frames[before..], now, out);
        out.frames = frames;
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Fresh => Some(self.created),
            Phase::Connecting(until) => Some(until),
            Phase::Preparing(_) | Phase::Open => {
                let flows = matches!(self.phase, Phase::Open)
                    .then(|| [self.grants.due(), self.throttles.due(), self.batches_due()]);
                let flows = flows.into_iter().flatten().flatten();
                self.clocks.due().into_iter().chain(flows).min()
            }
            Phase::Opening | Phase::Closed => None,
        }
    }

    fn ready(&self) -> bool {
        !matches!(self.phase, Phase::Opening | Phase::Closed)
    }
}
