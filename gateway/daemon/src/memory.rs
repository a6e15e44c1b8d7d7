//! Memory that the gateway holds and does not use, of the allocator's and of its own code. Where the C library is another than glibc, or the system another
//! than Linux, there is nothing to be done.

use std::time::Duration;

/// How often the gateway looks whether it holds memory for nothing.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// glibc keeps freed pieces of up to 128 bytes for requests of exactly their size. What tokio aligns to 128 bytes leaves two such pieces for each
/// connection, which are then never used: 19,000 idle connections took 1,614 bytes each, and take 1,477 when only the smallest are kept so.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the allocator of the C library has no other face")]
pub(crate) fn fill_small_holes() {
    // SAFETY: sets a number of the allocator, before there are threads; what it may not be is refused and changes nothing.
    unsafe { libc::mallopt(libc::M_MXFAST, 32) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn fill_small_holes() {}

/// Where the ledger of memory has less than this, the allocator is told to give memory back rather than to be quick.
const LITTLE: usize = 256 << 20;

/// Where there is little memory, large pieces come from the system and go back to it at once, and two arenas serve all threads: freed memory is memory
/// again. And nothing is in huge pages, which fill what was never touched. Before there are other threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the allocator of the C library has no other face")]
pub(crate) fn stay_small(limit: usize) {
    if limit < LITTLE {
        // SAFETY: sets numbers of the allocator, before there are threads; what they may not be is refused and changes nothing. So it is with what
        // the process says of its pages.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 10);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn stay_small(_limit: usize) {}

/// The limit of the ledger of memory: as it is set, where 0 sets none; or half of what the machine has, or the control group of this process.
pub(crate) fn limit(set: Option<usize>) -> usize {
    match set {
        Some(0) => usize::MAX,
        Some(bytes) => bytes,
        None => of_the_machine().map_or(usize::MAX, |bytes| bytes / 2),
    }
}

/// What there is, in bytes: the least of the machine's memory and the limits of the control groups that this process is in.
pub(crate) fn of_the_machine() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok();
    let total = text.as_deref().and_then(mem_total);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        text.trim().parse::<usize>().ok() // `max` is none
    });
    limits.chain(total).min()
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn mem_total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

/// Where the memory limits of a process's control groups are, by its /proc/self/cgroup: of version 2 its own and those above it, of version 1 its own.
fn limit_files(groups: &str) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let path = std::path::Path::new(path.trim_start_matches('/'));
        if controllers.is_empty() {
            let root = std::path::Path::new("/sys/fs/cgroup");
            files.extend(path.ancestors().map(|group| root.join(group).join("memory.max")));
        } else if controllers.split(',').any(|name| name == "memory") {
            let root = std::path::Path::new("/sys/fs/cgroup/memory");
            files.push(root.join(path).join("memory.limit_in_bytes"));
            files.push(root.join("memory.limit_in_bytes"));
        }
    }
    files
}

