//! The thread that does what is due, and wakes whose alarm rings.

use super::hub::{Core, Hub};
use super::mailbox::mailbox;
use headgate_model::Instant;
use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

impl Hub {
    pub(super) fn wake_timer_by(&self, at: Instant) {
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

    pub(super) fn run_timers(&self) {
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
}

impl Core {
    /// Leaves one alarm for each endpoint that has set one.
    pub(super) fn forget_void_alarms(&mut self) {
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
