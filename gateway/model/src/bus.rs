//! The words between endpoints and the bus. Endpoints never call the bus: they write [`BusCommand`]s and get [`BusEvent`]s.

use crate::gate::{Admitted, Entrant, Names, Rules, WillTopic};
use crate::{Delivery, DeliveryId, Link, Message, Qos, Subscription, Will};
use bytes::Bytes;
use core::net::IpAddr;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One attached endpoint. Never used twice while the gateway runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

/// A claim of an endpoint on an answer: chosen by the endpoint, handed back by the bus, opaque to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckToken(pub u32);

/// A session's note is at most so long: [`BusCommand::SetNote`].
pub const NOTE_BYTES: usize = 16 << 10;

/// Session expiry interval that never ends. MQTT 5 §3.1.2.11.2.
pub const NEVER: Duration = Duration::MAX;

/// What an endpoint asks for when its client is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Whose session it is, with what those see who watch, and the rules by which it reads. The user name is who owns the session.
    pub client: Entrant,
    /// Throw an earlier session away. MQTT 5 §3.1.2.4.
    pub clean_start: bool,
    /// How long the session outlives its connection; zero ends it there, [`NEVER`] never does.
    pub expiry: Duration,
    /// Published when the client is lost.
    pub will: OpenWill,
    /// QoS 1 and 2 deliveries that may be under way at once. MQTT 5 §3.1.2.11.3.
    pub receive_maximum: u16,
    /// How many deliveries it takes before it grants more with [`BusCommand::Credit`].
    pub credit: u32,
    /// Its address could be forged: the first delivery of a new session is numbered so that nobody can guess it, and an acknowledgement proves that it
    /// was received.
    pub forgeable: bool,
    /// What expires while it waits is delivered all the same, for somebody is to be told that it expired: a QoS 1 or 2 message whose `expires_at` is over
    /// then. A full queue still makes room by its policy. The session keeps this over restarts, until it is opened without.
    pub wants_expired: bool,
    /// The other side is another broker.
    pub link: Option<Box<Link>>,
}

/// What becomes of the will that a session has when its client is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenWill {
    /// From now on it has this one, or none. \[MQTT-3.1.2-8\]
    Set(Option<Box<Admitted<Will>>>),
    /// It keeps the one it has. MQTT-SN 1.2 §6.3
    Keep,
    /// A sleeping client is awake for a moment, MQTT-SN 1.2 §6.14: will and session expiry stay as they are, whatever [`Open::expiry`] says, and should
    /// the gateway stop meanwhile, what was due while it slept is due at the same time.
    Awake,
}

impl From<Option<Admitted<Will>>> for OpenWill {
    fn from(will: Option<Admitted<Will>>) -> Self {
        Self::Set(will.map(Box::new))
    }
}

/// How an open session changes its will. MQTT-SN 1.2 §6.4
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WillChange {
    /// There is none any more.
    Remove,
    /// It is published there. Without a will there is one from now on, with nothing in it.
    Topic(Admitted<WillTopic>),
    /// This is what it says.
    Payload(Bytes),
}

/// Where a client comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// From this address.
    Ip(IpAddr),
    /// From something that has none, in words: `unix:4711`, `serial`; empty for nowhere.
    Other(Arc<str>),
}

impl Default for PeerName {
    fn default() -> Self {
        Self::Other(Arc::default())
    }
}

impl From<IpAddr> for PeerName {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<&str> for PeerName {
    fn from(words: &str) -> Self {
        Self::Other(words.into())
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// What operators see of a connected client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// User name; `None` for anonymous clients.
    pub username: Option<Arc<str>>,
    /// What it speaks, in the adapter's word for operators.
    pub protocol: &'static Protocol,
    /// Version on the wire: 3, 4 or 5 for MQTT.
    pub version: u8,
    /// Where it comes from, without port.
    pub peer: PeerName,
    /// Port it comes from; 0 when there is none.
    pub peer_port: u16,
    /// Seconds.
    pub keep_alive: u16,
    /// As the client asked.
    pub clean_start: bool,
    /// What it may do.
    pub rules: Rules,
    /// How it names topics.
    pub names: Names,
}

/// What a client speaks: each adapter has its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The word for operators.
    pub name: &'static str,
}

/// What nobody speaks, that is the gateway itself.
static NO_PROTOCOL: Protocol = Protocol { name: "" };

impl Default for &'static Protocol {
    fn default() -> Self {
        &NO_PROTOCOL
    }
}

impl Presence {
    /// Where it comes from, with the port if there is one.
    pub fn address(&self) -> String {
        match (self.peer.to_string(), self.peer_port) {
            (peer, 0) => peer,
            (peer, port) if peer.contains(':') => format!("[{peer}]:{port}"),
            (peer, port) => format!("{peer}:{port}"),
        }
    }
}

/// What the receiver of a QoS 1 or 2 delivery said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// QoS 2: it has the message (PUBREC); answered by [`BusEvent::Received`] once that is durable.
    Received,
    /// It is done with it (PUBACK, PUBCOMP).
    Done,
    /// It refused it (a reason code of 0x80 or more): not delivered again.
    Rejected,
}

