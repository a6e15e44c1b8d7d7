//! What is refused, cut off or dropped, counted by reason; and what HTTP clients are told.

use axum::http::StatusCode;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a client did not get what it asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// For metrics: lower case, with underscores.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

refusals! {
    /// There is no such URL.
    NotFound => "not_found",
    /// The URL has other methods.
    Method => "method",
    /// The origin is not among those of the settings.
    Origin => "origin",
    /// The session belongs to another origin.
    ForeignSession => "foreign_session",
    /// There is no such session, or not for this client.
    UnknownSession => "unknown_session",
    /// `max_sessions`
    Sessions => "sessions",
    /// `max_sessions_per_ip`
    SessionsOfPeer => "sessions_of_peer",
    /// A second receiver of one session.
    AnotherReceiver => "another_receiver",
    /// The callback is missing or invalid.
    Callback => "callback",
    /// A body or WebSocket message above `max_body_bytes`.
    TooLarge => "too_large",
    /// More than `max_messages` at once.
    TooManyMessages => "too_many_messages",
    /// No messages in it, or no JSON.
    Payload => "payload",
    /// The body did not come in `body_time`, or broke off.
    SlowBody => "slow_body",
    /// The inbox had no room for `body_time`.
    InboxFull => "inbox_full",
    /// Too many large bodies were on their way in for `body_time`.
    Bodies => "bodies",
    /// Too many large bodies of one address.
    BodiesOfPeer => "bodies_of_peer",
    /// The session held much when memory was scarce.
    Memory => "memory",
    /// No valid WebSocket handshake.
    Upgrade => "upgrade",
    /// A binary WebSocket message.
    Binary => "binary",
    /// A receiver took nothing for `heartbeat` and `stall_time`.
    Stalled => "stalled",
    /// A message for a client that is gone: counted for each message.
    Undelivered => "undelivered",
}

impl Refusal {
    /// A limit or a setting of the operator's refused it; all else is how clients are.
    pub(crate) fn concerns_operators(self) -> bool {
        matches!(
            self,
            Self::Origin
                | Self::ForeignSession
                | Self::Sessions
                | Self::SessionsOfPeer
                | Self::Bodies
                | Self::BodiesOfPeer
                | Self::Memory
        )
    }
}

/// How often each happened.
#[derive(Debug)]
pub struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Refusals {
    pub(crate) fn add(&self, refusal: Refusal, n: usize) {
        self.0[refusal as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    /// How often this happened.
    pub fn get(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize].load(Ordering::Relaxed)
    }
}

/// What an HTTP client gets instead of what it asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) status: StatusCode,
    pub(crate) text: &'static str,
}

impl Refused {
    const fn new(refusal: Refusal, status: StatusCode, text: &'static str) -> Self {
        Self {
            refusal,
            status,
            text,
        }
    }

    pub(crate) const NOT_FOUND: Self = Self::new(Refusal::NotFound, StatusCode::NOT_FOUND, "Not found.");
    pub(crate) const METHOD: Self = Self::new(Refusal::Method, StatusCode::METHOD_NOT_ALLOWED, "");
    pub(crate) const ORIGIN: Self = Self::new(Refusal::Origin, StatusCode::FORBIDDEN, "Origin not allowed.");
    pub(crate) const FOREIGN_SESSION: Self = Self::new(
        Refusal::ForeignSession,
        StatusCode::FORBIDDEN,
        "The session belongs to another origin.",
    );
    pub(crate) const UNKNOWN_SESSION: Self =
        Self::new(Refusal::UnknownSession, StatusCode::NOT_FOUND, "Not found.");
    pub(crate) const SESSIONS: Self = Self::new(
        Refusal::Sessions,
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many sessions.",
    );
    pub(crate) const SESSIONS_OF_PEER: Self = Self::new(
        Refusal::SessionsOfPeer,
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many sessions of this address.",
    );
    pub(crate) const NO_CALLBACK: Self = Self::new(
        Refusal::Callback,
        StatusCode::INTERNAL_SERVER_ERROR,
        "\"callback\" parameter required",
    );
    pub(crate) const CALLBACK: Self = Self::new(
        Refusal::Callback,
        StatusCode::INTERNAL_SERVER_ERROR,
        "invalid \"callback\" parameter",
    );
    pub(crate) const TOO_LARGE: Self = Self::new(
        Refusal::TooLarge,
        StatusCode::PAYLOAD_TOO_LARGE,
        "Body too large.",
    );
    pub(crate) const TOO_MANY_MESSAGES: Self = Self::new(
        Refusal::TooManyMessages,
        StatusCode::PAYLOAD_TOO_LARGE,
        "Too many messages.",
    );
    pub(crate) const NO_PAYLOAD: Self = Self::new(
        Refusal::Payload,
        StatusCode::INTERNAL_SERVER_ERROR,
        "Payload expected.",
    );
    pub(crate) const BROKEN_JSON: Self = Self::new(
        Refusal::Payload,
        StatusCode::INTERNAL_SERVER_ERROR,
        "Broken JSON encoding.",
    );
    pub(crate) const SLOW_BODY: Self =
        Self::new(Refusal::SlowBody, StatusCode::REQUEST_TIMEOUT, "No body in time.");
    pub(crate) const INBOX_FULL: Self = Self::new(
        Refusal::InboxFull,
        StatusCode::SERVICE_UNAVAILABLE,
        "No room for messages.",
    );
    pub(crate) const BODIES: Self = Self::new(
        Refusal::Bodies,
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many bodies at a time.",
    );
    pub(crate) const BODIES_OF_PEER: Self = Self::new(
        Refusal::BodiesOfPeer,
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many bodies of this address at a time.",
    );
    pub(crate) const MEMORY: Self = Self::new(
        Refusal::Memory,
        StatusCode::SERVICE_UNAVAILABLE,
        "No memory left.",
    );
    pub(crate) const NO_UPGRADE: Self = Self::new(
        Refusal::Upgrade,
        StatusCode::BAD_REQUEST,
        "Can \"Upgrade\" only to \"WebSocket\".",
    );
    pub(crate) const NO_CONNECTION_UPGRADE: Self = Self::new(
        Refusal::Upgrade,
        StatusCode::BAD_REQUEST,
        "\"Connection\" must be \"Upgrade\".",
    );
    pub(crate) const UPGRADE: Self = Self::new(
        Refusal::Upgrade,
        StatusCode::BAD_REQUEST,
        "Not a valid websocket request.",
    );
}
