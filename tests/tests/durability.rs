//! What an acknowledgement waits for, and queues that are longer than memory. docs/durability.md

use headgate_bus::{DropReason, QueueFull, TopicPriority};
use headgate_mqtt_codec::{Packet, PacketType, ReasonCode};
use headgate_tests::*;
use std::time::Duration;

const NOTHING: [&str; 0] = [];

fn keeper(gw: &Gateway, id: &str) -> Client {
    gw.open(connect(V5, id).durable())
}

/// A durable session that is subscribed and away.
fn absent(gw: &Gateway, id: &str, filter: &str) {
    let mut client = keeper(gw, id);
    client.subscribe(filter, AtLeastOnce);
    client.leave();
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("a={n}")).collect()
}

/// [MQTT-4.3.2-4] The message is safe when its receiver has it: the publisher need not wait for the disk, and the disk never sees it.
#[test]
fn what_receivers_settle_is_acknowledged_and_never_written() {
    let gw = Gateway::default();
    let mut receivers = [keeper(&gw, "one"), keeper(&gw, "two")];
    for receiver in &mut receivers {
        receiver.subscribe("a", AtLeastOnce);
    }
    let mut publisher = gw.client(V5, "p");
    gw.withhold_commits();
    publisher.send(publish("a", "x").qos(AtLeastOnce, 1));
    let [one, two] = &mut receivers;
    assert_eq!(one.heard(), ["a=x"]);
    assert!(publisher.received().is_empty(), "one of two has it");
    assert_eq!(two.heard(), ["a=x"]);
    publisher.expect(PacketType::PubAck);
    assert_eq!(gw.pending_ops(), 0, "nothing is left to be written");
}

/// [MQTT-4.6.0-2] Acknowledgements come in the order of the publishes, though the second message is safe before the first.
#[test]
fn acknowledgements_keep_their_order() {
    let gw = Gateway::default();
    let mut receiver = keeper(&gw, "fast");
    receiver.subscribe("fast", AtLeastOnce);
    absent(&gw, "away", "slow");
    let mut publisher = gw.client(V5, "p");
    gw.withhold_commits();
    publisher.send(publish("slow", "1").qos(AtLeastOnce, 1));
    publisher.send(publish("fast", "2").qos(AtLeastOnce, 2));
    assert_eq!(receiver.heard(), ["fast=2"]);
    assert!(publisher.received().is_empty());
    gw.commit();
    let acks = publisher.received();
    let ids: Vec<u16> = acks.iter().map(number_of_ack).collect();
    assert_eq!(ids, [1, 2]);
}

/// Somebody who is away cannot settle: the acknowledgement waits for the disk, whoever else has the message already.
#[test]
fn one_session_that_is_away_makes_the_publisher_wait_for_the_disk() {
    let gw = Gateway::default();
    let mut receiver = keeper(&gw, "here");
    receiver.subscribe("a", AtLeastOnce);
    absent(&gw, "away", "a");
    let mut publisher = gw.client(V5, "p");
    gw.withhold_commits();
    publisher.send(publish("a", "x").qos(AtLeastOnce, 1));
    assert_eq!(receiver.heard(), ["a=x"]);
    assert!(publisher.received().is_empty());
    gw.commit();
    publisher.expect(PacketType::PubAck);
    gw.crash(Duration::ZERO);
    assert_eq!(keeper(&gw, "away").heard(), ["a=x"]);
    assert_eq!(
        keeper(&gw, "here").heard(),
        NOTHING,
        "it was settled before it was written"
    );
}

/// A retained message is promised to clients that are yet to come.
#[test]
fn a_retained_message_waits_for_the_disk() {
    let gw = Gateway::default();
    let mut receiver = keeper(&gw, "c");
    receiver.subscribe("a", AtLeastOnce);
    let mut publisher = gw.client(V5, "p");
    gw.withhold_commits();
    publisher.send(publish("a", "x").retain().qos(AtLeastOnce, 1));
    assert_eq!(receiver.heard(), ["a=x"]);
    assert!(publisher.received().is_empty());
    gw.commit();
    publisher.expect(PacketType::PubAck);
}