/// Why an endpoint leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It said goodbye: no will. \[MQTT-3.14.4-3\]
    Normal,
    /// It said goodbye and wants its will published: DISCONNECT 0x04.
    WithWill,
    /// Nothing came for too long. \[MQTT-3.1.2-22\]
    KeepAlive,
    /// It broke the protocol.
    ProtocolError,
    /// The link broke.
    Lost,
    /// Another connection took the session over.
    TakenOver,
    /// An operator or a rule threw it out.
    Kicked,
    /// The gateway stops: its will waits for the session to end. MQTT 5 §3.1.2.5.
    Shutdown,
    /// It said goodbye; its will is not published, and is there again when it comes back and keeps it. MQTT-SN 1.2 §6.3
    KeepingWill,
    /// It sleeps and will be back within this time, or in as long as it was to sleep the last time. Otherwise it counts as lost: its will is published
    /// then, and its session does not end before. A session that ends with its connection cannot sleep. MQTT-SN 1.2 §6.14
    Asleep(Option<Duration>),
}

impl CloseReason {
    /// The word for operators, as in `$SYS/…/disconnected`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::WithWill => "normal_with_will",
            Self::KeepAlive => "keepalive_timeout",
            Self::ProtocolError => "protocol_error",
            Self::Lost => "closed",
            Self::TakenOver => "conflict",
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
            Self::KeepingWill => "normal",
            Self::Asleep(_) => "asleep",
        }
    }
}

/// What an endpoint writes to the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusCommand {
    /// First of all. Answered by [`BusEvent::Opened`] or [`BusEvent::OpenRefused`].
    Open(Box<Open>),
    /// Answered by [`BusEvent::Subscribed`] once durable; retained messages follow as deliveries.
    Subscribe {
        /// Handed back in the answer.
        token: AckToken,
        /// In the order of the answer.
        subscriptions: Vec<Admitted<Subscription>>,
    },
    /// The session has this subscription and no other from now on; if it is refused, everything stays. Answered as `Subscribe`.
    SubscribeOnly {
        /// Handed back in the answer.
        token: AckToken,
        /// The one.
        subscription: Box<Admitted<Subscription>>,
    },
    /// Answered by [`BusEvent::Unsubscribed`] once durable.
    Unsubscribe {
        /// Handed back in the answer.
        token: AckToken,
        /// Of the options, only what tells one apart from others of its filter is looked at.
        subscriptions: Vec<Admitted<Subscription>>,
    },
    /// A message for everyone who subscribed to it.
    Publish {
        /// What is published; `publisher` is filled in by the bus.
        message: Admitted<Message>,
        /// Answered by [`BusEvent::Accepted`] once durable, or by [`BusEvent::Refused`]. `None` for QoS 0.
        ack: Option<AckToken>,
        /// QoS 2: the publisher's packet identifier. A second publish with it, before its release, is not routed. \[MQTT-4.3.3-10\]
        dedup: Option<u16>,
    },
    /// PUBREL: the publisher's packet identifier is free again. Answered by [`BusEvent::Released`] once durable.
    Release(u16),
    /// The receiver answered a delivery.
    Settle(DeliveryId, Settlement),
    /// The endpoint has written out more deliveries.
    Credit {
        /// So many may come instead.
        deliveries: u32,
        /// Bytes of their messages.
        bytes: u32,
    },
    /// Answered by [`BusEvent::Drained`] as soon as nothing waits for the client and nothing is under way to it; once.
    TellWhenDrained,
    /// What is retained at a topic, which a subscription without wildcards names. Answered by [`BusEvent::Retained`].
    Read {
        /// Handed back in the answer.
        token: AckToken,
        /// Where.
        topic: Box<Admitted<Subscription>>,
    },
    /// Answered by [`BusEvent::WillChanged`] once durable.
    ChangeWill(WillChange),
    /// The same client has proved anew who it is: it reads by these rules from now on.
    ChangeRules(Entrant),
    /// The session's note is this from now on, none if it is empty: what its adapter must know of it after a restart. Not answered, but whatever is answered
    /// after it is answered when the note is durable, and a restart finds it, with [`DatagramServer::restore`](crate::DatagramServer::restore) for example. It
    /// goes when the session does. That of a session that ends with its connection is kept in memory alone. To be said once the session is opened; it is taken
    /// always, so adapters see to it that it is no longer than [`NOTE_BYTES`]: a longer one is ignored, and counted.
    SetNote(Bytes),
    /// Answered by [`BusEvent::Asleep`] once it is durable that the client sleeps; nothing is delivered from now on, and [`CloseReason::Asleep`] is to follow.
    FallAsleep {
        /// As in [`CloseReason::Asleep`], which then adds nothing to it.
        patience: Option<Duration>,
        /// As in `Close`.
        expiry: Option<Duration>,
    },
    /// The last command.
    Close {
        /// Why.
        reason: CloseReason,
        /// A new session expiry interval. MQTT 5 §3.14.2.2.2.
        expiry: Option<Duration>,
    },
}

impl BusCommand {
    /// So many more deliveries may come; everything that came before is written out.
    pub fn credit(deliveries: u32) -> Self {
        let bytes = u32::MAX;
        Self::Credit { deliveries, bytes }
    }

