//! The folder in which a gateway keeps its data. It may become another one while the gateway runs.
//!
//! Whoever keeps something there asks for the path each time ([`DataPath::now`]) and holds the answer while it reads or writes: as long as somebody does, the folder
//! stays the same. What takes longer than that, such as a backup, is [`LongWork`]: no move begins before it has ended, and none begins during a move.

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a move waits at its end for who reads or writes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The folder. Clones share it.
#[derive(Clone, Debug)]
pub struct DataDir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: RwLock<PathBuf>,
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    long: usize,
    moves: bool,
}

/// The data are on their way to another folder.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the data are on their way to another folder (`data_dir`): try again when they are there")]
pub struct OnTheWay;

impl From<OnTheWay> for io::Error {
    fn from(on_the_way: OnTheWay) -> Self {
        Self::new(io::ErrorKind::ResourceBusy, on_the_way)
    }
}

impl DataDir {
    /// A folder, which need not be there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            folder: RwLock::new(folder.into()),
            work: Mutex::default(),
        }))
    }

    /// A file or folder in it. An absolute name is elsewhere, and stays there.
    pub fn join(&self, name: impl Into<PathBuf>) -> DataPath {
        DataPath {
            dir: self.clone(),
            name: name.into(),
        }
    }

    /// Where it is now.
    pub fn now(&self) -> Here<'_> {
        Here::new(self, |folder| folder.to_owned())
    }

    /// Begins something that needs the same folder from its beginning to its end.
    pub fn begin_long_work(&self) -> Result<LongWork, OnTheWay> {
        let mut work = self.0.work.lock();
        if work.moves {
            return Err(OnTheWay);
        }
        work.long += 1;
        Ok(LongWork(self.clone()))
    }

    /// Begins a move; `None` while there is long work, or another move.
    pub fn begin_to_move(&self) -> Option<Move> {
        let mut work = self.0.work.lock();
        if work.moves || work.long > 0 {
            return None;
        }
        work.moves = true;
        Some(Move(self.clone()))
    }
}

/// A folder that stays where it is.
impl<P: AsRef<Path> + ?Sized> From<&P> for DataDir {
    fn from(folder: &P) -> Self {
        Self::new(folder.as_ref())
    }
}

/// A file or folder in the data folder, wherever that is.
#[derive(Clone, Debug)]
pub struct DataPath {
    dir: DataDir,
    name: PathBuf,
}

/// A file that stays where it is.
impl From<PathBuf> for DataPath {
    fn from(path: PathBuf) -> Self {
        DataDir::new("").join(path)
    }
}

impl DataPath {
    /// Something in this folder.
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        self.dir.join(self.name.join(name))
    }

    /// Where it is now, for as long as the answer is held.
    pub fn now(&self) -> Here<'_> {
        Here::new(&self.dir, |folder| folder.join(&self.name))
    }
}

/// A path that does not change while this is held, which should not be for long.
#[derive(Debug)]
pub struct Here<'d> {
    path: PathBuf,
    _stays: RwLockReadGuard<'d, PathBuf>,
}

impl<'d> Here<'d> {
    fn new(dir: &'d DataDir, path: impl FnOnce(&Path) -> PathBuf) -> Self {
        // Who holds one may ask for another while a move waits.
        let stays = dir.0.folder.read_recursive();
        Self {
            path: path(&stays),
            _stays: stays,
        }
    }
}

impl Deref for Here<'_> {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Here<'_> {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Something that goes on, and needs the data to stay where they are.
#[derive(Debug)]
pub struct LongWork(DataDir);

impl Drop for LongWork {
    fn drop(&mut self) {
        self.0.0.work.lock().long -= 1;
    }
}

/// A move that goes on.
#[derive(Debug)]
pub struct Move(DataDir);

impl Move {
    /// Lets `finish` end it while nobody reads or writes. When it succeeds, the folder is the new one. An error of [`io::ErrorKind::ResourceBusy`] when somebody does
    /// for two seconds and more.
    pub fn arrive(&self, new: &Path, finish: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let folder = self.0.0.folder.try_write_for(PATIENCE);
        let mut folder = folder.ok_or_else(|| {
            io::Error::new(io::ErrorKind::ResourceBusy, "the data are being written or read")
        })?;
        finish()?;
        new.clone_into(&mut folder);
        Ok(())
    }
}

impl Drop for Move {
    fn drop(&mut self) {
        self.0.0.work.lock().moves = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_after_a_move_is_told_the_new_folder() {
        let dir = DataDir::new("/old");
        let users = dir.join("users.json");
        let elsewhere = dir.join("/etc/users.json");
        assert_eq!(&*users.now(), Path::new("/old/users.json"));
        let moves = dir.begin_to_move().unwrap();
        let refused = || Err(io::Error::other("refused"));
        moves.arrive(Path::new("/refused"), refused).unwrap_err();
        assert_eq!(&*users.now(), Path::new("/old/users.json"));
        moves.arrive(Path::new("/new"), || Ok(())).unwrap();
        assert_eq!(&*users.now(), Path::new("/new/users.json"));
        assert_eq!(&*elsewhere.now(), Path::new("/etc/users.json"));
    }

    #[test]
    fn long_work_and_a_move_exclude_each_other() {
        let dir = DataDir::new("/old");
        let work = dir.begin_long_work().unwrap();
        assert!(dir.begin_to_move().is_none());
        drop(work);
        let moves = dir.begin_to_move().unwrap();
        assert!(dir.begin_to_move().is_none());
        dir.begin_long_work().unwrap_err();
        drop(moves);
        dir.begin_long_work().unwrap();
    }

    /// Who is in the middle of writing is waited for, and may ask for a second path meanwhile.
    #[test]
    fn a_move_waits_for_who_holds_a_path() {
        let dir = DataDir::new("/old");
        let held = dir.now();
        let arriving = std::thread::spawn({
            let dir = dir.clone();
            move || {
                let moves = dir.begin_to_move().unwrap();
                moves.arrive(Path::new("/new"), || Ok(()))
            }
        });
        while dir.0.folder.try_read().is_some() {
            std::thread::yield_now();
        }
        assert_eq!(&*dir.now(), Path::new("/old"));
        drop(held);
        arriving.join().unwrap().unwrap();
        assert_eq!(&*dir.now(), Path::new("/new"));
    }
}
