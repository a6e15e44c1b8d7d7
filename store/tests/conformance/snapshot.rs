//! A copy of a store that goes on: links and lengths of one moment are a whole store, whatever becomes of the files afterwards.

use crate::bench::{Home, message, queued, session, shown, sorted, subscribe};
use headgate_model::store::{MessageId, SnapshotFile};
use headgate_model::{Qos, SessionId, Store, StoreOp};
use headgate_store::{DiskSettings, DiskStore};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const SESSIONS: u64 = 5;
const MESSAGES: u64 = 2_000;
const EVERY: u64 = 100;

/// A copy, as soon as the store finds a moment for it. Nothing is committed meanwhile.
fn snapshot(store: &mut dyn Store, into: &Path) -> Vec<SnapshotFile> {
    fs::create_dir(into).unwrap();
    loop {
        if let Some(files) = store.snapshot(into).unwrap() {
            return files;
        }
        store.maintain().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Of each file what belongs to the copy.
fn copy(files: &[SnapshotFile], from: &Path, to: &Path) {
    fs::create_dir_all(to.join("journal")).unwrap();
    for SnapshotFile { name, bytes } in files {
        let mut read = File::open(from.join(name)).unwrap().take(*bytes);
        let copied = io::copy(&mut read, &mut File::create_new(to.join(name)).unwrap());
        assert_eq!(copied.unwrap(), *bytes, "{name}");
    }
}

/// Checkpoints come, segments end, are emptied and go; nineteen copies are made on the way, and looked at when all is over.
#[test]
fn a_copy_is_what_was_committed_when_it_was_made() {
    let home = Home::hurried();
    let links = tempfile::tempdir_in(home.path().parent().unwrap()).unwrap();
    let mut store = home.open();
    store.load().unwrap();
    let first: Vec<StoreOp> = (1..=SESSIONS)
        .flat_map(|n| [session(n, None), subscribe(n, "a/#", Qos::AtLeastOnce)])
        .collect();
    store.commit(&first).unwrap();
    let (mut commits, mut copies) = (vec![first], Vec::new());
    for n in 0..MESSAGES {
        let mut ops = vec![message(n, 300), queued(1 + n % SESSIONS, n, n)];
        if n % 10 == 0 {
            ops.push(StoreOp::PutRetained(MessageId(n)));
        }
        // Most are settled soon, a few stay.
        if n >= 50 && n % 7 != 0 {
            let old = n - 50;
            ops.push(StoreOp::DeleteQueued(SessionId(1 + old % SESSIONS), old));
        }
        store.commit(&ops).unwrap();
        commits.push(ops);
        store.maintain().unwrap();
        if n % EVERY == EVERY - 1 {
            let into = links.path().join(n.to_string());
            let files = snapshot(&mut *store, &into);
            copies.push((n, commits.len(), into, files));
        }
    }
    drop(store);
    let mut positions = Vec::new();
    for (n, committed, from, files) in copies {
        let to = links.path().join(format!("{n}-copy"));
        copy(&files, &from, &to);
        let mut copied = DiskStore::open(&to, DiskSettings::default()).unwrap();
        let found = shown(&mut copied);
        let reference = Home::sim();
        let all: Vec<&[StoreOp]> = commits[..committed].iter().map(Vec::as_slice).collect();
        reference.commit(&all);
        let expected = reference.image();
        assert_eq!(found.image.damage, [""; 0], "{n}");
        assert_eq!(found.lost, 0, "{n}");
        assert!(found.queues == expected.queues, "{n}");
        assert!(sorted(found.image) == sorted(expected.image), "{n}");
        positions.extend(files.iter().map(|file| file.name.clone()));
    }
    positions.sort();
    positions.dedup();
    assert!(positions.len() > 5, "segments came and went: {positions:?}");
}
