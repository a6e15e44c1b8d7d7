//! The time by which certificates are judged, those of clients and those of servers: the system's, unless the process knows better.

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::sync::{Arc, PoisonError, RwLock};

type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

static CLOCK: RwLock<Option<Clock>> = RwLock::new(None);

/// From now on certificates are judged by this clock, in the whole process. It is asked in each handshake.
pub fn judge_by(clock: impl Fn() -> UnixTime + Send + Sync + 'static) {
    *CLOCK.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(clock));
}

/// The time of now.
pub fn now() -> UnixTime {
    let clock = CLOCK.read().unwrap_or_else(PoisonError::into_inner).clone();
    clock.map_or_else(UnixTime::now, |clock| clock())
}

/// The same, as rustls asks for it.
#[derive(Debug)]
pub struct Now;

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now())
    }
}
