//! From CONNECT to CONNECTED. STOMP 1.2, Connecting

use crate::counters::StompMetric;
use crate::endpoint::{Held, Out, PROTOCOL, Phase, StompEndpoint};
use crate::heartbeat::{HeartBeats, Offer};
use crate::subscriptions::OWN;
use crate::wire::Sent;
use headgate_model::access::{AuthRefusal, Credentials, Wanted};
use headgate_model::bus::Presence;
use headgate_model::gate::is_reserved;
use headgate_model::{
    Answer, BusCommand, ClientId, CloseReason, Entrant, Identity, Instant, Metric, Open, PeerFacts, Question,
};
use headgate_stomp_codec::{Command, Frame, Version};
use std::sync::Arc;
use std::time::Duration;

/// Deliveries of the connection's own session that the bus may hand over before more are granted. None of them waits for the client.
const CREDIT: u32 = 1_024;

/// What our name is in CONNECTED. STOMP 1.2, CONNECTED Frame
const SERVER: &str = concat!("headgate/", env!("CARGO_PKG_VERSION"));

/// What is known before CONNECT.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// CONNECT must come by then.
    pub until: Instant,
    pub facts: PeerFacts,
}

/// A CONNECT that waits for the access service.
#[derive(Debug)]
pub(crate) struct Connecting {
    pub facts: PeerFacts,
    terms: Terms,
    /// It must be let in by then.
    pub until: Instant,
}

/// A session on its way.
#[derive(Debug)]
pub(crate) struct Opening {
    pub who: Arc<Presence>,
    session: String,
    terms: Terms,
}

/// What CONNECT said about how to go on.
#[derive(Clone, Copy, Debug)]
struct Terms {
    beats: Offer,
    /// It knows of versions, so that it is told which one it is.
    negotiates: bool,
}

impl StompEndpoint {
    pub(crate) fn on_connect(&mut self, frame: &Frame, now: Instant, out: &mut Out) {
        out.counts.add_own(StompMetric::ConnectReceived);
        let Phase::Fresh(fresh) = &self.phase else { return };
        let facts = fresh.facts.clone();
        let wished = frame.get("accept-version");
        match wished.map_or(Some(Version::V10), Version::highest_of) {
            Some(version) => self.version = version,
            None => return self.refuse_versions(out),
        }
        let beats = match frame.get("heart-beat").filter(|_| self.version > Version::V10) {
            None => Some(Offer::default()),
            Some(text) => Offer::parse(text),
        };
        let Some(beats) = beats else {
            return self.refuse("heart-beat is not two numbers", out);
        };
        let client_id = frame.get("client-id").unwrap_or_default();
        let longest = self.settings.max_client_id_bytes;
        if is_reserved(client_id) || (longest > 0 && client_id.len() > longest) {
            return self.refuse("this client-id is not taken", out);
        }
        self.is_named = !client_id.is_empty();
        self.client_id = match client_id {
            "" => ClientId::from(&*format!("stomp-{:032x}", facts.nonce)),
            own => ClientId::from(own),
        };
        let credentials = Credentials {
            client_id: self.client_id.clone(),
            username: frame.get("login").map(Arc::from),
            password: frame.headers.get("passcode").map(|text| text.bytes().clone()),
            method: None,
            data: None,
            link: false,
        };
        let terms = Terms {
            beats,
            negotiates: wished.is_some(),
        };
        let until = now + self.settings.connect_timeout;
        self.phase = Phase::Connecting(Box::new(Connecting { facts, terms, until }));
        self.ask(Held::Connect, Question::Authenticate(Box::new(credentials)), out);
    }

    pub(crate) fn on_authenticated(&mut self, answer: Answer, out: &mut Out) {
        match answer {
            Answer::Allowed { identity, .. } => self.open(identity, out),
            // The access service has written to the log whom it refused, and why.
            Answer::Refused(why) => self.turn_away(refusal(why), out),
            Answer::Challenge(_) | Answer::Authorized(_) | Answer::Identified(_) => {
                self.refuse("not authorized", out);
            }
        }
    }

