//! Clients that were there before a restart: they are notified again before they say anything.
//!
//! Each observation that lasts has a note, where the places of its socket are kept. What notes say at a start waits here until the access service says that the client would
//! be let in again; a few clients are asked about at a time. Who is back has no session of its own until it asks for something: it must not take that of a client that
//! is there by now. A client that logs in by itself, from the same place and under the same name, gets what it observed at once.
//!
//! Always true: nobody has observations of somebody who went by another user name.

use crate::client::State;
use crate::core::{Core, Out};
use crate::note::{Note, with_secrets_of, without_secrets};
use crate::observation::{Observation, Step};
use crate::observe::session_of;
use headgate_coap_codec::Message;
use headgate_model::access::Readmission;
use headgate_model::datagram::{Address, Restored};
use headgate_model::{
    Asked, BusCommand, ClientId, CloseReason, Identity, Instant, Question, RetainHandling, SessionKey,
    SubscriptionOptions, Verdict,
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// When it is looked again whether clients may come in.
const AGAIN: Duration = Duration::from_secs(1);
/// Clients that are looked at in one turn.
const AT_ONCE: usize = 256;

/// Where a client was, and the client id that it said.
type Name<A> = (A, ClientId);

/// See the module.
#[derive(Debug)]
pub(crate) struct Returns<A> {
    waiting: HashMap<Name<A>, Return>,
    /// In which they are asked about. Some are not waiting any more.
    order: VecDeque<Name<A>>,
    /// When the next of them are asked about.
    due: Instant,
    /// Who has been asked about, or is back, and has not shown its password.
    back: HashMap<Name<A>, u32>,
    observations: usize,
}

impl<A> Default for Returns<A> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            due: Instant::START,
            back: HashMap::new(),
            observations: 0,
        }
    }
}

/// One client, and what it observed.
#[derive(Debug)]
pub(crate) struct Return {
    /// The user name that it went by.
    owner: Option<Arc<str>>,
    notes: Vec<Note>,
}

impl<A: Address> Returns<A> {
    /// Observations that wait.
    pub(crate) fn observations(&self) -> usize {
        self.observations
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.order.is_empty()).then_some(self.due)
    }

    /// There is room for another one.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// A client is gone.
    pub(crate) fn forget(&mut self, name: &Name<A>, index: u32) {
        if self.back.get(name) == Some(&index) {
            self.back.remove(name);
        }
    }

    fn take(&mut self, name: &Name<A>) -> Option<Return> {
        let found = self.waiting.remove(name)?;
        self.observations -= found.notes.len();
        Some(found)
    }
}

impl<A: Address> Core<A> {
    /// What is kept of an observation; nothing where it would not go on after a restart.
    fn note_of(&self, index: u32, key: SessionKey) -> Option<Note> {
        let client = self.client(index);
        let observation = &client.observations[&key.index];
        Some(Note {
            place: self.places.as_ref()?.keep(client.at)?,
            client_id: client.name.1.as_str().to_owned(),
            username: client.username.clone(),
            filter: observation.filter.clone(),
            qos: observation.qos,
            sequence: observation.to_reserve(),
            request: without_secrets(&observation.request),
        })
    }

    /// Writes down what is kept of an observation, if it lasts.
    pub(crate) fn note(&mut self, index: u32, key: SessionKey, out: &mut Out<A>) {
        if !self.lasts(index, key) {
            return;
        }
        let note = self.note_of(index, key).and_then(|note| note.write());
        let observation = self.observation(index, key);
        observation.reserved = note.is_some().then(|| observation.to_reserve());
        out.bus.push((key, BusCommand::SetNote(note.unwrap_or_default())));
    }

    /// A client is somewhere else from now on.
    pub(crate) fn on_moved(&mut self, index: u32, from: A, out: &mut Out<A>) {
        let client = self.client(index);
        let to = client.at;
        let under_way = client
            .observations
            .values()
            .filter(|known| known.transfer.is_some());
        let under_way: Vec<(SessionKey, Message)> = under_way
            .map(|known| (known.seat, known.request.clone()))
            .collect();
        for (key, request) in under_way {
            self.downloads
                .move_notification((from, &request), (to, &request), key);
        }
        let observed = self.client(index).observations.values();
        let active = observed.filter(|known| matches!(known.step, Step::Active));
        let keys: Vec<SessionKey> = active.map(|known| known.seat).collect();
        keys.into_iter().for_each(|key| self.note(index, key, out));
    }

