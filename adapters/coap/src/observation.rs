//! One observation: a client that is notified of what is published at a topic. RFC 7641 §1.2
//!
//! Each is a session on the bus of its own, so that its queue and its window are its own, and what waits for it waits until the client is back and observes the same again.

use crate::Requester;
use bytes::Bytes;
use headgate_coap_codec::{Message, Token};
use headgate_model::{Admitted, Delivery, Instant, Qos, SessionKey, Subscription};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(crate) struct Observation<A> {
    /// Its session on the bus.
    pub seat: SessionKey,
    /// Of the request that began it; notifications have the same. RFC 7641 §3.2
    pub token: Token,
    /// The request that began it, without its payload: by the same one, without Observe, the rest of a long notification is fetched. RFC 7959 §2.6
    pub request: Message,
    /// The filter as the client wrote it.
    pub filter: Bytes,
    pub qos: Qos,
    /// Whether notifications say their topic, for the filter does not.
    pub has_wildcard: bool,
    pub step: Step<A>,
    /// Of the last notification. RFC 7641 §3.4
    pub sequence: u32,
    /// Sequence numbers up to this one may be used before another note is written; none where there is no note.
    pub reserved: Option<u32>,
    /// The bus may deliver as many messages as there are to be at once.
    pub granted: bool,
    /// When a notification was last acknowledged, or the observation began.
    pub confirmed: Instant,
    /// A confirmable notification that is fetched in blocks: nothing else is notified meanwhile.
    pub transfer: Option<Box<Transfer>>,
    /// What came meanwhile, in order: no more than the credit of the session.
    pub waiting: VecDeque<Delivery>,
}

/// A notification in blocks: it is settled when its first block was acknowledged and its last one fetched. RFC 7959 §2.6
#[derive(Debug)]
pub(crate) struct Transfer {
    pub delivery: Delivery,
    /// How often its first block was sent, as a notification of its own.
    pub tries: u8,
    pub is_acknowledged: bool,
    pub is_fetched: bool,
    /// So long the next block is waited for, once the first is acknowledged.
    pub until: Instant,
    /// When its entry among the timers is.
    pub armed: Option<Instant>,
}

/// How far an observation is.
#[derive(Debug)]
pub(crate) enum Step<A> {
    /// Its session is being opened; then it subscribes.
    Opening(Requester<A>, Box<Admitted<Subscription>>),
    /// It subscribes. With what it reads then.
    Subscribing(Requester<A>, Box<Admitted<Subscription>>),
    /// It goes on after a restart: its session is being opened, and subscribes as before. Nobody waits for an answer.
    Reopening(Box<Admitted<Subscription>>),
    /// The session of one that goes on subscribes.
    Resubscribing,
    /// The client is notified.
    Active,
}

/// The largest sequence number. RFC 7641 §4.4
const MAX_SEQUENCE: u32 = (1 << 24) - 1;
/// So many sequence numbers are reserved with one note.
const RESERVED: u32 = 1_024;

impl<A> Observation<A> {
    /// The next sequence number. RFC 7641 §4.4
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1) & MAX_SEQUENCE;
        self.sequence
    }

    /// Whether a note is to reserve more sequence numbers: half of them are used.
    pub(crate) fn reserves_more(&self) -> bool {
        let left = |reserved: u32| reserved.wrapping_sub(self.sequence) & MAX_SEQUENCE;
        self.reserved
            .is_some_and(|reserved| left(reserved) < RESERVED / 2)
    }

    /// The last sequence number that may be used once a note says so.
    pub(crate) fn to_reserve(&self) -> u32 {
        self.sequence.wrapping_add(RESERVED) & MAX_SEQUENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_coap_codec::Code;

    /// RFC 7641 §4.4 \[RFC7641-4.4-1\]
    #[test]
    fn sequence_numbers_have_24_bits() {
        let seat = SessionKey {
            index: 0,
            generation: 0,
        };
        let mut observation = Observation::<()> {
            seat,
            token: Token::default(),
            request: Message::of_stream(Code::GET, Token::default()),
            filter: Bytes::new(),
            qos: Qos::AtMostOnce,
            has_wildcard: false,
            step: Step::Active,
            granted: true,
            sequence: MAX_SEQUENCE - 2,
            reserved: None,
            confirmed: Instant::START,
            transfer: None,
            waiting: VecDeque::new(),
        };
        let next = [(); 3].map(|()| observation.next_sequence());
        assert_eq!(next, [MAX_SEQUENCE - 1, MAX_SEQUENCE, 0]);
    }
}
