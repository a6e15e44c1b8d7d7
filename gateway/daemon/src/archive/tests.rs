//! What comes out is what went in; what is no archive, or a bad one, changes nothing; an interrupted restore is finished.

use super::pack::{Packing, hold_snapshot, pack, sources};
use super::place::{Outside, prepare};
use super::unpack::Unpacking;
use super::*;
use crate::config::Config;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

/// Of a gateway that does not stop.
static RUNS: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

fn packing() -> Packing<'static> {
    Packing {
        force: false,
        passphrase: None,
        reserve: 0,
        stop: &RUNS,
    }
}

fn unpack(file: &Path, passphrase: Option<&Passphrase>, into: &Path) -> Result<Manifest, ArchiveError> {
    let how = Unpacking {
        file,
        passphrase,
        reserve: 0,
        stop: &RUNS,
    };
    super::unpack::unpack(how, into)
}

/// A data folder with something of everything, and what does not go into an archive.
fn filled(data_dir: &Path) {
    for (name, text) in [
        ("store/journal/0000000001.log", "frames"),
        ("store/export", ""),
        ("store/lock", ""),
        ("store/ballast", "zeros"),
        ("store/tables.damaged-1/db", "rubbish"),
        ("users.json", "{}"),
        ("bridges/cloud.json", "{\"n\":1}"),
        ("configurations/list.json", "[]"),
        ("server.key", "the operator's"),
    ] {
        let path = data_dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn manifest() -> Manifest {
    Manifest {
        running: false,
        format: FORMAT,
        gateway: "0.1.0".into(),
        node: "n".into(),
        made: 1_795_382_257,
        store: None,
        users: 1,
        files: Vec::new(),
    }
}

/// An archive of a filled folder, in another.
fn packed(folder: &Path) -> (PathBuf, Manifest) {
    let data_dir = folder.join("a");
    filled(&data_dir);
    let (file, mut manifest) = (folder.join("a.archive"), manifest());
    pack(&file, &mut manifest, &sources(&data_dir).unwrap(), packing()).unwrap();
    (file, manifest)
}

fn restored(file: &Path, data_dir: &Path, force: bool) -> Result<Option<PathBuf>, ArchiveError> {
    fs::create_dir_all(data_dir).unwrap();
    let folder = prepare(data_dir, force)?;
    unpack(file, None, &folder)?;
    place(data_dir)
}

fn text(data_dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(data_dir.join(name)).ok()
}

#[test]
fn what_is_kept_comes_back_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (file, manifest) = packed(folder.path());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let expected = [
        "data/store/export",
        "data/store/journal/0000000001.log",
        "data/bridges/cloud.json",
        "data/configurations/list.json",
        "data/users.json",
    ];
    assert_eq!(names, expected);
    let data_dir = folder.path().join("b");
    assert_eq!(restored(&file, &data_dir, false).unwrap(), None);
    for name in expected {
        let name = name.strip_prefix("data/").unwrap();
        assert_eq!(
            text(&data_dir, name),
            text(&folder.path().join("a"), name),
            "{name}"
        );
    }
    assert!(!data_dir.join("server.key").exists());
}

#[test]
fn what_is_there_stays_or_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = packed(folder.path());
    let data_dir = folder.path().join("b");
    fs::create_dir_all(&data_dir).unwrap();
    fs::write(data_dir.join("bans.json"), "[1]").unwrap();
    fs::write(data_dir.join("users.json"), "old").unwrap();
    let refused = restored(&file, &data_dir, false).unwrap_err();
    assert!(matches!(refused, ArchiveError::HasData(_)), "{refused}");
    assert_eq!(text(&data_dir, "users.json").unwrap(), "old");
    let aside = restored(&file, &data_dir, true).unwrap().unwrap();
    assert_eq!(text(&aside, "users.json").unwrap(), "old");
    assert_eq!(text(&aside, "bans.json").unwrap(), "[1]");
    // A ban of before is no ban of the archive's.
    assert_eq!(text(&data_dir, "bans.json"), None);
    assert_eq!(text(&data_dir, "users.json").unwrap(), "{}");
    assert!(matches!(
        pack(&file, &mut manifest(), &[], packing()),
        Err(ArchiveError::IsThere(_))
    ));
}

