//! TLS: versions, names, client certificates.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use headgate_shell::settings::{TlsSettings, TlsVersion, VirtualHost};
use headgate_shell::{ConnectionLimit, Listener, ListenerSettings, RefuseReason, Transport};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, version};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, is_closed, receives, talk, what_is_held_back_gets_through, within};
use crate::pki::{Authority, Files, client, connect_tls, file_name, roots, shown_certificate, tls_listener};

const HOST: &str = "gate.example";

/// A listener for `gate.example`, after `change` to its settings.
fn start(ca: &Authority, change: impl FnOnce(&Files, &mut TlsSettings)) -> (Bench, Files) {
    let files = Files::with(&ca.server(HOST));
    let mut settings = files.settings();
    change(&files, &mut settings);
    (Bench::start(tls_listener(settings)), files)
}

fn with_client_ca(ca: &Authority, required: bool) -> (Bench, Files) {
    start(ca, |files, settings| {
        settings.client_ca = Some(files.put("ca.pem", &ca.certificate.pem()));
        settings.require_client_certificate = required;
    })
}

#[tokio::test]
async fn bytes_go_both_ways_and_what_was_agreed_on_is_known() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = start(&ca, |_, _| {});
    let mut peer = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    let mut connection = bench.next().await;

    let tls = connection.info.tls.as_ref().unwrap();
    assert_eq!(tls.sni.as_deref(), Some(HOST));
    assert_eq!(tls.version, "TLSv1.3");
    assert!(tls.cipher.starts_with("TLS_"), "{}", tls.cipher);
    assert_eq!((&tls.client_cert, &tls.alpn), (&None, &None));
    assert!(connection.transport.client_certificate_der().is_none());
    talk(&mut connection.transport, &mut peer).await;
}

#[tokio::test]
async fn close_says_goodbye_in_tls() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = start(&ca, |_, _| {});
    let mut peer = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    let mut transport = bench.next().await.transport;
    within(transport.write(&mut (&b"last words"[..]).into()))
        .await
        .unwrap();
    let closing = tokio::spawn(transport.close(Duration::from_secs(60)));

    // Without close_notify the client would see an error here, not the end.
    let mut heard = Vec::new();
    within(peer.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    drop(peer);
    within(closing).await.unwrap();
}

