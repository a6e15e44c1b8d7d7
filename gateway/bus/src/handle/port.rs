//! One endpoint's place on the bus.

use super::hub::{Core, Hub};
use super::mailbox::{Call, MAX_SPARE, Mailbox, take};
use crate::bus::Bus;
use headgate_model::{BusCommand, BusEvent, CloseReason, EndpointId, Instant};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

/// One endpoint's place on the bus. Dropping it leaves the bus as a lost connection does.
pub struct Port {
    pub(super) hub: Hub,
    pub(super) mailbox: Arc<Mailbox>,
    /// A command is under way, or some are left.
    pub(super) unfinished: AtomicBool,
    /// Bytes in the buffers of its connection.
    pub(super) buffers: AtomicU32,
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
            self.hub.0.spare.keep(events);
        }
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
