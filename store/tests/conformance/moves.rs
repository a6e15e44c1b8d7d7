//! A store that goes to another folder while it is used: until it is there the old folder has all that is committed, from then on the new one has.

use crate::bench::{Home, Shown, message, queued, session, shown};
use crate::live::{HURRIED, Place, change, commit, copy, some, to};
use crate::random::{ops, wishes};
use headgate_model::store::{Ended, StoreMove, StorePlace, StoreSettings};
use headgate_model::{SessionId, Store, StoreError, StoreOp};
use headgate_store::{DiskSettings, LiveStore};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One that was begun, and what came of it.
struct Going {
    folder: PathBuf,
    is_wanted: Arc<AtomicBool>,
    arrivals: Arc<AtomicU32>,
    ended: Arc<Mutex<Option<Result<(), String>>>>,
}

/// Sends it there; `arrive` makes it final.
fn send(
    store: &mut LiveStore,
    place: &Place,
    name: &str,
    arrive: impl Fn() -> Result<(), StoreError> + Send + 'static,
) -> Going {
    let going = Going {
        folder: place.0.path().join(name).join("store"),
        is_wanted: Arc::new(true.into()),
        arrivals: Arc::default(),
        ended: Arc::default(),
    };
    fs::create_dir_all(place.0.path().join(name)).unwrap();
    let (arrivals, ended) = (Arc::clone(&going.arrivals), Arc::clone(&going.ended));
    store.move_to(StoreMove {
        folder: going.folder.clone(),
        is_wanted: Arc::clone(&going.is_wanted),
        arrive: Box::new(move || {
            arrivals.fetch_add(1, Ordering::Relaxed);
            arrive()
        }),
        ended: Ended::new(move |result| {
            let before = ended.lock().unwrap().replace(result.map_err(|e| e.to_string()));
            assert!(before.is_none(), "it is told once");
        }),
    });
    going
}

impl Going {
    fn has_arrived(&self) -> bool {
        self.arrivals.load(Ordering::Relaxed) > 0
    }

    /// Lets it go on until it has ended; `meanwhile` comes between two steps.
    fn until_it_ends(
        &self,
        store: &mut LiveStore,
        mut meanwhile: impl FnMut(&mut LiveStore),
    ) -> Result<(), String> {
        for _ in 0..100_000 {
            if let Some(result) = self.ended.lock().unwrap().clone() {
                return result;
            }
            if !store.maintain().unwrap() {
                std::thread::sleep(Duration::from_millis(1));
            }
            meanwhile(store);
        }
        panic!("it does not end: {store:?}");
    }

    fn ended(&self) -> Option<Result<(), String>> {
        self.ended.lock().unwrap().clone()
    }
}

/// What a start would find in a folder if the gateway were killed now.
fn found_in(folder: &Path) -> Shown {
    let copied = tempfile::tempdir().unwrap();
    copy(folder, &copied.path().join("store"));
    let mut store = LiveStore::open(copied.path().join("store"), HURRIED, StorePlace::Disk).unwrap();
    store.load().unwrap();
    shown(&mut store)
}

fn filled(settings: DiskSettings) -> (Place, Home, LiveStore) {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(settings, StorePlace::Disk);
    for ops in some(100, 40) {
        commit(&mut store, &twin, &ops);
    }
    (place, twin, store)
}

