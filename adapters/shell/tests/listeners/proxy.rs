//! The PROXY protocol, versions 1 and 2.

use std::time::Duration;

use headgate_access::PeerAddr;
use headgate_shell::{ListenerKind, ListenerSettings, RefuseReason};
use tokio::io::AsyncWriteExt;

use crate::bench::{Bench, is_closed, local, talk};
use crate::pki::{Authority, Files, client, handshake, tls_listener};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\r\n";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn trusting(networks: &str) -> ListenerSettings {
    ListenerSettings {
        proxy_protocol: true,
        trusted_proxies: serde_json::from_str(networks).unwrap(),
        ..local()
    }
}

fn start() -> Bench {
    Bench::start(trusting(r#"["127.0.0.0/8"]"#))
}

/// Version 2, IPv4 over a stream, from 192.0.2.7:40000 to 198.51.100.1:1883.
fn v2(command: u8, tlvs: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes();
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0x07, 0x5b];
    [V2_SIGNATURE, &[0x20 | command, 0x11], &length, &addresses, tlvs].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// PP2_TYPE_SSL with the common name `pump-7`.
fn ssl_tlv(client: u8, verify: u32) -> Vec<u8> {
    tlv(
        0x20,
        &[&[client], &verify.to_be_bytes()[..], &tlv(0x22, b"pump-7")].concat(),
    )
}

#[tokio::test]
async fn both_versions_tell_who_the_client_is_and_leave_its_bytes_alone() {
    for header in [V1.to_vec(), v2(1, &[])] {
        let mut bench = start();
        let mut proxy = bench.connect().await;
        // In one piece with what the client says.
        proxy
            .write_all(&[&header[..], b"\x10\x0c"].concat())
            .await
            .unwrap();
        let mut connection = bench.next().await;

        assert_eq!(
            connection.info.peer,
            PeerAddr::Ip("192.0.2.7:40000".parse().unwrap())
        );
        assert_eq!(connection.info.local, Some("198.51.100.1:1883".parse().unwrap()));
        assert_eq!(connection.info.via, Some(proxy.local_addr().unwrap()));
        crate::bench::receives(&mut connection.transport, b"\x10\x0c").await;
        talk(&mut connection.transport, &mut proxy).await;
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    for header in [V1.to_vec(), v2(1, &ssl_tlv(7, 0))] {
        let mut bench = start();
        let mut proxy = bench.connect().await;
        proxy.set_nodelay(true).unwrap();
        for byte in header {
            proxy.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let mut connection = bench.next().await;
        assert_eq!(
            connection.info.peer,
            PeerAddr::Ip("192.0.2.7:40000".parse().unwrap())
        );
        talk(&mut connection.transport, &mut proxy).await;
    }
}

/// A proxy's own health check, or a client it knows nothing of: then the proxy is the peer.
#[tokio::test]
async fn local_and_unknown_leave_the_peer_as_it_is() {
    let unspecified = [V2_SIGNATURE, &[0x21, 0x00, 0, 0]].concat();
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0, &[]), unspecified] {
        let mut bench = start();
        let mut proxy = bench.connect().await;
        proxy.write_all(&header).await.unwrap();
        let mut connection = bench.next().await;
        assert_eq!(connection.info.peer, PeerAddr::Ip(proxy.local_addr().unwrap()));
        assert_eq!(connection.info.via, None);
        talk(&mut connection.transport, &mut proxy).await;
    }
}

#[tokio::test]
async fn ipv6_clients_are_told_too() {
    let mut bench = start();
    let mut proxy = bench.connect().await;
    proxy
        .write_all(b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 1883\r\n")
        .await
        .unwrap();
    assert_eq!(
        bench.next().await.info.peer,
        PeerAddr::Ip("[2001:db8::7]:40000".parse().unwrap())
    );
}

#[tokio::test]
async fn a_common_name_counts_only_if_the_proxy_has_verified_it() {
    let named = [tlv(0x02, b"gate.example"), ssl_tlv(0x07, 0)].concat();
    let cases = [
        (named, Some("pump-7"), Some("gate.example")),
        (ssl_tlv(0x03, 0), Some("pump-7"), None), // shown in this connection
        (ssl_tlv(0x05, 0), Some("pump-7"), None), // shown in this session
        (ssl_tlv(0x07, 1), None, None),           // not verified
        (ssl_tlv(0x01, 0), None, None),           // TLS without a certificate
        (Vec::new(), None, None),
    ];
    for (tlvs, common_name, authority) in cases {
        let mut bench = start();
        let mut proxy = bench.connect().await;
        proxy.write_all(&v2(1, &tlvs)).await.unwrap();
        let info = bench.next().await.info;
        assert_eq!(info.proxy_common_name.as_deref(), common_name, "{tlvs:?}");
        assert_eq!(info.proxy_authority.as_deref(), authority, "{tlvs:?}");
    }
}

#[tokio::test]
async fn whoever_is_not_trusted_is_refused() {
    let mut bench = Bench::start(trusting(r#"["10.0.0.0/8"]"#));
    let mut stranger = bench.connect().await;
    let _ = stranger.write_all(V1).await;
    is_closed(&mut stranger).await;
    bench.refused(RefuseReason::Proxy, 1).await;
    bench.nobody_was_let_in();
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let too_long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    let huge = [V2_SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    let cut_tlv = v2(1, &[0x02, 0, 9, b'g']);
    let wrong_version = [V2_SIGNATURE, &[0x31, 0x11, 0, 0]].concat();
    let too_short_for_addresses = [V2_SIGNATURE, &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat();
    let cases = [
        b"\x10\x0c\0\x04MQTT".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 nonsense 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 99999\r\n".to_vec(),
        b"PROXY \xff\xff\xff\xff\xff\xff\r\n".to_vec(),
        too_long,
        huge,
        cut_tlv,
        wrong_version,
        too_short_for_addresses,
    ];
    let mut bench = start();
    for (count, garbage) in (1..).zip(cases) {
        let mut peer = bench.connect().await;
        peer.write_all(&garbage).await.unwrap();
        is_closed(&mut peer).await;
        bench.refused(RefuseReason::Proxy, count).await;
    }
    bench.nobody_was_let_in();
}

#[tokio::test]
async fn a_header_that_does_not_end_is_waited_for_only_so_long() {
    let mut bench = Bench::start(ListenerSettings {
        proxy_timeout: Duration::from_millis(300),
        ..trusting(r#"["127.0.0.1"]"#)
    });
    let mut silent = bench.connect().await;
    let mut slow = bench.connect().await;
    slow.write_all(&V1[..20]).await.unwrap();
    is_closed(&mut silent).await;
    is_closed(&mut slow).await;
    bench.refused(RefuseReason::Timeout, 2).await;
    bench.nobody_was_let_in();
}

/// The proxy may connect in any case; the rules are for its clients.
#[tokio::test]
async fn address_rules_and_limits_hold_for_the_client_behind_the_proxy() {
    let mut bench = Bench::start(ListenerSettings {
        access: serde_json::from_str(r#"["allow 192.0.2.0/24", "deny all"]"#).unwrap(),
        max_connections_per_ip: Some(1),
        ..trusting(r#"["127.0.0.1"]"#)
    });
    let mut allowed = bench.connect().await;
    allowed.write_all(V1).await.unwrap();
    let _connection = bench.next().await;

    let mut denied = bench.connect().await;
    denied
        .write_all(b"PROXY TCP4 203.0.113.9 198.51.100.1 1 1883\r\n")
        .await
        .unwrap();
    is_closed(&mut denied).await;
    bench.refused(RefuseReason::Address, 1).await;

    let mut same_client = bench.connect().await;
    same_client.write_all(V1).await.unwrap();
    is_closed(&mut same_client).await;
    bench.refused(RefuseReason::Limit, 1).await;
}

/// The header comes before TLS, and not one byte of TLS may be lost to it.
#[tokio::test]
async fn tls_begins_behind_the_header() {
    let ca = Authority::new("ca");
    let files = Files::with(&ca.server("gate.example"));
    let mut bench = Bench::start(ListenerSettings {
        kind: ListenerKind::Tls,
        tls: tls_listener(files.settings()).tls,
        ..trusting(r#"["127.0.0.1"]"#)
    });
    for header in [V1.to_vec(), v2(1, &[])] {
        let mut proxy = bench.connect().await;
        proxy.write_all(&header).await.unwrap();
        let mut peer = handshake(&client(&ca, None), "gate.example", proxy)
            .await
            .unwrap();
        let mut connection = bench.next().await;
        assert_eq!(
            connection.info.peer,
            PeerAddr::Ip("192.0.2.7:40000".parse().unwrap())
        );
        assert_eq!(
            connection.info.tls.as_ref().unwrap().sni.as_deref(),
            Some("gate.example")
        );
        talk(&mut connection.transport, &mut peer).await;
    }
}
