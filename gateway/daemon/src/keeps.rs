//! Whether the gateway writes down what it knows of itself: alarms, starts, trends, the time. Where the store is to be in memory it does not, as long as that is so.

use crate::config::{Config, Durability};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asked before each file is read or written. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Keeps(Arc<AtomicBool>);

impl Keeps {
    pub(crate) fn of(config: &Config) -> Self {
        Self(Arc::new(is_wanted(config).into()))
    }

    /// Another configuration is valid. Whether things are kept from now on that were not before.
    pub(crate) fn set(&self, config: &Config) -> bool {
        let is_wanted = is_wanted(config);
        let was = self.0.swap(is_wanted, Ordering::AcqRel);
        is_wanted && !was
    }

    /// Whether they are kept now.
    pub(crate) fn now(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

fn is_wanted(config: &Config) -> bool {
    config.store.durability != Durability::Memory
}

#[cfg(test)]
impl Keeps {
    pub(crate) fn always() -> Self {
        Self(Arc::new(true.into()))
    }

    pub(crate) fn never() -> Self {
        Self(Arc::new(false.into()))
    }
}
