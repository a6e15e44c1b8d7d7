//! The data go to another folder while the gateway runs, when `data_dir` says so.
//!
//! 1. The new folder says that the data are in the old one ([`whereabouts`]). So whoever goes by the new configuration finds them, also after a power cut.
//! 2. Everything is copied there, the store and [files], while everybody goes on. What changes meanwhile is copied again. The copy has a folder of its own there
//!    ([`files::ARRIVING`]): whatever fails, nothing else is removed.
//! 3. When the copy of the store has all that is committed, the rest is copied for the last time, while nobody writes. The new folder says where the data came from,
//!    then the old one says that they have gone: that is the moment from which on they are in the new one. The files are put in their places there.
//! 4. What is left in the old folder is removed, but for files that a configuration names.
//!
//! Always true: one of both folders has all data, and the other one says so, also when it does not get them after all. What fails leaves the data where they are, and is tried again
//! each minute. A folder that does not say any more what it said in the beginning is another one, of somebody else's: it gets nothing, and nothing in it is changed.

mod files;
mod named;

use crate::alarms::{Alarms, Severity, Trouble};
use crate::api::Control;
use crate::archive::{ArchiveError, Hold, free_bytes};
use crate::config::Config;
use crate::incoming::RESERVE;
use crate::live::Live;
use crate::whereabouts::{self, is_below, is_same};
use files::{ARRIVING, Copy};
use headgate_auth::Users;
use headgate_auth::data_dir::{DataDir, Move};
use headgate_bus::handle::Hub;
use headgate_model::StoreError;
use named::Named;
use parking_lot::Mutex;
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
    // The store may be a link to another disk.
    if let Ok(store) = fs::canonicalize(now.join("store"))
        && headgate_store::is_in_store(&store, &whereabouts::real(&wanted))
    {
        return Err(Unfit::Below(wanted, store));
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
    if let Err(cause) = whereabouts::note_first(&wanted, now) {
        let _ = made.iter().try_for_each(fs::remove_dir);
        return Err(failed(cause));
    }
    let ready = Ready {
        folder: wanted.clone(),
        made,
        is_kept: false,
    };
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
    /// It may be another one of the same name, such as the place where its disk is not mounted.
    #[error("{to} does not say any more that the data are in {from}: if it is to have them all the same, let the user of the gateway say so by `ln -s {from} {to}/data-is-in`", to = .to.display(), from = .from.display())]
    Changed {
        /// Where the data are.
        from: PathBuf,
        /// Where they should be.
        to: PathBuf,
    },
    /// Somebody has put data there.
    #[error("{} is in the way: there are data of a gateway already, or what looks so", .0.display())]
    InTheWay(PathBuf),
    /// The move before has left something that could not be placed, or not be removed.
    #[error("the move before has not come to its end in {}: the log says why", .0.display())]
    Left(PathBuf),
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
        loop {
            self.leave_what_was_left().await;
            let wanted = config.borrow_and_update().moves_to.clone();
            let Some(to) = wanted else {
                self.parts.alarms.set(ALARM, None);
                let again = async {
                    match self.has_left_something() {
                        true => sleep(RETRY).await,
                        false => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = config.changed() => if changed.is_err() {
                        return;
                    },
                    () = again => {}
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
        let hold = Arc::new(Mutex::new(Some(Hold::untouched(to)?)));
        let named = self.named().await;
        let (old, new) = (from.clone(), to.to_owned());
        off_the_runtime(move || make_ready(&old, &new, &named)).await??;
        let mut socket = None;
        let copied = self.copy(&moves, &from, to, is_wanted, &hold, &mut socket);
        let before = match (copied.await, socket) {
            (Ok(()), socket) => {
                let socket = socket.expect("it was opened before");
                std::mem::replace(&mut self.socket, socket)
            }
            (Err(error), socket) => {
                clear(&from, to, socket).await;
                return Err(error);
            }
        };
        self.parts.live.arrived(to).await;
        self.parts.alarms.set(ALARM, None);
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
        hold: &Arc<Mutex<Option<Hold>>>,
        socket: &mut Option<Socket>,
    ) -> Result<(), MoveError> {
        let Parts { hub, serve, .. } = &self.parts;
        look_for_room(from, to, hub)?;
        let mut copy = Copy::new(from, to)?;
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
            let hold = Arc::clone(hold);
            move || {
                let arrived = moves.arrive(&to, || arrive(&mut copy, &from, &to, &wanted));
                arrived.map_err(|cause| StoreError::Io {
                    what: "move the data",
                    cause: cause.to_string(),
                })?;
                *held.lock() = hold.lock().take();
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

    /// Whether something is still to be removed elsewhere.
    fn has_left_something(&self) -> bool {
        let here = self.parts.data.now();
        whereabouts::came_from(&here).is_some() || whereabouts::goes_to(&here).is_some()
    }

    /// The gateway ended before it had removed what was in the folder of before, or a copy that is not wanted any more; or it could not be removed.
    async fn leave_what_was_left(&self) {
        let here = self.parts.data.now().to_owned();
        if let Some(from) = whereabouts::came_from(&here) {
            let left = self.leave(&from).await;
            tracing::info!(from = %from.display(), left, "what a move had left in the folder of before is removed");
        }
        let is_wanted = |goal: &Path| {
            let config = self.parts.config.borrow();
            config.moves_to.as_deref().is_some_and(|to| is_same(to, goal))
        };
        let Some(goal) = whereabouts::goes_to(&here).filter(|goal| !is_wanted(goal)) else {
            return;
        };
        let hold = Hold::untouched(&goal);
        if !matches!(hold, Err(ArchiveError::InUse(_))) {
            clear(&here, &goal, None).await;
            tracing::info!(folder = %goal.display(), "a copy that is not wanted any more is removed");
        }
    }

    /// Removes what is left in the folder of before. What stays, in words.
    async fn leave(&self, from: &Path) -> String {
        let (folder, named) = (from.to_owned(), self.named().await);
        let here = self.parts.data.now().to_owned();
        let left = off_the_runtime(move || remove_left(&folder, &here, &named)).await;
        // A command may have looked where the gateway is, and come only now.
        sleep(GRACE).await;
        let _ = fs::remove_file(crate::api::socket(from));
        let left = match left.and_then(|left| left) {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(folder = %from.display(), %error, "what was in the folder of before is not removed");
                return "all".to_owned();
            }
        };
        if let Err(error) = whereabouts::forget_origin(&self.parts.data.now()) {
            tracing::warn!(%error, "the data folder still says where the data came from");
        }
        let names = left.iter().map(|path| path.display().to_string());
        match left.is_empty() {
            true => "nothing".to_owned(),
            false => names.collect::<Vec<_>>().join(", "),
        }
    }

    /// All files that the configuration names, that one of before names, which may be valid again, or a bridge that was added.
    async fn named(&self) -> Named {
        let Parts { live, data, .. } = &self.parts;
        let mut named = Named::default();
        let config = serde_json::to_value(&*live.config().await);
        named.add_of(&config.unwrap_or_default());
        let before = live.texts_before().await;
        before.iter().for_each(|text| named.add_of_toml(text));
        let bridges = data.join("bridges");
        for bridge in fs::read_dir(&*bridges.now()).into_iter().flatten().flatten() {
            named.add_of_toml(&fs::read_to_string(bridge.path()).unwrap_or_default());
        }
        named
    }
}

/// Before anything is copied.
fn make_ready(from: &Path, to: &Path, named: &Named) -> Result<(), MoveError> {
    if !leads_to(to, from) {
        return Err(MoveError::Changed {
            from: whereabouts::absolute(from),
            to: whereabouts::absolute(to),
        });
    }
    if is_unplaced(from) {
        return Err(MoveError::Left(from.to_owned()));
    }
    if let Some(before) = whereabouts::came_from(from) {
        return Err(MoveError::Left(before));
    }
    files::remove_copy(to)?;
    if let Some(path) = files::in_the_way(to, named) {
        return Err(MoveError::InTheWay(path));
    }
    // It may have led there by others, which may lead elsewhere one day.
    whereabouts::note(to, from)?;
    whereabouts::forget_origin(to)?;
    whereabouts::forget_origin(from)?;
    Ok(whereabouts::note_goal(from, to)?)
}

/// The last step, while nobody writes.
fn arrive(copy: &mut Copy, from: &Path, to: &Path, is_wanted: &AtomicBool) -> io::Result<()> {
    if !leads_to(to, from) {
        return Err(io::Error::other(format!("{} is not what it was", to.display())));
    }
    let _users = lock_users(from)?;
    copy.pass(is_wanted, MOST_AT_LAST)?;
    whereabouts::note_origin(to, from)?;
    if let Err(error) = whereabouts::note(from, to) {
        // It may be there although the disk says no.
        whereabouts::forget(from)?;
        whereabouts::forget_origin(to)?;
        return Err(error);
    }
    // From here on they are there.
    if let Err(error) = finish(to) {
        tracing::error!(folder = %to.display(), %error, "the folder with the data still says that they are elsewhere");
    }
    Ok(())
}

/// Puts data in their places that came to this folder when the gateway ended. What cannot get there is told, and tried again. An error where a copy that was not
/// finished is all there is, and nothing says any more where the data are. The folder is held.
pub(crate) fn finish(folder: &Path) -> io::Result<()> {
    let has_come = whereabouts::came_from(folder).is_some();
    let says_nothing = matches!(whereabouts::next(folder), Ok(None));
    let is_there = is_unplaced(folder);
    if has_come || (says_nothing && whereabouts::has_origin(folder)) {
        if let Err(error) = files::place(folder) {
            tracing::error!(folder = %folder.display(), %error, "not all files of the data are in their places: the next start goes on with that");
        }
        return whereabouts::forget(folder);
    }
    match says_nothing && is_there {
        true => Err(io::Error::other(format!(
            "{ARRIVING} is there, of a copy that was not finished: the data are where it was made. Remove it, and `store` if that is a copy, to begin anew"
        ))),
        false => Ok(()),
    }
}

/// Whether there are files that are not in their places.
fn is_unplaced(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join(ARRIVING)).is_ok()
}

/// The same for a command, or a start, that goes by what is in the folder before it holds it.
pub(crate) fn finish_interrupted(folder: &Path) -> Result<(), ArchiveError> {
    if !is_unplaced(folder) {
        return Ok(());
    }
    match Hold::take(folder) {
        // A gateway that runs does it itself.
        Err(ArchiveError::InUse(_)) => Ok(()),
        held => held.map(drop),
    }
}

/// What is left in the folder of before, while nobody else has it.
fn remove_left(from: &Path, here: &Path, named: &Named) -> io::Result<Vec<PathBuf>> {
    let _hold = Hold::untouched(from).map_err(io::Error::other)?;
    finish(here)?;
    if is_unplaced(here) {
        return Err(io::Error::other("not all files are in their places yet"));
    }
    if !leads_to(from, here) {
        return Err(io::Error::other(
            "it does not say any more that the data have gone",
        ));
    }
    let _ = fs::remove_file(from.join("users.lock"));
    let left = files::remove_data(from, named);
    whereabouts::forget_goal(from)?;
    Ok(left)
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

/// Removes a copy that is not used, and its socket. What cannot be removed now is before the next try.
async fn clear(from: &Path, to: &Path, socket: Option<Socket>) {
    let (old, new) = (from.to_owned(), to.to_owned());
    let cleared = off_the_runtime(move || {
        if let Some(socket) = socket {
            drop(socket);
            let _ = fs::remove_file(crate::api::socket(&new));
        }
        // It may be another folder by now.
        if leads_to(&new, &old) {
            files::remove_copy(&new)?;
            whereabouts::forget_origin(&new)?;
        }
        whereabouts::forget_goal(&old)
    });
    if let Err(error) = cleared.await.and_then(|cleared| cleared) {
        tracing::warn!(folder = %to.display(), %error, "a copy of the data that is not used is left there");
    }
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
