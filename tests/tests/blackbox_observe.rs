//! What an operator sees of a running gateway: alarms, metrics, health, the log.

use headgate_mqtt_codec::{AckKind, Packet, Qos};
use headgate_tests::blackbox::{
    Certificates, Daemon, HANG, Peer, Setup, SnPeer, Transport, eventually, own_address,
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

/// A certificate in the place of the gateway's own, valid for so many days from now on.
fn certify(certificates: &Certificates, days: u64) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + Duration::from_secs(days * 86_400)).into();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(&certificates.key, key.serialize_pem()).unwrap();
    fs::write(&certificates.certificate, certificate.pem()).unwrap();
}

/// The alarm of this name that stands.
fn standing(daemon: &Daemon<'_>, id: &str) -> Option<Value> {
    let alarms = daemon.ask(&["alarms"]);
    let active = alarms["active"].as_array()?.clone();
    active.into_iter().find(|alarm| alarm["id"] == id)
}

/// The next message: its topic and payload.
fn next(peer: &mut Peer) -> (String, Value) {
    loop {
        if let Packet::Publish(publish) = peer.recv().unwrap() {
            let topic = publish.topic.as_str().to_owned();
            return (
                topic,
                serde_json::from_slice(&publish.payload).unwrap_or_default(),
            );
        }
    }
}

/// N06: a certificate that ends within seven days is an alarm, on the bus as in EMQ 2, at the command line and in the file; after a restart it stands
/// with its time, and when there is a good certificate it is over.
#[test]
fn a_certificate_that_ends_soon_is_an_alarm_until_it_is_replaced() {
    let setup = Setup::new();
    certify(setup.certificates(), 5);
    let daemon = setup.start();
    let alarm = eventually("the alarm", || standing(&daemon, "certificate_tls"));
    assert_eq!(alarm["severity"], "error");
    let summary = alarm["summary"].as_str().unwrap();
    assert!(
        summary.contains("server.pem: the certificate ends within 7 days"),
        "{summary}"
    );

    let (mut peer, _) = Peer::connect(daemon.port(Transport::Tcp), "watcher", true, 0).unwrap();
    peer.subscribe("$SYS/brokers/+/alarms/certificate_tls/#", Qos::AtMostOnce)
        .unwrap();
    let (topic, told) = next(&mut peer);
    assert!(topic.ends_with("/alarms/certificate_tls/alert"), "{topic}");
    assert_eq!(
        (&told["severity"], &told["ts"]),
        (&alarm["severity"], &alarm["raised"])
    );

    let daemon = daemon.restart();
    let again = eventually("the alarm", || standing(&daemon, "certificate_tls"));
    assert_eq!(again["raised"], alarm["raised"]);
    daemon.stop();

    certify(setup.certificates(), 365);
    let daemon = setup.start();
    eventually("the end of the alarm", || {
        standing(&daemon, "certificate_tls").is_none().then_some(())
    });
    let history = daemon.ask(&["alarms", "--history"])["history"].clone();
    let over = history.as_array().unwrap().iter();
    let over: Vec<_> = over.filter(|alarm| alarm["id"] == "certificate_tls").collect();
    assert_eq!(over.len(), 1, "{history}");
    assert!(over[0]["cleared"].as_u64() >= over[0]["raised"].as_u64());
}

