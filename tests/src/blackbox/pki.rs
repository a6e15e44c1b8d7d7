//! A certificate authority, and a server that it knows as `localhost`.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::path::{Path, PathBuf};

/// Certificates in files.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A client's certificate, with the common name `pump-7`.
    pub client: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// A certificate that is its own authority, the server's and a client's at once; `ca`, `certificate` and `client` are one file.
    ///
    /// # Panics
    /// If it cannot be made or written.
    pub fn create_self_signed_authority(folder: &Path) -> Self {
        let both = Self {
            ca: folder.join("self.pem"),
            certificate: folder.join("self.pem"),
            key: folder.join("self.key"),
            client: folder.join("self.pem"),
            client_key: folder.join("self.key"),
        };
        let key = KeyPair::generate().expect("a key");
        let mut server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("names");
        server.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = server.self_signed(&key).expect("a certificate");
        std::fs::write(&both.certificate, certificate.pem()).expect("it is written");
        std::fs::write(&both.key, key.serialize_pem()).expect("it is written");
        both
    }

    /// Makes new ones.
    ///
    /// # Panics
    /// If they cannot be made or written.
    pub fn create(folder: &Path) -> Self {
        Self::create_until(folder, 4096)
    }

    /// Makes new ones, of which the client's expires when this year begins.
    ///
    /// # Panics
    /// If they cannot be made or written.
    pub fn create_until(folder: &Path, year: i32) -> Self {
        let certificates = Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
            client: folder.join("client.pem"),
            client_key: folder.join("client.key"),
        };
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Black box");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_certificate = authority.self_signed(&authority_key).expect("an authority");
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let server = server.signed_by(&key, &issuer).expect("a certificate");
        let mut client = CertificateParams::new(["pump-7.plant.example".to_owned()]).expect("names");
        client.distinguished_name.push(DnType::CommonName, "pump-7");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        client.not_after = date_time_ymd(year, 1, 1);
        let client_key = KeyPair::generate().expect("a key");
        let client = client.signed_by(&client_key, &issuer).expect("a certificate");
        std::fs::write(&certificates.client, client.pem()).expect("it is written");
        std::fs::write(&certificates.client_key, client_key.serialize_pem()).expect("it is written");
        std::fs::write(&certificates.ca, authority_certificate.pem()).expect("it is written");
        std::fs::write(&certificates.certificate, server.pem()).expect("it is written");
        std::fs::write(&certificates.key, key.serialize_pem()).expect("it is written");
        certificates
    }
}
