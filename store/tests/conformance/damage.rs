//! What a disk may do to a store. It starts in any case, says what it lost, and keeps the rest.

use crate::bench::{Home, Shown, message, queued, session, subscribe};
use headgate_model::store::MessageId;
use headgate_model::{Qos, SessionId, Store, StoreError, StoreOp};
use headgate_store::{DiskSettings, DiskStore};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SESSIONS: u64 = 20;
const MESSAGES: u64 = 600;

/// Sessions, retained messages and queues: part of them in the tables, part in the journal alone.
fn filled() -> Home {
    let (home, cut) = (Home::hurried(), Home::hurried());
    let sessions = (1..=SESSIONS).flat_map(|n| [session(n, None), subscribe(n, "a/#", Qos::AtLeastOnce)]);
    home.commit(&[&sessions.collect::<Vec<_>>()]);
    let mut store = home.open();
    store.load().unwrap();
    for n in 0..MESSAGES {
        let queue = queued(1 + n % SESSIONS, n, n);
        let retain = (n % 10 == 0).then_some(StoreOp::PutRetained(MessageId(n)));
        let ops: Vec<StoreOp> = [message(n, 300), queue].into_iter().chain(retain).collect();
        store.commit(&ops).unwrap();
        if n < MESSAGES - 50 {
            store.maintain().unwrap();
        } else if n == MESSAGES - 50 {
            finish_checkpoints(&mut *store);
        }
    }
    // As if the power had been cut now: the journal holds what no checkpoint does.
    copy(&home.path(), &cut.path());
    cut
}

