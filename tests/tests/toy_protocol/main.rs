//! Protocols that the gateway does not know are added, one over connections and one over datagrams: everything but their own logic (`line.rs`, `notes.rs`) is in this
//! file. docs/adapters.md shows it.

mod line;
mod notes;

use headgate_access::AccessService;
use headgate_auth::{Access, AuthSettings};
use headgate_bus::handle::{Clock, Hub};
use headgate_bus::{Bus, BusSettings};
use headgate_model::{MountPoint, Rewriter, StreamProtocol};
use headgate_mqtt::{Mqtt, MqttSettings};
use headgate_shell::settings::{DatagramKind, DatagramSettings, SerialSettings};
use headgate_shell::{
    ConnectionLimit, DatagramListener, Listener, ListenerFor, ListenerKind, ListenerSettings, Metrics,
    Protocols, Serving,
};
use headgate_store::{Disk, SimStore};
use line::Line;
use notes::Notes;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A gateway that serves nobody yet.
fn gateway() -> Serving {
    let clock = Clock::start();
    let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).unwrap();
    let store = SimStore::open(&Disk::default());
    let folder = tempfile::tempdir().unwrap();
    let access = Access::load(&AuthSettings::default(), folder.path()).unwrap();
    Serving {
        hub: Hub::start(bus, clock, Box::new(store)).unwrap(),
        metrics: Arc::new(Metrics::default()),
        access: Arc::new(access) as Arc<dyn AccessService>,
        open: TaskTracker::new(),
        tracer: headgate_shell::Tracer::default(),
        total: headgate_shell::ConnectionLimit::default(),
    }
}

