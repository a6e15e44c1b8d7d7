//! Hashes of other brokers that a right log-in has renewed: valid at once, written to the file of users together with others that come soon after.
//!
//! The file is written as a whole, so a fleet that logs in for the first time must not have it written for each. What is lost by a power cut is renewed at
//! the next log-in.

use crate::users::User;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By name: who it was, and who it is now. Each name stands in the file, so there are no more than that.
pub(crate) type Renewed = BTreeMap<String, (Arc<User>, Arc<User>)>;

#[derive(Debug, Default)]
pub(crate) struct Renewals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Renewed,
    is_written: bool,
}

impl Renewals {
    /// The user as it is now, if this is who it was.
    pub(crate) fn current(&self, name: &str, user: Arc<User>) -> Arc<User> {
        let state = self.0.lock();
        match state.waiting.get(name) {
            Some((old, new)) if *old == user => Arc::clone(new),
            _ => user,
        }
    }

    /// One more. True if somebody must write it: nobody is about to.
    #[must_use]
    pub(crate) fn add(&self, name: &str, old: Arc<User>, new: Arc<User>) -> bool {
        let mut state = self.0.lock();
        state.waiting.insert(name.to_owned(), (old, new));
        !std::mem::replace(&mut state.is_written, true)
    }

    /// What waits to be written.
    pub(crate) fn waiting(&self) -> Renewed {
        self.0.lock().waiting.clone()
    }

    /// These are in the file, or their users are not any more. True if others have come: they must be written too.
    pub(crate) fn written(&self, written: &Renewed) -> bool {
        let mut state = self.0.lock();
        state.waiting.retain(|name, pair| written.get(name) != Some(pair));
        state.is_written = !state.waiting.is_empty();
        state.is_written
    }

    /// It could not be written: the next renewal tries again.
    pub(crate) fn failed(&self) {
        self.0.lock().is_written = false;
    }
}
