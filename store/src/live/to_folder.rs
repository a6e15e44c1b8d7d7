//! The way to another folder, perhaps on another disk.
//!
//! Links to the files of the store ([`Store::snapshot`]) are copied by a thread, which opens a store of the copy. What is committed since the links were made is kept in
//! memory meanwhile, and is committed there when that store is open; from then on each commit goes to both. When both are even the new one is synced, and used.
//!
//! What is kept has a bound ([`MOST_KEPT`]). Beyond it the copy so far is brought up to date by newer links, which takes less time than it took before.

use super::folders;
use super::to_disk::Step;
use super::walk::bytes_of;
use crate::disk::{DiskSettings, DiskStore, Durability};
use crate::open::{failed, words};
use headgate_model::store::{Ended, SnapshotFile, StoreMove};
use headgate_model::{Store, StoreError, StoreOp};
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of operations that are kept while files are copied.
const MOST_KEPT: usize = 64 << 20;
/// How often a copy is brought up to date before it is given up.
const MOST_PASSES: u32 = 20;
/// How long a moment for links is awaited.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes after which a copy looks whether it is still wanted.
const PIECE: usize = 1 << 20;

/// See the module.
pub(crate) struct ToFolder {
    folder: PathBuf,
    is_wanted: Arc<AtomicBool>,
    /// The copy is not used: its thread ends.
    is_given_up: Arc<AtomicBool>,
    arrive: Option<Box<dyn FnOnce() -> Result<(), StoreError> + Send>>,
    ended: Ended,
    settings: DiskSettings,
    stage: Stage,
    /// Since when a moment for links is awaited.
    linking: Instant,
    /// What the copy has not, commit by commit.
    kept: VecDeque<Vec<StoreOp>>,
    kept_bytes: usize,
    most_kept: usize,
    /// More was committed than is kept.
    is_over: Arc<AtomicBool>,
    passes: u32,
    /// Bytes that were committed since the last step.
    committed: usize,
}

enum Stage {
    /// A moment is awaited in which there can be links.
    Linking(Files),
    Copying(JoinHandle<Copied>),
    /// What was kept is committed.
    Following(Box<DiskStore>),
    /// The tables are brought up to date, for the journal is quicker to read then.
    Settling(Box<DiskStore>),
    /// Most of it is synced before the store in use waits for the rest.
    Syncing(Box<DiskStore>, JoinHandle<io::Result<()>>),
    Even(Box<DiskStore>),
    /// A step is being made, or has failed.
    Nothing,
}

/// What the thread has made: a store, unless there was too much to follow; and what it knows of the files.
type Copied = Result<(Option<Box<DiskStore>>, Files), StoreError>;
/// The files that were copied, by name, and so many bytes of each.
type Files = HashMap<String, u64>;

impl std::fmt::Debug for ToFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToFolder")
            .field("folder", &self.folder)
            .field("kept_bytes", &self.kept_bytes)
            .finish_non_exhaustive()
    }
}