    /// A session with a note was found at the start.
    pub(crate) fn restore(&mut self, found: Restored) {
        let Some(note) = Note::read(&found.note).filter(|_| !found.attached) else {
            return;
        };
        let place = self.places.as_ref().and_then(|places| places.find(&note.place));
        let Some(at) = place else { return };
        if found.client_id != session_of(&note.client_id, &note.filter) {
            return;
        }
        let name = (at, ClientId::from(note.client_id.as_str()));
        let max = self.settings.max_observations;
        let Returns {
            waiting,
            order,
            observations,
            ..
        } = &mut self.returns;
        let known = waiting.entry(name).or_insert_with_key(|name| {
            order.push_back(name.clone());
            Return {
                owner: found.username.clone(),
                notes: Vec::new(),
            }
        });
        let is_same = known
            .notes
            .first()
            .is_none_or(|first| first.username == note.username);
        if known.owner == found.username && is_same && known.notes.len() < max {
            known.notes.push(note);
            *observations += 1;
        }
    }

    /// Asks the access service about some of those that wait, half as many as may log in at once.
    pub(crate) fn readmit_some(&mut self, now: Instant, out: &mut Out<A>) {
        if self.returns.due().is_none_or(|due| due > now) {
            return;
        }
        self.returns.due = now + AGAIN;
        let mut asked = false;
        for _ in 0..AT_ONCE.min(self.returns.order.len()) {
            let full = self.clients() >= self.settings.max_clients || self.overloaded || !self.has_memory;
            // The other half is for those who come by themselves.
            if full || self.logging_in >= self.settings.max_logins.div_ceil(2) {
                return;
            }
            let Some(name) = self.returns.order.pop_front() else {
                return;
            };
            asked |= self.readmit(name, now, out);
        }
        if asked {
            self.returns.due = now;
        }
    }

    /// False if nobody was asked about this one.
    fn readmit(&mut self, name: Name<A>, now: Instant, out: &mut Out<A>) -> bool {
        let Some(Return { owner, notes }) = self.returns.take(&name) else {
            return false;
        };
        let Some(first) = notes.first() else { return false };
        let username = first.username.clone();
        let number = match notes.iter().any(Note::had_password) {
            // Nobody says what it is found by before it logs in.
            true => self.unguessable.number(),
            false => self.number_of(&username, &None),
        };
        let full_name = (name.0, name.1.clone(), number);
        if self.find(&full_name).is_some() {
            // It is logging in by itself, and gets it then; or it has done so, and goes by another name.
            self.returns.observations += notes.len();
            self.returns.order.push_back(name.clone());
            self.returns.waiting.insert(name, Return { owner, notes });
            return false;
        }
        let known = Readmission {
            client_id: name.1.clone(),
            username: self.username_of(username.as_deref()),
            owner: owner.clone(),
        };
        let (at, id) = name.clone();
        let index = self.add_client(full_name, id, username, State::Returning, now);
        self.client_mut(index).returning = Some(Box::new(Return { owner, notes }));
        self.returns.back.insert(name, index);
        out.questions.push(Asked {
            key: self.client(index).seat,
            at: Some(at),
            question: Question::Readmit(Box::new(known)),
        });
        true
    }

    /// A client is let in again.
    pub(crate) fn on_readmitted(&mut self, index: u32, identity: Identity, now: Instant, out: &mut Out<A>) {
        self.logging_in -= 1;
        if !self.let_in(index, identity, out) {
            return;
        }
        let returning = self.client_mut(index).returning.take();
        for note in returning.map(|found| found.notes).unwrap_or_default() {
            self.go_on_observing(index, note, now, out);
        }
        if !self.client(index).waiting.is_empty() {
            self.open_own(index, out);
        } else if self.client(index).observations.is_empty() {
            self.remove(index, None, out);
        }
    }

