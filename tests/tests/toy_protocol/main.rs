//! A protocol that the gateway does not know is added: everything but its own logic (`line.rs`) is in this file. docs/adapters.md shows it.

mod line;

use headgate_access::AccessService;
use headgate_auth::{Access, AuthSettings};
use headgate_bus::handle::{Clock, Hub};
use headgate_bus::{Bus, BusSettings};
use headgate_model::{MountPoint, Rewriter, StreamProtocol};
use headgate_mqtt::{Mqtt, MqttSettings};
use headgate_shell::{ConnectionLimit, Listener, ListenerSettings, Metrics, Protocols, Serving};
use headgate_store::{Disk, SimStore};
use line::Line;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A gateway with a listener for each of these protocols, by their names, with the mount point `plant/`.
fn start(names: &[&'static str]) -> Vec<SocketAddr> {
    let clock = Clock::start();
    let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).unwrap();
    let store = SimStore::open(&Disk::default());
    let folder = tempfile::tempdir().unwrap();
    let access = Access::load(&AuthSettings::default(), folder.path()).unwrap();
    let mut protocols = Protocols::new(Serving {
        hub: Hub::start(bus, clock, Box::new(store)).unwrap(),
        metrics: Arc::new(Metrics::default()),
        access: Arc::new(access) as Arc<dyn AccessService>,
        open: TaskTracker::new(),
    });
    protocols.register(Mqtt::new(&MqttSettings::default(), "toy"));
    protocols.register(Line::new(&(), "toy"));
    let listen = |name: &&'static str| {
        let settings = ListenerSettings {
            bind: "127.0.0.1:0".into(),
            protocol: (*name).to_owned(),
            ..ListenerSettings::default()
        };
        let mount = MountPoint::parse("plant/").unwrap();
        let handler = protocols.handler(&settings.protocol, mount, &Arc::new(Rewriter::default()));
        let listener = Listener::bind(settings, &ConnectionLimit::new(None)).expect("a port is free");
        let address = listener.local_addr().expect("it is TCP");
        tokio::spawn(listener.run(CancellationToken::new(), handler.expect("it is registered")));
        address
    };
    names.iter().map(listen).collect()
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
        assert_eq!(
            reader.ask("KEEP log alarm/#"),
            "MSG@log alarm/2 smoke",
            "it waited, the other did not"
        );
        assert_eq!(reader.hear(), "OK");
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

/// Another connection takes over one of the sessions; the connection that had it goes.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_sessions_is_taken_over() {
    let at = start(&["line"])[0];
    tokio::task::spawn_blocking(move || {
        let mut first = Client::named("reader", at);
        assert_eq!(first.ask("KEEP log alarm/#"), "OK");
        let mut second = Client::named("reader.log", at);
        assert_eq!(first.hear(), "", "it was closed");
        assert_eq!(second.ask("PUB alarm/1 fire"), "OK");
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

/// A name that nobody registered is no protocol.
#[tokio::test]
async fn an_unknown_protocol_is_refused() {
    let clock = Clock::start();
    let bus = Bus::new(BusSettings::default(), clock.epoch(), 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let access = Access::load(&AuthSettings::default(), folder.path()).unwrap();
    let protocols = Protocols::new(Serving {
        hub: Hub::start(bus, clock, Box::new(SimStore::open(&Disk::default()))).unwrap(),
        metrics: Arc::new(Metrics::default()),
        access: Arc::new(access) as Arc<dyn AccessService>,
        open: TaskTracker::new(),
    });
    let handler = protocols.handler("stomp", MountPoint::default(), &Arc::new(Rewriter::default()));
    assert!(handler.is_none());
}
