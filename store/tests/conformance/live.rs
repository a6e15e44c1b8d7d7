//! A store that goes from memory to the disk and back while it is used: at every moment it holds what its twin holds, and the folder on the disk is the old one or
//! the new one, whole.

use crate::bench::{Home, Shown, message, queued, session, shown, subscribe};
use crate::random::{ops, wishes};
use headgate_model::store::{FetchLimit, MessageId, StorePlace, StoreSettings, StoredMessage};
use headgate_model::{Message, Qos, SessionId, Store, StoreOp, Topic, WallTime};
use headgate_store::{DiskSettings, DiskStore, LiveStore};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Segments end and checkpoints come all the time, and a step of a move copies one thing.
pub(crate) const HURRIED: DiskSettings = DiskSettings {
    durability: headgate_store::Durability::PowerLoss,
    max_bytes: 0,
    segment_bytes: 2_000,
    checkpoint_bytes: 3_000,
    ballast_bytes: 1_000,
};

pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    pub(crate) fn open(&self, settings: DiskSettings, place: StorePlace) -> LiveStore {
        let mut store = LiveStore::open(self.path(), settings, place).unwrap();
        store.load().unwrap();
        store
    }

    /// What lies beside the store.
    pub(crate) fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "store").collect();
        names.sort();
        names
    }
}

pub(crate) fn to(place: StorePlace) -> StoreSettings {
    StoreSettings {
        max_bytes: 0,
        survives_power_loss: true,
        place,
        most_in_memory: u64::MAX,
    }
}

/// Lets it go all the way.
fn arrive(store: &mut LiveStore, place: StorePlace) {
    store.set_settings(to(place));
    for _ in 0..100_000 {
        if store.stats().place == place {
            return;
        }
        assert!(!store.stats().move_failed);
        if !store.maintain().unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    panic!("it does not arrive: {:?}", store.stats());
}

/// Queues of three sessions with what else there is.
pub(crate) fn some(first: u64, count: u64) -> Vec<Vec<StoreOp>> {
    let mut commits = vec![vec![
        session(1, Some(300)),
        session(2, None),
        session(3, None),
        subscribe(1, "a/#", Qos::AtLeastOnce),
        StoreOp::PutNote(SessionId(2), "a note".into()),
        StoreOp::PutReceived(SessionId(3), 7),
        StoreOp::ReserveSessions(SessionId(50)),
    ]];
    for n in first..first + count {
        let mut ops = vec![message(n, 200), queued(1, n, n), queued(2, n, n)];
        match n % 5 {
            0 => ops.push(StoreOp::PutRetained(MessageId(n))),
            1 => ops.push(StoreOp::PutDelayed(MessageId(n), WallTime(n))),
            2 => ops.push(StoreOp::MarkReceived(SessionId(1), n)),
            _ => {}
        }
        commits.push(ops);
    }
    commits
}

pub(crate) fn commit(store: &mut LiveStore, twin: &Home, ops: &[StoreOp]) {
    store.commit(ops).unwrap();
    twin.commit(&[ops]);
}

/// A commit that touches what was copied already, what is being copied, and what is not yet.
pub(crate) fn change(n: u64) -> Vec<StoreOp> {
    vec![
        message(n, 100),
        queued(1, n, n),
        queued(3, n, n),
        StoreOp::PutRetained(MessageId(n)),
        StoreOp::DropOldest(SessionId(2), (n % 2) as u8, 0),
        StoreOp::DeleteQueued(SessionId(1), n - 20),
        StoreOp::MarkReceived(SessionId(2), n - 12),
        StoreOp::DeleteRetained(MessageId(n - 25)),
        StoreOp::PutReceived(SessionId(2), n as u16),
    ]
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            // A checkpoint may have renamed it just now.
            false => drop(fs::copy(entry.path(), to)),
        }
    }
}

