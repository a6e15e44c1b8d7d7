//! The endpoint's state, and what happens to each thing that comes in.

use crate::acks::Settling;
use crate::connect::{Connecting, Fresh, Opening};
use crate::counters::StompMetric;
use crate::frames::{header, receipt_of, shown};
use crate::heartbeat::HeartBeats;
use crate::receipts::Steps;
use crate::send::HeldSend;
use crate::settings::StompSettings;
use crate::subscribe::HeldSubscribe;
use crate::subscriptions::{OWN, Seat, Subscriptions};
use crate::transactions::Transactions;
use crate::wire::{Received, Sent};
use headgate_model::access::Wanted;
use headgate_model::bus::{Presence, Protocol};
use headgate_model::gate::Rules;
use headgate_model::trace::Party;
use headgate_model::{
    AccessPolicy, Answer, BusCommand, BusEvent, ClientId, CloseReason, Counter, Endpoint, Gate, Input,
    Instant, Many, Metric, Naming, Outputs, PeerFacts, Qos, Question, SessionKey,
};
use headgate_stomp_codec::{Command, DecodeError, Frame, Text, Version};
use std::sync::Arc;

/// The word for operators.
pub(crate) static PROTOCOL: Protocol = Protocol { name: "stomp" };

pub(crate) type Out = Outputs<Sent, Many>;

/// One connection of one STOMP client. See the crate's documentation.
#[derive(Debug)]
pub struct StompEndpoint {
    pub(crate) settings: Arc<StompSettings>,
    pub(crate) naming: Arc<Naming>,
    pub(crate) version: Version,
    pub(crate) phase: Phase,
    /// What the open question is about; no frame is taken while there is one.
    pub(crate) held: Option<Held>,
    pub(crate) client_id: ClientId,
    /// The client said its id itself, so that durable subscriptions can find it again.
    pub(crate) is_named: bool,
    /// Of the listener, in the place of what the settings say.
    pub(crate) default_qos: Option<Qos>,
    /// Nothing but UTF-8 reaches the client.
    pub(crate) carries_text_only: bool,
    pub(crate) beats: HeartBeats,
    pub(crate) steps: Steps,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) settling: Settling,
    pub(crate) transactions: Transactions,
}

/// How far the connection is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// CONNECT is awaited.
    Fresh(Box<Fresh>),
    /// The access service is asked.
    Connecting(Box<Connecting>),
    /// The bus opens the session; CONNECTED waits for it.
    Opening(Box<Opening>),
    Open(Arc<Presence>),
    /// The client said DISCONNECT, and waits for its receipts until then.
    Leaving {
        who: Arc<Presence>,
        until: Instant,
    },
    /// Nothing is taken and nothing is sent any more.
    Closed,
}

/// What an open question is about.
#[derive(Debug)]
pub(crate) enum Held {
    /// May it connect?
    Connect,
    Send(Box<HeldSend>),
    Subscribe(Box<HeldSubscribe>),
}

impl StompEndpoint {
    /// A connection that was accepted at `now` and has said nothing yet.
    pub fn new(settings: Arc<StompSettings>, facts: PeerFacts, now: Instant) -> Self {
        let until = now + settings.connect_timeout;
        Self {
            settings,
            naming: Arc::clone(&facts.naming),
            carries_text_only: facts.carries_text_only,
            default_qos: facts.default_qos,
            version: Version::V10,
            phase: Phase::Fresh(Box::new(Fresh { until, facts })),
            held: None,
            client_id: ClientId::from(""),
            is_named: false,
            beats: HeartBeats::default(),
            steps: Steps::default(),
            subscriptions: Subscriptions::default(),
            settling: Settling::default(),
            transactions: Transactions::default(),
        }
    }

    fn on_frame(&mut self, frame: Frame, now: Instant, out: &mut Out) {
        out.counts.add(Metric::PacketsReceived);
        let is_connect = matches!(frame.command, Command::Connect | Command::Stomp);
        match (&self.phase, is_connect) {
            (Phase::Fresh(_), true) => self.on_connect(&frame, now, out),
            (Phase::Fresh(_), false) => self.fail(receipt_of(&frame), "CONNECT comes first", out),
            (Phase::Open(_), true) => self.fail(receipt_of(&frame), "CONNECT comes once", out),
            (Phase::Open(_), false) => self.on_frame_while_open(frame, now, out),
            (Phase::Connecting(_) | Phase::Opening(_) | Phase::Leaving { .. } | Phase::Closed, _) => {}
        }
    }