/// The store may be on another disk, by a link: it is taken along. What is neither a file nor a folder is told, for it would be missed.
#[test]
fn what_is_kept_elsewhere_is_taken_along() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("a");
    filled(&data_dir);
    fs::rename(data_dir.join("store"), folder.path().join("disk")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("disk"), data_dir.join("store")).unwrap();
    let names: Vec<String> = sources(&data_dir)
        .unwrap()
        .into_iter()
        .map(|source| source.name)
        .collect();
    assert!(
        names.contains(&"data/store/journal/0000000001.log".to_owned()),
        "{names:?}"
    );
    fs::remove_dir_all(folder.path().join("disk")).unwrap();
    assert!(sources(&data_dir).is_err(), "the link leads nowhere");
    std::os::unix::net::UnixListener::bind(data_dir.join("bridges/socket")).unwrap();
    fs::remove_file(data_dir.join("store")).unwrap();
    let refused = sources(&data_dir).unwrap_err();
    assert!(matches!(refused, ArchiveError::Special(_)), "{refused}");
}

/// What belongs elsewhere is written before the restore is valid, and gets its name with it, also when that is interrupted.
#[test]
fn what_belongs_elsewhere_gets_its_name_with_the_rest() {
    for interrupted in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = packed(folder.path());
        let (data_dir, users) = (folder.path().join("b"), folder.path().join("etc/users.json"));
        fs::create_dir_all(&data_dir).unwrap();
        let unpacked = prepare(&data_dir, false).unwrap();
        unpack(&file, None, &unpacked).unwrap();
        let mut outside = Outside::new(&data_dir);
        outside.write(&users, b"theirs").unwrap();
        assert!(!users.exists());
        match interrupted {
            false => drop(place(&data_dir).unwrap()),
            true => {
                fs::rename(&unpacked, data_dir.join("restored")).unwrap();
                drop(Hold::take(&data_dir).unwrap());
            }
        }
        assert_eq!(fs::read(&users).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path().join("etc")).unwrap().count(), 1);
        assert_eq!(text(&data_dir, "users.json").unwrap(), "{}");
    }
}

/// Every byte of an archive changed, and every length of it: refused, or the same comes out.
#[test]
fn a_damaged_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = packed(folder.path());
    let good = fs::read(&file).unwrap();
    let bad = folder.path().join("bad");
    let cut = (0..good.len()).map(|n| good[..n].to_vec());
    let changed = (0..good.len()).map(|n| {
        let mut bytes = good.clone();
        bytes[n] ^= 0x20;
        bytes
    });
    for (n, bytes) in cut.chain(changed).enumerate() {
        fs::write(&bad, bytes).unwrap();
        let into = folder.path().join("into");
        fs::create_dir(&into).unwrap();
        if unpack(&bad, None, &into).is_ok() {
            assert_eq!(
                text(&into, "data/bridges/cloud.json").unwrap(),
                "{\"n\":1}",
                "{n}"
            );
        }
        let _ = look_into(&bad, None);
        fs::remove_dir_all(&into).unwrap();
    }
}

/// Nothing can be read of it without its passphrase; whoever means an encrypted archive is given no other.
#[test]
fn an_encrypted_archive_takes_its_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, mut manifest) = packed(folder.path());
    let passphrase = Passphrase::to_seal("correct horse battery").unwrap();
    let how = Packing {
        passphrase: Some(&passphrase),
        ..packing()
    };
    let file = folder.path().join("sealed");
    let sources = sources(&folder.path().join("a")).unwrap();
    pack(&file, &mut manifest, &sources, how).unwrap();
    assert!(is_sealed(&file).unwrap() && !is_sealed(&plain).unwrap());
    look_at_header(&file).unwrap();
    let wrong = Passphrase::new("incorrect horse battery");
    for (file, passphrase, told) in [
        (&file, None, "it takes its passphrase"),
        (&file, Some(&wrong), "not that of the archive"),
        (&plain, Some(&passphrase), "not encrypted"),
    ] {
        let refused = look_into(file, passphrase).unwrap_err().to_string();
        assert!(refused.contains(told), "{refused}");
    }
    let into = folder.path().join("into");
    fs::create_dir(&into).unwrap();
    assert_eq!(unpack(&file, Some(&passphrase), &into).unwrap(), manifest);
    assert_eq!(text(&into, "data/bridges/cloud.json").unwrap(), "{\"n\":1}");
    // Of which nothing is to be seen in the file.
    let bytes = fs::read(&file).unwrap();
    assert!(
        !bytes
            .windows(MANIFEST.len())
            .any(|window| window == MANIFEST.as_bytes())
    );
}

