//! Sessions that may be resumed: a client with a certificate that comes back spares both the signatures. RFC 5246 §7.3, §F.1.4; RFC 7627 §5.3
//!
//! Sessions with shared keys are not among them: their handshake has nothing to spare, and asks anew whether the key is still good.
//!
//! Always true: no more than the limit, none longer than a day, and none past a change of the credentials.

use crate::credentials::{Credentials, Shown};
use crate::crypto::prf::Master;
use crate::settings::ServerSettings;
use headgate_dtls_codec::extension::EXTENDED_MASTER_SECRET;
use headgate_dtls_codec::{CipherSuite, ClientHello};
use headgate_model::Instant;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long a session can be resumed. RFC 5246 §F.1.4
const GOOD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The name of a session. RFC 5246 §7.4.1.3
pub(crate) type SessionId = [u8; 32];

/// What is kept of a session.
#[derive(Clone)]
pub(crate) struct Resumable {
    pub(crate) master: Master,
    pub(crate) suite: CipherSuite,
    pub(crate) extended_master: bool,
    pub(crate) shown: Option<Shown>,
}

impl Resumable {
    /// Bytes of memory that it takes, with its places.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + 4 * size_of::<SessionId>() + self.shown.as_ref().map_or(0, Shown::bytes)
    }
}

#[derive(Default)]
pub(crate) struct Memory {
    by_id: HashMap<SessionId, (Resumable, Instant)>,
    /// The oldest first; some may be gone.
    order: VecDeque<SessionId>,
    /// Bytes of all in `by_id`.
    bytes: usize,
}

impl Memory {
    /// Bytes of memory that all sessions take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a session; the oldest gives way.
    pub(crate) fn keep(&mut self, id: SessionId, session: Resumable, limit: usize, now: Instant) {
        while self.order.len() >= limit.max(1)
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
        self.bytes += session.bytes();
        self.order.push_back(id);
        self.by_id.insert(id, (session, now + GOOD_FOR));
    }

    /// The session that a client names, if it may be resumed as the client and the credentials are now.
    pub(crate) fn find(
        &self,
        hello: &ClientHello<'_>,
        settings: &ServerSettings,
        credentials: &Credentials,
        now: Instant,
    ) -> Option<(SessionId, Resumable)> {
        let id: SessionId = hello.session_id.try_into().ok()?;
        let (session, until) = self.by_id.get(&id)?;
        let offers = hello.suites().any(|suite| suite == session.suite as u16);
        // RFC 7627 §5.3: with it then and now, or not at all.
        let extended = hello.extensions.get(EXTENDED_MASTER_SECRET).is_some();
        let is_alike =
            offers && extended == session.extended_master && settings.suites.contains(&session.suite);
        let is_good = match (&session.shown, &credentials.clients) {
            (Some(shown), Some(verifier)) => verifier.verify(shown).is_ok(),
            (Some(_), None) => false,
            (None, verifier) => verifier.as_ref().is_none_or(|verifier| !verifier.is_required()),
        };
        (*until > now && is_alike && is_good).then(|| (id, session.clone()))
    }

    /// A session ended in a way after which it must not be resumed. RFC 5246 §7.2.2
    pub(crate) fn forget(&mut self, id: &SessionId) {
        if let Some((session, _)) = self.by_id.remove(id) {
            self.bytes -= session.bytes();
        }
    }

    /// Other credentials: all that was proved is to be proved anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
