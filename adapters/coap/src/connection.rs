//! One client on a connection: no message layer, for the transport is reliable, but signalling. RFC 8323
//!
//! Always true: the first message of either side is a CSM; a notification counts as delivered when it is written, for nothing acknowledges it.

use crate::core::{Core, Effect, Tag};
use crate::counters::CoapMetric;
use crate::{CoapSettings, Outcome, Requester, Unguessable, trace};
use bytes::{Bytes, BytesMut};
use headgate_coap_codec::{
    Block, Code, Kind, Message, Options, StreamError, Token, decode_stream, encode_stream, number,
};
use headgate_model::trace::{PacketTrace, Party};
use headgate_model::{
    Asked, CloseReason, Counter, DatagramOutputs, Endpoint, Input, Instant, Many, Outputs, PeerFacts,
    SessionKey, Wire,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a peer takes that has not said how much. RFC 8323 §5.3.1
const BASE_MESSAGE_SIZE: usize = 1_152;
/// What a message may have beside its payload.
const ROOM_FOR_OPTIONS: usize = 1_024;
/// So long a Pong is waited for.
const PONG_BY: Duration = Duration::from_secs(93);

type Out = Outputs<Message, Many>;

/// See the module.
#[derive(Debug)]
pub struct CoapConnection {
    core: Core<()>,
    /// Questions that wait until the open one is answered.
    asked: VecDeque<Asked<()>>,
    /// Who asked the question that is open.
    open: Option<SessionKey>,
    /// We have said our CSM.
    greeted: bool,
    /// The peer has said its.
    met: bool,
    began: Instant,
    /// A Ping of ours, and until when it is to be answered.
    pinged: Option<(Tag, Instant)>,
    closing: bool,
    max_message_bytes: usize,
    facts: PeerFacts,
}

/// The bytes of a connection. RFC 8323 §3.2
#[derive(Debug)]
pub struct CoapWire {
    max_message_bytes: usize,
    failed: bool,
}

/// What a connection takes: a whole body, with its options.
fn max_message_bytes(settings: &CoapSettings) -> usize {
    settings.max_body_bytes.saturating_add(ROOM_FOR_OPTIONS)
}

impl CoapWire {
    /// Of a connection that has said nothing yet.
    pub fn new(settings: &CoapSettings) -> Self {
        Self {
            max_message_bytes: max_message_bytes(settings),
            failed: false,
        }
    }
}

impl Wire for CoapWire {
    type In = Result<Message, StreamError>;
    type Out = Message;

    fn decode(&mut self, bytes: &mut BytesMut) -> Option<Self::In> {
        if self.failed {
            bytes.clear();
            return None;
        }
        let decoded = decode_stream(bytes, self.max_message_bytes).transpose();
        self.failed = matches!(decoded, Some(Err(_)));
        decoded
    }

    fn encode(&mut self, frame: Message, bytes: &mut BytesMut) {
        encode_stream(&frame, bytes).expect("the core writes what fits");
    }

    fn trace_in(&self, frame: &Self::In) -> Option<PacketTrace> {
        Some(match frame {
            Ok(message) => trace::message(message),
            Err(error) => PacketTrace::new(format!("malformed: {error}")),
        })
    }

    fn trace_out(&self, frame: &Message) -> Option<PacketTrace> {
        Some(trace::message(frame))
    }
}

impl CoapConnection {
    /// A connection that was accepted at `now`.
    pub fn new(settings: CoapSettings, facts: PeerFacts, now: Instant) -> Self {
        let max_message_bytes = max_message_bytes(&settings);
        let naming = Arc::clone(&facts.naming);
        let szx = Block::szx_within(BASE_MESSAGE_SIZE - ROOM_FOR_OPTIONS / 8);
        let mut core = Core::new(settings, naming, Unguessable::new(), Some(szx));
        core.place = Some((facts.peer.clone(), facts.peer_port));
        core.uploads.bert = true;
        core.downloads.bert = true;
        Self {
            core,
            asked: VecDeque::new(),
            open: None,
            greeted: false,
            met: false,
            began: now,
            pinged: None,
            closing: false,
            max_message_bytes,
            facts,
        }
    }

    /// RFC 8323 §5.3
    fn greet(&mut self, out: &mut Out) {
        if !std::mem::replace(&mut self.greeted, true) {
            let mut csm = Message::of_stream(Code::CSM, Token::default());
            let max = u32::try_from(self.max_message_bytes).unwrap_or(u32::MAX);
            csm.options.push_uint(number::MAX_MESSAGE_SIZE, max);
            csm.options.push(number::BLOCK_WISE_TRANSFER, Bytes::new());
            out.send(csm);
        }
    }

    fn on_frame(&mut self, message: Message, now: Instant, out: &mut Out) {
        if !self.met && message.code != Code::CSM {
            return self.abort("the first message must be a CSM", None, out);
        }
        match message.code {
            Code::CSM => self.on_csm(&message.options, out),
            Code::PING => {
                // RFC 8323 §5.4
                let mut pong = Message::of_stream(Code::PONG, message.token);
                if message.options.has(number::CUSTODY) {
                    pong.options.push(number::CUSTODY, Bytes::new());
                }
                out.send(pong);
            }
            Code::PONG => {
                if let Some((tag, _)) = self.pinged.take() {
                    self.with_core(now, out, |core, now, out| {
                        core.on_outcome(Outcome::Acknowledged(tag), now, out);
                    });
                }
            }
            Code::RELEASE | Code::ABORT => self.leave(CloseReason::Normal, now, out),
            code if code.is_request() => {
                let bytes = message.payload.len();
                let requester = Requester {
                    at: (),
                    kind: Kind::Confirmable,
                    id: 0,
                    token: message.token,
                    bytes,
                    allowed: None,
                };
                self.with_core(now, out, |core, now, out| {
                    core.request(requester, message, now, out);
                });
            }
            // RFC 8323 §3.4: Empty messages are ignored. Nobody was asked anything.
            _ => {}
        }
    }

    /// What the peer takes. RFC 8323 §5.3
    fn on_csm(&mut self, options: &Options, out: &mut Out) {
        let known = |option: u16| matches!(option, number::MAX_MESSAGE_SIZE | number::BLOCK_WISE_TRANSFER);
        if let Some(bad) = options.first_bad(known) {
            return self.abort("an option of CSM is not understood", Some(bad), out);
        }
        self.met = true;
        if let Some(max) = options.uint(number::MAX_MESSAGE_SIZE) {
            let body = (max as usize).saturating_sub(ROOM_FOR_OPTIONS);
            self.core.max_whole = body;
        }
    }

    /// RFC 8323 §5.6
    fn abort(&mut self, why: &'static str, bad_option: Option<u16>, out: &mut Out) {
        out.counts.add_own(CoapMetric::Malformed);
        let mut abort = Message::of_stream(Code::ABORT, Token::default());
        if let Some(bad) = bad_option {
            abort.options.push_uint(number::BAD_CSM_OPTION, bad.into());
        }
        abort.payload = Bytes::from_static(why.as_bytes());
        out.send(abort);
        self.leave(CloseReason::ProtocolError, self.began, out);
    }

    fn leave(&mut self, reason: CloseReason, now: Instant, out: &mut Out) {
        self.with_core(now, out, |core, _, out| core.lose_all(reason, out));
        self.closing = true;
        out.close = true;
    }

    /// Lets the core do something, and sends what follows.
    fn with_core(
        &mut self,
        now: Instant,
        out: &mut Out,
        work: impl FnOnce(&mut Core<()>, Instant, &mut DatagramOutputs<()>),
    ) {
        let mut inner = DatagramOutputs::default();
        (inner.bus, inner.counts) = (std::mem::take(&mut out.bus), std::mem::take(&mut out.counts));
        inner.denials = std::mem::take(&mut out.denials);
        work(&mut self.core, now, &mut inner);
        while let Some(effect) = self.core.effects.pop_front() {
            match effect {
                Effect::Respond(_, response) if response.code == Code::EMPTY => {}
                Effect::Respond(_, response) => out.send(response),
                Effect::Notify((), message, tag) => {
                    let waits = message.kind == Kind::Confirmable;
                    out.send(message);
                    if waits {
                        self.core.on_outcome(Outcome::Acknowledged(tag), now, &mut inner);
                    }
                }
                Effect::Ping((), tag) => {
                    self.pinged = Some((tag, now + PONG_BY));
                    out.send(Message::of_stream(Code::PING, Token::default()));
                }
                Effect::Forget((), _) => {}
            }
        }
        self.asked.extend(std::mem::take(&mut inner.questions));
        (out.bus, out.counts, out.denials) = (inner.bus, inner.counts, inner.denials);
        if self.open.is_none()
            && let Some(asked) = self.asked.pop_front()
        {
            self.open = Some(asked.key);
            out.question = Some(asked.question);
        }
    }
}

impl Endpoint for CoapConnection {
    const COUNTERS: &'static [&'static str] = CoapMetric::NAMES;

    type In = Result<Message, StreamError>;
    type Out = Message;
    type Sessions = Many;

    fn handle(&mut self, input: Input<Self::In, Many>, now: Instant, out: &mut Out) {
        if self.closing {
            return;
        }
        self.greet(out);
        match input {
            Input::Frame(Ok(message)) => self.on_frame(message, now, out),
            Input::Frame(Err(StreamError::TooLarge { .. })) => {
                self.abort("a message of more than Max-Message-Size", None, out);
            }
            Input::Frame(Err(StreamError::Malformed(why))) => self.abort(why, None, out),
            Input::Bus((key, event)) => {
                self.with_core(now, out, |core, now, out| core.on_bus(key, event, now, out));
            }
            Input::Answer(answer) => {
                if let Some(key) = self.open.take() {
                    self.with_core(now, out, |core, now, out| core.on_answer(key, answer, now, out));
                }
            }
            Input::Timeout => {
                let late = self.pinged.take_if(|(_, until)| *until <= now);
                self.with_core(now, out, |core, now, out| {
                    if let Some((tag, _)) = late {
                        core.on_outcome(Outcome::Lost(tag), now, out);
                    }
                    core.on_timeout(now, out);
                });
            }
            Input::Closed => self.leave(CloseReason::Lost, now, out),
            Input::Shutdown => {
                self.with_core(now, out, |core, _, out| core.shutdown(out));
                out.send(Message::of_stream(Code::RELEASE, Token::default())); // RFC 8323 §5.5
                self.closing = true;
                out.close = true;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let greeting = (!self.greeted).then_some(self.began);
        let pong = self.pinged.map(|(_, until)| until);
        greeting.into_iter().chain(pong).chain(self.core.deadline()).min()
    }

    fn held(&self) -> usize {
        self.core.held()
    }

    fn party(&self) -> Party<'_> {
        Party {
            client: self.core.first_client(),
            peer: Some(&self.facts.peer),
        }
    }

    fn ready(&self) -> bool {
        self.open.is_none() && !self.closing
    }
}
