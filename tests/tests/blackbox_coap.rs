//! CoAP with clients that are not ours. docs/coap.md

use headgate_mqtt_codec::{Packet, Qos};
use headgate_tests::blackbox::{CoapClient, CoapRequest, Daemon, Peer, Setup, Transport, eventually};
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, Command, Output};

/// A gateway with CoAP on a port of the system's choice.
fn setup(more: &str) -> Setup {
    Setup::with(&format!(
        "{more}[[coap]]\nname = \"coap\"\nbind = \"127.0.0.1:0\"\n"
    ))
}

fn request<'a>(method: &'a str, uri: &'a str, payload: &'a str) -> CoapRequest<'a> {
    CoapRequest {
        method,
        uri,
        payload,
        confirmable: true,
    }
}

fn base(daemon: &Daemon<'_>) -> String {
    format!("coap://127.0.0.1:{}", daemon.port_of("coap"))
}

fn is_success(code: &str) -> bool {
    code.starts_with("2.")
}

/// By the paths of EMQ 2 and EMQX 5, with and without confirmation; what is published reaches MQTT, and what MQTT publishes reaches observers.
#[test]
fn foreign_clients_publish_and_observe() {
    let setup = setup("");
    let daemon = setup.start();
    let base = base(&daemon);
    let (mut mqtt, _) = Peer::connect(daemon.port(Transport::Tcp), "mqtt", true, 0).unwrap();
    mqtt.subscribe("from/#", Qos::AtLeastOnce).unwrap();
    for client in CoapClient::ALL {
        let name = format!("{client:?}");
        for (n, (method, path)) in [
            ("PUT", "mqtt/from%2Fcoap"),
            ("POST", "ps/from/coap"),
            ("PUT", "ps/from/coap"),
        ]
        .into_iter()
        .enumerate()
        {
            let (uri, payload) = (format!("{base}/{path}?c={name}"), format!("{name} {n}"));
            let asked = CoapRequest {
                confirmable: n != 1,
                ..request(method, &uri, &payload)
            };
            let (code, said) = client.ask(asked);
            assert!(is_success(&code), "{client:?} {method} {path}: {code} {said}");
            let heard = mqtt.hear();
            assert_eq!((&*heard.topic, &*heard.payload), ("from/coap", &*payload));
        }
        let observing = client.observe(&format!("{base}/ps/to/coap?c=o{name}"));
        for n in 0..3 {
            mqtt.publish("to/coap", &format!("{n}"), Some((Qos::AtLeastOnce, n + 1)), false)
                .unwrap();
            assert!(matches!(mqtt.recv().unwrap(), Packet::Ack(_)));
            assert_eq!(observing.next(), n.to_string(), "{client:?}");
        }
    }
    let clients = daemon.ask(&["clients"]);
    let of_coap = clients
        .as_array()
        .unwrap()
        .iter()
        .filter(|client| client["protocol"] == "coap");
    assert!(of_coap.count() >= 3, "{clients}");
    daemon.stop();
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
}

/// RFC 7959: 60 KB in blocks, both ways. Node's client cuts nothing by itself.
#[test]
fn long_payloads_go_in_blocks() {
    let setup = setup("");
    let daemon = setup.start();
    let base = base(&daemon);
    let long: String = (0..60_000)
        .map(|n| char::from(b'a' + (n / 1_000 % 26) as u8))
        .collect();
    for client in [CoapClient::Libcoap, CoapClient::Aiocoap] {
        let uri = format!("{base}/ps/long/{client:?}?retain=true");
        let (code, said) = client.ask(request("POST", &uri, &long));
        assert!(is_success(&code), "{client:?}: {code} {said}");
        for reader in CoapClient::ALL {
            let (code, read) = reader.ask(request("GET", &format!("{base}/ps/long/{client:?}"), ""));
            assert!(
                is_success(&code) && read == long,
                "{reader:?} reads what {client:?} wrote: {code} {}",
                read.len()
            );
        }
    }
}

