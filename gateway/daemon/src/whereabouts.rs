//! Where the data of a data folder are. `data_dir` says where they should be. While they are not there, as they are on their way or have been taken elsewhere
//! since, a link in that folder leads to where they are. So whoever has an older configuration, or one that is newer than the data, finds them all the same.
//!
//! It is a link, for that takes no room on a disk that is full, as the one that data are taken from often is.
//!
//! The link counts only if it belongs to whom both folders belong: nobody else leads a command of root's elsewhere.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

/// The name of the link.
const LINK: &str = "data-is-in";
/// The same of where the data came from, until nothing of them is left there.
const ORIGIN: &str = "data-was-in";
/// The same of where they are being copied to, in the folder that has them.
const GOAL: &str = "data-goes-to";
/// Folders that lead on, one to the next.
const MOST: usize = 40;

/// Why it is not known where the data are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// Somebody else has written it.
    #[error("{}: it does not belong to whom its folder and that of the data belong: it is not gone by", .0.display())]
    Foreign(PathBuf),
    /// It leads nowhere.
    #[error("{}: {cause}; it should be a link to where the data are: remove it if this folder is to begin anew", .link.display())]
    Unreadable {
        /// Which one.
        link: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// There is nothing.
    #[error("{} says that the data are in {}: {cause}; remove it if this folder is to begin anew", .link.display(), .to.display())]
    Gone {
        /// What leads there.
        link: PathBuf,
        /// The folder.
        to: PathBuf,
        /// What the system says of it.
        #[source]
        cause: io::Error,
    },
    /// Each leads to the next.
    #[error("{}: it leads on without an end: remove it where the data are", .0.display())]
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
        if has_just_come(&at, &next) {
            return Ok((at != wanted).then_some(at));
        }
        at = next;
    }
    Err(Lost::Endless(folder.join(LINK)))
}

/// Whether data came to `folder` from another one that leads here, although `folder` leads there: the end of a move was interrupted.
fn has_just_come(folder: &Path, other: &Path) -> bool {
    let leads_here = matches!(next(other), Ok(Some(to)) if is_same(&to, folder));
    leads_here && fs::read_link(folder.join(ORIGIN)).is_ok_and(|from| is_same(&from, other))
}

/// The folder to which one leads.
pub(crate) fn next(folder: &Path) -> Result<Option<PathBuf>, Lost> {
    let link = folder.join(LINK);
    // Whoever may not look there is told by whatever it tries next.
    let Ok(known) = fs::symlink_metadata(&link) else {
        return Ok(None);
    };
    let to = match fs::read_link(&link) {
        // It has just gone: the data came here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        to => to.map_err(|cause| Lost::Unreadable {
            link: link.clone(),
            cause,
        })?,
    };
    let found = fs::metadata(&to).and_then(|found| match found.is_dir() {
        true => Ok(found),
        false => Err(rustix::io::Errno::NOTDIR.into()),
    });
    let found = found.map_err(|cause| Lost::Gone {
        link: link.clone(),
        to: to.clone(),
        cause,
    })?;
    let owner = fs::metadata(folder).map_or(u32::MAX, |folder| folder.uid());
    match to.is_absolute() && known.uid() == owner && found.uid() == owner {
        true => Ok(Some(to)),
        false => Err(Lost::Foreign(link)),
    }
}

/// In one step, and for good.
fn write(folder: &Path, name: &str, path: &Path) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    remove(&new)?;
    symlink(absolute(path), &new)?;
    fs::rename(new, folder.join(name))?;
    sync(folder)
}

fn remove(link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Notes in `folder` that the data are in `to`.
pub(crate) fn note(folder: &Path, to: &Path) -> io::Result<()> {
    write(folder, LINK, to)
}

/// The same where nothing says so yet. Of two at once one succeeds.
pub(crate) fn note_first(folder: &Path, to: &Path) -> io::Result<()> {
    symlink(absolute(to), folder.join(LINK))?;
    sync(folder)
}

/// Notes in `folder`, which has the data or is about to, that they came from another one.
pub(crate) fn note_origin(folder: &Path, from: &Path) -> io::Result<()> {
    write(folder, ORIGIN, from)
}

/// Notes in `folder` that its data are being copied.
pub(crate) fn note_goal(folder: &Path, to: &Path) -> io::Result<()> {
    write(folder, GOAL, to)
}

/// Where data are left that came to `folder`; only if it is known there that they have gone.
pub(crate) fn came_from(folder: &Path) -> Option<PathBuf> {
    let from = fs::read_link(folder.join(ORIGIN)).ok()?;
    let leads_here = next(&from).ok().flatten().is_some_and(|to| is_same(&to, folder));
    (leads_here && !is_same(&from, folder)).then_some(from)
}

/// Whether a whole copy of data came to `folder`, from which not all has been removed where they were.
pub(crate) fn has_origin(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join(ORIGIN)).is_ok()
}

