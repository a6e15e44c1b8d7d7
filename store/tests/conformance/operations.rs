//! Every operation, on both stores.

use crate::bench::{Home, Shown, message, one_of_several, queued, session, subscribe, subscription};
use headgate_model::store::{LaneImage, MessageId, QueueEntry, StoredMessage};
use headgate_model::{Qos, SessionId, StoreOp, WallTime};

macro_rules! on_both {
    ($($(#[$doc:meta])* $name:ident)+) => {
        mod sim { $($(#[$doc])* #[test] fn $name() { super::$name(&super::Home::sim()); })+ }
        mod disk { $($(#[$doc])* #[test] fn $name() { super::$name(&super::Home::disk()); })+ }
        mod hurried { $($(#[$doc])* #[test] fn $name() { super::$name(&super::Home::hurried()); })+ }
    };
}

on_both! {
    a_new_store_is_empty
    every_put_is_there_after_a_reopen
    every_delete_is_gone_after_a_reopen
    what_is_received_is_held
    the_oldest_is_dropped_from_a_number_on
    a_session_takes_everything_with_it
    notes_are_kept_with_their_sessions
    a_later_operation_of_a_commit_wins
    nothing_is_kept_for_a_session_that_does_not_exist
    bodies_of_any_size_are_kept_whole
    a_body_that_shrinks_leaves_nothing
    the_longest_filters_are_kept
}

fn a_new_store_is_empty(home: &Home) {
    assert_eq!(home.image(), Shown::default());
    home.commit(&[&[]]);
    assert_eq!(home.image(), Shown::default());
}

fn everything() -> Vec<StoreOp> {
    vec![
        message(1, 10),
        message(2, 0),
        message(3, 5),
        session(7, Some(20)),
        session(8, None),
        subscribe(7, "a/+", Qos::AtMostOnce),
        StoreOp::PutSubscription(SessionId(7), Box::new(one_of_several("a/+", 7))),
        StoreOp::PutSubscription(SessionId(7), Box::new(one_of_several("a/+", 8))),
        subscribe(7, "$local/$queue/a/#", Qos::AtLeastOnce),
        subscribe(8, "$share/g/a/#", Qos::ExactlyOnce),
        subscribe(8, "$exclusive/b", Qos::ExactlyOnce),
        queued(7, 1, 1),
        queued(7, 2, 2),
        queued(7, 5, 2),
        queued(8, 1, 1),
        StoreOp::PutReceived(SessionId(7), 1),
        StoreOp::PutReceived(SessionId(7), 65_535),
        StoreOp::PutRetained(MessageId(2)),
        StoreOp::PutDelayed(MessageId(3), WallTime(99)),
    ]
}

fn stored(op: StoreOp) -> StoredMessage {
    match op {
        StoreOp::PutMessage(_, stored) => stored,
        other => panic!("{other:?}"),
    }
}

fn entry(op: StoreOp) -> QueueEntry {
    match op {
        StoreOp::PutQueued(_, _, entry) => QueueEntry {
            message: MessageId(0),
            ..entry
        },
        other => panic!("{other:?}"),
    }
}

fn every_put_is_there_after_a_reopen(home: &Home) {
    home.commit(&[&everything()]);
    let Shown { image, queues, lost } = home.image();
    assert_eq!((lost, &image.damage), (0, &vec![]));
    assert_eq!(image.retained, [(MessageId(2), stored(message(2, 0)))]);
    assert_eq!(
        image.delayed,
        [(MessageId(3), stored(message(3, 5)), WallTime(99))]
    );
    let [seven, eight] = &image.sessions[..] else {
        panic!("{:?}", image.sessions)
    };
    let put = |id, record: &_| StoreOp::PutSession(id, Box::new(Clone::clone(record)));
    assert_eq!(put(seven.id, &seven.record), session(7, Some(20)));
    assert_eq!(put(eight.id, &eight.record), session(8, None));
    assert_eq!(
        seven.subscriptions,
        [
            subscription("$local/$queue/a/#", Qos::AtLeastOnce),
            subscription("a/+", Qos::AtMostOnce),
            one_of_several("a/+", 7),
            one_of_several("a/+", 8),
        ]
    );
    assert_eq!(
        eight.subscriptions,
        [
            subscription("$exclusive/b", Qos::ExactlyOnce),
            subscription("$share/g/a/#", Qos::ExactlyOnce)
        ]
    );
    assert_eq!(seven.received, [1, 65_535]);
    let both = |queue, body| (entry(queue), stored(body));
    let expected = [
        ((7, 0, 1), both(queued(7, 1, 1), message(1, 10))),
        ((7, 0, 2), both(queued(7, 2, 2), message(2, 0))),
        ((7, 1, 5), both(queued(7, 5, 2), message(2, 0))),
        ((8, 0, 1), both(queued(8, 1, 1), message(1, 10))),
    ];
    assert_eq!(queues, expected.into());
    assert!(seven.next_seq >= 6);
    let lane = |lane, count, bytes| LaneImage { lane, count, bytes };
    assert_eq!(seven.lanes, [lane(0, 2, 203), lane(1, 1, 102)]);
}

fn every_delete_is_gone_after_a_reopen(home: &Home) {
    let deletes = [
        StoreOp::DeleteQueued(SessionId(7), 1),
        StoreOp::DeleteQueued(SessionId(7), 2),
        StoreOp::DeleteQueued(SessionId(7), 5),
        StoreOp::DeleteQueued(SessionId(8), 1),
        StoreOp::DeleteSubscription(SessionId(7), "a/+".into()),
        StoreOp::DeleteSubscription(SessionId(7), one_of_several("a/+", 7).stored_name()),
        StoreOp::DeleteSubscription(SessionId(7), one_of_several("a/+", 8).stored_name()),
        StoreOp::DeleteSubscription(SessionId(7), "$local/$queue/a/#".into()),
        StoreOp::DeleteReceived(SessionId(7), 1),
        StoreOp::DeleteReceived(SessionId(7), 65_535),
        StoreOp::DeleteRetained(MessageId(2)),
        StoreOp::DeleteDelayed(MessageId(3)),
        StoreOp::ReserveSessions(SessionId(100)),
        StoreOp::ReserveSessions(SessionId(1 << 40)),
    ];
    home.commit(&[&everything(), &deletes]);
    let Shown { image, queues, .. } = home.image();
    assert_eq!(image.next_session, 1 << 40);
    assert!(queues.is_empty() && image.retained.is_empty() && image.delayed.is_empty());
    let seven = &image.sessions[0];
    assert!(seven.subscriptions.is_empty() && seven.lanes.is_empty() && seven.received.is_empty());
    assert_eq!(image.sessions[1].subscriptions.len(), 2);
}

/// PUBREC came: it does not wait any more, and is known until it is settled.
fn what_is_received_is_held(home: &Home) {
    let received = [
        StoreOp::MarkReceived(SessionId(7), 2),
        StoreOp::MarkReceived(SessionId(7), 1),
    ];
    home.commit(&[
        &everything(),
        &received,
        &[StoreOp::DeleteQueued(SessionId(7), 1)],
    ]);
    let shown = home.image();
    let seven = &shown.image.sessions[0];
    let held: Vec<u64> = seven.held.iter().map(|delivery| delivery.seq).collect();
    assert_eq!(held, [2]);
    assert_eq!(seven.held[0].message, stored(message(2, 0)));
    assert_eq!(shown.queue(7), [(5, "t/2".to_owned())]);
}

fn the_oldest_is_dropped_from_a_number_on(home: &Home) {
    let puts: Vec<StoreOp> = (0..5).flat_map(|n| [message(n, 9), queued(1, n, n)]).collect();
    home.commit(&[&[session(1, None)], &puts]);
    let drop = |from| StoreOp::DropOldest(SessionId(1), 0, from);
    home.commit(&[&[drop(2), drop(0), drop(9), StoreOp::DropOldest(SessionId(1), 3, 0)]]);
    let left: Vec<u64> = home.image().queue(1).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(left, [1, 3, 4]);
}

fn a_session_takes_everything_with_it(home: &Home) {
    let more = [
        message(1, 4),
        queued(7, 6, 1),
        StoreOp::DeleteSession(SessionId(7)),
        session(7, None),
    ];
    home.commit(&[&everything(), &more]);
    let shown = home.image();
    let seven = &shown.image.sessions[0];
    assert_eq!(seven.id, SessionId(7));
    assert!(seven.record.will.is_none());
    assert!(seven.subscriptions.is_empty() && seven.lanes.is_empty() && seven.received.is_empty());
    assert_eq!(shown.queue(8).len(), 1, "the other one keeps what it has");
}

/// A note is there until it is replaced, taken back, or its session ends; neither it nor the session's record rewrites the other.
fn notes_are_kept_with_their_sessions(home: &Home) {
    let put = |session, note: &[u8]| StoreOp::PutNote(SessionId(session), note.to_vec().into());
    let notes = |home: &Home| -> Vec<(u64, usize)> {
        let sessions = home.image().image.sessions;
        sessions.iter().map(|s| (s.id.0, s.note.len())).collect()
    };
    let sessions: Vec<StoreOp> = (1..=4).map(|n| session(n, None)).collect();
    home.commit(&[
        &sessions,
        &[
            put(1, b"old"),
            put(1, b"a new one"),
            put(2, &[7; 16 << 10]),
            put(3, b"x"),
        ],
        &[put(9, b"of nobody"), session(1, Some(20))],
    ]);
    assert_eq!(notes(home), [(1, 9), (2, 16 << 10), (3, 1), (4, 0)]);
    home.commit(&[
        &[put(2, b""), StoreOp::DeleteSession(SessionId(3))],
        &[put(4, b"later")],
    ]);
    assert_eq!(notes(home), [(1, 9), (2, 0), (4, 5)]);
    home.commit(&[&[session(9, None)]]);
    assert_eq!(notes(home), [(1, 9), (2, 0), (4, 5), (9, 0)]);
    assert!(home.image().image.damage.is_empty(), "{:?}", home.image());
}

fn a_later_operation_of_a_commit_wins(home: &Home) {
    home.commit(&[
        &[session(1, None), message(1, 3), queued(1, 1, 1)],
        &[
            message(2, 3),
            StoreOp::DeleteQueued(SessionId(1), 1),
            queued(1, 3, 2),
            queued(1, 2, 2),
            StoreOp::DeleteQueued(SessionId(1), 2),
            message(3, 9),
            StoreOp::PutRetained(MessageId(3)),
            StoreOp::DeleteRetained(MessageId(3)),
        ],
    ]);
    let shown = home.image();
    assert_eq!(shown.queue(1), [(3, "t/2".to_owned())]);
    assert!(shown.image.retained.is_empty());
}

fn nothing_is_kept_for_a_session_that_does_not_exist(home: &Home) {
    home.commit(&[
        &[message(1, 1), queued(5, 1, 1), subscribe(5, "a", Qos::AtMostOnce)],
        &[
            session(5, None),
            StoreOp::DeleteSession(SessionId(5)),
            message(1, 1),
            queued(5, 2, 1),
        ],
        &[session(5, None)],
    ]);
    let Shown { image, queues, .. } = home.image();
    assert!(queues.is_empty() && image.sessions[0].subscriptions.is_empty());
    assert!(image.damage.is_empty(), "{:?}", image.damage);
}

fn bodies_of_any_size_are_kept_whole(home: &Home) {
    let sizes = [0, 1, 4_000, 4_046, 4_087, 4_096, 8_178, 8_179, 65_536, 1_000_000];
    let puts = (1..).zip(sizes).flat_map(|(n, size)| {
        [
            message(n, size),
            StoreOp::PutRetained(MessageId(n)),
            queued(1, n, n),
        ]
    });
    let puts: Vec<StoreOp> = std::iter::once(session(1, None)).chain(puts).collect();
    home.commit(&[&puts]);
    let Shown { image, queues, .. } = home.image();
    for ((n, size), (_, retained)) in (1..).zip(sizes).zip(&image.retained) {
        assert_eq!(*retained, stored(message(n, size)));
    }
    assert_eq!((image.retained.len(), queues.len()), (10, 10));
    assert!(
        queues
            .values()
            .all(|(_, body)| image.retained.iter().any(|(_, r)| r == body))
    );
    assert!(image.damage.is_empty(), "{:?}", image.damage);
}

fn a_body_that_shrinks_leaves_nothing(home: &Home) {
    home.commit(&[
        &[session(2, Some(60_000))],
        &[session(2, Some(9_000))],
        &[session(2, None)],
    ]);
    assert!(home.image().image.sessions[0].record.will.is_none());
    assert!(
        home.image().image.damage.is_empty(),
        "{:?}",
        home.image().image.damage
    );
}

fn the_longest_filters_are_kept(home: &Home) {
    let long = |last: &str| format!("{}{last}", "x".repeat(65_534));
    home.commit(&[
        &[
            session(1, None),
            subscribe(1, &long("a"), Qos::AtMostOnce),
            subscribe(1, &long("b"), Qos::AtMostOnce),
        ],
        &[StoreOp::DeleteSubscription(SessionId(1), long("a"))],
    ]);
    assert_eq!(
        home.image().image.sessions[0].subscriptions,
        [subscription(&long("b"), Qos::AtMostOnce)]
    );
}

/// A message that a thousand sessions wait for is written once.
#[test]
fn a_body_is_stored_once_for_a_thousand_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let settings = headgate_store::DiskSettings::default();
    let mut store = headgate_store::DiskStore::open(folder.path().join("store"), settings).unwrap();
    headgate_model::Store::load(&mut store).unwrap();
    let sessions: Vec<StoreOp> = (1..=1_000).map(|n| session(n, None)).collect();
    headgate_model::Store::commit(&mut store, &sessions).unwrap();
    let before = headgate_model::Store::stats(&store).journal_bytes;
    let entries = (1..=1_000).map(|n| queued(n, 1, 1));
    let ops: Vec<StoreOp> = std::iter::once(message(1, 50_000)).chain(entries).collect();
    headgate_model::Store::commit(&mut store, &ops).unwrap();
    let stats = headgate_model::Store::stats(&store);
    assert_eq!(stats.queued, 1_000);
    let written = stats.journal_bytes - before;
    assert!(written < 50_000 + 1_000 * 30, "{written}");
}