    /// One more delivery may come instead of one of so many bytes.
    pub fn credit_of(size: usize) -> Self {
        Self::Credit {
            deliveries: 1,
            bytes: u32::try_from(size).unwrap_or(u32::MAX),
        }
    }

    /// Lets a grant of credit be for one more delivery of so many bytes. False when this is no such grant.
    pub fn adds_credit(&mut self, size: usize) -> bool {
        let Self::Credit { deliveries, bytes } = self else {
            return false;
        };
        *deliveries += 1;
        *bytes = bytes.saturating_add(u32::try_from(size).unwrap_or(u32::MAX));
        true
    }
}

/// Why the bus refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A limit is reached (0x97).
    QuotaExceeded,
    /// A receiver's queue is full, and its rules refuse what comes then (0x97).
    QueueFull,
    /// There is no memory for it (0x97).
    NoMemory,
    /// There is no room for it in the store (0x97).
    StoreFull,
    /// The store failed; it is not safe (0x83).
    StoreFailed,
    /// The message must not be retained or published here (0x90): a bad `$delayed/` name, for example.
    TopicInvalid,
    /// Someone else holds this exclusive subscription (0x97).
    ExclusiveTaken,
    /// `$exclusive/` or a shared subscription that is switched off.
    NotSupported,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuotaExceeded => "a limit is reached",
            Self::QueueFull => "a receiver's queue is full",
            Self::NoMemory => "no memory left (bus.max_memory_bytes)",
            Self::StoreFull => "no room left in the store (store.max_bytes, or the disk)",
            Self::StoreFailed => "the store failed",
            Self::TopicInvalid => "no topic for this",
            Self::ExclusiveTaken => "another client has this exclusive subscription",
            Self::NotSupported => "switched off here",
        })
    }
}

/// Why the bus did not open a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenRefusal {
    /// A session of this client id is there, and another identity opened it.
    NotOwner,
    /// There is no memory for it, or no room in the store.
    NoRoom,
    /// Its user has as many connections as it may have.
    TooManyOfUser,
}

impl fmt::Display for OpenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOwner => "another user opened the session of this client id (bus.share_sessions)",
            Self::TooManyOfUser => {
                "the user has as many connections as it may have (bus.max_connections_per_user)"
            }
            Self::NoRoom => "no memory left (bus.max_memory_bytes), or no room in the store",
        })
    }
}

/// What became of an accepted message, for reason code 0x10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one subscription matched.
    Matched,
    /// Nobody subscribed to it. MQTT 5 §3.4.2.1: 0x10.
    NoSubscribers,
}

/// What the bus tells an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// The session is this endpoint's; `present` when it existed before. Durable already if the session is.
    Opened {
        /// Session Present of CONNACK. \[MQTT-3.2.2-2\] \[MQTT-3.2.2-3\]
        present: bool,
        /// How long the session will outlive its connection: as asked for, or less.
        expiry: Duration,
    },
    /// The session is not opened, and the endpoint has none. Whoever has it is not disturbed.
    OpenRefused(OpenRefusal),
    /// Another endpoint wants the session and waits for it: hand over what the client has sent, then [`BusCommand::Close`].
    TakenOver,
    /// An operator or a rule throws this client out; it gets nothing more.
    Kicked,
    /// The client's rules have changed: these are valid from now on.
    RulesChanged(Arc<Presence>),
    /// Answers `Subscribe` and `SubscribeOnly`: granted QoS or refusal, in the order asked.
    Subscribed {
        /// The endpoint's own.
        token: AckToken,
        /// One for each subscription.
        results: Vec<Result<Qos, Refusal>>,
    },
    /// Answers `Unsubscribe`: whether the subscription existed, in the order asked.
    Unsubscribed {
        /// The endpoint's own.
        token: AckToken,
        /// One for each subscription.
        existed: Vec<bool>,
    },
    /// The message is safe for every durable session it matched. Comes in the order of the publishes. \[MQTT-4.6.0-2\]
    Accepted(AckToken, Outcome),
    /// The message is not taken.
    Refused(AckToken, Refusal),
    /// The publisher's packet identifier is free. `known` is false when there was none (reason code 0x92).
    Released {
        /// As in the command.
        packet: u16,
        /// Whether it had been received.
        known: bool,
    },
    /// A message for this client.
    Delivery(Delivery),
    /// A QoS 2 delivery is durably known to have arrived: send PUBREL. Also sent again on resumption. \[MQTT-4.4.0-1\]
    Received(DeliveryId),
    /// Answers `TellWhenDrained`: everything was delivered and settled. A bridge is told so too when the remote is to be asked again for what it retains,
    /// for it was not known until now that it was newer than what waited.
    Drained,
    /// Answers `FallAsleep`: mailbox, will and the hour of its loss survive a power cut.
    Asleep,
    /// Answers `Read`: what is retained there, if the client may read it.
    Retained(AckToken, Option<Arc<Message>>),
    /// Answers `ChangeWill`. False when there was no will whose message could be changed.
    WillChanged(bool),
}
