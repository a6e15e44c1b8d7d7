//! Rows tried by MQTT clients.

use crate::rules::{Door, of_the_table};
use crate::{Action, Detour, PLANT, Seen, mount, rewriting};
use headgate_mqtt_codec::{PacketType, Publish, Qos, ReasonCode, Version};
use headgate_tests::{
    AtLeastOnce, AtMostOnce, Client, ConnectExt, ExactlyOnce, Gateway, PublishExt, Settings, V5, WillExt,
    connect, publish, pubrel, will,
};
use std::num::NonZeroU16;

pub(crate) const QOS: [Qos; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// A gateway with these rules.
pub(crate) fn gateway(door: &Door) -> Gateway {
    gateway_with(door, |settings| {
        settings.mqtt.topic_alias_maximum = 10;
        settings.bus.store_qos0 = true;
    })
}

/// The same with settings.
pub(crate) fn gateway_with(door: &Door, change: impl FnOnce(&mut Settings)) -> Gateway {
    let gw = Gateway::with(change);
    let door = door.clone();
    gw.access(move |question| Some(door.answer(question)));
    gw
}

/// Publishes the plant.
pub(crate) fn work(plant: &mut Client, qos: Qos, retain: bool) {
    for topic in PLANT {
        let reason = plant.deliver(message(topic, retain), qos);
        assert!(!reason.is_error(), "the plant may do all");
    }
}

pub(crate) fn message(topic: &str, retain: bool) -> Publish {
    let message = publish(topic, "1");
    Publish { retain, ..message }
}

/// Publishes, whatever the answer is.
fn attempt(client: &mut Client, message: Publish, qos: Qos) {
    client.send(message.qos(qos, 7));
    if client
        .received()
        .iter()
        .any(|packet| packet.packet_type() == PacketType::PubRec)
    {
        client.send(pubrel(7));
        client.received();
    }
}

pub(crate) fn topics(client: &mut Client) -> Vec<String> {
    let messages = client.take().into_iter();
    messages
        .map(|message| message.topic.as_str().to_owned())
        .collect()
}

fn aliased(message: Publish) -> Publish {
    message.with(|p| p.topic_alias = NonZeroU16::new(1))
}

pub(crate) fn tries(version: Version, detour: Detour, action: Action) -> Seen {
    tries_by(&Door::with(of_the_table()), None, version, detour, action)
}

/// The same by other rules, and perhaps under a user name.
pub(crate) fn tries_by(
    door: &Door,
    user: Option<&str>,
    version: Version,
    detour: Detour,
    action: Action,
) -> Seen {
    let gw = gateway(door);
    let connect = |version, id: &str| {
        let packet = connect(version, id);
        match user {
            Some(user) => packet.login(user, "secret"),
            None => packet,
        }
    };
    let mut watcher = gw.client(V5, "watcher");
    for filter in ["#", "$SYS/#"] {
        assert_eq!(watcher.subscribe(filter, AtMostOnce), ReasonCode::Success);
    }
    let mut plant = gw.client(V5, "plant");
    gw.name_topics(mount(detour), rewriting(detour));
    let mut seen = Seen::default();
    match action {
        Action::Publish(topic) => {
            for (qos, retain) in QOS.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
                // A refusal may end the connection before MQTT 5.
                let mut client = gw.open(connect(version, "c"));
                if detour == Detour::Alias {
                    client.send(aliased(message(topic, false)));
                    gw.sleep(2);
                    topics(&mut watcher);
                    attempt(&mut client, aliased(message("", retain)), qos);
                } else {
                    attempt(&mut client, message(topic, retain), qos);
                }
                gw.sleep(2);
                seen.topics.extend(topics(&mut watcher));
            }
        }
        Action::Will(topic, payload) => {
            let will = will(topic, payload).qos(AtLeastOnce);
            let mut client = gw.connect(connect(version, "c").will(will));
            seen.refused = client.code() != Some(ReasonCode::Success);
            client.lose();
            gw.sleep(2);
            seen.topics = topics(&mut watcher);
        }
        Action::WillTopicUpd(_) | Action::WillMsgUpd(_) => unreachable!("there are none in MQTT"),
        Action::Read(filter) => {
            for qos in QOS {
                let mut client = gw.open(connect(version, "c"));
                seen.refused |= client.subscribe(filter, qos).is_error();
                work(&mut plant, qos, false);
                seen.topics.extend(topics(&mut client));
                client.leave();
            }
        }
        Action::ReadLater(filter) => {
            for qos in QOS {
                let mut client = gw.open(connect(version, "c").durable());
                seen.refused |= client.subscribe(filter, qos).is_error();
                client.leave();
                work(&mut plant, qos, false);
                let mut client = gw.open(connect(version, "c").durable());
                seen.topics.extend(topics(&mut client));
                client.unsubscribe(filter);
            }
        }
        Action::ReadRetained(filter) => {
            for qos in QOS {
                work(&mut plant, qos, true);
                let mut client = gw.open(connect(version, "c"));
                seen.refused |= client.subscribe(filter, qos).is_error();
                seen.topics.extend(topics(&mut client));
                client.leave();
            }
        }
    }
    seen
}
