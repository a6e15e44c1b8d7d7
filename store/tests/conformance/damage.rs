//! What a disk may do to a store. It starts in any case, and says what it lost.

use crate::bench::{Home, message, queued, session, subscribe};
use headgate_model::store::MessageId;
use headgate_model::{Qos, SessionId, Store, StoreError, StoreImage, StoreOp};
use headgate_store::{Durability, SledStore};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

fn filled() -> Home {
    let home = Home::sled();
    home.commit(&[&[
        message(1, 10),
        message(2, 20_000),
        message(3, 10),
        session(1, None),
        session(2, None),
        subscribe(1, "a", Qos::AtMostOnce),
        queued(1, 1, 1),
        queued(1, 2, 2),
        queued(2, 1, 3),
        StoreOp::PutRetained(MessageId(3)),
    ]]);
    home
}

/// Opens the database below the store.
fn raw(home: &Home) -> sled::Db {
    let config = sled::Config::new().path(home.path()).segment_size(512 << 10);
    // The last owner's threads may hold its lock a little longer.
    let mut tries = (0..100).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        config.open()
    });
    tries.find_map(Result::ok).expect("it opens")
}

fn key(table: u8, numbers: &[u64]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|n| n.to_be_bytes());
    std::iter::once(table).chain(numbers).collect()
}

/// Changes one row in the database below the store.
fn change(home: &Home, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let db = raw(home);
    let mut value = db.get(key).unwrap().expect("the row is there").to_vec();
    change(&mut value);
    db.insert(key, value).unwrap();
    db.flush().unwrap();
}

/// The damage, which is told once and then gone.
fn damage(home: &Home) -> (StoreImage, Vec<String>) {
    let mut image = home.image();
    let damage = std::mem::take(&mut image.damage);
    assert_eq!(home.image(), image, "it is told once, and nothing else changes");
    (image, damage)
}

#[test]
fn a_row_with_a_flipped_bit_is_set_aside_with_what_needs_it() {
    let home = filled();
    change(&home, &key(b'm', &[1]), |value| value[9] ^= 1);
    let (image, damage) = damage(&home);
    assert_eq!(
        damage,
        [
            "message 1: its checksum is wrong",
            "queue entry of session 1, number 1: its message is missing"
        ]
    );
    assert_eq!((image.messages.len(), image.sessions[0].queue.len()), (2, 1));
    let kept = std::fs::read_to_string(home.path().with_extension("unreadable")).unwrap();
    assert_eq!(kept.lines().count(), 2);
}

#[test]
fn a_row_of_an_unknown_version_is_set_aside() {
    let home = filled();
    change(&home, &key(b's', &[2]), |value| {
        value[0] = 9;
        let end = value.len() - 4;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&key(b's', &[2]));
        sum.update(&value[..end]);
        value[end..].copy_from_slice(&sum.finalize().to_be_bytes());
    });
    let (image, damage) = damage(&home);
    assert_eq!(
        damage,
        [
            "session 2: its version 9 is not known",
            "queue entry of session 2, number 1: its session is missing"
        ]
    );
    assert_eq!(image.sessions.len(), 1);
}

#[test]
fn half_a_body_is_set_aside() {
    let home = filled();
    let db = raw(&home);
    let part = [&b"c"[..], &key(b'm', &[2]), &3u32.to_be_bytes()].concat();
    db.remove(part)
        .unwrap()
        .expect("20,000 bytes have more than three parts");
    db.flush().unwrap();
    drop(db);
    let (image, damage) = damage(&home);
    assert_eq!(damage[0], "message 2: part 3 of its body is missing");
    assert_eq!(
        damage[1],
        "queue entry of session 1, number 2: its message is missing"
    );
    assert_eq!(damage.len(), 2 + 3, "the other parts go, too: {damage:?}");
    assert_eq!(image.messages.len(), 2);
}

/// A session number of which only a queue is left may be given again: the new session must not get the old one's messages.
#[test]
fn what_is_left_of_a_damaged_session_does_not_come_back() {
    let home = filled();
    change(&home, &key(b's', &[2]), |value| value.clear());
    home.commit(&[&[session(2, None)]]);
    assert!(home.image().sessions[1].queue.is_empty());
}

#[test]
fn a_thousand_bad_rows_are_not_a_thousand_words() {
    let home = Home::sled();
    let puts: Vec<StoreOp> = (1..=1000).map(|n| message(n, 5)).collect();
    home.commit(&[&puts]);
    let db = raw(&home);
    for n in 1..=1000 {
        db.insert(key(b'm', &[n]), b"rubbish").unwrap();
    }
    db.flush().unwrap();
    drop(db);
    let (image, damage) = damage(&home);
    assert!(image.messages.is_empty());
    assert_eq!((damage.len(), damage[100].as_str()), (101, "and 900 rows more"));
}

/// sled opens a file that lost its end empty, without an error.
#[test]
fn a_truncated_file_is_reported_or_harmless() {
    for keep in [0, 1, 50, 99] {
        let home = Home::sled();
        for n in 0..20 {
            home.commit(&[&(1..=50).map(|i| message(n * 50 + i, 1000)).collect::<Vec<_>>()]);
        }
        let file = OpenOptions::new()
            .write(true)
            .open(home.path().join("db"))
            .unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len * keep / 100).unwrap();
        let image = home.image();
        let whole = image.messages.len() == 1000;
        assert!(
            whole || !image.damage.is_empty(),
            "{keep} %: {} messages",
            image.messages.len()
        );
        home.commit(&[&[message(1, 1)]]);
        assert!(home.image().damage.is_empty(), "it is told once");
    }
}

