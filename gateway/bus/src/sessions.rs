//! All sessions: by place, by client id and by endpoint.
//!
//! Always true: every session is found by its client id, one that is attached is found by its endpoint, and no two have either in common.

use crate::attachment::{Attached, Attachment};
use crate::clients::{Clients, Endpoints, make_room};
use crate::ordered::Ordered;
use crate::session::Session;
use crate::users::UserConnections;
use headgate_model::{EndpointId, SessionId};
use std::ops::{Index, IndexMut};

/// Where a session lives in the table. Given again after the session ended.
pub(crate) type Slot = u32;

/// A session that may have ended since. Its number is never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionRef {
    pub slot: Slot,
    pub id: SessionId,
}

/// The table of sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    table: Vec<Option<Box<Session>>>,
    free: Vec<Slot>,
    by_client: Clients,
    by_endpoint: Endpoints,
    ordered: Ordered,
    users: UserConnections,
}

impl Sessions {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// How many an endpoint has.
    pub(crate) fn attached(&self) -> usize {
        self.by_endpoint.len()
    }

    /// Bytes of all client ids.
    pub(crate) fn names(&self) -> usize {
        self.by_client.names()
    }

    /// Every slot is below this number.
    #[inline]
    pub(crate) fn places(&self) -> usize {
        self.table.len()
    }

    /// All of them with their places, in the order of these.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Session)> {
        let slots = (0..).zip(&self.table);
        slots.filter_map(|(slot, session)| Some((slot, session.as_deref()?)))
    }

    /// All whose client id is behind this one, or all, in the order of client ids.
    pub(crate) fn by_client_id(&self, after: Option<&str>) -> impl Iterator<Item = &Session> {
        let slots = self.ordered.after(after, &self.table);
        slots.filter_map(|slot| self.get(slot))
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&Session> {
        self.table.get(slot as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        self.table.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The session, if it has not ended.
    pub(crate) fn living(&self, session: SessionRef) -> Option<&Session> {
        self.get(session.slot).filter(|found| found.id == session.id)
    }

    /// [`Sessions::living`], to be changed.
    pub(crate) fn living_mut(&mut self, session: SessionRef) -> Option<&mut Session> {
        self.get_mut(session.slot).filter(|found| found.id == session.id)
    }

    /// The session of this client.
    pub(crate) fn of_client(&self, client: &str) -> Option<Slot> {
        self.by_client.find(client, &self.table)
    }

    /// The session that this endpoint has.
    #[inline]
    pub(crate) fn of_endpoint(&self, endpoint: EndpointId) -> Option<Slot> {
        self.by_endpoint.find(endpoint, &self.table)
    }

    /// Gives a new session a place. It is the only one of its client, and no endpoint has it.
    pub(crate) fn insert(&mut self, session: Session) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.table[slot as usize] = Some(Box::new(session));
                slot
            }
            None => {
                make_room(&mut self.table);
                self.table.push(Some(Box::new(session)));
                Slot::try_from(self.table.len() - 1).expect("fewer than four billion sessions")
            }
        };
        self.by_client.insert(slot, &self.table);
        self.ordered.insert(slot, &self.table);
        slot
    }

    /// The session of `slot` has ended.
    pub(crate) fn remove(&mut self, slot: Slot) -> Box<Session> {
        self.by_client.remove(slot, &self.table);
        self.ordered.remove(slot, &self.table);
        self.free.push(slot);
        self.table[slot as usize]
            .take()
            .expect("a slot in use holds a session")
    }

    /// An endpoint has the session of `slot` from now on.
    pub(crate) fn attach(&mut self, slot: Slot, attached: Attached) {
        self[slot].attachment = Attachment::Attached(attached);
        if let Some(session) = &self.table[slot as usize] {
            self.users.attached(session);
        }
        self.by_endpoint.insert(slot, &self.table);
    }

    /// An endpoint leaves: the session that it had is not found by it any more. It stays in the session until that is told how it is attached now.
    pub(crate) fn detach(&mut self, endpoint: EndpointId) -> Option<Slot> {
        let slot = self.by_endpoint.remove(endpoint, &self.table)?;
        if let Some(session) = &self.table[slot as usize] {
            self.users.detached(session);
        }
        Some(slot)
    }

    /// Connections of a user are counted from now on, or no more.
    pub(crate) fn count_users(&mut self, counts: bool) {
        self.users
            .set(counts, self.table.iter().flatten().map(|session| &**session));
    }

    /// Connections of this user, where they are counted.
    pub(crate) fn of_user(&self, user: &str) -> usize {
        self.users.of(user)
    }
}

/// A slot in use holds a session.
impl Index<Slot> for Sessions {
    type Output = Session;

    #[inline]
    fn index(&self, slot: Slot) -> &Session {
        self.table[slot as usize]
            .as_deref()
            .expect("a slot in use holds a session")
    }
}

impl IndexMut<Slot> for Sessions {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Session {
        self.table[slot as usize]
            .as_deref_mut()
            .expect("a slot in use holds a session")
    }
}
