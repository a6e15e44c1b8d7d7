//! What is refused, cut off or dropped, counted by reason.

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
    /// `max_sessions_per_peer`
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
    /// No valid WebSocket handshake.
    Upgrade => "upgrade",
    /// A binary WebSocket message.
    Binary => "binary",
    /// A receiver took nothing for `heartbeat` and `stall_time`.
    Stalled => "stalled",
    /// A message for a client that is gone: counted for each message.
    Undelivered => "undelivered",
}

/// How often each happened.
#[derive(Debug)]
pub(crate) struct Counts([AtomicU64; Refusal::ALL.len()]);

impl Counts {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(crate) fn add(&self, refusal: Refusal, n: usize) {
        self.0[refusal as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize].load(Ordering::Relaxed)
    }
}