/// What was freed behind something that is still used stays with the process, and after a peak (a large checkpoint, a queue that drained, many clients that left)
/// that is most of its memory. Now and then it is given back.
pub(crate) async fn give_back() {
    let mut stuck = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // A walk through all that is free, arena by arena: some 10 ms in a heap of 500 MB, for which only those wait who allocate there at that moment.
        match tokio::task::spawn_blocking(move || give_back_now(stuck)).await {
            Ok(left) => stuck = left,
            Err(error) => tracing::error!(%error, "memory could not be given back"),
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the allocator of the C library has no other face")]
fn give_back_now(stuck: usize) -> usize {
    // SAFETY: reads the allocator's counts, under its own locks.
    let heap = unsafe { libc::mallinfo2() };
    let used = heap.uordblks + heap.hblkhd;
    let unused = resident().saturating_sub(used);
    if !is_worth_it(unused, stuck, used) {
        return stuck.min(unused);
    }
    let began = std::time::Instant::now();
    // SAFETY: gives whole free pages back, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
    let left = resident().saturating_sub(used);
    tracing::debug!(used, unused, left, took = ?began.elapsed(), "memory was given back");
    left
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back_now(stuck: usize) -> usize {
    stuck
}

/// Bytes that the process holds and that are no file's.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the size of a page is the system's")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = statm.and_then(|statm| private_pages(&statm)).unwrap_or(0);
    // SAFETY: asks for the size of a page.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
}

/// Resident pages that are no file's: fields 2 and 3 of /proc/self/statm.
#[cfg_attr(not(all(target_os = "linux", target_env = "gnu")), allow(dead_code))]
fn private_pages(statm: &str) -> Option<usize> {
    let mut fields = statm.split_ascii_whitespace().skip(1);
    let resident: usize = fields.next()?.parse().ok()?;
    let shared: usize = fields.next()?.parse().ok()?;
    resident.checked_sub(shared)
}

/// Whether more is unused than was left `stuck` between what is used the last time, by 8 MiB and an eighth of what is used: less is soon used again.
#[cfg_attr(not(all(target_os = "linux", target_env = "gnu")), allow(dead_code))]
fn is_worth_it(unused: usize, stuck: usize, used: usize) -> bool {
    unused.saturating_sub(stuck) > (8 << 20) + used / 8
}

/// Half of the program's code runs only while it starts: the command line, the configuration. Its pages are unmapped, and mapped again where they are needed
/// after all: what stays resident of an idle gateway's code is what it uses.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "only the dynamic linker knows where the code is")]
pub(crate) fn forget_startup_code() {
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the linker hands over a valid description, and the first object is the program itself.
        let (base, headers) = unsafe {
            let info = &*info;
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
            (info.dlpi_addr as usize, headers)
        };
        // SAFETY: asks for the size of a page.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        for header in headers {
            if header.p_type != libc::PT_LOAD || header.p_flags & (libc::PF_X | libc::PF_W) != libc::PF_X {
                continue;
            }
            let code = base + header.p_vaddr as usize;
            let from = code.next_multiple_of(page);
            let upto = (code + header.p_memsz as usize) / page * page;
            if from < upto {
                // SAFETY: whole pages of code that nobody may write to: they are read from the file again.
                unsafe { libc::madvise(from as *mut libc::c_void, upto - from, libc::MADV_DONTNEED) };
            }
        }
        1
    }
    // SAFETY: `visit` keeps nothing.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::null_mut()) };
}

#[cfg(not(target_os = "linux"))]
pub fn forget_startup_code() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_from_the_machine_unless_it_is_set() {
        assert_eq!(limit(Some(64 << 20)), 64 << 20);
        assert_eq!(limit(Some(0)), usize::MAX);
        assert_eq!(
            mem_total("MemFree: 1 kB\nMemTotal:       1024 kB\n"),
            Some(1 << 20)
        );
        assert_eq!(mem_total("nothing"), None);
        let files = limit_files("0::/system.slice/headgate.service\n");
        let expected = [
            "/sys/fs/cgroup/system.slice/headgate.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected.map(std::path::PathBuf::from));
        let files = limit_files("7:cpu,cpuacct:/x\n6:memory:/box\n");
        let expected = [
            "/sys/fs/cgroup/memory/box/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        assert_eq!(files, expected.map(std::path::PathBuf::from));
    }

    #[test]
    fn pages_of_files_do_not_count() {
        assert_eq!(private_pages("9000 700 300 12 0 80 0\n"), Some(400));
        assert_eq!(private_pages("9000 700"), None);
    }

    #[test]
    fn little_is_kept_and_much_is_given_back() {
        const MIB: usize = 1 << 20;
        for (unused, stuck, used, worth) in [
            (6 * MIB, 0, 6 * MIB, false),
            (20 * MIB, 0, 280 * MIB, false),
            (100 * MIB, 0, 200 * MIB, true),
            (100 * MIB, 90 * MIB, 200 * MIB, false),
            (98 * MIB, 0, 2 * MIB, true),
            (MIB, 2 * MIB, 2 * MIB, false),
        ] {
            assert_eq!(is_worth_it(unused, stuck, used), worth, "{unused} of {used}");
        }
    }

    /// What is freed in front of something that stays is what glibc keeps by itself.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn freed_memory_goes_back_to_the_system() {
        const MIB: usize = 1 << 20;
        const TEST: &str = "memory::tests::freed_memory_goes_back_to_the_system";
        const ALONE: &str = "HEADGATE_TEST_ALONE";
        // It measures the whole process, where other tests run at the same time: it needs one of its own.
        if std::env::var_os(ALONE).is_none() {
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let ended = alone.args(["--exact", TEST]).env(ALONE, "1").output().unwrap();
            let told = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success() && told.contains("1 passed"), "{told}");
            return;
        }
        let before = resident();
        // 64 MiB in pieces of 4 KiB, and a small one behind them.
        let pieces: Vec<Box<[u8]>> = (0..16 << 10).map(|n| vec![n as u8; 4 << 10].into()).collect();
        let stays = vec![1_u8; 100];
        assert!(resident() > before + 32 * MIB, "{} after {before}", resident());
        drop(pieces);
        give_back_now(0);
        assert!(resident() < before + 16 * MIB, "{} after {before}", resident());
        drop(stays);
    }
}