impl ToFolder {
    /// Begins. A store in the new folder goes; what else is there stays.
    pub(crate) fn begin(to: StoreMove, settings: DiskSettings, most_kept: u64) -> Self {
        Self {
            folder: std::path::absolute(&to.folder).unwrap_or(to.folder),
            is_wanted: to.is_wanted,
            is_given_up: Arc::default(),
            arrive: Some(to.arrive),
            ended: to.ended,
            // Nothing is promised before it is in use.
            settings: DiskSettings {
                durability: Durability::ProcessCrash,
                ..settings
            },
            stage: Stage::Linking(Files::new()),
            linking: Instant::now(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            most_kept: usize::try_from(most_kept).unwrap_or(usize::MAX).min(MOST_KEPT),
            is_over: Arc::default(),
            passes: 0,
            committed: 0,
        }
    }

    /// Makes a commit in both, or keeps it for the new one. What is wrong with the new one is no fault of the commit.
    pub(crate) fn commit(
        &mut self,
        from: &mut DiskStore,
        ops: &[StoreOp],
    ) -> Result<Result<(), StoreError>, StoreError> {
        let named = from.resolve(ops);
        let ops = named.as_deref().unwrap_or(ops);
        from.commit(ops)?;
        let bytes = ops.iter().map(bytes_of).sum::<usize>();
        Ok(match &mut self.stage {
            Stage::Linking(_) | Stage::Nothing => Ok(()),
            Stage::Copying(_) | Stage::Following(_) => {
                self.keep(ops.to_vec(), bytes);
                Ok(())
            }
            Stage::Settling(to) | Stage::Syncing(to, _) | Stage::Even(to) => to.commit(ops),
        })
    }

    fn keep(&mut self, ops: Vec<StoreOp>, bytes: usize) {
        self.committed += bytes;
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        self.kept_bytes += bytes;
        self.kept.push_back(ops);
        // Whoever follows comes to the end whatever others commit.
        if self.kept_bytes > self.most_kept && matches!(self.stage, Stage::Copying(_)) {
            self.is_over.store(true, Ordering::Relaxed);
            (self.kept, self.kept_bytes) = (VecDeque::new(), 0);
        }
    }

    /// One step on the way.
    pub(crate) fn step(&mut self, from: &mut DiskStore) -> Result<Step, StoreError> {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return Err(failed("move the store", "it is not wanted any more"));
        }
        let (stage, step) = match std::mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Linking(known) => self.link(from, known)?,
            Stage::Copying(copying) if !copying.is_finished() => (Stage::Copying(copying), Step::Wait),
            Stage::Copying(copying) => (self.copied(from, copying)?, Step::More),
            Stage::Following(to) => (self.follow(to, from)?, Step::More),
            Stage::Settling(mut to) => {
                to.maintain()?;
                match to.is_settling() {
                    true => (Stage::Settling(to), Step::Wait),
                    false => (self.sync(to)?, Step::Wait),
                }
            }
            Stage::Syncing(to, syncing) if !syncing.is_finished() => {
                (Stage::Syncing(to, syncing), Step::Wait)
            }
            Stage::Syncing(to, syncing) => {
                let synced = syncing.join();
                let synced = synced.unwrap_or_else(|panic| Err(io::Error::other(words(&*panic))));
                synced.map_err(not_synced)?;
                has_room(&to, from)?;
                (Stage::Even(to), Step::Done)
            }
            Stage::Even(to) => (Stage::Even(to), Step::Done),
            Stage::Nothing => (Stage::Nothing, Step::Wait),
        };
        self.stage = stage;
        Ok(step)
    }

    /// From here on commits are kept.
    fn link(&mut self, from: &mut DiskStore, known: Files) -> Result<(Stage, Step), StoreError> {
        let links = folders::copying(from.folder());
        folders::remove(&links)?;
        fs::create_dir(&links).map_err(|e| failed("copy the store", e))?;
        let Some(files) = from.snapshot(&links)? else {
            if self.linking.elapsed() > PATIENCE {
                let why = "there is no moment to copy it in: its disk is full, or fails";
                return Err(failed("copy the store", why));
            }
            return Ok((Stage::Linking(known), Step::Wait));
        };
        self.is_over = Arc::default();
        let copy = Copy {
            links,
            to: self.folder.clone(),
            files,
            known,
            settings: self.settings,
            is_given_up: Arc::clone(&self.is_given_up),
            is_over: Arc::clone(&self.is_over),
        };
        let thread = std::thread::Builder::new().name("store-copy".into());
        let copying = thread.spawn(move || copy.run());
        let copying = copying.map_err(|e| failed("copy the store", e))?;
        Ok((Stage::Copying(copying), Step::More))
    }

    fn copied(&mut self, from: &DiskStore, copying: JoinHandle<Copied>) -> Result<Stage, StoreError> {
        let copied = copying.join();
        let copied = copied.unwrap_or_else(|panic| Err(failed("copy the store", words(&*panic))));
        folders::remove(&folders::copying(from.folder()))?;
        let (store, known) = copied?;
        let is_over = self.is_over.load(Ordering::Relaxed);
        match store.filter(|_| !is_over) {
            Some(to) => Ok(Stage::Following(to)),
            None if self.passes < MOST_PASSES => {
                self.passes += 1;
                self.linking = Instant::now();
                Ok(Stage::Linking(known))
            }
            None => Err(failed(
                "move the store",
                "more is committed all the time than can be copied",
            )),
        }
    }

    fn follow(&mut self, mut to: Box<DiskStore>, from: &DiskStore) -> Result<Stage, StoreError> {
        let mut left = super::step_bytes(self.settings) + std::mem::take(&mut self.committed);
        while left > 0 {
            let Some(ops) = self.kept.pop_front() else {
                has_room(&to, from)?;
                to.begin_to_settle()?;
                return Ok(Stage::Settling(to));
            };
            let bytes = ops.iter().map(bytes_of).sum::<usize>();
            self.kept_bytes -= bytes;
            left = left.saturating_sub(bytes.max(1));
            to.commit(&ops)?;
        }
        has_room(&to, from)?;
        to.maintain()?;
        Ok(Stage::Following(to))
    }

    fn sync(&mut self, to: Box<DiskStore>) -> Result<Stage, StoreError> {
        let folder = self.folder.clone();
        let thread = std::thread::Builder::new().name("store-sync".into());
        let syncing = thread.spawn(move || folders::sync_all(&folder));
        Ok(Stage::Syncing(to, syncing.map_err(not_synced)?))
    }

    /// Makes all of it durable in the new folder, which is the store from then on; an error leaves everything as it was.
    pub(crate) fn arrive(&mut self, durability: Durability) -> Result<(), StoreError> {
        let (Stage::Even(to), Some(arrive)) = (&mut self.stage, self.arrive.take()) else {
            return Err(failed("move the store", "it is not there yet"));
        };
        to.set_durability(durability);
        to.is_well()?;
        folders::sync_all(&self.folder).map_err(not_synced)?;
        folders::sync_parent(&self.folder)?;
        arrive()
    }

    /// The store that is used from now on, its folder, and who waits.
    pub(crate) fn arrived(self) -> Option<(Box<DiskStore>, PathBuf, Ended)> {
        match self.stage {
            Stage::Even(to) => Some((to, self.folder, self.ended)),
            _ => None,
        }
    }

    /// Removes what there is of the copy, and tells why there is none. It may have to wait for what is being copied.
    pub(crate) fn give_up(self, error: StoreError) {
        self.is_given_up.store(true, Ordering::Relaxed);
        match self.stage {
            Stage::Copying(copying) => drop(copying.join()),
            Stage::Syncing(to, syncing) => {
                to.forsake();
                drop(syncing.join());
            }
            Stage::Following(to) | Stage::Settling(to) | Stage::Even(to) => to.forsake(),
            Stage::Linking(_) | Stage::Nothing => {}
        }
        if let Err(error) = crate::remove_store(&self.folder) {
            super::tell_left(Err(failed("remove what is left of a store", error)));
        }
        drop(self.arrive);
        self.ended.tell(Err(error));
    }
}

