//! What connections and subscriptions cost as they grow to a million:
//! `cargo run --release -p headgate-tests --example scale -- [--json] [--plot docs/scale.svg] [MILLIONTHS]`
//!
//! *Connections*: links over pipes in memory, for no process may open a million sockets here; each has a task, an endpoint and a session as over TCP,
//! and two pipes where TCP has a registration with the system's poll. *Subscriptions*: ten for each session, in equal parts exact, `+` at the
//! end, `#` at the end, and `+` at the beginning; each publish matches one of each kind, anywhere in the index, and goes to four sessions.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures and progress are its output"
)]

use bytes::Bytes;
use headgate_access::AccessService;
use headgate_auth::{Access, AuthSettings};
use headgate_bus::handle::{Clock, Hub};
use headgate_bus::{Bus, BusOutputs, BusSettings};
use headgate_model::PeerFacts;
use headgate_model::bus::Presence;
use headgate_model::{
    AckToken, Admitted, BusCommand, BusEvent, EndpointId, Entrant, Instant, Message, MountPoint, Open,
    Subscription, SubscriptionOptions, Topic, WallTime,
};
use headgate_mqtt::{MqttEndpoint, MqttSettings, MqttWire};
use headgate_shell::{Connection, Connections, Metrics, drive};
use headgate_store::{Disk, SimStore};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::TaskTracker;

/// Sessions share subscriptions among them.
const PER_SESSION: usize = 10;
/// Publishes that one figure stands for.
const PUBLISHES: usize = 200_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let plot = arguments.iter().position(|argument| argument == "--plot");
    let most = arguments
        .last()
        .and_then(|last| last.parse().ok())
        .unwrap_or(1_000_000);
    let sizes = [1_000, 10_000, 100_000, 1_000_000].map(|size: usize| size.min(most));
    // Each in a process of its own would be cleaner still; the difference of two readings of one process is what counts.
    let subscriptions: Vec<Value> = sizes.iter().map(|size| subscribed(*size)).collect();
    let connections: Vec<Value> = sizes.iter().map(|size| connected(*size)).collect();
    if json {
        println!(
            "{}",
            json!({ "subscriptions": subscriptions, "connections": connections })
        );
    } else {
        table(
            &subscriptions,
            &["subscriptions", "bytes_each", "publish_us", "delivery_us"],
        );
        table(&connections, &["connections", "bytes_each"]);
    }
    if let Some(path) = plot.and_then(|at| arguments.get(at + 1)) {
        std::fs::write(path, drawing(&subscriptions)).expect("the plot can be written");
    }
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    pages * 4_096
}

fn processor_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells");
    let nanos: u64 = stat
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .expect("a number");
    nanos as f64 / 1_000.0
}

fn subscribed(count: usize) -> Value {
    eprintln!("{count} subscriptions");
    let mut bus = Bus::new(BusSettings::default(), WallTime(0), 1).expect("default settings are valid");
    let mut out = BusOutputs::default();
    let now = Instant::START;
    let before = resident();
    let kinds = (count / 4).max(1);
    let sessions = (count / PER_SESSION).max(4);
    for number in 0..sessions {
        bus.handle(
            EndpointId(number as u64 + 2),
            open(&format!("c{number}")),
            now,
            &mut out,
        );
        out.events.clear();
        out.notices.clear();
    }
    for number in 0..count {
        let at = number / 4;
        let filter = match number % 4 {
            0 => format!("plant/{at}/temp"),
            1 => format!("plant/{at}/+"),
            2 => format!("plant/{at}/#"),
            _ => format!("+/{at}/temp"),
        };
        let options = SubscriptionOptions::default();
        let subscription = Subscription::parse(&filter.into(), options, &MountPoint::default());
        // Neighbours in the index belong to sessions far apart.
        let session = number % sessions;
        let command = BusCommand::Subscribe {
            token: AckToken(0),
            subscriptions: vec![Admitted::of_gateway(subscription.expect("a filter"))],
        };
        bus.handle(EndpointId(session as u64 + 2), command, now, &mut out);
        out.events.clear();
    }
    while bus.deadline() == Some(Instant::START) {
        bus.handle_timeout(now, &mut out);
    }
    out.events.clear();
    let bytes = resident().saturating_sub(before);

    bus.handle(EndpointId(1), open("publisher"), now, &mut out);
    out.events.clear();
    let topics: Vec<Topic> = (0..PUBLISHES)
        .map(|n| {
            Topic::try_from(format!("plant/{}/temp", n.wrapping_mul(7_919) % kinds).as_str()).expect("a name")
        })
        .collect();
    let payload = Bytes::from_static(&[7; 64]);
    let (mut delivered, mut least) = (0, f64::MAX);
    for _ in 0..3 {
        delivered = 0;
        let begin = processor_us();
        for topic in &topics {
            let message = Message::new(topic.clone(), payload.clone());
            let command = BusCommand::Publish {
                message: Admitted::of_gateway(message),
                ack: None,
                dedup: None,
            };
            bus.handle(EndpointId(1), command, now, &mut out);
            for (_, event) in out.events.drain(..) {
                if let BusEvent::Delivery(delivery) = event {
                    delivered += 1;
                    Message::recycle(delivery.message);
                }
            }
        }
        least = least.min(processor_us() - begin);
    }
    json!({
        "subscriptions": count,
        "bytes_each": bytes / count as u64,
        "publish_us": least / PUBLISHES as f64,
        "delivery_us": least / f64::from(delivered),
    })
}

