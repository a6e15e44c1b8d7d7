//! The hub: the bus behind its lock, and all that others may ask of it.

use super::clock::Clock;
use super::commits::Commits;
use super::group::{self, Groups};
use super::mailbox::{Mailbox, Spare, mailbox};
use super::notices::Watchers;
use super::port::Port;
use super::publishing::Publishing;
use super::requests::Taker;
use crate::bus::{Bus, BusOutputs};
use crate::clients::make_room;
use crate::links::LinkReport;
use crate::publish::HUB;
use crate::reading::RulesChange;
use crate::settings::{BusSettings, SettingsError};
use crate::stamp::StampClock;
use crate::stats::BusStats;
use headgate_model::bus::Refusal;
use headgate_model::store::StoreStats;
use headgate_model::{Admitted, Instant, MemoryLimit, Qos, Store, Subscription};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

/// Operations, and bytes of messages in them, that may wait for the store before publishers have to wait.
const MAX_WAITING_OPS: usize = 20_000;
const MAX_WAITING_BYTES: usize = 32 << 20;

/// The bus, shared by everyone who speaks to it.
#[derive(Clone)]
pub struct Hub(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) clock: Clock,
    pub(super) memory: Arc<MemoryLimit>,
    pub(super) core: Mutex<Core>,
    pub(super) commits: Mutex<Commits>,
    pub(super) commits_changed: Condvar,
    /// Operations in the open batch, and on their way to the disk.
    pub(super) open_ops: AtomicUsize,
    pub(super) committing_ops: AtomicUsize,
    pub(super) open_bytes: AtomicUsize,
    pub(super) committing_bytes: AtomicUsize,
    /// When the timer thread wakes; guards nothing but its sleep.
    pub(super) wakes_at: Mutex<Instant>,
    pub(super) wakes_earlier: Condvar,
    /// The same, to be compared without the lock.
    pub(super) next_wake: AtomicU64,
    /// When the store's thread wakes, to be compared without the lock.
    pub(super) next_commit: AtomicU64,
    pub(super) failing: AtomicBool,
    pub(super) full: AtomicBool,
    pub(super) goodbye: AtomicBool,
    /// Queues of events without events, lent to mailboxes that get some: an idle one holds none.
    pub(super) spare: Spare,
}

