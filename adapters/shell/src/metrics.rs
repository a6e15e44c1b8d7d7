//! The gateway's counters, added up from all links.

use headgate_model::{Counts, Metric};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One total for each counter since the start: of those that adapters share, and of each adapter's own.
#[derive(Debug)]
pub struct Metrics {
    shared: [AtomicU64; Metric::ALL.len()],
    own: RwLock<Vec<Arc<OwnMetrics>>>,
}

/// What one adapter alone counts.
#[derive(Debug)]
pub struct OwnMetrics {
    names: &'static [&'static str],
    totals: Box<[AtomicU64]>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            shared: std::array::from_fn(|_| AtomicU64::new(0)),
            own: RwLock::default(),
        }
    }
}

impl Metrics {
    /// Counters of an adapter, under these names. Who registers the same again counts on.
    pub fn register(&self, names: &'static [&'static str]) -> Arc<OwnMetrics> {
        let mut own = self.own.write();
        if let Some(known) = own.iter().find(|known| known.names == names) {
            return Arc::clone(known);
        }
        let totals = names.iter().map(|_| AtomicU64::new(0)).collect();
        let registered = Arc::new(OwnMetrics { names, totals });
        own.push(Arc::clone(&registered));
        registered
    }

    /// Counts one that no adapter's loop counts.
    pub fn count(&self, metric: Metric) {
        self.shared[metric as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The total.
    pub fn get(&self, metric: Metric) -> u64 {
        self.shared[metric as usize].load(Ordering::Relaxed)
    }

    /// The total that is told under this name.
    pub fn total(&self, name: &str) -> u64 {
        self.by_name().get(name).copied().unwrap_or(0)
    }

    /// All totals by name. Where two adapters have a name, it is told once, with the sum.
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let shared = Metric::ALL
            .iter()
            .map(|metric| (metric.name(), self.get(*metric)));
        let mut all: BTreeMap<_, _> = shared.collect();
        for own in self.own.read().iter() {
            for (name, total) in own.names.iter().zip(&own.totals) {
                *all.entry(*name).or_default() += total.load(Ordering::Relaxed);
            }
        }
        all
    }

    /// Adds what a batch of steps of an adapter counted, and sets it to zero.
    pub(crate) fn add(&self, counts: &mut Counts, own: &OwnMetrics) {
        counts.drain(|metric, n| {
            self.shared[metric as usize].fetch_add(n.into(), Ordering::Relaxed);
        });
        counts.drain_own(|number, n| {
            own.totals[number].fetch_add(n.into(), Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    headgate_model::counters! {
        /// Of a toy.
        enum Toy {
            Bells => "toy/bells",
            Sent => "packets/sent",
        }
    }

    /// An adapter's counters are told by their names; one that is registered twice counts on, and a name of two is told with the sum.
    #[test]
    fn an_adapter_brings_its_counters() {
        use headgate_model::Counter;
        let metrics = Metrics::default();
        for _ in 0..2 {
            let own = metrics.register(Toy::NAMES);
            let mut counts = Counts::default();
            counts.add_own_n(Toy::Bells, 3);
            counts.add_own(Toy::Sent);
            counts.add(Metric::PacketsSent);
            metrics.add(&mut counts, &own);
            metrics.add(&mut counts, &own);
        }
        let told = metrics.by_name();
        assert_eq!((told["toy/bells"], told["packets/sent"]), (6, 4));
        assert_eq!(metrics.get(Metric::PacketsSent), 2);
    }
}