/// RFC 7959 §2.6: long messages under one filter, one right behind the other, arrive whole and in order; what is short behind them, too. Nothing is left.
#[test]
fn long_notifications_do_not_take_each_others_place() {
    let setup = setup("");
    let daemon = setup.start();
    let base = base(&daemon);
    let bodies: Vec<(String, String)> = ["one", "two", "one"]
        .iter()
        .enumerate()
        .map(|(n, topic)| {
            let lines = (0..25_000).map(|line| format!("{n}{line:06} "));
            (
                format!("long/{topic}"),
                lines.collect::<String>()[..200_000].to_owned(),
            )
        })
        .collect();
    let aiocoap = CoapClient::Aiocoap.observe(&format!("{base}/ps/long/%2B?c=aiocoap"));
    let ours = Command::new(headgate_tests::blackbox::headgate())
        .args([
            "coap",
            "observe",
            &format!("{base}/ps/long/%2B?c=ours"),
            "-C",
            "5",
            "--json",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut ours = Server(ours.unwrap());
    eventually("both to observe", || {
        let sessions = daemon.ask(&["subscriptions"]).to_string();
        (sessions.contains("$coap/ours/") && sessions.contains("$coap/aiocoap/")).then_some(())
    });
    let file = setup.folder().join("long");
    for (topic, body) in &bodies {
        std::fs::write(&file, body).unwrap();
        said(&[
            "post",
            &format!("{base}/ps/{topic}"),
            "-f",
            file.to_str().unwrap(),
        ]);
    }
    said(&["post", &format!("{base}/ps/long/one"), "-m", "short"]);
    for (_, body) in &bodies {
        assert!(aiocoap.next() == *body);
    }
    assert_eq!(aiocoap.next(), "short");
    let (mut told, mut complained) = (String::new(), String::new());
    ours.0.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    ours.0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .unwrap();
    assert_eq!(complained, "");
    let lines: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (line, (topic, body)) in lines[1..].iter().zip(&bodies) {
        assert!(line["topic"] == *topic && line["payload"] == *body, "{topic}");
    }
    assert_eq!(lines[4]["payload"], "short");
    eventually("all to be settled", || {
        let session = daemon.ask(&["clients", "show", "$coap/aiocoap/long/+"]);
        let session = session.to_string();
        (session.contains("\"queued\":0") && session.contains("\"inflight\":0")).then_some(())
    });
}

/// The access chain and the rules hold for CoAP as for all: 4.01 for a wrong password, 4.03 for what is denied, and nothing is published.
#[test]
fn who_may_not_is_told_so() {
    let setup = setup(
        "[auth]\nanonymous = \"nowhere\"\n[[auth.acl]]\neffect = \"allow\"\nuser = \"pump\"\ntopics = [\"pumps/#\"]\n",
    );
    let daemon = setup.start();
    std::fs::write(setup.folder().join("password"), "secret").unwrap();
    let added = Command::new(headgate_tests::blackbox::headgate())
        .args([
            "users",
            "add",
            "pump",
            "--config",
            "headgate.toml",
            "--password-file",
            "password",
        ])
        .current_dir(setup.folder())
        .output()
        .unwrap();
    assert!(added.status.success(), "{added:?}");
    let base = base(&daemon);
    for client in CoapClient::ALL {
        let ask = |path: &str| client.ask(request("PUT", &format!("{base}/{path}"), "x")).0;
        assert_eq!(ask("mqtt/pumps%2F1?c=p&u=pump&p=wrong"), "4.01", "{client:?}");
        assert_eq!(ask("mqtt/pumps%2F1?c=p"), "4.01", "{client:?}");
        assert_eq!(ask("mqtt/other?c=p&u=pump&p=secret"), "4.03", "{client:?}");
        assert_eq!(ask("mqtt/pumps%2F1"), "4.00", "{client:?}");
        assert!(
            is_success(&ask("mqtt/pumps%2F1?c=p&u=pump&p=secret")),
            "{client:?}"
        );
    }
    let log = setup.log_with(&["publish refused listener=coap client=\"p\" user=\"pump\""]);
    assert!(!log.contains("secret"), "{log}");
}

/// 2.04 is a promise: what was published to an observer that is away is there after `kill -9`, and comes when it observes again.
#[test]
fn what_was_answered_survives_a_kill() {
    let setup = setup("");
    let daemon = setup.start();
    let uri = base(&daemon);
    let observing = CoapClient::Aiocoap.observe(&format!("{uri}/ps/kept?c=keeper"));
    drop(observing);
    for n in 0..20 {
        let (code, _) =
            CoapClient::Libcoap.ask(request("PUT", &format!("{uri}/ps/kept?c=w"), &n.to_string()));
        assert!(is_success(&code));
    }
    let daemon = daemon.restart();
    let uri = base(&daemon);
    let observing = CoapClient::Aiocoap.observe(&format!("{uri}/ps/kept?c=keeper"));
    let heard: Vec<String> = (0..20).map(|_| observing.next()).collect();
    let all: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(heard, all);
    eventually("all to be settled", || {
        let session = daemon.ask(&["clients", "show", "$coap/keeper/kept"]);
        (session["queue"] == 0 || session["queued"] == 0).then_some(())
    });
}

/// RFC 7641: an observer of QoS 1 is notified after `kill -9` before it says anything: the gateway asks by a ping whether it is there. Short and long messages.
#[test]
fn observers_are_notified_after_a_kill() {
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let setup = Setup::with(&format!(
        "[auth]\nanonymous = \"loopback\"\n[[coap]]\nname = \"coap\"\nbind = \"0.0.0.0:{port}\"\n"
    ));
    let daemon = setup.start();
    let base = format!("coap://127.0.0.1:{port}");
    let observing: Vec<_> = [CoapClient::Aiocoap, CoapClient::Libcoap]
        .iter()
        .map(|client| client.observe(&format!("{base}/ps/after/kill?c={client:?}")))
        .collect();
    let ours = Command::new(headgate_tests::blackbox::headgate())
        .args([
            "coap",
            "observe",
            &format!("{base}/ps/after/kill?c=ours"),
            "--json",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut ours = Server(ours.unwrap());
    let mut lines = BufReader::new(ours.0.stdout.take().unwrap()).lines();
    let mut ours = || {
        let line = lines.next().expect("a line").unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["payload"].as_str().unwrap().to_owned()
    };
    assert_eq!(ours(), "", "it observes");
    let publish = |daemon: &Daemon<'_>, payload: &str| {
        let (mut mqtt, _) = Peer::connect(daemon.port(Transport::Tcp), "mqtt", true, 0).unwrap();
        mqtt.publish("after/kill", payload, Some((Qos::AtLeastOnce, 1)), false)
            .unwrap();
        assert!(matches!(mqtt.recv().unwrap(), Packet::Ack(_)));
    };
    // What was acknowledged just before a kill may come once more.
    let hears = |next: &mut dyn FnMut() -> String, payload: &str, before: &str| loop {
        match next() {
            heard if heard == payload => break,
            heard => assert!(heard == before, "{heard}"),
        }
    };
    let long = "0123456789".repeat(5_000);
    let mut daemon = daemon;
    for (payload, before) in [("before", ""), ("after", "before"), (&long, "after")] {
        publish(&daemon, payload);
        // libcoap's client tells a body block by block.
        let whole = if payload.len() < 1_000 { 2 } else { 1 };
        for client in &observing[..whole] {
            hears(&mut || client.next(), payload, before);
        }
        hears(&mut ours, payload, before);
        daemon = daemon.restart();
    }
}

fn headgate(words: &[&str]) -> Output {
    let output = Command::new(headgate_tests::blackbox::headgate())
        .arg("coap")
        .args(words)
        .output();
    output.expect("it runs")
}

fn said(words: &[&str]) -> String {
    let output = headgate(words);
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The command line publishes, reads and observes, and says in words what is refused.
#[test]
fn the_command_line_speaks_coap() {
    let setup = setup("");
    let daemon = setup.start();
    let base = base(&daemon);
    let long = "0123456789".repeat(5_000);
    std::fs::write(setup.folder().join("long"), &long).unwrap();
    let uri = format!("{base}/ps/plant/long?retain=true");
    let file = setup.folder().join("long");
    assert_eq!(
        said(&[
            "post",
            &uri,
            "-f",
            file.to_str().unwrap(),
            "--format",
            "text/plain"
        ]),
        ""
    );
    assert_eq!(said(&["get", &format!("{base}/ps/plant/long")]).trim_end(), long);
    let answer = said(&["get", &format!("{base}/ps/plant/long"), "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&answer["code"], &answer["format"]),
        (&"2.05".into(), &"text/plain; charset=utf-8".into())
    );
    let refused = headgate(&["get", &format!("{base}/ps/nothing")]);
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr).trim(),
        "headgate: 4.04 Not Found: nothing is retained there"
    );
    assert!(!refused.status.success());
    let nobody = headgate(&["get", "coap://127.0.0.1:1/ps/x"]);
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("nothing listens at 127.0.0.1:1"),
        "{nobody:?}"
    );
    let observed = format!("{base}/ps/plant/%2B?c=o");
    let observing = Command::new(headgate_tests::blackbox::headgate())
        .args(["coap", "observe", &observed, "-C", "3", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it to observe", || {
        let sessions = daemon.ask(&["subscriptions"]);
        sessions.to_string().contains("$coap/o/").then_some(())
    });
    said(&["put", &format!("{base}/mqtt/plant%2Fvalve?c=w"), "-m", "open"]);
    let output = observing.wait_with_output().unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines.len(),
        3,
        "the answer, what is retained, and what was published"
    );
    assert_eq!(
        (&lines[1]["topic"], &lines[1]["payload"]),
        (&"plant/long".into(), &long.into())
    );
    assert_eq!(
        (&lines[2]["topic"], &lines[2]["payload"]),
        (&"plant/valve".into(), &"open".into())
    );
}

/// Ends it when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command line with a server that is not ours: separate responses, blocks both ways. \[RFC7252-5.2.1-1\] \[RFC7252-5.3.2-3\]
#[test]
fn the_command_line_speaks_to_a_foreign_server() {
    CoapClient::Libcoap.install();
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = Command::new("coap-server-notls")
        .args(["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "10"])
        .spawn()
        .expect("libcoap is there");
    let _server = Server(server);
    let uri = |path: &str| format!("coap://127.0.0.1:{port}/{path}");
    eventually("the server", || {
        headgate(&["get", &uri("")]).status.success().then_some(())
    });
    assert!(said(&["get", &uri("")]).contains("test server"));
    assert!(said(&["get", &uri(".well-known/core"), "--json"]).contains("application/link-format"));
    assert_eq!(
        said(&["get", &uri("async?1")]).trim_end(),
        "done",
        "it comes as a separate response"
    );
    let long = "abcdefghij".repeat(500);
    said(&["put", &uri("mine"), "-m", &long]);
    assert_eq!(said(&["get", &uri("mine")]).trim_end(), long);
    said(&["delete", &uri("mine")]);
    let gone = headgate(&["get", &uri("mine")]);
    assert!(
        String::from_utf8_lossy(&gone.stderr).starts_with("headgate: 4.04 Not Found"),
        "{gone:?}"
    );
}

/// RFC 7252 §9: coaps, with a key that both sides have. The identity is the user name, and nothing need be said in the query.
/// \[RFC7252-6.2-1\] \[RFC7252-9.1.1-1\]
#[test]
fn a_foreign_client_speaks_coap_over_dtls() {
    CoapClient::Libcoap.install();
    let setup = Setup::with(
        "[auth]\nanonymous = \"nowhere\"\n[[auth.acl]]\neffect = \"allow\"\nuser = \"pump7\"\ntopics = [\"plant/%u/#\"]\n\
         [[coap]]\nname = \"coap\"\nkind = \"dtls\"\nbind = \"127.0.0.1:0\"\n\
         dtls = { psk = [{ identity = \"pump7\", key = \"7365637265742d6f662d70756d702d37\" }] }\n",
    );
    let daemon = setup.start();
    let port = daemon.port_of("coap");
    let ask = |key: &str, words: &[&str], path: &str| {
        let output = Command::new("coap-client-openssl")
            .args(["-u", "pump7", "-k", key, "-B", "5"])
            .args(words)
            .arg(format!("coaps://127.0.0.1:{port}/{path}"))
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let key = "secret-of-pump-7";
    let text = "x".repeat(500);
    assert_eq!(
        ask(key, &["-m", "post", "-e", &text], "ps/plant/pump7/a?retain=1"),
        ""
    );
    assert_eq!(ask(key, &["-m", "get"], "ps/plant/pump7/a").trim_end(), text);
    assert!(ask(key, &["-m", "post", "-e", "x"], "ps/plant/other/a").contains("4.03"));
    ask(
        "not-of-pump-7",
        &["-m", "post", "-e", "y"],
        "ps/plant/pump7/a?retain=1",
    );
    assert_eq!(ask(key, &["-m", "get"], "ps/plant/pump7/a").trim_end(), text);
}

/// RFC 7252 §8: who does not know where the gateway is asks the group, and is answered by itself; nobody is told of errors there.
/// \[RFC7252-8.1-2\] \[RFC7252-8.2-1\] \[RFC7252-8.2-3\]
#[test]
fn a_foreign_client_finds_the_gateway_by_multicast() {
    CoapClient::Libcoap.install();
    let setup = Setup::with(
        "[[coap]]\nname = \"coap\"\nbind = \"0.0.0.0:0\"\nmulticast = { group = \"224.0.1.187\", interfaces = [\"lo\"] }\n\
         [coap.gateway.transmission]\nleisure = \"2s\"\n",
    );
    let daemon = setup.start();
    let port = daemon.port_of("coap");
    let ask = |words: &[&str], path: &str| {
        let output = Command::new("coap-client-notls")
            .args(["-N", "-a", "127.0.0.1", "-B", "3"])
            .args(words)
            .arg(format!("coap://224.0.1.187:{port}/{path}"))
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let found = ask(&["-m", "get"], ".well-known/core?rt=core.ps");
    assert_eq!(found.trim(), "</ps>;rt=\"core.ps\";obs");
    for (words, path) in [
        (&["-m", "get"][..], ".well-known/core?rt=nothing"),
        (&["-m", "get"], "ps/a"),
        (&["-m", "put", "-e", "x"], "ps/a?retain=true"),
    ] {
        assert!(!ask(words, path).contains("4.0"), "{path}");
    }
    let retained = CoapClient::Libcoap.ask(request("GET", &format!("{}/ps/a", base(&daemon)), ""));
    assert_eq!(retained.0, "4.04", "{}", retained.1);
}

/// RFC 8323: the same over TCP.
#[test]
fn foreign_clients_speak_coap_over_tcp() {
    CoapClient::Libcoap.install();
    let setup = Setup::with("[[listeners]]\nname = \"coap\"\nprotocol = \"coap\"\nbind = \"127.0.0.1:0\"\n");
    let daemon = setup.start();
    let base = format!("coap+tcp://127.0.0.1:{}", daemon.port_of("coap"));
    let long: String = (0..60_000)
        .map(|n| char::from(b'a' + (n / 1_000 % 26) as u8))
        .collect();
    for client in [CoapClient::Libcoap, CoapClient::Aiocoap] {
        let uri = format!("{base}/ps/tcp/{client:?}?retain=true");
        let (code, said) = client.ask(request("POST", &uri, &long));
        assert!(is_success(&code), "{client:?}: {code} {said}");
        let (code, read) = client.ask(request("GET", &format!("{base}/ps/tcp/{client:?}"), ""));
        assert!(
            is_success(&code) && read == long,
            "{client:?}: {code} {}",
            read.len()
        );
        assert_eq!(
            client.ask(request("GET", &format!("{base}/ps/none"), "")).0,
            "4.04",
            "{client:?}"
        );
    }
    let observing = CoapClient::Aiocoap.observe(&format!("{base}/ps/now?c=o"));
    let (mut mqtt, _) = Peer::connect(daemon.port(Transport::Tcp), "mqtt", true, 0).unwrap();
    for n in 1..4 {
        mqtt.publish("now", &n.to_string(), Some((Qos::AtLeastOnce, n)), false)
            .unwrap();
        assert_eq!(observing.next(), n.to_string());
    }
}
