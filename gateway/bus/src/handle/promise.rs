//! An answer that is to come, and the task that waits for it.

use parking_lot::Mutex;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Kept once. Whoever waits may give up at any time.
pub(super) struct Promise<T>(Mutex<(Option<T>, Option<Waker>)>);

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self(Mutex::new((None, None)))
    }
}

impl<T> Promise<T> {
    /// This is the answer. Who is to be woken.
    pub(super) fn keep(&self, answer: T) -> Option<Waker> {
        let mut inner = self.0.lock();
        inner.0 = Some(answer);
        inner.1.take()
    }

    /// Waits for the answer. One task at a time.
    pub(super) async fn wait(&self) -> T {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            if let Some(answer) = inner.0.take() {
                return Poll::Ready(answer);
            }
            inner.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
