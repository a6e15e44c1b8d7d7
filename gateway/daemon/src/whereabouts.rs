//! Where the data of a data folder are. `data_dir` says where they should be. While they are not there, as they are on their way or have been taken elsewhere
//! since, a file in that folder says where they are. So whoever has an older configuration, or one that is newer than the data, finds them all the same.
//!
//! The file counts only if it belongs to whom both folders belong: nobody else leads a command of root's elsewhere.

use crate::private;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The name of the file. It holds the other folder's path from the root.
pub(crate) const FILE: &str = "data-is-in";
/// The same of where the data came from, until nothing of them is left there.
const ORIGIN: &str = "data-was-in";
/// Bytes of a path, as the system has it.
const LONGEST: u64 = 4_096;
/// Folders that lead on, one to the next.
const MOST: usize = 40;

/// Why it is not known where the data are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// Somebody else has written it.
    #[error("{}: it does not belong to whom its folder belongs, or others may write it: it is not gone by", .0.display())]
    Foreign(PathBuf),
    /// It says nothing.
    #[error("{}: {cause}; it should say where the data are: remove it if this folder is to begin anew", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// There is nothing.
    #[error("{} says that the data are in {}: {cause}; remove the file if this folder is to begin anew", .file.display(), .to.display())]
    Gone {
        /// The file that leads there.
        file: PathBuf,
        /// The folder.
        to: PathBuf,
        /// What the system says of it.
        #[source]
        cause: io::Error,
    },
    /// Each leads to the next.
    #[error("{}: it leads on without an end", .0.display())]
    Endless(PathBuf),
}

/// Where the data are of which a configuration says that they should be in `folder`; `None`: there.
pub(crate) fn elsewhere(folder: &Path) -> Result<Option<PathBuf>, Lost> {
    let wanted = absolute(folder);
    let mut at = wanted.clone();
    for _ in 0..MOST {
        let Some(next) = next(&at)? else {
            return Ok((at != wanted).then_some(at));
        };
        if is_same(&next, &wanted) {
            return Ok(None);
        }
        at = next;
    }
    Err(Lost::Endless(folder.join(FILE)))
}

/// The folder to which one leads.
fn next(folder: &Path) -> Result<Option<PathBuf>, Lost> {
    let file = folder.join(FILE);
    // Whoever may not look there is told by whatever it tries next.
    let Ok(known) = fs::symlink_metadata(&file) else {
        return Ok(None);
    };
    let to = match path_in(&file) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        to => to.map_err(|cause| Lost::Unreadable {
            file: file.clone(),
            cause,
        })?,
    };
    let found = fs::metadata(&to).and_then(|found| match found.is_dir() {
        true => Ok(found),
        false => Err(rustix::io::Errno::NOTDIR.into()),
    });
    let found = found.map_err(|cause| Lost::Gone {
        file: file.clone(),
        to: to.clone(),
        cause,
    })?;
    let owner = fs::metadata(folder).map_or(u32::MAX, |folder| folder.uid());
    let is_ours = known.is_file() && known.mode() & 0o022 == 0 && to.is_absolute();
    match is_ours && known.uid() == owner && found.uid() == owner {
        true => Ok(Some(to)),
        false => Err(Lost::Foreign(file)),
    }
}

fn path_in(file: &Path) -> io::Result<PathBuf> {
    let mut text = private::read(file, LONGEST)?;
    text.pop_if(|last| *last == b'\n');
    Ok(OsString::from_vec(text).into())
}

fn write(file: &Path, path: &Path) -> io::Result<()> {
    let mut text = absolute(path).into_os_string().into_vec();
    text.push(b'\n');
    private::replace(file, &text)
}

/// Notes in `folder` that the data are in `to`.
pub(crate) fn note(folder: &Path, to: &Path) -> io::Result<()> {
    write(&folder.join(FILE), to)
}

/// Notes in `folder`, which has the data or is about to, that they came from another one, where they still are.
pub(crate) fn note_origin(folder: &Path, from: &Path) -> io::Result<()> {
    write(&folder.join(ORIGIN), from)
}

/// Nothing is left there.
pub(crate) fn forget_origin(folder: &Path) {
    if let Err(error) = private::remove(&folder.join(ORIGIN)) {
        tracing::warn!(folder = %folder.display(), %error, "the folder still says where the data came from");
    }
}

/// Where data are left that came to `folder`; only if it is known there that they have gone.
pub(crate) fn came_from(folder: &Path) -> Option<PathBuf> {
    let from = path_in(&folder.join(ORIGIN)).ok()?;
    let leads_here = next(&from).ok().flatten().is_some_and(|to| is_same(&to, folder));
    (leads_here && !is_same(&from, folder)).then_some(from)
}

/// From now on the data are in `folder`.
pub(crate) fn forget(folder: &Path) -> io::Result<()> {
    private::remove(&folder.join(FILE))
}

