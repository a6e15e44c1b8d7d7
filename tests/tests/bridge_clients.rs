//! Brokers that connect to the gateway as clients: how they are known, and what is different for them.

use headgate_model::access::DenyCode;
use headgate_model::{AccessDecision, Action};
use headgate_mqtt_codec::{Connect, ReasonCode, SubscribeOptions};
use headgate_tests::*;

/// MQTT 5 has no bridge bit: a user property of CONNECT says it.
fn bridge_of_version_5(client_id: &str) -> Connect {
    let hello = connect(V5, client_id).durable();
    hello.with(|p| p.user_properties = vec![(text("headgate-bridge"), text("node-b"))])
}

fn gateway() -> Gateway {
    Gateway::with(|s| s.mqtt.node = "node-a".into())
}

fn path(message: &headgate_mqtt_codec::Publish) -> Vec<String> {
    let pairs = message.props().user_properties.into_iter();
    let paths = pairs.filter(|(name, _)| name.as_str() == "headgate-path");
    paths.map(|(_, path)| path.as_str().to_owned()).collect()
}

/// Mosquitto's bit and our property make the session a link, which has a ledger; nothing else does.
#[test]
fn a_bridge_is_a_link() {
    let gw = gateway();
    let mut bit = connect(V311, "mosquitto");
    bit.bridge = true;
    let mut clients = [gw.open(bit), gw.open(bridge_of_version_5("gateway"))];
    let plain = gw.client(V5, "plain");
    for (client, id) in clients.iter_mut().zip(["mosquitto", "gateway"]) {
        client.subscribe("t", AtLeastOnce);
        gw.client(V5, "p").deliver(publish("t", "x"), AtLeastOnce);
        assert_eq!(client.heard(), ["t=x"]);
        let report = gw.link_report(id).expect("it is a link");
        assert_eq!((report.done, report.balances()), (1, true), "{id}");
    }
    assert_eq!(gw.link_report("plain"), None);
    drop(plain);
}

/// Who may not be a link is a client like any other, whatever it says: no ledger, and of what others say nothing is suppressed for its sake. What
/// mosquitto's bit says of subscriptions stays: No Local, and Retain As Published. Our reading: docs/interpretations.md#bridge-bit.
#[test]
fn a_bridge_that_may_not_be_a_link_is_a_client_with_other_subscriptions() {
    let gw = gateway();
    gw.forbid_links();
    let mut bit = connect(V311, "mosquitto");
    bit.bridge = true;
    let mut clients = [gw.open(bit), gw.open(bridge_of_version_5("gateway"))];
    let state = will("$SYS/broker/connection/hall/state", "0");
    let _by_will = gw.open(connect(V5, "hall").will(state));
    for id in ["mosquitto", "gateway", "hall"] {
        assert_eq!(gw.link_report(id), None, "{id}");
    }
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("#", AtLeastOnce);
    clients[0].subscribe("#", AtLeastOnce);
    for client in &mut clients {
        client.deliver(publish("t", "same").retain(), AtLeastOnce);
    }
    assert_eq!(watcher.heard(), ["t=same", "t=same"], "each is a message");
    let [mosquitto, _] = &mut clients;
    let heard = mosquitto.take();
    assert_eq!(heard.len(), 1, "not its own");
    assert!(heard[0].retain, "as it was published");
}

/// \[MQTT-3.8.3-3\] without being asked for it: what comes from a broker does not go back to it. RETAIN is as its subscription says.
#[test]
fn a_bridge_of_version_5_hears_nothing_of_its_own() {
    let gw = gateway();
    let mut bridge = gw.open(bridge_of_version_5("b"));
    bridge.subscribe("#", AtMostOnce);
    bridge.say("from/bridge", "x");
    gw.client(V5, "p").send(publish("to/bridge", "y").retain());
    let messages = bridge.messages();
    let seen: Vec<_> = messages.iter().map(|m| (m.brief(), m.retain)).collect();
    assert_eq!(seen, [("to/bridge=y".to_owned(), false)]);
    let options = SubscribeOptions {
        retain_as_published: true,
        ..SubscribeOptions::qos(AtMostOnce)
    };
    bridge.subscribe_with("#", options, None);
    bridge.received();
    gw.client(V5, "p").send(publish("to/bridge", "z").retain());
    assert!(bridge.messages()[0].retain);
}