    fn on_frame_while_open(&mut self, frame: Frame, now: Instant, out: &mut Out) {
        match frame.command {
            Command::Send => self.on_send(frame, now, out),
            Command::Subscribe => self.on_subscribe(&frame, out),
            Command::Unsubscribe => self.on_unsubscribe(&frame, out),
            Command::Ack => self.on_ack(&frame, out),
            Command::Nack => self.on_nack(&frame, now, out),
            Command::Begin => self.on_begin(&frame, now, out),
            Command::Commit => self.on_commit(&frame, now, out),
            Command::Abort => self.on_abort(&frame, out),
            Command::Disconnect => self.on_disconnect(&frame, now, out),
            Command::Connect
            | Command::Stomp
            | Command::Connected
            | Command::Message
            | Command::Receipt
            | Command::Error => self.fail(receipt_of(&frame), "only a server sends this frame", out),
        }
    }

    /// STOMP 1.2, DISCONNECT: its RECEIPT says that all before it was received.
    fn on_disconnect(&mut self, frame: &Frame, now: Instant, out: &mut Out) {
        out.counts.add_own(StompMetric::DisconnectReceived);
        self.done(receipt_of(frame));
        if let Phase::Open(who) = &self.phase {
            let (who, until) = (Arc::clone(who), now + self.settings.connect_timeout);
            self.phase = Phase::Leaving { who, until };
        }
    }

    fn on_malformed(&mut self, error: &DecodeError, receipt: Option<Text>, out: &mut Out) {
        out.counts.add(Metric::MalformedPackets);
        let setting = match error {
            DecodeError::TooManyHeaders(_) => " (stomp.max_headers)",
            DecodeError::LineTooLong(_) => " (stomp.max_header_bytes)",
            DecodeError::HeadTooLarge(_) => " (stomp.max_head_bytes)",
            DecodeError::BodyTooLarge(_) => " (stomp.max_body_bytes)",
            _ => "",
        };
        self.fail(receipt, &format!("{error}{setting}"), out);
    }

    fn on_answer(&mut self, answer: Answer, out: &mut Out) {
        match self.held.take() {
            Some(Held::Connect) => self.on_authenticated(answer, out),
            Some(Held::Send(held)) => self.on_send_decided(*held, &answer, out),
            Some(Held::Subscribe(held)) => self.on_subscribe_decided(*held, &answer, out),
            None => {}
        }
    }

    fn on_bus(&mut self, session: SessionKey, event: BusEvent, now: Instant, out: &mut Out) {
        if session != OWN && self.subscriptions.seat(session).is_none() {
            return; // It was closed meanwhile.
        }
        match event {
            BusEvent::Opened { .. } if session == OWN => self.on_opened(now, out),
            BusEvent::Opened { .. } => self.on_seat_opened(session, out),
            BusEvent::OpenRefused(why) if session == OWN => {
                self.tell(|| Wanted::Connect, || why.to_string().into(), out);
                self.refuse(&why.to_string(), out);
            }
            BusEvent::OpenRefused(why) => {
                let receipt = self.receipt_of_seat(session);
                self.subscriptions.leave_seat(session);
                self.fail(receipt, &why.to_string(), out);
            }
            // This connection itself opens it again, and waits.
            BusEvent::TakenOver if self.subscriptions.seat(session) == Some(Seat::Leaving) => {}
            BusEvent::TakenOver => self.goodbye(
                CloseReason::TakenOver,
                "another connection has this client-id",
                out,
            ),
            BusEvent::Kicked => self.goodbye(CloseReason::Kicked, "disconnected by an operator", out),
            BusEvent::Subscribed { token, results } => match results.first() {
                Some(Err(why)) => {
                    out.counts.add(Metric::SubscribeRefused);
                    self.fail(self.steps.receipt(token), &format!("not subscribed: {why}"), out);
                }
                Some(Ok(_)) | None => {
                    self.subscriptions.awaited.take_if(|awaited| *awaited == session);
                    self.steps.answered(token);
                }
            },
            BusEvent::Unsubscribed { token, .. } => self.on_unsubscribed(token),
            BusEvent::Accepted(token, _) => self.on_accepted(token, out),
            BusEvent::Refused(token, why) => self.on_refused(token, why, now, out),
            BusEvent::Delivery(delivery) => self.on_delivery(session, delivery, now, out),
            BusEvent::Received(id) => self.on_received(session, id, out),
            BusEvent::RulesChanged(renewed) if session == OWN => match &mut self.phase {
                Phase::Open(who) | Phase::Leaving { who, .. } => *who = renewed,
                Phase::Opening(opening) => opening.who = renewed,
                Phase::Fresh(_) | Phase::Connecting(_) | Phase::Closed => {}
            },
            // It never asks for these.
            BusEvent::RulesChanged(_)
            | BusEvent::Released { .. }
            | BusEvent::Drained
            | BusEvent::Asleep
            | BusEvent::WillChanged(_)
            | BusEvent::Retained(..) => {}
        }
    }

