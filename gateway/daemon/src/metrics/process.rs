//! What the system says of the gateway's process.

/// The names that Prometheus' own clients use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// Bytes in memory, files that are mapped included.
    pub resident: Option<u64>,
    /// Seconds of processors.
    pub cpu_seconds: Option<f64>,
    /// Open files and sockets, and how many there may be.
    pub open_files: Option<u64>,
    /// How many there may be.
    pub max_files: Option<u64>,
}

impl Process {
    /// Now. Nothing where the system has no `/proc`.
    pub(crate) fn now() -> Self {
        let page = rustix::param::page_size() as u64;
        let ticks = rustix::param::clock_ticks_per_second();
        let read = |file: &str| std::fs::read_to_string(file).ok();
        Self {
            resident: read("/proc/self/statm")
                .and_then(|text| pages(&text))
                .map(|pages| pages * page),
            cpu_seconds: read("/proc/self/stat")
                .and_then(|text| ticks_used(&text))
                .map(|used| used as f64 / ticks as f64),
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count() as u64),
            max_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

/// Resident pages: field 2 of /proc/self/statm.
fn pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// In user and system mode: fields 14 and 15 of /proc/self/stat. The name, field 2, is in brackets and may hold anything.
fn ticks_used(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(pages("9000 700 300 12 0 80 0\n"), Some(700));
        let stat = "7 (head) gate) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 9 0 1 2 3";
        assert_eq!(ticks_used(stat), Some(200));
        assert_eq!(ticks_used("7 (x) S 1"), None);
    }
}
