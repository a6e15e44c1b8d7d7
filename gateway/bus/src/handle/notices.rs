//! What operators watch, for any number of watchers.
//!
//! Always true: each watcher gets notices in the order in which they came to be; what it has no room for is dropped and counted, and nobody waits for it.

use super::hub::Hub;
use crate::bus::Notice;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// All watchers.
#[derive(Default)]
pub(super) struct Watchers {
    channels: Vec<Arc<Channel>>,
    dropped: u64,
}

/// The way to one watcher.
struct Channel {
    capacity: usize,
    inner: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    notices: VecDeque<Notice>,
    waker: Option<Waker>,
    /// The hub has stopped.
    closed: bool,
}

/// Notices for one watcher: [`Hub::notices`].
pub struct Notices(Arc<Channel>);

impl Hub {
    /// What happens from now on. At most `capacity` notices wait to be taken; what comes then is dropped, and counted by [`Hub::dropped_notices`].
    pub fn notices(&self, capacity: usize) -> Notices {
        let channel = Arc::new(Channel {
            capacity,
            inner: Mutex::default(),
        });
        let mut core = self.0.core.lock();
        core.watchers.channels.push(Arc::clone(&channel));
        Notices(channel)
    }

    /// Notices that some watcher did not get, for it was too slow.
    pub fn dropped_notices(&self) -> u64 {
        self.0.core.lock().watchers.dropped
    }
}

impl Watchers {
    /// Hands these to all watchers that are still there.
    pub(super) fn tell(&mut self, notices: &mut Vec<Notice>, woken: &mut Vec<Waker>) {
        if notices.is_empty() {
            return;
        }
        self.channels.retain(|channel| Arc::strong_count(channel) > 1);
        for channel in &self.channels {
            let mut inner = channel.inner.lock();
            let room = channel.capacity.saturating_sub(inner.notices.len());
            inner.notices.extend(notices.iter().take(room).cloned());
            self.dropped += notices.len().saturating_sub(room) as u64;
            woken.extend(inner.waker.take());
        }
        notices.clear();
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        for channel in &self.channels {
            let mut inner = channel.inner.lock();
            inner.closed = true;
            let waker = inner.waker.take();
            drop(inner);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Notices {
    /// The next one; `None` when the hub has stopped and all are taken. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Notice> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Notices::next`], to be polled.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Notice>> {
        let mut inner = self.0.inner.lock();
        match inner.notices.pop_front() {
            Some(notice) => Poll::Ready(Some(notice)),
            None if inner.closed => Poll::Ready(None),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