    fn receipt_of_seat(&self, session: SessionKey) -> Option<Text> {
        match self.subscriptions.seat(session)? {
            Seat::Ending(step) => self.steps.receipt(step),
            Seat::Leaving => None,
            Seat::Subscription(number) => {
                let (step, _) = self.subscriptions.get(number)?.opening.as_ref()?;
                self.steps.receipt(*step)
            }
        }
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Out) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match &self.phase {
            Phase::Fresh(fresh) if fresh.until <= now => self.refuse("no CONNECT in time", out),
            Phase::Connecting(connecting) if connecting.until <= now => {
                self.refuse("nobody could be asked", out);
            }
            Phase::Leaving { until, .. } if *until <= now => self.close(CloseReason::Normal, out),
            Phase::Open(_) => {
                if self.ready() && is_due(self.beats.lost_at()) {
                    out.counts.add_own(StompMetric::HeartBeatMissed);
                    return self.goodbye(CloseReason::KeepAlive, "no heart-beat in time", out);
                }
                self.drop_overdue_transactions(now, out);
                self.send_returning(now, out);
                if out.frames.is_empty() && is_due(self.beats.send_at()) {
                    out.counts.add_own(StompMetric::HeartBeatSent);
                    out.send(Sent::HeartBeat);
                }
            }
            Phase::Fresh(_)
            | Phase::Connecting(_)
            | Phase::Opening(_)
            | Phase::Leaving { .. }
            | Phase::Closed => {}
        }
    }

    /// The value of a header without which a frame about a transaction or an acknowledgement means nothing.
    pub(crate) fn required(&mut self, frame: &Frame, name: &str, out: &mut Out) -> Option<Text> {
        let value = header(frame, name);
        value
            .map_err(|error| self.complain(receipt_of(frame), error.as_str(), out))
            .ok()
    }

    /// A frame is done that waits for nothing.
    pub(crate) fn done(&mut self, receipt: Option<Text>) {
        if receipt.is_some() {
            let step = self.steps.open(receipt);
            self.steps.answered(step);
        }
    }

    pub(crate) fn ask(&mut self, held: Held, question: Question, out: &mut Out) {
        self.held = Some(held);
        out.question = Some(question);
    }

    pub(crate) fn gate(&self) -> Gate<'_> {
        self.naming.gate(&self.client_id, self.policy())
    }

    /// The client's rules as they are now, while it is in.
    pub(crate) fn rules(&self) -> Option<&Rules> {
        match &self.phase {
            Phase::Open(who) | Phase::Leaving { who, .. } => Some(&who.rules),
            Phase::Opening(_) | Phase::Fresh(_) | Phase::Connecting(_) | Phase::Closed => None,
        }
    }

    /// The client's rules, once it is let in.
    pub(crate) fn policy(&self) -> Option<&Arc<dyn AccessPolicy>> {
        match &self.phase {
            Phase::Open(who) | Phase::Leaving { who, .. } => who.rules.policy(),
            Phase::Opening(opening) => opening.who.rules.policy(),
            Phase::Fresh(_) | Phase::Connecting(_) | Phase::Closed => None,
        }
    }

    /// The version as operators see it: 10, 11 or 12.
    pub(crate) fn level(&self) -> u8 {
        match self.version {
            Version::V10 => 10,
            Version::V11 => 11,
            Version::V12 => 12,
        }
    }

    /// The client broke the protocol, or wants what it does not get: it is told why, and the connection ends. STOMP 1.2, ERROR
    pub(crate) fn fail(&mut self, receipt: Option<Text>, what: &str, out: &mut Out) {
        out.counts.add(Metric::ProtocolErrors);
        let is_in = matches!(self.phase, Phase::Open(_) | Phase::Leaving { .. });
        let wanted = || if is_in { Wanted::Stay } else { Wanted::Connect };
        self.tell(wanted, || what.to_owned().into(), out);
        self.complain(receipt, what, out);
        self.close(CloseReason::ProtocolError, out);
    }

    /// The client is told what is wrong, and the connection goes on: it concerns an acknowledgement or a transaction alone.
    pub(crate) fn complain(&mut self, receipt: Option<Text>, what: &str, out: &mut Out) {
        self.complain_in(receipt, None, what, out);
    }

    /// The same of a transaction, which is named: `what` is said of it.
    pub(crate) fn complain_of_transaction(
        &mut self,
        receipt: Option<Text>,
        name: &Text,
        what: &str,
        out: &mut Out,
    ) {
        let what = format!("transaction {} {what}", shown(name));
        self.complain_in(receipt, Some(name), &what, out);
    }

    /// The same in a transaction, if there is one.
    pub(crate) fn complain_in(
        &mut self,
        receipt: Option<Text>,
        transaction: Option<&Text>,
        what: &str,
        out: &mut Out,
    ) {
        let mut error = Frame::new(Command::Error).with("message", what.to_owned());
        if let Some(receipt) = receipt {
            error.headers.push("receipt-id", receipt);
        }
        if let Some(name) = transaction {
            error.headers.push("transaction", name.compact());
        }
        self.send_error(
            error
                .with("content-type", "text/plain")
                .with_body(what.to_owned()),
            out,
        );
    }

    pub(crate) fn send_error(&self, error: Frame, out: &mut Out) {
        out.counts.add_own(StompMetric::ErrorSent);
        out.send(Sent::Frame(self.version, error));
    }

    /// The connection ends for a reason that is not the client's fault, or none that it can be told apart from one.
    fn goodbye(&mut self, reason: CloseReason, what: &str, out: &mut Out) {
        if reason != CloseReason::Shutdown {
            self.tell(|| Wanted::Stay, || what.to_owned().into(), out);
        }
        self.complain(None, what, out);
        self.close(reason, out);
    }

    /// The end: of all its sessions, the connection's own last.
    pub(crate) fn close(&mut self, reason: CloseReason, out: &mut Out) {
        let has_sessions = matches!(
            self.phase,
            Phase::Opening(_) | Phase::Open(_) | Phase::Leaving { .. }
        );
        if has_sessions {
            for session in self.subscriptions.seats().chain([OWN]) {
                out.bus(session, BusCommand::Close { reason, expiry: None });
            }
        }
        self.phase = Phase::Closed;
        self.held = None;
        out.close = true;
    }

    /// RECEIPTs of what is done, in order; then the end, if the client said DISCONNECT and has them all.
    fn send_receipts(&mut self, out: &mut Out) {
        while let Some(receipt) = self.steps.pop() {
            if let Some(receipt) = receipt {
                out.counts.add_own(StompMetric::ReceiptSent);
                let frame = Frame::new(Command::Receipt).with("receipt-id", receipt);
                out.send(Sent::Frame(self.version, frame));
            }
        }
        if matches!(self.phase, Phase::Leaving { .. }) && self.steps.is_empty() {
            self.close(CloseReason::Normal, out);
        }
    }
}

