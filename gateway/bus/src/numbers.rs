//! Numbers that are given once: of sessions, of messages, of questions to the store.

use crate::queue::DELIVERY_IDS;
use headgate_model::store::MessageId;
use headgate_model::{SessionId, StoreOp};
use std::hash::{BuildHasher, RandomState};

/// Numbers of sessions that one write to the store is enough for.
const SESSIONS_RESERVED: u64 = 1 << 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Numbers {
    next_session: u64,
    /// The store knows that all numbers of sessions below this one are given.
    reserved_sessions: u64,
    next_message: u64,
    next_ticket: u64,
    /// Where the first delivery of a new session is numbered, for protocols that take an acknowledgement for a proof; `None` for 0.
    first_deliveries: Option<RandomState>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            next_session: 1,
            reserved_sessions: 1,
            next_message: 1,
            next_ticket: 1,
            first_deliveries: None,
        }
    }
}

impl Numbers {
    pub(crate) fn session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session - 1)
    }

    pub(crate) fn message(&mut self) -> MessageId {
        self.next_message += 1;
        MessageId(self.next_message - 1)
    }

    /// Of a question to the store.
    pub(crate) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket - 1
    }

    /// The store knows that all numbers of sessions below this one are given.
    pub(crate) fn restore(&mut self, reserved: u64) {
        self.reserved_sessions = reserved;
        self.next_session = self.next_session.max(reserved);
    }

    /// An earlier run gave this number.
    pub(crate) fn note_session(&mut self, id: SessionId) {
        self.next_session = self.next_session.max(id.0 + 1);
    }

    /// An earlier run gave this number.
    pub(crate) fn note_message(&mut self, id: MessageId) {
        self.next_message = self.next_message.max(id.0 + 1);
    }

    /// What the store must be told before anything of the newest session is in it.
    pub(crate) fn reserve(&mut self) -> Option<StoreOp> {
        if self.next_session <= self.reserved_sessions {
            return None;
        }
        self.reserved_sessions = self.next_session + SESSIONS_RESERVED;
        Some(StoreOp::ReserveSessions(SessionId(self.reserved_sessions)))
    }

    /// What the store was told may be lost.
    pub(crate) fn forget_reservation(&mut self) {
        self.reserved_sessions = 0;
    }

    /// See [`Bus::number_unpredictably`](crate::Bus::number_unpredictably).
    pub(crate) fn be_unpredictable(&mut self) {
        self.first_deliveries = Some(RandomState::new());
    }

    /// The number of the first delivery of a session whose client proves with it where it is.
    pub(crate) fn first_delivery(&self, session: SessionId) -> u64 {
        let keys = self.first_deliveries.as_ref();
        // In the lower half: some clients read identifiers as signed numbers.
        keys.map_or(0, |keys| keys.hash_one(session) % (DELIVERY_IDS / 2))
    }
}
