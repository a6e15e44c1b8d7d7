//! The real gateway with clients that are not ours: every version over every transport, at every QoS, both ways.

use headgate_mqtt_codec::Version;
use headgate_tests::blackbox::{Daemon, Job, Message, Setup, Tool, Transport, lossless};
use headgate_tests::{ALL, V5, V311};

fn exchange(daemon: &Daemon<'_>, publisher: Tool, listener: Tool, transport: Transport, version: Version) {
    let topic = format!(
        "exchange/{publisher:?}/{listener:?}/{}/{version}",
        transport.name()
    );
    let mut listening = listener.listen(daemon, &Job::new(transport, version), &[&format!("{topic}/#")]);
    let messages: Vec<Message> = (0..=2)
        .map(|qos| Message::new(&format!("{topic}/{qos}"), qos, &format!("Grüße at QoS {qos}")))
        .collect();
    publisher.publish(daemon, &Job::new(transport, version), &messages);
    let mut received = listening.take(3);
    // Between different QoS there is no order. MQTT 5 §4.6
    received.sort();
    assert_eq!(
        received, messages,
        "{publisher:?} to {listener:?}, {transport:?}, {version}"
    );
}

/// The tool with itself on every transport it can, so that it publishes and receives each QoS.
fn exchange_everything(tool: Tool) {
    let setup = Setup::new();
    let daemon = setup.start();
    for transport in Transport::ALL
        .into_iter()
        .filter(|transport| tool.can(*transport))
    {
        for version in ALL {
            exchange(&daemon, tool, tool, transport, version);
        }
    }
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

#[test]
fn mosquitto_exchanges_messages() {
    exchange_everything(Tool::Mosquitto);
}

#[test]
fn paho_exchanges_messages() {
    exchange_everything(Tool::Paho);
}

#[test]
fn mqttjs_exchanges_messages() {
    exchange_everything(Tool::MqttJs);
}

#[test]
fn our_commands_exchange_messages() {
    exchange_everything(Tool::Headgate);
}

/// Versions and transports meet on the bus.
#[test]
fn different_clients_exchange_messages() {
    let setup = Setup::new();
    let daemon = setup.start();
    let tools = [Tool::Mosquitto, Tool::Paho, Tool::MqttJs, Tool::Headgate];
    for publisher in tools {
        for listener in tools.into_iter().filter(|listener| *listener != publisher) {
            exchange(&daemon, publisher, listener, Transport::Tcp, V5);
        }
    }
    let mut old = Tool::Mosquitto.listen(&daemon, &Job::new(Transport::Tls, ALL[0]), &["mixed"]);
    let message = Message::new("mixed", 2, "from 5 over wss to 3.1 over TLS");
    Tool::Paho.publish(
        &daemon,
        &Job::new(Transport::Wss, V5),
        std::slice::from_ref(&message),
    );
    assert_eq!(old.recv(), message);
}

const FOREIGN: [Tool; 3] = [Tool::Mosquitto, Tool::Paho, Tool::MqttJs];

#[test]
fn retained_messages_are_kept_and_removed() {
    let setup = Setup::new();
    let mut daemon = setup.start();
    for (tool, version) in FOREIGN.into_iter().zip(ALL) {
        let topic = format!("retained/{tool:?}");
        let message = Message {
            retain: true,
            ..Message::new(&topic, 1, "kept")
        };
        tool.publish(
            &daemon,
            &Job::new(Transport::Tcp, version),
            std::slice::from_ref(&message),
        );
        // Also over a restart.
        daemon.kill();
        daemon = setup.start();
        let mut listening = tool.listen(&daemon, &Job::new(Transport::Tcp, version), &[&topic]);
        assert_eq!(listening.recv(), message);
        drop(listening);
        let empty = Message {
            retain: true,
            ..Message::new(&topic, 1, "")
        };
        tool.publish(&daemon, &Job::new(Transport::Tcp, version), &[empty]);
        let mut listening = tool.listen(&daemon, &Job::new(Transport::Tcp, version), &[&topic]);
        let last = Message::new(&topic, 0, "the first to come");
        tool.publish(
            &daemon,
            &Job::new(Transport::Tcp, version),
            std::slice::from_ref(&last),
        );
        assert_eq!(listening.recv(), last, "{tool:?}");
    }
}

#[test]
fn a_will_is_published_when_a_client_is_lost() {
    let setup = Setup::new();
    let daemon = setup.start();
    for tool in FOREIGN {
        for version in ALL {
            let topic = format!("will/{tool:?}/{version}");
            let will = Message::new(&topic, 1, "lost");
            let mut watching = tool.listen(&daemon, &Job::new(Transport::Tcp, version), &[&topic]);
            let job = Job {
                will: Some(will.clone()),
                ..Job::new(Transport::Tcp, version)
            };
            tool.listen(&daemon, &job, &["something/else"]).kill();
            assert_eq!(watching.recv(), will, "{tool:?} {version}");
        }
    }
}

/// The client is away while messages come, and while the gateway stops or is killed and starts again.
#[test]
fn a_session_outlives_the_gateway() {
    let setup = Setup::new();
    let mut daemon = setup.start();
    for tool in FOREIGN {
        for version in ALL {
            let name = format!("s{tool:?}{version}");
            let job = Job::new(Transport::Tcp, version).durable(&name);
            tool.listen(&daemon, &job, &[&name]).kill();
            let before = [Message::new(&name, 1, "one"), Message::new(&name, 2, "two")];
            tool.publish(&daemon, &Job::new(Transport::Tcp, version), &before);
            daemon.kill();
            daemon = setup.start();
            tool.publish(
                &daemon,
                &Job::new(Transport::Tcp, version),
                &[Message::new(&name, 2, "three")],
            );
            daemon.stop();
            daemon = setup.start();
            let mut back = tool.listen(&daemon, &job, &[&name]);
            let last = Message::new(&name, 2, "last");
            tool.publish(&daemon, &Job::new(Transport::Tcp, version), &[last]);
            let received = back.until("last");
            assert_eq!(lossless(&received), ["one", "three", "two"], "{tool:?} {version}");
        }
    }
}

#[test]
fn a_shared_subscription_gives_each_message_to_one() {
    let setup = Setup::new();
    let daemon = setup.start();
    for tool in FOREIGN {
        for version in [V311, V5] {
            let topic = format!("shared/{tool:?}/{version}");
            let filter = format!("$share/group/{topic}");
            let job = || Job::new(Transport::Tcp, version);
            let mut members =
                [1, 2].map(|_| tool.listen(&daemon, &job(), &[&filter, &format!("{topic}/end")]));
            let messages: Vec<Message> = (0..20)
                .map(|n| Message::new(&topic, 1, &format!("{n:02}")))
                .collect();
            Tool::Paho.publish(&daemon, &job(), &messages);
            Tool::Paho.publish(
                &daemon,
                &job(),
                &[Message::new(&format!("{topic}/end"), 1, "end")],
            );
            let received = members.each_mut().map(|member| member.until("end"));
            let all = received.concat();
            assert_eq!(lossless(&all), lossless(&messages), "{tool:?} {version}");
            assert!(received.iter().all(|part| !part.is_empty()), "nobody is left out");
        }
    }
}