/// More than one record, and more than rustls holds back.
#[tokio::test]
async fn much_goes_both_ways_at_a_time() {
    const MUCH: usize = 4 * 1024 * 1024;
    let ca = Authority::new("ca");
    let (mut bench, _files) = start(&ca, |_, _| {});
    let peer = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    let mut transport = bench.next().await.transport;

    let (mut reader, mut writer) = tokio::io::split(peer);
    let sending = tokio::spawn(async move {
        writer.write_all(&vec![1; MUCH]).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let receiving = tokio::spawn(async move {
        let mut answer = vec![0; MUCH];
        reader.read_exact(&mut answer).await.unwrap();
        reader
    });
    let mut out = bytes::BytesMut::from(&vec![2; MUCH][..]);
    let (mut buf, mut read) = (bytes::BytesMut::new(), 0);
    while read < MUCH || !out.is_empty() {
        let progress = within(transport.ready(Some(&mut out), Some(&mut buf)))
            .await
            .unwrap();
        read += progress.read.unwrap_or(0);
        buf.clear();
    }
    within(transport.write(&mut out)).await.unwrap(); // what TLS still holds back
    within(async { (sending.await.unwrap(), receiving.await.unwrap()) }).await;
}

#[tokio::test]
async fn what_tls_holds_back_gets_through_while_we_only_read() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = start(&ca, |_, _| {});
    let mut peer = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    let transport = bench.next().await.transport;
    what_is_held_back_gets_through(transport, |size| async move {
        peer.read_exact(&mut vec![0; size]).await.unwrap();
        peer.write_all(b"done").await.unwrap();
        peer.flush().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_certificate_is_picked_by_the_host_name() {
    let ca = Authority::new("ca");
    let [own, exact, any] = [HOST, "a.example", "*.b.example"].map(|host| ca.server(host));
    let files = Files::with(&own);
    let host = |name: &str, file, identity| {
        let (certificate, key) = files.put_identity(file, identity);
        VirtualHost {
            hostnames: vec![name.into()],
            certificate,
            key,
            ocsp_response: None,
        }
    };
    let sni = vec![host("a.example", "a", &exact), host("*.b.example", "b", &any)];
    let bench = Bench::start(tls_listener(TlsSettings {
        sni,
        ..files.settings()
    }));

    let config = client(&ca, None);
    for (asked, shown) in [
        (HOST, &own),
        ("a.example", &exact),
        ("A.Example", &exact),
        ("x.b.example", &any),
    ] {
        let peer = connect_tls(&bench, &config, asked).await.unwrap();
        assert_eq!(shown_certificate(&peer), *shown.certificate.der(), "{asked}");
    }
    // Nobody's name gets our own certificate, which the client then refuses.
    assert!(connect_tls(&bench, &config, "b.example").await.is_err());
}

#[tokio::test]
async fn a_client_certificate_is_described() {
    let ca = Authority::new("Plant CA");
    let (mut bench, _files) = with_client_ca(&ca, true);
    let identity = ca.client("pump-7");
    let mut peer = connect_tls(&bench, &client(&ca, Some(&identity)), HOST)
        .await
        .unwrap();
    let mut connection = bench.next().await;

    let shown = connection
        .info
        .tls
        .as_ref()
        .unwrap()
        .client_cert
        .as_ref()
        .unwrap();
    assert_eq!(shown.common_name.as_deref(), Some("pump-7"));
    assert_eq!(shown.subject, "CN=pump-7,O=Plant\\, Inc");
    assert_eq!(shown.issuer, "CN=Plant CA");
    assert_eq!(shown.san, ["DNS:pump-7.plant.example", "IP:192.0.2.7"]);
    let der = identity.certificate.der();
    assert_eq!(shown.sha256[..], Sha256::digest(der)[..]);
    assert_eq!(connection.transport.client_certificate_der(), Some(&der[..]));
    talk(&mut connection.transport, &mut peer).await;
}

#[tokio::test]
async fn a_required_client_certificate_must_be_there_and_ours() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = with_client_ca(&ca, true);
    let stranger = Authority::new("stranger").client("pump-7");

    for identity in [None, Some(&stranger)] {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        if let Ok(mut peer) = connect_tls(&bench, &client(&ca, identity), HOST).await {
            is_closed(&mut peer).await;
        }
    }
    bench.refused(RefuseReason::Tls, 2).await;
    bench.nobody_was_let_in();
}

#[tokio::test]
async fn an_optional_client_certificate_may_be_missing_but_not_wrong() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = with_client_ca(&ca, false);

    let _without = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    assert_eq!(bench.next().await.info.tls.unwrap().client_cert, None);
    let _with = connect_tls(&bench, &client(&ca, Some(&ca.client("pump-7"))), HOST)
        .await
        .unwrap();
    assert!(bench.next().await.info.tls.unwrap().client_cert.is_some());

    let stranger = Authority::new("stranger").client("pump-7");
    if let Ok(mut peer) = connect_tls(&bench, &client(&ca, Some(&stranger)), HOST).await {
        is_closed(&mut peer).await;
    }
    bench.refused(RefuseReason::Tls, 1).await;
}

#[tokio::test]
async fn a_revoked_client_certificate_is_refused() {
    let ca = Authority::new("ca");
    let [good, bad] = ["pump-7", "pump-8"].map(|name| ca.client(name));
    let (mut bench, _files) = start(&ca, |files, settings| {
        settings.client_ca = Some(files.put("ca.pem", &ca.certificate.pem()));
        settings.crl = vec![files.put("crl.pem", &ca.revoke(&[&bad]))];
    });

    let _peer = connect_tls(&bench, &client(&ca, Some(&good)), HOST)
        .await
        .unwrap();
    bench.next().await;
    if let Ok(mut peer) = connect_tls(&bench, &client(&ca, Some(&bad)), HOST).await {
        is_closed(&mut peer).await;
    }
    bench.refused(RefuseReason::Tls, 1).await;
    assert_eq!(bench.stats.opened(), 1);
}

/// Silence where a list is due counts as revoked, unless the settings say otherwise.
#[tokio::test]
async fn a_client_certificate_without_a_list_for_its_issuer_is_refused_or_not() {
    let [ca, other] = ["ca", "other"].map(Authority::new);
    for allowed in [false, true] {
        let (mut bench, _files) = start(&ca, |files, settings| {
            let both = ca.certificate.pem() + &other.certificate.pem();
            settings.client_ca = Some(files.put("ca.pem", &both));
            settings.crl = vec![files.put("crl.pem", &ca.revoke(&[]))];
            settings.crl_allow_unknown = allowed;
        });
        let peer = connect_tls(&bench, &client(&ca, Some(&other.client("pump-7"))), HOST).await;
        if allowed {
            bench.next().await;
        } else {
            bench.refused(RefuseReason::Tls, 1).await;
        }
        drop(peer);
    }
}

#[tokio::test]
async fn an_old_version_is_refused_where_the_settings_say_so() {
    let ca = Authority::new("ca");
    let old = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_root_certificates(roots(&[&ca]))
        .with_no_client_auth();

    let (mut bench, _files) = start(&ca, |_, _| {});
    let _peer = connect_tls(&bench, &old, HOST).await.unwrap();
    assert_eq!(bench.next().await.info.tls.unwrap().version, "TLSv1.2");

    let (bench, _files) = start(&ca, |_, settings| settings.min_version = TlsVersion::Tls13);
    assert!(connect_tls(&bench, &old, HOST).await.is_err());
    bench.refused(RefuseReason::Tls, 1).await;
}

#[tokio::test]
async fn ciphers_curves_and_application_protocols_are_those_of_the_settings() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = start(&ca, |_, settings| {
        settings.ciphers = vec!["TLS_CHACHA20_POLY1305_SHA256".into()];
        settings.curves = vec!["secp384r1".into()];
        settings.alpn = vec!["mqtt".into()];
    });
    let mut config = client(&ca, None);
    config.alpn_protocols = vec![b"other".to_vec(), b"mqtt".to_vec()];
    let peer = connect_tls(&bench, &config, HOST).await.unwrap();

    let agreed = bench.next().await.info.tls.unwrap();
    assert_eq!(agreed.cipher, "TLS_CHACHA20_POLY1305_SHA256");
    assert_eq!(agreed.alpn.as_deref(), Some("mqtt"));
    let group = peer.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(format!("{:?}", group.name()), "secp384r1");
}

#[tokio::test]
async fn an_ocsp_response_is_stapled_to_its_certificate() {
    let ca = Authority::new("ca");
    let (bench, _files) = start(&ca, |files, settings| {
        settings.ocsp_response = Some(files.put("ocsp.der", "a response"));
    });
    let seen = Arc::new(Stapled(Mutex::default()));
    let mut config = client(&ca, None);
    config.dangerous().set_certificate_verifier(seen.clone());
    connect_tls(&bench, &config, HOST).await.unwrap();
    assert_eq!(*seen.0.lock().unwrap(), b"a response");
}

/// Notes the stapled response and believes every certificate.
#[derive(Debug)]
struct Stapled(Mutex<Vec<u8>>);

impl ServerCertVerifier for Stapled {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = ocsp_response.into();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A silent peer, and one that stops in the middle, keep nobody waiting and are dropped.
#[tokio::test]
async fn a_peer_that_does_not_finish_its_handshake_is_dropped() {
    let ca = Authority::new("ca");
    let files = Files::with(&ca.server(HOST));
    let mut bench = Bench::start(ListenerSettings {
        handshake_timeout: Duration::from_secs(2),
        ..tls_listener(files.settings())
    });
    let mut silent = bench.connect().await;
    let mut stuck = bench.connect().await;
    stuck.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();

    let mut peer = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    let mut connection = bench.next().await;
    talk(&mut connection.transport, &mut peer).await;
    assert!(matches!(connection.transport, Transport::Tls(_)));

    is_closed(&mut silent).await;
    is_closed(&mut stuck).await;
    bench.refused(RefuseReason::Timeout, 2).await;
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = start(&ca, |_, _| {});
    let mut peer = bench.connect().await;
    peer.write_all(b"\x10\x0c\0\x04MQTT\x05\0\0\0\0\0").await.unwrap();
    while within(peer.read(&mut [0; 64])).await.is_ok_and(|n| n > 0) {} // an alert may come first
    bench.refused(RefuseReason::Tls, 1).await;
    bench.nobody_was_let_in();
}

/// Many devices cut the connection without a close_notify.
#[tokio::test]
async fn an_end_without_goodbye_is_an_end() {
    let ca = Authority::new("ca");
    let (mut bench, _files) = start(&ca, |_, _| {});
    let mut peer = connect_tls(&bench, &client(&ca, None), HOST).await.unwrap();
    let mut transport = bench.next().await.transport;
    peer.write_all(b"hello").await.unwrap();
    receives(&mut transport, b"hello").await;
    peer.get_mut().0.shutdown().await.unwrap();
    assert_eq!(
        within(transport.read(&mut bytes::BytesMut::new())).await.unwrap(),
        0
    );
}

#[tokio::test]
async fn unusable_files_and_names_are_told() {
    let ca = Authority::new("ca");
    let files = Files::with(&ca.server(HOST));
    let fault = |change: &dyn Fn(&mut TlsSettings)| {
        let mut settings = files.settings();
        change(&mut settings);
        match Listener::bind(tls_listener(settings), &ConnectionLimit::default()) {
            Ok(_) => panic!("bound"),
            Err(error) => error.to_string(),
        }
    };
    let (_, other_key) = files.put_identity("other", &ca.server(HOST));
    let empty = files.put("empty.pem", "");

    assert!(fault(&|s| s.certificate = files.path("none.pem")).contains("none.pem"));
    assert!(fault(&|s| s.certificate = empty.clone()).contains(file_name(&empty)));
    assert!(fault(&|s| s.key = other_key.clone()).contains("server.pem"));
    assert!(fault(&|s| s.ciphers = vec!["RC4".into()]).contains("`RC4` is unknown; known are TLS_AES_256"));
    assert!(fault(&|s| s.require_client_certificate = true).contains("no CA"));
}
