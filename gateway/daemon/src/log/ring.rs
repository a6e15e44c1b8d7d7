//! The last lines, in memory, for whoever asks: those that were, and those that come.

use super::line::Line;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};

/// Lines that wait for who follows.
const MOST_WAITING: usize = 1_024;

/// The last lines, each in JSON.
pub(crate) struct Ring {
    lines: Mutex<VecDeque<Arc<str>>>,
    most: AtomicUsize,
    coming: Sender<Arc<str>>,
}

/// Lines as they come.
pub(crate) struct Tail(Receiver<Arc<str>>);

impl Ring {
    /// Of so many lines.
    pub(super) fn new(most: usize) -> Self {
        Self {
            lines: Mutex::default(),
            most: AtomicUsize::new(most),
            coming: broadcast::channel(MOST_WAITING).0,
        }
    }

    pub(super) fn push(&self, line: &Line) {
        let most = self.most.load(Ordering::Relaxed);
        if most == 0 && self.coming.receiver_count() == 0 {
            return;
        }
        let line: Arc<str> = line.json().into();
        let mut lines = self.lines.lock();
        // Under the lock: who begins to follow misses none and sees none twice.
        let _ = self.coming.send(Arc::clone(&line));
        if most > 0 {
            lines.push_back(line);
        }
        while lines.len() > most {
            lines.pop_front();
        }
    }

    /// Of so many lines from now on.
    pub(super) fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        let mut lines = self.lines.lock();
        let surplus = lines.len().saturating_sub(most);
        lines.drain(..surplus);
    }

    /// The last lines, so many at most, and those that will come.
    pub(crate) fn last(&self, most: usize) -> (Vec<Arc<str>>, Tail) {
        let lines = self.lines.lock();
        let skipped = lines.len().saturating_sub(most);
        let last = lines.iter().skip(skipped).cloned().collect();
        (last, Tail(self.coming.subscribe()))
    }
}

impl Tail {
    /// The next line; for lines that came too fast, one that says how many. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Arc<str>> {
        match self.0.recv().await {
            Ok(line) => Some(line),
            Err(RecvError::Lagged(lost)) => Some(Line::of_loss(lost).json().into()),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_there_and_the_next_come() {
        let ring = Ring::new(3);
        for n in 0..10 {
            ring.push(&Line::of_loss(n));
        }
        let (last, mut tail) = ring.last(2);
        assert_eq!(last.len(), 2);
        assert!(last[1].contains("\"lost\":9"), "{last:?}");
        for n in 0..2_000 {
            ring.push(&Line::of_loss(n));
        }
        let first = tail.next().await.unwrap();
        assert!(first.contains("\"lost\":976"), "{first}");
        ring.resize(1);
        assert_eq!(ring.last(10).0.len(), 1);
        ring.resize(0);
        ring.push(&Line::of_loss(1));
        assert!(ring.last(10).0.is_empty());
    }
}