/// One that is full where it is may be full where it goes.
fn has_room(to: &DiskStore, from: &DiskStore) -> Result<(), StoreError> {
    match to.has_room() || !from.has_room() {
        true => Ok(()),
        false => Err(failed("write the store", "there is no room for all of it")),
    }
}

fn not_synced(error: io::Error) -> StoreError {
    failed("sync the new store", error)
}

/// A copy that a thread makes.
struct Copy {
    links: PathBuf,
    to: PathBuf,
    files: Vec<SnapshotFile>,
    known: Files,
    settings: DiskSettings,
    is_given_up: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
}

impl Copy {
    fn run(mut self) -> Copied {
        self.copy().map_err(|e| failed("copy the store", e))?;
        if self.is_over.load(Ordering::Relaxed) {
            return Ok((None, self.known));
        }
        let store = Box::new(DiskStore::open(&self.to, self.settings)?);
        store.is_well()?;
        match self.is_over.load(Ordering::Relaxed) {
            false => Ok((Some(store), self.known)),
            true => {
                // It has changed its files.
                store.forsake();
                Ok((None, Files::new()))
            }
        }
    }

    fn copy(&mut self) -> io::Result<()> {
        if self.known.is_empty() {
            crate::remove_store(&self.to)?;
        }
        fs::create_dir_all(self.to.join("journal"))?;
        for SnapshotFile { name, bytes } in std::mem::take(&mut self.files) {
            let mut from = File::open(self.links.join(&name))?;
            // The number of a segment is not given again. The export is written anew.
            let is_segment = name.starts_with("journal/");
            let begun = self.known.get(&name).filter(|_| is_segment).copied().unwrap_or(0);
            self.copy_file(&mut from, &self.to.join(&name), begun, bytes)?;
            self.known.insert(name, bytes);
        }
        self.remove_what_is_gone()
    }

    /// Appends what is behind `begun`; nothing of it is followed by more than `end` bytes.
    fn copy_file(&self, from: &mut File, to: &Path, begun: u64, end: u64) -> io::Result<()> {
        if begun == 0 {
            remove_file(to)?;
        }
        let mut options = File::options();
        let mut to = options.append(true).create_new(begun == 0).open(to)?;
        from.seek(SeekFrom::Start(begun))?;
        let mut from = from.take(end - begun);
        let mut piece = vec![0; PIECE];
        loop {
            if self.is_given_up.load(Ordering::Relaxed) {
                return Err(io::Error::other("it is given up"));
            }
            let count = from.read(&mut piece)?;
            if count == 0 {
                break;
            }
            to.write_all(&piece[..count])?;
        }
        match to.metadata()?.len() == end {
            true => Ok(()),
            false => Err(io::Error::other("a file of the store is shorter than it was")),
        }
    }

    /// Files that an earlier pass has copied and the store has removed since.
    fn remove_what_is_gone(&mut self) -> io::Result<()> {
        let gone = |name: &String| fs::symlink_metadata(self.links.join(name)).is_err();
        let gone: Vec<String> = self.known.keys().filter(|name| gone(name)).cloned().collect();
        for name in gone {
            remove_file(&self.to.join(&name))?;
            self.known.remove(&name);
        }
        Ok(())
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
