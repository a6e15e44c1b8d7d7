//! The store of a gateway that runs: on the disk or in memory, and from one to the other while it is used.
//!
//! What is there is copied part by part between the commits, and each commit goes to both stores, as far as the copy has come ([`walk`]). Only a copy that is whole
//! is used. **To the disk:** the copy is written beside the old folder, synced, and takes its place in one step ([`folders`]). Until then nothing is promised, as
//! before; cut off in between, the folder is as it was. **To memory:** the folder stays as it is, and grows old.
//!
//! What fails leaves everything as it was, and is tried again each minute.
//!
//! It goes to another folder in the same way ([`to_folder`]); that is tried once, and whoever wanted it is told what came of it.

mod folders;
mod to_disk;
mod to_folder;
mod to_memory;
mod walk;

use crate::disk::{DiskSettings, DiskStore, Durability};
use crate::open::failed;
use crate::sim::SimStore;
use headgate_model::store::{
    FetchLimit, Fetched, SnapshotFile, StoreMove, StorePlace, StoreSettings, StoreStats,
};
use headgate_model::{SessionId, Store, StoreError, StoreImage, StoreOp};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use to_disk::{Step, ToDisk};
use to_folder::ToFolder;
use to_memory::ToMemory;

/// How often a move that failed is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// How often a stop looks whether the disk is done.
const LOOK: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub struct LiveStore {
    folder: PathBuf,
    disk: DiskSettings,
    wanted: StorePlace,
    most_in_memory: u64,
    at: At,
    /// It goes to another folder, and to no other place meanwhile.
    going: Option<Box<ToFolder>>,
    /// When the last try failed.
    failed: Option<Instant>,
    /// What is in the folder was read into memory: it is older than what is there.
    is_read: bool,
    /// What was done by stores that are not used any more.
    before: StoreStats,
}

#[derive(Debug)]
enum At {
    Memory(SimStore, Option<Box<ToDisk>>),
    Disk(Box<DiskStore>, Option<Box<ToMemory>>),
}

impl LiveStore {
    /// Opens it where it is wanted. The folder need not exist.
    pub fn open(
        folder: impl AsRef<Path>,
        disk: DiskSettings,
        wanted: StorePlace,
    ) -> Result<Self, StoreError> {
        let folder = std::path::absolute(folder).map_err(|e| failed("find the store", e))?;
        // It may be a link to another disk: there is where a new one takes its place.
        let folder = folder.canonicalize().unwrap_or(folder);
        folders::clean_up(&folder)?;
        if wanted == StorePlace::Disk && folders::is_outdated(&folder) {
            tracing::warn!(
                store = %folder.display(),
                "the store is as it was when it went to memory: what was delivered since then comes again, and what was acknowledged since then is lost"
            );
        }
        let at = match wanted {
            StorePlace::Memory => At::Memory(SimStore::default(), None),
            StorePlace::Disk => At::Disk(Box::new(DiskStore::open(&folder, disk)?), None),
        };
        Ok(Self {
            folder,
            disk,
            wanted,
            most_in_memory: u64::MAX,
            at,
            going: None,
            failed: None,
            is_read: false,
            before: StoreStats::default(),
        })
    }

    fn place(&self) -> StorePlace {
        match self.at {
            At::Memory(..) => StorePlace::Memory,
            At::Disk(..) => StorePlace::Disk,
        }
    }

    fn is_moving(&self) -> bool {
        match &self.at {
            At::Memory(_, moving) => moving.is_some(),
            At::Disk(_, moving) => moving.is_some(),
        }
    }

    fn store(&mut self) -> &mut dyn Store {
        match &mut self.at {
            At::Memory(store, _) => store,
            At::Disk(store, _) => &mut **store,
        }
    }

