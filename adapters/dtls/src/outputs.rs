//! What follows from some steps of the server.

use crate::credentials::Shown;
use headgate_dtls_codec::{CipherSuite, Description};
use std::ops::Range;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        /// The names of all counters, in their order.
        pub const COUNTERS: &[&str] = &[$($text),*];
    };
}

counters! {
    /// Cookies were sent.
    Cookies = "dtls/cookies/sent",
    /// Handshakes whose client has sent back a cookie.
    Begun = "dtls/handshakes/begun",
    /// Handshakes that became sessions.
    Completed = "dtls/handshakes/completed",
    /// Of these, those that resumed an earlier session.
    Resumed = "dtls/handshakes/resumed",
    /// Handshakes that failed: nothing in common.
    NothingInCommon = "dtls/handshakes/failed/nothing_in_common",
    /// Handshakes that failed: an unknown identity, or another key than ours.
    WrongKey = "dtls/handshakes/failed/wrong_key",
    /// Handshakes that failed: a certificate or raw public key that is not good, or none.
    Certificate = "dtls/handshakes/failed/certificate",
    /// Handshakes that failed: something else than what should come.
    Protocol = "dtls/handshakes/failed/protocol",
    /// Handshakes that failed: the client gave up with an alert, and said no more.
    Alert = "dtls/handshakes/failed/alert",
    /// Handshakes that failed: nothing came in time.
    Timeout = "dtls/handshakes/failed/timeout",
    /// Handshakes that gave way to newer ones.
    Crowded = "dtls/handshakes/failed/crowded",
    /// Handshakes that gave way to a new one of the same client.
    Superseded = "dtls/handshakes/failed/superseded",
    /// Handshakes that were not begun: too many in this second.
    TooFast = "dtls/handshakes/refused/rate",
    /// Handshakes that were not begun: there is no memory (`max_memory_bytes`).
    NoMemory = "dtls/handshakes/refused/memory",
    /// Flights that were sent again.
    Resent = "dtls/flights/resent",
    /// Sessions that the client has ended.
    ClosedByClient = "dtls/sessions/closed",
    /// Sessions that ended for their silence.
    Idle = "dtls/sessions/idle",
    /// Sessions that were silent for the longest time, and gave way to others.
    SessionCrowded = "dtls/sessions/crowded",
    /// Sessions whose client has made a new handshake.
    Replaced = "dtls/sessions/replaced",
    /// Sessions whose client came with another address. RFC 9146 §6
    Moved = "dtls/sessions/moved",
    /// Records that are not DTLS, or not what is expected in one.
    Malformed = "dtls/records/dropped/malformed",
    /// Records for which there is neither session nor handshake.
    Unknown = "dtls/records/dropped/no_session",
    /// Records that came already, or are too old to know.
    Replayed = "dtls/records/dropped/replayed",
    /// Records that are not authentic.
    Forged = "dtls/records/dropped/forged",
    /// Records without protection, where it must be.
    Unprotected = "dtls/records/dropped/unprotected",
    /// Records and messages for which there was no room, or that came too early.
    NoRoom = "dtls/records/dropped/no_room",
    /// What was to be sent to a session that is gone, or was too long for its client.
    Unsent = "dtls/records/unsent",
}

/// Who is at the other end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The identity whose key it has.
    pub identity: Option<Vec<u8>>,
    /// What it has shown, and has proved to be its own.
    pub shown: Option<Shown>,
    /// What protects its records.
    pub suite: CipherSuite,
    /// The host that it meant. RFC 6066 §3
    pub server_name: Option<Box<str>>,
    /// Whether it may change its address. RFC 9146
    pub connection_id: bool,
}

/// What whoever runs the server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<A> {
    /// The key of an identity is wanted: [`psk_answer`](crate::DtlsServer::psk_answer).
    Psk {
        /// Who waits for it.
        handshake: u64,
        /// As the client sent it: any bytes.
        identity: Vec<u8>,
    },
    /// A handshake is complete.
    Opened {
        /// Its session; no other gets this number.
        session: u64,
        /// Where its client is.
        address: A,
        /// Who it is.
        peer: Box<Peer>,
    },
    /// A client says something.
    Data {
        /// Its session.
        session: u64,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// A client is elsewhere. RFC 9146 §6
    Moved {
        /// Its session.
        session: u64,
        /// Where it is now.
        address: A,
    },
    /// A session is gone.
    Closed {
        /// Its number.
        session: u64,
        /// Why.
        reason: CloseReason,
    },
    /// A handshake came to nothing, or will.
    Failed {
        /// Where its client is.
        address: A,
        /// The identity that it named, if any.
        identity: Option<Vec<u8>>,
        /// Why.
        failure: Failure,
    },
}

/// Why a session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said close_notify, or a fatal alert.
    ByClient(Description),
    /// It was silent for too long.
    Idle,
    /// There are as many as there may be, and it was silent for the longest time.
    Crowded,
    /// Its client has made a new handshake.
    Replaced,
    /// All numbers for records are used.
    Exhausted,
}

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of it.
    pub reason: Reason,
    /// What was or would be told by alert.
    pub alert: Description,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the counters of the same names say it")]
pub enum Reason {
    NothingInCommon,
    WrongKey,
    Certificate,
    Protocol,
    Alert,
    Timeout,
    Crowded,
    Superseded,
}

impl Failure {
    pub(crate) const fn new(reason: Reason, alert: Description) -> Self {
        Self { reason, alert }
    }

    pub(crate) const fn protocol(alert: Description) -> Self {
        Self::new(Reason::Protocol, alert)
    }
}

impl Reason {
    pub(crate) fn counter(self) -> Counter {
        match self {
            Self::NothingInCommon => Counter::NothingInCommon,
            Self::WrongKey => Counter::WrongKey,
            Self::Certificate => Counter::Certificate,
            Self::Protocol => Counter::Protocol,
            Self::Alert => Counter::Alert,
            Self::Timeout => Counter::Timeout,
            Self::Crowded => Counter::Crowded,
            Self::Superseded => Counter::Superseded,
        }
    }
}

/// Everything that follows. Whoever runs the server drains it.
#[derive(Debug)]
pub struct Outputs<A> {
    bytes: Vec<u8>,
    datagrams: Vec<(A, Range<usize>)>,
    counts: [u64; COUNTERS.len()],
    /// What happened, in order.
    pub events: Vec<Event<A>>,
}

impl<A> Default for Outputs<A> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            datagrams: Vec::new(),
            counts: [0; COUNTERS.len()],
            events: Vec::new(),
        }
    }
}

impl<A: Copy> Outputs<A> {
    /// Sends what `write` appends.
    pub(crate) fn datagram<T>(&mut self, to: A, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let from = self.bytes.len();
        let written = write(&mut self.bytes);
        if self.bytes.len() > from {
            self.datagrams.push((to, from..self.bytes.len()));
        }
        written
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.counts[counter as usize] += 1;
    }

    /// Hands each datagram to `sink` where it lies, and forgets them.
    pub fn drain_datagrams(&mut self, mut sink: impl FnMut(A, &[u8])) {
        for (to, range) in self.datagrams.drain(..) {
            sink(to, &self.bytes[range]);
        }
        self.bytes.clear();
    }

    /// Hands what was counted to `sink`, by its place among [`COUNTERS`], and forgets it.
    pub fn drain_counts(&mut self, mut sink: impl FnMut(usize, u64)) {
        for (n, count) in self.counts.iter_mut().enumerate() {
            if *count > 0 {
                sink(n, std::mem::take(count));
            }
        }
    }
}
