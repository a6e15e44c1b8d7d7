//! Random operations in random commits: after every reopen the store on disk holds what its twin in memory holds.

use crate::bench::{Home, message, queued, session, subscribe};
use headgate_model::store::MessageId;
use headgate_model::{Qos, SessionId, StoreImage, StoreOp, WallTime};
use proptest::prelude::*;

/// A wish; what it becomes depends on what there is.
#[derive(Clone, Debug)]
struct Wish {
    what: u8,
    session: u64,
    number: u64,
    size: usize,
    commit: bool,
    reopen: bool,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let size = prop_oneof![4 => 0..50usize, 1 => 4_000..4_200usize, 1 => 9_000..20_000usize];
    let wish = (
        0..16u8,
        1..4u64,
        1..6u64,
        size,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.05),
    );
    let wish = wish.prop_map(|(what, session, number, size, commit, reopen)| Wish {
        what,
        session,
        number,
        size,
        commit,
        reopen,
    });
    prop::collection::vec(wish, 1..120)
}

/// The operations of a wish, as the bus would order them: bodies are there before, and as long as, something refers to them.
fn ops(wish: &Wish, now: &StoreImage) -> Vec<StoreOp> {
    let (s, n) = (SessionId(wish.session), wish.number);
    let id = MessageId(n);
    let in_use = now.retained.contains(&id)
        || now.delayed.iter().any(|(delayed, _)| *delayed == id)
        || now
            .sessions
            .iter()
            .any(|s| s.queue.iter().any(|(_, entry)| entry.message == id));
    let exists = now.messages.iter().any(|(message, _)| *message == id);
    let needs = |op| {
        if exists {
            vec![op]
        } else {
            vec![message(n, wish.size), op]
        }
    };
    let filter = format!("f/{n}/{}", "x".repeat(wish.size));
    match wish.what {
        0 | 1 => vec![session(wish.session, (wish.size > 20).then_some(wish.size))],
        2 => vec![StoreOp::DeleteSession(s)],
        3 => vec![message(n, wish.size)],
        4 if !in_use => vec![StoreOp::DeleteMessage(id)],
        5 => vec![subscribe(wish.session, &filter, Qos::ExactlyOnce)],
        6 => vec![StoreOp::DeleteSubscription(s, filter)],
        7 | 8 => needs(queued(wish.session, n % 4, n)),
        9 | 10 => vec![StoreOp::DeleteQueued(s, n % 4)],
        11 => vec![StoreOp::PutReceived(s, n as u16)],
        12 => vec![StoreOp::DeleteReceived(s, n as u16)],
        13 => needs(StoreOp::PutRetained(id)),
        14 => vec![StoreOp::DeleteRetained(id), StoreOp::DeleteDelayed(id)],
        15 => needs(StoreOp::PutDelayed(id, WallTime(n))),
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_on_disk_equals_its_twin(wishes in wishes()) {
        let (disk, twin, ahead) = (Home::sled(), Home::sim(), Home::sim());
        let mut store = disk.open();
        let mut batch = Vec::new();
        for wish in wishes {
            let new = ops(&wish, &ahead.image());
            ahead.commit(&[&new]);
            batch.extend(new);
            if wish.commit {
                store.commit(&batch).unwrap();
                twin.commit(&[&batch]);
                batch.clear();
            }
            if wish.reopen {
                drop(store);
                prop_assert_eq!(disk.image(), twin.image());
                store = disk.open();
            }
        }
        drop(store);
        prop_assert_eq!(disk.image(), twin.image());
    }
}