/// [MQTT-4.6.0-6] A queue of thousands comes back in order, also after a power cut, also when the client goes away in the middle of it.
#[test]
fn a_long_queue_is_read_from_the_store_in_order() {
    for cut in [false, true] {
        let gw = Gateway::with(|s| s.bus.max_queued_in_memory = 16);
        absent(&gw, "c", "a");
        let mut publisher = gw.client(V5, "p");
        for n in 0..3_000 {
            publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
        }
        if cut {
            gw.crash(Duration::ZERO);
        }
        assert_eq!(gw.stats().queued, 3_000);
        let mut client = keeper(&gw, "c");
        let first = client.messages();
        assert!(!first.is_empty());
        client.lose();
        assert_eq!(keeper(&gw, "c").heard(), numbers(0..3_000));
        assert_eq!((gw.stats().queued, gw.stored_messages()), (0, 0));
    }
}

/// A client that is connected and slow has a beginning of its queue in memory, and gets the rest in order, mixed with what is new.
#[test]
fn a_slow_client_catches_up_in_order() {
    let gw = Gateway::with(|s| s.bus.max_queued_in_memory = 8);
    let mut client = gw.open(connect(V5, "c").durable().with(|p| {
        p.receive_maximum = std::num::NonZeroU16::new(2);
    }));
    client.subscribe("a", AtLeastOnce);
    let mut publisher = gw.client(V5, "p");
    for n in 0..200 {
        publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
    }
    let mut heard = Vec::new();
    for n in 200..300 {
        let messages = client.messages();
        for message in messages {
            heard.push(message.brief());
            client.send(puback(message.number()));
        }
        publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
    }
    heard.extend(client.heard());
    assert_eq!(heard, numbers(0..300));
    assert_eq!(gw.stored_messages(), 0);
}

/// Priorities hold for what is in the store alone.
#[test]
fn urgent_messages_overtake_a_queue_in_the_store() {
    let gw = Gateway::with(|s| {
        s.bus.max_queued_in_memory = 4;
        s.bus.priorities = vec![TopicPriority {
            topic: "urgent".into(),
            priority: 9,
        }];
    });
    let mut client = keeper(&gw, "c");
    client.subscribe("a", AtLeastOnce);
    client.subscribe("urgent", AtLeastOnce);
    client.leave();
    let mut publisher = gw.client(V5, "p");
    for n in 0..20 {
        publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
    }
    for n in 0..20 {
        publisher.deliver(publish("urgent", &n.to_string()), AtLeastOnce);
    }
    let urgent: Vec<String> = (0..20).map(|n| format!("urgent={n}")).collect();
    let heard = keeper(&gw, "c").heard();
    assert_eq!(heard, [urgent, numbers(0..20)].concat());
}

/// The limits of a queue hold for what is in the store alone: the oldest gives way, and is counted.
#[test]
fn the_oldest_of_a_queue_in_the_store_gives_way() {
    for cut in [false, true] {
        let gw = Gateway::with(|s| s.bus.max_queued_messages = 10);
        absent(&gw, "c", "a");
        let mut publisher = gw.client(V5, "p");
        for n in 0..25 {
            assert_eq!(
                publisher.deliver(publish("a", &n.to_string()), AtLeastOnce),
                ReasonCode::Success
            );
        }
        assert_eq!(gw.stats().dropped[DropReason::QueueFull as usize], 15);
        if cut {
            gw.crash(Duration::ZERO);
        }
        assert_eq!(gw.stats().queued, 10);
        assert_eq!(keeper(&gw, "c").heard(), numbers(15..25));
        assert_eq!(gw.stored_messages(), 0);
    }
}

/// All queues together have a limit too. With `refuse` the publisher is told (0x97), and it is over when there is room again.
#[test]
fn all_queues_together_have_a_limit() {
    let gw = Gateway::with(|s| {
        s.bus.max_total_queued_bytes = 4_000;
        s.bus.when_full = QueueFull::Refuse;
    });
    absent(&gw, "one", "a");
    absent(&gw, "two", "a");
    let mut publisher = gw.client(V5, "p");
    let mut taken = 0;
    while publisher.deliver(publish("a", &taken.to_string()), AtLeastOnce) == ReasonCode::Success {
        taken += 1;
    }
    assert!((5..15).contains(&taken), "{taken} messages fit");
    let refused = publisher.deliver(publish("a", "x"), AtLeastOnce);
    assert_eq!(refused, ReasonCode::QuotaExceeded);
    assert_eq!(keeper(&gw, "one").heard(), numbers(0..taken));
    assert_eq!(keeper(&gw, "two").heard(), numbers(0..taken));
    let again = publisher.deliver(publish("a", "y"), AtLeastOnce);
    assert_eq!(again, ReasonCode::Success);
}

