//! Notes: what adapters must know of their sessions after a restart, kept with them.
//!
//! Always true: a note is no longer than [`NOTE_BYTES`], and its own copy: it keeps no buffer alive. It is in the store if its session is, as a row of its own,
//! so that neither a connection nor a note rewrites the other.

use crate::bus::{Bus, BusOutputs};
use crate::gauges::Gauges;
use crate::memory;
use crate::queries::{MAX_LOOKS, MAX_PAGE, Page};
use crate::session::Session;
use crate::sessions::Slot;
use bytes::Bytes;
use headgate_model::bus::NOTE_BYTES;
use headgate_model::datagram::Restored;
use headgate_model::{ClientId, EndpointId, Instant, StoreOp};

impl Session {
    /// This is its note from now on; none if it is empty. Whether that is news.
    pub(crate) fn put_note(&mut self, note: &[u8], gauges: &mut Gauges) -> bool {
        let before = self.rare.note();
        if before.map_or(&[][..], |note| note) == note {
            return false;
        }
        gauges.note_bytes -= memory::of_note(before);
        self.rare.set_note(Bytes::copy_from_slice(note));
        gauges.note_bytes += memory::of_note(self.rare.note());
        true
    }
}

impl Bus {
    /// An adapter writes down what it must know of a session.
    pub(crate) fn set_note(&mut self, from: EndpointId, slot: Slot, note: &[u8], out: &mut BusOutputs) {
        if note.len() > NOTE_BYTES {
            self.counters.refused_notes += 1;
            return;
        }
        let session = &mut self.sessions[slot];
        if !session.put_note(note, &mut self.gauges) || !session.is_durable() {
            return;
        }
        let note = session.rare.note().cloned().unwrap_or_default();
        self.pending.push(StoreOp::PutNote(session.id, note));
        self.hold_answers(from, out);
    }

    /// Sessions that have notes and whose client ids begin like this, by client id: those behind `after`, [`MAX_PAGE`] at most. What is over is not told.
    pub fn notes(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Instant,
    ) -> Page<Restored, ClientId> {
        let limit = limit.clamp(1, MAX_PAGE);
        // What comes behind a client id does not hold it: of the first page, it is the first.
        let first = match after {
            Some(_) => None,
            None => self.sessions.of_client(prefix).map(|slot| &self.sessions[slot]),
        };
        let behind = self.sessions.by_client_id(Some(after.unwrap_or(prefix)));
        let mut found = first
            .into_iter()
            .chain(behind)
            .take_while(|session| session.client.as_str().starts_with(prefix));
        let (mut rows, mut last) = (Vec::new(), None);
        for session in found.by_ref().take(MAX_LOOKS) {
            last = Some(session);
            rows.extend(restored(session, now));
            if rows.len() == limit {
                break;
            }
        }
        let next = found.next().and(last).map(|last| last.client.clone());
        Page { rows, next }
    }
}

/// What its adapter is told after a restart; nothing if there is no note, or no session any more.
fn restored(session: &Session, now: Instant) -> Option<Restored> {
    let note = session.rare.note()?;
    let attached = session.is_attached();
    let ends_at = session.ends_at.filter(|_| !attached);
    if ends_at.is_some_and(|at| at <= now) {
        return None;
    }
    Some(Restored {
        client_id: session.client.clone(),
        username: session.presence.username.clone(),
        note: note.clone(),
        ends_in: ends_at.map(|at| at.since(now)),
        attached,
    })
}
