//! A bridge that asks Azure's Device Provisioning Service for its hub. Two mosquittos with TLS are service and hub; a client answers as the service would.

use headgate_mqtt_codec::Qos;
use headgate_tests::blackbox::{Certificates, Daemon, Message, Mosquitto, Peer, Setup, Transport, free_port};
use std::os::unix::fs::PermissionsExt;

/// A hub never says so, but its name is not where the tests have it.
const HUB: &str = "hub-7.azure-devices.net";

fn secured(certificates: &Certificates, port: u16, more: &str) -> String {
    let Certificates { certificate, key, .. } = certificates;
    format!(
        "listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\n{more}",
        certificate.display(),
        key.display()
    )
}

fn listener(port: u16, filters: &[&str]) -> Peer {
    let (mut peer, _) = Peer::connect(port, "listener", true, 0).unwrap();
    for filter in filters {
        peer.subscribe(filter, Qos::AtLeastOnce).unwrap();
    }
    peer
}

/// The provisioning service.
struct Service {
    broker: Mosquitto,
    port: u16,
    peer: Peer,
}

impl Service {
    fn start(certificates: &Certificates) -> Self {
        let port = free_port();
        let broker = Mosquitto::start(&secured(certificates, port, ""));
        let peer = listener(
            broker.port(),
            &["$dps/registrations/PUT/#", "$dps/registrations/GET/#"],
        );
        Self { broker, port, peer }
    }

    /// Answers one registration as the service does: accepted, then assigned.
    fn assigns(&mut self, device: &str) {
        let asked = self.peer.hear();
        assert_eq!(asked.topic, "$dps/registrations/PUT/iotdps-register/?$rid=1");
        assert_eq!(
            asked.payload,
            "{\"payload\":{\"line\":3},\"registrationId\":\"gw-7\"}"
        );
        self.says(
            "202/?$rid=1&retry-after=1",
            "{\"operationId\":\"5.ab-c\",\"status\":\"assigning\"}",
        );
        let asked = self.peer.hear();
        let status = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.ab-c";
        assert_eq!(asked.topic, status);
        let answer = format!(
            "{{\"operationId\":\"5.ab-c\",\"status\":\"assigned\",\"registrationState\":\
             {{\"assignedHub\":\"{HUB}\",\"deviceId\":\"{device}\"}}}}"
        );
        self.says("200/?$rid=2", &answer);
    }

    fn says(&mut self, heading: &str, payload: &str) {
        let topic = format!("$dps/registrations/res/{heading}");
        let (mut peer, _) = Peer::connect(self.broker.port(), "says", true, 0).unwrap();
        peer.say(&[Message::new(&topic, 1, payload)]);
    }

    /// How often the gateway came to it.
    fn visits(&self) -> usize {
        self.broker.connects("gw-7")
    }
}

fn provisioned(ca: &std::path::Path, service: u16, hub: u16) -> Setup {
    Setup::with(&format!(
        "node = \"plant\"\n[[bridges]]\nname = \"cloud\"\naddresses = [\"mqtts://localhost:{hub}\"]\n\
         tls = {{ ca = {ca:?} }}\nuplink.restart_timeout = {{ base = \"1s\", cap = \"1s\" }}\n\
         preset = {{ cloud = \"azure-iot-dps\", id_scope = \"0ne1\", registration_id = \"gw-7\", \
         endpoint = \"localhost:{service}\", group_key = \"Z3JvdXA=\", payload = '{{\"line\": 3}}' }}\n"
    ))
}

fn publish(daemon: &Daemon<'_>, topic: &str, payload: &str) {
    let (mut publisher, _) = Peer::connect(daemon.port(Transport::Tcp), "p", true, 0).unwrap();
    publisher.say(&[Message::new(topic, 1, payload)]);
}

