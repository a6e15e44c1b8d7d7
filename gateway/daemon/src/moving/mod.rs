//! The data go to another folder while the gateway runs, when `data_dir` says so.
//!
//! 1. The new folder says that the data are in the old one ([`whereabouts`]). So whoever goes by the new configuration finds them, also after a power cut.
//! 2. Everything is copied there, the store and [files], while everybody goes on. What changes meanwhile is copied again.
//! 3. When the copy of the store has all that is committed, the rest is copied for the last time, while nobody writes. The new folder says no more that the data
//!    are elsewhere: that is the moment from which on they are there. The old folder says that they have gone.
//! 4. What is left in the old folder is removed, but for files that the configuration names.
//!
//! Always true: one of both folders has all data, and the other one says so, also when it does not get them after all. What fails leaves the data where they are, and is tried again
//! each minute.

mod files;

use crate::alarms::{Alarms, Severity, Trouble};
use crate::api::Control;
use crate::archive::{ArchiveError, Hold, free_bytes};
use crate::config::Config;
use crate::incoming::RESERVE;
use crate::live::Live;
use crate::whereabouts::{self, is_below, is_same};
use files::Copy;
use headgate_auth::Users;
use headgate_auth::data_dir::{DataDir, Move};
use headgate_bus::handle::Hub;
use headgate_model::StoreError;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How often a move that failed is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// How often it is looked whether what needs the data where they are has ended, and after how many looks that is told.
const LOOK: Duration = Duration::from_secs(1);
const PATIENT_LOOKS: u32 = 30;
/// So long the gateway answers in the folder of before.
const GRACE: Duration = Duration::from_secs(2);
/// How long a command that changes the users is waited for, at the very end.
const TRY: Duration = Duration::from_millis(10);
const MOST_TRIES: u32 = 100;
/// Bytes that the last pass may have to copy, as far as that is known before.
const LITTLE: u64 = 1 << 20;
/// Bytes that the last pass may copy: everybody waits meanwhile.
const MOST_AT_LAST: u64 = 32 << 20;
/// Passes that are made until there is so little.
const MOST_PASSES: u32 = 10;
/// The alarm that stands while the data are not where they should be.
const ALARM: &str = "data_not_moved";

/// Why a folder cannot have the data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It holds others.
    #[error("{}: there are data of a gateway already: name an empty folder, or stop this gateway and start it with those", .0.display())]
    HasData(PathBuf),
    /// It leads to others.
    #[error("{}: the data of that folder are in {}, and this gateway's in {}", .folder.display(), .theirs.display(), .ours.display())]
    Others {
        /// What the configuration names.
        folder: PathBuf,
        /// Where it leads.
        theirs: PathBuf,
        /// Where the data are.
        ours: PathBuf,
    },
    /// One is in the other.
    #[error("{}: the data are in {}, and none of both may be in the other", .0.display(), .1.display())]
    Below(PathBuf, PathBuf),
    /// It cannot be made or written.
    #[error("{}: {cause}", .folder.display())]
    Folder {
        /// Which one.
        folder: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Somebody else would be believed.
    #[error("{}: it belongs to another user than the gateway's data", .0.display())]
    Foreign(PathBuf),
}

/// A folder that is ready to have the data. It is left as it was, unless it is [kept](Self::keep).
#[derive(Debug)]
#[must_use]
pub(crate) struct Ready {
    folder: PathBuf,
    /// What was made for it.
    made: Option<PathBuf>,
    is_kept: bool,
}

impl Ready {
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let forgotten = whereabouts::forget(&self.folder);
        let removed = self.made.iter().try_for_each(fs::remove_dir);
        if let Err(error) = forgotten.and(removed) {
            tracing::warn!(folder = %self.folder.display(), %error, "a folder that shall not have the data after all is not as it was");
        }
    }
}

