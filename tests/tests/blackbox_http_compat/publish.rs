//! `POST /api/v1/publish`, and what holds for all that is published over HTTP.

use crate::bench::{Bench, PASSWORD, setup, setup_with};
use headgate_mqtt_codec::{Packet, Qos};
use headgate_tests::blackbox::{Message, Peer, Transport};
use serde_json::json;

/// It says how many want the message, and all that MQTT 5 can say of one goes with it. MQTT 5 §3.3.2.3
#[test]
fn a_message_goes_out_with_all_its_properties() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let mut peer = bench.subscriber("hall", "plant/#");
    let _second = bench.subscriber("gate", "plant/7/+");
    let message = json!({
        "topic": "plant/7/valve",
        "payload_base64": "AAH/",
        "qos": 1,
        "expiry_seconds": 60,
        "content_type": "application/octet-stream",
        "response_topic": "plant/7/answer",
        "correlation_data_base64": "/w==",
        "user_properties": [["line", "7"], ["line", "8"]],
    });
    let answer = bench.key("operator").post("/api/v1/publish", &message);
    assert_eq!(answer.told_json(), (200, json!({ "receivers": 2 })));
    let Packet::Publish(publish) = peer.recv().unwrap() else {
        panic!("it is a PUBLISH")
    };
    let properties = publish.properties.unwrap();
    assert_eq!(
        (publish.topic.as_str(), publish.qos),
        ("plant/7/valve", Qos::AtLeastOnce)
    );
    assert_eq!(publish.payload[..], [0, 1, 255]);
    assert!(
        properties
            .message_expiry
            .is_some_and(|left| (50..=60).contains(&left))
    );
    assert_eq!(
        properties.content_type.as_ref().unwrap().as_str(),
        "application/octet-stream"
    );
    assert_eq!(
        properties.response_topic.as_ref().unwrap().as_str(),
        "plant/7/answer"
    );
    assert_eq!(properties.correlation_data.as_ref().unwrap()[..], [255]);
    let pairs: Vec<_> = properties
        .user_properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(pairs, [("line", "7"), ("line", "8")]);

    let nobody = json!({ "topic": "nobody/listens" });
    let answer = bench.socket.post("/api/v1/publish", &nobody);
    assert_eq!(answer.told_json(), (200, json!({ "receivers": 0 })));
    let delayed = json!({ "topic": "$delayed/1/plant/7/later", "payload": "later" });
    assert_eq!(bench.socket.post("/api/v1/publish", &delayed).status, 200);
    peer.ack(
        headgate_mqtt_codec::AckKind::PubAck,
        publish.packet_id.unwrap().get(),
    )
    .unwrap();
    assert_eq!(peer.hear(), Message::new("plant/7/later", 0, "later"));
}

/// The rules of the gateway hold for operators, whose user name is theirs; an administrator passes, but not below `$SYS/`.
#[test]
fn rules_hold_and_the_one_that_denies_is_told() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let key = bench.key("operator");
    let secret = json!({ "topic": "secret/1", "payload": "x" });
    let denied = key.post("/api/v1/publish", &secret);
    let told = "`secret/1` may not be published: auth.acl[0]";
    assert_eq!(denied.told_json(), (403, json!({ "error": told })));
    let mut peer = bench.subscriber("hall", "#");
    assert_eq!(
        bench.key("administrator").post("/api/v1/publish", &secret).status,
        200
    );
    assert_eq!(peer.hear(), Message::new("secret/1", 0, "x"));

    let viewer = bench.key("viewer").post("/api/v1/publish", &secret);
    assert_eq!(viewer.status, 403);
    for (topic, why) in [
        (
            "$SYS/x",
            "`$SYS/x` may not be published: topics under $SYS are the gateway's",
        ),
        ("a/+", "`a/+` is not a topic name: "),
        ("", "`` is not a topic name: "),
    ] {
        let wrong = bench.socket.post("/api/v1/publish", &json!({ "topic": topic }));
        let error = wrong.json()["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with(why), "{error}");
    }
    let both = json!({ "topic": "t", "payload": "", "payload_base64": "" });
    assert_eq!(bench.socket.post("/api/v1/publish", &both).status, 422);
    let qos = bench
        .socket
        .post("/api/v1/publish", &json!({ "topic": "t", "qos": 3 }));
    let told = json!({ "error": "QoS 3 is out of range, allowed is 0 to 2" });
    assert_eq!(qos.told_json(), (422, told));
    let log = setup.log_with(&["publish refused"]);
    assert!(log.contains("auth.acl[0]"), "{log}");
    let published = bench.last_change();
    assert!(
        !published["request"].as_str().unwrap().contains("publish"),
        "it is no change"
    );
}

/// The rate is that of a user (`[limits]`); whoever is faster is told so, and nothing of it is published.
#[test]
fn who_publishes_too_fast_is_told_so() {
    let setup = setup_with("[limits]\nmax_user_packets_per_second = 1\nuser_burst_packets = 2\n");
    let bench = Bench::start(&setup);
    let key = bench.key("operator");
    let message = json!({ "topic": "t" });
    let codes: Vec<u16> = (0..6)
        .map(|_| key.post("/api/v1/publish", &message).status)
        .collect();
    assert_eq!(codes[..2], [200, 200]);
    assert!(codes.contains(&429), "{codes:?}");
    let other = bench.key("administrator").post("/api/v1/publish", &message);
    assert_eq!(other.status, 200, "each has a rate of his own");
}

/// An answer over HTTP is a promise as PUBACK is one: what was answered is there after the process was killed.
#[test]
fn what_was_answered_survives_a_kill() {
    let setup = setup();
    let bench = Bench::start(&setup);
    let (mut peer, _) = durable(&bench);
    peer.subscribe("plant/#", Qos::AtLeastOnce).unwrap();
    peer.vanish();
    let key = bench.key("operator");
    for n in 0..20 {
        let message = json!({ "topic": format!("plant/{n}"), "payload": "x", "qos": 1, "retain": true });
        assert_eq!(key.post("/api/v1/publish", &message).status, 200);
    }
    let bench = Bench::of(bench.daemon.restart());
    let (mut peer, present) = durable(&bench);
    assert!(present);
    let heard: Vec<String> = (0..20).map(|_| peer.hear().topic).collect();
    let sent: Vec<String> = (0..20).map(|n| format!("plant/{n}")).collect();
    assert_eq!(heard, sent);
    let retained = bench.socket.get("/api/v1/retained?filter=plant/%23").json();
    assert_eq!(retained["rows"].as_array().unwrap().len(), 20);
}

fn durable(bench: &Bench<'_>) -> (Peer, bool) {
    let port = bench.daemon.port(Transport::Tcp);
    Peer::connect_durably(port, "hall", "device", PASSWORD).unwrap()
}
