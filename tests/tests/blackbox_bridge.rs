//! The real gateway bridges to Debian's mosquitto, and mosquitto bridges to it. `topic`, `notifications`, `try_private` in mosquitto.conf(5).

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Daemon, Message, Mosquitto, Peer, Setup, Transport};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv50"];
/// Says that whatever came before it by the same way is here.
const END: &str = "end";

fn peer(port: u16, id: &str) -> Peer {
    let (peer, _) = Peer::connect(port, id, true, 0).unwrap();
    peer
}

fn listener(port: u16, filter: &str) -> Peer {
    let mut listener = peer(port, "listener");
    listener.subscribe(filter, Qos::ExactlyOnce).unwrap();
    listener
}

fn retained(topic: &str, payload: &str) -> Message {
    Message {
        retain: true,
        ..Message::new(topic, 1, payload)
    }
}

/// A gateway with one bridge, `hall`, to this port.
fn bridged(node: &str, port: u16, settings: &str) -> Setup {
    Setup::with(&format!(
        "node = \"{node}\"\n[[bridges]]\nname = \"hall\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
         uplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n{settings}\n"
    ))
}

fn port(daemon: &Daemon<'_>) -> u16 {
    daemon.port(Transport::Tcp)
}

/// Each direction at each QoS, with a prefix on each side. What goes both ways does not come back.
#[test]
fn topics_go_out_in_and_both_ways_at_each_qos() {
    let mosquitto = Mosquitto::start("");
    for version in VERSIONS {
        let lines: Vec<String> = (0..=2)
            .flat_map(|qos| {
                ["out", "in", "both"]
                    .map(|way| format!("\"{way}{qos}/# {way} {qos} here/{version}/ there/{version}/\""))
            })
            .collect();
        let setup = bridged(
            version,
            mosquitto.port(),
            &format!("version = \"{version}\"\ntopics = [{}]", lines.join(",")),
        );
        let daemon = setup.start();
        daemon.until_bridge_is("hall", "connected");
        let here = |rest: &str| format!("here/{version}/{rest}");
        let there = |rest: &str| format!("there/{version}/{rest}");
        let mut local = listener(port(&daemon), &here("#"));
        let mut remote = listener(mosquitto.port(), &there("#"));
        let (mut at_local, mut at_remote) = (peer(port(&daemon), "p"), peer(mosquitto.port(), "p"));
        for qos in 0..=2 {
            for (name, out, back) in [("out", true, false), ("in", false, true), ("both", true, true)] {
                let [mine, theirs] = [here(&format!("{name}{qos}/x")), there(&format!("{name}{qos}/x"))];
                at_local.say(&[Message::new(&mine, 2, "from here")]);
                assert_eq!(local.hear(), Message::new(&mine, 2, "from here"));
                if out {
                    assert_eq!(
                        remote.hear(),
                        Message::new(&theirs, qos, "from here"),
                        "{version}"
                    );
                }
                at_remote.say(&[Message::new(&theirs, 2, "from there")]);
                assert_eq!(remote.hear(), Message::new(&theirs, 2, "from there"), "{version}");
                if back {
                    assert_eq!(local.hear(), Message::new(&mine, qos, "from there"), "{version}");
                }
            }
            // An echo would be before it.
            at_local.say(&[Message::new(&here(&format!("both{qos}/x")), 2, END)]);
            at_remote.say(&[Message::new(&there(&format!("both{qos}/x")), 2, END)]);
            for heard in [&mut local, &mut remote] {
                assert_eq!(
                    [heard.hear().payload, heard.hear().payload],
                    [END, END],
                    "{version}"
                );
            }
        }
    }
}

/// RETAIN goes with the message, both ways, in both versions.
#[test]
fn what_is_retained_is_retained_on_the_other_side() {
    let mosquitto = Mosquitto::start("");
    for version in VERSIONS {
        let settings = format!("version = \"{version}\"\ntopics = [\"{version}/# both 1\"]");
        let setup = bridged(version, mosquitto.port(), &settings);
        let daemon = setup.start();
        daemon.until_bridge_is("hall", "connected");
        let brokers = [port(&daemon), mosquitto.port()];
        for (from, to) in [(brokers[0], brokers[1]), (brokers[1], brokers[0])] {
            let kept = retained(&format!("{version}/{from}"), "kept");
            let mut live = listener(to, &kept.topic);
            peer(from, "p").say(std::slice::from_ref(&kept));
            assert_eq!(live.hear().payload, "kept");
            let mut late = peer(to, "late");
            late.subscribe(&kept.topic, Qos::ExactlyOnce).unwrap();
            assert_eq!(late.hear(), kept, "{version}");
        }
    }
}

