//! How fast the clients of one user may send together: what is too much is refused by the protocol's own word, or dropped. MQTT-SN 1.2 §5.3.10, §5.4.13

mod bench;

use bench::*;
use headgate_model::access::Wanted;
use headgate_model::{DatagramServer, Instant, UserLimit, UserRates};
use headgate_mqttsn::SnMetric;
use headgate_mqttsn_codec::{Message, Qos, ReturnCode, TopicRef, Unsubscribe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LIMIT: &str = "limits.max_user_packets_per_second";
const CONGESTED: ReturnCode = ReturnCode::Congestion;

/// A user with room for so many datagrams; those that are taken at any rate are counted.
#[derive(Debug, Default)]
struct Room {
    left: AtomicUsize,
    took: AtomicUsize,
    bytes: AtomicUsize,
}

impl UserRates for Room {
    fn admits(&self, user: &Arc<str>, bytes: usize, _: Instant) -> Result<(), UserLimit> {
        assert_eq!(&**user, "plant");
        let admits = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok();
        if admits {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        admits.then_some(()).ok_or(UserLimit::Packets)
    }

    fn took(&self, _: &Arc<str>, _: usize, _: Instant) {
        self.took.fetch_add(1, Ordering::Relaxed);
    }
}

fn with_room() -> (Bench, Arc<Room>) {
    let mut sn = Bench::with(|settings| settings.qos_minus_one.enabled = true);
    let room = Arc::<Room>::default();
    sn.gateway.set_user_rates(Arc::clone(&room) as Arc<dyn UserRates>);
    sn.user = Some("plant".into());
    (sn, room)
}

/// §5.3.10: 0x01, "rejected: congestion", whatever has an answer that can say so; what has none is dropped.
#[test]
fn who_is_too_fast_is_told_of_congestion() {
    let (mut sn, room) = with_room();
    sn.watch("t/#");
    sn.connected(DEVICE, "device");
    room.left.store(1, Ordering::Relaxed);
    let id = sn.registered(DEVICE, "t/a");
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let answer = puback(id, 7, CONGESTED);
        sn.exchange(DEVICE, publish_to(id, qos, 7, "x"), &[answer]);
    }
    sn.exchange(DEVICE, register("t/b", 8), &[regack(0, 8, CONGESTED)]);
    let refused = suback(Qos::AtMostOnce, 0, 9, CONGESTED);
    sn.exchange(DEVICE, subscribe("t/b", Qos::AtLeastOnce, 9), &[refused]);
    let update = Message::WillMsgUpd("x".into());
    sn.exchange(DEVICE, update, &[Message::WillMsgResp(CONGESTED)]);
    let update = Message::WillTopicUpd(None);
    sn.exchange(DEVICE, update, &[Message::WillTopicResp(CONGESTED)]);
    let Message::Subscribe(same) = subscribe("t/b", Qos::AtMostOnce, 10) else {
        unreachable!()
    };
    let unsubscribe = Message::Unsubscribe(Unsubscribe {
        msg_id: 10,
        topic: same.topic,
    });
    for unanswered in [unsubscribe, publish_to(id, Qos::AtMostOnce, 0, "x")] {
        sn.exchange(DEVICE, unanswered, &[]);
    }
    assert_eq!((sn.watched().len(), sn.counted(SnMetric::UserTooFast)), (0, 8));
    let told = std::mem::take(&mut sn.denied);
    assert_eq!(told.len(), 8);
    for denial in told {
        assert_eq!((denial.client.as_str(), &*denial.why), ("device", LIMIT));
        assert_eq!(denial.who.username.as_deref(), Some("plant"));
        assert_eq!((denial.wanted, denial.disconnects), (Wanted::Send, false));
    }
    // It may go on as soon as there is room, under the same id.
    room.left.store(1, Ordering::Relaxed);
    sn.send(DEVICE, dup(publish_to(id, Qos::ExactlyOnce, 7, "x")));
    sn.commit();
    assert_eq!(sn.sent(DEVICE), [Message::PubRec(7)]);
    assert_eq!(sn.watched(), ["t/a=x"]);
}

/// PINGREQ, answers and DISCONNECT are taken at any rate: others of the user stay connected, and what was begun ends.
#[test]
fn what_ends_a_flow_is_taken_at_any_rate() {
    let (mut sn, room) = with_room();
    sn.connected(DEVICE, "device");
    room.left.store(2, Ordering::Relaxed);
    let id = sn.registered(DEVICE, "t/a");
    sn.send(DEVICE, publish_to(id, Qos::ExactlyOnce, 1, "x"));
    sn.commit();
    assert_eq!(sn.sent(DEVICE), [Message::PubRec(1)]);
    sn.send(DEVICE, Message::PubRel(1));
    sn.commit();
    assert_eq!(sn.sent(DEVICE), [Message::PubComp(1)]);
    sn.exchange(DEVICE, Message::PingReq(None), &[Message::PingResp]);
    sn.exchange(DEVICE, Message::Disconnect(None), &[Message::Disconnect(None)]);
    assert_eq!(room.took.load(Ordering::Relaxed), 3);
    assert_eq!(sn.counted(SnMetric::UserTooFast), 0);
}

/// The first copy is on its way to the disk, and its answer will be the answer to both: a refusal of the second would have the client think that neither was taken.
#[test]
fn a_copy_of_what_is_under_way_is_not_refused() {
    let (mut sn, room) = with_room();
    sn.watch("t/#");
    sn.connected(DEVICE, "device");
    room.left.store(2, Ordering::Relaxed);
    let id = sn.registered(DEVICE, "t/a");
    sn.withheld = true;
    sn.exchange(DEVICE, publish_to(id, Qos::ExactlyOnce, 1, "x"), &[]);
    sn.exchange(DEVICE, dup(publish_to(id, Qos::ExactlyOnce, 1, "x")), &[]);
    sn.withheld = false;
    sn.commit();
    assert_eq!(sn.sent(DEVICE), [Message::PubRec(1)]);
}

/// §6.8: QoS −1 goes by a user too, and nobody is told. Who has no user has no rate of one.
#[test]
fn qos_minus_one_counts_for_its_user() {
    let (mut sn, room) = with_room();
    sn.watch("ab");
    let blind = || Message::Publish(publish(TopicRef::Short(*b"ab"), Qos::NoConnection, 0, "x"));
    // With the first one it becomes known by which name they go.
    room.left.store(1, Ordering::Relaxed);
    for _ in 0..3 {
        sn.exchange(DEVICE, blind(), &[]);
    }
    assert_eq!((sn.watched().len(), sn.counted(SnMetric::UserTooFast)), (2, 1));
    assert_eq!(room.bytes.load(Ordering::Relaxed), 8);
    let told = sn.denied.pop().expect("it is told");
    assert_eq!((&*told.why, told.who.username.as_deref()), (LIMIT, Some("plant")));
    sn.user = None;
    sn.connected(OTHER, "other");
    let id = sn.registered(OTHER, "ab");
    sn.exchange(OTHER, publish_to(id, Qos::AtMostOnce, 0, "x"), &[]);
    assert_eq!((sn.watched().len(), sn.counted(SnMetric::UserTooFast)), (1, 1));
}
