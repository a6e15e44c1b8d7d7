//! Spans of messages for OpenTelemetry, with the real binary and a collector made of a socket: OTLP over HTTP in JSON, and `traceparent` of W3C Trace Context.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{
    Daemon, Message, Peer, Setup, SnPeer, Transport, eventually, free_port, headgate,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector: what it was sent.
struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// The first requests are answered like this, all others with 200.
    fn start(refusals: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let spans = Arc::<Mutex<Vec<Value>>>::default();
        let taken = Arc::clone(&spans);
        std::thread::spawn(move || {
            let mut refusals = refusals.into_iter();
            for stream in listener.incoming() {
                let Some(request) = stream
                    .ok()
                    .and_then(|stream| read(&stream).map(|body| (stream, body)))
                else {
                    continue;
                };
                let (mut stream, body) = request;
                let status = refusals.next().unwrap_or("200 OK");
                if status.starts_with("200") {
                    taken.lock().unwrap().extend(spans_of(&body));
                }
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
                );
            }
        });
        Self { port, spans }
    }

    fn settings(&self, more: &str) -> String {
        format!(
            "[telemetry]\notlp_endpoint = \"http://127.0.0.1:{}\"\n{more}",
            self.port
        )
    }

    /// Waits for so many spans.
    fn take(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} spans"), || {
            let mut spans = self.spans.lock().unwrap();
            (spans.len() >= count).then(|| std::mem::take(&mut *spans))
        })
    }
}

/// The body of a POST to the path of OTLP.
fn read(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(told) = line.strip_prefix("content-length: ") {
            length = told.parse().unwrap();
        }
        assert!(
            !line.starts_with("content-type:") || line.ends_with("application/json"),
            "{line}"
        );
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

fn spans_of(body: &Value) -> Vec<Value> {
    let of_resource = body["resourceSpans"].as_array().unwrap();
    let names = of_resource[0]["resource"]["attributes"].as_array().unwrap();
    assert!(
        names
            .iter()
            .any(|a| a["key"] == "service.name" && a["value"]["stringValue"] == "headgate")
    );
    let scopes = of_resource
        .iter()
        .flat_map(|r| r["scopeSpans"].as_array().unwrap());
    scopes
        .flat_map(|scope| scope["spans"].as_array().unwrap().clone())
        .collect()
}

fn attribute<'v>(span: &'v Value, key: &str) -> &'v str {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|attribute| attribute["key"] == key);
    let value = &found.unwrap_or_else(|| panic!("{key} of {span}"))["value"];
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.unwrap()
}