/// `$SYS/broker/connection/{client_id}/state`, retained: "1" while the bridge is up; "0" at the remote by will, here when the link is lost.
#[test]
fn both_sides_are_told_whether_the_bridge_is_up() {
    let mut mosquitto = Mosquitto::start("");
    for version in VERSIONS {
        let topic = format!("$SYS/broker/connection/hall.{version}/state");
        let setup = bridged(version, mosquitto.port(), &format!("version = \"{version}\""));
        let daemon = setup.start();
        let mut remote = listener(mosquitto.port(), &topic);
        assert_eq!(remote.hear().payload, "1");
        daemon.kill();
        assert_eq!(remote.hear(), Message::new(&topic, 1, "0"));
        let daemon = setup.start();
        assert_eq!(remote.hear().payload, "1");
        let mut local = listener(port(&daemon), &topic);
        // The remote may hear of it first: then the word of before is still retained here.
        local.until("1");
        mosquitto.stop();
        assert_eq!(local.hear().payload, "0");
        let mut late = peer(port(&daemon), "late");
        late.subscribe(&topic, Qos::ExactlyOnce).unwrap();
        assert_eq!(late.hear(), retained(&topic, "0"));
        mosquitto.run();
        assert_eq!(local.hear().payload, "1");
    }
}

/// [3.1.1 MQTT-3.1.2-2] A remote that does not know protocol level 0x84 says so; the bridge comes back without the bit.
#[test]
fn a_remote_that_refuses_the_bridge_bit_is_connected_to_without() {
    let mosquitto = Mosquitto::start("");
    let strict = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = strict.local_addr().unwrap();
    let upstream = mosquitto.port();
    let refused = std::thread::spawn(move || {
        for refused in 0.. {
            let (mut client, _) = strict.accept().unwrap();
            // Fixed header, a short remaining length, and "MQTT" with its length are before the level.
            let mut begin = [0; 9];
            client.read_exact(&mut begin).unwrap();
            if begin[8] == 0x04 {
                let mut server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
                server.write_all(&begin).unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                std::thread::spawn(move || std::io::copy(&mut client, &mut server));
                return refused;
            }
            assert_eq!(begin[8], 0x84);
            client.write_all(&[0x20, 2, 0, 1]).unwrap();
        }
        0
    });
    let setup = bridged("plain", address.port(), "topics = [\"t/# both 1\"]");
    let daemon = setup.start();
    daemon.until_bridge_is("hall", "connected");
    assert_eq!(refused.join().unwrap(), 1, "the second try is without");
    let mut remote = listener(mosquitto.port(), "t/#");
    peer(port(&daemon), "p").say(&[Message::new("t/x", 1, "through")]);
    assert_eq!(remote.hear(), Message::new("t/x", 1, "through"));
}

/// mosquitto takes nobody without a certificate of the authority that it knows.
#[test]
fn a_bridge_proves_itself_with_a_certificate() {
    let authority = Setup::new();
    let certificates = authority.certificates();
    let (ca, chain, key) = (&certificates.ca, &certificates.certificate, &certificates.key);
    let secured = headgate_tests::blackbox::free_port();
    let mosquitto = Mosquitto::start(&format!(
        "listener {secured} 127.0.0.1\nrequire_certificate true\ncafile {}\ncertfile {}\nkeyfile {}",
        ca.display(),
        chain.display(),
        key.display()
    ));
    let settings = format!(
        "addresses = [\"mqtts://localhost:{secured}\"]\ntopics = [\"t/# both 1\"]\n\
         uplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n"
    );
    let setup = Setup::with("node = \"tls\"");
    let daemon = setup.start();
    let own = format!("tls = {{ ca = {ca:?}, certificate = {chain:?}, key = {key:?} }}");
    daemon.add_bridge(&format!("name = \"proven\"\n{settings}{own}"));
    daemon.add_bridge(&format!("name = \"nameless\"\n{settings}tls.ca = {ca:?}"));
    daemon.until_bridge_is("proven", "connected");
    // TLS says why: RFC 8446 §6.2, certificate_required. The state, the log and so the alarm have it.
    let refused = "the connection broke: received fatal alert: CertificateRequired";
    daemon.until_bridge("nameless", "is refused", |bridge| bridge["last_error"] == refused);
    setup.log_with(&["bridge lost its remote", refused]);
    let mut remote = listener(mosquitto.port(), "t/#");
    peer(port(&daemon), "p").say(&[Message::new("t/x", 1, "sealed")]);
    assert_eq!(remote.hear(), Message::new("t/x", 1, "sealed"));
    assert_ne!(daemon.bridge("nameless")["state"], "connected");
}