    fn open(&mut self, identity: Identity, out: &mut Out) {
        let Phase::Connecting(connecting) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        let Connecting { facts, terms, .. } = *connecting;
        let who = Presence {
            username: identity.username,
            protocol: &PROTOCOL,
            version: self.level(),
            peer: facts.peer,
            peer_port: facts.peer_port,
            keep_alive: u16::try_from(terms.beats.can_send / 1_000).unwrap_or(u16::MAX),
            clean_start: true,
            ..Presence::default()
        };
        let gate = self.naming.gate(&self.client_id, Some(&identity.policy));
        let client = gate.enter(who).expect("looked at with CONNECT");
        self.phase = Phase::Opening(Box::new(Opening {
            who: Arc::clone(client.who()),
            session: format!("{:032x}", facts.nonce),
            terms,
        }));
        let open = opening(client, true, Duration::ZERO, CREDIT);
        out.bus(OWN, BusCommand::Open(Box::new(open)));
    }

    /// CONNECTED. STOMP 1.2, CONNECTED Frame
    pub(crate) fn on_opened(&mut self, now: Instant, out: &mut Out) {
        let Phase::Opening(opening) = &self.phase else {
            return;
        };
        let (who, terms) = (Arc::clone(&opening.who), opening.terms);
        let mut frame = Frame::new(Command::Connected);
        if terms.negotiates {
            frame.headers.push("version", self.version.as_str());
        }
        if self.version > Version::V10 {
            let Offer { can_send, wants } = Offer::ours(&self.settings);
            frame.headers.push("heart-beat", format!("{can_send},{wants}"));
            self.beats = HeartBeats::agreed(terms.beats, &self.settings, now);
        }
        let frame = frame
            .with("server", SERVER)
            .with("session", opening.session.clone());
        out.counts.add_own(StompMetric::ConnectedSent);
        out.send(Sent::Connected {
            version: self.version,
            frame,
            listens: self.beats.lost_at().is_some(),
        });
        self.phase = Phase::Open(who);
    }

    /// STOMP 1.2, Protocol Negotiation: no common version.
    fn refuse_versions(&mut self, out: &mut Out) {
        let what = "no common version of STOMP";
        self.tell(|| Wanted::Connect, || what.into(), out);
        let supported = Version::ALL.map(Version::as_str).join(",");
        let body = format!("Supported protocol versions are {}", supported.replace(',', " "));
        let error = Frame::new(Command::Error)
            .with("version", supported)
            .with("content-type", "text/plain")
            .with("message", what)
            .with_body(body);
        out.counts.add(Metric::ConnectRefused);
        self.send_error(error, out);
        self.close(CloseReason::ProtocolError, out);
    }

    /// The client is not let in, for a reason that the log does not know yet.
    pub(crate) fn refuse(&mut self, what: &str, out: &mut Out) {
        self.tell(|| Wanted::Connect, || what.to_owned().into(), out);
        self.turn_away(what, out);
    }

    fn turn_away(&mut self, what: &str, out: &mut Out) {
        out.counts.add(Metric::ConnectRefused);
        self.complain(None, what, out);
        self.phase = Phase::Closed; // There is no session to close.
        self.close(CloseReason::ProtocolError, out);
    }
}

/// A session that takes so many deliveries before more are granted, and may have as many under way.
pub(crate) fn opening(client: Entrant, clean_start: bool, expiry: Duration, credit: u32) -> Open {
    Open {
        client,
        clean_start,
        expiry,
        will: None.into(),
        receive_maximum: u16::try_from(credit).unwrap_or(u16::MAX),
        credit,
        forgeable: false,
        wants_expired: false,
        link: None,
    }
}

fn refusal(why: AuthRefusal) -> &'static str {
    match why {
        AuthRefusal::BadUserNameOrPassword => "wrong login or passcode",
        AuthRefusal::NotAuthorized | AuthRefusal::BadMethod => "not authorized",
        AuthRefusal::Unavailable => "nobody could be asked",
        AuthRefusal::Busy => "too many wait to be let in",
        AuthRefusal::Banned => "kept out for a time",
    }
}