/// The disk keeps what others need.
#[test]
fn an_archive_leaves_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("a");
    filled(&data_dir);
    let how = Packing {
        reserve: u64::MAX,
        ..packing()
    };
    let file = folder.path().join("a.archive");
    let refused = pack(&file, &mut manifest(), &sources(&data_dir).unwrap(), how).unwrap_err();
    assert!(matches!(refused, ArchiveError::NoRoom { .. }), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// An archive of these entries, whatever they are.
fn forged(folder: &Path, manifest: &str, entries: &[(&str, &str, tar::EntryType)]) -> PathBuf {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, text: &str, kind| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_entry_type(kind);
        // As the attacker writes it: the library would refuse some names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    };
    add(MANIFEST, manifest, tar::EntryType::Regular);
    for (name, text, kind) in entries {
        add(name, text, *kind);
    }
    let file = folder.join("forged");
    let bytes = zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap();
    fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    for name in [
        "../evil",
        "data/../evil",
        "/etc/evil",
        "data/evil",
        "data/store/../../evil",
        "data/users.json/",
        "evil",
        "",
    ] {
        let mut listed = manifest();
        let (bytes, sha256) = {
            let mut hashing = Hashing::new("x".as_bytes());
            io::copy(&mut hashing, &mut io::sink()).unwrap();
            hashing.end()
        };
        listed.files.push(Archived {
            path: name.into(),
            bytes,
            sha256,
        });
        let listed = serde_json::to_string(&listed).unwrap();
        let unlisted = serde_json::to_string(&manifest()).unwrap();
        for text in [listed, unlisted] {
            let file = forged(folder.path(), &text, &[(name, "x", tar::EntryType::Regular)]);
            fs::create_dir(&into).unwrap();
            let refused = unpack(&file, None, &into).unwrap_err();
            assert!(matches!(refused, ArchiveError::Name(_)), "{name}: {refused}");
            assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
            fs::remove_dir(&into).unwrap();
        }
    }
    // What describes another entry is read as far as a name may go.
    let long = "x".repeat(5_000);
    for kind in [
        tar::EntryType::GNULongName,
        tar::EntryType::XHeader,
        tar::EntryType::GNULongLink,
    ] {
        let text = serde_json::to_string(&manifest()).unwrap();
        let file = forged(folder.path(), &text, &[("data/clock", &long, kind)]);
        fs::create_dir(&into).unwrap();
        let refused = unpack(&file, None, &into).unwrap_err();
        assert!(matches!(refused, ArchiveError::Name(_)), "{kind:?}: {refused}");
        fs::remove_dir(&into).unwrap();
    }
    // A name that belongs, of what is no file.
    let mut listed = manifest();
    listed.files.push(Archived {
        path: "data/users.json".into(),
        bytes: 0,
        sha256: String::new(),
    });
    let text = serde_json::to_string(&listed).unwrap();
    let link = ("data/users.json", "", tar::EntryType::Symlink);
    fs::create_dir(&into).unwrap();
    let refused = unpack(&forged(folder.path(), &text, &[link]), None, &into).unwrap_err();
    assert!(matches!(refused, ArchiveError::Name(_)), "{refused}");
}

#[test]
fn another_form_and_a_missing_file_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let newer = forged(folder.path(), r#"{"format":2,"gateway":"9.9.9"}"#, &[]);
    let told = look_into(&newer, None).unwrap_err().to_string();
    assert!(
        told.contains("format 2") && told.contains("9.9.9") && told.contains("format 1"),
        "{told}"
    );
    let mut listed = manifest();
    listed.files.push(Archived {
        path: "data/clock".into(),
        bytes: 0,
        sha256: String::new(),
    });
    let cut = forged(folder.path(), &serde_json::to_string(&listed).unwrap(), &[]);
    let into = folder.path().join("into");
    fs::create_dir(&into).unwrap();
    let told = unpack(&cut, None, &into).unwrap_err().to_string();
    assert!(told.contains("data/clock is missing"), "{told}");
    fs::write(folder.path().join("text"), "no archive").unwrap();
    assert!(look_into(&folder.path().join("text"), None).is_err());
}

/// Interrupted behind any of its moves, it is finished by the next start: the new data, and the old ones aside.
#[test]
fn an_interrupted_restore_is_finished() {
    let names = ["store", "bridges", "configurations", "users.json"];
    // How many of the old were put aside, and then of the new moved in, before the power was cut.
    for (old_moved, new_moved) in (0..=4).map(|n| (n, None)).chain((0..=4).map(|n| (4, Some(n)))) {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = packed(folder.path());
        let data_dir = folder.path().join("b");
        filled(&data_dir);
        fs::write(data_dir.join("users.json"), "old").unwrap();
        let unpacked = prepare(&data_dir, true).unwrap();
        unpack(&file, None, &unpacked).unwrap();
        fs::rename(&unpacked, data_dir.join("restored")).unwrap();
        fs::create_dir(data_dir.join("replaced-1")).unwrap();
        for name in &names[..old_moved] {
            fs::rename(data_dir.join(name), data_dir.join("replaced-1").join(name)).unwrap();
        }
        if let Some(moved) = new_moved {
            fs::rename(data_dir.join("restored"), data_dir.join("arriving")).unwrap();
            for name in &names[..moved] {
                fs::rename(data_dir.join("arriving/data").join(name), data_dir.join(name)).unwrap();
            }
        }
        // By a command as by a start.
        match old_moved % 2 {
            0 => drop(Hold::take(&data_dir).unwrap()),
            _ => drop(Hold::take(&data_dir).unwrap()),
        }
        assert_eq!(
            text(&data_dir, "users.json").unwrap(),
            "{}",
            "{old_moved} {new_moved:?}"
        );
        assert_eq!(text(&data_dir, "store/journal/0000000001.log").unwrap(), "frames");
        let aside = |n| text(&data_dir, &format!("replaced-{n}/users.json"));
        assert_eq!(aside(1).or(aside(2)).unwrap(), "old");
        assert!(!data_dir.join("arriving").exists() && !data_dir.join("restored").exists());
    }
}

/// A gateway that runs has made a restore ready: it keeps its data as long as it runs, and whatever step the next start is cut off at, the start after it
/// has the new data as a whole, with their configuration.
#[test]
fn what_waits_for_the_next_start_is_taken_by_it_whole() {
    let names = ["store", "bridges", "configurations", "users.json"];
    // As it waits; then as many of the old put aside, of the new moved in, and of the files outside renamed, before the power was cut.
    let cuts = (0..=4).map(|n| (n, None, 0));
    let cuts = cuts
        .chain((0..=4).map(|n| (4, Some(n), 0)))
        .chain([(4, Some(4), 1), (4, Some(4), 2)]);
    for (old_moved, new_moved, renamed) in cuts {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = packed(folder.path());
        let (data_dir, etc) = (folder.path().join("b"), folder.path().join("etc"));
        filled(&data_dir);
        fs::write(data_dir.join("users.json"), "old").unwrap();
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("headgate.toml"), "old").unwrap();
        fs::set_permissions(etc.join("headgate.toml"), fs::Permissions::from_mode(0o640)).unwrap();
        let gateway = Hold::take(&data_dir).unwrap();
        let unpacked = prepare(&data_dir, true).unwrap();
        unpack(&file, None, &unpacked).unwrap();
        let mut outside = Outside::new(&data_dir);
        outside.write(&etc.join("headgate.toml"), b"new").unwrap();
        outside.write(&etc.join("rules"), b"new").unwrap();
        wait_for_start(&data_dir).unwrap();
        assert_eq!(text(&data_dir, "users.json").unwrap(), "old");
        assert_eq!(text(&etc, "headgate.toml").unwrap(), "old");
        assert!(finish_waiting(&data_dir).is_err(), "the gateway has the data");
        drop(gateway);

        let (restored, arriving) = (data_dir.join("restored"), data_dir.join("arriving"));
        if old_moved > 0 {
            fs::create_dir(data_dir.join("replaced-1")).unwrap();
        }
        for name in &names[..old_moved] {
            fs::rename(data_dir.join(name), data_dir.join("replaced-1").join(name)).unwrap();
        }
        if let Some(moved) = new_moved {
            fs::rename(&restored, &arriving).unwrap();
            for name in &names[..moved] {
                fs::rename(arriving.join("data").join(name), data_dir.join(name)).unwrap();
            }
        }
        for name in &["headgate.toml", "rules"][..renamed] {
            let (from, to) = (etc.join(format!("{name}.restoring")), etc.join(name));
            if to.exists() {
                fs::copy(&to, etc.join(format!("{name}.replaced"))).unwrap();
            }
            fs::rename(from, to).unwrap();
        }

        let at = format!("{old_moved} {new_moved:?} {renamed}");
        assert!(finish_waiting(&data_dir).unwrap().is_some(), "{at}");
        assert_eq!(finish_waiting(&data_dir).unwrap(), None, "{at}");
        assert_eq!(text(&data_dir, "users.json").unwrap(), "{}", "{at}");
        assert_eq!(
            text(&data_dir, "store/journal/0000000001.log").unwrap(),
            "frames",
            "{at}"
        );
        let aside = |n| text(&data_dir, &format!("replaced-{n}/users.json"));
        assert_eq!(aside(1).or(aside(2)).unwrap(), "old", "{at}");
        for (name, expected) in [
            ("headgate.toml", Some("new")),
            ("headgate.toml.replaced", Some("old")),
            ("rules", Some("new")),
            ("rules.replaced", None),
            ("rules.restoring", None),
        ] {
            assert_eq!(text(&etc, name).as_deref(), expected, "{at}: {name}");
        }
        let mode = fs::metadata(etc.join("headgate.toml"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640, "{at}");
        let _gateway = Hold::take(&data_dir).unwrap();
    }
}

/// Before the restore is valid, whatever was written of it is rubbish, and so it is when it is withdrawn.
#[test]
fn what_is_not_ready_or_withdrawn_leaves_the_old_data() {
    for withdrawn in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = packed(folder.path());
        let (data_dir, rules) = (folder.path().join("b"), folder.path().join("rules"));
        filled(&data_dir);
        fs::write(data_dir.join("users.json"), "old").unwrap();
        let _gateway = Hold::take(&data_dir).unwrap();
        let unpacked = prepare(&data_dir, true).unwrap();
        unpack(&file, None, &unpacked).unwrap();
        let mut outside = Outside::new(&data_dir);
        outside.write(&rules, b"new").unwrap();
        if withdrawn {
            wait_for_start(&data_dir).unwrap();
            assert!(withdraw(&data_dir).unwrap());
            assert!(!withdraw(&data_dir).unwrap());
        } else {
            forget_restoring(&data_dir).unwrap();
        }
        drop(_gateway);
        assert_eq!(finish_waiting(&data_dir).unwrap(), None);
        assert_eq!(text(&data_dir, "users.json").unwrap(), "old");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            3,
            "a, a.archive and b"
        );
        assert!(!data_dir.join("restoring").exists() && !data_dir.join("restored").exists());
    }
}

