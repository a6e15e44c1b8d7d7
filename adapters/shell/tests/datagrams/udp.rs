//! UDP sockets.

use crate::bench::{Gate, Porter, Running, run, run_anew, within};
use headgate_access::PeerAddr;
use headgate_model::bus::{NEVER, Presence};
use headgate_model::{BusCommand, Entrant, Metric, Open, SessionKey};
use headgate_shell::settings::{MulticastSettings, UdpSettings};
use headgate_shell::{ClientRate, UdpTransport};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::net::UdpSocket;

fn settings(bind: &str) -> UdpSettings {
    UdpSettings {
        bind: bind.into(),
        ..UdpSettings::default()
    }
}

fn serve(settings: &UdpSettings) -> (Running, u16) {
    let link = UdpTransport::bind("words", None, settings).expect("it can be bound");
    let port = link.local_addr().port();
    (run(link, Porter::default(), Gate(None)), port)
}

/// A client that takes answers from this address only.
async fn client(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn hear(socket: &UdpSocket) -> String {
    let mut bytes = vec![0; 65_535];
    let len = within(socket.recv(&mut bytes)).await.unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

/// Asks until there is an answer: the port may not be open yet.
async fn echo_at_last(socket: &UdpSocket, n: u64) {
    let text = format!("echo {n}");
    let answered = async {
        let mut bytes = [0; 100];
        loop {
            let _ = socket.send(text.as_bytes()).await;
            let soon = Duration::from_millis(100);
            let heard = tokio::time::timeout(soon, socket.recv(&mut bytes)).await;
            if matches!(heard, Ok(Ok(len)) if bytes[..len] == *text.as_bytes()) {
                return;
            }
        }
    };
    within(answered).await;
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// A datagram that makes the server panic takes its connections with it, and nothing else: sessions, port and counters are there for the next life.
#[tokio::test]
async fn a_panic_is_survived() {
    let first = UdpTransport::bind("words", None, &settings("127.0.0.1:0")).unwrap();
    let (address, stats) = (first.local_addr(), first.stats());
    let mut first = Some(first);
    let links = move || {
        first.take().unwrap_or_else(|| {
            let link = UdpTransport::bind("words", None, &settings(&address.to_string())).unwrap();
            link.counting_on(Arc::clone(&stats))
        })
    };
    let running = run_anew(links, Porter::default(), Gate(None));
    let client = client(address).await;
    for n in 1..=3 {
        echo_at_last(&client, n).await;
        client.send(b"open durable").await.unwrap();
        while hear(&client).await != "opened" {}
        client.send(b"panic").await.unwrap();
        let restarted = async {
            while running.stats.get("restarts") != Some(n) || running.hub.stats().clients > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(restarted).await;
        assert_eq!(running.hub.stats().durable_sessions, 1);
    }
    echo_at_last(&client, 4).await;
    let received = running.stats.get("datagrams/received").unwrap();
    assert!(received >= 7, "counted on: {received}");
}

/// A server that is started anew gets the notes of its sessions back before it sees a datagram, page by page.
#[tokio::test]
async fn notes_come_back_before_the_first_datagram() {
    let first = UdpTransport::bind("words", None, &settings("127.0.0.1:0")).unwrap();
    let (address, stats) = (first.local_addr(), first.stats());
    let mut first = Some(first);
    let links = move || {
        first.take().unwrap_or_else(|| {
            let link = UdpTransport::bind("words", None, &settings(&address.to_string())).unwrap();
            link.counting_on(Arc::clone(&stats))
        })
    };
    let running = run_anew(links, Porter::default(), Gate(None));
    let client = client(address).await;
    echo_at_last(&client, 1).await;
    client.send(b"pages").await.unwrap();
    assert_eq!(hear(&client).await, "[]", "there are none yet");
    for name in ["durable/b", "durable/a", "another"] {
        client.send(format!("remember {name}").as_bytes()).await.unwrap();
        assert_eq!(hear(&client).await, "opened");
    }
    client.send(b"panic").await.unwrap();
    echo_at_last(&client, 2).await;
    client.send(b"restored").await.unwrap();
    let both = ["a", "b"].map(|name| format!("durable/{name}=note of durable/{name} attached=false"));
    assert_eq!(hear(&client).await, both.join(", "));

    let mut many = running.hub.group();
    let key = |index| SessionKey { index, generation: 1 };
    for n in 0..2_100 {
        let client = format!("durable/c{n}");
        let mut commands = vec![
            (key(n), BusCommand::Open(Box::new(kept(&client)))),
            (key(n), BusCommand::SetNote(client.into())),
        ];
        many.submit(&mut commands);
    }
    client.send(b"panic").await.unwrap();
    echo_at_last(&client, 3).await;
    client.send(b"pages").await.unwrap();
    assert_eq!(hear(&client).await, "[1000, 1000, 102]");
}

/// A session that is kept.
fn kept(client: &str) -> Open {
    Open {
        client: Entrant::of_gateway(client.into(), Presence::default()),
        clean_start: false,
        expiry: NEVER,
        will: None.into(),
        receive_maximum: 1,
        credit: 1,
        forgeable: false,
        wants_expired: false,
        link: None,
    }
}

/// Far more than one batch, from several peers at once: everybody gets its own answers, in order.
#[tokio::test]
async fn every_peer_gets_its_answers() {
    let (running, port) = serve(&settings("127.0.0.1:0"));
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(client(at("127.0.0.1", port)).await);
    }
    for n in 0..20 {
        for (who, client) in clients.iter().enumerate() {
            client.send(format!("echo {who} {n}").as_bytes()).await.unwrap();
        }
    }
    for (who, client) in clients.iter().enumerate() {
        for n in 0..20 {
            assert_eq!(hear(client).await, format!("echo {who} {n}"));
        }
    }
    assert_eq!(running.stats.get("datagrams/received"), Some(160));
    assert_eq!(running.stats.get("datagrams/sent"), Some(160));
    assert_eq!(running.metrics.get(Metric::PacketsReceived), 160);
}

/// What holds for all clients of the gateway holds for these: who comes new when it is overloaded is told, and what is more than all may send waits in the system, to be
/// read later; what is due then is done meanwhile.
#[tokio::test]
async fn all_clients_of_the_gateway_share_its_limits() {
    let (running, port) = serve(&settings("127.0.0.1:0"));
    let client = client(at("127.0.0.1", port)).await;
    for (overloaded, answer) in [(false, "yes"), (true, "no"), (false, "yes")] {
        running.total.set_overloaded(overloaded);
        client.send(b"new").await.unwrap();
        assert_eq!(hear(&client).await, answer);
    }
    let rate = ClientRate {
        packets_per_second: 20,
        burst_packets: 1,
        ..ClientRate::default()
    };
    running.total.set_shared_rates(rate, ClientRate::default());
    let clock = running.hub.clock();
    let start = clock.now();
    for n in 0..10 {
        client.send(format!("echo {n}").as_bytes()).await.unwrap();
        assert_eq!(hear(&client).await, format!("echo {n}"));
    }
    // The first is let through, and one more after each 50 ms.
    assert!(clock.now().since(start) >= Duration::from_millis(8 * 50));
    client.send(b"later").await.unwrap();
    assert_eq!(hear(&client).await, "later");
}

/// A client of UDP that is connected hears nothing from an address that it did not speak to.
#[tokio::test]
async fn answers_come_from_the_address_that_was_spoken_to() {
    for (bind, addresses) in [
        ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.9.9.9"][..]),
        ("[::]:0", &["::1", "127.0.0.1", "127.0.0.3"][..]),
        ("[::1]:0", &["::1"][..]),
    ] {
        let (_running, port) = serve(&settings(bind));
        for address in addresses {
            let client = client(at(address, port)).await;
            client.send(b"echo here").await.unwrap();
            assert_eq!(hear(&client).await, "echo here", "{bind} {address}");
        }
    }
}

#[tokio::test]
async fn the_longest_and_the_shortest_datagram_are_taken() {
    let (_running, port) = serve(&settings("127.0.0.1:0"));
    let client = client(at("127.0.0.1", port)).await;
    client.send(b"").await.unwrap();
    let longest = format!("echo {}", "x".repeat(65_507 - 5));
    client.send(longest.as_bytes()).await.unwrap();
    assert_eq!(hear(&client).await, longest);
}

#[tokio::test]
async fn whom_the_rules_forbid_is_not_heard() {
    let (running, port) = serve(&UdpSettings {
        access: serde_json::from_str(r#"["deny 127.0.0.2", "allow all"]"#).unwrap(),
        ..settings("0.0.0.0:0")
    });
    let forbidden = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    forbidden
        .send_to(b"echo no", at("127.0.0.1", port))
        .await
        .unwrap();
    let allowed = client(at("127.0.0.1", port)).await;
    allowed.send(b"echo yes").await.unwrap();
    assert_eq!(hear(&allowed).await, "echo yes");
    assert_eq!(running.stats.get("datagrams/refused"), Some(1));
    assert!(
        forbidden.try_recv(&mut [0; 64]).is_err(),
        "its datagram came before, and had no answer"
    );
}

/// Nobody listens any more where an answer goes: that is told to us, and disturbs nobody.
#[tokio::test]
async fn a_peer_that_is_gone_disturbs_nobody() {
    let (_running, port) = serve(&settings("127.0.0.1:0"));
    for _ in 0..20 {
        let gone = client(at("127.0.0.1", port)).await;
        gone.send(b"echo gone").await.unwrap();
        gone.send(&[0xff; 300]).await.unwrap();
        drop(gone);
        let there = client(at("127.0.0.1", port)).await;
        there.send(b"echo there").await.unwrap();
        assert_eq!(hear(&there).await, "echo there");
    }
}

#[tokio::test]
async fn clients_meet_on_the_bus() {
    let (running, port) = serve(&settings("127.0.0.1:0"));
    let (a, b) = (
        client(at("127.0.0.1", port)).await,
        client(at("127.0.0.1", port)).await,
    );
    for (client, name) in [(&a, "open a"), (&b, "open b")] {
        client.send(name.as_bytes()).await.unwrap();
        assert_eq!(hear(client).await, "opened");
    }
    a.send(b"publish hello").await.unwrap();
    assert_eq!((hear(&a).await, hear(&b).await), ("hello".into(), "hello".into()));
    assert_eq!(running.hub.stats().clients, 2);

    running.hub.say_goodbye();
    assert_eq!(
        (hear(&a).await, hear(&b).await),
        ("goodbye".into(), "goodbye".into())
    );
}

#[tokio::test]
async fn what_is_due_happens_by_itself() {
    let (_running, port) = serve(&settings("127.0.0.1:0"));
    let client = client(at("127.0.0.1", port)).await;
    for _ in 0..3 {
        client.send(b"later").await.unwrap();
        assert_eq!(hear(&client).await, "later");
    }
}

/// Whether the answer is known at once or takes its time. One conversation serves all questions of a client, and knows where it is.
#[tokio::test]
async fn the_access_service_is_asked() {
    for at_once in [true, false] {
        let porter = Porter {
            at_once,
            ..Porter::default()
        };
        let link = UdpTransport::bind("words", Some("floor/"), &settings("0.0.0.0:0")).unwrap();
        let port = link.local_addr().port();
        let _running = run(link, porter.clone(), Gate(None));
        let client = client(at("127.0.0.1", port)).await;
        client.send(b"ask me").await.unwrap();
        assert_eq!(hear(&client).await, "answered");
        let seen = porter.seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].peer, PeerAddr::Ip(client.local_addr().unwrap()));
        assert_eq!(seen[0].local, Some(at("127.0.0.1", port)));
        assert_eq!(&*seen[0].listener, "words");
        assert_eq!(seen[0].mount_point.as_deref(), Some("floor/"));
    }
}

/// While the store is behind nothing is read; what waits in the system is read afterwards.
#[tokio::test]
async fn a_slow_store_stops_the_socket() {
    let (permit, permits) = channel();
    let link = UdpTransport::bind("words", None, &settings("127.0.0.1:0")).unwrap();
    let port = link.local_addr().port();
    let running = run(link, Porter::default(), Gate(Some(permits)));
    let writer = client(at("127.0.0.1", port)).await;
    writer.send(b"open writer").await.unwrap();
    assert_eq!(hear(&writer).await, "opened");
    let mut n = 0;
    while running.hub.is_caught_up() {
        for _ in 0..100 {
            n += 1;
            writer.send(format!("retain t/{n}").as_bytes()).await.unwrap();
        }
        writer.send(b"echo so far").await.unwrap();
        if running.hub.is_caught_up() {
            let answer = hear(&writer);
            tokio::select! {
                heard = answer => assert_eq!(heard, "echo so far"),
                () = behind(&running) => {}
            }
        }
    }
    let other = client(at("127.0.0.1", port)).await;
    other.send(b"echo at last").await.unwrap();
    // The loop has every opportunity to read it, and must not.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(other.try_recv(&mut [0; 64]).is_err());
    drop(permit);
    assert_eq!(hear(&other).await, "echo at last");
}

async fn behind(running: &Running) {
    while running.hub.is_caught_up() {
        tokio::task::yield_now().await;
    }
}

/// What is sent to the group is heard, answered by an address of ours, and what is for everybody goes to the group.
#[tokio::test]
async fn a_multicast_group_finds_the_gateway() {
    let group = Ipv4Addr::new(239, 77, 8, 1);
    let lo = multicast("lo");
    let (_running, port) = serve(&UdpSettings {
        multicast: Some(lo),
        ..settings("0.0.0.0:0")
    });
    // Two programs have this port, as two machines would.
    let listener = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener.bind(&at("127.0.0.1", 0).into()).unwrap();
    listener.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let client = UdpSocket::from_std(listener.into()).unwrap();
    client.send_to(b"echo who", (group, port)).await.unwrap();
    let mut bytes = [0; 64];
    let (len, from) = within(client.recv_from(&mut bytes)).await.unwrap();
    assert_eq!(&bytes[..len], b"echo who");
    assert!(!from.ip().is_multicast());
    assert_eq!(from.port(), port);
}

/// A server knows what came for several and not for it alone: to a group, to everybody, to all of one network. RFC 7252 §8.1
#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_is_known_what_came_for_several() {
    let (_running, port) = serve(&UdpSettings {
        multicast: Some(multicast("lo")),
        ..settings("0.0.0.0:0")
    });
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&at("127.0.0.1", 0).into()).unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.set_broadcast(true).unwrap();
    let client = UdpSocket::from_std(socket.into()).unwrap();
    for (to, is_by_group) in [
        ("127.0.0.1", "false"),
        ("127.9.9.9", "false"),
        ("239.77.8.1", "true"),
        ("127.255.255.255", "true"),
    ] {
        client.send_to(b"group", at(to, port)).await.unwrap();
        let mut bytes = [0; 64];
        let (len, from) = within(client.recv_from(&mut bytes)).await.unwrap();
        assert_eq!(&bytes[..len], is_by_group.as_bytes(), "{to}");
        assert_eq!(from.ip() == at(to, port).ip(), is_by_group == "false", "{to}");
    }
}

