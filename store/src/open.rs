//! Opens sled without trusting it.
//!
//! sled 0.34 panics on some damaged files. So it is opened and read on a thread that may unwind.

use crate::rows;
use headgate_model::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the whole store's form; a row has its own. Format 2 is format 3 without notes and without sessions that want what has expired: what was
/// written in it is read as it is, and the number keeps versions that would lose these from opening it.
pub(crate) const FORMAT: u64 = 3;

/// sled's threads may hold a closed database a little longer.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What the disk must have room for, or a failure is not the database's fault.
const ROOM: usize = 1 << 20;

/// Why a database did not open.
pub(crate) enum Trouble {
    InUse,
    Newer(u32),
    Bad(String),
}

/// Only one process may have the store, as long as it holds this.
pub(crate) fn lock(path: &Path) -> Result<File, StoreError> {
    std::fs::create_dir_all(path).map_err(|e| failed("create the store's folder", e))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"))
        .map_err(|e| failed("open the store's lock", e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(error)) => Err(failed("lock the store", error)),
    }
}

/// Moves a damaged database out of the way, for whoever can read it; where it is then.
pub(crate) fn set_aside(path: &Path, cause: &str) -> Result<PathBuf, StoreError> {
    has_room(path).map_err(|e| failed("open the store", format!("{cause}; the disk itself fails: {e}")))?;
    let aside = (1..)
        .map(|n| path.with_extension(format!("damaged-{n}")))
        .find(|aside| !aside.exists())
        .expect("there is always a next number");
    std::fs::rename(path, &aside).map_err(|e| failed("set the damaged tables aside", e))?;
    Ok(aside)
}

/// Whether the disk has no room for what opening needs.
pub(crate) fn is_full(path: &Path) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    has_room(path).is_err_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

fn has_room(path: &Path) -> io::Result<()> {
    let test = path.with_extension("room");
    let written = std::fs::write(&test, vec![0xA5; ROOM]).and_then(|()| File::open(&test)?.sync_all());
    std::fs::remove_file(&test)?;
    written
}

/// Opens the database, and reads all of it once: what would panic later panics here.
pub(crate) fn open(path: &Path) -> Result<sled::Db, Trouble> {
    guarded(path, |path| {
        let db = try_open(path)?;
        for row in db.iter() {
            row?;
        }
        Ok(db)
    })
}

/// Does it where a panic harms nobody, once nobody else has the database.
fn guarded<T: Send + 'static>(path: &Path, work: fn(&Path) -> Result<T, Trouble>) -> Result<T, Trouble> {
    for _ in 0..LOCK_TRIES {
        let to_open = path.to_owned();
        let opening = std::thread::Builder::new().name("store-open".into());
        let opened = opening.spawn(move || work(&to_open));
        let opened = opened.map_err(|e| Trouble::Bad(e.to_string()))?;
        match opened.join() {
            Ok(Err(Trouble::InUse)) => std::thread::sleep(LOCK_PAUSE),
            Ok(result) => return result,
            Err(panic) => return Err(Trouble::Bad(words(&*panic))),
        }
    }
    Err(Trouble::InUse)
}

fn try_open(path: &Path) -> Result<sled::Db, Trouble> {
    let db = sled::Config::new()
        .path(path)
        .flush_every_ms(None)
        .cache_capacity(16 << 20)
        .segment_size(512 << 10)
        .use_compression(false)
        .open()?;
    let format = db.get(rows::FORMAT_KEY)?;
    let format = format.map(|value| rows::join(rows::FORMAT_KEY, &value, |_| None));
    match format.map(|body| body.and_then(|body| rows::read_number(&body))) {
        Some(Ok(found)) if found > FORMAT => {
            return Err(Trouble::Newer(u32::try_from(found).unwrap_or(u32::MAX)));
        }
        Some(Ok(FORMAT)) => {}
        // An unreadable number says nothing on the rows, which have versions of their own.
        _ => {
            for (key, value) in rows::cut(rows::FORMAT_KEY, &rows::write_number(FORMAT)) {
                db.insert(key, value)?;
            }
        }
    }
    Ok(db)
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without words"))
}

/// The error of something that was being done.
pub(crate) fn failed(what: &'static str, cause: impl ToString) -> StoreError {
    StoreError::Io {
        what,
        cause: cause.to_string(),
    }
}

fn in_use(path: &Path) -> StoreError {
    StoreError::InUse(path.display().to_string())
}

impl Trouble {
    pub(crate) fn told(self, path: &Path) -> StoreError {
        match self {
            Self::InUse => in_use(path),
            Self::Newer(found) => StoreError::Newer {
                found,
                known: FORMAT as u32,
            },
            Self::Bad(cause) => failed("open the store", cause),
        }
    }
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        match error {
            // The words are all that tells it from others.
            sled::Error::Io(cause) if cause.to_string().contains("could not acquire lock") => Self::InUse,
            error => Self::Bad(error.to_string()),
        }
    }
}
