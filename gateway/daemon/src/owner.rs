//! What a command of root's does in a data folder, it does with the rights of the user who has it.
//!
//! That user may put links and pipes there at any moment, and says in the configuration where files go. So files are found, read and made as that user, to whom
//! they belong then. Only what root has named itself, such as an archive, is [root's to open](named).
//!
//! Always true: whose a path is, the first name on it says that is not root's. What is above that nobody but root can exchange.

use rustix::process::{Gid, Uid, getegid, geteuid, getgroups, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs::{self, Metadata};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// A group without rights, where the folder's own is root's.
const NO_GROUP: u32 = 65_534;
/// Links on a path, as the system has it.
const LINKS: usize = 40;

/// As long as this is there, its thread and those that it starts have the rights that were taken.
#[derive(Default)]
#[must_use]
pub(crate) struct Acting {
    /// What root was a member of; `None`: it still is.
    before: Option<(Gid, Vec<Gid>)>,
    _stays_in_its_thread: PhantomData<*const ()>,
}

impl Acting {
    /// Takes the rights of whoever has what is changed, if root asks, it is not root's, and no others were taken. Another user has its own rights anyway.
    pub(crate) fn as_owner_of(&mut self, place: &Path) -> io::Result<()> {
        self.take(|| other_than_root(place, asked_by(), Sudo::Above))
    }

    /// The same of the configuration, which says what that is: before it is read.
    pub(crate) fn as_author_of(&mut self, configuration: &Path) -> io::Result<()> {
        self.take(|| other_than_root(configuration, asked_by(), Sudo::Anywhere))
    }

    /// A file outside what is changed, in a folder of another user's: that user can let it be a link to any file, which would be root's to write.
    pub(crate) fn may_write(&self, file: &Path) -> io::Result<()> {
        if self.before.is_some() || !geteuid().is_root() {
            return Ok(());
        }
        match other_than_root(file, asked_by(), Sudo::Anywhere)? {
            None => Ok(()),
            Some((place, owner)) => Err(io::Error::other(format!(
                "{} is user {}'s, who can lead root elsewhere there: run this as the gateway's user (`runuser -u NAME -- headgate …`)",
                place.display(),
                owner.uid()
            ))),
        }
    }

    fn take(&mut self, find: impl FnOnce() -> io::Result<Option<(PathBuf, Metadata)>>) -> io::Result<()> {
        if self.before.is_some() || !geteuid().is_root() {
            return Ok(());
        }
        let Some((place, owner)) = find()? else {
            return Ok(());
        };
        self.before = Some((getegid(), getgroups()?));
        let (user, group) = match (owner.uid(), owner.gid()) {
            (user, 0) => (user, NO_GROUP),
            ids => ids,
        };
        become_user(Uid::from_raw(user), Gid::from_raw(group)).map_err(|error| {
            let place = place.display();
            io::Error::other(format!("{place} is user {user}'s: what is done there is done with that user's rights, which cannot be taken: {error}"))
        })
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if let Some((group, groups)) = self.before.take() {
            // Where it fails, what comes next has too few rights, and not too many.
            let _ = become_root(group, &groups);
        }
    }
}

/// Does what root's command line has named, with root's own rights again.
pub(crate) fn named<T>(open: impl FnOnce() -> T) -> T {
    let (user, group) = (geteuid(), getegid());
    let is_acting = getuid().is_root() && !user.is_root();
    if is_acting && become_root(Gid::ROOT, &[]).is_err() {
        return open();
    }
    let opened = open();
    if is_acting {
        let again = become_user(user, group);
        // To go on as root is what must not be.
        again.unwrap_or_else(|error| panic!("the rights of user {user:?} cannot be taken again: {error}"));
    }
    opened
}

/// Where a path may be of whoever has become root by sudo, and needs no way round: a configuration may be theirs, and what is above a data folder of root's. What is
/// in their own is made as theirs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sudo {
    Above,
    Anywhere,
}

