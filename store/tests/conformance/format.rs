//! [I08] Stores of earlier versions open, stores of later ones are refused and left alone.

use crate::bench::{Home, subscription};
use headgate_model::store::MessageId;
use headgate_model::{Qos, SessionId, StoreError, StoreOp, WallTime};
use headgate_store::{DiskSettings, DiskStore};

/// Rows as the version before wrote them, one a line: key and value in hexadecimal.
const FORMAT_1: &str = include_str!("fixtures/format-1.hex");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn old_store() -> Home {
    let home = Home::disk();
    let db = sled::Config::new()
        .path(home.path())
        .segment_size(512 << 10)
        .open()
        .unwrap();
    for line in FORMAT_1.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        db.insert(bytes(key), bytes(value)).unwrap();
    }
    db.flush().unwrap();
    drop(db);
    std::thread::sleep(std::time::Duration::from_millis(300));
    home
}

/// Puts rows into the tables of a store that is closed.
fn write_rows(home: &Home, rows: &[(&[u8], &[u8])]) {
    let tables = home.path().join("tables");
    let config = sled::Config::new().path(&tables).segment_size(512 << 10);
    let mut tries = (0..100).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        config.open()
    });
    let db = tries.find_map(Result::ok).expect("it opens");
    for (key, body) in rows {
        // Version byte, number of further parts, the body, and the checksum of all that with the key.
        let mut value = [&[1, 0, 0, 0, 0][..], body].concat();
        let mut sum = crc32fast::Hasher::new();
        sum.update(key);
        sum.update(&value);
        value.extend_from_slice(&sum.finalize().to_be_bytes());
        db.insert(key, value).unwrap();
    }
    db.flush().unwrap();
}

#[test]
fn a_store_of_format_1_is_brought_to_format_2() {
    let home = old_store();
    for cut_off in [false, true] {
        if cut_off {
            // The start before was cut off when it had moved the old one away.
            std::fs::remove_dir_all(home.path()).unwrap();
        }
        let found = home.image();
        assert!(found.image.damage.is_empty(), "{found:?}");
        let [seven, eight] = &found.image.sessions[..] else {
            panic!("{found:?}")
        };
        assert_eq!(seven.subscriptions.len(), 2);
        assert_eq!(
            eight.subscriptions,
            [subscription("$share/g/a/#", Qos::ExactlyOnce)]
        );
        assert_eq!(seven.received, [1, 65_535]);
        assert!(seven.record.will.is_some());
        let topics = |numbers: &[u64]| -> Vec<(u64, String)> {
            numbers.iter().map(|n| (*n, format!("t/{n}"))).collect()
        };
        assert_eq!(found.queue(7), topics(&[1, 2]));
        let held: Vec<u64> = seven.held.iter().map(|held| held.seq).collect();
        assert_eq!(held, [3], "PUBREC had come for it");
        assert_eq!(seven.held[0].message.message.payload.len(), 9_000);
        assert_eq!(found.queue(8), [(1, "t/4".to_owned())]);
        assert_eq!(found.image.retained[0].0, MessageId(2));
        assert_eq!(found.image.delayed[0].2, WallTime(99));
        assert!(home.path().with_extension("format-1").join("db").exists());
    }
}

/// Format 2 had no notes and no sessions that want what has expired: its rows are those of today.
#[test]
fn a_store_of_format_2_opens_as_before() {
    let record = [
        &[0, 0, 0, 1][..],
        b"c",
        &[0],                       // no user
        &[0, 0, 0, 0, 0, 0, 0, 60], // it lasts a minute
        &[0; 8],
        &[0, 0, 0], // it does not end, is connected, and has no will
    ]
    .concat();
    let home = Home::disk();
    home.commit(&[&[]]);
    let key = [&b"s"[..], &7_u64.to_be_bytes()].concat();
    write_rows(&home, &[(b"xformat", &2_u64.to_be_bytes()), (&key, &record)]);
    // What the tables hold is in the export too, of a store of that format; here it is made anew from the tables.
    std::fs::remove_file(home.path().join("export")).unwrap();
    let found = home.image();
    let [seven] = &found.image.sessions[..] else {
        panic!("{found:?}")
    };
    assert_eq!((seven.id.0, seven.record.client_id.as_str()), (7, "c"));
    assert!(!seven.record.wants_expired && seven.note.is_empty());
    home.commit(&[&[StoreOp::PutNote(SessionId(7), "kept".into())]]);
    assert_eq!(home.image().image.sessions[0].note, "kept");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let home = Home::disk();
    home.commit(&[&[]]);
    write_rows(&home, &[(b"xformat", &9_u64.to_be_bytes())]);
    for _ in 0..2 {
        match DiskStore::open(home.path(), DiskSettings::default()) {
            Err(StoreError::Newer { found: 9, known: 3 }) => {}
            other => panic!("{other:?}"),
        }
    }
}
