//! Who may do what: the questions an endpoint asks of the world outside and the answers it gets.
//!
//! Asking is asynchronous by construction: an endpoint writes a [`Question`] out and takes no further frame until the [`Answer`]
//! comes in. A policy that knows its answer at once says so in [`AccessPolicy::check`], and no question is asked.

use crate::bus::Presence;
use crate::{ClientId, Qos};
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish to a topic name.
    Publish,
    /// Subscribe to a topic filter.
    Subscribe,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    /// Publish or subscribe.
    pub action: Action,
    /// Topic name or topic filter as on the bus: mounted, without `$share/{group}/` and the like.
    pub topic: Bytes,
    /// The QoS asked for.
    pub qos: Qos,
    /// Whether the message asks to be retained.
    pub retain: bool,
}

/// An [`AccessRequest`] whose topic is borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessQuery<'a> {
    /// Publish or subscribe.
    pub action: Action,
    /// As in the request.
    pub topic: &'a [u8],
    /// The QoS asked for.
    pub qos: Qos,
    /// Whether the message asks to be retained.
    pub retain: bool,
}

impl<'a> AccessQuery<'a> {
    /// To publish to a topic, or to have a will there. Of a delayed message it is about where that goes in the end.
    pub fn publish(topic: &'a [u8], qos: Qos, retain: bool) -> Self {
        Self {
            action: Action::Publish,
            topic: crate::undelayed(topic),
            qos,
            retain,
        }
    }

    /// To subscribe to a filter.
    pub fn subscribe(filter: &'a [u8], qos: Qos) -> Self {
        Self {
            action: Action::Subscribe,
            topic: filter,
            qos,
            retain: false,
        }
    }
}

impl From<AccessQuery<'_>> for AccessRequest {
    fn from(query: AccessQuery<'_>) -> Self {
        Self {
            action: query.action,
            topic: Bytes::copy_from_slice(query.topic),
            qos: query.qos,
            retain: query.retain,
        }
    }
}

impl AccessRequest {
    /// The same, borrowed.
    pub fn query(&self) -> AccessQuery<'_> {
        AccessQuery {
            action: self.action,
            topic: &self.topic,
            qos: self.qos,
            retain: self.retain,
        }
    }
}

/// How a refusal looks to the client. MQTT 5 §3.9.3: 0x80 or 0x87.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DenyCode {
    /// 0x80, Unspecified error.
    Unspecified,
    /// 0x87, Not authorized.
    #[default]
    NotAuthorized,
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDecision {
    /// Go on.
    Allow,
    /// Refused.
    Deny(DenyCode),
    /// Not known here: ask.
    Ask,
}

/// The rules that apply to one authenticated client.
pub trait AccessPolicy: Send + Sync + fmt::Debug {
    /// Decides, or says [`AccessDecision::Ask`]. Called for every publish: must be quick and must not block.
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision;

    /// Why it allows or denies this request, for the log and for operators: which rule does.
    fn why(&self, query: AccessQuery<'_>) -> Cow<'static, str> {
        let _ = query;
        "not allowed".into()
    }

    /// Whether it denies something of what this filter matches, or all of it. Then what comes by the filter is asked for message by message, with
    /// [`Self::may_read`]; other filters cost nothing.
    fn narrows(&self, filter: &[u8]) -> bool {
        let _ = filter;
        false
    }

    /// Whether a message with this topic may be delivered to the client. Must be quick and must not block.
    fn may_read(&self, topic: &[u8]) -> bool {
        let _ = topic;
        true
    }

    /// The rules of the same client as they are now; `None` when they are these.
    fn renewed(&self, client: &ClientId, who: &Presence) -> Option<Arc<dyn AccessPolicy>> {
        let _ = (client, who);
        None
    }

    /// The listener that the client came by, for operators; of one for datagrams without its list.
    fn listener(&self) -> Option<Arc<str>> {
        None
    }

    /// Whether a client that wants what is denied is to be disconnected.
    fn disconnects(&self) -> bool {
        false
    }

    /// Whether it may ever say [`AccessDecision::Ask`]. Of clients whose policy never does, nothing has to be remembered for asking.
    fn may_ask(&self) -> bool {
        true
    }

    /// Whether its sessions may be [links](crate::Link), if it says that it is a broker.
    fn may_link(&self) -> bool {
        false
    }
}

/// Rules that allow everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unrestricted;

impl AccessPolicy for Unrestricted {
    fn check(&self, _: AccessQuery<'_>) -> AccessDecision {
        AccessDecision::Allow
    }