/// Debian's mosquitto has no WebSocket: between two gateways. MQTT 5 §6
#[test]
fn gateways_bridge_over_websocket_with_and_without_tls() {
    let far = Setup::new();
    let upstream = far.start();
    let setup = Setup::with("node = \"near\"");
    let daemon = setup.start();
    for (name, transport, tls) in [
        ("ws", Transport::Ws, String::new()),
        ("wss", Transport::Wss, format!("tls.ca = {:?}", far.ca())),
    ] {
        let address = format!("{name}://localhost:{}/mqtt", upstream.port(transport));
        daemon.add_bridge(&format!(
            "name = \"{name}\"\naddresses = [\"{address}\"]\ntopics = [\"{name}/# out 1\"]\n{tls}"
        ));
        daemon.until_bridge_is(name, "connected");
        let mut remote = listener(port(&upstream), &format!("{name}/#"));
        let message = Message::new(&format!("{name}/x"), 1, "in frames");
        peer(port(&daemon), "p").say(std::slice::from_ref(&message));
        assert_eq!(remote.hear(), message);
    }
}

/// The other way about: mosquitto makes the connection, `topic # both 1`, and its notifications are taken. Without a ring it need not be a link.
#[test]
fn mosquitto_bridges_to_us() {
    for (version, links) in VERSIONS.into_iter().flat_map(|v| [(v, "[\"*\"]"), (v, "[]")]) {
        let setup = Setup::with(&format!("[auth]\nlinks = {links}\n"));
        let daemon = setup.start();
        let mosquitto = Mosquitto::start(&format!(
            "connection hall\naddress 127.0.0.1:{}\ntopic # both 1\nbridge_protocol_version {version}\n\
             remote_clientid hall.mosquitto\nrestart_timeout 1",
            port(&daemon)
        ));
        let mut state = listener(port(&daemon), "$SYS/broker/connection/hall.mosquitto/state");
        assert_eq!(state.until("1").len(), 0, "{version}");
        // It is subscribed when a message comes through.
        let mut probe = peer(mosquitto.port(), "probe");
        probe.subscribe("probe", Qos::AtMostOnce).unwrap();
        let mut asking = peer(port(&daemon), "asking");
        asking.say(&[retained("probe", "retained before it came is carried, too")]);
        probe.hear();

        let brokers = [port(&daemon), mosquitto.port()];
        let mut listeners = brokers.map(|broker| {
            let mut peer = peer(broker, "all");
            peer.subscribe("t/#", Qos::ExactlyOnce).unwrap();
            peer
        });
        let mut publishers = brokers.map(|broker| peer(broker, "p"));
        for (n, publisher) in publishers.iter_mut().enumerate() {
            let message = Message::new("t/x", 1, &format!("from {n}"));
            publisher.say(std::slice::from_ref(&message));
            for listener in &mut listeners {
                assert_eq!(listener.hear(), message, "{version}");
            }
        }
        for (n, publisher) in publishers.iter_mut().enumerate() {
            publisher.say(&[retained(&format!("t/kept{n}"), END)]);
            for listener in &mut listeners {
                // An echo of what was before would be before it.
                assert_eq!(listener.hear().payload, END, "{version}");
            }
        }
        for broker in brokers {
            let mut late = peer(broker, "late");
            late.subscribe("t/#", Qos::ExactlyOnce).unwrap();
            let mut kept = [late.hear(), late.hear()];
            kept.sort();
            assert_eq!(
                kept,
                [0, 1].map(|n| retained(&format!("t/kept{n}"), END)),
                "{version}"
            );
        }
        drop(mosquitto);
        assert_eq!(state.hear().payload, "0", "{version}");
    }
}
