//! Waits for what may have no time.

use tokio::time::{Instant, sleep_until};

/// Until then; `None`: for ever.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
