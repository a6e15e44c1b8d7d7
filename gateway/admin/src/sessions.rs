//! Sessions of browsers. They are in memory alone: a restart ends them.
//!
//! Always true: a token is drawn anew at each login, so nobody can give somebody one beforehand; an administrator has no more than [`SESSIONS_OF_ONE`]
//! sessions, the one that was idle longest gives way; each is over when it was idle too long, and after [`LONGEST`] in any case.

use crate::secret::{Digested, Secret, digest};
use crate::{AdminError, Identity, Moment, Role};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Sessions of one administrator at a time.
pub const SESSIONS_OF_ONE: usize = 16;
/// However busy it is, a session is over then.
const LONGEST: Duration = Duration::from_secs(12 * 3_600);

/// A session that has just begun.
pub struct Login {
    /// The cookie.
    pub token: String,
    /// What changes of the session must show in a header, beside the cookie.
    pub csrf: String,
    /// Who.
    pub identity: Identity,
}

pub(crate) struct Sessions {
    idle: Duration,
    /// By the digest of the token: what is in memory lets nobody in.
    known: HashMap<Digested, Session>,
}

struct Session {
    identity: Identity,
    csrf: String,
    begun: Instant,
    used: Instant,
}

impl Sessions {
    pub(crate) fn new(idle: Duration) -> Self {
        Self {
            idle,
            known: HashMap::new(),
        }
    }

    pub(crate) fn idle(&self) -> Duration {
        self.idle
    }

    pub(crate) fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    pub(crate) fn begin(&mut self, name: &str, role: Role, now: Moment) -> Result<Login, AdminError> {
        let idle = self.idle;
        self.known.retain(|_, session| session.goes_on(idle, now.steady));
        let of_one = self
            .known
            .iter()
            .filter(|(_, session)| session.identity.name == name);
        if of_one.clone().count() >= SESSIONS_OF_ONE
            && let Some((&oldest, _)) = of_one.min_by_key(|(_, session)| session.used)
        {
            self.known.remove(&oldest);
        }
        let (token, csrf) = (Secret::draw()?, Secret::draw()?);
        let session = Session {
            identity: Identity {
                name: name.to_owned(),
                role,
            },
            csrf: csrf.text().to_owned(),
            begun: now.steady,
            used: now.steady,
        };
        let login = Login {
            token: token.text().to_owned(),
            csrf: csrf.text().to_owned(),
            identity: session.identity.clone(),
        };
        self.known.insert(token.digest(), session);
        Ok(login)
    }

    /// Who has the session, and what its changes must show. It is idle from now on, if somebody `uses` it.
    pub(crate) fn touch(&mut self, token: &str, uses: bool, now: Moment) -> Option<(Identity, String)> {
        let digest = digest(token);
        let idle = self.idle;
        let session = self.known.get_mut(&digest)?;
        if !session.goes_on(idle, now.steady) {
            self.known.remove(&digest);
            return None;
        }
        if uses {
            session.used = now.steady;
        }
        Some((session.identity.clone(), session.csrf.clone()))
    }

    pub(crate) fn end(&mut self, token: &str) {
        self.known.remove(&digest(token));
    }

    pub(crate) fn end_all_of(&mut self, name: &str) {
        self.known.retain(|_, session| session.identity.name != name);
    }
}

impl Session {
    fn goes_on(&self, idle: Duration, now: Instant) -> bool {
        now.duration_since(self.used) < idle && now.duration_since(self.begun) < LONGEST
    }
}
