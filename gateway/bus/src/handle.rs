//! How the bus is driven: connection tasks call it in place, under one short lock, with all commands of a wake-up at once.
//!
//! Three parties take the lock: tasks that submit commands, a thread that does what is due, and a thread that commits the open batch to the
//! store when it is due, reads for the bus what it asks for, and reports. Encoding, system calls and the disk are outside. Events go to a mailbox per endpoint, or
//! to one for a whole [`Group`] of them, whose task is woken after the lock is released. docs/ARCHITECTURE.md has the measurement by which this was chosen over one thread that owns the bus.

mod group;

pub use group::Group;

use crate::bus::{Bus, BusOutputs, Notice};
use crate::clients::make_room;
use crate::links::LinkReport;
use crate::paging::FetchRequest;
use crate::stats::BusStats;
use headgate_model::memory::Want;
use headgate_model::store::StoreStats;
use headgate_model::{
    BusCommand, BusEvent, CloseReason, EndpointId, Instant, MemoryLimit, Message, Store, StoreError, StoreOp,
    Subscription, WallTime,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

/// The clock of the gateway: the only place where the bus's world reads the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
    epoch: WallTime,
}

impl Clock {
    /// A clock that starts now, at the system's time.
    pub fn start() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self::start_at(WallTime(
            u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
        ))
    }

    /// A clock that starts now, at this time.
    pub fn start_at(epoch: WallTime) -> Self {
        Self {
            start: std::time::Instant::now(),
            epoch,
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Wall time at the start.
    pub fn epoch(&self) -> WallTime {
        self.epoch
    }

    /// Wall time now, as the start and the monotonic clock have it.
    pub fn wall(&self) -> WallTime {
        WallTime::of(self.now(), self.epoch)
    }

    /// The system's instant for one of ours, for timers.
    pub fn to_system(&self, at: Instant) -> std::time::Instant {
        self.start + Duration::from_millis(at.0)
    }
}

/// Operations, and bytes of messages in them, that may wait for the store before publishers have to wait.
const MAX_WAITING_OPS: usize = 20_000;
const MAX_WAITING_BYTES: usize = 32 << 20;
/// How often the store may do what is due beside the commits when nothing else is to do.
const MAINTAIN: Duration = Duration::from_secs(1);

/// Operations kept in memory while the store takes none.
const MAX_UNWRITTEN_OPS: usize = 100_000;
/// How often a store that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Empty queues of events that are kept, and the room in the largest of them.
const MAX_SPARE: usize = 256;
const LARGEST_SPARE: usize = 1_024;

/// Events on their way to one endpoint. Boxed: most mailboxes hold none most of the time.
type Events = Box<VecDeque<BusEvent>>;

type NoticeSink = Box<dyn Fn(Vec<Notice>) + Send + Sync>;

/// The bus, shared by everyone who speaks to it.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    clock: Clock,
    memory: Arc<MemoryLimit>,
    core: Mutex<Core>,
    commits: Mutex<Commits>,
    commits_changed: Condvar,
    /// Operations in the open batch, and on their way to the disk.
    open_ops: AtomicUsize,
    committing_ops: AtomicUsize,
    open_bytes: AtomicUsize,
    committing_bytes: AtomicUsize,
    /// When the timer thread wakes; guards nothing but its sleep.
    wakes_at: Mutex<Instant>,
    wakes_earlier: Condvar,
    /// The same, to be compared without the lock.
    next_wake: AtomicU64,
    /// When the store's thread wakes, to be compared without the lock.
    next_commit: AtomicU64,
    failing: AtomicBool,
    full: AtomicBool,
    goodbye: AtomicBool,
    /// Queues of events without events, lent to mailboxes that get some: an idle one holds none.
    spare: Mutex<Vec<Events>>,
    notices: NoticeSink,
}