/// Of a configuration that is to be valid: where the data are, and where they should be. Whether that is a folder that has to be [made ready](prepare).
pub(crate) fn settle(new: &mut Config, now: &Path) -> Result<bool, Unfit> {
    let wanted = new.wanted_data_dir().to_owned();
    let leads_to = std::mem::replace(&mut new.data_dir, now.to_owned());
    new.moves_to = (!is_same(&wanted, now)).then(|| wanted.clone());
    if new.moves_to.is_none() || is_same(&leads_to, now) {
        return Ok(false);
    }
    if !is_same(&leads_to, &wanted) {
        return Err(Unfit::Others {
            folder: wanted,
            theirs: leads_to,
            ours: now.to_owned(),
        });
    }
    if is_below(&wanted, now) || is_below(now, &wanted) {
        return Err(Unfit::Below(wanted, now.to_owned()));
    }
    match files::has_data(&wanted) {
        true => Err(Unfit::HasData(wanted)),
        false => Ok(true),
    }
}

/// The same, and makes it ready.
pub(crate) fn prepare(new: &mut Config, now: &Path) -> Result<Option<Ready>, Unfit> {
    if !settle(new, now)? {
        return Ok(None);
    }
    let wanted = new.wanted_data_dir().to_owned();
    let failed = |cause| Unfit::Folder {
        folder: wanted.clone(),
        cause,
    };
    let made = (!wanted.exists()).then(|| wanted.clone());
    fs::create_dir_all(&wanted).map_err(failed)?;
    let ready = Ready {
        folder: wanted.clone(),
        made,
        is_kept: false,
    };
    whereabouts::note(&wanted, now).map_err(failed)?;
    match leads_to(&wanted, now) {
        true => Ok(Some(ready)),
        false => Err(Unfit::Foreign(wanted)),
    }
}