    /// Goes a step to where it is wanted. Whether there is more to do at once.
    fn step(&mut self) -> bool {
        if self.going.is_some() {
            return self.step_to_folder();
        }
        if self.place() == self.wanted {
            self.failed = None;
            if self.is_moving() {
                tracing::info!("the store stays where it is after all");
                self.give_up();
            }
            return false;
        }
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return false;
        }
        match self.try_step() {
            Ok(step) => step == Step::More,
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    fn try_step(&mut self) -> Result<Step, StoreError> {
        let step = match &mut self.at {
            At::Memory(store, Some(moving)) => moving.step(&store.0)?,
            At::Memory(_, moving) => {
                *moving = Some(Box::new(ToDisk::begin(&self.folder, self.disk)?));
                tracing::info!(store = %self.folder.display(), "the store goes to the disk");
                Step::More
            }
            At::Disk(store, Some(moving)) => moving.step(store)?,
            At::Disk(store, moving) => {
                *moving = Some(Box::new(ToMemory::begin(
                    store,
                    self.most_in_memory,
                    step_bytes(self.disk),
                )?));
                tracing::info!("the store goes to memory");
                Step::More
            }
        };
        if step == Step::Done {
            self.arrive()?;
        }
        Ok(step)
    }

    /// The same to another folder.
    fn step_to_folder(&mut self) -> bool {
        let (Some(going), At::Disk(store, _)) = (&mut self.going, &mut self.at) else {
            return false;
        };
        let step = going.step(store);
        let arrived = step.and_then(|step| match step {
            Step::Done => going.arrive(self.disk.durability).map(|()| None),
            step => Ok(Some(step)),
        });
        match arrived {
            Ok(Some(step)) => step == Step::More,
            Ok(None) => {
                self.use_folder();
                true
            }
            Err(error) => {
                self.leave_folder(error);
                false
            }
        }
    }

    /// The copy in the other folder is whole, and is used from now on.
    fn use_folder(&mut self) {
        let going = self.going.take().and_then(|going| going.arrived());
        let (store, folder, ended) = going.expect("it has arrived");
        self.folder = folder;
        tracing::info!(store = %self.folder.display(), "the store is in another folder");
        if let At::Disk(before, _) = std::mem::replace(&mut self.at, At::Disk(store, None)) {
            self.before = sum(self.before, before.stats());
            aside(move || {
                before.forsake();
                ended.tell(Ok(()));
            });
        }
        // What was promised is as told now.
        let settings = self.settings();
        self.store().set_settings(settings);
    }

    /// It does not go to the other folder after all.
    fn leave_folder(&mut self, error: StoreError) {
        let Some(going) = self.going.take() else { return };
        tracing::warn!(%error, "the store does not go to another folder");
        tell_left(folders::remove(&folders::copying(&self.folder)));
        aside(move || going.give_up(error));
    }

    /// In memory there is nothing to take along.
    fn change_folder(&mut self, to: StoreMove) {
        let arrived = (to.arrive)();
        if arrived.is_ok() {
            self.folder = to.folder;
        }
        to.ended.tell(arrived);
    }

    /// As they were told last.
    fn settings(&self) -> StoreSettings {
        StoreSettings {
            max_bytes: self.disk.max_bytes,
            survives_power_loss: self.disk.durability == Durability::PowerLoss,
            place: self.wanted,
            most_in_memory: self.most_in_memory,
        }
    }

    /// The copy is whole, and is used from now on.
    fn arrive(&mut self) -> Result<(), StoreError> {
        match &mut self.at {
            At::Memory(_, moving) => {
                let moving = moving.take().expect("it is on its way");
                let (store, cost) = moving.take_place(self.disk)?;
                self.before = sum(self.before, cost);
                let before = std::mem::replace(&mut self.at, At::Disk(Box::new(store), None));
                drop_aside(before);
                self.tell_replaced();
                tracing::info!(
                    "the store is on the disk: what is acknowledged from now on survives a restart"
                );
            }
            At::Disk(store, moving) => {
                let tables = moving.take().expect("it is on its way").done();
                self.before = sum(self.before, store.stats());
                self.at = At::Memory(SimStore::open(&tables), None);
                self.is_read = true;
                folders::note_outdated(&self.folder);
                tracing::info!(
                    "the store is in memory: nothing that is acknowledged from now on survives a restart"
                );
            }
        }
        self.failed = None;
        Ok(())
    }

    /// What was in the folder is no more than an earlier state of this one, or somebody may want it.
    fn tell_replaced(&mut self) {
        let replaced = folders::replaced(&self.folder);
        match std::mem::take(&mut self.is_read) {
            true => tell_left(folders::remove(&replaced)),
            false if replaced.exists() => tracing::warn!(
                kept = %replaced.display(),
                "the store that was on the disk before is kept beside the new one, and not used"
            ),
            false => {}
        }
    }

    fn fail(&mut self, error: &StoreError) {
        let wanted = self.wanted.name();
        if !self.has_failed() {
            tracing::error!(%error, wanted, "the store cannot go where it is wanted and stays where it is; it is tried again each minute");
        }
        self.failed = Some(Instant::now());
        self.give_up();
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Throws the copy away.
    fn give_up(&mut self) {
        match &mut self.at {
            At::Disk(_, moving) => *moving = None,
            At::Memory(_, moving) => {
                *moving = None;
                tell_left(folders::remove(&folders::moving(&self.folder)));
            }
        }
    }
}

/// Bytes that one step copies: 256 KiB, a small part of a segment.
fn step_bytes(settings: DiskSettings) -> usize {
    usize::try_from(settings.segment_bytes / 32).unwrap_or(usize::MAX)
}

/// A million entries take half a second to be dropped: nobody waits for it.
fn drop_aside(before: At) {
    aside(move || drop(before));
}

/// Where there is no thread for it, it is done at once.
fn aside(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name("store-drop".into());
    let work = Arc::new(Mutex::new(Some(work)));
    let of_thread = Arc::clone(&work);
    if let Err(error) = thread.spawn(move || do_once(&of_thread)) {
        tracing::debug!(%error, "done at once");
        do_once(&work);
    }
}

fn do_once(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().ok().and_then(|mut work| work.take());
    if let Some(work) = work {
        work();
    }
}

fn tell_left(removed: Result<(), StoreError>) {
    if let Err(error) = removed {
        tracing::warn!(%error, "a store that is not used is left on the disk");
    }
}

/// What both have done.
fn sum(before: StoreStats, now: StoreStats) -> StoreStats {
    StoreStats {
        commits: before.commits + now.commits,
        payload_bytes: before.payload_bytes + now.payload_bytes,
        messages: before.messages + now.messages,
        journal_bytes: before.journal_bytes + now.journal_bytes,
        checkpoint_bytes: before.checkpoint_bytes + now.checkpoint_bytes,
        checkpoints: before.checkpoints + now.checkpoints,
        longest: before.longest.max(now.longest),
        ..now
    }
}

impl Store for LiveStore {
    fn load(&mut self) -> Result<StoreImage, StoreError> {
        self.store().load()
    }

    fn commit(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        if let (Some(going), At::Disk(store, _)) = (&mut self.going, &mut self.at) {
            if let Err(error) = going.commit(store, ops)? {
                self.leave_folder(error);
            }
            return Ok(());
        }
        let copied = match &mut self.at {
            At::Disk(store, Some(moving)) => return moving.commit(store, ops),
            At::Memory(store, Some(moving)) => {
                let named = store.0.lock().apply_named(ops);
                moving.commit(named)
            }
            _ => return self.store().commit(ops),
        };
        if let Err(error) = copied {
            self.fail(&error);
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        session: SessionId,
        lane: u8,
        from: u64,
        limit: FetchLimit,
    ) -> Result<Fetched, StoreError> {
        let fetched = self.store().fetch(session, lane, from, limit)?;
        if fetched.lost > 0 && self.is_moving() {
            // The copy may have what the store has lost: it is begun anew.
            self.give_up();
        }
        if fetched.lost > 0 {
            self.leave_folder(failed("move the store", "a queued message is lost"));
        }
        Ok(fetched)
    }

    fn maintain(&mut self) -> Result<bool, StoreError> {
        let done = self.store().maintain();
        let more = self.step();
        done.map(|due| due || more)
    }

    fn snapshot(&mut self, into: &Path) -> Result<Option<Vec<SnapshotFile>>, StoreError> {
        self.store().snapshot(into)
    }

    fn move_to(&mut self, to: StoreMove) {
        if self.going.is_some() {
            to.ended.tell(Err(failed(
                "move the store",
                "it is on its way to another folder",
            )));
            return;
        }
        if self.is_moving() {
            tracing::info!("the store stays where it is until it is in the other folder");
            self.give_up();
        }
        match self.at {
            At::Memory(..) => self.change_folder(to),
            At::Disk(..) => {
                tracing::info!(store = %to.folder.display(), "the store goes to another folder");
                let going = ToFolder::begin(to, self.disk, self.most_in_memory);
                self.going = Some(Box::new(going));
            }
        }
    }

    fn set_settings(&mut self, settings: StoreSettings) {
        self.wanted = settings.place;
        self.most_in_memory = settings.most_in_memory;
        self.disk.max_bytes = settings.max_bytes;
        // It is tried at once.
        self.failed = None;
        // Where it is on its way to memory, it keeps what it has promised until it is there.
        let sync = match settings.place {
            StorePlace::Disk => settings.survives_power_loss,
            StorePlace::Memory => self.disk.durability == Durability::PowerLoss,
        };
        self.disk.durability = match sync {
            true => Durability::PowerLoss,
            false => Durability::ProcessCrash,
        };
        self.store().set_settings(StoreSettings {
            survives_power_loss: sync,
            ..settings
        });
    }

    fn has_room(&self) -> bool {
        match &self.at {
            At::Memory(store, _) => store.has_room(),
            At::Disk(store, _) => store.has_room(),
        }
    }

    fn stats(&self) -> StoreStats {
        let now = match &self.at {
            At::Memory(store, _) => store.stats(),
            At::Disk(store, _) => store.stats(),
        };
        StoreStats {
            place: self.place(),
            is_moving: self.is_moving(),
            move_failed: self.has_failed(),
            ..sum(self.before, now)
        }
    }
}

/// What is on its way to the disk arrives there before the gateway has stopped.
impl Drop for LiveStore {
    fn drop(&mut self) {
        if let Some(going) = self.going.take() {
            tell_left(folders::remove(&folders::copying(&self.folder)));
            going.give_up(failed("move the store", "it is closed"));
        }
        if std::thread::panicking() || self.wanted == StorePlace::Memory {
            return;
        }
        self.failed = None;
        while self.place() != self.wanted && self.failed.is_none() {
            if !self.step() {
                std::thread::sleep(LOOK);
            }
        }
    }
}