/// sled panics on some of these. The store starts, and what it does not tell of is all there.
#[test]
fn a_scribbled_file_is_reported_or_harmless() {
    let whole = filled().image();
    for seed in 0..40 {
        let home = filled();
        let file = OpenOptions::new()
            .write(true)
            .open(home.path().join("db"))
            .unwrap();
        let len = file.metadata().unwrap().len();
        let mut random = fastrand(seed);
        for _ in 0..20 {
            let at = random() % len.min(64 << 10);
            file.write_all_at(&[random() as u8], at).unwrap();
        }
        let image = home.image();
        assert!(
            !image.damage.is_empty() || image == whole,
            "seed {seed}: {image:?}"
        );
        home.commit(&[&[message(9, 1)]]);
        assert!(home.image().messages.iter().any(|(id, _)| *id == MessageId(9)));
    }
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

#[test]
fn a_store_that_went_back_in_time_is_reported() {
    let home = filled();
    std::fs::write(home.path().with_extension("mark"), "commits 70\n").unwrap();
    let (image, damage) = damage(&home);
    assert_eq!(image.messages.len(), 3);
    assert!(damage[0].contains("commit 1, but commit 70"), "{damage:?}");
}

#[test]
fn a_store_that_vanished_is_reported() {
    let home = filled();
    std::fs::remove_dir_all(home.path()).unwrap();
    let (image, damage) = damage(&home);
    assert_eq!(image, StoreImage::default());
    assert!(damage[0].contains("opened empty"), "{damage:?}");
}

#[test]
fn a_second_opener_is_refused() {
    let home = Home::sled();
    let first = home.open();
    let second = SledStore::open(home.path(), Durability::PowerLoss);
    assert!(matches!(second, Err(StoreError::InUse(_))));
    drop(first);
    SledStore::open(home.path(), Durability::PowerLoss).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let home = filled();
    change(&home, b"xformat", |value| {
        value[12] = 2;
        let mut sum = crc32fast::Hasher::new();
        sum.update(b"xformat");
        sum.update(&value[..13]);
        value[13..].copy_from_slice(&sum.finalize().to_be_bytes());
    });
    for _ in 0..2 {
        match SledStore::open(home.path(), Durability::PowerLoss) {
            Err(StoreError::Newer { found: 2, known: 1 }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_disk_that_refuses_is_not_a_damaged_store() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let opened = SledStore::open(folder.path().join("file").join("store"), Durability::PowerLoss);
    assert!(matches!(opened, Err(StoreError::Io { .. })), "{opened:?}");
}

/// sled keeps values above a quarter of a segment in files that it never syncs, and a leaf holds sixteen rows.
#[test]
fn no_row_is_longer_than_4_kib() {
    let home = Home::sled();
    let filter = "x".repeat(65_000);
    home.commit(&[&[
        message(1, 100_000),
        session(1, Some(60_000)),
        subscribe(1, &filter, Qos::AtMostOnce),
    ]]);
    let db = raw(&home);
    assert!(
        db.iter()
            .flatten()
            .all(|(key, value)| key.len() < 64 && value.len() <= 4096)
    );
    assert!(std::fs::read_dir(home.path().join("blobs")).map_or(0, Iterator::count) == 0);
}

#[test]
fn what_comes_and_goes_within_a_commit_is_not_written() {
    let home = Home::sled();
    let delete = StoreOp::DeleteQueued(SessionId(1), 1);
    let gone = [
        message(1, 9_000),
        queued(1, 1, 1),
        delete,
        StoreOp::DeleteMessage(MessageId(1)),
    ];
    home.commit(&[&[session(1, None)], &gone]);
    let db = raw(&home);
    let keys: Vec<_> = db.iter().keys().flatten().collect();
    assert_eq!(keys, [key(b's', &[1]), b"xcommits".to_vec(), b"xformat".to_vec()]);
    let commits = db.get("xcommits").unwrap().unwrap();
    assert_eq!(commits[12], 1, "a commit that changes nothing is none");
}

/// Run by hand: `mount -t tmpfs -o size=6m tmpfs /mnt`, `HEADGATE_SMALL_DISK=/mnt cargo test … -- --ignored`.
#[test]
#[ignore = "needs a small disk of its own"]
fn a_full_disk_loses_nothing_and_room_heals_it() {
    let disk = std::path::PathBuf::from(std::env::var_os("HEADGATE_SMALL_DISK").unwrap());
    let open = || SledStore::open(disk.join("store"), Durability::PowerLoss).unwrap();
    let mut store = open();
    store.load().unwrap();
    std::fs::write(disk.join("ballast"), vec![0; 1 << 20]).unwrap();
    let full = (1..)
        .find(|n| store.commit(&[message(*n, 3000)]).is_err())
        .unwrap();
    let delete = [StoreOp::DeleteMessage(MessageId(1))];
    assert!(store.commit(&delete).is_err(), "not even a delete has room");
    std::fs::remove_file(disk.join("ballast")).unwrap();
    store.commit(&delete).unwrap();
    let image = store.load().unwrap();
    let ids: Vec<u64> = image
        .messages
        .iter()
        .map(|(id, _)| id.0)
        .filter(|id| *id < full)
        .collect();
    assert!(ids.into_iter().eq(2..full));
    drop(store);
    let mut again = open();
    assert_eq!(again.load().unwrap(), image);
}
