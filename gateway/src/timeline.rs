//! The wall time by which the store counts.
//!
//! Boards without a clock start in 1970, and a clock that is set jumps; neither may end sessions early or keep them for ever. So the gateway has
//! a time of its own: it goes on where it stood at the last run, plus what the system's clock says has passed since, and never back. While
//! the gateway runs, only the monotonic clock moves it. The file `clock` in the data folder keeps both times side by side; it is written at
//! the start, every ten minutes, when the system's clock was set, and at the end.

use headgate_bus::handle::Clock;
use headgate_model::WallTime;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often both times are written down.
const EVERY: Duration = Duration::from_secs(600);
/// How often it is looked whether the system's clock was set.
const LOOK: Duration = Duration::from_secs(10);
/// So far the two may drift apart unnoticed.
const DRIFT: u64 = 2_000;

/// The times at one moment, ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    system: u64,
    gateway: u64,
}

/// Keeps the file.
#[derive(Debug)]
pub struct Timeline {
    file: PathBuf,
    clock: Clock,
    last: Pair,
}

impl Timeline {
    /// Goes on where the last run in this data folder stood.
    pub fn start(data_dir: &Path) -> Self {
        let file = data_dir.join("clock");
        let system = system_time();
        let saved = read(&file);
        let gateway = resume(saved, system);
        if let Some(saved) = saved.filter(|saved| saved.system > system) {
            let behind = Duration::from_millis(saved.system - system);
            tracing::warn!(
                behind = %humantime::format_duration(Duration::from_secs(behind.as_secs())),
                "the system's clock is behind the last run: time goes on from there"
            );
        }
        let timeline = Self {
            file,
            clock: Clock::start_at(WallTime(gateway)),
            last: Pair { system, gateway },
        };
        timeline.save(timeline.last);
        timeline
    }

    /// The gateway's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Writes both times down when it is time to, for ever.
    pub async fn keep(mut self) {
        let mut saved_at = self.clock.now();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.now();
            let drift = (now.system.wrapping_sub(self.last.system))
                .abs_diff(now.gateway.wrapping_sub(self.last.gateway));
            if drift > DRIFT {
                tracing::info!("the system's clock was set");
            }
            if drift > DRIFT || self.clock.now() >= saved_at + EVERY {
                self.save(now);
                saved_at = self.clock.now();
            }
            self.last = now;
        }
    }

    fn now(&self) -> Pair {
        Pair {
            system: system_time(),
            gateway: self.clock.wall().0,
        }
    }

    fn save(&self, pair: Pair) {
        if let Err(error) = write(&self.file, pair) {
            tracing::warn!(file = %self.file.display(), %error, "the time could not be written down");
        }
    }
}

/// Writes both times down at the end of a run.
pub fn save_now(data_dir: &Path, clock: Clock) -> io::Result<()> {
    let pair = Pair {
        system: system_time(),
        gateway: clock.wall().0,
    };
    write(&data_dir.join("clock"), pair)
}

/// The gateway's time now, from both times of the last run and the system's now.
fn resume(saved: Option<Pair>, system: u64) -> u64 {
    match saved {
        None => system,
        Some(Pair {
            system: before,
            gateway,
        }) => gateway.saturating_add(system.saturating_sub(before)),
    }
}

fn system_time() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn read(file: &Path) -> Option<Pair> {
    parse(&std::fs::read_to_string(file).ok()?)
}

fn parse(text: &str) -> Option<Pair> {
    let (system, gateway) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Pair {
        system: system.parse().ok()?,
        gateway: gateway.parse().ok()?,
    })
}

/// It is there whole or not at all.
fn write(path: &Path, pair: Pair) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    writeln!(file, "{} {}", pair.system, pair.gateway)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: Pair = Pair {
        system: 1_000_000,
        gateway: 900_000,
    };

    #[test]
    fn the_time_that_the_gateway_was_off_counts() {
        assert_eq!(resume(None, 1_000), 1_000);
        assert_eq!(resume(Some(SAVED), 1_060_000), 960_000);
    }

    /// [X13] A board without a clock starts in 1970.
    #[test]
    fn time_never_goes_back() {
        assert_eq!(resume(Some(SAVED), 0), 900_000);
        assert_eq!(resume(Some(SAVED), 999_999), 900_000);
        assert_eq!(resume(Some(SAVED), u64::MAX), u64::MAX - 100_000);
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_file_is_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        assert_eq!(read(&file), None);
        write(&file, SAVED).unwrap();
        assert_eq!(read(&file), Some(SAVED));
        for text in ["", "\n", "1 2", "1\n", "x 2\n", "1 2 3\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
