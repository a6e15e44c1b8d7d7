//! What an operator sees of a running gateway: alarms.

use headgate_mqtt_codec::{Packet, Qos};
use headgate_tests::blackbox::{Certificates, Daemon, Peer, Setup, Transport, eventually};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::fs;
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
