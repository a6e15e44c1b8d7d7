//! Whether messages still make their way: the question of a watchdog.

use super::hub::Hub;
use headgate_model::{Instant, Message};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Rounds of the store's thread, and who waits for the next.
#[derive(Default)]
pub(super) struct Rounds {
    done: u64,
    waiting: Vec<Waker>,
}

impl Rounds {
    /// One more is done.
    pub(super) fn end_one(&mut self) {
        self.done += 1;
        self.wake();
    }

    /// There is none to come.
    pub(super) fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Hub {
    /// Comes back when this message of the gateway has gone through the bus and has its answer, and the store's thread has done a round since. While the bus, its store or
    /// the disk hangs, it does not, nor when too much could not be written: only a restart mends that. A store that says no and is tried again is told by [`Hub::is_failing`].
    ///
    /// It does not wait for its turn behind publishers while the store is behind, and writes nothing if nobody keeps the message.
    pub async fn beat(&self, message: Message) {
        let before = self.0.commits.lock().rounds.done;
        // Where too many wait for an answer, the round of the store tells what is to be known.
        if let Ok(promise) = self.publish_at_once(message) {
            let _ = promise.wait().await;
        }
        self.wake_store_by(Instant::START);
        poll_fn(|cx| {
            let mut commits = self.0.commits.lock();
            if commits.rounds.done > before || commits.stop {
                return Poll::Ready(());
            }
            commits.rounds.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