fn multicast(interface: &str) -> MulticastSettings {
    MulticastSettings {
        group: "239.77.8.1".parse().unwrap(),
        interfaces: vec![interface.into()],
        hops: 1,
    }
}

#[tokio::test]
async fn what_is_for_everybody_goes_where_the_settings_say() {
    let everybody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (_running, port) = serve(&UdpSettings {
        broadcast_to: Some(everybody.local_addr().unwrap()),
        ..settings("127.0.0.1:0")
    });
    let client = client(at("127.0.0.1", port)).await;
    client.send(b"all of you").await.unwrap();
    assert_eq!(hear(&everybody).await, "all of you");

    let joined = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    joined.set_nonblocking(true).unwrap();
    joined.bind(&at("0.0.0.0", 0).into()).unwrap();
    let group = Ipv4Addr::new(239, 77, 8, 1);
    joined.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    let member = UdpSocket::from_std(joined.into()).unwrap();
    let (_running, port) = serve(&UdpSettings {
        multicast: Some(multicast("lo")),
        broadcast_to: Some(SocketAddr::new(group.into(), member.local_addr().unwrap().port())),
        ..settings("0.0.0.0:0")
    });
    let client = self::client(at("127.0.0.1", port)).await;
    client.send(b"all members").await.unwrap();
    assert_eq!(hear(&member).await, "all members");
}

#[tokio::test]
async fn settings_that_cannot_be_are_told() {
    for (settings, fault) in [
        (settings("localhost"), "no address with a port"),
        (
            UdpSettings {
                multicast: Some(multicast("no-such-interface")),
                ..settings("0.0.0.0:0")
            },
            "there is no interface `no-such-interface`",
        ),
        (
            UdpSettings {
                multicast: Some(multicast("lo")),
                ..settings("127.0.0.1:0")
            },
            "must be bound to 0.0.0.0",
        ),
    ] {
        let error = UdpTransport::bind("words", None, &settings)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(fault), "{error}");
    }
}
