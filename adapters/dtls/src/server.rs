//! The server: which record is for which handshake or session. How handshakes begin is in `begin`, what becomes of sessions in `sessions`.

use crate::CID_LEN;
use crate::cookie::Cookies;
use crate::credentials::Credentials;
use crate::crypto::Random;
use crate::handshake::Handshake;
use crate::ledger::Ledger;
use crate::outputs::{Counter, Event, Failure, Outputs, Reason};
use crate::reassembly::Taken;
use crate::resume::{Memory, Resumable, SessionId};
use crate::session::Session;
use crate::settings::ServerSettings;
use crate::steps::{Protected, Step};
use crate::timers::Timers;
use headgate_dtls_codec::{Alert, ContentType, Fragment, HandshakeType, Record, next_fragment, next_record};
use headgate_model::memory::Want;
use headgate_model::{Instant, MemoryLimit};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Timers that are looked at in one go.
const AT_ONCE: usize = 256;

/// All peers of one socket. `A` is where a peer is.
pub struct DtlsServer<A> {
    pub(crate) settings: ServerSettings,
    pub(crate) credentials: Credentials,
    pub(crate) memory: Memory,
    pub(crate) random: Box<dyn Random>,
    pub(crate) cookies: Cookies,
    /// By number: the first is the oldest.
    pub(crate) handshakes: BTreeMap<u64, Handshake<A>>,
    pub(crate) handshakes_at: HashMap<A, u64>,
    pub(crate) sessions: HashMap<u64, Session<A>>,
    pub(crate) sessions_at: HashMap<A, u64>,
    /// Handshakes and sessions with Connection IDs.
    pub(crate) by_cid: HashMap<[u8; CID_LEN], u64>,
    /// When a handshake's flight is sent again, or it ends.
    pub(crate) retries: Timers,
    /// When a session ends, unless it was heard of since.
    pub(crate) ends: Timers,
    pub(crate) next_number: u64,
    /// Handshakes begun since.
    pub(crate) begun: (Instant, u32),
    pub(crate) ledger: Ledger,
}

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is gone.
    #[error("the session is gone")]
    Gone,
    /// It does not fit into a record that the client takes.
    #[error("{len} bytes, the client takes {limit}")]
    TooLong {
        /// Bytes that were to be sent.
        len: usize,
        /// Bytes that may be sent.
        limit: usize,
    },
}

impl<A: Copy + Eq + Hash> DtlsServer<A> {
    /// A server without peers.
    pub fn new(
        settings: ServerSettings,
        credentials: Credentials,
        mut random: Box<dyn Random>,
        now: Instant,
    ) -> Self {
        Self {
            settings,
            credentials,
            memory: Memory::default(),
            cookies: Cookies::new(&mut *random, now),
            random,
            handshakes: BTreeMap::new(),
            handshakes_at: HashMap::new(),
            sessions: HashMap::new(),
            sessions_at: HashMap::new(),
            by_cid: HashMap::new(),
            retries: Timers::default(),
            ends: Timers::default(),
            next_number: 1,
            begun: (now, 0),
            ledger: Ledger::default(),
        }
    }

    /// Counts what its peers hold in this limit, and begins nothing that there is no memory for.
    pub fn count_in(&mut self, memory: Arc<MemoryLimit>) {
        self.ledger.count_in(memory);
    }

    /// Takes other settings; handshakes and sessions stay.
    pub fn set_settings(&mut self, settings: ServerSettings) {
        self.settings = settings;
    }

