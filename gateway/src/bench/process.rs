//! What a process has used, from /proc/PID/stat and /proc/PID/status.

use super::BenchError;
use std::time::Duration;

/// The kernel tells times in hundredths of a second, whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all its threads, also of those that ended.
    pub cpu: Duration,
    /// Memory it holds now.
    pub rss_bytes: u64,
}

impl Usage {
    /// Of this process, or of ourselves.
    pub fn of(pid: Option<u32>) -> Result<Self, BenchError> {
        let folder = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
        let read = |name: &str| {
            let path = format!("{folder}/{name}");
            std::fs::read_to_string(&path).map_err(|cause| BenchError::Process { path, cause })
        };
        Ok(Self {
            cpu: cpu(&read("stat")?).unwrap_or_default(),
            rss_bytes: rss_bytes(&read("status")?).unwrap_or_default(),
        })
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
}
