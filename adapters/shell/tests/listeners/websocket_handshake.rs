//! The HTTP request that opens a WebSocket.

use std::time::Duration;

use headgate_access::PeerAddr;
use headgate_shell::settings::{WebSocketFacts, WebSocketSettings};
use headgate_shell::{ListenerKind, ListenerSettings, RefuseReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, is_closed, local, within};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: gate.example\r\nUpgrade: websocket\r\nConnection: keep-alive, \
                       Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const MQTT: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

fn start(change: impl FnOnce(&mut WebSocketSettings)) -> Bench {
    let mut websocket = WebSocketSettings::default();
    change(&mut websocket);
    Bench::start(ListenerSettings {
        kind: ListenerKind::Ws,
        websocket: Some(websocket),
        ..local()
    })
}

/// Sends a request; returns the head of the answer, and whether the connection stays open.
async fn ask(bench: &Bench, request: &str) -> String {
    let mut peer = bench.connect().await;
    peer.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let n = within(peer.read_buf(&mut answer)).await.unwrap();
        if n == 0 {
            break;
        }
    }
    String::from_utf8(answer).unwrap()
}

async fn status(bench: &Bench, request: &str) -> u16 {
    ask(bench, request)
        .await
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

fn accepted(headers: &str) -> String {
    format!("{REQUEST}{MQTT}{headers}\r\n")
}

/// The key and its answer are those of RFC 6455 §1.3.
#[tokio::test]
async fn a_proper_request_is_answered_and_described() {
    let mut bench = start(|_| {});
    let headers = "User-Agent: probe/1\r\nCookie: a=1\r\nOrigin: https://x.example\r\n";
    let request = accepted(headers).replace("/mqtt HTTP", "/mqtt?floor=2 HTTP");
    let answer = ask(&bench, &request).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{answer}"
    );

    let http = bench.next().await.info.http.unwrap();
    assert_eq!(
        (http.path.as_str(), http.query.as_deref()),
        ("/mqtt", Some("floor=2"))
    );
    assert_eq!(http.host.as_deref(), Some("gate.example"));
    assert_eq!(http.user_agent.as_deref(), Some("probe/1"));
    assert_eq!(http.cookies.as_deref(), Some("a=1"));
    assert_eq!(http.origin.as_deref(), Some("https://x.example"));
}

