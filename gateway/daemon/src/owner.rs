//! What a command of root's does in a data folder, it does with the rights of the user who has it.
//!
//! That user may put links and pipes there at any moment, and says in the configuration where files go. So files are found, read and made as that user, to whom
//! they belong then. Only what root has named itself, such as an archive, is [root's to open](named).

use headgate_auth::file::folder_of;
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs::{self, Metadata};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A group without rights, where the folder's own is root's.
const NO_GROUP: u32 = 65_534;

/// As long as this is there, its thread and those that it starts have the rights of whoever has the folder.
#[must_use]
pub(crate) struct Acting {
    /// What root was a member of; `None`: nothing has changed.
    before: Option<(Gid, Vec<Gid>)>,
    _stays_in_its_thread: PhantomData<*const ()>,
}

impl Acting {
    /// Takes the rights of whoever has the folder in which something is to be done, or else the configuration that has named it, if root asks and it is not
    /// root's. Another user has its own rights anyway.
    pub(crate) fn for_owner_of(place: &Path, config: Option<&Path>) -> io::Result<Self> {
        let mut acting = Self {
            before: None,
            _stays_in_its_thread: PhantomData,
        };
        // Who can write a folder can put another file into it.
        let folder = config.map(folder_of);
        let places = [Some(place), config, folder];
        let Some(owner) = places.into_iter().flatten().find_map(other_than_root) else {
            return Ok(acting);
        };
        if geteuid().is_root() {
            acting.before = Some((getegid(), getgroups()?));
            let group = match owner.gid() {
                0 => NO_GROUP,
                group => group,
            };
            become_user(Uid::from_raw(owner.uid()), Gid::from_raw(group)).map_err(|error| {
                let user = owner.uid();
                io::Error::other(format!(
                    "what is user {user}'s is changed with that user's rights, which cannot be taken: {error}"
                ))
            })?;
        }
        Ok(acting)
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

/// Whose it is, or the link to it, if that is not root.
fn other_than_root(path: &Path) -> Option<Metadata> {
    let found = [fs::symlink_metadata(path), fs::metadata(path)];
    found.into_iter().flatten().find(|found| found.uid() != 0)
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
    use std::os::unix::fs::{PermissionsExt as _, chown};

    /// Only root can take somebody else's rights: without it there is nothing to try.
    #[test]
    fn what_root_does_in_somebodys_folder_has_their_rights_alone() {
        if !geteuid().is_root() {
            return;
        }
        let above = tempfile::tempdir().unwrap();
        fs::set_permissions(above.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| above.path().join(name);
        fs::create_dir(path("data")).unwrap();
        chown(path("data"), Some(4_711), Some(4_712)).unwrap();
        fs::write(path("roots"), "secret").unwrap();
        fs::set_permissions(path("roots"), fs::Permissions::from_mode(0o600)).unwrap();
        {
            let _acting = Acting::for_owner_of(&path("data"), None).unwrap();
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

        // A folder of root's, with the configuration of somebody who says where it is.
        fs::create_dir(path("etc")).unwrap();
        fs::write(path("etc/headgate.toml"), "").unwrap();
        let is_other = |config: &str| {
            let _acting = Acting::for_owner_of(above.path(), Some(&path(config))).unwrap();
            !geteuid().is_root()
        };
        assert!(!is_other("etc/headgate.toml") && !is_other("none"));
        std::os::unix::fs::lchown(path("etc"), Some(4_711), None).unwrap();
        assert!(is_other("etc/headgate.toml"));
        std::os::unix::fs::symlink(path("roots"), path("link")).unwrap();
        std::os::unix::fs::lchown(path("link"), Some(4_711), None).unwrap();
        assert!(is_other("link"));
        assert!(geteuid().is_root());
    }
}
