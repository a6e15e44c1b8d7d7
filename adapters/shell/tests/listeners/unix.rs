//! Unix-domain sockets.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use headgate_access::PeerAddr;
use headgate_shell::settings::UnixSettings;
use headgate_shell::{ConnectionLimit, Listener, ListenerKind, ListenerSettings};
use tokio::net::UnixStream;

use crate::bench::{Bench, local, talk, within};

fn at(path: &Path) -> ListenerSettings {
    ListenerSettings {
        kind: ListenerKind::Unix,
        bind: path.to_str().unwrap().into(),
        ..local()
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_process_is_known() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("gate.sock");
    let mut bench = Bench::start(at(&path));

    let mut client = within(UnixStream::connect(&path)).await.unwrap();
    let mut connection = bench.next().await;
    let PeerAddr::Unix { uid, .. } = connection.info.peer else {
        panic!("{:?}", connection.info.peer)
    };
    assert!(uid.is_some());
    talk(&mut connection.transport, &mut client).await;
}

#[tokio::test]
async fn the_file_has_its_mode_and_is_gone_after_shutdown() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("gate.sock");
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;

    let bench = Bench::start(at(&path));
    assert_eq!(mode(&path), 0o660);
    bench.stop().await;
    assert!(!path.exists());

    let unix = UnixSettings {
        mode: Some("0600".into()),
        ..UnixSettings::default()
    };
    let _bench = Bench::start(ListenerSettings {
        unix: Some(unix),
        ..at(&path)
    });
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn a_socket_left_by_a_crash_is_replaced_and_one_in_use_is_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("gate.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves its file, as a crash does
    assert!(path.exists());

    let mut bench = Bench::start(at(&path));
    assert!(Listener::bind(at(&path), &ConnectionLimit::default()).is_err());
    within(async {
        while bench.next().await.info.listener.is_empty() {} // the probe of the second listener
        let _client = UnixStream::connect(&path).await.unwrap();
        bench.next().await;
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notes.txt");
    std::fs::write(&path, "precious").unwrap();

    let Err(error) = Listener::bind(at(&path), &ConnectionLimit::default()) else {
        panic!("bound")
    };
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
