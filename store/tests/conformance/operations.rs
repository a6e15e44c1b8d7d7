//! Every operation, on both stores.

use crate::bench::{Home, message, queued, session, sorted, subscribe, subscription};
use headgate_model::store::{MessageId, StoredMessage};
use headgate_model::{Qos, SessionId, StoreImage, StoreOp, WallTime};

macro_rules! on_both {
    ($($(#[$doc:meta])* $name:ident)+) => {
        mod sim { $($(#[$doc])* #[test] fn $name() { super::$name(&super::Home::sim()); })+ }
        mod sled { $($(#[$doc])* #[test] fn $name() { super::$name(&super::Home::sled()); })+ }
    };
}

on_both! {
    a_new_store_is_empty
    every_put_is_there_after_a_reopen
    every_delete_is_gone_after_a_reopen
    a_session_takes_everything_with_it
    a_later_operation_of_a_commit_wins
    nothing_is_kept_for_a_session_that_does_not_exist
    bodies_of_any_size_are_kept_whole
    a_body_that_shrinks_leaves_nothing
    the_longest_filters_are_kept
}

fn a_new_store_is_empty(home: &Home) {
    assert_eq!(home.image(), StoreImage::default());
    home.commit(&[&[]]);
    assert_eq!(home.image(), StoreImage::default());
}

fn everything() -> Vec<StoreOp> {
    vec![
        message(1, 10),
        message(2, 0),
        message(3, 5),
        session(7, Some(20)),
        session(8, None),
        subscribe(7, "a/+", Qos::AtMostOnce),
        subscribe(7, "$local/$queue/a/#", Qos::AtLeastOnce),
        subscribe(8, "$share/g/a/#", Qos::ExactlyOnce),
        subscribe(8, "$exclusive/b", Qos::ExactlyOnce),
        queued(7, 1, 1),
        queued(7, 2, 2),
        queued(8, 1, 1),
        StoreOp::PutReceived(SessionId(7), 1),
        StoreOp::PutReceived(SessionId(7), 65_535),
        StoreOp::PutRetained(MessageId(2)),
        StoreOp::PutDelayed(MessageId(3), WallTime(99)),
    ]
}

fn every_put_is_there_after_a_reopen(home: &Home) {
    home.commit(&[&everything()]);
    let image = home.image();

    let stored: Vec<StoreOp> = (image.messages.iter().cloned())
        .map(|(id, message)| StoreOp::PutMessage(id, message))
        .collect();
    assert_eq!(stored, [message(1, 10), message(2, 0), message(3, 5)]);
    assert_eq!(image.retained, [MessageId(2)]);
    assert_eq!(image.delayed, [(MessageId(3), WallTime(99))]);
    assert!(image.damage.is_empty(), "{:?}", image.damage);
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
            subscription("a/+", Qos::AtMostOnce)
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
    let queue = |n: u64, session: &headgate_model::store::SessionImage| -> Vec<StoreOp> {
        let entries = session.queue.iter().cloned();
        entries
            .map(|(seq, entry)| StoreOp::PutQueued(SessionId(n), seq, entry))
            .collect()
    };
    assert_eq!(queue(7, seven), [queued(7, 1, 1), queued(7, 2, 2)]);
    assert_eq!(queue(8, eight), [queued(8, 1, 1)]);
}

fn every_delete_is_gone_after_a_reopen(home: &Home) {
    let deletes = [
        StoreOp::DeleteQueued(SessionId(7), 1),
        StoreOp::DeleteQueued(SessionId(7), 2),
        StoreOp::DeleteQueued(SessionId(8), 1),
        StoreOp::DeleteSubscription(SessionId(7), "a/+".into()),
        StoreOp::DeleteSubscription(SessionId(7), "$local/$queue/a/#".into()),
        StoreOp::DeleteReceived(SessionId(7), 1),
        StoreOp::DeleteReceived(SessionId(7), 65_535),
        StoreOp::DeleteRetained(MessageId(2)),
        StoreOp::DeleteDelayed(MessageId(3)),
        StoreOp::DeleteMessage(MessageId(1)),
        StoreOp::DeleteMessage(MessageId(2)),
        StoreOp::DeleteMessage(MessageId(3)),
    ];
    home.commit(&[&everything(), &deletes]);
    let image = home.image();
    assert!(image.messages.is_empty() && image.retained.is_empty() && image.delayed.is_empty());
    let seven = &image.sessions[0];
    assert!(seven.subscriptions.is_empty() && seven.queue.is_empty() && seven.received.is_empty());
    assert_eq!(image.sessions[1].subscriptions.len(), 2);
}

fn a_session_takes_everything_with_it(home: &Home) {
    let more = [
        queued(7, 3, 1),
        StoreOp::DeleteSession(SessionId(7)),
        session(7, None),
    ];
    home.commit(&[&everything(), &more]);
    let image = home.image();
    let seven = &image.sessions[0];
    assert_eq!(seven.id, SessionId(7));
    assert!(seven.record.will.is_none());
    assert!(seven.subscriptions.is_empty() && seven.queue.is_empty() && seven.received.is_empty());
    assert_eq!(
        image.sessions[1].queue.len(),
        1,
        "the other one keeps what it has"
    );
}

fn a_later_operation_of_a_commit_wins(home: &Home) {
    home.commit(&[
        &[session(1, None), message(1, 3), message(2, 3), queued(1, 1, 1)],
        &[
            StoreOp::DeleteQueued(SessionId(1), 1),
            queued(1, 1, 2),
            queued(1, 2, 2),
            StoreOp::DeleteQueued(SessionId(1), 2),
            message(3, 9),
            StoreOp::DeleteMessage(MessageId(3)),
            message(1, 5),
            StoreOp::DeleteMessage(MessageId(1)),
        ],
    ]);
    let image = home.image();
    let ids: Vec<MessageId> = image.messages.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [MessageId(2)]);
    let queue = &image.sessions[0].queue;
    assert_eq!(
        (queue.len(), queue[0].0, queue[0].1.message),
        (1, 1, MessageId(2))
    );
}

fn nothing_is_kept_for_a_session_that_does_not_exist(home: &Home) {
    home.commit(&[
        &[message(1, 1), queued(5, 1, 1), subscribe(5, "a", Qos::AtMostOnce)],
        &[
            session(5, None),
            StoreOp::DeleteSession(SessionId(5)),
            queued(5, 2, 1),
        ],
        &[session(5, None)],
    ]);
    let image = home.image();
    assert!(image.sessions[0].queue.is_empty() && image.sessions[0].subscriptions.is_empty());
    assert!(image.damage.is_empty(), "{:?}", image.damage);
}

fn bodies_of_any_size_are_kept_whole(home: &Home) {
    let sizes = [0, 1, 4_000, 4_046, 4_087, 4_096, 8_178, 8_179, 65_536, 1_000_000];
    let puts: Vec<StoreOp> = (1..).zip(sizes).map(|(n, size)| message(n, size)).collect();
    home.commit(&[&puts]);
    let image = home.image();
    let put = |(id, stored): &(MessageId, StoredMessage)| StoreOp::PutMessage(*id, stored.clone());
    assert!(image.messages.iter().map(put).eq(puts));
    assert!(image.damage.is_empty(), "{:?}", image.damage);
}

fn a_body_that_shrinks_leaves_nothing(home: &Home) {
    home.commit(&[
        &[session(2, Some(60_000))],
        &[session(2, Some(9_000))],
        &[session(2, None)],
    ]);
    assert!(home.image().sessions[0].record.will.is_none());
    assert!(home.image().damage.is_empty(), "{:?}", home.image().damage);
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
        home.image().sessions[0].subscriptions,
        [subscription(&long("b"), Qos::AtMostOnce)]
    );
}

/// What is loaded without a reopen is what was committed, too.
#[test]
fn a_second_load_reads_again() {
    let home = Home::sled();
    let mut store = home.open();
    assert_eq!(store.load().unwrap(), StoreImage::default());
    store.commit(&everything()).unwrap();
    let image = store.load().unwrap();
    drop(store);
    assert_eq!(sorted(image), home.image());
}
