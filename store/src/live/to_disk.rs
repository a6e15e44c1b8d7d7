//! The way to the disk: a new store beside the folder of the old one, which gets what is in memory part by part, and every commit.

use super::folders;
use super::walk::{Walk, bytes_of};
use crate::disk::{Bodies, DiskSettings, DiskStore, Durability};
use crate::open::failed;
use crate::sim::Disk;
use headgate_model::store::StoreStats;
use headgate_model::{Store, StoreError, StoreOp};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// See the module.
#[derive(Debug)]
pub(crate) struct ToDisk {
    folder: PathBuf,
    to: Box<DiskStore>,
    walk: Walk,
    bodies: Bodies,
    /// Bytes that one step writes, and as many more as were committed since the last one: so the walk comes to its end whatever others commit.
    step: usize,
    committed: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Walking,
    /// The tables are brought up to date, for the journal is quicker to read then.
    Settling,
    /// Most of it is synced before the store in use waits for the rest.
    Syncing(JoinHandle<io::Result<()>>),
    Done,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// At once.
    More,
    /// Later: something is under way.
    Wait,
    /// All is there.
    Done,
}

impl ToDisk {
    /// Begins a new store beside this folder.
    pub(crate) fn begin(folder: &Path, settings: DiskSettings) -> Result<Self, StoreError> {
        let new = folders::moving(folder);
        folders::remove(&new)?;
        // Where others may write, too, one of theirs may be there by now.
        std::fs::create_dir(&new).map_err(|e| failed("make the new store", e))?;
        // Nothing is promised before it is in use.
        let quick = DiskSettings {
            durability: Durability::ProcessCrash,
            ..settings
        };
        let mut to = DiskStore::open(&new, quick)?;
        to.load()?;
        Ok(Self {
            folder: folder.to_owned(),
            to: Box::new(to),
            walk: Walk::begin(),
            bodies: Bodies::default(),
            step: super::step_bytes(settings),
            committed: 0,
            stage: Stage::Walking,
        })
    }

    /// What was committed to the store in use, with no [`StoreOp::DropOldest`].
    pub(crate) fn commit(&mut self, ops: Vec<StoreOp>) -> Result<(), StoreError> {
        self.committed += ops.iter().map(bytes_of).sum::<usize>();
        let ops = self.walk.behind(ops);
        self.to.commit(&ops)?;
        self.has_room()
    }

    /// One step on the way.
    pub(crate) fn step(&mut self, from: &Disk) -> Result<Step, StoreError> {
        self.has_room()?;
        self.to.copy_maintain()?;
        match &self.stage {
            Stage::Walking if self.walk.is_over() => {
                self.to.begin_to_settle()?;
                self.stage = Stage::Settling;
            }
            Stage::Walking => self.copy(from)?,
            Stage::Settling if self.to.is_settling() => return Ok(Step::Wait),
            Stage::Settling => {
                let folder = folders::moving(&self.folder);
                let thread = std::thread::Builder::new().name("store-sync".into());
                let syncing = thread.spawn(move || folders::sync_all(&folder));
                self.stage = Stage::Syncing(syncing.map_err(not_synced)?);
            }
            Stage::Syncing(syncing) if !syncing.is_finished() => return Ok(Step::Wait),
            Stage::Syncing(_) => {
                let Stage::Syncing(syncing) = std::mem::replace(&mut self.stage, Stage::Done) else {
                    unreachable!("just looked at")
                };
                let synced = syncing.join();
                let synced =
                    synced.unwrap_or_else(|panic| Err(io::Error::other(crate::open::words(&*panic))));
                synced.map_err(not_synced)?;
                return Ok(Step::Done);
            }
            Stage::Done => return Ok(Step::Done),
        }
        Ok(Step::More)
    }

    fn copy(&mut self, from: &Disk) -> Result<(), StoreError> {
        let bytes = self.step + std::mem::take(&mut self.committed);
        let part = self.walk.step(&from.lock(), bytes);
        self.to.write_copies(&part.rows, &part.entries, &mut self.bodies)
    }

    fn has_room(&self) -> Result<(), StoreError> {
        match self.to.has_room() {
            true => Ok(()),
            false => Err(failed("write the store", "there is no room for all of it")),
        }
    }

    /// The new store, durable and in the folder's place; what was there is in `store.replaced`. What it cost.
    pub(crate) fn take_place(self, settings: DiskSettings) -> Result<(DiskStore, StoreStats), StoreError> {
        let Self { folder, to, .. } = self;
        to.is_well()?;
        let stats = to.stats();
        drop(to);
        folders::sync_all(&folders::moving(&folder)).map_err(not_synced)?;
        folders::put_in_place(&folder)?;
        let opened = DiskStore::open(&folder, settings);
        let opened = opened.and_then(|store| store.is_well().map(|()| store));
        if opened.is_err() {
            folders::put_back(&folder)?;
        }
        Ok((opened?, stats))
    }
}

fn not_synced(error: io::Error) -> StoreError {
    failed("sync the new store", error)
}