/// Status, head and body of the next answer.
fn answer(stream: &mut impl BufRead) -> (u16, String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let before = head.len();
        stream.read_line(&mut head).unwrap();
        assert!(head.len() > before, "it ended in the head: {head:?}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (status, head, String::from_utf8(body).unwrap())
}

fn get(mut stream: impl Read + Write, path: &str) -> (u16, String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    answer(&mut BufReader::new(stream))
}

const HTTP: &str = "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n\
    [[listeners]]\nname = \"local\"\nprotocol = \"http\"\nkind = \"unix\"\nbind = \"http.sock\"\n";

/// S02: the text format of Prometheus, version 0.0.4. HELP and TYPE come once for a family, in front of its samples, and no sample twice.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
#[test]
fn metrics_are_what_prometheus_reads_and_what_sys_and_the_command_line_say() {
    let setup = Setup::with(HTTP);
    let daemon = setup.start();
    let port = daemon.port_of("http");
    let (mut reader, _) = Peer::connect(daemon.port(Transport::Tcp), "evil\"\\\n", false, 3600).unwrap();
    reader.subscribe("plant/#", Qos::AtLeastOnce).unwrap();
    reader.vanish();
    let (mut writer, _) = Peer::connect(daemon.port(Transport::Tcp), "writer", true, 0).unwrap();
    for n in 1..=7 {
        writer
            .publish("plant/1", "x", Some((Qos::AtLeastOnce, n)), false)
            .unwrap();
        writer.recv().unwrap();
    }

    let stream = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (status, head, text) = get(stream(), "/metrics");
    assert_eq!(status, 200, "{text}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let sample = regex::Regex::new(
        r#"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-z_]+="([^"\\]|\\[\\n"])*",?)*\})? [-+0-9.eE]+$"#,
    )
    .unwrap();
    let (mut families, mut samples, mut family) = (BTreeSet::new(), BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let found = sample
                .captures(line)
                .unwrap_or_else(|| panic!("no sample: {line}"));
            assert_eq!(found[1], family);
            assert!(
                samples.insert(line.rsplit_once(' ').unwrap().0.to_owned()),
                "twice: {line}"
            );
        }
    }
    for line in [
        "headgate_clients 1",
        "headgate_queued_messages 7",
        r#"headgate_session_queue_messages{client="evil\"\\\n"} 7"#,
        "headgate_session_queue_messages_others 0",
        "headgate_packets_publish_received_total 7",
        r#"headgate_messages_dropped_total{reason="queue_full"} 0"#,
        r#"headgate_listener_refused_total{listener="tcp",reason="address"} 0"#,
        r#"headgate_listener_connections{listener="tcp"} 1"#,
    ] {
        assert!(
            text.lines().any(|there| there == line),
            "{line} is missing in\n{text}"
        );
    }

    let told = daemon.ask(&["metrics", "packets_publish_received"]);
    assert_eq!(told[0]["samples"][0]["value"], 7.0);
    // A reason is a label; and an empty table would tell nothing.
    let by_label = daemon.ask(&["metrics", "queue_full"]);
    assert_eq!(by_label[0]["samples"].as_array().unwrap().len(), 1, "{by_label}");
    let nothing = setup.said(&["metrics", "no_such_thing"]);
    assert_eq!(
        nothing,
        "no counter has `no_such_thing` in its name or its labels\n"
    );
    let status = daemon.ask(&["status"]);
    assert_eq!((&status["clients"], &status["queued"]), (&1.into(), &7.into()));
    assert_eq!(status["ready"], true);
}

