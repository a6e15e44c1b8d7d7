//! What becomes of sessions: they begin, speak, move and end.

use crate::outputs::{CloseReason, Counter, Event, Outputs};
use crate::server::{DtlsServer, SendError};
use crate::session::{Got, Session};
use headgate_dtls_codec::{Alert, Description, Record};
use headgate_model::Instant;
use std::hash::Hash;

impl<A: Copy + Eq + Hash> DtlsServer<A> {
    /// A handshake has become a session.
    pub(crate) fn complete(
        &mut self,
        number: u64,
        mut session: Session<A>,
        now: Instant,
        out: &mut Outputs<A>,
    ) {
        let address = session.address;
        if let Some(old) = self.sessions_at.get(&address).copied() {
            out.count(Counter::Replaced);
            self.drop_session(old, CloseReason::Replaced, out);
        }
        let handshake = self.drop_handshake(number);
        out.count(Counter::Completed);
        if handshake.is_some_and(|handshake| handshake.is_resumed) {
            out.count(Counter::Resumed);
        }
        while self.sessions.len() >= self.settings.max_sessions.max(1) && self.crowd_out(out) {}
        session.timer_at = now + self.settings.idle_timeout;
        self.ends.set(session.timer_at, number);
        if let Some(cid) = session.cid {
            self.by_cid.insert(cid, number);
        }
        self.sessions_at.insert(address, number);
        let peer = session.take_peer();
        session.counted = session.bytes();
        self.ledger.change(0, session.counted);
        self.sessions.insert(number, session);
        if let Some(peer) = peer {
            out.events.push(Event::Opened {
                session: number,
                address,
                peer,
            });
        }
    }

    /// The session that was silent for the longest time gives way. Whether there was one.
    fn crowd_out(&mut self, out: &mut Outputs<A>) -> bool {
        // What was heard of since it was set is due later than it says.
        while let Some((at, number)) = self.ends.first() {
            let Some(session) = self.sessions.get_mut(&number) else {
                self.ends.unset(at, number);
                continue;
            };
            let ends = session.heard + self.settings.idle_timeout;
            if ends <= at {
                session.alert(Alert::warning(Description::CLOSE_NOTIFY), out);
                out.count(Counter::SessionCrowded);
                self.drop_session(number, CloseReason::Crowded, out);
                return true;
            }
            self.ends.unset(at, number);
            session.timer_at = ends;
            self.ends.set(ends, number);
        }
        false
    }

    /// `from`: where a record with our Connection ID came from.
    pub(crate) fn take_for_session(
        &mut self,
        number: u64,
        from: Option<A>,
        record: &Record<'_>,
        now: Instant,
        out: &mut Outputs<A>,
    ) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        let (got, is_newest) = session.take(record, now);
        // RFC 9146 §6: authentic, and newer than all before.
        if let Some(from) = from.filter(|from| is_newest && *from != session.address) {
            self.move_to(number, from, out);
        }
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        match got {
            Got::Data(bytes) => out.events.push(Event::Data {
                session: number,
                bytes,
            }),
            Got::Closed(alert) => {
                if let Some(id) = session.resumed_by.as_ref().filter(|_| alert.fatal) {
                    let before = self.memory.bytes();
                    self.memory.forget(id);
                    self.ledger.change(before, self.memory.bytes());
                }
                // RFC 5246 §7.2.1
                session.alert(Alert::warning(Description::CLOSE_NOTIFY), out);
                out.count(Counter::ClosedByClient);
                self.drop_session(number, CloseReason::ByClient(alert.description), out);
            }
            Got::Renegotiation => session.alert(Alert::warning(Description::NO_RENEGOTIATION), out),
            Got::Repeat => session.repeat_last(out),
            Got::Nothing => {}
            Got::Malformed => out.count(Counter::Malformed),
            Got::Replayed => out.count(Counter::Replayed),
            Got::Forged => out.count(Counter::Forged),
        }
    }

    fn move_to(&mut self, number: u64, to: A, out: &mut Outputs<A>) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        if self.sessions_at.get(&session.address) == Some(&number) {
            self.sessions_at.remove(&session.address);
        }
        session.address = to;
        // Whoever is there without a Connection ID can be found by the address alone.
        self.sessions_at.entry(to).or_insert(number);
        out.count(Counter::Moved);
        out.events.push(Event::Moved {
            session: number,
            address: to,
        });
    }

    /// Sends something to the client of a session, as one record in one datagram.
    pub fn send(&mut self, session: u64, bytes: &[u8], out: &mut Outputs<A>) -> Result<(), SendError> {
        let Some(known) = self.sessions.get_mut(&session) else {
            out.count(Counter::Unsent);
            return Err(SendError::Gone);
        };
        let limit = known.max_plaintext();
        if bytes.len() > limit {
            out.count(Counter::Unsent);
            return Err(SendError::TooLong {
                len: bytes.len(),
                limit,
            });
        }
        known.send(bytes, out);
        if known.is_exhausted() {
            self.drop_session(session, CloseReason::Exhausted, out);
        }
        Ok(())
    }

    /// Ends a session; its client is told.
    pub fn close(&mut self, session: u64, out: &mut Outputs<A>) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.alert(Alert::warning(Description::CLOSE_NOTIFY), out);
            self.forget_session(session);
        }
    }

    /// Ends all sessions; their clients are told.
    pub fn close_all(&mut self, out: &mut Outputs<A>) {
        let mut all: Vec<u64> = self.sessions.keys().copied().collect();
        all.sort_unstable();
        all.into_iter().for_each(|session| self.close(session, out));
    }

    pub(crate) fn session_due(&mut self, number: u64, now: Instant, out: &mut Outputs<A>) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        let ends = session.heard + self.settings.idle_timeout;
        if now < ends {
            session.timer_at = ends;
            return self.ends.set(ends, number);
        }
        session.alert(Alert::warning(Description::CLOSE_NOTIFY), out);
        out.count(Counter::Idle);
        self.drop_session(number, CloseReason::Idle, out);
    }

    fn drop_session(&mut self, number: u64, reason: CloseReason, out: &mut Outputs<A>) {
        self.forget_session(number);
        out.events.push(Event::Closed {
            session: number,
            reason,
        });
    }

    fn forget_session(&mut self, number: u64) {
        let Some(session) = self.sessions.remove(&number) else {
            return;
        };
        self.ledger.change(session.counted, 0);
        self.ends.unset(session.timer_at, number);
        if self.sessions_at.get(&session.address) == Some(&number) {
            self.sessions_at.remove(&session.address);
        }
        if let Some(cid) = session.cid {
            self.by_cid.remove(&cid);
        }
    }
}
