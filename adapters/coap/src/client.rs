//! What is known of one client.

use crate::Requester;
use crate::observation::Observation;
use crate::returning::Return;
use bytes::Bytes;
use headgate_coap_codec::Message;
use headgate_model::bus::Presence;
use headgate_model::{ClientId, Identity, Instant, Pace, SessionKey, Subscription};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// What tells a client from the others of its address: the client id that it says, and a number made of what it says with it.
pub(crate) type Name<A> = (A, ClientId, u64);

/// One client: whoever says the same client id, user name and password from the same address.
#[derive(Debug)]
pub(crate) struct Client<A> {
    /// Where it was last heard of.
    pub at: A,
    /// What it is found by.
    pub name: Name<A>,
    /// Its client id: its own, or one that was made for it.
    pub id: ClientId,
    /// Its session on the bus.
    pub seat: SessionKey,
    pub state: State,
    /// Once it is let in.
    pub identity: Option<Identity>,
    /// Once it is let in.
    pub who: Option<Arc<Presence>>,
    /// Of its connection, if it made one. EMQX 5, connection mode
    pub token: Option<String>,
    /// The user name that it said, if it did.
    pub username: Option<String>,
    /// It has said something, or acknowledged something, since the gateway has known it.
    pub spoke: bool,
    /// What it observed before a restart, while the access service is asked whether it is let in again.
    pub returning: Option<Box<Return>>,
    pub heard: Instant,
    /// When its entry among the timers is.
    pub armed: Instant,
    /// It is being asked whether it is there.
    pub is_asked: bool,
    /// Requests that wait for their turn.
    pub waiting: VecDeque<(Requester<A>, Message)>,
    /// A request that waits for the access service.
    pub asking: Option<Box<Asking<A>>>,
    /// Requests that wait for the bus, by the token of their command.
    pub awaiting: HashMap<u32, Awaiting<A>>,
    pub last_token: u32,
    pub pace: Pace,
    /// By the index of their sessions.
    pub observations: BTreeMap<u32, Observation<A>>,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The access service is asked who it is.
    LoggingIn,
    /// The bus is opening its session.
    Opening,
    /// Its requests are done.
    Open,
    /// It was there before a restart: the access service is asked whether it is let in again.
    Returning,
    /// It is back by what it observes, and has said nothing since: it has no session of its own yet.
    Dormant,
}

/// A request whose topic the access service is asked about.
#[derive(Debug)]
pub(crate) enum Asking<A> {
    Publish(
        Requester<A>,
        Message,
        Box<headgate_model::gate::Waiting<headgate_model::Message>>,
    ),
    Subscribe(
        Requester<A>,
        Message,
        Wish,
        Box<headgate_model::gate::Waiting<Subscription>>,
    ),
}

/// What a request wants of a filter, which is here as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// What is retained there. RFC 7252 §5.8.1
    Read(Bytes),
    /// What is published there, from now on. RFC 7641 §3.1
    Observe(Bytes),
}

/// A request that waits for the bus.
#[derive(Debug)]
pub(crate) enum Awaiting<A> {
    /// To be accepted.
    Publish(Requester<A>, Message),
    /// What is retained.
    Read(Requester<A>, Message),
    /// What is retained at the topic of an observation that has begun, for its first answer.
    FirstValue(Requester<A>, Message, SessionKey),
}

impl<A> Awaiting<A> {
    /// Whom the answer is for.
    pub(crate) fn requester(self) -> (Requester<A>, Message) {
        match self {
            Self::Publish(requester, request)
            | Self::Read(requester, request)
            | Self::FirstValue(requester, request, _) => (requester, request),
        }
    }
}

impl<A> Asking<A> {
    /// Whom the answer is for.
    pub(crate) fn requester(self) -> (Requester<A>, Message) {
        match self {
            Self::Publish(requester, request, _) | Self::Subscribe(requester, request, ..) => {
                (requester, request)
            }
        }
    }
}

impl<A> Client<A> {
    /// A number for a command whose answer is awaited.
    pub(crate) fn take_token(&mut self) -> u32 {
        self.last_token = self.last_token.wrapping_add(1);
        self.last_token
    }
}
