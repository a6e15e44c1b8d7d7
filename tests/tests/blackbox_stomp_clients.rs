//! STOMP clients that we did not write: stomp.py and STOMP.js, by each version and transport that they have. An MQTT client answers them.

use headgate_mqtt_codec::{AckKind, Packet, Qos};
use headgate_tests::blackbox::{Daemon, Peer, Setup, Transport, free_port, node_client, python_client};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::Scope;

/// Answers what is sent to `stomp/{client}/question` with the same properties, until it is told to end. Clients over SockJS, whose names begin with `sockjs`,
/// are sent before what SockJS cannot carry.
fn answer<'s>(scope: &'s Scope<'s, '_>, port: u16) -> Sender<()> {
    let (end, ended) = channel();
    let (mut peer, _) = Peer::connect(port, "answers", true, 0).unwrap();
    peer.subscribe("stomp/+/question", Qos::AtLeastOnce).unwrap();
    peer.subscribe("end", Qos::AtMostOnce).unwrap();
    scope.spawn(move || {
        loop {
            let Packet::Publish(mut publish) = peer.recv().unwrap() else {
                continue;
            };
            if publish.topic.as_str() == "end" {
                return;
            }
            if let Some(id) = publish.packet_id {
                peer.ack(AckKind::PubAck, id.get()).unwrap();
            }
            let topic = publish.topic.as_str().replace("question", "answer");
            (publish.topic, publish.qos, publish.packet_id) =
                (topic.try_into().unwrap(), Qos::AtMostOnce, None);
            if let Some(properties) = &mut publish.properties {
                properties.subscription_identifiers.clear();
            }
            if publish.topic.as_str().starts_with("stomp/sockjs") {
                let mut bytes = publish.clone();
                bytes.payload = b"\xFF"[..].into();
                peer.send(&Packet::Publish(bytes)).unwrap();
            }
            peer.send(&Packet::Publish(publish)).unwrap();
        }
    });
    scope.spawn(move || {
        let _ = ended.recv();
        let (mut peer, _) = Peer::connect(port, "ends", true, 0).unwrap();
        peer.publish("end", "", None, false).unwrap();
        // It is in the bus when this has its answer.
        peer.publish("end/2", "", Some((Qos::AtLeastOnce, 1)), false)
            .unwrap();
        peer.recv().unwrap();
    });
    end
}

/// The ports of listeners for STOMP that the gateway gets while it runs: TCP, TLS, WebSocket, SockJS.
fn listen(daemon: &Daemon<'_>) -> [u16; 4] {
    let ports = [free_port(), free_port(), free_port(), free_port()];
    let pki = daemon.setup().certificates();
    let tls = format!(
        "kind = \"tls\"\ntls = {{ certificate = {:?}, key = {:?} }}",
        pki.certificate, pki.key
    );
    let file = daemon.setup().folder().join("headgate.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (port, kind) in ports.iter().zip(["", &tls, "kind = \"ws\"", "kind = \"sockjs\""]) {
        text += &format!(
            "[[listeners]]\nname = \"stomp-{port}\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:{port}\"\n{kind}\n"
        );
    }
    std::fs::write(file, text).unwrap();
    daemon.ask(&["reload"]);
    ports
}

/// Runs one that says `done` when all was as it expected.
fn succeed(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let is_done = output.status.success() && said.trim_end().ends_with("done");
    assert!(is_done, "{command:?}: {}\n{said}{complained}", output.status);
}

fn with_answers(daemon: &Daemon<'_>, work: impl FnOnce()) {
    std::thread::scope(|scope| {
        let end = answer(scope, daemon.port(Transport::Tcp));
        // It ends also when this panics.
        work();
        drop(end);
    });
}

/// stomp.py by each version over TCP, TLS and WebSocket: what is refused comes again, what was not acknowledged comes again after the connection was lost, and what was, does not.
#[test]
fn stomp_py_by_each_version_and_transport() {
    let setup = Setup::with("[stomp]\nredelivery_delay = \"100ms\"\n");
    let daemon = setup.start();
    let [tcp, tls, ws, _] = listen(&daemon);
    with_answers(&daemon, || {
        for (n, (kind, port, version)) in [
            ("tcp", tcp, "1.0"),
            ("tcp", tcp, "1.1"),
            ("tcp", tcp, "1.2"),
            ("tls", tls, "1.2"),
            ("ws", ws, "1.2"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut command = python_client("stomp_client.py");
            command.args([kind, &port.to_string(), &format!("py{n}"), version]);
            command.arg(daemon.setup().ca());
            succeed(command);
        }
    });
}

/// STOMP.js over WebSocket.
#[test]
fn stomp_js_over_websocket() {
    let setup = Setup::with("[stomp]\nredelivery_delay = \"100ms\"\n");
    let daemon = setup.start();
    let [_, _, ws, _] = listen(&daemon);
    with_answers(&daemon, || {
        let mut command = node_client("stompjs_client.cjs");
        command.args([&format!("ws://127.0.0.1:{ws}/stomp"), "ws", "js"]);
        succeed(command);
    });
}

/// STOMP.js over SockJS' own client, by each transport that this has outside of browsers; and over SockJS' raw WebSocket.
#[test]
fn stomp_js_over_sockjs() {
    let setup = Setup::with("[stomp]\nredelivery_delay = \"100ms\"\n");
    let daemon = setup.start();
    let [_, _, _, sockjs] = listen(&daemon);
    with_answers(&daemon, || {
        for transport in ["websocket", "xhr-streaming", "eventsource", "xhr-polling"] {
            let mut command = node_client("stompjs_client.cjs");
            let url = format!("http://127.0.0.1:{sockjs}/sockjs");
            command.args([&url, transport, &format!("sockjs-{transport}")]);
            succeed(command);
        }
        let mut command = node_client("stompjs_client.cjs");
        let url = format!("ws://127.0.0.1:{sockjs}/sockjs/websocket");
        command.args([&url, "ws", "sockjs-raw"]);
        succeed(command);
    });
}
