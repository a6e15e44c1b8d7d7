//! The power is cut: at any moment, in the middle of a write, with any part of what was not synced on the disk or not. The real store, sled and
//! all, runs on a real folder, and this binary sees each of its system calls. Whatever was committed is there afterwards, the store
//! opens, and has no damage to report.

#![expect(clippy::disallowed_methods, reason = "waits for the store thread")]

#[path = "../conformance/bench.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod bench;
mod image;
mod interpose;

use bench::{Home, Shown, message, queued, session, shown, subscribe};
use headgate_model::store::{MessageId, StorePlace, StoreSettings};
use headgate_model::{Qos, SessionId, Store, StoreOp, WallTime};
use headgate_store::{DiskSettings, DiskStore};
use image::Rest;
use interpose::Event;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

const RUNS: u64 = 40;
const CUTS: usize = 30;
const COMMITS: u64 = 60;

/// One recording at a time.
static ONE: Mutex<()> = Mutex::new(());

const SETTINGS: DiskSettings = DiskSettings {
    durability: headgate_store::Durability::PowerLoss,
    max_bytes: 0,
    segment_bytes: 12_000,
    checkpoint_bytes: 20_000,
    ballast_bytes: 1_000,
};

struct Run {
    folder: tempfile::TempDir,
    events: Vec<Event>,
    /// How many events there were when each commit began, and when it was done.
    commits: Vec<(usize, usize)>,
    /// What there is after no commit, the first, and so on.
    states: Vec<Shown>,
    /// When the store was open.
    opened: usize,
    /// From when on what it took survives a power cut.
    safe: usize,
}

/// Random commits, the same for the store and its twin.
fn run(seed: u64) -> Run {
    run_from(seed, SETTINGS)
}

/// The same, by a store that begins so and is told to survive power cuts when half of them are done.
fn run_from(seed: u64, settings: DiskSettings) -> Run {
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let twin = Home::sim();
    let mut states = vec![twin.image()];
    let mut commits = Vec::new();
    interpose::start(folder.path());
    let mut store = DiskStore::open(folder.path().join("store"), settings).unwrap();
    store.load().unwrap();
    let opened = interpose::len();
    let mut safe = opened;
    for n in 0..COMMITS {
        if n == COMMITS / 2 && settings != SETTINGS {
            store.set_settings(StoreSettings {
                max_bytes: 0,
                survives_power_loss: true,
                place: StorePlace::Disk,
                most_in_memory: 0,
            });
            safe = interpose::len();
        }
        let ops = some_ops(n, &states[states.len() - 1], &mut random);
        let began = interpose::len();
        store.commit(&ops).unwrap();
        commits.push((began, interpose::len()));
        twin.commit(&[&ops]);
        states.push(twin.image());
        store.maintain().unwrap();
        if random.u8(..10) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(random.u64(..10)));
        }
    }
    drop(store);
    Run {
        events: interpose::stop(),
        folder,
        commits,
        states,
        opened,
        safe,
    }
}

