//! Sees every write and sync of this process: it defines the C library's functions itself, and the linker prefers them.
//!
//! Each does the real thing by system call and, for files below the recorded folder, notes it down in order.
#![allow(unsafe_code, reason = "functions of the C library are replaced")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// What reached the system.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write {
        file: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: PathBuf,
        len: u64,
    },
    /// Of a file or a folder.
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

static RECORDING: AtomicBool = AtomicBool::new(false);
/// Syncs are not noted down, as if they did nothing.
pub(crate) static SYNCS_LIE: AtomicBool = AtomicBool::new(false);
/// Bytes that still fit on the disk.
pub(crate) static ROOM: AtomicI64 = AtomicI64::new(i64::MAX);
static LOG: Mutex<(Option<PathBuf>, Vec<Event>)> = Mutex::new((None, Vec::new()));

/// Records what happens below a folder from now on.
pub(crate) fn start(root: &Path) {
    *lock() = (Some(root.to_owned()), Vec::new());
    RECORDING.store(true, Ordering::SeqCst);
}

/// What was recorded.
pub(crate) fn stop() -> Vec<Event> {
    RECORDING.store(false, Ordering::SeqCst);
    std::mem::take(&mut lock().1)
}

/// How many events there are so far.
pub(crate) fn len() -> usize {
    lock().1.len()
}

fn lock() -> std::sync::MutexGuard<'static, (Option<PathBuf>, Vec<Event>)> {
    LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn path_of(fd: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

fn note(path: Option<PathBuf>, event: impl FnOnce(PathBuf) -> Event) {
    let Some(path) = path else { return };
    let mut log = lock();
    if log.0.as_ref().is_some_and(|root| path.starts_with(root)) {
        log.1.push(event(path));
    }
}

fn is_below(path: Option<PathBuf>) -> bool {
    let log = lock();
    path.zip(log.0.as_ref())
        .is_some_and(|(path, root)| path.starts_with(root))
}

fn recording() -> bool {
    RECORDING.load(Ordering::SeqCst)
}

/// A write at `offset`, or at the file's position. Noted before it is done: nobody may sync it in between unseen.
unsafe fn noted_write(fd: c_int, from: *const c_void, count: usize, offset: Option<i64>) -> isize {
    if recording() {
        // SAFETY: the caller of `write` vouches for the buffer.
        let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count) }.to_vec();
        // SAFETY: asks for a number.
        let at = offset.unwrap_or_else(|| unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            let whence = if flags & libc::O_APPEND != 0 {
                libc::SEEK_END
            } else {
                libc::SEEK_CUR
            };
            libc::syscall(libc::SYS_lseek, fd, 0_i64, whence)
        });
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if is_below(path_of(fd)) && ROOM.fetch_sub(count, Ordering::SeqCst) < count {
            ROOM.fetch_add(count, Ordering::SeqCst);
            // SAFETY: the thread's own.
            unsafe { *libc::__errno_location() = libc::ENOSPC };
            return -1;
        }
        if at >= 0 {
            note(path_of(fd), |file| Event::Write {
                file,
                offset: at as u64,
                bytes,
            });
        }
    }
    // SAFETY: as the C library does it.
    unsafe {
        match offset {
            Some(offset) => libc::syscall(libc::SYS_pwrite64, fd, from, count, offset) as isize,
            None => libc::syscall(libc::SYS_write, fd, from, count) as isize,
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, from: *const c_void, count: usize) -> isize {
    // SAFETY: handed on.
    unsafe { noted_write(fd, from, count, None) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, from: *const c_void, count: usize, offset: i64) -> isize {
    // SAFETY: handed on.
    unsafe { noted_write(fd, from, count, Some(offset)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, len: i64) -> c_int {
    if recording() {
        note(path_of(fd), |file| Event::Truncate {
            file,
            len: len as u64,
        });
    }
    // SAFETY: as the C library does it.
    unsafe { libc::syscall(libc::SYS_ftruncate, fd, len) as c_int }
}

fn noted_sync(fd: c_int, call: i64) -> c_int {
    // SAFETY: takes any number.
    let result = unsafe { libc::syscall(call, fd) as c_int };
    if result == 0 && recording() && !SYNCS_LIE.load(Ordering::SeqCst) {
        note(path_of(fd), Event::Sync);
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    noted_sync(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    noted_sync(fd, libc::SYS_fdatasync)
}

unsafe fn text(path: *const c_char) -> Option<PathBuf> {
    // SAFETY: the caller hands a C string over.
    let text = unsafe { CStr::from_ptr(path) };
    Some(PathBuf::from(text.to_str().ok()?))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: as the C library does it.
    let result =
        unsafe { libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) as c_int };
    if result == 0 && recording() {
        // SAFETY: both were strings a moment ago.
        let (from, to) = unsafe { (text(from), text(to)) };
        note(from, |from| Event::Rename(from, to.unwrap_or_default()));
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    if recording() {
        // SAFETY: the caller hands a C string over.
        let file = unsafe { text(path) };
        let size = file
            .as_ref()
            .and_then(|file| std::fs::metadata(file).ok())
            .map_or(0, |data| data.len());
        if is_below(file) {
            ROOM.fetch_add(size.cast_signed(), Ordering::SeqCst);
        }
    }
    // SAFETY: as the C library does it.
    let result = unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) as c_int };
    if result == 0 && recording() {
        // SAFETY: it was a string a moment ago.
        note(unsafe { text(path) }, Event::Remove);
    }
    result
}
