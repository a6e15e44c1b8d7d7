//! A journal that lost its end: that is told, once, and what is taken from then on is as safe as ever.

use crate::bench::{Home, Shown, message, queued, session, shown};
use crate::damage::{copy, finish_checkpoints};
use headgate_model::store::MessageId;
use headgate_model::{Store, StoreOp};
use headgate_store::DiskSettings;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The last segment has so many bytes left.
    Cut(u64),
    /// The last segment is gone.
    Segment,
    /// All segments are.
    All,
}

impl Home {
    /// Neither checkpoints nor compaction come by themselves.
    fn quiet(segment_bytes: u64) -> Self {
        let settings = DiskSettings {
            segment_bytes,
            ballast_bytes: 1_000,
            ..DiskSettings::default()
        };
        Self::Disk(tempfile::tempdir().unwrap(), settings)
    }

    /// As `kill -9` leaves the store that is open in this one.
    fn killed(&self) -> Self {
        let Self::Disk(_, settings) = self else {
            unreachable!()
        };
        let home = Self::Disk(tempfile::tempdir().unwrap(), *settings);
        copy(&self.path(), &home.path());
        home
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join("journal")).unwrap();
        let mut segments: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some_and(|e| e == "log"));
        segments.sort();
        segments
    }

    fn last_segment(&self) -> std::fs::File {
        let path = self.segments().pop().unwrap();
        OpenOptions::new().write(true).open(path).unwrap()
    }

    fn suffer(&self, loss: Loss) {
        match loss {
            Loss::Cut(len) => self.last_segment().set_len(len).unwrap(),
            Loss::Segment => std::fs::remove_file(self.segments().pop().unwrap()).unwrap(),
            Loss::All => std::fs::remove_dir_all(self.path().join("journal")).unwrap(),
        }
    }
}

/// Frames of the same lengths, whatever the session and the messages: one body may lie where another was.
fn fill(store: &mut dyn Store, id: u64, messages: u64) {
    store.commit(&[session(id, Some(20))]).unwrap();
    for n in 0..40 {
        let retain = StoreOp::PutRetained(MessageId(messages + n));
        let ops = [message(messages + n, 100), queued(id, n, messages + n), retain];
        store.commit(&ops).unwrap();
    }
}

/// A store whose checkpoint is inside the last segment, with a commit behind it.
fn original(segment_bytes: u64) -> Home {
    let home = Home::quiet(segment_bytes);
    let mut store = home.open();
    store.load().unwrap();
    fill(&mut *store, 1, 1_000);
    drop(store);
    let mut store = home.open();
    store.load().unwrap();
    store.commit(&[session(9, None)]).unwrap();
    home.killed()
}

fn retained(found: &Shown, from: u64) -> usize {
    let numbers = found.image.retained.iter().map(|(id, _)| id.0);
    numbers.filter(|id| (from..from + 40).contains(id)).count()
}

/// What was acknowledged after the loss is there after the next `kill -9`; no entry gets another one's message; and nothing is told twice.
#[test]
fn what_comes_after_a_lost_end_is_kept() {
    let losses = [0, 1, 15, 16, 17, 100, 900].map(Loss::Cut);
    for segment_bytes in [2_000, 1 << 20] {
        let original = original(segment_bytes);
        let whole = original.killed().image();
        for loss in losses.into_iter().chain([Loss::Segment, Loss::All]) {
            let context = format!("segments of {segment_bytes}, {loss:?}");
            let home = original.killed();
            home.suffer(loss);
            let mut store = home.open();
            let damage = store.load().unwrap().damage;
            assert!(
                damage
                    .iter()
                    .any(|words| words.contains("of the journal has lost its end") || words.contains("gone")),
                "{context}: {damage:?}"
            );
            fill(&mut *store, 2, 7_000);

            let mut found = home.killed().image();
            found.image.damage.clear();
            assert_eq!(retained(&found, 7_000), 40, "{context}");
            assert_eq!(retained(&found, 1_000), 40, "{context}: these are in the tables");
            assert_eq!(found.queue(2).len(), 40, "{context}");
            let old = found.queues.iter().filter(|((id, ..), _)| *id == 1);
            for (key, value) in old {
                assert_eq!(whole.queues.get(key), Some(value), "{context}: {key:?}");
            }
            assert_eq!(found.queue(1).len() + found.lost, 40, "{context}");

            finish_checkpoints(&mut *store);
            let later = home.killed();
            let mut found = later.image();
            assert_eq!(found.image.damage, [""; 0], "{context}: it was told");
            assert_eq!(retained(&found, 7_000), 40, "{context}");
            found = later.image();
            assert_eq!((found.lost, found.queue(2).len()), (0, 40), "{context}");
        }
    }
}