fn asked_by() -> Option<u32> {
    std::env::var("SUDO_UID").ok()?.parse().ok()
}

/// Whether a user is root, or the one who asks, also by sudo. What is another's, somebody may have put there for others to find.
pub(crate) fn is_root_or_us(user: u32) -> bool {
    let we = geteuid();
    user == 0 || user == we.as_raw() || (we.is_root() && asked_by() == Some(user))
}

/// Who has a folder, or the link to it, if that is a stranger.
pub(crate) fn stranger_of(folder: &Path) -> Option<u32> {
    let found = [fs::symlink_metadata(folder), fs::metadata(folder)];
    let mut users = found.into_iter().flatten().map(|found| found.uid());
    users.find(|user| !is_root_or_us(*user))
}

/// The first name on a path that is not root's; `None`: all of it is, as far as it is there. What others may write, whose it is nobody can say.
fn other_than_root(
    path: &Path,
    asked_by: Option<u32>,
    sudo: Sudo,
) -> io::Result<Option<(PathBuf, Metadata)>> {
    let mut at = PathBuf::new();
    let mut rest = names(&std::path::absolute(path)?);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let found = match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return nobody_may_make(&next, &at).map(|()| None);
            }
            found => found?,
        };
        let may_be_theirs = sudo == Sudo::Anywhere || (!rest.is_empty() && !found.is_symlink());
        if found.uid() != 0 && !(may_be_theirs && asked_by == Some(found.uid())) {
            return Ok(Some((next, found)));
        }
        if found.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            rest.extend(names(&fs::read_link(&next)?));
            continue;
        }
        let is_sticky = found.is_dir() && found.mode() & 0o1000 != 0;
        if found.mode() & 0o022 != 0 && !is_sticky && found.uid() == 0 {
            return Err(io::Error::other(format!(
                "{} is root's, and others may write it: run this as the gateway's user (`runuser -u NAME -- headgate …`), or give it to that user",
                next.display()
            )));
        }
        at = next;
    }
    Ok(None)
}

/// What is not there yet is root's, unless others may make it before root does, as in `/tmp`.
fn nobody_may_make(path: &Path, folder: &Path) -> io::Result<()> {
    if fs::symlink_metadata(folder)?.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} is not there, and others may make it, for they may write {}: make it first, as the gateway's user",
        path.display(),
        folder.display()
    )))
}

/// Of a path, the last one first. An absolute one begins with the root of all.
pub(crate) fn names(path: &Path) -> Vec<PathBuf> {
    let components = path.components().rev();
    let names = components.filter(|component| *component != Component::CurDir);
    names.map(|name| PathBuf::from(name.as_os_str())).collect()
}

/// Root stays the real user, whom nobody else can send signals or look into.
fn become_user(user: Uid, group: Gid) -> io::Result<()> {
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, group, Gid::ROOT)?;
    Ok(set_thread_res_uid(Uid::ROOT, user, Uid::ROOT)?)
}

