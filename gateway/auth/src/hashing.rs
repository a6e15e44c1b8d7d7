//! Passwords are checked here: by few threads, fair by address, and only for who still waits.
//!
//! A check takes a core for tens of milliseconds and 19 MiB of memory, and anybody may ask for one. So at most `at_once` run, whatever becomes of
//! those who asked; who has gone is not checked for; and the rest wait in a [`FairQueue`] with two bounds. A thread keeps its memory for the
//! next check, and ends when there was none for a while.

use crate::fair::{FairQueue, Origin};
use crate::settings::PasswordSettings;
use crate::users::{Memory, User, Verdict};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a thread waits for work before it ends and gives its memory back.
const IDLE: Duration = Duration::from_secs(5);

/// Too many wait to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// What was counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) checked: AtomicU64,
    pub(crate) left: AtomicU64,
    pub(crate) busy: AtomicU64,
}

type Check = Box<dyn Fn(&User, &[u8], &mut Memory) -> Verdict + Send + Sync>;

/// The threads and those who wait for them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hashing(Arc<Pool>);

struct Pool {
    at_once: usize,
    check: Check,
    state: Mutex<State>,
    work: Condvar,
    counts: Counts,
}

struct State {
    waiting: FairQueue<Job>,
    threads: usize,
    idle: usize,
}

struct Job {
    user: Arc<User>,
    password: Box<[u8]>,
    answer: oneshot::Sender<Verdict>,
}

/// A place in the queue. Whoever drops it has left.
struct Ticket {
    pool: Arc<Pool>,
    from: Origin,
    number: u64,
}

impl Hashing {
    pub(crate) fn new(settings: &PasswordSettings) -> Self {
        Self::with(settings, Box::new(User::verify))
    }

    fn with(settings: &PasswordSettings, check: Check) -> Self {
        Self(Arc::new(Pool {
            at_once: settings.at_once,
            check,
            state: Mutex::new(State {
                waiting: FairQueue::new(settings.max_waiting, settings.max_waiting_per_address),
                threads: 0,
                idle: 0,
            }),
            work: Condvar::new(),
            counts: Counts::default(),
        }))
    }

    /// Whether this is the user's password. Who drops the future leaves the queue.
    pub(crate) async fn check(
        &self,
        from: Origin,
        user: Arc<User>,
        password: &[u8],
    ) -> Result<Verdict, Busy> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            user,
            password: password.into(),
            answer,
        };
        let place = self.enqueue(from, job)?;
        let right = answered.await;
        // It is not in the queue any more.
        drop(place);
        // Put out for another address: counted when that came.
        right.map_err(|_| Busy)
    }

    fn enqueue(&self, from: Origin, job: Job) -> Result<Ticket, Busy> {
        let pool = &self.0;
        let mut state = pool.state.lock();
        let busy = || {
            pool.counts.busy.fetch_add(1, Ordering::Relaxed);
            Busy
        };
        let (number, put_out) = state.waiting.push(from, job).map_err(|_| busy())?;
        if put_out.is_some() {
            busy();
        }
        if state.waiting.len() <= state.idle {
            pool.work.notify_one();
        } else if state.threads < pool.at_once {
            let shared = Arc::clone(pool);
            let thread = std::thread::Builder::new().name("password".into());
            match thread.spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    tracing::error!(%error, "there is no thread to check passwords");
                    state.waiting.remove(from, number);
                    return Err(busy());
                }
                // The others do it.
                Err(_) => {}
            }
        }
        Ok(Ticket {
            pool: Arc::clone(pool),
            from,
            number,
        })
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.state.lock().waiting.len()
    }
}

