//! Keeps a socket or line served: when its task panics, it is started anew.
//!
//! A panic is a fault of ours that some datagram met. Of it the clients of that one socket shall know no more than of a gateway that was restarted: their
//! sessions are the bus's, and whoever was connected is told to connect again. Everything that the task had in its hands is thrown away with it.
//!
//! Always true: the next start waits for a pause, which grows as long as one panic follows another, so that a fault at every start does not keep a core busy.

use futures_util::FutureExt;
use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause after the first panic; each one after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// It grows no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A task that ran for so long was well: the next pause is the first again.
const WELL: Duration = Duration::from_secs(60);

/// Serves what `start` gives until that ends by itself. `failed` hears of each panic and of each start that came to nothing; `name` is what the log says of it.
pub async fn keep_serving<F, E>(name: &str, mut start: impl FnMut() -> Result<F, E>, mut failed: impl FnMut())
where
    F: Future<Output = ()>,
    E: Display,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let Err(why) = run(&mut start).await else {
            return;
        };
        failed();
        if began.elapsed() >= WELL {
            pause = FIRST_PAUSE;
        }
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(listener = %name, %why, pause_ms, "a listener has failed, and is started anew after a pause");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why a life did not end by itself.
#[derive(Debug, thiserror::Error)]
enum Failure<E> {
    /// It did not begin.
    #[error("{0}")]
    Start(E),
    /// It panicked, with these words.
    #[error("panic: {0}")]
    Panic(String),
}

/// One life, and why it ended if not by itself.
async fn run<F, E>(start: &mut impl FnMut() -> Result<F, E>) -> Result<(), Failure<E>>
where
    F: Future<Output = ()>,
    E: Display,
{
    let started = catch_unwind(AssertUnwindSafe(start)).map_err(|panic| describe(&*panic))?;
    let task = started.map_err(Failure::Start)?;
    let mut task = Box::pin(AssertUnwindSafe(task));
    let ended = AssertUnwindSafe(task.as_mut()).catch_unwind().await;
    // What it leaves behind may be in disorder, too.
    let left = catch_unwind(AssertUnwindSafe(|| drop(task)));
    ended.and(left).map_err(|panic| describe(&*panic))
}

fn describe<E>(panic: &(dyn Any + Send)) -> Failure<E> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::Panic(text.unwrap_or("without words").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Lives that end as told, one after the other; when each began, and how many failed.
    fn lives(lives: &[&str]) -> (Vec<u64>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (begun, failed) = (RefCell::new(Vec::new()), Cell::new(0));
        runtime.block_on(async {
            let zero = Instant::now();
            let start = || {
                let life = lives[begun.borrow().len()].to_owned();
                begun
                    .borrow_mut()
                    .push(u64::try_from(zero.elapsed().as_millis()).expect("short"));
                match life.as_str() {
                    "refused" => return Err("the address is taken"),
                    "stillborn" => panic!("stillborn"),
                    _ => {}
                }
                Ok(async move {
                    struct Untidy(bool);
                    impl Drop for Untidy {
                        fn drop(&mut self) {
                            assert!(!self.0, "untidy");
                        }
                    }
                    let _kept = Untidy(life == "untidy");
                    match life.as_str() {
                        "panic" => panic!("at once"),
                        "late" => {
                            sleep(Duration::from_millis(5)).await;
                            panic!("{life}");
                        }
                        "old" => {
                            sleep(WELL).await;
                            panic!("in the end");
                        }
                        _ => {}
                    }
                })
            };
            keep_serving("test", start, || failed.set(failed.get() + 1)).await;
        });
        (begun.into_inner(), failed.get())
    }

    #[test]
    fn what_ends_by_itself_is_not_started_again() {
        assert_eq!(lives(&["well"]), (vec![0], 0));
    }

    /// Whatever fails, and wherever: the next life begins after a pause that doubles.
    #[test]
    fn what_panics_is_started_again_after_a_growing_pause() {
        let begun = vec![0, 100, 305, 705, 1_505, 3_105];
        let told = ["panic", "late", "refused", "stillborn", "untidy", "well"];
        assert_eq!(lives(&told), (begun, 5));
    }

    #[test]
    fn pauses_do_not_grow_for_ever_and_are_short_again_after_a_long_life() {
        let mut told = vec!["panic"; 20];
        told.extend(["old", "panic", "well"]);
        let (begun, failed) = lives(&told);
        assert_eq!(failed, 22);
        let pauses: Vec<u64> = begun.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(
            pauses[8..20],
            [
                25_600, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000,
                30_000
            ]
        );
        assert_eq!(pauses[20..], [60_100, 200]);
    }

    #[test]
    fn a_panic_is_described() {
        for (panic, told) in [
            (Box::new("words") as Box<dyn Any + Send>, "panic: words"),
            (Box::new("more".to_owned()), "panic: more"),
            (Box::new(7), "panic: without words"),
        ] {
            assert_eq!(describe::<&str>(&*panic).to_string(), told);
        }
    }
}