fn become_root(group: Gid, groups: &[Gid]) -> io::Result<()> {
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    set_thread_res_gid(Gid::ROOT, group, Gid::ROOT)?;
    Ok(set_thread_groups(groups)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

    /// Only root can give files away: without it there is nothing to try.
    fn folder() -> Option<tempfile::TempDir> {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        geteuid().is_root().then_some(folder)
    }

    #[test]
    fn what_root_does_in_somebodys_folder_has_their_rights_alone() {
        let Some(above) = folder() else { return };
        let path = |name: &str| above.path().join(name);
        fs::create_dir(path("data")).unwrap();
        lchown(path("data"), Some(4_711), Some(4_712)).unwrap();
        fs::write(path("roots"), "secret").unwrap();
        fs::set_permissions(path("roots"), Permissions::from_mode(0o600)).unwrap();
        {
            let mut acting = Acting::default();
            acting.as_owner_of(&path("data/none/yet")).unwrap();
            fs::write(path("data/a"), "").unwrap();
            assert!(fs::read(path("roots")).is_err() && fs::write(path("b"), "").is_err());
            assert_eq!(named(|| fs::read(path("roots"))).unwrap(), b"secret");
            assert!(fs::read(path("roots")).is_err(), "not for longer than that");
            let other = std::thread::spawn(|| geteuid().as_raw());
            assert_eq!(other.join().unwrap(), 4_711);
        }
        fs::write(path("b"), "").unwrap();
        let made = fs::metadata(path("data/a")).unwrap();
        assert_eq!((made.uid(), made.gid()), (4_711, 4_712));
    }

    #[test]
    fn root_does_not_write_where_another_user_leads() {
        let Some(above) = folder() else { return };
        let path = |name: &str| above.path().join(name);
        for (name, user) in [("data", 0), ("home", 4_711)] {
            fs::create_dir(path(name)).unwrap();
            lchown(path(name), Some(user), None).unwrap();
        }
        fs::write(path("roots"), "").unwrap();
        symlink(path("roots"), path("home/users.json")).unwrap();
        let mut acting = Acting::default();
        acting.as_owner_of(&path("data")).unwrap();
        acting.may_write(&path("data/users.json")).unwrap();
        acting.may_write(&path("home/users.json")).unwrap_err();
        acting.may_write(&path("home/none.json")).unwrap_err();
        // With that user's rights it may be tried.
        acting.as_owner_of(&path("home")).unwrap();
        acting.may_write(&path("home/users.json")).unwrap();
    }

    #[test]
    fn the_first_name_that_is_not_roots_says_whose_it_is() {
        let Some(above) = folder() else { return };
        let path = |name: &str| above.path().join(name);
        for (folder, user) in [
            ("home", 4_711),
            ("home/data", 4_712),
            ("home/own", 0),
            ("roots", 0),
        ] {
            fs::create_dir(path(folder)).unwrap();
            lchown(path(folder), Some(user), None).unwrap();
        }
        for (link, to, user) in [
            ("home/led", "../roots", 4_711),
            ("mine", "roots/x/..", 0),
            ("led", "roots", 4_711),
        ] {
            symlink(to, path(link)).unwrap();
            lchown(path(link), Some(user), None).unwrap();
        }
        let whose = |name: &str, asked_by| {
            let found = other_than_root(&path(name), asked_by, Sudo::Above).unwrap();
            found.map_or(0, |(_, found)| found.uid())
        };
        for (name, user) in [
            ("home/data", 4_711),
            ("home/own", 4_711),
            ("home/none", 4_711),
            ("home/led/x", 4_711),
            ("led/", 4_711),
            ("led/.", 4_711),
            ("roots/none", 0),
            ("roots/../home/own", 4_711),
        ] {
            assert_eq!(whose(name, None), user, "{name}");
        }
        // A folder of root's in the home of whoever has become root.
        assert_eq!(whose("home/own", Some(4_711)), 0);
        assert_eq!(whose("home", Some(4_711)), 4_711);
        assert_eq!(whose("home/data", Some(4_711)), 4_712);
        assert_eq!(whose("home/led/x", Some(4_711)), 4_711);
        let config = other_than_root(&path("home/led/x"), Some(4_711), Sudo::Anywhere);
        assert!(config.unwrap().is_none());

        fs::create_dir(path("roots/x")).unwrap();
        assert_eq!(whose("mine/y", None), 0);
        for (mode, is_roots) in [(0o770, false), (0o707, false), (0o1777, true)] {
            fs::set_permissions(path("roots/x"), Permissions::from_mode(mode)).unwrap();
            fs::create_dir(path("roots/x/y")).unwrap();
            let found = other_than_root(&path("roots/x/y"), None, Sudo::Above);
            assert_eq!(found.is_ok(), is_roots);
            fs::remove_dir(path("roots/x/y")).unwrap();
            // Whoever comes first makes it.
            let found = other_than_root(&path("roots/x/y"), None, Sudo::Above);
            assert!(found.is_err());
        }
    }
}
