//! What a process has used, from /proc/PID/stat, /proc/PID/status and /proc/PID/io.

use super::{BenchError, Plan};
use std::time::{Duration, Instant};

/// The kernel tells times in hundredths of a second, whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time of all its threads, also of those that ended.
    pub cpu: Duration,
    /// Memory it holds now.
    pub rss_bytes: u64,
    /// What it caused to be written to disks; `None` if we may not know.
    pub written_bytes: Option<u64>,
}

impl Usage {
    /// Of this process, or of ourselves.
    pub(crate) fn of(pid: Option<u32>) -> Result<Self, BenchError> {
        let folder = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
        let read = |name: &str| {
            let path = format!("{folder}/{name}");
            std::fs::read_to_string(&path).map_err(|cause| BenchError::Process { path, cause })
        };
        Ok(Self {
            cpu: cpu(&read("stat")?).unwrap_or_default(),
            rss_bytes: rss_bytes(&read("status")?).unwrap_or_default(),
            written_bytes: read("io").ok().and_then(|io| written_bytes(&io)),
        })
    }
}

/// A moment, and what was used until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// When.
    pub at: Instant,
    /// By the broker, if its process is known.
    pub broker: Option<Usage>,
    /// By ourselves.
    pub own: Usage,
}

impl Mark {
    /// Now.
    pub(crate) fn now(plan: &Plan) -> Result<Self, BenchError> {
        Ok(Self {
            broker: plan.pid.map(|pid| Usage::of(Some(pid))).transpose()?,
            own: Usage::of(None)?,
            at: Instant::now(),
        })
    }

    /// Seconds between the two.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        self.at.duration_since(before.at).as_secs_f64()
    }
}

/// Fields 14 and 15; the second, the name, may hold blanks and brackets.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.saturating_add(system))
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

fn written_bytes(io: &str) -> Option<u64> {
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 2 3 0 -1 4 5 6 7 8 150 50 9 9 20 0 4 0 100 1 2";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("42 (a"), None);
    }

    #[test]
    fn memory_is_in_kilobytes() {
        assert_eq!(rss_bytes("Name:\ta\nVmRSS:\t    8192 kB\n"), Some(8 << 20));
        assert_eq!(rss_bytes("Name:\ta\n"), None);
    }

    #[test]
    fn what_was_written_is_in_bytes() {
        let io = "wchar: 9\nread_bytes: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";
        assert_eq!(written_bytes(io), Some(4_096));
        assert_eq!(written_bytes("wchar: 9\n"), None);
    }
}