pub(crate) fn finish_checkpoints(store: &mut dyn Store) {
    for _ in 0..300 {
        store.maintain().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

impl Home {
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("lock") && !path.ends_with("ballast") {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }
}

/// Copies a store, so that each case has one of its own.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// [I02] A hundred damaged stores: blocks overwritten, files cut off. Each starts, tells of what is lost, and takes new messages. What was in
/// the tables is there whatever happened to one of their two copies; of the queues no more is gone than the damage touched.
#[test]
fn a_damaged_store_starts_reports_and_keeps_the_rest() {
    let original = filled();
    let whole = {
        let home = Home::hurried();
        copy(&original.path(), &home.path());
        home.image()
    };
    assert_eq!(whole.queues.len() as u64, MESSAGES);
    let (mut hurt, mut kept) = (0, 0);
    for seed in 0..100 {
        let mut random = fastrand(seed);
        let home = Home::hurried();
        copy(&original.path(), &home.path());
        let files = home.files();
        let path = &files[random() as usize % files.len()];
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let what = match seed % 3 {
            0 => {
                file.set_len(random() % len.max(1)).unwrap();
                "cut off"
            }
            1 => {
                scribble(&file, len, 512, &mut random);
                "512 bytes"
            }
            _ => {
                scribble(&file, len, 4_096, &mut random);
                "4 KiB"
            }
        };
        let name = path.strip_prefix(home.path()).unwrap();
        let context = format!("seed {seed}: {what} of {}", name.display());
        let found = home.image();
        let lost = whole.queues.len() - found.queues.len();
        for (key, value) in &found.queues {
            assert_eq!(
                whole.queues.get(key),
                Some(value),
                "{context}: nothing is made up"
            );
        }
        let in_journal = name.starts_with("journal");
        assert!(in_journal || same_tables(&found, &whole), "{context}: {found:?}");
        assert!(in_journal || lost == 0, "{context}: {lost} lost");
        // What looks like a last commit that was torn is the one thing that cannot be told.
        let is_last = files
            .iter()
            .rfind(|file| file.extension().is_some_and(|e| e == "log"))
            == Some(path);
        let told = found.lost > 0 || !found.image.damage.is_empty() || is_last;
        assert!(lost == 0 || told, "{context}: {lost} lost in silence");
        hurt += usize::from(lost > 0);
        kept += found.queues.len();
        home.commit(&[&[session(99, None), message(9_999, 1), queued(99, 1, 9_999)]]);
        assert_eq!(home.image().queue(99).len(), 1, "{context}");
    }
    assert!(hurt > 10, "the damage was felt: {hurt}");
    assert!(kept > 100 * MESSAGES as usize * 9 / 10, "{kept} kept");
}

fn same_tables(found: &Shown, whole: &Shown) -> bool {
    let records = |shown: &Shown| {
        let sessions = shown.image.sessions.iter();
        sessions
            .map(|s| (s.id, s.record.clone(), s.subscriptions.clone()))
            .collect::<Vec<_>>()
    };
    records(found) == records(whole) && found.image.retained == whole.image.retained
}

fn scribble(file: &std::fs::File, len: u64, block: u64, random: &mut impl FnMut() -> u64) {
    let at = (random() % len.max(1)) / block * block;
    let bytes: Vec<u8> = (0..block.min(len - at)).map(|_| random() as u8).collect();
    file.write_all_at(&bytes, at).unwrap();
}

/// A small generator that can be replayed.
fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

/// A queued message that cannot be read is told of, and gone: it does not stop those behind it.
#[test]
fn a_body_that_cannot_be_read_is_lost_alone() {
    let home = Home::disk();
    let puts = (1..=5).flat_map(|n| [message(n, 1_000), queued(1, n, n)]);
    let puts: Vec<StoreOp> = std::iter::once(session(1, None)).chain(puts).collect();
    home.commit(&[&puts]);
    let segment = home.path().join("journal/0000000001.log");
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(b"rubbish", 2_500).unwrap();
    let found = home.image();
    let numbers: Vec<u64> = found.queue(1).iter().map(|(seq, _)| *seq).collect();
    assert_eq!((numbers, found.lost), (vec![1, 2, 4, 5], 1));
    assert_eq!(home.image().lost, 0, "it is told once");
}

/// sled opens a file that lost its end empty, without an error: the export says so, and has the rows.
#[test]
fn tables_that_lost_their_end_are_made_anew() {
    for keep in [0, 1, 50, 99] {
        let home = Home::disk();
        let sessions: Vec<StoreOp> = (1..=200).map(|n| session(n, Some(200))).collect();
        home.commit(&[&sessions]);
        let whole = home.image();
        let file = OpenOptions::new()
            .write(true)
            .open(home.path().join("tables/db"))
            .unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len * keep / 100).unwrap();
        let mut found = home.image();
        let damage = std::mem::take(&mut found.image.damage);
        assert!(found == whole, "{keep} %: {found:?}");
        assert_eq!(home.image(), whole, "{keep} %: {damage:?}");
    }
}

#[test]
fn tables_that_vanished_are_made_anew() {
    let home = filled();
    let whole = home.image();
    std::fs::remove_dir_all(home.path().join("tables")).unwrap();
    assert!(home.image() == whole);
}

#[test]
fn an_export_that_vanished_is_written_again() {
    let home = filled();
    let whole = home.image();
    std::fs::remove_file(home.path().join("export")).unwrap();
    assert!(home.image() == whole);
    std::fs::remove_dir_all(home.path().join("tables")).unwrap();
    assert!(home.image() == whole);
}

/// The power was cut when the export had a row and the tables did not. What is deleted then stays so in both copies.
#[test]
fn what_only_the_export_holds_can_be_deleted() {
    let home = Home::disk();
    home.commit(&[&[session(1, None)]]);
    let ops = [
        subscribe(1, "a/#", Qos::AtLeastOnce),
        session(2, None),
        message(1, 10),
        queued(1, 1, 1),
    ];
    let cut = Home::disk();
    let mut store = home.open();
    store.load().unwrap();
    store.commit(&ops).unwrap();
    copy(&home.path(), &cut.path());
    drop(store);
    std::fs::copy(home.path().join("export"), cut.path().join("export")).unwrap();

    cut.commit(&[&[
        StoreOp::DeleteSubscription(SessionId(1), "a/#".into()),
        StoreOp::DeleteSession(SessionId(2)),
        StoreOp::DeleteQueued(SessionId(1), 1),
    ]]);
    std::fs::remove_dir_all(cut.path().join("tables")).unwrap();
    let found = cut.image();
    let [session] = &found.image.sessions[..] else {
        panic!("{found:?}")
    };
    assert!(
        session.subscriptions.is_empty() && found.queues.is_empty(),
        "{found:?}"
    );
}

/// Both copies: what can be read of the export is there, and the rest is told.
#[test]
fn tables_and_export_that_are_both_damaged_give_what_can_be_read() {
    let home = filled();
    let whole = home.image();
    std::fs::remove_dir_all(home.path().join("tables")).unwrap();
    let export = OpenOptions::new()
        .write(true)
        .open(home.path().join("export"))
        .unwrap();
    let len = export.metadata().unwrap().len();
    export.write_all_at(&[0xEE; 512], len / 2).unwrap();
    let found = home.image();
    assert!(
        found.image.damage.iter().any(|words| words.contains("made anew")),
        "{found:?}"
    );
    assert!(found.image.retained.len() + found.queues.len() > 20, "{found:?}");
    assert!(
        found
            .queues
            .iter()
            .all(|(key, value)| whole.queues.get(key) == Some(value))
    );
}

/// Also before the first checkpoint, when nothing else says that there was one.
#[test]
fn a_journal_that_vanished_is_told() {
    let told = |home: &Home| {
        let damage = home.image().image.damage;
        assert!(home.image().image.damage.is_empty(), "once");
        damage
    };
    let home = Home::disk();
    assert!(home.image().image.damage.is_empty(), "the first start of all");
    home.commit(&[&[session(1, None)]]);
    let first = Home::disk();
    copy_while_open(&first);
    std::fs::remove_dir_all(first.path().join("journal")).unwrap();
    let damage = told(&first);
    assert!(
        damage.iter().any(|words| words.contains("the journal is gone")),
        "{damage:?}"
    );

    let home = filled();
    let mut segments: Vec<_> = std::fs::read_dir(home.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    std::fs::remove_file(&segments[segments.len() - 2]).unwrap();
    let damage = home.image().image.damage;
    assert!(
        damage
            .iter()
            .any(|words| words.ends_with("of the journal is gone")),
        "{damage:?}"
    );
}

/// A store with a commit in its journal and no checkpoint, as a cut leaves it.
fn copy_while_open(target: &Home) {
    let home = Home::disk();
    let mut store = home.open();
    store.load().unwrap();
    store.commit(&[session(1, None)]).unwrap();
    copy(&home.path(), &target.path());
}

#[test]
fn a_second_opener_is_refused() {
    let home = Home::disk();
    let first = home.open();
    let second = DiskStore::open(home.path(), DiskSettings::default());
    assert!(matches!(second, Err(StoreError::InUse(_))));
    drop(first);
    DiskStore::open(home.path(), DiskSettings::default()).unwrap();
}

#[test]
fn a_disk_that_refuses_is_not_a_damaged_store() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let opened = DiskStore::open(folder.path().join("file").join("store"), DiskSettings::default());
    assert!(matches!(opened, Err(StoreError::Io { .. })), "{opened:?}");
}

/// [I04] The space of what was settled comes back, though a message of each session stays.
#[test]
fn space_comes_back() {
    let home = Home::hurried();
    let mut store = home.open();
    store.load().unwrap();
    store.commit(&[session(1, None), session(2, None)]).unwrap();
    for n in 0..2_000 {
        store.commit(&[message(n, 300), queued(1, n, n)]).unwrap();
        if n % 100 == 0 {
            store.commit(&[message(n, 300), queued(2, n, n)]).unwrap();
        }
        if n >= 10 {
            let settled = StoreOp::DeleteQueued(SessionId(1), n - 10);
            store.commit(&[settled]).unwrap();
        }
        store.maintain().unwrap();
    }
    // What is left to do takes a few steps more.
    for _ in 0..2_000 {
        store.maintain().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let journal: u64 = (home
        .files()
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "log")))
    .map(|path| path.metadata().unwrap().len())
    .sum();
    assert!(journal < 100_000, "{journal} bytes for 30 messages");
    drop(store);
    let found = home.image();
    assert_eq!(
        (found.queue(1).len(), found.queue(2).len(), found.lost),
        (10, 20, 0)
    );
}