    /// Takes other credentials for the handshakes to come.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        let held = self.memory.bytes();
        self.memory.clear();
        self.ledger.change(held, 0);
        self.credentials = credentials;
    }

    /// Numbers are never given again, also by a server that follows this one with `first` handed in.
    pub fn count_from(&mut self, first: u64) {
        self.next_number = self.next_number.max(first);
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many half-open handshakes there are.
    pub fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// Where the client of a session is now.
    pub fn address(&self, session: u64) -> Option<A> {
        self.sessions.get(&session).map(|session| session.address)
    }

    /// Takes a datagram. RFC 6347 §4.1
    pub fn handle_datagram(&mut self, from: A, datagram: &[u8], now: Instant, out: &mut Outputs<A>) {
        self.take_records(from, datagram, now, out);
        if let Some(number) = self.handshakes_at.get(&from).copied() {
            self.recount(number);
        }
    }

    /// A handshake holds something else than it did.
    fn recount(&mut self, number: u64) {
        if let Some(handshake) = self.handshakes.get_mut(&number) {
            let bytes = handshake.bytes();
            let before = std::mem::replace(&mut handshake.counted, bytes);
            self.ledger.change(before, bytes);
        }
    }

    fn take_records(&mut self, from: A, datagram: &[u8], now: Instant, out: &mut Outputs<A>) {
        let mut rest = datagram;
        while !rest.is_empty() {
            let Ok((record, behind)) = next_record(rest, CID_LEN) else {
                // Where the next record begins nobody knows.
                return out.count(Counter::Malformed);
            };
            let raw = &rest[..rest.len() - behind.len()];
            rest = behind;
            match (record.epoch, record.content) {
                (0, ContentType::Handshake) => self.take_plain(from, &record, now, out),
                (0, ContentType::Alert) => self.take_plain_alert(from, &record, out),
                // It says what the epoch of the next record says.
                (0, ContentType::ChangeCipherSpec) => {}
                (0, _) => out.count(Counter::Unprotected),
                (1, _) => self.take_protected(from, &record, raw, now, out),
                _ => out.count(Counter::Unknown),
            }
        }
    }

    /// Handshake messages without protection.
    fn take_plain(&mut self, from: A, record: &Record<'_>, now: Instant, out: &mut Outputs<A>) {
        let mut rest = record.fragment;
        while !rest.is_empty() {
            let Ok((fragment, behind)) = next_fragment(rest) else {
                return out.count(Counter::Malformed);
            };
            rest = behind;
            if fragment.kind == HandshakeType::ClientHello as u8 {
                self.take_hello(from, record, &fragment, now, out);
            } else if let Some(number) = self.handshakes_at.get(&from).copied() {
                self.take_fragment(number, &fragment, now, out);
            } else {
                out.count(Counter::Unknown);
            }
        }
    }

    fn take_fragment(&mut self, number: u64, fragment: &Fragment<'_>, now: Instant, out: &mut Outputs<A>) {
        let Some(handshake) = self.handshakes.get_mut(&number) else {
            return;
        };
        // Finished is protected, or it is none.
        if fragment.kind == HandshakeType::Finished as u8 {
            return out.count(Counter::Unprotected);
        }
        if !self.ledger.has_room(Want::ToGoOn, fragment.body.len()) {
            return out.count(Counter::NoRoom);
        }
        match handshake.messages.add(fragment) {
            Taken::Kept => self.advance(number, now, out),
            Taken::Again => handshake.send_again(now, out),
            Taken::Refused => out.count(Counter::NoRoom),
        }
    }

    fn advance(&mut self, number: u64, now: Instant, out: &mut Outputs<A>) {
        let Some(handshake) = self.handshakes.get_mut(&number) else {
            return;
        };
        match handshake.advance() {
            Ok(Step::Wait) => self.take_early(number, now, out),
            Ok(Step::AskKey(identity)) => out.events.push(Event::Psk {
                handshake: number,
                identity,
            }),
            Err(failure) => self.fail(number, Some(failure), true, out),
        }
    }

    /// The key of the identity that [`Event::Psk`] asked for; `None` if there is none. RFC 4279 §5.3
    pub fn psk_answer(&mut self, handshake: u64, key: Option<&[u8]>, now: Instant, out: &mut Outputs<A>) {
        if let Some(waiting) = self.handshakes.get_mut(&handshake) {
            waiting.take_key(key, &mut *self.random);
            self.advance(handshake, now, out);
            self.recount(handshake);
        }
    }

    /// Looks at what came before there were keys.
    fn take_early(&mut self, number: u64, now: Instant, out: &mut Outputs<A>) {
        let Some(handshake) = self.handshakes.get_mut(&number) else {
            return;
        };
        if handshake.secrets.is_none() || handshake.early.is_empty() {
            return;
        }
        for raw in std::mem::take(&mut handshake.early) {
            if let Ok((record, _)) = next_record(&raw, CID_LEN) {
                self.take_for_handshake(number, &record, &raw, now, out);
            }
        }
    }

    /// Without protection nobody can prove to be the client: such an alert ends nothing.
    fn take_plain_alert(&mut self, from: A, record: &Record<'_>, out: &mut Outputs<A>) {
        let handshake = self.handshakes_at.get(&from);
        let handshake = handshake.and_then(|number| self.handshakes.get_mut(number));
        match (handshake, Alert::decode(record.fragment)) {
            (Some(handshake), Ok(alert)) => handshake.note_alert(alert),
            (None, Ok(_)) => out.count(Counter::Unprotected),
            (_, Err(_)) => out.count(Counter::Malformed),
        }
    }

    fn take_protected(
        &mut self,
        from: A,
        record: &Record<'_>,
        raw: &[u8],
        now: Instant,
        out: &mut Outputs<A>,
    ) {
        if record.content == ContentType::Tls12Cid {
            let cid: Option<&[u8; CID_LEN]> = record.cid.try_into().ok();
            let number = cid.and_then(|cid| self.by_cid.get(cid)).copied();
            return match number {
                Some(number) if self.sessions.contains_key(&number) => {
                    self.take_for_session(number, Some(from), record, now, out);
                }
                // A handshake stays where it began.
                Some(number) if self.handshakes_at.get(&from) == Some(&number) => {
                    self.take_for_handshake(number, record, raw, now, out);
                }
                _ => out.count(Counter::Unknown),
            };
        }
        // Who has a Connection ID sends it. RFC 9146 §4
        let handshake = self.handshakes_at.get(&from).copied();
        let handshake =
            handshake.filter(|number| self.handshakes.get(number).is_some_and(|it| !it.has_cid()));
        let session = self.sessions_at.get(&from).copied();
        let session = session.filter(|number| self.sessions.get(number).is_some_and(|it| it.cid.is_none()));
        match (handshake, session) {
            (Some(number), None) => self.take_for_handshake(number, record, raw, now, out),
            (Some(number), Some(_)) if record.content == ContentType::Handshake => {
                self.take_for_handshake(number, record, raw, now, out);
            }
            (_, Some(number)) => self.take_for_session(number, None, record, now, out),
            (None, None) => out.count(Counter::Unknown),
        }
    }

    fn take_for_handshake(
        &mut self,
        number: u64,
        record: &Record<'_>,
        raw: &[u8],
        now: Instant,
        out: &mut Outputs<A>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(&number) else {
            return;
        };
        match handshake.take_protected(record, raw, now, out) {
            Protected::Nothing => {}
            Protected::Replayed => out.count(Counter::Replayed),
            Protected::NoRoom => out.count(Counter::NoRoom),
            Protected::Forged => {
                out.count(Counter::Forged);
                if let Some(failure) = handshake.note_wrong_key(out) {
                    let (address, identity) = (handshake.address, handshake.identity.clone());
                    tell(address, identity, failure, out);
                }
            }
            Protected::Failed(failure) => {
                let says_so = failure.reason != Reason::Alert;
                self.fail(number, Some(failure), says_so, out);
            }
            Protected::Done(session, resumable) => {
                if let Some(resumable) = resumable {
                    let (id, resumable) = *resumable;
                    self.keep(id, resumable, now);
                }
                self.complete(number, *session, now, out);
            }
        }
    }

    /// Keeps what a session can be resumed with, if there is memory for it: without it the client makes a full handshake.
    fn keep(&mut self, id: SessionId, resumable: Resumable, now: Instant) {
        let before = self.memory.bytes();
        if self.ledger.has_room(Want::ToKeep, resumable.bytes()) {
            let limit = self.settings.max_sessions;
            self.memory.keep(id, resumable, limit, now);
        }
        self.ledger.change(before, self.memory.bytes());
    }

    /// When [`Self::handle_timeout`] is next wanted.
    pub fn deadline(&self) -> Option<Instant> {
        let first = |timers: &Timers| timers.first().map(|(at, _)| at);
        first(&self.retries).into_iter().chain(first(&self.ends)).min()
    }

    /// Does what is due, though never much at once.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outputs<A>) {
        for _ in 0..AT_ONCE {
            let Some(number) = self.retries.take(now) else {
                break;
            };
            self.handshake_due(number, now, out);
        }
        for _ in 0..AT_ONCE {
            let Some(number) = self.ends.take(now) else {
                break;
            };
            self.session_due(number, now, out);
        }
    }

    fn handshake_due(&mut self, number: u64, now: Instant, out: &mut Outputs<A>) {
        let Some(handshake) = self.handshakes.get_mut(&number) else {
            return;
        };
        if handshake.handle_timeout(now, out) {
            let failure = handshake.gave_up();
            return self.fail(number, failure, false, out);
        }
        self.retries.set(handshake.deadline(), number);
    }

    /// Ends a handshake. `says_so`: its client is told.
    pub(crate) fn fail(
        &mut self,
        number: u64,
        failure: Option<Failure>,
        says_so: bool,
        out: &mut Outputs<A>,
    ) {
        let Some(mut handshake) = self.drop_handshake(number) else {
            return;
        };
        let Some(failure) = failure.filter(|_| !handshake.was_told()) else {
            return;
        };
        if says_so {
            handshake.alert(failure.alert, out);
        }
        tell(handshake.address, handshake.identity.take(), failure, out);
    }

    pub(crate) fn drop_handshake(&mut self, number: u64) -> Option<Handshake<A>> {
        let handshake = self.handshakes.remove(&number)?;
        self.ledger.change(handshake.counted, 0);
        self.retries.unset(handshake.deadline(), number);
        if self.handshakes_at.get(&handshake.address) == Some(&number) {
            self.handshakes_at.remove(&handshake.address);
        }
        if handshake.has_cid() {
            self.by_cid.remove(&handshake.cid);
        }
        Some(handshake)
    }
}

fn tell<A: Copy>(address: A, identity: Option<Vec<u8>>, failure: Failure, out: &mut Outputs<A>) {
    out.count(failure.reason.counter());
    out.events.push(Event::Failed {
        address,
        identity,
        failure,
    });
}
