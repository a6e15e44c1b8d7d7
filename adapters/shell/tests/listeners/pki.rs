//! A small certificate authority, files for a listener, and TLS clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headgate_shell::settings::TlsSettings;
use headgate_shell::{ListenerKind, ListenerSettings};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bench::{Bench, local, within};

pub(crate) struct Authority {
    pub certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) struct Identity {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
    serial: SerialNumber,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn server(&self, host: &str) -> Identity {
        let params = CertificateParams::new([host.to_string()]).unwrap();
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(crate) fn client(&self, common_name: &str) -> Identity {
        let mut params = CertificateParams::new([format!("{common_name}.plant.example")]).unwrap();
        params
            .subject_alt_names
            .push(SanType::IpAddress([192, 0, 2, 7].into()));
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Plant, Inc");
        params.distinguished_name.push(DnType::CommonName, common_name);
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        let key = KeyPair::generate().unwrap();
        let serial = SerialNumber::from_slice(&key.public_key_raw()[1..9]);
        params.serial_number = Some(serial.clone());
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate,
            key,
            serial,
        }
    }

    pub(crate) fn revoke(&self, identities: &[&Identity]) -> String {
        let revoked = identities.iter().map(|identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// The files of a listener.
pub(crate) struct Files {
    home: tempfile::TempDir,
}

impl Files {
    pub(crate) fn with(identity: &Identity) -> Self {
        let files = Self {
            home: tempfile::tempdir().unwrap(),
        };
        files.put_identity("server", identity);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// As a careful administrator does: a new file in the place of the old.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
        self.path(name)
    }

    pub(crate) fn put_identity(&self, name: &str, identity: &Identity) -> (PathBuf, PathBuf) {
        let key = self.put(&format!("{name}.key"), &identity.key.serialize_pem());
        (self.put(&format!("{name}.pem"), &identity.certificate.pem()), key)
    }

    pub(crate) fn settings(&self) -> TlsSettings {
        TlsSettings {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            ..TlsSettings::default()
        }
    }
}

pub(crate) fn tls_listener(tls: TlsSettings) -> ListenerSettings {
    ListenerSettings {
        kind: ListenerKind::Tls,
        tls: Some(tls),
        ..local()
    }
}

pub(crate) fn roots(authorities: &[&Authority]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.certificate.der().clone()).unwrap();
    }
    roots
}

/// A client that trusts `authority` and shows `identity`.
pub(crate) fn client(authority: &Authority, identity: Option<&Identity>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&[authority]));
    match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
            builder
                .with_client_auth_cert(vec![identity.certificate.der().clone()], key)
                .unwrap()
        }
    }
}

pub(crate) async fn handshake(
    config: &ClientConfig,
    host: &str,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(config.clone()));
    within(connector.connect(ServerName::try_from(host.to_string()).unwrap(), stream)).await
}

pub(crate) async fn connect_tls(
    bench: &Bench,
    config: &ClientConfig,
    host: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    handshake(config, host, bench.connect().await).await
}

pub(crate) fn shown_certificate(client: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    client.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

pub(crate) fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}