    /// A client has logged in by itself: what it observed before the restart is its own.
    pub(crate) fn take_returns(&mut self, index: u32, now: Instant, out: &mut Out<A>) {
        let client = self.client(index);
        let name = (client.at, client.name.1.clone());
        if name.1.as_str().is_empty() {
            return;
        }
        let user = client.who.as_ref().and_then(|who| who.username.clone());
        if self
            .returns
            .waiting
            .get(&name)
            .is_some_and(|found| found.owner == user)
            && let Some(found) = self.returns.take(&name)
        {
            for note in found.notes {
                self.go_on_observing(index, note, now, out);
            }
        }
        let Some(other) = self
            .returns
            .back
            .get(&name)
            .copied()
            .filter(|other| *other != index)
        else {
            return;
        };
        // What the access service will say of the other is not waited for: it knows this one.
        let is_its_own = match (&self.client(other).returning, &self.client(other).who) {
            (Some(found), _) => found.owner == user,
            (None, Some(who)) => who.username == user,
            (None, None) => false,
        };
        if is_its_own {
            self.take_over(index, other, now, out);
        }
    }

    /// What a client observes is another's from now on, which has shown that it is the same.
    fn take_over(&mut self, index: u32, other: u32, now: Instant, out: &mut Out<A>) {
        let said = self
            .client(index)
            .waiting
            .front()
            .map(|(_, request)| request.clone());
        let before = self.client_mut(other);
        let (at, state) = (before.at, before.state);
        let observed = std::mem::take(&mut before.observations);
        let notes = before.returning.take().map(|found| found.notes);
        if matches!(state, State::Opening | State::Open) {
            let (reason, expiry) = (CloseReason::TakenOver, None);
            out.bus
                .push((self.client(other).seat, BusCommand::Close { reason, expiry }));
        }
        self.remove(other, None, out);
        for (n, mut observation) in observed {
            let key = observation.seat;
            if let Some(said) = &said {
                let full = Message {
                    token: observation.request.token,
                    ..with_secrets_of(&observation.request, said)
                };
                let before = (at, &observation.request);
                self.downloads.move_notification(before, (at, &full), key);
                observation.request = full;
            }
            self.move_seat(key, index);
            self.client_mut(index).observations.insert(n, observation);
        }
        for note in notes.unwrap_or_default() {
            self.go_on_observing(index, note, now, out);
        }
    }

    /// What a client observed goes on, if its rules still let it.
    fn go_on_observing(&mut self, index: u32, note: Note, now: Instant, out: &mut Out<A>) {
        let Note {
            filter,
            qos,
            sequence,
            request,
            ..
        } = note;
        let said = self.client(index).waiting.front();
        let request = match said {
            Some((_, said)) => with_secrets_of(&request, said),
            None => request,
        };
        let options = SubscriptionOptions {
            qos,
            retain_handling: RetainHandling::DoNotSend,
            ..SubscriptionOptions::default()
        };
        let subscription = match self.gate(index).subscribe(&filter, options) {
            Verdict::Admitted(subscription) => subscription,
            Verdict::Refused(refused) => {
                let policy = self.client(index).identity.as_ref().map(|known| &known.policy);
                return self.tell(index, || refused.wanted.clone(), || refused.why(policy), out);
            }
            // It is asked when the client observes again.
            Verdict::Ask(_) => return,
        };
        let known = self.client(index).observations.values();
        let max = self.settings.max_observations;
        if self.client(index).observations.len() >= max
            || known.into_iter().any(|known| known.filter == filter)
        {
            return;
        }
        let seat = self.take_observation_seat(index);
        let observation = Observation {
            seat,
            token: request.token,
            request,
            has_wildcard: subscription.filter.has_wildcard(),
            qos: subscription.options.qos,
            step: Step::Reopening(Box::new(subscription)),
            sequence,
            reserved: None,
            granted: false,
            confirmed: now,
            transfer: None,
            waiting: VecDeque::new(),
            filter: filter.clone(),
        };
        self.client_mut(index)
            .observations
            .insert(seat.index, observation);
        match self.opening(index, seat, &filter) {
            Some(open) => out.bus.push((seat, BusCommand::Open(Box::new(open)))),
            None => {
                self.client_mut(index).observations.remove(&seat.index);
                self.leave_observation_seat(seat);
            }
        }
    }
}