impl Pool {
    fn work(&self) {
        let mut memory = Memory::default();
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.waiting.pop() {
                MutexGuard::unlocked(&mut state, || self.answer(job, &mut memory));
                continue;
            }
            state.idle += 1;
            let waited = self.work.wait_for(&mut state, IDLE);
            state.idle -= 1;
            if waited.timed_out() && state.waiting.len() == 0 {
                state.threads -= 1;
                return;
            }
        }
    }

    fn answer(&self, job: Job, memory: &mut Memory) {
        // It may have left since it was taken.
        if job.answer.is_closed() {
            self.counts.left.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let check = AssertUnwindSafe(|| (self.check)(&job.user, &job.password, memory));
        let right = catch_unwind(check).unwrap_or(Verdict::Wrong);
        self.counts.checked.fetch_add(1, Ordering::Relaxed);
        // Who has gone meanwhile does not hear it.
        let _ = job.answer.send(right);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self
            .pool
            .state
            .lock()
            .waiting
            .remove(self.from, self.number)
            .is_some()
        {
            self.pool.counts.left.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashing")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::net::IpAddr;
    use std::sync::mpsc;

    const SETTINGS: PasswordSettings = PasswordSettings {
        at_once: 2,
        max_waiting: 100,
        max_waiting_per_address: 50,
        remember: Duration::ZERO,
    };

    fn at(address: &str) -> Origin {
        Origin::from(address.parse::<IpAddr>().unwrap())
    }

    /// A check that waits for a word of the test, and says which password it has got. The password `right` is right.
    struct Slow {
        hashing: Hashing,
        begun: mpsc::Receiver<String>,
        go_on: mpsc::Sender<()>,
    }

    fn slow(settings: PasswordSettings) -> Slow {
        let (begin, begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let check = move |_: &User, password: &[u8], _: &mut Memory| {
            let password = String::from_utf8_lossy(password).into_owned();
            let verdict = if password == "right" {
                Verdict::Right
            } else {
                Verdict::Wrong
            };
            begin.send(password).unwrap();
            wait.lock().recv().unwrap();
            verdict
        };
        Slow {
            hashing: Hashing::with(&settings, Box::new(check)),
            begun,
            go_on,
        }
    }

    impl Slow {
        fn ask(&self, from: &str, password: &str) -> tokio::task::JoinHandle<Result<Verdict, Busy>> {
            let (hashing, from, password) = (self.hashing.clone(), at(from), password.to_owned());
            let user = Arc::new(User::nobody().unwrap());
            let mut asked = Box::pin(async move { hashing.check(from, user, password.as_bytes()).await });
            // Into the queue now, in the order of the calls.
            let first = asked.as_mut().now_or_never();
            tokio::spawn(async move {
                match first {
                    Some(answer) => answer,
                    None => asked.await,
                }
            })
        }
    }

    /// The flood: at most two are checked at a time, also when those who asked are gone and others come; who has gone is never checked for.
    #[tokio::test]
    async fn what_runs_holds_its_place_and_who_left_is_not_checked_for() {
        let slow = slow(SETTINGS);
        let first: Vec<_> = (0..2)
            .map(|n| slow.ask("10.0.0.1", &format!("first {n}")))
            .collect();
        let mut begun = [slow.begun.recv().unwrap(), slow.begun.recv().unwrap()];
        begun.sort();
        assert_eq!(begun, ["first 0", "first 1"]);
        for round in 0..20 {
            let gone = slow.ask("10.0.0.1", &format!("gone {round}"));
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
        }
        first.iter().for_each(tokio::task::JoinHandle::abort);
        let stays = slow.ask("10.0.0.1", "right");
        assert_eq!(slow.hashing.waiting(), 1, "of those who left nothing is kept");
        assert!(slow.begun.try_recv().is_err(), "both threads still work");
        assert_eq!(slow.hashing.0.state.lock().threads, 2);

        for _ in 0..3 {
            slow.go_on.send(()).unwrap();
        }
        assert_eq!(stays.await.unwrap(), Ok(Verdict::Right));
        assert_eq!(
            slow.begun.try_recv().unwrap(),
            "right",
            "nobody else was checked for"
        );
        assert_eq!(slow.hashing.counts().left.load(Ordering::Relaxed), 20);
    }

    /// One thread, so that the order of the checks is the order of the queue.
    #[tokio::test]
    async fn an_honest_log_in_waits_for_a_few_checks_however_many_wait_elsewhere() {
        let slow = slow(PasswordSettings {
            at_once: 1,
            ..SETTINGS
        });
        let flood: Vec<_> = (0..2_000).map(|_| slow.ask("10.0.0.1", "wrong")).collect();
        let honest = slow.ask("10.0.0.2", "right");
        assert!(slow.hashing.waiting() <= 51, "the rest was refused at once");
        // One runs, one of the flood is next, then it is its turn.
        for _ in 0..3 {
            slow.go_on.send(()).unwrap();
        }
        assert_eq!(honest.await.unwrap(), Ok(Verdict::Right));
        let began: Vec<String> = slow.begun.try_iter().collect();
        let turn = began.iter().position(|password| password == "right");
        assert!(turn.is_some_and(|turn| turn <= 2), "{began:?}");

        let refused = slow.hashing.counts().busy.load(Ordering::Relaxed);
        assert!((1_949..=1_950).contains(&refused), "{refused}");
        for _ in 0..60 {
            slow.go_on.send(()).unwrap();
        }
        let mut answers = Vec::new();
        for asked in flood {
            answers.push(asked.await.unwrap());
        }
        let busy = answers.iter().filter(|answer| **answer == Err(Busy)).count() as u64;
        assert_eq!(busy, refused);
    }
}