#[test]
fn a_gateway_and_a_command_do_not_have_the_data_together() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Hold::take(folder.path()).unwrap();
    let refused = Hold::take(folder.path()).unwrap_err();
    assert!(matches!(refused, ArchiveError::InUse(_)));
    drop(gateway);
    let _command = Hold::take(folder.path()).unwrap();
    assert!(Hold::take(folder.path()).is_err());
}

/// An export that was killed leaves a file; the next one removes it, but not that of one that is under way.
#[test]
fn what_a_killed_export_left_is_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join(".headgate-export-killed.tmp");
    let under_way = folder.path().join(".headgate-export-alive.tmp");
    let others = folder.path().join(".other.tmp");
    for file in [&left, &under_way, &others] {
        fs::write(file, "half").unwrap();
    }
    let alive = fs::File::open(&under_way).unwrap();
    alive.lock().unwrap();
    packed(folder.path());
    let there = [&left, &under_way, &others].map(|file| file.exists());
    assert_eq!(there, [false, true, true]);
}

/// A copy of the store that its export holds stays; one that nobody has held yet goes after a minute, one whose export was killed at once.
#[test]
fn a_copy_that_nobody_holds_is_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let made = [0; 4].map(|_| empty_snapshot(folder.path()).unwrap().0);
    let _held = hold_snapshot(&made[0]).unwrap();
    drop(hold_snapshot(&made[3]).unwrap());
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
    for old in &made[..2] {
        fs::File::open(old).unwrap().set_modified(long_ago).unwrap();
    }
    empty_snapshot(folder.path()).unwrap();
    assert_eq!(made.map(|folder| folder.exists()), [true, false, true, false]);
}