/// What `headgate sub` with `-F %j` is told of one message, while `then` publishes it.
fn heard(daemon: &Daemon<'_>, filter: &str, qos: &str, then: impl FnOnce()) -> Value {
    let port = daemon.port(Transport::Tcp).to_string();
    let child = Command::new(headgate())
        .args([
            "sub", "-p", &port, "-i", "reader", "-t", filter, "-q", qos, "-C", "1", "-W", "30", "-F", "%j",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the reader", || {
        let found = daemon.setup().command(&["subscriptions", "--client", "reader"]);
        let rows = found.ok()?.pop()?;
        rows.as_array().is_some_and(|rows| !rows.is_empty()).then_some(())
    });
    then();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn publish(daemon: &Daemon<'_>, topic: &str, words: &[&str]) {
    let port = daemon.port(Transport::Tcp).to_string();
    let done = Command::new(headgate())
        .args([
            "pub", "-p", &port, "-i", "sensor", "-t", topic, "-m", "21", "-q", "1",
        ])
        .args(words)
        .status();
    assert!(done.unwrap().success());
}

fn traceparent(message: &Value) -> Option<String> {
    let all = message["properties"]["user-properties"].as_array()?;
    let mut found = all.iter().filter_map(|pair| pair["traceparent"].as_str());
    found.next().map(str::to_owned)
}

/// [S04] A message that carries `traceparent` gets a span below its publisher's, which it carries on; its deliveries get spans below that. `tracestate` passes.
#[test]
fn a_message_is_followed_from_its_publisher_to_its_receivers() {
    let collector = Collector::start(vec!["503 Service Unavailable"]);
    let setup = Setup::with(&collector.settings("max_receivers = 2\n"));
    let daemon = setup.start();
    let mut others: Vec<Peer> = (0..3)
        .map(|n| {
            Peer::connect(daemon.port(Transport::Tcp), &format!("other{n}"), true, 0)
                .unwrap()
                .0
        })
        .collect();
    for other in &mut others {
        other.subscribe("other/#", Qos::AtMostOnce).unwrap();
    }
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let message = heard(&daemon, "plant/+", "1", || {
        let parent = format!("traceparent={parent}");
        publish(
            &daemon,
            "plant/7",
            &[
                "--user-property",
                &parent,
                "--user-property",
                "tracestate=vendor=1",
            ],
        );
    });
    // The collector was not well at first: it is sent again.
    let spans = collector.take(2);
    let of = |name: &str| {
        let found: Vec<&Value> = spans.iter().filter(|span| span["name"] == name).collect();
        assert_eq!(found.len(), 1, "{spans:?}");
        found[0]
    };
    let (received, delivered) = (of("receive"), of("deliver"));
    for span in [received, delivered] {
        assert_eq!(
            (&span["traceId"], &span["traceState"]),
            (&TRACE.into(), &"vendor=1".into())
        );
        assert_eq!(attribute(span, "messaging.destination.name"), "plant/7");
        assert_eq!(attribute(span, "headgate.outcome"), "acknowledged");
        assert_eq!(attribute(span, "headgate.listener"), "tcp");
        let [start, end] = ["startTimeUnixNano", "endTimeUnixNano"]
            .map(|key| span[key].as_str().unwrap().parse::<u64>().unwrap());
        assert!(0 < start && start <= end);
    }
    assert_eq!(received["parentSpanId"], PARENT);
    assert_eq!(delivered["parentSpanId"], received["spanId"]);
    assert_eq!(
        [received, delivered].map(|span| attribute(span, "messaging.client.id")),
        ["sensor", "reader"]
    );
    assert_eq!(
        [received, delivered].map(|span| span["kind"].as_u64().unwrap()),
        [5, 4]
    );
    let on = format!("00-{TRACE}-{}-01", received["spanId"].as_str().unwrap());
    assert_eq!(traceparent(&message), Some(on));

    // Three receivers, of which two may have a span; QoS 0 is handed on.
    publish(
        &daemon,
        "other/1",
        &["--user-property", &format!("traceparent={parent}")],
    );
    others.iter_mut().for_each(|other| drop(other.hear()));
    // Who says that it is not recorded is not recorded, and who says nothing neither: the ratio is 0.
    let off = format!("00-{TRACE}-{PARENT}-00");
    let message = heard(&daemon, "off", "0", || {
        publish(
            &daemon,
            "off",
            &["--user-property", &format!("traceparent={off}")],
        );
    });
    assert_eq!(traceparent(&message), Some(off));
    let message = heard(&daemon, "none", "0", || publish(&daemon, "none", &[]));
    assert_eq!(traceparent(&message), None);
    let spans = collector.take(3);
    let handed = spans.iter().filter(|span| span["name"] == "deliver");
    let handed: BTreeSet<&str> = handed.map(|span| attribute(span, "headgate.outcome")).collect();
    assert_eq!(
        (spans.len(), handed),
        (3, BTreeSet::from(["handed"])),
        "{spans:?}"
    );
    let metrics = daemon.ask(&["metrics"]);
    assert!(metrics.to_string().contains("headgate_spans_total"), "{metrics}");
}

/// STOMP has it as a header, in both directions.
#[test]
fn stomp_clients_say_and_hear_it() {
    let collector = Collector::start(Vec::new());
    let port = free_port();
    let setup = Setup::with(&format!(
        "[[listeners]]\nname = \"stomp\"\nprotocol = \"stomp\"\nbind = \"127.0.0.1:{port}\"\n{}",
        collector.settings("")
    ));
    let daemon = setup.start();
    let parent = format!("traceparent=00-{TRACE}-{PARENT}-01");
    let stomp = |name: &str, words: &[&str]| {
        let mut command = Command::new(headgate());
        command.args([name, "-p", &port.to_string()]).args(words);
        command
    };
    let sub = stomp("stomp-sub", &["-t", "a", "-C", "1", "-W", "30", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the reader", || {
        let topics = daemon.ask(&["topics"]);
        topics
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
            .then_some(())
    });
    let done = stomp("stomp-pub", &["-t", "a", "-m", "x", "-H", &parent]).status();
    assert!(done.unwrap().success());
    let output = sub.wait_with_output().unwrap();
    let spans = collector.take(2);
    let received = spans.iter().find(|span| span["name"] == "receive").unwrap();
    assert_eq!(
        (&received["traceId"], &received["parentSpanId"]),
        (&TRACE.into(), &PARENT.into())
    );
    assert_eq!(attribute(received, "headgate.listener"), "stomp");
    let told = String::from_utf8(output.stdout).unwrap();
    let on = format!("00-{TRACE}-{}-01", received["spanId"].as_str().unwrap());
    assert!(told.contains(&on), "{told}");
}

/// Two gateways with a bridge between them: one trace from the sensor behind the first to the reader at the second.
#[test]
fn a_bridge_carries_the_trace_on() {
    let collector = Collector::start(Vec::new());
    let cloud = Setup::with(&format!("node = \"cloud\"\n{}", collector.settings("")));
    let remote = cloud.start();
    let edge = Setup::with(&format!(
        "node = \"edge\"\n[[bridges]]\nname = \"up\"\nversion = \"mqttv50\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\ntopics = [\"plant/# out 1\"]\n{}",
        remote.port(Transport::Tcp),
        collector.settings("")
    ));
    let daemon = edge.start();
    daemon.until_bridge_is("up", "connected");
    let parent = format!("traceparent=00-{TRACE}-{PARENT}-01");
    heard(&remote, "plant/7", "1", || {
        publish(&daemon, "plant/7", &["--user-property", &parent]);
    });
    let spans = collector.take(4);
    // Each is below the one before it.
    let mut above = PARENT;
    for (name, client) in [("receive", "sensor"), ("deliver", "$bridge/up")] {
        let mut below = spans.iter().filter(|span| span["parentSpanId"] == above);
        let found =
            below.find(|span| span["name"] == name && attribute(span, "messaging.client.id") == client);
        let found = found.unwrap_or_else(|| panic!("{name} {client}: {spans:?}"));
        if name == "receive" {
            above = found["spanId"].as_str().unwrap();
        }
    }
    let second = spans
        .iter()
        .find(|span| span["parentSpanId"] == above && span["name"] == "receive");
    let second = second.expect("that of the other gateway");
    assert_eq!(attribute(second, "messaging.client.id"), "up.edge");
    let last = spans
        .iter()
        .find(|span| span["parentSpanId"] == second["spanId"])
        .unwrap();
    assert_eq!(attribute(last, "messaging.client.id"), "reader");
    assert!(spans.iter().all(|span| span["traceId"] == TRACE));
}

/// Messages without a word of it are followed by chance, also of clients that cannot say it: MQTT-SN and MQTT 3. A reload begins and ends it, and nobody is disconnected.
#[test]
fn chance_follows_what_says_nothing() {
    let collector = Collector::start(Vec::new());
    let sn_port = free_port();
    let setup = Setup::with(&format!(
        "[[mqttsn]]\nname = \"field\"\nbind = \"127.0.0.1:{sn_port}\"\n"
    ));
    let daemon = setup.start();
    let mut sensor = SnPeer::new(format!("127.0.0.1:{sn_port}").parse().unwrap(), "sensor");
    sensor.connect(true, 60, None);
    sensor.publish(&Message::new("a/b", 1, "1"));
    let file = setup.folder().join("headgate.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        format!("{before}{}", collector.settings("sample_ratio = 1.0\n")),
    )
    .unwrap();
    daemon.ask(&["reload"]);
    eventually("the first span", || {
        sensor.publish(&Message::new("a/b", 1, "2"));
        (!collector.spans.lock().unwrap().is_empty()).then_some(())
    });
    collector.take(1);
    let message = heard(&daemon, "a/b", "1", || {
        sensor.publish(&Message::new("a/b", 1, "3"));
    });
    let told = traceparent(&message).expect("it says so now");
    let spans = eventually("its spans", || {
        let spans = collector.spans.lock().unwrap().clone();
        let trace = &told[3..35];
        let of_it: Vec<Value> = spans
            .into_iter()
            .filter(|span| span["traceId"] == trace)
            .collect();
        (of_it.len() == 2).then_some(of_it)
    });
    let received = spans.iter().find(|span| span["name"] == "receive").unwrap();
    assert_eq!(received.get("parentSpanId"), None, "it is the first of its trace");
    assert_eq!(attribute(received, "messaging.client.id"), "sensor");
    assert_eq!(attribute(received, "headgate.listener"), "field");
    assert_eq!(&told[36..52], received["spanId"].as_str().unwrap());

    std::fs::write(&file, before).unwrap();
    daemon.ask(&["reload"]);
    let message = heard(&daemon, "a/b", "1", || {
        sensor.publish(&Message::new("a/b", 1, "4"));
    });
    assert_eq!(traceparent(&message), None);
    daemon.stop();
}

/// A collector that is not there holds nobody up; what has no room is counted.
#[test]
fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let nobody = free_port();
    let setup = Setup::with(&format!(
        "[telemetry]\notlp_endpoint = \"http://127.0.0.1:{nobody}\"\nsample_ratio = 1.0\nmax_queued = 10\n"
    ));
    let daemon = setup.start();
    let mut reader = Peer::connect(daemon.port(Transport::Tcp), "reader", true, 0)
        .unwrap()
        .0;
    reader.subscribe("t", Qos::AtMostOnce).unwrap();
    let mut publisher = Peer::connect(daemon.port(Transport::Tcp), "publisher", true, 0)
        .unwrap()
        .0;
    let messages: Vec<Message> = (0..2_000).map(|n| Message::new("t", 0, &n.to_string())).collect();
    publisher.say(&messages);
    publisher.say(&[Message::new("t", 1, "end")]);
    assert_eq!(reader.until("end").len(), 2_000);
    eventually("dropped spans", || {
        let metrics = daemon.ask(&["metrics"]);
        let families = metrics.as_array().cloned().unwrap_or_default();
        let spans = families
            .iter()
            .find(|family| family["name"] == "headgate_spans_total")?;
        let mut samples = spans["samples"].as_array()?.iter();
        let dropped = samples.find(|sample| sample["labels"]["result"] == "dropped")?;
        (dropped["value"].as_f64()? > 100.0).then_some(())
    });
    setup.log_with(&["spans are not taken"]);
}
