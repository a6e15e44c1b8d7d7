//! How many connections each user name has, for as long as there is a limit on it.

use crate::session::Session;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module. Clients without a user name are not counted.
#[derive(Debug, Default)]
pub(crate) struct UserConnections(Option<BTreeMap<Arc<str>, usize>>);

impl UserConnections {
    /// Begins to count with these sessions, or ends it.
    pub(crate) fn set<'s>(&mut self, counts: bool, sessions: impl Iterator<Item = &'s Session>) {
        if counts == self.0.is_some() {
            return;
        }
        self.0 = counts.then(BTreeMap::new);
        for session in sessions.filter(|session| session.is_attached()) {
            self.attached(session);
        }
    }

    /// An endpoint has this session now.
    pub(crate) fn attached(&mut self, session: &Session) {
        if let (Some(counts), Some(user)) = (&mut self.0, &session.presence.username) {
            *counts.entry(Arc::clone(user)).or_default() += 1;
        }
    }

    /// It has it no more.
    pub(crate) fn detached(&mut self, session: &Session) {
        if let (Some(counts), Some(user)) = (&mut self.0, &session.presence.username)
            && let Some(count) = counts.get_mut(user)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(user);
            }
        }
    }

    /// Connections of this user.
    pub(crate) fn of(&self, user: &str) -> usize {
        let counts = self.0.as_ref();
        counts.and_then(|counts| counts.get(user)).copied().unwrap_or(0)
    }
}