/// Takes an archive over as a gateway that runs does, up to the moment at which it waits for the next start.
fn taken_over(file: &Path, data_dir: &Path) -> Result<Manifest, ArchiveError> {
    taken_over_by(file, data_dir, None, 0, &RUNS)
}

fn taken_over_by(
    file: &Path,
    data_dir: &Path,
    new: Option<(&Path, &str)>,
    reserve: u64,
    stop: &CancellationToken,
) -> Result<Manifest, ArchiveError> {
    fs::create_dir_all(data_dir).unwrap();
    let text = new.map_or(String::new(), |(_, text)| text.to_owned());
    let mut config = Config::of_text(None, text, []).unwrap();
    data_dir.clone_into(&mut config.data_dir);
    let taking = Taking {
        file,
        passphrase: None,
        config: &config,
        new,
        force: true,
        rules: true,
        outside: Outward::AsNow(&config),
        reserve,
        stop,
    };
    taking.ready()
}

/// An archive of these files, as its manifest has them.
fn made_of(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let mut listed = manifest();
    listed.files = files.iter().map(|(name, text)| described(name, text)).collect();
    let entries: Vec<_> = files
        .iter()
        .map(|(name, text)| (*name, *text, tar::EntryType::Regular))
        .collect();
    forged(folder, &serde_json::to_string(&listed).unwrap(), &entries)
}