fn open(client: &str) -> BusCommand {
    BusCommand::Open(Box::new(Open {
        client: Entrant::of_gateway(client.into(), Presence::default()),
        clean_start: true,
        expiry: std::time::Duration::ZERO,
        will: None.into(),
        receive_maximum: 20,
        credit: u32::MAX,
        forgeable: false,
        wants_expired: false,
        link: None,
    }))
}

fn connected(count: usize) -> Value {
    eprintln!("{count} connections");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads can be started");
    let clock = Clock::start();
    let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).expect("default settings are valid");
    let store = Box::new(SimStore::open(&Disk::default()));
    let hub = Hub::start(bus, clock, store).expect("threads can be started");
    let connections = Arc::new(Connections::new(
        hub.clone(),
        &Arc::new(Metrics::default()),
        TaskTracker::new(),
    ));
    let access =
        Access::load(&AuthSettings::default(), std::path::Path::new(".")).expect("no file is needed");
    // Nobody shall be late while the others come.
    let mqtt = Arc::new(MqttSettings::default());
    let mut ends = Vec::with_capacity(count);
    let before = resident();
    let facts = PeerFacts {
        peer: "memory".into(),
        ..PeerFacts::default()
    };
    runtime.block_on(async {
        for number in 0..count {
            let (connection, mut end) = Connection::memory("scale", 64);
            let endpoint = MqttEndpoint::new(Arc::clone(&mqtt), facts.clone(), clock.now());
            let session = access.session(&connection.info);
            let wire = MqttWire::new(mqtt.max_packet_size, mqtt.max_connect_size);
            tokio::spawn(drive(endpoint, wire, connection, session, &connections));
            let mut connect = *b"\x10\x15\x00\x04MQTT\x04\x02\x00\x00\x00\x09c00000000";
            for (place, digit) in connect[15..]
                .iter_mut()
                .rev()
                .zip(format!("{number:08}").bytes().rev())
            {
                *place = digit;
            }
            end.write_all(&connect).await.expect("the link is there");
            let mut connack = [0; 4];
            end.read_exact(&mut connack).await.expect("the link answers");
            assert_eq!(connack, [0x20, 2, 0, 0], "it is let in");
            ends.push(end);
        }
    });
    let bytes = resident().saturating_sub(before);
    let clients = hub.stats().clients;
    assert_eq!(clients, count, "all are connected");
    drop(ends);
    hub.stop();
    runtime.shutdown_background();
    json!({ "connections": count, "bytes_each": bytes / count as u64 })
}

fn table(rows: &[Value], columns: &[&str]) {
    println!("| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let cells = columns.iter().map(|column| match &row[column] {
            Value::Number(number) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or(0.0)),
            other => other.to_string(),
        });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

/// Cost of a publish over the number of subscriptions, the latter by powers of ten.
fn drawing(rows: &[Value]) -> String {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| {
            Some((
                row["subscriptions"].as_f64()?.log10(),
                row["publish_us"].as_f64()?,
            ))
        })
        .collect();
    let top = points
        .iter()
        .map(|point| point.1)
        .fold(0.0, f64::max)
        .ceil()
        .max(1.0);
    let x = |log: f64| 60.0 + (log - 3.0) / 3.0 * 420.0;
    let y = |us: f64| 220.0 - us / top * 180.0;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 520 270\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"520\" height=\"270\" fill=\"white\"/>\n\
         <text x=\"60\" y=\"22\">CPU µs of a publish to four sessions, by subscriptions in the index</text>\n\
         <path d=\"M60 40V220H500\" fill=\"none\" stroke=\"black\"/>\n",
    );
    for (log, name) in [
        (3.0, "1,000"),
        (4.0, "10,000"),
        (5.0, "100,000"),
        (6.0, "1,000,000"),
    ] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"240\" text-anchor=\"middle\">{name}</text>",
            x(log)
        );
    }
    for part in [0.0, 0.5, 1.0] {
        let us = top * part;
        let _ = writeln!(
            svg,
            "<text x=\"52\" y=\"{:.0}\" text-anchor=\"end\">{us}</text>",
            y(us) + 4.0
        );
    }
    let path: Vec<String> = points
        .iter()
        .map(|(log, us)| format!("{:.1},{:.1}", x(*log), y(*us)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (log, us) in &points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#06c\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{us:.2}</text>",
            x(*log),
            y(*us),
            x(*log),
            y(*us) - 10.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