/// Q11. EMQ 2's `/status` has two lines. The address that counts is the one that a trusted proxy names.
#[test]
fn health_is_told_to_who_asks_and_metrics_to_this_machine_alone() {
    let proxied = "[[listeners]]\nname = \"proxied\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n\
        proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let setup = Setup::with(&format!(
        "[metrics]\naddresses = [\"10.1.0.0/16\"]\n{HTTP}{proxied}"
    ));
    let daemon = setup.start();
    let port = daemon.port_of("http");
    let (status, head, text) = get(TcpStream::connect(("127.0.0.1", port)).unwrap(), "/status");
    assert_eq!(
        (status, &*text),
        (200, "Node headgate@127.0.0.1 is started\nemqttd is running")
    );
    assert!(head.contains("cache-control: no-store"), "{head}");

    let port = daemon.port_of("proxied");
    let from = |address: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "PROXY TCP4 {address} 10.0.0.1 5000 80\r\n").unwrap();
        stream
    };
    assert_eq!(get(from("10.2.3.4"), "/health/live").0, 200);
    assert_eq!(get(from("10.2.3.4"), "/health/ready").2, "ready\n");
    assert_eq!(get(from("10.2.3.4"), "/nothing").0, 404);
    let (status, _, text) = get(from("10.2.3.4"), "/metrics");
    assert_eq!(status, 403);
    assert!(text.contains("metrics.addresses"), "{text}");
    assert_eq!(get(from("10.1.3.4"), "/metrics").0, 200);
    assert_eq!(get(from("127.0.0.1"), "/metrics").0, 200);
    let local = UnixStream::connect(setup.folder().join("http.sock")).unwrap();
    assert_eq!(get(local, "/metrics").0, 200);

    // A listener that is gone answers once more, and says that it was the last time.
    let mut kept = BufReader::new(TcpStream::connect(("127.0.0.1", daemon.port_of("http"))).unwrap());
    let mut ask = || {
        let request = b"GET /health/live HTTP/1.1\r\nHost: gateway\r\n\r\n";
        kept.get_mut().write_all(request).unwrap();
        answer(&mut kept)
    };
    assert!(!ask().1.contains("connection: close"));
    let file = setup.folder().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let gone = "[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
    assert!(text.contains(gone), "{text}");
    std::fs::write(file, text.replace(gone, "")).unwrap();
    daemon.ask(&["reload"]);
    let (status, head, _) = ask();
    assert_eq!(status, 200);
    assert!(head.contains("connection: close"), "{head}");
    daemon.stop();
}

/// A connection is kept for the next request; a head that is too long or does not come, and a peer that does not speak HTTP, are not waited for.
#[test]
fn who_wastes_an_http_connection_loses_it() {
    let setup = Setup::with(HTTP);
    let daemon = setup.start();
    let port = daemon.port_of("http");
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();

    let mut stream = BufReader::new(connect());
    for _ in 0..3 {
        let request = "GET /health/live HTTP/1.1\r\nHost: gateway\r\n\r\n";
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(answer(&mut stream).0, 200);
    }
    let long = format!("/{}", "x".repeat(100_000));
    let mut stream = connect();
    // It may be closed before all is written.
    let _ = write!(stream, "GET {long} HTTP/1.1\r\nHost: gateway\r\n\r\n");
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 4"),
        "it was taken: {text}"
    );
    // Half a head, nothing at all, another protocol: the gateway ends each by itself.
    for begun in [
        "GET /health/live HTTP/1.1\r\nHost:",
        "",
        "\u{10}\u{c}\0\u{4}MQTT\u{4}\u{2}\0\u{3c}\0\0",
    ] {
        let mut stream = connect();
        stream.write_all(begun.as_bytes()).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("200 OK"), "{begun:?}: {rest}");
    }
}

/// S06: lines go to a rotating file and to a syslog server, a level is changed for a time, and the last lines are in memory.
#[test]
fn the_log_goes_where_it_is_wanted_and_its_level_changes_at_run_time() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(HANG)).unwrap();
    let address = server.local_addr().unwrap();
    let setup = Setup::with(&format!(
        "[log]\nfile = {{ path = \"logs/gateway.log\", max_bytes = 4096, keep = 1 }}\n\
         syslog = {{ address = \"udp://{address}\", facility = \"local7\" }}\n{HTTP}"
    ));
    let daemon = setup.start();
    let mut bytes = [0; 4_096];
    let n = server.recv(&mut bytes).unwrap();
    let line = String::from_utf8_lossy(&bytes[..n]);
    // RFC 5424: facility local7 is 23, info is 6.
    assert!(
        line.starts_with("<190>1 ") && line.contains(" headgate "),
        "{line}"
    );

    let debug_lines = || {
        let lines = setup.command(&["log", "--last", "1000"]).unwrap();
        lines.iter().filter(|line| line["level"] == "DEBUG").count()
    };
    assert_eq!(debug_lines(), 0);
    let level = daemon.ask(&["log", "level", "debug", "--for", "1h"]);
    assert_eq!(
        (&level["level"], &level["configured"]),
        (&"debug".into(), &"info".into())
    );
    eventually("a line in detail", || {
        // What is no HTTP is told in detail only.
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port_of("http"))).unwrap();
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
        (debug_lines() > 0).then_some(())
    });
    daemon.ask(&["log", "level", "debug", "--for", "1s"]);
    eventually("the configured level", || {
        let level = daemon.ask(&["log", "level"]);
        (level["level"] == "info" && level["until"].is_null()).then_some(())
    });
    let (_, error) = setup.command(&["log", "level", "loud"]).unwrap_err();
    assert!(error.contains("allowed is off, error"), "{error}");

    let file = setup.folder().join("logs/gateway.log");
    eventually("the file to be put aside", || {
        drop(Peer::connect(daemon.port(Transport::Tcp), "visitor", true, 0).unwrap());
        daemon.ask(&["log", "level", "default"]);
        setup.folder().join("logs/gateway.log.1").exists().then_some(())
    });
    daemon.stop();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.len() <= 4_096, "{}", text.len());
    assert!(
        text.lines().last().unwrap().ends_with("gateway has stopped"),
        "the last lines are written: {text}"
    );
    setup.log_with(&["gateway has stopped"]);
}

