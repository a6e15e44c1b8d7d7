//! Plain TCP: accepting, addresses, stopping.

use headgate_access::PeerAddr;
use headgate_shell::{ConnectionLimit, Listener, ListenerSettings};
use tokio::net::TcpStream;

use crate::bench::{Bench, local, talk, within};

/// [MQTT-4.2.0-1] [3.1.1 MQTT-7.1.1-1] TCP: an ordered, lossless stream of bytes both ways.
#[tokio::test]
async fn bytes_go_both_ways_and_the_peer_is_known() {
    let mut bench = Bench::start(ListenerSettings {
        name: "floor-2".into(),
        mount_point: Some("floor/2/".into()),
        ..local()
    });
    let mut client = bench.connect().await;
    let mut connection = bench.next().await;

    assert_eq!(&*connection.info.listener, "floor-2");
    assert_eq!(connection.info.mount_point.as_deref(), Some("floor/2/"));
    assert_eq!(connection.info.peer, PeerAddr::Ip(client.local_addr().unwrap()));
    assert_eq!(connection.info.local, bench.address);
    talk(&mut connection.transport, &mut client).await;
}

#[tokio::test]
async fn an_address_in_use_is_told_with_listener_and_address() {
    let bench = Bench::start(local());
    let taken = bench.address.unwrap().to_string();
    let second = ListenerSettings {
        name: "second".into(),
        bind: taken.clone(),
        ..local()
    };
    let Err(error) = Listener::bind(second, &ConnectionLimit::default()) else {
        panic!("bound twice")
    };
    let text = error.to_string();
    assert!(text.contains("`second`") && text.contains(&taken), "{text}");
}

#[tokio::test]
async fn a_dual_stack_listener_shows_ipv4_clients_as_ipv4() {
    let settings = ListenerSettings {
        bind: "[::]:0".into(),
        ..local()
    };
    let mut bench = Bench::start(settings);
    let port = bench.address.unwrap().port();

    let v4 = within(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
    assert_eq!(
        bench.next().await.info.peer,
        PeerAddr::Ip(v4.local_addr().unwrap())
    );
    let v6 = within(TcpStream::connect(("::1", port))).await.unwrap();
    assert_eq!(
        bench.next().await.info.peer,
        PeerAddr::Ip(v6.local_addr().unwrap())
    );
}

#[tokio::test]
async fn an_ipv6_only_listener_takes_no_ipv4_clients() {
    let settings = ListenerSettings {
        bind: "[::]:0".into(),
        ipv6_only: true,
        ..local()
    };
    let mut bench = Bench::start(settings);
    let port = bench.address.unwrap().port();

    assert!(within(TcpStream::connect(("127.0.0.1", port))).await.is_err());
    within(TcpStream::connect(("::1", port))).await.unwrap();
    bench.next().await;
}

#[tokio::test]
async fn after_shutdown_nobody_connects_and_open_connections_stay() {
    let mut bench = Bench::start(local());
    let address = bench.address.unwrap();
    let mut client = bench.connect().await;
    let mut connection = bench.next().await;

    bench.stop().await;
    assert!(within(TcpStream::connect(address)).await.is_err());
    talk(&mut connection.transport, &mut client).await;
}

/// The port is free again at once, also while old connections linger.
#[tokio::test]
async fn a_stopped_listener_can_be_started_again() {
    let mut bench = Bench::start(local());
    let bind = bench.address.unwrap().to_string();
    let _client = bench.connect().await;
    drop(bench.next().await);
    bench.stop().await;

    let mut bench = Bench::start(ListenerSettings { bind, ..local() });
    let _client = bench.connect().await;
    bench.next().await;
}
