//! Copies of what the store holds, made while the gateway runs, and its way to another folder.

use super::commits::Committer;
use super::hub::Hub;
use super::promise::Promise;
use crate::queries::QueryError;
use headgate_model::StoreError;
use headgate_model::store::{Ended, SnapshotFile, StoreMove};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;
use std::time::Duration;

/// How soon a store is asked again that cannot just now.
const AGAIN: Duration = Duration::from_millis(100);

type Answer = Result<Vec<SnapshotFile>, QueryError>;

/// Somebody wants a copy.
pub(super) struct WantedSnapshot {
    into: PathBuf,
    answer: Arc<Promise<Answer>>,
}

impl WantedSnapshot {
    pub(super) fn answer(self, answer: Answer) {
        let waker = self.answer.keep(answer);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Hub {
    /// Lets the store put files into this empty folder from which a store can be opened that has all that was committed until then
    /// ([`Store::snapshot`](headgate_model::Store::snapshot)). Comes back when they are there. One copy at a time: whoever asked before and has none yet is told
    /// [`QueryError::Busy`].
    pub async fn snapshot_store(&self, into: PathBuf) -> Answer {
        let answer = Arc::<Promise<Answer>>::default();
        let wanted = WantedSnapshot {
            into,
            answer: Arc::clone(&answer),
        };
        let earlier = {
            let mut commits = self.0.commits.lock();
            if commits.stop {
                return Err(QueryError::Stopped);
            }
            commits.snapshot.replace(wanted)
        };
        if let Some(earlier) = earlier {
            earlier.answer(Err(QueryError::Busy));
        }
        self.wake_store_by(self.0.clock.now());
        answer.wait().await
    }

    /// Lets the store go to another folder ([`Store::move_to`](headgate_model::Store::move_to)). Comes back when it is there, or stays where it is. It goes on
    /// although nobody waits for it. One that was asked for just before is given up.
    pub async fn move_store(
        &self,
        folder: PathBuf,
        is_wanted: Arc<AtomicBool>,
        arrive: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let answer = Arc::<Promise<Result<(), StoreError>>>::default();
        let kept = Arc::clone(&answer);
        let to = StoreMove {
            folder,
            is_wanted,
            arrive: Box::new(arrive),
            ended: Ended::new(move |ended| {
                let waker = kept.keep(ended);
                waker.into_iter().for_each(Waker::wake);
            }),
        };
        let unused = {
            let mut commits = self.0.commits.lock();
            match commits.stop {
                true => Some(to),
                false => commits.move_to.replace(to),
            }
        };
        // Whoever waits for that one is told.
        drop(unused);
        self.0.commits_changed.notify_one();
        answer.wait().await
    }

    /// Makes the copy that is wanted, between two commits.
    pub(super) fn make_snapshot(&self, committer: &mut Committer) {
        let Some(wanted) = self.0.commits.lock().snapshot.take() else {
            return;
        };
        if committer.is_behind() {
            return wanted.answer(Err(QueryError::StoreFails));
        }
        match committer.store.snapshot(&wanted.into) {
            Ok(Some(files)) => wanted.answer(Ok(files)),
            Err(error) => wanted.answer(Err(error.into())),
            Ok(None) => {
                self.0.commits.lock().snapshot.get_or_insert(wanted);
                self.wake_store_by(self.0.clock.now() + AGAIN);
            }
        }
    }
}
