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
        Copy::new(&self.old(), &self.new_one()).unwrap()
    }

    /// Of the copy.
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.new_one().join(ARRIVING).join(name)).unwrap_or_default()
    }

    /// All the way, but for the store.
    fn go(&self, from: &Path, to: &Path, named: &Named) {
        make_ready(from, to, named).unwrap();
        arrive(&mut Copy::new(from, to).unwrap(), from, to, &wanted()).unwrap();
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
    let mode = fs::metadata(place.new_one().join(ARRIVING).join("users.json"))
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
    files::remove_copy(&place.new_one()).unwrap();
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
    finish(&place.new_one()).unwrap();
    assert!(place.new_one().join(ARRIVING).exists(), "they are not there");
    whereabouts::note(&place.old(), &place.new_one()).unwrap();
    assert_eq!(found(&place), (place.new_one(), place.new_one()));
    assert_eq!(whereabouts::came_from(&place.new_one()), Some(place.old()));
    // In the middle of putting them in their places.
    fs::rename(
        place.new_one().join(ARRIVING).join("users.json"),
        place.new_one().join("users.json"),
    )
    .unwrap();
    for _ in 0..2 {
        finish(&place.new_one()).unwrap();
        assert_eq!(found(&place), (place.new_one(), place.new_one()));
        assert_eq!(
            names(&place.new_one()),
            ["audit.log", "configurations", "data-was-in", "users.json"]
        );
    }

    // The same at once.
    let place = Place::new();
    place.prepare("new").0.unwrap().unwrap().keep();
    place.go(&place.old(), &place.new_one(), &Named::default());
    assert_eq!(found(&place), (place.new_one(), place.new_one()));
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Somebody has removed the new folder meanwhile, has mounted another one in its place, or begins anew there.
#[test]
fn a_folder_that_is_not_what_it_was_gets_no_data_and_loses_none() {
    let place = Place::new();
    place.prepare("new").0.unwrap().unwrap().keep();
    let mut copy = place.copy();
    copy.pass(&wanted(), u64::MAX).unwrap();
    fs::remove_dir_all(place.new_one()).unwrap();
    fs::create_dir_all(place.new_one().join("backups")).unwrap();
    for file in ["users.json", "clock", "backups/theirs"] {
        fs::write(place.new_one().join(file), "theirs").unwrap();
    }
    let theirs = ["backups", "clock", "users.json"];
    arrive(&mut copy, &place.old(), &place.new_one(), &wanted()).unwrap_err();
    let told = make_ready(&place.old(), &place.new_one(), &Named::default()).unwrap_err();
    assert!(told.to_string().contains("does not say any more"), "{told}");
    assert_eq!(whereabouts::elsewhere(&place.old()).unwrap(), None);
    assert_eq!(names(&place.new_one()), theirs);
    // Nor where it says what it said.
    whereabouts::note(&place.new_one(), &place.old()).unwrap();
    let told = make_ready(&place.old(), &place.new_one(), &Named::default()).unwrap_err();
    assert!(told.to_string().contains("in the way"), "{told}");
    whereabouts::forget(&place.new_one()).unwrap();
    assert_eq!(names(&place.new_one()), theirs);
}

#[test]
fn a_copy_that_is_not_used_goes_and_nothing_else() {
    let place = Place::new();
    place.prepare("new").0.unwrap().unwrap().keep();
    fs::create_dir(place.new_one().join("secrets")).unwrap();
    fs::write(place.new_one().join("secrets/theirs"), "").unwrap();
    place.copy().pass(&wanted(), u64::MAX).unwrap();
    fs::create_dir_all(place.new_one().join("store/journal")).unwrap();
    fs::write(place.new_one().join("store/journal/0000000001.log"), "").unwrap();
    // Killed: the next try begins anew.
    make_ready(&place.old(), &place.new_one(), &Named::default()).unwrap();
    assert_eq!(names(&place.new_one()), ["data-is-in", "secrets"]);
    assert_eq!(names(&place.new_one().join("secrets")), ["theirs"]);
    // Nothing says any more that it is a copy: nothing is removed.
    place.copy().pass(&wanted(), u64::MAX).unwrap();
    whereabouts::forget(&place.new_one()).unwrap();
    let told = finish_interrupted(&place.new_one()).unwrap_err().to_string();
    assert!(told.contains("begin anew"), "{told}");
    assert_eq!(names(&place.new_one()), ["data-arrives", "secrets"]);
}

/// Files that a configuration names stay where they are, and may be renewed there. When the data come back, what was changed last counts.
#[test]
fn data_come_back_to_files_that_were_named() {
    let place = Place::new();
    let (old, new) = (place.old(), place.new_one());
    fs::create_dir(old.join("certificates")).unwrap();
    for name in ["named", "renewed", "unnamed"] {
        fs::write(old.join("certificates").join(name), "first").unwrap();
    }
    place.prepare("new").0.unwrap().unwrap().keep();
    let mut named = Named::default();
    let folder = old.join("certificates");
    named.add_of(&serde_json::json!([folder.join("named"), folder.join("renewed")]));
    place.go(&old, &new, &named);
    remove_left(&old, &new, &named).unwrap();
    whereabouts::forget_origin(&new).unwrap();
    assert_eq!(names(&old), ["certificates", "data-is-in"]);
    assert_eq!(names(&folder), ["named", "renewed"]);

    // Renewed at once there and where it was copied to; and others' files.
    let at = |path: &Path, text: &str, seconds| {
        fs::write(path, text).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(seconds);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(later)
            .unwrap();
    };
    at(&folder.join("named"), "second", 20);
    at(&new.join("certificates/named"), "older", 10);
    at(&new.join("certificates/renewed"), "second", 10);
    fs::create_dir(old.join("backups")).unwrap();
    fs::write(old.join("backups/theirs"), "").unwrap();
    // A try that fails takes nothing away.
    make_ready(&new, &old, &named).unwrap();
    Copy::new(&new, &old).unwrap().pass(&wanted(), u64::MAX).unwrap();
    make_ready(&new, &old, &named).unwrap();
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(
        (text("named"), text("renewed")),
        ("second".into(), "first".into())
    );

    place.go(&new, &old, &named);
    remove_left(&new, &old, &named).unwrap();
    assert_eq!(
        (text("named"), text("renewed")),
        ("second".into(), "second".into())
    );
    assert_eq!(text("unnamed"), "first");
    assert_eq!(names(&old.join("backups")), ["theirs"]);
    assert_eq!(names(&new), ["data-is-in"]);
}

/// A full disk has no room for a file, and a link needs none; one that fails has neither.
#[test]
fn data_whose_folder_cannot_say_that_they_have_gone_stay() {
    let place = Place::new();
    place.prepare("new").0.unwrap().unwrap().keep();
    let mut copy = place.copy();
    fs::create_dir(place.old().join("data-is-in.new")).unwrap();
    arrive(&mut copy, &place.old(), &place.new_one(), &wanted()).unwrap_err();
    fs::remove_dir(place.old().join("data-is-in.new")).unwrap();
    for folder in [place.old(), place.new_one()] {
        let found = whereabouts::elsewhere(&folder).unwrap().unwrap_or(folder);
        assert_eq!(found, place.old());
    }
    arrive(&mut copy, &place.old(), &place.new_one(), &wanted()).unwrap();
    assert_eq!(
        whereabouts::elsewhere(&place.old()).unwrap(),
        Some(place.new_one())
    );
}

/// A folder that stayed is a link there, or the other way round: nothing of both is lost, and what is in use stays.
#[test]
fn what_cannot_be_one_stays_beside_the_other() {
    let place = Place::new();
    let (old, new) = (place.old(), place.new_one());
    fs::create_dir_all(old.join("secrets/folder")).unwrap();
    fs::write(old.join("secrets/file"), "old").unwrap();
    fs::create_dir_all(new.join("secrets/file")).unwrap();
    fs::write(new.join("secrets/file/theirs"), "").unwrap();
    fs::write(new.join("secrets/folder"), "theirs").unwrap();
    fs::create_dir(old.join("certificates")).unwrap();
    symlink(new.join("certificates"), old.join("certificates/loop")).unwrap();
    fs::create_dir_all(new.join("certificates/loop")).unwrap();
    whereabouts::note(&new, &old).unwrap();
    place.go(&old, &new, &Named::default());
    assert_eq!(
        names(&new.join("secrets")),
        ["file", "file.arrived", "folder", "folder.arrived"]
    );
    assert!(new.join("secrets/file/theirs").exists() && new.join("secrets/folder").is_file());
    assert!(new.join("certificates/loop").is_dir());
}

/// As programs that renew certificates make them.
#[test]
fn links_to_what_is_copied_lead_to_the_copy() {
    let place = Place::new();
    let folder = place.old().join("certificates");
    fs::create_dir_all(folder.join("v1")).unwrap();
    fs::write(folder.join("v1/x.pem"), "one").unwrap();
    symlink("v1/x.pem", folder.join("x.pem")).unwrap();
    symlink(folder.join("v1"), folder.join("now")).unwrap();
    symlink("nowhere", folder.join("gone")).unwrap();
    fs::write(place.old().join("notes.txt"), "mine").unwrap();
    symlink("../notes.txt", folder.join("mine")).unwrap();
    place.prepare("new").0.unwrap().unwrap().keep();
    place.go(&place.old(), &place.new_one(), &Named::default());
    remove_left(&place.old(), &place.new_one(), &Named::default()).unwrap();
    let copied = place.new_one().join("certificates");
    assert_eq!(fs::read_to_string(copied.join("x.pem")).unwrap(), "one");
    assert_eq!(fs::read_to_string(copied.join("now/x.pem")).unwrap(), "one");
    assert_eq!(fs::read_to_string(copied.join("mine")).unwrap(), "mine");
    assert_eq!(fs::read_link(copied.join("gone")).unwrap(), Path::new("nowhere"));
}

/// A store may be a link to another disk, to which all the data go one day.
#[test]
fn data_go_beside_the_store_that_a_link_leads_to_and_not_into_it() {
    let place = Place::new();
    let disk = place.0.path().join("disk");
    for folder in ["journal", "photos"] {
        fs::create_dir_all(disk.join(folder)).unwrap();
    }
    symlink(&disk, place.old().join("store")).unwrap();
    assert!(place.refused("disk/journal").contains("none of both"));
    assert!(place.refused("disk/journal/new").contains("none of both"));
    for goal in ["disk", "disk/headgate"] {
        let (ready, _) = place.prepare(goal);
        drop(ready.unwrap().unwrap());
    }
    place.prepare("disk").0.unwrap().unwrap().keep();
    place.go(&place.old(), &disk, &Named::default());
    fs::create_dir(disk.join("store")).unwrap();
    fs::write(disk.join("store/export"), "").unwrap();
    remove_left(&place.old(), &disk, &Named::default()).unwrap();
    assert_eq!(
        names(&disk),
        [
            "audit.log",
            "configurations",
            "data-was-in",
            "photos",
            "store",
            "users.json"
        ]
    );
    assert!(disk.join("store/export").exists());
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
    fs::write(place.0.path().join("disk/export"), "").unwrap();
    symlink(place.0.path().join("disk"), place.old().join("store")).unwrap();
    let mut named = Named::default();
    named.add_of(&place.old().join("configurations/1.toml").to_str().unwrap().into());
    let left = files::remove_data(&place.old(), &named);
    assert_eq!(left, [place.old().join("configurations/1.toml")]);
    assert_eq!(names(&place.old()), ["configurations", "notes.txt"]);
    assert_eq!(names(&place.old().join("configurations")), ["1.toml"]);
    assert!(names(&place.0.path().join("disk")).is_empty(), "it was the store");
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
    let left = files::remove_data(&place.old(), &Named::default());
    assert_eq!(left, [place.old().join("store")]);
    assert!(place.old().join("store/tables.damaged-1").exists());
    assert!(place.old().join("store/journal/0000000002.unreadable-1").exists());
    assert!(
        !place.old().join("store/journal/0000000001.log").exists()
            && !place.old().join("store/export").exists()
    );
}
