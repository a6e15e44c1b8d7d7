//! The gateway's counters, added up from all links.

use headgate_model::{Counts, Metric};
use std::sync::atomic::{AtomicU64, Ordering};

/// One total for each [`Metric`] since the start.
#[derive(Debug)]
pub struct Metrics([AtomicU64; Metric::ALL.len()]);

impl Default for Metrics {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Metrics {
    /// The total.
    pub fn get(&self, metric: Metric) -> u64 {
        self.0[metric as usize].load(Ordering::Relaxed)
    }

    /// Adds what a batch of steps counted, and sets it to zero.
    pub(crate) fn add(&self, counts: &mut Counts) {
        counts.drain(|metric, n| {
            self.0[metric as usize].fetch_add(n.into(), Ordering::Relaxed);
        });
    }
}