/// What the lock guards.
struct Core {
    bus: Bus,
    out: BusOutputs,
    /// Mailboxes by the lower half of the endpoint's number.
    mailboxes: Vec<Option<Arc<Mailbox>>>,
    free: Vec<u32>,
    generation: u64,
    /// Endpoints that share a mailbox.
    groups: group::Groups,
    /// Whose tasks are to be woken.
    woken: Vec<Waker>,
    /// A turn ended before all was done: whoever waits for the lock has it next.
    gives_way: bool,
    /// When which endpoint wants to be woken; void for one that left, or set another alarm since.
    alarms: BinaryHeap<Reverse<(Instant, u64)>>,
}

#[derive(Debug, Default)]
struct Mailbox {
    id: u64,
    inner: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Option<Events>,
    waker: Option<Waker>,
    /// When the alarm rings; `None` when it is not set.
    alarm: Option<Instant>,
    /// It rang, and the endpoint has not heard it yet.
    rang: bool,
}

impl Waiting {
    /// Ready when the alarm rang; else `cx` is woken with whatever comes.
    fn poll_alarm(&mut self, cx: &Context<'_>) -> Poll<Call> {
        if std::mem::take(&mut self.rang) {
            return Poll::Ready(Call::Alarm);
        }
        let known = self.waker.as_ref();
        if known.is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Why an endpoint was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// There are events.
    Events,
    /// The time of [`Port::wake_at`] has come.
    Alarm,
}

#[derive(Default)]
struct Commits {
    /// When the store's thread is wanted.
    due: Option<Instant>,
    stats: StoreStats,
    /// Tasks that wait until the store has caught up.
    stalled: Vec<Waker>,
    stop: bool,
    stopped: bool,
}

impl Hub {
    /// Starts the bus's two threads. `store` was loaded already; `notices` is called outside the lock.
    pub fn start(
        bus: Bus,
        clock: Clock,
        store: Box<dyn Store>,
        notices: impl Fn(Vec<Notice>) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let hub = Self(Arc::new(Shared {
            clock,
            memory: Arc::clone(bus.memory_limit()),
            core: Mutex::new(Core {
                bus,
                out: BusOutputs::default(),
                mailboxes: Vec::new(),
                free: Vec::new(),
                generation: 0,
                groups: group::Groups::default(),
                woken: Vec::new(),
                gives_way: false,
                alarms: BinaryHeap::new(),
            }),
            commits: Mutex::new(Commits::default()),
            commits_changed: Condvar::new(),
            open_ops: AtomicUsize::new(0),
            committing_ops: AtomicUsize::new(0),
            open_bytes: AtomicUsize::new(0),
            committing_bytes: AtomicUsize::new(0),
            wakes_at: Mutex::new(Instant::START),
            wakes_earlier: Condvar::new(),
            next_wake: AtomicU64::new(0),
            next_commit: AtomicU64::new(u64::MAX),
            failing: AtomicBool::new(false),
            full: AtomicBool::new(false),
            goodbye: AtomicBool::new(false),
            spare: Mutex::default(),
            notices: Box::new(notices),
        }));
        let (timer, committer) = (hub.clone(), hub.clone());
        std::thread::Builder::new()
            .name("bus-timer".into())
            .spawn(move || timer.run_timers())?;
        std::thread::Builder::new()
            .name("bus-store".into())
            .spawn(move || committer.run_commits(store))?;
        Ok(hub)
    }

    /// The gateway's clock.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// How much memory there is, for those who hold some beside the bus.
    pub fn memory(&self) -> &Arc<MemoryLimit> {
        &self.0.memory
    }

    /// A place on the bus for one endpoint.
    pub fn attach(&self) -> Port {
        let mut core = self.0.core.lock();
        let index = core.free.pop().unwrap_or_else(|| {
            make_room(&mut core.mailboxes);
            core.mailboxes.push(None);
            u32::try_from(core.mailboxes.len() - 1).expect("fewer than four billion endpoints")
        });
        core.generation += 1;
        let id = core.generation << 32 | u64::from(index);
        let mailbox = Arc::new(Mailbox {
            id,
            inner: Mutex::default(),
        });
        core.mailboxes[index as usize] = Some(Arc::clone(&mailbox));
        Port {
            hub: self.clone(),
            mailbox,
            unfinished: AtomicBool::new(false),
            buffers: AtomicU32::new(0),
        }
    }