/// What goes to another gateway carries the names of those it has left; the payload's own properties stay. Others are not told.
#[test]
fn the_path_goes_with_what_a_bridge_of_version_5_gets() {
    let gw = gateway();
    let mut bridge = gw.open(bridge_of_version_5("b"));
    let mut other = gw.client(V5, "other");
    let mut old = connect(V311, "mosquitto");
    old.bridge = true;
    let mut old = gw.open(old);
    for client in [&mut bridge, &mut other, &mut old] {
        client.subscribe("#", AtLeastOnce);
    }
    let mut publisher = gw.client(V5, "p");
    publisher.deliver(publish("t", "x"), AtLeastOnce);
    let came = |p: &mut headgate_mqtt_codec::PublishProperties| {
        let pairs = [("unit", "K"), ("headgate-path", "node-c,node-b")];
        p.user_properties = pairs.map(|(name, value)| (text(name), text(value))).to_vec();
    };
    publisher.deliver(publish("t", "y").with(came), AtLeastOnce);
    let messages = bridge.take();
    let paths: Vec<_> = messages.iter().map(path).collect();
    assert_eq!(paths, [["node-a"], ["node-c,node-b,node-a"]]);
    assert_eq!(messages[1].props().user_properties[0].0.as_str(), "unit");
    let others: Vec<_> = other.take().iter().map(path).collect();
    assert_eq!(others, [vec![], vec!["node-c,node-b".to_owned()]]);
    assert_eq!(old.heard(), ["t=x", "t=y"]);
}

/// However long a path a client makes up, what is sent can be read. MQTT 5 §1.5.4
#[test]
fn a_path_that_is_too_long_is_begun_anew() {
    let gw = gateway();
    let mut bridge = gw.open(bridge_of_version_5("b"));
    bridge.subscribe("#", AtMostOnce);
    let long = text(&"x".repeat(65_535));
    let came = |p: &mut headgate_mqtt_codec::PublishProperties| {
        p.user_properties = vec![(text("headgate-path"), long)];
    };
    gw.client(V5, "p").send(publish("t", "x").with(came));
    assert_eq!(path(&bridge.messages()[0]), ["node-a"]);
}

/// [MQTT-3.1.3-8] [3.1.1 MQTT-3.1.3-9] The gateway's own sessions, one for each link that it opens, are nobody's from outside.
#[test]
fn nobody_from_outside_has_a_session_of_the_gateway() {
    let gw = gateway();
    for version in ALL {
        let client = gw.connect(connect(version, "$bridge/cloud"));
        assert_eq!(client.code(), Some(ReasonCode::ClientIdentifierNotValid));
        assert!(client.is_closed());
    }
    gw.client(V5, "$bridge");
    assert_eq!(gw.stats().sessions, 1);
}

/// mosquitto.conf(5), `notifications`: a bridge says "1" retained on `$SYS/broker/connection/{client_id}/state`, and "0" by will. That needs no rule.
/// Our reading: docs/interpretations.md#dollar-sys.
#[test]
fn a_bridge_says_whether_it_is_up() {
    for version in ALL {
        let gw = gateway();
        let mut watcher = gw.client(V5, "w");
        watcher.subscribe("$SYS/broker/connection/#", AtMostOnce);
        let denied = AccessDecision::Deny(DenyCode::NotAuthorized);
        gw.rule(Action::Publish, "$SYS/broker/connection/hall/state", denied);
        let mut down = will("$SYS/broker/connection/hall/state", "0");
        down.retain = true;
        let mut bridge = gw.open(connect(version, "hall").will(down));
        bridge.deliver(
            publish("$SYS/broker/connection/hall/state", "1").retain(),
            AtLeastOnce,
        );
        bridge.lose();
        let state = "$SYS/broker/connection/hall/state";
        assert_eq!(watcher.heard(), [format!("{state}=1"), format!("{state}=0")]);
        let mut late = gw.client(V5, "late");
        late.subscribe(state, AtMostOnce);
        assert_eq!(late.heard(), [format!("{state}=0")]);
    }
}