/// [I03] Over its quota the store says that it has no room; what frees space is taken, and then it has room again.
#[test]
fn a_quota_is_kept_and_room_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = DiskSettings {
        segment_bytes: 50_000,
        checkpoint_bytes: 50_000,
        ballast_bytes: 1_000,
        max_bytes: 2_000_000,
        ..DiskSettings::default()
    };
    let mut store = DiskStore::open(folder.path().join("store"), settings).unwrap();
    store.load().unwrap();
    store.commit(&[session(1, None)]).unwrap();
    let mut n = 0;
    while store.has_room() {
        store.commit(&[message(n, 10_000), queued(1, n, n)]).unwrap();
        store.maintain().unwrap();
        n += 1;
    }
    assert!(n > 20, "{n}");
    for n in 0..n {
        store.commit(&[StoreOp::DeleteQueued(SessionId(1), n)]).unwrap();
    }
    for n in 0.. {
        if store.has_room() {
            break;
        }
        assert!(n < 5_000, "room comes back: {:?}", store.stats());
        // A session that changes lets the next checkpoint come.
        store.commit(&[session(1, Some(10_000))]).unwrap();
        store.maintain().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// A quota that is hardly more than the usual segments: room comes back while others go on committing, a few entries stay where they are, and what keeps the store full
/// makes no checkpoint after the other.
#[test]
fn room_comes_back_in_a_small_store_while_others_commit() {
    for kept in [u64::MAX, 50] {
        let folder = tempfile::tempdir().unwrap();
        let settings = DiskSettings {
            max_bytes: 8 << 20,
            ballast_bytes: 1 << 20,
            durability: headgate_store::Durability::ProcessCrash,
            ..DiskSettings::default()
        };
        let mut store = DiskStore::open(folder.path().join("store"), settings).unwrap();
        store.load().unwrap();
        store.commit(&[session(1, None), session(2, None)]).unwrap();
        let mut messages = 0;
        while store.has_room() {
            let ops = [message(messages, 10_000), queued(1, messages, messages)];
            store.commit(&ops).unwrap();
            store.maintain().unwrap();
            messages += 1;
        }
        assert!(messages > 200, "{messages} messages of 10 kB fit into 8 MiB");

        let small = |store: &mut DiskStore| {
            store.commit(&[session(2, Some(100))]).unwrap();
            store.maintain().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        let before = store.stats().checkpoints;
        (0..500).for_each(|_| small(&mut store));
        let without_use = store.stats().checkpoints - before;
        assert!(without_use <= 4, "{without_use} checkpoints for 500 commits");

        for n in (0..messages).filter(|n| n % kept != 0) {
            store.commit(&[StoreOp::DeleteQueued(SessionId(1), n)]).unwrap();
        }
        let steps = (1..=500).find(|_| {
            small(&mut store);
            store.has_room()
        });
        assert!(steps.is_some(), "room comes back: {:?}", store.stats());
        for _ in 0..500 {
            small(&mut store);
        }
        let left = store.stats().disk_bytes;
        assert!(left < 5 << 20, "{left} bytes for {} messages", messages / kept);
    }
}

/// A stop does not wait until thousands of rows are in the tables: neither while a checkpoint writes them nor before one has begun. The next start has all.
#[test]
fn a_stop_leaves_a_large_checkpoint_to_the_next_start() {
    let settings = DiskSettings {
        checkpoint_bytes: 100_000,
        ..DiskSettings::default()
    };
    let home = Home::Disk(tempfile::tempdir().unwrap(), settings);
    let sessions = |from: u64| {
        (from..from + 12_000)
            .map(|n| session(n, None))
            .collect::<Vec<_>>()
    };
    let checkpoints = |store: &dyn Store| store.stats().checkpoints;
    let mut store = home.open();
    store.load().unwrap();
    store.commit(&sessions(1)).unwrap();
    drop(store);
    let mut store = home.open();
    assert_eq!(store.load().unwrap().sessions.len(), 12_000);
    store.commit(&sessions(20_001)).unwrap();
    store.maintain().unwrap();
    assert_eq!(checkpoints(&*store), 0, "none was finished");
    drop(store);
    assert_eq!(home.open().load().unwrap().sessions.len(), 24_000);
}