/// The segment that lost its end goes as any other, when nothing needs it.
#[test]
fn a_segment_without_its_end_is_freed() {
    let home = original(1 << 20);
    home.suffer(Loss::Cut(900));
    let mut store = home.open();
    shown(&mut *store);
    let ops = (0..40).map(|n| StoreOp::DeleteQueued(headgate_model::SessionId(1), n));
    store.commit(&ops.collect::<Vec<_>>()).unwrap();
    finish_checkpoints(&mut *store);
    let left = home.segments();
    assert!(left.len() == 1 && left[0].ends_with("0000000002.log"), "{left:?}");
}

/// A header was whole before the first frame was written: without it, what was behind it is lost. Before the first checkpoint too.
#[test]
fn a_journal_that_was_emptied_is_told() {
    for len in [0, 1, 8, 15] {
        let home = Home::quiet(1 << 20);
        let mut store = home.open();
        store.load().unwrap();
        store.commit(&[session(1, None)]).unwrap();
        let home = home.killed();
        home.suffer(Loss::Cut(len));
        let mut store = home.open();
        let damage = store.load().unwrap().damage;
        assert_eq!(damage, ["segment 1 of the journal has lost its end"], "{len}");
        store.commit(&[session(2, None)]).unwrap();
        let found = home.killed().image();
        assert_eq!(found.image.sessions.len(), 1, "{len}");
        assert_eq!(found.image.damage, [""; 0], "{len}");
    }
}

/// A header that cannot be read costs nothing but the word of it.
#[test]
fn a_header_that_cannot_be_read_is_told_and_written_again() {
    for checkpoint in [false, true] {
        let home = Home::quiet(1 << 20);
        let mut store = home.open();
        store.load().unwrap();
        fill(&mut *store, 1, 1_000);
        if checkpoint {
            drop(store);
            store = home.open();
            store.commit(&[session(9, None)]).unwrap();
        }
        let home = home.killed();
        let whole = home.killed().image();
        home.last_segment().write_all_at(b"rubbish", 2).unwrap();
        let mut found = home.killed().image();
        let damage = std::mem::take(&mut found.image.damage);
        assert_eq!(damage, ["segment 1 of the journal: its header cannot be read"]);
        assert!(found == whole, "{found:?}");
        home.image();
        assert!(home.image() == whole);
    }
}

/// One frame may be torn. What is longer than the frame that it begins with was more than one.
#[test]
fn more_than_a_torn_frame_is_told() {
    let home = Home::quiet(1 << 20);
    let mut store = home.open();
    store.load().unwrap();
    fill(&mut *store, 1, 1_000);
    let home = home.killed();
    let len = home.last_segment().metadata().unwrap().len();

    let bytes = std::fs::read(home.segments().pop().unwrap()).unwrap();
    let starts: Vec<usize> = memchr::memmem::find_iter(&bytes, b"HGj1").collect();
    let [.., begin, last] = starts[..] else {
        unreachable!()
    };
    let last = last as u64;
    for cut in (last..last + 14).chain([len - 1]) {
        let torn = home.killed();
        torn.last_segment().set_len(cut).unwrap();
        let found = torn.image();
        assert_eq!((found.image.damage.len(), found.queue(1).len()), (0, 39), "{cut}");
    }

    assert!(begin % 512 < 500, "the beginning is in one block");
    let rubbish = vec![7; bytes.len() - begin - 20];
    home.last_segment()
        .write_all_at(&rubbish, begin as u64 + 20)
        .unwrap();
    let found = home.image();
    let words = format!("{} bytes from {begin} on cannot be read", bytes.len() - begin);
    assert!(
        found.image.damage.iter().any(|told| told.ends_with(&words)),
        "{found:?}"
    );
    assert_eq!(found.queue(1).len(), 38);
    assert_eq!(home.image().image.damage, [""; 0]);
}