impl Endpoint for StompEndpoint {
    const COUNTERS: &'static [&'static str] = StompMetric::NAMES;

    type Sessions = Many;
    type In = Received;
    type Out = Sent;

    fn handle(&mut self, input: Input<Received, Many>, now: Instant, out: &mut Out) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let (frames, was_ready) = (out.frames.len(), self.ready());
        match input {
            Input::Frame(received) => {
                self.beats.heard(now);
                match received {
                    Received::Frame(frame) => self.on_frame(frame, now, out),
                    Received::Activity => {}
                    Received::Malformed(error, receipt) => self.on_malformed(&error, receipt, out),
                }
            }
            Input::Bus((session, event)) => self.on_bus(session, event, now, out),
            Input::Answer(answer) => self.on_answer(answer, out),
            Input::Timeout => self.on_timeout(now, out),
            Input::Closed => self.close(CloseReason::Lost, out),
            Input::Shutdown => self.goodbye(CloseReason::Shutdown, "the gateway stops", out),
        }
        if !matches!(self.phase, Phase::Closed) {
            self.send_receipts(out);
        }
        if out.frames.len() > frames {
            self.beats.sent(now);
        }
        if !was_ready && self.ready() {
            self.beats.heard(now); // While we left the client's frames unread, its silence was ours.
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Fresh(fresh) => Some(fresh.until),
            Phase::Connecting(connecting) => Some(connecting.until),
            Phase::Leaving { until, .. } => Some(*until),
            Phase::Open(_) => {
                // While we leave the client's frames unread, its silence is ours.
                let lost_at = self.beats.lost_at().filter(|_| self.ready());
                let others = [
                    self.beats.send_at(),
                    self.transactions.deadline(),
                    self.subscriptions.returns_at(),
                ];
                others.into_iter().chain([lost_at]).flatten().min()
            }
            Phase::Opening(_) | Phase::Closed => None,
        }
    }

    fn held(&self) -> usize {
        self.steps.held() + self.transactions.bytes() + self.subscriptions.held() + self.settling.held()
    }

    fn party(&self) -> Party<'_> {
        let peer = match &self.phase {
            Phase::Fresh(fresh) => Some(&fresh.facts.peer),
            Phase::Connecting(connecting) => Some(&connecting.facts.peer),
            Phase::Opening(opening) => Some(&opening.who.peer),
            Phase::Open(who) | Phase::Leaving { who, .. } => Some(&who.peer),
            Phase::Closed => None,
        };
        let client = self.client_id.as_str();
        Party {
            client: Some(client).filter(|client| !client.is_empty()),
            peer,
        }
    }

    fn ready(&self) -> bool {
        let takes_frames = matches!(self.phase, Phase::Fresh(_) | Phase::Open(_));
        takes_frames && self.held.is_none() && !self.steps.is_full() && self.subscriptions.awaited.is_none()
    }
}