fn described(name: &str, text: &str) -> Archived {
    let mut hashing = Hashing::new(text.as_bytes());
    io::copy(&mut hashing, &mut io::sink()).unwrap();
    let (bytes, sha256) = hashing.end();
    Archived {
        path: name.into(),
        bytes,
        sha256,
    }
}

/// Nothing of a restore is there, and the old data are.
fn is_as_before(data_dir: &Path) {
    for left in ["restoring", "restored", "arriving", "taken-back"] {
        assert!(!data_dir.join(left).exists(), "{left}");
    }
    assert_eq!(text(data_dir, "users.json").unwrap(), "old");
}

/// A data folder with users, and no more.
fn old_data(folder: &Path) -> PathBuf {
    let data_dir = folder.join("b");
    fs::create_dir_all(&data_dir).unwrap();
    fs::write(data_dir.join("users.json"), "old").unwrap();
    data_dir
}

/// Whoever takes a backup back leaves a trace: the audit log is that of the gateway, and says so later. On a new machine that of the archive goes on.
#[test]
fn the_audit_log_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = ["audit.log", "audit.log.2", "audit-others.log", "audit.begun"];
    let names = theirs.map(|name| format!("data/{name}"));
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "theirs")).collect();
    files.push(("data/users.json", "{}"));
    let file = made_of(folder.path(), &files);

    let data_dir = old_data(folder.path());
    fs::write(data_dir.join("audit.log"), "ours").unwrap();
    fs::write(data_dir.join("audit.log.1"), "ours").unwrap();
    assert_eq!(taken(&data_dir), None);
    taken_over(&file, &data_dir).unwrap();
    let replaced = replaced_by_restore(&data_dir);
    assert_eq!(replaced, [data_dir.join("users.json").display().to_string()]);
    let aside = place(&data_dir).unwrap().unwrap();
    assert_eq!(text(&data_dir, "users.json").unwrap(), "{}");
    for (name, expected) in [
        ("audit.log", Some("ours")),
        ("audit.log.1", Some("ours")),
        ("audit.log.2", None),
        ("audit-others.log", None),
        ("audit.begun", None),
    ] {
        assert_eq!(text(&data_dir, name).as_deref(), expected, "{name}");
        assert!(!aside.join(name).exists(), "{name}");
    }
    assert_eq!(taken(&data_dir), Some(Some("replaced-1".to_owned())));
    forget_taken(&data_dir).unwrap();
    assert_eq!(taken(&data_dir), None);

    let new = folder.path().join("new");
    taken_over(&file, &new).unwrap();
    assert_eq!(place(&new).unwrap(), None);
    for name in theirs {
        assert_eq!(text(&new, name).unwrap(), "theirs", "{name}");
    }
    assert_eq!(taken(&new), Some(None));
}

