//! Topic aliases both ways. MQTT 5 §3.3.2.3.4

use headgate_mqtt_codec::{Connect, Publish, ReasonCode};
use headgate_tests::*;
use std::num::NonZeroU16;

fn aliased(topic: &str, alias: u16, payload: &str) -> Publish {
    publish(topic, payload).with(|p| p.topic_alias = NonZeroU16::new(alias))
}

fn with_maximum(maximum: u16) -> (Gateway, Client) {
    let gw = Gateway::with(|s| s.mqtt.topic_alias_maximum = maximum);
    let client = gw.client(V5, "c");
    (gw, client)
}

fn takes_aliases(maximum: Option<u16>) -> Connect {
    connect(V5, "c")
        .durable()
        .with(|p| p.topic_alias_maximum = maximum)
}

/// [MQTT-3.3.2-12] Every alias up to the maximum, the maximum itself included, and each can be given another topic.
#[test]
fn topic_alias_maps_and_remaps() {
    let (gw, mut client) = with_maximum(10);
    let told = client.told().topic_alias_maximum;
    assert_eq!(told, Some(10));
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("#", AtMostOnce);
    for alias in 1..=10 {
        client.send(aliased(&format!("t/{alias}"), alias, "set"));
        client.send(aliased("", alias, "used"));
        assert_eq!(
            watcher.heard(),
            [format!("t/{alias}=set"), format!("t/{alias}=used")]
        );
    }
    client.send(aliased("other", 1, "set anew"));
    client.send(aliased("", 1, "used"));
    client.send(aliased("", 10, "used"));
    assert_eq!(watcher.heard(), ["other=set anew", "other=used", "t/10=used"]);
}

/// [MQTT-3.3.2-7] An alias lives as long as its connection, not as its session.
#[test]
fn alias_of_an_earlier_connection_is_unknown() {
    let gw = Gateway::default();
    let mut client = gw.open(connect(V5, "c").durable());
    client.send(aliased("t", 1, ""));
    client.lose();
    let mut client = gw.open(connect(V5, "c").durable());
    assert!(client.session_present());
    client.send(aliased("", 1, ""));
    client.assert_refused(ReasonCode::ProtocolError);
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18] [MQTT-4.7.3-1]
/// Zero, more than the maximum, or any when there is no maximum: 0x94. An alias that was never set, or no topic at all: 0x82.
#[test]
fn topic_alias_out_of_range_is_refused() {
    let refused = |maximum, message: Publish, reason| {
        let (_gw, mut client) = with_maximum(maximum);
        client.send(message);
        client.assert_refused(reason);
    };
    refused(10, aliased("t", 11, ""), ReasonCode::TopicAliasInvalid);
    refused(10, aliased("", 11, ""), ReasonCode::TopicAliasInvalid);
    refused(10, aliased("t", u16::MAX, ""), ReasonCode::TopicAliasInvalid);
    refused(0, aliased("t", 1, ""), ReasonCode::TopicAliasInvalid);
    refused(10, aliased("", 10, ""), ReasonCode::ProtocolError);
    refused(10, publish("", ""), ReasonCode::ProtocolError);
    let (_gw, mut client) = with_maximum(10);
    client.send_bytes(&[0x30, 7, 0, 1, b't', 3, 0x23, 0, 0]);
    client.assert_refused(ReasonCode::TopicAliasInvalid);
    let (_gw, client) = with_maximum(0);
    assert_eq!(client.told().topic_alias_maximum, None);
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11] [MQTT-3.3.2-7] [MQTT-3.3.2-8]
/// Our aliases stay within what the client allows; the first use names the topic, also after a reconnect.
#[test]
fn outgoing_topic_alias_stays_within_the_clients_limit() {
    for (maximum, expected) in [(None, 0), (Some(0), 0), (Some(2), 2), (Some(u16::MAX), 3)] {
        let gw = Gateway::default();
        let mut client = gw.open(takes_aliases(maximum));
        client.subscribe("t/+", AtMostOnce);
        let mut publisher = gw.client(V5, "p");
        for _ in 0..2 {
            for topic in ["t/1", "t/2", "t/3"] {
                publisher.say(topic, topic);
            }
        }
        check(&client.messages(), expected);
        client.lose();
        let mut client = gw.open(takes_aliases(maximum));
        publisher.say("t/3", "t/3");
        publisher.say("t/3", "t/3");
        check(&client.messages(), expected.min(1));
    }
}

/// Each message is for the topic that its payload names, directly or by an alias that was set before; `expected` aliases are in use.
fn check(messages: &[Publish], expected: usize) {
    let mut aliases = std::collections::BTreeMap::new();
    for message in messages {
        let named = message.topic.as_str();
        let payload = std::str::from_utf8(&message.payload).unwrap();
        match message.props().topic_alias {
            None => assert_eq!(named, payload),
            Some(alias) if named.is_empty() => assert_eq!(aliases[&alias.get()], payload),
            Some(alias) => {
                assert_eq!(named, payload);
                aliases.insert(alias.get(), payload.to_owned());
            }
        }
    }
    assert_eq!(aliases.len(), expected);
    assert!(aliases.keys().all(|alias| usize::from(*alias) <= expected));
}

/// The operator limits the aliases that we keep for a client.
#[test]
fn outgoing_topic_aliases_can_be_switched_off() {
    let gw = Gateway::with(|s| s.mqtt.outbound_topic_alias_maximum = 0);
    let mut client = gw.open(takes_aliases(Some(10)));
    client.subscribe("t", AtMostOnce);
    gw.client(V5, "p").say("t", "t");
    assert_eq!(client.messages()[0].properties, None);
}

/// What is queued and sent again names its topic as the new connection knows it.
#[test]
fn redelivery_does_not_use_an_old_alias() {
    let gw = Gateway::default();
    let mut client = gw.open(takes_aliases(Some(5)));
    client.subscribe("t", AtLeastOnce);
    let mut publisher = gw.client(V5, "p");
    publisher.deliver(publish("t", "1"), AtLeastOnce);
    publisher.deliver(publish("t", "2"), AtLeastOnce);
    let sent = client.messages();
    assert_eq!((sent[0].topic.as_str(), sent[1].topic.as_str()), ("t", ""));
    client.lose();
    let mut client = gw.open(takes_aliases(None));
    let again = client.messages();
    assert!(
        again
            .iter()
            .all(|m| m.dup && m.topic.as_str() == "t" && m.properties.is_none())
    );
}

/// An alias stands for the topic with its mount point, once.
#[test]
fn aliases_and_mount_point() {
    let gw = Gateway::with(|s| s.mount = headgate_model::MountPoint::parse("site/").unwrap());
    let mut client = gw.open(takes_aliases(Some(5)));
    client.subscribe("t", AtMostOnce);
    client.send(aliased("t", 1, "t"));
    client.send(aliased("", 1, "t"));
    check(&client.messages(), 1);
}