/// Whether two paths lead to the same folder.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let found = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| absolute(path));
    absolute(one) == absolute(other) || found(one) == found(other)
}

/// Whether one folder is in the other.
pub(crate) fn is_below(one: &Path, other: &Path) -> bool {
    // What is not there yet is where the folder above it is.
    let found = |path: &Path| {
        let path = absolute(path);
        let known = path
            .ancestors()
            .find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
        match known {
            Some((above, found)) => found.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
            None => path,
        }
    };
    found(one).starts_with(found(other))
}

pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The names in `folder` of files that a text names between quotes, by whatever path.
pub(crate) fn named_in(text: &str, folder: &Path) -> BTreeSet<OsString> {
    let Ok(folder) = fs::canonicalize(folder) else {
        return BTreeSet::new();
    };
    let paths = text
        .split(['"', '\''])
        .filter(|part| part.contains('/') && part.len() < LONGEST as usize);
    let found = paths.filter_map(|path| fs::canonicalize(path).ok());
    let below = found.filter_map(|path| {
        let below = path.strip_prefix(&folder).ok()?;
        Some(below.components().next()?.as_os_str().to_owned())
    });
    below.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    struct Place(tempfile::TempDir);

    impl Place {
        fn new(names: &[&str]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for name in names {
                fs::create_dir(place.path(name)).unwrap();
            }
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn elsewhere(&self, name: &str) -> Option<PathBuf> {
            elsewhere(&self.path(name)).unwrap()
        }
    }

    #[test]
    fn a_folder_leads_to_the_data_over_others_too() {
        let place = Place::new(&["a", "b", "c"]);
        assert_eq!(place.elsewhere("a"), None);
        assert_eq!(place.elsewhere("nowhere"), None);
        note(&place.path("a"), &place.path("b")).unwrap();
        assert_eq!(place.elsewhere("a"), Some(place.path("b")));
        note(&place.path("b"), &place.path("c")).unwrap();
        assert_eq!(place.elsewhere("a"), Some(place.path("c")));
        forget(&place.path("b")).unwrap();
        assert_eq!(place.elsewhere("a"), Some(place.path("b")));
    }

    /// Both are whole then: a move had just ended.
    #[test]
    fn folders_that_lead_to_each_other_have_the_data_themselves() {
        let place = Place::new(&["a", "b"]);
        note(&place.path("a"), &place.path("b")).unwrap();
        note(&place.path("b"), &place.path("a")).unwrap();
        assert_eq!((place.elsewhere("a"), place.elsewhere("b")), (None, None));
    }

    #[test]
    fn who_is_led_to_nothing_or_by_somebody_else_is_told() {
        let place = Place::new(&["a", "b"]);
        note(&place.path("a"), &place.path("gone")).unwrap();
        let told = elsewhere(&place.path("a")).unwrap_err().to_string();
        assert!(
            told.contains("gone") && told.contains("remove the file"),
            "{told}"
        );
        note(&place.path("a"), &place.path("b")).unwrap();
        let file = place.path("a").join(FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(elsewhere(&place.path("a")), Err(Lost::Foreign(_))));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(matches!(
            elsewhere(&place.path("a")),
            Err(Lost::Unreadable { .. })
        ));
        fs::remove_dir(&file).unwrap();
        note(&place.path("b"), &place.path("b")).unwrap();
        symlink(place.path("b").join(FILE), &file).unwrap();
        assert!(matches!(elsewhere(&place.path("a")), Err(Lost::Foreign(_))));
    }

    #[test]
    fn one_folder_is_known_by_all_its_names() {
        let place = Place::new(&["a", "a/b"]);
        symlink(place.path("a"), place.path("link")).unwrap();
        assert!(is_same(&place.path("link"), &place.path("a")));
        assert!(!is_same(&place.path("link"), &place.path("a/b")));
        assert!(is_below(&place.path("link/new/deep"), &place.path("a")));
        assert!(!is_below(&place.path("a"), &place.path("link/b")));
    }

    #[test]
    fn files_are_found_by_whatever_path_names_them() {
        let place = Place::new(&["a", "a/certificates", "a/secrets", "a/backups", "b"]);
        symlink(place.path("a"), place.path("link")).unwrap();
        for file in ["a/certificates/x.pem", "a/secrets/y", "a/backups/z", "b/w"] {
            fs::write(place.path(file), "").unwrap();
        }
        let text = format!(
            "{{\"certificate\":\"{}\",\"key\":'{}', \"b\": \"{}\", \"gone\": \"{}\"}}",
            place.path("link/certificates/x.pem").display(),
            place.path("a/../a/secrets/y").display(),
            place.path("b/w").display(),
            place.path("a/backups/gone").display(),
        );
        let named = named_in(&text, &place.path("a"));
        assert_eq!(named, ["certificates", "secrets"].map(OsString::from).into());
    }
}