/// The records of a trace.
fn records(daemon: &Daemon<'_>, name: &str) -> Vec<Value> {
    daemon.setup().command(&["trace", "show", name]).unwrap()
}

fn has(records: &[Value], what: &str, part: &str) -> bool {
    let mut records = records.iter();
    records.any(|record| record["what"] == what && record["text"].as_str().unwrap().contains(part))
}

/// S05: who was refused what and why, whatever it speaks; packets both ways, and no password.
#[test]
fn a_trace_tells_what_a_client_did_and_what_was_done_to_it() {
    let setup = Setup::with(
        "[[auth.acl]]\neffect = \"deny\"\ntopics = [\"secret/#\"]\n[[auth.acl]]\neffect = \"allow\"\ntopics = [\"#\"]\n",
    );
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    daemon.ask(&["trace", "start", "pump", "--client", "pump-7", "--payload", "4"]);
    daemon.ask(&[
        "trace",
        "start",
        "plant",
        "--topic",
        "plant/+/state",
        "--for",
        "1h",
    ]);
    daemon.ask(&["trace", "start", "here", "--address", "127.0.0.0/8"]);
    let (_, error) = setup
        .command(&["trace", "start", "pump", "--client", "pump-7"])
        .unwrap_err();
    assert!(error.contains("`pump` runs: stop it first"), "{error}");

    let (mut other, _) = Peer::connect(port, "other", true, 0).unwrap();
    other.subscribe("plant/#", Qos::AtMostOnce).unwrap();
    let (mut pump, _) = Peer::connect(port, "pump-7", true, 0).unwrap();
    for (n, topic) in [(1, "plant/7/state"), (2, "secret/7")] {
        pump.publish(topic, "running", Some((Qos::AtLeastOnce, n)), false)
            .unwrap();
        pump.recv().unwrap();
    }
    assert_eq!(next(&mut other).0, "plant/7/state");
    drop(pump);
    for trace in ["pump", "plant", "here"] {
        eventually("the records", || {
            let name = if trace == "plant" {
                "deliver topic=plant/7/state"
            } else {
                "leaves: closed"
            };
            has(&records(&daemon, trace), "bus", name).then_some(())
        });
        daemon.ask(&["trace", "stop", trace]);
    }

    // What it was about is told of one that is over, too.
    let list = daemon.ask(&["trace", "list"]);
    let traces = list.as_array().unwrap();
    let of_pump = traces.iter().find(|trace| trace["name"] == "pump").unwrap();
    assert_eq!(
        (&of_pump["running"], &of_pump["about"]["client"]),
        (&false.into(), &"pump-7".into())
    );
    let pump = records(&daemon, "pump");
    for (what, part) in [
        ("session", "none of this client id"),
        ("in", "CONNECT version=V5 client=pump-7 user=(none)"),
        ("log-in", "log-in is good, as anonymous client"),
        ("bus", "session opened"),
        ("out", "CONNACK Success (0x00)"),
        (
            "in",
            "PUBLISH topic=plant/7/state qos=1 retain=false dup=false id=1 payload=7",
        ),
        ("bus", "publish topic=plant/7/state qos=1"),
        ("out", "PUBACK id=1 Success (0x00)"),
        ("refused", "wanted to publish to secret/7: auth.acl[0]"),
        ("out", "PUBACK id=2 Not authorized (0x87)"),
    ] {
        assert!(has(&pump, what, part), "{what}: {part} is missing in {pump:#?}");
    }
    assert!(
        pump.iter()
            .all(|record| record["client"].is_null() || record["client"] == "pump-7")
    );
    assert!(pump.iter().any(|record| record["payload"] == "runn"), "{pump:#?}");
    let plant = records(&daemon, "plant");
    assert!(has(&plant, "bus", "publish topic=plant/7/state") && !has(&plant, "in", ""));
    assert!(plant.iter().any(|record| record["client"] == "other"));
    assert!(has(
        &records(&daemon, "here"),
        "in",
        "CONNECT version=V5 client=other"
    ));

    let traces = daemon.ask(&["trace", "list"]);
    assert_eq!(traces.as_array().unwrap().len(), 3);
    daemon.ask(&["trace", "delete", "here"]);
    assert_eq!(daemon.ask(&["trace", "list"]).as_array().unwrap().len(), 2);
}

