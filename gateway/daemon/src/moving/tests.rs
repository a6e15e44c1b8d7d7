//! Of folders alone: what a gateway does with them is in the black-box tests.

use super::*;
use crate::private::kept_beside_store;
use std::os::unix::fs::{PermissionsExt as _, symlink};

struct Place(tempfile::TempDir);

impl Place {
    /// With data in `old`.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.old().join("configurations")).unwrap();
        for (name, text) in [
            ("users.json", "{}"),
            ("audit.log", "one\n"),
            ("configurations/1.toml", "a"),
            ("configurations/2.toml", "b"),
        ] {
            fs::write(place.old().join(name), text).unwrap();
        }
        place
    }

    fn old(&self) -> PathBuf {
        self.0.path().join("old")
    }

    fn new_one(&self) -> PathBuf {
        self.0.path().join("new")
    }

    /// What a configuration that names this folder comes to.
    fn prepare(&self, name: &str) -> (Result<Option<Ready>, Unfit>, Config) {
        let wanted = self.0.path().join(name);
        let mut config = Config::default();
        config.data_dir.clone_from(&wanted);
        if let Some(folder) = whereabouts::elsewhere(&wanted).unwrap() {
            config.data_dir = folder;
            config.moves_to = Some(wanted);
        }
        (prepare(&mut config, &self.old()), config)
    }

    fn refused(&self, name: &str) -> String {
        self.prepare(name).0.unwrap_err().to_string()
    }

    fn copy(&self) -> Copy {
        fs::create_dir_all(self.new_one()).unwrap();
        Copy::new(&self.old(), &self.new_one())
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.new_one().join(name)).unwrap_or_default()
    }
}

fn wanted() -> AtomicBool {
    AtomicBool::new(true)
}

#[test]
fn an_empty_folder_says_where_the_data_are_before_anything_is_valid() {
    let place = Place::new();
    let (ready, config) = place.prepare("new");
    assert_eq!(
        (&config.data_dir, config.moves_to.as_ref()),
        (&place.old(), Some(&place.new_one()))
    );
    assert_eq!(
        whereabouts::elsewhere(&place.new_one()).unwrap(),
        Some(place.old())
    );
    drop(ready);
    assert!(!place.new_one().exists(), "the configuration was refused");
    fs::create_dir(place.new_one()).unwrap();
    place.prepare("new").0.unwrap().unwrap().keep();
    assert_eq!(
        whereabouts::elsewhere(&place.new_one()).unwrap(),
        Some(place.old())
    );
    // Once more is the same.
    let (again, config) = place.prepare("new");
    assert!(again.unwrap().is_none());
    assert_eq!(config.moves_to, Some(place.new_one()));
}

#[test]
fn the_same_folder_by_another_name_is_no_move() {
    let place = Place::new();
    symlink(place.old(), place.0.path().join("link")).unwrap();
    for name in ["old", "link", "old/../old"] {
        let (ready, config) = place.prepare(name);
        assert!(ready.unwrap().is_none(), "{name}");
        assert_eq!((config.data_dir, config.moves_to), (place.old(), None), "{name}");
    }
}

#[test]
fn a_folder_that_cannot_have_the_data_is_refused_and_left_as_it_is() {
    let place = Place::new();
    assert!(
        place
            .refused("old/below")
            .contains("none of both may be in the other")
    );
    assert!(place.refused("").contains("none of both may be in the other"));
    fs::create_dir(place.new_one()).unwrap();
    fs::write(place.new_one().join("users.json"), "{}").unwrap();
    assert!(place.refused("new").contains("data of a gateway already"));
    let third = place.0.path().join("third");
    fs::create_dir(&third).unwrap();
    whereabouts::note(&third, &place.new_one()).unwrap();
    let told = place.refused("third");
    assert!(told.contains("the data of that folder are in"), "{told}");
    fs::write(place.0.path().join("file"), "").unwrap();
    assert!(place.refused("file/below").contains("file"));
    assert!(!place.old().join("below").exists());
    assert_eq!(fs::read_dir(place.new_one()).unwrap().count(), 1);
}

