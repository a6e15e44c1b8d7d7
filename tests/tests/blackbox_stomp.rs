//! The real gateway between clients of STOMP and of MQTT.

use headgate_mqtt_codec::Qos;
use headgate_stomp_codec::{Command, Frame, Version};
use headgate_tests::blackbox::{Message, Peer, Setup, StompPeer, Transport, WsPeer, headgate};
use std::io::{Read, Write};
use std::net::TcpStream;

const LISTENERS: &str = "[[listeners]]\nname = \"stomp\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:0\"\n\
    [[listeners]]\nname = \"stomp-ws\"\nprotocol = \"stomp\"\nkind = \"ws\"\nbind = \"127.0.0.1:0\"\n";

fn body(frame: &Frame) -> &str {
    std::str::from_utf8(&frame.body).expect("text")
}

/// At each version, way of acknowledging and QoS; both ways.
#[test]
fn stomp_and_mqtt_clients_hear_each_other() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let (mut mqtt, _) = Peer::connect(daemon.port(Transport::Tcp), "mqtt", true, 0).unwrap();
    mqtt.subscribe("to/mqtt/#", Qos::ExactlyOnce).unwrap();
    let port = daemon.port_of("stomp");
    for version in Version::ALL {
        let mut stomp = StompPeer::connect(port, version, "");
        for (n, ack) in ["auto", "client", "client-individual"].iter().enumerate() {
            stomp.done(
                "SUBSCRIBE",
                &format!("id:{n}\ndestination:to/stomp/{ack}\nack:{ack}\nqos:2\n"),
                "",
            );
            for qos in 0..=2_u8 {
                let text = format!("{version:?} {ack} {qos}");
                mqtt.say(&[Message::new(&format!("to/stomp/{ack}"), qos, &text)]);
                let message = stomp.recv();
                assert_eq!((message.command, body(&message)), (Command::Message, &*text));
                let id = message.get("message-id").unwrap();
                let named = match version {
                    Version::V10 => format!("message-id:{id}\n"),
                    Version::V11 => format!("message-id:{id}\nsubscription:{n}\n"),
                    Version::V12 => format!("id:{id}\n"),
                };
                if *ack != "auto" {
                    stomp.done("ACK", &named, "");
                }
                stomp.done("SEND", &format!("destination:to/mqtt/{ack}\nqos:{qos}\n"), &text);
                let heard = mqtt.hear();
                // A SEND with a receipt is at least QoS 1.
                let expected = Message::new(&format!("to/mqtt/{ack}"), qos.max(1), &text);
                assert_eq!(heard, expected);
            }
        }
        stomp.done("DISCONNECT", "", "");
        assert_eq!(stomp.next(), None);
    }
    daemon.stop();
}

/// A RECEIPT outlives `kill -9`: of SEND, of SUBSCRIBE, and of ACK.
#[test]
fn receipts_outlive_a_kill() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let subscription = "id:0\ndestination:t\ndurable:true\nack:client-individual\n";
    let port = daemon.port_of("stomp");
    let mut reader = StompPeer::connect(port, Version::V12, "client-id:reader\n");
    reader.done("SUBSCRIBE", subscription, "");
    let mut writer = StompPeer::connect(port, Version::V12, "");
    for text in ["1", "2", "3"] {
        writer.done("SEND", "destination:t\n", text);
    }
    let messages = [reader.recv(), reader.recv(), reader.recv()];
    reader.done("ACK", &format!("id:{}\n", messages[1].get("ack").unwrap()), "");
    let daemon = daemon.restart();
    let mut reader = StompPeer::connect(daemon.port_of("stomp"), Version::V12, "client-id:reader\n");
    // What waited may come before the receipt.
    reader.send(format!("SUBSCRIBE\n{subscription}\n"));
    let again = [reader.recv(), reader.recv()];
    assert_eq!([body(&again[0]), body(&again[1])], ["1", "3"]);
    reader.done("SEND", "destination:elsewhere\n", "nothing else comes");
    daemon.stop();
}

/// As browsers do it: in text frames, with STOMP frames that are cut anywhere. What is no text comes in binary frames.
#[test]
fn stomp_is_spoken_over_websocket() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let mut browser = WsPeer::open(
        daemon.port_of("stomp-ws"),
        "/stomp",
        "v10.stomp, v11.stomp, v12.stomp",
    );
    assert_eq!(browser.subprotocol, "v12.stomp");
    for part in [
        "CONNECT\naccept-ver",
        "sion:1.2\nhost:h\n\n\0\n",
        "SUBSCRIBE\nid:0\ndestination:t\n\n\0",
    ] {
        browser.send(part);
    }
    let (is_text, connected) = browser.recv();
    assert!(is_text && connected.starts_with(b"CONNECTED\n"));
    browser.send("SEND\ndestination:t\n\ngrün\0");
    let (is_text, message) = browser.recv();
    assert!(is_text && message.ends_with("\n\ngrün\0".as_bytes()));
    let mut stomp = StompPeer::connect(daemon.port_of("stomp"), Version::V12, "");
    stomp.send(b"SEND\ndestination:t\n\n\xFF");
    let (is_text, message) = browser.recv();
    assert!(!is_text && message.ends_with(b"\n\n\xFF\0"));
    daemon.stop();
}