/// The same over MQTT-SN: which REGISTER was rejected, and what waits in a sleeper's mailbox. MQTT-SN 1.2 §6.14
#[test]
fn a_trace_of_a_sensor_tells_its_mailbox_and_what_was_rejected() {
    let address = own_address();
    let setup = Setup::with(&format!("[[mqttsn]]\nname = \"sn\"\nbind = \"{address}\"\n"));
    let daemon = setup.start();
    let mut sensor = SnPeer::new(address, "sensor");
    sensor.connect(true, 60, None);
    sensor.subscribe("orders/#", 1);
    sensor.sleep(600);
    let (mut writer, _) = Peer::connect(daemon.port(Transport::Tcp), "writer", true, 0).unwrap();
    writer
        .publish("orders/1", "open", Some((Qos::AtLeastOnce, 1)), false)
        .unwrap();
    writer.recv().unwrap();

    daemon.ask(&["trace", "start", "mailbox", "--client", "sensor"]);
    assert_eq!(sensor.wake().len(), 1);
    let mut other = SnPeer::new(address, "other");
    daemon.ask(&["trace", "start", "names", "--client", "other"]);
    other.connect(true, 60, None);
    // §5.4.10: a name with a wildcard is none to be registered.
    other.raw(&[9, 0x0a, 0, 0, 0, 9, b'a', b'/', b'#']);
    eventually("the rejection", || {
        has(&records(&daemon, "names"), "out", "REGACK topic_id=").then_some(())
    });
    for trace in ["mailbox", "names"] {
        daemon.ask(&["trace", "stop", trace]);
    }
    let mailbox = records(&daemon, "mailbox");
    for (what, part) in [
        ("session", "Asleep, speaks mqtt-sn from 127."),
        ("queue", "topic=orders/1 qos=1 payload=4"),
        ("in", "PINGREQ client=sensor: a sleeper wakes"),
        ("bus", "deliver topic=orders/1 qos=1"),
        ("out", "REGISTER topic=orders/1"),
        ("in", "REGACK"),
        ("out", "PUBLISH topic=#"),
        ("in", "PUBACK"),
        ("out", "PINGRESP"),
    ] {
        assert!(
            has(&mailbox, what, part),
            "{what}: {part} is missing in {mailbox:#?}"
        );
    }
    let names = records(&daemon, "names");
    for (what, part) in [
        ("in", "CONNECT client=other clean=true"),
        ("log-in", "log-in is good, as anonymous client"),
        ("out", "CONNACK Accepted"),
        ("in", "REGISTER topic=a/# topic_id=0 id=9"),
        ("out", "id=9 NotSupported"),
    ] {
        assert!(has(&names, what, part), "{what}: {part} is missing in {names:#?}");
    }
}