/// What a start would find if the gateway were killed now.
fn after_a_kill(place: &Place) -> Shown {
    let copied = Place::new();
    copy(place.0.path(), copied.0.path());
    let found = shown(&mut copied.open(HURRIED, StorePlace::Disk));
    assert!(!copied.beside().contains(&"store.moving".to_owned()));
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn it_equals_its_twin_wherever_it_goes(
        wishes in wishes(),
        moves in prop::collection::vec((prop::bool::weighted(0.15), 0..4u8), 120),
    ) {
        let (place, twin, ahead) = (Place::new(), Home::sim(), Home::sim());
        let mut store = place.open(HURRIED, StorePlace::Memory);
        let mut wanted = StorePlace::Memory;
        let mut batch = Vec::new();
        let mut ended = [0; 4];
        for ((mut wish, unused), (turns, steps)) in wishes.into_iter().zip(100..).zip(moves) {
            let name = wish.session as usize;
            wish.session += 4 * ended[name];
            ended[name] += u64::from(wish.what == 2 && wish.number == 1);
            let new = ops(&wish, unused, &ahead.image());
            ahead.commit(&[&new]);
            batch.extend(new);
            if wish.commit {
                store.commit(&batch).unwrap();
                twin.commit(&[&batch]);
                batch.clear();
            }
            if turns {
                wanted = match wanted {
                    StorePlace::Memory => StorePlace::Disk,
                    StorePlace::Disk => StorePlace::Memory,
                };
                store.set_settings(to(wanted));
            }
            for _ in 0..steps {
                store.maintain().unwrap();
            }
            prop_assert!(!store.stats().move_failed);
            if turns {
                prop_assert_eq!(shown(&mut store), twin.image());
            }
        }
        arrive(&mut store, wanted);
        prop_assert_eq!(shown(&mut store), twin.image());
        arrive(&mut store, StorePlace::Disk);
        prop_assert_eq!(shown(&mut store), twin.image());
        drop(store);
        prop_assert_eq!(shown(&mut place.open(HURRIED, StorePlace::Disk)), twin.image());
    }
}

/// Killed after any step, it is the old store or the whole new one; as long as it is not there, nothing is promised.
#[test]
fn a_kill_on_the_way_leaves_the_old_store_or_the_new_one() {
    let (place, twin) = (Place::new(), Home::sim());
    {
        let mut old = place.open(HURRIED, StorePlace::Disk);
        old.commit(&[session(9, None), message(1, 50), queued(9, 1, 1)])
            .unwrap();
    }
    let old = after_a_kill(&place);
    let mut store = place.open(HURRIED, StorePlace::Memory);
    for ops in some(100, 40) {
        commit(&mut store, &twin, &ops);
    }
    store.set_settings(to(StorePlace::Disk));
    let mut steps = 0;
    while store.stats().place == StorePlace::Memory {
        let had_more = store.maintain().unwrap();
        if steps % 3 == 0 && steps < 120 {
            commit(&mut store, &twin, &change(140 + steps / 3));
        }
        if !had_more {
            std::thread::sleep(Duration::from_millis(1));
        }
        steps += 1;
        let expected = match store.stats().place {
            StorePlace::Memory => old.clone(),
            StorePlace::Disk => twin.image(),
        };
        assert_eq!(after_a_kill(&place), expected, "step {steps}");
    }
    assert!(steps > 40, "it was cut in {steps} steps");
    // What comes now is promised.
    commit(&mut store, &twin, &change(200));
    assert_eq!(after_a_kill(&place), twin.image());
    assert_eq!(shown(&mut store), twin.image());
    assert_eq!(place.beside(), ["store.replaced"]);
    let replaced = place.0.path().join("store.replaced");
    assert_eq!(shown(&mut DiskStore::open(replaced, HURRIED).unwrap()), old);
}

/// On the way to memory the folder holds all that is committed, until it is not used any more.
#[test]
fn a_kill_on_the_way_to_memory_loses_nothing() {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(HURRIED, StorePlace::Disk);
    for ops in some(100, 40) {
        commit(&mut store, &twin, &ops);
    }
    store.set_settings(to(StorePlace::Memory));
    let mut n = 140;
    while store.stats().place == StorePlace::Disk {
        store.maintain().unwrap();
        commit(&mut store, &twin, &change(n));
        n += 1;
        if store.stats().place == StorePlace::Disk {
            assert_eq!(after_a_kill(&place), twin.image());
        }
    }
    assert!(n > 150, "it went in {} steps", n - 140);
    assert!(place.path().join("outdated").exists());
    assert_eq!(shown(&mut store), twin.image());
    // And back: what is on the disk is older than what is in memory, and nobody wants it.
    arrive(&mut store, StorePlace::Disk);
    assert_eq!(shown(&mut store), twin.image());
    assert_eq!(place.beside(), [""; 0]);
}

#[test]
fn without_room_it_stays_in_memory_and_loses_nothing() {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(HURRIED, StorePlace::Memory);
    for ops in some(100, 400) {
        commit(&mut store, &twin, &ops);
    }
    store.set_settings(StoreSettings {
        max_bytes: 60_000,
        ..to(StorePlace::Disk)
    });
    while !store.stats().move_failed {
        store.maintain().unwrap();
    }
    assert!(!store.maintain().unwrap(), "it waits before it tries again");
    assert_eq!(place.beside(), [""; 0]);
    commit(&mut store, &twin, &change(600));
    assert_eq!(
        (shown(&mut store), store.stats().place),
        (twin.image(), StorePlace::Memory)
    );
    // Other settings are tried at once.
    arrive(&mut store, StorePlace::Disk);
    assert_eq!(shown(&mut store), twin.image());
}