/// Retained messages have a limit in bytes: what does not fit is delivered, not retained, and counted.
#[test]
fn retained_messages_have_a_limit_in_bytes() {
    let gw = Gateway::with(|s| s.bus.retained.max_bytes = 1_000);
    let mut publisher = gw.client(V5, "p");
    let large = "x".repeat(600);
    publisher.deliver(publish("a", &large).retain(), AtLeastOnce);
    publisher.deliver(publish("b", &large).retain(), AtLeastOnce);
    publisher.deliver(publish("a", &large).retain(), AtLeastOnce);
    assert_eq!(gw.stats().retained, 1);
    assert_eq!(gw.stats().dropped[DropReason::NotRetained as usize], 1);
}

/// Each client may retain so much: another one may have more, what is replaced or taken back makes room, whoever comes back has what it had, also after a power cut.
#[test]
fn what_one_client_retains_has_a_limit() {
    let gw = Gateway::with(|s| s.bus.retained.max_count_per_client = 2);
    let retained = |gw: &Gateway| gw.stats().retained;
    let mut first = gw.open(connect(V5, "first").resume().expiry(60));
    for topic in ["a", "b", "c", "a"] {
        first.deliver(publish(topic, "x").retain(), AtLeastOnce);
    }
    assert_eq!(retained(&gw), 2);
    assert_eq!(gw.stats().dropped[DropReason::NotRetained as usize], 1);
    // It is another's now.
    let mut second = gw.client(V5, "second");
    second.deliver(publish("b", "y").retain(), AtLeastOnce);
    second.deliver(publish("d", "y").retain(), AtLeastOnce);
    first.deliver(publish("c", "x").retain(), AtLeastOnce);
    assert_eq!(retained(&gw), 4);
    first.deliver(publish("b", "x").retain(), AtLeastOnce);
    assert_eq!(gw.stats().dropped[DropReason::NotRetained as usize], 2);

    gw.crash(Duration::ZERO);
    let mut first = gw.open(connect(V5, "first").resume().expiry(60));
    first.deliver(publish("e", "x").retain(), AtLeastOnce);
    assert_eq!(retained(&gw), 4);
    first.deliver(publish("c", "").retain(), AtLeastOnce);
    first.deliver(publish("e", "x").retain(), AtLeastOnce);
    assert_eq!(retained(&gw), 4);
    let mut second = gw.client(V5, "second");
    for topic in ["f", "g", "h"] {
        second.deliver(publish(topic, "y").retain(), AtLeastOnce);
    }
    assert_eq!(
        retained(&gw),
        6,
        "its earlier session is gone, and what it retained by it counts for nobody"
    );
}

/// MQTT 5 §4.8.2: What waits for a member of a shared subscription, and is in the store alone, goes to the others when its session ends;
/// also when the power is cut in between.
#[test]
fn what_a_member_leaves_in_the_store_goes_to_the_others() {
    for cut in [false, true] {
        let gw = Gateway::default();
        let mut member = gw.open(connect(V5, "one").resume().expiry(60));
        member.subscribe("$share/g/a", AtLeastOnce);
        member.subscribe("own", AtLeastOnce);
        member.leave();
        let mut publisher = gw.client(V5, "p");
        for n in 0..600 {
            publisher.deliver(publish("a", &n.to_string()), AtLeastOnce);
        }
        publisher.deliver(publish("own", "x"), AtLeastOnce);
        absent(&gw, "two", "$share/g/a");
        if cut {
            gw.crash(Duration::ZERO);
        }
        gw.sleep(61);
        assert_eq!(gw.stored_sessions(), 1);
        assert_eq!(keeper(&gw, "two").heard(), numbers(0..600));
        assert_eq!(gw.stored_messages(), 0);
    }
}

fn number_of_ack(packet: &Packet) -> u16 {
    match packet {
        Packet::Ack(ack) => ack.packet_id.get(),
        other => panic!("not an acknowledgement: {other:?}"),
    }
}