/// Why the data are still where they were.
#[derive(Debug, thiserror::Error)]
enum MoveError {
    /// Something needs them there.
    #[error("a backup, an upload or an update is under way, or a backup waits for the next start")]
    Busy,
    /// The disk is too small.
    #[error("about {needed} bytes are wanted, {free} are free")]
    NoRoom {
        /// Of all that is to be copied, and what stays free.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// Another gateway has the folder.
    #[error(transparent)]
    Held(#[from] ArchiveError),
    /// A file.
    #[error("{0}")]
    File(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers at a control socket, as long as what comes back is held.
pub(crate) type Serve = Box<dyn Fn(UnixListener) -> Socket + Send + Sync>;
/// See there.
pub(crate) type Socket = AbortOnDropHandle<()>;

/// What it is made of.
pub(crate) struct Parts {
    pub(crate) data: DataDir,
    pub(crate) hub: Hub,
    pub(crate) live: Live,
    pub(crate) alarms: Alarms,
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) serve: Serve,
    /// The lock of the folder that has the data.
    pub(crate) hold: Arc<Mutex<Option<Hold>>>,
}

/// Sees to it that the data are where they should be.
pub(crate) struct Mover {
    parts: Parts,
    /// The socket in the folder that has the data.
    socket: Socket,
}

impl Mover {
    /// Answers at the control socket of the folder that has the data.
    pub(crate) fn start(parts: Parts, socket: UnixListener) -> Self {
        let socket = (parts.serve)(socket);
        Self { parts, socket }
    }

    /// For ever.
    pub(crate) async fn keep(mut self) {
        let mut config = self.parts.config.clone();
        self.leave_what_was_left().await;
        loop {
            let wanted = config.borrow_and_update().moves_to.clone();
            let Some(to) = wanted else {
                self.parts.alarms.set(ALARM, None);
                if config.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let is_wanted = Arc::new(AtomicBool::new(true));
            let moved = tokio::select! {
                moved = self.go(&to, &is_wanted) => moved,
                // The move ends in its own time: see there.
                () = tell_when_unwanted(config.clone(), &to, &is_wanted) => unreachable!("it does not end"),
            };
            match moved {
                Ok(()) => continue,
                Err(_) if !is_wanted.load(Ordering::Relaxed) => {
                    tracing::info!(to = %to.display(), "the data stay where they are after all");
                    continue;
                }
                Err(error) => self.tell(&to, &error),
            }
            tokio::select! {
                changed = config.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(RETRY) => {}
            }
        }
    }

    fn tell(&self, to: &Path, error: &MoveError) {
        let summary = format!(
            "the data are in {} and cannot go to {}, where `data_dir` wants them: {error}; it is tried again each minute",
            self.parts.data.now().display(),
            to.display()
        );
        tracing::error!(%error, to = %to.display(), "the data cannot go where `data_dir` wants them, and stay where they are; it is tried again each minute");
        let trouble = Trouble::new(Severity::Error, summary);
        self.parts.alarms.set(ALARM, Some(trouble));
    }

    /// All the way. Where it does not get there, nothing of it is left but what the new folder says.
    async fn go(&mut self, to: &Path, is_wanted: &Arc<AtomicBool>) -> Result<(), MoveError> {
        let moves = Arc::new(self.begin(is_wanted).await?);
        let from = self.parts.data.now().to_owned();
        tracing::info!(from = %from.display(), to = %to.display(), "the data go to another folder");
        lead_back(to, &from)?;
        let hold = Hold::take(to)?;
        clear(to, None).await?;
        let mut socket = None;
        let before;
        let copied = self.copy(&moves, &from, to, is_wanted, hold, &mut socket);
        match (copied.await, socket) {
            (Ok(()), socket) => {
                let socket = socket.expect("it was opened before");
                before = std::mem::replace(&mut self.socket, socket);
            }
            (Err(error), socket) => {
                clear(to, socket).await?;
                lead_back(to, &from)?;
                return Err(error);
            }
        }
        self.parts.live.arrived(to).await;
        drop(moves);
        let left = self.leave(&from).await;
        drop(before);
        tracing::info!(
            from = %from.display(),
            to = %to.display(),
            left,
            "the data are in another folder now"
        );
        Ok(())
    }

    async fn copy(
        &self,
        moves: &Arc<Move>,
        from: &Path,
        to: &Path,
        is_wanted: &Arc<AtomicBool>,
        hold: Hold,
        socket: &mut Option<Socket>,
    ) -> Result<(), MoveError> {
        let Parts { hub, serve, .. } = &self.parts;
        look_for_room(from, to, hub)?;
        let mut copy = Copy::new(from, to);
        for _ in 0..MOST_PASSES {
            let wanted = Arc::clone(is_wanted);
            let passed;
            (copy, passed) = off_the_runtime(move || {
                let passed = copy.pass(&wanted, u64::MAX);
                (copy, passed)
            })
            .await?;
            if passed? <= LITTLE {
                break;
            }
        }
        // Whoever goes by the new folder finds the gateway from the first moment on.
        *socket = Some(serve(Control::bind(to)?));
        let arrive = {
            let (moves, from, to) = (Arc::clone(moves), from.to_owned(), to.to_owned());
            let (wanted, held) = (Arc::clone(is_wanted), Arc::clone(&self.parts.hold));
            move || {
                let arrived = moves.arrive(&to, || arrive(&mut copy, &from, &to, &wanted));
                arrived.map_err(|cause| StoreError::Io {
                    what: "move the data",
                    cause: cause.to_string(),
                })?;
                *held.lock() = Some(hold);
                Ok(())
            }
        };
        let store = to.join("store");
        Ok(hub.move_store(store, Arc::clone(is_wanted), arrive).await?)
    }

    /// When nothing needs the data where they are.
    async fn begin(&self, is_wanted: &AtomicBool) -> Result<Move, MoveError> {
        let mut looks = 0u32;
        loop {
            if let Some(moves) = self.parts.data.begin_to_move() {
                return Ok(moves);
            }
            if !is_wanted.load(Ordering::Relaxed) {
                return Err(MoveError::Busy);
            }
            looks += 1;
            if looks == PATIENT_LOOKS {
                let to = self.parts.config.borrow().moves_to.clone().unwrap_or_default();
                self.tell(&to, &MoveError::Busy);
            }
            sleep(LOOK).await;
        }
    }

    /// The gateway ended before it had removed what was in the folder of before.
    async fn leave_what_was_left(&self) {
        let here = self.parts.data.now().to_owned();
        let Some(from) = whereabouts::came_from(&here) else {
            return;
        };
        let left = self.leave(&from).await;
        tracing::info!(from = %from.display(), left, "what a move had left in the folder of before is removed");
    }

    /// Removes what is left in the folder of before. What stays, in words.
    async fn leave(&self, from: &Path) -> String {
        let text = self.texts().await;
        let folder = from.to_owned();
        let left = off_the_runtime(move || {
            let _ = fs::remove_file(folder.join("users.lock"));
            files::remove_data(&folder, &whereabouts::named_in(&text, &folder))
        });
        let left = left.await.unwrap_or_default();
        // A command may have looked where the gateway is, and come only now.
        sleep(GRACE).await;
        let _ = fs::remove_file(crate::api::socket(from));
        whereabouts::forget_origin(&self.parts.data.now());
        match left.is_empty() {
            true => "nothing".to_owned(),
            false => left
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// All that names files: the configuration, and bridges that were added.
    async fn texts(&self) -> String {
        let config = self.parts.live.config().await;
        let mut texts = serde_json::to_string(&*config).unwrap_or_default();
        let bridges = self.parts.data.join("bridges");
        for bridge in fs::read_dir(&*bridges.now()).into_iter().flatten().flatten() {
            texts.push('\n');
            texts.push_str(&fs::read_to_string(bridge.path()).unwrap_or_default());
        }
        texts
    }
}

/// The last step, while nobody writes.
fn arrive(copy: &mut Copy, from: &Path, to: &Path, is_wanted: &AtomicBool) -> io::Result<()> {
    if !leads_to(to, from) {
        return Err(io::Error::other(format!("{} is not what it was", to.display())));
    }
    let _users = lock_users(from)?;
    copy.pass(is_wanted, MOST_AT_LAST)?;
    whereabouts::note_origin(to, from)?;
    if let Err(error) = whereabouts::forget(to) {
        // It may be gone from memory, and not from the disk.
        whereabouts::note(to, from)?;
        return Err(error);
    }
    // From here on they are there.
    if let Err(error) = whereabouts::note(from, to) {
        tracing::warn!(folder = %from.display(), %error, "the folder does not say that the data have gone elsewhere: a gateway that is started there begins empty");
    }
    Ok(())
}

/// Commands change the users, too: none does as long as this is held, and whoever waited for it sees that they have gone.
fn lock_users(from: &Path) -> io::Result<File> {
    let lock = Users::lock(&from.join("users.json"))?;
    for _ in 0..MOST_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other("a command is changing the users"))
}

/// Whether the new folder says that the data are in the old one.
fn leads_to(to: &Path, from: &Path) -> bool {
    matches!(whereabouts::elsewhere(to), Ok(Some(folder)) if is_same(&folder, from))
}

/// Sees to it that it does: somebody may have removed it.
fn lead_back(to: &Path, from: &Path) -> io::Result<()> {
    if leads_to(to, from) {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    whereabouts::note(to, from)
}

/// Removes a copy that is not used, and its socket.
async fn clear(to: &Path, socket: Option<Socket>) -> io::Result<()> {
    let to = to.to_owned();
    off_the_runtime(move || {
        if let Some(socket) = socket {
            drop(socket);
            let _ = fs::remove_file(crate::api::socket(&to));
        }
        files::remove_data(&to, &BTreeSet::new());
    })
    .await
}

fn look_for_room(from: &Path, to: &Path, hub: &Hub) -> Result<(), MoveError> {
    let store = hub.store_stats().disk_bytes;
    let needed = files::bytes_in(from) + store + store / 4 + RESERVE;
    let free = free_bytes(to);
    match free < needed {
        true => Err(MoveError::NoRoom { needed, free }),
        false => Ok(()),
    }
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Does not end.
async fn tell_when_unwanted(mut config: watch::Receiver<Arc<Config>>, to: &Path, is_wanted: &AtomicBool) {
    loop {
        if config.changed().await.is_err() {
            return std::future::pending().await;
        }
        if config.borrow().moves_to.as_deref() != Some(to) {
            is_wanted.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