fn some_ops(n: u64, now: &Shown, random: &mut fastrand::Rng) -> Vec<StoreOp> {
    // As the bus has it: no number is given twice, and nothing is kept for a session that does not exist.
    let mut ops = vec![session(1 + n / 10, n.is_multiple_of(3).then_some(50))];
    let sessions: Vec<u64> = now.image.sessions.iter().map(|session| session.id.0).collect();
    let mut ended = None;
    for i in 0..random.u64(1..8) {
        let unused = 100 * n + i;
        let Some(s) = random.choice(&sessions).copied().filter(|s| ended != Some(*s)) else {
            continue;
        };
        let body = message(
            unused,
            random.usize(..2) * random.usize(..6_000) + random.usize(..300),
        );
        let waiting: Vec<u64> = now.queue(s).into_iter().map(|(seq, _)| seq).collect();
        let first = waiting.first().copied();
        match random.u8(..13) {
            0 => ops.push(subscribe(s, &format!("f/{}", unused % 7), Qos::AtLeastOnce)),
            1 => ops.push(StoreOp::DeleteSubscription(
                SessionId(s),
                format!("f/{}", unused % 7),
            )),
            2 => ops.extend([body, StoreOp::PutRetained(MessageId(unused))]),
            3 => {
                let retained = now.image.retained.first().map(|(id, _)| *id);
                ops.extend(retained.map(StoreOp::DeleteRetained));
            }
            4 => ops.push(StoreOp::PutReceived(SessionId(s), unused as u16)),
            5 => ops.extend([body, StoreOp::PutDelayed(MessageId(unused), WallTime(unused))]),
            6 => ops.extend(first.map(|seq| StoreOp::MarkReceived(SessionId(s), seq))),
            7 => ops.extend(
                waiting
                    .iter()
                    .take(3)
                    .map(|seq| StoreOp::DeleteQueued(SessionId(s), *seq)),
            ),
            8 => ops.push(StoreOp::DropOldest(SessionId(s), 0, first.unwrap_or(0))),
            9 if n.is_multiple_of(4) && s != 1 + n / 10 => {
                ended = Some(s);
                ops.push(StoreOp::DeleteSession(SessionId(s)));
            }
            10 => {
                let note = vec![n as u8; random.usize(..3) * random.usize(..6_000)];
                ops.push(StoreOp::PutNote(SessionId(s), note.into()));
            }
            _ => ops.extend([body, queued(s, unused, unused)]),
        }
    }
    ops
}

/// The state after a cut must be one between what was done and what was begun. What is wrong, if anything is.
fn verdict(run: &Run, cut: usize, rest: Rest, random: &mut fastrand::Rng) -> Option<String> {
    let done = run.commits.iter().filter(|(_, done)| *done <= cut).count();
    let begun = run.commits.iter().filter(|(began, _)| *began < cut).count();
    let folder = tempfile::tempdir().unwrap();
    image::build(&run.events[..cut], run.folder.path(), folder.path(), rest, random);
    let context = format!("cut after event {cut} of {}, {rest:?}", run.events.len());
    let path = folder.path().join("store");
    let mut store = match DiskStore::open(path, SETTINGS) {
        Ok(store) => store,
        Err(error) => return Some(format!("{context}: {error}")),
    };
    let mut found = shown(&mut store);
    let damage = std::mem::take(&mut found.image.damage);
    if !damage.is_empty() {
        return Some(format!("{context}: {damage:?}"));
    }
    if run.states[done..=begun].contains(&found) {
        return None;
    }
    let which = run.states.iter().position(|state| *state == found);
    Some(format!(
        "{context}: {done} done, {begun} begun, found {which:?}\nfound {found:?}\nexpected {:?}",
        run.states[done]
    ))
}

fn any_rest(random: &mut fastrand::Rng) -> Rest {
    match random.u8(..6) {
        0 => Rest::Nothing,
        1 => Rest::Everything,
        2 => Rest::Some(512, 50),
        3 => Rest::Some(4_096, 50),
        4 => Rest::Some(4_096, 90),
        _ => Rest::First,
    }
}

/// [I01] A thousand cuts and more: `HEADGATE_CUT_RUNS` for more runs of thirty each.
#[test]
fn nothing_committed_is_lost_when_the_power_is_cut() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut cuts = 0;
    let runs = std::env::var("HEADGATE_CUT_RUNS")
        .ok()
        .and_then(|text| text.parse().ok());
    for seed in 0..runs.unwrap_or(RUNS) {
        let run = run(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let syncs: Vec<usize> = (run.opened..run.events.len())
            .filter(|n| matches!(run.events[*n], Event::Sync(_)))
            .collect();
        for n in 0..CUTS {
            // Anywhere, just before a sync, just after it; also while the store is opened for the first time.
            let sync = syncs[random.usize(..syncs.len())];
            let cut = match n % 4 {
                0 => sync,
                1 => sync + 1,
                2 => random.usize(run.opened..=run.events.len()),
                _ => random.usize(..=run.events.len()),
            };
            let rest = any_rest(&mut random);
            if let Some(wrong) = verdict(&run, cut, rest, &mut random) {
                panic!("seed {seed}: {wrong}");
            }
            cuts += 1;
        }
    }
    assert!(cuts >= 1_000, "{cuts}");
}