/// Cut off between its moves, a restore goes on with the folder that it has begun to put things aside into, and names it at the end.
#[test]
fn what_was_before_is_in_one_folder_however_often_the_start_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = packed(folder.path());
    let data_dir = folder.path().join("b");
    filled(&data_dir);
    let unpacked = prepare(&data_dir, true).unwrap();
    unpack(&file, None, &unpacked).unwrap();
    wait_for_start(&data_dir).unwrap();
    fs::write(data_dir.join("restored/aside"), "replaced-1").unwrap();
    fs::create_dir(data_dir.join("replaced-1")).unwrap();
    fs::rename(data_dir.join("store"), data_dir.join("replaced-1/store")).unwrap();
    let aside = finish_waiting(&data_dir).unwrap().unwrap();
    assert_eq!(aside, data_dir.join("replaced-1"));
    assert!(aside.join("store").exists() && aside.join("users.json").exists());
    assert!(!data_dir.join("replaced-2").exists());
    assert_eq!(taken(&data_dir), Some(Some("replaced-1".to_owned())));
}

/// Of some KiB that become a manifest without an end nothing is made.
#[test]
fn a_manifest_has_an_end_and_is_read_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let good = serde_json::to_value(manifest()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut manifest = good.clone();
        manifest[key] = value;
        look_into(&forged(folder.path(), &manifest.to_string(), &[]), None)
    };
    let long = serde_json::Value::Array(vec![serde_json::json!([]); 1_500_000]);
    let refused = with("more", long).unwrap_err();
    assert!(matches!(refused, ArchiveError::LongManifest(_)), "{refused}");
    let known = with("more", serde_json::json!([[], { "a": [1] }])).unwrap().0;
    assert_eq!(known, manifest());
    for (key, value) in [
        ("format", serde_json::json!("1")),
        ("format", serde_json::json!([1])),
        ("gateway", serde_json::json!(1)),
        ("files", serde_json::json!({})),
        (
            "files",
            serde_json::json!([{ "path": "data/clock", "bytes": -1, "sha256": "" }]),
        ),
        ("users", serde_json::json!([])),
    ] {
        let refused = with(key, value.clone()).unwrap_err();
        assert!(
            matches!(refused, ArchiveError::Manifest(_)),
            "{key} {value}: {refused}"
        );
    }
}

/// What an archive says of itself is held against the disk before anything is written; and while it is written the reserve is kept.
#[test]
fn a_restore_leaves_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = old_data(folder.path());
    let mut listed = manifest();
    listed.files.push(Archived {
        path: "data/store/journal/1".into(),
        bytes: 1 << 60,
        sha256: String::new(),
    });
    let zeros = "0".repeat(1 << 20);
    let entry = ("data/store/journal/1", &*zeros, tar::EntryType::Regular);
    let file = forged(folder.path(), &serde_json::to_string(&listed).unwrap(), &[entry]);
    let refused = taken_over(&file, &data_dir).unwrap_err();
    assert!(matches!(refused, ArchiveError::NoRoomToRestore { bytes, .. } if bytes == 1 << 60));
    is_as_before(&data_dir);

    let file = made_of(
        folder.path(),
        &[("data/traces/a.jsonl", "{}"), ("data/users.json", "{}")],
    );
    let refused = taken_over_by(&file, &data_dir, None, u64::MAX, &RUNS).unwrap_err();
    assert!(
        matches!(refused, ArchiveError::NoRoomToRestore { .. }),
        "{refused}"
    );
    // Others fill the disk meanwhile: looked at before a file is written.
    let reserve = free_bytes(&data_dir) - (2 << 20);
    let refused = taken_over_by(&file, &data_dir, None, reserve, &RUNS).unwrap_err();
    assert!(
        matches!(refused, ArchiveError::NoRoomToRestore { .. }),
        "{refused}"
    );
    is_as_before(&data_dir);
    // A file that is read whole has no such length, wherever it is said.
    listed.files[0].path = "data/users.json".into();
    let file = forged(folder.path(), &serde_json::to_string(&listed).unwrap(), &[]);
    let refused = look_into(&file, None).unwrap_err();
    assert!(matches!(refused, ArchiveError::LongFile { .. }), "{refused}");
}