/// What the lock guards.
pub(super) struct Core {
    pub(super) bus: Bus,
    pub(super) out: BusOutputs,
    /// Mailboxes by the lower half of the endpoint's number.
    pub(super) mailboxes: Vec<Option<Arc<Mailbox>>>,
    pub(super) free: Vec<u32>,
    pub(super) generation: u64,
    /// Endpoints that share a mailbox.
    pub(super) groups: Groups,
    /// Programs that published a message and wait for the answer.
    pub(super) publishing: Publishing,
    /// Who watches.
    pub(super) watchers: Watchers,
    /// Who takes requests to the gateway itself.
    pub(super) requests: Taker,
    /// Whose tasks are to be woken.
    pub(super) woken: Vec<Waker>,
    /// A turn ended before all was done: whoever waits for the lock has it next.
    pub(super) gives_way: bool,
    /// When which endpoint wants to be woken; void for one that left, or set another alarm since.
    pub(super) alarms: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Hub {
    /// Starts the bus's two threads. `store` was loaded already.
    pub fn start(bus: Bus, clock: Clock, store: Box<dyn Store>) -> std::io::Result<Self> {
        let hub = Self(Arc::new(Inner {
            clock,
            memory: Arc::clone(bus.memory_limit()),
            core: Mutex::new(Core {
                bus,
                out: BusOutputs::default(),
                mailboxes: Vec::new(),
                free: Vec::new(),
                generation: 0,
                groups: Groups::default(),
                publishing: Publishing::default(),
                watchers: Watchers::default(),
                requests: Taker::default(),
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
            spare: Spare::default(),
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

    /// The rules of clients have changed: who is connected, or has a session, has the new ones when this returns.
    pub fn renew_rules(&self) {
        let mut next = Some(RulesChange::default());
        while let Some(change) = next {
            next = self.turn(|bus, now, out| bus.renew_rules(change, now, out));
        }
    }

    /// Other settings of the bus from now on: [`Bus::set_settings`].
    pub fn set_settings(&self, settings: BusSettings) -> Result<(), SettingsError> {
        self.turn(|bus, _, _| bus.set_settings(settings))
    }

    /// The gateway has another name from now on: [`Bus::set_node`].
    pub fn set_node(&self, node: &str) {
        self.turn(|bus, _, _| bus.set_node(node));
    }

    /// [`Bus::set_stamp_clock`]
    pub fn set_stamp_clock(&self, clock: Option<StampClock>) {
        self.turn(|bus, _, _| bus.set_stamp_clock(clock));
    }

    /// Throws a client out. Whether it was connected.
    pub fn kick(&self, client: &str) -> bool {
        self.turn(|bus, now, out| bus.kick(client, now, out))
    }

    /// [`Bus::subscribe_for`]
    pub fn subscribe_for(
        &self,
        client: &str,
        subscription: Admitted<Subscription>,
    ) -> Option<Result<Qos, Refusal>> {
        self.turn(|bus, now, out| bus.subscribe_for(client, subscription, now, out))
    }

    /// [`Bus::unsubscribe_for`]
    pub fn unsubscribe_for(&self, client: &str, subscription: Admitted<Subscription>) -> Option<bool> {
        self.turn(|bus, now, out| bus.unsubscribe_for(client, subscription, now, out))
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
        let Inner {
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
        self.wake_all();
    }

    /// Wakes every endpoint: something has changed that each has to look at by itself.
    pub fn wake_all(&self) {
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
        commits.rounds.wake();
        self.0.commits_changed.notify_all();
        self.0.wakes_earlier.notify_all();
        while !commits.stopped {
            self.0.commits_changed.wait(&mut commits);
        }
        drop(commits);
        let mut core = self.0.core.lock();
        core.close_publishing();
        core.watchers.close();
    }

    /// One turn of the bus: the lock is held for `f` and for sorting what it wrote down, no longer.
    pub(super) fn turn<T>(&self, f: impl FnOnce(&mut Bus, Instant, &mut BusOutputs) -> T) -> T {
        self.turn_of_core(|core, now| f(&mut core.bus, now, &mut core.out))
    }

    pub(super) fn turn_of_core<T>(&self, f: impl FnOnce(&mut Core, Instant) -> T) -> T {
        let mut guard = self.0.core.lock();
        let core = &mut *guard;
        // Time is read under the lock, so that the bus never sees it run backwards.
        let now = self.0.clock.now();
        let result = f(core, now);
        let mut woken = std::mem::take(&mut core.woken);
        core.sort_events(&mut woken, &self.0.spare);
        core.watchers.tell(&mut core.out.notices, &mut woken);
        core.requests.tell(&mut core.out.requests, &mut woken);
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
        result
    }

    pub(super) fn note_open(&self, bus: &Bus) {
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
}

impl Core {
    /// Puts the events into their mailboxes and collects whom to wake.
    fn sort_events(&mut self, woken: &mut Vec<Waker>, spare: &Spare) {
        for (to, event) in self.out.events.drain(..) {
            if to == HUB {
                self.publishing.answer(&event, woken);
                continue;
            }
            if group::is_member(to) {
                self.groups.deliver(to, event, woken);
                continue;
            }
            let Some(mailbox) = mailbox(&self.mailboxes, to.0) else {
                continue;
            };
            let mut waiting = mailbox.inner.lock();
            let events = waiting.events.get_or_insert_with(|| spare.lend());
            events.push_back(event);
            woken.extend(waiting.waker.take());
        }
    }
}
