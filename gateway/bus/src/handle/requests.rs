//! The way of requests to who answers them.
//!
//! Always true: one takes them at a time, the last who asked for them; what it has no room for is dropped and counted, and nobody waits for it. Who is not named
//! takes no place of who is.

use super::hub::Hub;
use crate::requests::Request;
use headgate_model::Topic;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Requests of who is named that wait to be taken.
const MAX_WAITING: usize = 32;
/// Those of all others: they only hear that they may not.
const MAX_STRANGERS: usize = 4;

#[derive(Default)]
struct Contents {
    named: VecDeque<Request>,
    strangers: VecDeque<Request>,
    dropped: u64,
    waker: Option<Waker>,
}

type Channel = Arc<Mutex<Contents>>;
/// Says of a request whether who asks is named.
type IsNamed = dyn Fn(&Request) -> bool + Send;

/// Who takes them.
#[derive(Default)]
pub(super) struct Taker(Option<(Channel, Box<IsNamed>)>);

/// Requests: [`Hub::requests`].
pub struct Requests {
    hub: Hub,
    channel: Channel,
}

impl Hub {
    /// What clients publish there from now on, with who they are: [`Request`]. Whoever took requests before gets none any more. Those that `is_named` knows come
    /// first, and have places of their own. It is asked within a turn of the bus: it must be quick, and not call the hub.
    pub fn requests(&self, at: Topic, is_named: impl Fn(&Request) -> bool + Send + 'static) -> Requests {
        let channel = Channel::default();
        self.turn_of_core(|core, _| {
            core.bus.take_requests(Some(at));
            core.requests.0 = Some((Arc::clone(&channel), Box::new(is_named)));
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
        if let Some((channel, is_named)) = &self.0 {
            let mut inner = channel.lock();
            for request in requests.drain(..) {
                inner.put(is_named(&request), request);
            }
            woken.extend(inner.waker.take());
        }
        requests.clear();
    }
}

impl Contents {
    fn put(&mut self, is_named: bool, request: Request) {
        let (queue, most) = match is_named {
            true => (&mut self.named, MAX_WAITING),
            false => (&mut self.strangers, MAX_STRANGERS),
        };
        if queue.len() < most {
            queue.push_back(request);
        } else {
            self.dropped += 1;
        }
    }

    fn take(&mut self) -> Option<Request> {
        self.named.pop_front().or_else(|| self.strangers.pop_front())
    }
}

impl Requests {
    /// The next one. May be dropped while it waits.
    pub async fn next(&self) -> Request {
        poll_fn(|cx| {
            let mut inner = self.channel.lock();
            match inner.take() {
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
            if is_taker.is_some_and(|(taker, _)| Arc::ptr_eq(taker, &self.channel)) {
                core.requests.0 = None;
                core.bus.take_requests(None);
            }
        });
    }
}