/// It is asked once, and again only when the hub refuses the login; events, twin and methods pass as Azure names them.
#[test]
fn a_hub_is_assigned_kept_over_restarts_and_asked_for_anew_when_it_refuses() {
    let authority = Setup::new();
    let certificates = authority.certificates();
    let mut service = Service::start(certificates);
    let hub_port = free_port();
    let mut hub = Mosquitto::start(&secured(certificates, hub_port, ""));
    let setup = provisioned(&certificates.ca, service.port, hub_port);
    let daemon = setup.start();
    daemon.until_bridge_is("cloud", "connecting");
    service.assigns("pump-1");
    daemon.until_bridge_is("cloud", "connected");
    assert_eq!((service.visits(), hub.connects("pump-1")), (1, 1));
    let login = format!("u'{HUB}/pump-1/?api-version=2021-04-12'");
    assert!(hub.log().contains(&login), "{}", hub.log());

    let mut cloud = listener(
        hub.port(),
        &[
            "devices/+/messages/events/#",
            "$iothub/twin/GET/#",
            "$iothub/methods/res/#",
        ],
    );
    let mut local = listener(daemon.port(Transport::Tcp), &["azure/#"]);
    publish(&daemon, "telemetry/t", "21.5");
    assert_eq!(
        cloud.hear(),
        Message::new("devices/pump-1/messages/events/", 1, "21.5")
    );
    publish(&daemon, "azure/twin/get/9", "");
    assert_eq!(cloud.hear(), Message::new("$iothub/twin/GET/?$rid=9", 1, ""));
    assert_eq!(local.hear().topic, "azure/twin/get/9");
    let (mut asking, _) = Peer::connect(hub.port(), "asking", true, 0).unwrap();
    asking.say(&[
        Message::new("$iothub/methods/POST/reboot/?$rid=1f", 1, "{}"),
        Message::new(
            "$iothub/twin/PATCH/properties/desired/?$version=2",
            1,
            "{\"v\":1}",
        ),
        Message::new("devices/pump-1/messages/devicebound/a=b", 1, "to the device"),
    ]);
    assert_eq!(
        local.hear(),
        Message::new("azure/methods/call/reboot/1f", 1, "{}")
    );
    assert_eq!(local.hear(), Message::new("azure/twin/desired", 1, "{\"v\":1}"));
    assert_eq!(
        local.hear(),
        Message::new("azure/devicebound/a=b", 1, "to the device")
    );
    publish(&daemon, "azure/methods/res/200/1f", "{}");
    assert_eq!(
        cloud.hear(),
        Message::new("$iothub/methods/res/200/?$rid=1f", 1, "{}")
    );

    // Only the gateway's own user may read what is kept. A restart asks nobody.
    let kept = setup.folder().join("data/bridges/cloud.assignment");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let daemon = daemon.restart();
    daemon.until_bridge_is("cloud", "connected");
    assert_eq!((service.visits(), hub.connects("pump-1")), (1, 2));

    // Another hub takes its place, and knows nobody.
    hub.stop();
    let mut other = Mosquitto::start(&secured(certificates, hub_port, "allow_anonymous false"));
    publish(&daemon, "telemetry/t", "meanwhile");
    service.assigns("pump-2");
    other.stop();
    hub.run();
    let mut cloud = listener(hub.port(), &["devices/+/messages/events/#"]);
    daemon.until_bridge_is("cloud", "connected");
    assert_eq!(
        cloud.hear(),
        Message::new("devices/pump-2/messages/events/", 1, "meanwhile"),
        "what was queued goes out under the new name"
    );
    assert!(!setup.log().contains("panicked"), "{}", setup.log());
    assert!(!setup.log().contains("Z3JvdXA="), "a key is never shown");
}

/// The way to the service, its answer, the way to the hub.
#[test]
fn the_test_of_a_bridge_shows_what_is_assigned() {
    let authority = Setup::new();
    let certificates = authority.certificates();
    let mut service = Service::start(certificates);
    let hub_port = free_port();
    let hub = Mosquitto::start(&secured(certificates, hub_port, ""));
    let setup = provisioned(&certificates.ca, service.port, hub_port);
    let daemon = setup.start();
    service.assigns("pump-1");
    daemon.until_bridge_is("cloud", "connected");
    let findings = std::thread::scope(|scope| {
        let asking = scope.spawn(|| setup.command(&["bridge", "test", "cloud"]));
        service.assigns("pump-1");
        asking.join().unwrap().expect("all is well")
    });
    let of = |step: &str| {
        let found = findings.iter().filter(|finding| finding["step"] == step);
        found
            .map(|finding| finding["ok"].as_bool().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("provisioning"), of("tls")),
        (vec![true], vec![true, true]),
        "{findings:?}"
    );
    assert_eq!(
        (of("login"), of("round_trip")),
        (vec![true], vec![true]),
        "{findings:?}"
    );
    let assigned = findings
        .iter()
        .find(|finding| finding["step"] == "provisioning")
        .unwrap();
    let detail = assigned["detail"].as_str().unwrap();
    assert!(detail.contains(HUB) && detail.contains("pump-1"), "{detail}");
    // A hub knows a device by its client identifier: the bridge made way, and is back.
    daemon.until_bridge_is("cloud", "connected");
    assert_eq!((hub.connects("pump-1"), hub.connects("pump-1-test")), (3, 0));
}