/// From the moment on that a running store is told to survive power cuts, it does, with all that it took before; and not earlier, or this says nothing.
#[test]
fn a_store_that_is_told_to_survive_power_cuts_does() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let settings = DiskSettings {
        durability: headgate_store::Durability::ProcessCrash,
        ..SETTINGS
    };
    let mut lost_before = 0;
    for seed in 0..10 {
        let run = run_from(seed, settings);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..CUTS {
            let cut = random.usize(run.safe..=run.events.len());
            let rest = any_rest(&mut random);
            if let Some(wrong) = verdict(&run, cut, rest, &mut random) {
                panic!("seed {seed}: {wrong}");
            }
            let before = random.usize(run.opened..run.safe);
            let rest = any_rest(&mut random);
            lost_before += usize::from(verdict(&run, before, rest, &mut random).is_some());
        }
    }
    assert!(lost_before > 50, "{lost_before}");
}

/// A store whose syncs do nothing, as sled's own flush, must not pass: then the test above says something.
#[test]
fn a_store_that_does_not_sync_is_caught() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    interpose::SYNCS_LIE.store(true, Ordering::SeqCst);
    let run = run(1);
    interpose::SYNCS_LIE.store(false, Ordering::SeqCst);
    let mut random = fastrand::Rng::with_seed(1);
    let caught = (0..50).filter(|_| {
        let cut = random.usize(run.opened..=run.events.len());
        let rest = any_rest(&mut random);
        verdict(&run, cut, rest, &mut random).is_some()
    });
    assert!(caught.count() > 20);
}

/// When a commit returns, everything that was written to the journal is synced, by the system's own calls; and each checkpoint of sled's too.
#[test]
fn a_commit_ends_with_a_sync_of_all_that_it_wrote() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let run = run(2);
    let journal = |path: &Path| path.to_string_lossy().contains("/journal/");
    for (began, done) in &run.commits {
        let events = &run.events[*began..*done];
        let wrote = |event: &Event| matches!(event, Event::Write { file, .. } if journal(file));
        let synced = |event: &Event| matches!(event, Event::Sync(file) if journal(file));
        let last_write = events
            .iter()
            .rposition(wrote)
            .expect("each of these commits writes");
        assert!(events[last_write..].iter().any(synced), "{began} to {done}");
    }
    let db = |event: &&Event| matches!(event, Event::Sync(file) if file.ends_with("tables/db"));
    assert!(run.events[run.opened..].iter().filter(db).count() > 5);
}

/// [I10] A full disk refuses, loses nothing that it took, and takes more by itself when there is room again.
#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for room in [100_000, 150_000, 200_000, 300_000] {
        let folder = tempfile::tempdir().unwrap();
        let twin = Home::sim();
        let both = |store: &mut DiskStore, ops: &[StoreOp]| {
            let taken = store.commit(ops).is_ok();
            if taken {
                twin.commit(&[ops]);
            }
            taken
        };
        interpose::start(folder.path());
        interpose::ROOM.store(room, Ordering::SeqCst);
        let mut store = DiskStore::open(folder.path().join("store"), SETTINGS).unwrap();
        store.load().unwrap();
        assert!(both(&mut store, &[session(1, None)]));
        let mut n = 0;
        while store.has_room() && both(&mut store, &[message(n, 700), queued(1, n, n)]) {
            let _ = store.maintain(); // A checkpoint may fail as well as a commit.
            n += 1;
        }
        assert!((20..1_000).contains(&n), "{n} messages fit into {room} bytes");
        // The ballast's room takes what frees space.
        both(&mut store, &[StoreOp::DeleteQueued(SessionId(1), 0)]);
        interpose::ROOM.store(i64::MAX, Ordering::SeqCst);
        for _ in 0..3_000 {
            let _ = store.maintain();
            if store.has_room() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(store.has_room());
        for n in 10_000..10_200 {
            assert!(both(&mut store, &[message(n, 700), queued(1, n, n)]), "{n}");
            store.maintain().unwrap();
        }
        drop(store);
        interpose::stop();
        let mut store = DiskStore::open(folder.path().join("store"), SETTINGS).unwrap();
        assert_eq!(shown(&mut store), twin.image(), "{room}");
    }
}

