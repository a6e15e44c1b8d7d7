//! The store of a gateway that runs: on the disk or in memory, and from one to the other while it is used.
//!
//! What is there is copied part by part between the commits, and each commit goes to both stores, as far as the copy has come ([`walk`]). Only a copy that is whole
//! is used. **To the disk:** the copy is written beside the old folder, synced, and takes its place in one step ([`folders`]). Until then nothing is promised, as
//! before; cut off in between, the folder is as it was. **To memory:** the folder stays as it is, and grows old.
//!
//! What fails leaves everything as it was, and is tried again each minute.

mod folders;
mod to_disk;
mod to_memory;
mod walk;

use crate::disk::{DiskSettings, DiskStore, Durability};
use crate::open::failed;
use crate::sim::SimStore;
use headgate_model::store::{FetchLimit, Fetched, SnapshotFile, StorePlace, StoreSettings, StoreStats};
use headgate_model::{SessionId, Store, StoreError, StoreImage, StoreOp};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use to_disk::{Step, ToDisk};
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
    let dropping = std::thread::Builder::new().name("store-drop".into());
    if let Err(error) = dropping.spawn(move || drop(before)) {
        tracing::debug!(%error, "dropped at once");
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
