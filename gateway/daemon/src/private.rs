//! What the gateway keeps is for nobody else: files 0600, folders 0700, those of libraries too.

pub(crate) use headgate_auth::file::{LONGEST, open, read, remove, replace, replace_foreign};
use serde::de::DeserializeOwned;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders that the gateway keeps in its data folder. An archive holds all of it, and a backup that is taken back takes the place of all.
pub(crate) const FOLDERS: [&str; 10] = [
    "store",
    "store.format-1",
    "store.replaced",
    "store.moving",
    "bridges",
    "configurations",
    "traces",
    "secrets",
    "certificates",
    "provisioned",
];

/// Files of the same kind.
pub(crate) const FILES: [&str; 6] = [
    "clock",
    "alarms.json",
    "users.json",
    "bans.json",
    "administrators.json",
    "history",
];

/// What else it writes there as a whole. `users.json` is not among these: a command may be writing it now.
const REPLACED: [&str; 19] = [
    "clock",
    "alarms.json",
    "bans.json",
    "administrators.json",
    "history",
    "audit.begun",
    "setup-code",
    "provisioning.toml",
    "provisioning.refused",
    "provisioning.json",
    "provisioning.taken",
    "headgate.toml",
    "headgate.toml.before",
    "headgate.toml.replaced",
    "firmware.json",
    "firmware-commands.json",
    "starts.json",
    "recovery",
    "wan",
];

/// The audit log. It belongs to the gateway that has written it: a backup that is taken back leaves it where it is.
pub(crate) const AUDIT: [&str; 9] = [
    "audit.log",
    "audit.log.1",
    "audit.log.2",
    "audit.log.3",
    "audit-others.log",
    "audit-others.log.1",
    "audit-others.log.2",
    "audit-others.log.3",
    "audit.begun",
];

/// All of which a backup takes the place.
pub(crate) fn ours() -> impl Iterator<Item = &'static str> {
    FOLDERS.into_iter().chain(FILES)
}

/// All that the gateway keeps in its data folder. Earlier versions may have let others read it.
pub(crate) fn all_ours() -> impl Iterator<Item = &'static str> {
    ours().chain(AUDIT)
}

/// The store in all its states, in the data folder.
pub(crate) const STORES: [&str; 4] = ["store", "store.format-1", "store.replaced", "store.moving"];

/// What is neither the store nor among [`ours`], and not replaced as a whole.
const OTHERS: [&str; 4] = ["backups", "firmware", "provisioned.before", "taken-back"];

/// All that the gateway keeps in its data folder beside the store. A configuration that lies there is the operator's.
pub(crate) fn kept_beside_store() -> impl Iterator<Item = &'static str> {
    let folders = FOLDERS.into_iter().filter(|name| !name.starts_with("store"));
    let replaced = REPLACED
        .into_iter()
        .filter(|name| !name.starts_with("headgate.toml"));
    let replaced = replaced.filter(|name| !FILES.contains(name) && !AUDIT.contains(name));
    folders.chain(FILES).chain(AUDIT).chain(replaced).chain(OTHERS)
}

/// Whether such a name is a folder's.
pub(crate) fn is_folder_beside_store(name: &str) -> bool {
    let is_store = name.starts_with("store");
    (FOLDERS.contains(&name) && !is_store) || ["backups", "firmware", "provisioned.before"].contains(&name)
}

/// A file beside another one, of the same name with this end.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What a text file says, of at most so many bytes.
pub(crate) fn read_text(path: &Path, longest: u64) -> io::Result<String> {
    String::from_utf8(read(path, longest)?).map_err(io::Error::other)
}

/// What a file says in JSON that the gateway has written for itself; `None` if there is none of at most so many bytes that can be read.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, longest: u64) -> Option<T> {
    serde_json::from_slice(&read(path, longest).ok()?).ok()
}

/// From now on this process makes files that only their owner can read. Before there are threads.
pub(crate) fn make_files_private() {
    let others = rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO;
    rustix::process::umask(others);
}

/// Takes from others what earlier versions gave them. Folders above are the operator's.
pub(crate) fn close_old_files(data_dir: &Path) {
    for name in all_ours() {
        let path = data_dir.join(name);
        if let Err(error) = close(&path) {
            tracing::warn!(path = %path.display(), %error, "others may be able to read what is kept here");
        }
    }
}

/// Removes what [`replace`] has left that was killed: passwords may stand in it. Where the data are held, so that no other process writes.
pub(crate) fn remove_unfinished(data_dir: &Path) {
    let files = REPLACED.map(|name| data_dir.join(format!("{name}.new")));
    let folders = FOLDERS.iter().filter(|name| !name.starts_with("store"));
    let folders = folders.map(|name| data_dir.join(name));
    let folders = folders.filter(|folder| fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir()));
    let within = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let within = within.map(|entry| entry.path());
    let within = within.filter(|path| path.extension().is_some_and(|end| end == "new"));
    for path in files.into_iter().chain(within) {
        if fs::symlink_metadata(&path).is_ok_and(|it| it.is_file())
            && let Err(error) = remove(&path)
        {
            tracing::warn!(path = %path.display(), %error, "what was not written to its end is not removed");
        }
    }
}

fn close(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            close(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_could_read_is_closed_and_what_is_not_ours_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        fs::create_dir_all(path("store/journal")).unwrap();
        for (name, before) in [
            ("store/journal/1.log", 0o644),
            ("clock", 0o644),
            ("server.pem", 0o644),
            ("store", 0o755),
        ] {
            if name != "store" {
                fs::write(path(name), "").unwrap();
            }
            fs::set_permissions(path(name), Permissions::from_mode(before)).unwrap();
        }
        close_old_files(folder.path());
        assert_eq!(
            (mode("store"), mode("store/journal"), mode("store/journal/1.log")),
            (0o700, 0o700, 0o600)
        );
        assert_eq!((mode("clock"), mode("server.pem")), (0o600, 0o644));
    }

    /// `replace` writes `NAME.new` first, with passwords in it, and may be killed there.
    #[test]
    fn what_was_not_written_to_its_end_is_removed_and_what_is_not_ours_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("provisioned")).unwrap();
        fs::create_dir(path("store")).unwrap();
        let ours = [
            "provisioning.toml.new",
            "setup-code.new",
            "provisioned/ca.pem.new",
        ];
        let others = [
            "provisioning.toml",
            "provisioned/ca.pem",
            "server.pem.new",
            "store/1.new",
        ];
        for name in ours.iter().chain(&others) {
            fs::write(path(name), "").unwrap();
        }
        std::os::unix::fs::symlink(path("store"), path("secrets")).unwrap();
        remove_unfinished(folder.path());
        assert!(ours.iter().all(|name| !path(name).exists()));
        assert!(others.iter().all(|name| path(name).exists()));
    }
}
