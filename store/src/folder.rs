//! What of a folder belongs to the store in it. The folder may be a link to one that somebody has for more than the store.

use std::fs;
use std::io;
use std::path::{Component, Path};

/// All that a store makes in its folder, also for a moment.
const NAMES: [&str; 13] = [
    "journal",
    "journal-begun",
    "tables",
    "tables.new",
    "tables.old",
    "tables.room",
    "export",
    "export.new",
    "ballast",
    "lock",
    "outdated",
    "copying",
    "exporting",
];
/// What is in the names of damaged parts, which are for whoever can read them.
const SET_ASIDE: [&str; 2] = [".damaged-", ".unreadable-"];

/// Whether there is a store, or part of one, in a folder. What was set aside of one as damaged is none.
pub fn has_store(folder: &Path) -> bool {
    NAMES
        .iter()
        .any(|name| match fs::symlink_metadata(folder.join(name)) {
            // Parts that were set aside may be in it.
            Ok(found) if found.is_dir() => !holds_only_what_was_set_aside(&folder.join(name)),
            found => found.is_ok(),
        })
}

fn holds_only_what_was_set_aside(folder: &Path) -> bool {
    let mut names = fs::read_dir(folder).into_iter().flatten().flatten();
    let first = names.next();
    let is_set_aside = |entry: &fs::DirEntry| is_set_aside(&entry.file_name().to_string_lossy());
    first.is_some_and(|first| is_set_aside(&first)) && names.all(|entry| is_set_aside(&entry))
}

fn is_set_aside(name: &str) -> bool {
    SET_ASIDE.iter().any(|part| name.contains(part))
}

/// Whether a path leads to somewhere in what the store of a folder makes there. Both are whole, without links.
pub fn is_in_store(folder: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(folder) else {
        return false;
    };
    let first = below.components().next().map(Component::as_os_str);
    NAMES.iter().any(|name| first == Some(name.as_ref()))
}

/// Removes the store in a folder, and the folder if nothing else is in it. Whether nothing is left: parts that were set aside as damaged are, and what is not the store's.
///
/// A folder that is not there is no error.
pub fn remove_store(folder: &Path) -> io::Result<bool> {
    for name in NAMES {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => remove_parts(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    match fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(true),
            // A link, or a disk of its own.
            io::ErrorKind::NotADirectory | io::ErrorKind::ResourceBusy => {
                Ok(fs::read_dir(folder).is_ok_and(|mut left| left.next().is_none()))
            }
            io::ErrorKind::DirectoryNotEmpty => Ok(false),
            _ => Err(error),
        },
    }
}

fn remove_parts(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_set_aside(&entry.file_name().to_string_lossy()) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn folder_with(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("store");
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        (above, folder)
    }

    fn is_there(folder: &Path, name: &str) -> bool {
        folder.join(name).exists()
    }

    #[test]
    fn a_store_goes_with_its_folder() {
        let (_above, folder) = folder_with(&["journal/0000000001.log", "tables/db", "export", "lock"]);
        assert!(has_store(&folder));
        assert!(remove_store(&folder).unwrap());
        assert!(!folder.exists() && !has_store(&folder));
        assert!(remove_store(&folder).unwrap());
    }

    #[test]
    fn what_is_not_the_stores_stays() {
        let (above, disk) = folder_with(&["journal/0000000001.log", "photos/1.jpg", "export"]);
        let link = above.path().join("link");
        symlink(&disk, &link).unwrap();
        assert!(has_store(&link));
        assert!(!remove_store(&link).unwrap());
        assert!(is_there(&disk, "photos/1.jpg") && !is_there(&disk, "journal"));
        fs::remove_dir_all(disk.join("photos")).unwrap();
        assert!(remove_store(&link).unwrap());
        assert!(disk.exists(), "somebody has made it for the store");
    }

    #[test]
    fn what_was_set_aside_stays_and_is_no_store() {
        let aside = ["tables.damaged-1/db", "journal/0000000002.unreadable-1"];
        let (_above, folder) = folder_with(&[aside[0], aside[1], "journal/0000000001.log", "export"]);
        assert!(has_store(&folder));
        assert!(!remove_store(&folder).unwrap());
        assert!(aside.iter().all(|name| is_there(&folder, name)));
        assert!(!is_there(&folder, "journal/0000000001.log"));
        assert!(!has_store(&folder));
    }

    #[test]
    fn a_folder_beside_the_stores_own_is_not_in_it() {
        let folder = Path::new("/ssd");
        for (path, is_in) in [
            ("/ssd/journal", true),
            ("/ssd/tables/x/y", true),
            ("/ssd", false),
            ("/ssd/headgate", false),
            ("/other/journal", false),
        ] {
            assert_eq!(is_in_store(folder, Path::new(path)), is_in, "{path}");
        }
    }
}