/// Where a copy of the data in `folder` may be.
pub(crate) fn goes_to(folder: &Path) -> Option<PathBuf> {
    fs::read_link(folder.join(GOAL)).ok()
}

/// From now on the data are in `folder`.
pub(crate) fn forget(folder: &Path) -> io::Result<()> {
    forget_link(folder, LINK)
}

/// Nothing is left where they came from.
pub(crate) fn forget_origin(folder: &Path) -> io::Result<()> {
    forget_link(folder, ORIGIN)
}

/// There is no copy.
pub(crate) fn forget_goal(folder: &Path) -> io::Result<()> {
    forget_link(folder, GOAL)
}

fn forget_link(folder: &Path, name: &str) -> io::Result<()> {
    let link = folder.join(name);
    match fs::symlink_metadata(&link) {
        Err(_) => Ok(()),
        Ok(_) => {
            remove(&link)?;
            sync(folder)
        }
    }
}

/// Whether two paths lead to the same folder.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let found = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| absolute(path));
    absolute(one) == absolute(other) || found(one) == found(other)
}

/// Whether one folder is in the other.
pub(crate) fn is_below(one: &Path, other: &Path) -> bool {
    real(one).starts_with(real(other))
}

/// A path without links. What is not there yet is where the folder above it is.
pub(crate) fn real(path: &Path) -> PathBuf {
    let path = absolute(path);
    let known = path
        .ancestors()
        .find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    match known {
        Some((above, found)) => found.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
        None => path,
    }
}

pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The end of a move was interrupted. Which of both has the data is known where they came to.
    #[test]
    fn of_two_folders_that_lead_to_each_other_the_one_has_the_data_to_which_they_came() {
        let place = Place::new(&["a", "b"]);
        note(&place.path("a"), &place.path("b")).unwrap();
        note(&place.path("b"), &place.path("a")).unwrap();
        let told = elsewhere(&place.path("a")).unwrap_err().to_string();
        assert!(told.contains("without an end"), "{told}");
        note_origin(&place.path("b"), &place.path("a")).unwrap();
        assert_eq!(place.elsewhere("a"), Some(place.path("b")));
        assert_eq!(place.elsewhere("b"), None);
        assert_eq!(came_from(&place.path("b")), Some(place.path("a")));
        forget(&place.path("b")).unwrap();
        assert_eq!(place.elsewhere("a"), Some(place.path("b")));
        assert_eq!(place.elsewhere("b"), None);
    }

    #[test]
    fn of_two_who_want_a_folder_one_gets_it() {
        let place = Place::new(&["a", "b", "c"]);
        note_first(&place.path("c"), &place.path("a")).unwrap();
        note_first(&place.path("c"), &place.path("b")).unwrap_err();
        assert_eq!(place.elsewhere("c"), Some(place.path("a")));
    }

    #[test]
    fn who_is_led_to_nothing_or_by_something_else_is_told() {
        let place = Place::new(&["a", "b"]);
        note(&place.path("a"), &place.path("gone")).unwrap();
        let told = elsewhere(&place.path("a")).unwrap_err().to_string();
        assert!(told.contains("gone") && told.contains("remove it"), "{told}");
        let link = place.path("a").join(LINK);
        fs::remove_file(&link).unwrap();
        symlink("../b", &link).unwrap();
        let told = elsewhere(&place.path("a")).unwrap_err();
        assert!(matches!(told, Lost::Gone { .. } | Lost::Foreign(_)), "{told}");
        fs::remove_file(&link).unwrap();
        fs::write(&link, "/b").unwrap();
        let told = elsewhere(&place.path("a")).unwrap_err();
        assert!(matches!(told, Lost::Unreadable { .. }), "{told}");
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        let told = elsewhere(&place.path("a")).unwrap_err();
        assert!(matches!(told, Lost::Unreadable { .. }), "{told}");
    }

    /// Only root can give a link away.
    #[test]
    fn nobody_is_led_by_a_strangers_link() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = Place::new(&["a", "b"]);
        note(&place.path("a"), &place.path("b")).unwrap();
        std::os::unix::fs::lchown(place.path("a").join(LINK), Some(4_711), None).unwrap();
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
}
