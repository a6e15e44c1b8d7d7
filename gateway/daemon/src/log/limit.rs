//! How many lines there may be: of one kind, one place in the program, a number within [`WINDOW`], the others counted and told. A single client has
//! [`OF_A_CLIENT`] lines of a kind: who says the same for ever hides nobody else.

use super::line::Clean;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite};
use tracing_subscriber::layer::{Context, Layer};

/// Lines of one kind are counted for so long.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Lines of one kind about one client within [`WINDOW`].
pub(super) const OF_A_CLIENT: u8 = 3;

/// Lets so many lines of a kind through within [`WINDOW`]. What an operator asked to see in detail, `debug` and `trace`, is not limited.
#[derive(Clone)]
pub(super) struct Limit {
    /// Zero for no limit.
    max: Arc<AtomicU64>,
    kinds: Arc<Mutex<HashMap<callsite::Identifier, Kind>>>,
}

#[derive(Default)]
struct Kind {
    lines: u64,
    left_out: u64,
    message: String,
    /// Lines about each client, which is known by its hash; no more clients than lines.
    clients: HashMap<u64, u8>,
}

impl Limit {
    pub(super) fn new(max: u64) -> Self {
        Self {
            max: Arc::new(AtomicU64::new(max)),
            kinds: Arc::default(),
        }
    }

    /// So many from now on.
    pub(super) fn set(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Tells what was left out, and lets lines through again.
    pub(super) fn begin_window(&self) {
        let kinds = std::mem::take(&mut *self.kinds.lock());
        for kind in kinds.into_values().filter(|kind| kind.left_out > 0) {
            tracing::warn!(left_out = kind.left_out, kind = %kind.message, "further lines of this kind were left out");
        }
    }

    /// Whether one more line is let through.
    fn takes(&self, event: &Event<'_>, max: u64) -> bool {
        let mut subject = Subject::default();
        event.record(&mut subject);
        let mut kinds = self.kinds.lock();
        let kind = kinds.entry(event.metadata().callsite()).or_default();
        let of_client = subject.client.and_then(|client| kind.clients.get_mut(&client));
        let heard = of_client.as_ref().is_some_and(|lines| **lines >= OF_A_CLIENT);
        if kind.lines < max && !heard {
            kind.lines += 1;
            match (of_client, subject.client) {
                (Some(lines), _) => *lines += 1,
                (None, Some(client)) => drop(kind.clients.insert(client, 1)),
                (None, None) => {}
            }
            return true;
        }
        if kind.left_out == 0 {
            kind.message = subject.message;
        }
        kind.left_out += 1;
        false
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let max = self.max.load(Ordering::Relaxed);
        if max == 0 || *metadata.level() > Level::INFO {
            return true;
        }
        self.takes(event, max)
    }
}

/// What a line says, which is a constant phrase, and about which client.
#[derive(Default)]
struct Subject {
    message: String,
    /// Its hash.
    client: Option<u64>,
}

impl Visit for Subject {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = Clean(value).to_string();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "client" {
            self.client = Some(BuildHasherDefault::<DefaultHasher>::default().hash_one(value));
        }
    }
}