fn refused() -> StoreError {
    StoreError::Io {
        what: "arrive",
        cause: "nobody is at home".into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn it_equals_its_twin_in_whatever_folder(
        wishes in wishes(),
        moves in prop::collection::vec((prop::bool::weighted(0.1), 0..4u8), 120),
    ) {
        let (place, twin, ahead) = (Place::new(), Home::sim(), Home::sim());
        let mut store = place.open(HURRIED, StorePlace::Disk);
        let mut folder = place.path();
        let mut going: Option<Going> = None;
        let mut batch = Vec::new();
        let mut ended = [0; 4];
        for (((mut wish, unused), (goes, steps)), n) in wishes.into_iter().zip(100..).zip(moves).zip(0..) {
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
            if goes && going.is_none() {
                going = Some(send(&mut store, &place, &format!("to-{n}"), || Ok(())));
            }
            for _ in 0..steps {
                store.maintain().unwrap();
                std::thread::yield_now();
            }
            prop_assert_eq!(shown(&mut store), twin.image());
            if let Some(result) = going.as_ref().and_then(Going::ended) {
                prop_assert_eq!(result, Ok(()));
                folder = going.take().unwrap().folder;
            }
        }
        if let Some(going) = going {
            prop_assert_eq!(going.until_it_ends(&mut store, |_| ()), Ok(()));
            folder = going.folder;
        }
        prop_assert_eq!(shown(&mut store), twin.image());
        drop(store);
        prop_assert_eq!(found_in(&folder), twin.image());
    }
}

/// Commits come at each step, to what was copied, is being copied, and is not yet.
#[test]
fn a_kill_on_the_way_loses_nothing() {
    let (place, twin, mut store) = filled(HURRIED);
    let going = send(&mut store, &place, "new", || Ok(()));
    let mut n = 140;
    let ended = going.until_it_ends(&mut store, |store| {
        if n < 180 {
            commit(store, &twin, &change(n));
            n += 1;
        }
        let folder = match going.has_arrived() {
            false => place.path(),
            true => going.folder.clone(),
        };
        assert_eq!(found_in(&folder), twin.image(), "after {n}");
    });
    assert_eq!((ended, going.arrivals.load(Ordering::Relaxed)), (Ok(()), 1));
    assert!(n > 145, "it went in {} steps", n - 140);
    commit(&mut store, &twin, &change(200));
    assert_eq!(shown(&mut store), twin.image());
    assert_eq!(found_in(&going.folder), twin.image());
    assert!(!place.path().join("copying").exists());
    // Nobody uses the old one.
    fs::remove_dir_all(place.path()).unwrap();
    commit(&mut store, &twin, &change(201));
    drop(store);
    assert_eq!(found_in(&going.folder), twin.image());
}

/// [`StoreMove::arrive`] comes when all is there, and nothing is committed before it has come back.
#[test]
fn all_that_is_committed_is_there_when_it_arrives() {
    let (place, twin, mut store) = filled(HURRIED);
    let folder = place.0.path().join("new/store");
    let seen = Arc::new(Mutex::new(None));
    let going = send(&mut store, &place, "new", {
        let seen = Arc::clone(&seen);
        move || {
            *seen.lock().unwrap() = Some(found_in(&folder));
            Ok(())
        }
    });
    let mut n = 140;
    let mut expected = twin.image();
    going
        .until_it_ends(&mut store, |store| {
            if !going.has_arrived() {
                commit(store, &twin, &change(n));
                n += 1;
                expected = twin.image();
            }
        })
        .unwrap();
    assert_eq!(seen.lock().unwrap().take(), Some(expected));
}

#[test]
fn it_stays_where_it_is_not_let_in() {
    let (place, twin, mut store) = filled(HURRIED);
    let going = send(&mut store, &place, "new", || Err(refused()));
    let told = going.until_it_ends(&mut store, |_| ()).unwrap_err();
    assert!(told.contains("nobody is at home"), "{told}");
    assert!(!going.folder.exists() && !place.path().join("copying").exists());
    commit(&mut store, &twin, &change(140));
    assert_eq!(found_in(&place.path()), twin.image());
    // Another time it is.
    let going = send(&mut store, &place, "new", || Ok(()));
    assert_eq!(going.until_it_ends(&mut store, |_| ()), Ok(()));
    assert_eq!(found_in(&going.folder), twin.image());
}

#[test]
fn what_is_not_wanted_any_more_is_removed() {
    for steps in 0..12 {
        let (place, twin, mut store) = filled(HURRIED);
        let going = send(&mut store, &place, "new", || Ok(()));
        for n in 0..steps {
            store.maintain().unwrap();
            std::thread::sleep(Duration::from_millis(u64::from(n % 3 == 2) * 5));
        }
        going.is_wanted.store(false, Ordering::Relaxed);
        if going.until_it_ends(&mut store, |_| ()).is_err() {
            assert!(!going.folder.exists() && !place.path().join("copying").exists());
            assert_eq!(going.arrivals.load(Ordering::Relaxed), 0);
        }
        commit(&mut store, &twin, &change(140));
        assert_eq!(shown(&mut store), twin.image());
    }
}

#[test]
fn a_stop_on_the_way_ends_it_and_loses_nothing() {
    for steps in 0..8 {
        let (place, twin, mut store) = filled(HURRIED);
        let going = send(&mut store, &place, "new", || Ok(()));
        for _ in 0..steps {
            store.maintain().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(store);
        let has_arrived = going.has_arrived();
        let folder = match has_arrived {
            true => &going.folder,
            false => &place.path(),
        };
        assert_eq!(found_in(folder), twin.image());
        if !has_arrived {
            assert!(going.ended().unwrap().is_err());
            assert!(!going.folder.exists());
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_costs_nothing() {
    let (place, twin, mut store) = filled(HURRIED);
    fs::write(place.0.path().join("file"), "").unwrap();
    let ended: Arc<Mutex<Option<bool>>> = Arc::default();
    let told = Arc::clone(&ended);
    store.move_to(StoreMove {
        folder: place.0.path().join("file/store"),
        is_wanted: Arc::new(true.into()),
        arrive: Box::new(|| panic!("it is not there")),
        ended: Ended::new(move |result| *told.lock().unwrap() = Some(result.is_ok())),
    });
    for n in 140.. {
        store.maintain().unwrap();
        commit(&mut store, &twin, &change(n));
        if ended.lock().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(*ended.lock().unwrap(), Some(false));
    assert_eq!(found_in(&place.path()), twin.image());
}

/// With more than is kept the copy is brought up to date by newer links, and comes to its end when less is committed.
#[test]
fn what_is_too_much_to_be_kept_is_copied_once_more() {
    let (place, twin, mut store) = filled(HURRIED);
    store.set_settings(StoreSettings {
        most_in_memory: 2_000,
        ..to(StorePlace::Disk)
    });
    let going = send(&mut store, &place, "new", || Ok(()));
    let mut n = 140;
    let ended = going.until_it_ends(&mut store, |store| {
        // Far more than may be kept, for three passes or so.
        for _ in 0..30 {
            if n < 500 {
                commit(store, &twin, &change(n));
                n += 1;
            }
        }
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(n, 500);
    assert_eq!(shown(&mut store), twin.image());
    assert_eq!(found_in(&going.folder), twin.image());
}

#[test]
fn in_memory_there_is_nothing_to_take_along() {
    let (place, twin) = (Place::new(), Home::sim());
    let mut store = place.open(HURRIED, StorePlace::Memory);
    for ops in some(100, 40) {
        commit(&mut store, &twin, &ops);
    }
    let going = send(&mut store, &place, "new", || Ok(()));
    assert_eq!(going.ended(), Some(Ok(())));
    assert!(!going.folder.exists());
    // From there it goes to the disk.
    store.set_settings(to(StorePlace::Disk));
    while store.stats().place == StorePlace::Memory {
        if !store.maintain().unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(found_in(&going.folder), twin.image());
    assert!(!place.path().exists());
}

/// One thing after the other: first the folder, then the place.
#[test]
fn another_place_is_taken_when_the_folder_is() {
    let (place, twin, mut store) = filled(HURRIED);
    store.set_settings(to(StorePlace::Memory));
    store.maintain().unwrap();
    assert!(store.stats().is_moving);
    let going = send(&mut store, &place, "new", || Ok(()));
    let other = send(&mut store, &place, "third", || Ok(()));
    assert!(other.ended().unwrap().is_err(), "one at a time");
    assert_eq!(going.until_it_ends(&mut store, |_| ()), Ok(()));
    assert_eq!(found_in(&going.folder), twin.image());
    while store.stats().place == StorePlace::Disk {
        store.maintain().unwrap();
    }
    commit(&mut store, &twin, &change(140));
    assert_eq!(shown(&mut store), twin.image());
}

/// What was there before is of nobody's use.
#[test]
fn a_store_that_an_earlier_try_has_left_is_removed() {
    let (place, twin, mut store) = filled(HURRIED);
    {
        let folder = place.0.path().join("new/store");
        let mut left = LiveStore::open(&folder, HURRIED, StorePlace::Disk).unwrap();
        left.load().unwrap();
        left.commit(&[session(9, None), message(1, 50), queued(9, 1, 1)])
            .unwrap();
        fs::write(folder.join("journal/0000009999.log"), "rubbish").unwrap();
    }
    let going = send(&mut store, &place, "new", || Ok(()));
    assert_eq!(going.until_it_ends(&mut store, |_| ()), Ok(()));
    assert_eq!(shown(&mut store), twin.image());
    commit(&mut store, &twin, &[StoreOp::DeleteSession(SessionId(1))]);
    assert_eq!(found_in(&going.folder), twin.image());
}

/// A quota is no reason to stay: a larger disk may be why it goes.
#[test]
fn a_store_that_is_full_by_its_quota_goes() {
    let (place, twin, mut store) = filled(HURRIED);
    store.set_settings(StoreSettings {
        max_bytes: 10_000,
        ..to(StorePlace::Disk)
    });
    assert!(!store.has_room());
    let going = send(&mut store, &place, "new", || Ok(()));
    assert_eq!(going.until_it_ends(&mut store, |_| ()), Ok(()));
    assert_eq!(found_in(&going.folder), twin.image());
}
