//! Who is let in, and how many.

use headgate_shell::{ConnectionLimit, ListenerSettings, RefuseReason};

use crate::bench::{Bench, is_closed, local, talk};

#[tokio::test]
async fn an_address_that_is_denied_is_closed_at_once() {
    let settings = ListenerSettings {
        access: serde_json::from_str(r#"["deny 127.0.0.0/8"]"#).unwrap(),
        ..local()
    };
    let mut bench = Bench::start(settings);
    is_closed(&mut bench.connect().await).await;
    bench.refused(RefuseReason::Address, 1).await;
    bench.nobody_was_let_in();
}

#[tokio::test]
async fn over_the_limit_the_next_is_refused_until_a_place_is_free() {
    let settings = ListenerSettings {
        max_connections: Some(2),
        ..local()
    };
    let mut bench = Bench::start(settings);
    let mut clients = [bench.connect().await, bench.connect().await];
    let first = bench.next().await;
    let mut second = bench.next().await;
    assert_eq!(bench.stats.current(), 2);

    is_closed(&mut bench.connect().await).await;
    bench.refused(RefuseReason::Limit, 1).await;

    // Whichever is dropped, the other goes on.
    let (transport, info, permit) = first.into_parts();
    drop(transport);
    is_closed(&mut bench.connect().await).await;
    drop(permit);
    let _third = bench.connect().await;
    bench.next().await;
    let other = clients
        .iter_mut()
        .find(|c| info.peer != headgate_access::PeerAddr::Ip(c.local_addr().unwrap()));
    talk(&mut second.transport, other.unwrap()).await;
    assert_eq!((bench.stats.accepted(), bench.stats.opened()), (5, 3));
}

/// 0 is no limit, not no connection.
#[tokio::test]
async fn zero_lets_everybody_in() {
    let settings = ListenerSettings {
        max_connections: Some(0),
        max_connections_per_ip: Some(0),
        max_connect_rate: Some(0),
        backlog: 0,
        ..local()
    };
    let mut bench = Bench::start(settings);
    let _clients = [
        bench.connect().await,
        bench.connect().await,
        bench.connect().await,
    ];
    let _connections = [bench.next().await, bench.next().await, bench.next().await];
    assert_eq!((bench.stats.accepted(), bench.stats.opened()), (3, 3));
}

#[tokio::test]
async fn listeners_share_the_limit_over_all() {
    let total = ConnectionLimit::new(Some(1));
    let mut one = Bench::start_sharing(local(), &total);
    let other = Bench::start_sharing(local(), &total);

    let _client = one.connect().await;
    let _connection = one.next().await;
    is_closed(&mut other.connect().await).await;
    other.refused(RefuseReason::Limit, 1).await;
    assert_eq!(total.current(), 1);
}

/// Who is there stays; who asks how the gateway is gets an answer.
#[tokio::test]
async fn nobody_comes_in_while_there_is_too_much_to_do() {
    let total = ConnectionLimit::default();
    let mut bench = Bench::start_sharing(local(), &total);
    let settings = ListenerSettings {
        protocol: "http".into(),
        ..local()
    };
    let mut health = Bench::start_sharing(settings, &total);
    let _client = bench.connect().await;
    let _connection = bench.next().await;

    total.set_overloaded(true);
    is_closed(&mut bench.connect().await).await;
    bench.refused(RefuseReason::Overload, 1).await;
    assert_eq!(total.current(), 1);
    let _asks = health.connect().await;
    health.next().await;

    total.set_overloaded(false);
    let _client = bench.connect().await;
    bench.next().await;
}

#[tokio::test]
async fn one_address_has_its_own_limit() {
    let settings = ListenerSettings {
        max_connections_per_ip: Some(1),
        ..local()
    };
    let mut bench = Bench::start(settings);
    let _client = bench.connect().await;
    let connection = bench.next().await;
    is_closed(&mut bench.connect().await).await;
    bench.refused(RefuseReason::Limit, 1).await;

    drop(connection);
    let _client = bench.connect().await;
    bench.next().await;
}

/// The bucket's arithmetic has its own tests.
#[tokio::test]
async fn too_many_in_a_short_time_are_refused() {
    let settings = ListenerSettings {
        max_connect_rate: Some(1),
        connect_burst: Some(1),
        ..local()
    };
    let mut bench = Bench::start(settings);
    // All wait in the system before the first is accepted.
    let address = bench.address.unwrap();
    let clients: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    bench.next().await;
    while bench.stats.accepted() < clients.len() as u64 {
        tokio::task::yield_now().await;
    }
    assert!(bench.stats.refused(RefuseReason::Rate) >= 1);
}

/// Too many open files: the listener waits and goes on when there is room again. Runs itself again as a process
/// with a low limit, because the limit is one for the whole process.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_survives_running_out_of_files() {
    const MARK: &str = "HEADGATE_TEST_FEW_FILES";
    if std::env::var_os(MARK).is_some() {
        return tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(exhaust());
    }
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "limits::a_listener_survives_running_out_of_files"])
        .env(MARK, "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[cfg(target_os = "linux")]
async fn exhaust() {
    let mut bench = Bench::start(local());
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    hoard.pop(); // one file for the client, none for the listener
    let mut client = bench.connect().await;
    while bench.stats.accept_errors() == 0 {
        tokio::task::yield_now().await;
    }
    bench.nobody_was_let_in();

    drop(hoard);
    let mut connection = bench.next().await;
    talk(&mut connection.transport, &mut client).await;
}
