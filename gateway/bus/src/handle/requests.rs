//! The way of requests to who answers them.
//!
//! Always true: one takes them at a time, the last who asked for them; what it has no room for is dropped and counted, and nobody waits for it.

use super::hub::Hub;
use crate::requests::Request;
use headgate_model::Topic;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Requests that wait to be taken.
const MAX_WAITING: usize = 32;

#[derive(Default)]
struct Contents {
    requests: VecDeque<Request>,
    dropped: u64,
    waker: Option<Waker>,
}

type Channel = Arc<Mutex<Contents>>;

/// Who takes them.
#[derive(Default)]
pub(super) struct Taker(Option<Channel>);

/// Requests: [`Hub::requests`].
pub struct Requests {
    hub: Hub,
    channel: Channel,
}

impl Hub {
    /// What clients publish there from now on, with who they are: [`Request`]. Whoever took requests before gets none any more.
    pub fn requests(&self, at: Topic) -> Requests {
        let channel = Channel::default();
        self.turn_of_core(|core, _| {
            core.bus.take_requests(Some(at));
            core.requests.0 = Some(Arc::clone(&channel));
        });
        Requests {
            hub: self.clone(),
            channel,
        }
    }
}

impl Taker {
    pub(super) fn tell(&self, requests: &mut Vec<Request>, woken: &mut Vec<Waker>) {
        if requests.is_empty() {
            return;
        }
        if let Some(channel) = &self.0 {
            let mut inner = channel.lock();
            let room = MAX_WAITING - inner.requests.len();
            inner.dropped += requests.len().saturating_sub(room) as u64;
            inner.requests.extend(requests.drain(..).take(room));
            woken.extend(inner.waker.take());
        }
        requests.clear();
    }
}

impl Requests {
    /// The next one. May be dropped while it waits.
    pub async fn next(&self) -> Request {
        poll_fn(|cx| {
            let mut inner = self.channel.lock();
            match inner.requests.pop_front() {
                Some(request) => Poll::Ready(request),
                None => {
                    inner.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// How many came while as many waited as may.
    pub fn dropped(&self) -> u64 {
        self.channel.lock().dropped
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.hub.turn_of_core(|core, _| {
            let is_taker = core.requests.0.as_ref();
            if is_taker.is_some_and(|taker| Arc::ptr_eq(taker, &self.channel)) {
                core.requests.0 = None;
                core.bus.take_requests(None);
            }
        });
    }
}