#[test]
fn each_pass_copies_what_has_changed_since_the_last() {
    let place = Place::new();
    let mut copy = place.copy();
    assert_eq!(copy.pass(&wanted(), u64::MAX).unwrap(), 2 + 4 + 2);
    assert_eq!(
        (place.text("users.json"), place.text("configurations/2.toml")),
        ("{}".into(), "b".into())
    );
    let mode = fs::metadata(place.new_one().join("users.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // An appended line, a file that is replaced by one as long, one that goes, and one that comes.
    fs::write(place.old().join("audit.log"), "one\ntwo\n").unwrap();
    crate::private::replace(&place.old().join("users.json"), b"[]").unwrap();
    fs::remove_file(place.old().join("configurations/1.toml")).unwrap();
    fs::write(place.old().join("bans.json"), "[1]").unwrap();
    copy.pass(&wanted(), u64::MAX).unwrap();
    let names = ["audit.log", "users.json", "configurations/1.toml", "bans.json"];
    assert_eq!(
        names.map(|name| place.text(name)),
        ["one\ntwo\n", "[]", "", "[1]"].map(String::from)
    );
}

/// Two changes within a tick of the file system's clock look alike: what was just changed is copied again.
#[test]
fn what_has_settled_is_not_copied_again() {
    let place = Place::new();
    let mut copy = place.copy();
    copy.pass(&wanted(), u64::MAX).unwrap();
    fs::write(place.old().join("users.json"), "()").unwrap();
    assert!(copy.pass(&wanted(), u64::MAX).unwrap() >= 2);
    assert_eq!(place.text("users.json"), "()");
    std::thread::sleep(Duration::from_millis(1_100));
    copy.pass(&wanted(), u64::MAX).unwrap();
    assert_eq!(copy.pass(&wanted(), u64::MAX).unwrap(), 0);
}

#[test]
fn what_is_not_the_gateways_own_is_not_copied() {
    let place = Place::new();
    fs::write(place.old().join("notes.txt"), "mine").unwrap();
    fs::write(place.old().join("headgate.toml"), "").unwrap();
    fs::create_dir(place.old().join("store")).unwrap();
    fs::create_dir(place.0.path().join("disk")).unwrap();
    fs::write(place.0.path().join("disk/1.archive"), "backup").unwrap();
    symlink("../disk", place.old().join("backups")).unwrap();
    place.copy().pass(&wanted(), u64::MAX).unwrap();
    for name in ["notes.txt", "headgate.toml", "store"] {
        assert!(!place.new_one().join(name).exists(), "{name}");
    }
    assert_eq!(
        place.text("backups/1.archive"),
        "backup",
        "a link leads where it led"
    );
}

/// Everybody waits for the last pass.
#[test]
fn a_pass_copies_no_more_than_it_may() {
    let place = Place::new();
    assert_eq!(place.copy().pass(&wanted(), 8).unwrap(), 8);
    let error = place.copy().pass(&wanted(), 7).unwrap_err().to_string();
    assert!(error.contains("changes all the time"), "{error}");
}

#[test]
fn a_copy_that_is_not_wanted_any_more_ends() {
    let place = Place::new();
    let error = place.copy().pass(&AtomicBool::new(false), u64::MAX).unwrap_err();
    assert!(error.to_string().contains("not wanted"), "{error}");
}

/// Cut off before and after each thing that the last step does: whoever has either configuration finds one folder with all data.
#[test]
fn whenever_the_last_step_ends_one_folder_has_the_data() {
    let place = Place::new();
    place.prepare("new").0.unwrap().unwrap().keep();
    let found = |place: &Place| {
        let of = |folder: PathBuf| whereabouts::elsewhere(&folder).unwrap().unwrap_or(folder);
        (of(place.old()), of(place.new_one()))
    };
    let mut copy = place.copy();
    copy.pass(&wanted(), u64::MAX).unwrap();
    assert_eq!(found(&place), (place.old(), place.old()));
    whereabouts::note_origin(&place.new_one(), &place.old()).unwrap();
    assert_eq!(found(&place), (place.old(), place.old()));
    assert_eq!(whereabouts::came_from(&place.new_one()), None);
    whereabouts::forget(&place.new_one()).unwrap();
    // Both are whole.
    assert_eq!(found(&place), (place.old(), place.new_one()));
    whereabouts::note(&place.old(), &place.new_one()).unwrap();
    assert_eq!(found(&place), (place.new_one(), place.new_one()));
    assert_eq!(whereabouts::came_from(&place.new_one()), Some(place.old()));

    // The same at once.
    let place = Place::new();
    place.prepare("new").0.unwrap().unwrap().keep();
    arrive(&mut place.copy(), &place.old(), &place.new_one(), &wanted()).unwrap();
    assert_eq!(found(&place), (place.new_one(), place.new_one()));
}

/// Somebody has removed the new folder meanwhile, or put another one in its place.
#[test]
fn a_folder_that_is_not_what_it_was_gets_no_data() {
    let place = Place::new();
    place.prepare("new").0.unwrap().unwrap().keep();
    let mut copy = place.copy();
    copy.pass(&wanted(), u64::MAX).unwrap();
    fs::remove_dir_all(place.new_one()).unwrap();
    fs::create_dir(place.new_one()).unwrap();
    arrive(&mut copy, &place.old(), &place.new_one(), &wanted()).unwrap_err();
    assert_eq!(whereabouts::elsewhere(&place.old()).unwrap(), None);
    lead_back(&place.new_one(), &place.old()).unwrap();
    // What was removed is copied again, although it has not changed.
    std::thread::sleep(Duration::from_millis(1_100));
    copy.pass(&wanted(), u64::MAX).unwrap();
    copy.pass(&wanted(), u64::MAX).unwrap();
    fs::remove_file(place.new_one().join("users.json")).unwrap();
    arrive(&mut copy, &place.old(), &place.new_one(), &wanted()).unwrap();
    assert_eq!(place.text("users.json"), "{}");
}

#[test]
fn the_folder_of_before_is_left_empty_but_for_what_the_configuration_names() {
    let place = Place::new();
    for name in kept_beside_store() {
        let path = place.old().join(name);
        if !path.exists() {
            fs::write(path, "").unwrap();
        }
    }
    fs::write(place.old().join("notes.txt"), "mine").unwrap();
    fs::create_dir(place.0.path().join("disk")).unwrap();
    fs::write(place.0.path().join("disk/journal"), "").unwrap();
    symlink(place.0.path().join("disk"), place.old().join("store")).unwrap();
    let but = BTreeSet::from(["configurations".into()]);
    let left = files::remove_data(&place.old(), &but);
    assert_eq!(left, [place.old().join("configurations")]);
    let names = fs::read_dir(place.old()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["configurations", "notes.txt"]);
    assert_eq!(
        fs::read_dir(place.0.path().join("disk")).unwrap().count(),
        0,
        "it was the store"
    );
}

/// What a start could not read it has kept for whoever can.
#[test]
fn parts_of_the_store_that_were_set_aside_are_left() {
    let place = Place::new();
    fs::create_dir_all(place.old().join("store/journal")).unwrap();
    fs::create_dir_all(place.old().join("store/tables.damaged-1")).unwrap();
    for name in [
        "store/export",
        "store/journal/0000000001.log",
        "store/journal/0000000002.unreadable-1",
    ] {
        fs::write(place.old().join(name), "").unwrap();
    }
    let left = files::remove_data(&place.old(), &BTreeSet::new());
    assert_eq!(left, [place.old().join("store")]);
    assert!(place.old().join("store/tables.damaged-1").exists());
    assert!(place.old().join("store/journal/0000000002.unreadable-1").exists());
    assert!(
        !place.old().join("store/journal/0000000001.log").exists()
            && !place.old().join("store/export").exists()
    );
}
