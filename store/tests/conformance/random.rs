//! Random operations in random commits: after every reopen the store on disk holds what its twin in memory holds.

use crate::bench::{Home, Shown, message, queued, session, shown, subscribe};
use headgate_model::store::MessageId;
use headgate_model::{Qos, SessionId, StoreOp, WallTime};
use proptest::prelude::*;

/// A wish; what it becomes depends on what there is.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub what: u8,
    pub session: u64,
    pub number: u64,
    size: usize,
    pub commit: bool,
    reopen: bool,
}

pub(crate) fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let size = prop_oneof![4 => 0..50usize, 1 => 4_000..4_200usize, 1 => 9_000..20_000usize];
    let wish = (
        0..20u8,
        1..4u64,
        0..6u64,
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

/// The operations of a wish, as the bus would order them: a body comes before what refers to it, a queue belongs to a session that is
/// there, and no number is given twice.
pub(crate) fn ops(wish: &Wish, unused: u64, now: &Shown) -> Vec<StoreOp> {
    let (s, n) = (SessionId(wish.session), wish.number);
    let there = now.image.sessions.iter().any(|session| session.id == s);
    let kept = now.image.retained.iter().map(|(id, _)| *id);
    let kept = kept
        .chain(now.image.delayed.iter().map(|(id, ..)| *id))
        .nth(n as usize);
    let filter = format!("f/{n}/{}", "x".repeat(wish.size));
    let some = now.queues.keys().filter(|(session, ..)| *session == s.0);
    let some = some.map(|(.., seq)| *seq).nth(n as usize);
    match wish.what {
        0 | 1 => vec![session(wish.session, (wish.size > 20).then_some(wish.size))],
        2 if n == 1 => vec![StoreOp::DeleteSession(s)],
        3 => {
            let all = now.image.sessions.iter().map(|session| session.id.0);
            let all = all.map(|session| queued(session, unused, n)).collect();
            [vec![message(n, wish.size)], all].concat()
        }
        4 => some.map_or_else(Vec::new, |seq| vec![StoreOp::MarkReceived(s, seq)]),
        5 => vec![subscribe(wish.session, &filter, Qos::ExactlyOnce)],
        6 => vec![StoreOp::DeleteSubscription(s, filter)],
        7 | 8 if there => vec![message(n, wish.size), queued(wish.session, unused, n)],
        9 | 10 => some.map_or_else(Vec::new, |seq| vec![StoreOp::DeleteQueued(s, seq)]),
        11 => vec![StoreOp::PutReceived(s, n as u16)],
        12 => vec![StoreOp::DeleteReceived(s, n as u16)],
        13 => vec![
            message(unused, wish.size),
            StoreOp::PutRetained(MessageId(unused)),
        ],
        14 => kept.map_or_else(Vec::new, |id| {
            vec![StoreOp::DeleteRetained(id), StoreOp::DeleteDelayed(id)]
        }),
        15 => {
            let put = StoreOp::PutDelayed(MessageId(unused), WallTime(n));
            vec![message(unused, wish.size), put]
        }
        16 | 17 => {
            let note = vec![n as u8; if n == 0 { 0 } else { wish.size }];
            vec![StoreOp::PutNote(s, note.into())]
        }
        18.. => {
            let from = unused.saturating_sub(10 * n);
            vec![StoreOp::DropOldest(s, (n % 2) as u8, from)]
        }
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_on_disk_equals_its_twin(wishes in wishes()) {
        let (disk, twin, ahead) = (Home::hurried(), Home::sim(), Home::sim());
        let mut store = disk.open();
        let mut batch = Vec::new();
        let mut ended = [0; 4];
        for (mut wish, unused) in wishes.into_iter().zip(100..) {
            let name = wish.session as usize;
            wish.session += 4 * ended[name];
            ended[name] += u64::from(wish.what == 2 && wish.number == 1);
            let new = ops(&wish, unused, &ahead.image());
            ahead.commit(&[&new]);
            batch.extend(new);
            if wish.commit {
                store.commit(&batch).unwrap();
                store.maintain().unwrap();
                twin.commit(&[&batch]);
                batch.clear();
            }
            if wish.reopen {
                prop_assert_eq!(shown(&mut *store), twin.image());
                drop(store);
                prop_assert_eq!(disk.image(), twin.image());
                store = disk.open();
            }
        }
        drop(store);
        prop_assert_eq!(disk.image(), twin.image());
    }
}
