//! Sessions, one by one: whose queues are the longest, and who takes long.
//!
//! A walk over all sessions takes a thousand at a time, and lets everybody else go on in between; it is made only while somebody wants to know.

use crate::config::Config;
use headgate_bus::MAX_PAGE;
use headgate_bus::handle::Hub;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Between two pages.
const PAUSE: Duration = Duration::from_millis(20);
/// From the end of a walk to the beginning of the next.
const EVERY: Duration = Duration::from_secs(10);
/// No walk is made when nobody has asked for so long.
const WANTED: Duration = Duration::from_secs(120);
/// A survey that is older is not told; a new one is waited for.
const FRESH: Duration = Duration::from_secs(60);
/// Seconds from which on a client takes long.
const SLOW: u64 = 2;
/// So long whoever asks waits for the first walk.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The longest queues, the longest first: who, and how many deliveries wait.
    pub queues: Vec<(String, usize)>,
    /// What waits in all others.
    pub others: usize,
    /// Clients that take long, the slowest first: who, and the longest time in seconds from when a delivery was queued, or the client came, until it was
    /// settled, or until now. What is over fades.
    pub slow: Vec<(String, usize)>,
}

/// Walks when it is asked. Clones share it.
#[derive(Clone)]
pub(crate) struct Surveyor(Arc<Inner>);

struct Inner {
    hub: Hub,
    config: watch::Receiver<Arc<Config>>,
    state: Mutex<State>,
    wanted: Notify,
    done: Notify,
}

#[derive(Default)]
struct State {
    latest: Arc<Survey>,
    made: Option<Instant>,
    asked: Option<Instant>,
}

impl Inner {
    fn tell(&self, survey: Survey) {
        let mut state = self.state.lock();
        state.latest = Arc::new(survey);
        state.made = Some(Instant::now());
        self.done.notify_waiters();
    }
}

impl Surveyor {
    /// Tells of so many sessions at most.
    pub(crate) fn new(hub: Hub, config: watch::Receiver<Arc<Config>>) -> Self {
        Self(Arc::new(Inner {
            hub,
            config,
            state: Mutex::default(),
            wanted: Notify::new(),
            done: Notify::new(),
        }))
    }

    /// What the last walk found; waits a moment for one if there is none, or an old one.
    pub(crate) async fn latest(&self) -> Arc<Survey> {
        let done = self.0.done.notified();
        tokio::pin!(done);
        done.as_mut().enable();
        let is_fresh = {
            let mut state = self.0.state.lock();
            state.asked = Some(Instant::now());
            state.made.is_some_and(|made| made.elapsed() < FRESH)
        };
        if !is_fresh {
            self.0.wanted.notify_one();
            let _ = tokio::time::timeout(PATIENCE, done).await;
        }
        Arc::clone(&self.0.state.lock().latest)
    }

    /// Walks while somebody asks, for ever.
    pub(crate) async fn run(self) {
        loop {
            let is_wanted = |state: &State| state.asked.is_some_and(|asked| asked.elapsed() < WANTED);
            if !is_wanted(&self.0.state.lock()) {
                self.0.wanted.notified().await;
            }
            let survey = self.walk().await;
            self.0.tell(survey);
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn walk(&self) -> Survey {
        let hub = &self.0.hub;
        let most = self.0.config.borrow().metrics.top_sessions;
        let (mut top, mut waiting) = (Top::new(most), Top::new(most));
        let (mut all, mut after) = (0, None::<String>);
        loop {
            let page = hub.clients(after.as_deref(), MAX_PAGE);
            let now = hub.clock().now();
            for row in &page.rows {
                if row.queued > 0 {
                    all += row.queued;
                    top.offer(row.queued, row.client.as_str());
                }
                let waits = row.waiting_since.map_or(0, |since| now.since(since).as_secs());
                if waits >= SLOW {
                    waiting.offer(waits as usize, row.client.as_str());
                }
            }
            match page.next {
                Some(next) => after = Some(next.as_str().to_owned()),
                None => break,
            }
            tokio::time::sleep(PAUSE).await;
        }
        let queues = top.into_sorted();
        let told: usize = queues.iter().map(|(_, queued)| queued).sum();
        let settled = hub.slow().into_iter();
        let settled = settled.map(|slow| (slow.client.as_str().to_owned(), slow.wait.as_secs() as usize));
        Survey {
            queues,
            others: all - told,
            slow: longest(waiting.into_sorted().into_iter().chain(settled), most),
        }
    }
}

/// The longest wait of each client, and of so many clients.
fn longest(waits: impl Iterator<Item = (String, usize)>, most: usize) -> Vec<(String, usize)> {
    let mut of_each = BTreeMap::new();
    for (client, wait) in waits {
        let known = of_each.entry(client).or_insert(0);
        *known = wait.max(*known);
    }
    let mut sorted: Vec<(String, usize)> = of_each.into_iter().collect();
    sorted.sort_by_key(|(_, wait)| Reverse(*wait));
    sorted.truncate(most);
    sorted
}

/// The highest of many.
struct Top {
    most: usize,
    /// The lowest of them is on top.
    heap: BinaryHeap<Reverse<(usize, String)>>,
}

impl Top {
    fn new(most: usize) -> Self {
        Self {
            most,
            heap: BinaryHeap::new(),
        }
    }

    fn offer(&mut self, value: usize, name: &str) {
        let is_full = self.heap.len() >= self.most;
        if is_full
            && self
                .heap
                .peek()
                .is_none_or(|Reverse((lowest, _))| *lowest >= value)
        {
            return;
        }
        self.heap.push(Reverse((value, name.to_owned())));
        if is_full {
            self.heap.pop();
        }
    }

    fn into_sorted(self) -> Vec<(String, usize)> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|Reverse((value, name))| (name, value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_are_kept_in_their_order() {
        let mut top = Top::new(3);
        for (name, value) in [("a", 5), ("b", 1), ("c", 9), ("d", 7), ("e", 2)] {
            top.offer(value, name);
        }
        let names: Vec<String> = top.into_sorted().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["c", "d", "a"]);
        let mut none = Top::new(0);
        none.offer(1, "a");
        assert!(none.into_sorted().is_empty());
    }
}