    fn may_ask(&self) -> bool {
        false
    }
}

/// What a client shows of itself when it connects.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its identity; empty while the gateway has yet to assign one.
    pub client_id: ClientId,
    /// User name, if it sent one.
    pub username: Option<Arc<str>>,
    /// Password, if it sent one. Never logged.
    pub password: Option<Bytes>,
    /// Authentication method of enhanced authentication. MQTT 5 §4.12.
    pub method: Option<Arc<str>>,
    /// Authentication data of enhanced authentication. Never logged.
    pub data: Option<Bytes>,
    /// It says that it is a broker.
    pub link: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("method", &self.method)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// Something only the world outside can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is this who it says it is? Answered by `Allowed`, `Refused` or `Challenge`.
    Authenticate(Box<Credentials>),
    /// The client's answer to a challenge: its authentication data.
    Continue(Option<Bytes>),
    /// By which name do the keys of its connection know it? Answered by `Identified`; nobody is let in by that.
    Identify,
    /// An authenticated client proves itself again with the same method. MQTT 5 §4.12.1.
    Reauthenticate(Box<Credentials>),
    /// Somebody was let in before the gateway restarted. Would it be let in again, if it showed the same? Answered by `Allowed`, by the name that it had, or
    /// by `Refused`.
    Readmit(Box<Readmission>),
    /// May it? Answered by `Authorized` with one decision for each request.
    Authorize(Vec<AccessRequest>),
}

/// What is known of a client that was let in before a restart. Nobody keeps its password: who cannot tell without refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readmission {
    /// Its identity.
    pub client_id: ClientId,
    /// The user name that it sent, if it did.
    pub username: Option<Arc<str>>,
    /// The user name that it went by; `None` for an anonymous client.
    pub owner: Option<Arc<str>>,
}

/// An authenticated client.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user name it goes by; `None` for anonymous clients.
    pub username: Option<Arc<str>>,
    /// Its rules.
    pub policy: Arc<dyn AccessPolicy>,
}

/// Why a client was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRefusal {
    /// User name or password are wrong, or missing. CONNACK 0x86; 4 in version 3.
    BadUserNameOrPassword,
    /// It is who it says it is, or may be, but may not connect. CONNACK 0x87; 5 in version 3.
    NotAuthorized,
    /// The method is not offered here. CONNACK 0x8C.
    BadMethod,
    /// Nobody could be asked. CONNACK 0x88; 3 in version 3.
    Unavailable,
    /// Too many wait to be let in. CONNACK 0x89; 3 in version 3.
    Busy,
    /// It is kept out for a time, or for good. CONNACK 0x8A; 5 in version 3.
    Banned,
}

/// What the world outside says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Let in; `data` is the last word of enhanced authentication.
    Allowed {
        /// Who it is.
        identity: Identity,
        /// Authentication data for CONNACK or AUTH 0x00.
        data: Option<Bytes>,
    },
    /// Not let in.
    Refused(AuthRefusal),
    /// Enhanced authentication goes on: the client is sent this. MQTT 5 §4.12.
    Challenge(Bytes),
    /// One decision for each request of the question, none of them `Ask`.
    Authorized(Vec<AccessDecision>),
    /// The identity of its key, or the common name of its certificate; `None` where it has shown neither.
    Identified(Option<Arc<str>>),
}

impl Answer {
    /// The decision about the request at this place of the question; `None` if that was not answered.
    pub fn decision(&self, place: usize) -> Option<AccessDecision> {
        match self {
            Self::Authorized(decisions) => decisions.get(place).copied(),
            _ => None,
        }
    }
}

/// Something that a client was denied: for the log.
#[derive(Clone, Debug)]
pub struct Denial {
    /// Who wanted it.
    pub client: ClientId,
    /// What else is known of the client.
    pub who: Arc<Presence>,
    /// What it wanted.
    pub wanted: Wanted,
    /// The rule, the limit or the fault that denied it.
    pub why: Cow<'static, str>,
    /// The client is to be disconnected for it.
    pub disconnects: bool,
}

/// What a client wanted; with the topic or filter as on the bus, empty where it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To be let in.
    Connect,
    /// To stay connected.
    Stay,
    /// To send something, whatever it is: it sends too much.
    Send,
    /// To leave a will to this topic.
    Will(Bytes),
    /// To publish to this topic.
    Publish(Bytes),
    /// To have its subscription to this filter.
    Subscribe(Bytes),
}

impl Wanted {
    /// The topic or filter; nothing of a client itself.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Connect | Self::Stay | Self::Send => &[],
            Self::Will(name) | Self::Publish(name) | Self::Subscribe(name) => name,
        }
    }
}

/// The denials of one turn of a loop. Beyond [`Denials::MOST`] they are not told one by one: the log would leave them out.
#[derive(Debug, Default)]
pub struct Denials(Vec<Denial>);

impl Denials {
    /// Denials that are kept.
    pub const MOST: usize = 16;

    /// Keeps one, if there is room.
    pub fn tell(&mut self, denial: impl FnOnce() -> Denial) {
        if self.0.len() < Self::MOST {
            self.0.push(denial());
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all.
    pub fn drain(&mut self) -> impl Iterator<Item = Denial> {
        self.0.drain(..)
    }
}
