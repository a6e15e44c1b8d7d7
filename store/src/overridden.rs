//! The one system call of sled's that must not be what it is.
//!
//! sled 0.34 ends its flush in `sync_file_range`, which neither empties the drive's cache nor keeps a file's new length, and then reuses
//! space as if it had. The linker prefers this function to the C library's, so that sled's rule holds for the device too.
#![allow(unsafe_code, reason = "a function of the C library is replaced")]

use std::sync::atomic::{AtomicU64, Ordering};

/// How often sled came this way.
pub(crate) static CALLS: AtomicU64 = AtomicU64::new(0);

/// `fdatasync(2)` in place of `sync_file_range(2)`.
///
/// # Safety
/// As the C library's: any arguments may come.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn sync_file_range(fd: i32, _offset: i64, _bytes: i64, _flags: u32) -> i32 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the call takes any number and says so if it is not a file's.
    unsafe { libc::fdatasync(fd) }
}