#[test]
fn what_takes_too_much_memory_stays_on_the_disk() {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(HURRIED, StorePlace::Disk);
    for ops in some(100, 40) {
        commit(&mut store, &twin, &ops);
    }
    store.set_settings(StoreSettings {
        most_in_memory: 20_000,
        ..to(StorePlace::Memory)
    });
    store.maintain().unwrap();
    assert!(store.stats().move_failed);
    commit(&mut store, &twin, &change(140));
    assert_eq!(
        (shown(&mut store), store.stats().place),
        (twin.image(), StorePlace::Disk)
    );
    assert_eq!(after_a_kill(&place), twin.image());
}

/// Whoever changes his mind on the way has what he had, and can go again.
#[test]
fn it_may_turn_round_on_the_way() {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(HURRIED, StorePlace::Memory);
    for ops in some(100, 40) {
        commit(&mut store, &twin, &ops);
    }
    for (away, home) in [
        (StorePlace::Disk, StorePlace::Memory),
        (StorePlace::Memory, StorePlace::Disk),
    ] {
        for n in 0..30 {
            store.set_settings(to(away));
            store.maintain().unwrap();
            store.maintain().unwrap();
            assert!(store.stats().is_moving);
            commit(
                &mut store,
                &twin,
                &change(140 + 60 * u64::from(away == StorePlace::Memory) + n),
            );
            store.set_settings(to(home));
            store.maintain().unwrap();
            assert!(!store.stats().is_moving);
            assert_eq!(place.beside(), [""; 0]);
        }
        assert_eq!(shown(&mut store), twin.image());
        arrive(&mut store, away);
        assert_eq!(shown(&mut store), twin.image());
    }
}

/// A stop ends what was begun.
#[test]
fn a_stop_on_the_way_to_the_disk_arrives_there() {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(HURRIED, StorePlace::Memory);
    for ops in some(100, 40) {
        commit(&mut store, &twin, &ops);
    }
    store.set_settings(to(StorePlace::Disk));
    for _ in 0..10 {
        store.maintain().unwrap();
    }
    drop(store);
    assert_eq!(shown(&mut place.open(HURRIED, StorePlace::Disk)), twin.image());
}

/// The walk comes to its end, whatever is committed meanwhile: here twenty times what a step copies.
#[test]
fn it_arrives_while_others_commit() {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(HURRIED, StorePlace::Memory);
    for ops in some(100, 100) {
        commit(&mut store, &twin, &ops);
    }
    store.set_settings(to(StorePlace::Disk));
    let mut n = 1_000;
    let mut steps = 0;
    while store.stats().place == StorePlace::Memory {
        // What waits for the disk is no step.
        match store.maintain().unwrap() {
            true => steps += 1,
            false => std::thread::sleep(Duration::from_millis(1)),
        }
        let many = (n..n + 10).flat_map(|n| [message(n, 100), queued(1 + n % 3, n, n)]);
        commit(&mut store, &twin, &many.collect::<Vec<_>>());
        n += 10;
        assert!(steps < 500, "it does not arrive");
    }
    assert_eq!(shown(&mut store), twin.image());
}

/// A message that a hundred sessions wait for is there once, on the disk and in memory.
#[test]
fn a_body_that_many_wait_for_is_copied_once() {
    const SESSIONS: u64 = 100;
    const BODY: usize = 100_000;
    let place = Place::new();
    let mut store = place.open(DiskSettings::default(), StorePlace::Memory);
    let topic = Topic::try_from("t").unwrap();
    let stored = StoredMessage {
        message: Arc::new(Message::new(topic, vec![7; BODY])),
        expires: None,
    };
    let mut ops = vec![StoreOp::PutMessage(MessageId(1), stored)];
    ops.extend((1..=SESSIONS).flat_map(|n| [session(n, None), queued(n, 1, 1)]));
    store.commit(&ops).unwrap();
    drop(ops);
    arrive(&mut store, StorePlace::Disk);
    let written = store.stats().journal_bytes;
    assert!(written < 2 * BODY as u64, "{written} bytes for one of {BODY}");
    arrive(&mut store, StorePlace::Memory);
    let limit = FetchLimit { count: 1, bytes: 1 };
    let mut body = |n| {
        let fetched = store.fetch(SessionId(n), 0, 0, limit).unwrap();
        fetched.deliveries.into_iter().next().unwrap().message.message
    };
    assert!(Arc::ptr_eq(&body(1), &body(SESSIONS)));
}
