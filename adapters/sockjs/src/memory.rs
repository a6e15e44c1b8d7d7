//! What sessions hold, told to whoever keeps count.
//!
//! Always true: what is in a session's queues, in the body that comes in, in the frame that goes out, and in the hands of [`SessionBytes`](crate::SessionBytes)
//! is in its [`Meter`]; nothing counts twice, and nothing counts that was dropped.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// A session that holds no more than this need not give it up.
const SMALL: usize = 64 << 10;

/// Who counts the memory of sessions, and says when there is too little.
pub trait Memory: fmt::Debug + Send + Sync + 'static {
    /// A session holds `now` bytes, where it held `before`.
    fn change(&self, before: usize, now: usize);

    /// Sessions that hold much have to go.
    fn is_scarce(&self) -> bool;
}

/// The bytes that one session holds, wherever they are.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Reading>);

#[derive(Debug, Default)]
struct Reading {
    bytes: usize,
    counted_by: Option<Arc<dyn Memory>>,
}

impl Meter {
    /// From now on this one is told, beginning with what is held already.
    pub(crate) fn count_in(&self, memory: Arc<dyn Memory>) {
        let mut reading = self.0.lock();
        memory.change(0, reading.bytes);
        if let Some(before) = reading.counted_by.replace(memory) {
            before.change(reading.bytes, 0);
        }
    }

    fn change(&self, before: usize, now: usize) {
        if before == now {
            return;
        }
        let mut reading = self.0.lock();
        reading.bytes = reading.bytes + now - before;
        if let Some(memory) = &reading.counted_by {
            memory.change(before, now);
        }
    }

    /// Whether the session holds much, and there is too little for that.
    pub(crate) fn is_too_much(&self) -> bool {
        let reading = self.0.lock();
        let memory = reading.counted_by.as_ref().filter(|_| reading.bytes > SMALL);
        memory.is_some_and(|memory| memory.is_scarce())
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }
}

/// Something that a session holds, as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold {
    meter: Arc<Meter>,
    bytes: usize,
}

impl Hold {
    /// Of nothing yet.
    pub(crate) fn new(meter: &Arc<Meter>) -> Self {
        Self {
            meter: Arc::clone(meter),
            bytes: 0,
        }
    }

    /// It is so many bytes now.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.meter.change(self.bytes, bytes);
        self.bytes = bytes;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug, Default)]
    struct Ledger(AtomicUsize);

    impl Memory for Ledger {
        fn change(&self, before: usize, now: usize) {
            self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }

        fn is_scarce(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let (meter, ledger) = (Arc::new(Meter::default()), Arc::new(Ledger::default()));
        let mut first = Hold::new(&meter);
        first.set(SMALL);
        meter.count_in(ledger.clone());
        assert_eq!(ledger.0.load(Ordering::Relaxed), SMALL);
        assert!(!meter.is_too_much());
        let mut second = Hold::new(&meter);
        second.set(1);
        assert!(meter.is_too_much());
        first.set(10);
        drop(second);
        assert_eq!((meter.bytes(), ledger.0.load(Ordering::Relaxed)), (10, 10));
        drop(first);
        assert_eq!(ledger.0.load(Ordering::Relaxed), 0);
    }
}
