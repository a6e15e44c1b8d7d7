//! Builds the parts of the gateway, wires them, runs them and stops them.

use headgate_bus::handle::{Clock, Hub};
use headgate_bus::{Bus, BusSettings};
use headgate_model::access::{AccessRequest, Identity};
use headgate_model::{AccessDecision, AccessPolicy, Answer, MountPoint, Question, Store};
use headgate_mqtt::{LinkFacts, MqttEndpoint, MqttSettings, MqttWire};
use headgate_shell::access::Answering;
use headgate_shell::{AccessService, AccessSession, ConnectionInfo, ConnectionLimit, Listener, ListenerSettings, Metrics};
use headgate_store::{Disk, SimStore};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Anonymous;
impl AccessPolicy for Anonymous {
    fn check(&self, _: &AccessRequest) -> AccessDecision {
        AccessDecision::Allow
    }
}
impl AccessService for Anonymous {
    fn session(&self, _: &ConnectionInfo) -> Box<dyn AccessSession> {
        Box::new(Anonymous)
    }
}
impl AccessSession for Anonymous {
    fn answer(self: Box<Self>, _: Question) -> Answering {
        let identity = Identity { username: None, policy: Arc::new(Anonymous) };
        Box::pin(async move { (self as Box<dyn AccessSession>, Answer::Allowed { identity, data: None }) })
    }
}

pub async fn run() {
    let clock = Clock::start();
    let mut bus = Bus::new(BusSettings::default(), clock.epoch(), 1).expect("defaults are good");
    let mut store = SimStore::open(&Disk::default());
    bus.load(store.load().expect("memory"));
    let hub = Hub::start(bus, clock, Box::new(store), |_| {}).expect("threads");
    let shutdown = CancellationToken::new();
    let settings = Arc::new(MqttSettings::default());
    let metrics = Arc::new(Metrics::default());
    let total = ConnectionLimit::new(None);
    let listener = Listener::bind(ListenerSettings::default(), &total).expect("bind");
    let (h, s) = (hub.clone(), shutdown.clone());
    let serving = listener.run(shutdown.clone(), move |connection| {
        let (hub, settings, metrics, shutdown) = (h.clone(), settings.clone(), metrics.clone(), s.clone());
        async move {
            let facts = LinkFacts { peer: connection.info.peer.to_string(), peer_port: 0, mount: MountPoint::default(), nonce: rand() };
            let endpoint = MqttEndpoint::new(settings.clone(), facts, hub.clock().now());
            let wire = MqttWire::new(settings.max_packet_size);
            let access = Anonymous.session(&connection.info);
            headgate_shell::drive(endpoint, wire, connection, &hub, access, metrics, shutdown).await;
        }
    });
    tokio::spawn(serving);
    tokio::signal::ctrl_c().await.expect("signals");
    shutdown.cancel();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    hub.stop();
}

fn rand() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    u128::from_ne_bytes(bytes)
}
