//! The HTTP API from outside: who may ask what, what is written down, and that what handlers give is what the OpenAPI document says.

mod access;
mod attacks;
mod audit;
mod document;
mod settings;
mod streams;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_mqtt_codec::{Packet, PacketId, Publish, Qos, Utf8};
use headgate_tests::blackbox::{Daemon, HttpAnswer, HttpClient, Peer, Setup, Transport, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PASSWORD: &str = "correct horse battery";

/// A gateway with a listener of HTTP.
fn setup() -> Setup {
    Setup::with("[[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n")
}

/// Whoever asks over HTTP without showing anything.
fn anybody(daemon: &Daemon<'_>) -> HttpClient {
    HttpClient::at(daemon.port_of("http"))
}

/// An API key of this role: whoever shows it, and the header that it shows.
fn key_and_header(daemon: &Daemon<'_>, role: &str) -> (HttpClient, String) {
    let made = HttpClient::control(daemon).post("/api/v1/keys", &json!({ "name": role, "role": role }));
    let made = made.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let header = format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!("{id}:{secret}"))
    );
    (anybody(daemon).basic(id, secret), header)
}

fn key(daemon: &Daemon<'_>, role: &str) -> HttpClient {
    key_and_header(daemon, role).0
}

/// Publishes at QoS 1, and waits until it is acknowledged.
fn publish(peer: &mut Peer, topic: &str, payload: &str, retain: bool) {
    let publish = Publish {
        qos: Qos::AtLeastOnce,
        retain,
        topic: Utf8::try_from(topic.to_owned()).unwrap(),
        packet_id: PacketId::new(7),
        payload: payload.to_owned().into(),
        ..Publish::default()
    };
    peer.send(&Packet::Publish(publish)).unwrap();
    while !matches!(peer.recv().unwrap(), Packet::Ack(_)) {}
}

/// The first administrator is there.
fn set_up(daemon: &Daemon<'_>) {
    let new = json!({ "name": "root", "password": PASSWORD, "role": "administrator" });
    let made = HttpClient::control(daemon).post("/api/v1/administrators", &new);
    assert_eq!(made.status, 200, "{}", made.text());
}

fn cookie_of(answer: &HttpAnswer) -> String {
    let cookie = answer.header("set-cookie").expect("a session has a cookie");
    cookie.split(';').next().unwrap().to_owned()
}

/// A session of the administrator: it shows its cookie and its token.
fn log_in(daemon: &Daemon<'_>) -> HttpClient {
    let anybody = anybody(daemon);
    let answer = anybody.post(
        "/api/v1/session",
        &json!({ "name": "root", "password": PASSWORD }),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let csrf = answer.json()["csrf"].as_str().unwrap().to_owned();
    anybody
        .with("Cookie", &cookie_of(&answer))
        .with("X-CSRF-Token", &csrf)
}