/// A gateway that stops ends what is done with backups, and nothing of it stays.
#[test]
fn a_gateway_that_stops_makes_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = CancellationToken::new();
    stopped.cancel();
    let data_dir = old_data(folder.path());
    let file = made_of(folder.path(), &[("data/users.json", "{}")]);
    let refused = taken_over_by(&file, &data_dir, None, 0, &stopped).unwrap_err();
    assert!(matches!(refused, ArchiveError::Stopped), "{refused}");
    is_as_before(&data_dir);
    let how = Packing {
        stop: &stopped,
        ..packing()
    };
    let sources = sources(&data_dir).unwrap();
    pack(&folder.path().join("new"), &mut manifest(), &sources, how).unwrap_err();
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "b and the archive"
    );
}

/// What the next start would not read is refused by the words with which it would fail, and nothing has changed.
#[test]
fn what_keeps_a_gateway_from_starting_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = old_data(folder.path());
    for (name, told) in [
        (
            "data/administrators.json",
            "administrators.json: EOF while parsing",
        ),
        ("data/bans.json", "bans.json: "),
        ("data/users.json", "users.json:1:5"),
        ("data/administrators.json/x", "does not belong"),
        ("data/users.json/x", "does not belong"),
        ("data/bans.json/x", "does not belong"),
        ("data/history/x", "does not belong"),
        ("data/audit.log/x", "does not belong"),
        ("data/clock/x", "does not belong"),
        ("data/certificates", "does not belong"),
        ("data/secrets", "does not belong"),
        ("data/bridges", "does not belong"),
        ("data/configurations", "does not belong"),
        ("data/traces", "does not belong"),
        ("data/store/journal", "store"),
    ] {
        let file = made_of(folder.path(), &[(name, "{\"x\":")]);
        let refused = taken_over(&file, &data_dir).unwrap_err().to_string();
        assert!(refused.contains(told), "{name}: {refused}");
        assert!(!refused.contains("restoring"), "{name}: {refused}");
        is_as_before(&data_dir);
    }
    // Files that the configuration wants in there, of the archive and of the gateway alike.
    let config = folder.path().join("headgate.toml");
    let certificate = data_dir.join("certificates/a/a.pem");
    fs::create_dir_all(certificate.parent().unwrap()).unwrap();
    fs::write(&certificate, "good enough").unwrap();
    let text = format!(
        "[[listeners]]\nname = \"tls\"\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\n[listeners.tls]\ncertificate = {certificate:?}\nkey = {certificate:?}\n"
    );
    let none: &[(&str, &str)] = &[("data/users.json", "{}")];
    let garbage: &[(&str, &str)] = &[("data/certificates/a/a.pem", "garbage")];
    for (files, told) in [(none, "No such file"), (garbage, "there is no")] {
        let file = made_of(folder.path(), files);
        let taken = taken_over_by(&file, &data_dir, Some((&config, &text)), 0, &RUNS);
        let refused = taken.unwrap_err().to_string();
        let wanted = format!("{}: ", certificate.display());
        assert!(refused.contains(told) && refused.contains(&wanted), "{refused}");
        is_as_before(&data_dir);
    }
    // What a start does not mind is taken.
    let file = made_of(
        folder.path(),
        &[("data/clock", "garbage"), ("data/alarms.json", "garbage")],
    );
    taken_over(&file, &data_dir).unwrap();
    place(&data_dir).unwrap();
    assert!(!data_dir.join("setup-code").exists());
}

/// Killed while what belongs elsewhere is written, or just before: whoever comes next knows of it.
#[test]
fn what_a_killed_restore_left_elsewhere_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, etc) = (folder.path().join("b"), folder.path().join("etc"));
    filled(&data_dir);
    prepare(&data_dir, true).unwrap();
    let mut outside = Outside::new(&data_dir);
    outside.write(&etc.join("headgate.toml"), b"new").unwrap();
    outside.write(&etc.join("rules"), b"new").unwrap();
    fs::rename(etc.join("rules.restoring"), etc.join("rules.restoring.new")).unwrap();
    drop(outside);
    assert_eq!(fs::read_dir(&etc).unwrap().count(), 2);
    forget_restoring(&data_dir).unwrap();
    assert_eq!(fs::read_dir(&etc).unwrap().count(), 0);
    assert!(!data_dir.join("restoring").exists());
}
