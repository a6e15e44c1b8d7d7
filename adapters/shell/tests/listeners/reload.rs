//! Certificates, authorities and revocation lists that change while the listener runs.

use headgate_shell::settings::TlsSettings;
use headgate_shell::{ListenerSettings, RefuseReason};

use crate::bench::{Bench, is_closed, talk};
use crate::pki::{Authority, Files, client, connect_tls, shown_certificate, tls_listener};

const HOST: &str = "gate.example";

#[tokio::test]
async fn a_new_certificate_counts_for_new_connections_and_old_ones_stay() {
    let ca = Authority::new("ca");
    let files = Files::with(&ca.server(HOST));
    let mut bench = Bench::start(tls_listener(files.settings()));
    let config = client(&ca, None);
    let mut old = connect_tls(&bench, &config, HOST).await.unwrap();
    let mut old_connection = bench.next().await;

    let new = ca.server(HOST);
    files.put_identity("server", &new);
    // Nobody tells the listener: it finds out by itself.
    while shown_certificate(&connect_tls(&bench, &config, HOST).await.unwrap()) != *new.certificate.der() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    talk(&mut old_connection.transport, &mut old).await;
}

#[tokio::test]
async fn bad_files_leave_the_old_in_use_until_they_are_good() {
    let ca = Authority::new("ca");
    let files = Files::with(&ca.server(HOST));
    let bench = Bench::start(tls_listener(files.settings()));
    let tls = bench.tls.clone().unwrap();
    let config = client(&ca, None);
    assert!(!tls.reload().unwrap(), "nothing has changed");

    // The certificate is there, its key is not yet.
    let new = ca.server(HOST);
    files.put("server.pem", &new.certificate.pem());
    assert!(tls.reload().is_err());
    assert!(!tls.reload().unwrap(), "told once for each change");
    let peer = connect_tls(&bench, &config, HOST).await.unwrap();
    assert_ne!(shown_certificate(&peer), *new.certificate.der());

    files.put("server.key", &new.key.serialize_pem());
    assert!(tls.reload().unwrap());
    let peer = connect_tls(&bench, &config, HOST).await.unwrap();
    assert_eq!(shown_certificate(&peer), *new.certificate.der());
}

/// Also one that has a session to resume: it would skip the look at its certificate.
#[tokio::test]
async fn a_client_revoked_meanwhile_keeps_its_connection_but_gets_no_new_one() {
    let ca = Authority::new("ca");
    let identity = ca.client("pump-7");
    let files = Files::with(&ca.server(HOST));
    let mut bench = start_with_client_ca(&files, &ca, |settings| {
        settings.crl = vec![files.put("crl.pem", &ca.revoke(&[]))];
    });
    let config = client(&ca, Some(&identity));
    let mut old = connect_tls(&bench, &config, HOST).await.unwrap();
    let mut old_connection = bench.next().await;
    talk(&mut old_connection.transport, &mut old).await; // its session tickets have arrived

    files.put("crl.pem", &ca.revoke(&[&identity]));
    assert!(bench.tls.as_ref().unwrap().reload().unwrap());
    if let Ok(mut peer) = connect_tls(&bench, &config, HOST).await {
        is_closed(&mut peer).await;
    }
    bench.refused(RefuseReason::Tls, 1).await;
    talk(&mut old_connection.transport, &mut old).await;
}

#[tokio::test]
async fn a_new_client_authority_counts_for_new_connections() {
    let [ca, next] = ["ca", "next"].map(Authority::new);
    let files = Files::with(&ca.server(HOST));
    let mut bench = start_with_client_ca(&files, &ca, |_| {});
    let mut old = connect_tls(&bench, &client(&ca, Some(&ca.client("pump-7"))), HOST)
        .await
        .unwrap();
    let mut old_connection = bench.next().await;

    files.put("ca.pem", &next.certificate.pem());
    assert!(bench.tls.as_ref().unwrap().reload().unwrap());
    let _new = connect_tls(&bench, &client(&ca, Some(&next.client("pump-8"))), HOST)
        .await
        .unwrap();
    bench.next().await;
    if let Ok(mut peer) = connect_tls(&bench, &client(&ca, Some(&ca.client("pump-9"))), HOST).await {
        is_closed(&mut peer).await;
    }
    bench.refused(RefuseReason::Tls, 1).await;
    talk(&mut old_connection.transport, &mut old).await;
}

fn start_with_client_ca(files: &Files, ca: &Authority, change: impl FnOnce(&mut TlsSettings)) -> Bench {
    let mut settings = TlsSettings {
        client_ca: Some(files.put("ca.pem", &ca.certificate.pem())),
        require_client_certificate: true,
        ..files.settings()
    };
    change(&mut settings);
    Bench::start(ListenerSettings {
        name: "reload".into(),
        ..tls_listener(settings)
    })
}