/// A disk without a quota that is full of what was settled since: room comes back while others go on committing.
#[test]
fn a_small_disk_has_room_again_while_others_commit() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    interpose::start(folder.path());
    interpose::ROOM.store(4_000_000, Ordering::SeqCst);
    let settings = DiskSettings {
        segment_bytes: 1_000_000,
        checkpoint_bytes: 100 << 20,
        ballast_bytes: 500_000,
        ..SETTINGS
    };
    let mut store = DiskStore::open(folder.path().join("store"), settings).unwrap();
    store.load().unwrap();
    store.commit(&[session(1, None), session(2, None)]).unwrap();
    let mut n = 0;
    while store.has_room() && store.commit(&[message(n, 10_000), queued(1, n, n)]).is_ok() {
        let _ = store.maintain();
        n += 1;
    }
    assert!(n > 50, "{n} messages");
    for n in 0..n {
        store.commit(&[StoreOp::DeleteQueued(SessionId(1), n)]).unwrap();
    }
    let room = (0..3_000).any(|_| {
        let _ = store.commit(&[session(2, Some(100))]);
        let _ = store.maintain();
        std::thread::sleep(std::time::Duration::from_millis(1));
        store.has_room()
    });
    interpose::ROOM.store(i64::MAX, Ordering::SeqCst);
    interpose::stop();
    assert!(room, "{:?}", store.stats());
}

/// A start on a disk without room for a byte: what is there is read, nothing new is taken, and with room the store is as ever.
#[test]
fn a_full_disk_does_not_prevent_a_start() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for checkpoints in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let twin = Home::sim();
        let path = folder.path().join("store");
        let mut store = DiskStore::open(&path, SETTINGS).unwrap();
        store.load().unwrap();
        let commit = |store: &mut DiskStore, ops: &[StoreOp]| {
            store.commit(ops).unwrap();
            twin.commit(&[ops]);
        };
        commit(&mut store, &[session(1, None)]);
        for n in 0..40 {
            commit(&mut store, &[message(n, 700), queued(1, n, n)]);
            if checkpoints {
                store.maintain().unwrap();
            }
        }
        drop(store);

        interpose::start(folder.path());
        interpose::ROOM.store(0, Ordering::SeqCst);
        let mut store = DiskStore::open(&path, SETTINGS).unwrap();
        assert_eq!(shown(&mut store), twin.image());
        assert!(!store.has_room());
        // More than the ballast leaves.
        assert!(store.commit(&[message(100, 5_000), queued(1, 100, 100)]).is_err());
        let _ = store.maintain();

        interpose::ROOM.store(i64::MAX, Ordering::SeqCst);
        for _ in 0..3_000 {
            let _ = store.maintain();
            if store.has_room() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(store.has_room());
        for n in 200..260 {
            commit(
                &mut store,
                &[
                    message(n, 700),
                    queued(1, n, n),
                    StoreOp::DeleteQueued(SessionId(1), n - 200),
                ],
            );
            store.maintain().unwrap();
        }
        drop(store);
        interpose::stop();
        let mut store = DiskStore::open(&path, SETTINGS).unwrap();
        assert_eq!(shown(&mut store), twin.image());
    }
}