/// The server names the subprotocol that it takes, "mqtt" wherever it is offered. [MQTT-6.0.0-4]
/// [3.1.1 MQTT-6.0.0-4]
#[tokio::test]
async fn the_subprotocol_is_chosen_from_what_the_client_offers() {
    let cases = [
        ("mqtt", "mqtt"),
        ("mqttv3.1, mqtt", "mqtt"),
        ("chat,mqttv3.1.1", "mqttv3.1.1"),
        ("mqttv3.1", "mqttv3.1"),
        ("chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
    ];
    for (offered, chosen) in cases {
        let mut bench = start(|_| {});
        let answer = ask(
            &bench,
            &format!("{REQUEST}Sec-WebSocket-Protocol: {offered}\r\n\r\n"),
        )
        .await;
        assert!(
            answer.contains(&format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n")),
            "{offered}: {answer}"
        );
        assert_eq!(
            bench.next().await.info.http.unwrap().subprotocol.as_deref(),
            Some(chosen)
        );
    }
}

/// A client must offer "mqtt". [MQTT-6.0.0-3] [3.1.1 MQTT-6.0.0-3]
#[tokio::test]
async fn without_a_known_subprotocol_the_request_is_refused() {
    let mut bench = start(|_| {});
    assert_eq!(status(&bench, &format!("{REQUEST}\r\n")).await, 400);
    assert_eq!(
        status(
            &bench,
            &format!("{REQUEST}Sec-WebSocket-Protocol: chat, MQTT\r\n\r\n")
        )
        .await,
        400
    );
    bench.refused(RefuseReason::Http, 2).await;
    bench.nobody_was_let_in();
}

/// STOMP's clients need not know its subprotocols, which are younger than it is.
#[tokio::test]
async fn a_protocol_of_text_needs_no_subprotocol() {
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Ws,
        protocol: "stomp".into(),
        facts: WebSocketFacts {
            subprotocols: &["v12.stomp"],
            is_text: true,
        },
        ..local()
    });
    let request = REQUEST.replace("/mqtt", "/stomp");
    for offer in ["", "Sec-WebSocket-Protocol: chat\r\n"] {
        let answer = ask(&bench, &format!("{request}{offer}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert_eq!(bench.next().await.info.http.unwrap().subprotocol, None);
    }
    let answer = ask(
        &bench,
        &format!("{request}Sec-WebSocket-Protocol: v12.stomp\r\n\r\n"),
    )
    .await;
    assert!(answer.contains("Sec-WebSocket-Protocol: v12.stomp"), "{answer}");
}

/// Some platforms cannot send the header.
#[tokio::test]
async fn the_subprotocol_may_be_waived() {
    let mut bench = start(|websocket| websocket.require_subprotocol = Some(false));
    let answer = ask(&bench, &format!("{REQUEST}\r\n")).await;
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && !answer.contains("Sec-WebSocket-Protocol"),
        "{answer}"
    );
    assert_eq!(bench.next().await.info.http.unwrap().subprotocol, None);
}

#[tokio::test]
async fn other_requests_get_the_answer_that_http_has_for_them() {
    let good = accepted("");
    let cases = [
        (404, good.replace("/mqtt HTTP", "/other HTTP")),
        (405, good.replace("GET", "POST")),
        (426, "GET /mqtt HTTP/1.1\r\nHost: gate.example\r\n\r\n".into()),
        (426, good.replace("Version: 13", "Version: 8")),
        (400, good.replace("Sec-WebSocket-Key", "Sec-WebSocket-Kye")),
        (400, good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")),
        (400, good.replace("HTTP/1.1", "HTTP/1.0")),
        (400, "\u{10}\u{c}\0\u{4}MQTT\u{5}".into()),
        (431, accepted(&format!("X-Long: {}\r\n", "x".repeat(9000)))),
        (431, accepted(&"X-Many: 1\r\n".repeat(100))),
    ];
    let mut bench = start(|_| {});
    for (count, (expected, request)) in (1..).zip(cases) {
        assert_eq!(status(&bench, &request).await, expected, "{request}");
        bench.refused(RefuseReason::Http, count).await;
    }
    bench.nobody_was_let_in();
}

/// RFC 9110 §15.5.6, §15.5.22: these answers name what would do.
#[tokio::test]
async fn an_answer_names_what_would_do() {
    let bench = start(|_| {});
    let answer = ask(&bench, &accepted("").replace("GET", "PUT")).await;
    assert!(answer.contains("\r\nAllow: GET\r\n"), "{answer}");
    let answer = ask(&bench, &accepted("").replace("Version: 13", "Version: 7")).await;
    assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
    assert!(answer.contains("\r\nUpgrade: websocket\r\n"), "{answer}");
}

#[tokio::test]
async fn the_head_may_come_byte_by_byte() {
    let mut bench = start(|_| {});
    let mut peer = bench.connect().await;
    peer.set_nodelay(true).unwrap();
    for byte in accepted("").bytes() {
        peer.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    bench.next().await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_waited_for_only_so_long() {
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Ws,
        handshake_timeout: Duration::from_millis(300),
        ..local()
    });
    let mut silent = bench.connect().await;
    let mut slow = bench.connect().await;
    slow.write_all(&REQUEST.as_bytes()[..40]).await.unwrap();
    is_closed(&mut silent).await;
    is_closed(&mut slow).await;
    bench.refused(RefuseReason::Timeout, 2).await;
    bench.nobody_was_let_in();
}

#[tokio::test]
async fn a_page_from_elsewhere_may_not_connect() {
    let mut bench = start(|websocket| websocket.origins = vec!["https://gate.example".into()]);
    assert_eq!(
        status(&bench, &accepted("Origin: https://evil.example\r\n")).await,
        403
    );
    assert_eq!(
        status(&bench, &accepted("Origin: https://gate.example.evil.example\r\n")).await,
        403
    );
    assert_eq!(status(&bench, &accepted("Origin: null\r\n")).await, 403);
    bench.refused(RefuseReason::Http, 3).await;
    bench.nobody_was_let_in();

    assert_eq!(
        status(&bench, &accepted("Origin: HTTPS://gate.example\r\n")).await,
        101
    );
    assert_eq!(status(&bench, &accepted("")).await, 101); // no browser
}

#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_trusted_forwarder() {
    let forwarded = accepted("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Port: 40000\r\n");

    let mut bench = start(|_| {});
    assert_eq!(status(&bench, &forwarded).await, 101);
    let info = bench.next().await.info;
    assert!(
        matches!(info.peer, PeerAddr::Ip(peer) if peer.ip().is_loopback()),
        "{:?}",
        info.peer
    );
    assert_eq!(info.http.unwrap().forwarded_for.as_deref(), Some("192.0.2.7"));

    let mut bench = start(trust_loopback);
    assert_eq!(status(&bench, &forwarded).await, 101);
    let info = bench.next().await.info;
    assert_eq!(info.peer, PeerAddr::Ip("192.0.2.7:40000".parse().unwrap()));
    assert!(info.via.unwrap().ip().is_loopback());
}

#[tokio::test]
async fn what_a_client_made_up_in_front_of_the_forwarders_words_is_not_believed() {
    let cases = [
        ("203.0.113.1, 192.0.2.7", "192.0.2.7:0"),
        ("203.0.113.1, 192.0.2.7, 127.0.0.9", "192.0.2.7:0"), // over two forwarders
        ("203.0.113.1\r\nX-Forwarded-For: 192.0.2.7", "192.0.2.7:0"),
        ("nonsense, 192.0.2.7:5", "192.0.2.7:5"),
        ("2001:db8::7", "[2001:db8::7]:0"),
        ("[2001:db8::7]:99", "[2001:db8::7]:99"),
        ("127.0.0.8", "127.0.0.8:0"), // a forwarder itself
    ];
    for (header, peer) in cases {
        let mut bench = start(trust_loopback);
        assert_eq!(
            status(&bench, &accepted(&format!("X-Forwarded-For: {header}\r\n"))).await,
            101,
            "{header}"
        );
        assert_eq!(
            bench.next().await.info.peer,
            PeerAddr::Ip(peer.parse().unwrap()),
            "{header}"
        );
    }
    let bench = start(trust_loopback);
    assert_eq!(
        status(&bench, &accepted("X-Forwarded-For: 192.0.2.7, unknown\r\n")).await,
        400
    );
}

#[tokio::test]
async fn address_rules_and_limits_hold_for_the_client_behind_the_forwarder() {
    let mut websocket = WebSocketSettings::default();
    trust_loopback(&mut websocket);
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Ws,
        websocket: Some(websocket),
        access: serde_json::from_str(r#"["deny 203.0.113.0/24"]"#).unwrap(),
        max_connections_per_ip: Some(1),
        ..local()
    });
    let from = |address| accepted(&format!("X-Forwarded-For: {address}\r\n"));

    assert_eq!(status(&bench, &from("203.0.113.9")).await, 403);
    bench.refused(RefuseReason::Address, 1).await;
    assert_eq!(status(&bench, &from("192.0.2.7")).await, 101);
    let _connection = bench.next().await;
    assert_eq!(status(&bench, &from("192.0.2.7")).await, 403);
    bench.refused(RefuseReason::Limit, 1).await;
    assert_eq!(status(&bench, &from("192.0.2.8")).await, 101);
}

fn trust_loopback(websocket: &mut WebSocketSettings) {
    websocket.trusted_forwarders = vec!["127.0.0.0/8".parse().unwrap()];
}