/// A client that takes the name of one of the gateway's own bridges does not tell its state.
#[test]
fn nobody_tells_the_state_of_the_gateways_own_bridges() {
    use headgate_bus::BusSettings;
    use headgate_model::{Message, Qos, bus::Refusal};
    use headgate_tests::bus_bench::{BusBench, link, message, opening};
    let topic = "$SYS/broker/connection/cloud.hg/state";
    let state = |text| Message {
        retain: true,
        ..message(topic, text, Qos::AtLeastOnce)
    };
    let mut bench = BusBench::new("hg", BusSettings::default());
    bench.turn(|bus, now, out| bus.publish(state("0"), now, out));
    bench.connect("watcher");
    bench.subscribe("watcher", "$SYS/#");
    assert_eq!(bench.heard("watcher"), [format!("{topic}=0")]);
    bench.connect("cloud.hg");
    assert_eq!(bench.publish("cloud.hg", state("1")), Some(Refusal::TopicInvalid));
    assert_eq!(bench.heard("watcher"), [""; 0]);
    bench.turn(|bus, now, out| bus.publish(state("1"), now, out));
    assert_eq!(bench.heard("watcher"), [format!("{topic}=1")]);
    // Nor what a bridge of the gateway says by its own session.
    bench.open(opening("$bridge/cloud", link(|_| {})));
    assert_eq!(bench.publish("$bridge/cloud", state("0")), None);
    assert_eq!(bench.publish("cloud.hg", state("1")), Some(Refusal::TopicInvalid));
    assert_eq!(bench.heard("watcher"), [format!("{topic}=0")]);
}

/// mosquitto's bridge has no bit in version 5; that its will is on its own state topic shows what it is.
/// Our reading: docs/interpretations.md#links-and-loops.
#[test]
fn a_client_of_version_5_with_a_bridges_will_is_a_link() {
    let gw = gateway();
    let state = will("$SYS/broker/connection/mosquitto/state", "0");
    let mut bridge = gw.open(connect(V5, "mosquitto").durable().will(state));
    bridge.subscribe("t", AtLeastOnce);
    gw.client(V5, "p").deliver(publish("t", "x"), AtLeastOnce);
    assert_eq!(path(&bridge.messages()[0]), ["node-a"]);
    assert!(gw.link_report("mosquitto").is_some());
}

/// MQTT 5 §4.7.2: the exception is for a client's own state, and says nothing else. [MQTT-3.1.4-2]
#[test]
fn nobody_speaks_for_another_bridge() {
    let gw = gateway();
    let mut watcher = gw.client(V5, "w");
    watcher.subscribe("$SYS/broker/#", AtMostOnce);
    let mut client = gw.client(V5, "hall");
    for (topic, payload) in [
        ("$SYS/broker/connection/other/state", "1"),
        ("$SYS/broker/connection/hall/state", "up and running"),
        ("$SYS/broker/connection/hall/state/more", "1"),
        ("$SYS/broker/uptime", "1"),
    ] {
        let told = client.deliver(publish(topic, payload), AtLeastOnce);
        assert_eq!(told, ReasonCode::NotAuthorized, "{topic}");
        let refused = gw.connect(connect(V5, "next").will(will(topic, payload)));
        assert_eq!(refused.code(), Some(ReasonCode::NotAuthorized), "{topic}");
    }
    assert_eq!(watcher.heard(), Vec::<String>::new());
}