    /// Publishes a message of the gateway itself.
    pub fn publish(&self, message: Message) {
        self.turn(|bus, now, out| bus.publish(message, now, out));
    }

    /// The rules of clients have changed: who is connected, or has a session, has the new ones when this returns.
    pub fn renew_rules(&self) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.turn(|bus, _, out| bus.renew_rules(from, out));
        }
    }

    /// Throws a client out. Whether it was connected.
    pub fn kick(&self, client: &str) -> bool {
        self.turn(|bus, now, out| bus.kick(client, now, out))
    }

    /// What a client's session is subscribed to.
    pub fn subscriptions_of(&self, client: &str) -> Vec<Subscription> {
        self.0.core.lock().bus.subscriptions_of(client)
    }

    /// The ledger of a link; `None` when there is no such session, or it is none.
    pub fn link_report(&self, client: &str) -> Option<LinkReport> {
        let core = self.0.core.lock();
        core.bus.link_report(client, self.0.clock.now())
    }

    /// [`Bus::flush`].
    pub fn flush(&self, client: &str) -> Option<usize> {
        self.turn(|bus, now, out| bus.flush(client, now, out))
    }

    /// Ends a session for good, with all that it holds; its client is thrown out. Whether there was one.
    pub fn remove_session(&self, client: &str) -> bool {
        self.turn(|bus, now, out| bus.remove_session(client, now, out))
    }

    /// Gauges and counters now.
    pub fn stats(&self) -> BusStats {
        self.0.core.lock().bus.stats()
    }

    /// What the store has done and holds, as of its last work.
    pub fn store_stats(&self) -> StoreStats {
        self.0.commits.lock().stats
    }

    /// Whether the last commit failed.
    pub fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    /// Whether the store has no room, and refuses what needs some.
    pub fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    /// Whether the store is not too far behind. Publishers wait while it is, so that what waits for the disk has a bound.
    pub fn is_caught_up(&self) -> bool {
        let Shared {
            open_ops,
            committing_ops,
            open_bytes,
            committing_bytes,
            ..
        } = &*self.0;
        open_ops.load(Ordering::Acquire) + committing_ops.load(Ordering::Acquire) < MAX_WAITING_OPS
            && open_bytes.load(Ordering::Acquire) + committing_bytes.load(Ordering::Acquire)
                < MAX_WAITING_BYTES
    }

    /// Ready when the store has caught up.
    pub fn poll_caught_up(&self, cx: &Context<'_>) -> Poll<()> {
        let mut commits = self.0.commits.lock();
        if self.is_caught_up() || commits.stop {
            return Poll::Ready(());
        }
        commits.stalled.push(cx.waker().clone());
        Poll::Pending
    }

    /// The gateway stops: every endpoint is woken to say goodbye.
    pub fn say_goodbye(&self) {
        self.0.goodbye.store(true, Ordering::SeqCst);
        let core = self.0.core.lock();
        for mailbox in core.mailboxes.iter().flatten() {
            if let Some(waker) = mailbox.inner.lock().waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether the gateway stops. A port that was asked for events before this is woken when it does.
    pub fn says_goodbye(&self) -> bool {
        self.0.goodbye.load(Ordering::SeqCst)
    }

    /// Commits what is left and stops the threads. Endpoints should have been told to go before.
    pub fn stop(&self) {
        let mut commits = self.0.commits.lock();
        commits.stop = true;
        self.0.commits_changed.notify_all();
        self.0.wakes_earlier.notify_all();
        while !commits.stopped {
            self.0.commits_changed.wait(&mut commits);
        }
    }

    /// One turn of the bus: the lock is held for `f` and for sorting what it wrote down, no longer.
    fn turn<T>(&self, f: impl FnOnce(&mut Bus, Instant, &mut BusOutputs) -> T) -> T {
        self.turn_of_core(|core, now| f(&mut core.bus, now, &mut core.out))
    }

    fn turn_of_core<T>(&self, f: impl FnOnce(&mut Core, Instant) -> T) -> T {
        let mut guard = self.0.core.lock();
        let core = &mut *guard;
        // Time is read under the lock, so that the bus never sees it run backwards.
        let now = self.0.clock.now();
        let result = f(core, now);
        let mut woken = std::mem::take(&mut core.woken);
        core.sort_events(&mut woken, &self.0.spare);
        let notices = std::mem::take(&mut core.out.notices);
        self.note_open(&core.bus);
        let commit_due = core.bus.commit_due();
        let deadline = core.bus.deadline();
        core.bus.tell_memory();
        if std::mem::take(&mut core.gives_way) {
            MutexGuard::unlock_fair(guard);
        } else {
            drop(guard);
        }
        if let Some(at) = commit_due {
            self.wake_store_by(at);
        }
        if let Some(at) = deadline {
            self.wake_timer_by(at);
        }
        for waker in woken.drain(..) {
            waker.wake();
        }
        self.give_back(woken);
        if !notices.is_empty() {
            (self.0.notices)(notices);
        }
        result
    }

    fn note_open(&self, bus: &Bus) {
        self.0.open_ops.store(bus.pending_ops(), Ordering::Release);
        self.0.open_bytes.store(bus.pending_bytes(), Ordering::Release);
    }

    /// The list of wakers is lent from turn to turn, so that a turn allocates nothing.
    fn give_back(&self, woken: Vec<Waker>) {
        if woken.capacity() > 0
            && let Some(mut core) = self.0.core.try_lock()
            && core.woken.capacity() == 0
        {
            core.woken = woken;
        }
    }

    /// An empty queue of events waits for the next mailbox that needs one.
    fn keep_spare(&self, events: Events) {
        if events.capacity() <= LARGEST_SPARE {
            let mut spare = self.0.spare.lock();
            if spare.len() < MAX_SPARE {
                spare.push(events);
            }
        }
    }

    fn wake_timer_by(&self, at: Instant) {
        if at.0 >= self.0.next_wake.load(Ordering::Acquire) {
            return;
        }
        let mut wakes_at = self.0.wakes_at.lock();
        if at < *wakes_at {
            *wakes_at = at;
            self.0.next_wake.store(at.0, Ordering::Release);
            self.0.wakes_earlier.notify_one();
        }
    }

    fn run_timers(&self) {
        const IDLE: Duration = Duration::from_secs(60);
        loop {
            if self.0.commits.lock().stop {
                return;
            }
            self.turn_of_core(|core, now| {
                core.bus.handle_timeout(now, &mut core.out);
                core.gives_way = core.bus.deadline().is_some_and(|at| at <= now);
            });
            let now = self.0.clock.now();
            let next = self.ring(now).unwrap_or(now + IDLE).min(now + IDLE);
            let mut wakes_at = self.0.wakes_at.lock();
            *wakes_at = next;
            self.0.next_wake.store(next.0, Ordering::Release);
            // A turn between ours and this store may have had an earlier deadline; it will be seen at the next turn, so ask once more.
            drop(wakes_at);
            let deadline = self.0.core.lock().deadline();
            if let Some(at) = deadline {
                self.wake_timer_by(at);
            }
            let mut wakes_at = self.0.wakes_at.lock();
            while *wakes_at > self.0.clock.now() && !self.0.commits.lock().stop {
                let until = self.0.clock.to_system(*wakes_at);
                if self.0.wakes_earlier.wait_until(&mut wakes_at, until).timed_out() {
                    break;
                }
            }
        }
    }

    /// Wakes all whose alarms are due. When the timer thread is next wanted.
    fn ring(&self, now: Instant) -> Option<Instant> {
        let mut guard = self.0.core.lock();
        let core = &mut *guard;
        let mut woken = Vec::new();
        while core.alarms.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, id))) = core.alarms.pop() else {
                break;
            };
            if let Some(mailbox) = mailbox(&core.mailboxes, id) {
                let mut waiting = mailbox.inner.lock();
                if waiting.alarm.take_if(|set| *set <= at).is_some() {
                    waiting.rang = true;
                    woken.extend(waiting.waker.take());
                }
            }
        }
        let deadline = core.deadline();
        drop(guard);
        woken.into_iter().for_each(Waker::wake);
        deadline
    }

    fn wake_store_by(&self, at: Instant) {
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
    fn run_commits(&self, store: Box<dyn Store>) {
        let mut committer = Committer {
            store,
            unwritten: Vec::new(),
            fetches: VecDeque::new(),
            unreadable: false,
            no_room: false,
            no_memory: false,
            gave_up: false,
        };
        let mut more = false;
        while let Some(due) = self.wait_for_work(&committer, more) {
            if due {
                let (batch, fetches) = self.take_work();
                committer.fetches.extend(fetches);
                self.commit(&mut committer, batch);
                self.fetch(&mut committer);
            } else if !committer.unwritten.is_empty() {
                self.commit(&mut committer, None);
            }
            more = committer.store.maintain().unwrap_or_else(|error| {
                tracing::warn!(%error, "the store could not do its housekeeping");
                false
            });
            self.after_work(&mut committer);
        }
        // What nobody waited for.
        let (batch, _) = self.take_work();
        self.commit(&mut committer, batch);
        drop(committer); // the store may have last words for the disk
        self.0.commits.lock().stopped = true;
        self.0.commits_changed.notify_all();
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
            if wakes <= now {
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
            let FetchRequest {
                session,
                lane,
                from,
                limit,
                ..
            } = request;
            match committer.store.fetch(session, lane, from, limit) {
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
struct Committer {
    store: Box<dyn Store>,
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

impl Core {
    /// Puts the events into their mailboxes and collects whom to wake.
    fn sort_events(&mut self, woken: &mut Vec<Waker>, spare: &Mutex<Vec<Events>>) {
        for (to, event) in self.out.events.drain(..) {
            if group::is_member(to) {
                self.groups.deliver(to, event, woken);
                continue;
            }
            let Some(mailbox) = mailbox(&self.mailboxes, to.0) else {
                continue;
            };
            let mut waiting = mailbox.inner.lock();
            let events = waiting
                .events
                .get_or_insert_with(|| spare.lock().pop().unwrap_or_default());
            events.push_back(event);
            woken.extend(waiting.waker.take());
        }
    }

    /// Leaves one alarm for each endpoint that has set one.
    fn forget_void_alarms(&mut self) {
        let mut alarms = std::mem::take(&mut self.alarms).into_vec();
        alarms.retain(|Reverse((at, id))| {
            let mailbox = mailbox(&self.mailboxes, *id);
            mailbox.is_some_and(|mailbox| mailbox.inner.lock().alarm == Some(*at))
        });
        alarms.sort_unstable();
        alarms.dedup();
        self.alarms = alarms.into();
    }

    /// When the timer thread is wanted.
    fn deadline(&self) -> Option<Instant> {
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        self.bus.deadline().into_iter().chain(alarm).min()
    }
}

fn mailbox(mailboxes: &[Option<Arc<Mailbox>>], id: u64) -> Option<&Arc<Mailbox>> {
    let index = (id & u64::from(u32::MAX)) as usize;
    mailboxes.get(index)?.as_ref().filter(|mailbox| mailbox.id == id)
}

/// One endpoint's place on the bus. Dropping it leaves the bus as a lost connection does.
pub struct Port {
    hub: Hub,
    mailbox: Arc<Mailbox>,
    /// A command is under way, or some are left.
    unfinished: AtomicBool,
    /// Bytes in the buffers of its connection.
    buffers: AtomicU32,
}

impl Port {
    /// The bus it is attached to.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Takes all commands, in one turn if they are not much work. Their answers may be in the mailbox when this returns.
    pub fn submit(&self, commands: &mut Vec<BusCommand>) {
        while !self.submit_some(commands) {}
    }

    /// Takes as many commands, in order, as are short work, and leaves the others. Whether all is done: if not, this must be called again, with no
    /// command or more behind those that are left, after everybody else has had a turn.
    pub fn submit_some(&self, commands: &mut Vec<BusCommand>) -> bool {
        if commands.is_empty() && !self.unfinished.load(Ordering::Relaxed) {
            return true;
        }
        let id = EndpointId(self.mailbox.id);
        let mut left = Vec::new();
        let done = self.hub.turn_of_core(|core, now| {
            let Core {
                bus, out, gives_way, ..
            } = core;
            let enough = bus.work() + Bus::steps_of_a_turn();
            let mut more = bus.go_on(id, now, out);
            for command in commands.drain(..) {
                if more || bus.work() >= enough {
                    left.push(command);
                } else {
                    more = bus.begin(id, command, now, out);
                }
            }
            // What is under way goes on for as long as the turn may.
            while more && bus.work() < enough {
                more = bus.go_on(id, now, out);
            }
            *gives_way = more || !left.is_empty();
            !*gives_way
        });
        commands.append(&mut left);
        self.unfinished.store(!done, Ordering::Relaxed);
        done
    }

    /// Its connection holds so many bytes in buffers from now on, which count in the ledger of memory.
    pub fn hold_buffers(&self, bytes: usize) {
        let now = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = self.buffers.swap(now, Ordering::Relaxed);
        if before != now {
            self.hub.memory().change_buffers(before as usize, now as usize);
        }
    }

    /// Ready when there are events or the alarm rang. Otherwise `cx` is woken when it is so, or when [`Hub::says_goodbye`].
    pub fn poll_call(&self, cx: &Context<'_>) -> Poll<Call> {
        let mut waiting = self.mailbox.inner.lock();
        if waiting.events.as_ref().is_some_and(|events| !events.is_empty()) {
            return Poll::Ready(Call::Events);
        }
        waiting.poll_alarm(cx)
    }

    /// Lets [`Port::poll_call`] be ready from then on, once. The alarm that was set before does not ring any more.
    pub fn wake_at(&self, at: Instant) {
        let mut core = self.hub.0.core.lock();
        self.mailbox.inner.lock().alarm = Some(at);
        if core.alarms.len() == core.alarms.capacity() {
            let more = core.alarms.len() / 4 + 16;
            core.alarms.reserve_exact(more);
        }
        core.alarms.push(Reverse((at, self.mailbox.id)));
        // Most are void: a client that comes and goes leaves one each time, and so does each alarm that was set earlier.
        if core.alarms.len() > 2 * core.mailboxes.len() + MAX_SPARE {
            core.forget_void_alarms();
        }
        drop(core);
        self.hub.wake_timer_by(at);
    }

    /// Moves all events that are there into `into`.
    pub fn take_events(&self, into: &mut VecDeque<BusEvent>) {
        let mut waiting = self.mailbox.inner.lock();
        let Some(events) = &mut waiting.events else { return };
        take(events, into);
        if events.is_empty()
            && let Some(events) = waiting.events.take()
        {
            drop(waiting);
            self.hub.keep_spare(events);
        }
    }
}

fn take(from: &mut VecDeque<BusEvent>, into: &mut VecDeque<BusEvent>) {
    if into.is_empty() {
        std::mem::swap(from, into);
    } else {
        into.append(from);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.hold_buffers(0);
        self.submit(&mut vec![BusCommand::Close {
            reason: CloseReason::Lost,
            expiry: None,
        }]);
        let mut core = self.hub.0.core.lock();
        let index = (self.mailbox.id & u64::from(u32::MAX)) as u32;
        core.mailboxes[index as usize] = None;
        core.free.push(index);
    }
}