/// A listener for each of these protocols, by their names, with the mount point `plant/`.
fn listen(gateway: &Serving, names: &[&'static str]) -> Vec<SocketAddr> {
    listen_by(gateway, ListenerKind::Tcp, names)
}

fn listen_by(gateway: &Serving, kind: ListenerKind, names: &[&'static str]) -> Vec<SocketAddr> {
    let mut protocols = Protocols::new(gateway.clone());
    protocols.register(Mqtt::new(&MqttSettings::default(), "toy"));
    protocols.register(Line::new(&(), "toy"));
    let listen = |name: &&'static str| {
        let settings = ListenerSettings {
            bind: "127.0.0.1:0".into(),
            protocol: (*name).to_owned(),
            kind,
            ..ListenerSettings::default()
        };
        let mount = MountPoint::parse("plant/").unwrap();
        let handler = protocols.handler(&settings.protocol, mount, &Arc::new(Rewriter::default()), None);
        let listener = Listener::bind(settings, &ConnectionLimit::new(None)).expect("a port is free");
        let address = listener.local_addr().expect("it is TCP");
        tokio::spawn(listener.run(CancellationToken::new(), handler.expect("it is registered")));
        address
    };
    names.iter().map(listen).collect()
}

fn start(names: &[&'static str]) -> Vec<SocketAddr> {
    listen(&gateway(), names)
}

/// A socket for notes, with the mount point `plant/`.
fn listen_for_notes(gateway: &Serving) -> SocketAddr {
    // The system's choice is not told to the outside: a port that was free a moment ago.
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = DatagramSettings {
        mount_point: Some("plant/".into()),
        ..DatagramSettings::udp_at("notes", &free.to_string())
    };
    let listener = ListenerFor::<Notes>(&settings);
    assert_eq!(listener.faults(), []);
    let bound = listener.bind().expect("the port is free");
    tokio::spawn(bound.serve(gateway, &Arc::new(Rewriter::default())));
    free
}

/// A client that speaks lines.
struct Client(BufReader<TcpStream>);

impl Client {
    fn named(name: &str, at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut client = Self(BufReader::new(stream));
        assert_eq!(client.ask(&format!("HELLO {name}")), "OK");
        client
    }

    fn ask(&mut self, line: &str) -> String {
        self.0
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        self.hear()
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        line.trim_end().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_protocol_speaks_to_the_bus_and_passes_the_gate() {
    let at = start(&["line"])[0];
    tokio::task::spawn_blocking(move || {
        let mut reader = Client::named("reader", at);
        assert_eq!(reader.ask("SUB valve/+"), "OK");
        let mut writer = Client::named("writer", at);
        assert_eq!(writer.ask("PUB valve/7 open"), "OK");
        assert_eq!(
            reader.hear(),
            "MSG valve/7 open",
            "the mount point is put on and taken off"
        );
        assert_eq!(writer.ask("PUB a/# x"), "ERR no topic");
        assert!(writer.ask("SUB a/#/b").starts_with("ERR "));
        assert_eq!(writer.ask("BYE"), "");
    })
    .await
    .unwrap();
}

/// One connection has several sessions: one that ends with it, and one for each subscription that outlives it.
#[tokio::test(flavor = "multi_thread")]
async fn a_durable_subscription_is_a_session_of_its_own() {
    let at = start(&["line"])[0];
    tokio::task::spawn_blocking(move || {
        let mut writer = Client::named("writer", at);
        let mut reader = Client::named("reader", at);
        assert_eq!(reader.ask("KEEP log alarm/#"), "OK");
        assert_eq!(reader.ask("KEEP heat temperature/+"), "OK");
        assert_eq!(reader.ask("SUB alarm/#"), "OK");
        assert_eq!(writer.ask("PUB alarm/1 fire"), "OK");
        let mut heard = [reader.hear(), reader.hear()];
        heard.sort();
        assert_eq!(heard, ["MSG alarm/1 fire", "MSG@log alarm/1 fire"]);
        assert_eq!(reader.ask("FORGET heat"), "OK");
        assert_eq!(reader.ask("BYE"), "");
        assert_eq!(writer.ask("PUB alarm/2 smoke"), "OK");
        assert_eq!(writer.ask("PUB temperature/1 40"), "OK");
        let mut reader = Client::named("reader", at);
        let mut heard = [reader.ask("KEEP log alarm/#"), reader.hear()];
        heard.sort();
        assert_eq!(
            heard,
            ["MSG@log alarm/2 smoke", "OK"],
            "it waited, the other did not"
        );
        assert_eq!(
            reader.ask("KEEP heat temperature/+"),
            "OK",
            "what is forgotten is made anew"
        );
        assert_eq!(writer.ask("PUB temperature/1 41"), "OK");
        assert_eq!(reader.hear(), "MSG@heat temperature/1 41");
    })
    .await
    .unwrap();
}

/// Another connection takes over one of the sessions; the others stay with the connection that had it.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_sessions_is_taken_over() {
    let at = start(&["line"])[0];
    tokio::task::spawn_blocking(move || {
        let mut first = Client::named("reader", at);
        assert_eq!(first.ask("KEEP log alarm/#"), "OK");
        assert_eq!(first.ask("SUB valve/+"), "OK");
        let mut second = Client::named("reader.log", at);
        assert_eq!(first.hear(), "GONE log");
        assert_eq!(second.ask("PUB valve/7 open"), "OK");
        assert_eq!(first.hear(), "MSG valve/7 open");
        // Its place is free again, as often as one likes.
        for _ in 0..20 {
            assert_eq!(first.ask("KEEP heat temperature/+"), "OK");
            assert_eq!(first.ask("FORGET heat"), "OK");
        }
    })
    .await
    .unwrap();
}

/// A client tells its subscriptions to one filter apart by numbers of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_numbers_its_subscriptions() {
    let at = start(&["line"])[0];
    tokio::task::spawn_blocking(move || {
        let mut reader = Client::named("reader", at);
        for subscribe in ["SUB valve/+ AS 7", "SUB valve/+ AS 8", "SUB valve/#"] {
            assert_eq!(reader.ask(subscribe), "OK");
        }
        let mut writer = Client::named("writer", at);
        assert_eq!(writer.ask("PUB valve/1 open"), "OK");
        assert_eq!(reader.hear(), "MSG#7#8 valve/1 open");
    })
    .await
    .unwrap();
}

/// Who speaks MQTT and who speaks lines meet on the bus.
#[tokio::test(flavor = "multi_thread")]
async fn two_protocols_meet_on_the_bus() {
    let at = start(&["line", "mqtt"]);
    tokio::task::spawn_blocking(move || {
        let mut reader = Client::named("reader", at[0]);
        assert_eq!(reader.ask("SUB #"), "OK");
        let mut mqtt = TcpStream::connect(at[1]).unwrap();
        // CONNECT as `m` with a clean session, then PUBLISH of `hi` to `t` at QoS 0. MQTT 3.1.1 §3.1, §3.3
        mqtt.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01m\x30\x05\x00\x01thi")
            .unwrap();
        assert_eq!(reader.hear(), "MSG t hi");
    })
    .await
    .unwrap();
}

/// A client that asks for what there is, again and again, as a browser behind a bad proxy does.
struct Browser {
    at: SocketAddr,
    session: &'static str,
    /// Frames that came and were not heard yet.
    came: String,
}

impl Browser {
    fn post(&self, what: &str, body: &str) -> String {
        let (session, length) = (self.session, body.len());
        let mut stream = TcpStream::connect(self.at).unwrap();
        let head = format!("POST /sockjs/0/{session}/{what} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head has an end");
        body.to_owned()
    }

    /// One line, of whatever messages.
    fn hear(&mut self) -> String {
        while !self.came.contains('\n') {
            let frame = self.post("xhr", "");
            if let Some(messages) = frame.strip_prefix('a') {
                self.came += &serde_json::from_str::<Vec<String>>(messages).unwrap().concat();
            }
        }
        let (line, rest) = self.came.split_once('\n').expect("there is one");
        let (line, rest) = (line.to_owned(), rest.to_owned());
        self.came = rest;
        line
    }

    fn ask(&mut self, line: &str) -> String {
        let message = serde_json::to_string(&[format!("{line}\n")]).unwrap();
        assert_eq!(self.post("xhr_send", &message), "");
        self.hear()
    }
}

/// A protocol whose frames are text comes to browsers by SockJS, and meets the others on the bus.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_protocol_is_spoken_over_sockjs() {
    let gateway = gateway();
    let web = listen_by(&gateway, ListenerKind::Sockjs, &["line"])[0];
    let plain = listen(&gateway, &["line"])[0];
    tokio::task::spawn_blocking(move || {
        let mut browser = Browser {
            at: web,
            session: "reader",
            came: String::new(),
        };
        assert_eq!(browser.post("xhr", ""), "o\n");
        assert_eq!(browser.ask("HELLO reader"), "OK");
        assert_eq!(browser.ask("SUB valve/+"), "OK");
        let mut writer = Client::named("writer", plain);
        assert_eq!(writer.ask("PUB valve/7 \u{2028}open\u{20ac}"), "OK");
        assert_eq!(browser.hear(), "MSG valve/7 \u{2028}open\u{20ac}");
        // The protocol's goodbye ends the session, after its last words.
        assert_eq!(browser.post("xhr_send", "[\"BYE\\n\"]"), "");
        assert_eq!(browser.post("xhr", ""), "c[3000,\"Go away!\"]\n");
    })
    .await
    .unwrap();
}

/// A name that nobody registered is no protocol.
#[tokio::test]
async fn an_unknown_protocol_is_refused() {
    let protocols = Protocols::new(gateway());
    let handler = protocols.handler(
        "stomp",
        MountPoint::default(),
        &Arc::new(Rewriter::default()),
        None,
    );
    assert!(handler.is_none());
}

/// A client that sends notes.
struct Pen(UdpSocket);

impl Pen {
    fn named(name: &str, at: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let pen = Self(socket);
        assert_eq!(pen.ask(&format!("HELLO {name}")), "OK");
        pen
    }

    fn ask(&self, note: &str) -> String {
        self.0.send(note.as_bytes()).unwrap();
        self.hear()
    }

    fn hear(&self) -> String {
        let mut bytes = [0; 1_500];
        let len = self.0.recv(&mut bytes).expect("an answer in time");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }
}

/// Who sends notes over UDP and who speaks lines over TCP meet on the bus, and pass the same gate.
#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_over_datagrams_passes_the_gate() {
    let gateway = gateway();
    let (lines, notes) = (listen(&gateway, &["line"])[0], listen_for_notes(&gateway));
    tokio::task::spawn_blocking(move || {
        let mut reader = Client::named("reader", lines);
        assert_eq!(reader.ask("SUB valve/+"), "OK");
        let pen = Pen::named("pen", notes);
        assert_eq!(pen.ask("SUB valve/8"), "OK");
        assert_eq!(pen.ask("PUB valve/7 open"), "OK");
        assert_eq!(
            reader.hear(),
            "MSG valve/7 open",
            "the mount point is put on and taken off"
        );
        assert_eq!(
            reader.ask("PUB valve/8 shut"),
            "MSG valve/8 shut",
            "to itself it comes first"
        );
        assert_eq!(reader.hear(), "OK");
        assert_eq!(pen.hear(), "MSG valve/8 shut");
        assert_eq!(
            pen.ask("PUB $SYS/x 1"),
            "OK",
            "below its mount point it is a topic like any other"
        );
        assert_eq!(pen.ask("PUB a/# 1"), "ERR no topic");
        assert_eq!(pen.ask("SUB a/#/b"), "ERR you may not");
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.connect(notes).unwrap();
        assert_eq!(Pen(stranger).ask("PUB valve/7 open"), "ERR say HELLO");
    })
    .await
    .unwrap();
}

/// A protocol without a serial form says so where its settings are checked.
#[test]
fn a_protocol_may_have_no_serial_form() {
    let settings = DatagramSettings {
        kind: DatagramKind::Serial,
        bind: None,
        serial: Some(SerialSettings {
            port: "/dev/ttyUSB0".into(),
            ..SerialSettings::default()
        }),
        ..DatagramSettings::udp_at("notes", "")
    };
    let faults = ListenerFor::<Notes>(&settings).faults();
    let [fault] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert_eq!(
        fault.to_string(),
        "kind: notes does not go over serial lines, allowed are `udp` and `dtls`"
    );
}