/// S08: who does not acknowledge is on the list while that lasts, and who acknowledged late is too. What a client missed while it was away does not count.
#[test]
fn who_takes_long_is_on_the_list() {
    let setup = Setup::new();
    let daemon = setup.start();
    let port = daemon.port(Transport::Tcp);
    let (mut away, _) = Peer::connect(port, "away", false, 3600).unwrap();
    away.subscribe("plant/#", Qos::AtLeastOnce).unwrap();
    away.vanish();
    let (mut stuck, _) = Peer::connect(port, "stuck", true, 0).unwrap();
    let (mut late, _) = Peer::connect(port, "late", true, 0).unwrap();
    for peer in [&mut stuck, &mut late] {
        peer.subscribe("plant/#", Qos::AtLeastOnce).unwrap();
    }
    let (mut writer, _) = Peer::connect(port, "writer", true, 0).unwrap();
    writer
        .publish("plant/1", "x", Some((Qos::AtLeastOnce, 1)), false)
        .unwrap();
    writer.recv().unwrap();
    let slow = |client: &str| {
        let list = daemon.ask(&["slow"]);
        let mut list = list.as_array().unwrap().iter();
        list.any(|slow| slow["client"] == client && slow["seconds"].as_u64() >= Some(2))
    };
    eventually("both on the list", || {
        (slow("stuck") && slow("late")).then_some(())
    });
    let Packet::Publish(publish) = late.recv().unwrap() else {
        panic!("a message waits");
    };
    late.ack(AckKind::PubAck, publish.packet_id.unwrap().get())
        .unwrap();
    // Away for longer than that, and quick when it comes.
    let (mut away, _) = Peer::connect(port, "away", false, 3600).unwrap();
    let Packet::Publish(publish) = away.recv().unwrap() else {
        panic!("a message waits");
    };
    away.ack(AckKind::PubAck, publish.packet_id.unwrap().get())
        .unwrap();
    eventually("a new walk", || {
        let queued = daemon.ask(&["metrics", "slow_subscriber"]);
        let samples = queued[0]["samples"].as_array().unwrap().clone();
        let of = |client: &str| samples.iter().any(|sample| sample["labels"]["client"] == client);
        assert!(!of("away"), "{samples:?}");
        (of("stuck") && of("late")).then_some(())
    });
}

/// P02, P09: who comes and goes is told in EMQ 2's topics, whatever it speaks, with `proto`.
#[test]
fn presence_says_what_a_client_speaks() {
    let address = own_address();
    let setup = Setup::with(&format!("[[mqttsn]]\nname = \"sn\"\nbind = \"{address}\"\n"));
    let daemon = setup.start();
    let (mut watcher, _) = Peer::connect(daemon.port(Transport::Tcp), "watcher", true, 0).unwrap();
    watcher
        .subscribe("$SYS/brokers/+/clients/#", Qos::AtMostOnce)
        .unwrap();
    let mut sensor = SnPeer::new(address, "sensor");
    sensor.connect(true, 60, None);
    sensor.leave();
    drop(Peer::connect(daemon.port(Transport::Tcp), "pump", true, 0).unwrap());
    for (client, proto) in [("sensor", "mqtt-sn"), ("pump", "mqtt")] {
        for what in ["connected", "disconnected"] {
            // That it came itself may be told when it has subscribed.
            let (topic, body) = std::iter::repeat_with(|| next(&mut watcher))
                .find(|(topic, _)| !topic.contains("/clients/watcher/"))
                .expect("they are told");
            assert!(topic.ends_with(&format!("/clients/{client}/{what}")), "{topic}");
            assert_eq!(
                (&body["clientid"], &body["proto"]),
                (&client.into(), &proto.into())
            );
        }
    }
}