/// Servers behind SockJS' WebSocket take text frames alone; and why a server closes is shown.
#[test]
fn the_tools_speak_through_sockjs() {
    let setup = Setup::with(&format!(
        "{LISTENERS}[[listeners]]\nname = \"sockjs\"\nprotocol = \"stomp\"\nkind = \"sockjs\"\nbind = \"127.0.0.1:0\"\n"
    ));
    let daemon = setup.start();
    let url = format!("ws://127.0.0.1:{}/sockjs/websocket", daemon.port_of("sockjs"));
    let mut stomp = StompPeer::connect(daemon.port_of("stomp"), Version::V12, "");
    stomp.done("SUBSCRIBE", "id:0\ndestination:t\n", "");
    let publish = |file: &std::path::Path| {
        let mut command = std::process::Command::new(headgate());
        command
            .args(["stomp-pub", "--url", &url, "-t", "t", "-f"])
            .arg(file);
        command.output().unwrap()
    };
    let file = std::env::temp_dir().join(format!("headgate-stomp-{}", std::process::id()));
    std::fs::write(&file, "grün").unwrap();
    assert!(publish(&file).status.success());
    assert_eq!(body(&stomp.recv()), "grün");
    std::fs::write(&file, b"\xFF").unwrap();
    let told = String::from_utf8(publish(&file).stderr).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(told.contains("1003 Only text is accepted"), "{told}");
    daemon.stop();
}

/// Operators see versions as STOMP writes them, and the sessions that a client has beside its own.
#[test]
fn operators_see_sessions_with_their_client() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let mut stomp = StompPeer::connect(daemon.port_of("stomp"), Version::V11, "client-id:a/b\n");
    stomp.done("SUBSCRIBE", "id:0\ndestination:own\n", "");
    stomp.done("SUBSCRIBE", "id:1\ndestination:kept\ndurable:true\n", "");
    let _other = StompPeer::connect(daemon.port_of("stomp"), Version::V12, "client-id:a/b2\n");
    let shown = daemon.ask(&["clients", "show", "a/b"]);
    assert_eq!(
        (&shown["protocol"], &shown["version"]),
        (&"stomp".into(), &"1.1".into())
    );
    let sessions = shown["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{shown}");
    assert_eq!(sessions[0]["client"], "$stomp/a%2Fb/durable/1");
    let filters = |rows: &serde_json::Value| {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["filter"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(filters(&shown["subscribed_to"]), ["own", "kept"]);
    assert_eq!(
        filters(&daemon.ask(&["subscriptions", "--client", "a/b"])),
        ["own", "kept"]
    );
    daemon.stop();
}

/// What a limit or a setting of the operator's refuses stands in the log, with who it was.
#[test]
fn refusals_of_sockjs_are_logged() {
    let setup = Setup::with(
        "[[listeners]]\nname = \"sockjs\"\nprotocol = \"stomp\"\nkind = \"sockjs\"\nbind = \"127.0.0.1:0\"\n\
         sockjs = { max_sessions_per_ip = 1, origins = [\"https://good.example\"] }\n",
    );
    let daemon = setup.start();
    let port = daemon.port_of("sockjs");
    let ask = |session: &str, origin: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let head =
            format!("POST /sockjs/0/{session}/xhr HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{origin}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8(status[9..].to_vec()).unwrap()
    };
    assert_eq!(ask("a", ""), "200");
    assert_eq!(ask("b", ""), "503");
    assert_eq!(ask("a", "Origin: https://bad.example\r\n"), "403");
    daemon.stop();
    let log = setup.log();
    for reason in ["sessions_of_peer", "origin"] {
        let told = |line: &str| {
            line.contains("SockJS request refused")
                && line.contains("127.0.0.1")
                && line.contains(&format!("reason=\"{reason}\""))
        };
        assert!(log.lines().any(told), "{reason}: {log}");
    }
}

/// What is no STOMP is told so, and harms nobody.
#[test]
fn strangers_are_sent_away() {
    let setup = Setup::with(LISTENERS);
    let daemon = setup.start();
    let mut stranger = StompPeer::open(daemon.port_of("stomp"));
    stranger.send("GET / HTTP/1.1\r\n\r\n");
    let error = stranger.recv();
    assert_eq!(
        (error.command, error.get("message")),
        (
            Command::Error,
            Some("this is a port for STOMP, and what came looks like HTTP")
        )
    );
    assert_eq!(stranger.next(), None);
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}
