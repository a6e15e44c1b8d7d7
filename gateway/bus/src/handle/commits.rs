//! The thread that writes what the bus has for the store, and reads what it asks for.

use super::beat::Rounds;
use super::hub::Hub;
use super::promise::Promise;
use super::snapshots::WantedSnapshot;
use crate::paging::FetchRequest;
use crate::queries::{DeliveryInfo, Page, QueryError, StoredCursor};
use headgate_model::memory::Want;
use headgate_model::store::{Fetched, StoreMove, StoreSettings, StoreStats};
use headgate_model::{Instant, Store, StoreError, StoreOp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

/// How often the store may do what is due beside the commits when nothing else is to do.
const MAINTAIN: Duration = Duration::from_secs(1);
/// Operations kept in memory while the store takes none.
const MAX_UNWRITTEN_OPS: usize = 100_000;
/// Questions that wait for it, at most.
const MAX_QUESTIONS: usize = 64;
/// How often a store that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of the store's thread.
#[derive(Default)]
pub(super) struct Commits {
    /// When the store's thread is wanted.
    pub(super) due: Option<Instant>,
    pub(super) stats: StoreStats,
    /// What is asked about queues, and who waits for the answers.
    pub(super) questions: Vec<Question>,
    /// Tasks that wait until the store has caught up.
    pub(super) stalled: Vec<Waker>,
    /// Other settings of the store, which has not heard of them.
    pub(super) settings: Option<StoreSettings>,
    pub(super) rounds: Rounds,
    /// Where the store is to go.
    pub(super) move_to: Option<StoreMove>,
    /// Who wants a copy of the store.
    pub(super) snapshot: Option<WantedSnapshot>,
    pub(super) stop: bool,
    pub(super) stopped: bool,
}

/// A question to the store.
pub(super) struct Question {
    request: FetchRequest,
    answer: Arc<Promise<Shown>>,
}

type Shown = Result<Page<DeliveryInfo, StoredCursor>, QueryError>;

impl Question {
    fn answer(self, shown: Shown) {
        let waker = self.answer.keep(shown);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Hub {
    /// Other settings of the store from now on: [`Store::set_settings`].
    pub fn set_store_settings(&self, settings: StoreSettings) {
        self.0.commits.lock().settings = Some(settings);
        self.0.commits_changed.notify_one();
    }

    /// Asks the store's thread.
    pub(super) fn ask_store(&self, request: FetchRequest) -> Result<Arc<Promise<Shown>>, QueryError> {
        let mut commits = self.0.commits.lock();
        if commits.stop {
            return Err(QueryError::Stopped);
        }
        if commits.questions.len() >= MAX_QUESTIONS {
            return Err(QueryError::Busy);
        }
        let answer = Arc::<Promise<Shown>>::default();
        commits.questions.push(Question {
            request,
            answer: Arc::clone(&answer),
        });
        drop(commits);
        self.wake_store_by(Instant::START);
        Ok(answer)
    }

    /// Reads what was asked about queues.
    fn answer_questions(&self, committer: &mut Committer, questions: Vec<Question>) {
        for question in questions {
            if !committer.unwritten.is_empty() || committer.gave_up {
                question.answer(Err(QueryError::StoreFails));
                continue;
            }
            let request = question.request;
            match committer.read(&request) {
                Ok(found) => {
                    let page = self.turn(|bus, _, _| bus.show_stored(request, found));
                    question.answer(Ok(page));
                }
                Err(error) => question.answer(Err(error.into())),
            }
        }
    }

    pub(super) fn wake_store_by(&self, at: Instant) {
        if at.0 >= self.0.next_commit.load(Ordering::Acquire) {
            return;
        }
        let mut commits = self.0.commits.lock();
        if commits.due.is_none_or(|due| at < due) {
            commits.due = Some(at);
            self.0.next_commit.store(at.0, Ordering::Release);
            self.0.commits_changed.notify_one();
        }
    }

    /// Commits the open batch when it is due, reads what the bus asks for, reports, and so on: one commit serves everything that came while the
    /// last one ran.
    pub(super) fn run_commits(&self, store: Box<dyn Store>) {
        let mut committer = Committer {
            store,
            unwritten: Vec::new(),
            fetches: VecDeque::new(),
            unreadable: false,
            no_room: false,
            no_memory: false,
            gave_up: false,
        };
        self.0.commits.lock().stats = committer.store.stats();
        let mut more = false;
        while let Some(due) = self.wait_for_work(&committer, more) {
            let (settings, move_to) = {
                let mut commits = self.0.commits.lock();
                (commits.settings.take(), commits.move_to.take())
            };
            if let Some(settings) = settings {
                committer.store.set_settings(settings);
            }
            if let Some(to) = move_to {
                committer.store.move_to(to);
            }
            if due {
                // Before the batch: what a question is about is in this one or in an earlier one.
                let questions = std::mem::take(&mut self.0.commits.lock().questions);
                let (batch, fetches) = self.take_work();
                committer.fetches.extend(fetches);
                self.commit(&mut committer, batch);
                self.fetch(&mut committer);
                self.answer_questions(&mut committer, questions);
            } else if !committer.unwritten.is_empty() {
                self.commit(&mut committer, None);
            }
            more = committer.store.maintain().unwrap_or_else(|error| {
                tracing::warn!(%error, "the store could not do its housekeeping");
                false
            });
            self.make_snapshot(&mut committer);
            self.after_work(&mut committer);
        }
        // What nobody waited for.
        let (batch, _) = self.take_work();
        self.commit(&mut committer, batch);
        drop(committer); // the store may have last words for the disk
        let mut commits = self.0.commits.lock();
        commits.stopped = true;
        let questions = std::mem::take(&mut commits.questions);
        let (snapshot, move_to) = (commits.snapshot.take(), commits.move_to.take());
        drop(commits);
        drop(move_to); // whoever waits for it is told
        if let Some(snapshot) = snapshot {
            snapshot.answer(Err(QueryError::Stopped));
        }
        self.0.commits_changed.notify_all();
        for question in questions {
            question.answer(Err(QueryError::Stopped));
        }
    }

    /// Sleeps until the store is wanted. Whether for the bus, or only for its own work; `None` when the bus has stopped.
    fn wait_for_work(&self, committer: &Committer, more: bool) -> Option<bool> {
        let pause = match (more, committer.unwritten.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => RETRY,
            (false, true) => MAINTAIN,
        };
        let idle_until = self.0.clock.now() + pause;
        let mut commits = self.0.commits.lock();
        loop {
            if commits.stop {
                return None;
            }
            let now = self.0.clock.now();
            let wakes = commits.due.map_or(idle_until, |due| due.min(idle_until));
            if commits.due.is_some_and(|due| due <= now) {
                commits.due = None;
                self.0.next_commit.store(u64::MAX, Ordering::Release);
                return Some(true);
            }
            if wakes <= now || commits.settings.is_some() || commits.move_to.is_some() {
                return Some(false);
            }
            self.0
                .commits_changed
                .wait_until(&mut commits, self.0.clock.to_system(wakes));
        }
    }

    fn take_work(&self) -> (Option<(u64, Vec<StoreOp>)>, Vec<FetchRequest>) {
        let mut core = self.0.core.lock();
        let now = self.0.clock.now();
        let stopping = self.0.commits.lock().stop;
        let fetches = core.bus.take_fetches();
        let due = core.bus.batch_due().filter(|due| *due <= now || stopping);
        let bytes = due.map_or(0, |_| core.bus.pending_bytes());
        let batch = due.and_then(|_| core.bus.take_batch());
        let ops = batch.as_ref().map_or(0, |(_, ops)| ops.len());
        self.0.committing_ops.store(ops, Ordering::Release);
        self.0.committing_bytes.store(bytes, Ordering::Release);
        self.note_open(&core.bus);
        // What it was woken for may have been settled in the meantime; the rest has its time.
        let later = core.bus.batch_due();
        drop(core);
        if let Some(at) = later {
            self.wake_store_by(at);
        }
        (batch, fetches)
    }

    fn commit(&self, committer: &mut Committer, batch: Option<(u64, Vec<StoreOp>)>) {
        let (number, ops) = batch.map_or((None, Vec::new()), |(number, ops)| (Some(number), ops));
        if ops.is_empty() && committer.unwritten.is_empty() && !committer.gave_up {
            if let Some(number) = number {
                self.turn(|bus, now, out| bus.committed(number, now, out));
            }
            return;
        }
        let result = committer.commit(ops);
        let has_room = result.is_ok() && committer.store.has_room();
        let was_failing = self.0.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_failing => {
                tracing::error!(%error, "commit failed: what cannot be made durable is refused");
            }
            Ok(()) if was_failing => tracing::info!("the store takes commits again"),
            _ => {}
        }
        self.turn(|bus, now, out| {
            bus.set_store_full(!has_room);
            match number {
                Some(number) if result.is_ok() => bus.committed(number, now, out),
                Some(number) => bus.commit_failed(number, now, out),
                None => {}
            }
        });
    }

    /// Reads what the bus asked for, unless something that it may ask for could not be written yet.
    fn fetch(&self, committer: &mut Committer) {
        while committer.unwritten.is_empty() {
            let Some(request) = committer.fetches.pop_front() else {
                return;
            };
            match committer.read(&request) {
                Ok(found) => {
                    if std::mem::take(&mut committer.unreadable) {
                        tracing::info!("the store reads queues again");
                    }
                    self.turn(|bus, now, out| bus.fetched(request, found, now, out));
                }
                Err(error) => {
                    if !std::mem::replace(&mut committer.unreadable, true) {
                        tracing::error!(%error, "the store could not read a queue; it is tried again");
                    }
                    committer.fetches.push_front(request);
                    return;
                }
            }
        }
    }

    /// Tells when there is no room for more, and when there is again.
    fn tell_of_room(&self, committer: &mut Committer) {
        let no_room = !committer.store.has_room();
        match (std::mem::replace(&mut committer.no_room, no_room), no_room) {
            (false, true) => tracing::warn!("no room left in the store: what would make it grow is refused"),
            (true, false) => tracing::info!("there is room in the store again"),
            _ => {}
        }
        let memory = &self.0.memory;
        let (used, max) = (memory.used(), memory.max());
        if !committer.no_memory && !memory.allows(Want::ToKeep, used) {
            committer.no_memory = true;
            tracing::warn!(
                used,
                max,
                "memory is short: what would stay is refused, slow clients lose messages next"
            );
        } else if committer.no_memory && memory.allows(Want::ToKeep, used + max / 16) {
            committer.no_memory = false;
            tracing::info!(used, max, "there is memory again");
        }
    }

    fn after_work(&self, committer: &mut Committer) {
        let full = !committer.unwritten.is_empty() || committer.gave_up || !committer.store.has_room();
        if full != self.0.full.swap(full, Ordering::Relaxed) {
            self.turn(|bus, _, _| bus.set_store_full(full));
        }
        self.tell_of_room(committer);
        let mut commits = self.0.commits.lock();
        commits.stats = committer.store.stats();
        // Only a restart mends what was given up: a watchdog is to see to it.
        if !committer.gave_up {
            commits.rounds.end_one();
        }
        self.0.committing_ops.store(0, Ordering::Release);
        self.0.committing_bytes.store(0, Ordering::Release);
        if !committer.fetches.is_empty() {
            let soon = self.0.clock.now() + RETRY;
            commits.due = Some(commits.due.map_or(soon, |due| due.min(soon)));
        }
        if self.is_caught_up() {
            commits.stalled.drain(..).for_each(Waker::wake);
        }
    }
}

/// The store, and what it could not write: the bus goes on with it in memory, so it must be written before anything that comes later.
pub(super) struct Committer {
    pub(super) store: Box<dyn Store>,
    unwritten: Vec<StoreOp>,
    /// What is to be read.
    fetches: VecDeque<FetchRequest>,
    /// The last try failed.
    unreadable: bool,
    /// What was told last.
    no_room: bool,
    no_memory: bool,
    /// More is unwritten than is kept: nothing is promised any more until a restart begins with what is durable.
    gave_up: bool,
}

impl Committer {
    /// Not all that the bus takes for written is.
    pub(super) fn is_behind(&self) -> bool {
        !self.unwritten.is_empty() || self.gave_up
    }

    fn read(&mut self, request: &FetchRequest) -> Result<Fetched, StoreError> {
        let FetchRequest {
            session,
            lane,
            from,
            limit,
            ..
        } = *request;
        self.store.fetch(session, lane, from, limit)
    }

    fn commit(&mut self, ops: Vec<StoreOp>) -> Result<(), StoreError> {
        if self.gave_up {
            let cause = "too much could not be written; restart the gateway when the disk is well".into();
            return Err(StoreError::Io {
                what: "commit",
                cause,
            });
        }
        self.unwritten.extend(ops);
        let result = self.store.commit(&self.unwritten);
        self.gave_up = result.is_err() && self.unwritten.len() > MAX_UNWRITTEN_OPS;
        if result.is_ok() || self.gave_up {
            self.unwritten = Vec::new();
        }
        result
    }
}
