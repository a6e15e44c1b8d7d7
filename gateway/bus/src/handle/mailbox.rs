//! Where an endpoint finds what the bus has for it.

use headgate_model::{BusEvent, Instant};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Empty queues of events that are kept, and the room in the largest of them.
pub(super) const MAX_SPARE: usize = 256;
pub(super) const LARGEST_SPARE: usize = 1_024;

/// Events on their way to one endpoint. Boxed: most mailboxes hold none most of the time.
type Events = Box<VecDeque<BusEvent>>;

/// Queues of events without events, lent to mailboxes that get some: an idle one holds none.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Events>>);

impl Spare {
    pub(super) fn lend(&self) -> Events {
        self.0.lock().pop().unwrap_or_default()
    }

    /// An empty queue of events waits for the next mailbox that needs one.
    pub(super) fn keep(&self, events: Events) {
        if events.capacity() <= LARGEST_SPARE {
            let mut spare = self.0.lock();
            if spare.len() < MAX_SPARE {
                spare.push(events);
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pub(super) id: u64,
    pub(super) inner: Mutex<Contents>,
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) events: Option<Events>,
    pub(super) waker: Option<Waker>,
    /// When the alarm rings; `None` when it is not set.
    pub(super) alarm: Option<Instant>,
    /// It rang, and the endpoint has not heard it yet.
    pub(super) rang: bool,
}

impl Contents {
    /// Ready when the alarm rang; else `cx` is woken with whatever comes.
    pub(super) fn poll_alarm(&mut self, cx: &Context<'_>) -> Poll<Call> {
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
    /// The time of [`Port::wake_at`](super::Port::wake_at) has come.
    Alarm,
}

/// The mailbox of this endpoint, unless it is gone.
pub(super) fn mailbox(mailboxes: &[Option<Arc<Mailbox>>], id: u64) -> Option<&Arc<Mailbox>> {
    let index = (id & u64::from(u32::MAX)) as usize;
    mailboxes.get(index)?.as_ref().filter(|mailbox| mailbox.id == id)
}

/// Moves all of `from` behind what is in `into`.
pub(super) fn take(from: &mut VecDeque<BusEvent>, into: &mut VecDeque<BusEvent>) {
    if into.is_empty() {
        std::mem::swap(from, into);
    } else {
        into.append(from);
    }
}
