//! Payloads are packed on the way out and unpacked on the way in, where a rule says so.

mod bench;

use bench::*;
use bytes::Bytes;
use headgate_bridge::{BridgeVersion, Compression, DropReason};
use headgate_model::{Message, Qos as BusQos, Topic};
use headgate_mqtt_codec::{Packet, Publish, Qos};

fn connected(version: BridgeVersion, how: Compression) -> Bench {
    let mut bench = Bench::with(version, &["a/# both 1 \"\" r/"], |settings| {
        settings.topics[0].compress = Some(how);
    });
    bench.watch("#");
    bench.connect(welcome());
    bench
}

fn sent_publish(bench: &mut Bench) -> Publish {
    let sent = bench.sent().into_iter();
    let mut published = sent.filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    });
    published.next().expect("a PUBLISH")
}

#[test]
fn what_goes_out_is_packed_and_says_so() {
    for (version, how, encoding) in [
        (V5, Compression::Zstd, Some("zstd")),
        (V5, Compression::Gzip, Some("gzip")),
        (V3, Compression::Gzip, None),
    ] {
        let mut bench = connected(version, how);
        let payload = Bytes::from(vec![b'7'; 1_000]);
        bench.deliver_message(Message {
            qos: BusQos::AtLeastOnce,
            ..Message::new(Topic::try_from("a/b").unwrap(), payload.clone())
        });
        let publish = sent_publish(&mut bench);
        assert!(publish.payload.len() < 100, "{}", publish.payload.len());
        assert_eq!(how.unpack(&publish.payload, 1_000), Some(payload));
        let pairs = publish.properties.map(|properties| properties.user_properties);
        let named = pairs
            .into_iter()
            .flatten()
            .find(|(name, _)| name.as_str() == "content-encoding");
        assert_eq!(named.as_ref().map(|(_, value)| value.as_str()), encoding);
    }
}

/// What does not become smaller goes as it is.
#[test]
fn a_short_payload_is_left_alone() {
    let mut bench = connected(V5, Compression::Zstd);
    bench.deliver("a/b", "short", BusQos::AtLeastOnce);
    assert_eq!(sent_publish(&mut bench).payload, "short");
}

#[test]
fn what_comes_in_packed_is_unpacked() {
    let mut bench = connected(V3, Compression::Gzip);
    bench.heard();
    let packed = Compression::Zstd.pack(&[b'x'; 200]).unwrap();
    bench.remote_sends(Packet::Publish(Publish {
        payload: packed,
        ..publish_at(Qos::AtLeastOnce, 1, "r/a/b", "")
    }));
    bench.remote_sends(Packet::Publish(publish_at(
        Qos::AtLeastOnce,
        2,
        "r/a/b",
        "as it is",
    )));
    let payloads: Vec<Bytes> = bench
        .watched()
        .into_iter()
        .map(|message| message.payload)
        .collect();
    assert_eq!(
        payloads,
        [Bytes::from(vec![b'x'; 200]), Bytes::from_static(b"as it is")]
    );
    assert_eq!(bench.words(), ["puback 1", "puback 2"]);
}

/// It is acknowledged, for it would be as damaged the next time, and counted.
#[test]
fn what_cannot_be_unpacked_is_dropped_and_counted() {
    let mut bench = connected(V3, Compression::Gzip);
    bench.heard();
    bench.remote_sends(Packet::Publish(Publish {
        payload: Bytes::from_static(&[0x1f, 0x8b, 8, 1, 2, 3]),
        ..publish_at(Qos::AtLeastOnce, 1, "r/a/b", "")
    }));
    assert_eq!(
        (bench.watched(), bench.words()),
        (vec![], vec!["puback 1".to_owned()])
    );
    assert_eq!(bench.status.dropped(DropReason::IncomingPayloadInvalid), 1);
}
