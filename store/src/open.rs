//! Opens sled without trusting it.
//!
//! sled 0.34 panics on some damaged files and opens others empty without a word. So it is opened and read on a thread that may unwind; a
//! database that does not survive that, or is empty although there were commits, is set aside and a new one begun.

use crate::image::Scan;
use crate::mark::{self, beside};
use crate::rows;
use headgate_model::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Version of the whole store's form; a row has its own.
pub const FORMAT: u64 = 1;

/// sled's threads may hold a closed database a little longer.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What the disk must have room for, or a failure is not the database's fault.
const ROOM: usize = 1 << 20;

/// Why a database did not open.
enum Trouble {
    InUse,
    Newer(u32),
    Bad(String),
}

/// Only one process may have the store, as long as it holds this.
pub fn lock(path: &Path) -> Result<File, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| failed("create the store's folder", e))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(beside(path, "lock"))
        .map_err(|e| failed("open the store's lock", e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(error)) => Err(failed("lock the store", error)),
    }
}

/// Opens and reads the database, or a new one in its place.
pub fn open(path: &Path) -> Result<(sled::Db, Scan), StoreError> {
    let mark = mark::read(path);
    let marked = mark.unwrap_or(0);
    let mut damage = Vec::new();
    let (db, mut scan) = match probe(path) {
        Ok((db, scan)) if !scan.any && mark.is_some() => {
            drop(db);
            begin_anew(path, "it opened empty although it had been in use", &mut damage)?
        }
        Err(Trouble::Bad(cause)) => begin_anew(path, &cause, &mut damage)?,
        opened => opened.map_err(|trouble| trouble.told(path))?,
    };
    if damage.is_empty() && scan.commits < marked {
        damage.push(format!(
            "the store opened with commit {}, but commit {marked} had been reached: what was acknowledged in between is lost",
            scan.commits
        ));
    }
    scan.commits = scan.commits.max(marked);
    tidy(path, &db, &mut scan).unwrap_or_else(|e| damage.push(format!("the store could not be tidied: {e}")));
    damage.append(&mut scan.image.damage);
    scan.image.damage = damage;
    Ok((db, scan))
}

fn begin_anew(path: &Path, cause: &str, damage: &mut Vec<String>) -> Result<(sled::Db, Scan), StoreError> {
    has_room(path).map_err(|e| failed("open the store", format!("{cause}; the disk itself fails: {e}")))?;
    let aside = (1..)
        .map(|n| beside(path, format!("damaged-{n}")))
        .find(|aside| !aside.exists())
        .expect("there is always a next number");
    std::fs::rename(path, &aside).map_err(|e| failed("set the damaged store aside", e))?;
    damage.push(format!(
        "the store was damaged ({cause}); it was set aside as {} and a new one begun",
        aside.display()
    ));
    probe(path).map_err(|trouble| trouble.told(path))
}

fn has_room(path: &Path) -> io::Result<()> {
    let test = beside(path, "room");
    let written = std::fs::write(&test, vec![0xA5; ROOM]).and_then(|()| File::open(&test)?.sync_all());
    std::fs::remove_file(&test)?;
    written
}

/// Opens and reads the database.
fn probe(path: &Path) -> Result<(sled::Db, Scan), Trouble> {
    guarded(path, |path| {
        let db = try_open(path)?;
        let scan = Scan::read(&db)?;
        Ok((db, scan))
    })
}

/// Opens the database again after it failed: sled 0.34 refuses everything from then on, also when a full disk has room again.
/// It must hold what was committed; of a commit that failed it may hold all.
pub fn reopen(path: &Path, commits: u64) -> Result<sled::Db, StoreError> {
    let (db, found) = guarded(path, |path| {
        let db = try_open(path)?;
        let row = db.get(rows::COMMITS_KEY)?.unwrap_or_default();
        let found = rows::join(rows::COMMITS_KEY, &row, |_| None).and_then(|body| rows::read_number(&body));
        Ok((db, found.unwrap_or(0)))
    })
    .map_err(|trouble| trouble.told(path))?;
    if found == commits || found == commits + 1 {
        return Ok(db);
    }
    let cause = format!("it came back with commit {found} instead of {commits}");
    Err(failed("open the store again", cause))
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
    // An unreadable number says nothing on the rows, which have versions of their own.
    if let Some(Ok(found)) = format.map(|body| body.and_then(|body| rows::read_number(&body)))
        && found > FORMAT
    {
        return Err(Trouble::Newer(u32::try_from(found).unwrap_or(u32::MAX)));
    }
    Ok(db)
}

/// Takes out what cannot be read, so that a later row with the same numbers never meets it; it is kept in a file beside.
fn tidy(path: &Path, db: &sled::Db, scan: &mut Scan) -> io::Result<()> {
    let mut batch = sled::Batch::default();
    for (key, number) in [(rows::FORMAT_KEY, FORMAT), (rows::COMMITS_KEY, scan.commits)] {
        let rows = rows::cut(key, &rows::write_number(number));
        rows.into_iter().for_each(|(key, value)| batch.insert(key, value));
    }
    if !scan.bad.is_empty() {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(beside(path, "unreadable"))?;
        for key in &scan.bad {
            let value = db.get(key)?.unwrap_or_default();
            writeln!(file, "{} {}", key.escape_ascii(), value.escape_ascii())?;
            batch.remove(&key[..]);
        }
        file.sync_all()?;
    }
    db.apply_batch(batch)?;
    db.flush()?;
    File::open(path.join("db"))?.sync_all()?;
    mark::sync_folder(&path.join("db"))?;
    // From now on an empty database is a damaged one.
    mark::write(path, scan.commits)
}

/// What a panic said.
pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without words"))
}

/// The error of something that was being done.
pub fn failed(what: &'static str, cause: impl ToString) -> StoreError {
    StoreError::Io {
        what,
        cause: cause.to_string(),
    }
}

fn in_use(path: &Path) -> StoreError {
    StoreError::InUse(path.display().to_string())
}

impl Trouble {
    fn told(self, path: &Path) -> StoreError {
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
